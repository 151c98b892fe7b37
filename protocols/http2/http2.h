/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/http2/http2.h - what the files of this module share: the session and its streams.
 *
 * nghttp2 keeps the state of RFC 9113; this module feeds it whole reads, turns its header blocks into requests and
 * lets it pull frames into the output vector until that is full.  Two objects stand for one exchange: nghttp2's stream
 * and the core's.  struct h2s joins them, and lives until both have let go.
 *
 *	ng  nghttp2 knows the stream        until on_stream_close()
 *	st  the core knows the stream       until detach()
 *
 * Bounds: streams at once (max_concurrent_streams), header bytes and fields per request, buffered request bodies per
 * stream (its window) and per connection (connection_window), control frames by what they are worth (limits.c).
 */
#ifndef LC_PROTO_HTTP2_H
#define LC_PROTO_HTTP2_H

#include <licorne/config.h>
#include <licorne/proto.h>
#include <nghttp2/nghttp2.h>

#include "semantics/semantics.h"
#include "semantics/trust.h"

struct h2_conf {
	uint64_t request_line, fields, field_size, head_size, body_size;
	uint64_t head_timeout, body_timeout, send_timeout, keepalive_timeout, ping_interval;
	uint64_t max_streams, stream_window, conn_window, max_requests, abuse;
	uint8_t server_header, upgrade;
	struct lc_trust_conf trust;
};

#define H2_RESETS 32u /* streams that we have reset and still know */

/* h2s.in */
#define H2_IN_HEAD 0 /* header block comes */
#define H2_IN_BODY 1
#define H2_IN_TRAILERS 2
#define H2_IN_DONE 3

/* One exchange. */
struct h2s {
	struct h2 *s;
	struct lc_stream *st;    /* NULL: the core has it no more */
	struct h2s *prev, *next; /* of the session's */
	struct lc_req *rq;
	struct lc_field *fields; /* in the arena, `cap` of them */
	char *room, *room_end;   /* rest of the arena block that values are copied to */
	uint64_t in_total;       /* body bytes so far */
	uint64_t queued;         /* of them given to the core and not consumed */
	uint64_t out_left;       /* body bytes that may still go out, UINT64_MAX: as many as there are */
	const struct lc_field *trailers;
	const char *text; /* of a refusal, static: what is left of the body instead of the queue's */
	uint32_t text_n;
	uint32_t nfields, cap, ntrailers, ncookies;
	int32_t id;
	uint16_t refuse; /* status of the answer that the header block has earned */
	uint8_t in;
	uint8_t ng;       /* nghttp2 knows it */
	uint8_t core;     /* detach() is still to come */
	uint8_t headed;   /* the worker has heard of it */
	uint8_t answered; /* final head submitted */
	uint8_t deferred; /* the data provider waits for resume */
	uint8_t ending;   /* END_STREAM is put out, bytes of its frame may be owed */
	uint8_t ended;    /* the response is out */
	uint8_t is_head;
	uint8_t expect;
	uint8_t has_host, has_length, has_priority;
	uint8_t promised; /* trailers come, in place of an end that the length would show */
	uint8_t own;      /* the answer is ours: h2_answer() */
	uint8_t rst;      /* a RST_STREAM of ours is on its way: nghttp2 sends nothing else of it any more */
	uint8_t tiny;     /* the next DATA frame is as small as it is because the peer's window is */
	uint32_t stalled; /* ticks without progress of the body */
	int64_t length;   /* content-length, -1: none */
	struct lc_str method, scheme, authority, path, host, cookie;
};

struct h2 {
	nghttp2_session *ng;
	struct lc_conn *c;
	const struct h2_conf *conf;
	struct h2s *all;
	const struct lc_trust *trust;
	/* output that nghttp2 has given and the vector had no room for */
	const uint8_t *pend;
	uint8_t *kept; /* between two calls of pull(): it, copied */
	size_t pend_n;
	/* a DATA frame that counts as sent: `hd_n` bytes of its header, if the vector had no room for them, and `owed`
	 * bytes of owed_of are to follow, or zeros when it is gone */
	uint8_t hd[9], hd_n;
	struct h2s *owed_of;
	uint64_t owed;
	struct lc_outv *v; /* during pull() */
	uint8_t full;
	uint64_t queued;      /* body bytes of all streams with the core */
	uint64_t held;        /* of them not yet given back to the connection's window */
	uint64_t abuse;       /* see limits.c */
	uint64_t brought;     /* body bytes that have not paid into it yet */
	struct h2s *block_of; /* whose header block is in hand, NULL: nobody's */
	uint64_t block_bytes; /* of the header block in hand, uncompressed */
	uint64_t requests;
	uint64_t idle_ms, idle_step; /* without a stream; and when the timer fires, that much more */
	uint32_t nstreams;           /* open for the core */
	/* What is under way for a stream that we have reset is no mistake of the peer's (RFC 9113 5.1). */
	int32_t resets[H2_RESETS], last_id, forgotten; /* forgotten: the highest that made room for another */
	uint32_t nresets;
	uint8_t drain;     /* 0, or 1 + the phase that was sent */
	uint8_t own_drain; /* keepalive_requests: the second step is ours, too */
	uint8_t leaving;   /* the peer has sent GOAWAY */
	uint8_t dead;
	uint8_t broken; /* nghttp2 lacks memory: the connection cannot go on */
	uint8_t ticking, pinged, ponged, trusted;
	uint8_t block_frames; /* frames of the header block in hand without bytes */
	uint8_t closing;
};

extern const struct lc_conn_api *h2_api;

/* module.c */
int h2_open(struct lc_conn *, const void *conf, void **ret);
void h2_close(void *sess);
void h2_arm_idle(struct h2 *);
void h2_go_away(struct h2 *, uint32_t error, const char *why); /* an error of the peer: log line, GOAWAY, close */
void h2_wants(struct h2 *); /* after anything that may have given nghttp2 something to say */
void h2_tick_on(struct h2 *);
int h2_over(const struct h2 *);            /* nothing more is to be read */
void h2_must(struct h2 *, int rv);         /* an outcome of nghttp2's: what it cannot do ends the connection */
void h2_rst(struct h2s *, uint32_t error); /* once; nothing that was submitted and not sent goes out any more */

/* stream.c */
struct h2s *h2s_new(struct h2 *, int32_t id);
void h2s_free_if_done(struct h2s *);
void h2s_ended(struct h2s *); /* the response is out completely */
void h2s_part(struct h2s *);  /* the core is not to be spoken to about it any more */
void h2_credit(struct h2s *, size_t n);
void h2_detach(void *sess, void *ps);
void h2_consumed(void *sess, void *ps, size_t n);

/* request.c */
int h2_begin(struct h2 *, int32_t id);
int h2_header_size(struct h2 *, size_t n);
void h2_header(struct h2s *, const uint8_t *name, size_t name_n, const uint8_t *value, size_t value_n);
void h2_headers_end(struct h2s *, int end_stream);
void h2_data(struct h2s *, const uint8_t *, size_t n);
void h2_end(struct h2s *);

/* respond.c */
int h2_head(void *sess, void *ps, const struct lc_head *);
void h2_out_ready(void *sess, void *ps);
int h2_out_trailers(void *sess, void *ps, const struct lc_field *, uint32_t n);
void h2_reset(void *sess, void *ps, uint32_t reason);
int h2_pull(void *sess, struct lc_outv *);
int h2_send_data(struct h2 *, struct h2s *, const uint8_t *framehd, size_t n);
/* An answer of our own; the stream is taken from the worker first.  `why` is for the log. */
void h2_answer(struct h2s *, uint32_t status, const char *why);

/* upgrade.c */
int h2_upgrade_check(const void *conf, struct lc_stream *, const struct lc_req *, struct lc_head *answer);
int h2_upgrade_open(struct lc_conn *, const void *conf, const struct lc_req *, void **ret);

/* limits.c: what a peer costs against what it is worth.  1: too much, the connection is going away. */
int h2_charge(struct h2 *, uint32_t cost, const char *what);
void h2_worth(struct h2 *, uint32_t n);
void h2_brought(struct h2 *, size_t n); /* body bytes, in whatever pieces */

/* mem.c */
nghttp2_mem *h2_mem(void);
void h2_mem_opening(int on); /* the first large block from here on is the frame buffer of a session */
void h2_mem_spoil(void);

#endif
