/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/successor.c - this arbiter in place of another one, which started it (upgrade.c).
 *
 * The environment says so, with the predecessor's pid; descriptor 3 is the channel.  Before it reads its
 * configuration it waits for the listeners and for the pools' secrets.  It serves from then on like any other; when
 * each of its workers does, it says READY.  COMMIT, or the predecessor's end, makes it the only one: then it writes the
 * pid file.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define SETUP_MS 10000 /* the predecessor answers at once, as a rule */
#define SECRETS 1024u

struct lc__inherited {
	struct lc__inherited *next;
	struct lc__secret secret;
	char pool[];
};

const struct lc__secret *
lc__successor_secret(const struct lc__arb *a, const char *pool)
{
	for (const struct lc__inherited *i = a->inherited; i; i = i->next)
		if (!strcmp(i->pool, pool))
			return &i->secret;
	return NULL;
}

static int
on_keep(struct lc__arb *a, const lcimsg_msg *m)
{
	struct lc__inherited *i;
	struct lcimsg_reader r;
	const char *pool;
	const void *secret, *before;
	int64_t until;
	uint32_t n = 0;

	lcimsg_reader_init(&r, m);
	pool = lcimsg_get_str(&r);
	secret = lcimsg_get_bytes(&r, LC_SECRET);
	before = lcimsg_get_bytes(&r, LC_SECRET);
	until = (int64_t)lcimsg_get_u64(&r);
	if (lcimsg_end(&r) < 0)
		return -EPROTO;
	for (i = a->inherited; i; i = i->next)
		n++;
	if (n == SECRETS)
		return -ENOSPC;
	i = malloc(sizeof(*i) + strlen(pool) + 1);
	if (!i)
		return -ENOMEM;
	memcpy(i->secret.now, secret, LC_SECRET);
	memcpy(i->secret.before, before, LC_SECRET);
	i->secret.until = until;
	memcpy(i->pool, pool, strlen(pool) + 1);
	i->next = a->inherited;
	a->inherited = i;
	return 0;
}

static int
on_offer(struct lc__arb *a, lcimsg_msg *m)
{
	struct lcimsg_reader r;
	const char *text;
	uint8_t what;

	lcimsg_reader_init(&r, m);
	text = lcimsg_get_str(&r);
	what = lcimsg_get_u8(&r);
	if (lcimsg_end(&r) < 0)
		return -EPROTO;
	if (what != LC_OFFER_CONTROL)
		return lc__listen_inherit(a, text, lcimsg_take_fd(m, 0), what == LC_OFFER_GIVEN);
	lc__control_inherit(a, text, lcimsg_take_fd(m, 0));
	return 0;
}

/* 1: that was GO or COMMIT; 0; -errno. */
static int
take(struct lc__arb *a, unsigned when)
{
	lcimsg_msg *m;
	char why[160];
	int r, done = 0;

	while (!done && (r = lcimsg_recv(a->predecessor, &m)) == 1) {
		r = lc_msg_check(m, LC_ROLE_ARBITER, when, why, sizeof(why));
		if (r < 0)
			lc_log(LC_LOG_ERROR, "the predecessor's channel: %s", why);
		else if (lcimsg_type(m) == LC_MSG_OFFER)
			r = on_offer(a, m);
		else if (lcimsg_type(m) == LC_MSG_KEEP)
			r = on_keep(a, m);
		else
			done = lcimsg_type(m) == LC_MSG_GO || lcimsg_type(m) == LC_MSG_COMMIT;
		lcimsg_unref(m);
		if (r < 0)
			return r;
	}
	return done ? 1 : r == LCIMSG_EOF ? -EPIPE : r;
}

int
lc_arb_is_successor(void)
{
	const char *env = getenv(LC__SUCCESSOR_ENV);

	return env && atol(env) == (long)getppid(); /* else it is left over in the environment of somebody else */
}

int
lc__successor_begin(struct lc__arb *a)
{
	struct lcimsg_opts o = {.struct_size = sizeof(o),
				.flags = LCIMSG_OWN_FD,
				.max_fds_in = 1,
				.max_fd_sets = 64,
				.role = LC_ROLE_SUCCESSOR,
				.build = "licorne " LC_VERSION};
	int64_t until = lc__now_ms() + SETUP_MS;
	int r = lc_arb_is_successor();

	unsetenv(LC__SUCCESSOR_ENV);
	if (!r)
		return 0;
	r = fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || fcntl(3, F_SETFL, O_NONBLOCK) < 0
		? -errno
		: lcimsg_open(&a->predecessor, 3, &o);
	while (r >= 0) {
		struct pollfd p = {.fd = 3, .events = POLLIN};
		int64_t left = until - lc__now_ms();

		r = lcimsg_flush(a->predecessor);
		if (r >= 0 && left <= 0)
			r = -ETIMEDOUT;
		if (r >= 0 && poll(&p, 1, (int)left) < 0 && errno != EINTR)
			r = -errno;
		if (r >= 0)
			r = lcimsg_fill(a->predecessor);
		if (r >= 0)
			r = take(a, LC_US_SETUP);
		if (r == 1)
			return 0;
	}
	lc_log(LC_LOG_CRIT, "cannot take over from the licorne with pid %ld: %s", (long)getppid(),
	       r == -EPROTO && a->predecessor && *lcimsg_why(a->predecessor) ? lcimsg_why(a->predecessor)
									     : strerror(-r));
	return r;
}

void
lc__successor_ready(struct lc__arb *a)
{
	if (!a->predecessor || a->said_ready || !lc__gen_ready(a, a->gen))
		return;
	a->said_ready = true;
	(void)lcimsg_send(a->predecessor, LC_MSG_READY, 0, NULL, 0, NULL, 0, 0);
	(void)lcimsg_flush(a->predecessor); /* if it has gone, its end shows on the reading side */
}

void
lc__successor_end(struct lc__arb *a)
{
	lcimsg_close(a->predecessor);
	a->predecessor = NULL;
	while (a->inherited) {
		struct lc__inherited *i = a->inherited;

		a->inherited = i->next;
		explicit_bzero(&i->secret, sizeof(i->secret));
		free(i);
	}
}

void
lc__successor_read(struct lc__arb *a)
{
	int r;

	if (!a->predecessor)
		return;
	r = lcimsg_fill(a->predecessor);
	if (r >= 0)
		r = take(a, LC_US_RUNNING);
	if (r == 0)
		return;
	if (r == 1)
		lc_log(LC_LOG_NOTICE, "the old licorne hands over to this one, pid %ld", (long)a->pid);
	else
		lc_log(LC_LOG_WARN, "the old licorne is gone: this one, pid %ld, goes on alone", (long)a->pid);
	for (struct lc__sock *s = a->socks; s; s = s->next)
		s->keep = false;
	lc__listen_settle(a); /* now that the file of a UNIX socket that nobody wants is ours to remove */
	lc__successor_end(a);
	(void)lc__pid_file_write(a);
	lc__control_begin(a);
	lc__notify_serving(a);
}
