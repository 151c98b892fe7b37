/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/render.h - a record and a format to one line.
 */
#ifndef LC_CORE_LOG_RENDER_H
#define LC_CORE_LOG_RENDER_H

#include <stddef.h>

#include "log/format.h"
#include "log/record.h"

#define LC_RENDER_FIELD 2048u /* bytes of one client-controlled value that are looked at */

/* The wall clock, as text; made anew when its second is over. */
struct lc_logclock {
	uint64_t until; /* CLOCK_MONOTONIC, ns; 0: never set */
	uint64_t ahead; /* the wall clock's lead over it, ns */
	uint32_t local_n, iso_n, pid_n;
	/* Each with a piece more than it needs, see format.h: 28/Nov/2026:18:00:00 +0100; 2026-11-28T18:00:00+01:00. */
	char local[48], iso[48], pid[48];
};

/*
 * Write the line, with its end, and return its length: at most `room`, which is at least LC_LOGFMT_FIXED + 16.  Of
 * values that are too long, or for which the line has no room left, the beginning is kept, followed by "...". Nothing
 * that a client sends can end the line or leave the value it stands in.
 */
size_t lc_render(const struct lc_logfmt *, const struct lc_record *, struct lc_logclock *, char *to, size_t room);

#endif
