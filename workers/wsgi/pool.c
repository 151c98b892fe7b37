/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/wsgi/pool.c - see pool.h.
 *
 * `running` counts calls, inline ones too; `queued` what waits.  Only the leading thread makes queued larger or starts
 * an inline call, and a pool thread counts running up before it counts queued down: so the leader that sees both at
 * zero knows that no call is outstanding.  `mode` is changed with the GIL held; the leader reads is_inline without it.
 */
#include "pool.h"

#include <sys/resource.h>
#include <time.h>

#define QUICK_MS 250 /* what calls get to notice that their clients were cut off, when we have to leave now */

struct job { /* in the stream's arena */
	struct job *next;
	struct lc_stream *stream;
};

struct thr {
	struct pool *p;
	PyThreadState *ts;
	struct thr *next_idle;
	pthread_cond_t cv;
	pthread_t tid;
	uint8_t has_gil, demoted, woken, waker, made, done;
	/* the inline batch of the leader */
	uint32_t calls;
	uint64_t began, tick; /* ns, when the GIL was there */
	uint8_t sampled;
	struct mode_usage before;
};

struct pool {
	struct lc_wctx *ctx;
	const struct lc_worker_api *wk;
	uint32_t limit, nthr, alive;
	pthread_mutex_t mu;
	pthread_cond_t done_cv;
	struct job *head, **tail;
	struct thr *idle;   /* last in, first out: the warmest first */
	struct thr *leader; /* leading thread, read by itself only */
	uint32_t running, queued;
	uint8_t led, waking, over, quit, drain, busy;
	uint64_t quit_at; /* ns */
	struct mode mode;
	struct thr *thr;
};

static uint64_t
clock_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void
usage(struct mode_usage *u)
{
	struct rusage r;
	struct timespec ts;

	/* getrusage()'s times are brought up to date at ticks and switches only: too coarse by milliseconds. */
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	(void)getrusage(RUSAGE_THREAD, &r);
	u->cpu_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	u->waits = r.ru_nvcsw;
}

static void
take_gil(struct thr *t)
{
	if (!t->has_gil) {
		PyEval_RestoreThread(t->ts);
		t->has_gil = 1;
	}
}

static void
drop_gil(struct thr *t)
{
	if (t->has_gil) {
		lcpy_drain();
		t->has_gil = 0;
		t->ts = PyEval_SaveThread();
	}
}

/* mu held: the thread to signal after unlocking, NULL. */
static struct thr *
pop_idle(struct pool *p)
{
	struct thr *t = p->idle;

	if (t) {
		p->idle = t->next_idle;
		t->woken = 1;
	}
	return t;
}

/* mu held: one more thread for the queue, if the chain is not busy already. */
static struct thr *
chain_wake(struct pool *p)
{
	struct thr *t;

	if (p->waking || !(p->head || p->drain) ||
	    (!p->drain && __atomic_load_n(&p->running, __ATOMIC_RELAXED) >= p->limit))
		return NULL;
	t = pop_idle(p);
	if (t) {
		__atomic_store_n(&p->waking, 1, __ATOMIC_RELAXED); /* pool_call() looks at it without mu */
		t->waker = 1;
	}
	return t;
}

static void
signal_thr(struct thr *t)
{
	if (t)
		(void)pthread_cond_signal(&t->cv);
}

/* The link of the chain that this thread was is done: it has the GIL, or found other work. */
static void
chain_next(struct thr *t)
{
	struct pool *p = t->p;
	struct thr *next;

	if (!t->waker)
		return;
	(void)pthread_mutex_lock(&p->mu);
	t->waker = 0;
	__atomic_store_n(&p->waking, 0, __ATOMIC_RELAXED);
	next = chain_wake(p);
	(void)pthread_mutex_unlock(&p->mu);
	signal_thr(next);
}

/* ---- calls ---- */

static void
pool_call(struct thr *t, struct lc_stream *s)
{
	struct pool *p = t->p;
	struct mode_usage before, after;
	uint64_t began, end;

	take_gil(t);
	chain_next(t);
	usage(&before);
	began = clock_ns();
	lcpy_call(s, 1);
	end = clock_ns();
	if (mode_pool_call(&p->mode, end - began, end)) {
		usage(&after);
		mode_pool_slow(&p->mode, end - began, &before, &after,
			       __atomic_load_n(&p->running, __ATOMIC_RELAXED) > 1 ||
				   __atomic_load_n(&p->waking, __ATOMIC_RELAXED));
	}
}

/* A clock of a few nanoseconds that stands still for milliseconds. */
static uint64_t
tick(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The GIL is there: inline calls are counted and timed from here. */
static void
begin_calls(struct thr *t)
{
	struct pool *p = t->p;

	t->calls = 0;
	t->tick = tick();
	t->began = p->wk->clock(p->ctx, 1);
	t->sampled = (uint8_t)mode_watching(&p->mode);
	if (t->sampled)
		usage(&t->before);
}

/* What the inline calls since begin_calls() say about the mode. */
static void
judge_calls(struct thr *t)
{
	struct pool *p = t->p;
	struct mode_usage after;
	uint64_t now, ns;

	if (!t->calls)
		return;
	now = p->wk->clock(p->ctx, 1);
	ns = now - t->began;
	if (p->mode.is_inline && mode_batch(&p->mode, t->calls, ns, now)) {
		if (t->sampled)
			usage(&after);
		mode_batch_slow(&p->mode, t->calls, ns, now, t->sampled ? &t->before : NULL, &after);
	}
	t->calls = 0;
}

/*
 * May a call run inline now?  Calls are judged at the end of a batch; but a batch can be hundreds of requests, and if
 * one of its first calls is slow the others shall not follow it: so also whenever the tick shows that time has passed.
 */
static int
may_inline(struct thr *t)
{
	struct pool *p = t->p;

	if (!__atomic_load_n(&p->mode.is_inline, __ATOMIC_RELAXED) || __atomic_load_n(&p->queued, __ATOMIC_ACQUIRE) ||
	    __atomic_load_n(&p->running, __ATOMIC_ACQUIRE))
		return 0;
	if (t->calls && tick() != t->tick) {
		judge_calls(t); /* calls: so the GIL is held */
		if (!p->mode.is_inline)
			return 0;
		begin_calls(t);
	}
	return 1;
}

static void
inline_call(struct thr *t, struct lc_stream *s)
{
	struct pool *p = t->p;

	if (!t->has_gil) {
		take_gil(t);
		begin_calls(t);
	}
	t->calls++;
	t->demoted = 0;
	__atomic_store_n(&p->running, 1, __ATOMIC_RELEASE);
	lcpy_call(s, 0);
	if (t->demoted) {
		/* somebody else leads by now, and this was a call that had to wait for its client */
		if (p->mode.is_inline)
			mode_blocked(&p->mode);
		t->calls = 0;
		drop_gil(t);
	}
	__atomic_fetch_sub(&p->running, 1, __ATOMIC_RELEASE);
}

void
pool_request(struct pool *p, struct lc_stream *s)
{
	struct thr *t = p->leader, *wake;
	struct job *j;
	int fin = 1;

	if (may_inline(t)) {
		if (p->wk->stream->req(s)->flags & LC_R_BODY)
			(void)p->wk->stream->avail(s, &fin);
		if (fin) {
			inline_call(t, s);
			return;
		}
	}
	/* The pool's threads need the GIL for it: not held by us while the rest of the batch goes on. */
	if (t->has_gil) {
		judge_calls(t);
		drop_gil(t);
	}
	j = p->wk->stream->alloc(s, sizeof(*j));
	if (!j) {
		lcpy_refuse(s);
		return;
	}
	*j = (struct job){.stream = s};
	p->wk->stream->share(s);
	(void)pthread_mutex_lock(&p->mu);
	*p->tail = j;
	p->tail = &j->next;
	__atomic_fetch_add(&p->queued, 1, __ATOMIC_RELAXED);
	wake = chain_wake(p);
	(void)pthread_mutex_unlock(&p->mu);
	signal_thr(wake);
}

void
pool_batch_end(struct pool *p)
{
	struct thr *t = p->leader, *wake;

	if (t->has_gil) {
		judge_calls(t);
		drop_gil(t);
	}
	/* Large chunks were sent and nobody has the GIL to let go of them: a pool thread shall, the loop does not wait.
	 */
	if (lcpy_drain_wanted() && !__atomic_load_n(&p->running, __ATOMIC_ACQUIRE)) {
		(void)pthread_mutex_lock(&p->mu);
		p->drain = 1;
		wake = chain_wake(p);
		(void)pthread_mutex_unlock(&p->mu);
		signal_thr(wake);
	}
}

void
pool_leader_wanted(struct pool *p)
{
	struct thr *t = p->leader, *wake;

	t->demoted = 1;
	(void)pthread_mutex_lock(&p->mu);
	p->led = 0;
	wake = pop_idle(p); /* none: a thread that is about to sleep sees the vacancy */
	(void)pthread_mutex_unlock(&p->mu);
	signal_thr(wake);
}

/* ---- threads ---- */

/* mu held. */
static void
wake_all(struct pool *p)
{
	struct thr *t;

	while ((t = pop_idle(p)))
		(void)pthread_cond_signal(&t->cv);
}

/* mu held on entry and return. */
static void
lead(struct thr *t)
{
	struct pool *p = t->p;
	int rc;

	p->led = 1;
	p->leader = t;
	(void)pthread_mutex_unlock(&p->mu);
	drop_gil(t);
	chain_next(t); /* woken for the queue, but the lead comes first */
	t->calls = 0;
	rc = p->wk->lead(p->ctx);
	drop_gil(t);
	(void)pthread_mutex_lock(&p->mu);
	if (rc != 1) {
		p->over = 1;
		wake_all(p);
	}
}

static void *
thr_main(void *arg)
{
	struct thr *t = arg;
	struct pool *p = t->p;
	PyGILState_STATE gs = PyGILState_Ensure(); /* a thread state is made in its thread */

	t->has_gil = 1;
	drop_gil(t);
	(void)pthread_mutex_lock(&p->mu);
	for (;;) {
		struct job *j;

		if (!p->led && !p->over) {
			lead(t);
			continue;
		}
		j = p->head;
		if (j && __atomic_load_n(&p->running, __ATOMIC_RELAXED) < p->limit) {
			p->head = j->next;
			if (!p->head)
				p->tail = &p->head;
			__atomic_fetch_add(&p->running, 1, __ATOMIC_ACQ_REL);
			__atomic_fetch_sub(&p->queued, 1, __ATOMIC_RELEASE);
			(void)pthread_mutex_unlock(&p->mu);
			pool_call(t, j->stream); /* j went with the stream */
			(void)pthread_mutex_lock(&p->mu);
			__atomic_fetch_sub(&p->running, 1, __ATOMIC_RELEASE);
			continue;
		}
		if (p->drain || t->has_gil || t->waker) {
			int drain = p->drain;

			p->drain = 0;
			(void)pthread_mutex_unlock(&p->mu);
			if (drain)
				take_gil(t);
			drop_gil(t);
			chain_next(t);
			(void)pthread_mutex_lock(&p->mu);
			continue; /* look again: mu was free */
		}
		if (p->over)
			break;
		t->woken = 0;
		t->next_idle = p->idle;
		p->idle = t;
		while (!t->woken)
			(void)pthread_cond_wait(&t->cv, &p->mu);
	}
	(void)pthread_mutex_unlock(&p->mu);
	PyEval_RestoreThread(t->ts);
	PyGILState_Release(gs);
	(void)pthread_mutex_lock(&p->mu);
	t->done = 1;
	p->alive--;
	(void)pthread_cond_signal(&p->done_cv);
	(void)pthread_mutex_unlock(&p->mu);
	return NULL;
}

void
pool_stop(struct pool *p, uint32_t how, int64_t deadline_ms)
{
	if (how != LC_STOP_QUIT)
		return; /* the core takes no new requests; what runs, runs */
	(void)pthread_mutex_lock(&p->mu);
	p->quit = 1;
	if (deadline_ms < 0)
		p->quit_at = UINT64_MAX;
	else
		p->quit_at = clock_ns() + (uint64_t)(deadline_ms > QUICK_MS ? deadline_ms : QUICK_MS) * 1000000u;
	(void)pthread_cond_signal(&p->done_cv);
	(void)pthread_mutex_unlock(&p->mu);
}

/* mu held: until all threads are gone, or the deadline of a stop. */
static void
wait_for_threads(struct pool *p)
{
	while (p->alive) {
		struct timespec at;

		if (!p->quit || p->quit_at == UINT64_MAX) {
			(void)pthread_cond_wait(&p->done_cv, &p->mu);
			continue;
		}
		at.tv_sec = (time_t)(p->quit_at / 1000000000u);
		at.tv_nsec = (long)(p->quit_at % 1000000000u);
		if (pthread_cond_timedwait(&p->done_cv, &p->mu, &at) == ETIMEDOUT)
			break;
	}
}

int
pool_run(struct pool *p)
{
	PyThreadState *ts = PyEval_SaveThread();
	char name[16];
	int rc = 0;

	(void)pthread_mutex_lock(&p->mu);
	for (uint32_t i = 0; i < p->nthr; i++) {
		struct thr *t = &p->thr[i];

		rc = pthread_create(&t->tid, NULL, thr_main, t);
		if (rc) {
			p->wk->log(p->ctx, LC_LOG_ERROR, "only %u of %u threads could be started: %s", i, p->nthr,
				   strerror(rc));
			break;
		}
		t->made = 1;
		p->alive++;
		(void)snprintf(name, sizeof(name), "app-%u", i);
		(void)pthread_setname_np(t->tid, name);
	}
	if (p->alive >= 2 || (p->alive && p->nthr == p->alive)) {
		rc = 0;
		if (p->limit > p->alive - 1)
			p->limit = p->alive - 1; /* one thread is always left to lead */
	} else {
		p->over = 1;
		p->led = 1;
		wake_all(p);
		rc = -rc;
	}
	wait_for_threads(p);
	p->busy = p->alive != 0;
	for (uint32_t i = 0; i < p->nthr; i++)
		p->thr[i].made &= p->thr[i].done; /* those that can be joined */
	(void)pthread_mutex_unlock(&p->mu);
	/*
	 * With calls still running, the GIL is taken and kept until the process is gone: their threads stop at the next
	 * bytecode that needs it and touch nothing of what is being taken down.
	 */
	PyEval_RestoreThread(ts);
	for (uint32_t i = 0; i < p->nthr; i++)
		if (p->thr[i].made)
			(void)pthread_join(p->thr[i].tid, NULL);
	return rc ? rc : p->busy; /* 1: nothing may be taken down */
}

int
pool_busy(const struct pool *p)
{
	return p->busy;
}

int
pool_new(struct pool **ret, struct lc_wctx *ctx, const struct lc_worker_api *wk, uint32_t threads)
{
	struct pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return -ENOMEM;
	p->ctx = ctx;
	p->wk = wk;
	p->limit = threads;
	p->nthr = threads + 1;
	p->tail = &p->head;
	mode_init(&p->mode);
	p->thr = calloc(p->nthr, sizeof(*p->thr));
	if (!p->thr) {
		free(p);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&p->mu, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->done_cv, &attr);
	(void)pthread_condattr_destroy(&attr);
	for (uint32_t i = 0; i < p->nthr; i++) {
		p->thr[i].p = p;
		(void)pthread_cond_init(&p->thr[i].cv, NULL);
	}
	*ret = p;
	return 0;
}

uint32_t
pool_threads(const struct pool *p)
{
	return p->limit;
}

void
pool_free(struct pool *p)
{
	if (!p || p->busy)
		return; /* threads still use it */
	for (uint32_t i = 0; i < p->nthr; i++)
		(void)pthread_cond_destroy(&p->thr[i].cv);
	(void)pthread_cond_destroy(&p->done_cv);
	(void)pthread_mutex_destroy(&p->mu);
	free(p->thr);
	free(p);
}
