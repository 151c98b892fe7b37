# SPDX-License-Identifier: BSD-2-Clause
"""Applications of micro_wsgi."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    headers = [("Content-Type", "text/html"), ("X-Query", environ["QUERY_STRING"])]
    headers.append(("Set-Cookie", environ["HTTP_COOKIE"] + "; Path=/"))
    start_response("200 OK", headers)
    yield b"<!doctype html>"
    yield b"<p>Hello, World!"
