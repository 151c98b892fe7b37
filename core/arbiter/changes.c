/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/changes.c - the watcher, a child that says which files have changed, and the reload that follows.
 *
 * There is at most one, and only where the caller of lc_arb_main() says what to watch.  It belongs to the arbiter and
 * not to a generation: a reload that fails leaves it as it is, so that the next change gets another try.  Looking
 * through folders may take long, so this is no work for the arbiter.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "arbiter/priv.h"
#include "log/log.h"

static int
configure(const struct lc__arb *a, struct lc__proc *p)
{
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_WATCH, 0);
	int r;

	lcimsg_put_u64(m, (uint64_t)a->opts->watch_since);
	lcimsg_put_str(m, a->opts->watch);
	r = lcimsg_submit(p->chan, m);
	return r < 0 ? r : 0;
}

static void
from_watcher(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	const char *names;
	size_t n;
	int r;

	switch (lcimsg_type(m)) {
	case LCIMSG_TYPE_HELLO:
		lc__proc_state(p, LC_PS_STARTING);
		r = configure(a, p);
		if (r < 0)
			lc__proc_kill(a, p, SIGKILL, "cannot be told what to watch (%s)", strerror(-r));
		return;
	case LC_MSG_READY:
		if (p->state == LC_PS_STARTING)
			lc__proc_state(p, LC_PS_READY);
		return;
	case LC_MSG_CHANGED:
		if (a->stopping)
			return;
		names = lcimsg_data(m, &n);
		lc_log(LC_LOG_NOTICE, "reload: %.*s changed", (int)n, names);
		(void)lc__reload_ask(a);
		return;
	default:
		return;
	}
}

static void
watcher_ended(struct lc__arb *a, struct lc__proc *p)
{
	char how[240], name[16];

	if (p->why[0])
		snprintf(how, sizeof(how), "%s", p->why);
	else if (p->status_sig)
		snprintf(how, sizeof(how), "was killed by %s", lc__signal_name(p->status_sig, name));
	else
		snprintf(how, sizeof(how), "ended with status %d", p->status_code);
	if (!a->stopping && !p->told)
		lc_log(LC_LOG_ERROR, "the watcher %s: changes are not noticed any more, SIGHUP still reloads", how);
	lc__proc_state(p, LC_PS_EMPTY);
	lc__proc_free(p);
}

const struct lc__kind lc__watcher_kind = {
    .role = LC_ROLE_WATCHER,
    .quiet = true,
    .startup_sig = SIGKILL,
    .late = "has not looked through the folders within startup_timeout",
    .message = from_watcher,
    .ended = watcher_ended,
};

void
lc__changes_begin(struct lc__arb *a)
{
	struct lc__child ch = {.title = "licorne: watcher",
			       .role = "watcher",
			       .fd3 = -1,
			       .out = -1,
			       .err = -1,
			       .creds = &a->gen->creds,
			       .group = true};
	struct lc__proc *p;

	if (!a->opts->watch)
		return;
	p = lc__proc_new(a, &lc__watcher_kind, "watcher");
	if (!p)
		lc_log(LC_LOG_ERROR, "no memory for the watcher: changes are not noticed");
	else if (lc__proc_start(a, p, &ch, a->now + (int64_t)a->main->startup_timeout) < 0)
		p->kind->ended(a, p);
}
