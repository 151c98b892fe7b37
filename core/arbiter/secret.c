/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/secret.c - the secret that the processes of a pool share, and that modules make keys of.
 *
 * Random, never on disk, replaced every secret_rotation.  A process knows two, the one in use and the one before; what
 * was made with older ones cannot be opened by anybody.  A process that has not read SECRET yet is merely a moment
 * behind.
 *
 * It is the secret of the pool's name: a new generation goes on with it, and so does a successor.  While there are two
 * arbiters none is replaced, lest they have different ones.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "arbiter/priv.h"
#include "log/log.h"

static int
draw(uint8_t to[LC_SECRET])
{
	return getrandom(to, LC_SECRET, 0) == (ssize_t)LC_SECRET ? 0 : -EIO;
}

static struct lc__pool *
of_name(struct lc__gen *g, const char *name)
{
	for (uint32_t i = 0; g && i < g->npools; i++)
		if (!strcmp(g->pools[i].name, name))
			return &g->pools[i];
	return NULL;
}

int
lc__secret_init(struct lc__arb *a, struct lc__pool *pool)
{
	const struct lc__secret *old = lc__successor_secret(a, pool->name);
	const struct lc__pool *serves = of_name(a->gen, pool->name);
	int64_t until = lc__now_ms() + (int64_t)pool->conf->secret_rotation;

	if (serves)
		old = &serves->secret;
	if (old) {
		pool->secret = *old;
		if (until < pool->secret.until) /* it is to be replaced sooner than it was */
			pool->secret.until = until;
		return 0;
	}
	pool->secret.until = until;
	if (draw(pool->secret.now) == 0 && draw(pool->secret.before) == 0)
		return 0;
	lc__complain(a, "the system has no random bytes: %s", strerror(errno));
	return -EIO;
}

int64_t
lc__secret_deadline(const struct lc__arb *a)
{
	int64_t next = INT64_MAX;

	for (uint32_t i = 0; i < a->gen->npools && !a->predecessor && !lc__upgrading(a); i++)
		if (a->gen->pools[i].secret.until < next)
			next = a->gen->pools[i].secret.until;
	return next;
}

static void
tell(struct lc__arb *a, const struct lc__pool *pool)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];
		lcimsg_msg *m;
		int r;

		if (!lc__proc_configured(p) || p->kind != &lc__worker_kind || p->pool != pool)
			continue;
		m = lcimsg_msg_new(LC_MSG_SECRET, 0);
		lcimsg_put_bytes(m, pool->secret.now, LC_SECRET);
		r = lcimsg_submit(p->chan, m);
		if (r < 0)
			lc_log(LC_LOG_WARN, "%s (pid %ld) goes on with its old secret: %s", p->name, (long)p->pid,
			       strerror(-r));
	}
}

void
lc__secret_rotate(struct lc__arb *a)
{
	if (lc__secret_deadline(a) > a->now)
		return;
	for (uint32_t i = 0; i < a->gen->npools; i++) {
		struct lc__pool *pool = &a->gen->pools[i], *trial = of_name(a->reload.gen, pool->name);
		struct lc__secret *s = &pool->secret;
		uint8_t next[LC_SECRET];

		if (a->now < s->until)
			continue;
		s->until = a->now + (int64_t)pool->conf->secret_rotation;
		if (draw(next) < 0)
			continue;
		memcpy(s->before, s->now, LC_SECRET);
		memcpy(s->now, next, LC_SECRET);
		explicit_bzero(next, sizeof(next));
		tell(a, pool);
		if (trial) {
			trial->secret = *s;
			tell(a, trial);
		}
		lc_log(LC_LOG_DEBUG, "pool %s has a new secret", pool->name);
	}
}
