# SPDX-License-Identifier: BSD-2-Clause
"""Files by the module ``static``: in every kind of worker, by raw requests, httpx and curl."""

from __future__ import annotations

import email.utils
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from client import Broken, Response
from conftest import Start, starter
from harness import Server, config, descriptors, pool, quote, run, until

SECRET = b"this lies outside of every root"
SIZES = {"1k.js": 1024, "64k.css": 65536, "64k1.css": 65537, "10m.bin": 10_000_000, "nothing.txt": 0}
WHEN = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def route(prefix: str, root: Path, inside: str = "") -> str:
    return f"route {quote(prefix)} static {{ root {quote(root)}; {inside} }}"


def routed(worker: str, *routes: str) -> str:
    return config(pool(worker, inside="\n    ".join(routes)), main="load_module static;")


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.utime(path, (WHEN, WHEN))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a root, and with things that are none of it."""
    top = tmp_path_factory.mktemp("site")
    put(top / "secret.txt", SECRET)
    put(top / "root-and-more" / "secret.txt", SECRET)
    root = top / "root"
    for name, size in SIZES.items():
        put(root / name, content(name, size))
    put(root / "index.html", "<h1>top</h1>\n")
    put(root / "dir" / "index.html", "<h1>dir</h1>\n")
    put(root / "dir" / "a b+ä%41.txt", "odd name\n")
    put(root / "public" / "robots.txt", "User-agent: *\n")
    put(root / "public" / "pid" / "x.css", "x {}\n")
    put(root / "zipped.js", "plain")
    put(root / "zipped.js.gz", "gzip, or so")
    (root / "bare").mkdir()
    (root / "inside").symlink_to("dir/index.html")
    (root / "outside").symlink_to("../secret.txt")
    (root / "parent").symlink_to("..")
    (root / "absolute").symlink_to(top / "secret.txt")
    (root / "etc").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(root)  # the whole path may be too long for it
        try:
            sock.bind("socket")
        finally:
            os.chdir(here)
    return top


@pytest.fixture(scope="module")
def server(worker: str, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = site / "root"
    until(lambda: time.time() - (root / "socket").lstat().st_mtime > 3, "files that have settled")
    for make in starter(tmp_path_factory.mktemp(worker)):
        server = make(
            routed(
                worker,
                route("/static/", root, "gzip_static on; expires 1h;"),
                route("/bare", root),
                route("/nolinks/", root, "symlinks off;"),
                route("/follow/", root, "symlinks follow;"),
                route("/app/", root, "fallback /index.html;"),
                route("/folder/", root, "fallback /dir;"),
                route("/", root / "public", "fallback on;"),
            )
        )
        server.allow("is a symbolic link, or lies behind one")
        yield server


# ---- contents


@pytest.mark.parametrize("name", SIZES)
def test_files_whole_and_in_parts(server: Server, name: str) -> None:
    data = content(name, SIZES[name])
    with server.client() as c:
        for _ in range(3):  # from the disk, and from the cache
            answer = c.request(f"/static/{name}")
            assert answer.status == 200
            assert answer.body == data
            assert answer.get("Content-Length") == str(len(data))
            assert answer.get("Last-Modified") == DATE
            assert answer.get("Accept-Ranges") == "bytes"
            assert answer.get("Cache-Control") == "max-age=3600"
            head = c.request(f"/static/{name}", "HEAD")
            skip = ("Date",)
            assert [h for h in head.headers if h[0] not in skip] == [h for h in answer.headers if h[0] not in skip]
            for first, last in ((0, 0), (1, 999), (500, None), (None, 24), (65535, 65536), (0, 99_999_999)):
                part = c.request(
                    f"/static/{name}",
                    headers=(f"Range: bytes={'' if first is None else first}-{'' if last is None else last}",),
                )
                want = data[-last:] if first is None and last else data[first : None if last is None else last + 1]
                if first is None and not data:  # all of nothing
                    assert (part.status, part.body) == (200, b"")
                elif not want:
                    assert part.status == 416
                    assert part.get("Content-Range") == f"bytes */{len(data)}"
                else:
                    start = len(data) - len(want) if first is None else first
                    assert part.status == 206
                    assert part.get("Content-Range") == f"bytes {start}-{start + len(want) - 1}/{len(data)}"
                    assert part.body == want
            several = c.request(f"/static/{name}", headers=("Range: bytes=0-1, 5-9",))
            assert (several.status, several.body) == (200, data)


def test_many_in_one_write(server: Server) -> None:
    names = [name for _ in range(5) for name in SIZES if name != "10m.bin"] + ["10m.bin", "1k.js"]
    with server.client() as c:
        c.send("".join(f"GET /static/{name} HTTP/1.1\r\nHost: test\r\n\r\n" for name in names))
        for name in names:
            assert c.response().body == content(name, SIZES[name]), name


def test_a_reader_who_takes_its_time(server: Server) -> None:
    """A full socket again and again, other requests in between."""
    data = content("10m.bin", SIZES["10m.bin"])
    with server.client() as slow, server.client() as other:
        slow.send("GET /static/10m.bin HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = slow.head()
        assert answer.get("Content-Length") == str(len(data))
        for at in range(0, len(data), 500_000):
            assert slow.exactly(500_000) == data[at : at + 500_000]
            assert other.request("/static/1k.js").body == content("1k.js", 1024)


def test_conditions(server: Server) -> None:
    with server.client() as c:

        def status(*headers: str, method: str = "GET") -> int:
            answer = c.request("/static/1k.js", method, headers)
            if answer.status == 304:
                assert answer.get("ETag") == tag
                assert answer.get("Cache-Control") == "max-age=3600"
                assert answer.get("Content-Type") is None
            return answer.status

        tag = c.request("/static/1k.js").get("ETag")
        assert tag is not None
        assert tag.startswith('"')
        assert status(f"If-None-Match: {tag}") == 304
        assert status(f"If-None-Match: W/{tag}") == 304
        assert status(f'If-None-Match: "x", {tag}', method="HEAD") == 304
        assert status('If-None-Match: "x"', f"If-None-Match: {tag}") == 304
        assert status("If-None-Match: *") == 304
        assert status('If-None-Match: "x"', f"If-Modified-Since: {DATE}") == 200
        assert status(f"If-Modified-Since: {DATE}") == 304
        assert status("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT") == 304
        assert status("If-Modified-Since: Sun Nov  6 08:49:37 1994") == 304
        assert status("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT") == 200
        assert status("If-Modified-Since: soon") == 200
        assert status(f"If-Unmodified-Since: {DATE}") == 200
        assert status("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT") == 412
        assert status(f"If-Match: {tag}") == 200
        assert status(f"If-Match: W/{tag}") == 412
        assert status('If-Match: "x"', f"If-None-Match: {tag}") == 412
        assert status("Range: bytes=0-0", f"If-Range: {tag}") == 206
        assert status("Range: bytes=0-0", f"If-Range: {DATE}") == 206
        assert status("Range: bytes=0-0", 'If-Range: "x"') == 200
        assert status("Range: bytes=0-0", f"If-None-Match: {tag}") == 304


def test_encodings(server: Server) -> None:
    with server.client() as c:
        plain = c.request("/static/zipped.js")
        zipped = c.request("/static/zipped.js", headers=("Accept-Encoding: gzip",))
        refused = c.request("/static/zipped.js", headers=("Accept-Encoding: gzip;q=0",))
    assert [r.body for r in (plain, zipped, refused)] == [b"plain", b"gzip, or so", b"plain"]
    assert [r.get("Vary") for r in (plain, zipped, refused)] == ["Accept-Encoding"] * 3
    assert [r.get("Content-Encoding") for r in (plain, zipped, refused)] == [None, "gzip", None]
    assert zipped.get("ETag") != plain.get("ETag")
    assert zipped.get("Content-Type") == "text/javascript; charset=utf-8"


# ---- directories, methods, the application


def test_directories(server: Server) -> None:
    with server.client() as c:
        assert c.request("/static/dir/").text == "<h1>dir</h1>\n"
        answer = c.request("/static/dir?a=1&b=//evil")
        assert (answer.status, answer.get("Location")) == (301, "/static/dir/?a=1&b=//evil")
        answer = c.request("//static///dir//../dir")
        assert (answer.status, answer.get("Location")) == (301, "/static/dir/")
        assert c.request("/static/bare/").status == 403
        assert c.request("/bare/dir/").text == "<h1>dir</h1>\n"
        answer = c.request("/bare")
        assert (answer.status, answer.get("Location")) == (301, "/bare/")
        assert c.request("/static/dir/a%20b+%C3%A4%2541.txt").text == "odd name\n"
        assert c.request("/static/dir/a%20b+%C3%A4%41.txt").status == 404


def test_a_redirect_never_leads_elsewhere(start: Start, worker: str, site: Path, tmp_path: Path) -> None:
    for name in ("evil.example", "\\evil.example", "@evil.example", "evil.example:80", "a\nb"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    server = start(routed(worker, route("/", tmp_path / "tree")))
    for target in (
        "//evil.example",
        "///evil.example",
        "/%2fevil.example",
        "/./evil.example",
        "/x/..//evil.example",
        "/\\evil.example",
        "/%5cevil.example",
        "/@evil.example",
        "/evil.example:80",
        "/a%0ab",
    ):
        with server.client() as c:
            answer = c.request(target)
        if answer.status == 301:
            where = answer.get("Location") or ""
            assert where[0] == "/", target
            assert where[1] not in "/\\\t", target
        else:
            assert answer.status in (400, 404), target


def test_methods_and_the_application(server: Server) -> None:
    with server.client() as c:
        answer = c.request("/static/1k.js", "POST", body=b"x" * 100)
        assert (answer.status, answer.get("Allow")) == (405, "GET, HEAD, OPTIONS")
        answer = c.request("/static/1k.js", "OPTIONS")
        assert (answer.status, answer.get("Allow"), answer.body) == (204, "GET, HEAD, OPTIONS", b"")
        assert c.request("/robots.txt").text == "User-agent: *\n"
        # what is not there is the application's, and so is every other method
        assert c.request("/pid").status == 200
        assert c.request("/robots.txt", "POST", body=b"x").text == "no such path\n"
        assert c.request("/nothing-here").text == "no such path\n"
        # a folder of files hides no page
        assert c.request("/pid").status == 200
        assert c.request("/pid/x.css").text == "x {}\n"
        # an application in the browser
        assert c.request("/app/users/7").text == "<h1>top</h1>\n"
        assert c.request("/app/1k.js").body == content("1k.js", 1024)
        assert c.request("/static/gone.js").status == 404
        # a directory is no fallback: to redirect there would lead back here
        assert c.request("/folder/users/7").status == 404


# ---- what must not be served


def escapes() -> list[str]:
    """Targets that try to leave the root, or to name something in it that is no file."""
    up = ["..", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "..%00", "%c0%ae%c0%ae", "%uff0e%uff0e", "....", "..;"]
    slash = ["/", "%2f", "%2F", "%5c", "\\", "%252f", "%c0%af", "//", "/./"]
    found = [
        f"/{prefix}{u}{s}secret.txt"
        for prefix in ("static/", "static/dir/", "bare", "bare/", "follow/", "")
        for u in up
        for s in slash
    ]
    found += [f"/static/{u}{s}{u}{s}etc{s}passwd" for u in up for s in slash]
    found += [
        "/static/outside",
        "/static/parent/secret.txt",
        "/static/absolute",
        "/static/etc/passwd",
        "/static//etc/passwd",
        "/static///secret.txt",
        "/static/%2fetc%2fpasswd",
        "/static/1k.js/../../../secret.txt",
        "/static/dir/index.html/../../../secret.txt",
        "/static/../root-and-more/secret.txt",
        "/static/%2e%2e-and-more/secret.txt",
        "/bare-and-more/secret.txt",
        "/bare/../static/../../secret.txt",
        "/static/file:///etc/passwd",
        "/nolinks/inside",
        "/nolinks/outside",
        "/static/fifo",
        "/static/socket",
        "/static/" + "x" * 300,
        "/static/" + "x/" * 1500,
        "/static/secret.txt%00.js",
        "/static/1k.js%00",
        "/static/1k.js%20",
        "/static/1k.js/",
        "/static/1k.js/.",
        "/static/1K.JS",
    ]
    return found


def test_nothing_leaves_the_root(server: Server) -> None:
    targets = escapes()
    assert len(targets) > 500
    for target in targets:
        with server.client() as c:
            answer = c.request(target)
        assert answer.status in (400, 403, 404, 301) or answer.text == "no such path\n", (target, answer)
        assert SECRET not in answer.body, target
        assert b"root:" not in answer.body, target
        if answer.status == 301:
            assert (answer.get("Location") or "").startswith(("/static/", "/bare/")), target
    with server.client() as c:  # and links where they are allowed
        assert c.request("/static/inside").text == "<h1>dir</h1>\n"
        assert c.request("/follow/outside").body == SECRET
        assert c.request("/static/fifo").status == 404, "nobody waits for a writer"


# ---- changes


def test_a_change_shows(start: Start, worker: str, tmp_path: Path) -> None:
    small, large = put(tmp_path / "www" / "small", "one"), put(tmp_path / "www" / "large", b"1" * 300_000)
    server = start(routed(worker, route("/", tmp_path / "www", "cache_valid 100ms;")))

    def get(path: str) -> Response:
        with server.client() as c:
            return c.request(path)

    assert get("/small").text == "one"
    assert get("/large").body == b"1" * 300_000
    assert get("/new").status == 404
    put(tmp_path / "two", "two").replace(small)
    put(tmp_path / "twos", b"2" * 300_000).replace(large)
    put(tmp_path / "www" / "new", "new")
    until(lambda: get("/small").text == "two", "the file that replaced another")
    until(lambda: get("/large").body == b"2" * 300_000, "the large file that replaced another")
    until(lambda: get("/new").status == 200, "the file that was added")
    small.write_text("six")  # in place, of the same length
    until(lambda: get("/small").text == "six", "the file that was written again")
    small.unlink()
    until(lambda: get("/small").status == 404, "the end of the file that was removed")
    until(lambda: str(get("/large").get("ETag")).startswith('"'), "a strong validator, as the file has settled")


def test_replaced_while_it_is_served(start: Start, worker: str, tmp_path: Path) -> None:
    old, new = b"old " * 5_000_000, b"new!" * 5_000_000
    path = put(tmp_path / "www" / "file", old)
    server = start(routed(worker, route("/", tmp_path / "www", "cache_valid 0s;")))
    with server.client() as c:
        c.send("GET /file HTTP/1.1\r\nHost: test\r\n\r\n")
        assert c.head().get("Content-Length") == str(len(old))
        assert c.exactly(1000) == old[:1000]
        put(tmp_path / "other", new).replace(path)
        with server.client() as second:
            assert second.request("/file").body == new
        assert c.exactly(len(old) - 1000) == old[1000:]


def test_truncated_while_it_is_served(start: Start, worker: str, tmp_path: Path) -> None:
    """Nothing can make up for the bytes that are gone: the response ends early, and visibly so."""
    path = put(tmp_path / "www" / "file", b"x" * 20_000_000)
    put(tmp_path / "www" / "other", "other")
    server = start(routed(worker, route("/", tmp_path / "www")))
    server.allow(r"the file \S+/file has become \d+ bytes shorter")
    with server.client() as c:
        c.send("GET /file HTTP/1.1\r\nHost: test\r\n\r\n")
        length = int(c.head().get("Content-Length") or 0)
        assert length == 20_000_000
        c.exactly(1000)
        os.truncate(path, 1_000_000)
        with pytest.raises((Broken, ConnectionResetError)):
            c.exactly(length - 1000)
    server.wait_log("bytes shorter")
    with server.client() as c:
        assert c.request("/other").text == "other"
        assert c.request("/file").body == b"x" * 1_000_000


# ---- bounds


def test_descriptors_are_bounded(start: Start, worker: str, tmp_path: Path) -> None:
    www = tmp_path / "www"
    for k in range(30):
        put(www / f"large{k}", b"x" * 100_000)
    server = start(routed(worker, route("/", www, "cache_descriptors 4;")))

    def held() -> int:
        (process,) = server.workers()
        return sum(name.startswith(str(www)) for name in descriptors(process).values())

    before = held()
    with server.client() as c:
        for _ in range(2):
            for k in range(30):
                assert len(c.request(f"/large{k}").body) == 100_000
    assert before == 1, "the root"
    until(lambda: held() <= 5, "no more descriptors than are kept")
    # clients who go away in the middle leave nothing behind
    for k in range(30):
        with server.client() as c:
            c.send(f"GET /large{k} HTTP/1.1\r\nHost: test\r\n\r\n" * 20)
            c.head()
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: held() <= 5, "no more descriptors than are kept")


def test_stops_when_files_are_sent(start: Start, worker: str, tmp_path: Path) -> None:
    put(tmp_path / "www" / "file", b"x" * 20_000_000)
    server = start(routed(worker, route("/", tmp_path / "www")))
    with server.client() as c:
        c.send("GET /file HTTP/1.1\r\nHost: test\r\n\r\n")
        c.head()
        server.send_signal(signal.SIGTERM)
        server.wait_log("stopping|draining|SIGTERM|TERM")
        assert len(c.exactly(20_000_000)) == 20_000_000
    server.wait()


# ---- other clients


def test_httpx(server: Server) -> None:
    with httpx.Client(base_url=server.url("")) as c:
        first = c.get("/static/1k.js")
        assert first.content == content("1k.js", 1024)
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        changed = email.utils.parsedate_to_datetime(first.headers["last-modified"])
        assert changed.timestamp() == WHEN
        assert c.get("/static/1k.js", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
        assert c.head("/static/10m.bin").headers["content-length"] == "10000000"
        assert c.get("/static/dir", follow_redirects=True).text == "<h1>dir</h1>\n"
        assert c.get("/static/zipped.js", headers={"Accept-Encoding": "identity"}).text == "plain"


def test_curl(server: Server, tmp_path: Path) -> None:
    def curl(*args: str | Path) -> bytes:
        done = subprocess.run(["curl", "-sS", "--max-time", "100", *args], check=True, capture_output=True)
        return done.stdout

    data = content("10m.bin", 10_000_000)
    assert curl(server.url("/static/10m.bin")) == data
    assert curl("-r", "1000-1999", server.url("/static/10m.bin")) == data[1000:2000]
    part = tmp_path / "part"
    part.write_bytes(data[:4_000_000])
    curl("-C", "-", "-o", part, server.url("/static/10m.bin"))  # go on where it broke off
    assert part.read_bytes() == data
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    assert curl(*code, "-z", DATE, server.url("/static/1k.js")) == b"304"
    tag = tmp_path / "tag"
    assert curl(*code, "--etag-save", tag, server.url("/static/1k.js")) == b"200"
    assert curl(*code, "--etag-compare", tag, server.url("/static/1k.js")) == b"304"
    assert curl(*code, "-I", server.url("/static/10m.bin")) == b"200"
    assert curl(*code, "--path-as-is", server.url("/static/../../secret.txt")) == b"400"


# ---- configuration


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("expires soon;", '"soon" is no time'),
        ("fallback maybe;", '"maybe" is none, expected on, off or a file'),
        ("index ../x;", '"../x" is no file name'),
        ("types text x;", '"text" is no media type'),
        ("symlinks yes;", "symlinks"),
        ("add_header Content-Length 5;", '"Content-Length" cannot be set'),
        ("cache_size lots;", "cache_size"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, inside: str, message: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(routed("wsgi", route("/", tmp_path, inside)))
    ended = run("-t", "-c", conf)
    assert ended.returncode == 1, ended.stderr
    assert message in ended.stderr
    where = next(n for n, text in enumerate(conf.read_text().splitlines(), 1) if inside in text)
    assert f"{conf}:{where}: " in ended.stderr


def test_no_root(tmp_path: Path, worker: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool(worker, inside="route / static;"), main="load_module static;"))
    ended = run("-t", "-c", conf)
    assert ended.returncode == 1
    assert "root" in ended.stderr
    (tmp_path / "file").touch()
    for root in ("gone", "file", "file/gone"):
        conf.write_text(routed(worker, route("/", tmp_path / root)))
        for args in (["-t"], []):
            ended = run(*args, "-c", conf)
            assert ended.returncode == 1, ended.stderr
            assert re.search(rf':\d+: "{tmp_path}/{root}" is no directory, expected one that is there', ended.stderr)
