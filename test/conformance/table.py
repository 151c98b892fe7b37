# SPDX-License-Identifier: BSD-2-Clause
"""requests.toml as rows; what is wrong with the table itself is an error here, not a failed test."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

CHECKS = Path(__file__).resolve().parents[2] / "protocols" / "http1" / "checks.h"
FILE = Path(__file__).with_name("requests.toml")
MOST = 10  # rows that may share a cause
LEAST = 200  # rows altogether
SERVERS = ("default", "limits", "impatient", "fold", "echo")
KEYS = {"id", "send", "want", "rfc", "note", "sees", "fields", "eof", "after", "server", "log"}


@dataclass(frozen=True)
class Row:
    name: str
    cause: str
    rfc: str
    send: bytes
    statuses: tuple[int, ...]
    end: str  # "open" or "close"
    log: str
    note: str = ""
    server: str = "default"
    eof: bool = False
    after: bytes = b""
    sees: tuple[dict[str, str], ...] = ()
    fields: tuple[dict[str, str], ...] = field(default=())

    @property
    def refused(self) -> int:
        """The status of a refusal; 0: none."""
        return self.statuses[-1] if self.log else 0


def expand(text: str) -> bytes:
    """The bytes of a text: {x*9} is nine times x, from the inside out."""
    while True:
        more = re.sub(r"\{([^{}]*)\*(\d+)\}", lambda m: m[1] * int(m[2]), text)
        if more == text:
            return text.encode("latin-1")
        text = more


def make(cause: str, table: dict[str, object], row: dict[str, object]) -> Row:
    assert set(row) <= KEYS, f"{cause}: {set(row) - KEYS}"
    both = {**table, **row}
    *statuses, end = str(both["want"]).split()
    assert end in ("open", "close"), (cause, row)
    sees, fields = both.get("sees", []), both.get("fields", [])
    assert isinstance(sees, list) and isinstance(fields, list)
    made = Row(
        name=f"{cause}/{row['id']}",
        cause=cause,
        rfc=str(both["rfc"]),
        send=expand(str(row["send"])),
        statuses=tuple(map(int, statuses)),
        end=end,
        log=str(both.get("log", "")),
        note=str(both.get("note", "")),
        server=str(both.get("server", "default")),
        eof=bool(both.get("eof", False)),
        after=expand(str(both.get("after", ""))),
        sees=tuple(sees),
        fields=tuple(fields),
    )
    refusals = [s for s in made.statuses if s >= 400]
    assert refusals == ([made.refused] if made.log else []), f"{made.name}: a refusal is the last answer and has a log"
    assert made.server in SERVERS, made.name
    assert not made.refused or end == "close", f"{made.name}: a refusal closes"
    return made


def load() -> list[Row]:
    rows: list[Row] = []
    for cause, table in tomllib.loads(FILE.read_text()).items():
        inner = table.pop("rows")
        assert 0 < len(inner) <= MOST, f"{cause}: {len(inner)} rows"
        rows += [make(cause, table, row) for row in inner]
    assert len(rows) >= LEAST, len(rows)
    assert len({row.name for row in rows}) == len(rows), "a name comes twice"
    assert len({(row.send, row.server, row.eof) for row in rows}) == len(rows), "a request comes twice"
    return rows


@dataclass(frozen=True)
class Check:
    """A row of protocols/http1/checks.h."""

    name: str
    status: int  # 0: a rule that refuses nothing
    text: str


def checks() -> list[Check]:
    found = re.findall(r'^\tX\(\w+, "([a-z0-9-]+)", (\d+), "([^"]*)"\)', CHECKS.read_text(), re.M)
    assert len(found) > 40
    return [Check(name, int(status), text) for name, status, text in found]
