/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/dump.c - a configuration back to text: as it was read (for workers), and as it holds (-T).
 *
 * Both texts parse again to the same result; secrets are masked in the second.
 */
#include "config/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- as it was read ---- */

struct text {
	struct lc__buf b;
	const char *file;
	uint32_t line; /* position that the parser will give to what is written next */
};

/* A file name in a comment or a mark: what would end the line is replaced. */
static void
file_name(struct lc__buf *b, const char *file)
{
	for (const char *p = file; *p; p++)
		lc__buf_add(b, (unsigned char)*p < 0x20 || *p == 0x7f ? "?" : p, 1);
}

static void
text_mark(struct text *t, const char *file, uint32_t line)
{
	if (t->file && t->line == line && !strcmp(t->file, file))
		return;
	lc__buf_printf(&t->b, "#line %u \"", line);
	for (const char *p = file; *p; p++) {
		if (*p == '"' || *p == '\\')
			lc__buf_add(&t->b, "\\", 1);
		lc__buf_add(&t->b, (unsigned char)*p < 0x20 || *p == 0x7f ? "?" : p, 1);
	}
	lc__buf_add(&t->b, "\"\n", 2);
	t->file = file;
	t->line = line;
}

static void
text_stmt(struct text *t, const struct lc__stmt *st)
{
	text_mark(t, st->file, st->line);
	lc__buf_word(&t->b, st->name);
	for (uint32_t i = 0; i < st->nargs; i++) {
		lc__buf_add(&t->b, " ", 1);
		lc__buf_word(&t->b, st->args[i]);
	}
	lc__buf_add(&t->b, st->has_block ? " {\n" : ";\n", st->has_block ? 3 : 2);
	t->line++;
	if (!st->has_block)
		return;
	for (const struct lc__stmt *c = st->child; c; c = c->next)
		text_stmt(t, c);
	lc__buf_add(&t->b, "}\n", 2);
	t->line++;
}

/* Is the word the module of a worker or route block, or among the protocols, of this pool? */
static int
pool_uses(const struct lc__stmt *pool, const char *module)
{
	for (const struct lc__stmt *c = pool->child; c; c = c->next) {
		uint32_t first = !strcmp(c->name, "route") ? 1 : 0;
		if (strcmp(c->name, "worker") && strcmp(c->name, "route") && strcmp(c->name, "protocols") &&
		    strcmp(c->name, "listen"))
			continue;
		for (uint32_t i = first; i < c->nargs; i++)
			if (!strcmp(c->args[i], module))
				return 1;
	}
	return 0;
}

static int
is_core_name(const char *name)
{
	const struct lc_dirset *sets[] = {&lc_core_syntax, &lc_core_main, &lc_core_pool};

	for (size_t s = 0; s < 3; s++)
		for (uint32_t i = 0; i < sets[s]->nrows; i++)
			if (!strcmp(sets[s]->rows[i].name, name))
				return 1;
	return 0;
}

/* May a pool's text do without this module?  Only when it is the worker of other pools alone, and nothing outside
 * worker and route blocks could be a directive of it. */
static int
module_is_foreign(const struct lc_conf *conf, const struct lc__stmt *pool, const char *module)
{
	int elsewhere = 0;

	if (pool_uses(pool, module))
		return 0;
	for (const struct lc__stmt *st = conf->stmts; st; st = st->next) {
		if (!is_core_name(st->name))
			return 0;
		for (const struct lc__stmt *c = strcmp(st->name, "pool") ? NULL : st->child; c; c = c->next) {
			if (st == pool && !is_core_name(c->name))
				return 0;
			elsewhere |= !strcmp(c->name, "worker") && c->nargs && !strcmp(c->args[0], module);
		}
	}
	return elsewhere;
}

char *
lc_conf_text(const struct lc_conf *conf, const struct lc_block *pool, size_t *ret_n)
{
	const struct lc__stmt *only = pool ? ((const struct lc__blk *)pool->priv)->stmt : NULL;
	struct text t = {0};

	for (const struct lc__stmt *st = conf->stmts; st; st = st->next) {
		if (only && st != only && !strcmp(st->name, "pool"))
			continue;
		if (only && !strcmp(st->name, "load_module") && st->nargs == 1 &&
		    module_is_foreign(conf, only, st->args[0]))
			continue;
		text_stmt(&t, st);
	}
	return lc__buf_end(&t.b, ret_n);
}

/* ---- as it holds ---- */

struct dump {
	struct lc__buf b;
	const struct lc_conf *conf;
	int depth;
};

static void
indent(struct dump *d)
{
	for (int i = 0; i < d->depth; i++)
		lc__buf_add(&d->b, "\t", 1);
}

static void
origin(struct dump *d, const struct lc__org *org, const struct lc_directive *row)
{
	const char *masked = row->flags & LC_D_SECRET ? ", masked" : "";

	if (org->from != LC__HERE && org->from != LC__INHERITED) {
		lc__buf_printf(&d->b, "  # default%s\n", masked);
		return;
	}
	lc__buf_printf(&d->b, "  # %s", org->from == LC__INHERITED ? "inherited from " : "");
	file_name(&d->b, org->file);
	lc__buf_printf(&d->b, ":%u%s\n", org->line, masked);
}

static void
word(struct dump *d, const struct lc_directive *row, const char *text, int secret)
{
	lc__buf_add(&d->b, " ", 1);
	lc__buf_word(&d->b, secret && (row->flags & LC_D_SECRET) ? "********" : text);
}

static void
value(struct dump *d, const struct lc_directive *row, const void *member)
{
	const struct lc_msec2 *m2 = member;
	const struct lc_list *l = member;
	uint64_t u = 0;
	char buf[64];

	switch (row->type) {
	case LC_T_FLAG:
		word(d, row, *(const uint8_t *)member ? "on" : "off", 1);
		return;
	case LC_T_STR:
	case LC_T_PATH:
		word(d, row, *(const char *const *)member, 1);
		return;
	case LC_T_MSEC2:
		lc__msec_print(buf, sizeof(buf), m2->min);
		word(d, row, buf, 1);
		lc__msec_print(buf, sizeof(buf), m2->max);
		word(d, row, buf, 1);
		return;
	case LC_T_LIST:
	case LC_T_CUSTOM:
		for (uint64_t i = 0; i < l->n; i++)
			word(d, row, l->v[i], 1);
		return;
	default:
		u = *(const uint64_t *)member;
	}
	switch (row->type) {
	case LC_T_SIZE:
		lc__size_print(buf, sizeof(buf), u);
		break;
	case LC_T_MSEC:
		lc__msec_print(buf, sizeof(buf), u);
		break;
	case LC_T_ENUM:
		snprintf(buf, sizeof(buf), "%llu", (unsigned long long)u);
		for (const struct lc_enum *e = row->aux; e->name; e++)
			if (e->value == u) {
				word(d, row, e->name, 1);
				return;
			}
		break;
	default:
		snprintf(buf, sizeof(buf), row->flags & LC_D_OCTAL ? "%04llo" : "%llu", (unsigned long long)u);
	}
	word(d, row, buf, 1);
}

static int
is_absent(const struct lc_directive *row, const void *member)
{
	switch (row->type) {
	case LC_T_STR:
	case LC_T_PATH:
		return !*(const char *const *)member;
	case LC_T_LIST:
	case LC_T_PAIRS:
	case LC_T_CUSTOM:
	case LC_T_LINES:
		return !((const struct lc_list *)member)->n;
	default:
		return 0;
	}
}

/* The caller has written the indentation of the first line, and whose they are. */
static void
dump_lines(struct dump *d, const struct lc_directive *row, const struct lc_list *l, const struct lc__org *org,
	   const char *owner)
{
	for (uint64_t i = 0; i < l->n; i++) {
		if (i) {
			indent(d);
			if (owner)
				lc__buf_printf(&d->b, "# module %s: ", owner);
		}
		lc__buf_printf(&d->b, "%s", row->name);
		for (; l->v[i]; i++)
			word(d, row, l->v[i], 1);
		lc__buf_add(&d->b, ";", 1);
		origin(d, org, row);
	}
}

/* Sets that share a name read the same line: what one has by default must not be written where the other would see it.
 */
static int
is_shared(const struct dump *d, const struct lc__blk *b, uint32_t s, const struct lc_directive *row,
	  uint32_t *ret_first)
{
	uint32_t count = 0;

	*ret_first = s;
	for (uint32_t o = 0; o < d->conf->nsets; o++)
		for (uint32_t i = 0; i < d->conf->sets[o].nrows; i++) {
			const struct lc_directive *other = &d->conf->sets[o].rows[i];
			if (strcmp(other->name, row->name) || !(other->context & b->pub.kind) ||
			    !lc__set_is_here(&d->conf->sets[o], b))
				continue;
			if (count++ == 0)
				*ret_first = o;
		}
	return count > 1;
}

static void
dump_row(struct dump *d, const struct lc__blk *b, uint32_t s, uint32_t i)
{
	const struct lc__set *set = &d->conf->sets[s];
	const struct lc_directive *row = &set->rows[i];
	const struct lc__org *org = &b->vals[s].org[i];
	const unsigned char *member = b->vals[s].conf + row->offset;
	struct lc__org shown = *org;
	uint32_t first;
	int shared;

	/* the struct may be the parent's own */
	if (b->pub.parent && org->from == LC__HERE &&
	    &((const struct lc__blk *)b->pub.parent->priv)->vals[s].org[i] == org)
		shown.from = LC__INHERITED;
	shared = is_shared(d, b, s, row, &first);
	if (shared && shown.from == LC__HERE && first != s)
		return;
	indent(d);
	if (is_absent(row, member)) {
		lc__buf_printf(&d->b, "# %s: not set\n", row->name);
		return;
	}
	if (shared && shown.from != LC__HERE)
		lc__buf_printf(&d->b, "# module %s: ", set->ds->owner);
	if (row->type == LC_T_PAIRS) {
		const struct lc_list *l = (const void *)member;
		for (uint64_t k = 0; k + 1 < l->n; k += 2) {
			if (k) {
				indent(d);
				if (shared && shown.from != LC__HERE)
					lc__buf_printf(&d->b, "# module %s: ", set->ds->owner);
			}
			lc__buf_printf(&d->b, "%s", row->name);
			word(d, row, l->v[k], 0);
			word(d, row, l->v[k + 1], 1);
			lc__buf_add(&d->b, ";", 1);
			origin(d, &shown, row);
		}
		return;
	}
	if (row->type == LC_T_LINES) {
		dump_lines(d, row, (const void *)member, &shown,
			   shared && shown.from != LC__HERE ? set->ds->owner : NULL);
		return;
	}
	lc__buf_printf(&d->b, "%s", row->name);
	value(d, row, member);
	lc__buf_add(&d->b, ";", 1);
	origin(d, &shown, row);
}

static void
dump_block(struct dump *d, const struct lc__blk *b)
{
	if (b->stmt) {
		indent(d);
		lc__buf_printf(&d->b, "%s ", lc__kind_name(b->pub.kind));
		lc__buf_word(&d->b, b->pub.name);
		for (uint32_t i = 0; i < b->pub.nargs; i++)
			word(d, &(struct lc_directive){0}, b->pub.args[i], 0);
		lc__buf_printf(&d->b, " {  # ");
		file_name(&d->b, b->pub.file);
		lc__buf_printf(&d->b, ":%u\n", b->pub.line);
		d->depth++;
	} else {
		for (uint32_t s = 0; s < d->conf->nsets; s++)
			if (d->conf->sets[s].stmt) {
				const struct lc__stmt *st = d->conf->sets[s].stmt;
				lc__buf_add(&d->b, "load_module", 11);
				word(d, &(struct lc_directive){0}, st->args[0], 0);
				lc__buf_printf(&d->b, ";  # ");
				file_name(&d->b, st->file);
				lc__buf_printf(&d->b, ":%u\n", st->line);
			}
	}
	for (uint32_t s = 0; s < d->conf->nsets; s++)
		for (uint32_t i = 0; i < d->conf->sets[s].nrows && lc__set_is_here(&d->conf->sets[s], b); i++)
			if ((d->conf->sets[s].rows[i].context & b->pub.kind) && !(b->unused >> s & 1))
				dump_row(d, b, s, i);
	for (const struct lc_block *c = b->pub.child; c; c = c->next)
		dump_block(d, c->priv);
	if (b->stmt) {
		d->depth--;
		indent(d);
		lc__buf_add(&d->b, "}\n", 2);
	}
}

char *
lc_conf_dump(const struct lc_conf *conf)
{
	struct dump d = {.conf = conf};

	lc__buf_printf(&d.b, "# The configuration as it holds; each value with the line that set it.\n");
	dump_block(&d, conf->root);
	return lc__buf_end(&d.b, NULL);
}
