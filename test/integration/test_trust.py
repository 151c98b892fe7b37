# SPDX-License-Identifier: BSD-2-Clause
"""What proxies say of the client: in the environ and the access log of every worker, and only from whom it may come."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import cast

import pytest
from client import Client
from conftest import Start
from harness import PATIENCE, Server, config, pool, run, until

FROM = "set_real_ip_from 127.0.0.0/8 unix:;"
ALL = "trusted_headers X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port Forwarded;"


def environ(server: Server, *headers: str, which: int = 0) -> dict[str, str]:
    with server.client(which) as c:
        answer = c.request("/environ", headers=headers)
        assert answer.status == 200, answer
        return cast(dict[str, str], json.loads(answer.body)["environ"])


def test_a_trusted_proxy(start: Start, worker: str) -> None:
    server = start(config(pool(worker, inside=f"{FROM} access_log -;")))
    says = ("X-Forwarded-For: 203.0.113.9, 192.0.2.7, 127.0.0.3", "X-Forwarded-Proto: https")
    facts = environ(server, *says)
    assert facts["REMOTE_ADDR"] == "192.0.2.7"
    assert facts["REMOTE_PORT"] == ""
    assert facts["wsgi.url_scheme"] == "https"
    assert facts["HTTP_HOST"] == "test"
    assert facts["SERVER_NAME"] == "127.0.0.1"
    assert facts["HTTP_X_FORWARDED_FOR"] == says[0].partition(": ")[2], "the application sees what came"
    until(lambda: "192.0.2.7 - - [" in server.stdout.read_text(), "the access log")
    with server.client() as c:  # one connection of a proxy carries requests of many clients
        for n in range(3):
            answer = c.request("/environ", headers=(f"X-Forwarded-For: 192.0.2.{n}:{4000 + n}",))
            facts = json.loads(answer.body)["environ"]
            assert (facts["REMOTE_ADDR"], facts["REMOTE_PORT"]) == (f"192.0.2.{n}", str(4000 + n))
            assert facts["wsgi.url_scheme"] == "http"
        facts = json.loads(c.request("/environ").body)["environ"]
        assert facts["REMOTE_ADDR"] == "127.0.0.1"


def test_everybody_else(start: Start, worker: str) -> None:
    """Fields are passed on, and change nothing; contradictions are the application's."""
    server = start(config(pool(worker, inside=f"set_real_ip_from 10.0.0.0/8; {ALL} access_log -;")))
    says = (
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=1",
    )
    facts = environ(server, *says, "X-Forwarded-Proto: http")
    assert facts["REMOTE_ADDR"] == "127.0.0.1"
    assert facts["wsgi.url_scheme"] == "http"
    assert facts["HTTP_HOST"] == "test"
    assert facts["HTTP_X_FORWARDED_HOST"] == "evil.example"
    assert facts["HTTP_FORWARDED"] == "for=1"
    until(lambda: "127.0.0.1 - - [" in server.stdout.read_text(), "the access log")


def test_host_and_port(start: Start, worker: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = start(config(pool(worker, listen=["127.0.0.1:0", f"unix:{path}"], inside=f"{FROM} {ALL}")), listeners=2)
    says = ("X-Forwarded-Host: www.example.com", "X-Forwarded-Proto: https", "X-Forwarded-Port: 8443")
    for which in range(2):
        facts = environ(server, *says, which=which)
        assert facts["HTTP_HOST"] == "www.example.com:8443"
        assert facts["SERVER_PORT"] == "8443"
        assert facts["SERVER_NAME"] == ("127.0.0.1" if which == 0 else "www.example.com")
    facts = environ(server, *says[:2], which=1)
    assert facts["HTTP_HOST"] == "www.example.com"
    assert facts["SERVER_PORT"] == "443", "a socket without a port has the scheme's"
    facts = environ(server, "X-Forwarded-Host: no host", which=1)
    assert facts["HTTP_HOST"] == "test"
    assert facts["SERVER_NAME"] == "test"
    assert facts["SERVER_PORT"] == "80"


def test_forwarded(start: Start, worker: str) -> None:
    server = start(config(pool(worker, inside=f"{FROM} {ALL} real_ip_header Forwarded;")))
    says = 'Forwarded: for="[2001:db8::7]:4711";proto=https;host="www.example.com", for=127.0.0.9;proto=http'
    facts = environ(server, says, "X-Forwarded-For: 192.0.2.9")
    assert facts["REMOTE_ADDR"] == "2001:db8::7"
    assert facts["REMOTE_PORT"] == "4711"
    assert facts["wsgi.url_scheme"] == "https"
    assert facts["HTTP_HOST"] == "www.example.com"


def test_contradictions_are_refused(start: Start) -> None:
    server = start(config(pool(inside=f"{FROM} {ALL}")))
    with server.client() as c:
        answer = c.request("/", headers=("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"))
        assert answer.status == 400
        assert c.ended()
    server.wait_log("request refused with 400: fields of a trusted proxy contradict each other")


def test_malformed_values_are_ignored(start: Start) -> None:
    server = start(config(pool(inside=f"{FROM} {ALL}"), main="").replace("stderr info", "stderr debug"))
    facts = environ(server, "X-Forwarded-For: 192.0.2.7, nonsense", "X-Forwarded-Proto: gopher")
    assert facts["REMOTE_ADDR"] == "127.0.0.1"
    assert facts["wsgi.url_scheme"] == "http"
    server.wait_log(r"\[debug\].*ignored, from a trusted proxy: what is no address")


def test_per_listener(start: Start) -> None:
    listen = [
        "127.0.0.1:0 { set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP; trusted_headers none; }",
        "127.0.0.1:0",
    ]
    server = start(config(pool(listen=listen)), listeners=2)
    says = ("X-Real-IP: 192.0.2.7", "X-Forwarded-For: 192.0.2.8", "X-Forwarded-Proto: https")
    assert environ(server, *says)["REMOTE_ADDR"] == "192.0.2.7"
    assert environ(server, *says)["wsgi.url_scheme"] == "http"
    assert environ(server, *says, which=1)["REMOTE_ADDR"] == "127.0.0.1"


def test_behind_the_proxy_protocol(start: Start) -> None:
    """It is who the PROXY protocol names that must be trusted, not who has connected."""
    text = config(
        pool(listen=["127.0.0.1:0 proxy_protocol"], inside="set_real_ip_from 10.0.0.0/8;"),
        main="load_module proxy_protocol;",
    )
    server = start(text)
    for peer, client in (("10.1.1.1", "192.0.2.7"), ("192.0.2.1", "192.0.2.1"), ("127.0.0.1", "127.0.0.1")):
        with server.client() as c:
            c.send(f"PROXY TCP4 {peer} 127.0.0.1 1000 80\r\n")
            facts = json.loads(c.request("/environ", headers=("X-Forwarded-For: 192.0.2.7",)).body)["environ"]
            assert facts["REMOTE_ADDR"] == client


def test_ipv4_by_an_ipv6_socket(start: Start) -> None:
    server = start(config(pool(listen=["[::]:0 { ipv6only off; }"], inside="set_real_ip_from 127.0.0.1;")))
    port = int(server.addresses[0].rpartition(":")[2])
    with Client(socket.create_connection(("127.0.0.1", port), PATIENCE), PATIENCE) as c:
        facts = json.loads(c.request("/environ", headers=("X-Forwarded-For: 192.0.2.7",)).body)["environ"]
        assert facts["REMOTE_ADDR"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("directive", "says"),
    [
        ("set_real_ip_from 10.0.0.1/8;", 'set_real_ip_from: "10.0.0.1/8" has bits set behind its prefix'),
        ('real_ip_header "X Real";', 'real_ip_header: "X Real" is no field name'),
        ("trusted_headers X-Forwarded-For;", 'trusted_headers: "X-Forwarded-For" is not known'),
        ("trusted_headers none Forwarded;", 'trusted_headers: "none" beside others'),
    ],
)
def test_mistakes(tmp_path: Path, directive: str, says: str) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(config(pool(listen=[f"127.0.0.1:0 {{ {directive} }}"])))
    done = run("-t", "-c", path)
    assert done.returncode == 1
    assert f"bad.conf:6: {says}" in done.stderr
