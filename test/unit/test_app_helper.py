# SPDX-License-Identifier: BSD-2-Clause
"""licorne-app-helper: what it says about applications of all kinds.  Run with its path as the argument."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

HELPER = sys.argv.pop() if len(sys.argv) > 1 else ""
VERSION = "{}.{}".format(*sys.version_info[:2])

APPS = """
    import functools
    print("noise on standard output")
    def wsgi(environ, start_response): ...
    class Instance:
        def __call__(self, environ, start_response): ...
    instance = Instance()
    class Iterable:
        def __init__(self, environ, start_response): ...
        def __iter__(self): ...
    partial = functools.partial(lambda extra, environ, start_response: None, 1)
    def optional(environ, start_response, extra=None): ...
    def stars(*args): ...
    def create(): return wsgi
    def keyword(environ, start_response, *, more): ...
    def defaults(environ=None, start_response=None, more=None): ...
    async def asgi_stars(*args): ...
    def create_one(): return create
    @functools.wraps(create)
    def decorated(environ, start_response): ...
    unsigned = dict
    class Proxy:
        def __getattr__(self, name): return Proxy()
        def __call__(self, environ, start_response): ...
    proxy = Proxy()
    number = 3

    async def asgi(scope, receive, send): ...
    class AsyncInstance:
        async def __call__(self, scope, receive, send): ...
    asgi_instance = AsyncInstance()
    def asgi_plain(scope, receive, send): ...
    def asgi_two(scope): ...
    asgi_partial = functools.partial(asgi)
    @functools.wraps(asgi)
    def asgi_decorated(*args, **kwargs): ...
    @functools.wraps(asgi)
    def adapter(environ, start_response): ...
    def create_asgi(): return asgi_instance
"""


class HelperTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = os.path.realpath(folder.name)
        Path(self.dir, "apps.py").write_text(textwrap.dedent(APPS))

    def test_paste(self) -> None:
        package = Path(self.dir, "paste")
        package.mkdir()
        Path(package, "deploy.py").write_text(
            "import apps\ndef loadapp(uri, name=None):\n    assert uri == 'config:' + apps.INI\n"
            "    return getattr(apps, name or 'wsgi')\n"
        )
        with Path(self.dir, "apps.py").open("a") as f:
            f.write(f"INI = {self.dir + '/a.ini'!r}\n")
        Path(self.dir, "a.ini").write_text("[app:main]\n")
        done = self.ask("a.ini", option="--paste")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'    paste "{self.dir}/a.ini";\n', done.stdout)
        self.assertNotIn("    app ", done.stdout)
        self.assertEqual(self.ask("a.ini#asgi", option="--paste").returncode, 3)
        self.assertEqual(self.ask("a.ini#instance", option="--paste").returncode, 0)
        done = self.ask("b.ini", option="--paste")
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"{self.dir}/b.ini does not exist, a Paste Deploy file was expected", done.stderr)

    def ask(self, app: str, *args: str, option: str = "--app", **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        return subprocess.run(
            [HELPER, option, app, *args],
            cwd=self.dir,
            env={**clean, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_what_to_watch(self) -> None:
        """Where modules are looked for and where others lie, also when the import fails; only when it is asked for."""
        outside = tempfile.TemporaryDirectory()
        self.addCleanup(outside.cleanup)
        far = os.path.realpath(outside.name)
        Path(far, "pack", "sub").mkdir(parents=True)
        Path(far, "pack", "__init__.py").touch()
        Path(far, "pack", "sub", "__init__.py").touch()
        Path(far, "single.py").touch()
        Path(far, "site-packages").mkdir()
        Path(far, "site-packages", "installed.py").touch()
        text = (
            f"import sys\nsys.path += [{far!r}, {far + '/site-packages'!r}]\nimport json, pack.sub, single, installed\n"
        )
        Path(self.dir, "mine.py").write_text(text + "def app(environ, start_response): ...\n")
        done = self.ask("mine:app", "--reload", PYTHONPATH="lib")
        self.assertEqual(done.returncode, 0, done.stderr)
        head, _, watch = done.stdout.rpartition("\n%%\n")
        self.assertIn("    env PYTHONDONTWRITEBYTECODE 1;", head)
        lines = watch.splitlines()
        expected = [f"tree {self.dir}", f"tree {self.dir}/lib", f"tree {far}/pack", f"file {far}/single.py"]
        self.assertEqual([line for line in lines if line.startswith(("tree", "file"))], expected)
        self.assertIn("match *.py", lines)
        self.assertFalse(Path(self.dir, "__pycache__").exists())
        Path(self.dir, "mine.py").write_text(text + "import nothing_like_that\n")
        done = self.ask("mine:app", "--reload")
        self.assertEqual(done.returncode, 3)
        self.assertTrue(done.stdout.startswith(f"%%\n%%\ntree {self.dir}\n"), done.stdout)
        self.assertIn(f"tree {far}/pack\n", done.stdout)
        self.assertEqual(self.ask("mine:app").stdout, "")
        self.assertEqual(self.ask("mine:app(", "--reload").stdout, "")

    def test_wsgi(self) -> None:
        for name in (
            "wsgi",
            "instance",
            "Iterable",
            "partial",
            "optional",
            "stars",
            "create()",
            "decorated",
            "adapter",
            "unsigned",
            "defaults",
            "proxy",
        ):
            with self.subTest(name):
                done = self.ask(f"apps:{name}")
                self.assertEqual(done.returncode, 0, done.stderr)
                expect = f'load_module wsgi;\n%%\nworker wsgi {{\n    app "apps:{name}";\n    chdir "{self.dir}";\n}}\n'
                self.assertEqual(done.stdout, expect)
                self.assertIn("noise", done.stderr)

    def test_options_and_quoting(self) -> None:
        Path(self.dir, "q.py").write_text("def create(*args): return lambda environ, start_response: None\n")
        done = self.ask('q:create("a\\\\b$c")', "--threads", "7", "--worker", "sync", PYTHONPATH="/one:two")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.strip() for line in done.stdout.splitlines()]
        self.assertEqual(lines[:3], ["load_module sync;", "%%", "worker sync {"])
        self.assertIn('app "q:create(\\"a\\\\\\\\b\\$c\\")";', lines)
        self.assertIn('pythonpath "/one";', lines)
        self.assertIn(f'pythonpath "{self.dir}/two";', lines)
        self.assertIn("threads 7;", lines)

    def test_asgi(self) -> None:
        for name in (
            "asgi",
            "asgi_instance",
            "asgi_plain",
            "asgi_two",
            "asgi_partial",
            "asgi_stars",
            "asgi_decorated",
            "create_asgi()",
        ):
            with self.subTest(name):
                done = self.ask(f"apps:{name}")
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertIn(f"'apps:{name}' is an ASGI application", done.stderr)

    def test_neither_wsgi_nor_asgi(self) -> None:
        for name, hint in (
            ("create", "; a factory is written apps:create()"),
            ("keyword", "; a factory is written apps:keyword()"),
            ("create_one()", ""),
        ):
            with self.subTest(name):
                done = self.ask(f"apps:{name}")
                self.assertEqual(done.returncode, 3, done.stderr)
                said = "is no WSGI application: it cannot be called with (environ, start_response)"
                self.assertEqual(done.stderr.splitlines()[-1], f"licorne: 'apps:{name}' {said}{hint}")

    def test_errors(self) -> None:
        Path(self.dir, "broken.py").write_text("import nosuchthing\n")
        Path(self.dir, "leaves.py").write_text("raise SystemExit(9)\n")
        for app, text in (
            ("apps:wsgy", "apps has no attribute 'wsgy'; it has apps:wsgi"),
            ("apps:number", "is not callable: it is of type int"),
            ("nosuch:app", "there is no module 'nosuch'"),
            ("apps.py:app", "there is no module 'apps.py'"),
            ("apps:create(", "is neither a name nor a call"),
            ("broken:app", f"is nosuchthing installed in {sys.prefix}?"),
            ("broken", f"is nosuchthing installed in {sys.prefix}?"),
            ("leaves:app", "importing leaves:app failed, as the traceback above says"),
            ("apps", '"apps" names no part of the module, expected MODULE:APP'),
        ):
            with self.subTest(app):
                done = self.ask(app)
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertIn(text, done.stderr.splitlines()[-1])
                self.assertNotIn("helper.py", done.stderr)
        done = self.ask("broken")
        self.assertIn("ModuleNotFoundError: No module named 'nosuchthing'\n", done.stderr)
        self.assertIn("importing broken failed, as the traceback above says\n", done.stderr)
        self.assertNotIn("names no part", done.stderr)
        self.assertIn("SystemExit: 9\n", self.ask("leaves").stderr)

    def test_python_that_cannot_be_run(self) -> None:
        text, count = re.subn(r"'[^']*/python[^']*'", "'/nowhere/python'", Path(HELPER).read_text())
        self.assertGreaterEqual(count, 2)
        script = Path(self.dir, "helper")
        script.write_text(text)
        done = subprocess.run(["sh", script, "--app", "apps:wsgi"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(" cannot run the Python that licorne was built for, ", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_environments(self) -> None:
        venv = os.path.join(self.dir, "venv")
        subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", venv], check=True, timeout=60)
        site = Path(venv, "lib", f"python{VERSION}", "site-packages")
        (site / "inside.py").write_text("def application(environ, start_response): ...\n")
        done = self.ask("inside", VIRTUAL_ENV=venv)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'    venv "{venv}";\n', done.stdout)
        done = self.ask("inside")
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"the virtual environment {venv} is not active, try `. venv/bin/activate`", done.stderr)
        Path(self.dir, "needs.py").write_text("import nosuchthing\n")
        self.assertIn("`VIRTUAL_ENV=venv licorne run ...`", self.ask("needs").stderr)
        self.assertNotIn("licorne run", self.ask("apps:wsgy").stderr)
        self.assertIn(f"is nosuchthing installed in {venv}?", self.ask("needs", VIRTUAL_ENV=venv).stderr)
        Path(venv, "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.2.1.final.0\n")
        done = self.ask("inside", VIRTUAL_ENV=venv)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"is of Python 3.2.1, but this licorne embeds Python {VERSION}", done.stderr)
        self.assertIn(f"meson setup --wipe build -Dpython={venv}/bin/python", done.stderr)
        done = self.ask("inside", VIRTUAL_ENV=self.dir)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not a virtual environment", done.stderr)


if __name__ == "__main__":
    unittest.main()
