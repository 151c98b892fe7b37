# SPDX-License-Identifier: BSD-2-Clause
"""Is what a server did what a row wants?"""

from __future__ import annotations

import json
from typing import Any

from client import Client
from harness import Server, until
from table import Row
from wire import Cuts, Outcome, converse

MARK = "request refused with "


def refusals(server: Server) -> list[str]:
    return [line.partition(MARK)[2] for line in server.log.splitlines() if MARK in line]


def facts_of(body: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(body)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def refusal_faults(row: Row, out: Outcome) -> list[str]:
    """A refusal is a whole, small answer that ends the connection, and tells the client no more than its status."""
    last = out.answers[-1]
    body = b"" if row.send.startswith(b"HEAD ") else f"{last.reason}\n".encode()
    wanted = {"Connection": "close", "Content-Type": "text/plain", "Content-Length": str(len(last.reason) + 1)}
    faults = [f"{k}: {last.get(k)} in the refusal" for k, v in wanted.items() if last.get(k) != v]
    if last.body != body:
        faults.append(f"the refusal's body is {last.body!r}")
    if not last.get("Date"):
        faults.append("no Date in the refusal")
    return faults


def judge(row: Row, out: Outcome, log: list[str] | None) -> list[str]:
    """What is different, as sentences; ``log``: the refusals logged meanwhile, None: not looked at."""
    faults = []
    want = " ".join([*map(str, row.statuses), row.end])
    if out.text != want:
        faults.append(f"{out.text}, not {want}")
    for answer, sees in zip(out.answers, row.sees, strict=False):
        facts = facts_of(answer.body)
        faults += [
            f"the application saw {k} = {facts.get(k)!r}, not {v!r}" for k, v in sees.items() if facts.get(k) != v
        ]
    for answer, fields in zip(out.answers, row.fields, strict=False):
        faults += [f"{k}: {answer.get(k)} in an answer, not {v}" for k, v in fields.items() if answer.get(k) != v]
    if out.rest != row.after:
        faults.append(f"{out.rest!r} behind the last head, not {row.after!r}")
    if row.refused and out.text == want:
        faults += refusal_faults(row, out)
    lines = [f"{row.refused}: {row.log}"] if row.refused else []
    if log is not None and log != lines:
        faults.append(f"the log says {log}, not {lines}")
    return faults


def ask(server: Server, row: Row, client: Client, cuts: Cuts, patience: float) -> list[str]:
    """Send the row over this connection and judge."""
    before = len(refusals(server))
    with client as c:
        c.sock.settimeout(patience)
        out = converse(c, row, cuts, patience)
    if row.refused and out.text.endswith(f"{row.refused} close"):
        until(lambda: len(refusals(server)) > before, "a line in the log")
    return judge(row, out, refusals(server)[before:])
