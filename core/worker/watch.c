/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * watch.c - see watch.h.
 *
 * It reads the loop's token and the recorder, both by atomic loads, and takes no lock that is held during a call.
 * Nothing it calls may wait: overdue() of the worker module neither.
 */
#include "worker/watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS 2000u /* that a call has to end after its exception was raised */
#define TICK_MIN 25u

struct lc_watch {
	struct lc_watch_opts o;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t cv;
	int stop;
	struct {
		uint64_t call, at; /* whose exception was raised, when: ns; 0: nobody's */
		int stuck;         /* the arbiter knows */
	} told[LC_FL_RECORDS];
};

/* Of a record: the call that is in the application now, and for how long, ns; 0: none. */
static uint64_t
call_of(const struct lc_fl_rec *r, uint64_t now, uint64_t *ret_age)
{
	uint64_t call = __atomic_load_n(&r->call, __ATOMIC_ACQUIRE);
	uint64_t began = __atomic_load_n(&r->began, __ATOMIC_ACQUIRE);
	uint8_t phase = __atomic_load_n(&r->phase, __ATOMIC_ACQUIRE);

	if (!call || phase != LC_FL_CALL || __atomic_load_n(&r->call, __ATOMIC_RELAXED) != call)
		return 0;
	*ret_age = now > began ? now - began : 0;
	return call;
}

/* ms of the oldest call, and how many requests there are. */
static uint64_t
oldest_call(const struct lc_watch *x, uint64_t now, uint32_t *ret_requests)
{
	uint64_t most = 0, age;

	*ret_requests = 0;
	for (uint32_t i = 0; x->o.flight && i < LC_FL_RECORDS; i++) {
		const struct lc_fl_rec *r = &x->o.flight->map->rec[i];

		*ret_requests += __atomic_load_n(&r->started, __ATOMIC_RELAXED) != 0;
		if (call_of(r, now, &age) && age > most)
			most = age;
	}
	return most / 1000000;
}

static void
judge_calls(struct lc_watch *x, uint64_t now)
{
	uint64_t limit = x->o.request_timeout_ms * 1000000, age;

	for (uint32_t i = 0; i < LC_FL_RECORDS; i++) {
		uint64_t call = call_of(&x->o.flight->map->rec[i], now, &age);

		if (!call || age < limit)
			continue;
		if (x->told[i].call != call) {
			x->told[i].call = call;
			x->told[i].at = now;
			x->told[i].stuck = 0;
			x->o.wk->overdue(x->o.w, call);
		} else if (!x->told[i].stuck && now - x->told[i].at >= UINT64_C(1000000) * GRACE_MS) {
			x->told[i].stuck = 1;
			lc_ctl_stuck(x->o.ctl, i, call);
		}
	}
}

static void
turn(struct lc_watch *x)
{
	uint64_t now = lc_now_ns();
	uint64_t token = atomic_load_explicit(&x->o.loop->token, memory_order_relaxed);

	if ((token & 3) == LC_TOKEN_CALL && lc_ctl_silent_ms(x->o.ctl) >= x->o.beat_ms) {
		uint32_t requests;
		uint64_t age = oldest_call(x, now, &requests);

		lc_ctl_beat_again(x->o.ctl, age > UINT32_MAX ? UINT32_MAX : age ? (uint32_t)age : 1, requests);
	}
	if (x->o.request_timeout_ms)
		judge_calls(x, now);
}

static void *
watch_main(void *arg)
{
	struct lc_watch *x = arg;
	uint64_t tick = x->o.beat_ms / 2, fine = x->o.request_timeout_ms / 8;
	struct timespec at;

	(void)pthread_setname_np(pthread_self(), "watchdog");
	if (x->o.flight)
		__atomic_store_n(&x->o.flight->map->watcher, lc_fl_thread(), __ATOMIC_RELAXED);
	if (x->o.request_timeout_ms && fine < tick)
		tick = fine;
	if (tick < TICK_MIN)
		tick = TICK_MIN;
	(void)pthread_mutex_lock(&x->mu);
	while (!x->stop) {
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += (time_t)(tick / 1000);
		at.tv_nsec += (long)(tick % 1000) * 1000000;
		if (at.tv_nsec >= 1000000000) {
			at.tv_sec++;
			at.tv_nsec -= 1000000000;
		}
		while (!x->stop && pthread_cond_timedwait(&x->cv, &x->mu, &at) != ETIMEDOUT)
			;
		if (x->stop)
			break;
		(void)pthread_mutex_unlock(&x->mu);
		turn(x);
		(void)pthread_mutex_lock(&x->mu);
	}
	(void)pthread_mutex_unlock(&x->mu);
	return NULL;
}

int
lc_watch_start(struct lc_watch **ret, const struct lc_watch_opts *o)
{
	struct lc_watch *x = calloc(1, sizeof(*x));
	pthread_condattr_t attr;
	sigset_t all, old;
	int r;

	if (!x)
		return -ENOMEM;
	x->o = *o;
	if (!x->o.flight || !x->o.wk || !x->o.wk->overdue)
		x->o.request_timeout_ms = 0;
	(void)pthread_mutex_init(&x->mu, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&x->cv, &attr);
	(void)pthread_condattr_destroy(&attr);
	/* The application's signals are for its threads; ours is the one that the arbiter sends, and what kills. */
	sigfillset(&all);
	sigdelset(&all, LC_FL_SIGNAL);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&x->thread, NULL, watch_main, x);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		(void)pthread_cond_destroy(&x->cv);
		(void)pthread_mutex_destroy(&x->mu);
		free(x);
		return -r;
	}
	*ret = x;
	return 0;
}

void
lc_watch_stop(struct lc_watch *x)
{
	if (!x)
		return;
	(void)pthread_mutex_lock(&x->mu);
	x->stop = 1;
	(void)pthread_cond_signal(&x->cv);
	(void)pthread_mutex_unlock(&x->mu);
	(void)pthread_join(x->thread, NULL);
	if (x->o.flight)
		__atomic_store_n(&x->o.flight->map->watcher, 0, __ATOMIC_RELAXED);
	(void)pthread_cond_destroy(&x->cv);
	(void)pthread_mutex_destroy(&x->mu);
	free(x);
}
