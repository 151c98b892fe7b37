/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * path.c - the normal form of a request's path, which routes are matched on.  See path.h for what it is.
 *
 * Nearly all paths are normal as they come, so that is found out first and costs a look at each byte.
 */
#include "net/path.h"

#include <string.h>

int
lc_path_is_normal(const char *p, size_t n)
{
	if (n == 0 || p[0] != '/' || !p[n - 1])
		return 0;
	unsigned odd = 0;
	/* no early exit: the compiler makes vectors of it; '.' and '/' differ in the last bit */
	for (size_t k = 0; k + 1 < n; k++) {
		char c = p[k], next = p[k + 1];
		odd |= (unsigned)(c == '%') | (unsigned)(c == '\0') |
		       ((unsigned)(c == '/') & (unsigned)((next & ~1) == '.'));
	}
	return !odd;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Percent-decoded once, runs of slashes made one.  Bytes written, or 0: there is a NUL in it. */
static size_t
decode(char *to, const char *p, size_t n)
{
	size_t w = 0;

	for (size_t k = 0; k < n; k++) {
		char c = p[k];
		int hi, lo;
		if (c == '%' && k + 2 < n && (hi = hex_value(p[k + 1])) >= 0 && (lo = hex_value(p[k + 2])) >= 0) {
			c = (char)(hi << 4 | lo);
			k += 2;
		}
		if (!c)
			return 0;
		if (c != '/' || w == 0 || to[w - 1] != '/')
			to[w++] = c;
	}
	return w;
}

/* "." and ".." taken out.  Bytes written, or 0: it leads above the root. */
static size_t
resolve(char *to, const char *p, size_t n)
{
	size_t w = 0;

	for (size_t i = 0, end; i < n; i = end) { /* p[i] is a slash */
		for (end = i + 1; end < n && p[end] != '/';)
			end++;
		size_t k = end - i;
		if (k == 3 && p[i + 1] == '.' && p[i + 2] == '.') {
			if (w == 0)
				return 0;
			while (to[--w] != '/')
				;
		} else if (k != 2 || p[i + 1] != '.') {
			memcpy(to + w, p + i, k);
			w += k;
			continue;
		}
		if (end == n)
			to[w++] = '/';
	}
	return w;
}

int
lc_path_normalise(struct lc_path *ret, char *buf, const char *p, size_t n)
{
	if (n == 0 || p[0] != '/')
		return LC_PATH_NONE;
	ret->plain.p = buf;
	ret->plain.n = decode(buf, p, n);
	if (ret->plain.n == 0)
		return LC_PATH_NUL;
	ret->path.p = buf + n;
	ret->path.n = resolve(buf + n, buf, ret->plain.n);
	return ret->path.n ? LC_PATH_OK : LC_PATH_ABOVE;
}
