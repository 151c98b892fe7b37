# SPDX-License-Identifier: BSD-2-Clause
"""h2spec against the real server: everything passes but what h2spec.toml lists with its reason.

By `wsgi` alone: what h2spec sends on a stream that is half closed has to be read while the application works on it, and in
`sync` the loop waits for the application.
"""

from __future__ import annotations

import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import Start
from harness import PATIENCE, ROOT, Server, pool
from pki import Authority
from test_tls import use

H2SPEC = ROOT / "build-test" / "bin" / "h2spec"
CASES = 140  # there are 145 in version 2.2.1: fewer than this, and it has not run


def exceptions() -> dict[str, str]:
    listed = tomllib.loads((ROOT / "test" / "conformance" / "h2spec.toml").read_text())["exception"]
    assert all(e["reason"].strip() for e in listed)
    return {e["test"]: e["reason"] for e in listed}


def failures(server: Server, folder: Path, *options: str) -> tuple[set[str], int]:
    """The tests that failed, and how many there were."""
    host, _, port = server.addresses[0].rpartition(":")
    junit = folder / "junit.xml"
    done = subprocess.run(
        [H2SPEC, "-h", host, "-p", port, "-o", str(int(PATIENCE / 10)), "-j", junit, *options],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert junit.exists(), done.stdout + done.stderr
    failed, count = set(), 0
    for suite in ET.parse(junit).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            count += 1
            if case.find("failure") is not None or case.find("error") is not None or case.find("skipped") is not None:
                section = (case.get("package") or "").rpartition("/")[2]
                failed.add(f"{section} {case.get('classname')}")
    return failed, count


@pytest.mark.timeout(900)
def test_h2spec_in_clear_text(start: Start, tmp_path: Path) -> None:
    text = "load_module http2;\nload_module wsgi;\nerror_log stderr info;\n"
    server = start(text + pool("wsgi", "h2spec_app:app", inside="protocols http2;"))
    server.allow("application error", "POST /")
    failed, count = failures(server, tmp_path)
    assert count > CASES
    assert failed == set(exceptions())


@pytest.mark.timeout(900)
def test_h2spec_over_tls(start: Start, tmp_path: Path) -> None:
    text = "load_module http2;\nload_module tls;\nload_module wsgi;\nerror_log stderr info;\n"
    listen = f"127.0.0.1:0 tls {{ {use(Authority(tmp_path).pair('localhost'))} }}"
    server = start(text + pool("wsgi", "h2spec_app:app", listen=[listen], inside="protocols http2;"))
    server.allow("application error", "POST /")
    failed, count = failures(server, tmp_path, "-t", "-k")
    assert count > CASES
    assert failed == set(exceptions())
