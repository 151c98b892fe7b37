# SPDX-License-Identifier: BSD-2-Clause
"""SIGUSR2 with real workers and real clients: another arbiter takes over, and nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from conftest import Start
from harness import BINARY, PATIENCE, SANITIZED, Gate, Server, alive, children, config, descendants, pool, until
from pki import Authority
from test_reload import both, h2_context
from test_tls import resumed, use
from traffic import Traffic

UPGRADES = 3 if SANITIZED else 10


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


class Chain:
    """The arbiters of one server, one after the other; only the first is our child."""

    def __init__(self, server: Server, pid_file: Path) -> None:
        self.server = server
        self.pid_file = pid_file
        self.pid = server.pid
        self.pids = [self.pid]

    def in_file(self) -> int:
        try:
            return int(self.pid_file.read_text() or 0)
        except FileNotFoundError:
            return 0

    def workers(self) -> list[int]:
        return sorted(p for p in children(self.pid) if alive(p))

    def upgrade(self, wait: bool = True) -> int:
        """The pid of the next one, when it serves; waits for the end of the one before."""
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        self.pid = until(lambda: self.in_file() not in (0, old) and self.in_file(), "the pid file")
        self.pids.append(self.pid)
        if wait:
            self.wait_for(old)
        return self.pid

    def wait_for(self, pid: int) -> None:
        if pid == self.server.pid:
            assert self.server.process.wait(PATIENCE) == 0, self.server.log
        else:
            until(lambda: not alive(pid), f"the end of arbiter {pid}")

    def end(self) -> None:
        everyone = [self.pid, *descendants(self.pid)]
        os.kill(self.pid, signal.SIGTERM)
        until(lambda: not any(alive(p) for p in everyone), "the end of all")
        assert not self.pid_file.exists()
        self.server.status = 0
        self.server.check_log()


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "licorne.pid"


def test_upgrades_under_load(start: Start, ca: Authority, worker: str, pid_file: Path) -> None:
    """Again and again, under all kinds of clients: no request fails, no connection is refused or reset."""
    server = start(both(worker, ca.pair("localhost"), main=f"pid_file {pid_file};"), listeners=2, ready=2)
    chain = Chain(server, pid_file)
    try:
        with Traffic(server, h2_context(ca)) as traffic:
            for _ in range(UPGRADES):
                chain.upgrade(wait=False)
                traffic.go_on()
            traffic.go_on()
        print(f"\n{UPGRADES} upgrades: {dict(traffic.outcomes)}, {len(traffic.failures)} failures")
        assert not traffic.failures, traffic.failures
        assert traffic.outcomes["uploads"] > 0
        assert traffic.outcomes["goaways"] > 0
        assert len(set(chain.pids)) == UPGRADES + 1
        for pid in chain.pids[:-1]:
            chain.wait_for(pid)
        assert len(chain.workers()) == 2
        assert not pid_file.with_suffix(".pid.oldbin").exists()
    finally:
        chain.end()


def test_sessions_secrets_and_requests(start: Start, ca: Authority, gate: Gate, tmp_path: Path, pid_file: Path) -> None:
    """Tickets stay good, and what runs at the old one is finished while the new one serves."""
    listen = ["127.0.0.1:0", f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}"]
    server = start(config(pool(listen=listen), main=f"load_module tls; pid_file {pid_file};"), listeners=2)
    chain = Chain(server, pid_file)
    (old,) = chain.workers()
    mark = tmp_path / "mark"
    server.addresses.reverse()
    context = ca.client()
    _, session, _ = resumed(server, context, None)
    server.addresses.reverse()
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        chain.upgrade(wait=False)
        assert pid_file.with_suffix(".pid.oldbin").read_text() == f"{server.pid}\n"
        until(lambda: int(server.get("/pid").split()[0]) in chain.workers(), "an answer of the new one")
        assert alive(old)
        assert alive(server.pid)
        gate.open()
        assert c.response().text.startswith("waited")
        assert c.ended()
    chain.wait_for(server.pid)
    assert not pid_file.with_suffix(".pid.oldbin").exists()
    server.addresses.reverse()
    did, _, _ = resumed(server, context, session)
    assert did
    chain.end()


def test_another_binary(start: Start, tmp_path: Path, pid_file: Path) -> None:
    """What is at the path by then is what takes over, with the arguments of the first; one that fails does not."""
    program = tmp_path / "licorne"
    shutil.copy(BINARY, program)
    conf = tmp_path / "my.conf"
    conf.write_text(config(pool(), main=f"pid_file {pid_file};"))
    modules = str(BINARY.parent)
    server = start(
        args=("-c", conf),
        program=program,
        env={"LICORNE_MODULE_PATH": modules},
    )
    server.allow("upgrade failed")
    chain = Chain(server, pid_file)
    (tmp_path / "next").write_text("#!/bin/sh\necho 'licorne: [x] too new for this system' >&2\nexit 1\n")
    (tmp_path / "next").chmod(0o755)
    (tmp_path / "next").replace(program)
    os.kill(server.pid, signal.SIGUSR2)
    server.wait_log(r"the upgrade failed: it ended with status 1; this licorne serves on")
    assert server.get("/") == "Hello, world!\n"
    assert chain.in_file() == server.pid
    shutil.copy(BINARY, tmp_path / "next")
    with (tmp_path / "next").open("ab") as f:
        f.write(b"another build")
    size = (tmp_path / "next").stat().st_size
    (tmp_path / "next").replace(program)
    new = chain.upgrade()
    assert Path(f"/proc/{new}/exe").stat().st_size == size
    assert Path(f"/proc/{new}/cmdline").read_bytes() == f"{program}\0-c\0{conf}\0".encode()
    assert b"LICORNE_SUCCESSOR" not in Path(f"/proc/{chain.workers()[0]}/environ").read_bytes()
    assert server.get("/") == "Hello, world!\n"
    chain.end()


def test_licorne_run(start: Start, tmp_path: Path) -> None:
    """Without a configuration file and a pid file it works as well."""
    server = start(args=("run", "probe:app", "--bind", "127.0.0.1:0"), cwd=Path(__file__).parents[1] / "apps")
    os.kill(server.pid, signal.SIGHUP)
    server.wait_log(r"generation 2 serves")
    assert server.get("/") == "Hello, world!\n"
    os.kill(server.pid, signal.SIGUSR2)
    (new,) = (int(m[1]) for m in server.wait_log(r"successor started as pid (\d+)"))
    assert server.process.wait(PATIENCE) == 0
    assert server.get("/") == "Hello, world!\n"
    everyone = [new, *descendants(new)]
    os.kill(new, signal.SIGTERM)
    until(lambda: not any(alive(p) for p in everyone), "the end of all")
    server.status = 0
    server.check_log()
