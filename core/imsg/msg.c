/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msg.c - messages: references, fds, building and reading, sealed memory.
 */
#include "imsg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#define TMPFS_MAGIC_ 0x01021994
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

lcimsg_msg *
lcimsg_ref(lcimsg_msg *m)
{
	if (m)
		atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void
lcimsg__slab_unref(struct slab *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		free(s);
}

void
lcimsg_unref(lcimsg_msg *m)
{
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < m->nfds; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	free(m->fds);
	if (m->map_n)
		munmap(m->map, m->map_n);
	if (m->slab)
		lcimsg__slab_unref(m->slab);
	else
		free(m->data);
	free(m);
}

uint16_t
lcimsg_type(const lcimsg_msg *m)
{
	return m->type;
}

uint64_t
lcimsg_id(const lcimsg_msg *m)
{
	return m->id;
}

unsigned
lcimsg_flags(const lcimsg_msg *m)
{
	return m->flags;
}

const void *
lcimsg_data(const lcimsg_msg *m, size_t *ret_n)
{
	*ret_n = m->n;
	return m->n ? m->data : (const void *)"";
}

unsigned
lcimsg_nfds(const lcimsg_msg *m)
{
	return m->nfds;
}

int
lcimsg_get_fd(const lcimsg_msg *m, unsigned i)
{
	return i < m->nfds ? m->fds[i] : -1;
}

int
lcimsg_take_fd(lcimsg_msg *m, unsigned i)
{
	int fd = lcimsg_get_fd(m, i);

	if (fd >= 0)
		m->fds[i] = -1;
	return fd;
}

/* ---- building ---- */

lcimsg_msg *
lcimsg_msg_new(uint16_t type, uint64_t id)
{
	lcimsg_msg *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	atomic_init(&m->refs, 1);
	m->type = type;
	m->id = id;
	return m;
}

void
lcimsg_put_bytes(lcimsg_msg *m, const void *p, size_t n)
{
	if (!m || m->err || n == 0)
		return;
	if (n > LCIMSG_MAX_MSG || m->n + n > LCIMSG_MAX_MSG - LCIMSG_HEADER) {
		m->err = -EMSGSIZE;
		return;
	}
	if (m->n + n > m->cap) {
		size_t cap = m->cap ? m->cap : 64;
		uint8_t *d;

		while (cap < m->n + n)
			cap *= 2;
		d = realloc(m->data, cap);
		if (!d) {
			m->err = -ENOMEM;
			return;
		}
		m->data = d;
		m->cap = cap;
	}
	memcpy(m->data + m->n, p, n);
	m->n += n;
}

void
lcimsg_put_u8(lcimsg_msg *m, uint8_t v)
{
	lcimsg_put_bytes(m, &v, 1);
}

void
lcimsg_put_u16(lcimsg_msg *m, uint16_t v)
{
	uint8_t b[2];

	lcimsg__st16(b, v);
	lcimsg_put_bytes(m, b, sizeof(b));
}

void
lcimsg_put_u32(lcimsg_msg *m, uint32_t v)
{
	uint8_t b[4];

	lcimsg__st32(b, v);
	lcimsg_put_bytes(m, b, sizeof(b));
}

void
lcimsg_put_u64(lcimsg_msg *m, uint64_t v)
{
	uint8_t b[8];

	lcimsg__st64(b, v);
	lcimsg_put_bytes(m, b, sizeof(b));
}

void
lcimsg_put_str(lcimsg_msg *m, const char *s)
{
	size_t n = strlen(s);

	if (n > LCIMSG_MAX_MSG) {
		if (m && !m->err)
			m->err = -EMSGSIZE;
		return;
	}
	lcimsg_put_u32(m, (uint32_t)n);
	lcimsg_put_bytes(m, s, n + 1);
}

void
lcimsg_put_fd(lcimsg_msg *m, int fd, unsigned flags)
{
	int *fds;
	int err = 0;

	if (!m || m->err) {
		err = -EINVAL;
		goto out;
	}
	if (m->nfds >= LCIMSG_MAX_FDS) {
		err = -EMSGSIZE;
		goto out;
	}
	if (m->flags & LCIMSG_MEMFD) { /* sealed memory stays the last */
		err = -EINVAL;
		goto out;
	}
	fds = realloc(m->fds, (m->nfds + 1) * sizeof(int));
	if (!fds) {
		err = -ENOMEM;
		goto out;
	}
	m->fds = fds;
	if (!(flags & LCIMSG_FD_TAKE)) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0) {
			err = -errno;
			goto out;
		}
	}
	m->fds[m->nfds++] = fd;
	m->flags |= LCIMSG_HASFD;
	return;
out:
	if ((flags & LCIMSG_FD_TAKE) && fd >= 0)
		close(fd);
	if (m && !m->err)
		m->err = err;
}

void
lcimsg_put_memfd(lcimsg_msg *m, int fd, size_t n, unsigned flags)
{
	if (m && !m->err && m->n != 0)
		m->err = -EINVAL;
	lcimsg_put_u64(m, n);
	lcimsg_put_fd(m, fd, flags);
	if (m)
		m->flags |= LCIMSG_MEMFD;
}

/* ---- reading ---- */

void
lcimsg_reader_init(struct lcimsg_reader *r, const lcimsg_msg *m)
{
	r->p = m->data;
	r->n = m->n;
	r->err = 0;
	if (m->flags & LCIMSG_MEMFD)
		(void)lcimsg_get_u64(r);
}

const void *
lcimsg_get_bytes(struct lcimsg_reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->err || n > r->n) {
		r->err = -EBADMSG;
		return NULL;
	}
	r->n -= n;
	if (n)
		r->p += n;
	return p ? p : (const void *)"";
}

uint8_t
lcimsg_get_u8(struct lcimsg_reader *r)
{
	const uint8_t *p = lcimsg_get_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t
lcimsg_get_u16(struct lcimsg_reader *r)
{
	const uint8_t *p = lcimsg_get_bytes(r, 2);

	return p ? lcimsg__ld16(p) : 0;
}

uint32_t
lcimsg_get_u32(struct lcimsg_reader *r)
{
	const uint8_t *p = lcimsg_get_bytes(r, 4);

	return p ? lcimsg__ld32(p) : 0;
}

uint64_t
lcimsg_get_u64(struct lcimsg_reader *r)
{
	const uint8_t *p = lcimsg_get_bytes(r, 8);

	return p ? lcimsg__ld64(p) : 0;
}

const char *
lcimsg_get_str(struct lcimsg_reader *r)
{
	size_t n = lcimsg_get_u32(r);
	const char *s;

	if (r->err || n >= r->n) {
		r->err = -EBADMSG;
		return "";
	}
	s = lcimsg_get_bytes(r, n + 1);
	if (memchr(s, 0, n + 1) != s + n) {
		r->err = -EBADMSG;
		return "";
	}
	return s;
}

const void *
lcimsg_get_rest(struct lcimsg_reader *r, size_t *ret_n)
{
	size_t n = r->err ? 0 : r->n;
	const void *p = lcimsg_get_bytes(r, n);

	*ret_n = n;
	return p;
}

int
lcimsg_end(const struct lcimsg_reader *r)
{
	return r->err ? r->err : r->n ? -EBADMSG : 0;
}

/* ---- sealed memory ---- */

int
lcimsg_memfd(const char *name, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t off = 0;
	int err;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	while (off < n) {
		ssize_t k = write(fd, b + off, n - off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			err = k < 0 ? -errno : -EIO;
			goto fail;
		}
		off += (size_t)k;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0) {
		err = -errno;
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return err;
}

int
lcimsg_map(lcimsg_msg *m, const void **ret, size_t *ret_n)
{
	struct stat st;
	struct statfs fs;
	uint64_t n;
	int fd, seals;
	void *p;

	if (m->map_n) {
		*ret = m->map;
		*ret_n = m->map_n;
		return 0;
	}
	if (!(m->flags & LCIMSG_MEMFD) || (m->flags & LCIMSG_FDLOST) || m->n < 8 || m->nfds == 0)
		return -EBADMSG;
	fd = m->fds[m->nfds - 1];
	if (fd < 0)
		return -EBADMSG;
	n = lcimsg__ld64(m->data);
	if (n > LCIMSG_MAX_BLOB)
		return -EMSGSIZE;
	/* First that it is a file in memory at all: huge pages could fault even when they are sealed. */
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (unsigned long)fs.f_type != TMPFS_MAGIC_)
		return -EBADMSG;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -EBADMSG;
	if ((seals & SEALS) != SEALS)
		return -EPERM;
	/* From here on nobody can change the size. */
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != n)
		return -EBADMSG;
	if (n == 0) {
		*ret = "";
		*ret_n = 0;
		return 0;
	}
	p = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->map = p;
	m->map_n = (size_t)n;
	*ret = p;
	*ret_n = (size_t)n;
	return 0;
}
