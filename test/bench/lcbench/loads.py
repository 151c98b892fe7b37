# SPDX-License-Identifier: BSD-2-Clause
"""What is sent to a server: the check of its replies, and the loads of the rows."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import resource
import selectors
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcbench.procs import BenchError, run_tool

TEXT = "Hello, World!"
BODY = TEXT.encode()
PLAIN = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BROWSER = (
    b"GET /?page=1&q=abc&sort=price HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Referer: http://127.0.0.1/catalogue\r\nCookie: sessionid=0123456789abcdef; theme=dark\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\n\r\n"
)
WRK_ERRORS = ("connect", "read", "write", "status", "timeout")
CONNECTIONS = 64
DEPTH = 16
PORTS_PER_SOURCE = 20000
WAVE = 256  # connections being opened at once: fewer than any backlog


def read_reply(sock: socket.socket, rest: bytes) -> tuple[str, dict[str, str], bytes, bytes]:
    """One response: the status line, its fields, the body, and what came after it."""
    while b"\r\n\r\n" not in rest:
        more = sock.recv(65536)
        if not more:
            raise BenchError("closed the connection before a complete head")
        rest += more
    head, _, rest = rest.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    length = fields.get("content-length", "")
    if not length.isdigit():
        raise BenchError("response without Content-Length")
    while len(rest) < int(length):
        more = sock.recv(65536)
        if not more:
            raise BenchError("closed the connection in the body")
        rest += more
    return status, fields, rest[: int(length)], rest[int(length) :]


def check_replies(port: int, request: bytes, times: int, pipelined: bool, expect: bytes = BODY) -> None:
    """Send a request some times over one connection and look at every byte that matters of each response."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as sock:
        rest = b""
        if pipelined:
            sock.sendall(request * times)
        for n in range(times):
            if not pipelined:
                sock.sendall(request)
            try:
                status, fields, body, rest = read_reply(sock, rest)
            except TimeoutError:
                raise BenchError(f"only {n} of {times} requests on one connection were answered") from None
            if not status.startswith("HTTP/1.1 200"):
                raise BenchError(f"answered {status!r}")
            if body != expect:
                raise BenchError(f"answered a body of {len(body)} bytes: {body[:40]!r}")
            if fields.get("connection", "").lower() == "close":
                raise BenchError("does not keep the connection")
        if rest:
            raise BenchError("sent more than it was asked for")


def get(path: str) -> bytes:
    """The shortest request for a path."""
    return PLAIN.replace(b" / ", f" {path} ".encode())


def wrk(
    port: int,
    mode: str,
    depth: int,
    seconds: float,
    cpu: int,
    script: Path,
    spin: Path | None,
    path: str = "/",
    conns: int = CONNECTIONS,
) -> dict[str, Any]:
    """One closed-loop run; any error that wrk saw makes it invalid."""
    argv = ["wrk", "-t1", f"-c{conns}", f"-d{max(1, round(seconds))}", "--latency", "-s", str(script)]
    argv += [f"http://127.0.0.1:{port}{path}", "--", mode, str(depth)]
    out = run_tool(cpu, argv, seconds + 15, spin).stdout
    match = re.search(r"^JSON (\{.*\})$", out, re.MULTILINE)
    if not match:
        raise BenchError(f"wrk printed no result: {out.strip()[-200:]}")
    result: dict[str, Any] = json.loads(match[1])
    bad = [f"{result[key]} {key}" for key in WRK_ERRORS if result[key]]
    if bad:
        raise BenchError("wrk saw errors: " + ", ".join(bad))
    if not result["requests"]:
        raise BenchError("no request was answered")
    return result


@functools.cache
def _first_in_line() -> tuple[str, ...]:
    """What lets a load generator run before anything else on its core, where that is allowed."""
    chrt = ("chrt", "--fifo", "10")
    try:
        allowed = subprocess.run([*chrt, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return ()
    return chrt if allowed else ()


def open_loop(port: int, seconds: float, seed: int, cpu: int, tool: Path, rate: float, slow: float) -> dict[str, Any]:
    """One open-loop run, see openloop.c; a request without an answer makes it invalid."""
    argv = [*_first_in_line(), str(tool), str(port), str(rate), str(seconds), str(slow), "poisson", str(seed)]
    result: dict[str, Any] = json.loads(run_tool(cpu, argv, seconds + 15).stdout)
    lost = result["fast"]["unanswered"] + result["slow"]["unanswered"]
    if result["errors"] or lost:
        raise BenchError(
            f"{lost} of {result['requests']} requests got no answer ({result['errors']} failed connections); "
            f"p99 of the others at least {result['fast']['p99_ms']:.0f} ms"
        )
    return result


def file_limit(wanted: int) -> int:
    """Raise the limit of open files (children inherit it); what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        soft = goal
    return soft


@dataclass
class Client:
    """A connection on its way to being idle."""

    sock: socket.socket
    sent: bool = False
    got: bytes = b""


@dataclass
class IdleCrowd:
    """Keep-alive connections that have had one answer each and stay open."""

    port: int
    clients: list[socket.socket] = field(default_factory=list)

    def _open(self, number: int) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if number >= PORTS_PER_SOURCE:
            source = f"127.0.0.{2 + (number - PORTS_PER_SOURCE) // PORTS_PER_SOURCE}"
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self.port))
        return Client(sock)

    def gather(self, count: int, timeout: float) -> None:
        """Open ``count`` connections, one good answer on each."""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as sel:
            opened = busy = 0
            while len(self.clients) < count:
                while opened < count and busy < WAVE:
                    client = self._open(opened)
                    sel.register(client.sock, selectors.EVENT_WRITE, client)
                    opened, busy = opened + 1, busy + 1
                if time.monotonic() > deadline:
                    raise BenchError(f"only {len(self.clients)} of {count} connections were served in {timeout:.0f} s")
                for key, _ in sel.select(1.0):
                    client = key.data
                    try:
                        if not client.sent:
                            client.sock.send(PLAIN)
                            client.sent = True
                            sel.modify(client.sock, selectors.EVENT_READ, client)
                            continue
                        more = client.sock.recv(4096)
                    except OSError as exc:
                        raise BenchError(f"connection {len(self.clients)}: {exc.strerror}") from exc
                    client.got += more
                    if not more:
                        raise BenchError(f"connection {len(self.clients)} was closed without an answer")
                    if client.got.endswith(BODY):
                        if not client.got.startswith(b"HTTP/1.1 200"):
                            raise BenchError(f"answered {client.got[:40]!r}")
                        sel.unregister(client.sock)
                        self.clients.append(client.sock)
                        busy -= 1

    def closed(self) -> int:
        """How many of them the server has closed (or has sent something on) since."""
        with selectors.DefaultSelector() as sel:
            for sock in self.clients:
                sel.register(sock, selectors.EVENT_READ)
            return len(sel.select(0))

    def dismiss(self) -> None:
        """Close all."""
        for sock in self.clients:
            sock.close()
        self.clients.clear()
