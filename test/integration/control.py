# SPDX-License-Identifier: BSD-2-Clause
"""The control socket's client, and what licorne says of itself there."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from harness import PATIENCE


def connect(path: Path) -> socket.socket:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(str(path))
    return s


def answer(s: socket.socket) -> dict[str, Any]:
    """The one line that comes."""
    with s.makefile("rb") as f:
        line = f.readline()
    assert line.endswith(b"\n"), line
    got = json.loads(line)
    assert isinstance(got, dict)
    return got


def ask(path: Path, question: str = "status") -> dict[str, Any]:
    with connect(path) as s:
        s.sendall(question.encode() + b"\n")
        return answer(s)


def workers(status: dict[str, Any], generation: int = -1) -> list[dict[str, Any]]:
    """Of a generation, the one that serves if none is said."""
    number = status["generation"] if generation < 0 else generation
    return [w for g in status["generations"] if g["number"] == number for p in g["pools"] for w in p["workers"]]
