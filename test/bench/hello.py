# SPDX-License-Identifier: BSD-2-Clause
"""The applications that every Python server of the benchmark runs.

``app`` is WSGI, ``asgi`` is its ASGI twin.  Both answer 13 bytes with a Content-Length (bjoern would answer in chunks
without one); ``/sleep`` waits 0.2 s first.  As a program (``hello.py SERVER PORT``) it starts the servers that have no
command line.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

BODY = b"Hello, World!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "13")]
ASGI_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
SLEEP = 0.2


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(SLEEP)
    start_response("200 OK", HEADERS)
    return [BODY]


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/sleep":
        await asyncio.sleep(SLEEP)
    await send({"type": "http.response.start", "status": 200, "headers": ASGI_HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def main() -> int:
    """Start a server that is a library."""
    name, port = sys.argv[1], int(sys.argv[2])
    server = importlib.import_module(name)
    if name == "bjoern":
        server.run(app, "127.0.0.1", port, listen_backlog=4096)
    elif name == "fastpysgi":
        server.server.backlog = 4096
        server.server.tcp_nodelay = 1
        server.run(app, "127.0.0.1", port, loglevel=3)
    else:
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
