# SPDX-License-Identifier: BSD-2-Clause
"""The admin, and views that stream, take uploads, send a file and fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from django.conf import settings
from django.contrib import admin
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello from {request.build_absolute_uri()}\n", content_type="text/plain")


def stream(request: HttpRequest) -> HttpResponse:
    def lines() -> Iterator[str]:
        for i in range(1000):
            yield f"line {i}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def upload(request: HttpRequest) -> HttpResponse:
    file, sha = request.FILES["file"], hashlib.sha256()
    for chunk in file.chunks():
        sha.update(chunk)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": sha.hexdigest(), "note": request.POST["note"]})


def download(request: HttpRequest) -> HttpResponse:
    return FileResponse((settings.HOME / "download.bin").open("rb"), as_attachment=True)


def fail(request: HttpRequest) -> HttpResponse:
    raise LookupError("the view " + "failed")


urlpatterns = [
    path("", home),
    path("admin/", admin.site.urls),
    path("stream/", stream),
    path("upload/", csrf_exempt(upload)),
    path("download/", download),
    path("fail/", fail),
]
