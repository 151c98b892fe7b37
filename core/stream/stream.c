/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.c - life of a stream, its arena, its events, and the protocol's side of its queues.
 *
 * See stream.h for who may touch what.  The worker's side is api.c.
 */
#include "stream/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream/internal.h"
#include "stream/outv.h"

struct lc_stream *
lc_stream_new(struct lc_streams *pool, struct lc_loop *l)
{
	struct lc_stream *s = pool->free;

	if (s) {
		pool->free = s->rnext;
		pool->nfree--;
	} else {
		s = aligned_alloc(16, LC_STREAM_BLOCK);
		if (!s)
			return NULL;
		pthread_mutex_init(&s->mu, NULL);
		pthread_condattr_t a;
		pthread_condattr_init(&a);
		pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
		pthread_cond_init(&s->cv, &a);
		pthread_condattr_destroy(&a);
	}
	/* All but the mutex, the condition variable and the arena's bytes. */
	memset(s, 0, offsetof(struct lc_stream, mu));
	memset(&s->xev, 0, offsetof(struct lc_stream, onode) - offsetof(struct lc_stream, xev));
	s->chunks = NULL;
	s->arena_total = 0;
	s->ap = s->first;
	s->aend = (uint8_t *)s + LC_STREAM_BLOCK;
	s->loop = l;
	s->req.size = sizeof(s->req);
	return s;
}

static void
out_clear(struct lc_stream *s)
{
	while (s->out_head) {
		struct lc_onode *o = s->out_head;
		s->out_head = o->next;
		if (o->s.release)
			o->s.release(o->s.arg);
		if (o->heap)
			free(o);
	}
	s->out_tail = NULL;
	s->out_bytes = s->out_free = 0;
}

static void
in_clear(struct lc_stream *s)
{
	while (s->in_head) {
		struct lc_inode *b = s->in_head;
		s->in_head = b->next;
		if (b->heap)
			free(b);
	}
	s->in_tail = NULL;
	s->in_bytes = 0;
}

void
lc_stream_free(struct lc_streams *pool, struct lc_stream *s)
{
	LC_ASSERT(!s->proto_ref && !s->worker_ref && !s->inready && !s->posted);
	out_clear(s);
	in_clear(s);
	while (s->chunks) {
		struct lc_achunk *c = s->chunks;
		s->chunks = c->next;
		free(c);
	}
	if (pool->nfree < LC_STREAM_KEEP) {
		s->rnext = pool->free;
		pool->free = s;
		pool->nfree++;
		return;
	}
	pthread_mutex_destroy(&s->mu);
	pthread_cond_destroy(&s->cv);
	free(s);
}

void
lc_streams_done(struct lc_streams *pool)
{
	while (pool->free) {
		struct lc_stream *s = pool->free;
		pool->free = s->rnext;
		pthread_mutex_destroy(&s->mu);
		pthread_cond_destroy(&s->cv);
		free(s);
	}
	pool->nfree = 0;
}

/* ---- arena ---- */

void *
lc__arena(struct lc_stream *s, size_t n)
{
	uint8_t *p = s->ap;

	if (n > LC_ARENA_MAX)
		return NULL;
	n = (n + 15) & ~(size_t)15;
	if ((size_t)(s->aend - p) >= n) {
		s->ap += n;
		return p;
	}
	size_t body = n > 4096 - 16 ? n : 4096 - 16;
	if (s->arena_total + body > LC_ARENA_MAX)
		return NULL;
	struct lc_achunk *c = aligned_alloc(16, 16 + body);
	if (!c)
		return NULL;
	s->arena_total += body;
	c->next = s->chunks;
	s->chunks = c;
	p = (uint8_t *)c + 16;
	/* keep the chunk that has more room left as the current one */
	if (body - n >= (size_t)(s->aend - s->ap)) {
		s->ap = p + n;
		s->aend = p + body;
	}
	return p;
}

void *
lc_stream_alloc(struct lc_stream *s, size_t n)
{
	lc__lock(s);
	void *p = lc__arena(s, n);
	lc__unlock(s);
	return p;
}

/* ---- events ---- */

void
lc_chain_init(struct lc_schain *c)
{
	c->ready = c->all = NULL;
	c->ready_tail = &c->ready;
}

void
lc_chain_add(struct lc_schain *c, struct lc_stream *s)
{
	s->chain = c;
	s->cprev = NULL;
	s->cnext = c->all;
	if (c->all)
		c->all->cprev = s;
	c->all = s;
}

/* Out of the ready list, if it is in it; rare. */
void
lc_chain_unready(struct lc_stream *s)
{
	struct lc_schain *c = s->chain;

	if (s->inready == 1) {
		struct lc_stream **pp = &c->ready;
		while (*pp != s)
			pp = &(*pp)->rnext;
		*pp = s->rnext;
		if (!*pp)
			c->ready_tail = pp;
	}
	s->inready = 0;
}

void
lc_chain_remove(struct lc_stream *s)
{
	struct lc_schain *c = s->chain;

	lc_chain_unready(s);
	if (s->cprev)
		s->cprev->cnext = s->cnext;
	else
		c->all = s->cnext;
	if (s->cnext)
		s->cnext->cprev = s->cprev;
	s->cprev = s->cnext = NULL;
}

void
lc_stream_note(struct lc_stream *s, uint32_t ev)
{
	LC_ASSERT(lc_loop_leading(s->loop));
	s->ev |= ev;
	if (!s->chain) {
		/* The connection died under a call: only the worker's last word still matters. */
		if ((ev & LC_SE_RELEASE) && !s->posted) {
			s->posted = 1;
			lc_loop_post(s->loop, &s->post);
		}
		return;
	}
	if (s->inready)
		return;
	s->inready = 1;
	s->rnext = NULL;
	*s->chain->ready_tail = s;
	s->chain->ready_tail = &s->rnext;
}

struct lc_stream *
lc_chain_pop(struct lc_schain *c)
{
	struct lc_stream *s = c->ready;

	if (!s)
		return NULL;
	c->ready = s->rnext;
	if (!c->ready)
		c->ready_tail = &c->ready;
	s->inready = 0;
	return s;
}

void
lc_stream_collect(struct lc_stream *s)
{
	pthread_mutex_lock(&s->mu);
	uint32_t ev = s->xev;
	s->xev = 0;
	s->posted = 0;
	pthread_mutex_unlock(&s->mu);
	if (s->chain)
		lc_stream_note(s, ev);
	else
		s->ev |= ev; /* the caller looks */
}

/* ---- the protocol's side of the queues ---- */

int
lc_stream_in(struct lc_stream *s, const uint8_t *p, size_t n)
{
	s->received += n;
	lc__lock(s);
	if (s->released || s->aborted) { /* nobody will read it: credit goes back at once */
		s->in_consumed += n;
		lc__unlock(s);
		lc_stream_note(s, LC_SE_CONSUMED);
		return 0;
	}
	struct lc_inode *t = s->in_tail;
	size_t left = n;
	if (t && t->cap > t->n) {
		size_t k = left < t->cap - t->n ? left : t->cap - t->n;
		memcpy(t->data + t->n, p, k);
		t->n += (uint32_t)k;
		p += k;
		left -= k;
	}
	if (left) {
		struct lc_inode *b = NULL;
		size_t cap = left;
		if (!s->in_small && left <= 1024) { /* the usual form or JSON body: no malloc */
			s->in_small = 1;
			b = lc__arena(s, sizeof(*b) + left);
			if (b)
				b->heap = 0;
		}
		if (!b) {
			cap = left < 4096 - sizeof(*b) ? 4096 - sizeof(*b) : left;
			b = malloc(sizeof(*b) + cap);
			if (!b) {
				lc__unlock(s);
				return -ENOMEM;
			}
			b->heap = 1;
		}
		b->next = NULL;
		b->off = 0;
		b->n = (uint32_t)left;
		b->cap = (uint32_t)cap;
		memcpy(b->data, p, left);
		if (t)
			t->next = b;
		else
			s->in_head = b;
		s->in_tail = b;
	}
	s->in_bytes += n;
	int over = s->in_bytes > LC_IN_HIGH;
	if (s->waiting)
		pthread_cond_broadcast(&s->cv);
	int shared = s->shared;
	lc__unlock(s);
	if (!shared && s->requested)
		lc_stream_note(s, LC_SE_READABLE);
	return over;
}

void
lc_stream_in_end(struct lc_stream *s, const struct lc_field *trailers, uint32_t n)
{
	lc__lock(s);
	s->in_fin = 1;
	s->in_trailers = trailers;
	s->nin_trailers = n;
	if (s->waiting)
		pthread_cond_broadcast(&s->cv);
	int shared = s->shared;
	lc__unlock(s);
	if (!shared && s->requested)
		lc_stream_note(s, LC_SE_READABLE);
}

void
lc_stream_abort(struct lc_stream *s, uint32_t reason)
{
	lc__lock(s);
	int first = !s->aborted;
	if (first) {
		s->aborted = 1;
		s->reason = reason;
		in_clear(s);
		out_clear(s);
		if (s->waiting)
			pthread_cond_broadcast(&s->cv);
	}
	lc__unlock(s);
	if (first && s->worker_ref)
		lc_stream_note(s, LC_SE_ABORT);
}

uint64_t
lc_stream_out_avail(struct lc_stream *s, int *fin)
{
	lc__lock(s);
	uint64_t n = s->out_bytes;
	/* A thread that is ahead of its own trailers: the protocol hears of them first. */
	*fin = s->out_fin && !((s->ev | s->xev) & LC_SE_TRAILERS);
	lc__unlock(s);
	return n;
}

static void
free_node(void *o)
{
	free(o);
}

/* A file of which a part is on its way while the rest waits in the queue.  All of it on the leading thread. */
struct shared_file {
	uint32_t refs, pad;
	void (*release)(void *);
	void *arg;
};

static void
file_unref(void *arg)
{
	struct shared_file *f = arg;

	if (--f->refs)
		return;
	f->release(f->arg);
	free(f);
}

/* Up to n bytes of the file in a node.  Bytes taken, 0: no room; -ENOMEM. */
static int64_t
take_file(struct lc_stream *s, struct lc_outv *v, struct lc_onode *o, uint64_t n)
{
	if (n > LC_OUTV_FILE)
		n = LC_OUTV_FILE;
	if (n < o->s.n) {
		struct shared_file *f = o->s.arg;
		if (o->s.release != file_unref) {
			f = malloc(sizeof(*f));
			if (!f)
				return -ENOMEM;
			*f = (struct shared_file){.refs = 1, .release = o->s.release, .arg = o->s.arg};
			o->s.release = file_unref;
			o->s.arg = f;
		}
		if (lc_outv_file(v, o->s.fd, o->s.off, n, file_unref, f) < 0)
			return 0;
		f->refs++;
		s->out_free -= lc_file_free(o->s.n) - lc_file_free(o->s.n - n);
		o->s.off += n;
		o->s.n -= n;
		return (int64_t)n;
	}
	if (lc_outv_file(v, o->s.fd, o->s.off, n, o->s.release, o->s.arg) < 0)
		return 0;
	s->out_free -= lc_file_free(n);
	s->out_head = o->next;
	if (!s->out_head)
		s->out_tail = NULL;
	if (o->heap)
		free(o);
	return (int64_t)n;
}

/* The usual response: one small piece without an owner (a file has one), all of it wanted, and nobody else to tell. Its
 * bytes, or 0: it is not that, or there is no room. */
static inline uint64_t
take_small(struct lc_stream *s, struct lc_outv *v, uint64_t max)
{
	struct lc_onode *o;

	if (s->shared) /* what follows belongs to the other thread, too */
		return 0;
	o = s->out_head;
	if (!o || o->next || o->heap || o->s.release || s->full || o->s.n > LC_COPY_MAX || o->s.n > max ||
	    lc_outv_copy(v, o->s.p, o->s.n) < 0)
		return 0;
	s->out_head = s->out_tail = NULL;
	s->out_bytes = 0;
	s->sent += o->s.n;
	return o->s.n;
}

int64_t
lc_stream_out_take(struct lc_stream *s, struct lc_outv *v, uint64_t max)
{
	uint64_t done = take_small(s, v, max);
	int failed = 0;

	if (done)
		return (int64_t)done;
	lc__lock(s);
	while (s->out_head && done < max) {
		struct lc_onode *o = s->out_head;
		uint64_t n = o->s.n < max - done ? o->s.n : max - done;
		int whole = n == o->s.n;
		if (o->s.fd >= 0) {
			int64_t k = take_file(s, v, o, n);
			if (k <= 0) {
				failed = k < 0;
				break;
			}
			done += (uint64_t)k;
			continue;
		}
		/* What nobody releases (arena, static memory) may end with the stream, before it is sent: copied. */
		if (n <= LC_COPY_MAX || !whole || (!o->heap && !o->s.release)) {
			uint64_t room = lc_outv_room(v);
			if (n > room) {
				v->limit = 1;
				n = room;
				whole = 0;
			}
			if (n == 0)
				break;
			lc_outv_copy(v, o->s.p, n);
			o->s.p += n;
			o->s.n -= n;
			o->cap = 0; /* appending goes by the start of data */
			if (whole) {
				s->out_head = o->next;
				if (!s->out_head)
					s->out_tail = NULL;
				if (o->s.release)
					o->s.release(o->s.arg);
				if (o->heap)
					free(o);
			}
		} else {
			/* by reference: the node (its bytes, or the owner's) lives until it is sent */
			void (*rel)(void *) = o->s.release;
			void *arg = o->s.arg;
			if (!rel && o->heap) {
				rel = free_node;
				arg = o;
			}
			if (lc_outv_ref(v, o->s.p, n, rel, arg) < 0)
				break;
			s->out_head = o->next;
			if (!s->out_head)
				s->out_tail = NULL;
			if (o->s.release && o->heap)
				free(o);
		}
		done += n;
	}
	s->out_bytes -= done;
	s->sent += done;
	int writable = 0;
	if (s->full && s->out_bytes - s->out_free <= LC_OUT_LOW) {
		s->full = 0;
		writable = 1;
		if (s->waiting)
			pthread_cond_broadcast(&s->cv);
	}
	int shared = s->shared;
	lc__unlock(s);
	if (writable && !shared && s->worker_ref)
		lc_stream_note(s, LC_SE_WRITABLE);
	return failed && !done ? -ENOMEM : (int64_t)done;
}
