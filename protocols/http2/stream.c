/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.c - the object that joins nghttp2's stream and the core's: its life, and the credit that its body gives back.
 *
 * Flow control gives credit for what the application has consumed.  A stream's window is its own; the connection's is
 * given back as soon as bytes arrive, while the streams of the connection together hold less than connection_window:
 * so one slow reader does not stop the others, and memory stays below twice that.
 */
#include <stdlib.h>
#include <string.h>

#include "http2/http2.h"

#ifdef LC_DEBUG
#define KEEP 0u /* so that the sanitizers see what outlives its stream */
#else
#define KEEP 128u
#endif

static struct h2s *kept;
static uint32_t nkept;

struct h2s *
h2s_new(struct h2 *s, int32_t id)
{
	struct h2s *x = kept;

	if (x) {
		kept = x->next;
		nkept--;
		memset(x, 0, sizeof(*x));
	} else if (!(x = calloc(1, sizeof(*x)))) {
		return NULL;
	}
	x->s = s;
	x->id = id;
	x->length = -1;
	x->out_left = UINT64_MAX;
	x->next = s->all;
	if (s->all)
		s->all->prev = x;
	s->all = x;
	return x;
}

void
h2s_free_if_done(struct h2s *x)
{
	struct h2 *s = x->s;

	if (x->ng || x->core)
		return;
	if (x->prev)
		x->prev->next = x->next;
	else
		s->all = x->next;
	if (x->next)
		x->next->prev = x->prev;
	if (s->owed_of == x)
		s->owed_of = NULL;
	if (!s->all && !s->dead)
		h2_arm_idle(s);
	if (nkept + 1 <= KEEP) {
		x->next = kept;
		kept = x;
		nkept++;
	} else {
		free(x);
	}
}

/* Bytes of the body that nobody will read: their share of the connection's window goes back. */
static void
forget_queue(struct h2s *x)
{
	struct h2 *s = x->s;
	uint64_t held = s->held < x->queued ? s->held : x->queued;

	s->queued -= x->queued;
	x->queued = 0;
	s->held -= held;
	if (held && !s->closing)
		h2_must(s, nghttp2_session_consume_connection(s->ng, held));
}

void
h2_credit(struct h2s *x, size_t n)
{
	struct h2 *s = x->s;

	if (!x->st) { /* discarded */
		h2_must(s, nghttp2_session_consume(s->ng, x->id, n));
		return;
	}
	x->queued += n;
	s->queued += n;
	if (s->queued <= s->conf->conn_window)
		h2_must(s, nghttp2_session_consume_connection(s->ng, n));
	else
		s->held += n;
}

void
h2_consumed(void *sess, void *ps, size_t n)
{
	struct h2 *s = sess;
	struct h2s *x = ps;
	uint64_t k = n < x->queued ? n : x->queued, held = s->held < k ? s->held : k;

	x->queued -= k;
	s->queued -= k;
	s->held -= held;
	if (x->ng && k)
		h2_must(s, nghttp2_session_consume_stream(s->ng, x->id, k));
	if (held)
		h2_must(s, nghttp2_session_consume_connection(s->ng, held));
	h2_wants(s);
}

/* The core lets go of it without a word of ours left to say. */
void
h2s_part(struct h2s *x)
{
	if (!x->st)
		return;
	forget_queue(x);
	x->st = NULL;
}

void
h2s_ended(struct h2s *x)
{
	x->ended = 1;
	if (x->st) {
		struct lc_stream *st = x->st;
		h2s_part(x);
		h2_api->stream_done(st);
	}
	/* An answer that did not need the whole body: the client may stop sending it (RFC 9113 8.1). */
	if (x->ng && x->in != H2_IN_DONE)
		h2_rst(x, NGHTTP2_NO_ERROR);
}

void
h2_detach(void *sess, void *ps)
{
	struct h2 *s = sess;
	struct h2s *x = ps;

	h2s_part(x);
	x->core = 0;
	x->rq = NULL;
	s->nstreams--;
	if (x->ng && !x->ended && !x->own) /* the core's doing: nothing more will come */
		h2_rst(x, NGHTTP2_CANCEL);
	h2s_free_if_done(x);
	h2_wants(s);
}
