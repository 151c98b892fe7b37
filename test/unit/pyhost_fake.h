/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/pyhost_fake.h - a host for the Python workers and for handlers: streams that are fed by the test and record
 * the response.
 *
 * Bodies come in pieces: read() gives one piece at a time and -EAGAIN between them, wait() makes the next one
 * available. The out queue says "full" whenever more than `room` bytes wait; wait(LC_EV_WRITE) empties it.  Slices that
 * own memory are kept until the queue is emptied, so that a copy too late or a reference dropped too early shows.
 */
#ifndef PYHOST_FAKE_H
#define PYHOST_FAKE_H

#include <licorne/stream.h>
#include <licorne/tokens.h>
#include <licorne/worker.h>
#include <pthread.h>

#define FAKE_PIECES 16
#define FAKE_FIELDS 128

struct lc_stream {
	struct lc_req req;
	struct lc_field fields[FAKE_FIELDS];
	/* the request's body */
	struct lc_str piece[FAKE_PIECES];
	uint32_t npieces, given, at; /* given: how many are available */
	size_t off;
	int read_error; /* -errno after the last piece, instead of the end */
	/* the response */
	uint32_t responds, finishes, resets, releases, waits, writes, flushes, shares;
	uint32_t status, nfields;
	struct lc_field out_fields[64];
	char reason[128];
	int64_t length;
	uint64_t memo;
	char *body;
	size_t body_n, waiting, room;
	int fin, aborted, short_file; /* short_file: one had not what its slice said */
	size_t abort_after;           /* the client goes away once that much of the body was written; 0: never */
	struct lc_slice held[64];
	uint32_t nheld, files; /* files: slices of one that went out */
	void *arena[256];
	uint32_t narena;
	size_t arena_total;
	void *user;
	/* threads */
	pthread_mutex_t mu;
	pthread_cond_t cv;
	pthread_t only; /* not shared: the thread that may use it */
	int shared, checks, violations, done;
	int block_read;  /* wait(READ) blocks until fake_feed() */
	int block_write; /* wait(WRITE) does; one feed is enough */
	struct lc_stream *next;
};

/* NULL-ended "name", "value", ...; the names are copied by reference. */
struct lc_stream *fake_stream(const char *method, const char *target, const char *const *fields);
void fake_body(struct lc_stream *, int64_t length, ...); /* const char * pieces, NULL-ended */
void fake_flush(struct lc_stream *);                     /* empty the out queue: releases slices */
void fake_free(struct lc_stream *);
const char *fake_out(const struct lc_stream *, const char *name); /* value of a response field, NULL */

extern const struct lc_worker_api fake_worker;
extern char fake_log[1 << 16];        /* lines of the log; cleared by fake_log_clear() */
extern uint64_t fake_request_timeout; /* ms */
extern int fake_log_levels;           /* each record begins with its level */
extern char fake_boot[16384];
void fake_log_clear(void);

/* ---- a loop with a lead, for workers with threads ---- */
void fake_loop_start(const struct lc_worker *, void *w);
void fake_loop_post(struct lc_stream *); /* any thread: deliver as a request */
void fake_loop_feed(struct lc_stream *); /* any thread: the next piece of body has come */
void fake_wait_done(struct lc_stream *); /* until it was released */
void fake_loop_stop(void);
extern uint32_t fake_handed_on;

#endif
