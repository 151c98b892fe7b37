/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.c - a connection's turn: events of its streams, output, input, until nothing more can be done now.
 *
 * Invariants:
 *  - Between two module calls all state is in the connection, its streams and the server struct; lc_conn_run()
 *    keeps nothing on its stack, because a worker call may hand the lead on and then unwinds.
 *  - Input is in one place at a time: srv->in_p/in_n during a turn (the loop's buffer, or the stash), else in the
 * stash. While there is a stash the socket is not read, so the stash is at most one read.
 *  - Output of one turn is collected in srv->outv and leaves in one send; early at LC_FLUSH_BYTES, or when
 *    the oldest response in it is older than LC_TICKS_300US.
 * Trap: any call that may run application code is followed by a test of lc_loop_leading().
 */
#include "net/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log/log.h"

#define LC_FLUSH_BYTES (16u << 10)

static atomic_int forked; /* the application has made a process by fork(): it may have our sockets */

/* ---- lists ---- */

static void
conns_unlink(struct lc_srv *srv, struct lc_conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		srv->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		srv->conns_tail = c->prev;
}

static void
conns_append(struct lc_srv *srv, struct lc_conn *c)
{
	c->next = NULL;
	c->prev = srv->conns_tail;
	if (srv->conns_tail)
		srv->conns_tail->next = c;
	else
		srv->conns = c;
	srv->conns_tail = c;
}

/* ---- life ---- */

static void conn_event(struct lc_ev *ev, uint32_t events);
static void conn_posted(struct lc_post *p);

static void
ignore_event(struct lc_ev *ev, uint32_t events)
{
	(void)ev;
	(void)events;
}

static void
free_conn(struct lc_dead *d)
{
	free(d);
}

static int
open_proto(struct lc_conn *c, const struct lc_lproto *lp)
{
	c->proto = lp->proto;
	c->rt_which = LC_TM_HEAD;
	lc_timer_cancel(&c->rt);
	int r = lp->proto->open(c, lp->conf, &c->sess);
	if (r != LC_OK)
		c->proto = NULL;
	return r;
}

static size_t
print_v4(char *to, const uint8_t *a)
{
	char *p = to;

	for (int k = 0; k < 4; k++) {
		unsigned v = a[k];
		if (k)
			*p++ = '.';
		if (v >= 100)
			*p++ = (char)('0' + v / 100);
		if (v >= 10)
			*p++ = (char)('0' + v / 10 % 10);
		*p++ = (char)('0' + v % 10);
	}
	return (size_t)(p - to);
}

static void
set_peer(struct lc_conn *c, const void *sa, uint32_t len)
{
	const struct sockaddr *any = sa;

	if (len >= sizeof(struct sockaddr_in) && any->sa_family == AF_INET) {
		const struct sockaddr_in *a = sa;
		c->port = ntohs(a->sin_port);
		c->peer_n = (uint16_t)print_v4(c->peer, (const uint8_t *)&a->sin_addr);
	} else if (len >= sizeof(struct sockaddr_in6) && any->sa_family == AF_INET6) {
		const struct sockaddr_in6 *a = sa;
		c->port = ntohs(a->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
			c->peer_n = (uint16_t)print_v4(c->peer, a->sin6_addr.s6_addr + 12);
		} else if (inet_ntop(AF_INET6, &a->sin6_addr, c->peer, sizeof(c->peer))) {
			c->peer_n = (uint16_t)strlen(c->peer);
		}
	}
}

void
lc_conn_new(struct lc_lsn *lsn, int fd, const void *sa, uint32_t len)
{
	struct lc_srv *srv = lsn->srv;
	struct lc_conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->lsn = lsn;
	c->ev = (struct lc_ev){.fn = conn_event, .fd = fd};
	c->post.fn = conn_posted;
	lc_chain_init(&c->chain);
	set_peer(c, sa, len);
	uint32_t later = lsn->ntrans && !lsn->trans[0].ops->header ? LC_EV_LATER : 0;
	int r = lc_ev_set(&srv->loop, &c->ev, EPOLLIN | EPOLLERR | later, 0);
	if (r < 0) {
		if (lc_srv_may_log(srv))
			lc_log(LC_LOG_ERROR, "a connection from %.*s was dropped: epoll_ctl: %s", (int)c->peer_n,
			       c->peer, strerror(-r));
		close(fd);
		free(c);
		return;
	}
	srv->nconns++;
	c->serial = ++srv->accepted;
	conns_append(srv, c);
	if ((lsn->ntrans ? lc_trans_begin(c) : lc_conn_begin(c, NULL)) < 0)
		lc_conn_kill(c, LC_RSN_LIMIT);
}

int
lc_conn_begin(struct lc_conn *c, const struct lc_lproto *which)
{
	if (!which && c->lsn->nprotos == 1)
		which = &c->lsn->protos[0];
	if (which)
		return open_proto(c, which) == LC_OK ? 0 : -1;
	c->rt_which = LC_TM_SNIFF;
	lc_timer_arm(&lc_conn_srv(c)->loop, &c->rt, LC_SNIFF_MS, lc_conn_read_timer);
	return 0;
}

void
lc_conn_kill(struct lc_conn *c, uint32_t reason)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (c->ev.fn == ignore_event)
		return;
	c->ev.fn = ignore_event;
	if (srv->cur == c) {
		lc_outv_release(&srv->outv);
		srv->in_n = 0;
	}
	/* Streams first: each ends on both sides, with a reason. */
	for (struct lc_stream *s = c->chain.all, *next; s; s = next) {
		next = s->cnext;
		lc_stream_abort(s, reason);
		uint32_t ev = s->ev;
		if (s->proto_ref) {
			c->proto->detach(c->sess, s->ps);
			s->proto_ref = 0;
			s->put_out = lc_conn_put_out(c, s);
		}
		lc_chain_remove(s);
		s->ev = ev;
		if (s->shared)
			pthread_mutex_lock(&s->mu);
		s->chain = NULL;
		s->owner = NULL;
		if (s->shared)
			pthread_mutex_unlock(&s->mu);
		if (s->worker_ref) {
			lc_stream_orphan(srv, s);
		} else if (!s->posted) {
			if (s->requested && srv->access)
				lc_account(srv, s);
			lc_stream_free(&srv->streams, s);
		}
	}
	lc_chain_init(&c->chain);
	if (c->proto && c->proto->close)
		c->proto->close(c->sess);
	c->proto = NULL;
	free(c->sess_mem);
	if (c->tr)
		lc_trans_close(c);
	lc_conn_info_free(c);
	lc_send_drop(c);
	lc_timer_cancel(&c->rt);
	lc_timer_cancel(&c->wt);
	free(c->stash);
	c->stash = NULL;
	/* close() alone does not make epoll forget it while a child of the application has the socket, too. */
	lc_ev_set(&srv->loop, &c->ev, 0, 0);
	close(c->ev.fd);
	conns_unlink(srv, c);
	srv->nconns--;
	srv->closed++;
	if (!(c->flags & LC_C_POSTED)) /* else conn_posted() frees it */
		lc_loop_free_later(&srv->loop, &c->dead, free_conn);
	c->flags |= LC_C_CLOSE_NOW;
}

static void
conn_post(struct lc_conn *c)
{
	if (c->flags & LC_C_POSTED)
		return;
	c->flags |= LC_C_POSTED;
	lc_loop_post(&lc_conn_srv(c)->loop, &c->post);
}

static void
conn_posted(struct lc_post *p)
{
	struct lc_conn *c = (struct lc_conn *)((char *)p - offsetof(struct lc_conn, post));

	LC_ASSERT(!lc_conn_srv(c)->in_n); /* a turn that has not read: there is no input, least of all another's */
	c->flags &= ~LC_C_POSTED;
	if (c->ev.fn == ignore_event)
		lc_loop_free_later(&lc_conn_srv(c)->loop, &c->dead, free_conn);
	else
		lc_conn_run(c);
}

/* ---- input ---- */

/* Keep what is left of the input beyond the turn. */
int
lc_conn_stash(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	const uint8_t *p = srv->in_p;
	size_t n = srv->in_n;

	srv->in_n = 0;
	if (c->flags & LC_C_IN_STASH) {
		c->flags &= ~LC_C_IN_STASH;
		c->stash_off = c->stash_n - (uint32_t)n;
		if (n)
			return 0;
		free(c->stash);
		c->stash = NULL;
		c->stash_n = c->stash_off = 0;
		return 0;
	}
	if (!n)
		return 0;
	LC_ASSERT(!c->stash);
	c->stash = malloc(n);
	if (!c->stash)
		return -ENOMEM;
	memcpy(c->stash, p, n);
	c->stash_n = (uint32_t)n;
	c->stash_off = 0;
	return 0;
}

static void
unstash(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (!c->stash || srv->in_n)
		return;
	srv->in_p = c->stash + c->stash_off;
	srv->in_n = c->stash_n - c->stash_off;
	c->flags |= LC_C_IN_STASH;
}

/* Which protocol speaks?  1: chosen; 0: more bytes are needed; -1: none. */
static int
choose(struct lc_conn *c, const uint8_t *p, size_t n)
{
	struct lc_lsn *l = c->lsn;
	const struct lc_lproto *pick = NULL, *fallback = NULL;
	int more = 0;

	for (uint32_t k = 0; k < l->nprotos && !pick; k++) {
		const struct lc_proto *pr = l->protos[k].proto;
		int r = pr->sniff ? pr->sniff(p, n) : LC_SNIFF_NO;
		if (r == LC_SNIFF_YES)
			pick = &l->protos[k];
		else if (r == LC_SNIFF_MORE && n < pr->sniff_max)
			more = 1;
		if ((pr->flags & LC_P_FALLBACK) && !fallback)
			fallback = &l->protos[k];
	}
	if (!pick && more)
		return 0;
	if (!pick)
		pick = fallback;
	if (!pick) {
		lc_log(LC_LOG_INFO, "%.*s: closed: its first bytes belong to no protocol of this listener",
		       (int)c->peer_n, c->peer);
		return -1;
	}
	return open_proto(c, pick) == LC_OK ? 1 : -1;
}

/* Offer input to the protocol.  1: progress; 0: none possible now; -1: the connection was killed. */
static int
feed(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (c->flags & (LC_C_PAUSED | LC_C_STALLED | LC_C_CLOSE_NOW | LC_C_CLOSE_FLUSH))
		return 0;
	unstash(c);
	if (!srv->in_n) {
		if (!(c->flags & LC_C_EOF) || (c->flags & LC_C_EOF_TOLD))
			return 0;
		c->flags |= LC_C_EOF_TOLD;
		int r = c->proto && c->proto->eof ? c->proto->eof(c->sess) : LC_CONN_DEAD;
		if (r == LC_CONN_DEAD) {
			c->flags |= LC_C_CLOSE_FLUSH; /* answers that were given go out first */
			c->reason = LC_RSN_PEER_CLOSED;
		}
		return 1;
	}
	if (!c->proto) {
		int r = choose(c, srv->in_p, srv->in_n);
		if (r < 0 || (r == 0 && (c->flags & LC_C_EOF))) {
			lc_conn_kill(c, LC_RSN_PROTO_ERROR);
			return -1;
		}
		if (r == 0) {
			c->flags |= LC_C_STALLED;
			return 0;
		}
	}
	int64_t r = c->proto->recv(c->sess, srv->in_p, srv->in_n);
	if (r < 0) {
		if (r == -LC_CONN_DEAD) {
			c->flags |= LC_C_CLOSE_FLUSH;
			c->reason = LC_RSN_PROTO_ERROR;
		}
		srv->in_n = 0; /* what a draining or failed connection says is of no interest */
		lc_conn_stash(c);
		return 1;
	}
	LC_ASSERT((size_t)r <= srv->in_n);
	srv->in_p += r;
	srv->in_n -= (size_t)r;
	if (srv->in_n)
		c->flags |= LC_C_STALLED; /* until a stream event or read_pause(0) */
	else
		lc_conn_stash(c); /* lets a stash go that is used up; cannot fail */
	return r > 0 || !srv->in_n || c->chain.ready || (c->flags & LC_C_WANT_WRITE);
}

/* ---- output ---- */

/* 1: pulled something or state changed; 0: nothing to do; -1: killed. */
int
lc_conn_pull(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	struct lc_outv *v = &srv->outv;

	if ((c->flags & (LC_C_WANT_WRITE | LC_C_YIELD)) != LC_C_WANT_WRITE || c->out || !c->proto)
		return 0;
	if (v->bytes >= LC_FLUSH_BYTES || v->limit) {
		if (lc_send_flush(c) < 0)
			goto broken;
		if (c->out)
			return 0;
	}
	c->flags &= ~LC_C_WANT_WRITE;
	srv->held = 0;
	int first = !v->n;
	uint64_t before = v->bytes;
	if (c->proto->pull(c->sess, v) == LC_CONN_DEAD)
		goto broken;
	c->put_out += v->bytes - before;
	if (first && v->n)
		v->first_tick = lc_ticks();
	if (v->limit)
		c->flags |= LC_C_WANT_WRITE;
	if (v->bytes >= LC_FLUSH_BYTES || v->limit) {
		srv->turn_bytes += v->bytes;
		if (srv->turn_bytes >= LC_TURN_BYTES)
			c->flags |= LC_C_YIELD;
		if (lc_send_flush(c) < 0)
			goto broken;
	}
	return 1;
broken:
	lc_conn_kill(c, LC_RSN_PEER_RESET);
	return -1;
}

/* A slow request must not delay the answers before it. */
static int
flush_if_old(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	uint64_t since = srv->held ? srv->held : srv->outv.first_tick;

	if (lc_ticks() - since < LC_TICKS_300US)
		return 0;
	if (srv->held && lc_conn_pull(c) < 0)
		return -1;
	return lc_send_flush(c);
}

void
lc_conn_interest(struct lc_conn *c)
{
	uint32_t want = 0;

	if (c->flags & LC_C_LINGERING)
		want = EPOLLIN;
	else if (!(c->flags & (LC_C_PAUSED | LC_C_EOF | LC_C_CLOSE_FLUSH)) &&
		 (!c->stash || !c->proto)) /* while sniffing, the stash grows */
		want = EPOLLIN;
	if (c->out || (c->flags & (LC_C_WANT_WRITE | LC_C_YIELD)) == (LC_C_WANT_WRITE | LC_C_YIELD))
		want |= EPOLLOUT;
	if (c->tr && !c->tr->established && !c->tr->ops->header)
		want |= LC_EV_LATER; /* a handshake */
	/* EPOLLERR is always reported; naming it keeps the registration when nothing else is wanted. */
	if (lc_ev_set(&lc_conn_srv(c)->loop, &c->ev, want | EPOLLERR, 0) < 0) { /* moving needs memory */
		c->flags |= LC_C_CLOSE_NOW;
		conn_post(c);
	}
}

/* close() says it, unless a child of the application has the socket, too: then it takes a call of its own. */
static void
end_of_output(struct lc_conn *c)
{
	if (forked)
		(void)shutdown(c->ev.fd, SHUT_WR);
}

/* The closing steps that wait for output.  1: the connection is gone. */
static int
closing(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);

	if (c->flags & LC_C_CLOSE_NOW) {
		lc_conn_kill(c, LC_RSN_DONE);
		return 1;
	}
	/* The peer says no more, and there is nothing left to say to it. */
	if ((c->flags & LC_C_EOF_TOLD) && !c->chain.all && !(c->flags & LC_C_LINGERING))
		c->flags |= LC_C_CLOSE_FLUSH;
	if (!(c->flags & LC_C_CLOSE_FLUSH) || (c->flags & LC_C_LINGERING) || (c->flags & LC_C_WANT_WRITE) || c->out)
		return 0;
	if (lc_send_flush(c) < 0) {
		lc_conn_kill(c, LC_RSN_PEER_RESET);
		return 1;
	}
	if (c->out)
		return 0;
	if (c->tr) {
		int r = lc_trans_farewell(c);
		if (r < 0)
			lc_conn_kill(c, LC_RSN_PEER_RESET);
		if (r <= 0)
			return r < 0;
	}
	if (!(c->flags & LC_C_LINGER)) {
		end_of_output(c);
		lc_conn_kill(c, c->reason);
		return 1;
	}
	/* close() with unread input makes the kernel send a reset, which may destroy the response on its way:
	 * half-close and read until the peer closes (RFC 9112 9.6). */
	c->flags |= LC_C_LINGERING;
	srv->in_n = 0;
	c->flags &= ~LC_C_IN_STASH;
	free(c->stash);
	c->stash = NULL;
	if (c->flags & LC_C_EOF)
		end_of_output(c);
	if ((c->flags & LC_C_EOF) || shutdown(c->ev.fd, SHUT_WR) < 0) {
		lc_conn_kill(c, LC_RSN_DONE);
		return 1;
	}
	c->rt_which = LC_TM_LINGER;
	lc_timer_arm(&srv->loop, &c->rt, LC_LINGER_MS, lc_conn_read_timer);
	return 0;
}

/* One round of everything; 1 while something happened, 0 when done, -1: connection gone or lead lost. */
static int
round_of(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);

	for (struct lc_stream *s; (s = lc_chain_pop(&c->chain));) {
		if ((s->ev & LC_SE_REQUEST) && (srv->outv.n || srv->held) && flush_if_old(c) < 0) {
			lc_conn_kill(c, LC_RSN_PEER_RESET);
			return -1;
		}
		if (!lc_deliver(c, s))
			return -1;
		if (c->ev.fn == ignore_event)
			return -1;
	}
	if (c->flags & (LC_C_DRAIN | LC_C_DRAIN_FINAL | LC_C_HAND_OVER)) {
		if (c->flags & LC_C_HAND_OVER) {
			lc_upgrade_run(c);
			return 1;
		}
		uint32_t phase = c->flags & LC_C_DRAIN_FINAL ? LC_DRAIN_FINAL : LC_DRAIN_NOTICE;
		int wait = !c->proto && phase == LC_DRAIN_NOTICE; /* told when there is one to tell */
		if (!wait)
			c->flags &= ~(LC_C_DRAIN | LC_C_DRAIN_FINAL);
		if (!wait && !c->proto) {
			lc_conn_kill(c, LC_RSN_SHUTDOWN);
			return -1;
		}
		if (!wait && c->proto->drain)
			c->proto->drain(c->sess, phase);
	}
	if (c->flags & LC_C_CLOSE_NOW) {
		lc_conn_kill(c, LC_RSN_DONE);
		return -1;
	}
	int p = lc_conn_pull(c);
	if (p)
		return p;
	p = feed(c);
	if (p == 0 && c->chain.ready)
		return 1;
	return p;
}

/* After the rounds: send, keep, arm.  -1: connection gone. */
static int
settle(struct lc_conn *c)
{
	if (!c->out && lc_send_flush(c) < 0) {
		lc_conn_kill(c, LC_RSN_PEER_RESET);
		return -1;
	}
	if ((c->flags & (LC_C_WANT_WRITE | LC_C_YIELD)) == LC_C_WANT_WRITE && !c->out && c->proto)
		return 1; /* the send made room */
	if (closing(c))
		return -1;
	if (lc_conn_stash(c) < 0) {
		lc_conn_kill(c, LC_RSN_LIMIT);
		return -1;
	}
	lc_conn_interest(c);
	return 0;
}

void
lc_conn_run(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	int r;

	LC_ASSERT(lc_loop_leading(&srv->loop));
	srv->cur = c;
	srv->turn_bytes = 0;
	srv->held = 0;
	c->flags &= ~LC_C_YIELD;
	do {
		while ((r = round_of(c)) > 0)
			;
		if (!lc_loop_leading(&srv->loop))
			return; /* wait_leading() left everything in order; nothing here is ours now */
		if (r < 0)
			break;
	} while (settle(c) > 0);
	srv->cur = NULL;
}

void
lc_conn_read(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	ssize_t n;

	if (c->tr) {
		lc_trans_read(c);
		return;
	}
	if (c->stash && !c->proto) { /* sniffing: bytes go behind those that were not enough */
		size_t old = c->stash_n - c->stash_off;
		memcpy(srv->buf, c->stash + c->stash_off, old);
		free(c->stash);
		c->stash = NULL;
		n = recv(c->ev.fd, srv->buf + old, LC_READ_BUF - old, MSG_DONTWAIT);
		srv->in_p = srv->buf;
		srv->in_n = old + (n > 0 ? (size_t)n : 0);
		c->flags &= ~LC_C_STALLED;
	} else {
		n = recv(c->ev.fd, srv->buf, LC_READ_BUF, MSG_DONTWAIT);
		srv->in_p = srv->buf;
		srv->in_n = n > 0 ? (size_t)n : 0;
	}
	if (n == 0) {
		c->flags |= LC_C_EOF;
	} else if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		srv->in_n = 0; /* what was kept of its bytes is nobody else's input */
		lc_conn_kill(c, LC_RSN_PEER_RESET);
	}
}

/* Discard what comes until the peer closes or it was enough. */
static void
linger_read(struct lc_conn *c)
{
	struct lc_srv *srv = lc_conn_srv(c);
	ssize_t n = recv(c->ev.fd, srv->buf, LC_READ_BUF, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		c->lingered += (uint32_t)n;
		if (c->lingered < LC_LINGER_BYTES)
			return;
	}
	lc_conn_kill(c, LC_RSN_DONE);
}

static void
conn_event(struct lc_ev *ev, uint32_t events)
{
	struct lc_conn *c = (struct lc_conn *)((char *)ev - offsetof(struct lc_conn, ev));
	struct lc_srv *srv = lc_conn_srv(c);

	if (c->flags & LC_C_LINGERING) {
		linger_read(c);
		return;
	}
	/* Both ways are down: nothing can be answered.  Input that still waits is read first. */
	if ((events & (EPOLLERR | EPOLLHUP)) && !((events & EPOLLIN) && (ev->armed & EPOLLIN))) {
		lc_conn_kill(c, LC_RSN_PEER_RESET);
		return;
	}
	if (srv->conns_tail != c) {
		conns_unlink(srv, c);
		conns_append(srv, c);
	}
	if (c->out) {
		if ((events & EPOLLOUT) && lc_send_backlog(c) < 0) {
			lc_conn_kill(c, LC_RSN_PEER_RESET);
			return;
		}
	}
	if ((events & EPOLLIN) && (ev->armed & EPOLLIN)) {
		lc_conn_read(c);
		if (c->ev.fn == ignore_event)
			return;
	}
	lc_conn_run(c);
}

void
lc_conn_read_timer(struct lc_timer *t)
{
	struct lc_conn *c = (struct lc_conn *)((char *)t - offsetof(struct lc_conn, rt));

	if (c->rt_which == LC_TM_TRANSPORT)
		lc_trans_timeout(c);
	if (c->rt_which >= LC_TM_CORE || !c->proto || !c->proto->timeout ||
	    c->proto->timeout(c->sess, c->rt_which) == LC_CONN_DEAD)
		lc_conn_kill(c, LC_RSN_TIMEOUT);
	else
		lc_conn_run(c);
}

void
lc_conn_write_timer(struct lc_timer *t)
{
	struct lc_conn *c = (struct lc_conn *)((char *)t - offsetof(struct lc_conn, wt));

	if (!c->proto || !c->proto->timeout || c->proto->timeout(c->sess, LC_TM_WRITE) == LC_CONN_DEAD)
		lc_conn_kill(c, LC_RSN_TIMEOUT);
	else
		lc_conn_run(c);
}

/* ---- a call on the leading thread must wait ---- */

/* How long poll() may sleep: until `until` (ns, 0: no limit), a timer of the connection, or the next heartbeat. */
static int
step_timeout(struct lc_conn *c, uint64_t until)
{
	struct lc_srv *srv = lc_conn_srv(c);
	uint64_t now = srv->loop.now, at = srv->next_beat ? srv->next_beat : now + UINT64_C(1000000000);

	if (until && until < at)
		at = until;
	if (lc_timer_armed(&c->rt) && c->rt.at * 1000000 < at)
		at = c->rt.at * 1000000;
	if (lc_timer_armed(&c->wt) && c->wt.at * 1000000 < at)
		at = c->wt.at * 1000000;
	return at <= now ? 0 : (int)((at - now + 999999) / 1000000);
}

static void
step_timers(struct lc_conn *c)
{
	uint64_t ms = lc_loop_ms(&lc_conn_srv(c)->loop);

	if (lc_timer_armed(&c->rt) && c->rt.at <= ms) {
		lc_timer_cancel(&c->rt);
		lc_conn_read_timer(&c->rt);
		if (c->ev.fn == ignore_event)
			return;
	}
	if (lc_timer_armed(&c->wt) && c->wt.at <= ms) {
		lc_timer_cancel(&c->wt);
		lc_conn_write_timer(&c->wt);
	}
}

/* A turn of this connection inside a call: what the outer turn holds is put where the inner one finds it. */
static void
nest(struct lc_conn *c, struct lc_stream *s)
{
	lc_conn_srv(c)->nested++;
	if (lc_conn_stash(c) < 0)
		c->flags |= LC_C_CLOSE_NOW;
	s->inready = 0; /* delivered by the inner turn, not by the one that is waiting for this call */
	lc_stream_note(s, 0);
}

static void
unnest(struct lc_conn *c, struct lc_stream *s)
{
	struct lc_srv *srv = lc_conn_srv(c);

	srv->nested--;
	if (c->ev.fn == ignore_event)
		return;
	for (struct lc_stream *o = c->chain.all; o; o = o->cnext)
		if (o->ev && o != s) /* the worker's share, kept back */
			lc_stream_note(o, 0);
	lc_chain_unready(s);
	s->inready = LC_READY_HERE;
	srv->cur = c;
}

/* One thread, no lead to give away: serve this stream's connection alone until the event holds.  Listeners are
 * not asked meanwhile, so other processes take what comes. */
static int
step(struct lc_conn *c, struct lc_stream *s, uint32_t events, int64_t ms)
{
	struct lc_srv *srv = lc_conn_srv(c);
	uint64_t until = ms < 0 ? 0 : lc_loop_clock(&srv->loop) + (uint64_t)ms * 1000000;
	uint32_t r;

	nest(c, s);
	for (;;) {
		lc_conn_run(c);
		r = lc_stream_poll(s, events);
		if (r || c->ev.fn == ignore_event || (until && srv->loop.now >= until))
			break;
		struct pollfd p = {.fd = c->ev.fd};
		p.events = (short)((c->ev.armed & EPOLLIN ? POLLIN : 0) | (c->ev.armed & EPOLLOUT ? POLLOUT : 0));
		int n = poll(&p, 1, step_timeout(c, until));
		lc_loop_clock(&srv->loop);
		if (srv->next_beat && srv->loop.now >= srv->next_beat)
			srv->on_beat(srv);
		if (n > 0) /* the bits are epoll's, too */
			conn_event(&c->ev, (uint32_t)p.revents);
		if (c->ev.fn != ignore_event)
			step_timers(c);
	}
	unnest(c, s);
	return (int)r;
}

static void
push_leading(struct lc_stream *s)
{
	struct lc_conn *c = s->owner;

	if (!c)
		return;
	if (s->inready != LC_READY_HERE) { /* not from a callback about this stream */
		conn_post(c);
		return;
	}
	nest(c, s);
	lc_conn_run(c);
	unnest(c, s);
}

static void
wake_leading(struct lc_stream *s)
{
	struct lc_conn *c = s->owner;

	if (lc_conn_srv(c)->cur != c)
		conn_post(c);
}

static int
wait_leading(struct lc_stream *s, uint32_t events, int64_t ms)
{
	struct lc_srv *srv = (struct lc_srv *)((char *)s->loop - offsetof(struct lc_srv, loop));
	struct lc_conn *c = s->owner;

	if (!c)
		return LC_EV_ABORT;
	if (!srv->wk->leader_wanted)
		return step(c, s, events, ms);
	/* Everything that this thread has on its stack goes to where the next leader finds it. */
	s->shared = 1;
	if (srv->cur == c) {
		if (!c->out && lc_send_flush(c) < 0)
			c->flags |= LC_C_CLOSE_NOW;
		if (lc_conn_stash(c) < 0)
			c->flags |= LC_C_CLOSE_NOW;
	}
	srv->cur = NULL;
	s->inready = 0;
	lc_stream_note(s, 0);
	lc_conn_interest(c);
	conn_post(c);
	lc_loop_hand_on(&srv->loop);
	srv->wk->leader_wanted(srv->w);
	return -EAGAIN;
}

static void
after_fork(void)
{
	forked = 1;
}

void
lc_conn_init(void)
{
	(void)pthread_atfork(NULL, after_fork, NULL); /* it fails for want of memory only */
	lc_stream_wait_leading = wait_leading;
	lc_stream_push_leading = push_leading;
	lc_stream_wake_leading = wake_leading;
}

/* ---- all connections ---- */

#define REUSE_LOOK 64 /* connections looked at for an idle one, least recently active first */

static int
reusable(const struct lc_conn *c)
{
	return !c->chain.all && !c->out && c != lc_conn_srv(c)->cur;
}

int
lc_conn_has_idle(const struct lc_srv *srv)
{
	const struct lc_conn *c = srv->conns;

	for (int k = 0; c && k < REUSE_LOOK; k++, c = c->next)
		if (reusable(c))
			return 1;
	return 0;
}

int
lc_conn_reuse(struct lc_srv *srv, uint32_t n)
{
	uint32_t done = 0;

	for (struct lc_conn *c = srv->conns, *next; c && done < n; c = next) {
		next = c->next;
		if (!reusable(c))
			continue;
		lc_conn_kill(c, LC_RSN_LIMIT);
		done++;
	}
	return (int)done;
}

void
lc_conn_drain_all(struct lc_srv *srv, uint32_t phase)
{
	for (struct lc_conn *c = srv->conns; c; c = c->next) {
		c->flags |= phase == LC_DRAIN_FINAL ? LC_C_DRAIN_FINAL : LC_C_DRAIN;
		conn_post(c);
	}
}

void
lc_conn_kill_all(struct lc_srv *srv, uint32_t reason)
{
	while (srv->conns)
		lc_conn_kill(srv->conns, reason);
}
