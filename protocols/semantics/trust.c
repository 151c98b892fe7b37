/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trust.c - what a trusted proxy says of the client becomes the request's; see trust.h.
 *
 * One rule makes this safe: a list is read from the right, and only as far as trusted proxies have written it.  What a
 * client put in front, however it is quoted, is never parsed before what the proxies appended; so it can neither forge
 * an address nor make the true one unreadable.
 *
 * An address in the plain form that it has in IPv4 is used where it lies; everything else is printed anew in its
 * canonical form.
 */
#include "semantics/trust.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/cidr.h"
#include "semantics/semantics.h"

/* lc_trust.believe */
#define B_PROTO 1u
#define B_HOST 2u
#define B_PORT 4u
#define B_FORWARDED 8u

struct lc_trust {
	const struct lc_trust_conf *conf;
	struct lc_trust *next;
	struct lc_nets *nets;
	uint32_t believe;
	uint16_t token; /* of the address field; 0: by its name */
	uint8_t recursive, by_address;
	size_t name_n;
	char name[64];
};

static const struct {
	const char *name;
	uint32_t bit;
} believable[] = {
    {"x-forwarded-proto", B_PROTO},
    {"x-forwarded-host", B_HOST},
    {"x-forwarded-port", B_PORT},
    {"forwarded", B_FORWARDED},
    {"none", 0},
};

/* ---- configuration ---- */

/* The bit of a word of trusted_headers, -1: unknown. */
static int
believe_bit(const char *word)
{
	size_t n = strlen(word);

	for (size_t k = 0; k < sizeof(believable) / sizeof(believable[0]); k++)
		if (strlen(believable[k].name) == n && lc_case_equal(word, believable[k].name, n))
			return (int)believable[k].bit;
	return -1;
}

int
lc_trust_check(const struct lc_trust_conf *c, const struct lc_config_api *config, struct lc_err *err)
{
	size_t n = strlen(c->address);
	struct lc_nets *nets;
	char why[256];
	int r = 0;

	if (lc_nets_parse(&nets, &c->from, why, sizeof(why)) < 0) {
		config->error(err, "set_real_ip_from", "set_real_ip_from: %s", why);
		r = -EINVAL;
	} else {
		free(nets);
	}
	if (n >= sizeof(((struct lc_trust *)0)->name) || !lc_name_valid(c->address, n)) {
		config->error(
		    err, "real_ip_header",
		    "real_ip_header: \"%.80s\" is no field name, expected one such as X-Forwarded-For, or off",
		    c->address);
		r = -EINVAL;
	}
	for (uint64_t k = 0; k < c->headers.n; k++) {
		int bit = believe_bit(c->headers.v[k]);
		if (bit > 0 || (bit == 0 && c->headers.n == 1))
			continue;
		config->error(err, "trusted_headers",
			      bit == 0 ? "trusted_headers: \"%.80s\" beside others, expected it alone"
				       : "trusted_headers: \"%.80s\" is not known, expected X-Forwarded-Proto, "
					 "X-Forwarded-Host, X-Forwarded-Port, Forwarded or none",
			      c->headers.v[k]);
		r = -EINVAL;
	}
	return r;
}

int
lc_trust_get(const struct lc_trust_conf *c, const struct lc_trust **ret)
{
	static struct lc_trust *all; /* one for each listener's configuration, as long as the process */
	struct lc_trust *t = all;
	char why[256];

	*ret = NULL;
	if (!c->from.n)
		return 0;
	while (t && t->conf != c)
		t = t->next;
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t || lc_nets_parse(&t->nets, &c->from, why, sizeof(why)) < 0) { /* it was checked */
			free(t);
			return -ENOMEM;
		}
		t->conf = c;
		t->recursive = c->recursive;
		t->name_n = strlen(c->address);
		memcpy(t->name, c->address, t->name_n);
		lc_name_lower(t->name, t->name_n);
		t->by_address = strcmp(t->name, "off") != 0;
		t->token = lc_token(t->name, t->name_n);
		for (uint64_t k = 0; k < c->headers.n; k++)
			t->believe |= (uint32_t)believe_bit(c->headers.v[k]);
		t->next = all;
		all = t;
	}
	*ret = t;
	return 0;
}

/* ---- lists ---- */

/* The last element of a comma-separated list without quoted strings; *n is shortened by it.  0: there is none. */
static int
last_element(const char *p, size_t *n, struct lc_str *ret)
{
	size_t end = *n, from = end;

	if (!end)
		return 0;
	while (from && p[from - 1] != ',')
		from--;
	*ret = lc_value_trim(p + from, end - from);
	*n = from ? from - 1 : 0;
	return 1;
}

/* Is the quote at p[k] one, and not escaped? */
static int
is_quote(const char *p, size_t k)
{
	size_t slashes = 0;

	while (slashes < k && p[k - 1 - slashes] == '\\')
		slashes++;
	return slashes % 2 == 0;
}

/* token "=" ( token | quoted-string ) at *k; *k behind it. */
static int
pair(const char *p, size_t n, size_t *k, struct lc_str *name, struct lc_str *value)
{
	size_t at = *k;

	while (at < n && lc_char_class[(uint8_t)p[at]] & LC_CH_TOKEN)
		at++;
	*name = (struct lc_str){p + *k, at - *k};
	if (!name->n || at == n || p[at++] != '=')
		return 0;
	size_t from = at;
	if (at < n && p[at] == '"') {
		/* with a backslash it is nothing that an address or a host has */
		for (from = ++at; at < n && p[at] != '"' && p[at] != '\\'; at++)
			;
		if (at == n || p[at] != '"')
			return 0;
		*value = (struct lc_str){p + from, at - from};
		*k = at + 1;
		return 1;
	}
	while (at < n && lc_char_class[(uint8_t)p[at]] & LC_CH_TOKEN)
		at++;
	*value = (struct lc_str){p + from, at - from};
	*k = at;
	return value->n > 0;
}

static size_t
skip_space(const char *p, size_t n, size_t k)
{
	while (k < n && (p[k] == ' ' || p[k] == '\t'))
		k++;
	return k;
}

/* All of one element. */
static int
forwarded_element(struct lc_forwarded *ret, const char *p, size_t n)
{
	static const char *const names[] = {"for", "proto", "host", "by"};
	struct lc_str got[4] = {{NULL, 0}};
	size_t k = 0;

	for (;;) {
		struct lc_str name, value;
		k = skip_space(p, n, k);
		if (k < n && p[k] != ';') { /* a pair may be missing (RFC 7239 4) */
			if (!pair(p, n, &k, &name, &value))
				return -1;
			for (size_t j = 0; j < 4; j++) {
				if (name.n != strlen(names[j]) || !lc_case_equal(name.p, names[j], name.n))
					continue;
				if (got[j].p)
					return -1; /* each at most once */
				got[j] = value;
			}
		}
		k = skip_space(p, n, k);
		if (k == n)
			break;
		if (p[k++] != ';')
			return -1;
	}
	*ret = (struct lc_forwarded){.by_for = got[0], .proto = got[1], .host = got[2]};
	return 1;
}

int
lc_forwarded_last(struct lc_forwarded *ret, const char *p, size_t *n)
{
	size_t end = *n, from = end;
	int quoted = 0;

	if (!end)
		return 0;
	for (; from; from--) {
		char c = p[from - 1];
		if (c == '"' && is_quote(p, from - 1))
			quoted = !quoted;
		else if (c == ',' && !quoted)
			break;
	}
	*n = from ? from - 1 : 0;
	if (quoted)
		return -1;
	struct lc_str e = lc_value_trim(p + from, end - from);
	return forwarded_element(ret, e.p, e.n);
}

/* ---- addresses ---- */

struct addr {
	struct lc_ip ip;
	struct lc_str text; /* where it lies; the same as ip */
	uint16_t port;      /* 0: none */
};

/* IPv4 [":" port], IPv6, "[" IPv6 "]" [":" port].  0: it is none. */
static int
addr_parse(struct addr *ret, struct lc_str s)
{
	const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
	struct addr a = {.text = s};
	struct lc_str port = {NULL, 0};

	if (s.n && s.p[0] == '[') {
		const char *close = memchr(s.p, ']', s.n);
		if (!close || !colon)
			return 0;
		a.text = (struct lc_str){s.p + 1, (size_t)(close - s.p) - 1};
		port = (struct lc_str){close + 1, (size_t)(s.p + s.n - close) - 1};
		if (!a.text.n || !memchr(a.text.p, ':', a.text.n))
			return 0;
	} else if (colon && !memchr(colon + 1, ':', (size_t)(s.p + s.n - colon) - 1)) {
		a.text.n = (size_t)(colon - s.p);
		port = (struct lc_str){colon, s.n - a.text.n};
	}
	if (port.n) {
		uint32_t v = 0;
		if (port.p[0] != ':' || port.n < 2 || port.n > 6)
			return 0;
		for (size_t k = 1; k < port.n; k++) {
			if (port.p[k] < '0' || port.p[k] > '9')
				return 0;
			v = v * 10 + (uint32_t)(port.p[k] - '0');
		}
		if (v > 65535)
			return 0;
		a.port = (uint16_t)v;
	}
	if (lc_ip_parse(&a.ip, a.text.p, a.text.n) < 0)
		return 0;
	*ret = a;
	return 1;
}

static int
is_address_field(const struct lc_trust *t, const struct lc_field *f)
{
	if (t->token)
		return f->token == t->token;
	return !f->token && f->name.n == t->name_n && memcmp(f->name.p, t->name, t->name_n) == 0;
}

/* ---- what is said ---- */

struct said {
	struct addr client;
	int has_client;
	struct lc_str proto, host, port; /* proto: "http" or "https", static */
	int contradiction;
	const char *ignored;
};

/* From the right, through all fields of the name. */
static void
by_list(const struct lc_trust *t, const struct lc_req *rq, struct said *s)
{
	struct lc_str e;
	struct addr a;

	for (uint32_t k = rq->nfields; k-- > 0;) {
		const struct lc_field *f = &rq->fields[k];
		size_t n = f->value.n;
		if (!is_address_field(t, f))
			continue;
		while (last_element(f->value.p, &n, &e)) {
			if (!addr_parse(&a, e)) {
				s->ignored = "what is no address where the client's should be";
				return;
			}
			s->client = a;
			s->has_client = 1;
			if (!t->recursive || !lc_nets_hold(t->nets, a.ip))
				return;
		}
	}
}

static void
say(struct said *s, struct lc_str *to, struct lc_str value)
{
	if (to->p && (to->n != value.n || !lc_case_equal(to->p, value.p, value.n)))
		s->contradiction = 1;
	*to = value;
}

static void
say_proto(struct said *s, struct lc_str v)
{
	static const struct {
		struct lc_str word, scheme;
	} t[] = {{{"https", 5}, {"https", 5}},
		 {{"http", 4}, {"http", 4}},
		 {{"wss", 3}, {"https", 5}},
		 {{"ws", 2}, {"http", 4}}};

	for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++)
		if (v.n == t[k].word.n && lc_case_equal(v.p, t[k].word.p, v.n)) {
			say(s, &s->proto, t[k].scheme);
			return;
		}
	s->ignored = "a scheme that is neither http nor https";
}

static void
say_host(struct said *s, struct lc_str v)
{
	if (lc_host_valid(v.p, v.n))
		say(s, &s->host, v);
	else
		s->ignored = "a host that is none";
}

static void
say_port(struct said *s, struct lc_str v)
{
	uint32_t port = 0;

	for (size_t k = 0; k < v.n && v.n <= 5; k++)
		port = v.p[k] >= '0' && v.p[k] <= '9' ? port * 10 + (uint32_t)(v.p[k] - '0') : 100000;
	if (v.n && v.n <= 5 && port && port <= 65535 && v.p[0] != '0')
		say(s, &s->port, v);
	else
		s->ignored = "a port that is none";
}

/* Forwarded: the element that names the client is also the one whose scheme and host are the client's. */
static void
by_forwarded(const struct lc_trust *t, const struct lc_req *rq, struct said *s)
{
	struct lc_forwarded found = {{NULL, 0}, {NULL, 0}, {NULL, 0}}, e;
	int take_client = t->by_address && t->token == LC_TOK_FORWARDED, go_on = 1, r;
	struct addr a;

	for (uint32_t k = rq->nfields; k-- > 0 && go_on;) {
		const struct lc_field *f = &rq->fields[k];
		size_t n = f->value.n;
		if (f->token != LC_TOK_FORWARDED)
			continue;
		while (go_on && (r = lc_forwarded_last(&e, f->value.p, &n)) != 0) {
			go_on = 0;
			if (r < 0) {
				s->ignored = "an element of Forwarded that is malformed";
				continue;
			}
			found = e;
			if (!addr_parse(&a, e.by_for))
				continue; /* "unknown", a made-up name, or nothing: no further */
			if (take_client) {
				s->client = a;
				s->has_client = 1;
			}
			go_on = t->recursive && lc_nets_hold(t->nets, a.ip);
		}
	}
	if (!(t->believe & B_FORWARDED))
		return;
	if (found.proto.p)
		say_proto(s, found.proto);
	if (found.host.p)
		say_host(s, found.host);
}

static void
listen_to(const struct lc_trust *t, const struct lc_req *rq, struct said *s)
{
	int forwarded = 0, address = 0;

	for (uint32_t k = 0; k < rq->nfields; k++) {
		const struct lc_field *f = &rq->fields[k];
		size_t n = f->value.n;
		struct lc_str e;
		if (f->token == LC_TOK_FORWARDED)
			forwarded = 1;
		if (t->by_address && is_address_field(t, f))
			address = 1;
		if (f->token == LC_TOK_X_FORWARDED_PROTO && (t->believe & B_PROTO) && last_element(f->value.p, &n, &e))
			say_proto(s, e);
		else if (f->token == LC_TOK_X_FORWARDED_HOST && (t->believe & B_HOST) &&
			 last_element(f->value.p, &n, &e))
			say_host(s, e);
		else if (f->token == LC_TOK_X_FORWARDED_PORT && (t->believe & B_PORT) &&
			 last_element(f->value.p, &n, &e))
			say_port(s, e);
	}
	if (forwarded && ((t->believe & B_FORWARDED) || t->token == LC_TOK_FORWARDED))
		by_forwarded(t, rq, s);
	if (address && t->token != LC_TOK_FORWARDED)
		by_list(t, rq, s);
}

/* ---- what becomes of it ---- */

/* The host as the request's: its authority, and its one Host field. */
static int
set_host(struct lc_req *rq, struct lc_stream *st, void *(*alloc)(struct lc_stream *, size_t), struct lc_str host)
{
	rq->authority = host;
	for (uint32_t k = 0; k < rq->nfields; k++)
		if (rq->fields[k].token == LC_TOK_HOST) {
			((struct lc_field *)(uintptr_t)rq->fields)[k].value = host;
			return 0;
		}
	struct lc_field *more = alloc(st, (rq->nfields + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (rq->nfields)
		memcpy(more, rq->fields, rq->nfields * sizeof(*more));
	more[rq->nfields] =
	    (struct lc_field){.name = {lc_token_name(LC_TOK_HOST), 4}, .value = host, .token = LC_TOK_HOST};
	rq->fields = more;
	rq->nfields++;
	return 0;
}

static int
has_port(struct lc_str host)
{
	const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;

	return colon && !memchr(colon, ']', (size_t)(host.p + host.n - colon));
}

static int
set_port(struct lc_req *rq, struct lc_stream *st, void *(*alloc)(struct lc_stream *, size_t), struct lc_str port,
	 struct lc_str *host)
{
	int https = rq->scheme.n == 5;
	uint32_t v = 0;

	for (size_t k = 0; k < port.n; k++)
		v = v * 10 + (uint32_t)(port.p[k] - '0');
	rq->local_port = (uint16_t)v;
	struct lc_str h = host->n ? *host : rq->authority;
	if (!h.n || has_port(h) || v == (https ? 443 : 80))
		return 0;
	char *p = alloc(st, h.n + 1 + port.n);
	if (!p)
		return -ENOMEM;
	memcpy(p, h.p, h.n);
	p[h.n] = ':';
	memcpy(p + h.n + 1, port.p, port.n);
	*host = (struct lc_str){p, h.n + 1 + port.n};
	return 0;
}

int
lc_trust_apply(const struct lc_trust *t, uint8_t *known, struct lc_req *rq, struct lc_stream *st,
	       void *(*alloc)(struct lc_stream *, size_t), const char **ignored)
{
	struct said s = {.has_client = 0};

	if (!*known)
		*known = lc_nets_hold_peer(t->nets, rq->peer) ? 1 : 2;
	if (*known != 1)
		return LC_TRUST_OK;
	listen_to(t, rq, &s);
	if (s.ignored)
		*ignored = s.ignored;
	if (s.contradiction)
		return LC_TRUST_CONTRADICTION;
	if (s.has_client) {
		rq->peer = s.client.text;
		rq->peer_port = s.client.port;
		if (!lc_ip_is_v4(s.client.ip) || memchr(rq->peer.p, ':', rq->peer.n)) {
			char *p = alloc(st, LC_IP_TEXT);
			if (!p)
				return -ENOMEM;
			rq->peer = (struct lc_str){p, lc_ip_print(s.client.ip, p)};
		}
	}
	if (s.proto.p)
		rq->scheme = s.proto;
	if (s.port.p && set_port(rq, st, alloc, s.port, &s.host) < 0)
		return -ENOMEM;
	return s.host.p && set_host(rq, st, alloc, s.host) < 0 ? -ENOMEM : LC_TRUST_OK;
}
