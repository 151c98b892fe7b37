/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/access.h - the access log: one line per request, in the combined format, plus its time in us.
 *
 * Lines are collected and written once per batch of the loop.  Leading thread only.  A full or broken sink drops
 * lines, counts them, and says so when it works again; it never blocks a request for longer than one write(2).
 */
#ifndef LC_CORE_LOG_ACCESS_H
#define LC_CORE_LOG_ACCESS_H

#include "stream/stream.h"

struct lc_access;
struct lc_access *lc_access_new(int fd); /* owns fd; NULL for fd < 0 or no memory: no access log */
void lc_access_free(struct lc_access *);
void lc_access_log(struct lc_access *, const struct lc_stream *, uint64_t now_ns); /* NULL: nothing */
void lc_access_flush(struct lc_access *);

#endif
