/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/control_socket.c - the UNIX socket on which an operator asks, if the configuration has one.
 *
 * A connection is one question, a line of text, and one answer, a line of JSON; then it is closed:
 *
 *   status         what there is (status.c)
 *   reload         begins a reload: {"ok":true,"reload":NUMBER}
 *   reload wait    answers when it is over: {"ok":true,"generation":N} or {"ok":false,"reason":"...","generation":N}
 *
 * What cannot be answered gets {"ok":false,"error":"..."}.  Who asks is not trusted with our time or memory: there are
 * few clients, their lines are short, each step has a deadline, and nothing here waits.
 *
 * The socket belongs to the arbiter and outlives reloads; one of another path is bound while its generation is on
 * trial.  A successor gets it offered like a listener (upgrade.c): it answers there from the COMMIT on, this one until
 * then, so what has connected meanwhile waits in the queue.  Who ends without a successor removes the file at the order
 * to stop, not at the end: a new licorne may start while this one still finishes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define LINE 128       /* bytes of a question */
#define READ_MS 5000   /* to ask */
#define WRITE_MS 10000 /* to take the answer */
#define REST_MS 1000   /* when there is no descriptor for one more */
#define BACKLOG 32
#define ACCEPTS 8 /* in one turn */

struct lc__ctl_client {
	int fd;
	uid_t uid;
	char in[LINE];
	size_t in_n;
	char *out; /* NULL: not yet */
	size_t out_n, out_at;
	uint32_t reload;  /* waits for the outcome of this one; 0: it does not */
	int64_t deadline; /* INT64_MAX: what it waits for ends by itself */
};

/* ---- the socket ---- */

static void
sock_close(struct lc__control_sock *s)
{
	struct stat st;

	if (s->fd >= 0)
		close(s->fd);
	if (s->fd >= 0 && !s->keep && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	free(s->path);
	*s = (struct lc__control_sock){.fd = -1};
}

static int
sock_open(const char *path, uint32_t mode, struct lc__control_sock *ret)
{
	struct lc__control_sock s = {.fd = -1, .mode = mode};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct lc_addr addr = {.family = AF_UNIX, .len = sizeof(sun)};
	struct stat st;
	int r;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path) + 1);
	memcpy(addr.sa.raw, &sun, sizeof(sun));
	s.path = strdup(path);
	s.fd = s.path ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	r = !s.path ? -ENOMEM : s.fd < 0 ? -errno : lc__unix_bind(s.fd, &addr, path);
	if (r == 0 && lstat(path, &st) == 0) {
		s.dev = st.st_dev;
		s.ino = st.st_ino;
	}
	if (r == 0 && (listen(s.fd, BACKLOG) < 0 || chmod(path, (mode_t)mode) < 0))
		r = -errno;
	if (r < 0)
		sock_close(&s); /* a file that is not the one we made has another inode */
	else
		*ret = s;
	return r;
}

int
lc__control_open(struct lc__arb *a, struct lc__gen *g)
{
	const struct lc_list *l = &g->main->control_socket;
	int r;

	if (l->n == 0 || (a->control.sock.fd >= 0 && !strcmp(a->control.sock.path, l->v[0])))
		return 0;
	r = sock_open(l->v[0], lc_conf_control_mode(g->main), &g->control);
	if (r < 0)
		lc__complain(a, "control_socket %s: %s", l->v[0],
			     r == -EADDRINUSE     ? "another process listens on it"
			     : r == -ENOTSOCK     ? "there is a file of that name that is no socket"
			     : r == -ENAMETOOLONG ? "the path is too long for a socket, expected at most 107 bytes"
						  : strerror(-r));
	return r;
}

void
lc__control_drop(struct lc__gen *g)
{
	sock_close(&g->control);
}

static void
listen_on(struct lc__arb *a, bool on)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = LC__CONTROL};
	int fd = a->control.sock.fd;

	if (fd < 0 || !a->control.ours)
		return;
	if (epoll_ctl(a->epfd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &ev) < 0 && on && errno != EEXIST)
		lc_log(LC_LOG_ERROR, "control_socket %s: %m", a->control.sock.path);
}

void
lc__control_apply(struct lc__arb *a, struct lc__gen *g)
{
	struct lc__control *c = &a->control;
	bool wanted = g->main->control_socket.n > 0;
	uint32_t mode = wanted ? lc_conf_control_mode(g->main) : 0;

	if (g->control.fd >= 0 || !wanted) { /* another one, or none */
		listen_on(a, false);
		if (a->predecessor) /* which answers there, and may go on alone */
			c->former = c->sock;
		else
			sock_close(&c->sock);
		c->sock = g->control;
		g->control = (struct lc__control_sock){.fd = -1};
		c->ours = true;
		c->rest_until = 0;
		listen_on(a, true);
	} else if (mode != c->sock.mode && !c->sock.keep) {
		if (chmod(c->sock.path, (mode_t)mode) < 0)
			lc_log(LC_LOG_ERROR, "control_socket %s: cannot change the mode: %m", c->sock.path);
		c->sock.mode = mode;
	}
}

void
lc__control_inherit(struct lc__arb *a, const char *path, int fd)
{
	struct lc__control_sock *s = &a->control.sock;
	struct stat st;
	int on = 0;
	socklen_t len = sizeof(on);

	s->path = s->fd < 0 ? strdup(path) : NULL;
	if (!s->path || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on || lstat(path, &st) < 0) {
		close(fd);
		return;
	}
	s->fd = fd;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->mode = st.st_mode & 0777;
	s->keep = true;
}

void
lc__control_begin(struct lc__arb *a)
{
	struct lc__control *c = &a->control;

	c->former.keep = false;
	sock_close(&c->former);
	if (c->sock.fd < 0 || c->ours)
		return;
	c->ours = true;
	c->sock.keep = false;
	listen_on(a, true);
	lc__control_apply(a, a->gen); /* the mode may be another one */
}

/* ---- clients ---- */

static void
client_free(struct lc__arb *a, unsigned i)
{
	struct lc__ctl_client *c = a->control.clients[i];

	close(c->fd);
	free(c->out);
	free(c);
	a->control.clients[i] = NULL;
}

static void
client_watch(struct lc__arb *a, unsigned i, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u32 = LC__CONTROL - 1 - i};

	(void)epoll_ctl(a->epfd, EPOLL_CTL_MOD, a->control.clients[i]->fd, &ev);
}

static void
client_write(struct lc__arb *a, unsigned i)
{
	struct lc__ctl_client *c = a->control.clients[i];

	while (c->out_at < c->out_n) {
		ssize_t k = send(c->fd, c->out + c->out_at, c->out_n - c->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
			client_watch(a, i, EPOLLOUT);
			return;
		}
		if (k <= 0)
			break;
		c->out_at += (size_t)k;
	}
	client_free(a, i);
}

/* Takes the text over; NULL: there was no memory. */
static void
client_answer(struct lc__arb *a, unsigned i, char *text, size_t n)
{
	struct lc__ctl_client *c = a->control.clients[i];

	if (!text) {
		client_free(a, i);
		return;
	}
	c->out = text;
	c->out_n = n;
	c->reload = 0;
	c->deadline = a->now + WRITE_MS;
	client_write(a, i);
}

/* {"ok":false,"KEY":"TEXT"}, with which generation serves where that is of interest. */
static void
client_refuse(struct lc__arb *a, unsigned i, const char *key, const char *text)
{
	char *out = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);

	if (f) {
		fprintf(f, "{\"ok\":false,\"%s\":", key);
		lc__json_str(f, text);
		if (!strcmp(key, "reason"))
			fprintf(f, ",\"generation\":%u", a->gen->number);
		fputs("}\n", f);
		if (fclose(f) != 0) {
			free(out);
			out = NULL;
		}
	}
	client_answer(a, i, out, n);
}

static void
client_accept(struct lc__arb *a)
{
	static const char full[] = "{\"ok\":false,\"error\":\"too many ask at once, try again\"}\n";
	struct lc__control *ctl = &a->control;

	for (int k = 0; k < ACCEPTS && ctl->sock.fd >= 0; k++) {
		int fd = accept4(ctl->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct epoll_event ev = {.events = EPOLLIN};
		struct lc__ctl_client *c;
		struct ucred cred = {.uid = (uid_t)-1};
		socklen_t len = sizeof(cred);
		unsigned i = 0;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			listen_on(a, false); /* it stays readable: do not spin */
			ctl->rest_until = a->now + REST_MS;
		}
		if (fd < 0)
			return;
		while (i < LC__CONTROL_CLIENTS && ctl->clients[i])
			i++;
		if (i == LC__CONTROL_CLIENTS) {
			(void)send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
			close(fd);
			continue;
		}
		ev.data.u32 = LC__CONTROL - 1 - i;
		c = calloc(1, sizeof(*c));
		if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
		    epoll_ctl(a->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
			free(c);
			close(fd);
			continue;
		}
		c->fd = fd;
		c->uid = cred.uid;
		c->deadline = a->now + READ_MS;
		ctl->clients[i] = c;
	}
}

static void
client_ask(struct lc__arb *a, unsigned i, const char *line)
{
	struct lc__ctl_client *c = a->control.clients[i];
	bool all = c->uid == 0 || c->uid == geteuid(), wait = !strcmp(line, "reload wait");
	char text[160], *out;
	size_t n = 0;
	int k;

	if (!all && !(a->control.sock.mode & 077)) {
		snprintf(text, sizeof(text), "user %u may not ask here, only root and user %u", (unsigned)c->uid,
			 (unsigned)geteuid());
		client_refuse(a, i, "error", text);
	} else if (!strcmp(line, "status")) {
		out = lc__status(a, &n);
		client_answer(a, i, out, n);
	} else if (!wait && strcmp(line, "reload") != 0) {
		client_refuse(a, i, "error", "unknown question, expected status, reload or reload wait");
	} else if (!all) {
		snprintf(text, sizeof(text), "user %u may not reload, only root and user %u", (unsigned)c->uid,
			 (unsigned)geteuid());
		client_refuse(a, i, "error", text);
	} else if (a->stopping) {
		client_refuse(a, i, "reason", "licorne ends");
	} else {
		lc_log(LC_LOG_NOTICE, "user %u asks for a reload", (unsigned)c->uid);
		c->reload = lc__reload_ask(a);
		c->deadline = INT64_MAX;
		if (wait) {
			client_watch(a, i, 0); /* its end is always reported */
			return;
		}
		k = asprintf(&out, "{\"ok\":true,\"reload\":%u}\n", c->reload);
		client_answer(a, i, k < 0 ? NULL : out, k < 0 ? 0 : (size_t)k);
	}
}

static void
client_read(struct lc__arb *a, unsigned i)
{
	struct lc__ctl_client *c = a->control.clients[i];
	ssize_t k = recv(c->fd, c->in + c->in_n, sizeof(c->in) - 1 - c->in_n, MSG_DONTWAIT);
	char *end;

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (k <= 0) {
		client_free(a, i);
		return;
	}
	c->in_n += (size_t)k;
	end = memchr(c->in, '\n', c->in_n);
	if (!end && c->in_n < sizeof(c->in) - 1)
		return;
	if (end && end > c->in && end[-1] == '\r')
		end--;
	if (end)
		*end = 0;
	else
		c->in[0] = 0; /* longer than any question */
	client_ask(a, i, c->in);
}

void
lc__control_event(struct lc__arb *a, uint32_t id, uint32_t events)
{
	unsigned i = LC__CONTROL - 1 - id;
	struct lc__ctl_client *c;

	if (id == LC__CONTROL) {
		client_accept(a);
		return;
	}
	c = a->control.clients[i];
	if (!c) /* it ended earlier in this turn */
		return;
	if (c->out)
		client_write(a, i);
	else if (c->reload) {
		if (events & (EPOLLHUP | EPOLLERR)) /* does not wait any more */
			client_free(a, i);
	} else
		client_read(a, i);
}

/* ---- time ---- */

int64_t
lc__control_deadline(const struct lc__arb *a)
{
	int64_t next = a->control.rest_until ? a->control.rest_until : INT64_MAX;

	for (unsigned i = 0; i < LC__CONTROL_CLIENTS; i++)
		if (a->control.clients[i] && a->control.clients[i]->deadline < next)
			next = a->control.clients[i]->deadline;
	return next;
}

void
lc__control_judge(struct lc__arb *a)
{
	struct lc__control *ctl = &a->control;

	for (unsigned i = 0; i < LC__CONTROL_CLIENTS; i++)
		if (ctl->clients[i] && ctl->clients[i]->deadline <= a->now)
			client_free(a, i);
	if (ctl->rest_until && ctl->rest_until <= a->now) {
		ctl->rest_until = 0;
		listen_on(a, true);
	}
}

/* ---- what others tell ---- */

void
lc__control_reloaded(struct lc__arb *a)
{
	const struct lc__reload *r = &a->reload;

	for (unsigned i = 0; i < LC__CONTROL_CLIENTS; i++) {
		struct lc__ctl_client *c = a->control.clients[i];
		char *out;
		int k;

		if (!c || !c->reload || c->out || (int32_t)(r->done - c->reload) < 0)
			continue;
		if (!r->ok) {
			client_refuse(a, i, "reason", r->why);
			continue;
		}
		k = asprintf(&out, "{\"ok\":true,\"generation\":%u,\"seconds\":%.3f}\n", a->gen->number,
			     (double)(r->ended - r->begun) / 1000.0);
		client_answer(a, i, k < 0 ? NULL : out, k < 0 ? 0 : (size_t)k);
	}
}

void
lc__control_stop(struct lc__arb *a, bool handed_on)
{
	struct lc__control *ctl = &a->control;

	for (unsigned i = 0; i < LC__CONTROL_CLIENTS; i++)
		if (ctl->clients[i] && ctl->clients[i]->reload && !ctl->clients[i]->out)
			client_refuse(a, i, "reason",
				      handed_on ? "another licorne has taken over, which is told to reload; see its log"
						: "licorne ends");
	listen_on(a, false);
	if (handed_on)
		ctl->sock.keep = true;
	ctl->rest_until = 0;
	sock_close(&ctl->sock);
}

void
lc__control_free(struct lc__arb *a)
{
	for (unsigned i = 0; i < LC__CONTROL_CLIENTS; i++)
		if (a->control.clients[i])
			client_free(a, i);
	sock_close(&a->control.sock);
	sock_close(&a->control.former);
}
