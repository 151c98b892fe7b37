/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/http2/upgrade.c - a connection that began as HTTP/1.1 and asked for h2c (RFC 7540 3.2; RFC 9113 dropped it,
 * so http2_upgrade is off by default).
 *
 * The request that asked is stream 1, half-closed by the client, and its HTTP2-Settings are the client's first
 * SETTINGS. It is copied: the old protocol's stream ends when upgrade_open() returns.
 */
#include <errno.h>
#include <string.h>

#include "http2/http2.h"

#define SETTINGS_MAX 32u /* as nghttp2's limit for a SETTINGS frame, set in module.c */

static int
base64url(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '-'             ? 62
	       : c == '_'             ? 63
				      : -1;
}

/* Bytes of the payload (RFC 4648 5, without padding), -1: not that, or more than `max`. */
static int
decode(struct lc_str in, uint8_t *to, size_t max)
{
	uint32_t bits = 0, have = 0;
	size_t n = 0;

	while (in.n && in.p[in.n - 1] == '=')
		in.n--;
	if (in.n % 4 == 1)
		return -1;
	for (size_t k = 0; k < in.n; k++) {
		int v = base64url(in.p[k]);
		if (v < 0)
			return -1;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			if (n == max)
				return -1;
			have -= 8;
			to[n++] = (uint8_t)(bits >> have);
		}
	}
	return (int)n;
}

/* The client's settings, -1: none, more than one, or not valid. */
static int
settings_of(const struct lc_req *rq, uint8_t *to, size_t max)
{
	const struct lc_field *found = NULL;

	for (uint32_t k = 0; k < rq->nfields; k++) {
		if (rq->fields[k].token != LC_TOK_HTTP2_SETTINGS)
			continue;
		if (found)
			return -1;
		found = &rq->fields[k];
	}
	int n = found ? decode(found->value, to, max) : -1;
	return n >= 0 && n % 6 == 0 ? n : -1;
}

/* Is it a field of the connection by the Connection field? */
static int
named_in_connection(const struct lc_req *rq, const char *name)
{
	for (uint32_t k = 0; k < rq->nfields; k++)
		if (rq->fields[k].token == LC_TOK_CONNECTION &&
		    lc_list_has(rq->fields[k].value.p, rq->fields[k].value.n, name))
			return 1;
	return 0;
}

int
h2_upgrade_check(const void *arg, struct lc_stream *st, const struct lc_req *rq, struct lc_head *answer)
{
	const struct h2_conf *conf = arg;
	uint8_t settings[6 * SETTINGS_MAX];

	(void)st;
	(void)answer;
	if (!conf->upgrade || rq->flags & LC_R_TLS) /* there it is ALPN's business */
		return LC_STREAM_DEAD;
	return named_in_connection(rq, "http2-settings") && settings_of(rq, settings, sizeof(settings)) >= 0 &&
		       rq->authority.n
		   ? LC_OK
		   : LC_STREAM_DEAD;
}

static void
pseudo(struct h2s *x, const char *name, const char *p, size_t n)
{
	h2_header(x, (const uint8_t *)name, strlen(name), (const uint8_t *)p, n);
}

/* The request again, as if its fields had come in a header block. */
static int
copy(struct h2s *x, const struct lc_req *rq)
{
	char *path = h2_api->stream_alloc(x->st, rq->path.n + 1 + rq->query.n);
	size_t n = rq->path.n;

	if (!path)
		return -ENOMEM;
	memcpy(path, rq->path.p, n);
	if (rq->query.p) {
		path[n++] = '?';
		memcpy(path + n, rq->query.p, rq->query.n);
		n += rq->query.n;
	}
	pseudo(x, ":method", rq->method.p, rq->method.n);
	pseudo(x, ":path", path, n);
	pseudo(x, ":authority", rq->authority.p, rq->authority.n);
	pseudo(x, ":scheme", "http", 4);
	for (uint32_t k = 0; k < rq->nfields; k++) {
		const struct lc_field *f = &rq->fields[k];
		if (f->token == LC_TOK_HOST || f->token == LC_TOK_HTTP2_SETTINGS || f->token == LC_TOK_CONTENT_LENGTH ||
		    f->token == LC_TOK_TE || lc_token_hop_by_hop(f->token))
			continue;
		h2_header(x, (const uint8_t *)f->name.p, f->name.n, (const uint8_t *)f->value.p, f->value.n);
	}
	return 0;
}

int
h2_upgrade_open(struct lc_conn *c, const void *conf, const struct lc_req *rq, void **ret)
{
	uint8_t settings[6 * SETTINGS_MAX];
	int n = settings_of(rq, settings, sizeof(settings));
	struct h2 *s;
	int r = n < 0 ? -EINVAL : h2_open(c, conf, ret);

	if (r < 0)
		return r;
	s = *ret;
	int is_head = rq->method.n == 4 && memcmp(rq->method.p, "HEAD", 4) == 0;
	if (nghttp2_session_upgrade2(s->ng, settings, (size_t)n, is_head, NULL) != 0 || h2_begin(s, 1) < 0) {
		h2_close(s); /* the core knows of no stream yet */
		return -ENOMEM;
	}
	s->last_id = 1;
	struct h2s *x = nghttp2_session_get_stream_user_data(s->ng, 1);
	if (copy(x, rq) < 0)
		x->refuse = 503;
	h2_headers_end(x, 1);
	h2_wants(s);
	return 0;
}
