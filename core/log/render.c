/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * render.c - records to lines.
 *
 * In text a quote, a backslash and everything outside of printable ASCII become \xHH.  In JSON a quote and a backslash
 * get a backslash, printable UTF-8 stays, and what is neither becomes \u00HH, the character that the byte is in
 * Latin-1: every sequence of bytes makes a valid string.
 *
 * Room: the fixed part of a format is known, the rest of the line is a budget for values.  No value may begin that
 * could not end, so the structure of a line is whole whatever comes.  No allocation, no system call but once a second.
 */
#include "log/render.h"

#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <licorne/tokens.h>

#include "log/utf8.h"
#include "stream/token.h"

#define NS UINT64_C(1000000000)
#define PIECE LC_LOGFMT_PIECE
#define ONES UINT64_C(0x0101010101010101)
#define TOPS UINT64_C(0x8080808080808080)

static const char hex[] = "0123456789abcdef";

struct out {
	char *p;
	size_t budget; /* bytes of values that the line has room for */
	int json;
};

/* ---- what is ours ---- */

/* What a line has room for includes PIECE bytes that nothing uses, and texts of formats have as many behind them: a
 * short copy is one of that length, without a call. */
static inline char *
put(char *to, const char *p, size_t n)
{
	memcpy(to, p, PIECE);
	for (size_t k = PIECE; __builtin_expect(k < n, 0); k += PIECE)
		memcpy(to + k, p + k, PIECE);
	return to + n;
}

static inline char *
put_number(char *to, uint64_t v)
{
	char tmp[20 + PIECE], *p = tmp + 20;

	if (v < 1000) { /* as a rule: a status, few bytes, little time */
		uint32_t small = (uint32_t)v, tens = small / 10;
		if (small >= 100) {
			*to++ = (char)('0' + tens / 10);
			tens %= 10;
		}
		if (small >= 10)
			*to++ = (char)('0' + tens);
		*to = (char)('0' + small % 10);
		return to + 1;
	}
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	size_t n = (size_t)(tmp + 20 - p);
	memcpy(to, p, PIECE);
	if (n > PIECE)
		memcpy(to + PIECE, p + PIECE, 20 - PIECE);
	return to + n;
}

static inline char *
three(char *to, uint64_t v)
{
	to[0] = (char)('0' + v / 100);
	to[1] = (char)('0' + v / 10 % 10);
	to[2] = (char)('0' + v % 10);
	return to + 3;
}

/* Milliseconds as seconds. */
static inline char *
put_millis(char *to, uint64_t v)
{
	to = put_number(to, v / 1000);
	*to++ = '.';
	return three(to, v % 1000);
}

/* ---- what is the client's ---- */

/* Nonzero when one of eight bytes is a quote, a backslash or not printable ASCII. */
static inline uint64_t
special(uint64_t x)
{
	uint64_t quote = x ^ (ONES * '"'), slash = x ^ (ONES * '\\');

	/* a byte of 0x80 and more counts anyway, so what it does to the others' bits is no matter */
	return ((quote - ONES) | (slash - ONES) | (x - ONES * 0x20) | (x + ONES) | x) & TOPS;
}

static char *
one_text(char *to, unsigned char c)
{
	if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
		*to = (char)c;
		return to + 1;
	}
	to[0] = '\\';
	to[1] = 'x';
	to[2] = hex[c >> 4];
	to[3] = hex[c & 15];
	return to + 4;
}

static char *
put_u(char *to, unsigned c)
{
	to[0] = '\\';
	to[1] = 'u';
	to[2] = hex[c >> 12];
	to[3] = hex[c >> 8 & 15];
	to[4] = hex[c >> 4 & 15];
	to[5] = hex[c & 15];
	return to + 6;
}

/* One character; returns how many bytes it was. */
static size_t
one_json(char **to, const unsigned char *s, size_t n)
{
	size_t k = lc_utf8_printable(s, n);

	if (k == 1 && (*s == '"' || *s == '\\')) {
		*(*to)++ = '\\';
		*(*to)++ = (char)*s;
		return 1;
	}
	if (k == 0 && n >= 2 && s[0] == 0xc2 && (s[1] & 0xe0) == 0x80) { /* a control character of the second set */
		*to = put_u(*to, s[1]);
		return 2;
	}
	if (k == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] | 1) == 0xa9) { /* some take these for line ends */
		*to = put_u(*to, 0x2000u | (s[2] & 0x3fu));
		return 3;
	}
	if (k == 0) {
		*to = put_u(*to, *s);
		return 1;
	}
	memcpy(*to, s, k);
	*to += k;
	return k;
}

/* All of it escaped: at most four times (text), six times (JSON) as many bytes. */
static __attribute__((noinline)) char *
escape(char *to, const char *s, size_t n, int json)
{
	const unsigned char *p = (const unsigned char *)s;

	if (!json) {
		for (size_t k = 0; k < n; k++)
			to = one_text(to, p[k]);
		return to;
	}
	for (size_t k = 0; k < n;)
		k += one_json(&to, p + k, n - k);
	return to;
}

/* The bytes as they are, where none is special; else NULL. */
static __attribute__((noinline)) char *
copy_plain(char *to, const char *s, size_t n)
{
	uint64_t x;
	uint32_t a, b;
	size_t k = 8;

	if (n >= 8) {
		memcpy(&x, s, 8);
		if (special(x))
			return NULL;
		memcpy(to, &x, 8);
		for (; k + 8 < n; k += 8) {
			memcpy(&x, s + k, 8);
			if (special(x))
				return NULL;
			memcpy(to + k, &x, 8);
		}
		memcpy(&x, s + n - 8, 8); /* overlaps what was copied */
		if (special(x))
			return NULL;
		memcpy(to + n - 8, &x, 8);
	} else if (n >= 4) {
		memcpy(&a, s, 4);
		memcpy(&b, s + n - 4, 4);
		if (special((uint64_t)b << 32 | a))
			return NULL;
		memcpy(to, &a, 4);
		memcpy(to + n - 4, &b, 4);
	} else {
		x = (unsigned char)s[0] | (uint64_t)(unsigned char)s[n / 2] << 8 |
		    (uint64_t)(unsigned char)s[n - 1] << 16 | UINT64_C(0x6161616161000000);
		if (special(x))
			return NULL;
		to[0] = s[0];
		to[n / 2] = s[n / 2];
		to[n - 1] = s[n - 1];
	}
	return to + n;
}

/* A value that is too long, or has something special in it; returns where it ends. */
static __attribute__((noinline)) char *
value_hard(char *to, size_t budget, int json, const char *s, size_t n)
{
	size_t most = budget / 6, all = n;

	if (most > LC_RENDER_FIELD)
		most = LC_RENDER_FIELD;
	if (n > most) {
		n = most;
		for (int k = 0; k < 3 && n && ((unsigned char)s[n] & 0xc0) == 0x80; k++)
			n--; /* not in the middle of a character */
	}
	to = escape(to, s, n, json);
	if (n < all) {
		memcpy(to, "...", 3);
		to += 3;
	}
	return to;
}

/* A value as far as there is room for it; n > 0. */
static inline void
value(struct out *o, const char *s, size_t n)
{
	char *p = NULL;

	if (__builtin_expect(n <= LC_RENDER_FIELD && 6 * n <= o->budget, 1))
		p = copy_plain(o->p, s, n);
	if (__builtin_expect(!p, 0))
		p = value_hard(o->p, o->budget, o->json, s, n);
	size_t used = (size_t)(p - o->p);
	o->budget -= used < o->budget ? used : o->budget;
	o->p = p;
}

/* Absent is "-" in text, and empty in JSON. */
static inline void
string(struct out *o, struct lc_str s)
{
	if (s.n)
		value(o, s.p, s.n);
	else if (!o->json)
		*o->p++ = '-';
}

static int
same_name(const struct lc_field *f, const struct lc_logop *op)
{
	if (f->name.n != op->n)
		return 0;
	for (uint32_t k = 0; k < op->n; k++) {
		char c = f->name.p[k];
		if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != op->p[k])
			return 0;
	}
	return 1;
}

/* The next field of that name from f on, or end.  Who sets response fields need not know tokens. */
static inline const struct lc_field *
find(const struct lc_field *f, const struct lc_field *end, const struct lc_logop *op, int tokens)
{
	if (op->token && tokens) {
		while (f < end && f->token != op->token)
			f++;
		return f;
	}
	while (f < end && !(f->token ? op->token && f->token == op->token : same_name(f, op)))
		f++;
	return f;
}

/* All fields of that name, as one that says the same (RFC 9110 5.3). */
static inline void
field(struct out *o, const struct lc_field *f, uint32_t n, const struct lc_logop *op, int tokens)
{
	const struct lc_field *end = n ? f + n : f;

	f = find(f, end, op, tokens);
	string(o, f < end ? f->value : (struct lc_str){NULL, 0});
	while (f < end && (f = find(f + 1, end, op, tokens)) < end) {
		if (o->budget < 64)
			return;
		memcpy(o->p, ", ", 2);
		o->p += 2;
		o->budget -= 5; /* and "..." once more */
		if (f->value.n)
			value(o, f->value.p, f->value.n);
	}
}

static struct lc_str
first_field(const struct lc_req *r, uint16_t token)
{
	for (uint32_t k = 0; k < r->nfields; k++)
		if (r->fields[k].token == token)
			return r->fields[k].value;
	return (struct lc_str){NULL, 0};
}

static int
base64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The name of RFC 7617; nobody has checked the password. */
static __attribute__((noinline)) void
user_of(struct out *o, struct lc_str v)
{
	char name[256];
	size_t n = 0, k = 6;
	unsigned bits = 0, have = 0;

	if (v.n > 6 && (v.p[0] | 0x20) == 'b' && (v.p[1] | 0x20) == 'a' && (v.p[2] | 0x20) == 's' &&
	    (v.p[3] | 0x20) == 'i' && (v.p[4] | 0x20) == 'c' && v.p[5] == ' ') {
		while (k < v.n && v.p[k] == ' ')
			k++;
		for (; k < v.n && n < sizeof(name); k++) {
			int d = base64(v.p[k]);
			if (d < 0)
				break;
			bits = bits << 6 | (unsigned)d;
			have += 6;
			if (have < 8)
				continue;
			have -= 8;
			name[n] = (char)(bits >> have & 0xff);
			if (name[n] == ':')
				break;
			n++;
		}
	}
	string(o, (struct lc_str){name, n});
}

static inline void
remote_user(struct out *o, const struct lc_req *r)
{
	struct lc_str v = first_field(r, LC_TOK_AUTHORIZATION);

	if (v.n)
		user_of(o, v);
	else if (!o->json)
		*o->p++ = '-';
}

static int
nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static void
decoded_path(struct out *o, struct lc_str path)
{
	char plain[LC_RENDER_FIELD + 1]; /* one more, so that it shows when it was cut */
	size_t n = 0;

	if (!path.n || !memchr(path.p, '%', path.n)) {
		string(o, path);
		return;
	}
	for (size_t k = 0; k < path.n && n < sizeof(plain); k++) {
		int high = -1, low = -1;
		if (path.p[k] == '%' && k + 2 < path.n) {
			high = nibble(path.p[k + 1]);
			low = nibble(path.p[k + 2]);
		}
		if (high >= 0 && low >= 0) {
			plain[n++] = (char)(high << 4 | low);
			k += 2;
		} else {
			plain[n++] = path.p[k];
		}
	}
	string(o, (struct lc_str){plain, n});
}

static void
host(struct out *o, struct lc_str a)
{
	char low[256];
	size_t n = a.n;

	for (size_t k = a.n; k-- > 0;) { /* without its port */
		if (a.p[k] == ':') {
			n = k;
			break;
		}
		if (a.p[k] < '0' || a.p[k] > '9')
			break;
	}
	if (n > sizeof(low)) {
		string(o, (struct lc_str){a.p, n});
		return;
	}
	size_t k = 0;
	for (; k + 8 <= n; k += 8) {
		uint64_t x;
		memcpy(&x, a.p + k, 8);
		x = lc_lower8(x);
		memcpy(low + k, &x, 8);
	}
	for (; k < n; k++)
		low[k] = (char)lc_lower((uint8_t)a.p[k]);
	string(o, (struct lc_str){low, n});
}

/* One cookie out of "a=1; b=2" (RFC 6265 4.2). */
static void
cookie(struct out *o, const struct lc_req *r, const struct lc_logop *op)
{
	for (uint32_t i = 0; i < r->nfields; i++) {
		struct lc_str v = r->fields[i].value;
		size_t k = 0;
		if (r->fields[i].token != LC_TOK_COOKIE)
			continue;
		while (k < v.n) {
			while (k < v.n && (v.p[k] == ' ' || v.p[k] == ';'))
				k++;
			const char *semi = memchr(v.p + k, ';', v.n - k);
			size_t end = semi ? (size_t)(semi - v.p) : v.n;
			if (end - k > op->n && v.p[k + op->n] == '=' && !memcmp(v.p + k, op->p, op->n)) {
				string(o, (struct lc_str){v.p + k + op->n + 1, end - k - op->n - 1});
				return;
			}
			k = end;
		}
	}
	string(o, (struct lc_str){NULL, 0});
}

static void
request_line(struct out *o, const struct lc_req *r)
{
	if (!r->method.n) { /* what came was none */
		string(o, r->method);
		return;
	}
	string(o, r->method);
	*o->p++ = ' ';
	string(o, r->target);
	*o->p++ = ' ';
	string(o, r->protocol);
}

/* The head as it would be in HTTP's first version, and the body without framing. */
static uint64_t
received(const struct lc_record *rec)
{
	const struct lc_req *r = rec->req;
	uint64_t n = r->method.n + r->target.n + r->protocol.n + 6;

	for (uint32_t k = 0; k < r->nfields; k++)
		n += r->fields[k].name.n + r->fields[k].value.n + 4;
	return n + rec->body_received;
}

/* ---- time ---- */

static char *
two(char *to, int v)
{
	to[0] = (char)('0' + v / 10 % 10);
	to[1] = (char)('0' + v % 10);
	return to + 2;
}

static char *
zone(char *to, long east, int colon)
{
	long m = (east < 0 ? -east : east) / 60;

	*to++ = east < 0 ? '-' : '+';
	to = two(to, (int)(m / 60));
	if (colon)
		*to++ = ':';
	return two(to, (int)(m % 60));
}

/* Months are in English whatever the locale: no strftime(). */
static __attribute__((noinline)) void
tick(struct lc_logclock *c, uint64_t now)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct timespec ts;
	struct tm tm = {0};
	char *p;

	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	c->ahead = (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec - now;
	c->until = now + NS - (uint64_t)ts.tv_nsec;
	p = two(c->local, tm.tm_mday);
	*p++ = '/';
	memcpy(p, months + 3 * (tm.tm_mon % 12), 3);
	p += 3;
	*p++ = '/';
	p = two(two(p, (tm.tm_year + 1900) / 100), tm.tm_year + 1900);
	*p++ = ':';
	p = two(p, tm.tm_hour);
	*p++ = ':';
	p = two(p, tm.tm_min);
	*p++ = ':';
	p = two(p, tm.tm_sec);
	*p++ = ' ';
	c->local_n = (uint32_t)(zone(p, tm.tm_gmtoff, 0) - c->local);
	p = two(two(c->iso, (tm.tm_year + 1900) / 100), tm.tm_year + 1900);
	*p++ = '-';
	p = two(p, tm.tm_mon + 1);
	*p++ = '-';
	p = two(p, tm.tm_mday);
	*p++ = 'T';
	p = two(p, tm.tm_hour);
	*p++ = ':';
	p = two(p, tm.tm_min);
	*p++ = ':';
	p = two(p, tm.tm_sec);
	c->iso_n = (uint32_t)(zone(p, tm.tm_gmtoff, 1) - c->iso);
	c->pid_n = (uint32_t)(put_number(c->pid, (uint64_t)getpid()) - c->pid);
}

/* ---- a line ---- */

size_t
lc_render(const struct lc_logfmt *f, const struct lc_record *rec, struct lc_logclock *c, char *to, size_t room)
{
	const struct lc_req *r = rec->req;
	struct out o = {.p = to, .budget = room - f->fixed, .json = f->json};

	if (rec->now >= c->until)
		tick(c, rec->now);
	for (const struct lc_logop *op = f->op;; op++) {
		o.p = put(o.p, op->text, op->text_n);
		switch ((enum lc_logop_code)op->code) {
		case LC_LO_END:
			*o.p++ = '\n';
			return (size_t)(o.p - to);
		case LC_LO_REMOTE_ADDR:
			if (r->peer.n)
				string(&o, r->peer);
			else
				o.p = stpcpy(o.p, "unix:");
			break;
		case LC_LO_REMOTE_USER:
			remote_user(&o, r);
			break;
		case LC_LO_REQUEST:
			request_line(&o, r);
			break;
		case LC_LO_METHOD:
			string(&o, r->method);
			break;
		case LC_LO_TARGET:
			string(&o, r->target);
			break;
		case LC_LO_PATH:
			decoded_path(&o, r->path);
			break;
		case LC_LO_QUERY:
			string(&o, r->query);
			break;
		case LC_LO_PROTOCOL:
			string(&o, r->protocol);
			break;
		case LC_LO_HOST:
			host(&o, r->authority);
			break;
		case LC_LO_SCHEME:
			string(&o, r->scheme);
			break;
		case LC_LO_LOCAL_ADDR:
			string(&o, r->local);
			break;
		case LC_LO_FIELD:
			field(&o, r->fields, r->nfields, op, 1);
			break;
		case LC_LO_SENT:
			field(&o, rec->sent, rec->nsent, op, 0);
			break;
		case LC_LO_COOKIE:
			cookie(&o, r, op);
			break;
		case LC_LO_REMOTE_PORT:
			o.p = put_number(o.p, r->peer_port);
			break;
		case LC_LO_LOCAL_PORT:
			o.p = put_number(o.p, r->local_port);
			break;
		case LC_LO_QUESTION:
			if (r->query.n)
				*o.p++ = '?';
			break;
		case LC_LO_TIME_LOCAL:
			o.p = put(o.p, c->local, c->local_n);
			break;
		case LC_LO_TIME_ISO:
			o.p = put(o.p, c->iso, c->iso_n);
			break;
		case LC_LO_TIME_EPOCH:
			o.p = put_millis(o.p, (rec->now + c->ahead) / 1000000);
			break;
		case LC_LO_STATUS:
			o.p = put_number(o.p, rec->status);
			break;
		case LC_LO_BODY_SENT_DASH:
			if (rec->body_sent)
				o.p = put_number(o.p, rec->body_sent);
			else
				*o.p++ = '-';
			break;
		case LC_LO_BODY_SENT:
			o.p = put_number(o.p, rec->body_sent);
			break;
		case LC_LO_ALL_SENT:
			o.p = put_number(o.p, rec->all_sent);
			break;
		case LC_LO_RECEIVED:
			o.p = put_number(o.p, received(rec));
			break;
		case LC_LO_TOOK:
			o.p = put_millis(o.p, rec->took / 1000000);
			break;
		case LC_LO_TOOK_S:
			o.p = put_number(o.p, rec->took / NS);
			break;
		case LC_LO_TOOK_MS:
			o.p = put_number(o.p, rec->took / 1000000);
			break;
		case LC_LO_TOOK_US:
			o.p = put_number(o.p, rec->took / 1000);
			break;
		case LC_LO_TOOK_S6:
			o.p = three(put_millis(o.p, rec->took / 1000000), rec->took / 1000 % 1000);
			break;
		case LC_LO_PID:
			o.p = put(o.p, c->pid, c->pid_n);
			break;
		case LC_LO_CONNECTION:
			o.p = put_number(o.p, rec->connection);
			break;
		case LC_LO_CONNECTION_REQUESTS:
			o.p = put_number(o.p, rec->connection_requests);
			break;
		case LC_LO_COMPLETE:
			if (rec->complete)
				o.p = stpcpy(o.p, "OK");
			else if (!o.json)
				*o.p++ = '-';
			break;
		}
	}
}
