/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recv.c - from the socket to messages.
 *
 * What the kernel does (AF_UNIX, SOCK_STREAM, Linux): one recvmsg() returns at most one set of fds; bytes of earlier
 * messages may be glued in front of the message that it belongs to, and the read ends after the write that carried it;
 * the set comes with the first byte, even if that is all that fits.  So sets wait in a queue, and each message whose
 * header says HASFD takes one when it is delivered.  Where sets and messages do not match, it is told apart whether we
 * were out of fds (the message is delivered with LCIMSG_FDLOST, the stream stays in step) or the peer lies (violation).
 *
 * Everything here is peer-controlled: lengths are checked before they are used, and nothing is asserted about them.
 */
#include "imsg.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_FLAGS (LCIMSG_HASFD | LCIMSG_REPLY | LCIMSG_ERROR | LCIMSG_MEMFD)

static void
set_free(struct fdset *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++)
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	free(s);
}

static struct fdset *
set_pop(lcimsg_chan *c)
{
	struct fdset *s = c->sets;

	c->sets = s->next;
	if (!c->sets)
		c->sets_tail = &c->sets;
	c->nsets--;
	return s;
}

void
lcimsg__in_free(lcimsg_chan *c)
{
	while (c->sets)
		set_free(set_pop(c));
	lcimsg_unref(c->big);
	c->big = NULL;
	lcimsg__slab_unref(c->slab);
	c->slab = NULL;
	c->rd = c->wr = 0;
}

/* The header at the front of the input: 1 complete and valid, 0 not complete, < 0. */
static int
front(lcimsg_chan *c, struct head *h)
{
	const uint8_t *p;

	if (c->wr - c->rd < LCIMSG_HEADER)
		return 0;
	p = c->slab->data + c->rd;
	h->len = lcimsg__ld32(p);
	h->type = lcimsg__ld16(p + 4);
	h->flags = p[6];
	h->nfds = p[7];
	h->id = lcimsg__ld64(p + 8);
	if (h->len < LCIMSG_HEADER || h->len > c->max_msg)
		return lcimsg__violation(c, "a message of %u bytes (at least %u, at most %u)", h->len, LCIMSG_HEADER,
					 c->max_msg);
	if (h->flags & ~WIRE_FLAGS)
		return lcimsg__violation(c, "unknown flags 0x%02x", h->flags);
	if (!(h->flags & LCIMSG_HASFD) != (h->nfds == 0) || ((h->flags & LCIMSG_MEMFD) && h->nfds == 0))
		return lcimsg__violation(c, "flags 0x%02x with %u file descriptors", h->flags, h->nfds);
	if (h->nfds > c->max_fds_in)
		return lcimsg__violation(c, "%u file descriptors (at most %u)", h->nfds, c->max_fds_in);
	if ((h->flags & LCIMSG_MEMFD) && h->len < LCIMSG_HEADER + 8)
		return lcimsg__violation(c, "sealed memory without its size");
	if (h->type < LCIMSG_TYPE_APP && h->type != LCIMSG_TYPE_HELLO)
		return lcimsg__violation(c, "unknown type 0x%04x", h->type);
	if ((h->type == LCIMSG_TYPE_HELLO) != !c->have_peer)
		return lcimsg__violation(c, c->have_peer ? "HELLO twice" : "type 0x%04x before HELLO", h->type);
	if (h->nfds && c->nsets == 0) /* they come with the first byte or not at all */
		return lcimsg__violation(c, "%u file descriptors announced, none sent", h->nfds);
	return 1;
}

/* Make room for the next read.  1: *ret_p, *ret_n; 0: messages must be taken first; < 0. */
static int
room(lcimsg_chan *c, uint8_t **ret_p, size_t *ret_n)
{
	size_t have = c->wr - c->rd, total = 0;
	struct head h;

	if (c->big) {
		*ret_p = c->big->data + c->big_have;
		*ret_n = c->big->cap - c->big_have;
		return *ret_n > 0;
	}
	if (c->slab && have == 0 && atomic_load_explicit(&c->slab->refs, memory_order_acquire) == 1)
		c->rd = c->wr = 0;
	if (have >= LCIMSG_HEADER) {
		int r = front(c, &h);

		if (r < 0)
			return r;
		total = PAD8(h.len);
		if (total <= have && (SLAB_SIZE - c->wr < SLAB_LOW || c->seqpacket))
			return 0;
		if (total > have && total > BIG_MSG) {
			lcimsg_msg *m = lcimsg_msg_new(h.type, h.id);

			if (!m)
				return -ENOMEM;
			m->cap = total - LCIMSG_HEADER;
			m->data = malloc(m->cap);
			if (!m->data) {
				lcimsg_unref(m);
				return -ENOMEM;
			}
			m->n = h.len - LCIMSG_HEADER;
			m->flags = h.flags;
			c->big_have = have - LCIMSG_HEADER;
			memcpy(m->data, c->slab->data + c->rd + LCIMSG_HEADER, c->big_have);
			c->rd = c->wr;
			c->big = m;
			c->big_head = h;
			*ret_p = m->data + c->big_have;
			*ret_n = m->cap - c->big_have;
			return 1;
		}
	}
	if (!c->slab || SLAB_SIZE - c->wr < (c->seqpacket ? c->max_msg : SLAB_LOW) ||
	    (total > have && SLAB_SIZE - c->rd < total)) {
		struct slab *s = malloc(sizeof(*s));

		if (!s)
			return -ENOMEM;
		atomic_init(&s->refs, 1);
		if (have)
			memcpy(s->data, c->slab->data + c->rd, have);
		lcimsg__slab_unref(c->slab);
		c->slab = s;
		c->rd = 0;
		c->wr = have;
	}
	*ret_p = c->slab->data + c->wr;
	*ret_n = SLAB_SIZE - c->wr;
	return 1;
}

/* Queue the fds of one recvmsg().  Out of memory: they are closed and the set says so. */
static int
keep_fds(lcimsg_chan *c, struct msghdr *mh)
{
	struct fdset *s = NULL;
	unsigned n = 0;
	bool lost = mh->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		size_t k;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		k = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (!s)
			s = malloc(sizeof(*s) + LCIMSG_MAX_FDS * sizeof(int));
		for (size_t i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
			if (s && n < LCIMSG_MAX_FDS) {
				s->fds[n++] = fd;
			} else {
				close(fd);
				lost = true;
			}
		}
	}
	if (n == 0 && !lost)
		return 0;
	if (!s) {
		s = malloc(sizeof(*s));
		if (!s) {
			c->err = -ENOMEM; /* cannot even remember it: the sets would get out of step */
			return c->err;
		}
	}
	s->next = NULL;
	s->n = n;
	s->truncated = lost;
	*c->sets_tail = s;
	c->sets_tail = &s->next;
	c->nsets++;
	return 0;
}

int
lcimsg_fill(lcimsg_chan *c)
{
	union {
		char buf[CMSG_SPACE(LCIMSG_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct msghdr mh = {0};
	struct iovec iov;
	uint8_t *p;
	ssize_t n;
	int r = lcimsg__check(c);

	if (r < 0)
		return r;
	if (c->eof)
		return LCIMSG_EOF;
	if (c->nsets >= c->max_fd_sets)
		return 0; /* until messages are taken; recv() refuses more sets than messages */
	r = room(c, &p, &iov.iov_len);
	if (r <= 0)
		return r;
	iov.iov_base = p;
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	if (c->max_fds_in) {
		mh.msg_control = &ctl;
		mh.msg_controllen = sizeof(ctl);
	}
	do {
		n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		if (errno != ECONNRESET)
			return -errno;
		c->lost = true; /* all it had sent was read before */
		n = 0;
	}
	if (n == 0) {
		c->eof = true;
		return LCIMSG_EOF;
	}
	if (c->big)
		c->big_have += (size_t)n;
	else
		c->wr += (size_t)n;
	if (!c->max_fds_in) {
		if (mh.msg_flags & MSG_CTRUNC)
			return lcimsg__violation(c, "file descriptors where none are allowed");
	} else {
		r = keep_fds(c, &mh);
		if (r < 0)
			return r;
	}
	if (mh.msg_flags & MSG_TRUNC)
		return lcimsg__violation(c, "a record of over %u bytes", c->max_msg);
	return 1;
}

/* Give the message its set of fds. */
static int
claim_fds(lcimsg_chan *c, lcimsg_msg *m, unsigned nfds)
{
	struct fdset *s;

	if (nfds == 0)
		return 0;
	s = set_pop(c); /* there: front() saw to it, and only we take them */
	if (s->n != nfds || s->truncated) {
		set_free(s);
		m->flags |= LCIMSG_FDLOST;
		return 0;
	}
	m->fds = malloc(nfds * sizeof(int));
	if (!m->fds) {
		set_free(s);
		return -ENOMEM;
	}
	memcpy(m->fds, s->fds, nfds * sizeof(int));
	m->nfds = nfds;
	free(s);
	return 0;
}

static int
deliver(lcimsg_chan *c, lcimsg_msg *m, const struct head *h, lcimsg_msg **ret)
{
	int r = 0;

	for (size_t i = m->n; i < PAD8(m->n); i++)
		if (m->data[i] != 0)
			r = lcimsg__violation(c, "padding that is not zero");
	if (r == 0)
		r = claim_fds(c, m, h->nfds);
	if (r == 0 && h->type == LCIMSG_TYPE_HELLO)
		r = lcimsg__hello_recv(c, m);
	if (r < 0) {
		if (!c->err)
			c->err = r; /* no memory: a message is gone, the stream cannot be trusted any more */
		lcimsg_unref(m);
		return r;
	}
	*ret = m;
	return 1;
}

/* Nothing complete is left: what may be there besides? */
static int
drained(lcimsg_chan *c, unsigned sets_allowed, bool partial)
{
	if (c->nsets > sets_allowed)
		return lcimsg__violation(c, "file descriptors without a message");
	if (c->seqpacket && partial)
		return lcimsg__violation(c, "a record that does not end with a message");
	if (!c->eof)
		return 0;
	if (partial)
		return lcimsg__violation(c, "the stream ends inside a message");
	return LCIMSG_EOF;
}

int
lcimsg_recv(lcimsg_chan *c, lcimsg_msg **ret)
{
	size_t have;
	struct head h;
	lcimsg_msg *m;
	int r = lcimsg__check(c);

	if (r < 0)
		return r;
	if (c->big) {
		if (c->big_have < c->big->cap)
			return drained(c, c->big_head.nfds ? 1 : 0, true);
		m = c->big;
		c->big = NULL; /* moved */
		return deliver(c, m, &c->big_head, ret);
	}
	have = c->wr - c->rd;
	if (have == 0)
		return drained(c, 0, false);
	r = front(c, &h);
	if (r < 0)
		return r;
	if (r == 0)
		return drained(c, 1, true);
	if (have < PAD8(h.len))
		return drained(c, h.nfds ? 1 : 0, true);
	m = lcimsg_msg_new(h.type, h.id);
	if (!m)
		return -ENOMEM; /* nothing was consumed: try again */
	m->flags = h.flags;
	m->n = h.len - LCIMSG_HEADER;
	m->data = c->slab->data + c->rd + LCIMSG_HEADER;
	m->slab = c->slab;
	atomic_fetch_add_explicit(&c->slab->refs, 1, memory_order_relaxed);
	c->rd += PAD8(h.len);
	return deliver(c, m, &h, ret);
}
