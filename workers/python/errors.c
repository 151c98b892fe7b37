/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/errors.c - wsgi.errors, sys.stdout, sys.stderr and tracebacks: text on its way into the log.
 *
 * There is one object of each for all requests, with a level of its own.  Lines are whole: each thread collects its own
 * unfinished one (print() writes text and newline in two calls), at most LINEMAX bytes, flushed when the call ends.
 * Lines that end by one call are one record: a traceback of a logging handler, a print() of several lines.  Any str is
 * accepted; what UTF-8 cannot say (lone surrogates) is written as a backslash escape.
 *
 * All of it works until the interpreter is gone: what runs at exit prints, too.
 */
#include "lcpy.h"

#define LINEMAX 4096u
#define MAXTEXT 32768u /* of one traceback */

enum { S_ERRORS, S_STDOUT, S_STDERR, S_COUNT };
static const int levels[S_COUNT] = {LC_LOG_ERROR, LC_LOG_NOTICE, LC_LOG_WARN};

/* A thread's unfinished lines. */
struct lines {
	struct line {
		uint32_t n;
		char text[LINEMAX];
	} of[S_COUNT];
};
struct sink {
	PyObject_HEAD int which;
};

static PyTypeObject *errors_type;
static PyObject *sinks[S_COUNT], *format_exception;
static pthread_key_t line_key;
static int have_key;
static int used; /* has any thread ever begun a line? */

void
lcpy_errors_flush(void)
{
	struct lines *l = __atomic_load_n(&used, __ATOMIC_RELAXED) ? pthread_getspecific(line_key) : NULL;

	for (int i = 0; l && i < S_COUNT; i++) {
		if (l->of[i].n)
			lcpy.wk->log(lcpy.ctx, levels[i], "%.*s", (int)l->of[i].n, l->of[i].text);
		l->of[i].n = 0;
	}
}

/* A thread ends. */
static void
free_lines(void *arg)
{
	struct lines *l = arg;

	for (int i = 0; i < S_COUNT; i++)
		if (l->of[i].n)
			lcpy.wk->log(lcpy.ctx, levels[i], "%.*s", (int)l->of[i].n, l->of[i].text);
	free(l);
}

/* One record of the unfinished line and n bytes, which end where a line does. */
static void
put_record(struct line *l, int level, const char *p, size_t n)
{
	const char *nl = memchr(p, '\n', n);
	size_t first = nl ? (size_t)(nl - p) : n;

	/* the log takes a long text, but no long first line */
	while (l->n + first > LINEMAX) {
		size_t k = LINEMAX - l->n;

		lcpy.wk->log(lcpy.ctx, level, "%.*s%.*s", (int)l->n, l->text, (int)k, p);
		l->n = 0;
		p += k;
		n -= k;
		first -= k;
	}
	while (n > MAXTEXT) {
		lcpy.wk->log(lcpy.ctx, level, "%.*s%.*s", (int)l->n, l->text, (int)MAXTEXT, p);
		l->n = 0;
		p += MAXTEXT;
		n -= MAXTEXT;
	}
	lcpy.wk->log(lcpy.ctx, level, "%.*s%.*s", (int)l->n, l->text, (int)n, p);
	l->n = 0;
}

/* No GIL needed, but for the exception. */
static int
put_clean(int which, const char *p, size_t n)
{
	struct lines *lines = pthread_getspecific(line_key);
	struct line *l;
	const char *end;

	if (!n)
		return 0;
	if (!lines) {
		lines = calloc(1, sizeof(*lines));
		if (!lines || pthread_setspecific(line_key, lines) != 0) {
			free(lines);
			PyErr_NoMemory();
			return -1;
		}
		__atomic_store_n(&used, 1, __ATOMIC_RELAXED);
	}
	l = &lines->of[which];
	if (p[n - 1] == '\n') { /* empty lines too: it is the application's text */
		put_record(l, levels[which], p, n - 1);
		return 0;
	}
	end = l->n + n > LINEMAX ? memrchr(p, '\n', n) : NULL;
	if (end) {
		put_record(l, levels[which], p, (size_t)(end - p));
		n -= (size_t)(end + 1 - p);
		p = end + 1;
	}
	while (n) {
		size_t room = LINEMAX - l->n, k = n < room ? n : room;

		memcpy(l->text + l->n, p, k);
		l->n += (uint32_t)k;
		p += k;
		n -= k;
		if (l->n == LINEMAX)
			put_record(l, levels[which], "", 0);
	}
	return 0;
}

static int
put_text(int which, const char *p, size_t n)
{
	char *copy;
	int rc;

	if (!memchr(p, '\0', n))
		return put_clean(which, p, n);
	copy = malloc(n); /* a NUL would end the text; the bytes may be shared */
	if (!copy) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < n; i++)
		copy[i] = p[i] ? p[i] : '?';
	rc = put_clean(which, copy, n);
	free(copy);
	return rc;
}

static int
put_str(PyObject *self, PyObject *s)
{
	PyObject *b;
	int rc;

	if (!PyUnicode_Check(s)) {
		PyErr_Format(PyExc_TypeError, "write() argument must be str, not %.100s", Py_TYPE(s)->tp_name);
		return -1;
	}
	b = PyUnicode_AsEncodedString(s, "utf-8", "backslashreplace");
	if (!b)
		return -1;
	rc = put_text(((struct sink *)self)->which, PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(b));
	Py_DECREF(b);
	return rc;
}

static PyObject *
errors_write(PyObject *self, PyObject *s)
{
	if (put_str(self, s) < 0)
		return NULL;
	return PyLong_FromSsize_t(PyUnicode_GET_LENGTH(s));
}

static PyObject *
errors_write_bytes(PyObject *self, PyObject *s)
{
	Py_buffer b;
	int rc;

	if (PyObject_GetBuffer(s, &b, PyBUF_SIMPLE) < 0)
		return NULL;
	rc = put_text(((struct sink *)self)->which, b.buf, (size_t)b.len);
	PyBuffer_Release(&b);
	return rc < 0 ? NULL : PyLong_FromSsize_t(b.len);
}

static PyObject *
errors_writelines(PyObject *self, PyObject *lines)
{
	PyObject *it = PyObject_GetIter(lines), *s;

	if (!it)
		return NULL;
	while ((s = PyIter_Next(it))) {
		int rc = put_str(self, s);

		Py_DECREF(s);
		if (rc < 0)
			break;
	}
	Py_DECREF(it);
	if (PyErr_Occurred())
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *
errors_flush(PyObject *self, PyObject *unused)
{
	lcpy_errors_flush();
	Py_RETURN_NONE;
}

static PyObject *
errors_false(PyObject *self, PyObject *unused)
{
	Py_RETURN_FALSE;
}

static PyObject *
errors_true(PyObject *self, PyObject *unused)
{
	Py_RETURN_TRUE;
}

static PyObject *
errors_encoding(PyObject *self, void *unused)
{
	return PyUnicode_FromString("utf-8");
}

static void
errors_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_Free(self);
	Py_DECREF(type);
}

static PyMethodDef errors_methods[] = {
    {"write", errors_write, METH_O, "write(text, /)\n--\n\nWrite to the error log."},
    {"_write_bytes", errors_write_bytes, METH_O, NULL},
    {"writelines", errors_writelines, METH_O, "writelines(lines, /)\n--\n\nWrite several strings."},
    {"flush", errors_flush, METH_NOARGS, "flush()\n--\n\nWrite this thread's unfinished line."},
    {"isatty", errors_false, METH_NOARGS, NULL},
    {"readable", errors_false, METH_NOARGS, NULL},
    {"seekable", errors_false, METH_NOARGS, NULL},
    {"writable", errors_true, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef errors_getset[] = {
    {"encoding", errors_encoding, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot errors_slots[] = {
    {Py_tp_dealloc, errors_dealloc},
    {Py_tp_methods, errors_methods},
    {Py_tp_getset, errors_getset},
    {Py_tp_doc, "Text stream into the server's error log (PEP 3333 wsgi.errors)."},
    {0, NULL},
};
static PyType_Spec errors_spec = {
    .name = "licorne.Errors",
    .basicsize = sizeof(struct sink),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = errors_slots,
};

PyObject *
lcpy_errors(void)
{
	return sinks[S_ERRORS];
}

/* The exception that is set, normalised and with its traceback; NULL when none is. */
static PyObject *
take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
	return PyErr_GetRaisedException();
#else
	PyObject *type, *value, *tb;

	PyErr_Fetch(&type, &value, &tb);
	if (!type)
		return NULL;
	PyErr_NormalizeException(&type, &value, &tb);
	if (tb && value)
		PyException_SetTraceback(value, tb);
	Py_XDECREF(type);
	Py_XDECREF(tb);
	return value;
#endif
}

PyObject *
lcpy_exception_text(void)
{
	PyObject *exc = take_exception(), *text = NULL, *b = NULL;

	if (exc && format_exception)
		text = PyObject_CallOneArg(format_exception, exc); /* str, already joined */
	if (text && PyUnicode_Check(text))
		b = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (!b) {
		/* no memory, recursion, a broken __str__: the type is better than nothing */
		PyErr_Clear();
		b = PyBytes_FromFormat("%.200s (no traceback could be made)\n", exc ? Py_TYPE(exc)->tp_name : "error");
		PyErr_Clear();
	}
	Py_XDECREF(text);
	Py_XDECREF(exc);
	PyErr_Clear();
	return b;
}

void
lcpy_log_exception(const char *head)
{
	PyObject *b = lcpy_exception_text();
	char none[1] = "", *p = b ? PyBytes_AS_STRING(b) : none;
	size_t n = b ? (size_t)PyBytes_GET_SIZE(b) : 0;

	lcpy_errors_flush();
	for (char *z = p; (z = memchr(z, '\0', n - (size_t)(z - p)));)
		*z = '?'; /* the message may hold one; the bytes are ours alone */
	while (n && p[n - 1] == '\n')
		n--;
	/* one record; of a monstrous one the beginning, and the end, where the error is */
	if (n > MAXTEXT)
		lcpy.wk->log(lcpy.ctx, LC_LOG_ERROR, "%s\n%.*s\n  [...]\n%.*s", head, (int)(MAXTEXT / 4), p,
			     (int)(MAXTEXT / 4), p + n - MAXTEXT / 4);
	else
		lcpy.wk->log(lcpy.ctx, LC_LOG_ERROR, "%s\n%.*s", head, (int)n, p);
	Py_XDECREF(b);
}

const char *
lcpy_req_line(const struct lc_req *req, char *buf, size_t size)
{
	size_t n = 0, room = size > 4 ? size - 4 : 0;
	const struct lc_str parts[] = {req->method, {" ", 1}, req->target, {" from ", 6}, req->peer};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t max = i == 2 ? 512 : 64;

		for (size_t j = 0; j < parts[i].n && j < max && n < room; j++) {
			char c = parts[i].p[j];

			buf[n++] = c >= 0x20 && c < 0x7f ? c : '?';
		}
	}
	buf[n] = '\0';
	return buf;
}

int
lcpy_errors_init(void)
{
	if (!have_key && pthread_key_create(&line_key, free_lines) != 0)
		return -ENOMEM;
	have_key = 1;
	errors_type = (PyTypeObject *)PyType_FromSpec(&errors_spec);
	for (int i = 0; errors_type && i < S_COUNT; i++) {
		struct sink *s = PyObject_New(struct sink, errors_type);

		if (!s)
			return -ENOMEM;
		s->which = i;
		sinks[i] = (PyObject *)s;
	}
	format_exception = PyObject_GetAttrString(lcpy.boot, "format_exception");
	return errors_type && format_exception ? 0 : -ENOMEM;
}

void
lcpy_errors_fini(void)
{
	lcpy_errors_flush();
	for (int i = 0; i < S_COUNT; i++)
		Py_CLEAR(sinks[i]);
	Py_CLEAR(errors_type);
	Py_CLEAR(format_exception);
}

/* ---- logging, sys.stdout, sys.stderr (applog.py) ---- */

/* log(level, text): one record. */
static PyObject *
record(PyObject *self, PyObject *args)
{
	PyObject *text, *b;
	const char *p;
	size_t n;
	int level;

	if (!PyArg_ParseTuple(args, "iU", &level, &text)) /* applog.py has seen to it that there is no NUL */
		return NULL;
	b = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (!b)
		return NULL;
	p = PyBytes_AS_STRING(b);
	n = (size_t)PyBytes_GET_SIZE(b);
	while (n && p[n - 1] == '\n')
		n--;
	lcpy.wk->log(lcpy.ctx, level, "%.*s", (int)(n < MAXTEXT ? n : MAXTEXT), p);
	Py_DECREF(b);
	Py_RETURN_NONE;
}

static PyMethodDef record_def = {"log", record, METH_VARARGS, NULL};

static int
done(PyObject *r)
{
	Py_XDECREF(r);
	return r ? 0 : -1;
}

int
lcpy_output_install(int capture)
{
	PyObject *log = PyCFunction_New(&record_def, NULL);
	int rc = !log ? -1
		      : done(PyObject_CallMethod(lcpy.output, "install", "OOOi", log, sinks[S_STDOUT], sinks[S_STDERR],
						 capture));

	Py_XDECREF(log);
	return rc;
}

int
lcpy_output_imported(void)
{
	return done(PyObject_CallMethod(lcpy.output, "imported", NULL));
}
