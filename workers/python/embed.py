# SPDX-License-Identifier: BSD-2-Clause
"""Write a text file as a C array: ``embed.py NAME IN OUT``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    name, source, target = sys.argv[1:]
    data = Path(source).read_bytes() + b"\0"
    rows = [", ".join(str(byte) for byte in data[i : i + 24]) for i in range(0, len(data), 24)]
    Path(target).write_text(f"static const char {name}[] = {{\n\t" + ",\n\t".join(rows) + "};\n")


if __name__ == "__main__":
    main()
