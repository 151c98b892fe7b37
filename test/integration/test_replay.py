# SPDX-License-Identifier: BSD-2-Clause
"""However the bytes of a request arrive, the answer is the same: whole, one byte at a time, cut at random.

Over a UNIX socket a byte is known to have been read before the next is sent (SIOCOUTQ), so each is a read of its own.
"""

from __future__ import annotations

import array
import fcntl
import random
import re
import socket
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Start, starter
from harness import Server, config, pool, until
from test_http import BAD

CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CORPUS = {
    "get": LAST,
    "http/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + LAST,
    "query": b"GET /environ?a=%20&b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n" + LAST,
    "length": b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world" + LAST,
    "chunked": CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n" + LAST,
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n" + LAST,
    "binary body": b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 256\r\n\r\n" + bytes(range(256)) + LAST,
    "pipeline": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5 + LAST,
    "pipeline of kinds": (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /status?line=304+Not+Modified HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + LAST
    ),
    "unread body": b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"
    + b"GET / HTTP/1.1\r\n\r\n\r\n"
    + LAST,
    "expect": (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" + LAST),
    "empty lines": b"\r\n\r\n" + LAST,
    "stream": b"GET /big?n=3000&chunk=1000&length=1 HTTP/1.1\r\nHost: x\r\n\r\n" + LAST,
    "error": b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n" + LAST,
    "long field": b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"v" * 3000 + b"\r\n\r\n" + LAST,
    "many fields": b"GET / HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(50))
    + b"\r\n"
    + LAST,
    **{f"bad: {name}": data for name, data in BAD.items()},
}


@pytest.fixture(scope="module")
def by_unix(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("replay")
    start: Start
    for start in starter(folder):
        server = start(config(pool(worker, listen=[f"unix:{folder}/socket"])))
        server.allow(r"GET /fail", r"POST /echo")
        yield server


def unsent(sock: socket.socket) -> int:
    n = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, n)
    return n[0]


def replay(server: Server, data: bytes, cuts: Callable[[bytes], Iterator[bytes]]) -> bytes:
    """Everything that the server says to these bytes, with what differs from time to time taken out."""
    with server.client() as c:
        for piece in cuts(data):
            try:
                c.sock.send(piece)
                until(lambda: unsent(c.sock) == 0, "the server reads")
            except (BrokenPipeError, ConnectionResetError):
                break  # it has said all that it wants to say
        c.sock.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while data := c.sock.recv(65536):
                parts.append(data)
        except ConnectionResetError:
            pass
        text = b"".join(parts)
    text = re.sub(rb"Date: [^\r]*", b"Date: now", text, flags=re.I)
    # an interim answer depends on whether the body was there already: both are right
    return text.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for i in range(len(data)):
        yield data[i : i + 1]


def at_random(seed: int) -> Callable[[bytes], Iterator[bytes]]:
    def cuts(data: bytes) -> Iterator[bytes]:
        rng = random.Random(seed)
        at = 0
        while at < len(data):
            n = rng.choice((1, 2, 3, 5, 17, 60, 200))
            yield data[at : at + n]
            at += n

    return cuts


@pytest.mark.parametrize("name", CORPUS)
def test_splits_do_not_matter(by_unix: Server, name: str) -> None:
    data = CORPUS[name]
    want = replay(by_unix, data, whole)
    assert want.startswith(b"HTTP/1.1 "), want
    assert replay(by_unix, data, bytewise) == want
    for seed in range(5):
        assert replay(by_unix, data, at_random(seed)) == want, seed
