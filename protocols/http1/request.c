/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * request.c - from a parsed head to a request: what RFC 9112 and RFC 9110 demand of it, and its place in the arena.
 *
 * Everything is checked before the stream is opened, so that a refusal has nothing to undo.  Then the bytes of the head
 * go into the arena in one copy, names are lowered there, and the fields point into it.
 */
#include <assert.h>
#include <string.h>

#include "http1/http1.h"

/* The fields that decide about framing, routing and the connection. */
struct facts {
	struct lc_str host, te, length, expect;
	uint32_t nhost, nte, nlength, nexpect;
	int te_trailers;
};

/* Give each field its token, trim its value, and collect the facts. */
static void
look_at_fields(struct h1 *s, struct facts *ret)
{
	struct facts t = {0};
	const char *base = s->base;
	struct h1_span *f = s->sc->v, *end = f + s->sc->n;

	for (; f < end; f++) {
		const char *p = base + f->value;
		uint32_t n = f->value_n;
		while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		f->value_n = n;
#ifdef LC_DEBUG /* llhttp has let nothing else through */
		assert(lc_name_valid(base + f->name, f->name_n) && lc_value_valid(p, n));
#endif
		f->token = lc_token(base + f->name, f->name_n);
		struct lc_str v = {p, n};
		switch (f->token) {
		case LC_TOK_HOST:
			t.host = v;
			t.nhost++;
			break;
		case LC_TOK_CONTENT_LENGTH:
			t.length = v;
			t.nlength++;
			break;
		case LC_TOK_TRANSFER_ENCODING:
			t.te = v;
			t.nte++;
			break;
		case LC_TOK_EXPECT:
			t.expect = v;
			t.nexpect++;
			break;
		case LC_TOK_TE:
			t.te_trailers |= lc_list_has(v.p, v.n, "trailers");
			break;
		default:
			break;
		}
	}
	*ret = t;
}

/* The request line has exactly one space at its two places, and speaks of HTTP: llhttp is not so strict. */
static int
check_line(struct h1 *s, struct lc_str *ret_method)
{
	const struct h1_scratch *sc = s->sc;

	/* Without a version it is an HTTP/0.9 request. */
	if (sc->version_n == 0 || s->p.http_major != 1 || s->p.http_minor > 1)
		return h1_refuse(s, 505, "neither HTTP/1.1 nor HTTP/1.0");
	/* between method and target llhttp skips spaces and nothing else */
	const char *url = s->base + sc->url;
	if (sc->url < 2 || url[-1] != ' ' || url[-2] == ' ' || sc->url + sc->url_n + 6 != sc->version)
		return h1_refuse(s, 400, "spaces in the request line");
	if (memcmp(url + sc->url_n, " HTTP/", 6) != 0)
		return h1_refuse(s, 400, "another protocol in the request line");
	*ret_method = (struct lc_str){s->base, sc->url - 1};
	return 0;
}

/* Body length: -1 chunked, 0 none.  Returns 0 or refused. */
static int
check_framing(struct h1 *s, const struct facts *t, int64_t *ret_length)
{
	int64_t length = 0;

	if (t->nte) {
		if (s->minor == 0)
			return h1_refuse(s, 400, "Transfer-Encoding in HTTP/1.0");
		if (t->nlength)
			return h1_refuse(s, 400, "Content-Length beside Transfer-Encoding");
		if (t->nte > 1 || t->te.n != 7 || !lc_case_equal(t->te.p, "chunked", 7))
			return h1_refuse(s, 501, "a transfer coding other than chunked");
		length = -1;
	} else if (t->nlength) {
		if (t->nlength > 1)
			return h1_refuse(s, 400, "more than one Content-Length");
		length = lc_length_parse(t->length.p, t->length.n);
		if (length < 0 || (uint64_t)length != s->p.content_length)
			return h1_refuse(s, 400, "Content-Length is no number");
		if (s->conf->body_size && (uint64_t)length > s->conf->body_size)
			return h1_refuse(s, 413, "the body is larger than limit_request_body");
	}
	*ret_length = length;
	return 0;
}

/* Most requests name the host that the last one named. */
static int
host_valid(struct lc_str host)
{
	static char last[64];
	static size_t last_n; /* of a valid one, 0: none */

	if (host.n == last_n && host.n && memcmp(host.p, last, host.n) == 0)
		return 1;
	if (!lc_host_valid(host.p, host.n))
		return 0;
	if (host.n <= sizeof(last)) {
		memcpy(last, host.p, host.n);
		last_n = host.n;
	}
	return 1;
}

static int
check_host(struct h1 *s, const struct facts *t, const struct lc_target *target, struct lc_str *ret_authority)
{
	if (t->nhost > 1)
		return h1_refuse(s, 400, "more than one Host");
	if (t->nhost == 0 && s->minor >= 1)
		return h1_refuse(s, 400, "no Host");
	if (t->nhost && !host_valid(t->host))
		return h1_refuse(s, 400, "Host is not valid");
	*ret_authority = target->absolute ? target->authority : t->host; /* RFC 9112 3.2.2: the target's counts */
	return 0;
}

/* A string that lies in the head, moved with it. */
static inline struct lc_str
moved(struct lc_str v, const char *from, const char *to)
{
	return (struct lc_str){to + (v.p - from), v.n};
}

/* 0 or refused. */
static int
believe_proxy(struct h1 *s, struct lc_req *rq)
{
	const char *ignored = NULL;
	int r = lc_trust_apply(s->trust, &s->trusted, rq, s->st, h1_api->stream_alloc, &ignored);

	if (ignored)
		h1_api->log(s->c, LC_LOG_DEBUG, "ignored, from a trusted proxy: %s", ignored);
	if (r == LC_TRUST_CONTRADICTION)
		return h1_refuse(s, 400, "fields of a trusted proxy contradict each other");
	return r < 0 ? h1_refuse(s, 503, "no memory for the request") : 0;
}

int
h1_request(struct h1 *s)
{
	const struct h1_scratch *sc = s->sc;
	struct lc_str method, authority = {NULL, 0};
	struct lc_target target;
	struct facts t;
	int64_t length = 0;

	s->minor = s->p.http_minor;
	s->is_head = s->p.method == HTTP_HEAD;
	if (check_line(s, &method))
		return HPE_USER;
	look_at_fields(s, &t);
	if (s->p.method == HTTP_CONNECT)
		return h1_refuse(s, 501, "CONNECT");
	struct lc_str url = {s->base + sc->url, sc->url_n};
	if (lc_target_parse(&target, method, url.p, url.n) != LC_TARGET_OK)
		return h1_refuse(s, 400, "the request target is not valid");
	if (check_framing(s, &t, &length) || check_host(s, &t, &target, &authority))
		return HPE_USER;
	s->chunked = length < 0;
	s->no_body = length == 0;
	if (t.nexpect && s->minor >= 1) {
		if (t.nexpect > 1 || t.expect.n != 12 || !lc_case_equal(t.expect.p, "100-continue", 12))
			return h1_refuse(s, 417, "an expectation other than 100-continue");
		s->expect = length != 0;
	}
	s->client_keep = s->p.flags & F_CONNECTION_CLOSE ? 0
			 : s->minor >= 1                 ? 1
							 : (s->p.flags & F_CONNECTION_KEEP_ALIVE) != 0;
	s->keep = s->client_keep && (!s->conf->keepalive_requests || s->requests < s->conf->keepalive_requests);

	/* Nothing to refuse in the request itself from here. */
	size_t head_n = h1_spans_end(sc);
	struct lc_req *rq;
	s->st = h1_api->stream_open(s->c, s->requests, s, &rq);
	if (!s->st)
		return h1_refuse(s, 503, "too much at once");
	s->x = h1_api->stream_alloc(s->st, sizeof(*s->x) + sc->n * sizeof(struct lc_field) + head_n);
	if (!s->x) {
		h1_api->stream_abort(s->st, LC_RSN_LIMIT);
		s->st = NULL;
		return h1_refuse(s, 503, "no memory for the request");
	}
	*s->x = (struct h1_x){0};
	struct lc_field *fields = (struct lc_field *)(s->x + 1);
	char *head = (char *)(fields + sc->n);
	memcpy(head, s->base, head_n);
	const struct h1_span *f = sc->v, *end = f + sc->n;
	for (struct lc_field *to = fields; f < end; f++, to++) {
		const char *name = head + f->name;
		if (f->token) /* its lower-case spelling is at hand */
			name = lc_token_name(f->token);
		else
			lc_name_lower(head + f->name, f->name_n);
		*to = (struct lc_field){
		    .name = {name, f->name_n}, .value = {head + f->value, f->value_n}, .token = f->token};
	}
	rq->version = (uint16_t)(0x0100 | s->minor);
	rq->scheme = rq->flags & LC_R_TLS ? (struct lc_str){"https", 5} : (struct lc_str){"http", 4};
	rq->protocol = s->minor ? (struct lc_str){"HTTP/1.1", 8} : (struct lc_str){"HTTP/1.0", 8};
	rq->flags |= (uint16_t)((length ? LC_R_BODY : 0) | (s->expect ? LC_R_EXPECT : 0) |
				(t.te_trailers ? LC_R_TRAILERS_OK : 0));
	rq->method = (struct lc_str){head, method.n};
	rq->target = (struct lc_str){head + sc->url, sc->url_n};
	rq->authority = authority.p ? moved(authority, s->base, head) : (struct lc_str){"", 0};
	if (target.absolute && target.path.n == 1) /* may lie in the head or not, but is one of two */
		rq->path = (struct lc_str){*target.path.p == '*' ? "*" : "/", 1};
	else
		rq->path = moved(target.path, s->base, head);
	rq->query = target.query.p ? moved(target.query, s->base, head) : (struct lc_str){NULL, 0};
	rq->fields = fields;
	rq->nfields = sc->n;
	rq->length = length;
	if (s->trust && believe_proxy(s, rq))
		return HPE_USER;
	if (h1_api->stream_head(s->st, length == 0) < 0)
		return h1_refuse(s, 503, "no memory for the request");
	return 0;
}

int
h1_trailers(struct h1 *s, const struct lc_field **ret, uint32_t *ret_n)
{
	const struct h1_scratch *sc = s->sc;
	size_t n = h1_spans_end(sc);
	uint32_t kept = 0;

	if (h1_over_limit(s, n + 4, 0))
		return HPE_USER;
	struct lc_field *fields = h1_api->stream_alloc(s->st, sc->n * sizeof(*fields) + n);
	if (!fields)
		return h1_refuse(s, 503, "no memory for the trailers");
	char *copy = (char *)(fields + sc->n);
	memcpy(copy, s->base, n);
	for (uint32_t k = 0; k < sc->n; k++) {
		const struct h1_span *f = &sc->v[k];
		uint16_t token = lc_token(copy + f->name, f->name_n);
		if (!lc_token_in_trailer(token))
			continue; /* dropped, as RFC 9110 6.5.1 has it: merging them would be a way around the head's
				     checks */
		lc_name_lower(copy + f->name, f->name_n);
		fields[kept++] = (struct lc_field){.name = {copy + f->name, f->name_n},
						   .value = lc_value_trim(copy + f->value, f->value_n),
						   .token = token};
	}
	*ret = fields;
	*ret_n = kept;
	return 0;
}
