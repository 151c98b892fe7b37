/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/test_py_boot.c - starting Python and loading an application: what works, and what is said when it does not.
 *
 * There is one interpreter in a process, so each case boots in a child, in a directory of its own.
 */
#include "lcpy.h"

#include "pyhost_fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *boot_path = "/"; /* of the request that boot() makes */
static char dir[] = "/tmp/licorne-boot-XXXXXX";
static char answer[1 << 16];

static const char app_text[] = "import os, sys\n"
			       "def application(environ, start_response):\n"
			       "    start_response('200 OK', [])\n"
			       "    return [repr(eval(environ['QUERY_STRING'])).encode('utf-8', 'replace')]\n"
			       "app = app2 = application\n"
			       "number = 3\n"
			       "class Box:\n"
			       "    inner = application\n"
			       "    class Deeper:\n"
			       "        app = application\n"
			       "def create(*args, **kwargs):\n"
			       "    if args == ('none',): return None\n"
			       "    if args == ('raise',): raise RuntimeError('no application today')\n"
			       "    globals()['given'] = (args, kwargs)\n"
			       "    return application\n";

static void
put_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Boots with this configuration and evaluates an expression in the application, or gives the boot error; in `answer`.
 */
static int
boot(const struct lcpy_conf *conf, const char *expression)
{
	int fds[2], status;
	size_t n = 0;
	ssize_t k;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		const struct lcpy_facts facts = {0, 0};
		char target[1024];
		struct lc_stream *s;

		if (lcpy_load(NULL) < 0)
			_exit(9);
		if (lcpy_init(NULL, &fake_worker, conf, &facts) < 0) {
			if (write(fds[1], fake_boot, strlen(fake_boot)) < 0)
				_exit(9);
			_exit(1);
		}
		(void)snprintf(target, sizeof(target), "%s?%s", boot_path, expression);
		s = fake_stream("GET", target, NULL);
		lcpy_call(s, 0);
		fake_flush(s);
		if (s->status == 404)
			_exit(4);
		if (s->status != 200 || write(fds[1], s->body, s->body_n) < 0) {
			(void)!write(fds[1], fake_log, strlen(fake_log));
			_exit(8);
		}
		fake_free(s);
		lcpy_fini();
		_exit(0);
	}
	(void)close(fds[1]);
	while ((k = read(fds[0], answer + n, sizeof(answer) - 1 - n)) > 0)
		n += (size_t)k;
	answer[n] = '\0';
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
works(const char *app, const char *expression, const char *expect)
{
	const struct lcpy_conf conf = {.app = app, .chdir = dir};

	assert_int_equal(boot(&conf, expression), 0);
	assert_string_equal(answer, expect);
}

static void
fails(const char *app, const char *says)
{
	const struct lcpy_conf conf = {.app = app, .chdir = dir};

	assert_int_equal(boot(&conf, "0"), 1);
	if (!strstr(answer, says))
		fail_msg("%s: \"%s\" is not in:\n%s", app, says, answer);
}

static void
test_specs(void **state)
{
	put_file("hello.py", app_text);
	works("hello", "6*7", "42");
	works("hello:app", "6*7", "42");
	works("hello:Box.inner", "1", "1");
	works("hello:Box.Deeper.app", "1", "1");
	works("hello:create()", "given", "((), {})");
	works("hello:create('a',1,[2],k={'x':-1.5},f=None)", "given", "(('a', 1, [2]), {'k': {'x': -1.5}, 'f': None})");
}

static void
test_refusals(void **state)
{
	put_file("hello.py", app_text);
	put_file("broken.py", "def f():\n    import nosuchthing\nf()\n");
	put_file("syntax.py", "def f(:\n");
	put_file("leaves.py", "import sys; sys.exit(5)\n");
	put_file("empty.py", "");
	fails("hello:appl", "hello has no attribute 'appl'; it has hello:app");
	fails("hello:Box.outer", "hello:Box has no attribute 'outer'");
	fails("empty", "empty has no attribute 'application'; it has nothing that looks like an application");
	fails("hello:number", "'hello:number' is not callable: it is of type int");
	fails("hello:create('none')", "is not callable: it is None");
	fails("hello:create('raise')", "RuntimeError: no application today");
	fails("hello:create(os)", "must be literals");
	fails("hello:create(**{})", "must be literals");
	fails("hello:app[0]", "is neither a name nor a call");
	fails("hello:app +", "is neither a name nor a call");
	fails("hello.py", "there is no module 'hello.py'");
	fails("dir/hello:app", "MODULE:NAME was expected");
	fails("nosuch.mod:app", "there is no module 'nosuch'");
	fails("broken", "broken.py\", line 2, in f\n");
	fails("broken", "ModuleNotFoundError: No module named 'nosuchthing'");
	assert_null(strstr(answer, "importlib"));
	assert_null(strstr(answer, "appload"));
	fails("syntax", "SyntaxError");
	put_file("others.py", "import functools\n"
			      "async def asgi(scope, receive, send): pass\n"
			      "class Asgi:\n"
			      "    async def __call__(self, scope, receive, send): pass\n"
			      "instance = Asgi()\n"
			      "def create(): return dict\n"
			      "def one(environ): pass\n"
			      "@functools.wraps(asgi)\n"
			      "def adapter(environ, start_response):\n"
			      "    start_response('200 OK', [])\n"
			      "    return [b'42']\n");
	fails("others:asgi", "'others:asgi' is an ASGI application; this version of licorne runs WSGI");
	fails("others:instance", "'others:instance' is an ASGI application");
	fails("others:create", "'others:create' is no WSGI application: it cannot be called with (environ, "
			       "start_response); a factory is written others:create()");
	fails("others:one", "is no WSGI application");
	works("others:adapter", "0", "42");
	fails("leaves", "SystemExit: 5");
}

static void
test_paths_and_env(void **state)
{
	static const char *const more[] = {"lib", "/nowhere"};
	static const char *const env[] = {"LICORNE_A", "a b", "LICORNE_EMPTY", ""};
	const struct lcpy_conf conf = {.app = "hello", .chdir = dir, .pythonpath = {more, 2}, .env = {env, 4}};
	struct lcpy_conf gone = {.app = "hello", .chdir = "/nowhere/at/all"};
	char sub[256], expect[2048], *real = realpath(dir, NULL);

	put_file("hello.py", app_text);
	(void)snprintf(sub, sizeof(sub), "%s/lib", dir);
	(void)mkdir(sub, 0755);
	assert_non_null(real);
	(void)setenv("PYTHONPATH", "/from/the/shell", 1);
	(void)setenv("PYTHONHOME", "/from/the/shell", 1);
	(void)setenv("PYTHONSTARTUP", "/from/the/shell", 1);
	assert_int_equal(boot(&conf, "sys.path[:3],os.getcwd(),'/from/the/shell'in(sys.path)"), 0);
	(void)snprintf(expect, sizeof(expect), "(['%s', '%s/lib', '/nowhere'], '%s', False)", real, real, real);
	assert_string_equal(answer, expect);
	assert_int_equal(boot(&conf, "[os.environ.get(k)for(k)in('LICORNE_A','LICORNE_EMPTY','PYTHONPATH')]"), 0);
	assert_string_equal(answer, "['a b', '', None]");
	assert_int_equal(boot(&conf, "sys.executable,sys.argv,sys.flags.no_user_site,sys.stdout.line_buffering"), 0);
	assert_string_equal(answer, "('" LCPY_EXECUTABLE "', ['licorne'], 1, True)");
	/* what starts interpreters gets one */
	assert_int_equal(boot(&conf, "__import__('subprocess').check_output([sys.executable,'-c','print(6*7)'])"), 0);
	assert_string_equal(answer, "b'42\\n'");
	assert_int_equal(boot(&gone, "0"), 1);
	assert_string_equal(answer, "chdir /nowhere/at/all: No such file or directory");
	free(real);
	(void)unsetenv("PYTHONPATH");
	(void)unsetenv("PYTHONHOME");
	(void)unsetenv("PYTHONSTARTUP");
}

static void
mounted(const char *path, const char *expect)
{
	static const char *const more[] = {"my.option", "a b", "SITE", "\xc3\xa9"};
	const struct lcpy_conf conf = {.app = "hello", .chdir = dir, .script_name = "/a b/c", .environ = {more, 4}};

	boot_path = path;
	assert_int_equal(boot(&conf, "(environ['SCRIPT_NAME'],environ['PATH_INFO'],environ['my.option'],"
				     "environ['SITE'].encode('latin-1'))"),
			 expect ? 0 : 4);
	boot_path = "/";
	if (expect)
		assert_string_equal(answer, expect);
}

static void
test_environ_conf(void **state)
{
	put_file("hello.py", app_text);
	mounted("/a%20b/c", "('/a b/c', '', 'a b', b'\\xc3\\xa9')");
	mounted("/a%20b/c/", "('/a b/c', '/', 'a b', b'\\xc3\\xa9')");
	mounted("/a%20b/%63/x%2F/y", "('/a b/c', '/x//y', 'a b', b'\\xc3\\xa9')");
	mounted("/a%20b/c%2fd", "('/a b/c', '/d', 'a b', b'\\xc3\\xa9')");
	mounted("*", "('/a b/c', '', 'a b', b'\\xc3\\xa9')");
	mounted("/a%20b/cd", NULL);
	mounted("/a%20b/", NULL);
	mounted("/a%20b/c%", NULL);
	mounted("/", NULL);
	mounted("/a", NULL);
}

/* As little of Paste Deploy as is needed here; the real one is in the integration tests. */
static const char paste_text[] = "def loadapp(uri, name=None):\n"
				 "    import hello\n"
				 "    hello.loaded = uri, name\n"
				 "    return hello.number if name == 'number' else hello.application\n";
static const char ini_text[] = "[app:main]\nuse = whatever\n[loggers]\nkeys = root\n[handlers]\nkeys = one\n"
			       "[formatters]\nkeys = plain\n[logger_root]\nlevel = INFO\nhandlers = one\n"
			       "[handler_one]\nclass = StreamHandler\nargs = (sys.stderr,)\nformatter = plain\n"
			       "[formatter_plain]\nformat = %(message)s\n";

static void
test_paste(void **state)
{
	char sub[256], spec[256], expect[512];
	struct lcpy_conf conf = {.chdir = dir, .paste = spec};

	put_file("hello.py", app_text);
	put_file("test.ini", ini_text);
	(void)snprintf(spec, sizeof(spec), "%s/test.ini", dir);
	assert_int_equal(boot(&conf, "0"), 1);
	assert_non_null(strstr(answer, "test.ini needs the package PasteDeploy, which is not installed for "));
	assert_non_null(strstr(answer, "-m pip install PasteDeploy"));
	(void)snprintf(sub, sizeof(sub), "%s/paste", dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	put_file("paste/deploy.py", "import nosuchthing\n");
	assert_int_equal(boot(&conf, "0"), 1);
	assert_non_null(strstr(answer, "No module named 'nosuchthing'"));
	assert_non_null(strstr(answer, "Traceback"));
	put_file("paste/deploy.py", paste_text);
	assert_int_equal(boot(&conf, "loaded,[(type(h).__name__)for(h)in(__import__('logging').root.handlers)]"), 0);
	(void)snprintf(expect, sizeof(expect), "(('config:%s/test.ini', None), ['StreamHandler'])", dir);
	assert_string_equal(answer, expect);
	(void)snprintf(spec, sizeof(spec), "%s/test.ini#other", dir);
	assert_int_equal(boot(&conf, "loaded[1]"), 0);
	assert_string_equal(answer, "'other'");
	(void)snprintf(spec, sizeof(spec), "%s/test.ini#number", dir);
	assert_int_equal(boot(&conf, "0"), 1);
	assert_non_null(strstr(answer, "is not callable: it is of type int"));
	(void)snprintf(spec, sizeof(spec), "%s/none.ini", dir);
	assert_int_equal(boot(&conf, "0"), 1);
	assert_non_null(strstr(answer, "none.ini does not exist, a Paste Deploy file was expected"));
}

/* What an application configures itself is left alone, and what it does not goes to the log. */
static void
test_logging(void **state)
{
	static const char handlers[] = "[(type(h).__module__)for(h)in(__import__('logging').root.handlers)],"
				       "type(__import__('sys').stdout).__module__";
	struct lcpy_conf conf = {.chdir = dir, .app = "own", .capture_output = 1};
	char text[2048];

	(void)snprintf(text, sizeof(text), "import logging; logging.basicConfig()\n%s", app_text);
	put_file("own.py", text);
	put_file("hello.py", app_text);
	assert_int_equal(boot(&conf, handlers), 0);
	assert_string_equal(answer, "(['logging'], '_licorne_applog')");
	conf.app = "hello";
	assert_int_equal(boot(&conf, handlers), 0);
	assert_string_equal(answer, "(['_licorne_applog'], '_licorne_applog')");
	conf.capture_output = 0;
	assert_int_equal(boot(&conf, handlers), 0);
	assert_string_equal(answer, "(['_licorne_applog'], '_io')");
}

static void
test_venv(void **state)
{
	char venv[256], command[1024], file[512];
	const struct lcpy_conf conf = {.app = "hello", .chdir = dir, .venv = venv};
	static const char *const versions[] = {"version = 2.7.18", "version_info = 3.99.1.final.0", "VERSION=3.2"};
	static const char *const shown[] = {"2.7.18", "3.99.1", "3.2"};

	put_file("hello.py", app_text);
	(void)snprintf(venv, sizeof(venv), "%s/venv", dir);
	(void)snprintf(command, sizeof(command), "%s -I -m venv --without-pip %s", LCPY_EXECUTABLE, venv);
	assert_int_equal(system(command), 0);
	(void)snprintf(file, sizeof(file), "venv/lib/python%d.%d/site-packages/more.pth", PY_MAJOR_VERSION,
		       PY_MINOR_VERSION);
	put_file(file, "extra\nimport sys; sys.from_pth = 'yes'\n");
	(void)snprintf(file, sizeof(file), "%s/venv/lib/python%d.%d/site-packages/extra", dir, PY_MAJOR_VERSION,
		       PY_MINOR_VERSION);
	assert_int_equal(mkdir(file, 0755), 0);
	assert_int_equal(boot(&conf, "sys.prefix,sys.executable,os.environ['VIRTUAL_ENV'],sys.base_prefix,sys.from_pth,"
				     "any(p.endswith('site-packages/extra')for(p)in(sys.path)),"
				     "sum(p.endswith('site-packages')for(p)in(sys.path))"),
			 0);
	(void)snprintf(command, sizeof(command), "('%s', '%s/bin/python', '%s', '%s', 'yes', True, 1)", venv, venv,
		       venv, LCPY_HOME);
	assert_string_equal(answer, command);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(file, sizeof(file), "home = /usr/bin\ninclude-system-site-packages = false\n%s\n",
			       versions[i]);
		put_file("venv/pyvenv.cfg", file);
		assert_int_equal(boot(&conf, "0"), 1);
		(void)snprintf(
		    command, sizeof(command),
		    "the virtual environment %s is of Python %s, but this licorne embeds Python %d.%d; rebuild "
		    "licorne for it: meson setup --wipe build -Dpython=%s/bin/python && ninja -C build",
		    venv, shown[i], PY_MAJOR_VERSION, PY_MINOR_VERSION, venv);
		assert_string_equal(answer, command);
	}
	put_file("venv/pyvenv.cfg", "home = /usr/bin\n"); /* no version: the directory decides */
	assert_int_equal(boot(&conf, "6*7"), 0);
	(void)snprintf(venv, sizeof(venv), "%s", dir);
	assert_int_equal(boot(&conf, "0"), 1);
	assert_non_null(strstr(answer, "is not a virtual environment: its pyvenv.cfg cannot be read"));
}

/* ---- check() ---- */

static char errors[4096];

static void LC_PRINTF(3, 4) on_error(struct lc_err *e, const char *directive, const char *fmt, ...)
{
	size_t n = strlen(errors);
	va_list ap;

	n += (size_t)snprintf(errors + n, sizeof(errors) - n, "%s: ", directive);
	va_start(ap, fmt);
	n += (size_t)vsnprintf(errors + n, sizeof(errors) - n, fmt, ap);
	va_end(ap);
	(void)snprintf(errors + n, sizeof(errors) - n, "\n");
}

static const void *
host_get(const char *name, uint32_t version, size_t min)
{
	static const struct lc_config_api config = {.size = sizeof(config), .error = on_error};

	return strcmp(name, "config") == 0 ? &config : NULL;
}

static void
test_check(void **state)
{
	static const struct lc_host host = {.size = sizeof(host), .get = host_get};
	static const char *const env[] = {"A=B", "x", "GOOD", "x"};
	static const char *const good_environ[] = {"REMOTE_USER", "me", "my.option", ""};
	static const char *const reserved[] = {"SCRIPT_NAME", "/x",          "HTTP_COOKIE", "x", "wsgi.input",
					       "x",           "REMOTE_ADDR", "::",          "",  "x"};
	static const char *const wrong[][3] = {
	    {"/nowhere.ini#x", NULL, "paste: /nowhere.ini does not exist, a Paste Deploy file was expected\n"},
	    {"/etc", NULL, "paste: /etc is a directory, a Paste Deploy file was expected\n"},
	    {"/etc/passwd#", NULL, "paste: \"/etc/passwd#\" ends with \"#\", FILE#NAME was expected\n"},
	    {NULL, "app", "script_name: \"app\" does not begin with \"/\", a path like /app was expected\n"},
	    {NULL, "/", "script_name: \"/\" is no prefix, leave the directive out for the root\n"},
	    {NULL, "/app/", "script_name: \"/app/\" ends with \"/\", expected \"/app\"\n"},
	    {NULL, "/a//b", "script_name: \"/a//b\" is no plain path, one like /app was expected\n"},
	    {NULL, "/a?b", "script_name: \"/a?b\" is no plain path, one like /app was expected\n"},
	};
	const struct lcpy_conf bad = {
	    .app = "dir/hello.py:app", .chdir = "/nowhere", .venv = "/dev/null", .env = {env, 4}, .threads = 1};
	struct lcpy_conf good = {.app = "a.b:c.d('x:y')", .chdir = "/tmp"};

	assert_int_equal(lcpy_load(&host), 0);
	assert_int_equal(lcpy_check(&bad, NULL), 0);
	assert_non_null(strstr(errors, "app: \"dir/hello.py:app\" is a file name, a module was expected"));
	assert_non_null(strstr(errors, "chdir: /nowhere does not exist, a directory was expected\n"));
	assert_non_null(strstr(errors, "venv: /dev/null is not a directory\n"));
	assert_non_null(strstr(errors, "env: \"A=B\" is not a name of a variable\n"));
	errors[0] = '\0';
	good.app = "mod:";
	assert_int_equal(lcpy_check(&good, NULL), 0);
	assert_string_equal(errors, "app: \"mod:\" is incomplete, MODULE:NAME was expected\n");
	errors[0] = '\0';
	good.app = "a.b:c.d('x:y')";
	good.script_name = "/app/v1";
	good.environ = (struct lc_list){good_environ, 4};
	assert_int_equal(lcpy_check(&good, NULL), 0);
	assert_string_equal(errors, "");
	good.paste = "/etc/passwd#main";
	assert_int_equal(lcpy_check(&good, NULL), 0);
	assert_string_equal(errors,
			    "paste: there are both app and paste, exactly one was expected: app MODULE:NAME; or "
			    "paste FILE[#NAME];\n");
	errors[0] = '\0';
	good.app = NULL;
	assert_int_equal(lcpy_check(&good, NULL), 0);
	assert_string_equal(errors, "");
	good.paste = NULL;
	assert_int_equal(lcpy_check(&good, NULL), 0);
	assert_non_null(strstr(errors, "app: there is neither app nor paste, exactly one was expected: "));
	errors[0] = '\0';
	good.environ = (struct lc_list){NULL, 0};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		good.paste = wrong[i][0] ? wrong[i][0] : "/etc/passwd";
		good.script_name = wrong[i][1];
		assert_int_equal(lcpy_check(&good, NULL), 0);
		assert_string_equal(errors, wrong[i][2]);
		errors[0] = '\0';
	}
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i += 2) {
		good = (struct lcpy_conf){.app = "a", .environ = {reserved + i, 2}};
		assert_int_equal(lcpy_check(&good, NULL), 0);
		assert_non_null(strstr(errors, "is the request's or the server's own, another name was expected"));
		assert_int_equal(strstr(errors, "script_name") != NULL, i == 0);
		errors[0] = '\0';
	}
}

/* A Python that the worker's user may not read is found before Python looks for its library in vain. */
static void
test_home(void **state)
{
	char home[sizeof(dir) + 8], lib[1024], msg[2048], want[1024];
	int status;
	pid_t pid;

	assert_int_equal(lcpy_home_check(LCPY_HOME, msg, sizeof(msg)), 0);
	assert_int_equal(lcpy_home_check("/nowhere/at/all", msg, sizeof(msg)), 0);
	(void)snprintf(home, sizeof(home), "%s/home", dir);
	(void)snprintf(lib, sizeof(lib), "mkdir -p %s/lib/python%d.%d; chmod 755 %s; chmod 0 %s/lib", home,
		       PY_MAJOR_VERSION, PY_MINOR_VERSION, dir, home);
	assert_int_equal(system(lib), 0);
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(9);
		(void)snprintf(want, sizeof(want),
			       " cannot read Python's library in %s: %s/lib is closed to it (mode 0000); open it, set "
			       "another user, or rebuild",
			       home, home);
		if (lcpy_home_check(home, msg, sizeof(msg)) != -EACCES)
			_exit(1);
		_exit(strncmp(msg, "user ", 5) == 0 && strstr(msg, want) ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)snprintf(lib, sizeof(lib), "chmod 755 %s/lib", home);
	assert_int_equal(system(lib), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int
make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int
remove_dir(void **state)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_specs),         cmocka_unit_test(test_home),  cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_paths_and_env), cmocka_unit_test(test_venv),  cmocka_unit_test(test_check),
	    cmocka_unit_test(test_environ_conf),  cmocka_unit_test(test_paste), cmocka_unit_test(test_logging),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
