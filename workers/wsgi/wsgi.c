/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/wsgi/wsgi.c - module "wsgi": PEP 3333 applications on threads, or inline on the loop while they are fast.
 *
 * This file is the module's face: directives and the worker interface.  pool.c has the threads, mode.c the decision,
 * workers/python everything about Python.
 */
#include "pool.h"

static struct lcpy_facts
facts_of(struct lc_wctx *ctx, const struct lc_worker_api *api, uint64_t threads)
{
	return (struct lcpy_facts){.multithread = threads > 1, .multiprocess = api->processes(ctx) > 1};
}

static int
load(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lcpy_conf *c, void **w, lcpy_start *start)
{
	struct lcpy_facts facts = facts_of(ctx, api, c->threads);
	struct pool *p;
	int rc = pool_new(&p, ctx, api, (uint32_t)c->threads);

	if (rc < 0)
		return rc;
	rc = start(ctx, api, c, &facts);
	if (rc < 0) {
		pool_free(p);
		return rc;
	}
	api->capacity(ctx, (uint32_t)c->threads);
	*w = p;
	return 0;
}

static int
wsgi_init(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w)
{
	return load(ctx, api, conf, w, lcpy_init);
}

/* The pool has no threads before run(). */
static int
wsgi_preload(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w)
{
	return load(ctx, api, conf, w, lcpy_preload);
}

static void
wsgi_forking(void *w, uint32_t when)
{
	(void)w;
	lcpy_forking(when);
}

static int
wsgi_forked(void *w)
{
	struct lcpy_facts facts = facts_of(lcpy.ctx, lcpy.wk, pool_threads(w));

	return lcpy_forked(&facts);
}

static int
wsgi_run(void *w)
{
	return pool_run(w);
}

static void
wsgi_request(void *w, struct lc_stream *s)
{
	pool_request(w, s);
}

static void
wsgi_batch_end(void *w)
{
	pool_batch_end(w);
}

static void
wsgi_leader_wanted(void *w)
{
	pool_leader_wanted(w);
}

static void
wsgi_stop(void *w, uint32_t how, int64_t deadline_ms)
{
	pool_stop(w, how, deadline_ms);
}

static void
wsgi_overdue(void *w, uint64_t call)
{
	(void)w;
	lcpy_timeout_overdue(call);
}

static void
wsgi_fini(void *w)
{
	if (!pool_busy(w))
		lcpy_fini();
	pool_free(w);
}

static const struct lc_worker wsgi_ops = {
    .size = sizeof(wsgi_ops),
    .name = "wsgi",
    .init = wsgi_init,
    .run = wsgi_run,
    .request = wsgi_request,
    .batch_end = wsgi_batch_end,
    .leader_wanted = wsgi_leader_wanted,
    .stop = wsgi_stop,
    .fini = wsgi_fini,
    .overdue = wsgi_overdue,
    .preload = wsgi_preload,
    .forking = wsgi_forking,
    .forked = wsgi_forked,
};
static const struct lc_iface ifaces[] = {{LC_KIND_WORKER, LC_WORKER_VERSION, &wsgi_ops}};
static const struct lc_range thread_range = {1, 1024};
static const struct lc_directive directives[] = {
    LCPY_ROWS(struct lcpy_conf),
    LC_UINT(
	struct lcpy_conf, threads, "threads", LC_C_WORKER, "4", &thread_range, "Calls of the application at once",
	"One process runs at most this many calls at the same time; further requests wait in line. While calls prove "
	"fast they run on the loop's own thread, one after the other, and threads are only used when one is slow or "
	"waits for its client. Applications that wait for databases or other services want more threads; `1` is for "
	"applications that are not thread-safe (`wsgi.multithread` is then false)."),
};
static const struct lc_module module = {
    LC_MODULE_HEAD("wsgi", LCPY_VERSION),
    .summary = "WSGI applications (Python " PY_VERSION "), inline while fast, else on threads",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = directives,
    .ndirectives = sizeof(directives) / sizeof(directives[0]),
    .conf_size = sizeof(struct lcpy_conf),
    .check = lcpy_check,
    .load = lcpy_load,
};
LC_MODULE_ENTRY(module)
