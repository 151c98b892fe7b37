/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/errors.c - wsgi.errors and tracebacks: text of the application on its way into the log.
 *
 * wsgi.errors is one object for all requests.  Lines are whole: each thread collects its own unfinished one (print()
 * writes text and newline in two calls), at most LINEMAX bytes, flushed when the call ends.  Any str is accepted;
 * what UTF-8 cannot say (lone surrogates) is written as a backslash escape.
 */
#include "lcpy.h"

#define LINEMAX 4096u
#define MAXTEXT 32768u /* of one traceback */

struct line {
	uint32_t n;
	char text[LINEMAX];
};

static PyTypeObject *errors_type;
static PyObject *errors_obj, *format_exception;
static pthread_key_t line_key;
static int have_key;
static int used; /* has any thread ever begun a line? */

static void
put_line(const char *p, size_t n)
{
	lcpy.wk->log(lcpy.ctx, LC_LOG_ERROR, "%.*s", (int)n, p);
}

void
lcpy_errors_flush(void)
{
	struct line *l = __atomic_load_n(&used, __ATOMIC_RELAXED) ? pthread_getspecific(line_key) : NULL;

	if (l && l->n) {
		put_line(l->text, l->n);
		l->n = 0;
	}
}

static int
put_text(const char *p, size_t n)
{
	struct line *l = pthread_getspecific(line_key);

	if (!l) {
		l = malloc(sizeof(*l));
		if (!l || pthread_setspecific(line_key, l) != 0) {
			free(l);
			PyErr_NoMemory();
			return -1;
		}
		l->n = 0;
		__atomic_store_n(&used, 1, __ATOMIC_RELAXED);
	}
	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t k = nl ? (size_t)(nl - p) : n, room = LINEMAX - l->n;
		size_t take = k < room ? k : room;

		memcpy(l->text + l->n, p, take);
		l->n += (uint32_t)take;
		p += take;
		n -= take;
		if (take == k && nl) {
			put_line(l->text, l->n); /* empty lines too: it is the application's text */
			l->n = 0;
			p++;
			n--;
		} else if (l->n == LINEMAX) {
			put_line(l->text, l->n);
			l->n = 0;
		}
	}
	return 0;
}

static int
put_str(PyObject *s)
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
	rc = put_text(PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(b));
	Py_DECREF(b);
	return rc;
}

static PyObject *
errors_write(PyObject *self, PyObject *s)
{
	if (put_str(s) < 0)
		return NULL;
	return PyLong_FromSsize_t(PyUnicode_GET_LENGTH(s));
}

static PyObject *
errors_writelines(PyObject *self, PyObject *lines)
{
	PyObject *it = PyObject_GetIter(lines), *s;

	if (!it)
		return NULL;
	while ((s = PyIter_Next(it))) {
		int rc = put_str(s);

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
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = errors_slots,
};

PyObject *
lcpy_errors(void)
{
	return errors_obj;
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
	if (!have_key && pthread_key_create(&line_key, free) != 0)
		return -ENOMEM;
	have_key = 1;
	errors_type = (PyTypeObject *)PyType_FromSpec(&errors_spec);
	errors_obj = errors_type ? (PyObject *)PyObject_New(PyObject, errors_type) : NULL;
	format_exception = PyObject_GetAttrString(lcpy.boot, "format_exception");
	return errors_obj && format_exception ? 0 : -ENOMEM;
}

void
lcpy_errors_fini(void)
{
	lcpy_errors_flush();
	Py_CLEAR(errors_obj);
	Py_CLEAR(errors_type);
	Py_CLEAR(format_exception);
}
