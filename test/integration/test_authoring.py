# SPDX-License-Identifier: BSD-2-Clause
"""docs/module-authoring.md, followed to the letter by somebody who has the installed package and an empty folder."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from harness import BUILD, ROOT, TROUBLE, environment

GUIDE = ROOT / "docs" / "module-authoring.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks() -> list[tuple[str, str]]:
    found = BLOCK.findall(GUIDE.read_text())
    assert len(found) > 10, "the guide has lost its commands"
    assert {kind for kind, _ in found} == {"sh", "text"}, "a block is neither run nor compared"
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody for whom licorne is installed."""
    stage = tmp_path_factory.mktemp("stage")
    subprocess.run(
        ["meson", "install", "-C", str(BUILD), "--no-rebuild", "--quiet", "--destdir", str(stage)],
        check=True,
        timeout=300,
    )
    (pc,) = stage.rglob("licorne.pc")
    (licorne,) = stage.rglob("bin/licorne")
    (modules,) = stage.rglob("licorne-*/modules")
    env = environment()
    env["PATH"] = f"{licorne.parent}:{env['PATH']}"
    env["PKG_CONFIG_PATH"] = str(pc.parent)
    env["LICORNE_MODULE_PATH"] = str(modules)
    return env


def test_everything_is_installed(installed: dict[str, str]) -> None:
    def ask(*what: str) -> str:
        return subprocess.run(
            ["pkg-config", *what, "licorne"], env=installed, check=True, capture_output=True, text=True
        ).stdout.strip()

    headers = Path(ask("--variable=includedir")) / "licorne"
    assert {h.name for h in headers.iterdir()} == {h.name for h in (ROOT / "core" / "include" / "licorne").iterdir()}
    assert Path(ask("--variable=moduledir")).resolve() == Path(installed["LICORNE_MODULE_PATH"]).resolve()
    for name in ("echo", "ask", "hello"):
        assert (Path(ask("--variable=examplesdir")) / name / f"{name}.c").read_text().startswith("/* SPDX-")
    prefix = Path(ask("--variable=prefix")).resolve()
    for file in ("bin/licorne", "bin/licorne-modtest", "etc/licorne/licorne.conf.sample"):
        assert (prefix / file).exists(), file
    assert str(ROOT) not in ask("--cflags"), "a build outside of the tree would use the tree"


def test_the_guide_to_the_letter(installed: dict[str, str], tmp_path: Path) -> None:
    script = ["set -eu -o pipefail"]
    expected: list[tuple[int, str]] = []
    for number, (kind, text) in enumerate(blocks()):
        if kind == "sh":
            script += [f"echo '== {number}'", text]
        else:
            expected.append((number, text))
    path = os.pathsep.join(
        p for p in installed["PATH"].split(os.pathsep) if not Path(p).resolve().is_relative_to(BUILD)
    )
    env = {**installed, "PATH": path, "PORT": str(free_port())}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert not TROUBLE.search(done.stderr), done.stderr
    output = dict(re.findall(r"^== (\d+)\n(.*?)(?=^== |\Z)", done.stdout, re.M | re.S))
    for number, text in expected:  # how many runs there were may change
        before = output[str(number - 1)]
        assert re.sub(r"\d+ (?=inputs|runs)", "N ", before) == re.sub(r"\d+ (?=inputs|runs)", "N ", text)
    assert "ask_timeout" in done.stdout
    (worse,) = (o for o in output.values() if re.search(r"^echo 1\.0: \d+ problems? with ", o, re.M))
    assert "echo: reading stays paused" in worse and "read_pause(0)" in worse, worse


def test_the_guides_numbers() -> None:
    echo = (ROOT / "docs" / "examples" / "echo" / "echo.c").read_text()
    assert len(echo.splitlines()) < 100
    assert GUIDE.read_text().count("\n## ") >= 9
