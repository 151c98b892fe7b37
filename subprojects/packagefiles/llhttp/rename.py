#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Print a header that gives every function that C files define a suffix, so that they can be compiled twice.

usage: rename.py SUFFIX llhttp.c...
"""
import re
import sys

names = set()
for path in sys.argv[2:]:
    with open(path, encoding='utf-8') as f:
        names.update(re.findall(r'^(?!static|extern|return)\w[\w* ]*?\b(llhttp_\w+)\(', f.read(), re.M))
assert {'llhttp__internal_execute', 'llhttp_execute'} <= names
for name in sorted(names):
    print(f'#define {name} {name}{sys.argv[1]}')
