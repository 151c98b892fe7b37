/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * deliver.c - carries a stream's events to its protocol and its worker, between module calls.
 *
 * The order within one delivery: what the application said goes to the protocol first (head, body, consumed, reset),
 * then the worker hears of the client, then references are dropped.  The worker's request() may hand the
 * lead on; then nothing of the loop may be touched any more.  Where routes say so a handler stands in the worker's
 * place (route.c): it has the same reference, and never hands on the lead.
 */
#include <stdlib.h>

#include "net/conn.h"
#include "net/route.h"

static void
finish_stream(struct lc_srv *srv, struct lc_stream *s)
{
	if (s->requested && srv->access)
		lc_account(srv, s);
	lc_stream_free(&srv->streams, s);
}

static void
drop_worker(struct lc_srv *srv, struct lc_stream *s)
{
	LC_ASSERT(s->worker_ref);
	s->worker_ref = 0;
	srv->inflight--;
	srv->handled -= s->route != NULL;
	if (s->flight) {
		lc_fl_give(srv->flight, s->flight);
		s->flight = NULL;
	}
}

/* The connection died before the worker was done: only the worker's reference is left. */
void
lc_stream_orphan(struct lc_srv *srv, struct lc_stream *s)
{
	uint32_t ev = s->ev;

	s->ev = ev & LC_SE_RELEASE;
	if ((ev & LC_SE_ABORT) && !s->shared && !s->released) {
		if (srv->nested) { /* told when the call that is on the stack is over */
			s->ev = ev;
			s->posted = 1;
			lc_loop_post(&srv->loop, &s->post);
			return;
		}
		if (s->route)
			lc_route_events(s, LC_SE_ABORT);
		else if (srv->wk->abort)
			srv->wk->abort(srv->w, s, s->reason);
		return; /* if it has released the stream, that was posted */
	}
	if (!(s->ev & LC_SE_RELEASE))
		return;
	s->ev = 0;
	drop_worker(srv, s);
	finish_stream(srv, s);
}

/* Posted by another thread. */
void
lc_deliver_posted(struct lc_post *p)
{
	struct lc_stream *s = (struct lc_stream *)((char *)p - offsetof(struct lc_stream, post));
	struct lc_conn *c = s->owner;

	lc_stream_collect(s);
	if (c) {
		LC_ASSERT(!lc_conn_srv(c)->in_n);
		lc_conn_run(c);
	} else {
		/* set by whoever killed the connection: s->loop is the server's */
		lc_stream_orphan((struct lc_srv *)((char *)s->loop - offsetof(struct lc_srv, loop)), s);
	}
}

static void
protocol_events(struct lc_conn *c, struct lc_stream *s, uint32_t ev)
{
	const struct lc_proto *p = c->proto;

	c->flags &= ~LC_C_STALLED;
	if (ev & LC_SE_CONTINUE) {
		static const struct lc_head go_on = {.size = sizeof(go_on), .status = 100, .length = -1};
		p->head(c->sess, s->ps, &go_on);
	}
	/* Before the head: one whose body is complete is framed by what follows it. */
	if ((ev & LC_SE_TRAILERS) && p->trailers)
		p->trailers(c->sess, s->ps, s->out_trailers, s->nout_trailers);
	if (ev & LC_SE_HEAD) {
		if (s->shared)
			pthread_mutex_lock(&s->mu);
		struct lc_hnode *h = s->heads;
		int final = s->responded && !(s->head.flags & LC_HEAD_TOLD);
		s->heads = NULL;
		if (final)
			s->head.flags |= LC_HEAD_TOLD;
		if (s->shared)
			pthread_mutex_unlock(&s->mu);
		for (; h; h = h->next)
			p->head(c->sess, s->ps, &h->head);
		if (final)
			p->head(c->sess, s->ps, &s->head);
	}
	if (ev & LC_SE_OUT)
		p->out_ready(c->sess, s->ps);
	if (ev & LC_SE_CONSUMED) {
		if (s->shared)
			pthread_mutex_lock(&s->mu);
		uint64_t n = s->in_consumed;
		s->in_consumed = 0;
		if (s->shared)
			pthread_mutex_unlock(&s->mu);
		if (n && p->consumed)
			p->consumed(c->sess, s->ps, n);
	}
}

static void
protocol_reset(struct lc_conn *c, struct lc_stream *s, uint32_t reason)
{
	uint32_t before = s->ev;

	c->proto->reset(c->sess, s->ps, reason);
	lc_stream_abort(s, reason);
	/* the worker ended it itself: no abort() for its own doing */
	s->ev = (s->ev & ~LC_SE_ABORT) | (before & LC_SE_ABORT);
	lc_stream_note(s, LC_SE_DETACH);
}

/* What the worker said before it gave up goes out first, so that the client sees how far it got.  0: the connection
 * broke over it, and the stream with it. */
static int
pull_before_reset(struct lc_conn *c, struct lc_stream *s, uint32_t ev)
{
	if (!(c->flags & LC_C_WANT_WRITE))
		return 1;
	s->ev |= ev & LC_SE_RELEASE; /* whoever buries the connection looks there */
	if (lc_conn_pull(c) < 0)
		return 0;
	s->ev &= ~LC_SE_RELEASE;
	return 1;
}

/* 0: the lead is gone. */
static int
worker_events(struct lc_srv *srv, struct lc_stream *s, uint32_t ev)
{
	const struct lc_worker *wk = srv->wk;

	if (ev & LC_SE_REQUEST) {
		s->requested = 1;
		s->started = srv->loop.now;
		srv->requests++;
		if (s->aborted)
			return 1; /* gone before anybody heard of it */
		s->worker_ref = 1;
		srv->inflight++;
		if (srv->flight)
			s->flight = lc_fl_take(srv->flight, &s->req, srv->loop.now);
		if (srv->routes && lc_route_request(srv, s))
			return 1;
		lc_loop_token(&srv->loop, LC_TOKEN_CALL);
		wk->request(srv->w, s);
		if (!lc_loop_leading(&srv->loop))
			return 0;
		lc_loop_token(&srv->loop, LC_TOKEN_LOOP);
		/* timers that are armed after a long call shall not count it */
		if (lc_ticks() - srv->loop.now_tick > LC_TICKS_300US)
			lc_loop_clock(&srv->loop);
		return 1;
	}
	if (!s->worker_ref || s->shared || s->released)
		return 1;
	if (s->route) {
		lc_route_events(s, ev);
		return 1;
	}
	if ((ev & LC_SE_ABORT) && wk->abort)
		wk->abort(srv->w, s, s->reason);
	else if ((ev & LC_SE_READABLE) && wk->readable)
		wk->readable(srv->w, s);
	if (!lc_loop_leading(&srv->loop))
		return 0;
	if ((ev & LC_SE_WRITABLE) && wk->writable && !s->released)
		wk->writable(srv->w, s);
	return lc_loop_leading(&srv->loop);
}

/* One set of events.  0: the lead is gone; -1: so is the stream. */
static int
deliver_once(struct lc_conn *c, struct lc_stream *s, uint32_t ev)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (s->proto_ref) {
		if (ev & (LC_SE_CONTINUE | LC_SE_HEAD | LC_SE_TRAILERS | LC_SE_OUT | LC_SE_CONSUMED))
			protocol_events(c, s, ev);
		if ((ev & LC_SE_RESET) && !(ev & LC_SE_DETACH)) {
			if (!pull_before_reset(c, s, ev))
				return -1;
			protocol_reset(c, s, s->reset_reason);
		}
	}
	if ((ev & LC_SE_WORKER) && !worker_events(srv, s, ev & LC_SE_WORKER))
		return 0;
	if (ev & LC_SE_RELEASE) {
		int unfinished = s->proto_ref && !s->out_fin && !s->aborted;
		if (unfinished && !pull_before_reset(c, s, ev))
			return -1;
		drop_worker(srv, s);
		if (unfinished)
			protocol_reset(c, s, LC_RSN_APP_ERROR);
	}
	if ((ev & LC_SE_DETACH) && s->proto_ref) {
		c->proto->detach(c->sess, s->ps);
		s->proto_ref = 0;
		s->put_out = lc_conn_put_out(c, s);
		c->flags &= ~LC_C_STALLED;
		if (s->worker_ref && !s->out_fin) {
			/* The response is complete without what the worker still has (HEAD, a body beyond its length):
			 * its next call tells it that nobody listens, and if it waits for one of ours, abort(). */
			lc_stream_abort(s, LC_RSN_DONE);
		}
	}
	if (!s->proto_ref && !s->worker_ref && !(s->ev & LC_SE_REQUEST)) {
		s->inready = 0;
		lc_chain_remove(s);
		finish_stream(srv, s);
		return -1;
	}
	return 1;
}

int
lc_deliver(struct lc_conn *c, struct lc_stream *s)
{
	struct lc_srv *srv = lc_conn_srv(c);
	uint32_t kept = 0, ev;
	int r;

	/* What one delivery causes (a call answers at once, as a rule) is delivered in the next pass, here. */
	s->inready = LC_READY_HERE;
	do {
		ev = s->ev;
		s->ev = 0;
		if (srv->nested) { /* a worker call is on the stack: its module is not entered again */
			kept |= ev & LC_SE_WORKER;
			ev &= ~LC_SE_WORKER;
		}
		r = deliver_once(c, s, ev);
		if (r <= 0)
			return r < 0;
		if (!s->chain) /* killed inside a call that waited; release() has seen to the rest */
			return 1;
		/* A whole answer, given inside the call: pulled now, the end of the exchange is delivered here, too.
		 * Where other streams wait for their turn, all of them are pulled at once, after the last or when that
		 * takes long. */
		if (!s->ev && !s->shared && s->out_fin && !srv->nested) {
			if (c->chain.ready)
				srv->held = srv->held ? srv->held : lc_ticks();
			else if (lc_conn_pull(c) < 0)
				return 1; /* the stream went with the connection */
		}
	} while (s->ev);
	s->inready = 0;
	s->ev = kept;
	return 1;
}
