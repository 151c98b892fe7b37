/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/oom.c - who sent a SIGKILL that we did not: the kernel, for want of memory, or somebody?
 *
 * The kernel tells nobody, but it counts such kills before it sends the signal (oom_kill of /proc/vmstat, those within
 * a cgroup's limit included).  The number is read every LOOK_MS, so that one which has grown when a process was killed
 * tells of the last seconds: of this process, as a rule.  A process that frees much memory is a while about dying, so
 * it is compared with the last look but one.  In a container it is the whole machine's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arbiter/priv.h"

#define LOOK_MS 5000
#define VMSTAT_MAX 32768u

int64_t
lc__oom_count(const char *vmstat)
{
	static const char name[] = "oom_kill ";
	const char *at = vmstat;

	while ((at = strstr(at, name))) {
		if (at == vmstat || at[-1] == '\n')
			return strtoll(at + sizeof(name) - 1, NULL, 10);
		at += sizeof(name) - 1;
	}
	return -1;
}

/* -1: the kernel does not say. */
static int64_t
read_count(void)
{
	char buf[VMSTAT_MAX];
	size_t n = 0;
	ssize_t r = 0;
	int fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (n < sizeof(buf) - 1 && (r = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	buf[n] = 0;
	return r < 0 ? -1 : lc__oom_count(buf);
}

void
lc__oom_look(struct lc__arb *a)
{
	if (a->oom[0].at && a->now - a->oom[0].at < LOOK_MS)
		return;
	a->oom[1] = a->oom[0];
	a->oom[0].kills = read_count();
	a->oom[0].at = a->now;
	if (!a->oom[1].at)
		a->oom[1] = a->oom[0];
}

const char *
lc__oom_or_user(struct lc__arb *a, char *buf, size_t n)
{
	int64_t was = a->oom[1].at ? a->oom[1].kills : -1, is = read_count();

	if (was < 0 || is < 0)
		snprintf(buf, n, "by a user, or by the kernel for want of memory");
	else if (is <= was)
		snprintf(buf, n, "by a user or a program; the kernel has killed nobody for want of memory");
	else
		snprintf(
		    buf, n,
		    "by the kernel for want of memory, as it seems: it has killed %lld process%s for that in the last "
		    "%.1f s",
		    (long long)(is - was), is - was == 1 ? "" : "es", (double)(a->now - a->oom[1].at) / 1000.0);
	if (was >= 0 && is > was) { /* that one is told of; another's may be among them */
		a->oom[1].kills++;
		if (a->oom[0].kills < a->oom[1].kills)
			a->oom[0].kills = a->oom[1].kills;
	}
	return buf;
}
