/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/reload.c - `licorne reload`: tell the licorne that serves a configuration to read it anew.
 *
 * The plain form finds the arbiter by the configuration's pid_file and sends SIGHUP: what comes of it is in the log.  A
 * pid file may be older than the process that has its number by now, so nothing is sent to a process that does not run
 * a program of our name.  With --wait, and where there is no pid_file, it asks at the control socket.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "config/conf.h"
#include "log/log.h"

#define ANSWER_MS 10000

static const char usage_line[] = "usage: licorne reload [-c FILE] [-g 'DIRECTIVES'] [-p PREFIX] [--wait]\n";
static const char help[] =
    "\n"
    "  -c FILE   the configuration of the licorne that is meant (" LC_CONF_PATH ")\n"
    "  -g, -p    as it was started with\n"
    "  --wait    wait for the outcome; exit status 1 and the reason, if the old generation serves on\n"
    "  -h        print this and exit\n"
    "\n"
    "Without --wait it takes a pid_file or a control_socket in the configuration, with it a control_socket.\n";

/* The program that a process runs, without its folder; replaced since or not. */
static int
program_of(const char *link, char *buf, size_t n)
{
	ssize_t k = readlink(link, buf, n - 1);
	char *end, *slash;

	if (k < 0)
		return -errno;
	buf[k] = 0;
	end = strstr(buf, " (deleted)");
	if (end)
		*end = 0;
	slash = strrchr(buf, '/');
	if (slash)
		memmove(buf, slash + 1, strlen(slash));
	return 0;
}

static int
tell(const char *path)
{
	char link[48], own[PATH_MAX], other[PATH_MAX];
	FILE *f = fopen(path, "re");
	long pid = 0;
	int fd, r;

	if (!f)
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG,
				   "%s: %m: licorne is not running, or was started with another configuration", path);
	r = fscanf(f, "%ld", &pid);
	fclose(f);
	if (r != 1 || pid <= 0)
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG, "%s: there is no process id in it", path);
	fd = pidfd_open((pid_t)pid, 0); /* from here on it is no other process */
	if (fd < 0)
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG, "%s: process %ld: %m: licorne is not running", path,
				   pid);
	snprintf(link, sizeof(link), "/proc/%ld/exe", pid);
	if (program_of(link, other, sizeof(other)) == 0 && program_of("/proc/self/exe", own, sizeof(own)) == 0 &&
	    strcmp(own, other) != 0) {
		close(fd);
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG,
				   "%s: process %ld is no licorne but %s: licorne is not running", path, pid, other);
	}
	r = pidfd_send_signal(fd, SIGHUP, NULL, 0) < 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG, "process %ld cannot be told: %s", pid, strerror(-r));
	printf("licorne: process %ld was told to reload; its log says what comes of it\n", pid);
	return LC_EXIT_OK;
}

static int
ask(const char *path, int wait)
{
	char why[1024], reason[1024], *answer;
	struct lc_json j;
	uint32_t text;
	int status = LC_EXIT_CONFIG;
	size_t n;

	if (lc_cli_ask(path, wait ? "reload wait\n" : "reload\n", wait ? -1 : ANSWER_MS, &answer, &n, why,
		       sizeof(why)) < 0)
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG, "%s", why);
	if (lc_json_parse(&j, answer, n) < 0) {
		free(answer);
		return lc_cli_fail(usage_line, LC_EXIT_CONFIG, "%s: that is no answer of a licorne", path);
	}
	if (!lc_json_true(&j, lc_json_get(&j, 0, "ok"))) {
		text = lc_json_get(&j, 0, "reason");
		lc_json_text(&j, text ? text : lc_json_get(&j, 0, "error"), reason, sizeof(reason));
		lc_cli_fail(usage_line, status, text ? "the reload failed: %s" : "no reload: %s", reason);
	} else {
		status = LC_EXIT_OK;
		if (wait)
			printf("licorne: generation %.0f serves after %.2f s\n",
			       lc_json_number(&j, lc_json_get(&j, 0, "generation"), 0),
			       lc_json_number(&j, lc_json_get(&j, 0, "seconds"), 0));
		else
			puts("licorne: it was told to reload; its log says what comes of it");
	}
	lc_json_free(&j);
	free(answer);
	return status;
}

int
lc_cli_reload(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"wait", no_argument, NULL, 'w'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	const char *path = LC_CONF_PATH, *globals = NULL, *prefix = NULL;
	const struct lc_conf_main *m;
	struct lc_conf *conf = NULL;
	int c, wait = 0, status;

	lc_log_plain(1);
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:g:p:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case 'g':
			globals = optarg;
			break;
		case 'p':
			prefix = optarg;
			break;
		case 'w':
			wait = 1;
			break;
		case 'h':
			fputs(usage_line, stdout);
			fputs(help, stdout);
			return LC_EXIT_OK;
		case ':':
			return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne reload: option -%c needs an argument",
					   optopt);
		default:
			return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne reload: there is no option %s",
					   argv[optind - 1]);
		}
	}
	if (optind < argc)
		return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne reload: \"%s\": no argument expected",
				   argv[optind]);
	status = lc_cli_conf(path, globals, prefix, &conf, &m);
	if (status != 0)
		return status;
	if (wait && m->control_socket.n == 0)
		status = lc_cli_fail(
		    usage_line, LC_EXIT_CONFIG,
		    "%s sets no control_socket: reload --wait asks there; without --wait a pid_file is enough", path);
	else if (wait || (!m->pid_file && m->control_socket.n))
		status = ask(m->control_socket.v[0], wait);
	else if (!m->pid_file)
		status = lc_cli_fail(
		    usage_line, LC_EXIT_CONFIG,
		    "%s sets no pid_file and no control_socket: set one, or send SIGHUP to the arbiter", path);
	else
		status = tell(m->pid_file);
	lc_conf_free(conf);
	return status;
}
