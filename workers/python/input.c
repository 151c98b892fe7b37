/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/input.c - wsgi.input: read, readline, readlines, iteration.
 *
 * Reads come straight from the stream, so memory follows what the application asks for, never what the client has
 * announced: a buffer grows with the bytes that arrive.  Lines go through a buffer of LINEBUF bytes.
 *
 * Threads.  An application may read in a thread of its own while the call waits for it (an event loop in a thread,
 * say). With a shared stream that is fine, one reader at a time.  With one that is not (an inline call) the stream
 * belongs to the calling thread; so the body of an inline call, which is complete by definition and bounded by the
 * stream's queue, is taken out in advance.  What remains (the call of a worker without threads, body still coming)
 * refuses other threads.
 *
 * After the request reads fail with ValueError: an application may keep the object as long as it likes.  When a
 * thread of the application sits in a read while the call ends, lcpy_input_done() waits for it to notice.
 */
#include "lcpy.h"

#define LINEBUF 8192u
#define NSPARE 16u
#define FOREIGN_WAIT_MS 50

struct input {
	PyObject_HEAD struct lc_stream *stream; /* NULL: no stream (any more) */
	pthread_t owner;
	uint8_t *buf; /* read-ahead */
	size_t pos, len, cap;
	int64_t left; /* of the declared length; a hint for sizes, -1: none */
	uint8_t shared, over, busy, closing, eof;
	int error; /* errno of the read that failed */
	struct input *next;
};

static PyTypeObject *input_type;
static PyObject *empty;
static struct input *spare;
static uint32_t nspare;
static pthread_mutex_t busy_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t busy_cv = PTHREAD_COND_INITIALIZER;

static int64_t
in_error(struct input *in, int64_t err)
{
	in->error = (int)-err;
	if (err == -EMSGSIZE) {
		PyObject *args = Py_BuildValue("(is)", EMSGSIZE, "the request body is larger than allowed");

		if (args)
			PyErr_SetObject(PyExc_OSError, args);
		Py_XDECREF(args);
	} else {
		errno = (int)-err;
		PyErr_SetFromErrno(PyExc_OSError); /* ConnectionResetError, TimeoutError */
	}
	return -1;
}

/* Waits for bytes, without the GIL; 0, or -1 with an exception. */
static int
in_wait(struct input *in)
{
	int foreign = !pthread_equal(in->owner, pthread_self());
	struct lc_stream *s = in->stream;
	PyThreadState *ts;
	int r, closing;

	Py_INCREF(in);
	__atomic_store_n(&in->busy, 1, __ATOMIC_RELAXED);
	ts = PyEval_SaveThread();
	do {
		r = lcpy.st->wait(s, LC_EV_READ, foreign ? FOREIGN_WAIT_MS : -1);
		closing = __atomic_load_n(&in->closing, __ATOMIC_ACQUIRE);
	} while (r == 0 && foreign && !closing);
	pthread_mutex_lock(&busy_mu);
	__atomic_store_n(&in->busy, 0, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&busy_cv);
	pthread_mutex_unlock(&busy_mu);
	PyEval_RestoreThread(ts);
	closing = in->closing || !in->stream;
	Py_DECREF(in); /* the caller has another */
	if (closing) {
		PyErr_SetString(PyExc_ValueError, "wsgi.input was read after the request had ended");
		return -1;
	}
	return r < 0 ? (int)in_error(in, r) : 0;
}

/* 1..n, 0 at the end, -1 with an exception.  Blocks. */
static int64_t
in_read(struct input *in, void *to, size_t n)
{
	for (;;) {
		int64_t r;

		if (in->pos < in->len) {
			size_t k = in->len - in->pos < n ? in->len - in->pos : n;

			memcpy(to, in->buf + in->pos, k);
			in->pos += k;
			return (int64_t)k;
		}
		if (in->eof || n == 0)
			return 0;
		if (in->over) {
			PyErr_SetString(PyExc_ValueError, "wsgi.input was read after the request had ended");
			return -1;
		}
		if (in->busy || (!in->shared && !pthread_equal(in->owner, pthread_self()))) {
			PyErr_SetString(PyExc_RuntimeError, in->busy
								? "another thread is reading wsgi.input"
								: "wsgi.input of this worker can only be read in the "
								  "thread that runs the request");
			return -1;
		}
		r = lcpy.st->read(in->stream, to, n);
		if (r == 0)
			in->eof = 1;
		if (r > 0 && in->left >= 0)
			in->left = in->left > r ? in->left - r : 0;
		if (r >= 0)
			return r;
		if (r != -EAGAIN)
			return in_error(in, r);
		if (in_wait(in) < 0)
			return -1;
	}
}

/* A guess of what is still to come, for the first allocation; at most 64 KiB are taken on trust. */
static size_t
in_hint(const struct input *in, size_t max)
{
	size_t have = in->len - in->pos, guess = have + 8192;

	if (in->eof)
		guess = have;
	else if (in->left >= 0)
		guess = have + (in->left < 65536 ? (size_t)in->left : 65536);
	return guess < max ? guess : max;
}

/* Exactly max bytes unless the body ends before. */
static PyObject *
in_bytes(struct input *in, size_t max)
{
	size_t cap = in_hint(in, max), n = 0;
	PyObject *b = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)cap);

	while (b && n < max) {
		int64_t r;

		if (n == cap) {
			/* Full.  Is there more?  Known lengths end here without a copy. */
			uint8_t one;

			r = in_read(in, &one, 1);
			if (r <= 0) {
				if (r < 0)
					Py_CLEAR(b);
				break;
			}
			cap = cap < 4096 ? 8192 : cap * 2;
			cap = cap < max ? cap : max;
			if (_PyBytes_Resize(&b, (Py_ssize_t)cap) < 0)
				return NULL;
			PyBytes_AS_STRING(b)[n++] = (char)one;
			continue;
		}
		r = in_read(in, PyBytes_AS_STRING(b) + n, cap - n);
		if (r < 0)
			Py_CLEAR(b);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	if (b && n != cap)
		_PyBytes_Resize(&b, (Py_ssize_t)n);
	return b;
}

/* Optional size argument: None and negative numbers mean "all". */
static int
size_arg(PyObject *const *args, Py_ssize_t nargs, const char *name, size_t *ret)
{
	Py_ssize_t n = -1;

	if (nargs > 1) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", name, nargs);
		return -1;
	}
	if (nargs == 1 && args[0] != Py_None) {
		n = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
		if (n == -1 && PyErr_Occurred())
			return -1;
	}
	*ret = n < 0 ? (size_t)PY_SSIZE_T_MAX : (size_t)n;
	return 0;
}

static PyObject *
input_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct input *in = (struct input *)self;
	size_t n;

	if (size_arg(args, nargs, "read", &n) < 0)
		return NULL;
	return in_bytes(in, n);
}

/* Refill the line buffer; as in_read(). */
static int64_t
in_fill(struct input *in)
{
	int64_t r;

	if (in->cap < LINEBUF) {
		uint8_t *p = realloc(in->buf, LINEBUF);

		if (!p) {
			PyErr_NoMemory();
			return -1;
		}
		in->buf = p;
		in->cap = LINEBUF;
	}
	in->pos = in->len = 0;
	/* pos == len, so that this does not read from the buffer that it fills */
	r = in_read(in, in->buf, in->cap);
	if (r > 0)
		in->len = (size_t)r;
	return r;
}

static PyObject *
in_line(struct input *in, size_t max)
{
	PyObject *b = NULL;
	size_t n = 0, cap = 0;

	for (;;) {
		size_t have = in->len - in->pos, k;
		const uint8_t *nl;

		if (n == max)
			break;
		if (!have) {
			int64_t r = in_fill(in);

			if (r < 0) {
				Py_XDECREF(b);
				return NULL;
			}
			if (r == 0)
				break;
			continue;
		}
		k = have < max - n ? have : max - n;
		nl = memchr(in->buf + in->pos, '\n', k);
		if (nl)
			k = (size_t)(nl - (in->buf + in->pos)) + 1;
		if (!b) {
			cap = k;
			/* never made of the bytes themselves: one of a single byte would be shared, and could not grow
			 */
			b = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)k);
			if (!b)
				return NULL;
			memcpy(PyBytes_AS_STRING(b), in->buf + in->pos, k);
		} else {
			if (n + k > cap) {
				cap = cap * 2 > n + k ? cap * 2 : n + k;
				if (_PyBytes_Resize(&b, (Py_ssize_t)cap) < 0)
					return NULL;
			}
			memcpy(PyBytes_AS_STRING(b) + n, in->buf + in->pos, k);
		}
		in->pos += k;
		n += k;
		if (nl)
			break;
	}
	if (!b)
		return PyBytes_FromStringAndSize(NULL, 0);
	if (n != cap)
		_PyBytes_Resize(&b, (Py_ssize_t)n);
	return b;
}

static PyObject *
input_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	size_t n;

	if (size_arg(args, nargs, "readline", &n) < 0)
		return NULL;
	return in_line((struct input *)self, n);
}

static PyObject *
input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *list, *line;
	size_t hint, total = 0;

	if (size_arg(args, nargs, "readlines", &hint) < 0)
		return NULL;
	if (hint == 0)
		hint = (size_t)PY_SSIZE_T_MAX; /* as io.IOBase: no limit */
	list = PyList_New(0);
	while (list && total < hint) {
		size_t n;
		int rc;

		line = in_line((struct input *)self, (size_t)PY_SSIZE_T_MAX);
		if (!line) {
			Py_CLEAR(list);
			break;
		}
		n = (size_t)PyBytes_GET_SIZE(line);
		rc = n ? PyList_Append(list, line) : 1;
		Py_DECREF(line);
		if (rc < 0)
			Py_CLEAR(list);
		if (rc != 0)
			break;
		total += n;
	}
	return list;
}

static PyObject *
input_next(PyObject *self)
{
	PyObject *line = in_line((struct input *)self, (size_t)PY_SSIZE_T_MAX);

	if (line && PyBytes_GET_SIZE(line) == 0)
		Py_CLEAR(line); /* NULL without an exception: StopIteration */
	return line;
}

static void
in_reset(struct input *in)
{
	free(in->buf);
	in->buf = NULL;
	in->stream = NULL;
	in->pos = in->len = in->cap = 0;
	in->left = -1;
	in->shared = in->over = in->busy = in->closing = in->eof = 0;
	in->error = 0;
}

static void
input_dealloc(PyObject *self)
{
	struct input *in = (struct input *)self;
	PyTypeObject *type = Py_TYPE(self);

	free(in->buf);
	PyObject_Free(in);
	Py_DECREF(type);
}

PyObject *
lcpy_input_empty(void)
{
	return empty;
}

static struct input *
in_new(void)
{
	struct input *in = spare;

	if (in) {
		spare = in->next;
		nspare--;
		return in;
	}
	in = PyObject_New(struct input, input_type);
	if (in) {
		in->buf = NULL;
		in_reset(in);
	}
	return in;
}

PyObject *
lcpy_input_new(struct lc_stream *s, const struct lc_req *req, int shared)
{
	struct input *in = in_new();
	uint64_t n;
	int fin;

	if (!in)
		return NULL;
	in->stream = s;
	in->owner = pthread_self();
	in->shared = (uint8_t)shared;
	in->left = req->length;
	if (shared)
		return (PyObject *)in;
	n = lcpy.st->avail(s, &fin);
	if (fin && n) {
		in->buf = malloc(n);
		if (in->buf) {
			in->cap = n;
			while (in->len < n) {
				int64_t r = lcpy.st->read(s, in->buf + in->len, n - in->len);

				if (r <= 0)
					break; /* the next read says why */
				in->len += (size_t)r;
			}
			in->eof = in->len == n;
			in->left = 0;
		}
	}
	return (PyObject *)in;
}

void
lcpy_input_done(PyObject *self)
{
	struct input *in = (struct input *)self;

	if (__atomic_load_n(&in->busy, __ATOMIC_ACQUIRE)) {
		PyThreadState *ts;

		__atomic_store_n(&in->closing, 1, __ATOMIC_RELEASE);
		ts = PyEval_SaveThread();
		pthread_mutex_lock(&busy_mu);
		while (__atomic_load_n(&in->busy, __ATOMIC_ACQUIRE))
			pthread_cond_wait(&busy_cv, &busy_mu);
		pthread_mutex_unlock(&busy_mu);
		PyEval_RestoreThread(ts);
	}
	if (Py_REFCNT(in) == 1 && nspare < NSPARE) {
		in_reset(in);
		in->next = spare;
		spare = in;
		nspare++;
		return;
	}
	in->stream = NULL;
	in->over = 1;
	in->eof = 0;
	in->pos = in->len = 0;
	Py_DECREF(in);
}

int
lcpy_input_error(PyObject *self)
{
	return self ? ((struct input *)self)->error : 0;
}

/* Trailers have no place in environ, which is older than they are. */
static PyObject *
input_trailers(PyObject *self, PyObject *unused)
{
	struct input *in = (struct input *)self;
	const struct lc_field *f = NULL;
	uint32_t n = 0;

	(void)unused;
	if (in->over) {
		PyErr_SetString(PyExc_ValueError, "wsgi.input was read after the request had ended");
		return NULL;
	}
	if (in->stream && !in->shared && !in->eof && !pthread_equal(in->owner, pthread_self())) {
		PyErr_SetString(PyExc_RuntimeError,
				"wsgi.input of this worker can only be read in the thread that runs "
				"the request");
		return NULL;
	}
	if (in->stream)
		f = lcpy.st->trailers(in->stream, &n);
	PyObject *list = PyList_New((Py_ssize_t)n);
	for (uint32_t k = 0; list && k < n; k++) {
		PyObject *t = PyTuple_New(2);
		PyObject *name = PyUnicode_DecodeLatin1(f[k].name.p, (Py_ssize_t)f[k].name.n, NULL);
		PyObject *value = PyUnicode_DecodeLatin1(f[k].value.p, (Py_ssize_t)f[k].value.n, NULL);
		if (!t || !name || !value) {
			Py_XDECREF(t);
			Py_XDECREF(name);
			Py_XDECREF(value);
			Py_CLEAR(list);
			break;
		}
		PyTuple_SET_ITEM(t, 0, name);
		PyTuple_SET_ITEM(t, 1, value);
		PyList_SET_ITEM(list, (Py_ssize_t)k, t);
	}
	return list;
}

static PyMethodDef input_methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL,
     "read(size=-1, /)\n--\n\nBytes of the body: exactly size of them unless it ends before."},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL,
     "readline(size=-1, /)\n--\n\nA line with its newline, at most size bytes of it."},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL,
     "readlines(hint=-1, /)\n--\n\nLines until the end, or until their sum reaches hint."},
    {"trailers", input_trailers, METH_NOARGS,
     "trailers()\n--\n\nThe request's trailer fields, [(name, value), ...], once a read has returned b''; else []."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot input_slots[] = {
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_methods, input_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_doc, "The body of a request (PEP 3333 wsgi.input)."},
    {0, NULL},
};
static PyType_Spec input_spec = {
    .name = "licorne.Input",
    .basicsize = sizeof(struct input),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = input_slots,
};

int
lcpy_input_init(void)
{
	input_type = (PyTypeObject *)PyType_FromSpec(&input_spec);
	if (!input_type)
		return -ENOMEM;
	empty = (PyObject *)in_new();
	if (!empty)
		return -ENOMEM;
	((struct input *)empty)->eof = 1;
	return 0;
}

void
lcpy_input_fini(void)
{
	struct input *in;

	while ((in = spare)) {
		spare = in->next;
		Py_DECREF(in);
	}
	nspare = 0;
	Py_CLEAR(empty);
	Py_CLEAR(input_type);
}
