/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_static_parts.c - the handler module "static", part by part: paths, types, dates, tags, ranges, codings.
 *
 * Paths are opened below a tree that is made for it, by openat2(2) and by the walk: both have to say the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "static.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW INT64_C(1795000000) /* November 2026 */

static struct lc_str
str(const char *s)
{
	return (struct lc_str){s, strlen(s)};
}

/* A copy of exactly n bytes, so that the sanitizer sees a read outside. */
static char *
exact(const char *s)
{
	size_t n = strlen(s);
	char *p = malloc(n ? n : 1);

	assert_non_null(p);
	memcpy(p, s, n);
	return p;
}

/* ---- dates ---- */

static void
test_dates(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds; /* -1: not a date */
	} rows[] = {
	    {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
	    {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
	    {"Sun Nov  6 08:49:37 1994", 784111777},
	    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
	    {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
	    {"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
	    {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},     /* a leap second */
	    {"Wednesday, 16-Nov-76 00:00:00 GMT", 3372710400}, /* 2076: not more than 50 years ahead */
	    {"Wednesday, 16-Nov-77 00:00:00 GMT", 248486400},  /* 1977 */
	    {"Wed Nov 16 00:00:00 1977", 248486400},
	    {"", -1},
	    {"Sun", -1},
	    {"Sun,", -1},
	    {"Sun, 06 Nov 1994 08:49:37 GMT ", -1},
	    {" Sun, 06 Nov 1994 08:49:37 GMT", -1},
	    {"Sun, 6 Nov 1994 08:49:37 GMT", -1},
	    {"sun, 06 Nov 1994 08:49:37 GMT", -1},
	    {"Sun, 06 nov 1994 08:49:37 GMT", -1},
	    {"Sun, 06 Nov 1994 08:49:37 UTC", -1},
	    {"Sun, 06 Nov 1994 08:49:37 +0000", -1},
	    {"Sun, 06 Nov 1994 24:49:37 GMT", -1},
	    {"Sun, 06 Nov 1994 08:60:37 GMT", -1},
	    {"Sun, 06 Nov 1994 08:49:61 GMT", -1},
	    {"Sun, 00 Nov 1994 08:49:37 GMT", -1},
	    {"Sun, 31 Nov 1994 08:49:37 GMT", -1},
	    {"Sun, 06-Nov-94 08:49:37 GMT", -1},
	    {"Sunday, 06 Nov 1994 08:49:37 GMT", -1},
	    {"Sun Nov 6 08:49:37 1994", -1},
	    {"784111777", -1},
	};

	for (size_t k = 0; k < COUNT(rows); k++) {
		char *p = exact(rows[k].text);
		int64_t got = -1;
		int ok = st_date_parse(&got, p, strlen(rows[k].text), NOW);

		if (got != rows[k].seconds || (!ok && rows[k].seconds != -1))
			fail_msg("\"%s\" is %lld, not %lld", rows[k].text, (long long)got, (long long)rows[k].seconds);
		/* and no shorter text is one: every format has a fixed end */
		for (size_t n = 0; n < strlen(rows[k].text); n++)
			if (st_date_parse(&got, p, n, NOW) && rows[k].seconds != -1)
				fail_msg("the first %zu bytes of \"%s\" pass", n, rows[k].text);
		free(p);
	}
	/* what is written is what is read */
	for (int64_t s = -INT64_C(62135596800); s <= INT64_C(253402300799); s += INT64_C(86399) * 997) {
		char text[29];
		int64_t back;

		st_date_put(text, s);
		assert_true(st_date_parse(&back, text, 29, NOW));
		assert_true(back == s);
	}
	char text[30] = "";
	st_date_put(text, 784111777);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
	st_date_put(text, INT64_MAX);
	assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
	st_date_put(text, INT64_MIN);
	assert_string_equal(text, "Mon, 01 Jan 0001 00:00:00 GMT");
}

/* ---- entity tags ---- */

static void
test_tags(void **state)
{
	static const struct {
		const char *list, *tag;
		int weak, strong; /* whether it is named, by each comparison */
	} rows[] = {
	    {"\"a\"", "\"a\"", 1, 1},
	    {"*", "\"a\"", 1, 1},
	    {"*", NULL, 1, 1},
	    {"\"a\"", NULL, 0, 0},
	    /* the table of RFC 9110 8.8.3.2 */
	    {"W/\"1\"", "W/\"1\"", 1, 0},
	    {"W/\"1\"", "W/\"2\"", 0, 0},
	    {"W/\"1\"", "\"1\"", 1, 0},
	    {"\"1\"", "W/\"1\"", 1, 0},
	    {"\"1\"", "\"1\"", 1, 1},
	    {"\"b\", \"a\"", "\"a\"", 1, 1},
	    {"\"b\",W/\"a\" , \"c\"", "\"a\"", 1, 0},
	    {",, \"b\" ,\t\"a\"", "\"a\"", 1, 1},
	    {"\"b,\\\"a\"", "\"a\"", 0, 0}, /* a backslash escapes nothing: b,\ is the tag, and the rest is broken */
	    {"\"a\" \"b\"", "\"b\"", 0, 0},
	    {"a", "\"a\"", 0, 0},
	    {"\"a", "\"a\"", 0, 0},
	    {"\"", "\"a\"", 0, 0},
	    {"w/\"a\"", "\"a\"", 0, 0},
	    {"\"a \"", "\"a\"", 0, 0},
	    {"\"aa\"", "\"a\"", 0, 0},
	    {"\"\"", "\"\"", 1, 1},
	    {"**", "\"a\"", 0, 0},
	    {"", "\"a\"", 0, 0},
	};

	for (size_t k = 0; k < COUNT(rows); k++) {
		char *p = exact(rows[k].list);
		struct lc_str tag = rows[k].tag ? str(rows[k].tag) : (struct lc_str){NULL, 0};

		if (st_tags_have(p, strlen(rows[k].list), tag, 0) != rows[k].weak ||
		    st_tags_have(p, strlen(rows[k].list), tag, 1) != rows[k].strong)
			fail_msg("%s in %s", rows[k].tag, rows[k].list);
		free(p);
	}
}

/* ---- ranges ---- */

static void
test_ranges(void **state)
{
	static const struct {
		const char *range;
		uint64_t size;
		int outcome;
		uint64_t first, last;
	} rows[] = {
	    {"bytes=0-0", 100, ST_RANGE_ONE, 0, 0},
	    {"bytes=0-99", 100, ST_RANGE_ONE, 0, 99},
	    {"bytes=0-100", 100, ST_RANGE_ONE, 0, 99},
	    {"bytes=99-", 100, ST_RANGE_ONE, 99, 99},
	    {"bytes=0-", 100, ST_RANGE_ONE, 0, 99},
	    {"bytes=-1", 100, ST_RANGE_ONE, 99, 99},
	    {"bytes=-100", 100, ST_RANGE_ONE, 0, 99},
	    {"bytes=-101", 100, ST_RANGE_ONE, 0, 99},
	    {"BYTES=10-19", 100, ST_RANGE_ONE, 10, 19},
	    {"bytes=,10-19 ,", 100, ST_RANGE_ONE, 10, 19},
	    {"bytes= 10-19", 100, ST_RANGE_ONE, 10, 19},
	    {"bytes=00010-00019", 100, ST_RANGE_ONE, 10, 19},
	    {"bytes=10-99999999999999999999999", 100, ST_RANGE_ONE, 10, 99},
	    {"bytes=-99999999999999999999999", 100, ST_RANGE_ONE, 0, 99},
	    {"bytes=9223372036854775807-", UINT64_C(1) << 63, ST_RANGE_ONE, INT64_MAX, INT64_MAX},
	    {"bytes=100-", 100, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=100-200", 100, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=99999999999999999999999-", 100, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=18446744073709551616-", 100, ST_RANGE_UNSAT, 0, 0}, /* 2^64 is not 0 */
	    {"bytes=-0", 100, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=0-", 0, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=-0", 0, ST_RANGE_UNSAT, 0, 0},
	    {"bytes=-1", 0, ST_RANGE_NONE, 0, 0},
	    {"bytes=0-1,2-3", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=10-9", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=-", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=a-b", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=0 -1", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=0- 1", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=0-1x", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=0-1-2", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=--1", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=+1-2", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes=0x1-2", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes 0-1", 100, ST_RANGE_NONE, 0, 0},
	    {"bytes =0-1", 100, ST_RANGE_NONE, 0, 0},
	    {"items=0-1", 100, ST_RANGE_NONE, 0, 0},
	    {"", 100, ST_RANGE_NONE, 0, 0},
	};

	for (size_t k = 0; k < COUNT(rows); k++) {
		char *p = exact(rows[k].range);
		uint64_t first = 0, last = 0;
		int got = st_range_parse(p, strlen(rows[k].range), rows[k].size, &first, &last);

		if (got != rows[k].outcome || (got == ST_RANGE_ONE && (first != rows[k].first || last != rows[k].last)))
			fail_msg("%s of %llu: %d, %llu-%llu", rows[k].range, (unsigned long long)rows[k].size, got,
				 (unsigned long long)first, (unsigned long long)last);
		free(p);
	}
}

/* ---- codings ---- */

static void
test_codings(void **state)
{
	static const struct {
		const char *value;
		int gzip, br; /* weights */
	} rows[] = {
	    {"gzip, deflate, br, zstd", 1000, 1000},
	    {"gzip", 1000, 0},
	    {"x-gzip", 1000, 0},
	    {"GZIP;Q=0.5", 500, 0},
	    {"br;q=0.001, gzip ; q=0.25", 250, 1},
	    {"*", 1000, 1000},
	    {"*;q=0.1, gzip;q=0", 0, 100},
	    {"identity, gzip;q=0.5", 0, 0},
	    {"identity;q=0.5, gzip;q=0.5", 500, 0},
	    {"identity;q=0", 0, 0},
	    {"gzip;q=0", 0, 0},
	    {"gzip;q=1.001", 0, 0},
	    {"gzip;q=2, br", 0, 1000},
	    {"gzip;q=0.5;x=y, br", 0, 1000},
	    {"gzip;level=1", 0, 0},
	    {"gzipped, brotli", 0, 0},
	    {"", 0, 0},
	    {",,;,", 0, 0},
	};

	for (size_t k = 0; k < COUNT(rows); k++) {
		char *p = exact(rows[k].value);
		struct st_accept a = {-1, -1, -1, -1};

		st_accept_parse(&a, p, strlen(rows[k].value));
		if (st_accept_weight(&a, a.gzip) != rows[k].gzip || st_accept_weight(&a, a.br) != rows[k].br)
			fail_msg("%s: gzip %d, br %d", rows[k].value, st_accept_weight(&a, a.gzip),
				 st_accept_weight(&a, a.br));
		free(p);
	}
}

/* ---- conditions ---- */

#define SAME "Sun, 06 Nov 1994 08:49:37 GMT"
#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define AFTER "Sun, 06 Nov 1994 08:49:38 GMT"

static void
test_conditions(void **state)
{
	static const struct {
		const char *match, *unmodified, *none, *modified;
		uint32_t status;
	} rows[] = {
	    {NULL, NULL, NULL, NULL, 0},
	    {"\"t\"", NULL, NULL, NULL, 0},
	    {"\"x\"", NULL, NULL, NULL, 412},
	    {"W/\"t\"", NULL, NULL, NULL, 412},
	    {"*", NULL, NULL, NULL, 0},
	    {NULL, SAME, NULL, NULL, 0},
	    {NULL, AFTER, NULL, NULL, 0},
	    {NULL, BEFORE, NULL, NULL, 412},
	    {NULL, "yesterday", NULL, NULL, 0},
	    {"\"t\"", BEFORE, NULL, NULL, 0}, /* If-Unmodified-Since does not count beside If-Match */
	    {"\"x\"", AFTER, NULL, NULL, 412},
	    {NULL, NULL, "\"t\"", NULL, 304},
	    {NULL, NULL, "W/\"t\"", NULL, 304},
	    {NULL, NULL, "\"x\", \"t\"", NULL, 304},
	    {NULL, NULL, "*", NULL, 304},
	    {NULL, NULL, "\"x\"", NULL, 0},
	    {NULL, NULL, "\"x\"", SAME, 0}, /* If-Modified-Since does not count beside If-None-Match */
	    {NULL, NULL, "\"t\"", BEFORE, 304},
	    {NULL, NULL, NULL, SAME, 304},
	    {NULL, NULL, NULL, AFTER, 304},
	    {NULL, NULL, NULL, "Sunday, 06-Nov-94 08:49:37 GMT", 304},
	    {NULL, NULL, NULL, "Sun Nov  6 08:49:37 1994", 304},
	    {NULL, NULL, NULL, BEFORE, 0},
	    {NULL, NULL, NULL, "", 0},
	    {"\"x\"", NULL, "\"t\"", NULL, 412},
	    {"\"t\"", NULL, "\"t\"", NULL, 304},
	    {NULL, BEFORE, "\"t\"", NULL, 412},
	    {NULL, SAME, NULL, SAME, 304},
	};
	const struct st_validators v = {.tag = str("\"t\""), .changed = str(SAME), .seconds = 784111777, .strong = 1};

	for (size_t k = 0; k < COUNT(rows); k++) {
		struct lc_field f[4];
		struct lc_req q = {.fields = f};
		struct st_ask ask;
		const char *values[] = {rows[k].match, rows[k].unmodified, rows[k].none, rows[k].modified};
		static const uint16_t tokens[] = {LC_TOK_IF_MATCH, LC_TOK_IF_UNMODIFIED_SINCE, LC_TOK_IF_NONE_MATCH,
						  LC_TOK_IF_MODIFIED_SINCE};

		for (int i = 3; i >= 0; i--)
			if (values[i])
				f[q.nfields++] = (struct lc_field){.value = str(values[i]), .token = tokens[i]};
		st_ask_read(&ask, &q);
		uint32_t got = st_ask_condition(&ask, &v, NOW);
		if (got != rows[k].status)
			fail_msg("row %zu: %u, not %u", k, got, rows[k].status);
	}
	/* several fields of one name are one list */
	const struct lc_field two[] = {{.value = str("\"x\""), .token = LC_TOK_IF_NONE_MATCH},
				       {.value = str("\"t\""), .token = LC_TOK_IF_NONE_MATCH}};
	const struct lc_req q = {.fields = two, .nfields = 2};
	struct st_ask ask;
	st_ask_read(&ask, &q);
	assert_int_equal(st_ask_condition(&ask, &v, NOW), 304);
}

static void
test_if_range(void **state)
{
	static const struct {
		const char *if_range;
		int strong, outcome;
	} rows[] = {
	    {NULL, 1, ST_RANGE_ONE},       {"\"t\"", 1, ST_RANGE_ONE},  {"\"x\"", 1, ST_RANGE_NONE},
	    {"W/\"t\"", 1, ST_RANGE_NONE}, {"\"t\"", 0, ST_RANGE_NONE}, {SAME, 1, ST_RANGE_ONE},
	    {SAME, 0, ST_RANGE_NONE},      {AFTER, 1, ST_RANGE_NONE},   {BEFORE, 1, ST_RANGE_NONE},
	    {"*", 1, ST_RANGE_NONE},       {"", 1, ST_RANGE_NONE},
	};

	for (size_t k = 0; k < COUNT(rows); k++) {
		struct lc_field f[3] = {{.value = str("bytes=1-2"), .token = LC_TOK_RANGE}};
		struct lc_req q = {.fields = f, .nfields = 1};
		struct st_validators v = {
		    .tag = str("\"t\""), .changed = str(SAME), .seconds = 784111777, .strong = rows[k].strong};
		struct st_ask ask;
		uint64_t first, last;

		if (rows[k].if_range)
			f[q.nfields++] = (struct lc_field){.value = str(rows[k].if_range), .token = LC_TOK_IF_RANGE};
		st_ask_read(&ask, &q);
		int got = st_ask_range(&ask, &v, 10, &first, &last);
		if (got != rows[k].outcome)
			fail_msg("If-Range: %s: %d", rows[k].if_range, got);
		f[q.nfields++] = f[0]; /* twice: ignored */
		st_ask_read(&ask, &q);
		assert_int_equal(st_ask_range(&ask, &v, 10, &first, &last), ST_RANGE_NONE);
	}
}

/* ---- types ---- */

static void
test_types(void **state)
{
	static const struct {
		const char *name, *type;
	} rows[] = {
	    {"a.css", "text/css; charset=utf-8"},
	    {"a.CSS", "text/css; charset=utf-8"},
	    {"css", "x/other"},
	    {".css", "x/other"},
	    {"dir/.css", "x/other"},
	    {"a.b/css", "x/other"},
	    {"a.", "x/other"},
	    {"a..css", "text/css; charset=utf-8"},
	    {"a.js", "text/javascript; charset=utf-8"},
	    {"a.mjs", "text/javascript; charset=utf-8"},
	    {"a.json", "application/json"},
	    {"a.svg", "image/svg+xml"},
	    {"a.wasm", "application/wasm"},
	    {"a.woff2", "font/woff2"},
	    {"a.tar.gz", "application/gzip"},
	    {"a.log", "text/x-log; charset=koi8-r"}, /* replaced, with a charset of its own */
	    {"a.foo", "x/foo"},
	    {"a.abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", "x/other"},
	    {"", "x/other"},
	};
	static const char *const added[] = {"text/x-log; charset=koi8-r", "log", "x/bar", ".FOO", "x/foo", "foo"};
	const struct lc_list list = {added, COUNT(added)};
	struct st_types t;

	assert_int_equal(st_types_make(&t, &list, "x/other", "utf-8"), 0);
	for (size_t k = 0; k < COUNT(rows); k++) {
		char *p = exact(rows[k].name);
		struct lc_str got = st_type_of(&t, p, strlen(rows[k].name));

		if (got.n != strlen(rows[k].type) || memcmp(got.p, rows[k].type, got.n) != 0)
			fail_msg("%s: %.*s", rows[k].name, (int)got.n, got.p);
		free(p);
	}
	for (size_t k = 1; k < t.n; k++)
		if (strcasecmp(t.v[k - 1].ext, t.v[k].ext) >= 0)
			fail_msg("%s is twice in the table", t.v[k].ext);
	assert_true(t.n > 100);
	st_types_free(&t);
	const struct lc_list none = {0};
	assert_int_equal(st_types_make(&t, &none, "text/plain", NULL), 0);
	struct lc_str got = st_type_of(&t, "a.html", 6);
	assert_int_equal(got.n, 9);
	assert_memory_equal(got.p, "text/html", 9);
	st_types_free(&t);
}

static void
test_expires(void **state)
{
	assert_int_equal(st_expires_parse("off"), -1);
	assert_int_equal(st_expires_parse("epoch"), -2);
	assert_int_equal(st_expires_parse("max"), 315360000);
	assert_int_equal(st_expires_parse("0"), 0);
	assert_int_equal(st_expires_parse("90"), 90);
	assert_int_equal(st_expires_parse("90s"), 90);
	assert_int_equal(st_expires_parse("5m"), 300);
	assert_int_equal(st_expires_parse("1h"), 3600);
	assert_int_equal(st_expires_parse("30d"), 2592000);
	assert_int_equal(st_expires_parse("2w"), 1209600);
	assert_int_equal(st_expires_parse("1y"), 31536000);
	static const char *const bad[] = {"",   "d", "-1", "1.5d", "1dd", "1d ", "11y", "99999999999999999999",
					  "on", "1M"};
	for (size_t k = 0; k < COUNT(bad); k++)
		assert_int_equal(st_expires_parse(bad[k]), -3);
}

/* ---- paths ---- */

static char top[] = "/tmp/licorne-static-XXXXXX";

static const char *
at(const char *path)
{
	static char buf[4][PATH_MAX];
	static int k;

	k = (k + 1) % 4;
	snprintf(buf[k], sizeof(buf[k]), "%s/%s", top, path);
	return buf[k];
}

static void
put_file(const char *path, const char *text)
{
	int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static int
make_tree(void **state)
{
	assert_non_null(mkdtemp(top));
	static const char *const dirs[] = {"root", "root/dir", "root/dir/sub", "root/closed", "out"};
	for (size_t k = 0; k < COUNT(dirs); k++)
		assert_int_equal(mkdir(at(dirs[k]), 0755), 0);
	put_file("root/file", "inside");
	put_file("root/dir/sub/file", "inside");
	put_file("root/closed/file", "inside");
	put_file("out/secret", "outside");
	put_file("root/..x", "inside");
	static const struct {
		const char *link, *to;
	} links[] = {
	    {"root/to-file", "file"},
	    {"root/to-dir", "dir"},
	    {"root/to-out", "../out"},
	    {"root/to-secret", "../out/secret"},
	    {"root/to-root", "."},
	    {"root/to-parent", ".."},
	    {"root/to-gone", "gone"},
	    {"root/loop1", "loop2"},
	    {"root/loop2", "loop1"},
	    {"root/round", "dir/sub/../../file"},
	    {"root/out-and-in", "../root/file"},
	    {"root/dir/up", "../file"},
	    {"root/dir/up-dir", "../dir/sub/"},
	    {"root/dir/too-far", "../../out/secret"},
	    {"root/chain1", "chain2"},
	    {"root/chain2", "to-dir/sub/file"},
	    {"root/to-file-slash", "file/"},
	    {"root/proc", "/proc/self/cwd"},
	};
	for (size_t k = 0; k < COUNT(links); k++)
		assert_int_equal(symlink(links[k].to, at(links[k].link)), 0);
	assert_int_equal(symlink(at("root/file"), at("root/absolute")), 0);
	assert_int_equal(symlink(at("out/secret"), at("root/absolute-out")), 0);
	assert_int_equal(mkfifo(at("root/fifo"), 0644), 0);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at("root/socket"));
	assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(s);
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	return remove(path);
}

static int
remove_tree(void **state)
{
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What opening comes to, and, of a file, what is in it. */
static const char *
outcome(const struct st_root *r, const char *path, int how)
{
	static char text[64];
	struct stat st;
	int fd = st_open(r, path, how);

	if (fd < 0) {
		snprintf(text, sizeof(text), "%s", strerrorname_np(-fd));
		return text;
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	if (S_ISREG(st.st_mode) && how == O_RDONLY) {
		ssize_t n = read(fd, text, sizeof(text) - 1);
		assert_true(n >= 0);
		text[n] = '\0';
	} else {
		snprintf(text, sizeof(text), "%s",
			 S_ISREG(st.st_mode)    ? "file"
			 : S_ISDIR(st.st_mode)  ? "directory"
			 : S_ISFIFO(st.st_mode) ? "fifo"
			 : S_ISSOCK(st.st_mode) ? "socket"
						: "other");
	}
	close(fd);
	return text;
}

static void
test_paths(void **state)
{
	static const struct {
		const char *path, *beneath, *off, *follow;
	} rows[] = {
	    {"", "directory", "directory", "directory"},
	    {"file", "inside", "inside", "inside"},
	    {"..x", "inside", "inside", "inside"},
	    {"dir", "directory", "directory", "directory"},
	    {"dir/", "directory", "directory", "directory"},
	    {"dir/sub/file", "inside", "inside", "inside"},
	    {"gone", "ENOENT", "ENOENT", "ENOENT"},
	    {"gone/file", "ENOENT", "ENOENT", "ENOENT"},
	    {"file/", "ENOTDIR", "ENOTDIR", "ENOTDIR"},
	    {"file/file", "ENOTDIR", "ENOTDIR", "ENOTDIR"},
	    {"fifo", "fifo", "fifo", "fifo"},
	    {"socket", "ENXIO", "ENXIO", "ENXIO"},
	    {"to-file", "inside", "ELOOP", "inside"},
	    {"to-dir", "directory", "ELOOP", "directory"},
	    {"to-dir/sub/file", "inside", "ELOOP", "inside"},
	    {"to-root/to-root/file", "inside", "ELOOP", "inside"},
	    {"to-gone", "ENOENT", "ELOOP", "ENOENT"},
	    {"loop1", "ELOOP", "ELOOP", "ELOOP"},
	    {"loop1/x", "ELOOP", "ELOOP", "ELOOP"},
	    {"round", "inside", "ELOOP", "inside"},
	    {"dir/up", "inside", "ELOOP", "inside"},
	    {"dir/up-dir/file", "inside", "ELOOP", "inside"},
	    {"chain1", "inside", "ELOOP", "inside"},
	    {"to-file-slash", "ENOTDIR", "ELOOP", "ENOTDIR"},
	    /* out of the root */
	    {"to-out", "EXDEV", "ELOOP", "directory"},
	    {"to-out/secret", "EXDEV", "ELOOP", "outside"},
	    {"to-secret", "EXDEV", "ELOOP", "outside"},
	    {"to-parent", "EXDEV", "ELOOP", "directory"},
	    {"to-parent/out/secret", "EXDEV", "ELOOP", "outside"},
	    {"dir/too-far", "EXDEV", "ELOOP", "outside"},
	    {"out-and-in", "EXDEV", "ELOOP", "inside"},
	    {"absolute", "EXDEV", "ELOOP", "inside"},
	    {"absolute-out", "EXDEV", "ELOOP", "outside"},
	    /* callers refuse these; they lead nowhere all the same */
	    {"../out/secret", "EXDEV", "EXDEV", NULL},
	    {"dir/../../out/secret", "EXDEV", "EXDEV", NULL},
	    {"dir/../file", "inside", "inside", "inside"},
	    {"./file", "inside", "inside", "inside"},
	    {"dir//sub///file", "inside", "inside", "inside"},
	    {"/etc/passwd", NULL, NULL, NULL},
	};
	char name[NAME_MAX + 2], deep[PATH_MAX + 1];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	memset(deep, 'x', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	for (uint32_t links = 0; links <= ST_LINKS_FOLLOW; links++) {
		struct st_root r;

		assert_int_equal(st_root_open(&r, at("root"), links), 0);
		assert_int_equal(r.walk, 0);
		for (int walk = 0; walk < 2; walk++) {
			r.walk = (uint8_t)walk;
			for (size_t k = 0; k < COUNT(rows); k++) {
				const char *want = links == ST_LINKS_OFF       ? rows[k].off
						   : links == ST_LINKS_BENEATH ? rows[k].beneath
									       : rows[k].follow;
				const char *got = want ? outcome(&r, rows[k].path, O_RDONLY) : NULL;
				if (want && strcmp(got, want) != 0)
					fail_msg("\"%s\", links %u, walk %d: %s, not %s", rows[k].path, links, walk,
						 got, want);
			}
			assert_string_equal(outcome(&r, name, O_RDONLY), "ENAMETOOLONG");
			assert_string_equal(outcome(&r, deep, O_RDONLY), "ENAMETOOLONG");
			assert_string_equal(outcome(&r, "dir", O_PATH), "directory");
			assert_string_equal(outcome(&r, "file", O_PATH), "file");
			assert_string_equal(outcome(&r, "socket", O_PATH), "socket");
			assert_string_equal(outcome(&r, "to-dir", O_PATH),
					    links == ST_LINKS_OFF ? "ELOOP" : "directory");
			assert_string_equal(outcome(&r, "to-out", O_PATH), links == ST_LINKS_OFF       ? "ELOOP"
									   : links == ST_LINKS_BENEATH ? "EXDEV"
												       : "directory");
		}
		st_root_close(&r);
	}
	struct st_root r;
	assert_int_equal(st_root_open(&r, at("gone"), 0), -ENOENT);
	assert_int_equal(st_root_open(&r, at("root/file"), 0), -ENOTDIR);
}

/* More directories than a walk keeps open, and none of its descriptors is left. */
static void
test_walk_depth(void **state)
{
	char path[PATH_MAX] = "root";
	struct st_root r;

	for (int k = 0; k < 80; k++) {
		strcat(path, "/d");
		assert_int_equal(mkdir(at(path), 0755), 0);
	}
	assert_int_equal(st_root_open(&r, at("root"), 0), 0);
	int before = dup(0);
	close(before);
	assert_string_equal(outcome(&r, path + 5, O_RDONLY), "directory");
	r.walk = 1;
	assert_string_equal(outcome(&r, path + 5, O_RDONLY), "ENAMETOOLONG");
	path[5 + 2 * 40 - 1] = '\0';
	assert_string_equal(outcome(&r, path + 5, O_RDONLY), "directory");
	int after = dup(0);
	close(after);
	assert_int_equal(before, after);
	st_root_close(&r);
}

/* A directory that somebody exchanges for a link to the outside, over and over, while it is being walked through. */
static void
test_races(void **state)
{
	struct st_root r;

	assert_int_equal(mkdir(at("root/swap"), 0755), 0);
	put_file("root/swap/secret", "inside");
	assert_int_equal(symlink("../out", at("root/swap-link")), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)renameat2(AT_FDCWD, at("root/swap"), AT_FDCWD, at("root/swap-link"), RENAME_EXCHANGE);
	}
	assert_int_equal(st_root_open(&r, at("root"), ST_LINKS_FOLLOW), 0);
	for (int walk = 0; walk < 2; walk++) {
		int inside = 0, outside = 0;
		r.walk = (uint8_t)walk;
		/* until the race has been lost and won often enough by who follows links */
		for (int k = 0; k < 2000 || inside < 200 || outside < 200; k++) {
			const char *got;
			r.links = ST_LINKS_FOLLOW;
			got = outcome(&r, "swap/secret", O_RDONLY);
			inside += strcmp(got, "inside") == 0;
			outside += strcmp(got, "outside") == 0;
			for (r.links = ST_LINKS_BENEATH; r.links < ST_LINKS_FOLLOW; r.links++) {
				got = outcome(&r, "swap/secret", O_RDONLY);
				if (strcmp(got, "inside") != 0 && strcmp(got, "EXDEV") != 0 &&
				    strcmp(got, "ELOOP") != 0 && strcmp(got, "EAGAIN") != 0)
					fail_msg("links %u, walk %d: %s", r.links, walk, got);
			}
		}
	}
	st_root_close(&r);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A system without the call, and a filter that knows it not. */
static void
test_no_openat2(void **state)
{
	static const int errors[] = {ENOSYS, EPERM};

	for (size_t k = 0; k < COUNT(errors); k++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			struct sock_filter code[] = {
			    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
			    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errors[k]),
			    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
			};
			const struct sock_fprog prog = {COUNT(code), code};
			struct st_root r;
			int ok = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
				 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0 &&
				 st_root_open(&r, at("root"), ST_LINKS_BENEATH) == 0 && r.walk == 1 &&
				 strcmp(outcome(&r, "to-dir/sub/file", O_RDONLY), "inside") == 0 &&
				 strcmp(outcome(&r, "to-out/secret", O_RDONLY), "EXDEV") == 0;
			_exit(ok ? 0 : 1);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_dates),      cmocka_unit_test(test_tags),       cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_codings),    cmocka_unit_test(test_conditions), cmocka_unit_test(test_if_range),
	    cmocka_unit_test(test_types),      cmocka_unit_test(test_expires),    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_walk_depth), cmocka_unit_test(test_races),      cmocka_unit_test(test_no_openat2),
	};
	return cmocka_run_group_tests_name("static_parts", tests, make_tree, remove_tree);
}
