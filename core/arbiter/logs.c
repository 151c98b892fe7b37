/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/logs.c - log files: the arbiter opens them, its children only write.
 *
 * All are opened to append, so that several processes share one, with mode 0644 less the umask.  At SIGUSR1 each is
 * opened anew by its path and the descriptors are sent to every worker; one that cannot be opened stays as it is.
 *
 * What is not a regular file must not block a worker, and O_NONBLOCK belongs to the open file, which may be somebody
 * else's terminal: files and FIFOs are opened with it, and our standard output anew, by way of /proc, where it is a
 * pipe or a terminal.  Where that is refused (another user's pipe) workers ask before they write.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define LOG_MODE 0644

/* `more`: O_NONBLOCK or 0; `start`: a generation needs it. */
static int
open_log(struct lc__arb *a, const char *path, int more, bool start, const char *what)
{
	int how = O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | more;
	int fd = open(path, O_WRONLY | how, LOG_MODE);

	if (fd < 0 && errno == ENXIO && more) /* a FIFO that nobody reads yet */
		fd = open(path, O_RDWR | how, LOG_MODE);
	if (fd < 0) {
		int e = errno;

		if (start)
			lc__complain(a, "cannot open the %s %s: %s", what, path, strerror(e));
		else
			lc_log(LC_LOG_ERROR, "cannot open the %s %s: %s", what, path, strerror(e));
		return -e;
	}
	return fd;
}

static int
open_stdout(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(1, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		fd = open("/proc/self/fd/1", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		fd = fcntl(1, F_DUPFD_CLOEXEC, 4);
	return fd < 0 ? -errno : fd;
}

static int
open_access(struct lc__arb *a, const struct lc_conf_access *l, bool start)
{
	return strcmp(l->path, "-") == 0 ? open_stdout() : open_log(a, l->path, O_NONBLOCK, start, "access_log");
}

int
lc__logs_open(struct lc__arb *a, struct lc__pool *p)
{
	struct lc_conf_access l;

	for (; p->naccess < LC__ACCESS_LOGS && lc_conf_access_log(p->conf, p->naccess, &l); p->naccess++) {
		int fd = open_access(a, &l, true);

		if (fd < 0)
			return fd;
		p->access_fd[p->naccess] = fd;
	}
	return 0;
}

int
lc__error_log_open(struct lc__arb *a, struct lc__gen *g)
{
	const struct lc_list *l = &g->main->error_log;
	const char *path = l->n > 0 ? l->v[0] : "stderr";

	g->log_level = l->n > 1 ? lc_log_level_parse(l->v[1]) : LC_LOG_NOTICE;
	if (g->log_level < 0)
		g->log_level = LC_LOG_NOTICE;
	if (strcmp(path, "stderr") != 0)
		return (g->error_fd = open_log(a, path, 0, true, "error_log")) < 0 ? g->error_fd : 0;
	if (a->gen && a->main->error_log.n > 0 && strcmp(a->main->error_log.v[0], "stderr") != 0) {
		lc__complain(a,
			     "error_log stderr: what that was is closed since the log is a file; it takes a restart");
		return -EBADF;
	}
	return 0;
}

/* To all workers, and zygotes, whose workers have their descriptor 2, that have been told of the old one; others are
 * told of the new one when they are configured. */
static void
send_fd(struct lc__arb *a, const struct lc__pool *pool, uint16_t type, uint32_t index, int fd)
{
	for (uint32_t i = 0; i < a->nprocs; i++) {
		struct lc__proc *p = a->procs[i];
		lcimsg_msg *m;
		int r;

		if (!lc__proc_configured(p) || (pool && (p->pool != pool || p->kind != &lc__worker_kind)))
			continue;
		m = lcimsg_msg_new(type, 0);
		if (pool)
			lcimsg_put_u32(m, index);
		lcimsg_put_fd(m, fd, LCIMSG_FD_DUP);
		r = lcimsg_submit(p->chan, m);
		if (r < 0)
			lc_log(LC_LOG_WARN, "%s (pid %ld) goes on with its old log files: %s", p->name, (long)p->pid,
			       strerror(-r));
	}
}

void
lc__error_log_use(struct lc__arb *a, struct lc__gen *g)
{
	if (g->error_fd >= 0) {
		if (dup2(g->error_fd, 2) >= 0)
			send_fd(a, NULL, LC_MSG_ERRORLOG, 0, g->error_fd);
		close(g->error_fd);
		g->error_fd = -1;
	}
	lc_log_plain(0);
	lc_log_level(g->log_level);
}

/* A generation on trial has opened its files, too. */
void
lc__logs_reopen(struct lc__arb *a)
{
	const struct lc_list *l = &a->main->error_log;
	struct lc_conf_access log;
	int fd;

	if (l->n > 0 && strcmp(l->v[0], "stderr") != 0 && (fd = open_log(a, l->v[0], 0, false, "error_log")) >= 0) {
		if (dup2(fd, 2) >= 0)
			send_fd(a, NULL, LC_MSG_ERRORLOG, 0, fd);
		close(fd);
	}
	for (struct lc__gen *g = a->gens; g; g = g->next)
		for (uint32_t i = 0; i < g->npools; i++)
			for (uint32_t k = 0; k < g->pools[i].naccess; k++) {
				struct lc__pool *p = &g->pools[i];

				if (!lc_conf_access_log(p->conf, k, &log) || !strcmp(log.path, "-") ||
				    (fd = open_access(a, &log, false)) < 0)
					continue;
				send_fd(a, p, LC_MSG_ACCESSLOG, k, fd);
				close(p->access_fd[k]);
				p->access_fd[k] = fd;
			}
	lc_log(LC_LOG_NOTICE, "SIGUSR1: the log files were opened anew");
}
