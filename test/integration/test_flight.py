# SPDX-License-Identifier: BSD-2-Clause
"""Workers that hang, are stuck or die: the log says with which request and in which function, and others serve on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest
from client import Broken, Client
from conftest import Start
from harness import PATIENCE, SANITIZED, Gate, Server, alive, config, pool, stopped, until

LIMIT = "request_timeout 1s;"


def ask(server: Server, target: str, method: str = "GET", more: str = "") -> Client:
    """A request whose answer is not waited for."""
    c = server.client()
    c.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
    return c


def report(server: Server, pattern: str) -> str:
    """The line of the log that fits, with the lines that belong to it."""
    server.wait_log(pattern)
    lines = server.log.splitlines()
    at = next(i for i, line in enumerate(lines) if re.search(pattern, line))
    end = at + 1
    while end < len(lines) and lines[end].startswith("    "):
        end += 1
    return "\n".join(lines[at:end])


class Others:
    """Clients of new connections, which the other workers answer; the slowest answer is kept."""

    def __init__(self, server: Server) -> None:
        self.server, self.slowest, self.count = server, 0.0, 0
        self.over = threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            while not self.over.is_set():
                begun = time.monotonic()
                self.server.get("/")
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.count += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> Others:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if self.error:
            raise self.error


# ---- request_timeout


def test_python_loop_gets_504(start: Start, worker: str) -> None:
    """The exception ends it; the worker lives, and the log has the traceback."""
    server = start(config(pool(worker, app="hangs:app", inside=LIMIT)))
    server.allow(r"request_timeout: GET /spin\?x=1 from 127\.0\.0\.1$")
    (pid,) = server.workers()
    with server.client() as c:
        answer = c.request("/spin?x=1")
        assert (answer.status, answer.text) == (504, "Gateway Timeout\n")
        assert int(c.request("/").text.split()[0]) == pid
    told = report(server, r"request_timeout: GET /spin")
    assert "in spin_for_ever" in told
    assert told.endswith("RequestTimeout")
    assert server.workers() == [pid]


def test_after_the_head_the_answer_is_cut(start: Start, worker: str) -> None:
    server = start(config(pool(worker, app="hangs:app", inside=LIMIT)))
    server.allow(r"request_timeout: GET /stream")
    with ask(server, "/stream") as c, pytest.raises((Broken, ConnectionResetError)):
        c.response()
    assert "in spin_for_ever" in report(server, r"request_timeout: GET /stream")
    assert server.get("/")


def test_time_of_the_client_is_not_the_applications(start: Start, worker: str) -> None:
    """A call that waits for its request's body is judged by what it does itself."""
    server = start(config(pool(worker, app="hangs:app", inside="request_timeout 300ms;")))
    with ask(server, "/body", "POST", "Content-Length: 10\r\n") as c:
        for _ in range(5):
            time.sleep(0.3)  # the subject is time: five times the limit in all
            c.send("xx")
        answer = c.response("POST")
        assert (answer.status, answer.text.split()[1]) == (200, "10")


def test_fast_calls_are_left_alone(start: Start, worker: str) -> None:
    """Each call has its own limit, whatever came before on the same connection and thread."""
    server = start(config(pool(worker, app="hangs:app", inside="request_timeout 200ms;")))
    with server.client() as c:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert c.request("/").status == 200


@pytest.mark.parametrize(
    ("path", "function"),
    [("/lock", "wait_for_the_lock"), ("/gil", "keep_the_gil"), ("/swallow", "swallow_everything")],
)
def test_stuck_call(start: Start, worker: str, path: str, function: str) -> None:
    """What no exception ends: request and function are in the log, the worker is replaced, others serve on."""
    server = start(
        config(pool(worker, app="hangs:app", processes=2, inside=LIMIT), main="graceful_timeout 1s;"), ready=2
    )
    server.allow(r"is stuck in a call", r"graceful_timeout", r"was killed by SIGKILL")
    before = server.workers()
    with ask(server, path + "?secret=1"):
        told = report(
            server, rf"is stuck in a call that request_timeout, 1\.0 s, could not end: GET {path} from 127\.0\.0\.1; "
        )
        match = re.search(r"\(pid (\d+)\) is stuck", told)
        assert match
        victim = int(match[1])
        assert victim in before
        assert re.search(
            rf"^    GET {path} from 127\.0\.0\.1, for \d\.\d s: in the application for \d\.\d s, thread \d+$",
            told,
            re.M,
        ), told
        assert function in told
        assert "secret" not in told
        assert re.search(r'^    thread \d+ "watchdog": ', told, re.M)
        server.wait_log(r"\bis ready\b", 3)
        until(lambda: not alive(victim), "the end of the stuck one")
    until(lambda: len(server.workers()) == 2, "two workers")
    (other,) = set(before) - {victim}
    assert other in server.workers()
    with Others(server) as load:
        until(lambda: load.count >= 20, "answers")


def test_others_of_the_stuck_worker_finish(start: Start) -> None:
    """It is drained: a call on another thread of it gets its answer through."""
    server = start(config(pool(app="hangs:app", inside=LIMIT), main="graceful_timeout 30s;"))
    server.allow(r"is stuck in a call", r"SIGKILL", r"graceful_timeout", r"SIGINT")
    (victim,) = server.workers()
    with ask(server, "/lock"):
        # a client that has sent half of its body is waited for, not judged
        with ask(server, "/body", "POST", "Content-Length: 4\r\n") as c:
            c.send("ab")
            server.wait_log(r"is stuck in a call: it is replaced")
            server.wait_log(r"\bis ready\b", 2)
            c.send("cd")
            answer = c.response("POST")
            assert answer.text.split() == [str(victim), "4"]
            assert answer.get("Connection") == "close"
        assert server.get("/").split()[0] != str(victim)
        server.stop(signal.SIGINT)


# ---- heartbeat_timeout judges loops


def test_long_call_is_no_silence(start: Start, worker: str, tmp_path: Path) -> None:
    """Without request_timeout a call may take as long as it likes, also on the thread that leads the loop."""
    gate = Gate(tmp_path / "gate")
    server = start(config(pool(worker, app="hangs:app"), main="heartbeat_timeout 400ms;"), env={"GATE": str(gate.path)})
    (pid,) = server.workers()
    with server.client() as c:
        for _ in range(100):  # calls are proven fast: the next one runs on the loop's thread
            c.request("/")
        c.send("GET /gate HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2)  # the subject is time: five times the limit
        assert server.workers() == [pid]
        gate.open()
        answer = c.response()
        assert int(answer.text.split()[0]) == pid


def test_gil_that_is_kept_is_no_silence(start: Start, worker: str) -> None:
    server = start(config(pool(worker, app="hangs:app"), main="heartbeat_timeout 400ms;"))
    (pid,) = server.workers()
    with ask(server, "/gil"):
        time.sleep(2)  # the subject is time: five times the limit
        assert server.workers() == [pid]
        server.allow(r"held 1 request when it was killed|did not exit within|SIGKILL")
        server.stop(signal.SIGINT)


def test_stopped_worker(start: Start, worker: str) -> None:
    """State T and what it held, while the other answers as fast as ever."""
    server = start(config(pool(worker, app="hangs:app", processes=2), main="heartbeat_timeout 1s;"), ready=2)
    server.allow(r"gave no sign of life|was to abort|was killed by SIGKILL")
    with ask(server, "/sleep?q"):
        victim = until(lambda: next((p for p in server.workers() if sleeping(p)), None), "the call")
        assert victim
        os.kill(victim, signal.SIGSTOP)
        until(lambda: stopped(victim), "the stop")
        with Others(server) as load:
            told = report(server, rf"\(pid {victim}\) gave no sign of life for .*; State: T \(stopped by a signal\)")
            until(lambda: not alive(victim), "its end")
        print(f"\n{load.count} answers meanwhile, the slowest after {load.slowest:.3f} s")
        assert load.count > 0
        assert re.search(r"^    GET /sleep from 127\.0\.0\.1, for \d\.\d s: in the application", told, re.M), told
        assert "it did not tell the stacks" in told
    until(lambda: len(server.workers()) == 2, "two workers")


def asleep(pid: int) -> bool:
    """No thread of it has anything to do."""
    stats = (Path(f"/proc/{pid}/task/{t}/stat").read_text() for t in os.listdir(f"/proc/{pid}/task"))
    return all(s.rpartition(")")[2].split()[0] == "S" for s in stats)


def p99(c: Client, pid: int) -> float:
    """Of 300 answers of one worker on one connection, ms."""
    took = []
    for _ in range(300):
        begun = time.monotonic()
        assert c.request("/").text.split()[0] == str(pid)
        took.append(time.monotonic() - begun)
    return sorted(took)[296] * 1000


@pytest.mark.parametrize("how", ["/spin", "/lock", "/gil", "stopped"])
def test_other_workers_go_on(start: Start, worker: str, how: str) -> None:
    """Clients of the other get every answer, and in time, while one hangs, is looked at and ended."""
    server = start(
        config(
            pool(worker, app="hangs:app", processes=2, inside=LIMIT), main="heartbeat_timeout 1s; graceful_timeout 1s;"
        ),
        ready=2,
    )
    server.allow(".")
    with contextlib.ExitStack() as stack:
        clients: dict[int, Client] = {}
        while len(clients) < 2:
            c = stack.enter_context(server.client())
            clients.setdefault(int(c.request("/").text.split()[0]), c)
        (other, one), (victim, two) = clients.items()
        before = p99(one, other)
        if how == "stopped":
            os.kill(victim, signal.SIGSTOP)
            until(lambda: stopped(victim), "the stop")
        else:
            two.send(f"GET {how} HTTP/1.1\r\nHost: x\r\n\r\n")
        over = rf"request_timeout: GET {how}|\(pid {victim}\) (is stuck in a call|gave no sign of life)"
        during = [p99(one, other)]
        while not re.search(over, server.log):
            during.append(p99(one, other))
        print(
            f"\n{worker}, {how}: p99 {before:.2f} ms before, {statistics.median(during):.2f} ms while the other hangs"
        )
        if how in ("/lock", "/gil", "stopped"):
            until(lambda: not alive(victim), "its end")


def sleeping(pid: int) -> bool:
    """A thread of it is in clock_nanosleep(), which nothing but the application calls."""
    numbers = ("230 ", "35 ", "115 ", "101 ")
    for task in os.listdir(f"/proc/{pid}/task"):
        if Path(f"/proc/{pid}/task/{task}/syscall").read_text().startswith(numbers):
            return True
    return False


# ---- deaths


def test_killed(start: Start, worker: str) -> None:
    server = start(config(pool(worker, app="hangs:app")))
    server.allow(r"was killed|when it was killed")
    (pid,) = server.workers()
    with ask(server, "/sleep") as c:
        until(lambda: sleeping(pid), "the call")
        os.kill(pid, signal.SIGKILL)
        told = report(server, rf"\(pid {pid}\) held 1 request when it was killed:")
        assert re.search(
            r"^    GET /sleep from 127\.0\.0\.1, for \d\.\d s: in the application for \d\.\d s, thread \d+$", told, re.M
        ), told
        with pytest.raises((Broken, ConnectionResetError)):
            c.response()
    assert server.get("/")


def test_waiting_requests_are_named(start: Start) -> None:
    """Those that have no thread yet, too."""
    server = start(config(pool(app="hangs:app", threads=1)))
    server.allow(r"was killed|when it was killed")
    (pid,) = server.workers()
    with ask(server, "/sleep"):
        until(lambda: sleeping(pid), "the call")
        with ask(server, "/after/it", "POST", "Content-Length: 0\r\n"), server.client() as c:
            c.send("GET /half HTTP/1.1\r\n")  # no request yet: held by nobody
            until(lambda: held(server, pid), "the second request")
            os.kill(pid, signal.SIGKILL)
            told = report(server, r"held 2 requests when it was killed:")
    assert re.search(r"^    POST /after/it from 127\.0\.0\.1, for \d\.\d s: waiting for a thread$", told, re.M), told
    assert told.index("/sleep") < told.index("/after/it"), "the oldest comes first"


def held(server: Server, pid: int) -> bool:
    """The second request has reached its worker: nothing waits in the socket."""
    port = int(server.addresses[0].rpartition(":")[2])
    rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    mine = [r.split() for r in rows if r.split()[1].endswith(f":{port:04X}") and r.split()[3] == "01"]
    return len(mine) == 3 and all(r[4] == "00000000:00000000" for r in mine)


def test_crash_in_c(start: Start, worker: str) -> None:
    """Signal, address, backtrace and the application's stack; a new worker serves."""
    server = start(config(pool(worker, app="hangs:app")))
    server.allow(r"was killed by SIGSEGV|when it was killed|ended|exited")
    (pid,) = server.workers()
    with ask(server, "/crash") as c, pytest.raises((Broken, ConnectionResetError)):
        c.response()
    told = report(server, rf"\(pid {pid}\) held 1 request when it (was killed|ended):")
    assert re.search(r"^    GET /crash from 127\.0\.0\.1, for 0\.\d s: in the application", told, re.M), told
    assert re.search(r"^    SIGSEGV at address 0x0 in thread \d+$", told, re.M), told
    assert "_ctypes" in told
    if not SANITIZED:
        assert "in crash_in_c" in told
    until(lambda: server.workers() not in ([], [pid]), "a new worker", PATIENCE)
    assert server.get("/")


def test_idle_worker_held_nothing(start: Start) -> None:
    server = start(config(pool(app="hangs:app")))
    server.allow(r"was killed")
    (pid,) = server.workers()
    for _ in range(5):
        server.get("/")
    until(lambda: all(asleep(pid) for _ in range(3)), "its rest")  # the client has its answer before that
    os.kill(pid, signal.SIGKILL)
    server.wait_log(r"\bis ready\b", 2)
    assert "held" not in server.log
