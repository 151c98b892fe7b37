/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http1_fake.h - a core and an application without sockets, loop or threads, for the http1 module.
 *
 * It keeps proto.h's promises (events after the module call, pull() when wanted, the rest offered again), counts
 * every promise that the module breaks (fake.broken), and writes down what the worker side saw and what the peer would
 * receive.  The application answers according to the path, see http1_fake.c.
 */
#ifndef LC_TEST_HTTP1_FAKE_H
#define LC_TEST_HTTP1_FAKE_H

#include <licorne/module.h>
#include <licorne/proto.h>

struct fake_buf {
	char *p;
	size_t n, cap;
};

#define FAKE_HANDED 9

struct fake_opts {
	size_t budget;   /* bytes that an output vector takes; 0: plenty */
	int fail_at;     /* this allocation fails, counted from 1; 0: none */
	int no_pull;     /* the peer reads nothing */
	int refuse_open; /* stream_open() gives NULL */
};

struct fake {
	struct lc_conn *c;
	struct fake_buf events, out, log;
	struct fake_buf access; /* refusals that the access log would show; what they show may depend on cuts */
	struct fake_buf after;  /* what came behind a request that handed the connection over */
	int allocs;             /* how many so far, the module's own included */
	int closed;             /* LC_CLOSE_* + 1; 0: open; FAKE_HANDED: another protocol has it */
	int requests, streams;
	const char *broken;
	int64_t timer[6]; /* -1: not armed */
	int timer_calls, paused;
};

extern const struct lc_module *lc_module_query(const struct lc_host *);

/* A connection; conf NULL: the directives' defaults.  NULL only when opts.fail_at struck. */
struct fake *fake_open(const void *conf, const struct fake_opts *);
void fake_feed(struct fake *, const char *, size_t n);
void fake_eof(struct fake *);
void fake_timeout(struct fake *, uint32_t which);
void fake_drain(struct fake *, uint32_t phase);
/* Let an application that waits ("/wait...") go on, or one that reads slowly take n bytes. */
void fake_go(struct fake *);
void fake_read(struct fake *, size_t n);
void fake_free(struct fake *);
void fake_defaults(void *conf); /* fill a struct h1_conf from the rows' defaults */
extern int fake_is_draining;
/* lc_head.memo of the final heads: 0 none, FAKE_MEMO_TRUE one for each kind of head, else this number for all. */
#define FAKE_MEMO_TRUE UINT64_MAX
extern uint64_t fake_memo;

#endif
