/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/cli.h - the command line.
 */
#ifndef LC_CORE_CLI_CLI_H
#define LC_CORE_CLI_CLI_H

/* Everything that main() does; exit status. */
int lc_cli_main(int argc, char **argv);
/* `licorne run ...`, argv[0] being "run". */
int lc_cli_run(int argc, char **argv);
/* `licorne reload ...`, argv[0] being "reload". */
int lc_cli_reload(int argc, char **argv);
/* A role of `licorne run`'s: prints what stands before "://" in a URL of what the named modules serve. */
int lc_cli_scheme_main(int argc, char **argv);

#endif
