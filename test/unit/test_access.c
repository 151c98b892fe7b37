/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_access.c - formats, lines and sinks of the access log: what is written, that nothing a client sends breaks a
 * line or its JSON, that lines keep to their room, and that a sink which takes nothing costs lines and not time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <licorne/tokens.h>

#include "log/access.h"
#include "log/log.h"
#include "log/render.h"

#define S(x)                     \
	(struct lc_str)          \
	{                        \
		x, sizeof(x) - 1 \
	}
#define SECOND UINT64_C(1000000000)

static struct lc_field fields[] = {
    {.name = S("host"), .value = S("Example.COM:8080"), .token = LC_TOK_HOST},
    {.name = S("user-agent"), .value = S("curl/8.1 \"q\" \\"), .token = LC_TOK_USER_AGENT},
    {.name = S("authorization"), .value = S("Basic YWxpY2U6czNjcmV0"), .token = LC_TOK_AUTHORIZATION},
    {.name = S("x-own"), .value = S("one")},
    {.name = S("cookie"), .value = S("a=1; sid=abc; b=2"), .token = LC_TOK_COOKIE},
    {.name = S("x-own"), .value = S("two")},
};
static struct lc_field sent[] = {
    {.name = S("Content-Type"), .value = S("text/plain"), .token = LC_TOK_CONTENT_TYPE},
    {.name = S("X-Thing"), .value = S("yes")},
    {.name = S("ETag"), .value = S("\"e\"")}, /* an application that fills in no tokens */
};
static struct lc_req req = {
    .size = sizeof(req),
    .method = S("GET"),
    .scheme = S("https"),
    .authority = S("Example.COM:8080"),
    .target = S("/a%20b?x=1"),
    .path = S("/a%20b%zz%4"),
    .query = S("x=1"),
    .fields = fields,
    .nfields = sizeof(fields) / sizeof(fields[0]),
    .peer = S("192.0.2.7"),
    .local = S("198.51.100.1"),
    .peer_port = 40000,
    .local_port = 443,
    .protocol = S("HTTP/1.1"),
};
static struct lc_record rec = {
    .req = &req,
    .sent = sent,
    .nsent = 3,
    .status = 200,
    .now = 5 * SECOND,
    .took = 1234567890,
    .body_sent = 13,
    .all_sent = 150,
    .body_received = 7,
    .connection = 42,
    .connection_requests = 3,
    .complete = 1,
};

static struct lc_logfmt *
format(const char *text, int json)
{
	struct lc_logfmt *f = NULL;
	char msg[512] = "";

	if (lc_logfmt_parse(&f, text, json, msg, sizeof(msg)) < 0)
		fail_msg("%s: %s", text, msg);
	return f;
}

static char line[1 << 16];

/* In a second of our own choice: 2026-02-03 04:05:06.789 UTC. */
static struct lc_logclock
fixed_clock(void)
{
	struct lc_logclock c = {.until = 6 * SECOND, .ahead = UINT64_C(1770091506789000000) - 5 * SECOND};

	c.local_n = (uint32_t)sprintf(c.local, "03/Feb/2026:04:05:06 +0000");
	c.iso_n = (uint32_t)sprintf(c.iso, "2026-02-03T04:05:06+00:00");
	c.pid_n = (uint32_t)sprintf(c.pid, "77");
	return c;
}

static const char *
rendered(const char *text, int json)
{
	struct lc_logfmt *f = format(text, json);
	struct lc_logclock c = fixed_clock();
	size_t n = lc_render(f, &rec, &c, line, sizeof(line));

	assert_true(n > 0 && line[n - 1] == '\n');
	line[n - 1] = 0;
	assert_null(memchr(line, '\n', n - 1));
	free(f);
	return line;
}

static void
test_variables(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
	    {"$remote_addr $remote_port $remote_user", "192.0.2.7 40000 alice"},
	    {"[$time_local] $time_iso8601 $msec",
	     "[03/Feb/2026:04:05:06 +0000] 2026-02-03T04:05:06+00:00 1770091506.789"},
	    {"\"$request\" $request_method $request_uri", "\"GET /a%20b?x=1 HTTP/1.1\" GET /a%20b?x=1"},
	    {"$uri$is_args$args $query_string", "/a b%zz%4?x=1 x=1"},
	    {"$server_protocol $status $body_bytes_sent $bytes_sent", "HTTP/1.1 200 13 150"},
	    {"$request_time ${status}0", "1.234 2000"},
	    {"$host $scheme $server_addr $server_port", "example.com https 198.51.100.1 443"},
	    {"$http_user_agent|$http_x_own|$http_x_none|$http_referer", "curl/8.1 \\x22q\\x22 \\x5c|one, two|-|-"},
	    {"$sent_http_content_type $sent_http_x_thing $sent_http_etag $sent_http_no",
	     "text/plain yes \\x22e\\x22 -"},
	    {"$cookie_sid $cookie_a $cookie_b $cookie_si", "abc 1 2 -"},
	    {"$pid $connection $connection_requests $request_completion", "77 42 3 OK"},
	    /* the request line and CR LF: 25; six fields, each as "name: value" CR LF: 142; CR LF: 2; body: 7 */
	    {"$request_length", "176"},
	    {"$content_type $content_length", "- -"},
	    {"100%% ${remote_addr}x\ty", "100% 192.0.2.7x\ty"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(rendered(rows[i].text, 0), rows[i].want);
}

/* The default format string of those who know the atoms, and all of them. */
static void
test_atoms(void **state)
{
	assert_string_equal(rendered("%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"", 0),
			    "192.0.2.7 - alice [03/Feb/2026:04:05:06 +0000] \"GET /a%20b?x=1 HTTP/1.1\" 200 13 \"-\" "
			    "\"curl/8.1 \\x22q\\x22 \\x5c\"");
	assert_string_equal(rendered("%(m)s %(U)s %(q)s %(H)s %(B)s %(T)s %(M)s %(D)s %(L)s %(p)s", 0),
			    "GET /a b%zz%4 x=1 HTTP/1.1 13 1 1234 1234567 1.234567 <77>");
	assert_string_equal(rendered("%({X-Own}i)s %({user-agent}i)s %({Content-type}o)s %({X-thing}o)s %({n}i)s%%", 0),
			    "one, two curl/8.1 \\x22q\\x22 \\x5c text/plain yes -%");
	assert_string_equal(rendered("%(D)d $status", 0), "1234567 200");
	rec.body_sent = 0;
	assert_string_equal(rendered("%(b)s %(B)s", 0), "- 0");
	rec.body_sent = 13;
}

static void
test_builtin(void **state)
{
	int json;

	assert_null(lc_logfmt_builtin("combine", &json));
	assert_string_equal(rendered(lc_logfmt_builtin("combined", &json), 0),
			    "192.0.2.7 - alice [03/Feb/2026:04:05:06 +0000] \"GET /a%20b?x=1 HTTP/1.1\" 200 13 \"-\" "
			    "\"curl/8.1 \\x22q\\x22 \\x5c\"");
	assert_int_equal(json, 0);
	assert_string_equal(rendered(lc_logfmt_builtin("common", &json), 0),
			    "192.0.2.7 - alice [03/Feb/2026:04:05:06 +0000] \"GET /a%20b?x=1 HTTP/1.1\" 200 13");
	assert_string_equal(
	    rendered(lc_logfmt_builtin("json", &json), 1),
	    "{\"time\":\"2026-02-03T04:05:06+00:00\",\"remote_addr\":\"192.0.2.7\",\"remote_user\":\"alice\","
	    "\"method\":\"GET\",\"uri\":\"/a%20b?x=1\",\"protocol\":\"HTTP/1.1\",\"host\":\"example.com\","
	    "\"status\":200,\"body_bytes_sent\":13,\"request_time\":1.234,\"referer\":\"\",\"user_agent\":"
	    "\"curl/8.1 \\\"q\\\" \\\\\",\"pid\":77,\"connection\":42}");
	assert_int_equal(json, 1);
}

/* Of a request that was refused before it was understood nothing is known. */
static void
test_nothing_known(void **state)
{
	static struct lc_req none = {.size = sizeof(none)};
	int json;

	rec.req = &none;
	rec.sent = NULL;
	rec.nsent = 0;
	rec.complete = 0;
	rec.status = 400;
	assert_string_equal(rendered("$remote_addr|$remote_user|$request|$host|$uri|$http_a|$sent_http_a|$cookie_a", 0),
			    "unix:|-|-|-|-|-|-|-");
	assert_string_equal(rendered("$request_completion|$status|$is_args|$args", 0), "-|400||-");
	assert_string_equal(rendered("[$request][$host][$http_a]", 1), "[][][]");
	assert_non_null(strstr(rendered(lc_logfmt_builtin("json", &json), 1), "\"method\":\"\",\"uri\":\"\""));
	rec.req = &req;
	rec.sent = sent;
	rec.nsent = 3;
	rec.complete = 1;
	rec.status = 200;
}

static void
test_refused_formats(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
	    {"", "there is nothing in it"},
	    {"$", "a \"$\" without a name"},
	    {"a $ b", "a \"$\" without a name"},
	    {"${status", "\"${status\" is not closed"},
	    {"$statsu", "variable \"$statsu\" is not known, did you mean \"$status\"?"},
	    {"$remote_adr", "did you mean \"$remote_addr\"?"},
	    {"$nothing_like_it",
	     "variable \"$nothing_like_it\" is not known, expected one of those in docs/logging.md"},
	    {"$http_", "is not known"},
	    {"100%", "a \"%\" that begins no atom"},
	    {"%(s", "a \"%\" that begins no atom"},
	    {"%(s)", "a \"%\" that begins no atom"},
	    {"%(s)5s", "\"%(s)5\": expected an \"s\" behind it"},
	    {"%(X)s", "atom \"%(X)s\" is not known"},
	    {"%({wsgi.input}e)s", "what the application is called with is not known to the log"},
	    {"%({}i)s", "is not known"},
	    {"a\nb", "a line end or another control character"},
	    {"a\x7f", "a line end or another control character"},
	};
	char msg[512];
	char *much = calloc(1, 8192);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(lc_logfmt_parse(NULL, rows[i].text, 0, msg, sizeof(msg)), -EINVAL);
		if (!strstr(msg, rows[i].why))
			fail_msg("%s: \"%s\" instead of \"%s\"", rows[i].text, msg, rows[i].why);
	}
	memset(much, 'x', 4000);
	assert_int_equal(lc_logfmt_parse(NULL, much, 0, msg, sizeof(msg)), -EINVAL);
	assert_non_null(strstr(msg, "expected at most 3072"));
	*much = 0;
	for (int i = 0; i < 200; i++)
		strcat(much, "$is_args ");
	assert_int_equal(lc_logfmt_parse(NULL, much, 0, msg, sizeof(msg)), -EINVAL);
	assert_non_null(strstr(msg, "too many variables"));
	free(much);
}

/* ---- what clients send ---- */

/* A JSON text (RFC 8259), strictly; the position behind it, or NULL.  Values of strings go to *ret. */
static const unsigned char *json_value(const unsigned char *p, const unsigned char *end, unsigned *ret, size_t *ret_n);

static const unsigned char *
json_string(const unsigned char *p, const unsigned char *end, unsigned *ret, size_t *ret_n)
{
	size_t n = 0;

	if (p == end || *p++ != '"')
		return NULL;
	while (p < end && *p != '"') {
		unsigned c = *p++;
		if (c < 0x20)
			return NULL;
		if (c == '\\') {
			if (p == end)
				return NULL;
			c = *p++;
			if (c == 'u') {
				char digits[5] = "", *stop;
				if (end - p < 4)
					return NULL;
				memcpy(digits, p, 4);
				c = (unsigned)strtoul(digits, &stop, 16);
				if (stop != digits + 4)
					return NULL;
				p += 4;
			} else if (!strchr("\"\\/bfnrt", (int)c) || !c) {
				return NULL;
			}
		} else if (c >= 0x80) { /* must be UTF-8: no other bytes are JSON */
			int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
			if (c < 0xc2 || c > 0xf4 || end - p < more)
				return NULL;
			c &= 0x3fu >> more;
			while (more--) {
				if ((*p & 0xc0) != 0x80)
					return NULL;
				c = c << 6 | (*p++ & 0x3f);
			}
			if (c >= 0xd800 && c < 0xe000)
				return NULL;
		}
		if (ret)
			ret[n] = c;
		n++;
	}
	if (ret_n)
		*ret_n = n;
	return p < end ? p + 1 : NULL;
}

static const unsigned char *
json_value(const unsigned char *p, const unsigned char *end, unsigned *ret, size_t *ret_n)
{
	if (p < end && *p == '"')
		return json_string(p, end, ret, ret_n);
	const unsigned char *from = p;
	while (p < end && ((*p >= '0' && *p <= '9') || *p == '.'))
		p++;
	return p > from ? p : NULL;
}

/* An object of strings and numbers; the value of `key` goes to *ret. */
static int
json_object(const char *text, size_t n, const char *key, unsigned *ret, size_t *ret_n)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + n;
	unsigned name[64];
	size_t name_n;

	if (!n || *p++ != '{')
		return 0;
	for (;;) {
		const unsigned char *at = p;
		size_t k = 0;
		p = json_string(p, end, NULL, &name_n);
		if (!p || name_n >= 64 || p == end || *p != ':')
			return 0;
		json_string(at, end, name, &name_n);
		while (k < name_n && name[k] == (unsigned char)key[k])
			k++;
		int wanted = k == name_n && !key[k];
		p = json_value(p + 1, end, wanted ? ret : NULL, wanted ? ret_n : NULL);
		if (!p || p == end)
			return 0;
		if (*p == '}')
			return p + 1 == end;
		if (*p++ != ',')
			return 0;
	}
}

/* Each byte alone, at each place of a word: in text nothing but printable ASCII, and it can be read back. */
static void
test_every_byte(void **state)
{
	struct lc_logfmt *text = format("<$request_uri>", 0),
			 *json = format("{\"u\":\"$request_uri\",\"s\":$status}", 1);
	struct lc_logclock c = fixed_clock();
	unsigned back[64];
	char value[32], want[16];
	size_t n;

	for (unsigned b = 0; b < 256; b++)
		for (unsigned len = 1; len < 20; len++)
			for (unsigned at = 0; at < len; at++) {
				memset(value, 'a', sizeof(value));
				value[at] = (char)b;
				req.target = (struct lc_str){value, len};
				n = lc_render(text, &rec, &c, line, sizeof(line));
				if (b >= 0x20 && b < 0x7f && b != '"' && b != '\\') {
					assert_int_equal(n, len + 3);
					assert_memory_equal(line + 1, value, len);
				} else {
					assert_int_equal(n, len + 6);
					sprintf(want, "\\x%02x", b);
					assert_memory_equal(line + 1 + at, want, 4);
				}
				assert_memory_equal(line + n - 2, ">\n", 2);
				size_t back_n = 0;
				n = lc_render(json, &rec, &c, line, sizeof(line));
				assert_true(json_object(line, n - 1, "u", back, &back_n));
				assert_int_equal(back_n, len);
				assert_int_equal(back[at], b); /* Latin-1 */
			}
	free(text);
	free(json);
	req.target = S("/a%20b?x=1");
}

static void
test_utf8(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
	    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
	    {"\xe2\x82\xac\xf0\x9f\xa6\x84", "\xe2\x82\xac\xf0\x9f\xa6\x84"},
	    {"\xc2\x85\xe2\x80\xa8\xe2\x80\xa9", "\\u0085\\u2028\\u2029"}, /* line ends for some */
	    {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"},                     /* a surrogate */
	    {"\xc0\x80\xff", "\\u00c0\\u0080\\u00ff"},
	    {"a\xc3", "a\\u00c3"},
	    {"\x1b[31m\n\"\\", "\\u001b[31m\\u000a\\\"\\\\"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		req.target = (struct lc_str){rows[i].in, strlen(rows[i].in)};
		assert_string_equal(rendered("$request_uri", 1), rows[i].out);
	}
	req.target = S("/a%20b?x=1");
}

static uint64_t seed = 88172645463325252u;

static unsigned
any(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 20) % n;
}

/* Anything as any value, in every format and any room: one line, within its room, valid JSON. */
static void
test_anything(void **state)
{
	static const char *const texts[] = {
	    "combined",
	    "json",
	    ("{\"a\":\"$http_x_own $request $uri\",\"b\":\"$args$cookie_a$remote_user$http_x_own\",\"c\":$status,\"d\":"
	     "\"$sent_http_x_thing$host%({x-own}i)s\"}"),
	    "$http_x_own$http_x_own $uri $request $remote_user $sent_http_etag $cookie_b %(U)s %(a)s",
	};
	static char noise[6][5000];
	struct lc_field many[40], answer[5];
	struct lc_req q = req;
	struct lc_record r = rec;
	struct lc_logclock c = fixed_clock();

	r.req = &q;
	for (int round = 0; round < 4000; round++) {
		int kind = (int)any(4), json = kind == 1 || kind == 2;
		struct lc_str v[6];
		for (int k = 0; k < 6; k++) {
			unsigned n = any(4) ? any(64) : any(5000), style = any(4);
			for (unsigned i = 0; i < n; i++)
				noise[k][i] = style == 0   ? (char)any(256)
					      : style == 1 ? "\"\\\n\r\x1b\x7f%2"[any(8)]
					      : style == 2 ? "\xe2\x82\xac\xc3\xbc"[any(5)]
							   : (char)('a' + any(26));
			v[k] = (struct lc_str){noise[k], n};
		}
		q.method = v[0];
		q.target = v[1];
		q.path = v[2];
		q.query = q.authority = v[3];
		q.protocol = q.peer = v[4];
		q.fields = many;
		q.nfields = any(40);
		for (uint32_t i = 0; i < q.nfields; i++) {
			struct lc_field *f = &many[i];
			*f = (struct lc_field){.name = S("x-own"), .value = v[any(6)]};
			if (any(2)) {
				f->token = (uint16_t)(any(3) == 0   ? LC_TOK_COOKIE
						      : any(2) == 0 ? LC_TOK_AUTHORIZATION
								    : LC_TOK_USER_AGENT);
				f->name = S("named");
			}
		}
		r.sent = answer;
		r.nsent = any(5);
		for (uint32_t i = 0; i < r.nsent; i++)
			answer[i] = (struct lc_field){.name = any(2) ? S("X-Thing") : S("etag"), .value = v[any(6)]};
		const char *text = texts[kind];
		int is_json = json;
		if (kind < 2)
			text = lc_logfmt_builtin(text, &is_json);
		struct lc_logfmt *f = format(text, is_json);
		size_t room = any(3) ? LC_LOGFMT_FIXED + 16 + any(6000) : sizeof(line) / 2;
		char *to = malloc(room + 1); /* the sanitizer looks behind it; so do we */
		assert_non_null(to);
		to[room] = 'E';
		size_t n = lc_render(f, &r, &c, to, room);
		assert_true(n > 0 && n <= room);
		assert_int_equal(to[room], 'E');
		assert_ptr_equal(memchr(to, '\n', n), to + n - 1);
		if (is_json) {
			if (!json_object(to, n - 1, "", NULL, NULL))
				fail_msg("no JSON: %.*s", (int)n, to);
		} else {
			for (size_t i = 0; i + 1 < n; i++)
				assert_true(to[i] >= 0x20 && to[i] < 0x7f);
		}
		free(to);
		free(f);
	}
}

static void
test_cut(void **state)
{
	static char longer[6000];

	memset(longer, 'x', sizeof(longer));
	req.target = (struct lc_str){longer, sizeof(longer)};
	const char *s = rendered("$request_uri|$status", 0);
	assert_int_equal(strlen(s), LC_RENDER_FIELD + 3 + 4);
	assert_string_equal(s + LC_RENDER_FIELD, "...|200");
	memset(longer, '\xc3', sizeof(longer));
	for (size_t i = 2; i < sizeof(longer); i += 2)
		longer[i] = '\xbc';
	longer[0] = 'a'; /* characters of two bytes, of which the cut would fall into one */
	s = rendered("$request_uri|$status", 1);
	assert_int_equal(strlen(s), LC_RENDER_FIELD - 1 + 3 + 4);
	assert_null(strstr(s, "\\u"));
	req.target = S("/a%20b?x=1");
}

static void
test_clock(void **state)
{
	struct lc_logfmt *f = format("$time_local|$time_iso8601|$msec|$pid", 0);
	struct lc_logclock c = {0};
	struct timespec mono, wall;
	struct tm tm;
	char want[200], local[64], iso[64];
	size_t n;

	setenv("TZ", "Somewhere-05:30", 1);
	tzset();
	do { /* both clocks in one second */
		clock_gettime(CLOCK_REALTIME, &wall);
		clock_gettime(CLOCK_MONOTONIC, &mono);
		rec.now = (uint64_t)mono.tv_sec * SECOND + (uint64_t)mono.tv_nsec;
		c.until = 0;
		n = lc_render(f, &rec, &c, line, sizeof(line));
	} while (clock_gettime(CLOCK_REALTIME, &(struct timespec){0}) == 0 && time(NULL) != wall.tv_sec);
	line[n - 1] = 0;
	localtime_r(&wall.tv_sec, &tm);
	strftime(local, sizeof(local), "%d/%b/%Y:%H:%M:%S +0530", &tm);
	strftime(iso, sizeof(iso), "%Y-%m-%dT%H:%M:%S+05:30", &tm);
	snprintf(want, sizeof(want), "%s|%s|%lld.", local, iso, (long long)wall.tv_sec);
	assert_memory_equal(line, want, strlen(want));
	assert_true(c.until > rec.now && c.until <= rec.now + SECOND);
	rec.now = 5 * SECOND;
	unsetenv("TZ");
	tzset();
	free(f);
}

/* ---- sinks ---- */

static int saved_err, said;
static char told[1 << 16];

static const char *
errors(void)
{
	ssize_t n = pread(said, told, sizeof(told) - 1, 0);

	told[n < 0 ? 0 : n] = 0;
	return told;
}

static int
setup(void **state)
{
	saved_err = dup(2);
	said = memfd_create("said", MFD_CLOEXEC);
	assert_true(saved_err >= 0 && said >= 0 && dup2(said, 2) == 2);
	return 0;
}

static int
teardown(void **state)
{
	dup2(saved_err, 2);
	close(saved_err);
	close(said);
	return 0;
}

static struct lc_access *
to_fd(int fd, const char *text)
{
	struct lc_access *a = lc_access_new();

	assert_non_null(a);
	assert_int_equal(lc_access_add(a, "the log", fd, format(text, 0)), 0);
	return a;
}

/* Reads all that is there; every line is whole, and their numbers grow. */
static unsigned
whole_lines(int fd, unsigned *last)
{
	static char buf[4 << 20];
	unsigned count = 0, number;
	ssize_t n = 0, r;
	int used;

	while (n < (ssize_t)sizeof(buf) - 1 && (r = read(fd, buf + n, sizeof(buf) - 1 - (size_t)n)) > 0)
		n += r;
	buf[n] = 0;
	for (char *p = buf; *p; p += used) {
		used = 0;
		if (sscanf(p, "line %u end%n", &number, &used) != 1 || !used || p[used] != '\n')
			fail_msg("no whole line: %.60s", p);
		assert_true(number > *last);
		*last = number;
		used++;
		count++;
	}
	return count;
}

static void
write_lines(struct lc_access *a, unsigned from, unsigned to)
{
	for (rec.connection = from; rec.connection <= to; rec.connection++)
		lc_access_write(a, &rec);
	rec.connection = 42;
}

#define NUMBERED "line $connection end"

/* The file from its beginning, with a position of its own. */
static int
reader(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int r = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(r >= 0);
	return r;
}

static void
test_file(void **state)
{
	int one = memfd_create("one", 0), two = memfd_create("two", 0), first = reader(one), second = reader(two);
	struct lc_access *a = to_fd(one, NUMBERED);
	unsigned last = 0;

	write_lines(a, 1, 10000); /* more than the buffer */
	lc_access_flush(a, rec.now);
	lc_access_flush(NULL, rec.now);
	assert_int_equal(whole_lines(first, &last), 10000);
	write_lines(a, 10001, 10002); /* what was collected belongs to the old file */
	lc_access_reopen(a, 0, dup(two));
	write_lines(a, 10003, 10003);
	lc_access_reopen(a, 1, dup(two)); /* no such log */
	lc_access_free(a);
	assert_int_equal(whole_lines(first, &last), 2);
	assert_int_equal(whole_lines(second, &last), 1);
	assert_string_equal(errors(), "");
	close(first);
	close(second);
	close(two);
}

static void
test_several(void **state)
{
	int one = memfd_create("one", 0), two = memfd_create("two", 0);
	struct lc_access *a = to_fd(dup(one), "a $status");
	char buf[64] = "";

	assert_int_equal(lc_access_timed(a), 0);
	assert_int_equal(lc_access_add(a, "other", dup(two), format("b $request_time", 0)), 0);
	assert_int_equal(lc_access_timed(a), 1);
	write_lines(a, 1, 1);
	lc_access_free(a);
	assert_int_equal(pread(one, buf, sizeof(buf), 0), 6);
	assert_memory_equal(buf, "a 200\n", 6);
	assert_int_equal(pread(two, buf, sizeof(buf), 0), 8);
	assert_memory_equal(buf, "b 1.234\n", 8);
	close(one);
	close(two);
}

/* A pipe that nobody reads, of which we (kind 0) or nobody (1) made the open file non-blocking: no call waits, lines
 * are lost whole, and one line per interval says how many. */
static void
slow_pipe(int kind)
{
	unsigned last = 0, got = 0, lost = 0;
	struct lc_access *a;
	int p[2];

	assert_int_equal(pipe(p), 0);
	if (kind == 0)
		fcntl(p[1], F_SETFL, O_NONBLOCK);
	a = to_fd(p[1], NUMBERED);
	alarm(60); /* a call that waits would for ever */
	for (unsigned k = 0; k < 40; k++) {
		write_lines(a, 1 + 1000 * k, 1000 + 1000 * k);
		lc_access_flush(a, rec.now);
	}
	alarm(0);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	got += whole_lines(p[0], &last);
	lc_access_flush(a, rec.now + SECOND);
	got += whole_lines(p[0], &last);
	assert_non_null(strstr(errors(), "[warn]"));
	assert_non_null(strstr(errors(), "access log the log: "));
	assert_non_null(strstr(errors(), " lines were dropped: its reader is too slow"));
	assert_null(strstr(strstr(errors(), "dropped") + 1, "dropped")); /* once so far */
	lc_access_flush(a, rec.now + 11 * SECOND);                       /* now for the rest of them */
	write_lines(a, 40001, 40001);
	lc_access_free(a);
	got += whole_lines(p[0], &last);
	assert_int_equal(last, 40001);
	for (const char *s = errors(); (s = strstr(s, "the log: ")); s++)
		lost += (unsigned)strtoul(s + 9, NULL, 10);
	assert_int_equal(got + lost, 40001);
	assert_true(lost > 20000);
	close(p[0]);
}

static void
test_slow_pipe(void **state)
{
	slow_pipe(0);
}

static void
test_slow_pipe_of_others(void **state)
{
	slow_pipe(1);
}

/* Writers of several processes keep apart in a pipe only up to PIPE_BUF. */
static void
test_pipe_lines(void **state)
{
	static char longer[6000], buf[100000];
	struct lc_access *a;
	ssize_t n;
	int p[2];

	memset(longer, '\x01', sizeof(longer));
	req.target = (struct lc_str){longer, sizeof(longer)};
	assert_int_equal(pipe2(p, O_NONBLOCK | O_DIRECT), 0); /* packets: each read is one write */
	a = to_fd(p[1], "$status $request_uri end");
	write_lines(a, 1, 7);
	lc_access_flush(a, rec.now);
	for (int k = 0; k < 7; k++) {
		n = read(p[0], buf, sizeof(buf));
		assert_true(n > 2000 && n <= PIPE_BUF);
		assert_memory_equal(buf, "200 \\x01", 8);
		assert_memory_equal(buf + n - 8, "... end\n", 8);
	}
	req.target = S("/a%20b?x=1");
	lc_access_free(a);
	close(p[0]);
}

/* A socket may take a part of a line: the rest of it goes first, later. */
static void
test_socket(void **state)
{
	unsigned last = 0, got = 0;
	struct lc_access *a;
	int s[2], small = 1;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	a = to_fd(s[1], NUMBERED);
	alarm(60);
	write_lines(a, 1, 3000);
	lc_access_flush(a, rec.now);
	alarm(0);
	/* the reader sees lines cut where the socket was full, so all is joined first */
	int all = memfd_create("all", 0);
	char buf[4096];
	for (int k = 0; k < 1000; k++) {
		ssize_t n;
		while ((n = recv(s[0], buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			assert_int_equal(write(all, buf, (size_t)n), n);
		lc_access_flush(a, rec.now);
	}
	lc_access_free(a);
	lseek(all, 0, SEEK_SET);
	got = whole_lines(all, &last);
	assert_int_equal(got, 3000);
	assert_string_equal(errors(), "");
	close(s[0]);
	close(all);
}

static void
test_broken(void **state)
{
	struct lc_access *a;
	int p[2];

	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	signal(SIGPIPE, SIG_IGN);
	close(p[0]);
	a = to_fd(p[1], NUMBERED);
	write_lines(a, 1, 20000);
	lc_access_flush(a, rec.now);
	assert_non_null(strstr(errors(), "Broken pipe"));
	lc_access_free(a);
	unsigned lost = 0;
	for (const char *s = errors(); (s = strstr(s, "the log: ")); s++)
		lost += (unsigned)strtoul(s + 9, NULL, 10);
	assert_int_equal(lost, 20000);
}

/* /dev/full is a disk without room. */
static void
test_disk_full(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC), file = memfd_create("file", 0);
	struct lc_access *a;
	unsigned last = 0;

	assert_true(full >= 0);
	a = to_fd(full, NUMBERED);
	write_lines(a, 1, 3);
	lc_access_flush(a, rec.now);
	assert_string_equal(errors(), ""); /* nothing is lost yet */
	lc_access_reopen(a, 0, dup(file));
	write_lines(a, 4, 4);
	lc_access_free(a);
	lseek(file, 0, SEEK_SET);
	assert_int_equal(whole_lines(file, &last), 4);
	a = to_fd(open("/dev/full", O_WRONLY | O_CLOEXEC), NUMBERED);
	write_lines(a, 1, 3);
	lc_access_free(a);
	assert_non_null(strstr(errors(), "access log the log: 3 lines were dropped: No space left on device"));
	close(file);
}

#define SINK(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_variables),
	    cmocka_unit_test(test_atoms),
	    cmocka_unit_test(test_builtin),
	    cmocka_unit_test(test_nothing_known),
	    cmocka_unit_test(test_refused_formats),
	    cmocka_unit_test(test_every_byte),
	    cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_anything),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_clock),
	    SINK(test_file),
	    SINK(test_several),
	    SINK(test_slow_pipe),
	    SINK(test_slow_pipe_of_others),
	    SINK(test_pipe_lines),
	    SINK(test_socket),
	    SINK(test_broken),
	    SINK(test_disk_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
