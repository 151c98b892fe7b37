# SPDX-License-Identifier: BSD-2-Clause
"""The arbiter against scripted zygotes: it believes no pid that it cannot know, and loses no worker's death."""

from __future__ import annotations

import os
import re
import signal
import unittest
from pathlib import Path

from scripted import Arbiter, state, until


class ZygoteTest(Arbiter):
    def zygote(self, word: str) -> None:
        (self.dir / "zygote").write_text(word)

    def begin(self, processes: int = 2, main: str = "", wait: bool = True) -> None:
        self.start(processes, main=main, pool="preload on;", wait=wait)

    def zygotes(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"zygote web started as pid (\d+)", self.log)]

    def all_ready(self, count: int) -> bool:
        ready = {int(pid) for pid in re.findall(r"worker web/\d \(pid (\d+)\) is ready", self.log)}
        return len(ready & set(self.children())) == count

    def breaks(self, word: str, pattern: str, stays: bool = False) -> None:
        """A zygote with that script comes while workers serve, and is replaced by one that is as it should be.

        ``stays``: not for what it does.
        """
        self.begin()
        fds = self.fds()
        kept = self.worker(1)
        self.zygote(word)
        os.kill(self.zygotes()[-1], signal.SIGKILL)
        until(lambda: len(self.zygotes()) == 2, "another zygote")
        os.kill(self.worker(0), signal.SIGKILL)
        self.log_has(pattern)
        self.zygote("ok")
        if stays:
            os.kill(self.zygotes()[-1], signal.SIGKILL)
        until(lambda: self.all_ready(2), "two workers")
        self.assertIn(kept, self.children())
        until(lambda: self.fds() == fds, "descriptors as before")
        self.stop()

    def test_life(self) -> None:
        self.zygote("look")
        self.begin(3)
        (z,) = self.zygotes()
        self.log_has(r"zygote: fds at start: 0 1 2 3( \d+)*; group own")
        self.log_has(r"zygote: setup: slot 0 of 3, first 1, prefix .*, 0 listeners, access log 0, text [1-9]")
        self.assertEqual(sorted(self.children()), sorted([z, *(self.worker(i) for i in range(3))]))
        self.assertTrue(Path(f"/proc/{z}/cmdline").read_bytes().startswith(b"licorne: zygote web"))
        for i in range(3):
            self.assertEqual(os.getpgid(self.worker(i)), self.worker(i))
        self.stop()

    def test_quick(self) -> None:
        for number in (signal.SIGINT, signal.SIGQUIT):
            self.begin()
            self.send(number)
            self.assertLess(self.end(), 2)

    def test_arbiter_killed(self) -> None:
        self.begin()
        pids = self.children()
        self.send(signal.SIGKILL)
        self.end(-signal.SIGKILL)
        for pid in pids:
            until(lambda: state(pid) in ("", "Z"), "its end")

    def test_names_the_arbiter(self) -> None:
        self.breaks("lies-arbiter", r"zygote web \(pid \d+\) says that it has forked process \d+, which is none of its")

    def test_names_another_process(self) -> None:
        self.breaks("lies-init", r"says that it has forked process 1, which is none of its: the arbiter sends SIGKILL")

    def test_names_itself(self) -> None:
        self.breaks("lies-self", r"says that it has forked process \d+, which is none of its")

    def test_was_not_asked(self) -> None:
        self.breaks("unasked", r"says that it has forked process \d+, which is none of its")

    def test_says_what_is_a_workers_to_say(self) -> None:
        self.breaks("beats", r"zygote web .* broke the rules of its channel: message HEARTBEAT is not its to send")

    def test_dies_when_asked(self) -> None:
        self.breaks("dies", r"zygote web \(pid \d+\) exited with status 9")

    def test_does_not_answer(self) -> None:
        self.zygote("hangs")
        self.begin(1, main="heartbeat_timeout 500ms;", wait=False)
        self.log_has(r"zygote web \(pid \d+\) has not forked a worker within heartbeat_timeout, 0.5 s")
        self.zygote("ok")
        until(lambda: self.all_ready(1), "a worker")
        self.stop()

    def test_cannot_fork(self) -> None:
        self.breaks("fails", r"worker web/0 cannot be started: fork: Resource temporarily unavailable", stays=True)

    def test_cannot_fork_at_first(self) -> None:
        self.zygote("fails")
        self.begin(1, wait=False)
        self.end(3)
        self.assertIn("no worker of pool web could start", self.log)

    def test_worker_dead_before_it_is_known(self) -> None:
        """Its end is told like that of others, and its slot is used again."""
        self.breaks(
            "stillborn",
            r"worker web/0 \(pid \d+\) exited with status 7 after [\d.]+ s, before it could serve",
            stays=True,
        )

    def test_workers_of_a_stopped_pool(self) -> None:
        """One that was asked for and is not there yet does not hold up the end."""
        self.zygote("hangs")
        for number in (signal.SIGTERM, signal.SIGINT):
            self.begin(2, wait=False)
            self.log_has(r"zygote web .* has loaded the application")
            self.send(number)
            self.assertLess(self.end(), 5)

    def test_boot_failure_in_a_fork(self) -> None:
        self.script("boot-fails")
        self.begin(1, wait=False)
        self.end(3)
        self.assertIn("Boom: it does not start", self.log)


if __name__ == "__main__":
    unittest.main(verbosity=2)
