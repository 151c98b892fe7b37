/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/watchdog.c - see watchdog.h.  The thread touches the token and beat_at, and what speak() does: nothing of
 * the loop.
 */
#include "worker/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define STACK (128u << 10)

/* Late by half: the leading thread, if it lives, has said so itself. */
static void
look(struct lc_watchdog *d)
{
	uint64_t at = atomic_load_explicit(&d->beat_at, memory_order_relaxed), now = lc_now_ns();
	uint64_t ms = now > at ? (now - at) / 1000000 : 0;

	if (ms >= d->interval + d->interval / 2 &&
	    (atomic_load_explicit(&d->loop->token, memory_order_relaxed) & 3) == LC_TOKEN_CALL)
		d->speak(d, ms);
}

static void *
watch(void *arg)
{
	struct lc_watchdog *d = arg;
	struct timespec until;

	pthread_mutex_lock(&d->mu);
	while (!d->stop) {
		uint64_t at = lc_now_ns() + d->interval * 1000000;
		until.tv_sec = (time_t)(at / 1000000000);
		until.tv_nsec = (long)(at % 1000000000);
		if (pthread_cond_timedwait(&d->cv, &d->mu, &until) != ETIMEDOUT)
			continue;
		pthread_mutex_unlock(&d->mu);
		look(d);
		pthread_mutex_lock(&d->mu);
	}
	pthread_mutex_unlock(&d->mu);
	return NULL;
}

int
lc_watchdog_start(struct lc_watchdog *d)
{
	pthread_condattr_t ca;
	pthread_attr_t attr;
	sigset_t all, old;

	pthread_mutex_init(&d->mu, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cv, &ca);
	pthread_condattr_destroy(&ca);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all); /* signals are for the application's threads */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&d->thread, &attr, watch, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	d->running = r == 0;
	return -r;
}

void
lc_watchdog_stop(struct lc_watchdog *d)
{
	if (!d->running)
		return;
	pthread_mutex_lock(&d->mu);
	d->stop = 1;
	pthread_cond_signal(&d->cv);
	pthread_mutex_unlock(&d->mu);
	pthread_join(d->thread, NULL);
	pthread_cond_destroy(&d->cv);
	pthread_mutex_destroy(&d->mu);
	d->running = 0;
}
