# SPDX-License-Identifier: BSD-2-Clause
"""A real Flask application through real clients, curl and httpx, from a configuration file and by `licorne run`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import starter
from harness import APPS, VENV, Server, config, pool, quote

SIZE = 50 << 20
BLOCK = bytes(range(256)) * 256


@pytest.fixture(scope="module", params=["conf wsgi", "conf sync", "run"])
def flask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    how, _, worker = request.param.partition(" ")
    for start in starter(tmp_path_factory.mktemp("flask")):
        if how == "conf":
            yield start(config(pool(worker, app="flask_app:app", block=f"venv {quote(VENV)};")))
        else:
            env = {"VIRTUAL_ENV": str(VENV)}
            yield start(args=["run", "flask_app:app", "--bind", "127.0.0.1:0"], cwd=APPS, env=env)


@pytest.fixture
def client(flask: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=flask.url(""), timeout=120, follow_redirects=True) as c:
        yield c


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fifty"
    with path.open("wb") as f:
        for _ in range(SIZE // len(BLOCK)):
            f.write(BLOCK)
    return path


def curl(*args: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["curl", "-sS", "--fail-with-body", "--max-time", "150", *args], capture_output=True)
    assert done.returncode == 0, (args, done.stderr)
    return done


# ---- httpx


def test_page(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<li>&lt;one&gt;</li><li>two</li><li>três</li>" in page.text


def test_form_session_and_redirect(client: httpx.Client) -> None:
    assert "<form" in client.get("/form").text
    page = client.post("/form", data={"who": "Zoë & co"})
    assert page.text == "Hello, Zoë &amp; co!"
    assert [r.status_code for r in page.history] == [302]
    assert client.get("/greet").text == "Hello, Zoë &amp; co!"


def test_arguments(client: httpx.Client) -> None:
    got = client.get("/args", params=[("a", "1"), ("a", "zwei ü"), ("b", "x/y&z")]).json()
    assert got == {"a": ["1", "zwei ü"], "b": ["x/y&z"]}


def test_json(client: httpx.Client) -> None:
    value = {"list": [1, 2.5, None, True], "text": "ünïcode" * 1000}
    assert client.post("/json", json=value).json() == value


def test_errors(client: httpx.Client, flask: Server) -> None:
    assert client.get("/missing").status_code == 404
    assert client.get("/no/such/page").status_code == 404
    assert client.post("/").status_code == 405
    assert client.get("/fail").status_code == 500
    flask.allow(r"Exception on /fail")
    flask.wait_log("RuntimeError: a page that fails")


def test_streaming(client: httpx.Client) -> None:
    with client.stream("GET", "/stream") as page:
        assert list(page.iter_lines()) == [f"line {i}" for i in range(1000)]


def test_upload_streamed(client: httpx.Client, data: Path) -> None:
    """Without a length: chunked."""

    def pieces() -> Iterator[bytes]:
        for _ in range(SIZE // len(BLOCK)):
            yield BLOCK

    got = client.put("/raw", content=pieces()).json()
    assert (got["size"], got["sha256"]) == (SIZE, hashlib.sha256(data.read_bytes()).hexdigest())


def test_upload_form(client: httpx.Client, data: Path) -> None:
    with data.open("rb") as f:
        got = client.post("/upload", files={"file": ("fifty.bin", f)}, data={"note": "n"}).json()
    sha = hashlib.sha256(data.read_bytes()).hexdigest()
    assert got == {"name": "fifty.bin", "size": SIZE, "sha256": sha, "note": "n"}


def test_download(client: httpx.Client) -> None:
    sha, size = hashlib.sha256(), 0
    with client.stream("GET", f"/download/{SIZE}") as page:
        assert page.headers["content-length"] == str(SIZE)
        for piece in page.iter_bytes():
            sha.update(piece)
            size += len(piece)
    assert size == SIZE
    assert sha.hexdigest() == hashlib.sha256(BLOCK * (SIZE // len(BLOCK))).hexdigest()


def test_connection_is_kept(client: httpx.Client, flask: Server) -> None:
    for _ in range(20):
        assert client.get("/args").status_code == 200
    pool = client._transport._pool  # type: ignore[attr-defined]
    assert len(pool.connections) == 1


# ---- curl


def test_curl_page(flask: Server) -> None:
    out = curl("-i", flask.url("/")).stdout.decode()
    assert out.startswith("HTTP/1.1 200 OK\r\n")
    assert "<title>licorne</title>" in out


def test_curl_form(flask: Server, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")
    out = curl("-L", "-c", jar, "-b", jar, "-d", "who=curl", flask.url("/form")).stdout
    assert out == b"Hello, curl!"


def test_curl_upload(flask: Server, data: Path) -> None:
    got = json.loads(curl("-F", f"file=@{data}", "-F", "note=from curl", flask.url("/upload")).stdout)
    assert got["size"] == SIZE
    assert got["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert got["note"] == "from curl"


@pytest.mark.parametrize("header", ["Transfer-Encoding: chunked", "Expect: 100-continue", "Expect:"])
def test_curl_put(flask: Server, data: Path, header: str) -> None:
    got = json.loads(curl("-T", str(data), "-H", header, flask.url("/raw")).stdout)
    assert got["size"] == SIZE
    assert got["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()


def test_curl_download(flask: Server, tmp_path: Path, data: Path) -> None:
    target = tmp_path / "got"
    curl("-o", str(target), flask.url(f"/download/{SIZE}"))
    assert target.stat().st_size == SIZE
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data.read_bytes()).digest()


def test_curl_streaming_and_http10(flask: Server) -> None:
    want = "".join(f"line {i}\n" for i in range(1000)).encode()
    assert curl(flask.url("/stream")).stdout == want
    assert curl("--http1.0", flask.url("/stream")).stdout == want


def test_curl_head(flask: Server) -> None:
    out = curl("-I", flask.url("/")).stdout.decode()
    assert out.startswith("HTTP/1.1 200 OK\r\n")
    assert out.endswith("\r\n\r\n")
