# SPDX-License-Identifier: BSD-2-Clause
"""Listeners: TCP, IPv6, UNIX sockets with mode and owner, several in a pool, several pools, an address in use."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Start, as_root
from harness import BINARY, PATIENCE, Gate, config, environment, pool, until


def test_port_0_is_resolved(start: Start) -> None:
    server = start(config(pool()))
    assert not server.addresses[0].endswith(":0")
    assert server.get("/") == "Hello, world!\n"


def test_unix_socket(start: Start, worker: str, tmp_path: Path) -> None:
    path = tmp_path / "the socket"
    server = start(config(pool(worker, listen=[f'"unix:{path}" {{ mode 0660; }}'])), listeners=0)
    server.addresses = [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with server.client() as c:
        facts = json.loads(c.request("/environ").body)["environ"]
        assert facts["PATH_INFO"] == "/environ"
        assert facts["REMOTE_ADDR"] == ""
        assert facts["SERVER_NAME"]
        assert isinstance(facts["SERVER_PORT"], str)
    out = subprocess.run(
        ["curl", "-sS", "--unix-socket", str(path), "http://localhost/"], capture_output=True, text=True, check=True
    )
    assert out.stdout == "Hello, world!\n"
    server.stop()
    assert not path.exists(), "the socket's file goes with the server"


@as_root
def test_unix_socket_owner(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "owned"
    server = start(config(pool(listen=[f"unix:{path} {{ mode 0600; user nobody; group nogroup; }}"])), listeners=0)
    server.addresses = [f"unix:{path}"]
    assert path.owner() == "nobody"
    assert path.group() == "nogroup"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_stale_unix_socket_is_taken_over(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    server = start(config(pool(listen=[f"unix:{path}"])))
    assert server.get("/") == "Hello, world!\n"


def test_unix_socket_in_use_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "used"
    first = start(config(pool(listen=[f"unix:{path}"])))
    done = refused(tmp_path, config(pool(listen=[f"unix:{path}"])))
    assert done.returncode != 0
    assert str(path) in done.stderr
    assert first.get("/") == "Hello, world!\n"


def test_unix_path_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    done = refused(tmp_path, config(pool(listen=[f"unix:{path}"])))
    assert done.returncode != 0
    assert path.read_text() == "data"


def test_ipv6(start: Start) -> None:
    server = start(config(pool(listen=["[::1]:0"])))
    assert server.addresses[0].startswith("[::1]:")
    with server.client() as c:
        facts = json.loads(c.request("/environ").body)["environ"]
    assert facts["REMOTE_ADDR"] == "::1"
    assert facts["SERVER_NAME"] == "::1"


def test_several_listeners(start: Start, worker: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen = ["127.0.0.1:0", "[::1]:0", f"unix:{path}", "localhost:0", "127.0.0.1:0"]
    server = start(config(pool(worker, listen=listen)), listeners=len(listen))
    pids = {server.get("/pid", i).split()[0] for i in range(len(listen))}
    assert len(pids) == 1
    assert len(set(server.addresses)) == len(listen)


def test_two_pools(start: Start) -> None:
    text = config(
        pool("wsgi", name="first", block="env POOL first;"),
        pool("sync", name="second", block="env POOL second;", processes=2),
    )
    server = start(text, listeners=2, ready=3)
    facts = [json.loads(server.get("/process", i)) for i in range(2)]
    assert [f["env"]["POOL"] for f in facts] == ["first", "second"]
    assert facts[0]["pid"] != facts[1]["pid"]
    threaded = [json.loads(server.get("/environ", i))["environ"]["wsgi.multithread"] for i in range(2)]
    assert threaded == [True, False]


def test_backlog_holds_connections_while_a_worker_starts(start: Start) -> None:
    """The arbiter has the listeners: who connects between two workers waits, and is served."""
    server = start(config(pool()))
    server.allow(r"(?i)signal 9|SIGKILL|killed")
    (pid,) = server.workers()
    os.kill(pid, 9)
    clients = [server.client() for _ in range(10)]
    for c in clients:
        c.send("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = 0
    for c in clients:
        with c:
            answered += c.response().status == 200
    assert answered == len(clients)


def refused(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    conf = tmp_path / "refused.conf"
    conf.write_text(text)
    return subprocess.run(
        [BINARY, "-c", conf],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_address_in_use_names_the_process(start: Start, tmp_path: Path) -> None:
    first = start(config(pool()))
    done = refused(tmp_path, config(pool(listen=[first.addresses[0]])))
    assert done.returncode == 1
    assert first.addresses[0] in done.stderr
    assert str(first.pid) in done.stderr
    assert "licorne" in done.stderr
    assert first.get("/") == "Hello, world!\n"


def test_address_in_use_by_another_program(tmp_path: Path) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        port = other.stdout.readline().strip()
        done = refused(tmp_path, config(pool(listen=[f"127.0.0.1:{port}"])))
        assert done.returncode == 1
        assert str(other.pid) in done.stderr
        assert "python" in done.stderr
        other.communicate("\n")


def test_restart_at_once(start: Start, tmp_path: Path) -> None:
    """Connections in TIME_WAIT do not keep the address."""
    first = start(config(pool()))
    address = first.addresses[0]
    with first.client() as c:
        assert c.request("/").status == 200
        first.stop()
    second = start(config(pool(listen=[address])))
    assert second.get("/") == "Hello, world!\n"


def test_listener_that_cannot_be(tmp_path: Path) -> None:
    for address in ("192.0.2.1:0", "127.0.0.1:99999", "no.such.host.invalid:80", "unix:/no/such/folder/socket"):
        done = refused(tmp_path, config(pool(listen=[address])))
        assert done.returncode != 0, address
        assert address in done.stderr, done.stderr


def test_worker_connections_limit(start: Start, gate: Gate, tmp_path: Path) -> None:
    """At the limit the worker stops accepting; who waits is served when another leaves."""
    server = start(config(pool(inside="worker_connections 4;", threads=8)))
    held = [server.client() for _ in range(4)]
    for i, c in enumerate(held):
        c.send(f"GET /wait?mark={tmp_path / str(i)}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until((tmp_path / str(i)).exists, "the call")
    with server.client() as waiting:
        waiting.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            waiting.sock.settimeout(0.3)
            waiting.more()
        waiting.sock.settimeout(PATIENCE)
        gate.open()
        for c in held:
            assert c.response().status == 200
            c.close()
        assert waiting.response().status == 200


def test_idle_connections_at_the_limit_are_kept(start: Start) -> None:
    """As long as nobody waits for their place."""
    server = start(config(pool(inside="worker_connections 4;")))
    held = [server.client() for _ in range(4)]
    for _ in range(3):
        for c in held:
            assert c.request("/").status == 200
    for c in held:
        c.close()
