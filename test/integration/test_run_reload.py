# SPDX-License-Identifier: BSD-2-Clause
"""`licorne run --reload`: an edit is served, a broken one is not, and nothing else reloads."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from harness import BINARY, PATIENCE, Server, alive, children, descendants, environment, run, until

RELOADS = re.compile(r"reload: generation \d+ serves")
CHANGED = re.compile(r"reload: (.*) changed")


def module(word: str, imports: str = "") -> str:
    """An application that answers with the word."""
    return (
        f"{imports}\ndef app(environ, start_response):\n"
        f"    start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [{word!r}.encode()]\n"
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "views.py").write_text(module("one"))
    return folder


def serve(start: Start, site: Path, *args: str, app: str = "shop.views:app", **more: Any) -> Server:
    server: Server = start(args=["run", app, "--bind", "127.0.0.1:0", "--reload", *args], cwd=site, **more)
    return server


def replace(path: Path, text: str) -> None:
    """As editors do it: a new file is given the old one's name."""
    new = path.with_name(path.name + ".tmp")
    new.write_text(text)
    new.rename(path)


def reloads(server: Server) -> int:
    return len(RELOADS.findall(server.log))


def quiet(server: Server, path: Path, text: str) -> None:
    """None of the edits before this one, of a file that counts, had an effect: the watcher tells them in their order."""
    before = len(CHANGED.findall(server.log))
    path.write_text(text)
    server.wait_log(CHANGED, before + 1)
    server.wait_log(RELOADS, before + 1)
    assert CHANGED.findall(server.log)[before:] == [str(path.relative_to(path.parents[1]))]


# ---- what reloads


@pytest.mark.parametrize("edit", [Path.write_text, replace])
def test_an_edit_is_served(start: Start, site: Path, edit: Any) -> None:
    """Without a connection that is refused or lost, and with the file's name in the log."""
    server = serve(start, site)
    with server.client() as kept:
        assert kept.request("/").text == "one"
        edit(site / "shop" / "views.py", module("two"))
        server.wait_log(RELOADS)
        assert kept.request("/").text == "one", "a connection from before is answered by who accepted it"
    until(lambda: server.get("/") == "two", "the new answer")
    assert CHANGED.findall(server.log) == ["shop/views.py"]


def test_edits_within_a_second_and_of_the_same_size(start: Start, site: Path) -> None:
    """A cached bytecode file would be taken for the source."""
    views = site / "shop" / "views.py"
    server = serve(start, site)
    stamp = views.stat().st_mtime_ns
    for number, word in enumerate(("two", "six", "ten", "new"), 1):
        temporary = views.with_suffix(".tmp")
        temporary.write_text(module(word))
        os.utime(temporary, ns=(stamp, stamp))
        temporary.rename(views)
        server.wait_log(RELOADS, number)
        until(lambda word=word: server.get("/") == word, f"the answer {word}")  # type: ignore[misc]
    assert not list(site.rglob("*.pyc"))


def test_new_package(start: Start, site: Path) -> None:
    """A folder that appears is watched, what was put into it at once as well."""
    server = serve(start, site)
    (site / "shop" / "cart").mkdir()
    (site / "shop" / "cart" / "__init__.py").write_text("WORD = 'cart'\n")
    server.wait_log(RELOADS)
    (site / "shop" / "views.py").write_text(
        module("", "from shop.cart import WORD\n").replace("''.encode()", "WORD.encode()")
    )
    until(lambda: server.get("/") == "cart", "the new package")
    (site / "shop" / "cart" / "__init__.py").write_text("WORD = 'full'\n")
    until(lambda: server.get("/") == "full", "an edit in it")
    assert "shop/cart/__init__.py" in CHANGED.findall(server.log)


def test_pythonpath_and_what_lies_elsewhere(start: Start, site: Path, tmp_path: Path) -> None:
    """Folders of PYTHONPATH, and a package behind a link."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tool.py").write_text("WORD = 'a'\n")
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "far" / "away" / "__init__.py").write_text("WORD = 'b'\n")
    (site / "away").symlink_to(tmp_path / "far" / "away")
    (site / "shop" / "views.py").write_text(
        module("", "import tool\nimport away").replace("''.encode()", "(tool.WORD + away.WORD).encode()")
    )
    server = serve(start, site, env={"PYTHONPATH": str(tmp_path / "lib")})
    assert server.get("/") == "ab"
    (tmp_path / "lib" / "tool.py").write_text("WORD = 'c'\n")
    until(lambda: server.get("/") == "cb", "the edit below PYTHONPATH")
    (tmp_path / "far" / "away" / "__init__.py").write_text("WORD = 'd'\n")
    until(lambda: server.get("/") == "cd", "the edit behind the link")
    assert CHANGED.findall(server.log) == [f"{tmp_path}/lib/tool.py", f"{tmp_path}/far/away/__init__.py"]


def test_other_files(start: Start, site: Path) -> None:
    server = serve(start, site, "--reload-include", "*.html", "--reload-include", "*.toml")
    (site / "shop" / "page.html").write_text("<p>")
    server.wait_log(RELOADS)
    assert CHANGED.findall(server.log) == ["shop/page.html"]


def test_paste(start: Start, site: Path) -> None:
    """The file that describes the application is watched, too."""
    (site / "paste").mkdir()
    (site / "paste" / "deploy.py").write_text(
        "def loadapp(uri, name=None):\n    from shop.views import app\n    return app\n"
    )
    (site / "a.ini").write_text("[app:main]\n")
    server: Server = start(args=["run", "--paste", "a.ini", "--bind", "127.0.0.1:0", "--reload"], cwd=site)
    (site / "a.ini").write_text("[app:main]\n# edited\n")
    server.wait_log(RELOADS)
    assert CHANGED.findall(server.log) == ["a.ini"]


def test_a_burst_is_one_reload_or_two(start: Start, site: Path) -> None:
    server = serve(start, site)
    for i in range(200):
        (site / "shop" / f"m{i % 50}.py").write_text(f"x = {i}\n")
    (site / "shop" / "views.py").write_text(module("last"))
    until(lambda: server.get("/") == "last", "the last edit")
    (site / "shop" / "views.py").write_text(module("end"))
    until(lambda: server.get("/") == "end", "an edit after all of them")
    assert len(CHANGED.findall(server.log)) <= 3, "one or two, and one for the end"
    assert re.search(r"reload: shop/m0\.py, shop/m1\.py, shop/m2\.py and \d+ more changed", server.log)


# ---- what does not


def test_what_is_left_out(start: Start, site: Path) -> None:
    """Hidden folders, environments, caches, other files, and files that are only read."""
    for folder in (".git", "venv/lib", "node_modules/x", "shop/__pycache__"):
        (site / folder).mkdir(parents=True)
    (site / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    server = serve(start, site)
    for name in (".git/a.py", "venv/lib/a.py", "node_modules/x/a.py", "shop/__pycache__/a.py", "shop/notes.txt"):
        (site / name).write_text("x = 1\n")
    (site / "shop" / "views.py").read_text()
    quiet(server, site / "shop" / "views.py", module("two"))
    assert reloads(server) == 1


# ---- what fails


def test_a_syntax_error_and_its_repair(start: Start, site: Path) -> None:
    server = serve(start, site)
    (site / "shop" / "views.py").write_text("def app(:\n")
    server.allow("could not start", "reload failed")
    server.wait_log(r"reload failed .* SyntaxError.*; generation 1 serves on")
    assert 'views.py", line 1' in server.log
    assert server.get("/") == "one"
    (site / "shop" / "views.py").write_text(module("two"))
    until(lambda: server.get("/") == "two", "the repair")


def first_failing(site: Path, text: str) -> subprocess.Popen[str]:
    (site / "shop" / "views.py").write_text(text)
    return subprocess.Popen(
        ["sh", "-c", 'exec "$0" "$@" 2>&1', BINARY, "run", "shop.views:app", "--bind", "127.0.0.1:0", "--reload"],
        cwd=site,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout
        process.stdout.close()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"{word!r} did not come:\n{seen}")


@pytest.mark.parametrize(
    "broken",
    [
        "import no_such_dependency\n",
        "app = 3\n",
        # what the helper can import and a worker cannot
        "import os\nassert 'LICORNE_SLOT' not in os.environ\n" + module("one"),
    ],
)
def test_a_first_start_that_fails_waits(site: Path, broken: str) -> None:
    """And tries again, as often as it takes, as the same process."""
    process = first_failing(site, broken)
    with ended(process):
        read_until(process, "waiting for a change")
        (site / "shop" / "views.py").write_text("app = 4\n")
        read_until(process, "shop/views.py changed: trying again")
        read_until(process, "waiting for a change")
        replace(site / "shop" / "views.py", module("one"))
        read_until(process, "Press Ctrl-C")
        everyone = descendants(process.pid)
        assert len(children(process.pid)) == 2
        os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, rest
        until(lambda: not [p for p in everyone if alive(p)], "the end of every process")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_end_while_waiting(site: Path, number: int) -> None:
    process = first_failing(site, "app = 3\n")
    with ended(process):
        read_until(process, "waiting for a change")
        assert not children(process.pid)
        os.killpg(process.pid, number)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


@pytest.mark.parametrize("app", ["shop/views.py", "shop.views:app("])
def test_no_wait_for_what_no_edit_repairs(site: Path, app: str) -> None:
    done = run("run", app, "--reload", "--bind", "127.0.0.1:0", cwd=site)
    assert done.returncode == 3
    assert "waiting" not in done.stderr


def test_dump_does_not_wait(site: Path) -> None:
    done = run("run", "shop.views:app", "--reload", "-T", cwd=site)
    assert done.returncode == 0, done.stderr
    assert "env PYTHONDONTWRITEBYTECODE 1;" in done.stdout
    (site / "shop" / "views.py").write_text("app = 3\n")
    assert run("run", "shop.views:app", "--reload", "-T", cwd=site).returncode == 3


# ---- the processes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything(start: Start, site: Path, number: int) -> None:
    server = serve(start, site, "--workers", "2", ready=2)
    assert len(server.workers()) == 3, "two workers and the watcher"
    os.killpg(server.pid, number)
    server.wait(0)


def test_the_watcher_goes_with_the_arbiter(start: Start, site: Path) -> None:
    server = serve(start, site)
    everyone = server.workers()
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    until(lambda: not [p for p in everyone if alive(p)], "the end of every process")
    server.status = -signal.SIGKILL


def titles(server: Server) -> dict[str, int]:
    found = {}
    for pid in server.workers():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()] = pid
    return found


def test_the_death_of_the_watcher_is_told(start: Start, site: Path) -> None:
    """Signals that reach everyone do not end it; what does, harms nobody."""
    server = serve(start, site)
    watcher = titles(server)["licorne: watcher"]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        os.kill(watcher, number)
    quiet(server, site / "shop" / "views.py", module("two"))
    server.allow("the watcher was killed by SIGKILL: changes are not noticed any more")
    os.kill(watcher, signal.SIGKILL)
    server.wait_log("changes are not noticed any more")
    server.seen.add(watcher)
    (site / "shop" / "views.py").write_text(module("six"))
    server.send_signal(signal.SIGHUP)
    server.wait_log(RELOADS, 2)
    until(lambda: server.get("/") == "six", "the edit")
    server.family -= 1
    for _ in range(2):  # its channel and its pidfd, whatever their numbers are by now
        server.fds.popitem()
