/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * access.c - the access log.  See access.h.
 *
 *   127.0.0.1 - - [23/Nov/2026:18:00:00 +0000] "GET / PROTOCOL" 200 13 "referer" "agent" 215
 *
 * What clients control is escaped: a quote, a backslash and everything outside printable ASCII become \xHH, so no
 * request forges a line.
 */
#include "log/access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <licorne/tokens.h>

#include "log/log.h"

#define ACCESS_BUF (64u << 10)
#define ACCESS_FIELD 2048u /* bytes shown of one client-controlled field */
#define ACCESS_LINE (6 * (4 * ACCESS_FIELD + 3) + 512)

struct lc_access {
	int fd;
	uint32_t n;
	uint64_t dropped;
	time_t sec;
	char when[40];
	char buf[ACCESS_BUF];
};

struct lc_access *
lc_access_new(int fd)
{
	struct lc_access *a = fd < 0 ? NULL : calloc(1, sizeof(*a));

	if (a)
		a->fd = fd;
	return a;
}

void
lc_access_free(struct lc_access *a)
{
	if (!a)
		return;
	lc_access_flush(a);
	close(a->fd);
	free(a);
}

static char *
put(char *to, const char *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}

static char *
put_escaped(char *to, struct lc_str s)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = s.n < ACCESS_FIELD ? s.n : ACCESS_FIELD;

	if (!n)
		return put(to, "-", 1);
	for (size_t k = 0; k < n; k++) {
		unsigned char ch = (unsigned char)s.p[k];
		if (ch >= 0x20 && ch < 0x7f && ch != '"' && ch != '\\') {
			*to++ = (char)ch;
		} else {
			*to++ = '\\';
			*to++ = 'x';
			*to++ = hex[ch >> 4];
			*to++ = hex[ch & 15];
		}
	}
	return s.n > n ? put(to, "...", 3) : to;
}

static char *
put_number(char *to, uint64_t v)
{
	char tmp[20];
	int n = 0;

	do
		tmp[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*to++ = tmp[--n];
	return to;
}

static struct lc_str
field(const struct lc_req *r, uint16_t token)
{
	for (uint32_t k = 0; k < r->nfields; k++)
		if (r->fields[k].token == token)
			return r->fields[k].value;
	return (struct lc_str){NULL, 0};
}

void
lc_access_log(struct lc_access *a, const struct lc_stream *s, uint64_t now_ns)
{
	if (!a)
		return;
	if (a->n + ACCESS_LINE > ACCESS_BUF)
		lc_access_flush(a);
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (ts.tv_sec != a->sec) {
		struct tm tm;
		a->sec = ts.tv_sec;
		localtime_r(&ts.tv_sec, &tm);
		strftime(a->when, sizeof(a->when), " - - [%d/%b/%Y:%H:%M:%S %z] \"", &tm);
	}
	const struct lc_req *r = &s->req;
	char *p = a->buf + a->n;
	p = put_escaped(p, r->peer);
	p = put(p, a->when, strlen(a->when));
	p = put_escaped(p, r->method);
	*p++ = ' ';
	p = put_escaped(p, r->target);
	*p++ = ' ';
	p = put_escaped(p, r->protocol);
	p = put(p, "\" ", 2);
	/* nothing was answered: 499, as nginx says it */
	p = put_number(p, s->responded ? s->head.status : 499);
	*p++ = ' ';
	p = put_number(p, s->sent);
	p = put(p, " \"", 2);
	p = put_escaped(p, field(r, LC_TOK_REFERER));
	p = put(p, "\" \"", 3);
	p = put_escaped(p, field(r, LC_TOK_USER_AGENT));
	p = put(p, "\" ", 2);
	p = put_number(p, (now_ns - s->started) / 1000);
	*p++ = '\n';
	a->n = (uint32_t)(p - a->buf);
}

void
lc_access_flush(struct lc_access *a)
{
	if (!a || !a->n)
		return;
	size_t off = 0;
	while (off < a->n) {
		ssize_t r = write(a->fd, a->buf + off, a->n - off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			/* whole lines only: what was written of one stays, the rest is counted */
			for (; off < a->n; off++)
				a->dropped += a->buf[off] == '\n';
			a->n = 0;
			return;
		}
		off += (size_t)r;
	}
	a->n = 0;
	if (a->dropped) {
		lc_log(LC_LOG_WARN, "access log: %llu lines could not be written and were dropped",
		       (unsigned long long)a->dropped);
		a->dropped = 0;
	}
}
