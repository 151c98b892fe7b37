# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 clients that mean harm: each is let go or held, memory stays bounded, and another connection is served.

A flood is sent until the server ends the connection; how much that takes is bounded by http2_abuse_limit and the like,
never by the time of the machine.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Start
from h2client import H2, Raw
from harness import SANITIZED, Server, memory, until
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from test_http2 import conf
from test_memory import watched

CALM, FLOW, COMPRESSION = 11, 3, 9
MOST = 6 << 20
GIVE_UP = 48 << 20  # bytes of a flood that a server has let pass; some MiB are in the sockets' buffers


@contextmanager
def bystander(server: Server) -> Iterator[H2]:
    """Another connection gets its answers all the while; and the worker's memory is watched."""
    (pid,) = server.workers()
    over = threading.Event()
    trouble: list[BaseException] = []
    answered = 0

    def ask(c: H2) -> None:
        nonlocal answered
        try:
            while not over.is_set():
                assert c.request("/").text == "Hello, world!\n"
                answered += 1
        except BaseException as error:
            trouble.append(error)

    with H2(server.socket()) as c:
        assert c.request("/").status == 200
        thread = threading.Thread(target=ask, args=(c,))
        with watched(pid) as watch:
            thread.start()
            try:
                yield c
                at = answered
                until(lambda: trouble or answered > at, "an answer on the other connection")
            finally:
                over.set()
                thread.join()
        assert not trouble, trouble
    assert server.workers() == [pid]
    if not SANITIZED:
        assert watch.growth < MOST, watch.growth


@pytest.fixture
def server(start: Start, worker: str) -> Server:
    return start(conf(worker))


def ends_calm(server: Server, c: Raw, sent: int) -> None:
    assert sent < GIVE_UP, f"{sent} bytes of it were taken"
    assert c.end() == CALM
    assert "ENHANCE_YOUR_CALM" in server.log


def test_rapid_reset(server: Server) -> None:
    with bystander(server), Raw(server.socket()) as c:
        sid, sent = 1, 0
        while not (c.closed or c.broken) and sent < GIVE_UP:
            batch = b"".join(
                c.headers(i, c.head(), "END_HEADERS", "END_STREAM") + RstStreamFrame(i, error_code=8).serialize()
                for i in range(sid, sid + 100, 2)
            )
            sid += 100
            c.send(batch)
            c.look()
            sent += len(batch)
        ends_calm(server, c, sent)
    assert sid < 3000


def floods() -> dict[str, bytes]:
    return {
        "settings": SettingsFrame(0, settings={4: 65535}).serialize() * 20,
        "ping": PingFrame(0, b"12345678").serialize() * 50,
        "pong": PingFrame(0, b"12345678", flags=["ACK"]).serialize() * 50,
        "priority": b"".join(PriorityFrame(i, 0, 1, False).serialize() for i in range(3, 203, 2)),
        "priority-update": (struct.pack(">I", 8)[1:] + b"\x10\0" + bytes(4) + struct.pack(">I", 9) + b"u=1 ") * 50,
        "reset": RstStreamFrame(1, error_code=8).serialize() * 20,
        "window-update": WindowUpdateFrame(0, window_increment=1).serialize() * 50,
    }


@pytest.mark.parametrize("kind", sorted(floods()))
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_flood(server: Server, kind: str, reads: bool) -> None:
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head(), "END_HEADERS", "END_STREAM"))
        sent = c.flood(floods()[kind], read=reads, most=GIVE_UP)
        ends_calm(server, c, sent)


def test_empty_data(server: Server) -> None:
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head("/echo", "POST"), "END_HEADERS"))
        ends_calm(server, c, c.flood(DataFrame(1, b"").serialize() * 50, most=GIVE_UP))


@pytest.mark.parametrize("fill", [b"", b"x"], ids=["empty", "fields"])
def test_continuation_without_end(server: Server, fill: bytes) -> None:
    """A header block that never ends, in empty frames, or with a field in each."""
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head()))
        block = b"\0\5x-one\5value" if fill else b""
        ends_calm(server, c, c.flood(ContinuationFrame(1, block).serialize() * 20, most=GIVE_UP))


def test_continuation_with_end(server: Server) -> None:
    """Request after request, each in many tiny frames."""
    with bystander(server), Raw(server.socket()) as c:
        sid, sent = 1, 0
        while not (c.closed or c.broken) and sent < GIVE_UP:
            block = c.head("/" + "a" * 60)
            frames = [HeadersFrame(sid, b"", flags=["END_STREAM"]).serialize()]
            frames += [ContinuationFrame(sid, b"").serialize() for _ in range(10)]
            frames += [ContinuationFrame(sid, block, flags=["END_HEADERS"]).serialize()]
            c.send(b"".join(frames))
            c.look()
            sent += sum(map(len, frames))
            sid += 2
        ends_calm(server, c, sent)


def test_empty_headers(server: Server) -> None:
    """Fields without name and value, a few bytes each (CVE-2019-9516)."""
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head()))
        ends_calm(server, c, c.flood(ContinuationFrame(1, b"\0\0\0" * 1000).serialize(), most=GIVE_UP))


def test_hpack_bomb(server: Server) -> None:
    """A large entry of the table, named again and again at a byte each."""
    with bystander(server), Raw(server.socket()) as c:
        big = (
            b"\x40\5x-bomb".replace(b"\5x-bomb", b"\6x-bomb")
            + b"\x7f"
            + bytes([0x80 | (3900 - 127) & 127, (3900 - 127) >> 7])
        )
        c.send(c.headers(1, c.head() + big + b"a" * 3900))
        ends_calm(server, c, c.flood(ContinuationFrame(1, b"\xbe" * 16000).serialize(), most=GIVE_UP))


def test_more_streams_than_allowed(start: Start, worker: str) -> None:
    """Before the settings are acknowledged each further stream is refused; a client that goes on is let go."""
    server = start(conf(worker, inside="http2_max_concurrent_streams 10;"))
    with bystander(server), Raw(server.socket()) as c:
        for sid in range(1, 22, 2):
            c.send(c.headers(sid, c.head("/echo", "POST"), "END_HEADERS"))
        c.until(lambda: c.reset_of(21) == 7, "the refusal of the eleventh")
        sid, sent = 23, 0
        while not (c.closed or c.broken) and sent < GIVE_UP:
            c.send(c.headers(sid, c.head("/echo", "POST"), "END_HEADERS"))
            c.look()
            sid += 2
            sent += 50
        ends_calm(server, c, sent)
    assert sid < 2000


def test_window_overflow(server: Server) -> None:
    with bystander(server):
        with Raw(server.socket()) as c:
            c.send(WindowUpdateFrame(0, window_increment=2**31 - 1).serialize())
            assert c.end() == FLOW
        with Raw(server.socket()) as c:
            c.send(c.headers(1, c.head("/echo", "POST"), "END_HEADERS"))
            c.send(WindowUpdateFrame(1, window_increment=2**31 - 1).serialize())
            c.until(lambda: c.reset_of(1) is not None, "the reset of the stream")
            assert c.reset_of(1) == FLOW


def test_one_byte_windows(server: Server) -> None:
    """A response pulled out byte by byte is not worth its frames."""
    server.allow("GET /big")
    with bystander(server), Raw(server.socket(), settings={4: 1}) as c:
        c.send(c.headers(1, c.head("/big?n=1000000"), "END_HEADERS", "END_STREAM"))
        ends_calm(server, c, c.flood(WindowUpdateFrame(1, window_increment=1).serialize() * 20, most=GIVE_UP))


@pytest.mark.timeout(120)
def test_windows_that_never_open(start: Start) -> None:
    """As many responses as allowed, of which no byte may go out: bounded memory, and all of them end."""
    server = start(conf("wsgi", inside="send_timeout 2s;"))
    server.allow("GET /big")
    with bystander(server), Raw(server.socket(), settings={4: 0}) as c:
        for i in range(64):
            c.send(c.headers(2 * i + 1, c.head("/big?n=20000&length=1"), "END_HEADERS", "END_STREAM"))
        c.until(lambda: all(c.reset_of(2 * i + 1) == 8 for i in range(64)), "64 resets")
        c.send(c.headers(129, c.head(method="HEAD"), "END_HEADERS", "END_STREAM"))
        c.until(
            lambda: any(isinstance(f, HeadersFrame) and f.stream_id == 129 for f in c.frames), "an answer after that"
        )


def test_reader_that_stops(start: Start) -> None:
    """Windows are wide, nothing is read: send_timeout of the connection."""
    server = start(conf("wsgi", inside="send_timeout 1s;"))
    server.allow("GET /big")
    with bystander(server), Raw(server.socket(), settings={4: 2**31 - 1}) as c:
        c.send(WindowUpdateFrame(0, window_increment=2**31 - 1 - 65535).serialize())
        c.send(c.headers(1, c.head("/big?n=100000000"), "END_HEADERS", "END_STREAM"))
        server.wait_log("the client took no byte within send_timeout")


def test_unread_answers(start: Start, worker: str) -> None:
    """Requests without end whose answers are never read: neither the queue of frames nor memory grows."""
    server = start(conf(worker, inside="send_timeout 3s;"))
    with bystander(server), Raw(server.socket()) as c:
        c.sock.settimeout(1)
        sid = 1
        try:
            while not (c.closed or c.broken) and sid < 60000:
                c.send(c.headers(sid, c.head("/a%zz" if sid % 4 == 1 else "/"), "END_HEADERS", "END_STREAM"))
                sid += 2
        except TimeoutError:
            pass  # it does not take any more, which is as good


def test_stalled_block(start: Start, worker: str) -> None:
    """A header block is due within head_timeout, whatever else the connection does."""
    server = start(conf(worker, inside="head_timeout 1s;"))
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head()))
        assert c.end() == -1
        assert "a header block took longer than head_timeout" in server.log


def test_slow_writer(start: Start) -> None:
    """Bodies that stop: each is refused by body_timeout, the connection goes on."""
    server = start(conf("wsgi", inside="body_timeout 1s;"))
    server.allow("POST /echo")
    with bystander(server), Raw(server.socket()) as c:
        for i in range(20):
            c.send(
                c.headers(2 * i + 1, c.head("/echo", "POST"), "END_HEADERS") + DataFrame(2 * i + 1, b"x").serialize()
            )
        c.until(lambda: all(c.reset_of(2 * i + 1) == 0 for i in range(20)), "20 answers")


def test_garbage(server: Server) -> None:
    with bystander(server):
        for junk in (b"\xff" * 1000, b"\0\0\1\1\5\0\0\0\1\xff", b"\0\0\1\1\5\0\0\0\1\x80"):
            with Raw(server.socket()) as c:
                c.send(junk)
                assert c.end() > 0


def test_memory_of_many_connections(server: Server) -> None:
    """Connections that are gone leave nothing behind, however they ended."""
    (pid,) = server.workers()

    def round_() -> None:
        for _ in range(30):
            with Raw(server.socket()) as c:
                c.send(b"".join(c.headers(2 * i + 1, c.head("/echo", "POST"), "END_HEADERS") for i in range(60)))
        with H2(server.socket()) as c:
            assert c.request("/").status == 200

    for _ in range(3):
        round_()
    before = memory(pid)
    for _ in range(6):
        round_()
    # six rounds are 180 connections with 10800 streams; calls that were let go still end for a moment
    if not SANITIZED:
        until(lambda: memory(pid) - before < 4 << 20, "memory as before")
