/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * token.c - a small hash table over the known field names.
 *
 * The hash looks at the length and three characters.  Its factors were found by trial, so that no name of today's list
 * is more than one step from its slot: a lookup is one hash and mostly one comparison.
 */
#include "stream/token.h"

#include <string.h>

#define SLOTS 512u /* a power of two, several times the number of names */
#define NAME_MAX_ 40u

static const struct {
	uint8_t n;
	char name[NAME_MAX_];
} names[LC_TOK_COUNT] = {[LC_TOK_NONE] = {0, ""},
#define ROW(id, text) [LC_TOK_##id] = {sizeof(text) - 1, text},
			 LC_TOKEN_LIST(ROW)
#undef ROW
};
#define ROW(id, text) _Static_assert(sizeof(text) <= NAME_MAX_, "name of a token is too long");
LC_TOKEN_LIST(ROW)
#undef ROW
_Static_assert(LC_TOK_COUNT <= 255, "slots hold bytes");

static uint8_t slots[SLOTS];

static inline uint32_t
hash(const char *s, size_t n)
{
	uint32_t h = (uint32_t)n * 0x13bbbu;

	/* bit 5 folds more than case; the comparison is exact */
	h += ((uint8_t)s[0] | 0x20u) * 0x13c1fu;
	h += ((uint8_t)s[n - 1] | 0x20u) * 0x18393u;
	h += ((uint8_t)s[n / 2] | 0x20u) * 0x4189u;
	return (h ^ (h >> 8)) & (SLOTS - 1);
}

__attribute__((constructor)) static void
token_table_init(void)
{
	for (uint32_t t = 1; t < LC_TOK_COUNT; t++) {
		uint32_t i = hash(names[t].name, names[t].n);
		while (slots[i])
			i = (i + 1) & (SLOTS - 1);
		slots[i] = (uint8_t)t;
	}
}

/* Is `name`, in any case, the `n` bytes of `lower`?  Word by word, the last word overlapping the one before. */
static inline int
equals(const char *name, const char *lower, size_t n)
{
	uint64_t x, y;

	if (n >= 8) {
		for (size_t k = 0; k + 8 < n; k += 8) {
			memcpy(&x, name + k, 8);
			memcpy(&y, lower + k, 8);
			if (lc_lower8(x) != y)
				return 0;
		}
		memcpy(&x, name + n - 8, 8);
		memcpy(&y, lower + n - 8, 8);
		return lc_lower8(x) == y;
	}
	if (n >= 4) {
		uint32_t a, b, c, d;
		memcpy(&a, name, 4);
		memcpy(&b, name + n - 4, 4);
		memcpy(&c, lower, 4);
		memcpy(&d, lower + n - 4, 4);
		return lc_lower8((uint64_t)b << 32 | a) == ((uint64_t)d << 32 | c);
	}
	return lc_case_equal(name, lower, n);
}

uint16_t
lc_token(const char *name, size_t n)
{
	if (n == 0 || n >= NAME_MAX_)
		return LC_TOK_NONE;
	for (uint32_t i = hash(name, n); slots[i]; i = (i + 1) & (SLOTS - 1)) {
		uint8_t t = slots[i];
		if (names[t].n == n && equals(name, names[t].name, n))
			return t;
	}
	return LC_TOK_NONE;
}

const char *
lc_token_name(uint16_t token)
{
	return token < LC_TOK_COUNT ? names[token].name : "";
}
