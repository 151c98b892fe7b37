/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/zygote.c - preload on: workers that are forked from a process which has loaded the application.
 *
 * A pool with `preload on` has one more entry of the table, its zygote.  It starts as a worker does and is configured
 * like one, without what workers serve with; READY means that the application is loaded.  From then on it is asked for
 * one worker at a time:
 *
 *   we:      FORK (fd: the worker's end of its channel)
 *   zygote:                                              FORKED pid | FORKED 0 errno
 *
 * It forks twice, so that the worker is an orphan, whom the kernel gives to us: we are the reaper of all our
 * descendants (PR_SET_CHILD_SUBREAPER).  So the worker is our child like any other before FORKED is sent; from there on
 * nothing is different.  A pid is believed when it is that of an unknown child of ours, who cannot go away before we
 * reap it; and as long as an answer is missing, unknown dead are not reaped (lc__proc_reap()).
 *
 * A worker whose zygote is not there, or is busy, waits in BACKOFF.  The end of a zygote touches no worker; it is
 * started again as a worker would be.  That of a retired generation ends with the order to drain: nobody is started
 * there any more.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

static struct lc__proc *
zygote_of(const struct lc__arb *a, const struct lc__pool *pool)
{
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->kind == &lc__zygote_kind && a->procs[i]->pool == pool)
			return a->procs[i];
	return NULL;
}

bool
lc__zygote_forking(const struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->kind == &lc__zygote_kind && a->procs[i]->child)
			return true;
	return false;
}

void
lc__zygote_start(struct lc__arb *a, struct lc__pool *pool)
{
	struct lc__proc *z;
	char name[96];

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		lc_log(LC_LOG_ERROR, "preload: PR_SET_CHILD_SUBREAPER: %m");
	snprintf(name, sizeof(name), "zygote %.64s", pool->name);
	z = lc__proc_new(a, &lc__zygote_kind, name);
	if (!z) {
		lc_log(LC_LOG_ERROR, "%s cannot be started: no memory", name);
		return;
	}
	z->pool = pool;
	lc__proc_spawn(a, z);
}

static void
wait_for_it(struct lc__proc *p)
{
	lc__proc_state(p, LC_PS_BACKOFF);
	p->waits = true;
	p->deadline = 0;
}

void
lc__zygote_fork(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__proc *z = zygote_of(a, p->pool);
	int fd, r;

	if (!z || z->state != LC_PS_READY || z->child) {
		wait_for_it(p);
		return;
	}
	if (lc__proc_offer(a, p, &fd) < 0) {
		p->kind->ended(a, p);
		return;
	}
	z->child = p;
	z->deadline = a->now + (int64_t)lc__proc_main(a, z)->heartbeat_timeout;
	r = lcimsg_send(z->chan, LC_MSG_FORK, 0, NULL, 0, &fd, 1, LCIMSG_FD_TAKE);
	if (r < 0)
		lc__proc_kill(a, z, SIGKILL, "has a broken channel (%s)", strerror(-r)); /* its end says the rest */
	else
		lc__peer_write(a, z);
}

/* Those that wait, in order, as long as the zygote takes them. */
static void
next(struct lc__arb *a, struct lc__proc *z)
{
	for (uint32_t i = 0; i < a->nprocs && z->state == LC_PS_READY && !z->child; i++) {
		struct lc__proc *p = a->procs[i];

		if (!p->kind || p->pool != z->pool || p->state != LC_PS_BACKOFF || !p->waits)
			continue;
		p->waits = false;
		lc__proc_state(p, LC_PS_EMPTY);
		lc__proc_spawn(a, p);
	}
}

/* Is it a child of ours, and nobody that we know? */
static bool
unknown_child(const struct lc__arb *a, pid_t pid)
{
	siginfo_t si;

	for (uint32_t i = 0; i < a->nprocs; i++)
		if (lc__proc_live(a->procs[i]) && a->procs[i]->pid == pid)
			return false;
	return pid > 0 && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void
forked(struct lc__arb *a, struct lc__proc *z, const lcimsg_msg *m)
{
	struct lc__proc *p = z->child;
	struct lcimsg_reader r;
	uint32_t pid, e;

	lcimsg_reader_init(&r, m);
	pid = lcimsg_get_u32(&r);
	e = lcimsg_get_u32(&r);
	if (!p || (pid && !unknown_child(a, (pid_t)pid))) {
		lc__proc_kill(a, z, SIGKILL, "says that it has forked process %u, which is none of its", pid);
		return;
	}
	z->child = NULL;
	if (pid) {
		lc__proc_adopt(a, p, (pid_t)pid);
		a->reap_again = true; /* it may be dead */
	} else {
		lc_log(LC_LOG_ERROR, "%s cannot be started: fork: %s", p->name, strerror((int)e));
		snprintf(p->why, sizeof(p->why), "cannot be started: fork: %s", strerror((int)e));
		lc__proc_forsake(a, p);
		p->kind->ended(a, p);
	}
	next(a, z);
}

static void
from_zygote(struct lc__arb *a, struct lc__proc *z, const lcimsg_msg *m)
{
	int err;

	switch (lcimsg_type(m)) {
	case LCIMSG_TYPE_HELLO:
		lc__proc_state(z, LC_PS_STARTING);
		err = lc__peer_configure(a, z);
		if (err < 0)
			lc__proc_kill(a, z, SIGKILL, "cannot be configured (%s)", strerror(-err));
		return;
	case LC_MSG_READY:
		if (z->state != LC_PS_STARTING)
			return; /* crossed an order of ours */
		lc__proc_state(z, LC_PS_READY);
		z->was_ready = true;
		z->ready_at = a->now;
		lc_log(LC_LOG_INFO, "%s (pid %ld) has loaded the application after %.2f s", z->name, (long)z->pid,
		       (double)(a->now - z->spawned_at) / 1000.0);
		next(a, z);
		return;
	case LC_MSG_BOOT_FAILED:
		lc__peer_boot_failed(a, z, m);
		return;
	case LC_MSG_FORKED:
		forked(a, z, m);
		return;
	default:
		return;
	}
}

static void
zygote_ended(struct lc__arb *a, struct lc__proc *z)
{
	struct lc__proc *p = z->child;

	z->child = NULL;
	if (p) { /* whoever it may have become sees the end of its channel */
		bool go_on = p->state == LC_PS_SPAWNING && !a->stopping && !p->pool->gen->retired;

		lc__proc_forsake(a, p);
		if (go_on) {
			wait_for_it(p);
		} else {
			lc__proc_state(p, LC_PS_EMPTY);
			lc__proc_free(p);
		}
	}
	lc__worker_ended(a, z);
}

const struct lc__kind lc__zygote_kind = {
    .role = LC_ROLE_ZYGOTE,
    .startup_sig = SIGABRT,
    .late = "could not load the application within startup_timeout",
    .message = from_zygote,
    .ended = zygote_ended,
};
