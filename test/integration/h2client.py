# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP/2 client for tests: the h2 library over a socket, one event at a time, nothing hidden."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings

Headers = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What came on a stream so far."""

    headers: dict[str, str] = field(default_factory=dict)
    informational: list[dict[str, str]] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
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
        self, sock: socket.socket, *, credit: bool = True, settings: dict[int, int] | None = None, scheme: str = "http"
    ) -> None:
        self.sock = sock
        self.credit = credit
        self.scheme = scheme
        self.answers: dict[int, Answer] = {}
        self.goaway: list[tuple[int, int]] = []  # (last stream id, error)
        self.pings: list[bytes] = []
        self.closed = False
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
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
        self, path: str = "/", *, method: str = "GET", headers: Headers = (), end: bool = True, authority: str = "test"
    ) -> int:
        """Send a request head; the stream's id."""
        sid = self.conn.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", self.scheme), (":authority", authority), (":path", path)]
        self.conn.send_headers(sid, [*pseudo, *headers], end_stream=end)
        self.answers[sid] = Answer()
        self.flush()
        return sid

    def send(self, sid: int, data: bytes, *, end: bool = False) -> None:
        """Body bytes, as the windows allow."""
        while True:
            room = min(self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if piece or (end and not data):
                self.conn.send_data(sid, piece, end_stream=end and not data)
                self.flush()
            if not data:
                return
            if not self.step():
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
            self.answers[event.stream_id].headers = dict(event.headers)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.answers[event.stream_id].informational.append(dict(event.headers))
        elif isinstance(event, h2.events.TrailersReceived):
            self.answers[event.stream_id].trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.answers[event.stream_id].body += event.data
            if self.credit and event.flow_controlled_length:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id in self.answers:
                self.answers[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway.append((event.last_stream_id or 0, int(event.error_code)))
            # the library refuses to go on after the first GOAWAY; streams below last_stream_id do
            self.conn.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
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

    def request(self, path: str = "/", *, method: str = "GET", headers: Headers = (), body: bytes | None = None) -> Answer:
        sid = self.start(path, method=method, headers=headers, end=body is None)
        if body is not None:
            self.send(sid, body, end=True)
        return self.wait(sid)
