/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c - the http1 module: directives, the connection's life, timers.
 *
 * Timers are armed and hardly ever cancelled: one that fires in a phase that it does not belong to is ignored, so an
 * exchange on a warm connection costs one timer call.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <licorne/module.h>

#include "http1/http1.h"

const struct lc_conn_api *h1_api;
static const struct lc_config_api *h1_config;

/* ---- directives ---- */

static const struct lc_range range_line = {64, 1u << 20};
static const struct lc_range range_fields = {1, H1_FIELDS_MAX};
static const struct lc_range range_field = {64, 65535};
static const struct lc_range range_head = {256,
					   512u << 10}; /* with its fields it must fit into a stream's arena, 1 MiB */

#define WHERE (LC_C_MAIN | LC_C_POOL | LC_C_LISTEN)

static const struct lc_directive rows[] = {
    LC_SIZE(struct h1_conf, request_line, "limit_request_line", WHERE, "8k", &range_line, "longest request line",
	    "Most bytes in a request line: method, target and version. A longer one is answered with 414."),
    LC_UINT(struct h1_conf, fields, "limit_request_fields", WHERE, "100", &range_fields,
	    "most fields in a request head",
	    "How many fields a request head may have, and a trailer section. One more is answered with 431."),
    LC_SIZE(struct h1_conf, field_size, "limit_request_field_size", WHERE, "8k", &range_field,
	    "longest field of a request",
	    "Most bytes in one field: its name, the colon and its value. A longer one is answered with 431."),
    LC_SIZE(struct h1_conf, head_size, "limit_request_head", WHERE, "64k", &range_head, "most bytes in a request head",
	    "Most bytes in a request head altogether, request line and all fields. A longer one is answered with 431. "
	    "A head that arrives in pieces is kept in memory up to this size."),
    LC_SIZE(struct h1_conf, body_size, "limit_request_body", WHERE, "0", NULL, "most bytes in a request body",
	    "A body that is declared larger, or turns out to be, is answered with 413. `0`: no limit. Bodies are not "
	    "held in "
	    "memory: the application reads them as they come, and sets the pace."),
    LC_MSEC(struct h1_conf, head_timeout, "head_timeout", WHERE, "30s", NULL, "time for a request head",
	    "How long a request head may take from its first byte to its last, and a new connection to its first byte. "
	    "Answered with 408 when a part has come; `0`: no limit."),
    LC_MSEC(struct h1_conf, body_timeout, "body_timeout", WHERE, "60s", NULL, "time without progress in a request body",
	    "How long a request body may bring no byte while licorne waits for it. Answered with 408; `0`: no limit. "
	    "Time in which the application does not read does not count."),
    LC_MSEC(struct h1_conf, send_timeout, "send_timeout", WHERE, "60s", NULL, "time without progress in a response",
	    "How long output may wait without the client taking a byte. Then the connection is closed; `0`: no limit."),
    LC_MSEC(struct h1_conf, keepalive_timeout, "keepalive_timeout", WHERE, "75s", NULL, "time between two requests",
	    "How long a connection may stay idle after a response. `0`: no limit."),
    LC_UINT(struct h1_conf, keepalive_requests, "keepalive_requests", WHERE, "0", NULL, "requests per connection",
	    "The response to this request on a connection closes it. `0`: no limit; `1` turns keep-alive off."),
    LC_FLAG(struct h1_conf, server_header, "server_header", WHERE, "on", "send a Server field",
	    "Whether responses say `Server: licorne`, unless the application sets the field itself."),
    LC_FLAG(
	struct h1_conf, fold, "permit_obsolete_folding", WHERE, "off", "accept folded field lines",
	"Whether a field of a request may go on in a line that begins with white space (RFC 9112 5.2), as client "
	"certificates do that nginx passes on by `$ssl_client_cert`. Off, it is answered with 400. On, each fold "
	"becomes a space; fields that framing, routing or the connection depend on may not be folded all the same."),
    LC_TRUST_ROWS(struct h1_conf, trust, WHERE),
};

static const struct {
	uint16_t status;
	const char *why;
} checks[] = {
#define X(id, name, status, text) {status, text},
    H1_CHECKS(X)
#undef X
};

/* ---- shared ---- */

void
h1_arm(struct h1 *s, uint32_t which, uint64_t ms)
{
	h1_api->timer(s->c, which, ms ? (int64_t)(ms > INT64_MAX ? INT64_MAX : ms) : -1);
}

void
h1_part_free(struct h1 *s)
{
	if (s->part) {
		free(s->part->buf);
		free(s->part);
		s->part = NULL;
	}
}

/* Not while llhttp walks over `part`: recv() frees it. */
void
h1_close(struct h1 *s, int how)
{
	s->phase = H1_CLOSED;
	if (!s->sc)
		h1_part_free(s);
	h1_api->conn_close(s->c, how);
}

/* Between two requests. */
void
h1_idle(struct h1 *s)
{
	s->phase = H1_IDLE;
	s->is_head = 0;
	h1_arm(s, LC_TM_IDLE, s->drain ? H1_DRAIN_MS : s->conf->keepalive_timeout);
}

/* For the access log: the request line as far as it was understood. */
static void
tell_refusal(struct h1 *s, uint32_t status)
{
	const struct h1_scratch *sc = s->sc ? s->sc : s->part ? &s->part->sc : NULL;
	const char *base = s->base ? s->base : s->part ? s->part->buf : NULL;
	struct lc_req known = {.size = sizeof(known)};

	if (s->phase == H1_HEAD && sc && base && sc->url >= 2 && sc->url_n) {
		known.method = lc_value_trim(base, sc->url);
		known.target = (struct lc_str){base + sc->url, sc->url_n};
		if (sc->version_n == 3 && sc->version >= sc->url + sc->url_n + 5)
			known.protocol = (struct lc_str){base + sc->version - 5, 8};
	}
	/* a stream that the worker has not heard of leaves no line of its own */
	h1_api->refused(s->c, s->phase == H1_HEAD ? NULL : s->st, status, &known);
}

/*
 * Behind the line of an HTTP/0.9 request llhttp goes on as if there were fields.  What is wrong with them would depend
 * on how much of them came with the line: the line alone is answered.
 */
static enum h1_check
http09_check(const struct h1 *s, enum h1_check check)
{
	const struct h1_scratch *sc = s->sc;

	if (s->phase != H1_HEAD || !sc || sc->version_n || s->p.http_major != 0 || s->p.http_minor != 9)
		return check;
	size_t end = sc->url + sc->url_n;
	return end + (s->base[end] == '\r' ? 2 : 1) > s->conf->request_line ? H1_LINE_LENGTH : H1_VERSION_MISSING;
}

int
h1_refuse(struct h1 *s, enum h1_check check)
{
	if (h1_on(H1_VERSION_MISSING))
		check = http09_check(s, check);
	return h1_fail(s, checks[check].status, checks[check].why);
}

int
h1_fail(struct h1 *s, uint32_t status, const char *why)
{
	if (s->phase == H1_CLOSED)
		return HPE_USER;
	int begun = 0;
	h1_api->log(s->c, LC_LOG_INFO, "request refused with %u: %s", status, why);
	if (s->phase == H1_HEAD)
		s->is_head = s->p.method == HTTP_HEAD; /* llhttp knows it by now, or it is something else */
	if (s->st) {
		begun = s->x && s->x->out != H1_OUT_HEAD;
		if (!begun)
			tell_refusal(s, status);
		h1_api->stream_abort(s->st, status == 408   ? LC_RSN_TIMEOUT
					    : status == 413 ? LC_RSN_LIMIT
					    : status >= 500 ? LC_RSN_APP_ERROR
							    : LC_RSN_PROTO_ERROR);
		s->st = NULL;
		s->x = NULL;
	} else if (s->phase == H1_BODY) {
		begun = 1; /* being discarded: this request has had its response */
	} else {
		tell_refusal(s, status);
	}
	h1_answer(s, status, begun);
	return HPE_USER;
}

void
h1_answer(struct h1 *s, uint32_t status, int begun)
{
	s->keep = 0;
	s->phase = H1_CLOSED;
	if (!s->sc)
		h1_part_free(s);
	if (s->paused) {
		s->paused = 0;
		h1_api->read_pause(s->c, 0); /* so that what comes is read and thrown away */
	}
	if (begun)
		s->close_how = LC_CLOSE_LINGER + 1; /* after what is rendered already */
	else
		s->refuse = (uint16_t)status;
	h1_api->want_write(s->c);
}

/* ---- the connection ---- */

static int
h1_open(struct lc_conn *c, const void *conf, void **ret)
{
	struct h1 *s = h1_api->sess_alloc(c, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->c = c;
	s->conf = conf;
	if (lc_trust_get(&s->conf->trust, &s->trust) < 0)
		return -ENOMEM;
	llhttp_init(&s->p, HTTP_REQUEST, &h1_settings);
	s->p.data = s;
	/* These three are decided in request.c, for all that llhttp lets through and the same however the input is cut.
	 */
	llhttp_set_lenient_version(&s->p, 1);
	llhttp_set_lenient_transfer_encoding(&s->p, 1);
	llhttp_set_lenient_chunked_length(&s->p, 1);
	if (s->conf->fold)
		llhttp_set_lenient_headers(&s->p, 1);
	if (s->conf->send_timeout)
		h1_arm(s, LC_TM_WRITE, s->conf->send_timeout);
	h1_arm(s, LC_TM_HEAD, s->conf->head_timeout);
	*ret = s;
	return 0;
}

static void
h1_free(void *sess)
{
	struct h1 *s = sess;

	h1_part_free(s);
	free(s->spill);
	s->spill = NULL;
}

static int
h1_eof(void *sess)
{
	struct h1 *s = sess;

	switch (s->phase) {
	case H1_WAIT: /* a client may close its side and wait for the answer */
		s->eof = 1;
		return LC_OK;
	case H1_BODY:
		if (s->st) {
			h1_api->log(s->c, LC_LOG_INFO,
				    "the client closed the connection in the middle of a request body");
			h1_api->stream_abort(s->st, LC_RSN_PEER_CLOSED);
			s->st = NULL;
			s->x = NULL;
		}
		s->close_how = LC_CLOSE_FLUSH + 1;
		s->phase = H1_CLOSED;
		h1_api->want_write(s->c);
		return LC_OK;
	case H1_CLOSED:
		return LC_OK;
	default:
		h1_close(s, LC_CLOSE_FLUSH);
		return LC_OK;
	}
}

static void
h1_consumed(void *sess, void *ps, size_t n)
{
	struct h1 *s = sess;

	(void)ps;
	if (!s->st)
		return;
	s->x->queued -= n < s->x->queued ? n : s->x->queued;
	if (s->paused && s->x->queued <= H1_QUEUE_LOW) {
		s->paused = 0;
		h1_api->read_pause(s->c, 0);
		if (s->phase == H1_BODY)
			h1_arm(s, LC_TM_BODY, s->conf->body_timeout);
	}
}

static void
h1_detach(void *sess, void *ps)
{
	struct h1 *s = sess;

	(void)ps;
	if (s->st) { /* the core's doing: the connection is going down */
		s->st = NULL;
		s->x = NULL;
		s->phase = H1_CLOSED;
	}
	/* Nothing more will come but what the core may still hold: that has its turn before the timer. */
	if (s->eof && s->phase == H1_IDLE)
		h1_arm(s, LC_TM_IDLE, 1);
}

static void
h1_drain(void *sess, uint32_t phase)
{
	struct h1 *s = sess;

	s->drain = 1;
	if (s->phase != H1_IDLE || s->st)
		return; /* the next response says so */
	/* A request may be on its way: it is answered when it comes soon. */
	if (phase == LC_DRAIN_NOTICE)
		h1_arm(s, LC_TM_IDLE, H1_DRAIN_MS);
	else
		h1_close(s, LC_CLOSE_LINGER);
}

static int
h1_timeout(void *sess, uint32_t which)
{
	struct h1 *s = sess;

	switch (which) {
	case LC_TM_HEAD:
		if (s->phase == H1_HEAD) {
			if (h1_on(H1_HEAD_TIMEOUT))
				h1_refuse(s, H1_HEAD_TIMEOUT);
			return LC_OK;
		}
		if (s->requests && !s->blank)
			return LC_OK; /* of a head that is complete; only IDLE limits the time since */
		__attribute__((fallthrough));
	case LC_TM_IDLE:
		if (s->phase == H1_IDLE)
			h1_close(s, s->drain ? LC_CLOSE_LINGER : LC_CLOSE_FLUSH);
		return LC_OK;
	case LC_TM_BODY:
		/* nobody has told this client to go on */
		if (s->expect && s->in_total == 0 && s->st)
			return LC_OK;
		if (s->phase == H1_BODY && !s->paused && h1_on(H1_BODY_TIMEOUT))
			h1_refuse(s, H1_BODY_TIMEOUT);
		return LC_OK;
	case LC_TM_WRITE:
		h1_api->log(s->c, LC_LOG_INFO, "the client took no byte of the response within send_timeout");
		if (s->st) {
			h1_api->stream_abort(s->st, LC_RSN_TIMEOUT);
			s->st = NULL;
			s->x = NULL;
		}
		s->phase = H1_CLOSED;
		return LC_CONN_DEAD;
	default:
		return LC_OK;
	}
}

static const char *const alpn[] = {"http/1.1", NULL};

static const struct lc_proto proto = {
    .size = sizeof(struct lc_proto),
    .flags = LC_P_FALLBACK,
    .name = "http1",
    .alpn = alpn,
    .open = h1_open,
    .close = h1_free,
    .recv = h1_recv,
    .eof = h1_eof,
    .pull = h1_pull,
    .head = h1_head,
    .out_ready = h1_out_ready,
    .trailers = h1_out_trailers,
    .consumed = h1_consumed,
    .reset = h1_reset,
    .detach = h1_detach,
    .drain = h1_drain,
    .timeout = h1_timeout,
};

static int
h1_check(const void *conf, struct lc_err *err)
{
	return lc_trust_check(&((const struct h1_conf *)conf)->trust, h1_config, err);
}

static int
h1_load(const struct lc_host *host)
{
	h1_api = host->get("conn", 1, sizeof(*h1_api));
	h1_config = host->get("config", 1, sizeof(*h1_config));
	return h1_api && h1_config ? 0 : -ENOSYS;
}

static const struct lc_iface ifaces[] = {{.kind = LC_KIND_PROTOCOL, .version = LC_PROTO_VERSION, .ops = &proto}};

static const struct lc_module module = {
    LC_MODULE_HEAD("http1", "0.1.0"),
    .summary = "HTTP/1.1 and HTTP/1.0 (RFC 9112)",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct h1_conf),
    .check = h1_check,
    .load = h1_load,
};
LC_MODULE_ENTRY(module)
