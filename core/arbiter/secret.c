/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/secret.c - the secret that the processes of a pool share, and that modules make keys of.
 *
 * Random, never on disk, replaced every secret_rotation.  A process knows two, the one in use and the one before; what
 * was made with older ones cannot be opened by anybody.  A process that has not read SECRET yet is merely a moment
 * behind.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "arbiter/priv.h"
#include "log/log.h"

static int
draw(uint8_t to[LC_SECRET])
{
	if (getrandom(to, LC_SECRET, 0) == (ssize_t)LC_SECRET)
		return 0;
	lc_log(LC_LOG_CRIT, "the system has no random bytes: %m");
	return -EIO;
}

int
lc__secret_init(struct lc__pool *pool, int64_t now)
{
	pool->secret.until = now + (int64_t)pool->conf->secret_rotation;
	return draw(pool->secret.now) < 0 || draw(pool->secret.before) < 0 ? -EIO : 0;
}

int64_t
lc__secret_deadline(const struct lc__arb *a)
{
	int64_t next = INT64_MAX;

	for (uint32_t i = 0; i < a->npools; i++)
		if (a->pools[i].secret.until < next)
			next = a->pools[i].secret.until;
	return next;
}

static void
tell(struct lc__arb *a, const struct lc__pool *pool)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];
		lcimsg_msg *m;
		int r;

		if (p->pool != pool || !p->chan || p->chan_eof ||
		    (p->state != LC_PS_STARTING && p->state != LC_PS_READY && p->state != LC_PS_DRAINING))
			continue;
		m = lcimsg_msg_new(LC_MSG_SECRET, 0);
		lcimsg_put_bytes(m, pool->secret.now, LC_SECRET);
		r = lcimsg_submit(p->chan, m);
		if (r < 0)
			lc_log(LC_LOG_WARN, "worker %s/%u (pid %ld) goes on with its old secret: %s", p->pool->name,
			       p->index, (long)p->pid, strerror(-r));
	}
}

void
lc__secret_rotate(struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->npools; i++) {
		struct lc__pool *pool = &a->pools[i];
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
		lc_log(LC_LOG_DEBUG, "pool %s has a new secret", pool->name);
	}
}
