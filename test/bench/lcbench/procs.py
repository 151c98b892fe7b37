# SPDX-License-Identifier: BSD-2-Clause
"""Child processes: start pinned, watch, measure, and kill whatever happens.

Everything started here dies with the benchmark: a normal end and a signal go through ``kill_all`` (the benchmark is a
subreaper, so that what a server orphans is found too), and after a SIGKILL of the benchmark itself a guardian, which
sees its pipe end, kills the sessions of the servers (each has its own).

CPU time is read in nanoseconds from ``/proc/PID/task/*/schedstat``, over the whole tree.  That file forgets threads
that have ended; ``Usage.since`` notices (``/proc/PID/stat`` remembers them, in ticks of 10 ms) and takes the other
figure then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TICK = os.sysconf("SC_CLK_TCK")
_started: list[subprocess.Popen[bytes]] = []
_guardian = -1  # the pipe on which the guardian learns what to kill


class BenchError(Exception):
    """Something that ends one row or one server, with a sentence for the table."""


def _sessions(wanted: set[int]) -> list[int]:
    """The processes of some sessions."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if int((_stat(pid) or ["0"] * 4)[3]) in wanted]


def _guard_sessions(pipe: int) -> None:
    """The guardian: +SID and -SID come in; when the writer is gone, so are the sessions."""
    os.setsid()
    wanted: set[int] = set()
    with open(pipe) as told:
        for line in told:
            (wanted.add if line[0] == "+" else wanted.discard)(int(line[1:]))
    for _ in range(3):
        _kill_pids(_sessions(wanted))
        time.sleep(0.05)


def guard() -> None:
    """Make this process the one that orphans come to, and turn the usual signals into an orderly end."""
    global _guardian
    reader, _guardian = os.pipe()
    if os.fork() == 0:
        try:
            os.close(_guardian)
            _guard_sessions(reader)
        finally:
            os._exit(0)
    os.close(reader)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def stop(signum: int, _frame: object) -> None:
        sys.exit(128 + signum)

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, stop)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (field 3 is index 0); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields and fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _kill_pids(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_all() -> None:
    """Kill every descendant, also those that a server left behind."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    for _ in range(50):
        rest = tree(os.getpid())[1:]
        _kill_pids(rest)
        for proc in _started:
            proc.poll()
        _reap()
        if not rest:
            return
        time.sleep(0.02)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def pinned(cpu: int, argv: Sequence[str]) -> list[str]:
    """The command that runs another on one core and dies with us."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(cpu), *argv]


def run_tool(
    cpu: int, argv: Sequence[str], timeout: float, spin: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a load generator to its end, at most ``timeout`` seconds; with ``spin`` (spin.c) it never sleeps."""
    name = Path(argv[0]).name
    if spin:
        argv = ["env", f"LD_PRELOAD={spin}", *argv]
    proc = subprocess.Popen(
        pinned(cpu, argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = proc.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"{name} did not end within {timeout:.0f} s") from exc
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.communicate()
    if proc.returncode != 0:
        raise BenchError(f"{name} exit {proc.returncode}: {(err or out).strip()[-300:]}")
    return subprocess.CompletedProcess(argv, proc.returncode, out, err)


@dataclass
class Usage:
    """CPU time of a process tree at one instant."""

    threads: dict[tuple[int, int], int] = field(default_factory=dict)  # (pid, tid): ns
    ticks: dict[int, float] = field(default_factory=dict)  # pid: seconds, ended threads included
    at: float = 0.0

    @classmethod
    def of(cls, root: int) -> Usage:
        """Read it now."""
        usage = cls(at=time.monotonic())
        for pid in tree(root):
            with contextlib.suppress(OSError):
                for tid in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(OSError):
                        text = Path(f"/proc/{pid}/task/{tid}/schedstat").read_text()
                        usage.threads[pid, int(tid)] = int(text.split()[0])
            fields = _stat(pid)
            if fields:
                usage.ticks[pid] = (int(fields[11]) + int(fields[12])) / TICK
        return usage

    def since(self, before: Usage) -> float:
        """Seconds of CPU used since ``before``."""
        gone = set(before.ticks) - set(self.ticks)
        if gone:
            raise BenchError(f"{len(gone)} of its processes ended during the row")
        exact = sum(ns - before.threads.get(key, 0) for key, ns in self.threads.items()) / 1e9
        coarse = sum(s - before.ticks.get(pid, 0.0) for pid, s in self.ticks.items())
        return coarse if coarse - exact > max(0.03, 0.03 * exact) else exact


def memory(root: int) -> dict[str, int]:
    """In bytes, of a tree: its proportional set size, the anonymous part of that, and what it shares with nobody."""
    total = {"pss": 0, "pss_anon": 0, "private": 0}
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total["pss"] += int(line.split()[1]) * 1024
                elif line.startswith("Pss_Anon:"):
                    total["pss_anon"] += int(line.split()[1]) * 1024
                elif line.startswith("Private_"):
                    total["private"] += int(line.split()[1]) * 1024
    return total


def core_busy(cpu: int) -> float:
    """Seconds that a core has been busy since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{cpu}":
            n = [int(v) for v in values]
            return (sum(n[:8]) - n[3] - n[4]) / TICK  # not idle, not waiting for a disk
    raise BenchError(f"no cpu{cpu} on this machine")


class Running:
    """A server that runs, pinned, in a session of its own, its output in a file."""

    def __init__(self, name: str, argv: Sequence[str], cpu: int, cwd: Path, env: dict[str, str], log: Path) -> None:
        self.name, self.cpu, self.log = name, cpu, log
        with log.open("wb") as out:
            self.proc = subprocess.Popen(
                pinned(cpu, argv),
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _started.append(self.proc)
        if _guardian >= 0:
            os.write(_guardian, b"+%d\n" % self.proc.pid)

    def last_words(self) -> str:
        """The last line that says something of what the server printed."""
        lines = [ln.strip() for ln in self.log.read_text(errors="replace").splitlines() if ln.strip()]
        return lines[-1][-200:] if lines else "(no output)"

    def assert_alive(self) -> None:
        """A server that has ended is a finding, with its last words."""
        if self.proc.poll() is not None:
            raise BenchError(f"ended with status {self.proc.returncode}: {self.last_words()}")

    def wait_ready(self, check: Callable[[], object], timeout: float = 20.0) -> None:
        """Until ``check`` passes; its last complaint if it never does."""
        deadline = time.monotonic() + timeout
        while True:
            self.assert_alive()
            try:
                check()
                return
            except (OSError, BenchError) as exc:
                if time.monotonic() > deadline:
                    raise BenchError(f"no good answer in {timeout:.0f} s: {exc}; {self.last_words()}") from exc
            time.sleep(0.05)

    def assert_pinned(self) -> None:
        """Each thread of the tree must be on the one core, or the figures mean nothing."""
        for pid in tree(self.proc.pid):
            with contextlib.suppress(OSError):
                for tid in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(ProcessLookupError):
                        cpus = os.sched_getaffinity(int(tid))
                        if cpus != {self.cpu}:
                            raise BenchError(f"thread {tid} runs on cores {sorted(cpus)}")

    def stop(self) -> None:
        """SIGTERM, two seconds, then SIGKILL for all of the tree."""
        pids = tree(self.proc.pid)
        if self.proc.poll() is None:
            self.proc.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.proc.wait(2)
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.wait()
        mine = set(tree(os.getpid()))
        _kill_pids([pid for pid in pids if pid in mine and pid != os.getpid()])
        _reap()
        if _guardian >= 0:
            os.write(_guardian, b"-%d\n" % self.proc.pid)
