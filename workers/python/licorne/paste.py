# SPDX-License-Identifier: BSD-2-Clause
"""``[server:main] use = egg:licorne``: what ``pserve development.ini`` starts.

    [server:main]
    use = egg:licorne
    host = 127.0.0.1
    port = 6543
    workers = 2
    threads = 4

The process becomes ``licorne run --paste FILE#APP``: the workers load the application themselves, from the same file.
Keys: ``host`` and ``port``, or ``bind`` (addresses, separated by spaces); ``workers``, ``threads``, ``worker``,
``access_log`` as of ``licorne run``; ``app``, the section to serve when it is not ``main``.

The binary is ``$LICORNE``, else that of the build tree or installation that this package lies in, else the first
``licorne`` in ``PATH``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

OPTIONS = ("workers", "threads", "worker", "access_log")
KEYS = ("host", "port", "bind", *OPTIONS, "app")


class SetupError(Exception):
    """The server cannot be started as the section says.  (pserve takes a SystemExit for a normal end.)"""


def find_binary() -> str:
    """The path of the licorne binary."""
    named = os.environ.get("LICORNE")
    if named:
        found = shutil.which(named)
        if found is None:
            raise SetupError(f"LICORNE is {named!r}, which is no program that can be run")
        return found
    here = Path(__file__).resolve()
    tree = here.parents[3]  # when this is workers/python/licorne/paste.py
    # else it is PREFIX/lib/licorne-0/python/licorne/paste.py or PREFIX/lib/python3.11/site-packages/licorne/paste.py
    for place in (tree / "build" / "licorne", *(p / "bin" / "licorne" for p in list(here.parents)[4:6])):
        if place.is_file() and os.access(place, os.X_OK):
            return str(place)
    found = shutil.which("licorne")
    if found is None:
        raise SetupError(
            "there is no program licorne in PATH: install it, or name it in the environment: LICORNE=/PATH"
        )
    return found


def command(settings: Mapping[str, str], file: str) -> list[str]:
    """The arguments of ``licorne`` for a server section."""
    unknown = [key for key in settings if key not in KEYS]
    if unknown:
        raise SetupError(f"{file}: egg:licorne has no setting {', '.join(unknown)}; it has {', '.join(KEYS)}")
    name = settings.get("app", "main")
    args = ["run", "--paste", f"{file}#{name}"]
    if "bind" in settings:
        if "host" in settings or "port" in settings:
            raise SetupError(f"{file}: egg:licorne takes bind, or host and port, not both")
        binds = settings["bind"].split()
    else:
        host = settings.get("host", "127.0.0.1")
        if ":" in host and not host.startswith(("[", "unix:")):
            host = f"[{host}]"
        binds = [host if host.startswith("unix:") else f"{host}:{settings.get('port', '8080')}"]
    for bind in binds:
        args += ["--bind", bind]
    for key in OPTIONS:
        if key in settings:
            args += ["--" + key.replace("_", "-"), settings[key]]
    return args


def serve(app: Any, global_conf: Mapping[str, str], **settings: str) -> NoReturn:
    """The ``paste.server_runner``; ``app`` is loaded again by each worker."""
    file = global_conf.get("__file__")
    if not file:
        raise SetupError("egg:licorne needs to know the configuration file, but the loader names none")
    binary = find_binary()
    args = command(settings, os.path.abspath(file))
    if sys.prefix != sys.base_prefix:
        os.environ.setdefault("VIRTUAL_ENV", sys.prefix)  # pserve may be run without activating it
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(binary, [binary, *args])
