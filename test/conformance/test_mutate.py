# SPDX-License-Identifier: BSD-2-Clause
"""A sample of what test/conformance/mutate does with every check: turned off, a row must fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import rows_of, run
from table import checks

NAMES = [check.name for check in checks()]
SAMPLE = ["line-spaces", "target-form", "host-twice", "coding-length", "length-twice", "chunk-end", "trailer-forbidden"]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_lost_check_is_noticed(name: str, tmp_path: Path) -> None:
    assert name in NAMES
    assert run(name, rows_of(name), tmp_path, first=True).red


def test_the_build_that_loses_checks_has_them_all(tmp_path: Path) -> None:
    rows = [row for name in SAMPLE for row in rows_of(name)]
    assert run("none", rows, tmp_path).red == {}
