/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/control.c - the worker's end of its channel to the arbiter.
 *
 * The arbiter is trusted, its messages are checked all the same: a table says which may come when.  Once the channel is
 * dead (the arbiter closed it, or garbage came) lost() has been called, exactly once, and everything else returns
 * -EPIPE without harm.  Heartbeats are dropped, not queued without bound, while the arbiter does not read.
 */
#include "worker/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/msg.h"
#include "log/log.h"

#define MAX_LISTENERS 1024u
#define MAX_FILES 256u

struct lc_ctl {
	lcimsg_chan *chan;
	struct lc_ctl_setup setup;
	uint32_t announced;                       /* listeners to come */
	lcimsg_msg *config;                       /* owns text and prefix */
	lcimsg_msg **names;                       /* one per listener */
	lcimsg_msg **files;                       /* one per file: own path and content */
	unsigned state, running;                  /* running: what the state will be after GO */
	int fork_fd;                              /* of the worker that is asked for, -1: none */
	bool go, handed, dead, drain, stop, kick; /* handed: the set-up is the caller's */
	unsigned secrets;                         /* new ones, to be told */
	int access_new[LC_CTL_ACCESS];            /* to be told, -1: none */
	uint64_t drain_deadline;
	pthread_mutex_t mu; /* chan, dead, last, beat_at: the watchdog writes, too */
	struct lc_ctl_beat last;
	int64_t beat_at;
};

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
open_as(struct lc_ctl **ret, int fd, unsigned who, const char *role)
{
	struct lcimsg_opts o = {.struct_size = sizeof(o),
				.flags = LCIMSG_OWN_FD,
				.max_fds_in = 1,
				.max_fd_sets = 64,
				.role = (uint16_t)who,
				.build = role};
	struct lc_ctl *c;
	int r;

	/* It came through exec; no program that the application starts shall have it. */
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->state = LC_WS_SETUP;
	c->running = who == LC_ROLE_ZYGOTE ? LC_ZS_RUNNING : LC_WS_RUNNING;
	c->fork_fd = -1;
	pthread_mutex_init(&c->mu, NULL);
	c->setup.flight_fd = -1;
	for (unsigned i = 0; i < LC_CTL_ACCESS; i++)
		c->setup.access_fd[i] = c->access_new[i] = -1;
	r = lcimsg_open(&c->chan, fd, &o);
	if (r < 0) {
		pthread_mutex_destroy(&c->mu);
		free(c);
		return r;
	}
	r = lcimsg_flush(c->chan);
	if (r < 0) {
		lc_ctl_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

int
lc_ctl_open(struct lc_ctl **ret, int fd, const char *role)
{
	return open_as(ret, fd, LC_ROLE_WORKER, role);
}

int
lc_ctl_open_zygote(struct lc_ctl **ret, int fd, const char *role)
{
	return open_as(ret, fd, LC_ROLE_ZYGOTE, role);
}

void
lc_ctl_close(struct lc_ctl *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->setup.nlisteners; i++)
		lcimsg_unref(c->names[i]); /* its fd was taken */
	free(c->names);
	for (uint32_t i = 0; i < c->setup.nfiles; i++)
		lcimsg_unref(c->files[i]);
	free(c->files);
	free(c->setup.files);
	free(c->setup.listeners);
	for (uint32_t i = 0; i < LC_CTL_ACCESS; i++) {
		if (c->access_new[i] >= 0)
			close(c->access_new[i]);
		if (!c->handed && c->setup.access_fd[i] >= 0)
			close(c->setup.access_fd[i]);
	}
	if (!c->handed && c->setup.flight_fd >= 0)
		close(c->setup.flight_fd);
	if (c->fork_fd >= 0)
		close(c->fork_fd);
	lcimsg_unref(c->config);
	lcimsg_close(c->chan);
	pthread_mutex_destroy(&c->mu);
	free(c);
}

/* ---- messages ---- */

static int
on_config(struct lc_ctl *c, lcimsg_msg *m)
{
	struct lcimsg_reader r;
	const void *text, *secret, *before;
	size_t n;
	int err;

	if (c->config)
		return -EPROTO;
	lcimsg_reader_init(&r, m);
	c->setup.slot = lcimsg_get_u32(&r);
	c->setup.processes = lcimsg_get_u32(&r);
	c->setup.generation = lcimsg_get_u32(&r);
	c->announced = lcimsg_get_u32(&r);
	lc_log_level((int)lcimsg_get_u32(&r));
	c->setup.first_start = lcimsg_get_u8(&r);
	secret = lcimsg_get_bytes(&r, LC_SECRET);
	before = lcimsg_get_bytes(&r, LC_SECRET);
	if (secret && before) {
		memcpy(c->setup.secret, secret, LC_SECRET);
		memcpy(c->setup.before, before, LC_SECRET);
	}
	c->setup.prefix = lcimsg_get_str(&r);
	err = lcimsg_end(&r);
	if (err < 0 || c->announced > MAX_LISTENERS)
		return -EPROTO;
	err = lcimsg_map(m, &text, &n);
	if (err < 0)
		return err;
	close(lcimsg_take_fd(m, 0)); /* the mapping is enough */
	c->setup.listeners = calloc(c->announced ? c->announced : 1, sizeof(*c->setup.listeners));
	c->names = calloc(c->announced ? c->announced : 1, sizeof(*c->names));
	if (!c->setup.listeners || !c->names)
		return -ENOMEM;
	c->setup.text = text;
	c->setup.text_n = n;
	c->config = lcimsg_ref(m);
	return 0;
}

static int
on_listen(struct lc_ctl *c, lcimsg_msg *m)
{
	struct lc_ctl_listener *l;
	struct lcimsg_reader r;

	if (!c->config || c->setup.nlisteners >= c->announced)
		return -EPROTO;
	l = &c->setup.listeners[c->setup.nlisteners];
	lcimsg_reader_init(&r, m);
	l->index = lcimsg_get_u32(&r);
	l->name = lcimsg_get_str(&r);
	if (lcimsg_end(&r) < 0)
		return -EPROTO;
	l->fd = lcimsg_take_fd(m, 0);
	c->names[c->setup.nlisteners++] = lcimsg_ref(m);
	return 0;
}

static int
on_file(struct lc_ctl *c, lcimsg_msg *m)
{
	struct lc_ctl_file *f;
	struct lcimsg_reader r;
	int err;

	if (!c->config || c->setup.nfiles == MAX_FILES)
		return -EPROTO;
	if (!c->files) {
		c->files = calloc(MAX_FILES, sizeof(*c->files));
		c->setup.files = calloc(MAX_FILES, sizeof(*c->setup.files));
		if (!c->files || !c->setup.files)
			return -ENOMEM;
	}
	f = &c->setup.files[c->setup.nfiles];
	lcimsg_reader_init(&r, m);
	f->path = lcimsg_get_str(&r);
	if (lcimsg_end(&r) < 0)
		return -EPROTO;
	err = lcimsg_map(m, &f->data, &f->n);
	if (err < 0)
		return err;
	close(lcimsg_take_fd(m, 0)); /* the mapping is enough */
	c->files[c->setup.nfiles++] = lcimsg_ref(m);
	return 0;
}

static int
on_access_log(struct lc_ctl *c, lcimsg_msg *m)
{
	struct lcimsg_reader r;
	uint32_t i;
	int *at;

	lcimsg_reader_init(&r, m);
	i = lcimsg_get_u32(&r);
	if (i >= LC_CTL_ACCESS || (c->state == LC_WS_SETUP ? i != c->setup.naccess : i >= c->setup.naccess))
		return -EPROTO;
	if (c->state == LC_WS_SETUP)
		c->setup.naccess++;
	/* One that comes right behind GO is as good as the one before it. */
	at = c->handed ? &c->access_new[i] : &c->setup.access_fd[i];
	if (*at >= 0)
		close(*at);
	*at = lcimsg_take_fd(m, 0);
	return 0;
}

static int
on_secret(struct lc_ctl *c, lcimsg_msg *m)
{
	struct lcimsg_reader r;
	const void *secret;

	if (!c->config)
		return -EPROTO;
	lcimsg_reader_init(&r, m);
	secret = lcimsg_get_bytes(&r, LC_SECRET);
	if (!secret || lcimsg_end(&r) < 0)
		return -EPROTO;
	memcpy(c->setup.before, c->setup.secret, LC_SECRET);
	memcpy(c->setup.secret, secret, LC_SECRET);
	c->secrets += c->handed;
	return 0;
}

static int
on_message(struct lc_ctl *c, lcimsg_msg *m)
{
	char why[160];
	struct lcimsg_reader r;

	if (lc_msg_check(m, LC_ROLE_ARBITER, c->state, why, sizeof(why)) < 0) {
		lc_log(LC_LOG_ERROR, "the arbiter's channel: %s", why);
		return -EPROTO;
	}
	switch (lcimsg_type(m)) {
	case LC_MSG_CONFIG:
		return on_config(c, m);
	case LC_MSG_LISTEN:
		return on_listen(c, m);
	case LC_MSG_FILE:
		return on_file(c, m);
	case LC_MSG_ACCESSLOG:
		return on_access_log(c, m);
	case LC_MSG_FLIGHT:
		if (c->setup.flight_fd >= 0)
			return -EPROTO;
		c->setup.flight_fd = lcimsg_take_fd(m, 0);
		return 0;
	case LC_MSG_SECRET:
		return on_secret(c, m);
	case LC_MSG_ERRORLOG: /* cannot fail: 2 is open, and the arbiter's descriptor too */
		return dup2(lcimsg_get_fd(m, 0), STDERR_FILENO) < 0 ? -errno : 0;
	case LC_MSG_GO:
		if (!c->config || c->setup.nlisteners != c->announced)
			return -EPROTO;
		c->go = true;
		c->state = c->running;
		return 0;
	case LC_MSG_DRAIN:
		lcimsg_reader_init(&r, m);
		c->drain_deadline = lcimsg_get_u64(&r);
		c->drain = true;
		return 0;
	case LC_MSG_STOP:
		c->stop = true;
		return 0;
	case LC_MSG_KICK:
		c->kick = true;
		return 0;
	case LC_MSG_FORK:
		if (c->fork_fd >= 0)
			return -EPROTO;
		c->fork_fd = lcimsg_take_fd(m, 0);
		return 0;
	default: /* HELLO */
		return 0;
	}
}

/* Take all that is there, what stands behind GO too: nobody would look at it before the next byte comes.  0, or
 * -errno: the channel is dead. */
static int
take(struct lc_ctl *c)
{
	lcimsg_msg *m;
	int r;

	while ((r = lcimsg_recv(c->chan, &m)) == 1) {
		r = on_message(c, m);
		lcimsg_unref(m);
		if (r < 0)
			return r;
	}
	if (r == LCIMSG_EOF)
		return -EPIPE;
	return r;
}

int
lc_ctl_setup(struct lc_ctl *c, const struct lc_ctl_setup **ret)
{
	while (!c->go) {
		struct pollfd p = {.fd = lcimsg_fd(c->chan), .events = lcimsg_events(c->chan)};
		int r;

		if (poll(&p, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		r = lcimsg_flush(c->chan);
		if (r >= 0 || r == -EPIPE)
			r = lcimsg_fill(c->chan);
		if (r >= 0)
			r = take(c);
		if (r < 0) {
			c->dead = true;
			return r;
		}
		if (c->drain || c->stop) {
			c->dead = true;
			return -ESHUTDOWN;
		}
	}
	c->handed = true;
	*ret = &c->setup;
	return 0;
}

int
lc_ctl_fd(const struct lc_ctl *c)
{
	return lcimsg_fd(c->chan);
}

int
lc_ctl_wants_write(const struct lc_ctl *c)
{
	struct lc_ctl *w = (struct lc_ctl *)(uintptr_t)c;
	int r;

	pthread_mutex_lock(&w->mu);
	r = !c->dead && (lcimsg_events(c->chan) & POLLOUT) != 0;
	pthread_mutex_unlock(&w->mu);
	return r;
}

/* A message that fails to go out is found out by dispatch(): the fd is readable when the arbiter is gone. */
static int
say(struct lc_ctl *c, uint16_t type, const void *p, size_t n)
{
	struct iovec iov = {(void *)p, n};
	int r = -EPIPE;

	pthread_mutex_lock(&c->mu);
	if (!c->dead)
		r = lcimsg_send(c->chan, type, 0, &iov, 1, NULL, 0, 0);
	if (r >= 0)
		r = lcimsg_flush(c->chan);
	pthread_mutex_unlock(&c->mu);
	return r < 0 ? r : 0;
}

int
lc_ctl_ready(struct lc_ctl *c)
{
	return say(c, LC_MSG_READY, NULL, 0);
}

/* mu held. */
static int
beat(struct lc_ctl *c, const struct lc_ctl_beat *b)
{
	lcimsg_msg *m;
	int r;

	if (c->dead)
		return -EPIPE;
	c->beat_at = now_ms();
	if (lcimsg_out_msgs(c->chan) >= 8)
		return lcimsg_flush(c->chan) < 0 ? -EPIPE : 0; /* the arbiter is behind: it has enough of them */
	m = lcimsg_msg_new(LC_MSG_HEARTBEAT, 0);
	lcimsg_put_u64(m, b->requests);
	lcimsg_put_u64(m, b->accepted);
	lcimsg_put_u32(m, b->inflight);
	lcimsg_put_u32(m, b->conns);
	lcimsg_put_u32(m, b->call);
	r = lcimsg_submit(c->chan, m);
	if (r >= 0)
		r = lcimsg_flush(c->chan);
	return r < 0 ? r : 0;
}

int
lc_ctl_beat(struct lc_ctl *c, const struct lc_ctl_beat *b)
{
	int r;

	pthread_mutex_lock(&c->mu);
	c->last = *b;
	r = beat(c, b);
	pthread_mutex_unlock(&c->mu);
	return r;
}

int
lc_ctl_beat_again(struct lc_ctl *c, uint32_t call, uint32_t inflight)
{
	struct lc_ctl_beat b;
	int r;

	pthread_mutex_lock(&c->mu);
	b = c->last;
	b.call = call;
	if (inflight)
		b.inflight = inflight;
	r = beat(c, &b);
	pthread_mutex_unlock(&c->mu);
	return r;
}

uint64_t
lc_ctl_silent_ms(struct lc_ctl *c)
{
	int64_t ms;

	pthread_mutex_lock(&c->mu);
	ms = now_ms() - c->beat_at;
	pthread_mutex_unlock(&c->mu);
	return ms > 0 ? (uint64_t)ms : 0;
}

int
lc_ctl_stuck(struct lc_ctl *c, uint32_t record, uint64_t call)
{
	uint8_t b[12];

	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t)(record >> 8 * i);
	for (int i = 0; i < 8; i++)
		b[4 + i] = (uint8_t)(call >> 8 * i);
	return say(c, LC_MSG_STUCK, b, sizeof(b));
}

int
lc_ctl_kick(struct lc_ctl *c)
{
	return say(c, LC_MSG_KICK_REQ, NULL, 0);
}

int
lc_ctl_forked(struct lc_ctl *c, uint32_t pid, uint32_t err)
{
	uint8_t b[8];

	for (int i = 0; i < 4; i++) {
		b[i] = (uint8_t)(pid >> 8 * i);
		b[4 + i] = (uint8_t)(err >> 8 * i);
	}
	return say(c, LC_MSG_FORKED, b, sizeof(b));
}

int
lc_ctl_boot_failed(struct lc_ctl *c, const char *text, size_t n)
{
	static const char cut[] = "\n... (cut) ...\n";
	int64_t until = now_ms() + 2000;
	char *buf = NULL;
	int r;

	if (n > LC_BOOT_TEXT_MAX) { /* of a traceback, the beginning and above all the end matter */
		size_t head = LC_BOOT_TEXT_MAX / 4, tail = LC_BOOT_TEXT_MAX - head - (sizeof(cut) - 1);

		buf = malloc(LC_BOOT_TEXT_MAX);
		if (buf) {
			memcpy(buf, text, head);
			memcpy(buf + head, cut, sizeof(cut) - 1);
			memcpy(buf + head + sizeof(cut) - 1, text + n - tail, tail);
			text = buf;
		}
		n = LC_BOOT_TEXT_MAX;
	}
	r = say(c, LC_MSG_BOOT_FAILED, text, n);
	free(buf);
	while (r == 0 && lc_ctl_wants_write(c) && now_ms() < until) {
		struct pollfd p = {.fd = lcimsg_fd(c->chan), .events = POLLOUT};

		(void)poll(&p, 1, 100);
		r = lcimsg_flush(c->chan) < 0 ? -EPIPE : 0;
	}
	return r;
}

int
lc_ctl_dispatch(struct lc_ctl *c, const struct lc_ctl_ops *ops, void *arg)
{
	int r;

	pthread_mutex_lock(&c->mu);
	if (c->dead) {
		pthread_mutex_unlock(&c->mu);
		return -EPIPE;
	}
	(void)lcimsg_flush(c->chan); /* if that fails, reading says so, after the last orders */
	r = lcimsg_fill(c->chan);
	if (r >= 0)
		r = take(c);
	pthread_mutex_unlock(&c->mu);
	/* Orders first: they may have come together with the end. */
	for (uint32_t i = 0; i < LC_CTL_ACCESS; i++)
		if (c->access_new[i] >= 0) {
			int fd = c->access_new[i];

			c->access_new[i] = -1;
			ops->log(arg, i, fd);
		}
	if (c->secrets) {
		if (c->secrets > 1) /* some were never seen: none of them was in use here */
			ops->secret(arg, c->setup.before);
		c->secrets = 0;
		ops->secret(arg, c->setup.secret);
	}
	if (c->drain) {
		int64_t left = (int64_t)c->drain_deadline - now_ms();

		c->drain = false;
		ops->drain(arg, left > 0 ? left : 0);
	}
	if (c->kick) {
		c->kick = false;
		ops->kick(arg);
	}
	if (c->stop) {
		c->stop = false;
		ops->stop(arg);
	}
	if (c->fork_fd >= 0) {
		int fd = c->fork_fd;

		c->fork_fd = -1;
		ops->fork(arg, fd);
	}
	if (r < 0) {
		if (r == -EPROTO && *lcimsg_why(c->chan))
			lc_log(LC_LOG_ERROR, "the arbiter's channel: %s", lcimsg_why(c->chan));
		pthread_mutex_lock(&c->mu);
		c->dead = true;
		pthread_mutex_unlock(&c->mu);
		ops->lost(arg);
		return r;
	}
	return 0;
}
