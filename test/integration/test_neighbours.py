# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of one connection must not be felt by another: resets while sniffing, children that keep sockets, stops."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path

import pytest
from conftest import Start
from harness import Gate, Server, alive, config, descriptors, pool, stopped, until


def both(worker: str, **more: object) -> str:
    """Two protocols in clear text: connections begin with a look at their first bytes."""
    return config(pool(worker, **more), main="load_module http2;")  # type: ignore[arg-type]


def sockets(server: Server) -> int:
    (pid,) = server.workers()
    return sum(target.startswith("socket:") for target in descriptors(pid).values())


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_kept_bytes_of_a_reset_connection_are_nobodys(start: Start, gate: Gate) -> None:
    """The first bytes of a preface wait for the rest; when their connection is reset, the next turn is another's."""
    server = start(both("wsgi"))
    with server.client() as victim:
        victim.send(f"GET /stream?n=2&gate={gate.path} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in victim.sock.recv(15, socket.MSG_PEEK)
        before = sockets(server)
        harm = server.socket()
        harm.sendall(b"PRI * HTTP/2.0\r\n\r\n")
        until(lambda: sockets(server) == before + 1, "the connection")
        until(lambda: not unread(harm), "the server's reading")
        reset(harm)
        until(lambda: sockets(server) == before, "the end of the connection")
        gate.open()  # the second piece makes a turn of the victim's connection that reads nothing
        assert victim.response().body == b"piece 0\npiece 1\n"
        assert victim.request("/").body == b"Hello, world!\n"


def unread(sock: socket.socket) -> bool:
    """Has the peer bytes of ours in its receive queue?  By the kernel's table of its end."""
    (host, port), (_, peer) = sock.getsockname(), sock.getpeername()
    local = f"{struct.unpack('<I', socket.inet_aton(host))[0]:08X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        field = line.split()
        if field[1] == f"{local}:{peer:04X}" and field[2] == f"{local}:{port:04X}":
            return int(field[4].split(":")[1], 16) != 0
    return True


def test_a_child_of_the_application_keeps_sockets(start: Start, worker: str, gate: Gate) -> None:
    """It has copies of all that were open at the fork.  The worker forgets them, and clients see the end at once."""
    server = start(config(pool(worker)))
    clients = [server.client() for _ in range(20)]
    for c in clients:
        assert c.request("/").status == 200
    with server.client() as c:
        child = int(c.request(f"/fork?gate={gate.path}").body)
    assert alive(child)
    for c in clients:
        assert c.request("/", headers=("Connection: close",)).status == 200
        assert c.sock.recv(10) == b""
        c.sock.close()
    (pid,) = server.workers()
    with server.client() as c:
        for _ in range(50):
            assert c.request("/").status == 200
    assert server.workers() == [pid]
    gate.open()
    until(lambda: not alive(child), "the end of the child")


@pytest.mark.parametrize("protocols", [config, lambda text: config(text, main="load_module http2;")])
def test_stop_serves_what_is_queued(start: Start, worker: str, protocols: object) -> None:
    """Connections that are open, or wait in the listener's queue with their request, when the signal comes."""
    server = start(protocols(pool(worker)))  # type: ignore[operator]
    (pid,) = server.workers()
    before = sockets(server)
    idle = [server.client() for _ in range(3)]
    until(lambda: sockets(server) == before + 3, "the connections")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "the stop")
    queued = [server.client() for _ in range(20)]
    for c in queued:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for c in idle:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.send_signal(signal.SIGTERM)
    server.wait_log("SIGTERM")
    os.kill(pid, signal.SIGCONT)
    for c in queued + idle:
        assert c.response().status == 200
        c.sock.close()
    server.wait()
