/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/net/route.h - the routes of a pool: which requests go to handler modules (licorne/handler.h).
 *
 * A table is built before the process is READY and does not change after it.  All here runs on the leading thread.
 */
#ifndef LC_CORE_NET_ROUTE_H
#define LC_CORE_NET_ROUTE_H

#include <licorne/handler.h>

#include "net/server.h"

struct lc_rt {
	struct lc_route pub; /* what the handler sees */
	const struct lc_handler *h;
	void *obj;
	struct lc_rt *next;
};
struct lc_routes {
	struct lc_rt *first; /* longest prefix first */
};

/* Open a route's handler, behind all with as long a prefix.  0, or -errno: not added; the handler may have said why by
 * boot_error(). */
int lc_routes_add(struct lc_srv *, const struct lc_handler *, uint32_t index, const char *prefix, const void *conf);
void lc_routes_close(struct lc_srv *); /* the loop has ended; takes none */

/* Ask the routes that a request fits.  1: one has it, or it was refused; 0: it is the worker's. */
int lc_route_request(struct lc_srv *, struct lc_stream *);
/* LC_SE_READABLE, LC_SE_WRITABLE, LC_SE_ABORT of a stream that a handler has. */
void lc_route_events(struct lc_stream *, uint32_t ev);

#endif
