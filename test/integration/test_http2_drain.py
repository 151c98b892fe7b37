# SPDX-License-Identifier: BSD-2-Clause
"""TTOU and TERM under load, with clients that do on GOAWAY what RFC 9113 6.8 wants of them, and count.

A client opens another connection at the first GOAWAY and finishes what it has begun on the old one.  What is above the
last-stream-id of the last GOAWAY it asks again elsewhere, what is at or below it never.  So each request is answered
once, and the access log must have each once: nothing is lost, and nothing is done twice.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from conftest import Start
from h2client import H2
from harness import config, pool, quote, until
from pki import Authority
from test_http2_tls import ORDER
from test_tls import use

PROCESSES = 3
CLIENTS = 8
STREAMS = 8
NO_ERROR, NOTICE = 0, 2**31 - 1
Connect = Callable[[], socket.socket]


class Client:
    """Keeps so many requests under way, on one connection at a time besides those that end."""

    def __init__(self, connect: Connect, ids: count[int]) -> None:
        self.connect, self.ids = connect, ids
        self.over = threading.Event()
        self.again: list[int] = []  # above a last-stream-id: safe to ask elsewhere
        self.retried = 0
        self.answered: list[int] = []
        self.unserved: list[int] = []  # when nobody listened any more
        self.trouble: list[str] = []
        self.goaways: list[list[tuple[int, int]]] = []
        self.ending: list[threading.Thread] = []
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            while not self.over.is_set():
                try:
                    c = H2(self.connect())
                except OSError:
                    break  # the listener is gone, by right
                self.load(c)
        finally:
            for thread in self.ending:
                thread.join()
            self.unserved += self.again

    def load(self, c: H2) -> None:
        """Until the first GOAWAY; the rest is finished beside what goes on."""
        running: dict[int, int] = {}
        try:
            while not (c.goaway or c.closed or self.over.is_set()):
                while len(running) < STREAMS:
                    with self.lock:
                        this = self.again.pop() if self.again else next(self.ids)
                    sid = c.conn.get_next_available_stream_id()
                    running[sid] = this
                    c.start(f"/echo?id={this}", method="POST", end=False)
                    c.send(sid, b"x" * 100, end=True)
                c.step()
                self.collect(c, running)
        except OSError:
            c.closed = True
        self.ending.append(threading.Thread(target=self.finish, args=(c, running)))
        self.ending[-1].start()

    def collect(self, c: H2, running: dict[int, int]) -> None:
        for sid in [sid for sid in running if c.answers[sid].ended]:
            assert c.answers[sid].status == 200
            assert c.answers[sid].received == 100
            with self.lock:
                self.answered.append(running.pop(sid))

    def finish(self, c: H2, running: dict[int, int]) -> None:
        """Read to the end of the connection, or of what was asked when it is the client that leaves."""
        try:
            while (c.goaway or running) and not c.closed and c.step():
                self.collect(c, running)
        except OSError:
            pass
        self.collect(c, running)
        c.sock.close()
        with self.lock:
            if c.goaway:
                self.goaways.append(c.goaway)
            for sid, this in running.items():
                if c.goaway and sid > c.goaway[-1][0]:
                    self.again.append(this)
                    self.retried += 1
                elif not c.goaway and not heard(c):
                    self.unserved.append(this)
                else:
                    self.trouble.append(f"request {this} on stream {sid}, {c.goaway}: {c.answers[sid]}")


def heard(c: H2) -> bool:
    """Whether somebody has accepted it: SETTINGS have come, which limit the streams."""
    return c.conn.remote_settings.max_concurrent_streams < 2**31


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "clear"])
def test_drain_under_load(start: Start, worker: str, tmp_path: Path, tls: bool) -> None:
    ca = Authority(tmp_path)
    log = tmp_path / "access.log"
    listen = f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}" if tls else "127.0.0.1:0"
    inside = f"{ORDER if tls else ''} access_log {quote(log)};"
    text = pool(worker, listen=[listen], processes=PROCESSES, inside=inside)
    server = start(config(text, main="load_module http2; load_module tls;"), ready=PROCESSES)
    context = ca.client()
    context.set_alpn_protocols(["h2"])

    def connect() -> socket.socket:
        sock = server.socket()
        return context.wrap_socket(sock, server_hostname="localhost") if tls else sock

    ids = count()
    clients = [Client(connect, ids) for _ in range(CLIENTS)]

    def answered() -> int:
        return sum(len(c.answered) for c in clients)

    def goaways() -> list[list[tuple[int, int]]]:
        return [g for c in clients for g in c.goaways]

    for c in clients:
        c.thread.start()
    try:
        until(lambda: all(len(c.answered) > 30 for c in clients), "load")
        for left in range(PROCESSES - 1, 0, -1):
            server.send_signal(signal.SIGTTOU)
            until(lambda: len(server.workers()) == left, f"{left} processes")
            at = answered()
            until(lambda: answered() > at + 100, "load on the others")
        # only one is left: who was with another has heard of it twice
        assert not any(c.unserved or c.trouble for c in clients), [c.trouble for c in clients]
        assert all(c.thread.is_alive() for c in clients), "nobody was refused"
        by_ttou = len(goaways())
        server.stop()
    finally:
        for c in clients:
            c.over.set()
            c.thread.join()

    assert [t for c in clients for t in c.trouble] == []
    assert by_ttou >= 1
    assert len(goaways()) >= by_ttou + CLIENTS // 2
    for g in goaways():
        assert len(g) == 2, g
        assert g[0] == (NOTICE, NO_ERROR)
        assert g[1][1] == NO_ERROR
        assert 0 <= g[1][0] < NOTICE
    done = [this for c in clients for this in c.answered]
    unserved = [this for c in clients for this in c.unserved]
    lines = Counter(int(n) for n in re.findall(r'"POST /echo\?id=(\d+) HTTP/2" 200 100 ', log.read_text()))
    assert Counter(done) == lines, "each is answered once and done once"
    assert not set(unserved) & set(lines), "what was not answered was not done"
    assert sorted(done + unserved) == list(range(next(ids))), "each has its outcome"
    print(
        f"\n{worker}, {'TLS' if tls else 'clear text'}: {len(done)} requests answered, {by_ttou} connections drained by TTOU, "
        f"{len(goaways()) - by_ttou} by TERM; {sum(c.retried for c in clients)} asked again, {len(unserved)} found nobody"
    )
