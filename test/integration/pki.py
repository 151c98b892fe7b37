# SPDX-License-Identifier: BSD-2-Clause
"""Certificates for tests, made by the openssl command: an authority, and pairs that it vouches for."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


def openssl(*args: str | Path, text: str = "") -> str:
    done = subprocess.run(["openssl", *args], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Pair:
    cert: Path
    key: Path


KINDS = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "rsa": ("-newkey", "rsa:2048"),
}


class Authority:
    """Signs; its own certificate is at ``cert``."""

    def __init__(self, folder: Path, name: str = "Test Authority", parent: Authority | None = None) -> None:
        self.folder = folder
        self.parent = parent
        self.count = 0
        self.name = name
        stem = name.replace(" ", "-").lower()
        self.cert, self.key = folder / f"{stem}.pem", folder / f"{stem}.key"
        what = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        self.make(self.cert, self.key, f"/O=licorne/CN={name}", what, "ec", parent or self)

    def make(self, cert: Path, key: Path, subject: str, what: list[str], kind: str, signer: Authority) -> None:
        # what strict clients (Python 3.13) ask for beside it (RFC 5280 4.2.1.1)
        args: list[str | Path] = ["req", "-x509", "-nodes", "-days", "30", *KINDS[kind]]
        args += ["-subj", subject, *(a for w in what for a in ("-addext", w)), "-keyout", key, "-out", cert]
        if signer is not self or self.cert != cert:
            request = cert.with_suffix(".csr")
            openssl("req", "-new", "-nodes", *KINDS[kind], "-subj", subject, "-keyout", key, "-out", request)
            extensions = cert.with_suffix(".ext")
            lines = [*what, "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
            extensions.write_text("\n".join(lines) + "\n")
            openssl(
                *("x509", "-req", "-in", request, "-CA", signer.cert, "-CAkey", signer.key, "-CAcreateserial"),
                *("-days", "30", "-extfile", extensions, "-out", cert),
            )
        else:
            openssl(*args)

    def pair(self, *names: str, kind: str = "ec", subject: str = "") -> Pair:
        """A certificate for these DNS names; an authority below another one puts itself behind it."""
        self.count += 1
        stem = f"{self.name.replace(' ', '-').lower()}-{self.count}"
        pair = Pair(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        alt = ",".join(f"DNS:{n}" for n in names)
        extension = f"subjectAltName={alt}" if names else "basicConstraints=CA:FALSE"
        self.make(pair.cert, pair.key, subject or f"/CN={names[0]}", [extension], kind, self)
        if self.parent:
            pair.cert.write_text(pair.cert.read_text() + self.cert.read_text())
        return pair

    def client(self, *, version: ssl.TLSVersion | None = None, own: Pair | None = None) -> ssl.SSLContext:
        """A client that believes this authority."""
        context = ssl.create_default_context(cafile=str(self.cert))
        if version:
            context.minimum_version = context.maximum_version = version
        if own:
            context.load_cert_chain(own.cert, own.key)
        return context
