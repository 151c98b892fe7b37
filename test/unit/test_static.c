/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_static.c - the handler module "static" as a whole: requests in, responses out, byte for byte.
 *
 * The host is pyhost_fake.c.  Both clocks are the test's, so that files can be as old as they have to be, and
 * allocations go through it, so that each can fail.
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pyhost_fake.h"
#include "static.h"

#undef clock_gettime
#undef malloc
#undef calloc
int clock_gettime(clockid_t, struct timespec *);
void *malloc(size_t);
void *calloc(size_t, size_t);
int st_test_clock_gettime(clockid_t, struct timespec *);
void *st_test_malloc(size_t);
void *st_test_calloc(size_t, size_t);

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SECOND UINT64_C(1000000000)

/* ---- the test's world ---- */

static uint64_t now = 1000 * SECOND; /* the loop's clock */
static time_t later = 3600;          /* the wall clock is ahead by as much: files are old when they are made */
static int fail_at = -1;             /* the allocation that fails, counted down; below 0: none */

int
st_test_clock_gettime(clockid_t id, struct timespec *t)
{
	int r = clock_gettime(id, t);

	t->tv_sec += later;
	return r;
}

static int
fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}

void *
st_test_malloc(size_t n)
{
	return fails() ? NULL : malloc(n);
}

void *
st_test_calloc(size_t k, size_t n)
{
	return fails() ? NULL : calloc(k, n);
}

static uint64_t
loop_clock(struct lc_wctx *x, int again)
{
	return now;
}

static struct lc_worker_api api;
static char top[] = "/tmp/licorne-static-XXXXXX", root[PATH_MAX];

static const char *
at(const char *path)
{
	static char buf[4][PATH_MAX + 64];
	static int k;

	k = (k + 1) % 4;
	snprintf(buf[k], sizeof(buf[k]), "%s/%s", root, path);
	return buf[k];
}

/* Modified at 08:49:37 on 6 November 1994, and `more` seconds. */
static void
set_time(const char *path, time_t more)
{
	const struct timespec t[2] = {{784111777 + more, 0}, {784111777 + more, 0}};

	assert_int_equal(utimensat(AT_FDCWD, at(path), t, AT_SYMLINK_NOFOLLOW), 0);
}
#define TAG "ae1b981bc490a00" /* that time in ns */
#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static void
put_bytes(const char *path, const void *p, size_t n)
{
	int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_true(write(fd, p, n) == (ssize_t)n);
	close(fd);
	set_time(path, 0);
}

static void
put_file(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

#define BIG 100000u
static uint8_t big[BIG];

static int
make_tree(void **state)
{
	static const char *const dirs[] = {"dir", "dir/deeper", "empty", "we ird?#%", ".git", ".well-known", "assets"};

	assert_non_null(mkdtemp(top));
	assert_int_equal(chmod(top, 0755), 0); /* for test_permission() */
	snprintf(root, sizeof(root), "%s/root", top);
	assert_int_equal(mkdir(root, 0755), 0);
	for (size_t k = 0; k < COUNT(dirs); k++)
		assert_int_equal(mkdir(at(dirs[k]), 0755), 0);
	put_file("a.css", "a { color: black }\n");
	put_file("empty.txt", "");
	put_file("none", "no extension");
	put_file("dir/index.html", "<h1>dir</h1>");
	put_file("dir/deeper/index.htm", "<h1>deeper</h1>");
	put_file("index.html", "<h1>top</h1>");
	put_file(".git/config", "secret");
	put_file(".env", "secret");
	put_file(".well-known/x", "known");
	put_file("assets/a.js", "plain");
	put_file("assets/a.js.gz", "gzipped");
	put_file("assets/a.js.br", "brotli");
	put_file("assets/b.js", "plain");
	put_file("../outside", "outside");
	assert_int_equal(symlink("a.css", at("link")), 0);
	assert_int_equal(symlink("../outside", at("leak")), 0);
	assert_int_equal(mkfifo(at("fifo"), 0644), 0);
	for (size_t k = 0; k < BIG; k++)
		big[k] = (uint8_t)(k * 7 + k / 256);
	put_bytes("big.bin", big, BIG);
	api = fake_worker;
	api.clock = loop_clock;
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

/* ---- an instance, and what it answers ---- */

static const char *const index_html[] = {"index.html"};
static const struct st_conf plain = {
    .root = root,
    .index = {index_html, 1},
    .default_type = "application/octet-stream",
    .charset = "utf-8",
    .expires = "off",
    .fallback = "off",
    .etag = 1,
    .dotfiles = 1,
    .cache_size = 16 << 20,
    .cache_max_file_size = 64 << 10,
    .cache_valid = 1000,
    .cache_descriptors = 64,
};

static const char *prefix = "/static/";

static struct st_inst *
inst(const struct st_conf *c)
{
	const struct lc_route route = {.size = sizeof(route), .prefix = {prefix, strlen(prefix)}};
	void *h = NULL;

	fake_log_clear();
	assert_int_equal(st_inst_make(NULL, &api, &route, c, &h), 0);
	return h;
}

static struct lc_stream *last; /* the stream of the last ask() */

/* The response as text: "declined", or status, declared length, fields, an empty line, body. */
static const char *
ask(struct st_inst *in, const char *method, const char *path, const char *const *fields)
{
	static char text[BIG + 4096], normal[PATH_MAX * 2];
	size_t n;

	fake_free(last);
	last = fake_stream(method, path, fields);
	/* what the core would hand over: no query here, and nothing to normalise but what the rows leave raw */
	snprintf(normal, sizeof(normal), "%s", path);
	normal[strcspn(normal, "?")] = '\0';
	struct lc_match m = {.size = sizeof(m), .path = {normal, strlen(normal)}};
	m.rest = (struct lc_str){normal + strlen(prefix), m.path.n - strlen(prefix)};
	if (st_request(in, last, &m) == LC_H_DECLINED) {
		assert_int_equal(last->responds + last->writes + last->finishes + last->releases, 0);
		return "declined";
	}
	assert_int_equal(last->releases, 1);
	assert_int_equal(last->violations, 0);
	memset(normal, 'x', sizeof(normal)); /* nothing of the match is used any more */
	if (!last->responds)
		return "reset";
	assert_true(last->fin || last->aborted);
	fake_flush(last);
	assert_int_equal(last->short_file, 0);
	n = (size_t)snprintf(text, sizeof(text), "%u %lld\n", last->status, (long long)last->length);
	for (uint32_t k = 0; k < last->nfields; k++) {
		const struct lc_field *f = &last->out_fields[k];
		assert_int_equal(f->token, fake_worker.token(f->name.p, f->name.n));
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s: %.*s\n", (int)f->name.n, f->name.p,
				      (int)f->value.n, f->value.p);
	}
	n += (size_t)snprintf(text + n, sizeof(text) - n, "\n%.*s", (int)last->body_n, last->body ? last->body : "");
	return text;
}

static const char *
get(struct st_inst *in, const char *path)
{
	return ask(in, "GET", path, NULL);
}

static void
done(struct st_inst *in)
{
	fake_free(last);
	last = NULL;
	st_inst_free(in);
}

#define CSS_FIELDS(head, type) \
	head "ETag: \"" TAG "-13\"\nLast-Modified: " DATE "\nAccept-Ranges: bytes\nContent-Type: " type "\n"
#define CSS_200 CSS_FIELDS("200 19\n", "text/css; charset=utf-8")
#define CSS CSS_200 "\na { color: black }\n"
#define PAGE(status, length, text) status " " length "\nContent-Type: text/plain\n\n" text "\n"
#define NOT_FOUND PAGE("404", "10", "Not Found")
#define FORBIDDEN PAGE("403", "10", "Forbidden")
#define UNAVAILABLE PAGE("503", "20", "Service Unavailable")

static void
test_responses(void **state)
{
	static const struct {
		const char *method, *path, *fields[6], *response;
	} rows[] = {
	    {"GET", "/static/a.css", {0}, CSS},
	    {"GET", "/static/a.css?v=1", {0}, CSS},
	    {"HEAD", "/static/a.css", {0}, CSS_200 "\n"},
	    {"GET",
	     "/static/empty.txt",
	     {0},
	     "200 0\nETag: \"" TAG "-0\"\nLast-Modified: " DATE
	     "\nAccept-Ranges: bytes\nContent-Type: text/plain; charset=utf-8\n\n"},
	    {"GET",
	     "/static/none",
	     {0},
	     "200 12\nETag: \"" TAG "-c\"\nLast-Modified: " DATE
	     "\nAccept-Ranges: bytes\nContent-Type: application/octet-stream\n\nno extension"},
	    {"GET",
	     "/static/",
	     {0},
	     "200 12\nETag: \"" TAG "-c\"\nLast-Modified: " DATE
	     "\nAccept-Ranges: bytes\nContent-Type: text/html; charset=utf-8\n\n<h1>top</h1>"},
	    {"GET",
	     "/static/dir/",
	     {0},
	     "200 12\nETag: \"" TAG "-c\"\nLast-Modified: " DATE
	     "\nAccept-Ranges: bytes\nContent-Type: text/html; charset=utf-8\n\n<h1>dir</h1>"},
	    {"GET",
	     "/static/dir",
	     {0},
	     "301 18\nLocation: /static/dir/\nContent-Type: text/plain\n\nMoved Permanently\n"},
	    {"HEAD", "/static/dir", {0}, "301 18\nLocation: /static/dir/\nContent-Type: text/plain\n\n"},
	    {"GET",
	     "/static/dir?a=/\\b&c",
	     {0},
	     "301 18\nLocation: /static/dir/?a=/\\b&c\nContent-Type: text/plain\n\nMoved Permanently\n"},
	    {"GET",
	     "/static/empty",
	     {0},
	     "301 18\nLocation: /static/empty/\nContent-Type: text/plain\n\nMoved Permanently\n"},
	    {"GET", "/static/empty/", {0}, FORBIDDEN},
	    {"GET", "/static/gone", {0}, NOT_FOUND},
	    {"GET", "/static/gone/", {0}, NOT_FOUND},
	    {"HEAD", "/static/gone", {0}, "404 10\nContent-Type: text/plain\n\n"},
	    {"GET", "/static/a.css/", {0}, NOT_FOUND},
	    {"GET", "/static/a.css/b", {0}, NOT_FOUND},
	    {"GET", "/static/A.css", {0}, NOT_FOUND},
	    {"GET", "/static/fifo", {0}, NOT_FOUND},
	    {"GET", "/static/leak", {0}, FORBIDDEN},
	    {"GET",
	     "/static/link",
	     {0},
	     "200 19\nETag: \"" TAG "-13\"\nLast-Modified: " DATE
	     "\nAccept-Ranges: bytes\nContent-Type: application/octet-stream\n\na { color: black }\n"},
	    /* what a core that normalises never asks for */
	    {"GET", "/static/../outside", {0}, NOT_FOUND},
	    {"GET", "/static/dir/../../outside", {0}, NOT_FOUND},
	    {"GET", "/static/dir/../a.css", {0}, NOT_FOUND},
	    {"GET", "/static/./a.css", {0}, NOT_FOUND},
	    {"GET", "/static/dir//index.html", {0}, NOT_FOUND},
	    {"GET", "/static///outside", {0}, NOT_FOUND},
	    {"GET", "/static/%2e%2e/outside", {0}, NOT_FOUND},
	    {"GET", "/static/..\\outside", {0}, NOT_FOUND},
	    /* methods */
	    {"POST",
	     "/static/a.css",
	     {0},
	     "405 19\nAllow: GET, HEAD, OPTIONS\nContent-Type: text/plain\n\nMethod Not Allowed\n"},
	    {"get",
	     "/static/a.css",
	     {0},
	     "405 19\nAllow: GET, HEAD, OPTIONS\nContent-Type: text/plain\n\nMethod Not Allowed\n"},
	    {"OPTIONS", "/static/a.css", {0}, "204 0\nAllow: GET, HEAD, OPTIONS\n\n"},
	    /* conditions */
	    {"GET",
	     "/static/a.css",
	     {"If-None-Match", "\"" TAG "-13\""},
	     "304 -1\nETag: \"" TAG "-13\"\nLast-Modified: " DATE "\n\n"},
	    {"HEAD",
	     "/static/a.css",
	     {"If-None-Match", "W/\"" TAG "-13\""},
	     "304 -1\nETag: \"" TAG "-13\"\nLast-Modified: " DATE "\n\n"},
	    {"GET",
	     "/static/a.css",
	     {"If-Modified-Since", DATE},
	     "304 -1\nETag: \"" TAG "-13\"\nLast-Modified: " DATE "\n\n"},
	    {"GET", "/static/a.css", {"If-None-Match", "\"x\"", "If-Modified-Since", DATE}, CSS},
	    {"GET", "/static/a.css", {"If-Match", "\"x\""}, PAGE("412", "20", "Precondition Failed")},
	    {"HEAD", "/static/a.css", {"If-Match", "\"x\""}, "412 20\nContent-Type: text/plain\n\n"},
	    {"GET", "/static/gone", {"If-None-Match", "*"}, NOT_FOUND},
	    /* ranges */
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=4-8"},
	     CSS_FIELDS("206 5\n", "text/css; charset=utf-8") "Content-Range: bytes 4-8/19\n\ncolor"},
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=-2"},
	     CSS_FIELDS("206 2\n", "text/css; charset=utf-8") "Content-Range: bytes 17-18/19\n\n}\n"},
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=0-"},
	     CSS_FIELDS("206 19\n", "text/css; charset=utf-8") "Content-Range: bytes 0-18/19\n\na { color: black }\n"},
	    {"HEAD", "/static/a.css", {"Range", "bytes=4-8"}, CSS_200 "\n"},
	    {"GET", "/static/a.css", {"Range", "bytes=0-1, 3-4"}, CSS},
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=19-"},
	     "416 22\nContent-Range: bytes */19\nContent-Type: text/plain\n\nRange Not Satisfiable\n"},
	    {"HEAD", "/static/a.css", {"Range", "bytes=19-"}, CSS_200 "\n"},
	    {"GET",
	     "/static/empty.txt",
	     {"Range", "bytes=0-0"},
	     "416 22\nContent-Range: bytes */0\nContent-Type: text/plain\n\nRange Not Satisfiable\n"},
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=4-8", "If-Range", "\"" TAG "-13\""},
	     CSS_FIELDS("206 5\n", "text/css; charset=utf-8") "Content-Range: bytes 4-8/19\n\ncolor"},
	    {"GET", "/static/a.css", {"Range", "bytes=4-8", "If-Range", "\"old\""}, CSS},
	    {"GET", "/static/a.css", {"Range", "bytes=99-", "If-Range", "\"old\""}, CSS},
	    {"GET",
	     "/static/a.css",
	     {"Range", "bytes=4-8", "If-None-Match", "\"" TAG "-13\""},
	     "304 -1\nETag: \"" TAG "-13\"\nLast-Modified: " DATE "\n\n"},
	};

	/* fresh, from the cache, and without one */
	for (int pass = 0; pass < 4; pass++) {
		struct st_conf c = plain;
		if (pass >= 2)
			c.cache_size = 0;
		struct st_inst *in = inst(&c);
		in->root.walk = pass & 1;
		for (size_t k = 0; k < COUNT(rows) * 2; k++) {
			size_t i = k % COUNT(rows);
			const char *got = ask(in, rows[i].method, rows[i].path, rows[i].fields);
			if (strcmp(got, rows[i].response) != 0)
				fail_msg("pass %d: %s %s: got\n%s\n--- expected\n%s", pass, rows[i].method,
					 rows[i].path, got, rows[i].response);
		}
		assert_int_equal(in->cache.nfds, 0);
		assert_true(pass < 2 || in->cache.bytes == 0);
		assert_non_null(strstr(fake_log, "\"leak\" below"));
		done(in);
	}
}

/* A large file is a slice of a descriptor, and the descriptor is kept. */
static void
test_big(void **state)
{
	struct st_conf c = plain;

	for (int pass = 0; pass < 2; pass++) {
		c.cache_descriptors = pass ? 0 : 1;
		struct st_inst *in = inst(&c);
		for (int k = 0; k < 3; k++) {
			(void)get(in, "/static/big.bin");
			assert_int_equal(last->status, 200);
			assert_int_equal(last->body_n, BIG);
			assert_memory_equal(last->body, big, BIG);
			static const char *const range[] = {"Range", "bytes=50000-59999", NULL};
			(void)ask(in, "GET", "/static/big.bin", range);
			assert_int_equal(last->status, 206);
			assert_int_equal(last->body_n, 10000);
			assert_memory_equal(last->body, big + 50000, 10000);
			assert_int_equal(in->cache.nfds, c.cache_descriptors);
		}
		(void)get(in, "/static/a.css");
		assert_int_equal(in->cache.nfds, c.cache_descriptors);
		done(in);
	}
}

static void
test_fields(void **state)
{
	static const char *const extra[] = {"Access-Control-Allow-Origin", "*", "X-A", "b"};
	struct st_conf c = plain;

	c.expires = "1h";
	c.cache_control = "public, immutable";
	c.add_header = (struct lc_list){extra, COUNT(extra)};
	c.etag = 0;
	c.charset = "off";
	struct st_inst *in = inst(&c);
	for (int k = 0; k < 2; k++) {
		assert_string_equal(get(in, "/static/a.css"),
				    "200 19\nLast-Modified: " DATE
				    "\nCache-Control: max-age=3600, public, immutable\nAccess-Control-Allow-Origin: *\n"
				    "X-A: b\nAccept-Ranges: bytes\nContent-Type: text/css\n\na { color: black }\n");
		static const char *const since[] = {"If-Modified-Since", DATE, NULL};
		assert_string_equal(ask(in, "GET", "/static/a.css", since),
				    "304 -1\nLast-Modified: " DATE "\nCache-Control: max-age=3600, public, immutable\n"
				    "Access-Control-Allow-Origin: *\nX-A: b\n\n");
		/* errors are not to be kept as long */
		assert_string_equal(get(in, "/static/gone"), NOT_FOUND);
	}
	done(in);
	c = plain;
	c.expires = "epoch";
	in = inst(&c);
	(void)get(in, "/static/a.css");
	assert_string_equal(fake_out(last, "cache-control"), "no-cache");
	done(in);
}

static void
test_fallback(void **state)
{
	struct st_conf c = plain;
	struct st_inst *in;

	c.fallback = "on";
	in = inst(&c);
	for (int k = 0; k < 2; k++) {
		assert_string_equal(get(in, "/static/a.css"), CSS);
		assert_string_equal(get(in, "/static/gone"), "declined");
		assert_string_equal(get(in, "/static/fifo"), "declined");
		assert_string_equal(get(in, "/static/../outside"), "declined");
		assert_string_equal(get(in, "/static/empty/"), "declined");
		assert_string_equal(get(in, "/static/empty"), "declined");
		assert_string_equal(ask(in, "POST", "/static/a.css", NULL), "declined");
		assert_string_equal(ask(in, "OPTIONS", "/static/gone", NULL), "declined");
		(void)get(in, "/static/dir");
		assert_int_equal(last->status, 301); /* it has an index file */
		assert_string_equal(get(in, "/static/leak"), FORBIDDEN);
	}
	done(in);
	c.fallback = "/index.html";
	in = inst(&c);
	for (int k = 0; k < 2; k++) {
		assert_non_null(strstr(get(in, "/static/some/page"), "\n\n<h1>top</h1>"));
		assert_int_equal(last->status, 200);
		assert_non_null(strstr(get(in, "/static/empty/"), "\n\n<h1>top</h1>"));
		assert_string_equal(fake_out(last, "content-type"), "text/html; charset=utf-8");
		(void)ask(in, "POST", "/static/some/page", NULL);
		assert_int_equal(last->status, 405);
	}
	done(in);
	c.fallback = "/gone.html";
	in = inst(&c);
	assert_string_equal(get(in, "/static/some/page"), NOT_FOUND);
	done(in);
}

static void
test_prefixes(void **state)
{
	struct st_conf c = plain;
	struct st_inst *in;

	prefix = "/static";
	in = inst(&c);
	assert_string_equal(get(in, "/static/a.css"), CSS);
	assert_non_null(strstr(get(in, "/static/"), "\n\n<h1>top</h1>"));
	assert_non_null(strstr(get(in, "/static"), "\nLocation: /static/\n"));
	/* the prefix is text, and what continues it is no file of the directory */
	assert_string_equal(get(in, "/static../outside"), "declined");
	assert_string_equal(get(in, "/statica.css"), "declined");
	assert_string_equal(ask(in, "POST", "/statica.css", NULL), "declined");
	assert_string_equal(get(in, "/static//outside"), NOT_FOUND);
	done(in);
	c.fallback = "on";
	c.index = (struct lc_list){(const char *const[]){"off"}, 1};
	in = inst(&c);
	assert_string_equal(get(in, "/static"), "declined");
	assert_string_equal(get(in, "/static/"), "declined");
	done(in);
	prefix = "/";
	in = inst(&plain);
	assert_string_equal(get(in, "/a.css"), CSS);
	assert_non_null(strstr(get(in, "/"), "\n\n<h1>top</h1>"));
	/* a name that has to be escaped, so that it can be no other host's or path's */
	assert_non_null(strstr(get(in, "/we ird?#%"), "404"));
	struct lc_match m = {.size = sizeof(m), .path = {"/we ird?#%", 10}, .rest = {"we ird?#%", 9}};
	struct lc_stream *s = fake_stream("GET", "/we%20ird%3f%23%25?q=\xc3\xa4", NULL);
	assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
	assert_string_equal(fake_out(s, "location"), "/we%20ird%3F%23%25/?q=%C3%A4");
	fake_free(s);
	done(in);
	prefix = "/static/";
}

static void
test_dotfiles(void **state)
{
	struct st_conf c = plain;
	struct st_inst *in = inst(&c);

	assert_non_null(strstr(get(in, "/static/.env"), "\n\nsecret"));
	done(in);
	c.dotfiles = 0;
	in = inst(&c);
	assert_string_equal(get(in, "/static/.env"), NOT_FOUND);
	assert_string_equal(get(in, "/static/.git/config"), NOT_FOUND);
	assert_string_equal(get(in, "/static/.git"), NOT_FOUND);
	assert_string_equal(get(in, "/static/dir/.well-known/x"), NOT_FOUND);
	assert_non_null(strstr(get(in, "/static/.well-known/x"), "\n\nknown"));
	assert_string_equal(get(in, "/static/.well-known/.x"), NOT_FOUND);
	done(in);
}

static void
test_links(void **state)
{
	struct st_conf c = plain;
	struct st_inst *in;

	c.symlinks = ST_LINKS_OFF;
	in = inst(&c);
	assert_string_equal(get(in, "/static/link"), FORBIDDEN);
	assert_non_null(strstr(fake_log, "\"link\" below"));
	assert_non_null(strstr(fake_log, "(symlinks off)"));
	done(in);
	c.symlinks = ST_LINKS_FOLLOW;
	in = inst(&c);
	assert_non_null(strstr(get(in, "/static/leak"), "\n\noutside"));
	assert_string_equal(get(in, "/static/../outside"), NOT_FOUND);
	done(in);
}

static void
test_precompressed(void **state)
{
	static const struct {
		const char *accept, *body, *coding, *tag;
	} rows[] = {
	    {NULL, "plain", NULL, "\"" TAG "-5\""},
	    {"gzip", "gzipped", "gzip", "\"" TAG "-7-gzip\""},
	    {"gzip, deflate, br", "brotli", "br", "\"" TAG "-6-br\""},
	    {"gzip, br;q=0.5", "gzipped", "gzip", "\"" TAG "-7-gzip\""},
	    {"*", "brotli", "br", "\"" TAG "-6-br\""},
	    {"br;q=0, *", "gzipped", "gzip", "\"" TAG "-7-gzip\""},
	    {"identity", "plain", NULL, "\"" TAG "-5\""},
	    {"zstd", "plain", NULL, "\"" TAG "-5\""},
	};
	struct st_conf c = plain;

	c.gzip_static = c.brotli_static = 1;
	struct st_inst *in = inst(&c);
	for (size_t k = 0; k < 2 * COUNT(rows); k++) {
		size_t i = k % COUNT(rows);
		const char *fields[] = {rows[i].accept ? "Accept-Encoding" : NULL, rows[i].accept, NULL};
		const char *got = ask(in, "GET", "/static/assets/a.js", fields), *coding;

		assert_int_equal(last->status, 200);
		assert_string_equal(strstr(got, "\n\n") + 2, rows[i].body);
		coding = fake_out(last, "content-encoding");
		assert_true(!coding == !rows[i].coding && (!coding || strcmp(coding, rows[i].coding) == 0));
		assert_string_equal(fake_out(last, "etag"), rows[i].tag);
		assert_string_equal(fake_out(last, "vary"), "Accept-Encoding");
		assert_string_equal(fake_out(last, "content-type"), "text/javascript; charset=utf-8");
	}
	/* a 304 is of the representation that would have been sent, and varies as it does */
	static const char *const both[] = {"Accept-Encoding", "gzip", "If-None-Match", "\"" TAG "-7-gzip\"", NULL};
	assert_string_equal(ask(in, "GET", "/static/assets/a.js", both),
			    "304 -1\nETag: \"" TAG "-7-gzip\"\nLast-Modified: " DATE "\nVary: Accept-Encoding\n\n");
	static const char *const other[] = {"Accept-Encoding", "br", "If-None-Match", "\"" TAG "-7-gzip\"", NULL};
	(void)ask(in, "GET", "/static/assets/a.js", other);
	assert_int_equal(last->status, 200);
	/* nothing to choose from */
	static const char *const gzip[] = {"Accept-Encoding", "gzip", NULL};
	(void)ask(in, "GET", "/static/assets/b.js", gzip);
	assert_null(fake_out(last, "vary"));
	/* one comes, one goes */
	put_file("assets/b.js.gz", "gz");
	assert_int_equal(unlink(at("assets/a.js.gz")), 0);
	now += 2 * SECOND;
	(void)ask(in, "GET", "/static/assets/b.js", gzip);
	assert_string_equal(fake_out(last, "content-encoding"), "gzip");
	(void)ask(in, "GET", "/static/assets/a.js", gzip);
	assert_null(fake_out(last, "content-encoding"));
	assert_int_equal(unlink(at("assets/b.js.gz")), 0);
	put_file("assets/a.js.gz", "gzipped");
	done(in);
	in = inst(&plain);
	(void)ask(in, "GET", "/static/assets/a.js", gzip);
	assert_null(fake_out(last, "content-encoding"));
	assert_null(fake_out(last, "vary"));
	done(in);
}

/* ---- changes ---- */

static void
expect_body(struct st_inst *in, const char *path, const char *body)
{
	const char *got = get(in, path), *b = strstr(got, "\n\n");

	if (!b || strcmp(b + 2, body) != 0)
		fail_msg("%s: got\n%s\n--- expected\n%s", path, got, body);
}

static void
test_changes(void **state)
{
	struct st_inst *in;

	put_file("c.txt", "one");
	in = inst(&plain);
	expect_body(in, "/static/c.txt", "one");
	expect_body(in, "/static/new.txt", "Not Found\n");

	/* another file in its place: seen after cache_valid, not before */
	put_file("c.tmp", "two");
	set_time("c.tmp", 1);
	assert_int_equal(rename(at("c.tmp"), at("c.txt")), 0);
	put_file("new.txt", "new");
	expect_body(in, "/static/c.txt", "one");
	expect_body(in, "/static/new.txt", "Not Found\n");
	now += SECOND;
	expect_body(in, "/static/c.txt", "one");
	now += 1;
	expect_body(in, "/static/c.txt", "two");
	expect_body(in, "/static/new.txt", "new");

	/* in place; with the old time put back, the time of the change of status shows it */
	put_file("c.txt", "six");
	set_time("c.txt", 1);
	now += 2 * SECOND;
	expect_body(in, "/static/c.txt", "six");

	/* gone, and a directory */
	assert_int_equal(unlink(at("c.txt")), 0);
	assert_int_equal(unlink(at("new.txt")), 0);
	assert_int_equal(mkdir(at("new.txt"), 0755), 0);
	now += 2 * SECOND;
	expect_body(in, "/static/c.txt", "Not Found\n");
	expect_body(in, "/static/new.txt", "Moved Permanently\n");
	assert_int_equal(rmdir(at("new.txt")), 0);
	done(in);

	/* the same for what is open: the stamp is looked at each time, as the file that is sent is the one that is
	 * there */
	struct st_conf c = plain;
	c.cache_max_file_size = 0;
	put_file("c.txt", "one");
	in = inst(&c);
	expect_body(in, "/static/c.txt", "one");
	assert_int_equal(in->cache.nfds, 1);
	put_file("c.txt", "longer");
	expect_body(in, "/static/c.txt", "longer");
	/* a response that is under way keeps its file when another takes its place */
	struct lc_stream *s = fake_stream("GET", "/static/c.txt", NULL);
	const struct lc_match m = {.size = sizeof(m), .path = {"/static/c.txt", 13}, .rest = {"c.txt", 5}};
	assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
	put_file("c.tmp", "short");
	assert_int_equal(rename(at("c.tmp"), at("c.txt")), 0);
	now += 2 * SECOND;
	expect_body(in, "/static/c.txt", "short");
	st_inst_free(in);
	in = NULL;
	fake_flush(s);
	assert_string_equal(s->body, "longer");
	fake_free(s);
	assert_int_equal(unlink(at("c.txt")), 0);
	fake_free(last);
	last = NULL;
}

/* What has just changed may change again without a trace: weak validators, no trust in an equal stamp. */
static void
test_young(void **state)
{
	struct timespec t[2] = {{0, 0}, {0, 0}};
	struct st_inst *in;
	struct stat st;

	later = 0;
	put_file("y.txt", "one");
	(void)clock_gettime(CLOCK_REALTIME, &t[1]);
	t[0] = t[1];
	assert_int_equal(utimensat(AT_FDCWD, at("y.txt"), t, 0), 0);
	in = inst(&plain);
	expect_body(in, "/static/y.txt", "one");
	assert_memory_equal(fake_out(last, "etag"), "W/\"", 3);
	static const char *const range[] = {"Range", "bytes=0-0", "If-Range", DATE, NULL};
	(void)ask(in, "GET", "/static/y.txt", range);
	assert_int_equal(last->status, 200);
	/* as if the clock of the file system had not ticked between two changes */
	assert_int_equal(stat(at("y.txt"), &st), 0);
	int fd = open(at("y.txt"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "two", 3, 0), 3);
	close(fd);
	struct st_entry *e = st_cache_get(&in->cache, st_hash(&in->cache, "y.txt", 5), "y.txt", 5);
	assert_non_null(e);
	assert_int_equal(stat(at("y.txt"), &st), 0);
	e->rep[ST_PLAIN]->stamp.mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	e->rep[ST_PLAIN]->stamp.ctime = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	now += 2 * SECOND;
	expect_body(in, "/static/y.txt", "two");
	/* settled: strong from then on */
	later = 3600;
	now += 2 * SECOND;
	expect_body(in, "/static/y.txt", "two");
	assert_int_equal(fake_out(last, "etag")[0], '"');
	/* a time to come is not told */
	t[0].tv_sec = t[1].tv_sec += 100000;
	assert_int_equal(utimensat(AT_FDCWD, at("y.txt"), t, 0), 0);
	now += 2 * SECOND;
	expect_body(in, "/static/y.txt", "two");
	char date[30] = "";
	(void)st_test_clock_gettime(CLOCK_REALTIME, &t[0]);
	st_date_put(date, t[0].tv_sec);
	if (strcmp(fake_out(last, "last-modified"), date) != 0) { /* the second has just turned */
		st_date_put(date, t[0].tv_sec - 1);
		assert_string_equal(fake_out(last, "last-modified"), date);
	}
	done(in);
	assert_int_equal(unlink(at("y.txt")), 0);
}

/* ---- limits ---- */

static void
test_bounds(void **state)
{
	struct st_conf c = plain;
	char name[64];

	c.cache_size = 20000;
	c.cache_max_file_size = 1000;
	c.cache_descriptors = 3;
	for (int k = 0; k < 60; k++) {
		snprintf(name, sizeof(name), "small%d", k);
		put_bytes(name, big, 900);
		snprintf(name, sizeof(name), "large%d", k);
		put_bytes(name, big, 1001);
	}
	struct st_inst *in = inst(&c);
	for (int round = 0; round < 3; round++)
		for (int k = 0; k < 60; k++) {
			snprintf(name, sizeof(name), "/static/small%d", k);
			(void)get(in, name);
			assert_int_equal(last->body_n, 900);
			snprintf(name, sizeof(name), "/static/large%d", k);
			(void)get(in, name);
			assert_int_equal(last->body_n, 1001);
			assert_true(in->cache.bytes <= 20000);
			assert_true(in->cache.nfds <= 3);
			assert_true(in->cache.n >= 3 || k < 2);
			/* what is used most stays */
			(void)get(in, "/static/a.css");
			assert_non_null(st_cache_get(&in->cache, st_hash(&in->cache, "a.css", 5), "a.css", 5));
		}
	/* absences: as many as there are places, whatever is asked for */
	for (int k = 0; k < 2000; k++) {
		snprintf(name, sizeof(name), "/static/gone%d", k);
		assert_string_equal(get(in, name), NOT_FOUND);
	}
	assert_true(in->cache.bytes <= 20000);
	done(in);
	/* a hash table that has to grow */
	c.cache_size = 16 << 20;
	c.cache_descriptors = 1000;
	in = inst(&c);
	for (int round = 0; round < 2; round++)
		for (int k = 0; k < 60; k++) {
			snprintf(name, sizeof(name), "/static/small%d", k);
			(void)get(in, name);
			snprintf(name, sizeof(name), "/static/large%d", k);
			(void)get(in, name);
		}
	assert_int_equal(in->cache.n, 120);
	assert_int_equal(in->cache.nfds, 60);
	assert_true(in->cache.nbuckets > 64);
	assert_int_equal(st_cache_drop_fds(&in->cache), 60);
	assert_int_equal(in->cache.n, 60);
	done(in);
	for (int k = 0; k < 60; k++) {
		snprintf(name, sizeof(name), "small%d", k);
		assert_int_equal(unlink(at(name)), 0);
		snprintf(name, sizeof(name), "large%d", k);
		assert_int_equal(unlink(at(name)), 0);
	}
}

static void
test_long_paths(void **state)
{
	static char path[PATH_MAX * 2 + 16];
	struct st_inst *in = inst(&plain);

	strcpy(path, "/static/");
	for (size_t n = 8; n < PATH_MAX * 2; n += n < 300 ? 1 : 97) {
		memset(path + 8, 'x', n - 8);
		path[n] = '\0';
		if (n > 8)
			assert_string_equal(get(in, path), NOT_FOUND);
		path[n] = '/';
		path[n + 1] = '\0';
		if (n > 8)
			assert_string_equal(get(in, path), NOT_FOUND);
	}
	/* NUL cannot come; it would not cut the name if it did */
	const struct lc_match m = {.size = sizeof(m), .path = {"/static/a.css\0x", 15}, .rest = {"a.css\0x", 7}};
	struct lc_stream *s = fake_stream("GET", "/static/a.css", NULL);
	assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
	assert_int_equal(s->status, 404);
	fake_free(s);
	done(in);
}

/* What the worker's user may not read is there all the same. */
static void
test_permission(void **state)
{
	struct st_conf c = plain;
	uid_t me = geteuid();
	struct st_inst *in;

	put_file("closed.txt", "closed");
	assert_int_equal(chmod(at("closed.txt"), 0), 0);
	assert_int_equal(mkdir(at("closed"), 0), 0);
	assert_int_equal(chmod(at("dir"), 0711), 0);
	assert_int_equal(mkdir(at("../locked"), 0600), 0);
	if (me == 0) /* who may read everything */
		assert_int_equal(seteuid(65534), 0);
	/* a root that cannot be entered is no root */
	const struct lc_route route = {.size = sizeof(route), .prefix = {prefix, strlen(prefix)}};
	char locked[PATH_MAX];
	void *h = NULL;
	snprintf(locked, sizeof(locked), "%s/locked", top);
	c.root = locked;
	assert_int_equal(st_inst_make(NULL, &api, &route, &c, &h), -EACCES);
	c.root = root;
	for (int walk = 0; walk < 2; walk++) {
		c.fallback = walk ? "on" : "off";
		in = inst(&c);
		in->root.walk = (uint8_t)walk;
		assert_string_equal(get(in, "/static/closed.txt"), FORBIDDEN);
		assert_non_null(strstr(fake_log, "\"closed.txt\" below"));
		assert_non_null(strstr(fake_log, "Permission denied"));
		assert_string_equal(get(in, "/static/closed/x"), FORBIDDEN);
		/* a directory that can be entered and not listed */
		(void)get(in, "/static/dir");
		assert_int_equal(last->status, 301);
		(void)get(in, "/static/dir/");
		assert_int_equal(last->status, 200);
		done(in);
	}
	assert_int_equal(seteuid(me), 0);
	assert_int_equal(chmod(at("dir"), 0755), 0);
	assert_int_equal(rmdir(at("closed")), 0);
	assert_int_equal(rmdir(at("../locked")), 0);
	assert_int_equal(unlink(at("closed.txt")), 0);
}

/* No descriptors: those that are kept are given up, then 503, and all is well again afterwards. */
static void
test_no_descriptors(void **state)
{
	struct rlimit before, low;
	struct st_inst *in = inst(&plain);
	int next = dup(0);

	close(next);
	(void)get(in, "/static/big.bin");
	assert_int_equal(in->cache.nfds, 1);
	fake_free(last); /* only the cache holds it now */
	last = NULL;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = (rlim_t)next + 1; /* big.bin has the last one */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_true(dup(0) < 0);
	const char *given = get(in, "/static/a.css");
	assert_string_equal(given, CSS);
	assert_int_equal(in->cache.nfds, 0);
	int one = dup(0);
	assert_int_equal(one, next);
	given = get(in, "/static/none");
	assert_string_equal(given, UNAVAILABLE);
	assert_string_equal(get(in, "/static/none"), UNAVAILABLE);
	assert_non_null(strstr(fake_log, "Too many open files"));
	assert_null(strstr(strstr(fake_log, "Too many open files") + 1, "Too many open files")); /* once a second */
	assert_string_equal(get(in, "/static/a.css"), CSS);                                      /* it is in memory */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	close(one);
	(void)get(in, "/static/none");
	assert_int_equal(last->status, 200);
	done(in);
}

static void
test_no_memory(void **state)
{
	const struct lc_route route = {.size = sizeof(route), .prefix = {prefix, strlen(prefix)}};
	struct st_conf c = plain;
	int made = 0, served = 0;
	void *h;

	c.expires = "1h";
	c.gzip_static = 1;
	for (int k = 0; !made; k++) {
		fail_at = k;
		h = NULL;
		made = st_inst_make(NULL, &api, &route, &c, &h) == 0;
		fail_at = -1;
		assert_int_equal(made, h != NULL);
		st_inst_free(h);
		assert_true(k < 500);
	}
	static const char *const paths[] = {"/static/assets/a.js", "/static/big.bin", "/static/", "/static/gone"};
	for (size_t p = 0; p < COUNT(paths); p++)
		for (int k = 0, whole = 0; !whole; k++) {
			struct st_inst *in = inst(&c);
			struct lc_match m = {.size = sizeof(m), .path = {paths[p], strlen(paths[p])}};
			m.rest = (struct lc_str){paths[p] + 8, m.path.n - 8};
			struct lc_stream *s = fake_stream("GET", paths[p], NULL);
			fail_at = k;
			assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
			whole = fail_at >= 0;
			fail_at = -1;
			assert_int_equal(s->releases, 1);
			assert_true(s->status == 503 || s->status == (p == 3 ? 404 : 200));
			assert_true(!whole || s->status != 503);
			fake_free(s);
			/* what failed is not remembered */
			(void)get(in, paths[p]);
			assert_int_equal(last->status, p == 3 ? 404 : 200);
			served++;
			done(in);
			assert_true(k < 50);
		}
	assert_true(served > 8);
}

/* Whatever the stream says, its reference is given back once and every slice is released. */
static void
test_gone_clients(void **state)
{
	struct st_inst *in = inst(&plain);
	const struct lc_match m = {.size = sizeof(m), .path = {"/static/a.css", 13}, .rest = {"a.css", 5}};
	struct lc_stream *s = fake_stream("GET", "/static/a.css", NULL);

	s->aborted = 1;
	assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
	assert_int_equal(s->releases, 1);
	fake_free(s);
	s = fake_stream("GET", "/static/a.css", NULL);
	s->narena = 256; /* its arena is at its limit */
	assert_int_equal(st_request(in, s, &m), LC_H_TAKEN);
	assert_int_equal(s->releases, 1);
	assert_int_equal(s->status, 503);
	s->narena = 0;
	fake_free(s);
	struct st_entry *e = st_cache_get(&in->cache, st_hash(&in->cache, "a.css", 5), "a.css", 5);
	assert_int_equal(e->rep[ST_PLAIN]->file->refs, 1);
	done(in);
}

/* A head that comes again has a number, and it is another's after a change. */
static void
test_memos(void **state)
{
	static const char *const since[] = {"If-Modified-Since", DATE, NULL}, *const range[] = {"Range", "bytes=0-0",
												NULL};
	struct st_inst *in = inst(&plain);
	uint64_t full, none;

	(void)get(in, "/static/a.css");
	assert_true(last->memo == 0);
	for (int k = 0; k < 20; k++)
		(void)get(in, "/static/a.css");
	full = last->memo;
	assert_true(full != 0);
	(void)ask(in, "HEAD", "/static/a.css", NULL);
	assert_true(last->memo == full);
	for (int k = 0; k < 20; k++)
		(void)ask(in, "GET", "/static/a.css", since);
	none = last->memo;
	assert_true(none != 0 && none != full);
	(void)ask(in, "GET", "/static/a.css", range);
	assert_true(last->memo == 0);
	set_time("a.css", 1);
	now += 2 * SECOND;
	for (int k = 0; k < 20; k++)
		(void)get(in, "/static/a.css");
	assert_true(last->memo != 0 && last->memo != full && last->memo != none);
	set_time("a.css", 0);
	/* no more than 32 in a process */
	for (int round = 0; round < 60; round++) {
		now += 2 * SECOND;
		set_time("a.css", round);
		for (int k = 0; k < 20; k++)
			(void)get(in, "/static/a.css");
	}
	assert_true(last->memo == 0);
	set_time("a.css", 0);
	done(in);
}

/* ---- check() and open() ---- */

static char complaints[4096];

static void LC_PRINTF(3, 4) complain(struct lc_err *err, const char *directive, const char *fmt, ...)
{
	size_t n = strlen(complaints);
	va_list ap;

	va_start(ap, fmt);
	n += (size_t)snprintf(complaints + n, sizeof(complaints) - n, "%s: ", directive);
	n += (size_t)vsnprintf(complaints + n, sizeof(complaints) - n, fmt, ap);
	(void)snprintf(complaints + n, sizeof(complaints) - n, "\n");
	va_end(ap);
}

static const void *
host_get(const char *name, uint32_t version, size_t min_size)
{
	static const struct lc_config_api table = {.size = sizeof(table), .error = complain};

	return strcmp(name, "config") == 0 && version == 1 && min_size <= sizeof(table) ? &table : NULL;
}

const struct lc_module *lc_module_query(const struct lc_host *);

static const char *
check(const struct st_conf *c)
{
	static const struct lc_host host = {.size = sizeof(host), .get = host_get};
	const struct lc_module *m = lc_module_query(&host);

	complaints[0] = '\0';
	assert_int_equal(m->load(&host), 0);
	assert_int_equal(m->check(c, NULL), 0);
	return complaints;
}

static void
test_check(void **state)
{
	struct st_conf c = plain;
	const char *list[2];

	assert_string_equal(check(&c), "");
#define BAD(member, value, directive) \
	(c = plain, c.member = (value), assert_memory_equal(check(&c), directive ": \"", sizeof(directive) + 2))
	BAD(expires, "soon", "expires");
	BAD(charset, "", "charset");
	BAD(charset, "utf 8", "charset");
	BAD(default_type, "text", "default_type");
	BAD(default_type, "text/", "default_type");
	BAD(default_type, "text/a\r\nb", "default_type");
	BAD(fallback, "maybe", "fallback");
	BAD(fallback, "/", "fallback");
	BAD(fallback, "/../x", "fallback");
	BAD(fallback, "//x", "fallback");
	static const char *const names[] = {"", "/x", "../x", "a/../b", "a//b", "."};
	for (size_t k = 0; k < COUNT(names); k++)
		BAD(index, ((struct lc_list){&names[k], 1}), "index");
	static const char *const pairs[][2] = {
	    {"text", "x"}, {"text/x", ""}, {"text/x", "."}, {"text/x", "a/b"}, {"text/x", "a.b"}};
	for (size_t k = 0; k < COUNT(pairs); k++)
		BAD(types, ((struct lc_list){pairs[k], 2}), "types");
	static const char *const headers[][2] = {{"Content-Length", "1"}, {"a b", "1"}, {"etag", "x"}, {"", "x"}};
	for (size_t k = 0; k < COUNT(headers); k++)
		BAD(add_header, ((struct lc_list){headers[k], 2}), "add_header");
	list[0] = "X-A";
	list[1] = "a\r\nb: c";
	c = plain;
	c.add_header = (struct lc_list){list, 2};
	assert_string_equal(check(&c), "add_header: control characters in the value of X-A\n");
	c = plain;
	c.cache_control = "a\nb";
	assert_non_null(strstr(check(&c), "cache_control: control characters"));

	void *h = NULL;
	const struct lc_route route = {.size = sizeof(route), .prefix = {prefix, strlen(prefix)}};
	c = plain;
	c.root = "/dev/null";
	assert_string_equal(check(&c), "root: \"/dev/null\" is no directory, expected one that is there\n");
	c.root = "/nowhere/at/all";
	assert_string_equal(check(&c), "root: \"/nowhere/at/all\" is no directory, expected one that is there\n");
	assert_int_equal(st_inst_make(NULL, &api, &route, &c, &h), -ENOENT);
	assert_null(h);
	assert_string_equal(fake_boot, "root /nowhere/at/all cannot be opened: No such file or directory");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_responses),  cmocka_unit_test(test_big),
	    cmocka_unit_test(test_fields),     cmocka_unit_test(test_fallback),
	    cmocka_unit_test(test_prefixes),   cmocka_unit_test(test_dotfiles),
	    cmocka_unit_test(test_links),      cmocka_unit_test(test_precompressed),
	    cmocka_unit_test(test_changes),    cmocka_unit_test(test_young),
	    cmocka_unit_test(test_bounds),     cmocka_unit_test(test_long_paths),
	    cmocka_unit_test(test_permission), cmocka_unit_test(test_no_descriptors),
	    cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_gone_clients),
	    cmocka_unit_test(test_memos),      cmocka_unit_test(test_check),
	};
	return cmocka_run_group_tests_name("static", tests, make_tree, remove_tree);
}
