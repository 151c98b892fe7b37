/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/stream/internal.h - what stream.c and api.c share.
 */
#ifndef LC_CORE_STREAM_INTERNAL_H
#define LC_CORE_STREAM_INTERNAL_H

#include "stream/stream.h"

/* `shared` is set once, by the leading thread, before another thread gets to see the stream. */
static inline void
lc__lock(struct lc_stream *s)
{
	if (s->shared)
		pthread_mutex_lock(&s->mu);
}

static inline void
lc__unlock(struct lc_stream *s)
{
	if (s->shared)
		pthread_mutex_unlock(&s->mu);
}

void *lc__arena(struct lc_stream *, size_t n); /* locked */

#endif
