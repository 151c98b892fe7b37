/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/files.c - files for the workers: keys and the like, which the workers themselves may not be able to
 * open.
 *
 * The checker prints which ones there are (pool, path, directive, file, line: five strings with a NUL behind each, into
 * memory that the arbiter gave it).  It is no more than a list of paths, bounded before use.  Each is read once, as
 * whoever the arbiter is, into sealed memory; a worker gets those of its pool and no other, and never a descriptor of
 * the file itself.
 *
 * Whoever writes the configuration decides what is read: it is to be writable for nobody whom the arbiter would not
 * open the file for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define LIST_MAX (4u << 20)
#define FILES_MAX 4096u

/* The content as sealed memory.  Below 0: not, and why. */
static int
seal(const char *path, size_t *ret_n, const char **why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), memory = -1;
	struct stat st;
	size_t have = 0;
	char *data = NULL;

	*why = NULL;
	if (fd < 0 || fstat(fd, &st) < 0) {
		*why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		*why = "it is no regular file";
	} else if (st.st_size == 0) {
		*why = "it is empty";
	} else if (st.st_size > (off_t)LC_FILE_SIZE) {
		*why = "it is larger than 1m";
	} else if (!(data = malloc((size_t)st.st_size))) {
		*why = "no memory";
	}
	while (data && have < (size_t)st.st_size) {
		ssize_t r = read(fd, data + have, (size_t)st.st_size - have);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			*why = r < 0 ? strerror(errno) : "it became shorter while it was read";
			break;
		}
		have += (size_t)r;
	}
	if (!*why) {
		memory = lcimsg_memfd("licorne file", data, have);
		if (memory < 0)
			*why = strerror(-memory);
	}
	if (data)
		explicit_bzero(data, have);
	free(data);
	if (fd >= 0)
		close(fd);
	*ret_n = have;
	return memory;
}

void
lc__files_close(struct lc__files *f)
{
	for (uint32_t i = 0; i < f->n; i++) {
		if (f->v[i].fd >= 0)
			close(f->v[i].fd);
		free(f->v[i].path);
	}
	free(f->v);
	f->v = NULL;
	f->n = 0;
}

static int
add(struct lc__files *f, char *const *field, struct lc_err *err)
{
	unsigned long pool = strtoul(field[0], NULL, 10), line = strtoul(field[4], NULL, 10);
	const char *path = field[1], *why;
	uint32_t same = 0;
	struct lc__privfile *v;
	size_t n;

	for (uint32_t i = 0; i < f->n; i++) {
		if (f->v[i].pool == pool && !strcmp(f->v[i].path, path))
			return 0;
		same += f->v[i].pool == pool;
	}
	if (f->n == FILES_MAX || same == LC_CONF_FILES || strlen(path) >= 4096) {
		lc_err_add(err, field[3], (uint32_t)line, "%s: too many files, expected at most %u for a pool",
			   field[2], LC_CONF_FILES);
		return -EINVAL;
	}
	v = realloc(f->v, (f->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	f->v = v;
	v += f->n;
	v->pool = (uint32_t)pool;
	v->fd = seal(path, &n, &why);
	v->size = n;
	if (v->fd < 0) {
		lc_err_add(err, field[3], (uint32_t)line, "%s: cannot read \"%s\": %s", field[2], path, why);
		return 0; /* the others may be wrong too */
	}
	v->path = strdup(path);
	f->n++;
	return v->path ? 0 : -ENOMEM;
}

int
lc__files_read(struct lc__files *f, int list, struct lc_err *err)
{
	struct stat st;
	char *text = NULL, *p, *end, *field[5];
	int r = 0;

	if (fstat(list, &st) < 0 || st.st_size < 0 || st.st_size > (off_t)LIST_MAX)
		return -EPROTO;
	if (st.st_size == 0)
		return 0;
	text = malloc((size_t)st.st_size);
	if (!text)
		return -ENOMEM;
	if (pread(list, text, (size_t)st.st_size, 0) != st.st_size || text[st.st_size - 1])
		r = -EPROTO;
	for (p = text, end = text + st.st_size; r == 0 && p < end;) {
		for (int k = 0; k < 5; k++) {
			if (p == end) {
				r = -EPROTO;
				break;
			}
			field[k] = p;
			p += strlen(p) + 1;
		}
		if (r == 0)
			r = add(f, field, err);
	}
	free(text);
	return r;
}
