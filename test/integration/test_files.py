# SPDX-License-Identifier: BSD-2-Clause
"""File slices: a handler's files reach the client by sendfile(), exact, whole or visibly not, and in nobody's memory."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import Broken, Client
from conftest import Start, starter
from harness import Server, config, memory, pool, quote, until
from test_routes import HANDLER, reset

SMALL = 3_000
MEDIUM = 5_000_000
LARGE = 1 << 30


def content(n: int) -> bytes:
    return hashlib.shake_128(b"licorne").digest(n)


def route(name: str, path: Path, size: int) -> str:
    return f"route /{name} t_handler {{ mode file; path {quote(path)}; size {size}; }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose first byte is not sent; the large one is sparse, with something at its end."""
    folder = tmp_path_factory.mktemp("files")
    for name, size in (("small", SMALL), ("medium", MEDIUM)):
        (folder / name).write_bytes(content(size + 1))
    with (folder / "large").open("wb") as f:
        f.truncate(LARGE + 1)
        f.seek(LARGE - 10)
        f.write(b"0123456789X")
    return folder


def serve(worker: str, folder: Path) -> str:
    routes = [route(n, folder / n, s) for n, s in (("small", SMALL), ("medium", MEDIUM), ("large", LARGE))]
    routes.append("route /count t_handler { mode count; }")
    return config(pool(worker, inside="\n".join(routes)), main=f"load_module {quote(HANDLER)};")


@pytest.fixture(scope="module")
def server(worker: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(serve(worker, folder))


def files(server: Server) -> int:
    return int(server.get("/count").split()[7])


def ask(c: Client, path: str) -> None:
    c.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")


def test_bytes_are_those_of_the_file(server: Server) -> None:
    with server.client() as c:
        for _ in range(3):
            assert c.request("/small").body == content(SMALL + 1)[1:]
            assert c.request("/medium").body == content(MEDIUM + 1)[1:]
            assert c.request("/").text == "Hello, world!\n"
    assert files(server) == 0


def test_chunked(server: Server) -> None:
    with server.client() as c:
        for name, size in (("small", SMALL), ("medium", MEDIUM)):
            answer = c.request(f"/{name}?")
            assert answer.get("Transfer-Encoding") == "chunked"
            assert answer.body == content(size + 1)[1:]
    with server.client() as c:
        answer = c.request("/medium?", version="1.0")
        assert answer.body == content(MEDIUM + 1)[1:]
        assert c.ended()


def test_head(server: Server) -> None:
    with server.client() as c:
        answer = c.request("/large", method="HEAD")
        assert answer.get("Content-Length") == str(LARGE)
        assert c.request("/small").body == content(SMALL + 1)[1:]
    assert files(server) == 0


def test_pipelined(server: Server) -> None:
    names = ["small", "medium", "small", "small", "medium"]
    with server.client() as c:
        c.send("".join(f"GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n" for n in names))
        for n in names:
            assert c.response().body == content({"small": SMALL, "medium": MEDIUM}[n] + 1)[1:]


def test_a_large_one_is_in_nobodys_memory(server: Server) -> None:
    (pid,) = server.workers()
    before = memory(pid)
    with server.client() as c:
        ask(c, "/large")
        assert c.head().get("Content-Length") == str(LARGE)
        left, last = LARGE, b""
        most = 0
        while left:
            data = c.buffer or c.sock.recv(1 << 20)
            c.buffer = b""
            assert data, "ended early"
            left -= len(data)
            last = (last + data)[-10:]
            if left % 64 == 0:  # now and then
                most = max(most, memory(pid))
        assert last == b"123456789X"
        assert most - before < 4 << 20
        assert c.request("/small").status == 200
    assert files(server) == 0


def test_a_slow_reader_holds_nothing(server: Server) -> None:
    """Nobody reads; meanwhile others are served."""
    (pid,) = server.workers()
    before = memory(pid)
    slow = []
    for _ in range(20):
        c = server.client()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask(c, "/large")
        c.head()
        slow.append(c)
    for _ in range(10):
        assert server.get("/") == "Hello, world!\n"
    assert files(server) == 20
    assert memory(pid) - before < 8 << 20
    for c in slow[:10]:
        reset(c)
    until(lambda: files(server) == 10, "the files of clients that are gone")
    for c in slow[10:]:
        c.close()  # with unread bytes: a reset, too
    until(lambda: files(server) == 0, "all files")


def test_a_file_that_becomes_shorter(start: Start, worker: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "shrinks"
    path.write_bytes(content(1000))
    text = config(
        pool(worker, inside=route("shrinks", path, 2000) + "route /count t_handler { mode count; }"),
        main=f"load_module {quote(HANDLER)};",
    )
    server = start(text)
    server.allow(r"the file \S+/shrinks has become \d+ bytes shorter while it was being sent: connection reset")
    for query in ("", "?"):
        with server.client() as c:
            ask(c, f"/shrinks{query}")
            with pytest.raises((Broken, ConnectionResetError)):
                c.response()
    with server.client() as c:  # the end of the connection is the end of the body: it must not look like one
        c.send("GET /shrinks? HTTP/1.0\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            c.response()
    server.wait_log("has become 1001 bytes shorter", 3)
    assert files(server) == 0


def test_a_file_without_sendfile(start: Start, worker: str) -> None:
    """Files of /proc have no pages: where the kernel has no sendfile() for them they are read and written."""
    size = len(Path("/proc/self/maps").read_bytes()) // 4
    text = config(
        pool(worker, inside=route("maps", Path("/proc/self/maps"), size)), main=f"load_module {quote(HANDLER)};"
    )
    server = start(text)
    with server.client() as c:
        assert b"r-xp" in c.request("/maps").body
