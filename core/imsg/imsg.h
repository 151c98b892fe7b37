/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * imsg.h - what the files of liblcimsg share.
 *
 * Receiving: bytes land in a slab of 64 KiB with counted references; a complete message is a slice of it, not a copy.
 * A message larger than a quarter of a slab gets a buffer of its own into which the rest is received directly.  Sets
 * of fds are kept in a queue across reads: the kernel delivers a set with the first byte of its message, which may
 * come long before the header is complete (at the end of the slab, or byte by byte).
 *
 * Sending: a queue of message references.  The fds of a message are attached to the sendmsg() that starts with its
 * first byte, and never again once a byte of it was accepted.
 */
#ifndef LCIMSG_PRIV_H
#define LCIMSG_PRIV_H

#include "lcimsg.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#define SLAB_SIZE 65536u
#define SLAB_LOW 4096u          /* less room than this: read into a fresh slab */
#define BIG_MSG (SLAB_SIZE / 4) /* larger messages get their own buffer */
#define OUT_OVERHEAD 128u       /* charged per queued message against the hard limit */
#define HELLO_MAGIC 0x3149434cu /* "LCI1" */
#define PAD8(n) (((size_t)(n) + 7) & ~(size_t)7)

struct slab {
	_Atomic unsigned refs;
	_Alignas(16) uint8_t data[SLAB_SIZE]; /* messages start at multiples of 8 in it */
};

struct fdset {
	struct fdset *next;
	unsigned n;
	bool truncated;
	int fds[];
};

struct lcimsg_msg {
	_Atomic unsigned refs;
	uint16_t type;
	uint16_t flags; /* the header's, and LCIMSG_FDLOST */
	uint64_t id;
	size_t n, cap; /* payload; cap: of data when it is ours */
	uint8_t *data; /* a slice of slab, or malloc()ed */
	struct slab *slab;
	int err; /* a builder's sticky error */
	unsigned nfds;
	int *fds; /* -1: taken */
	void *map;
	size_t map_n;
};

struct outent {
	struct outent *next;
	lcimsg_msg *msg;
	bool fds_sent;
	uint8_t head[LCIMSG_HEADER];
};

struct head { /* of the message at the front of the input, checked */
	uint32_t len;
	uint16_t type;
	uint8_t flags, nfds;
	uint64_t id;
};

struct lcimsg_chan {
	int fd;
	pid_t pid;
	int err;    /* poisoned: what every call returns */
	int wr_err; /* the peer reads no more */
	bool own, seqpacket, eof, lost, have_peer, hello_sent;
	char why[160];
	uint32_t max_msg;
	unsigned max_fds_in, max_fd_sets;
	size_t out_hiwat, out_hard;
	struct lcimsg_peer peer;

	struct slab *slab;
	size_t rd, wr;   /* slab->data[rd, wr) is received and not delivered */
	lcimsg_msg *big; /* message that is received into its own buffer */
	size_t big_have;
	struct head big_head;
	struct fdset *sets, **sets_tail;
	unsigned nsets;

	struct outent *out, **out_tail;
	size_t out_off; /* bytes of the first entry that are sent */
	size_t out_bytes, out_msgs;
};

int lcimsg__check(const lcimsg_chan *);
int lcimsg__violation(lcimsg_chan *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int lcimsg__hello_send(lcimsg_chan *, uint16_t role, const char *build);
int lcimsg__hello_recv(lcimsg_chan *, const lcimsg_msg *);
void lcimsg__in_free(lcimsg_chan *);
void lcimsg__out_free(lcimsg_chan *);
void lcimsg__slab_unref(struct slab *);

static inline uint16_t
lcimsg__ld16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t
lcimsg__ld32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t
lcimsg__ld64(const uint8_t *p)
{
	return lcimsg__ld32(p) | (uint64_t)lcimsg__ld32(p + 4) << 32;
}
static inline void
lcimsg__st16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void
lcimsg__st32(uint8_t *p, uint32_t v)
{
	lcimsg__st16(p, (uint16_t)v);
	lcimsg__st16(p + 2, (uint16_t)(v >> 16));
}
static inline void
lcimsg__st64(uint8_t *p, uint64_t v)
{
	lcimsg__st32(p, (uint32_t)v);
	lcimsg__st32(p + 4, (uint32_t)(v >> 32));
}

#endif
