/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_return.c - the "return" handler: what its check refuses, what it answers, where its redirects lead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <licorne/handler.h>
#include <licorne/module.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* the module's struct, as its rows have it */
struct conf {
	uint64_t status, append;
	const char *body, *content_type, *location;
	struct lc_list add_header;
};

extern const struct lc_module *lc_module_query(const struct lc_host *);
static const struct lc_handler *H;
static const struct lc_module *M;

/* ---- the host ---- */

static char errors[2048];

static void LC_PRINTF(3, 4) conf_error(struct lc_err *err, const char *directive, const char *fmt, ...)
{
	size_t n = strlen(errors);
	va_list ap;

	assert_null(err);
	n += (size_t)snprintf(errors + n, sizeof(errors) - n, "%s|", directive);
	va_start(ap, fmt);
	n += (size_t)vsnprintf(errors + n, sizeof(errors) - n, fmt, ap);
	va_end(ap);
	snprintf(errors + n, sizeof(errors) - n, "\n");
}

static const struct lc_config_api config_table = {.size = sizeof(config_table), .error = conf_error};

static const void *
get(const char *name, uint32_t version, size_t size)
{
	return !strcmp(name, "config") && version == 1 && size <= sizeof(config_table) ? &config_table : NULL;
}

/* a stream: what was said of it, as text */
static struct lc_req req;
static char said[8192];
static void *given[8]; /* each allocated for itself, so that writing beyond it shows */
static uint32_t ngiven, give;
static int released, no_room;
static uint64_t memos;

static const struct lc_req *
s_req(struct lc_stream *s)
{
	(void)s;
	return &req;
}

static int
s_respond(struct lc_stream *s, const struct lc_head *h)
{
	size_t n = 0;

	(void)s;
	n +=
	    (size_t)snprintf(said, sizeof(said), "%u %lld %s", h->status, (long long)h->length, h->memo ? "memo" : "-");
	for (uint32_t k = 0; k < h->nfields; k++)
		n += (size_t)snprintf(said + n, sizeof(said) - n, " %.*s=%.*s", (int)h->fields[k].name.n,
				      h->fields[k].name.p, (int)h->fields[k].value.n, h->fields[k].value.p);
	return no_room ? -EPIPE : 0;
}

static int
s_write(struct lc_stream *s, const struct lc_slice *v, uint32_t n, uint32_t flags)
{
	(void)s;
	assert_int_equal(n, 1);
	assert_int_equal(flags, LC_W_FIN);
	assert_null(v->release);
	assert_true(v->fd < 0);
	snprintf(said + strlen(said), sizeof(said) - strlen(said), "|%.*s", (int)v->n, v->p ? (const char *)v->p : "");
	return no_room ? -EPIPE : 0;
}

static void *
s_alloc(struct lc_stream *s, size_t n)
{
	(void)s;
	return ngiven < give ? given[ngiven++] = malloc(n) : NULL;
}

static void
s_release(struct lc_stream *s)
{
	(void)s;
	released++;
}

static const struct lc_stream_api stream_table = {.size = sizeof(stream_table),
						  .req = s_req,
						  .respond = s_respond,
						  .write = s_write,
						  .alloc = s_alloc,
						  .release = s_release};

static uint16_t
w_token(const char *name, size_t n)
{
	(void)name;
	return (uint16_t)(n & 1);
}

static uint64_t
w_memo(struct lc_wctx *ctx)
{
	(void)ctx;
	return ++memos;
}

static const struct lc_worker_api worker_table = {
    .size = sizeof(worker_table), .stream = &stream_table, .token = w_token, .memo = w_memo};

/* ---- checks ---- */

static const char *
checked(struct conf c)
{
	if (!c.status)
		c.status = 200;
	if (!c.content_type)
		c.content_type = "text/plain";
	errors[0] = 0;
	M->check(&c, NULL);
	return errors;
}

static void
test_check(void **state)
{
	static const char *const good[] = {"X-A", "b", "retry-after", "120", "X-Empty", ""};
	static const char *const names[] = {"X A", "b",        "",  "b",          "Content-Length",
					    "3",   "LOCATION", "/", "Connection", "close"};
	static const char *const values[] = {"X-A", "a\r\nb", "X-B",   " b",  "X-C",
					     "c\t", "X-D",    "a\x01", "X-E", "e\x7f"};
	struct conf c;

	(void)state;
	assert_string_equal(checked((struct conf){0}), "");
	assert_string_equal(checked((struct conf){.status = 404, .body = "no\n", .add_header = {good, 6}}), "");
	assert_string_equal(checked((struct conf){.status = 204}), "");
	assert_string_equal(checked((struct conf){.status = 304, .body = ""}), "");
	assert_string_equal(checked((struct conf){.status = 301, .location = "https://a.example/b?c#d"}), "");
	assert_string_equal(checked((struct conf){.status = 201, .location = "/new%20one"}), "");
	assert_string_equal(checked((struct conf){.status = 308, .append = 2, .location = "https://a.example"}), "");
	static const unsigned empty[] = {204, 205, 304};
	for (size_t k = 0; k < 3; k++)
		assert_non_null(
		    strstr(checked((struct conf){.status = empty[k], .body = "x"}), "body|body: a response of"));
	assert_string_equal(checked((struct conf){.content_type = ""}),
			    "content_type|content_type: \"\" is no media type, expected TYPE/SUBTYPE\n");
	assert_non_null(strstr(checked((struct conf){.content_type = "text/plain\r\nX: y"}), "is no media type"));
	static const unsigned redirects[] = {301, 302, 303, 307, 308};
	for (size_t k = 0; k < 5; k++)
		assert_non_null(strstr(checked((struct conf){.status = redirects[k]}),
				       "is a redirect, expected beside it: location URI;"));
	assert_non_null(strstr(checked((struct conf){.append = 1}), "append|append has nothing"));
	assert_non_null(
	    strstr(checked((struct conf){.status = 200, .location = "/a"}), "location|location: status 200 has none"));
	assert_non_null(
	    strstr(checked((struct conf){.status = 404, .location = "/a"}), "location|location: status 404 has none"));
	static const char *const bad[] = {"",          "a",   "a/b",   ":x",   "/a b",    "/a\r\nX: y",
					  "/\xc3\xa4", "/\"", "/a\\b", "-a:b", "https//a"};
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		if (!strstr(checked((struct conf){.status = 301, .location = bad[k]}), "is no URI"))
			fail_msg("location \"%s\" was not refused", bad[k]);
	assert_non_null(strstr(checked((struct conf){.status = 301, .append = 1, .location = "/a?b"}),
			       "has a query or a fragment"));
	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k += 2) {
		c = (struct conf){.add_header = {names + k, 2}};
		if (!strstr(checked(c), k < 4 ? "is no field name" : "cannot be set"))
			fail_msg("%s: %s", names[k], errors);
	}
	for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k += 2) {
		c = (struct conf){.add_header = {values + k, 2}};
		assert_non_null(strstr(checked(c), "has a control character or a blank at an end"));
	}
}

/* ---- answers ---- */

static int
ask(struct conf c, const char *prefix, const char *path, const char *query)
{
	struct lc_route route = {.size = sizeof(route), .prefix = {prefix, strlen(prefix)}};
	struct lc_match m = {.size = sizeof(m), .path = {path, strlen(path)}};
	void *h = NULL;
	int r;

	assert_int_equal(strncmp(path, prefix, strlen(prefix)), 0);
	m.rest = (struct lc_str){path + strlen(prefix), strlen(path) - strlen(prefix)};
	if (!c.status)
		c.status = 200;
	if (!c.content_type)
		c.content_type = "text/plain";
	assert_string_equal(checked(c), "");
	said[0] = 0;
	released = 0;
	req = (struct lc_req){.size = sizeof(req)};
	if (query)
		req.query = (struct lc_str){query, strlen(query)};
	assert_int_equal(H->open(NULL, &worker_table, &route, &c, &h), 0);
	r = H->request(h, NULL, &m);
	assert_int_equal(released, r == LC_H_TAKEN);
	H->close(h);
	while (ngiven)
		free(given[--ngiven]);
	return r;
}

static void
test_fixed(void **state)
{
	static const char *const more[] = {"X-A", "b", "Retry-After", "120"};

	(void)state;
	assert_int_equal(ask((struct conf){.body = "ok\n"}, "/healthz", "/healthz", NULL), LC_H_TAKEN);
	assert_string_equal(said, "200 3 memo Content-Type=text/plain|ok\n");
	ask((struct conf){.status = 503, .body = "{}", .content_type = "application/json", .add_header = {more, 4}},
	    "/", "/x", "q");
	assert_string_equal(said, "503 2 memo Content-Type=application/json X-A=b Retry-After=120|{}");
	ask((struct conf){.status = 403}, "/", "/", NULL);
	assert_string_equal(said, "403 0 memo|");
	ask((struct conf){.status = 302, .location = "/x/"}, "/", "/y", "q");
	assert_string_equal(said, "302 0 memo Location=/x/|");
	assert_int_equal(memos, 4); /* one per head */
	no_room = 1;                /* the client is gone: let go of it all the same */
	assert_int_equal(ask((struct conf){.body = "ok\n"}, "/", "/", NULL), LC_H_TAKEN);
	no_room = 0;
}

static void
test_redirects(void **state)
{
	static const struct {
		int append;
		const char *location, *prefix, *path, *query, *want;
	} cases[] = {
	    {2, "https://www.example.com", "/", "/", NULL, "https://www.example.com/"},
	    {2, "https://www.example.com", "/", "/a/b", "c=d&e", "https://www.example.com/a/b?c=d&e"},
	    {2, "https://www.example.com/", "/", "/a/b", "", "https://www.example.com/a/b?"},
	    {2, "/v2", "/api", "/api/x", NULL, "/v2/api/x"},
	    {1, "/new", "/old/", "/old/x/", NULL, "/new/x/"},
	    {1, "/new/", "/old/", "/old/x", "q", "/new/x?q"},
	    {1, "/new", "/old", "/old", "q", "/new?q"},
	    {1, "/new/", "/old", "/old", NULL, "/new/"},
	    {1, "/", "/old/", "/old/", NULL, "/"},
	    {1, "/", "/old", "/old/x", NULL, "/x"},
	    /* the host stays what it is */
	    {1, "https://good.example", "/old", "/old.evil.example", NULL, "https://good.example/.evil.example"},
	    {1, "https://good.example", "/old", "/old@evil.example/", NULL, "https://good.example/@evil.example/"},
	    {1, "/", "/old", "/old/evil.example", NULL, "/evil.example"},
	    {1, "/", "/old/", "/old/\\evil.example", NULL, "/%5Cevil.example"},
	    /* and so does the response */
	    {1, "/n", "/o/", "/o/\r\nX: y", NULL, "/n/%0D%0AX:%20y"},
	    {1, "/n", "/o/", "/o/%41?#\"<>\x80\xff", "a?b%41/\r\n#\"",
	     "/n/%2541%3F%23%22%3C%3E%80%FF?a?b%41/%0D%0A%23%22"},
	};
	char want[512];

	(void)state;
	give = 8;
	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct conf c = {.status = 301, .append = (uint64_t)cases[k].append, .location = cases[k].location};
		assert_int_equal(ask(c, cases[k].prefix, cases[k].path, cases[k].query), LC_H_TAKEN);
		snprintf(want, sizeof(want), "301 0 - Location=%s|", cases[k].want);
		assert_string_equal(said, want);
	}
	struct conf c = {.status = 301, .append = 2, .location = "/a", .body = "moved\n"};
	ask(c, "/", "/b", NULL);
	assert_string_equal(said, "301 6 - Content-Type=text/plain Location=/a/b|moved\n");
	for (give = 0; give < 2; give++) {
		assert_int_equal(ask(c, "/", "/b", NULL), -ENOMEM);
		assert_string_equal(said, "");
	}
}

static int
load(void **state)
{
	static const struct lc_host host = {.size = sizeof(host), .get = get};

	(void)state;
	M = lc_module_query(&host);
	H = M->ifaces[0].ops;
	assert_int_equal(M->conf_size, sizeof(struct conf));
	return M->load(&host);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_check),
	    cmocka_unit_test(test_fixed),
	    cmocka_unit_test(test_redirects),
	};
	return cmocka_run_group_tests(tests, load, NULL);
}
