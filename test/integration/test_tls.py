# SPDX-License-Identifier: BSD-2-Clause
"""The tls module under real protocols and workers, with the clients that people have."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from client import Broken, Client, Response
from conftest import Start, as_root
from harness import APPS, PATIENCE, SANITIZED, Gate, Server, config, descriptors, memory, pool, quote, run, until
from pki import Authority, Pair, openssl
from test_privileges import as_other

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SIZE = 50 << 20


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Pair:
    return ca.pair("localhost", "example.org")


def use(*pairs: Pair) -> str:
    return " ".join(f"certificate {quote(p.cert)}; certificate_key {quote(p.key)};" for p in pairs)


def tls(*pairs: Pair, inside: str = "", worker: str = "wsgi", main: str = "", processes: int = 1) -> str:
    """A pool that listens with TLS."""
    listen = f"127.0.0.1:0 tls {{ {use(*pairs)} {inside} }}"
    return config(pool(worker, listen=[listen], processes=processes), main=f"load_module tls;{main}")


def secure(
    server: Server, context: ssl.SSLContext, name: str = "localhost", session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    return context.wrap_socket(server.socket(), server_hostname=name, session=session)


def ask(server: Server, context: ssl.SSLContext, target: str = "/environ", name: str = "localhost") -> Response:
    with Client(secure(server, context, name), timeout=PATIENCE) as c:
        return c.request(target)


def environ(server: Server, context: ssl.SSLContext, name: str = "localhost") -> dict[str, str]:
    answer = ask(server, context, "/environ", name)
    assert answer.status == 200, answer
    return dict(json.loads(answer.body)["environ"])


# ---- what requests see


@pytest.mark.parametrize(("version", "word"), [(V12, "TLSv1.2"), (V13, "TLSv1.3")])
def test_environ(start: Start, ca: Authority, site: Pair, worker: str, version: ssl.TLSVersion, word: str) -> None:
    server = start(tls(site, worker=worker))
    context = ca.client(version=version)
    context.set_alpn_protocols(["spdy/1", "http/1.1"])
    with Client(secure(server, context), timeout=PATIENCE) as c:
        assert isinstance(c.sock, ssl.SSLSocket)
        assert c.sock.version() == word
        assert c.sock.selected_alpn_protocol() == "http/1.1"
        cipher = c.sock.cipher()
        assert cipher and "AES" in cipher[0] and "128" in cipher[0] and "GCM" in cipher[0]
        for _ in range(4):  # by a template and without one
            seen = json.loads(c.request("/environ").body)["environ"]
            assert seen["wsgi.url_scheme"] == "https"
            assert seen["HTTPS"] == "on"
            assert seen["SSL_PROTOCOL"] == word
            assert seen["SSL_CIPHER"] == cipher[0]
            assert seen["SSL_TLS_SNI"] == "localhost"
            assert seen["SSL_SESSION_RESUMED"] == "Initial"
            assert "SSL_CLIENT_VERIFY" not in seen


def test_plain_connections_have_none_of_it(start: Start, site: Pair, ca: Authority) -> None:
    """A pool that listens both ways: what one connection knows is not in the other's environ."""
    listen = [f"127.0.0.1:0 tls {{ {use(site)} }}", "127.0.0.1:0"]
    server = start(config(pool(listen=listen), main="load_module tls;"), listeners=2)
    for _ in range(4):
        assert environ(server, ca.client())["HTTPS"] == "on"
        with server.client(1) as c:
            seen = json.loads(c.request("/environ").body)["environ"]
            assert seen["wsgi.url_scheme"] == "http"
            assert not [k for k in seen if k.startswith("SSL_") or k == "HTTPS"]


def test_no_common_protocol(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    context = ca.client()
    context.set_alpn_protocols(["spdy/1"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        secure(server, context)
    assert environ(server, ca.client())["HTTPS"] == "on"  # and who asks for none gets the usual one


def test_curl_httpx_and_s_client(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    port = server.addresses[0].rpartition(":")[2]
    for more in ("--tlsv1.3", "--tls-max 1.2"):
        done = subprocess.run(
            ["curl", "-sS", *more.split(), "--cacert", ca.cert, "--http1.1", f"https://localhost:{port}/"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("Hello, world!\n", "")
    with httpx.Client(verify=ca.client(), timeout=PATIENCE) as client:
        for _ in range(3):
            assert client.get(f"https://localhost:{port}/").text == "Hello, world!\n"


def s_client(server: Server, *args: str) -> subprocess.Popen[str]:
    port = server.addresses[0].rpartition(":")[2]
    return subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_small_records(start: Start, site: Pair, version: str) -> None:
    """RFC 6066 4: all of a long answer comes to a client that asked for records of 512 bytes."""
    server = start(tls(site))
    with s_client(server, version, "-quiet", "-maxfraglen", "512") as client:
        assert client.stdin and client.stdout
        client.stdin.write("GET /big?n=300000&length=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.stdin.flush()
        answer = client.stdout.read()
        client.kill()
    assert answer.count("0123456789abcdef") == 300000 // 16


def test_licorne_run(start: Start, ca: Authority, site: Pair) -> None:
    """From the command line: https, with both files or one that has both."""
    both = site.cert.with_suffix(".both")
    both.write_text(site.cert.read_text() + site.key.read_text())
    for args in (["--certfile", site.cert, "--keyfile", site.key], ["--certfile", both]):
        server = start(args=["run", "probe:app", "--bind", "127.0.0.1:0", *args], cwd=APPS)
        until(lambda s=server: "Press Ctrl-C" in s.stdout.read_text(), "the URL")  # type: ignore[misc]
        assert f"Listening on https://{server.addresses[0]}\n" in server.stdout.read_text()
        assert environ(server, ca.client())["HTTPS"] == "on"


# ---- certificates


def shown(
    server: Server, name: str | None, *, ciphers: str = "", version: ssl.TLSVersion | None = None
) -> dict[str, str]:
    """Serial number and key of the certificate that the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    with context.wrap_socket(server.socket(), server_hostname=name) as sock:
        der = sock.getpeercert(binary_form=True)
        assert der
    text = openssl("x509", "-noout", "-text", text=ssl.DER_cert_to_PEM_cert(der))
    names = re.search(r"DNS:(.*)", text)
    assert names
    return {"names": names[1], "key": "rsa" if "rsaEncryption" in text else "ec"}


def test_sni(start: Start, ca: Authority, site: Pair) -> None:
    wild, exact = ca.pair("*.example.net"), ca.pair("www.example.net", "example.com")
    server = start(tls(site, wild, exact))
    for name, names in {
        "localhost": "localhost, DNS:example.org",
        "a.example.net": "*.example.net",
        "A.EXAMPLE.NET": "*.example.net",
        "www.example.net": "www.example.net, DNS:example.com",
        "example.com": "www.example.net, DNS:example.com",
        "a.b.example.net": "localhost, DNS:example.org",  # a wildcard is one label
        "example.net": "localhost, DNS:example.org",
        "elsewhere.test": "localhost, DNS:example.org",
        None: "localhost, DNS:example.org",
    }.items():
        for version in (V12, V13):
            assert shown(server, name, version=version)["names"] == names, name
    # protocols are negotiated for all of them
    context = ca.client()
    context.set_alpn_protocols(["http/1.1"])
    with secure(server, context, "a.example.net") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    assert environ(server, ca.client(), "example.com")["SSL_TLS_SNI"] == "example.com"


def test_ecdsa_and_rsa(start: Start, ca: Authority) -> None:
    names = ("localhost", "example.org")
    server = start(tls(ca.pair(*names, kind="rsa"), ca.pair(*reversed(names)), ca.pair("other.test")))
    for name in ("localhost", None):
        assert shown(server, name, ciphers="ECDHE-RSA-AES128-GCM-SHA256", version=V12)["key"] == "rsa"
        assert shown(server, name, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", version=V12)["key"] == "ec"
    assert shown(server, "other.test")["names"] == "other.test"


def test_chain(start: Start, ca: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "Middle Authority", ca)
    server = start(tls(middle.pair("localhost")))
    assert environ(server, ca.client())["HTTPS"] == "on"  # which does not know the one in the middle


def test_passphrase(start: Start, ca: Authority, site: Pair, tmp_path: Path) -> None:
    locked, secret = tmp_path / "locked.key", tmp_path / "passphrase"
    openssl("pkey", "-in", site.key, "-aes256", "-passout", "pass:wonder land", "-out", locked)
    secret.write_text("wonder land\nand nothing else\n")
    server = start(tls(Pair(site.cert, locked), inside=f"certificate_passphrase {quote(secret)};"))
    assert environ(server, ca.client())["HTTPS"] == "on"


def fails(tmp_path: Path, text: str, *words: str, status: int, check: bool = False) -> None:
    conf = tmp_path / "licorne.conf"
    conf.write_text(text)
    done = run(*(["-t"] if check else []), "-c", conf)
    assert done.returncode == status, done.stderr
    for word in words:
        assert re.search(word, done.stderr), (word, done.stderr)


def test_files_that_cannot_be_read(tmp_path: Path, ca: Authority, site: Pair) -> None:
    """Found by -t too; each with the line of its directive."""
    (tmp_path / "empty").touch()
    (tmp_path / "huge").write_bytes(b"x" * ((1 << 20) + 1))
    os.mkfifo(tmp_path / "fifo")
    for name, why in {
        "nowhere.key": "No such file",
        "empty": "it is empty",
        "fifo": "it is no regular file",
        "huge": "it is larger than 1m",
    }.items():
        for check in (True, False):
            text = tls(Pair(site.cert, tmp_path / name))
            fails(
                tmp_path,
                text,
                rf'licorne.conf:\d+: certificate_key: cannot read "{tmp_path}/{name}": {why}',
                status=1,
                check=check,
            )
    text = tls(Pair(tmp_path / "a", tmp_path / "b"), inside=f"tls_verify required; tls_client_ca {tmp_path}/c;")
    fails(tmp_path, text, "certificate: .*/a", "certificate_key: .*/b", "tls_client_ca: .*/c", status=1, check=True)


def test_certificates_that_are_wrong(tmp_path: Path, ca: Authority, site: Pair) -> None:
    junk = tmp_path / "junk"
    junk.write_text("no PEM\n")
    other = ca.pair("other.test")
    locked, wrong = tmp_path / "locked.key", tmp_path / "wrong"
    openssl("pkey", "-in", site.key, "-aes256", "-passout", "pass:right", "-out", locked)
    wrong.write_text("wrong\n")
    fails(
        tmp_path, tls(Pair(junk, site.key)), f': tls: certificate "{junk}" is no PEM file with a certificate', status=3
    )
    junk_key = f': tls: certificate_key "{junk}" is no PEM file with a private key'
    fails(tmp_path, tls(Pair(site.cert, junk)), junk_key, status=3)
    twice = tmp_path / "twice.pem"  # a certificate where the key is expected
    twice.write_bytes(site.cert.read_bytes())
    fails(
        tmp_path, tls(Pair(site.cert, twice)), 'tls: certificate_key ".*" is no PEM file with a private key', status=3
    )
    fails(
        tmp_path,
        tls(Pair(site.cert, other.key)),
        f'the key in "{other.key}" does not belong to .*"{site.cert}"',
        status=3,
    )
    fails(
        tmp_path, tls(Pair(site.cert, locked)), "certificate_key .*encrypted, expected certificate_passphrase", status=3
    )
    fails(
        tmp_path,
        tls(Pair(site.cert, locked), inside=f"certificate_passphrase {wrong};"),
        "certificate_key .*locked.*certificate_passphrase does not open it",
        status=3,
    )
    fails(tmp_path, tls(site, site), "same names.*same type of key", status=3)
    needs = r"licorne.conf:\d+: listen: tls needs a certificate, expected here or further up: certificate FILE;"
    fails(tmp_path, tls(), needs, status=1, check=True)
    fails(tmp_path, tls(site, inside="tls_ciphers none-such;"), 'tls_ciphers "none-such"', status=3)
    fails(tmp_path, tls(site, inside="tls_groups none-such;"), 'tls_groups "none-such"', status=3)
    fails(tmp_path, tls(site, inside="tls_verify required;"), "expected tls_client_ca", status=1, check=True)
    fails(tmp_path, tls(inside=f"certificate {quote(site.cert)};"), "expected one key for each", status=1, check=True)


def test_directives_without_tls(tmp_path: Path, site: Pair) -> None:
    """In the block of an address that is not encrypted they are a mistake; further up they may be for others."""
    main = f"load_module tls; {use(site)}"
    listen = ["127.0.0.1:0 tls", f"127.0.0.1:1 {{ mode 0600; {use(site)}\ntls_verify off; }}"]
    conf = tmp_path / "licorne.conf"
    conf.write_text(config(pool(listen=listen), main=main))
    done = run("-t", "-c", conf)
    assert done.returncode == 1
    found = re.findall(r'licorne.conf:\d+: ("\w+") has no effect at an address without tls, (.*)', done.stderr)
    assert {name for name, _ in found} == {'"certificate"', '"certificate_key"', '"tls_verify"'}, done.stderr
    assert {hint for _, hint in found} == {"expected: listen 127.0.0.1:1 tls { ... }"}
    conf.write_text(config(pool(listen=["127.0.0.1:0 tls", "127.0.0.1:1"]), main=main))
    done = run("-T", "-c", conf)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tls_verify off;") == 3, "main level, pool, one of the addresses"
    conf.write_text(done.stdout)
    done = run("-t", "-c", conf)
    assert done.returncode == 0, "it can be read again: " + done.stderr


@as_root
def test_workers_need_no_access_to_the_key(start: Start, ca: Authority, site: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    pair.cert.write_bytes(site.cert.read_bytes())
    pair.key.write_bytes(site.key.read_bytes())
    for path in (pair.cert, pair.key):
        path.chmod(0o600)
    listen = f"127.0.0.1:0 tls {{ {use(pair)} }}"
    server = as_other(start, config(pool(listen=[listen]), main="load_module tls; user nobody;"))
    assert environ(server, ca.client())["HTTPS"] == "on"
    (worker,) = server.workers()
    assert re.search(r"^Uid:\s+65534\b", Path(f"/proc/{worker}/status").read_text(), re.M)
    for pid in (worker, server.pid):
        assert not [to for to in descriptors(pid).values() if str(folder) in to]
    # and one that is started later has it too, although the file is gone
    pair.key.unlink()
    os.kill(worker, signal.SIGKILL)
    server.allow("was killed by SIGKILL")
    until(lambda: server.workers() not in ([], [worker]), "another worker")
    server.wait_log(r"\bready\b", 2)
    assert environ(server, ca.client())["HTTPS"] == "on"


# ---- client certificates


@pytest.mark.parametrize("version", [V12, V13])
def test_client_certificates(start: Start, ca: Authority, site: Pair, tmp_path: Path, version: ssl.TLSVersion) -> None:
    people = Authority(tmp_path, "People")
    alice = people.pair(subject="/C=FI/O=Ääkkönen, Oy/CN=alice")
    stranger = Authority(tmp_path, "Strangers").pair(subject="/CN=mallory")
    required = start(tls(site, inside=f"tls_verify required; tls_client_ca {quote(people.cert)};"))
    seen = environ(required, ca.client(version=version, own=alice))
    assert seen["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert seen["SSL_CLIENT_S_DN"].startswith("CN=alice,O=")
    assert seen["SSL_CLIENT_I_DN"] == "CN=People,O=licorne"
    serial = openssl("x509", "-noout", "-serial", "-in", alice.cert).strip().partition("=")[2]
    assert seen["SSL_CLIENT_M_SERIAL"] == serial
    for bad in (None, stranger):
        with pytest.raises((ssl.SSLError, ConnectionError, Broken)):
            environ(required, ca.client(version=version, own=bad))
    required.wait_log("TLS handshake failed: peer did not return a certificate")
    required.wait_log("TLS handshake failed: certificate verify failed")
    optional = start(tls(site, inside=f"tls_verify optional; tls_client_ca {quote(people.cert)};"))
    assert environ(optional, ca.client(version=version, own=alice))["SSL_CLIENT_VERIFY"] == "SUCCESS"
    seen = environ(optional, ca.client(version=version))
    assert seen["SSL_CLIENT_VERIFY"] == "NONE"
    assert "SSL_CLIENT_S_DN" not in seen


# ---- sessions


def resumed(
    server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession, str]:
    with Client(secure(server, context, session=session), timeout=PATIENCE) as c:
        assert isinstance(c.sock, ssl.SSLSocket)
        seen = json.loads(c.request("/environ", headers=("Connection: close",)).body)
        assert (seen["environ"]["SSL_SESSION_RESUMED"] == "Resumed") == bool(c.sock.session_reused)
        assert c.sock.session
        return bool(c.sock.session_reused), c.sock.session, seen["pid"]


@pytest.mark.parametrize("version", [V12, V13])
def test_resumption_in_every_process(start: Start, ca: Authority, site: Pair, version: ssl.TLSVersion) -> None:
    server = start(tls(site, ca.pair("other.test"), processes=3), ready=3)
    context = ca.client(version=version)
    did, session, pid = resumed(server, context, None)
    assert not did
    pids = {pid}
    for k in range(200):
        did, session, pid = resumed(server, context, session)
        assert did
        pids.add(pid)
        if k >= 20 and len(pids) > 1:
            break
    assert len(pids) > 1


def test_secrets_rotate(start: Start, ca: Authority, site: Pair) -> None:
    """Whoever comes often is resumed all the time; a ticket that has seen two rotations is worth nothing."""
    server = start(tls(site, main="secret_rotation 2s;").replace("stderr info", "stderr debug"))
    context = ca.client(version=V13)
    _, first, _ = resumed(server, context, None)
    session, before = first, server.log.count("has a new secret")
    while server.log.count("has a new secret") < before + 2:
        did, session, _ = resumed(server, context, session)
        assert did
    until(lambda: not resumed(server, context, first)[0], "a full handshake")
    assert resumed(server, context, session)[0]


def test_no_tickets(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site, inside="tls_session_tickets off;"))
    for version in (V12, V13):
        with Client(secure(server, ca.client(version=version)), timeout=PATIENCE) as c:
            assert isinstance(c.sock, ssl.SSLSocket)
            assert c.request("/").status == 200
            assert not (c.sock.session and c.sock.session.has_ticket)


def test_a_session_is_of_its_listener(start: Start, ca: Authority, site: Pair) -> None:
    """One that was made without a client certificate opens no listener that asks for one."""
    listen = [
        f"127.0.0.1:0 tls {{ {use(site)} }}",
        f"127.0.0.1:0 tls {{ {use(site)} tls_verify required; tls_client_ca {quote(ca.cert)}; }}",
    ]
    server = start(config(pool(listen=listen), main="load_module tls;"), listeners=2)
    for version in (V12, V13):
        context = ca.client(version=version)
        _, session, _ = resumed(server, context, None)
        with (
            pytest.raises((ssl.SSLError, ConnectionResetError)),
            context.wrap_socket(server.socket(1), server_hostname="localhost", session=session) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            sock.recv(100)


def test_keylog(start: Start, ca: Authority, site: Pair, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    server = start(tls(site, inside=f"tls_keylog {quote(path)};"))
    environ(server, ca.client(version=V13))
    environ(server, ca.client(version=V12))
    assert re.search(r"^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}$", path.read_text(), re.M)
    assert re.search(r"^CLIENT_TRAFFIC_SECRET_0 [0-9a-f]{64} ", path.read_text(), re.M)
    assert path.stat().st_mode & 0o777 == 0o600


# ---- data


@pytest.mark.parametrize("version", [V12, V13])
def test_much_data_both_ways(start: Start, ca: Authority, site: Pair, worker: str, version: ssl.TLSVersion) -> None:
    server = start(tls(site, worker=worker, inside="", main=""))
    body = os.urandom(1 << 20) * (SIZE >> 20)
    context = ca.client(version=version)
    with Client(secure(server, context), timeout=PATIENCE) as c:
        (pid,) = server.workers()
        c.request("/")
        before = memory(pid)
        answer = c.request(f"/big?n={SIZE}&length=1")
        assert len(answer.body) == SIZE
        answer = json.loads(c.request("/digest", "POST", body=body).body)
        assert answer["length"] == len(body)
        assert answer["sha256"] == hashlib.sha256(body).hexdigest()
        if not SANITIZED:  # ASan keeps what was freed for a while
            assert memory(pid) < before + (8 << 20)


def test_a_file_through_tls(start: Start, ca: Authority, site: Pair, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file.bin").write_bytes(data)
    listen = f"127.0.0.1:0 tls {{ {use(site)} }}"
    routes = f"route /files static {{ root {quote(tmp_path)}; }} route /old return {{ status 301; location https://example.org/; }}"
    server = start(
        config(pool(listen=[listen], inside=routes), main="load_module tls; load_module static; load_module return;")
    )
    with Client(secure(server, ca.client()), timeout=PATIENCE) as c:
        assert c.request("/files/file.bin").body == data
        assert c.request("/old").get("Location") == "https://example.org/"
        assert c.request("/files/file.bin", headers=("Range: bytes=70000-170000",)).body == data[70000:170001]


def test_half_close(start: Start, ca: Authority, site: Pair) -> None:
    """A client that says that it sends nothing more is answered, and then hears the same."""
    server = start(tls(site))
    port = int(server.addresses[0].rpartition(":")[2])
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    obj = ca.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def step(what: str) -> bytes | None:
        while True:
            try:
                return obj.read(100000) if what == "read" else obj.do_handshake()  # type: ignore[func-returns-value]
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                more = raw.recv(65536)
                if not more:
                    incoming.write_eof()
                incoming.write(more)

    step("handshake")
    obj.write(b"GET /big?n=200000&length=1 HTTP/1.0\r\n\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        obj.unwrap()  # close_notify
    raw.sendall(outgoing.read())
    raw.shutdown(socket.SHUT_WR)
    got = b""
    while more := raw.recv(65536):
        got += more
    assert len(got) > 200000
    raw.close()
    records, at = [], 0
    while at < len(got):
        records.append(got[at])
        at += 5 + int.from_bytes(got[at + 3 : at + 5], "big")
    assert at == len(got)


def test_the_end_is_said(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    context = ca.client()
    with context.wrap_socket(server.socket(), server_hostname="localhost", suppress_ragged_eofs=False) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while more := sock.recv(1000):
            text += more
        assert text.endswith(b"Hello, world!\n")


def test_drain(start: Start, ca: Authority, site: Pair, tmp_path: Path) -> None:
    """A request that runs is finished; the connection then ends in order."""
    gate, mark = Gate(tmp_path / "gate"), tmp_path / "mark"
    server = start(tls(site))
    with ca.client().wrap_socket(server.socket(), server_hostname="localhost", suppress_ragged_eofs=False) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(f"GET /wait?gate={gate.path}&mark={mark} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(mark.exists, "the request runs")
        server.send_signal(signal.SIGTERM)
        server.wait_log("running requests are finished")
        gate.open()
        text = b""
        while more := sock.recv(1000):
            text += more
        assert text.startswith(b"HTTP/1.1 200")
    server.wait()


# ---- hostile and broken clients


def test_handshakes_that_do_not_end(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site, inside="tls_handshake_timeout 300ms;"))
    context = ca.client()
    hello = ssl.MemoryBIO()
    obj = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        obj.do_handshake()
    data = hello.read()
    for part in (b"", data[:1], data[:100], data):
        with server.socket() as sock:
            sock.sendall(part)
            while sock.recv(65536):
                pass
    server.wait_log("no TLS handshake within tls_handshake_timeout", 4)
    assert environ(server, context)["HTTPS"] == "on"


def test_byte_by_byte(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    with server.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        obj = ca.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

        def flush() -> None:
            for byte in outgoing.read():
                sock.sendall(bytes([byte]))

        while True:
            try:
                obj.do_handshake()
                break
            except ssl.SSLWantReadError:
                flush()
                incoming.write(sock.recv(1))
        obj.write(b"GET / HTTP/1.0\r\n\r\n")
        flush()
        text = b""
        while not text.endswith(b"world!\n"):
            try:
                text += obj.read(1000)
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(1000))


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"\x16\x03\x01\xff\xff" + b"A" * 100,
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0" * 20,
        b"SSH-2.0-x\r\n" * 10,
        os.urandom(5000),
    ],
)
def test_garbage(start: Start, ca: Authority, site: Pair, data: bytes) -> None:
    server = start(tls(site, inside="tls_handshake_timeout 1s;"))
    with server.socket() as sock:
        try:
            sock.sendall(data)
            answer = sock.recv(1000)
        except ConnectionError:
            answer = b""
        assert not answer or answer[0] == 0x15  # an alert
    server.wait_log("TLS handshake failed|no TLS handshake")
    assert environ(server, ca.client())["HTTPS"] == "on"


def test_plain_http_to_the_port(start: Start, site: Pair) -> None:
    server = start(tls(site))
    for method in ("GET", "POST", "HEAD", "PUT"):
        with server.socket() as sock:
            sock.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            text = b""
            while more := sock.recv(1000):
                text += more
        head, _, body = text.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"https://" in body


def test_key_updates_without_end(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    # its last words to a client that is gone are lost
    with contextlib.suppress(BrokenPipeError), s_client(server, "-tls1_3") as client:
        assert client.stdin and client.stdout
        for _ in range(500):
            client.stdin.write("K\n")
            client.stdin.flush()
            if not any(line.startswith("KEYUPDATE") for line in client.stdout):
                break
    server.wait_log("TLS failed: too many messages without data")
    assert environ(server, ca.client())["HTTPS"] == "on"


def test_renegotiation_is_refused(start: Start, ca: Authority, site: Pair) -> None:
    server = start(tls(site))
    with s_client(server, "-tls1_2") as client:
        assert client.stdin and client.stdout
        client.stdin.write("R\n")
        client.stdin.flush()
        assert "no renegotiation" in client.stdout.read()
        client.kill()
    assert environ(server, ca.client())["HTTPS"] == "on"


def test_many_handshakes_beside_a_connection(start: Start, ca: Authority, site: Pair) -> None:
    """All of them succeed, and a connection that was there before is served meanwhile."""
    server = start(tls(site))
    context = ca.client()
    failed: list[BaseException] = []

    def many() -> None:
        try:
            for _ in range(25):
                assert ask(server, context, "/").text == "Hello, world!\n"
        except BaseException as error:  # told to the test
            failed.append(error)

    with Client(secure(server, context), timeout=PATIENCE) as c:
        threads = [threading.Thread(target=many) for _ in range(8)]
        for t in threads:
            t.start()
        served = 0
        while any(t.is_alive() for t in threads):
            assert c.request("/").text == "Hello, world!\n"
            served += 1
        for t in threads:
            t.join()
    assert not failed, failed
    assert served > 0
