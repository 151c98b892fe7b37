/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/listen.c - the listening sockets, which the arbiter keeps for its whole life.
 *
 * As long as it does, no worker's death closes an accept queue.  All mistakes are reported, not only the first.
 *
 * A UNIX socket's file that nobody listens on is left over from a crash and is replaced; one that somebody answers on
 * is in use.  At the end only a file that is still the one we made is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define TRIES 3

static void
complain(const struct lc__arb *a, const struct lc_block *b, const char *what, const char *name)
{
	if (a->opts->path)
		lc_log(LC_LOG_CRIT, "%s:%u: cannot listen on %s: %s", b->file, b->line, name, what);
	else
		lc_log(LC_LOG_CRIT, "cannot listen on %s: %s", name, what);
}

static void
complain_in_use(const struct lc__arb *a, const struct lc_block *b, const struct lc_addr *addr, const char *name)
{
	char who[320], what[400];
	pid_t pid = 0;

	if (lc__who_listens(addr, who, sizeof(who), &pid) < 0)
		snprintf(what, sizeof(what), "the address is in use");
	else if (pid == getpid())
		snprintf(what, sizeof(what), "another listen of this configuration has the address");
	else
		snprintf(what, sizeof(what), "the address is in use by %s", who);
	complain(a, b, what, name);
}

/* 1: somebody accepts there; 0: nobody; < 0. */
static int
answers(const struct lc_addr *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)addr->sa.raw, addr->len) == 0 || errno == EAGAIN ? 1
	    : errno == ECONNREFUSED                                                               ? 0
												  : -errno;
	close(fd);
	return r;
}

static int
bind_unix(int fd, const struct lc_addr *addr, const char *path)
{
	for (int i = 0; i < TRIES; i++) {
		mode_t old = umask(0777); /* nobody connects before mode and owner are right */
		int r = bind(fd, (const struct sockaddr *)addr->sa.raw, addr->len) < 0 ? -errno : 0;
		struct stat st;

		umask(old);
		if (r != -EADDRINUSE || !path)
			return r;
		if (lstat(path, &st) < 0)
			continue;
		if (!S_ISSOCK(st.st_mode))
			return -ENOTSOCK;
		r = answers(addr);
		if (r > 0)
			return -EADDRINUSE;
		if (r < 0 && r != -ENOENT)
			return r;
		lc_log(LC_LOG_NOTICE, "%s is left over, nobody listens on it: replaced", path);
		if (unlink(path) < 0 && errno != ENOENT)
			return -errno;
	}
	return -EADDRINUSE;
}

static int
own_unix(const struct lc_conf_listen *conf, const char *path, char *what, size_t n)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (conf->user) {
		struct passwd *pw = getpwnam(conf->user);

		if (!pw) {
			snprintf(what, n, "there is no user \"%s\"", conf->user);
			return -ENOENT;
		}
		uid = pw->pw_uid;
	}
	if (conf->group) {
		struct group *gr = getgrnam(conf->group);

		if (!gr) {
			snprintf(what, n, "there is no group \"%s\"", conf->group);
			return -ENOENT;
		}
		gid = gr->gr_gid;
	}
	if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(path, uid, gid) < 0) {
		snprintf(what, n, "cannot change the owner: %s", strerror(errno));
		return -EPERM;
	}
	if (chmod(path, (mode_t)conf->mode) < 0) {
		snprintf(what, n, "cannot change the mode: %s", strerror(errno));
		return -EPERM;
	}
	return 0;
}

static int
open_one(struct lc__arb *a, const struct lc_block *b, struct lc__listener *l)
{
	const struct lc_conf_listen *conf = lc_conf_get(a->conf, b, &lc_core_listen);
	int backlog = (int)(conf->backlog ? conf->backlog : a->main->backlog);
	const char *error = NULL, *path = NULL;
	struct sockaddr_un sun;
	struct lc_addr addr, bound;
	char what[200];
	int one = 1, r;
	socklen_t len;

	l->fd = -1;
	l->index = b->index;
	r = lc_addr_parse(&addr, b->name, &error);
	if (r < 0) {
		complain(a, b, error ? error : strerror(-r), b->name);
		return r;
	}
	l->fd = socket(addr.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0) {
		r = -errno;
		complain(a, b, strerror(-r), b->name);
		return r;
	}
	if (addr.family == AF_UNIX) {
		memcpy(&sun, addr.sa.raw, sizeof(sun));
		if (sun.sun_path[0])
			path = sun.sun_path;
		r = bind_unix(l->fd, &addr, path);
	} else {
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted sockets inherit it */
		if (addr.family == AF_INET6) {
			int v6only = conf->ipv6only;

			setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
		}
		r = bind(l->fd, (const struct sockaddr *)addr.sa.raw, addr.len) < 0 ? -errno : 0;
	}
	if (r == 0 && path) {
		struct stat st;

		l->path = strdup(path);
		if (l->path && lstat(path, &st) == 0) {
			l->dev = st.st_dev;
			l->ino = st.st_ino;
		}
		r = own_unix(conf, path, what, sizeof(what));
		if (r < 0) {
			complain(a, b, what, b->name);
			return r;
		}
	}
	/* Linux tells of a second listener on a port in listen(), when both have SO_REUSEADDR. */
	if (r == 0 && listen(l->fd, backlog) < 0)
		r = -errno;
	if (r == -EADDRINUSE) {
		complain_in_use(a, b, &addr, b->name);
		return r;
	}
	if (r < 0) {
		complain(a, b, r == -ENOTSOCK ? "there is a file of that name that is no socket" : strerror(-r),
			 b->name);
		return r;
	}
	bound = addr;
	len = sizeof(bound.sa.raw);
	if (getsockname(l->fd, (struct sockaddr *)bound.sa.raw, &len) == 0)
		bound.len = len;
	lc_addr_print(&bound, l->name, sizeof(l->name));
	return 0;
}

int
lc__listen_open(struct lc__arb *a)
{
	int r = 0;

	for (uint32_t i = 0; i < a->npools; i++) {
		struct lc__pool *p = &a->pools[i];
		const struct lc_block *b = NULL;
		uint32_t n = 0;

		while ((b = lc_conf_next(p->block, LC_C_LISTEN, b)))
			n++;
		p->listeners = calloc(n ? n : 1, sizeof(*p->listeners));
		if (!p->listeners)
			return -ENOMEM;
		while ((b = lc_conf_next(p->block, LC_C_LISTEN, b))) {
			int e = open_one(a, b, &p->listeners[p->nlisteners++]);

			if (e < 0)
				r = e;
		}
	}
	return r;
}

void
lc__listen_close(struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->npools; i++) {
		for (uint32_t k = 0; k < a->pools[i].nlisteners; k++) {
			struct lc__listener *l = &a->pools[i].listeners[k];
			struct stat st;

			if (l->fd >= 0)
				close(l->fd);
			l->fd = -1;
			if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
				unlink(l->path);
			free(l->path);
			l->path = NULL;
		}
	}
}
