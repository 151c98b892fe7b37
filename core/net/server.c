/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server.c - start, batch end, drain and end of the serving half; the "worker" table.
 */
#include "net/server.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/access.h"
#include "log/log.h"
#include "module/loader.h"
#include "stream/token.h"

#define GIVE_BACK_AFTER 1024u /* connections closed */

#define FINAL_MS 1000u /* from the notice of draining to its final phase */

static struct lc_srv *
srv_of(struct lc_wctx *x)
{
	return (struct lc_srv *)x;
}

/* ---- the "worker" table ---- */

static int
wx_lead(struct lc_wctx *x)
{
	return lc_loop_lead(&srv_of(x)->loop);
}

struct call {
	struct lc_post post;
	void (*fn)(void *);
	void *arg;
};

static void
run_call(struct lc_post *p)
{
	struct call k = *(struct call *)p;

	free(p);
	k.fn(k.arg);
}

static int
wx_post(struct lc_wctx *x, void (*fn)(void *), void *arg)
{
	struct call *k = malloc(sizeof(*k));

	if (!k)
		return -ENOMEM;
	*k = (struct call){.post = {.fn = run_call}, .fn = fn, .arg = arg};
	lc_loop_post(&srv_of(x)->loop, &k->post);
	return 0;
}

static void
wx_capacity(struct lc_wctx *x, uint32_t requests)
{
	srv_of(x)->capacity = requests;
}

static uint64_t
wx_clock(struct lc_wctx *x, int now)
{
	struct lc_loop *l = &srv_of(x)->loop;

	return now ? lc_loop_clock(l) : l->now;
}

static const char *
wx_pool_name(struct lc_wctx *x)
{
	return srv_of(x)->pool;
}

static uint32_t
wx_processes(struct lc_wctx *x)
{
	return srv_of(x)->processes;
}

static uint32_t
wx_slot(struct lc_wctx *x)
{
	return srv_of(x)->slot;
}

static void
wx_boot_error(struct lc_wctx *x, const char *text, size_t n)
{
	struct lc_srv *srv = srv_of(x);
	size_t max = 12 << 10;

	if (n > max) { /* the end of a traceback says more than its beginning */
		text += n - max;
		n = max;
	}
	free(srv->boot_error);
	srv->boot_error = malloc(n + 1);
	if (!srv->boot_error)
		return;
	memcpy(srv->boot_error, text, n);
	srv->boot_error[n] = 0;
	srv->boot_error_n = n;
}

static void LC_PRINTF(3, 4) wx_log(struct lc_wctx *x, int level, const char *fmt, ...)
{
	char *text, *rest;
	va_list ap;
	int n;

	(void)x;
	if (!lc_log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	rest = strchr(text, '\n');
	if (rest) {
		*rest++ = '\0';
		lc_log_text(level, text, rest, strlen(rest));
	} else {
		lc_log(level, "%s", text);
	}
	free(text);
}

static uint64_t
wx_enter(struct lc_wctx *x, struct lc_stream *s)
{
	static _Thread_local uint32_t tid, calls;
	struct lc_srv *srv = srv_of(x);

	if (!s->flight)
		return 0;
	if (__builtin_expect(!tid, 0))
		tid = lc_fl_thread();
	return lc_fl_enter(s->flight, (uint64_t)tid << 32 | ++calls,
			   lc_loop_leading(&srv->loop) ? srv->loop.now : lc_fl_clock());
}

static void
wx_leave(struct lc_wctx *x, struct lc_stream *s)
{
	(void)x;
	if (s->flight)
		lc_fl_leave(s->flight);
}

static uint64_t
wx_request_timeout(struct lc_wctx *x)
{
	return srv_of(x)->request_timeout;
}

static int
wx_stacks(struct lc_wctx *x, int *signo)
{
	struct lc_srv *srv = srv_of(x);

	*signo = LC_FL_SIGNAL;
	return srv->flight ? srv->flight->fd : -1;
}

static uint64_t
wx_memo(struct lc_wctx *x)
{
	static _Atomic uint64_t last;

	(void)x;
	return ++last;
}

static const struct lc_worker_api worker_table = {
    .size = sizeof(struct lc_worker_api),
    .stream = &lc_stream_table,
    .lead = wx_lead,
    .post = wx_post,
    .capacity = wx_capacity,
    .clock = wx_clock,
    .token = lc_token,
    .pool_name = wx_pool_name,
    .processes = wx_processes,
    .slot = wx_slot,
    .boot_error = wx_boot_error,
    .log = wx_log,
    .memo = wx_memo,
    .enter = wx_enter,
    .leave = wx_leave,
    .request_timeout = wx_request_timeout,
    .stacks = wx_stacks,
};

const struct lc_worker_api *
lc_worker_table(void)
{
	return &worker_table;
}

void
lc_srv_register_tables(void)
{
	lc_host_register("conn", 1, &lc_conn_table, sizeof(lc_conn_table));
	lc_host_register("stream", 1, &lc_stream_table, sizeof(lc_stream_table));
	lc_host_register("transport", 1, &lc_transport_table, sizeof(lc_transport_table));
	lc_host_register("worker", 1, &worker_table, sizeof(worker_table));
}

/* ---- life ---- */

static void
finish(struct lc_srv *srv)
{
	if (srv->stopping)
		return;
	srv->stopping = 1;
	if (srv->wk && srv->wk->stop)
		srv->wk->stop(srv->w, LC_STOP_QUIT, srv->quit_ms);
	lc_loop_stop(&srv->loop);
}

/* What a crowd of connections took lies in small pieces between what is still used, and free() gives none of it back.
 */
static void
give_back(struct lc_srv *srv)
{
	if (srv->closed < GIVE_BACK_AFTER || srv->nconns > srv->closed / 4)
		return;
	srv->closed = 0;
#ifdef __GLIBC__
	(void)malloc_trim(0);
#endif
}

static void
batch_end(void *arg)
{
	struct lc_srv *srv = arg;

	if (srv->wk->batch_end)
		srv->wk->batch_end(srv->w);
	lc_access_flush(srv->access, srv->loop.now);
	lc_gate_update(srv);
	give_back(srv);
	if (srv->draining && !srv->nconns && !srv->inflight)
		finish(srv);
}

int
lc_srv_init(struct lc_srv *srv)
{
	int r = lc_loop_init(&srv->loop);

	if (r < 0)
		return r;
	srv->loop.batch_end = batch_end;
	srv->loop.arg = srv;
	srv->buf = malloc(LC_READ_BUF + 64); /* parsers may look a word beyond the end */
	if (!srv->buf)
		return -ENOMEM;
	lc_conn_init();
	return 0;
}

void
lc_srv_done(struct lc_srv *srv)
{
	lc_access_free(srv->access);
	srv->access = NULL;
	lc_streams_done(&srv->streams);
	lc_loop_done(&srv->loop);
	free(srv->buf);
	free(srv->plain);
	free(srv->file_part);
	free(srv->spare);
	free(srv->boot_error);
}

void
lc_srv_listen(struct lc_srv *srv)
{
	srv->gate_open_since = srv->loop.now;
	srv->gate_closed = 1;
	lc_gate_update(srv);
}

static void
deadline(struct lc_timer *t)
{
	struct lc_srv *srv = (struct lc_srv *)((char *)t - offsetof(struct lc_srv, drain_timer));

	lc_log(LC_LOG_WARN, "graceful_timeout: %u connections with %u requests are ended unfinished", srv->nconns,
	       srv->inflight);
	lc_srv_quit(srv);
}

static void
final_phase(struct lc_timer *t)
{
	struct lc_srv *srv = (struct lc_srv *)((char *)t - offsetof(struct lc_srv, final_timer));

	lc_conn_drain_all(srv, LC_DRAIN_FINAL);
}

void
lc_srv_drain(struct lc_srv *srv, int64_t deadline_ms)
{
	if (srv->draining)
		return;
	srv->draining = 1;
	srv->quit_ms = deadline_ms;
	lc_gate_close_for_good(srv);
	if (srv->wk->stop)
		srv->wk->stop(srv->w, LC_STOP_DRAIN, deadline_ms);
	lc_conn_drain_all(srv, LC_DRAIN_NOTICE);
	if (deadline_ms >= 0)
		lc_timer_arm(&srv->loop, &srv->drain_timer, (uint64_t)deadline_ms, deadline);
	lc_timer_arm(&srv->loop, &srv->final_timer, FINAL_MS, final_phase);
}

void
lc_srv_quit(struct lc_srv *srv)
{
	if (!srv->draining) {
		srv->draining = 1;
		for (uint32_t k = 0; k < srv->nlsn; k++)
			lc_ev_set(&srv->loop, &srv->lsn[k].ev, 0, 1);
	}
	srv->quit_ms = 0;
	lc_conn_kill_all(srv, LC_RSN_SHUTDOWN);
	finish(srv);
}
