/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_trust.c - a table: who has connected, what the fields say, and what becomes of the request.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "semantics/semantics.h"
#include "semantics/trust.h"

struct row {
	const char *conf;   /* "ADDRESS-FIELD[!] WORDS": "!" is real_ip_recursive off */
	const char *peer;   /* who has connected, by 192.0.2.80:8000 */
	const char *fields; /* name: value lines */
	const char *says;   /* "client port scheme host local-port", or "400" */
	const char *ignored;
};

#define ALL "X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port Forwarded"
#define XFF "x-forwarded-for: "
#define FWD "forwarded: "
#define NO_ADDRESS "what is no address where the client's should be"
#define NO_SCHEME "a scheme that is neither http nor https"
#define NO_HOST "a host that is none"
#define NO_PORT "a port that is none"
#define NO_ELEMENT "an element of Forwarded that is malformed"
#define SAME "10.0.0.1 5000 http example.org 8000"

/* trusted: 10.0.0.0/8, 2001:db8::/32, unix: */
static const struct row rows[] = {
    /* who is believed at all */
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "::ffff:10.0.0.1", XFF "192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "2001:db8::1", XFF "192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "", XFF "192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"X-Forwarded-For " ALL, "11.0.0.1",
     XFF "192.0.2.7\nx-forwarded-proto: https\nx-forwarded-host: evil\n" FWD "for=x",
     "11.0.0.1 5000 http example.org 8000", NULL},
    {"X-Forwarded-For " ALL, "127.0.0.1", "x-forwarded-proto: http\nx-forwarded-proto: https\n",
     "127.0.0.1 5000 http example.org 8000", NULL},
    /* no field: nothing */
    {"X-Forwarded-For " ALL, "10.0.0.1", "", SAME, NULL},
    {"X-Forwarded-For " ALL, "10.0.0.1", "x-real-ip: 192.0.2.7\n", SAME, NULL},
    {"off none", "10.0.0.1", XFF "192.0.2.7\noff: 192.0.2.7\n", SAME, NULL},
    /* lists, from the right */
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1, 192.0.2.2\n", "192.0.2.2 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1, 192.0.2.2, 10.1.1.1\n", "192.0.2.2 0 http example.org 8000",
     NULL},
    {"X-Forwarded-For! none", "10.0.0.1", XFF "192.0.2.1, 192.0.2.2, 10.1.1.1\n", "10.1.1.1 0 http example.org 8000",
     NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "10.3.3.3, 10.1.1.1 \n", "10.3.3.3 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1\n" XFF "10.2.2.2,10.1.1.1\n",
     "192.0.2.1 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1\n" XFF "192.0.2.2\n", "192.0.2.2 0 http example.org 8000",
     NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1, ::ffff:10.9.9.9\n", "192.0.2.1 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "10.1.1.1, 2001:db8:1::1, 2001:db8::1\n",
     "10.1.1.1 0 http example.org 8000", NULL},
    /* forms of an address */
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.7:4711\n", "192.0.2.7 4711 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "[2001:DB9:0::7]:4711\n", "2001:db9::7 4711 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "[2001:db9::7]\n", "2001:db9::7 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "2001:db9::7\n", "2001:db9::7 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "::ffff:192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    /* what is none: what was found up to there holds */
    {"X-Forwarded-For none", "10.0.0.1", XFF "unknown\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1, \n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "\n", SAME, NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.1, nonsense, 10.2.2.2\n", "10.2.2.2 0 http example.org 8000",
     NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "nonsense, 192.0.2.2\n", "192.0.2.2 0 http example.org 8000", NULL},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.7:65536\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.7:\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.7:x\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "192.0.2.07\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "[192.0.2.7]\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "[2001:db9::7\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "[2001:db9::7]4711\n", SAME, NO_ADDRESS},
    {"X-Forwarded-For none", "10.0.0.1", XFF "fe80::1%eth0\n", SAME, NO_ADDRESS},
    /* other fields for it */
    {"X-Real-IP none", "10.0.0.1", "x-real-ip: 192.0.2.7\n" XFF "192.0.2.8\n", "192.0.2.7 0 http example.org 8000",
     NULL},
    {"CF-Connecting-IP none", "10.0.0.1", "cf-connecting-ip: 192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"CF-Connecting-IP none", "10.0.0.1", "cf-connecting-ipx: 192.0.2.7\n", SAME, NULL},
    /* the scheme */
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: https\n", "10.0.0.1 5000 https example.org 8000", NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: HTTPS\n", "10.0.0.1 5000 https example.org 8000", NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: wss\n", "10.0.0.1 5000 https example.org 8000", NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: http, https\n", "10.0.0.1 5000 https example.org 8000",
     NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: https, http\n", SAME, NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: ftp\n", SAME, NO_SCHEME},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: https \x01\n", SAME, NO_SCHEME},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: https\nx-forwarded-proto: HTTPS\n",
     "10.0.0.1 5000 https example.org 8000", NULL},
    {"off X-Forwarded-Proto", "10.0.0.1", "x-forwarded-proto: https\nx-forwarded-proto: http\n", "400", NULL},
    {"off none", "10.0.0.1", "x-forwarded-proto: https\n", SAME, NULL},
    /* the host */
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: www.example.com:8443\n",
     "10.0.0.1 5000 http www.example.com:8443 8000", NULL},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: a.example, b.example\n",
     "10.0.0.1 5000 http b.example 8000", NULL},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: [2001:db8::1]:1\n",
     "10.0.0.1 5000 http [2001:db8::1]:1 8000", NULL},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: user@example.com\n", SAME, NO_HOST},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: a/b\n", SAME, NO_HOST},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: a.example:99999\n", SAME, NO_HOST},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-host: a.example\nx-forwarded-host: b.example\n", "400", NULL},
    {"off X-Forwarded-Host", "10.0.0.1", "x-forwarded-proto: https\n", SAME, NULL},
    /* the port */
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 8443\n", "10.0.0.1 5000 http example.org:8443 8443", NULL},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 80\n", "10.0.0.1 5000 http example.org 80", NULL},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 443\n", "10.0.0.1 5000 http example.org:443 443", NULL},
    {"off " ALL, "10.0.0.1", "x-forwarded-port: 443\nx-forwarded-proto: https\n", "10.0.0.1 5000 https example.org 443",
     NULL},
    {"off " ALL, "10.0.0.1", "x-forwarded-port: 444\nx-forwarded-host: [::1]\n", "10.0.0.1 5000 http [::1]:444 444",
     NULL},
    {"off " ALL, "10.0.0.1", "x-forwarded-port: 444\nx-forwarded-host: a:1\n", "10.0.0.1 5000 http a:1 444", NULL},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 0\n", SAME, NO_PORT},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 0443\n", SAME, NO_PORT},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 65536\n", SAME, NO_PORT},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 4 43\n", SAME, NO_PORT},
    {"off X-Forwarded-Port", "10.0.0.1", "x-forwarded-port: 1\nx-forwarded-port: 2\n", "400", NULL},
    /* Forwarded */
    {"Forwarded none", "10.0.0.1", FWD "for=192.0.2.7;proto=https;host=a.example\n",
     "192.0.2.7 0 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.7;proto=https;host=a.example;by=10.0.0.1\n",
     "192.0.2.7 0 https a.example 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "FOR=192.0.2.7 ; Proto=HTTPS;\n", "192.0.2.7 0 https example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\"[2001:db9::7]:4711\"\n", "2001:db9::7 4711 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\"192.0.2.7:4711\"\n", "192.0.2.7 4711 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.1;proto=http, for=192.0.2.2;proto=https\n",
     "192.0.2.2 0 https example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.1;proto=https;host=a, for=10.2.2.2;proto=http;host=b\n",
     "192.0.2.1 0 https a 8000", NULL},
    {"Forwarded! " ALL, "10.0.0.1", FWD "for=192.0.2.1;proto=https;host=a, for=10.2.2.2;proto=http;host=b\n",
     "10.2.2.2 0 http b 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.1;proto=https\n" FWD "for=10.2.2.2\n",
     "192.0.2.1 0 https example.org 8000", NULL},
    {"X-Forwarded-For Forwarded", "10.0.0.1",
     FWD "for=192.0.2.1;proto=https, for=10.2.2.2;proto=http\n" XFF "192.0.2.9\n", "192.0.2.9 0 https example.org 8000",
     NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=unknown;proto=https\n", "10.0.0.1 5000 https example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=_hidden, for=10.2.2.2\n", "10.2.2.2 0 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "proto=https\n", "10.0.0.1 5000 https example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.7;ext=\"a, b;c=\\\"d\"\n", "10.0.0.1 5000 http example.org 8000",
     NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "x=\"a, b\\\\\", for=192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=192.0.2.1, for=192.0.2.7;ext=\"a, b;c\"\n",
     "192.0.2.7 0 http example.org 8000", NULL},
    /* what a client puts in front cannot swallow what the proxy appends */
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\", for=192.0.2.7;proto=https\n", "192.0.2.7 0 https example.org 8000",
     NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\"10.0.0.9\\\", for=192.0.2.7\n", "192.0.2.7 0 http example.org 8000",
     NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\"\n" FWD "for=192.0.2.7\n", "192.0.2.7 0 http example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "garbage, for=10.2.2.2\n", "10.2.2.2 0 http example.org 8000", NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=1.1.1.1;for=2.2.2.2\n", SAME, NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for = 1.1.1.1\n", SAME, NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=2001:db9::1\n", SAME, NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\n", SAME, NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=\"1.1.1.1\n", SAME, NO_ELEMENT},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=1.1.1.1;proto=gopher\n", "1.1.1.1 0 http example.org 8000", NO_SCHEME},
    {"Forwarded " ALL, "10.0.0.1", FWD "for=1.1.1.1;host=\"a b\"\n", "1.1.1.1 0 http example.org 8000", NO_HOST},
    /* one thing by two fields */
    {"Forwarded " ALL, "10.0.0.1", FWD "proto=https\nx-forwarded-proto: https\n",
     "10.0.0.1 5000 https example.org 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "proto=https\nx-forwarded-proto: http\n", "400", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "host=A.example\nx-forwarded-host: a.example\n",
     "10.0.0.1 5000 http A.example 8000", NULL},
    {"Forwarded " ALL, "10.0.0.1", FWD "host=b.example\nx-forwarded-host: a.example\n", "400", NULL},
    {"Forwarded Forwarded", "10.0.0.1", FWD "proto=https\nx-forwarded-proto: http\n",
     "10.0.0.1 5000 https example.org 8000", NULL},
};

static void *blocks[16];
static int nblocks, fail_at;

static void *
alloc(struct lc_stream *st, size_t n)
{
	(void)st;
	assert_true(nblocks < 16);
	return nblocks + 1 == fail_at ? NULL : (blocks[nblocks++] = malloc(n));
}

static struct lc_str
exact(const char *s, size_t n)
{
	char *p = malloc(n ? n : 1);

	memcpy(p, s, n);
	return (struct lc_str){p, n};
}

/* The configuration of a row; lives as long as the process, as they do. */
static const struct lc_trust *
conf_of(const struct row *r)
{
	static const char *const from[] = {"10.0.0.0/8", "2001:db8::/32", "unix:"};
	struct lc_trust_conf *c = calloc(1, sizeof(*c));
	char *text = strdup(r->conf), *save, *w = strtok_r(text, " ", &save);
	const char **words = calloc(8, sizeof(*words));
	const struct lc_trust *t;
	size_t n = strlen(w);

	c->recursive = w[n - 1] != '!';
	if (!c->recursive)
		w[n - 1] = 0;
	c->address = w;
	while ((w = strtok_r(NULL, " ", &save)))
		words[c->headers.n++] = w;
	c->headers.v = words;
	c->from = (struct lc_list){from, 3};
	assert_int_equal(lc_trust_get(c, &t), 0);
	assert_non_null(t);
	return t;
}

/* From "name: value" lines, and Host where with_host. */
static uint32_t
fields_of(const char *text, struct lc_field *to, int with_host)
{
	uint32_t n = 0;

	if (with_host) {
		to[n] = (struct lc_field){.name = exact("host", 4), .token = LC_TOK_HOST};
		to[n++].value = exact("example.org", 11);
	}
	while (*text) {
		size_t len = strcspn(text, "\n"), name = strcspn(text, ":");
		struct lc_str v = lc_value_trim(text + name + 1, len - name - 1);
		to[n] = (struct lc_field){.name = exact(text, name), .value = exact(v.p, v.n)};
		to[n].token = lc_token(text, name);
		n++;
		text += len + (text[len] == '\n');
	}
	return n;
}

static void
free_fields(const struct lc_field *f, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		free((void *)(uintptr_t)f[k].name.p);
		free((void *)(uintptr_t)f[k].value.p);
	}
}

static void
run(const struct row *r, int with_host)
{
	const struct lc_trust *t = conf_of(r);
	struct lc_field fields[8], before[8];
	struct lc_req rq = {.peer = {r->peer, strlen(r->peer)},
			    .peer_port = 5000,
			    .local_port = 8000,
			    .scheme = {"http", 4},
			    .authority = {"example.org", 11},
			    .fields = fields};
	const char *ignored = NULL;
	uint8_t known = 0;
	char got[256];

	rq.nfields = fields_of(r->fields, fields, with_host);
	if (!with_host)
		rq.authority = (struct lc_str){"", 0};
	uint32_t n = rq.nfields;
	memcpy(before, fields, sizeof(before));
	fail_at = 0;
	int ret = lc_trust_apply(t, &known, &rq, NULL, alloc, &ignored);
	assert_int_not_equal(known, 0);
	if (ret == LC_TRUST_CONTRADICTION) {
		assert_string_equal("400", r->says);
	} else {
		assert_int_equal(ret, LC_TRUST_OK);
		snprintf(got, sizeof(got), "%.*s %u %.*s %.*s %u", (int)rq.peer.n, rq.peer.p, rq.peer_port,
			 (int)rq.scheme.n, rq.scheme.p, (int)rq.authority.n, rq.authority.p, rq.local_port);
		if (with_host)
			assert_string_equal(got, r->says);
		/* what the application sees as Host is the authority */
		const struct lc_field *host = NULL;
		for (uint32_t k = 0; k < rq.nfields; k++)
			if (rq.fields[k].token == LC_TOK_HOST)
				host = &rq.fields[k];
		assert_true(!rq.authority.n || host);
		if (host) {
			assert_int_equal(host->value.n, rq.authority.n);
			assert_memory_equal(host->value.p, rq.authority.p, host->value.n);
		}
		assert_int_equal(rq.nfields, n + (!with_host && rq.authority.n));
	}
	if (r->ignored)
		assert_string_equal(ignored, r->ignored);
	else
		assert_null(ignored);
	while (nblocks)
		free(blocks[--nblocks]);
	free_fields(before, n);
}

static void
test_table(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
		run(&rows[k], 1);
}

/* HTTP/1.0 without Host: one is added when a proxy names it. */
static void
test_without_host(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
		run(&rows[k], 0);
}

static void
test_no_memory(void **state)
{
	static const struct row r = {"X-Forwarded-For " ALL, "10.0.0.1",
				     XFF "2001:db9::7\nx-forwarded-host: a.example\nx-forwarded-port: 81\n", "", NULL};
	const struct lc_trust *t = conf_of(&r);
	int done = 0;

	(void)state;
	for (fail_at = 1; !done; fail_at++) {
		struct lc_field fields[8];
		struct lc_req rq = {
		    .peer = {"10.0.0.1", 8}, .scheme = {"http", 4}, .authority = {"", 0}, .fields = fields};
		const char *ignored = NULL;
		uint8_t known = 0;
		rq.nfields = fields_of(r.fields, fields, 0);
		uint32_t n = rq.nfields;
		int ret = lc_trust_apply(t, &known, &rq, NULL, alloc, &ignored);
		done = ret == 0;
		assert_true(ret == 0 || ret == -ENOMEM);
		while (nblocks)
			free(blocks[--nblocks]);
		free_fields(fields, n);
	}
	assert_int_equal(fail_at, 5); /* the address, the host with its port, the fields; then none */
	fail_at = 0;
}

static void
test_nobody(void **state)
{
	static const struct lc_trust_conf c = {.address = "X-Forwarded-For"};
	const struct lc_trust *t = (const struct lc_trust *)1;

	(void)state;
	assert_int_equal(lc_trust_get(&c, &t), 0);
	assert_null(t);
}

/* ---- mistakes in the configuration ---- */

static char said[1024];

LC_PRINTF(3, 4) static void note(struct lc_err *err, const char *directive, const char *fmt, ...)
{
	size_t at = strlen(said);
	va_list ap;

	(void)err;
	(void)directive;
	va_start(ap, fmt);
	vsnprintf(said + at, sizeof(said) - at, fmt, ap);
	va_end(ap);
	strncat(said, "\n", sizeof(said) - strlen(said) - 1);
}

static void
test_check(void **state)
{
	static const struct lc_config_api config = {.size = sizeof(config), .error = note};
	static const char *const from[] = {"10.0.0.0/8", "10.0.0.1/8"}, *const none[] = {"none", "Forwarded"},
				 *const bad[] = {"X-Forwarded-For", "x-FORWARDED-proto"};
	struct lc_trust_conf c = {.address = "X-Forwarded-For", .from = {from, 1}, .headers = {none, 1}};

	(void)state;
	assert_int_equal(lc_trust_check(&c, &config, NULL), 0);
	assert_string_equal(said, "");
	c.from.n = 2;
	c.address = "two words";
	c.headers.n = 2;
	assert_int_equal(lc_trust_check(&c, &config, NULL), -EINVAL);
	assert_string_equal(
	    said,
	    "set_real_ip_from: \"10.0.0.1/8\" has bits set behind its prefix, expected 10.0.0.0/8 or another length\n"
	    "real_ip_header: \"two words\" is no field name, expected one such as X-Forwarded-For, or off\n"
	    "trusted_headers: \"none\" beside others, expected it alone\n");
	*said = 0;
	c = (struct lc_trust_conf){.address = "off", .headers = {bad, 2}};
	assert_int_equal(lc_trust_check(&c, &config, NULL), -EINVAL);
	assert_string_equal(said, "trusted_headers: \"X-Forwarded-For\" is not known, expected X-Forwarded-Proto, "
				  "X-Forwarded-Host, X-Forwarded-Port, Forwarded or none\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table),  cmocka_unit_test(test_without_host), cmocka_unit_test(test_no_memory),
	    cmocka_unit_test(test_nobody), cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
