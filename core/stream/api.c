/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * api.c - the worker's side of a stream: the "stream" table.
 *
 * The leading thread notes events directly; any other thread collects them in xev under the mutex and posts
 * the stream once.  Trap: after release() from another thread the stream may be recycled as soon as the mutex
 * is free, so posting happens inside the lock and nothing follows it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stream/internal.h"

int (*lc_stream_wait_leading)(struct lc_stream *, uint32_t events, int64_t ms);
void (*lc_stream_push_leading)(struct lc_stream *);
void (*lc_stream_wake_leading)(struct lc_stream *);

/* Locked.  Other threads only. */
static void
post_events(struct lc_stream *s, uint32_t ev)
{
	s->xev |= ev;
	if (!s->posted) {
		s->posted = 1;
		lc_loop_post(s->loop, &s->post);
	}
}

/* Unlocks. */
static inline void
note_unlock(struct lc_stream *s, uint32_t ev)
{
	if (!ev) {
		lc__unlock(s);
	} else if (lc_loop_leading(s->loop)) {
		lc__unlock(s);
		lc_stream_note(s, ev);
		if (s->inready == 1)
			lc_stream_wake_leading(s);
	} else {
		LC_ASSERT(s->shared);
		post_events(s, ev);
		lc__unlock(s);
	}
}

static const struct lc_req *
api_req(struct lc_stream *s)
{
	return &s->req;
}

static void
api_share(struct lc_stream *s)
{
	LC_ASSERT(lc_loop_leading(s->loop));
	s->shared = 1;
}

/* Locked: does the client wait for 100 (Continue), and should it get it now? */
static uint32_t
continue_event(struct lc_stream *s)
{
	if (!(s->req.flags & LC_R_EXPECT) || s->continued || s->responded || s->in_fin || s->in_bytes || s->aborted)
		return 0;
	s->continued = 1;
	return LC_SE_CONTINUE;
}

static int
abort_errno(const struct lc_stream *s)
{
	return s->reason == LC_RSN_LIMIT ? -EMSGSIZE : s->reason == LC_RSN_TIMEOUT ? -ETIMEDOUT : -ECONNRESET;
}

static int64_t
api_read(struct lc_stream *s, void *buf, size_t n)
{
	uint8_t *to = buf;
	size_t done = 0;

	lc__lock(s);
	if (s->aborted) {
		int r = abort_errno(s);
		lc__unlock(s);
		return r;
	}
	while (s->in_head && done < n) {
		struct lc_inode *b = s->in_head;
		size_t k = b->n - b->off < n - done ? b->n - b->off : n - done;
		memcpy(to + done, b->data + b->off, k);
		b->off += (uint32_t)k;
		done += k;
		if (b->off == b->n) {
			s->in_head = b->next;
			if (!s->in_head)
				s->in_tail = NULL;
			if (b->heap)
				free(b);
		}
	}
	s->in_bytes -= done;
	s->in_consumed += done;
	int64_t r = done ? (int64_t)done : s->in_fin || n == 0 ? 0 : -EAGAIN;
	note_unlock(s, (done ? LC_SE_CONSUMED : 0) | (r == -EAGAIN ? continue_event(s) : 0));
	return r;
}

static uint64_t
api_avail(struct lc_stream *s, int *fin)
{
	lc__lock(s);
	uint64_t n = s->in_bytes;
	*fin = s->in_fin;
	lc__unlock(s);
	return n;
}

static const struct lc_field *
api_trailers(struct lc_stream *s, uint32_t *n)
{
	lc__lock(s);
	const struct lc_field *f = s->nin_trailers ? s->in_trailers : NULL;
	*n = s->nin_trailers;
	lc__unlock(s);
	return f;
}

static int
api_respond(struct lc_stream *s, const struct lc_head *h)
{
	lc__lock(s);
	if (s->aborted) {
		lc__unlock(s);
		return -EPIPE;
	}
	if (s->responded) {
		lc__unlock(s);
		return -EALREADY;
	}
	if (h->status >= 200) {
		s->head = *h;
		s->responded = 1;
	} else {
		struct lc_hnode *hn = lc__arena(s, sizeof(*hn));
		if (!hn) {
			lc__unlock(s);
			return -ENOMEM;
		}
		hn->next = NULL;
		hn->head = *h;
		struct lc_hnode **pp = &s->heads;
		while (*pp)
			pp = &(*pp)->next;
		*pp = hn;
	}
	note_unlock(s, LC_SE_HEAD);
	/* What is said in advance is of use in advance only. */
	if (h->status < 200 && !s->route && lc_loop_leading(s->loop))
		lc_stream_push_leading(s);
	return 0;
}

/* Locked: append one slice; ownership is taken. */
static int
push_slice(struct lc_stream *s, const struct lc_slice *sl)
{
	struct lc_onode *t = s->out_tail, *o = NULL;

	if (sl->fd >= 0) {
		/* It may still be sent when the stream is gone, so somebody must hold it; and copies are of memory. */
		if (!sl->release || (sl->flags & LC_SL_COPY) || sl->off > INT64_MAX || sl->n > INT64_MAX - sl->off)
			return -EINVAL;
	} else if ((sl->flags & LC_SL_COPY) && sl->n > LC_SLICE_MAX) {
		return -EMSGSIZE;
	}
	if (sl->flags & LC_SL_COPY) {
		if (t && t->cap >= t->s.n + sl->n) {
			memcpy(t->data + t->s.n, sl->p, sl->n);
			t->s.n += sl->n;
		} else {
			const uint8_t *data = NULL;
			if (s->out_small < 2 && sl->n <= 2048) {
				uint8_t *p = lc__arena(s, sl->n);
				if (p) {
					o = &s->onode[s->out_small++];
					o->heap = o->cap = 0;
					memcpy(p, sl->p, sl->n);
					data = p;
				}
			}
			if (!o) {
				size_t cap = sl->n < 4096 - sizeof(*o) ? 4096 - sizeof(*o) : sl->n;
				o = malloc(sizeof(*o) + cap);
				if (!o)
					return -ENOMEM;
				o->heap = 1;
				o->cap = (uint32_t)cap;
				memcpy(o->data, sl->p, sl->n);
				data = o->data;
			}
			o->s = (struct lc_slice){.p = data, .n = sl->n, .fd = -1};
		}
		if (sl->release)
			sl->release(sl->arg);
	} else {
		if (s->out_small < 2) {
			o = &s->onode[s->out_small++];
			o->heap = 0;
		} else {
			o = malloc(sizeof(*o));
			if (!o)
				return -ENOMEM;
			o->heap = 1;
		}
		o->cap = 0;
		o->s = *sl;
		if (sl->fd >= 0)
			s->out_free += lc_file_free(sl->n);
	}
	s->out_bytes += sl->n;
	if (o) {
		o->next = NULL;
		if (t)
			t->next = o;
		else
			s->out_head = o;
		s->out_tail = o;
	}
	return 0;
}

static void
drop_slices(const struct lc_slice *v, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		if (v[k].release)
			v[k].release(v[k].arg);
}

static int
api_write(struct lc_stream *s, const struct lc_slice *v, uint32_t n, uint32_t wflags)
{
	int r = 0;

	lc__lock(s);
	if (s->aborted || s->out_fin || !s->responded) {
		r = s->aborted ? -EPIPE : s->out_fin ? -EALREADY : -EINVAL; /* -EINVAL: no head yet */
		lc__unlock(s);
		drop_slices(v, n);
		return r;
	}
	for (uint32_t k = 0; k < n; k++) {
		if (v[k].n == 0)
			drop_slices(&v[k], 1);
		else
			r = push_slice(s, &v[k]);
		if (r < 0) {
			drop_slices(v + k, n - k);
			lc__unlock(s);
			return r;
		}
	}
	if (wflags & LC_W_FIN)
		s->out_fin = 1;
	else if (s->out_bytes - s->out_free >= LC_OUT_HIGH) {
		s->full = 1;
		r = 1;
	}
	note_unlock(s, LC_SE_OUT);
	/* A handler's piece goes out at the end of the turn that it was called in: it may not be delayed there. */
	if ((wflags & (LC_W_FLUSH | LC_W_FIN)) == LC_W_FLUSH && !s->route && lc_loop_leading(s->loop)) {
		lc_stream_push_leading(s);
		if (r == 1 && lc_stream_poll(s, LC_EV_WRITE))
			r = s->aborted ? -EPIPE : 0;
	}
	return r;
}

static int
api_finish(struct lc_stream *s, const struct lc_field *trailers, uint32_t n)
{
	lc__lock(s);
	if (s->aborted || s->out_fin || !s->responded) {
		int r = s->aborted ? -EPIPE : s->out_fin ? -EALREADY : -EINVAL;
		lc__unlock(s);
		return r;
	}
	s->out_fin = 1;
	s->out_trailers = trailers;
	s->nout_trailers = n;
	note_unlock(s, LC_SE_OUT | (n ? LC_SE_TRAILERS : 0));
	return 0;
}

static void
api_reset(struct lc_stream *s, uint32_t reason)
{
	lc__lock(s);
	if (s->aborted) {
		lc__unlock(s);
		return;
	}
	s->reset_reason = reason;
	note_unlock(s, LC_SE_RESET);
}

/* Locked. */
static uint32_t
events_now(const struct lc_stream *s, uint32_t events)
{
	uint32_t r = 0;

	if ((events & LC_EV_READ) && (s->in_bytes || s->in_fin))
		r |= LC_EV_READ;
	if ((events & LC_EV_WRITE) && !s->full)
		r |= LC_EV_WRITE;
	return r | (s->aborted ? LC_EV_ABORT : 0);
}

uint32_t
lc_stream_poll(struct lc_stream *s, uint32_t events)
{
	lc__lock(s);
	uint32_t r = events_now(s, events);
	lc__unlock(s);
	return r;
}

static int
wait_for(struct lc_stream *s, uint32_t events, int64_t ms)
{
	uint32_t r;

	if (lc_loop_leading(s->loop)) {
		int w = lc_stream_wait_leading(s, events, ms);
		if (w != -EAGAIN)
			return w;
		/* -EAGAIN: the lead was handed on; wait as any thread does */
	}
	struct timespec until = {0};
	if (ms >= 0) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += ms / 1000;
		until.tv_nsec += ms % 1000 * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
	}
	pthread_mutex_lock(&s->mu);
	while (!(r = events_now(s, events))) {
		s->waiting++;
		int e = ms < 0 ? pthread_cond_wait(&s->cv, &s->mu) : pthread_cond_timedwait(&s->cv, &s->mu, &until);
		s->waiting--;
		if (e == ETIMEDOUT)
			break;
	}
	pthread_mutex_unlock(&s->mu);
	return (int)r;
}

static int
api_wait(struct lc_stream *s, uint32_t events, int64_t ms)
{
	if (s->route && lc_loop_leading(s->loop))
		return -EDEADLK; /* what it waits for is the calling thread's work */
	lc__lock(s);
	uint32_t r = events_now(s, events);
	note_unlock(s, (events & LC_EV_READ) && !r ? continue_event(s) : 0);
	if (r)
		return (int)r;
	uint64_t since = lc_fl_wait(s->flight);
	int w = wait_for(s, events, ms);
	lc_fl_waited(s->flight, since);
	return w;
}

static void
api_set_user(struct lc_stream *s, void *user)
{
	s->user = user;
}

static void *
api_user(struct lc_stream *s)
{
	return s->user;
}

static void
api_release(struct lc_stream *s)
{
	lc__lock(s);
	LC_ASSERT(!s->released);
	s->released = 1;
	note_unlock(s, LC_SE_RELEASE);
}

const struct lc_stream_api lc_stream_table = {
    .size = sizeof(struct lc_stream_api),
    .req = api_req,
    .share = api_share,
    .read = api_read,
    .avail = api_avail,
    .respond = api_respond,
    .write = api_write,
    .finish = api_finish,
    .reset = api_reset,
    .wait = api_wait,
    .alloc = lc_stream_alloc,
    .set_user = api_set_user,
    .user = api_user,
    .release = api_release,
    .trailers = api_trailers,
};
