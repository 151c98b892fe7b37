# SPDX-License-Identifier: BSD-2-Clause
"""SIGHUP with real workers and real clients: nothing is lost, and what cannot serve does not get to."""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import subprocess
from functools import partial
from pathlib import Path

import pytest
from client import Broken, Client, Response
from conftest import Start
from harness import PATIENCE, ROOT, SANITIZED, Gate, Server, alive, children, config, pool, quote, run, until
from load import Load
from pki import Authority, Pair
from test_tls import resumed, use
from traffic import Traffic

RELOADS = 5 if SANITIZED else int(os.environ.get("LICORNE_RELOADS", "20"))


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def both(worker: str, site: Pair, processes: int = 2, main: str = "") -> str:
    """HTTP/1.1 at the first address, both protocols over TLS at the second."""
    listen = ["127.0.0.1:0", f"127.0.0.1:0 tls {{ {use(site)} }}"]
    return config(
        pool(worker, listen=listen, processes=processes, inside="protocols http2 http1;"),
        main=f"load_module http2; load_module tls; {main}",
    )


def h2_context(ca: Authority) -> ssl.SSLContext:
    context = ca.client()
    context.set_alpn_protocols(["h2"])
    return context


def reload(server: Server, number: int) -> None:
    """Tell it, and wait for generation ``number``."""
    server.send_signal(signal.SIGHUP)
    server.wait_log(rf"reload: generation {number} serves")


def reload_wholly(server: Server, number: int) -> None:
    """And until nothing of the generation before is left, which may take a connection until it is told to drain."""
    reload(server, number)
    server.wait_log(rf"generation {number - 1} is gone")


def last_answer(c: Client, target: str = "/") -> Response:
    """Ask until an answer says that it is the last: the order to drain comes right behind the line in the log."""
    while (answer := c.request(target)).get("Connection") != "close":
        assert answer.status == 200
    return answer


def rewrite(server: Server, old: str, new: str) -> None:
    text = server.conf.read_text()
    assert old in text
    server.conf.write_text(text.replace(old, new))


# ---- nothing is lost


def test_reloads_under_load(start: Start, ca: Authority, worker: str) -> None:
    """Kept-alive connections, HTTP/2 and slow uploads: no request fails, no connection is reset."""
    server = start(both(worker, ca.pair("localhost")), listeners=2, ready=2)
    first = set(server.workers())
    with Traffic(server, h2_context(ca)) as traffic:
        for turn in range(RELOADS):
            reload(server, turn + 2)
            traffic.go_on()
        traffic.go_on()
    print(f"\n{RELOADS} reloads: {dict(traffic.outcomes)}, {len(traffic.failures)} failures")
    assert not traffic.failures, traffic.failures
    assert traffic.outcomes["uploads"] > 0
    assert traffic.outcomes["goaways"] > 0
    assert len(traffic.pids - first) >= RELOADS
    until(lambda: len(server.workers()) == 2, "the end of all older generations")


def test_certificate_replaced_under_load(start: Start, ca: Authority) -> None:
    """The file is read anew; new connections see the new one, and sessions from before are resumed."""
    site, new = ca.pair("localhost"), ca.pair("localhost")
    server = start(both("wsgi", site), listeners=2, ready=2)
    plain = ca.client()
    with Client(secure_at(server, plain), timeout=PATIENCE) as c:
        assert c.request("/").status == 200
        assert isinstance(c.sock, ssl.SSLSocket)
        session = c.sock.session
        assert session and session.has_ticket
    with Traffic(server, h2_context(ca)) as traffic:
        new.key.replace(site.key)
        new.cert.replace(site.cert)
        traffic.go_on()
        assert len(traffic.serials) == 1
        reload(server, 2)
        until(lambda: len(traffic.serials) == 2 or traffic.failures, "the new certificate")
        traffic.go_on()
    assert not traffic.failures, traffic.failures
    server.wait_log("generation 1 is gone")
    with Client(secure_at(server, plain, session), timeout=PATIENCE) as c:
        assert c.request("/").status == 200
        assert isinstance(c.sock, ssl.SSLSocket)
        assert c.sock.session_reused


def secure_at(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(server.socket(1), server_hostname="localhost", session=session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_across_reloads(start: Start, ca: Authority, version: ssl.TLSVersion) -> None:
    text = config(pool(listen=[f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} }}"]), main="load_module tls;")
    server = start(text)
    context = ca.client(version=version)
    did, session, before = resumed(server, context, None)
    assert not did
    reload_wholly(server, 2)
    did, _, after = resumed(server, context, session)
    assert did
    assert before != after


def test_another_authority_of_the_same_name(start: Start, ca: Authority, tmp_path: Path) -> None:
    """Clients whose certificates the new one does not answer for do not get in by the ticket of a session before it."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    old, new = Authority(tmp_path / "old", "People"), Authority(tmp_path / "new", "People")
    alice = old.pair("alice")
    trusted = tmp_path / "people.pem"
    trusted.write_bytes(old.cert.read_bytes())
    inside = f"tls_verify required; tls_client_ca {quote(trusted)};"
    listen = f"127.0.0.1:0 tls {{ {use(ca.pair('localhost'))} {inside} }}"
    server = start(config(pool(listen=[listen]), main="load_module tls;"))
    context = ca.client(own=alice)
    _, session, _ = resumed(server, context, None)
    did, session, _ = resumed(server, context, session)
    assert did
    trusted.write_bytes(new.cert.read_bytes())
    reload_wholly(server, 2)
    with pytest.raises((ssl.SSLError, ConnectionError, Broken)):
        resumed(server, context, session)
    server.wait_log("TLS handshake failed: certificate verify failed")


def test_slow_request_is_finished(start: Start, worker: str, gate: Gate, tmp_path: Path) -> None:
    """By the old generation, while the new one serves."""
    server = start(config(pool(worker)))
    (old,) = server.workers()
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        reload(server, 2)
        until(lambda: server.get("/pid").split()[0] != str(old), "an answer of the new one")
        assert alive(old)
        gate.open()
        assert c.response().text.startswith("waited")
        assert c.ended()
    until(lambda: not alive(old), "the old worker's end")


def test_idle_connection_ends_in_good_order(start: Start, worker: str) -> None:
    """It may ask once more, and is told that this is the last answer; else it just ends."""
    server = start(config(pool(worker)))
    with server.client() as idle, server.client() as asks:
        assert idle.request("/").status == asks.request("/").status == 200
        reload(server, 2)
        assert last_answer(asks).status == 200
        assert asks.ended()
        assert idle.ended()
    server.wait_log("generation 1 is gone")


def test_silent_connection_may_still_ask(start: Start, ca: Authority, worker: str) -> None:
    """One that has not said anything yet, so that nobody knows its protocol, is no idle one."""
    server = start(both(worker, ca.pair("localhost"), processes=1), listeners=2)
    (old,) = server.workers()
    with server.client() as c:
        assert server.get("/pid").split()[0] == str(old)  # the queue is one: the silent one was accepted before
        reload(server, 2)
        answer = last_answer(c, "/pid")
        assert answer.status == 200
        assert answer.text.split()[0] == str(old)
        assert c.ended()


def test_graceful_timeout_of_the_old(start: Start, gate: Gate, tmp_path: Path) -> None:
    server = start(config(pool(), main="graceful_timeout 500ms;"))
    server.allow("graceful_timeout")
    (old,) = server.workers()
    mark = tmp_path / "mark"
    with server.client() as c:
        c.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        reload(server, 2)
        until(lambda: not alive(old), "the old worker's end")
    assert server.get("/") == "Hello, world!\n"
    server.wait_log("generation 1 is gone")


def test_backlog_of_a_kept_listener(start: Start, gate: Gate, tmp_path: Path) -> None:
    """A sync worker that is busy leaves connections in the queue: the new generation takes them."""
    server = start(config(pool("sync")))
    mark = tmp_path / "mark"
    with server.client() as busy, server.client() as waits:
        busy.send(f"GET /wait?mark={mark}&gate={gate.path} HTTP/1.1\r\nHost: x\r\n\r\n")
        until(mark.exists, "the call")
        waits.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        reload(server, 2)
        late = server.client()
        with late:
            assert late.request("/").status == 200
        gate.open()
        assert waits.response().status == 200
        assert busy.response().status == 200
    server.wait_log("generation 1 is gone")


# ---- what is new


def test_code_and_configuration(start: Start, worker: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("TEXT = b'one'\n" + APP)
    server = start(config(pool(worker, app="mine:app", chdir=tmp_path)))
    assert server.get("/") == "one slot 0"
    (tmp_path / "mine.py").write_text("TEXT = b'another'\n" + APP)
    assert server.get("/") == "one slot 0"
    reload_wholly(server, 2)
    assert server.get("/") == "another slot 0"
    rewrite(server, "processes 1", "processes 3")
    reload_wholly(server, 3)
    assert len(server.workers()) == 3
    seen = {server.get("/") for _ in range(30)}
    assert seen <= {f"another slot {k}" for k in range(3)}


APP = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [TEXT + b" slot " + os.environ["LICORNE_SLOT"].encode()]
"""


def test_module_rebuilt_on_disk(start: Start, tmp_path: Path) -> None:
    source = (ROOT / "docs" / "examples" / "hello" / "hello.c").read_text()
    assert '"%s, %.*s!\\n"' in source
    built = tmp_path / "hello.so"

    def build(text: str) -> None:
        (tmp_path / "hello.c").write_text(text)
        include = ROOT / "core" / "include"
        subprocess.run(
            ["cc", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-I", include, "hello.c", "-o", "new.so"],
            cwd=tmp_path,
            check=True,
        )
        (tmp_path / "new.so").replace(built)

    build(source)
    inside = "route /hello hello { greeting Hello; }"
    server = start(config(pool(inside=inside), main=f"load_module {built};"))
    assert server.get("/hello/you") == "Hello, you!\n"
    build(source.replace('"%s, %.*s!\\n"', '"%s: %.*s.\\n"'))
    reload_wholly(server, 2)
    assert server.get("/hello/you") == "Hello: you.\n"
    (tmp_path / "new.so").write_bytes(b"no module at all")
    (tmp_path / "new.so").replace(built)
    server.allow(".")
    server.send_signal(signal.SIGHUP)
    server.wait_log(r"reload failed after .*hello\.so")
    assert server.get("/hello/you") == "Hello: you.\n"


def test_listeners_come_and_go(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    server = start(config(pool(listen=["127.0.0.1:0", f"unix:{path}"])), listeners=2)
    other = tmp_path / "other"
    rewrite(server, f"unix:{path}", f"unix:{other}")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        with Client(s, timeout=PATIENCE) as c:
            assert c.request("/").status == 200
            reload(server, 2)
            assert last_answer(c).status == 200
    until(lambda: not path.exists(), "the end of the socket's file")
    server.addresses[1] = f"unix:{other}"
    assert server.get("/", 0) == server.get("/", 1) == "Hello, world!\n"
    server.wait_log("generation 1 is gone")


def test_access_log_moves(start: Start, tmp_path: Path) -> None:
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    server = start(config(pool(inside=f"access_log {a};")))
    server.get("/?one")
    rewrite(server, str(a), str(b))
    reload_wholly(server, 2)
    server.get("/?two")
    until(lambda: b.exists() and "/?two" in b.read_text(), "the line in the new file")
    assert "/?one" in a.read_text()
    assert "/?two" not in a.read_text()


# ---- what cannot serve


def test_application_that_cannot_be_imported(start: Start, ca: Authority, tmp_path: Path) -> None:
    """The old generation serves on, under load, and the log has the traceback."""
    (tmp_path / "later.py").write_text("from probe import app\n")
    text = both("wsgi", ca.pair("localhost")).replace("probe:app", "later:app")
    server = start(text.replace("threads 4;", f"threads 4; pythonpath {tmp_path};"), listeners=2, ready=2)
    server.allow(".")
    old = server.workers()
    with Traffic(server, h2_context(ca)) as traffic:
        (tmp_path / "later.py").write_text("import no_such_module\n")
        server.send_signal(signal.SIGHUP)
        server.wait_log(
            r"reload failed after [\d.]+ s: worker web/\d could not start: "
            r"ModuleNotFoundError: No module named 'no_such_module'; generation 1 serves on"
        )
        traffic.go_on()
        server.wait_log("generation 2 is gone")
        assert server.workers() == old
        (tmp_path / "later.py").write_text("from probe import app\n")
        reload(server, 3)
        traffic.go_on()
    assert not traffic.failures, traffic.failures
    assert "Traceback (most recent call last)" in server.log


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("nonsense on;", r"licorne\.conf:\d+: .*nonsense"),
        ("worker_connections none;", r"licorne\.conf:\d+: worker_connections: "),
        ("load_module no_such_module;", r"licorne\.conf:\d+: .*no_such_module"),
        ("listen 127.0.0.1:1 tls { certificate /none; certificate_key /none; }", r"/none"),
        ("access_log /none/access.log;", r"licorne\.conf:\d+: access_log: cannot make \"/none/access\.log\""),
    ],
)
def test_configuration_that_is_refused(start: Start, change: str, why: str) -> None:
    server = start(config(pool(), main="load_module tls;"))
    server.allow(".")
    old = server.workers()
    at = "processes 1;" if change.startswith(("worker_c", "listen", "access_log")) else "load_module tls;"
    rewrite(server, at, f"{at} {change}")
    server.send_signal(signal.SIGHUP)
    server.wait_log(rf"reload failed after [\d.]+ s: .*{why}.*; generation 1 serves on")
    assert server.workers() == old
    assert server.get("/") == "Hello, world!\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_checker_that_dies_or_hangs(start: Start, tmp_path: Path, number: int) -> None:
    """It is a process like others: what it cannot do has no effect on what serves."""
    source = tmp_path / "hangs.c"
    source.write_text("#include <unistd.h>\n__attribute__((constructor)) static void load(void) { pause(); }\n")
    module = tmp_path / "hangs.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", module], check=True)
    server = start(config(pool(), main="startup_timeout 3s;"))
    server.allow(".")
    (worker,) = server.workers()
    rewrite(server, "load_module wsgi;", f"load_module wsgi; load_module {module};")
    server.send_signal(signal.SIGHUP)
    (checker,) = until(lambda: [p for p in server.workers() if p != worker], "the checker")
    if number == signal.SIGKILL:
        os.kill(checker, number)
        server.wait_log(r"reload failed after .*the checker was killed by SIGKILL")
    else:
        server.wait_log(r"reload failed after .*the checker did not end within startup_timeout, 3.0 s")
    assert server.get("/") == "Hello, world!\n"
    assert server.workers() == [worker]


# ---- the command


def test_command(start: Start, tmp_path: Path) -> None:
    server = start(config(pool(), main=f"pid_file {tmp_path}/pid;"))
    done = run("reload", "-c", server.conf)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {server.pid} was told" in done.stdout
    server.wait_log("generation 2 serves")
    done = run("reload", "-c", server.conf, "--wait")
    assert done.returncode == 1
    assert "control_socket" in done.stderr
    server.stop()
    done = run("reload", "-c", server.conf)
    assert done.returncode == 1
    assert "licorne is not running" in done.stderr
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")  # left over, and the number is another's by now
    done = run("reload", "-c", server.conf)
    assert done.returncode == 1
    assert f"process {os.getpid()} is no licorne but python" in done.stderr
    (tmp_path / "pid").write_text("x\n")
    assert "no process id" in run("reload", "-c", server.conf).stderr


def test_command_mistakes(tmp_path: Path) -> None:
    conf = tmp_path / "licorne.conf"
    assert "licorne.conf" in run("reload", "-c", conf).stderr
    conf.write_text(config(pool()))
    done = run("reload", "-c", conf)
    assert done.returncode == 1
    assert "sets no pid_file" in done.stderr
    for args in (["-x"], ["--nonsense"], ["-c"], ["more"]):
        done = run("reload", *args)
        assert done.returncode == 2
        assert "usage: licorne reload" in done.stderr
    assert run("reload", "-h").stdout.startswith("usage: licorne reload")


# ---- many deaths


def test_kills_under_load(start: Start) -> None:
    """kill -9 again and again: the arbiter lives, the count converges, nobody else's request is lost."""
    kills = 30 if SANITIZED else int(os.environ.get("LICORNE_KILLS", "100"))
    server = start(config(pool(processes=3, inside="respawn_delay 10ms 200ms;")), ready=3)
    server.allow(r"SIGKILL|degraded")
    rng = random.Random(1)
    fds = len(server.fds)
    killed: set[int] = set()
    with Load(server, clients=6) as load:
        for _ in range(kills):
            victim = rng.choice(until(server.workers, "a worker"))
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            until(partial(gone, victim), "the death")
            load.go_on(10)
        until(
            lambda: len(w := server.workers()) == 3 and all(f"(pid {p}) is ready" in server.log for p in w),
            "three workers that are ready",
        )
        load.go_on()
    print(f"\n{kills} kills: {dict(load.outcomes)}")
    assert load.outcomes["refused"] == 0
    # one that a killed process held is lost, and no other
    assert set(load.lost) - {0} <= killed, (load.lost, killed)
    assert load.lost[0] <= kills, "a connection that was just accepted, as a rule by none"
    assert not load.outcomes["status 500"]
    until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) == fds, "the arbiter's descriptors as before")
    assert all(alive(p) for p in children(server.pid)), "no zombie is left"


def gone(pid: int) -> bool:
    return not alive(pid)
