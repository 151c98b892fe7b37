/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resolve.c - paths below the root.
 *
 * The kernel does it, by openat2(2), in one call that cannot be raced.  Where there is none (before Linux 5.6, or a
 * seccomp filter that does not know it) a walk opens one component at a time without following links, reads those that
 * may be followed, and keeps the directories that it came through open, so that ".." in a link's target goes back to
 * where the walk was and not to where somebody has moved the directory.  Both give the same answers; the unit test
 * holds them side by side.
 *
 * Trap: links with an absolute target lead out, also where that lies below the root.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "static.h"

#define FLAGS (O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
#define MAX_LINKS 40 /* as the kernel's */
#define MAX_DEPTH 64 /* directories that a walk keeps open */
#define MAX_AGAIN 8  /* times that a rename nearby may disturb us */

static int
kernel_open(const struct st_root *r, const char *path, int how)
{
	struct open_how oh = {
	    /* O_PATH refuses what it has no use for */
	    .flags = (uint64_t)(unsigned)(how == O_PATH ? O_PATH | O_CLOEXEC : how | FLAGS),
	    .resolve = RESOLVE_NO_MAGICLINKS,
	};

	if (r->links != ST_LINKS_FOLLOW)
		oh.resolve |= RESOLVE_BENEATH;
	if (r->links == ST_LINKS_OFF)
		oh.resolve |= RESOLVE_NO_SYMLINKS;
	for (int k = 0; k < MAX_AGAIN; k++) {
		long fd = syscall(SYS_openat2, r->fd, *path ? path : ".", &oh, sizeof(oh));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

/* openat() that follows no link.  A link: -ELOOP, for each kind of flags. */
static int
open_here(int dir, const char *name, int how)
{
	int fd = openat(dir, name, O_NOFOLLOW | (how == O_PATH ? O_PATH | O_CLOEXEC : how | FLAGS));
	struct stat st;

	if (fd < 0)
		return -errno;
	if (how == O_PATH && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
		close(fd);
		return -ELOOP;
	}
	return fd;
}

struct walk {
	const struct st_root *root;
	int how, links;
	uint32_t depth;
	int dir[MAX_DEPTH];
	char rest[PATH_MAX]; /* what is left to walk */
};

static int
walk_dir(const struct walk *w)
{
	return w->depth ? w->dir[w->depth - 1] : w->root->fd;
}

/* Put the target of a link before what comes after it (`tail`, within w->rest). */
static int
walk_link(struct walk *w, const char *name, const char *tail)
{
	char target[PATH_MAX];
	size_t more = strlen(tail);

	if (w->root->links == ST_LINKS_OFF || ++w->links > MAX_LINKS)
		return -ELOOP;
	ssize_t n = readlinkat(walk_dir(w), name, target, sizeof(target));
	if (n < 0)
		return errno == EINVAL ? -EAGAIN : -errno; /* EINVAL: it is no link any more */
	if (n == 0)
		return -ENOENT;
	if (target[0] == '/')
		return -EXDEV;
	if ((size_t)n + 1 + more >= sizeof(w->rest))
		return -ENAMETOOLONG;
	memmove(w->rest + n, tail, more + 1);
	memcpy(w->rest, target, (size_t)n);
	return 0;
}

/* One component.  Below 0: -errno; 0: go on; above: the descriptor of the whole path, plus one. */
static int
walk_step(struct walk *w)
{
	char name[NAME_MAX + 1];
	char *p = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(p, "/");
	char *tail = p + n; /* begins with '/' where more follows or a directory is meant */
	int fd;

	if (n == 0) { /* the directory that we are in */
		fd = openat(walk_dir(w), ".", w->how == O_PATH ? O_PATH | O_CLOEXEC : w->how | FLAGS);
		return fd < 0 ? -errno : fd + 1;
	}
	if (n > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, p, n);
	name[n] = '\0';
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		if (n == 2 && w->depth == 0)
			return -EXDEV;
		if (n == 2)
			close(w->dir[--w->depth]);
		memmove(w->rest, tail, strlen(tail) + 1);
		return 0;
	}
	fd = open_here(walk_dir(w), name, *tail ? O_PATH : w->how);
	if (fd == -ELOOP)
		return walk_link(w, name, tail);
	if (fd < 0)
		return fd;
	if (!*tail)
		return fd + 1;
	struct stat st;
	int r = fstat(fd, &st) < 0      ? -errno
		: !S_ISDIR(st.st_mode)  ? -ENOTDIR
		: w->depth == MAX_DEPTH ? -ENAMETOOLONG
					: 0;
	if (r < 0) {
		close(fd);
		return r;
	}
	w->dir[w->depth++] = fd;
	memmove(w->rest, tail, strlen(tail) + 1);
	return 0;
}

static int
walk_open(const struct st_root *root, const char *path, int how)
{
	struct walk w;
	size_t n = strlen(path);
	int r = 0;

	if (n >= sizeof(w.rest))
		return -ENAMETOOLONG;
	for (int k = 0; k < MAX_AGAIN; k++) {
		w.root = root;
		w.how = how;
		w.links = 0;
		w.depth = 0;
		memcpy(w.rest, path, n + 1);
		do
			r = walk_step(&w);
		while (r == 0);
		while (w.depth)
			close(w.dir[--w.depth]);
		if (r != -EAGAIN)
			break;
	}
	return r > 0 ? r - 1 : r;
}

int
st_open(const struct st_root *r, const char *path, int how)
{
	int fd;

	if (!r->walk)
		return kernel_open(r, path, how);
	if (r->links != ST_LINKS_FOLLOW)
		return walk_open(r, path, how);
	fd = openat(r->fd, *path ? path : ".", how == O_PATH ? O_PATH | O_CLOEXEC : how | FLAGS);
	return fd < 0 ? -errno : fd;
}

int
st_root_open(struct st_root *ret, const char *path, uint32_t links)
{
	struct st_root r = {.links = (uint8_t)links};
	int fd;

	r.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r.fd < 0)
		return -errno;
	fd = kernel_open(&r, "", O_PATH);
	if (fd >= 0) {
		close(fd);
	} else if (fd == -ENOSYS || fd == -EPERM || fd == -EINVAL || fd == -E2BIG) {
		/* no such call: says the kernel, or a filter; or it is another than the one that we know */
		r.walk = 1;
	} else {
		close(r.fd);
		return fd;
	}
	*ret = r;
	return 0;
}

void
st_root_close(struct st_root *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}
