/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/response.c - start_response(), write(), and the bytes of a response.
 *
 * One object per call embeds both callables; it is reused for the next call when nobody else kept a reference, else it
 * is cut off from its stream and fails from then on.  start_response() checks the head and copies it into the stream's
 * arena at once (one allocation), or finds it among the known ones (heads.c), so the application may do with its list
 * what it likes; the head is only *sent* with the first byte of the body or at its end, so that an error before that
 * can still replace it (PEP 3333, exc_info).
 *
 * What an application may not do is refused with an exception in its own frame; of fields, fields.c says what that is.
 */
#include "lcpy.h"

#include <structmember.h>

#define NSPARE 32u
#define NSLICES 16u

static PyTypeObject *resp_type, *writer_type;
static struct lcpy_resp *spare;
static uint32_t nspare;

static int
check_status(PyObject *status, uint32_t *ret_code, struct lc_str *ret_reason)
{
	const uint8_t *p;
	size_t n;

	if (!PyUnicode_Check(status)) {
		PyErr_Format(PyExc_TypeError, "start_response: the status is a str, not %.100s",
			     Py_TYPE(status)->tp_name);
		return -1;
	}
	if (!lcpy_is_latin1(status))
		goto bad;
	p = PyUnicode_1BYTE_DATA(status);
	n = (size_t)PyUnicode_GET_LENGTH(status);
	if (n == 6 && memcmp(p, "200 OK", 6) == 0) {
		*ret_code = 200;
		*ret_reason = (struct lc_str){NULL, 0};
		return 0;
	}
	if (n < 3 || p[0] < '2' || p[0] > '9' || p[1] < '0' || p[1] > '9' || p[2] < '0' || p[2] > '9')
		goto bad;
	if ((n > 3 && p[3] != ' ') || lcpy_has_control(p, n))
		goto bad;
	*ret_code = (uint32_t)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
	*ret_reason = n > 4 ? (struct lc_str){(const char *)p + 4, n - 4} : (struct lc_str){NULL, 0};
	return 0;
bad:
	PyErr_Format(PyExc_ValueError, "start_response: %.200R is not a status like '200 OK' (200 to 999)", status);
	return -1;
}

/* Checks and copies the head.  Runs no Python code, so the list stays as it is meanwhile. */
static int
make_head(struct lcpy_resp *c, PyObject *status, PyObject *headers, const struct lcpy_head_seen *seen)
{
	struct lcpy_fields f;
	struct lc_str reason;
	uint32_t code;

	if (check_status(status, &code, &reason) < 0 ||
	    lcpy_fields_take(c->stream, headers, "start_response", reason.n, &f) < 0)
		return -1;
	if (reason.n) {
		memcpy(f.room, reason.p, reason.n);
		reason.p = f.room;
	}
	c->head = (struct lc_head){
	    .size = sizeof(c->head), .status = code, .nfields = f.n, .fields = f.v, .length = -1, .reason = reason};
	c->declared = f.length;
	lcpy_head_note(status, headers, seen, &c->head, f.length_at);
	return 0;
}

static inline int
set_head(struct lcpy_resp *c, PyObject *status, PyObject *headers)
{
	const struct lcpy_head *known_head;
	struct lcpy_head_seen seen;
	int64_t length = -1;

	if (!PyList_Check(headers)) {
		PyErr_Format(PyExc_TypeError, "start_response: headers are a list of tuples, not %.100s",
			     Py_TYPE(headers)->tp_name);
		return -1;
	}
	known_head = lcpy_head_find(status, headers, &seen);
	if (known_head && (!seen.length || (lcpy_is_latin1(seen.length) && (length = lcpy_number(seen.length)) >= 0))) {
		c->head = known_head->head;
		c->declared = length;
	} else if (make_head(c, status, headers, &seen) < 0) {
		return -1;
	}
	c->nobody = c->is_head || c->head.status == 204 || c->head.status == 304;
	c->started = 1;
	return 0;
}

/* Positional arguments, or by their usual names. */
static int
start_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *ret[3])
{
	static const char *const names[] = {"status", "headers", "exc_info", "response_headers"};
	Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;

	if (nargs > 3)
		goto bad;
	for (Py_ssize_t i = 0; i < nargs; i++)
		ret[i] = args[i];
	for (Py_ssize_t i = 0; i < nkw; i++) {
		int at = -1;

		for (int j = 0; j < 4; j++)
			if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), names[j]) == 0)
				at = j == 3 ? 1 : j;
		if (at < 0 || ret[at])
			goto bad;
		ret[at] = args[nargs + i];
	}
	if (ret[0] && ret[1])
		return 0;
bad:
	PyErr_SetString(PyExc_TypeError, "the arguments are start_response(status, headers, exc_info=None)");
	return -1;
}

/* raise exc_info[1].with_traceback(exc_info[2]) */
static void
raise_again(PyObject *exc_info)
{
	PyObject *value = PyTuple_GET_ITEM(exc_info, 1), *tb = PyTuple_GET_ITEM(exc_info, 2);

	if (!PyExceptionInstance_Check(value)) {
		PyErr_SetString(PyExc_TypeError, "start_response: exc_info[1] is not an exception");
		return;
	}
	if (PyTraceBack_Check(tb) || tb == Py_None)
		PyException_SetTraceback(value, tb);
	PyErr_SetObject((PyObject *)Py_TYPE(value), value);
}

static PyObject *write_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames);

static PyObject *
start_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
	struct lcpy_resp *c = (struct lcpy_resp *)self;
	Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
	PyObject *a[3] = {NULL, NULL, NULL};

	if (nargs == 2 && !kwnames) {
		a[0] = args[0];
		a[1] = args[1];
	} else if (start_args(args, nargs, kwnames, a) < 0) {
		return NULL;
	}
	if (!c->stream) {
		PyErr_SetString(PyExc_RuntimeError, "start_response() was called after the request had ended");
		return NULL;
	}
	if (a[2] && a[2] != Py_None) {
		if (!PyTuple_Check(a[2]) || PyTuple_GET_SIZE(a[2]) != 3) {
			PyErr_SetString(PyExc_TypeError, "start_response: exc_info is a tuple as of sys.exc_info()");
			return NULL;
		}
		if (c->sent) {
			raise_again(a[2]);
			return NULL;
		}
	} else if (c->called) {
		PyErr_SetString(PyExc_AssertionError, "start_response() was called a second time without exc_info");
		return NULL;
	}
	/* a call that is refused counts: without exc_info there is no second one (PEP 3333), nor does an old head stay
	 */
	c->called = 1;
	c->started = 0;
	if (set_head(c, a[0], a[1]) < 0)
		return NULL;
	return Py_NewRef((PyObject *)&c->writer);
}

static struct lcpy_resp *
of_writer(PyObject *w)
{
	return (struct lcpy_resp *)((char *)w - offsetof(struct lcpy_resp, writer));
}

static PyObject *
write_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
	struct lcpy_resp *c = of_writer(self);
	int rc;

	if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames && PyTuple_GET_SIZE(kwnames))) {
		PyErr_SetString(PyExc_TypeError, "write() takes one argument");
		return NULL;
	}
	if (!PyBytes_Check(args[0])) {
		PyErr_Format(PyExc_TypeError, "write() argument must be bytes, not %.100s", Py_TYPE(args[0])->tp_name);
		return NULL;
	}
	if (!c->stream || c->ended) {
		PyErr_SetString(PyExc_RuntimeError, "write() was called after the request had ended");
		return NULL;
	}
	/* The request's own thread could end it while another one waits in here. */
	if (!pthread_equal(c->owner, pthread_self())) {
		PyErr_SetString(PyExc_RuntimeError, "write() must be called in the thread that runs the request");
		return NULL;
	}
	rc = lcpy_resp_chunk(c, args[0]);
	if (rc == 0 && c->excess) {
		PyErr_Format(PyExc_ValueError, "write(): more than the Content-Length of %lld bytes, cut off",
			     (long long)c->declared);
		return NULL;
	}
	if (rc == 1) {
		errno = EPIPE;
		PyErr_SetFromErrno(PyExc_OSError); /* BrokenPipeError */
	}
	if (rc)
		return NULL;
	Py_RETURN_NONE;
}

/* Only of one that outlived its request: see lcpy_resp_done(). */
static void
writer_dealloc(PyObject *self)
{
	struct lcpy_resp *c = of_writer(self);
	PyTypeObject *type = Py_TYPE(self);

	Py_DECREF(type);
	Py_DECREF(c);
}

static void
resp_dealloc(PyObject *self)
{
	struct lcpy_resp *c = (struct lcpy_resp *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (c->has_writer)
		Py_DECREF(Py_TYPE(&c->writer)); /* writer_type may be gone: an application keeps things to the end */
	PyObject_Free(self);
	Py_DECREF(type);
}

/* ---- sending ---- */

/* rc of a stream call that is not an outcome of its own. */
static int
failed(struct lcpy_resp *c, int rc)
{
	if (rc == -EPIPE || rc == -ECONNRESET) {
		c->gone = 1;
		return 1;
	}
	errno = -rc;
	PyErr_SetFromErrno(PyExc_OSError);
	return -1;
}

/* The out queue was full: wait for room, without the GIL. */
static int
make_room(struct lcpy_resp *c)
{
	PyThreadState *ts;
	int r;

	ts = PyEval_SaveThread();
	r = lcpy.st->wait(c->stream, LC_EV_WRITE, -1);
	PyEval_RestoreThread(ts);
	if (r < 0)
		return failed(c, r);
	if (r & LC_EV_ABORT)
		return failed(c, -EPIPE);
	c->full = 0;
	return 0;
}

/* No head: -1 with an exception. */
static int
no_head(const struct lcpy_resp *c, const char *what)
{
	if (c->called)
		PyErr_Format(PyExc_AssertionError, "the application %s although start_response() had refused its head",
			     what);
	else
		PyErr_Format(PyExc_AssertionError, "the application %s before it called start_response()", what);
	return -1;
}

int
lcpy_resp_head(struct lcpy_resp *c, int64_t length)
{
	int r;

	if (!c->started)
		return no_head(c, "sent a body");
	c->head.length = c->declared >= 0 ? c->declared : c->nobody && length <= 0 ? -1 : length;
	if (c->declared < 0 && (c->head.status == 204 || c->head.status == 304))
		c->head.length = -1;
	if (c->ntrailers)
		c->head.flags |= LC_HEAD_TRAILERS;
	c->sent = 1; /* whatever comes of it: no other head can follow */
	r = lcpy.st->respond(c->stream, &c->head);
	return r < 0 ? failed(c, r) : 0;
}

static int
put_slices(struct lcpy_resp *c, const struct lc_slice *v, uint32_t n, uint32_t flags)
{
	int r = lcpy.st->write(c->stream, v, n, flags);

	if (r < 0)
		return failed(c, r);
	c->full = r == 1;
	return 0;
}

static int
make_slice(struct lc_slice *s, PyObject *bytes, size_t n)
{
	if (n <= LCPY_SMALL) {
		*s = (struct lc_slice){
		    .p = (const uint8_t *)PyBytes_AS_STRING(bytes), .n = n, .fd = -1, .flags = LC_SL_COPY};
		return 0;
	}
	if (lcpy_hold_slice(s, bytes, 0, n) == 0)
		return 0;
	PyErr_NoMemory();
	return -1;
}

int
lcpy_resp_chunk(struct lcpy_resp *c, PyObject *bytes)
{
	size_t n = (size_t)PyBytes_GET_SIZE(bytes);
	struct lc_slice s;
	int rc;

	lcpy_drain(); /* pieces of this response that are out: no other call may come for long */
	if (c->gone)
		return 1;
	if (!n)
		return 0;
	if (!c->sent && (rc = lcpy_resp_head(c, -1)) != 0)
		return rc;
	if (c->nobody)
		return 0;
	if (c->declared >= 0 && c->written + n > (uint64_t)c->declared) {
		n = (size_t)((uint64_t)c->declared - c->written);
		if (!c->excess) {
			char line[640];

			c->excess = 1;
			lcpy.wk->log(lcpy.ctx, LC_LOG_WARN,
				     "the application sends more than its Content-Length of %lld, cut off: %s",
				     (long long)c->declared, lcpy_req_line(c->req, line, sizeof(line)));
		}
		if (!n)
			return 0;
	}
	if (c->full && (rc = make_room(c)) != 0)
		return rc;
	if (make_slice(&s, bytes, n) < 0)
		return -1;
	c->written += n;
	return put_slices(c, &s, 1, LC_W_FLUSH);
}

int
lcpy_resp_end(struct lcpy_resp *c)
{
	int rc;

	if (c->gone)
		return 1;
	if (!c->started)
		return no_head(c, "came to its end");
	if (!c->sent && (rc = lcpy_resp_head(c, 0)) != 0)
		return rc;
	c->ended = 1;
	if (!c->nobody && c->head.length >= 0 && c->written < (uint64_t)c->head.length) {
		char line[640];

		lcpy.wk->log(lcpy.ctx, LC_LOG_ERROR,
			     "the application sent %llu bytes where its Content-Length is %lld: %s",
			     (unsigned long long)c->written, (long long)c->head.length,
			     lcpy_req_line(c->req, line, sizeof(line)));
		lcpy.st->reset(c->stream, LC_RSN_APP_ERROR);
		return 0;
	}
	rc = lcpy.st->finish(c->stream, c->trailers, c->ntrailers);
	return rc < 0 ? failed(c, rc) : 0;
}

int
lcpy_resp_file(struct lcpy_resp *c, struct lc_slice *s)
{
	uint64_t total;
	int rc = c->sent ? 0 : lcpy_resp_head(c, (int64_t)s->n);

	if (!rc && c->full)
		rc = make_room(c);
	if (rc) {
		s->release(s->arg);
		return rc;
	}
	c->written += s->n;
	total = c->head.length < 0 ? c->written : (uint64_t)c->head.length;
	if (c->written == total && !c->ntrailers) {
		c->ended = 1;
		return put_slices(c, s, 1, LC_W_FIN);
	}
	rc = put_slices(c, s, 1, 0); /* trailers follow, or the file is too short */
	return rc ? rc : lcpy_resp_end(c);
}

static int
not_bytes(PyObject *item)
{
	PyErr_Format(PyExc_TypeError, "the application's body must be bytes, it has %.100s", Py_TYPE(item)->tp_name);
	return -1;
}

static inline PyObject *
seq_item(PyObject *seq, Py_ssize_t i)
{
	return PyList_CheckExact(seq) ? PyList_GET_ITEM(seq, i) : PyTuple_GET_ITEM(seq, i);
}

static int
list_by_chunks(struct lcpy_resp *c, PyObject *seq)
{
	for (Py_ssize_t i = 0; i < Py_SIZE(seq) && !c->excess; i++) {
		PyObject *item = Py_NewRef(seq_item(seq, i));
		int rc = PyBytes_Check(item) ? lcpy_resp_chunk(c, item) : not_bytes(item);

		Py_DECREF(item);
		if (rc)
			return rc;
		if (c->nobody && c->sent)
			break;
	}
	return lcpy_resp_end(c);
}

/* The usual: one piece that is copied.  0 when it is not that simple, else 1 and *rc. */
static inline int
list_of_one(struct lcpy_resp *c, PyObject *seq, int *rc)
{
	PyObject *item = seq_item(seq, 0);
	struct lc_slice s;
	uint64_t n;

	if (!PyBytes_Check(item) || c->nobody || c->sent)
		return 0;
	n = (uint64_t)PyBytes_GET_SIZE(item);
	if (!n || n > LCPY_SMALL || (c->declared >= 0 && (uint64_t)c->declared != n))
		return 0;
	*rc = lcpy_resp_head(c, (int64_t)n);
	if (*rc)
		return 1;
	s = (struct lc_slice){.p = (const uint8_t *)PyBytes_AS_STRING(item), .n = n, .fd = -1, .flags = LC_SL_COPY};
	c->written = n;
	c->ended = 1;
	*rc = put_slices(c, &s, 1, LC_W_FIN);
	return 1;
}

int
lcpy_resp_list(struct lcpy_resp *c, PyObject *seq)
{
	struct lc_slice v[NSLICES];
	Py_ssize_t len = Py_SIZE(seq), i;
	uint64_t total = 0;
	uint32_t n = 0;
	int rc;

	if (c->gone)
		return 1;
	if (__builtin_expect(c->ntrailers, 0))
		return list_by_chunks(c, seq);
	if (len == 1 && list_of_one(c, seq, &rc))
		return rc;
	for (i = 0; i < len; i++) {
		PyObject *item = seq_item(seq, i);

		if (!PyBytes_Check(item))
			return not_bytes(item);
		total += (uint64_t)PyBytes_GET_SIZE(item);
	}
	if (!c->started && !total)
		return no_head(c, "came to its end");
	if (c->sent || (c->declared >= 0 && (uint64_t)c->declared != total))
		return list_by_chunks(c, seq); /* write() was used, or the length is wrong */
	rc = lcpy_resp_head(c, (int64_t)total);
	if (rc)
		return rc;
	if (c->nobody)
		return lcpy_resp_end(c);
	/* Only make_room() lets other threads in, who may change the list; `written` has the last word. */
	for (i = 0; i < Py_SIZE(seq); i++) {
		PyObject *item = seq_item(seq, i);
		size_t k;

		if (!PyBytes_Check(item)) {
			rc = not_bytes(item);
			goto fail;
		}
		k = (size_t)PyBytes_GET_SIZE(item);
		if (!k)
			continue;
		if (c->written + k > total)
			break;
		if (make_slice(&v[n], item, k) < 0) {
			rc = -1;
			goto fail;
		}
		n++;
		c->written += k;
		if (n == NSLICES && c->written < total) {
			rc = put_slices(c, v, n, LC_W_FLUSH);
			n = 0;
			if (rc || (c->full && (rc = make_room(c)) != 0))
				return rc;
		}
	}
	if (c->written == total && n) {
		c->ended = 1;
		return put_slices(c, v, n, LC_W_FIN);
	}
	if (n && (rc = put_slices(c, v, n, 0)) != 0)
		return rc;
	return lcpy_resp_end(c);
fail:
	for (uint32_t j = 0; j < n; j++)
		if (v[j].release)
			v[j].release(v[j].arg);
	return rc;
}

/* ---- life ---- */

struct lcpy_resp *
lcpy_resp_new(struct lc_stream *s, const struct lc_req *req)
{
	struct lcpy_resp *c = spare;

	if (c) {
		spare = c->next;
		nspare--;
	} else {
		c = PyObject_New(struct lcpy_resp, resp_type);
		if (!c)
			return NULL;
		c->vectorcall = start_call;
		PyObject_Init((PyObject *)&c->writer, writer_type);
		c->writer.vectorcall = write_call;
		c->has_writer = 1;
	}
	c->stream = s;
	c->req = req;
	c->owner = pthread_self();
	c->declared = -1;
	c->written = 0;
	c->trailers = NULL;
	c->ntrailers = 0;
	c->called = c->started = c->sent = c->gone = c->ended = c->nobody = c->full = c->excess = 0;
	c->is_head = req->method.n == 4 && memcmp(req->method.p, "HEAD", 4) == 0;
	return c;
}

void
lcpy_resp_done(struct lcpy_resp *c)
{
	c->stream = NULL;
	c->req = NULL;
	if (Py_REFCNT(c) == 1 && Py_REFCNT(&c->writer) == 1 && nspare < NSPARE) {
		c->next = spare;
		spare = c;
		nspare++;
		return;
	}
	if (Py_REFCNT(&c->writer) > 1) {
		/* write() was kept: from now on it holds the whole, not the other way round */
		c->has_writer = 0;
		Py_INCREF(c);
		Py_DECREF(&c->writer);
	}
	Py_DECREF(c);
}

static PyMemberDef resp_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct lcpy_resp, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot resp_slots[] = {
    {Py_tp_dealloc, resp_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, resp_members},
    {Py_tp_doc, "start_response(status, headers, exc_info=None) of one request (PEP 3333)."},
    {0, NULL},
};
static PyType_Spec resp_spec = {
    .name = "licorne.StartResponse",
    .basicsize = sizeof(struct lcpy_resp),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = resp_slots,
};
static PyMemberDef writer_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct lcpy_writer, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot writer_slots[] = {
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, writer_members},
    {Py_tp_doc, "write(bytes) of one request (PEP 3333)."},
    {0, NULL},
};
static PyType_Spec writer_spec = {
    .name = "licorne.Write",
    .basicsize = sizeof(struct lcpy_writer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = writer_slots,
};

int
lcpy_resp_init(void)
{
	resp_type = (PyTypeObject *)PyType_FromSpec(&resp_spec);
	writer_type = (PyTypeObject *)PyType_FromSpec(&writer_spec);
	return resp_type && writer_type ? 0 : -ENOMEM;
}

void
lcpy_resp_fini(void)
{
	struct lcpy_resp *c;

	while ((c = spare)) {
		spare = c->next;
		Py_DECREF(c);
	}
	nspare = 0;
	lcpy_fields_fini();
	lcpy_heads_fini();
	Py_CLEAR(resp_type);
	Py_CLEAR(writer_type);
}
