# SPDX-License-Identifier: BSD-2-Clause
"""The arbiter: deaths, signals, boot failures, drains, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from client import Broken, Client
from conftest import Start
from harness import (
    BINARY,
    PATIENCE,
    SANITIZED,
    Gate,
    Server,
    alive,
    children,
    config,
    environment,
    pool,
    stopped,
    until,
)
from load import Load

SOON = 10.0 if SANITIZED else 1.0  # in which a worker is replaced


def gone(pid: int) -> bool:
    return not alive(pid)


def counted(server: Server, count: int) -> bool:
    return len(server.workers()) == count


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=PATIENCE)
    return err


def fails(tmp_path: Path, text: str, **env: str) -> tuple[int, str]:
    """Start a configuration that cannot work; its status and its log."""
    conf = tmp_path / "licorne.conf"
    conf.write_text(text)
    process = subprocess.Popen(
        [BINARY, "-c", conf],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        log = finish(process)
    except subprocess.TimeoutExpired:
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        raise
    return process.returncode, log


# ---- deaths


def test_killed_worker_under_load(start: Start) -> None:
    """Others serve on; a new worker answers within a second."""
    server = start(config(pool(processes=3)), ready=3)
    server.allow(r"(?i)signal 9|SIGKILL|killed")
    with Load(server, clients=8) as load:
        before = server.workers()
        assert len(before) == 3
        victim = before[0]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()

        def newcomers() -> set[int]:
            return {p for p in load.pids if p not in before}

        new = until(newcomers, "answers of a new worker")
        took = time.monotonic() - killed
        load.go_on()
    print(f"\nreplaced after {took:.3f} s; {dict(load.outcomes)}")
    assert len(new) == 1
    assert took < SOON
    assert load.outcomes["refused"] == 0
    assert load.outcomes["unserved"] + load.outcomes["broken"] + load.outcomes["ended"] <= 8, load.details
    assert all(load.pids[p] for p in before[1:])


def test_crash_in_the_application(start: Start) -> None:
    server = start(config(pool(processes=2)), ready=2)
    server.allow(r"(?i)signal 6|SIGABRT|abort")
    server.crashes = True
    before = server.workers()
    with server.client() as c:
        c.send("GET /abort HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((Broken, ConnectionResetError)):
            c.response()
    until(lambda: len(server.workers()) == 2 and server.workers() != before, "a new worker")
    assert server.get("/") == "Hello, world!\n"


def test_every_worker_killed_again_and_again(start: Start) -> None:
    """The arbiter stays, with as many descriptors as before; listeners are never lost."""
    server = start(config(pool(processes=2)), ready=2)
    server.allow(r"(?i)signal 9|SIGKILL|killed|back.?off|respawn|degraded")
    for _ in range(3):
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        until(partial(gone, pid), "the death")
        assert server.get("/") == "Hello, world!\n"
    until(lambda: len(server.workers()) == 2, "two workers")


def test_backoff_of_a_worker_that_always_dies(start: Start, tmp_path: Path) -> None:
    """Its slot is filled again, but not in a busy loop; the other worker serves on."""
    (tmp_path / "dies.py").write_text(
        "import os, pathlib\n"
        f"flag = pathlib.Path({str(tmp_path / 'flag')!r})\n"
        "from probe import app\n"
        "if flag.exists():\n"
        "    with flag.open('a') as f: f.write('x')\n"
        "    os.abort()\n"
    )
    block = f"pythonpath {tmp_path};"
    server = start(config(pool(processes=2, app="dies:app", block=block, inside="respawn_delay 100ms 2s;")), ready=2)
    server.allow(r"(?i)worker")
    server.crashes = True
    flag = tmp_path / "flag"
    flag.touch()
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: len(flag.read_text()) >= 4, "four attempts")
    took = time.monotonic() - begun
    assert took > 0.1 + 0.2 + 0.4 - 0.3, "attempts are spaced out"
    for _ in range(10):
        assert server.get("/") == "Hello, world!\n"
    flag.unlink()
    until(lambda: len(server.workers()) == 2, "two workers")
    server.wait_log(r"\bready\b", 3)


def refuses(server: Server) -> bool:
    try:
        server.socket().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # just being closed
        pass
    return False


def test_arbiter_killed(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Workers lose their channel: listeners close at once, what runs is finished, then they end."""
    server = start(config(pool(processes=2)), ready=2)
    workers = server.workers()
    with server.client() as c:
        mark = tmp_path / "mark"
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        server.process.kill()
        server.process.wait()

        until(lambda: refuses(server), "closed listeners")
        gate.open()
        assert c.response().text.startswith("waited")
    until(lambda: not any(alive(p) for p in workers), "the workers' end")
    server.status = -signal.SIGKILL
    server.allow(r"arbiter")
    server.check_log()


def test_address_is_free_when_the_arbiter_was_killed(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Within a second, though a worker still finishes a request: the next licorne can have it."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    text = config(pool(listen=[f"127.0.0.1:{port}"], processes=2))
    server = start(text, ready=2)
    server.allow("arbiter")
    workers = server.workers()
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        server.process.kill()
        server.process.wait()
        killed = time.monotonic()

        until(lambda: refuses(server), "closed listeners")
        assert time.monotonic() - killed < SOON
        other = start(text, ready=2)
        assert other.get("/") == "Hello, world!\n"
        gate.open()
        assert c.response().text.startswith("waited")
    until(lambda: not any(alive(p) for p in workers), "the workers' end")
    server.status = -signal.SIGKILL
    server.check_log()


# ---- signals


def test_term_under_load(start: Start) -> None:
    """Every accepted request is answered in full, and the exit status is 0."""
    server = start(config(pool(processes=2)), ready=2)
    with Load(server, clients=8) as load:
        server.workers()
        server.send_signal(signal.SIGTERM)
        server.wait(0)
    print(f"\n{dict(load.outcomes)}")
    assert load.outcomes["broken"] == 0, load.details
    assert load.outcomes["ended"] == 0, "a request on a connection that was kept alive got no answer"


def test_term_finishes_slow_requests(start: Start, worker: str, gate: Gate, tmp_path: Path) -> None:
    server = start(config(pool(worker)))
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        server.workers()
        server.send_signal(signal.SIGTERM)
        server.wait_log(r"(?i)TERM|drain|stopping")
        assert server.process.poll() is None
        gate.open()
        answer = c.response()
        assert answer.text.startswith("waited")
        # the one thread of a sync worker is in the call: it learns of the end after it
        assert answer.get("Connection") == ("close" if worker == "wsgi" else None)
        assert c.ended()
    server.wait(0)


def test_term_ends_idle_connections(start: Start, worker: str) -> None:
    server = start(config(pool(worker)))
    with server.client() as c:
        assert c.request("/").status == 200
        server.workers()
        server.send_signal(signal.SIGTERM)
        assert c.ended()
    server.wait(0)


def test_graceful_timeout(start: Start, gate: Gate, tmp_path: Path) -> None:
    """A request that does not end is given up at graceful_timeout."""
    server = start(config(pool(), main="graceful_timeout 500ms;"))
    server.allow(r".")
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        server.workers()
        server.send_signal(signal.SIGTERM)
        server.wait(0)
        with pytest.raises((Broken, ConnectionResetError)):
            c.response()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_end(start: Start, number: int, gate: Gate, tmp_path: Path) -> None:
    """Nothing is waited for."""
    server = start(config(pool(processes=2)), ready=2)
    server.allow(r".")
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        server.workers()
        begun = time.monotonic()
        server.send_signal(number)
        server.wait(0)
        assert time.monotonic() - begun < PATIENCE / 4
        with pytest.raises((Broken, ConnectionResetError)):
            c.response()


def test_ttin_ttou(start: Start) -> None:
    server = start(config(pool()))
    for number, count in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
        server.send_signal(number)
        until(partial(counted, server, count), f"{count} workers")
        assert server.get("/") == "Hello, world!\n"
    server.send_signal(signal.SIGTTOU)  # one is the least
    assert server.get("/") == "Hello, world!\n"
    assert len(server.workers()) == 1


def test_ttou_under_load_loses_nothing(start: Start) -> None:
    server = start(config(pool(processes=3)), ready=3)
    with Load(server, clients=6) as load:
        server.send_signal(signal.SIGTTOU)
        until(lambda: len(server.workers()) == 2, "two workers")
        load.go_on()
    assert set(load.outcomes) == {"answered"}, (load.outcomes, load.details)


def test_workers_do_not_mind_the_groups_signals(start: Start) -> None:
    """`pkill -HUP licorne` and Ctrl-C reach workers as well: only the arbiter acts on them."""
    server = start(config(pool()))
    (pid,) = server.workers()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        os.kill(pid, number)
    assert server.get("/pid").split()[0] == str(pid)


def test_pid_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "licorne.pid"
    server = start(config(pool(), main=f"pid_file {path};"))
    assert path.read_text() == f"{server.pid}\n"
    server.stop()
    assert not path.exists()


def test_error_log_file(start: Start, tmp_path: Path) -> None:
    """The arbiter opens it; everyone's lines are there."""
    log = tmp_path / "error.log"
    text = config(pool()).replace("error_log stderr info;", f"error_log {log} info;")
    server = start(text, listeners=0, ready=0)
    until(lambda: log.exists() and "listening on" in log.read_text() and "ready" in log.read_text(), "the log file")
    server.addresses = [log.read_text().split("listening on ")[1].split()[0]]
    server.check_descriptors = lambda: None  # type: ignore[method-assign]
    with server.client() as c:
        assert c.request("/fail").status == 500
    until(lambda: "Trouble: raised before start_response" in log.read_text(), "the traceback")


def test_access_log(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = start(config(pool(inside=f"access_log {log};")))
    server.get("/environ?x=1")
    line = until(lambda: log.read_text() if log.exists() else "", "the access log")
    assert "GET /environ?x=1" in line
    assert " 200 " in line
    assert "127.0.0.1" in line


# ---- boot


def test_boot_failure_ends_with_the_traceback(tmp_path: Path, worker: str) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    status, log = fails(tmp_path, config(pool(worker, app="broken:app", chdir=tmp_path, processes=2)))
    assert status == 3
    assert "Traceback (most recent call last)" in log
    assert "ModuleNotFoundError: No module named 'no_such_module'" in log
    assert "broken.py" in log
    assert log.count("ModuleNotFoundError") == 1, "said once, not by every worker"


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nowhere:app", "no module 'nowhere'"),
        ("probe:nothing", "nothing"),
        ("probe:TEXT", "callable"),
        ("probe:nothing()", "nothing"),
        ("probe:fail()", "TypeError"),
        ("syntax:app", "SyntaxError"),
        ("exits:app", "SystemExit"),
    ],
)
def test_boot_failures(tmp_path: Path, app: str, words: str) -> None:
    (tmp_path / "syntax.py").write_text("def app(:\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(1)\n")
    status, log = fails(tmp_path, config(pool(app=app, block=f"pythonpath {tmp_path};")))
    assert status == 3, log
    assert words in log


def test_startup_timeout(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    status, log = fails(tmp_path, config(pool(app="hangs:app", chdir=tmp_path), main="startup_timeout 1s;"))
    assert status == 3, log
    assert "startup_timeout" in log or "within" in log


def test_boot_failure_of_one_pool_of_two(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    text = config(pool(name="good"), pool(name="bad", app="broken:app", chdir=tmp_path))
    status, log = fails(tmp_path, text)
    assert status == 3
    assert "ZeroDivisionError" in log


def test_later_boot_failure_leaves_the_others(start: Start, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text(
        f"import pathlib\nif pathlib.Path({str(tmp_path / 'flag')!r}).exists(): 1 / 0\nfrom probe import app\n"
    )
    server = start(config(pool(processes=2, app="later:app", block=f"pythonpath {tmp_path};")), ready=2)
    server.allow(r".")
    keeps, victim = server.workers()
    (tmp_path / "flag").touch()
    os.kill(victim, signal.SIGKILL)
    server.wait_log(r"ZeroDivisionError")
    for _ in range(10):
        assert server.get("/pid").split()[0] == str(keeps)
    (tmp_path / "flag").unlink()
    server.wait_log(r"\bready\b", 3)
    until(lambda: len(server.workers()) == 2, "two workers")


# ---- several workers


def test_connections_are_spread(start: Start) -> None:
    server = start(config(pool(processes=2)), ready=2)
    held: list[Client] = []
    try:
        seen = set()
        for _ in range(64):
            c = server.client()
            held.append(c)
            seen.add(c.request("/pid").text.split()[0])
        assert len(seen) == 2, "one worker took all of 64 connections"
    finally:
        for c in held:
            c.close()


def test_stopped_worker_holds_nobody_up(start: Start) -> None:
    """A worker that is stopped (a debugger, a swap storm) does not take new connections with it."""
    server = start(config(pool(processes=2), main="heartbeat_timeout 60s;"), ready=2)
    victim, _ = server.workers()
    os.kill(victim, signal.SIGSTOP)
    until(partial(stopped, victim), "the stop")
    try:
        for _ in range(20):
            assert server.get("/pid").split()[0] != str(victim)
    finally:
        os.kill(victim, signal.SIGCONT)


def test_hung_worker_is_replaced(start: Start) -> None:
    server = start(config(pool(processes=2), main="heartbeat_timeout 2s;"), ready=2)
    server.allow(r"(?i)worker")
    victim, other = server.workers()
    os.kill(victim, signal.SIGSTOP)
    until(lambda: victim not in server.workers() and len(server.workers()) == 2, "a replacement")
    assert other in server.workers()


@pytest.mark.parametrize("path", ["/sleep", "/hold"])
def test_a_long_call_is_no_hang(start: Start, worker: str, path: str) -> None:
    """Three times heartbeat_timeout on the thread that leads the loop, in Python or in C code that keeps the GIL."""
    server = start(config(pool(worker), main="heartbeat_timeout 1s;"))
    (pid,) = server.workers()
    with server.client() as c:
        for _ in range(3000):  # by then calls run on the loop's thread, in a worker that has others
            assert c.request("/").status == 200
        assert c.request(f"{path}?s=3").body.split()[0] == str(pid).encode()
        assert c.request("/").status == 200
    assert server.workers() == [pid]
    assert "sign of life" not in server.log


def test_arbiter_is_small(start: Start) -> None:
    """It loads no module and no Python."""
    server = start(config(pool()))
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert "libpython" not in maps
    assert "http1.so" not in maps
    assert "wsgi.so" not in maps
    assert len(os.listdir(f"/proc/{server.pid}/task")) == 1


def test_server_is_gone_when_it_ends(start: Start) -> None:
    server: Server = start(config(pool(processes=2)), ready=2)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        server.socket()
