# SPDX-License-Identifier: BSD-2-Clause
"""What ./quickstart serves: a page that shows what it runs on, and /images, one of 100 images.

Plain WSGI, nothing but the standard library; the pages load nothing from elsewhere.  Everything that comes from the
request is escaped.  The environment of the process is not shown, only the request's.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from html import escape
from itertools import count
from typing import Any

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>licorne</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark;
  --ink: #1d2433; --soft: #5b6478; --line: #d9deea; --paper: #fbfcff; --mark: #5a3fc0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf4; --soft: #9aa3b8; --line: #313a4e; --paper: #141926; --mark: #b3a1ff; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 2.2rem; color: var(--mark); }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.1rem; }
p { margin: .25rem 0 2rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .75rem; margin: 0; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; font: .85rem/1.45 ui-monospace, monospace; }
td, th { text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; font-weight: normal; }
th { width: 38%; color: var(--soft); }
a { color: var(--mark); }
.tiles { max-width: 34rem; display: grid; grid-template-columns: repeat(10, 1fr); gap: .25rem; }
.tiles img { display: block; width: 100%; height: auto; border-radius: .25rem; }
</style>
</head>
<body>
<main>
<h1>licorne</h1>
"""

PAGE = """<p>This page was made by a Python application that licorne runs. Reload it and watch the numbers change,
or look how <a href="/images">100 images</a> come.</p>
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

IMAGES = 100
# When all is there: how many images have come, by which protocol, as the browser tells it.
SCRIPT = """
addEventListener("load", () => {
  const images = performance.getEntriesByType("resource").filter(e => e.initiatorType === "img");
  const by = new Map();
  for (const e of images) by.set(e.nextHopProtocol, (by.get(e.nextHopProtocol) ?? 0) + 1);
  const loaded = [...document.images].filter(i => i.complete && i.naturalWidth).length;
  const took = Math.max(...images.map(e => e.responseEnd)) - Math.min(...images.map(e => e.startTime));
  const said = document.getElementById("result");
  said.dataset.loaded = loaded;
  said.dataset.protocols = [...by].map(([name, n]) => `${name}=${n}`).join(" ");
  said.textContent = `${loaded} images, ${[...by].map(([name, n]) => `${n} by ${name}`).join(", ")}: ${took.toFixed(0)} ms`;
});
"""
GALLERY = f"""<p id="result">The images are on their way.</p>
<div class="tiles">
{"".join(f'<img src="/images/{n}.svg" alt="{n}" width="40" height="40">' for n in range(IMAGES))}
</div>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
IMAGE = re.compile(r"/images/(0|[1-9][0-9]?)\.svg")
TILE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" height="40" fill="hsl({hue} 60% 45%)"/>
<text x="20" y="26" font-family="sans-serif" font-size="16" text-anchor="middle" fill="#fff">{n}</text></svg>
"""
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
GALLERY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    f"script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'"
)

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


def page(environ: dict[str, Any]) -> str:
    cards = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts(environ).items())
    rows = (
        f"<tr><th>{escape(key)}</th><td>{escape(value if isinstance(value, str) else repr(value))}</td></tr>"
        for key, value in sorted(environ.items())
    )
    return HEAD + PAGE.format(facts="\n".join(cards), rows="\n".join(rows))


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    status, media, policy = "200 OK", "text/html; charset=utf-8", PAGE_POLICY
    if path == "/":
        text = page(environ)
    elif path == "/images":
        text, policy = HEAD + GALLERY, GALLERY_POLICY
    elif image := IMAGE.fullmatch(path):
        n = int(image[1])
        text, media = TILE.format(n=n, hue=n * 360 // IMAGES), "image/svg+xml"
    else:
        status, media, text = "404 Not Found", "text/plain", "There are two pages here: / and /images\n"
    # environ holds latin-1 text (PEP 3333); what it was in the first place is not known here, so it is shown as it is
    body = text.encode("utf-8", "backslashreplace")
    headers = [
        ("Content-Type", media),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(status, headers)
    return [body]
