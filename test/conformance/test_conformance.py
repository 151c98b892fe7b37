# SPDX-License-Identifier: BSD-2-Clause
"""Every row of requests.toml against the real server: whole, byte by byte and cut at random, the same outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import Client
from harness import PATIENCE, Server, until
from servers import configuration
from table import Row, load
from wire import Cuts, Outcome, at_random, bytewise, converse, whole

ROWS = load()
TCP, UNIX = 0, 1
ON_TIME = {"impatient"}  # servers whose rows wait for a timer: once is enough

Servers = Callable[[str, str], Server]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One process for each configuration and worker that is asked for."""
    running: dict[tuple[str, str], Server] = {}

    def get(server: str, worker: str) -> Server:
        if (server, worker) not in running:
            folder = tmp_path_factory.mktemp(server)
            text = configuration(server, folder / "socket", worker)
            running[server, worker] = Server(folder / "server", text, listeners=2)
        return running[server, worker]

    yield get
    try:
        for server in running.values():
            server.stop()
    finally:
        for server in running.values():
            if server.process.poll() is None:
                server.kill()


def check_refusal(row: Row, out: Outcome) -> None:
    """A refusal is a whole, small answer that ends the connection, and tells the client no more than its status."""
    last = out.answers[-1]
    assert last.get("Connection") == "close"
    assert last.get("Content-Type") == "text/plain"
    if row.send.startswith(b"HEAD "):
        assert not last.body
    else:
        assert last.body == f"{last.reason}\n".encode()
    assert last.get("Date")


def refusals(server: Server) -> list[str]:
    mark = "request refused with "
    return [line.partition(mark)[2] for line in server.log.splitlines() if mark in line]


def check(server: Server, row: Row, client: Client, cuts: Cuts) -> None:
    before = len(refusals(server))
    with client as c:
        out = converse(c, row, cuts, PATIENCE)
    assert out.text == " ".join([*map(str, row.statuses), row.end])
    for answer, sees in zip(out.answers, row.sees, strict=False):
        if sees:
            facts = json.loads(answer.body)
            assert {key: facts.get(key) for key in sees} == sees
    for answer, fields in zip(out.answers, row.fields, strict=False):
        assert {name: answer.get(name) for name in fields} == fields
    assert out.rest == row.after
    if row.refused:
        check_refusal(row, out)
        until(lambda: len(refusals(server)) > before, "a line in the log")
    assert refusals(server)[before:] == ([f"{row.refused}: {row.log}"] if row.refused else [])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(servers: Servers, row: Row) -> None:
    server = servers(row.server, "wsgi")
    check(server, row, server.client(TCP), whole)
    if row.server in ON_TIME or not row.send:
        return
    check(server, row, server.client(UNIX), bytewise)
    for seed in range(3):
        check(server, row, server.client(UNIX), at_random(seed))


@pytest.mark.parametrize("row", [r for r in ROWS if r.server not in ON_TIME], ids=lambda row: row.name)
def test_row_of_sync_worker(servers: Servers, row: Row) -> None:
    """Another kind of worker sees the same."""
    server = servers(row.server, "sync")
    check(server, row, server.client(TCP), whole)


def test_table_covers_the_checks() -> None:
    """Every check of the module that a client can run into is the cause of a row."""
    source = Path(__file__).resolve().parents[2] / "protocols" / "http1" / "checks.h"
    names = {line.split('"')[1] for line in source.read_text().splitlines() if line.strip().startswith("X(")}
    assert names
    assert names <= {row.cause for row in ROWS}
