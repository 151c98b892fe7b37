/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/net/path.h - the normal form of a request's path.
 *
 * Percent-decoded once ("%" without two hexadecimal digits stays as it is), "." and ".." resolved (RFC 3986 5.2.4)
 * after that, runs of slashes made one, a leading slash, no NUL.  It is no longer than what it was made of.
 */
#ifndef LC_CORE_NET_PATH_H
#define LC_CORE_NET_PATH_H

#include <licorne/abi.h>

#define LC_PATH_OK 0
#define LC_PATH_NONE 1  /* no path: "*" */
#define LC_PATH_NUL 2   /* a NUL in it */
#define LC_PATH_ABOVE 3 /* leads above the root */

struct lc_path {
	struct lc_str path;  /* the normal form */
	struct lc_str plain; /* the same before "." and ".." were resolved */
};

/* 1: it is in its normal form, byte by byte, already; 0: it may be. */
int lc_path_is_normal(const char *p, size_t n);
/* LC_PATH_*; buf holds 2 n bytes, into which the result points. */
int lc_path_normalise(struct lc_path *ret, char *buf, const char *p, size_t n);

#endif
