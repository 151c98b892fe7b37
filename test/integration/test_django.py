# SPDX-License-Identifier: BSD-2-Clause
"""Django by `app mysite.wsgi`: the admin with its forms and styles, streaming, a large upload, a file, errors."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Start, starter
from harness import APPS, VENV, Server, config, pool, quote

SITE = APPS / "djangosite"
SIZE = 50 << 20
BLOCK = bytes(range(256)) * 256
PASSWORD = "only for the test"
CREATE = """
from django.contrib.auth.models import User
User.objects.create_superuser("root", "root@example.org", "only for the test")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one user, collected static files, a file to send."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "download.bin").write_bytes(BLOCK * 40)
    env = {**os.environ, "MYSITE_HOME": str(folder), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    for args in (["migrate", "-v0"], ["collectstatic", "-v0", "--noinput"], ["shell", "-v0", "-c", CREATE]):
        command: list[str | Path] = [VENV / "bin" / "python", "-m", "django", *args]
        done = subprocess.run(command, cwd=SITE, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def block(home: Path, static: bool = True) -> str:
    env = f"env MYSITE_HOME {quote(home)}; "
    return f"venv {quote(VENV)}; {env}" + ("env MYSITE_STATIC application;" if static else "")


@pytest.fixture(scope="module")
def django(worker: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for start in starter(tmp_path_factory.mktemp("django")):
        yield start(config(pool(worker, app="mysite.wsgi", chdir=SITE, block=block(home))))


@pytest.fixture
def client(django: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=django.url(""), timeout=120, follow_redirects=True) as c:
        yield c


def token(page: httpx.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def log_in(client: httpx.Client) -> httpx.Response:
    page = client.get("/admin/")
    assert page.url.path == "/admin/login/"
    form = {"username": "root", "password": PASSWORD, "next": "/admin/", "csrfmiddlewaretoken": token(page)}
    return client.post("/admin/login/", data=form, headers={"Referer": str(page.url)})


def test_home(client: httpx.Client, django: Server) -> None:
    assert client.get("/").text == f"Hello from {django.url('/')}\n"


def test_admin_login_and_forms(client: httpx.Client, worker: str) -> None:
    page = log_in(client)
    assert [r.status_code for r in page.history] == [302]
    assert "Site administration" in page.text
    page = client.get("/admin/auth/group/add/")
    form = {"name": f"grüße & co, {worker}", "csrfmiddlewaretoken": token(page), "_save": "Save"}
    page = client.post("/admin/auth/group/add/", data=form)
    assert page.url.path == "/admin/auth/group/"
    assert "grüße &amp; co" in page.text
    page = client.post("/admin/logout/", data={"csrfmiddlewaretoken": token(page)})
    assert "Logged out" in page.text
    assert client.get("/admin/").url.path == "/admin/login/"
    rows = re.findall("grüße", page.text)
    assert not rows


def test_csrf_is_refused_without_token(client: httpx.Client, django: Server) -> None:
    django.allow(r"django\.security\.csrf|Forbidden")
    assert client.post("/admin/login/", data={"username": "root", "password": PASSWORD}).status_code == 403


def assert_styled(client: httpx.Client, home: Path) -> None:
    """Every style sheet and script that the admin's first page names is there, byte by byte, with its type."""
    page = log_in(client)
    names = re.findall(r'(?:href|src)="(/static/[^"?]+)', page.text)
    assert len([n for n in names if n.endswith(".css")]) >= 4
    assert [n for n in names if n.endswith(".js")]
    for name in names:
        got = client.get(name)
        assert got.status_code == 200, name
        assert got.content == (home / name.lstrip("/")).read_bytes(), name
        kind = "text/css" if name.endswith(".css") else "javascript"
        assert kind in got.headers["content-type"]
    assert client.get("/static/nothing.css").status_code == 404
    again = client.get(names[0], headers={"If-Modified-Since": client.get(names[0]).headers["last-modified"]})
    assert again.status_code == 304
    assert again.content == b""


def test_admin_is_styled_by_the_applications_own_static_files(client: httpx.Client, home: Path, django: Server) -> None:
    django.allow(r"Not Found: /static/nothing\.css")
    assert_styled(client, home)


def test_admin_is_styled_by_the_static_handler(start: Start, worker: str, home: Path) -> None:
    """As a site is deployed: `collectstatic`, and one line in the pool.  No request for a style reaches Django."""
    route = f"route /static/ static {{ root {quote(home / 'static')}; }}"
    text = pool(worker, app="mysite.wsgi", chdir=SITE, block=block(home, static=False), inside=route)
    server = start(config(text, main="load_module static;"))
    with httpx.Client(base_url=server.url(""), timeout=120, follow_redirects=True) as client:
        assert_styled(client, home)
    assert "Not Found" not in server.log


def test_streaming(client: httpx.Client) -> None:
    with client.stream("GET", "/stream/") as answer:
        assert answer.status_code == 200
        assert answer.headers["transfer-encoding"] == "chunked"
        text = "".join(answer.iter_text())
    assert text == "".join(f"line {i}\n" for i in range(1000))


def test_upload_of_fifty_megabytes(client: httpx.Client, tmp_path: Path) -> None:
    data = tmp_path / "fifty"
    with data.open("wb") as f:
        for _ in range(SIZE // len(BLOCK)):
            f.write(BLOCK)
    with data.open("rb") as f:
        got = client.post("/upload/", files={"file": ("fünfzig.bin", f)}, data={"note": "größer"}).json()
    assert got == {
        "name": "fünfzig.bin",
        "size": SIZE,
        "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "note": "größer",
    }


def test_file_response(client: httpx.Client, home: Path) -> None:
    got = client.get("/download/")
    assert got.headers["content-disposition"] == 'attachment; filename="download.bin"'
    assert int(got.headers["content-length"]) == len(BLOCK) * 40
    assert got.content == (home / "download.bin").read_bytes()
    assert client.head("/download/").headers["content-length"] == str(len(BLOCK) * 40)


def test_failing_view_is_in_the_error_log(client: httpx.Client, django: Server) -> None:
    """Django's own logging mails it to nobody and prints nothing, without DEBUG: the root handler has it."""
    django.allow(r"django\.request: Internal Server Error: /fail/")
    assert client.get("/fail/").status_code == 500
    django.wait_log(r"\[error\] .*django\.request: Internal Server Error: /fail/\n    Traceback")
    django.wait_log(r"    LookupError: the view failed")


def test_mounted_under_a_prefix(start: Start, home: Path, worker: str) -> None:
    """SCRIPT_NAME: links, redirects and forms of the admin carry it."""
    text = block(home) + " script_name /below/here;"
    server = start(config(pool(worker, app="mysite.wsgi", chdir=SITE, block=text)))
    with httpx.Client(base_url=server.url(""), timeout=120, follow_redirects=True) as client:
        assert client.get("/").status_code == 404
        assert client.get("/below/hereafter/").status_code == 404
        assert client.get("/below/here/").text == f"Hello from {server.url('/below/here/')}\n"
        page = client.get("/below/here/admin/")
        assert page.url.path == "/below/here/admin/login/"
        assert '<a href="/below/here/admin/">' in page.text
        form = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token(page)}
        page = client.post("/below/here/admin/login/?next=/below/here/admin/", data=form)
        assert "Site administration" in page.text
