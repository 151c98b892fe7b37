/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.c - the event loop itself: batches, posted work, who leads.  See loop.h for the rules.
 */
#include "loop/loop.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LATER_TICKS (4 * LC_TICKS_300US)

_Thread_local struct lc_loop *lc_lead_tls;

/* timer.c */
void lc__timer_run(struct lc_loop *);
int lc__timer_timeout(struct lc_loop *);
void lc__timer_done(struct lc_loop *);

uint64_t
lc_loop_clock(struct lc_loop *l)
{
	l->now = lc_now_ns();
	l->now_tick = lc_ticks();
	return l->now;
}

/* Edge-triggered and never read: each write is a new edge, so waking costs one system call, and no read. */
static void
wake_fired(struct lc_ev *ev, uint32_t events)
{
	(void)ev;
	(void)events;
}

static inline struct lc_ev *
batch_ev(const struct epoll_event *e)
{
	return (struct lc_ev *)(uintptr_t)(e->data.u64 & ~UINT64_C(1));
}

/* Level-triggered, so what is not looked at now is reported again.  One that dies here is freed after the loop's batch,
 * of which this is a part. */
static void
later_fired(struct lc_ev *ev, uint32_t events)
{
	struct lc_loop *l = (struct lc_loop *)((char *)ev - offsetof(struct lc_loop, later_ev));
	struct epoll_event batch[LC_LOOP_LATER];
	uint64_t begun = lc_ticks();

	(void)events;
	int n = epoll_wait(l->later_ep, batch, LC_LOOP_LATER, 0);
	for (int k = 0; k < n; k++) {
		struct lc_ev *one = batch_ev(&batch[k]);
		one->fn(one, batch[k].events);
		if (!lc_loop_leading(l) || lc_ticks() - begun > LATER_TICKS)
			return;
	}
}

int
lc_loop_init(struct lc_loop *l)
{
	int r;

	memset(l, 0, sizeof(*l));
	l->next_at = UINT64_MAX;
	pthread_mutex_init(&l->lead_mu, NULL);
	l->ep = epoll_create1(EPOLL_CLOEXEC);
	l->later_ep = epoll_create1(EPOLL_CLOEXEC);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = l->ep < 0 || l->later_ep < 0 || l->wake_fd < 0 ? -errno : 0;
	l->wake_ev = (struct lc_ev){.fn = wake_fired, .fd = l->wake_fd};
	l->later_ev = (struct lc_ev){.fn = later_fired, .fd = l->later_ep};
	l->polled = lc_loop_clock(l);
	if (r == 0)
		r = lc_ev_set(l, &l->wake_ev, EPOLLIN | EPOLLET, 0);
	if (r == 0)
		r = lc_ev_set(l, &l->later_ev, EPOLLIN, 0);
	if (r < 0)
		lc_loop_done(l);
	return r;
}

void
lc_loop_done(struct lc_loop *l)
{
	while (l->dead) {
		struct lc_dead *d = l->dead;
		l->dead = d->next;
		d->free(d);
	}
	lc__timer_done(l);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->later_ep >= 0)
		close(l->later_ep);
	if (l->ep >= 0)
		close(l->ep);
	pthread_mutex_destroy(&l->lead_mu);
}

void
lc_loop_post(struct lc_loop *l, struct lc_post *p)
{
	struct lc_post *old = atomic_load_explicit(&l->posted, memory_order_relaxed);

	do
		p->next = old;
	while (!atomic_compare_exchange_weak_explicit(&l->posted, &old, p, memory_order_release, memory_order_relaxed));
	/* The leader looks at the list before it sleeps, so its own posts need no wake-up; nor does a list that
	 * somebody has already woken it for. */
	if (!old && !lc_loop_leading(l)) {
		uint64_t one = 1;
		while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
}

/* What is posted from here on waits for the next batch: threads that post all the time hold up neither sockets nor
 * timers. */
static void
take_posts(struct lc_loop *l)
{
	if (l->posts || !atomic_load_explicit(&l->posted, memory_order_relaxed))
		return;
	struct lc_post *p = atomic_exchange_explicit(&l->posted, NULL, memory_order_acquire);
	while (p) { /* newest first -> oldest first */
		struct lc_post *next = p->next;
		p->next = l->posts;
		l->posts = p;
		p = next;
	}
}

void
lc_loop_free_later(struct lc_loop *l, struct lc_dead *d, void (*fn)(struct lc_dead *))
{
	LC_ASSERT(lc_loop_leading(l));
	d->free = fn;
	d->next = l->dead;
	l->dead = d;
}

int
lc_ev_set(struct lc_loop *l, struct lc_ev *ev, uint32_t events, int first)
{
	struct epoll_event e = {.events = events & ~LC_EV_LATER};
	int op, r;

	if (ev->armed == events)
		return 0;
	if (ev->armed && events && (ev->armed ^ events) & LC_EV_LATER && (r = lc_ev_set(l, ev, 0, first)) < 0)
		return r; /* from one to the other */
	e.data.u64 = (uint64_t)(uintptr_t)ev | (first ? 1 : 0);
	op = !ev->armed ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
	if (epoll_ctl((events | ev->armed) & LC_EV_LATER ? l->later_ep : l->ep, op, ev->fd, &e) < 0)
		return -errno;
	ev->armed = events;
	return 0;
}

/* Listeners first: a connection that waits for accept costs its client more than one that is already ours. */
static void
listeners_first(struct lc_loop *l)
{
	uint32_t front = 0;

	for (uint32_t k = 0; k < l->n; k++) {
		if (!(l->batch[k].data.u64 & 1))
			continue;
		if (k != front) {
			struct epoll_event t = l->batch[front];
			l->batch[front] = l->batch[k];
			l->batch[k] = t;
		}
		front++;
	}
}

static int
lead_run(struct lc_loop *l)
{
	for (;;) {
		while (l->i < l->n) {
			struct epoll_event *e = &l->batch[l->i++];
			struct lc_ev *ev = batch_ev(e);
			ev->fn(ev, e->events);
			if (!lc_loop_leading(l))
				return 1;
		}
		take_posts(l);
		while (l->posts) {
			struct lc_post *p = l->posts;
			l->posts = p->next;
			p->fn(p);
			if (!lc_loop_leading(l))
				return 1;
		}
		lc__timer_run(l);
		if (!lc_loop_leading(l))
			return 1;
		l->i = l->n = 0;
		while (l->dead) {
			struct lc_dead *d = l->dead;
			l->dead = d->next;
			d->free(d);
		}
		if (l->batch_end)
			l->batch_end(l->arg);
		if (l->stop)
			return 0;
		int ms = lc__timer_timeout(l);
		if (l->posts || l->dead || atomic_load_explicit(&l->posted, memory_order_relaxed))
			ms = 0;
		lc_loop_token(l, LC_TOKEN_IDLE);
		int n = epoll_wait(l->ep, l->batch, LC_LOOP_BATCH, ms);
		lc_loop_token(l, LC_TOKEN_LOOP);
		l->polled = lc_loop_clock(l);
		l->n = n > 0 ? (uint32_t)n : 0; /* EINTR: an empty batch */
		if (l->n > 1)
			listeners_first(l);
	}
}

int
lc_loop_lead(struct lc_loop *l)
{
	pthread_mutex_lock(&l->lead_mu);
	lc_lead_tls = l;
	int r = lead_run(l);
	if (r == 0) {
		lc_lead_tls = NULL;
		pthread_mutex_unlock(&l->lead_mu);
	}
	return r;
}

void
lc_loop_hand_on(struct lc_loop *l)
{
	LC_ASSERT(lc_loop_leading(l));
	uint64_t w = atomic_load_explicit(&l->token, memory_order_relaxed);
	atomic_store_explicit(&l->token, ((w >> 2) + 1) << 2 | LC_TOKEN_LOOP, memory_order_relaxed);
	lc_lead_tls = NULL;
	pthread_mutex_unlock(&l->lead_mu);
}

void
lc_loop_stop(struct lc_loop *l)
{
	LC_ASSERT(lc_loop_leading(l));
	l->stop = 1;
}
