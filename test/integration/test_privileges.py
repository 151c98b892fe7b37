# SPDX-License-Identifier: BSD-2-Clause
"""Who the processes are and what they hold: identity, no_new_privs, descriptors, memory of the arbiter's secrets."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import stat
import subprocess
from pathlib import Path

from conftest import Start, as_root
from harness import BINARY, BUILD, Server, config, descriptors, environment, pool, run, until

# A home of root that only root may enter would keep other users from Python: then each folder on the way to what the
# worker needs is made enterable, in a mount namespace of the server's own.
OPEN_UP = r"""
set -e
# mounts below are ours alone, also where the namespace could not be made private as a whole
own() { mount --bind "$1" "$1"; mount --make-rprivate "$1"; }
for path in "$1" "$2" "$3"; do
	while [ "$path" != / ]; do
		path=$(dirname "$path")
		if [ $((0$(stat -c %a "$path") & 1)) = 0 ]; then closed=$path; fi
	done
	if [ -n "${closed-}" ] && [ "$closed" = /root ]; then
		keep=$(mktemp -d)
		own "$keep"
		own /root
		mount --rbind /root "$keep"
		mount -t tmpfs -o mode=755 licorne-test /root
		for entry in "$keep"/.[!.]* "$keep"/*; do
			[ -d "$entry" ] || continue
			mkdir "/root/${entry##*/}"
			mount --rbind "$entry" "/root/${entry##*/}"
		done
		closed=
	fi
done
shift 3
exec "$@"
"""


def as_other(start: Start, text: str, **kw: object) -> Server:
    """Start where another user can reach the Python library, the applications and the build."""
    ldd = subprocess.run(["ldd", BUILD / "wsgi.so"], capture_output=True, text=True, check=True)
    library = re.search(r"=> (\S*libpython\S+)", ldd.stdout)
    python = library[1] if library else "/usr/lib/none"
    needed = [python, str(BINARY), str(Path(__file__))]
    closed = [p for path in needed for p in Path(path).parents if not p.stat().st_mode & stat.S_IXOTH]
    # in a chroot whose root is no mount point, the namespace as a whole cannot be made private
    private = subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode == 0
    unshare = ["unshare", "-m", "--propagation", "private" if private else "unchanged"]
    before = [*unshare, "sh", "-c", OPEN_UP, "sh", *needed] if closed else []
    return start(text, before=before, **kw)


def process(server: Server) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(server.get("/process"))
    return found


@as_root
def test_children_drop_privileges(start: Start, worker: str) -> None:
    server = as_other(start, config(pool(worker), main="user nobody;"))
    nobody = pwd.getpwnam("nobody")
    status = process(server)["status"]
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert status["Groups"].split() in ([], [str(nobody.pw_gid)])
    assert status["NoNewPrivs"].strip() == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    arbiter = Path(f"/proc/{server.pid}/status").read_text()
    assert re.search(r"^Uid:\t0\t0", arbiter, re.M)


@as_root
def test_group(start: Start) -> None:
    server = as_other(start, config(pool(), main="user nobody; group daemon;"))
    status = process(server)["status"]
    assert status["Gid"].split() == [str(grp.getgrnam("daemon").gr_gid)] * 4
    assert status["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)


@as_root
def test_low_port_and_private_log(start: Start, tmp_path: Path) -> None:
    """The arbiter binds and opens what only root may; the worker writes through what it was given."""
    log = tmp_path / "access.log"
    server = as_other(start, config(pool(inside=f"access_log {log};"), main="user nobody;"))
    server.get("/pid")
    until(lambda: "GET /pid" in log.read_text(), "the line")
    assert log.stat().st_uid == 0


@as_root
def test_unknown_user(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool(), main="user no-such-user;"))
    done = run("-c", path)
    assert done.returncode == 1
    assert "no-such-user" in done.stderr


def test_no_new_privs(start: Start, worker: str) -> None:
    """Also when nobody changes the user."""
    server = start(config(pool(worker)))
    status = process(server)["status"]
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Uid"].split() == [str(os.getuid())] * 4


def test_descriptors_of_a_worker(start: Start, worker: str) -> None:
    """0, 1, 2, the channel on 3, the listener, the loop's own, the recorder, the connection that asks: no more."""
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        server = start(config(pool(worker)))
    finally:
        os.close(leak)
    facts = process(server)
    fds = facts["fds"]
    assert {"0", "1", "2", "3"} <= set(fds)
    assert fds["3"].startswith("socket:")
    rest = {n: target for n, target in fds.items() if int(n) > 3}
    kinds = [re.sub(r":\[.*", "", target) for target in rest.values()]
    recorders = [n for n, target in rest.items() if "memfd:licorne-flight" in target]
    assert len(recorders) == 1, fds
    assert kinds.count("socket") == 2, fds
    assert all(k in ("socket", "anon_inode") for n, k in zip(rest, kinds, strict=True) if n not in recorders), fds
    assert len(rest) <= 7, fds


def test_descriptors_of_the_arbiter(start: Start) -> None:
    """One channel and one handle per child; listeners once."""
    server = start(config(pool(processes=3, listen=["127.0.0.1:0", "[::1]:0"])), listeners=2, ready=3)
    fds = descriptors(server.pid)
    sockets = [t for t in fds.values() if t.startswith("socket:")]
    assert len(sockets) == 2 + 3, fds
    assert len(fds) <= 3 + 5 + 3 + 6, fds


def test_environment_of_a_worker(start: Start) -> None:
    """It keeps the environment that the server was given: applications are configured by it."""
    server = start(config(pool()), env={"LCTEST_VALUE": "kept"})
    assert process(server)["env"]["LCTEST_VALUE"] == "kept"
    assert "LCTEST_VALUE" not in environment()
