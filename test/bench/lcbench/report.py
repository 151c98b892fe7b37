# SPDX-License-Identifier: BSD-2-Clause
"""From samples to medians, ratios, the table, and the verdicts of ``--check``.

A ratio is taken within one round, where both sides met the same machine, and the median is of those ratios; it is
therefore not always the ratio of the two medians printed beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Sample = dict[str, Any]

TITLES = {
    "keepalive": "keep-alive: wrk, 64 connections, one request at a time on each",
    "pipelined": "pipelined: the same, 16 requests in each write",
    "browser": "browser keep-alive: eight browser headers, another cookie and query string in every request",
    "browser-pipelined": "browser pipelined: the same, 16 requests in each write",
    "return": "native hello: 13 bytes from licorne's `return` handler and nginx's `return`, keep-alive",
    "static-1k": "static file of 1 KB, keep-alive, 64 connections: licorne's `static` handler and nginx (sendfile)",
    "static-64k": "static file of 64 KB, the same",
    "static-10m": "static file of 10 MB, 8 connections",
    "log": "access log: licorne's WSGI hello with the log off and on, keep-alive",
    "slow": "slow mix: 400 requests per second (Poisson, open loop), 2 % of them sleep 200 ms; latency of the others",
    "idle": "memory: user memory of idle keep-alive connections after one request each",
    "h2-32": "HTTP/2 over TLS: h2load, 16 connections, 32 streams at once on each; WSGI or ASGI hello, or a static reply",
    "h2-1": "HTTP/2 over TLS: the same with 64 connections, one stream at once on each",
    "handshake-full": "TLS 1.3 handshakes, full, 16 connections at once, each closed when its ticket is there",
    "handshake-resumed": "TLS 1.3 handshakes, resumed by ticket, the same",
    "idle-h2": "memory: private memory of idle HTTP/2 connections over TLS, after SETTINGS and after one request each",
}
KEEPALIVE_ECHO, KEEPALIVE_PYTHON = 1.2, 1.15
PIPELINED_ECHO, PIPELINED_PYTHON = 2.5, 1.6
HANDSHAKES_OF_NGINX = 0.95  # per CPU second
LOAD_ROWS = ("keepalive", "pipelined", "browser", "browser-pipelined")


@dataclass
class Results:
    """All that was measured."""

    order: list[str]  # servers
    kinds: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    takes_part: dict[str, frozenset[str]] = field(default_factory=dict)  # server: its rows
    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)  # row, server, round
    invalid: dict[str, dict[str, str]] = field(default_factory=dict)  # row, server: the reason
    absent: dict[str, dict[str, str]] = field(default_factory=dict)  # row, server: what it lacks for this row
    discarded: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # row, server: how late (ms)

    def add(self, row: str, server: str, round_: int, sample: Sample) -> None:
        """Note one sample."""
        rounds = self.samples.setdefault(row, {}).setdefault(server, [])
        rounds += [None] * (round_ + 1 - len(rounds))
        rounds[round_] = sample

    def spoil(self, row: str, server: str, why: str) -> None:
        """One bad round makes the row of this server invalid."""
        self.invalid.setdefault(row, {}).setdefault(server, why)

    def discard(self, row: str, server: str, late_ms: float) -> None:
        """Note a round in which the load generator was too late to judge by."""
        self.discarded.setdefault(row, {}).setdefault(server, []).append(late_ms)

    def _good(self, row: str, server: str) -> list[Sample | None]:
        if server in self.invalid.get(row, {}):
            return []
        return self.samples.get(row, {}).get(server, [])

    def median(self, row: str, server: str, key: str) -> float | None:
        """Median over the rounds; None if there is no valid figure."""
        values = [s[key] for s in self._good(row, server) if s and s.get(key) is not None]
        return statistics.median(values) if values else None

    def ratio(self, row: str, key: str, a: str, b: str) -> float | None:
        """Median over the rounds of a's figure divided by b's of the same round."""
        pairs = zip(self._good(row, a), self._good(row, b), strict=False)
        values = [x[key] / y[key] for x, y in pairs if x and y and x.get(key) is not None and y.get(key)]
        return statistics.median(values) if values else None


def _num(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < 2 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


Column = tuple[str, Callable[[Results, str, str], str]]


def _m(key: str, digits: int, scale: float = 1.0) -> Callable[[Results, str, str], str]:
    def cell(r: Results, row: str, name: str) -> str:
        value = r.median(row, name, key)
        return _num(None if value is None else value * scale, digits)

    return cell


def _x(key: str, a: str | None, b: str | None) -> Callable[[Results, str, str], str]:
    """A ratio in which None stands for the server of the line."""

    def cell(r: Results, row: str, name: str) -> str:
        return _num(r.ratio(row, key, a or name, b or name), 2)

    return cell


LOAD_COLUMNS: list[Column] = [
    ("CPU us/req", _m("cpu_us", 2)),
    ("x echo", _x("cpu_us", None, "echo")),
    ("x python floor", _x("cpu_us", None, "pyfloor")),
    ("licorne is", _x("cpu_us", "licorne", None)),
    ("req/s", _m("rps", 0)),
    ("p99 ms", _m("p99_ms", 2)),
    ("core %", _m("core_percent", 0)),
    ("PSS MB", lambda r, _row, name: _num(r.median("memory", name, "pss_mb"), 1)),
]
STATIC_COLUMNS: list[Column] = [c for c in LOAD_COLUMNS if c[0] not in ("x echo", "x python floor", "PSS MB")]
H2_COLUMNS: list[Column] = [
    ("CPU us/req", _m("cpu_us", 2)),
    ("x h2 floor", _x("cpu_us", None, "h2floor")),
    ("licorne is", _x("cpu_us", "licorne", None)),
    ("its return is", _x("cpu_us", "licorne-return", None)),
    ("req/s", _m("rps", 0)),
    ("mean ms", _m("mean_ms", 2)),
    ("bytes/req", _m("wire_bytes", 1)),
    ("core %", _m("core_percent", 0)),
]
HANDSHAKE_COLUMNS: list[Column] = [
    ("CPU us each", _m("cpu_us", 1)),
    ("per CPU second", _m("per_cpu_second", 0)),
    ("licorne is", _x("per_cpu_second", "licorne", None)),
    ("per second", _m("rps", 0)),
    ("core %", _m("core_percent", 0)),
]
IDLE_H2_COLUMNS: list[Column] = [
    ("bytes/conn, SETTINGS", _m("settings_bytes", 0)),
    ("after a request", _m("bytes", 0)),
    ("by PSS", _m("pss_bytes", 0)),
    ("licorne is", _x("bytes", "licorne", None)),
    ("private at 0 MB", _m("private0_mb", 1)),
    ("at N MB", _m("private_mb", 1)),
    ("connections", _m("connections", 0)),
]
OTHER_COLUMNS: list[Column] = [c for c in LOAD_COLUMNS if c[0] not in ("x python floor", "PSS MB")]
SLOW_COLUMNS: list[Column] = [
    ("p50 ms", _m("p50_ms", 2)),
    ("p99 ms", _m("p99_ms", 2)),
    ("p99.9 ms", _m("p999_ms", 2)),
    ("max ms", _m("max_ms", 2)),
    ("licorne p99 is", _x("p99_ms", "licorne", None)),
    ("CPU us/req", _m("cpu_us", 1)),
    ("late by ms", _m("lag_max_ms", 2)),
]
IDLE_COLUMNS: list[Column] = [
    ("bytes/conn", _m("bytes", 0)),
    ("anonymous", _m("anon_bytes", 0)),
    ("PSS at 0 MB", _m("pss0_mb", 1)),
    ("PSS at N MB", _m("pss_mb", 1)),
    ("connections", _m("connections", 0)),
]


def _columns(row: str) -> list[Column]:
    if row in LOAD_ROWS:
        return LOAD_COLUMNS
    known = {"slow": SLOW_COLUMNS, "idle": IDLE_COLUMNS, "return": OTHER_COLUMNS, "idle-h2": IDLE_H2_COLUMNS}
    known |= {"h2-32": H2_COLUMNS, "h2-1": H2_COLUMNS}
    known |= {"handshake-full": HANDSHAKE_COLUMNS, "handshake-resumed": HANDSHAKE_COLUMNS}
    return known.get(row, STATIC_COLUMNS)


def render(results: Results, rows: Sequence[str]) -> str:
    """The tables, one for each row of the benchmark, as Markdown."""
    out = []
    for row in rows:
        columns = _columns(row)
        lines = []
        notes = []
        for name in results.order:
            if row not in results.takes_part.get(name, (row,)):
                continue
            if name in results.missing:
                notes.append(f"{name}: missing: {results.missing[name]}")
                continue
            why = results.absent.get(row, {}).get(name)
            if why:
                notes.append(f"{name}: missing: {why}")
                lines.append([name, results.kinds[name], "missing", *["-"] * (len(columns) - 1)])
                continue
            late = results.discarded.get(row, {}).get(name)
            if late:
                notes.append(f"{name}: {len(late)} rounds discarded: the load was late by up to {max(late):.2f} ms")
            why = results.invalid.get(row, {}).get(name)
            if why:
                notes.append(f"{name}: invalid: {why}")
            elif name not in results.samples.get(row, {}):
                continue
            cells = ["invalid"] + ["-"] * (len(columns) - 1)
            lines.append([name, results.kinds[name], *(cells if why else (f(results, row, name) for _, f in columns))])
        out.append(f"### {TITLES[row]}\n")
        out.append(_table(["server", "kind", *(title for title, _ in columns)], lines))
        out += ["", *(f"- {note}" for note in notes), *([""] if notes else [])]
    return "\n".join(out)


@dataclass
class Target:
    """One line of --check."""

    text: str
    row: str
    key: str
    value: Callable[[Results], float | None]
    limit: float
    strict: bool = False  # below, not at or below
    judged: bool = True  # False: printed, as it was asked for, and not judged by
    needs: tuple[str, ...] = ()

    def verdict(self, results: Results) -> tuple[str, str]:
        """PASS, FAIL or NOT MEASURED, and the line to print."""
        value = self.value(results)
        if value is None:
            absent = [f"{n}: {results.missing[n]}" for n in self.needs if n in results.missing]
            absent += [f"{n}: {w}" for n, w in results.absent.get(self.row, {}).items() if n in self.needs]
            absent += [f"{n}: {w}" for n, w in results.invalid.get(self.row, {}).items() if n in self.needs]
            return "NOT MEASURED", f"NOT MEASURED  {self.text} ({'; '.join(absent) or 'row or server not chosen'})"
        ok = value < self.limit if self.strict else value <= self.limit
        word = ("PASS" if ok else "FAIL") if self.judged else ("MET" if ok else "NOT MET")
        sign = "<" if self.strict else "<="
        return word, f"{word:<12}  {self.text}: {value:,.3f} {sign} {self.limit:,.3f}"


def _target(
    text: str, row: str, peer: str, limit: float, *, key: str = "cpu_us", strict: bool = False, judged: bool = True
) -> Target:
    value = lambda r: r.ratio(row, key, "licorne", peer)  # noqa: E731
    return Target(text, row, key, value, limit, strict, judged, needs=("licorne", peer))


def _floors(text: str, row: str, x_echo: float, x_python: float) -> Target:
    """At most x_echo times the echo or x_python times the python floor, whichever is more; README.md says why."""

    def value(r: Results) -> float | None:
        echo, python = (r.ratio(row, "cpu_us", "licorne", floor) for floor in ("echo", "pyfloor"))
        return None if echo is None or python is None else min(echo / x_echo, python / x_python)

    text = f"{text}, CPU per request of licorne / max({x_echo:g} x echo, {x_python:g} x python floor)"
    return Target(text, row, "cpu_us", value, 1.0, needs=("licorne", "echo", "pyfloor"))


TARGETS = [
    _floors("keep-alive", "keepalive", KEEPALIVE_ECHO, KEEPALIVE_PYTHON),
    _target("as first asked: keep-alive, licorne / echo", "keepalive", "echo", KEEPALIVE_ECHO, judged=False),
    _target("keep-alive, CPU per request of licorne / bjoern", "keepalive", "bjoern", 1.05),
    _target("keep-alive, CPU per request of licorne / fastpysgi", "keepalive", "fastpysgi", 1.0, strict=True),
    _floors("pipelined", "pipelined", PIPELINED_ECHO, PIPELINED_PYTHON),
    _target("as first asked: pipelined, licorne / echo", "pipelined", "echo", PIPELINED_ECHO, judged=False),
    _target("pipelined, CPU per request of licorne / fastpysgi", "pipelined", "fastpysgi", 1 / 3, strict=True),
    _target("native hello, CPU per request of licorne / echo", "return", "echo", 1.15),
    _target("static 1 KB, CPU per request of licorne / nginx", "static-1k", "nginx", 1.1),
    _target("static 64 KB, CPU per request of licorne / nginx", "static-64k", "nginx", 1.1),
    _target("static 10 MB, CPU per request of licorne / nginx", "static-10m", "nginx", 1.1),
    Target(
        "access log, CPU per request on / off",
        "log",
        "cpu_us",
        lambda r: r.ratio("log", "cpu_us", "licorne-log", "licorne"),
        1.1,
        needs=("licorne", "licorne-log"),
    ),
    Target(
        "idle connection, bytes of user memory of licorne",
        "idle",
        "bytes",
        lambda r: r.median("idle", "licorne", "bytes"),
        1024,
        needs=("licorne",),
    ),
    _target("slow mix, p99 of the others, licorne / granian", "slow", "granian", 1.0, key="p99_ms"),
    _target("slow mix, p99 of the others, licorne / gthread", "slow", "gthread", 1.0, key="p99_ms"),
    _target("HTTP/2 + TLS, 16 x 32, CPU per request of licorne / h2floor", "h2-32", "h2floor", 1.4),
    _target("HTTP/2 + TLS, 16 x 32, CPU per request of licorne / nghttpd", "h2-32", "nghttpd", 1.2),
    _target("HTTP/2 + TLS, 16 x 32, CPU per request of licorne / granian-default", "h2-32", "granian-default", 1 / 7),
    _target("beside it: the same / granian with one blocking thread", "h2-32", "granian", 1 / 7, judged=False),
    *(
        _target(
            f"TLS handshakes, {kind}, CPU each of licorne / nginx (1 / {HANDSHAKES_OF_NGINX:g})",
            f"handshake-{kind}",
            "nginx",
            1 / HANDSHAKES_OF_NGINX,
        )
        for kind in ("full", "resumed")
    ),
    _target(
        "idle HTTP/2 + TLS connection after SETTINGS, licorne / nginx", "idle-h2", "nginx", 1.2, key="settings_bytes"
    ),
    _target("idle HTTP/2 + TLS connection after a request, licorne / nginx", "idle-h2", "nginx", 1.2, key="bytes"),
]


def check(results: Results) -> tuple[list[str], bool]:
    """The verdict lines, and whether all pass."""
    verdicts = [(target.judged, *target.verdict(results)) for target in TARGETS]
    lines = [line for _, _, line in verdicts]
    for row, x_echo in (("keepalive", KEEPALIVE_ECHO), ("pipelined", PIPELINED_ECHO)):
        least = results.ratio(row, "cpu_us", "pyfloor", "echo")
        if least is not None:
            reach = "no WSGI server can meet" if least > x_echo else f"leaves {x_echo / least:.2f} x python floor for"
            lines.append(
                f"{row}: the python floor is {least:.2f} x echo here: this {reach} the first target of {x_echo:g}"
            )
    least = results.ratio("h2-32", "cpu_us", "granian", "h2floor")
    if least is not None:
        lines.append(f"h2-32: the floor itself is {least:.2f} x below granian with one blocking thread here")
    return lines, all(word == "PASS" for judged, word, _ in verdicts if judged)
