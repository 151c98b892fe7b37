# SPDX-License-Identifier: BSD-2-Clause
"""The servers: what they need, which version is there, and the command that starts each.

Flags give each server its best figures that are still a sane set-up (see README.md): one worker, no access log, no
limit that would close a connection in the middle of a row.  ``threads`` is the number of application threads, where a
server has any.  In the rows of ``TLS`` all serve HTTP/2 with one certificate; everything else stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lcbench.loads import TEXT
from lcbench.procs import BenchError, Running, free_port

FAST_THREADS = 1  # of granian, in all rows but "slow": more threads only cost it there
SLOW_THREADS = 16
MAX_CONNS = 16384
PINS = {
    "bjoern": ["bjoern==3.2.2"],
    "fastpysgi": ["fastpysgi==0.6"],
    "granian": ["granian==2.8.7"],
    "uvicorn": ["uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"],
    "gthread": ["gunicorn==27.0.1", "h2==4.4.1"],
    "granian-default": ["granian==2.8.7"],
    "granian-asgi": ["granian==2.8.7", "uvloop==0.23.0"],
    "hypercorn": ["hypercorn==0.18.0", "uvloop==0.23.0", "h2==4.4.1"],
}
NEEDS = {"bjoern": "libev and a C compiler (Debian: apt-get install libev-dev)"}
DEBIAN = {"nginx": "nginx-light", "h2o": "h2o", "nghttpd": "nghttp2-server"}
VERSION_OPTION = {"nginx": "-v"}  # else --version


@dataclass
class Setup:
    """Where everything is."""

    bench: Path  # test/bench
    root: Path  # the source tree
    work: Path  # what the benchmark builds
    build: Path | None = None  # licorne's build folder
    python: str = ""  # the Python that licorne embeds, and the peers run on
    licorne_threads: int = 4
    echo_mode: str = "level"
    tools: dict[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        """The folder of the static rows' files."""
        return self.work / "files"

    @property
    def htdocs(self) -> Path:
        """The folder of the peers that reply with a file."""
        return self.work / "htdocs"

    @property
    def certificate(self) -> Path:
        """Of the TLS rows, PEM."""
        return self.work / "tls" / "cert.pem"

    @property
    def key(self) -> Path:
        """Its key, PKCS #8, which granian insists on."""
        return self.work / "tls" / "key.pem"

    @property
    def venv_python(self) -> str:
        """The interpreter that the Python peers run on."""
        return str(self.work / "venv" / "bin" / "python")

    @property
    def binary(self) -> str:
        """licorne itself, wherever its build puts it."""
        assert self.build
        places = [self.build / "licorne", self.build / "core" / "licorne"]
        return str(next((p for p in places if p.is_file()), places[0]))

    def script(self, name: str) -> str:
        """A console script of the peers' environment."""
        return str(self.work / "venv" / "bin" / name)


@dataclass
class Server:
    """One contestant."""

    name: str
    kind: str  # how the application is run, for the table
    rows: frozenset[str]
    command: Callable[[Setup, int, str], list[str]]  # setup, port, row -> argv
    version: str = ""
    missing: str = ""  # why it cannot take part

    def start(self, setup: Setup, row: str, cpu: int) -> tuple[Running, int]:
        """Start it on a free port."""
        port = free_port()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GUNICORN", "GRANIAN", "UVICORN"))}
        env["PYTHONPATH"] = str(setup.bench)
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        argv = self.command(setup, port, row)
        log = setup.work / "logs" / f"{self.name}-{row}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Running(self.name, argv, cpu, setup.work, env, log), port


def _threads(row: str, otherwise: int) -> int:
    return SLOW_THREADS if row == "slow" else otherwise


def licorne_config(setup: Setup, port: int, threads: int, row: str = "") -> str:
    """The configuration file of the server under test."""
    modules, routes, log, tls = "", "", "off", ""
    if row in TLS:
        modules = "load_module http2;\nload_module tls;\n"
        tls = f" tls {{ certificate {setup.certificate}; certificate_key {setup.key}; }}"
    if row == "h2-return":
        modules += "load_module return;\n"
        routes = f'    route / return {{ status 200; body "{TEXT}"; }}\n'
    if row == "return":
        modules = "load_module return;\n"
        routes = f'    route /hello return {{ status 200; body "{TEXT}"; }}\n'
    elif row == "static":
        modules = "load_module static;\n"
        routes = f"    route /static/ static {{ root {setup.files}; }}\n"
    elif row == "access-log":
        log = str(setup.work / "access.log")
    return f"""# written by test/bench/run
load_module http1;
load_module wsgi;
{modules}error_log   stderr warn;
access_log  {log};
backlog     4096;
pool web {{
    listen             127.0.0.1:{port}{tls or ";"}
    processes          1;
    keepalive_timeout  3600s;
{routes}    worker             wsgi {{
        app      hello:app;
        chdir    {setup.bench};
        venv     {setup.work / "venv"};
        threads  {threads};
    }}
}}
"""


def _licorne(setup: Setup, port: int, row: str) -> list[str]:
    if setup.build is None:
        raise BenchError("no build folder")
    threads = _threads(row, setup.licorne_threads)
    conf = setup.work / f"licorne-{row}.conf"
    conf.write_text(licorne_config(setup, port, threads, row))
    return [setup.binary, "-c", str(conf)]


def _licorne_return(setup: Setup, port: int, _row: str) -> list[str]:
    return _licorne(setup, port, "h2-return")


def _licorne_log(setup: Setup, port: int, _row: str) -> list[str]:
    (setup.work / "access.log").unlink(missing_ok=True)
    return _licorne(setup, port, "access-log")


def _echo(setup: Setup, port: int, _row: str) -> list[str]:
    return [str(setup.tools["echo"]), str(port), setup.echo_mode]


def _pyfloor(setup: Setup, port: int, _row: str) -> list[str]:
    return [str(setup.tools["pyfloor"]), str(port)]


def _h2floor(setup: Setup, port: int, _row: str) -> list[str]:
    return [str(setup.tools["h2floor"]), str(port), str(setup.certificate), str(setup.key)]


def _nginx(setup: Setup, port: int, row: str) -> list[str]:
    run = setup.work / "nginx"
    run.mkdir(exist_ok=True)
    conf = run / "nginx.conf"
    temps = "".join(
        f"    {kind}_temp_path {run}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    place = f'location / {{ return 200 "{TEXT}"; }}'
    extra, tls = "", ""
    if row in TLS:
        extra = f"    ssl_certificate {setup.certificate}; ssl_certificate_key {setup.key};\n"
        extra += "    ssl_protocols TLSv1.2 TLSv1.3;\n"
        tls = " ssl http2"
    if row == "static":
        place += f" location /static/ {{ alias {setup.files}/; }}"
        extra = "    sendfile on; tcp_nopush on; open_file_cache max=100; open_file_cache_valid 60s;\n"
    conf.write_text(
        f"""{user}daemon off; worker_processes 1; pid {run}/pid; error_log stderr error;
events {{ worker_connections {MAX_CONNS}; }}
http {{
{temps}    access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; default_type text/plain;
{extra}    server {{ listen 127.0.0.1:{port}{tls} backlog=4096; {place} }}
}}
"""
    )
    return ["nginx", "-p", str(run), "-e", "stderr", "-c", str(conf)]


def _library(name: str) -> Callable[[Setup, int, str], list[str]]:
    def command(setup: Setup, port: int, _row: str) -> list[str]:
        return [setup.venv_python, str(setup.bench / "hello.py"), name, str(port)]

    return command


def _granian(setup: Setup, port: int, row: str) -> list[str]:
    flags = f"--interface wsgi --blocking-threads {_threads(row, FAST_THREADS)}"
    return [*_granian_common(setup, port, row), *flags.split(), "hello:app"]


def _granian_default(setup: Setup, port: int, _row: str) -> list[str]:
    flags = f"--interface wsgi --http 2 --log-level warning --host 127.0.0.1 --port {port}"
    flags += f" --ssl-certificate {setup.certificate} --ssl-keyfile {setup.key}"
    return [setup.script("granian"), *flags.split(), "hello:app"]


def _granian_asgi(setup: Setup, port: int, row: str) -> list[str]:
    return [*_granian_common(setup, port, row), "--interface", "asgi", "--loop", "uvloop", "hello:asgi"]


def _granian_common(setup: Setup, port: int, row: str) -> list[str]:
    flags = "--no-ws --workers 1 --runtime-threads 1 --backlog 4096 --http1-pipeline-flush"
    flags += f" --backpressure {MAX_CONNS} --log-level warning --host 127.0.0.1 --port {port}"
    if row in TLS:
        flags += f" --http 2 --ssl-certificate {setup.certificate} --ssl-keyfile {setup.key}"
    else:
        flags += " --http 1"
    return [setup.script("granian"), *flags.split()]


def _uvicorn(setup: Setup, port: int, _row: str) -> list[str]:
    flags = "--loop uvloop --http httptools --ws none --lifespan off --no-access-log --log-level warning --workers 1"
    flags += f" --backlog 4096 --timeout-keep-alive 3600 --host 127.0.0.1 --port {port}"
    return [setup.script("uvicorn"), *flags.split(), "hello:asgi"]


def _gthread(setup: Setup, port: int, row: str) -> list[str]:
    flags = f"-k gthread --workers 1 --backlog 4096 --keep-alive 3600 --worker-connections {MAX_CONNS}"
    flags += f" --threads {_threads(row, 4)} --no-control-socket --graceful-timeout 1 --log-level warning"
    flags += f" --bind 127.0.0.1:{port}"
    if row in TLS:
        flags += f" --http-protocols h2,h1 --certfile {setup.certificate} --keyfile {setup.key}"
    return [setup.script("gunicorn"), *flags.split(), "hello:app"]


def _hypercorn(setup: Setup, port: int, _row: str) -> list[str]:
    conf = setup.work / "hypercorn.toml"
    conf.write_text(
        f"""bind = ["127.0.0.1:{port}"]
certfile = "{setup.certificate}"
keyfile = "{setup.key}"
worker_class = "uvloop"
workers = 1
backlog = 4096
loglevel = "warning"
keep_alive_max_requests = 1000000000
keep_alive_timeout = 3600
h2_max_concurrent_streams = 128
"""
    )
    return [setup.script("hypercorn"), "--config", str(conf), "hello:asgi"]


def _h2o(setup: Setup, port: int, _row: str) -> list[str]:
    conf = setup.work / "h2o.conf"
    user = "user: root\n" if os.geteuid() == 0 else ""
    conf.write_text(
        f"""{user}num-threads: 1
max-connections: {MAX_CONNS}
http2-idle-timeout: 3600
listen:
  host: 127.0.0.1
  port: {port}
  ssl:
    certificate-file: {setup.certificate}
    key-file: {setup.key}
hosts:
  default:
    paths:
      /:
        file.dir: {setup.htdocs}
"""
    )
    return ["h2o", "-m", "worker", "-c", str(conf)]


def _nghttpd(setup: Setup, port: int, _row: str) -> list[str]:
    flags = ["-a", "127.0.0.1", "-n", "1", "-m", "128", "-d", str(setup.htdocs)]
    return ["nghttpd", *flags, str(port), str(setup.key), str(setup.certificate)]


LOADS = frozenset({"keepalive", "pipelined", "browser", "browser-pipelined"})
FILES = {"static-1k": 1 << 10, "static-64k": 64 << 10, "static-10m": 10 << 20}
STATIC = frozenset(FILES)
ALL = LOADS | {"slow", "idle"}
H2 = frozenset({"h2-32", "h2-1"})
HANDSHAKES = frozenset({"handshake-full", "handshake-resumed"})
TLS = H2 | HANDSHAKES | {"h2", "h2-return", "handshake", "idle-h2"}  # rows, and the groups that they are started for


def catalogue() -> list[Server]:
    """All contestants, in the order of the table."""
    return [
        Server("echo", "C, floor", LOADS | {"return"}, _echo),
        Server("pyfloor", "C+Python, floor", LOADS, _pyfloor),
        Server("h2floor", "C+Python, floor", H2, _h2floor),
        Server("licorne", "WSGI", ALL | STATIC | H2 | HANDSHAKES | {"return", "log", "idle-h2"}, _licorne),
        Server("licorne-return", "C, return", H2, _licorne_return),
        Server("licorne-log", "WSGI, access log", frozenset({"log"}), _licorne_log),
        Server("nginx", "C, return", LOADS | STATIC | H2 | HANDSHAKES | {"return", "idle", "idle-h2"}, _nginx),
        Server("h2o", "C, file", H2 | {"idle-h2"}, _h2o),
        Server("nghttpd", "C, file", H2, _nghttpd),
        Server("bjoern", "WSGI", LOADS | {"idle"}, _library("bjoern")),
        Server("fastpysgi", "WSGI", LOADS | {"idle"}, _library("fastpysgi")),
        Server("granian", "WSGI", ALL | H2, _granian),
        Server("granian-default", "WSGI, its defaults", H2, _granian_default),
        Server("granian-asgi", "ASGI", H2, _granian_asgi),
        Server("uvicorn", "ASGI", ALL, _uvicorn),
        Server("hypercorn", "ASGI", H2, _hypercorn),
        Server("gthread", "WSGI", ALL | H2, _gthread),
    ]


def _quiet(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)


def _tail(result: subprocess.CompletedProcess[str]) -> str:
    lines = [ln.strip() for ln in (result.stdout + "\n" + result.stderr).splitlines() if ln.strip()]
    told = [ln for ln in lines if re.search(r"error|fatal|FAILED", ln, re.IGNORECASE)] or lines or ["(no output)"]
    return told[0][:240]


def _compile(setup: Setup, name: str, sources: list[str], extra: list[str]) -> None:
    """One C program of this folder, if any of its sources (the first is compiled) is newer."""
    binary = setup.work / "bin" / name
    binary.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "cc"
    paths = [setup.bench / source for source in sources]
    if not binary.exists() or binary.stat().st_mtime < max(path.stat().st_mtime for path in paths):
        flags = ["-O2", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
        result = _quiet([compiler, *flags, str(paths[0]), "-o", str(binary), *extra])
        if result.returncode:
            raise BenchError(f"cannot compile {sources[0]}: {_tail(result)}")
    setup.tools[name] = binary


def compile_tools(setup: Setup) -> None:
    """The C programs of this folder."""
    preloaded = ["-shared", "-fPIC", "-ldl"]
    tools = {"echo": [], "openloop": ["-lm"], "exeself": preloaded, "spin": preloaded, "tlsload": ["-lssl", "-lcrypto"]}
    for name, extra in tools.items():
        _compile(setup, name, [f"{name}.c"], extra)


def compile_floors(setup: Setup, facts: dict[str, str], by_name: dict[str, Server]) -> None:
    """The floors with Python in them, of the library that licorne embeds."""
    library = facts["library"]
    python = ["-DPYTHON_FLOOR", "-I", facts["include"], library, f"-Wl,-rpath,{Path(library).parent}"]
    floors = {"pyfloor": ("echo.c", []), "h2floor": ("h2floor.c", ["-lssl", "-lcrypto", "-lnghttp2"])}
    for name, (source, libraries) in floors.items():
        if name not in by_name:
            continue
        by_name[name].version = f"({'pyfloor.h' if name == 'pyfloor' else source})"
        try:
            _compile(setup, name, [source, "pyfloor.h"], [*python, *libraries])
        except BenchError as exc:
            by_name[name].missing = str(exc)


def build_licorne(setup: Setup, given: Path | None) -> str:
    """Build it, or take a folder; why not, or nothing."""
    if given:
        setup.build = given.resolve()
        return "" if Path(setup.binary).exists() else f"there is no licorne in {given}"
    build = setup.work / "licorne"
    steps = [["ninja", "-C", str(build), "-j2"]]
    if not (build / "build.ninja").exists():
        off = ["-Dtests=disabled", "-Dfuzz=disabled", "-Dbuildtype=debugoptimized"]
        steps.insert(0, ["meson", "setup", str(build), str(setup.root), *off])
    for argv in steps:
        if not shutil.which(argv[0]):
            return f"{argv[0]} is not installed"
        result = _quiet(argv)
        if result.returncode:
            return f"does not build: {_tail(result)}"
    setup.build = build
    return "" if Path(setup.binary).exists() else "the build made no licorne binary"


def embedded_python(setup: Setup) -> dict[str, str]:
    """The Python that licorne embeds, found as its build finds it: executable, library, include."""
    wanted = ""
    if setup.build:
        result = _quiet(["meson", "introspect", "--buildoptions", str(setup.build)])
        match = re.search(r'"name":\s*"python",\s*"value":\s*"([^"]*)"', result.stdout)
        wanted = match[1] if match else ""
    finder = setup.root / "workers" / "python" / "find" / "find_python.py"
    result = _quiet(["python3", str(finder), *([wanted] if wanted else [])])
    facts = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    if "executable" not in facts:
        raise BenchError(f"no Python to embed: {_tail(result)}")
    return facts


def install_peers(setup: Setup, servers: list[Server], install: bool) -> None:
    """A virtual environment of the embedded Python, with each Python peer that can be had."""
    venv = setup.work / "venv"
    if not Path(setup.venv_python).exists():
        result = _quiet([setup.python, "-m", "venv", str(venv)])
        if result.returncode:
            raise BenchError(f"cannot make a virtual environment: {_tail(result)}")
    for server in servers:
        pins = PINS.get(server.name, [])
        have = {pin: _installed(setup, pin) for pin in pins}
        want = [pin for pin in pins if have[pin] != pin.partition("==")[2]]
        if want and install:
            result = _quiet([setup.venv_python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *want])
            if result.returncode:
                need = NEEDS.get(server.name)
                server.missing = f"pip: {_tail(result)}" + (f"; it needs {need}" if need else "")
                continue
        elif want:
            server.missing = f"{' '.join(want)} not installed"
            continue
        server.version = ", ".join(pin.replace("==", " ") for pin in pins)


def _installed(setup: Setup, pin: str) -> str:
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    return _quiet([setup.venv_python, "-c", code, pin.partition("==")[0]]).stdout.strip()


def make_files(setup: Setup) -> None:
    """What the static rows ask for: bytes that are no text; and the hello of those that reply with a file."""
    setup.htdocs.mkdir(parents=True, exist_ok=True)
    (setup.htdocs / "index.html").write_text(TEXT)
    setup.files.mkdir(parents=True, exist_ok=True)
    for name, size in FILES.items():
        path = setup.files / f"{name}.bin"
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(bytes(range(256)) * (size // 256))


def make_certificate(setup: Setup) -> str:
    """One for all sides, ECDSA on P-256, signed by itself; why there is none, or nothing."""
    if setup.certificate.exists() and setup.key.exists():
        return ""
    if not shutil.which("openssl"):
        return "openssl is not installed"
    setup.key.parent.mkdir(parents=True, exist_ok=True)
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    result = _quiet([*argv.split(), *names, "-keyout", str(setup.key), "-out", str(setup.certificate)])
    return f"openssl: {_tail(result)}" if result.returncode else ""


def module_missing(setup: Setup, name: str) -> str:
    """Why a row that needs a module of licorne cannot be measured, or nothing."""
    if not setup.build or (setup.build / f"{name}.so").exists():
        return ""
    return f"there is no {name}.so in {setup.build}: this source has no module `{name}`"


def prepare(setup: Setup, servers: list[Server], given: Path | None, install: bool) -> None:
    """Build and install what the chosen servers need; what cannot be had says why in ``missing``."""
    by_name = {server.name: server for server in servers}
    compile_tools(setup)
    if "licorne" in by_name:
        by_name["licorne"].missing = build_licorne(setup, given)
    facts = embedded_python(setup)
    setup.python = facts["executable"]
    install_peers(setup, servers, install)
    if "echo" in by_name:
        by_name["echo"].version = f"{setup.echo_mode} (echo.c)"
    compile_floors(setup, facts, by_name)
    for name in sorted(DEBIAN.keys() & by_name.keys()):
        if shutil.which(name):
            told = _quiet([name, VERSION_OPTION.get(name, "--version")])
            match = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
            by_name[name].version = match[0] if match else "?"
        else:
            by_name[name].missing = f"not installed (Debian: apt-get install {DEBIAN[name]})"
    make_files(setup)
    no_certificate = make_certificate(setup)
    for server in servers:
        if no_certificate and server.rows <= TLS:
            server.missing = no_certificate
    for name in sorted({"licorne-log", "licorne-return"} & by_name.keys()):
        by_name[name].missing = by_name["licorne"].missing if "licorne" in by_name else "licorne is not chosen"
    if "licorne" in by_name and setup.build and not by_name["licorne"].missing:
        rev = _quiet(["git", "-C", str(setup.root), "describe", "--always", "--dirty", "--tags"]).stdout.strip()
        told = _quiet([setup.binary, "-V"])
        first = (told.stdout + told.stderr).strip().splitlines()
        source = f"build {setup.build}, of what sources is not known" if given else rev or "no git"
        by_name["licorne"].version = f"{first[0] if first else 'licorne'} ({source})"
