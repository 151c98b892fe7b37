/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/checker.c - the short-lived role that checks a whole configuration with its modules loaded.
 *
 * Arguments (after "--role checker"): --file PATH, or --name NAME and the text on fd 3; --prefix P, --globals TEXT,
 * --dump to print the effective configuration, --files to print which files the arbiter is to read (files.c).  Mistakes
 * go to standard error, all of them; the exit status says whether there were any.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <licorne/transport.h>

#include "arbiter/arbiter.h"
#include "config/conf.h"
#include "log/log.h"
#include "module/loader.h"
#include "net/server.h"
#include "worker/zygote.h"

static const char *
row_name(const struct lc_dirset *ds, uint32_t i)
{
	return ((const struct lc_directive *)(const void *)((const char *)ds->rows + (size_t)i * ds->stride))->name;
}

/* Directives of a transport that the listener does not have are written for nothing. */
static void
check_idle(struct lc_conf *conf, const struct lc_block *b, const struct lc_mod *m, struct lc_err *err)
{
	const struct lc_transport *ops = lc_mod_iface(m, LC_KIND_TRANSPORT, LC_TRANSPORT_VERSION);
	const struct lc_dirset *ds = &m->dirset;
	struct lc_conf_place at;

	if (!ops || ds->kinds != 1u << LC_KIND_TRANSPORT)
		return;
	/* `NAME off;` turns off what is on further up, and the others may stay beside it */
	if (ops->wanted && lc_conf_where(conf, b, ds, m->desc.name, &at))
		return;
	for (uint32_t i = 0; i < ds->nrows; i++)
		if (lc_conf_where(conf, b, ds, row_name(ds, i), &at))
			lc_err_add(err, at.file, at.line,
				   "\"%s\" has no effect at an address without %s, expected: listen %s %s { ... }",
				   row_name(ds, i), m->desc.name, b->name, m->desc.name);
	if (!ops->wanted)
		lc_conf_unused(conf, b, ds);
}

static void
check_listener(struct lc_conf *conf, const struct lc_block *b, struct lc_err *err)
{
	struct lc_mod *stack[LC_MOD_TRANSPORTS];
	int n = lc_mod_transports(conf, b, stack, err);

	for (struct lc_mod *m = lc_mod_first(); n >= 0 && m; m = m->next) {
		const struct lc_transport *ops;
		uint32_t before = lc_err_count(err);
		int k = 0;

		while (k < n && stack[k] != m)
			k++;
		if (k == n) {
			check_idle(conf, b, m, err);
			continue;
		}
		ops = lc_mod_iface(m, LC_KIND_TRANSPORT, LC_TRANSPORT_VERSION);
		if (ops->check && lc_conf_ask(conf, b, &m->dirset, ops->check, err) < 0 && lc_err_count(err) == before)
			lc_err_add(err, b->file, b->line, "module \"%s\" refuses listen %s, expected it to say why",
				   m->desc.name, b->name);
	}
}

static void
check_preload(const struct lc_conf *conf, const struct lc_block *pool, struct lc_err *err)
{
	const struct lc_conf_pool *p = lc_conf_get(conf, pool, &lc_core_pool);
	const struct lc_block *b = lc_conf_next(pool, LC_C_WORKER, NULL);
	const struct lc_mod *m = b ? lc_mod_find(b->name) : NULL;
	const struct lc_worker *wk = m ? lc_mod_iface(m, LC_KIND_WORKER, LC_WORKER_VERSION) : NULL;
	struct lc_conf_place at;

	if (!p->preload || !wk || lc_zygote_can(wk))
		return;
	lc_conf_where(conf, pool, &lc_core_pool, "preload", &at);
	lc_err_add(err, at.file, at.line, LC_ZYGOTE_REFUSAL, b->name);
}

/* What takes more than one module to judge. */
static int
check_listeners(struct lc_conf *conf, struct lc_err *err)
{
	const struct lc_block *pool = NULL, *b;

	while ((pool = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, pool))) {
		for (b = NULL; (b = lc_conf_next(pool, LC_C_LISTEN, b));)
			check_listener(conf, b, err);
		check_preload(conf, pool, err);
	}
	lc_err_sort(err);
	return lc_err_count(err) ? -EINVAL : 0;
}

/* For the arbiter, see files.c there. */
static int
list_file(void *arg, const char *path, const char *directive, const char *file, uint32_t line)
{
	const uint32_t *pool = arg;

	return printf("%u%c%s%c%s%c%s%c%u%c", *pool, 0, path, 0, directive, 0, file ? file : "", 0, line, 0) < 0 ? -EIO
														 : 0;
}

static int
list_files(const struct lc_conf *conf)
{
	const struct lc_block *b = NULL;
	int r = 0;

	for (uint32_t k = 0; r >= 0 && (b = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, b)); k++)
		r = lc_conf_files(conf, b, list_file, &k);
	return r;
}

int
lc_checker_main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"file", required_argument, NULL, 'f'},
	    {"name", required_argument, NULL, 'n'},
	    {"prefix", required_argument, NULL, 'p'},
	    {"globals", required_argument, NULL, 'g'},
	    {"dump", no_argument, NULL, 'd'},
	    {"files", no_argument, NULL, 'l'},
	    {NULL, 0, NULL, 0},
	};
	struct lc_conf_opts o = {
	    .load_module = lc_mod_conf_load, .whose = lc_mod_conf_whose, .speaks = lc_mod_conf_speaks};
	const char *file = NULL, *name = "configuration";
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;
	int c, r, dump = 0, files = 0, status = LC_EXIT_CONFIG;

	lc_log_role("checker");
	lc_log_plain(1);
	if (!err)
		return status;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			file = optarg;
			break;
		case 'n':
			name = optarg;
			break;
		case 'p':
			o.prefix = optarg;
			break;
		case 'g':
			o.globals = optarg;
			break;
		case 'd':
			dump = 1;
			break;
		case 'l':
			files = 1;
			break;
		default:
			return LC_EXIT_USAGE;
		}
	}
	/* the list is to have nothing in it that a module prints */
	if (files && ((files = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0))
		return status;
	lc_srv_register_tables();
	if (file) {
		o.use_env = 1;
		r = lc_conf_load(&conf, file, &o, err);
	} else {
		struct stat st;
		const char *text;

		if (fstat(3, &st) < 0 || st.st_size < 0) {
			lc_log(LC_LOG_CRIT, "no configuration on fd 3: %m");
			return status;
		}
		text = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, 3, 0) : "";
		if (text == MAP_FAILED) {
			lc_log(LC_LOG_CRIT, "cannot read the configuration: %m");
			return status;
		}
		r = lc_conf_parse(&conf, text, (size_t)st.st_size, name, &o, err);
	}
	if (r == 0)
		r = check_listeners(conf, err);
	if (lc_err_count(err))
		fputs(lc_err_text(err), stderr);
	if (r == 0)
		status = LC_EXIT_OK;
	if (r == 0 && dump) {
		char *text = lc_conf_dump(conf);

		if (text)
			fputs(text, stdout);
		free(text);
	}
	if (r == 0 && files && (fflush(stdout) != 0 || dup2(files, STDOUT_FILENO) < 0 || list_files(conf) < 0))
		status = LC_EXIT_CONFIG;
	if (fflush(stdout) != 0)
		status = LC_EXIT_CONFIG;
	lc_conf_free(conf);
	lc_err_free(err);
	return status;
}
