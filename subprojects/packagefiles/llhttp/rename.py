#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Print a header that gives every function that a C file defines a suffix, so that it can be compiled twice.

usage: rename.py llhttp.c SUFFIX
"""
import re
import sys

with open(sys.argv[1], encoding='utf-8') as f:
    names = sorted(set(re.findall(r'^int (llhttp__internal_\w+)\(', f.read(), re.M)))
assert 'llhttp__internal_execute' in names
for name in names:
    print(f'#define {name} {name}{sys.argv[2]}')
