# SPDX-License-Identifier: BSD-2-Clause
"""Clients of several kinds at once that keep to their protocol and count what went wrong: for reloads under load.

None of them repeats a request that the server may have seen: whatever is not answered in full is a failure.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from h2client import H2
from harness import PATIENCE, Server, until

NO_LIMIT = 2**31 - 1


def see_off(sock: socket.socket) -> None:
    """Read until the server ends the connection."""
    with sock:
        while sock.recv(65536):
            pass


class Traffic:
    """HTTP/1.1 kept alive and slow uploads at the first listener, HTTP/2 over TLS at the second.

    ``outcomes`` counts answers by kind; ``failures`` has a line for each request or connection that went wrong.
    """

    def __init__(self, server: Server, context: ssl.SSLContext, keep: int = 2, h2: int = 1, uploads: int = 2) -> None:
        self.server = server
        self.context = context
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.pids: set[int] = set()
        self.serials: Counter[str] = Counter()
        self.over = threading.Event()
        self.lock = threading.Lock()
        kinds = [self.kept_alive] * keep + [self.http2] * h2 + [self.upload] * uploads
        self.late: list[threading.Thread] = []
        self.threads = [threading.Thread(target=self.run, args=(kind,)) for kind in kinds]

    def count(self, what: str) -> None:
        with self.lock:
            self.outcomes[what] += 1

    def run_once(self, kind: Callable[[], None]) -> None:
        try:
            kind()
        except Exception as error:
            with self.lock:
                self.failures.append(f"{kind}: {error!r}")
            self.over.wait(0.05)

    def run(self, kind: Callable[[], None]) -> None:
        while not self.over.is_set():
            self.run_once(kind)

    # ---- kinds: each returns when its connection has ended as it should

    def kept_alive(self) -> None:
        """Request after request on one connection until an answer says that it ends."""
        with self.server.client() as c:
            self.count("connections")
            while not self.over.is_set():
                answer = c.request("/pid")
                assert answer.status == 200, answer
                self.count("answers")
                with self.lock:
                    self.pids.add(int(answer.body.split()[0]))
                if answer.get("Connection") == "close":
                    assert c.ended(), "something came after the last answer"
                    return

    def upload(self) -> None:
        """A body that takes a second, in pieces."""
        body = os.urandom(40000)
        with self.server.client() as c:
            while not self.over.is_set():
                c.send(f"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n")
                for k in range(0, len(body), 2000):
                    c.send(body[k : k + 2000])
                    self.over.wait(random.random() * 0.1)  # what makes it slow
                answer = c.response("POST")
                assert answer.status == 200, answer
                assert hashlib.sha256(body).hexdigest() in answer.text
                self.count("uploads")
                if answer.get("Connection") == "close":
                    assert c.ended(), "something came after the last answer"
                    return

    def http2(self) -> None:
        """Eight streams at a time.  After a GOAWAY no new ones; those that it covers have to be answered."""
        sock = self.context.wrap_socket(self.server.socket(1), server_hostname="localhost")
        sock.settimeout(PATIENCE)
        with self.lock:
            certificate = sock.getpeercert()
            assert certificate
            self.serials[str(certificate["serialNumber"])] += 1
        with H2(sock, scheme="https") as c:
            running: set[int] = set()
            while True:
                while len(running) < 8 and not c.goaway and not self.over.is_set():
                    running.add(c.start("/pid"))
                if not running:
                    break
                ended = not c.step()
                for sid in [s for s in running if c.answers[s].ended or c.answers[s].reset is not None]:
                    answer = c.answers[sid]
                    last = min((g[0] for g in c.goaway), default=NO_LIMIT)
                    running.discard(sid)
                    if answer.reset is not None:
                        assert sid > last, f"stream {sid} was reset ({answer.reset}); goaway {c.goaway}"
                        self.count("streams to be sent again")
                        continue
                    assert answer.status == 200
                    self.count("streams")
                    with self.lock:
                        self.pids.add(int(answer.body.split()[0]))
                last = min((g[0] for g in c.goaway), default=NO_LIMIT)
                beyond = {s for s in running if s > last}
                running -= beyond
                self.outcomes["streams to be sent again"] += len(beyond)
                assert not ended or not running, f"ended with streams {running}; goaway {c.goaway}"
            if c.goaway:
                self.count("goaways")
                assert all(error == 0 for _, error in c.goaway), c.goaway
                # its end is the server's: closing with something unread would be a reset of our own
                late = threading.Thread(target=self.run_once, args=(partial(see_off, c.sock),))
                c.sock = socket.socket()  # not to be closed with the rest
                self.late.append(late)
                late.start()

    # ---- for tests

    def go_on(self, answers: int = 50, streams: int = 50) -> None:
        """Until that many more of each have come."""
        more = {"answers": answers, "streams": streams}
        target = {k: self.outcomes[k] + n for k, n in more.items()}
        until(lambda: all(self.outcomes[k] >= n for k, n in target.items()) or self.failures, f"{more} more")
        assert not self.failures, self.failures

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        for thread in self.late:
            thread.join()
