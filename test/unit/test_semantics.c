/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_semantics.c - names, values, lengths, targets, hosts, statuses and tokens, by themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "semantics/semantics.h"

/* A copy of exactly n bytes, so that the sanitizer sees a read outside. */
static char *
exact(const char *s, size_t n)
{
	char *p = malloc(n ? n : 1);
	assert_non_null(p);
	memcpy(p, s, n);
	return p;
}

static void
test_tokens(void **state)
{
	(void)state;
	for (uint16_t t = 1; t < LC_TOK_COUNT; t++) {
		const char *name = lc_token_name(t);
		size_t n = strlen(name);
		char *low = exact(name, n), *up = exact(name, n);
		for (size_t k = 0; k < n; k++)
			if (up[k] >= 'a' && up[k] <= 'z')
				up[k] = (char)(up[k] - 32);
		assert_int_equal(lc_token(low, n), t);
		assert_int_equal(lc_token(up, n), t);
		assert_int_equal(lc_token(low, n - 1) == t, 0);
		/* every other byte in every place is another name: no folding beyond A-Z */
		for (size_t k = 0; k < n; k++)
			for (int c = 0; c < 256; c++) {
				low[k] = (char)c;
				int same = c == name[k] || (c >= 'A' && c <= 'Z' && c + 32 == name[k]);
				uint16_t got = lc_token(low, n);
				assert_int_equal(got == t, same);
				low[k] = name[k];
			}
		lc_name_lower(up, n);
		assert_memory_equal(up, name, n);
		free(low);
		free(up);
	}
	assert_int_equal(lc_token("", 0), 0);
	assert_int_equal(lc_token("x-unknown", 9), 0);
	assert_string_equal(lc_token_name(0), "");
	assert_string_equal(lc_token_name(60000), "");
	char big[100];
	memset(big, 'a', sizeof(big));
	assert_int_equal(lc_token(big, sizeof(big)), 0);
}

static void
test_names(void **state)
{
	static const char tchar[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	(void)state;
	for (int c = 0; c < 256; c++) {
		char ch = (char)c;
		assert_int_equal(lc_name_valid(&ch, 1), c != 0 && strchr(tchar, c) != NULL);
	}
	assert_false(lc_name_valid("", 0));
	assert_false(lc_name_valid("a b", 3));
	assert_true(lc_name_valid("x-a_b", 5));
}

static void
test_values(void **state)
{
	(void)state;
	/* each byte in each place of each length: the words and what is left of them */
	for (size_t n = 0; n <= 35; n++) {
		char fill[35];
		memset(fill, 'a', sizeof(fill));
		char *v = exact(fill, n);
		assert_true(lc_value_valid(v, n));
		for (size_t k = 0; k < n; k++)
			for (int c = 0; c < 256; c++) {
				v[k] = (char)c;
				int ok = c == '\t' || (c >= 0x20 && c != 0x7f);
				if (lc_value_valid(v, n) != ok)
					fail_msg("byte %d at %zu of %zu", c, k, n);
				v[k] = 'a';
			}
		memset(v, 0x80, n);
		assert_true(lc_value_valid(v, n));
		memset(v, '\t', n);
		assert_true(lc_value_valid(v, n));
		free(v);
	}
}

static void
test_trim_list_length(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} lengths[] = {{"0", 0},
		       {"17", 17},
		       {"00017", 17},
		       {"", -1},
		       {"-1", -1},
		       {"+1", -1},
		       {"1 ", -1},
		       {"0x1", -1},
		       {"1,1", -1},
		       {"4611686018427387904", INT64_C(1) << 62},
		       {"4611686018427387905", LC_LENGTH_OVERFLOW},
		       {"18446744073709551617", LC_LENGTH_OVERFLOW},
		       {"99999999999999999999999", LC_LENGTH_OVERFLOW},
		       {"99999999999999999999999x", -1}};
	(void)state;
	for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++)
		assert_int_equal(lc_length_parse(lengths[k].text, strlen(lengths[k].text)), lengths[k].value);
	struct lc_str s = lc_value_trim(" \t a b\t ", 8);
	assert_int_equal(s.n, 3);
	assert_memory_equal(s.p, "a b", 3);
	assert_int_equal(lc_value_trim(" \t ", 3).n, 0);
	assert_true(lc_list_has("foo,\tCLOSE ,bar", 15, "close"));
	assert_true(lc_list_has("gzip;q=1, trailers;q=0.5", 24, "trailers"));
	assert_false(lc_list_has("closed, xclose", 14, "close"));
	assert_false(lc_list_has("", 0, "close"));
	assert_false(lc_list_has(",,,", 3, "close"));
}

static void
test_targets(void **state)
{
	static const struct {
		const char *method, *target; /* target NULL-ended */
		const char *path, *query, *authority;
	} good[] = {
	    {"GET", "/", "/", NULL, NULL},
	    {"GET", "/a/b?c=d?e", "/a/b", "c=d?e", NULL},
	    {"GET", "/?", "/", "", NULL},
	    {"GET", "//x/y", "//x/y", NULL, NULL},
	    {"OPTIONS", "*", "*", NULL, NULL},
	    {"GET", "http://h", "/", NULL, "h"},
	    {"OPTIONS", "http://h", "*", NULL, "h"},
	    {"OPTIONS", "http://h/", "/", NULL, "h"},
	    {"GET", "http://h:81/p?q", "/p", "q", "h:81"},
	    {"GET", "HTTPS://[::1]:443?q", "/", "q", "[::1]:443"},
	    {"GET", "/%41%zz", "/%41%zz", NULL, NULL},
	};
	static const struct {
		const char *target;
		int outcome;
	} bad[] = {{"", LC_TARGET_FORM},
		   {"*", LC_TARGET_FORM},
		   {"**", LC_TARGET_FORM},
		   {"foo", LC_TARGET_FORM},
		   {"a:80", LC_TARGET_FORM},
		   {"ftp://h/", LC_TARGET_FORM},
		   {"https:/h", LC_TARGET_FORM},
		   {"http://", LC_TARGET_FORM},
		   {"http:///x", LC_TARGET_AUTHORITY},
		   {"http://u@h", LC_TARGET_AUTHORITY},
		   {"http://h:x", LC_TARGET_AUTHORITY},
		   {"http://h#x", LC_TARGET_AUTHORITY},
		   {"http://[::", LC_TARGET_AUTHORITY},
		   {"/a b", LC_TARGET_CHAR},
		   {"/a#b", LC_TARGET_CHAR},
		   {"/\x7f", LC_TARGET_CHAR},
		   {"/\x80", LC_TARGET_CHAR},
		   {"/a\tb", LC_TARGET_CHAR},
		   {"http://h/\x01", LC_TARGET_CHAR}};
	struct lc_target t;

	(void)state;
	for (size_t k = 0; k < sizeof(good) / sizeof(good[0]); k++) {
		struct lc_str m = {good[k].method, strlen(good[k].method)};
		size_t n = strlen(good[k].target);
		char *s = exact(good[k].target, n);
		assert_int_equal(lc_target_parse(&t, m, s, n), LC_TARGET_OK);
		assert_int_equal(t.path.n, strlen(good[k].path));
		assert_memory_equal(t.path.p, good[k].path, t.path.n);
		assert_int_equal(t.query.p != NULL, good[k].query != NULL);
		if (good[k].query) {
			assert_int_equal(t.query.n, strlen(good[k].query));
			assert_memory_equal(t.query.p, good[k].query, t.query.n);
		}
		assert_int_equal(t.absolute, good[k].authority != NULL);
		assert_int_equal(t.secure, strncmp(good[k].target, "HTTPS:", 6) == 0);
		if (good[k].authority) {
			assert_int_equal(t.authority.n, strlen(good[k].authority));
			assert_memory_equal(t.authority.p, good[k].authority, t.authority.n);
		}
		free(s);
	}
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		size_t n = strlen(bad[k].target);
		char *s = exact(bad[k].target, n);
		int outcome = lc_target_parse(&t, (struct lc_str){"GET", 3}, s, n);
		if (outcome != bad[k].outcome)
			fail_msg("%s: %d, expected %d", bad[k].target, outcome, bad[k].outcome);
		free(s);
	}
}

/* Every byte in every place of targets of every short length: one rule for all, words or not. */
static void
test_target_bytes(void **state)
{
	struct lc_target t;

	(void)state;
	for (size_t n = 2; n <= 50; n++) {
		char *s = exact("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", n);
		for (size_t k = 1; k < n; k++) {
			for (int c = 0; c < 256; c++) {
				s[k] = (char)c;
				int good = c > 0x20 && c < 0x7f && c != '#';
				assert_int_equal(lc_target_parse(&t, (struct lc_str){"GET", 3}, s, n) == LC_TARGET_OK,
						 good);
				if (!good)
					continue;
				assert_int_equal(t.path.n, c == '?' ? k : n);
				assert_int_equal(t.query.n, c == '?' ? n - k - 1 : 0);
				assert_ptr_equal(t.query.p, c == '?' ? s + k + 1 : NULL);
			}
			s[k] = 'a';
		}
		free(s);
	}
}

static void
test_hosts(void **state)
{
	static const char *const good[] = {"a",  "a.b:80",  "127.0.0.1:8000", "[::1]",    "[::ffff:1.2.3.4]:1",
					   "a:", "x_y-z.~", "%41.example",    "[v1.a:b]", "a:65535"};
	static const char *const bad[] = {"",        ":80",      "a b",   "a/b",       "a@b",         "a:b",
					  "a:65536", "a:123456", "[::1",  "[1.2.3.4]", "[]",          "[::1]x",
					  "a\tb",    "\x80",     "a,b c", "a?",        "a#",          "%4",
					  "%zz",     "a\\b",     "[g::]", "[v.a]",     "[:::::::::]", "<a>"};
	(void)state;
	for (size_t k = 0; k < sizeof(good) / sizeof(good[0]); k++)
		if (!lc_host_valid(good[k], strlen(good[k])))
			fail_msg("refused: %s", good[k]);
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		char *s = exact(bad[k], strlen(bad[k]));
		if (lc_host_valid(s, strlen(bad[k])))
			fail_msg("accepted: %s", bad[k]);
		free(s);
	}
}

static void
test_heads(void **state)
{
	struct lc_field f = {.name = {"x-a", 3}, .value = {"b", 1}};
	struct lc_head h = {.size = sizeof(h), .status = 200, .fields = &f, .nfields = 1, .length = -1};

	(void)state;
	assert_null(lc_head_check(&h));
	h.status = 99;
	assert_non_null(lc_head_check(&h));
	h.status = 1000;
	assert_non_null(lc_head_check(&h));
	h.status = 101;
	assert_non_null(lc_head_check(&h));
	h.status = 200;
	h.length = -2;
	assert_non_null(lc_head_check(&h));
	h.length = 0;
	f.value = (struct lc_str){"a\nb", 3};
	assert_non_null(lc_head_check(&h));
	f.value = (struct lc_str){"", 0};
	assert_null(lc_head_check(&h));
	f.name = (struct lc_str){"a:", 2};
	assert_non_null(lc_head_check(&h));
	f.name = (struct lc_str){"a", 1};
	h.reason = (struct lc_str){"O\rK", 3};
	assert_non_null(lc_head_check(&h));
	assert_int_equal(lc_status_reason(404).n, 9);
	assert_int_equal(lc_status_reason(299).n, 0);
	assert_true(lc_status_bodyless(204) && lc_status_bodyless(304) && lc_status_bodyless(100));
	assert_false(lc_status_bodyless(200) || lc_status_bodyless(205));
	assert_true(lc_token_hop_by_hop(LC_TOK_UPGRADE) && !lc_token_hop_by_hop(LC_TOK_TRAILER));
	assert_true(lc_token_in_trailer(LC_TOK_NONE) && lc_token_in_trailer(LC_TOK_ETAG));
	assert_false(lc_token_in_trailer(LC_TOK_HOST) || lc_token_in_trailer(LC_TOK_TRANSFER_ENCODING));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tokens),  cmocka_unit_test(test_names),
	    cmocka_unit_test(test_values),  cmocka_unit_test(test_trim_list_length),
	    cmocka_unit_test(test_targets), cmocka_unit_test(test_target_bytes),
	    cmocka_unit_test(test_hosts),   cmocka_unit_test(test_heads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
