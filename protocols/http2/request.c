/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * request.c - header blocks to requests (RFC 9113 8.3), body and trailers.
 *
 * nghttp2 has checked the messaging rules: pseudo-fields once, first and complete, names in lower case, no field that
 * belongs to a connection, content-length that the DATA frames keep.  What is left are our limits, the target and the
 * host (protocols/semantics), cookie crumbs (8.2.3), and Host beside :authority (8.3.1).
 *
 * Everything lies in the stream's arena, values in blocks of ROOM bytes, so that a field costs no call.
 * A block that breaks a limit is still decoded, since HPACK's state is the connection's, but not kept; one that breaks
 * it by far ends the connection.
 */
#include <string.h>

#include "http2/http2.h"

#define ROOM 1024u
#define FIELDS 16u
#define CRUMBS 500u
#define FAR 4u /* times limit_request_head: no client means that */

int
h2_begin(struct h2 *s, int32_t id)
{
	struct h2s *x = h2s_new(s, id);

	if (!x)
		return -1;
	x->st = h2_api->stream_open(s->c, (uint64_t)id, x, &x->rq);
	if (!x->st) {
		h2s_free_if_done(x);
		return -1;
	}
	x->ng = x->core = 1;
	nghttp2_session_set_stream_user_data(s->ng, id, x);
	s->nstreams++;
	s->requests++;
	h2_tick_on(s);
	return 0;
}

/* Arena memory, small pieces side by side. */
static char *
keep(struct h2s *x, const uint8_t *p, size_t n)
{
	if (!x->room || (size_t)(x->room_end - x->room) < n) {
		size_t block = n > ROOM ? n : ROOM;
		char *room = h2_api->stream_alloc(x->st, block);
		if (!room)
			return NULL;
		x->room = room;
		x->room_end = room + block;
	}
	char *to = x->room;
	memcpy(to, p, n);
	x->room += n;
	return to;
}

static struct lc_field *
field_new(struct h2s *x)
{
	if (x->nfields == x->cap) {
		uint32_t cap = x->cap ? 2 * x->cap : FIELDS;
		struct lc_field *v = h2_api->stream_alloc(x->st, cap * sizeof(*v));
		if (!v)
			return NULL;
		if (x->nfields)
			memcpy(v, x->fields, x->nfields * sizeof(*v));
		x->fields = v;
		x->cap = cap;
	}
	return &x->fields[x->nfields++];
}

static void
refuse(struct h2s *x, uint16_t status)
{
	if (!x->refuse)
		x->refuse = status;
}

static int
is(const uint8_t *name, size_t n, const char *what)
{
	return n == strlen(what) && memcmp(name, what, n) == 0;
}

/* The block counts as its lines would; far beyond the limit nobody is to be answered.  1: the connection is going down.
 */
int
h2_header_size(struct h2 *s, size_t n)
{
	s->block_bytes += n + 4;
	if (s->block_bytes <= FAR * s->conf->head_size)
		return 0;
	h2_go_away(s, NGHTTP2_ENHANCE_YOUR_CALM, "a header block far beyond limit_request_head");
	return 1;
}

void
h2_header(struct h2s *x, const uint8_t *name, size_t name_n, const uint8_t *value, size_t value_n)
{
	const struct h2_conf *conf = x->s->conf;
	struct lc_str *pseudo = NULL;

	if (!x->st)
		return;
	if (x->s->block_bytes > conf->head_size)
		refuse(x, 431);
	if (x->refuse && name[0] != ':')
		return;
	if (name_n && name[0] == ':') {
		if (is(name, name_n, ":method"))
			pseudo = &x->method;
		else if (is(name, name_n, ":path"))
			pseudo = &x->path;
		else if (is(name, name_n, ":authority"))
			pseudo = &x->authority;
		else
			pseudo = &x->scheme;
		if (value_n > (pseudo == &x->path ? conf->request_line : conf->field_size)) {
			refuse(x, pseudo == &x->path ? 414 : 431);
			return;
		}
		char *at = keep(x, value, value_n);
		if (!at)
			refuse(x, 503);
		else
			*pseudo = (struct lc_str){at, value_n};
		return;
	}
	uint16_t token = lc_token((const char *)name, name_n);
	/* browsers send a crumb for each cookie: together they are one field, and have a limit of their own */
	uint32_t crumbs = x->ncookies ? x->ncookies - 1 : 0;
	if (name_n + value_n + 2 > conf->field_size ||
	    x->nfields - crumbs >= conf->fields + (crumbs && token == LC_TOK_COOKIE) || x->ncookies > CRUMBS) {
		refuse(x, 431);
		return;
	}
	if (x->in == H2_IN_TRAILERS && !lc_token_in_trailer(token))
		return; /* RFC 9110 6.5.1 */
	char *at = keep(x, value, value_n);
	const char *nm = token ? lc_token_name(token) : keep(x, name, name_n);
	if (!at || !nm) {
		refuse(x, 503);
		return;
	}
	struct lc_str v = lc_value_trim(at, value_n);
	switch (x->in == H2_IN_TRAILERS ? LC_TOK_NONE : token) {
	case LC_TOK_HOST:
		if (x->has_host++)
			refuse(x, 400);
		x->host = v;
		break;
	case LC_TOK_CONTENT_LENGTH:
		x->length = lc_length_parse(v.p, v.n);
		if (x->has_length++ || x->length < 0)
			refuse(x, 400);
		break;
	case LC_TOK_EXPECT:
		if (v.n != 12 || !lc_case_equal(v.p, "100-continue", 12))
			refuse(x, 417);
		x->expect = 1;
		break;
	case LC_TOK_TE:
		if (lc_list_has(v.p, v.n, "trailers"))
			x->rq->flags |= LC_R_TRAILERS_OK;
		break;
	case LC_TOK_COOKIE:
		x->ncookies++;
		break;
	case LC_TOK_NONE:
		x->has_priority |= x->in == H2_IN_HEAD && is(name, name_n, "priority");
		break;
	default:
		break;
	}
	struct lc_field *f = field_new(x);
	if (!f) {
		refuse(x, 503);
		return;
	}
	*f = (struct lc_field){.name = {nm, name_n}, .value = v, .token = token};
	return;
}

/* Crumbs become one field, where the first of them was (RFC 9113 8.2.3). */
static int
join_cookies(struct h2s *x)
{
	size_t n = 0;

	for (uint32_t k = 0; k < x->nfields; k++)
		if (x->fields[k].token == LC_TOK_COOKIE)
			n += x->fields[k].value.n + 2;
	char *all = h2_api->stream_alloc(x->st, n), *p = all;
	if (!all)
		return -1;
	struct lc_field *first = NULL;
	uint32_t kept = 0;
	for (uint32_t k = 0; k < x->nfields; k++) {
		struct lc_field f = x->fields[k];
		if (f.token == LC_TOK_COOKIE) {
			if (first) {
				memcpy(p, "; ", 2);
				p += 2;
			}
			memcpy(p, f.value.p, f.value.n);
			p += f.value.n;
			if (first)
				continue;
			first = &x->fields[kept];
		}
		x->fields[kept++] = f;
	}
	first->value = (struct lc_str){all, (size_t)(p - all)};
	x->nfields = kept;
	return 0;
}

/* NULL, or why the request is refused with x->refuse. */
static const char *
check(struct h2s *x, struct lc_target *ret)
{
	if (x->refuse)
		return x->refuse == 414   ? "the target is too long"
		       : x->refuse == 431 ? "the header fields are too many or too large"
		       : x->refuse == 417 ? "an expectation other than 100-continue"
		       : x->refuse == 503 ? "no memory for the head"
					  : "a field is there twice or is not valid";
	if (!lc_name_valid(x->method.p, x->method.n)) {
		refuse(x, 400);
		return "the method is not valid";
	}
	if (x->method.n == 7 && memcmp(x->method.p, "CONNECT", 7) == 0) {
		refuse(x, 501);
		return "CONNECT";
	}
	if (lc_target_parse(ret, x->method, x->path.p, x->path.n) != LC_TARGET_OK || ret->absolute) {
		refuse(x, 400);
		return "the request target is not valid";
	}
	if (!x->authority.p)
		x->authority = x->host;
	if (!x->authority.n || !lc_host_valid(x->authority.p, x->authority.n)) {
		refuse(x, 400);
		return x->authority.n ? ":authority is not valid" : "neither :authority nor Host";
	}
	if (x->has_host && (x->host.n != x->authority.n || !lc_case_equal(x->host.p, x->authority.p, x->host.n))) {
		refuse(x, 400);
		return "Host is another than :authority";
	}
	if (x->s->conf->body_size && x->length > 0 && (uint64_t)x->length > x->s->conf->body_size) {
		refuse(x, 413);
		return "the body is larger than limit_request_body";
	}
	return NULL;
}

/* What a trusted proxy says of the client.  NULL, or why the request is refused. */
static const char *
believe_proxy(struct h2s *x)
{
	const char *ignored = NULL;
	int r = lc_trust_apply(x->s->trust, &x->s->trusted, x->rq, x->st, h2_api->stream_alloc, &ignored);

	if (ignored)
		h2_api->log(x->s->c, LC_LOG_DEBUG, "ignored, from a trusted proxy: %s", ignored);
	if (r == LC_TRUST_OK)
		return NULL;
	refuse(x, r == LC_TRUST_CONTRADICTION ? 400 : 503);
	return r == LC_TRUST_CONTRADICTION ? "fields of a trusted proxy contradict each other"
					   : "no memory for the head";
}

/* Without a word of the client's its streams take turns: a download does not hold up what is asked for beside it.
 * (RFC 9218 4.2's default, one after the other, is a guess of what it wants, which a server need not share.) */
static void
take_turns(struct h2s *x)
{
	nghttp2_extpri now = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};

	h2_must(x->s, nghttp2_session_change_extpri_stream_priority(x->s->ng, x->id, &now, 0));
}

void
h2_headers_end(struct h2s *x, int end_stream)
{
	struct lc_target target = {0};
	struct lc_req *rq = x->rq;

	x->in = end_stream ? H2_IN_DONE : H2_IN_BODY;
	if (!x->st)
		return;
	x->is_head = x->method.n == 4 && memcmp(x->method.p, "HEAD", 4) == 0;
	const char *why = check(x, &target);
	if (!why && x->ncookies > 1 && join_cookies(x) < 0) {
		refuse(x, 503);
		why = "no memory for the head";
	}
	if (why) {
		h2_answer(x, x->refuse, why);
		return;
	}
	if (end_stream)
		x->expect = 0;
	rq->version = 0x0200;
	rq->protocol = (struct lc_str){"HTTP/2", 6};
	rq->scheme = rq->flags & LC_R_TLS ? (struct lc_str){"https", 5} : (struct lc_str){"http", 4};
	rq->method = x->method;
	rq->authority = x->authority;
	rq->target = x->path;
	rq->path = target.path;
	rq->query = target.query;
	rq->fields = x->fields;
	rq->nfields = x->nfields;
	rq->length = end_stream ? 0 : x->length;
	if (!end_stream)
		rq->flags |= (uint16_t)(LC_R_BODY | (x->expect ? LC_R_EXPECT : 0));
	if (x->s->trust && (why = believe_proxy(x))) {
		h2_answer(x, x->refuse, why);
		return;
	}
	if (!x->has_priority)
		take_turns(x);
	x->headed = 1;
	if (h2_api->stream_head(x->st, end_stream) < 0)
		h2_answer(x, 503, "no memory for the request");
}

void
h2_data(struct h2s *x, const uint8_t *p, size_t n)
{
	const struct h2_conf *conf = x->s->conf;

	x->stalled = 0;
	x->in_total += n;
	h2_credit(x, n);
	if (!x->st)
		return;
	h2_brought(x->s, n);
	if (conf->body_size && x->in_total > conf->body_size)
		h2_answer(x, 413, "the body is larger than limit_request_body");
	else if (h2_api->stream_body(x->st, p, n) < 0)
		h2_answer(x, 503, "no memory for the body");
}

/* The last byte, or the trailers, have come. */
void
h2_end(struct h2s *x)
{
	int trailers = x->in == H2_IN_TRAILERS;

	x->in = H2_IN_DONE;
	if (x->st && x->refuse) {
		h2_answer(x, x->refuse, "the trailer fields are too many or too large");
		return;
	}
	if (x->st && h2_api->stream_end(x->st, trailers ? x->fields : NULL, trailers ? x->nfields : 0) < 0)
		h2_answer(x, 503, "no memory for the body");
}
