# SPDX-License-Identifier: BSD-2-Clause
"""Writes test/fuzz/corpus/http2: what a client sends on one connection, a file each.  http2_corpus.py [FOLDER]

licorne-modtest compares what comes of them however they are cut, so none ends the connection over a request that is
under way: whether that is answered before depends on the cut by right.  Nor is there a CONTINUATION frame: nghttp2 counts
each piece of its first nine bytes as a frame, and gives up at nine.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import hpack
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

END, HEADERS = "END_STREAM", "END_HEADERS"


class Session:
    def __init__(self, settings: dict[int, int] | None = None) -> None:
        self.encoder = hpack.Encoder()
        self.data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0, settings=settings or {}).serialize()

    def block(self, path: str = "/", method: str = "GET", *extra: tuple[str, str]) -> bytes:
        fields = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path), *extra]
        encoded: bytes = self.encoder.encode(fields)
        return encoded

    def head(self, sid: int, path: str = "/", method: str = "GET", *extra: tuple[str, str], end: bool = True) -> None:
        flags = [HEADERS, END] if end else [HEADERS]
        self.put(HeadersFrame(sid, self.block(path, method, *extra), flags=flags))

    def put(self, *frames: object) -> None:
        for f in frames:
            self.data += f.serialize()  # type: ignore[attr-defined]


def sessions() -> dict[str, bytes]:
    found: dict[str, Session] = {}

    def new(name: str, settings: dict[int, int] | None = None) -> Session:
        return found.setdefault(name, Session(settings))

    s = new("get")
    s.head(1)
    s.head(3, "/a?b=c", "GET", ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("priority", "u=1, i"))
    s = new("post")
    s.head(1, "/echo", "POST", ("content-length", "10"), end=False)
    s.put(DataFrame(1, b"01234"), DataFrame(1, b"56789", flags=[END]))
    s.head(3, "/echo", "POST", end=False)
    s.put(DataFrame(3, b"x" * 300, pad_length=20, flags=["PADDED"]), DataFrame(3, b"", flags=[END]))
    s = new("trailers")
    s.head(1, "/echo", "POST", ("expect", "100-continue"), end=False)
    s.put(DataFrame(1, b"body"), HeadersFrame(1, s.encoder.encode([("x-sum", "42")]), flags=[HEADERS, END]))
    s = new("many")
    for i in range(20):
        s.head(2 * i + 1, f"/echo?{i}", "POST", end=False)
    for i in range(20):
        s.put(DataFrame(2 * i + 1, b"%d" % i, flags=[END]))
    s = new("reset")
    for i in range(10):
        s.head(2 * i + 1, "/echo", "POST", end=False)
        s.put(DataFrame(2 * i + 1, b"abc"), RstStreamFrame(2 * i + 1, error_code=8))
    s.head(21)
    s = new("refused")
    s.head(1, "/", "GET", ("host", "other"))
    s.head(3, "/" + "a" * 9000)
    s.head(5, "/", "GET", *[(f"x-{i}", "v") for i in range(101)])
    s.head(7, "/", "POST", ("expect", "magic"), end=False)
    s.head(9, "/a b")
    s = new("windows", {4: 3})
    s.head(1)
    s.put(*[WindowUpdateFrame(1, window_increment=4) for _ in range(5)])
    s.put(WindowUpdateFrame(0, window_increment=1000))
    s = new("control")
    s.put(
        PingFrame(0, b"12345678"),
        SettingsFrame(0, settings={1: 100, 4: 100000, 5: 20000}),
        PriorityFrame(3, 0, 5, True),
    )
    s.data += struct.pack(">I", 7)[1:] + b"\x10\0" + bytes(4) + struct.pack(">I", 5) + b"u=1"
    s.head(5)
    s.put(SettingsFrame(0, flags=["ACK"]), GoAwayFrame(0, last_stream_id=0, error_code=0))
    s = new("overflow")
    s.put(WindowUpdateFrame(0, window_increment=2**31 - 1))
    s = new("compression")
    s.put(HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=[HEADERS, END]))
    s = new("connect")
    s.put(HeadersFrame(1, s.encoder.encode([(":method", "CONNECT"), (":authority", "a:1")]), flags=[HEADERS, END]))
    s.head(3, "*", "OPTIONS")
    s = new("head")
    s.head(1, "/", "HEAD")
    s = new("flood")
    s.put(*[PingFrame(0, b"12345678") for _ in range(1200)])
    return {k: v.data for k, v in found.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "corpus" / "http2")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in sessions().items():
        (folder / name).write_bytes(data)
