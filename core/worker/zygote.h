/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/zygote.h - the process from which the workers of a pool are forked (preload on).
 */
#ifndef LC_CORE_WORKER_ZYGOTE_H
#define LC_CORE_WORKER_ZYGOTE_H

#include <licorne/worker.h>

#include "worker/control.h"

#define LC_ZYGOTE_REFUSAL                                                                              \
	"preload: the worker module \"%s\" cannot load an application before its workers are forked, " \
	"expected preload off"

/* Has the module what it takes? */
static inline int
lc_zygote_can(const struct lc_worker *wk)
{
	return wk->size >= offsetof(struct lc_worker, forked) + sizeof(wk->forked) && wk->preload && wk->forking &&
	       wk->forked;
}

/* How many threads this process has, and their names. */
unsigned lc_zygote_threads(char *names, size_t n);
/* Forks as the arbiter asks, and ends the process when it says so, when term_fd becomes readable, or when the arbiter
 * is gone.  Returns in each worker: ctl is freed, descriptor 3 its own channel, TERM blocked. */
void lc_zygote_serve(struct lc_ctl *ctl, const struct lc_worker *, void *w, int term_fd);

#endif
