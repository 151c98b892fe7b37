/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/distance.h - how far a word is from another, to ask "did you mean".
 */
#ifndef LC_CORE_LOG_DISTANCE_H
#define LC_CORE_LOG_DISTANCE_H

#include <string.h>

/* Edit distance with transpositions of na bytes and a word; more than max: max + 1. */
static inline unsigned
lc_distance(const char *a, size_t na, const char *b, unsigned max)
{
	unsigned rows[3][66], *pp = rows[0], *p = rows[1], *c = rows[2];
	size_t nb = strlen(b);

	if (na > 64 || nb > 64 || (na > nb ? na - nb : nb - na) > max)
		return max + 1;
	for (size_t j = 0; j <= nb; j++)
		pp[j] = p[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		c[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned v = p[j - 1] + (a[i - 1] != b[j - 1]);
			if (p[j] + 1 < v)
				v = p[j] + 1;
			if (c[j - 1] + 1 < v)
				v = c[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && pp[j - 2] + 1 < v)
				v = pp[j - 2] + 1;
			c[j] = v;
		}
		unsigned *t = pp;
		pp = p;
		p = c;
		c = t;
	}
	return p[nb] > max ? max + 1 : p[nb];
}

#endif
