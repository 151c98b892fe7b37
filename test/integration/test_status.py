# SPDX-License-Identifier: BSD-2-Clause
"""The operator's view: the control socket, `licorne status`, `licorne reload --wait`."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from conftest import Start, as_root
from control import answer, ask, connect, workers
from harness import BINARY, PATIENCE, Gate, alive, config, environment, pool, run, stopped, until
from test_reload import rewrite
from test_successor import Chain

CLIENTS = 16
SLOW = "graceful_timeout 60s;"


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def with_control(control: Path, *pools: str, main: str = "") -> str:
    return config(*(pools or (pool(),)), main=f"control_socket {control}; {main}")


# ---- what it says


def test_status(start: Start, worker: str, control: Path, tmp_path: Path, gate: Gate) -> None:
    unix = tmp_path / "web.sock"
    text = with_control(control, pool(worker, listen=["127.0.0.1:0", f"unix:{unix}"], processes=2))
    server = start(text, listeners=2, ready=2)
    status = ask(control)
    assert status["ok"]
    assert status["pid"] == server.pid
    assert status["state"] == "serving"
    assert status["generation"] == 1
    assert status["configuration"] == str(server.conf)
    assert status["last_reload"] is None
    assert [x["address"] for x in status["listeners"]] == server.addresses
    assert all(x["pool"] == "web" and x["queue"] == 0 and x["backlog"] == 2048 for x in status["listeners"])
    assert [w["slot"] for w in workers(status)] == [0, 1]
    assert sorted(w["pid"] for w in workers(status)) == server.workers()
    for w in workers(status):
        assert w["state"] == "ready"
        assert w["restarts"] == 0
        assert 4 << 20 < w["rss"] < 4 << 30
    for _ in range(5):
        server.get("/")
    until(lambda: sum(w["requests"] for w in workers(ask(control))) == 5, "the count of requests")
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        if worker == "wsgi":  # in sync nobody can speak meanwhile: it is seen behind the call
            (one,) = until(lambda: [w for w in workers(ask(control)) if w["inflight"]], "the running request")
            assert one["inflight"] == one["connections"] == 1
            (web,) = ask(control)["generations"][0]["pools"]
            assert (web["ready"], web["busy"], web["idle"], web["inflight"]) == (2, 1, 1, 1)
        gate.open()
        assert c.response().status == 200
    until(lambda: not any(w["inflight"] for w in workers(ask(control))), "the end of the request")


def test_queues(start: Start, control: Path, tmp_path: Path) -> None:
    """What waits to be accepted while no worker can."""
    unix = tmp_path / "web.sock"
    server = start(
        with_control(control, pool(listen=["127.0.0.1:0", f"unix:{unix}"]), main="heartbeat_timeout 600s;"), listeners=2
    )
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    until(lambda: stopped(worker), "the stop")
    waiting = [server.socket(which) for which in (0, 0, 0, 1, 1)]
    assert [x["queue"] for x in ask(control)["listeners"]] == [3, 2]
    for s in waiting:
        s.close()
    os.kill(worker, signal.SIGCONT)
    until(lambda: [x["queue"] for x in ask(control)["listeners"]] == [0, 0], "an empty queue")


def test_restarts_and_how_it_ended(start: Start, control: Path) -> None:
    server = start(with_control(control))
    server.allow("SIGKILL")
    (victim,) = server.workers()
    os.kill(victim, signal.SIGKILL)
    (w,) = until(lambda: [w for w in workers(ask(control)) if w["restarts"] and w["state"] == "ready"], "the next one")
    assert w["restarts"] == 1
    assert w["last_end"].startswith("was killed by SIGKILL")
    text = run("status", "-c", server.conf).stdout
    assert "the one before was killed by SIGKILL" in text


def test_draining_generation(start: Start, control: Path, tmp_path: Path, gate: Gate) -> None:
    server = start(with_control(control, main=SLOW))
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        assert ask(control, "reload wait")["generation"] == 2
        status = ask(control)
        assert [(g["number"], g["state"]) for g in status["generations"]] == [(2, "serving"), (1, "finishing")]
        assert [w["state"] for w in workers(status, 1)] == ["draining"]
        assert status["last_reload"]["ok"]
        gate.open()
        assert c.response().status == 200
    until(lambda: len(ask(control)["generations"]) == 1, "the end of generation 1")


# ---- the socket


def test_mode_and_removal(start: Start, control: Path) -> None:
    server = start(with_control(control))
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    server.stop()
    assert not control.exists()


def test_questions_that_are_none(start: Start, control: Path) -> None:
    server = start(with_control(control))
    for question in ("nonsense", "", "status now", "x" * 126, "\0", "STATUS"):
        got = ask(control, question)
        assert not got["ok"], question
        assert "expected status" in got["error"]
    with connect(control) as s:
        s.sendall(b"x" * 10000)
        assert "expected status" in answer(s)["error"]
    with connect(control) as s:  # nothing is asked
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
    with connect(control) as s:  # nobody reads
        s.sendall(b"status\n")
    with connect(control) as s:
        for byte in b"status\r\n":
            s.send(bytes([byte]))
        assert answer(s)["pid"] == server.pid


def test_clients_are_few_and_not_for_long(start: Start, control: Path) -> None:
    """Those that say nothing are closed after a while, and hold nobody up but those who ask, too."""
    server = start(with_control(control))
    silent = [connect(control) for _ in range(CLIENTS)]
    until(lambda: "too many" in ask_or_refused(control), "a client too many")
    assert server.get("/") == "Hello, world!\n"
    for s in silent:
        assert s.recv(1) == b""
        s.close()
    assert ask(control)["ok"]


def ask_or_refused(control: Path) -> str:
    with connect(control) as s:
        return str(answer(s).get("error"))


def test_slow_reader(start: Start, control: Path) -> None:
    """An answer that nobody takes stays where it is; the arbiter goes on."""
    server = start(with_control(control, pool(processes=20)), ready=20)
    with socket.socket(socket.AF_UNIX) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.settimeout(PATIENCE)
        s.connect(str(control))
        s.sendall(b"status\n")
        assert ask(control)["ok"]
        assert server.get("/") == "Hello, world!\n"
        assert len(workers(answer(s))) == 20


@as_root
def test_who_may_ask(start: Start, tmp_path: Path) -> None:
    """With a wide mode others see the status; nobody but root and the server's own user changes anything."""
    control = Path(f"/tmp/lc-control-{os.getpid()}.sock")
    text = config(pool(), main=f"control_socket {control} 0666;")
    server = start(text)
    assert stat.S_IMODE(control.stat().st_mode) == 0o666
    assert as_other(control, "status")["pid"] == server.pid
    assert as_other(control, "reload")["error"] == "user 65534 may not reload, only root and user 0"
    rewrite(server, " 0666;", ";")
    assert ask(control, "reload wait")["ok"]
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    control.chmod(0o666)  # by hand
    assert "may not ask here" in str(as_other(control, "status")["error"])


def as_other(control: Path, question: str) -> dict[str, object]:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode() + b'\\n'); print(s.makefile().readline())"
    )
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, str(control), question],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    got = json.loads(done.stdout)
    assert isinstance(got, dict)
    return got


def test_stale_file_is_replaced(start: Start, control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(control))
    server = start(with_control(control))
    assert ask(control)["pid"] == server.pid
    assert f"{control} is left over" in server.log


def test_what_is_anothers_is_left_alone(start: Start, control: Path, tmp_path: Path) -> None:
    other = start(with_control(control))
    conf = tmp_path / "second.conf"
    conf.write_text(with_control(control))
    done = run("-c", conf)
    assert done.returncode == 1
    assert f"control_socket {control}: another process listens on it" in done.stderr
    assert ask(control)["pid"] == other.pid
    file = tmp_path / "file"
    file.write_text("mine")
    conf.write_text(with_control(file))
    done = run("-c", conf)
    assert done.returncode == 1
    assert f'control_socket: "{file}" is there and is no socket' in done.stderr
    assert file.read_text() == "mine"


def test_removed_only_if_ours(start: Start, control: Path) -> None:
    server = start(with_control(control))
    control.unlink()
    control.write_text("another's by now")
    server.stop()
    assert control.read_text() == "another's by now"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("control_socket a 0660 b;", "has 3 arguments"),
        ("control_socket a 999;", 'control_socket: "999" is no mode'),
        ("control_socket a 4777;", 'control_socket: "4777" is no mode'),
        ("control_socket a rw;", 'control_socket: "rw" is no mode'),
        ('control_socket "";', "the path is empty"),
        ("control_socket " + "x" * 120 + ";", "too long"),
        ("control_socket /no/such/folder/sock;", "No such file"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, line: str, why: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool(), main=line))
    done = run("-c", conf)
    assert done.returncode == 1
    assert why in done.stderr


def test_reload_moves_and_removes_it(start: Start, control: Path, tmp_path: Path) -> None:
    """A path that cannot be leaves everything as it was."""
    server = start(with_control(control))
    server.allow("reload failed|control_socket")
    rewrite(server, str(control), "/no/such/folder/sock")
    got = ask(control, "reload wait")
    assert not got["ok"]
    assert 'control_socket: cannot make "/no/such/folder/sock": /no/such/folder: No such file' in got["reason"]
    taken, other = tmp_path / "taken.sock", tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(taken))
        s.listen()
        rewrite(server, "/no/such/folder/sock", str(taken))
        got = ask(control, "reload wait")
    assert got["reason"] == f"control_socket {taken}: another process listens on it"
    rewrite(server, str(taken), str(other))
    assert ask(control, "reload wait")["ok"]
    assert not control.exists()
    assert ask(other)["pid"] == server.pid
    rewrite(server, f"control_socket {other};", "")
    assert ask(other, "reload wait")["ok"]
    until(lambda: not other.exists(), "the end of the socket")
    server.conf.write_text(with_control(control))
    server.send_signal(signal.SIGHUP)
    server.wait_log("generation 4 is gone")
    assert ask(control)["generation"] == 5


# ---- over an upgrade


def test_upgrade(start: Start, control: Path, tmp_path: Path, gate: Gate) -> None:
    """One of the two answers at any time, and the file is the same."""
    pid_file = tmp_path / "pid"
    server = start(with_control(control, main=f"pid_file {pid_file}; {SLOW}"))
    chain = Chain(server, pid_file)
    inode = control.stat().st_ino
    mark = tmp_path / "mark"
    try:
        with server.client() as c:
            c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
            until(mark.exists, "the call")
            chain.upgrade(wait=False)
            until(lambda: ask(control)["pid"] == chain.pid, "an answer of the new one")
            assert alive(server.pid)
            gate.open()
            assert c.response().status == 200
        chain.wait_for(server.pid)
        assert control.stat().st_ino == inode
        assert ask(control)["pid"] == chain.pid
        chain.upgrade()
        assert ask(control)["pid"] == chain.pid
        assert control.stat().st_ino == inode
        assert run("reload", "-c", server.conf, "--wait").returncode == 0
    finally:
        chain.end()
    assert not control.exists()


def test_upgrade_that_fails(start: Start, control: Path, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("from probe import app\n")
    text = with_control(control, pool(app="later:app", block=f"pythonpath {tmp_path};"))
    server = start(text)
    server.allow(".")
    (tmp_path / "later.py").write_text("import no_such_module\n")
    server.send_signal(signal.SIGUSR2)
    server.wait_log("the upgrade failed")
    assert ask(control)["pid"] == server.pid
    assert control.exists()


def test_upgrade_to_another_path(start: Start, control: Path, tmp_path: Path) -> None:
    pid_file, other = tmp_path / "pid", tmp_path / "other.sock"
    server = start(with_control(control, main=f"pid_file {pid_file};"))
    chain = Chain(server, pid_file)
    try:
        rewrite(server, str(control), str(other))
        chain.upgrade()
        assert ask(other)["pid"] == chain.pid
        until(lambda: not control.exists(), "the end of the old file")
    finally:
        chain.end()
    assert not other.exists()


# ---- the commands


def test_status_command(start: Start, control: Path) -> None:
    server = start(with_control(control, pool(processes=2)), ready=2)
    done = run("status", "-c", server.conf)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pid {server.pid}, serving" in done.stdout
    assert "pool web: 2 of 2 ready, 0 busy, 2 idle" in done.stdout
    rows = re.findall(r"^ +(\d) +(\d+)  idle +\S+ +\d+ +0 +\d+ +[\d.]+M +[\d.]+M +0$", done.stdout, re.M)
    assert [int(slot) for slot, _ in rows] == [0, 1]
    assert sorted(int(pid) for _, pid in rows) == server.workers()
    assert re.search(rf"^{server.addresses[0]} +0 +2048  web$", done.stdout, re.M)
    done = run("status", "-c", server.conf, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    status = json.loads(done.stdout)
    assert status["pid"] == server.pid
    for w in workers(status):
        assert 0 < w["pss"] <= w["rss"] * 1.5
    server.stop()
    done = run("status", "-c", server.conf)
    assert done.returncode == 1
    assert "licorne is not running" in done.stderr


def test_status_mistakes(tmp_path: Path) -> None:
    conf = tmp_path / "licorne.conf"
    assert "licorne.conf" in run("status", "-c", conf).stderr
    conf.write_text(config(pool()))
    done = run("status", "-c", conf)
    assert done.returncode == 1
    assert "sets no control_socket" in done.stderr
    for args in (["-x"], ["--nonsense"], ["-c"], ["more"], ["--watch=0"], ["--watch=x"], ["--watch=nan"]):
        done = run("status", *args)
        assert done.returncode == 2, args
        assert "usage: licorne status" in done.stderr
    assert run("status", "-h").stdout.startswith("usage: licorne status")


def test_answers_that_are_none(tmp_path: Path, control: Path) -> None:
    """Something else listens there."""
    conf = tmp_path / "licorne.conf"
    conf.write_text(with_control(control))
    for text in ("nonsense\n", "[1,2\n", '{"a":}\n', '{"ok":true\n', "{} {}\n", "[" * 50 + "\n", '"x\n', ""):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(control))
            listener.listen()
            with subprocess.Popen(
                [BINARY, "status", "-c", conf], env=environment(), stderr=subprocess.PIPE, text=True
            ) as asking:
                s, _ = listener.accept()
                assert s.recv(100) == b"status\n"
                s.sendall(text.encode())
                s.close()
                _, err = asking.communicate(timeout=PATIENCE)
                assert asking.returncode == 1
                assert ("is no answer" if text else "without an answer") in err, text
        control.unlink()
    with socket.socket(socket.AF_UNIX) as listener:  # an object with nothing of what is expected
        listener.bind(str(control))
        listener.listen()
        with subprocess.Popen(
            [BINARY, "status", "-c", conf], env=environment(), stdout=subprocess.PIPE, text=True
        ) as asking:
            s, _ = listener.accept()
            s.sendall(b'{"ok":true,"version":"9\\u001b[2J\\u00e9\\"","generations":[{"pools":[{"workers":[{}]}]}]}\n')
            s.close()
            out, _ = asking.communicate(timeout=PATIENCE)
            assert asking.returncode == 0
            assert out.startswith('licorne 9?[2Jé"')


def more(fd: int) -> str:
    assert select.select([fd], [], [], PATIENCE)[0], "nothing more is written"
    return os.read(fd, 4096).decode()


def test_watch_on_a_terminal(start: Start, control: Path) -> None:
    """In place: home, never a line that scrolls, whatever the terminal's size; it survives a licorne that ends."""
    server = start(with_control(control, pool(processes=3)), ready=3)
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 40, 0, 0))
    with subprocess.Popen(
        [BINARY, "status", "-c", server.conf, "--watch=0.1"], env=environment(), stdout=theirs, stderr=theirs
    ) as watching:
        os.close(theirs)
        seen = ""
        while seen.count("\x1b[H") < 4:
            seen += more(ours)
        server.stop()
        while "\x1b[Hlicorne: /" not in seen:  # cut off: the socket, and that nobody is there
            seen += more(ours)
        assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        watching.wait(PATIENCE)
    os.close(ours)
    frames = seen.split("\x1b[H")[1:-1]
    assert seen.startswith("\x1b[2J")
    for frame in frames:
        lines = re.sub(r"\x1b\[[KJ]", "", frame).split("\r\n")
        assert len(lines) <= 8
        assert all(len(line) <= 40 for line in lines)
    assert "licorne 0" in frames[0]
    assert "LISTENER" in frames[1]


def test_watch_json(start: Start, control: Path) -> None:
    server = start(with_control(control))
    with subprocess.Popen(
        [BINARY, "status", "-c", server.conf, "--json", "--watch=0.1"], env=environment(), stdout=subprocess.PIPE
    ) as watching:
        assert watching.stdout
        ages = [json.loads(watching.stdout.readline())["uptime"] for _ in range(3)]
        assert ages == sorted(set(ages))
        watching.terminate()


def test_reload_wait(start: Start, control: Path, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("from probe import app\n")
    server = start(with_control(control, pool(app="later:app", block=f"pythonpath {tmp_path};")))
    server.allow(".")
    done = run("reload", "-c", server.conf, "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"licorne: generation 2 serves after [\d.]+ s\n", done.stdout)
    assert "reload: generation 2 serves" in server.log, "it serves when the command ends"
    (tmp_path / "later.py").write_text("import no_such_module\n")
    done = run("reload", "-c", server.conf, "--wait")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "licorne: the reload failed: worker web/0 could not start: "
        "ModuleNotFoundError: No module named 'no_such_module'\n"
    )
    text = run("status", "-c", server.conf).stdout
    assert re.search(r"last reload: \d+s ago, failed: worker web/0 could not start", text)
    done = run("reload", "-c", server.conf)  # without a pid_file it is told there
    assert (done.returncode, done.stderr) == (0, "")
    server.wait_log("reload failed", 2)


def test_reload_wait_of_many(start: Start, control: Path) -> None:
    """Those who ask during a reload get the outcome of the next, once for all."""
    server = start(with_control(control))
    asking = [connect(control) for _ in range(5)]
    for s in asking:
        s.sendall(b"reload wait\n")
    outcomes = [answer(s) for s in asking]
    for s in asking:
        s.close()
    assert all(o["ok"] for o in outcomes)
    assert {o["generation"] for o in outcomes} <= {2, 3}
    assert ask(control)["last_reload"]["number"] <= 2
    server.wait_log("generation 1 is gone")


def test_reload_wait_when_licorne_ends(start: Start, control: Path, tmp_path: Path, gate: Gate) -> None:
    (tmp_path / "later.py").write_text(
        f"import os\nfrom probe import app\nif os.path.exists('{tmp_path}/wait'): open('{gate.path}').read()\n"
    )
    server = start(with_control(control, pool(app="later:app", block=f"pythonpath {tmp_path};")))
    server.allow("reload failed")
    (tmp_path / "wait").touch()
    with connect(control) as s:
        s.sendall(b"reload wait\n")
        until(lambda: ask(control)["state"] == "reloading", "the reload")
        server.send_signal(signal.SIGTERM)
        assert answer(s) == {"ok": False, "reason": "licorne ends", "generation": 1}
    gate.remove()
    server.wait()


def test_descriptors_run_out(start: Start, control: Path) -> None:
    """Nobody can be accepted for a while; who has connected is answered when there is a descriptor again."""
    server = start(with_control(control))
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with connect(control) as s:
        s.sendall(b"status\n")
        assert server.get("/") == "Hello, world!\n"
        s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            s.recv(1)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        s.settimeout(PATIENCE)
        assert answer(s)["ok"]
