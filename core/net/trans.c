/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trans.c - the transports of a connection: prologues before anything else, then at most one lasting transport.
 *
 * A connection without transports, or whose prologues have all stepped aside, has no struct lc_ctrans: everything here
 * costs it the test of a pointer.
 *
 * Input: one read into the loop's buffer.  A prologue that needs more bytes gets the same again with those behind, kept
 * in `raw`; a lasting transport takes all and writes into the loop's second buffer, from which the protocol reads as it
 * does from the first on a plain connection. Output: the vector of a turn goes through output() in pieces of
 * LC_TR_PIECE; raw bytes collect in `out` and leave in one send.  What is not turned yet when the socket takes no more
 * becomes the connection's backlog, as on a plain connection; the backlog exists, empty if need be, as long as raw
 * bytes wait. Memory: `raw` up to header_max, `out` up to LC_TR_RAW_MAX.  A buffer that is empty goes to the loop,
 * which keeps one: none is allocated in the steady state, and an idle connection has none.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log/log.h"
#include "net/conn.h"

#define ROUNDS 4u /* pieces turned and sent for a connection before others have their turn */
#define IDLE_MS 1000u
#define KEEP_CAP (128u << 10) /* the loop keeps a buffer up to this size */

/* ---- what waits to be sent ---- */

static int
raw_add(struct lc_conn *c, const void *p, size_t n)
{
	struct lc_ctrans *tr = c->tr;
	struct lc_srv *srv = lc_conn_srv(c);

	if (n > LC_TR_RAW_MAX - (tr->out_n - tr->out_off))
		return -ENOSPC;
	if (!tr->out && srv->spare) {
		tr->out = srv->spare;
		tr->out_cap = srv->spare_cap;
		srv->spare = NULL;
	}
	if (tr->out_off && n > tr->out_cap - tr->out_n) {
		tr->out_n -= tr->out_off;
		memmove(tr->out, tr->out + tr->out_off, tr->out_n);
		tr->out_off = 0;
	}
	if (n > tr->out_cap - tr->out_n) {
		size_t cap = tr->out_cap ? tr->out_cap : 4096;
		while (cap - tr->out_n < n)
			cap *= 2;
		uint8_t *more = realloc(tr->out, cap);
		if (!more)
			return -ENOMEM;
		tr->out = more;
		tr->out_cap = cap;
	}
	if (n)
		memcpy(tr->out + tr->out_n, p, n);
	tr->out_n += n;
	return 0;
}

static void
raw_empty(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;
	struct lc_srv *srv = lc_conn_srv(c);

	if (tr->out && !srv->spare && tr->out_cap <= KEEP_CAP) {
		srv->spare = tr->out;
		srv->spare_cap = tr->out_cap;
	} else {
		free(tr->out);
	}
	tr->out = NULL;
	tr->out_cap = tr->out_n = tr->out_off = 0;
}

/* 1: all sent; 0: the socket takes no more; -errno.  *ret: bytes sent. */
static int
raw_send(struct lc_conn *c, size_t *ret)
{
	struct lc_ctrans *tr = c->tr;
	struct iovec v = {.iov_len = tr->out_n - tr->out_off};

	*ret = 0;
	if (v.iov_len == 0)
		return 1;
	v.iov_base = tr->out + tr->out_off;
	ssize_t r = lc_send_iov(c->ev.fd, &v, 1, 0);
	if (r < 0)
		return (int)r;
	*ret = (size_t)r;
	tr->out_off += (size_t)r;
	if (tr->out_off < tr->out_n)
		return 0;
	raw_empty(c);
	return 1;
}

/* n bytes of a file, which the transport has to see.  0 or -errno. */
static int
read_part(struct lc_conn *c, uint8_t *to, int fd, uint64_t off, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, to + done, n - done, (off_t)(off + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return lc_send_file_broken(c, fd, n - done, r < 0 ? errno : 0);
		done += (size_t)r;
	}
	return 0;
}

/* Turn up to LC_TR_PIECE bytes of the pieces, from byte `skip` on.  How many, or -errno. */
static int64_t
turn(struct lc_conn *c, const struct lc_backlog_piece *p, uint32_t n, size_t skip)
{
	struct lc_srv *srv = lc_conn_srv(c);
	struct lc_str piece[LC_OUTV_IOV];
	size_t done = 0;
	uint32_t k = 0;
	int r = 0;

	for (uint32_t i = 0; i < n && done < LC_TR_PIECE; i++) {
		if (skip >= p[i].v.iov_len) {
			skip -= p[i].v.iov_len;
			continue;
		}
		size_t left = p[i].v.iov_len - skip, take = left < LC_TR_PIECE - done ? left : LC_TR_PIECE - done;
		if (p[i].fd < 0) {
			piece[k++] = (struct lc_str){(const char *)p[i].v.iov_base + skip, take};
		} else {
			if (!srv->file_part && !(srv->file_part = malloc(LC_TR_PIECE)))
				return -ENOMEM;
			r = read_part(c, srv->file_part + done, p[i].fd, p[i].off + skip, take);
			if (r < 0)
				return r;
			piece[k++] = (struct lc_str){(const char *)srv->file_part + done, take};
		}
		done += take;
		skip = 0;
	}
	if (k)
		r = c->tr->ops->output(c->tr->t, piece, k);
	return r < 0 ? r : (int64_t)done;
}

static int
is_idle(const struct lc_conn *c)
{
	return c->tr->established && !c->out && !c->chain.all && !c->stash && !lc_conn_srv(c)->in_n;
}

/* Buffers that are let go of after each request would be wanted again by the next one. */
static void
idle_timer(struct lc_timer *t)
{
	struct lc_ctrans *tr = (struct lc_ctrans *)((char *)t - offsetof(struct lc_ctrans, idle));

	if (is_idle(tr->c))
		tr->ops->idle(tr->t);
}

/* The turn's output; as lc_send_flush(). */
int
lc_trans_flush(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;
	struct lc_outv *v = &lc_conn_srv(c)->outv;
	struct lc_backlog_piece piece[LC_OUTV_IOV];
	size_t done = 0, sent;
	int64_t r = 0;

	LC_ASSERT(!c->out);
	if (!v->n && tr->out_off == tr->out_n)
		goto idle;
	lc_send_pieces(piece, v, 0);
	for (uint32_t round = 0;; round++) {
		r = done < v->bytes ? turn(c, piece, v->n, done) : 0;
		if (r < 0)
			break;
		done += (size_t)r;
		r = raw_send(c, &sent);
		if (r < 0)
			break;
		if (r > 0 && done == v->bytes)
			break;
		if (r == 0 || round == ROUNDS) {
			r = lc_send_keep(c, v, done);
			break;
		}
	}
	if (r < 0 || v->n)
		lc_outv_release(v);
idle:
	if (r >= 0 && tr->ops->idle && is_idle(c))
		lc_timer_arm(&lc_conn_srv(c)->loop, &tr->idle, IDLE_MS, idle_timer);
	return r < 0 ? (int)r : 0;
}

/* The socket is writable; as lc_send_backlog(). */
int
lc_trans_backlog(struct lc_conn *c)
{
	struct lc_backlog *b = c->out;
	size_t sent, all = 0;
	int r;

	for (uint32_t round = 0;; round++) {
		r = raw_send(c, &sent);
		if (r < 0)
			return r;
		all += sent;
		if (r == 0 || round == ROUNDS || b->i == b->n)
			break;
		int64_t turned = turn(c, b->piece + b->i, b->n - b->i, 0);
		if (turned < 0)
			return (int)turned;
		lc_send_advance(b, (size_t)turned);
	}
	if (r > 0 && b->i == b->n && c->tr->out_off == c->tr->out_n) {
		lc_timer_cancel(&c->wt);
		free(b);
		c->out = NULL;
		return 1;
	}
	if (all && c->write_ms) /* progress */
		lc_timer_arm(&lc_conn_srv(c)->loop, &c->wt, c->write_ms, lc_conn_write_timer);
	return 0;
}

/* ---- life ---- */

void
lc_trans_close(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;

	if (tr->opened)
		tr->ops->close(tr->t);
	lc_timer_cancel(&tr->idle);
	free(tr->raw);
	if (tr->out)
		raw_empty(c);
	free(tr);
	c->tr = NULL;
}

/* Open the next transport of the stack, or let the connection go on without.  0 or -1: the connection is to be closed.
 */
static int
next(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;
	const struct lc_ltrans *lt;

	if (tr->opened)
		tr->ops->close(tr->t);
	tr->opened = 0;
	lc_timer_cancel(&c->rt);
	if (tr->at == c->lsn->ntrans) {
		lc_trans_close(c);
		return lc_conn_begin(c, NULL);
	}
	lt = &c->lsn->trans[tr->at++];
	tr->ops = lt->ops;
	tr->t = NULL;
	int r = lt->ops->open(c, lt->inst, &tr->t);
	tr->opened = r >= 0;
	return r < 0 ? -1 : 0;
}

/* A new connection of a listener with transports.  0 or -1. */
int
lc_trans_begin(struct lc_conn *c)
{
	c->tr = calloc(1, sizeof(*c->tr));
	if (!c->tr)
		return -1;
	c->tr->c = c;
	return next(c);
}

/* The lasting transport is established: the protocol by the name that was agreed on. */
static int
begin_proto(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;

	tr->begun = 1;
	lc_timer_cancel(&c->rt);
	if (tr->ops->flags & LC_TR_SECURE) {
		struct lc_cinfo *info = lc_conn_info(c);
		if (!info)
			return -1;
		info->req_flags |= LC_R_TLS;
	}
	if (!tr->alpn_n)
		return lc_conn_begin(c, NULL);
	for (uint32_t k = 0; k < c->lsn->nprotos; k++) {
		const char *const *name = c->lsn->protos[k].proto->alpn;
		for (; name && *name; name++)
			if (strlen(*name) == tr->alpn_n && memcmp(*name, tr->alpn, tr->alpn_n) == 0)
				return lc_conn_begin(c, &c->lsn->protos[k]);
	}
	lc_conn_log(c, LC_LOG_INFO, "closed: transport %s agreed on a protocol that this listener does not have",
		    tr->ops->name);
	return -1;
}

/* ---- input ---- */

/* Offer the first bytes to the prologues.  0: *ret_used of them are consumed, `raw` has what must wait; -1: close. */
static int
prologues(struct lc_conn *c, const uint8_t *p, size_t n, size_t *ret_used)
{
	size_t at = 0, used;
	int r;

	while (c->tr && c->tr->ops->header && at < n) {
		struct lc_ctrans *tr = c->tr;
		used = 0;
		r = tr->ops->header(tr->t, p + at, n - at, &used);
		if (r < 0)
			return -1;
		if (r != LC_TR_ASIDE) {
			/* more than it may ask for: it has had its chance to say what is wrong */
			if (c->flags & LC_C_EOF)
				lc_conn_log(c, LC_LOG_INFO, "closed: the connection ended within the %s header",
					    tr->ops->name);
			if (n - at >= tr->ops->header_max || (c->flags & LC_C_EOF))
				return -1;
			tr->raw = malloc(n - at);
			if (!tr->raw)
				return -1;
			memcpy(tr->raw, p + at, n - at);
			tr->raw_n = (uint32_t)(n - at);
			at = n;
			break;
		}
		LC_ASSERT(used <= n - at);
		at += used;
		if (next(c) < 0)
			return -1;
	}
	*ret_used = at;
	return 0;
}

/* Raw bytes through the lasting transport, to where the protocol reads.  -1: close. */
static int
lasting(struct lc_conn *c, const uint8_t *p, size_t n)
{
	struct lc_srv *srv = lc_conn_srv(c);
	struct lc_ctrans *tr = c->tr;
	size_t old = 0, produced = 0, sent;

	if (!srv->plain)
		srv->plain = malloc(2 * LC_READ_BUF + LC_TR_SLACK + 64); /* as srv->buf: parsers look a word ahead */
	if (!srv->plain)
		return -1;
	if (c->stash) { /* sniffing: the new bytes go behind those that were not enough */
		old = c->stash_n - c->stash_off;
		LC_ASSERT(!c->proto && old <= LC_READ_BUF);
		memcpy(srv->plain, c->stash + c->stash_off, old);
		free(c->stash);
		c->stash = NULL;
		c->flags &= ~LC_C_STALLED;
	}
	int r = n ? tr->ops->input(tr->t, p, n, srv->plain + old, &produced) : LC_TR_GO;
	if (r < 0) {
		raw_send(c, &sent); /* a word of why, if there is one */
		return -1;
	}
	LC_ASSERT(produced <= n + LC_TR_SLACK && (tr->established || !produced));
	if (r == LC_TR_EOF)
		c->flags |= LC_C_EOF;
	if (tr->established && !tr->begun && begin_proto(c) < 0)
		return -1;
	srv->in_p = srv->plain;
	srv->in_n = old + produced;
	return 0;
}

/* As lc_conn_read(). */
void
lc_trans_read(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	struct lc_ctrans *tr = c->tr;
	size_t old = tr->raw_n, used = 0;

	ssize_t n = recv(c->ev.fd, srv->buf + old, LC_READ_BUF - old, MSG_DONTWAIT);
	srv->in_n = 0;
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			lc_conn_kill(c, LC_RSN_PEER_RESET);
		return;
	}
	if (n == 0)
		c->flags |= LC_C_EOF;
	if (old) {
		memcpy(srv->buf, tr->raw, old);
		free(tr->raw);
		tr->raw = NULL;
		tr->raw_n = 0;
	}
	size_t all = old + (size_t)n;
	if (prologues(c, srv->buf, all, &used) < 0)
		goto broken;
	if (!c->tr) {
		srv->in_p = srv->buf + used;
		srv->in_n = all - used;
		return;
	}
	if (c->tr->ops->header || lasting(c, srv->buf + used, all - used) >= 0)
		return;
broken:
	lc_conn_kill(c, LC_RSN_PROTO_ERROR);
}

/* ---- the end ---- */

/* All output is out: the farewell.  1: go on with closing; 0: wait until it is sent; -1: broken. */
int
lc_trans_farewell(struct lc_conn *c)
{
	struct lc_ctrans *tr = c->tr;

	if (tr->shut || !tr->established || !tr->ops->shutdown)
		return 1;
	tr->shut = 1;
	if (tr->ops->shutdown(tr->t) < 0 || lc_trans_flush(c) < 0)
		return -1;
	return !c->out;
}

void
lc_trans_timeout(struct lc_conn *c)
{
	if (c->tr && c->tr->opened && c->tr->ops->timeout)
		c->tr->ops->timeout(c->tr->t);
}

/* ---- what a connection is told about itself ---- */

struct lc_cinfo *
lc_conn_info(struct lc_conn *c)
{
	if (!c->info)
		c->info = calloc(1, sizeof(*c->info));
	return c->info;
}

void
lc_conn_info_free(struct lc_conn *c)
{
	if (!c->info)
		return;
	free(c->info->local);
	free(c->info->text);
	free(c->info);
	c->info = NULL;
}

/* To a new stream, copied: it may outlive the connection.  0, or -1: no memory. */
int
lc_conn_dress(struct lc_conn *c, struct lc_stream *s)
{
	const struct lc_cinfo *info = c->info;

	s->req.flags |= info->req_flags;
	if (info->local) {
		char *p = lc_stream_alloc(s, info->local_n + 1);
		if (!p)
			return -1;
		memcpy(p, info->local, info->local_n);
		s->req.local = (struct lc_str){p, info->local_n};
		s->req.local_port = info->local_port;
	}
	if (!info->nfacts)
		return 0;
	struct lc_fact *f = lc_stream_alloc(s, info->nfacts * sizeof(*f) + info->text_n);
	if (!f)
		return -1;
	char *at = (char *)(f + info->nfacts);
	memcpy(at, info->text, info->text_n);
	for (uint32_t k = 0; k < info->nfacts; k++) {
		f[k].name = (struct lc_str){at, info->fact[k].name};
		at += info->fact[k].name;
		f[k].value = (struct lc_str){at, info->fact[k].value};
		at += info->fact[k].value;
	}
	s->req.facts = f;
	s->req.nfacts = info->nfacts;
	return 0;
}

/* ---- the "transport" table ---- */

static int
tx_raw(struct lc_conn *c, const void *p, size_t n)
{
	return raw_add(c, p, n);
}

static void
tx_established(struct lc_conn *c, struct lc_str alpn)
{
	struct lc_ctrans *tr = c->tr;

	tr->established = 1;
	if (alpn.n > sizeof(tr->alpn))
		alpn.n = 0;
	if (alpn.n)
		memcpy(tr->alpn, alpn.p, alpn.n);
	tr->alpn_n = (uint8_t)alpn.n;
}

static void
tx_timer(struct lc_conn *c, int64_t ms)
{
	if (c->tr->begun) /* the timer is the protocol's now */
		return;
	c->rt_which = LC_TM_TRANSPORT;
	if (ms < 0)
		lc_timer_cancel(&c->rt);
	else
		lc_timer_arm(&lc_conn_srv(c)->loop, &c->rt, (uint64_t)ms, lc_conn_read_timer);
}

static struct lc_str
tx_peer(struct lc_conn *c)
{
	return (struct lc_str){c->peer, c->peer_n};
}

static int
tx_set_peer(struct lc_conn *c, struct lc_str a, uint16_t port)
{
	if (a.n >= sizeof(c->peer))
		return -EINVAL;
	if (a.n)
		memcpy(c->peer, a.p, a.n);
	c->peer_n = (uint16_t)a.n;
	c->port = port;
	return 0;
}

static int
tx_set_local(struct lc_conn *c, struct lc_str a, uint16_t port)
{
	struct lc_cinfo *info = lc_conn_info(c);

	if (!a.n || a.n >= sizeof(c->lsn->addr))
		return -EINVAL;
	char *p = info ? malloc(a.n) : NULL;
	if (!p)
		return -ENOMEM;
	memcpy(p, a.p, a.n);
	free(info->local);
	info->local = p;
	info->local_n = (uint16_t)a.n;
	info->local_port = port;
	return 0;
}

static int
tx_fact(struct lc_conn *c, struct lc_str name, struct lc_str value)
{
	struct lc_cinfo *info = lc_conn_info(c);

	if (!info)
		return -ENOMEM;
	if (info->nfacts == LC_TR_FACTS || name.n > LC_TR_FACTS_SIZE - info->text_n ||
	    value.n > LC_TR_FACTS_SIZE - info->text_n - name.n)
		return -ENOSPC;
	char *p = realloc(info->text, info->text_n + name.n + value.n + 1);
	if (!p)
		return -ENOMEM;
	info->text = p;
	if (name.n)
		memcpy(p + info->text_n, name.p, name.n);
	info->text_n += (uint32_t)name.n;
	if (value.n)
		memcpy(p + info->text_n, value.p, value.n);
	info->text_n += (uint32_t)value.n;
	info->fact[info->nfacts].name = (uint16_t)name.n;
	info->fact[info->nfacts++].value = (uint16_t)value.n;
	return 0;
}

const struct lc_transport_api lc_transport_table = {
    .size = sizeof(struct lc_transport_api),
    .raw = tx_raw,
    .established = tx_established,
    .timer = tx_timer,
    .peer = tx_peer,
    .set_peer = tx_set_peer,
    .set_local = tx_set_local,
    .fact = tx_fact,
    .log = lc_conn_log,
};
