/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/arbiter.c - the arbiter's life: check, bind, spawn, supervise, stop; signals, the loop, the pid file.
 *
 * It runs no application code, loads no module, holds no client data and never blocks once it serves.  As process 1 of
 * a container it is the same, and reaps whatever the kernel gives it.
 */
#include "arbiter/arbiter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define LATE_MS 500        /* half a heartbeat: woken up this much too late, the arbiter pushes all deadlines */
#define LATE_GRACE_MS 1000 /* and a heartbeat further */

int64_t
lc__now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
lc__complain(struct lc__arb *a, const char *fmt, ...)
{
	char text[sizeof(a->why)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	lc_log(a->gen ? LC_LOG_ERROR : LC_LOG_CRIT, "%s", text);
	if (!a->why[0])
		memcpy(a->why, text, sizeof(a->why));
}

/* ---- the pid file ---- */

int
lc__pid_file_write(struct lc__arb *a)
{
	char text[32];
	int fd, n, r = 0;

	if (!a->main->pid_file)
		return 0;
	/* Not through a link: the folder may be writable for others. */
	fd = open(a->main->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (fd < 0 || write(fd, text, (size_t)n) != n) {
		r = -errno;
		lc_log(LC_LOG_CRIT, "cannot write the pid_file %s: %s", a->main->pid_file, strerror(-r));
	} else {
		a->pid_file = strdup(a->main->pid_file);
	}
	if (fd >= 0)
		close(fd);
	return r;
}

static bool
pid_file_is_ours(const struct lc__arb *a)
{
	long pid = 0;
	FILE *f = a->pid_file ? fopen(a->pid_file, "re") : NULL;
	bool ours = f && fscanf(f, "%ld", &pid) == 1 && pid == (long)getpid();

	if (f)
		fclose(f);
	return ours;
}

static void
pid_file_remove(struct lc__arb *a)
{
	if (pid_file_is_ours(a))
		unlink(a->pid_file);
	free(a->pid_file);
	a->pid_file = NULL;
}

/* Until we end, it is how to find us. */
void
lc__pid_file_move(struct lc__arb *a)
{
	char *to;

	if (!pid_file_is_ours(a) || asprintf(&to, "%s.oldbin", a->pid_file) < 0)
		return;
	if (rename(a->pid_file, to) < 0) {
		lc_log(LC_LOG_ERROR, "cannot move the pid_file to %s: %m", to);
		free(to);
		return;
	}
	free(a->pid_file);
	a->pid_file = to;
}

/* ---- events of the whole ---- */

void
lc__arb_ready(struct lc__arb *a, struct lc__proc *p)
{
	struct lc__gen *g = a->gen;
	const char **names;
	uint32_t n = 0;

	p->pool->ready = true;
	lc__successor_ready(a);
	if (a->told_ready)
		return;
	for (uint32_t i = 0; i < g->npools; i++) {
		if (!g->pools[i].ready)
			return;
		n += g->pools[i].nlisteners;
	}
	a->told_ready = true;
	lc_log(LC_LOG_NOTICE, "licorne " LC_VERSION " serves");
	lc_log_mirror(-1); /* from here on the error log is the place to look */
	if (a->tty >= 0)
		close(a->tty);
	a->tty = -1;
	if (!a->predecessor)
		lc__notify_serving(a);
	names = calloc(n ? n : 1, sizeof(*names));
	if (!a->opts->on_ready || !names) {
		free(names);
		return;
	}
	n = 0;
	for (uint32_t i = 0; i < g->npools; i++)
		for (uint32_t k = 0; k < g->pools[i].nlisteners; k++)
			names[n++] = g->pools[i].listeners[k].sock->name;
	a->opts->on_ready(a->opts->arg, names, n);
	free(names);
}

/* Until every pool has served once, a pool of which nothing has is a start that failed as a whole; for a successor, who
 * can leave everything as it was, so is one of which a single worker cannot start. */
bool
lc__arb_first_start(const struct lc__arb *a, const struct lc__pool *pool)
{
	return a->predecessor ? !a->said_ready : !a->told_ready && !pool->ready;
}

int
lc__arb_boot_failed(struct lc__arb *a, const struct lc__pool *pool)
{
	if (!lc__arb_first_start(a, pool) || a->stopping)
		return 0;
	lc_log(LC_LOG_CRIT, "no worker of pool %s could start: licorne ends", pool->name);
	a->exit_status = LC_EXIT_BOOT;
	lc__arb_stop(a, a->predecessor == NULL); /* other pools may have taken its clients already */
	return 1;
}

void
lc__arb_stop(struct lc__arb *a, bool quick)
{
	if (a->stopping == LC__RUN) {
		lc__notify_stopping(a);
		lc__reload_cancel(a, "licorne ends");
		lc__control_stop(a, false);
		lc__listen_close(a); /* who is not in a worker's hands is refused at once, not left waiting */
	}
	lc__upgrade_cancel(a, quick);
	a->stopping = quick ? LC__QUICK : LC__GRACEFUL;
	for (uint32_t i = 0; i < a->nprocs; i++) {
		if (a->procs[i]->kind == &lc__successor_kind)
			continue;
		if (quick)
			lc__proc_quit(a, a->procs[i]);
		else
			lc__proc_drain(a, a->procs[i]);
	}
}

/* Those whose slots there shall not be any more, each with who is leaving it. */
static void
shrink(struct lc__arb *a, struct lc__pool *pool, uint32_t target)
{
	pool->target = target;
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->kind == &lc__worker_kind && a->procs[i]->pool == pool && a->procs[i]->index >= target)
			lc__proc_drain(a, a->procs[i]);
}

static void
resize(struct lc__arb *a, int by)
{
	for (uint32_t i = 0; i < a->gen->npools; i++) {
		struct lc__pool *pool = &a->gen->pools[i];
		struct lc__proc *p;

		if ((by < 0 && pool->target <= 1) || (by > 0 && pool->target >= LC__PROCESSES)) {
			lc_log(LC_LOG_NOTICE, "pool %s stays at %u processes", pool->name, pool->target);
			continue;
		}
		if (by > 0) {
			p = lc__proc_slot(a, pool, pool->target);
			if (!p)
				continue;
			pool->target++;
			if (p->state == LC_PS_EMPTY) /* else it is still leaving, and comes back after */
				lc__proc_spawn(a, p);
		} else {
			shrink(a, pool, pool->target - 1);
		}
		lc_log(LC_LOG_NOTICE, "pool %s has %u processes now", pool->name, pool->target);
	}
}

/* In the foreground of a terminal SIGWINCH says that its window has another size, and nothing else. */
static bool
in_foreground(void)
{
	int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool r = fd >= 0 && tcgetpgrp(fd) == getpgrp();

	if (fd >= 0)
		close(fd);
	return r;
}

static void
winch(struct lc__arb *a)
{
	if (in_foreground())
		return;
	lc_log(LC_LOG_NOTICE, "SIGWINCH: all workers finish and end; SIGHUP starts new ones");
	for (uint32_t i = 0; i < a->gen->npools; i++)
		shrink(a, &a->gen->pools[i], 0);
}

static bool
on_signals(struct lc__arb *a)
{
	struct signalfd_siginfo si;
	bool child = false;
	char name[16];

	while (read(a->sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		int sig = (int)si.ssi_signo;

		switch (sig) {
		case SIGCHLD:
			child = true;
			break;
		case SIGTERM:
			if (a->stopping)
				break;
			lc_log(LC_LOG_NOTICE, "SIGTERM: running requests are finished, then licorne ends");
			lc__arb_stop(a, false);
			break;
		case SIGINT:
		case SIGQUIT:
			lc_log(LC_LOG_NOTICE, "%s: licorne ends now", lc__signal_name(sig, name));
			lc__arb_stop(a, true);
			break;
		case SIGTTIN:
		case SIGTTOU:
			if (!a->stopping)
				resize(a, sig == SIGTTIN ? 1 : -1);
			break;
		case SIGUSR1:
			lc__logs_reopen(a);
			break;
		case SIGHUP:
			if (!a->stopping)
				(void)lc__reload_ask(a);
			break;
		case SIGUSR2:
			lc__upgrade_ask(a);
			break;
		case SIGWINCH:
			if (!a->stopping)
				winch(a);
			break;
		default:
			break;
		}
	}
	return child;
}

static bool
any_live(const struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (lc__proc_live(a->procs[i]))
			return true;
	return false;
}

static int64_t
next_deadline(const struct lc__arb *a)
{
	int64_t next = a->stopping ? INT64_MAX : lc__secret_deadline(a), more;

	more = lc__control_deadline(a);
	next = more < next ? more : next;
	more = lc__notify_deadline(a);
	next = more < next ? more : next;
	for (uint32_t i = 0; i < a->nprocs; i++) {
		int64_t d = lc__proc_next_deadline(a, a->procs[i]);

		if (d < next)
			next = d;
	}
	return next;
}

/*
 * When this turn should have begun at the latest, as of the end of the last one.  Counted from there and not from when
 * epoll_wait() was entered: we may be stopped anywhere.
 */
static void
look_at_the_clock(struct lc__arb *a, int64_t due)
{
	int64_t late;

	a->now = lc__now_ms();
	late = due == INT64_MAX ? 0 : a->now - due;
	if (late <= LATE_MS)
		return;
	lc_log(LC_LOG_WARN, "the arbiter was held up for %.1f s: all deadlines are moved", (double)late / 1000.0);
	/* If the whole machine stood still, workers need a moment to say that they are there. */
	lc__proc_deadlines_push(a, late + LATE_GRACE_MS);
}

static void
serve(struct lc__arb *a)
{
	while (!a->stopping || any_live(a)) {
		struct epoll_event ev[64];
		bool child = false;
		int64_t due = next_deadline(a), look = lc__kick_deadline(a), wake = look < due ? look : due;
		int64_t wait = wake - lc__now_ms();
		int n;

		wait = wake == INT64_MAX ? -1 : wait < 0 ? 0 : wait > 60000 ? 60000 : wait;
		n = epoll_wait(a->epfd, ev, 64, (int)wait);
		look_at_the_clock(a, due);
		for (int i = 0; i < n; i++)
			if (ev[i].data.u32 == LC__SIGNALFD)
				child = on_signals(a);
		for (int i = 0; i < n; i++)
			if (ev[i].data.u32 == LC__PREDECESSOR)
				lc__successor_read(a);
			else if (ev[i].data.u32 <= LC__CONTROL && ev[i].data.u32 >= LC__CONTROL - LC__CONTROL_CLIENTS)
				lc__control_event(a, ev[i].data.u32, ev[i].events);
			else if (ev[i].data.u32 < a->nprocs) /* a few reads: nobody keeps the others waiting */
				lc__peer_read(a, a->procs[ev[i].data.u32], 4);
		if (child || a->reap_again)
			lc__proc_reap(a);
		for (uint32_t i = 0; i < a->nprocs; i++)
			lc__proc_judge(a, a->procs[i]);
		if (!a->stopping)
			lc__secret_rotate(a);
		lc__kick_turn(a);
		lc__oom_look(a);
		lc__reload_turn(a);
		lc__upgrade_turn(a);
		lc__gen_sweep(a);
		lc__control_judge(a);
		lc__notify_turn(a);
		for (uint32_t i = 0; i < a->nprocs; i++)
			lc__peer_write(a, a->procs[i]);
	}
}

static int
loop_init(struct lc__arb *a)
{
	static const int sigs[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,  SIGUSR1,
				   SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH, SIGCHLD};
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = LC__SIGNALFD};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		sigaddset(&set, sigs[i]);
		signal(sigs[i], SIG_DFL); /* an inherited "ignore" would also hide it from signalfd */
	}
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	a->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (a->sigfd < 0 || a->epfd < 0 || epoll_ctl(a->epfd, EPOLL_CTL_ADD, a->sigfd, &ev) < 0)
		return -errno;
	ev.data.u32 = LC__PREDECESSOR;
	if (a->predecessor && epoll_ctl(a->epfd, EPOLL_CTL_ADD, lcimsg_fd(a->predecessor), &ev) < 0)
		return -errno;
	return 0;
}

static void
tidy_fds(void)
{
	int fd;

	do { /* 0 to 2 exist, so that no log or socket becomes one of them */
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= 2);
	if (fd >= 0)
		close(fd);
	for (int i = 0; i <= 2; i++)
		(void)fcntl(i, F_SETFD, 0);
	(void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

static void
arb_free(struct lc__arb *a)
{
	lc__listen_close(a);
	pid_file_remove(a);
	lc__successor_end(a);
	lc__control_free(a);
	lc__notify_free(a);
	for (uint32_t i = 0; i < a->nprocs; i++)
		free(a->procs[i]);
	free(a->procs);
	lc__gens_free(a);
	lc__listen_settle(a);
	lc_log_mirror(-1);
	if (a->epfd >= 0)
		close(a->epfd);
	if (a->sigfd >= 0)
		close(a->sigfd);
	if (a->tty >= 0)
		close(a->tty);
}

/* The first generation, as far as it goes without processes: an exit status. */
static int
set_up(struct lc__arb *a)
{
	struct lc_conf *conf = NULL;
	struct lc__creds creds = {0};
	struct lc__files files = {0};
	struct lc__gen *g;
	int r;

	if (lc__successor_begin(a) < 0)
		return LC_EXIT_CONFIG;
	lc__listen_fds(a);
	r = lc__check_load(a->opts, &conf, &creds, &files, false);
	if (r != 0) {
		free(creds.groups);
		lc__files_close(&files);
		return r;
	}
	g = lc__gen_new(a, conf, &creds, &files);
	if (!g)
		return LC_EXIT_CONFIG;
	a->gen = g;
	a->main = g->main;
	/* Until something serves, what goes wrong is said where we were started, too.  A successor has its log there.
	 */
	if (g->error_fd >= 0 && !a->predecessor) {
		a->tty = fcntl(2, F_DUPFD_CLOEXEC, 4);
		lc_log_mirror(a->tty);
	}
	lc__error_log_use(a, g);
	lc__listen_fds_rest(a);
	if (!a->predecessor && lc__pid_file_write(a) < 0)
		return LC_EXIT_CONFIG;
	r = loop_init(a);
	if (r < 0) {
		lc_log(LC_LOG_CRIT, "cannot start: %s", strerror(-r));
		return LC_EXIT_CONFIG;
	}
	if (geteuid() == 0 && !g->creds.drop)
		lc_log(LC_LOG_NOTICE, "workers run as root, since the configuration sets no user");
	return LC_EXIT_OK;
}

int
lc_arb_main(const struct lc_arb_opts *opts)
{
	struct lc__arb a = {.opts = opts,
			    .epfd = -1,
			    .sigfd = -1,
			    .tty = -1,
			    .reload = {.list_fd = -1, .text_fd = -1},
			    .control = {.sock = {.fd = -1}, .former = {.fd = -1}},
			    .notify = {.fd = -1}};

	lc_log_role("arbiter");
	lc_log_plain(1);
	lc__notify_init(&a);
	tidy_fds();
	a.pid = getpid();
	a.now = a.started = lc__now_ms();
	a.rnd = ((uint64_t)a.pid << 32 ^ (uint64_t)a.now) | 1;
	a.exit_status = set_up(&a);
	if (a.exit_status == LC_EXIT_OK) {
		lc__listen_apply(&a, a.gen);
		lc__control_apply(&a, a.gen);
		lc__changes_begin(&a);
		lc__gen_spawn(&a, a.gen);
		serve(&a);
		if (a.exit_status == LC_EXIT_OK)
			lc_log(LC_LOG_NOTICE, "licorne ends");
	}
	arb_free(&a);
	return a.exit_status;
}
