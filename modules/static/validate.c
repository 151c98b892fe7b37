/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * validate.c - dates, entity tags, preconditions, ranges and codings (RFC 9110 sections 5.6.7, 8.8, 12.5.3, 13, 14).
 *
 * Pure functions over field values that a peer wrote.  What is not valid is ignored where the RFC says so, and never
 * makes a condition hold.
 */
#include <string.h>
#include <strings.h>

#include "static.h"

static inline int
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline int
is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* ---- dates ---- */

static const char days[] = "SunMonTueWedThuFriSat";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Days since 1970-01-01 of a proleptic Gregorian date. */
static int64_t
days_of(int64_t y, int m, int d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t yoe = y - era * 400;
	int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void
date_of(int64_t z, int *y, int *m, int *d)
{
	z += 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	*d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*y = (int)(yoe + era * 400 + (*m <= 2));
}

void
st_date_put(char to[29], int64_t s)
{
	static const char shape[] = "Ddd, 00 Mmm 0000 00:00:00 GMT";
	int y, m, d;

	if (s < -INT64_C(62135596800)) /* year 1 */
		s = -INT64_C(62135596800);
	if (s > INT64_C(253402300799)) /* the end of 9999 */
		s = INT64_C(253402300799);
	int64_t day = (s >= 0 ? s : s - 86399) / 86400, left = s - day * 86400;
	date_of(day, &y, &m, &d);
	memcpy(to, shape, 29);
	memcpy(to, days + ((day % 7 + 7 + 4) % 7) * 3, 3);
	to[5] += (char)(d / 10), to[6] += (char)(d % 10);
	memcpy(to + 8, months + (m - 1) * 3, 3);
	to[12] += (char)(y / 1000), to[13] += (char)(y / 100 % 10), to[14] += (char)(y / 10 % 10),
	    to[15] += (char)(y % 10);
	int t[3] = {(int)(left / 3600), (int)(left / 60 % 60), (int)(left % 60)};
	for (int k = 0; k < 3; k++)
		to[17 + 3 * k] += (char)(t[k] / 10), to[18 + 3 * k] += (char)(t[k] % 10);
}

/* A text that is being read; every reader returns 0 when it does not find what it is to read. */
struct text {
	const char *p, *end;
};

static int
take(struct text *t, const char *what)
{
	size_t n = strlen(what);

	if ((size_t)(t->end - t->p) < n || memcmp(t->p, what, n) != 0)
		return 0;
	t->p += n;
	return 1;
}

static int
take_number(struct text *t, int digits, int *ret)
{
	int v = 0;

	if (t->end - t->p < digits)
		return 0;
	for (int k = 0; k < digits; k++, t->p++) {
		if (!is_digit(*t->p))
			return 0;
		v = v * 10 + (*t->p - '0');
	}
	*ret = v;
	return 1;
}

static int
take_month(struct text *t, int *ret)
{
	if (t->end - t->p < 3)
		return 0;
	for (int k = 0; k < 12; k++)
		if (memcmp(t->p, months + 3 * k, 3) == 0) {
			*ret = k + 1;
			t->p += 3;
			return 1;
		}
	return 0;
}

static int
take_time(struct text *t, int hms[3])
{
	return take_number(t, 2, &hms[0]) && take(t, ":") && take_number(t, 2, &hms[1]) && take(t, ":") &&
	       take_number(t, 2, &hms[2]);
}

static int
take_day_name(struct text *t, int *is_long)
{
	static const char *const rest[] = {"day", "day", "sday", "nesday", "rsday", "day", "urday"};

	if (t->end - t->p < 3)
		return 0;
	for (int k = 0; k < 7; k++)
		if (memcmp(t->p, days + 3 * k, 3) == 0) {
			t->p += 3;
			*is_long = take(t, rest[k]);
			return 1;
		}
	return 0;
}

static int
year_of(int64_t seconds)
{
	int y, m, d;

	date_of((seconds >= 0 ? seconds : seconds - 86399) / 86400, &y, &m, &d);
	return y;
}

int
st_date_parse(int64_t *ret, const char *p, size_t n, int64_t now)
{
	static const uint8_t length[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	struct text t = {p, p + n};
	int y = 0, m = 0, d = 0, hms[3] = {0}, is_long = 0, ok;

	if (!take_day_name(&t, &is_long))
		return 0;
	if (is_long) { /* Sunday, 06-Nov-94 08:49:37 GMT */
		ok = take(&t, ", ") && take_number(&t, 2, &d) && take(&t, "-") && take_month(&t, &m) && take(&t, "-") &&
		     take_number(&t, 2, &y) && take(&t, " ") && take_time(&t, hms) && take(&t, " GMT");
		y += year_of(now) / 100 * 100;
		if (y > year_of(now) + 50)
			y -= 100;
	} else if (take(&t, ", ")) { /* Sun, 06 Nov 1994 08:49:37 GMT */
		ok = take_number(&t, 2, &d) && take(&t, " ") && take_month(&t, &m) && take(&t, " ") &&
		     take_number(&t, 4, &y) && take(&t, " ") && take_time(&t, hms) && take(&t, " GMT");
	} else { /* Sun Nov  6 08:49:37 1994 */
		ok = take(&t, " ") && take_month(&t, &m) && take(&t, " ") &&
		     (take(&t, " ") ? take_number(&t, 1, &d) : take_number(&t, 2, &d)) && take(&t, " ") &&
		     take_time(&t, hms) && take(&t, " ") && take_number(&t, 4, &y);
	}
	if (!ok || t.p != t.end || d < 1 || d > length[m - 1] || hms[0] > 23 || hms[1] > 59 || hms[2] > 60)
		return 0;
	*ret = days_of(y, m, d) * 86400 + hms[0] * 3600 + hms[1] * 60 + hms[2];
	return 1;
}

/* ---- entity tags ---- */

/* The next tag of a list: 1, with its opaque part in quotes; 0 at the end or where the syntax breaks. */
static int
next_tag(struct text *t, struct lc_str *opaque, int *weak)
{
	while (t->p < t->end && (is_space(*t->p) || *t->p == ','))
		t->p++;
	*weak = take(t, "W/");
	const char *from = t->p;
	if (t->p == t->end || *t->p != '"')
		return 0;
	/* etagc: no space, no quote, no DEL (RFC 9110 8.8.3) */
	for (t->p++; t->p < t->end && *t->p != '"'; t->p++)
		if ((unsigned char)*t->p <= ' ' || *t->p == 127)
			return 0;
	if (t->p == t->end)
		return 0;
	t->p++;
	*opaque = (struct lc_str){from, (size_t)(t->p - from)};
	while (t->p < t->end && is_space(*t->p))
		t->p++;
	return t->p == t->end || *t->p == ',';
}

int
st_tags_have(const char *p, size_t n, struct lc_str tag, int strong)
{
	struct text t = {p, p + n}, own;
	struct lc_str mine, other;
	int weak, own_weak;

	if (n == 1 && *p == '*')
		return 1;
	if (!tag.p)
		return 0;
	own = (struct text){tag.p, tag.p + tag.n};
	if (!next_tag(&own, &mine, &own_weak))
		return 0;
	while (next_tag(&t, &other, &weak))
		if (other.n == mine.n && memcmp(other.p, mine.p, mine.n) == 0 && !(strong && (weak || own_weak)))
			return 1;
	return 0;
}

/* ---- ranges ---- */

/* 1*DIGIT, kept at UINT64_MAX where it is too long: larger than every size. */
static int
take_position(struct text *t, uint64_t *ret)
{
	uint64_t v = 0;
	const char *from = t->p;

	for (; t->p < t->end && is_digit(*t->p); t->p++) {
		uint64_t d = (uint64_t)(*t->p - '0');
		v = v > (UINT64_MAX - d) / 10 ? UINT64_MAX : v * 10 + d;
	}
	*ret = v;
	return t->p > from;
}

int
st_range_parse(const char *p, size_t n, uint64_t size, uint64_t *first, uint64_t *last)
{
	struct text t = {p, p + n};
	uint64_t a = 0, b = 0;
	int specs = 0, has_a = 0, has_b = 0;

	if (n < 6 || strncasecmp(p, "bytes=", 6) != 0)
		return ST_RANGE_NONE;
	t.p += 6;
	for (;;) {
		while (t.p < t.end && (is_space(*t.p) || *t.p == ','))
			t.p++;
		if (t.p == t.end)
			break;
		if (specs++)
			return ST_RANGE_NONE; /* several: the whole is a correct answer, and the cheaper one */
		has_a = take_position(&t, &a);
		if (!take(&t, "-"))
			return ST_RANGE_NONE;
		has_b = take_position(&t, &b);
		while (t.p < t.end && is_space(*t.p))
			t.p++;
		if ((!has_a && !has_b) || (has_a && has_b && b < a) || (t.p < t.end && *t.p != ','))
			return ST_RANGE_NONE;
	}
	if (specs == 0)
		return ST_RANGE_NONE;
	if (!has_a) { /* the last b bytes */
		if (b == 0)
			return ST_RANGE_UNSAT;
		if (size == 0)
			return ST_RANGE_NONE; /* all of nothing, for which Content-Range has no words */
		*first = b < size ? size - b : 0;
		*last = size - 1;
		return ST_RANGE_ONE;
	}
	if (a >= size)
		return ST_RANGE_UNSAT;
	*first = a;
	*last = has_b && b < size ? b : size - 1;
	return ST_RANGE_ONE;
}

/* ---- codings ---- */

/* OWS ";" OWS "q=" qvalue; 1000 where there is none; -1: broken. */
static int
take_weight(struct text *t)
{
	int q, part = 0, scale = 100;

	while (t->p < t->end && is_space(*t->p))
		t->p++;
	if (t->p == t->end || *t->p != ';')
		return 1000;
	t->p++;
	while (t->p < t->end && is_space(*t->p))
		t->p++;
	if (!(take(t, "q=") || take(t, "Q=")) || t->p == t->end || (*t->p != '0' && *t->p != '1'))
		return -1;
	q = (*t->p++ - '0') * 1000;
	if (t->p < t->end && *t->p == '.')
		for (t->p++; t->p < t->end && is_digit(*t->p) && scale; t->p++, scale /= 10)
			part += (*t->p - '0') * scale;
	while (t->p < t->end && is_space(*t->p))
		t->p++;
	return q + part <= 1000 ? q + part : -1;
}

void
st_accept_parse(struct st_accept *a, const char *p, size_t n)
{
	struct text t = {p, p + n};

	while (t.p < t.end) {
		while (t.p < t.end && (is_space(*t.p) || *t.p == ','))
			t.p++;
		const char *name = t.p;
		while (t.p < t.end && *t.p != ',' && *t.p != ';' && !is_space(*t.p))
			t.p++;
		size_t k = (size_t)(t.p - name);
		int q = take_weight(&t);
		if (q < 0 || (t.p < t.end && *t.p != ',')) {
			while (t.p < t.end && *t.p != ',')
				t.p++;
			continue;
		}
		if (k == 1 && *name == '*')
			a->any = q;
		else if ((k == 4 && strncasecmp(name, "gzip", 4) == 0) ||
			 (k == 6 && strncasecmp(name, "x-gzip", 6) == 0))
			a->gzip = q;
		else if (k == 2 && strncasecmp(name, "br", 2) == 0)
			a->br = q;
		else if (k == 8 && strncasecmp(name, "identity", 8) == 0)
			a->identity = q;
	}
}

int
st_accept_weight(const struct st_accept *a, int named)
{
	int q = named >= 0 ? named : a->any;

	return q > 0 && q >= a->identity ? q : 0;
}

/* ---- a request's conditions ---- */

void
st_ask_read(struct st_ask *ret, const struct lc_req *q)
{
	ret->fields = q->fields;
	ret->nfields = q->nfields;
	ret->has = 0;
	for (uint32_t k = 0; k < q->nfields; k++) {
		const struct lc_field *f = &q->fields[k];
		switch (f->token) {
		case LC_TOK_IF_MATCH:
			ret->has |= ST_HAS_IF_MATCH;
			break;
		case LC_TOK_IF_NONE_MATCH:
			ret->has |= ST_HAS_IF_NONE_MATCH;
			break;
		case LC_TOK_IF_MODIFIED_SINCE:
			ret->has |= ST_HAS_IF_MODIFIED;
			ret->modified = f->value;
			break;
		case LC_TOK_IF_UNMODIFIED_SINCE:
			ret->has |= ST_HAS_IF_UNMODIFIED;
			ret->unmodified = f->value;
			break;
		case LC_TOK_RANGE:
			ret->has |= ret->has & ST_HAS_RANGE ? ST_RANGE_TWICE : ST_HAS_RANGE;
			ret->range = f->value;
			break;
		case LC_TOK_IF_RANGE:
			ret->has |= ST_HAS_IF_RANGE;
			ret->if_range = f->value;
			break;
		case LC_TOK_ACCEPT_ENCODING:
			ret->has |= ST_HAS_ACCEPT;
			break;
		default:
			break;
		}
	}
}

static int
any_tag(const struct st_ask *a, uint16_t token, struct lc_str tag, int strong)
{
	for (uint32_t k = 0; k < a->nfields; k++)
		if (a->fields[k].token == token &&
		    st_tags_have(a->fields[k].value.p, a->fields[k].value.n, tag, strong))
			return 1;
	return 0;
}

/* Is the file newer than the date?  -1: it is no date, and the condition is ignored. */
static int
newer(const struct st_validators *v, struct lc_str date, int64_t now)
{
	int64_t since;

	if (date.n == v->changed.n && memcmp(date.p, v->changed.p, date.n) == 0)
		return 0;
	if (!st_date_parse(&since, date.p, date.n, now))
		return -1;
	return v->seconds > since;
}

uint32_t
st_ask_condition(const struct st_ask *a, const struct st_validators *v, int64_t now)
{
	if (a->has & ST_HAS_IF_MATCH) {
		if (!any_tag(a, LC_TOK_IF_MATCH, v->tag, 1))
			return 412;
	} else if ((a->has & ST_HAS_IF_UNMODIFIED) && newer(v, a->unmodified, now) == 1) {
		return 412;
	}
	if (a->has & ST_HAS_IF_NONE_MATCH)
		return any_tag(a, LC_TOK_IF_NONE_MATCH, v->tag, 0) ? 304 : 0;
	if ((a->has & ST_HAS_IF_MODIFIED) && newer(v, a->modified, now) == 0)
		return 304;
	return 0;
}

int
st_ask_range(const struct st_ask *a, const struct st_validators *v, uint64_t size, uint64_t *first, uint64_t *last)
{
	struct lc_str r = a->if_range;

	if ((a->has & (ST_HAS_RANGE | ST_RANGE_TWICE)) != ST_HAS_RANGE)
		return ST_RANGE_NONE;
	if (a->has & ST_HAS_IF_RANGE) {
		/* Either has to be the same, and strong (RFC 9110 13.1.5): dates are compared as they were sent. */
		int is_tag = r.n && (r.p[0] == '"' || r.p[0] == 'W');
		if (!v->strong || (is_tag ? !(r.n > 1 && st_tags_have(r.p, r.n, v->tag, 1))
					  : r.n != v->changed.n || memcmp(r.p, v->changed.p, r.n) != 0))
			return ST_RANGE_NONE;
	}
	return st_range_parse(a->range.p, a->range.n, size, first, last);
}
