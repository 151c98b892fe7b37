# SPDX-License-Identifier: BSD-2-Clause
"""Rules of the source tree, and what an installation holds.  Who may name whom: test/modules/layering.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Start
from harness import BUILD, ROOT, config, environment, pool

LIMIT = 1500


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h"):
                yield path


@pytest.mark.parametrize("path", sorted(BUILD.glob("*.so")), ids=lambda p: p.name)
def test_modules_export_one_symbol(path: Path) -> None:
    out = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in out.stdout.splitlines() if line.split()[-2] not in "Aa"]
    own = [n for n in names if not n.startswith(("__asan", "__ubsan", "__odr_asan", "___asan", "__sancov"))]
    assert own == ["lc_module_query"]


def test_files_are_short_and_say_what_they_are() -> None:
    wrong = []
    for path in sources("core", "protocols", "workers", "modules", "test"):
        text = path.read_text()
        if len(text.splitlines()) > LIMIT:
            wrong.append(f"{path}: more than {LIMIT} lines")
        if "SPDX-License-Identifier: BSD-2-Clause" not in text[:200]:
            wrong.append(f"{path}: no SPDX line")
    assert not wrong


@pytest.mark.normal
def test_installation(start: Start, tmp_path: Path) -> None:
    """meson install into a folder; the installed server runs from there."""
    env = {**os.environ, "DESTDIR": str(tmp_path)}
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, env=env)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    (binary,) = (f for f in files if f.endswith("/bin/licorne"))
    (pc,) = (f for f in files if f.endswith("/licorne.pc"))
    assert any(f.endswith("/include/licorne/module.h") for f in files)
    assert any(f.endswith(("licorne.conf", "licorne.conf.sample")) for f in files), "a sample configuration"
    modules = {Path(f).name: tmp_path / f for f in files if f.endswith(".so")}
    assert {"http1.so", "wsgi.so", "sync.so", "static.so"} <= set(modules)
    text = (tmp_path / pc).read_text()
    assert "moduledir=" in text
    assert "abi_major=" in text
    conf = tmp_path / "installed.conf"
    conf.write_text(config(pool()))
    done = subprocess.run(
        [tmp_path / binary, "-t", "-c", conf],
        env=environment({"LICORNE_MODULE_PATH": str(modules["http1.so"].parent)}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_headers_stand_alone(tmp_path: Path) -> None:
    """Each public header compiles by itself, in C11 and in C++."""
    for header in sorted((ROOT / "core" / "include" / "licorne").glob("*.h")):
        for compiler, suffix, standard in (("cc", "c", "-std=c11"), ("c++", "cc", "-std=c++17")):
            if suffix == "cc" and subprocess.run(["sh", "-c", "command -v c++"], capture_output=True).returncode:
                continue
            source = tmp_path / f"one.{suffix}"
            source.write_text(f"#include <licorne/{header.name}>\nint unused;\n")
            subprocess.run(
                [compiler, standard, "-Wall", "-Werror", f"-I{ROOT}/core/include", "-fsyntax-only", source], check=True
            )
