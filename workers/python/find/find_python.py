#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Print what is needed to embed a Python, one KEY=VALUE a line; used by meson.

With an argument: that Python (a path or a name), or an error that says why not.  Without one: the first ``python3``
on PATH (then /usr/bin/python3 and the versioned names) that is 3.11 or newer and has headers and a shared library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PROBE = r"""
import os, sys, sysconfig
v = sysconfig.get_config_var
libdir, so = v("LIBDIR") or "", v("INSTSONAME") or ""
if not so.startswith("libpython") or ".so" not in so:
    so = "libpython%d.%d%s.so.1.0" % (*sys.version_info[:2], getattr(sys, "abiflags", ""))
places = [libdir, os.path.join(libdir, v("MULTIARCH") or ""), os.path.join(sys.base_prefix, "lib")]
lib = next((p for p in (os.path.join(d, so) for d in places) if os.path.exists(p)), "")
inc = sysconfig.get_path("include")
print("version=%d.%d.%d" % sys.version_info[:3])
print("executable=" + os.path.realpath(sys.executable))
print("prefix=" + sys.base_prefix)
print("include=" + (inc if os.path.exists(os.path.join(inc, "Python.h")) else ""))
print("library=" + lib)
"""


def probe(python: str) -> dict[str, str] | None:
    """Facts about one interpreter; None if it cannot be run at all."""
    try:
        out = subprocess.run([python, "-I", "-c", PROBE], check=True, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split("=", 1) for line in out.splitlines())


def trouble(facts: dict[str, str] | None) -> str:
    """Why these facts do not allow embedding; empty if they do."""
    if facts is None:
        return "cannot be run"
    if tuple(int(n) for n in facts["version"].split(".")) < (3, 11):
        return f"is Python {facts['version']}, 3.11 or newer is needed"
    if not facts["include"]:
        return "has no Python.h (Debian: apt-get install python3-dev)"
    if not facts["library"]:
        return "has no shared library (Debian: apt-get install libpython3-dev; own builds: --enable-shared)"
    return ""


def candidates() -> list[str]:
    """Interpreters to try, in order of preference."""
    found: list[str] = []
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]:
        for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
            path = shutil.which(name, path=folder)
            if path and path not in found:
                found.append(path)
    return found


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    reasons = []
    for python in [wanted] if wanted else candidates():
        facts = probe(python)
        why = trouble(facts)
        if not why and facts is not None:
            for key, value in facts.items():
                print(f"{key}={value}")
            return 0
        reasons.append(f"{python} {why}")
    print("no Python to embed: " + "; ".join(reasons or ["no python3 on PATH"]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
