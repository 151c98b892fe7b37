/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/drive.c - the core's half that calls the module: a connection's turn, and what a run does to it.
 *
 * It follows core/net: events of streams between two calls, pull() when it was wanted, bytes that recv() left are
 * offered again only after a stream event or read_pause(0).
 */
#include "modtest.h"

#include <stdlib.h>
#include <string.h>

#define ENDLESS 200000L /* rounds without an end */

/* ---- events, as core/net/deliver.c has them ---- */

static void
arena_free(struct lc_stream *s)
{
	while (s->arena) {
		struct mt_chunk *k = s->arena;
		s->arena = k->next;
		memset(k->data, 0xdd, k->n);
		free(k);
	}
}

/* The last call about it. */
static void
detach(struct lc_conn *c, struct lc_stream *s)
{
	if (s->headed && mt_print_of(&s->req) != s->print)
		mt_broken("the request changes after stream_head(): it is immutable from there on");
	mt_enter("detach");
	c->ops->detach(c->sess, s->ps);
	mt_leave();
	s->dead = 1;
	c->stalled = 0;
	mt_buf_free(&s->in);
	mt_buf_free(&s->outq);
	mt_buf_free(&s->seen);
	if (s->released || !s->headed)
		arena_free(s);
}

static void
scope(struct lc_conn *c, const char *call, int r)
{
	if (r < 0 || r > LC_CONN_DEAD)
		mt_broken("%s() returns %d, expected one of LC_OK, LC_STREAM_DEAD, LC_CONN_DRAIN, LC_CONN_DEAD", call,
			  r);
	if (r == LC_CONN_DEAD)
		c->dead = 1;
}

/* One event of the stream to the module; 1: there was one. */
static int
deliver_one(struct lc_conn *c, struct lc_stream *s)
{
	if (s->ev_request) {
		s->ev_request = 0;
		if (mt_print_of(&s->req) != s->print)
			mt_broken(
			    "the request changes when recv() has returned: something in it is not the stream's memory");
		mt_log_request(s);
		return 1;
	}
	if (s->ev_abort) {
		s->ev_abort = 0;
		s->released = 1;
		mt_fmt(&s->log, "abort %u after %zu\n", s->reason, s->seen.n);
		return 1;
	}
	if (s->proto_done) {
		detach(c, s);
		return 1;
	}
	if (s->ev_trailers) {
		s->ev_trailers = 0;
		c->stalled = 0;
		if (c->ops->trailers) {
			mt_enter("trailers");
			scope(c, "trailers", c->ops->trailers(c->sess, s->ps, s->out_trailers, s->nout_trailers));
			mt_leave();
		}
		return 1;
	}
	int *ev[] = {&s->ev_100, &s->ev_info, &s->ev_head};
	const struct lc_head *heads[] = {&s->go_on, &s->info, &s->head};
	for (int k = 0; k < 3; k++)
		if (*ev[k]) {
			*ev[k] = 0;
			c->stalled = 0;
			mt_enter("head");
			scope(c, "head", c->ops->head(c->sess, s->ps, heads[k]));
			mt_leave();
			return 1;
		}
	if (s->ev_out) {
		s->ev_out = 0;
		c->stalled = 0;
		mt_enter("out_ready");
		c->ops->out_ready(c->sess, s->ps);
		mt_leave();
		return 1;
	}
	if (s->consumed) {
		size_t n = s->consumed;
		s->consumed = 0;
		s->over_mark = s->in.n - s->in_off > MT_HIGH;
		c->stalled = 0;
		if (!c->ops->consumed)
			return 1;
		mt_enter("consumed");
		c->ops->consumed(c->sess, s->ps, n);
		mt_leave();
		return 1;
	}
	if (s->ev_reset) {
		s->ev_reset = 0;
		mt_enter("reset");
		c->ops->reset(c->sess, s->ps, s->reason);
		mt_leave();
		s->proto_done = 1; /* detach() follows */
		return 1;
	}
	return 0;
}

static int
pull(struct lc_conn *c)
{
	if (!c->wants || c->o.no_pull || c->dead || c->closed == LC_CLOSE_NOW + 1)
		return 0;
	struct lc_outv v = {.to = &c->out, .room = c->room};
	c->wants = 0;
	mt_pulling = &v;
	mt_enter("pull");
	int r = c->ops->pull(c->sess, &v);
	mt_leave();
	mt_pulling = NULL;
	free(v.reserved);
	scope(c, "pull", r);
	if (v.full || v.put == v.room)
		c->wants = 1;
	if (!c->wants || v.put)
		return 1;
	/* it needs more at once than this run gives */
	if (c->room < MT_ROOM) {
		c->room = 2 * c->room < MT_ROOM ? 2 * c->room : MT_ROOM;
		return 1;
	}
	mt_broken("pull() puts nothing into an empty vector and asks to be called again: it would be called for ever");
	c->wants = 0;
	return 1;
}

/* The peer's end, when all its bytes are consumed. */
static int
tell_eof(struct lc_conn *c)
{
	if (!c->eof || c->eof_told)
		return 0;
	c->eof_told = 1;
	if (!c->ops->eof) {
		c->dead = 1;
		return 1;
	}
	mt_enter("eof");
	scope(c, "eof", c->ops->eof(c->sess));
	mt_leave();
	return 1;
}

/* Offer what waits, once; 1: something happened. */
static int
offer(struct lc_conn *c)
{
	if (c->paused || c->stalled || c->closed || c->dead)
		return 0;
	if (!c->rest.n)
		return tell_eof(c);
	size_t n = c->rest.n < MT_ROOM ? c->rest.n : MT_ROOM;
	const uint8_t *p = mt_input_place((const uint8_t *)c->rest.p, n);
	mt_where.n = n;
	mt_enter("recv");
	int64_t r = c->ops->recv(c->sess, p, n);
	mt_input_spoil();
	mt_leave();
	if (r < -LC_CONN_DEAD)
		mt_broken(
		    "recv() returns %lld, expected a number of bytes or -LC_STREAM_DEAD, -LC_CONN_DRAIN, -LC_CONN_DEAD",
		    (long long)r);
	if (r < 0) { /* what a failed connection says is of no interest */
		c->dead |= r <= -LC_CONN_DEAD;
		c->rest.n = 0;
		return 1;
	}
	if ((uint64_t)r > n) {
		mt_broken("recv() says that it used %lld bytes, it was given %zu", (long long)r, n);
		r = (int64_t)n;
	}
	c->rest.n -= (size_t)r;
	memmove(c->rest.p, c->rest.p + r, c->rest.n);
	mt_where.offset += (size_t)r;
	if ((size_t)r < n)
		c->stalled = 1;
	return 1;
}

/* Until nothing moves any more. */
static void
turn(struct lc_conn *c)
{
	struct lc_stream *first = c->streams;
	int moved = 1;

	for (long k = 0; moved; k++) {
		moved = 0;
		if (k > ENDLESS) {
			mt_broken("the connection never comes to rest");
			return;
		}
		if (!first)
			first = c->streams;
		while (first && first->dead && first->next)
			first = first->next;
		for (struct lc_stream *s = first; s && !moved; s = s->next)
			moved = !s->dead && deliver_one(c, s);
		moved = moved || pull(c);
		for (struct lc_stream *s = first; s && !moved; s = s->next)
			moved = !s->dead && mt_app_step(s);
		moved = moved || offer(c);
		c->dead |= mt_breaks != c->breaks;
		if (c->dead)
			return;
	}
}

/* ---- what runs do ---- */

static struct lc_conn *
new_conn(const struct lc_proto *ops, const struct mt_opts *o)
{
	struct lc_conn *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->o = *o;
	c->ops = ops;
	c->breaks = mt_breaks;
	c->room = o->room ? o->room : MT_ROOM;
	for (int k = 0; k <= (int)LC_TM_WRITE; k++)
		c->timer[k] = -1;
	mt_add(&c->out, "", 0);
	return c;
}

struct lc_conn *
mt_open(const struct lc_proto *ops, const void *conf, const struct mt_opts *o)
{
	struct lc_conn *c = new_conn(ops, o);

	mt_where.step = 0;
	mt_where.offset = 0;
	mt_enter("open");
	int r = ops->open(c, conf, &c->sess);
	mt_leave();
	if (r != LC_OK) {
		if (!mt_where.failing)
			mt_broken("open() returns %d, and nothing was wrong", r);
		c->gone = 1;
		free(c->sess_mem);
		c->sess_mem = NULL;
		mt_free(c);
		return NULL;
	}
	turn(c);
	return c;
}

void
mt_feed(struct lc_conn *c, const uint8_t *p, size_t n)
{
	if (c->dead || c->closed)
		return;
	mt_add(&c->rest, p, n);
	turn(c);
}

void
mt_eof(struct lc_conn *c)
{
	c->eof = 1;
	if (!c->dead && !c->closed)
		turn(c);
}

void
mt_timeout(struct lc_conn *c, uint32_t which)
{
	if (c->dead || c->closed)
		return;
	if (which < LC_TM_WRITE)
		c->timer[which] = -1;
	if (!c->ops->timeout) {
		c->dead = 1;
		return;
	}
	mt_enter("timeout");
	scope(c, "timeout", c->ops->timeout(c->sess, which));
	mt_leave();
	if (!c->dead)
		turn(c);
}

void
mt_drain(struct lc_conn *c, uint32_t phase)
{
	if (c->dead || c->closed || !c->ops->drain)
		return;
	mt_enter("drain");
	c->ops->drain(c->sess, phase);
	mt_leave();
	turn(c);
}

void
mt_go(struct lc_conn *c)
{
	for (struct lc_stream *s = c->streams; s; s = s->next)
		s->waited = 1;
	if (!c->dead)
		turn(c);
}

void
mt_reset_all(struct lc_conn *c)
{
	for (struct lc_stream *s = c->streams; s; s = s->next)
		if (!s->dead && !s->proto_done && s->headed && !s->ev_request && !s->out_fin) {
			s->ev_reset = s->released = 1;
			s->reason = LC_RSN_APP_ERROR;
		}
	if (!c->dead)
		turn(c);
}

int
mt_armed(const struct lc_conn *c)
{
	for (int k = 0; k < (int)LC_TM_WRITE; k++)
		if (c->timer[k] >= 0)
			return k;
	return -1;
}

void
mt_check_rest(struct lc_conn *c)
{
	int open = 0, app = 0, ended = c->eof_told;

	if (c->dead || c->closed)
		return;
	for (struct lc_stream *s = c->streams; s; s = s->next) {
		if (s->dead)
			continue;
		open++;
		size_t left = s->outq.n - s->out_off;
		if (!s->headed) {
			/* its head is still coming */
			if (ended)
				mt_broken("after eof() a stream without stream_head() is left: stream_abort() it");
		} else if (s->out_fin && left && !c->o.no_pull && !c->paused &&
			   !((c->ops->flags & LC_P_MULTIPLEX) && mt_armed(c) >= 0)) {
			/* of streams side by side one may wait for the peer to take more, while a timer runs */
			mt_broken(
			    "%zu bytes of a response wait, and nothing asks for them: want_write() in out_ready()",
			    left);
		} else if (s->out_fin && !left && s->in_fin && !c->o.no_pull) {
			mt_broken("a response is complete and its stream was never ended: stream_done()");
		} else if (!s->out_fin && ended && !s->in_fin) {
			mt_broken("after eof() a request waits for the rest of its body for ever: stream_abort() it, "
				  "or return "
				  "LC_CONN_DEAD");
		} else if (!s->out_fin) {
			app++;
			int reads = c->o.answer != MT_NEVER && (c->o.answer != MT_LATE || s->waited) && !s->in_fin;
			if (reads && c->paused && s->in_off == s->in.n)
				mt_broken("reading stays paused, though the application has taken everything and waits "
					  "for more "
					  "of the body: read_pause(0) in consumed()");
			else if (reads && c->rest.n && !c->paused)
				mt_broken(
				    "recv() leaves %zu bytes without read_pause(1) while the application waits for the "
				    "body: nothing makes the core offer them again",
				    c->rest.n);
		}
	}
	if (c->paused && !app && !c->o.no_pull && c->o.answer != MT_EARLY)
		mt_broken("reading stays paused, though no output waits and the application has taken everything: "
			  "read_pause(0)");
	else if (c->rest.n && !c->paused && !open)
		mt_broken("recv() leaves %zu bytes with no stream under way and without read_pause(1): they are never "
			  "offered "
			  "again; consume what more bytes are needed for, and keep it",
			  c->rest.n);
	if (!open && !ended && mt_armed(c) < 0 && !(c->o.no_pull && c->wants))
		mt_broken(
		    "no timer runs while the connection waits for its peer: a silent peer would keep it for ever");
}

void
mt_close(struct lc_conn *c)
{
	for (struct lc_stream *s = c->streams; s; s = s->next)
		if (!s->dead) {
			s->aborted = s->proto_done = 1;
			detach(c, s);
		}
	if (c->ops->close) {
		mt_enter("close");
		c->ops->close(c->sess);
		mt_leave();
	}
	if (c->sess_mem)
		memset(c->sess_mem, 0xdd, c->sess_n);
	free(c->sess_mem);
	c->sess_mem = NULL;
	c->gone = 1;
	/* an application may go on with a request whose connection is gone */
	for (struct lc_stream *s = c->streams; s; s = s->next)
		if (s->headed && !s->released && mt_print_of(&s->req) != s->print)
			mt_broken("the request of a stream changes when its connection is closed: take its memory from "
				  "stream_alloc()");
}

void
mt_events(const struct lc_conn *c, struct mt_buf *b)
{
	mt_add(b, "", 0);
	for (const struct lc_stream *s = c->streams; s; s = s->next) {
		mt_fmt(b, "stream %u\n", s->number);
		mt_add(b, s->log.p ? s->log.p : "", s->log.n);
	}
}

void
mt_free(struct lc_conn *c)
{
	while (c->streams) {
		struct lc_stream *s = c->streams;
		c->streams = s->next;
		arena_free(s);
		mt_buf_free(&s->log);
		mt_buf_free(&s->in);
		mt_buf_free(&s->outq);
		mt_buf_free(&s->seen);
		free(s);
	}
	mt_buf_free(&c->rest);
	mt_buf_free(&c->out);
	free(c);
}
