/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * target.c - request targets and hosts (RFC 9112 3.2, RFC 9110 7.1 and 7.2, RFC 3986).
 *
 * Looser than RFC 3986 where clients are known to be and nothing depends on it: | " < > ^ ` { } \ in path and
 * query.  Never let through: controls, space, DEL, bytes from 0x80, and '#', which a client must not send and which
 * servers and proxies cut at different places.
 */
#include "semantics/semantics.h"

static inline int
is_class(char c, uint8_t class)
{
	return lc_char_class[(uint8_t)c] & class;
}

static inline int
is_hex(uint8_t c)
{
	return (uint8_t)(c - '0') < 10 || (uint8_t)((c | 0x20) - 'a') < 6;
}

/* The literal inside of the brackets: an IPv6 address (by its characters; nobody connects to it) or IPvFuture. */
static int
literal_valid(const char *s, size_t n)
{
	size_t colons = 0;

	if (n > 2 && (s[0] == 'v' || s[0] == 'V')) {
		size_t k = 1;
		while (k < n && is_hex((uint8_t)s[k]))
			k++;
		if (k == 1 || k + 1 >= n || s[k] != '.')
			return 0;
		for (k++; k < n; k++)
			if (s[k] != ':' && (s[k] == '%' || !is_class(s[k], LC_CH_HOST)))
				return 0;
		return 1;
	}
	for (size_t k = 0; k < n; k++) {
		if (s[k] == ':')
			colons++;
		else if (!is_hex((uint8_t)s[k]) && s[k] != '.')
			return 0;
	}
	return colons >= 2 && colons <= 8 && n <= 45;
}

int
lc_host_valid(const char *s, size_t n)
{
	size_t k = 0;

	if (n == 0)
		return 0;
	if (s[0] == '[') {
		const char *end = memchr(s, ']', n);
		if (!end || !literal_valid(s + 1, (size_t)(end - s) - 1))
			return 0;
		k = (size_t)(end - s) + 1;
	} else {
		for (; k < n && is_class(s[k], LC_CH_HOST); k++)
			if (s[k] == '%' && (n - k < 3 || !is_hex((uint8_t)s[k + 1]) || !is_hex((uint8_t)s[k + 2])))
				return 0;
		if (k == 0)
			return 0;
	}
	if (k == n)
		return 1;
	if (s[k++] != ':' || n - k > 5)
		return 0;
	uint32_t port = 0;
	for (; k < n; k++) {
		uint8_t d = (uint8_t)(s[k] - '0');
		if (d > 9)
			return 0;
		port = port * 10 + d;
	}
	return port <= 65535;
}

typedef uint8_t v16 __attribute__((vector_size(16), aligned(1), may_alias));

/* LC_CH_TARGET of sixteen bytes at once: bytes of `ret` are not zero where it does not hold. */
static inline v16
bad_target(const char *s)
{
	v16 x = *(const v16 *)s;

	return (v16)(x - 0x21 > 0x7e - 0x21) | (v16)(x == '#');
}

/* Is every character one of LC_CH_TARGET?  The last sixteen overlap those before. */
static int
target_valid(const char *s, size_t n)
{
	if (n < 16) {
		uint8_t all = LC_CH_TARGET;
		for (size_t k = 0; k < n; k++)
			all &= lc_char_class[(uint8_t)s[k]];
		return all != 0;
	}
	v16 bad = bad_target(s + n - 16);
	for (size_t k = 0; k + 16 < n; k += 16)
		bad |= bad_target(s + k);
	uint64_t half[2];
	memcpy(half, &bad, 16);
	return !(half[0] | half[1]);
}

/* Check the characters and cut at the first '?'. */
static inline int
path_parse(struct lc_target *ret, const char *s, size_t n)
{
	if (!target_valid(s, n))
		return LC_TARGET_CHAR;
	const char *query = n > 1 ? memchr(s, '?', n) : n && *s == '?' ? s : NULL;
	ret->path = (struct lc_str){s, query ? (size_t)(query - s) : n};
	if (query)
		ret->query = (struct lc_str){query + 1, (size_t)(s + n - query) - 1};
	return LC_TARGET_OK;
}

int
lc_target_parse(struct lc_target *ret, struct lc_str method, const char *s, size_t n)
{
	size_t scheme;

	if (n == 0)
		return LC_TARGET_FORM;
	if (s[0] == '/') {
		*ret = (struct lc_target){0};
		return path_parse(ret, s, n);
	}
	struct lc_target t = {0};
	if (s[0] == '*') {
		if (n != 1 || method.n != 7 || memcmp(method.p, "OPTIONS", 7) != 0)
			return LC_TARGET_FORM;
		t.path = (struct lc_str){s, 1};
		*ret = t;
		return LC_TARGET_OK;
	}
	if (n > 7 && lc_case_equal(s, "http://", 7))
		scheme = 7;
	else if (n > 8 && lc_case_equal(s, "https://", 8))
		scheme = 8;
	else
		return LC_TARGET_FORM;
	t.absolute = 1;
	t.secure = scheme == 8;
	size_t end = scheme;
	while (end < n && s[end] != '/' && s[end] != '?')
		end++;
	t.authority = (struct lc_str){s + scheme, end - scheme};
	if (!lc_host_valid(t.authority.p, t.authority.n))
		return LC_TARGET_AUTHORITY;
	if (path_parse(&t, s + end, n - end))
		return LC_TARGET_CHAR;
	if (t.path.n ==
	    0) { /* "http://host" and "http://host?query"; with OPTIONS the former means the server itself */
		int star = end == n && method.n == 7 && memcmp(method.p, "OPTIONS", 7) == 0;
		t.path = (struct lc_str){star ? "*" : "/", 1};
	}
	*ret = t;
	return LC_TARGET_OK;
}
