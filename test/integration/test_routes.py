# SPDX-License-Identifier: BSD-2-Clause
"""Routes: what handlers get, in every kind of worker, and that nothing of it reaches or hinders the application."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import Client
from conftest import Start, starter
from harness import BUILD, Gate, Server, config, memory, pool, quote, run, until

HANDLER = BUILD / "test" / "modules" / "t_handler.so"
BIG = 20_000_000


def route(prefix: str, mode: str = "hello", inside: str = "") -> str:
    return f"route {quote(prefix)} t_handler {{ mode {mode}; {inside} }}"


def routed(worker: str, *routes: str, processes: int = 1, main: str = "") -> str:
    inside = "\n    ".join(routes)
    main = f"load_module {quote(HANDLER)};\n{main}"
    return config(pool(worker, inside=inside, processes=processes), main=main)


ALL = (
    route("/hello"),
    route("/no/", "decline"),
    route("/no/but/", "hello"),
    route("/no/but/no/", "decline"),
    route("/fail", "fail"),
    route("/echo", "echo"),
    route("/stream", "stream", f"size {BIG};"),
    route("/small", "stream", "size 26;"),
    route("/flush", "flush"),
    route("/wait-call", "wait"),
    route("/post", "post"),
    route("/hold", "hold"),
    route("/count", "count"),
)


@pytest.fixture(scope="module")
def server(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(routed(worker, *ALL))


def reset(c: Client) -> None:
    """Close so that the server gets a reset: one that only stopped sending may still wait for its answer."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()


def held(server: Server) -> int:
    return int(server.get("/count").split()[5])


def pattern(n: int) -> bytes:
    text = b"abcdefghijklmnopqrstuvwxyz"
    return (text * (n // 26 + 1))[:n]


def test_the_handler_sees_how_it_was_matched(server: Server) -> None:
    with server.client() as c:
        assert c.request("/hello/you?q=1").text == "0 /hello [/hello/you] [/you]\n"
        assert c.request("/hello").text == "0 /hello [/hello] []\n"
        assert c.request("/x/..//h%65llo%2fa%20b").text == "0 /hello [/hello/a b] [/a b]\n"
        assert c.request("http://other/hello").text == "0 /hello [/hello] []\n"
        assert c.request("/hell").status == 404, "not the application's page for an unknown path"


def test_what_is_declined_goes_on(server: Server) -> None:
    with server.client() as c:
        assert c.request("/no/but/no/x").text == "2 /no/but/ [/no/but/no/x] [no/x]\n"
        answer = c.request("/no/x")
        assert (answer.status, answer.get("Content-Type")) == (404, "text/plain")
        assert c.request("/").text == "Hello, world!\n"
        assert c.request("*", method="OPTIONS").status == 404


def test_a_handler_that_fails_is_not_passed_by(server: Server) -> None:
    server.allow(r"route /fail: handler t_handler failed: Input/output error")
    with server.client() as c:
        assert c.request("/fail").status == 500


@pytest.mark.parametrize("path", ["/%00", "/hello%00", "/..", "/hello/../../x", "/hello/../x", "/hello/%2e%2E/x"])
def test_odd_paths_are_refused(server: Server, path: str) -> None:
    with server.client() as c:
        answer = c.request(path)
        assert (answer.status, answer.text) == (400, "Bad Request\n")
        assert c.request("/hello").status == 200, "the connection goes on"


def test_head(server: Server) -> None:
    with server.client() as c:
        answer = c.request("/hello", method="HEAD")
        assert (answer.status, answer.get("Content-Length")) == (200, "21")
        answer = c.request("/stream", method="HEAD")  # the handler would have gone on for long
        assert (answer.status, answer.get("Content-Length")) == (200, str(BIG))
        assert c.request("/hello").status == 200
    until(lambda: held(server) == 0, "the end of the stream that HEAD left")


def test_streams_as_room_allows(server: Server) -> None:
    with server.client() as c:
        assert c.request("/stream").body == pattern(BIG)
        assert c.request("/small").body == pattern(26)


def test_bodies_come_through(server: Server) -> None:
    body = pattern(3_000_000)
    with server.client() as c:
        assert c.request("/echo", method="POST", body=body[:10]).body == body[:10]
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        answer = c.head()
        assert answer.status == 200
        sent = got = b""
        while len(sent) < len(body):
            piece = body[len(sent) : len(sent) + 100_000]
            c.send(piece)
            sent += piece
            while len(got) < len(sent):
                got += c.chunk()
        assert c.chunk() == b""
        c.fields()
        assert got == body
        c.send(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        )
        assert c.head().status == 200, "the handler's head goes out before anything is read"
        c.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert c.chunk() == b"hello"


def test_unread_bodies_are_no_trouble(server: Server) -> None:
    with server.client() as c:
        assert c.request("/hello", method="POST", body=pattern(60_000)).status == 200
        assert c.request("/hello").status == 200, "a small one is read away"
    with server.client() as c:
        c.send(b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + pattern(100_000))
        assert c.response().status == 200
        assert c.ended(), "a large one ends the connection"


def test_flush_does_not_call_back(server: Server) -> None:
    with server.client() as c:
        assert c.request("/flush").body == b"0123456789"


def test_wait_is_refused(server: Server) -> None:
    with server.client() as c:
        assert c.request("/wait-call").text == "1 1\n"


def test_answers_from_outside_of_a_callback(server: Server) -> None:
    with server.client() as c:
        for _ in range(3):
            assert c.request("/post").text == "posted\n"


def test_pipelined_with_the_application(server: Server) -> None:
    paths = ["/hello", "/", "/small", "/no/x", "/post", "/", "/hello"]
    with server.client() as c:
        c.send("".join(f"GET {p} HTTP/1.1\r\nHost: x\r\n\r\n" for p in paths))
        answers = [c.response() for _ in paths]
        assert [a.status for a in answers] == [200, 200, 200, 404, 200, 200, 200]
        assert answers[2].body == pattern(26)
        assert answers[4].text == "posted\n"


def test_the_client_goes_away(server: Server) -> None:
    for path in ("/stream", "/hold"):
        c = server.client()
        c.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        if path == "/stream":
            c.head()
        until(lambda: held(server) == 1, f"the stream of {path}")
        reset(c)
        until(lambda: held(server) == 0, f"the handler's end of {path}")


def test_memory_stays_with_a_slow_reader(server: Server) -> None:
    (pid,) = server.workers()
    server.get("/")
    before = memory(pid)
    clients = []
    for _ in range(10):
        c = server.client()
        c.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        c.head()
        clients.append(c)
    until(lambda: held(server) == 10, "all streams")
    assert memory(pid) - before < 10 * 1_000_000
    for c in clients:
        c.close()
    until(lambda: held(server) == 0, "their end")


def wait_call(server: Server, folder: Path, gate: Gate) -> Client:
    """A call of the application that waits at the gate."""
    c = server.client()
    mark = folder / "mark"
    c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
    until(mark.exists, "the call")
    return c


def test_handlers_do_not_wait_for_the_application(start: Start, gate: Gate, tmp_path: Path) -> None:
    """All of `threads` are busy, and the accept gate of a process with others would be closed."""
    server = start(config(pool(threads=1, inside=route("/hello")), main=f"load_module {quote(HANDLER)};"))
    busy = wait_call(server, tmp_path, gate)
    for _ in range(5):
        assert server.get("/hello") == "0 /hello [/hello] []\n"
    gate.open()
    assert busy.response().status == 200
    busy.close()


def test_a_handlers_stream_does_not_close_the_gate_of_sync(start: Start) -> None:
    """Two processes of capacity 1, each with more streams of handlers than that: both still take the application's."""
    server = start(routed("sync", route("/hold", "hold"), processes=2), ready=2)
    clients = []
    for n in range(12):
        c = server.client()
        c.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        clients.append(c)
        server.wait_log("t_handler: holds", n + 1)
    for _ in range(10):
        assert server.get("/") == "Hello, world!\n"
    for c in clients:
        reset(c)
    server.wait_log("t_handler: abort", 12)


def test_the_application_waits_for_its_client_beside_a_handler(start: Start) -> None:
    """A sync call steps its own connection; what a handler holds meanwhile is neither called nor lost."""
    server = start(
        routed("sync", route("/hello"), route("/stream", "stream", f"size {BIG};"), route("/count", "count"))
    )
    slow = server.client()
    slow.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    slow.head()
    with server.client() as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        slow.exactly(1_000)
        # the rest of the body, and behind it a request for a handler, which has to wait its turn
        c.send(b"67890GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.response().body == b"1234567890"
        assert c.response().text == "0 /hello [/hello] []\n"
        assert c.response().text == "Hello, world!\n"
    assert slow.exactly(BIG - 1_000) == pattern(BIG)[1_000:]
    slow.close()


def test_draining_finishes_what_handlers_stream(start: Start, worker: str) -> None:
    server = start(routed(worker, route("/stream", "stream", f"size {BIG};")))
    c = server.client()
    c.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    c.head()
    server.send_signal(signal.SIGTERM)
    assert c.exactly(BIG) == pattern(BIG)
    assert c.ended()
    c.close()
    server.wait()


def test_a_fast_stop_ends_what_a_handler_holds(start: Start, worker: str) -> None:
    server = start(routed(worker, route("/hold", "hold")))
    c = server.client()
    c.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_log("t_handler: holds")
    server.stop(signal.SIGQUIT)
    assert "t_handler: abort with reason 7" in server.log
    c.close()


def test_the_access_log_has_handlers_requests(start: Start, worker: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = start(routed(worker, route("/hello"), main=f"access_log {quote(log)};"))
    server.get("/hello")
    with server.client() as c:
        assert c.request("/..").status == 400
    until(lambda: log.exists() and log.read_text().count("\n") == 2, "two lines")
    first, second = log.read_text().splitlines()
    assert '"GET /hello HTTP/1.1" 200 21 ' in first
    assert '"GET /.. HTTP/1.1" 400 12 ' in second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('boot_error "the folder is gone";', "route /x: t_handler: the folder is gone"),
        ('boot_error "";', "route /x: t_handler: Invalid argument"),
    ],
)
def test_a_handler_that_cannot_start(tmp_path: Path, worker: str, text: str, message: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(routed(worker, route("/x", inside=text)))
    ended = run("-c", conf)
    assert ended.returncode == 3, ended.stderr
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("route /x t_handler more { }", "route: 3 arguments, expected: route PREFIX HANDLER"),
        ("route /x nope { }", 'route: no module "nope" is loaded'),
        ("route /x http1 { }", 'route: module "http1" offers no handler'),
        ("route x t_handler { }", 'route: "x" is no prefix, expected it to start with "/"'),
        ("route /x/../y t_handler { }", 'route: "/x/../y" is no prefix, expected it without'),
        ("route /x t_handler { size lots; }", "size: "),
        ("route /x t_handler { mod hello; }", 'did you mean "mode"'),
        ("mode hello;", '"mode" is not allowed in pool, expected in listen or in route'),
    ],
)
def test_mistakes_are_told(tmp_path: Path, line: str, message: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(routed("wsgi", line))
    ended = run("-t", "-c", conf)
    assert ended.returncode == 1, ended.stderr
    where = next(n for n, text in enumerate(conf.read_text().splitlines(), 1) if line in text)
    assert f"{conf}:{where}: " in ended.stderr
    assert message in ended.stderr


def test_the_effective_configuration_shows_routes(tmp_path: Path) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(routed("wsgi", route("/x", "stream", "size 5;")))
    ended = run("-T", "-c", conf)
    assert ended.returncode == 0, ended.stderr
    assert "\troute /x t_handler {" in ended.stdout
    assert "\t\tsize 5;" in ended.stdout
