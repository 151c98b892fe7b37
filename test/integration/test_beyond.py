# SPDX-License-Identifier: BSD-2-Clause
"""What goes beyond PEP 3333: early hints (RFC 8297) and response trailers (RFC 9110 6.5), over both protocols."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Start, starter
from h2client import H2
from harness import Gate, Server, config, pool

TRAILERS = {"x-sum": "42", "x-more": "a b"}


def conf(worker: str) -> str:
    return config(pool(worker, "beyond_app:app"), main="load_module http2;")


@pytest.fixture(scope="module")
def beyond(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(conf(worker))


# ---- trailers

SHAPES = ["/", "/many", "/pieces", "/file", "/?length=7", "/many?length=7", "/file?length=7"]


@pytest.mark.parametrize("path", SHAPES)
def test_trailers_http2(beyond: Server, path: str) -> None:
    with H2(beyond.socket()) as c:
        answer = c.request(path)
        assert (answer.status, answer.text, answer.trailers) == (200, "one two", TRAILERS)
        assert answer.ended
        assert answer.headers.get("content-length") == ("7" if "length" in path else None)
        assert c.request("/none").trailers == {}


@pytest.mark.parametrize("path", ["/empty", "/empty?length=0"])
def test_trailers_of_nothing_http2(beyond: Server, path: str) -> None:
    with H2(beyond.socket()) as c:
        answer = c.request(path)
        assert (answer.status, answer.body, answer.trailers, answer.ended) == (200, b"", TRAILERS, True)


@pytest.mark.parametrize("path", [*SHAPES, "/empty"])
def test_trailers_http1(beyond: Server, path: str) -> None:
    with beyond.client() as c:
        answer = c.request(path)
        assert answer.body == (b"" if path == "/empty" else b"one two")
        assert {k.lower(): v for k, v in answer.trailers} == TRAILERS
        assert answer.get("Transfer-Encoding") == "chunked"
        assert answer.get("Content-Length") is None  # RFC 9112 6.2
        assert c.request("/none").trailers == []


@pytest.mark.parametrize("path", ["/204", "/"])
def test_no_body_no_trailers(beyond: Server, path: str) -> None:
    with beyond.client() as c:
        answer = c.request(path, method="HEAD" if path == "/" else "GET")
        assert (answer.body, answer.trailers) == (b"", [])
        assert c.request("/hints").body == b"body"
    with H2(beyond.socket()) as h:
        answer2 = h.request(path, method="HEAD" if path == "/" else "GET")
        assert (answer2.ended, answer2.body, answer2.trailers) == (True, b"", {})


def test_http10_gets_neither(beyond: Server) -> None:
    with beyond.client() as c:
        c.send("GET /hints HTTP/1.0\r\n\r\n")
        assert c.response().status == 200
    with beyond.client() as c:
        c.send("GET /?length=7 HTTP/1.0\r\n\r\n")
        answer = c.response()
        assert (answer.body, answer.trailers, answer.get("Content-Length")) == (b"one two", [], "7")


@pytest.mark.parametrize("length", ["", "?length=400"])
def test_too_late(beyond: Server, length: str) -> None:
    with H2(beyond.socket()) as c:
        sid = c.start("/late" + length)
        c.until(lambda: b"\n" in c.answers[sid].body, "what the application was told")
        hint, _, trailer = c.answers[sid].body.decode().partition("\n")
    assert hint == "xRuntimeError: wsgi.early_hints() was called after the response had begun"
    assert trailer.startswith(
        "RuntimeError: licorne.send_trailers() was called after the first" if length else "nothing"
    )
    if length:
        beyond.allow("Content-Length", "reset")


def test_misuse_is_named(beyond: Server) -> None:
    with beyond.client() as c:
        found = c.request("/wrong").body.decode().split("\n")
    assert found == [
        "ValueError: wsgi.early_hints: 'Bad Name' is not a header name",
        "ValueError: wsgi.early_hints: the value of header 'X' has control characters",
        "ValueError: wsgi.early_hints: Content-Length has no place here",
        "TypeError: 'int' object is not iterable",
        "ValueError: licorne.send_trailers: 'Connection' is a hop-by-hop header, the server's own business",
        "TypeError: licorne.send_trailers: the value of header 'X' is int, not str",
        "RuntimeError: wsgi.early_hints() must be called in the thread that runs the request, before its end",
    ]


# ---- early hints


def test_hints_come_before_the_answer_http2(start: Start, worker: str, gate: Gate) -> None:
    """The response cannot have been sent, nor the call be over: it waits for the gate."""
    server = start(conf(worker))
    with H2(server.socket()) as c:
        sid = c.start(f"/hints?gate={gate.path}")
        c.until(lambda: len(c.answers[sid].informational) == 2, "two informational heads")
        first, second = c.answers[sid].informational
        assert (first[":status"], first["link"]) == ("103", "</a.css>; rel=preload")
        assert (second[":status"], second["x-second"]) == ("103", "yes")
        assert not c.answers[sid].headers
        gate.open()
        assert c.wait(sid).text == "body"


def test_hints_come_before_the_answer_http1(start: Start, worker: str, gate: Gate) -> None:
    server = start(conf(worker))
    with server.socket() as s:
        s.sendall(f"GET /hints?gate={gate.path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        seen = b""
        while seen.count(b"\r\n\r\n") < 2:
            seen += s.recv(4096)
        assert seen == (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </b.js>; rel=preload\r\nX-Second: yes\r\n\r\n"
        )
        gate.open()
        rest = b""
        while piece := s.recv(4096):
            rest += piece
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b"\r\n\r\nbody")
