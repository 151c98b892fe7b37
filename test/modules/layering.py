# SPDX-License-Identifier: BSD-2-Clause
"""The seams, by grep: layering.py SOURCE_ROOT [MODULE.so ...]

core/       names no protocol and no language;
protocols/  uses no socket, TLS or Python header or symbol (the built modules import none, either);
workers/    name no protocol module.

What counts is what is compiled: comments may explain with names, and are taken out first.  An exception is a row in
ALLOWED with its reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# A protocol or a language, as a part of identifiers as well: "http", "Http1", "h2", "wsgi", "PyObject".
NAMES = re.compile(
    r"http|websocket|hpack|quic(?!k)|(?<![a-z0-9])h[123]c?(?![a-z0-9])|python|wsgi|asgi|gunicorn|(?<![a-z])py(?:object|_|thon)"
    r"|(?<![a-z])(?:perl|ruby|php|lua)(?![a-z])",
    re.I,
)
PROTOCOL_MODULES = re.compile(r"http[_-]?[123]|websocket|hpack|quic(?!k)|(?<![a-z0-9])h[123]c?(?![a-z0-9])", re.I)
INCLUDES = re.compile(
    r"#\s*include\s*[<\"](?:sys/(?:socket|epoll|un|uio|select|eventfd|timerfd|ioctl)|netinet/|arpa/|netdb|poll\.h|unistd"
    r"|openssl/|gnutls/|Python|pthread|dlfcn|net/|loop/|worker/|arbiter/)"
)
SYMBOLS = re.compile(
    r"(?<![\w>.])(?:socket|accept4?|bind|listen|connect|recv(?:from|msg)?|send(?:to|msg|file)?|readv?|writev?|poll|select"
    r"|epoll_\w+|getaddrinfo|setsockopt|time|clock_gettime|gettimeofday|pthread_\w+|fork|open|close)\s*\("
    r"|\bSSL_\w+|\bBIO_\w+|\bPy[A-Z_]\w*"
)
IMPORTS = re.compile(
    r"^(?:socket|accept4?|bind|listen|connect|recv\w*|send\w*|readv?|writev?|poll|select|epoll_\w+|getaddrinfo|setsockopt"
    r"|clock_gettime|pthread_create|fork|SSL_\w+|BIO_\w+|Py\w+|_Py\w+)(?:@.*)?$"
)

# (file, pattern of the line, why)
ALLOWED = [
    (
        "core/include/licorne/tokens.h",
        r'X\(\w+, "[a-z0-9-]+"\)',
        "field names of the IANA registry hold protocol names",
    ),
    (
        "core/config/hints.c",
        r'^ +\{"',
        "what words of other servers are called here, of which some hold names",
    ),
    (
        "core/log/format.c",
        r'"(?:sent_)?http_"|\$http_(?:referer|user_agent)',
        "names of variables that every administrator knows",
    ),
]


def code(path: Path) -> list[str]:
    """The file's lines without comments."""
    text = path.read_text()

    def blank(match: re.Match[str]) -> str:
        return match.group(0) if match.group(0)[0] in "\"'" else re.sub(r"[^\n]", " ", match.group(0))

    pattern = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*'
    return re.sub(pattern, blank, text, flags=re.S).splitlines()


def allowed(name: str, line: str) -> bool:
    return any(name == file and re.search(pattern, line) for file, pattern, _ in ALLOWED)


def scan(root: Path, folder: str, patterns: list[re.Pattern[str]], rule: str) -> list[str]:
    found = []
    files = sorted(p for p in (root / folder).rglob("*") if p.suffix in (".c", ".h"))
    if not files:
        found.append(f"{folder}/: no source found")
    for path in files:
        name = str(path.relative_to(root))
        for number, line in enumerate(code(path), 1):
            for pattern in patterns:
                match = pattern.search(line)
                if match and not allowed(name, line):
                    found.append(f"{name}:{number}: {rule}: {match.group(0).strip()}: {line.strip()}")
                    break
    return found


def imports(root: Path, module: Path) -> list[str]:
    if not (root / "protocols" / module.stem).is_dir():
        return []
    lines = subprocess.run(["nm", "-D", "-u", module], check=True, capture_output=True, text=True).stdout.splitlines()
    names = [line.split()[-1] for line in lines]
    return [f"{module.name}: a protocol module imports {name}" for name in names if IMPORTS.match(name)]


def main() -> int:
    root = Path(sys.argv[1])
    found = scan(root, "core", [NAMES], "core names a protocol or a language")
    found += scan(root, "protocols", [INCLUDES, SYMBOLS], "a protocol uses a socket, a clock, TLS, threads or Python")
    found += scan(root, "workers", [PROTOCOL_MODULES], "a worker names a protocol")
    for so in sys.argv[2:]:
        found += imports(root, Path(so))
    print("\n".join(found) or "the layers hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
