# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 by ALPN behind TLS: the protocol and the transport together, with the clients that people have."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Start, starter
from h2client import H2
from harness import APPS, Server, config, pool, quote
from pki import Authority, Pair
from test_tls import secure, use

ORDER = "protocols http2 http1;"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Pair:
    return ca.pair("localhost")


def conf(worker: str, site: Pair) -> str:
    route = f"route /files/ static {{ root {quote(APPS)}; }}"
    text = pool(worker, listen=[f"127.0.0.1:0 tls {{ {use(site)} }}"], inside=ORDER + route)
    return config(text, main="load_module http2; load_module tls; load_module static;")


@pytest.fixture(scope="module")
def server(worker: str, site: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in starter(tmp_path_factory.mktemp(worker)):
        yield make(conf(worker, site))


def h2(server: Server, ca: Authority) -> H2:
    context = ca.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    sock = secure(server, context)
    assert sock.selected_alpn_protocol() == "h2"
    return H2(sock, scheme="https")


def port(server: Server) -> str:
    return server.addresses[0].rpartition(":")[2]


@pytest.mark.parametrize(("offer", "gets"), [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2")])
def test_the_servers_order_counts(server: Server, ca: Authority, offer: list[str], gets: str) -> None:
    context = ca.client()
    context.set_alpn_protocols(offer)
    with secure(server, context) as sock:
        assert sock.selected_alpn_protocol() == gets


def test_both_protocols_on_one_port(server: Server, ca: Authority) -> None:
    with httpx.Client(http2=True, verify=ca.client()) as c:
        answer = c.get(f"https://localhost:{port(server)}/environ")
        assert answer.http_version == "HTTP/2"
    seen = answer.json()["environ"]
    assert seen["SERVER_PROTOCOL"] == "HTTP/2"
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["SSL_PROTOCOL"] == "TLSv1.3"
    with httpx.Client(http2=False, verify=ca.client()) as c:
        answer = c.get(f"https://localhost:{port(server)}/environ")
        assert answer.http_version == "HTTP/1.1"
        assert answer.json()["environ"]["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_large_bodies_both_ways(server: Server, ca: Authority) -> None:
    body = os.urandom(3 << 20)
    with h2(server, ca) as c:
        answer = c.request("/echo", method="POST", body=body)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_many_streams(server: Server, ca: Authority) -> None:
    with h2(server, ca) as c:
        streams = [c.start("/environ") for _ in range(100)]
        for sid in streams:
            assert json.loads(c.wait(sid).body)["environ"]["HTTPS"] == "on"


def test_files_of_a_route(server: Server, ca: Authority) -> None:
    with h2(server, ca) as c:
        assert c.request("/files/probe.py").body == (APPS / "probe.py").read_bytes()
        part = c.request("/files/probe.py", headers=[("range", "bytes=10-19")])
        assert part.status == 206
        assert part.body == (APPS / "probe.py").read_bytes()[10:20]


def test_curl_and_nghttp(server: Server, ca: Authority, tmp_path: Path) -> None:
    url = f"https://localhost:{port(server)}/"
    curl: list[str | Path] = [
        "curl",
        "-sS",
        "--cacert",
        ca.cert,
        "--http2",
        "-o",
        tmp_path / "out",
        "-w",
        "%{http_version} %{http_code}",
    ]
    done = subprocess.run([*curl, url], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "2 200"
    assert (tmp_path / "out").read_text() == "Hello, world!\n"
    done = subprocess.run(["nghttp", "-n", "-s", url], capture_output=True, text=True, timeout=60, check=True)
    assert " 200 " in done.stdout


def test_drain(start: Start, site: Pair, ca: Authority) -> None:
    """TERM: two GOAWAYs, the streams below the second are answered, the connection ends by close_notify."""
    server = start(conf("wsgi", site))
    with h2(server, ca) as c:
        assert c.request("/").status == 200
        server.send_signal(signal.SIGTERM)
        c.until(lambda: c.goaway, "the notice")
        assert c.goaway[0] == (2**31 - 1, 0)
        late = c.start("/")
        assert c.wait(late).status == 200
        while c.step():
            pass
        assert c.goaway[-1] == (late, 0)
    server.wait()


def test_client_that_vanishes(server: Server, ca: Authority) -> None:
    """Without a farewell, in the middle of a response: the next one is served as if nothing had been."""
    c = h2(server, ca)
    c.start("/big?size=10000000")
    c.step()
    assert isinstance(c.sock, ssl.SSLSocket)
    c.sock.close()
    with h2(server, ca) as other:
        assert other.request("/").status == 200
