/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/upgrade.c - SIGUSR2: another arbiter, of another binary as a rule, in place of this one.
 *
 * The successor is a child of ours, an entry of the table, and has a channel like the others:
 *
 *   successor:  HELLO                                   READY
 *   we:         HELLO  OFFER (fd) ... KEEP ... GO               COMMIT
 *
 * It is the program at the path that this one was started from, with the same arguments.  It reads the configuration
 * by itself and starts workers of its own on the very sockets that it was offered, so no queue is lost.  Until it is
 * READY nothing has changed here: when it ends, hangs or breaks the rules, this licorne simply serves on.  Then we
 * move the pid file, say COMMIT, let it go and drain.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

static char exe[PATH_MAX];
static char **args;

void
lc_arb_remember(char *const *argv)
{
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	size_t argc = 0;

	exe[n > 0 ? n : 0] = 0;
	while (argv[argc])
		argc++;
	free(args);
	args = calloc(argc + 1, sizeof(*args)); /* option parsing changes the order of the original */
	for (size_t i = 0; args && i < argc; i++)
		args[i] = argv[i];
}

int
lc_arb_again(void)
{
	sigset_t none;

	if (!args || !args[0])
		return -ENOENT;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv("/proc/self/exe", args);
	return -errno;
}

static struct lc__proc *
successor(const struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->kind == &lc__successor_kind)
			return a->procs[i];
	return NULL;
}

bool
lc__upgrading(const struct lc__arb *a)
{
	return successor(a) != NULL;
}

void
lc__upgrade_ask(struct lc__arb *a)
{
	if (a->stopping)
		return;
	if (a->pid == 1)
		lc_log(LC_LOG_ERROR,
		       "SIGUSR2: licorne is process 1 here, and a container ends with it: start a new one instead");
	else if (successor(a))
		lc_log(LC_LOG_NOTICE, "SIGUSR2: an upgrade is under way already");
	else
		a->upgrade_again = true;
}

static void
begin(struct lc__arb *a)
{
	struct lc__child ch = {
	    .title = "licorne", .path = exe, .argv = args, .fd3 = -1, .out = -1, .err = -1, .outlives = true};
	struct lc__proc *p;
	char pid[24];
	int r;

	a->upgrade_again = false;
	p = *exe && args ? lc__proc_new(a, &lc__successor_kind, "successor") : NULL;
	if (!p) {
		lc_log(LC_LOG_ERROR, "SIGUSR2: the upgrade cannot begin: %s",
		       *exe ? "no memory" : "/proc does not tell where licorne was started from");
		return;
	}
	lc_log(LC_LOG_NOTICE, "SIGUSR2: %s is started to take over", exe);
	snprintf(pid, sizeof(pid), "%ld", (long)a->pid);
	setenv(LC__SUCCESSOR_ENV, pid, 1);
	lc__notify_env(a, true);
	/* twice: it checks the configuration before it starts workers */
	r = lc__proc_start(a, p, &ch, a->now + 2 * (int64_t)a->main->startup_timeout);
	lc__notify_env(a, false);
	unsetenv(LC__SUCCESSOR_ENV);
	if (r < 0)
		p->kind->ended(a, p);
}

void
lc__upgrade_turn(struct lc__arb *a)
{
	if (a->upgrade_again && a->reload.step == LC__RL_NONE && !a->reload.again && a->told_ready && !a->stopping &&
	    !successor(a) && !a->predecessor)
		begin(a);
}

static int
offer(struct lc__arb *a, struct lc__proc *p)
{
	lcimsg_msg *m;
	int r = 0;

	for (struct lc__sock *s = a->socks; s && r >= 0; s = s->next) {
		if (s->fd < 0 || s->refs == 0)
			continue;
		m = lcimsg_msg_new(LC_MSG_OFFER, 0);
		lcimsg_put_str(m, s->text);
		lcimsg_put_u8(m, s->given ? LC_OFFER_GIVEN : LC_OFFER_OURS);
		lcimsg_put_fd(m, s->fd, LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
	}
	if (a->control.sock.fd >= 0 && r >= 0) {
		m = lcimsg_msg_new(LC_MSG_OFFER, 0);
		lcimsg_put_str(m, a->control.sock.path);
		lcimsg_put_u8(m, LC_OFFER_CONTROL);
		lcimsg_put_fd(m, a->control.sock.fd, LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
	}
	for (uint32_t i = 0; i < a->gen->npools && r >= 0; i++) {
		const struct lc__secret *secret = &a->gen->pools[i].secret;

		m = lcimsg_msg_new(LC_MSG_KEEP, 0);
		lcimsg_put_str(m, a->gen->pools[i].name);
		lcimsg_put_bytes(m, secret->now, LC_SECRET);
		lcimsg_put_bytes(m, secret->before, LC_SECRET);
		lcimsg_put_u64(m, (uint64_t)secret->until);
		r = lcimsg_submit(p->chan, m);
	}
	if (r >= 0)
		r = lcimsg_send(p->chan, LC_MSG_GO, 0, NULL, 0, NULL, 0, 0);
	return r < 0 ? r : 0;
}

static void
commit(struct lc__arb *a, struct lc__proc *p)
{
	int r = lcimsg_send(p->chan, LC_MSG_COMMIT, 0, NULL, 0, NULL, 0, 0);

	lc_log(LC_LOG_NOTICE, "the new licorne (pid %ld) serves: this one finishes what runs and ends", (long)p->pid);
	lc__pid_file_move(a);
	lc__notify_handover(a, p->pid); /* before it says anything itself */
	lc__control_stop(a, true);
	if (r >= 0)
		(void)lcimsg_flush(p->chan); /* if it fails, the end of the channel says the same */
	for (struct lc__sock *s = a->socks; s; s = s->next)
		s->keep = true;
	if (a->reload.again) /* it may have read the files before they were changed */
		lc__proc_signal(p, SIGHUP);
	lc__proc_let_go(a, p);
	lc__arb_stop(a, false);
}

static void
from_successor(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	int r;

	switch (lcimsg_type(m)) {
	case LCIMSG_TYPE_HELLO:
		lc__proc_state(p, LC_PS_STARTING);
		lc_log(LC_LOG_INFO, "successor (pid %ld) is %s", (long)p->pid, lcimsg_peer(p->chan)->build);
		r = offer(a, p);
		if (r < 0)
			lc__proc_kill(a, p, SIGKILL, "cannot be given the listeners (%s)", strerror(-r));
		return;
	case LC_MSG_READY:
		if (p->state != LC_PS_STARTING || p->reaped || a->stopping)
			return;
		lc__proc_state(p, LC_PS_READY);
		commit(a, p);
		return;
	default:
		return;
	}
}

static void
successor_ended(struct lc__arb *a, struct lc__proc *p)
{
	char how[240], name[16];

	if (p->why[0])
		snprintf(how, sizeof(how), "it %s", p->why);
	else if (p->status_sig)
		snprintf(how, sizeof(how), "it was killed by %s", lc__signal_name(p->status_sig, name));
	else
		snprintf(how, sizeof(how), "it ended with status %d", p->status_code);
	if (!a->stopping)
		lc_log(LC_LOG_ERROR, "the upgrade failed: %s; this licorne serves on", how);
	lc__proc_state(p, LC_PS_EMPTY);
	lc__proc_free(p);
}

const struct lc__kind lc__successor_kind = {
    .role = LC_ROLE_SUCCESSOR,
    .startup_sig = SIGKILL, /* its workers see the end of their channels */
    .late = "was not ready within twice the startup_timeout",
    .message = from_successor,
    .ended = successor_ended,
};

void
lc__upgrade_cancel(struct lc__arb *a, bool quick)
{
	struct lc__proc *p = successor(a);

	a->upgrade_again = false;
	if (!p || !lc__proc_live(p))
		return;
	if (p->state == LC_PS_EXITING) {
		lc__proc_signal(p, quick ? SIGKILL : SIGTERM);
		return;
	}
	p->told = true;
	snprintf(p->why, sizeof(p->why), "was to end with its predecessor");
	lc__proc_signal(p, quick ? SIGQUIT : SIGTERM);
	lc__proc_state(p, LC_PS_EXITING);
	p->deadline = a->now + LC__KILL_GRACE + (quick ? LC__KILL_GRACE : (int64_t)a->main->graceful_timeout);
}
