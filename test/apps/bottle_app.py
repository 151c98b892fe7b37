# SPDX-License-Identifier: BSD-2-Clause
"""A Bottle application: templates, forms, cookies, files with ranges, a generator, an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bottle


def hello(name: str) -> Any:
    bottle.response.set_cookie("seen", name, path="/")
    return bottle.template("Hello, {{name}}!", name=name)


def form() -> Any:
    upload = bottle.request.files.get("file")
    return {"who": bottle.request.forms.get("who"), "size": len(upload.file.read()), "name": upload.filename}


def file() -> Any:
    folder, name = os.path.split(os.environ["DOWNLOAD"])
    return bottle.static_file(name, root=folder)


def count() -> Iterator[str]:
    for i in range(100):
        yield f"{i}\n"


def fail() -> Any:
    raise LookupError("bottle " + "failed")


app = bottle.Bottle()
app.route("/hello/<name>", "GET", hello)
app.route("/form", "POST", form)
app.route("/file", "GET", file)
app.route("/count", "GET", count)
app.route("/fail", "GET", fail)
