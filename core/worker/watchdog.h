/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/watchdog.h - a thread that gives the worker's sign of life while the leading thread is inside a call.
 *
 * The loop's own heartbeat is a timer, so a call on the leading thread is silence while it lasts; it is for
 * request_timeout to judge calls, never for heartbeat_timeout.  The watchdog looks at the loop's token: only CALL is
 * excused.  A loop that hangs by itself, and a process that is stopped, stay silent.
 */
#ifndef LC_CORE_WORKER_WATCHDOG_H
#define LC_CORE_WORKER_WATCHDOG_H

#include "loop/loop.h"

struct lc_watchdog {
	struct lc_loop *loop;
	_Atomic uint64_t beat_at; /* ns, CLOCK_MONOTONIC: the leading thread's last sign of life; its to set */
	uint64_t interval;        /* ms between signs of life */
	/* On the watchdog's thread: nothing was said for `ms`, because the leading thread is inside a call. */
	void (*speak)(struct lc_watchdog *, uint64_t ms);
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t cv;
	int stop, running;
};

/* The caller has set loop, interval and speak.  0 or -errno. */
int lc_watchdog_start(struct lc_watchdog *);
void lc_watchdog_stop(struct lc_watchdog *); /* waits for the thread; nothing if it was not started */

#endif
