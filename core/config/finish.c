/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/finish.c - blocks to finished structs: defaults, inheritance, what is required, the modules' checks.
 *
 * A block in which nothing of a set was written shares its parent's struct.  A list that is written in a block
 * replaces the inherited one.
 */
#include "config/conf_priv.h"

#include <licorne/module.h>
#include <stdio.h>
#include <string.h>

static void
inherit(struct lc__load *ld, struct lc__blk *b)
{
	struct lc_conf *conf = ld->conf;
	const struct lc__blk *up = b->pub.parent ? b->pub.parent->priv : NULL;

	for (uint32_t s = 0; s < conf->nsets; s++) {
		const struct lc__set *set = &conf->sets[s];
		struct lc__vals *v = &b->vals[s];
		if (up && !v->conf) {
			*v = up->vals[s];
			continue;
		}
		if (!v->conf) {
			v->conf = lc__alloc(&conf->arena, set->ds->conf_size + 1);
			v->org = lc__alloc(&conf->arena, (set->nrows + 1) * sizeof(*v->org));
		}
		for (uint32_t i = 0; i < set->nrows; i++) {
			const struct lc_directive *row = &set->rows[i];
			struct lc__org *org = &v->org[i];
			if (org->from == LC__HERE)
				continue;
			memcpy(v->conf + row->offset, (up ? up->vals[s].conf : set->defaults) + row->offset,
			       lc__value_size(row->type));
			if (up)
				*org = up->vals[s].org[i];
			else
				org->from = row->def ? LC__DEFAULT : LC__UNSET;
			if (org->from == LC__HERE)
				org->from = LC__INHERITED;
		}
	}
	for (struct lc_block *c = b->pub.child; c; c = c->next)
		inherit(ld, c->priv);
}

static void
first_absolute(struct lc_conf *conf, struct lc_list *l)
{
	const char **v = lc__alloc(&conf->arena, l->n * sizeof(*v));

	memcpy(v, l->v, l->n * sizeof(*v));
	v[0] = lc__path_join(&conf->arena, conf->prefix, v[0]);
	l->v = v;
}

/* Paths in the core's own structs that the row's type does not make absolute. */
static void
core_paths(struct lc_conf *conf)
{
	struct lc_conf_main *m = (struct lc_conf_main *)(void *)conf->root->vals[0].conf;

	if (m->error_log.n && strcmp(m->error_log.v[0], "stderr"))
		first_absolute(conf, &m->error_log);
	if (m->control_socket.n && *m->control_socket.v[0])
		first_absolute(conf, &m->control_socket);
}

/* Does the set take effect in this block?  (See struct lc_dirset.check.) */
static int
takes_effect(const struct lc__set *set, const struct lc__blk *b)
{
	uint32_t leaves = set->contexts & (LC_C_LISTEN | LC_C_WORKER | LC_C_ROUTE);

	if (leaves)
		return (leaves & b->pub.kind) && lc__set_is_here(set, b);
	return b->pub.kind == (set->contexts & LC_C_POOL ? LC_C_POOL : LC_C_MAIN);
}

static const char *
title(struct lc__load *ld, const struct lc__blk *b)
{
	if (b->pub.kind == LC_C_MAIN)
		return "the configuration";
	return lc__printf(&ld->conf->arena, "%s %s", lc__kind_name(b->pub.kind), lc__shown(ld, b->pub.name));
}

static void
demand(struct lc__load *ld, const struct lc__blk *b)
{
	if (ld->unbalanced || b->bad)
		return;
	if (b->pub.kind == LC_C_MAIN && !b->counts[1])
		lc_err_add(ld->err, ld->end_file, ld->end_line,
			   "there is no pool, expected: pool NAME { listen ADDRESS; worker MODULE { ... } }");
	if (b->pub.kind != LC_C_POOL)
		return;
	if (!b->counts[2])
		lc_err_add(ld->err, b->pub.file, b->pub.line, "pool %s has no address, expected in it: listen ADDRESS;",
			   lc__shown(ld, b->pub.name));
	if (!b->counts[3])
		lc_err_add(ld->err, b->pub.file, b->pub.line,
			   "pool %s has no worker, expected in it: worker MODULE { ... }", lc__shown(ld, b->pub.name));
}

/* The names in `protocols` are loaded protocol modules, each once; there is one at all. */
static void
protocols(struct lc__load *ld, const struct lc__blk *b)
{
	const struct lc_conf *conf = ld->conf;
	const struct lc_conf_pool *p = (const void *)b->vals[1].conf;
	const struct lc__org *org = NULL;
	uint32_t can = 0;
	const char *one;

	if (conf->opaque || b->bad)
		return;
	for (uint32_t i = 0; i < conf->sets[1].nrows; i++)
		if (!strcmp(conf->sets[1].rows[i].name, "protocols"))
			org = &b->vals[1].org[i];
	for (uint32_t s = 0; s < conf->nsets; s++)
		can += conf->sets[s].stmt &&
		       (!conf->sets[s].ds->kinds || (conf->sets[s].ds->kinds & 1u << LC_KIND_PROTOCOL));
	if (!can && !ld->failed && !p->protocols.n) {
		one = ld->opts->speaks ? ld->opts->speaks(ld->opts->arg) : NULL;
		lc_err_add(ld->err, b->pub.file, b->pub.line,
			   "pool %s has no protocol to speak, expected at the main level: load_module %s;",
			   lc__shown(ld, b->pub.name), one ? one : "PROTOCOL");
	}
	for (uint64_t i = 0; i < p->protocols.n; i++) {
		const char *name = p->protocols.v[i];
		const struct lc__set *set = NULL;
		int failed = 0, twice = 0;
		for (uint32_t s = 0; s < conf->nsets; s++)
			if (conf->sets[s].stmt && !strcmp(conf->sets[s].ds->owner, name))
				set = &conf->sets[s];
		for (const struct lc__stmt *f = ld->failed; f; f = f->child)
			failed |= !strcmp(f->name, name);
		for (uint64_t j = 0; j < i; j++)
			twice |= !strcmp(p->protocols.v[j], name);
		if (failed)
			continue;
		if (twice)
			lc_err_add(ld->err, org->file, org->line, "protocols: \"%s\" is there twice, expected once",
				   lc__shown(ld, name));
		else if (!set)
			lc_err_add(ld->err, org->file, org->line,
				   "protocols: no module \"%s\" is loaded, expected at the main level: load_module %s;",
				   lc__shown(ld, name), lc__shown(ld, name));
		else if (set->ds->kinds && !(set->ds->kinds & 1u << LC_KIND_PROTOCOL))
			lc_err_add(ld->err, org->file, org->line,
				   "protocols: module \"%s\" offers no protocol, expected one that does",
				   lc__shown(ld, name));
	}
}

static void
required(struct lc__load *ld, const struct lc__blk *b, uint32_t s)
{
	const struct lc__set *set = &ld->conf->sets[s];
	char where[128];

	if (ld->unbalanced || b->bad)
		return;
	for (uint32_t i = 0; i < set->nrows; i++) {
		const struct lc_directive *row = &set->rows[i];
		if (!(row->flags & LC_D_REQUIRED) || b->vals[s].org[i].from != LC__UNSET)
			continue;
		/* a row that may only stand in other kinds of block than this leaf is not demanded here */
		if (b->pub.kind != LC_C_MAIN && !(row->context & b->pub.kind) &&
		    !(row->context & (LC_C_MAIN | LC_C_POOL)))
			continue;
		lc_err_add(ld->err, b->pub.file, b->pub.line, "%s has no \"%s\", expected %s: %s %s;", title(ld, b),
			   row->name, lc__contexts(where, sizeof(where), row->context), row->name,
			   row->args ? row->args : "...");
	}
}

static void
check(struct lc__load *ld, const struct lc__blk *b)
{
	struct lc_conf *conf = ld->conf;

	demand(ld, b);
	if ((b->pub.kind & (LC_C_MAIN | LC_C_POOL)) && !b->bad)
		lc__check_logs(ld, b);
	if (b->pub.kind == LC_C_POOL)
		protocols(ld, b);
	for (uint32_t s = 0; s < conf->nsets; s++) {
		const struct lc__set *set = &conf->sets[s];
		if (!takes_effect(set, b))
			continue;
		uint32_t before = lc_err_count(ld->err);
		required(ld, b, s);
		/* what could not be read holds no value to check */
		if (!set->ds->check || lc_err_count(ld->err) != before || (ld->errors && set->stmt))
			continue;
		lc__err_about(ld->err, b, set, b->vals[s].org);
		int r = set->ds->check(b->vals[s].conf, ld->err);
		lc__err_about(ld->err, NULL, NULL, NULL);
		if (r < 0 && lc_err_count(ld->err) == before)
			lc_err_add(ld->err, b->pub.file, b->pub.line,
				   "module \"%s\" refuses %s (%s), expected it to say why", set->ds->owner,
				   title(ld, b), strerror(-r));
	}
	for (const struct lc_block *c = b->pub.child; c; c = c->next)
		check(ld, c->priv);
}

void
lc__finish(struct lc__load *ld)
{
	inherit(ld, ld->conf->root);
	core_paths(ld->conf);
	check(ld, ld->conf->root);
}
