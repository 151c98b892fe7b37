/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/proc.c - the table of processes: states, spawning, killing, reaping, deadlines.
 *
 *   EMPTY -> SPAWNING -> STARTING -> READY -> DRAINING -> EXITING -> DEAD -> BACKOFF -> EMPTY
 *                                                 any live state -> EXITING -> DEAD
 *
 * One table holds processes of every kind (struct lc__kind): what is theirs alone is in the kind's functions.  A slot
 * of a pool may have several entries: the process that has it, one that is `leaving` it, and those of older
 * generations.
 *
 * A slot is freed when its process is reaped and its channel was read to the end; for a dead process "nothing there" is
 * the end, since a grandchild that inherited the socket could hold EOF back for ever.  Nothing in here waits.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

static const uint16_t legal[LC_PS_COUNT] = {
    /* BACKOFF: there is no zygote to fork it yet */
    [LC_PS_EMPTY] = LC_PS_BIT(LC_PS_SPAWNING) | LC_PS_BIT(LC_PS_BACKOFF),
    [LC_PS_SPAWNING] = LC_PS_BIT(LC_PS_STARTING) | LC_PS_BIT(LC_PS_EXITING) | LC_PS_BIT(LC_PS_DEAD),
    [LC_PS_STARTING] =
	LC_PS_BIT(LC_PS_READY) | LC_PS_BIT(LC_PS_DRAINING) | LC_PS_BIT(LC_PS_EXITING) | LC_PS_BIT(LC_PS_DEAD),
    /* EMPTY: it is let go, and lives on without us */
    [LC_PS_READY] =
	LC_PS_BIT(LC_PS_DRAINING) | LC_PS_BIT(LC_PS_EXITING) | LC_PS_BIT(LC_PS_DEAD) | LC_PS_BIT(LC_PS_EMPTY),
    [LC_PS_DRAINING] = LC_PS_BIT(LC_PS_EXITING) | LC_PS_BIT(LC_PS_DEAD),
    [LC_PS_EXITING] = LC_PS_BIT(LC_PS_DEAD),
    [LC_PS_DEAD] = LC_PS_BIT(LC_PS_BACKOFF) | LC_PS_BIT(LC_PS_EMPTY),
    [LC_PS_BACKOFF] = LC_PS_BIT(LC_PS_EMPTY),
};

void
lc__proc_state(struct lc__proc *p, enum lc_pstate to)
{
	assert(legal[p->state] & LC_PS_BIT(to)); /* our own bug, whatever the child did */
	lc_log(LC_LOG_DEBUG, "%s (pid %ld): %s -> %s", p->name, (long)p->pid, lc_pstate_name(p->state),
	       lc_pstate_name(to));
	p->state = to;
}

bool
lc__proc_live(const struct lc__proc *p)
{
	return p->state != LC_PS_EMPTY && p->state != LC_PS_DEAD && p->state != LC_PS_BACKOFF;
}

bool
lc__proc_configured(const struct lc__proc *p)
{
	return (p->kind == &lc__worker_kind || p->kind == &lc__zygote_kind) && p->chan && !p->chan_eof &&
	       (p->state == LC_PS_STARTING || p->state == LC_PS_READY || p->state == LC_PS_DRAINING);
}

const struct lc_conf_main *
lc__proc_main(const struct lc__arb *a, const struct lc__proc *p)
{
	return p->pool ? p->pool->gen->main : a->main;
}

struct lc__proc *
lc__proc_new(struct lc__arb *a, const struct lc__kind *kind, const char *name)
{
	struct lc__proc *p = NULL, **v;
	uint32_t id;

	for (id = 0; id < a->nprocs && a->procs[id]->kind; id++)
		;
	if (id == a->nprocs) {
		v = realloc(a->procs, (a->nprocs + 1) * sizeof(*v));
		if (!v)
			return NULL;
		a->procs = v;
		p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		a->procs[a->nprocs++] = p;
	}
	p = a->procs[id];
	*p = (struct lc__proc){.kind = kind, .id = id, .pidfd = -1};
	snprintf(p->name, sizeof(p->name), "%s", name);
	return p;
}

void
lc__proc_free(struct lc__proc *p)
{
	assert(p->state == LC_PS_EMPTY && !p->chan);
	assert(!p->flight);
	p->kind = NULL;
	p->pool = NULL;
}

struct lc__proc *
lc__proc_slot(struct lc__arb *a, struct lc__pool *pool, uint32_t index)
{
	struct lc__proc *p;
	char name[96];

	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->kind == &lc__worker_kind && a->procs[i]->pool == pool && a->procs[i]->index == index &&
		    !a->procs[i]->leaving)
			return a->procs[i];
	snprintf(name, sizeof(name), "worker %.64s/%u", pool->name, index);
	p = lc__proc_new(a, &lc__worker_kind, name);
	if (p) {
		p->pool = pool;
		p->index = index;
	}
	return p;
}

/* ---- start ---- */

static void
close_handles(struct lc__arb *a, struct lc__proc *p)
{
	lcimsg_close(p->chan); /* and with it, its place in epoll */
	p->chan = NULL;
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

/* A new life of an entry; with a channel if its kind has a role: then *ret_fd is the other end.  0 or -errno. */
static int
begin(struct lc__arb *a, struct lc__proc *p, int64_t deadline, int *ret_fd)
{
	struct lcimsg_opts o = {
	    .struct_size = sizeof(o), .flags = LCIMSG_OWN_FD, .role = LC_ROLE_ARBITER, .build = "licorne " LC_VERSION};
	int sv[2] = {-1, -1}, r = 0;

	lc__proc_state(p, LC_PS_SPAWNING);
	p->pid = 0;
	p->spawned_at = p->beat_at = p->tokens_at = a->now;
	p->ready_at = p->partial_since = 0;
	p->deadline = deadline;
	p->was_ready = p->reaped = p->chan_eof = p->boot_failed = p->core = p->told = false;
	p->sig = p->status_code = p->status_sig = 0;
	p->why[0] = 0;
	p->tokens = LC__MSG_BURST;
	memset(&p->beat, 0, sizeof(p->beat));
	p->diagnosed = p->kicked = false;
	p->diag = LC__DIAG_NONE;
	p->waits = p->asked = false;
	p->ev = 0;
	if (p->kind == &lc__worker_kind && (r = lc__flight_make(p)) < 0)
		lc_log(LC_LOG_WARN, "%s has no flight recorder: %s", p->name, strerror(-r));
	p->starts++;
	if (!p->kind->role)
		return 0;
	r = lcimsg_pair(sv, SOCK_STREAM);
	if (r == 0)
		r = lcimsg_open(&p->chan, sv[0], &o);
	*ret_fd = sv[1];
	return r;
}

static int
listen_to(struct lc__arb *a, struct lc__proc *p)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = p->id};

	if (epoll_ctl(a->epfd, EPOLL_CTL_ADD, lcimsg_fd(p->chan), &ev) < 0)
		return -errno;
	p->ev = EPOLLIN;
	return 0;
}

void
lc__proc_forsake(struct lc__arb *a, struct lc__proc *p)
{
	p->pid = 0;
	p->asked = false;
	close_handles(a, p);
	lc__flight_free(p);
	lc__proc_state(p, LC_PS_DEAD);
}

static int
cannot_start(struct lc__arb *a, struct lc__proc *p, int r)
{
	lc_log(LC_LOG_ERROR, "%s cannot be started: %s", p->name, strerror(-r));
	snprintf(p->why, sizeof(p->why), "cannot be started: %s", strerror(-r));
	lc__proc_forsake(a, p);
	return r;
}

static void
started(struct lc__arb *a, struct lc__proc *p)
{
	/* It cannot be another process: as long as we do not reap it, nobody gets its pid. */
	p->pidfd = pidfd_open(p->pid, 0);
	lc_log(LC_LOG_INFO, "%s started as pid %ld", p->name, (long)p->pid);
	if (p->chan)
		lc__peer_write(a, p);
}

int
lc__proc_start(struct lc__arb *a, struct lc__proc *p, struct lc__child *ch, int64_t deadline)
{
	int fd = -1, r = begin(a, p, deadline, &fd);

	if (r == 0 && p->chan)
		r = listen_to(a, p);
	if (fd >= 0)
		ch->fd3 = fd;
	if (r == 0 && (p->pid = lc__child_spawn(ch)) < 0)
		r = (int)p->pid;
	if (fd >= 0)
		close(fd);
	if (r < 0)
		return cannot_start(a, p, r);
	started(a, p);
	return 0;
}

int
lc__proc_offer(struct lc__arb *a, struct lc__proc *p, int *ret_fd)
{
	int fd = -1, r = begin(a, p, INT64_MAX, &fd);

	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return cannot_start(a, p, r);
	}
	p->asked = true;
	*ret_fd = fd;
	return 0;
}

void
lc__proc_adopt(struct lc__arb *a, struct lc__proc *p, pid_t pid)
{
	int r = listen_to(a, p);

	p->asked = false;
	p->pid = pid;
	if (p->state == LC_PS_SPAWNING)
		p->deadline = a->now + (int64_t)lc__proc_main(a, p)->startup_timeout;
	else
		p->deadline = a->now + LC__KILL_GRACE;
	started(a, p);
	if (p->state == LC_PS_EXITING)
		lc__proc_signal(p, SIGKILL); /* told before there was anybody to tell */
	else if (r < 0)
		lc__proc_kill(a, p, SIGKILL, "cannot be listened to (%s)", strerror(-r));
}

void
lc__proc_spawn(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__child ch = {
	    .role = "worker", .fd3 = -1, .out = -1, .err = -1, .creds = &p->pool->gen->creds, .group = true};
	char title[160];

	if (p->kind == &lc__worker_kind && p->pool->conf->preload) {
		lc__zygote_fork(a, p);
		return;
	}
	snprintf(title, sizeof(title), "licorne: %s", p->name);
	ch.title = title;
	if (p->kind == &lc__zygote_kind)
		ch.role = "zygote";
	if (lc__proc_start(a, p, &ch, a->now + (int64_t)lc__proc_main(a, p)->startup_timeout) < 0)
		p->kind->ended(a, p);
}

void
lc__proc_let_go(struct lc__arb *a, struct lc__proc *p)
{
	close_handles(a, p);
	lc__proc_state(p, LC_PS_EMPTY);
	lc__proc_free(p);
}

/* ---- orders ---- */

void
lc__proc_signal(struct lc__proc *p, int sig)
{
	if (p->reaped || p->pid <= 0)
		return;
	/* Without pidfds (Linux < 5.3) the pid is as good: it stays taken until we reap it. */
	if (p->pidfd < 0 || pidfd_send_signal(p->pidfd, sig, NULL, 0) < 0)
		(void)kill(p->pid, sig);
	p->sig = sig;
}

void
lc__proc_kill(struct lc__arb *a, struct lc__proc *p, int sig, const char *fmt, ...)
{
	char name[16];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, ap);
	va_end(ap);
	lc_log(LC_LOG_ERROR, "%s (pid %ld) %s: the arbiter sends %s", p->name, (long)p->pid, p->why,
	       lc__signal_name(sig, name));
	lc__proc_signal(p, sig);
	p->diag = LC__DIAG_NONE;
	if (p->state != LC_PS_EXITING)
		lc__proc_state(p, LC_PS_EXITING);
	p->deadline = a->now + LC__KILL_GRACE;
}

static int
order(struct lc__proc *p, uint16_t type, const void *data, size_t n)
{
	struct iovec iov = {(void *)data, n};

	return p->chan && !p->kind->quiet ? lcimsg_send(p->chan, type, 0, &iov, 1, NULL, 0, 0) : -EPIPE;
}

void
lc__proc_drain(struct lc__arb *a, struct lc__proc *p)
{
	int64_t deadline = a->now + (int64_t)lc__proc_main(a, p)->graceful_timeout;
	uint8_t b[8];

	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t)((uint64_t)deadline >> 8 * i);
	switch (p->state) {
	case LC_PS_BACKOFF:
		lc__proc_state(p, LC_PS_EMPTY);
		lc__proc_free(p);
		return;
	case LC_PS_SPAWNING: /* has done nothing yet */
		snprintf(p->why, sizeof(p->why), "no longer needed");
		p->told = true;
		lc__proc_signal(p, SIGKILL);
		lc__proc_state(p, LC_PS_EXITING);
		p->deadline = a->now + LC__KILL_GRACE;
		return;
	case LC_PS_STARTING: /* no request depends on it: it need not have as long as those that serve */
		deadline = a->now + LC__KILL_GRACE;
		break;
	case LC_PS_READY:
		break;
	default:
		return;
	}
	if (order(p, LC_MSG_DRAIN, b, sizeof(b)) < 0)
		lc__proc_signal(p, SIGTERM); /* the same meaning */
	p->told = true;
	lc__proc_state(p, LC_PS_DRAINING);
	p->deadline = deadline;
	lc__peer_write(a, p);
}

void
lc__proc_quit(struct lc__arb *a, struct lc__proc *p)
{
	if (p->state == LC_PS_BACKOFF) {
		lc__proc_state(p, LC_PS_EMPTY);
		lc__proc_free(p);
		return;
	}
	if (!lc__proc_live(p))
		return;
	if (p->state == LC_PS_EXITING) { /* asked before, and in a hurry now */
		lc__proc_signal(p, SIGKILL);
		return;
	}
	snprintf(p->why, sizeof(p->why), "quick stop");
	p->told = true;
	if (p->state == LC_PS_SPAWNING || order(p, LC_MSG_STOP, NULL, 0) < 0)
		lc__proc_signal(p, SIGKILL);
	lc__proc_state(p, LC_PS_EXITING);
	p->deadline = a->now + LC__KILL_GRACE;
	lc__peer_write(a, p);
}

/* ---- the dead ---- */

static void
tell_end(struct lc__arb *a, struct lc__proc *p)
{
	char how[128], by[240] = "", who[160], name[16];
	double up = (double)(a->now - p->spawned_at) / 1000.0;
	int level = LC_LOG_WARN;

	if (p->status_sig)
		snprintf(how, sizeof(how), "was killed by %s%s", lc__signal_name(p->status_sig, name),
			 p->core ? " (core dumped)" : "");
	else
		snprintf(how, sizeof(how), "exited with status %d", p->status_code);
	if (p->status_sig && p->sig == p->status_sig)
		snprintf(by, sizeof(by), ", sent by the arbiter (%s)", p->why);
	else if (p->status_sig == SIGKILL)
		snprintf(by, sizeof(by), ", not sent by the arbiter: %s", lc__oom_or_user(a, who, sizeof(who)));
	else if (p->why[0])
		snprintf(by, sizeof(by), " (%s)", p->why);
	snprintf(p->last, sizeof(p->last), "%s after %.1f s%.160s", how, up, by);
	if (p->told && (p->sig == p->status_sig || (!p->status_sig && p->status_code == 0)))
		level = LC_LOG_INFO;
	else if (p->boot_failed)
		level = LC_LOG_INFO; /* its text was logged */
	if (!p->pool)
		level = LC_LOG_DEBUG; /* who asked for it says more */
	lc_log(level, "%s (pid %ld) %s after %.1f s%s%s", p->name, (long)p->pid, how, up,
	       p->was_ready || p->boot_failed || !p->pool ? "" : ", before it could serve", by);
	lc__flight_ended(a, p, level);
}

static void
bury(struct lc__arb *a, struct lc__proc *p, const siginfo_t *si)
{
	p->reaped = true;
	if (si->si_code == CLD_EXITED) {
		p->status_code = si->si_status;
	} else {
		p->status_sig = si->si_status;
		p->core = si->si_code == CLD_DUMPED;
	}
	/* Its last words.  Bounded: a grandchild could go on writing. */
	lc__peer_read(a, p, 64);
	if (p->state == LC_PS_EMPTY) /* which were that it serves without us */
		return;
	close_handles(a, p);
	lc__proc_state(p, LC_PS_DEAD);
	tell_end(a, p);
	lc__flight_free(p);
	p->kind->ended(a, p);
}

/* Only those whom we know, one by one. */
static void
reap_ours(struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];
		siginfo_t si = {0}, gone;
		id_t pid = (id_t)p->pid;

		if (!lc__proc_live(p) || p->pid <= 0 || waitid(P_PID, pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		    si.si_pid == 0)
			continue;
		bury(a, p, &si);
		(void)waitid(P_PID, pid, &gone, WEXITED | WNOHANG);
	}
}

/* A worker may die before its zygote has said that it is one.  As long as that can be, who is not known stays what it
 * is, a zombie that keeps its pid. */
void
lc__proc_reap(struct lc__arb *a)
{
	a->reap_again = false;
	for (;;) {
		siginfo_t si = {0}, gone;
		struct lc__proc *p = NULL;

		/* Look first: the pid must not be free before the slot knows. */
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		for (uint32_t i = 0; i < a->nprocs; i++)
			if (a->procs[i]->pid == si.si_pid && lc__proc_live(a->procs[i]))
				p = a->procs[i];
		if (!p && lc__zygote_forking(a)) {
			a->reap_again = true;
			reap_ours(a);
			return;
		}
		if (p)
			bury(a, p, &si);
		else
			lc_log(LC_LOG_DEBUG, "reaped pid %ld, which is none of ours", (long)si.si_pid);
		(void)waitid(P_PID, (id_t)si.si_pid, &gone, WEXITED | WNOHANG);
	}
}

/* ---- deadlines ---- */

int64_t
lc__proc_next_deadline(const struct lc__arb *a, const struct lc__proc *p)
{
	int64_t d;

	switch (p->state) {
	case LC_PS_EMPTY:
	case LC_PS_DEAD:
		return INT64_MAX;
	case LC_PS_READY:
		if (p->kind == &lc__zygote_kind) /* it has nothing to say but when it is asked */
			d = p->child ? p->deadline : INT64_MAX;
		else if (p->kind->quiet)
			d = INT64_MAX;
		else
			d = p->beat_at + (int64_t)lc__proc_main(a, p)->heartbeat_timeout;
		break;
	default:
		d = p->waits || p->asked ? INT64_MAX : p->deadline;
	}
	if (p->diag && p->state == LC_PS_READY)
		d = p->diag_until;
	else if (p->diag && p->diag_until < d)
		d = p->diag_until;
	if (p->partial_since && p->partial_since + LC__PARTIAL_AGE < d)
		d = p->partial_since + LC__PARTIAL_AGE;
	return d;
}

/* The arbiter itself was stopped or starved: nobody is to pay for that. */
void
lc__proc_deadlines_push(struct lc__arb *a, int64_t late)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];

		if (p->deadline != INT64_MAX)
			p->deadline += late;
		p->beat_at += late;
		p->diag_until += late;
		p->diag_end += late;
		if (p->partial_since)
			p->partial_since += late;
	}
}

void
lc__hung_why(const struct lc__arb *a, const struct lc__proc *p, char *buf, size_t n)
{
	snprintf(buf, n, "gave no sign of life for %.1f s (heartbeat_timeout %.1f s; %u requests were running)",
		 (double)(a->now - p->beat_at) / 1000.0, (double)lc__proc_main(a, p)->heartbeat_timeout / 1000.0,
		 p->beat.inflight);
}

void
lc__proc_judge(struct lc__arb *a, struct lc__proc *p)
{
	if (lc__proc_next_deadline(a, p) > a->now)
		return;
	if (p->chan) { /* drain before judging */
		lc__peer_read(a, p, 64);
		if (lc__proc_next_deadline(a, p) > a->now)
			return;
	}
	if (p->partial_since && p->partial_since + LC__PARTIAL_AGE <= a->now && p->state != LC_PS_EXITING) {
		lc__proc_kill(a, p, SIGKILL, "left a message unfinished for %.1f s",
			      (double)(a->now - p->partial_since) / 1000.0);
		return;
	}
	if (p->diag && p->diag_until <= a->now && p->state != LC_PS_EXITING) {
		lc__diag_turn(a, p);
		return;
	}
	switch (p->state) {
	case LC_PS_SPAWNING:
	case LC_PS_STARTING:
		lc__proc_kill(a, p, p->kind->startup_sig, "%s, %.1f s", p->kind->late,
			      (double)(p->deadline - p->spawned_at) / 1000.0);
		break;
	case LC_PS_READY:
		if (p->kind == &lc__zygote_kind) {
			lc__proc_kill(a, p, SIGKILL, "has not forked a worker within heartbeat_timeout, %.1f s",
				      (double)lc__proc_main(a, p)->heartbeat_timeout / 1000.0);
			break;
		}
		lc__diag_begin(a, p, LC__DIAG_HUNG);
		if (p->diag_until <= a->now)
			lc__diag_turn(a, p);
		break;
	case LC_PS_DRAINING:
		if (p->was_ready)
			lc__proc_kill(a, p, SIGKILL,
				      "has not finished its requests within graceful_timeout, %.1f s (%u were running)",
				      (double)lc__proc_main(a, p)->graceful_timeout / 1000.0, p->beat.inflight);
		else
			lc__proc_kill(a, p, SIGKILL, "was still starting");
		break;
	case LC_PS_EXITING:
		if (p->sig == SIGKILL) { /* in the kernel, and does not come back */
			lc_log(LC_LOG_ERROR, "%s (pid %ld) does not die of SIGKILL", p->name, (long)p->pid);
			p->deadline = a->now + 30000;
		} else {
			lc__proc_kill(a, p, SIGKILL, "%s, and did not exit within %.1f s",
				      p->sig == SIGABRT ? "was to abort"
				      : p->told         ? "was to exit"
							: "closed its channel",
				      LC__KILL_GRACE / 1000.0);
		}
		break;
	case LC_PS_BACKOFF:
		lc__proc_state(p, LC_PS_EMPTY);
		lc__proc_spawn(a, p);
		break;
	default:
		break;
	}
}
