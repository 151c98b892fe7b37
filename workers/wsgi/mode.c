/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/wsgi/mode.c - inline until proven slow, pool until proven fast.  See mode.h.
 */
#include "mode.h"

#include <string.h>

void
mode_init(struct mode *m)
{
	memset(m, 0, sizeof(*m));
	m->need = MODE_NEED_MIN;
}

static void
to_pool(struct mode *m)
{
	__atomic_store_n(&m->is_inline, 0, __ATOMIC_RELAXED);
	m->run = 0;
	m->switches++;
}

int
mode_pool_call(struct mode *m, uint64_t ns, uint64_t now)
{
	m->calls += m->calls < MODE_WARM_UP;
	if (ns >= MODE_FAST_NS)
		return 1;
	if (m->is_inline || ++m->run < m->need)
		return 0;
	__atomic_store_n(&m->is_inline, 1, __ATOMIC_RELAXED); /* read without the GIL */
	m->run = 0;
	m->mean_ns = 0;
	m->calm_since = now;
	m->watch_until = now + MODE_CALM_NS;
	m->switches++;
	return 0;
}

void
mode_pool_slow(struct mode *m, uint64_t ns, const struct mode_usage *before, const struct mode_usage *after,
	       int contended)
{
	if (after->cpu_ns - before->cpu_ns < MODE_FAST_NS) {
		if (after->waits == before->waits)
			return; /* preempted */
		if (contended && ns < MODE_GIL_NS)
			return; /* lost the GIL, maybe */
	}
	m->run = 0;
	if (m->calls == MODE_WARM_UP && m->need < MODE_NEED_SEEN)
		m->need = MODE_NEED_SEEN;
}

int
mode_batch(struct mode *m, uint32_t n, uint64_t ns, uint64_t now)
{
	uint64_t usual = m->mean_ns * n;

	/* a full batch of fast calls may well take a millisecond: what is above the usual counts */
	if (ns > n * (uint64_t)MODE_FAST_NS || ns > usual + MODE_SLOW_NS) {
		if (m->mean_ns || n == 1 || ns > n * (uint64_t)MODE_FAST_NS)
			return 1;
	}
	m->mean_ns = m->mean_ns ? m->mean_ns - m->mean_ns / 8 + ns / n / 8 : ns / n;
	if (now - m->calm_since >= MODE_CALM_NS) {
		m->calm_since = now;
		m->need = m->need / 2 > MODE_NEED_MIN ? m->need / 2 : MODE_NEED_MIN;
	}
	if (m->watch_until && now >= m->watch_until)
		m->watch_until = 0;
	return 0;
}

void
mode_batch_slow(struct mode *m, uint32_t n, uint64_t ns, uint64_t now, const struct mode_usage *before,
		const struct mode_usage *after)
{
	uint64_t usual = m->mean_ns * n, cpu;
	int waited;

	if (!before) {
		/* No sample, no verdict: leave, come back when calls are fast, and then with eyes open.
		 * (mode_pool_call() starts watching whenever it goes inline.) */
		to_pool(m);
		return;
	}
	cpu = after->cpu_ns - before->cpu_ns;
	waited = after->waits != before->waits;
	/* A batch can be a thousand calls, and its cost swings with the caches: only what doubles it, too, is one slow
	 * call and not many that were a little slower. */
	if ((waited || cpu > 2 * usual + MODE_SLOW_NS) && ns > 2 * usual + MODE_SLOW_NS) {
		m->need = m->need < MODE_NEED_MAX / 8 ? m->need * 8 : MODE_NEED_MAX;
		m->strikes++;
	} else if ((waited ? ns : cpu) < n * (uint64_t)MODE_FAST_NS) {
		m->watch_until = now + MODE_CALM_NS; /* preempted; others may follow: go on looking */
		return;
	}
	to_pool(m);
}

void
mode_blocked(struct mode *m)
{
	to_pool(m);
}
