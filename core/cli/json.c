/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/json.c - JSON texts to tokens.
 *
 * For the answers of our own arbiter, of any version: what it adds is skipped, what is no JSON is refused.
 */
#include "cli/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/utf8.h"

#define DEPTH 16u

struct in {
	struct lc_json *j;
	const char *p, *end;
};

static void
space(struct in *in)
{
	while (in->p < in->end && (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
		in->p++;
}

static int
take(struct in *in, char c)
{
	space(in);
	if (in->p == in->end || *in->p != c)
		return 0;
	in->p++;
	return 1;
}

static int
token(struct in *in, char type, uint32_t *ret)
{
	struct lc_json *j = in->j;

	if (j->n == j->cap) {
		uint32_t cap = j->cap ? 2 * j->cap : 256;
		struct lc_json_token *v = realloc(j->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		j->v = v;
		j->cap = cap;
	}
	*ret = j->n++;
	j->v[*ret] = (struct lc_json_token){.type = type, .at = (uint32_t)(in->p - j->text)};
	return 0;
}

static void
done(struct in *in, uint32_t t, const char *end)
{
	in->j->v[t].n = (uint32_t)(end - in->j->text) - in->j->v[t].at;
	in->j->v[t].behind = in->j->n;
}

static int
string(struct in *in)
{
	uint32_t t;
	int r;

	if (!take(in, '"'))
		return -EINVAL;
	r = token(in, '"', &t);
	while (r == 0 && in->p < in->end && *in->p != '"') {
		if ((unsigned char)*in->p < 0x20 || (*in->p == '\\' && ++in->p == in->end))
			return -EINVAL;
		in->p++;
	}
	if (r < 0 || in->p >= in->end)
		return r < 0 ? r : -EINVAL;
	done(in, t, in->p++);
	return 0;
}

static int
word(struct in *in)
{
	const char *start = in->p;
	uint32_t t;
	int r = token(in, 'v', &t);

	if (r < 0)
		return r;
	while (in->p < in->end && *in->p && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *in->p))
		in->p++;
	if (in->p == start)
		return -EINVAL;
	done(in, t, in->p);
	return 0;
}

static int
value(struct in *in, unsigned depth)
{
	char open, close;
	uint32_t t;
	int r;

	space(in);
	if (in->p == in->end || depth == DEPTH)
		return -EINVAL;
	if (*in->p == '"')
		return string(in);
	if (*in->p != '{' && *in->p != '[')
		return word(in);
	open = *in->p;
	close = open == '{' ? '}' : ']';
	r = token(in, open, &t);
	in->p++;
	if (r == 0 && !take(in, close)) {
		do {
			if (open == '{' && ((r = string(in)) < 0 || !take(in, ':')))
				return r < 0 ? r : -EINVAL;
			r = value(in, depth + 1);
		} while (r == 0 && take(in, ','));
		if (r == 0 && !take(in, close))
			r = -EINVAL;
	}
	if (r == 0)
		done(in, t, in->p);
	return r;
}

int
lc_json_parse(struct lc_json *j, const char *text, size_t n)
{
	struct in in = {j, text, text + n};
	int r;

	*j = (struct lc_json){.text = text};
	r = n > UINT32_MAX / 2 ? -EINVAL : value(&in, 0);
	space(&in);
	if (r == 0 && in.p != in.end)
		r = -EINVAL;
	if (r < 0)
		lc_json_free(j);
	return r;
}

void
lc_json_free(struct lc_json *j)
{
	free(j->v);
	j->v = NULL;
	j->n = j->cap = 0;
}

uint32_t
lc_json_get(const struct lc_json *j, uint32_t object, const char *name)
{
	size_t n = strlen(name);

	if (j->v[object].type != '{')
		return 0;
	for (uint32_t t = object + 1; t < j->v[object].behind; t = j->v[t + 1].behind)
		if (j->v[t].n == n && memcmp(j->text + j->v[t].at, name, n) == 0)
			return t + 1;
	return 0;
}

uint32_t
lc_json_first(const struct lc_json *j, uint32_t array)
{
	return j->v[array].type == '[' && array + 1 < j->v[array].behind ? array + 1 : 0;
}

uint32_t
lc_json_next(const struct lc_json *j, uint32_t array, uint32_t at)
{
	return j->v[at].behind < j->v[array].behind ? j->v[at].behind : 0;
}

double
lc_json_number(const struct lc_json *j, uint32_t t, double otherwise)
{
	char buf[40], *end;
	double d;

	if (!t || j->v[t].type != 'v' || j->v[t].n >= sizeof(buf))
		return otherwise;
	memcpy(buf, j->text + j->v[t].at, j->v[t].n);
	buf[j->v[t].n] = 0;
	d = strtod(buf, &end);
	return *end || end == buf ? otherwise : d;
}

int
lc_json_true(const struct lc_json *j, uint32_t t)
{
	return t && j->v[t].type == 'v' && j->v[t].n == 4 && memcmp(j->text + j->v[t].at, "true", 4) == 0;
}

/* The character that the escape at p stands for, as UTF-8 in to[3]; bytes; *ret_n: of the escape. */
static size_t
escape(const char *p, size_t n, unsigned char *to, size_t *ret_n)
{
	char hex[5] = "";
	unsigned long c;

	*ret_n = 2;
	if (n < 6 || p[1] != 'u') {
		to[0] = p[1] == '"' || p[1] == '\\' || p[1] == '/' ? (unsigned char)p[1] : ' ';
		return 1;
	}
	*ret_n = 6;
	memcpy(hex, p + 2, 4);
	c = strtoul(hex, NULL, 16);
	if (c < 0x80) {
		to[0] = (unsigned char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (unsigned char)(0xc0 | c >> 6);
		to[1] = (unsigned char)(0x80 | (c & 0x3f));
		return 2;
	}
	to[0] = (unsigned char)(0xe0 | c >> 12);
	to[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
	to[2] = (unsigned char)(0x80 | (c & 0x3f));
	return 3;
}

const char *
lc_json_text(const struct lc_json *j, uint32_t t, char *buf, size_t size)
{
	const char *p = j->text + j->v[t].at;
	size_t left = t && j->v[t].type == '"' ? j->v[t].n : 0, k = 0;

	while (left > 0 && k + 4 < size) {
		const unsigned char *from = (const unsigned char *)p;
		unsigned char c[4];
		size_t have = left < 4 ? left : 4, used, n;

		if (*p == '\\' && left > 1) {
			have = escape(p, left, c, &used);
			from = c;
			n = lc_utf8_printable(c, have);
		} else {
			used = n = lc_utf8_printable(from, have);
		}
		if (n > 0)
			memcpy(buf + k, from, n);
		else
			buf[k] = '?';
		k += n ? n : 1;
		used = used ? used : 1;
		p += used;
		left -= used;
	}
	buf[k] = 0;
	return buf;
}
