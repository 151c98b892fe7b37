# SPDX-License-Identifier: BSD-2-Clause
"""An application that hangs and crashes on request; what its functions are called is looked for in the log."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

lock = threading.Lock()
lock.acquire()


def spin_for_ever() -> None:
    while True:
        pass


def swallow_everything() -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def wait_for_the_lock() -> None:
    lock.acquire()


def keep_the_gil() -> None:
    libc = ctypes.PyDLL(None)  # keeps it during the call
    while True:
        libc.sleep(1000)


def crash_in_c() -> None:
    ctypes.string_at(0)


def sleep_quietly() -> None:
    time.sleep(1000)


def wait_for_a_fifo() -> None:
    Path(os.environ["GATE"]).read_bytes()


def read_the_body(environ: dict[str, Any]) -> bytes:
    body: bytes = environ["wsgi.input"].read()
    return body


WAYS: dict[str, Callable[[], None]] = {
    "/spin": spin_for_ever,
    "/swallow": swallow_everything,
    "/lock": wait_for_the_lock,
    "/gil": keep_the_gil,
    "/crash": crash_in_c,
    "/sleep": sleep_quietly,
    "/gate": wait_for_a_fifo,
}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path in WAYS:
        WAYS[path]()
    body = read_the_body(environ) if path == "/body" else b""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":

        def parts() -> Iterable[bytes]:
            yield b"begun"
            spin_for_ever()

        return parts()
    return [str(os.getpid()).encode(), b" ", str(len(body)).encode()]
