/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/lcpy.h - what the Python workers share: one embedded interpreter, one application, PEP 3333.
 *
 * A worker module owns the threads and decides where a call runs; everything between "here is a stream" and "the
 * stream was released" is lcpy_call().  There is one interpreter in a process, so its state is a plain global (`lcpy`)
 * that the GIL protects.
 *
 * GIL rules.  "GIL held" functions need it; the stream's wait() is only ever called without it; release() callbacks
 * of slices may run on the loop thread and never touch a reference count (hold.c).
 */
#ifndef LCPY_H
#define LCPY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <licorne/module.h>
#include <licorne/tokens.h>
#include <licorne/worker.h>
#include <pthread.h>

#define LCPY_SMALL 16384 /* bodies up to here are copied into the stream's queue */

/* Directives that the workers share.  A module's configuration struct starts with it. */
struct lcpy_conf {
	const char *app, *paste, *chdir, *venv, *script_name;
	struct lc_list pythonpath, env, environ;
	uint8_t capture_output;
	uint64_t threads; /* calls at once; a module without the directive leaves 0 */
};
#define LCPY_ROWS(S)                                                                                                   \
	LC_STRING(                                                                                                     \
	    S, app, "app", LC_C_WORKER, 0, NULL, "The application: MODULE[:NAME[.NAME]...]",                           \
	    "`MODULE:NAME` imports MODULE and takes its attribute NAME (`application` when it is left out). With "     \
	    "call syntax, `MODULE:create(\"debug\", level=1)`, NAME is a factory that is called once with these "      \
	    "literal arguments and returns the application. Either this or `paste` is required."),                     \
	    LC_PATH(                                                                                                   \
		S, paste, "paste", LC_C_WORKER, 0, NULL, "The application: FILE[#NAME] of Paste Deploy",               \
		"FILE is an `.ini` file whose section `[app:NAME]` (or composite, pipeline, filter-app; `main` when "  \
		"it is left out) Paste Deploy makes the application of. The package PasteDeploy comes from the "       \
		"application's environment. Sections `[loggers]`, `[handlers]` and `[formatters]` are given to "       \
		"`logging.config.fileConfig`, as `pserve` does. Stands in place of `app`."),                           \
	    LC_PATH(S, chdir, "chdir", LC_C_WORKER, 0, NULL, "Directory to run in; first on `sys.path`",               \
		    "The worker changes to this directory before the application is imported. It is the first place "  \
		    "where modules are looked for; without the directive the current directory is."),                  \
	    LC_PATH(                                                                                                   \
		S, venv, "venv", LC_C_WORKER, 0, NULL, "Virtual environment of the application",                       \
		"Its `site-packages` are used, `sys.prefix` and `sys.executable` point into it, and `VIRTUAL_ENV` is " \
		"set. Its Python must have the version that licorne embeds."),                                         \
	    LC_LIST(S, pythonpath, "pythonpath", LC_C_WORKER, NULL, "DIRECTORY...",                                    \
		    "More directories to import from, after `chdir`",                                                  \
		    "They are tried in this order, before the virtual environment. Relative ones start at `chdir`."),  \
	    LC_PAIRS(S, env, "env", LC_C_WORKER, "NAME VALUE", "Environment variable of the worker",                   \
		     "Set before Python starts. `PYTHONPATH`, `PYTHONHOME`, `PYTHONSTARTUP`, `PYTHONUSERBASE`, "       \
		     "`PYTHONPLATLIBDIR` and `PYTHONSAFEPATH` of the server's own environment are not passed on; "     \
		     "here they can be set."),                                                                         \
	    LC_PAIRS(S, environ, "environ", LC_C_WORKER, "NAME VALUE", "Variable in the environ of each request",      \
		     "A string that the application finds in its `environ`. Variables that come from the request or "  \
		     "are set by the server cannot be given."),                                                        \
	    LC_STRING(S, script_name, "script_name", LC_C_WORKER, 0, NULL,                                             \
		      "Path under which the application is mounted",                                                   \
		      "`script_name /app` makes `SCRIPT_NAME` \"/app\" and takes it off `PATH_INFO`, so that the "     \
		      "application makes correct URLs of its own. A request for a path that is not below it is "       \
		      "answered with 404. Written decoded, without a slash at the end."),                              \
	    LC_FLAG(S, capture_output, "capture_output", LC_C_WORKER, "on", "Does `print()` go to the error log?",     \
		    "With `on`, `sys.stdout` and `sys.stderr` of the application write whole lines to the error log, " \
		    "levels `notice` and `warn`. With `off` they are the descriptors that licorne was started with.")

/* True facts for environ. */
struct lcpy_facts {
	int multithread, multiprocess;
};

/* ---- runtime (runtime.c, venv.c) ---- */
struct lcpy_runtime {
	const struct lc_worker_api *wk;
	const struct lc_stream_api *st;
	struct lc_wctx *ctx;
	PyObject *app;      /* as resolved */
	PyObject *target;   /* what is called: app, or its bound __call__ */
	PyObject *boot;     /* the boot module */
	PyObject *output;   /* the module that directs output into the log */
	PyObject *timeouts; /* licorne.RequestTimeout; NULL: calls have no limit */
};
extern struct lcpy_runtime lcpy;

int lcpy_load(const struct lc_host *);
int lcpy_check(const void *conf, struct lc_err *);
/* Main thread.  Starts Python and imports the application; 0 with the GIL held, or -errno after boot_error(). */
typedef int lcpy_start(struct lc_wctx *, const struct lc_worker_api *, const struct lcpy_conf *,
		       const struct lcpy_facts *);
lcpy_start lcpy_init;
/* The same in a process from which workers are forked; it may not have started a thread. */
lcpy_start lcpy_preload;
/* Main thread, GIL held.  There, around a fork; and in the worker: what differs between workers.  0, or -errno after
 * boot_error(). */
void lcpy_forking(uint32_t when);
int lcpy_forked(const struct lcpy_facts *);
/* Main thread, GIL held, no call running: finalises the interpreter. */
void lcpy_fini(void);
/* 0, or -EINVAL and a sentence: the environment does not exist or is of another version. */
int lcpy_venv_check(const char *venv, char *msg, size_t msgsize);
/* 0, or -EACCES and a sentence: the user that we are may not read the library of the Python that we embed. */
int lcpy_home_check(const char *home, char *msg, size_t msgsize);

/* ---- one call (call.c) ---- */
/* Runs the application for a stream and releases it.  GIL held; it is dropped while the stream waits.  `shared`: the
 * stream was share()d, so other threads of the application may use the input while this one waits for them. */
void lcpy_call(struct lc_stream *, int shared);
/* Refuse a stream that can not be run, without Python: 503, then release. */
void lcpy_refuse(struct lc_stream *);

int lcpy__call_init(void);
void lcpy__call_fini(void);

/* ---- hangs (timeout.c) ---- */
/* A call that request_timeout may end; on the stack of its thread. */
struct lcpy_limit {
	struct lcpy_limit *prev, *next;
	uint64_t call;       /* its number */
	unsigned long ident; /* Python's, of the thread */
	uint8_t raised;
};
/* GIL held.  Stacks on demand; and, with the application imported, the exception.  0, -1 with an exception. */
int lcpy_timeout_init(void);
int lcpy_timeout_imported(void);
void lcpy_timeout_fini(void);
/* GIL held; only when lcpy.timeouts is there. */
void lcpy_timeout_begin(struct lcpy_limit *, uint64_t call);
void lcpy_timeout_end(struct lcpy_limit *);
/* Any thread, without the GIL, never waits: RequestTimeout for the thread that runs this call, if it still does. */
void lcpy_timeout_overdue(uint64_t call);

/* ---- deferred reference counts (hold.c) ---- */
struct lcpy_hold;
/* GIL held.  A slice that owns a new reference to `bytes`; -ENOMEM. */
int lcpy_hold_slice(struct lc_slice *, PyObject *bytes, size_t off, size_t n);
void lcpy_drain(void);       /* GIL held: drop what release() callbacks left */
int lcpy_drain_wanted(void); /* any thread */

/* ---- strings (strings.c); GIL held ---- */
int lcpy_strings_init(void);
void lcpy_strings_fini(void);
PyObject *lcpy_str(const char *p, size_t n);        /* latin-1; new reference */
PyObject *lcpy_str_cached(const char *p, size_t n); /* the same through the value cache; new reference */
PyObject *lcpy_port(uint16_t port);                 /* "8000"; new reference */
extern PyObject *lcpy_token_keys[];                 /* environ key by token; [0] is NULL */
/* environ key of a field without a token; new reference, NULL without an exception: the name is dropped ('_' in it). */
PyObject *lcpy_key(const struct lc_field *);

static inline int
lcpy_same(PyObject *s, const char *p, size_t n)
{
	/* only for strings made by lcpy_str(): always one byte per character */
	return (size_t)PyUnicode_GET_LENGTH(s) == n && memcmp(PyUnicode_1BYTE_DATA(s), p, n) == 0;
}

/* ---- environ (environ.c); GIL held ---- */
int lcpy_environ_init(const struct lcpy_facts *, const struct lcpy_conf *);
int lcpy_environ_facts(const struct lcpy_facts *); /* other ones; 0, -1 with an exception */
int lcpy_environ_reserved(const char *name);       /* one that the server sets; no GIL needed */
int lcpy_environ_mounted(const struct lc_req *);   /* is the path below SCRIPT_NAME? no GIL needed */
void lcpy_environ_fini(void);
struct lcpy_view; /* what is known about an environ that may be used again */
PyObject *lcpy_environ(const struct lc_req *, PyObject *input, struct lcpy_view **); /* input NULL: no body */
void lcpy_environ_done(PyObject *env, struct lcpy_view *);                           /* steals both; takes NULLs */

/* ---- wsgi.input (input.c); GIL held ---- */
int lcpy_input_init(void);
void lcpy_input_fini(void);
PyObject *lcpy_input_empty(void); /* borrowed */
PyObject *lcpy_input_new(struct lc_stream *, const struct lc_req *, int shared);
void lcpy_input_done(PyObject *); /* steals; further reads fail */
int lcpy_input_error(PyObject *); /* errno of the read that failed (the client is gone, over a limit), 0; takes NULL */

/* ---- wsgi.errors, output, logging (errors.c, applog.py) ---- */
int lcpy_errors_init(void);
void lcpy_errors_fini(void);
PyObject *lcpy_errors(void);  /* borrowed */
void lcpy_errors_flush(void); /* this thread's unfinished lines; no GIL needed */
/* Before the application is imported: logging, and sys.stdout and sys.stderr if `capture`; 0, -1 with an exception. */
int lcpy_output_install(int capture);
/* After it: a handler for the root logger, if the application gave it none. */
int lcpy_output_imported(void);
/* GIL held; takes the exception that is set and logs it under a head line. */
void lcpy_log_exception(const char *head);
/* GIL held; takes the exception that is set; its formatted text as bytes (UTF-8), never NULL unless out of memory. */
PyObject *lcpy_exception_text(void);
/* A request line for the log: printable, bounded. */
const char *lcpy_req_line(const struct lc_req *, char *buf, size_t n);

/* ---- heads that come again (heads.c); GIL held ---- */
#define LCPY_NO_LENGTH (-1)
#define LCPY_LENGTHS (-2) /* more than one Content-Length */
struct lcpy_head {
	struct lc_head head; /* with memo set, strings and fields of static life, length unset */
	int length_at;       /* number of the header that is Content-Length, LCPY_NO_LENGTH */
};
struct lcpy_head_seen {
	uint64_t hash;    /* 0: not one to remember */
	PyObject *length; /* borrowed: the exact str that is Content-Length's value this time, unchecked */
};
/* `headers` is a list of anything.  NULL: look at it, and when all is right call lcpy_head_note(). */
const struct lcpy_head *lcpy_head_find(PyObject *status, PyObject *headers, struct lcpy_head_seen *);
void lcpy_head_note(PyObject *status, PyObject *headers, const struct lcpy_head_seen *, const struct lc_head *made,
		    int length_at);
void lcpy_heads_fini(void);

/* ---- fields of heads and trailers (fields.c); GIL held ---- */
static inline int
lcpy_is_latin1(PyObject *s)
{
#if PY_VERSION_HEX < 0x030c0000
	if (PyUnicode_READY(s) < 0) {
		PyErr_Clear();
		return 0;
	}
#endif
	return PyUnicode_KIND(s) == PyUnicode_1BYTE_KIND;
}

/* One byte per character.  -1: not a number, or too large a one. */
static inline int64_t
lcpy_number(PyObject *value)
{
	const uint8_t *p = PyUnicode_1BYTE_DATA(value);
	Py_ssize_t n = PyUnicode_GET_LENGTH(value);
	int64_t v = 0;

	if (n == 0 || n > 18)
		return -1;
	for (Py_ssize_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = v * 10 + (p[i] - '0');
	}
	return v;
}

/* A control character other than a tab? */
int lcpy_has_control(const uint8_t *p, size_t n);
struct lcpy_fields {
	struct lc_field *v; /* in the stream's arena, without Content-Length */
	uint32_t n;
	int length_at;  /* number of the header that is Content-Length, LCPY_NO_LENGTH, LCPY_LENGTHS */
	int64_t length; /* its value, -1: none */
	char *room;     /* `extra` bytes behind the fields */
};
/* Checks a list of (str, str) and copies it; `who` asks, for the text of an exception.  Runs no Python code.  0, or -1
 * with an exception. */
int lcpy_fields_take(struct lc_stream *, PyObject *list, const char *who, size_t extra, struct lcpy_fields *);
void lcpy_fields_fini(void);

/* ---- start_response and write() (response.c) ---- */
struct lcpy_resp {
	PyObject_HEAD vectorcallfunc vectorcall;
	struct lcpy_writer { /* write(), handed out by start_response */
		PyObject_HEAD vectorcallfunc vectorcall;
	} writer;
	struct lc_stream *stream; /* NULL: the request is over */
	const struct lc_req *req;
	pthread_t owner;
	struct lc_head head;
	int64_t declared; /* Content-Length of the application, -1: none */
	uint64_t written;
	uint8_t called, started, sent, gone, ended, nobody, is_head, full, excess;
	const struct lc_field *trailers;
	uint32_t ntrailers;
	uint8_t has_writer;     /* holds a reference to `writer`; if not, `writer` holds one to this */
	struct lcpy_resp *next; /* free list */
};
int lcpy_resp_init(void);
void lcpy_resp_fini(void);
struct lcpy_resp *lcpy_resp_new(struct lc_stream *, const struct lc_req *);
void lcpy_resp_done(struct lcpy_resp *); /* steals */
/* Outcomes of these: 0 ok, 1 the client is gone (nothing is set), -1 an exception is set. */
int lcpy_resp_head(struct lcpy_resp *, int64_t length);    /* length: used when the application declared none */
int lcpy_resp_chunk(struct lcpy_resp *, PyObject *bytes);  /* sends the head first when need be */
int lcpy_resp_list(struct lcpy_resp *, PyObject *seq);     /* exact list or tuple, ends the response */
int lcpy_resp_file(struct lcpy_resp *, struct lc_slice *); /* takes the slice of a file, ends the response */
int lcpy_resp_end(struct lcpy_resp *);                     /* exhaustion */

/* ---- what goes beyond PEP 3333 (beyond.c); GIL held ---- */
int lcpy_beyond_init(void);
void lcpy_beyond_fini(void);
PyObject *lcpy_early_hints(void);          /* borrowed */
PyObject *lcpy_send_trailers(void);        /* borrowed */
void lcpy_beyond_call(struct lcpy_resp *); /* this thread runs it from now on; NULL: none */

/* ---- wsgi.file_wrapper (file.c); GIL held ---- */
int lcpy_file_init(void);
void lcpy_file_fini(void);
PyObject *lcpy_file_wrapper(void); /* borrowed */
int lcpy_file_is(PyObject *result);
/* Sends a wrapper without iterating over it; *ret as above.  0: it cannot be done, nothing has happened. */
int lcpy_file_send(struct lcpy_resp *, PyObject *wrapper, int *ret);

#endif
