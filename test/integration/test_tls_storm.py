# SPDX-License-Identifier: BSD-2-Clause
"""5,000 TLS handshakes at once, stalled and real: others are served meanwhile, memory and CPU time are bounded.

One process is the client, and each connection is a descriptor in it and one in the worker: open_files() sees to the limit.
"""

from __future__ import annotations

import selectors
import socket
import ssl
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
MOST_CPU = 20e-3 if SANITIZED else 4e-3  # seconds for a handshake, with what others have had meanwhile
STEP = 50  # after so many others are asked for


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


class Others:
    """A connection that was there before, and one after the other that is new: both are served, whenever it is asked.

    In the test's own thread, between one step of it and the next: there is no pace to choose.
    """

    def __init__(self, server: Server) -> None:
        self.server, self.served = server, 0
        self.client = context()
        self.client.set_alpn_protocols(["http/1.1"])
        self.old = H2(context().wrap_socket(server.socket()), scheme="https")
        self.go_on()

    def __enter__(self) -> Others:
        return self

    def __exit__(self, *what: object) -> None:
        self.old.sock.close()

    def go_on(self) -> None:
        assert self.old.request("/").text == "Hello, world!\n"
        with Client(self.client.wrap_socket(self.server.socket()), timeout=PATIENCE) as c:
            assert c.request("/").text == "Hello, world!\n"
        self.served += 1


def connections(pid: int) -> int:
    return sum(to.startswith("socket:") for to in descriptors(pid).values())


def hello() -> bytes:
    out = ssl.MemoryBIO()
    client = context().wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.timeout(900)
def test_stalled(start: Start, ca: Authority) -> None:
    """Nothing, half a ClientHello or a whole one, and then no word: all of them wait at once, and are let go in time.

    The time in which all can be begun depends on the machine: where it was too short, there is a longer one.
    """
    assert any(all_stall(serve(start, ca, seconds), seconds) for seconds in (8, 32, 128))


def all_stall(server: Server, seconds: int) -> bool:
    (pid,) = server.workers()
    whole = hello()
    parts = (whole, whole[: len(whole) // 2], b"", whole)  # to the whole ones it sends its certificate and signature
    socks: list[socket.socket] = []
    with Others(server) as others:
        before, began = connections(pid) - 1, cpu(pid)  # the last of the others may still be there
        timed_out = "no TLS handshake within tls_handshake_timeout"
        with watched(pid) as watch:
            try:
                for k in range(MANY):
                    socks.append(server.socket())
                    socks[-1].settimeout(PATIENCE + seconds)
                    socks[-1].sendall(parts[k % len(parts)])
                    if k % STEP == 0:
                        others.go_on()
                for k, sock in enumerate(socks):
                    if len(parts[k % len(parts)]) == len(whole) and sock.recv(1)[:1] != b"\x16":
                        break  # no ServerHello, but the end
                until(
                    lambda: connections(pid) >= before + MANY or timed_out in server.log, f"{MANY} connections at once"
                )
                took = cpu(pid) - began
                if timed_out in server.log:
                    return False
                for k, sock in enumerate(socks):
                    while sock.recv(65536):
                        pass
                    if k % STEP == 0:
                        others.go_on()
            finally:
                for sock in socks:
                    sock.close()
        until(lambda: connections(pid) <= before + 1, "the worker has closed them")
        others.go_on()
        server.wait_log(timed_out, MANY)
        print(
            f"\n{MANY} stalled handshakes: {watch.growth // MANY} bytes each, CPU {took:.2f} s, let go after {seconds} s; beside "
            f"{others.served} answers on an old connection and as many on new ones"
        )
        assert took < MANY * MOST_CPU
        if not SANITIZED:
            assert watch.growth < MANY * STALLED
        return True


@pytest.mark.timeout(900)
def test_real(start: Start, ca: Authority) -> None:
    """Most begin before the first ends, all end well, and all are there at once."""
    server = serve(start, ca, 900)
    (pid,) = server.workers()
    client = context()
    selector = selectors.DefaultSelector()
    with Others(server) as others:
        before, began = connections(pid) - 1, cpu(pid)  # the last of the others may still be there
        with watched(pid) as watch:
            socks = []
            for k in range(MANY):
                raw = server.socket()
                raw.setblocking(False)
                socks.append(client.wrap_socket(raw, do_handshake_on_connect=False))
                try:
                    socks[-1].do_handshake()  # sends the ClientHello
                except ssl.SSLWantReadError:
                    selector.register(socks[-1], selectors.EVENT_READ)
                if k % STEP == 0:
                    others.go_on()
            left = len(selector.get_map())
            assert left > MANY // 2  # where this process has to wait for the CPU, answers are there and read at once
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
                    if left % STEP == 0:
                        others.go_on()
            took = cpu(pid) - began
            assert connections(pid) >= before + MANY
            for sock in socks[:: MANY // 20]:
                sock.settimeout(PATIENCE)
                assert H2(sock, scheme="https").request("/").text == "Hello, world!\n"
            for sock in socks:
                sock.close()
        until(lambda: connections(pid) <= before + 1, "the worker has closed them")
        others.go_on()
        assert "TLS handshake failed" not in server.log
        print(
            f"\n{MANY} handshakes: {watch.growth // MANY} bytes each, CPU {took:.2f} s, beside {others.served} answers on an old "
            f"connection and as many on new ones; then {memory(pid) >> 10} kB, before {watch.before >> 10} kB"
        )
        assert took < MANY * MOST_CPU
        if not SANITIZED:
            assert watch.growth < MANY * REAL
