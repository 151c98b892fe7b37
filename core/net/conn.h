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
#define LC_C_IN_STASH 0x1000u  /* srv->in_p points into the stash */
#define LC_C_YIELD 0x2000u     /* has sent LC_TURN_BYTES in this turn: others are next */
#define LC_C_HAND_OVER 0x4000u /* another protocol takes over between module calls */

#define LC_TURN_BYTES \
	(4u << 20) /* one connection may not keep the loop from the others by taking what it is sent fast */
#define LC_LINGER_MS 2000u
#define LC_LINGER_BYTES (1u << 20)
#define LC_SNIFF_MS 10000u
#define LC_TM_CORE 16u /* rt_which above the protocol's: the core's own */
#define LC_TM_LINGER (LC_TM_CORE + 0)
#define LC_TM_SNIFF (LC_TM_CORE + 1)
#define LC_TM_TRANSPORT (LC_TM_CORE + 2) /* a transport's, until the protocol is opened */

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

/* The transports of a connection, see trans.c. */
struct lc_ctrans {
	const struct lc_transport *ops; /* the one in charge */
	struct lc_conn *c;
	void *t;
	uint32_t at;        /* number of the next one on the listener */
	uint32_t raw_n;     /* prologue: bytes that were not enough */
	uint8_t *raw, *out; /* out: raw bytes from out_off to out_n wait to be sent */
	size_t out_n, out_off, out_cap;
	struct lc_timer idle;                     /* until idle() is called */
	uint8_t opened, established, begun, shut; /* begun: the protocol's turn has come */
	uint8_t alpn_n;
	char alpn[63];
};

/* What transports have said of a connection. */
struct lc_cinfo {
	char *local; /* NULL: the listener's */
	uint16_t local_n, local_port, req_flags;
	uint16_t nfacts;
	uint32_t text_n;
	char *text; /* name and value of each, one behind the other */
	struct {
		uint16_t name, value; /* lengths */
	} fact[LC_TR_FACTS];
};

struct lc_conn {
	struct lc_dead dead; /* first */
	struct lc_ev ev;
	struct lc_lsn *lsn;
	const struct lc_proto *proto; /* NULL: not chosen yet */
	struct lc_ctrans *tr;         /* NULL: plain */
	struct lc_cinfo *info;        /* NULL: nothing but what the socket says */
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
	const struct lc_lproto *next_proto; /* with HAND_OVER: who takes over, and the request that asked for it */
	struct lc_stream *next_request;
	uint32_t lingered, reason; /* reason: LC_RSN_* for streams that a flushing close ends */
	uint16_t port, peer_n;
	char peer[48];
	uint64_t serial;  /* among those that this process has accepted, from 1 */
	uint64_t streams; /* opened so far */
	uint64_t put_out; /* bytes that the protocol has put out */
};

static inline struct lc_srv *
lc_conn_srv(const struct lc_conn *c)
{
	return c->lsn->srv;
}

/* What the protocol put out for a stream that ends now.  Of streams side by side nobody can tell but their bodies. */
static inline uint64_t
lc_conn_put_out(const struct lc_conn *c, const struct lc_stream *s)
{
	return c->proto->flags & LC_P_MULTIPLEX ? s->sent : c->put_out - s->put_out;
}

/* conn.c: run a connection until nothing more can be done now.  The lead may be lost inside. */
void lc_conn_run(struct lc_conn *);
int lc_conn_pull(struct lc_conn *); /* 1: something was pulled, 0: nothing to do, -1: killed */
void lc_conn_kill(struct lc_conn *, uint32_t reason);
/* Open the protocol: this one; NULL: the listener's only one, or by the first bytes.  0, or -1: close. */
int lc_conn_begin(struct lc_conn *, const struct lc_lproto *);
void lc_conn_interest(struct lc_conn *);
int lc_conn_stash(struct lc_conn *);
void lc_conn_read(struct lc_conn *);
void lc_conn_read_timer(struct lc_timer *);
void lc_conn_write_timer(struct lc_timer *);

/* upgrade.c */
const struct lc_proto *lc_upgrade_find(struct lc_conn *, struct lc_str *token, const void **ret_conf);
int lc_upgrade_request(struct lc_conn *, const struct lc_proto *, struct lc_stream *);
void lc_upgrade_run(struct lc_conn *); /* HAND_OVER is set, no module call is in progress */

/* deliver.c: events of one stream to its protocol and worker.  0: the lead was handed on, unwind. */
int lc_deliver(struct lc_conn *, struct lc_stream *);
void lc_stream_orphan(struct lc_srv *, struct lc_stream *);
void lc_deliver_posted(struct lc_post *);

/* conn_api.c */
void lc_conn_log(struct lc_conn *, int level, const char *fmt, ...) LC_PRINTF(3, 4);

/* trans.c: connections whose `tr` is not NULL */
int lc_trans_begin(struct lc_conn *); /* 0, or -1: close */
void lc_trans_read(struct lc_conn *);
int lc_trans_flush(struct lc_conn *);
int lc_trans_backlog(struct lc_conn *);
int lc_trans_farewell(struct lc_conn *); /* 1: nothing waits, 0: it does, -1: broken */
void lc_trans_timeout(struct lc_conn *);
void lc_trans_close(struct lc_conn *);
struct lc_cinfo *lc_conn_info(struct lc_conn *); /* made at the first call; NULL: no memory */
void lc_conn_info_free(struct lc_conn *);
int lc_conn_dress(struct lc_conn *, struct lc_stream *);
/* account.c: the access log's record of a stream that is over, and of a request that never was one. */
void lc_account(struct lc_srv *, const struct lc_stream *);
void lc_account_refused(struct lc_conn *, struct lc_stream *, uint32_t status, const struct lc_req *);

/* send.c */
int lc_send_flush(struct lc_conn *);   /* the outv; 0, or -errno: connection is broken */
int lc_send_backlog(struct lc_conn *); /* 1: all sent, 0: some is left, <0 */
void lc_send_drop(struct lc_conn *);
ssize_t lc_send_iov(int fd, struct iovec *, uint32_t n, int more); /* more: MSG_MORE; 0: the socket is full; -errno */
int lc_send_keep(struct lc_conn *, struct lc_outv *, size_t skip); /* the rest becomes the backlog */
void lc_send_advance(struct lc_backlog *, size_t n);               /* n bytes of it are done with */
/* The entries of a vector from `first` on, as pieces. */
void lc_send_pieces(struct lc_backlog_piece *, const struct lc_outv *, uint32_t first);
/* A file lacks bytes that were announced, or cannot be read: -EIO, the connection will end by a reset. */
int lc_send_file_broken(struct lc_conn *, int fd, uint64_t missing, int err);

#endif
