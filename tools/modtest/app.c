/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/app.c - the application behind the protocol: the same answer whatever the request says.
 *
 * What it does depends on the run (enum mt_answer), one step at a time, so that output is pulled in between.
 */
#include "modtest.h"

#include <stdint.h>
#include <string.h>

const char *const mt_answer_names[MT_ANSWERS] = {
    "answered after the body",  "answered in pieces with trailers", "answered without a length",
    "answered with 204",        "answered with 200000 bytes",       "answered before the body is read",
    "answered after a 103",     "the body taken in small pieces",   "the body taken late",
    "reset by the application", "reset after some of the answer",   "never answered",
};

#define FIELD(nm, vl)                                                         \
	{                                                                     \
		.name = {nm, sizeof(nm) - 1}, .value = { vl, sizeof(vl) - 1 } \
	}
static const struct lc_field f_text[] = {FIELD("Content-Type", "text/plain")};
static const struct lc_field f_link[] = {FIELD("Link", "</style.css>; rel=preload")};
static const struct lc_field f_trailers[] = {FIELD("X-Sum", "42"), FIELD("X-More", "a b")};
static char big[200000];

static uint64_t
hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t k = 0; k < n; k++)
		h = (h ^ b[k]) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t
hash_str(uint64_t h, struct lc_str v)
{
	h = hash(h, &v.n, sizeof(v.n));
	return v.p ? hash(h, v.p, v.n) : h;
}

uint64_t
mt_print_of(const struct lc_req *r)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	const struct lc_str *all[] = {&r->method, &r->scheme, &r->authority, &r->target,
				      &r->path,   &r->query,  &r->protocol};

	for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++)
		h = hash_str(h, *all[k]);
	h = hash(h, &r->version, sizeof(r->version));
	h = hash(h, &r->flags, sizeof(r->flags));
	h = hash(h, &r->length, sizeof(r->length));
	for (uint32_t k = 0; r->fields && k < r->nfields; k++)
		h = hash_str(hash_str(h, r->fields[k].name), r->fields[k].value);
	return h;
}

static void
log_str(struct mt_buf *b, const char *name, struct lc_str v)
{
	mt_fmt(b, " %s=", name);
	mt_add(b, v.p ? v.p : "-", v.p ? v.n : 1);
}

static void
log_fields(struct lc_stream *s, const char *what, const struct lc_field *f, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		mt_fmt(&s->log, "%s", what);
		log_str(&s->log, "name", f[k].name);
		log_str(&s->log, "value", f[k].value);
		mt_fmt(&s->log, " token %u\n", f[k].token);
	}
}

void
mt_log_request(struct lc_stream *s)
{
	const struct lc_req *r = &s->req;

	mt_fmt(&s->log, "request %x", r->version);
	log_str(&s->log, "protocol", r->protocol);
	log_str(&s->log, "scheme", r->scheme);
	log_str(&s->log, "method", r->method);
	log_str(&s->log, "target", r->target);
	log_str(&s->log, "authority", r->authority);
	log_str(&s->log, "path", r->path);
	log_str(&s->log, "query", r->query);
	mt_fmt(&s->log, " length=%lld flags=%u\n", (long long)r->length, r->flags);
	log_fields(s, "field", r->fields, r->nfields);
}

int
mt_app_takes(struct lc_stream *s, size_t max)
{
	size_t n = s->in.n - s->in_off;

	n = n < max ? n : max;
	s->in_off += n;
	s->consumed += n;
	return n > 0;
}

static void
respond(struct lc_stream *s, uint32_t status, int64_t length)
{
	s->head = (struct lc_head){
	    .size = sizeof(s->head), .status = status, .fields = f_text, .nfields = status != 204, .length = length};
	s->ev_head = s->responded = 1;
}

static void
say(struct lc_stream *s, const char *p, size_t n, int fin)
{
	mt_add(&s->outq, p, n);
	s->out_fin = fin;
	s->ev_out = 1;
}

static int
reset(struct lc_stream *s)
{
	s->ev_reset = s->released = 1;
	s->reason = LC_RSN_APP_ERROR;
	return 1;
}

/* The whole body is there and was taken. */
static void
answer(struct lc_stream *s)
{
	mt_fmt(&s->log, "body %zu %llx end\n", s->seen.n, (unsigned long long)hash(1, s->seen.p, s->seen.n));
	log_fields(s, "trailer", s->in_trailers, s->nin_trailers);
	s->step = 1;
	switch (s->c->o.answer) {
	case MT_PIECES:
	case MT_RESET_MID:
		respond(s, 200, -1);
		say(s, "first ", 6, 0);
		return;
	case MT_WHOLE:
		respond(s, 200, -1);
		break;
	case MT_EMPTY:
		respond(s, 204, 0);
		say(s, "", 0, 1);
		return;
	case MT_BIG:
		memset(big, 'x', sizeof(big));
		respond(s, 200, sizeof(big));
		say(s, big, sizeof(big), 1);
		return;
	default:
		respond(s, 200, 6);
		break;
	}
	say(s, "hello\n", 6, 1);
}

static int
later(struct lc_stream *s)
{
	if (s->out_fin) { /* what it has not read of the body, nobody will */
		s->released = 1;
		return mt_app_takes(s, SIZE_MAX);
	}
	switch (s->step++) {
	case 1:
		if (s->c->o.answer == MT_RESET_MID)
			return reset(s);
		say(s, "second piece ", 13, 0);
		return 1;
	case 2:
		s->out_trailers = f_trailers;
		s->nout_trailers = 2;
		s->ev_trailers = 1;
		say(s, "last", 4, 1);
		return 1;
	default:
		return 0;
	}
}

int
mt_app_step(struct lc_stream *s)
{
	enum mt_answer how = s->c->o.answer;

	if (!s->headed || s->ev_request || s->aborted || s->released || s->proto_done)
		return 0;
	if (s->responded)
		return later(s);
	if (how == MT_NEVER || (how == MT_LATE && !s->waited))
		return 0;
	if (how == MT_EARLY) {
		s->step = 1;
		respond(s, 200, 2);
		say(s, "no", 2, 1);
		return 1;
	}
	if (how == MT_RESET)
		return reset(s);
	if (how == MT_INFO && s->step == 0) {
		s->step = 1;
		s->info = (struct lc_head){
		    .size = sizeof(s->info), .status = 103, .fields = f_link, .nfields = 1, .length = -1};
		s->ev_info = 1;
		return 1;
	}
	if (mt_app_takes(s, how == MT_SLOW ? 1000 : SIZE_MAX))
		return 1;
	if (how == MT_INFO && !s->in_fin && (s->req.flags & LC_R_EXPECT) && !s->told_100 && !s->in.n) {
		s->told_100 = 1;
		s->go_on = (struct lc_head){.size = sizeof(s->go_on), .status = 100, .length = -1};
		s->ev_100 = 1;
		return 1;
	}
	if (!s->in_fin || s->in_off < s->in.n)
		return 0;
	answer(s);
	return 1;
}
