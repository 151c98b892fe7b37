# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/1.1 on the wire: persistence, pipelining, framing both ways, what is refused, limits and timeouts."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from client import Broken, Client
from conftest import Start
from harness import Gate, Server, config, pool, until

DATE = re.compile(r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT$")


# ---- persistence


def test_keep_alive(probe: Server) -> None:
    with probe.client() as c:
        for _ in range(5):
            answer = c.request("/")
            assert (answer.version, answer.status, answer.reason) == ("1.1", 200, "OK")
            assert answer.body == b"Hello, world!\n"
            assert answer.get("Connection") in (None, "keep-alive")
            assert DATE.match(answer.get("Date") or "")
            assert (answer.get("Server") or "").lower().startswith("licorne")


def test_close_on_demand(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/", headers=("Connection: close",))
        assert answer.get("Connection") == "close"
        assert answer.body == b"Hello, world!\n"
        assert c.ended()


@pytest.mark.parametrize("value", ["Close", "x, close", "close, x", "CLOSE"])
def test_close_token(probe: Server, value: str) -> None:
    with probe.client() as c:
        assert c.request("/", headers=(f"Connection: {value}",)).status == 200
        assert c.ended()


def test_http10_closes(probe: Server) -> None:
    with probe.client() as c:
        c.send("GET / HTTP/1.0\r\n\r\n")
        answer = c.response()
        assert answer.status == 200
        assert answer.body == b"Hello, world!\n"
        assert c.ended()


def test_http10_keep_alive(probe: Server) -> None:
    with probe.client() as c:
        for _ in range(3):
            c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = c.response()
            assert answer.body == b"Hello, world!\n"
            assert (answer.get("Connection") or "").lower() == "keep-alive"


def test_http10_never_chunked(probe: Server) -> None:
    """A body of unknown length ends with the connection, whatever the client asked for."""
    with probe.client() as c:
        c.send("GET /big?n=100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = c.response()
        assert answer.get("Transfer-Encoding") is None
        assert answer.get("Content-Length") in (None, "100000")
        assert len(answer.body) == 100000


def test_half_closed_client_gets_its_answer(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        c.sock.shutdown(1)
        assert c.response().body == b"hello"
        assert c.ended()


# ---- pipelining


def test_pipeline_of_16(probe: Server) -> None:
    with probe.client() as c:
        c.send("".join(f"GET /environ?number={i} HTTP/1.1\r\nHost: x\r\n\r\n" for i in range(16)))
        for i in range(16):
            answer = c.response()
            assert answer.status == 200
            assert json.loads(answer.body)["environ"]["QUERY_STRING"] == f"number={i}"


def test_pipeline_with_bodies_and_kinds(probe: Server) -> None:
    """Bodies, HEAD, errors of the application and chunks between each other, answered in order."""
    requests = [
        ("POST", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        ("HEAD", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 200, b""),
        ("GET", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, b"no such path\n"),
        ("GET", b"GET /status?line=204+No+Content HTTP/1.1\r\nHost: x\r\n\r\n", 204, b""),
        (
            "POST",
            b"POST /echo-stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nxyz\r\n1\r\n!\r\n0\r\n\r\n",
            200,
            b"xyz!",
        ),
        ("POST", b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789", 200, b"ignored\n"),
        ("GET", b"GET /stream?n=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"piece 0\n"),
    ]
    with probe.client() as c:
        c.send(b"".join(r[1] for r in requests) * 3)
        for method, _, status, body in requests * 3:
            answer = c.response(method)
            assert (answer.status, answer.body) == (status, body)


def test_pipeline_after_close_is_not_answered(probe: Server) -> None:
    with probe.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.response().status == 200
        assert c.ended()


# ---- response framing


def test_chunked_response(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/big?n=300000&chunk=7000")
        assert answer.get("Transfer-Encoding") == "chunked"
        assert len(answer.body) == 300000
        assert c.request("/").status == 200


def test_declared_length(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/big?n=300000&chunk=7000&length=1")
        assert answer.get("Content-Length") == "300000"
        assert len(answer.body) == 300000
        assert c.request("/").status == 200


def test_single_item_gets_a_length(probe: Server) -> None:
    """PEP 3333: a list of one string lets the server compute Content-Length."""
    with probe.client() as c:
        assert c.request("/status").get("Content-Length") == "7"
        assert c.request("/empty").get("Content-Length") == "0"


def test_pieces_come_when_they_are_made(start: Start, worker: str, gate: Gate) -> None:
    """A streamed piece leaves before the next is made."""
    server = start(config(pool(worker)))
    with server.client() as c:
        c.send(f"GET /stream?n=3&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = c.head()
        assert answer.get("Transfer-Encoding") == "chunked"
        assert c.chunk() == b"piece 0\n"
        gate.open()
        assert c.chunk() == b"piece 1\n"
        gate.open()
        assert c.chunk() == b"piece 2\n"
        assert c.chunk() == b""
        assert c.fields() == []


@pytest.mark.parametrize("target", ["/", "/big?n=100000", "/big?n=100000&length=1", "/fail"])
def test_head(probe: Server, target: str) -> None:
    probe.allow(r"HEAD /fail")
    with probe.client() as c:
        head = c.request(target, method="HEAD")
        full = c.request(target)
        assert head.status == full.status
        assert head.get("Content-Type") == full.get("Content-Type")
        if full.get("Content-Length"):
            assert head.get("Content-Length") in (None, full.get("Content-Length"))
    probe.allow(r"GET /fail")


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", ["0", "1"])
def test_statuses_without_body(probe: Server, line: str, body: str) -> None:
    with probe.client() as c:
        answer = c.request(f"/status?line={line.replace(' ', '+')}&body={body}")
        assert (answer.status, answer.reason) == (int(line[:3]), line[4:])
        assert answer.get("Transfer-Encoding") is None
        if answer.status == 204:
            assert answer.get("Content-Length") is None
        # were there a body, it would be taken for the next answer
        assert c.request("/").body == b"Hello, world!\n"


@pytest.mark.parametrize("line", ["201 Created", "299 Odd but mine", "404 Not Found", "503 Later"])
def test_status_line_is_the_applications(probe: Server, line: str) -> None:
    with probe.client() as c:
        answer = c.request(f"/status?line={line.replace(' ', '+')}")
        assert f"{answer.status} {answer.reason}" == line


# ---- request framing


def test_chunked_request(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.send("5\r\nhello\r\n1;name=value\r\n,\r\n00006\r\n world\r\n0\r\nX-Trailer: yes\r\n\r\n")
        assert c.response().body == b"hello, world"
        assert c.request("/").status == 200


def test_chunked_large_request(probe: Server) -> None:
    data = bytes(range(256)) * 4096
    with probe.client() as c:
        c.send("POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(data), 10007):
            piece = data[i : i + 10007]
            c.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        c.send("0\r\n\r\n")
        assert json.loads(c.response().body)["length"] == len(data)


@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 65537, 1000000])
def test_request_body(probe: Server, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    with probe.client() as c:
        assert c.request("/echo", method="POST", body=data[:size]).body == data[:size]
        assert c.request("/").status == 200


def test_unread_body_does_not_disturb(probe: Server) -> None:
    """A body that the application leaves is passed over, or the connection ends; it is never taken for a request."""
    with probe.client() as c:
        body = b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        answer = c.request("/ignore", method="POST", body=body)
        assert answer.text == "ignored\n"
        if answer.get("Connection") != "close":
            assert c.request("/").body == b"Hello, world!\n"
        else:
            assert c.ended()


def test_expect_continue(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        interim = c.response(interim=True)
        assert (interim.status, interim.reason) == (100, "Continue")
        c.send("hello")
        assert c.response().body == b"hello"
        assert c.request("/").status == 200


def test_expect_without_read_needs_no_body(probe: Server) -> None:
    """Who never reads gets no 100: the answer comes at once."""
    with probe.client() as c:
        c.send("POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = c.response(interim=True)
        assert (answer.status, answer.body) == (200, b"ignored\n")


def test_expect_with_body_at_once(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        assert c.response().body == b"hello"
        assert c.request("/").status == 200


def test_unknown_expectation(probe: Server) -> None:
    with probe.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n")
        assert c.response().status == 417


def test_expect_is_ignored_in_http10(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        answer = c.response(interim=True)
        assert (answer.status, answer.body) == (200, b"hello")


def test_curl_expects_with_a_big_body(probe: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 8192)
    out = subprocess.run(
        [
            "curl",
            "-sv",
            "--max-time",
            "60",
            "-H",
            "Expect: 100-continue",
            "--data-binary",
            f"@{data}",
            probe.url("/digest"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "HTTP/1.1 100 Continue" in out.stderr
    assert json.loads(out.stdout)["length"] == 2097152


# ---- what is refused

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
BAD = {
    "no version": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "space after version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "http/2 in the line": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "http/1.1 with a word": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "control byte in target": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "method with a colon": b"GE:T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "nul in value": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "bare cr in value": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n",
    "bare lf ends a line": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare lf ends a field": b"GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "length and chunked": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 4\r\n\r\nabc",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "length with a sign": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    "length that is a word": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    "length beyond 64 bits": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "length with spaces": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1 2\r\n\r\nab",
    "chunked not last": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in http/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "not http at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request(probe: Server, name: str) -> None:
    """400 (501 for a coding that we lack, 505 for another major version), and the connection ends."""
    with probe.client() as c:
        c.send(BAD[name])
        answer = c.response()
        assert answer.status in (400, 501, 505), name
        assert answer.get("Connection") == "close"
        assert c.ended()


BAD_BODIES = {
    "chunk size is no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "chunk size too big": b"fffffffffffffffff\r\nabc",
    "chunk size negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "no crlf after chunk": b"3\r\nabcX\r\n0\r\n\r\n",
    "bare lf after size": b"3\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_chunks(probe: Server, name: str) -> None:
    """The application's read fails; the client gets an error or an end, never a good answer."""
    probe.allow(r"POST /echo")
    with probe.client() as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + BAD_BODIES[name])
        try:
            answer = c.response()
        except Broken:
            return
        assert answer.status == 400, name
        assert c.ended()


def test_unknown_coding_is_501(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert c.response().status == 501
        assert c.ended()


def test_good_after_bad_on_other_connections(probe: Server) -> None:
    with probe.client() as good:
        assert good.request("/").status == 200
        for data in BAD.values():
            with probe.client() as c:
                c.send(data)
                assert c.response().status >= 400
        assert good.request("/").status == 200


def test_empty_line_before_a_request(probe: Server) -> None:
    """RFC 9112 2.2: a server should ignore at least one empty line before the request line."""
    with probe.client() as c:
        c.send("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.response().status == 200


def test_absolute_form(probe: Server) -> None:
    with probe.client() as c:
        facts = json.loads(c.request("http://example.test:81/environ?a=b").body)["environ"]
        assert facts["PATH_INFO"] == "/environ"
        assert facts["QUERY_STRING"] == "a=b"


def test_options_asterisk(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("*", method="OPTIONS")
        assert answer.status in (200, 204, 404)  # the application's own business
        assert c.request("/").status == 200


def test_client_that_goes_away(probe: Server) -> None:
    """In the middle of a head, of a body, of a response: nobody else notices."""
    for data in (
        b"",
        b"GET / HT",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123",
        b"GET /big?n=9999999 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with probe.client() as c:
            c.send(data)
    probe.allow(r"(POST /echo|GET /big)")
    assert probe.get("/") == "Hello, world!\n"


# ---- limits and timeouts


LIMITS = """limit_request_field_size 2k;
    limit_request_fields 20;
    limit_request_line 500;
    limit_request_body 10k;"""


def test_limits(start: Start, worker: str) -> None:
    server = start(config(pool(worker, inside=LIMITS)))
    with server.client() as c:
        assert c.request("/?" + "a" * 400, headers=tuple(f"X-{i}: 1" for i in range(15))).status == 200
        assert c.request("/echo", method="POST", body=b"x" * 10240).status == 200
    for what, status, data in (
        ("URI", 414, b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("fields", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(30)) + b"\r\n"),
        ("a value", 431, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 3000 + b"\r\n\r\n"),
        ("a name", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 3000 + b": x\r\n\r\n"),
        ("endless name", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 100000),
        ("length", 413, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10241\r\n\r\n"),
    ):
        with server.client() as c:
            c.send(data)
            answer = c.response()
            assert answer.status == status, what
            assert c.ended(), what
    server.allow(r"POST /echo")
    with server.client() as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        c.send(b"2000\r\n" + b"x" * 8192 + b"\r\n0\r\n\r\n")
        assert c.response().status == 413


def test_head_timeout(start: Start) -> None:
    server = start(config(pool(inside="head_timeout 200ms;")))
    with server.client() as c:
        c.send("GET / HTTP/1.1\r\nHo")
        assert c.response().status == 408
        assert c.ended()
    with server.client() as c:  # a byte now and then does not prolong it
        c.send("GET / HTTP/1.1\r\nX-A: ")
        c.sock.settimeout(0.02)
        data = b""
        for _ in range(500):
            try:
                c.send("a")
                data = c.sock.recv(100)
                break
            except TimeoutError:
                continue
        assert data.startswith(b"HTTP/1.1 408 ")


def test_idle_timeout(start: Start) -> None:
    server = start(config(pool(inside="keepalive_timeout 200ms; head_timeout 300ms;")))
    with server.client() as c:
        assert c.request("/").status == 200
        assert c.ended()
    with server.client() as c:  # never said a word
        assert c.ended()


def test_body_timeout(start: Start, worker: str) -> None:
    """A body that makes no progress is given up; who waits for it gets an error, not silence."""
    server = start(config(pool(worker, inside="body_timeout 200ms;")))
    server.allow(r"POST /echo")
    with server.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        try:
            assert c.response().status in (408, 400, 500)
        except Broken:
            pass
        assert c.ended()
    assert server.get("/") == "Hello, world!\n"


def test_write_timeout(start: Start, worker: str) -> None:
    """A client that stops reading is dropped, and its application call with it."""
    server = start(config(pool(worker, inside="send_timeout 300ms;")))
    server.allow(r"GET /closing")
    with server.client() as c:
        c.send("GET /closing?name=stuck&n=2000&size=65536 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: server.get("/closed?name=stuck") == "1", "the call's end")


def test_lingering_close(probe: Server) -> None:
    """The answer to a refused request arrives although the client is still sending: no reset destroys it."""
    with probe.client() as c:
        c.send(b"GET / HTTP/1.1\r\nno colon here\r\n" + b"X" * 200000)
        assert c.response().status == 400


def test_many_connections(probe: Server) -> None:
    clients: list[Client] = [probe.client() for _ in range(200)]
    try:
        for c in clients:
            c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for c in clients:
            assert c.response().status == 200
        for c in reversed(clients):
            assert c.request("/pid").status == 200
    finally:
        for c in clients:
            c.close()
