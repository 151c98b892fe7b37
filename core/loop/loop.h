/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/loop/loop.h - the event loop: epoll, posted work, timers, and the lead.
 *
 * One thread at a time leads a loop: it holds the lead mutex and lc_lead_tls names the loop.  The lead may change
 * hands between any two events, and inside an event when the leading thread is about to wait in a call
 * (lc_loop_hand_on).  Therefore the position in the batch, the posted work and the timers all live in the
 * loop, never on a stack, and whoever calls something that may run application code asks lc_loop_leading()
 * afterwards and unwinds without touching loop-owned state when it is false.
 *
 * Trap: an object named by an event later in the batch may die earlier in it.  Owners put its `fn` out of
 * action and free it by lc_loop_free_later(), after the batch.
 */
#ifndef LC_CORE_LOOP_LOOP_H
#define LC_CORE_LOOP_LOOP_H

#include <licorne/abi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <time.h>

/* Work for the leading thread.  Intrusive; an entry is in the list at most once (its owner's duty). */
struct lc_post {
	struct lc_post *next;
	void (*fn)(struct lc_post *);
};

/* An fd in the loop.  The low bit of epoll's data marks those that go first in a batch (listeners). */
struct lc_ev {
	void (*fn)(struct lc_ev *, uint32_t events);
	int fd;
	uint32_t armed; /* events as epoll knows them; 0: not registered */
};

/* A timer: 24 bytes, armed when next != NULL.  Equal durations with the same fn share a list in order of expiry, so
 * arming and cancelling are O(1). */
struct lc_timer {
	struct lc_timer *prev, *next;
	uint64_t at; /* ms of the loop's clock */
};
typedef void lc_timer_fn(struct lc_timer *);

struct lc_tclass {
	struct lc_timer head;
	uint64_t ms;
	lc_timer_fn *fn;
};

/* What is freed after the batch: the object starts with this. */
struct lc_dead {
	struct lc_dead *next;
	void (*free)(struct lc_dead *);
};

/* States of the token word (seq << 2 | state): what the leading thread is doing. */
#define LC_TOKEN_LOOP 0u
#define LC_TOKEN_CALL 1u /* inside a worker module's call */
#define LC_TOKEN_IDLE 2u /* in epoll_wait */

#define LC_LOOP_BATCH 256

/* Among the events of lc_ev_set(): of those with this mark at most LC_LOOP_LATER have their turn between two batches,
 * and none begins when they have taken LATER_TICKS together: what is expensive and may come in thousands (handshakes)
 * does not hold up the rest.  They wait in an epoll of their own, which is one descriptor of the loop's. */
#define LC_EV_LATER (1u << 27) /* no bit of epoll's */
#define LC_LOOP_LATER 8

struct lc_loop {
	int ep, wake_fd, later_ep;
	uint32_t i, n; /* the batch: next event, number of events */
	int stop;
	uint64_t now;      /* ns, CLOCK_MONOTONIC, as of this batch or the last long call in it */
	uint64_t now_tick; /* lc_ticks() when `now` was read */
	uint64_t polled;   /* ns: as of when the batch has all events; timers are due by this */
	_Atomic uint64_t token;
	_Atomic(struct lc_post *) posted; /* pushed by any thread, newest first */
	struct lc_post *posts;            /* drained, oldest first */
	struct lc_dead *dead;
	uint64_t next_at; /* ms: no timer is due before */
	uint32_t ntc;
	struct lc_tclass **tc;        /* most recently used in front */
	void (*batch_end)(void *arg); /* the batch is done, the loop may sleep next */
	void *arg;
	pthread_mutex_t lead_mu;
	struct lc_ev wake_ev, later_ev;
	struct epoll_event batch[LC_LOOP_BATCH];
};

extern _Thread_local struct lc_loop *lc_lead_tls;

static inline int
lc_loop_leading(const struct lc_loop *l)
{
	return lc_lead_tls == l;
}

static inline uint64_t
lc_loop_ms(const struct lc_loop *l)
{
	return l->now / 1000000;
}

static inline void
lc_loop_token(struct lc_loop *l, uint64_t state)
{
	uint64_t w = atomic_load_explicit(&l->token, memory_order_relaxed);
	atomic_store_explicit(&l->token, (w & ~UINT64_C(3)) | state, memory_order_relaxed);
}

/* CLOCK_MONOTONIC, ns. */
static inline uint64_t
lc_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * A clock for "has this waited too long": a tenth of the price of clock_gettime().  LC_TICKS_300US of its ticks are
 * 0.15 to 0.3 ms on machines of 2 to 4 GHz; nothing that must be exact may use it.
 */
static inline uint64_t
lc_ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return lc_now_ns();
#endif
}
#ifdef __x86_64__
#define LC_TICKS_300US 600000u
#else
#define LC_TICKS_300US 300000u
#endif

int lc_loop_init(struct lc_loop *);
void lc_loop_done(struct lc_loop *);
/* Lead on this thread.  1: the lead was handed on; 0: the loop was stopped. */
int lc_loop_lead(struct lc_loop *);
/* Give the lead away from inside an event; the caller must make another thread call lc_loop_lead(). */
void lc_loop_hand_on(struct lc_loop *);
void lc_loop_stop(struct lc_loop *);      /* leading thread */
uint64_t lc_loop_clock(struct lc_loop *); /* read the clock anew, ns */

/* Any thread. */
void lc_loop_post(struct lc_loop *, struct lc_post *);

/* events: EPOLLIN..., LC_EV_LATER; 0 removes.  first: its events go first in every batch.  0 or -errno. */
int lc_ev_set(struct lc_loop *, struct lc_ev *, uint32_t events, int first);

void lc_timer_arm(struct lc_loop *, struct lc_timer *, uint64_t ms, lc_timer_fn *);
void lc_timer_cancel(struct lc_timer *);
static inline int
lc_timer_armed(const struct lc_timer *t)
{
	return t->next != NULL;
}

void lc_loop_free_later(struct lc_loop *, struct lc_dead *, void (*free)(struct lc_dead *));

#ifdef LC_DEBUG
#include <assert.h>
#define LC_ASSERT(x) assert(x)
#else
#define LC_ASSERT(x) ((void)0)
#endif

#endif
