/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/places.c - are the places there where the arbiter will write and bind?
 *
 * Log files, the pid_file, the control_socket and UNIX sockets are made by the arbiter at its start.  What can be known
 * of that before is looked at with the rest of the configuration, with the arbiter's own rights, so that `licorne -t`
 * finds it and names the line.  Nothing is opened or made: a check leaves no file behind, and does not depend on what
 * else runs.
 *
 * Whether an address is free, and a full disk, only show at the start.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter/priv.h"

/* The folder of an absolute path. */
static void
folder_of(char *buf, size_t n, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash && slash != path ? (size_t)(slash - path) : 1;

	snprintf(buf, n, "%.*s", (int)(len < n ? len : n - 1), path);
}

/* Why can no file be made in the folder of this path?  NULL: one can. */
static const char *
folder_trouble(const char *path, char *folder, size_t n)
{
	struct stat st;

	folder_of(folder, n, path);
	if (stat(folder, &st) < 0)
		return strerror(errno);
	if (!S_ISDIR(st.st_mode))
		return strerror(ENOTDIR);
	return faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0 ? strerror(errno) : NULL;
}

static void
file_check(const char *directive, const char *path, const struct lc_conf_place *at, struct lc_err *err)
{
	char folder[4096];
	const char *why;
	struct stat st;

	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			lc_err_add(err, at->file, at->line, "%s: \"%s\" is a directory, expected a file in it",
				   directive, path);
		else if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			lc_err_add(err, at->file, at->line, "%s: cannot write \"%s\": %s", directive, path,
				   strerror(errno));
	} else if ((why = folder_trouble(path, folder, sizeof(folder)))) {
		lc_err_add(err, at->file, at->line,
			   "%s: cannot make \"%s\": %s: %s, expected a folder that licorne may write", directive, path,
			   folder, why);
	}
}

static void
socket_path(const char *directive, const char *name, const char *path, const struct lc_conf_place *at,
	    struct lc_err *err)
{
	char folder[4096];
	const char *why;
	struct stat st;

	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		lc_err_add(err, at->file, at->line,
			   "%s: \"%s\" is there and is no socket, expected another path, or that it is removed",
			   directive, name);
	else if ((why = folder_trouble(path, folder, sizeof(folder))))
		lc_err_add(err, at->file, at->line,
			   "%s: cannot make \"%s\": %s: %s, expected a folder that licorne may write", directive, name,
			   folder, why);
}

static void
listen_check(const struct lc_conf *conf, const struct lc_block *b, struct lc_err *err)
{
	const struct lc_conf_listen *l = lc_conf_get(conf, b, &lc_core_listen);
	struct lc_conf_place at = {.file = b->file, .line = b->line};

	if (strncmp(b->name, "unix:", strlen("unix:")) != 0)
		return;
	socket_path("listen", b->name, b->name + strlen("unix:"), &at, err);
	if (l->user && !getpwnam(l->user)) {
		lc_conf_where(conf, b, &lc_core_listen, "user", &at);
		lc_err_add(err, at.file, at.line, "user: there is no user \"%s\" on this machine", l->user);
	}
	if (l->group && !getgrnam(l->group)) {
		lc_conf_where(conf, b, &lc_core_listen, "group", &at);
		lc_err_add(err, at.file, at.line, "group: there is no group \"%s\" on this machine", l->group);
	}
}

void
lc__places_check(const struct lc_conf *conf, struct lc_err *err)
{
	const struct lc_block *top = lc_conf_main_block(conf), *pool = NULL, *b;
	const struct lc_conf_main *m = lc_conf_get(conf, top, &lc_core_main);
	struct lc_conf_access log;
	struct lc_conf_place at;

	lc_conf_where(conf, top, &lc_core_main, "error_log", &at);
	if (m->error_log.n && strcmp(m->error_log.v[0], "stderr") != 0)
		file_check("error_log", m->error_log.v[0], &at, err);
	lc_conf_where(conf, top, &lc_core_main, "pid_file", &at);
	if (m->pid_file)
		file_check("pid_file", m->pid_file, &at, err);
	lc_conf_where(conf, top, &lc_core_main, "control_socket", &at);
	if (m->control_socket.n)
		socket_path("control_socket", m->control_socket.v[0], m->control_socket.v[0], &at, err);
	while ((pool = lc_conf_next(top, LC_C_POOL, pool))) {
		const struct lc_conf_pool *p = lc_conf_get(conf, pool, &lc_core_pool);

		lc_conf_where(conf, pool, &lc_core_pool, "access_log", &at);
		for (uint32_t i = 0; lc_conf_access_log(p, i, &log); i++)
			if (strcmp(log.path, "-") != 0)
				file_check("access_log", log.path, &at, err);
		for (b = NULL; (b = lc_conf_next(pool, LC_C_LISTEN, b));)
			listen_check(conf, b, err);
	}
}
