/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/access.h - the access logs of a process: a record in, a line to each of them.
 *
 * Records are rendered (render.c) into one buffer per log, which is written once per batch of the loop, whole lines
 * only.  Leading thread only.  A sink that takes nothing, or not enough, never makes a request wait: what does not fit
 * into the buffer is dropped, counted, and told in one line per interval.
 *
 * A log process will take this interface over: lc_access_write() then sends the record on.
 */
#ifndef LC_CORE_LOG_ACCESS_H
#define LC_CORE_LOG_ACCESS_H

#include "log/format.h"
#include "log/record.h"

#define LC_ACCESS_LOGS 8u /* of a pool */

struct lc_access;
struct lc_access *lc_access_new(void);
/* Owns fd and fmt, errors included.  `name` is for messages and must stay valid.  0 or -errno. */
int lc_access_add(struct lc_access *, const char *name, int fd, struct lc_logfmt *fmt);
/* Another open file in place of log number `i`; what was collected goes to the old one.  Owns fd. */
void lc_access_reopen(struct lc_access *, uint32_t i, int fd);
int lc_access_timed(const struct lc_access *); /* record.now and took have to be exact */
void lc_access_write(struct lc_access *, const struct lc_record *);
void lc_access_flush(struct lc_access *, uint64_t now_ns); /* NULL: nothing */
/* Flushes, for a quarter of a second at most, and tells what was lost.  NULL is fine. */
void lc_access_free(struct lc_access *);

#endif
