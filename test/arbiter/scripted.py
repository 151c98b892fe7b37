# SPDX-License-Identifier: BSD-2-Clause
"""An arbiter with scripted workers, for the tests beside this file: started, looked at, ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

DOUBLE = sys.argv.pop(1)
PATIENCE = 30.0
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {patience:g} s")
        time.sleep(0.005)
    return value


def state(pid: int) -> str:
    """One letter of /proc/PID/stat, empty: no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Arbiter(unittest.TestCase):
    def setUp(self) -> None:
        tmp = tempfile.TemporaryDirectory(prefix="lc-arbiter-")
        self.addCleanup(tmp.cleanup)
        self.dir = Path(tmp.name)
        self.dir.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None
        self.addCleanup(self.clean)
        self.seen: set[int] = set()

    def clean(self) -> None:
        if self.process and self.process.poll() is None:
            pids = self.children()
            self.process.kill()
            self.process.wait()
            for pid in pids:
                if state(pid) not in ("", "Z"):
                    os.kill(pid, signal.SIGKILL)

    # ---- starting

    def script(self, word: str, slot: int | None = None) -> None:
        (self.dir / ("all" if slot is None else str(slot))).write_text(word)

    def start(
        self,
        processes: int = 2,
        main: str = "",
        pool: str = "",
        listen: str = "127.0.0.1:0",
        wait: bool = True,
        before: tuple[str, ...] = (),
        errors: Path | None = None,
        text: str = "",
        program: str | Path = DOUBLE,
    ) -> None:
        """Start it with a configuration as the arguments say, or with ``text``."""
        self.errors = errors or self.dir / "log"
        conf = self.dir / "test.conf"
        conf.write_text(
            text
            or f"error_log {errors or 'stderr'} debug;\n{main}\npool web {{\n  listen {listen};\n  processes {processes};\n"
            f"  respawn_delay 100ms 2s;\n  {pool}\n  worker scripted {{ whatever x; }}\n}}\n"
        )
        with (self.dir / "log").open("wb") as err:
            self.process = subprocess.Popen(
                [*before, program, conf],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                env={**os.environ, "LC_SCRIPTS": str(self.dir)},
                start_new_session=True,
            )
        if wait:
            self.log_has(r"is ready", processes)

    # ---- looking

    @property
    def log(self) -> str:
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def log_has(self, pattern: str, count: int = 1) -> list[str]:
        def look() -> list[str]:
            found = [line for line in self.log.splitlines() if re.search(pattern, line)]
            if len(found) >= count:
                return found
            if self.process and self.process.poll() is not None and len(found) < count:
                raise AssertionError(f"ended with {self.process.returncode} without {pattern!r}:\n{self.log}")
            return []

        try:
            return until(look, f"{count} times {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def children(self) -> list[int]:
        try:
            pids = [int(p) for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []
        self.seen.update(pids)
        return pids

    def worker(self, slot: int) -> int:
        """The pid that a slot had last."""
        found = re.findall(rf"worker web/{slot} started as pid (\d+)", self.log)
        return int(found[-1])

    def recovered(self) -> bool:
        """Slot 0 has a worker that serves, and its script is the good one."""
        pid = self.worker(0)
        ready = re.search(rf"web/0 \(pid {pid}\) is ready", self.log)
        return bool(ready) and pid in self.children() and f"{pid} worker web/0: script ok" in self.log

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, status: int = 0, patience: float = PATIENCE) -> float:
        assert self.process
        begun = time.monotonic()
        self.children()
        try:
            got = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end:\n{self.log}") from None
        took = time.monotonic() - begun
        self.assertEqual(got, status, self.log)
        self.assertNotRegex(self.log, r"Sanitizer|runtime error|Assertion")
        for pid in self.seen:
            until(lambda: state(pid) == "", f"the end of {pid}")
        return took

    def stop(self) -> float:
        self.send(signal.SIGTERM)
        return self.end()
