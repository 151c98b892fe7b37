/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/tree.c - which files below some folders change, by inotify(7).
 *
 * inotify knows folders, not trees: each one has a watch of its own, and one that appears is watched as soon as it is
 * heard of.  What was written into it before that is found by reading it: so a folder is always watched first and read
 * after.  A change may be seen twice that way, never missed; names are told apart, and told after a while of silence.
 *
 * A file is changed when a writer closes it, when a name is given to it (editors write a new one and rename it) and
 * when its name goes.  Creation alone is no change, but for a link: the writer has not written yet.
 */
#include "arbiter/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log.h"

#define RULES 64u /* of each kind */
#define EVENTS (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR | IN_EXCL_UNLINK)
#define NEVER INT64_MAX
#define SHOWN 200u /* bytes of a name, of its end */

struct dir {
	int wd;
	bool root; /* is watched whatever is in it */
	bool flat; /* only the files that are named one by one */
	bool has;  /* a file that counts */
	char *path;
};

struct rules {
	const char *v[RULES];
	uint32_t n;
};

struct lc__tree {
	int fd;
	char *text, *cwd;
	struct rules trees, files, match, skip, with;
	struct dir *dirs; /* by wd */
	uint32_t n, cap;
	char **queue; /* folders that are to be watched */
	uint32_t nqueue, capqueue;
	bool full, failed; /* said so; no memory */
	char *names[LC__TREE_NAMES];
	uint32_t nnames;
	bool many;           /* more than are told apart */
	int64_t first, last; /* when the first and the last change that was not told came */
	int64_t now;
};

/* ---- rules ---- */

static bool
is_any(const struct rules *r, const char *name, int flags)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (fnmatch(r->v[i], name, flags) == 0)
			return true;
	return false;
}

static bool
is_file(const struct lc__tree *t, const char *path)
{
	for (uint32_t i = 0; i < t->files.n; i++)
		if (strcmp(t->files.v[i], path) == 0)
			return true;
	return false;
}

static bool
counts(const struct lc__tree *t, const struct dir *d, const char *name, const char *path)
{
	return (!d->flat && is_any(&t->match, name, FNM_PERIOD)) || is_file(t, path);
}

static int
rule(struct lc__tree *t, char *line)
{
	static const char *const words[] = {"tree", "file", "match", "skip", "skip-with"};
	struct rules *kinds[] = {&t->trees, &t->files, &t->match, &t->skip, &t->with};
	char *rest = strchr(line, ' ');

	for (size_t i = 0; rest && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i]) != (size_t)(rest - line) || strncmp(words[i], line, strlen(words[i])) != 0)
			continue;
		if (i < 2 && rest[1] != '/')
			break;
		if (kinds[i]->n == RULES) {
			lc_log(LC_LOG_WARN, "reload: more than %u lines \"%s\": %s is left out", RULES, words[i],
			       rest + 1);
			return 0;
		}
		kinds[i]->v[kinds[i]->n++] = rest + 1;
		return 0;
	}
	lc_log(LC_LOG_ERROR, "reload: \"%s\" does not say what to watch", line);
	return -EINVAL;
}

/* ---- what changed ---- */

/* path is the caller's */
static void
changed(struct lc__tree *t, const char *path)
{
	char *copy;

	t->last = t->now;
	if (t->nnames == 0)
		t->first = t->now;
	for (uint32_t i = 0; i < t->nnames; i++)
		if (strcmp(t->names[i], path) == 0)
			return;
	if (t->nnames == LC__TREE_NAMES || !(copy = strdup(path))) {
		t->many = true;
		return;
	}
	t->names[t->nnames++] = copy;
}

int
lc__tree_due(const struct lc__tree *t, int64_t now)
{
	int64_t due = t->last + LC__TREE_QUIET;

	if (t->nnames == 0)
		return -1;
	if (due > t->first + LC__TREE_LONG)
		due = t->first + LC__TREE_LONG;
	return due > now ? (int)(due - now) : 0;
}

static const char *
shown(const struct lc__tree *t, const char *path)
{
	size_t n = strlen(t->cwd);

	if (strncmp(path, t->cwd, n) == 0 && path[n] == '/' && path[n + 1])
		path += n + 1;
	n = strlen(path);
	return n > SHOWN ? path + n - SHOWN : path;
}

void
lc__tree_take(struct lc__tree *t, char *buf, size_t n)
{
	size_t at = 0;
	/* "and 1 more" is no shorter than the name */
	uint32_t told = t->nnames <= LC__TREE_TOLD + 1 && !t->many ? t->nnames : LC__TREE_TOLD;

	*buf = 0;
	for (uint32_t i = 0; i < told && at < n; i++)
		at += (size_t)snprintf(buf + at, n - at, "%s%s", i ? ", " : "", shown(t, t->names[i]));
	if (told < t->nnames && at < n)
		snprintf(buf + at, n - at, " and %s%u more", t->many ? "at least " : "", t->nnames - told);
	for (uint32_t i = 0; i < t->nnames; i++)
		free(t->names[i]);
	t->nnames = 0;
	t->many = false;
}

/* ---- folders ---- */

static bool
below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/' || strcmp(folder, "/") == 0);
}

/* "folder/name"; NULL: no memory */
static char *
join(struct lc__tree *t, const char *folder, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name) < 0) {
		t->failed = true;
		return NULL;
	}
	return path;
}

/* Where the folder of that watch is, or would be. */
static uint32_t
position(const struct lc__tree *t, int wd)
{
	uint32_t lo = 0, hi = t->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (t->dirs[mid].wd < wd)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct dir *
find(struct lc__tree *t, int wd)
{
	uint32_t i = position(t, wd);

	return i < t->n && t->dirs[i].wd == wd ? &t->dirs[i] : NULL;
}

static void
forget(struct lc__tree *t, uint32_t i)
{
	free(t->dirs[i].path);
	memmove(&t->dirs[i], &t->dirs[i + 1], (--t->n - i) * sizeof(*t->dirs));
}

/* The folder and those below it are not watched any more.  true: there was a file that counted. */
static bool
drop(struct lc__tree *t, const char *path)
{
	bool had = false;

	for (uint32_t i = t->n; i-- > 0;)
		if (below(t->dirs[i].path, path)) {
			had |= t->dirs[i].has;
			(void)inotify_rm_watch(t->fd, t->dirs[i].wd);
			forget(t, i);
		}
	return had;
}

/* Takes path. */
static void
enqueue(struct lc__tree *t, char *path)
{
	if (path && t->nqueue == t->capqueue) {
		uint32_t cap = t->capqueue ? 2 * t->capqueue : 64;
		char **v = realloc(t->queue, cap * sizeof(*v));

		if (!v) {
			t->failed = true;
			free(path);
			return;
		}
		t->queue = v;
		t->capqueue = cap;
	}
	if (path)
		t->queue[t->nqueue++] = path;
}

static void
no_more(struct lc__tree *t, const char *path, int err)
{
	if (t->full)
		return;
	t->full = true;
	if (err == ENOSPC)
		lc_log(LC_LOG_WARN,
		       "reload: only %u folders are watched, without %s: fs.inotify.max_user_watches is reached; "
		       "raise it: sysctl fs.inotify.max_user_watches=524288",
		       t->n, path);
	else
		lc_log(LC_LOG_WARN, "reload: only %u folders are watched, without %s: there are too many below it",
		       t->n, path);
}

/* The folder at path gets a watch.  NULL: it is not there (any more), is no folder, cannot be watched, or is full. */
static struct dir *
watch(struct lc__tree *t, const char *path, bool root, bool flat)
{
	struct dir *d;
	char *copy;
	int wd;

	if (t->n == LC__TREE_DIRS) {
		no_more(t, path, 0);
		return NULL;
	}
	if (t->n == t->cap) {
		uint32_t cap = t->cap ? 2 * t->cap : 64;
		struct dir *v = realloc(t->dirs, cap * sizeof(*v));

		if (!v) {
			t->failed = true;
			return NULL;
		}
		t->dirs = v;
		t->cap = cap;
	}
	copy = strdup(path);
	if (!copy) {
		t->failed = true;
		return NULL;
	}
	wd = inotify_add_watch(t->fd, path, EVENTS | (root ? 0u : IN_DONT_FOLLOW));
	if (wd < 0) {
		if (errno == ENOSPC)
			no_more(t, path, errno);
		else if (errno != ENOENT && errno != ENOTDIR)
			lc_log(LC_LOG_WARN, "reload: %s is not watched: %m", path);
		free(copy);
		return NULL;
	}
	d = find(t, wd);
	if (d) { /* known by another path: it was moved, or is named twice */
		free(d->path);
		flat = flat && d->flat;
		root = root || d->root;
	} else {
		uint32_t i = position(t, wd);

		d = &t->dirs[i];
		memmove(d + 1, d, (t->n++ - i) * sizeof(*d));
		d->has = false;
	}
	d->wd = wd;
	d->path = copy;
	d->root = root;
	d->flat = flat;
	return d;
}

/* What the kernel makes up, if somebody works in the root of it all. */
static bool
no_disk(const char *path)
{
	return strcmp(path, "/proc") == 0 || strcmp(path, "/sys") == 0 || strcmp(path, "/dev") == 0;
}

static bool
has_with(const struct lc__tree *t, int fd)
{
	for (uint32_t i = 0; i < t->with.n; i++)
		if (faccessat(fd, t->with.v[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	return false;
}

static bool
newer(const struct stat *st, int64_t since)
{
	return since != NEVER && (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec > since;
}

/* Watches one folder, then reads it: its files that are newer have changed, its folders go to the queue. */
static void
look(struct lc__tree *t, const char *path, bool root, bool flat, int64_t since)
{
	struct dir *d = watch(t, path, root, flat);
	struct dirent *e;
	DIR *dir;

	if (!d)
		return;
	dir = opendir(path);
	if (!dir)
		return; /* who cannot read it cannot import from it, either */
	if (!d->root && has_with(t, dirfd(dir))) {
		closedir(dir);
		(void)drop(t, path);
		return;
	}
	while ((e = readdir(dir))) {
		unsigned char type = e->d_type;
		struct stat st;
		char *file;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (type == DT_UNKNOWN && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = S_ISDIR(st.st_mode) ? DT_DIR : DT_REG;
		file = join(t, path, e->d_name);
		if (!file)
			break;
		if (type == DT_DIR) {
			if (!d->flat && !is_any(&t->skip, e->d_name, 0) && !no_disk(file) &&
			    t->nqueue <= LC__TREE_DIRS) {
				enqueue(t, file);
				continue;
			}
		} else if (counts(t, d, e->d_name, file)) {
			d->has = true;
			if (since != NEVER && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    newer(&st, since))
				changed(t, file);
		}
		free(file);
	}
	closedir(dir);
}

/* The folder and those below it, the upper ones first. */
static void
descend(struct lc__tree *t, const char *path, bool root, int64_t since)
{
	look(t, path, root, false, since);
	for (uint32_t i = 0; i < t->nqueue; i++) {
		if (!t->failed && !t->full)
			look(t, t->queue[i], false, false, since);
		free(t->queue[i]);
	}
	t->nqueue = 0;
}

static void
empty(struct lc__tree *t)
{
	while (t->n)
		free(t->dirs[--t->n].path);
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* From the beginning: 0 or -errno, said. */
static int
begin(struct lc__tree *t, int64_t since)
{
	int err;

	empty(t);
	t->full = false;
	t->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (t->fd < 0) {
		err = errno;
		lc_log(LC_LOG_ERROR, "reload: no file can be watched: %s%s", strerror(err),
		       err == EMFILE ? " (fs.inotify.max_user_instances is reached, or this process's limit)" : "");
		return -err;
	}
	for (uint32_t i = 0; i < t->trees.n; i++)
		descend(t, t->trees.v[i], true, since);
	for (uint32_t i = 0; i < t->files.n; i++) {
		const char *slash = strrchr(t->files.v[i], '/');
		char *folder = strndup(t->files.v[i], slash == t->files.v[i] ? 1 : (size_t)(slash - t->files.v[i]));

		if (folder)
			look(t, folder, true, true, since);
		else
			t->failed = true;
		free(folder);
	}
	return t->failed ? -ENOMEM : 0;
}

int
lc__tree_open(struct lc__tree **ret, const char *text, size_t n, int64_t since)
{
	struct lc__tree *t = calloc(1, sizeof(*t));
	char *line, *rest;
	int r = t ? 0 : -ENOMEM;

	if (t) {
		t->fd = -1;
		t->text = strndup(text, n);
		t->cwd = getcwd(NULL, 0); /* glibc allocates it */
		if (!t->text || !t->cwd)
			r = -errno;
	}
	for (rest = r == 0 ? t->text : NULL; r == 0 && (line = strsep(&rest, "\n"));)
		if (*line)
			r = rule(t, line);
	if (r == 0)
		r = begin(t, since);
	if (r < 0) {
		lc__tree_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void
lc__tree_close(struct lc__tree *t)
{
	if (!t)
		return;
	empty(t);
	for (uint32_t i = 0; i < t->nnames; i++)
		free(t->names[i]);
	free(t->dirs);
	free(t->queue);
	free(t->text);
	free(t->cwd);
	free(t);
}

int
lc__tree_fd(const struct lc__tree *t)
{
	return t->fd;
}

uint32_t
lc__tree_dirs(const struct lc__tree *t)
{
	return t->n;
}

/* ---- events ---- */

static void
on_folder(struct lc__tree *t, const struct dir *d, const struct inotify_event *ev, char *path)
{
	if (ev->mask & IN_MOVED_FROM) {
		if (drop(t, path))
			changed(t, path);
	} else if (ev->mask & (IN_CREATE | IN_MOVED_TO) && !d->flat && !is_any(&t->skip, ev->name, 0)) {
		descend(t, path, false, 0);
	}
}

static void
on_file(struct lc__tree *t, struct dir *d, const struct inotify_event *ev, char *path)
{
	struct stat st;

	if (!d->root && ev->mask & (IN_CREATE | IN_MOVED_TO) && is_any(&t->with, ev->name, 0)) {
		char *folder = strdup(d->path);

		if (folder)
			(void)drop(t, folder);
		free(folder);
		return;
	}
	if (!counts(t, d, ev->name, path))
		return;
	d->has = true;
	if (ev->mask == IN_CREATE && (lstat(path, &st) < 0 || (S_ISREG(st.st_mode) && st.st_nlink == 1)))
		return; /* whoever made it will close it */
	changed(t, path);
}

static void
on_event(struct lc__tree *t, const struct inotify_event *ev)
{
	struct dir *d = find(t, ev->wd);
	char *path;

	if (!d)
		return;
	if (ev->mask & IN_IGNORED) { /* it is gone */
		forget(t, (uint32_t)(d - t->dirs));
		return;
	}
	if (ev->len == 0 || !(path = join(t, d->path, ev->name)))
		return;
	if (ev->mask & IN_ISDIR)
		on_folder(t, d, ev, path);
	else
		on_file(t, d, ev, path);
	free(path);
}

int
lc__tree_read(struct lc__tree *t, int64_t now)
{
	union {
		struct inotify_event align;
		char b[16384];
	} buf;
	ssize_t n = read(t->fd, buf.b, sizeof(buf.b));

	t->now = now;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (char *p = buf.b; p < buf.b + n;) {
		const struct inotify_event *ev = (const struct inotify_event *)(void *)p;

		p += sizeof(*ev) + ev->len;
		if (ev->mask & IN_Q_OVERFLOW) { /* nobody knows what else happened: whatever is there is new */
			int r = begin(t, NEVER);

			changed(t, t->cwd);
			return r;
		}
		on_event(t, ev);
	}
	if (!t->failed)
		return 0;
	lc_log(LC_LOG_ERROR, "reload: no memory: files are not watched any more");
	return -ENOMEM;
}
