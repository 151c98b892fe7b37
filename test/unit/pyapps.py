# SPDX-License-Identifier: BSD-2-Clause
"""Applications for the unit tests of the Python workers; the path selects one."""

from __future__ import annotations

import atexit
import gc
import gzip
import io
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]

closed = 0
kept: dict[str, Any] = {}
TEXT = [("Content-Type", "text/plain")]


class Body:
    """An iterable that counts its close()."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self.chunks = iter(chunks)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self.chunks)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        global closed
        closed += 1


def hello(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def dump(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    lines = [f"{k}={v!r}\n" for k, v in sorted(environ.items()) if isinstance(v, (str, bool, tuple))]
    assert type(environ) is dict
    environ["added"] = [environ]  # environ is the application's to change, and may be in a cycle
    return ["".join(lines).encode()]


class Str(str):
    """Counts its instances."""

    alive = 0

    def __init__(self, _text: str = "") -> None:
        Str.alive += 1

    def __del__(self) -> None:
        Str.alive -= 1


STATUS = "200 OK"
TYPE, OTHER = ("Content-Type", "text/plain"), ("Content-Type", "text/html")
FOO, COOKIE = ("X-Foo", "foo"), ("Set-Cookie", "a=b")
MUTABLE = [TYPE, FOO]
CONSTANT = [tuple(f"{name}".split("=")) for name in ("X-Foo=only here", "Content-Length=4")]  # held by the list alone
DISTINCT = [[TYPE, ("X-Number", f"number {i}")] for i in range(200)]
NAMES = [[TYPE, (f"X-Name-{i}", "same")] for i in range(8)]


def heads(environ: Environ, start_response: Start) -> list[bytes]:
    """Responses that are made of the same objects, more or less."""
    what, _, arg = environ["QUERY_STRING"].partition(":")
    body = b"body"
    status = STATUS
    headers: Any = [TYPE, FOO]
    if what == "fresh-tuples":
        headers = [(name, value) for name, value in headers]
    elif what == "length":
        headers.append(("Content-Length", arg))
        body = b"x" * int(arg or 0)
    elif what == "two-lengths":
        headers += [("Content-Length", "4"), ("Content-Length", arg)]
    elif what == "length-subclass":
        headers.append(("Content-Length", Str("4")))
    elif what == "constant":
        headers = CONSTANT
    elif what == "mutable":
        headers = MUTABLE
    elif what == "mutate":
        headers = MUTABLE
        MUTABLE[1] = COOKIE if MUTABLE[1] is FOO else FOO
    elif what == "mutate-after":
        start_response(status, headers)
        headers[:] = [OTHER]
        return [body]
    elif what == "equal":  # equal strings, but not these
        headers = [(f"{environ['REQUEST_METHOD'] and 'X'}-Foo", f"fo{'o'[:1]}")]
    elif what == "status":
        status = "404 Not Found"
    elif what == "reordered":
        headers = [FOO, TYPE]
    elif what == "subclass":
        headers = [TYPE, ("X-Foo", Str("foo"))]
    elif what == "subclass-name":
        headers = [TYPE, (Str("X-Foo"), "foo")]
    elif what == "distinct":
        headers = list(DISTINCT[int(arg)])
    elif what == "fresh":  # new strings, often found where the last ones were
        headers = [TYPE, ("X-Number", f"fresh {arg}")]
    elif what == "fresh-kept":
        value = f"fresh {arg}"
        pair = ("X-Number", value)
        headers = [TYPE, pair]
    elif what == "names":
        headers = NAMES[int(arg)]
    elif what == "replaced":
        start_response(status, [TYPE, FOO])
        try:
            raise ValueError
        except ValueError:
            start_response(status, [TYPE, ("X-Number", f"fresh {arg}")], sys.exc_info())
        return [body]
    elif what == "alive":
        body = str(Str.alive).encode()
    start_response(status, headers)
    return [body]


class Attributes:
    pass


CHANGES: list[Callable[[Environ], Any]] = [
    lambda e: e.update(REMOTE_USER="eve"),
    lambda e: e.__setitem__("HTTP_COOKIE", "stolen=1"),
    lambda e: e.setdefault("REMOTE_USER", "eve"),
    lambda e: e.__ior__({"PATH_INFO": "/other"}),
    lambda e: e.__delitem__("HTTP_COOKIE"),
    lambda e: e.pop("SERVER_NAME"),
    lambda e: e.popitem(),
    lambda e: e.clear(),
    lambda e: e.update([*list(e.items())[::-1], ("a", "b")]),
    lambda e: e.__init__({"QUERY_STRING": "x"}),  # type: ignore[misc]
    lambda e: (e.pop("PATH_INFO"), e.update(PATH_INFO="/")),  # another order
    lambda e: exec("REMOTE_USER = 1", e),
    lambda e: exec("QUERY_STRING = 'y'\ndel HTTP_COOKIE", e),
    lambda e: kept.update(environ=e),
    lambda e: kept.update(items=e.items()),
    lambda e: kept.update(iter=iter(e)),
    lambda e: kept.update(later=lambda: e.update(REMOTE_USER="eve")),
    lambda e: (setattr(Attributes, "at", Attributes()), setattr(Attributes.at, "__dict__", e)),  # type: ignore
    lambda e: e.update(me=e),
]


def only_read(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [repr(list(environ.items())).encode()]


def change(environ: Environ, start_response: Start) -> list[bytes]:
    kept.clear()
    CHANGES[int(environ["QUERY_STRING"])](environ)
    start_response("200 OK", list(TEXT))
    return [b"%d" % len(CHANGES)]


def change_later(environ: Environ, start_response: Start) -> list[bytes]:
    """Whoever kept something of an environ still has all of it, and may change it at any time."""
    start_response("200 OK", list(TEXT))
    late = kept.get("environ")
    if late is not None:
        assert late["QUERY_STRING"] == environ["QUERY_STRING"] and late["PATH_INFO"] == "/change", late
        late["HTTP_COOKIE"] = "late"
    if "later" in kept:
        kept["later"]()
    if hasattr(Attributes, "at"):
        Attributes.at.HTTP_COOKIE = "late"
        del Attributes.at
    for name in ("items", "iter"):
        if name in kept:
            assert len(list(kept[name])) > 20
    kept.clear()
    return [b"ok"]


def items(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [b"one, ", b"", b"two, ", b"three"]


def big(environ: Environ, start_response: Start) -> tuple[bytes, ...]:
    start_response("200 OK", list(TEXT))
    return (b"x" * 100000, b"y" * 10, b"z" * 50000)


def many(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [b"%04d" % i for i in range(1000)]


def gen(environ: Environ, start_response: Start) -> Iterator[bytes]:
    global closed
    try:
        start_response("200 OK", list(TEXT))  # only now, at the first next()
        yield b""
        yield b"first "
        yield b""
        yield b"second"
    finally:
        closed += 1


def gen_big(environ: Environ, start_response: Start) -> Body:
    start_response("200 OK", list(TEXT))
    return Body(bytes([65 + i % 26]) * 40000 for i in range(50))


def nothing(environ: Environ, start_response: Start) -> Body:
    start_response("200 OK", list(TEXT))
    return Body([])


def empty_list(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def no_content(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("204 No Content", [])
    return [b"not sent"]


def counted(chunks: list[Any], *headers: tuple[str, str]) -> Callable[[Environ, Start], Body]:
    def app(environ: Environ, start_response: Start) -> Body:
        start_response("200 OK", [*TEXT, *headers])
        return Body(chunks)

    return app


def write(environ: Environ, start_response: Start) -> list[bytes]:
    w = start_response("200 OK", list(TEXT))
    w(b"written ")
    w(b"")
    w(b"twice, ")
    return [b"and ", b"returned"]


def raises(environ: Environ, start_response: Start) -> list[bytes]:
    raise LookupError("no luck \udc80 today\0 or tomorrow")


def exits(environ: Environ, start_response: Start) -> list[bytes]:
    sys.exit(7)


def interrupt(environ: Environ, start_response: Start) -> list[bytes]:
    raise KeyboardInterrupt


def late(environ: Environ, start_response: Start) -> Body:
    start_response("200 OK", list(TEXT))
    return Body([b"part", ValueError("too late")])


def early(environ: Environ, start_response: Start) -> Body:
    start_response("200 OK", list(TEXT))
    return Body([b"", ValueError("just in time")])


def close_raises(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", list(TEXT))

    class Bad(Body):
        def close(self) -> None:
            super().close()
            raise RuntimeError("in close")

    return Bad([b"fine"])


def replaced(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", [*TEXT, ("X-Old", "1"), ("Content-Length", "99")])
    try:
        raise KeyError("inner")
    except KeyError:
        start_response("500 Oh No", list(TEXT), sys.exc_info())
    return [b"replaced"]


def replaced_late(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))(b"part")
    try:
        raise KeyError("inner")
    except KeyError:
        start_response("500 Oh No", headers=list(TEXT), exc_info=sys.exc_info())
    return [b"never"]


def twice(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    start_response("200 OK", list(TEXT), None)
    return [b"never"]


def unstarted(environ: Environ, start_response: Start) -> list[bytes]:
    return [b"never"]


def unstarted_gen(environ: Environ, start_response: Start) -> Body:
    return Body([b"never"])


def bad_head(environ: Environ, start_response: Start) -> list[bytes]:
    """Every head that must be refused; answers with those that were not."""
    good: list[Any] = [("X", "y")]
    bad: list[tuple[Any, Any]] = [
        ("20 OK", good),
        ("2000 OK", good),
        ("abc OK", good),
        ("", good),
        ("100 Continue", good),
        ("200 O\nK", good),
        ("200 O\rK", good),
        ("200 O\0K", good),
        ("200 \u20ac", good),
        (b"200 OK", good),
        (200, good),
        ("200 OK", tuple(good)),
        ("200 OK", {"X": "y"}),
        ("200 OK", [["X", "y"]]),
        ("200 OK", [("X", "y", "z")]),
        ("200 OK", [("X", 1)]),
        ("200 OK", [(b"X", b"y")]),
        ("200 OK", [("X", "a\r\nSet-Cookie: b=c")]),
        ("200 OK", [("X", "a\nb")]),
        ("200 OK", [("X", "a\rb")]),
        ("200 OK", [("X", "aaaaaaaaaaaaaaa\0b")]),
        ("200 OK", [("X", "\x7f")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X\r\nY", "z")]),
        ("200 OK", [("X Y", "z")]),
        ("200 OK", [("X:", "z")]),
        ("200 OK", [("", "z")]),
        ("200 OK", [("X\xe4", "z")]),
        ("200 OK", [("Connection", "close")]),
        ("200 OK", [("KEEP-alive", "1")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
        ("200 OK", [("Upgrade", "x")]),
        ("200 OK", [("TE", "x")]),
        ("200 OK", [("Trailer", "x")]),
        ("200 OK", [("Trailers", "x")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1a")]),
        ("200 OK", [("Content-Length", "")]),
        ("200 OK", [("Content-Length", "99999999999999999999")]),
        ("200 OK", [("Content-Length", "1"), ("content-length", "2")]),
        ("200 OK", [("X", "y")] * 2000),
        ("200 OK", [("X", "y" * (1 << 21))]),
    ]
    passed = []
    exc: tuple[Any, ...] = ()  # what was refused counts as a call
    for i, (status, headers) in enumerate(bad):
        try:
            start_response(status, headers, *exc)
        except (ValueError, TypeError):
            exc = (sys.exc_info(),)
            continue
        passed.append(f"{i}: {status!r} {headers!r:.60}")
        break
    for args in ((), ("200 OK",), ("200 OK", good, None, None)):
        try:
            start_response(*args)
        except TypeError:
            continue
        passed.append(repr(args))
    start_response("299 G\xfct ", [("X-Latin", " \tgr\xfc\xdf dich\t "), ("X-empty", "")], *exc)
    return ["\n".join(passed).encode()]


def refused(environ: Environ, start_response: Start) -> list[bytes]:
    """start_response() refuses something, and the application does not mind."""
    how = environ["QUERY_STRING"]
    if how == "replaced":
        start_response("200 OK", list(TEXT))
    try:
        raise ValueError
    except ValueError:
        exc = sys.exc_info()
    try:
        start_response("200 OK", [("X-Number", 1)], *([exc] if how == "replaced" else []))
    except TypeError:
        if how == "again":
            start_response("200 OK", list(TEXT))
        elif how == "exc-info":
            start_response("200 OK", list(TEXT), exc)
    return [] if how == "empty" else [b"body"]


def write_long(environ: Environ, start_response: Start) -> list[bytes]:
    w = start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    w(b"123")
    if environ["QUERY_STRING"] == "caught":
        for _ in range(3):
            try:
                w(b"4567")
            except ValueError:
                pass
    else:
        w(b"4567")
    return [b"89"]


def complete_then_fails(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    yield b"12345"
    raise ValueError("after everything")


def say(environ: Environ, start_response: Start) -> list[bytes]:
    """Everything that may end in the log."""
    logger = logging.getLogger("some.name")
    logging.warning("of the root %d", 1)
    logger.error("two\nlines")
    logger.info("not said")
    logger.setLevel(logging.DEBUG)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "level %s", logging.getLevelName(level))
    logger.setLevel(logging.NOTSET)
    try:
        raise LookupError("caught \0 one")
    except LookupError:
        logger.exception("it failed")
    logger.error("%d", "no number")
    print("printed", 3, end="")
    print(" in two parts")
    print("to standard error\nin two lines", file=sys.stderr)
    sys.stdout.buffer.write(b"bytes \xc3\xa9 \0\n")
    wrapper = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")  # type: ignore[union-attr]
    wrapper.write("wrapped\n")
    wrapper.flush()
    wrapper.close()
    warnings.warn("mind the gap", UserWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 // 0, name="worker bee")
    thread.start()
    thread.join()
    print("unfinished", end="")
    assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    assert not sys.stderr.isatty() and sys.stderr.writable() and sys.stderr.buffer.writable()
    start_response("200 OK", list(TEXT))
    return [b"said"]


def wrong(value: Any) -> Callable[[Environ, Start], Any]:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", list(TEXT))
        return value

    return app


def read_ways(environ: Environ, start_response: Start) -> list[bytes]:
    stream = environ["wsgi.input"]
    got: list[Any] = []
    for way in environ["QUERY_STRING"].split(","):
        name, _, arg = way.partition(":")
        if name == "iter":
            got.append(list(stream))
        elif name == "next":
            got.append(next(stream))
        else:
            got.append(getattr(stream, name)(*([int(arg)] if arg else [])))
    start_response("200 OK", list(TEXT))
    return [repr(got).encode()]


def length(environ: Environ, start_response: Start) -> list[bytes]:
    n = len(environ["wsgi.input"].read())
    start_response("200 OK", list(TEXT))
    return [str(n).encode()]


def swallow(environ: Environ, start_response: Start) -> list[bytes]:
    try:
        environ["wsgi.input"].read()
        text = b"no error"
    except OSError as exc:
        text = type(exc).__name__.encode()
    start_response("200 OK", list(TEXT))
    return [text]


def keep(environ: Environ, start_response: Start) -> list[bytes]:
    """Keeps everything that it was given."""
    kept.update(environ=environ, start=start_response, input=environ["wsgi.input"])
    kept["write"] = start_response("200 OK", list(TEXT))
    return [b"kept"]


def keep_to_the_end(environ: Environ, start_response: Start) -> list[bytes]:
    """Each of them without the others."""
    what = {"start": start_response, "environ": environ, "input": environ["wsgi.input"]}
    kind = [what[environ["QUERY_STRING"]]] if environ["QUERY_STRING"] in what else []
    write = start_response("200 OK", list(TEXT))
    sys.__dict__.setdefault("kept_to_the_end", []).append(kind or [write])  # goes last of all
    return [b"kept"]


def use_kept(environ: Environ, start_response: Start) -> list[bytes]:
    results = []
    ways: tuple[Callable[[], Any], ...] = (
        lambda: kept["start"]("200 OK", list(TEXT)),
        lambda: kept["write"](b"x"),
        lambda: kept["input"].read(),
        lambda: kept["input"].readline(),
    )
    for what in ways:
        try:
            what()
            results.append("worked")
        except (RuntimeError, ValueError) as exc:
            results.append(type(exc).__name__)
    results.append(kept["environ"]["PATH_INFO"])
    kept.clear()
    start_response("200 OK", list(TEXT))
    return [" ".join(results).encode()]


def in_thread(environ: Environ, start_response: Start) -> list[bytes]:
    """Reads and writes in a thread of its own while the call waits for it."""
    got: list[Any] = []

    def work() -> None:
        try:
            got.append(environ["wsgi.input"].read())
        except RuntimeError as exc:
            got.append(type(exc).__name__)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    start_response("200 OK", list(TEXT))
    return [repr(got).encode()]


def errors(environ: Environ, start_response: Start) -> list[bytes]:
    stream = environ["wsgi.errors"]
    stream.write("half a ")
    print("line \u20ac \ud800", file=stream)
    stream.writelines(["a\n", "b\n"])
    stream.write("x" * 10000 + "\n")
    stream.write("unfinished")
    stream.flush()
    stream.write("at the end")
    results = []
    try:
        stream.write(b"bytes")
    except TypeError:
        results.append("TypeError")
    start_response("200 OK", list(TEXT))
    return ["".join(results).encode()]


def stat(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [str(closed).encode()]


def objects(environ: Environ, start_response: Start) -> list[bytes]:
    gc.collect()
    refs = [sys.getrefcount(x) for x in (hello, dump, Body, TEXT, "GET", "REQUEST_METHOD")]
    numbers = [len(gc.get_objects()), *refs, sys.getallocatedblocks()]
    start_response("200 OK", list(TEXT))
    return [" ".join(map(str, numbers)).encode()]


def echo(environ: Environ, start_response: Start) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def wrapped(environ: Environ, start_response: Start) -> Any:
    import io

    start_response("200 OK", list(TEXT))
    return environ["wsgi.file_wrapper"](io.BytesIO(b"f" * 150000), 65536)


DATA = bytes(range(256)) * 400
FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, FOLDER)


class Forwarding:
    """As django.core.files.File: attributes of another file by properties."""

    def __init__(self, file: Any) -> None:
        self.file = file

    read = property(lambda self: self.file.read)

    def close(self) -> None:
        self.file.close()


class Upper(io.FileIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return (super().read(-1 if size is None else size) or b"").replace(b"a", b"A")


def file(environ: Environ, start_response: Start) -> Any:
    """A file wrapper, of files of all kinds."""
    kind, _, arg = environ["QUERY_STRING"].partition(":")
    path = os.path.join(FOLDER, "small" if kind == "small" else "data")
    with open(path, "wb") as f:
        f.write(DATA[:1000] if kind == "small" else DATA)
    made: Any
    if kind == "raw":
        made = open(path, "rb", buffering=0)
    elif kind == "random":
        made = open(path, "r+b")
        made.write(b"aaaa")
    elif kind == "temp":
        made = tempfile.NamedTemporaryFile()
        made.write(DATA)
        made.seek(0)
    elif kind == "spooled":
        made = tempfile.SpooledTemporaryFile(max_size=1 << 20)
        made.write(DATA)
        made.seek(0)
    elif kind == "forwarding":
        made = Forwarding(open(path, "rb"))
    elif kind == "gzip":
        with gzip.open(path, "wb") as packed:
            packed.write(DATA)
        made = gzip.open(path)
    elif kind == "upper":
        made = Upper(path)
    elif kind == "bytesio":
        made = io.BytesIO(DATA)
    elif kind == "text":
        made = open(path, encoding="latin-1")
    elif kind == "proc":
        made = open("/proc/self/status", "rb")
    elif kind == "pipe":
        r, w = os.pipe()
        os.write(w, b"from a pipe")
        os.close(w)
        made = open(r, "rb")
    else:
        made = open(path, "rb")
    if kind == "position":
        made.read(int(arg))
    if kind == "closed":
        made.close()
    close = made.close

    def counting() -> None:
        global closed
        closed += 1
        close()

    made.close = counting
    headers = [*TEXT, *([("Content-Length", arg)] if arg and kind != "position" else [])]
    wrapper = environ["wsgi.file_wrapper"]
    if kind == "subclass":
        wrapper = type("Mine", (wrapper,), {})
    body = wrapper(made, 5000) if kind != "default" else wrapper(made)
    if kind != "not-started":
        write = start_response("206 Partial Content" if kind == "range" else "200 OK", headers)
        if kind == "written":
            write(b"written ")
    if kind == "iterated":
        next(body)
    return body


strict: Any = validator
running = most = freed = 0
gate = threading.Event()
lock = threading.Lock()


def sleep(environ: Environ, start_response: Start) -> list[bytes]:
    """Takes as many milliseconds as the query says; counts how many do so at once."""
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    time.sleep(int(environ["QUERY_STRING"]) / 1000)
    with lock:
        running -= 1
    start_response("200 OK", list(TEXT))
    return [b"%d" % most]


def burn(environ: Environ, start_response: Start) -> list[bytes]:
    end = time.thread_time() + int(environ["QUERY_STRING"]) / 1000
    while time.thread_time() < end:
        pass
    start_response("200 OK", list(TEXT))
    return [b"burnt"]


def block(environ: Environ, start_response: Start) -> list[bytes]:
    gate.wait()
    start_response("200 OK", list(TEXT))
    return [b"through"]


def unblock(environ: Environ, start_response: Start) -> list[bytes]:
    gate.set()
    start_response("200 OK", list(TEXT))
    return [b"open"]


class Counted(bytes):
    def __del__(self) -> None:
        global freed
        freed += 1


def big_counted(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [Counted(b"z" * 100000)]


def count_freed(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", list(TEXT))
    return [b"%d" % freed]


APPS: dict[str, Callable[[Environ, Start], Any]] = {
    "/": hello,
    "/short": counted([b"abc"], ("Content-Length", "10")),
    "/long": counted([b"abc", b"def", b"ghi"], ("Content-Length", "4")),
    "/exact": counted([b"abc", b"", b"def"], ("Content-Length", "6")),
    "/mixed": counted([b"abc", "str"]),
    "/str-first": counted(["str"]),
    "/bytes": wrong(b"abc"),
    "/str": wrong("abc"),
    "/none": wrong(None),
    "/list-str": wrong([b"a", "b"]),
    "/valid": strict(echo),
    "/valid-hello": strict(hello),
}
for _f in (
    dump, items, big, many, gen, gen_big, nothing, empty_list, no_content, write, raises, exits, interrupt, late, early,
    close_raises, replaced, replaced_late, twice, unstarted, unstarted_gen, bad_head, read_ways, length, swallow, keep,
    use_kept, in_thread, errors, stat, objects, echo, wrapped, sleep, burn, block, unblock, big_counted, count_freed,
    file, refused, write_long, complete_then_fails, say, heads, only_read, change, change_later, keep_to_the_end,
):  # fmt: skip
    APPS["/" + _f.__name__.replace("_", "-")] = _f


class Application:
    """An instance: the common shape of frameworks' applications."""

    def __call__(self, environ: Environ, start_response: Start) -> Any:
        app = APPS.get(environ["PATH_INFO"])
        return (app or dump)(environ, start_response)


application = Application()


def create(kind: str = "plain", *, level: int = 0) -> Any:
    if kind == "none":
        return None
    application.settings = (kind, level)  # type: ignore[attr-defined]
    return application


class Holder:
    inner = application
