/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/cpus.c - how many processes "auto" means: CPUs that we may use, cut by the cgroup's quota.
 *
 * The smallest quota on the way from our cgroup to the root of its mount counts (v2 cpu.max, v1 cfs_quota_us).  A
 * quota of 1.5 CPUs gives 2.  Nothing here fails: what cannot be read limits nothing.
 */
#include "config/conf_priv.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 262144u

static char *
slurp(const char *root, const char *path)
{
	char full[4608], *p;
	size_t n = 0;
	ssize_t r;
	int fd;

	if (snprintf(full, sizeof(full), "%s%s", root, path) >= (int)sizeof(full))
		return NULL;
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	p = malloc(TEXT_MAX);
	while (p && n < TEXT_MAX - 1 && (r = read(fd, p + n, TEXT_MAX - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	if (p)
		p[n] = 0;
	return p;
}

/* CPUs that quota/period allow, rounded up; 0: no limit */
static uint32_t
quota_cpus(long long quota, long long period)
{
	if (quota <= 0 || period <= 0)
		return 0;
	long long n = quota / period + (quota % period != 0);
	return n > (long long)LC__PROCESSES_MAX ? LC__PROCESSES_MAX : (uint32_t)n;
}

static uint32_t
folder_cpus(const char *root, const char *folder, int v2)
{
	char path[4608], *a, *b = NULL;
	long long quota = 0, period = 0;

	snprintf(path, sizeof(path), "%.4096s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
	a = slurp(root, path);
	if (a && v2) {
		if (sscanf(a, "%lld %lld", &quota, &period) != 2) /* "max 100000" */
			quota = 0;
	} else if (a) {
		snprintf(path, sizeof(path), "%.4096s/cpu.cfs_period_us", folder);
		b = slurp(root, path);
		if (!b || sscanf(a, "%lld", &quota) != 1 || sscanf(b, "%lld", &period) != 1)
			quota = 0;
	}
	free(a);
	free(b);
	return quota_cpus(quota, period);
}

/* Octal escapes of mountinfo (\040). */
static void
unescape(char *s)
{
	char *w = s;

	while (*s)
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*w++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*w++ = *s++;
		}
	*w = 0;
}

static int
has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return 1;
	return 0;
}

/* Where the hierarchy is mounted, and which of its cgroups the mount shows at its top.  1: found */
static int
mount_find(char *info, int v2, char **ret_top, char **ret_at)
{
	char *save = NULL;

	for (char *line = strtok_r(info, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *dash = strstr(line, " - "), *field[5], *tail[3], *p = line;
		int n = 0, m = 0;
		if (!dash)
			continue;
		*dash = 0;
		for (char *w; n < 5 && (w = strsep(&p, " "));)
			field[n++] = w;
		p = dash + 3;
		for (char *w; m < 3 && (w = strsep(&p, " "));)
			tail[m++] = w;
		if (n < 5 || m < 3 || strcmp(tail[0], v2 ? "cgroup2" : "cgroup") || (!v2 && !has_word(tail[2], "cpu")))
			continue;
		unescape(field[3]);
		unescape(field[4]);
		*ret_top = field[3];
		*ret_at = field[4];
		return 1;
	}
	return 0;
}

static uint32_t
hierarchy_cpus(const char *root, const char *cgroup, int v2)
{
	char *info = slurp(root, "/proc/self/mountinfo"), *top = NULL, *at = NULL;
	char folder[4096];
	uint32_t best = 0;
	size_t n;

	if (!info || !mount_find(info, v2, &top, &at)) {
		free(info);
		return 0;
	}
	/* without a cgroup namespace, our path begins with the one that the mount shows at its top */
	n = strlen(top);
	if (!strcmp(top, "/"))
		n = 0;
	if (strncmp(cgroup, top, n) || (cgroup[n] && cgroup[n] != '/'))
		cgroup = "";
	else
		cgroup += n;
	if (snprintf(folder, sizeof(folder), "%s%s", strcmp(at, "/") ? at : "", cgroup) < (int)sizeof(folder))
		for (size_t stop = strcmp(at, "/") ? strlen(at) : 0;;) {
			uint32_t cpus = folder_cpus(root, folder, v2);
			if (cpus && (!best || cpus < best))
				best = cpus;
			char *slash = strrchr(folder, '/');
			if (strlen(folder) <= stop || !slash)
				break;
			*slash = 0;
			if (strlen(folder) < stop)
				break;
		}
	free(info);
	return best;
}

static uint32_t
affinity_cpus(void)
{
	/* more CPUs than cpu_set_t holds: the kernel says EINVAL until the set is large enough */
	for (int n = 1024; n <= 65536; n *= 2) {
		cpu_set_t *set = CPU_ALLOC((size_t)n);
		size_t size = CPU_ALLOC_SIZE((size_t)n);
		int count = 0;
		if (!set)
			break;
		if (sched_getaffinity(0, size, set) == 0)
			count = CPU_COUNT_S(size, set);
		CPU_FREE(set);
		if (count > 0)
			return (uint32_t)count;
	}
	return 1;
}

uint32_t
lc_conf_cpus(const char *root)
{
	uint32_t best = affinity_cpus();
	char *text, *save = NULL;

	if (!root)
		root = "";
	text = slurp(root, "/proc/self/cgroup");
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
		uint32_t cpus = 0;
		if (!path)
			continue;
		*controllers++ = 0;
		*path++ = 0;
		if (!*controllers && !strcmp(line, "0"))
			cpus = hierarchy_cpus(root, path, 1);
		else if (has_word(controllers, "cpu"))
			cpus = hierarchy_cpus(root, path, 0);
		if (cpus && cpus < best)
			best = cpus;
	}
	free(text);
	return best < 1 ? 1 : best > LC__PROCESSES_MAX ? LC__PROCESSES_MAX : best;
}

uint32_t
lc_conf_processes(const struct lc_conf_pool *pool)
{
	if (!strcmp(pool->processes, "auto"))
		return lc_conf_cpus(NULL);
	unsigned long n = strtoul(pool->processes, NULL, 10);
	return n < 1 ? 1 : n > LC__PROCESSES_MAX ? LC__PROCESSES_MAX : (uint32_t)n;
}
