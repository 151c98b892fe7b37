# SPDX-License-Identifier: BSD-2-Clause
"""What a service manager sees and gives: sd_notify(3), LISTEN_FDS; this test is the manager."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from harness import PATIENCE, Gate, Server, alive, config, pool, until
from test_reload import gone, rewrite
from test_successor import Chain

# Puts sockets where the protocol has them, and becomes the server in the same process: LISTEN_PID is its number.
GIVE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
high = [os.dup(fd) for fd in fds]
while min(high) < 3 + len(fds):
    high = [os.dup(fd) for fd in high]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=sys.argv[2] if sys.argv[2] != "-" else str(os.getpid()))
os.closerange(3 + len(fds), 256)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """The notify socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.env = {"NOTIFY_SOCKET": name}

    def next(self) -> dict[str, str]:
        """The next message, and from whom it is as "pid"."""
        data, ancillary, _, _ = self.sock.recvmsg(4096, 100)
        ((_, kind, cred),) = ancillary
        assert kind == socket.SCM_CREDENTIALS
        lines = data.decode().split("\n")
        return {"pid": str(int.from_bytes(cred[:4], sys.byteorder)), **dict(line.split("=", 1) for line in lines)}

    def until(self, name: str) -> dict[str, str]:
        """The next message that has this variable."""
        while name not in (message := self.next()):
            pass
        return message

    def silent(self) -> bool:
        self.sock.setblocking(False)
        try:
            self.sock.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(PATIENCE)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """In front of ``start`` among a test's arguments: it outlives the servers."""
    m = Manager(str(tmp_path / "notify") if request.param == "path" else f"@lc-{os.getpid()}-{time.monotonic_ns()}")
    yield m
    m.sock.close()


# ---- what it is told


def test_a_life(manager: Manager, start: Start) -> None:
    server = start(config(pool(), main="graceful_timeout 7s;"), env=manager.env)
    ready = manager.next()
    assert ready["READY"] == "1"
    assert ready["MAINPID"] == ready["pid"] == str(server.pid)
    assert ready["STATUS"] == "generation 1 serves"
    before = time.monotonic_ns() // 1000
    server.send_signal(signal.SIGHUP)
    reloading = manager.next()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    ready = manager.next()
    assert ready["READY"] == "1"
    assert ready["STATUS"] == "generation 2 serves"
    server.wait_log("generation 1 is gone")
    server.stop()
    stopping = manager.next()
    assert stopping["STOPPING"] == "1"
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 7000000
    assert manager.silent()


def test_reload_that_fails(manager: Manager, start: Start) -> None:
    """The manager must not wait for ever, and an operator sees it in `systemctl status`."""
    server = start(config(pool()), env=manager.env)
    server.allow(".")
    assert manager.next()["READY"] == "1"
    rewrite(server, "processes 1;", "nonsense on;")
    server.send_signal(signal.SIGHUP)
    assert manager.next()["RELOADING"] == "1"
    ready = manager.next()
    assert ready["READY"] == "1"
    assert re.match(r"generation 1 serves; the last reload failed: .*nonsense", ready["STATUS"])


def test_environment_of_the_application(manager: Manager, start: Start, tmp_path: Path) -> None:
    """It must not speak for its server."""
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [' '.join(sorted(os.environ)).encode()]\n"
    )
    env = {**manager.env, "WATCHDOG_USEC": "100000000", "LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    server = start(config(pool(app="mine:app", chdir=tmp_path)), env=env)
    names = server.get("/").split()
    assert "PATH" in names
    assert not [n for n in names if n.startswith(("NOTIFY", "WATCHDOG", "LISTEN_"))]


def test_upgrade(manager: Manager, start: Start, tmp_path: Path) -> None:
    """The old one names the new one, which is silent until then, and speaks from then on."""
    pid_file = tmp_path / "pid"
    env = {**manager.env, "WATCHDOG_USEC": "400000"}
    server = start(config(pool(), main=f"pid_file {pid_file};"), env=env)
    chain = Chain(server, pid_file)
    try:
        assert manager.until("READY")["pid"] == str(server.pid)
        new = chain.upgrade()
        seen = [manager.until("MAINPID"), manager.until("MAINPID")]
        assert [m["pid"] for m in seen] == [str(server.pid), str(new)]
        assert [m["MAINPID"] for m in seen] == [str(new), str(new)]
        assert "READY" in seen[1]
        for _ in range(3):
            assert manager.until("WATCHDOG")["pid"] == str(new)
    finally:
        chain.end()
    assert manager.until("STOPPING")["pid"] == str(chain.pid)


@pytest.mark.parametrize("usec", ["200000", "2000000"])
def test_watchdog_pace(manager: Manager, start: Start, usec: str) -> None:
    start(config(pool()), env={**manager.env, "WATCHDOG_USEC": usec})
    while not manager.silent():  # what came while it started
        pass
    manager.until("WATCHDOG")
    begun = time.monotonic()
    for _ in range(4):
        manager.until("WATCHDOG")
    assert time.monotonic() - begun >= 4 * int(usec) / 2e6 * 0.8


def test_watchdog_of_somebody_else(manager: Manager, start: Start) -> None:
    server = start(config(pool()), env={**manager.env, "WATCHDOG_USEC": "10000", "WATCHDOG_PID": "1"})
    assert manager.next()["READY"] == "1"
    server.stop()
    assert "STOPPING" in manager.next()


def test_full_socket(manager: Manager, start: Start) -> None:
    """Nothing waits for a manager that does not read, and the last word is said later."""
    server = start(config(pool()), env=manager.env)
    assert manager.next()["READY"] == "1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        filled = 0
        try:
            while True:
                other.sendto(b"X=1", "\0" + manager.name[1:] if manager.name[0] == "@" else manager.name)
                filled += 1
        except BlockingIOError:
            pass
    server.send_signal(signal.SIGHUP)
    server.wait_log("generation 2 serves")
    assert server.get("/") == "Hello, world!\n"
    for _ in range(filled):
        assert "X" in manager.next()
    assert manager.until("READY")["STATUS"] == "generation 2 serves"
    server.wait_log("generation 1 is gone")


@pytest.mark.parametrize(
    ("name", "why"), [("vsock:2:1234", "expected a path or @NAME"), ("/no/such/socket", "cannot be told")]
)
def test_nobody_to_be_told(start: Start, name: str, why: str) -> None:
    server = start(config(pool()), env={"NOTIFY_SOCKET": name})
    server.allow("NOTIFY_SOCKET")
    assert why in server.log
    assert server.get("/") == "Hello, world!\n"


def test_degraded_pool(manager: Manager, start: Start) -> None:
    server = start(config(pool(inside="respawn_delay 10ms 50ms;")), env=manager.env)
    server.allow("SIGKILL|degraded")
    for _ in range(7):
        (victim,) = until(server.workers, "a worker")
        os.kill(victim, signal.SIGKILL)
        until(partial(gone, victim), "its end")
    while "degraded" not in manager.until("STATUS")["STATUS"]:
        pass


# ---- what it gives


def listener(address: str | Path, port: int = 0) -> socket.socket:
    if isinstance(address, Path):
        s = socket.socket(socket.AF_UNIX)
        s.bind(str(address))
    else:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
    s.listen(64)
    return s


def given(start: Start, text: str, *sockets: socket.socket, pid: str = "-", **more: object) -> Server:
    """A server that has these from the manager; ``pid``: for whom they are, itself if nothing is said."""
    fds = [s.fileno() for s in sockets]
    before = [sys.executable, "-c", GIVE, ",".join(map(str, fds)), pid]
    return start(text, before=before, pass_fds=fds, **more)


def name_of(s: socket.socket) -> str:
    name = s.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"


def test_sockets_are_taken(start: Start, tmp_path: Path, worker: str) -> None:
    """They are matched by their addresses, in any order, and are non-blocking whatever they were."""
    tcp, unix = listener("127.0.0.1"), listener(tmp_path / "web.sock")
    mode = (tmp_path / "web.sock").stat().st_mode
    listen = [name_of(tcp), "127.0.0.1:0", name_of(unix)]
    server = given(start, config(pool(worker, listen=listen)), unix, tcp, listeners=3)
    for which in range(3):
        assert server.get("/", which) == "Hello, world!\n"
    assert f"listening on {name_of(tcp)} (pool web), a socket of the service manager" in server.log
    server.send_signal(signal.SIGHUP)
    server.wait_log("generation 1 is gone")
    for which in range(3):
        assert server.get("/", which) == "Hello, world!\n"
    server.stop()
    assert (tmp_path / "web.sock").stat().st_mode == mode, "the file is the manager's, with its mode"
    for s in (tcp, unix):  # and so is the queue
        with socket.socket(s.family) as c:
            c.connect(s.getsockname())
        s.close()


def test_ipv6(start: Start) -> None:
    with listener("::1") as s:
        server = given(start, config(pool(listen=[f"[::1]:{s.getsockname()[1]}"])), s)
        assert server.get("/") == "Hello, world!\n"


def test_sockets_that_no_listen_names(start: Start) -> None:
    """They are closed, and the log says so: a client of theirs would wait for ever."""
    with listener("127.0.0.1") as mine, listener("127.0.0.1") as other, socket.socket() as plain:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            server = given(start, config(pool(listen=[name_of(mine)])), other, mine, plain, udp)
        server.allow("LISTEN_FDS|service manager")
        assert f"gave a socket for {name_of(other)}, which no listen names: it is closed" in server.log
        assert len(re.findall("is no listening stream socket", server.log)) == 2
        other_address = other.getsockname()
        other.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(other_address)
        assert server.get("/") == "Hello, world!\n"


def test_sockets_of_another_process(start: Start) -> None:
    with listener("127.0.0.1") as s:
        server = given(start, config(pool()), s, pid="1")
        server.allow("LISTEN_FDS|service manager")
        assert server.get("/") == "Hello, world!\n"
        assert "service manager" not in server.log


def test_number_that_is_none(start: Start) -> None:
    code = "import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='-1'); os.execv(sys.argv[1], sys.argv[1:])"
    server = start(config(pool()), before=[sys.executable, "-c", code])
    server.allow("LISTEN_FDS")
    assert 'LISTEN_FDS is "-1", expected a number' in server.log


def test_manager_keeps_the_queue(start: Start, gate: Gate, tmp_path: Path) -> None:
    """kill -9 of the arbiter: its workers finish, who connects meanwhile waits, and the next licorne serves them."""
    with listener("127.0.0.1") as s:
        text = config(pool(listen=[name_of(s)]))
        server = given(start, text, s)
        (worker,) = server.workers()
        mark = tmp_path / "mark"
        with server.client() as c:
            c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
            until(mark.exists, "the call")
            server.process.kill()
            server.process.wait()
            until(lambda: listeners_of(worker) == 0, "the end of the worker's listeners")
            waiting = [Client(socket.create_connection(s.getsockname()), timeout=PATIENCE) for _ in range(5)]
            for w in waiting:
                w.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            second = given(start, text, s)
            for w in waiting:
                with w:
                    assert w.response().status == 200
            assert second.get("/") == "Hello, world!\n"
            gate.open()
            assert c.response().text.startswith("waited")
        until(lambda: not alive(worker), "the worker's end")
        server.status = -signal.SIGKILL


def listeners_of(pid: int) -> int:
    """How many listening TCP sockets a process holds."""
    table = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    inodes = {f"socket:[{line.split()[9]}]" for line in table if line.split()[3] == "0A"}
    held = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held += os.readlink(fd) in inodes
        except FileNotFoundError:
            continue
    return held


def test_upgrade_keeps_them(start: Start, tmp_path: Path) -> None:
    """The successor gets them as the manager's: the file of a UNIX socket stays."""
    pid_file, path = tmp_path / "pid", tmp_path / "web.sock"
    with listener(path) as s:
        server = given(start, config(pool(listen=[name_of(s)]), main=f"pid_file {pid_file};"), s)
        chain = Chain(server, pid_file)
        try:
            chain.upgrade()
            assert server.get("/") == "Hello, world!\n"
        finally:
            chain.end()
        assert path.exists()
