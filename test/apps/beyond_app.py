# SPDX-License-Identifier: BSD-2-Clause
"""Early hints and response trailers, as the path asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

from probe import gate

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

HINT = [("Link", "</a.css>; rel=preload")]
SUM = [("X-Sum", "42"), ("X-More", " a b ")]


def said(call: Callable[[], object]) -> bytes:
    """What a call that must fail says."""
    try:
        call()
    except Exception as e:
        return f"{type(e).__name__}: {e}".encode()
    return b"nothing"


def pieces(environ: Environ) -> Iterator[bytes]:
    yield b"one "
    yield b"two"
    environ["licorne.send_trailers"](SUM)


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    hints, trailers = environ["wsgi.early_hints"], environ["licorne.send_trailers"]
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    length = [("Content-Length", query["length"][0])] if "length" in query else []
    if path == "/hints":
        hints(HINT)
        hints([("Link", "</b.js>; rel=preload"), ("X-Second", "yes")])
        gate(query.get("gate", [""])[0])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"body"]
    if path == "/late":
        write = start_response("200 OK", length)
        write(b"x")
        return [said(lambda: hints(HINT)) + b"\n" + said(lambda: trailers(SUM))]
    if path == "/wrong":
        start_response("200 OK", [("Content-Type", "text/plain")])
        calls: list[Callable[[], object]] = [
            lambda: hints([("Bad Name", "x")]),
            lambda: hints([("X", "a\nb")]),
            lambda: hints([("Content-Length", "3")]),
            lambda: hints(7),
            lambda: trailers([("Connection", "close")]),
            lambda: trailers([("X", 5)]),
        ]
        found = [said(call) for call in calls]
        thread = threading.Thread(target=lambda: found.append(said(lambda: hints(HINT))))
        thread.start()
        thread.join()
        return [b"\n".join(found)]
    if path == "/pieces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces(environ)
    trailers([("X-Sum", "replaced")])
    trailers(SUM)
    start_response("204 No Content" if path == "/204" else "200 OK", length)
    if path in ("/empty", "/204"):
        return []
    if path == "/none":
        trailers([])
        return [b"one two"]
    if path == "/file":
        return environ["wsgi.file_wrapper"](BytesIO(b"one two"))  # type: ignore[no-any-return]
    if path == "/many":
        return [b"one ", b"two"]
    return [b"one two"]
