/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * broken.c - a protocol module that is right, and wrong in one way for each V_ macro: what licorne-modtest must find.
 *
 * A request is a line with a path, lines of a body, and an empty line; the answer is the body alone.  test_modtest.py
 * has the sentence that each defect must get.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <licorne/module.h>
#include <licorne/proto.h>

enum { LINE, BODY, ANSWER };

struct session {
	struct lc_conn *c;
	struct lc_stream *st;
	int state, bol, paused, head, drain;
	size_t n;
	uint64_t requests;
	char line[200];
	char *path, *more;
};
static const struct lc_conn_api *api;
#if defined(V_GLOBAL)
static size_t line_n;
static char line[200];
#define N(s) line_n
#define TEXT(s) line
#else
#define N(s) (s)->n
#define TEXT(s) (s)->line
#endif
#ifdef V_OUT_LATE
static struct lc_outv *vector;
#endif

static void
wait_for_peer(struct session *s)
{
#ifndef V_NO_TIMER
	api->timer(s->c, LC_TM_IDLE, 60000);
#endif
	(void)s;
}

static int
br_open(struct lc_conn *c, const void *conf, void **ret)
{
	struct session *s = api->sess_alloc(c, sizeof(*s));

	(void)conf;
	if (!s)
		return -ENOMEM;
	s->c = c;
#if defined(V_LEAK) || defined(V_DOUBLE_FREE) || defined(V_WRITE_FREED)
	s->more = malloc(10);
	if (!s->more)
		return -ENOMEM;
#endif
#ifdef V_GLOBAL
	line_n = 0;
#endif
	wait_for_peer(s);
	*ret = s;
	return LC_OK;
}

static void
br_close(void *sess)
{
	struct session *s = sess;

	free(s->path);
#ifndef V_LEAK
	free(s->more);
#endif
#ifdef V_DOUBLE_FREE
	free(s->more);
#endif
#ifdef V_WRITE_FREED
	if (s->more)
		((volatile char *)s->more)[3] = 1;
#endif
}

static int
request(struct session *s, const char *p, size_t n)
{
	struct lc_req *r = NULL;
	struct lc_stream *st = api->stream_open(s->c, ++s->requests, s, &r);

#ifndef V_UNCHECKED_OPEN
	if (!st)
		return -1;
#endif
	char *path = api->stream_alloc(st, n + 1);
#ifndef V_UNCHECKED_ALLOC
	if (!path) {
#ifdef V_LEAK_ON_FAIL
		s->path = NULL;
#endif
		api->stream_abort(st, LC_RSN_LIMIT);
		return -1;
	}
#endif
	memcpy(path, p, n);
	path[n] = 0;
#ifdef V_KEEPS
	r->path = (struct lc_str){p, n};
#elif defined(V_SESSION_PATH)
	memmove(s->line, path, n);
	r->path = (struct lc_str){s->line, n};
#else
	r->path = (struct lc_str){path, n};
#endif
	r->version = 0x0100;
	r->method = (struct lc_str){"PUT", 3};
	r->scheme = r->protocol = (struct lc_str){"line", 4};
	r->target = (struct lc_str){path, n};
#ifdef V_UPPER
	static const struct lc_field field = {.name = {"X-Upper", 7}, .value = {"1", 1}};
	r->fields = &field;
	r->nfields = 1;
#endif
	if (api->stream_head(st, 0) < 0) {
		api->stream_abort(st, LC_RSN_LIMIT);
		return -1;
	}
#ifdef V_CHANGES
	path[0] = 'x';
#endif
	s->st = st;
	s->state = BODY;
	s->bol = 1;
	s->head = 0;
	N(s) = 0;
	return 0;
}

static int64_t
recv_line(struct session *s, const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, '\n', n);
	size_t take = end ? (size_t)(end - p) : n;

#ifdef V_LEFT
	if (!end)
		return 0;
#endif
#ifdef V_UNBOUNDED
	char *more = realloc(s->more, N(s) + take + 1);
	if (!more)
		return -LC_CONN_DEAD;
	s->more = more;
	memcpy(more + N(s), p, take);
	N(s) += take;
	if (!end)
		return (int64_t)n;
	if (N(s) > sizeof(s->line))
		return -LC_CONN_DEAD;
	memcpy(s->line, more, N(s));
#else
	if (take > sizeof(s->line) - N(s))
		return -LC_CONN_DEAD;
	memcpy(TEXT(s) + N(s), p, take);
	N(s) += take;
#endif
#ifdef V_CUT
	if (!end)
		N(s) = 0;
#endif
	if (!end)
		return (int64_t)take;
	if (!N(s) || TEXT(s)[0] != '/')
		return -LC_CONN_DEAD;
#ifdef V_LEAK_ON_FAIL
	free(s->path);
	s->path = malloc(20);
	if (!s->path)
		return -LC_CONN_DEAD;
#endif
#ifdef V_KEEPS
	int r = N(s) == take ? request(s, (const char *)p, take) : request(s, TEXT(s), N(s));
#else
	int r = request(s, TEXT(s), N(s));
#endif
	return r < 0 ? -LC_CONN_DEAD : (int64_t)take + 1;
}

static int64_t
recv_body(struct session *s, const uint8_t *p, size_t n)
{
	size_t k = 0;

	while (k < n && !(s->bol && p[k] == '\n'))
		s->bol = p[k++] == '\n';
	int r = k ? api->stream_body(s->st, p, k) : 0;
	if (r < 0)
		return -LC_CONN_DEAD;
#ifndef V_NO_PAUSE
	if (r == 1 && !s->paused) {
		s->paused = 1;
		api->read_pause(s->c, 1);
	}
#endif
	if (k == n)
		return (int64_t)n;
	if (api->stream_end(s->st, NULL, 0) < 0)
		return -LC_CONN_DEAD;
#ifdef V_BODY_AFTER_END
	api->stream_body(s->st, p, 1);
#endif
	s->state = ANSWER;
	api->timer(s->c, LC_TM_IDLE, -1);
	return (int64_t)k + 1;
}

static int64_t
br_recv(void *sess, const uint8_t *p, size_t n)
{
	struct session *s = sess;

#ifdef V_OVERREAD
	if (n > 3 && ((const volatile uint8_t *)p)[n] == 'x')
		return -LC_CONN_DEAD;
#endif
#ifdef V_TOO_MUCH
	return (int64_t)n + 1;
#endif
#ifdef V_BAD_SCOPE
	if (n && p[0] == 'o')
		return -EINVAL;
#endif
#ifdef V_LOOPS
	for (volatile int k = 0; n && p[0] == 'o';)
		k = 1;
#endif
#ifdef V_CLOCK
	if (time(NULL) == 0)
		return -LC_CONN_DEAD;
#endif
#ifdef V_AFTER_DETACH
	int fin;
	if (s->state == LINE && s->st)
		api->stream_avail(s->st, &fin);
#endif
#ifdef V_OUT_LATE
	if (vector)
		api->out_copy(vector, "late", 4);
#endif
	size_t done = 0;

	while (done < n && s->state != ANSWER && !s->paused) {
		int64_t r = s->state == LINE ? recv_line(s, p + done, n - done) : recv_body(s, p + done, n - done);
		if (r < 0)
			return r;
		done += (size_t)r;
#if defined(V_LEFT) || defined(V_STOPS)
		break;
#endif
	}
	return (int64_t)done;
}

static int
br_eof(void *sess)
{
	struct session *s = sess;

#ifdef V_EOF
	return LC_OK;
#endif
	return s->state == ANSWER ? LC_OK : LC_CONN_DEAD;
}

static int
br_head(void *sess, void *ps, const struct lc_head *h)
{
	struct session *s = sess;

	(void)ps;
	s->head |= h->status >= 200;
#ifndef V_NO_WANT
	api->want_write(s->c);
#endif
	return LC_OK;
}

static void
br_out_ready(void *sess, void *ps)
{
	(void)ps;
#ifndef V_NO_WANT
	api->want_write(((struct session *)sess)->c);
#else
	(void)sess;
#endif
}

static int
br_pull(void *sess, struct lc_outv *v)
{
	struct session *s = sess;
	int fin = 0;

#ifdef V_SPINS
	api->want_write(s->c);
#endif
#ifdef V_OUT_LATE
	vector = v;
#endif
	if (!s->st || !s->head)
		return LC_OK;
#ifdef V_TWO_AT_ONCE
	uint8_t *to = api->out_reserve(v, 4);
	if (to) {
		memcpy(to, "12345", 5);
		api->out_commit(v, 4);
	}
#endif
	api->stream_take(s->st, v, UINT64_MAX);
	if (api->stream_avail(s->st, &fin) > 0 || !fin)
		return LC_OK;
#ifndef V_NO_DONE
	api->stream_done(s->st);
#ifdef V_DONE_TWICE
	api->stream_done(s->st);
#endif
	if (s->state == BODY || s->drain) /* answered before it was read; the last */
		api->conn_close(s->c, LC_CLOSE_FLUSH);
#ifndef V_AFTER_DETACH
	s->st = NULL;
#endif
	s->state = LINE;
	wait_for_peer(s);
#endif
	return LC_OK;
}

static void
br_consumed(void *sess, void *ps, size_t n)
{
	struct session *s = sess;

	(void)ps;
	(void)n;
#ifndef V_NO_RESUME
	if (s->paused) {
		s->paused = 0;
		api->read_pause(s->c, 0);
	}
#endif
}

static void
br_reset(void *sess, void *ps, uint32_t reason)
{
	struct session *s = sess;

	(void)ps;
	(void)reason;
	s->st = NULL;
	api->conn_close(s->c, LC_CLOSE_FLUSH);
}

static void
br_detach(void *sess, void *ps)
{
	struct session *s = sess;

	(void)ps;
#ifdef V_AFTER_DETACH
	if (s->state != LINE)
#endif
		s->st = NULL;
}

#ifndef V_NO_DRAIN
static void
br_drain(void *sess, uint32_t phase)
{
	struct session *s = sess;

	(void)phase;
#ifndef V_STAYS
	s->drain = 1;
	if (s->state == LINE)
		api->conn_close(s->c, LC_CLOSE_FLUSH);
#endif
}
#endif

#ifdef V_SNIFF
static int
br_sniff(const uint8_t *p, size_t n)
{
	return n && p[0] == 'o' ? LC_SNIFF_MORE : LC_SNIFF_NO;
}
#endif

static const struct lc_proto proto = {
    .size = sizeof(struct lc_proto),
    .name = NAME,
#ifdef V_SNIFF
    .sniff = br_sniff,
    .sniff_max = 4,
#endif
    .open = br_open,
    .close = br_close,
    .recv = br_recv,
    .eof = br_eof,
    .head = br_head,
    .out_ready = br_out_ready,
    .pull = br_pull,
    .consumed = br_consumed,
    .reset = br_reset,
#ifndef V_NO_DRAIN
    .drain = br_drain,
#endif
    .detach = br_detach,
};

static int
load(const struct lc_host *host)
{
	api = host->get("conn", 1, sizeof(*api));
	return api ? 0 : -ENOSYS;
}

static const struct lc_iface ifaces[] = {{LC_KIND_PROTOCOL, LC_PROTO_VERSION, &proto}};
static const struct lc_module module = {LC_MODULE_HEAD(NAME, "1"), .summary = "wrong in one way", .ifaces = ifaces,
					.nifaces = 1, .load = load};
LC_MODULE_ENTRY(module)
