# SPDX-License-Identifier: BSD-2-Clause
"""Starts the real binary with a real configuration, and looks at what it left behind when it ended.

Nothing here waits for a time: until() polls a condition and fails with a sentence when it does not come.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from client import Client

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LICORNE_BUILD") or ROOT / "build").resolve()
BINARY = BUILD / "licorne"
APPS = ROOT / "test" / "apps"
VENV = Path(os.environ.get("LICORNE_VENV") or ROOT / ".venv-test")  # of the embedded Python's version
if not BINARY.exists():
    sys.exit(f"{BINARY} is not built; LICORNE_BUILD names the build tree")
OPTIONS: dict[str, Any] = {
    o["name"]: o["value"] for o in json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text())
}
SANITIZED = OPTIONS["b_sanitize"] not in ("none", [], "")
PATIENCE = 60.0 if SANITIZED else 20.0  # how long a condition may take before it counts as never

TROUBLE = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|UndefinedBehavior|Assertion .* failed"
    r"|^Fatal Python",  # indented, it is the end of a worker that the arbiter tells of, with a complaint
    re.M,
)
COMPLAINT = re.compile(r"\[(crit|error|warn)\]")
LISTENING = re.compile(r"listening on (\S+)")
READY = re.compile(r"\bready\b")

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true value of the condition."""
    end = time.monotonic() + patience
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {patience:g} s")
        time.sleep(0.005)


def quote(text: object) -> str:
    """A word of the configuration, whatever it contains."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", str(text)) + '"'


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a server under test: nothing of ours that it reads, sanitizers set up."""
    drop = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    env = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith("LICORNE_")}
    if SANITIZED:
        env["ASAN_OPTIONS"] = "abort_on_error=0:exitcode=99:detect_leaks=1:allocator_may_return_null=1"
        env["LSAN_OPTIONS"] = f"suppressions={ROOT / 'test' / 'integration' / 'lsan.supp'}:print_suppressions=0"
        env["TSAN_OPTIONS"] = (
            f"suppressions={ROOT / 'test' / 'integration' / 'tsan.supp'}:halt_on_error=1:report_thread_leaks=0:exitcode=99"
        )
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=99"
        env["PYTHONMALLOC"] = "malloc"  # every object is an allocation of its own
    env.update(extra or {})
    return env


def pool(
    worker: str = "wsgi",
    app: str = "probe:app",
    *,
    name: str = "web",
    listen: Iterable[str] = ("127.0.0.1:0",),
    processes: int = 1,
    threads: int = 4,
    inside: str = "",
    block: str = "",
    chdir: Path = APPS,
) -> str:
    """A pool as text; ``inside`` goes into the pool, ``block`` into its worker block."""
    lines = [f"pool {name} {{"]
    lines += [f"    listen {address}{'' if address.endswith(' }') else ';'}" for address in listen]
    lines += [
        f"    processes {processes};",
        f"    {inside}",
        f"    worker {worker} {{",
        f"        app {app};" if app else "",
    ]
    lines += [f"        chdir {quote(chdir)};"]
    if worker == "wsgi":
        lines += [f"        threads {threads};"]
    lines += [f"        {block}", "    }", "}"]
    return "\n".join(lines) + "\n"


def config(*pools: str, main: str = "", workers: Iterable[str] = ("wsgi", "sync")) -> str:
    """A configuration file: the modules that the pools use, and the pools."""
    text = "".join(pools)
    loads = [f"load_module {w};" for w in workers if f"worker {w} " in text]
    return "\n".join(["load_module http1;", *loads, "error_log stderr info;", main, *pools]) + "\n"


def head(line: str) -> str:
    """Second, level, process of a log line: the same for all lines of a traceback and for what introduces it."""
    return re.sub(r"\.\d+Z", "", " ".join(line.split(" ", 4)[:4]))


def children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return below + [d for child in below for d in descendants(child)]


def alive(pid: int) -> bool:
    """Whether there is such a process and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def descriptors(pid: int) -> dict[str, str]:
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
    return found


def memory(pid: int) -> int:
    """Anonymous memory in bytes: what a process has for itself; shares of libraries change with who else uses them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Anonymous:\s+(\d+) kB", text, re.M)
    assert found
    return int(found[1]) * 1024


def cpu(pid: int) -> float:
    """Seconds of CPU time that the threads of a process have had, those that have ended left out."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def open_files(need: int) -> None:
    """So many descriptors for this process and what it starts; fails with a sentence where that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= need:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, max(hard, need)))
    except (ValueError, PermissionError):
        raise AssertionError(
            f"this test needs {need} open files, the hard limit is {hard}: raise it (ulimit -Hn {need})"
        ) from None


def run(*args: str | Path, env: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the binary to its end."""
    return subprocess.run(
        [BINARY, *args],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **more,
    )


class Gate:
    """What a request of the probe application waits for.

    open() lets go all that wait; wait for an effect of it before the next: the FIFO does not count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o666)

    def open(self) -> None:
        """Let the waiting request go on; waits until there is one."""
        with self.path.open("wb"):
            pass

    def remove(self) -> None:
        """Nobody waits here any more, now or later."""
        release = os.open(self.path, os.O_RDWR)  # lets go who waits: a writer is there, and then it is gone
        free = self.path.with_suffix(".free")
        free.touch()
        free.replace(self.path)
        os.close(release)


class Server:
    """One arbiter and what it started."""

    def __init__(
        self,
        folder: Path,
        text: str | None = None,
        *,
        args: Iterable[str | Path] = (),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        before: Iterable[str] = (),
        program: Path = BINARY,
        pass_fds: Iterable[int] = (),
        listeners: int = 1,
        ready: int = 1,
    ) -> None:
        """Start with a configuration text, or with arguments only; waits for that many listeners and workers."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.crashes = False  # the test makes a worker crash: traces of that in the log are no trouble
        self.allowed: list[str] = []
        self.addresses: list[str] = []
        self.status: int | None = None
        argv: list[str | Path] = [*before, program]
        if text is not None:
            self.conf = folder / "licorne.conf"
            self.conf.write_text(text)
            argv += ["-c", self.conf]
        argv += args
        self.stderr = folder / "stderr.log"
        self.stdout = folder / "stdout.log"
        with self.stderr.open("wb") as err, self.stdout.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(env),
                cwd=cwd,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        self.pid = self.process.pid
        self.seen: set[int] = set()
        try:
            self.wait_log(READY, ready)
            self.addresses = [m[1] for m in self.wait_log(LISTENING, listeners)]
            self.fds = descriptors(self.pid)
            self.family = len(self.workers())
        except BaseException:
            self.kill()
            raise

    # ---- looking

    @property
    def log(self) -> str:
        return self.stderr.read_text(errors="replace")

    def wait_log(
        self, pattern: str | re.Pattern[str], count: int = 1, patience: float = PATIENCE
    ) -> list[re.Match[str]]:
        """Wait until the pattern stands in the log that many times."""

        def look() -> tuple[list[re.Match[str]]] | None:
            found = list(re.finditer(pattern, self.log))
            if len(found) >= count:
                return (found,)
            if self.process.poll() is not None:
                raise AssertionError(f"ended with status {self.process.returncode}; its log:\n{self.log}")
            return None

        try:
            answer = until(look, f"{count} times {pattern!r} in the log", patience)
            assert answer
            return answer[0]
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log}") from None

    def workers(self) -> list[int]:
        found = sorted(p for p in children(self.pid) if alive(p))
        self.seen.update(found)
        return found

    def allow(self, *patterns: str) -> None:
        """Complaints that this test provokes."""
        self.allowed += patterns

    # ---- talking

    def socket(self, which: int = 0) -> socket.socket:
        address = self.addresses[which]
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address.removeprefix("unix:"))
            return sock
        host, _, port = address.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "*": "127.0.0.1"}.get(host, host.strip("[]"))
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def client(self, which: int = 0) -> Client:
        return Client(self.socket(which), timeout=PATIENCE)

    def url(self, path: str = "/", which: int = 0) -> str:
        return f"http://{self.addresses[which]}{path}"

    def get(self, path: str = "/", which: int = 0) -> str:
        """The text of a page, over a connection of its own."""
        with self.client(which) as c:
            answer = c.request(path, headers=("Connection: close",))
            assert answer.status == 200, answer
            return answer.text

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    # ---- ending

    def kill(self) -> None:
        """Away with all of it, whatever it does."""
        everyone = descendants(self.pid)
        self.process.kill()
        self.process.wait()
        for pid in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait(self, status: int = 0, patience: float = PATIENCE) -> None:
        """Wait for the end; nobody and no unexpected complaint may be left."""
        everyone = set(descendants(self.pid)) | self.seen
        try:
            self.status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            log = self.log
            self.kill()
            raise AssertionError(f"did not end within {patience:g} s; its log:\n{log}") from None
        assert self.status == status, f"exit status {self.status}, not {status}; its log:\n{self.log}"
        until(lambda: not [p for p in everyone if alive(p)], "the end of every process", 10)
        self.check_log()

    def check_log(self) -> None:
        text = self.log + self.stdout.read_text(errors="replace")
        assert self.crashes or not TROUBLE.search(text), text
        complaints = [line for line in text.splitlines() if COMPLAINT.search(line)]
        allowed = {head(line) for line in complaints if any(re.search(p, line) for p in self.allowed)}
        strange = [line for line in complaints if head(line) not in allowed]
        assert not strange, "unexpected in the log:\n" + "\n".join(strange)

    def stop(self, number: int = signal.SIGTERM, status: int = 0) -> None:
        """End it by a signal, with every check; for a test's own end, and for the fixture's."""
        if self.status is not None:
            return
        if self.process.poll() is None:
            self.check_descriptors()
            self.workers()
            self.send_signal(number)
        self.wait(status)

    def check_descriptors(self) -> None:
        """The arbiter has as many descriptors as when it had just started, and three for each further child."""

        def same() -> bool:
            return len(descriptors(self.pid)) == len(self.fds) + 3 * (len(self.workers()) - self.family)

        try:
            until(same, "descriptors of the arbiter", 5)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.fds} became {descriptors(self.pid)}") from None
