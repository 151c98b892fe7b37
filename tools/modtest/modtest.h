/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/modtest.h - the parts of licorne-modtest.
 *
 * host.c is a core without sockets, loop or threads: it keeps proto.h's promises, and every function that a module
 * calls checks the module's.  app.c answers the streams.  alloc.c stands between the module and malloc().  runs.c
 * decides what is fed, in which pieces, and what is compared.  report.c says what is wrong, and when a call does not
 * come back.
 */
#ifndef LC_MODTEST_H
#define LC_MODTEST_H

#include <licorne/module.h>
#include <licorne/proto.h>

#include <stdio.h>

#define MT_HIGH (64u << 10) /* body bytes that wait: stream_body() returns 1 above them */
#define MT_ROOM (64u << 10) /* of an empty output vector */
#define MT_HEAP (1u << 20)  /* what a connection may hold for a peer that sends without end, or reads nothing */

struct mt_buf {
	char *p;
	size_t n, cap;
};
void mt_add(struct mt_buf *, const void *, size_t n);
void mt_buf_free(struct mt_buf *);
void mt_fmt(struct mt_buf *, const char *fmt, ...) LC_PRINTF(2, 3);

/* ---- report.c ---- */

/* Where we are, for sentences; kept in one place so that a signal handler finds it. */
extern struct mt_where {
	char input[256], run[160];
	const char *call; /* the operation of the module that runs; NULL: none */
	unsigned long step;
	size_t offset, n; /* of recv() */
	int failing;      /* this allocation of the run fails; 0: none */
} mt_where;
extern int mt_problems;         /* sentences said */
extern unsigned long mt_breaks; /* the same, repeated ones included */
/* A sentence about the module; each is printed once, with where it was seen. */
void mt_broken(const char *fmt, ...) LC_PRINTF(1, 2);
/* Signals of a module that crashes, and of one that does not return within that many seconds. */
void mt_guard(const char *module, unsigned seconds);
void mt_enter(const char *call); /* around every call into the module */
void mt_leave(void);

/* ---- alloc.c ---- */

extern int mt_allocs;  /* counted since it was set to 0: the module's and the host's for it */
extern int mt_fail_at; /* this one fails; 0: none */
int mt_alloc_fails(void);
size_t mt_heap_blocks(void), mt_heap_bytes(void); /* what the module's allocations hold now */
/* Redirect the allocation functions of a loaded object; -1: it could not be done. */
int mt_alloc_hook(const char *path);
/* What it imports: a name of a function that a protocol module has no business with; NULL. */
const char *mt_forbidden_import(const char *path);
/* n bytes that end where the next page cannot be read. */
const uint8_t *mt_input_place(const uint8_t *, size_t n);
void mt_input_spoil(void); /* what a module kept of it is garbage from now on */
int mt_input_has(const void *p);
int mt_input_beyond(const void *p);

/* ---- host.c, drive.c ---- */

struct lc_outv {
	struct mt_buf *to;
	size_t room, put;
	int full;
	uint8_t *reserved;
	size_t reserved_n;
};
struct mt_chunk {
	struct mt_chunk *next;
	size_t n;
	max_align_t data[];
};

enum mt_answer {
	MT_ANSWER,    /* after the whole body: 200 and a length */
	MT_PIECES,    /* after the whole body: no length, three pieces, trailers */
	MT_WHOLE,     /* after the whole body: no length, all at once */
	MT_EMPTY,     /* after the whole body: 204 */
	MT_BIG,       /* after the whole body: 200000 bytes */
	MT_EARLY,     /* at once, the body is not read */
	MT_INFO,      /* 103 first, and 100 where it was asked for */
	MT_SLOW,      /* the body is taken 1000 bytes at a time */
	MT_LATE,      /* nothing is taken before mt_go() */
	MT_RESET,     /* instead of an answer */
	MT_RESET_MID, /* after the head and some of the body */
	MT_NEVER,
	MT_ANSWERS
};
extern const char *const mt_answer_names[MT_ANSWERS];

struct mt_opts {
	enum mt_answer answer;
	size_t room;     /* bytes that an output vector takes; 0: MT_ROOM */
	int no_pull;     /* the peer reads nothing */
	int refuse_open; /* stream_open() gives NULL */
	int draining;    /* draining() says 1 from the start */
};

struct lc_stream {
	struct lc_conn *c;
	struct lc_req req;
	void *ps;
	struct mt_chunk *arena;
	size_t arena_n;
	struct mt_buf in, outq, log, seen;
	size_t in_off, out_off, consumed;
	uint64_t print; /* of the request, as it was in stream_head() */
	unsigned number;
	int headed, in_fin, out_fin, aborted, proto_done, dead, over_mark;
	int ev_request, ev_abort, ev_100, ev_info, ev_head, ev_trailers, ev_out, ev_reset;
	/* the application's side */
	int step, told_100, responded, released, waited;
	uint32_t reason;
	struct lc_head head, info, go_on;
	const struct lc_field *in_trailers, *out_trailers;
	uint32_t nin_trailers, nout_trailers;
	struct lc_stream *next; /* all of the connection, dead ones too, in order of opening */
};

struct lc_conn {
	struct mt_opts o;
	const struct lc_proto *ops;
	void *sess, *sess_mem;
	size_t sess_n;
	struct mt_buf rest, out;
	struct lc_stream *streams, **tail;
	unsigned nstreams;
	int64_t timer[LC_TM_WRITE + 1]; /* -1: not armed */
	unsigned long breaks;           /* mt_breaks when it was opened: a run that broke something ends there */
	int closed;                     /* LC_CLOSE_* + 1; 0: open */
	int dead;                       /* no further calls */
	int wants, paused, stalled, gone;
	int eof, eof_told; /* the peer has ended; the module knows */
	size_t room;       /* grows for a module that needs more at once */
	struct lc_conn *next;
};

extern const struct lc_conn_api mt_conn_table;
extern struct lc_outv *mt_pulling; /* valid during pull() only */

/* NULL: open() failed, which it may only when an allocation did. */
struct lc_conn *mt_open(const struct lc_proto *, const void *conf, const struct mt_opts *);
void mt_feed(struct lc_conn *, const uint8_t *, size_t n);
void mt_eof(struct lc_conn *);
void mt_timeout(struct lc_conn *, uint32_t which);
void mt_drain(struct lc_conn *, uint32_t phase);
void mt_go(struct lc_conn *); /* for MT_LATE */
void mt_reset_all(struct lc_conn *);
int mt_armed(const struct lc_conn *); /* the read timer that runs; -1: none */
/* The connection rests: what must not be so then. */
void mt_check_rest(struct lc_conn *);
/* Tear it down as the core does: streams aborted, detached, close(). */
void mt_close(struct lc_conn *);
/* All that the worker side saw, stream by stream. */
void mt_events(const struct lc_conn *, struct mt_buf *);
void mt_free(struct lc_conn *);

/* ---- app.c ---- */

int mt_app_step(struct lc_stream *); /* 1: something was done */
int mt_app_takes(struct lc_stream *, size_t max);
void mt_log_request(struct lc_stream *);
uint64_t mt_print_of(const struct lc_req *);

/* ---- runs.c ---- */

struct mt_input {
	const char *name;
	const uint8_t *p;
	size_t n;
};
void mt_run_all(const struct lc_proto *, const void *conf, const struct mt_input *, size_t n);
extern unsigned long mt_runs;

#endif
