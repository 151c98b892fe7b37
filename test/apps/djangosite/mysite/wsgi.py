# SPDX-License-Identifier: BSD-2-Clause
"""What `app mysite.wsgi` serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = get_wsgi_application()
if os.environ.get("MYSITE_STATIC") == "application":
    from django.contrib.staticfiles.handlers import StaticFilesHandler

    application = StaticFilesHandler(application)
