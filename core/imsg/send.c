/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send.c - the output queue of a channel.
 *
 * Trap: fds ride on the first bytes of a sendmsg() call, so a call never starts in the middle of a message that still
 * has fds to send, and never goes past the start of another one that has.
 */
#include "imsg.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define IOV_BATCH 48

static const uint8_t zeros[8];

static size_t
ent_size(const struct outent *e)
{
	return LCIMSG_HEADER + PAD8(e->msg->n);
}

int
lcimsg_submit(lcimsg_chan *c, lcimsg_msg *m)
{
	struct outent *e;
	size_t len;
	int err;

	if (!m)
		return -ENOMEM;
	err = lcimsg__check(c);
	if (err < 0)
		goto fail;
	err = m->err;
	if (err < 0)
		goto fail;
	err = -EINVAL; /* the library's own types are its own */
	if (m->type < LCIMSG_TYPE_APP && c->hello_sent)
		goto fail;
	err = -EBADF; /* of a received message whose fds were taken */
	for (unsigned i = 0; i < m->nfds; i++)
		if (m->fds[i] < 0)
			goto fail;
	err = -EPIPE;
	if (c->wr_err)
		goto fail;
	len = LCIMSG_HEADER + m->n;
	err = -EMSGSIZE;
	if (len > c->max_msg || (c->have_peer && (len > c->peer.max_msg || m->nfds > c->peer.max_fds)))
		goto fail;
	err = -ENOBUFS;
	if (c->out && c->out_bytes + len + (c->out_msgs + 1) * OUT_OVERHEAD > c->out_hard)
		goto fail;
	err = -ENOMEM;
	e = malloc(sizeof(*e));
	if (!e)
		goto fail;
	e->next = NULL;
	e->msg = m; /* moved */
	e->fds_sent = m->nfds == 0;
	lcimsg__st32(e->head, (uint32_t)len);
	lcimsg__st16(e->head + 4, m->type);
	e->head[6] = (uint8_t)m->flags;
	e->head[7] = (uint8_t)m->nfds;
	lcimsg__st64(e->head + 8, m->id);
	*c->out_tail = e;
	c->out_tail = &e->next;
	c->out_bytes += ent_size(e);
	c->out_msgs++;
	c->hello_sent = true;
	return c->out_bytes >= c->out_hiwat;
fail:
	lcimsg_unref(m);
	return err;
}

int
lcimsg_send(lcimsg_chan *c, uint16_t type, uint64_t id, const struct iovec *iov, int iovcnt, const int *fds,
	    unsigned nfds, unsigned flags)
{
	lcimsg_msg *m = lcimsg_msg_new(type, id);

	for (int i = 0; i < iovcnt; i++)
		lcimsg_put_bytes(m, iov[i].iov_base, iov[i].iov_len);
	for (unsigned i = 0; i < nfds; i++)
		lcimsg_put_fd(m, fds[i], flags & LCIMSG_FD_TAKE);
	if (m)
		m->flags |= flags & (LCIMSG_REPLY | LCIMSG_ERROR);
	return lcimsg_submit(c, m);
}

static void
out_pop(lcimsg_chan *c)
{
	struct outent *e = c->out;

	c->out = e->next;
	if (!c->out)
		c->out_tail = &c->out;
	c->out_msgs--;
	c->out_off = 0;
	lcimsg_unref(e->msg);
	free(e);
}

void
lcimsg__out_free(lcimsg_chan *c)
{
	while (c->out)
		out_pop(c);
	c->out_bytes = 0;
}

/* Fill iov from the queue, up to the next message whose fds must start a call of their own. */
static int
gather(const lcimsg_chan *c, struct iovec *iov)
{
	size_t skip = c->out_off;
	int n = 0;

	for (const struct outent *e = c->out; e && n + 3 <= IOV_BATCH; e = e->next) {
		const struct {
			const void *p;
			size_t n;
		} part[3] = {{e->head, LCIMSG_HEADER}, {e->msg->data, e->msg->n}, {zeros, PAD8(e->msg->n) - e->msg->n}};

		if (e != c->out && (!e->fds_sent || c->seqpacket))
			break;
		for (int i = 0; i < 3; i++) {
			if (skip >= part[i].n) {
				skip -= part[i].n;
				continue;
			}
			iov[n].iov_base = (uint8_t *)part[i].p + skip;
			iov[n++].iov_len = part[i].n - skip;
			skip = 0;
		}
	}
	return n;
}

int
lcimsg_flush(lcimsg_chan *c)
{
	int err = lcimsg__check(c);

	if (err < 0)
		return err;
	if (c->wr_err)
		return c->wr_err;
	while (c->out) {
		struct iovec iov[IOV_BATCH];
		union {
			char buf[CMSG_SPACE(LCIMSG_MAX_FDS * sizeof(int))];
			struct cmsghdr align;
		} ctl;
		struct msghdr mh = {.msg_iov = iov, .msg_iovlen = (size_t)gather(c, iov)};
		ssize_t n;

		if (!c->out->fds_sent) {
			const lcimsg_msg *m = c->out->msg;
			struct cmsghdr *cm = &ctl.align;

			memset(&ctl, 0, CMSG_SPACE(m->nfds * sizeof(int)));
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(m->nfds * sizeof(int));
			memcpy(CMSG_DATA(cm), m->fds, m->nfds * sizeof(int));
			mh.msg_control = &ctl;
			mh.msg_controllen = CMSG_SPACE(m->nfds * sizeof(int));
		}
		n = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return 1;
			if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)
				return -errno; /* still queued */
			/* The peer is gone, or refuses fds.  What it sent before can still be read. */
			c->wr_err = errno == ECONNRESET ? -EPIPE : -errno;
			lcimsg__out_free(c);
			return c->wr_err;
		}
		c->out->fds_sent = true;
		c->out_bytes -= (size_t)n;
		for (size_t left = (size_t)n; left > 0;) {
			size_t k = ent_size(c->out) - c->out_off;

			if (left < k) {
				c->out_off += left;
				break;
			}
			left -= k;
			out_pop(c);
		}
	}
	return 0;
}
