# SPDX-License-Identifier: BSD-2-Clause
"""The PROXY protocol before a real server: what the application and the access log see, and who is turned away."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from client import Client
from conftest import Start
from harness import PATIENCE, Server, config, pool, run, until

LOAD = "load_module proxy_protocol;"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = (
    socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.9")
    + (4711).to_bytes(2, "big")
    + (443).to_bytes(2, "big")
)


def v2(body: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def environ(server: Server, header: bytes, which: int = 0) -> dict[str, str]:
    with server.client(which) as c:
        c.send(header + b"GET /environ HTTP/1.1\r\nHost: example.org\r\n\r\n")
        first: dict[str, str] = json.loads(c.response().body)["environ"]
        again = json.loads(c.request("/environ").body)["environ"]  # it holds for every request of the connection
        assert again["REMOTE_ADDR"] == first["REMOTE_ADDR"]
        assert again["SERVER_NAME"] == first["SERVER_NAME"]
        return first


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\n",
        v2(V4),
        v2(V4 + b"\x04\0\x03abc"),
    ],
)
def test_the_client_is_who_the_header_says(start: Start, worker: str, header: bytes) -> None:
    server = start(
        config(pool(worker, listen=["127.0.0.1:0 proxy_protocol"], inside="access_log -;"), main=LOAD),
    )
    facts = environ(server, header)
    assert facts["REMOTE_ADDR"] == "192.0.2.7"
    assert facts["REMOTE_PORT"] == "4711"
    assert facts["SERVER_NAME"] == "198.51.100.9"
    assert facts["SERVER_PORT"] == "443"
    assert facts["wsgi.url_scheme"] == "http"
    until(lambda: "192.0.2.7 - - [" in server.stdout.read_text(), "the access log")


def test_ipv6_and_unix(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen = ["[::1]:0 proxy_protocol", f"unix:{path} {{ proxy_protocol on; }}"]
    server = start(config(pool(listen=listen), main=LOAD), listeners=2)
    for which in range(2):
        facts = environ(server, b"PROXY TCP6 2001:db8:0::7 2001:db8::9 4711 443\r\n", which)
        assert facts["REMOTE_ADDR"] == "2001:db8::7"
        assert facts["SERVER_NAME"] == "2001:db8::9"
    facts = environ(server, v2(b"/run/client".ljust(108, b"\0") * 2, 0x31), 0)
    assert facts["REMOTE_ADDR"] == ""
    assert facts["REMOTE_PORT"] == ""


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(b"", 0, 0x20), v2(V4, 0x11, 0x20), v2(b"", 0)])
def test_a_header_without_a_client(start: Start, header: bytes) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 proxy_protocol"]), main=LOAD))
    facts = environ(server, header)
    assert facts["REMOTE_ADDR"] == "127.0.0.1"
    assert facts["SERVER_NAME"] == "127.0.0.1"
    assert facts["SERVER_PORT"] == server.addresses[0].rpartition(":")[2]


def test_byte_by_byte(start: Start) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 proxy_protocol"]), main=LOAD))
    with server.client() as c:
        for byte in v2(V4) + b"GET /environ HTTP/1.1\r\nHost: x\r\n\r\n":
            c.send(bytes([byte]))
        assert json.loads(c.response().body)["environ"]["REMOTE_ADDR"] == "192.0.2.7"


def closed(server: Server, data: bytes, log: str) -> None:
    """Nothing is answered, and one line says why."""
    with server.socket() as sock:
        sock.sendall(data)
        try:
            assert sock.recv(100) == b""
        except ConnectionResetError:
            pass
    server.wait_log(f"notice\\].* 127.0.0.1: closed: {log}")
    assert len([line for line in server.log.splitlines() if ": closed: " in line and log in line]) == 1


def test_what_is_wrong_is_closed(start: Start) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 proxy_protocol"]), main=LOAD))
    closed(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY protocol: no PROXY protocol header")
    closed(server, b"PROXY TCP4 192.0.2.7 198.51.100.9 4711\r\n", "PROXY protocol: a port that is none")
    closed(server, v2(V4[:-1]), "PROXY protocol: a header too short for its addresses")
    closed(server, v2(V4 + b"\x03\0\x04\0\0\0\0"), "PROXY protocol: a checksum that does not fit")
    assert environ(server, v2(V4))["REMOTE_ADDR"] == "192.0.2.7"


def test_a_header_that_does_not_come(start: Start) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 { proxy_protocol on; proxy_protocol_timeout 100ms; }"]), main=LOAD))
    closed(server, b"PROXY TCP4 192", "PROXY protocol: no complete header within proxy_protocol_timeout")


def test_who_is_not_on_the_list(start: Start) -> None:
    """From other addresses no header is believed, and nothing is served without one."""
    text = config(
        pool(listen=["127.0.0.1:0"], inside="proxy_protocol on; proxy_protocol_from 10.0.0.0/8 unix: 127.0.0.2;"),
        main=LOAD,
    )
    server = start(text)
    closed(server, v2(V4), "proxy_protocol_from does not have this address")
    host, _, port = server.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE, source_address=("127.0.0.2", 0)) as sock:
        c = Client(sock, PATIENCE)
        c.send(v2(V4) + b"GET /environ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert json.loads(c.response().body)["environ"]["REMOTE_ADDR"] == "192.0.2.7"


def test_a_health_check_that_says_nothing(start: Start) -> None:
    server = start(config(pool(listen=["127.0.0.1:0 proxy_protocol"]), main=LOAD))
    with server.socket() as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert ": closed: " not in server.log


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("10.0.0.1/8", '"10.0.0.1/8" has bits set behind its prefix, expected 10.0.0.0/8'),
        ("proxy.example", '"proxy.example" is no address'),
    ],
)
def test_mistakes_in_the_list(tmp_path: Path, words: str, says: str) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(config(pool(listen=[f"127.0.0.1:0 {{ proxy_protocol_from {words}; }}"]), main=LOAD))
    done = run("-t", "-c", path)
    assert done.returncode == 1
    assert f"bad.conf:6: proxy_protocol_from: {says}" in done.stderr


def test_without_effect(tmp_path: Path) -> None:
    """Its directives at an address without it are a mistake, but beside `proxy_protocol off`."""
    path = tmp_path / "some.conf"
    path.write_text(config(pool(listen=["127.0.0.1:0 { proxy_protocol_from 10.0.0.1; }"]), main=LOAD))
    done = run("-t", "-c", path)
    assert done.returncode == 1
    assert '"proxy_protocol_from" has no effect at an address without proxy_protocol, expected: listen ' in done.stderr
    for listen in ("127.0.0.1:0 { proxy_protocol off; proxy_protocol_from 10.0.0.1; }", "127.0.0.1:0"):
        path.write_text(config(pool(listen=[listen], inside="proxy_protocol_from 10.0.0.2;"), main=LOAD))
        done = run("-T", "-c", path)
        assert done.returncode == 0, done.stderr
        path.write_text(done.stdout)
        assert run("-t", "-c", path).returncode == 0, "what it prints can be read again"
