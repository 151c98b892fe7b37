/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upgrade.c - a client offers another protocol (RFC 9110 7.8), and a module of this listener takes it.
 *
 * An offer that is not taken is ignored: the request is answered as if it had not been made.  One that is taken never
 * reaches a worker: the answer is 101, and everything behind the request's head belongs to the other protocol.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http1/http1.h"

/* Is this a request that may change the protocol at all? */
static int
may_upgrade(const struct h1 *s, const struct lc_req *rq)
{
	if (!(s->p.flags & F_CONNECTION_UPGRADE) && h1_on(H1_UPGRADE_CONNECTION))
		return 0;
	if (!s->client_keep && h1_on(H1_UPGRADE_CLOSE))
		return 0;
	if (s->minor == 0 && h1_on(H1_UPGRADE_HTTP10)) /* "MUST ignore" */
		return 0;
	if (rq->length && h1_on(H1_UPGRADE_BODY)) /* it would have to be read in one protocol and answered in another */
		return 0;
	return !s->drain && !h1_api->draining(s->c);
}

/* The first token of the list that is taken. */
static const struct h1_upgrade *
try_list(struct h1 *s, const struct lc_req *rq, struct lc_str list)
{
	const char *p = list.p, *end = p + list.n;

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;
		struct lc_str token = lc_value_trim(p, (size_t)(stop - p));
		const void *conf;
		const struct lc_proto *to = token.n ? h1_api->upgrade_find(s->c, &token, &conf) : NULL;
		p = comma ? comma + 1 : end;
		if (!to)
			continue;
		struct h1_upgrade *up = h1_api->stream_alloc(s->st, sizeof(*up));
		if (!up)
			return NULL;
		*up = (struct h1_upgrade){
		    .proto = to, .token = token, .head = {.size = sizeof(up->head), .status = 101, .length = -1}};
		if (to->upgrade_check && to->upgrade_check(conf, s->st, rq, &up->head) != LC_OK &&
		    h1_on(H1_UPGRADE_CHECK))
			continue;
		up->head.status = 200; /* what lc_head_check() looks at; 101 it lets nobody else say */
		const char *bad = lc_head_check(&up->head);
		if (!bad)
			return up;
		h1_api->log(s->c, LC_LOG_ERROR, "the change to %s is off: %s", to->name, bad);
	}
	return NULL;
}

const struct h1_upgrade *
h1_upgrade(struct h1 *s, const struct lc_req *rq, const struct lc_field *offer)
{
	const struct lc_field *end = rq->fields + rq->nfields;
	const struct h1_upgrade *up = NULL;

	if (!may_upgrade(s, rq))
		return NULL;
	for (; offer < end && !up; offer++)
		if (offer->token == LC_TOK_UPGRADE)
			up = try_list(s, rq, offer->value);
	return up;
}

static char *
put_field(char *p, const char *name, size_t n, struct lc_str value)
{
	memcpy(p, name, n);
	p += n;
	*p++ = ':';
	*p++ = ' ';
	memcpy(p, value.p, value.n);
	p += value.n;
	*p++ = '\r';
	*p++ = '\n';
	return p;
}

int
h1_upgrade_out(struct h1 *s, struct lc_outv *v)
{
	const struct h1_upgrade *up = s->x->upgrade;
	const struct lc_head *h = &up->head;
	size_t bound = 128 + up->token.n;

	for (uint32_t k = 0; k < h->nfields; k++)
		bound += h->fields[k].name.n + h->fields[k].value.n + 4;
	if (s->x->out != H1_OUT_HEAD) { /* it is out: what follows is not ours */
		struct lc_stream *st = s->st;
		s->st = NULL;
		s->x = NULL;
		s->phase = H1_CLOSED;
		if (h1_api->hand_over(s->c, up->proto, st) < 0)
			return -EBUSY;
		return 1;
	}
	char *buf = malloc(bound), *p = buf;
	if (!buf)
		return -ENOMEM;
	p = h1_put_status(p, 101, (struct lc_str){NULL, 0});
	p = put_field(p, "Connection", 10, (struct lc_str){"upgrade", 7});
	p = put_field(p, "Upgrade", 7, up->token);
	for (uint32_t k = 0; k < h->nfields; k++) {
		const struct lc_field *f = &h->fields[k];
		if (!lc_token_hop_by_hop(f->token ? f->token : lc_token(f->name.p, f->name.n)))
			p = put_field(p, f->name.p, f->name.n, f->value);
	}
	*p++ = '\r';
	*p++ = '\n';
	int r = h1_put_out(s, v, buf, (size_t)(p - buf));
	free(buf);
	s->x->out = H1_OUT_NONE;
	return r;
}
