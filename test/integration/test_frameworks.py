# SPDX-License-Identifier: BSD-2-Clause
"""Falcon, Bottle, and Pyramid through Paste Deploy: by `paste`, `licorne run --paste` and `pserve`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Start, starter
from harness import APPS, BINARY, ROOT, VENV, Server, config, environment, pool, quote, run, until

BLOCK = bytes(range(256)) * 256
INI = APPS / "pyramid_app.ini"


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "download.bin"
    path.write_bytes(BLOCK * 30)
    return path


def block(download: Path) -> str:
    return f"venv {quote(VENV)}; env DOWNLOAD {quote(download)};"


def curl(*args: str) -> bytes:
    done = subprocess.run(["curl", "-sS", "--fail-with-body", "--max-time", "150", *args], capture_output=True)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url(""), timeout=120, follow_redirects=True)


# ---- Falcon


@pytest.fixture(scope="module")
def falcon(worker: str, download: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for start in starter(tmp_path_factory.mktemp("falcon")):
        yield start(config(pool(worker, app="falcon_app:app", block=block(download))))


def test_falcon_media(falcon: Server) -> None:
    with client(falcon) as c:
        got = c.get("/items", params={"q": "süß & sauer"})
        assert got.json() == {"path": "/items", "query": "süß & sauer", "root": "", "host": "127.0.0.1"}
        assert c.get("/nothing").status_code == 404
        assert c.put("/items").status_code == 405


def test_falcon_bodies(falcon: Server) -> None:
    body = BLOCK * 100
    want = {"sha256": hashlib.sha256(body).hexdigest(), "length": len(body)}
    with client(falcon) as c:
        got = c.post("/items", content=body)
        assert got.status_code == 201
        assert got.json() == want
    assert json.loads(curl("-d", "a=1", falcon.url("/items")))["length"] == 3


def test_falcon_chunked_body(falcon: Server) -> None:
    """Without CONTENT_LENGTH Falcon's bounded_stream is empty: its documented behaviour, not an error of ours."""
    with client(falcon) as c:
        assert c.post("/items", content=iter([b"abc", b"def"])).json()["length"] == 0


def test_falcon_file_and_error(falcon: Server, download: Path) -> None:
    falcon.allow(r"falcon failed|GET /fail|\[FALCON\]")
    assert curl(falcon.url("/file")) == download.read_bytes()
    with client(falcon) as c:
        assert c.get("/fail").status_code == 500
    falcon.wait_log(r"LookupError: falcon failed")


# ---- Bottle


@pytest.fixture(scope="module")
def bottle(worker: str, download: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for start in starter(tmp_path_factory.mktemp("bottle")):
        yield start(config(pool(worker, app="bottle_app:app", block=block(download))))


def test_bottle_pages(bottle: Server) -> None:
    with client(bottle) as c:
        page = c.get("/hello/<Zoë>")
        assert page.text == "Hello, &lt;Zoë&gt;!"
        assert "seen" in c.cookies
        assert c.get("/count").text == "".join(f"{i}\n" for i in range(100))


def test_bottle_upload(bottle: Server, download: Path) -> None:
    got = json.loads(curl("-F", f"file=@{download}", "-F", "who=curl", bottle.url("/form")))
    assert got == {"who": "curl", "size": len(BLOCK) * 30, "name": "download.bin"}


def test_bottle_file_and_range(bottle: Server, download: Path) -> None:
    """The application answers Range; what it says goes out as it says it."""
    data = download.read_bytes()
    assert curl(bottle.url("/file")) == data
    with client(bottle) as c:
        part = c.get("/file", headers={"Range": "bytes=1000-70000"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes 1000-70000/{len(data)}"
        assert part.content == data[1000:70001]
        again = c.get("/file", headers={"If-None-Match": part.headers["etag"]})
        assert again.status_code == 304


def test_bottle_error(bottle: Server) -> None:
    bottle.allow(r"Traceback", r"bottle failed")
    with client(bottle) as c:
        assert c.get("/fail").status_code == 500
    bottle.wait_log(r"LookupError: bottle failed")


# ---- Pyramid through Paste Deploy


@pytest.fixture(scope="module", params=["wsgi", "sync", "run"])
def pyramid(
    request: pytest.FixtureRequest, download: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    for start in starter(tmp_path_factory.mktemp("pyramid")):
        if request.param == "run":
            env = {"VIRTUAL_ENV": str(VENV), "DOWNLOAD": str(download)}
            yield start(args=["run", "--paste", INI.name, "--bind", "127.0.0.1:0"], cwd=APPS, env=env)
        else:
            text = f"paste {quote(INI)}; {block(download)}"
            yield start(config(pool(request.param, app="", block=text)))


def test_pyramid_through_paste(pyramid: Server, download: Path) -> None:
    pyramid.allow(r"asked by")
    with client(pyramid) as c:
        got = c.get("/hello").json()
        assert got == {"greeting": f"hello from {APPS}", "path": "/hello", "method": "GET"}
        assert c.post("/echo", content=BLOCK).content == BLOCK
        assert c.get("/nothing").status_code == 404
        assert c.get("/file").content == download.read_bytes()
    assert curl(pyramid.url("/file")) == download.read_bytes()


def test_pyramid_logs_as_the_ini_says(pyramid: Server) -> None:
    """Its handler writes to sys.stderr: one record of two lines in the error log."""
    pyramid.allow(r"asked by")
    pyramid.get("/hello")
    pyramid.wait_log(r"\[warn\] .*from the ini WARNING pyramid_app asked by 127\.0\.0\.1\n    for /hello\n")


def test_pyramid_error(pyramid: Server) -> None:
    pyramid.allow(r"application error: GET /fail")
    with client(pyramid) as c:
        assert c.get("/fail").status_code == 500
    pyramid.wait_log(r"    LookupError: pyramid failed")


def test_paste_by_name(start: Start, download: Path) -> None:
    text = f"paste {quote(f'{INI}#other')}; {block(download)}"
    server = start(config(pool("wsgi", app="", block=text)))
    server.allow(r"asked by")
    assert json.loads(server.get("/hello"))["greeting"] == "the other one"


def test_paste_errors(tmp_path: Path) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool("wsgi", block=f"paste {quote(INI)};")))
    done = run("-t", "-c", conf)
    assert done.returncode == 1
    assert "there are both app and paste, exactly one was expected" in done.stdout + done.stderr
    conf.write_text(config(pool("wsgi", app="")))
    assert "there is neither app nor paste, exactly one was expected" in run("-t", "-c", conf).stderr
    conf.write_text(config(pool("wsgi", app="", block="paste nowhere.ini;")))
    assert "nowhere.ini does not exist, a Paste Deploy file was expected" in run("-t", "-c", conf).stderr
    # a name that is not in the file, and an environment without Paste Deploy
    env = {"VIRTUAL_ENV": str(VENV)}
    done = run("run", "--paste", "pyramid_app.ini#none", "-T", cwd=APPS, env=env)
    assert done.returncode == 3
    assert "No section 'none'" in done.stderr
    empty = tmp_path / "venv"
    subprocess.run([VENV / "bin" / "python", "-m", "venv", "--without-pip", empty], check=True)
    done = run("run", "--paste", "pyramid_app.ini", "-T", cwd=APPS, env={"VIRTUAL_ENV": str(empty)})
    assert done.returncode == 3
    assert f"needs the package PasteDeploy, which is not installed for {empty}" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_takes_one_application() -> None:
    done = run("run", "probe:app", "--paste", "pyramid_app.ini", "-T", cwd=APPS)
    assert done.returncode == 2
    assert "expected one application" in done.stderr
    done = run("run", "--paste", "", "-T", cwd=APPS)
    assert done.returncode == 2
    assert "names no file" in done.stderr


# ---- egg:licorne


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package `licorne`, installed by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    command: list[str | Path] = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    command += ["--no-index", "--disable-pip-version-check", "--target", folder, ROOT / "workers" / "python"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def pserve_env(package: Path, **more: str) -> dict[str, str]:
    return {
        **environment(),
        "PYTHONPATH": f"{package}:{APPS}",
        "LICORNE": str(BINARY),
        "PYTHONMALLOC": "default",
        **more,
    }


def test_pserve_becomes_licorne(package: Path, download: Path) -> None:
    """`pserve FILE` execs: the process that was started is the arbiter."""
    before = [str(VENV / "bin" / "pserve"), "-q", str(INI), "-n", "main"]
    env = pserve_env(package, DOWNLOAD=str(download))
    log, out = download.parent / "pserve.err", download.parent / "pserve.out"
    with log.open("wb") as err, out.open("wb") as std:
        process = subprocess.Popen(
            before, cwd=APPS, env=env, stdin=subprocess.DEVNULL, stdout=std, stderr=err, start_new_session=True
        )
    try:
        found = until(lambda: re.search(r"listening on (\S+)", log.read_text()), "pserve to listen")
        assert found
        assert os.readlink(f"/proc/{process.pid}/exe") == str(BINARY)
        command = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        assert f"{INI}#main" in command
        until(lambda: "ready" in log.read_text(), "a worker")
        with httpx.Client(base_url=f"http://{found[1]}", timeout=60) as c:
            assert c.get("/hello").json()["greeting"] == f"hello from {APPS}"
            assert c.get("/file").content == download.read_bytes()
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


def test_server_section_is_checked(package: Path) -> None:
    command: list[str | Path] = [VENV / "bin" / "pserve", "-q", INI, "--server-name", "wrong"]
    done = subprocess.run(command, cwd=APPS, env=pserve_env(package), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "egg:licorne has no setting thread; it has host, port, bind, workers, threads" in done.stderr


def section(package: Path, expression: str, **env: str) -> str:
    """Evaluate an expression with the package's module at hand."""
    code = f"import licorne.paste as p\ntry: print({expression})\nexcept p.SetupError as e: print('error:', e)"
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", code], env=pserve_env(package, **env), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_server_section_becomes_a_command(package: Path) -> None:
    def command(settings: str) -> str:
        return section(package, f"' '.join(p.command({settings}, '/a.ini'))")

    assert command("{}") == "run --paste /a.ini#main --bind 127.0.0.1:8080"
    assert command("dict(host='::', port='80', app='x')") == "run --paste /a.ini#x --bind [::]:80"
    assert command("dict(host='unix:/s')") == "run --paste /a.ini#main --bind unix:/s"
    assert command("dict(bind='1 unix:/s', access_log='off', workers='auto')") == (
        "run --paste /a.ini#main --bind 1 --bind unix:/s --workers auto --access-log off"
    )
    assert "not both" in command("dict(bind='1', host='x')")


def test_the_binary_is_found(package: Path, tmp_path: Path) -> None:
    find = "p.find_binary()"
    assert section(package, find) == str(BINARY)
    assert (
        section(package, find, LICORNE="/nowhere")
        == "error: LICORNE is '/nowhere', which is no program that can be run"
    )
    (tmp_path / "licorne").symlink_to(BINARY)
    assert section(package, find, LICORNE="", PATH=str(tmp_path)) == str(tmp_path / "licorne")
    assert "there is no program licorne in PATH" in section(package, find, LICORNE="", PATH="/nowhere")
