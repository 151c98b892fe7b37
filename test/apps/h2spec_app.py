# SPDX-License-Identifier: BSD-2-Clause
"""What h2spec expects of the application behind a server: it reads the body, takes a moment, answers with a body."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The moment keeps streams open, so that the limit of concurrent streams can be reached at all."""
    environ["wsgi.input"].read()
    time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, h2spec! " * 4]
