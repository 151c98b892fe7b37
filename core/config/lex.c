/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/lex.c - bytes to words, ';', '{' and '}'.
 *
 * A word is bare, or wholly inside "double" or 'single' quotes (the two mean the same).  Backslash escapes work in
 * all of them; a quoted word ends on its line, so that a forgotten quote costs one line and not the file.  $env{NAME}
 * is replaced inside words and never split into several.
 */
#include "config/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAD_LINES_MAX 10u

/* Length of the well-formed UTF-8 sequence at p that is no control character (RFC 3629); 0: none. */
static size_t
utf8_len(const unsigned char *p, size_t n)
{
	uint32_t c = p[0], min;
	size_t len;

	if (c < 0x80)
		return (c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n' || c == '\r';
	if (c >= 0xc2 && c <= 0xdf) {
		len = 2, min = 0xa0, c &= 0x1f; /* from U+00A0: C1 controls are refused */
	} else if (c >= 0xe0 && c <= 0xef) {
		len = 3, min = 0x800, c &= 0x0f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		len = 4, min = 0x10000, c &= 0x07;
	} else {
		return 0;
	}
	if (n < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c >= min && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff) ? len : 0;
}

uint32_t
lc__lex_clean(struct lc__load *ld, unsigned char *p, size_t n, const char *file)
{
	uint32_t line = 1, last = 0, bad = 0;

	for (size_t i = 0; i < n;) {
		size_t len = utf8_len(p + i, n - i);
		if (!len) {
			if (line != last && bad++ < BAD_LINES_MAX)
				lc_err_add(
				    ld->err, file, line,
				    "byte 0x%02x is not allowed, expected text in UTF-8 without control characters",
				    p[i]);
			last = line;
			p[i++] = '?';
			continue;
		}
		line += p[i] == '\n';
		i += len;
	}
	return bad;
}

const char *
lc__shown(struct lc__load *ld, const char *word)
{
	char *buf = ld->shown[ld->nshown++ % 4];
	size_t n = 0, max = sizeof(ld->shown[0]) - 8;

	while (*word) {
		unsigned char c = (unsigned char)*word;
		size_t len = utf8_len((const unsigned char *)word, strnlen(word, 4));
		if (n + (len ? len : 1) > max) {
			memcpy(buf + n, "...", 3);
			n += 3;
			break;
		}
		if (!len || c < 0x20) {
			buf[n++] = '?';
			word++;
			continue;
		}
		memcpy(buf + n, word, len);
		n += len;
		word += len;
	}
	buf[n] = 0;
	return buf;
}

static void __attribute__((format(printf, 2, 3))) word_error(struct lc__lex *lx, const char *fmt, ...)
{
	va_list ap;

	if (lx->bad)
		return; /* one error a word */
	lx->bad = 1;
	va_start(ap, fmt);
	lc__err_addv(lx->ld->err, lx->tok_file, lx->line, fmt, ap);
	va_end(ap);
}

static void
word_add(struct lc__lex *lx, const char *s, size_t n)
{
	if (n > LC__WORD_MAX - lx->n) {
		word_error(lx, "a word is longer than %u bytes, expected fewer", LC__WORD_MAX);
		return;
	}
	memcpy(lx->ld->word + lx->n, s, n);
	lx->n += (uint32_t)n;
}

/* At "$env{": take it all, add the value. */
static void
word_env(struct lc__lex *lx)
{
	const unsigned char *start = lx->p, *p = lx->p + 5, *name = p, *def = NULL;
	char key[256];
	size_t n;

	while (p < lx->end &&
	       ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_'))
		p++;
	n = (size_t)(p - name);
	if (lx->end - p >= 2 && p[0] == ':' && p[1] == '-') {
		def = p += 2;
		while (p < lx->end && *p != '}' && *p != '\n')
			p++;
	}
	lx->p = p;
	if (p == lx->end || *p != '}' || !n || n >= sizeof(key) || (*name >= '0' && *name <= '9')) {
		while (lx->p < lx->end && *lx->p != '}' && *lx->p != '\n' && *lx->p != ';')
			lx->p++;
		if (lx->p < lx->end && *lx->p == '}')
			lx->p++;
		word_error(lx, "malformed $env{...}, expected $env{NAME} or $env{NAME:-default}");
		return;
	}
	lx->p = p + 1;
	if (!lx->ld->opts->use_env) {
		word_add(lx, (const char *)start, (size_t)(lx->p - start));
		return;
	}
	memcpy(key, name, n);
	key[n] = 0;
	const char *value = getenv(key);
	if (def && (!value || !*value)) {
		word_add(lx, (const char *)def, (size_t)(p - def));
		return;
	}
	if (!value) {
		word_error(lx,
			   "environment variable %s is not set, expected it in $env{%s}; a default is written "
			   "$env{%s:-default}",
			   key, key, key);
		return;
	}
	for (size_t i = 0, len = strlen(value), k; i < len; i += k) {
		k = utf8_len((const unsigned char *)value + i, len - i);
		if (!k) {
			word_error(lx,
				   "environment variable %s holds byte 0x%02x, expected text in UTF-8 without control "
				   "characters",
				   key, (unsigned char)value[i]);
			return;
		}
	}
	word_add(lx, value, strlen(value));
}

/* At a backslash. */
static void
word_escape(struct lc__lex *lx)
{
	static const char from[] = " ;{}#\"'\\$ntr", to[] = " ;{}#\"'\\$\n\t\r";
	const char *at;

	if (lx->p + 1 == lx->end || lx->p[1] == '\n' || lx->p[1] == '\r') {
		lx->p++;
		word_error(lx, "\"\\\" stands at the end of a line, expected a character to escape");
		return;
	}
	at = strchr(from, lx->p[1]);
	if (!at) {
		char ch[5] = {0};
		memcpy(ch, lx->p + 1, utf8_len(lx->p + 1, (size_t)(lx->end - lx->p - 1)));
		word_error(lx,
			   "unknown escape \"\\%s\", expected \\\\ \\\" \\' \\$ \\; \\{ \\} \\# \\n \\t \\r or \"\\ \"",
			   ch);
		lx->p += 2;
		return;
	}
	word_add(lx, &to[at - from], 1);
	lx->p += 2;
}

static int
is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int
at_env(const struct lc__lex *lx)
{
	return lx->end - lx->p >= 5 && !memcmp(lx->p, "$env{", 5);
}

static int
ends_word(const struct lc__lex *lx)
{
	return lx->p == lx->end || is_space(*lx->p) || *lx->p == ';' || *lx->p == '{' || *lx->p == '}';
}

static void
lex_quoted(struct lc__lex *lx)
{
	unsigned char quote = *lx->p++;

	while (lx->p < lx->end && *lx->p != quote && *lx->p != '\n') {
		if (*lx->p == '\\')
			word_escape(lx);
		else if (at_env(lx))
			word_env(lx);
		else
			word_add(lx, (const char *)lx->p++, 1);
	}
	if (lx->p == lx->end || *lx->p == '\n') {
		word_error(lx, "a quote is not closed, expected %c before the end of the line", quote);
		return;
	}
	lx->p++;
	if (!ends_word(lx)) {
		word_error(lx, "unexpected character after a closing quote, expected a space, \";\" or \"{\"");
		while (!ends_word(lx))
			lx->p++;
	}
}

static void
lex_bare(struct lc__lex *lx)
{
	while (!ends_word(lx)) {
		if (*lx->p == '\\') {
			word_escape(lx);
		} else if (at_env(lx)) {
			word_env(lx);
		} else {
			if (*lx->p == '"' || *lx->p == '\'')
				word_error(lx, "a quote inside a word, expected the whole word in quotes, or \\%c",
					   *lx->p);
			if (*lx->p == '$' && lx->end - lx->p >= 2 && lx->p[1] == '{') {
				word_error(lx,
					   "\"${\" is not understood, expected $env{NAME}, or \\$ for a dollar sign");
				while (!ends_word(lx) || (lx->p < lx->end && (*lx->p == '{' || *lx->p == '}')))
					lx->p++;
				return;
			}
			word_add(lx, (const char *)lx->p++, 1);
		}
	}
}

/* At "#line " in the first column: sets the position of the next line; anything else is a comment. */
static void
lex_mark(struct lc__lex *lx)
{
	const unsigned char *p = lx->p + 6, *eol = memchr(p, '\n', (size_t)(lx->end - p));
	char name[LC__WORD_MAX];
	uint64_t line = 0;
	size_t n = 0;

	if (!eol)
		return;
	for (; p < eol && *p >= '0' && *p <= '9' && line < UINT32_MAX; p++)
		line = line * 10 + (*p - '0');
	if (!line || line >= UINT32_MAX || eol - p < 3 || p[0] != ' ' || p[1] != '"' || eol[-1] != '"' ||
	    eol - 1 == p + 1)
		return;
	for (p += 2; p < eol - 1 && n < sizeof(name) - 1; p++) {
		if (*p == '\\' && p + 1 < eol - 1)
			p++;
		name[n++] = (char)*p;
	}
	lx->file = lc__strndup(&lx->ld->conf->arena, name, n);
	lx->line = (uint32_t)line;
	lx->p = eol + 1;
}

/* In the first column: any number of marks. */
static void
lex_marks(struct lc__lex *lx)
{
	const unsigned char *before = NULL;

	lx->started = 1;
	while (lx->marks && lx->p != before && lx->end - lx->p > 6 && !memcmp(lx->p, "#line ", 6)) {
		before = lx->p;
		lex_mark(lx);
	}
}

int
lc__lex_next(struct lc__lex *lx)
{
	lx->n = 0;
	lx->bad = 0;
	if (!lx->started)
		lex_marks(lx);
	for (;;) {
		while (lx->p < lx->end && is_space(*lx->p))
			if (*lx->p++ == '\n') {
				lx->line++;
				lex_marks(lx);
			}
		if (lx->p == lx->end || *lx->p != '#')
			break;
		while (lx->p < lx->end && *lx->p != '\n')
			lx->p++;
	}
	lx->tok_line = lx->line;
	lx->tok_file = lx->file;
	if (lx->p == lx->end)
		return LC__T_EOF;
	switch (*lx->p) {
	case ';':
		lx->p++;
		return LC__T_SEMI;
	case '{':
		lx->p++;
		return LC__T_OPEN;
	case '}':
		lx->p++;
		return LC__T_CLOSE;
	case '"':
	case '\'':
		lex_quoted(lx);
		break;
	default:
		lex_bare(lx);
	}
	lx->ld->word[lx->n] = 0;
	return LC__T_WORD;
}
