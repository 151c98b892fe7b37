# SPDX-License-Identifier: BSD-2-Clause
"""What an application sees of a request, as JSON: for test/conformance, under licorne and under other WSGI servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]


def seen(environ: Environ) -> dict[str, str]:
    body = environ["wsgi.input"].read()
    trailers: list[tuple[str, str]] = getattr(environ["wsgi.input"], "trailers", list)()
    facts = {
        "method": environ["REQUEST_METHOD"],
        "target": environ.get("RAW_URI", ""),
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "protocol": environ["SERVER_PROTOCOL"],
        "host": environ.get("HTTP_HOST", ""),
        "length": environ.get("CONTENT_LENGTH", ""),
        "body": body.decode("latin-1"),
        "trailers": " ".join(f"{name}={value}" for name, value in trailers),
    }
    return facts | {key[5:].lower(): value for key, value in environ.items() if key.startswith("HTTP_X_")}


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path in ("/204", "/304"):
        start_response("204 No Content" if path == "/204" else "304 Not Modified", [])
        return []
    if path == "/early":  # answers without a look at the body
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"x" * 100000] * 3)  # more than any server holds back to learn the length
    try:
        text = json.dumps(seen(environ)).encode()
    except OSError:  # the body did not come whole: nobody hears this
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
