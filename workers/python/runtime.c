/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/runtime.c - the embedded interpreter: start, application, end.
 *
 * Python is configured as an application server should: no signal handlers, no user site directory, nothing from the
 * environment that changes where code is loaded from (those variables are removed first; `env` may set them again).
 * What only tunes (PYTHONMALLOC, PYTHONDEVMODE, PYTHONHASHSEED, ...) is honoured.
 *
 * `home` is always the Python that licorne was built for, also with a virtual environment: the environment's own `home`
 * may be another build of the same version, whose standard library need not fit our libpython.  site.py finds
 * the environment by sys.executable.
 *
 * Extension modules do not link to libpython, they take its symbols from the global scope: load() promotes it there.
 */
#include "lcpy.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appload.inc"
#include "applog.inc"

struct lcpy_runtime lcpy;
static const struct lc_config_api *config_api;

int
lcpy_load(const struct lc_host *host)
{
	Dl_info di;
	void *h;

	if (host)
		config_api = host->get("config", 1, sizeof(*config_api));
	if (!dladdr((void *)(uintptr_t)Py_IsInitialized, &di) || !di.dli_fname)
		return -ENOENT;
	h = dlopen(di.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
	if (!h)
		h = dlopen(LCPY_LIBRARY, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
	return h ? 0 : -ENOENT; /* never closed */
}

static void
check_paste(struct lc_err *err, const char *spec)
{
	size_t n = strcspn(spec, "#");
	char path[4096];
	struct stat st;

	if (n >= sizeof(path))
		return;
	(void)snprintf(path, sizeof(path), "%.*s", (int)n, spec);
	if (spec[n] && !spec[n + 1])
		config_api->error(err, "paste", "\"%s\" ends with \"#\", FILE#NAME was expected", spec);
	else if (stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
		config_api->error(err, "paste", "%s does not exist, a Paste Deploy file was expected", path);
	else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		config_api->error(err, "paste", "%s is a directory, a Paste Deploy file was expected", path);
}

static void
check_script_name(struct lc_err *err, const char *name)
{
	size_t n = strlen(name);

	if (name[0] != '/')
		config_api->error(err, "script_name", "\"%s\" does not begin with \"/\", a path like /app was expected",
				  name);
	else if (n == 1)
		config_api->error(err, "script_name", "\"/\" is no prefix, leave the directive out for the root");
	else if (name[n - 1] == '/')
		config_api->error(err, "script_name", "\"%s\" ends with \"/\", expected \"%.*s\"", name, (int)n - 1,
				  name);
	else if (strstr(name, "//") || strpbrk(name, "?#"))
		config_api->error(err, "script_name", "\"%s\" is no plain path, one like /app was expected", name);
}

static void
check_dir(struct lc_err *err, const char *directive, const char *path)
{
	struct stat st;

	if (!path)
		return;
	if (stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
		config_api->error(err, directive, "%s does not exist, a directory was expected", path);
	else if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		config_api->error(err, directive, "%s is not a directory", path);
}

int
lcpy_check(const void *conf, struct lc_err *err)
{
	const struct lcpy_conf *c = conf;
	const char *p;
	char msg[2048];

	if (!config_api)
		return 0;
	/* the whole grammar is Python's own parser's; this finds file names and empty parts */
	if (!c->app == !c->paste)
		config_api->error(err, c->paste ? "paste" : "app",
				  "%s, exactly one was expected: app MODULE:NAME; or paste FILE[#NAME];",
				  c->app ? "there are both app and paste" : "there is neither app nor paste");
	if (c->paste)
		check_paste(err, c->paste);
	if (c->script_name)
		check_script_name(err, c->script_name);
	if (c->app) {
		p = c->app + strcspn(c->app, ":");
		if (p == c->app || (*p == ':' && !p[1]))
			config_api->error(err, "app", "\"%s\" is incomplete, MODULE:NAME was expected", c->app);
		else if (memchr(c->app, '/', (size_t)(p - c->app)) || (p - c->app > 3 && strncmp(p - 3, ".py", 3) == 0))
			config_api->error(err, "app",
					  "\"%s\" is a file name, a module was expected (\"mysite.wsgi:application\")",
					  c->app);
	}
	/* who checks is whoever the workers are; Python itself would only say that it has no codec */
	if (lcpy_home_check(LCPY_HOME, msg, sizeof(msg)) < 0)
		config_api->error(err, NULL, "%s", msg);
	check_dir(err, "chdir", c->chdir);
	check_dir(err, "venv", c->venv);
	for (uint64_t i = 0; i + 1 < c->env.n; i += 2)
		if (!c->env.v[i][0] || strchr(c->env.v[i], '='))
			config_api->error(err, "env", "\"%s\" is not a name of a variable", c->env.v[i]);
	for (uint64_t i = 0; i + 1 < c->environ.n; i += 2)
		if (!c->environ.v[i][0] || lcpy_environ_reserved(c->environ.v[i]))
			config_api->error(err, "environ",
					  "\"%s\" is the request's or the server's own, another name was "
					  "expected%s",
					  c->environ.v[i],
					  strcmp(c->environ.v[i], "SCRIPT_NAME") == 0 ? " (there is script_name)" : "");
	return 0;
}

static void
boot_error(struct lc_wctx *ctx, const char *text)
{
	lcpy.wk->boot_error(ctx, text, strlen(text));
}

/* appload.AppError; keeps the exception that is set. */
static PyObject *
error_class(void)
{
	PyObject *type, *value, *tb, *kind;

	PyErr_Fetch(&type, &value, &tb);
	kind = PyObject_GetAttrString(lcpy.boot, "AppError");
	PyErr_Restore(type, value, tb);
	return kind;
}

/* The exception that is set becomes the boot error: the end of its traceback if it does not fit. */
static void
boot_exception(struct lc_wctx *ctx)
{
	PyObject *b = NULL, *kind = lcpy.boot ? error_class() : NULL;
	const char *p;
	size_t n;

	if (kind && PyErr_ExceptionMatches(kind)) {
		/* a sentence for whoever wrote the configuration, not an error of the application's code */
		PyObject *type, *value, *tb, *s;

		PyErr_Fetch(&type, &value, &tb);
		s = value ? PyObject_Str(value) : NULL;
		b = s ? PyUnicode_AsEncodedString(s, "utf-8", "backslashreplace") : NULL;
		Py_XDECREF(s);
		Py_XDECREF(type);
		Py_XDECREF(value);
		Py_XDECREF(tb);
	}
	Py_XDECREF(kind);
	if (!b)
		b = lcpy_exception_text();
	if (!b) {
		boot_error(ctx, "the application could not be imported: out of memory");
		return;
	}
	p = PyBytes_AS_STRING(b);
	n = (size_t)PyBytes_GET_SIZE(b);
	while (n && p[n - 1] == '\n')
		n--;
	if (n > 12000) {
		p += n - 12000; /* the error is at the end */
		n = 12000;
	}
	lcpy.wk->boot_error(ctx, p, n);
	Py_DECREF(b);
}

static int
start_python(struct lc_wctx *ctx, const char *venv)
{
	char exe[4096], msg[512];
	PyConfig config;
	PyPreConfig pre;
	PyStatus st;

	PyPreConfig_InitPythonConfig(&pre);
	pre.parse_argv = 0;
	st = Py_PreInitialize(&pre);
	if (PyStatus_Exception(st))
		goto failed_early;
	PyConfig_InitPythonConfig(&config);
	config.parse_argv = 0;
	config.install_signal_handlers = 0;
	config.user_site_directory = 0;
	config.safe_path = 1;
	config.configure_c_stdio = 0;
	config.pathconfig_warnings = 0;
	config.faulthandler = 1; /* on descriptor 2 until timeout.c says where else; without a recorder for ever */
	(void)snprintf(exe, sizeof(exe), "%s", LCPY_EXECUTABLE);
	if (venv) {
		(void)snprintf(exe, sizeof(exe), "%s/bin/python", venv);
		if (access(exe, X_OK) < 0)
			(void)snprintf(exe, sizeof(exe), "%s/bin/python3", venv);
	}
	st = PyConfig_SetBytesString(&config, &config.program_name, exe);
	if (!PyStatus_Exception(st))
		st = PyConfig_SetBytesString(&config, &config.executable, exe);
	if (!PyStatus_Exception(st))
		st = PyConfig_SetBytesString(&config, &config.base_executable, LCPY_EXECUTABLE);
	if (!PyStatus_Exception(st))
		st = PyConfig_SetBytesString(&config, &config.home, LCPY_HOME);
	if (!PyStatus_Exception(st))
		st = PyConfig_SetBytesArgv(&config, 1, (char *[]){"licorne"});
	if (!PyStatus_Exception(st))
		st = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	if (!PyStatus_Exception(st))
		return 0;
failed_early:
	(void)snprintf(msg, sizeof(msg), "Python %s at %s does not start: %s%s%s", PY_VERSION, LCPY_HOME,
		       st.func ? st.func : "", st.func ? ": " : "", st.err_msg ? st.err_msg : "it asked to exit");
	boot_error(ctx, msg);
	return -EINVAL;
}

/* Runs appload.py or applog.py as a module of ours, so that nothing on sys.path can stand in for it. */
static PyObject *
boot_module(const char *source, const char *name, const char *file)
{
	PyObject *code = Py_CompileString(source, file, Py_file_input), *m;

	if (!code)
		return NULL;
	m = PyImport_ExecCodeModuleEx(name, code, file);
	Py_DECREF(code);
	return m;
}

static PyObject *
load_app(const struct lcpy_conf *c)
{
	PyObject *paths = PyList_New(0), *app = NULL;

	for (uint64_t i = 0; paths && i < c->pythonpath.n; i++) {
		PyObject *s = PyUnicode_DecodeFSDefault(c->pythonpath.v[i]);

		if (!s || PyList_Append(paths, s) < 0)
			Py_CLEAR(paths);
		Py_XDECREF(s);
	}
	if (paths)
		app = PyObject_CallMethod(lcpy.boot, "start", "zzOz", c->app, c->paste, paths, c->venv);
	Py_XDECREF(paths);
	return app;
}

/*
 * What to call.  An instance whose class defines __call__ in Python would go through a tuple and a lookup each time:
 * its method is bound once.  (Python looks up __call__ on the type as well; only replacing it later goes unseen.)
 */
static PyObject *
call_target(PyObject *app)
{
	PyObject *f;

	if (PyType_Check(app) || PyFunction_Check(app) || PyMethod_Check(app) || PyCFunction_Check(app) ||
	    PyType_HasFeature(Py_TYPE(app), Py_TPFLAGS_HAVE_VECTORCALL))
		return Py_NewRef(app);
	f = PyObject_GetAttrString((PyObject *)Py_TYPE(app), "__call__");
	if (f && PyFunction_Check(f)) {
		PyObject *m = PyMethod_New(f, app);

		Py_DECREF(f);
		return m;
	}
	Py_XDECREF(f);
	PyErr_Clear();
	return Py_NewRef(app);
}

static int forked; /* the hooks that run are those of a new worker, not of a fork of the application's */

/* The first hook of a worker, so that those of the application find in os.environ what a worker has. */
static PyObject *
in_worker(PyObject *self, PyObject *none)
{
	PyObject *os, *env;
	int rc = -1;
	char slot[16];

	(void)self;
	(void)none;
	if (!forked)
		Py_RETURN_NONE;
	(void)snprintf(slot, sizeof(slot), "%u", lcpy.wk->slot(lcpy.ctx));
	os = PyImport_ImportModule("os");
	env = os ? PyObject_GetAttrString(os, "environ") : NULL;
	if (env) {
		PyObject *value = PyUnicode_FromString(slot);

		rc = value ? PyMapping_SetItemString(env, "LICORNE_SLOT", value) : -1;
		Py_XDECREF(value);
	}
	Py_XDECREF(env);
	Py_XDECREF(os);
	if (rc < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef in_worker_def = {"in_worker", in_worker, METH_NOARGS, NULL};

static int
fork_hook(void)
{
	PyObject *os = PyImport_ImportModule("os"), *f = PyCFunction_New(&in_worker_def, NULL), *none = PyTuple_New(0);
	PyObject *kw = f ? Py_BuildValue("{s:O}", "after_in_child", f) : NULL, *hook, *r = NULL;

	hook = os ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
	if (hook && kw && none)
		r = PyObject_Call(hook, none, kw);
	Py_XDECREF(hook);
	Py_XDECREF(kw);
	Py_XDECREF(none);
	Py_XDECREF(f);
	Py_XDECREF(os);
	Py_XDECREF(r);
	return r ? 0 : -1;
}

/* All that is there now is for good, also what came after the import: a collection in a worker shall not write to the
 * pages that it shares. */
static int
freeze(void)
{
	PyObject *gc = PyImport_ImportModule("gc"), *r;

	r = gc ? PyObject_CallMethod(gc, "collect", NULL) : NULL;
	Py_XDECREF(r);
	r = r ? PyObject_CallMethod(gc, "freeze", NULL) : NULL;
	Py_XDECREF(r);
	Py_XDECREF(gc);
	return r ? 0 : -1;
}

static int
environment(struct lc_wctx *ctx, const struct lcpy_conf *c)
{
	static const char *const foreign[] = {"PYTHONPATH",     "PYTHONHOME",       "PYTHONSTARTUP",
					      "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONSAFEPATH"};
	char msg[4096 + 128];

	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		(void)unsetenv(foreign[i]);
	if (c->venv)
		(void)setenv("VIRTUAL_ENV", c->venv, 1);
	for (uint64_t i = 0; i + 1 < c->env.n; i += 2)
		if (setenv(c->env.v[i], c->env.v[i + 1], 1) < 0)
			return -errno;
	if (c->chdir && chdir(c->chdir) < 0) {
		int err = errno;

		(void)snprintf(msg, sizeof(msg), "chdir %s: %s", c->chdir, strerror(err));
		boot_error(ctx, msg);
		return -err;
	}
	return 0;
}

static int
init(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lcpy_conf *c, const struct lcpy_facts *facts,
     int shared)
{
	char msg[8192];
	int rc;

	lcpy = (struct lcpy_runtime){.wk = api, .st = api->stream, .ctx = ctx};
	if (c->venv && lcpy_venv_check(c->venv, msg, sizeof(msg)) < 0) {
		boot_error(ctx, msg);
		return -EINVAL;
	}
	rc = environment(ctx, c);
	if (rc == 0)
		rc = start_python(ctx, c->venv);
	if (rc < 0)
		return rc;
	lcpy.boot = boot_module(appload_source, "_licorne_appload", "<licorne appload>");
	lcpy.output = lcpy.boot ? boot_module(applog_source, "_licorne_applog", "<licorne applog>") : NULL;
	if (!lcpy.output || lcpy_errors_init() < 0 || lcpy_strings_init() < 0 || lcpy_input_init() < 0 ||
	    lcpy_resp_init() < 0 || lcpy__call_init() < 0 || lcpy_file_init() < 0 || lcpy_beyond_init() < 0 ||
	    lcpy_timeout_init() < 0 || lcpy_environ_init(facts, c) < 0 || lcpy_output_install(c->capture_output) < 0 ||
	    (shared && fork_hook() < 0))
		goto fail;
	lcpy.app = load_app(c);
	lcpy.target = lcpy.app ? call_target(lcpy.app) : NULL;
	if (lcpy.target && lcpy_output_imported() == 0 && lcpy_timeout_imported() == 0 && (!shared || freeze() == 0))
		return 0;
fail:
	if (PyErr_Occurred())
		boot_exception(ctx);
	else
		boot_error(ctx, "Python could not be set up: out of memory");
	lcpy_fini();
	return -EINVAL;
}

int
lcpy_init(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lcpy_conf *c,
	  const struct lcpy_facts *facts)
{
	return init(ctx, api, c, facts, 0);
}

int
lcpy_preload(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lcpy_conf *c,
	     const struct lcpy_facts *facts)
{
	return init(ctx, api, c, facts, 1);
}

void
lcpy_forking(uint32_t when)
{
	if (when == LC_FORK_BEFORE)
		PyOS_BeforeFork();
	else
		PyOS_AfterFork_Parent();
}

int
lcpy_forked(const struct lcpy_facts *facts)
{
	forked = 1;
	PyOS_AfterFork_Child();
	forked = 0;
	if (lcpy_timeout_init() == 0 && lcpy_environ_facts(facts) == 0)
		return 0;
	boot_exception(lcpy.ctx);
	return -EINVAL;
}

void
lcpy_fini(void)
{
	if (!Py_IsInitialized())
		return;
	lcpy_drain();
	Py_CLEAR(lcpy.target);
	Py_CLEAR(lcpy.app);
	lcpy_environ_fini();
	lcpy_beyond_fini();
	lcpy_timeout_fini();
	lcpy_file_fini();
	lcpy__call_fini();
	lcpy_resp_fini();
	lcpy_input_fini();
	lcpy_strings_fini();
	lcpy_errors_fini();
	Py_CLEAR(lcpy.output);
	Py_CLEAR(lcpy.boot);
	(void)Py_FinalizeEx();
	lcpy_errors_flush();
}
