# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP/2 client for gigabytes: frames are cut by hand, the socket never blocks, nothing is kept.

One thread, so that TLS needs no lock: each turn sends what the windows allow, reads what is there, and waits in select()
when there was neither.  What a test holds back (credit, reading) stays held back until it says otherwise.
"""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import hpack
from h2client import fields
from harness import PATIENCE

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS, PADDED = 4, 8

PIECE = bytes(range(256)) * 64  # what bodies are made of, a frame each
OUT = 128 << 10  # as much is made ready for the socket


def frame(kind: int, flags: int, sid: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, sid) + payload


@dataclass
class Stream:
    sid: int
    window: int  # what we may send
    to_send: int = 0
    sent: int = 0
    credit: bool = True  # give back what has come
    owed: int = 0  # has come and was not given back
    received: int = 0
    sha: hashlib._Hash = field(default_factory=hashlib.sha256)
    body: bytes = b""  # while it is small
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None
    began: float = field(default_factory=time.monotonic)
    finished: float = 0.0


class Bulk:
    """A connection.  ``window`` is what each stream may send us at once."""

    def __init__(self, sock: socket.socket, *, window: int = 1 << 20) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.window = window
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.streams: dict[int, Stream] = {}
        self.next_id = 1
        self.room = 65535  # the connection's window, for what we send
        self.initial = 65535  # that of a stream
        self.owed = 0
        self.out = bytearray()
        self.buffer = memoryview(bytearray(1 << 20))
        self.have = 0
        self.reading = True
        self.goaway: list[tuple[int, int]] = []
        self.out += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.out += frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
        self.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 16 << 20))

    def __enter__(self) -> Bulk:
        return self

    def __exit__(self, *what: object) -> None:
        self.sock.close()

    def start(self, path: str, *, send: int | None = None) -> Stream:
        """A request, with a body of so many bytes."""
        stream = Stream(self.next_id, self.initial, send or 0)
        self.streams[stream.sid] = stream
        self.next_id += 2
        head = [(":method", "GET" if send is None else "POST"), (":scheme", "http"), (":authority", "test")]
        block = self.encoder.encode([*head, (":path", path)])
        self.out += frame(HEADERS, END_HEADERS | (END_STREAM if send is None else 0), stream.sid, block)
        return stream

    def give(self, stream: Stream, n: int) -> None:
        """More window for a stream."""
        self.out += frame(WINDOW_UPDATE, 0, stream.sid, struct.pack(">I", n))

    # ---- out

    def fill(self) -> None:
        for s in self.streams.values():
            while s.to_send and s.reset is None and len(self.out) < OUT:
                n = min(s.to_send, len(PIECE), s.window, self.room)
                # whole pieces, so that the body is the same however it was cut
                if n < min(s.to_send, len(PIECE)):
                    break
                s.to_send -= n
                s.sent += n
                s.window -= n
                self.room -= n
                self.out += frame(DATA, 0 if s.to_send else END_STREAM, s.sid, PIECE[:n])

    def push(self) -> int:
        if not self.out:
            return 0
        try:
            n = self.sock.send(self.out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        del self.out[:n]
        return n

    # ---- in

    def pull(self) -> int:
        try:
            n = self.sock.recv_into(self.buffer[self.have :])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        assert n, f"the connection ended; goaway {self.goaway}"
        self.have += n
        at = 0
        while self.have - at >= 9:
            high, low, kind, flags, sid = struct.unpack_from(">HBBBI", self.buffer, at)
            size = high << 8 | low
            if self.have - at < 9 + size:
                break
            self.take(kind, flags, sid, self.buffer[at + 9 : at + 9 + size])
            at += 9 + size
        if at:
            rest = bytes(self.buffer[at : self.have])
            self.buffer[: len(rest)] = rest
            self.have = len(rest)
        return n

    def take(self, kind: int, flags: int, sid: int, p: memoryview) -> None:
        if kind == DATA:
            self.data(self.streams[sid], flags, p)
        elif kind == HEADERS:
            assert flags & END_HEADERS, "a head in several frames"
            stream = self.streams[sid]
            stream.headers = fields(self.decoder.decode(bytes(p)))
            self.end(stream, flags)
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(p), 6):
                name, value = struct.unpack_from(">HI", p, at)
                if name == 4:
                    for s in self.streams.values():
                        s.window += value - self.initial
                    self.initial = value
            self.out += frame(SETTINGS, ACK, 0)
        elif kind == WINDOW_UPDATE:
            (n,) = struct.unpack(">I", p)
            if sid == 0:
                self.room += n
            elif sid in self.streams:
                self.streams[sid].window += n
        elif kind == RST_STREAM:
            (self.streams[sid].reset,) = struct.unpack(">I", p)
        elif kind == PING and not flags & ACK:
            self.out += frame(PING, ACK, 0, bytes(p))
        elif kind == GOAWAY:
            self.goaway.append(struct.unpack_from(">II", p))

    def data(self, s: Stream, flags: int, p: memoryview) -> None:
        assert not flags & PADDED
        s.received += len(p)
        s.sha.update(p)
        if s.received <= 65536:
            s.body += p
        s.owed += len(p)
        self.owed += len(p)
        self.end(s, flags)
        if self.owed >= 4 << 20:
            self.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.owed))
            self.owed = 0
        if s.credit and not s.ended and s.owed >= self.window // 2:
            self.give(s, s.owed)
            s.owed = 0

    def end(self, s: Stream, flags: int) -> None:
        if flags & END_STREAM:
            s.ended = True
            s.finished = time.monotonic()

    # ---- both

    def turn(self) -> None:
        self.fill()
        moved = self.push()
        if self.reading:
            moved += self.pull()
        if not moved:  # not for long: a caller may wait for something else
            select.select([self.sock] if self.reading else [], [self.sock] if self.out else [], [], 0.02)

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 3 * PATIENCE
        while not condition():
            self.turn()
            assert time.monotonic() < end, f"{what}: not within {3 * PATIENCE:g} s"

    def request(self, path: str = "/") -> Stream:
        s = self.start(path)
        self.until(lambda: s.ended or s.reset is not None, f"the answer to {path}")
        return s
