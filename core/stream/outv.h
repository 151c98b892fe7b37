/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/stream/outv.h - the output vector: what protocols put bytes into and transports send from.
 *
 * One per loop, filled for one connection at a time.  Small pieces are copied one behind the other into `buf`, large
 * ones are referenced; a reference is released when it was sent or moved to the connection's backlog.  A piece of a
 * file is an entry of iov without an address, and one of `file` that says where its bytes are; it always has a release.
 */
#ifndef LC_CORE_STREAM_OUTV_H
#define LC_CORE_STREAM_OUTV_H

#include <licorne/abi.h>
#include <sys/uio.h>

#define LC_OUTV_IOV 64u
#define LC_OUTV_BUF (64u << 10)
#define LC_OUTV_BUDGET (256u << 10) /* bytes in one turn, references included */
#define LC_OUTV_FILE (2u << 20)     /* most bytes of a file in one entry: what one sendfile() may take at once */
#define LC_OUTV_FILES 16u

struct lc_outv {
	uint32_t n;     /* entries of iov used */
	uint32_t buf_n; /* bytes of buf used */
	uint32_t limit; /* 1: something found no room since it was emptied */
	uint32_t nfiles;
	uint64_t bytes;      /* total */
	uint64_t first_tick; /* lc_ticks() when the oldest response in it was put in */
	struct iovec iov[LC_OUTV_IOV];
	struct {
		void (*fn)(void *);
		void *arg;
	} rel[LC_OUTV_IOV];
	struct lc_outv_file {
		uint32_t at; /* index in iov, ascending */
		int32_t fd;
		uint64_t off;
	} file[LC_OUTV_FILES];
	uint8_t buf[LC_OUTV_BUF];
};

int lc_outv_copy(struct lc_outv *, const void *, size_t n); /* 0, -ENOSPC */
uint8_t *lc_outv_reserve(struct lc_outv *, size_t n);       /* NULL: no room */
void lc_outv_commit(struct lc_outv *, size_t n);
int lc_outv_ref(struct lc_outv *, const void *, size_t n, void (*rel)(void *), void *arg); /* 0, -ENOSPC: not taken */
/* n <= LC_OUTV_FILE bytes of a file.  0, -ENOSPC: not taken */
int lc_outv_file(struct lc_outv *, int fd, uint64_t off, size_t n, void (*rel)(void *), void *arg);
uint64_t lc_outv_room(const struct lc_outv *);
void lc_outv_release(struct lc_outv *); /* drop all */

#endif
