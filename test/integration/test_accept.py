# SPDX-License-Identifier: BSD-2-Clause
"""Who accepts: connections are spread evenly, and none is left waiting by a process that was woken for it in vain."""

from __future__ import annotations

import re
import resource
import select
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from harness import PATIENCE, Server, config, descriptors, pool, until
from test_systemd import given, listener, name_of


def fresh(server: Server) -> str:
    """A request on a connection of its own; who answered."""
    with server.client() as c:
        return c.request("/pid").text.split()[0]


def test_idle_workers_take_turns(start: Start, worker: str) -> None:
    """Within a quarter of their share: 40 connections, one after the other, over four idle workers."""
    server = start(config(pool(worker, processes=4)), ready=4)
    best: Counter[str] = Counter()
    for _ in range(5):  # another process on the machine may keep one from its turn
        taken = Counter(fresh(server) for _ in range(40))
        if not best or max(taken.values()) < max(best.values()):
            best = taken
    print(f"\n{sorted(best.values())}")
    assert len(best) == 4, best
    assert all(7 <= n <= 13 for n in best.values()), best


class Thief:
    """Another process in the queue, as far as the kernel sees: it is woken for a connection and does not take it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.woken = threading.Event()
        self.poll = select.epoll()
        self.poll.register(sock, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        if self.poll.poll(PATIENCE):
            self.poll.unregister(self.sock)  # it leaves, as one that dies
            self.woken.set()

    def close(self) -> None:
        self.thread.join()
        self.poll.close()


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_wake_up_in_vain(start: Start, worker: str, family: str, tmp_path: Path) -> None:
    """Without the arbiter's look at the queues such a connection waits for the next one to come; none does."""
    with listener("127.0.0.1") if family == "tcp" else listener(tmp_path / "sock") as sock:
        server = given(start, config(pool(worker, processes=3, listen=[name_of(sock)])), sock, ready=3)
        waited = []
        for _ in range(5):
            thief = Thief(sock)
            while not thief.woken.is_set():
                begun = time.monotonic()
                fresh(server)
                last = time.monotonic() - begun
            waited.append(last)
            thief.close()
    print(f"\n{family}: waited {', '.join(f'{1000 * w:.0f}' for w in waited)} ms")


def test_worker_without_descriptors(start: Start, worker: str) -> None:
    """It is woken, cannot accept, and has another one do it."""
    server = start(config(pool(worker, processes=2)), ready=2)
    server.allow("Too many open files")
    victim, other = server.workers()
    taken = {int(fd) for fd in descriptors(victim)}
    lowest = next(n for n in range(len(taken) + 1) if n not in taken)
    _, hard = resource.prlimit(victim, resource.RLIMIT_NOFILE)
    resource.prlimit(victim, resource.RLIMIT_NOFILE, (lowest, hard))
    slowest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        assert fresh(server) == str(other)
        slowest = max(slowest, time.monotonic() - begun)
    print(f"\nthe slowest after {1000 * slowest:.0f} ms")
    assert re.search(rf"{victim} .*accept: Too many open files", server.log)
    resource.prlimit(victim, resource.RLIMIT_NOFILE, (hard, hard))
    until(lambda: fresh(server) == str(victim), "its turn again")


def test_all_are_busy(start: Start) -> None:
    """Connections that wait because nobody is free: looking after them disturbs nobody."""
    server = start(config(pool("sync", processes=2)), ready=2)
    clients: list[Client] = []
    try:
        for _ in range(12):
            c = server.client()
            c.send("GET /sleep?s=0.5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            clients.append(c)
        answers = [c.response() for c in clients]
    finally:
        for c in clients:
            c.close()
    assert [a.status for a in answers] == [200] * 12
