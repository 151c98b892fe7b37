/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/listen.c - the listening sockets, which the arbiter keeps.
 *
 * As long as it does, no worker's death closes an accept queue.  A generation asks for the sockets that its
 * configuration names; one that is there already, by its text or by the address it is bound to, is the same one, with
 * what waits in its queue.  One that no generation holds any more is closed.  All mistakes are reported, not only the
 * first.
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
complain(struct lc__arb *a, const struct lc_block *b, const char *what, const char *name)
{
	if (a->opts->path)
		lc__complain(a, "%s:%u: cannot listen on %s: %s", b->file, b->line, name, what);
	else
		lc__complain(a, "cannot listen on %s: %s", name, what);
}

static void
complain_in_use(struct lc__arb *a, const struct lc_block *b, const struct lc_addr *addr, const char *name)
{
	char who[320], what[400];
	pid_t pid = 0;

	if (lc__who_listens(addr, who, sizeof(who), &pid) < 0)
		snprintf(what, sizeof(what), "the address is in use");
	else if (pid != getpid())
		snprintf(what, sizeof(what), "the address is in use by %s", who);
	else if (!a->gen)
		snprintf(what, sizeof(what), "another listen of this configuration has the address");
	else
		snprintf(what, sizeof(what),
			 "an address that licorne listens on overlaps it; take that one out first, or restart");
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

int
lc__unix_bind(int fd, const struct lc_addr *addr, const char *path)
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

/* ---- sockets ---- */

static struct lc__sock *
sock_new(struct lc__arb *a, const char *text, int fd)
{
	struct lc__sock *s = calloc(1, sizeof(*s)), **at;

	if (s)
		s->text = strdup(text);
	if (!s || !s->text) {
		free(s);
		return NULL;
	}
	s->fd = fd;
	for (at = &a->socks; *at; at = &(*at)->next) /* in order: two of one text (port 0) are told apart by it */
		;
	*at = s;
	return s;
}

static void
sock_shut(struct lc__sock *s)
{
	struct stat st;

	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (s->path && !s->keep && !s->given && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	free(s->path);
	s->path = NULL;
}

static void
sock_free(struct lc__arb *a, struct lc__sock *s)
{
	struct lc__sock **at = &a->socks;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->fd >= 0 && s->told)
		lc_log(LC_LOG_NOTICE, "no longer listening on %s", s->name);
	sock_shut(s);
	free(s->text);
	free(s);
}

/* What is bound by now: its name, and the file of a UNIX socket. */
static void
sock_bound(struct lc__sock *s)
{
	struct lc_addr bound = {0};
	socklen_t len = sizeof(bound.sa.raw);
	const struct sockaddr_un *sun = (const void *)bound.sa.raw;
	struct stat st;

	if (getsockname(s->fd, (struct sockaddr *)bound.sa.raw, &len) < 0)
		return;
	bound.len = len;
	bound.family = ((const struct sockaddr *)bound.sa.raw)->sa_family;
	lc_addr_print(&bound, s->name, sizeof(s->name));
	if (bound.family != AF_UNIX || !sun->sun_path[0] || s->path)
		return;
	s->path = strdup(sun->sun_path);
	if (s->path && lstat(s->path, &st) == 0) {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
}

static bool
has(const struct lc__gen *g, const struct lc__sock *s)
{
	for (uint32_t i = 0; i < g->npools; i++)
		for (uint32_t k = 0; k < g->pools[i].nlisteners; k++)
			if (g->pools[i].listeners[k].sock == s)
				return true;
	return false;
}

/* The socket that is there for a text, and not taken by the generation. */
static struct lc__sock *
sock_of_text(struct lc__arb *a, const struct lc__gen *g, const char *text)
{
	for (struct lc__sock *s = a->socks; s; s = s->next)
		if (s->fd >= 0 && !strcmp(s->text, text) && !has(g, s))
			return s;
	return NULL;
}

static struct lc__sock *
sock_of_address(struct lc__arb *a, const struct lc_addr *addr)
{
	char name[160];

	lc_addr_print(addr, name, sizeof(name));
	for (struct lc__sock *s = a->socks; s; s = s->next)
		if (s->fd >= 0 && !strcmp(s->name, name))
			return s;
	return NULL;
}

static int
bind_one(struct lc__arb *a, const struct lc_block *b, const struct lc_addr *addr, const struct lc_conf_listen *conf,
	 int backlog, struct lc__sock *s)
{
	const char *path = NULL;
	struct sockaddr_un sun;
	char what[200];
	int one = 1, r;

	if (addr->family == AF_UNIX) {
		memcpy(&sun, addr->sa.raw, sizeof(sun));
		if (sun.sun_path[0])
			path = sun.sun_path;
		r = lc__unix_bind(s->fd, addr, path);
	} else {
		setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted sockets inherit it */
		if (addr->family == AF_INET6) {
			int v6only = conf->ipv6only;

			setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
		}
		r = bind(s->fd, (const struct sockaddr *)addr->sa.raw, addr->len) < 0 ? -errno : 0;
	}
	if (r == 0)
		sock_bound(s);
	if (r == 0 && path) {
		r = own_unix(conf, path, what, sizeof(what));
		if (r < 0) {
			complain(a, b, what, b->name);
			return r;
		}
	}
	/* Linux tells of a second listener on a port in listen(), when both have SO_REUSEADDR. */
	if (r == 0 && listen(s->fd, backlog) < 0)
		r = -errno;
	if (r == -EADDRINUSE)
		complain_in_use(a, b, addr, b->name);
	else if (r < 0)
		complain(a, b, r == -ENOTSOCK ? "there is a file of that name that is no socket" : strerror(-r),
			 b->name);
	return r;
}

static int
backlog_of(const struct lc__gen *g, const struct lc_conf_listen *conf)
{
	return (int)(conf->backlog ? conf->backlog : g->main->backlog);
}

static int
open_one(struct lc__arb *a, struct lc__pool *pool, const struct lc_block *b)
{
	const struct lc_conf_listen *conf = lc_conf_get(pool->gen->conf, b, &lc_core_listen);
	struct lc__sock *s = sock_of_text(a, pool->gen, b->name);
	const char *error = NULL;
	struct lc_addr addr;
	int r;

	if (!s) { /* a name that was looked up once is not looked up again */
		r = lc_addr_parse(&addr, b->name, &error);
		if (r < 0) {
			complain(a, b, error ? error : strerror(-r), b->name);
			return r;
		}
		s = sock_of_address(a, &addr);
	}
	if (s && has(pool->gen, s)) {
		complain(a, b, "another listen of this configuration has the address", b->name);
		return -EADDRINUSE;
	}
	if (!s) {
		int fd = socket(addr.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		r = fd < 0 ? -errno : 0;
		if (fd >= 0 && !(s = sock_new(a, b->name, fd))) {
			close(fd);
			r = -ENOMEM;
		}
		if (r < 0) {
			complain(a, b, strerror(-r), b->name);
			return r;
		}
		r = bind_one(a, b, &addr, conf, backlog_of(pool->gen, conf), s);
		if (r < 0) {
			sock_free(a, s);
			return r;
		}
	}
	s->refs++;
	pool->listeners[pool->nlisteners++] = (struct lc__listener){.sock = s, .index = b->index};
	return 0;
}

int
lc__listen_open(struct lc__arb *a, struct lc__gen *g)
{
	int r = 0;

	for (uint32_t i = 0; i < g->npools; i++) {
		struct lc__pool *p = &g->pools[i];
		const struct lc_block *b = NULL;
		uint32_t n = 0;

		while ((b = lc_conf_next(p->block, LC_C_LISTEN, b)))
			n++;
		p->listeners = calloc(n ? n : 1, sizeof(*p->listeners));
		if (!p->listeners)
			return -ENOMEM;
		while ((b = lc_conf_next(p->block, LC_C_LISTEN, b))) {
			int e = open_one(a, p, b);

			if (e < 0)
				r = e;
		}
	}
	return r;
}

void
lc__listen_apply(struct lc__arb *a, struct lc__gen *g)
{
	char what[200];

	for (uint32_t i = 0; i < g->npools; i++) {
		struct lc__pool *p = &g->pools[i];
		const struct lc_block *b = NULL;

		for (uint32_t k = 0; k < p->nlisteners && (b = lc_conf_next(p->block, LC_C_LISTEN, b)); k++) {
			const struct lc_conf_listen *conf = lc_conf_get(g->conf, b, &lc_core_listen);
			struct lc__sock *s = p->listeners[k].sock;
			int v6only = 0;
			socklen_t len = sizeof(v6only);

			if (!s->told) {
				lc_log(LC_LOG_NOTICE, "listening on %s (pool %s)%s", s->name, p->name,
				       s->given ? ", a socket of the service manager" : "");
				s->told = true;
			} else if (s->fd >= 0) {
				(void)listen(s->fd, backlog_of(g, conf));
				if (getsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len) == 0 &&
				    v6only != conf->ipv6only)
					lc_log(LC_LOG_WARN, "%s:%u: ipv6only of %s: it takes a restart", b->file,
					       b->line, s->name);
				if (s->path && !s->given && own_unix(conf, s->path, what, sizeof(what)) < 0)
					complain(a, b, what, b->name);
			}
		}
	}
}

void
lc__listen_release(struct lc__arb *a, struct lc__gen *g)
{
	for (uint32_t i = 0; i < g->npools; i++) {
		for (uint32_t k = 0; k < g->pools[i].nlisteners; k++) {
			struct lc__sock *s = g->pools[i].listeners[k].sock;

			g->pools[i].listeners[k].sock = NULL;
			if (s && --s->refs == 0)
				sock_free(a, s);
		}
		g->pools[i].nlisteners = 0;
	}
}

void
lc__listen_close(struct lc__arb *a)
{
	for (struct lc__sock *s = a->socks; s; s = s->next)
		sock_shut(s);
}

/* ---- from somebody else ---- */

int
lc__listen_inherit(struct lc__arb *a, const char *text, int fd, bool given)
{
	int on = 0, one = 1;
	socklen_t len = sizeof(on);
	struct lc__sock *s;

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on ||
	    !(s = sock_new(a, text ? text : "", fd))) {
		close(fd);
		return -EINVAL;
	}
	s->keep = a->predecessor != NULL;
	s->given = given;
	sock_bound(s);
	if (given) { /* it may be as its maker likes it */
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	return 0;
}

void
lc__listen_settle(struct lc__arb *a)
{
	for (struct lc__sock *s = a->socks, *next; s; s = next) {
		next = s->next;
		if (s->refs == 0)
			sock_free(a, s);
	}
}
