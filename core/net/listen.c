/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listen.c - listeners and the accept gate.
 *
 * Every process of a pool has the same sockets in its epoll, level-triggered and exclusive: one idle process is woken
 * per connection.  The kernel wakes the first registered first, so each takes its leave after every accept and queues
 * up anew.  A process that can take no request goes out of the queue *before* it sleeps, and looks once more after it:
 * a connection whose wake-up it already consumed would be stranded otherwise.  What it cannot take even so it leaves to
 * another process, by asking the arbiter.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log/log.h"
#include "net/conn.h"

#define ACCEPTS_ALONE 16u    /* accepts per wake when no other process shares the listener */
#define GATE_RETRY_MS 5u     /* a closed gate looks again */
#define STRANDED_MS 100u     /* how often others are asked to take what we cannot */
#define NOFILE_RETRY_MS 200u /* out of descriptors: wait for some to come free */
#define DRAIN_ACCEPTS 4096u  /* what may wait in the queue when draining begins */

static void
gate_timer(struct lc_timer *t)
{
	/* only wakes the loop: lc_gate_update() runs at the end of every batch */
	(void)t;
}

/* 1: accepted; 0: none waits; -1: cannot accept now. */
static int
accept_one(struct lc_lsn *l)
{
	struct lc_srv *srv = l->srv;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd = accept4(l->ev.fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		lc_conn_new(l, fd, &sa, len);
		return 1;
	}
	switch (errno) {
	case EAGAIN:
		return 0;
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
		return 1; /* that one is gone; the next may be there */
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		if (srv->loop.now - srv->emfile_logged > UINT64_C(5000000000) || !srv->emfile_logged) {
			lc_log(LC_LOG_WARN,
			       "accept: %s: with %u connections open; idle ones are closed; raise the limit of open "
			       "files or lower worker_connections",
			       strerror(errno), srv->nconns);
			srv->emfile_logged = srv->loop.now;
		}
		if (!lc_conn_reuse(srv, 16))
			srv->no_files_until = srv->loop.now + NOFILE_RETRY_MS * UINT64_C(1000000);
		return -1;
	default:
		if (lc_srv_may_log(srv))
			lc_log(LC_LOG_ERROR, "accept: %s", strerror(errno));
		return -1;
	}
}

int
lc_srv_may_log(struct lc_srv *srv)
{
	if (srv->trouble_logged && srv->loop.now - srv->trouble_logged < UINT64_C(5000000000))
		return 0;
	srv->trouble_logged = srv->loop.now;
	return 1;
}

static int
arm(struct lc_lsn *l, int on)
{
	return lc_ev_set(&l->srv->loop, &l->ev, on ? EPOLLIN | EPOLLEXCLUSIVE : 0, 1);
}

void
lc_lsn_ready(struct lc_ev *ev, uint32_t events)
{
	struct lc_lsn *l = (struct lc_lsn *)((char *)ev - offsetof(struct lc_lsn, ev));
	struct lc_srv *srv = l->srv;
	uint32_t most = srv->processes > 1 ? 1 : ACCEPTS_ALONE;

	(void)events;
	if (!ev->armed)
		return; /* disarmed earlier in this batch */
	for (uint32_t k = 0; k < most; k++) {
		if (accept_one(l) <= 0)
			break;
		if (srv->nconns > srv->max_conns && !lc_conn_reuse(srv, 1))
			return; /* one too many for a moment: the gate closes at the end of the batch */
		if (srv->processes > 1) {
			arm(l, 0);
			arm(l, 1);
		}
	}
}

static int
waits(const struct lc_srv *srv)
{
	for (uint32_t k = 0; k < srv->nlsn; k++) {
		struct pollfd p = {.fd = srv->lsn[k].ev.fd, .events = POLLIN};

		if (poll(&p, 1, 0) == 1 && (p.revents & POLLIN))
			return 1;
	}
	return 0;
}

/* We were woken for it, maybe, and cannot take it. */
static void
tell_stranded(struct lc_srv *srv)
{
	if (srv->processes <= 1 || !srv->on_stranded ||
	    (srv->stranded_told && srv->loop.now - srv->stranded_told < STRANDED_MS * UINT64_C(1000000)) || !waits(srv))
		return;
	srv->stranded_told = srv->loop.now;
	srv->on_stranded(srv);
}

void
lc_gate_again(struct lc_srv *srv)
{
	if (srv->draining || srv->gate_closed || !srv->gate_open_since)
		return;
	for (uint32_t k = 0; k < srv->nlsn; k++) {
		arm(&srv->lsn[k], 0);
		arm(&srv->lsn[k], 1);
	}
}

void
lc_gate_update(struct lc_srv *srv)
{
	int full = srv->loop.now < srv->no_files_until || (srv->nconns >= srv->max_conns && !lc_conn_has_idle(srv));

	if (srv->draining || !srv->gate_open_since)
		return;
	/* Alone, a busy process may as well take the connection itself: nobody else will. */
	if (srv->processes > 1 && srv->capacity && srv->inflight - srv->handled >= srv->capacity)
		full = 1;
	if (full == srv->gate_closed) {
		if (full && !lc_timer_armed(&srv->gate_timer))
			lc_timer_arm(&srv->loop, &srv->gate_timer, GATE_RETRY_MS, gate_timer);
		return;
	}
	srv->gate_closed = full;
	for (uint32_t k = 0; k < srv->nlsn; k++) {
		int r = arm(&srv->lsn[k], !full);
		if (r < 0)
			lc_log(LC_LOG_ERROR, "listener %s: epoll_ctl: %s", srv->lsn[k].addr, strerror(-r));
	}
	if (!full) {
		lc_timer_cancel(&srv->gate_timer);
		return;
	}
	if (srv->nconns < srv->max_conns && srv->loop.now >= srv->no_files_until)
		for (uint32_t k = 0; k < srv->nlsn; k++)
			accept_one(&srv->lsn[k]);
	else
		tell_stranded(srv);
	lc_timer_arm(&srv->loop, &srv->gate_timer, GATE_RETRY_MS, gate_timer);
}

/* Draining: what the kernel has completed for us is still served, then the listeners go. */
void
lc_gate_close_for_good(struct lc_srv *srv)
{
	if (srv->nconns >= srv->max_conns)
		tell_stranded(srv);
	for (uint32_t k = 0; k < srv->nlsn; k++) {
		struct lc_lsn *l = &srv->lsn[k];
		arm(l, 0);
		if (l->ev.fd < 0)
			continue;
		for (uint32_t n = 0; n < DRAIN_ACCEPTS && srv->nconns < srv->max_conns && accept_one(l) > 0; n++)
			;
		close(l->ev.fd);
		l->ev.fd = -1;
	}
	lc_timer_cancel(&srv->gate_timer);
}
