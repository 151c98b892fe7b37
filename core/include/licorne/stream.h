/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/stream.h - one request/response exchange: what a worker or handler module sees.
 *
 * No connection, no protocol.  A stream has two references, the protocol's and the worker's; its arena dies
 * with the second.  It ends exactly once per side, with a reason.  Each direction has one bounded queue.
 *
 * Return values everywhere: 0 or more is an outcome named here that the caller must handle; below 0 is
 * -errno and is propagated.
 */
#ifndef LC_STREAM_H
#define LC_STREAM_H
#include "abi.h"

/* lc_req.flags */
#define LC_R_TLS 1u          /* came over an encrypted transport; the scheme may be https without it: a proxy says so */
#define LC_R_BODY 8u         /* a body is to come or has come (length != 0) */
#define LC_R_EXPECT 16u      /* client waits for 100 (Continue); the core sends it at the first read() */
#define LC_R_TRAILERS_OK 32u /* client said TE: trailers */

/* Something that a transport knows of the connection: a cipher, the subject of a client's certificate. */
struct lc_fact {
	struct lc_str name, value;
};

/*
 * The request.  Filled by the protocol before request() is called, immutable after it; every pointer lives
 * in the stream's arena, in the connection or in the listener, all of which outlive the worker's reference.
 * Names are lower case, `authority` is filled from Host or :authority (empty for HTTP/1.0 without Host).
 */
struct lc_req {
	uint32_t size;    /* sizeof as the core knows it */
	uint16_t version; /* 0x0100, 0x0101, 0x0200 */
	uint16_t flags;   /* LC_R_* */
	struct lc_str method, scheme, authority;
	struct lc_str target;      /* as sent: origin-, absolute- or asterisk-form (RFC 9112 3.2) */
	struct lc_str path, query; /* both raw (percent-encoded); query without '?', {NULL,0} if there is none */
	const struct lc_field *fields;
	uint32_t nfields;
	uint32_t pad;
	int64_t length;            /* declared body length in bytes, -1: unknown (chunked) */
	struct lc_str peer, local; /* printable addresses without port; "" for a UNIX peer, the path for local */
	uint16_t peer_port, local_port;
	uint32_t listener; /* number of the listener within the pool */
	uint32_t pad2;
	struct lc_str protocol;      /* "HTTP/1.1": what SERVER_PROTOCOL and access logs say; from the protocol */
	const struct lc_fact *facts; /* by the connection's transports, in the order in which they were said */
	uint32_t nfacts;
	uint32_t pad3;
};

/* lc_head.flags */
#define LC_HEAD_TRAILERS 1u /* finish() will bring trailers: the end shows with them, not with the last byte */

/*
 * A response head.  `fields` and all strings must stay valid until the stream ends: take them from
 * stream->alloc() or static memory.  The protocol adds Date, Server, framing and connection fields itself.
 */
struct lc_head {
	uint32_t size, status, nfields, flags;
	const struct lc_field *fields;
	int64_t length;       /* body bytes that will follow; -1: not known */
	struct lc_str reason; /* HTTP/1 reason phrase; {NULL,0}: the standard one */
	/* Nonzero: all heads of this process with this number have the same status, reason and fields, for ever, so
	 * that a protocol may keep what it rendered of them.  Length is not part of it.  Numbers come from
	 * worker_api->memo().  0: not known to come again. */
	uint64_t memo;
};

/* Events for wait() and the worker's callbacks (a bit set). */
#define LC_EV_READ 1u
#define LC_EV_WRITE 2u
#define LC_EV_ABORT 4u

/* write() flags */
#define LC_W_FIN 1u   /* this is the end of the body */
#define LC_W_FLUSH 2u /* hand it to the kernel soon: a streamed chunk (PEP 3333, "no delay") */

/* Why a stream ended (lc_reason). */
#define LC_RSN_DONE 0u
#define LC_RSN_PEER_RESET 1u
#define LC_RSN_PEER_CLOSED 2u
#define LC_RSN_TIMEOUT 3u
#define LC_RSN_LIMIT 4u
#define LC_RSN_PROTO_ERROR 5u
#define LC_RSN_APP_ERROR 6u
#define LC_RSN_SHUTDOWN 7u

/*
 * Host -> worker, table "stream" version 1.  Every function may be called from the loop thread inside a
 * worker callback, or from one other thread at a time that the worker has given the stream to (after
 * share()).  None calls back into a module.
 */
struct lc_stream_api {
	uint32_t size, pad;
	/* The request; same pointer for the stream's life. */
	const struct lc_req *(*req)(struct lc_stream *);
	/* Must be called, on the loop thread, before another thread touches the stream. */
	void (*share)(struct lc_stream *);
	/* Bytes copied (1..n), 0 at the end of the body, -EAGAIN when nothing waits, -ECONNRESET after an
	 * abort, -EMSGSIZE when the body broke its limit.  Reading gives credit to the peer. */
	int64_t (*read)(struct lc_stream *, void *buf, size_t n);
	/* Bytes that read() would give now; *fin = 1 when the whole body has arrived. */
	uint64_t (*avail)(struct lc_stream *, int *fin);
	/* A 1xx (any number of times) or the final head (once).  -EALREADY, -EPIPE. */
	int (*respond)(struct lc_stream *, const struct lc_head *);
	/* Queue body data.  0: taken, room left; 1: taken, queue full: wait(LC_EV_WRITE) before the next;
	 * -EPIPE: the stream was aborted (slices are released all the same).  -EINVAL: before respond(), or a file
	 * slice without release().  A file is read when it is its turn, by sendfile() where the transport allows it;
	 * what it has not got any more by then ends the connection, and the log says so.  It hardly counts for "queue
	 * full". */
	int (*write)(struct lc_stream *, const struct lc_slice *, uint32_t n, uint32_t wflags);
	/* End of the response, with trailers (arena or static memory) where n > 0. */
	int (*finish)(struct lc_stream *, const struct lc_field *trailers, uint32_t n);
	/* Abort our side: the client sees an incomplete response. */
	void (*reset)(struct lc_stream *, uint32_t reason);
	/* Block until one of the events holds or ms passed (< 0: no limit); returns the events that hold, with
	 * LC_EV_ABORT after an abort, or 0 on time-out.  On the loop thread, inside request(): where the worker
	 * has leader_wanted() the loop is handed to another thread first and the caller goes on as an ordinary
	 * thread; otherwise the loop is stepped for this stream's connection alone. */
	int (*wait)(struct lc_stream *, uint32_t events, int64_t ms);
	/* Memory that lives as long as the stream; NULL when the arena's limit (1 MiB) is reached.  16-byte aligned. */
	void *(*alloc)(struct lc_stream *, size_t n);
	void (*set_user)(struct lc_stream *, void *);
	void *(*user)(struct lc_stream *);
	/* Drop the worker's reference: its last call.  An unfinished response is aborted (LC_RSN_APP_ERROR). */
	void (*release)(struct lc_stream *);
	/* ABI 0.2: the request's trailer fields (RFC 9110 6.5), complete when the whole body has arrived: before that,
	 * and without any, NULL and *n = 0.  Never merge them into the request's fields.  Valid as long as the stream.
	 */
	const struct lc_field *(*trailers)(struct lc_stream *, uint32_t *n);
};

#endif
