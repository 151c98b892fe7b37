/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/sync/sync.c - module "sync": PEP 3333 applications, one request at a time, no threads.
 *
 * The core leads the loop on the main thread and request() runs the application there.  A call that must wait for its
 * client steps the loop for its own connection alone (stream->wait()).  The GIL is dropped at the end of each batch, so
 * that threads which the application started itself run while the loop sleeps.
 */
#include "lcpy.h"

struct sync {
	PyThreadState *ts; /* while the GIL is dropped */
	int has_gil;
};

static void
take_gil(struct sync *y)
{
	if (!y->has_gil) {
		PyEval_RestoreThread(y->ts);
		y->has_gil = 1;
	}
}

static void
drop_gil(struct sync *y)
{
	if (y->has_gil) {
		lcpy_drain();
		y->has_gil = 0;
		y->ts = PyEval_SaveThread();
	}
}

static struct lcpy_facts
facts_of(struct lc_wctx *ctx, const struct lc_worker_api *api)
{
	return (struct lcpy_facts){.multithread = 0, .multiprocess = api->processes(ctx) > 1};
}

/* The GIL is held when it is done. */
static int
load(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w, lcpy_start *start)
{
	struct lcpy_facts facts = facts_of(ctx, api);
	struct sync *y = calloc(1, sizeof(*y));
	int rc;

	if (!y)
		return -ENOMEM;
	rc = start(ctx, api, conf, &facts);
	if (rc < 0) {
		free(y);
		return rc;
	}
	api->capacity(ctx, 1);
	y->has_gil = 1;
	*w = y;
	return 0;
}

static int
sync_init(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w)
{
	int rc = load(ctx, api, conf, w, lcpy_init);

	if (rc == 0)
		drop_gil(*w);
	return rc;
}

static int
sync_preload(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w)
{
	return load(ctx, api, conf, w, lcpy_preload);
}

static void
sync_forking(void *w, uint32_t when)
{
	(void)w;
	lcpy_forking(when);
}

static int
sync_forked(void *w)
{
	struct lcpy_facts facts = facts_of(lcpy.ctx, lcpy.wk);
	int rc = lcpy_forked(&facts);

	if (rc == 0)
		drop_gil(w);
	return rc;
}

static void
sync_request(void *w, struct lc_stream *s)
{
	take_gil(w);
	lcpy_call(s, 0);
}

static void
sync_batch_end(void *w)
{
	if (lcpy_drain_wanted())
		take_gil(w); /* nobody else will */
	drop_gil(w);
}

static void
sync_overdue(void *w, uint64_t call)
{
	(void)w;
	lcpy_timeout_overdue(call);
}

static void
sync_fini(void *w)
{
	take_gil(w);
	lcpy_fini();
	free(w);
}

static const struct lc_worker sync_ops = {
    .size = sizeof(sync_ops),
    .name = "sync",
    .init = sync_init,
    .request = sync_request,
    .batch_end = sync_batch_end,
    .fini = sync_fini,
    .overdue = sync_overdue,
    .preload = sync_preload,
    .forking = sync_forking,
    .forked = sync_forked,
};
static const struct lc_iface ifaces[] = {{LC_KIND_WORKER, LC_WORKER_VERSION, &sync_ops}};
static const struct lc_directive directives[] = {LCPY_ROWS(struct lcpy_conf)};
static const struct lc_module module = {
    LC_MODULE_HEAD("sync", LCPY_VERSION),
    .summary = "WSGI applications (Python " PY_VERSION "), one request at a time per process, no threads",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = directives,
    .ndirectives = sizeof(directives) / sizeof(directives[0]),
    .conf_size = sizeof(struct lcpy_conf),
    .check = lcpy_check,
    .load = lcpy_load,
};
LC_MODULE_ENTRY(module)
