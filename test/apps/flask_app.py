# SPDX-License-Identifier: BSD-2-Clause
"""A Flask application of the ordinary kind: pages, forms, uploads, downloads, streams, cookies, errors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from flask import Flask, Response, abort, jsonify, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

app = Flask(__name__)
app.secret_key = "only for tests"

PAGE = """<!doctype html><title>{{ title }}</title><h1>{{ title }}</h1>
<ul>{% for item in items %}<li>{{ item }}</li>{% endfor %}</ul>"""
BLOCK = bytes(range(256)) * 256


@app.get("/")
def index() -> str:
    return render_template_string(PAGE, title="licorne", items=["<one>", "two", "três"])


@app.route("/form", methods=["GET", "POST"])
def form() -> str | BaseResponse:
    if request.method == "GET":
        return '<form method="post"><input name="who"><input type="submit"></form>'
    session["who"] = request.form["who"]
    return redirect(url_for("greet"))


@app.get("/greet")
def greet() -> str:
    return render_template_string("Hello, {{ who }}!", who=session.get("who", "nobody"))


@app.get("/args")
def args() -> Response:
    return jsonify({key: request.args.getlist(key) for key in request.args})


@app.post("/json")
def json_echo() -> Response:
    return jsonify(request.get_json())


@app.post("/upload")
def upload() -> Response:
    file = request.files["file"]
    sha, size = hashlib.sha256(), 0
    while chunk := file.stream.read(65536):
        sha.update(chunk)
        size += len(chunk)
    return jsonify(name=file.filename, size=size, sha256=sha.hexdigest(), note=request.form.get("note"))


@app.put("/raw")
def raw() -> Response:
    sha, size = hashlib.sha256(), 0
    while chunk := request.stream.read(65536):
        sha.update(chunk)
        size += len(chunk)
    return jsonify(size=size, sha256=sha.hexdigest(), pid=os.getpid())


@app.get("/download/<int:size>")
def download(size: int) -> Response:
    def pieces() -> Iterator[bytes]:
        left = size
        while left > 0:
            yield BLOCK[:left]
            left -= len(BLOCK)

    return Response(pieces(), mimetype="application/octet-stream", headers={"Content-Length": str(size)})


@app.get("/stream")
def stream() -> Response:
    return Response((f"line {i}\n" for i in range(1000)), mimetype="text/plain")


@app.get("/missing")
def missing() -> Response:
    abort(404, "not here")


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("a page that fails")
