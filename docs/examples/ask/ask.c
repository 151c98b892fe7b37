/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.c - a protocol module whose lines are requests.
 *
 *	cc -shared -fPIC -O2 -fvisibility=hidden -Wl,-z,defs $(pkg-config --cflags licorne) -o ask.so ask.c
 *
 * The peer sends a path and a newline; whatever serves that path (a route's handler, the pool's application) answers.
 * The answer is a line with the status and the length, then the body.  A body whose length nobody knows before has "-"
 * there, and ends with the connection.
 *
 * One request at a time: while its stream is open recv() takes nothing, and the core offers the rest when the stream
 *has ended.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <licorne/module.h>
#include <licorne/proto.h>

struct conf {
	uint64_t timeout;
};
struct session {
	struct lc_conn *c;
	const struct conf *conf;
	struct lc_stream *st;       /* the request that runs; NULL: none */
	const struct lc_head *head; /* of its answer; NULL: not yet */
	int64_t left;               /* bytes of the body that are still to come; -1: not known */
	uint64_t requests;
	int told, drain; /* the answer's first line is out; this is the last request */
	size_t n;        /* bytes of the line so far */
	char line[1000];
};
static const struct lc_conn_api *api;

static void
wait_for_line(struct session *s)
{
	api->timer(s->c, LC_TM_IDLE, (int64_t)s->conf->timeout);
}

static int
ask_open(struct lc_conn *c, const void *conf, void **ret)
{
	struct session *s = api->sess_alloc(c, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->c = c;
	s->conf = conf;
	wait_for_line(s);
	api->timer(c, LC_TM_WRITE, (int64_t)s->conf->timeout);
	*ret = s;
	return LC_OK;
}

/* ---- the peer's side: bytes in, streams out ---- */

/* The line is complete: make a request of it. */
static int
request(struct session *s)
{
	static const struct lc_str get = {"GET", 3}, scheme = {"ask", 3}, protocol = {"ASK/1", 5}, none = {"", 0};
	struct lc_req *r;
	struct lc_stream *st = api->stream_open(s->c, ++s->requests, s, &r);
	/* what the request points to must live as long as the stream: its own memory */
	char *path = st ? api->stream_alloc(st, s->n) : NULL;

	if (!path) {
		if (st)
			api->stream_abort(st, LC_RSN_LIMIT);
		return -1;
	}
	memcpy(path, s->line, s->n);
	const char *q = memchr(path, '?', s->n);
	r->version = 0x0100;
	r->protocol = protocol;
	r->method = get;
	r->scheme = scheme;
	r->authority = none;
	r->target = (struct lc_str){path, s->n};
	r->path = (struct lc_str){path, q ? (size_t)(q - path) : s->n};
	if (q)
		r->query = (struct lc_str){q + 1, s->n - (size_t)(q + 1 - path)};
	r->length = 0;
	s->st = st;
	s->head = NULL;
	s->told = 0;
	s->n = 0;
	if (api->stream_head(st, 1) < 0) { /* 1: no body follows */
		s->st = NULL;
		api->stream_abort(st, LC_RSN_LIMIT);
		return -1;
	}
	api->timer(s->c, LC_TM_IDLE, -1); /* the application may take its time */
	return 0;
}

static int64_t
ask_recv(void *sess, const uint8_t *p, size_t n)
{
	struct session *s = sess;
	const uint8_t *end = memchr(p, '\n', n);
	size_t take = end ? (size_t)(end - p) : n;

	if (s->st)
		return 0;
	if (take > sizeof(s->line) - s->n) {
		api->log(s->c, LC_LOG_INFO, "closed: a line has more than %zu bytes", sizeof(s->line));
		return -LC_CONN_DEAD;
	}
	memcpy(s->line + s->n, p, take);
	s->n += take;
	if (!end)
		return (int64_t)take;
	if (s->n && s->line[s->n - 1] == '\r')
		s->n--;
	int bad = !s->n || s->line[0] != '/';
	for (size_t k = 0; k < s->n; k++)
		bad |= s->line[k] <= ' ' || s->line[k] == 127;
	if (bad) {
		api->log(s->c, LC_LOG_INFO, "closed: a line is no path");
		return -LC_CONN_DEAD;
	}
	return request(s) < 0 ? -LC_CONN_DEAD : (int64_t)take + 1;
}

/* The peer says no more.  What it has asked is still answered; then the core closes. */
static int
ask_eof(void *sess)
{
	return ((struct session *)sess)->st ? LC_OK : LC_CONN_DEAD;
}

/* ---- the application's side: streams in, bytes out ---- */

static int
ask_head(void *sess, void *ps, const struct lc_head *h)
{
	struct session *s = sess;

	(void)ps;
	if (h->status < 200)
		return LC_OK; /* this protocol has nothing to say before the answer */
	s->head = h;          /* valid until detach() */
	s->left = h->length;
	api->want_write(s->c);
	return LC_OK;
}

static void
ask_out_ready(void *sess, void *ps)
{
	(void)ps;
	api->want_write(((struct session *)sess)->c);
}

static int
ask_pull(void *sess, struct lc_outv *v)
{
	struct session *s = sess;
	char text[48];
	int fin, close, n;

	if (!s->st || !s->head)
		return LC_OK;
	if (!s->told) {
		n = s->left < 0 ? snprintf(text, sizeof(text), "%u -\n", s->head->status)
				: snprintf(text, sizeof(text), "%u %lld\n", s->head->status, (long long)s->left);
		if (api->out_copy(v, text, (size_t)n) < 0)
			return LC_OK; /* full: the core sends and calls again */
		s->told = 1;
	}
	int64_t took = api->stream_take(s->st, v, s->left < 0 ? UINT64_MAX : (uint64_t)s->left);
	if (s->left > 0)
		s->left -= took;
	if (s->left != 0 && (api->stream_avail(s->st, &fin) > 0 || !fin))
		return LC_OK;             /* more comes */
	close = s->drain || s->left != 0; /* without a length, or shorter than announced: only an end can tell */
	api->stream_done(s->st);
	s->st = NULL;
	if (close)
		api->conn_close(s->c, LC_CLOSE_FLUSH);
	else
		wait_for_line(s);
	return LC_OK;
}

/* The application has given up. */
static void
ask_reset(void *sess, void *ps, uint32_t reason)
{
	struct session *s = sess;

	(void)ps;
	(void)reason;
	s->st = NULL;
	api->conn_close(s->c, LC_CLOSE_FLUSH);
}

/* The last call about a stream; also when the connection goes down with it. */
static void
ask_detach(void *sess, void *ps)
{
	(void)ps;
	((struct session *)sess)->st = NULL;
}

/* ---- the connection ---- */

static void
ask_drain(void *sess, uint32_t phase)
{
	struct session *s = sess;

	(void)phase;
	s->drain = 1;
	if (!s->st)
		api->conn_close(s->c, LC_CLOSE_FLUSH);
}

/* On a listener with several protocols: ours begins with a slash. */
static int
ask_sniff(const uint8_t *p, size_t n)
{
	return n && p[0] == '/' ? LC_SNIFF_YES : LC_SNIFF_NO;
}

static const struct lc_proto proto = {
    .size = sizeof(struct lc_proto),
    .name = "ask",
    .sniff_max = 1,
    .sniff = ask_sniff,
    .open = ask_open,
    .recv = ask_recv,
    .eof = ask_eof,
    .head = ask_head,
    .out_ready = ask_out_ready,
    .pull = ask_pull,
    .reset = ask_reset,
    .detach = ask_detach,
    .drain = ask_drain,
};

static int
load(const struct lc_host *host)
{
	api = host->get("conn", 1, sizeof(*api));
	return api ? 0 : -ENOSYS;
}

static const struct lc_range timeouts = {100, 3600000};
static const struct lc_directive rows[] = {
    LC_MSEC(struct conf, timeout, "ask_timeout", LC_C_MAIN | LC_C_POOL | LC_C_LISTEN, "60s", &timeouts,
	    "time for the peer to send a line, or to take some of an answer",
	    "A connection on which nothing moves for so long is closed. The time that an application takes does not "
	    "count."),
};
static const struct lc_iface ifaces[] = {{LC_KIND_PROTOCOL, LC_PROTO_VERSION, &proto}};
static const struct lc_module module = {
    LC_MODULE_HEAD("ask", "1.0"),
    .summary = "requests that are one line: a path",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = 1,
    .conf_size = sizeof(struct conf),
    .load = load,
};
LC_MODULE_ENTRY(module)
