# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures: servers that end with the test, and one shared by a file's tests for each kind of worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import SANITIZED, Gate, Server, config, pool

Start = Callable[..., Server]
as_root = pytest.mark.root


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs root, to take on another user and group")
    config.addinivalue_line("markers", "normal: about the build without sanitizers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What has no meaning here is not collected: a skip would count as a failure."""
    out = [
        i
        for i in items
        if (os.getuid() != 0 and i.get_closest_marker("root")) or (SANITIZED and i.get_closest_marker("normal"))
    ]
    items[:] = [i for i in items if i not in out]
    config.hook.pytest_deselected(items=out)


def starter(folder: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def start(*args: object, **kw: object) -> Server:
        server = Server(folder / f"server{len(servers)}", *args, **kw)  # type: ignore[arg-type]
        servers.append(server)
        return server

    yield start
    try:
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(text, ...) -> Server; stopped by TERM, and checked, at the end of the test."""
    yield from starter(tmp_path)


@pytest.fixture(scope="module", params=["wsgi", "sync"])
def worker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def probe(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process of the probe application, shared by the tests of a file."""
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(config(pool(worker)))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")
