# SPDX-License-Identifier: BSD-2-Clause
"""Handler return: fixed responses and redirects, and that no way of writing a path leads past one that refuses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import starter
from harness import Server, config, pool, run

ROUTES = """
    route /healthz return { status 200; body "ok\\n"; }
    route /private/ return { status 403; body "no\\n"; add_header Cache-Control no-store; }
    route /nothing return { status 204; }
    route /same return { status 304; add_header ETag '"a"'; }
    route /old/ return { status 301; location https://www.example.com/new/; append rest; }
    route /moved return { status 308; location https://www.example.com; append path; }
    route /json return { body "{\\"a\\": 1}"; content_type application/json; }
    route /down return { status 503; add_header Retry-After 120; }
"""


@pytest.fixture(scope="module")
def server(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(config(pool(worker, inside=ROUTES), main="load_module return;"))


def test_responses(server: Server) -> None:
    with server.client() as c:
        for _ in range(3):  # heads are kept after the first
            answer = c.request("/healthz")
            assert (answer.status, answer.text) == (200, "ok\n")
            assert answer.get("Content-Type") == "text/plain; charset=utf-8"
            assert answer.get("Content-Length") == "3"
            assert c.request("/healthz", method="HEAD").get("Content-Length") == "3"
            assert c.request("/healthz", method="POST", body=b"x" * 1000).text == "ok\n"
            answer = c.request("/json")
            assert (answer.text, answer.get("Content-Type")) == ('{"a": 1}', "application/json")
            answer = c.request("/private/x")
            assert (answer.status, answer.text, answer.get("Cache-Control")) == (403, "no\n", "no-store")
            answer = c.request("/down")
            assert (answer.status, answer.text, answer.get("Retry-After")) == (503, "", "120")
            assert answer.get("Content-Type") is None
            answer = c.request("/nothing")
            assert (answer.status, answer.get("Content-Length")) == (204, None)
            answer = c.request("/same")
            assert (answer.status, answer.get("ETag")) == (304, '"a"')
        assert c.request("/private").status == 404, "not below /private/: the application's"


def test_redirects(server: Server) -> None:
    with server.client() as c:
        for path, status, location in (
            ("/old/", 301, "https://www.example.com/new/"),
            ("/old/a%20b/%c3%a4?q=%41", 301, "https://www.example.com/new/a%20b/%C3%A4?q=%41"),
            ("/old/x%0d%0aSet-Cookie:%20a=b", 301, "https://www.example.com/new/x%0D%0ASet-Cookie:%20a=b"),
            ("/old//evil.example/", 301, "https://www.example.com/new/evil.example/"),
            ("/moved", 308, "https://www.example.com/moved"),
            ("/moved/to?", 308, "https://www.example.com/moved/to?"),
            ("/moved@evil.example", 308, "https://www.example.com/moved@evil.example"),
        ):
            answer = c.request(path)
            assert (answer.status, answer.get("Location")) == (status, location)
            assert answer.get("Set-Cookie") is None


def test_no_way_of_writing_it_leads_past(server: Server) -> None:
    """The application would answer 404 or, for the path of its page, 200."""
    dice = random.Random(4)
    seen = set()
    with server.client() as c:
        for _ in range(600):
            text = dice.choice(["/private/", "//private/", "/private/./", "/private/../private/", "/x/../private//"])
            inside = ["", "a", "./.", ".../x", "a/../b", "%00", "a%00b"]
            # what leaves it again is no more than another page, unless its text begins like one of these
            leaves = ["../private/", "../", "../../", "%2e%2e/x", ".."]
            text += dice.choice(inside if text.startswith("/x") else inside + leaves)
            path = text[0]
            for char in text[1:]:
                if char != "%" and dice.random() < 0.3:
                    char = f"%{ord(char):02x}" if dice.random() < 0.5 else f"%{ord(char):02X}"
                path += char
            answer = c.request(path)
            seen.add(answer.status)
            assert answer.status in (400, 403), (path, answer)
    assert seen == {400, 403}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("status 199;", 'status: "199" is out of range'),
        ("status 600;", 'status: "600" is out of range'),
        ("status 301;", "status 301 is a redirect, expected beside it: location URI;"),
        ("location /x;", "location: status 200 has none"),
        ('status 302; location "/a b";', 'location: "/a b" is no URI'),
        ('status 302; location "";', 'location: "" is no URI'),
        ("status 204; body x;", "body: a response of status 204 has none"),
        ("add_header Content-Length 3;", 'add_header: "Content-Length" cannot be set'),
        ('add_header "X Y" 3;', 'add_header: "X Y" is no field name'),
        ('add_header X "a\\nb";', 'add_header: the value of "X" has a control character'),
        ("content_type text;", 'content_type: "text" is no media type'),
        ("append path;", "append has nothing to append to"),
        ("append everything;", "append: "),
    ],
)
def test_mistakes_are_told(tmp_path: Path, block: str, message: str) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool(inside=f"route / return {{ {block} }}"), main="load_module return;"))
    ended = run("-t", "-c", conf)
    assert ended.returncode == 1, ended.stderr
    where = next(n for n, text in enumerate(conf.read_text().splitlines(), 1) if "route /" in text)
    assert f"{conf}:{where}: " in ended.stderr
    assert message in ended.stderr
