/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * format.c - the text of a format to operations.  See format.h.
 *
 * Constant text belongs to the operation behind it.  Everything is one block of memory: the struct, its
 * operations, then the bytes that they point to, which are never more than the text itself.
 */
#include "log/format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <licorne/abi.h>
#include <licorne/tokens.h>

#include "log/distance.h"

#define OPS_MAX 128u
#define NUMBER 20u
#define SHOWN 40 /* bytes of a wrong word that a message repeats */

struct var {
	const char *name;
	enum lc_logop_code code;
	uint32_t fixed; /* bytes that it takes at most, beside what the client controls */
	const char *field;
};

/* What is cut ends in "...", what is absent is "-" where nothing else is said. */
#define CUT 3u

static const struct var variables[] = {
    {"args", LC_LO_QUERY, CUT, NULL},
    {"body_bytes_sent", LC_LO_BODY_SENT, NUMBER, NULL},
    {"bytes_sent", LC_LO_ALL_SENT, NUMBER, NULL},
    {"connection", LC_LO_CONNECTION, NUMBER, NULL},
    {"connection_requests", LC_LO_CONNECTION_REQUESTS, NUMBER, NULL},
    {"content_length", LC_LO_FIELD, CUT, "content-length"},
    {"content_type", LC_LO_FIELD, CUT, "content-type"},
    {"host", LC_LO_HOST, CUT, NULL},
    {"is_args", LC_LO_QUESTION, 1, NULL},
    {"msec", LC_LO_TIME_EPOCH, NUMBER + 4, NULL},
    {"pid", LC_LO_PID, NUMBER, NULL},
    {"query_string", LC_LO_QUERY, CUT, NULL},
    {"remote_addr", LC_LO_REMOTE_ADDR, 5, NULL}, /* "unix:" */
    {"remote_port", LC_LO_REMOTE_PORT, NUMBER, NULL},
    {"remote_user", LC_LO_REMOTE_USER, CUT, NULL},
    {"request", LC_LO_REQUEST, 3 * CUT + 2, NULL},
    {"request_completion", LC_LO_COMPLETE, 2, NULL},
    {"request_length", LC_LO_RECEIVED, NUMBER, NULL},
    {"request_method", LC_LO_METHOD, CUT, NULL},
    {"request_time", LC_LO_TOOK, NUMBER + 4, NULL},
    {"request_uri", LC_LO_TARGET, CUT, NULL},
    {"scheme", LC_LO_SCHEME, CUT, NULL},
    {"server_addr", LC_LO_LOCAL_ADDR, CUT, NULL},
    {"server_port", LC_LO_LOCAL_PORT, NUMBER, NULL},
    {"server_protocol", LC_LO_PROTOCOL, CUT, NULL},
    {"status", LC_LO_STATUS, NUMBER, NULL},
    {"time_iso8601", LC_LO_TIME_ISO, 40, NULL},
    {"time_local", LC_LO_TIME_LOCAL, 40, NULL},
    {"uri", LC_LO_PATH, CUT, NULL},
};

/* Families: what follows the prefix names a field or a cookie. */
static const struct var families[] = {
    {"http_", LC_LO_FIELD, CUT, NULL},
    {"sent_http_", LC_LO_SENT, CUT, NULL},
    {"cookie_", LC_LO_COOKIE, CUT, NULL},
};

/* %(x)s: the same operations, some in the form that those who know the atoms expect. */
static const struct {
	char atom[2];
	enum lc_logop_code code;
	uint32_t fixed;
	const char *field, *before, *after;
} atoms[] = {
    {"h", LC_LO_REMOTE_ADDR, 5, NULL, "", ""},
    {"l", LC_LO_END, 0, NULL, "-", ""}, /* nothing but its text */
    {"u", LC_LO_REMOTE_USER, CUT, NULL, "", ""},
    {"t", LC_LO_TIME_LOCAL, 40, NULL, "[", "]"},
    {"r", LC_LO_REQUEST, 3 * CUT + 2, NULL, "", ""},
    {"m", LC_LO_METHOD, CUT, NULL, "", ""},
    {"U", LC_LO_PATH, CUT, NULL, "", ""},
    {"q", LC_LO_QUERY, CUT, NULL, "", ""},
    {"H", LC_LO_PROTOCOL, CUT, NULL, "", ""},
    {"s", LC_LO_STATUS, NUMBER, NULL, "", ""},
    {"B", LC_LO_BODY_SENT, NUMBER, NULL, "", ""},
    {"b", LC_LO_BODY_SENT_DASH, NUMBER, NULL, "", ""},
    {"f", LC_LO_FIELD, CUT, "referer", "", ""},
    {"a", LC_LO_FIELD, CUT, "user-agent", "", ""},
    {"T", LC_LO_TOOK_S, NUMBER, NULL, "", ""},
    {"M", LC_LO_TOOK_MS, NUMBER, NULL, "", ""},
    {"D", LC_LO_TOOK_US, NUMBER, NULL, "", ""},
    {"L", LC_LO_TOOK_S6, NUMBER + 7, NULL, "", ""},
    {"p", LC_LO_PID, NUMBER, NULL, "<", ">"},
};

static const struct {
	const char *name, *text;
	int json;
} builtin[] = {
    {"combined",
     "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" "
     "\"$http_user_agent\"",
     0},
    {"common", "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent", 0},
    {"json",
     "{\"time\":\"$time_iso8601\",\"remote_addr\":\"$remote_addr\",\"remote_user\":\"$remote_user\","
     "\"method\":\"$request_method\",\"uri\":\"$request_uri\",\"protocol\":\"$server_protocol\",\"host\":\"$host\","
     "\"status\":$status,\"body_bytes_sent\":$body_bytes_sent,\"request_time\":$request_time,"
     "\"referer\":\"$http_referer\",\"user_agent\":\"$http_user_agent\",\"pid\":$pid,\"connection\":$connection}",
     1},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *name;
	uint16_t token;
} tokens[] = {
#define ROW(id, text) {text, LC_TOK_##id},
    LC_TOKEN_LIST(ROW)
#undef ROW
};

const char *
lc_logfmt_builtin(const char *name, int *ret_json)
{
	for (size_t i = 0; i < COUNT(builtin); i++)
		if (!strcmp(name, builtin[i].name)) {
			*ret_json = builtin[i].json;
			return builtin[i].text;
		}
	return NULL;
}

struct build {
	struct lc_logop op[OPS_MAX];
	uint32_t nops, text_n; /* text_n: constant text before `at` that no operation has yet */
	uint64_t fixed;
	int timed;
	char *blob, *at; /* room for all of the text, three times */
	char *msg;
	size_t msgsize;
	int full;
};

static int LC_PRINTF(2, 3) refuse(struct build *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->msg, b->msgsize, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static void
add_text(struct build *b, const char *p, size_t n)
{
	memcpy(b->at, p, n);
	b->at += n;
	b->text_n += (uint32_t)n;
	b->fixed += n;
}

static void
add(struct build *b, enum lc_logop_code code, uint32_t fixed, const char *name, size_t n)
{
	struct lc_logop op = {.code = (uint16_t)code, .n = (uint32_t)n, .text_n = b->text_n, .p = b->at};

	op.text = b->at - b->text_n;
	b->text_n = 0;
	b->fixed += fixed;
	b->timed |= code >= LC_LO_TOOK && code <= LC_LO_TOOK_S6;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		if (code != LC_LO_COOKIE)
			c = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
		*b->at++ = c;
	}
	for (size_t i = 0; n && code != LC_LO_COOKIE && i < COUNT(tokens); i++)
		if (strlen(tokens[i].name) == n && !memcmp(tokens[i].name, op.p, n))
			op.token = tokens[i].token;
	if (b->nops < OPS_MAX)
		b->op[b->nops++] = op;
	else
		b->full = 1;
}

static int
unknown(struct build *b, const char *name, size_t n)
{
	unsigned best = n < 6 ? 2 : 4;
	const char *near = NULL;

	for (size_t i = 0; i < COUNT(variables); i++) {
		unsigned d = lc_distance(name, n, variables[i].name, best - 1);
		if (d < best) {
			best = d;
			near = variables[i].name;
		}
	}
	if (near)
		return refuse(b, "variable \"$%.*s\" is not known, did you mean \"$%s\"?", n < SHOWN ? (int)n : SHOWN,
			      name, near);
	return refuse(b, "variable \"$%.*s\" is not known, expected one of those in docs/logging.md",
		      n < SHOWN ? (int)n : SHOWN, name);
}

static int
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Behind a "$".  Bytes used, or -EINVAL. */
static int
variable(struct build *b, const char *s)
{
	const char *name = s + (*s == '{');
	size_t n = 0;
	char field[128];

	while (is_word(name[n]))
		n++;
	if (!n)
		return refuse(b, "a \"$\" without a name behind it, expected a variable such as $status");
	if (*s == '{' && name[n] != '}')
		return refuse(b, "\"${%.*s\" is not closed, expected a \"}\"", n < SHOWN ? (int)n : SHOWN, name);
	int used = (int)(name - s) + (int)n + (*s == '{');
	for (size_t i = 0; i < COUNT(variables); i++) {
		const struct var *v = &variables[i];
		if (strlen(v->name) == n && !memcmp(v->name, name, n)) {
			add(b, v->code, v->fixed, v->field, v->field ? strlen(v->field) : 0);
			return used;
		}
	}
	for (size_t i = 0; i < COUNT(families); i++) {
		const struct var *v = &families[i];
		size_t k = strlen(v->name);
		if (n <= k || n - k >= sizeof(field) || memcmp(v->name, name, k) != 0)
			continue;
		for (size_t j = k; j < n; j++)
			field[j - k] = name[j] == '_' && v->code != LC_LO_COOKIE ? '-' : name[j];
		add(b, v->code, v->fixed, field, n - k);
		return used;
	}
	return unknown(b, name, n);
}

/* Behind a "%".  Bytes used, or -EINVAL. */
static int
atom(struct build *b, const char *s)
{
	if (*s == '%') {
		add_text(b, "%", 1);
		return 1;
	}
	const char *close = *s == '(' ? strchr(s, ')') : NULL;
	if (!close || !close[1])
		return refuse(b, "a \"%%\" that begins no atom, expected %%(X)s, or %%%% for the sign itself");
	const char *name = s + 1;
	size_t n = (size_t)(close - name);
	int used = (int)(close - s) + 2;
	if (close[1] != 's' && close[1] != 'd')
		return refuse(b, "\"%%(%.*s)%c\": expected an \"s\" behind it", n < SHOWN ? (int)n : SHOWN, name,
			      close[1]);
	if (n > 3 && name[0] == '{' && name[n - 2] == '}' && n - 3 < 128) {
		if (name[n - 1] == 'i' || name[n - 1] == 'o') {
			add(b, name[n - 1] == 'i' ? LC_LO_FIELD : LC_LO_SENT, CUT, name + 1, n - 3);
			return used;
		}
		if (name[n - 1] == 'e')
			return refuse(
			    b,
			    "atom \"%%(%.*s)s\": what the application is called with is not known to the log, "
			    "expected a field, {NAME}i or {NAME}o",
			    n < SHOWN ? (int)n : SHOWN, name);
	}
	for (size_t i = 0; i < COUNT(atoms) && n == 1; i++)
		if (atoms[i].atom[0] == *name) {
			add_text(b, atoms[i].before, strlen(atoms[i].before));
			if (atoms[i].code != LC_LO_END)
				add(b, atoms[i].code, atoms[i].fixed, atoms[i].field,
				    atoms[i].field ? strlen(atoms[i].field) : 0);
			add_text(b, atoms[i].after, strlen(atoms[i].after));
			return used;
		}
	return refuse(
	    b, "atom \"%%(%.*s)s\" is not known, expected one of h l u t r m U q H s B b f a T M D L p {NAME}i {NAME}o",
	    n < SHOWN ? (int)n : SHOWN, name);
}

static int
walk(struct build *b, const char *s)
{
	int r;

	while (*s) {
		size_t n = strcspn(s, "$%");
		for (size_t i = 0; i < n; i++)
			if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
				return refuse(b, "a line end or another control character is in it, expected one line");
		add_text(b, s, n);
		s += n;
		if (!*s)
			break;
		r = *s == '$' ? variable(b, s + 1) : atom(b, s + 1);
		if (r < 0)
			return r;
		s += 1 + r;
	}
	if (!b->nops && !b->text_n)
		return refuse(b, "there is nothing in it, expected variables such as $status");
	add(b, LC_LO_END, 1 + LC_LOGFMT_PIECE, NULL, 0);
	if (b->full)
		return refuse(b, "there are too many variables, expected at most %u parts", OPS_MAX);
	if (b->fixed > LC_LOGFMT_FIXED)
		return refuse(b, "its constant part takes up to %llu bytes, expected at most %u",
			      (unsigned long long)b->fixed, LC_LOGFMT_FIXED);
	return 0;
}

int
lc_logfmt_parse(struct lc_logfmt **ret, const char *text, int json, char *msg, size_t msgsize)
{
	struct build b = {.msg = msg, .msgsize = msgsize};
	size_t room = 3 * strlen(text) + 64; /* "[" and "]" around an atom of five; a field's name for a variable */
	struct lc_logfmt *f = NULL;
	int r;

	b.blob = b.at = malloc(room);
	if (!b.blob) {
		snprintf(msg, msgsize, "no memory");
		return -ENOMEM;
	}
	r = walk(&b, text);
	if (r == 0 && ret) {
		size_t n = (size_t)(b.at - b.blob);
		f = calloc(1, sizeof(*f) + b.nops * sizeof(f->op[0]) + n + LC_LOGFMT_PIECE);
		if (!f) {
			snprintf(msg, msgsize, "no memory");
			r = -ENOMEM;
		} else {
			char *to = (char *)&f->op[b.nops];
			*f = (struct lc_logfmt){
			    .nops = b.nops, .fixed = (uint32_t)b.fixed, .json = json != 0, .timed = b.timed != 0};
			memcpy(to, b.blob, n);
			memcpy(f->op, b.op, b.nops * sizeof(f->op[0]));
			for (uint32_t i = 0; i < f->nops; i++) {
				f->op[i].p = to + (b.op[i].p - b.blob);
				f->op[i].text = to + (b.op[i].text - b.blob);
			}
			*ret = f;
		}
	}
	free(b.blob);
	return r;
}
