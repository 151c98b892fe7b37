# SPDX-License-Identifier: BSD-2-Clause
"""PEP 3333: environ, wsgi.input, start_response, write(), iterables, close(), exc_info, and misuse of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client import Broken, Client, Response
from conftest import Start, starter
from harness import APPS, ROOT, VENV, Gate, Server, config, pool, quote, run, until

names = (f"n{i}" for i in itertools.count())


def environ(server: Server, target: str = "/environ", **kw: Any) -> dict[str, Any]:
    with server.client() as c:
        answer = c.request(target, **kw)
        assert answer.status == 200
        facts: dict[str, Any] = json.loads(answer.body)
        return facts


# ---- environ


def test_environ(probe: Server, worker: str) -> None:
    facts = environ(probe, "/environ?a=1&b=%20%zz", headers=("X-One-Two: three", "Content-Type: text/x"))
    e, types = facts["environ"], facts["types"]
    host, _, port = probe.addresses[0].rpartition(":")
    assert e["REQUEST_METHOD"] == "GET"
    assert e["SCRIPT_NAME"] == ""
    assert e["PATH_INFO"] == "/environ"
    assert e["QUERY_STRING"] == "a=1&b=%20%zz"
    assert e["CONTENT_TYPE"] == "text/x"
    assert e.get("CONTENT_LENGTH", "") == ""
    assert "HTTP_CONTENT_TYPE" not in e
    assert "HTTP_CONTENT_LENGTH" not in e
    assert e["HTTP_X_ONE_TWO"] == "three"
    assert e["HTTP_HOST"] == "test"
    assert (e["SERVER_NAME"], e["SERVER_PORT"]) == (host, port)
    assert e["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert e["REMOTE_ADDR"] == "127.0.0.1"
    assert int(e["REMOTE_PORT"]) > 0
    assert e["wsgi.version"] == [1, 0]
    assert e["wsgi.url_scheme"] == "http"
    assert e["wsgi.multithread"] is (worker == "wsgi")
    assert e["wsgi.multiprocess"] is False
    assert e["wsgi.run_once"] is False
    assert {"wsgi.input", "wsgi.errors"} <= set(e)
    assert e["SERVER_SOFTWARE"].lower().startswith("licorne")
    wrong = [k for k, t in types.items() if not k.startswith("wsgi.") and k.isupper() and t != "str"]
    assert not wrong
    assert types["wsgi.multithread"] == "bool"


def test_multiprocess(start: Start, worker: str) -> None:
    server = start(config(pool(worker, processes=2)), ready=2)
    assert environ(server)["environ"]["wsgi.multiprocess"] is True


def test_one_thread_is_no_multithread(start: Start) -> None:
    server = start(config(pool("wsgi", threads=1)))
    assert environ(server)["environ"]["wsgi.multithread"] is False


def test_path_is_decoded_as_latin1(probe: Server) -> None:
    with probe.client() as c:
        c.send("GET /environ%2Fx%C3%A9%20y HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.response().status == 404
    made = environ_of_path(probe, "/%65nviron")
    assert made["PATH_INFO"] == "/environ"


def environ_of_path(server: Server, target: str) -> dict[str, Any]:
    found: dict[str, Any] = environ(server, target)["environ"]
    return found


def test_header_bytes_are_latin1(probe: Server) -> None:
    facts = environ(probe, headers=("X-Name: h\xe9",))
    assert facts["environ"]["HTTP_X_NAME"] == "h\xe9"


def test_repeated_headers_are_joined(probe: Server) -> None:
    e = environ(probe, headers=("X-A: 1", "X-B: 2", "x-a: 3", "Cookie: a=1", "Cookie: b=2"))["environ"]
    assert e["HTTP_X_A"] in ("1,3", "1, 3")
    assert e["HTTP_COOKIE"] == "a=1; b=2"


def test_underscore_does_not_forge(probe: Server) -> None:
    """X_Real_IP and X-Real-IP would both be HTTP_X_REAL_IP: the one with underscores is not passed on."""
    e = environ(probe, headers=("X-Real-IP: 1.2.3.4", "X_Real_IP: 6.6.6.6"))["environ"]
    assert e["HTTP_X_REAL_IP"] == "1.2.3.4"


def test_proxy_header_is_not_an_environment(probe: Server) -> None:
    """The name HTTP_PROXY belongs to the environment (httpoxy); in environ it is harmless but must be the client's."""
    e = environ(probe, headers=("Proxy: evil",))["environ"]
    assert e.get("HTTP_PROXY") in (None, "evil")


def test_empty_query_and_query_only(probe: Server) -> None:
    assert environ(probe, "/environ")["environ"]["QUERY_STRING"] == ""
    assert environ(probe, "/environ?")["environ"]["QUERY_STRING"] == ""
    assert environ(probe, "/environ?a?b")["environ"]["QUERY_STRING"] == "a?b"


def test_environs_do_not_mix(probe: Server) -> None:
    """A header of one request is not seen by the next on the same connection, nor a key that the application set."""
    with probe.client() as c:
        first = json.loads(c.request("/environ", headers=("X-Secret: 1", "Cookie: a=b")).body)["environ"]
        second = json.loads(c.request("/environ").body)["environ"]
    assert "HTTP_X_SECRET" in first
    assert "HTTP_X_SECRET" not in second
    assert "HTTP_COOKIE" not in second


def test_http10_protocol(probe: Server) -> None:
    with probe.client() as c:
        c.send("GET /environ HTTP/1.0\r\n\r\n")
        e = json.loads(c.response().body)["environ"]
    assert e["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in e


# ---- wsgi.input


def test_input_methods(probe: Server) -> None:
    with probe.client() as c:
        body = b"first\nsecond line\nthird\nfourth\nlast without end"
        got = json.loads(c.request("/lines", method="POST", body=body).body)
    assert got["readline"] == "first\n"
    assert got["readline3"] == "sec"
    assert got["next"] == "ond line\n"
    assert got["rest"] == ["third\n", "fourth\n", "last without end"]
    assert got["end"] == ["", "", ""]


def test_input_ends_where_the_body_ends(probe: Server) -> None:
    """read() beyond Content-Length gives the end, not the next request's bytes."""
    with probe.client() as c:
        c.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.response().body == b"abc"
        assert c.response().body == b"Hello, world!\n"


def test_input_trailers(probe: Server) -> None:
    with probe.client() as c:
        for trailers, seen in (("X-Sum: 1\r\nX-Two:  a b \r\n", [["x-sum", "1"], ["x-two", "a b"]]), ("", [])):
            c.send("POST /trailers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            c.send(f"3\r\nabc\r\n0\r\n{trailers}\r\n")
            assert json.loads(c.response().body) == {"body": "abc", "trailers": seen, "again": seen}
        c.send("POST /trailers?read=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert json.loads(c.response().body) == {"body": "", "trailers": [], "again": []}


def test_input_comes_as_it_arrives(start: Start, worker: str) -> None:
    """The application reads the first part before the client has sent the second."""
    server = start(config(pool(worker)))
    with server.client() as c:
        c.send("POST /echo-stream HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + "a" * 1000)
        assert c.head().status == 200
        assert c.chunk() == b"a" * 1000
        c.send("b" * 1000)
        assert c.chunk() == b"b" * 1000
        assert c.chunk() == b""


def test_chunked_input_has_no_length(probe: Server) -> None:
    with probe.client() as c:
        c.send("POST /environ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        e = json.loads(c.response().body)["environ"]
    assert e.get("CONTENT_LENGTH", "") == ""
    assert e.get("wsgi.input_terminated") is True


# ---- responses


def test_headers_go_out_as_given(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/headers?h=X-One:1&h=Set-Cookie:a%3D1&h=Set-Cookie:b%3D2&h=X-Empty:&h=x-l:h%C3%A9")
    assert answer.all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.get("X-One") == "1"
    assert answer.get("X-Empty") == ""


def test_own_date_and_server_are_kept(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/headers?h=Server:mine&h=Date:Mon,+01+Jan+2024+00:00:00+GMT")
    assert answer.get("Server") == "mine"
    assert answer.get("Date") == "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize("name", ["Connection:close", "Transfer-Encoding:chunked", "Keep-Alive:5", "Upgrade:x"])
def test_hop_by_hop_headers_are_not_the_applications(probe: Server, name: str) -> None:
    """PEP 3333 forbids them: dropped or answered with 500, but the connection's framing stays sound."""
    probe.allow(r"/headers")
    with probe.client() as c:
        answer = c.request(f"/headers?h={name}")
        assert answer.status in (200, 500)
        if answer.status == 200:
            assert answer.body == b"ok\n"
        if answer.get("Connection") != "close":
            assert c.request("/").body == b"Hello, world!\n"


def test_write_callable(probe: Server) -> None:
    with probe.client() as c:
        assert c.request("/write").body == b"written, twice, and returned\n"
        assert c.request("/").status == 200


def test_more_than_declared_is_cut(probe: Server) -> None:
    probe.allow(r"/long")
    with probe.client() as c:
        assert c.request("/long").body == b"12345"
        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:  # the connection may end after that, but nothing stands between the answers
            assert c.response().body == b"Hello, world!\n"
        except (Broken, ConnectionResetError):
            assert not c.buffer


def test_less_than_declared_is_noticed(probe: Server) -> None:
    """An error where nothing was sent yet, else an answer that is visibly cut."""
    probe.allow(r"/short")
    with probe.client() as c:
        try:
            assert c.request("/short").status == 500
        except Broken as error:
            assert "before the end" in str(error)
    probe.wait_log(r"Content-Length is 100: GET /short")


# ---- close()


def closings(server: Server, name: str) -> int:
    return int(server.get(f"/closed?name={name}"))


@pytest.mark.parametrize(
    "query", ["", "&n=0", "&n=1", "&n=100&size=10000", "&trouble=iter", "&trouble=close", "&trouble=nostart"]
)
def test_close_is_called_once(probe: Server, query: str) -> None:
    probe.allow(r"/closing")
    name = next(names)
    with probe.client() as c:
        try:
            c.request(f"/closing?name={name}{query}")
        except Broken:
            assert "trouble" in query
    until(lambda: closings(probe, name) > 0, "close()")
    assert closings(probe, name) == 1


@pytest.mark.parametrize("line", ["204+No+Content", "304+Not+Modified"])
def test_close_for_statuses_without_body(probe: Server, line: str) -> None:
    name = next(names)
    with probe.client() as c:
        c.request(f"/closing?name={name}&line={line}")
    until(lambda: closings(probe, name) == 1, "close()")


def test_close_for_head(probe: Server) -> None:
    name = next(names)
    with probe.client() as c:
        assert c.request(f"/closing?name={name}", method="HEAD").status == 200
    until(lambda: closings(probe, name) == 1, "close()")


def test_close_when_the_client_leaves(start: Start, worker: str, gate: Gate) -> None:
    server = start(config(pool(worker)))
    server.allow(r"/closing")
    with server.client() as c:
        c.send(f"GET /closing?name=left&n=100&size=1000000&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.head().status == 200
        assert len(c.chunk()) > 0
    gate.remove()
    until(lambda: closings(server, "left") == 1, "close()")


def test_close_while_waiting_for_the_client(start: Start, worker: str) -> None:
    """The generator is in the middle of a piece that the client does not take, and then the client is gone."""
    server = start(config(pool(worker)))
    with server.client() as c:
        c.send("GET /closing?name=stuck&n=1000&size=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.head().status == 200
    until(lambda: closings(server, "stuck") == 1, "close()")


# ---- files

DATA = bytes(range(256)) * 4096  # 1 MiB
HUGE = 64 << 20  # more than any socket's buffers


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def test_file_wrapper(probe: Server, data: Path) -> None:
    """Status and headers are the application's; the file goes from its position to Content-Length or its end."""
    with probe.client() as c:
        for query, want in (
            ("", DATA),
            ("&at=1000", DATA[1000:]),
            ("&at=1048575", DATA[-1:]),
            ("&at=1048576", b""),
            ("&at=2000000", b""),
            ("&at=500&length=300000&line=206+Partial+Content", DATA[500:300500]),
            ("&at=500&length=3", DATA[500:503]),
        ):
            for _ in range(2):
                answer = c.request(f"/file?path={data}{query}", headers=("Range: bytes=1-2",))
                assert answer.status == (206 if "206" in query else 200)
                assert answer.body == want
                assert answer.get("X-Own") == "kept"
                assert answer.get("Content-Range") is None
            head = c.request(f"/file?path={data}{query}", method="HEAD")
            if want:
                assert head.get("Content-Length") == answer.get("Content-Length") == str(len(want))


def test_file_wrapper_between_pipelined_requests(probe: Server, data: Path) -> None:
    with probe.client() as c:
        one = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
        c.send(
            one.format("/")
            + one.format(f"/file?path={data}")
            + one.format("/write")
            + one.format(f"/file?path={data}&at=9")
        )
        assert [c.response().body for _ in range(4)] == [
            b"Hello, world!\n",
            DATA,
            b"written, twice, and returned\n",
            DATA[9:],
        ]


def huge(tmp_path: Path) -> Path:
    path = tmp_path / "huge"
    with path.open("wb") as f:
        for _ in range(HUGE // len(DATA)):
            f.write(DATA)
    return path


def test_file_is_sent_while_the_call_is_over(start: Start, worker: str, tmp_path: Path) -> None:
    """A client that takes its time with a file keeps no thread of the application, in `sync` not the process."""
    path = huge(tmp_path)
    server = start(config(pool(worker, threads=1)))
    with server.client() as c:
        c.send(f"GET /file?path={path}&unlink=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head = c.head()
        assert head.get("Content-Length") == str(HUGE)
        facts = json.loads(server.get("/process"))
        assert not path.exists()
        assert [f for f in facts["fds"].values() if f.startswith(str(path))], "the file has a descriptor of its own"
        assert c.exactly(HUGE) == DATA * (HUGE // len(DATA))
    until(lambda: not opened(server, path), "the descriptor to be closed")


def opened(server: Server, path: Path) -> list[str]:
    return [f for f in json.loads(server.get("/process"))["fds"].values() if f.startswith(str(path))]


def test_file_and_a_client_that_leaves(start: Start, worker: str, tmp_path: Path) -> None:
    path = huge(tmp_path)
    server = start(config(pool(worker)))
    for _ in range(3):
        with server.client() as c:
            c.send(f"GET /file?path={path} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.head().status == 200
    until(lambda: not opened(server, path), "the descriptors to be closed")


def test_file_that_gets_shorter(start: Start, worker: str, tmp_path: Path) -> None:
    """What was promised cannot be kept: the connection ends, and the client can tell."""
    path = huge(tmp_path)
    server = start(config(pool(worker)))
    server.allow(r"huge has become \d+ bytes shorter while it was being sent")
    with server.client() as c:
        c.send(f"GET /file?path={path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.head().status == 200
        with path.open("r+b") as f:
            f.truncate(1 << 20)
        with pytest.raises((Broken, ConnectionResetError)):
            c.exactly(HUGE)
    assert not opened(server, path)


# ---- the specification


def test_the_audit_names_tests_that_exist() -> None:
    """docs/wsgi.md has a row per rule of PEP 3333; each names tests."""
    text = (ROOT / "docs" / "wsgi.md").read_text()
    audit = text[text.index("## PEP 3333, rule by rule") : text.index("## Beyond PEP 3333")]
    rows = re.findall(r"^\|.*\|$", audit, re.M)[2:]
    assert len(rows) > 40
    unit, here = ROOT / "test" / "unit", ROOT / "test" / "integration"
    for row in rows:
        tests = re.findall(r"`(test_\w+)`(?: \(([\w.]+)\))?", row.rpartition(" | ")[2])
        assert tests, row
        for name, place in tests:
            files = {"C": unit / "test_py_call.c", "B": unit / "test_py_boot.c", "": here / "test_wsgi.py"}
            source = files.get(place, here / place).read_text()
            assert re.search(rf"^(?:def )?{name}\(", source, re.M), (name, place)


# ---- wsgiref.validate


@pytest.fixture(scope="module")
def valid(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What it finds is a 500, or in the log: the server's end fails then."""
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(config(pool(worker, app="valid_app:app")))


VALID: list[tuple[str, str, int, bytes]] = [
    ("GET", "/", 200, b"http://test/"),
    ("GET", "/x%20y?a=b", 200, b"http://test/x%20y?a=b"),
    ("GET", "/generator", 200, b"one two"),
    ("GET", "/write", 200, b"one two three"),
    ("GET", "/file", 200, (APPS / "valid_app.py").read_bytes()),
    ("GET", "/replaced", 503, b"replaced"),
    ("GET", "/204", 204, b""),
    ("GET", "/304", 304, b""),
    ("OPTIONS", "*", 200, b"http://test/"),
    ("POST", "/echo", 200, b"||"),
]


@pytest.mark.parametrize(("method", "target", "status", "body"), VALID)
def test_validator(valid: Server, method: str, target: str, status: int, body: bytes) -> None:
    with valid.client() as c:
        for _ in range(3):  # also with environs that are used again
            answer = c.request(target, method=method)
            assert (answer.status, answer.body) == (status, body)
        if method == "GET":
            answer = c.request(target, method="HEAD")
            assert (answer.status, answer.body) == (status, b"")


def test_validator_with_a_body(valid: Server) -> None:
    want = b"line| one\n|two|\n|three\n|four"
    with valid.client() as c:
        for _ in range(3):
            assert c.request("/echo", method="POST", body=b"line one\ntwo\nthree\nfour").body == want
            c.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nline one\r\n")
            c.send("10\r\n\ntwo\nthree\nfour\n\r\n0\r\n\r\n")
            assert c.response().body == want + b"\n"
    with valid.client() as c:
        c.send("GET http://elsewhere/abs?x HTTP/1.1\r\nHost: elsewhere\r\n\r\nGET /old HTTP/1.0\r\n\r\n")
        assert c.response().body == b"http://elsewhere/abs?x"
        assert c.response().body.startswith(b"http://127.0.0.1:")


# ---- SCRIPT_NAME and variables of the configuration


def test_script_name_and_environ(start: Start, worker: str) -> None:
    block = 'script_name /app; environ my.option "a b"; environ SITE_NAME "ü";'
    server = start(config(pool(worker, block=block)))
    with server.client() as c:
        assert c.request("/environ").status == 404
        assert c.request("/application").status == 404
        answer = c.request("/app/environ?q")
        e = json.loads(answer.body)["environ"]
    assert (e["SCRIPT_NAME"], e["PATH_INFO"], e["QUERY_STRING"]) == ("/app", "/environ", "q")
    assert e["RAW_URI"] == e["REQUEST_URI"] == e["gunicorn.raw_uri"] == "/app/environ?q"
    assert e["my.option"] == "a b"
    assert e["SITE_NAME"].encode("latin-1") == "ü".encode()


# ---- errors


def test_exception_is_500_and_logged(probe: Server) -> None:
    probe.allow(r"GET /fail\?x=1")
    with probe.client() as c:
        answer = c.request("/fail?x=1")
        assert answer.status == 500
        assert b"Trouble" not in answer.body, "an error page shows nothing of the application"
        assert c.request("/").status == 200
    probe.wait_log(r"Trouble: raised before start_response")
    log = probe.log
    assert "Traceback (most recent call last)" in log
    assert re.search(r"application error: GET /fail\?x=1", log)
    assert "probe.py" in log


def test_exception_between_head_and_body_is_500(probe: Server) -> None:
    """The head was not sent yet: PEP 3333 lets the server change it."""
    probe.allow(r"GET /fail-before-body")
    with probe.client() as c:
        assert c.request("/fail-before-body").status == 500
        assert c.request("/").status == 200


def cut_or_error(c: Client, target: str) -> Response | None:
    """An answer that is cut after its first part; or None: an error, since nothing of it was out yet."""
    c.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = c.head()
    if answer.status == 500:
        return None
    assert answer.status == 200
    assert c.chunk() == b"first part\n"
    with pytest.raises((Broken, ConnectionResetError)):
        c.chunk()
    return answer


def test_exception_after_the_first_part(probe: Server) -> None:
    """The client can tell that it did not get everything."""
    probe.allow(r"GET /fail-late")
    with probe.client() as c:
        cut_or_error(c, "/fail-late")
    probe.wait_log(r"Trouble: raised after the first part")


def test_exc_info_replaces_the_head(probe: Server) -> None:
    with probe.client() as c:
        answer = c.request("/exc-info")
        assert answer.status == 503
        assert answer.get("X-First") is None
        assert answer.get("X-Second") == "yes"
        assert answer.body == b"replaced\n"


def test_exc_info_after_the_head_raises(probe: Server) -> None:
    probe.allow(r"GET /exc-info\?late=1")
    with probe.client() as c:
        answer = cut_or_error(c, "/exc-info?late=1")
        assert answer is None or answer.get("X-First") == "yes"
    probe.wait_log(r"Trouble: handled by the application")


@pytest.mark.parametrize("path", ["/no-start", "/start-twice"])
def test_start_response_rules(probe: Server, path: str) -> None:
    probe.allow(rf"GET {path}")
    with probe.client() as c:
        assert c.request(path).status == 500
        assert c.request("/").status == 200


KINDS = (
    "status-type status-bytes status-short status-word status-newline headers-type header-type header-name-bytes "
    "header-newline header-name header-latin body-none body-int body-str body-number"
).split()


@pytest.mark.parametrize("kind", KINDS)
def test_misuse(probe: Server, kind: str) -> None:
    probe.allow(rf"GET /misuse\?kind={kind}")
    with probe.client() as c:
        answer = c.request(f"/misuse?kind={kind}")
        assert answer.status == 500
        assert answer.get("Injected") is None
        assert c.request("/").status == 200
    probe.wait_log(rf"GET /misuse\?kind={kind}\b")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("header-type", "TypeError: start_response: the value of header 'X-Number' is int, not str"),
        ("header-name-bytes", "TypeError: start_response: the name of header b'X-Bytes' is bytes, not str"),
        ("header-newline", "ValueError: start_response: the value of header 'X-Bad' has control characters"),
        ("header-latin", "ValueError: start_response: the value of header 'X-Bad' has characters outside latin-1"),
        ("header-name", "ValueError: start_response: 'X Bad' is not a header name"),
    ],
)
def test_misuse_is_named(probe: Server, kind: str, says: str) -> None:
    """The header, and the line of the application that gave it."""
    probe.allow(rf"GET /misuse\?kind={kind}")
    with probe.client() as c:
        assert c.request(f"/misuse?kind={kind}").status == 500
    probe.wait_log(
        rf"GET /misuse\?kind={kind} (?:.*\n    )+.*probe\.py\", line \d+, in <lambda>\n(?:    .*\n)+    {says}"
    )


def test_wsgi_errors_goes_to_the_log(probe: Server) -> None:
    probe.allow(r"from the application")
    assert probe.get("/log?text=from+the+application") == "logged\n"
    probe.wait_log(r"from the application")


# ---- where the application comes from


def test_factory(start: Start, worker: str) -> None:
    assert start(config(pool(worker, app="probe:create()"))).get("/made") == "created"


def test_environment_and_paths(start: Start, worker: str, tmp_path: Path) -> None:
    extra = tmp_path / "extra folder"
    extra.mkdir()
    (extra / "other.py").write_text("from probe import app\n")
    block = f'pythonpath {quote(extra)} {quote(APPS)}; env ONE 1; env TWO "two words";'
    server = start(config(pool(worker, app="other:app", block=block, chdir=tmp_path)))
    facts = environ(server, "/process")
    assert facts["cwd"] == str(tmp_path)
    assert facts["env"]["ONE"] == "1"
    assert facts["env"]["TWO"] == "two words"
    assert str(extra) in facts["path"]


def test_venv(start: Start, worker: str) -> None:
    server = start(config(pool(worker, block=f"venv {quote(VENV)};")))
    facts = environ(server, "/process")
    assert facts["prefix"] == str(VENV)
    assert any(p.startswith(f"{VENV}/lib") and p.endswith("site-packages") for p in facts["path"])


@pytest.mark.parametrize(
    ("app", "why"),
    [
        ("asgi", "'wrong_apps:asgi' is an ASGI application; this version of licorne runs WSGI applications only"),
        ("asgi_object", "'wrong_apps:asgi_object' is an ASGI application"),
        (
            "create_app",
            r"no WSGI application: it cannot be called with .*; a factory is written wrong_apps:create_app\(\)",
        ),
        (
            "view",
            r"'wrong_apps:view' is no WSGI application: it cannot be called with \(environ, start_response\)",
        ),
    ],
)
def test_what_is_no_wsgi_application_does_not_start(tmp_path: Path, app: str, why: str) -> None:
    (tmp_path / "wrong_apps.py").write_text(
        "import functools\n"
        "async def asgi(scope, receive, send): pass\n"
        "class Asgi:\n"
        "    async def __call__(self, scope, receive, send): pass\n"
        "asgi_object = Asgi()\n"
        "def create_app(debug=False): return None\n"
        "def view(request): return None\n"
    )
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool(app=f"wrong_apps:{app}", chdir=tmp_path)))
    done = run("-c", conf)
    assert done.returncode == 3
    assert re.search(why, done.stderr, re.M), done.stderr


def test_a_decorator_hides_what_it_wraps(start: Start, tmp_path: Path) -> None:
    """As werkzeug's Request.application: what matters is what the wrapper takes."""
    (tmp_path / "wrapped_app.py").write_text(
        "import functools\n"
        "def wsgi(view):\n"
        "    @functools.wraps(view)\n"
        "    def app(*args):\n"
        "        environ, start_response = args\n"
        "        start_response('200 OK', [])\n"
        "        return [view(environ['PATH_INFO'])]\n"
        "    return app\n"
        "@wsgi\n"
        "def app(request): return request.encode()\n"
    )
    server = start(config(pool(app="wrapped_app:app", chdir=tmp_path)))
    assert server.get("/abc") == "/abc"


@pytest.mark.parametrize("body", [b"a" * 8190 + b"\nbcd\n", b"a" * 8191 + b"\n\n" + b"b" * 20000, b"x\n" * 9000])
def test_lines_of_any_length(probe: Server, body: bytes) -> None:
    """A line whose first piece is one byte long is as good as any."""
    with probe.client() as c:
        answer = c.request("/by-lines", method="POST", body=body).body.decode()
        assert answer.split()[1] == hashlib.sha256(body).hexdigest()
        c.send(f"POST /by-lines HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n")
        c.sock.sendall(body[:1])
        c.sock.sendall(body[1:])
        assert c.response().body.decode() == answer


def test_write_is_of_the_requests_thread(probe: Server) -> None:
    with probe.client() as c:
        said = c.request("/write-elsewhere").body.decode()
    assert said == "RuntimeError: write() must be called in the thread that runs the request"


def test_one_target_two_paths(probe: Server) -> None:
    """OPTIONS http://host is about the server, GET http://host about its root (RFC 9112 3.2.4)."""
    with probe.client() as c:
        for method in ("GET", "OPTIONS", "GET", "GET", "OPTIONS", "OPTIONS", "GET"):
            answer = c.request("http://other.example", method=method)
            assert (answer.status, answer.body[:5]) == ((200, b"Hello") if method == "GET" else (404, b"no su"))
