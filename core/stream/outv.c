/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outv.c - the output vector.  See outv.h.
 */
#include "stream/outv.h"

#include <errno.h>
#include <string.h>

uint8_t *
lc_outv_reserve(struct lc_outv *v, size_t n)
{
	if (n > LC_OUTV_BUF - v->buf_n || v->bytes >= LC_OUTV_BUDGET || v->n >= LC_OUTV_IOV - 1) {
		v->limit = 1;
		return NULL;
	}
	return v->buf + v->buf_n;
}

void
lc_outv_commit(struct lc_outv *v, size_t n)
{
	uint8_t *p = v->buf + v->buf_n;

	if (n == 0)
		return;
	v->buf_n += (uint32_t)n;
	v->bytes += n;
	if (v->n) {
		struct iovec *last = &v->iov[v->n - 1];
		if (!v->rel[v->n - 1].fn && (uint8_t *)last->iov_base + last->iov_len == p) {
			last->iov_len += n;
			return;
		}
	}
	v->rel[v->n].fn = NULL;
	v->iov[v->n++] = (struct iovec){.iov_base = p, .iov_len = n};
}

int
lc_outv_copy(struct lc_outv *v, const void *p, size_t n)
{
	uint8_t *to = lc_outv_reserve(v, n);

	if (!to)
		return -ENOSPC;
	memcpy(to, p, n);
	lc_outv_commit(v, n);
	return 0;
}

int
lc_outv_ref(struct lc_outv *v, const void *p, size_t n, void (*rel)(void *), void *arg)
{
	/* one entry stays free for the framing that follows a reference */
	if (v->n >= LC_OUTV_IOV - 2 || v->bytes >= LC_OUTV_BUDGET) {
		v->limit = 1;
		return -ENOSPC;
	}
	v->rel[v->n].fn = rel;
	v->rel[v->n].arg = arg;
	v->iov[v->n++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	v->bytes += n;
	return 0;
}

int
lc_outv_file(struct lc_outv *v, int fd, uint64_t off, size_t n, void (*rel)(void *), void *arg)
{
	if (v->nfiles == LC_OUTV_FILES) {
		v->limit = 1;
		return -ENOSPC;
	}
	int r = lc_outv_ref(v, NULL, n, rel, arg);
	if (r == 0)
		v->file[v->nfiles++] = (struct lc_outv_file){.at = v->n - 1, .fd = fd, .off = off};
	return r;
}

uint64_t
lc_outv_room(const struct lc_outv *v)
{
	uint64_t buf = LC_OUTV_BUF - v->buf_n;

	if (v->bytes >= LC_OUTV_BUDGET || v->n >= LC_OUTV_IOV - 2)
		return 0;
	return buf < LC_OUTV_BUDGET - v->bytes ? buf : LC_OUTV_BUDGET - v->bytes;
}

void
lc_outv_release(struct lc_outv *v)
{
	for (uint32_t k = 0; k < v->n; k++)
		if (v->rel[k].fn)
			v->rel[k].fn(v->rel[k].arg);
	v->n = v->buf_n = v->limit = v->nfiles = 0;
	v->bytes = v->first_tick = 0;
}
