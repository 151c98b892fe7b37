# SPDX-License-Identifier: BSD-2-Clause
"""What an application says that configured nothing: logging, print(), standard error, threads, all in the error log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import Start, starter
from harness import Server, config, pool


@pytest.fixture(scope="module")
def talker(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for start in starter(tmp_path_factory.mktemp(worker)):
        server = start(config(pool(worker, app="talker:app")))
        server.allow(r"talker|of the root logger|to stderr|uncaught exception in thread busy")
        yield server


def record(server: Server, level: str, text: str) -> None:
    """A whole record, attributed to the worker."""
    server.wait_log(rf"Z \[{level}\] \d+ web/0: {text}\n(?! )")


def test_on_import(talker: Server) -> None:
    record(talker, "warn", "talker.import: said on import")
    record(talker, "notice", "printed on import")


def test_logging(talker: Server) -> None:
    talker.get("/?log")
    record(talker, "warn", "talker: a warning of\n    two lines")
    record(talker, "error", "of the root logger")
    assert "too quiet" not in talker.log


def test_exception_is_one_record(talker: Server) -> None:
    talker.get("/?exception")
    record(
        talker,
        "error",
        r"talker: it went wrong\n    Traceback \(most recent call last\):\n(?:    .*\n)+    LookupError: not found",
    )


def test_print(talker: Server) -> None:
    """Control characters cannot forge a line or drive a terminal."""
    talker.get("/?print")
    record(talker, "notice", r"printed in parts, one line\\x1b\[31m")
    record(talker, "warn", "to stderr\n    in two lines")


def test_unfinished_line_goes_out_with_the_request(talker: Server) -> None:
    talker.get("/?unfinished")
    record(talker, "notice", "unfinished")


def test_thread(talker: Server) -> None:
    talker.get("/?thread")
    record(
        talker,
        "error",
        r"uncaught exception in thread busy\n    Traceback .*\n(?:    .*\n)+    KeyError: 'no such key'",
    )


def test_descriptors_and_buffer(talker: Server) -> None:
    """sys.stderr.fileno() is what a child process may write to, sys.stdout.buffer takes bytes."""
    talker.get("/?child")
    talker.wait_log(r"(?m)^of a child$")
    talker.get("/?descriptors")
    record(talker, "notice", "bytes é")


def test_capture_output_off(start: Start, worker: str) -> None:
    server = start(config(pool(worker, app="talker:app", block="capture_output off;")))
    server.allow(r"talker|of the root logger")
    server.get("/?print")
    assert "printed in parts, one line" in server.stdout.read_text()
    assert re.search(r"(?m)^in two lines$", server.log)
    server.get("/?log")
    record(server, "warn", "talker: a warning of\n    two lines")


def test_at_exit(start: Start, worker: str) -> None:
    server = start(config(pool(worker, app="talker:app")))
    server.allow(r"talker")
    server.stop()
    record(server, "notice", "printed at exit\n    in two lines")
