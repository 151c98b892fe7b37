/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/respawn.c - when a slot gets its next process: after a death, or because the one it has has had enough.
 *
 * After a death: at once if it had worked well, else after a delay of its slot that doubles.  A pool that loses many
 * processes in a short time is degraded: its own delay, which doubles with each further death, holds for all its
 * slots.  Neither touches a process that serves.
 *
 * max_requests, max_rss and max_age: the slot gets a new entry, the heir; the old process is marked `leaving`, serves
 * until the heir is READY and drains then.  One heir per pool at a time, so that a pool whose processes are equally old
 * is renewed one by one.  An heir that cannot start is tried again like any other while the old one serves on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define CRASH_SPAN 30000 /* ms in which the deaths of a pool are counted */
#define CRASHES 5u       /* so many of them are borne, or one for each process */
#define RSS_SAMPLES 2u   /* one peak is none of max_rss's business */

/* 0 for the first failure of what had worked, then MIN, 2 MIN, ... MAX, less up to a quarter so that many do not march
 * in step. */
uint32_t
lc__respawn_delay(uint32_t failures, uint64_t min, uint64_t max, uint32_t rnd)
{
	uint64_t d = min;

	if (failures == 0)
		return 0;
	while (--failures > 0 && d < max)
		d *= 2;
	if (d > max)
		d = max;
	d -= d / 4 * (rnd % 1024) / 1024;
	return d > UINT32_MAX ? UINT32_MAX : (uint32_t)d;
}

uint32_t
lc__rnd(struct lc__arb *a)
{
	a->rnd ^= a->rnd << 13;
	a->rnd ^= a->rnd >> 7;
	a->rnd ^= a->rnd << 17;
	return (uint32_t)(a->rnd >> 32);
}

/* ---- after a death ---- */

/* By how many the pool's deaths in the last while are too many. */
static uint32_t
too_many(const struct lc__arb *a, const struct lc__pool *pool)
{
	uint32_t most = pool->target > CRASHES ? pool->target : CRASHES, n = 0;

	if (most >= LC__CRASHES)
		most = LC__CRASHES - 1;
	for (uint32_t i = 0; i < pool->ncrashes && i < LC__CRASHES; i++)
		n += a->now - pool->crashes[i] < CRASH_SPAN;
	return n > most ? n - most : 0;
}

/* By how many they are, and what that makes of the pool. */
static uint32_t
intensity(struct lc__arb *a, struct lc__pool *pool)
{
	uint32_t excess = too_many(a, pool);
	bool was = pool->degraded;

	if (excess && !pool->degraded)
		lc_log(LC_LOG_ERROR,
		       "pool %s is degraded: too many of its processes ended within %d s; it starts them more slowly",
		       pool->name, CRASH_SPAN / 1000);
	else if (!excess && pool->degraded)
		lc_log(LC_LOG_NOTICE, "pool %s is no longer degraded", pool->name);
	pool->degraded = excess > 0;
	if (pool->degraded != was)
		lc__notify_status(a);
	return excess;
}

static uint32_t
crash(struct lc__arb *a, struct lc__pool *pool)
{
	pool->crashes[pool->ncrashes++ % LC__CRASHES] = a->now;
	if (pool->ncrashes == 2 * LC__CRASHES) /* stays full, does not run over */
		pool->ncrashes = LC__CRASHES;
	return intensity(a, pool);
}

static bool
wanted(const struct lc__arb *a, const struct lc__proc *p)
{
	return !a->stopping && !p->pool->gen->retired && !p->leaving &&
	       (p->kind == &lc__zygote_kind || p->index < p->pool->target);
}

static void
failed_on_trial(struct lc__arb *a, const struct lc__proc *p)
{
	char name[16];

	if (p->why[0])
		lc__reload_failed(a, "%s %s", p->name, p->why);
	else if (p->status_sig)
		lc__reload_failed(a, "%s was killed by %s before it could serve", p->name,
				  lc__signal_name(p->status_sig, name));
	else
		lc__reload_failed(a, "%s exited with status %d before it could serve", p->name, p->status_code);
}

void
lc__worker_ended(struct lc__arb *a, struct lc__proc *p)
{
	struct lc_msec2 range = p->pool->conf->respawn_delay;
	uint32_t delay, excess = 0;

	if (!p->was_ready && wanted(a, p)) {
		if (lc__reload_owns(a, p->pool))
			failed_on_trial(a, p);
		else
			(void)lc__arb_boot_failed(a, p->pool); /* the machine's fault, later on: worth another try */
	}
	if (!p->told && (p->status_sig || p->status_code || !p->was_ready))
		excess = crash(a, p->pool);
	if (!wanted(a, p)) {
		lc__proc_state(p, LC_PS_EMPTY);
		lc__proc_free(p);
		return;
	}
	if (p->was_ready && a->now - p->ready_at >= LC__HEALTHY)
		p->failures = 0;
	if (!p->was_ready && p->failures == 0)
		p->failures = 1;
	delay = lc__respawn_delay(p->failures, range.min, range.max, lc__rnd(a));
	if (excess) {
		uint32_t d = lc__respawn_delay(excess, range.min, range.max, lc__rnd(a));

		delay = d > delay ? d : delay;
	}
	p->failures++;
	lc__proc_state(p, LC_PS_BACKOFF);
	p->deadline = a->now + delay;
	if (delay == 0)
		lc__proc_judge(a, p);
	else
		lc_log(LC_LOG_NOTICE, "%s is started again in %.2f s", p->name, delay / 1000.0);
}

/* ---- because it has had enough ---- */

void
lc__renew_begin(struct lc__arb *a, struct lc__proc *p)
{
	const struct lc_conf_pool *c = p->pool->conf;

	p->max_requests = c->max_requests;
	if (c->max_requests && c->max_requests_jitter)
		p->max_requests += lc__rnd(a) % (c->max_requests_jitter + 1);
	p->rss_over = 0;
}

/* Resident memory in bytes; 0: it cannot be told. */
uint64_t
lc__resident(pid_t pid)
{
	unsigned long long size, pages = 0;
	char text[128];

	if (lc__proc_file(pid, "statm", text, sizeof(text)) <= 0 || sscanf(text, "%llu %llu", &size, &pages) != 2)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool
has_enough(struct lc__arb *a, struct lc__proc *p, char *why, size_t n)
{
	const struct lc_conf_pool *c = p->pool->conf;

	if (p->max_requests && p->beat.requests >= p->max_requests) {
		snprintf(why, n, "has had %llu requests (max_requests %llu)", (unsigned long long)p->beat.requests,
			 (unsigned long long)p->max_requests);
		return true;
	}
	if (c->max_age && a->now - p->ready_at >= (int64_t)c->max_age) {
		snprintf(why, n, "has served for %.0f s (max_age)", (double)(a->now - p->ready_at) / 1000.0);
		return true;
	}
	if (c->max_rss) {
		uint64_t rss = lc__resident(p->pid);

		p->rss_over = rss > c->max_rss ? p->rss_over + 1 : 0;
		snprintf(why, n, "uses %llu MB of memory (max_rss %llu MB)", (unsigned long long)(rss >> 20),
			 (unsigned long long)(c->max_rss >> 20));
		return p->rss_over >= RSS_SAMPLES;
	}
	return false;
}

void
lc__renew_look(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__proc *heir;
	char why[160];

	if (p->pool->degraded)
		(void)intensity(a, p->pool);
	if (p->state != LC_PS_READY || p->leaving || a->stopping || p->pool->gen != a->gen || a->reload.gen ||
	    p->index >= p->pool->target || !has_enough(a, p, why, sizeof(why)))
		return;
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->pool == p->pool && a->procs[i]->leaving && a->procs[i]->state == LC_PS_READY)
			return; /* one after the other */
	p->leaving = true;
	heir = lc__proc_slot(a, p->pool, p->index);
	if (!heir) {
		p->leaving = false;
		return;
	}
	lc_log(LC_LOG_NOTICE, "%s (pid %ld) %s: it is replaced", p->name, (long)p->pid, why);
	heir->starts = p->starts;
	snprintf(heir->last, sizeof(heir->last), "%s", p->last);
	lc__proc_spawn(a, heir);
}

/* Others are served by the heir, while the drain of this one ends what can be ended; the rest goes with the deadline.
 */
void
lc__renew_stuck(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__proc *heir;

	if (p->state != LC_PS_READY || p->leaving || a->stopping || p->pool->gen != a->gen)
		return; /* it ends anyway */
	p->leaving = true;
	heir = lc__proc_slot(a, p->pool, p->index);
	if (!heir) {
		p->leaving = false;
		return;
	}
	lc_log(LC_LOG_NOTICE, "%s (pid %ld) is stuck in a call: it is replaced", p->name, (long)p->pid);
	lc__proc_spawn(a, heir);
}

void
lc__renew_done(struct lc__arb *a, struct lc__proc *heir)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];

		if (p != heir && p->leaving && p->pool == heir->pool && p->index == heir->index)
			lc__proc_drain(a, p);
	}
}
