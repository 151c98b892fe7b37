# SPDX-License-Identifier: BSD-2-Clause
"""What wsgiref.validate watches: an application that does everything that PEP 3333 allows, one way per path.

A complaint is an AssertionError (500, and a traceback in the log), or printed, which ends in the log as well.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import WSGIWarning, validator

warnings.simplefilter("error", WSGIWarning)
TEXT = [("Content-Type", "text/plain")]
Start = Callable[..., Callable[[bytes], object]]


def generator(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    yield b""
    yield b"one "
    yield b"two"


def written(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", list(TEXT))
    write(b"one ")
    write(b"")
    write(b"two")
    return [b" three"]


def echo(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    source = environ["wsgi.input"]
    parts = [source.read(4), source.readline(), source.readline(3), *source.readlines(5)]
    parts += list(source)
    assert source.read(1) == b""
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].writelines([])
    environ["wsgi.errors"].flush()
    body = b"|".join(parts)
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def wrapped(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", str(os.path.getsize(__file__)))])
    body: Iterable[bytes] = environ["wsgi.file_wrapper"](open(__file__, "rb"), 100)
    return body


def replaced(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", list(TEXT))
    try:
        raise LookupError
    except LookupError:
        start_response("503 Service Unavailable", list(TEXT), sys.exc_info())
    return [b"replaced"]


def no_content(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def not_modified(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def url(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    from wsgiref.util import request_uri

    start_response("200 OK", list(TEXT))
    return [request_uri(environ).encode("latin-1")]


paths = {
    "/generator": generator,
    "/write": written,
    "/echo": echo,
    "/file": wrapped,
    "/replaced": replaced,
    "/204": no_content,
    "/304": not_modified,
}


def inner(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return paths.get(environ["PATH_INFO"], url)(environ, start_response)


strict: Any = validator
app = strict(inner)
