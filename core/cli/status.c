/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/status.c - `licorne status`: what a running licorne has and does, as text or JSON, once or again and again.
 *
 * The arbiter's answer is JSON (core/arbiter/status.c); --json passes it on.  In both forms the proportional memory of
 * each worker is added here, from /proc: the arbiter must not wait for the locks that reading it takes.  It is left out
 * where it cannot be read, or where the numbers of processes are those of another namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "config/conf.h"
#include "log/log.h"

#define ANSWER_MS 10000
#define TEXT 512 /* bytes of a value that is shown */

static const char usage_line[] =
    "usage: licorne status [-c FILE] [-g 'DIRECTIVES'] [-p PREFIX] [--json] [--watch[=SECONDS]]\n";
static const char help[] = "\n"
			   "  -c FILE            the configuration of the licorne that is meant (" LC_CONF_PATH ")\n"
			   "  -g, -p             as it was started with\n"
			   "  --json             a line of JSON\n"
			   "  --watch[=SECONDS]  again every second, or every so many, in place; ends by Ctrl-C\n"
			   "  -h                 print this and exit\n"
			   "\n"
			   "It takes a control_socket in the configuration.  Exit status 1: licorne does not answer.\n";

/* ---- memory ---- */

static pid_t
parent_of(pid_t pid)
{
	char path[48], text[512], *at;
	long parent = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	at = strrchr(text, ')');
	return at && sscanf(at + 1, " %*c %ld", &parent) == 1 ? (pid_t)parent : 0;
}

/* Bytes; 0: unknown. */
static unsigned long long
proportional(pid_t pid)
{
	unsigned long long kb = 0;
	char path[48], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "Pss: %llu kB", &kb) == 1;
	if (f)
		fclose(f);
	return found ? kb * 1024 : 0;
}

/* The same JSON with a member "pss" in each worker. */
static char *
with_pss(const struct lc_json *j, size_t n, size_t *ret_n)
{
	pid_t arbiter = (pid_t)lc_json_number(j, lc_json_get(j, 0, "pid"), 0);
	uint32_t gens = lc_json_get(j, 0, "generations");
	char *out = NULL;
	size_t at = 0;
	FILE *f = open_memstream(&out, ret_n);

	if (!f)
		return NULL;
	for (uint32_t g = lc_json_first(j, gens); g; g = lc_json_next(j, gens, g)) {
		uint32_t pools = lc_json_get(j, g, "pools");

		for (uint32_t p = lc_json_first(j, pools); p; p = lc_json_next(j, pools, p)) {
			uint32_t workers = lc_json_get(j, p, "workers");

			for (uint32_t w = lc_json_first(j, workers); w; w = lc_json_next(j, workers, w)) {
				if (j->v[w].type != '{')
					continue;
				pid_t pid = (pid_t)lc_json_number(j, lc_json_get(j, w, "pid"), 0);
				size_t end = j->v[w].at + j->v[w].n - 1; /* its brace */
				unsigned long long pss = pid > 0 && parent_of(pid) == arbiter ? proportional(pid) : 0;

				fwrite(j->text + at, 1, end - at, f);
				at = end;
				fputs(j->v[w].behind > w + 1 ? "," : "", f);
				if (pss)
					fprintf(f, "\"pss\":%llu", pss);
				else
					fputs("\"pss\":null", f);
			}
		}
	}
	fwrite(j->text + at, 1, n - at, f);
	if (fclose(f) == 0)
		return out;
	free(out);
	return NULL;
}

/* ---- text ---- */

static const char *
span(double s, char *buf, size_t n)
{
	unsigned long long t = s > 0 ? (unsigned long long)s : 0;

	if (s < 0)
		snprintf(buf, n, "-");
	else if (t < 60)
		snprintf(buf, n, "%llus", t);
	else if (t < 3600)
		snprintf(buf, n, "%llum%02llus", t / 60, t % 60);
	else if (t < 86400)
		snprintf(buf, n, "%lluh%02llum", t / 3600, t / 60 % 60);
	else
		snprintf(buf, n, "%llud%02lluh", t / 86400, t / 3600 % 24);
	return buf;
}

static const char *
size(double bytes, char *buf, size_t n)
{
	if (bytes <= 0)
		snprintf(buf, n, "-");
	else if (bytes < 10e9)
		snprintf(buf, n, "%.1fM", bytes / (1 << 20));
	else
		snprintf(buf, n, "%.1fG", bytes / (1 << 30));
	return buf;
}

static double
num(const struct lc_json *j, uint32_t object, const char *name)
{
	return lc_json_number(j, lc_json_get(j, object, name), -1);
}

static const char *
str(const struct lc_json *j, uint32_t object, const char *name, char buf[TEXT])
{
	return lc_json_text(j, lc_json_get(j, object, name), buf, TEXT);
}

/* A count, "-": unknown. */
static const char *
count(const struct lc_json *j, uint32_t object, const char *name, char buf[32])
{
	double d = num(j, object, name);

	if (d < 0)
		snprintf(buf, 32, "-");
	else
		snprintf(buf, 32, "%.0f", d);
	return buf;
}

static void
put_worker(FILE *f, const struct lc_json *j, uint32_t w)
{
	char state[TEXT], last[TEXT], age[32], pid[32], requests[32], running[32], conns[32], rss[32], pss[32],
	    restarts[32];

	str(j, w, "state", state);
	str(j, w, "last_end", last);
	if (lc_json_true(j, lc_json_get(j, w, "leaving")))
		snprintf(state, sizeof(state), "leaving");
	else if (strcmp(state, "ready") == 0)
		snprintf(state, sizeof(state), num(j, w, "inflight") > 0 ? "busy" : "idle");
	if (num(j, w, "starts_in") >= 0)
		snprintf(age, sizeof(age), "in %.1fs", num(j, w, "starts_in"));
	else
		span(num(j, w, "age"), age, sizeof(age));
	fprintf(f, "  %4.0f  %7s  %-9.16s  %9s  %9s  %7s  %11s  %8s  %8s  %8s\n", num(j, w, "slot"),
		count(j, w, "pid", pid), state, age, count(j, w, "requests", requests),
		count(j, w, "inflight", running), count(j, w, "connections", conns),
		size(num(j, w, "rss"), rss, sizeof(rss)), size(num(j, w, "pss"), pss, sizeof(pss)),
		count(j, w, "restarts", restarts));
	if (*last)
		fprintf(f, "        the one before %s\n", last);
}

static void
put_pool(FILE *f, const struct lc_json *j, uint32_t p)
{
	uint32_t workers = lc_json_get(j, p, "workers");
	char name[TEXT];

	fprintf(f, "  pool %s: %.0f of %.0f ready, %.0f busy, %.0f idle; %.0f requests running, %.0f connections%s\n",
		str(j, p, "name", name), num(j, p, "ready"), num(j, p, "processes"), num(j, p, "busy"),
		num(j, p, "idle"), num(j, p, "inflight"), num(j, p, "connections"),
		lc_json_true(j, lc_json_get(j, p, "degraded")) ? "; DEGRADED: its processes end too often" : "");
	fputs("  SLOT      PID  STATE            AGE   REQUESTS  RUNNING  CONNECTIONS       RSS       PSS  RESTARTS\n",
	      f);
	for (uint32_t w = lc_json_first(j, workers); w; w = lc_json_next(j, workers, w))
		put_worker(f, j, w);
}

static void
put_listeners(FILE *f, const struct lc_json *j, uint32_t list)
{
	char address[TEXT], pool[TEXT], queue[32], backlog[32];
	int wide = (int)strlen("LISTENER"), n;

	for (uint32_t l = lc_json_first(j, list); l; l = lc_json_next(j, list, l)) {
		n = (int)strlen(str(j, l, "address", address));
		wide = n > wide ? n : wide;
	}
	fprintf(f, "\n%-*s    QUEUE  BACKLOG  POOL\n", wide, "LISTENER");
	for (uint32_t l = lc_json_first(j, list); l; l = lc_json_next(j, list, l))
		fprintf(f, "%-*s  %7s  %7s  %s\n", wide, str(j, l, "address", address), count(j, l, "queue", queue),
			count(j, l, "backlog", backlog), str(j, l, "pool", pool));
}

static char *
as_text(const struct lc_json *j, size_t *ret_n)
{
	uint32_t last = lc_json_get(j, 0, "last_reload"), list = lc_json_get(j, 0, "generations");
	char a[TEXT], b[TEXT], c[TEXT], t[32], *out = NULL;
	FILE *f = open_memstream(&out, ret_n);

	if (!f)
		return NULL;
	fprintf(f, "licorne %s, pid %.0f, %s, up %s, %s\n", str(j, 0, "version", a), num(j, 0, "pid"),
		str(j, 0, "state", b), span(num(j, 0, "uptime"), t, sizeof(t)), str(j, 0, "configuration", c));
	if (last && num(j, last, "number") >= 0) {
		bool ok = lc_json_true(j, lc_json_get(j, last, "ok"));

		fprintf(f, "last reload: %s ago, %s%s\n", span(num(j, last, "ago"), t, sizeof(t)),
			ok ? "worked" : "failed: ", ok ? "" : str(j, last, "reason", a));
	}
	put_listeners(f, j, lc_json_get(j, 0, "listeners"));
	for (uint32_t g = lc_json_first(j, list); g; g = lc_json_next(j, list, g)) {
		uint32_t pools = lc_json_get(j, g, "pools");

		fprintf(f, "\ngeneration %.0f, %s\n", num(j, g, "number"), str(j, g, "state", a));
		for (uint32_t p = lc_json_first(j, pools); p; p = lc_json_next(j, pools, p))
			put_pool(f, j, p);
	}
	list = lc_json_get(j, 0, "helpers");
	for (uint32_t h = lc_json_first(j, list); h; h = lc_json_next(j, list, h))
		fprintf(f, "\n%s (pid %.0f): %s for %s\n", str(j, h, "name", a), num(j, h, "pid"),
			str(j, h, "state", b), span(num(j, h, "age"), t, sizeof(t)));
	if (fclose(f) == 0)
		return out;
	free(out);
	return NULL;
}

/* ---- asking and showing ---- */

/* The text to show, malloc()ed; NULL and a sentence. */
static char *
look(const char *path, bool json, size_t *ret_n, char *why, size_t whysize)
{
	char *answer, *more = NULL, *out = NULL, error[TEXT];
	struct lc_json j;
	size_t n;

	if (lc_cli_ask(path, "status\n", ANSWER_MS, &answer, &n, why, whysize) < 0)
		return NULL;
	if (lc_json_parse(&j, answer, n) < 0) {
		snprintf(why, whysize, "%s: that is no answer of a licorne", path);
		free(answer);
		return NULL;
	}
	snprintf(why, whysize, "no memory");
	if (!lc_json_true(&j, lc_json_get(&j, 0, "ok")))
		snprintf(why, whysize, "%s: %s", path,
			 *str(&j, 0, "error", error) ? error : "that is no answer of a licorne");
	else
		out = more = with_pss(&j, n, ret_n);
	lc_json_free(&j);
	free(answer);
	if (json || !more)
		return out;
	out = lc_json_parse(&j, more, *ret_n) < 0 ? NULL : as_text(&j, ret_n);
	lc_json_free(&j);
	free(more);
	return out;
}

/* On a terminal in the place of what was there before: no more lines, and no longer ones, than it has. */
static void
show_in_place(const char *text, size_t n, bool first)
{
	struct winsize ws = {0};
	const char *end = text + n;
	unsigned rows, columns;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || !ws.ws_row || !ws.ws_col)
		ws = (struct winsize){.ws_row = 24, .ws_col = 80};
	rows = ws.ws_row - 1u;
	columns = ws.ws_col;
	fputs(first ? "\033[2J\033[H" : "\033[H", stdout);
	for (const char *p = text; p < end && rows > 0; rows--) {
		unsigned at = 0;

		for (; p < end && *p != '\n'; p++)
			if (((unsigned char)*p & 0xc0) != 0x80 ? ++at <= columns : at <= columns)
				putchar(*p);
		fputs("\033[K\n", stdout);
		p += p < end;
	}
	fputs("\033[J", stdout);
}

static int
watch(const char *path, bool json, double interval)
{
	bool terminal = isatty(STDOUT_FILENO) && !json;
	struct timespec pause = {(time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9)};

	for (bool first = true;; first = false) {
		char why[1024], *text;
		size_t n;

		text = look(path, json, &n, why, sizeof(why));
		if (terminal) {
			char line[1100];

			snprintf(line, sizeof(line), "licorne: %s\n", why);
			show_in_place(text ? text : line, text ? n : strlen(line), first);
		} else if (text) {
			if (!json && !first)
				putchar('\n');
			fwrite(text, 1, n, stdout);
		} else {
			lc_log(LC_LOG_ERROR, "%s", why);
		}
		free(text);
		if (fflush(stdout) != 0)
			return LC_EXIT_CONFIG; /* nobody reads it */
		(void)nanosleep(&pause, NULL);
	}
}

static int
once(const char *path, bool json)
{
	char why[1024], *text;
	size_t n;

	text = look(path, json, &n, why, sizeof(why));
	if (!text)
		return lc_cli_fail(NULL, LC_EXIT_CONFIG, "%s", why);
	fwrite(text, 1, n, stdout);
	free(text);
	return fflush(stdout) == 0 ? LC_EXIT_OK : LC_EXIT_CONFIG;
}

static int
interval_of(const char *text, double *ret)
{
	char *end;

	*ret = 1;
	if (!text)
		return 0;
	*ret = strtod(text, &end);
	return end == text || *end || !(*ret >= 0.1 && *ret <= 86400) ? -1 : 0;
}

int
lc_cli_status(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"json", no_argument, NULL, 'j'},
	    {"watch", optional_argument, NULL, 'w'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	const char *path = LC_CONF_PATH, *globals = NULL, *prefix = NULL;
	const struct lc_conf_main *m;
	struct lc_conf *conf = NULL;
	double interval = 0;
	bool json = false;
	int c, status;

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
		case 'j':
			json = true;
			break;
		case 'w':
			if (interval_of(optarg, &interval) < 0)
				return lc_cli_fail(usage_line, LC_EXIT_USAGE,
						   "licorne status: --watch=%s: expected seconds from 0.1 to 86400",
						   optarg);
			break;
		case 'h':
			fputs(usage_line, stdout);
			fputs(help, stdout);
			return LC_EXIT_OK;
		case ':':
			return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne status: option -%c needs an argument",
					   optopt);
		default:
			return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne status: there is no option %s",
					   argv[optind - 1]);
		}
	}
	if (optind < argc)
		return lc_cli_fail(usage_line, LC_EXIT_USAGE, "licorne status: \"%s\": no argument expected",
				   argv[optind]);
	status = lc_cli_conf(path, globals, prefix, &conf, &m);
	if (status != 0)
		return status;
	if (m->control_socket.n == 0)
		status = lc_cli_fail(NULL, LC_EXIT_CONFIG,
				     "%s sets no control_socket, where status asks: set one, such as \"control_socket "
				     "/run/licorne.sock;\"",
				     path);
	else if (interval > 0)
		status = watch(m->control_socket.v[0], json, interval);
	else
		status = once(m->control_socket.v[0], json);
	lc_conf_free(conf);
	return status;
}
