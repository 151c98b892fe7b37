/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * double.c - the real arbiter with workers that do what a script says.
 *
 * `arbiter-double CONF` serves a configuration; its children come back as "--role worker" and read a word from the file
 * $LC_SCRIPTS/SLOT, else $LC_SCRIPTS/all: what to do.  What they see of themselves they write to their log.  Zygotes
 * ("--role zygote") have $LC_SCRIPTS/zygote; their workers have `all`.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "arbiter/msg.h"
#include "log/log.h"
#include "worker/control.h"
#include "worker/zygote.h"

static const char *title;
static volatile sig_atomic_t term;

static void
on_term(int sig)
{
	term = 1;
}

/* ---- a worker's words, right and wrong ---- */

static void
raw(unsigned type, unsigned nfds, const void *p, size_t n)
{
	uint8_t b[16 + 256] = {0};
	struct iovec iov = {b, 16 + ((n + 7) & ~(size_t)7)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = {.buf = {0}};
	int fd = 0;

	b[0] = (uint8_t)(16 + n);
	b[4] = (uint8_t)type;
	b[5] = (uint8_t)(type >> 8);
	b[6] = nfds ? LCIMSG_HASFD : 0;
	b[7] = (uint8_t)nfds;
	memcpy(b + 16, p, n);
	if (nfds) {
		mh.msg_control = &ctl;
		mh.msg_controllen = sizeof(ctl);
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&ctl.align), &fd, sizeof(fd));
	}
	while (sendmsg(3, &mh, MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
		struct pollfd pf = {.fd = 3, .events = POLLOUT};

		(void)poll(&pf, 1, 1000);
	}
	if (nfds && errno == EPERM)
		lc_log(LC_LOG_NOTICE, "the kernel refused to pass a descriptor");
}

static void
raw_hello(unsigned role)
{
	uint8_t h[25] = {'L', 'C', 'I', '1', 1, 0, 1, 0, 0, 0, 0, 0, 0, 64, 0, 0, 1, 0, 0, 0};

	h[18] = (uint8_t)role;
	raw(LCIMSG_TYPE_HELLO, 0, h, sizeof(h));
}

static void __attribute__((noreturn)) hang(void)
{
	for (;;)
		(void)poll(NULL, 0, -1);
}

static void
tell_self(const struct lc_ctl_setup *s)
{
	char line[400], fds[200] = "";
	struct dirent *e;
	FILE *f;
	DIR *d = opendir("/proc/self/fd");

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d))
			snprintf(fds + strlen(fds), sizeof(fds) - strlen(fds), " %d", atoi(e->d_name));
	if (d)
		closedir(d);
	lc_log(LC_LOG_NOTICE, "fds at start:%s; group %s", fds, getpgrp() == getpid() ? "own" : "shared");
	f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "SigBlk", 6) || !strncmp(line, "SigIgn", 6) || !strncmp(line, "NoNewPrivs", 10) ||
		    !strncmp(line, "Uid", 3) || !strncmp(line, "Groups", 6))
			lc_log(LC_LOG_NOTICE, "status %s", line);
	}
	if (f)
		fclose(f);
	if (s)
		lc_log(LC_LOG_NOTICE,
		       "setup: slot %u of %u, first %d, prefix %s, %u listeners, access log %d, text %zu bytes",
		       s->slot, s->processes, s->first_start, s->prefix, s->nlisteners, s->naccess > 0, s->text_n);
	for (uint32_t i = 0; s && i < s->nlisteners; i++) {
		int on = 0;
		socklen_t len = sizeof(on);

		getsockopt(s->listeners[i].fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len);
		lc_log(LC_LOG_NOTICE, "listener %u %s accepts %d", s->listeners[i].index, s->listeners[i].name, on);
	}
	if (s && s->naccess && write(s->access_fd[0], "line\n", 5) != 5)
		lc_log(LC_LOG_ERROR, "access log: %m");
}

struct state {
	int leave, stubborn, lost;
};

static void
do_drain(void *arg, int64_t ms)
{
	lc_log(LC_LOG_NOTICE, "told to drain within %lld ms", (long long)ms);
	((struct state *)arg)->leave = 1;
}

static void
do_stop(void *arg)
{
	lc_log(LC_LOG_NOTICE, "told to stop");
	((struct state *)arg)->leave = 1;
}

static void
do_log(void *arg, uint32_t index, int fd)
{
	(void)arg;
	lc_log(LC_LOG_NOTICE, "access log %u anew", index);
	if (write(fd, "anew\n", 5) != 5)
		lc_log(LC_LOG_ERROR, "access log: %m");
	close(fd);
}

static void
do_secret(void *arg, const uint8_t secret[32])
{
	(void)arg;
	(void)secret;
	lc_log(LC_LOG_NOTICE, "a new secret");
}

static void
do_lost(void *arg)
{
	lc_log(LC_LOG_NOTICE, "the arbiter is gone");
	((struct state *)arg)->lost = 1;
}

static void
do_kick(void *arg)
{
	(void)arg; /* it has no loop */
}

/* A worker as it should be, or one that does not do as it is told. */
static int
serve(struct lc_ctl *c, int beats, int stubborn)
{
	static const struct lc_ctl_ops ops = {
	    .drain = do_drain, .stop = do_stop, .kick = do_kick, .lost = do_lost, .secret = do_secret, .log = do_log};
	struct lc_ctl_beat beat = {.inflight = 7};
	struct state st = {.stubborn = stubborn};

	while ((!st.leave && !term) || st.stubborn) {
		struct pollfd p = {.fd = lc_ctl_fd(c), .events = POLLIN};
		int n = poll(&p, 1, 20);

		if (n > 0)
			lc_ctl_dispatch(c, &ops, &st);
		if (st.lost)
			return 0;
		if (beats)
			lc_ctl_beat(c, &beat);
		beat.requests++;
	}
	return 0;
}

int
lc_worker_main(void)
{
	const char *slot = strrchr(title, '/'), *dir = getenv("LC_SCRIPTS");
	char path[512], s[64] = "ok", role[64];
	const struct lc_ctl_setup *setup = NULL;
	struct lc_ctl *c = NULL;
	FILE *f;

	snprintf(role, sizeof(role), "%.60s", title + strlen("licorne: "));
	lc_log_role(role);
	snprintf(path, sizeof(path), "%s%s", dir, slot);
	f = fopen(path, "re");
	if (!f) {
		snprintf(path, sizeof(path), "%s/all", dir);
		f = fopen(path, "re");
	}
	if (f) {
		if (fscanf(f, "%63s", s) != 1)
			strcpy(s, "ok");
		fclose(f);
	}
#define IS(x) (strcmp(s, x) == 0)
	lc_log(LC_LOG_NOTICE, "script %s", s);
	if (IS("look"))
		tell_self(NULL);
	if (IS("garbage")) {
		for (int i = 0; i < 100; i++)
			if (send(3, "this is no message at all", 25, MSG_NOSIGNAL) < 0)
				break;
		hang();
	}
	if (IS("exit-first"))
		return 9;
	if (IS("no-hello"))
		hang();
	if (IS("early")) {
		raw(LC_MSG_READY, 0, "", 0);
		hang();
	}
	if (IS("role")) {
		raw_hello(LC_ROLE_ARBITER);
		hang();
	}
	if (IS("half")) {
		raw_hello(LC_ROLE_WORKER);
		if (send(3, "\x20\0\0\0", 4, MSG_NOSIGNAL) != 4)
			return 1;
		hang();
	}
	if (IS("fd")) {
		raw(LCIMSG_TYPE_HELLO, 1, "x", 1);
		raw_hello(LC_ROLE_WORKER);
		raw(LC_MSG_HEARTBEAT, 0, "x", 1);
		hang();
	}
	if (IS("close")) {
		signal(SIGPIPE, SIG_IGN);
		close(3);
		hang();
	}
	signal(SIGTERM, on_term);
	if (lc_ctl_open(&c, 3, "double") < 0 || lc_ctl_setup(c, &setup) < 0)
		return 1;
	if (IS("look"))
		tell_self(setup);
	if (IS("boot-fails")) {
		static const char text[] = "Traceback:\n  File \"app\", line 1\nBoom: it does not start\n";

		lc_ctl_boot_failed(c, text, sizeof(text) - 1);
		return 3;
	}
	if (IS("boot-fails-long")) {
		char *text = malloc(1 << 20);

		memset(text, 'x', 1 << 20);
		memcpy(text, "the beginning\n", 14);
		memcpy(text + (1 << 20) - 9, "\nthe end\n", 9);
		lc_ctl_boot_failed(c, text, 1 << 20);
		return 3;
	}
	if (IS("boot-crashes"))
		raise(SIGSEGV);
	if (IS("boot-hangs"))
		hang();
	if (IS("gated")) { /* until the test makes the file */
		snprintf(path, sizeof(path), "%s/gate", dir);
		while (access(path, F_OK) < 0)
			(void)poll(NULL, 0, 5);
	}
	lc_ctl_ready(c);
	if (IS("unknown"))
		raw(0x7777, 0, "x", 1);
	if (IS("length"))
		raw(LC_MSG_HEARTBEAT, 0, "x", 1);
	if (IS("again"))
		raw(LC_MSG_READY, 0, "", 0);
	if (IS("orders"))
		raw(LC_MSG_STOP, 0, "", 0);
	if (IS("hello-again"))
		raw_hello(LC_ROLE_WORKER);
	if (IS("floods"))
		for (int i = 0; i < 100000; i++)
			raw(LC_MSG_HEARTBEAT, 0, "1234567890123456789012345678", 28);
	if (IS("exits"))
		return 7;
	if (IS("crashes"))
		raise(SIGSEGV);
	if (IS("leaves-grandchild")) {
		fcntl(3, F_SETFD, 0);
		if (fork() == 0) {
			execlp("sleep", "sleep", "30", (char *)NULL); /* the channel stays open in it */
			_exit(1);
		}
		return 7;
	}
	if (IS("makes-orphans")) {
		for (int i = 0; i < 5; i++)
			if (fork() == 0) {
				if (fork() == 0)
					_exit(0);
				_exit(0);
			}
	}
	if (IS("silent"))
		return serve(c, 0, 1);
	return serve(c, 1, IS("stubborn"));
}

/* ---- zygotes ---- */

static int fork_fd = -1;

static void
do_fork(void *arg, int fd)
{
	(void)arg;
	fork_fd = fd;
}

static void
do_nothing(void *w, uint32_t when)
{
	(void)w;
	(void)when;
}

/* A worker that is dead before anybody hears of it. */
static pid_t
stillborn(void)
{
	char path[64], line[256];
	int p[2], dead = 0;
	pid_t pid = -1, between;

	if (pipe(p) < 0)
		return -1;
	between = fork();
	if (between == 0) {
		pid = fork();
		if (pid == 0)
			_exit(7);
		_exit(write(p[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	if (read(p[0], &pid, sizeof(pid)) != sizeof(pid))
		return -1;
	(void)waitpid(between, NULL, 0);
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	while (!dead) {
		FILE *f = fopen(path, "re");

		dead = !f || (fgets(line, sizeof(line), f) && strstr(line, ") Z"));
		if (f)
			fclose(f);
		(void)poll(NULL, 0, 5);
	}
	(void)poll(NULL, 0, 50); /* the arbiter has seen that somebody died: it must not have let go of the number */
	return pid;
}

static int
zygote(void)
{
	static const struct lc_ctl_ops ops = {
	    .drain = do_drain, .stop = do_stop, .lost = do_lost, .secret = do_secret, .log = do_log, .fork = do_fork};
	static const struct lc_worker wk = {.size = sizeof(wk), .forking = do_nothing};
	const struct lc_ctl_setup *setup;
	char path[512], s[64] = "ok";
	struct state st = {0};
	struct lc_ctl *c;
	FILE *f;

	lc_log_role("zygote");
	snprintf(path, sizeof(path), "%s/zygote", getenv("LC_SCRIPTS"));
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%63s", s) != 1)
			strcpy(s, "ok");
		fclose(f);
	}
	lc_log(LC_LOG_NOTICE, "zygote's script %s", s);
	if (lc_ctl_open_zygote(&c, 3, "double") < 0 || lc_ctl_setup(c, &setup) < 0)
		return 1;
	if (IS("look"))
		tell_self(setup);
	lc_ctl_ready(c);
	if (IS("beats"))
		raw(LC_MSG_HEARTBEAT, 0, "1234567890123456789012345678", 28);
	if (IS("unasked"))
		lc_ctl_forked(c, (uint32_t)getppid(), 0);
	if (IS("ok") || IS("look")) {
		int stop = eventfd(0, EFD_CLOEXEC);

		lc_zygote_serve(c, &wk, NULL, stop);
		close(stop);
		title = "licorne: forked/all";
		sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
		return lc_worker_main();
	}
	while (!st.leave && !st.lost) {
		struct pollfd p = {.fd = lc_ctl_fd(c), .events = POLLIN};

		if (poll(&p, 1, -1) > 0)
			lc_ctl_dispatch(c, &ops, &st);
		if (fork_fd < 0)
			continue;
		close(fork_fd);
		fork_fd = -1;
		if (IS("lies-arbiter"))
			lc_ctl_forked(c, (uint32_t)getppid(), 0);
		if (IS("lies-init"))
			lc_ctl_forked(c, 1, 0);
		if (IS("lies-self"))
			lc_ctl_forked(c, (uint32_t)getpid(), 0);
		if (IS("fails"))
			lc_ctl_forked(c, 0, EAGAIN);
		if (IS("dies"))
			return 9;
		if (IS("stillborn"))
			lc_ctl_forked(c, (uint32_t)stillborn(), 0);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct lc_arb_opts o = {.no_check = 1};

	title = argv[0];
	signal(SIGSEGV, SIG_DFL); /* no sanitizer's report of them */
	signal(SIGABRT, SIG_DFL);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* crashes are asked for */
	if (argc >= 3 && strcmp(argv[1], "--role") == 0)
		_exit(strcmp(argv[2], "zygote") == 0
			  ? zygote()
			  : lc_worker_main()); /* what it leaks on purpose is of no interest */
	if (argc != 2)
		return LC_EXIT_USAGE;
	lc_arb_remember(argv);
	o.path = argv[1];
	return lc_arb_main(&o);
}
