/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/transport.h - a transport module stands between the sockets of a listener and the protocol.
 *
 *	listen 443 NAME { ... }
 *
 * There are two sorts.  A *prologue* reads what a connection begins with and then steps aside: from there on the
 * connection costs nothing more than a plain one.  A *lasting* transport turns all bytes, both ways, for as long as the
 * connection lives.  A listener has any number of prologues, which come first, and at most one lasting transport.
 *
 * Like a protocol module it does no I/O and has no clock: bytes in, bytes out.  Everything runs on the thread that
 *leads the loop and nothing may block.  No host function calls back into the module: what a call causes happens after
 *the module call in progress has returned.  The protocol is opened when all prologues have stepped aside and the
 *lasting transport is established; until then the connection has no other limit of time than the transport's own
 *timer().
 */
#ifndef LC_TRANSPORT_H
#define LC_TRANSPORT_H
#include "abi.h"

#define LC_TRANSPORT_VERSION 1

/* lc_transport.flags */
#define LC_TR_SECURE 1u /* what it carries is encrypted: requests have LC_R_TLS and the scheme that goes with it */

/* header() and input() outcomes */
#define LC_TR_GO 0    /* header(): more bytes are needed; input(): fine */
#define LC_TR_ASIDE 1 /* header() only: it is complete; what is behind it belongs to the next layer */
#define LC_TR_EOF 2   /* input() only: the peer said in an orderly way that nothing more comes */

#define LC_TR_HEADER_MAX (8u << 10) /* ceiling of lc_transport.header_max */
#define LC_TR_SLACK (32u << 10)     /* bytes by which the room of input() exceeds what it is given */
#define LC_TR_PIECE (64u << 10)     /* most bytes that output() is given at once */
#define LC_TR_RAW_MAX (256u << 10)  /* most raw bytes of a connection that may wait to be sent */
#define LC_TR_FACTS 16u             /* facts of a connection */
#define LC_TR_FACTS_SIZE 4096u      /* bytes of their names and values together */

/* What a transport is told of its listener; valid until unlisten(). */
struct lc_tr_listener {
	uint32_t size;
	uint32_t index;          /* number of the listener within the pool */
	struct lc_str address;   /* printable, without port; the path of a UNIX socket */
	const char *const *alpn; /* names of the listener's protocols (RFC 7301), the preferred one first, NULL-ended */
	struct lc_str secret;    /* random bytes, the same in all processes of the pool; {NULL, 0}: there are none */
	struct lc_str before;    /* the secret that it followed, as long: what was made with it is still in use */
};

struct lc_transport {
	uint32_t size, flags; /* flags: LC_TR_* */
	const char *name;
	/* A prologue: most bytes that header() may ask for, 1 to LC_TR_HEADER_MAX.  0: a lasting transport. */
	uint32_t header_max, pad;
	/* Do the directives of a listener ask for this transport, although its name is not among the words behind the
	 * address?  Optional. */
	int (*wanted)(const void *conf);

	/* Once per listener in each worker process, before it is READY, with the rights that the worker has.  0, or
	 * -errno with a sentence in msg (msgsize bytes): the worker does not start.  Optional, as is unlisten(). */
	int (*listen)(const struct lc_tr_listener *, const void *conf, void **inst, char *msg, size_t msgsize);
	void (*unlisten)(void *inst); /* all connections were closed before */

	/* A connection.  inst: listen()'s, or without listen() the listener's conf.  0, or -errno: it is closed. */
	int (*open)(struct lc_conn *, void *inst, void **t);
	void (*close)(void *t); /* the last call: it stepped aside, or the connection is gone */

	/* Prologues.  The first n bytes; after LC_TR_GO it is called with the same and more behind them.  *used: length
	 * of the header, with LC_TR_ASIDE.  Below 0: the connection is closed at once; say why by log(). */
	int (*header)(void *t, const uint8_t *, size_t n, size_t *used);

	/* Lasting transports.  n raw bytes, all to be taken; *produced bytes were written to out, which has room for
	 * n + LC_TR_SLACK.  Below 0: what raw() was given is sent as far as the socket takes it, and the connection is
	 * closed. */
	int (*input)(void *t, const uint8_t *, size_t n, uint8_t *out, size_t *produced);
	/* Turn the bytes of n pieces, LC_TR_PIECE at most together, into raw ones and give them to raw().  All or below
	 * 0. Never before established(). */
	int (*output)(void *t, const struct lc_str *v, uint32_t n);
	/* Nothing more will be sent: a farewell, by raw().  Once, when the connection ends in order.  Optional. */
	int (*shutdown)(void *t);
	/* No request has run and no byte has waited for a second: let go of buffers.  Optional. */
	void (*idle)(void *t);

	/* timer() ran out: log(); the connection is closed after it.  Optional. */
	void (*timeout)(void *t);

	/* ABI 0.2: the pool has a new secret (secret_rotation), valid during the call; that of listen(), or of the last
	 * call, becomes the one before.  Only with listen().  Optional. */
	void (*secret)(void *inst, struct lc_str);

	/* ABI 0.2: is all there that a listener with this transport needs?  When a configuration is checked, by error()
	 * of the table "config", or below 0; beside lc_module.check, which is also asked for other listeners. Optional.
	 */
	int (*check)(const void *conf, struct lc_err *);
};

/* Host -> transport, table "transport" version 1. */
struct lc_transport_api {
	uint32_t size, pad;
	/* Raw bytes to be sent, copied.  From input(), output() and shutdown().  0; -ENOSPC: over LC_TR_RAW_MAX;
	 * -ENOMEM. */
	int (*raw)(struct lc_conn *, const void *, size_t n);
	/* From input(): plain bytes may flow.  alpn: the protocol that was agreed on, by one of the listener's names;
	 * {NULL, 0}: none, it is chosen as on a plain connection. */
	void (*established)(struct lc_conn *, struct lc_str alpn);
	/* Until established() or LC_TR_ASIDE: in so many milliseconds call timeout(); < 0 cancels. */
	void (*timer)(struct lc_conn *, int64_t ms);

	/* Printable address without port of who has connected, "" for a UNIX socket; valid during the call. */
	struct lc_str (*peer)(struct lc_conn *);
	/* From header() and input(): who the client is, and which address it meant; printable, {"", 0}: a UNIX socket
	 * (peer only).  Copied.  0, -EINVAL: longer than an address can be, -ENOMEM. */
	int (*set_peer)(struct lc_conn *, struct lc_str address, uint16_t port);
	int (*set_local)(struct lc_conn *, struct lc_str address, uint16_t port);
	/* From header() and input(): something that requests of this connection carry (lc_req.facts).  Copied.  0,
	 * -ENOSPC: over LC_TR_FACTS or LC_TR_FACTS_SIZE, -ENOMEM. */
	int (*fact)(struct lc_conn *, struct lc_str name, struct lc_str value);
	void (*log)(struct lc_conn *, int level, const char *fmt, ...) LC_PRINTF(3, 4); /* names the peer */
};

#endif
