/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/handler.h - a handler module answers the requests of a route, in C, before any worker hears of them.
 *
 *	route /static/ static { root /srv/site/static; }
 *
 * One instance per route and worker process.  Everything runs on the thread that leads the loop, in every worker type,
 * so nothing here may block: a handler answers at once, or goes on in writable() and readable(), or in a call that it
 * posted to itself (worker_api->post()).  It sees a stream as a worker does, through the "stream" table, and need not
 * know which protocol carries it.  Two things are different: wait() returns -EDEADLK at once, and what is written with
 * LC_W_FLUSH leaves when the callback has returned.  No call on a stream ever comes back into the handler.
 *
 * Handlers' requests do not count for the worker's capacity(), and are finished before the process drains away.
 */
#ifndef LC_HANDLER_H
#define LC_HANDLER_H
#include "worker.h"

#define LC_HANDLER_VERSION 1

/* request() outcomes */
#define LC_H_TAKEN 0    /* the handler has the reference and must release() it: now or later */
#define LC_H_DECLINED 1 /* it has not touched the stream: the next route that fits gets it, at last the worker */
/* Below 0, -errno: it failed.  The core logs that, ends the stream (over HTTP: 500) and offers it to nobody else, as it
 * may be meant to be kept from them. */

/* The route of an instance; valid until close(). */
struct lc_route {
	uint32_t size;
	uint32_t index; /* number of the route within the pool, as configured */
	struct lc_str prefix;
};

/*
 * Where a request's path lies in its route.  Routes are matched on the normalised path: percent-decoded once, "." and
 * ".." resolved, "//" made "/", always with a leading "/", never with a NUL: what an application may see behind
 * "/a/../%62" cannot pass a route for "/b" by.  Valid during request() only.
 */
struct lc_match {
	uint32_t size, pad;
	struct lc_str path; /* the whole normalised path */
	struct lc_str rest; /* the part of it after the prefix */
};

struct lc_handler {
	uint32_t size, flags; /* flags: 0 */
	const char *name;     /* "static" */
	/* Once per route in each worker process, before it is READY, with the rights that the worker has.  `conf`: the
	 * module's directives as they hold for the route.  0, or -errno after worker_api->boot_error(): the worker does
	 * not start. */
	int (*open)(struct lc_wctx *, const struct lc_worker_api *, const struct lc_route *, const void *conf,
		    void **h);
	/* A request whose path fits.  LC_H_*, or -errno.  Its body may be incomplete. */
	int (*request)(void *h, struct lc_stream *, const struct lc_match *);
	/* Body bytes came; the out queue has room again after write() returned 1.  Optional. */
	void (*readable)(void *h, struct lc_stream *);
	void (*writable)(void *h, struct lc_stream *);
	/* The client is gone or the stream failed, or (LC_RSN_DONE, not a failure) the response is complete without
	 * what was still to be written: to HEAD, or beyond its length.  release() is still the handler's duty.
	 * Optional: without it writable(), or else readable(), is called instead, and learns it from its own calls. */
	void (*abort)(void *h, struct lc_stream *, uint32_t reason);
	void (*close)(void *h); /* all its streams are released.  Optional */
};

#endif
