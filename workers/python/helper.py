# SPDX-License-Identifier: BSD-2-Clause
"""Look at an application for ``licorne run`` and print the configuration that serves it.

    licorne-app-helper --app MODULE:NAME | --paste FILE[#NAME] [--threads N] [--worker NAME] [--reload]

The application is imported here, in a process of its own, because what it is (WSGI or ASGI) can only be seen by looking
at it.  On standard output: ``load_module`` lines, a line ``%%``, the ``worker`` block, and for ``--reload``
a line ``%%`` and what to watch (core/arbiter/tree.h); that also when the application cannot be imported, with nothing in the
other parts.  Exit status: 0; 2 for wrong usage or an environment that does not fit; 3 if the application cannot be
imported or is no WSGI application.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from appload import AppError, format_exception, judge, load, load_paste, parse, set_up_paths

del sys.path[0]

USAGE, IMPORT_FAILED = 2, 3
VERSION = "{}.{}".format(*sys.version_info[:2])


def say(text: str) -> None:
    print("licorne: " + text, file=sys.stderr)


def quoted(text: str) -> str:
    """A word of the configuration language."""
    if "\n" in text or "\r" in text or "\0" in text:
        raise AppError(f"{text!r} cannot be written in a configuration file")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def venv_version(venv: str) -> str:
    """The version that pyvenv.cfg names, or empty."""
    try:
        with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8", errors="replace") as cfg:
            for line in cfg:
                key, _, value = line.partition("=")
                if key.strip().lower() in ("version", "version_info"):
                    return ".".join(value.strip().split(".")[:3])
    except OSError:
        return ""
    return ""


def check_venv(venv: str) -> str | None:
    """A sentence if this environment cannot be used."""
    if not os.path.exists(os.path.join(venv, "pyvenv.cfg")):
        return f"VIRTUAL_ENV is {venv}, but that is not a virtual environment: it has no pyvenv.cfg"
    version = venv_version(venv)
    if version and version.split(".")[:2] != VERSION.split("."):
        return (
            f"the virtual environment {venv} is of Python {version}, but this licorne embeds Python {VERSION}; "
            f"rebuild licorne for it: meson setup --wipe build -Dpython={venv}/bin/python && ninja -C build"
        )
    return None


def inactive_environment() -> str:
    """What to do about an environment that lies here and is not used, or empty."""
    for name in ("venv", ".venv", "env"):
        if os.path.exists(os.path.join(name, "pyvenv.cfg")):
            return (
                f"the virtual environment {os.path.abspath(name)} is not active, "
                f"try `. {name}/bin/activate` or `VIRTUAL_ENV={name} licorne run ...`"
            )
    return ""


def venv_python(venv: str) -> str | None:
    """The interpreter to go on with, when this one is not of the environment already."""
    if os.path.realpath(sys.prefix) == os.path.realpath(venv):
        return None
    for name in ("python", "python3"):
        path = os.path.join(venv, "bin", name)
        if os.access(path, os.X_OK):
            return path
    return None


# Source files, and folders in which there are none of the application's own
WATCH = [
    "match *.py",
    "skip .*",
    "skip __pycache__",
    "skip node_modules",
    "skip site-packages",
    "skip dist-packages",
    "skip-with pyvenv.cfg",
]


def below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def watched(extra: list[str], paste: str | None) -> list[str]:
    """What to watch: where modules are looked for, and where those that were imported from elsewhere lie."""
    trees = [os.getcwd(), *extra]
    files = [os.path.abspath(paste.partition("#")[0])] if paste else []
    library = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if sys.prefix != sys.base_prefix:
        library.add(sys.prefix)
    library.add(os.path.dirname(__file__))
    others = [os.path.realpath(path) for path in library]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or not os.path.isabs(file):
            continue
        file = os.path.realpath(file)
        if {"site-packages", "dist-packages"}.intersection(file.split(os.sep)) or below(file, trees + others):
            continue
        top = getattr(sys.modules.get(name.partition(".")[0]), "__dict__", {})
        if isinstance(top.get("__file__"), str) and "__path__" in top:
            trees.append(os.path.dirname(os.path.realpath(top["__file__"])))  # an editable package, or behind a link
        elif "." in name:
            trees.append(os.path.dirname(file))  # of a namespace
        else:
            files.append(file)
    lines = [f"tree {path}" for path in dict.fromkeys(trees)] + [f"file {path}" for path in dict.fromkeys(files)]
    return [line for line in lines if "\n" not in line] + WATCH


def main() -> int:
    parser = argparse.ArgumentParser(prog="licorne-app-helper", allow_abbrev=False)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--app")
    which.add_argument("--paste")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--worker", default="wsgi")
    parser.add_argument("--reload", action="store_true")
    args = parser.parse_args()

    venv = os.environ.get("VIRTUAL_ENV") or ""
    if venv:
        venv = os.path.abspath(venv)
        trouble = check_venv(venv)
        if trouble:
            say(trouble)
            return USAGE
    # PYTHONPATH of the shell is what a developer expects to hold; workers get it as configuration
    extra = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    python = venv_python(venv) if venv else None
    if python and "LICORNE_HELPER_AGAIN" not in os.environ:
        # the environment's interpreter has the same standard library and knows its own site-packages
        command = [python, "-I", os.path.abspath(__file__), *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, "LICORNE_HELPER_AGAIN": "1"}, check=False).returncode
    os.environ.pop("LICORNE_HELPER_AGAIN", None)

    # what the application prints on import must not end up in the configuration
    out = os.dup(1)
    os.dup2(2, 1)
    # a cached file is taken for the source when second and size are the same, which two edits in a row may well have
    sys.dont_write_bytecode |= args.reload

    def give(lines: list[str]) -> None:
        sys.stdout.flush()
        if args.reload:
            lines += ["%%", *watched(extra, args.paste)]
        with os.fdopen(out, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write("\n".join(lines) + "\n")

    def failed() -> int:
        if args.reload:
            give(["%%"])
        return IMPORT_FAILED

    try:
        if args.paste is None:
            parse(args.app)
    except AppError as exc:
        say(str(exc))
        return IMPORT_FAILED
    try:
        set_up_paths(extra, venv or None)
        judge(load(args.app) if args.paste is None else load_paste(args.paste), args.app or args.paste)
    except AppError as exc:
        say(str(exc))
        if args.paste is None and isinstance(exc.__cause__, AttributeError) and ":" not in args.app:
            say(f'run: "{args.app}" names no part of the module, expected MODULE:APP')
        elif isinstance(exc.__cause__, ImportError) and not venv and (hint := inactive_environment()):
            say(hint)
        return failed()
    except BaseException as exc:  # SystemExit as well: a module that exits cannot be served
        tb = exc.__traceback__
        sys.stderr.write(format_exception(exc.with_traceback(tb and tb.tb_next)))
        say(f"importing {args.app or args.paste} failed, as the traceback above says")
        if isinstance(exc, ModuleNotFoundError):
            say((not venv and inactive_environment()) or f"is {exc.name} installed in {venv or sys.prefix}?")
        return failed()
    lines = [f"load_module {args.worker};", "%%", f"worker {args.worker} {{"]
    try:
        if args.paste is None:
            lines.append(f"    app {quoted(args.app)};")
        else:
            lines.append(f"    paste {quoted(os.path.abspath(args.paste))};")
        lines.append(f"    chdir {quoted(os.getcwd())};")
        lines += [f"    pythonpath {quoted(path)};" for path in extra]
        if venv:
            lines.append(f"    venv {quoted(venv)};")
    except AppError as exc:
        say(str(exc))
        return USAGE
    if args.threads is not None:
        lines.append(f"    threads {args.threads};")
    if args.reload:
        lines.append("    env PYTHONDONTWRITEBYTECODE 1;")
    lines.append("}")
    give(lines)
    sys.stderr.flush()
    # threads that the import left behind are of no use to anybody
    os._exit(0)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
