/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/cli.h - the command line.
 */
#ifndef LC_CORE_CLI_CLI_H
#define LC_CORE_CLI_CLI_H

#include <licorne/abi.h>
#include <stddef.h>

struct lc_conf;
struct lc_conf_main;

/* Everything that main() does; exit status. */
int lc_cli_main(int argc, char **argv);
/* `licorne run ...`, argv[0] being "run". */
int lc_cli_run(int argc, char **argv);
/* `licorne reload ...`, argv[0] being "reload". */
int lc_cli_reload(int argc, char **argv);
/* `licorne status ...`, argv[0] being "status". */
int lc_cli_status(int argc, char **argv);
/* A role of `licorne run`'s: prints what stands before "://" in a URL of what the named modules serve. */
int lc_cli_scheme_main(int argc, char **argv);

/* ask.c */
/* Says what is wrong, for LC_EXIT_USAGE with the usage behind it; the status. */
int lc_cli_fail(const char *usage, int status, const char *fmt, ...) LC_PRINTF(3, 4);
/* The configuration of the licorne that is meant, for lc_conf_free(): 0, or an exit status after all was said. */
int lc_cli_conf(const char *path, const char *globals, const char *prefix, struct lc_conf **ret,
		const struct lc_conf_main **ret_main);
/* Asks at a control socket: 0 and the answer, malloc()ed, ending with a newline; or -1 and a sentence in why.
 * timeout_ms -1: waits as long as it takes. */
int lc_cli_ask(const char *path, const char *question, int timeout_ms, char **ret, size_t *ret_n, char *why,
	       size_t whysize);

#endif
