/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/net/server.h - the serving half of a worker process: loop, listeners, connections, one worker module.
 *
 * One struct, allocated once.  All of it belongs to the thread that leads the loop, but for what worker modules may
 * call from any thread (worker.h).  struct lc_wctx of the SDK is this.
 */
#ifndef LC_CORE_NET_SERVER_H
#define LC_CORE_NET_SERVER_H

#include <licorne/proto.h>
#include <licorne/transport.h>
#include <licorne/worker.h>

#include "loop/loop.h"
#include "stream/outv.h"
#include "stream/stream.h"

#define LC_READ_BUF (64u << 10) /* one read; a connection keeps no buffer while idle */

struct lc_access;
struct lc_conn;
struct lc_routes;

/* A protocol allowed on a listener, with its directives as they hold there. */
struct lc_lproto {
	const struct lc_proto *proto;
	const void *conf;
};

/* A transport of a listener; inst is what its listen() gave. */
struct lc_ltrans {
	const struct lc_transport *ops;
	void *inst;
};

struct lc_lsn {
	struct lc_ev ev;
	struct lc_srv *srv;
	uint32_t index, nprotos;
	struct lc_lproto *protos;
	struct lc_ltrans *trans;    /* from the socket to the protocol: prologues, then a lasting one */
	struct lc_tr_listener info; /* for the transports */
	uint32_t ntrans;
	uint32_t sniff_max;
	uint16_t port;
	char addr[112]; /* printable, without port; the path of a UNIX socket */
	uint32_t addr_n;
};

struct lc_wctx {
	char opaque_;
};

struct lc_srv {
	struct lc_wctx ctx; /* first: the SDK's handle is this struct */
	struct lc_loop loop;
	struct lc_streams streams;
	struct lc_outv outv; /* of `cur`, during its turn */
	struct lc_conn *cur;
	const uint8_t *in_p; /* input of `cur` not yet consumed */
	size_t in_n;
	uint8_t *buf;
	uint8_t *plain;     /* what a lasting transport made of `buf`; NULL: not needed yet */
	uint8_t *file_part; /* of a file, for a lasting transport; LC_TR_PIECE bytes, NULL: not needed yet */
	uint8_t *spare;     /* an empty buffer for raw output, see trans.c */
	size_t spare_cap;
	uint64_t held;       /* lc_ticks() of the first answer of `cur` that waits to be pulled with others; 0: none */
	uint64_t turn_bytes; /* sent to `cur` in this turn, in large pieces */
	uint32_t nested;     /* inside a call that waits (wait_leading, stepping) */
	const struct lc_worker *wk;
	void *w;
	const char *pool;
	uint32_t processes, slot;
	struct lc_routes *routes; /* NULL: none */
	uint32_t capacity;        /* requests at once; 0: no gate */
	uint32_t inflight;        /* requests that somebody has a reference to */
	uint32_t handled;         /* those of them that are a handler's, not the worker's */
	uint32_t nconns, max_conns, nlsn;
	uint32_t closed; /* connections, since memory was given back */
	struct lc_lsn *lsn;
	int gate_closed, draining, stopping;
	uint64_t requests, accepted;
	struct lc_conn *conns, *conns_tail; /* least recently active first */
	struct lc_timer gate_timer, drain_timer, final_timer;
	uint64_t emfile_logged, no_files_until; /* ns */
	uint64_t trouble_logged;                /* ns; of what every connection may cause */
	uint64_t gate_open_since;               /* ns; 0: not listening yet */
	int64_t quit_ms;                        /* what a worker module is given to end its calls */
	uint64_t date_until;                    /* ns: the rendered date holds until then */
	char date[40];
	struct lc_access *access;
	char *boot_error;
	size_t boot_error_n;
	uint64_t next_beat;                   /* ns; 0: none */
	void (*on_stranded)(struct lc_srv *); /* connections wait that we cannot take; NULL: nobody to tell */
	uint64_t stranded_told;               /* ns */
	void (*on_beat)(struct lc_srv *);     /* heartbeat is due: sends it and sets next_beat */
	struct lc_fl *flight;                 /* NULL: none */
	uint64_t request_timeout;             /* ms; 0: no limit */
	void *proc;
};

int lc_srv_init(struct lc_srv *);
void lc_srv_done(struct lc_srv *);
const struct lc_worker_api *lc_worker_table(void);
void lc_srv_register_tables(void);   /* the host tables "conn", "stream", "worker", "transport" */
void lc_srv_listen(struct lc_srv *); /* open the gate: READY */
/* Stop accepting, let connections finish, then stop the loop; at the deadline (ms from now) end them. */
void lc_srv_drain(struct lc_srv *, int64_t deadline_ms);
void lc_srv_quit(struct lc_srv *); /* end now */

/* listen.c */
void lc_lsn_ready(struct lc_ev *, uint32_t events);
void lc_gate_update(struct lc_srv *);
/* Connections wait, and whose wake-up it was has not taken them: queue up anew. */
void lc_gate_again(struct lc_srv *);
void lc_gate_close_for_good(struct lc_srv *);
int lc_srv_may_log(struct lc_srv *); /* 1: at most every five seconds, for lines that clients can cause at will */

/* trans.c */
extern const struct lc_transport_api lc_transport_table;

/* conn.c */
void lc_conn_init(void);
void lc_conn_new(struct lc_lsn *, int fd, const void *sockaddr, uint32_t len);
int lc_conn_has_idle(const struct lc_srv *);
int lc_conn_reuse(struct lc_srv *, uint32_t n); /* close up to n idle connections, oldest first; how many */
void lc_conn_drain_all(struct lc_srv *, uint32_t phase);
void lc_conn_kill_all(struct lc_srv *, uint32_t reason);
struct lc_str lc_srv_date(struct lc_srv *);

extern const struct lc_conn_api lc_conn_table;

#endif
