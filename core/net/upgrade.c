/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upgrade.c - a connection goes from one protocol to another.
 *
 * The old protocol asks who takes a token, announces the change in its own way and calls hand_over(); nothing happens
 * until that module call has returned.  Then the new one is opened with the request, the old one is closed, and input
 * that waits (the loop's buffer, the stash) is offered to the new one, as if the connection had begun there.
 */
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "log/access.h"
#include "log/log.h"
#include "net/conn.h"

/* Modules of an older ABI have a shorter struct. */
static int
takes_over(const struct lc_proto *p)
{
	return p->size >= offsetof(struct lc_proto, upgrade_open) + sizeof(p->upgrade_open) && p->upgrade &&
	       p->upgrade_open;
}

const struct lc_proto *
lc_upgrade_find(struct lc_conn *c, struct lc_str *token, const void **ret_conf)
{
	for (uint32_t k = 0; k < c->lsn->nprotos; k++) {
		const struct lc_lproto *lp = &c->lsn->protos[k];
		for (const char *const *t = takes_over(lp->proto) ? lp->proto->upgrade : NULL; t && *t; t++)
			if (strncasecmp(*t, token->p, token->n) == 0 && !(*t)[token->n]) {
				token->p = *t;
				*ret_conf = lp->conf;
				return lp->proto;
			}
	}
	return NULL;
}

int
lc_upgrade_request(struct lc_conn *c, const struct lc_proto *to, struct lc_stream *s)
{
	const struct lc_lproto *lp = c->lsn->protos, *end = lp + c->lsn->nprotos;

	while (lp < end && lp->proto != to)
		lp++;
	if (lp == end || !takes_over(to))
		return -ENOENT;
	if (c->flags & LC_C_HAND_OVER || s->requested || s->ev & LC_SE_REQUEST)
		return -EBUSY;
	for (const struct lc_stream *o = c->chain.all; o; o = o->cnext)
		if (o != s && o->proto_ref) /* one that only a worker still has is not in the way */
			return -EBUSY;
	c->next_proto = lp;
	c->next_request = s;
	c->flags |= LC_C_HAND_OVER;
	return 0;
}

/* Nobody but the old protocol has seen it; the access log shows how it ended. */
static void
end_request(struct lc_srv *srv, struct lc_stream *s)
{
	LC_ASSERT(!s->worker_ref);
	s->head.status = 101;
	s->responded = 1;
	srv->requests++;
	lc_chain_remove(s);
	if (srv->access)
		lc_account(srv, s);
	lc_stream_free(&srv->streams, s);
}

void
lc_upgrade_run(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	const struct lc_lproto *to = c->next_proto;
	struct lc_stream *s = c->next_request;
	const struct lc_proto *old = c->proto;
	void *sess = c->sess, *mem = c->sess_mem;

	/* Nothing of the old protocol's is left but output on its way; an end of input is told anew. */
	c->flags &= ~(LC_C_HAND_OVER | LC_C_WANT_WRITE | LC_C_PAUSED | LC_C_STALLED | LC_C_EOF_TOLD);
	c->next_proto = NULL;
	c->next_request = NULL;
	lc_timer_cancel(&c->rt);
	c->rt_which = LC_TM_HEAD;
	c->write_ms = 0;
	c->proto = to->proto;
	c->sess = c->sess_mem = NULL;
	s->started = srv->loop.now;
	int r = to->proto->upgrade_open(c, to->conf, &s->req, &c->sess);

	old->detach(sess, s->ps);
	s->proto_ref = 0;
	end_request(srv, s);
	old->close(sess);
	free(mem);
	if (r != LC_OK) {
		lc_log(LC_LOG_INFO, "%.*s: closed: %s did not take the connection over", (int)c->peer_n, c->peer,
		       to->proto->name);
		c->proto = NULL; /* and nothing of what it may have begun */
		c->sess = NULL;
		c->flags &= ~LC_C_WANT_WRITE;
		c->write_ms = 0;
		lc_timer_cancel(&c->rt);
		c->flags |= LC_C_CLOSE_FLUSH;
	} else if (srv->draining) {
		c->flags |= LC_C_DRAIN;
	}
}
