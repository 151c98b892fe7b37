# SPDX-License-Identifier: BSD-2-Clause
"""The command line around a configuration file: -t, -T, -V, -g, -p, errors with their lines, modules, usage."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import Start
from harness import APPS, BUILD, ROOT, config, pool, quote, run


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool()))
    return path


def check(path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run("-t", "-c", path, *args)


# ---- what the command line says


@pytest.mark.parametrize("option", ["-V", "-v", "--version"])
def test_version(option: str) -> None:
    done = run(option)
    assert done.returncode == 0
    text = done.stdout + done.stderr
    assert re.search(r"licorne\D*\d+\.\d+\.\d+", text)
    assert "abi" in text.lower()


def test_long_options(conf: Path) -> None:
    assert run("--version").stdout == run("-V").stdout
    assert run("--help").stdout == run("-h").stdout
    assert run("--test", "--config", conf).returncode == 0
    done = run("--bogus")
    assert done.returncode == 2
    assert done.stderr.startswith("licorne: there is no option --bogus\n")


def test_good_configuration(conf: Path) -> None:
    done = check(conf)
    assert done.returncode == 0, done.stderr
    assert str(conf) in done.stdout + done.stderr


def test_check_does_not_import_the_application(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool(app="no_such_module:app")))
    assert check(path).returncode == 0


def test_check_binds_nothing(start: Start, tmp_path: Path) -> None:
    first = start(config(pool()))
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool(listen=[first.addresses[0]])))
    assert check(path).returncode == 0


def test_dump(conf: Path) -> None:
    """Every value with where it comes from; and the text can be read again."""
    done = run("-T", "-c", conf)
    assert done.returncode == 0, done.stderr
    assert "probe:app" in done.stdout
    assert re.search(r"graceful_timeout\s+30s", done.stdout), "defaults are shown"
    assert f"{conf}:" in done.stdout or f"{conf.name}:" in done.stdout, "values say where they stand"
    again = conf.with_name("again.conf")
    again.write_text(done.stdout)
    second = run("-T", "-c", again, "-p", conf.parent)
    assert second.returncode == 0, second.stderr


def test_globals(conf: Path) -> None:
    done = run("-T", "-c", conf, "-g", "graceful_timeout 7s; startup_timeout 8s;")
    assert done.returncode == 0, done.stderr
    assert re.search(r"graceful_timeout\s+7s", done.stdout)
    assert "command line" in done.stdout


def test_globals_with_mistakes(conf: Path) -> None:
    done = run("-t", "-c", conf, "-g", "gracefull_timeout 7s;")
    assert done.returncode == 1
    assert re.search(r'^command line:1: .*"graceful_timeout"', done.stderr, re.M)


def test_prefix(tmp_path: Path, start: Start) -> None:
    """Relative paths are relative to the prefix."""
    text = config(pool(), main="pid_file run.pid;").replace(quote(APPS), '"apps"')
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / "apps").symlink_to(APPS)
    server = start(text, args=["-p", str(prefix)])
    assert (prefix / "run.pid").read_text().strip() == str(server.pid)
    assert server.get("/") == "Hello, world!\n"


def test_no_such_file(tmp_path: Path) -> None:
    done = run("-t", "-c", tmp_path / "none.conf")
    assert done.returncode == 1
    assert "none.conf" in done.stderr
    assert "No such file" in done.stderr


@pytest.mark.parametrize("args", [["-x"], ["--nonsense"], ["nonsense"], ["-c"], ["-t", "extra"]])
def test_unknown_options(args: list[str]) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert "usage" in done.stderr.lower()
    assert args[0].lstrip("-")[0] in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--nonsense"], "there is no option --nonsense"),
        (["-t", "--nonsense=3"], "there is no option --nonsense=3"),
        (["-tx"], "there is no option -x"),
        (["-t", "-c"], "option -c needs an argument"),
        (["module"], "module: which module? expected one name or one file"),
    ],
)
def test_unknown_options_are_named(args: list[str], said: str) -> None:
    assert run(*args).stderr.splitlines()[0] == f"licorne: {said}"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str) -> None:
    done = run(option)
    assert done.returncode == 0
    for word in ("-c", "-g", "-p", "-t", "-T", "-V", "run"):
        assert word in done.stdout


# ---- mistakes

MISTAKES = """\
load_module http1;
load_module wsgi;
error_log stderr loud;
gracefull_timeout 30s;
heartbeat_timeout soon;
backlog 0;
pool web {
    listen 127.0.0.1;
    processes many;
    threads 4;
    respawn_delay 1s;
    worker wsgi {
        app probe:app;
        threads 0;
        colour blue;
    }
}
pool web {
    listen 127.0.0.1:0;
    worker nothing { }
}
"""
WANTED = {3: "loud", 4: "graceful_timeout", 5: "soon", 6: "backlog", 8: "127.0.0.1", 9: "many", 10: "threads"}
WANTED |= {11: "respawn_delay", 14: "threads", 15: "colour", 18: "twice", 20: "nothing"}


def test_many_mistakes_in_one_run(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(MISTAKES)
    done = check(path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{path}:")]
    print("\n" + "\n".join(lines))
    found = {}
    for line in lines:
        number, _, text = line.removeprefix(f"{path}:").partition(": ")
        assert int(number) not in found, f"two messages for one mistake: {line}"
        found[int(number)] = text
    assert set(found) == set(WANTED)
    for at, word in WANTED.items():
        assert word in found[at], (at, found[at])


def test_mistakes_do_not_start_a_server(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(MISTAKES)
    done = run("-c", path)
    assert done.returncode == 1
    assert f"{path}:4:" in done.stderr
    assert "listening" not in done.stderr


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("pool web {\n  listen 1;\n", 1, "not closed"),
        ("}\n", 1, "}"),
        ("load_module http1\nload_module wsgi;\n", 1, ";"),
        ('error_log "stderr;\n', 1, "quote"),
        ("user a b;\n", 1, "user"),
        ("user a;\nuser b;\n", 2, "twice"),
        ("pool a { listen 127.0.0.1:0; }\n", 1, "worker"),
        ("load_module no_such_module;\n", 1, "no_such_module"),
        ("graceful_timeout 5x;\n", 1, "5x"),
        ("graceful_timeout 1h30;\n", 1, "1h30"),
        ("graceful_timeout 99999999999999999999s;\n", 1, "graceful_timeout"),
        ("include no_such_file.conf;\n", 1, "no_such_file.conf"),
        ("pid_file $env{LICORNE_TEST_NO_SUCH};\n", 1, "LICORNE_TEST_NO_SUCH"),
        ("\0\n", 1, "0x00"),
        ("threads 4;\n", 1, "threads"),
    ],
)
def test_mistake(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(text)
    done = check(path)
    assert done.returncode == 1
    assert re.search(rf"^{re.escape(str(path))}:{line}: .*{re.escape(words)}", done.stderr, re.M), done.stderr


PLACES = """\
error_log {tmp}/nowhere/error.log;
load_module http1;
load_module wsgi;
pid_file {tmp};
pool web {{
    listen unix:{tmp}/nowhere/sock;
    listen unix:{tmp}/file {{ group nosuchgroup; }}
    listen unix:{tmp}/sock {{
        user nosuchuser;
    }}
    access_log {tmp}/file/access.log;
    worker wsgi {{ app probe:app; }}
}}
"""


def test_places_that_are_not_there(tmp_path: Path) -> None:
    """What the arbiter could not make at its start, with -t as at the start; nothing is made."""
    path = tmp_path / "licorne.conf"
    (tmp_path / "file").touch()
    path.write_text(PLACES.format(tmp=tmp_path))
    for args in (["-t"], []):
        done = run(*args, "-c", path)
        assert done.returncode == 1
        found = {(m[1], m[2]) for m in re.finditer(rf"^{re.escape(str(path))}:(\d+): (\w+: .*)$", done.stderr, re.M)}
        folder = "expected a folder that licorne may write"
        none = f"{tmp_path}/nowhere: No such file or directory, {folder}"
        assert found == {
            ("1", f'error_log: cannot make "{tmp_path}/nowhere/error.log": {none}'),
            ("4", f'pid_file: "{tmp_path}" is a directory, expected a file in it'),
            ("6", f'listen: cannot make "unix:{tmp_path}/nowhere/sock": {none}'),
            (
                "7",
                f'listen: "unix:{tmp_path}/file" is there and is no socket, expected another path, or that it is removed',
            ),
            ("7", 'group: there is no group "nosuchgroup" on this machine'),
            ("9", 'user: there is no user "nosuchuser" on this machine'),
            ("11", f'access_log: cannot make "{tmp_path}/file/access.log": {tmp_path}/file: Not a directory, {folder}'),
        }, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"licorne.conf", "file"}


def test_user_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool(), main="user nosuchuser;"))
    line = path.read_text().splitlines().index("user nosuchuser;") + 1
    assert f'{path}:{line}: user: there is no user "nosuchuser" on this machine\n' == check(path).stderr


def test_mistake_in_an_included_file(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.conf").write_text("backlog 10;\n\nstartup_timeout never;\n")
    path.write_text("include parts/*.conf;\n")
    done = check(path)
    assert done.returncode == 1
    assert re.search(r"parts/a\.conf:3: .*never", done.stderr)


def test_environment_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text(config(pool(listen=["127.0.0.1:$env{LCTEST_PORT}"])))
    done = run("-T", "-c", path, env={"LCTEST_PORT": "4321"})
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:4321" in done.stdout
    assert check(path).returncode == 1


def test_directive_of_a_module_that_is_not_loaded(tmp_path: Path) -> None:
    """It says which module to load."""
    path = tmp_path / "licorne.conf"
    path.write_text(
        "load_module http1;\nload_module sync;\npool a { listen 127.0.0.1:0; worker sync { threads 3; } }\n"
    )
    done = check(path)
    assert done.returncode == 1
    assert re.search(r':3: .*"threads"', done.stderr), done.stderr


def test_no_protocol(tmp_path: Path) -> None:
    path = tmp_path / "licorne.conf"
    path.write_text("load_module sync;\npool a { listen 127.0.0.1:0; worker sync { app a:b; } }\n")
    said = ":2: pool a has no protocol to speak, expected at the main level: load_module http1;"
    assert said in check(path).stderr


# ---- modules


def test_describe_a_module() -> None:
    for name in ("http1", "wsgi", "sync"):
        done = run("module", BUILD / f"{name}.so")
        assert done.returncode == 0, done.stderr
        assert name in done.stdout
        assert "abi" in done.stdout.lower()


def refusal(tmp_path: Path, module: Path | str) -> str:
    """The one line that -t prints about a module."""
    path = tmp_path / "licorne.conf"
    path.write_text(f"load_module {quote(module)};\n")
    done = check(path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{path}:1: ")]
    assert len(lines) == 1, done.stderr
    print(lines[0])
    return lines[0].removeprefix(f"{path}:1: ")


def test_not_a_module(tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no shared object\n")
    assert str(text) in refusal(tmp_path, text)


def test_shared_object_that_is_no_module(tmp_path: Path) -> None:
    source = tmp_path / "plain.c"
    source.write_text("int answer(void) { return 42; }\n")
    made = tmp_path / "plain.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
    line = refusal(tmp_path, made)
    assert str(made) in line
    assert "module" in line


def test_missing_symbol(tmp_path: Path) -> None:
    source = tmp_path / "missing.c"
    source.write_text("int no_such_function(void);\nint call(void) { return no_such_function(); }\n")
    made = tmp_path / "missing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
    line = refusal(tmp_path, made)
    assert str(made) in line
    assert "no_such_function" in line


@pytest.mark.parametrize(("major", "minor"), [(99, 0), (0, 99)])
def test_abi_mismatch(tmp_path: Path, major: int, minor: int) -> None:
    """Both versions and the remedy."""
    source = tmp_path / "old.c"
    source.write_text(
        "#include <licorne/module.h>\n"
        "#undef LC_ABI_MAJOR\n#undef LC_ABI_MINOR\n"
        f"#define LC_ABI_MAJOR {major}\n#define LC_ABI_MINOR {minor}\n"
        'static const struct lc_module desc = { LC_MODULE_HEAD("old", "1.0") };\nLC_MODULE_ENTRY(desc)\n'
    )
    made = tmp_path / "old.so"
    include = ROOT / "core" / "include"
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", "-o", made, source], check=True)
    line = refusal(tmp_path, made)
    assert f"{major}.{minor}" in line
    assert re.search(r"\b0\.\d+", line)
    assert "rebuild" in line or "upgrade" in line or "newer" in line


def test_module_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path, "nowhere")
    assert "/no/such/file.so" in refusal(tmp_path, "/no/such/file.so")
