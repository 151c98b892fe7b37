/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/cli.c - options, and the roles in which the program starts itself again.
 *
 * Mistakes on the command line are one sentence and exit status 2.  "--role" is no interface for people: it is how the
 * arbiter starts its children, and it stands first or nowhere.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <licorne/abi.h>

#include "arbiter/arbiter.h"
#include "log/log.h"
#include "module/loader.h"
#include "net/server.h"
#include "worker/control.h"

static const char usage_line[] = "usage: licorne [-c FILE] [-g 'DIRECTIVES'] [-p PREFIX] [-t | -T] [-V] [-h]\n"
				 "       licorne run MODULE:APP [OPTION ...]\n"
				 "       licorne reload [-c FILE] [--wait]\n"
				 "       licorne status [-c FILE] [--json] [--watch]\n"
				 "       licorne module NAME|FILE\n";

static const char help[] =
    "\n"
    "  -c, --config FILE\n"
    "                   the configuration file (" LC_CONF_PATH ")\n"
    "  -g 'DIRECTIVES'  directives that stand before those of the file\n"
    "  -p PREFIX        what relative paths in the configuration are relative to (the file's folder)\n"
    "  -t, --test       check the configuration and exit\n"
    "  -T               check it, print it with every default and where values come from, and exit\n"
    "  -V, --version    print the version and exit\n"
    "  -h, --help       print this and exit\n"
    "\n"
    "  run MODULE:APP   serve an application without a configuration file; `licorne run -h` says more\n"
    "  reload           have the licorne that serves a configuration read it anew; `licorne reload -h` says more\n"
    "  status           what a running licorne has and does; `licorne status -h` says more\n"
    "  module NAME      what a module offers; `licorne module --markdown` prints the reference of directives\n"
    "\n"
    "Signals: TERM finishes what runs and ends, INT and QUIT end at once, HUP reloads, USR1 opens log files anew, "
    "USR2\n"
    "starts another binary in place of this one, TTIN and TTOU add and remove a worker, WINCH ends all workers.\n"
    "Exit status: 0 ended as it was told, 1 configuration or addresses, 2 command line, 3 the application does not "
    "start.\n";

static int __attribute__((format(printf, 1, 2))) wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lc_log_plain(1);
	lc_logv(LC_LOG_ERROR, fmt, ap);
	va_end(ap);
	fputs(usage_line, stderr);
	return LC_EXIT_USAGE;
}

/* Hide our arguments from the process list: argv[0] is the title. */
static void
hide_args(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		memset(argv[i], 0, strlen(argv[i]));
}

static int
role_main(int argc, char **argv)
{
	const char *role = argv[2];

	prctl(PR_SET_NAME, "licorne", 0, 0, 0); /* it would be "exe" */
	if (strcmp(role, "worker") == 0) {
		hide_args(argc, argv);
		return lc_worker_main();
	}
	if (strcmp(role, "zygote") == 0) {
		/* the kernel has them one behind the other */
		size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]) + 1;

		hide_args(argc, argv);
		return lc_zygote_main(argv[0], room);
	}
	if (strcmp(role, "watcher") == 0)
		return lc_watcher_main();
	argv[2] = argv[0];
	argc -= 2;
	argv += 2;
	if (strcmp(role, "checker") == 0)
		return lc_checker_main(argc, argv);
	if (strcmp(role, "scheme") == 0)
		return lc_cli_scheme_main(argc, argv);
	return wrong("there is no role \"%s\"", role);
}

static int
module_main(int argc, char **argv)
{
	lc_srv_register_tables(); /* modules ask for them when they are loaded */
	if (argc > 1 && strcmp(argv[1], "--markdown") == 0)
		return lc_mod_markdown(argc - 2, argv + 2);
	if (argc != 2 || argv[1][0] == '-')
		return wrong("module: which module? expected one name or one file");
	return lc_mod_describe(argv[1]);
}

int
lc_cli_main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"test", no_argument, NULL, 't'},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct lc_arb_opts o = {.path = LC_CONF_PATH};
	int c, at, test = 0;

	if (argc >= 3 && strcmp(argv[1], "--role") == 0)
		return role_main(argc, argv);
	lc_arb_remember(argv);
	if (argc >= 2 && strcmp(argv[1], "run") == 0)
		return lc_cli_run(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "reload") == 0)
		return lc_cli_reload(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "status") == 0)
		return lc_cli_status(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "module") == 0)
		return module_main(argc - 1, argv + 1);
	opterr = 0;
	for (;;) {
		at = optind;
		c = getopt_long(argc, argv, "+:c:g:p:tTvVh", longs, NULL);
		if (c == -1)
			break;
		switch (c) {
		case 'c':
			o.path = optarg;
			break;
		case 'g':
			o.globals = optarg;
			break;
		case 'p':
			o.prefix = optarg;
			break;
		case 't':
		case 'T':
			test = c;
			break;
		case 'v': /* as nginx and gunicorn have it */
		case 'V':
			printf("licorne %s (module ABI %d.%d)\n", LC_VERSION, LC_ABI_MAJOR, LC_ABI_MINOR);
			return LC_EXIT_OK;
		case 'h':
			fputs(usage_line, stdout);
			fputs(help, stdout);
			return LC_EXIT_OK;
		case ':':
			return wrong("option -%c needs an argument", optopt);
		default:
			if (strncmp(argv[at], "--", 2) == 0) /* a short one may stand within a word */
				return wrong("there is no option %s", argv[at]);
			return wrong("there is no option -%c", optopt);
		}
	}
	if (optind < argc)
		return wrong("\"%s\": there is no such command, and no argument expected here", argv[optind]);
	if (o.prefix) {
		struct stat st;

		lc_log_plain(1);
		if (stat(o.prefix, &st) < 0 || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR))) {
			lc_log(LC_LOG_ERROR, "-p %s: %m", o.prefix);
			return LC_EXIT_USAGE;
		}
	}
	if (test)
		return lc_arb_check(&o, test == 'T' ? LC_CHECK_DUMP : LC_CHECK_SAY);
	return lc_arb_main(&o);
}
