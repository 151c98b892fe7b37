/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/peer.c - what a child says and what it is told: one dispatch per role.
 *
 * A child is not trusted.  Whatever breaks the table of messages, floods, or leaves its own queue full costs that child
 * its life and nobody else's.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

const char *
lc__last_line(const char *text, size_t n, char *buf, size_t size)
{
	size_t at;

	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	for (at = n; at && text[at - 1] != '\n'; at--)
		;
	snprintf(buf, size, "%.*s", (int)(n - at), text + at);
	return buf;
}

/* CONFIG, LISTEN..., ACCESSLOG..., FILE..., FLIGHT, GO: all queued at once, in this order.  A zygote gets none of what
 * workers serve with: it has the configuration to load modules and the application. */
int
lc__peer_configure(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__pool *pool = p->pool;
	const struct lc__gen *g = pool->gen;
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_CONFIG, 0);
	bool serves = p->kind == &lc__worker_kind;
	static const uint8_t no_secret[LC_SECRET];
	int r;

	lcimsg_put_memfd(m, pool->config_fd, pool->config_n, LCIMSG_FD_DUP);
	lcimsg_put_u32(m, p->index);
	lcimsg_put_u32(m, pool->target);
	lcimsg_put_u32(m, g->number);
	lcimsg_put_u32(m, serves ? pool->nlisteners : 0);
	lcimsg_put_u32(m, (uint32_t)g->log_level);
	lcimsg_put_u8(m, lc__arb_first_start(a, pool));
	lcimsg_put_bytes(m, serves ? pool->secret.now : no_secret, LC_SECRET);
	lcimsg_put_bytes(m, serves ? pool->secret.before : no_secret, LC_SECRET);
	lcimsg_put_str(m, g->prefix);
	r = lcimsg_submit(p->chan, m);
	for (uint32_t i = 0; r >= 0 && serves && i < pool->nlisteners; i++) {
		m = lcimsg_msg_new(LC_MSG_LISTEN, 0);
		lcimsg_put_u32(m, pool->listeners[i].index);
		lcimsg_put_str(m, pool->listeners[i].sock->name);
		lcimsg_put_fd(m, pool->listeners[i].sock->fd, LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
	}
	for (uint32_t i = 0; r >= 0 && serves && i < pool->naccess; i++) {
		m = lcimsg_msg_new(LC_MSG_ACCESSLOG, 0);
		lcimsg_put_u32(m, i);
		lcimsg_put_fd(m, pool->access_fd[i], LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
	}
	for (uint32_t i = 0; r >= 0 && serves && i < g->files.n; i++) {
		const struct lc__privfile *f = &g->files.v[i];

		if (f->pool != (uint32_t)(pool - g->pools))
			continue;
		m = lcimsg_msg_new(LC_MSG_FILE, 0);
		lcimsg_put_memfd(m, f->fd, f->size, LCIMSG_FD_DUP);
		lcimsg_put_str(m, f->path);
		r = lcimsg_submit(p->chan, m);
	}
	if (r >= 0 && p->flight) {
		m = lcimsg_msg_new(LC_MSG_FLIGHT, 0);
		lcimsg_put_fd(m, p->flight_fd, LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
	}
	if (r >= 0)
		r = lcimsg_send(p->chan, LC_MSG_GO, 0, NULL, 0, NULL, 0, 0);
	return r < 0 ? r : 0;
}

void
lc__peer_boot_failed(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	const char *text;
	char head[160];
	size_t n;

	if (p->boot_failed || a->stopping || p->told)
		return;
	p->boot_failed = true;
	text = lcimsg_data(m, &n);
	snprintf(head, sizeof(head), "%s (pid %ld) could not start:", p->name, (long)p->pid);
	lc_log_text(LC_LOG_ERROR, head, text, n);
	if (lc__reload_owns(a, p->pool))
		lc__reload_failed(a, "%s could not start: %s", p->name, lc__last_line(text, n, head, sizeof(head)));
	(void)lc__arb_boot_failed(a, p->pool);
}

static void
from_worker(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	struct lcimsg_reader r;
	int err;

	lcimsg_reader_init(&r, m);
	switch (lcimsg_type(m)) {
	case LCIMSG_TYPE_HELLO:
		lc__proc_state(p, LC_PS_STARTING);
		err = lc__peer_configure(a, p);
		if (err < 0)
			lc__proc_kill(a, p, SIGKILL, "cannot be configured (%s)", strerror(-err));
		return;
	case LC_MSG_READY:
		if (p->state != LC_PS_STARTING)
			return; /* crossed an order of ours */
		lc__proc_state(p, LC_PS_READY);
		p->was_ready = true;
		p->ready_at = p->beat_at = a->now;
		lc_log(LC_LOG_INFO, "%s (pid %ld) is ready after %.2f s", p->name, (long)p->pid,
		       (double)(a->now - p->spawned_at) / 1000.0);
		lc__renew_begin(a, p);
		lc__arb_ready(a, p);
		lc__reload_ready(a);
		lc__renew_done(a, p);
		return;
	case LC_MSG_HEARTBEAT:
		p->beat.requests = lcimsg_get_u64(&r);
		p->beat.accepted = lcimsg_get_u64(&r);
		p->beat.inflight = lcimsg_get_u32(&r);
		p->beat.conns = lcimsg_get_u32(&r);
		p->beat.call = lcimsg_get_u32(&r);
		p->beat_at = a->now;
		if (!p->beat.call)
			p->kicked = false;
		if (p->diag == LC__DIAG_HUNG) {
			lc_log(LC_LOG_NOTICE, "%s (pid %ld) gives signs of life again", p->name, (long)p->pid);
			p->diag = LC__DIAG_NONE;
		}
		lc__renew_look(a, p);
		return;
	case LC_MSG_KICK_REQ:
		lc__kick_asked(a, p);
		return;
	case LC_MSG_STUCK:
		if (p->state == LC_PS_EXITING || p->diag)
			return;
		p->stuck = lcimsg_get_u32(&r);
		lc__diag_begin(a, p, LC__DIAG_STUCK);
		return;
	case LC_MSG_BOOT_FAILED:
		lc__peer_boot_failed(a, p, m);
		return;
	default: /* the table has no other of a worker's */
		return;
	}
}

const struct lc__kind lc__worker_kind = {
    .role = LC_ROLE_WORKER,
    .startup_sig = SIGABRT,
    .late = "could not serve within startup_timeout",
    .message = from_worker,
    .ended = lc__worker_ended,
};

/* HELLO is everybody's, the rest each kind's. */
static void
from_child(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	if (lcimsg_type(m) == LCIMSG_TYPE_HELLO) {
		if (p->state != LC_PS_SPAWNING)
			return;
		if (lcimsg_peer(p->chan)->role != p->kind->role) {
			lc__proc_kill(a, p, SIGKILL, "says it is role %u", lcimsg_peer(p->chan)->role);
			return;
		}
	}
	p->kind->message(a, p, m);
}

/* A bucket of tokens: a child that talks without end must not keep the arbiter busy. */
static bool
flooding(struct lc__arb *a, struct lc__proc *p)
{
	int64_t got = (a->now - p->tokens_at) * LC__MSG_RATE / 1000;

	if (got > 0) {
		p->tokens = p->tokens + got > LC__MSG_BURST ? LC__MSG_BURST : p->tokens + (int)got;
		p->tokens_at = a->now;
	}
	return --p->tokens < 0;
}

static bool
condemned(const struct lc__proc *p)
{
	return p->sig == SIGKILL;
}

static void
read_messages(struct lc__arb *a, struct lc__proc *p)
{
	char why[160];
	lcimsg_msg *m;
	int r = 0;

	/* What a condemned child says no longer counts.  One that is let go has no channel. */
	while (p->chan && !condemned(p) && (r = lcimsg_recv(p->chan, &m)) == 1) {
		if (lc_msg_check(m, p->kind->role, LC_PS_BIT(p->state), why, sizeof(why)) < 0)
			lc__proc_kill(a, p, SIGKILL, "broke the rules of its channel: %s", why);
		else if (flooding(a, p))
			lc__proc_kill(a, p, SIGKILL, "sends more than %d messages per second", LC__MSG_RATE);
		else
			from_child(a, p, m);
		lcimsg_unref(m);
	}
	if (!p->chan)
		return;
	if (condemned(p)) {
		p->chan_eof = true; /* as good as: nothing is read any more */
		p->partial_since = 0;
		return;
	}
	if (r == LCIMSG_EOF) {
		p->chan_eof = true;
		p->partial_since = 0;
	} else if (r == -EPROTO && lcimsg_events(p->chan) == 0) {
		/* A message cut short by the sender's death is no crime of its own. */
		p->chan_eof = true;
		p->partial_since = 0;
		if (!p->reaped)
			lc__proc_kill(a, p, SIGKILL, "broke the rules of its channel: %s", lcimsg_why(p->chan));
	} else if (lcimsg_partial(p->chan) > 0) {
		if (!p->partial_since)
			p->partial_since = a->now;
	} else {
		p->partial_since = 0;
	}
}

void
lc__peer_read(struct lc__arb *a, struct lc__proc *p, unsigned fills)
{
	while (p->chan && !p->chan_eof && fills-- > 0) {
		int r = lcimsg_fill(p->chan);

		if (r < 0 && r != -EPROTO) {
			if (!p->reaped)
				lc__proc_kill(a, p, SIGKILL, "has a broken channel (%s)", strerror(-r));
			p->chan_eof = true;
			break;
		}
		if (r == 0)
			break;
		read_messages(a, p);
	}
	if (p->chan && p->chan_eof && p->ev) {
		(void)epoll_ctl(a->epfd, EPOLL_CTL_DEL, lcimsg_fd(p->chan), NULL);
		p->ev = 0;
		/* A process that exits closes its channel a little before it can be reaped. */
		if (!p->reaped && p->state != LC_PS_EXITING) {
			lc__proc_state(p, LC_PS_EXITING);
			p->deadline = a->now + LC__KILL_GRACE;
		}
	}
}

void
lc__peer_write(struct lc__arb *a, struct lc__proc *p)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = p->id};

	if (!p->chan || p->chan_eof || p->asked || (p->ev == EPOLLIN && !(lcimsg_events(p->chan) & POLLOUT)))
		return;
	/* -EPIPE: the end shows up on the reading side, behind what the child still said. */
	(void)lcimsg_flush(p->chan);
	if (lcimsg_events(p->chan) & POLLOUT)
		ev.events |= EPOLLOUT;
	if (p->ev && ev.events != p->ev && epoll_ctl(a->epfd, EPOLL_CTL_MOD, lcimsg_fd(p->chan), &ev) == 0)
		p->ev = ev.events;
}
