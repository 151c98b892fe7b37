/* SPDX-License-Identifier: BSD-2-Clause */
/* imsg_util.h - what the tests of liblcimsg share: a raw peer that can say anything, and a census of fds. */
#ifndef TEST_IMSG_UTIL_H
#define TEST_IMSG_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lcimsg.h"

static int census_before;

static inline int
census(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline int
census_setup(void **state)
{
	census_before = census();
	return 0;
}

static inline int
census_teardown(void **state)
{
	assert_int_equal(census(), census_before);
	return 0;
}

/* Append one message to buf; bytes added. */
static inline size_t
wire(uint8_t *buf, uint32_t len, unsigned type, unsigned flags, unsigned nfds, uint64_t id, const void *p, size_t n)
{
	memset(buf, 0, 16);
	for (int i = 0; i < 4; i++)
		buf[i] = (uint8_t)(len >> 8 * i);
	buf[4] = (uint8_t)type;
	buf[5] = (uint8_t)(type >> 8);
	buf[6] = (uint8_t)flags;
	buf[7] = (uint8_t)nfds;
	for (int i = 0; i < 8; i++)
		buf[8 + i] = (uint8_t)(id >> 8 * i);
	if (n)
		memcpy(buf + 16, p, n);
	while (n % 8)
		buf[16 + n++] = 0;
	return 16 + n;
}

static inline size_t
wire_msg(uint8_t *buf, unsigned type, unsigned nfds, uint64_t id, const void *p, size_t n)
{
	return wire(buf, (uint32_t)(16 + n), type, nfds ? LCIMSG_HASFD : 0, nfds, id, p, n);
}

static inline size_t
wire_hello(uint8_t *buf)
{
	static const uint8_t hello[] = {'L', 'C', 'I', '1', 1, 0, 1, 0, 0, 0, 0,   0,   0,   64,
					0,   0,   253, 0,   7, 0, 3, 0, 0, 0, 'r', 'a', 'w', 0};

	return wire_msg(buf, LCIMSG_TYPE_HELLO, 0, 0, hello, sizeof(hello));
}

static inline int
raw_send(int fd, const void *p, size_t n, const int *fds, unsigned nfds)
{
	struct iovec iov = {(void *)p, n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union {
		char buf[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} ctl;

	memset(&ctl, 0, sizeof(ctl));
	if (nfds) {
		mh.msg_control = &ctl;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&ctl.align), fds, nfds * sizeof(int));
	}
	return (int)sendmsg(fd, &mh, MSG_NOSIGNAL);
}

static inline lcimsg_chan *
chan_open(int fd, uint16_t max_fds, uint32_t max_msg)
{
	struct lcimsg_opts o = {.struct_size = sizeof(o),
				.flags = LCIMSG_OWN_FD,
				.max_fds_in = max_fds,
				.max_msg = max_msg,
				.role = 3,
				.build = "test"};
	lcimsg_chan *c = NULL;

	assert_int_equal(lcimsg_open(&c, fd, &o), 0);
	return c;
}

/* A channel and the raw socket of its peer, which has said HELLO. */
static inline lcimsg_chan *
chan_raw(int *ret_raw, uint16_t max_fds)
{
	int sv[2];
	uint8_t b[64];
	lcimsg_chan *c;
	lcimsg_msg *m;

	assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
	c = chan_open(sv[0], max_fds, 0);
	raw_send(sv[1], b, wire_hello(b), NULL, 0);
	assert_int_equal(lcimsg_fill(c), 1);
	assert_int_equal(lcimsg_recv(c, &m), 1);
	assert_int_equal(lcimsg_type(m), LCIMSG_TYPE_HELLO);
	lcimsg_unref(m);
	*ret_raw = sv[1];
	return c;
}

static inline void
chan_pair(lcimsg_chan *c[2], int socktype, uint16_t max_fds, uint32_t max_msg)
{
	int sv[2];

	assert_int_equal(lcimsg_pair(sv, socktype), 0);
	for (int i = 0; i < 2; i++)
		c[i] = chan_open(sv[i], max_fds, max_msg);
	for (int i = 0; i < 2; i++)
		assert_int_equal(lcimsg_flush(c[i]), 0);
	for (int i = 0; i < 2; i++) {
		lcimsg_msg *m;

		assert_int_equal(lcimsg_fill(c[i]), 1);
		assert_int_equal(lcimsg_recv(c[i], &m), 1);
		lcimsg_unref(m);
		assert_non_null(lcimsg_peer(c[i]));
	}
}

/* The next message, reading as needed; or the result. */
static inline int
next(lcimsg_chan *c, lcimsg_msg **m)
{
	for (;;) {
		int r = lcimsg_recv(c, m);

		if (r != 0)
			return r;
		r = lcimsg_fill(c);
		if (r == 0 || r < 0)
			return r;
	}
}

/* A file that can be recognised. */
static inline int
marked(char mark)
{
	int fd = memfd_create("mark", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &mark, 1), 1);
	return fd;
}

static inline char
mark_of(int fd)
{
	char c = 0;

	assert_int_equal(pread(fd, &c, 1, 0), 1);
	return c;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, census_setup, census_teardown)

#endif
