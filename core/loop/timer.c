/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timer.c - timers in O(1): one list per (duration, function), each in order of expiry because durations are equal.
 *
 * A server uses a handful of durations, those of its time-out directives, so classes are few and never freed.  next_at
 * is a lower bound: it may be early, never late.
 */
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

#include "loop/loop.h"

void lc__timer_run(struct lc_loop *);
int lc__timer_timeout(struct lc_loop *);
void lc__timer_done(struct lc_loop *);

static void
insert_before(struct lc_timer *pos, struct lc_timer *t)
{
	t->prev = pos->prev;
	t->next = pos;
	pos->prev->next = t;
	pos->prev = t;
}

void
lc_timer_cancel(struct lc_timer *t)
{
	if (!t->next)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

static struct lc_tclass *
class_for(struct lc_loop *l, uint64_t ms, lc_timer_fn *fn)
{
	struct lc_tclass *c;

	for (uint32_t k = 0; k < l->ntc; k++) {
		c = l->tc[k];
		if (c->ms != ms || c->fn != fn)
			continue;
		if (k > 3) { /* keep the busy ones in front */
			l->tc[k] = l->tc[k / 2];
			l->tc[k / 2] = c;
		}
		return c;
	}
	struct lc_tclass **tc = realloc(l->tc, (l->ntc + 1) * sizeof(*tc));
	c = malloc(sizeof(*c));
	if (!tc || !c)
		abort(); /* a few dozen bytes at start-up: nothing would work from here */
	l->tc = tc;
	c->head.prev = c->head.next = &c->head;
	c->ms = ms;
	c->fn = fn;
	l->tc[l->ntc++] = c;
	return c;
}

void
lc_timer_arm(struct lc_loop *l, struct lc_timer *t, uint64_t ms, lc_timer_fn *fn)
{
	LC_ASSERT(lc_loop_leading(l) || !l->n);
	lc_timer_cancel(t);
	t->at = lc_loop_ms(l) + ms;
	insert_before(&class_for(l, ms, fn)->head, t);
	if (t->at < l->next_at)
		l->next_at = t->at;
}

void
lc__timer_done(struct lc_loop *l)
{
	for (uint32_t k = 0; k < l->ntc; k++)
		free(l->tc[k]);
	free(l->tc);
	l->tc = NULL;
	l->ntc = 0;
}

/*
 * Expired timers, one at a time and from the loop's own lists: the lead may be handed on inside fn.
 *
 * Expired as of when events were collected last, not by now: a call in this batch may have taken long, and what came
 * meanwhile (the request that an idle connection's timer waits for) is to be seen before the timer.
 */
void
lc__timer_run(struct lc_loop *l)
{
	uint64_t now = l->polled / 1000000;

	if (now < l->next_at)
		return;
	for (uint32_t k = 0; k < l->ntc; k++) {
		struct lc_tclass *c = l->tc[k];
		while (c->head.next != &c->head && c->head.next->at <= now) {
			struct lc_timer *t = c->head.next;
			lc_timer_fn *fn = c->fn;
			lc_timer_cancel(t);
			fn(t);
			if (!lc_loop_leading(l))
				return; /* next_at is still in the past: the new leader goes on here */
		}
	}
	uint64_t next = UINT64_MAX;
	for (uint32_t k = 0; k < l->ntc; k++)
		if (l->tc[k]->head.next != &l->tc[k]->head && l->tc[k]->head.next->at < next)
			next = l->tc[k]->head.next->at;
	l->next_at = next;
}

/* For epoll_wait: ms until next_at; -1: for ever. */
int
lc__timer_timeout(struct lc_loop *l)
{
	uint64_t now = lc_loop_ms(l);

	if (l->next_at == UINT64_MAX)
		return -1;
	if (l->next_at <= now)
		return 0;
	return l->next_at - now > INT_MAX ? INT_MAX : (int)(l->next_at - now);
}
