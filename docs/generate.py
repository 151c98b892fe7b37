# SPDX-License-Identifier: BSD-2-Clause
"""Write docs/reference/*.md from the directive rows: generate.py LICORNE FOLDER [--check] NAME=MODULE...

`core` is the core's own page; NAME=MODULE is one of a module, a file or a name.  With --check nothing is written: the
exit status tells whether the committed pages are what the rows say.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path


def page(licorne: str, module: str) -> str:
    """The reference of one module; a row without documentation fails."""
    argument = [] if module == "core" else [module]
    done = subprocess.run([licorne, "module", "--markdown", *argument], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip() or f"{licorne} module --markdown {module}: exit status {done.returncode}")
    # which Python a module was built for is not a fact of the reference
    return re.sub(r" \(Python [0-9.]+\w*\)", "", done.stdout)


def main() -> int:
    check = "--check" in sys.argv
    licorne, folder, *pages = [a for a in sys.argv[1:] if a != "--check"]
    stale = False
    folder_path = Path(folder)
    wanted = {p.split("=")[0] for p in pages}
    for name_module in pages:
        name, _, module = name_module.partition("=")
        text = page(licorne, module or name)
        path = folder_path / f"{name}.md"
        old = path.read_text() if path.exists() else ""
        if text == old:
            continue
        if not check:
            folder_path.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.name}")
            continue
        stale = True
        print("\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), f"{name}.md", "rows", lineterm="")))
    for path in sorted(folder_path.glob("*.md")):
        if path.stem not in wanted:
            stale = True
            print(f"{path.name}: there is no such module (any more)")
    if stale:
        print("\nThe reference is stale: run `ninja -C BUILD docs-reference` and commit docs/reference.")
    elif check:
        print(f"{len(pages)} pages are what the rows say")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
