/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/wsgi/pool.h - the application threads, the lead among them, and where each call runs.
 *
 * `threads` + 1 interchangeable threads.  One of them leads the loop, up to `threads` run calls, the rest sleep.  The
 * main thread does neither: it made the interpreter, waits, and unmakes it.
 *
 * The lead.  A thread that finds it vacant takes it (before it looks at the queue).  It is vacated only by
 * pool_leader_wanted(), inside a call of the leading thread that has to wait; that call goes on as one of the pool's.
 * With `threads` calls at most there is always one thread more to lead.
 *
 * The GIL.  The leader takes it at the first inline call of a batch and drops it at the end of the batch at the
 * latest; in pool mode it never takes it.  A pool thread holds it over a call and on to the next one if there is one.
 * Nobody takes the GIL while holding `mu`; the other order is fine.
 *
 * Wake-ups are chained: at most one thread is woken-but-without-GIL; it wakes the next when it has the GIL and
 * more is queued.  (Waking one thread for each request makes them queue for the GIL instead: measured, 12 % dearer.)
 */
#ifndef LC_WSGI_POOL_H
#define LC_WSGI_POOL_H

#include "lcpy.h"
#include "mode.h"

struct pool;

int pool_new(struct pool **ret, struct lc_wctx *, const struct lc_worker_api *, uint32_t threads);
/* Main thread, GIL held on entry and return: starts the threads, returns when all are done or the deadline passed. */
int pool_run(struct pool *);
/* 1: calls are still running, the interpreter must not be touched any more. */
int pool_busy(const struct pool *);
uint32_t pool_threads(const struct pool *); /* calls at once */
void pool_free(struct pool *);

/* Leading thread. */
void pool_request(struct pool *, struct lc_stream *);
void pool_batch_end(struct pool *);
void pool_leader_wanted(struct pool *);
void pool_stop(struct pool *, uint32_t how, int64_t deadline_ms);

#endif
