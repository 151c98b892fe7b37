/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn_api.c - the "conn" table: what protocol modules may ask of the core.
 *
 * Nothing here calls a module: effects are noted and happen in the connection's turn (conn.c).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log/log.h"
#include "net/conn.h"

static void *
cx_sess_alloc(struct lc_conn *c, size_t n)
{
	if (n > 4096 || c->sess_mem)
		return NULL;
	c->sess_mem = calloc(1, n);
	return c->sess_mem;
}

static struct lc_stream *
cx_stream_open(struct lc_conn *c, uint64_t id, void *ps, struct lc_req **ret)
{
	struct lc_srv *srv = lc_conn_srv(c);
	struct lc_stream *s = lc_stream_new(&srv->streams, &srv->loop);

	(void)id;
	if (!s)
		return NULL;
	s->ps = ps;
	s->owner = c;
	s->proto_ref = 1;
	s->post.fn = lc_deliver_posted;
	lc_chain_add(&c->chain, s);
	s->serial = c->serial;
	s->order = ++c->streams;
	s->put_out = c->put_out;
	s->req.length = -1;
	/* A copy: the worker, and the access log after it, may still need it when the connection is gone. */
	char *peer = lc_stream_alloc(s, c->peer_n);
	if (peer) {
		memcpy(peer, c->peer, c->peer_n);
		s->req.peer = (struct lc_str){peer, c->peer_n};
	}
	s->req.peer_port = c->port;
	s->req.local = (struct lc_str){c->lsn->addr, c->lsn->addr_n};
	s->req.local_port = c->lsn->port;
	s->req.listener = c->lsn->index;
	if (c->info && lc_conn_dress(c, s) < 0) {
		s->proto_ref = 0;
		lc_chain_remove(s);
		lc_stream_free(&srv->streams, s);
		return NULL;
	}
	*ret = &s->req;
	return s;
}

static int
cx_stream_head(struct lc_stream *s, int end)
{
	if (end)
		s->in_fin = 1;
	lc_stream_note(s, LC_SE_REQUEST);
	return 0;
}

static int
cx_stream_end(struct lc_stream *s, const struct lc_field *trailers, uint32_t n)
{
	lc_stream_in_end(s, trailers, n);
	return 0;
}

static void
cx_stream_abort(struct lc_stream *s, uint32_t reason)
{
	lc_stream_abort(s, reason);
	lc_stream_note(s, LC_SE_DETACH);
}

static void
cx_stream_done(struct lc_stream *s)
{
	lc_stream_note(s, LC_SE_DETACH);
}

static void
cx_want_write(struct lc_conn *c)
{
	c->flags |= LC_C_WANT_WRITE;
}

static void
cx_read_pause(struct lc_conn *c, int on)
{
	if (on)
		c->flags |= LC_C_PAUSED;
	else
		c->flags &= ~(LC_C_PAUSED | LC_C_STALLED);
}

static void
cx_timer(struct lc_conn *c, uint32_t which, int64_t ms)
{
	if (which == LC_TM_WRITE) {
		c->write_ms = ms < 0 ? 0 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
		return;
	}
	if (ms < 0) {
		if (c->rt_which == which)
			lc_timer_cancel(&c->rt);
		return;
	}
	struct lc_loop *l = &lc_conn_srv(c)->loop;
	if (which == c->rt_which && lc_timer_armed(&c->rt) && c->rt.at == lc_loop_ms(l) + (uint64_t)ms)
		return; /* pipelined requests of one turn: nothing has changed */
	c->rt_which = which;
	lc_timer_arm(l, &c->rt, (uint64_t)ms, lc_conn_read_timer);
}

static void
cx_conn_close(struct lc_conn *c, int how)
{
	c->flags |= how == LC_CLOSE_NOW ? LC_C_CLOSE_NOW : LC_C_CLOSE_FLUSH;
	if (how == LC_CLOSE_LINGER)
		c->flags |= LC_C_LINGER;
}

struct lc_str
lc_srv_date(struct lc_srv *srv)
{
	if (srv->loop.now >= srv->date_until) {
		static const char day[] = "SunMonTueWedThuFriSat", mon[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
		struct timespec ts;
		struct tm tm;
		clock_gettime(CLOCK_REALTIME, &ts);
		gmtime_r(&ts.tv_sec, &tm);
		/* not strftime(): names are in English whatever the locale */
		snprintf(srv->date, sizeof(srv->date), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", day + 3 * tm.tm_wday,
			 tm.tm_mday % 100, mon + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour % 100,
			 tm.tm_min % 100, tm.tm_sec % 100);
		srv->date_until = srv->loop.now + (uint64_t)(1000000000 - ts.tv_nsec);
	}
	return (struct lc_str){srv->date, 29};
}

static struct lc_str
cx_date(struct lc_conn *c)
{
	return lc_srv_date(lc_conn_srv(c));
}

static int
cx_draining(struct lc_conn *c)
{
	return lc_conn_srv(c)->draining;
}

void
lc_conn_log(struct lc_conn *c, int level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!lc_log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	lc_log(level, "%.*s: %s", c->peer_n ? (int)c->peer_n : 4, c->peer_n ? c->peer : "unix", text);
}

const struct lc_conn_api lc_conn_table = {
    .size = sizeof(struct lc_conn_api),
    .sess_alloc = cx_sess_alloc,
    .stream_open = cx_stream_open,
    .stream_alloc = lc_stream_alloc,
    .stream_head = cx_stream_head,
    .stream_body = lc_stream_in,
    .stream_end = cx_stream_end,
    .stream_abort = cx_stream_abort,
    .stream_done = cx_stream_done,
    .stream_avail = lc_stream_out_avail,
    .stream_take = lc_stream_out_take,
    .out_copy = lc_outv_copy,
    .out_reserve = lc_outv_reserve,
    .out_commit = lc_outv_commit,
    .out_room = lc_outv_room,
    .want_write = cx_want_write,
    .read_pause = cx_read_pause,
    .timer = cx_timer,
    .conn_close = cx_conn_close,
    .date = cx_date,
    .draining = cx_draining,
    .log = lc_conn_log,
    .refused = lc_account_refused,
    .upgrade_find = lc_upgrade_find,
    .hand_over = lc_upgrade_request,
};
