/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c - the http2 module: directives, nghttp2's callbacks, the connection's life and timers.
 *
 * nghttp2's callbacks run inside recv() and pull(); none calls the core's delivery, so nothing here is re-entered.
 * A callback that has had enough asks nghttp2 for a GOAWAY and returns failure, which ends recv(); what was queued is
 * still sent.
 *
 * Time: the core's one timer is IDLE while no stream is open, and a tick of TICK_MS while some are.  A stream that
 * waits for its peer (for body bytes, for window) counts ticks, and is reset when they make up its timeout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <licorne/module.h>

#include "http2/http2.h"

#define TICK_MS 1000u
#define DRAIN_MS 1000u /* from the notice to the final GOAWAY of a connection that has had its requests */
#define SMALL_WINDOW 64u
#define FRAME_MAX (16u << 10)
#define QUEUE_MAX 1000u
#define SEND_HEAD_MAX (2u << 20) /* more than fits into a stream's arena */

/* Newer than 1.52, and patched into it by distributions.  It counts each piece of a frame that comes in pieces, so the
 * default of 8 would end clients that are merely slow; on_begin_frame() counts frames. */
extern void nghttp2_option_set_max_continuations(nghttp2_option *, size_t) __attribute__((weak));
#define CONTINUATIONS_MAX 1000u

const struct lc_conn_api *h2_api;
static const struct lc_config_api *h2_config;
static nghttp2_session_callbacks *callbacks;
static nghttp2_option *option;

/* ---- directives ---- */

static const struct lc_range range_line = {64, 1u << 20};
static const struct lc_range range_fields = {1, 1000};
static const struct lc_range range_field = {64, 65535};
static const struct lc_range range_head = {256, 512u << 10};
static const struct lc_range range_streams = {1, 10000};
static const struct lc_range range_window = {65535, 1u << 30};

#define WHERE (LC_C_MAIN | LC_C_POOL | LC_C_LISTEN)

static const struct lc_directive rows[] = {
    LC_SIZE(struct h2_conf, request_line, "limit_request_line", WHERE, "8k", &range_line, "longest request target",
	    "Most bytes in `:path`. A longer one is answered with 414."),
    LC_UINT(struct h2_conf, fields, "limit_request_fields", WHERE, "100", &range_fields,
	    "most fields in a request head",
	    "How many fields a request head may have, and a trailer section. One more is answered with 431."),
    LC_SIZE(struct h2_conf, field_size, "limit_request_field_size", WHERE, "8k", &range_field,
	    "longest field of a request",
	    "Most bytes in one field: name and value. A longer one is answered with 431."),
    LC_SIZE(
	struct h2_conf, head_size, "limit_request_head", WHERE, "64k", &range_head, "most bytes in a request head",
	"Most bytes in all fields of a request, uncompressed. More is answered with 431; four times as much ends the "
	"connection."),
    LC_SIZE(struct h2_conf, body_size, "limit_request_body", WHERE, "0", NULL, "most bytes in a request body",
	    "A body that is declared larger, or turns out to be, is answered with 413. `0`: no limit."),
    LC_MSEC(struct h2_conf, head_timeout, "head_timeout", WHERE, "30s", NULL, "time for a request head",
	    "How long a new connection may take to its first request, and a header block from its first frame to its "
	    "last. `0`: no limit."),
    LC_MSEC(struct h2_conf, body_timeout, "body_timeout", WHERE, "60s", NULL, "time without progress in a request body",
	    "How long a request body may bring no byte while its stream has window for it. Answered with 408; `0`: no "
	    "limit."),
    LC_MSEC(
	struct h2_conf, send_timeout, "send_timeout", WHERE, "60s", NULL, "time without progress in a response",
	"How long output may wait without the client taking a byte: on the connection, which is closed then, or for "
	"want of window on a stream, which is reset. `0`: no limit."),
    LC_MSEC(struct h2_conf, keepalive_timeout, "keepalive_timeout", WHERE, "75s", NULL, "time without a request",
	    "How long a connection may stay without an open stream. `0`: no limit."),
    LC_MSEC(
	struct h2_conf, ping_interval, "http2_ping_interval", WHERE, "0", NULL, "ask idle connections for a sign",
	"After this long without an open stream a PING is sent; a client that has not answered when the time is over "
	"once more is gone, and the connection is closed. `0`: never."),
    LC_UINT(struct h2_conf, max_streams, "http2_max_concurrent_streams", WHERE, "128", &range_streams,
	    "requests at once on a connection", "What SETTINGS_MAX_CONCURRENT_STREAMS tells clients."),
    LC_SIZE(struct h2_conf, stream_window, "http2_stream_window", WHERE, "256k", &range_window,
	    "request body bytes that a stream may have under way",
	    "The initial window of each stream. Credit is given again for what the application has read."),
    LC_SIZE(
	struct h2_conf, conn_window, "http2_connection_window", WHERE, "1m", &range_window,
	"request body bytes that a connection may have under way",
	"The window of the connection. The bodies that wait for the application on one connection take at most twice "
	"as much memory."),
    LC_UINT(
	struct h2_conf, max_requests, "keepalive_requests", WHERE, "0", NULL, "requests per connection",
	"After so many requests the client is asked to open another connection (GOAWAY in two steps); those that are "
	"under way are answered. `0`: no limit."),
    LC_UINT(
	struct h2_conf, abuse, "http2_abuse_limit", WHERE, "1000", NULL, "patience with frames that bring nothing",
	"Resets, SETTINGS, PING, PRIORITY, empty frames and tiny window updates are counted, requests and body bytes "
	"are set against them. A connection whose count passes this number is closed with ENHANCE_YOUR_CALM. `0`: no "
	"limit."),
    LC_FLAG(struct h2_conf, upgrade, "http2_upgrade", WHERE, "off", "take Upgrade: h2c",
	    "Whether a request of HTTP/1.1 without a body may change its connection to HTTP/2 in clear text (RFC 7540 "
	    "3.2, which "
	    "RFC 9113 dropped). Clients with prior knowledge need it not."),
    LC_FLAG(struct h2_conf, server_header, "server_header", WHERE, "on", "send a Server field",
	    "Whether responses say `server: licorne`, unless the application sets the field itself."),
    LC_TRUST_ROWS(struct h2_conf, trust, WHERE),
};

/* ---- shared ---- */

static void
arm(struct h2 *s, uint32_t which, uint64_t ms)
{
	h2_api->timer(s->c, which, ms ? (int64_t)(ms > INT64_MAX ? INT64_MAX : ms) : -1);
}

/* After the last GOAWAY, or the peer's, what counts is our list: nghttp2 1.52 keeps counting a stream that
 * PRIORITY_UPDATE announced.
 */
int
h2_over(const struct h2 *s)
{
	return !nghttp2_session_want_read(s->ng) || ((s->drain == 2 || s->leaving) && !s->all);
}

void
h2_wants(struct h2 *s)
{
	if (!s->dead && (nghttp2_session_want_write(s->ng) || h2_over(s)))
		h2_api->want_write(s->c);
}

/* To the next PING, or the end of keepalive_timeout. */
static void
idle_step(struct h2 *s)
{
	uint64_t ms = s->conf->keepalive_timeout, ping = s->conf->ping_interval;

	if (ms)
		ms = ms > s->idle_ms ? ms - s->idle_ms : 1;
	if (ping && (!ms || ping < ms))
		ms = ping;
	s->idle_step = ms;
	arm(s, LC_TM_IDLE, ms);
}

void
h2_arm_idle(struct h2 *s)
{
	s->ticking = 0;
	s->pinged = 0;
	s->idle_ms = 0;
	if (s->own_drain && s->drain == 1) {
		s->ticking = 1;
		arm(s, LC_TM_USER, DRAIN_MS);
		return;
	}
	idle_step(s);
}

void
h2_tick_on(struct h2 *s)
{
	if (s->ticking)
		return;
	s->ticking = 1;
	arm(s, LC_TM_USER, TICK_MS);
}

/* Nothing more is sent or heard of any stream. */
static void
down(struct h2 *s)
{
	s->closing = 1;
	for (struct h2s *x = s->all; x; x = x->next) {
		struct lc_stream *st = x->st;
		if (!st)
			continue;
		h2s_part(x);
		h2_api->stream_abort(st, LC_RSN_PROTO_ERROR);
	}
}

void
h2_must(struct h2 *s, int rv)
{
	if (rv == 0 || s->dead)
		return;
	s->broken = 1;
	h2_api->want_write(s->c);
}

void
h2_rst(struct h2s *x, uint32_t error)
{
	if (x->rst || x->s->dead)
		return;
	x->rst = 1;
	h2_must(x->s, nghttp2_submit_rst_stream(x->s->ng, NGHTTP2_FLAG_NONE, x->id, error));
}

void
h2_go_away(struct h2 *s, uint32_t error, const char *why)
{
	if (s->closing)
		return;
	h2_api->log(s->c, LC_LOG_INFO, "connection closed with %s: %s", nghttp2_http2_strerror(error), why);
	down(s);
	h2_must(s, nghttp2_session_terminate_session(s->ng, error));
	h2_wants(s);
}

/* ---- nghttp2's callbacks ---- */

static struct h2s *
stream_of(nghttp2_session *ng, int32_t id)
{
	return nghttp2_session_get_stream_user_data(ng, id);
}

/* A frame on a stream that is closed.  Is it one that may have been on its way when we reset the stream? */
static int
excused(const struct h2 *s, int32_t id)
{
	if (id <= s->forgotten)
		return 1;
	for (uint32_t k = 0; k < H2_RESETS; k++)
		if (s->resets[k] == id)
			return 1;
	return 0;
}

static void
note_reset(struct h2 *s, int32_t id)
{
	if (excused(s, id))
		return;
	int32_t *at = &s->resets[s->nresets++ % H2_RESETS];

	if (*at > s->forgotten)
		s->forgotten = *at;
	*at = id;
}

static int
on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *s = user;
	struct h2s *x = stream_of(ng, f->hd.stream_id);

	s->block_frames = 0;
	s->block_bytes = 0;
	s->block_of = NULL;
	if (f->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
		s->last_id = f->hd.stream_id;
		if (h2_begin(s, f->hd.stream_id) < 0) {
			h2_must(s, nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, f->hd.stream_id,
							     NGHTTP2_REFUSED_STREAM));
			if (h2_charge(s, 1, "too many requests after the limit was reached"))
				return NGHTTP2_ERR_CALLBACK_FAILURE;
		}
		x = stream_of(ng, f->hd.stream_id);
	} else if (x) { /* trailers: an array of their own, the request's is the worker's */
		x->in = H2_IN_TRAILERS;
		x->fields = NULL;
		x->nfields = x->cap = x->ncookies = 0;
	}
	s->block_of = x;
	return 0;
}

static int
on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t name_n, const uint8_t *value,
	  size_t value_n, uint8_t flags, void *user)
{
	struct h2 *s = user;
	struct h2s *x = s->block_of;

	(void)ng;
	(void)f;
	(void)flags;
	if (s->closing || h2_header_size(s, name_n + value_n))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	s->block_frames = 0;
	if (x && !x->rst)
		h2_header(x, name, name_n, value, value_n);
	return 0;
}

/* A field that nghttp2 would leave out: the message is malformed (RFC 9113 8.1.1). */
static int
on_invalid_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t name_n, const uint8_t *value,
		  size_t value_n, uint8_t flags, void *user)
{
	struct h2 *s = user;
	struct h2s *x = stream_of(ng, f->hd.stream_id);

	(void)name;
	(void)value;
	(void)flags;
	if (x && !x->rst) {
		h2_api->log(s->c, LC_LOG_INFO, "request reset: a header field is not valid");
		h2_rst(x, NGHTTP2_PROTOCOL_ERROR);
	}
	if (h2_header_size(s, name_n + value_n))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return h2_charge(s, 1, "too many malformed requests") ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int
on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *user)
{
	struct h2 *s = user;

	if ((hd->type == NGHTTP2_DATA || hd->type == NGHTTP2_HEADERS) && hd->stream_id <= s->last_id &&
	    (hd->stream_id & 1) && !nghttp2_session_find_stream(ng, hd->stream_id) && !excused(s, hd->stream_id)) {
		h2_go_away(s, NGHTTP2_STREAM_CLOSED, "a frame on a closed stream");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	/* nghttp2 looks into no PRIORITY frame any more, since we have told the client not to send any (RFC 9218 2.1)
	 */
	if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0) { /* RFC 9113 6.3 */
		h2_go_away(s, NGHTTP2_PROTOCOL_ERROR, "PRIORITY on stream 0");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if ((hd->type == NGHTTP2_PRIORITY || hd->type == NGHTTP2_PRIORITY_UPDATE) &&
	    h2_charge(s, 1, "too many PRIORITY frames"))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	/* Frames of a header block that bring no field: a block need never end (CVE-2024-28182 and its kin). */
	if (hd->type == NGHTTP2_CONTINUATION &&
	    (++s->block_frames > 16 || h2_charge(s, hd->length < 64 ? 8 : 1, "too many CONTINUATION frames"))) {
		h2_go_away(s, NGHTTP2_ENHANCE_YOUR_CALM, "a header block in too many frames");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

static int
on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *s = user;
	struct h2s *x = f->hd.stream_id ? stream_of(ng, f->hd.stream_id) : NULL;
	int end = f->hd.flags & NGHTTP2_FLAG_END_STREAM, bad = 0;

	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (x && x->in == H2_IN_HEAD)
			h2_headers_end(x, end);
		else if (x && end)
			h2_end(x);
		break;
	case NGHTTP2_DATA:
		if (f->hd.length == f->data.padlen && !end) /* padding comes back to the window without being read */
			bad = h2_charge(s, 1, "too many empty DATA frames");
		if (x && end)
			h2_end(x);
		break;
	case NGHTTP2_SETTINGS:
		if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
			bad = h2_charge(s, 2, "too many SETTINGS frames");
		break;
	case NGHTTP2_PING:
		if ((f->hd.flags & NGHTTP2_FLAG_ACK) && s->pinged && !s->ponged)
			s->ponged = 1;
		else
			bad = h2_charge(s, 1, "too many PING frames");
		break;
	case NGHTTP2_GOAWAY:
		s->leaving = 1;
		bad = h2_charge(s, 1, "too many GOAWAY frames");
		break;
	case NGHTTP2_RST_STREAM:
		bad = h2_charge(s, 4, "too many streams reset");
		break;
	case NGHTTP2_WINDOW_UPDATE:
		if (x)
			x->stalled = 0;
		if (f->window_update.window_size_increment < (int32_t)SMALL_WINDOW)
			bad = h2_charge(s, 1, "too many tiny window updates");
		break;
	default:
		break;
	}
	return bad ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A frame that has earned its stream a reset by nghttp2: more streams than allowed, malformed messages. */
static int
on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *f, int error, void *user)
{
	struct h2s *x = f->hd.stream_id ? stream_of(ng, f->hd.stream_id) : NULL;

	(void)error;
	if (x)
		x->rst = 1;
	if (f->hd.stream_id) /* more of it may be in the same read, before the RST_STREAM is sent */
		note_reset(user, f->hd.stream_id);
	return h2_charge(user, 4, "too many invalid frames") ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A head that HTTP/2 cannot carry: its stream must not wait for ever. */
static int
on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *f, int error, void *user)
{
	struct h2 *s = user;
	struct h2s *x = f->hd.type == NGHTTP2_HEADERS ? stream_of(ng, f->hd.stream_id) : NULL;

	if (!x || x->rst || error == NGHTTP2_ERR_STREAM_CLOSING || error == NGHTTP2_ERR_SESSION_CLOSING)
		return 0;
	h2_api->log(s->c, LC_LOG_ERROR, "a response head was not sent: %s", nghttp2_strerror(error));
	h2_rst(x, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

static int
on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *user)
{
	struct h2s *x = stream_of(ng, id);

	(void)flags;
	if (x)
		h2_data(x, p, n);
	else
		h2_must(user, nghttp2_session_consume(ng, id, n));
	return 0;
}

static int
on_stream_close(nghttp2_session *ng, int32_t id, uint32_t error, void *user)
{
	struct h2s *x = stream_of(ng, id);

	(void)user;
	if (!x)
		return 0;
	x->ng = 0;
	if (x->s->block_of == x)
		x->s->block_of = NULL;
	nghttp2_session_set_stream_user_data(ng, id, NULL);
	if (x->st && !x->ending) {
		struct lc_stream *st = x->st;
		h2s_part(x);
		h2_api->stream_abort(st, error == NGHTTP2_NO_ERROR || error == NGHTTP2_CANCEL ? LC_RSN_PEER_RESET
											      : LC_RSN_PROTO_ERROR);
	}
	h2s_free_if_done(x);
	return 0;
}

static int
on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
	struct h2 *s = user;
	struct h2s *x;

	if (f->hd.type == NGHTTP2_RST_STREAM)
		note_reset(s, f->hd.stream_id);
	if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR && !s->closing) {
		h2_api->log(s->c, LC_LOG_INFO, "connection closed with %s: %.*s",
			    nghttp2_http2_strerror(f->goaway.error_code), (int)f->goaway.opaque_data_len,
			    (const char *)f->goaway.opaque_data);
		down(s);
	}
	if (!(f->hd.flags & NGHTTP2_FLAG_END_STREAM) || (f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS))
		return 0;
	x = stream_of(ng, f->hd.stream_id);
	if (!x)
		return 0;
	h2_worth(s, 4);
	x->ending = 1;
	if ((!s->owed && !s->hd_n) || s->owed_of != x)
		h2s_ended(x);
	return 0;
}

static int
send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *framehd, size_t n, nghttp2_data_source *src, void *user)
{
	(void)ng;
	(void)f;
	return h2_send_data(user, src->ptr, framehd, n);
}

static ssize_t
data_length(nghttp2_session *ng, uint8_t type, int32_t id, int32_t conn_window, int32_t stream_window,
	    uint32_t max_frame, void *user)
{
	int32_t n = conn_window < stream_window ? conn_window : stream_window;

	/* Whatever the peer would take: the frame buffer is shared, and other streams are to have their turn. */
	if (max_frame > FRAME_MAX)
		max_frame = FRAME_MAX;
	(void)ng;
	(void)type;
	(void)id;
	(void)user;
	return n < (int32_t)max_frame ? n : (int32_t)max_frame;
}

/* ---- the connection ---- */

static int
h2_sniff(const uint8_t *p, size_t n)
{
	static const char magic[] = NGHTTP2_CLIENT_MAGIC;

	if (memcmp(p, magic, n < NGHTTP2_CLIENT_MAGIC_LEN ? n : NGHTTP2_CLIENT_MAGIC_LEN) != 0)
		return LC_SNIFF_NO;
	return n < NGHTTP2_CLIENT_MAGIC_LEN ? LC_SNIFF_MORE : LC_SNIFF_YES;
}

int
h2_open(struct lc_conn *c, const void *conf, void **ret)
{
	struct h2 *s = h2_api->sess_alloc(c, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->c = c;
	s->conf = conf;
	if (lc_trust_get(&s->conf->trust, &s->trust) < 0)
		return -ENOMEM;
	h2_mem_opening(1);
	int rv = nghttp2_session_server_new3(&s->ng, callbacks, s, option, h2_mem());
	h2_mem_opening(0);
	if (rv != 0)
		return -ENOMEM;
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)s->conf->max_streams},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)s->conf->stream_window},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)s->conf->head_size},
	    {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};
	if (nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(settings[0])) != 0 ||
	    nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)s->conf->conn_window) != 0) {
		nghttp2_session_del(s->ng);
		return -ENOMEM;
	}
	if (s->conf->send_timeout)
		arm(s, LC_TM_WRITE, s->conf->send_timeout);
	arm(s, LC_TM_HEAD, s->conf->head_timeout);
	*ret = s;
	h2_api->want_write(c);
	return 0;
}

void
h2_close(void *sess)
{
	struct h2 *s = sess;

	s->dead = 1;
	nghttp2_session_del(s->ng); /* calls nobody back */
	free(s->kept);
	for (struct h2s *x = s->all, *next; x; x = next) {
		next = x->next;
		x->ng = 0;
		h2s_free_if_done(x);
	}
}

static int64_t
h2_recv(void *sess, const uint8_t *p, size_t n)
{
	struct h2 *s = sess;

	if (s->closing) /* what the peer still says is of no interest, but it must be read: LINGER */
		return (int64_t)n;
	ssize_t r = nghttp2_session_mem_recv(s->ng, p, n);
	if (r < 0 &&
	    !s->closing) /* FLOODED and, with a patched 1.52, what its header does not name: too much of something */
		h2_go_away(s,
			   r == NGHTTP2_ERR_NOMEM              ? NGHTTP2_INTERNAL_ERROR
			   : r == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR
							       : NGHTTP2_ENHANCE_YOUR_CALM,
			   nghttp2_strerror((int)r));
	if (s->conf->max_requests && s->requests >= s->conf->max_requests && !s->drain) {
		s->drain = s->own_drain = 1;
		h2_must(s, nghttp2_submit_shutdown_notice(s->ng));
		if (!s->all)
			h2_arm_idle(s);
	}
	/* Answers to frames that cost the peer nothing, and that it does not read. */
	if (!s->closing && nghttp2_session_get_outbound_queue_size(s->ng) > QUEUE_MAX + 4 * s->conf->max_streams) {
		h2_api->log(s->c, LC_LOG_INFO,
			    "connection closed: the client reads none of %zu frames that wait for it",
			    nghttp2_session_get_outbound_queue_size(s->ng));
		down(s);
		h2_api->conn_close(s->c, LC_CLOSE_NOW);
	}
	h2_wants(s);
	return (int64_t)n;
}

static int
h2_eof(void *sess)
{
	struct h2 *s = sess;

	/* No request comes any more; those that were complete are answered, the others end with the connection. */
	for (struct h2s *x = s->all, *next; x; x = next) {
		next = x->next;
		if (x->st && x->in != H2_IN_DONE) {
			struct lc_stream *st = x->st;
			h2s_part(x);
			h2_api->stream_abort(st, LC_RSN_PEER_CLOSED);
		}
	}
	return s->nstreams ? LC_OK : LC_CONN_DEAD;
}

static void
final_goaway(struct h2 *s)
{
	s->drain = 2;
	h2_must(s, nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(s->ng),
					 NGHTTP2_NO_ERROR, NULL, 0));
}

static void
h2_drain(void *sess, uint32_t phase)
{
	struct h2 *s = sess;

	if (s->closing)
		return;
	if (phase == LC_DRAIN_NOTICE && !s->drain) {
		s->drain = 1;
		h2_must(s, nghttp2_submit_shutdown_notice(s->ng));
	} else if (phase == LC_DRAIN_FINAL && s->drain < 2) {
		final_goaway(s);
	}
	h2_wants(s);
}

/* Streams that wait for their peer.  0, or LC_CONN_DEAD. */
static int
tick(struct h2 *s)
{
	const struct h2_conf *conf = s->conf;

	for (struct h2s *x = s->all, *next; x; x = next) {
		next = x->next;
		uint64_t limit = 0;
		if (!x->ng)
			continue;
		if (x->in == H2_IN_HEAD || x->in == H2_IN_TRAILERS)
			limit = conf->head_timeout;
		else if (x->in == H2_IN_BODY && x->st && !x->expect &&
			 nghttp2_session_get_stream_local_window_size(s->ng, x->id) > 0 &&
			 nghttp2_session_get_local_window_size(s->ng) > 0)
			limit = conf->body_timeout;
		else if (x->answered && !x->ended && !x->deferred &&
			 (nghttp2_session_get_stream_remote_window_size(s->ng, x->id) <= 0 ||
			  nghttp2_session_get_remote_window_size(s->ng) <= 0))
			limit = conf->send_timeout;
		if (!limit) {
			x->stalled = 0;
			continue;
		}
		if ((uint64_t)++x->stalled * TICK_MS < limit)
			continue;
		if (x->in == H2_IN_HEAD || x->in == H2_IN_TRAILERS) {
			h2_api->log(s->c, LC_LOG_INFO, "a header block took longer than head_timeout");
			return LC_CONN_DEAD; /* nothing else can come before its end */
		}
		x->stalled = 0;
		if (x->in == H2_IN_BODY && !x->answered) {
			h2_answer(x, 408, "no progress of the body within body_timeout");
		} else {
			h2_api->log(s->c, LC_LOG_INFO, "the client gave no window for a response within send_timeout");
			h2_rst(x, NGHTTP2_CANCEL);
		}
	}
	arm(s, LC_TM_USER, TICK_MS);
	h2_wants(s);
	return LC_OK;
}

static int
h2_timeout(void *sess, uint32_t which)
{
	struct h2 *s = sess;

	switch (which) {
	case LC_TM_HEAD:
		if (s->requests)
			return LC_OK;
		h2_go_away(s, NGHTTP2_NO_ERROR, "no request within head_timeout");
		return LC_OK;
	case LC_TM_USER:
		if (s->drain == 1 && s->own_drain)
			final_goaway(s);
		if (s->all)
			return tick(s);
		h2_arm_idle(s);
		h2_wants(s);
		return LC_OK;
	case LC_TM_IDLE:
		if (s->all || s->closing)
			return LC_OK;
		s->idle_ms += s->idle_step;
		if (s->pinged && !s->ponged) {
			h2_api->log(s->c, LC_LOG_INFO, "a PING was not answered");
			return LC_CONN_DEAD;
		}
		if (!s->conf->keepalive_timeout || s->idle_ms < s->conf->keepalive_timeout) {
			s->pinged = 1;
			s->ponged = 0;
			h2_must(s, nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, NULL));
			idle_step(s);
			h2_wants(s);
			return LC_OK;
		}
		if (s->drain < 2)
			final_goaway(s);
		h2_wants(s);
		return LC_OK;
	case LC_TM_WRITE:
		h2_api->log(s->c, LC_LOG_INFO, "the client took no byte within send_timeout");
		return LC_CONN_DEAD;
	default:
		return LC_OK;
	}
}

/* ---- the module ---- */

static const char *const alpn[] = {"h2", NULL}, *const upgrades[] = {"h2c", NULL};

static const struct lc_proto proto = {
    .size = sizeof(struct lc_proto),
    .flags = LC_P_MULTIPLEX,
    .name = "http2",
    .alpn = alpn,
    .sniff_max = NGHTTP2_CLIENT_MAGIC_LEN,
    .sniff = h2_sniff,
    .open = h2_open,
    .close = h2_close,
    .recv = h2_recv,
    .eof = h2_eof,
    .pull = h2_pull,
    .head = h2_head,
    .out_ready = h2_out_ready,
    .trailers = h2_out_trailers,
    .consumed = h2_consumed,
    .reset = h2_reset,
    .detach = h2_detach,
    .drain = h2_drain,
    .timeout = h2_timeout,
    .upgrade = upgrades,
    .upgrade_check = h2_upgrade_check,
    .upgrade_open = h2_upgrade_open,
};

static int
h2_check(const void *conf, struct lc_err *err)
{
	return lc_trust_check(&((const struct h2_conf *)conf)->trust, h2_config, err);
}

static int
h2_load(const struct lc_host *host)
{
	h2_api = host->get("conn", 1, sizeof(*h2_api));
	h2_config = host->get("config", 1, sizeof(*h2_config));
	if (!h2_api || !h2_config)
		return -ENOSYS;
	if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, data_length);
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
	nghttp2_option_set_max_outbound_ack(option, 100);
	nghttp2_option_set_max_settings(option, 32);
	if (nghttp2_option_set_max_continuations)
		nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX);
	nghttp2_option_set_max_send_header_block_length(option, SEND_HEAD_MAX);
	return 0;
}

static const struct lc_iface ifaces[] = {{.kind = LC_KIND_PROTOCOL, .version = LC_PROTO_VERSION, .ops = &proto}};

static const struct lc_module module = {
    LC_MODULE_HEAD("http2", "0.1.0"),
    .summary = "HTTP/2 (RFC 9113)",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct h2_conf),
    .check = h2_check,
    .load = h2_load,
};
LC_MODULE_ENTRY(module)
