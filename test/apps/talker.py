# SPDX-License-Identifier: BSD-2-Clause
"""Says something in every way there is, on import and in a request, without configuring anything."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

logging.getLogger("talker.import").warning("said on import")
print("printed on import")
atexit.register(print, "printed at exit\nin two lines")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    log = logging.getLogger("talker")
    what = environ["QUERY_STRING"]
    if what == "log":
        log.info("too quiet to be heard")
        log.warning("a warning of\ntwo lines")
        logging.error("of the root logger")
    elif what == "exception":
        try:
            raise LookupError("not " + "found")
        except LookupError:
            log.exception("it went wrong")
    elif what == "print":
        print("printed", "in parts", end="")
        print(", one line\x1b[31m")
        print("to stderr\nin two lines", file=sys.stderr)
    elif what == "child":
        subprocess.run([sys.executable, "-c", "import sys; print('of a child', file=sys.stderr)"], stderr=sys.stderr)
    elif what == "thread":
        thread = threading.Thread(target=lambda: {"a": 1}["no such key"], name="busy")
        thread.start()
        thread.join()
    elif what == "unfinished":
        print("unfinished", end="")
    elif what == "descriptors":
        assert os.fstat(sys.stdout.fileno()) and os.fstat(sys.stderr.fileno())
        sys.stdout.buffer.write("bytes é\n".encode())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"said\n"]
