/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * field.c - names and values of header and trailer fields.
 *
 * lc_value_valid() runs over every byte that is sent, so it takes eight at a time; the words overlap at the end instead
 * of leaving a tail.
 */
#include "semantics/semantics.h"

#define T LC_CH_TOKEN
#define P LC_CH_TARGET
#define HO LC_CH_HOST

/* Ranges first, the exceptions after them override. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#endif
const uint8_t lc_char_class[256] = {
    [0x21 ... 0x7e] = P,
    ['0' ... '9'] = T | P | HO,
    ['A' ... 'Z'] = T | P | HO,
    ['a' ... 'z'] = T | P | HO,
    ['#'] = T, /* no fragments in a target */
    ['!'] = T | P | HO,
    ['$'] = T | P | HO,
    ['%'] = T | P | HO,
    ['&'] = T | P | HO,
    ['\''] = T | P | HO,
    ['('] = P | HO,
    [')'] = P | HO,
    ['*'] = T | P | HO,
    ['+'] = T | P | HO,
    [','] = P | HO,
    ['-'] = T | P | HO,
    ['.'] = T | P | HO,
    [';'] = P | HO,
    ['='] = P | HO,
    ['^'] = T | P,
    ['_'] = T | P | HO,
    ['`'] = T | P,
    ['|'] = T | P,
    ['~'] = T | P | HO,
};
#pragma GCC diagnostic pop
#undef T
#undef P
#undef HO

int
lc_name_valid(const char *s, size_t n)
{
	uint8_t all = LC_CH_TOKEN;

	for (size_t k = 0; k < n; k++)
		all &= lc_char_class[(uint8_t)s[k]];
	return n && all;
}

/* Not zero when one of the eight bytes is below 0x20 and no HTAB, or is DEL. */
static inline uint64_t
bad8(uint64_t x)
{
	const uint64_t one = UINT64_C(0x0101010101010101), high = one * 0x80;
	uint64_t low = x & ~high;
	/* In 7 bits per byte nothing carries over: bit 7 of the sums says ">=". */
	uint64_t ctl = ~(low + one * (0x80 - 0x20)) & ~x;
	uint64_t tab = ~((low ^ (one * '\t')) + one * 0x7f) & ~x;
	uint64_t del = ~((low ^ (one * 0x7f)) + one * 0x7f) & ~x;

	return ((ctl & ~tab) | del) & high;
}

int
lc_value_valid(const char *s, size_t n)
{
	uint64_t x, bad = 0;
	size_t k = 0;

	if (n < 8) {
		for (; k < n; k++) {
			uint8_t c = (uint8_t)s[k];
			bad |= (c < 0x20 && c != '\t') || c == 0x7f;
		}
		return !bad;
	}
	for (; k + 8 < n; k += 8) {
		memcpy(&x, s + k, 8);
		bad |= bad8(x);
	}
	memcpy(&x, s + n - 8, 8);
	return !(bad | bad8(x));
}

void
lc_name_lower(char *s, size_t n)
{
	uint64_t x;
	size_t k = 0;

	if (n < 8) {
		for (; k < n; k++)
			s[k] = (char)lc_lower((uint8_t)s[k]);
		return;
	}
	for (; k + 8 < n; k += 8) {
		memcpy(&x, s + k, 8);
		x = lc_lower8(x);
		memcpy(s + k, &x, 8);
	}
	memcpy(&x, s + n - 8, 8);
	x = lc_lower8(x);
	memcpy(s + n - 8, &x, 8);
}

struct lc_str
lc_value_trim(const char *s, size_t n)
{
	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	while (n && (*s == ' ' || *s == '\t')) {
		s++;
		n--;
	}
	return (struct lc_str){s, n};
}

int
lc_list_has(const char *s, size_t n, const char *word)
{
	size_t wn = strlen(word);

	while (n) {
		const char *comma = memchr(s, ',', n);
		size_t len = comma ? (size_t)(comma - s) : n;
		const char *semi = memchr(s, ';', len);
		struct lc_str e = lc_value_trim(s, semi ? (size_t)(semi - s) : len);
		if (e.n == wn && lc_case_equal(e.p, word, wn))
			return 1;
		len += comma != NULL;
		s += len;
		n -= len;
	}
	return 0;
}

int64_t
lc_length_parse(const char *s, size_t n)
{
	uint64_t v = 0;
	int over = 0;

	if (n == 0)
		return -1;
	for (size_t k = 0; k < n; k++) {
		uint8_t d = (uint8_t)(s[k] - '0');
		if (d > 9)
			return -1;
		over |= v > (UINT64_C(1) << 62) / 10;
		v = v * 10 + d;
		over |= v > UINT64_C(1) << 62;
	}
	return over ? LC_LENGTH_OVERFLOW : (int64_t)v;
}

int
lc_token_hop_by_hop(uint16_t t)
{
	switch (t) {
	case LC_TOK_CONNECTION:
	case LC_TOK_HTTP2_SETTINGS:
	case LC_TOK_KEEP_ALIVE:
	case LC_TOK_PROXY_CONNECTION:
	case LC_TOK_TE:
	case LC_TOK_TRANSFER_ENCODING:
	case LC_TOK_UPGRADE:
		return 1;
	default:
		return 0;
	}
}

int
lc_token_in_trailer(uint16_t t)
{
	switch (t) {
	case LC_TOK_AUTHORIZATION:
	case LC_TOK_CACHE_CONTROL:
	case LC_TOK_CONTENT_ENCODING:
	case LC_TOK_CONTENT_LENGTH:
	case LC_TOK_CONTENT_RANGE:
	case LC_TOK_CONTENT_TYPE:
	case LC_TOK_COOKIE:
	case LC_TOK_EXPECT:
	case LC_TOK_FORWARDED:
	case LC_TOK_HOST:
	case LC_TOK_IF_MATCH:
	case LC_TOK_IF_MODIFIED_SINCE:
	case LC_TOK_IF_NONE_MATCH:
	case LC_TOK_IF_RANGE:
	case LC_TOK_IF_UNMODIFIED_SINCE:
	case LC_TOK_LOCATION:
	case LC_TOK_MAX_FORWARDS:
	case LC_TOK_PRAGMA:
	case LC_TOK_PROXY_AUTHENTICATE:
	case LC_TOK_PROXY_AUTHORIZATION:
	case LC_TOK_RANGE:
	case LC_TOK_SET_COOKIE:
	case LC_TOK_TRAILER:
	case LC_TOK_WWW_AUTHENTICATE:
	case LC_TOK_X_FORWARDED_FOR:
	case LC_TOK_X_FORWARDED_HOST:
	case LC_TOK_X_FORWARDED_PORT:
	case LC_TOK_X_FORWARDED_PROTO:
	case LC_TOK_X_REAL_IP:
		return 0;
	default:
		return !lc_token_hop_by_hop(t);
	}
}

/* 00 to 99 */
const char lc_digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
			      "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
			      "8081828384858687888990919293949596979899";
