/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_route.c - the normal form of paths, and which routes a path fits.
 *
 * The model of the property tests is written from the text of the `route` directive, byte by byte, and shares no code
 * with core/net/path.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module/loader.h"
#include "net/conn.h"
#include "net/path.h"
#include "net/route.h"

/* server.c registers host tables; nobody asks for them here */
void
lc_host_register(const char *name, uint32_t version, const void *table, size_t size)
{
	(void)name;
	(void)version;
	(void)table;
	(void)size;
}

/* ---- paths ---- */

static const struct {
	const char *raw, *path; /* NULL: it has none */
	int r;
} paths[] = {
    {"/", "/", LC_PATH_OK},
    {"/a", "/a", LC_PATH_OK},
    {"/a/", "/a/", LC_PATH_OK},
    {"/a/b.c", "/a/b.c", LC_PATH_OK},
    {"/a/.b", "/a/.b", LC_PATH_OK},
    {"/a/..b", "/a/..b", LC_PATH_OK},
    {"/a/...", "/a/...", LC_PATH_OK},
    {"/a/b..", "/a/b..", LC_PATH_OK},
    {"//", "/", LC_PATH_OK},
    {"///a//b///", "/a/b/", LC_PATH_OK},
    {"/.", "/", LC_PATH_OK},
    {"/./", "/", LC_PATH_OK},
    {"/a/.", "/a/", LC_PATH_OK},
    {"/a/./b", "/a/b", LC_PATH_OK},
    {"/a/..", "/", LC_PATH_OK},
    {"/a/../", "/", LC_PATH_OK},
    {"/a/b/..", "/a/", LC_PATH_OK},
    {"/a/b/../c", "/a/c", LC_PATH_OK},
    {"/a//../b", "/b", LC_PATH_OK},
    {"/a/b/../../c/./d/..", "/c/", LC_PATH_OK},
    {"/%61", "/a", LC_PATH_OK},
    {"/%2e", "/", LC_PATH_OK},
    {"/a/%2E%2e/b", "/b", LC_PATH_OK},
    {"/a/.%2e/b", "/b", LC_PATH_OK},
    {"/a%2fb", "/a/b", LC_PATH_OK},
    {"/a%2f/b", "/a/b", LC_PATH_OK},
    {"/a%2F..%2Fb", "/b", LC_PATH_OK},
    {"/%2561", "/%61", LC_PATH_OK}, /* once */
    {"/%252e%252e/", "/%2e%2e/", LC_PATH_OK},
    {"/100%", "/100%", LC_PATH_OK}, /* no escape: as it is, as applications see it */
    {"/%4", "/%4", LC_PATH_OK},
    {"/%zz%4g", "/%zz%4g", LC_PATH_OK},
    {"/%%36", "/%6", LC_PATH_OK},
    {"/%20%7f%ff", "/ \x7f\xff", LC_PATH_OK},
    {"*", NULL, LC_PATH_NONE},
    {"", NULL, LC_PATH_NONE},
    {"a/b", NULL, LC_PATH_NONE},
    {"/%00", NULL, LC_PATH_NUL},
    {"/a/%00/../b", NULL, LC_PATH_NUL},
    {"/..", NULL, LC_PATH_ABOVE},
    {"/../a", NULL, LC_PATH_ABOVE},
    {"//..", NULL, LC_PATH_ABOVE},
    {"/./../a", NULL, LC_PATH_ABOVE},
    {"/a/../../a", NULL, LC_PATH_ABOVE},
    {"/a/%2e%2e/%2e./a", NULL, LC_PATH_ABOVE},
};

static int
normalise(struct lc_path *ret, char *buf, const char *raw, size_t n)
{
	/* a copy of its exact size: reading or writing beyond an end shows */
	char *in = malloc(n ? n : 1), *out = malloc(n ? 2 * n : 1);
	memcpy(in, raw, n);
	memset(out, 'X', 2 * n);
	int r = lc_path_normalise(ret, out, in, n);
	if (r == LC_PATH_OK) {
		memcpy(buf, ret->path.p, ret->path.n);
		memcpy(buf + 4096, ret->plain.p, ret->plain.n);
		ret->path.p = buf;
		ret->plain.p = buf + 4096;
	}
	free(in);
	free(out);
	return r;
}

static void
test_paths(void **state)
{
	char buf[8192];

	(void)state;
	for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
		struct lc_path p = {{0}};
		size_t n = strlen(paths[k].raw);
		int r = normalise(&p, buf, paths[k].raw, n);
		if (r != paths[k].r ||
		    (r == 0 && (p.path.n != strlen(paths[k].path) || memcmp(p.path.p, paths[k].path, p.path.n) != 0)))
			fail_msg("%s: %d, %.*s", paths[k].raw, r, (int)p.path.n, p.path.p ? p.path.p : "");
		int normal = lc_path_is_normal(paths[k].raw, n);
		if (normal)
			assert_true(r == LC_PATH_OK && !strcmp(paths[k].raw, paths[k].path));
	}
	/* what most requests ask for has to be found normal, or all pay for it */
	assert_true(lc_path_is_normal("/", 1));
	assert_true(lc_path_is_normal("/static/css/site.min.css", 24));
	assert_true(lc_path_is_normal("/a.b/c..d/e.", 12));
	assert_false(lc_path_is_normal("/\0", 2));
	assert_false(lc_path_is_normal("/a\0b", 4));
	assert_false(lc_path_is_normal("", 0));
}

/* The model: decode, then split at slashes, then a stack of segments. */
static int
model(char *to, size_t *ret_n, const char *raw, size_t n)
{
	char text[2048], *seg[2048];
	size_t m = 0, depth = 0, len[2048];

	if (n == 0 || raw[0] != '/')
		return LC_PATH_NONE;
	for (size_t k = 0; k < n; k++) {
		char two[3] = {0}, *end = two;
		if (raw[k] == '%' && k + 2 < n) {
			memcpy(two, raw + k + 1, 2);
			if (!strchr("+- ", two[0]) && two[0] != 'x' && (two[0] < '\t' || two[0] > '\r'))
				strtol(two, &end, 16);
			if (end == two + 2 && two[1] != 'x' && two[1] != 'X') {
				text[m++] = (char)strtol(two, NULL, 16);
				k += 2;
				continue;
			}
		}
		text[m++] = raw[k];
	}
	if (memchr(text, 0, m))
		return LC_PATH_NUL;
	int dir = 0;
	for (size_t i = 0; i < m;) {
		while (i < m && text[i] == '/')
			i++;
		size_t j = i;
		while (j < m && text[j] != '/')
			j++;
		size_t k = j - i;
		dir = 1;
		if (k == 0 || (k == 1 && text[i] == '.')) {
		} else if (k == 2 && text[i] == '.' && text[i + 1] == '.') {
			if (depth-- == 0)
				return LC_PATH_ABOVE;
		} else {
			seg[depth] = text + i;
			len[depth++] = k;
			dir = 0;
		}
		i = j;
	}
	*ret_n = 0;
	for (size_t d = 0; d < depth; d++) {
		to[(*ret_n)++] = '/';
		memcpy(to + *ret_n, seg[d], len[d]);
		*ret_n += len[d];
	}
	if (dir)
		to[(*ret_n)++] = '/';
	return LC_PATH_OK;
}

static uint32_t seed = 20;

static uint32_t
dice(uint32_t n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % n;
}

/* A path of pieces that matter; at most 400 bytes. */
static size_t
random_path(char *to)
{
	static const char *const pieces[] = {"/",     "/",   "/",   ".",   ".",    "..",  "a",   "b",
					     "ab",    "%",   "%2",  "%2f", "%2e",  "%61", "%00", "%25",
					     "%252e", "/a/", "/ab", "/./", "/../", "//",  "x%",  "%fF"};
	size_t n = 1;

	to[0] = '/';
	for (uint32_t k = dice(12); k; k--) {
		const char *p = pieces[dice(sizeof(pieces) / sizeof(pieces[0]))];
		if (!strcmp(p, "%00") && dice(8))
			continue;
		memcpy(to + n, p, strlen(p));
		n += strlen(p);
	}
	return n;
}

static void
test_paths_as_modelled(void **state)
{
	char raw[1024], buf[8192], want[2048];
	uint32_t fine = 0;

	(void)state;
	for (int k = 0; k < 200000; k++) {
		struct lc_path p = {{0}};
		size_t n = random_path(raw), m = 0;
		int r = normalise(&p, buf, raw, n), w = model(want, &m, raw, n);
		if (r != w || (r == 0 && (p.path.n != m || memcmp(p.path.p, want, m) != 0)))
			fail_msg("%.*s: %d %.*s, not %d %.*s", (int)n, raw, r, (int)p.path.n, p.path.p ? p.path.p : "",
				 w, (int)m, want);
		if (r)
			continue;
		fine++;
		/* it is its own normal form, unless an escape came out of it */
		if (!memchr(want, '%', m)) {
			char again[8192];
			assert_int_equal(normalise(&p, again, want, m), LC_PATH_OK);
			assert_int_equal(p.path.n, m);
			assert_memory_equal(p.path.p, want, m);
		}
		if (lc_path_is_normal(raw, n)) {
			assert_int_equal(m, n);
			assert_memory_equal(raw, want, n);
		}
	}
	assert_true(fine > 50000);
}

/* ---- routes ---- */

static struct lc_srv srv;
static const char *const prefixes[] = {"/", "/a", "/a/", "/ab", "/a/b/", "/static/", "/abc", "/a/b"};
#define NPREFIX (sizeof(prefixes) / sizeof(prefixes[0]))
static char asked[NPREFIX * 2 + 1]; /* routes in the order in which they were asked, as digits */
static int taker;                   /* the route that takes; -1: none */
static int opened, closed, failing;
static char seen_path[4096], seen_rest[4096];

static int
h_open(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lc_route *r, const void *conf, void **h)
{
	assert_ptr_equal(ctx, &srv.ctx);
	assert_ptr_equal(api, lc_worker_table());
	assert_string_equal(conf, "conf");
	if (failing)
		return -EBUSY;
	opened++;
	*h = (void *)(uintptr_t)r;
	return 0;
}

static int
h_request(void *h, struct lc_stream *s, const struct lc_match *m)
{
	const struct lc_route *r = h;

	assert_int_equal(m->size, sizeof(*m));
	assert_true(m->path.n == r->prefix.n + m->rest.n && m->rest.p == m->path.p + r->prefix.n);
	assert_memory_equal(m->path.p, r->prefix.p, r->prefix.n);
	assert_null(memchr(m->path.p, 0, m->path.n));
	assert_non_null(s->route);
	snprintf(asked + strlen(asked), 2, "%u", r->index);
	snprintf(seen_path, sizeof(seen_path), "%.*s", (int)m->path.n, m->path.p);
	snprintf(seen_rest, sizeof(seen_rest), "%.*s", (int)m->rest.n, m->rest.p);
	lc_stream_table.set_user(s, h);
	return (int)r->index == taker ? LC_H_TAKEN : LC_H_DECLINED;
}

static void
h_close(void *h)
{
	(void)h;
	closed++;
}

static const struct lc_handler handler = {
    .size = sizeof(handler), .name = "test", .open = h_open, .request = h_request, .close = h_close};
static struct lc_schain chain;

static void
wake(struct lc_stream *s)
{
	(void)s;
}

/* 1 taken by a route, 0 the worker's, 400 refused */
static int
match(const char *raw, size_t n)
{
	char *in = malloc(n ? n : 1);
	struct lc_stream *s = lc_stream_new(&srv.streams, &srv.loop);

	lc_chain_init(&chain);
	lc_chain_add(&chain, s);
	memcpy(in, raw, n);
	asked[0] = 0;
	s->req.path = (struct lc_str){in, n};
	s->worker_ref = s->requested = 1;
	int r = lc_route_request(&srv, s);
	if (r && !s->route) {
		assert_true(s->responded && s->head.status == 400 && s->out_fin && s->released);
		assert_string_equal(asked, "");
		r = 400;
	} else if (r) {
		assert_int_equal(srv.handled, 1);
		assert_non_null(s->user);
		srv.handled = 0;
	} else {
		assert_null(s->route);
		assert_null(s->user);
	}
	assert_int_equal(srv.handled, 0);
	while (lc_chain_pop(&chain))
		;
	lc_chain_remove(s);
	s->worker_ref = 0;
	lc_stream_free(&srv.streams, s);
	free(in);
	return r;
}

static int
start(void **state)
{
	(void)state;
	assert_int_equal(lc_srv_init(&srv), 0);
	lc_stream_wake_leading = wake;
	lc_lead_tls = &srv.loop;
	for (uint32_t k = 0; k < NPREFIX; k++)
		assert_int_equal(lc_routes_add(&srv, &handler, k, prefixes[k], "conf"), 0);
	assert_int_equal(opened, NPREFIX);
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	lc_routes_close(&srv);
	assert_int_equal(closed, NPREFIX);
	assert_null(srv.routes);
	lc_routes_close(&srv);
	lc_lead_tls = NULL;
	lc_srv_done(&srv);
	return 0;
}

static void
test_order(void **state)
{
	static const struct {
		const char *raw, *asked;
	} cases[] = {
	    {"/", "0"},
	    {"/a", "10"},
	    {"/a/", "210"},
	    {"/ab", "310"},
	    {"/abc/d", "6310"},
	    {"/a/b/c", "47210"},
	    {"/a/b", "7210"},
	    {"/static/x", "50"},
	    {"/static", "0"},
	    {"/A", "0"},
	    {"/x/../a/b/", "47210"},
	    {"//%61//%62//", "47210"},
	    {"/%73tatic%2Fx", "50"},
	};

	(void)state;
	taker = -1;
	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		assert_int_equal(match(cases[k].raw, strlen(cases[k].raw)), 0);
		assert_string_equal(asked, cases[k].asked);
	}
	assert_int_equal(match("*", 1), 0);
	assert_string_equal(asked, "");
	taker = 2;
	assert_int_equal(match("/a/b//../c%20d?", 15), 400); /* leaves /a/b/ */
	assert_int_equal(match("/a/x//../c%20d?", 15), 1);
	assert_string_equal(asked, "2");
	assert_string_equal(seen_path, "/a/c d?");
	assert_string_equal(seen_rest, "c d?");
	taker = 0;
	assert_int_equal(match("/abc", 4), 1);
	assert_string_equal(asked, "6310");
}

static void
test_refused(void **state)
{
	static const char *const cases[] = {"/%00",
					    "/a%00",
					    "/..",
					    "/../a",
					    "/a/../../b",
					    "/static/../x",
					    "/static/%2e./x",
					    "/static%2f..%2fx",
					    "/a/b/../c",
					    "//static/..",
					    "/static/../static"};

	(void)state;
	taker = -1;
	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
		if (match(cases[k], strlen(cases[k])) != 400)
			fail_msg("%s was not refused", cases[k]);
	/* what stays inside is fine */
	assert_int_equal(match("/static/x/../y", 14), 0);
	assert_string_equal(asked, "50");
	assert_int_equal(match("/x/../static/y", 14), 0);
	assert_string_equal(asked, "50");
	/* "/a/" is in "/a", "/static" in none */
	assert_int_equal(match("/static/../static/", 18), 0);
	/* longer than what is normalised on the stack */
	static char raw[9000];
	memset(raw, 'x', sizeof(raw));
	memcpy(raw, "/static/%61", 11);
	assert_int_equal(match(raw, sizeof(raw)), 0);
	assert_string_equal(asked, "50");
	memcpy(raw, "/static/../", 11);
	assert_int_equal(match(raw, sizeof(raw)), 400);
}

/* However the bytes of a path are written: the same routes are asked. */
static void
test_encoding_changes_nothing(void **state)
{
	char raw[1024], enc[4096], before[sizeof(asked)];
	uint32_t fine = 0;

	(void)state;
	taker = -1;
	for (int k = 0; k < 20000; k++) {
		size_t n = random_path(raw), m = 0;
		int r = match(raw, n);
		memcpy(before, asked, sizeof(before));
		for (size_t i = 0; i < n; i++) {
			/* "%41" is one byte, whose escape may be written in either case */
			int escape = raw[i] == '%' && i + 2 < n && strspn(raw + i + 1, "0123456789abcdefABCDEF") >= 2;
			if (escape) {
				enc[m++] = raw[i++];
				enc[m++] = (char)(raw[i] >= 'a' && dice(2) ? raw[i] - 32 : raw[i]);
				i++;
				enc[m++] = (char)(raw[i] >= 'a' && dice(2) ? raw[i] - 32 : raw[i]);
			} else if (i && (raw[i] == '%' || dice(3) == 0)) { /* the first slash makes it a path */
				m += (size_t)snprintf(enc + m, 4, dice(2) ? "%%%02x" : "%%%02X", (uint8_t)raw[i]);
			} else {
				enc[m++] = raw[i];
			}
			if (raw[i] == '/' && dice(4) == 0)
				enc[m++] = '/';
		}
		int r2 = match(enc, m);
		if (r != r2 || strcmp(before, asked) != 0)
			fail_msg("%.*s: %d %s; %.*s: %d %s", (int)n, raw, r, before, (int)m, enc, r2, asked);
		fine += r == 0;
	}
	assert_true(fine > 3000);
}

/* What an application could see of a path that reaches it (decoded, nothing resolved) never lies in a route that was
 * not asked. */
static void
test_nothing_passes_by(void **state)
{
	char raw[1024], text[1024];

	(void)state;
	taker = -1;
	for (int k = 0; k < 50000; k++) {
		size_t n = random_path(raw), m = 0;
		if (match(raw, n) != 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (raw[i] == '%' && i + 2 < n && strspn(raw + i + 1, "0123456789abcdefABCDEF") >= 2) {
				char two[3] = {raw[i + 1], raw[i + 2], 0};
				text[m++] = (char)strtol(two, NULL, 16);
				i += 2;
			} else {
				text[m++] = raw[i];
			}
		for (size_t p = 0; p < NPREFIX; p++) {
			char digit[2] = {(char)('0' + p), 0};
			if (m >= strlen(prefixes[p]) && !memcmp(text, prefixes[p], strlen(prefixes[p])) &&
			    !strstr(asked, digit))
				fail_msg("%.*s passed %s by", (int)n, raw, prefixes[p]);
		}
	}
}

static void
test_open_fails(void **state)
{
	(void)state;
	failing = 1;
	assert_int_equal(lc_routes_add(&srv, &handler, 99, "/never", "conf"), -EBUSY);
	failing = 0;
	taker = 99;
	assert_int_equal(match("/never", 6), 0);
	assert_string_equal(asked, "0");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_paths_as_modelled),
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_encoding_changes_nothing),
	    cmocka_unit_test(test_nothing_passes_by),
	    cmocka_unit_test(test_open_fails),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
