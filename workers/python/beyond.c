/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/beyond.c - callables in environ that go beyond PEP 3333: early hints and response trailers.
 *
 * Both are constants, so that they cost a request nothing: which request is meant follows from the thread that calls.
 * Fields are checked as start_response() checks them.
 */
#include "lcpy.h"

static _Thread_local struct lcpy_resp *running __attribute__((tls_model("initial-exec")));
static PyObject *early_hints, *send_trailers;

void
lcpy_beyond_call(struct lcpy_resp *c)
{
	running = c;
}

/* The request that this thread runs, and the fields for it; NULL with an exception. */
static struct lcpy_resp *
take(PyObject *headers, const char *who, struct lcpy_fields *f)
{
	struct lcpy_resp *c = running;
	PyObject *list;
	int rc;

	if (!c) {
		PyErr_Format(PyExc_RuntimeError,
			     "%s() must be called in the thread that runs the request, before its end", who);
		return NULL;
	}
	list = PySequence_List(headers);
	rc = list ? lcpy_fields_take(c->stream, list, who, 0, f) : -1;
	Py_XDECREF(list);
	if (rc == 0 && f->length_at != LCPY_NO_LENGTH) {
		PyErr_Format(PyExc_ValueError, "%s: Content-Length has no place here", who);
		rc = -1;
	}
	return rc == 0 ? c : NULL;
}

static PyObject *
early_hints_call(PyObject *self, PyObject *headers)
{
	struct lcpy_fields f;
	struct lcpy_resp *c = take(headers, "wsgi.early_hints", &f);
	struct lc_head h = {.size = sizeof(h), .status = 103, .length = -1};

	(void)self;
	if (!c)
		return NULL;
	if (c->sent) {
		PyErr_SetString(PyExc_RuntimeError, "wsgi.early_hints() was called after the response had begun");
		return NULL;
	}
	h.fields = f.v;
	h.nfields = f.n;
	(void)lcpy.st->respond(c->stream, &h); /* a hint that cannot be sent is none: who has gone is found out later */
	Py_RETURN_NONE;
}

static PyObject *
send_trailers_call(PyObject *self, PyObject *headers)
{
	struct lcpy_fields f;
	struct lcpy_resp *c = take(headers, "licorne.send_trailers", &f);

	(void)self;
	if (!c)
		return NULL;
	if (c->ended || (c->sent && !c->ntrailers && !c->nobody && c->head.length >= 0)) {
		PyErr_SetString(
		    PyExc_RuntimeError,
		    c->ended ? "licorne.send_trailers() was called after the end of the response"
			     : "licorne.send_trailers() was called after the first byte of a response with a "
			       "Content-Length, which ends with its last byte: call it earlier, or declare no length");
		return NULL;
	}
	c->trailers = f.v;
	c->ntrailers = f.n;
	Py_RETURN_NONE;
}

static PyMethodDef early_hints_def = {"early_hints", early_hints_call, METH_O,
				      "early_hints(headers): send a 103 (Early Hints, RFC 8297) with these (name, "
				      "value) before the response; any number of "
				      "times. RuntimeError once the response has begun; HTTP/1.0 clients get none."};
static PyMethodDef send_trailers_def = {
    "send_trailers", send_trailers_call, METH_O,
    "send_trailers(headers): send these (name, value) behind the body (RFC 9110 6.5); the last call counts. Until the "
    "end of "
    "the response, or, of one with a Content-Length, before its first byte. HTTP/1.0 clients get none."};

PyObject *
lcpy_early_hints(void)
{
	return early_hints;
}

PyObject *
lcpy_send_trailers(void)
{
	return send_trailers;
}

int
lcpy_beyond_init(void)
{
	early_hints = PyCFunction_New(&early_hints_def, NULL);
	send_trailers = PyCFunction_New(&send_trailers_def, NULL);
	return early_hints && send_trailers ? 0 : -ENOMEM;
}

void
lcpy_beyond_fini(void)
{
	Py_CLEAR(early_hints);
	Py_CLEAR(send_trailers);
}
