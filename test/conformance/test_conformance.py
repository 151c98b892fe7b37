# SPDX-License-Identifier: BSD-2-Clause
"""Every row of requests.toml against the real server: whole, byte by byte and cut at random, the same outcome."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from client import Client
from harness import PATIENCE, ROOT, Server
from judge import ask
from servers import configuration
from table import Row, checks, load
from wire import Cuts, at_random, bytewise, whole

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


def check(server: Server, row: Row, client: Client, cuts: Cuts) -> None:
    assert ask(server, row, client, cuts, PATIENCE) == []


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
    """Every check that a client can run into is the cause of rows, with the status and the sentence that it has there."""
    by_cause: dict[str, Row] = {}
    for row in ROWS:
        by_cause.setdefault(row.cause, row)
    for check in checks():
        row = by_cause[check.name]
        assert (row.log, row.refused) == ((check.text, check.status) if check.status else ("", 0)), check


def test_page_is_current() -> None:
    """docs/conformance.md has every row, as the table names it; else: test/conformance/compare."""
    page = (ROOT / "docs" / "conformance.md").read_text()
    named = [" ".join([*map(str, row.statuses), row.end]) for row in ROWS]
    shown = [line.split(" | ")[-3] for line in page.splitlines() if re.search(r" \| \d{4} [0-9A-Z.]+ \| ", line)]
    assert shown == named
    assert re.findall(r"^## (\S+)$", page, re.M) == list(dict.fromkeys(row.cause for row in ROWS))
