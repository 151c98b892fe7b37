/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/reload.c - a reload, from SIGHUP to the new generation or back.
 *
 *   NONE -> CHECKING (a checker has the new text) -> STARTING (a generation on trial) -> NONE
 *
 * The generation that serves is not touched before each process of the one on trial is READY; only then it drains.
 * Whatever fails before that ends the trial, and the log says why: nothing has to be put back, since nothing was taken
 * away.  Deaths, signals and timeouts are handled meanwhile as ever.  A reload that is asked for during another one
 * follows it, once, however often it is asked for: it reads the newest files.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define TEXT_MAX (12u << 10) /* of what the checker says; more is cut off at the end */

uint32_t
lc__reload_ask(struct lc__arb *a)
{
	if (a->reload.step != LC__RL_NONE)
		lc_log(LC_LOG_NOTICE, "a reload is under way: another one follows it");
	a->reload.again = true;
	return a->reload.number + 1;
}

bool
lc__reload_owns(const struct lc__arb *a, const struct lc__pool *pool)
{
	return a->reload.gen && pool->gen == a->reload.gen;
}

static void
forget(struct lc__reload *r)
{
	lc_conf_free(r->conf);
	r->conf = NULL;
	lc_err_free(r->err);
	r->err = NULL;
	free(r->creds.groups);
	memset(&r->creds, 0, sizeof(r->creds));
	if (r->list_fd >= 0)
		close(r->list_fd);
	if (r->text_fd >= 0)
		close(r->text_fd);
	r->list_fd = r->text_fd = -1;
	r->gen = NULL;
}

static void
over(struct lc__arb *a, bool ok, const char *why)
{
	struct lc__reload *r = &a->reload;
	double took = (double)(lc__now_ms() - r->begun) / 1000.0;

	snprintf(r->why, sizeof(r->why), "%s", why);
	r->ok = ok;
	r->done = r->number;
	r->step = LC__RL_NONE;
	r->ended = lc__now_ms();
	forget(r);
	if (ok)
		lc_log(LC_LOG_NOTICE, "reload: generation %u serves after %.2f s; the one before it finishes",
		       a->gen->number, took);
	else
		lc_log(LC_LOG_ERROR, "reload failed after %.2f s: %s; generation %u serves on", took, r->why,
		       a->gen->number);
	lc__control_reloaded(a);
	if (!a->stopping)
		lc__notify_serving(a);
}

/* ---- trial ---- */

static void
commit(struct lc__arb *a)
{
	struct lc__gen *old = a->gen, *g = a->reload.gen;

	if (g->main->pid_file && (!old->main->pid_file || strcmp(g->main->pid_file, old->main->pid_file) != 0))
		lc_log(LC_LOG_WARN, "pid_file %s: a reload does not change it", g->main->pid_file);
	a->gen = g;
	a->main = g->main;
	a->reload.gen = NULL;
	lc__error_log_use(a, g);
	lc__listen_apply(a, g);
	lc__control_apply(a, g);
	over(a, true, "");
	lc__gen_retire(a, old);
}

void
lc__reload_ready(struct lc__arb *a)
{
	if (a->reload.gen && !a->stopping && lc__gen_ready(a, a->reload.gen))
		commit(a);
}

void
lc__reload_failed(struct lc__arb *a, const char *fmt, ...)
{
	struct lc__gen *g = a->reload.gen;
	char why[sizeof(a->reload.why)];
	va_list ap;

	if (!g)
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	over(a, false, why);
	lc__gen_retire(a, g);
}

void
lc__reload_cancel(struct lc__arb *a, const char *why)
{
	struct lc__gen *g = a->reload.gen;

	a->reload.again = false;
	if (a->reload.step == LC__RL_NONE)
		return;
	over(a, false, why);
	if (g)
		g->retired = true;
}

/* ---- check ---- */

static char *
checker_text(const struct lc__reload *r, size_t *ret_n)
{
	char *text = malloc(TEXT_MAX + 1);
	ssize_t n = text && r->text_fd >= 0 ? pread(r->text_fd, text, TEXT_MAX, 0) : 0;

	if (n < 0)
		n = 0;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	if (text)
		text[n] = 0;
	*ret_n = (size_t)n;
	return text;
}

static void
refused(struct lc__arb *a, const char *text)
{
	char why[sizeof(a->reload.why)];

	lc_log_text(LC_LOG_ERROR, "the new configuration is refused:", text, strlen(text));
	snprintf(why, sizeof(why), "%.*s", (int)strcspn(text, "\n"), text);
	over(a, false, why);
}

/* The text is right, as far as a checker can tell. */
static void
try(struct lc__arb *a)
{
	struct lc__reload *r = &a->reload;
	struct lc__files files = {0};
	struct lc_conf *conf = r->conf;
	int e = r->list_fd >= 0 ? lc__files_read(&files, r->list_fd, r->err) : 0;

	if (e < 0 || lc_err_count(r->err)) {
		const char *text = lc_err_count(r->err) ? lc_err_text(r->err) : strerror(-e);

		lc__files_close(&files);
		refused(a, text);
		return;
	}
	r->conf = NULL;
	a->why[0] = 0;
	r->gen = lc__gen_new(a, conf, &r->creds, &files);
	if (!r->gen) {
		over(a, false, a->why[0] ? a->why : "no memory");
		return;
	}
	r->step = LC__RL_STARTING;
	lc__gen_spawn(a, r->gen);
}

static void
checker_ended(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__reload *r = &a->reload;
	int sig = p->status_sig, failed = sig || p->status_code || p->pid == 0;
	char why[sizeof(p->why)], name[16], *text;
	size_t n;

	memcpy(why, p->why, sizeof(why));
	lc__proc_state(p, LC_PS_EMPTY);
	lc__proc_free(p);
	if (r->step != LC__RL_CHECKING)
		return;
	text = checker_text(r, &n);
	if (!text) {
		over(a, false, "no memory");
	} else if (sig || why[0]) {
		char line[sizeof(r->why)];

		if (n)
			lc_log_text(LC_LOG_ERROR, "the checker said:", text, n);
		if (why[0])
			snprintf(line, sizeof(line), "the checker %s", why);
		else
			snprintf(line, sizeof(line), "the checker was killed by %s: a module is broken",
				 lc__signal_name(sig, name));
		over(a, false, line);
	} else if (failed && n) {
		refused(a, text);
	} else if (failed || !r->conf) { /* our own parse failed, and the files are right by now: ask again */
		const char *own = lc_err_text(r->err);

		refused(a, *own ? own : "the checker failed");
	} else {
		if (n)
			lc_log_text(LC_LOG_WARN, "the checker said:", text, n);
		try(a);
	}
	free(text);
}

static void
no_message(struct lc__arb *a, struct lc__proc *p, const lcimsg_msg *m)
{
	(void)a; /* it has no channel */
	(void)p;
	(void)m;
}

const struct lc__kind lc__checker_kind = {
    .startup_sig = SIGKILL,
    .late = "did not end within startup_timeout",
    .message = no_message,
    .ended = checker_ended,
};

static void
begin(struct lc__arb *a)
{
	struct lc__reload *r = &a->reload;
	const char *args[LC__CHECK_ARGS];
	struct lc__child ch;
	struct lc__proc *p;
	int e;

	forget(r);
	r->again = false;
	r->number++;
	r->begun = lc__now_ms();
	r->step = LC__RL_CHECKING;
	lc_log(LC_LOG_NOTICE, "reload: the configuration is read anew");
	lc__notify_reloading(a);
	r->err = lc_err_new();
	if (!r->err) {
		over(a, false, "no memory");
		return;
	}
	if (lc__conf_load(a->opts, &r->conf, r->err) == 0) {
		if (!a->opts->no_check)
			lc__places_check(r->conf, r->err);
		lc__creds_resolve(&r->creds, r->conf, r->err);
		if (lc_err_count(r->err)) {
			lc_err_sort(r->err);
			refused(a, lc_err_text(r->err));
			return;
		}
	}
	if (a->opts->no_check) {
		if (r->conf)
			try(a);
		else
			refused(a, lc_err_text(r->err));
		return;
	}
	r->text_fd = memfd_create("licorne checker", MFD_CLOEXEC);
	r->list_fd = r->conf ? memfd_create("licorne list of files", MFD_CLOEXEC) : -1;
	if (r->text_fd < 0 || (r->conf && r->list_fd < 0)) {
		over(a, false, strerror(errno));
		return;
	}
	e = lc__check_child(a->opts, r->conf, &r->creds, false, r->list_fd, args, &ch);
	p = e < 0 ? NULL : lc__proc_new(a, &lc__checker_kind, "checker");
	if (!p) {
		if (e == 0 && ch.fd3 >= 0)
			close(ch.fd3);
		over(a, false, e < 0 ? strerror(-e) : "no memory");
		return;
	}
	ch.err = r->text_fd;
	if (ch.out < 0)
		ch.out = r->text_fd;
	e = lc__proc_start(a, p, &ch, a->now + (int64_t)a->main->startup_timeout);
	if (ch.fd3 >= 0)
		close(ch.fd3);
	if (e < 0)
		checker_ended(a, p);
}

void
lc__reload_turn(struct lc__arb *a)
{
	if (a->reload.again && a->reload.step == LC__RL_NONE && a->told_ready && !a->stopping && !lc__upgrading(a))
		begin(a);
}
