/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load.c - from a path below the prefix to what is served for it.
 *
 * The file system is asked at most once in `cache_valid` for a path; then everything is resolved anew, since a file is
 * replaced by renaming as often as it is changed.  Two stamps (device, inode, size, mtime, ctime) that are equal mean
 * the same content, unless the change is so young that a second one need not show in them: such an entry is loaded
 * again until it has settled, and its validators are weak.  A descriptor that is kept is looked at for each response,
 * as what will be sent is the file as it is then.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "static.h"

#define NS INT64_C(1000000000)
#define YOUNG (2 * NS) /* coarser than the time stamps of every file system in use (FAT's) */

/* What was found. */
struct look {
	struct one {
		int fd; /* -1: there is none */
		struct st_stamp stamp;
	} one[ST_CODINGS];
	char path[PATH_MAX];
};

static const struct {
	const char *suffix, *name;
} codings[ST_CODINGS] = {[ST_PLAIN] = {"", ""}, [ST_GZIP] = {".gz", "gzip"}, [ST_BR] = {".br", "br"}};

static void
look_close(struct look *l)
{
	for (uint32_t k = 0; k < ST_CODINGS; k++)
		if (l->one[k].fd >= 0)
			close(l->one[k].fd);
}

static void
stamp_of(struct st_stamp *s, const struct stat *st)
{
	*s = (struct st_stamp){.dev = st->st_dev,
			       .ino = st->st_ino,
			       .size = (uint64_t)st->st_size,
			       .mtime = (int64_t)st->st_mtim.tv_sec * NS + st->st_mtim.tv_nsec,
			       .ctime = (int64_t)st->st_ctim.tv_sec * NS + st->st_ctim.tv_nsec};
}

static int
stamp_same(const struct st_stamp *a, const struct st_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime == b->mtime &&
	       a->ctime == b->ctime;
}

static int64_t
wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

/* st_open(), with the kept descriptors given up where there are no others. */
static int
open_path(struct st_inst *in, const char *path, int how)
{
	int fd = st_open(&in->root, path, how);

	if ((fd == -EMFILE || fd == -ENFILE) && st_cache_drop_fds(&in->cache))
		fd = st_open(&in->root, path, how);
	return fd;
}

static int
is_directory(struct st_inst *in, const char *path)
{
	struct stat st;
	int fd = open_path(in, path, O_PATH), yes;

	if (fd < 0)
		return 0;
	yes = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	close(fd);
	return yes;
}

/* open_file() outcomes */
#define IS_FILE 0
#define IS_DIRECTORY 1
#define IS_OTHER 2

static int
open_file(struct st_inst *in, const char *path, struct one *ret)
{
	struct stat st;
	int fd = open_path(in, path, O_RDONLY);

	if (fd == -EACCES)
		return is_directory(in, path) ? IS_DIRECTORY : fd; /* one that may be entered and not listed */
	if (fd == -ENXIO || fd == -ENODEV)
		return IS_OTHER; /* a socket, a device without a driver */
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return S_ISDIR(st.st_mode) ? IS_DIRECTORY : IS_OTHER;
	}
	stamp_of(&ret->stamp, &st);
	ret->fd = fd;
	return IS_FILE;
}

/* What an errno comes to; says so in the log where the server's owner can do something about it. */
static uint32_t
failed(struct st_inst *in, const char *path, int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case EINVAL: /* names that a file system cannot have */
	case EILSEQ:
		return ST_MISSING;
	case ELOOP:
	case EXDEV:
		in->api->log(in->ctx, LC_LOG_WARN,
			     "static: \"%s\" below %s is a symbolic link, or lies behind one, that is not followed "
			     "(symlinks %s)",
			     path, in->conf->root,
			     in->root.links == ST_LINKS_OFF       ? "off"
			     : in->root.links == ST_LINKS_BENEATH ? "beneath"
								  : "follow");
		return ST_DENIED;
	case EACCES:
	case EPERM:
		in->api->log(in->ctx, LC_LOG_ERROR, "static: \"%s\" below %s cannot be opened: %s", path,
			     in->conf->root, strerror(err));
		return ST_DENIED;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN: {
		uint64_t now = in->api->clock(in->ctx, 0);
		if (now - in->complained >= (uint64_t)NS || !in->complained) {
			in->complained = now;
			in->api->log(in->ctx, LC_LOG_ERROR, "static: files below %s cannot be opened: %s",
				     in->conf->root, strerror(err));
		}
		return ST_SHORT;
	}
	default:
		in->api->log(in->ctx, LC_LOG_ERROR, "static: \"%s\" below %s cannot be read: %s", path, in->conf->root,
			     strerror(err));
		return ST_BROKEN;
	}
}

/* Nothing that names another file than it seems to: no empty, "." or ".." component, no NUL. */
static int
key_fits(const struct st_inst *in, const char *key, size_t n)
{
	const char *p = key, *end = key + n;

	if (memchr(key, '\0', n))
		return 0;
	while (p < end) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		size_t k = (size_t)((slash ? slash : end) - p);
		if (k == 0 || (k == 1 && p[0] == '.') || (k == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		if (p[0] == '.' && !in->conf->dotfiles && !(p == key && k == 11 && memcmp(p, ".well-known", 11) == 0))
			return 0;
		p += k + 1;
	}
	return 1;
}

/* path + name into l->path.  0: too long. */
static int
path_put(struct look *l, const char *p, size_t n, const char *name)
{
	size_t m = strlen(name);

	if (n + m >= sizeof(l->path))
		return 0;
	memmove(l->path, p, n);
	memcpy(l->path + n, name, m + 1);
	return 1;
}

static uint32_t
look_index(struct st_inst *in, struct look *l, const char *key, size_t n)
{
	for (uint64_t k = 0; k < in->index.n; k++) {
		if (!path_put(l, key, n, in->index.v[k]))
			return ST_MISSING;
		int r = open_file(in, l->path, &l->one[ST_PLAIN]);
		if (r == IS_FILE)
			return ST_FOUND;
		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			return failed(in, l->path, -r);
	}
	/* without the slash, so that a file does not pass for a directory */
	if (!path_put(l, key, n ? n - 1 : 0, ""))
		return ST_MISSING;
	return is_directory(in, l->path) ? ST_NO_INDEX : ST_MISSING;
}

static uint32_t
look_directory(struct st_inst *in, struct look *l, const char *key, size_t n)
{
	struct stat st;

	if (in->fallback == ST_FALLBACK_OFF)
		return ST_SLASH;
	/* a directory of assets must not hide a page of the same name that the application has */
	for (uint64_t k = 0; k < in->index.n; k++) {
		if (!path_put(l, key, n, "/") || !path_put(l, l->path, n + 1, in->index.v[k]))
			return ST_MISSING;
		int fd = open_path(in, l->path, O_PATH), yes;
		if (fd < 0)
			continue;
		yes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
		close(fd);
		if (yes)
			return ST_SLASH;
	}
	return ST_MISSING;
}

/* Open what is to be served for the key, all codings of it. */
static uint32_t
look(struct st_inst *in, struct look *l, const char *key, size_t n)
{
	uint32_t outcome = ST_FOUND;

	for (uint32_t k = 0; k < ST_CODINGS; k++)
		l->one[k].fd = -1;
	if (n >= sizeof(l->path) || !key_fits(in, key, n))
		return ST_MISSING;
	if (n == 0 || key[n - 1] == '/') {
		outcome = look_index(in, l, key, n);
	} else {
		(void)path_put(l, key, n, "");
		int r = open_file(in, l->path, &l->one[ST_PLAIN]);
		if (r < 0)
			outcome = failed(in, l->path, -r);
		else if (r == IS_DIRECTORY)
			outcome = look_directory(in, l, key, n);
		else if (r == IS_OTHER)
			outcome = ST_MISSING;
	}
	if (outcome != ST_FOUND)
		return outcome;
	n = strlen(l->path);
	for (uint32_t k = 1; k < ST_CODINGS; k++)
		if ((k == ST_GZIP ? in->conf->gzip_static : in->conf->brotli_static) &&
		    path_put(l, l->path, n, codings[k].suffix))
			(void)open_file(in, l->path, &l->one[k]); /* whatever is wrong with it: it is not used */
	l->path[n] = '\0';
	return ST_FOUND;
}

/* ---- entries ---- */

static void
field(struct st_rep *r, uint16_t token, const char *name, struct lc_str value)
{
	r->fields[r->nfields++] = (struct lc_field){.name = {name, strlen(name)}, .value = value, .token = token};
}

static void
fill_validators(const struct st_inst *in, struct st_rep *r, uint32_t coding, int64_t now)
{
	int64_t changed = r->stamp.mtime <= now ? r->stamp.mtime : now; /* never later than Date (RFC 9110 8.8.2.1) */
	char *p = r->text;

	r->val.seconds = changed >= 0 ? changed / NS : (changed - NS + 1) / NS;
	r->val.strong = !r->young;
	if (in->conf->etag) {
		int n = snprintf(p, 64, "%s\"%llx-%llx%s%s\"", r->young ? "W/" : "", (unsigned long long)r->stamp.mtime,
				 (unsigned long long)r->stamp.size, coding ? "-" : "", codings[coding].name);
		r->val.tag = (struct lc_str){p, (size_t)n};
		p += n;
	}
	st_date_put(p, r->val.seconds);
	r->val.changed = (struct lc_str){p, 29};
}

static struct st_rep *
rep_new(const struct st_inst *in, const struct look *l, uint32_t coding, int vary)
{
	static const struct lc_str bytes = {"bytes", 5}, accept = {"Accept-Encoding", 15};
	struct st_rep *r = calloc(1, sizeof(*r) + (6 + in->ncommon) * sizeof(r->fields[0]));
	int64_t now = wall();

	if (!r)
		return NULL;
	r->stamp = l->one[coding].stamp;
	r->size = r->stamp.size;
	r->young = now - r->stamp.mtime < YOUNG || now - r->stamp.ctime < YOUNG;
	fill_validators(in, r, coding, now);
	r->tag_at = UINT32_MAX;
	if (r->val.tag.p) {
		r->tag_at = r->nfields;
		field(r, LC_TOK_ETAG, "ETag", r->val.tag);
	}
	r->changed_at = r->nfields;
	field(r, LC_TOK_LAST_MODIFIED, "Last-Modified", r->val.changed);
	if (vary)
		field(r, LC_TOK_VARY, "Vary", accept);
	if (in->ncommon)
		memcpy(&r->fields[r->nfields], in->common, in->ncommon * sizeof(r->fields[0]));
	r->nfields += in->ncommon;
	r->n304 = r->nfields;
	field(r, LC_TOK_ACCEPT_RANGES, "Accept-Ranges", bytes);
	if (coding)
		field(r, LC_TOK_CONTENT_ENCODING, "Content-Encoding",
		      (struct lc_str){codings[coding].name, strlen(codings[coding].name)});
	field(r, LC_TOK_CONTENT_TYPE, "Content-Type", st_type_of(&in->types, l->path, strlen(l->path)));
	r->bytes = (uint32_t)(sizeof(r->text) + r->nfields * sizeof(r->fields[0]));
	return r;
}

/* The file's content into memory.  0, or -errno. */
static int
read_file(struct st_rep *r, int fd)
{
	struct st_file *f = st_file_data(r->size);
	size_t n = 0;

	if (!f)
		return -ENOMEM;
	while (n < r->size) {
		ssize_t k = pread(fd, f->data + n, r->size - n, (off_t)n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			k = -errno;
			st_file_unref(f);
			return (int)k;
		}
		if (k == 0) { /* it has become shorter meanwhile: what there is, for the moment */
			r->size = n;
			r->young = 1;
			break;
		}
		n += (size_t)k;
	}
	r->file = f;
	return 0;
}

/* An entry of all that was found; the descriptors are taken over or closed.  ST_*. */
static uint32_t
entry_new(struct st_inst *in, struct look *l, uint64_t hash, const char *key, size_t n, struct st_entry **ret)
{
	struct st_entry *e = calloc(1, sizeof(*e) + n);
	int vary = l->one[ST_GZIP].fd >= 0 || l->one[ST_BR].fd >= 0, err = e ? 0 : -ENOMEM;

	for (uint32_t k = 0; k < ST_CODINGS && err == 0; k++) {
		if (l->one[k].fd < 0)
			continue;
		struct st_rep *r = e->rep[k] = rep_new(in, l, k, vary);
		if (!r) {
			err = -ENOMEM;
		} else if (in->cache.max_bytes && r->size <= in->max_file) {
			err = read_file(r, l->one[k].fd);
			e->cost += r->size;
		} else {
			r->file = st_file_fd(l->one[k].fd);
			l->one[k].fd = -1;
			err = r->file ? 0 : -ENOMEM;
			e->fds++;
		}
		if (r)
			e->cost += sizeof(*r) + r->nfields * sizeof(r->fields[0]) + sizeof(struct st_file);
	}
	look_close(l);
	if (err < 0) {
		st_entry_free(e);
		return failed(in, l->path, -err);
	}
	e->hash = hash;
	e->n = (uint32_t)n;
	memcpy(e->key, key, n);
	e->cost += sizeof(*e) + n;
	*ret = e;
	return ST_FOUND;
}

/* Is the entry what was found? */
static int
entry_is(const struct st_entry *e, const struct look *l)
{
	for (uint32_t k = 0; k < ST_CODINGS; k++) {
		const struct st_rep *r = e->rep[k];
		if (!r != (l->one[k].fd < 0) || (r && (r->young || !stamp_same(&r->stamp, &l->one[k].stamp))))
			return 0;
	}
	return 1;
}

/* Are the files that it has open as they were? */
static int
entry_holds(const struct st_entry *e)
{
	struct stat st;
	struct st_stamp now;

	for (uint32_t k = 0; k < ST_CODINGS; k++) {
		const struct st_rep *r = e->rep[k];
		if (!r || r->file->fd < 0)
			continue;
		if (fstat(r->file->fd, &st) < 0)
			return 0;
		stamp_of(&now, &st);
		if (!stamp_same(&r->stamp, &now))
			return 0;
	}
	return 1;
}

uint32_t
st_load(struct st_inst *in, const char *key, size_t n, struct st_entry **ret)
{
	uint64_t now = in->api->clock(in->ctx, 0), hash = st_hash(&in->cache, key, n);
	struct st_entry *e = st_cache_get(&in->cache, hash, key, n);
	struct look l;
	uint32_t outcome;

	if (e) {
		if (now - e->checked <= in->valid && (!e->fds || entry_holds(e))) {
			*ret = e;
			return ST_FOUND;
		}
	} else {
		outcome = st_absent_get(&in->cache, hash, key, n, now, in->valid);
		if (outcome)
			return outcome;
	}
	outcome = look(in, &l, key, n);
	/* looking may have given up entries with descriptors */
	e = st_cache_get(&in->cache, hash, key, n);
	if (outcome == ST_FOUND && e && entry_is(e, &l)) {
		look_close(&l);
		e->checked = now;
		*ret = e;
		return ST_FOUND;
	}
	if (e)
		st_cache_drop(&in->cache, e);
	if (outcome == ST_FOUND) {
		outcome = entry_new(in, &l, hash, key, n, &e);
		if (outcome != ST_FOUND)
			return outcome;
		e->checked = now;
		st_cache_put(&in->cache, e);
		*ret = e;
		return ST_FOUND;
	}
	look_close(&l);
	if (outcome < ST_SHORT)
		st_absent_put(&in->cache, hash, key, n, now, outcome);
	return outcome;
}
