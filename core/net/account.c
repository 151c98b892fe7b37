/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * account.c - records for the access log: of streams that are over.
 *
 * Called only where there is a log, so nothing here costs a server without one.
 */
#include "log/access.h"
#include "net/conn.h"

void
lc_account(struct lc_srv *srv, const struct lc_stream *s)
{
	/* Inline calls happen within one turn: its clock tells nothing about how long they took. */
	uint64_t now = lc_access_timed(srv->access) ? lc_loop_clock(&srv->loop) : srv->loop.now;
	struct lc_record r = {
	    .req = &s->req,
	    .status = s->responded ? s->head.status : 499,
	    .now = now,
	    .took = now - s->started,
	    .body_sent = s->sent,
	    .all_sent = s->put_out,
	    .body_received = s->received,
	    .connection = s->serial,
	    .connection_requests = s->order,
	    .complete = s->responded && (!s->aborted || s->reason == LC_RSN_DONE),
	};

	if (s->responded) {
		r.sent = s->head.fields;
		r.nsent = s->head.nfields;
	}
	lc_access_write(srv->access, &r);
}
