/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/flight/flight.h - the flight recorder: what a worker has in hand, readable after its death.
 *
 * One memfd per process, made and sealed against resizing by the arbiter and mapped by both.  The worker stores into it
 * without a system call; the arbiter reads it when the worker hung, was stuck in a call, or died, however it did.
 *
 * The layout is fixed, the same binary is on both sides.  For the reader every byte is hostile: it copies a record
 * before it looks, and bounds what it finds (lc_flight_look()).  A record may be read while it is written: what is
 * printed is then a mixture of two requests, never more.
 *
 * Records belong to the thread that leads the loop, which takes and gives them; the thread that runs a call writes the
 * call's members of its own record.  The watchdog only reads.
 */
#ifndef LC_CORE_FLIGHT_FLIGHT_H
#define LC_CORE_FLIGHT_FLIGHT_H

#include <licorne/stream.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define LC_FL_MAGIC 0x31746c66u /* "flt1" */
#define LC_FL_RECORDS 1024u     /* requests beyond that have none */
#define LC_FL_TEXT 216u         /* method, path and client of one */
#define LC_FL_METHOD_MAX 16u
#define LC_FL_CLIENT_MAX 48u
#define LC_FL_PATH_MAX (LC_FL_TEXT - LC_FL_METHOD_MAX - LC_FL_CLIENT_MAX)
#define LC_FL_FRAMES 64u        /* of a backtrace */
#define LC_FL_STACK (64u << 10) /* text: stacks of the application, symbols of a backtrace */

/* What is being done with a request. */
enum lc_fl_phase {
	LC_FL_QUEUED, /* with the worker module, not in a call yet */
	LC_FL_ROUTE,  /* a handler has it */
	LC_FL_CALL,   /* in the application */
	LC_FL_CLIENT, /* in a call that waits for its client */
	LC_FL_PHASES,
};

struct lc_fl_rec {
	uint64_t started; /* ns of CLOCK_MONOTONIC, when the worker got it; 0: free */
	uint64_t call;    /* thread id << 32 | a count of that thread: nobody else's; 0: not in a call */
	uint64_t began;   /* ns; of the call, later by what it waited for its client */
	uint8_t phase;    /* LC_FL_* */
	uint8_t method_n, client_n, path_n;
	uint32_t pad;
	uint64_t pad2;
	char text[LC_FL_TEXT]; /* method, client, path without query */
};

/* Written by the handler of a deadly signal. */
struct lc_fl_crash {
	uint32_t sig; /* 0: nothing happened; stored last */
	int32_t code; /* si_code */
	uint32_t tid, nframes;
	uint64_t address; /* si_addr */
	uint64_t frames[LC_FL_FRAMES];
};

struct lc_flight {
	uint32_t magic, watcher; /* watcher: id of the thread that takes LC_FL_SIGNAL, 0: any */
	uint64_t pad[7];
	struct lc_fl_crash crash;
	uint64_t pad2[4];
	struct lc_fl_rec rec[LC_FL_RECORDS];
	char stack[LC_FL_STACK];
};

/* A worker that gets this signal writes the application's stacks to the descriptor of the recorder, whose position the
 * arbiter has set to `stack`. */
#define LC_FL_SIGNAL (SIGRTMIN + 3)

/* The worker's end. */
struct lc_fl {
	struct lc_flight *map;
	int fd;          /* of the memfd, for writing `stack` */
	uint32_t n;      /* free records */
	uint16_t free[]; /* a stack: what was used last is warm */
};

/* Takes fd over, if it succeeds: 0 or -errno. */
int lc_fl_open(struct lc_fl **ret, int fd);
void lc_fl_close(struct lc_fl *);

/* crash.c.  Handlers of deadly signals in front of those that are there; again, after a runtime has installed its own.
 */
void lc_fl_crash_install(struct lc_fl *);
/* This thread gets a stack for them, if it has none, until it ends. */
void lc_fl_crash_thread(void);
/* The same, and the thread's id. */
uint32_t lc_fl_thread(void);

/* ---- the worker's side: a few stores */

static inline uint8_t
lc_fl_put(char *at, struct lc_str s, size_t max)
{
	size_t n = s.n < max ? s.n : max;

	if (n)
		memcpy(at, s.p, n);
	return (uint8_t)n;
}

/* NULL: they are all taken. */
static inline struct lc_fl_rec *
lc_fl_take(struct lc_fl *f, const struct lc_req *req, uint64_t now)
{
	if (__builtin_expect(f->n == 0, 0))
		return NULL;
	struct lc_fl_rec *r = &f->map->rec[f->free[--f->n]];
	char *at = r->text;
	r->method_n = lc_fl_put(at, req->method, LC_FL_METHOD_MAX);
	at += r->method_n;
	r->client_n = lc_fl_put(at, req->peer, LC_FL_CLIENT_MAX);
	at += r->client_n;
	r->path_n = lc_fl_put(at, req->path, LC_FL_PATH_MAX);
	__atomic_store_n(&r->phase, LC_FL_QUEUED, __ATOMIC_RELAXED);
	__atomic_store_n(&r->started, now, __ATOMIC_RELEASE);
	return r;
}

static inline void
lc_fl_give(struct lc_fl *f, struct lc_fl_rec *r)
{
	__atomic_store_n(&r->call, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&r->started, 0, __ATOMIC_RELEASE);
	f->free[f->n++] = (uint16_t)(r - f->map->rec);
}

/* A few nanoseconds; stands still for up to 4 ms. */
static inline uint64_t
lc_fl_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The calling thread is in the application with it from here.  Returns the call's number. */
static inline uint64_t
lc_fl_enter(struct lc_fl_rec *r, uint64_t call, uint64_t now)
{
	__atomic_store_n(&r->began, now, __ATOMIC_RELAXED);
	__atomic_store_n(&r->phase, LC_FL_CALL, __ATOMIC_RELAXED);
	__atomic_store_n(&r->call, call, __ATOMIC_RELEASE);
	return call;
}

static inline void
lc_fl_leave(struct lc_fl_rec *r)
{
	__atomic_store_n(&r->call, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&r->phase, LC_FL_QUEUED, __ATOMIC_RELAXED);
}

/* Around a wait for the client: what it takes is not the application's time.  0: not in a call. */
static inline uint64_t
lc_fl_wait(struct lc_fl_rec *r)
{
	if (!r || r->phase != LC_FL_CALL)
		return 0;
	__atomic_store_n(&r->phase, LC_FL_CLIENT, __ATOMIC_RELAXED);
	return lc_fl_clock();
}

static inline void
lc_fl_waited(struct lc_fl_rec *r, uint64_t since)
{
	if (!since)
		return;
	__atomic_store_n(&r->began, r->began + (lc_fl_clock() - since), __ATOMIC_RELEASE);
	__atomic_store_n(&r->phase, LC_FL_CALL, __ATOMIC_RELEASE);
}

/* ---- the reader's side */

/* One record as text can be made of it: printable by lc_log(), which escapes. */
struct lc_fl_view {
	struct lc_str method, client, path; /* into `copy` */
	uint64_t age_ms, call_ms;           /* call_ms: in this call, without what it waited for its client */
	uint32_t thread;                    /* 0: in no call */
	enum lc_fl_phase phase;
	bool cut; /* the path was longer */
	struct lc_fl_rec copy;
};
/* false: the record is free, or no more than noise.  `now` in ns.  The view points into itself. */
bool lc_fl_look(const struct lc_flight *, uint32_t i, uint64_t now, struct lc_fl_view *);
/* "GET /path from 192.0.2.1, for 1.2 s: in the application for 1.1 s" */
int lc_fl_print(const struct lc_fl_view *, char *buf, size_t n);
/* All of them, the oldest first, at most `max` lines of them, each with its end of line; how many there are. */
uint32_t lc_fl_print_all(const struct lc_flight *, uint64_t now, uint32_t max, char *buf, size_t n);
/* What `stack` holds: length of the text. */
size_t lc_fl_stack_len(const struct lc_flight *);
/* "SIGSEGV at address 0x0 in thread 12" and the raw frames; 0: nothing happened. */
int lc_fl_print_crash(const struct lc_flight *, const char *signame, char *buf, size_t n);

#endif
