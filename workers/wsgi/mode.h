/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/wsgi/mode.h - do calls run inline or in the pool?  Pure decision, no clock and no thread of its own.
 *
 * Starts in pool mode.  `need` calls in a row that were all fast switch to inline mode; there a batch of calls that
 * took long switches back.  What "took long" means distinguishes three things that look the same on the clock: the
 * calls waited (voluntary context switches), they computed (CPU time), or the thread was preempted; the last says
 * nothing about the application and does not count.
 *
 * In pool mode a call may also have lost the GIL to another and waited for it; up to MODE_GIL_NS that says nothing
 * either. A slow call there means that a longer run is wanted (MODE_NEED_SEEN); a slow inline call is a strike: `need`
 * grows eightfold (up to 2^16), so that an application with a few slow calls in a hundred is practically never caught
 * inline a second time; ten clean seconds inline halve it again. Usage samples cost a system call, so inline batches
 * take them only while there is a suspicion: for the first ten seconds, and after each batch that looked slow.
 */
#ifndef LC_WSGI_MODE_H
#define LC_WSGI_MODE_H

#include <stdint.h>

#ifndef MODE_FAST_NS          /* set to the sky by a build that is profiled, where every call looks slow */
#define MODE_FAST_NS 200000u  /* a call that is fast; the mean of a batch that is not slow */
#define MODE_SLOW_NS 1000000u /* a single inline call that is slow */
#endif
#define MODE_NEED_MIN 256u
#define MODE_NEED_SEEN 2048u  /* after a slow call was seen: with 2 in 100 slow, such a run never happens */
#define MODE_WARM_UP 64u      /* calls that may be slow once, for what they import or connect to */
#define MODE_GIL_NS 12000000u /* what losing the GIL in a call may cost (two switch intervals) */
#define MODE_NEED_MAX (1u << 16)
#define MODE_CALM_NS UINT64_C(10000000000)

/* Of a thread: CPU time (exact, so not getrusage()'s) and voluntary context switches. */
struct mode_usage {
	uint64_t cpu_ns;
	int64_t waits;
};

struct mode {
	int is_inline;
	uint32_t calls;       /* in pool mode, up to MODE_WARM_UP */
	uint32_t need, run;   /* fast calls in a row wanted, and seen */
	uint64_t mean_ns;     /* of an inline call, moving average */
	uint64_t calm_since;  /* inline: when the current quiet stretch began */
	uint64_t watch_until; /* inline: take usage samples until then; 0: none */
	uint64_t strikes, switches;
};

void mode_init(struct mode *);
/* Pool mode: a call took ns.  Returns 1 when `after` is needed to judge it: then call mode_pool_slow();
 * contended: other calls ran or wanted to. */
int mode_pool_call(struct mode *, uint64_t ns, uint64_t now);
void mode_pool_slow(struct mode *, uint64_t ns, const struct mode_usage *before, const struct mode_usage *after,
		    int contended);

/* Inline mode: does the batch that starts now need a sample? */
static inline int
mode_watching(const struct mode *m)
{
	return m->watch_until != 0;
}
/* Inline mode: n calls took ns together.  1: judge it with mode_batch_slow(); before is NULL when no sample was taken.
 */
int mode_batch(struct mode *, uint32_t n, uint64_t ns, uint64_t now);
void mode_batch_slow(struct mode *, uint32_t n, uint64_t ns, uint64_t now, const struct mode_usage *before,
		     const struct mode_usage *after);
/* Inline mode: the loop had to wait for the GIL, or a call had to wait for its client: no fault of the calls. */
void mode_blocked(struct mode *);

#endif
