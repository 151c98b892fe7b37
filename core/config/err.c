/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/err.c - collects "file:line: message" lines, at most 100, in order of the text at the end.
 *
 * Messages quote what users wrote, so control bytes are replaced: nothing forges a line or drives a terminal.  The
 * same line is never said twice (a wrong value at the main level is seen again by every block that inherits it).
 */
#include "config/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRS_MAX 100u
#define MESSAGE_MAX 2048u

struct entry {
	char *file, *text;
	uint32_t line, rank, order;
};

struct lc_err {
	struct entry e[ERRS_MAX];
	uint32_t n, dropped, lost; /* lost: no memory for the text */
	char *text;
	/* while a check() runs */
	const struct lc__blk *blk;
	const struct lc__set *set;
	const struct lc__org *org;
};

struct lc_err *
lc_err_new(void)
{
	return calloc(1, sizeof(struct lc_err));
}

void
lc_err_free(struct lc_err *err)
{
	if (!err)
		return;
	for (uint32_t i = 0; i < err->n; i++) {
		free(err->e[i].file);
		free(err->e[i].text);
	}
	free(err->text);
	free(err);
}

static void
disarm(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

void
lc__err_addv(struct lc_err *err, const char *file, uint32_t line, const char *fmt, va_list ap)
{
	char text[MESSAGE_MAX], *f, *t;

	vsnprintf(text, sizeof(text), fmt, ap);
	disarm(text);
	if (!file)
		file = "configuration";
	for (uint32_t i = 0; i < err->n; i++)
		if (err->e[i].line == line && !strcmp(err->e[i].text, text) && !strcmp(err->e[i].file, file))
			return;
	if (err->n == ERRS_MAX) {
		err->dropped++;
		return;
	}
	f = strdup(file);
	t = strdup(text);
	if (!f || !t) {
		free(f);
		free(t);
		err->lost++;
		return;
	}
	disarm(f);
	struct entry *e = &err->e[err->n];
	*e = (struct entry){.file = f, .text = t, .line = line, .order = err->n, .rank = err->n};
	for (uint32_t i = 0; i < err->n; i++)
		if (!strcmp(err->e[i].file, f)) {
			e->rank = err->e[i].rank;
			break;
		}
	err->n++;
}

void
lc_err_add(struct lc_err *err, const char *file, uint32_t line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lc__err_addv(err, file, line, fmt, ap);
	va_end(ap);
}

uint32_t
lc_err_count(const struct lc_err *err)
{
	return err->n + err->dropped + err->lost;
}

static int
entry_cmp(const void *a_, const void *b_)
{
	const struct entry *a = a_, *b = b_;

	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

/* By file (in order of the first error in each) and line; the steps of reading each report in their own order. */
void
lc_err_sort(struct lc_err *err)
{
	qsort(err->e, err->n, sizeof(err->e[0]), entry_cmp);
	for (uint32_t i = 0; i < err->n; i++)
		err->e[i].order = i;
}

const char *
lc_err_text(const struct lc_err *cerr)
{
	struct lc_err *err = (struct lc_err *)(uintptr_t)cerr; /* the text is a cache */
	struct lc__buf b = {0};

	for (uint32_t i = 0; i < err->n; i++) {
		const struct entry *e = &err->e[i];
		if (e->line)
			lc__buf_printf(&b, "%s:%u: %s\n", e->file, e->line, e->text);
		else
			lc__buf_printf(&b, "%s: %s\n", e->file, e->text);
	}
	if (err->dropped)
		lc__buf_printf(&b, "%u more errors are not shown\n", err->dropped);
	if (err->lost)
		lc__buf_printf(&b, "%u errors were lost: out of memory\n", err->lost);
	free(err->text);
	err->text = lc__buf_end(&b, NULL);
	return err->text ? err->text : "out of memory\n";
}

void
lc__err_about(struct lc_err *err, const struct lc__blk *blk, const struct lc__set *set, const struct lc__org *org)
{
	err->blk = blk;
	err->set = set;
	err->org = org;
}

/* struct lc_config_api.error: the position is that of the directive, wherever it was inherited from. */
static void __attribute__((format(printf, 3, 4)))
config_error(struct lc_err *err, const char *directive, const char *fmt, ...)
{
	const char *file = NULL;
	char text[MESSAGE_MAX];
	uint32_t line = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (err->blk) {
		file = err->blk->pub.file;
		line = err->blk->pub.line;
	}
	for (uint32_t i = 0; err->set && err->org && directive && i < err->set->nrows; i++)
		if (!strcmp(err->set->rows[i].name, directive) && err->org[i].file) {
			file = err->org[i].file;
			line = err->org[i].line;
		}
	lc_err_add(err, file, line, "%s", text);
}

const struct lc_config_api lc_config_table = {
    .size = sizeof(struct lc_config_api), .error = config_error, .file = lc__file_content};
