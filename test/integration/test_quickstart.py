# SPDX-License-Identifier: BSD-2-Clause
"""What ./quickstart serves, with the clients that people have: a browser, curl, nghttp, h2load and httpx.

The script is run as a user runs it, only that it builds in the tree under test.
"""

from __future__ import annotations

import fcntl
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import starter
from harness import BUILD, PATIENCE, ROOT, Server, until

CERTIFICATE = BUILD / "quickstart" / "certificate.pem"
CHROMIUM = [
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    "--ignore-certificate-errors",  # it is of the script's own making
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Listens on a plain address, and on one with TLS; started by the script, which becomes the server."""
    run = ("sh", "-c", "exec ./quickstart")
    env = {"PORT": "0", "BUILD": str(BUILD)}
    for make in starter(tmp_path_factory.mktemp("quickstart")):
        with (BUILD / "quickstart.lock").open("w") as lock:  # it writes its configuration into the tree: one at a time
            fcntl.flock(lock, fcntl.LOCK_EX)
            server = make(before=run, env=env, cwd=ROOT, listeners=2, ready=2)
        yield server


def secure(demo: Server, path: str) -> str:
    return f"https://127.0.0.1:{demo.addresses[1].rpartition(':')[2]}{path}"


def tool(*args: str | Path) -> str:
    done = subprocess.run(args, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_browser_loads_100_images(demo: Server, tmp_path: Path) -> None:
    """All by HTTP/2, as the browser says (PerformanceResourceTiming) and as the access log has it."""
    page = tool(*CHROMIUM, f"--user-data-dir={tmp_path}", "--dump-dom", secure(demo, "/images"))
    assert re.search(
        r'<p id="result" data-loaded="100" data-protocols="h2=100">100 images, 100 by h2: \d+ ms</p>', page
    )

    def images() -> list[str]:
        return re.findall(r'"GET /images/(\d+)\.svg HTTP/2" 200 .*HeadlessChrome', demo.stdout.read_text())

    until(lambda: len(images()) >= 100, "100 lines in the access log")
    assert sorted(images(), key=int) == [str(n) for n in range(100)]
    assert re.search(r'"GET /images HTTP/2" 200 ', demo.stdout.read_text())


def test_screenshot(demo: Server, tmp_path: Path) -> None:
    """docs/screenshot makes docs/images.png: a PNG of some size, of a page that is not blank."""
    shot = tmp_path / "shot.png"
    tool(ROOT / "docs" / "screenshot", secure(demo, "/images"), shot)
    kept = ROOT / "docs" / "images.png"
    for file in (shot, kept):
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert 10_000 < len(data) < 200_000
    assert shot.read_bytes()[16:24] == kept.read_bytes()[16:24], "docs/images.png is of another size: make it anew"


def test_the_clients_that_people_have(demo: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curl = ("curl", "-sS", "-o", out, "-w", "%{http_version} %{http_code} %{scheme}")
    assert tool(*curl, "--cacert", CERTIFICATE, secure(demo, "/")).lower() == "2 200 https"
    assert "<dd>HTTP/2</dd>" in out.read_text()
    assert tool(*curl, "--http2-prior-knowledge", demo.url("/")).lower() == "2 200 http"
    assert "<dd>HTTP/2</dd>" in out.read_text()
    assert tool(*curl, demo.url("/")).lower() == "1.1 200 http"
    assert "<dd>HTTP/1.1</dd>" in out.read_text()

    for url in (secure(demo, "/images"), demo.url("/images")):
        said = tool("nghttp", "-nsa", url)  # with what the page names
        assert len(re.findall(r" 200 +\S+ /images", said)) == 101, said
    for url in (secure(demo, "/images/7.svg"), demo.url("/images/7.svg")):
        said = tool("h2load", "-n", "2000", "-c", "8", "-m", "32", url)
        assert "2000 succeeded, 0 failed, 0 errored" in said
        assert "2000 2xx" in said

    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    with httpx.Client(http2=True, verify=context) as c:
        pages = [c.get(secure(demo, f"/images/{n}.svg")) for n in range(100)]
    assert [p.status_code for p in pages] == [200] * 100
    assert {p.http_version for p in pages} == {"HTTP/2"}
    with httpx.Client(http1=False, http2=True) as c:
        assert c.get(demo.url("/")).http_version == "HTTP/2"
