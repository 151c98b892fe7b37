/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http1_fake.c - see http1_fake.h.
 */
#undef malloc /* the module's allocations come here under these names, ours do not */
#undef realloc
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http1_fake.h"

#define CORE_ROOM (64u << 10)
#define HIGH (64u << 10)

struct lc_outv {
	struct fake_buf *to;
	size_t room, put;
};

struct chunk {
	struct chunk *next;
	max_align_t data[];
};

struct lc_stream {
	struct lc_conn *c;
	struct lc_req req;
	void *ps;
	struct chunk *arena;
	struct fake_buf in, outq;
	size_t out_off, in_off, consumed;
	int headed, in_fin, out_fin, aborted, proto_done, ev_request, ev_abort, ev_head100, ev_head103, ev_head, ev_out,
	    ev_trailers, ev_reset;
	int step, sent100, released, responded, going;
	uint32_t reason;
	struct lc_head head, info100, info103;
	const struct lc_field *in_trailers, *out_trailers;
	uint32_t nin_trailers, nout_trailers;
	struct lc_stream *next;
};

struct lc_conn {
	struct fake f;
	struct fake_opts o;
	const struct lc_proto *ops;
	void *sess, *sess_mem;
	struct fake_buf rest;
	struct lc_stream *streams;
	struct lc_stream *handed; /* asked for by hand_over() */
	int in_module, wants, in_alloc;
	int stalled; /* recv() left bytes: they are offered again when something has happened */
};

int fake_is_draining;
uint64_t fake_memo;
static struct lc_conn *current; /* whose allocations h1_test_malloc() counts */

/* ---- small things ---- */

static void
buf_add(struct fake_buf *b, const void *p, size_t n)
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

LC_PRINTF(2, 3) static void buf_fmt(struct fake_buf *b, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_add(b, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void
buf_str(struct fake_buf *b, const char *name, struct lc_str v)
{
	buf_add(b, " ", 1); /* no printf() here: it would be a third of what a fuzzer does */
	buf_add(b, name, strlen(name));
	buf_add(b, "=", 1);
	if (v.p)
		buf_add(b, v.p, v.n);
	else
		buf_add(b, "-", 1);
}

static void
broken(struct lc_conn *c, const char *what)
{
	if (!c->f.broken)
		c->f.broken = what;
}

static int
alloc_fails(struct lc_conn *c)
{
	return c && ++c->f.allocs == c->o.fail_at;
}

void *h1_test_malloc(size_t);
void *h1_test_realloc(void *, size_t);

void *
h1_test_malloc(size_t n)
{
	return alloc_fails(current) ? NULL : malloc(n);
}

void *
h1_test_realloc(void *p, size_t n)
{
	return alloc_fails(current) ? NULL : realloc(p, n);
}

/* ---- the conn table ---- */

static void *
api_sess_alloc(struct lc_conn *c, size_t n)
{
	if (c->sess_mem || n > 4096)
		broken(c, "sess_alloc");
	if (alloc_fails(c))
		return NULL;
	return c->sess_mem = calloc(1, n);
}

static struct lc_stream *
api_stream_open(struct lc_conn *c, uint64_t id, void *ps, struct lc_req **ret)
{
	if (c->o.refuse_open || alloc_fails(c))
		return NULL;
	if (c->streams)
		broken(c, "two streams at once");
	struct lc_stream *st = calloc(1, sizeof(*st));
	if (!st)
		abort();
	st->c = c;
	st->ps = ps;
	st->req.size = sizeof(st->req);
	st->next = c->streams;
	c->streams = st;
	c->f.streams++;
	if (id == 0)
		broken(c, "stream id 0");
	*ret = &st->req;
	return st;
}

static void *
api_stream_alloc(struct lc_stream *st, size_t n)
{
	if (alloc_fails(st->c))
		return NULL;
	struct chunk *k = malloc(sizeof(*k) + n); /* each on its own: ASan sees an overrun */
	if (!k)
		abort();
	memset(k->data, 0xa5, n);
	k->next = st->arena;
	st->arena = k;
	return k->data;
}

static int
api_stream_head(struct lc_stream *st, int end)
{
	if (st->headed || st->proto_done)
		broken(st->c, "stream_head twice, or after the end");
	if (alloc_fails(st->c))
		return -ENOMEM;
	st->headed = st->ev_request = 1;
	st->in_fin = end;
	return 0;
}

static int
api_stream_body(struct lc_stream *st, const uint8_t *p, size_t n)
{
	if (!st->headed || st->in_fin || st->proto_done)
		broken(st->c, "stream_body out of turn");
	if (alloc_fails(st->c))
		return -ENOMEM;
	buf_add(&st->in, p, n);
	return st->in.n - st->in_off > HIGH;
}

static int
api_stream_end(struct lc_stream *st, const struct lc_field *t, uint32_t n)
{
	if (!st->headed || st->in_fin || st->proto_done)
		broken(st->c, "stream_end out of turn");
	if (alloc_fails(st->c))
		return -ENOMEM;
	st->in_fin = 1;
	st->in_trailers = t;
	st->nin_trailers = n;
	return 0;
}

static void
api_stream_abort(struct lc_stream *st, uint32_t reason)
{
	if (st->proto_done)
		broken(st->c, "stream_abort after the end");
	st->proto_done = st->aborted = 1;
	st->reason = reason;
	st->ev_abort = st->headed;
}

static void
api_stream_done(struct lc_stream *st)
{
	if (st->proto_done)
		broken(st->c, "stream_done twice");
	st->proto_done = 1;
}

static uint64_t
api_stream_avail(struct lc_stream *st, int *fin)
{
	if (st->proto_done)
		broken(st->c, "stream_avail after the end");
	*fin = st->out_fin;
	return st->outq.n - st->out_off;
}

static uint64_t
api_out_room(const struct lc_outv *v)
{
	return v->room - v->put;
}

static int
api_out_copy(struct lc_outv *v, const void *p, size_t n)
{
	if (v->room - v->put < n)
		return -ENOSPC;
	buf_add(v->to, p, n);
	v->put += n;
	return 0;
}

static uint8_t *
api_out_reserve(struct lc_outv *v, size_t n)
{
	if (v->room - v->put < n)
		return NULL;
	buf_add(v->to, "", 0);
	while (v->to->cap - v->to->n < n + 1) {
		size_t keep = v->to->n;
		char zero[256] = {0};
		buf_add(v->to, zero, sizeof(zero));
		while (v->to->cap - keep < n + 1)
			buf_add(v->to, zero, sizeof(zero));
		v->to->n = keep;
	}
	return (uint8_t *)v->to->p + v->to->n;
}

static void
api_out_commit(struct lc_outv *v, size_t n)
{
	if (n > v->room - v->put)
		abort();
	v->to->n += n;
	v->put += n;
}

static int64_t
api_stream_take(struct lc_stream *st, struct lc_outv *v, uint64_t max)
{
	size_t n = st->outq.n - st->out_off;

	if (st->proto_done)
		broken(st->c, "stream_take after the end");
	if (n > max)
		n = max;
	if (n > v->room - v->put)
		n = v->room - v->put;
	api_out_copy(v, st->outq.p + st->out_off, n);
	st->out_off += n;
	return (int64_t)n;
}

static void
api_want_write(struct lc_conn *c)
{
	c->wants = 1;
}

static void
api_read_pause(struct lc_conn *c, int on)
{
	if (c->f.paused == on)
		broken(c, "read_pause says what is so already");
	c->f.paused = on;
	if (!on)
		c->stalled = 0;
}

static void
api_timer(struct lc_conn *c, uint32_t which, int64_t ms)
{
	c->f.timer_calls++;
	if (which < LC_TM_WRITE)
		for (uint32_t k = 0; k < LC_TM_WRITE; k++)
			c->f.timer[k] = -1;
	c->f.timer[which] = ms;
}

static void
api_conn_close(struct lc_conn *c, int how)
{
	if (c->f.closed)
		broken(c, "conn_close twice");
	c->f.closed = how + 1;
}

static struct lc_str
api_date(struct lc_conn *c)
{
	(void)c;
	return (struct lc_str){"Sun, 06 Nov 1994 08:49:37 GMT", 29};
}

static int
api_draining(struct lc_conn *c)
{
	(void)c;
	return fake_is_draining;
}

LC_PRINTF(3, 4) static void api_log(struct lc_conn *c, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_fmt(&c->f.log, "%d %s\n", level, text);
}

/* What the access log would say. */
static void
api_refused(struct lc_conn *c, struct lc_stream *s, uint32_t status, const struct lc_req *r)
{
	buf_fmt(&c->f.access, "%s%u \"%.*s %.*s %.*s\"\n", s ? "stream " : "", status, (int)r->method.n, r->method.p,
		(int)r->target.n, r->target.p, (int)r->protocol.n, r->protocol.p);
}

/* A protocol that takes "echo" and "echo/1", not for /no. */
static int
fake_upgrade_check(const void *conf, struct lc_stream *st, const struct lc_req *rq, struct lc_head *answer)
{
	static const struct lc_field fields[] = {{.name = {"X-Echo", 6}, .value = {"yes", 3}},
						 {.name = {"Connection", 10}, .value = {"dropped", 7}}};

	if (conf != &fake_is_draining || !st)
		abort();
	answer->fields = fields;
	answer->nfields = 2;
	return rq->path.n == 3 && memcmp(rq->path.p, "/no", 3) == 0 ? LC_STREAM_DEAD : LC_OK;
}

static const struct lc_proto other = {.size = sizeof(other), .name = "other", .upgrade_check = fake_upgrade_check};

static const struct lc_proto *
api_upgrade_find(struct lc_conn *c, struct lc_str *token, const void **ret_conf)
{
	(void)c;
	if ((token->n != 4 || strncasecmp(token->p, "echo", 4) != 0) &&
	    (token->n != 6 || strncasecmp(token->p, "echo/1", 6) != 0))
		return NULL;
	token->p = token->n == 4 ? "echo" : "echo/1";
	*ret_conf = &fake_is_draining;
	return &other;
}

static int
api_hand_over(struct lc_conn *c, const struct lc_proto *to, struct lc_stream *st)
{
	if (to != &other || st->headed || st->proto_done || c->streams != st || st->next || c->f.closed || c->handed)
		broken(c, "hand_over out of turn");
	c->handed = st;
	return 0;
}

static const struct lc_conn_api table = {
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

static const void *
host_get(const char *name, uint32_t version, size_t min_size)
{
	static const struct lc_config_api config = {.size = sizeof(config)}; /* check() is not called */

	if (strcmp(name, "config") == 0 && version == 1 && min_size <= sizeof(config))
		return &config;
	return strcmp(name, "conn") == 0 && version == 1 && min_size <= sizeof(table) ? &table : NULL;
}

static const struct lc_host host = {.size = sizeof(struct lc_host),
				    .abi_major = LC_ABI_MAJOR,
				    .abi_minor = LC_ABI_MINOR,
				    .version = "test",
				    .get = host_get};

/* ---- the application: one step at a time, so that output is pulled in between ---- */

#define FIELD(nm, vl)                                                         \
	{                                                                     \
		.name = {nm, sizeof(nm) - 1}, .value = { vl, sizeof(vl) - 1 } \
	}
static const struct lc_field f_text[] = {FIELD("Content-Type", "text/plain")};
static const struct lc_field f_hop[] = {
    FIELD("connection", "close, x-thing"), FIELD("Keep-Alive", "timeout=5"),
    FIELD("Transfer-Encoding", "gzip"),    FIELD("Upgrade", "h2c"),
    FIELD("Content-Length", "999"),        FIELD("X-Kept", "yes"),
};
static const struct lc_field f_crlf[] = {FIELD("X-Evil", "a\r\nSet-Cookie: b")};
static const struct lc_field f_name[] = {FIELD("X Evil", "a")};
static const struct lc_field f_own[] = {FIELD("server", "mine"), FIELD("DATE", "now")};
static const struct lc_field f_link[] = {FIELD("Link", "</style.css>; rel=preload")};
static const struct lc_field f_trailers[] = {FIELD("X-Sum", "42"), FIELD("Content-Length", "7"),
					     FIELD("X-More", "a b")};

static int
path_is(const struct lc_stream *st, const char *path)
{
	return st->req.path.n == strlen(path) && memcmp(st->req.path.p, path, st->req.path.n) == 0;
}

static void
respond(struct lc_stream *st, uint32_t status, int64_t length, const struct lc_field *f, uint32_t n)
{
	st->head =
	    (struct lc_head){.size = sizeof(st->head), .status = status, .fields = f, .nfields = n, .length = length};
	st->ev_head = st->responded = 1;
}

/* The number of a kind of head: status, reason and fields are static or the same. */
static uint64_t
memo_number(const struct lc_head *h)
{
	static struct lc_head known[32];
	static uint64_t n;

	for (uint64_t k = 0; k < n; k++)
		if (known[k].status == h->status && known[k].fields == h->fields && known[k].nfields == h->nfields &&
		    known[k].reason.p == h->reason.p)
			return k + 1;
	if (n == sizeof(known) / sizeof(known[0]))
		return 0;
	known[n++] = *h;
	return n;
}

static void
app_write(struct lc_stream *st, const char *p, size_t n, int fin)
{
	buf_add(&st->outq, p, n);
	st->out_fin = fin;
	st->ev_out = 1;
}

/* The application reads what is there; 1: the body is complete. */
static int
app_reads(struct lc_stream *st, size_t max)
{
	size_t n = st->in.n - st->in_off;

	if (n > max)
		n = max;
	st->in_off += n;
	st->consumed += n;
	if (st->in_fin && st->in_off == st->in.n)
		return 1;
	if ((st->req.flags & LC_R_EXPECT) && !st->sent100 && st->in.n == 0 && !st->responded) {
		st->sent100 = 1;
		st->info100 = (struct lc_head){.size = sizeof(st->head), .status = 100};
		st->ev_head100 = 1;
	}
	return 0;
}

static uint64_t
fnv(const char *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t k = 0; k < n; k++)
		h = (h ^ (uint8_t)p[k]) * UINT64_C(0x100000001b3);
	return h;
}

static void
log_fields(struct lc_conn *c, const char *what, const struct lc_field *f, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		char token[8];
		size_t at = sizeof(token);
		unsigned t = f[k].token;
		do
			token[--at] = (char)('0' + t % 10);
		while (t /= 10);
		buf_add(&c->f.events, " ", 1);
		buf_add(&c->f.events, what, strlen(what));
		buf_add(&c->f.events, token + at, sizeof(token) - at);
		buf_add(&c->f.events, " ", 1);
		buf_add(&c->f.events, f[k].name.p, f[k].name.n);
		buf_add(&c->f.events, ":", 1);
		buf_add(&c->f.events, f[k].value.p, f[k].value.n);
		buf_add(&c->f.events, "\n", 1);
	}
}

static void
log_request(struct lc_stream *st)
{
	struct fake_buf *b = &st->c->f.events;
	const struct lc_req *r = &st->req;

	buf_fmt(b, "request %x", r->version);
	buf_str(b, "scheme", r->scheme);
	buf_str(b, "protocol", r->protocol);
	buf_str(b, "method", r->method);
	buf_str(b, "target", r->target);
	buf_str(b, "authority", r->authority);
	buf_str(b, "path", r->path);
	buf_str(b, "query", r->query);
	buf_fmt(b, " length=%lld flags=%u\n", (long long)r->length, r->flags);
	log_fields(st->c, "field", r->fields, r->nfields);
	st->c->f.requests++;
}

static void
log_body(struct lc_stream *st)
{
	buf_fmt(&st->c->f.events, "body %zu %llx end\n", st->in.n, (unsigned long long)fnv(st->in.p, st->in.n));
	log_fields(st->c, "trailer", st->in_trailers, st->nin_trailers);
}

/* One step; 1: something was done. */
static int
app_step(struct lc_stream *st)
{
	static char big[200000];

	if (!st->headed || st->aborted || st->released)
		return 0;
	if (st->proto_done) { /* nothing that we write goes anywhere */
		st->released = 1;
		return 1;
	}
	if (path_is(st, "/never") || (path_is(st, "/slow-read") && !st->going))
		return 0;
	if (path_is(st, "/wait") && !st->going)
		return 0;
	if (path_is(st, "/early") && st->step == 0) {
		respond(st, 200, 2, f_text, 1);
		app_write(st, "no", 2, 1);
		st->step = st->released = 1;
		return 1;
	}
	if (path_is(st, "/slow-bad")) { /* answers badly, and without having read */
		if (!st->going || st->responded)
			return 0;
		respond(st, 200, 2, f_crlf, 1);
		return 1;
	}
	if (path_is(st, "/hint") && st->step == 0) {
		st->info103 = (struct lc_head){.size = sizeof(st->head), .status = 103, .fields = f_link, .nfields = 1};
		st->ev_head103 = 1;
		st->step = 1;
		return 1;
	}
	if (path_is(st, "/reset") && !st->responded) {
		st->ev_reset = st->released = 1;
		st->reason = LC_RSN_APP_ERROR;
		return 1;
	}
	if (!st->responded) {
		size_t before = st->consumed;
		if (!app_reads(st, SIZE_MAX))
			return st->consumed != before || st->ev_head100;
		log_body(st);
	}
	switch (st->responded ? st->step : 0) {
	default:
		if (st->responded)
			break;
		st->step = 10;
		if (path_is(st, "/reset-head")) { /* all in one delivery: head() and reset(), then pull() */
			respond(st, 200, -1, f_text, 1);
			app_write(st, "first ", 6, 0);
			st->ev_reset = st->released = 1;
			st->reason = LC_RSN_APP_ERROR;
		} else if (path_is(st, "/chunked") || path_is(st, "/trailers") || path_is(st, "/reset-mid") ||
			   path_is(st, "/cut-chunked")) {
			respond(st, 200, -1, f_text, 1);
			app_write(st, "first ", 6, 0);
		} else if (path_is(st, "/known")) {
			respond(st, 200, -1, f_text, 1);
			app_write(st, "whole", 5, 1);
		} else if (path_is(st, "/empty")) {
			respond(st, 200, -1, NULL, 0);
			app_write(st, "", 0, 1);
		} else if (path_is(st, "/echo")) {
			respond(st, 200, (int64_t)st->in.n, f_text, 1);
			app_write(st, st->in.p, st->in.n, 1);
		} else if (path_is(st, "/long")) {
			respond(st, 200, 5, f_text, 1);
			app_write(st, "0123456789", 10, 1);
		} else if (path_is(st, "/short")) {
			respond(st, 200, 10, f_text, 1);
			app_write(st, "01234", 5, 1);
		} else if (path_is(st, "/204") || path_is(st, "/304") || path_is(st, "/205")) {
			respond(st, path_is(st, "/204") ? 204 : path_is(st, "/304") ? 304 : 205, 0, NULL, 0);
			app_write(st, "", 0, 1);
		} else if (path_is(st, "/204-body")) {
			respond(st, 204, -1, f_text, 1);
			app_write(st, "never seen", 10, 1);
		} else if (path_is(st, "/hop")) {
			respond(st, 200, 2, f_hop, sizeof(f_hop) / sizeof(f_hop[0]));
			app_write(st, "ok", 2, 1);
		} else if (path_is(st, "/crlf")) {
			respond(st, 200, 2, f_crlf, 1);
			app_write(st, "ok", 2, 1);
		} else if (path_is(st, "/bad-name")) {
			respond(st, 200, 2, f_name, 1);
			app_write(st, "ok", 2, 1);
		} else if (path_is(st, "/own")) {
			respond(st, 299, 2, f_own, 2);
			st->head.reason = (struct lc_str){"As I like it", 12};
			app_write(st, "ok", 2, 1);
		} else if (path_is(st, "/big")) {
			memset(big, 'x', sizeof(big));
			respond(st, 200, sizeof(big), f_text, 1);
			app_write(st, big, sizeof(big), 1);
		} else {
			respond(st, 200, 6, f_text, 1);
			app_write(st, "hello\n", 6, 1);
		}
		return 1;
	case 10:
		st->step = 11;
		if (path_is(st, "/chunked") || path_is(st, "/trailers")) {
			app_write(st, "second piece ", 13, 0);
			return 1;
		}
		if (path_is(st, "/reset-mid")) {
			st->ev_reset = st->released = 1;
			st->reason = LC_RSN_APP_ERROR;
			return 1;
		}
		break;
	case 11:
		st->step = 12;
		if (path_is(st, "/trailers")) {
			st->out_trailers = f_trailers;
			st->nout_trailers = 3;
			st->ev_trailers = 1;
			app_write(st, "", 0, 1);
			return 1;
		}
		if (path_is(st, "/chunked")) {
			app_write(st, "last", 4, 1);
			return 1;
		}
		break;
	}
	if (st->out_fin)
		st->released = 1;
	return 0;
}

/* ---- the core ---- */

static void
stream_free(struct lc_stream *st)
{
	while (st->arena) {
		struct chunk *k = st->arena;
		st->arena = k->next;
		free(k);
	}
	free(st->in.p);
	free(st->outq.p);
	free(st);
}

static void
conn_dead(struct lc_conn *c)
{
	if (!c->f.closed)
		c->f.closed = LC_CLOSE_NOW + 1;
}

/* One event of the stream to the module; 1: there was one. */
static int
deliver_one(struct lc_conn *c, struct lc_stream *st)
{
	if (st->ev_request) {
		st->ev_request = 0;
		log_request(st);
		return 1;
	}
	if (st->ev_abort) {
		st->ev_abort = 0;
		buf_fmt(&c->f.events, "abort %u after %zu\n", st->reason, st->in.n);
		return 1;
	}
	if (st->proto_done) {
		struct lc_stream **pp = &c->streams;
		while (*pp != st)
			pp = &(*pp)->next;
		*pp = st->next;
		c->ops->detach(c->sess, st->ps);
		stream_free(st);
		return 1;
	}
	if (st->ev_head)
		st->head.memo = fake_memo == FAKE_MEMO_TRUE ? memo_number(&st->head) : fake_memo;
	int *ev[] = {&st->ev_head100, &st->ev_head103, &st->ev_head};
	struct lc_head *heads[] = {&st->info100, &st->info103, &st->head};
	for (int k = 0; k < 3; k++)
		if (*ev[k]) {
			*ev[k] = 0;
			if (c->ops->head(c->sess, st->ps, heads[k]) >= LC_CONN_DEAD)
				conn_dead(c);
			return 1;
		}
	if (st->ev_trailers) {
		st->ev_trailers = 0;
		c->ops->trailers(c->sess, st->ps, st->out_trailers, st->nout_trailers);
		return 1;
	}
	if (st->ev_out) {
		st->ev_out = 0;
		c->ops->out_ready(c->sess, st->ps);
		return 1;
	}
	if (st->consumed) {
		size_t n = st->consumed;
		st->consumed = 0;
		c->ops->consumed(c->sess, st->ps, n);
		return 1;
	}
	if (st->ev_reset) {
		st->ev_reset = 0;
		c->ops->reset(c->sess, st->ps, st->reason);
		return 1;
	}
	return 0;
}

static int
pull(struct lc_conn *c)
{
	if (!c->wants || c->o.no_pull)
		return 0;
	if (c->f.closed == LC_CLOSE_NOW + 1)
		return 0;
	struct lc_outv v = {.to = &c->f.out, .room = c->o.budget ? c->o.budget : CORE_ROOM};
	c->wants = 0;
	int r = c->ops->pull(c->sess, &v);
	if (r >= LC_CONN_DEAD)
		conn_dead(c);
	if (c->wants && v.put == 0)
		broken(c, "pull() wants to write and wrote nothing");
	return 1;
}

/* The other protocol has the connection: this one hears detach() and close() and nothing else. */
static void
hand_over(struct lc_conn *c)
{
	struct lc_stream *st = c->handed;

	log_request(st);
	buf_fmt(&c->f.events, "handed over to %s\n", other.name);
	c->streams = NULL;
	c->ops->detach(c->sess, st->ps);
	stream_free(st);
	c->ops->close(c->sess);
	free(c->sess_mem);
	c->sess = c->sess_mem = NULL;
	c->handed = NULL;
	c->f.closed = FAKE_HANDED;
}

/* Until nothing moves any more. */
static void
turn(struct lc_conn *c)
{
	int moved = 1;

	current = c;
	for (long k = 0; moved; k++) {
		if (k)
			c->stalled = 0;
		moved = 0;
		if (k > 2000000) {
			broken(c, "no end");
			return;
		}
		if (c->handed)
			hand_over(c);
		if (c->f.closed == FAKE_HANDED)
			break;
		if (c->streams) {
			if (deliver_one(c, c->streams)) {
				moved = 1;
				continue;
			}
		}
		if (pull(c)) {
			moved = 1;
			continue;
		}
		if (c->streams)
			moved = app_step(c->streams);
	}
	current = NULL;
}

/* An exact copy at the end of a block: a read past the end hits the sanitizer's red zone.  One block for all calls, as
 * malloc() is most of what a fuzzer would do; what recv() keeps of it is overwritten. */
static uint8_t *
input_block(size_t n, size_t *ret_cap)
{
	static uint8_t *block;
	static size_t cap;

	if (cap < n || !block) {
		free(block);
		cap = n < (128u << 10) ? 128u << 10 : n;
		block = malloc(cap);
		if (!block)
			abort();
	}
	*ret_cap = cap;
	return block;
}

static int64_t
offer(struct lc_conn *c)
{
	size_t n = c->rest.n, cap;
	uint8_t *block = input_block(n, &cap), *p = block + cap - n;

	memcpy(p, c->rest.p, n);
	current = c;
	int64_t r = c->ops->recv(c->sess, p, n);
	current = NULL;
	memset(p, 0xdd, n);
	return r;
}

void
fake_feed(struct fake *f, const char *data, size_t n)
{
	struct lc_conn *c = f->c;

	buf_add(c->f.closed == FAKE_HANDED ? &c->f.after : &c->rest, data, n);
	while (c->rest.n && !c->f.paused && !c->f.closed) {
		if (c->stalled)
			break;
		int64_t r = offer(c);
		if (r < 0) {
			conn_dead(c);
			break;
		}
		if ((size_t)r > c->rest.n) {
			broken(c, "recv() used more than there was");
			break;
		}
		memmove(c->rest.p, c->rest.p + r, c->rest.n - (size_t)r);
		c->rest.n -= (size_t)r;
		c->stalled = c->rest.n != 0;
		int streams = c->f.streams;
		turn(c);
		if (c->f.closed == FAKE_HANDED) {
			buf_add(&c->f.after, c->rest.p, c->rest.n);
			c->rest.n = 0;
			break;
		}
		if (r == 0 && streams == c->f.streams && c->streams)
			break; /* busy with a request */
		if (r == 0 && !c->f.closed && !c->f.paused && !c->streams && c->rest.n) {
			static int again;
			if (++again > 3) { /* idle, and yet it does not take the bytes */
				broken(c, "recv() does not go on");
				again = 0;
				break;
			}
			c->stalled = 0;
		}
	}
}

void
fake_eof(struct fake *f)
{
	if (f->closed)
		return;
	current = f->c;
	if (f->c->ops->eof(f->c->sess) >= LC_CONN_DEAD)
		conn_dead(f->c);
	turn(f->c);
}

void
fake_timeout(struct fake *f, uint32_t which)
{
	current = f->c;
	if (f->c->ops->timeout(f->c->sess, which) >= LC_CONN_DEAD)
		conn_dead(f->c);
	turn(f->c);
}

void
fake_drain(struct fake *f, uint32_t phase)
{
	current = f->c;
	f->c->ops->drain(f->c->sess, phase);
	turn(f->c);
}

void
fake_go(struct fake *f)
{
	if (f->c->streams)
		f->c->streams->going = 1;
	turn(f->c);
	fake_feed(f, "", 0);
}

void
fake_read(struct fake *f, size_t n)
{
	if (f->c->streams)
		app_reads(f->c->streams, n);
	turn(f->c);
	fake_feed(f, "", 0);
}

void
fake_defaults(void *conf)
{
	const struct lc_module *m = lc_module_query(&host);

	memset(conf, 0, m->conf_size);
	for (uint32_t k = 0; k < m->ndirectives; k++) {
		const struct lc_directive *d = &m->directives[k];
		char *at = (char *)conf + d->offset, *end;
		uint64_t v = d->def ? strtoull(d->def, &end, 10) : 0;
		switch (d->type) {
		case LC_T_FLAG:
			*(uint8_t *)at = strcmp(d->def, "on") == 0;
			break;
		case LC_T_SIZE:
			v *= *end == 'k' ? 1024 : *end == 'm' ? 1 << 20 : 1;
			memcpy(at, &v, sizeof(v));
			break;
		case LC_T_MSEC:
			v *= 1000;
			__attribute__((fallthrough));
		default:
			memcpy(at, &v, sizeof(v));
			break;
		}
	}
}

struct fake *
fake_open(const void *conf, const struct fake_opts *o)
{
	static uint64_t defaults[64];
	const struct lc_module *m = lc_module_query(&host);

	if (m->conf_size > sizeof(defaults) || m->load(&host) < 0)
		abort();
	if (!conf) {
		static int known;
		if (!known)
			fake_defaults(defaults);
		known = 1;
		conf = defaults;
	}
	struct lc_conn *c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->f.c = c;
	if (o)
		c->o = *o;
	for (int k = 0; k < 6; k++)
		c->f.timer[k] = -1;
	buf_add(&c->f.events, "", 0);
	buf_add(&c->f.out, "", 0);
	buf_add(&c->f.log, "", 0);
	buf_add(&c->f.access, "", 0);
	buf_add(&c->f.after, "", 0);
	c->ops = m->ifaces[0].ops;
	current = c;
	int r = c->ops->open(c, conf, &c->sess);
	current = NULL;
	if (r < 0) {
		c->sess = NULL;
		fake_free(&c->f);
		return NULL;
	}
	return &c->f;
}

void
fake_free(struct fake *f)
{
	struct lc_conn *c = f->c;

	while (c->streams) { /* as the core tears a connection down */
		struct lc_stream *st = c->streams;
		c->streams = st->next;
		if (c->sess)
			c->ops->detach(c->sess, st->ps);
		stream_free(st);
	}
	if (c->sess)
		c->ops->close(c->sess);
	free(c->sess_mem);
	free(c->rest.p);
	free(c->f.events.p);
	free(c->f.out.p);
	free(c->f.log.p);
	free(c->f.access.p);
	free(c->f.after.p);
	free(c);
}
