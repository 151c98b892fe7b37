/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/call.c - one request through the application: environ, call, iteration, close(), errors.
 *
 * Rules that hold on every path: the iterable's close() runs exactly once, also when the client is gone or something
 * failed; exceptions of any kind (SystemExit too) end the request and not the worker; an error before the head was
 * sent becomes a 500, one after it an incomplete response; the stream is released exactly once, last.
 */
#include "lcpy.h"

#define REQ_LINE 640

static PyObject *s_close;

static const struct lc_field text_plain[] = {
    {.name = {"content-type", 12}, .value = {"text/plain; charset=utf-8", 25}, .token = LC_TOK_CONTENT_TYPE},
};

static void
plain_response(struct lc_stream *s, uint32_t status, const char *text)
{
	size_t n = strlen(text);
	struct lc_head h = {
	    .size = sizeof(h), .status = status, .nfields = 1, .fields = text_plain, .length = (int64_t)n};
	struct lc_slice body = {.p = (const uint8_t *)text, .n = n, .fd = -1};
	struct lc_str m = lcpy.st->req(s)->method;
	int head_only = m.n == 4 && memcmp(m.p, "HEAD", 4) == 0;

	if (lcpy.st->respond(s, &h) < 0)
		return;
	if (head_only)
		(void)lcpy.st->finish(s, NULL, 0);
	else
		(void)lcpy.st->write(s, &body, 1, LC_W_FIN);
}

void
lcpy_refuse(struct lc_stream *s)
{
	plain_response(s, 503, "Service Unavailable\n");
	lcpy.st->release(s);
}

/* An exception is set: log it, answer if that is still possible. */
static void
call_failed(struct lcpy_resp *c, struct lc_stream *s, const struct lc_req *req, PyObject *input)
{
	char line[REQ_LINE], head[REQ_LINE + 64];

	int lost = lcpy_input_error(input);

	if (PyErr_ExceptionMatches(PyExc_OSError) && ((c && c->gone) || (lost && lost != EMSGSIZE))) {
		/* the application let write()'s or read()'s complaint about a lost client through: nobody's fault */
		PyErr_Clear();
		return;
	}
	int late = lcpy.timeouts && PyErr_ExceptionMatches(lcpy.timeouts);

	(void)snprintf(head, sizeof(head), "%s: %s", late ? "request_timeout" : "application error",
		       lcpy_req_line(req, line, sizeof(line)));
	lcpy_log_exception(head);
	if (c && c->ended)
		return;
	if (c && c->sent) {
		c->ended = 1;
		if (!c->nobody && c->declared >= 0 && c->written == (uint64_t)c->declared)
			(void)lcpy.st->finish(s, c->trailers,
					      c->ntrailers); /* the client has all that it was promised */
		else
			lcpy.st->reset(s, LC_RSN_APP_ERROR);
	} else if (late) {
		plain_response(s, 504, "Gateway Timeout\n");
	} else if (lost == EMSGSIZE) {
		plain_response(s, 413, "Content Too Large\n");
	} else {
		plain_response(s, 500, "Internal Server Error\n");
	}
	if (c)
		c->ended = 1;
}

/* As the calls of response.c: 0, 1 the client is gone, -1 an exception. */
static int
run_iterable(struct lcpy_resp *c, PyObject *result)
{
	PyObject *it, *item;
	int rc = 0;

	if (PyBytes_Check(result) || PyUnicode_Check(result)) {
		PyErr_Format(PyExc_TypeError,
			     "the application returned %.100s itself, not an iterable of bytes: return [body]",
			     Py_TYPE(result)->tp_name);
		return -1;
	}
	it = PyObject_GetIter(result);
	if (!it)
		return -1;
	while (!rc && (item = PyIter_Next(it))) {
		if (PyBytes_Check(item)) {
			rc = lcpy_resp_chunk(c, item);
		} else {
			PyErr_Format(PyExc_TypeError, "the application's body must be bytes, it has %.100s",
				     Py_TYPE(item)->tp_name);
			rc = -1;
		}
		Py_DECREF(item);
		/* no body goes out any more: the head is known by now, close() tells the application */
		if (c->excess || (c->nobody && c->sent))
			break;
	}
	Py_DECREF(it);
	if (!rc && PyErr_Occurred())
		rc = -1;
	return rc ? rc : lcpy_resp_end(c);
}

/* GIL held, no exception set. */
static void
close_iterable(PyObject *result, const struct lc_req *req)
{
	char line[REQ_LINE], head[REQ_LINE + 64];
	PyObject *close = PyObject_GetAttr(result, s_close), *r;

	if (!close) {
		if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
			PyErr_Clear();
			return;
		}
	} else {
		r = PyObject_CallNoArgs(close);
		Py_DECREF(close);
		if (r) {
			Py_DECREF(r);
			return;
		}
	}
	(void)snprintf(head, sizeof(head), "error in the close() of a response: %s",
		       lcpy_req_line(req, line, sizeof(line)));
	lcpy_log_exception(head);
}

void
lcpy_call(struct lc_stream *s, int shared)
{
	const struct lc_req *req = lcpy.st->req(s);
	PyObject *input = NULL, *env, *result = NULL, *args[3];
	struct lcpy_view *view = NULL;
	struct lcpy_limit limit;
	struct lcpy_resp *c;
	uint64_t call;
	int rc;

	lcpy_drain();
	if (__builtin_expect(!lcpy_environ_mounted(req), 0)) {
		plain_response(s, 404, "Not Found\n");
		lcpy.st->release(s);
		return;
	}
	call = lcpy.wk->enter(lcpy.ctx, s);
	if (__builtin_expect(lcpy.timeouts != NULL, 0))
		lcpy_timeout_begin(&limit, call);
	c = lcpy_resp_new(s, req);
	lcpy_beyond_call(c);
	if (c && req->flags & LC_R_BODY)
		input = lcpy_input_new(s, req, shared);
	env = c && (input || !(req->flags & LC_R_BODY)) ? lcpy_environ(req, input, &view) : NULL;
	if (env) {
		args[0] = NULL;
		args[1] = env;
		args[2] = (PyObject *)c;
		result = PyObject_Vectorcall(lcpy.target, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	}
	if (!result) {
		call_failed(c, s, req, input);
	} else {
		if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
			rc = lcpy_resp_list(c, result);
			if (rc < 0)
				call_failed(c, s, req, input);
		} else {
			if (!lcpy_file_is(result) || !lcpy_file_send(c, result, &rc))
				rc = run_iterable(c, result);
			if (rc < 0)
				call_failed(c, s, req, input);
			close_iterable(result, req);
		}
		Py_DECREF(result);
	}
	lcpy_beyond_call(NULL);
	if (__builtin_expect(lcpy.timeouts != NULL, 0))
		lcpy_timeout_end(&limit);
	lcpy_environ_done(env, view);
	if (input)
		lcpy_input_done(input);
	if (c)
		lcpy_resp_done(c);
	lcpy_errors_flush();
	lcpy.wk->leave(lcpy.ctx, s);
	lcpy.st->release(s);
}

int
lcpy__call_init(void)
{
	s_close = PyUnicode_InternFromString("close");
	return s_close ? 0 : -ENOMEM;
}

void
lcpy__call_fini(void)
{
	Py_CLEAR(s_close);
}
