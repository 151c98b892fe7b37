# SPDX-License-Identifier: BSD-2-Clause
"""Clients that keep a server busy and remember what happened to each request."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from client import Broken, Ended
from harness import Server, until


class Load:
    """``clients`` threads, each with one connection at a time, for 50 requests.

    Outcomes: ``answered``; ``refused``, no connection could be made; ``unserved``, a new connection ended or was reset
    before its first answer; ``ended``, a connection that had answers ended in good order instead of answering one more;
    ``broken``, an answer was cut or a connection reset in the middle.
    """

    def __init__(self, server: Server, clients: int = 8, target: str = "/pid") -> None:
        self.server, self.target = server, target
        self.outcomes: Counter[str] = Counter()
        self.pids: Counter[int] = Counter()
        self.lost: Counter[int] = (
            Counter()
        )  # what got no answer, by the process that had the connection; 0: nobody knows
        self.details: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.one) for _ in range(clients)]

    def note(self, outcome: str, detail: str = "") -> None:
        with self.lock:
            self.outcomes[outcome] += 1
            if detail:
                self.details.append(f"{outcome}: {detail}")

    def lose(self, pid: int) -> None:
        with self.lock:
            self.lost[pid] += 1

    def one(self) -> None:
        while not self.over.is_set():
            try:
                client = self.server.client()
            except OSError as error:
                self.note("refused", str(error))
                if self.over.wait(0.01):
                    return
                continue
            served = pid = 0
            with client:
                while served < 50 and not self.over.is_set():
                    try:
                        answer = client.request(self.target)
                    except Ended:
                        self.note("ended" if served else "unserved")
                        self.lose(pid)
                        break
                    except (Broken, OSError) as error:
                        self.lose(pid)
                        started = bool(client.buffer) or (isinstance(error, Broken) and "reset" not in str(error))
                        self.note("broken" if served or started else "unserved", repr(error))
                        break
                    served += 1
                    self.note("answered" if answer.status == 200 else f"status {answer.status}")
                    pid = int(answer.body.split()[0])
                    with self.lock:
                        self.pids[pid] += 1
                    if answer.get("Connection") == "close":
                        break

    def answered(self) -> int:
        return self.outcomes["answered"]

    def go_on(self, more: int = 200) -> None:
        """Until that many more answers have come."""
        target = self.answered() + more
        until(lambda: self.answered() >= target, f"{more} more answers")

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
