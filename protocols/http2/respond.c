/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * respond.c - responses to frames, frames to the output vector.
 *
 * A head is submitted when the core brings it; what the worker has written by then decides whether END_STREAM goes with
 * it.  Names that have a token are referenced, everything else is copied by nghttp2: a frame can wait longer than the
 * stream's arena lives.  DATA frames are written in place: nghttp2 asks how much there is, gives nine bytes of
 * frame header, and the queue's slices follow by reference.
 *
 * Trap: once a frame header is out its bytes are owed, whatever becomes of the stream.  What the vector had no room for
 * is paid by the next pull; if the stream is gone by then, in zeros: its RST_STREAM follows and nobody reads them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http2/http2.h"

#define NV_STACK 72u
#define H2_TINY 64u

static nghttp2_nv
nv(const char *name, size_t name_n, const char *value, size_t value_n, uint8_t flags)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_n, value_n, flags};
}

#define STATIC (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

/* Fields of the application as they may go out; how many.  nghttp2 lowers the names that it copies. */
static size_t
put_fields(nghttp2_nv *to, const struct lc_field *f, uint32_t n, int trailer, int *has_date, int *has_server,
	   int64_t *length)
{
	nghttp2_nv *at = to;

	for (uint32_t k = 0; k < n; k++, f++) {
		uint16_t token = f->token ? f->token : lc_token(f->name.p, f->name.n);
		if (lc_token_hop_by_hop(token))
			continue;
		if (trailer && !lc_token_in_trailer(token))
			continue;
		switch (token) {
		case LC_TOK_CONTENT_LENGTH:
			*length = lc_length_parse(f->value.p, f->value.n);
			continue;
		case LC_TOK_DATE:
			*has_date = 1;
			break;
		case LC_TOK_SERVER:
			*has_server = 1;
			break;
		default:
			break;
		}
		struct lc_str v = lc_value_trim(f->value.p, f->value.n); /* RFC 9113 8.2.1 */
		*at++ = nv(token ? lc_token_name(token) : f->name.p, f->name.n, v.p, v.n,
			   token ? NGHTTP2_NV_FLAG_NO_COPY_NAME : NGHTTP2_NV_FLAG_NONE);
	}
	return (size_t)(at - to);
}

static ssize_t
read_queue(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags, nghttp2_data_source *src,
	   void *user)
{
	struct h2s *x = src->ptr;
	int fin = 0;

	(void)buf;
	(void)user;
	if (!x->st)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	uint64_t n = h2_api->stream_avail(x->st, &fin);
	if (n > x->out_left) {
		h2_api->log(x->s->c, LC_LOG_WARN, "the response is longer than its Content-Length: cut off");
		n = x->out_left;
		fin = 1;
	}
	if (n == 0 && !fin) {
		if (x->out_left == 0 && !x->promised) {
			*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_COPY;
			return 0;
		}
		x->deferred = 1;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (fin && x->out_left != UINT64_MAX && n < x->out_left) {
		h2_api->log(x->s->c, LC_LOG_WARN,
			    "the response is shorter than its Content-Length: the stream is reset");
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	x->tiny = n > max && max < H2_TINY;
	if (n > max) {
		n = max;
	} else if (fin || (n == x->out_left && !x->promised)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (x->ntrailers) {
			nghttp2_nv stack[NV_STACK], *v = stack;
			int date, server;
			int64_t length;
			if (x->ntrailers > NV_STACK)
				v = h2_api->stream_alloc(x->st, x->ntrailers * sizeof(*v));
			size_t k = v ? put_fields(v, x->trailers, x->ntrailers, 1, &date, &server, &length) : 0;
			int rv = k ? nghttp2_submit_trailer(ng, id, v, k) : 0;
			if (k && rv == 0)
				*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			h2_must(x->s, rv);
		}
	}
	return (ssize_t)n;
}

static ssize_t
read_text(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags, nghttp2_data_source *src,
	  void *user)
{
	struct h2s *x = src->ptr;
	size_t n = x->text_n < max ? x->text_n : max;

	(void)ng;
	(void)id;
	(void)user;
	memcpy(buf, x->text, n);
	x->text += n;
	x->text_n -= (uint32_t)n;
	if (!x->text_n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

/* ---- heads ---- */

static nghttp2_nv
nv_status(uint32_t status, char *buf)
{
	buf[0] = (char)('0' + status / 100);
	buf[1] = (char)('0' + status / 10 % 10);
	buf[2] = (char)('0' + status % 10);
	return nv(":status", 7, buf, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

static void
info(struct h2s *x, const struct lc_head *h)
{
	nghttp2_nv stack[NV_STACK], *v = stack;
	char status[4];
	int date, server;
	int64_t length;

	if (h->nfields + 1 > NV_STACK)
		return; /* a hint may be lost */
	v[0] = nv_status(h->status, status);
	size_t n = 1 + put_fields(v + 1, h->fields, h->nfields, 0, &date, &server, &length);
	int32_t rv = nghttp2_submit_headers(x->s->ng, NGHTTP2_FLAG_NONE, x->id, NULL, v, n, NULL);
	h2_must(x->s, rv < 0 ? rv : 0);
}

static int
final(struct h2s *x, const struct lc_head *h)
{
	nghttp2_nv stack[NV_STACK], *v = stack;
	char status[4], digits[24];
	int date = 0, server = 0, fin = 0;
	int64_t length = h->length, said = -1;
	struct h2 *s = x->s;

	if (h->nfields + 4 > NV_STACK)
		v = h2_api->stream_alloc(x->st, (h->nfields + 4) * sizeof(*v));
	if (!v)
		return -1;
	v[0] = nv_status(h->status, status);
	size_t n = 1 + put_fields(v + 1, h->fields, h->nfields, 0, &date, &server, &said);
	if (s->conf->server_header && !server)
		v[n++] = nv("server", 6, "licorne", 7, STATIC);
	if (!date)
		v[n++] = nv("date", 4, h2_api->date(s->c).p, 29, NGHTTP2_NV_FLAG_NO_COPY_NAME);
	if (length < 0)
		length = said;
	uint64_t avail = h2_api->stream_avail(x->st, &fin);
	int whole = fin && !x->ntrailers;
	x->promised = (h->flags & LC_HEAD_TRAILERS) != 0;
	int none = lc_status_bodyless(h->status) || x->is_head;
	if (length < 0 && whole && (avail || !none))
		length = (int64_t)avail;
	if (h->status == 204 || (h->status == 304 && length == 0))
		length = -1;
	if (length >= 0) {
		size_t k = (size_t)(lc_put_number(digits, (uint64_t)length) - digits);
		v[n++] = nv("content-length", 14, digits, k, NGHTTP2_NV_FLAG_NO_COPY_NAME);
		if (!none)
			x->out_left = (uint64_t)length;
	}
	/* Nothing follows: END_STREAM goes with the head. */
	if (none || (whole && avail == 0 && length <= 0)) {
		x->answered = 1;
		return nghttp2_submit_response(s->ng, x->id, v, n, NULL);
	}
	nghttp2_data_provider body = {.source.ptr = x, .read_callback = read_queue};
	x->answered = 1;
	return nghttp2_submit_response(s->ng, x->id, v, n, &body);
}

/* Heads that come again (lc_head.memo) are looked at once. */
static int
checked(const struct lc_head *h)
{
	static uint64_t memos[64];
	uint64_t *at = &memos[h->memo % (sizeof(memos) / sizeof(memos[0]))];

	if (!h->memo || h->length < -1)
		return 0;
	if (*at == h->memo)
		return 1;
	if (!lc_head_check(h))
		*at = h->memo;
	return 0;
}

int
h2_head(void *sess, void *ps, const struct lc_head *h)
{
	struct h2 *s = sess;
	struct h2s *x = ps;

	if (!x->st || !x->ng)
		return LC_OK;
	const char *bad = checked(h) ? NULL : lc_head_check(h);
	if (bad) {
		h2_api->log(s->c, LC_LOG_ERROR, "the application's response was not sent: %s", bad);
		if (!x->answered)
			h2_answer(x, 500, bad);
		return LC_OK;
	}
	if (h->status < 200) {
		if (h->status != 100 || (x->expect && !x->in_total && x->in == H2_IN_BODY))
			info(x, h);
		if (h->status == 100)
			x->expect = 0;
	} else if (!x->answered && final(x, h) != 0) {
		h2_rst(x, NGHTTP2_INTERNAL_ERROR);
	}
	h2_wants(s);
	return LC_OK;
}

void
h2_answer(struct h2s *x, uint32_t status, const char *why)
{
	struct h2 *s = x->s;
	struct lc_str reason = lc_status_reason(status);
	char st[4], digits[24];
	nghttp2_nv v[5];
	size_t n = 0;

	h2_api->log(s->c, LC_LOG_INFO, "request refused with %u: %s", status, why);
	if (x->st) {
		struct lc_stream *stream = x->st;
		if (!x->answered) {
			struct lc_req known = {
			    .size = sizeof(known), .method = x->method, .target = x->path, .protocol = {"HTTP/2", 6}};
			/* of a request that the worker has not heard of there is no other record */
			h2_api->refused(s->c, x->headed ? stream : NULL, status, &known);
		}
		h2s_part(x);
		h2_api->stream_abort(stream, status == 408   ? LC_RSN_TIMEOUT
					     : status == 413 ? LC_RSN_LIMIT
					     : status >= 500 ? LC_RSN_APP_ERROR
							     : LC_RSN_PROTO_ERROR);
	}
	if (!x->ng || x->rst)
		return;
	if (x->answered) {
		h2_rst(x, NGHTTP2_INTERNAL_ERROR);
		h2_wants(s);
		return;
	}
	x->text = reason.p;
	x->text_n = x->is_head ? 0 : (uint32_t)reason.n;
	v[n++] = nv_status(status, st);
	if (s->conf->server_header)
		v[n++] = nv("server", 6, "licorne", 7, STATIC);
	v[n++] = nv("date", 4, h2_api->date(s->c).p, 29, NGHTTP2_NV_FLAG_NO_COPY_NAME);
	v[n++] = nv("content-type", 12, "text/plain", 10, STATIC);
	size_t k = (size_t)(lc_put_number(digits, reason.n) - digits);
	v[n++] = nv("content-length", 14, digits, k, NGHTTP2_NV_FLAG_NO_COPY_NAME);
	nghttp2_data_provider body = {.source.ptr = x, .read_callback = read_text};
	x->answered = x->own = 1;
	if (nghttp2_submit_response(s->ng, x->id, v, n, x->text_n ? &body : NULL) != 0)
		h2_rst(x, NGHTTP2_INTERNAL_ERROR);
	h2_wants(s);
}

void
h2_out_ready(void *sess, void *ps)
{
	struct h2 *s = sess;
	struct h2s *x = ps;

	if (!x->st || !x->answered)
		return;
	if (x->deferred) {
		x->deferred = 0;
		int rv = nghttp2_session_resume_data(s->ng, x->id);
		if (nghttp2_is_fatal(rv)) /* else it is closing, or blocked by its window all the same */
			h2_must(s, rv);
	}
	h2_wants(s);
}

int
h2_out_trailers(void *sess, void *ps, const struct lc_field *f, uint32_t n)
{
	struct h2 *s = sess;
	struct h2s *x = ps;
	struct lc_head h = {.status = 200, .fields = f, .nfields = n};

	if (!x->st)
		return LC_OK;
	const char *bad = lc_head_check(&h);
	if (bad) {
		h2_api->log(s->c, LC_LOG_ERROR, "the application's trailers were not sent: %s", bad);
		return LC_OK;
	}
	x->trailers = f;
	x->ntrailers = n;
	return LC_OK;
}

void
h2_reset(void *sess, void *ps, uint32_t reason)
{
	struct h2 *s = sess;
	struct h2s *x = ps;

	if (!x->st)
		return;
	if (!x->answered) {
		h2_answer(x,
			  reason == LC_RSN_SHUTDOWN  ? 503
			  : reason == LC_RSN_TIMEOUT ? 504
			  : reason == LC_RSN_LIMIT   ? 413
						     : 500,
			  "the application gave no response");
		return;
	}
	struct lc_stream *st = x->st;
	h2s_part(x);
	h2_api->stream_done(st);
	if (x->ng)
		h2_rst(x, NGHTTP2_INTERNAL_ERROR);
	h2_wants(s);
}

/* ---- output ---- */

/* What is owed of a DATA frame.  1: paid; 0: the vector is full. */
static int
pay(struct h2 *s, struct lc_outv *v)
{
	static const uint8_t zeros[256];

	if (s->hd_n) {
		if (h2_api->out_copy(v, s->hd, s->hd_n) < 0)
			return 0;
		s->hd_n = 0;
	}
	while (s->owed) {
		struct h2s *x = s->owed_of;
		int64_t n;
		if (x && x->st) {
			n = h2_api->stream_take(x->st, v, s->owed);
			s->broken |= n < 0;
			if (n <= 0)
				return 0;
			if (x->out_left != UINT64_MAX)
				x->out_left -= (uint64_t)n;
		} else {
			uint64_t room = h2_api->out_room(v);
			n = (int64_t)(s->owed < sizeof(zeros) ? s->owed : sizeof(zeros));
			if ((uint64_t)n > room)
				n = (int64_t)room;
			n += n == 0; /* for the vector to say that it is full */
			if (h2_api->out_copy(v, zeros, (size_t)n) < 0)
				return 0;
		}
		s->owed -= (uint64_t)n;
	}
	struct h2s *x = s->owed_of;
	s->owed_of = NULL;
	if (x && x->ending) {
		h2s_ended(x);
		h2s_free_if_done(x);
	}
	return 1;
}

int
h2_send_data(struct h2 *s, struct h2s *x, const uint8_t *framehd, size_t n)
{
	if (h2_api->out_copy(s->v, framehd, 9) < 0) { /* never WOULDBLOCK, which would leave it in the shared buffer */
		memcpy(s->hd, framehd, 9);
		s->hd_n = 9;
	}
	s->owed = n;
	s->owed_of = x;
	x->stalled = 0;
	if (!x->tiny)
		h2_worth(s, 2 + (uint32_t)(n >> 10));
	if (pay(s, s->v))
		return 0;
	s->full = 1;
	return NGHTTP2_ERR_PAUSE; /* the frame counts as sent, the next one waits for the rest of it */
}

/* The frame buffer is another session's next: what is left of the output becomes ours. */
static int
keep_pend(struct h2 *s)
{
	if (s->pend_n && !s->kept) {
		s->kept = malloc(s->pend_n);
		if (!s->kept)
			return -ENOMEM;
		memcpy(s->kept, s->pend, s->pend_n);
		s->pend = s->kept;
	}
	h2_mem_spoil();
	return 0;
}

int
h2_pull(void *sess, struct lc_outv *v)
{
	struct h2 *s = sess;

	s->v = v;
	s->full = 0;
	for (;;) {
		if (s->pend_n) {
			uint64_t room = h2_api->out_room(v), n = s->pend_n < room ? s->pend_n : room;
			n += n == 0; /* for the vector to say that it is full */
			if (h2_api->out_copy(v, s->pend, n) < 0)
				break;
			s->pend += n;
			s->pend_n -= n;
			if (s->pend_n)
				break;
			free(s->kept);
			s->kept = NULL;
		}
		if (s->full || !pay(s, v)) {
			s->full = 1;
			break;
		}
		ssize_t n = nghttp2_session_mem_send(s->ng, &s->pend);
		if (n < 0) {
			h2_api->log(s->c, LC_LOG_ERROR, "output failed: %s", nghttp2_strerror((int)n));
			return LC_CONN_DEAD;
		}
		if (n == 0)
			break;
		s->pend_n = (size_t)n;
	}
	s->v = NULL;
	s->broken |= keep_pend(s) < 0;
	if (s->broken) {
		h2_api->log(s->c, LC_LOG_ERROR, "connection closed: no memory for its output");
		return LC_CONN_DEAD;
	}
	if (s->full || s->pend_n || s->hd_n || s->owed)
		h2_api->want_write(s->c);
	else if (h2_over(s) && !nghttp2_session_want_write(s->ng))
		h2_api->conn_close(s->c, LC_CLOSE_LINGER); /* the peer may have said more than we have read */
	return LC_OK;
}
