/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/zygote.c - see zygote.h.
 *
 * Each worker is forked twice: the process in between ends at once, so the worker becomes a child of the arbiter, the
 * reaper of our descendants.  Only when that has happened the arbiter is told its pid.  Plain fork(), not clone() with
 * CLONE_PARENT: what libraries have registered for forks has to run.
 *
 * A worker keeps no descriptor of ours but 0 to 2, and no process group: what is left is as after exec.
 */
#include "worker/zygote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log/log.h"

unsigned
lc_zygote_threads(char *names, size_t n)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	unsigned count = 0;
	size_t o = 0;

	names[0] = 0;
	while (d && (e = readdir(d))) {
		char path[300], name[32] = "?";
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		count++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		if (!(f = fopen(path, "re")))
			continue;
		if (fgets(name, sizeof(name), f))
			name[strcspn(name, "\n")] = 0;
		fclose(f);
		if (o < n)
			o += (size_t)snprintf(names + o, n - o, "%s%s", o ? ", " : "", name);
	}
	if (d)
		closedir(d);
	return d ? count : 1; /* without /proc nobody can tell */
}

/* ---- orders ---- */

struct zygote {
	int fd; /* of the worker that is to be forked, -1: none */
	bool over;
};

static void
on_drain(void *arg, int64_t deadline_ms)
{
	(void)deadline_ms;
	((struct zygote *)arg)->over = true;
}

static void
on_end(void *arg)
{
	((struct zygote *)arg)->over = true;
}

static void
on_fork(void *arg, int fd)
{
	((struct zygote *)arg)->fd = fd;
}

static void
on_log(void *arg, uint32_t index, int fd)
{
	(void)arg; /* cannot be: the table lets none of these through */
	(void)index;
	close(fd);
}

static void
on_secret(void *arg, const uint8_t secret[32])
{
	(void)arg;
	(void)secret;
}

static const struct lc_ctl_ops ops = {
    .drain = on_drain, .stop = on_end, .lost = on_end, .fork = on_fork, .log = on_log, .secret = on_secret};

/* ---- forks ---- */

/* In between: the worker's pid, or -errno, to the zygote; returns in the worker. */
static void
middle(const int p[2])
{
	int32_t pid = fork();

	if (pid == 0) {
		close(p[0]);
		close(p[1]);
		return;
	}
	if (pid < 0)
		pid = -errno;
	_exit(write(p[1], &pid, sizeof(pid)) == (ssize_t)sizeof(pid) ? 0 : 1);
}

/* The worker's pid or -errno; 0: we are the worker. */
static int32_t
fork_twice(void)
{
	int32_t pid = 0, got = -EIO;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); /* an application may have wanted to be one */
	pid = fork();
	if (pid == 0) {
		middle(p);
		return 0;
	}
	if (pid < 0)
		got = -errno;
	close(p[1]);
	/* A short answer is none; who ends before it wrote has none to give. */
	while (pid > 0 && read(p[0], &got, sizeof(got)) < 0 && errno == EINTR)
		;
	close(p[0]);
	/* After this the worker is the arbiter's child.  ECHILD: the application ignores SIGCHLD, but it has ended. */
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return got;
}

static void
become_worker(struct lc_ctl *ctl, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 10);

	close(fd);
	lc_ctl_close(ctl); /* and with it descriptor 3 */
	if (high < 0 || dup3(high, 3, O_CLOEXEC) < 0 || setpgid(0, 0) < 0)
		_exit(1);
	close(high);
}

/* 1: we are the worker. */
static int
fork_one(struct lc_ctl *ctl, const struct lc_worker *wk, void *w, int fd)
{
	sigset_t term, before;
	int32_t pid;

	/* One that comes for the worker waits until it can take it: our handler in it would end us. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	wk->forking(w, LC_FORK_BEFORE);
	pid = fork_twice();
	if (pid == 0) {
		become_worker(ctl, fd);
		return 1;
	}
	close(fd);
	(void)lc_ctl_forked(ctl, pid > 0 ? (uint32_t)pid : 0, pid > 0 ? 0 : (uint32_t)-pid);
	wk->forking(w, LC_FORK_AFTER);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return 0;
}

void
lc_zygote_serve(struct lc_ctl *ctl, const struct lc_worker *wk, void *w, int term_fd)
{
	struct zygote z = {.fd = -1};

	for (;;) {
		struct pollfd p[2] = {{.fd = lc_ctl_fd(ctl), .events = POLLIN}, {.fd = term_fd, .events = POLLIN}};

		if (lc_ctl_wants_write(ctl))
			p[0].events |= POLLOUT;
		if (poll(p, 2, -1) < 0)
			continue; /* EINTR: whatever it was is to be seen at one of them */
		if (p[0].revents)
			(void)lc_ctl_dispatch(ctl, &ops, &z);
		/* Without the application's end: workers may still use what it would tidy away. */
		if (z.over || p[1].revents)
			_exit(0);
		if (z.fd >= 0) {
			int fd = z.fd;

			z.fd = -1;
			if (fork_one(ctl, wk, w, fd))
				return;
		}
	}
}
