#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Where do licorne's instructions go?  User-space instructions per request, and the functions that take them.
#
#   test/bench/profile.sh [--build DIR] [--work DIR] [--perf] [--requests N] [--threads N] [--top N]
#                         [keepalive] [pipelined] [browser] [browser-pipelined] [h2-32] [h2-1]
#
# With callgrind (default): two runs of a fixed number of requests, N and 2N, after the same start; the difference of their
# totals, divided by N, is what one request costs, free of start-up and shut-down.  With --perf: samples of a run under wrk.
# callgrind counts no kernel work and no cache misses: a rank, not a stop-watch.  Needs a build with symbols.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build-bench build='' tool=callgrind requests=4000 threads=4 top=45 rows=()

while [ $# -gt 0 ]; do
	case $1 in
	--build) build=$2; shift ;;
	--work) work=$2; shift ;;
	--requests) requests=$2; shift ;;
	--threads) threads=$2; shift ;;
	--top) top=$2; shift ;;
	--perf) tool=perf ;;
	keepalive | pipelined | browser | browser-pipelined | h2-32 | h2-1) rows+=("$1") ;;
	*) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
	esac
	shift
done
[ ${#rows[@]} -gt 0 ] || rows=(keepalive pipelined)
build=${build:-$work/licorne}
[ -f "$build/build.ninja" ] || { echo "no build in $build: give --build DIR, or run test/bench/run once" >&2; exit 1; }
out=$work/profile
mkdir -p "$out"

exec python3 "$here/lcbench/profile.py" --bench "$here" --build "$build" --work "$work" --out "$out" --tool "$tool" \
	--requests "$requests" --threads "$threads" --top "$top" "${rows[@]}"
