# SPDX-License-Identifier: BSD-2-Clause
"""Generations of scripted workers: reloads, upgrades, replacements, and what they do when something fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
import unittest
from pathlib import Path

from scripted import DOUBLE, Arbiter, state, until

GONE = r"generation {} is gone"


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return port_of(s)


def connects(address: int | Path) -> bool:
    try:
        if isinstance(address, Path):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(address))
        else:
            socket.create_connection(("127.0.0.1", address)).close()
    except OSError:
        return False
    return True


class Generations(Arbiter):
    def conf(self, text: str) -> None:
        """The configuration as a whole, for the next reload."""
        (self.dir / "test.conf").write_text(text)

    def pools(self, *pools: str, main: str = "") -> str:
        return f"error_log stderr debug;\n{main}\n" + "\n".join(pools)

    def pool(self, name: str, listen: object, processes: int = 1, more: str = "") -> str:
        return (
            f"pool {name} {{ listen {listen}; processes {processes}; respawn_delay 100ms 2s; {more} "
            "worker scripted { whatever x; } }"
        )

    def sockets(self, pid: int | None = None) -> set[str]:
        folder = Path(f"/proc/{pid or self.pid}/fd")
        links = {os.readlink(fd) for fd in folder.iterdir()}
        return {link for link in links if link.startswith("socket:")}

    def at(self, pattern: str, count: int = 1) -> int:
        """Where in the log that stands for the count-th time."""
        self.log_has(pattern, count)
        return [m.start() for m in re.finditer(pattern, self.log)][count - 1]

    def gate(self) -> None:
        (self.dir / "gate").touch()


class ReloadTest(Generations):
    def test_new_before_old(self) -> None:
        self.start(3)
        old, fds = self.children(), self.fds()
        for turn in range(1, 4):
            self.send(signal.SIGHUP)
            serves = self.at(rf"reload: generation {turn + 1} serves after")
            self.log_has(GONE.format(turn))
            drains = [m.start() for m in re.finditer(r"READY -> DRAINING", self.log)]
            self.assertEqual(len(drains), 3 * turn)
            self.assertTrue(all(d > serves for d in drains[-3:]), "none drained before all of the new were ready")
            self.assertEqual(len(re.findall(r"is ready after", self.log)), 3 * turn + 3)
            new = self.children()
            self.assertEqual(len(new), 3)
            self.assertFalse(set(new) & set(old))
            self.assertEqual(sorted(new), sorted(self.worker(i) for i in range(3)))
            self.assertEqual(self.fds(), fds)
            old = new
        self.stop()

    def test_cannot_start(self) -> None:
        """The old generation serves on, and the log says why, whatever the new one dies of."""
        self.start(2, main="startup_timeout 300ms;")
        old, fds = self.children(), self.fds()
        for turn, (word, why) in enumerate(
            {
                "boot-fails": r"worker web/\d could not start: Boom: it does not start",
                "boot-crashes": r"worker web/\d was killed by SIGSEGV before it could serve",
                "boot-hangs": r"worker web/\d could not serve within startup_timeout, 0.3 s",
                "exit-first": r"worker web/\d exited with status 9 before it could serve",
                "garbage": r"worker web/\d broke the rules of its channel: .*",
            }.items()
        ):
            with self.subTest(word):
                self.script(word, 1)
                self.send(signal.SIGHUP)
                self.log_has(rf"\[error\] \d+ arbiter: reload failed after [\d.]+ s: {why}; generation 1 serves on")
                self.log_has(GONE.format(turn + 2))
                self.assertEqual(self.children(), old)
                self.assertEqual(self.fds(), fds)
        self.assertNotIn("is started again", self.log, "no back-off of one that was on trial")
        self.script("ok", 1)
        self.send(signal.SIGHUP)
        self.log_has(r"reload: generation 7 serves")
        self.stop()

    def test_killed_on_trial(self) -> None:
        self.start(2)
        old = self.children()
        self.script("gated")
        self.send(signal.SIGHUP)
        self.log_has("script gated", 2)
        os.kill(self.worker(1), signal.SIGKILL)
        self.log_has(r"reload failed after [\d.]+ s: worker web/1 was killed by SIGKILL before it could serve")
        self.log_has(GONE.format(2))
        self.assertEqual(self.children(), old)
        self.stop()

    def test_death_of_the_old_meanwhile(self) -> None:
        """It is replaced by one of its own generation, and the reload goes on."""
        self.start(2)
        victim = self.worker(0)
        self.script("gated", 0)
        self.send(signal.SIGHUP)
        self.log_has("script gated")
        self.script("ok", 0)
        os.kill(victim, signal.SIGKILL)
        self.log_has(r"is ready", 4)
        self.assertNotIn("generation 2 serves", self.log)
        self.gate()
        self.log_has(r"reload: generation 2 serves")
        self.log_has(GONE.format(1))
        self.assertEqual(len(self.children()), 2)
        self.stop()

    def test_wrong_text(self) -> None:
        self.start(1)
        old = self.children()
        right = (self.dir / "test.conf").read_text()
        for text, why in {
            right + "pool x {": r".*/test\.conf:\d+: .*",
            right.replace("processes 1", "processes none"): r".*/test\.conf:\d+: processes: .*",
            "error_log stderr debug;": r".*/test\.conf:1: there is no pool, .*",
            right + "user no-such-user;": r".*/test\.conf:\d+: user: there is no user \"no-such-user\" .*",
            right.replace(
                "pool web {", f"pool web {{ access_log {self.dir}/none/x; "
            ): r"cannot open the access_log .*",
            f"error_log {self.dir}/none/x;" + right.split(";", 1)[1]: r"cannot open the error_log .*",
        }.items():
            with self.subTest(why):
                self.conf(text)
                failed = self.log.count("reload failed")
                self.send(signal.SIGHUP)
                line = self.log_has("reload failed", failed + 1)[-1]
                self.assertRegex(line, rf"reload failed after [\d.]+ s: {why}; generation 1 serves on")
                self.assertEqual(self.children(), old)
        (self.dir / "test.conf").unlink()
        self.send(signal.SIGHUP)
        self.log_has(r"reload failed .*test\.conf.*No such file")
        self.conf(right)
        self.send(signal.SIGHUP)
        self.log_has(r"generation \d+ serves")
        self.stop()

    def test_listeners(self) -> None:
        """Kept ones are the same sockets; removed ones refuse, new ones are there; mistakes change nothing."""
        keep, drop, new = free_port(), free_port(), free_port()
        path, other = self.dir / "sock", self.dir / "other"
        self.start(1, listen=f"{keep}; listen unix:{path}; listen 127.0.0.1:{drop}")
        kept, fds = self.sockets(), self.fds()
        with socket.create_connection(("127.0.0.1", keep)), socket.create_server(("127.0.0.1", 0)) as taken:
            # an address that is taken: nothing is opened, nothing is closed
            self.conf(self.pools(self.pool("web", f"{keep}; listen 127.0.0.1:{new}; listen {port_of(taken)}")))
            self.send(signal.SIGHUP)
            self.log_has(rf"reload failed .*cannot listen on {port_of(taken)}: the address is in use by process ")
            self.assertEqual(self.sockets(), kept)
            self.assertTrue(connects(drop) and connects(path) and not connects(new))
            # one text is another's address; the UNIX socket goes
            self.conf(self.pools(self.pool("web", f"0.0.0.0:{keep}; listen 127.0.0.1:{new}; listen unix:{other}")))
            self.send(signal.SIGHUP)
            self.log_has(r"generation \d serves")
            self.log_has(rf"no longer listening on 127.0.0.1:{drop}")
            self.log_has(rf"no longer listening on unix:{path}")
            self.log_has(rf"listening on 127.0.0.1:{new} \(pool web\)")
            self.log_has(GONE.format(1))
            until(lambda: not connects(drop), "refused connections")
            self.assertFalse(path.exists())
            self.assertTrue(connects(keep) and connects(new) and connects(other))
        self.assertEqual(self.fds(), fds)
        # twice the same
        self.conf(self.pools(self.pool("web", f"{keep}; listen 0.0.0.0:{keep}")))
        self.send(signal.SIGHUP)
        self.log_has(r"reload failed .*is there twice")
        self.stop()
        self.assertFalse(other.exists())

    def test_kept_socket_is_the_same(self) -> None:
        self.start(1, listen="127.0.0.1:0")
        address = self.log_has(r"listening on 127")[0].split("listening on ")[1].split()[0]
        waits = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))  # scripted workers accept none
        with waits:
            for n in (2, 3):
                self.send(signal.SIGHUP)
                self.log_has(rf"generation {n} serves")
                self.log_has(GONE.format(n - 1))
            waits.settimeout(0.2)
            with self.assertRaises(TimeoutError):  # neither closed nor reset: it still waits in the queue
                waits.recv(1)
        self.assertEqual(self.log.count("listening on"), 1)
        self.stop()

    def test_mode_of_a_kept_unix_socket(self) -> None:
        path = self.dir / "sock"
        self.start(1, text=self.pools(self.pool("web", f"unix:{path} {{ mode 0600; }}").replace("};", "}", 1)))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        inode = path.stat().st_ino
        self.conf((self.dir / "test.conf").read_text().replace("0600", "0666"))
        self.send(signal.SIGHUP)
        self.log_has(r"generation 2 serves")
        self.assertEqual((path.stat().st_mode & 0o777, path.stat().st_ino), (0o666, inode))
        self.stop()

    def test_pools(self) -> None:
        """Added, removed, larger and smaller."""
        text = self.pools(self.pool("a", "127.0.0.1:0", 2), self.pool("b", "127.0.0.2:0"))
        self.start(3, text=text)
        fds = self.fds()
        self.conf(text.replace("pool b", "pool c").replace("processes 2", "processes 3"))
        self.send(signal.SIGHUP)
        self.log_has(r"generation 2 serves")
        self.log_has(r"worker a/2 .* is ready")
        self.log_has(r"worker c/0 .* is ready")
        self.log_has(GONE.format(1))
        self.assertEqual(len(self.children()), 4)
        self.conf(self.pools(self.pool("a", "127.0.0.3:0")))
        self.send(signal.SIGHUP)
        self.log_has(GONE.format(2))
        self.assertEqual(len(self.children()), 1)
        self.assertLess(self.fds(), fds + 10)
        self.stop()

    def test_again_meanwhile(self) -> None:
        """However often: one more."""
        self.start(1)
        self.script("gated")
        self.send(signal.SIGHUP)
        self.log_has("script gated")
        for _ in range(5):
            before = self.log.count("another one follows")
            self.send(signal.SIGHUP)
            until(lambda: self.log.count("another one follows") > before, "the signal")
        self.script("ok")
        self.gate()
        self.log_has(r"generation 3 serves")
        self.log_has(GONE.format(2))
        self.assertEqual(self.log.count("the configuration is read anew"), 2)
        self.stop()

    def test_end_meanwhile(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.start(2)
            self.script("gated")
            self.send(signal.SIGHUP)
            self.log_has("script gated", 2)
            self.send(number)
            self.assertLess(self.end(patience=5), 4)
            self.log_has("reload failed after .*: licorne ends")
            self.script("ok")

    def test_hup_before_it_serves(self) -> None:
        self.script("gated")
        self.start(1, wait=False)
        self.log_has("script gated")
        self.send(signal.SIGHUP)
        self.gate()
        self.log_has(r"generation 2 serves")
        self.stop()

    def test_logs(self) -> None:
        """New files are written to by the new ones; the error log moves when the new generation serves."""
        a, b, errors = self.dir / "a.log", self.dir / "b.log", self.dir / "new-errors"
        self.script("look")
        self.start(1, pool=f"access_log {a};")
        self.assertEqual(a.read_text(), "line\n")
        text = (self.dir / "test.conf").read_text()
        self.conf(text.replace(str(a), str(b)).replace("error_log stderr debug", f"error_log {errors} info"))
        self.send(signal.SIGHUP)
        until(lambda: errors.exists() and "generation 1 is gone" in errors.read_text(), "words in the new log")
        self.assertIn("generation 2 serves", errors.read_text())
        self.assertNotIn("[debug]", errors.read_text())
        self.assertEqual((a.read_text(), b.read_text()), ("line\n", "line\n"))
        errors.rename(self.dir / "moved")
        self.send(signal.SIGUSR1)
        until(lambda: errors.exists() and "access log 0 anew" in errors.read_text(), "a worker's words in it")
        self.conf(text)
        self.send(signal.SIGHUP)
        until(lambda: "it takes a restart" in errors.read_text(), "a refusal")
        self.send(signal.SIGTERM)
        self.end()

    def test_winch(self) -> None:
        self.start(2)
        kept = self.sockets()
        self.send(signal.SIGWINCH)
        self.log_has("SIGWINCH: all workers finish and end")
        until(lambda: not self.children(), "the workers' end")
        self.assertTrue(self.sockets() <= kept)
        self.send(signal.SIGHUP)
        self.log_has(r"generation 2 serves")
        self.assertEqual(len(self.children()), 2)
        self.send(signal.SIGWINCH)
        until(lambda: not self.children(), "the workers' end")
        self.send(signal.SIGTTIN)
        self.log_has(r"pool web has 1 processes now")
        until(lambda: len(self.children()) == 1, "one worker")
        self.stop()

    def test_size_is_the_configurations_again(self) -> None:
        self.start(1)
        self.send(signal.SIGTTIN)
        until(lambda: len(self.children()) == 2, "two workers")
        self.send(signal.SIGHUP)
        self.log_has(r"generation 1 is gone")
        self.assertEqual(len(self.children()), 1)
        self.stop()


class KillTest(Generations):
    def test_every_state(self) -> None:
        """kill -9 of a worker in each of its states: the arbiter goes on, and the slot is filled again."""
        self.start(2, main="graceful_timeout 60s;")
        fds = self.fds()
        for word, seen in {"no-hello": "EMPTY -> SPAWNING", "gated": "SPAWNING -> STARTING", "ok": "is ready"}.items():
            with self.subTest(word):
                before = len(self.log)
                self.script(word, 0)
                os.kill(self.worker(0), signal.SIGKILL)
                until(lambda: re.search(rf"worker web/0 .*{seen}", self.log[before:]), seen)
                victim = until(lambda: self.worker(0) in self.children() and self.worker(0), "the process")
                until(lambda: f"{victim} worker web/0: script" in self.log, "its script")
                self.script("ok", 0)
                os.kill(victim, signal.SIGKILL)
                self.log_has(rf"web/0 \(pid {victim}\) was killed by SIGKILL")
                until(self.recovered, "a good one")
        # DRAINING and EXITING: of an old generation, and at the end
        (self.dir / "0").unlink()
        self.script("stubborn")
        self.send(signal.SIGHUP)
        self.log_has("generation 2 serves")
        self.log_has(GONE.format(1))
        self.script("ok")
        stubborn = self.worker(0), self.worker(1)
        self.send(signal.SIGHUP)
        self.log_has("generation 3 serves")
        self.log_has("told to drain", 4)
        for pid in stubborn:
            self.assertIn(pid, self.children())
            os.kill(pid, signal.SIGKILL)
        self.log_has(GONE.format(2))
        self.assertEqual(len(self.children()), 2)
        self.assertEqual(self.fds(), fds)
        self.script("stubborn")
        self.send(signal.SIGHUP)
        self.log_has("generation 4 serves")
        pids = self.worker(0), self.worker(1)
        self.send(signal.SIGINT)
        self.log_has("told to stop", 2)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.end()

    def test_storm(self) -> None:
        """All signals at once and again: it does what it should, and is there afterwards."""
        self.start(2, pool=f"access_log {self.dir}/access;")
        fds = self.fds()
        while self.log.count("SIGUSR1: the log files") < 10 or self.log.count("read anew") < 3:
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
                self.send(number)
        turn = self.log.count("generation")
        self.send(signal.SIGHUP)
        until(
            lambda: (
                self.log.count("generation") > turn
                and self.log.count("the configuration is read anew")
                == len(re.findall(r"generation \d+ serves after|reload failed", self.log))
                and self.log.rstrip().endswith("is gone")
                and len(self.children()) == 2
            ),
            "rest",
        )
        self.assertNotIn("reload failed", self.log)
        self.assertEqual(self.fds(), fds)
        self.stop()


class RenewTest(Generations):
    def renewed(self, pool: str, why: str) -> None:
        self.start(2, pool=pool)
        first = self.worker(0), self.worker(1)
        self.log_has(rf"worker web/0 \(pid {first[0]}\) {why}: it is replaced")
        self.log_has(rf"worker web/1 \(pid {first[1]}\) {why}: it is replaced")
        for slot, pid in enumerate(first):
            drains = self.at(rf"worker web/{slot} \(pid {pid}\): READY -> DRAINING")
            ready = [m.start() for m in re.finditer(rf"worker web/{slot} \(pid \d+\) is ready", self.log)]
            self.assertLess(ready[1], drains, "the new one was ready before")
            self.log_has(rf"worker web/{slot} \(pid {pid}\) exited with status 0")
        # one after the other
        begun = [m.start() for m in re.finditer(r"it is replaced", self.log)]
        ready = [m.start() for m in re.finditer(r"READY -> DRAINING", self.log)]
        self.assertLess(ready[0], begun[1])
        self.assertNotIn("degraded", self.log)
        self.stop()

    def test_max_requests(self) -> None:
        self.renewed("max_requests 30; max_requests_jitter 10;", r"has had \d\d requests \(max_requests (3\d|40)\)")

    def test_max_age(self) -> None:
        self.renewed("max_age 600ms;", r"has served for \d s \(max_age\)")

    def test_max_rss(self) -> None:
        self.renewed("max_rss 64k;", r"uses \d+ MB of memory \(max_rss 0 MB\)")

    def test_heir_cannot_start(self) -> None:
        """The old process serves until one can."""
        self.start(1, pool="max_requests 20;")
        old = self.worker(0)
        self.script("boot-fails")
        self.log_has("Boom", 3)
        self.log_has(r"worker web/0 is started again in", 2)
        self.assertIn(old, self.children())
        self.script("ok")
        self.log_has(rf"worker web/0 \(pid {old}\) exited with status 0")
        self.stop()

    def test_old_dies_before_its_heir_is_ready(self) -> None:
        self.script("ok")
        self.start(1, pool="max_age 300ms;")
        old = self.worker(0)
        self.script("gated")
        self.log_has("script gated")
        os.kill(old, signal.SIGKILL)
        self.log_has(rf"pid {old}\) was killed by SIGKILL")
        self.gate()
        until(lambda: len(self.children()) == 1 and self.log.count("is ready") == 2, "the heir alone")
        self.script("ok")
        self.stop()

    def test_ttou_meanwhile(self) -> None:
        self.start(2, pool="max_age 400ms;")
        self.script("gated", 1)
        self.log_has(r"web/1: script gated")
        self.send(signal.SIGTTOU)
        self.log_has(r"pool web has 1 processes now")
        until(lambda: len(self.children()) == 1, "one worker")
        self.stop()

    def test_reload_meanwhile(self) -> None:
        self.start(1, pool="max_age 300ms;")
        self.script("gated")
        self.log_has("script gated")
        self.script("ok")
        self.conf((self.dir / "test.conf").read_text().replace("max_age 300ms;", ""))
        self.send(signal.SIGHUP)
        self.log_has(r"generation 2 serves")
        self.log_has(GONE.format(1))
        self.assertEqual(len(self.children()), 1)
        self.stop()


class IntensityTest(Generations):
    def test_degraded(self) -> None:
        """Many deaths in a pool slow all of it down; none of those that serve is touched."""
        self.start(3)
        steady = self.worker(2)
        for turn in range(7):
            victim = self.worker(turn % 2)
            os.kill(victim, signal.SIGKILL)
            self.log_has(r"is ready", 4 + turn)
        self.log_has(r"\[error\] \d+ arbiter: pool web is degraded: too many of its processes ended within 30 s")
        self.assertEqual(self.log.count("is degraded"), 1)
        self.assertIn(steady, self.children())
        self.stop()


class UpgradeTest(Generations):
    def upgradable(self, processes: int = 2, **kw: str) -> None:
        """Start a copy of the binary, which a test may put another one in place of."""
        self.binary = self.dir / "arbiter"
        shutil.copy(DOUBLE, self.binary)
        self.start(processes, program=self.binary, **{"main": f"pid_file {self.dir}/pid;", **kw})  # type: ignore[arg-type]

    def replace(self, text: str) -> None:
        new = self.dir / "new"
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self.binary)

    def pid_in_file(self) -> int:
        try:
            return int((self.dir / "pid").read_text() or 0)
        except FileNotFoundError:
            return 0

    def taken_over(self) -> int:
        """The old one has ended, in good order; the pid of the new one."""
        assert self.process
        old = self.pid
        self.assertEqual(self.process.wait(30), 0, self.log)
        new = until(lambda: self.pid_in_file() not in (0, old) and self.pid_in_file(), "the new pid file")
        self.assertTrue(state(new))
        self.assertFalse((self.dir / "pid.oldbin").exists())
        return new

    def end_new(self, new: int, number: int = signal.SIGTERM) -> None:
        workers = [int(p) for p in Path(f"/proc/{new}/task/{new}/children").read_text().split()]
        os.kill(new, number)
        for pid in (new, *workers):
            until(lambda pid=pid: state(pid) in ("", "Z"), f"the end of {pid}")  # type: ignore[misc]
        self.assertFalse((self.dir / "pid").exists())

    def test_upgrade(self) -> None:
        port, path = free_port(), self.dir / "sock"
        self.upgradable(listen=f"{port}; listen unix:{path}")
        inode = path.stat().st_ino
        with socket.create_connection(("127.0.0.1", port)) as waits:
            self.send(signal.SIGUSR2)
            self.log_has(r"SIGUSR2: .*/arbiter is started to take over")
            new = self.taken_over()
            self.log_has_late(rf"the new licorne \(pid {new}\) serves: this one finishes what runs and ends")
            self.log_has_late(rf"the old licorne hands over to this one, pid {new}")
            self.assertLess(self.at(r"is ready", 4), self.at(r"READY -> DRAINING"))
            self.assertEqual(path.stat().st_ino, inode)
            self.assertTrue(connects(path) and connects(port))
            waits.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                waits.recv(1)
        # and the new one can be reloaded and upgraded as well
        os.kill(new, signal.SIGHUP)
        self.log_has_late(r"generation 2 serves")
        os.kill(new, signal.SIGUSR2)
        newer = until(lambda: self.pid_in_file() not in (0, new) and self.pid_in_file(), "the next one")
        until(lambda: state(new) in ("", "Z"), "the end of the one before")
        self.assertTrue(connects(path) and connects(port))
        self.end_new(newer)
        self.assertFalse(path.exists())

    def test_new_one_fails(self) -> None:
        self.upgradable()
        old, fds = self.children(), self.fds()
        for count, (text, why) in enumerate(
            {
                "#!/bin/sh\nexit 7\n": "it ended with status 7",
                "#!/bin/sh\nkill -SEGV $$\n": "it was killed by SIGSEGV",
                "no program at all": "it ended with status 71",
                "#!/bin/sh\nprintf 'this is no message at all' >&3\nsleep 60\n": "it broke the rules of its channel: .*",
            }.items(),
            1,
        ):
            with self.subTest(why):
                self.replace(text)
                self.send(signal.SIGUSR2)
                line = self.log_has(r"the upgrade failed", count)[-1]
                self.assertRegex(line, rf"the upgrade failed: {why}; this licorne serves on")
                self.assertEqual(self.children(), old)
                self.assertEqual(self.pid_in_file(), self.pid)
                self.assertEqual(self.fds(), fds)
        self.stop()

    def test_listeners_that_change(self) -> None:
        """The configuration may have changed by then."""
        keep, drop, new, path = free_port(), free_port(), free_port(), self.dir / "sock"
        self.upgradable(1, listen=f"{keep}; listen {drop}; listen unix:{path}")
        text = (self.dir / "test.conf").read_text()
        self.conf(text.replace(f"listen {drop}; listen unix:{path}", f"listen {new}"))
        self.send(signal.SIGUSR2)
        new_pid = self.taken_over()
        self.assertTrue(connects(keep) and connects(new))
        until(lambda: not connects(drop) and not path.exists(), "the end of what is no longer named")
        self.end_new(new_pid)

    def test_new_one_killed(self) -> None:
        """In each of its states; its workers end with it."""
        self.upgradable()
        old, fds = self.children(), self.fds()
        self.replace("#!/bin/sh\nexec sleep 60\n")
        for count, word in enumerate(("SPAWNING", "STARTING"), 1):
            if word == "STARTING":
                shutil.copy(DOUBLE, self.dir / "new")
                (self.dir / "new").rename(self.binary)
                self.script("gated")
            self.send(signal.SIGUSR2)
            successor = int(self.log_has(r"successor started as pid", count)[-1].split()[-1])
            if word == "STARTING":
                self.log_has("script gated", 2)
            workers = [int(p) for p in Path(f"/proc/{successor}/task/{successor}/children").read_text().split()]
            os.kill(successor, signal.SIGKILL)
            self.log_has(r"the upgrade failed: it was killed by SIGKILL; this licorne serves on", count)
            if word == "STARTING":
                self.gate()
            for pid in workers:
                until(lambda pid=pid: state(pid) in ("", "Z"), "the end of its workers")  # type: ignore[misc]
            self.assertEqual(self.children(), old)
            self.assertEqual(self.fds(), fds)
            self.assertEqual(self.pid_in_file(), self.pid)
        self.stop()

    def test_application_fails(self) -> None:
        self.upgradable()
        old = self.children()
        path = self.dir / "test.conf"
        right = path.read_text()
        self.script("boot-fails", 1)  # one of two
        self.send(signal.SIGUSR2)
        self.log_has(r"the upgrade failed: it ended with status 3; this licorne serves on")
        path.write_text(right + "nonsense {")
        self.send(signal.SIGUSR2)
        self.log_has(r"the upgrade failed: it ended with status 1; this licorne serves on")
        path.write_text(right)
        self.assertEqual(self.children(), old)
        self.script("ok", 1)
        self.send(signal.SIGUSR2)
        self.end_new(self.taken_over())

    def test_new_one_hangs(self) -> None:
        self.upgradable(main=f"startup_timeout 400ms; pid_file {self.dir}/pid;")
        old = self.children()
        self.replace("#!/bin/sh\nsleep 60\n")
        self.send(signal.SIGUSR2)
        self.log_has(r"successor \(pid \d+\) was not ready within twice the startup_timeout, 0.8 s: the arbiter sends")
        self.log_has(r"the upgrade failed: it was not ready within twice the startup_timeout")
        self.assertEqual(self.children(), old)
        self.stop()

    def test_signals_meanwhile(self) -> None:
        """A second USR2 does nothing, HUP is passed on, TERM ends both."""
        self.upgradable(1)
        self.script("gated")
        self.send(signal.SIGUSR2)
        self.log_has("script gated")
        self.send(signal.SIGUSR2)
        self.log_has(r"SIGUSR2: an upgrade is under way already")
        self.send(signal.SIGHUP)
        self.script("ok")
        self.gate()
        new = self.taken_over()
        self.log_has_late(r"generation 2 serves")
        self.end_new(new)

    def test_term_meanwhile(self) -> None:
        self.upgradable(1)
        self.script("gated")
        self.send(signal.SIGUSR2)
        self.log_has("script gated")
        successor = int(self.log_has(r"successor started as pid")[0].split()[-1])
        self.send(signal.SIGTERM)
        self.end()
        until(lambda: state(successor) in ("", "Z"), "the successor's end")
        self.assertNotIn("hands over", self.log)
        self.assertFalse((self.dir / "pid").exists())

    def test_old_one_killed_meanwhile(self) -> None:
        """The new one has the listeners: it goes on alone."""
        self.upgradable(1)
        self.script("gated")
        self.send(signal.SIGUSR2)
        self.log_has("script gated")
        successor = int(self.log_has(r"successor started as pid")[0].split()[-1])
        self.send(signal.SIGKILL)
        assert self.process
        self.process.wait(10)
        self.log_has_late(r"the old licorne is gone: this one, pid \d+, goes on alone")
        self.gate()
        until(lambda: self.pid_in_file() == successor, "its pid file")
        self.log_has_late(r"licorne \S+ serves", 2)
        self.end_new(successor)

    def log_has_late(self, pattern: str, count: int = 1) -> None:
        """The same when the first arbiter has ended."""
        until(lambda: len(re.findall(pattern, self.log)) >= count, f"{pattern!r} in the log")

    def test_during_a_reload(self) -> None:
        self.upgradable(1)
        self.script("gated")
        self.send(signal.SIGHUP)
        self.log_has("script gated")
        self.send(signal.SIGUSR2)
        time.sleep(0.1)
        self.assertNotIn("is started to take over", self.log)
        self.gate()
        self.end_new(self.taken_over())
        self.assertLess(self.at("generation 2 serves"), self.at("is started to take over"))

    def test_process_one(self) -> None:
        self.start(1, before=("unshare", "-pf", "--kill-child"))
        (one,) = self.children()
        os.kill(one, signal.SIGUSR2)
        self.log_has(r"SIGUSR2: licorne is process 1 here")
        os.kill(one, signal.SIGHUP)
        self.log_has(r"generation 2 serves")
        os.kill(one, signal.SIGINT)
        self.end()

    def test_exit_status_of_process_one(self) -> None:
        """What a container ends with."""
        self.script("boot-fails")
        self.start(1, wait=False, before=("unshare", "-pf", "--kill-child"))
        self.end(3)
        self.script("ok")
        self.start(1, before=("unshare", "-pf", "--kill-child"))
        (one,) = self.children()
        os.kill(one, signal.SIGTERM)
        self.end(0)

    def test_environment_of_another(self) -> None:
        """LICORNE_SUCCESSOR that came from elsewhere is no reason to look at descriptor 3."""
        self.script("ok")
        os.environ["LICORNE_SUCCESSOR"] = "1"
        try:
            self.start(1)
        finally:
            del os.environ["LICORNE_SUCCESSOR"]
        self.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
