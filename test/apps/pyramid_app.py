# SPDX-License-Identifier: BSD-2-Clause
"""A Pyramid application for Paste Deploy: pyramid_app.ini names main()."""

from __future__ import annotations

import logging
import os
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import FileResponse, Response

log = logging.getLogger("pyramid_app")


def hello(request: Request) -> Any:
    log.warning("asked by %s\nfor %s", request.remote_addr, request.path_info)
    return {"greeting": request.registry.settings["greeting"], "path": request.path, "method": request.method}


def echo(request: Request) -> Any:
    return Response(request.body, content_type="application/octet-stream")


def file(request: Request) -> Any:
    return FileResponse(os.environ["DOWNLOAD"], request=request)


def fail(request: Request) -> Any:
    raise LookupError("pyramid " + "failed")


def main(global_config: dict[str, str], **settings: str) -> Any:
    with Configurator(settings=settings) as config:
        for name, view, renderer in (
            ("hello", hello, "json"),
            ("echo", echo, None),
            ("file", file, None),
            ("fail", fail, None),
        ):
            config.add_route(name, f"/{name}")
            config.add_view(view, route_name=name, renderer=renderer)
        return config.make_wsgi_app()
