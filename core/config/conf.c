/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/conf.c - reads a configuration from beginning to end, and hands out what is in it.
 */
#include "config/conf_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* path's folder, or path itself when it is one; absolute, so that a chdir() later changes nothing. */
static const char *
absolute(struct lc__arena *a, const char *path, int folder_of)
{
	char cwd[4096];
	const char *slash = strrchr(path, '/');

	if (folder_of)
		path = slash ? lc__strndup(a, path, slash == path ? 1 : (size_t)(slash - path)) : "";
	if (*path == '/')
		return lc__strdup(a, path);
	if (!getcwd(cwd, sizeof(cwd)))
		return lc__strdup(a, *path ? path : ".");
	return *path ? lc__path_join(a, cwd, path) : lc__strdup(a, cwd);
}

static int
load(struct lc_conf **ret, const char *path, const char *text, size_t n, const char *name,
     const struct lc_conf_opts *opts, struct lc_err *err)
{
	static const struct lc_conf_opts none = {0};
	struct lc__load *ld = calloc(1, sizeof(*ld));
	struct lc_conf *conf = calloc(1, sizeof(*conf));
	uint32_t before = lc_err_count(err);
	int r = 0;

	if (!ld || !conf) {
		free(ld);
		free(conf);
		lc_err_add(err, name, 0, "out of memory");
		return -ENOMEM;
	}
	ld->conf = conf;
	ld->opts = opts ? opts : &none;
	ld->err = err;
	ld->fd = -1;
	ld->is_text = !path;
	ld->end_file = name;
	conf->arena.oom = &ld->oom;
	conf->opaque = ld->opts->opaque;
	if (setjmp(ld->oom)) {
		if (ld->fd >= 0)
			close(ld->fd);
		if (ld->have_glob)
			globfree(&ld->glob);
		free(ld);
		lc_err_add(err, name, 0, "out of memory");
		lc_conf_free(conf);
		return -ENOMEM;
	}
	conf->name = lc__strdup(&conf->arena, name);
	conf->prefix = ld->opts->prefix ? absolute(&conf->arena, ld->opts->prefix, 0)
		       : path           ? absolute(&conf->arena, path, 1)
					: absolute(&conf->arena, "", 0);
	if (ld->opts->globals)
		r = lc__parse_text(ld, ld->opts->globals, strlen(ld->opts->globals), "command line", &conf->stmts);
	if (r == 0)
		r = path ? lc__parse_file(ld, path, &conf->stmts) : lc__parse_text(ld, text, n, name, &conf->stmts);
	if (r == 0 && !ld->limit) {
		lc__build(ld);
		ld->errors = lc_err_count(err) != before;
		if (!ld->limit)
			lc__finish(ld);
	}
	free(ld);
	if (lc_err_count(err) != before) {
		lc_err_sort(err);
		lc_conf_free(conf);
		return r ? r : -EINVAL;
	}
	conf->arena.oom = NULL;
	*ret = conf;
	return 0;
}

int
lc_conf_load(struct lc_conf **ret, const char *path, const struct lc_conf_opts *opts, struct lc_err *err)
{
	return load(ret, path, NULL, 0, path, opts, err);
}

int
lc_conf_parse(struct lc_conf **ret, const char *text, size_t n, const char *name, const struct lc_conf_opts *opts,
	      struct lc_err *err)
{
	return load(ret, NULL, text, n, name, opts, err);
}

void
lc_conf_free(struct lc_conf *conf)
{
	if (!conf)
		return;
	lc__arena_free(&conf->arena);
	free(conf);
}

const char *
lc_conf_prefix(const struct lc_conf *conf)
{
	return conf->prefix;
}

const struct lc_block *
lc_conf_main_block(const struct lc_conf *conf)
{
	return &conf->root->pub;
}

const void *
lc_conf_get(const struct lc_conf *conf, const struct lc_block *block, const struct lc_dirset *ds)
{
	const struct lc__blk *b = block->priv;

	for (uint32_t s = 0; s < conf->nsets; s++)
		if (conf->sets[s].ds == ds)
			return b->vals[s].conf;
	return NULL;
}

int
lc_conf_where(const struct lc_conf *conf, const struct lc_block *block, const struct lc_dirset *ds,
	      const char *directive, struct lc_conf_place *ret)
{
	const struct lc__blk *b = block->priv, *up = block->parent ? block->parent->priv : NULL;

	*ret = (struct lc_conf_place){NULL, 0};
	for (uint32_t s = 0; s < conf->nsets; s++)
		for (uint32_t i = 0; conf->sets[s].ds == ds && i < conf->sets[s].nrows; i++) {
			const struct lc__org *org = b->vals[s].org;
			if (strcmp(conf->sets[s].rows[i].name, directive) != 0)
				continue;
			*ret = (struct lc_conf_place){org[i].file, org[i].line};
			/* a block in which nothing was written has its parent's values */
			return org[i].from == LC__HERE && (!up || org != up->vals[s].org);
		}
	return 0;
}

int
lc_conf_ask(const struct lc_conf *conf, const struct lc_block *block, const struct lc_dirset *ds,
	    int (*check)(const void *, struct lc_err *), struct lc_err *err)
{
	const struct lc__blk *b = block->priv;
	int r = 0;

	for (uint32_t s = 0; s < conf->nsets; s++) {
		if (conf->sets[s].ds != ds)
			continue;
		lc__err_about(err, b, &conf->sets[s], b->vals[s].org);
		r = check(b->vals[s].conf, err);
		lc__err_about(err, NULL, NULL, NULL);
	}
	return r;
}

void
lc_conf_unused(struct lc_conf *conf, const struct lc_block *block, const struct lc_dirset *ds)
{
	struct lc__blk *b = block->priv;

	for (uint32_t s = 0; s < conf->nsets; s++)
		if (conf->sets[s].ds == ds)
			b->unused |= UINT64_C(1) << s;
}

const struct lc_block *
lc_conf_next(const struct lc_block *parent, uint32_t kind, const struct lc_block *after)
{
	const struct lc_block *b = after ? after->next : parent->child;

	while (b && b->kind != kind)
		b = b->next;
	return b;
}
