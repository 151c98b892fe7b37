# SPDX-License-Identifier: BSD-2-Clause
"""What licorne gives to applications."""

from __future__ import annotations

import pkgutil

__all__ = ["__version__"]

__version__ = "0.1.0"

# the server's own modules and what pip installed may lie in two places
__path__ = pkgutil.extend_path(__path__, __name__)
