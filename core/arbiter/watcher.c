/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/watcher.c - the watcher's process: it waits for files to change and tells the arbiter, which reloads.
 *
 * It loads no module and reads no file's content.  It ends when its channel does, or by a signal: there is nothing to
 * finish.  The same wait, without a channel, is done by a command line whose application could not be started.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "arbiter/tree.h"
#include "log/log.h"

/* Waits for a change, the other descriptor, or both: 0, or -errno of the tree, said. */
static int
look(struct lc__tree *t, int other, short *ret_other)
{
	struct pollfd p[2] = {{.fd = other, .events = POLLIN}, {.fd = lc__tree_fd(t), .events = POLLIN}};

	*ret_other = 0;
	if (poll(p, 2, lc__tree_due(t, lc__now_ms())) < 0)
		return errno == EINTR ? 0 : -errno;
	*ret_other = p[0].revents;
	return p[1].revents ? lc__tree_read(t, lc__now_ms()) : 0;
}

static bool
due(const struct lc__tree *t)
{
	return lc__tree_due(t, lc__now_ms()) == 0;
}

/* ---- a child of the arbiter ---- */

static int
take(lcimsg_chan *chan, struct lc__tree **t)
{
	const unsigned when = *t ? LC_XS_RUNNING : LC_XS_SETUP;
	lcimsg_msg *m;
	char why[160];
	int r;

	while ((r = lcimsg_recv(chan, &m)) == 1) {
		r = lc_msg_check(m, LC_ROLE_ARBITER, when, why, sizeof(why));
		if (r < 0) {
			lc_log(LC_LOG_ERROR, "the arbiter's channel: %s", why);
		} else if (lcimsg_type(m) == LC_MSG_WATCH) {
			struct lcimsg_reader in;
			const char *text;
			int64_t since;

			lcimsg_reader_init(&in, m);
			since = (int64_t)lcimsg_get_u64(&in);
			text = lcimsg_get_str(&in);
			r = lcimsg_end(&in) < 0 ? -EPROTO : lc__tree_open(t, text, strlen(text), since);
		}
		lcimsg_unref(m);
		if (r < 0 || (*t && when == LC_XS_SETUP))
			return r < 0 ? r : 0;
	}
	return r == LCIMSG_EOF ? 1 : r;
}

static int
tell(lcimsg_chan *chan, struct lc__tree *t)
{
	char names[LC_CHANGED_MAX];
	struct iovec v = {.iov_base = names};

	lc__tree_take(t, names, sizeof(names));
	v.iov_len = strlen(names);
	return lcimsg_send(chan, LC_MSG_CHANGED, 0, &v, 1, NULL, 0, 0);
}

/* Until the arbiter wants no more: 0 or -errno. */
static int
serve(lcimsg_chan *chan, struct lc__tree **t)
{
	short events;
	int r = 0;

	while (r >= 0 && !*t) {
		struct pollfd p = {.fd = lcimsg_fd(chan), .events = POLLIN};

		r = lcimsg_flush(chan);
		if (r >= 0 && poll(&p, 1, -1) < 0 && errno != EINTR)
			r = -errno;
		if (r >= 0)
			r = lcimsg_fill(chan);
		if (r >= 0)
			r = take(chan, t);
		if (r == 1)
			return 0;
	}
	if (r >= 0) {
		lc_log(LC_LOG_NOTICE, "reload: folders watched: %u", lc__tree_dirs(*t));
		r = lcimsg_send(chan, LC_MSG_READY, 0, NULL, 0, NULL, 0, 0);
	}
	while (r >= 0) {
		if (due(*t))
			r = tell(chan, *t);
		if (r >= 0)
			r = lcimsg_flush(chan); /* a few bytes: if they do not fit, the next change takes them along */
		if (r >= 0)
			r = look(*t, lcimsg_fd(chan), &events);
		if (r >= 0 && events) {
			r = lcimsg_fill(chan);
			if (r >= 0)
				r = take(chan, t);
			if (r == 1)
				return 0;
		}
	}
	return r;
}

int
lc_watcher_main(void)
{
	/* what reaches everyone is the arbiter's to answer; TERM ends it */
	static const int others[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH, SIGPIPE};
	struct lcimsg_opts o = {
	    .struct_size = sizeof(o), .flags = LCIMSG_OWN_FD, .role = LC_ROLE_WATCHER, .build = "licorne " LC_VERSION};
	struct lc__tree *t = NULL;
	lcimsg_chan *chan = NULL;
	int r;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		signal(others[i], SIG_IGN);
	lc_log_role("watcher");
	r = lcimsg_open(&chan, 3, &o);
	if (r == 0)
		r = serve(chan, &t);
	lc__tree_close(t);
	lcimsg_close(chan);
	return r < 0 && r != -EPIPE ? LC_EXIT_CONFIG : LC_EXIT_OK;
}

/* ---- and without one ---- */

int
lc_arb_wait_change(const char *text, size_t n, int64_t since)
{
	struct lc__tree *t = NULL;
	char names[LC_CHANGED_MAX];
	sigset_t ends;
	int fd, r;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGQUIT);
	sigprocmask(SIG_BLOCK, &ends, NULL); /* they become a status, and lc_arb_again() lets them through again */
	fd = signalfd(-1, &ends, SFD_CLOEXEC);
	r = fd < 0 ? -errno : lc__tree_open(&t, text, n, since);
	if (r == 0)
		lc_log(LC_LOG_NOTICE, "reload: waiting for a change (folders watched: %u); Ctrl-C ends",
		       lc__tree_dirs(t));
	while (r == 0) {
		short events;

		if (due(t)) {
			lc__tree_take(t, names, sizeof(names));
			lc_log(LC_LOG_NOTICE, "reload: %s changed: trying again", names);
			r = 1;
			break;
		}
		r = look(t, fd, &events);
		if (events)
			break;
	}
	lc__tree_close(t);
	if (fd >= 0)
		close(fd);
	return r;
}

int64_t
lc_arb_watch_since(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
