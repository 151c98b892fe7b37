/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/who.c - which process listens on an address that we wanted.
 *
 * /proc/net/{tcp,tcp6,unix} gives the inode of the listening socket, /proc/PID/fd who holds it.  It is a courtesy in an
 * error message: whatever cannot be read is left out.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "arbiter/priv.h"

#define MAX_INODES 16
#define MAX_HOLDERS 256

struct inodes {
	unsigned long v[MAX_INODES];
	unsigned n;
};

static void
add(struct inodes *in, unsigned long inode)
{
	if (inode && in->n < MAX_INODES)
		in->v[in->n++] = inode;
}

/* Lines "sl local_address rem_address st ... inode": addresses are hexadecimal words in host order. */
static void
scan_tcp(const char *file, const uint8_t *want, size_t n, unsigned port, struct inodes *in)
{
	FILE *f = fopen(file, "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char hex[40];
		unsigned p, st;
		unsigned long inode;
		bool any = true, wild = true, mapped, same;
		uint8_t a[16] = {0};
		size_t an;

		if (sscanf(line, " %*u: %39[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", hex, &p, &st,
			   &inode) != 4)
			continue;
		if (p != port || st != 0x0a) /* TCP_LISTEN */
			continue;
		an = strlen(hex) / 2;
		for (size_t i = 0; i < an / 4 && i < 4; i++) {
			char word[9];
			uint32_t w;

			memcpy(word, hex + i * 8, 8);
			word[8] = 0;
			w = (uint32_t)strtoul(word, NULL, 16);
			memcpy(a + i * 4, &w, 4);
		}
		for (size_t i = 0; i < an && i < 16; i++)
			any &= a[i] == 0;
		for (size_t i = 0; i < n; i++)
			wild &= want[i] == 0;
		mapped = an == 16 && n == 4 && memcmp(a, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0 &&
			 !memcmp(a + 12, want, 4);
		same = an == n && memcmp(a, want, n) == 0;
		if (any || wild || mapped || same)
			add(in, inode);
	}
	if (f)
		fclose(f);
}

static void
scan_unix(const char *path, struct inodes *in)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		unsigned flags;
		unsigned long inode;
		int at = 0;

		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%*s %*x %*x %x %*x %*x %lu %n", &flags, &inode, &at) < 2 || at == 0)
			continue;
		if ((flags & 0x10000) && strcmp(line + at, path) == 0) /* __SO_ACCEPTCON */
			add(in, inode);
	}
	if (f)
		fclose(f);
}

static bool
holds(pid_t pid, const struct inodes *in)
{
	char path[64], link[64];
	bool found = false;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		unsigned long inode;
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = 0;
		if (sscanf(link, "socket:[%lu]", &inode) != 1)
			continue;
		for (unsigned i = 0; i < in->n; i++)
			found |= in->v[i] == inode;
	}
	if (d)
		closedir(d);
	return found;
}

ssize_t
lc__proc_file(pid_t pid, const char *name, char *buf, size_t n)
{
	char path[96];
	ssize_t r;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -1 : read(fd, buf, n - 1);
	if (fd >= 0)
		close(fd);
	if (r >= 0)
		buf[r] = 0;
	return r;
}

static pid_t
parent_of(pid_t pid)
{
	char buf[512];
	const char *p;
	long parent = 0;

	if (lc__proc_file(pid, "stat", buf, sizeof(buf)) <= 0)
		return 0;
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	return p && sscanf(p, ") %*c %ld", &parent) == 1 ? (pid_t)parent : 0;
}

static void
describe(pid_t pid, char *buf, size_t n)
{
	char cmd[256];
	ssize_t k = lc__proc_file(pid, "cmdline", cmd, sizeof(cmd));

	while (k > 0 && cmd[k - 1] == 0)
		k--;
	for (ssize_t i = 0; i < k; i++)
		if (cmd[i] == 0)
			cmd[i] = ' ';
	cmd[k > 0 ? k : 0] = 0;
	if (k > 0)
		snprintf(buf, n, "process %ld (%s)", (long)pid, cmd);
	else
		snprintf(buf, n, "process %ld", (long)pid);
}

int
lc__who_listens(const struct lc_addr *a, char *buf, size_t n, pid_t *ret_pid)
{
	struct inodes in = {.n = 0};
	pid_t found = 0, holders[MAX_HOLDERS];
	unsigned n_holders = 0;
	struct dirent *e;
	DIR *d;

	if (a->family == AF_INET) {
		struct sockaddr_in s;

		memcpy(&s, a->sa.raw, sizeof(s));
		scan_tcp("/proc/net/tcp", (const uint8_t *)&s.sin_addr, 4, ntohs(s.sin_port), &in);
		scan_tcp("/proc/net/tcp6", (const uint8_t *)&s.sin_addr, 4, ntohs(s.sin_port), &in);
	} else if (a->family == AF_INET6) {
		struct sockaddr_in6 s;

		memcpy(&s, a->sa.raw, sizeof(s));
		scan_tcp("/proc/net/tcp6", s.sin6_addr.s6_addr, 16, ntohs(s.sin6_port), &in);
		scan_tcp("/proc/net/tcp", s.sin6_addr.s6_addr, 16, ntohs(s.sin6_port), &in);
	} else if (a->family == AF_UNIX) {
		struct sockaddr_un s;
		char path[sizeof(s.sun_path) + 1] = {0};

		memcpy(&s, a->sa.raw, sizeof(s));
		memcpy(path, s.sun_path, sizeof(s.sun_path));
		if (path[0] == 0)
			path[0] = '@';
		scan_unix(path, &in);
	}
	if (in.n == 0)
		return -ENOENT;
	d = opendir("/proc");
	while (d && n_holders < MAX_HOLDERS && (e = readdir(d))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && holds(pid, &in))
			holders[n_holders++] = pid;
	}
	if (d)
		closedir(d);
	/* Of a server with workers, the one that started the others. */
	for (unsigned i = 0; i < n_holders; i++) {
		pid_t parent = parent_of(holders[i]);
		bool child = false;

		for (unsigned k = 0; k < n_holders; k++)
			child |= holders[k] == parent;
		if (!child && !found)
			found = holders[i];
	}
	if (!found)
		return -ENOENT;
	describe(found, buf, n);
	if (ret_pid)
		*ret_pid = found;
	return 0;
}
