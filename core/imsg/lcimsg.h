/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lcimsg.h - liblcimsg: typed, bounded messages that may carry file descriptors, over an AF_UNIX socket.
 *
 * Two methods: send and receive.  A channel never blocks; put lcimsg_events() into any event loop, call
 * lcimsg_fill() when the socket is readable and lcimsg_recv() until it returns 0, lcimsg_flush() when it is
 * writable.  The library needs nothing but the C library and knows nothing of who uses it.
 *
 * Errors: every function returns -errno; > 0 is a documented outcome.  After a violation by the peer the channel is
 * poisoned: each later call returns -EPROTO (lcimsg_why() says why in words) and only lcimsg_close() is of use.
 *
 * Ownership of fds: LCIMSG_FD_TAKE gives them away in every case, errors included; without it they are duplicated and
 * the caller's stay open.  Received fds belong to the message: lcimsg_take_fd() takes one over, lcimsg_unref() closes
 * the rest.
 *
 * Wire format, version 1, little endian:
 *    0  u32 len    header and payload without padding; >= 16, <= max_msg
 *    4  u16 type   below 0x0100: the library's, else the application's
 *    6  u8  flags  LCIMSG_HASFD ...
 *    7  u8  nfds   0..253; HASFD if and only if > 0
 *    8  u64 id
 *   16  payload, zero padded to a multiple of 8
 * The first message each way is HELLO.  A sendmsg() that carries fds starts at its message's first byte and carries no
 * other message's fds, so the receiver can keep sets of fds in a queue and give each message its own.
 */
#ifndef LCIMSG_H
#define LCIMSG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LCIMSG_API __attribute__((visibility("default")))

typedef struct lcimsg_chan lcimsg_chan; /* one owner thread, one process */
typedef struct lcimsg_msg lcimsg_msg;   /* counted references; a builder, or a received message */

#define LCIMSG_VERSION 1
#define LCIMSG_HEADER 16u
#define LCIMSG_MAX_FDS 253u         /* the kernel's SCM_MAX_FD */
#define LCIMSG_MAX_MSG (16u << 20)  /* hard cap of max_msg */
#define LCIMSG_MAX_BLOB (64u << 20) /* largest sealed memory that lcimsg_map() accepts */

/* Types of the library.  Applications use 0x0100 and above. */
#define LCIMSG_TYPE_HELLO 0x0001u
#define LCIMSG_TYPE_APP 0x0100u

/* Flags in the header */
#define LCIMSG_HASFD 0x01u
#define LCIMSG_REPLY 0x02u
#define LCIMSG_ERROR 0x04u
#define LCIMSG_MEMFD 0x08u /* the last fd is sealed memory; the payload starts with its size, u64 */
/* Flags of a received message that are not on the wire */
#define LCIMSG_FDLOST 0x0100u /* fds were announced but (some) did not arrive: all that did were closed */

/* Results */
#define LCIMSG_EOF 2

struct lcimsg_opts { /* zero: the default */
	size_t struct_size;
	uint32_t flags;       /* LCIMSG_OWN_FD */
	uint32_t max_msg;     /* header and payload, both ways: 16 KiB */
	uint16_t max_fds_in;  /* fds accepted with a message: 0, any fd is a violation */
	uint16_t max_fd_sets; /* sets of fds received before their message is: 16 */
	uint16_t role;        /* said in HELLO */
	uint16_t pad;
	size_t out_hiwat;  /* queued bytes from which lcimsg_send() returns 1: 64 KiB */
	size_t out_hard;   /* and from which it returns -ENOBUFS, queueing nothing: 1 MiB */
	const char *build; /* said in HELLO, at most 63 bytes */
};
#define LCIMSG_OWN_FD 1u /* lcimsg_close() closes the socket */

struct lcimsg_peer {      /* what the peer's HELLO said */
	uint16_t version; /* the one in use */
	uint16_t role, max_fds;
	uint16_t pad;
	uint32_t features, max_msg;
	char build[64];
};

/* ---- channels ---- */

/* Two connected sockets, SOCK_STREAM or SOCK_SEQPACKET; close-on-exec, non-blocking. */
LCIMSG_API int lcimsg_pair(int ret_fd[2], int socktype);
/* Queues HELLO.  The socket stays the caller's unless LCIMSG_OWN_FD (then it is closed on errors, too). */
LCIMSG_API int lcimsg_open(lcimsg_chan **ret, int fd, const struct lcimsg_opts *);
/* Closes whatever fds are queued or were received and not delivered.  NULL is fine, a forked child may call it. */
LCIMSG_API void lcimsg_close(lcimsg_chan *);

LCIMSG_API int lcimsg_fd(const lcimsg_chan *);
/* POLLIN and POLLOUT as it has interest in them. */
LCIMSG_API short lcimsg_events(const lcimsg_chan *);
/* NULL until its HELLO was received. */
LCIMSG_API const struct lcimsg_peer *lcimsg_peer(const lcimsg_chan *);
/* What the peer did wrong, for a log line; "" as long as the channel is well. */
LCIMSG_API const char *lcimsg_why(const lcimsg_chan *);
/* 1: the peer went without having read all that we sent. */
LCIMSG_API int lcimsg_lost(const lcimsg_chan *);
/* Bytes of a message that is not complete; a user gives it an age limit. */
LCIMSG_API size_t lcimsg_partial(const lcimsg_chan *);
LCIMSG_API size_t lcimsg_out_bytes(const lcimsg_chan *);
LCIMSG_API size_t lcimsg_out_msgs(const lcimsg_chan *);

/* Flags of lcimsg_send() and lcimsg_put_fd(); header flags REPLY and ERROR may be ORed in for lcimsg_send(). */
#define LCIMSG_FD_DUP 0x0000u
#define LCIMSG_FD_TAKE 0x1000u

/* Queue a message.  0; 1: queued, but stop for now (out_hiwat); -ENOBUFS: not queued (out_hard); -EMSGSIZE: over our or
 * the peer's max_msg or max_fds; -EPIPE: the peer reads no more. */
LCIMSG_API int lcimsg_send(lcimsg_chan *, uint16_t type, uint64_t id, const struct iovec *, int iovcnt, const int *fds,
			   unsigned nfds, unsigned flags);
/* The same for a built message: takes over the caller's reference in every case.  A builder's own error is returned. */
LCIMSG_API int lcimsg_submit(lcimsg_chan *, lcimsg_msg *);
/* 0: all is sent; 1: poll for POLLOUT; -ETOOMANYREFS: too many fds in flight for this user, try later. */
LCIMSG_API int lcimsg_flush(lcimsg_chan *);

/* One recvmsg(): 1 progress (call lcimsg_recv() until 0), 0 nothing there, LCIMSG_EOF, < 0. */
LCIMSG_API int lcimsg_fill(lcimsg_chan *);
/* 1: a message, the caller's reference; 0: none yet; LCIMSG_EOF, only at a message's boundary; < 0. */
LCIMSG_API int lcimsg_recv(lcimsg_chan *, lcimsg_msg **ret);

/* ---- messages ---- */

LCIMSG_API lcimsg_msg *lcimsg_ref(lcimsg_msg *);
LCIMSG_API void lcimsg_unref(lcimsg_msg *);
LCIMSG_API uint16_t lcimsg_type(const lcimsg_msg *);
LCIMSG_API uint64_t lcimsg_id(const lcimsg_msg *);
LCIMSG_API unsigned lcimsg_flags(const lcimsg_msg *);
LCIMSG_API const void *lcimsg_data(const lcimsg_msg *, size_t *ret_n);
LCIMSG_API unsigned lcimsg_nfds(const lcimsg_msg *);
LCIMSG_API int lcimsg_get_fd(const lcimsg_msg *, unsigned i); /* borrowed; -1: none, or taken */
LCIMSG_API int lcimsg_take_fd(lcimsg_msg *, unsigned i);      /* the caller's now; -1: none, or taken */

/* ---- building: errors stick and come out of lcimsg_submit() ---- */

LCIMSG_API lcimsg_msg *lcimsg_msg_new(uint16_t type, uint64_t id); /* NULL: no memory; the others take NULL */
LCIMSG_API void lcimsg_put_u8(lcimsg_msg *, uint8_t);
LCIMSG_API void lcimsg_put_u16(lcimsg_msg *, uint16_t);
LCIMSG_API void lcimsg_put_u32(lcimsg_msg *, uint32_t);
LCIMSG_API void lcimsg_put_u64(lcimsg_msg *, uint64_t);
LCIMSG_API void lcimsg_put_bytes(lcimsg_msg *, const void *, size_t n); /* raw, no length */
LCIMSG_API void lcimsg_put_str(lcimsg_msg *, const char *);             /* u32 length, bytes, NUL */
LCIMSG_API void lcimsg_put_fd(lcimsg_msg *, int fd, unsigned flags);
/* Sealed memory of n bytes as the last fd.  Before any other put. */
LCIMSG_API void lcimsg_put_memfd(lcimsg_msg *, int fd, size_t n, unsigned flags);

/* ---- reading: errors stick and come out of lcimsg_end() ---- */

struct lcimsg_reader {
	const uint8_t *p;
	size_t n;
	int err;
};
/* Of a LCIMSG_MEMFD message the size is skipped. */
LCIMSG_API void lcimsg_reader_init(struct lcimsg_reader *, const lcimsg_msg *);
LCIMSG_API uint8_t lcimsg_get_u8(struct lcimsg_reader *);
LCIMSG_API uint16_t lcimsg_get_u16(struct lcimsg_reader *);
LCIMSG_API uint32_t lcimsg_get_u32(struct lcimsg_reader *);
LCIMSG_API uint64_t lcimsg_get_u64(struct lcimsg_reader *);
LCIMSG_API const void *lcimsg_get_bytes(struct lcimsg_reader *, size_t n); /* NULL on error */
/* A string inside the message, NUL-terminated and without another NUL; "" on error. */
LCIMSG_API const char *lcimsg_get_str(struct lcimsg_reader *);
LCIMSG_API const void *lcimsg_get_rest(struct lcimsg_reader *, size_t *ret_n);
/* 0: no error and nothing left over; else -EBADMSG. */
LCIMSG_API int lcimsg_end(const struct lcimsg_reader *);

/* ---- sealed memory ---- */

/* A memfd with that content, sealed against every change; the fd, or -errno. */
LCIMSG_API int lcimsg_memfd(const char *name, const void *, size_t n);
/* Read-only view of a LCIMSG_MEMFD message's memory, valid as long as the message.  The kind of file, its seals and its
 * size are checked before it is mapped, so reading it cannot fault.  -EBADMSG: not what was announced; -EPERM: seals.
 */
LCIMSG_API int lcimsg_map(lcimsg_msg *, const void **ret, size_t *ret_n);

#ifdef __cplusplus
}
#endif
#endif
