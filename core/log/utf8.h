/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/utf8.h - what of a text from outside may stand in a log as it is.
 */
#ifndef LC_CORE_LOG_UTF8_H
#define LC_CORE_LOG_UTF8_H

#include <stddef.h>

/* Length of the printable UTF-8 sequence at p, 0 when there is none: C0, DEL, C1, overlong forms and surrogates. n > 0.
 */
static inline size_t
lc_utf8_printable(const unsigned char *p, size_t n)
{
	if (p[0] < 0x80)
		return p[0] >= 0x20 && p[0] != 0x7f;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return n >= 2 && (p[1] & 0xc0) == 0x80 && !(p[0] == 0xc2 && p[1] < 0xa0) ? 2 : 0;
	if ((p[0] & 0xf0) == 0xe0) {
		if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
			return 0;
		if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
			return 0;
		return 3;
	}
	if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		if (n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
			return 0;
		if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

#endif
