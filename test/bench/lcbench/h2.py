# SPDX-License-Identifier: BSD-2-Clause
"""The loads of the TLS rows: HTTP/2 by h2load, handshakes and idle connections by tlsload.c.

All sides have the certificate that ``servers.make_certificate`` made, and every client insists on TLS 1.3 with one
cipher and on ``h2``, so no server can be measured with a cheaper one.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

from lcbench.loads import BODY, TEXT
from lcbench.procs import BenchError, pinned, run_tool

CIPHER = "TLS_AES_128_GCM_SHA256"
SHAPES = {"h2-32": (16, 32), "h2-1": (64, 1)}  # connections, streams at once on each
HANDSHAKES = {"handshake-full": "full", "handshake-resumed": "resumed"}
HANDSHAKES_AT_ONCE = 16
CALIBRATION = 0.3  # seconds that a run must have taken for its pace to be believed
TOTALS = re.compile(
    r"^requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE
)
FINISHED = re.compile(r"^finished in ([\d.]+)(s|ms|us), ", re.MULTILINE)
CODES = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)
BYTES = re.compile(r"^traffic: .*\((\d+)\) total, .*\((\d+)\) headers .*\((\d+)\) data", re.MULTILINE)
MEAN = re.compile(r"^time for request: +\S+ +\S+ +([\d.]+)(s|ms|us) ", re.MULTILINE)
UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def url(port: int) -> str:
    """What is asked for."""
    return f"https://127.0.0.1:{port}/"


def h2load(
    port: int, conns: int, streams: int, count: int, cpu: int, spin: Path | None, timeout: float
) -> dict[str, Any]:
    """Exactly ``count`` requests; anything but as many right answers makes it invalid."""
    argv = ["h2load", "-t1", f"-c{conns}", f"-m{streams}", f"-n{count}", f"--tls13-ciphers={CIPHER}", "--npn-list=h2"]
    out = run_tool(cpu, [*argv, url(port)], timeout, spin).stdout
    totals, finished, codes, traffic = (r.search(out) for r in (TOTALS, FINISHED, CODES, BYTES))
    if not (totals and finished and codes and traffic):
        raise BenchError(f"h2load printed no result: {out.strip()[-200:]}")
    good, failed, errored, late = (int(totals[i]) for i in range(2, 6))
    if good != count or failed or errored or late:
        raise BenchError(f"h2load: {good} of {count} succeeded, {failed} failed, {errored} errored, {late} timed out")
    if int(codes[1]) != count:
        raise BenchError(f"h2load: {codes[1]} of {count} answers were 2xx")
    if int(traffic[3]) != count * len(BODY):
        raise BenchError(f"h2load: {traffic[3]} bytes of bodies in {count} answers, not {len(BODY)} each")
    for line in ("TLS Protocol: TLSv1.3", f"Cipher: {CIPHER}", "Application protocol: h2"):
        if line not in out:
            raise BenchError(f"h2load did not see {line!r}")
    mean = MEAN.search(out)
    return {
        "requests": count,
        "duration_us": float(finished[1]) * UNIT[finished[2]] * 1e6,
        "wire_bytes": int(traffic[1]) / count,
        "mean_ms": float(mean[1]) * UNIT[mean[2]] * 1e3 if mean else None,
    }


def check(port: int, cpu: int) -> None:
    """One body looked at, then 64 answers on two connections by status and length."""
    argv = ["nghttp", "--timeout=5", url(port)]
    try:
        got = subprocess.run(argv, capture_output=True, check=False, timeout=10)
    except subprocess.TimeoutExpired as exc:
        raise BenchError("nghttp got no answer in 10 s") from exc
    if got.returncode or got.stdout != BODY:
        raise BenchError(f"nghttp got {got.stdout[:60]!r}, not {TEXT!r}: {got.stderr[-100:].decode(errors='replace')}")
    h2load(port, 2, 8, 64, cpu, None, 20)


def pace(port: int, row: str, cpu: int, spin: Path | None) -> float:
    """Requests per second, roughly; it warms the server up, too."""
    conns, streams = SHAPES[row]
    count = conns * streams
    while True:
        got = h2load(port, conns, streams, count, cpu, spin, 60)
        seconds = got["duration_us"] / 1e6
        if seconds >= CALIBRATION:
            return float(count / seconds)
        count *= 4


def load(port: int, row: str, rate: float, seconds: float, cpu: int, spin: Path | None) -> dict[str, Any]:
    """About ``seconds`` of a closed loop at the pace that was found, in whole rounds of all streams."""
    conns, streams = SHAPES[row]
    count = max(1, math.ceil(rate * seconds / (conns * streams))) * conns * streams
    return h2load(port, conns, streams, count, cpu, spin, 10 * seconds + 30)


def handshakes(port: int, row: str, seconds: float, cpu: int, tool: Path, spin: Path | None) -> dict[str, Any]:
    """Connections that do nothing else; see tlsload.c."""
    argv = [str(tool), str(port), HANDSHAKES[row], str(HANDSHAKES_AT_ONCE), str(seconds)]
    result: dict[str, Any] = json.loads(run_tool(cpu, argv, seconds + 30, spin).stdout)
    if result["protocol"] != "TLSv1.3" or result["cipher"] != CIPHER:
        raise BenchError(f"negotiated {result['protocol']} with {result['cipher']}")
    return {"requests": result["handshakes"], "duration_us": result["seconds"] * 1e6}


class IdleTls:
    """HTTP/2 connections over TLS that stay open, held by tlsload."""

    def __init__(self, port: int, count: int, cpu: int, tool: Path) -> None:
        self.count = count
        self.proc = subprocess.Popen(
            pinned(cpu, [str(tool), str(port), "idle", str(count)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def expect(self, word: str = "") -> str:
        """The next line that tlsload prints, which must be ``word`` if that is given; tlsload bounds its waits."""
        assert self.proc.stdout and self.proc.stderr
        line = self.proc.stdout.readline().strip()
        if not line or (word and line != word):
            raise BenchError(self.proc.stderr.read().strip()[-200:] or f"tlsload said {line!r}")
        return line

    def ask(self) -> None:
        """Go on to the next step: a request each, then the count of those that were closed."""
        assert self.proc.stdin
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()

    def closed(self) -> int:
        """How many the server has closed."""
        self.ask()
        return int(self.expect())

    def dismiss(self) -> None:
        """Close all."""
        self.proc.kill()
        self.proc.communicate()
