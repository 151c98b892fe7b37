# SPDX-License-Identifier: BSD-2-Clause
"""One row over one connection: send its bytes, whole or in pieces, and see what becomes of it.

Nothing sleeps.  Over a UNIX socket a piece is known to have been read before the next is sent (SIOCOUTQ), so each is a
read of its own.
"""

from __future__ import annotations

import array
import fcntl
import json
import random
import socket
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from client import Broken, Client, Ended, Reset, Response
from table import Row

PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"
Cuts = Callable[[bytes], Iterator[bytes]]


@dataclass
class Outcome:
    """What a server did with a row."""

    answers: list[Response] = field(default_factory=list)
    end: str = ""  # "open", "close", or what went wrong
    rest: bytes = b""  # bytes behind the last answer

    @property
    def text(self) -> str:
        return " ".join([*(str(a.status) for a in self.answers), self.end])


def whole(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """One byte at a time; of what is long, the middle in pieces."""
    at = 0
    while at < len(data):
        n = 1 if len(data) <= 1000 or at < 200 or at >= len(data) - 200 else min(997, len(data) - 200 - at)
        yield data[at : at + n]
        at += n


def at_random(seed: int) -> Cuts:
    def cuts(data: bytes) -> Iterator[bytes]:
        rng = random.Random(seed)
        sizes = (1, 2, 3, 5, 17, 60, 200) if len(data) <= 3000 else (1, 200, 1500, 4000, 9000)
        at = 0
        while at < len(data):
            n = rng.choice(sizes)
            yield data[at : at + n]
            at += n

    return cuts


def unread(sock: socket.socket) -> int:
    n = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, n)
    return n[0]


def wait_read(sock: socket.socket, patience: float) -> None:
    end = time.monotonic() + patience
    while unread(sock):
        if time.monotonic() > end:
            raise AssertionError(f"the server did not read within {patience:g} s")
        time.sleep(0)


def send(c: Client, row: Row, cuts: Cuts, patience: float) -> None:
    pieces = list(cuts(row.send))
    try:
        for piece in pieces:
            c.sock.sendall(piece)
            if len(pieces) > 1:
                wait_read(c.sock, patience)
        if row.eof:
            c.sock.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has said all that it wants to say


def converse(c: Client, row: Row, cuts: Cuts = whole, patience: float = 20.0) -> Outcome:
    """As many answers as the row wants, and then the end that it wants; what is different is told as it is."""
    out = Outcome()
    send(c, row, cuts, patience)
    probed = False
    try:
        while True:
            if len(out.answers) == len(row.statuses) and row.end == "open" and not probed:
                probed = True
                c.send(PROBE)
            method = "HEAD" if not out.answers and row.send.startswith(b"HEAD ") else "GET"
            answer = c.response(method, interim=101 in row.statuses)
            if probed:
                probe = json.loads(answer.body) if answer.status == 200 and answer.body else {}
                out.end = "open" if probe.get("path") == "/probe" else f"{answer.status} too many"
                return out
            out.answers.append(answer)
            if answer.status == 101:
                out.rest = c.rest()
                out.end = "close"
                return out
    except Ended:
        out.end = "close"
    except Reset:
        out.end = "close"  # between two answers: it was told more than it wants to hear
    except TimeoutError:
        out.end = "waits"
    except (Broken, OSError, ValueError) as error:
        out.end = f"{type(error).__name__}: {error}"
    return out
