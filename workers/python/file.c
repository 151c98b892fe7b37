/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/file.c - wsgi.file_wrapper: a file that the application returns goes out without passing through
 * Python.
 *
 * The wrapper itself is a plain class (appload.py), so that middleware may iterate over it or replace it.  When one
 * comes back from the application unchanged, and what its read() would give are the bytes of a regular file and nothing
 * else (real_file() there decides: a GzipFile has a descriptor, too), the rest of that file from the current position
 * becomes one slice, cut at Content-Length.  Status and headers are the application's: a Range that it answered
 * stays answered.
 *
 * The slice has a descriptor of its own: the application may close its file, as close() of the wrapper does, long
 * before the client has everything.  Files that fit into a slice's copy are read at once, which is cheaper.  All that
 * does not fit is left to iteration: no regular file, nothing to send, no descriptor free, files that do not tell their
 * size (of /proc and /sys: they have no blocks).
 */
#include "lcpy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static PyTypeObject *wrapper_type;
static PyObject *real_file, *s_filelike;

/* The descriptor that the wrapper's file reads from and its position; -1: not such a file. */
static int
descriptor(PyObject *wrapper, int64_t *ret_at)
{
	PyObject *file = PyObject_GetAttr(wrapper, s_filelike), *r = file ? PyObject_CallOneArg(real_file, file) : NULL;
	long long at;
	int fd = -1;

	Py_XDECREF(file);
	if (r && r != Py_None && PyArg_ParseTuple(r, "iL", &fd, &at))
		*ret_at = at;
	else
		fd = -1;
	Py_XDECREF(r);
	PyErr_Clear(); /* whatever is wrong with it, reading it will tell */
	return fd;
}

/* At most n bytes from `at` in a tuple of one; NULL with an exception. */
static PyObject *
read_all(int fd, int64_t at, size_t n)
{
	PyObject *b = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n), *t;
	size_t got = 0;

	while (b && got < n) {
		PyThreadState *ts = PyEval_SaveThread(); /* nobody else has b, and a disk may take its time */
		ssize_t r = pread(fd, PyBytes_AS_STRING(b) + got, n - got, at + (int64_t)got);

		PyEval_RestoreThread(ts); /* keeps errno */
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			PyErr_SetFromErrno(PyExc_OSError);
			Py_CLEAR(b);
		}
		if (r <= 0)
			break;
		got += (size_t)r;
	}
	if (b && got != n && _PyBytes_Resize(&b, (Py_ssize_t)got) < 0)
		return NULL;
	t = b ? PyTuple_Pack(1, b) : NULL;
	Py_XDECREF(b);
	return t;
}

static void
close_file(void *arg)
{
	(void)close((int)(intptr_t)arg);
}

int
lcpy_file_is(PyObject *result)
{
	return Py_TYPE(result) == wrapper_type;
}

int
lcpy_file_send(struct lcpy_resp *c, PyObject *wrapper, int *ret)
{
	struct lc_slice s = {.fd = -1};
	int64_t at = 0, n;
	struct stat st;
	PyObject *seq;
	int fd;

	if (!c->started || c->gone)
		return 0; /* iteration says what is to be said */
	fd = descriptor(wrapper, &at);
	if (fd < 0 || at < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_blocks || st.st_size <= at)
		return 0;
	n = st.st_size - at;
	if (c->declared >= 0 && n > c->declared - (int64_t)c->written)
		n = c->declared - (int64_t)c->written;
	if (c->nobody || !n) {
		*ret = c->sent ? 0 : lcpy_resp_head(c, n);
		if (!*ret)
			*ret = lcpy_resp_end(c);
		return 1;
	}
	if (n <= LCPY_SMALL) {
		seq = read_all(fd, at, (size_t)n);
		*ret = seq ? lcpy_resp_list(c, seq) : -1;
		Py_XDECREF(seq);
		return 1;
	}
	s.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (s.fd < 0)
		return 0;
	s.n = (uint64_t)n;
	s.off = (uint64_t)at;
	s.release = close_file;
	s.arg = (void *)(intptr_t)s.fd;
	*ret = lcpy_resp_file(c, &s);
	return 1;
}

int
lcpy_file_init(void)
{
	PyObject *type = PyObject_GetAttrString(lcpy.boot, "FileWrapper");

	wrapper_type = (PyTypeObject *)type;
	real_file = PyObject_GetAttrString(lcpy.boot, "real_file");
	s_filelike = PyUnicode_InternFromString("filelike");
	return type && PyType_Check(type) && real_file && s_filelike ? 0 : -ENOMEM;
}

PyObject *
lcpy_file_wrapper(void)
{
	return (PyObject *)wrapper_type;
}

void
lcpy_file_fini(void)
{
	Py_CLEAR(wrapper_type);
	Py_CLEAR(real_file);
	Py_CLEAR(s_filelike);
}
