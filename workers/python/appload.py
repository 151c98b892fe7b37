# SPDX-License-Identifier: BSD-2-Clause
"""Find, import and look at an application named ``MODULE[:NAME[.NAME]...]``, ``MODULE:FACTORY(ARGUMENTS)``, or
``FILE[#NAME]`` of Paste Deploy.

Used twice: compiled into the Python worker modules, where it loads the application, and by licorne-app-helper, which
decides for ``licorne run`` what kind of application there is.  Only the standard library, and little of that: it is
imported by every worker.
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib
import io
import os
import sys
import traceback
from types import FunctionType, ModuleType
from typing import Any

DEFAULT_NAME = "application"


class AppError(Exception):
    """The application cannot be used; the message is a sentence for the user."""


def format_exception(exc: BaseException) -> str:
    """The whole traceback, without frames of the loading itself."""
    tb = exc.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if file not in (__file__, importlib.__file__) and not file.startswith("<frozen importlib"):
            break
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(exc), exc, tb if tb is not None else exc.__traceback__))


class FileWrapper:
    """``wsgi.file_wrapper``: an iterable over the blocks of a file; file.c sends what it can without iterating."""

    def __init__(self, filelike: Any, block_size: int = 65536) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if data:
            return data
        raise StopIteration


def real_file(filelike: Any) -> tuple[int, int] | None:
    """Descriptor and position of a file whose read() gives the bytes that are in it, from there on; None of others.

    Wrappers that only forward read(), as Django's File, are seen through; whatever has a read() of its own is not, since
    nobody knows what it does.
    """
    if type(filelike).__name__ == "_TemporaryFileWrapper" and type(filelike).__module__ == "tempfile":
        filelike = filelike.file  # its read() keeps it alive and is no method
    read = filelike.read
    file = getattr(read, "__self__", None)
    if type(file) is io.BufferedReader or type(file) is io.BufferedRandom:
        if type(file.raw) is not io.FileIO:
            return None
        if type(file) is io.BufferedRandom:
            file.flush()
    elif type(file) is not io.FileIO:
        return None
    return (file.fileno(), file.tell()) if read == file.read else None


def parse(spec: str) -> tuple[str, list[str], tuple[list[Any], dict[str, Any]] | None]:
    """Split into module, attribute path and, for a factory, its arguments."""
    module, colon, rest = spec.partition(":")
    if not module or not all(part.isidentifier() for part in module.split(".")):
        raise AppError(f"{spec!r} is not an application, MODULE:NAME was expected (a dotted module name, no file name)")
    if not colon:
        return module, [DEFAULT_NAME], None
    try:
        node: ast.AST = ast.parse(rest, mode="eval").body
    except SyntaxError:
        raise AppError(f"{rest!r} is neither a name nor a call, in {spec!r}") from None
    call = None
    if isinstance(node, ast.Call):
        try:
            if any(keyword.arg is None for keyword in node.keywords):
                raise ValueError
            call = (
                [ast.literal_eval(arg) for arg in node.args],
                {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords},
            )
        except ValueError:
            raise AppError(f"the arguments in {spec!r} must be literals") from None
        node = node.func
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise AppError(f"{rest!r} is neither a name nor a call, in {spec!r}")
    return module, [node.id, *names], call


def candidates(module: ModuleType, wanted: str) -> str:
    """A hint at what the module does have."""
    callables = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) in (None, module.__name__)
    ]
    objects = [n for n, v in vars(module).items() if not n.startswith("_") and callable(v) and not isinstance(v, type)]
    near = difflib.get_close_matches(wanted, objects + callables, n=3, cutoff=0.6)
    usual = [name for name in ("app", "application", "wsgi", "create_app", "make_app") if hasattr(module, name)]
    found = list(dict.fromkeys(usual + near))
    if found:
        return "; it has " + ", ".join(f"{module.__name__}:{name}" for name in found[:4])
    return "; it has nothing that looks like an application"


def load(spec: str) -> Any:
    """Import and return the application; AppError, or whatever the import raises."""
    module_name, names, call = parse(spec)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # only a module that is missing itself; one that it imports is the application's own error
        missing = exc.name or ""
        if missing == module_name or module_name.startswith(missing + "."):
            where = os.getcwd()
            raise AppError(
                f"there is no module {missing!r} (looked in {where} and {len(sys.path)} more places)"
            ) from exc
        raise
    app: Any = module
    for i, name in enumerate(names):
        try:
            app = getattr(app, name)
        except AttributeError as exc:
            path = ":".join([module_name, ".".join(names[:i])]) if i else module_name
            hint = candidates(module, name) if i == 0 else ""
            raise AppError(f"{path} has no attribute {name!r}{hint}") from exc
    if call is not None:
        if not callable(app):
            raise AppError(f"{spec!r}: {'.'.join(names)} is not callable")
        app = app(*call[0], **call[1])
    if app is None or not callable(app):
        raise AppError(f"{spec!r} is not callable: it is {'None' if app is None else 'of type ' + type(app).__name__}")
    return app


def takes(app: Any, number: int) -> bool:
    """Can it be called with that many arguments, as far as it says?  Decorators speak for themselves."""
    import inspect

    try:
        signature = inspect.signature(app, follow_wrapped=False)
    except Exception:  # C code often has no signature, and an odd object may raise anything
        return True
    try:
        signature.bind(*[None] * number)
    except TypeError:
        return False
    return True


def is_asgi(app: Any) -> bool:
    """ASGI 3 is a coroutine function of (scope, receive, send); ASGI 2 a callable of (scope) that returns one."""
    import inspect

    for candidate in (app, None if inspect.isclass(app) or inspect.isfunction(app) else getattr(app, "__call__", None)):
        if candidate is None:
            continue
        if inspect.iscoroutinefunction(candidate):
            return True
        # a decorated one; but an adapter, which is WSGI itself, may name what it wraps, too
        try:
            inner = inspect.unwrap(candidate)
        except Exception:  # a proxy that has any attribute, this one without an end
            continue
        if inspect.iscoroutinefunction(inner) and takes(candidate, 3):
            return True
    if inspect.isclass(app):
        # ASGI 2 (instances are awaited callables), or WSGI by a class (instances are iterable)
        return not hasattr(app, "__iter__") and inspect.iscoroutinefunction(getattr(app, "__call__", None))
    try:
        parameters = inspect.signature(app, follow_wrapped=False).parameters.values()
    except Exception:  # as above
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(needed) == 3 or [p.name for p in needed] == ["scope"]


def is_plain(app: Any) -> bool:
    """A function that takes two arguments, seen without inspect, which costs a worker half a megabyte."""
    if type(app) is not FunctionType or app.__dict__:
        return False
    code = app.__code__
    needed = code.co_argcount - len(app.__defaults__ or ())
    room = code.co_argcount >= 2 or code.co_flags & 0x04  # *args
    return bool(room) and needed <= 2 and not code.co_kwonlyargcount and not code.co_flags & 0x380  # no coroutine


def judge(app: Any, spec: str) -> None:
    """AppError for what would answer every request with an error: not WSGI, or what only makes the application."""
    if is_plain(app):
        return
    if is_asgi(app):
        raise AppError(f"{spec!r} is an ASGI application; this version of licorne runs WSGI applications only")
    if not takes(app, 2):
        hint = f"; a factory is written {spec}()" if ":" in spec and spec[-1] != ")" else ""
        raise AppError(f"{spec!r} is no WSGI application: it cannot be called with (environ, start_response){hint}")


def load_paste(spec: str) -> Any:
    """The application that a Paste Deploy file describes, its logging set up; AppError, or whatever it raises."""
    file, _, name = spec.partition("#")
    path = os.path.abspath(file)
    if not os.path.isfile(path):
        raise AppError(f"{path} does not exist, a Paste Deploy file was expected")
    try:
        loadapp = importlib.import_module("paste.deploy").loadapp
    except ModuleNotFoundError as exc:
        if exc.name not in ("paste", "paste.deploy"):
            raise
        raise AppError(
            f"paste {path} needs the package PasteDeploy, which is not installed for {sys.prefix}: "
            f"{sys.executable} -m pip install PasteDeploy"
        ) from exc
    import configparser

    ini = configparser.RawConfigParser(strict=False)
    ini.read(path, encoding="utf-8")
    if all(ini.has_section(section) for section in ("loggers", "handlers", "formatters")):
        import logging.config

        defaults = {"__file__": path, "here": os.path.dirname(path)}
        logging.config.fileConfig(path, defaults, disable_existing_loggers=False, encoding="utf-8")
    app = loadapp(f"config:{path}", name or None)
    if not callable(app):
        raise AppError(f"{spec!r} is not callable: it is of type {type(app).__name__}")
    return app


def set_up_paths(pythonpath: list[str], venv: str | None) -> None:
    """``sys.path``: the current directory, ``pythonpath``, then what Python and the environment give."""
    if venv and os.path.realpath(sys.prefix) != os.path.realpath(venv):
        # site did not recognise it (the layout of pyvenv.cfg differs between makers and versions)
        import site

        sys.prefix = sys.exec_prefix = venv
        version = "python{}.{}".format(*sys.version_info[:2])
        site.addsitedir(os.path.join(venv, "lib", version, "site-packages"))
    for place in reversed([os.getcwd(), *(os.path.abspath(p) for p in pythonpath)]):
        while place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)


def start(spec: str | None, paste: str | None, pythonpath: list[str], venv: str | None) -> Any:
    """What a worker does: paths, import, and everything imported out of the garbage collector's sight."""
    set_up_paths(pythonpath, venv)
    app = load_paste(paste) if paste is not None else load(spec or "")
    judge(app, paste or spec or "")
    gc.collect()
    gc.freeze()
    return app
