/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/log.c - diagnostics of every role: one line, one write(2), to fd 2.
 *
 * A line is "2026-02-01T10:20:30.123Z [notice] 4711 arbiter: text".  One write per line keeps lines of several
 * processes apart on a file opened O_APPEND.  Whatever reaches a line from outside may hold control bytes, so
 * everything that is no printable UTF-8 is escaped: a client cannot forge a line or drive a terminal.
 *
 * A write that fails is given up: there is nowhere to report it, and a log must not stop a server.
 */
#include "log/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log/utf8.h"

#define LINE_MAX_BYTES 8192u
#define TEXT_MAX_BYTES (256u << 10) /* of a text of several lines, after escaping */

static char log_role[64] = "licorne";
static _Atomic int log_level = LC_LOG_NOTICE;
static int log_plain, log_mirror = -1;

static const char *const level_names[] = {
    [LC_LOG_CRIT] = "crit",     [LC_LOG_ERROR] = "error", [LC_LOG_WARN] = "warn",
    [LC_LOG_NOTICE] = "notice", [LC_LOG_INFO] = "info",   [LC_LOG_DEBUG] = "debug",
};

void
lc_log_role(const char *role)
{
	snprintf(log_role, sizeof(log_role), "%s", role);
}

void
lc_log_level(int level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

void
lc_log_plain(int on)
{
	log_plain = on;
}

void
lc_log_mirror(int fd)
{
	log_mirror = fd;
}

int
lc_log_level_parse(const char *name)
{
	for (int i = LC_LOG_CRIT; i <= LC_LOG_DEBUG; i++)
		if (strcmp(name, level_names[i]) == 0)
			return i;
	return -EINVAL;
}

int
lc_log_enabled(int level)
{
	return level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static void
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		p += w;
		n -= (size_t)w;
	}
}

static void
put(int level, const char *p, size_t n)
{
	write_all(STDERR_FILENO, p, n);
	if (log_mirror >= 0 && level <= LC_LOG_WARN)
		write_all(log_mirror, p, n);
}

/* Escape n bytes to dst; stops when fewer than four bytes of room are left.  Bytes written. */
static size_t
escape(char *dst, size_t room, const char *src, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)src;
	size_t o = 0;

	for (size_t i = 0; i < n && room - o >= 4;) {
		size_t k = lc_utf8_printable(s + i, n - i);

		if (k > 0) {
			memcpy(dst + o, s + i, k);
			o += k;
			i += k;
			continue;
		}
		dst[o++] = '\\';
		switch (s[i]) {
		case '\n':
			dst[o++] = 'n';
			break;
		case '\r':
			dst[o++] = 'r';
			break;
		case '\t':
			dst[o++] = 't';
			break;
		default:
			dst[o++] = 'x';
			dst[o++] = hex[s[i] >> 4];
			dst[o++] = hex[s[i] & 15];
		}
		i++;
	}
	return o;
}

static size_t
line_head(char *buf, size_t n, int level)
{
	struct timespec ts;
	struct tm tm;
	int k;

	if (log_plain) {
		memcpy(buf, "licorne: ", 9);
		return 9;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm); /* not localtime: it reads files and takes a lock */
	if (level < LC_LOG_CRIT)
		level = LC_LOG_CRIT;
	if (level > LC_LOG_DEBUG)
		level = LC_LOG_DEBUG;
	k = snprintf(buf, n, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ [%s] %ld %s: ", tm.tm_year + 1900, tm.tm_mon + 1,
		     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000, level_names[level],
		     (long)getpid(), log_role);
	return k < 0 ? 0 : (size_t)k < n ? (size_t)k : n - 1;
}

void
lc_logv(int level, const char *fmt, va_list ap)
{
	int saved = errno;

	if (lc_log_enabled(level)) {
		char raw[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
		size_t o = line_head(line, 256, level);
		int k;

		errno = saved; /* for %m */
		k = vsnprintf(raw, sizeof(raw), fmt, ap);
		if (k > 0)
			o += escape(line + o, sizeof(line) - o - 1, raw,
				    (size_t)k < sizeof(raw) ? (size_t)k : sizeof(raw) - 1);
		line[o++] = '\n';
		put(level, line, o);
	}
	errno = saved;
}

void
lc_log(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lc_logv(level, fmt, ap);
	va_end(ap);
}

void
lc_log_text(int level, const char *head, const char *text, size_t n)
{
	int saved = errno;

	if (lc_log_enabled(level)) {
		size_t cap = n > TEXT_MAX_BYTES / 4 ? TEXT_MAX_BYTES : n * 4;
		char *buf;
		size_t o;

		/* Room for the head, and for an indentation of four before every line, of which there may be n. */
		cap += LINE_MAX_BYTES + 5 * (n < TEXT_MAX_BYTES / 5 ? n : TEXT_MAX_BYTES / 5) + 16;
		buf = malloc(cap);
		if (!buf) {
			lc_log(level, "%s (no memory for its text)", head);
			errno = saved;
			return;
		}
		o = line_head(buf, 256, level);
		o += escape(buf + o, LINE_MAX_BYTES - o - 1, head, strlen(head));
		buf[o++] = '\n';
		for (size_t i = 0; i < n && cap - o > 16;) {
			const char *nl = memchr(text + i, '\n', n - i);
			size_t len = nl ? (size_t)(nl - (text + i)) : n - i;

			memcpy(buf + o, "    ", 4);
			o += 4;
			o += escape(buf + o, cap - o - 1, text + i, len);
			buf[o++] = '\n';
			i += len + 1;
		}
		put(level, buf, o);
		free(buf);
	}
	errno = saved;
}
