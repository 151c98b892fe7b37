/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/watch.h - the watchdog: one thread of a worker that is never in a call.
 *
 * While the leading thread is inside a call it sends the heartbeats in its place: heartbeat_timeout judges the loop,
 * not the application.  What the loop itself does is none of its business: a loop that hangs is silent.  It finds calls
 * that last longer than request_timeout, and it takes the signal that asks for the application's stacks.
 */
#ifndef LC_CORE_WORKER_WATCH_H
#define LC_CORE_WORKER_WATCH_H

#include <licorne/worker.h>

#include "flight/flight.h"
#include "loop/loop.h"
#include "worker/control.h"

struct lc_watch_opts {
	struct lc_loop *loop;
	struct lc_ctl *ctl;
	struct lc_fl *flight;       /* NULL: calls are not judged */
	const struct lc_worker *wk; /* overdue() */
	void *w;
	uint64_t beat_ms, request_timeout_ms; /* 0: no limit */
};
struct lc_watch;

int lc_watch_start(struct lc_watch **ret, const struct lc_watch_opts *); /* 0 or -errno */
void lc_watch_stop(struct lc_watch *);                                   /* joins the thread; takes NULL */

#endif
