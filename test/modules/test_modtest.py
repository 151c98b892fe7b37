# SPDX-License-Identifier: BSD-2-Clause
"""licorne-modtest finds what is wrong: test_modtest.py MODTEST FOLDER SOURCE_ROOT HTTP1.so HTTP2.so ECHO.so ASK.so

Modules without a defect pass; each of broken.c's gets its sentence, an exit status of 1 and the input and step.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# defect: what the sentence must say
SENTENCES = {
    "overread": r"recv\(\) reads beyond the bytes that it was given",
    "keeps": r"the request's path points into the bytes given to recv\(\)",
    "session_path": r"the request's path lies in the session's memory",
    "changes": r"the request changes when recv\(\) has returned",
    "cut": r"differ from those of the same bytes in one piece",
    "global": r"differ from those of the same bytes in one piece",
    "done_twice": r"stream_done\(\) about a stream after stream_done\(\)",
    "no_done": r"a response is complete and its stream was never ended: stream_done\(\)",
    "no_want": r"\d+ bytes of a response wait, and nothing asks for them: want_write\(\)",
    "left": r"recv\(\) leaves \d+ bytes with no stream under way and without read_pause\(1\)",
    "stops": r"recv\(\) leaves \d+ bytes without read_pause\(1\) while the application waits for the body",
    "leak": r"each connection leaks: 1 blocks of memory stay after close\(\)",
    "leak_on_fail": r"memory leaks when an allocation fails: 1 blocks stay after close\(\)",
    "double_free": r"a block of 10 bytes is freed twice",
    "write_freed": r"a block of 10 bytes is written to after free\(\)",
    "unchecked_alloc": r"recv\(\) crashes \(.*\) when an allocation fails",
    "unchecked_open": r"stream_alloc\(\) with no stream: stream_open\(\) may give NULL",
    "after_detach": r"stream_avail\(\) about a stream after its detach\(\)",
    "unbounded": r"one connection holds \d+ bytes of memory for a peer that sends without end",
    "no_timer": r"no timer runs while the connection waits for its peer",
    "spins": r"pull\(\) puts nothing into an empty vector and asks to be called again",
    "too_much": r"recv\(\) says that it used \d+ bytes, it was given \d+",
    "bad_scope": r"recv\(\) returns -22, expected a number of bytes or -LC_STREAM_DEAD",
    "loops": r"recv\(\) does not return within 1 s",
    "no_pause": r"stream_body\(\) goes on after it returned 1",
    "no_resume": r"reading stays paused, though the application has taken everything",
    "body_after_end": r"stream_body\(\) after the end of the body",
    "upper": r"the request's field name \"X-Upper\" is not in lower case",
    "clock": r"uses time\(\): a protocol module has no sockets",
    "no_drain": r"has no drain\(\)",
    "stays": r"after drain\(LC_DRAIN_FINAL\) an idle connection stays open",
    "eof": r"after eof\(\) a request waits for the rest of its body for ever",
    "out_late": r"out_copy\(\) outside of pull\(\)",
    "two_at_once": r"writes beyond the 4 bytes that out_reserve\(\) gave",
    "sniff": r"sniff\(\) wants more than sniff_max \(4\) bytes",
}
SEEN = re.compile(r"^    with input \S.*, \S|^    with no input, ", re.M)


def run(modtest: str, so: Path, *options: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [modtest, *options, str(so)], capture_output=True, text=True, errors="replace", timeout=200
        )
    except subprocess.TimeoutExpired:
        return -1, "it does not come to an end"
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    modtest, folder, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    corpus = str(root / "test" / "modules" / "corpus")
    scratch = tempfile.TemporaryDirectory()
    large = Path(scratch.name) / "large"  # a body that fills the queue
    large.write_text("/large\n" + ("0123456789" * 9 + "\n") * 4000 + "\n/after\n\n")
    wrong: list[str] = []

    def passes(so: Path, corpus: str) -> str:
        status, text = run(modtest, so, "--corpus", corpus, "--corpus", str(large))
        return (
            ""
            if status == 0 and "nothing found with" in text
            else f"{so.stem} must pass, exit status {status}:\n{text}"
        )

    def fails(name: str) -> str:
        options = ["--seconds", "1" if name == "loops" else "60", "--corpus", corpus, "--corpus", str(large)]
        status, text = run(modtest, folder / f"broken_{name}.so", *options)
        if status == 1 and re.search(SENTENCES[name], text) and SEEN.search(text):
            return ""
        return f"broken_{name}: expected /{SENTENCES[name]}/, exit status {status}:\n{text}"

    good = [(folder / "broken_nothing.so", corpus)]
    corpora = [
        "test/fuzz/corpus/http1",
        "test/fuzz/corpus/http2",
        "docs/examples/echo/corpus",
        "docs/examples/ask/corpus",
    ]
    for path, name in zip(sys.argv[4:], corpora, strict=True):
        good.append((Path(path), str(root / name)))
    with ThreadPoolExecutor(2) as pool:
        wrong += [w for w in pool.map(lambda g: passes(*g), good) if w]
        wrong += [w for w in pool.map(fails, SENTENCES) if w]
    # directives, and mistakes on the command line
    http1 = Path(sys.argv[4])
    for options, status, words in (
        (["--conf", "head_timeout 5s;"], 0, "nothing found"),
        (["--conf", "no_such_directive 5s;"], 1, "--conf:1: "),
        (["--corpus", "/nonexistent"], 2, "No such file"),
    ):
        got, text = run(modtest, http1, *options)
        if got != status or words not in text:
            wrong.append(f"{options}: exit status {got}, expected {status} and {words!r}:\n{text}")
    print("\n".join(wrong) or f"{len(good)} modules pass, {len(SENTENCES)} defects are found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
