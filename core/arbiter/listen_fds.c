/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/listen_fds.c - LISTEN_FDS: listening sockets that the service manager opened (sd_listen_fds(3)).
 *
 * They are descriptors 3 and following, meant for the process whose number is LISTEN_PID.  Each becomes a socket like
 * one of ours, under the name of the address that it is bound to: `listen` finds it there by its text or its address.
 * Its file, if it is a UNIX socket, stays the manager's.  The variables are taken out of the environment, since
 * children inherit neither the sockets nor the number.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define FIRST 3
#define MAX 512 /* more than anybody has addresses */

static long
number(const char *text)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	return errno || end == text || *end || v < 0 ? -1 : v;
}

void
lc__listen_fds(struct lc__arb *a)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *env = getenv("LISTEN_FDNAMES");
	long n = fds ? number(fds) : 0;
	char *names = env ? strdup(env) : NULL, *rest = names;

	if (!pid || number(pid) != (long)a->pid)
		n = 0; /* another process's */
	else if (n < 0 || n > MAX)
		lc_log(LC_LOG_ERROR, "LISTEN_FDS is \"%s\", expected a number from 0 to %d: no socket is taken over",
		       fds, MAX);
	for (int fd = FIRST; n <= MAX && fd < FIRST + n; fd++) {
		const char *name = rest ? strsep(&rest, ":") : NULL;
		int type = 0, on = 0;
		socklen_t len = sizeof(type);

		if (!name || !*name)
			name = "unknown";
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
			lc_log(LC_LOG_WARN, "descriptor %d of LISTEN_FDS (%s) is no socket: %m", fd, name);
		else if (type != SOCK_STREAM || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on)
			lc_log(LC_LOG_WARN,
			       "descriptor %d of LISTEN_FDS (%s) is no listening stream socket: it is closed "
			       "(ListenStream=, Accept=no)",
			       fd, name);
		else {
			if (lc__listen_inherit(a, NULL, fd, true) < 0)
				lc_log(LC_LOG_ERROR, "descriptor %d of LISTEN_FDS (%s) cannot be taken over", fd, name);
			continue;
		}
		close(fd);
	}
	free(names);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	unsetenv("LISTEN_PIDFDID");
}

void
lc__listen_fds_rest(struct lc__arb *a)
{
	bool any = false;

	if (a->predecessor) /* it has its own rule, see lc__successor_read() */
		return;
	for (const struct lc__sock *s = a->socks; s; s = s->next) {
		if (s->refs == 0)
			lc_log(LC_LOG_WARN,
			       "the service manager gave a socket for %s, which no listen names: it is closed",
			       s->name);
		any |= s->refs == 0;
	}
	if (any)
		lc__listen_settle(a);
}
