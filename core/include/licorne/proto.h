/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/proto.h - a protocol module is a sans-I/O state machine.
 *
 * Bytes in, streams out; streams in, bytes out.  It never sees an fd, a TLS object, a clock or a worker.
 * Everything runs on the thread that holds the connection's loop, and no host function calls back
 * into the module: what a call causes is delivered after the module call in progress has returned and
 * before the bytes given to recv() are reused.
 */
#ifndef LC_PROTO_H
#define LC_PROTO_H
#include "stream.h"

#define LC_PROTO_VERSION 1

/* lc_proto.flags */
#define LC_P_MULTIPLEX 1u /* many streams at once on a connection */
#define LC_P_FALLBACK 4u  /* takes clear-text connections that nobody's sniff() claims */

/* sniff() answers */
#define LC_SNIFF_NO 0
#define LC_SNIFF_MORE 1
#define LC_SNIFF_YES 2

/* Failure scope, returned negated by recv() and as is by the others (lc_scope). */
#define LC_OK 0
#define LC_STREAM_DEAD 1
#define LC_CONN_DRAIN 2
#define LC_CONN_DEAD 3

/* drain() phases */
#define LC_DRAIN_NOTICE 1u
#define LC_DRAIN_FINAL 2u

/* Timers (lc_timer).  HANDSHAKE to USER share one slot: arming one replaces the other.  WRITE is declared once
 * (in open()) and run by the core: it fires when output has waited that long without the peer taking a byte. */
#define LC_TM_HANDSHAKE 0u
#define LC_TM_HEAD 1u
#define LC_TM_BODY 2u
#define LC_TM_IDLE 3u
#define LC_TM_USER 4u
#define LC_TM_WRITE 5u

/* conn_close() modes */
#define LC_CLOSE_NOW 0    /* at once; output that waits is dropped */
#define LC_CLOSE_FLUSH 1  /* after the output is sent */
#define LC_CLOSE_LINGER 2 /* after the output: half-close, read and discard for at most 2 s (RFC 9112 9.6) */

/*
 * name, open, recv and pull are required, and, of a protocol that opens streams, head, out_ready, reset and detach. The
 * rest may be NULL: no sniff() never claims, no eof() and no timeout() say LC_CONN_DEAD.
 */
struct lc_proto {
	uint32_t size, flags;
	const char *name;                      /* "http1" */
	const char *const *alpn;               /* {"http/1.1", NULL}, in order of preference; NULL: none */
	uint32_t sniff_max, pad;               /* most bytes that sniff() may ask for, <= 64 */
	int (*sniff)(const uint8_t *, size_t); /* clear text only; NULL: never claims */

	/* conf: this module's directives as they hold for the listener.  sess is the module's own. */
	int (*open)(struct lc_conn *, const void *conf, void **sess);
	void (*close)(void *sess); /* all streams were aborted and detached before */

	/* Consume up to n bytes and return how many, or -(lc_scope).  Fewer than n: the core keeps the rest, does not
	 * read the socket, and offers it again after the pause ends (read_pause(0)) or a stream event was delivered. */
	int64_t (*recv)(void *sess, const uint8_t *, size_t n);
	int (*eof)(void *sess); /* peer half-closed, all its bytes consumed: lc_scope */
	/* Put bytes into v until it is full or nothing is left.  Called after want_write(), when v has room.
	 * A v that was full is followed by another call; want_write() inside asks for one, too. */
	int (*pull)(void *sess, struct lc_outv *v);

	/* core -> protocol, about one stream; ps is what stream_open() was given */
	/* 1xx or final; the struct and what it points to stay valid until detach(). */
	int (*head)(void *sess, void *ps, const struct lc_head *);
	void (*out_ready)(void *sess, void *ps); /* the out queue became non-empty, or ended */
	/* Before the end shows, maybe before head(). */
	int (*trailers)(void *sess, void *ps, const struct lc_field *, uint32_t n);
	void (*consumed)(void *sess, void *ps, size_t n); /* the application took n body bytes */
	void (*reset)(void *sess, void *ps,
		      uint32_t reason);       /* worker aborted: end it incompletely; detach() follows */
	void (*detach)(void *sess, void *ps); /* last call about this stream, after stream_done()/abort */

	/* connection */
	void (*drain)(void *sess, uint32_t phase);
	int (*timeout)(void *sess, uint32_t which); /* lc_scope; CONN_DEAD closes */
	void (*status)(void *sess, struct lc_stat *);

	/*
	 * ABI 0.2: taking over a connection that began in another protocol (RFC 9110 7.8); NULL: never.
	 *
	 * upgrade: tokens that offers name, NULL-ended, compared without case, as a whole ("name" or "name/version").
	 */
	const char *const *upgrade;
	/* Is the request, whose body is empty, fit for it?  NULL: any is.  No connection yet, nothing to keep: LC_OK,
	 * or LC_STREAM_DEAD: the offer is passed over, the request answered as any other.  It may set fields (and
	 * nfields) of the head that announces the change, from stream_alloc() of this stream or static memory. */
	int (*upgrade_check)(const void *conf, struct lc_stream *, const struct lc_req *, struct lc_head *answer);
	/* Like open(), after the announcement: the bytes behind the request are given to recv().  The request is valid
	 * during the call. */
	int (*upgrade_open)(struct lc_conn *, const void *conf, const struct lc_req *, void **sess);
};

/* Host -> protocol, table "conn" version 1. */
struct lc_conn_api {
	uint32_t size, pad;
	/* Memory for sess: zeroed, freed by the core after close(); n <= 4096.  Once per connection. */
	void *(*sess_alloc)(struct lc_conn *, size_t n);

	/* A new stream and its request to fill in; NULL: over a limit (worker_connections, drain). */
	struct lc_stream *(*stream_open)(struct lc_conn *, uint64_t id, void *ps, struct lc_req **ret_req);
	void *(*stream_alloc)(struct lc_stream *, size_t n); /* its arena; NULL: over its limit */
	/* The request is complete and immutable from here; end = 1: no body follows.  peer, local, ports, listener and
	 * LC_R_TLS were filled by the core in stream_open().  Delivered to the worker after recv() returned. */
	int (*stream_head)(struct lc_stream *, int end);
	/* Body bytes, copied.  0; 1: over the high water mark (64 KiB), the protocol should read_pause(1). */
	int (*stream_body)(struct lc_stream *, const uint8_t *, size_t n);
	int (*stream_end)(struct lc_stream *, const struct lc_field *trailers, uint32_t n); /* body is complete */
	/* The peer's side failed: worker is told.  detach() follows.  Before stream_head(), too. */
	void (*stream_abort)(struct lc_stream *, uint32_t reason);
	/* The response was put out completely: the protocol is done with it.  detach() follows; what the worker still
	 * writes (to HEAD, beyond the length) gets -EPIPE. */
	void (*stream_done)(struct lc_stream *);

	/* Out queue: bytes that wait; *fin = 1 when the response ends after them. */
	uint64_t (*stream_avail)(struct lc_stream *, int *fin);
	int64_t (*stream_take)(struct lc_stream *, struct lc_outv *, uint64_t max); /* moves up to max bytes into v */

	int (*out_copy)(struct lc_outv *, const void *, size_t n); /* all or nothing: -ENOSPC */
	/* Write in place: room for at least n bytes, or NULL; then out_commit() what was used. */
	uint8_t *(*out_reserve)(struct lc_outv *, size_t n);
	void (*out_commit)(struct lc_outv *, size_t n);
	uint64_t (*out_room)(const struct lc_outv *);
	void (*want_write)(struct lc_conn *);
	void (*read_pause)(struct lc_conn *, int on);
	void (*timer)(struct lc_conn *, uint32_t which, int64_t ms); /* < 0 cancels */
	void (*conn_close)(struct lc_conn *, int how);               /* LC_CLOSE_* */
	struct lc_str (*date)(struct lc_conn *);                     /* IMF-fixdate, 29 bytes (RFC 9110 5.6.7) */
	int (*draining)(struct lc_conn *); /* 1: this process is going away: no more keep-alive */
	void (*log)(struct lc_conn *, int level, const char *fmt, ...) LC_PRINTF(3, 4); /* names the client */
	/* ABI 0.2.  The protocol answers with this status by itself, for the access log.  With a stream: in place of
	 * the worker's answer, of which nothing was put out; before stream_abort().  NULL: the request never became a
	 * stream; what is known of it is in the struct, the rest empty, and is used during the call only. */
	void (*refused)(struct lc_conn *, struct lc_stream *, uint32_t status, const struct lc_req *);

	/* ABI 0.2: a protocol that is loaded, allowed on this listener, and takes over for the token; NULL: none.
	 * *token becomes the module's own spelling. */
	const struct lc_proto *(*upgrade_find)(struct lc_conn *, struct lc_str *token, const void **ret_conf);
	/* Give the connection to it, with the request in this stream, which has no stream_head() and is the only one
	 * that is not detached.  The caller has put out its last byte and consumed none behind the request.  When the
	 * module call in progress has returned, the other's upgrade_open() is called, then this one's detach() and
	 * close(), and nothing else. */
	int (*hand_over)(struct lc_conn *, const struct lc_proto *, struct lc_stream *); /* 0, -EBUSY, -ENOENT */
};

#endif
