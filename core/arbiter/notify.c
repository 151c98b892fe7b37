/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/notify.c - what the service manager is told: sd_notify(3), a datagram to $NOTIFY_SOCKET.
 *
 * READY=1 when the start or a reload is over, RELOADING=1, STOPPING=1, MAINPID= when another process takes over,
 * STATUS= in words, WATCHDOG=1 twice in the time after which the manager would think that we hang; it comes from the
 * end of a turn of the loop.  The manager believes its main process only, so a successor is silent until it is that.
 *
 * Sending never waits.  What the socket does not take is kept, the newest only, and sent later: the last word is the
 * one that counts.  The variables are taken out of the environment: an application must not speak for its server.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define LATE_MS 100

static bool
address(struct lc__notify *n, const char *name)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || !name[1] || len >= sizeof(sun.sun_path))
		return false;
	memcpy(sun.sun_path, name, len);
	if (name[0] == '@') /* abstract: no NUL behind it, and it counts */
		sun.sun_path[0] = 0;
	n->to.len = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
	memcpy(n->to.raw, &sun, sizeof(sun));
	return true;
}

static void
watchdog(struct lc__arb *a)
{
	struct lc__notify *n = &a->notify;
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end;
	unsigned long long v;

	if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return;
	errno = 0;
	v = strtoull(usec, &end, 10);
	if (errno || end == usec || *end || v < 2000 || v > INT64_MAX) {
		lc_log(LC_LOG_WARN, "WATCHDOG_USEC is \"%s\", expected a number of microseconds: no watchdog", usec);
		return;
	}
	n->watchdog = strdup(usec);
	n->every = (int64_t)(v / 2000);
	n->due = lc__now_ms();
}

void
lc__notify_init(struct lc__arb *a)
{
	struct lc__notify *n = &a->notify;
	const char *name = getenv("NOTIFY_SOCKET");

	n->fd = -1;
	if (name && *name) {
		if (!address(n, name))
			lc_log(LC_LOG_WARN, "NOTIFY_SOCKET is \"%s\", expected a path or @NAME: nobody is told", name);
		else if ((n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
			lc_log(LC_LOG_WARN, "NOTIFY_SOCKET: %m");
		else
			n->socket = strdup(name);
		if (n->fd >= 0)
			watchdog(a);
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void
lc__notify_env(const struct lc__arb *a, bool set)
{
	const struct lc__notify *n = &a->notify;

	if (set && n->socket)
		setenv("NOTIFY_SOCKET", n->socket, 1);
	else
		unsetenv("NOTIFY_SOCKET");
	if (set && n->watchdog)
		setenv("WATCHDOG_USEC", n->watchdog, 1);
	else
		unsetenv("WATCHDOG_USEC");
}

/* 0, or -errno. */
static int
say(struct lc__notify *n, const char *text)
{
	if (sendto(n->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)(const void *)n->to.raw, n->to.len) >= 0) {
		n->complained = false;
		return 0;
	}
	if (errno == EAGAIN || errno == ENOBUFS)
		return -EAGAIN;
	if (!n->complained)
		lc_log(LC_LOG_WARN, "the service manager cannot be told (NOTIFY_SOCKET %s): %m", n->socket);
	n->complained = true;
	return 0;
}

static void LC_PRINTF(2, 3) tell(struct lc__arb *a, const char *fmt, ...)
{
	struct lc__notify *n = &a->notify;
	char text[sizeof(n->late)];
	va_list ap;

	if (n->fd < 0 || n->silent || a->predecessor)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n->late[0] = 0;
	if (say(n, text) == -EAGAIN) {
		memcpy(n->late, text, sizeof(text));
		n->late_at = lc__now_ms() + LATE_MS;
	}
}

/* "generation 2 serves; ..." */
static void
words(const struct lc__arb *a, char *buf, size_t size)
{
	const struct lc__reload *r = &a->reload;
	size_t n = (size_t)snprintf(buf, size, "generation %u serves", a->gen->number);

	for (uint32_t i = 0; i < a->gen->npools && n < size; i++)
		if (a->gen->pools[i].degraded)
			n += (size_t)snprintf(buf + n, size - n, "; pool %s is degraded", a->gen->pools[i].name);
	if (r->done && !r->ok && n < size)
		snprintf(buf + n, size - n, "; the last reload failed: %.200s", r->why);
	buf[strcspn(buf, "\n")] = 0; /* it is a line */
}

void
lc__notify_serving(struct lc__arb *a)
{
	char text[380];

	words(a, text, sizeof(text));
	tell(a, "READY=1\nMAINPID=%ld\nSTATUS=%s", (long)a->pid, text);
}

void
lc__notify_status(struct lc__arb *a)
{
	char text[380];

	if (!a->told_ready || a->stopping || a->notify.late[0]) /* which says it, too, or is more urgent */
		return;
	words(a, text, sizeof(text));
	tell(a, "STATUS=%s", text);
}

void
lc__notify_reloading(struct lc__arb *a)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	tell(a, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=generation %u serves, another one is being started",
	     (unsigned long long)ts.tv_sec * 1000000 + (unsigned long long)ts.tv_nsec / 1000, a->gen->number);
}

void
lc__notify_stopping(struct lc__arb *a)
{
	unsigned long long ms = a->main ? a->main->graceful_timeout : 0;

	tell(a, "STOPPING=1\nSTATUS=running requests are finished\nEXTEND_TIMEOUT_USEC=%llu",
	     (ms + 2 * LC__KILL_GRACE) * 1000);
}

void
lc__notify_handover(struct lc__arb *a, pid_t pid)
{
	tell(a, "MAINPID=%ld\nSTATUS=a new licorne takes over", (long)pid);
	a->notify.every = 0;
	a->notify.silent = true;
}

int64_t
lc__notify_deadline(const struct lc__arb *a)
{
	const struct lc__notify *n = &a->notify;
	int64_t next = INT64_MAX;

	if (n->fd < 0 || a->predecessor)
		return next;
	if (n->every)
		next = n->due;
	if (n->late[0] && n->late_at < next)
		next = n->late_at;
	return next;
}

void
lc__notify_turn(struct lc__arb *a)
{
	struct lc__notify *n = &a->notify;

	if (n->fd < 0 || a->predecessor)
		return;
	if (n->late[0] && n->late_at <= a->now) {
		if (say(n, n->late) == 0)
			n->late[0] = 0;
		n->late_at = a->now + LATE_MS;
	}
	if (n->every && n->due <= a->now) {
		(void)say(n, "WATCHDOG=1");
		n->due = a->now + n->every;
	}
}

void
lc__notify_free(struct lc__arb *a)
{
	struct lc__notify *n = &a->notify;

	if (n->fd >= 0)
		close(n->fd);
	free(n->socket);
	free(n->watchdog);
	*n = (struct lc__notify){.fd = -1};
}
