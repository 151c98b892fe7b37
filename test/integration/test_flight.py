# SPDX-License-Identifier: BSD-2-Clause
"""What the log says when a worker ends badly: which requests it held, for how long, and where Python stood."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from conftest import Start
from harness import SANITIZED, Gate, config, pool, until


def test_killed(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Requests that have been answered are not among them."""
    server = start(config(pool(threads=4)))
    server.allow("SIGKILL", "held")
    (pid,) = server.workers()
    with server.client() as c, server.client() as d, server.client() as e:
        assert c.request("/environ").status == 200
        c.send(f"GET /wait?gate={gate.path}&mark={tmp_path / 'one'} HTTP/1.1\r\nHost: a\r\n\r\n")
        d.send(f"POST /wait?gate={gate.path}&mark={tmp_path / 'two'} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        until((tmp_path / "one").exists, "the first call")
        until((tmp_path / "two").exists, "the second call")
        assert e.request("/?" + "x" * 500).status == 200
        os.kill(pid, signal.SIGKILL)
        held = server.wait_log(rf"web/0 \(pid {pid}\) held \"(\S+) (/\S*)\" from 127.0.0.1 for \d+\.\d s", 2)
    assert sorted((m[1], m[2].split("?")[0]) for m in held) == [("GET", "/wait"), ("POST", "/wait")]
    until(lambda: server.workers() not in ([], [pid]), "another worker")
    assert len(re.findall(r"\) held ", server.log)) == 2


def test_crashed(start: Start, worker: str) -> None:
    server = start(config(pool(worker)))
    server.allow(".*")
    server.crashes = True
    (pid,) = server.workers()
    with server.client() as c:
        c.send("GET /crash?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_log(rf"web/0 \(pid {pid}\) held \"GET /crash\?a=b\" from 127.0.0.1")
    assert re.search(r'File ".*probe\.py", line \d+ in crash$', server.log, re.M)
    if not SANITIZED:
        assert "was killed by SIGSEGV" in server.log


def test_stopped(start: Start, gate: Gate, tmp_path: Path) -> None:
    server = start(config(pool(processes=2), main="heartbeat_timeout 1s;"), ready=2)
    server.allow(".*")
    server.crashes = True
    with server.client() as c:
        c.send(f"GET /wait?gate={gate.path}&mark={tmp_path / 'one'} HTTP/1.1\r\nHost: a\r\n\r\n")
        until((tmp_path / "one").exists, "the call")
        for pid in server.workers():
            os.kill(pid, signal.SIGSTOP)
        server.wait_log(
            r"running at the last one; it is stopped, by a signal or a debugger\): the arbiter sends SIGABRT", 2
        )
        server.wait_log(r"held \"GET /wait\?")
