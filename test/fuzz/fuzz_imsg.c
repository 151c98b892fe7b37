/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_imsg.c - a hostile peer of a channel.
 *
 * The input is a script for the peer: a byte of mode (socket type, fds accepted, HELLO said for it or not), then
 * pieces: a byte n of length and a byte f of fds (low two bits), then n bytes, sent in one call.  Fills and receives
 * come in between as the input says.  Whatever is said: no crash, no leak of fds, no message over the limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lcimsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint8_t sink; /* so that reading is not optimised away */

static int
lowest_fd(void)
{
	int fd = dup(0);

	if (fd < 0)
		abort();
	close(fd);
	return fd;
}

static void
say(int fd, const uint8_t *p, size_t n, unsigned nfds, int what)
{
	struct iovec iov = {(void *)p, n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union {
		char buf[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	int fds[4] = {what, what, what, what};

	memset(&ctl, 0, sizeof(ctl));
	if (nfds) {
		mh.msg_control = &ctl;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&ctl.align), fds, nfds * sizeof(int));
	}
	(void)!sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int
drain(lcimsg_chan *c)
{
	lcimsg_msg *m;
	int r;

	while ((r = lcimsg_recv(c, &m)) == 1) {
		struct lcimsg_reader rd;
		const void *p;
		size_t n;

		p = lcimsg_data(m, &n);
		for (size_t i = 0; i < n; i++)
			sink += ((const uint8_t *)p)[i];
		if (n + LCIMSG_HEADER > 4096 || lcimsg_nfds(m) > 3)
			abort();
		lcimsg_reader_init(&rd, m);
		while (!rd.err) {
			(void)lcimsg_get_u16(&rd);
			(void)strlen(lcimsg_get_str(&rd));
		}
		if (lcimsg_map(m, &p, &n) == 0)
			for (size_t i = 0; i < n; i++)
				sink += ((const uint8_t *)p)[i];
		if (lcimsg_nfds(m))
			close(lcimsg_take_fd(m, 0));
		lcimsg_unref(m);
	}
	if (r < 0 && r != -EPROTO)
		abort();
	if (r < 0 && !*lcimsg_why(c))
		abort();
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* u32 len 41 ... "LCI1" 1..1, features 0, max_msg 16384, max_fds 3, role 7, "" */
	static const uint8_t hello[48] = {41, 0, 0, 0, 1, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 'L', 'C', 'I', '1', 1,
					  0,  1, 0, 0, 0, 0, 0, 0, 64, 0, 0, 3, 0, 7, 0, 0, 0,   0,   0,   0};
	struct lcimsg_opts o = {.struct_size = sizeof(o), .flags = LCIMSG_OWN_FD, .max_msg = 4096};
	lcimsg_chan *c;
	int sv[2], what, before = lowest_fd(), r = 0;
	uint8_t mode;

	if (n < 1)
		return 0;
	mode = data[0];
	data++;
	n--;
	if (lcimsg_pair(sv, mode & 1 ? SOCK_SEQPACKET : SOCK_STREAM) < 0)
		abort();
	o.max_fds_in = mode >> 1 & 3;
	if (lcimsg_open(&c, sv[0], &o) < 0)
		abort();
	what = mode & 16 ? lcimsg_memfd("x", "12345678", 8) : open("/dev/null", O_RDWR | O_CLOEXEC);
	if (mode & 8)
		say(sv[1], hello, sizeof(hello), 0, what);
	while (n >= 2 && r >= 0 && r != LCIMSG_EOF) {
		size_t k = data[0];
		uint8_t f = data[1];

		data += 2;
		n -= 2;
		if (k > n)
			k = n;
		if (k)
			say(sv[1], data, k, f & 3, what);
		data += k;
		n -= k;
		if (f & 4)
			(void)lcimsg_send(c, 0x100, f, NULL, 0, NULL, 0, 0);
		if (f & 8)
			(void)lcimsg_flush(c);
		if (f & 16)
			(void)lcimsg_fill(c);
		if (f & 32)
			r = drain(c);
	}
	close(sv[1]);
	for (int i = 0; i < 2000; i++) {
		if (drain(c) != 0 || lcimsg_fill(c) < 0)
			break;
	}
	(void)drain(c);
	lcimsg_close(c);
	close(what);
	if (lowest_fd() != before)
		abort();
	return 0;
}
