/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/semantics/semantics.h - what holds in every version of HTTP (RFC 9110), without a byte of framing.
 *
 * Linked statically into each protocol module.  Pure functions over byte strings: no state, no allocation, no log.
 * Whatever they accept is safe to hand to an application and to put on the wire: that is their one promise.
 */
#ifndef LC_PROTO_SEMANTICS_H
#define LC_PROTO_SEMANTICS_H

#include <licorne/stream.h>
#include <string.h>

#include "stream/token.h"

/* What a character may stand in: lc_char_class[c] & LC_CH_*. */
#define LC_CH_TOKEN 1u  /* tchar, RFC 9110 5.6.2 */
#define LC_CH_TARGET 2u /* path and query of a target, see target.c */
#define LC_CH_HOST 4u   /* reg-name, RFC 3986 3.2.2: unreserved, sub-delims and '%' */
extern const uint8_t lc_char_class[256];

/* ---- fields ---- */

/* A token of RFC 9110 5.6.2, not empty; upper case is allowed. */
int lc_name_valid(const char *, size_t n);
/* No CR, LF, NUL or other control byte but HTAB (RFC 9110 5.5); may be empty.  Bytes from 0x80 pass. */
int lc_value_valid(const char *, size_t n);
/* ASCII lower case, in place. */
void lc_name_lower(char *, size_t n);
/* Without optional white space (SP, HTAB) at both ends. */
struct lc_str lc_value_trim(const char *, size_t n);
/* Is the word an element of the comma-separated list?  Case-insensitive; parameters (";...") are ignored. */
int lc_list_has(const char *value, size_t n, const char *word);
/* 1*DIGIT, at most 2^62: the number; -1: not a valid Content-Length; LC_LENGTH_OVERFLOW: too large a one. */
#define LC_LENGTH_OVERFLOW (-2)
int64_t lc_length_parse(const char *, size_t n);

/* The number in decimal digits, at most 20; where they end. */
extern const char lc_digit_pairs[201];
static inline char *
lc_put_number(char *p, uint64_t v)
{
	unsigned n = 1;

	for (uint64_t limit = 10; v >= limit && n < 20; limit *= 10)
		n++;
	char *to = p + n;
	for (; v >= 10; v /= 100)
		memcpy(to -= 2, lc_digit_pairs + v % 100 * 2, 2);
	if (to > p)
		*p = (char)('0' + v);
	return p + n;
}

/* Fields that belong to a connection and not to a message (RFC 9110 7.6.1): never taken from an application. */
int lc_token_hop_by_hop(uint16_t token);
/* May this field come in a trailer section (RFC 9110 6.5.1)?  Framing, routing, authentication and the like may not. */
int lc_token_in_trailer(uint16_t token);

/* ---- target and host ---- */

/* lc_target_parse() outcomes */
#define LC_TARGET_OK 0
#define LC_TARGET_CHAR 1      /* a control or high byte, space or '#' */
#define LC_TARGET_FORM 2      /* none of the forms below */
#define LC_TARGET_AUTHORITY 3 /* absolute-form without a valid host */

struct lc_target {
	struct lc_str path, query; /* query.p NULL: none; path "*" for asterisk-form */
	struct lc_str authority;   /* absolute-form only, else {NULL, 0} */
	uint8_t absolute;          /* absolute-form; its scheme is for nobody to trust: the connection knows */
	uint8_t secure;            /* absolute-form of https */
};
/* Origin-form, absolute-form of http and https, asterisk-form with OPTIONS.  Everything else is refused:
 * authority-form, fragments, control bytes, user information. */
int lc_target_parse(struct lc_target *ret, struct lc_str method, const char *, size_t n);
/* uri-host [":" port], not empty: a name, an IPv4 address or a bracketed literal; no user information. */
int lc_host_valid(const char *, size_t n);

/* ---- responses ---- */

/* The standard reason phrase, "" for an unknown status. */
struct lc_str lc_status_reason(uint32_t status);
/* 1xx, 204 and 304 never have content. */
static inline int
lc_status_bodyless(uint32_t status)
{
	return status < 200 || status == 204 || status == 304;
}
/* Is a response head of an application fit to be sent: status, names, values, reason?  NULL, or why not. */
const char *lc_head_check(const struct lc_head *);

#endif
