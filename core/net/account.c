/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * account.c - records for the access log: of streams that are over, and of requests that a protocol has refused.
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
	    .status = s->refused     ? s->refused
		      : s->responded ? s->head.status
				     : 499,
	    .now = now,
	    .took = now - s->started,
	    .body_sent = s->sent,
	    .all_sent = s->put_out,
	    .body_received = s->received,
	    .connection = s->serial,
	    .connection_requests = s->order,
	    .complete = s->responded && !s->refused && (!s->aborted || s->reason == LC_RSN_DONE),
	};

	if (s->responded && !s->refused) {
		r.sent = s->head.fields;
		r.nsent = s->head.nfields;
	}
	lc_access_write(srv->access, &r);
}

void
lc_account_refused(struct lc_conn *c, struct lc_stream *s, uint32_t status, const struct lc_req *known)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (s) {
		s->refused = (uint16_t)status;
		return;
	}
	if (!srv->access)
		return;
	struct lc_req q = {.size = sizeof(q), .method = known->method, .target = known->target};
	struct lc_record r = {
	    .req = &q,
	    .status = status,
	    .now = srv->loop.now,
	    .connection = c->serial,
	    .connection_requests = ++c->streams,
	};
	q.protocol = known->protocol;
	q.path = known->path;
	q.query = known->query;
	q.peer = (struct lc_str){c->peer, c->peer_n};
	q.peer_port = c->port;
	q.local = (struct lc_str){c->lsn->addr, c->lsn->addr_n};
	q.local_port = c->lsn->port;
	lc_access_write(srv->access, &r);
}
