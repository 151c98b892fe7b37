# SPDX-License-Identifier: BSD-2-Clause
"""A Falcon application: media, a body that is read in pieces, a file, an error."""

from __future__ import annotations

import hashlib
import os

import falcon


class Items:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"path": req.path, "query": req.get_param("q"), "root": req.root_path, "host": req.host}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        sha, total = hashlib.sha256(), 0
        while chunk := req.bounded_stream.read(65536):
            sha.update(chunk)
            total += len(chunk)
        resp.status = falcon.HTTP_201
        resp.media = {"sha256": sha.hexdigest(), "length": total}


class File:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        name = os.environ["DOWNLOAD"]
        resp.content_type = "application/octet-stream"
        resp.set_stream(open(name, "rb"), os.path.getsize(name))


class Fails:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise LookupError("falcon " + "failed")


app = falcon.App()
app.add_route("/items", Items())
app.add_route("/file", File())
app.add_route("/fail", Fails())
