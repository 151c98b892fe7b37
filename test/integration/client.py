# SPDX-License-Identifier: BSD-2-Clause
"""A raw HTTP/1.1 client that sends exactly the bytes it is told to and reads answers strictly.

Strict: a line that does not end in CRLF, a bad chunk or a body that ends early is an error, never tolerated.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


class Broken(Exception):
    """The server sent something that is no HTTP/1.1 answer, or ended in the middle of one."""


class Ended(Broken):
    """The connection ended where an answer could have begun."""


class Reset(Broken):
    """The connection was reset where an answer could have begun."""


@dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The one value of a header; twice is an error."""
        values = self.all(name)
        if len(values) > 1:
            raise Broken(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, timeout: float = 30) -> None:
        self.sock = sock
        self.buffer = b""
        sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    # ---- out

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def request(
        self, target: str, method: str = "GET", headers: tuple[str, ...] = (), body: bytes = b"", version: str = "1.1"
    ) -> Response:
        """Send a request and read its answer."""
        lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers]
        if body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.response(method)

    # ---- in

    def more(self) -> bool:
        data = self.sock.recv(262144)
        self.buffer += data
        return bool(data)

    def line(self) -> str:
        while b"\n" not in self.buffer:
            if len(self.buffer) > 65536:
                raise Broken("endless line")
            if not self.more():
                if not self.buffer:
                    raise Ended("connection ended")
                raise Broken(f"ended within a line: {self.buffer[:200]!r}")
        raw, _, self.buffer = self.buffer.partition(b"\n")
        if not raw.endswith(b"\r") or b"\r" in raw[:-1]:
            raise Broken(f"a line that does not end in CRLF: {raw!r}")
        return raw[:-1].decode("latin-1")

    def line_raw(self) -> bytes:
        """Up to the next LF, of whatever protocol it is."""
        while b"\n" not in self.buffer:
            if not self.more():
                raise Ended("connection ended")
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def exactly(self, n: int) -> bytes:
        parts, have = [self.buffer[:n]], min(n, len(self.buffer))
        self.buffer = self.buffer[n:]
        while have < n:
            data = self.sock.recv(min(n - have, 1 << 20))
            if not data:
                raise Broken(f"ended {n - have} bytes before the end of a body of {n}")
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def fields(self) -> list[tuple[str, str]]:
        headers = []
        while line := self.line():
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or not name.isascii():
                raise Broken(f"bad header line {line!r}")
            headers.append((name, value.strip(" \t")))
        return headers

    def head(self) -> Response:
        try:
            line = self.line()
        except ConnectionResetError as error:
            raise (Broken if self.buffer else Reset)("connection was reset") from error
        version, _, rest = line.partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdigit():
            raise Broken(f"bad status line {line!r}")
        return Response(version.removeprefix("HTTP/"), int(code), reason, self.fields())

    def response(self, method: str = "GET", interim: bool = False) -> Response:
        """The next answer; 1xx answers are passed over unless asked for."""
        answer = self.head()
        while 100 <= answer.status < 200 and not interim:
            answer = self.head()
        coding, length = answer.get("Transfer-Encoding"), answer.get("Content-Length")
        if coding is not None and length is not None:
            raise Broken("both Transfer-Encoding and Content-Length")
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if coding is not None:
            if coding != "chunked":
                raise Broken(f"Transfer-Encoding: {coding}")
            while chunk := self.chunk():
                answer.chunks.append(chunk)
            answer.trailers = self.fields()
            answer.body = b"".join(answer.chunks)
        elif length is not None:
            answer.body = self.exactly(int(length))
        else:
            answer.body = self.rest()
        return answer

    def chunk(self) -> bytes:
        size = self.line().split(";")[0]
        if not size or any(c not in "0123456789abcdefABCDEF" for c in size):
            raise Broken(f"bad chunk size {size!r}")
        data = self.exactly(int(size, 16))
        if data and self.exactly(2) != b"\r\n":
            raise Broken("a chunk that does not end in CRLF")
        return data

    def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        parts, self.buffer = [self.buffer], b""
        while data := self.sock.recv(262144):
            parts.append(data)
        return b"".join(parts)

    def ended(self) -> bool:
        """Whether the server ends the connection without another byte; waits for it."""
        return not self.buffer and not self.more()
