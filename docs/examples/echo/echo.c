/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * echo.c - the smallest protocol module: every line comes back.
 *
 *	cc -shared -fPIC -O2 -fvisibility=hidden -Wl,-z,defs $(pkg-config --cflags licorne) -o echo.so echo.c
 *
 * A session holds one line.  While that is on its way back nothing further is read, so a peer that does not read cannot
 * make us hold more.  No requests are made of the lines: see ask.c for that.
 */
#include <errno.h>
#include <string.h>

#include <licorne/module.h>
#include <licorne/proto.h>

#define TIMEOUT 60000 /* ms for the peer to send a line, or to take it */

struct session {
	struct lc_conn *c;
	size_t n, sent; /* bytes of the line; of these, sent back already */
	char line[1024];
};
static const struct lc_conn_api *api; /* what the core does for us */

static int /* A connection was accepted. */
echo_open(struct lc_conn *c, const void *conf, void **ret)
{
	struct session *s = api->sess_alloc(c, sizeof(*s)); /* zeroed, and freed by the core */

	(void)conf;
	if (!s)
		return -ENOMEM;
	s->c = c;
	api->timer(c, LC_TM_IDLE, TIMEOUT);
	api->timer(c, LC_TM_WRITE, TIMEOUT);
	*ret = s;
	return LC_OK;
}

static int64_t /* Bytes came: take them up to the end of the line.  The core keeps the rest and offers it again. */
echo_recv(void *sess, const uint8_t *p, size_t n)
{
	struct session *s = sess;
	const uint8_t *end = memchr(p, '\n', n);
	size_t take = end ? (size_t)(end - p) + 1 : n;

	if (take > sizeof(s->line) - s->n)
		return -LC_CONN_DEAD;
	memcpy(s->line + s->n, p, take); /* p is valid during this call only */
	s->n += take;
	if (end) {
		api->read_pause(s->c, 1); /* until the line is sent */
		api->want_write(s->c);    /* the core answers with pull() */
	}
	return (int64_t)take;
}

static int /* There is room for output: as much of the line as fits. */
echo_pull(void *sess, struct lc_outv *v)
{
	struct session *s = sess;
	uint64_t left = s->n - s->sent, room = api->out_room(v), k = left < room ? left : room;

	if (api->out_copy(v, s->line + s->sent, k) < 0)
		return LC_OK;
	s->sent += k;
	if (s->sent < s->n)
		return LC_OK; /* v is full: the core sends it and calls again */
	s->n = s->sent = 0;
	api->read_pause(s->c, 0);
	api->timer(s->c, LC_TM_IDLE, TIMEOUT);
	return LC_OK;
}

static void /* The process is to end: nothing here is worth waiting for. */
echo_drain(void *sess, uint32_t phase)
{
	(void)phase;
	api->conn_close(((struct session *)sess)->c, LC_CLOSE_FLUSH);
}

static int
load(const struct lc_host *host)
{
	api = host->get("conn", 1, sizeof(*api));
	return api ? 0 : -ENOSYS;
}

static const struct lc_proto proto = {.size = sizeof(proto),
				      .flags = LC_P_FALLBACK,
				      .name = "echo",
				      .open = echo_open,
				      .recv = echo_recv,
				      .pull = echo_pull,
				      .drain = echo_drain};
static const struct lc_iface ifaces[] = {{LC_KIND_PROTOCOL, LC_PROTO_VERSION, &proto}};
static const struct lc_module module = {LC_MODULE_HEAD("echo", "1.0"), .summary = "sends every line back",
					.ifaces = ifaces, .nifaces = 1, .load = load};
LC_MODULE_ENTRY(module)
