/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * access.c - access logs: collecting, writing, losing with decency.  See access.h.
 *
 * How not to block depends on the sink.  O_NONBLOCK belongs to the open file, which others may share, so it is never
 * set here: the arbiter opens files and FIFOs with it, and its standard output anew where it is a pipe or a terminal.
 * A socket is told with each send.  What still blocks is asked by poll() first, and given no more than it has room for.
 * Regular files have no such way: a slow disk is waited for.
 *
 * Writers of several processes share a pipe: what is more than PIPE_BUF may be mixed with another's, so lines for pipes
 * are no longer than that, and writes end with a line.
 */
#include "log/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log.h"
#include "log/render.h"

#define BUF (64u << 10)
#define LINE (32u << 10)
#define NS_MS UINT64_C(1000000)
#define RETRY_MS 100    /* after an error */
#define REPORT_MS 10000 /* between two lines about what was dropped */
#define LAST_MS 250     /* for a sink that takes nothing, at the end */
_Static_assert(LC_LOGFMT_FIXED + 16 < PIPE_BUF, "a line for a pipe has room for values");

struct sink {
	const char *name;
	struct lc_logfmt *fmt;
	int fd;
	uint32_t n, line;          /* bytes collected; longest line */
	uint8_t pipe, socket, ask; /* ask: poll() before write() */
	uint8_t begun;             /* the first line in the buffer was written in part */
	int error;                 /* of the last write, 0: it takes no more for now */
	uint64_t retry_at;         /* ns */
	uint64_t report_at, dropped;
	char buf[BUF];
};

struct lc_access {
	struct lc_logclock clock;
	uint32_t nsinks;
	int timed;
	struct sink *sink[LC_ACCESS_LOGS];
};

struct lc_access *
lc_access_new(void)
{
	return calloc(1, sizeof(struct lc_access));
}

static void
set_fd(struct sink *k, int fd)
{
	struct stat st = {0};
	int flags = fcntl(fd, F_GETFL);

	k->fd = fd;
	(void)fstat(fd, &st);
	k->pipe = S_ISFIFO(st.st_mode);
	k->socket = S_ISSOCK(st.st_mode);
	k->ask = !k->socket && !S_ISREG(st.st_mode) && flags >= 0 && !(flags & O_NONBLOCK);
	k->line = k->pipe ? PIPE_BUF : LINE;
	k->retry_at = 0;
	k->begun = 0;
}

int
lc_access_add(struct lc_access *a, const char *name, int fd, struct lc_logfmt *fmt)
{
	struct sink *k = a->nsinks < LC_ACCESS_LOGS ? calloc(1, sizeof(*k)) : NULL;

	if (!k) {
		close(fd);
		free(fmt);
		return -ENOMEM;
	}
	k->name = name;
	k->fmt = fmt;
	set_fd(k, fd);
	a->timed |= fmt->timed;
	a->sink[a->nsinks++] = k;
	return 0;
}

int
lc_access_timed(const struct lc_access *a)
{
	return a->timed;
}

/* Bytes taken, 0: none now, or -errno. */
static ssize_t
give(struct sink *k, const char *p, size_t n)
{
	ssize_t r;

	if (k->ask) {
		struct pollfd pf = {.fd = k->fd, .events = POLLOUT};
		if (poll(&pf, 1, 0) <= 0 || !(pf.revents & (POLLOUT | POLLERR | POLLHUP)))
			return 0;
	}
	do
		r = k->socket ? send(k->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(k->fd, p, n);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? 0 : -errno;
	return r;
}

/* How much to write at once: whole lines, for a pipe (or who has to be asked) as many as it takes in one piece. */
static size_t
portion(const struct sink *k, const char *p, size_t n)
{
	if ((!k->pipe && !k->ask) || n <= PIPE_BUF)
		return n;
	const char *end = memrchr(p, '\n', PIPE_BUF);
	return end ? (size_t)(end + 1 - p) : PIPE_BUF;
}

static void
report(struct sink *k, uint64_t now)
{
	if (!k->dropped || now < k->report_at)
		return;
	lc_log(LC_LOG_WARN, "access log %s: %llu lines were dropped: %s", k->name, (unsigned long long)k->dropped,
	       k->error ? strerror(k->error) : "its reader is too slow");
	k->dropped = 0;
	k->report_at = now + REPORT_MS * NS_MS;
}

static void
flush_sink(struct sink *k, uint64_t now)
{
	size_t off = 0;

	if (k->dropped)
		report(k, now);
	if (!k->n || now < k->retry_at)
		return;
	while (off < k->n) {
		size_t want = portion(k, k->buf + off, k->n - off);
		ssize_t r = give(k, k->buf + off, want);
		if (r > 0)
			off += (size_t)r;
		if (r == (ssize_t)want)
			continue;
		k->error = r < 0 ? (int)-r : 0;
		if (r < 0)
			k->retry_at = now + RETRY_MS * NS_MS;
		if (r <= 0)
			break;
	}
	if (!off)
		return;
	k->begun = k->buf[off - 1] != '\n'; /* its rest stays in front, and goes first */
	k->n -= (uint32_t)off;
	memmove(k->buf, k->buf + off, k->n);
}

void
lc_access_write(struct lc_access *a, const struct lc_record *rec)
{
	for (uint32_t i = 0; i < a->nsinks; i++) {
		struct sink *k = a->sink[i];
		if (BUF - k->n < k->line)
			flush_sink(k, rec->now);
		uint32_t room = BUF - k->n < k->line ? BUF - k->n : k->line;
		if (room < PIPE_BUF)
			k->dropped++;
		else
			k->n += (uint32_t)lc_render(k->fmt, rec, &a->clock, k->buf + k->n, room);
	}
}

void
lc_access_flush(struct lc_access *a, uint64_t now)
{
	if (!a)
		return;
	for (uint32_t i = 0; i < a->nsinks; i++)
		if (a->sink[i]->n || a->sink[i]->dropped)
			flush_sink(a->sink[i], now);
}

/* What it has not taken by now is lost. */
static void
give_up(struct sink *k)
{
	for (uint32_t i = 0; i < k->n; i++)
		k->dropped += k->buf[i] == '\n';
	k->n = 0;
}

void
lc_access_reopen(struct lc_access *a, uint32_t i, int fd)
{
	if (!a || i >= a->nsinks) {
		close(fd);
		return;
	}
	struct sink *k = a->sink[i];
	k->retry_at = 0;
	flush_sink(k, 0);
	if (k->begun) { /* the rest of a line is no line */
		const char *end = memchr(k->buf, '\n', k->n);
		size_t off = end ? (size_t)(end + 1 - k->buf) : k->n;
		k->n -= (uint32_t)off;
		memmove(k->buf, k->buf + off, k->n);
		k->dropped++;
	}
	close(k->fd);
	set_fd(k, fd);
}

void
lc_access_free(struct lc_access *a)
{
	int left = LAST_MS;

	for (uint32_t i = 0; a && i < a->nsinks; i++) {
		struct sink *k = a->sink[i];
		k->report_at = UINT64_MAX; /* once, with all that is lost */
		for (;;) {
			struct pollfd pf = {.fd = k->fd, .events = POLLOUT};
			k->retry_at = 0;
			flush_sink(k, 0);
			if (!k->n || k->error || left <= 0)
				break;
			left -= 10;
			(void)poll(&pf, 1, 10);
		}
		give_up(k);
		report(k, UINT64_MAX);
		close(k->fd);
		free(k->fmt);
		free(k);
	}
	free(a);
}
