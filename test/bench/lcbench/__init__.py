# SPDX-License-Identifier: BSD-2-Clause
"""Parts of the benchmark: see test/bench/README.md."""
