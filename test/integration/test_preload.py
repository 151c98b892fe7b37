# SPDX-License-Identifier: BSD-2-Clause
"""`preload on`: one process has the application, the workers are forks of it; and everything else is as ever."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import re
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from conftest import Start, as_root
from harness import ROOT, SANITIZED, Server, alive, children, config, descriptors, pool, quote, run, until
from load import Load
from pki import Authority
from test_privileges import as_other, process
from test_reload import h2_context, reload, reload_wholly, rewrite
from test_tls import use
from traffic import Traffic

APP = """
import json, os, probe
with open(os.path.join(os.path.dirname(__file__), "imports"), "a") as f:
    f.write(f"{os.getpid()} {os.environ.get('LICORNE_SLOT')}\\n")
VERSION = "one"
hooks = []
os.register_at_fork(
    before=lambda: hooks.append("before"),
    after_in_child=lambda: hooks.append(f"child of {os.getppid()} has slot {os.environ['LICORNE_SLOT']}"),
)
BALLAST = [str(k).encode() for k in range(SIZE)]
def app(environ, start_response):
    if environ["PATH_INFO"] != "/facts":
        return probe.app(environ, start_response)
    facts = {"version": VERSION, "pid": os.getpid(), "parent": os.getppid(), "slot": os.environ["LICORNE_SLOT"],
             "hooks": hooks, "getenv": os.popen("echo $LICORNE_SLOT").read().strip(),
             "multiprocess": environ["wsgi.multiprocess"]}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]
"""

# two texts of equal length within a second have the same compiled file
BLOCK = f"pythonpath {quote(ROOT / 'test' / 'apps')}; env PYTHONDONTWRITEBYTECODE 1;"


class Site:
    """An application in a folder, which writes down who imports it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "mine.py"
        self.write()

    def write(self, before: str = "", version: str = "one", size: int = 0) -> None:
        self.file.write_text(before + APP.replace("SIZE", str(size)).replace('"one"', f'"{version}"'))

    def imports(self) -> list[str]:
        file = self.folder / "imports"
        return file.read_text().splitlines() if file.exists() else []

    def pool(self, worker: str, processes: int = 2, inside: str = "preload on;") -> str:
        return pool(worker, "mine:app", processes=processes, inside=inside, block=BLOCK, chdir=self.folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


def title(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    return ""


def workers(server: Server) -> list[int]:
    return [p for p in server.workers() if title(p).startswith("licorne: worker")]


def zygotes(server: Server) -> list[int]:
    return [p for p in server.workers() if title(p).startswith("licorne: zygote")]


def zygote(server: Server) -> int:
    (pid,) = zygotes(server)
    return pid


def is_ready(server: Server, pid: int) -> bool:
    return f"(pid {pid}) is ready" in server.log


def ready(server: Server, count: int) -> list[int]:
    """That many workers, all of which serve."""

    def look() -> list[int]:
        pids = workers(server)
        return pids if len(pids) == count and all(is_ready(server, p) for p in pids) else []

    return until(look, f"{count} workers that are ready")


def facts(server: Server) -> dict[str, object]:
    found = json.loads(server.get("/facts"))
    assert isinstance(found, dict)
    return found


def test_imported_once(start: Start, worker: str, site: Site) -> None:
    server = start(config(site.pool(worker, 3)), ready=3)
    pids, z = ready(server, 3), zygote(server)
    assert site.imports() == [f"{z} None"], "by the zygote, which has no slot"
    assert sorted(map(title, pids)) == [f"licorne: worker web/{k}" for k in range(3)]
    assert title(z) == "licorne: zygote web"
    assert set(pids) | {z} == set(children(server.pid))
    seen = facts(server)
    assert seen["parent"] == server.pid
    assert seen["multiprocess"] is True
    # a worker is replaced without an import
    server.allow("SIGKILL")
    victim = random.choice(pids)
    was = title(victim)
    before = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: not alive(victim), "its death")
    pids = ready(server, 3)
    print(f"\nreplaced and ready after {(time.monotonic() - before) * 1000:.1f} ms")
    assert was in map(title, pids)
    assert len(site.imports()) == 1
    assert all(alive(p) for p in children(server.pid)), "no zombie is left"


def test_hooks_and_slots(start: Start, worker: str, site: Site) -> None:
    """os.register_at_fork works, and LICORNE_SLOT is there before the application's hooks run."""
    server = start(config(site.pool(worker, 1)))
    seen = facts(server)
    hooks = seen["hooks"]
    assert isinstance(hooks, list)
    assert seen["slot"] == seen["getenv"] == "0"
    assert seen["multiprocess"] is False
    assert hooks[0] == "before"
    assert hooks[-1] == f"child of {server.pid} has slot 0"


DUMPS = """
import faulthandler, pathlib, signal
faulthandler.register(signal.SIGUSR1, file=(pathlib.Path(__file__).parent / "stacks").open("w"))
"""


def test_signal_handlers_of_the_application(start: Start, worker: str, site: Site) -> None:
    """What it has set while it was imported holds in a worker, as without preload."""
    stacks = site.folder / "stacks"
    site.write(before=DUMPS)
    for inside in ("", "preload on;"):
        server = start(config(site.pool(worker, 1, inside)))
        server.allow("exited with status 0")
        (pid,) = ready(server, 1)
        stacks.write_text("")
        os.kill(pid, signal.SIGUSR1)
        until(lambda: "most recent call first" in stacks.read_text(), "stacks")
        os.kill(pid, signal.SIGTERM)  # ours still makes it finish
        until(partial(gone, pid), "its end")
        ready(server, 1)


def test_zygote_killed(start: Start, worker: str, site: Site) -> None:
    """Its workers serve on, another one is started, and has the next worker."""
    server = start(config(site.pool(worker)), ready=2)
    server.allow("SIGKILL")
    pids, z = ready(server, 2), zygote(server)
    with Load(server, clients=3) as load:
        os.kill(z, signal.SIGKILL)
        new = until(lambda: [p for p in zygotes(server) if p != z], "another zygote")
        server.wait_log("has loaded the application", 2)
        load.go_on()
    assert not load.lost, load.details
    assert workers(server) == pids
    assert [line.split()[0] for line in site.imports()] == [str(z), str(new[0])]
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: not alive(pids[0]), "its death")
    ready(server, 2)
    assert len(site.imports()) == 2


def test_zygote_that_hangs(start: Start, site: Site) -> None:
    """Nobody minds, until it is asked for a worker; then it is replaced and the worker comes from the new one."""
    server = start(config(site.pool("wsgi"), main="heartbeat_timeout 1s;"), ready=2)
    server.allow("SIGKILL")
    pids, z = ready(server, 2), zygote(server)
    os.kill(z, signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    server.wait_log(r"zygote web \(pid \d+\) has not forked a worker within heartbeat_timeout, 1\.0 s")
    new = ready(server, 2)
    assert pids[1] in new
    assert len(site.imports()) == 2
    assert facts(server)["version"] == "one"


def test_reload_under_load(start: Start, worker: str, site: Site, tmp_path: Path) -> None:
    """Each one has a zygote and the code of its own; no request is lost."""
    ca = Authority(tmp_path)
    listen = ["127.0.0.1:0", f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}"]
    text = pool(
        worker,
        "mine:app",
        listen=listen,
        processes=2,
        inside="protocols http2 http1; preload on;",
        block=BLOCK,
        chdir=site.folder,
    )
    server = start(config(text, main="load_module http2; load_module tls;"), listeners=2, ready=2)
    with Traffic(server, h2_context(ca)) as traffic:
        for turn in range(2 if SANITIZED else 5):
            old = zygote(server)
            site.write(version=f"version {turn}")
            reload_wholly(server, turn + 2)
            traffic.go_on()
            assert facts(server)["version"] == f"version {turn}"
            assert zygote(server) != old
            assert len(workers(server)) == 2
            assert len(site.imports()) == turn + 2
    assert not traffic.failures, traffic.failures


BROKEN = "import no_such_module\n"
THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
MISTAKES = [
    (BROKEN, "No module named 'no_such_module'"),
    (THREAD, "there are 2 threads after the application was loaded"),
]


@pytest.mark.parametrize(("code", "why"), MISTAKES)
def test_first_start_fails(worker: str, site: Site, tmp_path: Path, code: str, why: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(site.pool(worker)))
    site.write(before=code)
    done = run("-c", conf)
    assert done.returncode == 3, done.stderr
    assert re.search(r"zygote web \(pid \d+\) could not start:", done.stderr)
    assert why in done.stderr
    assert ("Traceback (most recent call last)" in done.stderr) == (code == BROKEN)


@pytest.mark.parametrize(("code", "why"), MISTAKES)
def test_reload_fails(start: Start, worker: str, site: Site, code: str, why: str) -> None:
    server = start(config(site.pool(worker)), ready=2)
    server.allow(".")
    pids, z = ready(server, 2), zygote(server)
    site.write(before=code, version="two")
    server.send_signal(signal.SIGHUP)
    server.wait_log(rf"reload failed after [\d.]+ s: zygote web could not start: .*{why}.*; generation 1 serves on")
    server.wait_log("generation 2 is gone")
    assert (workers(server), zygote(server)) == (pids, z)
    assert facts(server)["version"] == "one"
    site.write(version="three")
    reload(server, 3)
    server.wait_log("generation 1 is gone")
    assert facts(server)["version"] == "three"


def test_import_that_takes_too_long(start: Start, site: Site) -> None:
    server = start(config(site.pool("wsgi"), main="startup_timeout 3s;"), ready=2)
    server.crashes = True
    server.allow(".")
    site.write(before="import threading\nthreading.Event().wait()\n")
    server.send_signal(signal.SIGHUP)
    server.wait_log(r"reload failed after .*zygote web could not load the application within startup_timeout, 3\.0 s")
    assert facts(server)["version"] == "one"


def test_descriptors_are_those_of_an_ordinary_worker(start: Start, worker: str, site: Site) -> None:
    def kinds(pid: int) -> Counter[str]:
        return Counter(re.sub(r"\d+", "N", target) for target in descriptors(pid).values())

    plain = start(config(site.pool(worker, 1, "")))
    (ordinary,) = plain.workers()
    server = start(config(site.pool(worker)), ready=2)
    for pid in ready(server, 2):
        found, expected = kinds(pid), kinds(ordinary)
        # each server has a folder of its own, whose number is gone, too
        assert found == expected
        assert sorted(descriptors(pid), key=int) == sorted(descriptors(ordinary), key=int)


@pytest.mark.normal
def test_memory_is_shared(start: Start, site: Site) -> None:
    """The proportional share of two workers is far less than when each has imported for itself."""

    def share(server: Server) -> int:
        total = 0
        for pid in ready(server, 2):
            found = re.search(r"^Pss_Anon:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            assert found
            total += int(found[1])
        return total

    site.write(size=500_000)
    without = share(start(config(site.pool("wsgi", inside="")), ready=2))
    server = start(config(site.pool("wsgi")), ready=2)
    within = share(server)
    print(f"\nanonymous memory of two workers, proportional share: {without} kB without, {within} kB with preload")
    assert within < without * 0.6


def test_more_less_and_enough(start: Start, worker: str, site: Site) -> None:
    """TTIN, TTOU and max_requests go through the zygote, too."""
    server = start(config(site.pool(worker, 1, "preload on; max_requests 20;")))
    (first,) = ready(server, 1)
    server.send_signal(signal.SIGTTIN)
    both = ready(server, 2)
    server.send_signal(signal.SIGTTOU)
    assert ready(server, 1) == [first]
    assert first in both
    until(lambda: server.get("/pid").split()[0] != str(first), "its heir")
    until(lambda: not alive(first), "its end")
    ready(server, 1)
    assert len(site.imports()) == 1


def test_upgrade(start: Start, site: Site) -> None:
    server = start(config(site.pool("wsgi"), main=f"pid_file {site.folder}/pid;"), ready=2)
    everyone = server.workers()
    server.send_signal(signal.SIGUSR2)
    server.wait_log(r"the old licorne hands over to this one, pid (\d+)")
    new = int((site.folder / "pid").read_text())
    try:
        until(lambda: not any(map(alive, everyone)), "the end of all of the old one's")
        assert new != server.pid
        assert len(site.imports()) == 2
        assert Counter(map(title, children(new))) == Counter(
            ["licorne: worker web/0", "licorne: worker web/1", "licorne: zygote web"]
        )
        assert facts(server)["parent"] == new
    finally:
        os.kill(new, signal.SIGTERM)
        until(lambda: not alive(new), "the end")
    server.wait()


def test_kills_under_load(start: Start, site: Site) -> None:
    """kill -9 of workers and of zygotes, at any moment: the count converges, nothing is left."""
    kills = 20 if SANITIZED else 60
    server = start(config(site.pool("wsgi", 3, "preload on; respawn_delay 10ms 200ms;")), ready=3)
    server.allow("SIGKILL|degraded|cannot be started")
    rng = random.Random(1)
    fds = len(server.fds)
    killed: set[int] = set()
    with Load(server, clients=4) as load:
        for _ in range(kills):
            victim = rng.choice(until(server.workers, "a process"))
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            until(partial(gone, victim), "the death")
            if rng.random() < 0.5:
                load.go_on(10)
        ready(server, 3)
        load.go_on()
    until(lambda: len(zygotes(server)) == 1, "a zygote")
    print(f"\n{kills} kills: {dict(load.outcomes)}")
    assert load.outcomes["refused"] == 0
    assert set(load.lost) - {0} <= killed, (load.lost, killed)
    assert not load.outcomes["status 500"]
    until(lambda: len(descriptors(server.pid)) == fds, "the arbiter's descriptors as before")
    assert all(alive(p) for p in children(server.pid)), "no zombie is left"


def gone(pid: int) -> bool:
    return not alive(pid)


def test_error_log_opened_anew(start: Start, site: Site, tmp_path: Path) -> None:
    """Descriptor 2 of a worker that comes later is the error log as it is by then, not as the zygote once got it."""
    log = tmp_path / "error.log"
    server = start(config(site.pool("wsgi", 1)))

    def another() -> str:
        (pid,) = workers(server)
        os.kill(pid, signal.SIGKILL)
        until(lambda: (w := workers(server)) and w != [pid], "another worker")
        (pid,) = workers(server)
        assert facts(server)["pid"] == pid
        return descriptors(pid)["2"]

    def anew() -> bool:
        return log.exists() and "were opened anew" in log.read_text()

    rewrite(server, "error_log stderr info", f"error_log {log} info")
    server.send_signal(signal.SIGHUP)
    until(lambda: log.exists() and "generation 1 is gone" in log.read_text(), "the reload")
    assert another() == str(log)
    log.rename(tmp_path / "error.log.1")
    server.send_signal(signal.SIGUSR1)
    until(anew, "a new file")
    assert another() == str(log)


@as_root
def test_privileges(start: Start, worker: str) -> None:
    """A root arbiter is the parent of forks that are not root, and can end them."""
    server = as_other(start, config(pool(worker, inside="preload on;"), main="user nobody;"))
    server.allow("SIGKILL")
    status = process(server)["status"]
    assert set(status["Uid"].split()) == {str(pwd.getpwnam("nobody").pw_uid)}
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["PPid"]) == server.pid
    (pid,) = workers(server)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), "its death")
    assert int(process(server)["status"]["PPid"]) == server.pid


MODULE = """
#include <licorne/module.h>
#include <licorne/worker.h>
static int init(struct lc_wctx *x, const struct lc_worker_api *api, const void *conf, void **w) { return 0; }
static void request(void *w, struct lc_stream *s) { }
static const struct lc_worker ops = {.size = sizeof(ops), .name = "plain", .init = init, .request = request};
static const struct lc_iface ifaces[] = {{LC_KIND_WORKER, LC_WORKER_VERSION, &ops}};
static const struct lc_module module = {
    LC_MODULE_HEAD("plain", "1"), .summary = "a worker module", .ifaces = ifaces, .nifaces = 1};
LC_MODULE_ENTRY(module)
"""


def test_worker_module_that_cannot(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text(MODULE)
    include = ROOT / "core" / "include"
    subprocess.run(
        ["cc", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-I", include, "plain.c", "-o", "plain.so"],
        cwd=tmp_path,
        check=True,
    )
    conf = tmp_path / "licorne.conf"
    text = f"load_module http1; load_module {tmp_path}/plain.so;\npool web {{\n listen 0;\n preload on;\n worker plain;\n}}"
    conf.write_text(text.replace("listen 0", "listen 127.0.0.1:0"))
    for args in (["-t"], []):
        done = run("-c", conf, *args)
        assert done.returncode == 1
        assert f'{conf}:4: preload: the worker module "plain" cannot load an application' in done.stderr
    conf.write_text(conf.read_text().replace("preload on", "preload off"))
    assert run("-c", conf, "-t").returncode == 0
