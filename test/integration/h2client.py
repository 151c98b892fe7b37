# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 clients for tests: H2, the h2 library over a socket, one event at a time; Raw, frames as one likes."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

Headers = Iterable[tuple[str, str]]


def fields(headers: Iterable[Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in headers}


@dataclass
class Answer:
    """What came on a stream so far."""

    headers: dict[str, str] = field(default_factory=dict)
    informational: list[dict[str, str]] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    received: int = 0  # bytes of it, kept or not
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def text(self) -> str:
        return self.body.decode()


class H2:
    """A connection.  credit=False leaves windows as they are: the test opens them."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        credit: bool = True,
        keep: bool = True,
        settings: dict[int, int] | None = None,
        scheme: str = "http",
    ) -> None:
        self.sock = sock
        self.credit = credit
        self.keep = keep
        self.scheme = scheme
        self.answers: dict[int, Answer] = {}
        self.goaway: list[tuple[int, int]] = []  # (last stream id, error)
        self.pings: list[bytes] = []
        self.closed = False
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        # the library takes a GOAWAY for the end; streams up to its last-stream-id go on
        machine = self.conn.state_machine
        still = h2.connection.ConnectionState.CLIENT_OPEN
        machine._transitions = {
            **machine._transitions,
            (still, h2.connection.ConnectionInputs.RECV_GOAWAY): (None, still),
        }
        if settings:
            self.conn.local_settings.update({h2.settings.SettingCodes(k): v for k, v in settings.items()})
        self.conn.initiate_connection()
        self.flush()

    def __enter__(self) -> H2:
        return self

    def __exit__(self, *what: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        if data := self.conn.data_to_send():
            self.sock.sendall(data)

    def raw(self, data: bytes) -> None:
        self.flush()
        self.sock.sendall(data)

    def start(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Headers = (),
        end: bool = True,
        authority: str | None = "test",
    ) -> int:
        """Send a request head; the stream's id."""
        sid = self.conn.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", self.scheme), (":path", path)]
        if authority is not None:
            pseudo.append((":authority", authority))
        self.conn.send_headers(sid, [*pseudo, *headers], end_stream=end)
        self.answers[sid] = Answer()
        self.flush()
        return sid

    def send(self, sid: int, data: bytes, *, end: bool = False) -> None:
        """Body bytes, as the windows allow; the rest is dropped when the stream has been reset."""
        while self.answers[sid].reset is None:
            room = min(self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if piece or (end and not data):
                self.conn.send_data(sid, piece, end_stream=end and not data)
                self.flush()
            if not data:
                return
            if not room and not self.step():
                raise AssertionError("the connection ended while a body was sent")

    def step(self) -> bool:
        """Read once, note what happened; False at the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.conn.receive_data(data):
            self.note(event)
        self.flush()
        return True

    def note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.answers[event.stream_id].headers = fields(event.headers)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.answers[event.stream_id].informational.append(fields(event.headers))
        elif isinstance(event, h2.events.TrailersReceived):
            self.answers[event.stream_id].trailers = fields(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer = self.answers[event.stream_id]
            answer.received += len(event.data)
            if self.keep:
                answer.body += event.data
            if self.credit and event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id in self.answers:
                self.answers[event.stream_id].reset = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway.append((event.last_stream_id or 0, int(event.error_code or 0)))
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings.append(event.ping_data)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Read until the condition holds."""
        while not condition():
            assert self.step(), f"the connection ended before: {what}; goaway {self.goaway}"

    def wait(self, sid: int) -> Answer:
        """The whole answer of a stream, or its reset."""
        answer = self.answers[sid]
        self.until(lambda: answer.ended or answer.reset is not None, f"the end of stream {sid}")
        return answer

    def request(
        self, path: str = "/", *, method: str = "GET", headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        sid = self.start(path, method=method, headers=headers, end=body is None)
        if body is not None:
            self.send(sid, body, end=True)
        return self.wait(sid)


class Raw:
    """A connection on which anything may be sent; what comes is parsed, and no more."""

    def __init__(self, sock: socket.socket, settings: dict[int, int] | None = None) -> None:
        self.sock = sock
        self.encoder = hpack.Encoder()
        self.buffer = b""
        self.frames: list[Frame] = []
        self.closed = self.broken = False
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0, settings=settings or {}).serialize())

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *what: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.broken = True  # what has come before that can still be read

    def head(self, path: str = "/", method: str = "GET", extra: Headers = ()) -> bytes:
        fields = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path), *extra]
        block: bytes = self.encoder.encode(fields)
        return block

    def headers(self, sid: int, block: bytes, *flags: str) -> bytes:
        return HeadersFrame(sid, block, flags=list(flags)).serialize()

    def look(self) -> None:
        """Read what is there."""
        while not self.closed and self.ready():
            self.read()

    def ready(self) -> bool:
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        return bool(select.select([self.sock], [], [], 0)[0])

    def read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self.closed |= not data
        self.buffer += data
        while len(self.buffer) >= 9:
            frame, n = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + n:
                return
            frame.parse_body(memoryview(self.buffer[9 : 9 + n]))
            self.frames.append(frame)
            self.buffer = self.buffer[9 + n :]

    def flood(self, data: bytes, most: int = 64 << 20, read: bool = True) -> int:
        """Send it again and again until the server ends the connection; how many bytes that took."""
        sent = 0
        while not (self.closed or self.broken) and sent < most:
            self.send(data)
            sent += len(data)
            if read:
                self.look()
        return sent

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            assert not self.closed, f"the connection ended before: {what}; it got {self.frames[-5:]}"
            self.read()

    def end(self) -> int:
        """Read to the end of the connection; the error of the last GOAWAY, -1: none came."""
        while not self.closed:
            self.read()
        found = [f.error_code for f in self.frames if isinstance(f, GoAwayFrame)]
        return int(found[-1]) if found else -1

    def reset_of(self, sid: int) -> int | None:
        for f in self.frames:
            if isinstance(f, RstStreamFrame) and f.stream_id == sid:
                return int(f.error_code)
        return None
