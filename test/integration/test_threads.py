# SPDX-License-Identifier: BSD-2-Clause
"""Worker wsgi: calls that prove fast run on the loop's thread, slow ones on application threads, `threads` at most."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from harness import Gate, Server, config, pool, until


def wait_calls(
    server: Server, folder: Path, gates: Gate | list[Gate], count: int, prefix: str = "m"
) -> tuple[list[Client], list[Path]]:
    """That many calls that wait at a gate, of their own or all at one; a mark tells that one runs."""
    clients, marks = [], []
    for i in range(count):
        mark = folder / f"{prefix}{i}"
        gate = gates if isinstance(gates, Gate) else gates[i]
        c = server.client()
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        clients.append(c)
        marks.append(mark)
    return clients, marks


def ran(marks: list[Path]) -> int:
    return sum(m.exists() for m in marks)


def runs(marks: list[Path], count: int) -> bool:
    return ran(marks) == count


def warm(server: Server, calls: int = 500) -> None:
    """Calls that are fast, so that they may run inline."""
    with server.client() as c:
        for _ in range(calls // 10):
            c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            for _ in range(10):
                assert c.response().status == 200


def switches(pid: int) -> int:
    """Voluntary context switches of all threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


@pytest.mark.normal  # sanitizers make calls slow, and slow calls belong to the threads
def test_fast_calls_run_inline(start: Start) -> None:
    """Seen from outside: a burst of pipelined calls is answered by one thread, without a switch per call.

    A machine that is busy with others makes calls slow now and then, and sends the worker back to its threads for a while: it
    counts that such a burst comes.
    """
    server = start(config(pool(threads=4)))
    (pid,) = server.workers()
    calls = 1600

    def burst() -> bool:
        warm(server, 2000)
        before = switches(pid)
        with server.client() as c:
            for _ in range(calls // 16):
                c.send("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n" * 16)
                for _ in range(16):
                    assert c.response().status == 200
        took = switches(pid) - before
        print(f"\n{took} context switches for {calls} calls")
        return took < calls / 2

    until(burst, "a burst without a hop to another thread per call")


def test_slow_call_does_not_block_others(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Also when calls ran inline just before: the first slow one is the surprise."""
    server = start(config(pool(threads=4)))
    clients, marks = wait_calls(server, tmp_path, gate, 1)
    until(lambda: ran(marks) == 1, "the call")
    for _ in range(50):
        assert server.get("/") == "Hello, world!\n"
    gate.open()
    assert clients[0].response().status == 200
    clients[0].close()


def test_keep_alive_connections_go_on_beside_a_slow_call(start: Start, gate: Gate, tmp_path: Path) -> None:
    server = start(config(pool(threads=4)))
    with server.client() as c:
        assert c.request("/").status == 200
        clients, marks = wait_calls(server, tmp_path, gate, 1)
        until(lambda: ran(marks) == 1, "the call")
        for _ in range(50):
            assert c.request("/").status == 200
        gate.open()
        assert clients[0].response().status == 200
        clients[0].close()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_limit(start: Start, tmp_path: Path, threads: int) -> None:
    """`threads` calls at once, never more; the rest waits its turn and gets its answer."""
    server = start(config(pool(threads=threads)))
    gates = [Gate(tmp_path / f"gate{i}") for i in range(threads + 3)]
    clients, marks = wait_calls(server, tmp_path, gates, threads + 3)
    opened: set[int] = set()
    for count in range(threads, threads + 4):
        until(partial(runs, marks, count), f"{count} calls begun")
        inside = [i for i, m in enumerate(marks) if m.exists() and i not in opened]
        assert len(inside) == threads
        gates[inside[0]].open()
        opened.add(inside[0])
    for i in set(range(threads + 3)) - opened:
        gates[i].open()
    for c in clients:
        with c:
            assert c.response().status == 200
    running, most = server.get("/most").split()
    assert (running, most) == ("0", str(threads))


def test_threads_limit_counts_inline_calls(start: Start, gate: Gate, tmp_path: Path) -> None:
    """After fast calls the first slow one may be inline: still no more than `threads` at once."""
    server = start(config(pool(threads=2)))
    warm(server)
    clients, marks = wait_calls(server, tmp_path, gate, 1, "first")
    more, more_marks = wait_calls(server, tmp_path, gate, 3, "more")
    # without stealing, an inline call that waits holds the loop: only the gate lets it go on
    until(lambda: ran(marks + more_marks) >= 1, "a call")
    gate.remove()
    for c in clients + more:
        with c:
            assert c.response().status == 200
    _, most = server.get("/most").split()
    assert int(most) <= 2


def test_slow_calls_send_the_worker_back_to_its_threads(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Inline after fast calls; then calls that take milliseconds: others are not held up by the next slow one."""
    server = start(config(pool(threads=4)))
    warm(server)
    for _ in range(20):
        assert server.get("/sleep?s=0.005")
    clients, marks = wait_calls(server, tmp_path, gate, 1)
    until(lambda: ran(marks) == 1, "the call")
    for _ in range(20):
        assert server.get("/") == "Hello, world!\n"
    gate.open()
    assert clients[0].response().status == 200
    clients[0].close()


def test_inline_pieces_come_when_they_are_made(start: Start, gate: Gate) -> None:
    """A streamed piece of an inline call leaves before the next is made."""
    server = start(config(pool(threads=4)))
    warm(server, 2000)
    with server.client() as c:
        c.send(f"GET /stream?n=3&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.head().status == 200
        assert c.chunk() == b"piece 0\n"
        gate.open()
        assert c.chunk() == b"piece 1\n"
        gate.open()
        assert c.chunk() == b"piece 2\n"
        assert c.chunk() == b""
        assert c.fields() == []
        assert c.request("/").status == 200


def test_inline_pipeline_with_streams(start: Start) -> None:
    """Streams, bodies and plain answers behind each other in one write, all inline."""
    server = start(config(pool(threads=4)))
    warm(server, 2000)
    one = (
        "GET /stream?n=1 HTTP/1.1\r\nHost: x\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        "GET /big?n=200000&chunk=5000 HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    with server.client() as c:
        for _ in range(20):
            c.send(one * 4)
            for _ in range(4):
                assert c.response().body == b"piece 0\n"
                assert c.response().body == b"hello"
                assert len(c.response().body) == 200000
                assert c.response().body == b"Hello, world!\n"


def test_inline_client_that_does_not_read(start: Start) -> None:
    """An inline call whose client is slow waits on a thread; others are served meanwhile."""
    server = start(config(pool(threads=4)))
    warm(server, 2000)
    with server.client() as slow:
        slow.send("GET /big?n=50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.head().status == 200
        for _ in range(50):
            assert server.get("/") == "Hello, world!\n"
        total = len(slow.chunk())
        while piece := slow.chunk():
            total += len(piece)
        assert total == 50000000


def test_inline_client_that_leaves(start: Start) -> None:
    server = start(config(pool(threads=4)))
    warm(server, 2000)
    for i in range(5):
        with server.client() as c:
            c.send(f"GET /closing?name=inline{i}&n=500&size=65536 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.head().status == 200
    for i in range(5):
        until(lambda i=i: server.get(f"/closed?name=inline{i}") == "1", "close()")  # type: ignore[misc]


def test_slow_body_does_not_block_others(start: Start) -> None:
    """A request whose body is not there yet never runs on the loop's thread."""
    server = start(config(pool(threads=4)))
    warm(server)
    with server.client() as slow:
        slow.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        for _ in range(50):
            assert server.get("/") == "Hello, world!\n"
        slow.send("67890")
        assert slow.response().body == b"1234567890"


def test_application_threads_run_between_requests(start: Start, tmp_path: Path) -> None:
    """The interpreter's lock is not held while the worker waits: a thread of the application's own runs."""
    (tmp_path / "ticking.py").write_text(
        "import threading, time\nfrom probe import plain\nticks = 0\n"
        "def tick():\n    global ticks\n    while True:\n        ticks += 1\n        time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def app(environ, start_response):\n    return plain(start_response, str(ticks))\n"
    )
    server = start(config(pool(app="ticking:app", block=f"pythonpath {tmp_path};")))
    first = int(server.get("/"))
    until(lambda: int(server.get("/")) > first + 50, "ticks")


def test_sync_runs_one_at_a_time(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Worker sync: the next call begins when the one before has ended, in one thread."""
    server = start(config(pool("sync")))
    (pid,) = server.workers()
    clients, marks = wait_calls(server, tmp_path, gate, 3)
    until(lambda: ran(marks) == 1, "the call")
    gate.remove()
    tids = set()
    for c in clients:
        with c:
            tids.add(c.response().text.split()[2])
    assert tids == {str(pid)}, "the main thread runs it all"
    running, most = server.get("/most").split()
    assert (running, most) == ("0", "1")


def test_sync_leaves_connections_to_idle_workers(start: Start, gate: Gate, tmp_path: Path) -> None:
    """A busy process does not accept: whoever connects is served by the other."""
    server = start(config(pool("sync", processes=2)), ready=2)
    clients, marks = wait_calls(server, tmp_path, gate, 1)
    until(lambda: ran(marks) == 1, "the call")
    pids = {server.get("/pid").split()[0] for _ in range(30)}
    assert len(pids) == 1
    gate.open()
    busy = clients[0].response().text.split()[1]
    clients[0].close()
    assert busy not in pids


def test_many_threads_under_load(start: Start) -> None:
    """Fast and slow calls of many clients at once: all are answered, with what they asked for."""
    server = start(config(pool(threads=8)))
    wrong: list[str] = []

    def one(number: int) -> None:
        with server.client() as c:
            for i in range(40):
                if (number + i) % 10 == 0:
                    answer = c.request("/sleep?s=0.01")
                else:
                    body = f"{number}-{i}".encode() * 50
                    answer = c.request("/echo", method="POST", body=body)
                    if answer.body != body:
                        wrong.append(f"{number}-{i}")
                if answer.status != 200:
                    wrong.append(f"{number}-{i}: {answer.status}")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
