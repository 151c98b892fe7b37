# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 clients that mean harm: each is let go or held, memory stays bounded, and another connection is served.

A flood is sent until the server ends the connection; how much that takes is bounded by http2_abuse_limit and the like,
never by the time of the machine.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import hpack
import pytest
from conftest import Start
from h2client import H2, Raw, fields
from harness import SANITIZED, Gate, Server, config, cpu, memory, pool, quote, until
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
from pki import Authority
from test_http2 import conf
from test_http2_tls import ORDER
from test_memory import watched
from test_tls import use

CALM, FLOW, CANCEL, COMPRESSION = 11, 3, 8, 9
MOST = 6 << 20
GIVE_UP = 48 << 20  # bytes of a flood that a server has let pass; some MiB are in the sockets' buffers


MOST_CPU = 60.0 if SANITIZED else 5.0  # seconds for an attack and the bystander together

Connect = Callable[[Server], socket.socket]


def clear(server: Server) -> socket.socket:
    return server.socket()


@contextmanager
def bystander(server: Server, connect: Connect = clear, most: int = MOST, most_cpu: float = MOST_CPU) -> Iterator[H2]:
    """Another connection gets its answers all the while; the worker's memory and CPU time stay below these bounds."""
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

    with H2(connect(server)) as c:
        assert c.request("/").status == 200
        thread = threading.Thread(target=ask, args=(c,))
        with watched(pid) as watch:
            began = cpu(pid)
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
    took = cpu(pid) - began
    print(
        f"\nanonymous memory {watch.before >> 10} kB + {watch.growth >> 10} kB, CPU {took:.2f} s, beside {answered} answers"
    )
    assert took < most_cpu, took
    if not SANITIZED:
        assert watch.growth < most, watch.growth


@pytest.fixture
def server(start: Start, worker: str) -> Server:
    return start(conf(worker))


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def secure_conf(ca: Authority, inside: str = "") -> str:
    listen = f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}"
    return config(pool("wsgi", listen=[listen], inside=ORDER + inside), main="load_module http2; load_module tls;")


def secure(ca: Authority) -> Connect:
    context = ca.client()
    context.set_alpn_protocols(["h2"])
    return lambda server: context.wrap_socket(server.socket(), server_hostname="localhost")


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
        "settings-empty": SettingsFrame(0).serialize() * 50,
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


@pytest.mark.parametrize("kind", sorted(floods()))
def test_flood_over_tls(start: Start, ca: Authority, kind: str) -> None:
    """The same, in records: what is said after it is let go is still read, so that the reason arrives."""
    server, connect = start(secure_conf(ca)), secure(ca)
    with bystander(server, connect), Raw(connect(server)) as c:
        c.send(c.headers(1, c.head(), "END_HEADERS", "END_STREAM"))
        sent = c.flood(floods()[kind], most=GIVE_UP)
        ends_calm(server, c, sent)


@pytest.mark.parametrize("padding", [None, 0, 200], ids=["empty", "padded-by-0", "padding"])
def test_empty_data(server: Server, padding: int | None) -> None:
    """DATA that brings nothing, with padding or without: it comes back to the window, so it could go on for ever."""
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head("/echo", "POST"), "END_HEADERS"))
        frame = DataFrame(1, b"") if padding is None else DataFrame(1, b"", pad_length=padding, flags=["PADDED"])
        ends_calm(server, c, c.flood(frame.serialize() * 50, most=GIVE_UP))


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


# a field of 3900 bytes that goes into the table (RFC 7541 6.2.1), and one byte that stands for it from then on
BOMB = b"\x40\6x-bomb\x7f" + bytes([0x80 | (3900 - 127) & 127, (3900 - 127) >> 7]) + b"a" * 3900
FUSE = b"\xbe"


def test_hpack_bomb(server: Server) -> None:
    """A large entry of the table, named again and again at a byte each."""
    with bystander(server), Raw(server.socket()) as c:
        c.send(c.headers(1, c.head() + BOMB))
        ends_calm(server, c, c.flood(ContinuationFrame(1, FUSE * 16000).serialize(), most=GIVE_UP))


@pytest.mark.parametrize(("many", "status"), [(15, "200"), (60, "431"), (10000, None)])
def test_hpack_bombs(start: Start, many: int, status: str | None) -> None:
    """Request after request of a few bytes that names a large field again and again: each is kept to
    limit_request_head, beyond it is refused and not kept, far beyond it is the end."""
    server = start(conf("wsgi"))
    server.allow("POST /echo")
    head = b"\x83\x86\x01\4test\x04\5/echo"  # POST, http, and two fields that do not go into the table
    each = 96 << 10  # limit_request_head, and what an arena takes for it
    with bystander(server, most=MOST + 101 * each), Raw(server.socket()) as c:
        c.send(c.headers(1, head + BOMB, "END_HEADERS"))
        for i in range(1, 101):
            c.send(c.headers(2 * i + 1, head + FUSE * many, "END_HEADERS"))
        if not status:
            assert c.end() == CALM
            return
        for i in range(101 if status == "200" else 1):
            c.send(DataFrame(2 * i + 1, b"x", flags=["END_STREAM"]).serialize())
        decoder = hpack.Decoder()

        def blocks() -> dict[int, bytes]:
            return {f.stream_id: f.data for f in c.frames if isinstance(f, HeadersFrame)}

        c.until(lambda: len(blocks()) == 101, "101 answers")
        got = {sid: fields(decoder.decode(block))[":status"] for sid, block in blocks().items()}
        assert got == {1: "200"} | {2 * i + 1: status for i in range(1, 101)}


def test_hpack_tables(server: Server) -> None:
    """A table larger than allowed is an error; one that the client allows us to have is not made so large."""
    with bystander(server):
        with Raw(server.socket()) as c:
            c.send(c.headers(1, b"\x3f\xe2\xff\xff\xff\x07" + c.head(), "END_HEADERS", "END_STREAM"))
            assert c.end() == COMPRESSION
        with H2(server.socket(), settings={1: 2**32 - 1}, keep=False) as h:
            for k in range(100):
                query = "&".join(f"h=x-{i}:{k}{i}{'v' * 2000}" for i in range(3))
                assert h.request(f"/headers?{query}").status == 200


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


def test_windows_that_overflow_by_settings(start: Start) -> None:
    """What SETTINGS adds to the windows of open streams (RFC 9113 6.9.2), and a window that no stream may have."""
    server = start(conf("wsgi"))
    server.allow("POST /echo")
    with bystander(server):
        with Raw(server.socket()) as c:
            c.send(c.headers(1, c.head("/echo", "POST"), "END_HEADERS"))
            c.send(WindowUpdateFrame(1, window_increment=2**31 - 1 - 65535).serialize())
            c.send(SettingsFrame(0, settings={4: 65536}).serialize())
            c.until(lambda: c.reset_of(1) is not None, "the reset of the stream")  # so nghttp2, where the RFC ends all
            assert c.reset_of(1) == FLOW
        with Raw(server.socket(), settings={4: 2**31}) as c:
            assert c.end() == FLOW


def lives(c: Raw, sid: int) -> None:
    c.send(c.headers(sid, c.head(method="HEAD"), "END_HEADERS", "END_STREAM"))
    c.until(lambda: any(isinstance(f, HeadersFrame) and f.stream_id == sid for f in c.frames), "an answer after that")


def test_frames_of_unknown_types(server: Server) -> None:
    """They are to be ignored (RFC 9113 4.1), and that costs next to nothing, so they are: the connection lives."""
    with bystander(server), Raw(server.socket()) as c:
        c.flood((bytes(3) + b"\x42" + bytes(5)) * 1000 + (b"\0\x3f\xff\x43" + bytes(5 + 0x3FFF)) * 4, most=32 << 20)
        lives(c, 1)


def stopped_bodies(c: Raw, folder: Path, gate: Gate, many: int) -> None:
    """So many requests with a body that the application has stopped reading."""
    marks = [folder / f"mark{i}" for i in range(many)]
    for i, mark in enumerate(marks):
        path = f"/digest?stop=1&size=1&mark={mark}&gate={gate.path}"
        c.send(c.headers(2 * i + 1, c.head(path, "POST"), "END_HEADERS") + DataFrame(2 * i + 1, b"x").serialize())
    until(lambda: all(m.exists() for m in marks), "the applications read no more")


def test_a_body_beyond_its_window(start: Start, gate: Gate, tmp_path: Path) -> None:
    """It is reset, and what still comes is dropped: however much that is, it costs little, and the connection lives."""
    server = start(conf("wsgi"))
    server.allow("POST /digest")
    with bystander(server), Raw(server.socket()) as c:
        stopped_bodies(c, tmp_path, gate, 1)
        for _ in range(17):
            c.send(DataFrame(1, bytes(16384)).serialize())
        c.until(lambda: c.reset_of(1) is not None, "the reset of the stream")
        assert c.reset_of(1) == FLOW
        c.flood(DataFrame(1, b"x").serialize() * 500, most=8 << 20)
        lives(c, 3)
        gate.remove()


def test_bodies_beyond_the_connections_window(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Each within its window, together beyond what the connection has."""
    server = start(conf("wsgi", threads=24))
    server.allow("POST /digest")
    with bystander(server), Raw(server.socket()) as c:
        c.send(SettingsFrame(0, flags=["ACK"]).serialize())  # the larger windows of streams are in force
        stopped_bodies(c, tmp_path, gate, 20)
        for _ in range(15):
            c.send(b"".join(DataFrame(2 * i + 1, bytes(16384)).serialize() for i in range(20)))
        assert c.end() == FLOW
        gate.remove()


def test_one_byte_for_all(start: Start) -> None:
    """SETTINGS that open the windows of 1,000 streams by a byte: each makes 1,000 frames of one."""
    server = start(conf("wsgi", inside="http2_max_concurrent_streams 1000;"))
    server.allow("GET /big")
    with bystander(server, most=1000 * RESPONSE, most_cpu=3 * MOST_CPU), Raw(server.socket(), settings={4: 0}) as c:
        open_responses(c, 1000)
        sent, size = 0, 0
        while not (c.closed or c.broken) and sent < GIVE_UP:
            size += 1
            c.send(SettingsFrame(0, settings={4: size}).serialize())
            c.look()
            c.frames.clear() if not c.closed else None
            sent += 15
        assert size < 2000
        assert "ENHANCE_YOUR_CALM" in server.log


def test_one_byte_windows(server: Server) -> None:
    """A response pulled out byte by byte is not worth its frames."""
    server.allow("GET /big")
    with bystander(server), Raw(server.socket(), settings={4: 1}) as c:
        c.send(c.headers(1, c.head("/big?n=1000000"), "END_HEADERS", "END_STREAM"))
        ends_calm(server, c, c.flood(WindowUpdateFrame(1, window_increment=1).serialize() * 20, most=GIVE_UP))


RESPONSE = 40 << 10  # what a response of 20,000 bytes takes while it waits, with its request


def open_responses(c: Raw, many: int) -> None:
    """So many responses of which the head has come, and no byte of the body may."""
    for i in range(many):
        c.send(c.headers(2 * i + 1, c.head("/big?n=20000&length=1"), "END_HEADERS", "END_STREAM"))
        c.look()
    c.until(lambda: len({f.stream_id for f in c.frames if isinstance(f, HeadersFrame)}) == many, f"{many} heads")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("connections", "each"), [(10, 100), (1, 1000)])
def test_windows_that_never_open(start: Start, connections: int, each: int) -> None:
    """1,000 open responses of which no byte may go out: bounded memory, all of them end, and what they took comes back."""
    inside = f"send_timeout {10 if SANITIZED else 4}s; http2_max_concurrent_streams {max(each, 128)};"
    server = start(conf("wsgi", inside=inside))
    server.allow("GET /big")
    with bystander(server, most=1000 * RESPONSE):
        clients = [Raw(server.socket(), settings={4: 0}) for _ in range(connections)]
        for c in clients:
            open_responses(c, each)
        for c in clients:
            with c:
                c.until(lambda: all(c.reset_of(2 * i + 1) == CANCEL for i in range(each)), f"{each} resets")
                lives(c, 2 * each + 1)


def test_reader_that_stops(start: Start) -> None:
    """Windows are wide, nothing is read: send_timeout of the connection."""
    server = start(conf("wsgi", inside="send_timeout 1s;"))
    server.allow("GET /big")
    with bystander(server), Raw(server.socket(), settings={4: 2**31 - 1}) as c:
        c.send(WindowUpdateFrame(0, window_increment=2**31 - 1 - 65535).serialize())
        c.send(c.headers(1, c.head("/big?n=100000000"), "END_HEADERS", "END_STREAM"))
        server.wait_log("the client took no byte within send_timeout")


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "clear"])
def test_slow_readers(start: Start, ca: Authority, tmp_path: Path, tls: bool) -> None:
    """100 clients with wide windows that read nothing of a large file: each is let go by send_timeout."""
    with (tmp_path / "file").open("wb") as f:
        f.truncate(64 << 20)
    inside = f"send_timeout 2s; route /files/ static {{ root {quote(tmp_path)}; }}"
    listen = f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}" if tls else "127.0.0.1:0"
    text = pool("wsgi", listen=[listen], inside=(ORDER if tls else "") + inside)
    server = start(config(text, main="load_module http2; load_module tls; load_module static;"))
    connect = secure(ca) if tls else clear
    many = 100
    with bystander(server, connect, most=many * (128 << 10)):
        clients = []
        for _ in range(many):
            sock = connect(server)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            c = Raw(sock, settings={4: 2**31 - 1})
            c.send(WindowUpdateFrame(0, window_increment=2**31 - 1 - 65535).serialize())
            c.send(c.headers(1, c.head("/files/file"), "END_HEADERS", "END_STREAM"))
            clients.append(c)
        server.wait_log("the client took no byte within send_timeout", many)
        for c in clients:
            c.sock.close()


DROPS = {
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "block": HeadersFrame(1, b"\0\1x\x7f\x81\x7c" + bytes(16000)).serialize(),
    "malformed": HeadersFrame(1, bytes(16000)).serialize(),  # the stream is reset at once: keepalive_timeout
}


@pytest.mark.parametrize(("what", "tls"), [("preface", True), ("block", True), ("block", False), ("malformed", False)])
def test_drop_by_drop(start: Start, ca: Authority, what: str, tls: bool) -> None:
    """A byte at a time, and each in time: head_timeout counts from the first."""
    inside = "head_timeout 1s; keepalive_timeout 2s;"
    server = start(secure_conf(ca, inside) if tls else conf("wsgi", inside=inside))
    connect = secure(ca) if tls else clear
    with bystander(server, connect):
        sock = connect(server)
        with closing(sock) if what == "preface" else Raw(sock):
            drops = iter(DROPS[what][:-1])

            def over() -> bool:
                try:
                    drop = next(drops, None)
                    if drop is not None:
                        sock.sendall(bytes([drop]))
                    sock.settimeout(0.05)
                    while sock.recv(65536):
                        pass
                except TimeoutError:
                    return False
                except OSError:
                    pass
                return True

            until(over, "the end of the connection")


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
