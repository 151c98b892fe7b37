# SPDX-License-Identifier: BSD-2-Clause
"""The arbiter against scripted workers: each misbehaviour costs the one that misbehaves, and is named in the log."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import unittest
from pathlib import Path

from scripted import DOUBLE, Arbiter, state, until


class ArbiterTest(Arbiter):
    # ---- life

    def test_life(self) -> None:
        self.script("look")
        path = self.dir / "sock"
        log = self.dir / "access"
        self.start(3, main=f"pid_file {self.dir}/pid;", pool=f"listen unix:{path} {{ mode 0640; }} access_log {log};")
        self.assertEqual((self.dir / "pid").read_text(), f"{self.pid}\n")
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)
        address = self.log_has(r"listening on 127")[0].split("listening on ")[1].split()[0]
        self.assertNotIn(":0", address[-2:])
        self.assertEqual(len(self.log_has(r"fds at start: 0 1 2 3; group own", 3)), 3)
        for line in self.log_has(r"status Sig(Blk|Ign)", 6):
            self.assertEqual(int(line.split("\\t")[-1], 16), 0, line)
        self.log_has(r"status NoNewPrivs:\\t1", 3)
        self.log_has(
            rf"setup: slot [012] of 3, first [01], prefix {self.dir}, 2 listeners, access log 1, text [1-9]", 3
        )
        self.log_has(rf"listener 0 {re.escape(address)} accepts 1", 3)
        self.log_has(rf"listener 1 unix:{path} accepts 1", 3)
        self.assertEqual(log.read_text(), "line\n" * 3)
        self.assertEqual(sorted(self.children()), sorted(self.worker(i) for i in range(3)))
        for pid in self.children():
            self.assertTrue(Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"licorne: worker web/"))
        self.stop()
        self.assertEqual(len(self.log_has(r"told to drain within 29\d{3} ms|told to drain within 30000 ms", 3)), 3)
        self.assertFalse(path.exists())
        self.assertFalse((self.dir / "pid").exists())

    def test_quick(self) -> None:
        for number in (signal.SIGINT, signal.SIGQUIT):
            self.start(2)
            self.send(number)
            self.assertLess(self.end(), 2)
            self.log_has(r"told to stop", 2)

    def test_stubborn(self) -> None:
        """graceful_timeout holds for those who serve; a second SIGINT waits for nobody."""
        self.script("stubborn", 0)
        self.start(2, main="graceful_timeout 500ms;")
        took = self.stop()
        self.assertGreater(took, 0.4)
        self.log_has(
            r"web/0 \(pid \d+\) has not finished its requests within graceful_timeout, 0.5 s \(7 were running\): "
            r"the arbiter sends SIGKILL"
        )
        self.log_has(
            r"web/0 \(pid \d+\) was killed by SIGKILL after [\d.]+ s(, before it could serve)?, sent by the arbiter \(has not finished"
        )
        self.start(2)
        self.send(signal.SIGINT)
        self.log_has(r"told to stop", 2)
        self.send(signal.SIGINT)
        self.assertLess(self.end(), 1.5)

    def test_int_after_term(self) -> None:
        self.script("stubborn")
        self.start(1)
        self.send(signal.SIGTERM)
        self.log_has(r"told to drain")
        self.send(signal.SIGINT)
        self.log_has(r"told to stop")
        self.end()

    def test_ttin_ttou(self) -> None:
        self.start(1)
        first = self.worker(0)
        for number, count in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
            self.send(number)
            until(lambda: len(self.children()) == count, f"{count} workers")
        self.send(signal.SIGTTOU)
        self.log_has(r"pool web stays at 1 processes")
        for _ in range(8):  # faster than they come and go; equal signals that wait count once
            self.send(signal.SIGTTIN)
        until(lambda: len(self.children()) > 1, "growth")

        def shrunk() -> bool:
            self.send(signal.SIGTTOU)
            return self.children() == [first]

        until(shrunk, "one worker")
        self.stop()

    def test_log_files_anew(self) -> None:
        log, errors = self.dir / "access.log", self.dir / "errors.log"
        self.start(2, errors=errors, pool=f"access_log {log}; access_log {log}.json json;")
        pids = self.children()
        log.rename(self.dir / "old")
        errors.rename(self.dir / "errors.old")
        fds = self.fds()
        self.send(signal.SIGUSR1)
        until(lambda: log.exists() and log.read_text() == "anew\nanew\n", "lines of both workers in the new file")
        until(
            lambda: errors.exists() and errors.read_text().count("access log 1 anew") == 2, "words in the new error log"
        )
        self.assertIn("SIGUSR1: the log files were opened anew", errors.read_text())
        self.assertEqual(self.fds(), fds)
        log.unlink()
        log.mkdir()  # one that cannot be opened stays as it is, the others do not
        self.send(signal.SIGUSR1)
        until(lambda: errors.read_text().count("access log 1 anew") == 4, "the other log anew")
        self.assertIn(f"cannot open the access_log {log}: Is a directory", errors.read_text())
        self.assertEqual(errors.read_text().count("access log 0 anew"), 2)
        log.rmdir()
        self.assertEqual(self.children(), pids)
        self.stop()

    def test_arbiter_killed(self) -> None:
        self.start(2)
        pids = self.children()
        self.send(signal.SIGKILL)
        self.end(-signal.SIGKILL)
        for pid in pids:
            until(lambda: state(pid) in ("", "Z"), "the worker's end")

    # ---- deaths

    def test_killed_worker(self) -> None:
        self.start(3)
        fds = self.fds()
        for turn in range(3):
            victim, others = self.worker(1), {self.worker(0), self.worker(2)}
            os.kill(victim, signal.SIGKILL)
            begun = time.monotonic()
            self.log_has(r"web/1 .* is ready", turn + 2)
            self.assertLess(time.monotonic() - begun, 1.0)
            self.assertTrue(others < set(self.children()))
            self.log_has(
                rf"worker web/1 \(pid {victim}\) was killed by SIGKILL after [\d.]+ s, not sent by the arbiter: "
            )
        self.assertEqual(self.fds(), fds)
        self.stop()

    def test_exits_and_crashes(self) -> None:
        self.start(2)
        self.script("exits", 0)
        os.kill(self.worker(0), signal.SIGKILL)
        self.log_has(r"web/0 \(pid \d+\) exited with status 7 after")
        self.script("crashes", 0)
        self.log_has(r"web/0 \(pid \d+\) was killed by SIGSEGV")
        self.assertNotIn("sent by", self.log_has(r"killed by SIGSEGV")[0])
        self.script("ok", 0)
        until(self.recovered, "recovery")
        self.stop()

    def test_backoff(self) -> None:
        """At once after the first death, then 0.1, 0.2, 0.4 s, less up to a quarter; the other one is left alone."""
        self.script("exits", 0)
        self.start(2, wait=False)
        self.log_has(r"web/1 .* is ready")
        other = self.worker(1)
        self.log_has(r"web/0 started", 6)
        waits = [float(x) for x in re.findall(r"web/0 is started again in ([\d.]+) s", self.log)]
        for got, most in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=False):
            self.assertTrue(most * 0.74 <= got <= most + 0.01, waits)
        self.assertGreaterEqual(len(waits), 4)
        self.assertEqual(self.worker(1), other)
        self.stop()

    def test_grandchild_holds_the_channel(self) -> None:
        self.start(2)
        self.script("leaves-grandchild", 0)
        os.kill(self.worker(0), signal.SIGKILL)
        self.log_has(r"web/0 \(pid \d+\) exited with status 7")
        self.script("ok", 0)
        until(self.recovered, "recovery")
        self.stop()
        for line in subprocess.run(["pgrep", "-x", "sleep"], capture_output=True, text=True).stdout.split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # others end meanwhile
                if str(self.dir).encode() in Path(f"/proc/{line}/environ").read_bytes():
                    os.kill(int(line), signal.SIGKILL)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_orphans_as_process_one(self) -> None:
        """In a container the arbiter is process 1: it reaps strangers, and signals work."""
        self.script("makes-orphans", 0)
        self.start(2, before=("unshare", "-pf", "--kill-child"))
        assert self.process
        (one,) = self.children()
        until(lambda: "none of ours" in self.log, "reaped strangers")
        until(
            lambda: (
                not any(
                    state(int(p)) == "Z" and int(p) != self.worker(0)
                    for p in Path(f"/proc/{one}/task/{one}/children").read_text().split()
                )
            ),
            "no zombies",
        )
        os.kill(one, signal.SIGTERM)
        self.end()

    # ---- time

    def test_silent(self) -> None:
        self.script("silent", 0)
        self.start(2, main="heartbeat_timeout 600ms;")
        other, victim = self.worker(1), self.worker(0)
        self.log_has(
            rf"web/0 \(pid {victim}\) gave no sign of life for [\d.]+ s \(heartbeat_timeout 0.6 s; 0 requests were "
            r"running\): the arbiter sends SIGABRT"
        )
        self.log_has(
            rf"web/0 \(pid {victim}\) was killed by SIGABRT after [\d.]+ s, sent by the arbiter \(gave no sign of life"
        )
        self.script("ok", 0)
        until(lambda: self.worker(0) != victim and self.recovered(), "a new one")
        self.assertEqual(self.worker(1), other)
        self.stop()

    def test_stopped_worker(self) -> None:
        """SIGABRT does not reach a stopped process: SIGKILL follows."""
        self.start(2, main="heartbeat_timeout 600ms;")
        victim = self.worker(0)
        os.kill(victim, signal.SIGSTOP)
        self.log_has(rf"web/0 \(pid {victim}\) was to abort, and did not exit within 2.0 s: the arbiter sends SIGKILL")
        self.log_has(r"web/0 .* is ready", 2)
        self.stop()

    def test_late_arbiter(self) -> None:
        """Stopped for longer than heartbeat_timeout, it blames nobody."""
        self.start(3, main="heartbeat_timeout 800ms;")
        pids = set(self.children())
        self.send(signal.SIGSTOP)
        time.sleep(2)  # the subject of the test is time
        self.send(signal.SIGCONT)
        self.log_has(r"the arbiter was held up for [\d.]+ s: all deadlines are moved")
        time.sleep(1)
        self.assertEqual(set(self.children()), pids)
        self.assertNotIn("no sign of life", self.log)
        self.stop()

    def test_startup_timeout(self) -> None:
        self.script("boot-hangs")
        self.start(1, main="startup_timeout 300ms;", wait=False)
        self.end(3)
        self.log_has(r"could not serve within startup_timeout, 0.3 s: the arbiter sends SIGABRT")

    def test_no_hello(self) -> None:
        self.start(1, main="startup_timeout 300ms;")
        self.script("no-hello")
        os.kill(self.worker(0), signal.SIGKILL)
        self.log_has(r"could not serve within startup_timeout")
        self.script("ok")
        self.log_has(r"is ready", 2)
        self.stop()

    # ---- boot

    def test_boot_failure(self) -> None:
        self.script("boot-fails")
        self.start(3, wait=False)
        self.end(3)
        self.assertEqual(self.log.count("Boom: it does not start"), 1)
        self.assertRegex(
            self.log, r"web/\d \(pid \d+\) could not start:\n    Traceback:\n      File \"app\", line 1\n    Boom: "
        )
        self.log_has(r"no worker of pool web could start: licorne ends")

    def test_boot_failure_with_a_long_text(self) -> None:
        self.script("boot-fails-long")
        self.start(1, wait=False)
        self.end(3)
        self.assertRegex(self.log, r"\n    the beginning\n")
        self.assertRegex(self.log, r"\n    \.\.\. \(cut\) \.\.\.\n")
        self.assertRegex(self.log, r"\n    the end\n")

    def test_boot_crash(self) -> None:
        self.script("boot-crashes")
        self.start(1, wait=False)
        self.end(3)
        self.log_has(r"was killed by SIGSEGV.* after .*, before it could serve")

    def test_boot_failure_is_on_the_terminal_too(self) -> None:
        """With the error log in a file, who started it still sees why it ended."""
        self.script("boot-fails")
        conf = self.dir / "file.conf"
        conf.write_text(f"error_log {self.dir}/error.log;\npool web {{ listen 127.0.0.1:0; worker scripted; }}\n")
        done = subprocess.run(
            [DOUBLE, conf], env={**os.environ, "LC_SCRIPTS": str(self.dir)}, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 3)
        for text in (done.stderr, (self.dir / "error.log").read_text()):
            self.assertIn("Boom: it does not start", text)
            self.assertIn("no worker of pool web could start", text)

    def test_later_boot_failure(self) -> None:
        self.start(2)
        other = self.worker(1)
        self.script("boot-fails", 0)
        os.kill(self.worker(0), signal.SIGKILL)
        self.log_has(r"Boom", 3)
        self.log_has(r"web/0 is started again in 0.[12]\d s")
        self.assertEqual(self.worker(1), other)
        self.script("ok", 0)
        self.log_has(r"web/0 .* is ready", 2)
        self.stop()

    # ---- hostile workers

    def test_hostile(self) -> None:
        words = {
            "garbage": r"broke the rules of its channel: a message of \d+ bytes",
            "early": r"broke the rules of its channel: type 0x0200 before HELLO",
            "role": r"says it is role 1",
            "half": r"left a message unfinished for 5\.\d s",
            "fd": r"broke the rules of its channel: ",
            "unknown": r"broke the rules of its channel: message type 0x7777 is unknown",
            "length": r"broke the rules of its channel: message HEARTBEAT with 1 bytes \(28 to 28 are right\)",
            "again": r"broke the rules of its channel: message READY at the wrong time",
            "orders": r"broke the rules of its channel: message STOP is not its to send",
            "hello-again": r"broke the rules of its channel: HELLO twice",
            "floods": r"sends more than 200 messages per second",
            "close": r"closed its channel, and did not exit within 2.0 s",
        }
        self.start(2)
        other, fds = self.worker(1), self.fds()
        for word, why in words.items():
            with self.subTest(word):
                victim, before = self.worker(0), len(self.log)
                self.script(word, 0)
                os.kill(victim, signal.SIGKILL)
                told = rf"worker web/0 \(pid (\d+)\) {why}.*: the arbiter sends SIGKILL"
                found = until(lambda: re.search(told, self.log[before:]), f"{told}; the log:\n{self.log[before:]}")
                assert found
                self.log_has(
                    rf"web/0 \(pid {found[1]}\) was killed by SIGKILL after [^,]*(, before it could serve)?, sent by"
                )
                self.script("ok", 0)
                until(self.recovered, "a good one")
        self.assertEqual(self.worker(1), other)
        self.assertEqual(self.fds(), fds)
        self.stop()

    # ---- addresses

    def test_address_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
            self.start(1, listen=f"127.0.0.1:{port}", wait=False)
            self.end(1)
            self.assertRegex(
                self.log,
                rf"test.conf:4: cannot listen on 127.0.0.1:{port}: the address is in use by process "
                rf"{os.getpid()} \(",
            )
        with socket.create_server(("0.0.0.0", 0)) as s:  # the wildcard takes it as well
            port = s.getsockname()[1]
            self.start(1, listen=f"127.0.0.1:{port}", wait=False)
            self.end(1)
            self.assertIn(f"in use by process {os.getpid()} (", self.log)
        if socket.has_dualstack_ipv6():
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as s:
                port = s.getsockname()[1]
                self.start(1, listen=f"[::1]:{port}", wait=False)
                self.end(1)
                self.assertIn(f"[::1]:{port}: the address is in use by process {os.getpid()} (", self.log)

    def test_unix_sockets(self) -> None:
        path = self.dir / "sock"
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
            s.listen()
            self.start(1, listen=f"unix:{path}", wait=False)
            self.end(1)
            self.assertIn(f"unix:{path}: the address is in use by process {os.getpid()} (", self.log)
            self.assertTrue(path.is_socket())
        self.start(1, listen=f"unix:{path}")  # left over now
        self.log_has(rf"{path} is left over, nobody listens on it: replaced")
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(str(path))
        path.unlink()
        path.write_text("somebody else's")
        self.stop()
        self.assertEqual(path.read_text(), "somebody else's")
        self.start(1, listen=f"unix:{path}", wait=False)
        self.end(1)
        self.assertIn("a file of that name that is no socket", self.log)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_user(self) -> None:
        self.script("look")
        self.start(1, main="user nobody;")
        nobody = int(subprocess.check_output(["id", "-u", "nobody"]))
        self.log_has(rf"status Uid:\\t{nobody}\\t{nobody}\\t{nobody}\\t{nobody}")
        self.stop()
        self.start(1, main="user no-such-user;", wait=False)
        self.end(1)
        self.assertIn('test.conf:2: user: there is no user "no-such-user" on this machine', self.log)


if __name__ == "__main__":
    unittest.main(verbosity=2)
