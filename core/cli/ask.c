/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/ask.c - what `status` and `reload` share: the configuration that is meant, and a question to its licorne.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "cli/cli.h"
#include "config/conf.h"
#include "log/log.h"

#define ANSWER_MAX (64u << 20)

int
lc_cli_fail(const char *usage, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lc_logv(LC_LOG_ERROR, fmt, ap);
	va_end(ap);
	if (status == LC_EXIT_USAGE)
		fputs(usage, stderr);
	return status;
}

int
lc_cli_conf(const char *path, const char *globals, const char *prefix, struct lc_conf **ret,
	    const struct lc_conf_main **ret_main)
{
	struct lc_conf_opts o = {.opaque = 1, .use_env = 1, .globals = globals, .prefix = prefix};
	struct lc_err *err = lc_err_new();
	int r;

	if (!err)
		return lc_cli_fail(NULL, LC_EXIT_CONFIG, "no memory");
	r = lc_conf_load(ret, path, &o, err);
	if (r < 0)
		fputs(lc_err_text(err), stderr);
	lc_err_free(err);
	if (r < 0)
		return LC_EXIT_CONFIG;
	*ret_main = lc_conf_get(*ret, lc_conf_main_block(*ret), &lc_core_main);
	return 0;
}

static int
open_socket(const char *path, char *why, size_t n)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		snprintf(why, n, "%s: the path is too long for a socket", path);
		return -1;
	}
	memcpy(sun.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	snprintf(why, n, "%s: %s%s", path, strerror(errno),
		 errno == ENOENT || errno == ECONNREFUSED
		     ? ": licorne is not running, or was started with another configuration"
		 : errno == EACCES || errno == EPERM ? ": ask as root, or as the user that licorne was started as"
						     : "");
	if (fd >= 0)
		close(fd);
	return -1;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
lc_cli_ask(const char *path, const char *question, int timeout_ms, char **ret, size_t *ret_n, char *why, size_t whysize)
{
	int64_t until = now_ms() + timeout_ms;
	size_t n = 0, cap = 0;
	char *buf = NULL;
	int fd = open_socket(path, why, whysize);

	if (fd < 0)
		return -1;
	why[0] = 0;
	/* An arbiter that has too many clients has answered before it was asked. */
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0 && errno != EPIPE)
		snprintf(why, whysize, "%s: %s", path, strerror(errno));
	while (!why[0] && (n == 0 || buf[n - 1] != '\n')) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		ssize_t k;
		int r;

		if (cap - n < 4096) {
			char *more = cap < ANSWER_MAX ? realloc(buf, cap ? 2 * cap : 65536) : NULL;

			if (!more) {
				snprintf(why, whysize, "%s: the answer is too long", path);
				break;
			}
			cap = cap ? 2 * cap : 65536;
			buf = more;
		}
		r = poll(&p, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);
		if (r < 0 && errno == EINTR)
			continue;
		k = r > 0 ? recv(fd, buf + n, cap - n, 0) : r;
		if (r == 0)
			snprintf(why, whysize, "%s: no answer within %d s", path, timeout_ms / 1000);
		else if (k < 0)
			snprintf(why, whysize, "%s: %s", path, strerror(errno));
		else if (k == 0)
			snprintf(why, whysize, "%s: licorne has closed the connection without an answer", path);
		else
			n += (size_t)k;
	}
	close(fd);
	if (why[0]) {
		free(buf);
		return -1;
	}
	*ret = buf;
	*ret_n = n;
	return 0;
}
