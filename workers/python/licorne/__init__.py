# SPDX-License-Identifier: BSD-2-Clause
"""What licorne gives to applications."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
