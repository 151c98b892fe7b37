# SPDX-License-Identifier: BSD-2-Clause
"""A server with one check of the http1 module turned off, and which rows of the check's name notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import BUILD, Server
from judge import ask
from servers import configuration
from table import Row, load
from wire import whole

HTTP1 = BUILD / "test" / "conformance" / "http1.so"
PATIENCE = 1.5  # for a row that nobody answers any more: that is red


@dataclass
class Verdict:
    check: str
    rows: int
    red: dict[str, str]  # name of the row: what was different


def run(check: str, rows: list[Row], folder: Path, first: bool = False) -> Verdict:
    """The rows, or those up to the first red one, against servers with the check off ("none": all are on)."""
    verdict = Verdict(check, len(rows), {})
    for kind in sorted({row.server for row in rows}):
        where = folder / f"{check}-{kind}"
        where.mkdir(parents=True)
        text = configuration(kind, where / "socket", http1=HTTP1)
        server = Server(where / "server", text, listeners=2, env={"LICORNE_CHECK_OFF": check})
        try:
            for row in rows:
                if first and verdict.red:
                    return verdict
                if row.server == kind and (faults := ask(server, row, server.client(), whole, PATIENCE)):
                    verdict.red[row.name] = "; ".join(faults)
        finally:
            server.kill()
    return verdict


def rows_of(check: str) -> list[Row]:
    return [row for row in load() if row.cause == check]
