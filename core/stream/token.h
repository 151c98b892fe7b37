/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/stream/token.h - field name to token (licorne/tokens.h).
 *
 * Compiled into the core, for the worker table's token(), and into the protocol modules, which may not call the core
 * but through its tables.  No state but a table that is built before main() or when the module is loaded.
 */
#ifndef LC_CORE_STREAM_TOKEN_H
#define LC_CORE_STREAM_TOKEN_H

#include <licorne/tokens.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Token of a name in any case, 0 when it is not a known one.  Any thread. */
uint16_t lc_token(const char *name, size_t n);
/* The name of a token, lower case and NUL-terminated; "" for 0 and what is no token. */
const char *lc_token_name(uint16_t token);

/* ASCII A-Z to a-z in each of eight bytes, all other bytes as they are. */
static inline uint64_t
lc_lower8(uint64_t x)
{
	const uint64_t one = UINT64_C(0x0101010101010101);
	uint64_t low = x & (one * 0x7f);
	uint64_t ge_a = low + one * (0x80 - 'A'), gt_z = low + one * (0x80 - 'Z' - 1);

	return x | (((ge_a ^ gt_z) & ~x & (one * 0x80)) >> 2);
}

static inline uint8_t
lc_lower(uint8_t c)
{
	return (uint8_t)(c - 'A') < 26 ? c | 0x20 : c;
}

/* n bytes of a and b are equal but for ASCII case.  Word-wise, and reads nothing outside of them. */
static inline int
lc_case_equal(const char *a, const char *b, size_t n)
{
	uint64_t x, y;
	size_t k = 0;

	if (n < 4) {
		for (; k < n; k++)
			if (lc_lower((uint8_t)a[k]) != lc_lower((uint8_t)b[k]))
				return 0;
		return 1;
	}
	if (n < 8) {
		uint32_t a0, a1, b0, b1;
		memcpy(&a0, a, 4);
		memcpy(&a1, a + n - 4, 4);
		memcpy(&b0, b, 4);
		memcpy(&b1, b + n - 4, 4);
		return lc_lower8((uint64_t)a0 << 32 | a1) == lc_lower8((uint64_t)b0 << 32 | b1);
	}
	for (; k + 8 < n; k += 8) {
		memcpy(&x, a + k, 8);
		memcpy(&y, b + k, 8);
		if (lc_lower8(x) != lc_lower8(y))
			return 0;
	}
	memcpy(&x, a + n - 8, 8); /* overlaps what was compared */
	memcpy(&y, b + n - 8, 8);
	return lc_lower8(x) == lc_lower8(y);
}

#endif
