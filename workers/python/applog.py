# SPDX-License-Identifier: BSD-2-Clause
"""Directs what an application says into the server's error log: ``logging``, ``sys.stdout``, ``sys.stderr``, and
exceptions that nobody catches in threads.

Compiled into the Python worker modules.  An application that configures something itself always wins: records go to
the log through ``logging.lastResort``, which logging asks when there is no handler, and after the import through a
handler of the root logger if it has none by then.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

CRIT, ERROR, WARN, INFO, DEBUG = 2, 3, 4, 6, 7
LEVELS = ((logging.CRITICAL, CRIT), (logging.ERROR, ERROR), (logging.WARNING, WARN), (logging.INFO, INFO))


class Handler(logging.Handler):
    """A record is one record of the error log, its traceback included; the log adds time, level and process."""

    def __init__(self, log: Callable[[int, str], None], level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.log = log

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.name == "root" else f"{record.name}: {text}"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = next((ours for theirs, ours in LEVELS if record.levelno >= theirs), DEBUG)
            self.log(level, self.format(record).replace("\0", "?"))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As one record, and where the call is that cannot be formatted."""
        if logging.raiseExceptions:
            where = f"{record.pathname}:{record.lineno}: {record.msg!r} with {record.args!r}"
            self.log(ERROR, f"logging failed: {where}\n{traceback.format_exc()}".replace("\0", "?"))


class Buffer(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes for the log.  Its descriptor is the process's own, for child processes."""

    mode = "wb"

    def __init__(self, sink: Any, fd: int, name: str) -> None:
        self.sink, self.fd, self.name = sink, fd, name

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        written: int = self.sink._write_bytes(data)
        return written

    def flush(self) -> None:
        self.sink.flush()

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Nobody closes these: whoever wrapped one and let the wrapper go did not mean to."""
        self.flush()

    def detach(self) -> Any:
        return self


class Stream(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr``."""

    mode = "w"
    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = write_through = True

    def __init__(self, sink: Any, fd: int, name: str) -> None:
        self.sink, self.name = sink, name
        self.buffer = Buffer(sink, fd, name)

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        written: int = self.sink.write(text)
        return written

    def flush(self) -> None:
        self.sink.flush()

    def fileno(self) -> int:
        return self.buffer.fileno()

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        return self.buffer

    def reconfigure(self, **_: Any) -> None:
        """Encoding and buffering are the log's."""


_handler: Handler | None = None


def install(log: Callable[[int, str], None], stdout: Any, stderr: Any, capture: bool) -> None:
    """Before the application is imported."""
    global _handler
    _handler = Handler(log)
    logging.lastResort = Handler(log, logging.WARNING)
    if not capture:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)  # print() shows up when it is called
        return
    sys.stdout = Stream(stdout, 1, "<stdout>")
    sys.stderr = Stream(stderr, 2, "<stderr>")

    def thread_failed(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        name = args.thread.name if args.thread is not None else "?"
        text = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        log(ERROR, f"uncaught exception in thread {name}\n{text}".replace("\0", "?"))

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        text = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        log(ERROR, f"{args.err_msg or 'Exception ignored in'}: {args.object!r}\n{text}".replace("\0", "?"))

    # the interpreter's own would write piece by piece
    threading.excepthook = thread_failed
    sys.unraisablehook = unraisable


def imported() -> None:
    """After the application was imported."""
    root = logging.getLogger()
    if not root.handlers and _handler is not None:
        root.addHandler(_handler)
