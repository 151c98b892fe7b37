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
	uint32_t host_at, upgrade_at; /* which field it is */
	int te_trailers;
	uint32_t rare; /* RARE_* */
};

#define RARE_UPGRADE 1u
#define RARE_PROXY_CONNECTION 2u

/* Fields that framing, routing and the connection depend on. */
static int
decides(uint16_t token)
{
	return token == LC_TOK_HOST || token == LC_TOK_CONTENT_LENGTH || token == LC_TOK_EXPECT ||
	       (lc_token_hop_by_hop(token) && token != LC_TOK_HTTP2_SETTINGS);
}

/*
 * With permit_obsolete_folding on: llhttp lets folds through, and with them much else.  What it is strict about
 * otherwise is demanded here: a line begins with a name, which is a token and has the colon behind it, and in the value
 * there is nothing but allowed bytes and CR LF where a fold is.
 */
static int
check_folds(struct h1 *s)
{
	const struct h1_span *f = s->sc->v, *end = f + s->sc->n;

	for (; f < end; f++) {
		const char *name = s->base + f->name, *p = name + f->name_n, *stop = s->base + f->value + f->value_n;
		H1_CHECK(s, H1_FIELD_FOLD, f->name && name[-1] != '\n');
		H1_CHECK(s, H1_FIELD_NAME, !lc_name_valid(name, f->name_n) || *p != ':');
		if (f->value_n == 0)
			continue;
		H1_CHECK(s, H1_FIELD_FOLD, memchr(p, '\r', (size_t)(stop - p)) && decides(lc_token(name, f->name_n)));
		for (p++; p < stop; p++) {
			if (stop - p > 2 && p[0] == '\r' && p[1] == '\n' && (p[2] == ' ' || p[2] == '\t'))
				p += 2;
			H1_CHECK(s, H1_FIELD_VALUE, !lc_value_valid(p, 1));
		}
	}
	return 0;
}

/* Each fold, with the white space around it, becomes one space (RFC 9112 5.2). */
static struct lc_str
unfolded(char *p, size_t n)
{
	size_t to = 0;

	for (size_t k = 0; k < n; k++) {
		if (p[k] != '\r') {
			p[to++] = p[k];
			continue;
		}
		while (to && (p[to - 1] == ' ' || p[to - 1] == '\t'))
			to--;
		p[to++] = ' ';
		for (k++; k + 1 < n && (p[k + 1] == ' ' || p[k + 1] == '\t'); k++)
			;
	}
	return lc_value_trim(p, to);
}

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
		assert(lc_name_valid(base + f->name, f->name_n) && (s->conf->fold || lc_value_valid(p, n)));
#endif
		f->token = lc_token(base + f->name, f->name_n);
		struct lc_str v = {p, n};
		switch (f->token) {
		case LC_TOK_HOST:
			t.host = v;
			t.host_at = (uint32_t)(f - s->sc->v);
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
		case LC_TOK_UPGRADE:
			if (!(t.rare & RARE_UPGRADE))
				t.upgrade_at = (uint32_t)(f - s->sc->v);
			t.rare |= RARE_UPGRADE;
			break;
		case LC_TOK_PROXY_CONNECTION:
			t.rare |= RARE_PROXY_CONNECTION;
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

/* llhttp takes Proxy-Connection for Connection; it is for nobody (RFC 9112 C.2.2): look again. */
static void
look_at_connection(struct h1 *s)
{
	const struct h1_span *f = s->sc->v, *end = f + s->sc->n;

	s->p.flags &= (uint16_t) ~(F_CONNECTION_CLOSE | F_CONNECTION_KEEP_ALIVE | F_CONNECTION_UPGRADE);
	for (; f < end; f++) {
		const char *p = s->base + f->value;
		if (f->token != LC_TOK_CONNECTION)
			continue;
		s->p.flags |= (lc_list_has(p, f->value_n, "close") ? F_CONNECTION_CLOSE : 0) |
			      (lc_list_has(p, f->value_n, "keep-alive") ? F_CONNECTION_KEEP_ALIVE : 0) |
			      (lc_list_has(p, f->value_n, "upgrade") ? F_CONNECTION_UPGRADE : 0);
	}
}

/* The request line has exactly one space at its two places, and speaks of HTTP: llhttp is not so strict. */
static int
check_line(struct h1 *s, struct lc_str *ret_method)
{
	const struct h1_scratch *sc = s->sc;

	H1_CHECK(s, H1_VERSION_MISSING, sc->version_n == 0); /* HTTP/0.9 */
	H1_CHECK(s, H1_VERSION_UNSUPPORTED, s->p.http_major != 1);
	/* between method and target llhttp skips spaces and nothing else */
	const char *url = s->base + sc->url;
	/* llhttp has seen "HTTP/", "RTSP/" or " ICE/" */
	H1_CHECK(s, H1_VERSION_PROTOCOL, s->base[sc->version - 5] != 'H');
	H1_CHECK(s, H1_LINE_SPACES,
		 sc->url < 2 || url[-1] != ' ' || url[-2] == ' ' || sc->url + sc->url_n + 6 != sc->version);
	*ret_method = (struct lc_str){s->base, sc->url - 1};
	return 0;
}

static __attribute__((cold)) int
check_target(struct h1 *s, int bad)
{
	H1_CHECK(s, H1_TARGET_CHAR, bad == LC_TARGET_CHAR);
	H1_CHECK(s, H1_TARGET_FORM, bad == LC_TARGET_FORM);
	H1_CHECK(s, H1_TARGET_AUTHORITY, bad == LC_TARGET_AUTHORITY);
	return 0;
}

/* All elements of all Transfer-Encoding fields (RFC 9112 6.1, 6.3 and 7).  Returns 0 or refused. */
static int
check_codings(struct h1 *s)
{
	const struct h1_span *f = s->sc->v, *end = f + s->sc->n;
	int chunked = 0, others = 0, last = 0, bad = 0;

	for (; f < end; f++) {
		const char *p = s->base + f->value, *stop = p + f->value_n;
		while (f->token == LC_TOK_TRANSFER_ENCODING && p) {
			const char *comma = memchr(p, ',', (size_t)(stop - p)), *e = comma ? comma : stop;
			const char *semi = memchr(p, ';', (size_t)(e - p));
			struct lc_str name = lc_value_trim(p, (size_t)((semi ? semi : e) - p));
			last = name.n == 7 && lc_case_equal(name.p, "chunked", 7);
			chunked += last;
			others += !last;
			bad |= !lc_name_valid(name.p, name.n) || (last && semi);
			p = comma ? comma + 1 : NULL;
		}
	}
	H1_CHECK(s, H1_CODING_SYNTAX, bad);
	H1_CHECK(s, H1_CODING_LAST, !last);
	H1_CHECK(s, H1_CODING_TWICE, chunked > 1);
	H1_CHECK(s, H1_CODING_UNKNOWN, others);
	return 0;
}

/* Body length: -1 chunked, 0 none.  Returns 0 or refused. */
static int
check_framing(struct h1 *s, const struct facts *t, int64_t *ret_length)
{
	int64_t length = 0;

	if (t->nte) {
		H1_CHECK(s, H1_CODING_HTTP10, s->minor == 0);
		H1_CHECK(s, H1_CODING_LENGTH, t->nlength);
		if (check_codings(s))
			return HPE_USER;
		s->p.flags |= F_CHUNKED; /* llhttp has seen it, too, unless HTAB stands behind it */
		length = -1;
	} else if (t->nlength) {
		H1_CHECK(s, H1_LENGTH_TWICE, t->nlength > 1);
		length = lc_length_parse(t->length.p, t->length.n);
		H1_CHECK(s, H1_LENGTH_OVERFLOW, length == LC_LENGTH_OVERFLOW);
		H1_CHECK(s, H1_LENGTH_SYNTAX, length < 0 || (uint64_t)length != s->p.content_length);
		H1_CHECK(s, H1_BODY_LIMIT, s->conf->body_size && (uint64_t)length > s->conf->body_size);
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
	H1_CHECK(s, H1_HOST_TWICE, t->nhost > 1);
	H1_CHECK(s, H1_HOST_MISSING, t->nhost == 0 && s->minor >= 1);
	H1_CHECK(s, H1_HOST_INVALID, t->nhost && !host_valid(t->host));
	*ret_authority = target->absolute && h1_on(H1_ABSOLUTE_HOST)
			     ? target->authority
			     : t->host; /* RFC 9112 3.2.2: the target's counts */
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
		return h1_fail(s, 400, "fields of a trusted proxy contradict each other");
	return r < 0 ? h1_fail(s, 503, "no memory for the request") : 0;
}

int
h1_request(struct h1 *s)
{
	const struct h1_scratch *sc = s->sc;
	struct lc_str method, authority = {NULL, 0};
	struct lc_target target;
	struct facts t;
	int64_t length = 0;

	s->minor =
	    s->p.http_minor > 1 ? 1 : s->p.http_minor; /* a higher one means the highest we know (RFC 9110 2.5) */
	s->is_head = s->p.method == HTTP_HEAD;
	if (check_line(s, &method))
		return HPE_USER;
	if (s->conf->fold && check_folds(s))
		return HPE_USER;
	look_at_fields(s, &t);
	H1_CHECK(s, H1_METHOD_CONNECT, s->p.method == HTTP_CONNECT);
	int bad = lc_target_parse(&target, method, s->base + sc->url, sc->url_n);
	if (bad && check_target(s, bad))
		return HPE_USER;
	if (check_framing(s, &t, &length) || check_host(s, &t, &target, &authority))
		return HPE_USER;
	s->chunked = length < 0;
	s->no_body = length == 0;
	if (t.nexpect && (s->minor >= 1 || !h1_on(H1_EXPECT_HTTP10))) {
		H1_CHECK(s, H1_EXPECT_UNKNOWN,
			 t.nexpect > 1 || t.expect.n != 12 || !lc_case_equal(t.expect.p, "100-continue", 12));
		s->expect = length != 0;
	}
	if (t.rare & RARE_PROXY_CONNECTION)
		look_at_connection(s);
	s->client_keep = s->p.flags & F_CONNECTION_CLOSE && h1_on(H1_CONNECTION_CLOSE) ? 0
			 : s->minor >= 1                                               ? 1
			 : s->p.flags & F_CONNECTION_KEEP_ALIVE                        ? 1
										       : !h1_on(H1_CONNECTION_HTTP10);
	s->keep = s->client_keep && (!s->conf->keepalive_requests || s->requests < s->conf->keepalive_requests);

	/* Nothing to refuse in the request itself from here but what the transport decides. */
	size_t head_n = h1_spans_end(sc);
	struct lc_req *rq;
	s->st = h1_api->stream_open(s->c, s->requests, s, &rq);
	if (!s->st)
		return h1_fail(s, 503, "too much at once");
	H1_CHECK(s, H1_TARGET_SECURE, target.secure && !(rq->flags & LC_R_TLS));
	uint32_t nfields = sc->n + !t.nhost; /* absolute-form brings one */
	s->x = h1_api->stream_alloc(s->st, sizeof(*s->x) + nfields * sizeof(struct lc_field) + head_n);
	if (!s->x) {
		h1_api->stream_abort(s->st, LC_RSN_LIMIT);
		s->st = NULL;
		return h1_fail(s, 503, "no memory for the request");
	}
	*s->x = (struct h1_x){0};
	struct lc_field *fields = (struct lc_field *)(s->x + 1);
	char *head = (char *)(fields + nfields);
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
	if (s->conf->fold)
		for (uint32_t k = 0; k < sc->n; k++)
			fields[k].value = unfolded(head + sc->v[k].value, sc->v[k].value_n);
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
	if (target.absolute && h1_on(H1_ABSOLUTE_HOST)) { /* whoever looks at Host sees the same (RFC 9112 3.2.2) */
		rq->nfields = nfields;
		fields[t.nhost ? t.host_at : sc->n] = (struct lc_field){
		    .name = {lc_token_name(LC_TOK_HOST), 4}, .value = rq->authority, .token = LC_TOK_HOST};
	}
	if ((t.rare & RARE_UPGRADE) && (s->x->upgrade = h1_upgrade(s, rq, &fields[t.upgrade_at]))) {
		h1_api->want_write(s->c);
		return 0;
	}
	if (h1_api->stream_head(s->st, length == 0) < 0)
		return h1_fail(s, 503, "no memory for the request");
	return 0;
}

int
h1_trailers(struct h1 *s, const struct lc_field **ret, uint32_t *ret_n)
{
	const struct h1_scratch *sc = s->sc;
	size_t n = h1_spans_end(sc);
	uint32_t kept = 0;

	if (h1_over_limit(s, n + 4, 0) || (s->conf->fold && check_folds(s)))
		return HPE_USER;
	struct lc_field *fields = h1_api->stream_alloc(s->st, sc->n * sizeof(*fields) + n);
	if (!fields)
		return h1_fail(s, 503, "no memory for the trailers");
	char *copy = (char *)(fields + sc->n);
	memcpy(copy, s->base, n);
	for (uint32_t k = 0; k < sc->n; k++) {
		const struct h1_span *f = &sc->v[k];
		uint16_t token = lc_token(copy + f->name, f->name_n);
		/* dropped, as RFC 9110 6.5.1 has it: merging them would be a way around the head's checks */
		if (!lc_token_in_trailer(token) && h1_on(H1_TRAILER_FORBIDDEN))
			continue;
		lc_name_lower(copy + f->name, f->name_n);
		fields[kept++] = (struct lc_field){.name = {copy + f->name, f->name_n},
						   .value = s->conf->fold ? unfolded(copy + f->value, f->value_n)
									  : lc_value_trim(copy + f->value, f->value_n),
						   .token = token};
	}
	*ret = fields;
	*ret_n = kept;
	return 0;
}
