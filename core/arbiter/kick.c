/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/kick.c - connections that wait although somebody could take them.
 *
 * The kernel wakes one process per connection.  If that one dies, is stopped or leaves the queue before it has
 * accepted, nobody else is told: the connection waits for the next one.  So the arbiter, which has all listening
 * sockets, looks at their queues ten times a second, and when a worker says that it cannot take what waits.  Where
 * something has waited for a whole tick it tells the worker with the least to do to queue up anew, which finds what is
 * there; a tick later all the others.
 *
 * Usually, when connections wait, all workers are busy, and stay so for a while: who was told and has not turned its
 * loop since (a heartbeat that is its own, which it sends at once) is not told again, so that no more than one of these
 * waits in a channel.
 */
#include <poll.h>
#include <stdlib.h>

#include "arbiter/priv.h"

#define TICK_MS 100
#define AT_ONCE 64u /* sockets per poll() */

static bool
can_take(const struct lc__proc *p, const struct lc__sock *s)
{
	if (p->kind != &lc__worker_kind || p->state != LC_PS_READY || p->told || p->kicked || p->diag ||
	    !lc__proc_configured(p))
		return false;
	for (uint32_t i = 0; i < p->pool->nlisteners; i++)
		if (p->pool->listeners[i].sock == s)
			return true;
	return false;
}

static void
kick(struct lc__proc *p)
{
	if (lcimsg_send(p->chan, LC_MSG_KICK, 0, NULL, 0, NULL, 0, 0) >= 0)
		p->kicked = true;
}

/* Of those that serve this socket the one with the least to do; or all.  `but` has said that it cannot. */
static void
kick_some(const struct lc__arb *a, const struct lc__sock *s, const struct lc__proc *but, bool all)
{
	struct lc__proc *best = NULL;

	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];

		if (p == but || !can_take(p, s))
			continue;
		if (all)
			kick(p);
		else if (!best || p->beat.inflight < best->beat.inflight ||
			 (p->beat.inflight == best->beat.inflight && p->beat.conns < best->beat.conns))
			best = p;
	}
	if (best)
		kick(best);
}

int64_t
lc__kick_deadline(const struct lc__arb *a)
{
	return a->stopping || !a->socks ? INT64_MAX : a->kick_at;
}

void
lc__kick_turn(struct lc__arb *a)
{
	struct pollfd v[AT_ONCE];
	struct lc__sock *first = a->socks, *s;

	if (lc__kick_deadline(a) > a->now)
		return;
	a->kick_at = a->now + TICK_MS;
	while (first) {
		nfds_t n = 0, i = 0;

		for (s = first; s && n < AT_ONCE; s = s->next)
			v[n++] = (struct pollfd){.fd = s->fd, .events = POLLIN};
		if (poll(v, n, 0) < 0)
			return;
		for (s = first; i < n; s = s->next, i++) {
			if (!(v[i].revents & POLLIN)) {
				s->waited = 0;
				continue;
			}
			if (s->waited)
				kick_some(a, s, NULL, s->waited > 1);
			s->waited += s->waited < 2;
		}
		first = s;
	}
}

void
lc__kick_asked(struct lc__arb *a, const struct lc__proc *p)
{
	for (uint32_t i = 0; !a->stopping && i < p->pool->nlisteners; i++) {
		const struct lc__sock *s = p->pool->listeners[i].sock;
		struct pollfd v = {.fd = s->fd, .events = POLLIN};

		if (poll(&v, 1, 0) == 1 && (v.revents & POLLIN))
			kick_some(a, s, p, false);
	}
}
