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

#include "arbiter/arbiter.h"
#include "config/conf.h"
#include "log/log.h"
#include "module/loader.h"
#include "net/server.h"

/* What takes more than one module to judge. */
static int
check_listeners(const struct lc_conf *conf, struct lc_err *err)
{
	const struct lc_block *pool = NULL, *b;
	struct lc_mod *stack[LC_MOD_TRANSPORTS];
	int r = 0;

	while ((pool = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, pool)))
		for (b = NULL; (b = lc_conf_next(pool, LC_C_LISTEN, b));)
			if (lc_mod_transports(conf, b, stack, err) < 0)
				r = -EINVAL;
	return r;
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
	struct lc_conf_opts o = {.load_module = lc_mod_conf_load, .whose = lc_mod_conf_whose};
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
