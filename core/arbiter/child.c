/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/child.c - fork, give up rights, exec ourselves in a role.
 *
 * A child has the fds 0 (nothing), 1 and 2 (ours) and 3 (its channel), no signal blocked or ignored, its own process
 * group.  Order matters: PR_SET_PDEATHSIG is forgotten when the user id changes, so it comes after; then the parent may
 * have died already, which getppid() shows.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define EXIT_SPAWN 71 /* EX_OSERR */
#define OUTPUT_MAX (1u << 20)

const char *
lc__signal_name(int sig, char buf[16])
{
	static const struct {
		int sig;
		const char *name;
	} names[] = {
	    {SIGHUP, "SIGHUP"},     {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"}, {SIGILL, "SIGILL"},
	    {SIGTRAP, "SIGTRAP"},   {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
	    {SIGKILL, "SIGKILL"},   {SIGUSR1, "SIGUSR1"}, {SIGSEGV, "SIGSEGV"}, {SIGUSR2, "SIGUSR2"},
	    {SIGPIPE, "SIGPIPE"},   {SIGALRM, "SIGALRM"}, {SIGTERM, "SIGTERM"}, {SIGXCPU, "SIGXCPU"},
	    {SIGXFSZ, "SIGXFSZ"},   {SIGSYS, "SIGSYS"},   {SIGTTIN, "SIGTTIN"}, {SIGTTOU, "SIGTTOU"},
	    {SIGWINCH, "SIGWINCH"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].sig == sig)
			return names[i].name;
	snprintf(buf, 16, "signal %d", sig);
	return buf;
}

/* Names are looked up once, in the parent: the lookup may read files and ask services. */
int
lc__creds_resolve(struct lc__creds *c, const struct lc_conf *conf, struct lc_err *err)
{
	const struct lc_block *top = lc_conf_main_block(conf);
	const struct lc_conf_main *m = lc_conf_get(conf, top, &lc_core_main);
	const char *user = m->user, *group = m->group;
	struct lc_conf_place at;
	struct passwd *pw = NULL;
	struct group *gr = NULL;

	memset(c, 0, sizeof(*c));
	if (!user && !group)
		return 0;
	errno = 0;
	if (user && !(pw = getpwnam(user))) {
		lc_conf_where(conf, top, &lc_core_main, "user", &at);
		lc_err_add(err, at.file, at.line, "user: there is no user \"%s\" on this machine", user);
		return -ENOENT;
	}
	c->uid = pw ? pw->pw_uid : geteuid();
	c->gid = pw ? pw->pw_gid : getegid();
	if (group && !(gr = getgrnam(group))) {
		lc_conf_where(conf, top, &lc_core_main, "group", &at);
		lc_err_add(err, at.file, at.line, "group: there is no group \"%s\" on this machine", group);
		return -ENOENT;
	}
	if (gr)
		c->gid = gr->gr_gid;
	if (geteuid() != 0) {
		if (c->uid != geteuid() || c->gid != getegid())
			lc_log(LC_LOG_WARN, "user and group have no effect: licorne was not started as root");
		return 0;
	}
	c->drop = true;
	if (user) {
		c->ngroups = 0;
		(void)getgrouplist(user, c->gid, NULL, &c->ngroups);
		c->groups = calloc((size_t)c->ngroups + 1, sizeof(gid_t));
		if (!c->groups)
			return -ENOMEM;
		if (getgrouplist(user, c->gid, c->groups, &c->ngroups) < 0)
			return -EIO;
	}
	return 0;
}

static void __attribute__((noreturn)) die(const char *what)
{
	lc_log(LC_LOG_CRIT, "cannot start a child: %s: %m", what);
	_exit(EXIT_SPAWN);
}

static void
become(const struct lc__child *ch, pid_t parent)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (ch->group && setpgid(0, 0) < 0)
		die("setpgid");
	if (ch->creds && ch->creds->drop) {
		if (setgroups((size_t)ch->creds->ngroups, ch->creds->groups) < 0)
			die("setgroups");
		if (setresgid(ch->creds->gid, ch->creds->gid, ch->creds->gid) < 0)
			die("setresgid");
		if (setresuid(ch->creds->uid, ch->creds->uid, ch->creds->uid) < 0)
			die("setresuid");
		if (ch->creds->uid != 0 && setuid(0) == 0)
			die("root could be regained");
	}
	if (ch->creds && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("PR_SET_NO_NEW_PRIVS");
	if (!ch->outlives && prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		die("PR_SET_PDEATHSIG");
	if (getppid() != parent)
		_exit(EXIT_SPAWN);
}

static void
set_fds(const struct lc__child *ch)
{
	int null = open("/dev/null", O_RDONLY);
	int fd3 = ch->fd3, out = ch->out, err = ch->err;

	if (null < 0)
		die("/dev/null");
	/* Out of the way of 0 to 3 first. */
	if (fd3 >= 0 && fd3 < 4 && (fd3 = fcntl(fd3, F_DUPFD_CLOEXEC, 4)) < 0)
		die("dup");
	if (out >= 0 && out < 4 && (out = fcntl(out, F_DUPFD_CLOEXEC, 4)) < 0)
		die("dup");
	if (err >= 0 && err < 4 && (err = fcntl(err, F_DUPFD_CLOEXEC, 4)) < 0)
		die("dup");
	if (dup2(null, 0) < 0 || (out >= 0 && dup2(out, 1) < 0) || (fd3 >= 0 && dup2(fd3, 3) < 0) ||
	    (err >= 0 && dup2(err, 2) < 0))
		die("dup2");
	if (syscall(SYS_close_range, fd3 >= 0 ? 4u : 3u, ~0u, 0) < 0)
		for (int fd = fd3 >= 0 ? 4 : 3; fd < 65536; fd++)
			close(fd);
}

pid_t
lc__child_spawn(const struct lc__child *ch)
{
	const char *argv[16] = {ch->title, "--role", ch->role};
	pid_t parent = getpid(), pid;
	unsigned n = 3;

	for (unsigned i = 0; ch->args && ch->args[i] && n < 15; i++)
		argv[n++] = ch->args[i];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	become(ch, parent);
	set_fds(ch);
	if (ch->path)
		execv(ch->path, ch->argv);
	else
		execv("/proc/self/exe", (char *const *)argv);
	die(ch->path ? ch->path : "/proc/self/exe");
}

int
lc_child_output(const struct lc_child_run *run, char **ret_out, size_t *ret_n)
{
	static const char *const none[] = {NULL};
	struct lc__child ch = {
	    .title = run->title, .fd3 = -1, .err = -1, .path = run->path, .argv = run->argv, .args = none};
	size_t n = 0, cap = 4096;
	char *buf = malloc(cap);
	int p[2], st = 0, err = 0;
	pid_t pid;

	if (!buf)
		return -ENOMEM;
	if (pipe2(p, O_CLOEXEC) < 0) {
		err = -errno;
		free(buf);
		return err;
	}
	ch.out = p[1];
	if (!run->path) {
		ch.role = run->argv[0];
		ch.args = (const char *const *)run->argv + 1;
	}
	pid = lc__child_spawn(&ch);
	close(p[1]);
	if (pid < 0) {
		close(p[0]);
		free(buf);
		return (int)pid;
	}
	for (;;) {
		ssize_t k;

		if (cap - n < 1024 && cap < OUTPUT_MAX) {
			char *more = realloc(buf, cap * 2);

			if (!more) {
				err = -ENOMEM;
				break;
			}
			buf = more;
			cap *= 2;
		}
		if (cap - n < 2) {
			err = -E2BIG;
			break;
		}
		k = read(p[0], buf + n, cap - n - 1);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	close(p[0]); /* a child that still writes gets SIGPIPE */
	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	if (err < 0) {
		free(buf);
		return err;
	}
	buf[n] = 0;
	*ret_out = buf;
	*ret_n = n;
	return st;
}
