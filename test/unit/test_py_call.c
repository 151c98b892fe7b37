/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/test_py_call.c - one WSGI call at a time, against PEP 3333; applications in pyapps.py.
 */
#include "lcpy.h"

#include "pyhost_fake.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct lc_stream *
call(const char *method, const char *target, const char *const *fields)
{
	struct lc_stream *s = fake_stream(method, target, fields);

	lcpy_call(s, 0);
	assert_false(PyErr_Occurred());
	assert_int_equal(s->releases, 1);
	assert_int_equal(s->violations, 0);
	fake_flush(s);
	lcpy_drain();
	return s;
}

static struct lc_stream *
get(const char *target)
{
	return call("GET", target, NULL);
}

static long
closed(void)
{
	struct lc_stream *s = get("/stat");
	long n = strtol(s->body, NULL, 10);

	fake_free(s);
	return n;
}

static void
expect_500(const char *target, const char *in_log)
{
	struct lc_stream *s;

	fake_log_clear();
	s = get(target);
	assert_int_equal(s->status, 500);
	assert_string_equal(s->body, "Internal Server Error\n");
	assert_int_equal(s->length, (int)s->body_n);
	assert_true(s->fin);
	assert_int_equal(s->resets, 0);
	if (!strstr(fake_log, in_log))
		fail_msg("%s: no \"%s\" in the log:\n%s", target, in_log, fake_log);
	assert_non_null(strstr(fake_log, "application error: GET "));
	assert_non_null(strstr(fake_log, " from 127.0.0.1"));
	fake_free(s);
}

static void
test_hello(void **state)
{
	for (int i = 0; i < 3; i++) { /* plain, with a template made, with a template used */
		struct lc_stream *s = get("/");

		assert_int_equal(s->status, 200);
		assert_string_equal(s->reason, "");
		assert_int_equal(s->length, 13);
		assert_string_equal(fake_out(s, "content-type"), "text/plain");
		assert_null(fake_out(s, "content-length")); /* goes as length */
		assert_string_equal(s->body, "Hello, World!");
		assert_true(s->fin);
		assert_int_equal(s->writes, 1);
		fake_free(s);
	}
}

static void
has(struct lc_stream *s, const char *line)
{
	const char *p = s->body ? strstr(s->body, line) : NULL;
	size_t n = strlen(line);

	if (!p || (p != s->body && p[-1] != '\n') || p[n] != '\n')
		fail_msg("no line \"%s\" in\n%s", line, s->body);
}

static void
lacks(struct lc_stream *s, const char *text)
{
	if (strstr(s->body, text))
		fail_msg("\"%s\" in\n%s", text, s->body);
}

static void
test_environ(void **state)
{
	static const char *const fields[] = {"host",
					     "example.org:8080",
					     "user-agent",
					     "curl/8",
					     "accept",
					     "*/*",
					     "x-odd-name",
					     "v",
					     "x_bad",
					     "dropped",
					     "cookie",
					     "a=b",
					     "content-type",
					     "text/x",
					     "content-length",
					     "3",
					     "x-latin",
					     "gr\xfc\xdf",
					     "x-empty",
					     "",
					     NULL};

	for (int i = 0; i < 4; i++) {
		struct lc_stream *s = call("PATCH", "/a%20b%2Fc%zz%C3%A4%4?q=%20&r", fields);

		has(s, "REQUEST_METHOD='PATCH'");
		has(s, "PATH_INFO='/a b/c%zz\xc3\x83\xc2\xa4%4'"); /* latin-1 characters, printed as UTF-8 */
		has(s, "QUERY_STRING='q=%20&r'");
		has(s, "RAW_URI='/a%20b%2Fc%zz%C3%A4%4?q=%20&r'");
		has(s, "REQUEST_URI='/a%20b%2Fc%zz%C3%A4%4?q=%20&r'");
		has(s, "gunicorn.raw_uri='/a%20b%2Fc%zz%C3%A4%4?q=%20&r'");
		lacks(s, "HTTPS");
		has(s, "SCRIPT_NAME=''");
		has(s, "SERVER_NAME='127.0.0.1'");
		has(s, "SERVER_PORT='8000'");
		has(s, "SERVER_PROTOCOL='HTTP/1.1'");
		has(s, "REMOTE_ADDR='127.0.0.1'");
		has(s, "REMOTE_PORT='40000'");
		has(s, "HTTP_HOST='example.org:8080'");
		has(s, "HTTP_USER_AGENT='curl/8'");
		has(s, "HTTP_X_ODD_NAME='v'");
		has(s, "HTTP_X_LATIN='gr\xc3\xbc\xc3\x9f'");
		has(s, "HTTP_X_EMPTY=''");
		has(s, "HTTP_COOKIE='a=b'");
		has(s, "CONTENT_TYPE='text/x'");
		has(s, "CONTENT_LENGTH='3'");
		lacks(s, "HTTP_CONTENT");
		lacks(s, "dropped");
		has(s, "wsgi.version=(1, 0)");
		has(s, "wsgi.url_scheme='http'");
		has(s, "wsgi.multithread=True");
		has(s, "wsgi.multiprocess=True");
		has(s, "wsgi.run_once=False");
		has(s, "wsgi.input_terminated=True");
		has(s, "SERVER_SOFTWARE='licorne/" LCPY_VERSION "'");
		lacks(s, "added");
		fake_free(s);
	}
}

/* Nothing of one request may show in another, whatever templates and caches do. */
static void
test_environ_mix(void **state)
{
	char big[4000], target[1200];

	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memset(target, 't', sizeof(target) - 1);
	memcpy(target, "/dump?", 6);
	target[sizeof(target) - 1] = '\0';
	for (unsigned i = 0; i < 400; i++) {
		char ua[32], line[64];
		const char *cookie = i % 3 ? "c=1" : big;
		const char *f1[] = {"host", "h", "user-agent", ua, "cookie", cookie, NULL};
		const char *f2[] = {"user-agent", ua, "host", "h", NULL};
		const char *f3[] = {"accept", "x", "accept", ua, "cookie", "a", "cookie", "b", NULL};
		const char *f4[] = {NULL};
		const char *const *all[] = {f1, f2, f3, f4};
		unsigned k = i * 7 / 2 % 4;
		struct lc_stream *s;

		(void)snprintf(ua, sizeof(ua), "agent %u", i / 2);
		s = fake_stream(i % 5 ? "GET" : "PUT", i % 4 ? "/dump?x" : target, all[k]);
		s->req.version = i % 6 ? 0x0101 : 0x0100;
		s->req.protocol.p = i % 6 ? "HTTP/1.1" : "HTTP/1.0";
		s->req.peer_port = (uint16_t)(1000 + i);
		lcpy_call(s, 0);
		fake_flush(s);
		has(s, i % 5 ? "REQUEST_METHOD='GET'" : "REQUEST_METHOD='PUT'");
		has(s, i % 6 ? "SERVER_PROTOCOL='HTTP/1.1'" : "SERVER_PROTOCOL='HTTP/1.0'");
		has(s, "PATH_INFO='/dump'");
		if (i % 4)
			has(s, "QUERY_STRING='x'");
		else
			assert_non_null(strstr(s->body, "QUERY_STRING='tttttttt"));
		(void)snprintf(line, sizeof(line), "REMOTE_PORT='%u'", 1000 + i);
		has(s, line);
		(void)snprintf(line, sizeof(line), k == 2 ? "HTTP_ACCEPT='x,%s'" : "HTTP_USER_AGENT='%s'", ua);
		if (k != 3)
			has(s, line);
		if (k == 2)
			has(s, "HTTP_COOKIE='a; b'");
		else if (k)
			lacks(s, "HTTP_COOKIE");
		else if (i % 3)
			has(s, "HTTP_COOKIE='c=1'");
		else
			assert_non_null(strstr(s->body, "HTTP_COOKIE='bbbbbbbb"));
		if (k >= 2)
			lacks(s, "HTTP_HOST");
		fake_free(s);
	}
}

/* Whatever an application does to its environ, the next one is as if nothing had been. */
static void
test_environ_again(void **state)
{
	static const char *const fields[] = {"host", "h", "cookie", "c=1", "x-unknown", "u", NULL};
	char target[64], want[4096];
	struct lc_stream *s;
	int n = 1;

	for (int i = 0; i < n; i++) {
		for (int j = 0; j < 70; j++) { /* until one is used again, also after the last change */
			s = call("GET", "/only-read?q", fields);
			if (!i && !j)
				(void)snprintf(want, sizeof(want), "%s", s->body);
			assert_string_equal(s->body, want);
			fake_free(s);
		}
		(void)snprintf(target, sizeof(target), "/change?%d", i);
		s = call("GET", target, fields);
		assert_int_equal(s->status, 200);
		n = atoi(s->body);
		fake_free(s);
		for (int j = 0; j < 3; j++) {
			s = call("GET", "/only-read?q", fields);
			assert_string_equal(s->body, want);
			fake_free(s);
		}
		(void)snprintf(target, sizeof(target), "/change-later?%d", i);
		s = call("GET", target, fields);
		if (s->status != 200)
			fail_msg("%s", fake_log);
		fake_free(s);
	}
	assert_true(n > 15);
	/* bodies, other header names, long targets and values in between */
	for (unsigned i = 0; i < 500; i++) {
		static const char *const other[] = {"cookie", "c=2", "host", "h", NULL};
		static char big[2000];
		const char *large[] = {"host", "h", "cookie", big, "x-unknown", "u", NULL};
		unsigned k = i * 7 / 3 % 5;

		memset(big, 'b', sizeof(big) - 1);
		memcpy(big, "/only-read", 10);
		s = fake_stream(k == 1 ? "POST" : "GET", k == 3 ? big : "/only-read?q",
				k == 2   ? other
				: k == 4 ? large
					 : fields);
		if (k == 1)
			fake_body(s, 3, "abc", NULL);
		lcpy_call(s, 0);
		fake_flush(s);
		if (k == 0)
			assert_string_equal(s->body, want);
		if (k == 1)
			assert_null(strstr(s->body, "'GET'"));
		if (k == 2)
			assert_non_null(strstr(s->body, "'c=2'"));
		assert_int_equal(strstr(s->body, "bbbbb") != NULL, k > 2);
		fake_free(s);
	}
}

static void
test_environ_hosts(void **state)
{
	static const char *const two[] = {"host", "ignored", NULL};
	static const char *const plain[] = {"host", "[::1]:81", NULL};
	static const char *const bare[] = {"host", "[::1]", NULL};
	struct lc_stream *s = fake_stream("GET", "/dump", two);

	s->req.authority = (struct lc_str){"wins", 4};
	lcpy_call(s, 0);
	fake_flush(s);
	has(s, "HTTP_HOST='wins'");
	fake_free(s);
	for (int i = 0; i < 3; i++) {
		s = fake_stream("GET", "/dump", i == 0 ? plain : i == 1 ? bare : NULL);
		s->req.local = (struct lc_str){"/run/x.sock", 11};
		s->req.local_port = 0;
		s->req.peer = (struct lc_str){"", 0};
		s->req.peer_port = 0;
		s->req.scheme = (struct lc_str){"https", 5};
		s->req.flags |= LC_R_TLS;
		lcpy_call(s, 0);
		fake_flush(s);
		has(s, i == 2 ? "SERVER_NAME='localhost'" : "SERVER_NAME='[::1]'");
		has(s, i == 0 ? "SERVER_PORT='81'" : "SERVER_PORT='443'");
		has(s, "REMOTE_ADDR=''");
		has(s, "wsgi.url_scheme='https'");
		has(s, "HTTPS='on'");
		fake_free(s);
	}
	s = fake_stream("OPTIONS", "*", NULL);
	lcpy_call(s, 0);
	fake_flush(s);
	has(s, "PATH_INFO=''");
	has(s, "RAW_URI='*'");
	fake_free(s);
	s = get("/dump");
	lacks(s, "HTTPS");
	has(s, "SERVER_NAME='127.0.0.1'");
	has(s, "wsgi.url_scheme='http'");
	fake_free(s);
}

static void
test_many_fields(void **state)
{
	static char names[120][16];
	const char *fields[241];
	struct lc_stream *s;

	for (int i = 0; i < 120; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "x-n%d", i);
		fields[2 * i] = names[i];
		fields[2 * i + 1] = names[i];
	}
	fields[240] = NULL;
	for (int i = 0; i < 3; i++) {
		s = call("GET", "/dump", fields);
		has(s, "HTTP_X_N0='x-n0'");
		has(s, "HTTP_X_N119='x-n119'");
		fake_free(s);
	}
}

static void
test_bodies(void **state)
{
	long before = closed();
	struct lc_stream *s = get("/items");

	assert_int_equal(s->length, 15);
	assert_string_equal(s->body, "one, two, three");
	assert_int_equal(s->writes, 1);
	fake_free(s);
	s = get("/big");
	assert_int_equal(s->length, 150010);
	assert_int_equal(s->body_n, 150010);
	assert_memory_equal(s->body + 99998, "xxyyyyyyyyyyzz", 14);
	fake_free(s);
	s = get("/many");
	assert_int_equal(s->length, 4000);
	assert_int_equal(s->body_n, 4000);
	assert_memory_equal(s->body + 3996, "0999", 4);
	fake_free(s);
	s = get("/gen");
	assert_int_equal(s->length, -1);
	assert_string_equal(s->body, "first second");
	assert_int_equal(s->flushes, 2);
	assert_int_equal(s->finishes, 1);
	fake_free(s);
	assert_int_equal(closed(), before + 1);
	s = get("/nothing");
	assert_int_equal(s->length, 0);
	assert_true(s->fin);
	fake_free(s);
	s = get("/empty-list");
	assert_int_equal(s->status, 304);
	assert_int_equal(s->length, -1);
	assert_string_equal(s->reason, "Not Modified");
	fake_free(s);
	s = get("/no-content");
	assert_int_equal(s->status, 204);
	assert_int_equal(s->length, -1);
	assert_int_equal(s->body_n, 0);
	assert_true(s->fin);
	fake_free(s);
	s = get("/write");
	assert_string_equal(s->body, "written twice, and returned");
	assert_int_equal(s->length, -1);
	fake_free(s);
	s = get("/exact");
	assert_int_equal(s->length, 6);
	assert_string_equal(s->body, "abcdef");
	assert_int_equal(s->resets, 0);
	fake_free(s);
	s = get("/wrapped");
	assert_int_equal(s->body_n, 150000);
	assert_int_equal(s->flushes, 3);
	fake_free(s);
	assert_int_equal(closed(), before + 3);
}

static void
test_head_method(void **state)
{
	static const char *const paths[] = {"/", "/items", "/gen", "/exact", "/short"};
	static const int lengths[] = {13, 15, -1, 6, 10};
	long before = closed();

	for (size_t i = 0; i < 5; i++) {
		struct lc_stream *s = call("HEAD", paths[i], NULL);

		assert_int_equal(s->status, 200);
		assert_int_equal(s->length, lengths[i]);
		assert_int_equal(s->body_n, 0);
		assert_int_equal(s->resets, 0);
		assert_true(s->fin);
		fake_free(s);
	}
	assert_int_equal(closed(), before + 3);
}

static void
test_lengths(void **state)
{
	long before = closed();
	struct lc_stream *s;

	fake_log_clear();
	s = get("/short");
	assert_int_equal(s->length, 10);
	assert_int_equal(s->resets, 1);
	assert_non_null(strstr(fake_log, "sent 3 bytes where its Content-Length is 10"));
	fake_free(s);
	s = get("/long");
	assert_int_equal(s->length, 4);
	assert_string_equal(s->body, "abcd");
	assert_int_equal(s->resets, 0);
	assert_non_null(strstr(fake_log, "more than its Content-Length of 4"));
	fake_free(s);
	assert_int_equal(closed(), before + 2);
	/* write() tells the application; what was promised is complete */
	for (int i = 0; i < 2; i++) {
		const char *p;

		fake_log_clear();
		s = get(i ? "/write-long?caught" : "/write-long");
		assert_string_equal(s->body, "12345");
		assert_int_equal(s->resets, 0);
		assert_true(s->fin);
		fake_free(s);
		p = strstr(fake_log, "more than its Content-Length of 5");
		assert_non_null(p);
		assert_null(strstr(p + 1, "more than its"));
		assert_int_equal(strstr(fake_log, "ValueError: write(): more than the Content-Length of 5") != NULL,
				 !i);
	}
	fake_log_clear();
	s = get("/complete-then-fails");
	assert_string_equal(s->body, "12345");
	assert_int_equal(s->resets, 0);
	assert_true(s->fin);
	assert_non_null(strstr(fake_log, "ValueError: after everything"));
	fake_free(s);
}

static void
test_errors(void **state)
{
	long before = closed();
	struct lc_stream *s;

	expect_500("/raises", "LookupError: no luck \\udc80 today");
	expect_500("/raises", "in raises");
	expect_500("/raises", "today? or tomorrow");
	expect_500("/exits", "SystemExit: 7");
	expect_500("/interrupt", "KeyboardInterrupt");
	expect_500("/early", "ValueError: just in time");
	expect_500("/twice", "a second time without exc_info");
	expect_500("/unstarted", "before it called start_response()");
	expect_500("/unstarted-gen", "before it called start_response()");
	expect_500("/bytes", "returned bytes itself");
	expect_500("/str", "returned str itself");
	expect_500("/none", "'NoneType' object is not iterable");
	expect_500("/list-str", "must be bytes, it has str");
	expect_500("/str-first", "must be bytes, it has str");
	assert_int_equal(closed(), before + 3);
	fake_log_clear();
	s = get("/late");
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, "part");
	assert_int_equal(s->resets, 1);
	assert_non_null(strstr(fake_log, "ValueError: too late"));
	fake_free(s);
	s = get("/mixed");
	assert_int_equal(s->resets, 1);
	fake_free(s);
	s = get("/close-raises");
	assert_string_equal(s->body, "fine");
	assert_int_equal(s->resets, 0);
	assert_non_null(strstr(fake_log, "error in the close() of a response: GET /close-raises"));
	fake_free(s);
	assert_int_equal(closed(), before + 6);
	s = call("HEAD", "/raises", NULL);
	assert_int_equal(s->status, 500);
	assert_int_equal(s->body_n, 0);
	fake_free(s);
}

static void
test_exc_info(void **state)
{
	struct lc_stream *s = get("/replaced");

	assert_int_equal(s->status, 500);
	assert_string_equal(s->reason, "Oh No");
	assert_null(fake_out(s, "x-old"));
	assert_int_equal(s->length, 8);
	assert_string_equal(s->body, "replaced");
	fake_free(s);
	fake_log_clear();
	s = get("/replaced-late");
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, "part");
	assert_int_equal(s->resets, 1);
	assert_non_null(strstr(fake_log, "KeyError: 'inner'"));
	fake_free(s);
}

static void
test_bad_heads(void **state)
{
	struct lc_stream *s = get("/bad-head");

	assert_int_equal(s->status, 299);
	if (s->body_n)
		fail_msg("accepted: %s", s->body);
	assert_string_equal(s->reason, "G\xfct ");
	assert_string_equal(fake_out(s, "X-Latin"), "gr\xfc\xdf dich");
	assert_string_equal(fake_out(s, "X-empty"), "");
	fake_free(s);
}

static void
test_refused_heads(void **state)
{
	struct lc_stream *s;

	expect_500("/refused?again", "a second time without exc_info");
	expect_500("/refused", "sent a body although start_response() had refused its head");
	expect_500("/refused?empty", "came to its end although start_response() had refused its head");
	expect_500("/refused?replaced", "sent a body although");
	s = get("/refused?exc-info");
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, "body");
	fake_free(s);
}

static unsigned
descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

static void
test_file_wrapper(void **state)
{
	static const struct {
		const char *query;
		int status, length, n, from, files; /* n: bytes of the body, of the file from there */
		const char *method, *log;
	} rows[] = {
	    {"big", 200, 102400, 102400, 0, 1},
	    {"default", 200, 102400, 102400, 0, 1},
	    {"small", 200, 1000, 1000, 0, 0},
	    {"raw", 200, 102400, 102400, 0, 1},
	    {"random", 200, 102396, 102396, 4, 1},
	    {"temp", 200, 102400, 102400, 0, 1},
	    {"forwarding", 200, 102400, 102400, 0, 1},
	    {"position:300", 200, 102100, 102100, 300, 1},
	    {"position:102399", 200, 1, 1, 102399, 0},
	    {"position:102400", 200, 0, 0, 0, 0},
	    {"iterated", 200, 97400, 97400, 5000, 1},
	    {"range:50000", 206, 50000, 50000, 0, 1},
	    {"range:10", 206, 10, 10, 0, 0},
	    {"range:0", 206, 0, 0, 0, 0},
	    {"written", 200, -1, 102408, -1, 1},
	    {"written:50008", 200, 50008, 50008, -1, 1},
	    {"written:18", 200, 18, 18, -1, 0},
	    {"written:8", 200, 8, 8, -1, 0},
	    {"short:200000", 200, 200000, 102400, 0, 1, "GET", "sent 102400 bytes where its Content-Length is 200000"},
	    {"big", 200, 102400, 0, 0, 0, "HEAD"},
	    {"range:50000", 206, 50000, 0, 0, 0, "HEAD"},
	    /* not for the system call */
	    {"spooled", 200, -1, 102400, 0, 0},
	    {"gzip", 200, -1, 102400, 0, 0},
	    {"bytesio", 200, -1, 102400, 0, 0},
	    {"subclass", 200, -1, 102400, 0, 0},
	    {"upper", 200, -1, 102400, -1, 0},
	    {"proc", 200, -1, -1, -1, 0},
	    {"pipe", 200, -1, 11, -1, 0},
	    {"text", 500, 22, 22, -1, 0, "GET", "must be bytes, it has str"},
	    {"closed", 500, 22, 22, -1, 0, "GET", "ValueError: read of closed file"},
	    {"not-started", 500, 22, 22, -1, 0, "GET", "before it called start_response()"},
	};
	unsigned before = descriptors();
	struct lc_stream *s;
	long closes;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char target[64];

		closes = closed();
		fake_log_clear();
		(void)snprintf(target, sizeof(target), "/file?%s", rows[i].query);
		s = call(rows[i].method ? rows[i].method : "GET", target, NULL);
		if ((int)s->status != rows[i].status || s->length != rows[i].length ||
		    (rows[i].n >= 0 && s->body_n != (size_t)rows[i].n) || (int)s->files != rows[i].files)
			fail_msg("%s: status %u, length %d, %zu bytes, %u files; %s", target, s->status, (int)s->length,
				 s->body_n, s->files, fake_log);
		for (size_t k = 0; rows[i].from >= 0 && k < s->body_n; k++)
			if ((uint8_t)s->body[k] != (k + (size_t)rows[i].from) % 256)
				fail_msg("%s: byte %zu", target, k);
		assert_true(s->fin || s->resets);
		assert_int_equal(s->resets, strncmp(rows[i].query, "short", 5) == 0);
		if (rows[i].log ? !strstr(fake_log, rows[i].log) : fake_log[0] != '\0')
			fail_msg("%s: %s", target, fake_log);
		fake_free(s);
		if (closed() != closes + 1)
			fail_msg("%s: %ld closes", target, closed() - closes);
	}
	assert_int_equal(descriptors(), before);
	/* the client is gone: nothing of it stays */
	closes = closed();
	s = fake_stream("GET", "/file?written", NULL);
	s->abort_after = 1;
	lcpy_call(s, 0);
	assert_int_equal(s->files, 0);
	fake_free(s);
	assert_int_equal(closed(), closes + 1);
	assert_int_equal(descriptors(), before);
}

static void
test_output(void **state)
{
	static const char *const lines[] = {
	    "4 of the root 1\n",
	    "3 some.name: two\nlines\n",
	    "7 some.name: level DEBUG\n6 some.name: level INFO\n4 some.name: level WARNING\n3 some.name: level ERROR\n",
	    "2 some.name: level CRITICAL\n",
	    "3 some.name: it failed\nTraceback (most recent call last):\n",
	    "LookupError: caught ? one\n",
	    "3 logging failed: ",
	    "pyapps.py:",
	    ": '%d' with ('no number',)\nTraceback (most recent call last):\n",
	    "5 printed 3 in two parts\n",
	    "4 to standard error\nin two lines\n",
	    "5 bytes \xc3\xa9 ?\n",
	    "5 wrapped\n",
	    "UserWarning: mind the gap\n  warnings.warn(",
	    "3 uncaught exception in thread worker bee\nTraceback (most recent call last):\n",
	    "ZeroDivisionError",
	    "5 unfinished\n",
	};
	struct lc_stream *s;

	for (int i = 0; i < 2; i++) {
		fake_log_clear();
		fake_log_levels = 1;
		s = get("/say");
		fake_log_levels = 0;
		if (s->status != 200)
			fail_msg("%s", fake_log);
		fake_free(s);
		for (size_t k = 0; k < sizeof(lines) / sizeof(lines[0]); k++)
			if (!strstr(fake_log, lines[k]) && !(i && strstr(lines[k], "UserWarning")))
				fail_msg("no \"%s\" in:\n%s", lines[k], fake_log);
		assert_null(strstr(fake_log, "not said"));
	}
}

/* A head as applications make it, looked at in full; its memo. */
static uint64_t
head(const char *query, const char *expect)
{
	char target[64], got[256];
	struct lc_stream *s;
	size_t n;
	uint64_t memo;

	(void)snprintf(target, sizeof(target), "/heads?%s", query);
	s = get(target);
	n = (size_t)snprintf(got, sizeof(got), "%u %s %d", s->status, s->reason, (int)s->length);
	for (uint32_t i = 0; i < s->nfields; i++) {
		const struct lc_field *f = &s->out_fields[i];

		n += (size_t)snprintf(got + n, sizeof(got) - n, "; %.*s=%.*s", (int)f->name.n, f->name.p,
				      (int)f->value.n, f->value.p);
		assert_int_equal(f->token, fake_worker.token(f->name.p, f->name.n));
	}
	assert_string_equal(got, expect);
	memo = s->memo;
	fake_free(s);
	return memo;
}

/* Until it is known, which the first time does not make it, and the second mostly. */
static uint64_t
learn(const char *query, const char *expect)
{
	uint64_t memo = 0;

	for (int i = 0; i < 500 && !memo; i++)
		memo = head(query, expect);
	assert_true(memo > 0);
	return memo;
}

#define TYPE "; Content-Type=text/plain"
#define SAME "200  4" TYPE "; X-Foo=foo"

static void
test_heads(void **state)
{
	uint64_t memo, other;

	assert_int_equal(head("same", SAME), 0);
	memo = learn("same", SAME);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(head("same", SAME), memo);
		assert_int_equal(head("fresh-tuples", SAME), memo);
		assert_int_equal(head("mutate-after", SAME), memo);
	}
	/* what differs is never taken for it */
	for (int i = 0; i < 5; i++) {
		assert_true(head("status", "404 Not Found 4" TYPE "; X-Foo=foo") != memo);
		assert_true(head("reordered", "200  4; X-Foo=foo" TYPE) != memo);
		assert_int_equal(head("equal", "200  4; X-Foo=foo"), 0);
		assert_int_equal(head("subclass", SAME), 0);
		assert_int_equal(head("subclass-name", SAME), 0);
	}
	/* each becomes known, at some time */
	for (int i = 0; i < 200; i++) {
		other = head("status", "404 Not Found 4" TYPE "; X-Foo=foo");
		if (other && head("reordered", "200  4; X-Foo=foo" TYPE))
			break;
	}
	assert_true(head("reordered", "200  4; X-Foo=foo" TYPE) > 0);
	assert_true(other > 0 && other != head("reordered", "200  4; X-Foo=foo" TYPE));
	/* a list that changes between calls */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(head("mutable", SAME), memo);
		assert_true(head("mutate", "200  4" TYPE "; Set-Cookie=a=b") != memo);
		assert_true(head("mutable", "200  4" TYPE "; Set-Cookie=a=b") != memo);
		assert_int_equal(head("mutate", SAME), memo);
	}
	/* strings that only a constant list holds look new each time, and are not */
	other = learn("constant", "200  4; X-Foo=only here");
	for (int i = 0; i < 5; i++) {
		assert_int_equal(head("same", SAME), memo);
		assert_int_equal(head("constant", "200  4; X-Foo=only here"), other);
		assert_int_equal(head("constant", "200  4; X-Foo=only here"), other);
	}
	/* replaced by one that is not known */
	assert_int_equal(head("replaced:1", "200  4" TYPE "; X-Number=fresh 1"), 0);
	assert_int_equal(head("alive", "200  1" TYPE "; X-Foo=foo"), memo);
}

static void
test_heads_length(void **state)
{
	uint64_t memo = learn("length:4", SAME);
	struct lc_stream *s;

	/* Content-Length is not part of it */
	for (int i = 0; i < 50; i++) {
		char query[32], expect[128];

		(void)snprintf(query, sizeof(query), "length:%d", i);
		(void)snprintf(expect, sizeof(expect), "200  %d" TYPE "; X-Foo=foo", i);
		assert_int_equal(head(query, expect), memo);
		assert_int_equal(head("length-subclass", SAME), 0);
	}
	/* and still looked at */
	expect_500("/heads?length:", "Content-Length '' is not one number");
	s = get("/heads?length:0004");
	assert_int_equal(s->length, 4);
	fake_free(s);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(head("two-lengths:4", SAME), 0);
		expect_500("/heads?two-lengths:5", "is not one number");
	}
	/* one for all methods */
	for (int i = 0; i < 3; i++) {
		s = call("HEAD", "/heads?length:7", NULL);
		assert_int_equal(s->length, 7);
		assert_int_equal(s->memo, memo);
		assert_int_equal(s->body_n, 0);
		fake_free(s);
	}
}

/* Heads that do not come again are not kept, and of those that do not too many. */
static void
test_heads_many(void **state)
{
	uint64_t memos[200];
	uint32_t known = 0;

	for (int i = 0; i < 3000; i++) {
		char query[32], expect[128];

		(void)snprintf(query, sizeof(query), i & 1 ? "fresh:%d" : "fresh-kept:%d", i);
		(void)snprintf(expect, sizeof(expect), "200  4" TYPE "; X-Number=fresh %d", i);
		assert_int_equal(head(query, expect), 0);
	}
	/* names that are alike to any table, in every order */
	for (int i = 0; i < 8 * 200; i++) {
		char query[32], expect[128];

		(void)snprintf(query, sizeof(query), "names:%d", i % 8);
		(void)snprintf(expect, sizeof(expect), "200  4" TYPE "; X-Name-%d=same", i % 8);
		memos[i % 8] = head(query, expect);
	}
	for (int i = 0; i < 8; i++)
		for (int j = 0; j <= i; j++)
			assert_true(memos[i] > 0 && (i == j || memos[i] != memos[j]));
	for (int i = 0; i < 200 * 60; i++) {
		char query[32], expect[128];
		uint64_t memo;

		(void)snprintf(query, sizeof(query), "distinct:%d", i % 200);
		(void)snprintf(expect, sizeof(expect), "200  4" TYPE "; X-Number=number %d", i % 200);
		memo = head(query, expect);
		if (i >= 200 * 59)
			memos[i % 200] = memo;
	}
	for (int i = 0; i < 200; i++) {
		known += memos[i] != 0;
		for (int j = 0; j < i && memos[i]; j++)
			assert_true(memos[i] != memos[j]);
	}
	assert_true(known > 0 && known <= 64);
	(void)learn("same", SAME);
	/* nothing of the application's own types stays */
	(void)head("subclass", SAME);
	(void)head("subclass-name", SAME);
	assert_true(head("alive", "200  1" TYPE "; X-Foo=foo") > 0);
}

static void
ways(const char *query, int shared, const char *expect)
{
	char target[256];
	struct lc_stream *s;

	(void)snprintf(target, sizeof(target), "/read-ways?%s", query);
	s = fake_stream("POST", target, NULL);
	fake_body(s, -1, "line one\nli", "ne t", "wo\n", "\nlast", NULL);
	if (shared == 2)
		s->given = s->npieces; /* all there: it is taken out at once */
	lcpy_call(s, shared == 1);
	fake_flush(s);
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, expect);
	fake_free(s);
}

static void
test_input(void **state)
{
	for (int i = 0; i < 3; i++) {
		ways("read", i, "[b'line one\\nline two\\n\\nlast']");
		ways("read:-1,read", i, "[b'line one\\nline two\\n\\nlast', b'']");
		ways("read:0,read:4,read:9,read:100", i, "[b'', b'line', b' one\\nline', b' two\\n\\nlast']");
		ways("readline,readline:3,readline,readline,readline,readline", i,
		     "[b'line one\\n', b'lin', b'e two\\n', b'\\n', b'last', b'']");
		ways("readline:0,read:2,readline,read", i, "[b'', b'li', b'ne one\\n', b'line two\\n\\nlast']");
		ways("readlines", i, "[[b'line one\\n', b'line two\\n', b'\\n', b'last']]");
		ways("readlines:10,read", i, "[[b'line one\\n', b'line two\\n'], b'\\nlast']");
		ways("next,iter", i, "[b'line one\\n', [b'line two\\n', b'\\n', b'last']]");
	}
}

static void
test_input_big(void **state)
{
	static char piece[100001];
	struct lc_stream *s;

	memset(piece, 'p', sizeof(piece) - 1);
	for (int known = 0; known < 2; known++) {
		s = fake_stream("POST", "/length", NULL);
		fake_body(s, known ? 500000 : -1, piece, piece, piece, piece, piece, NULL);
		lcpy_call(s, 0);
		fake_flush(s);
		assert_string_equal(s->body, "500000");
		fake_free(s);
	}
	/* a lie of a length must not cost memory */
	s = fake_stream("POST", "/length", NULL);
	fake_body(s, INT64_MAX, "x", NULL);
	lcpy_call(s, 0);
	fake_flush(s);
	assert_string_equal(s->body, "1");
	fake_free(s);
	s = fake_stream("POST", "/length", NULL);
	fake_body(s, 0, NULL);
	lcpy_call(s, 0);
	fake_flush(s);
	assert_string_equal(s->body, "0");
	fake_free(s);
}

static void
test_input_lost(void **state)
{
	static const int errors[] = {-ECONNRESET, -ETIMEDOUT, -EMSGSIZE};
	static const char *const names[] = {"ConnectionResetError", "TimeoutError", "OSError"};

	for (int i = 0; i < 3; i++) {
		struct lc_stream *s = fake_stream("POST", "/swallow", NULL);

		fake_body(s, 100, "part", NULL);
		s->read_error = errors[i];
		lcpy_call(s, 0);
		fake_flush(s);
		assert_string_equal(s->body, names[i]);
		fake_free(s);
		/* not caught: an answer where there is one to give, and no traceback about a client that went */
		fake_log_clear();
		s = fake_stream("POST", "/length", NULL);
		fake_body(s, 100, "part", NULL);
		s->read_error = errors[i];
		lcpy_call(s, 0);
		fake_flush(s);
		assert_int_equal(s->status, i == 2 ? 413 : 0);
		assert_int_equal(fake_log[0] != '\0', i == 2);
		assert_int_equal(s->releases, 1);
		fake_free(s);
	}
}

static void
test_lost_client(void **state)
{
	long before = closed();
	struct lc_stream *s = fake_stream("GET", "/gen-big", NULL);

	s->room = 50000;
	s->abort_after = 150000;
	fake_log_clear();
	lcpy_call(s, 0);
	fake_flush(s);
	assert_true(s->body_n < 250000);
	assert_true(s->waits >= 1);
	assert_int_equal(s->releases, 1);
	assert_string_equal(fake_log, "");
	fake_free(s);
	assert_int_equal(closed(), before + 1);
	/* and with one that stays: back-pressure, everything arrives */
	s = fake_stream("GET", "/gen-big", NULL);
	s->room = 50000;
	lcpy_call(s, 0);
	fake_flush(s);
	assert_int_equal(s->body_n, 2000000);
	assert_true(s->waits >= 20);
	fake_free(s);
	assert_int_equal(closed(), before + 2);
	/* write() tells the application; that it does not care is its business */
	fake_log_clear();
	s = fake_stream("GET", "/write", NULL);
	s->abort_after = 1;
	lcpy_call(s, 0);
	assert_string_equal(fake_log, "");
	assert_int_equal(s->releases, 1);
	fake_free(s);
	lcpy_drain();
}

static void
test_kept(void **state)
{
	struct lc_stream *s = fake_stream("POST", "/keep", NULL);

	fake_body(s, 3, "abc", NULL);
	lcpy_call(s, 0);
	fake_flush(s);
	assert_string_equal(s->body, "kept");
	fake_free(s);
	fake_free(get("/"));
	s = get("/use-kept");
	assert_string_equal(s->body, "RuntimeError RuntimeError ValueError ValueError /keep");
	fake_free(s);
	/* the objects that were kept are gone; those in use are sound */
	fake_free(get("/write"));
	fake_free(get("/items"));
}

/* The last test: what it leaves outlives lcpy_fini()'s part. */
static void
test_kept_to_the_end(void **state)
{
	static const char *const what[] = {"start", "environ", "input", "write"};

	for (int i = 0; i < 8; i++) {
		char target[64];
		struct lc_stream *s;

		(void)snprintf(target, sizeof(target), "/keep-to-the-end?%s", what[i % 4]);
		s = fake_stream("POST", target, NULL);
		if (i & 1)
			fake_body(s, 3, "abc", NULL);
		lcpy_call(s, 0);
		fake_flush(s);
		assert_string_equal(s->body, "kept");
		fake_free(s);
	}
}

static void
test_threads(void **state)
{
	struct lc_stream *s = fake_stream("POST", "/in-thread", NULL);

	/* complete: taken out in advance */
	fake_body(s, 3, "abc", NULL);
	s->checks = 1;
	s->only = pthread_self();
	lcpy_call(s, 0);
	fake_flush(s);
	assert_string_equal(s->body, "[b'abc']");
	assert_int_equal(s->violations, 0);
	fake_free(s);
	/* incomplete and not shared: refused */
	s = fake_stream("POST", "/in-thread", NULL);
	fake_body(s, 6, "abc", "def", NULL);
	s->checks = 1;
	s->only = pthread_self();
	lcpy_call(s, 0);
	fake_flush(s);
	assert_string_equal(s->body, "['RuntimeError']");
	assert_int_equal(s->violations, 0);
	fake_free(s);
	/* shared: fine */
	s = fake_stream("POST", "/in-thread", NULL);
	fake_body(s, 6, "abc", "def", NULL);
	lcpy_call(s, 1);
	fake_flush(s);
	assert_string_equal(s->body, "[b'abcdef']");
	fake_free(s);
}

static void
test_wsgi_errors(void **state)
{
	struct lc_stream *s;
	const char *p;

	fake_log_clear();
	s = get("/errors");
	assert_string_equal(s->body, "TypeError");
	assert_non_null(strstr(fake_log, "half a line \xe2\x82\xac \\ud800\na\nb\nxxx"));
	assert_non_null(strstr(fake_log, "\nunfinished\nat the end\n"));
	p = strchr(fake_log, 'x');
	assert_int_equal(strcspn(p, "\n"), 4096);
	fake_free(s);
}

static void
test_validator(void **state)
{
	static const char *const fields[] = {"host", "h", "content-length", "6", "content-type", "text/plain", NULL};
	struct lc_stream *s;

	fake_log_clear();
	s = get("/valid-hello");
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, "Hello, World!");
	fake_free(s);
	s = fake_stream("POST", "/valid?x=%20y", fields);
	fake_body(s, 6, "abc", "def", NULL);
	lcpy_call(s, 1);
	fake_flush(s);
	assert_int_equal(s->status, 200);
	assert_string_equal(s->body, "abcdef");
	fake_free(s);
	assert_string_equal(fake_log, "");
}

static void
numbers(long n[8])
{
	struct lc_stream *s = get("/objects");
	char *p = s->body;

	for (int i = 0; i < 8; i++)
		n[i] = strtol(p, &p, 10);
	fake_free(s);
}

static void
one_of_each(unsigned i)
{
	static const char *const paths[] = {"/",         "/dump",     "/items",         "/big",   "/gen",   "/write",
					    "/raises",   "/replaced", "/replaced-late", "/late",  "/bytes", "/twice",
					    "/bad-head", "/exits",    "/long",          "/short", "/errors"};
	static const char *const fields[] = {"host", "h", "cookie", "a", "cookie", "b", "x-y", "z", NULL};
	struct lc_stream *s = fake_stream(i % 3 ? "GET" : "HEAD", paths[i % 17], i % 2 ? fields : NULL);

	if (i % 4 == 0)
		fake_body(s, -1, "abc\n", "def\n", NULL);
	lcpy_call(s, (int)(i & 1));
	fake_free(s);
	lcpy_drain();
}

/* Ten thousand requests of all sorts leave the interpreter as it was. */
static void
test_leaks(void **state)
{
	long a[8], b[8];

	for (unsigned i = 0; i < 600; i++)
		one_of_each(i);
	fake_log_clear();
	numbers(a);
	numbers(a);
	for (unsigned i = 0; i < 17 * 3 * 4 * 50; i++) {
		one_of_each(i);
		fake_log_clear();
	}
	numbers(b);
	for (int i = 0; i < 7; i++)
		if (labs(b[i] - a[i]) > 3)
			fail_msg("number %d was %ld, is %ld", i, a[i], b[i]);
	if (labs(b[7] - a[7]) > 500) /* Python's own caches settle late; a leak would be 10,000 */
		fail_msg("allocated blocks: %ld, then %ld", a[7], b[7]);
}

static int
start(void **state)
{
	static const char *const path[] = {LCPY_TEST_DIR};
	static const char *const env[] = {"LICORNE_TEST", "yes"};
	const struct lcpy_conf conf = {
	    .app = "pyapps:Holder.inner", .capture_output = 1, .pythonpath = {path, 1}, .env = {env, 2}};
	const struct lcpy_facts facts = {1, 1};

	if (lcpy_load(NULL) < 0)
		return -1;
	if (lcpy_init(NULL, &fake_worker, &conf, &facts) == 0)
		return 0;
	print_error("%s\n", fake_boot);
	return -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hello),         cmocka_unit_test(test_environ),
	    cmocka_unit_test(test_environ_mix),   cmocka_unit_test(test_environ_hosts),
	    cmocka_unit_test(test_environ_again), cmocka_unit_test(test_many_fields),
	    cmocka_unit_test(test_bodies),        cmocka_unit_test(test_head_method),
	    cmocka_unit_test(test_lengths),       cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_exc_info),      cmocka_unit_test(test_bad_heads),
	    cmocka_unit_test(test_heads),         cmocka_unit_test(test_heads_length),
	    cmocka_unit_test(test_heads_many),    cmocka_unit_test(test_input),
	    cmocka_unit_test(test_input_big),     cmocka_unit_test(test_input_lost),
	    cmocka_unit_test(test_lost_client),   cmocka_unit_test(test_kept),
	    cmocka_unit_test(test_threads),       cmocka_unit_test(test_wsgi_errors),
	    cmocka_unit_test(test_validator),     cmocka_unit_test(test_leaks),
	    cmocka_unit_test(test_refused_heads), cmocka_unit_test(test_output),
	    cmocka_unit_test(test_file_wrapper),  cmocka_unit_test(test_kept_to_the_end),
	};

	int failed = cmocka_run_group_tests(tests, start, NULL);

	lcpy_fini(); /* not as tear-down, where a crash would be reported and the test still pass */
	return failed;
}
