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
    "slow": "slow mix: 400 requests per second (Poisson, open loop), 2 % of them sleep 200 ms; latency of the others",
    "idle": "memory: user memory of idle keep-alive connections after one request each",
}
LOAD_ROWS = ("keepalive", "pipelined", "browser", "browser-pipelined")


@dataclass
class Results:
    """All that was measured."""

    order: list[str]  # servers
    kinds: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)  # row, server, round
    invalid: dict[str, dict[str, str]] = field(default_factory=dict)  # row, server: the reason

    def add(self, row: str, server: str, round_: int, sample: Sample) -> None:
        """Note one sample."""
        rounds = self.samples.setdefault(row, {}).setdefault(server, [])
        rounds += [None] * (round_ + 1 - len(rounds))
        rounds[round_] = sample

    def spoil(self, row: str, server: str, why: str) -> None:
        """One bad round makes the row of this server invalid."""
        self.invalid.setdefault(row, {}).setdefault(server, why)

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
    ("licorne is", _x("cpu_us", "licorne", None)),
    ("req/s", _m("rps", 0)),
    ("p99 ms", _m("p99_ms", 2)),
    ("core %", _m("core_percent", 0)),
    ("PSS MB", lambda r, _row, name: _num(r.median("memory", name, "pss_mb"), 1)),
]
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


def render(results: Results, rows: Sequence[str]) -> str:
    """The tables, one for each row of the benchmark, as Markdown."""
    out = []
    for row in rows:
        columns = LOAD_COLUMNS if row in LOAD_ROWS else SLOW_COLUMNS if row == "slow" else IDLE_COLUMNS
        lines = []
        notes = []
        for name in results.order:
            if name in results.missing:
                notes.append(f"{name}: missing: {results.missing[name]}")
                continue
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
    needs: tuple[str, ...] = ()

    def verdict(self, results: Results) -> tuple[str, str]:
        """PASS, FAIL or NOT MEASURED, and the line to print."""
        value = self.value(results)
        if value is None:
            absent = [f"{n}: {results.missing[n]}" for n in self.needs if n in results.missing]
            absent += [f"{n}: {w}" for n, w in results.invalid.get(self.row, {}).items() if n in self.needs]
            return "NOT MEASURED", f"NOT MEASURED  {self.text} ({'; '.join(absent) or 'row or server not chosen'})"
        ok = value < self.limit if self.strict else value <= self.limit
        word = "PASS" if ok else "FAIL"
        sign = "<" if self.strict else "<="
        return word, f"{word:<12}  {self.text}: {value:,.3f} {sign} {self.limit:,.3f}"


def _target(text: str, row: str, key: str, peer: str, limit: float, strict: bool = False) -> Target:
    return Target(text, row, key, lambda r: r.ratio(row, key, "licorne", peer), limit, strict, needs=("licorne", peer))


TARGETS = [
    _target("keep-alive, CPU per request of licorne / echo", "keepalive", "cpu_us", "echo", 1.20),
    _target("keep-alive, CPU per request of licorne / bjoern", "keepalive", "cpu_us", "bjoern", 1.05),
    _target("keep-alive, CPU per request of licorne / fastpysgi", "keepalive", "cpu_us", "fastpysgi", 1.0, strict=True),
    _target("pipelined, CPU per request of licorne / echo", "pipelined", "cpu_us", "echo", 2.5),
    _target(
        "pipelined, CPU per request of licorne / fastpysgi", "pipelined", "cpu_us", "fastpysgi", 1 / 3, strict=True
    ),
    Target(
        "idle connection, bytes of user memory of licorne",
        "idle",
        "bytes",
        lambda r: r.median("idle", "licorne", "bytes"),
        1024,
        needs=("licorne",),
    ),
    _target("slow mix, p99 of the others, licorne / granian", "slow", "p99_ms", "granian", 1.0),
    _target("slow mix, p99 of the others, licorne / gthread", "slow", "p99_ms", "gthread", 1.0),
]


def check(results: Results) -> tuple[list[str], bool]:
    """The verdict lines, and whether all pass."""
    verdicts = [target.verdict(results) for target in TARGETS]
    return [line for _, line in verdicts], all(word == "PASS" for word, _ in verdicts)
