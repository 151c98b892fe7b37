/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/bench/micro_wsgi.c - the Python side of a call alone: environ, application, response head; no loop, no protocol.
 *
 *	build/workers/python/micro_wsgi [hello|browser|page] [calls]
 *	valgrind --tool=callgrind --toggle-collect=lcpy_call build/workers/python/micro_wsgi hello 20000
 *
 * The host is as small as can be, so callgrind's count divided by the calls is what workers/python costs, the
 * application's own bytecode included.  hello: one Host header.  browser: eight headers, of which cookie and query
 * change with each call.  page: the same through a generator and with headers that are made anew.
 */
#include "lcpy.h"

#include <stdio.h>
#include <time.h>

struct lc_stream {
	struct lc_req req;
	size_t used;
	uint64_t bytes;
	uint8_t arena[8192] __attribute__((aligned(16)));
};

static struct lc_stream one;
static uint64_t answered;

static const struct lc_req *
s_req(struct lc_stream *s)
{
	return &s->req;
}

static uint64_t
s_avail(struct lc_stream *s, int *fin)
{
	*fin = 1;
	return 0;
}

static int
s_respond(struct lc_stream *s, const struct lc_head *h)
{
	answered += h->status == 200;
	return 0;
}

static int
s_write(struct lc_stream *s, const struct lc_slice *v, uint32_t n, uint32_t flags)
{
	s->bytes += v[0].n;
	return 0;
}

static int
s_finish(struct lc_stream *s, const struct lc_field *f, uint32_t n)
{
	return 0;
}

static void *
s_alloc(struct lc_stream *s, size_t n)
{
	void *p = s->arena + s->used;

	s->used += (n + 15) & ~(size_t)15;
	return s->used <= sizeof(s->arena) ? p : NULL;
}

static void
s_release(struct lc_stream *s)
{
	s->used = 0;
}

static const struct lc_stream_api table = {.size = sizeof(table),
					   .req = s_req,
					   .avail = s_avail,
					   .respond = s_respond,
					   .write = s_write,
					   .finish = s_finish,
					   .alloc = s_alloc,
					   .release = s_release};

static uint16_t
token(const char *name, size_t n)
{
	return n == 12 ? LC_TOK_CONTENT_TYPE : n == 14 ? LC_TOK_CONTENT_LENGTH : 0;
}

static void
boot_error(struct lc_wctx *x, const char *text, size_t n)
{
	(void)fprintf(stderr, "%.*s\n", (int)n, text);
}

static void LC_PRINTF(3, 4) do_log(struct lc_wctx *x, int level, const char *fmt, ...)
{
}

static const struct lc_worker_api api = {
    .size = sizeof(api), .stream = &table, .token = token, .boot_error = boot_error, .log = do_log};

#define STR(s) ((struct lc_str){s, sizeof(s) - 1})
#define FIELD(n, v, t)                                                                       \
	{                                                                                    \
		.name = {n, sizeof(n) - 1}, .value = {v, sizeof(v) - 1}, .token = LC_TOK_##t \
	}

int
main(int argc, char **argv)
{
	static const char *const path[] = {LCPY_BENCH_DIR};
	static struct lc_field fields[] = {
	    FIELD("host", "127.0.0.1:8000", HOST),
	    FIELD("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", USER_AGENT),
	    FIELD("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ACCEPT),
	    FIELD("accept-language", "en-US,en;q=0.5", ACCEPT_LANGUAGE),
	    FIELD("accept-encoding", "gzip, deflate, br, zstd", ACCEPT_ENCODING),
	    FIELD("referer", "http://127.0.0.1:8000/page", REFERER),
	    FIELD("cookie", "session=0123456789", COOKIE),
	    FIELD("upgrade-insecure-requests", "1", UPGRADE_INSECURE_REQUESTS),
	};
	const char *what = argc > 1 ? argv[1] : "hello";
	uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000000;
	int hello = strcmp(what, "hello") == 0, page = strcmp(what, "page") == 0;
	const struct lcpy_conf conf = {.app = page ? "micro_app:page" : "micro_app:hello", .pythonpath = {path, 1}};
	const struct lcpy_facts facts = {1, 1};
	char target[32] = "/", cookie[32];
	struct timespec a, b;

	if (lcpy_load(NULL) < 0 || lcpy_init(NULL, &api, &conf, &facts) < 0)
		return 1;
	one.req = (struct lc_req){.size = sizeof(one.req),
				  .version = 0x0101,
				  .method = STR("GET"),
				  .protocol = STR("HTTP/1.1"),
				  .scheme = STR("http"),
				  .authority = STR("127.0.0.1:8000"),
				  .peer = STR("127.0.0.1"),
				  .local = STR("127.0.0.1"),
				  .local_port = 8000,
				  .fields = fields,
				  .nfields = hello ? 1 : 8};
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	for (uint32_t i = 0; i < n; i++) {
		size_t k = 1;

		if (!hello) {
			k = (size_t)snprintf(target, sizeof(target), "/?q=%u", i);
			fields[6].value =
			    (struct lc_str){cookie, (size_t)snprintf(cookie, sizeof(cookie), "session=%010u", i)};
			one.req.query = (struct lc_str){target + 2, k - 2};
		}
		one.req.target = (struct lc_str){target, k};
		one.req.path = (struct lc_str){target, 1};
		one.req.peer_port = (uint16_t)(40000 + i % 64); /* 64 connections */
		lcpy_call(&one, 0);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	(void)printf("%s: %u calls, %.0f ns each\n", what, n,
		     ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / n);
	lcpy_fini();
	return answered == n ? 0 : 1;
}
