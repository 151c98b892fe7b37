# SPDX-License-Identifier: BSD-2-Clause
"""`licorne run MODULE:APP`: what somebody meets in the first hour."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Start
from harness import APPS, BINARY, PATIENCE, VENV, Server, environment, run, until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
        return port


def launch(start: Start, *args: str, app: str = "probe:app", **kw: object) -> Server:
    return start(args=["run", app, *args], cwd=APPS, **kw)


def dump(*args: str, app: str = "probe:app", env: dict[str, str] | None = None) -> str:
    """The configuration that it writes."""
    done = run("run", app, *args, "-T", env=env, cwd=APPS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*args: str, app: str = "probe:app", env: dict[str, str] | None = None, cwd: Path = APPS) -> str:
    done = run("run", app, "--bind", "127.0.0.1:0", *args, env=env, cwd=cwd)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT), done.stdout
    assert "Traceback" not in done.stderr
    print(done.stderr)
    return done.stderr


# ---- it works


def test_serves(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0")
    assert server.get("/") == "Hello, world!\n"
    facts = json.loads(server.get("/process"))
    assert facts["cwd"] == str(APPS)
    said = server.log + server.stdout.read_text()
    assert f"http://{server.addresses[0]}" in said, "the URL is printed"


def test_access_log_is_on_the_terminal(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0")
    server.get("/environ?a=b")
    until(lambda: "GET /environ?a=b" in server.stdout.read_text() + server.log, "an access log line")


def test_access_log_format(start: Start) -> None:
    """A built-in one, gunicorn's atoms as they stand in its settings, or nothing that is a format."""
    assert re.search(r'access_log "-" json;', dump("--access-log-format", "json"))
    atoms = '%(h)s %(l)s "%(r)s" %(s)s'
    server = launch(start, "--bind", "127.0.0.1:0", "--access-logformat", atoms)
    server.get("/environ?a=b")
    until(lambda: '127.0.0.1 - "GET /environ?a=b HTTP/1.1" 200\n' in server.stdout.read_text(), "an access log line")
    done = run("run", "probe:app", "--access-log-format", "jsno", cwd=APPS)
    assert done.returncode == 2
    assert '--access-log-format: "jsno" is neither combined, common nor json' in done.stderr
    done = run("run", "probe:app", "--access-log-format", "$statu", cwd=APPS)
    assert done.returncode == 1
    assert 'did you mean "$status"?' in done.stderr


def test_current_directory_is_importable(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import helper\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [helper.WORD]\n"
    )
    (tmp_path / "helper.py").write_text("WORD = b'from the current directory'\n")
    server = start(args=["run", "mine:app", "--bind", "127.0.0.1:0"], cwd=tmp_path)
    assert server.get("/") == "from the current directory"


def test_default_address() -> None:
    assert re.search(r"listen\s+127\.0\.0\.1:8000\b", dump())


def test_port_from_the_environment(start: Start) -> None:
    port = free_port()
    server = launch(start, env={"PORT": str(port)})
    assert server.addresses[0].endswith(f":{port}")
    assert server.get("/") == "Hello, world!\n"


def test_bind_wins_over_port(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0", env={"PORT": str(free_port())})
    assert len(server.addresses) == 1


@pytest.mark.parametrize("port", ["", "abc", "70000", "-1", "80 80"])
def test_bad_port(port: str) -> None:
    done = run("run", "probe:app", env={"PORT": port}, cwd=APPS)
    assert done.returncode != 0
    assert "PORT" in done.stderr


def test_several_binds(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    server = launch(start, "--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", f"unix:{path}", listeners=3)
    for i in range(3):
        assert server.get("/", i) == "Hello, world!\n"


def test_workers_and_threads(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0", "--workers", "3", "--threads", "2", ready=3)
    assert len(server.workers()) == 3
    assert re.search(r"threads\s+2\b", dump("--threads", "2"))
    assert re.search(r"processes\s+auto\b", dump("--workers", "auto"))


def test_web_concurrency() -> None:
    assert re.search(r"processes\s+3\b", dump(env={"WEB_CONCURRENCY": "3"}))
    assert re.search(r"processes\s+2\b", dump("--workers", "2", env={"WEB_CONCURRENCY": "3"}))
    done = run("run", "probe:app", env={"WEB_CONCURRENCY": "many"}, cwd=APPS)
    assert done.returncode != 0
    assert "WEB_CONCURRENCY" in done.stderr


def test_dump_is_a_configuration(start: Start, tmp_path: Path) -> None:
    """What -T shows can be put into a file and served from there."""
    text = dump("--bind", "127.0.0.1:0")
    server = start(text, cwd=APPS)
    assert server.get("/") == "Hello, world!\n"


def test_factory(start: Start) -> None:
    assert launch(start, "--bind", "127.0.0.1:0", app="probe:create()").get("/made") == "created"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly(start: Start, number: int) -> None:
    """Ctrl-C goes to the whole group, as from a terminal."""
    server = launch(start, "--bind", "127.0.0.1:0", "--workers", "2", ready=2)
    assert server.get("/") == "Hello, world!\n"
    server.workers()
    os.killpg(server.pid, number)
    server.wait(0)
    assert "KeyboardInterrupt" not in server.log
    assert "Traceback" not in server.log


def test_address_in_use(start: Start) -> None:
    first = launch(start, "--bind", "127.0.0.1:0")
    done = run("run", "probe:app", "--bind", first.addresses[0], cwd=APPS)
    assert done.returncode == 1
    assert first.addresses[0] in done.stderr
    assert str(first.pid) in done.stderr


# ---- virtual environments


def test_virtual_env_is_honoured(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0", env={"VIRTUAL_ENV": str(VENV)})
    facts = json.loads(server.get("/process"))
    assert facts["prefix"] == str(VENV)


def fake_venv(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    return folder


def test_virtual_env_of_another_version(tmp_path: Path) -> None:
    """Refused with the line that builds licorne for it."""
    venv = fake_venv(tmp_path / "venv", "3.7.1")
    text = refused(env={"VIRTUAL_ENV": str(venv)})
    assert str(venv) in text
    assert "3.7" in text
    assert "meson" in text


def test_virtual_env_that_is_none(tmp_path: Path) -> None:
    text = refused(env={"VIRTUAL_ENV": str(tmp_path / "nothing")})
    assert str(tmp_path / "nothing") in text


# ---- what it refuses, each with a sentence


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--reload-include", "*.html"], "expected --reload beside it"),
        (["--reload", "--reload-include", "templates/*"], "without a folder"),
        (["--certfile", "a.pem"], "a.pem"),
        (["--keyfile", "a.pem"], "--keyfile"),
        (["--nonsense"], "--nonsense"),
        (["--workers", "0"], "0"),
        (["--workers", "many"], "many"),
        (["--threads", "none"], "none"),
        (["--bind"], "--bind"),
        (["--bind", "nonsense::1::2"], "nonsense"),
    ],
)
def test_options_that_are_refused(args: list[str], word: str) -> None:
    assert word in refused(*args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--reload-dir", "."], "there is no option --reload-dir, expected: --reload: every folder"),
        (["--host", "::1"], "there is no option --host, expected: --bind HOST:PORT"),
        (["--port=80"], "there is no option --port=80, expected: --bind HOST:PORT"),
        (["--worker-class", "gthread"], "there is no option --worker-class, expected: --worker NAME"),
        (["--bind", "127.0.0.1:80:90"], '--bind 127.0.0.1:80:90: there is more than one ":", expected HOST:PORT, '),
        (["--bind", "::1:80"], "--bind ::1:80: an IPv6 address stands without brackets, expected [IPV6]:PORT"),
    ],
)
def test_options_of_other_servers(args: list[str], said: str) -> None:
    assert said in refused(*args)


def test_forwarded_allow_ips() -> None:
    """From the command line, else the environment, else this machine; empty is nobody."""

    def line(*args: str, env: dict[str, str] | None = None) -> str:
        return "".join(found[1] for found in re.finditer(r"set_real_ip_from (.*);", dump(*args, env=env)))

    assert line() == "127.0.0.1 ::1 unix:"
    assert (
        line(env={"FORWARDED_ALLOW_IPS": "10.0.0.0/8, 2001:db8::/32,192.0.2.1"}) == "10.0.0.0/8 2001:db8::/32 192.0.2.1"
    )
    assert line("--forwarded-allow-ips", "*", env={"FORWARDED_ALLOW_IPS": "10.0.0.0/8"}) == "*"
    assert line(env={"FORWARDED_ALLOW_IPS": ""}) == ""
    assert 'FORWARDED_ALLOW_IPS: "proxy" is no address' in refused(env={"FORWARDED_ALLOW_IPS": "proxy"})
    assert '--forwarded-allow-ips: "10.0.0.1/8" has bits' in refused("--forwarded-allow-ips", "::1,10.0.0.1/8")


def test_a_proxy_on_this_machine_is_believed(start: Start) -> None:
    server = launch(start, "--bind", "127.0.0.1:0")
    with server.client() as c:
        says = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        facts = json.loads(c.request("/environ", headers=says).body)["environ"]
        assert facts["REMOTE_ADDR"] == "192.0.2.7"
        assert facts["wsgi.url_scheme"] == "https"
    until(lambda: "192.0.2.7 - - [" in server.stdout.read_text(), "the access log")


def test_no_application_named() -> None:
    done = run("run", cwd=APPS)
    assert done.returncode == 2
    assert "MODULE:APP" in done.stderr


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("async def app(scope, receive, send): pass\n", "ASGI"),
        ("class App:\n    async def __call__(self, scope, receive, send): pass\napp = App()\n", "ASGI"),
        (
            "class app:\n    def __init__(self, scope): pass\n    async def __call__(self, receive, send): pass\n",
            "ASGI",
        ),
    ],
)
def test_asgi_is_refused(tmp_path: Path, code: str, word: str) -> None:
    (tmp_path / "asgi_app.py").write_text(code)
    text = refused(app="asgi_app:app", cwd=tmp_path)
    assert word in text
    done = run("run", "asgi_app:app", cwd=tmp_path)
    assert done.returncode == 3, "as whatever cannot be served"


@pytest.mark.parametrize(
    ("app", "word"),
    [
        ("no_such_module:app", "no_such_module"),
        ("probe:nothing", "nothing"),
        ("probe", "MODULE:APP"),
        ("probe:TEXT", "callable"),
        ("../apps/probe.py", "probe"),
    ],
)
def test_application_that_is_not_there(app: str, word: str) -> None:
    done = run("run", app, "--bind", "127.0.0.1:0", cwd=APPS)
    assert done.returncode != 0
    assert word in done.stderr, done.stderr


def test_import_error_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nimport no_such_dependency\n")
    done = run("run", "broken:app", "--bind", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 3
    assert "No module named 'no_such_dependency'" in done.stderr
    assert "importing broken:app failed" in done.stderr
    assert re.search(r'broken\.py", line 2', done.stderr)


def test_import_error_is_not_blamed_on_the_name(tmp_path: Path) -> None:
    """`run mysite.wsgi` in a site whose environment is not active says so."""
    package = tmp_path / "mysite"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "wsgi.py").write_text("import no_such_dependency\n")
    done = run("run", "mysite.wsgi", cwd=tmp_path)
    assert done.returncode == 3
    assert "names no part" not in done.stderr
    assert "is no_such_dependency installed in" in done.stderr
    fake_venv(tmp_path / ".venv", "3.7.1")
    done = run("run", "mysite.wsgi", cwd=tmp_path)
    assert f"{tmp_path}/.venv is not active, try `. .venv/bin/activate`" in done.stderr


def test_terminal_session(tmp_path: Path) -> None:
    """As typed at a shell: output without a terminal, input closed, ended by Ctrl-C."""
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$0" "$@" 2>&1', BINARY, "run", "probe:app"],
        cwd=APPS,
        env=environment({"PORT": str(free_port())}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if "http://127.0.0.1:" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, seen + rest
