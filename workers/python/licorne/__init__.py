# SPDX-License-Identifier: BSD-2-Clause
"""What licorne gives to applications."""

from __future__ import annotations

import pkgutil

__all__ = ["RequestTimeout", "__version__"]

__version__ = "0.1.0"


class RequestTimeout(BaseException):
    """The call took longer than the directive ``request_timeout`` allows.

    Raised in the thread that runs it.  Not an Exception, so that ``except Exception`` does not keep it from ending the
    call; who catches it to clean up raises it again.
    """


# the server's own modules and what pip installed may lie in two places
__path__ = pkgutil.extend_path(__path__, __name__)
