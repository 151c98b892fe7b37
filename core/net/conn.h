/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/net/conn.h - a connection.  Belongs to its loop for life.
 */
#ifndef LC_CORE_NET_CONN_H
#define LC_CORE_NET_CONN_H

#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/server.h"

/* lc_conn.flags */
#define LC_C_WANT_WRITE 0x001u
#define LC_C_PAUSED 0x002u  /* the protocol wants no input */
#define LC_C_STALLED 0x004u /* recv() left bytes; no use to offer them before something changed */
#define LC_C_CLOSE_NOW 0x008u
#define LC_C_CLOSE_FLUSH 0x010u
#define LC_C_LINGER 0x020u /* with CLOSE_FLUSH: half-close and discard first */
#define LC_C_LINGERING 0x040u
#define LC_C_EOF 0x080u /* the peer has half-closed */
#define LC_C_EOF_TOLD 0x100u
#define LC_C_POSTED 0x200u
#define LC_C_DRAIN 0x400u /* drain(NOTICE) is to be called */
#define LC_C_DRAIN_FINAL 0x800u
#define LC_C_IN_STASH 0x1000u /* srv->in_p points into the stash */
#define LC_C_YIELD 0x2000u    /* has sent LC_TURN_BYTES in this turn: others are next */

#define LC_TURN_BYTES \
	(4u << 20) /* one connection may not keep the loop from the others by taking what it is sent fast */
#define LC_LINGER_MS 2000u
#define LC_LINGER_BYTES (1u << 20)
#define LC_SNIFF_MS 10000u
#define LC_TM_CORE 16u /* rt_which above the protocol's: the core's own */
#define LC_TM_LINGER (LC_TM_CORE + 0)
#define LC_TM_SNIFF (LC_TM_CORE + 1)

/* Output that the socket did not take: one block, its small pieces copied. */
struct lc_backlog {
	uint32_t i, n;
	uint64_t bytes;
	uint64_t has_files;
	struct lc_backlog_piece {
		struct iovec v; /* of a file: its length alone */
		void (*rel)(void *);
		void *arg;
		int32_t fd, pad; /* -1: memory */
		uint64_t off;
	} piece[];
};

struct lc_conn {
	struct lc_dead dead; /* first */
	struct lc_ev ev;
	struct lc_lsn *lsn;
	const struct lc_proto *proto; /* NULL: not chosen yet */
	void *sess, *sess_mem;
	struct lc_schain chain;
	struct lc_conn *prev, *next;
	struct lc_post post;
	struct lc_timer rt, wt;
	uint8_t *stash;
	uint32_t stash_n, stash_off;
	struct lc_backlog *out;
	uint32_t flags, rt_which;
	uint32_t write_ms;
	uint32_t lingered, reason; /* reason: LC_RSN_* for streams that a flushing close ends */
	uint16_t port, peer_n;
	char peer[48];
};

static inline struct lc_srv *
lc_conn_srv(const struct lc_conn *c)
{
	return c->lsn->srv;
}

/* conn.c: run a connection until nothing more can be done now.  The lead may be lost inside. */
void lc_conn_run(struct lc_conn *);
int lc_conn_pull(struct lc_conn *); /* 1: something was pulled, 0: nothing to do, -1: killed */
void lc_conn_kill(struct lc_conn *, uint32_t reason);
void lc_conn_interest(struct lc_conn *);
int lc_conn_stash(struct lc_conn *);
void lc_conn_read(struct lc_conn *);
void lc_conn_read_timer(struct lc_timer *);
void lc_conn_write_timer(struct lc_timer *);

/* deliver.c: events of one stream to its protocol and worker.  0: the lead was handed on, unwind. */
int lc_deliver(struct lc_conn *, struct lc_stream *);
void lc_stream_orphan(struct lc_srv *, struct lc_stream *);
void lc_deliver_posted(struct lc_post *);

/* send.c */
int lc_send_flush(struct lc_conn *);   /* the outv; 0, or -errno: connection is broken */
int lc_send_backlog(struct lc_conn *); /* 1: all sent, 0: some is left, <0 */
void lc_send_drop(struct lc_conn *);

#endif
