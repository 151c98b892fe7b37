# SPDX-License-Identifier: BSD-2-Clause
"""A lasting transport (test/transport/xor.c) under real protocols and workers: what TLS will go through."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
from pathlib import Path
from typing import cast

import pytest
from client import Broken, Client
from conftest import Start
from harness import BUILD, PATIENCE, Gate, Server, config, pool, quote, run, until
from test_routes import HANDLER

XOR = BUILD / "test" / "transport" / "xor.so"
LOAD = f"load_module {quote(XOR)};"


class Wrapped:
    """The client's end of the transport, as far as Client needs a socket."""

    def __init__(self, sock: socket.socket, name: str = "", key: int = 0x6B) -> None:
        self.sock, self.key, self.family = sock, key, sock.family
        self.plain, self.raw, self.over = b"", b"", False
        sock.sendall(b"X" + bytes([key, len(name)]) + name.encode())
        assert sock.recv(2 + len(name), socket.MSG_WAITALL) == b"Y" + bytes([len(name)]) + name.encode()

    def crypt(self, data: bytes) -> bytes:
        return data.translate(bytes(b ^ self.key for b in range(256)))

    def sendall(self, data: bytes) -> None:
        for at in range(0, len(data), 5000):
            piece = data[at : at + 5000]
            self.sock.sendall(len(piece).to_bytes(2, "big") + self.crypt(piece))

    def farewell(self) -> None:
        self.sock.sendall(b"\0\0")

    def recv(self, n: int) -> bytes:
        while not self.plain and not self.over:
            while len(self.raw) < 2 or len(self.raw) < 2 + int.from_bytes(self.raw[:2], "big"):
                more = self.sock.recv(262144)
                if not more:
                    assert not self.raw, "the connection ended within a record"
                    return b""
                self.raw += more
            size = int.from_bytes(self.raw[:2], "big")
            self.plain, self.raw = self.crypt(self.raw[2 : 2 + size]), self.raw[2 + size :]
            self.over = size == 0
        out, self.plain = self.plain[:n], self.plain[n:]
        return out

    def settimeout(self, seconds: float) -> None:
        self.sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.sock.setsockopt(level, option, value)

    def close(self) -> None:
        self.sock.close()


def wrapped(server: Server, which: int = 0, name: str = "") -> Client:
    return Client(cast(socket.socket, Wrapped(server.socket(which), name)), timeout=PATIENCE)


def end(c: Client) -> Wrapped:
    return cast(Wrapped, c.sock)


def over(c: Client) -> bool:
    return end(c).over


def test_requests(start: Start, worker: str) -> None:
    server = start(config(pool(worker, listen=["127.0.0.1:0 xor"]), main=LOAD))
    for name in ("", "http/1.1"):
        with wrapped(server, name=name) as c:
            for _ in range(3):
                assert c.request("/").text == "Hello, world!\n"
            facts = json.loads(c.request("/environ").body)["environ"]
            assert facts["wsgi.url_scheme"] == "https"
            assert facts["REMOTE_ADDR"] == "127.0.0.1"
            body = bytes(range(256)) * 4000
            assert hashlib.sha256(body).hexdigest() in c.request("/digest", "POST", body=body).text


def test_much_in_both_directions(start: Start, worker: str) -> None:
    """A client that reads late: output waits, raw and plain, and nothing of it is lost."""
    server = start(config(pool(worker, listen=["127.0.0.1:0 xor"]), main=LOAD))
    with wrapped(server) as c:
        c.send("GET /big?n=20000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        for _ in range(2):
            answer = c.response()
            assert answer.status == 200
            assert len(answer.body) == 20000000
        assert c.request("/").text == "Hello, world!\n"


def test_files(start: Start, tmp_path: Path) -> None:
    """What plain connections send by sendfile() is read for the transport; a file that is shorter ends without farewell."""
    content = hashlib.shake_128(b"licorne").digest(5_000_001)
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "short").write_bytes(content[:3_000_000])
    routes = "\n".join(
        f"route /{name} t_handler {{ mode file; path {quote(tmp_path / name)}; size 5000000; }}"
        for name in ("whole", "short")
    )
    load = f"{LOAD} load_module {quote(HANDLER)};"
    server = start(config(pool(listen=["127.0.0.1:0 xor"], inside=routes), main=load))
    with wrapped(server) as c:
        for _ in range(2):
            assert c.request("/whole").body == content[1:]
            assert c.request("/").text == "Hello, world!\n"
    server.allow("has become .* bytes shorter")
    with wrapped(server) as c, pytest.raises((ConnectionError, AssertionError, Broken)):
        c.request("/short")
    assert not over(c)
    server.wait_log("has become .* bytes shorter while it was being sent: connection reset")


def test_the_end(start: Start) -> None:
    """Connection: close, a refusal and the client's farewell each end with ours, and then the connection."""
    server = start(config(pool(listen=["127.0.0.1:0 xor"]), main=LOAD))
    with wrapped(server) as c:
        c.request("/", headers=("Connection: close",))
        assert c.ended()
        assert over(c)
    with wrapped(server) as c:
        c.send("GET / HTTP/1.1\r\n\r\n")
        assert c.response().status == 400
        assert c.ended()
        assert over(c)
    with wrapped(server) as c:
        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        end(c).farewell()
        assert c.response().text == "Hello, world!\n"
        assert c.ended()
        assert over(c)


def test_drain(start: Start, gate: Gate, tmp_path: Path) -> None:
    """A request that runs is answered, with the farewell, although the process is to end."""
    server = start(config(pool(listen=["127.0.0.1:0 xor"]), main=LOAD))
    mark = tmp_path / "mark"
    with wrapped(server) as c, wrapped(server) as idle, server.socket() as half:
        half.sendall(b"X")
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the request to run")
        server.send_signal(signal.SIGTERM)
        assert idle.ended()
        assert over(idle)
        assert half.recv(1) == b"", "a handshake does not hold up the end"
        gate.open()
        answer = c.response()
        assert answer.text.startswith("waited")
        assert answer.get("Connection") == "close"
        assert c.ended()
        assert over(c)
    server.wait()


def test_handshakes_that_fail(start: Start) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 xor { xor_timeout 100ms; }"]), main=LOAD))
    for bytes_, log in (
        (b"GET / HTTP/1.1\r\n\r\n", "this is no handshake"),
        (b"X\x01\x03h99", "no such protocol"),
        (b"X", "longer than xor_timeout"),
    ):
        with server.socket() as sock:
            sock.sendall(bytes_)
            assert sock.recv(10) in (b"E", b"")
            server.wait_log(f"127.0.0.1: xor: .*{log}")
    with server.socket() as sock:  # nothing at all: the end of it is no news
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b""


@pytest.mark.parametrize("where", ["pool", "listen"])
def test_asked_for_by_a_directive(start: Start, where: str) -> None:
    listen = "127.0.0.1:0 { xor on; }" if where == "listen" else "127.0.0.1:0"
    server = start(
        config(
            pool(listen=[listen, "127.0.0.1:0 { xor off; }"], inside="xor on;" if where == "pool" else ""), main=LOAD
        ),
        listeners=2,
    )
    with wrapped(server) as c:
        assert c.request("/").text == "Hello, world!\n"
    assert server.get("/", 1) == "Hello, world!\n"


def refused(tmp_path: Path, listen: str) -> str:
    path = tmp_path / "bad.conf"
    path.write_text(config(pool(listen=[listen]), main=LOAD))
    done = run("-t", "-c", path)
    assert done.returncode == 1
    return done.stderr


def test_stacks_that_cannot_be(tmp_path: Path) -> None:
    assert 'transport "xor" is there twice' in refused(tmp_path, "127.0.0.1:0 xor xor")
    assert 'module "http1" offers no transport' in refused(tmp_path, "127.0.0.1:0 http1")
    assert 'no module "xo" is loaded, expected before it: load_module xo;' in refused(tmp_path, "127.0.0.1:0 xo")


def test_a_listener_that_it_refuses(tmp_path: Path) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(config(pool(listen=["127.0.0.1:0 xor { xor_refuse on; }"]), main=LOAD))
    done = run("-c", path)
    assert done.returncode == 3, done.stderr
    assert "bad.conf:" in done.stderr
    assert "listen 127.0.0.1:0: xor: xor_refuse is on at 127.0.0.1" in done.stderr


def test_described() -> None:
    done = run("module", XOR)
    assert done.returncode == 0
    assert "interface   transport, version 1" in done.stdout
    until(lambda: "directive   xor on | off;" in done.stdout, "its directives", 1)
