/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * echo.c - a line echo that takes connections over by the token "echo": the smallest protocol that does.
 *
 * What comes goes back; behind a line "bye" the connection ends, and so it does when the client half-closes or the
 * server drains.  Requests for /no are not taken.
 */
#include <string.h>

#include <licorne/module.h>
#include <licorne/proto.h>

static const struct lc_conn_api *api;

struct echo {
	struct lc_conn *c;
	uint32_t n, off, full, over, at; /* at: bytes of "bye\n" seen at the beginning of a line, 5: another line */
	char buf[1024];
};

static int
e_open(struct lc_conn *c, const void *conf, void **sess)
{
	struct echo *e = api->sess_alloc(c, sizeof(*e));

	(void)conf;
	if (!e)
		return LC_CONN_DEAD;
	e->c = c;
	*sess = e;
	return LC_OK;
}

static int
e_upgrade_check(const void *conf, struct lc_stream *s, const struct lc_req *rq, struct lc_head *answer)
{
	static const struct lc_field field = {.name = {"X-Echo", 6}, .value = {"lines", 5}};

	(void)conf;
	(void)s;
	answer->fields = &field;
	answer->nfields = 1;
	return rq->path.n == 3 && memcmp(rq->path.p, "/no", 3) == 0 ? LC_STREAM_DEAD : LC_OK;
}

static int
e_upgrade_open(struct lc_conn *c, const void *conf, const struct lc_req *rq, void **sess)
{
	if (rq->path.n == 7 && memcmp(rq->path.p, "/broken", 7) == 0)
		return LC_CONN_DEAD;
	return e_open(c, conf, sess);
}

static void
e_close(void *sess)
{
	(void)sess;
}

static int64_t
e_recv(void *sess, const uint8_t *p, size_t n)
{
	struct echo *e = sess;
	size_t k = 0;

	while (k < n && e->n < sizeof(e->buf) && !e->over) {
		char ch = (char)p[k++];
		e->buf[e->n++] = ch;
		e->at = e->at < 4 && "bye\n"[e->at] == ch ? e->at + 1 : 5;
		e->over = e->at == 4;
		if (ch == '\n')
			e->at = 0;
	}
	if (k < n && !e->over && !e->full) {
		e->full = 1;
		api->read_pause(e->c, 1);
	}
	api->want_write(e->c);
	return (int64_t)(e->over ? n : k);
}

static int
e_eof(void *sess)
{
	struct echo *e = sess;

	e->over = 1;
	api->want_write(e->c);
	return LC_OK;
}

static int
e_pull(void *sess, struct lc_outv *v)
{
	struct echo *e = sess;
	uint64_t left = e->n - e->off, room = api->out_room(v);

	if (room > left)
		room = left;
	if (api->out_copy(v, e->buf + e->off, room) < 0)
		return LC_OK;
	e->off += (uint32_t)room;
	if (e->off < e->n) {
		api->want_write(e->c);
		return LC_OK;
	}
	e->n = e->off = 0;
	if (e->full) {
		e->full = 0;
		api->read_pause(e->c, 0);
	}
	if (e->over)
		api->conn_close(e->c, LC_CLOSE_FLUSH);
	return LC_OK;
}

static int
e_head(void *sess, void *ps, const struct lc_head *h)
{
	(void)sess;
	(void)ps;
	(void)h;
	return LC_OK;
}

static void
e_stream(void *sess, void *ps)
{
	(void)sess;
	(void)ps;
}

static void
e_consumed(void *sess, void *ps, size_t n)
{
	(void)sess;
	(void)ps;
	(void)n;
}

static void
e_reset(void *sess, void *ps, uint32_t reason)
{
	(void)sess;
	(void)ps;
	(void)reason;
}

static void
e_drain(void *sess, uint32_t phase)
{
	(void)phase;
	e_eof(sess);
}

static int
e_timeout(void *sess, uint32_t which)
{
	(void)sess;
	(void)which;
	return LC_OK;
}

static const char *const tokens[] = {"echo", NULL};

static const struct lc_proto proto = {
    .size = sizeof(struct lc_proto),
    .name = "echo",
    .open = e_open,
    .close = e_close,
    .recv = e_recv,
    .eof = e_eof,
    .pull = e_pull,
    .head = e_head,
    .out_ready = e_stream,
    .consumed = e_consumed,
    .reset = e_reset,
    .detach = e_stream,
    .drain = e_drain,
    .timeout = e_timeout,
    .upgrade = tokens,
    .upgrade_check = e_upgrade_check,
    .upgrade_open = e_upgrade_open,
};

static int
e_load(const struct lc_host *host)
{
	api = host->get("conn", 1, sizeof(*api));
	return api ? 0 : -1;
}

static const struct lc_iface ifaces[] = {{.kind = LC_KIND_PROTOCOL, .version = LC_PROTO_VERSION, .ops = &proto}};

static const struct lc_module module = {
    LC_MODULE_HEAD("echo", "0.1"),
    .summary = "a line echo, for tests of Upgrade",
    .ifaces = ifaces,
    .nifaces = 1,
    .load = e_load,
};
LC_MODULE_ENTRY(module)
