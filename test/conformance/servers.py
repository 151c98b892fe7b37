# SPDX-License-Identifier: BSD-2-Clause
"""The configurations that rows ask for by name."""

from __future__ import annotations

from pathlib import Path

from harness import BUILD, pool, quote

INSIDE = {
    "default": "",
    "limits": "limit_request_body 10;",
    "impatient": "head_timeout 400ms; body_timeout 400ms;",
    "fold": "permit_obsolete_folding on;",
    "echo": "",
}
ECHO = BUILD / "test" / "modules" / "echo.so"


def configuration(server: str, socket: Path, worker: str = "wsgi", http1: Path | None = None) -> str:
    """On a TCP port and a UNIX socket; ``http1``: a build of the module to be loaded in place of the installed one."""
    loads = [f"load_module {quote(http1)};" if http1 else "load_module http1;", f"load_module {worker};"]
    if server == "echo":
        loads.append(f"load_module {quote(ECHO)};")
    web = pool(worker, "conformance:app", listen=["127.0.0.1:0", f"unix:{socket}"], threads=2, inside=INSIDE[server])
    return "\n".join([*loads, "error_log stderr info;", web]) + "\n"
