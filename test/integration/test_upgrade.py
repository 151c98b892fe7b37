# SPDX-License-Identifier: BSD-2-Clause
"""A connection goes to another protocol module: test/modules/echo.c, which takes the token "echo"."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from harness import BUILD, Server, config, pool, quote

ECHO = f"load_module {quote(BUILD / 'test' / 'modules' / 'echo.so')};"
ASK = "GET {} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


@pytest.fixture
def server(start: Start, worker: str, tmp_path: Path) -> Server:
    return start(config(pool(worker, inside=f"access_log {quote(tmp_path / 'access.log')};"), main=ECHO))


def upgraded(c: Client, behind: bytes = b"") -> Client:
    c.send(ASK.format("/").encode() + behind)
    answer = c.response(interim=True)
    assert (answer.status, answer.reason) == (101, "Switching Protocols")
    assert answer.get("Upgrade") == "echo"
    assert answer.get("Connection") == "upgrade"
    assert answer.get("X-Echo") == "lines"
    assert answer.get("Content-Length") is None
    return c


def test_talk(server: Server) -> None:
    with server.client() as c:
        upgraded(c, b"first\n")
        assert c.line_raw() == b"first\n"
        for text in (b"GET / HTTP/1.1\n", b"\n", b"x" * 500 + b"\n"):
            c.send(text)
            assert c.line_raw() == text
        c.send(b"bye\nnot echoed\n")
        assert c.rest() == b"bye\n"
    assert server.get("/") == "Hello, world!\n"


def test_much_and_slow(server: Server) -> None:
    """More than any buffer on the way holds: the new protocol pauses and goes on."""
    data = b"".join(b"%070d\n" % n for n in range(40000))
    with server.client() as c:
        upgraded(c, data[:5000])
        sender = threading.Thread(target=c.send, args=(data[5000:] + b"bye\n",))
        sender.start()
        assert c.rest() == data + b"bye\n"
        sender.join()


def test_behind_requests_of_the_old_protocol(server: Server) -> None:
    with server.client() as c:
        assert c.request("/echo", method="POST", body=b"abc").body == b"abc"
        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        c.send(ASK.format("/") + "bye\n")
        for _ in range(3):
            assert c.response().text == "Hello, world!\n"
        assert c.response(interim=True).status == 101
        assert c.rest() == b"bye\n"


def test_not_taken_is_answered(server: Server) -> None:
    with server.client() as c:
        c.send(ASK.format("/no"))
        assert c.response(interim=True).status == 404
        assert c.request("/").status == 200


def test_other_side_cannot_open(server: Server) -> None:
    """101 is out by then: the connection ends, and the log says why."""
    with server.client() as c:
        c.send(ASK.format("/broken"))
        assert c.response(interim=True).status == 101
        assert c.rest() == b""
    server.wait_log(r"closed: echo did not take the connection over")
    assert server.get("/") == "Hello, world!\n"


def test_drain(server: Server) -> None:
    """A connection that was handed over before hears of the end; the process does not wait for it in vain."""
    with server.client() as c:
        upgraded(c, b"first\n")
        assert c.line_raw() == b"first\n"
        server.send_signal(signal.SIGTERM)
        assert c.rest() == b""
    server.wait(0)


def test_access_log(server: Server, tmp_path: Path) -> None:
    with server.client() as c:
        upgraded(c, b"bye\n")
        assert c.rest() == b"bye\n"
    server.stop()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == 1
    assert '"GET / HTTP/1.1" 101 ' in lines[0]
