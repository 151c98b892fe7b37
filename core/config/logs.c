/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/logs.c - log_format and access_log: what their lines must be like, and what they amount to.
 *
 * A line is checked where it is read, so that an error names it; which formats there are is only known at the end.
 */
#include "config/conf_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/distance.h"
#include "log/format.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
#define LOGS_MAX 8u
#define ESCAPE "escape="

/* The text of a format's line, which may be in several words, in one; malloc()ed, NULL: no memory. */
static char *
joined(const char *const *argv, uint32_t argc)
{
	size_t n = 1;
	char *text, *p;

	for (uint32_t i = 0; i < argc; i++)
		n += strlen(argv[i]);
	p = text = malloc(n);
	for (uint32_t i = 0; text && i < argc; i++)
		p = stpcpy(p, argv[i]);
	if (text)
		*p = 0;
	return text;
}

/* Behind the name: how to escape, if it is said; how many words that was, or -EINVAL. */
static int
escape_of(const char *const *argv, uint32_t argc, int *ret_json, char *msg, size_t msgsize)
{
	*ret_json = 0;
	if (!argc || strncmp(argv[0], ESCAPE, sizeof(ESCAPE) - 1) != 0)
		return 0;
	const char *how = argv[0] + sizeof(ESCAPE) - 1;
	*ret_json = !strcmp(how, "json");
	if (*ret_json || !strcmp(how, "default"))
		return 1;
	if (!strcmp(how, "none"))
		snprintf(msg, msgsize,
			 "escape=none would let clients forge lines, expected escape=default or escape=json");
	else
		snprintf(msg, msgsize, "\"escape=%.40s\" is not known, expected escape=default or escape=json", how);
	return -EINVAL;
}

int
lc__log_format_line(const char *const *argv, uint32_t argc, char *msg, size_t msgsize)
{
	int json, skip, r;

	if (!*argv[0] || strlen(argv[0]) > LC_LOGFMT_NAME || argv[0][strspn(argv[0], NAME_CHARS)]) {
		snprintf(msg, msgsize, "\"%.80s\" is no name, expected letters, digits, \"_\", \"-\" and \".\"",
			 argv[0]);
		return -EINVAL;
	}
	if (lc_logfmt_builtin(argv[0], &json)) {
		snprintf(msg, msgsize, "\"%s\" is a format that is there already, expected another name", argv[0]);
		return -EINVAL;
	}
	skip = escape_of(argv + 1, argc - 1, &json, msg, msgsize);
	if (skip < 0)
		return skip;
	if (argc < 2 + (uint32_t)skip) {
		snprintf(msg, msgsize, "there is no text, expected: log_format NAME [escape=default | json] 'TEXT';");
		return -EINVAL;
	}
	char *text = joined(argv + 1 + skip, argc - 1 - (uint32_t)skip);
	if (!text) {
		snprintf(msg, msgsize, "no memory");
		return -ENOMEM;
	}
	r = lc_logfmt_parse(NULL, text, json, msg, msgsize);
	free(text);
	return r;
}

int
lc__access_log_line(const char *const *argv, uint32_t argc, char *msg, size_t msgsize)
{
	if (!*argv[0]) {
		snprintf(msg, msgsize, "the path is empty, expected a path, - or off");
		return -EINVAL;
	}
	if (argc == 2 && !strcmp(argv[0], "off")) {
		snprintf(msg, msgsize, "there is a format behind off, expected: access_log off;");
		return -EINVAL;
	}
	return 0;
}

/* The line that begins at word `at` of a LINES member; the next one's begin, or 0: there was none. */
static uint64_t
line_at(const struct lc_list *l, uint64_t at, uint32_t *ret_n)
{
	uint32_t n = 0;

	if (at >= l->n)
		return 0;
	while (l->v[at + n])
		n++;
	*ret_n = n;
	return at + n + 1;
}

int
lc_conf_log_format(const struct lc_conf_main *m, const char *name, char **ret_text, int *ret_json)
{
	const char *text = lc_logfmt_builtin(name, ret_json);
	uint32_t n;

	*ret_text = NULL;
	if (text)
		*ret_text = strdup(text);
	for (uint64_t at = 0, next; !text && (next = line_at(&m->log_format, at, &n)); at = next) {
		const char *const *v = m->log_format.v + at;
		if (strcmp(v[0], name) != 0)
			continue;
		int skip = escape_of(v + 1, n - 1, ret_json, NULL, 0);
		*ret_text = joined(v + 1 + skip, n - 1 - (uint32_t)skip);
		text = v[0];
	}
	return *ret_text ? 0 : text ? -ENOMEM : -ENOENT;
}

int
lc_conf_access_log(const struct lc_conf_pool *p, uint32_t i, struct lc_conf_access *ret)
{
	uint64_t at = 0, next;
	uint32_t n = 0;

	for (; (next = line_at(&p->access_log, at, &n)); at = next) {
		const char *const *v = p->access_log.v + at;
		if (!strcmp(v[0], "off") || i--)
			continue;
		*ret = (struct lc_conf_access){v[0], n > 1 ? v[1] : "combined"};
		return 1;
	}
	return 0;
}

static const struct lc__org *
origin_of(struct lc__load *ld, const struct lc__blk *b, uint32_t set, const char *row)
{
	for (uint32_t i = 0; i < ld->conf->sets[set].nrows; i++)
		if (!strcmp(ld->conf->sets[set].rows[i].name, row))
			return &b->vals[set].org[i];
	return NULL;
}

static void
no_format(struct lc__load *ld, const struct lc__org *org, const struct lc_conf_main *m, const struct lc_conf_access *l)
{
	static const char *const builtins[] = {"combined", "common", "json"};
	unsigned best = strlen(l->format) < 6 ? 2 : 3;
	const char *near = NULL;
	uint32_t n;

	for (size_t k = 0; k < sizeof(builtins) / sizeof(builtins[0]); k++)
		if (lc_distance(l->format, strlen(l->format), builtins[k], best - 1) < best) {
			best = lc_distance(l->format, strlen(l->format), builtins[k], best - 1);
			near = builtins[k];
		}
	for (uint64_t at = 0, next; (next = line_at(&m->log_format, at, &n)); at = next)
		if (lc_distance(l->format, strlen(l->format), m->log_format.v[at], best - 1) < best) {
			best = lc_distance(l->format, strlen(l->format), m->log_format.v[at], best - 1);
			near = m->log_format.v[at];
		}
	if (near)
		lc_err_add(ld->err, org->file, org->line, "access_log: there is no format \"%s\", did you mean \"%s\"?",
			   lc__shown(ld, l->format), near);
	else
		lc_err_add(
		    ld->err, org->file, org->line,
		    "access_log: there is no format \"%s\", expected combined, common, json, or one that log_format "
		    "defines",
		    lc__shown(ld, l->format));
}

/* Once for the main level and for each pool. */
void
lc__check_logs(struct lc__load *ld, const struct lc__blk *b)
{
	const struct lc_conf_main *m = (const void *)ld->conf->root->vals[0].conf;
	const struct lc_conf_pool *p = (const void *)b->vals[1].conf;
	const struct lc__org *org = origin_of(ld, b, 1, "access_log");
	struct lc_conf_access l;
	uint32_t n = 0, off = 0, count = 0;
	int json;

	if (b->pub.kind == LC_C_MAIN) {
		const struct lc__org *where = origin_of(ld, b, 0, "log_format");
		for (uint64_t at = 0, next; (next = line_at(&m->log_format, at, &n)); at = next)
			for (uint64_t o = 0; o < at; o = line_at(&m->log_format, o, &n))
				if (!strcmp(m->log_format.v[at], m->log_format.v[o]))
					lc_err_add(ld->err, where->file, where->line,
						   "log_format: \"%s\" is there twice, expected another name",
						   lc__shown(ld, m->log_format.v[at]));
	}
	for (uint64_t at = 0, next; (next = line_at(&p->access_log, at, &n)); at = next) {
		off |= !strcmp(p->access_log.v[at], "off");
		count++;
	}
	if (off && count > 1)
		lc_err_add(ld->err, org->file, org->line, "access_log: off beside others, expected either");
	if (count > LOGS_MAX)
		lc_err_add(ld->err, org->file, org->line, "access_log: %u of them, expected at most %u", count,
			   LOGS_MAX);
	for (uint32_t i = 0; lc_conf_access_log(p, i, &l); i++) {
		char *text = NULL;
		if (lc_conf_log_format(m, l.format, &text, &json) == -ENOENT)
			no_format(ld, org, m, &l);
		free(text);
	}
}
