# SPDX-License-Identifier: BSD-2-Clause
"""A plain WSGI application that tests steer: what the path names is what it does.

Whatever must wait waits for a gate: a FIFO that the test opens for writing when it is time to go on.  Nothing sleeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Body = Iterable[bytes]

TEXT = [("Content-Type", "text/plain")]
closes: dict[str, int] = {}
lock = threading.Lock()
running = 0
most_running = 0


def gate(path: str) -> None:
    """Wait until the test opens the FIFO for writing and closes it."""
    if path:
        with Path(path).open("rb") as fifo:
            fifo.read()


def mark(path: str) -> None:
    """Tell the test, by an empty file, that this point was reached."""
    if path:
        Path(path).touch()


def one(query: dict[str, list[str]], name: str, default: str = "") -> str:
    return query.get(name, [default])[0]


def plain(start_response: StartResponse, text: str | bytes, status: str = "200 OK") -> Body:
    body = text.encode() if isinstance(text, str) else text
    start_response(status, [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def reply_json(start_response: StartResponse, value: object) -> Body:
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


# ---- facts


def hello(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    return plain(start_response, "Hello, world!\n")


def show_environ(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    facts = {}
    for key, value in environ.items():
        plain_value = isinstance(value, str | int | bool | tuple | type(None))
        facts[key] = value if plain_value else f"<{type(value).__name__}>"
    return reply_json(
        start_response,
        {"environ": facts, "types": {k: type(v).__name__ for k, v in environ.items()}, "pid": os.getpid()},
    )


def process(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Who runs this: pid, thread, identity, descriptors."""
    status = Path("/proc/self/status").read_text()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listdir() had open
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return reply_json(
        start_response,
        {
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "thread": threading.current_thread().name,
            "threads": len(os.listdir("/proc/self/task")),
            "status": dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line),
            "fds": fds,
            "cwd": str(Path.cwd()),
            "path": sys.path,
            "prefix": sys.prefix,
            "version": sys.version.split()[0],
            "env": dict(os.environ),
        },
    )


def pid(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    return plain(start_response, f"{os.getpid()} {threading.get_native_id()}")


# ---- request bodies


def echo(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """The body in one read(); says how the request came in a header of its own."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body))), ("X-Method", environ["REQUEST_METHOD"])])
    return [body]


def echo_stream(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Iterator[bytes]:
    """The body as it comes, chunk by chunk."""
    start_response("200 OK", TEXT)
    while chunk := environ["wsgi.input"].read(1000):
        yield chunk


def lines(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """readline(), readline(n), readlines() and iteration over the input, in that order."""
    source = environ["wsgi.input"]
    parts = {"readline": source.readline(), "readline3": source.readline(3), "next": next(iter(source), b"")}
    answer: dict[str, object] = {k: v.decode("latin-1") for k, v in parts.items()}
    answer["rest"] = [line.decode("latin-1") for line in source.readlines()]
    answer["end"] = [source.read().decode(), source.read(5).decode(), source.readline().decode()]
    return reply_json(start_response, answer)


def digest(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """SHA-256 of the body; with ``gate``: stops after ``stop`` bytes until the gate opens."""
    size = int(one(query, "size", "65536"))
    stop = int(one(query, "stop", "0"))
    sha, total, waited = hashlib.sha256(), 0, False
    while chunk := environ["wsgi.input"].read(size):
        sha.update(chunk)
        total += len(chunk)
        if not waited and total >= stop:
            waited = True
            mark(one(query, "mark"))
            gate(one(query, "gate"))
    return reply_json(start_response, {"sha256": sha.hexdigest(), "length": total, "pid": os.getpid()})


def trailers(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    source = environ["wsgi.input"]
    body = source.read() if one(query, "read", "1") == "1" else b""
    answer = {"body": body.decode("latin-1"), "trailers": source.trailers(), "again": source.trailers()}
    return reply_json(start_response, answer)


def ignore(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Answers without reading the body."""
    return plain(start_response, "ignored\n")


# ---- responses


def block(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def big(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Iterator[bytes]:
    """``n`` bytes in pieces of ``chunk``; ``length=1`` declares them."""
    left, chunk = int(one(query, "n", "1000000")), int(one(query, "chunk", "65536"))
    headers = [*TEXT, *([("Content-Length", str(left))] if one(query, "length") else [])]
    start_response("200 OK", headers)
    piece = block(chunk)
    while left > 0:
        yield piece if left >= chunk else piece[:left]
        left -= chunk


def stream(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Iterator[bytes]:
    """``n`` pieces; a gate before each but the first."""
    start_response("200 OK", TEXT)
    for i in range(int(one(query, "n", "3"))):
        if i:
            gate(one(query, "gate"))
        yield f"piece {i}\n".encode()


def wait(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Says by ``mark`` that it runs, waits for ``gate``, answers; counts how many do so at once."""
    global running, most_running
    with lock:
        running += 1
        most_running = max(most_running, running)
    mark(one(query, "mark"))
    try:
        gate(one(query, "gate"))
    finally:
        with lock:
            running -= 1
    return plain(start_response, f"waited {os.getpid()} {threading.get_native_id()}\n")


def sleep(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """A call that takes its time: for tests about slow calls, never as a stand-in for an event."""
    time.sleep(float(one(query, "s", "0.01")))
    return plain(start_response, f"{os.getpid()} {threading.get_native_id()}")


def by_lines(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """SHA-256 of the body, read line by line."""
    sha, n = hashlib.sha256(), 0
    while line := environ["wsgi.input"].readline(int(one(query, "size", "-1"))):
        sha.update(line)
        n += 1
    return plain(start_response, f"{n} {sha.hexdigest()}")


def write_elsewhere(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """write() in a thread of its own."""
    write, said = start_response("200 OK", TEXT), []

    def attempt() -> None:
        try:
            write(b"never")
        except Exception as e:
            said.append(f"{type(e).__name__}: {e}".encode())

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return said


def hold(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """As ``sleep``, in C code that keeps the GIL."""
    ctypes.PyDLL(None).usleep(int(1e6 * float(one(query, "s", "0.01"))))
    return plain(start_response, f"{os.getpid()} {threading.get_native_id()}")


def most(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    return plain(start_response, f"{running} {most_running}")


def status(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Any status line, with a body that 204 and 304 must not carry."""
    start_response(one(query, "line", "200 OK"), TEXT)
    return [b"a body\n"] if one(query, "body", "1") == "1" else []


def headers(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Each ``h=Name:value`` becomes a header of the response, as it is."""
    start_response("200 OK", [(h.partition(":")[0], h.partition(":")[2]) for h in query.get("h", [])])
    return [b"ok\n"]


def write_callable(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    write(b"")
    write(b"twice, ")
    return [b"and returned\n"]


def file(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """The file ``path`` from ``at`` on, ``length`` bytes if given, unlinked and closed as soon as possible."""
    f = open(one(query, "path"), "rb")
    f.seek(int(one(query, "at", "0")))
    if one(query, "unlink"):
        os.unlink(f.name)
    headers = [*TEXT, *([("Content-Length", one(query, "length"))] if one(query, "length") else [])]
    start_response(one(query, "line", "200 OK"), [*headers, ("X-Own", "kept")])
    body: Body = environ["wsgi.file_wrapper"](f, 8192)
    return body


def empty(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    start_response("200 OK", TEXT)
    return []


# ---- errors and misuse


class Trouble(Exception):
    """Its text appears in no source line, so that a log line with it comes from the exception."""


def fail(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    raise Trouble("raised before " + "start_response")


def fail_late(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"first part\n"
    raise Trouble("raised after " + "the first part")


def fail_before_body(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    start_response("200 OK", TEXT)
    raise Trouble("raised between " + "head and body")


def exc_info(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Iterator[bytes]:
    """Replaces its own head by an error page; after the first part that re-raises."""
    start_response("200 OK", [("X-First", "yes")])
    if one(query, "late"):
        yield b"first part\n"
    try:
        raise Trouble("handled by " + "the application")
    except Trouble:
        start_response("503 Service Unavailable", [("X-Second", "yes"), *TEXT], sys.exc_info())
    yield b"replaced\n"


def no_start(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    return [b"no head"]


def start_twice(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"twice"]


def misuse(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Any:
    """What PEP 3333 forbids, one way per name; every one ends in 500 and a line in the log."""
    kind = one(query, "kind")
    fine = "200 OK"
    bad: dict[str, Callable[[], Any]] = {
        "status-type": lambda: start_response(200, TEXT),
        "status-bytes": lambda: start_response(b"200 OK", TEXT),
        "status-short": lambda: start_response("20", TEXT),
        "status-word": lambda: start_response("abc OK", TEXT),
        "status-newline": lambda: start_response("200 OK\r\nX-Bad: 1", TEXT),
        "headers-type": lambda: start_response(fine, "nonsense"),
        "header-type": lambda: start_response(fine, [("X-Number", 1)]),
        "header-name-bytes": lambda: start_response(fine, [(b"X-Bytes", "1")]),
        "header-newline": lambda: start_response(fine, [("X-Bad", "a\r\nInjected: 1")]),
        "header-name": lambda: start_response(fine, [("X Bad", "a")]),
        "header-latin": lambda: start_response(fine, [("X-Bad", "\u20ac")]),
    }
    if kind in bad:
        bad[kind]()
        return [b"not refused"]
    start_response(fine, TEXT)
    values: dict[str, Any] = {"body-none": None, "body-int": 5, "body-str": ["text"], "body-number": [1]}
    return values[kind]


def short(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Declares more than it sends."""
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return [b"only this"]


def long(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """Sends more than it declares."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"12345", b"67890"]


class Closing:
    """An iterable whose close() is counted under a name."""

    def __init__(self, name: str, pieces: list[bytes], trouble: str, gate: str) -> None:
        self.name, self.pieces, self.trouble, self.gate = name, pieces, trouble, gate

    def __iter__(self) -> Iterator[bytes]:
        for i, piece in enumerate(self.pieces):
            if i:
                gate(self.gate)
            yield piece
        if self.trouble == "iter":
            raise Trouble("raised by " + "the iterator")

    def close(self) -> None:
        with lock:
            closes[self.name] = closes.get(self.name, 0) + 1
        if self.trouble == "close":
            raise Trouble("raised by " + "close()")


def closing(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    if one(query, "trouble") != "nostart":
        start_response(one(query, "line", "200 OK"), TEXT)
    pieces = [b"x" * int(one(query, "size", "10"))] * int(one(query, "n", "2"))
    return Closing(one(query, "name"), pieces, one(query, "trouble"), one(query, "gate"))


def closed(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    return plain(start_response, str(closes.get(one(query, "name"), 0)))


def log_error(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    print(one(query, "text", "a line"), file=environ["wsgi.errors"])
    environ["wsgi.errors"].flush()
    return plain(start_response, "logged\n")


def leave(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """The application ends its process, as a crash in an extension would."""
    os.abort()


def fork(environ: Environ, start_response: StartResponse, query: dict[str, list[str]]) -> Body:
    """A child that does nothing until the gate opens; it has copies of all sockets."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            gate(one(query, "gate"))
        os._exit(0)
    threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
    return plain(start_response, str(child))


paths: dict[str, Callable[[Environ, StartResponse, dict[str, list[str]]], Any]] = {
    "/": hello,
    "/environ": show_environ,
    "/process": process,
    "/pid": pid,
    "/echo": echo,
    "/echo-stream": echo_stream,
    "/lines": lines,
    "/digest": digest,
    "/ignore": ignore,
    "/trailers": trailers,
    "/big": big,
    "/stream": stream,
    "/wait": wait,
    "/sleep": sleep,
    "/hold": hold,
    "/by-lines": by_lines,
    "/write-elsewhere": write_elsewhere,
    "/most": most,
    "/status": status,
    "/headers": headers,
    "/write": write_callable,
    "/file": file,
    "/empty": empty,
    "/fail": fail,
    "/fail-late": fail_late,
    "/fail-before-body": fail_before_body,
    "/exc-info": exc_info,
    "/no-start": no_start,
    "/start-twice": start_twice,
    "/misuse": misuse,
    "/short": short,
    "/long": long,
    "/closing": closing,
    "/closed": closed,
    "/log": log_error,
    "/abort": leave,
    "/fork": fork,
}


def app(environ: Environ, start_response: StartResponse) -> Body:
    handler = paths.get(environ["PATH_INFO"])
    if handler is None:
        return plain(start_response, "no such path\n", "404 Not Found")
    body: Body = handler(environ, start_response, parse_qs(environ["QUERY_STRING"]))
    return body


def create(name: str = "created") -> Callable[[Environ, StartResponse], Body]:
    """A factory, for ``module:create()``."""

    def made(environ: Environ, start_response: StartResponse) -> Body:
        if environ["PATH_INFO"] == "/made":
            return plain(start_response, name)
        return app(environ, start_response)

    return made
