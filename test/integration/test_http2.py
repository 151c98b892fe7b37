# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 in clear text, with prior knowledge: both workers, the same applications as over HTTP/1.1."""

from __future__ import annotations

import json
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import pytest
from conftest import Start, starter
from h2client import H2, Answer, Raw
from harness import SANITIZED, Gate, Server, config, memory, pool, until
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame, WindowUpdateFrame
from test_memory import watched

CANCEL, INTERNAL_ERROR, NO_ERROR, REFUSED = 8, 2, 0, 7


def conf(worker: str, **more: object) -> str:
    return config(pool(worker, **more), main="load_module http2;")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def h2server(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(conf(worker))


def client(server: Server, *, credit: bool = True, keep: bool = True, settings: dict[int, int] | None = None) -> H2:
    return H2(server.socket(), credit=credit, keep=keep, settings=settings)


# ---- what a request becomes


def test_get(h2server: Server) -> None:
    with client(h2server) as c:
        answer = c.request("/")
        assert answer.status == 200
        assert answer.text == "Hello, world!\n"
        assert answer.headers["content-length"] == "14"
        assert answer.headers["server"] == "licorne"
        assert answer.headers["date"].endswith("GMT")


def test_environ(h2server: Server) -> None:
    with client(h2server) as c:
        answer = c.request(
            "/environ?a=b%20c", headers=[("x-one", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-one", "2")]
        )
        environ = json.loads(answer.body)["environ"]
    assert environ["SERVER_PROTOCOL"] == "HTTP/2"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["HTTP_HOST"] == "test"
    assert environ["QUERY_STRING"] == "a=b%20c"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_ONE"] == "1,2"
    assert environ["REQUEST_METHOD"] == "GET"


def test_host_without_authority(h2server: Server) -> None:
    with client(h2server) as c:
        sid = c.start("/environ", headers=[("host", "named")], authority=None)
        assert json.loads(c.wait(sid).body)["environ"]["HTTP_HOST"] == "named"


@pytest.mark.parametrize(
    ("status", "path", "method", "headers", "authority"),
    [
        (400, "/", "GET", [("host", "another")], "test"),
        (400, "/", "GET", [("x-one", "1")], "a..b:c"),
        (414, "/" + "a" * 9000, "GET", [], "test"),
        (431, "/", "GET", [("x-long", "a" * 9000)], "test"),
        (431, "/", "GET", [(f"x-{i}", "a") for i in range(101)], "test"),
        (431, "/", "GET", [(f"x-{i}", "a" * 1000) for i in range(70)], "test"),
        (417, "/echo", "POST", [("expect", "magic")], "test"),
    ],
)
def test_refused(
    h2server: Server, status: int, path: str, method: str, headers: list[tuple[str, str]], authority: str | None
) -> None:
    """Answered in full by the server itself, and the connection lives."""
    with client(h2server) as c:
        answer = c.wait(c.start(path, method=method, headers=headers, authority=authority))
        assert answer.status == status
        assert answer.ended
        assert answer.reset is None
        assert len(answer.body) == int(answer.headers["content-length"]) > 0
        assert c.request("/").text == "Hello, world!\n"


@pytest.mark.parametrize(
    ("path", "authority"),
    [("/", None), ("/", "a b"), ("/a b", "test"), ("*", "test"), ("http://test/", "test"), ("", "x")],
)
def test_malformed(h2server: Server, path: str, authority: str | None) -> None:
    """A malformed message is a stream error (RFC 9113 8.1.1), and the connection lives."""
    with client(h2server) as c:
        assert c.wait(c.start(path, authority=authority)).reset == 1
        assert c.request("/").text == "Hello, world!\n"


def test_connect_is_refused(h2server: Server) -> None:
    with client(h2server) as c:
        sid = c.conn.get_next_available_stream_id()
        from h2client import Answer

        c.answers[sid] = Answer()
        c.conn.send_headers(sid, [(":method", "CONNECT"), (":authority", "a:443")], end_stream=True)
        c.flush()
        assert c.wait(sid).status == 501


def test_asterisk(h2server: Server) -> None:
    with client(h2server) as c:
        assert c.request("*", method="OPTIONS").status in (200, 404)


def test_many_cookies_are_one_field(h2server: Server) -> None:
    crumbs = [("cookie", f"c{i}={i}") for i in range(200)]
    with client(h2server) as c:
        environ = json.loads(c.request("/environ", headers=crumbs).body)["environ"]
        assert environ["HTTP_COOKIE"] == "; ".join(v for _, v in crumbs)


# ---- bodies


@pytest.mark.parametrize("size", [0, 1, 1000, 16384, 65536, 1 << 20, 5 << 20])
def test_echo(h2server: Server, size: int) -> None:
    body = random.Random(size).randbytes(size)
    with client(h2server) as c:
        answer = c.request("/echo", method="POST", body=body)
        assert answer.status == 200
        assert answer.body == body
        declared = c.request("/echo", method="PUT", body=body, headers=[("content-length", str(size))])
        assert declared.body == body


def test_both_ways_at_once(h2server: Server) -> None:
    """Each piece comes back before the next is sent."""
    with client(h2server) as c:
        sid = c.start("/echo-stream", method="POST", end=False)
        for i in range(1, 21):
            c.send(sid, bytes([i]) * 1000)
            c.until(lambda: len(c.answers[sid].body) == 1000 * i, f"piece {i}")
        c.send(sid, b"", end=True)
        assert c.wait(sid).ended


def test_head(h2server: Server) -> None:
    with client(h2server) as c:
        answer = c.request("/", method="HEAD")
        assert answer.status == 200
        assert answer.headers["content-length"] == "14"
        assert answer.body == b""


def test_statuses_without_body(h2server: Server) -> None:
    with client(h2server) as c:
        for line in ("204%20No%20Content", "304%20Not%20Modified"):
            answer = c.request(f"/status?line={line}")
            assert answer.ended
            assert answer.body == b""
            assert "content-length" not in answer.headers


def test_streamed_response(h2server: Server, gate: Gate) -> None:
    with client(h2server) as c:
        sid = c.start(f"/stream?n=3&gate={gate.path}")
        for i in range(3):
            c.until(lambda: c.answers[sid].text.endswith(f"piece {i}\n"), f"piece {i}")
            if i < 2:
                gate.open()
        assert c.wait(sid).text == "piece 0\npiece 1\npiece 2\n"


def test_request_trailers(h2server: Server) -> None:
    with client(h2server) as c:
        sid = c.start("/trailers", method="POST", end=False)
        c.send(sid, b"body")
        c.conn.send_headers(sid, [("x-sum", "42"), ("content-type", "never")], end_stream=True)
        c.flush()
        answer = json.loads(c.wait(sid).body)
    assert answer["body"] == "body"
    assert "42" in json.dumps(answer["trailers"])
    assert "never" not in json.dumps(answer["trailers"])


def test_too_many_trailers(h2server: Server) -> None:
    with client(h2server) as c:
        sid = c.start("/echo", method="POST", end=False)
        c.conn.send_headers(sid, [(f"x-{i}", "a") for i in range(101)], end_stream=True)
        c.flush()
        assert c.wait(sid).status == 431
        assert c.request("/").status == 200


def test_continue(h2server: Server) -> None:
    """100 when the application reads, not before; none when it does not."""
    with client(h2server) as c:
        sid = c.start("/echo", method="POST", headers=[("expect", "100-continue")], end=False)
        c.until(lambda: c.answers[sid].informational, "100")
        assert c.answers[sid].informational[0][":status"] == "100"
        c.send(sid, b"late", end=True)
        assert c.wait(sid).text == "late"
        sid = c.start("/ignore", method="POST", headers=[("expect", "100-continue")], end=False)
        answer = c.wait(sid)
        assert answer.text == "ignored\n"
        assert not answer.informational


def test_early_answer(h2server: Server) -> None:
    """An answer without the whole body: the client is told that it may stop."""
    with client(h2server) as c:
        sid = c.start("/ignore", method="POST", end=False)
        c.send(sid, b"x" * 1000)
        c.until(lambda: c.answers[sid].ended, "the answer")
        c.until(lambda: c.answers[sid].reset is not None, "the reset")
        assert c.answers[sid].reset == NO_ERROR
        assert c.answers[sid].text == "ignored\n"
        assert c.request("/").status == 200


def test_window_comes_back(h2server: Server) -> None:
    """Bodies that nobody reads, and those of reset streams, take nothing from the connection's window for good."""
    body = b"x" * 60000
    with client(h2server) as c:
        for _ in range(60):  # 3.6 MB through a window of 1 MiB
            sid = c.start("/ignore", method="POST", end=False)
            c.send(sid, body, end=True)
            c.wait(sid)
        for _ in range(60):
            sid = c.start("/echo", method="POST", end=False)
            c.send(sid, body)
            c.conn.reset_stream(sid, CANCEL)
            c.flush()
        answer = c.request("/echo", method="POST", body=body * 40)
        assert len(answer.body) == 60000 * 40


def test_large_body_refused(start: Start, worker: str) -> None:
    server = start(conf(worker, inside="limit_request_body 100k;"))
    server.allow("POST /echo")
    with client(server) as c:
        sid = c.start("/echo", method="POST", headers=[("content-length", "200000")], end=False)
        answer = c.wait(sid)
        assert answer.status == 413
        sid = c.start("/echo", method="POST", end=False)
        c.send(sid, b"x" * 150000)
        c.until(lambda: c.answers[sid].ended, "the answer")
        assert c.answers[sid].status == 413
        assert c.request("/echo", method="POST", body=b"x" * 100000).status == 200


def test_large_head(h2server: Server) -> None:
    """A response head beyond one frame goes out in CONTINUATION frames."""
    with client(h2server, settings={6: 1 << 20}) as c:
        c.conn.decoder.max_header_list_size = 1 << 20
        query = "&".join(f"h=x-{i}:{'v' * 60}{i}" for i in range(110))
        answer = c.request(f"/headers?{query}")
        assert answer.headers["x-109"] == "v" * 60 + "109"


# ---- many at once


@pytest.mark.parametrize("many", [100])
def test_many_streams(h2server: Server, many: int) -> None:
    with client(h2server) as c:
        ids = [c.start(f"/echo?{i}", method="POST", end=False) for i in range(many)]
        for i in reversed(ids):
            c.send(i, b"%d" % i, end=True)
        for i in ids:
            assert c.wait(i).text == str(i)


def test_streams_run_at_once(start: Start, gate: Gate, tmp_path: Path) -> None:
    """As many calls of one connection as there are threads."""
    server = start(conf("wsgi", threads=4))
    with client(server) as c:
        marks = [tmp_path / f"m{i}" for i in range(4)]
        ids = [c.start(f"/wait?mark={m}&gate={gate.path}") for m in marks]
        until(lambda: all(m.exists() for m in marks), "four calls at once")
        gate.remove()
        for i in ids:
            assert c.wait(i).text.startswith("waited")
        assert c.request("/most").text == "0 4"


def test_client_resets_a_running_call(h2server: Server, worker: str, gate: Gate) -> None:
    """The iterable is closed, its thread is free again, and the connection goes on."""
    name = f"reset-{worker}"
    with client(h2server) as c:
        sid = c.start(f"/closing?name={name}&n=100000&size=1000")
        c.until(lambda: c.answers[sid].body, "the first piece")
        c.conn.reset_stream(sid, CANCEL)
        c.flush()
        with client(h2server) as other:
            until(lambda: other.request(f"/closed?name={name}").text == "1", "close()")
        assert c.request("/").text == "Hello, world!\n"
    h2server.allow("closing")


def test_application_fails_midway(h2server: Server) -> None:
    h2server.allow("Trouble", "fail-late", "raised after", "GET /short", "GET /long", "Content-Length")
    with client(h2server) as c:
        answer = c.request("/fail-late")
        assert answer.status == 200
        assert answer.body == b"first part\n"
        assert answer.reset == INTERNAL_ERROR
        answer = c.request("/short")
        assert answer.reset == INTERNAL_ERROR
        answer = c.request("/long")
        assert answer.text == "12345"
        assert answer.ended
        assert c.request("/").status == 200


def test_application_fails_at_once(h2server: Server) -> None:
    h2server.allow("Trouble", "GET /fail", "raised before", "GET /no-start", "start_response")
    with client(h2server) as c:
        assert c.request("/fail").status == 500
        assert c.request("/no-start").status == 500


def test_trusted_proxy(start: Start, worker: str) -> None:
    server = start(conf(worker, inside="set_real_ip_from 127.0.0.1;"))
    with client(server) as c:
        said = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")]
        environ = json.loads(c.request("/environ", headers=said).body)["environ"]
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["wsgi.url_scheme"] == "https"


def test_access_log(start: Start, worker: str, tmp_path: Path) -> None:
    """Answers, refusals and streams side by side: each has its line and its own bytes."""
    log = tmp_path / "access"
    server = start(conf(worker, inside=f'access_log "{log}" combined;'))
    with client(server) as c:
        a, b = c.start("/big?n=100000"), c.start("/")
        c.wait(a), c.wait(b)
        assert c.request("/" + "a" * 9000).status == 414
    until(lambda: log.read_text().count("\n") >= 3, "three lines")
    lines = log.read_text()
    assert '"GET /big?n=100000 HTTP/2" 200 100000 ' in lines
    assert '"GET / HTTP/2" 200 14 ' in lines
    assert re.search(r'" 414 ', lines)


# ---- limits of the connection


def test_keepalive_requests(start: Start, worker: str) -> None:
    """Two GOAWAYs, and the requests between them are answered."""
    server = start(conf(worker, inside="keepalive_requests 5;"))
    with client(server) as c:
        for _ in range(5):
            assert c.request("/").status == 200
        c.until(lambda: c.goaway, "the notice")
        assert c.goaway[0] == (2**31 - 1, NO_ERROR)
        assert c.request("/").status == 200
        while c.step():
            pass
        assert c.goaway[1:] == [(11, NO_ERROR)]


def test_ping_keeps_and_ends(start: Start, worker: str) -> None:
    """A client that answers PING stays until keepalive_timeout; one that does not is let go."""
    server = start(conf(worker, inside="http2_ping_interval 200ms; keepalive_timeout 1500ms;"))
    with client(server) as c:
        begun = time.monotonic()
        assert c.request("/").status == 200
        while c.step():
            pass
        assert time.monotonic() - begun > 1.0
        assert c.goaway == [(1, NO_ERROR)]
    with server.socket() as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        with client(server) as c:
            assert c.request("/").status == 200
            c.sock.settimeout(None)
            c.flush = lambda: None  # type: ignore[method-assign]  # hears the PING and says nothing
            while c.step():
                pass
            assert not c.goaway
    assert "a PING was not answered" in server.log


def test_first_request_is_due(start: Start, worker: str) -> None:
    server = start(conf(worker, inside="head_timeout 300ms;"))
    with client(server) as c:
        while c.step():
            pass
        assert c.goaway == [(0, NO_ERROR)]


def test_body_timeout(start: Start, worker: str) -> None:
    server = start(conf(worker, inside="body_timeout 1s;"))
    with client(server) as c:
        sid = c.start("/echo", method="POST", end=False)
        c.send(sid, b"x")
        answer = c.wait(sid)
        assert answer.status == 408
        assert c.request("/").status == 200
    server.allow("POST /echo")


def test_no_window_for_a_response(start: Start, worker: str) -> None:
    """send_timeout per stream: the others of the connection go on."""
    server = start(conf(worker, inside="send_timeout 1s;"))
    with client(server, credit=False) as c:
        sid = c.start("/big?n=1000000")
        c.until(lambda: c.answers[sid].received == 65535, "a full window")
        c.until(lambda: c.answers[sid].reset is not None, "the reset")
        assert c.answers[sid].reset == CANCEL
        c.conn.increment_flow_control_window(1000)
        c.flush()
        assert c.request("/").text == "Hello, world!\n"
    server.allow("GET /big")


# ---- back-pressure and fairness

SIZE = (16 << 20) if SANITIZED else (96 << 20)
MOST = 4 << 20


@pytest.mark.timeout(300)
def test_download_beside_small_requests(start: Start) -> None:
    server = start(conf("wsgi"))
    (pid,) = server.workers()
    with client(server, keep=False) as c:
        for _ in range(3):
            c.request(f"/big?n={8 << 20}")
        with watched(pid) as watch:
            big = c.start(f"/big?n={SIZE}")
            c.until(lambda: c.answers[big].received > 0, "the first bytes")
            for _ in range(100):
                before = c.answers[big].received
                small = c.start("/")
                c.wait(small)
                assert c.answers[small].received == 14
                assert c.answers[big].received - before < 8 << 20, "a small request waits for the large one"
            c.wait(big)
        assert c.answers[big].received == SIZE
    if not SANITIZED:
        assert watch.growth < MOST


@pytest.mark.timeout(300)
def test_upload_beside_small_requests(start: Start, gate: Gate, tmp_path: Path) -> None:
    """The application stops reading: the client is stopped by the window, the other streams are not."""
    server = start(conf("wsgi"))
    (pid,) = server.workers()
    piece = bytes(1 << 14)
    mark = tmp_path / "mark"
    with client(server, keep=False) as c:
        c.request("/digest", method="POST", body=piece * 512)
        with watched(pid) as watch:
            big = c.start(f"/digest?stop=1000000&mark={mark}&gate={gate.path}", method="POST", end=False)
            sent = 0
            while (room := c.conn.local_flow_control_window(big)) or not mark.exists():
                if room:
                    c.send(big, piece[: min(room, len(piece))])
                    sent += min(room, len(piece))
                    if not c.conn.local_flow_control_window(big):
                        c.conn.ping(b"12345678")
                        pings = len(c.pings)
                        c.flush()
                        c.until(lambda: len(c.pings) > pings, "what was consumed by then")
                else:
                    c.step()
            assert 1000000 <= sent < 4 << 20, sent
            for _ in range(100):
                assert c.wait(c.start("/")).status == 200
                assert c.request("/echo", method="POST", body=piece).received == len(piece)
            gate.open()
            while sent < SIZE:
                c.send(big, piece)
                sent += len(piece)
            c.send(big, b"", end=True)
            c.keep = True
            assert json.loads(c.wait(big).body)["length"] == sent
    if not SANITIZED:
        assert watch.growth < MOST


def test_urgent_first_others_not_starved(start: Start, tmp_path: Path) -> None:
    """Two downloads without a priority share the connection; an urgent one passes both."""
    data = tmp_path / "data"
    data.write_bytes(bytes(3 << 20))
    server = start(conf("wsgi"))
    with client(server, keep=False) as c:
        a, b = c.start(f"/file?path={data}"), c.start(f"/file?path={data}")
        c.until(lambda: c.answers[a].received and c.answers[b].received, "bytes of both")
        assert not c.answers[a].ended
        assert not c.answers[b].ended
        urgent = c.start("/big?n=300000", headers=[("priority", "u=0")])
        c.wait(urgent)
        assert not c.answers[a].ended
        assert not c.answers[b].ended
        assert c.wait(a).received == c.wait(b).received == 3 << 20


# ---- other clients


def tool(*args: str) -> str:
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_curl(h2server: Server, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(300000))
    out = tool("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", h2server.url())
    assert out == "Hello, world!\n2 200"
    out = tool(
        "curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code} %{size_download}", "-o", "/dev/null",
        "--data-binary", f"@{body}", h2server.url("/echo"),
    )  # fmt: skip
    assert out == "200 300000"


def test_nghttp(h2server: Server) -> None:
    out = tool("nghttp", "-nv", h2server.url(), h2server.url("/big?n=100000"))
    assert out.count(":status: 200") == 2
    assert "error_code=NO_ERROR" in out


def test_h2load(h2server: Server) -> None:
    out = tool("h2load", "-n", "2000", "-c", "8", "-m", "32", h2server.url())
    assert "2000 succeeded, 0 failed, 0 errored" in out
    assert "2000 2xx" in out


UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {}\r\n"


def upgraded(server: Server, request: str) -> H2:
    """A connection after 101: the request is its stream 1."""
    sock = server.socket()
    sock.sendall(request.encode())
    seen = b""
    while not seen.endswith(b"\r\n\r\n"):
        seen += sock.recv(1)
    assert seen == b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    c = H2.__new__(H2)
    c.sock, c.credit, c.keep, c.scheme, c.answers = sock, True, True, "http", {1: Answer()}
    c.goaway, c.pings, c.closed = [], [], False
    c.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    c.conn.initiate_upgrade_connection()
    c.flush()
    return c


def test_upgrade(start: Start, worker: str, tmp_path: Path) -> None:
    log = tmp_path / "access"
    server = start(conf(worker, inside=f"http2_upgrade on; access_log {log};"))
    # SETTINGS_INITIAL_WINDOW_SIZE 5: the answer to the request itself keeps to it
    settings = "AAQAAAAF"
    head = f"GET /environ?a=b HTTP/1.1\r\nHost: named\r\nX-One: 1\r\nCookie: a=1\r\n{UPGRADE.format(settings)}\r\n"
    with upgraded(server, head) as c:
        answer = c.wait(1)
        environ = json.loads(answer.body)["environ"]
        assert environ["SERVER_PROTOCOL"] == "HTTP/2"
        assert (environ["HTTP_HOST"], environ["HTTP_X_ONE"], environ["HTTP_COOKIE"]) == ("named", "1", "a=1")
        assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/environ", "a=b")
        assert not {"HTTP_UPGRADE", "HTTP_CONNECTION", "HTTP2_SETTINGS", "HTTP_HTTP2_SETTINGS"} & set(environ)
        assert c.request("/").text == "Hello, world!\n"
    with upgraded(server, f"HEAD / HTTP/1.1\r\nHost: a\r\n{UPGRADE.format('')}\r\n") as c:
        answer = c.wait(1)
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "14")
        assert c.request("/echo", method="POST", body=b"x" * 100000).body == b"x" * 100000
    until(lambda: log.read_text().count("\n") >= 6, "the access log's lines")
    assert re.findall(r'"(\w+) \S+ (HTTP/[\d.]+)" (\d+)', log.read_text())[:2] == [
        ("GET", "HTTP/1.1", "101"),
        ("GET", "HTTP/2", "200"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        UPGRADE.format("AAQAAAAF") + "HTTP2-Settings: AAQAAAAF\r\n",
        UPGRADE.format("AAQAAAA"),
        UPGRADE.format("AAQAAA!F"),
        UPGRADE.format("AAQAAAAF" * 60),
        UPGRADE.format("AAQAAAAF").replace(", HTTP2-Settings", ""),
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
        UPGRADE.format("AAQAAAAF") + "Content-Length: 1\r\n",
    ],
)
def test_upgrade_is_passed_over(start: Start, worker: str, fields: str) -> None:
    """Offers that are not as they should be are answered as any request."""
    server = start(conf(worker, inside="http2_upgrade on;"))
    with server.client() as c:
        c.send(f"GET /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n" + ("x" if "Content-Length" in fields else ""))
        assert c.response().status == 200


def test_upgrade_with_impossible_settings(start: Start, worker: str) -> None:
    """They decode, and no peer may say that: the connection ends, at once."""
    server = start(conf(worker, inside="http2_upgrade on;"))
    with server.socket() as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE.format('AAT_____')}\r\n".encode())
        while sock.recv(4096):
            pass
    with server.client() as c:
        assert c.request("/").status == 200


def test_frames_stay_small(h2server: Server) -> None:
    """Whatever frame size a client takes: other streams, and answers to PING, are to have their turn."""
    with Raw(h2server.socket(), settings={5: 1 << 20, 4: 1 << 30}) as c:
        c.send(WindowUpdateFrame(0, window_increment=1 << 30).serialize())
        c.send(c.headers(1, c.head("/big?n=3000000&chunk=1000000"), "END_HEADERS", "END_STREAM"))
        c.until(lambda: any("END_STREAM" in f.flags for f in c.frames if f.stream_id == 1), "the end")
        sizes = [len(f.data) for f in c.frames if isinstance(f, DataFrame)]
    assert sum(sizes) == 3000000
    assert max(sizes) == 16384


def test_data_behind_a_refused_stream(start: Start, gate: Gate) -> None:
    """More of a stream over the limit is in the same read as its head, and a stream after it: no mistake of the client's."""
    server = start(conf("wsgi", inside="http2_max_concurrent_streams 1;"))
    with Raw(server.socket()) as c:
        c.send(c.headers(1, c.head(f"/stream?n=2&gate={gate.path}"), "END_HEADERS", "END_STREAM"))
        c.until(lambda: any(isinstance(f, HeadersFrame) for f in c.frames), "the first answer's head")
        c.send(
            c.headers(3, c.head("/echo", "POST"), "END_HEADERS")
            + RstStreamFrame(1, error_code=CANCEL).serialize()
            + c.headers(5, c.head("/"), "END_HEADERS", "END_STREAM")
            + DataFrame(3, b"more", flags=["END_STREAM"]).serialize()
        )
        c.until(lambda: any(f.stream_id == 5 and "END_STREAM" in f.flags for f in c.frames), "an answer")
        assert c.reset_of(3) == REFUSED
        assert not [f for f in c.frames if isinstance(f, GoAwayFrame)]
    gate.open()


def test_upgrade_is_off(h2server: Server) -> None:
    with h2server.client() as c:
        c.send(f"GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE.format('AAQAAAAF')}\r\n")
        assert c.response().status == 200


def test_http1_beside_it(h2server: Server) -> None:
    assert h2server.get("/") == "Hello, world!\n"


def test_memory_comes_back(start: Start) -> None:
    """Connections and streams leave nothing behind."""
    server = start(conf("wsgi"))
    (pid,) = server.workers()

    def round_() -> None:
        for _ in range(20):
            with client(server) as c:
                ids = [c.start("/") for _ in range(50)]
                for i in ids:
                    c.wait(i)

    round_()
    before = memory(pid)
    round_()
    round_()
    if not SANITIZED:
        assert memory(pid) - before < 1 << 20
