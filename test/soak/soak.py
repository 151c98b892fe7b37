# SPDX-License-Identifier: BSD-2-Clause
"""Load for a while, with kill -9, TTIN and TTOU now and then; then memory, descriptors and answers are looked at.

Two phases on one server: churn (workers die, connections come and go), and calm, in which no process dies and the
memory of each worker must stay where it was.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Server, config, descriptors, memory, pool, until
from load import Load

GROWTH = 2 << 20


def mixed(server: Server, over: threading.Event, wrong: list[str]) -> None:
    """Bodies, streams, errors, clients that leave: all that allocates."""
    rng = random.Random(threading.get_native_id())
    while not over.is_set():
        try:
            with server.client() as c:
                for _ in range(rng.randrange(1, 30)):
                    kind = rng.randrange(6)
                    if kind == 0:
                        body = rng.randbytes(rng.randrange(1, 200000))
                        if c.request("/echo", method="POST", body=body).body != body:
                            wrong.append("echo")
                    elif kind == 1:
                        c.request(f"/big?n={rng.randrange(1, 500000)}&chunk={rng.randrange(1, 70000)}")
                    elif kind == 2:
                        c.request("/fail")
                    elif kind == 3:
                        c.send("GET /big?n=3000000 HTTP/1.1\r\nHost: x\r\n\r\n")
                        c.sock.recv(1000)
                        break  # leaves in the middle
                    elif kind == 4:
                        c.request("/environ", headers=tuple(f"X-{i}: {rng.random()}" for i in range(rng.randrange(60))))
                    else:
                        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 16)
                        for _ in range(16):
                            c.response()
        except Exception as error:
            # deaths of workers cut connections; a refused connection would mean a lost listener
            if isinstance(error, ConnectionRefusedError):
                wrong.append(repr(error))


@contextmanager
def explained(server: Server) -> Iterator[None]:
    """Says what there is to see when it stalls."""
    try:
        yield
    except AssertionError:
        explain(server)
        if os.environ.get("SOAK_KEEP"):
            print(f"arbiter {server.pid} is left as it is")
            os._exit(1)
        server.kill()
        raise


def explain(server: Server) -> None:
    for pid in server.workers():
        tasks = Path(f"/proc/{pid}/task").iterdir()
        print(f"process {pid}:", *((t / "wchan").read_text() for t in tasks))
        print("  descriptors:", len(descriptors(pid)), "state:", Path(f"/proc/{pid}/stat").read_text().split()[2])
    print("the end of the log:", *server.log.splitlines()[-60:], sep="\n")


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(folder),
            config(pool(processes=2, inside="respawn_delay 10ms 200ms;"), main="graceful_timeout 5s;"),
            # large blocks by mmap: what is looked for is what is kept, not the holes of malloc's heap
            env={"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"},
            ready=2,
        )
        server.allow(r".")
        over = threading.Event()
        threads = [threading.Thread(target=mixed, args=(server, over, wrong), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        seed = int(time.time())
        rng = random.Random(seed)
        print(f"seed {seed}", flush=True)
        kills = 0
        with Load(server, clients=4) as load, explained(server):
            end = time.monotonic() + seconds / 2
            while time.monotonic() < end:
                workers = server.workers()
                if workers and rng.randrange(3) == 0:
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    kills += 1
                else:
                    server.send_signal(signal.SIGTTIN if len(workers) < rng.randrange(2, 7) else signal.SIGTTOU)
                load.go_on(500)

            def shrunk() -> bool:
                server.send_signal(signal.SIGTTOU)  # one at a time: signals of a kind do not add up
                time.sleep(0.1)
                return len(server.workers()) == 1

            until(shrunk, "one worker")
            server.send_signal(signal.SIGTTIN)
            until(lambda: len(server.workers()) == 2, "two workers")
            time.sleep(seconds / 8)  # caches fill
            before = {pid: memory(pid) for pid in server.workers()}
            arbiter = memory(server.pid)
            time.sleep(seconds * 3 / 8)
        over.set()
        for thread in threads:
            thread.join()
        after = {pid: memory(pid) for pid in server.workers()}
        outcomes = dict(load.outcomes)
        for pid in before:
            growth = after.get(pid, 0) - before[pid]
            print(f"worker {pid}: memory {before[pid] >> 10} kB + {growth >> 10} kB")
            if pid not in after:
                wrong.append(f"worker {pid} died by itself")
            elif growth > GROWTH:
                wrong.append(f"worker {pid} grew by {growth} bytes")
        print(f"arbiter: memory {arbiter >> 10} kB + {(memory(server.pid) - arbiter) >> 10} kB")
        print(f"{outcomes}, {kills} kills")
        until(lambda: len(descriptors(server.pid)) == len(server.fds), "the arbiter's descriptors as before")
        if outcomes.get("refused"):
            wrong.append(f"{outcomes['refused']} connections refused")
        server.stop()
    for line in sorted(set(wrong)):
        print(f"wrong: {line} ({wrong.count(line)} times)")
    print(f"{0 if wrong else 1} passed, {1 if wrong else 0} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
