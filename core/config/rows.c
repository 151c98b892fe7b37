/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/rows.c - the core's own directives: rows, with the text of the reference.
 *
 * docs/reference/core.md is generated from here.  A directive that nothing acts on has no place in this file.
 */
#include "config/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off: the documentation is wrapped by hand */

static const struct lc_range backlog_range = {1, 65535}, listen_backlog_range = {0, 65535};
static const struct lc_range connections_range = {1, 1048576};
static const struct lc_range timeout_range = {100, 86400000};
static const struct lc_range rotation_range = {1000, UINT64_C(30) * 86400000};
static const struct lc_range delay_range = {1, 3600000};
static const struct lc_range requests_range = {0, 4000000000}, age_range = {0, 3153600000000};
static const struct lc_range rss_range = {0, UINT64_C(1) << 50};
static const struct lc_range mode_range = {0, 0777};
static const struct lc_enum no_path[] = {{"off", 0}, {"-", 1}, {NULL, 0}};
static const struct lc_lines access_lines = {
    .min = 1, .max = 2, .path = 1, .words = no_path, .check = lc__access_log_line};
static const struct lc_lines format_lines = {.min = 2, .max = LC__ARGS_MAX, .check = lc__log_format_line};

/* ---- what opens blocks or reads files: handled by the parser, here for the reference ---- */

static const struct lc_directive syntax_rows[] = {
    LC_ROW_(
	LC_T_BLOCK, "load_module", LC_C_MAIN, 0, 0, NULL, NULL, "NAME | PATH", "Loads a module.",
	"A name is looked for as `NAME.so` in the folders of `LICORNE_MODULE_PATH`, in the build tree when licorne "
	"runs\n"
	"from it, and in the folder of installed modules. A word with a `/` in it is a path, relative to the prefix.\n"
	"\n"
	"A module has to be loaded before the first directive that belongs to it. Modules that need others say so and\n"
	"are loaded after them."),
    LC_ROW_(LC_T_BLOCK, "include", 31, 0, 0, NULL, NULL, "FILE", "Reads another file in place of this line.",
	    "The path is relative to the file that includes it and may be a pattern with `*`, `?` and `[...]`; what "
	    "matches is\n"
	    "read in alphabetical order, and no match at all is no mistake. Without a pattern the file has to exist.\n"
	    "\n"
	    "An included file balances its own braces. Files may include others up to 8 levels deep, 64 files in all, "
	    "and may\n"
	    "not include themselves."),
    LC_ROW_(LC_T_BLOCK, "pool", LC_C_MAIN, 0, 0, NULL, NULL, "NAME { ... }",
	    "A group of equal worker processes and its addresses.",
	    "A pool has at least one `listen` and exactly one `worker`. The name is made of letters, digits, `_`, `-` "
	    "and `.`; it\n"
	    "is what logs and process titles show."),
    LC_ROW_(LC_T_BLOCK, "listen", LC_C_POOL, 0, 0, NULL, NULL, "ADDRESS [TRANSPORT ...] { ... } | ;",
	    "An address on which the pool accepts connections.",
	    "`HOST:PORT`, `[IPV6]:PORT`, `*:PORT` or just `PORT` (all IPv4 addresses of the machine), or `unix:/PATH`. "
	    "Port 0\n"
	    "takes any free port. A host name is looked up when the address is bound. An address may stand only once "
	    "in the\n"
	    "whole configuration.\n"
	    "\n"
	    "Further words name loaded transport modules that stand between the socket and the protocol. A transport "
	    "may also\n"
	    "have a directive that asks for it, which then holds for every address of the pool or the configuration. "
	    "Those that\n"
	    "only read what a connection begins with come first, in the order of the words; at most one other may "
	    "follow."),
    LC_ROW_(LC_T_BLOCK, "worker", LC_C_POOL, 0, 0, NULL, NULL, "MODULE { ... } | ;", "What runs the pool's requests.",
	    "The module has to be loaded and has to be a worker module. Its own directives stand in the block."),
    LC_ROW_(LC_T_BLOCK, "route", LC_C_POOL, 0, 0, NULL, NULL, "PREFIX HANDLER { ... } | ;",
	    "Sends requests whose path starts with a prefix to a handler module.",
	    "The handler has to be a loaded module that offers a handler; its own directives stand in the block. It "
	    "runs on the\n"
	    "worker's loop, before the application hears of the request, in every kind of worker.\n"
	    "\n"
	    "The prefix is text, not a pattern and not a folder: `/static/` fits `/static/x` but not `/static`, `/a` "
	    "fits `/a`,\n"
	    "`/a/b` and `/ab`. Case counts. All routes that fit are asked, the longest prefix first and else in the "
	    "order of the\n"
	    "text; a handler may decline (a file that is not there, say), and what no route takes is the worker's.\n"
	    "\n"
	    "What is compared is the path alone, without the query, in its normal form: percent-decoded once (a `%` "
	    "that no two\n"
	    "hexadecimal digits follow stays), then `.` and `..` resolved and runs of slashes made one. The prefix is "
	    "written in\n"
	    "that form. `OPTIONS *` fits no route.\n"
	    "\n"
	    "Where there are routes, these paths are answered with 400 (Bad Request): those with a NUL in them, those "
	    "that lead\n"
	    "above the root, and those that begin with a route's prefix and leave it by `..`, such as "
	    "`/private/../x`, since an\n"
	    "application may take them for one below `/private/`."),
};
const struct lc_dirset lc_core_syntax = {
    .owner = "core",
    .rows = syntax_rows,
    .nrows = sizeof(syntax_rows) / sizeof(syntax_rows[0]),
    .stride = sizeof(syntax_rows[0]),
};

/* ---- main ---- */

static const struct lc_directive main_rows[] = {
    LC_STRING(struct lc_conf_main, user, "user", LC_C_MAIN, 0, NULL, "The user that child processes run as.",
	      "Only has an effect when licorne is started as root: the arbiter keeps its rights to bind addresses and "
	      "open files,\n"
	      "everything else drops them. Not set: children stay who the arbiter is."),
    LC_STRING(struct lc_conf_main, group, "group", LC_C_MAIN, 0, NULL, "The group that child processes run as.",
	      "Not set: the first group of `user`."),
    LC_PATH(struct lc_conf_main, pid_file, "pid_file", LC_C_MAIN, LC_D_RESTART, NULL,
	    "Where the arbiter writes its process id.", "Not set: nowhere. The file is removed when licorne ends."),
    LC_ROW_(
	LC_T_CUSTOM, "control_socket", LC_C_MAIN, 0, LC_AT_(struct lc_conf_main, control_socket, struct lc_list), NULL,
	NULL, "PATH [MODE]", "The UNIX socket on which `licorne status` and `licorne reload --wait` ask.",
	"Not set: there is none. The arbiter makes it with the mode 0600 and removes it when licorne ends. Root and "
	"the user\n"
	"that licorne was started as may ask for everything; with a wider mode whoever may connect can see the "
	"status, but\n"
	"not reload. See [operations](../operations.md)."),
    LC_ROW_(LC_T_CUSTOM, "error_log", LC_C_MAIN, 0, LC_AT_(struct lc_conf_main, error_log, struct lc_list),
	    "stderr notice", NULL, "PATH | stderr [LEVEL]", "Where diagnostics go, and from which level on.",
	    "Levels, from few to many lines: `crit`, `error`, `warn`, `notice`, `info`, `debug`; the default is "
	    "`notice`. The\n"
	    "arbiter opens the file, its children only write to it."),
    LC_MSEC(struct lc_conf_main, startup_timeout, "startup_timeout", LC_C_MAIN, "60s", &timeout_range,
	    "How long a worker may take until it is ready.",
	    "Counted from its start to the moment it can take requests; loading the application is the longest part of "
	    "it. A\n"
	    "worker that is not ready by then is ended and counts as failed."),
    LC_MSEC(
	struct lc_conf_main, heartbeat_timeout, "heartbeat_timeout", LC_C_MAIN, "30s", &timeout_range,
	"How long a worker may give no sign of life.",
	"Workers report to the arbiter every second, or four times in this span. One that has been silent for this "
	"long is ended (the log says "
	"so,\n"
	"and how many requests it had) and replaced.\n\n"
	"This judges the process, not the application: while a call runs, another thread reports in the place of the\n"
	"one that is busy, however long it takes; `request_timeout` is for calls. What is found is a process that is "
	"stopped,\n"
	"that waits in the kernel, or whose loop hangs. Before it is ended the log gets what it was doing; see [what "
	"hangs](../operations-hangs.md)."),
    LC_MSEC(struct lc_conf_main, graceful_timeout, "graceful_timeout", LC_C_MAIN, "30s", &timeout_range,
	    "How long requests may go on after a graceful stop was asked for.",
	    "A worker that still has requests by then is ended with them."),
    LC_UINT(struct lc_conf_main, backlog, "backlog", LC_C_MAIN, "2048", &backlog_range,
	    "How many connections may wait to be accepted, per address.",
	    "The kernel caps it at `net.core.somaxconn`. A `listen` block can have its own."),
    LC_ROW_(LC_T_LINES, "log_format", LC_C_MAIN, 0, LC_AT_(struct lc_conf_main, log_format, struct lc_list), NULL,
	    &format_lines, "NAME [escape=default | escape=json] TEXT ...", "Defines a format for access logs.",
	    "The text is made of variables, `$status` or `${status}`, of atoms, `%(s)s`, and of everything else, which "
	    "is\n"
	    "written as it is; several words are joined. `escape` says what happens to quotes, backslashes and what "
	    "is not\n"
	    "printable in values: by default it becomes `\\xHH`, with `json` it is escaped as in a JSON string. "
	    "[Logging](../logging.md)\n"
	    "lists all variables and atoms."),
};

uint32_t
lc_conf_control_mode(const struct lc_conf_main *m)
{
	return m->control_socket.n > 1 ? (uint32_t)strtoul(m->control_socket.v[1], NULL, 8) : 0600;
}

static void
control_check(const struct lc_conf_main *m, struct lc_err *err)
{
	const struct lc_list *l = &m->control_socket;
	const char *mode = l->n == 2 ? l->v[1] : "600";
	size_t n = strlen(mode);

	if (l->n > 2)
		lc_config_table.error(err, "control_socket",
				      "control_socket has %llu arguments, expected: control_socket PATH [MODE];",
				      (unsigned long long)l->n);
	else if (l->n && !*l->v[0])
		lc_config_table.error(err, "control_socket", "control_socket: the path is empty");
	else if (n < 3 || n > 4 || strspn(mode, "01234567") != n || (n == 4 && *mode != '0'))
		lc_config_table.error(err, "control_socket",
				      "control_socket: \"%.80s\" is no mode, expected permission bits such as 0660",
				      mode);
}

static int
main_check(const void *conf, struct lc_err *err)
{
	static const char *const levels[] = {"crit", "error", "warn", "notice", "info", "debug"};
	const struct lc_conf_main *m = conf;

	control_check(m, err);
	if (m->error_log.n > 2)
		lc_config_table.error(err, "error_log",
				      "error_log has %llu arguments, expected: error_log PATH | stderr [LEVEL];",
				      (unsigned long long)m->error_log.n);
	if (m->error_log.n != 2)
		return 0;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (!strcmp(m->error_log.v[1], levels[i]))
			return 0;
	lc_config_table.error(
	    err, "error_log",
	    "error_log: \"%.80s\" is no level, expected one of crit, error, warn, notice, info, debug",
	    m->error_log.v[1]);
	return 0;
}

const struct lc_dirset lc_core_main = {
    .owner = "core",
    .rows = main_rows,
    .nrows = sizeof(main_rows) / sizeof(main_rows[0]),
    .stride = sizeof(main_rows[0]),
    .conf_size = sizeof(struct lc_conf_main),
    .check = main_check,
};

/* ---- pool ---- */

static const struct lc_directive pool_rows[] = {
    LC_ROW_(LC_T_STR, "processes", LC_C_MAIN | LC_C_POOL, 0, LC_AT_(struct lc_conf_pool, processes, const char *), "1",
	    NULL, "NUMBER | auto", "How many worker processes the pool has.",
	    "A number from 1 to 1024, or `auto`: as many as there are CPUs that licorne may use, by its CPU affinity "
	    "and by the\n"
	    "CPU quota of its control group (v1 and v2, the smallest on the way up, rounded up)."),
    LC_ROW_(LC_T_MSEC2, "respawn_delay", LC_C_MAIN | LC_C_POOL, 0,
	    LC_AT_(struct lc_conf_pool, respawn_delay, struct lc_msec2), "100ms 30s", &delay_range, "MIN MAX",
	    "How long to wait before a process that ended is started again.",
	    "One that had worked well is started again at once. One that keeps failing waits about MIN, then twice as "
	    "long each\n"
	    "time, up to MAX.\n"
	    "\n"
	    "A pool of which more than 5 processes (or than it has, if that is more) end by themselves within 30 s is "
	    "degraded:\n"
	    "for each further one the whole pool waits MIN, then twice as long, up to MAX. The log says so."),
    LC_UINT(struct lc_conf_pool, worker_connections, "worker_connections", LC_C_MAIN | LC_C_POOL, "16384",
	    &connections_range, "How many connections one process holds at once.",
	    "At that number it stops accepting until one is closed; other processes of the pool go on. The limit of "
	    "open files\n"
	    "has to allow for it; where it does not, fewer are served and a warning says how many."),
    LC_MSEC(
	struct lc_conf_pool, secret_rotation, "secret_rotation", LC_C_MAIN | LC_C_POOL, "1h", &rotation_range,
	"How long a secret of the pool is in use.",
	"From a random secret that the processes of a pool share, modules make keys, such as that of TLS session "
	"tickets.\n"
	"After this time the arbiter makes another one; what was made with the old one is accepted for as long again."),
    LC_LIST(struct lc_conf_pool, protocols, "protocols", LC_C_MAIN | LC_C_POOL, NULL, "MODULE ...",
	    "Which protocols the pool speaks, the preferred one first.",
	    "Names of loaded protocol modules, in the order in which they are offered to clients. Not set: all that "
	    "are loaded,\n"
	    "in the order of their `load_module` lines."),
    LC_ROW_(
	LC_T_LINES, "access_log", LC_C_MAIN | LC_C_POOL, 0, LC_AT_(struct lc_conf_pool, access_log, struct lc_list),
	"off", &access_lines, "PATH [FORMAT] | - [FORMAT] | off", "Where a line per request goes.",
	"`-` is the standard output. The format is `combined` (the default), `common`, `json`, or the name of a\n"
	"`log_format`. A pool may have up to eight access logs, a line each. The arbiter opens the files, with mode "
	"0644, and\n"
	"anew at SIGUSR1. See [logging](../logging.md)."),
    LC_UINT(struct lc_conf_pool, max_requests, "max_requests", LC_C_MAIN | LC_C_POOL, "0", &requests_range,
	    "After how many requests a process is replaced.",
	    "0: never. Another process is started in its slot; when that is ready, the old one finishes what it has "
	    "and ends.\n"
	    "One process of a pool is replaced at a time, the next when that is done. The number is looked at every "
	    "second, and\n"
	    "the old process serves on until the new one is ready: it will have had more requests than this."),
    LC_UINT(struct lc_conf_pool, max_requests_jitter, "max_requests_jitter", LC_C_MAIN | LC_C_POOL, "0",
	    &requests_range, "By how many, at random, `max_requests` is more for a process.",
	    "Spreads the replacements of a pool's processes over time."),
    LC_MSEC(struct lc_conf_pool, max_age, "max_age", LC_C_MAIN | LC_C_POOL, "0", &age_range,
	    "For how long a process serves until it is replaced.",
	    "0: for ever. Counted from when it was ready; replaced as by `max_requests`."),
    LC_SIZE(struct lc_conf_pool, max_rss, "max_rss", LC_C_MAIN | LC_C_POOL, "0", &rss_range,
	    "From how much resident memory on a process is replaced.",
	    "0: never. What `ps` shows as RSS, what it shares with others included; looked at every second, and too "
	    "much twice\n"
	    "in a row is too much. Replaced as by `max_requests`: for a while there are both."),
    LC_MSEC(
	struct lc_conf_pool, request_timeout, "request_timeout", LC_C_MAIN | LC_C_POOL, "0", &age_range,
	"How long a call of the application may take.",
	"0: as long as it likes. Counted while the application runs, without what the request waited for a thread "
	"and the\n"
	"call for its client. A call that takes longer is ended by an exception of the application's language, "
	"and the client\n"
	"gets 504 (Gateway Timeout) if nothing was sent yet. A call that has not ended two seconds later (it "
	"waits for a lock, or\n"
	"is in code of C) cannot be ended alone: the log gets its request and the stacks of the application, and the "
	"process is\n"
	"replaced; its other requests may finish within `graceful_timeout`. [What hangs](../operations-hangs.md) "
	"shows it."),
    LC_FLAG(struct lc_conf_pool, preload, "preload", LC_C_MAIN | LC_C_POOL, "off",
	    "Is the application loaded once, and are the workers forked from the process that has it?",
	    "With `on` there is one more process per pool, the zygote: it loads the application, and each worker is a "
	    "fork of it.\n"
	    "Workers share the memory of what was loaded until they write to it, and a worker that is replaced does "
	    "not load\n"
	    "anything again. A reload starts a new zygote, so the code is read anew.\n"
	    "\n"
	    "What the application opens while it is loaded is shared by all workers (connections to a database "
	    "must not be), and\n"
	    "it must not start threads then: a process that has more than one is not forked, and the start or the "
	    "reload fails.\n"
	    "The worker module has to be capable of it, which `licorne -t` checks. See "
	    "[operations](../operations.md#preload)."),
};

static int
pool_check(const void *conf, struct lc_err *err)
{
	const struct lc_conf_pool *p = conf;
	size_t n = strlen(p->processes);

	if (!strcmp(p->processes, "auto"))
		return 0;
	if (n && n <= 4 && strspn(p->processes, "0123456789") == n) {
		unsigned v = 0;
		for (const char *s = p->processes; *s; s++)
			v = v * 10 + (unsigned)(*s - '0');
		if (v >= 1 && v <= LC__PROCESSES_MAX)
			return 0;
	}
	lc_config_table.error(err, "processes",
			      "processes: \"%.80s\" is no number of processes, expected auto or 1 to %u", p->processes,
			      LC__PROCESSES_MAX);
	return 0;
}

const struct lc_dirset lc_core_pool = {
    .owner = "core",
    .rows = pool_rows,
    .nrows = sizeof(pool_rows) / sizeof(pool_rows[0]),
    .stride = sizeof(pool_rows[0]),
    .conf_size = sizeof(struct lc_conf_pool),
    .check = pool_check,
};

/* ---- listen ---- */

static const struct lc_directive listen_rows[] = {
    LC_ROW_(LC_T_UINT, "mode", LC_C_LISTEN, LC_D_OCTAL, LC_AT_(struct lc_conf_listen, mode, uint64_t), "0660",
	    &mode_range, "OCTAL", "UNIX socket: who may connect, as permission bits.",
	    "Write permission is what counts. The default lets the owner and the group connect: a proxy in front "
	    "belongs into\n"
	    "the socket's group. It has no effect on other addresses."),
    LC_STRING(struct lc_conf_listen, user, "user", LC_C_LISTEN, 0, NULL, "UNIX socket: the owner of the file.",
	      "Changing it takes a licorne that was started as root. Not set: the user that licorne was started as."),
    LC_STRING(struct lc_conf_listen, group, "group", LC_C_LISTEN, 0, NULL, "UNIX socket: the group of the file.",
	      "Not set: the group that licorne was started with."),
    LC_UINT(struct lc_conf_listen, backlog, "backlog", LC_C_LISTEN, "0", &listen_backlog_range,
	    "How many connections may wait to be accepted here.", "0 is what `backlog` says."),
    LC_FLAG(struct lc_conf_listen, ipv6only, "ipv6only", LC_C_LISTEN, "on", "IPv6 socket: refuse IPv4 connections.",
	    "`off` makes `[::]:PORT` accept IPv4 connections, too. It has no effect on other addresses."),
};

const struct lc_dirset lc_core_listen = {
    .owner = "core",
    .rows = listen_rows,
    .nrows = sizeof(listen_rows) / sizeof(listen_rows[0]),
    .stride = sizeof(listen_rows[0]),
    .conf_size = sizeof(struct lc_conf_listen),
};
