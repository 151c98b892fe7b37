/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/flight.h - the flight recorder: which requests a process has in flight, where they can be read when it is
 * gone.
 *
 * One shared piece of memory per worker process, made and sealed by the arbiter, written by the thread that leads the
 * worker's loop: a few stores and copies per request, no system call.  The arbiter reads it when the process has ended
 * badly. It is the worker's to write, so nothing in it can be believed: lengths are bounded where they are read, and
 * text is escaped by the log.  A record that is being written when the process dies may be torn; `state` is stored
 * last.
 */
#ifndef LC_CORE_LOG_FLIGHT_H
#define LC_CORE_LOG_FLIGHT_H

#include <licorne/stream.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define LC_FLIGHT_RECS 64u /* requests beyond so many at once are counted only */
#define LC_FLIGHT_METHOD 16u
#define LC_FLIGHT_PEER 48u
#define LC_FLIGHT_TARGET 176u

struct lc_flight_rec {
	_Atomic uint32_t state; /* 1: in flight */
	uint16_t method_n, peer_n, target_n, cut;
	uint32_t pad;
	uint64_t at; /* ns, CLOCK_MONOTONIC, when the application was given it */
	char method[LC_FLIGHT_METHOD], peer[LC_FLIGHT_PEER], target[LC_FLIGHT_TARGET];
};
struct lc_flight {
	_Atomic uint32_t beyond; /* requests in flight without a record */
	uint32_t pad[15];
	struct lc_flight_rec rec[LC_FLIGHT_RECS];
};

static inline uint16_t
lc_flight_copy(char *to, struct lc_str from, size_t max)
{
	size_t n = from.n < max ? from.n : max;

	if (n)
		memcpy(to, from.p, n);
	return (uint16_t)n;
}

/* Number of the record + 1; 0: there was none left.  *free: a bit for each that is. */
static inline uint8_t
lc_flight_begin(struct lc_flight *f, uint64_t *free, const struct lc_req *rq, uint64_t now)
{
	if (!*free) {
		atomic_fetch_add_explicit(&f->beyond, 1, memory_order_relaxed);
		return 0;
	}
	unsigned k = (unsigned)__builtin_ctzll(*free);
	struct lc_flight_rec *r = &f->rec[k];
	*free &= *free - 1;
	r->at = now;
	r->method_n = lc_flight_copy(r->method, rq->method, LC_FLIGHT_METHOD);
	r->peer_n = lc_flight_copy(r->peer, rq->peer, LC_FLIGHT_PEER);
	r->target_n = lc_flight_copy(r->target, rq->target, LC_FLIGHT_TARGET);
	r->cut = rq->target.n > LC_FLIGHT_TARGET;
	atomic_store_explicit(&r->state, 1, memory_order_release);
	return (uint8_t)(k + 1);
}

static inline void
lc_flight_end(struct lc_flight *f, uint64_t *free, uint8_t rec)
{
	if (!rec) {
		atomic_fetch_sub_explicit(&f->beyond, 1, memory_order_relaxed);
		return;
	}
	atomic_store_explicit(&f->rec[rec - 1].state, 0, memory_order_release);
	*free |= UINT64_C(1) << (rec - 1);
}

#endif
