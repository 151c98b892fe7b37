/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/files.c - files that directives name and the arbiter reads for the workers (LC_D_FILE).
 *
 * The checker, which has the modules loaded, lists them per pool; the arbiter opens them with its own rights and passes
 * the contents, sealed; in a worker they are given to us before the configuration is parsed, and modules ask for them
 * by the path that their struct has.
 */
#include "config/conf_priv.h"

#include <errno.h>
#include <string.h>

static struct {
	const char *path;
	const void *data;
	size_t n;
} given[LC_CONF_FILES];
static uint32_t ngiven;

static int
values(const struct lc__set *set, const struct lc__vals *v, lc_conf_file_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < set->nrows; i++) {
		const struct lc_directive *row = &set->rows[i];
		const void *member = v->conf + row->offset;
		const struct lc__org *org = &v->org[i];
		const struct lc_list *l = member;
		int r = 0;

		if (!(row->flags & LC_D_FILE))
			continue;
		if (row->type == LC_T_PATH && *(const char *const *)member)
			r = fn(arg, *(const char *const *)member, row->name, org->file, org->line);
		for (uint64_t k = 0; row->type == LC_T_LIST && r >= 0 && k < l->n; k++)
			r = fn(arg, l->v[k], row->name, org->file, org->line);
		if (r < 0)
			return r;
	}
	return 0;
}

int
lc_conf_files(const struct lc_conf *conf, const struct lc_block *b, lc_conf_file_fn *fn, void *arg)
{
	const struct lc__blk *blk = b->priv;
	int r = 0;

	for (uint32_t s = 0; r >= 0 && s < conf->nsets; s++)
		if (lc__set_is_here(&conf->sets[s], blk))
			r = values(&conf->sets[s], &blk->vals[s], fn, arg);
	for (const struct lc_block *c = b->child; r >= 0 && c; c = c->next)
		r = lc_conf_files(conf, c, fn, arg);
	return r;
}

int
lc_conf_file_give(const char *path, const void *data, size_t n)
{
	if (ngiven == LC_CONF_FILES)
		return -ENOSPC;
	given[ngiven].path = path;
	given[ngiven].data = data;
	given[ngiven++].n = n;
	return 0;
}

/* struct lc_config_api.file */
int
lc__file_content(const char *path, struct lc_str *ret)
{
	for (uint32_t i = 0; path && i < ngiven; i++)
		if (!strcmp(given[i].path, path)) {
			*ret = (struct lc_str){given[i].data, given[i].n};
			return 0;
		}
	*ret = (struct lc_str){NULL, 0};
	return -ENOENT;
}
