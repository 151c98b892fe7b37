/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * token.c - a small hash table over the known field names.
 *
 * The hash looks at the length and both ends.  Its factor was found by trial, so that each name of today's list has a
 * slot of its own: a lookup is one multiplication and one comparison.
 */
#include "stream/token.h"

#include <string.h>

#define SLOT_BITS 9
#define SLOTS (1u << SLOT_BITS) /* several times the number of names */
#define NAME_MAX_ 40u

static const struct {
	uint64_t n;
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

/* The first and the last four bytes (n < 4: two) of a name of at least two. */
static inline uint64_t
ends(const char *s, size_t n)
{
	uint32_t a, b;

	if (n >= 4) {
		memcpy(&a, s, 4);
		memcpy(&b, s + n - 4, 4);
	} else {
		uint16_t x, y;
		memcpy(&x, s, 2);
		memcpy(&y, s + n - 2, 2);
		a = x;
		b = y;
	}
	return (uint64_t)b << 32 | a;
}

static inline uint32_t
hash(uint64_t w, size_t n)
{
	/* bit 5 folds more than case; the comparison is exact */
	return (uint32_t)(((w | UINT64_C(0x2020202020202020)) + n) * UINT64_C(0xaea6035c2793967d) >> (64 - SLOT_BITS));
}

__attribute__((constructor)) static void
token_table_init(void)
{
	for (uint32_t t = 1; t < LC_TOK_COUNT; t++) {
		uint32_t i = hash(ends(names[t].name, names[t].n), names[t].n);
		while (slots[i])
			i = (i + 1) & (SLOTS - 1);
		slots[i] = (uint8_t)t;
	}
}

/*
 * Zero when the bytes of x are those of y but for the case of letters.  y is of our list, a-z, 0-9 and '-', of which
 * the letters alone have the bit 0x40: only there may x lack 0x20, and every other byte of x has to be the same.
 */
static inline uint64_t
differs(uint64_t x, uint64_t y)
{
	return (x | (y & UINT64_C(0x4040404040404040)) >> 1) ^ y;
}

/* Is `name`, in any case, the `n` bytes of `lower`, where n > 8?  The last word overlaps the one before. */
static inline int
equals(const char *name, const char *lower, size_t n)
{
	uint64_t x, y;

	memcpy(&x, name + n - 8, 8);
	memcpy(&y, lower + n - 8, 8);
	for (size_t k = 0;; k += 8) {
		if (differs(x, y))
			return 0;
		if (k + 8 >= n)
			return 1;
		memcpy(&x, name + k, 8);
		memcpy(&y, lower + k, 8);
	}
}

static inline int
matches(uint8_t t, const char *name, uint64_t w, size_t n)
{
	if (names[t].n != n)
		return 0;
	return n > 8 ? equals(name, names[t].name, n) : !differs(w, ends(names[t].name, n));
}

/* The slots after the first one. */
static __attribute__((noinline, cold)) uint16_t
look_further(const char *name, uint64_t w, size_t n)
{
	uint32_t i = hash(w, n);
	uint8_t t;

	while ((t = slots[i = (i + 1) & (SLOTS - 1)]) != 0)
		if (matches(t, name, w, n))
			return t;
	return LC_TOK_NONE;
}

uint16_t
lc_token(const char *name, size_t n)
{
	if (n < 2 || n >= NAME_MAX_)
		return LC_TOK_NONE;
	uint64_t w = ends(name, n); /* up to eight bytes it is all of them */
	uint8_t t = slots[hash(w, n)];
	if (t == LC_TOK_NONE || matches(t, name, w, n))
		return t;
	return look_further(name, w, n);
}

const char *
lc_token_name(uint16_t token)
{
	return token < LC_TOK_COUNT ? names[token].name : "";
}
