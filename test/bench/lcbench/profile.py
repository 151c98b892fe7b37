# SPDX-License-Identifier: BSD-2-Clause
"""The work behind profile.sh: licorne under callgrind or perf, and a table of where its instructions go."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.dont_write_bytecode = True

from lcbench import h2, loads, servers  # noqa: E402
from lcbench.procs import BenchError, Running, free_port, guard, kill_all, tree  # noqa: E402

CONNECTIONS = 32  # of the rows of ROWS
ROWS = {
    "keepalive": ("plain", 1),
    "pipelined": ("plain", loads.DEPTH),
    "browser": ("varied", 1),
    "browser-pipelined": ("varied", loads.DEPTH),
}
LANDMARKS = ("lc_deliver", "h1_request", "lcpy_call")  # functions that every run of a worker has been in
LANDMARKS_H2 = ("nghttp2_session_mem_recv", "h2_head", "lcpy_call")
LINE = re.compile(r"^\s*([\d,]+)\s+\([ \d.]+%\)\s+(\S.*)$")


def request(mode: str, number: int) -> bytes:
    """One request of a row; the "varied" ones differ in query and cookie."""
    if mode == "plain":
        return loads.PLAIN
    text = loads.BROWSER.replace(b"page=1", b"page=%d" % number)
    return text.replace(b"sessionid=0123456789abcdef", b"sessionid=%016x" % (number * 0x9E3779B97F4A7C15 % 2**64))


def drive(port: int, mode: str, depth: int, total: int) -> None:
    """Exactly ``total`` requests, over connections that all have one write in flight before any answer is read."""
    socks = [socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(CONNECTIONS)]
    sent = 0
    while sent < total:
        asked = []
        for sock in socks:
            n = min(depth, total - sent)
            if n:
                sock.sendall(b"".join(request(mode, sent + i) for i in range(n)))
                asked.append((sock, n))
                sent += n
        for sock, n in asked:
            rest = b""
            for _ in range(n):
                status, _, body, rest = loads.read_reply(sock, rest)
                if not status.startswith("HTTP/1.1 200") or body != loads.BODY:
                    raise BenchError(f"answered {status!r} {body!r}")
    for sock in socks:
        sock.close()


def drive_h2(port: int, row: str, total: int) -> None:
    """``total`` requests, or as many more as fill the last round of all streams, by h2load."""
    conns, streams = h2.SHAPES[row]
    each = conns * streams
    h2.h2load(port, conns, streams, (total + each - 1) // each * each, min(os.sched_getaffinity(0)), None, 600)


def start(argv: list[str], setup: servers.Setup, name: str, port: int, timeout: float, row: str) -> Running:
    """The server with a tool around it, once it answers."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}  # collisions in dicts are a few percent
    if argv[0] == "valgrind":
        env |= {"LD_PRELOAD": str(setup.tools["exeself"]), "LICORNE_EXE": setup.binary}
    running = Running(name, argv, max(os.sched_getaffinity(0)), setup.work, env, setup.work / "profile" / f"{name}.log")
    cpu = min(os.sched_getaffinity(0))
    if row in h2.SHAPES:
        running.wait_ready(lambda: h2.check(port, cpu), timeout)
    else:
        running.wait_ready(lambda: loads.check_replies(port, loads.PLAIN, 1, pipelined=False), timeout)
    return running


def counted(setup: servers.Setup, out: Path, row: str, total: int, threads: int) -> Counter[str]:
    """Instructions by function of the worker, over a whole life with ``total`` requests."""
    port = free_port()
    conf = out / "licorne.conf"
    conf.write_text(servers.licorne_config(setup, port, threads, row if row in h2.SHAPES else ""))
    for old in out.glob("callgrind.out.*"):
        old.unlink()
    assert setup.build
    argv = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={out}/callgrind.out.%p"]
    running = start([*argv, setup.binary, "-c", str(conf)], setup, f"callgrind-{row}", port, 120, row)
    try:
        if row in h2.SHAPES:
            drive_h2(port, row, total)
        else:
            drive(port, *ROWS[row], total)
        time.sleep(0.2)
        running.proc.terminate()
        running.proc.wait(60)
    except subprocess.TimeoutExpired as exc:
        raise BenchError("did not end within 60 s of SIGTERM: no figures") from exc
    finally:
        running.stop()
    found: list[Counter[str]] = []
    for path in out.glob("callgrind.out.*"):
        text = subprocess.run(
            ["callgrind_annotate", "--threshold=100", "--auto=no", "--show=Ir", str(path)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        functions: Counter[str] = Counter()
        for line in text.splitlines():
            match = LINE.match(line)
            if match and ":" in match[2]:
                functions[shorten(match[2], setup.root)] += int(match[1].replace(",", ""))
        found.append(functions)
    # On a busy machine a worker under callgrind may be killed as hung, and leave nothing or half of it.
    marks = LANDMARKS_H2 if row in h2.SHAPES else LANDMARKS
    whole = [c for c in found if all(any(f":{name}" in f for f in c) for name in marks)]
    if not whole:
        raise BenchError("callgrind left no figures of the worker")
    return max(whole, key=lambda c: c.total())


def shorten(name: str, root: Path) -> str:
    """``file:function [object]`` without folders that say nothing."""
    where, _, rest = name.partition(":")
    match = re.match(r"(.*?)(?: \[(.*)\])?$", rest)
    function, obj = (match[1], match[2] or "") if match else (rest, "")
    where = where.replace(str(root) + "/", "")
    while where.startswith("../"):
        where = where[3:]
    if where.startswith("/"):
        where = "/".join(where.split("/")[-2:])
    return f"{where}:{function} [{Path(obj).name}]" if obj else f"{where}:{function}"


def merged(parts: dict[str, float]) -> list[tuple[str, float]]:
    """One line per function, the costliest first: what was inlined from headers belongs to the function it is in."""
    sums: dict[str, float] = {}
    label: dict[str, tuple[float, str]] = {}
    for name, cost in parts.items():
        function = name.partition(":")[2].partition(" [")[0].partition("'")[0].partition("@@")[0]
        sums[function] = sums.get(function, 0.0) + cost
        known = name.endswith("]")
        if function not in label or (known, cost) > (label[function][1].endswith("]"), label[function][0]):
            label[function] = (cost, name)
    return sorted(((label[f][1], cost) for f, cost in sums.items()), key=lambda x: -x[1])


def group(functions: Iterable[tuple[str, float]]) -> Counter[str]:
    """Sums by object."""
    sums: Counter[str] = Counter()
    for name, n in functions:
        match = re.search(r"\[(.*)\]$", name)
        sums[match[1] if match else "?"] += round(n)
    return sums


def callgrind(setup: servers.Setup, out: Path, row: str, n: int, threads: int, top: int) -> None:
    """The difference between two runs is the price of the requests."""
    small, large = (counted(setup, out, row, total, threads) for total in (n, 2 * n))
    each = merged({f: (large[f] - small[f]) / n for f in large.keys() | small.keys()})
    total = sum(x for _, x in each)
    conns = h2.SHAPES[row][0] if row in h2.SHAPES else CONNECTIONS
    print(f"\n## {row}: {total:,.0f} user instructions per request ({n} requests, {conns} connections)\n")
    for obj, count in group(each).most_common(8):
        print(f"{count:8,d}  {count / total * 100:5.1f} %  {obj}")
    print()
    for name, cost in each[:top]:
        print(f"{cost:8,.1f}  {cost / total * 100:5.1f} %  {name}")
    sys.stdout.flush()


def perf(setup: servers.Setup, out: Path, row: str, threads: int, top: int) -> None:
    """Samples of the whole tree under wrk; the cpu-clock works where a machine has no counters to offer."""
    port = free_port()
    conf, data = out / "licorne.conf", out / f"perf-{row}.data"
    conf.write_text(servers.licorne_config(setup, port, threads, row if row in h2.SHAPES else ""))
    assert setup.build
    running = start([setup.binary, "-c", str(conf)], setup, f"perf-{row}", port, 20, row)
    try:
        pids = ",".join(map(str, tree(running.proc.pid)))
        argv = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-g", "-o", str(data), "-p", pids]
        with subprocess.Popen([*argv, "--", "sleep", "4"], stdout=subprocess.DEVNULL) as recorder:
            if row in h2.SHAPES:
                drive_h2(port, row, round(4 * h2.pace(port, row, min(os.sched_getaffinity(0)), setup.tools["spin"])))
            else:
                loads.wrk(port, *ROWS[row], 4, min(os.sched_getaffinity(0)), setup.bench / "load.lua", None)
            recorder.wait(30)
    finally:
        running.stop()
    argv = ["perf", "report", "-i", str(data), "--no-children", "-g", "none", "--stdio", "--sort", "dso,symbol"]
    text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    print(f"\n## {row}: samples, kernel included\n")
    print("\n".join(lines[:top]))


def main() -> int:
    """Parse what profile.sh passes."""
    p = argparse.ArgumentParser()
    for name in ("bench", "build", "work", "out"):
        p.add_argument(f"--{name}", type=Path, required=True)
    p.add_argument("--tool", choices=("callgrind", "perf"), required=True)
    for name in ("requests", "threads", "top"):
        p.add_argument(f"--{name}", type=int, required=True)
    p.add_argument("rows", nargs="+")
    a = p.parse_args()
    guard()
    need = "valgrind" if a.tool == "callgrind" else "perf"
    if not shutil.which(need):
        print(f"{need} is not installed", file=sys.stderr)
        return 1
    setup = servers.Setup(a.bench, a.bench.parent.parent, a.work.resolve(), a.build.resolve())
    servers.compile_tools(setup)
    why = servers.make_certificate(setup)
    if why and any(row in h2.SHAPES for row in a.rows):
        print(why, file=sys.stderr)
        return 1
    for row in a.rows:
        try:
            if a.tool == "perf":
                perf(setup, a.out, row, a.threads, a.top)
            else:
                callgrind(setup, a.out, row, a.requests, a.threads, a.top)
        except BenchError as exc:
            print(f"{row}: {exc}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        kill_all()
