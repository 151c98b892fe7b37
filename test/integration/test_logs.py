# SPDX-License-Identifier: BSD-2-Clause
"""Access logs and log files: formats as configured, what has a line, rotation under load, sinks that take nothing."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from client import Client
from conftest import Start
from harness import config, pool, run, until
from load import Load


def lines(path: Path, count: int = 1) -> list[str]:
    """The lines of a log, once there are that many."""

    def look() -> list[str]:
        found = path.read_text().splitlines() if path.exists() else []
        return found if len(found) >= count else []

    return until(look, f"{count} lines in {path.name}")


def raw(client: Client, text: bytes) -> bytes:
    """Send bytes, read to the end."""
    client.send(text)
    return client.rest()


def test_formats(start: Start, tmp_path: Path, worker: str) -> None:
    """Built-in formats, variables, atoms as users of gunicorn have them, several logs at once."""
    main = (
        "log_format own '$remote_addr|$remote_port|$remote_user|$request|$status|$body_bytes_sent|$bytes_sent|'"
        " '$http_x_thing|$sent_http_content_type|$cookie_sid|$host|$scheme|$server_addr|$server_port|$pid|'"
        " '$connection|$connection_requests|$request_length|$uri|$args|$request_completion';\n"
        """log_format unicorn '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s %(p)s';"""
    )
    names = ("combined", "common", "json", "own", "unicorn")
    logs = {name: tmp_path / f"{name}.log" for name in names}
    inside = "".join(f"access_log {path} {name}; " for name, path in logs.items())
    server = start(config(pool(worker, inside=inside), main=main))
    (pid,) = server.workers()
    with server.client() as c:
        port = c.sock.getsockname()[1]
        headers = ('X-Thing: a"b', "Authorization: Basic Ym9iOng=", "Cookie: a=b; sid=42", "User-Agent: t\xe9st")
        first = c.request("/pid", headers=headers)
        c.request("/environ?q=1&%22", headers=("Referer: http://a/",))
    assert first.status == 200
    combined = lines(logs["combined"], 2)
    stamp = r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    assert re.fullmatch(rf'127\.0\.0\.1 - bob {stamp} "GET /pid HTTP/1\.1" 200 \d+ "-" "t\\xe9st"', combined[0])
    assert re.fullmatch(
        rf'127\.0\.0\.1 - - {stamp} "GET /environ\?q=1&%22 HTTP/1\.1" 200 \d+ "http://a/" "-"', combined[1]
    )
    assert lines(logs["common"], 2)[0] + ' "-" "t\\xe9st"' == combined[0]
    record = json.loads(lines(logs["json"], 2)[0])
    assert record["status"] == 200
    assert record["uri"] == "/pid"
    assert record["user_agent"] == "t\xe9st"
    assert record["remote_user"] == "bob"
    assert record["body_bytes_sent"] == len(first.body)
    assert isinstance(record["request_time"], float)
    assert record["pid"] == pid
    own = lines(logs["own"], 2)[0].split("|")
    wire = int(own.pop(6))
    length = int(own.pop(16))
    address, _, listening = server.addresses[0].rpartition(":")
    assert own == [
        "127.0.0.1", str(port), "bob", "GET /pid HTTP/1.1", "200", str(len(first.body)), "a\\x22b",
        first.get("Content-Type"), "42", "test", "http", address, listening, str(pid), "1", "1", "/pid", "-", "OK",
    ]  # fmt: skip
    assert len(first.body) < wire < len(first.body) + 300
    assert length == len("\r\n".join(["GET /pid HTTP/1.1", "Host: test", *headers, "", ""]))
    unicorn = lines(logs["unicorn"], 2)[0]
    assert re.fullmatch(rf'127\.0\.0\.1 - bob {stamp} "GET /pid HTTP/1\.1" 200 \d+ "-" "t\\xe9st" \d+ <{pid}>', unicorn)


def test_hostile_requests(start: Start, tmp_path: Path) -> None:
    """Whatever comes is one line, and every line of the JSON log is JSON."""
    text, structured = tmp_path / "text.log", tmp_path / "json.log"
    server = start(config(pool(inside=f"access_log {text}; access_log {structured} json;")))
    for byte in [*range(1, 10), 11, 12, *range(14, 256)]:
        with server.client() as c:
            raw(c, b'GET /"\\ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: a%cb"\\\r\n\r\n' % byte)
        with server.client() as c:
            raw(c, b"GET /%c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % byte)
    want = 2 * (256 - 3)
    for line in lines(text, want):
        assert re.match(r"127\.0\.0\.1 - - \[", line)
        assert line.isascii() and line.isprintable()
    records = [json.loads(line) for line in lines(structured, want)]
    assert len(records) == len(lines(text, want)) == want
    agents = {r["user_agent"] for r in records if r["status"] != 400}
    assert {f'a{chr(b)}b"\\' for b in range(128, 256)} <= agents


def test_what_was_not_answered_has_a_line(start: Start, tmp_path: Path) -> None:
    """Refusals with the status that the client saw, requests whose client went away with 499."""
    log = tmp_path / "a.log"
    main = "log_format f '$status \"$request\" $request_completion'; limit_request_line 100; limit_request_body 10;"
    server = start(config(pool(inside=f"access_log {log} f;"), main=main))
    with server.client() as c:
        assert raw(c, b"GET /a HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    with server.client() as c:
        assert raw(c, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").startswith(b"HTTP/1.1 400 ")
    with server.client() as c:
        assert raw(c, b"GET /" + b"x" * 200).startswith(b"HTTP/1.1 414 ")
    with server.client() as c:
        assert raw(c, b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    with server.client() as c:
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert raw(c, head + b"5\r\nhello\r\n9\r\n").startswith(b"HTTP/1.1 413 ")
    with server.client() as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    found = lines(log, 6)
    assert found[0] == '400 "GET /a HTTP/1.1" -'
    assert found[1] == '400 "-" -'
    assert re.fullmatch(r'414 "GET /x+ -" -', found[2])
    assert found[3] == '413 "POST /b HTTP/1.1" -'
    assert sorted(found[4:]) == ['413 "POST /echo HTTP/1.1" -', '499 "POST /echo HTTP/1.1" -']


def test_rotation_under_load(start: Start, tmp_path: Path) -> None:
    """Rename and USR1, as logrotate does it, several times: every answer has its line, none twice, none torn."""
    log, errors = tmp_path / "access.log", tmp_path / "error.log"
    text = config(
        pool(processes=2, inside=f"access_log {log} f;"),
        main="log_format f 'begin $pid $connection $connection_requests end';",
    )
    server = start(text.replace("error_log stderr info;", f"error_log {errors} info;"), listeners=0, ready=0)
    until(lambda: errors.exists() and errors.read_text().count("is ready") == 2, "two workers")
    server.addresses = [errors.read_text().split("listening on ")[1].split()[0]]
    server.check_descriptors = lambda: None  # type: ignore[method-assign]
    with Load(server, clients=4) as load:
        for turn in range(5):
            log.rename(tmp_path / f"access.log.{turn}")
            errors.rename(tmp_path / f"error.log.{turn}")
            server.send_signal(signal.SIGUSR1)
            until(log.exists, "the new access log")
            load.go_on()
            until(lambda: log.stat().st_size > 0, "lines in the new access log")
    assert set(load.outcomes) <= {"answered", "ended"}, load.details
    until(lambda: "SIGUSR1: the log files were opened anew" in errors.read_text(), "a line in the new error log")
    assert server.workers()
    server.stop()
    files = [log, *sorted(tmp_path.glob("access.log.*"))]
    assert len(files) == 6
    found = [line for path in files for line in path.read_text().splitlines()]
    assert all(path.read_bytes().endswith(b"\n") for path in files)
    assert all(re.fullmatch(r"begin \d+ \d+ \d+ end", line) for line in found)
    assert len(set(found)) == len(found) == load.answered()
    assert "licorne ends" in errors.read_text(), "the last words are in the newest error log"


def test_children_get_the_new_error_log(start: Start, tmp_path: Path) -> None:
    """What an application prints to its standard error goes to the new file, too."""
    errors = tmp_path / "error.log"
    server = start(config(pool()).replace("error_log stderr info;", f"error_log {errors} info;"), listeners=0, ready=0)
    until(lambda: errors.exists() and "is ready" in errors.read_text(), "a worker")
    server.addresses = [errors.read_text().split("listening on ")[1].split()[0]]
    server.check_descriptors = lambda: None  # type: ignore[method-assign]
    errors.rename(tmp_path / "old")
    server.send_signal(signal.SIGUSR1)
    until(lambda: errors.exists() and "opened anew" in errors.read_text(), "the new error log")
    (pid,) = server.workers()
    until(lambda: os.path.samefile(f"/proc/{pid}/fd/2", errors), "the worker's descriptor 2")
    with server.client() as c:
        assert c.request("/fail").status == 500
    until(lambda: "Trouble: raised before start_response" in errors.read_text(), "the traceback")
    assert "Trouble" not in (tmp_path / "old").read_text()


def test_a_pipe_that_nobody_reads(start: Start, tmp_path: Path, worker: str) -> None:
    """Requests do not wait for a log: lines are dropped, counted, and the worker says so."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = start(
        config(
            pool(worker, inside=f"access_log {fifo} f;"), main="log_format f '$connection_requests " + "x" * 900 + "';"
        )
    )
    server.allow("lines were dropped: its reader is too slow")
    with server.client() as c:
        for _ in range(400):
            assert c.request("/pid").status == 200
    server.wait_log(r"\[warn\] \d+ web/0: access log \S+/fifo: \d+ lines were dropped: its reader is too slow")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        data = b""

        def drained() -> bool:
            nonlocal data
            try:
                data += os.read(reader, 1 << 20)
            except BlockingIOError:
                pass
            return data.count(b"\n") > 100

        until(drained, "the lines that waited")
    finally:
        os.close(reader)
    assert all(re.fullmatch(rb"\d+ x{900}", line) for line in data.splitlines())


def test_standard_output_of_others(start: Start, tmp_path: Path) -> None:
    """A pipe as standard output is not made non-blocking for whoever shares it, and stalls nothing."""
    fifo = tmp_path / "out"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        text = config(pool(inside="access_log - f;"), main="log_format f '$uri " + "x" * 900 + "';")
        server = start(text, before=("sh", "-c", f'exec "$0" "$@" > {fifo}'))
        flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{server.pid}/fdinfo/1").read_text())
        assert flags
        assert not int(flags[1], 8) & os.O_NONBLOCK
        server.allow("access log -: \\d+ lines were dropped")  # at the end it has no reader at all
        with server.client() as c:
            for _ in range(400):
                assert c.request("/pid").status == 200
        server.wait_log("access log -: \\d+ lines were dropped: its reader is too slow")
        assert os.read(reader, 1 << 20).startswith(b"/pid xxx")
    finally:
        os.close(reader)


def test_mistakes(tmp_path: Path) -> None:
    conf = tmp_path / "c.conf"
    conf.write_text(config(pool(inside="access_log a jsn;"), main="log_format f $stats;"))
    done = run("-t", "-c", conf)
    assert done.returncode == 1
    assert f'{conf}:4: log_format: variable "$stats" is not known, did you mean "$status"?' in done.stderr
    assert 'access_log: there is no format "jsn", did you mean "json"?' in done.stderr


def test_mode_of_files(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    server = start(config(pool(inside=f"access_log {log};")))
    umask = os.umask(0)
    os.umask(umask)
    assert log.stat().st_mode & 0o777 == 0o644 & ~umask
    (pid,) = server.workers()
    names = {os.readlink(f"/proc/{pid}/fd/{fd}"): fd for fd in os.listdir(f"/proc/{pid}/fd")}
    flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{names[str(log)]}").read_text())
    assert flags and int(flags[1], 8) & os.O_APPEND
