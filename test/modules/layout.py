# SPDX-License-Identifier: BSD-2-Clause
"""Hold the layout of the public structs still: layout.py PROGRAM GOLDEN SOURCE_ROOT [--write].

The program prints size and offsets; they must equal the golden file.  The headers are read, too, so that no struct and
no member can be forgotten in layout.c.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path


def strip(text: str) -> str:
    """A header without comments, macros and line continuations."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = text.replace("\\\n", " ")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def members(body: str) -> list[str]:
    """Names declared in a struct's body, in order."""
    found = []
    for declaration in body.split(";"):
        declaration = re.sub(r"LC_PRINTF\([^)]*\)", "", declaration).strip()
        if not declaration:
            continue
        pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", declaration)
        if pointer:
            found.append(pointer.group(1))
            continue
        found += re.findall(r"(\w+)\s*(?:\[[^]]*\]\s*)?(?:,|$)", declaration)
    return found


def declared(include: Path) -> set[str]:
    names = set()
    for header in sorted(include.glob("*.h")):
        for struct, body in re.findall(r"struct\s+(\w+)\s*\{(.*?)\n\}", strip(header.read_text()), flags=re.S):
            names.add(f"{struct}")
            names.update(f"{struct}.{member}" for member in members(body))
    return names


def main() -> int:
    program, golden, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    shown = {line.split()[0] for line in printed.splitlines() if not line.startswith("token ")}
    wanted = declared(root / "core" / "include" / "licorne")
    if shown != wanted:
        print("layout.c does not show:", ", ".join(sorted(wanted - shown)) or "-")
        print("layout.c shows what is in no header:", ", ".join(sorted(shown - wanted)) or "-")
        return 1
    if "--write" in sys.argv:
        golden.write_text(printed)
        return 0
    if printed == golden.read_text():
        print(f"{len(shown)} structs and members, as in {golden.name}")
        return 0
    diff = difflib.unified_diff(golden.read_text().splitlines(), printed.splitlines(), golden.name, "now", lineterm="")
    print("\n".join(diff))
    print(
        "\nThe layout of a public struct changed.  If something was appended: bump LC_ABI_MINOR in\n"
        "core/include/licorne/abi.h, say so in docs/abi.md, and write a new golden file (layout.py PROGRAM GOLDEN\n"
        "SOURCE_ROOT --write).  Anything else breaks modules that are already built: it takes a new LC_ABI_MAJOR."
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
