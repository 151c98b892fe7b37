/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/http1/http1.h - what the files of this module share: the session and its states.
 *
 * One exchange at a time.  recv() consumes a request up to its last byte and then nothing until the response is out,
 * so pipelined responses, refusals among them, leave in order without a queue.
 *
 *	IDLE --first byte--> HEAD --head complete--> BODY --last byte--> WAIT --response out--> IDLE
 *
 * A request without a body passes BODY without stopping.  A response that is out while the phase is BODY leaves the
 *phase as it is with `st` NULL: the rest of the body is discarded, up to H1_DISCARD bytes.  CLOSED: everything that
 * still comes is thrown away.
 *
 * A request whose offer of another protocol is taken (upgrade.c) never reaches a worker: WAIT, until the answer is out
 *and the core takes the connection away.
 *
 * Memory: the session, and while an exchange runs its struct h1_x and the request in the stream's arena.  Only a head
 *(or a trailer section) that did not come in one piece has a buffer, `part`, and only rendered output that did not fit
 *has one, `spill`.
 */
#ifndef LC_PROTO_HTTP1_H
#define LC_PROTO_HTTP1_H

#include <licorne/config.h>
#include <licorne/proto.h>
#include <llhttp.h>

#include "http1/checks.h"
#include "semantics/semantics.h"
#include "semantics/trust.h"

#define H1_FIELDS_MAX 1000u      /* ceiling of limit_request_fields: the spans are on the stack */
#define H1_DISCARD (64u << 10)   /* unread body that is read on behalf of the next request */
#define H1_QUEUE_LOW (32u << 10) /* a paused body is read on from here */
#define H1_STEP 2048u            /* bytes added to a partial head at a time */
#define H1_BLANK_MAX 4u          /* empty lines before a request line (RFC 9112 2.2) */
#define H1_CHUNK_EXT_MAX 1024u   /* extension bytes of one chunk */
#define H1_FRAMING (16u << 10)   /* chunk framing beyond what the chunks are worth */
#define H1_DRAIN_MS 300          /* a request that is on its way when draining starts is still answered */

struct h1_conf {
	uint64_t request_line, fields, field_size, head_size, body_size;
	uint64_t head_timeout, body_timeout, send_timeout, keepalive_timeout;
	uint64_t keepalive_requests;
	uint8_t server_header, fold;
	struct lc_trust_conf trust;
};

/* Where a field lies, relative to the first byte of the head (or trailer section). */
struct h1_span {
	uint32_t name, value, value_n;
	uint16_t name_n, token;
};

/* h1_scratch.last */
#define H1_LAST_NONE 0
#define H1_LAST_NAME 1
#define H1_LAST_VALUE 2

/* What the parser has found of a head: on recv()'s stack, or in `part`. */
struct h1_scratch {
	uint32_t n, url, url_n, version;
	uint8_t version_n, last;
	struct h1_span *v; /* conf->fields of them */
};

struct h1_part {
	uint32_t len, cap;
	char *buf;
	struct h1_scratch sc;
	struct h1_span v[];
};

/* End of what was noted last. */
static inline uint32_t
h1_spans_end(const struct h1_scratch *sc)
{
	if (sc->n == 0)
		return sc->version + sc->version_n;
	const struct h1_span *f = &sc->v[sc->n - 1];
	return sc->last == H1_LAST_VALUE ? f->value + f->value_n : f->name + f->name_n;
}

/* h1_x.out: how the response is framed */
#define H1_OUT_HEAD 0 /* final head not rendered yet */
#define H1_OUT_LENGTH 1
#define H1_OUT_CHUNKED 2
#define H1_OUT_CLOSE 3 /* the end of the connection is the end of the body */
#define H1_OUT_NONE 4  /* no content */

struct h1_info { /* a 1xx head that waits */
	const struct lc_head *head;
	struct h1_info *next;
};

/* The connection goes to another protocol behind this request; in the stream's arena. */
struct h1_upgrade {
	const struct lc_proto *proto;
	struct lc_str token;
	struct lc_head head; /* what the other protocol adds to the answer */
};

/* The current exchange; in the stream's arena. */
struct h1_x {
	const struct lc_head *final; /* the core's own copy: it lives as long as the stream */
	const struct h1_memo *memo;  /* what was kept of it, see respond.c */
	struct h1_info *info;
	const struct lc_field *trailers;
	const struct h1_upgrade *upgrade;
	uint64_t out_left;   /* LENGTH: body bytes still to come */
	uint64_t chunk_left; /* CHUNKED: bytes of the announced chunk still to come */
	uint64_t queued;     /* request body handed to the core and not consumed */
	uint32_t ntrailers;
	uint8_t out, crlf; /* crlf: a chunk's data is out, its CRLF is not */
};

/* h1.phase */
#define H1_IDLE 0
#define H1_HEAD 1
#define H1_BODY 2
#define H1_WAIT 3
#define H1_CLOSED 4

struct h1 {
	llhttp_t p;
	struct lc_conn *c;
	const struct h1_conf *conf;
	const struct lc_trust *trust; /* NULL: nobody is believed */
	struct lc_stream *st;         /* NULL: no exchange, or done with it */
	struct h1_x *x;               /* valid while st is */
	struct h1_part *part;
	struct h1_scratch *sc; /* while parsing */
	const char *base;      /* first byte of what is being collected; NULL: nothing */
	char *spill;           /* malloc()ed output, spill_n bytes, the first spill_off are out */
	uint32_t spill_n, spill_off;
	uint64_t in_total; /* body bytes of this message so far */
	uint64_t discarded;
	uint32_t requests;     /* begun on this connection */
	uint32_t framing, ext; /* chunk framing not earned; extension bytes of this chunk */
	uint16_t refuse;       /* status of the refusal to send */
	uint8_t phase, minor, blank;
	uint8_t close_how; /* LC_CLOSE_* + 1, once the output is put out */
	/* of the message in hand */
	uint8_t keep;        /* the connection may go on after it */
	uint8_t client_keep; /* the client expects that */
	uint8_t is_head, expect, chunked, no_body;
	uint8_t last_chunk; /* its size line is over: what follows is the trailer section */
	/* of the connection */
	uint8_t trusted; /* lc_trust_apply()'s */
	uint8_t timed;   /* HEAD timer runs */
	uint8_t paused, drain, eof;
};
_Static_assert(sizeof(struct h1) <= 256, "an idle connection must stay small");

extern const struct lc_conn_api *h1_api;
extern const llhttp_settings_t h1_settings;

/* module.c */
void h1_arm(struct h1 *, uint32_t which, uint64_t ms); /* 0: cancel */
void h1_close(struct h1 *, int how);                   /* once all output is put out */
/* A refusal of the request in hand: log line, stream told, complete response, connection closed.  Returns HPE_USER. */
int h1_refuse(struct h1 *, enum h1_check) __attribute__((cold));
/* The same, where the request is not to blame. */
int h1_fail(struct h1 *, uint32_t status, const char *why) __attribute__((cold));
/* Our own response, to a request that is told of already; begun: another one has, and ends as it is. */
void h1_answer(struct h1 *, uint32_t status, int begun) __attribute__((cold));
void h1_part_free(struct h1 *);
/* An idle state is reached: next request, or none. */
void h1_idle(struct h1 *);

/* recv.c */
int64_t h1_recv(void *sess, const uint8_t *, size_t n);
int h1_over_limit(struct h1 *, size_t len, int at_error); /* 0, or refused */

/* request.c */
int h1_request(struct h1 *); /* head complete: 0 or HPE_USER */
int h1_trailers(struct h1 *, const struct lc_field **ret, uint32_t *ret_n);

/* upgrade.c */
/* Which protocol the request hands the connection to; NULL: none, it is answered here. */
const struct h1_upgrade *h1_upgrade(struct h1 *, const struct lc_req *, const struct lc_field *offer);
/* Put out the answer, and when it is out hand over.  0: call again; 1: done; below 0: broken. */
int h1_upgrade_out(struct h1 *, struct lc_outv *);

/* respond.c */
char *h1_put_status(char *, uint32_t status, struct lc_str reason);
int h1_put_out(struct h1 *, struct lc_outv *, const char *, size_t n);
int h1_head(void *sess, void *ps, const struct lc_head *);
void h1_out_ready(void *sess, void *ps);
int h1_out_trailers(void *sess, void *ps, const struct lc_field *, uint32_t n);
int h1_pull(void *sess, struct lc_outv *);
void h1_reset(void *sess, void *ps, uint32_t reason);

#endif
