/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chan.c - a channel's life: pairs, opening, HELLO, poisoning.
 */
#include "imsg.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#if defined(__linux__) && !defined(__alpha__) && !defined(__mips__) && !defined(__sparc__) && !defined(__hppa__)
#define SO_PASSRIGHTS 83 /* Linux 6.16: refuses fds on behalf of the receiver */
#endif
#endif

int
lcimsg_pair(int ret_fd[2], int socktype)
{
	if (socktype != SOCK_STREAM && socktype != SOCK_SEQPACKET)
		return -EINVAL;
	if (socketpair(AF_UNIX, socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fd) < 0)
		return -errno;
	return 0;
}

int
lcimsg_open(lcimsg_chan **ret, int fd, const struct lcimsg_opts *user)
{
	struct lcimsg_opts o = {0};
	lcimsg_chan *c = NULL;
	int type = 0, err;
	socklen_t len = sizeof(type);

	if (user) {
		if (user->struct_size < offsetof(struct lcimsg_opts, max_msg) || user->struct_size > 4096)
			return -EINVAL; /* not even its flags can be trusted */
		memcpy(&o, user, user->struct_size < sizeof(o) ? user->struct_size : sizeof(o));
	}
	if (!o.max_msg)
		o.max_msg = 16u << 10;
	if (!o.max_fd_sets)
		o.max_fd_sets = 16;
	if (!o.out_hiwat)
		o.out_hiwat = 64u << 10;
	if (!o.out_hard)
		o.out_hard = 1u << 20;
	err = -EINVAL;
	if (o.max_msg < 256 || o.max_msg > LCIMSG_MAX_MSG || o.max_fds_in > LCIMSG_MAX_FDS || o.max_fd_sets < 2)
		goto fail;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		err = -errno;
		goto fail;
	}
	if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
		goto fail;
	if (type == SOCK_SEQPACKET && o.max_msg > SLAB_SIZE)
		goto fail; /* a record is read whole, into a slab */
	err = -ENOMEM;
	c = calloc(1, sizeof(*c));
	if (!c)
		goto fail;
	c->fd = fd;
	c->pid = getpid();
	c->own = o.flags & LCIMSG_OWN_FD;
	c->seqpacket = type == SOCK_SEQPACKET;
	c->max_msg = o.max_msg;
	c->max_fds_in = o.max_fds_in;
	c->max_fd_sets = o.max_fd_sets;
	c->out_hiwat = o.out_hiwat;
	c->out_hard = o.out_hard;
	c->sets_tail = &c->sets;
	c->out_tail = &c->out;
#ifdef SO_PASSRIGHTS
	if (c->max_fds_in == 0) {
		int off = 0;

		/* Only a second line: where the kernel does not know it, we pass no control buffer all the same. */
		(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
	}
#endif
	err = lcimsg__hello_send(c, o.role, o.build);
	if (err < 0)
		goto fail;
	*ret = c;
	return 0;
fail:
	if (c) {
		c->own = false;
		lcimsg_close(c);
	}
	if (o.flags & LCIMSG_OWN_FD)
		close(fd);
	return err;
}

void
lcimsg_close(lcimsg_chan *c)
{
	if (!c)
		return;
	lcimsg__in_free(c);
	lcimsg__out_free(c);
	if (c->own)
		close(c->fd);
	free(c);
}

/* Every call starts here.  Two processes that use one stream garble it for both, so a fork()ed copy is refused. */
int
lcimsg__check(const lcimsg_chan *c)
{
	if (c->pid != getpid())
		return -EOWNERDEAD;
	return c->err;
}

int
lcimsg__violation(lcimsg_chan *c, const char *fmt, ...)
{
	va_list ap;

	if (!c->err) {
		va_start(ap, fmt);
		vsnprintf(c->why, sizeof(c->why), fmt, ap);
		va_end(ap);
		c->err = -EPROTO;
		lcimsg__in_free(c); /* and the fds that came with it */
	}
	return c->err;
}

int
lcimsg_fd(const lcimsg_chan *c)
{
	return c->fd;
}

short
lcimsg_events(const lcimsg_chan *c)
{
	short ev = 0;

	if (c->err)
		return 0;
	if (!c->eof)
		ev |= POLLIN;
	if (c->out && !c->wr_err)
		ev |= POLLOUT;
	return ev;
}

const struct lcimsg_peer *
lcimsg_peer(const lcimsg_chan *c)
{
	return c->have_peer ? &c->peer : NULL;
}

const char *
lcimsg_why(const lcimsg_chan *c)
{
	return c->why;
}

int
lcimsg_lost(const lcimsg_chan *c)
{
	return c->lost;
}

size_t
lcimsg_partial(const lcimsg_chan *c)
{
	return c->big ? LCIMSG_HEADER + c->big_have : c->wr - c->rd;
}

size_t
lcimsg_out_bytes(const lcimsg_chan *c)
{
	return c->out_bytes;
}

size_t
lcimsg_out_msgs(const lcimsg_chan *c)
{
	return c->out_msgs;
}

/* ---- HELLO: u32 magic, u16 ver_min, ver_max, u32 features, max_msg, u16 max_fds, role, str build; more is ignored */

int
lcimsg__hello_send(lcimsg_chan *c, uint16_t role, const char *build)
{
	char name[64];
	lcimsg_msg *m = lcimsg_msg_new(LCIMSG_TYPE_HELLO, 0);
	int r;

	if (!m)
		return -ENOMEM;
	snprintf(name, sizeof(name), "%s", build ? build : "");
	lcimsg_put_u32(m, HELLO_MAGIC);
	lcimsg_put_u16(m, LCIMSG_VERSION);
	lcimsg_put_u16(m, LCIMSG_VERSION);
	lcimsg_put_u32(m, 0);
	lcimsg_put_u32(m, c->max_msg);
	lcimsg_put_u16(m, (uint16_t)c->max_fds_in);
	lcimsg_put_u16(m, role);
	lcimsg_put_str(m, name);
	r = lcimsg_submit(c, m);
	return r < 0 ? r : 0;
}

int
lcimsg__hello_recv(lcimsg_chan *c, const lcimsg_msg *m)
{
	struct lcimsg_reader r;
	struct lcimsg_peer p = {0};
	uint32_t magic;
	uint16_t lo, hi;

	lcimsg_reader_init(&r, m);
	magic = lcimsg_get_u32(&r);
	lo = lcimsg_get_u16(&r);
	hi = lcimsg_get_u16(&r);
	p.features = lcimsg_get_u32(&r);
	p.max_msg = lcimsg_get_u32(&r);
	p.max_fds = lcimsg_get_u16(&r);
	p.role = lcimsg_get_u16(&r);
	snprintf(p.build, sizeof(p.build), "%s", lcimsg_get_str(&r));
	if (r.err || magic != HELLO_MAGIC)
		return lcimsg__violation(c, "malformed HELLO");
	if (lo > LCIMSG_VERSION || hi < LCIMSG_VERSION)
		return lcimsg__violation(c, "speaks versions %u to %u of the message format, not %u", lo, hi,
					 LCIMSG_VERSION);
	if (p.max_msg < 256)
		return lcimsg__violation(c, "malformed HELLO: messages of at most %u bytes", p.max_msg);
	p.version = LCIMSG_VERSION;
	c->peer = p;
	c->have_peer = true;
	return 0;
}
