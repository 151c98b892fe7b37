/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send.c - output to the socket: one send per turn, and the backlog of what did not fit.
 *
 * While a backlog exists nothing is pulled from the protocol, so it is bounded by one output vector.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/conn.h"

ssize_t
lc_send_iov(int fd, struct iovec *v, uint32_t n)
{
	ssize_t r;

	do {
		if (n == 1) {
			r = send(fd, v->iov_base, v->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		} else {
			struct msghdr m = {.msg_iov = v, .msg_iovlen = n};
			r = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		}
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? 0 : -errno;
	return r;
}

/* Move what is left of the vector, from byte `skip` on, to a backlog. */
int
lc_send_keep(struct lc_conn *c, struct lc_outv *v, size_t skip)
{
	uint32_t first = 0;
	size_t copy = 0;

	while (first < v->n && skip >= v->iov[first].iov_len) {
		skip -= v->iov[first].iov_len;
		first++;
	}
	uint32_t n = v->n - first;
	for (uint32_t k = first; k < v->n; k++)
		if (!v->rel[k].fn)
			copy += v->iov[k].iov_len;
	struct lc_backlog *b = malloc(sizeof(*b) + n * sizeof(b->piece[0]) + copy);
	if (!b)
		return -ENOMEM;
	uint8_t *to = (uint8_t *)&b->piece[n];
	b->i = 0;
	b->n = n;
	b->bytes = v->bytes;
	for (uint32_t k = 0; k < first; k++) {
		b->bytes -= v->iov[k].iov_len;
		if (v->rel[k].fn)
			v->rel[k].fn(v->rel[k].arg);
	}
	b->bytes -= skip;
	for (uint32_t k = first; k < v->n; k++) {
		struct lc_backlog_piece *p = &b->piece[k - first];
		p->v.iov_base = (uint8_t *)v->iov[k].iov_base + skip;
		p->v.iov_len = v->iov[k].iov_len - skip;
		skip = 0;
		p->rel = v->rel[k].fn;
		p->arg = v->rel[k].arg;
		if (!p->rel) {
			memcpy(to, p->v.iov_base, p->v.iov_len);
			p->v.iov_base = to;
			to += p->v.iov_len;
		}
	}
	v->n = 0; /* moved */
	lc_outv_release(v);
	c->out = b;
	if (c->write_ms)
		lc_timer_arm(&lc_conn_srv(c)->loop, &c->wt, c->write_ms, lc_conn_write_timer);
	return 0;
}

int
lc_send_flush(struct lc_conn *c)
{
	struct lc_outv *v = &lc_conn_srv(c)->outv;

	if (c->tr)
		return lc_trans_flush(c);
	if (!v->n)
		return 0;
	LC_ASSERT(!c->out);
	ssize_t r = lc_send_iov(c->ev.fd, v->iov, v->n);
	if (r == (ssize_t)v->bytes) {
		lc_outv_release(v);
		return 0;
	}
	if (r >= 0)
		r = lc_send_keep(c, v, (size_t)r);
	if (r < 0)
		lc_outv_release(v);
	return (int)r;
}

void
lc_send_advance(struct lc_backlog *b, size_t n)
{
	b->bytes -= n;
	while (b->i < b->n && n >= b->piece[b->i].v.iov_len) {
		struct lc_backlog_piece *p = &b->piece[b->i++];
		n -= p->v.iov_len;
		if (p->rel)
			p->rel(p->arg);
	}
	if (b->i < b->n) {
		struct lc_backlog_piece *p = &b->piece[b->i];
		p->v.iov_base = (uint8_t *)p->v.iov_base + n;
		p->v.iov_len -= n;
	}
}

int
lc_send_backlog(struct lc_conn *c)
{
	struct lc_backlog *b = c->out;
	struct iovec v[LC_OUTV_IOV];
	uint32_t n = 0;

	if (c->tr)
		return lc_trans_backlog(c);
	for (uint32_t k = b->i; k < b->n && n < LC_OUTV_IOV; k++)
		v[n++] = b->piece[k].v;
	ssize_t r = lc_send_iov(c->ev.fd, v, n);
	if (r < 0)
		return (int)r;
	if (r > 0 && c->write_ms) /* progress */
		lc_timer_arm(&lc_conn_srv(c)->loop, &c->wt, c->write_ms, lc_conn_write_timer);
	lc_send_advance(b, (size_t)r);
	if (b->i < b->n)
		return 0;
	lc_timer_cancel(&c->wt);
	free(b);
	c->out = NULL;
	return 1;
}

void
lc_send_drop(struct lc_conn *c)
{
	struct lc_backlog *b = c->out;

	if (!b)
		return;
	for (; b->i < b->n; b->i++)
		if (b->piece[b->i].rel)
			b->piece[b->i].rel(b->piece[b->i].arg);
	free(b);
	c->out = NULL;
}
