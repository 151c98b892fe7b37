# SPDX-License-Identifier: BSD-2-Clause
"""Back-pressure: a gigabyte passes through a worker whose memory does not grow.

One side stops until the other cannot go on: then all that can pile up has piled up.  Then both go on at full speed.
With sanitizers the memory is their own, so there only the flow is tested, with less data.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Start
from harness import PATIENCE, SANITIZED, Gate, Server, config, memory, pool, until

SIZE = (64 << 20) if SANITIZED else (1 << 30)
MOST = 2 << 20
BLOCK = bytes(range(256)) * 4096


class Watch:
    """The highest memory of a process while a block runs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.before, self.highest = pid, memory(pid), 0
        self.over = threading.Event()

    def look(self) -> None:
        self.highest = max(self.highest, memory(self.pid))

    def loop(self) -> None:
        while not self.over.wait(0.02):
            self.look()

    @property
    def growth(self) -> int:
        return self.highest - self.before


@contextmanager
def watched(pid: int) -> Iterator[Watch]:
    watch = Watch(pid)
    thread = threading.Thread(target=watch.loop)
    thread.start()
    try:
        yield watch
    finally:
        watch.over.set()
        thread.join()
        watch.look()  # what was over in no time, too


def report(name: str, worker: str, watch: Watch, seconds: float) -> None:
    print(
        f"\n{name}, worker {worker}: {SIZE >> 20} MB in {seconds:.1f} s, "
        f"anonymous memory {watch.before >> 10} kB + {watch.growth >> 10} kB"
    )
    if not SANITIZED:
        assert watch.growth < MOST, f"grew by {watch.growth} bytes"


def stalled(progress: Callable[[], int]) -> None:
    """Wait until a counter has stopped: the pipe is full."""
    last, since = progress(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        return last > 0 and time.monotonic() - since > 0.5

    until(still, "a full pipe")


@pytest.fixture
def server(start: Start, worker: str) -> Server:
    server = start(config(pool(worker)))
    for _ in range(3):  # what a process allocates once is no growth
        with server.client() as c:
            assert c.request("/digest", method="POST", body=BLOCK * 32).status == 200
            assert len(c.request(f"/big?n={32 << 20}&chunk=65536").body) == 32 << 20
    return server


@pytest.mark.timeout(300)
def test_upload_into_a_slow_reader(server: Server, worker: str, gate: Gate, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    sent = 0

    def send(sock: socket.socket) -> None:
        nonlocal sent
        while sent < SIZE:
            sock.sendall(BLOCK)
            sent += len(BLOCK)

    (pid,) = server.workers()
    begun = time.monotonic()
    with server.client() as c, watched(pid) as watch:
        c.send(
            f"POST /digest?stop=1000000&mark={mark}&gate={gate.path} HTTP/1.1\r\n"
            f"Host: x\r\nContent-Length: {SIZE}\r\n\r\n"
        )
        thread = threading.Thread(target=send, args=(c.sock,))
        thread.start()
        until(mark.exists, "the application has stopped reading")
        stalled(lambda: sent)
        assert sent < 64 << 20, "it took the body in although nobody reads it"
        gate.open()
        thread.join()
        c.sock.settimeout(PATIENCE)
        answer = c.response()
    assert json.loads(answer.body)["length"] == SIZE
    report("upload", worker, watch, time.monotonic() - begun)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("length", ["", "&length=1"], ids=["chunked", "length"])
@pytest.mark.parametrize("chunk", [65536, 1 << 20], ids=["64k", "1m"])
def test_response_to_a_slow_client(server: Server, worker: str, length: str, chunk: int) -> None:
    (pid,) = server.workers()
    begun, total = time.monotonic(), 0
    with server.client() as c, watched(pid) as watch:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.send(f"GET /big?n={SIZE}&chunk={chunk}{length} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.head().status == 200

        def waiting() -> int:
            return unread(c.sock)

        stalled(waiting)
        total += len(c.buffer)
        room = bytearray(1 << 20)
        while total < SIZE:
            n = c.sock.recv_into(room)
            assert n > 0
            total += n
    report(f"response in pieces of {chunk}{' ' + length if length else ''}", worker, watch, time.monotonic() - begun)


def unread(sock: socket.socket) -> int:
    """Bytes that wait in the socket."""
    import array
    import fcntl
    import termios

    n = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, n)
    return n[0]


def test_slow_clients_do_not_hold_others(server: Server, worker: str) -> None:
    """As many stopped readers as there are threads: their calls wait, and the worker still answers others."""
    if worker == "sync":
        return  # one request at a time is what it is for
    stuck = [server.client() for _ in range(3)]
    try:
        for c in stuck:
            c.send(f"GET /big?n={SIZE} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.head().status == 200
        for _ in range(20):
            assert server.get("/") == "Hello, world!\n"
    finally:
        for c in stuck:
            c.close()
    server.allow(r"GET /big")
