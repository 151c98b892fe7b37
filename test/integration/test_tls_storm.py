# SPDX-License-Identifier: BSD-2-Clause
"""5,000 TLS handshakes at once, stalled and real: others are served meanwhile, memory and CPU time are bounded.

One process is the client, and each connection is a descriptor in it and one in the worker: open_files() sees to the limit.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from h2client import H2
from harness import PATIENCE, SANITIZED, Server, cpu, descriptors, memory, open_files, pool, until
from pki import Authority
from test_http2_tls import ORDER
from test_memory import watched
from test_tls import use

MANY = 5000
STALLED = 64 << 10  # bytes that a handshake may take which waits for the client's next message
REAL = 64 << 10  # and a connection that is up
MOST_CPU = 20e-3 if SANITIZED else 4e-3  # seconds for a handshake, with what the bystanders have had meanwhile
TIMEOUT = 20 if SANITIZED else 8  # seconds, in which all that stall are begun


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serve(start: Start, ca: Authority, timeout: int) -> Server:
    open_files(2 * MANY)
    listen = f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} tls_handshake_timeout {timeout}s; }}"
    main = "load_module http2;\nload_module http1;\nload_module wsgi;\nload_module tls;\nerror_log stderr info;\n"
    return start(main + pool(listen=[listen], inside=f"{ORDER} head_timeout 300s;"))


def context() -> ssl.SSLContext:
    """Of a client that believes everybody: what is measured is the server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


@contextmanager
def bystanders(server: Server) -> Iterator[list[int]]:
    """A connection that was there before, and one after the other that is new: both are served.  How often, each."""
    over, trouble, served = threading.Event(), list[BaseException](), [0, 0]
    client = context()

    def old() -> None:
        with H2(client.wrap_socket(server.socket()), scheme="https") as c:
            while not over.is_set():
                assert c.request("/").text == "Hello, world!\n"
                served[0] += 1

    def new() -> None:
        one = context()
        one.set_alpn_protocols(["http/1.1"])
        while not over.is_set():
            with Client(one.wrap_socket(server.socket()), timeout=PATIENCE) as c:
                assert c.request("/").text == "Hello, world!\n"
            served[1] += 1

    def run(what: object) -> None:
        try:
            what()  # type: ignore[operator]
        except BaseException as error:
            trouble.append(error)
            over.set()

    threads = [threading.Thread(target=run, args=(f,)) for f in (old, new)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 50)  # else each call that waits for nothing waits for the others' 5 ms
    for t in threads:
        t.start()
    try:
        until(lambda: trouble or all(served), "both are served before")
        yield served
    finally:
        over.set()
        for t in threads:
            t.join()
        sys.setswitchinterval(interval)
    assert not trouble, trouble


def go_on(served: list[int]) -> None:
    at = list(served)
    until(lambda: all(now > then for now, then in zip(served, at, strict=True)), "answers on both connections")


def connections(pid: int) -> int:
    return sum(to.startswith("socket:") for to in descriptors(pid).values())


def hello() -> bytes:
    out = ssl.MemoryBIO()
    client = context().wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.timeout(600)
def test_stalled(start: Start, ca: Authority) -> None:
    """Nothing, half a ClientHello or a whole one, and then no word: all of them wait at once, and are let go in time."""
    server = serve(start, ca, TIMEOUT)
    (pid,) = server.workers()
    whole = hello()
    parts = (whole, whole[: len(whole) // 2], b"", whole)  # to the whole ones it sends its certificate and signature
    socks: list[socket.socket] = []
    with bystanders(server) as served:
        before, began = connections(pid), cpu(pid)
        with watched(pid) as watch:
            try:
                for k in range(MANY):
                    socks.append(server.socket())
                    socks[-1].sendall(parts[k % len(parts)])
                until(lambda: connections(pid) >= MANY, f"{MANY} connections at once")
                for k, sock in enumerate(socks):
                    if len(parts[k % len(parts)]) == len(whole):
                        assert sock.recv(1)[0] == 22, "no ServerHello"
                took = cpu(pid) - began
                assert "tls_handshake_timeout" not in server.log, "the first were let go before the last came"
                go_on(served)
                for sock in socks:
                    while sock.recv(65536):
                        pass
            finally:
                for sock in socks:
                    sock.close()
        until(lambda: connections(pid) <= before + 2, "the worker has closed them")
        go_on(served)
    server.wait_log("no TLS handshake within tls_handshake_timeout", MANY)
    print(
        f"\n{MANY} stalled handshakes: {watch.growth // MANY} bytes each, CPU {took:.2f} s, beside {served[0]} answers on an "
        f"old connection and {served[1]} on new ones"
    )
    assert took < MANY * MOST_CPU
    if not SANITIZED:
        assert watch.growth < MANY * STALLED


@pytest.mark.timeout(600)
def test_real(start: Start, ca: Authority) -> None:
    """All begin before the first ends, all end well, and all are there at once."""
    server = serve(start, ca, 600)
    (pid,) = server.workers()
    client = context()
    selector = selectors.DefaultSelector()
    with bystanders(server) as served:
        before, began = connections(pid), cpu(pid)
        with watched(pid) as watch:
            socks = []
            for _ in range(MANY):
                raw = server.socket()
                raw.setblocking(False)
                socks.append(client.wrap_socket(raw, do_handshake_on_connect=False))
                try:
                    socks[-1].do_handshake()  # sends the ClientHello
                except ssl.SSLWantReadError:
                    selector.register(socks[-1], selectors.EVENT_READ)
            left = len(selector.get_map())
            assert left > MANY * 9 // 10  # an answer may come so fast that it is read at once
            while left:
                ready = selector.select(PATIENCE)
                assert ready, f"{left} handshakes do not end"
                for key, _ in ready:
                    sock = key.fileobj
                    assert isinstance(sock, ssl.SSLSocket)
                    try:
                        sock.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
                    selector.unregister(sock)
                    assert sock.selected_alpn_protocol() == "h2"
                    left -= 1
            took = cpu(pid) - began
            assert connections(pid) >= MANY
            go_on(served)
            for sock in socks[:: MANY // 20]:
                sock.settimeout(PATIENCE)
                assert H2(sock, scheme="https").request("/").text == "Hello, world!\n"
            for sock in socks:
                sock.close()
        until(lambda: connections(pid) <= before + 2, "the worker has closed them")
        go_on(served)
    assert "TLS handshake failed" not in server.log
    print(
        f"\n{MANY} handshakes: {watch.growth // MANY} bytes each, CPU {took:.2f} s, beside {served[0]} answers on an old "
        f"connection and {served[1]} on new ones; then {memory(pid) >> 10} kB, before {watch.before >> 10} kB"
    )
    assert took < MANY * MOST_CPU
    if not SANITIZED:
        assert watch.growth < MANY * REAL
