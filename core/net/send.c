/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send.c - output to the socket: one send per turn, and the backlog of what did not fit.
 *
 * While a backlog exists nothing is pulled from the protocol, so it is bounded by one output vector.  Files in it are
 * descriptors and offsets, their bytes are in no memory of ours: sendfile() moves them, after what stands before them
 * was given to the kernel with MSG_MORE.
 * Trap: sendfile() knows no MSG_NOSIGNAL: the process has to ignore SIGPIPE.
 * Trap: a file can be shorter than it was when it was announced.  What is missing cannot be made up, and no protocol
 * can take back what it has said: the connection is reset, so that nobody takes the response for whole.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log/log.h"
#include "net/conn.h"

#define FILE_BUF (64u << 10) /* of a file that is read and written, where sendfile() cannot */

static ssize_t
send_iov(int fd, struct iovec *v, uint32_t n, int more)
{
	ssize_t r;

	do {
		if (n == 1) {
			r = send(fd, v->iov_base, v->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT | more);
		} else {
			struct msghdr m = {.msg_iov = v, .msg_iovlen = n};
			r = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT | more);
		}
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? 0 : -errno;
	return r;
}

/* ---- files ---- */

/* A file cannot be sent as it was announced: say so, and make the end of the connection one that nobody takes for the
 * end of the response. */
static int
file_broken(struct lc_conn *c, int fd, uint64_t missing, int err)
{
	static const struct linger reset = {.l_onoff = 1};
	char link[40], path[512], why[80];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path));
	if (err)
		snprintf(why, sizeof(why), "cannot be read: %s", strerror(err));
	else
		snprintf(why, sizeof(why), "has become %llu bytes shorter", (unsigned long long)missing);
	lc_log(LC_LOG_ERROR, "%.*s: the file %.*s %s while it was being sent: connection reset",
	       c->peer_n ? (int)c->peer_n : 4, c->peer_n ? c->peer : "unix", n > 0 ? (int)n : 1, n > 0 ? path : "?",
	       why);
	(void)setsockopt(c->ev.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	return -EIO;
}

/* Through a buffer: where the file has no sendfile(), and the place for a transport that has to see the bytes.  Bytes
 * sent, fewer than n: the socket is full; -errno. */
static int64_t
copy_file(struct lc_conn *c, int fd, uint64_t off, uint64_t n)
{
	uint8_t *buf = malloc(FILE_BUF);
	uint64_t done = 0;
	int64_t r = buf ? 0 : -ENOMEM;

	while (buf && done < n) {
		size_t want = n - done < FILE_BUF ? n - done : FILE_BUF;
		ssize_t got = pread(fd, buf, want, (off_t)(off + done));
		if (got <= 0) {
			if (got < 0 && errno == EINTR)
				continue;
			r = file_broken(c, fd, n - done, got < 0 ? errno : 0);
			break;
		}
		struct iovec v = {buf, (size_t)got};
		r = send_iov(c->ev.fd, &v, 1, done + (uint64_t)got < n ? MSG_MORE : 0);
		if (r < 0)
			break;
		done += (uint64_t)r;
		if (r < got)
			break;
	}
	free(buf);
	return r < 0 ? r : (int64_t)done;
}

/* Bytes sent, fewer than n: the socket is full; -errno. */
static int64_t
send_file(struct lc_conn *c, int fd, uint64_t off, uint64_t n)
{
	off_t at = (off_t)off;
	ssize_t r;

	do
		r = sendfile(c->ev.fd, fd, &at, n);
	while (r < 0 && errno == EINTR);
	if (r > 0)
		return r;
	if (r == 0)
		return file_broken(c, fd, n, 0);
	switch (errno) {
	case EAGAIN:
		return 0;
	case EINVAL:
	case ENOSYS:
	case EOPNOTSUPP:
		return copy_file(c, fd, off, n);
	case EPIPE:
	case ECONNRESET:
	case ETIMEDOUT:
		return -errno;
	default:
		return file_broken(c, fd, n, errno);
	}
}

/* Memory and files in their order.  Bytes sent until the socket was full, or -errno. */
static int64_t
send_pieces(struct lc_conn *c, const struct lc_backlog_piece *p, uint32_t n)
{
	struct iovec v[LC_OUTV_IOV];
	uint64_t done = 0, want;
	int64_t r;

	for (uint32_t k = 0; k < n;) {
		if (p[k].fd >= 0) {
			want = p[k].v.iov_len;
			r = send_file(c, p[k].fd, p[k].off, want);
			k++;
		} else {
			uint32_t m = 0;
			for (want = 0; k < n && p[k].fd < 0 && m < LC_OUTV_IOV; k++) {
				v[m++] = p[k].v;
				want += p[k].v.iov_len;
			}
			r = send_iov(c->ev.fd, v, m, k < n ? MSG_MORE : 0);
		}
		if (r < 0)
			return r;
		done += (uint64_t)r;
		if ((uint64_t)r < want)
			break;
	}
	return (int64_t)done;
}

/* ---- the vector and the backlog ---- */

/* The pieces of a vector from entry `first` on. */
static void
pieces_of(struct lc_backlog_piece *p, const struct lc_outv *v, uint32_t first)
{
	uint32_t f = 0;

	while (f < v->nfiles && v->file[f].at < first)
		f++;
	for (uint32_t k = first; k < v->n; k++, p++) {
		*p = (struct lc_backlog_piece){.v = v->iov[k], .rel = v->rel[k].fn, .arg = v->rel[k].arg, .fd = -1};
		if (f < v->nfiles && v->file[f].at == k) {
			p->fd = v->file[f].fd;
			p->off = v->file[f++].off;
		}
	}
}

/* The first r bytes of a piece are sent. */
static void
piece_skip(struct lc_backlog_piece *p, size_t r)
{
	if (p->fd >= 0)
		p->off += r;
	else
		p->v.iov_base = (uint8_t *)p->v.iov_base + r;
	p->v.iov_len -= r;
}

/* Move what is left of the vector, from byte `skip` on, to a backlog. */
static int
to_backlog(struct lc_conn *c, struct lc_outv *v, size_t skip)
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
	b->has_files = v->nfiles > 0;
	b->bytes = v->bytes - skip;
	for (uint32_t k = 0; k < first; k++) {
		b->bytes -= v->iov[k].iov_len;
		if (v->rel[k].fn)
			v->rel[k].fn(v->rel[k].arg);
	}
	pieces_of(b->piece, v, first);
	piece_skip(&b->piece[0], skip);
	for (uint32_t k = 0; k < n; k++) {
		struct lc_backlog_piece *p = &b->piece[k];
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

static int64_t
send_with_files(struct lc_conn *c, const struct lc_outv *v)
{
	struct lc_backlog_piece p[LC_OUTV_IOV];

	pieces_of(p, v, 0);
	return send_pieces(c, p, v->n);
}

int
lc_send_flush(struct lc_conn *c)
{
	struct lc_outv *v = &lc_conn_srv(c)->outv;

	if (!v->n)
		return 0;
	LC_ASSERT(!c->out);
	int64_t r = v->nfiles ? send_with_files(c, v) : send_iov(c->ev.fd, v->iov, v->n, 0);
	if (r == (int64_t)v->bytes) {
		lc_outv_release(v);
		return 0;
	}
	if (r >= 0)
		r = to_backlog(c, v, (size_t)r);
	if (r < 0)
		lc_outv_release(v);
	return (int)r;
}

static int64_t
send_memory(struct lc_conn *c, const struct lc_backlog *b)
{
	struct iovec v[LC_OUTV_IOV];
	uint32_t n = 0;

	for (uint32_t k = b->i; k < b->n && n < LC_OUTV_IOV; k++)
		v[n++] = b->piece[k].v;
	return send_iov(c->ev.fd, v, n, 0);
}

int
lc_send_backlog(struct lc_conn *c)
{
	struct lc_backlog *b = c->out;
	int64_t r = b->has_files ? send_pieces(c, b->piece + b->i, b->n - b->i) : send_memory(c, b);

	if (r < 0)
		return (int)r;
	if (r > 0 && c->write_ms) /* progress */
		lc_timer_arm(&lc_conn_srv(c)->loop, &c->wt, c->write_ms, lc_conn_write_timer);
	b->bytes -= (uint64_t)r;
	while (b->i < b->n && (size_t)r >= b->piece[b->i].v.iov_len) {
		struct lc_backlog_piece *p = &b->piece[b->i++];
		r -= (int64_t)p->v.iov_len;
		if (p->rel)
			p->rel(p->arg);
	}
	if (b->i < b->n) {
		piece_skip(&b->piece[b->i], (size_t)r);
		return 0;
	}
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
