/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_http1.c - the http1 module over http1_fake.c.
 *
 * Every file of the corpus has a row here with the statuses that it must bring, is replayed whole, byte by byte and at
 * random cuts under several output budgets, and with each allocation failing in turn.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http1/http1.h"
#include "http1_fake.h"

#define OPEN 0
#define NOW (LC_CLOSE_NOW + 1)
#define FLUSH (LC_CLOSE_FLUSH + 1)
#define LINGER (LC_CLOSE_LINGER + 1)

#define H "Host: a\r\n"
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define COMMON "Server: licorne\r\n" DATE
#define HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 6\r\n\r\nhello\n"

/* Feed a text, expect this output and state. */
static void
expect_conf(const struct h1_conf *conf, const char *in, const char *out, int closed)
{
	struct fake *f = fake_open(conf, NULL);

	assert_non_null(f);
	fake_feed(f, in, strlen(in));
	assert_string_equal(f->out.p, out);
	assert_int_equal(f->closed, closed);
	assert_null(f->broken);
	fake_free(f);
}

static void
expect(const char *in, const char *out, int closed)
{
	expect_conf(NULL, in, out, closed);
}

static void
refused_conf(const struct h1_conf *conf, const char *in, size_t n, int status)
{
	struct fake *f = fake_open(conf, NULL);

	assert_non_null(f);
	fake_feed(f, in, n);
	if (f->out.n < 12 || atoi(f->out.p + 9) != status)
		fail_msg("%.60s: got %.12s, expected %d", in, f->out.p, status);
	assert_non_null(strstr(f->out.p, "\r\nConnection: close\r\n"));
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);
}

/* ---- the corpus ---- */

static const struct row {
	const char *file, *statuses;
	int closed;
} rows[] = {
#include "http1_corpus.h"
};

static char *
load(const char *name, size_t *ret_n)
{
	char path[1024];
	static char buf[1 << 18];

	snprintf(path, sizeof(path), "%s/%s", CORPUS, name);
	FILE *f = fopen(path, "rb");
	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	*ret_n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	return buf;
}

static void
statuses(const struct fake *f, char *to, size_t n)
{
	size_t used = 0;

	to[0] = 0;
	for (const char *p = f->out.p; (p = strstr(p, "HTTP/1.1 ")); p += 9)
		used += (size_t)snprintf(to + used, n - used, "%s%.3s", used ? " " : "", p + 9);
}

static void
test_corpus(void **state)
{
	int files = 0;
	DIR *d = opendir(CORPUS);
	struct dirent *e;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)))
		files += e->d_name[0] != '.';
	closedir(d);
	assert_int_equal(files, sizeof(rows) / sizeof(rows[0]));
	int wrong = 0;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		size_t n;
		char *data = load(rows[k].file, &n), got[256];
		struct fake *f = fake_open(NULL, NULL);
		fake_feed(f, data, n);
		statuses(f, got, sizeof(got));
		if (strcmp(got, rows[k].statuses) != 0 || f->closed != rows[k].closed || f->broken)
			print_error("%s: statuses %s, expected %s; closed %d, expected %d; %s\n", rows[k].file, got,
				    rows[k].statuses, f->closed, rows[k].closed, f->broken ? f->broken : ""),
			    wrong++;
		fake_free(f);
	}
	assert_int_equal(wrong, 0);
}

/* Whether 100 (Continue) is sent depends on the cut by right. */
static void
drop_continue(struct fake_buf *b)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	char *at = b->n ? strstr(b->p, text) : NULL;

	if (at)
		memmove(at, at + strlen(text), strlen(at + strlen(text)) + 1);
}

static void
replay(const struct row *r, const struct fake *whole, const char *data, size_t n, uint64_t seed, size_t budget)
{
	struct fake_opts o = {.budget = budget};
	struct fake *f = fake_open(NULL, &o);
	uint64_t x = seed;

	for (size_t off = 0; off < n && !f->closed;) {
		size_t k = 1;
		if (seed) {
			x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
			k = 1 + (x >> 33) % (seed % 3 == 0 ? 7 : seed % 3 == 1 ? 40 : n);
			k = k < n - off ? k : n - off;
		}
		fake_feed(f, data + off, k);
		off += k;
	}
	drop_continue(&f->out);
	if (f->broken || strcmp(f->events.p, whole->events.p) != 0 || strcmp(f->out.p, whole->out.p) != 0 ||
	    strcmp(f->log.p, whole->log.p) != 0 || f->closed != whole->closed)
		fail_msg("%s, seed %llu, budget %zu: %s\n-- whole\n%s%s%s\n-- cut\n%s%s%s", r->file,
			 (unsigned long long)seed, budget, f->broken ? f->broken : "differs", whole->events.p,
			 whole->log.p, whole->out.p, f->events.p, f->log.p, f->out.p);
	fake_free(f);
}

static void
test_splits(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		size_t n;
		char *data = load(rows[k].file, &n);
		struct fake *whole = fake_open(NULL, NULL);
		fake_feed(whole, data, n);
		drop_continue(&whole->out);
		replay(&rows[k], whole, data, n, 0, 0);
		if (whole->out.n < 100000) {
			replay(&rows[k], whole, data, n, 0, 1);
			replay(&rows[k], whole, data, n, 2, 13);
		}
		for (uint64_t seed = 1; seed <= 200; seed++)
			replay(&rows[k], whole, data, n, seed, seed % 4 == 0 ? 100 + seed : 0);
		fake_free(whole);
	}
}

static void
test_allocations(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		size_t n;
		char *data = load(rows[k].file, &n);
		if (n > 20000)
			continue;
		for (int whole = 0; whole <= 1; whole++)
			for (int at = 1;; at++) {
				struct fake_opts o = {.fail_at = at, .budget = at % 2 ? 0 : 50};
				struct fake *f = fake_open(NULL, &o);
				if (!f) {
					assert_int_equal(at, 1);
					continue;
				}
				for (size_t off = 0; off < n && !f->closed; off += whole ? n : 1)
					fake_feed(f, data + off, whole ? n : 1);
				int struck = f->allocs >= at;
				if (f->broken)
					fail_msg("%s, allocation %d: %s", rows[k].file, at, f->broken);
				fake_eof(f);
				fake_free(f);
				if (!struck)
					break;
			}
	}
}

/* ---- what goes out ---- */

static void
test_framing(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\r\n" H "\r\n", HELLO, OPEN);
	expect("GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n", HELLO HELLO, OPEN);
	expect("GET /chunked HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Transfer-Encoding: chunked\r\n\r\n"
	       "6\r\nfirst \r\nd\r\nsecond piece \r\n4\r\nlast\r\n0\r\n\r\n",
	       OPEN);
	expect("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
	       "Connection: close\r\n\r\nfirst second piece last",
	       LINGER);
	expect("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
	       "Content-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n",
	       OPEN);
	expect("GET /trailers HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Transfer-Encoding: chunked\r\n\r\n"
	       "6\r\nfirst \r\nd\r\nsecond piece \r\n0\r\nX-Sum: 42\r\nX-More: a b\r\n\r\n",
	       OPEN);
	expect("GET /known HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 5\r\n\r\nwhole", OPEN);
	expect("GET /empty HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 200 OK\r\n" COMMON "Content-Length: 0\r\n\r\n", OPEN);
	expect("HEAD / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 6\r\n\r\n" HELLO, OPEN);
	expect("HEAD /chunked HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "\r\n",
	       OPEN);
	expect("GET /204 HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 204 No Content\r\n" COMMON "\r\n", OPEN);
	expect("GET /204-body HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n" COMMON "\r\n" HELLO, OPEN);
	expect("GET /304 HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 304 Not Modified\r\n" COMMON "\r\n", OPEN);
	expect("GET /205 HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 205 Reset Content\r\n" COMMON "Content-Length: 0\r\n\r\n",
	       OPEN);
	expect("GET /long HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 5\r\n\r\n01234" HELLO, OPEN);
	expect("GET /short HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 10\r\n\r\n01234", FLUSH);
	expect("GET /hint HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" HELLO, OPEN);
	expect("GET /own HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 299 As I like it\r\nserver: mine\r\nDATE: now\r\nContent-Length: 2\r\n\r\nok", OPEN);
	expect("GET /hop HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nX-Kept: yes\r\n" COMMON "Content-Length: 2\r\nConnection: close\r\n\r\nok", LINGER);
	expect("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
	       "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n",
	       FLUSH);
	expect("GET /crlf HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 500 Internal Server Error\r\n" COMMON
	       "Content-Type: text/plain\r\nContent-Length: 22\r\nConnection: close\r\n\r\nInternal Server Error\n",
	       LINGER);
	expect("GET /reset-mid HTTP/1.1\r\n" H "\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Transfer-Encoding: chunked\r\n\r\n"
	       "6\r\nfirst \r\n",
	       FLUSH);
	/* told and given up before it was rendered: it has begun all the same */
	expect("GET / HTTP/1.1\r\n" H "\r\nGET /reset-head HTTP/1.1\r\n" H "\r\n", HELLO, FLUSH);
	expect("GET /reset-head HTTP/1.0\r\n\r\n", "", FLUSH);
	/* absolute-form without a path */
	expect("GET http://a HTTP/1.1\r\n" H "\r\nGET http://a/?0123456789abc HTTP/1.1\r\n" H "\r\n", HELLO HELLO,
	       OPEN);
}

static void
test_server_header(void **state)
{
	struct h1_conf conf;

	(void)state;
	fake_defaults(&conf);
	conf.server_header = 0;
	expect_conf(&conf, "GET / HTTP/1.1\r\n" H "\r\n",
		    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" DATE "Content-Length: 6\r\n\r\nhello\n", OPEN);
}

/* What is kept of heads changes nothing: each once rendered and kept, once from what was kept. */
static void
test_memo(void **state)
{
	struct h1_conf conf;

	fake_memo = FAKE_MEMO_TRUE;
	for (int k = 0; k < 2; k++) {
		test_framing(state);
		test_server_header(state);
		expect("HEAD /own HTTP/1.0\r\n\r\n",
		       "HTTP/1.1 299 As I like it\r\nserver: mine\r\nDATE: now\r\nContent-Length: 2\r\n"
		       "Connection: close\r\n\r\n",
		       FLUSH);
	}
	/* it is there: who lies about his head's number gets the other's head; but not its length */
	fake_memo = 1000;
	expect("GET /hop HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	       "HTTP/1.1 200 OK\r\nX-Kept: yes\r\n" COMMON "Content-Length: 2\r\nConnection: close\r\n\r\nok", LINGER);
	fake_defaults(&conf);
	conf.server_header = 0;
	expect_conf(&conf, "GET / HTTP/1.1\r\n" H "\r\n",
		    "HTTP/1.1 200 OK\r\nX-Kept: yes\r\n" DATE "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n",
		    LINGER);
	/* another number of the same place is neither kept nor mistaken for it */
	fake_memo = 1064;
	for (int k = 0; k < 2; k++)
		expect("GET / HTTP/1.1\r\n" H "\r\n", HELLO, OPEN);
	/* a head that is refused is not kept */
	fake_memo = 1001;
	for (int k = 0; k < 2; k++) {
		struct fake *f = fake_open(NULL, NULL);
		fake_feed(f, "GET /crlf HTTP/1.1\r\n" H "\r\n", strlen("GET /crlf HTTP/1.1\r\n" H "\r\n"));
		assert_memory_equal(f->out.p, "HTTP/1.1 500 ", 13);
		fake_free(f);
	}
	fake_memo = 0;
}

static void
test_refusal_text(void **state)
{
	static const char in[] = "HEAD / HTTP/1.1\r\nHost : a\r\n\r\n";

	(void)state;
	expect("GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n\r\n",
	       HELLO "HTTP/1.1 400 Bad Request\r\n" COMMON
		     "Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\nBad Request\n",
	       LINGER);
	/* no content in answer to HEAD, even where the head is at fault */
	expect(in,
	       "HTTP/1.1 400 Bad Request\r\n" COMMON
	       "Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\n",
	       LINGER);
	/* a pipelined refusal waits for the response before it */
	struct fake *f = fake_open(NULL, NULL);
	static const char two[] = "GET /wait HTTP/1.1\r\n" H "\r\nGARBAGE\r\n\r\n";
	fake_feed(f, two, strlen(two));
	assert_int_equal(f->out.n, 0);
	assert_int_equal(f->log.n, 0);
	fake_go(f);
	assert_int_equal(f->closed, LINGER);
	assert_true(strncmp(f->out.p, HELLO, strlen(HELLO)) == 0);
	assert_true(strncmp(f->out.p + strlen(HELLO), "HTTP/1.1 501 ", 13) == 0);
	assert_string_equal(f->log.p, "6 request refused with 501: a method that is not implemented\n");
	assert_null(f->broken);
	fake_free(f);
}

/* Each refusal is told once, with as much of the request line as was understood. */
static void
test_refusals_are_told(void **state)
{
	static const struct {
		const char *in, *want;
	} refusals[] = {
	    {"GET /a?b HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 \"GET /a?b HTTP/1.1\"\n"},
	    {"GET  /a HTTP/1.1\r\n" H "\r\n", "400 \"GET /a HTTP/1.1\"\n"},
	    {"GET /a HTTP/2.0\r\n" H "\r\n", "505 \"GET /a HTTP/2.0\"\n"},
	    {"GARBAGE\r\n\r\n", "501 \"  \"\n"},
	    {"\x16\x03\x01 tls", "400 \"  \"\n"},
	    {"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "stream 400 \"  \"\n"},
	    {"GET / HTTP/1.1\r\n" H "\r\n", ""},
	    {"GET /reset HTTP/1.1\r\n" H "\r\n", "stream 500 \"  \"\n"}, /* by the worker, once */
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		for (int pieces = 0; pieces < 2; pieces++) {
			struct fake *f = fake_open(NULL, NULL);
			size_t n = strlen(refusals[i].in);
			for (size_t k = 0; pieces && k < n; k++)
				fake_feed(f, refusals[i].in + k, 1);
			if (!pieces)
				fake_feed(f, refusals[i].in, n);
			assert_string_equal(f->access.p ? f->access.p : "", refusals[i].want);
			assert_null(f->broken);
			fake_free(f);
		}
	struct fake *f = fake_open(NULL, NULL); /* a head that never ends */
	fake_feed(f, "GET /slow HTTP/1.1\r\nHo", 22);
	fake_timeout(f, LC_TM_HEAD);
	assert_string_equal(f->access.p, "408 \"GET /slow HTTP/1.1\"\n");
	fake_free(f);
}

/* ---- limits ---- */

static void
test_limits(void **state)
{
	struct h1_conf conf;
	char big[8192];
	static const char ok[] = "GET /12345 HTTP/1.1\r\nHost: a\r\nX-Y: 123456\r\n\r\n";

	(void)state;
	fake_defaults(&conf);
	conf.request_line = 19;
	conf.fields = 2;
	conf.field_size = 11;
	conf.head_size = strlen(ok);
	expect_conf(&conf, ok, HELLO, OPEN);
	conf.request_line--;
	refused_conf(&conf, ok, strlen(ok), 414);
	conf.request_line++;
	conf.fields--;
	refused_conf(&conf, ok, strlen(ok), 431);
	conf.fields++;
	conf.field_size--;
	refused_conf(&conf, ok, strlen(ok), 431);
	conf.field_size++;
	conf.head_size--;
	refused_conf(&conf, ok, strlen(ok), 431);

	/* what never ends is refused at the limit, not when it ends */
	fake_defaults(&conf);
	conf.request_line = 100;
	conf.field_size = 100;
	conf.head_size = 500;
	memset(big, 'a', sizeof(big));
	memcpy(big, "GET /", 5);
	refused_conf(&conf, big, 120, 414);
	memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
	refused_conf(&conf, big, 140, 431);
	memset(big + 19, ' ', sizeof(big) - 19);
	refused_conf(&conf, big, 600, 431);
	for (size_t k = 16; k + 20 < sizeof(big); k += 20)
		memcpy(big + k, "X-Some-Field: abcd\r\n", 20);
	refused_conf(&conf, big, 700, 431);

	/* bodies */
	fake_defaults(&conf);
	conf.body_size = 10;
	static const char exact[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\n0123456789";
	static const char over[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n";
	static const char chunks[] =
	    "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
	static const char chunks_over[] =
	    "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n";
	static const char chunks_huge[] =
	    "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\nffffffffffffffff\r\n";
	expect_conf(&conf, exact,
		    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 10\r\n\r\n0123456789",
		    OPEN);
	expect_conf(&conf, chunks,
		    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 10\r\n\r\n0123456789",
		    OPEN);
	refused_conf(&conf, over, strlen(over), 413);
	refused_conf(&conf, chunks_over, strlen(chunks_over), 413);
	refused_conf(&conf, chunks_huge, strlen(chunks_huge), 413);
}

static void
test_chunk_framing(void **state)
{
	static const char head[] = "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n";
	struct fake *f = fake_open(NULL, NULL);
	char zeros[4096];

	(void)state;
	/* a chunk size that never ends */
	memset(zeros, '0', sizeof(zeros));
	fake_feed(f, head, strlen(head));
	int fed = 0;
	for (; fed < 100 && !f->closed; fed++)
		fake_feed(f, zeros, sizeof(zeros));
	assert_int_equal(f->closed, LINGER);
	assert_true(fed < 25);
	assert_non_null(strstr(f->out.p, "HTTP/1.1 400 "));
	assert_null(f->broken);
	fake_free(f);
	/* small chunks are no attack */
	f = fake_open(NULL, NULL);
	fake_feed(f, head, strlen(head));
	for (int k = 0; k < 60000; k++)
		fake_feed(f, "1\r\nx\r\n", 6);
	fake_feed(f, "0\r\n\r\n", 5);
	assert_int_equal(f->closed, OPEN);
	assert_non_null(strstr(f->events.p, "body 60000 "));
	assert_null(f->broken);
	fake_free(f);
}

/* ---- bodies that come slowly, early or not at all ---- */

static void
test_back_pressure(void **state)
{
	static const char head[] = "POST /slow-read HTTP/1.1\r\n" H "Content-Length: 400000\r\n\r\n";
	struct fake *f = fake_open(NULL, NULL);
	char block[1000];

	(void)state;
	memset(block, 'x', sizeof(block));
	fake_feed(f, head, strlen(head));
	int sent = 0;
	for (; sent < 400 && !f->paused; sent++)
		fake_feed(f, block, sizeof(block));
	assert_int_equal(sent, 66); /* 64 KiB and the one that goes over */
	assert_int_equal(f->timer[LC_TM_BODY], -1);
	fake_timeout(f, LC_TM_BODY); /* none runs: nothing may happen */
	fake_read(f, 33000);
	assert_int_equal(f->paused, 1);
	fake_read(f, 1000);
	assert_int_equal(f->paused, 0);
	assert_int_equal(f->timer[LC_TM_BODY], 60000);
	for (; sent < 400; sent++) {
		if (f->paused)
			fake_read(f, 60000);
		fake_feed(f, block, sizeof(block));
	}
	fake_go(f);
	assert_int_equal(f->paused, 0);
	assert_non_null(strstr(f->events.p, "body 400000 "));
	assert_string_equal(f->out.p, HELLO);
	assert_int_equal(f->closed, OPEN);
	assert_null(f->broken);
	fake_free(f);

	/* a refusal ends the pause, or the rest would stay in the socket and turn the close into a reset */
	static const char bad[] = "POST /slow-bad HTTP/1.1\r\n" H "Content-Length: 400000\r\n\r\n";
	f = fake_open(NULL, NULL);
	fake_feed(f, bad, strlen(bad));
	while (!f->paused)
		fake_feed(f, block, sizeof(block));
	fake_go(f);
	assert_int_equal(f->paused, 0);
	assert_non_null(strstr(f->out.p, "HTTP/1.1 500 "));
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);
}

static void
test_early_response(void **state)
{
	static const char small[] = "POST /early HTTP/1.1\r\n" H "Content-Length: 60000\r\n\r\n";
	static const char large[] = "POST /early HTTP/1.1\r\n" H "Content-Length: 70000\r\n\r\n";
	static const char chunked[] = "POST /early HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1000\r\n";
	static const char next[] = "GET / HTTP/1.1\r\n" H "\r\n";
	char block[4096];

	(void)state;
	memset(block, 'x', sizeof(block));
	/* a little is read and thrown away */
	struct fake *f = fake_open(NULL, NULL);
	fake_feed(f, small, strlen(small));
	assert_non_null(strstr(f->out.p, "\r\n\r\nno"));
	assert_int_equal(f->timer[LC_TM_BODY], 60000);
	for (int left = 60000; left > 0; left -= 4000)
		fake_feed(f, block, 4000);
	fake_feed(f, next, strlen(next));
	assert_non_null(strstr(f->out.p, "no" HELLO));
	assert_int_equal(f->closed, OPEN);
	assert_null(f->broken);
	fake_free(f);
	/* much is not */
	f = fake_open(NULL, NULL);
	fake_feed(f, large, strlen(large));
	assert_non_null(strstr(f->out.p, "\r\n\r\nno"));
	assert_int_equal(f->closed, LINGER);
	fake_free(f);
	/* nor what does not say how much it is */
	f = fake_open(NULL, NULL);
	fake_feed(f, chunked, strlen(chunked));
	int fed = 0;
	for (; fed < 40 && !f->closed; fed++) {
		fake_feed(f, block, 4096);
		fake_feed(f, "\r\n1000\r\n", 8);
	}
	assert_int_equal(f->closed, LINGER);
	assert_int_equal(fed, 17);
	assert_null(f->broken);
	fake_free(f);
	/* a discarded body that breaks has had its response */
	f = fake_open(NULL, NULL);
	fake_feed(f, chunked, strlen(chunked));
	fake_feed(f, block, 4096);
	fake_feed(f, "garbage", 7);
	assert_int_equal(f->closed, LINGER);
	assert_null(strstr(f->out.p, "400"));
	assert_null(f->broken);
	fake_free(f);
}

static void
test_expect(void **state)
{
	static const char head[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
	static const char early[] = "POST /early HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";

	(void)state;
	struct fake *f = fake_open(NULL, NULL);
	fake_feed(f, head, strlen(head));
	assert_string_equal(f->out.p, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_int_equal(f->timer[LC_TM_BODY], 60000);
	fake_feed(f, "hello", 5);
	assert_string_equal(f->out.p + 25,
			    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON "Content-Length: 5\r\n\r\nhello");
	assert_int_equal(f->closed, OPEN);
	fake_free(f);
	/* answered without reading: no 100, and the connection ends, as the body may or may not follow */
	expect(early,
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
	       "Content-Length: 2\r\nConnection: close\r\n\r\nno",
	       LINGER);
}

/* ---- the connection ---- */

static void
test_timers(void **state)
{
	struct fake *f = fake_open(NULL, NULL);
	static const char part[] = "GET / HTTP/1.1\r\nHo";
	static const char rest[] = "st: a\r\n\r\n";
	static const char post[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab";

	(void)state;
	assert_int_equal(f->timer[LC_TM_WRITE], 60000);
	assert_int_equal(f->timer[LC_TM_HEAD], 30000);
	fake_feed(f, part, strlen(part));
	assert_int_equal(f->timer[LC_TM_HEAD], 30000);
	int calls = f->timer_calls;
	fake_feed(f, rest, 1); /* the head's time runs from its first byte */
	assert_int_equal(f->timer_calls, calls);
	fake_feed(f, rest + 1, strlen(rest) - 1);
	assert_string_equal(f->out.p, HELLO);
	assert_int_equal(f->timer[LC_TM_IDLE], 75000);
	fake_feed(f, part, strlen(part));
	assert_int_equal(f->timer[LC_TM_HEAD], 30000);
	fake_timeout(f, LC_TM_HEAD);
	assert_non_null(strstr(f->out.p + strlen(HELLO), "HTTP/1.1 408 "));
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);

	f = fake_open(NULL, NULL); /* a connection that never said a word is told none */
	fake_timeout(f, LC_TM_HEAD);
	assert_int_equal(f->out.n, 0);
	assert_int_equal(f->closed, FLUSH);
	fake_free(f);

	f = fake_open(NULL, NULL);
	fake_feed(f, post, strlen(post));
	assert_int_equal(f->timer[LC_TM_BODY], 60000);
	fake_timeout(f, LC_TM_BODY);
	assert_non_null(strstr(f->out.p, "HTTP/1.1 408 "));
	assert_non_null(strstr(f->events.p, "abort 3 after 2"));
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);

	f = fake_open(NULL, NULL); /* while the application works no timer counts */
	fake_feed(f, "GET /wait HTTP/1.1\r\n" H "\r\n", 31);
	fake_timeout(f, LC_TM_HEAD);
	fake_timeout(f, LC_TM_IDLE);
	fake_timeout(f, LC_TM_BODY);
	assert_int_equal(f->closed, OPEN);
	fake_go(f);
	assert_string_equal(f->out.p, HELLO);
	fake_timeout(f, LC_TM_IDLE);
	assert_int_equal(f->closed, FLUSH);
	assert_null(f->broken);
	fake_free(f);

	struct h1_conf conf; /* without a limit on idling, a head's timer must not become one */
	fake_defaults(&conf);
	conf.keepalive_timeout = 0;
	f = fake_open(&conf, NULL);
	fake_feed(f, part, strlen(part));
	fake_feed(f, rest, strlen(rest));
	assert_string_equal(f->out.p, HELLO);
	fake_timeout(f, LC_TM_HEAD);
	assert_int_equal(f->closed, OPEN);
	fake_feed(f, "\r\n", 2);
	assert_int_equal(f->timer[LC_TM_HEAD], 30000);
	fake_timeout(f, LC_TM_HEAD);
	assert_int_equal(f->closed, FLUSH);
	assert_null(f->broken);
	fake_free(f);

	struct fake_opts o = {.no_pull = 1};
	f = fake_open(NULL, &o);
	fake_feed(f, "GET / HTTP/1.1\r\n" H "\r\n", 27);
	fake_timeout(f, LC_TM_WRITE);
	assert_int_equal(f->closed, NOW);
	assert_non_null(strstr(f->events.p, "abort 3 "));
	assert_null(f->broken);
	fake_free(f);
}

static void
test_drain(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\n" H "\r\n", wait[] = "GET /wait HTTP/1.1\r\n" H "\r\n";
	static const char last[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
				   "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n";

	(void)state;
	struct fake *f = fake_open(NULL, NULL);
	fake_feed(f, get, strlen(get));
	fake_drain(f, LC_DRAIN_NOTICE);
	assert_int_equal(f->closed, OPEN); /* a request may be on its way */
	assert_int_equal(f->timer[LC_TM_IDLE], H1_DRAIN_MS);
	fake_feed(f, get, strlen(get));
	assert_string_equal(f->out.p + strlen(HELLO), last);
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);

	f = fake_open(NULL, NULL);
	fake_drain(f, LC_DRAIN_NOTICE);
	fake_timeout(f, LC_TM_IDLE);
	assert_int_equal(f->closed, LINGER);
	fake_free(f);

	f = fake_open(NULL, NULL);
	fake_drain(f, LC_DRAIN_FINAL);
	assert_int_equal(f->closed, LINGER);
	fake_free(f);

	f = fake_open(NULL, NULL);
	fake_feed(f, wait, strlen(wait));
	fake_drain(f, LC_DRAIN_NOTICE);
	fake_drain(f, LC_DRAIN_FINAL);
	assert_int_equal(f->closed, OPEN);
	fake_go(f);
	assert_string_equal(f->out.p, last);
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);

	f = fake_open(NULL, NULL);
	fake_is_draining = 1;
	fake_feed(f, get, strlen(get));
	fake_is_draining = 0;
	assert_string_equal(f->out.p, last);
	fake_free(f);
}

static void
test_keepalive_requests(void **state)
{
	struct h1_conf conf;

	(void)state;
	fake_defaults(&conf);
	conf.keepalive_requests = 2;
	expect_conf(&conf, "GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n",
		    HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
			  "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n",
		    LINGER);
}

static void
test_eof(void **state)
{
	static const char wait[] = "GET /wait HTTP/1.1\r\n" H "\r\n";
	static const char post[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab";

	(void)state;
	struct fake *f = fake_open(NULL, NULL);
	fake_eof(f);
	assert_int_equal(f->closed, FLUSH);
	fake_free(f);
	f = fake_open(NULL, NULL);
	fake_feed(f, "GET / HT", 8);
	fake_eof(f);
	assert_int_equal(f->closed, FLUSH);
	assert_int_equal(f->out.n, 0);
	fake_free(f);
	f = fake_open(NULL, NULL);
	fake_feed(f, post, strlen(post));
	fake_eof(f);
	assert_int_equal(f->closed, FLUSH);
	assert_non_null(strstr(f->events.p, "abort 2 after 2"));
	assert_null(f->broken);
	fake_free(f);
	f = fake_open(NULL, NULL); /* half-closed behind a whole request: it is answered */
	fake_feed(f, wait, strlen(wait));
	fake_eof(f);
	assert_int_equal(f->closed, OPEN);
	fake_go(f);
	assert_string_equal(f->out.p, HELLO);
	assert_int_equal(f->timer[LC_TM_IDLE], 1);
	fake_timeout(f, LC_TM_IDLE);
	assert_int_equal(f->closed, FLUSH);
	assert_null(f->broken);
	fake_free(f);
}

static void
test_overload(void **state)
{
	struct fake_opts o = {.refuse_open = 1};
	struct fake *f = fake_open(NULL, &o);

	(void)state;
	fake_feed(f, "GET / HTTP/1.1\r\n" H "\r\n", 27);
	assert_non_null(strstr(f->out.p, "HTTP/1.1 503 Service Unavailable\r\n"));
	assert_int_equal(f->closed, LINGER);
	assert_null(f->broken);
	fake_free(f);
}

/* What the worker sees. */
static void
test_request(void **state)
{
	static const char in[] =
	    "POST http://h:8/p/%20?a=b HTTP/1.1\r\nhOST: other\r\nX-Custom_Name:  \t v 1\t \r\nEmpty:\r\n"
	    "TE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n";
	struct fake *f = fake_open(NULL, NULL);
	char want[1024];

	(void)state;
	fake_feed(f, in, strlen(in));
	snprintf(want, sizeof(want),
		 "request 101 scheme=http protocol=HTTP/1.1 method=POST target=http://h:8/p/%%20?a=b authority=h:8 "
		 "path=/p/%%20 query=a=b length=-1 "
		 "flags=%u\n"
		 " field%u host:h:8\n field0 x-custom_name:v 1\n field0 empty:\n field%u te:trailers\n"
		 " field%u transfer-encoding:chunked\nbody 3 e71fa2190541574b end\n trailer0 x-sum:1\n",
		 LC_R_BODY | LC_R_TRAILERS_OK, LC_TOK_HOST, LC_TOK_TE, LC_TOK_TRANSFER_ENCODING);
	assert_string_equal(f->events.p, want);
	assert_null(f->broken);
	fake_free(f);
}

#define UPGRADE "GET / HTTP/1.1\r\n" H "Connection: upgrade\r\n"
#define SWITCH(token) \
	"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: " token "\r\nX-Echo: yes\r\n\r\n"

static void
upgraded(const char *in, const char *out, const char *after)
{
	for (size_t step = 1; step <= strlen(in); step += strlen(in) - 1)
		for (size_t budget = 0; budget < 30; budget += 7) {
			struct fake_opts o = {.budget = budget};
			struct fake *f = fake_open(NULL, &o);
			for (size_t off = 0; off < strlen(in); off += step)
				fake_feed(f, in + off, strlen(in) - off < step ? strlen(in) - off : step);
			assert_string_equal(f->out.p, out);
			assert_string_equal(f->after.p, after);
			assert_int_equal(f->closed, FAKE_HANDED);
			assert_null(f->broken);
			fake_free(f);
		}
}

static void
test_upgrade(void **state)
{
	(void)state;
	upgraded(UPGRADE "Upgrade: echo\r\n\r\n", SWITCH("echo"), "");
	upgraded(UPGRADE "Upgrade: echo\r\n\r\nGET / HTTP/1.1\r\n\r\n", SWITCH("echo"), "GET / HTTP/1.1\r\n\r\n");
	upgraded(UPGRADE "Upgrade: x, ,ECHO/1 , echo\r\n\r\n", SWITCH("echo/1"), "");
	upgraded(UPGRADE "Upgrade: x\r\nUpgrade: echo\r\n\r\n", SWITCH("echo"), "");
	upgraded("GET / HTTP/1.1\r\n" H "\r\n" UPGRADE "Upgrade: echo\r\n\r\n\r\n", HELLO SWITCH("echo"), "\r\n");
	/* offers that do not count */
	expect(UPGRADE "Upgrade: echoes\r\n\r\n", HELLO, OPEN);
	expect("GET / HTTP/1.1\r\n" H "Upgrade: echo\r\n\r\n", HELLO, OPEN);
	expect("GET / HTTP/1.1\r\n" H "Proxy-Connection: upgrade\r\nUpgrade: echo\r\n\r\n", HELLO, OPEN);
	expect("GET /no HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: echo\r\n\r\n", HELLO, OPEN);
	expect("POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: echo\r\nContent-Length: 1\r\n\r\nx", HELLO,
	       OPEN);
	/* a process that goes away does not begin anything that lasts */
	fake_is_draining = 1;
	expect(UPGRADE "Upgrade: echo\r\n\r\n",
	       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" COMMON
	       "Content-Length: 6\r\nConnection: close\r\n\r\nhello\n",
	       LINGER);
	fake_is_draining = 0;
	struct fake *f = fake_open(NULL, NULL);
	fake_drain(f, LC_DRAIN_NOTICE);
	fake_feed(f, UPGRADE "Upgrade: echo\r\n\r\n", strlen(UPGRADE "Upgrade: echo\r\n\r\n"));
	assert_memory_equal(f->out.p, "HTTP/1.1 200 ", 13);
	assert_int_equal(f->closed, LINGER);
	fake_free(f);
}

/* permit_obsolete_folding: what the worker sees; nothing else gets through, however it is cut. */
static void
test_folds(void **state)
{
	static const struct {
		const char *fields, *seen; /* seen NULL: refused */
	} folds[] = {
	    {"X-A: 1\r\n 2\r\n", " field0 x-a:1 2\n"},
	    {"X-A: 1 \r\n\t 2 \t\r\nX-B: 3\r\n", " field0 x-a:1 2\n field0 x-b:3\n"},
	    {"X-A:\r\n 2\r\n", " field0 x-a:2\n"},
	    {"X-A: 1\r\n 2\r\n 3\r\n", " field0 x-a:1 2 3\n"},
	    {"X-A: \xe9\r\n", " field0 x-a:\xe9\n"},
	    {"X-A:\r\n", " field0 x-a:\n"},
	    {"X-A : 1\r\n", NULL},
	    {"X-A: \x01\r\n", NULL},
	    {"X-A: 1\r\n \x7f\r\n", NULL},
	    {"X-A: 1\rb\r\n", NULL},
	    {"X-A: 1\nX-B: 2\r\n", NULL},
	    {"X-A: 1\n 2\r\n", NULL},
	    {"X A: 1\r\n", NULL},
	    {"Connection:\r\n close\r\n", NULL},
	    {"Upgrade: a,\r\n b\r\n", NULL},
	    {"Expect:\r\n 100-continue\r\n", NULL},
	    {"Transfer-Encoding: chunked,\r\n gzip\r\n", NULL},
	    {"Content-Length: 1\r\n 0\r\n", NULL},
	    {"TE: a\r\n b\r\n", NULL},
	};
	struct h1_conf conf;

	(void)state;
	fake_defaults(&conf);
	for (size_t k = 0; k < sizeof(folds) / sizeof(folds[0]); k++)
		for (int trailer = 0; trailer <= 1; trailer++)
			for (int whole = 0; whole <= 1; whole++) {
				char in[512];
				/* in a trailer section fields that decide about framing are dropped, not refused */
				conf.fold = 1;
				snprintf(in, sizeof(in),
					 trailer ? "POST /echo HTTP/1.1\r\n" H
						   "Transfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n"
						 : "GET / HTTP/1.1\r\n" H "%s\r\n",
					 folds[k].fields);
				struct fake *f = fake_open(&conf, NULL);
				for (size_t off = 0, n = strlen(in); off < n && !f->closed; off += whole ? n : 1)
					fake_feed(f, in + off, whole ? n : 1);
				assert_null(f->broken);
				if (folds[k].seen) {
					char want[128];
					snprintf(want, sizeof(want), "%s%s", trailer ? " trailer0 " : "",
						 folds[k].seen + (trailer ? 8 : 0));
					if (trailer) /* of several the first will do */
						want[strcspn(want, "\n")] = 0;
					if (!strstr(f->events.p, want))
						fail_msg("%s: saw\n%s\nnot %s", folds[k].fields, f->events.p, want);
				} else if (strncmp(f->out.p, "HTTP/1.1 400 ", 13) != 0) {
					fail_msg("%s: got %.20s", folds[k].fields, f->out.p);
				}
				fake_free(f);
			}
	/* off, which is the default, it is refused */
	static const char folded[] = "GET / HTTP/1.1\r\n" H "X-A: 1\r\n 2\r\n\r\n";
	refused_conf(NULL, folded, strlen(folded), 400);
}

/* The status of a first trailer name that is too long and bad does not depend on the cut. */
static void
test_long_trailer_name(void **state)
{
	static char in[10000];

	(void)state;
	for (size_t n = 8180; n < 8204; n++) {
		int head =
		    snprintf(in, sizeof(in), "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n");
		memset(in + head, 'x', n);
		memcpy(in + head + n, " b", 3);
		for (size_t cut = 0; cut < 3; cut++) {
			struct fake *f = fake_open(NULL, NULL);
			size_t total = (size_t)head + n + 2, first = cut == 0 ? total : cut == 1 ? (size_t)head : 1;
			for (size_t off = 0; off < total && !f->closed; off += first)
				fake_feed(f, in + off, total - off < first ? total - off : first);
			int want = n > 8192 ? 431 : 400;
			if (atoi(f->out.p + 9) != want)
				fail_msg("a name of %zu, cut %zu: %.12s, expected %d", n, cut, f->out.p, want);
			fake_free(f);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_upgrade),
	    cmocka_unit_test(test_folds),
	    cmocka_unit_test(test_long_trailer_name),
	    cmocka_unit_test(test_corpus),
	    cmocka_unit_test(test_splits),
	    cmocka_unit_test(test_allocations),
	    cmocka_unit_test(test_framing),
	    cmocka_unit_test(test_server_header),
	    cmocka_unit_test(test_memo),
	    cmocka_unit_test(test_refusal_text),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_chunk_framing),
	    cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_early_response),
	    cmocka_unit_test(test_expect),
	    cmocka_unit_test(test_timers),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_keepalive_requests),
	    cmocka_unit_test(test_eof),
	    cmocka_unit_test(test_overload),
	    cmocka_unit_test(test_refusals_are_told),
	    cmocka_unit_test(test_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
