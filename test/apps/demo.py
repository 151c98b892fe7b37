# SPDX-License-Identifier: BSD-2-Clause
"""What ./quickstart serves: one page that shows what it runs on.

Plain WSGI, nothing but the standard library; the page loads nothing from elsewhere.  Everything that comes from the
request is escaped.  The environment of the process is not shown, only the request's.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable
from html import escape
from itertools import count
from typing import Any

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>licorne</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark;
  --ink: #1d2433; --soft: #5b6478; --line: #d9deea; --paper: #fbfcff; --mark: #5a3fc0; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8ebf4; --soft: #9aa3b8; --line: #313a4e; --paper: #141926; --mark: #b3a1ff; }}
}}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
h1 {{ margin: 0; font-size: 2.2rem; color: var(--mark); }}
h2 {{ margin: 2.5rem 0 .75rem; font-size: 1.1rem; }}
p {{ margin: .25rem 0 2rem; color: var(--soft); }}
dl {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .75rem; margin: 0; }}
dl div {{ border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }}
dt {{ color: var(--soft); font-size: .8rem; }}
dd {{ margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }}
table {{ width: 100%; border-collapse: collapse; table-layout: fixed; font: .85rem/1.45 ui-monospace, monospace; }}
td, th {{ text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; font-weight: normal; }}
th {{ width: 38%; color: var(--soft); }}
</style>
</head>
<body>
<main>
<h1>licorne</h1>
<p>This page was made by a Python application that licorne runs. Reload it and watch the numbers change.</p>
<dl>
{facts}
</dl>
<h2>The request as the application sees it</h2>
<table>
{rows}
</table>
</main>
</body>
</html>
"""

requests = count(1)
started = time.monotonic()


def worker_name(environ: dict[str, Any]) -> str:
    """How this process runs requests, told from the facts that PEP 3333 gives."""
    threads = "threads" if environ["wsgi.multithread"] else "no threads"
    processes = "one of several processes" if environ["wsgi.multiprocess"] else "the only process"
    return f"{os.environ.get('DEMO_WORKER', 'wsgi')}: {threads}, {processes}"


def facts(environ: dict[str, Any]) -> dict[str, str]:
    return {
        "Protocol": environ["SERVER_PROTOCOL"],
        "Server": environ.get("SERVER_SOFTWARE", "unknown"),
        "Worker": worker_name(environ),
        "Process": str(os.getpid()),
        "Thread": f"{threading.get_native_id()} ({threading.current_thread().name})",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Prefix": sys.prefix,
        "Machine": f"{platform.system()} {platform.machine()}",
        "Requests to this process": str(next(requests)),
        "Up for": f"{time.monotonic() - started:.1f} s",
    }


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/":
        body = b"There is one page here: /\n"
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    cards = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts(environ).items())
    rows = (
        f"<tr><th>{escape(key)}</th><td>{escape(value if isinstance(value, str) else repr(value))}</td></tr>"
        for key, value in sorted(environ.items())
    )
    # environ holds latin-1 text (PEP 3333); what it was in the first place is not known here, so it is shown as it is
    body = PAGE.format(facts="\n".join(cards), rows="\n".join(rows)).encode("utf-8", "backslashreplace")
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response("200 OK", headers)
    return [body]
