# SPDX-License-Identifier: BSD-2-Clause
"""A gigabyte up and one down at once, on one HTTP/2 connection, beside small requests on the same.

By `wsgi` alone: in `sync` one request at a time is served, so nothing goes on beside another.  With sanitizers there is
less data: each byte is looked at several times there, and memory is the sanitizer's own.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from functools import cache
from pathlib import Path

import pytest
from conftest import Start
from h2bulk import PIECE, Bulk, Stream
from harness import PATIENCE, SANITIZED, Gate, Server, config, pool
from pki import Authority
from test_http2_tls import ORDER
from test_memory import stalled, unread, watched
from test_tls import use

SIZE = (64 << 20) if SANITIZED else (1 << 30)
SMALL = 100
MOST = 4 << 20  # twice http2_connection_window, output that waits, and as much again
STOP = 2 << 20  # the application stops reading here
STREAM_WINDOW, CONNECTION_WINDOW = 256 << 10, 1 << 20  # the defaults
# What may overtake a small request: what waits in sockets' buffers, and what is sent up meanwhile; once in a while the
# machine has something else to do.
USUAL, MOST_PASS = 16 << 20, SIZE // 2


def serve(start: Start, ca: Authority) -> Server:
    """Listens with TLS, and in clear text."""
    listen = [f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}", "127.0.0.1:0"]
    text = pool("wsgi", listen=listen, inside=ORDER)
    return start(config(text, main="load_module http2; load_module tls;"), listeners=2)


def connect(server: Server, ca: Authority, tls: bool) -> socket.socket:
    sock = server.socket(0 if tls else 1)
    for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # else megabytes wait in the kernel before each small request
        sock.setsockopt(socket.SOL_SOCKET, which, 256 << 10)
    if not tls:
        return sock
    context = ca.client()
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(sock, server_hostname="localhost")


def room(c: Bulk, s: Stream) -> bool:
    return min(s.window, c.room) >= len(PIECE) or bool(c.out)


@cache
def digest(piece: bytes) -> str:
    """Of so many of them."""
    sha = hashlib.sha256()
    for _ in range(SIZE // len(piece)):
        sha.update(piece)
    return sha.hexdigest()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "clear"])
def test_a_gigabyte_each_way(start: Start, gate: Gate, tmp_path: Path, tls: bool) -> None:
    ca = Authority(tmp_path)
    server = serve(start, ca)
    (pid,) = server.workers()
    mark = tmp_path / "mark"
    with Bulk(connect(server, ca, tls)) as c:
        for _ in range(3):  # what a process allocates once is no growth
            up, down = c.start("/digest", send=8 << 20), c.start(f"/big?n={8 << 20}")
            c.until(lambda: up.ended and down.ended, "the first megabytes")
        c.streams.clear()
        with watched(pid) as watch:
            down = c.start(f"/big?n={SIZE}")
            down.credit = False
            up = c.start(f"/digest?stop={STOP}&mark={mark}&gate={gate.path}", send=SIZE)

            # Nobody takes anything: the application does not read, the client gives no window.
            c.until(lambda: mark.exists() and down.received == c.window, "the application has stopped reading")
            before = -1
            while before != up.sent:  # what was consumed before that mark may still come back
                before = up.sent
                c.request()
                c.until(lambda: not room(c, up), "no window for more")
            for _ in range(20):
                assert c.request().body == b"Hello, world!\n"
            assert down.received == c.window
            assert up.sent == before, "there was window, although nobody reads"
            assert STOP <= up.sent <= STOP + STREAM_WINDOW + CONNECTION_WINDOW

            # All the window that there is, but the client reads nothing.
            down.credit = True
            c.give(down, 1 << 28)
            c.reading = False
            c.until(lambda: not c.out, "the window is sent")
            stalled(lambda: unread(c.sock))
            assert unread(c.sock) < 1 << 20
            c.reading = True

            # And now all at once.
            gate.open()
            asked: list[tuple[Stream, int]] = []
            passed: list[int] = []
            begun, at = time.monotonic(), up.sent + down.received

            def bulk() -> int:
                return up.sent + down.received - at

            end = begun + 10 * PATIENCE
            while len(passed) < SMALL or not (up.ended and down.ended):
                assert len(passed) == SMALL or not (up.ended and down.ended), (
                    "small requests had to wait for the bodies"
                )
                if asked and len(passed) < len(asked) and asked[-1][0].ended:
                    passed.append(bulk() - asked[-1][1])
                share = (2 * SIZE - at) * 9 // 10 * len(asked) // SMALL
                if len(passed) == len(asked) < SMALL and bulk() >= share:
                    asked.append((c.start("/"), bulk()))
                c.turn()
                assert time.monotonic() < end, f"{len(passed)} small answers, {up.sent} bytes up, {down.received} down"
            seconds = time.monotonic() - begun

    answer = json.loads(up.body)
    assert answer["length"] == up.sent == down.received == SIZE
    assert answer["sha256"] == digest(PIECE)
    assert down.sha.hexdigest() == digest(b"0123456789abcdef" * 1024)
    assert all(s.headers[":status"] == "200" and s.body == b"Hello, world!\n" for s, _ in asked)
    times = sorted((s.finished - s.began) * 1e3 for s, _ in asked)
    print(
        f"\n{'TLS' if tls else 'clear text'}: {SIZE >> 20} MB each way in {seconds:.1f} s; {SMALL} small requests: "
        f"p50 {times[SMALL // 2]:.1f} ms, p99 {times[SMALL * 99 // 100 - 1]:.1f} ms, most {times[-1]:.1f} ms; overtaken by "
        f"{max(passed) >> 10} kB at most; anonymous memory {watch.before >> 10} kB + {watch.growth >> 10} kB"
    )
    assert sorted(passed)[SMALL // 2] < USUAL, "small requests wait for the large ones"
    assert max(passed) < MOST_PASS, "a small request waits for the large ones"
    if not SANITIZED:
        assert watch.growth < MOST, watch.growth
