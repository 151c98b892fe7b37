/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/worker.h - a worker module decides where and how requests execute.
 *
 * Callbacks run on the thread that leads the loop.  A worker with threads of its own gives each request
 * to one of them (stream->share() first) and may move the lead: see leader_wanted().
 */
#ifndef LC_WORKER_H
#define LC_WORKER_H
#include "stream.h"

#define LC_WORKER_VERSION 1

/* stop() ways */
#define LC_STOP_DRAIN 1u /* finish what runs; no new requests come except on kept-alive connections */
#define LC_STOP_QUIT 2u  /* all is done, or shall end now: make run() return */

/* forking() when */
#define LC_FORK_BEFORE 1u
#define LC_FORK_AFTER 2u /* in the process that was forked, whether that worked or not */

/* Host -> worker, table "worker" version 1. */
struct lc_worker_api {
	uint32_t size, pad;
	const struct lc_stream_api *stream;
	/* Lead the loop on the calling thread.  1: the lead was handed on during a call (the thread is an ordinary
	 * one now); 0: the loop has stopped for good. */
	int (*lead)(struct lc_wctx *);
	/* Run fn(arg) on the leading thread, soon.  Any thread. */
	int (*post)(struct lc_wctx *, void (*fn)(void *), void *arg);
	/* How many requests this worker runs at once; at that number the accept gate closes.  From init(). */
	void (*capacity)(struct lc_wctx *, uint32_t requests);
	/* The monotonic clock as of this turn of the loop, ns; now = 1 reads it anew.  Leading thread. */
	uint64_t (*clock)(struct lc_wctx *, int now);
	/* Token for a header name of any case, 0 unknown.  Any thread. */
	uint16_t (*token)(const char *name, size_t n);
	/* Name of the pool, number of processes in it, this process's slot.  For environ facts. */
	const char *(*pool_name)(struct lc_wctx *);
	uint32_t (*processes)(struct lc_wctx *);
	uint32_t (*slot)(struct lc_wctx *);
	/* The message that the arbiter logs when init() fails (a traceback, say); copied, at most 12 KiB. */
	void (*boot_error)(struct lc_wctx *, const char *text, size_t n);
	/* Any thread.  Lines after the first belong to the same record and are indented: a traceback stays together. */
	void (*log)(struct lc_wctx *, int level, const char *fmt, ...) LC_PRINTF(3, 4);
	/* ABI 0.2.  A number for lc_head.memo that nobody else in this process has.  Any thread. */
	uint64_t (*memo)(struct lc_wctx *);
	/* ABI 0.2.  The calling thread runs the application for this stream, from enter() to leave(), which comes
	 * before release(): for reports of what a worker was doing, and for request_timeout.  enter() returns the
	 * call's number, which no other call of this process has; 0: it is not watched. */
	uint64_t (*enter)(struct lc_wctx *, struct lc_stream *);
	void (*leave)(struct lc_wctx *, struct lc_stream *);
	/* ABI 0.2.  What a call may take, ms; 0: no limit.  From init(). */
	uint64_t (*request_timeout)(struct lc_wctx *);
	/* ABI 0.2.  A descriptor, open as long as the process, to which the application's stacks are to be written when
	 * signal *signo comes, by its handler, at the position that the descriptor has then.  -1: nobody wants them.
	 * The signal is sent to a thread that runs none of the application.  From init(). */
	int (*stacks)(struct lc_wctx *, int *signo);
};

struct lc_worker {
	uint32_t size, flags;
	const char *name; /* "wsgi" */
	/* Start the runtime and load the application.  0, or -errno after boot_error(). */
	int (*init)(struct lc_wctx *, const struct lc_worker_api *, const void *conf, void **w);
	/* Main thread: NULL, the core leads the loop on it; else run() starts threads that lead(), and
	 * returns after stop(LC_STOP_QUIT): 0 when they are done; 1 when calls still run past the deadline: the process
	 * leaves at once, without fini(); or -errno. */
	int (*run)(void *w);
	/* A new request; the worker now owns one reference and must release() it.  Its body may be incomplete. */
	void (*request)(void *w, struct lc_stream *);
	/* Events on streams that were not share()d: optional. */
	void (*readable)(void *w, struct lc_stream *);
	void (*writable)(void *w, struct lc_stream *);
	/* The client is gone or the stream failed, or (LC_RSN_DONE) the response is complete without what was still to
	 * be written; release() is still the worker's duty.  Not for share()d streams: whoever has them learns it from
	 * its own calls.  Optional. */
	void (*abort)(void *w, struct lc_stream *, uint32_t reason);
	/* A batch of events is done and the loop may now sleep: let go of locks (the GIL).  Optional. */
	void (*batch_end)(void *w);
	/* The leading thread is about to wait inside a call: wake another that will lead().  NULL: one thread. */
	void (*leader_wanted)(void *w);
	void (*stop)(void *w, uint32_t how, int64_t deadline_ms);
	void (*status)(void *w, struct lc_stat *);
	void (*fini)(void *w);
	/* ABI 0.2.  The call with this number takes longer than request_timeout: end it by an exception, say.  It may
	 * be over already.  On a thread of the core's; must not wait for anything that a call can hold.  NULL: calls
	 * are not judged. */
	void (*overdue)(void *w, uint64_t call);
	/*
	 * ABI 0.2, optional, all three or none: `preload on`.  A process, the zygote, runs preload() in the place of
	 * init(); workers are forks of it and run forked(), then run() and the rest as ever, and fini().  The zygote
	 * ends without fini().
	 *
	 * preload() starts the runtime and loads the application.  No thread may be left when it returns, nor anything
	 * open that processes must not share; slot() is nobody's then, stacks() has no descriptor yet.  conf is valid
	 * as long as the processes.  0, or -errno after boot_error().
	 */
	int (*preload)(struct lc_wctx *, const struct lc_worker_api *, const void *conf, void **w);
	/* In the zygote, around each fork. */
	void (*forking)(void *w, uint32_t when);
	/* In the worker, before anything else of the module's, after LC_FORK_BEFORE; the context is that of preload(),
	 * by now with the worker's slot and descriptors.  0, or -errno after boot_error(). */
	int (*forked)(void *w);
};

#endif
