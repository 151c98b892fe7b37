/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/host.c - the "conn" table of a core without sockets, loop or threads: every call of the module is
 * judged here.
 *
 * Whatever proto.h forbids is said by mt_broken(); the answer that the module gets then is a harmless one, so that the
 * run comes to its end.
 */
#include "modtest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CANARY 8

struct lc_outv *mt_pulling;

/* ---- buffers ---- */

void
mt_add(struct mt_buf *b, const void *p, size_t n)
{
	if (b->cap - b->n < n + 1) {
		b->cap = 2 * (b->n + n + 64);
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = 0;
}

void
mt_fmt(struct mt_buf *b, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	mt_add(b, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void
mt_buf_free(struct mt_buf *b)
{
	free(b->p);
	*b = (struct mt_buf){0};
}

/* ---- is the call allowed? ---- */

static int
conn_ok(const struct lc_conn *c, const char *fn)
{
	if (!c) {
		mt_broken("%s() with no connection", fn);
		return 0;
	}
	if (c->gone) {
		mt_broken("%s() about a connection after its close()", fn);
		return 0;
	}
	if (!mt_where.call)
		mt_broken("%s() outside of any call into the module: from a thread of its own?", fn);
	return 1;
}

/* open: the protocol's side must not have ended. */
static int
stream_ok(const struct lc_stream *s, const char *fn, int open)
{
	if (!s) {
		mt_broken("%s() with no stream: stream_open() may give NULL", fn);
		return 0;
	}
	if (s->dead) {
		mt_broken("%s() about a stream after its detach()", fn);
		return 0;
	}
	if (open && s->proto_done) {
		mt_broken("%s() about a stream after stream_done() or stream_abort()", fn);
		return 0;
	}
	return conn_ok(s->c, fn);
}

static int
outv_ok(const struct lc_outv *v, const char *fn)
{
	if (v && v == mt_pulling)
		return 1;
	mt_broken("%s() outside of pull(), or into another vector than pull() was given", fn);
	return 0;
}

/* ---- the "conn" table ---- */

static void *
api_sess_alloc(struct lc_conn *c, size_t n)
{
	if (!conn_ok(c, "sess_alloc"))
		return NULL;
	if (c->sess_mem)
		mt_broken("sess_alloc() twice for one connection");
	if (n > 4096)
		mt_broken("sess_alloc() of %zu bytes, expected at most 4096", n);
	if (c->sess_mem || n > 4096 || mt_alloc_fails())
		return NULL;
	c->sess_n = n;
	return c->sess_mem = calloc(1, n ? n : 1);
}

static struct lc_stream *
api_stream_open(struct lc_conn *c, uint64_t id, void *ps, struct lc_req **ret)
{
	(void)id;
	if (!conn_ok(c, "stream_open"))
		return NULL;
	if (!c->ops->detach) {
		mt_broken("stream_open() in a protocol without head(), out_ready(), reset() and detach(): the core "
			  "calls them");
		return NULL;
	}
	if (!(c->ops->flags & LC_P_MULTIPLEX))
		for (struct lc_stream *s = c->streams; s; s = s->next)
			if (!s->proto_done) {
				mt_broken("stream_open() while another stream is open, in a protocol that has not set "
					  "LC_P_MULTIPLEX");
				break;
			}
	if (c->o.refuse_open || mt_alloc_fails())
		return NULL;
	struct lc_stream *s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	s->c = c;
	s->ps = ps;
	s->number = ++c->nstreams;
	s->req.size = sizeof(s->req);
	s->req.length = -1;
	s->req.peer = (struct lc_str){"192.0.2.1", 9};
	s->req.local = (struct lc_str){"192.0.2.2", 9};
	s->req.peer_port = 12345;
	s->req.local_port = 80;
	for (struct lc_stream **t = c->tail ? c->tail : &c->streams;; t = &(*t)->next)
		if (!*t) {
			*t = s;
			c->tail = t;
			break;
		}
	*ret = &s->req;
	return s;
}

static void *
api_stream_alloc(struct lc_stream *s, size_t n)
{
	if (!stream_ok(s, "stream_alloc", 0) || s->arena_n + n > 1 << 20 || mt_alloc_fails())
		return NULL;
	struct mt_chunk *k = malloc(sizeof(*k) + n); /* each on its own: a sanitizer sees an overrun */
	if (!k)
		abort();
	memset(k->data, 0xa5, n);
	k->n = n;
	k->next = s->arena;
	s->arena = k;
	s->arena_n += n;
	return k->data;
}

static int
lower(struct lc_str v)
{
	for (size_t k = 0; k < v.n; k++)
		if (v.p[k] >= 'A' && v.p[k] <= 'Z')
			return 0;
	return 1;
}

static void
req_str(const struct lc_stream *s, const char *what, struct lc_str v, int must)
{
	const char *sess = s->c->sess_mem;

	if (must && (!v.p || !v.n))
		mt_broken("stream_head() with an empty %s in the request", what);
	if (v.n && !v.p)
		mt_broken("the request's %s has a length and no bytes", what);
	if (v.p && v.n && mt_input_has(v.p))
		mt_broken(
		    "the request's %s points into the bytes given to recv(), which are gone when it returns: copy it "
		    "to stream_alloc() memory",
		    what);
	if (v.p && sess && v.p >= sess && v.p < sess + s->c->sess_n)
		mt_broken(
		    "the request's %s lies in the session's memory, which may be gone before the application is done: "
		    "copy it to stream_alloc() memory",
		    what);
}

static void
req_check(const struct lc_stream *s, int end)
{
	const struct lc_req *r = &s->req;

	req_str(s, "method", r->method, 1);
	req_str(s, "path", r->path, 1);
	req_str(s, "target", r->target, 1);
	req_str(s, "scheme", r->scheme, 1);
	req_str(s, "protocol", r->protocol, 1);
	req_str(s, "authority", r->authority, 0);
	req_str(s, "query", r->query, 0);
	if (!r->version)
		mt_broken("stream_head() without a version in the request");
	if (r->size != sizeof(*r))
		mt_broken("the request's size was changed: it is the core's");
	if (end && r->length > 0)
		mt_broken("stream_head() says that no body follows, the request's length says one of %lld bytes",
			  (long long)r->length);
	if (r->nfields && !r->fields)
		mt_broken("the request says that it has %u fields, and has none", r->nfields);
	for (uint32_t k = 0; r->fields && k < r->nfields; k++) {
		req_str(s, "field name", r->fields[k].name, 1);
		req_str(s, "field value", r->fields[k].value, 0);
		if (!lower(r->fields[k].name))
			mt_broken("the request's field name \"%.*s\" is not in lower case", (int)r->fields[k].name.n,
				  r->fields[k].name.p);
	}
}

static int
api_stream_head(struct lc_stream *s, int end)
{
	if (!stream_ok(s, "stream_head", 1))
		return -EINVAL;
	if (s->headed) {
		mt_broken("stream_head() twice for one stream");
		return -EALREADY;
	}
	if (mt_alloc_fails())
		return -ENOMEM;
	req_check(s, end);
	s->print = mt_print_of(&s->req);
	s->headed = s->ev_request = 1;
	s->in_fin = end;
	return 0;
}

static int
body_ok(struct lc_stream *s, const char *fn)
{
	if (!stream_ok(s, fn, 1))
		return 0;
	if (!s->headed)
		mt_broken("%s() before stream_head()", fn);
	if (s->in_fin)
		mt_broken("%s() after the end of the body", fn);
	return s->headed && !s->in_fin;
}

static int
api_stream_body(struct lc_stream *s, const uint8_t *p, size_t n)
{
	if (!body_ok(s, "stream_body"))
		return -EINVAL;
	if (mt_alloc_fails())
		return -ENOMEM;
	mt_add(&s->seen, p, n);
	if (s->req.length >= 0 && s->seen.n > (uint64_t)s->req.length)
		mt_broken("stream_body() gives more bytes than the request's length says");
	if (s->released || s->aborted) { /* nobody will read it: credit goes back at once */
		s->consumed += n;
		return 0;
	}
	/* a protocol may finish the recv() in which it was told */
	if (s->over_mark && s->in.n - s->in_off > MT_HIGH + (32 << 10))
		mt_broken(
		    "stream_body() goes on after it returned 1 (the queue is full): read_pause(1) until consumed()");
	mt_add(&s->in, p, n);
	s->over_mark = s->in.n - s->in_off > MT_HIGH;
	return s->over_mark;
}

static int
api_stream_end(struct lc_stream *s, const struct lc_field *t, uint32_t n)
{
	if (!body_ok(s, "stream_end"))
		return -EINVAL;
	if (mt_alloc_fails())
		return -ENOMEM;
	if (s->req.length >= 0 && s->seen.n < (uint64_t)s->req.length)
		mt_broken("stream_end() after %zu bytes of a body, the request's length says %lld", s->seen.n,
			  (long long)s->req.length);
	s->in_fin = 1;
	s->in_trailers = t;
	s->nin_trailers = n;
	return 0;
}

static void
api_stream_abort(struct lc_stream *s, uint32_t reason)
{
	if (!stream_ok(s, "stream_abort", 1))
		return;
	s->proto_done = s->aborted = 1;
	s->reason = reason;
	s->ev_abort = s->headed;
}

static void
api_stream_done(struct lc_stream *s)
{
	if (!stream_ok(s, "stream_done", 1))
		return;
	if (!s->headed)
		mt_broken("stream_done() for a stream that had no stream_head()");
	else if (!s->responded && strcmp(mt_where.call, "reset") != 0)
		mt_broken("stream_done() before the application has answered");
	s->proto_done = 1;
}

static uint64_t
api_stream_avail(struct lc_stream *s, int *fin)
{
	*fin = 1;
	if (!stream_ok(s, "stream_avail", 1))
		return 0;
	*fin = s->out_fin;
	return s->outq.n - s->out_off;
}

static uint64_t
api_out_room(const struct lc_outv *v)
{
	return outv_ok(v, "out_room") ? v->room - v->put : 0;
}

static int
api_out_copy(struct lc_outv *v, const void *p, size_t n)
{
	if (!outv_ok(v, "out_copy"))
		return -ENOSPC;
	if (v->room - v->put < n) {
		v->full = 1;
		return -ENOSPC;
	}
	mt_add(v->to, p, n);
	v->put += n;
	return 0;
}

static uint8_t *
api_out_reserve(struct lc_outv *v, size_t n)
{
	if (!outv_ok(v, "out_reserve"))
		return NULL;
	if (v->room - v->put < n) {
		v->full = 1;
		return NULL;
	}
	free(v->reserved);
	v->reserved = malloc(n + CANARY);
	if (!v->reserved)
		abort();
	memset(v->reserved + n, 0x5c, CANARY);
	v->reserved_n = n;
	return v->reserved;
}

static void
api_out_commit(struct lc_outv *v, size_t n)
{
	if (!outv_ok(v, "out_commit"))
		return;
	if (!v->reserved || n > v->reserved_n) {
		mt_broken("out_commit() of %zu bytes, %zu were reserved", n, v->reserved ? v->reserved_n : 0);
		return;
	}
	for (int k = 0; k < CANARY; k++)
		if (v->reserved[v->reserved_n + (size_t)k] != 0x5c) {
			mt_broken("writes beyond the %zu bytes that out_reserve() gave", v->reserved_n);
			break;
		}
	mt_add(v->to, v->reserved, n);
	v->put += n;
	free(v->reserved);
	v->reserved = NULL;
}

static int64_t
api_stream_take(struct lc_stream *s, struct lc_outv *v, uint64_t max)
{
	if (!stream_ok(s, "stream_take", 1) || !outv_ok(v, "stream_take"))
		return 0;
	size_t n = s->outq.n - s->out_off;
	if (n > max)
		n = (size_t)max;
	if (n > v->room - v->put) {
		n = v->room - v->put;
		v->full = 1;
	}
	api_out_copy(v, s->outq.p + s->out_off, n);
	s->out_off += n;
	return (int64_t)n;
}

static void
api_want_write(struct lc_conn *c)
{
	if (conn_ok(c, "want_write"))
		c->wants = 1;
}

static void
api_read_pause(struct lc_conn *c, int on)
{
	if (!conn_ok(c, "read_pause"))
		return;
	c->paused = on != 0;
	if (!on)
		c->stalled = 0;
}

static void
api_timer(struct lc_conn *c, uint32_t which, int64_t ms)
{
	if (!conn_ok(c, "timer"))
		return;
	if (which > LC_TM_WRITE) {
		mt_broken("timer() with the number %u, expected LC_TM_HANDSHAKE to LC_TM_WRITE", which);
		return;
	}
	if (which < LC_TM_WRITE && (ms >= 0 || c->timer[which] >= 0))
		for (uint32_t k = 0; k < LC_TM_WRITE; k++)
			c->timer[k] = -1;
	c->timer[which] = ms < 0 ? -1 : ms;
}

static void
api_conn_close(struct lc_conn *c, int how)
{
	if (!conn_ok(c, "conn_close"))
		return;
	if (how < LC_CLOSE_NOW || how > LC_CLOSE_LINGER)
		mt_broken("conn_close() in the way %d, expected LC_CLOSE_NOW, _FLUSH or _LINGER", how);
	if (!c->closed || how == LC_CLOSE_NOW)
		c->closed = how + 1;
}

static struct lc_str
api_date(struct lc_conn *c)
{
	conn_ok(c, "date");
	return (struct lc_str){"Sun, 06 Nov 1994 08:49:37 GMT", 29};
}

static int
api_draining(struct lc_conn *c)
{
	return conn_ok(c, "draining") && c->o.draining;
}

LC_PRINTF(3, 4) static void api_log(struct lc_conn *c, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!conn_ok(c, "log"))
		return;
	if (level < LC_LOG_CRIT || level > LC_LOG_DEBUG)
		mt_broken("log() with the level %d", level);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap); /* so that a bad argument shows */
	va_end(ap);
}

/* For the access log: what is refused is no event of a stream that anybody has. */
static void
api_refused(struct lc_conn *c, struct lc_stream *st, uint32_t status, const struct lc_req *known)
{
	(void)st;
	if (!conn_ok(c, "refused"))
		return;
	if (status < 400 || status > 599)
		mt_broken("refused() with the status %u", status);
	if (!known)
		mt_broken("refused() without a struct of what is known");
}

/* No other protocol is loaded here: an offer to change is not taken up. */
static const struct lc_proto *
api_upgrade_find(struct lc_conn *c, struct lc_str *token, const void **ret_conf)
{
	(void)ret_conf;
	if (conn_ok(c, "upgrade_find") && (!token || !token->n))
		mt_broken("upgrade_find() without a token");
	return NULL;
}

static int
api_hand_over(struct lc_conn *c, const struct lc_proto *to, struct lc_stream *st)
{
	(void)to;
	(void)st;
	if (conn_ok(c, "hand_over"))
		mt_broken("hand_over() to a protocol that upgrade_find() has not given");
	return -ENOENT;
}

const struct lc_conn_api mt_conn_table = {
    .size = sizeof(struct lc_conn_api),
    .sess_alloc = api_sess_alloc,
    .stream_open = api_stream_open,
    .stream_alloc = api_stream_alloc,
    .stream_head = api_stream_head,
    .stream_body = api_stream_body,
    .stream_end = api_stream_end,
    .stream_abort = api_stream_abort,
    .stream_done = api_stream_done,
    .stream_avail = api_stream_avail,
    .stream_take = api_stream_take,
    .out_copy = api_out_copy,
    .out_reserve = api_out_reserve,
    .out_commit = api_out_commit,
    .out_room = api_out_room,
    .want_write = api_want_write,
    .read_pause = api_read_pause,
    .timer = api_timer,
    .conn_close = api_conn_close,
    .date = api_date,
    .draining = api_draining,
    .log = api_log,
    .refused = api_refused,
    .upgrade_find = api_upgrade_find,
    .hand_over = api_hand_over,
};
