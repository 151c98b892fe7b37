/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * respond.c - streams to bytes.
 *
 * pull() renders heads and chunk framing in place where the output vector has room for them; what does not fit goes
 * into `spill` and out of it piece by piece, so that even a vector of one byte makes progress.
 *
 * Nothing of an application's head reaches the wire unchecked, and its framing fields never do: lc_head.length is
 * what counts.  A response that cannot be completed ends with the connection, never with a terminator that lies.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http1/http1.h"

#define LIT(p, text) (memcpy(p, text, sizeof(text) - 1), (p) + sizeof(text) - 1)

static inline char *
put(char *p, struct lc_str v)
{
	memcpy(p, v.p, v.n);
	return p + v.n;
}

static char *
put_hex(char *p, uint64_t v)
{
	unsigned shift = v ? (63 - (unsigned)__builtin_clzll(v)) / 4 * 4 : 0;

	for (;; shift -= 4) {
		*p++ = "0123456789abcdef"[v >> shift & 15];
		if (shift == 0)
			return p;
	}
}

static inline char *
put_status(char *p, uint32_t status, struct lc_str reason)
{
	if (status == 200 && (!reason.n || (reason.n == 2 && memcmp(reason.p, "OK", 2) == 0)))
		return LIT(p, "HTTP/1.1 200 OK\r\n");
	p = LIT(p, "HTTP/1.1 ");
	*p++ = (char)('0' + status / 100);
	*p++ = (char)('0' + status / 10 % 10);
	*p++ = (char)('0' + status % 10);
	*p++ = ' ';
	p = put(p, reason.n ? reason : lc_status_reason(status));
	return LIT(p, "\r\n");
}

char *
h1_put_status(char *p, uint32_t status, struct lc_str reason)
{
	return put_status(p, status, reason);
}

/* Date and Server, where the application has not said them. */
static char *
put_common(struct h1 *s, char *p, int has_server, int has_date)
{
	if (s->conf->server_header && !has_server)
		p = LIT(p, "Server: licorne\r\n");
	if (!has_date) {
		p = LIT(p, "Date: ");
		memcpy(p, h1_api->date(s->c).p, 29);
		p = LIT(p + 29, "\r\n");
	}
	return p;
}

/* ---- output that may not fit ---- */

static int
spill(struct h1 *s, const char *p, size_t n)
{
	s->spill = malloc(n);
	if (!s->spill)
		return -ENOMEM;
	memcpy(s->spill, p, n);
	s->spill_n = (uint32_t)n;
	s->spill_off = 0;
	return 0;
}

/* 1: all of it is out; 0: the vector is full. */
static int
spill_out(struct h1 *s, struct lc_outv *v)
{
	while (s->spill_off < s->spill_n) {
		uint64_t room = h1_api->out_room(v), left = s->spill_n - s->spill_off;
		if (room > left)
			room = left;
		if (room == 0 || h1_api->out_copy(v, s->spill + s->spill_off, room) < 0)
			return 0;
		s->spill_off += (uint32_t)room;
	}
	free(s->spill);
	s->spill = NULL;
	s->spill_n = s->spill_off = 0;
	return 1;
}

int
h1_put_out(struct h1 *s, struct lc_outv *v, const char *p, size_t n)
{
	return h1_api->out_copy(v, p, n) == 0 ? 0 : spill(s, p, n);
}

/* ---- heads ---- */

static char *
put_info(char *p, const struct lc_head *h)
{
	p = put_status(p, h->status, h->reason);
	for (uint32_t k = 0; k < h->nfields; k++) {
		const struct lc_field *f = &h->fields[k];
		uint16_t token = f->token ? f->token : lc_token(f->name.p, f->name.n);
		if (lc_token_hop_by_hop(token) || token == LC_TOK_CONTENT_LENGTH)
			continue;
		p = LIT(put(p, f->name), ": ");
		p = LIT(put(p, f->value), "\r\n");
	}
	return LIT(p, "\r\n");
}

/* What the fields of a head say to the one who frames it. */
struct head_facts {
	int64_t length; /* of a Content-Length field, -1: none */
	uint8_t has_server, has_date, close;
};

/*
 * Heads that come again (lc_head.memo): the checked and rendered bytes, from the status line to the last field.  At
 * most MEMO_HEADS of them, MEMO_BYTES each, kept for ever, so that a pointer to one stays valid; a head whose place is
 * taken is checked and rendered anew each time.
 */
#define MEMO_HEADS 64u
#define MEMO_BYTES 1400u

static struct h1_memo {
	uint64_t memo;
	struct head_facts facts;
	uint32_t n;
	char bytes[];
} * memos[MEMO_HEADS];

static const struct h1_memo *
memo_of(const struct lc_head *h)
{
	const struct h1_memo *m = h->memo ? memos[h->memo % MEMO_HEADS] : NULL;

	return m && m->memo == h->memo ? m : NULL;
}

static void
memo_keep(const struct lc_head *h, const struct head_facts *facts, const char *p, size_t n)
{
	struct h1_memo **place = &memos[h->memo % MEMO_HEADS];

	if (*place || n > MEMO_BYTES)
		return;
	struct h1_memo *m = malloc(sizeof(*m) + n);
	if (!m)
		return;
	m->memo = h->memo;
	m->facts = *facts;
	m->n = (uint32_t)n;
	memcpy(m->bytes, p, n);
	*place = m;
}

static char *
put_fields(char *p, const struct lc_head *h, struct head_facts *facts)
{
	p = put_status(p, h->status, h->reason);
	for (uint32_t k = 0; k < h->nfields; k++) {
		const struct lc_field *f = &h->fields[k];
		uint16_t token = f->token ? f->token : lc_token(f->name.p, f->name.n);
		switch (token) {
		case LC_TOK_CONNECTION:
			if (lc_list_has(f->value.p, f->value.n, "close"))
				facts->close = 1;
			continue;
		case LC_TOK_CONTENT_LENGTH:
			facts->length = lc_length_parse(f->value.p, f->value.n);
			continue;
		case LC_TOK_SERVER:
			facts->has_server = 1;
			break;
		case LC_TOK_DATE:
			facts->has_date = 1;
			break;
		default:
			if (lc_token_hop_by_hop(token))
				continue;
			break;
		}
		p = LIT(put(p, f->name), ": ");
		p = LIT(put(p, f->value), "\r\n");
	}
	return p;
}

/* The stream's out queue, as it was looked at last. */
struct queue {
	uint64_t avail;
	int fin;
};

/* Decide how the body is framed, and render the final head. */
static char *
put_head(struct h1 *s, char *p, struct queue *ret)
{
	struct h1_x *x = s->x;
	const struct lc_head *h = x->final;
	struct head_facts facts = {.length = -1};
	const struct h1_memo *m = x->memo;
	int64_t length = h->length;
	struct queue q;

	if (m) {
		facts = m->facts;
		memcpy(p, m->bytes, m->n);
		p += m->n;
	} else {
		char *end = put_fields(p, h, &facts);
		if (h->memo)
			memo_keep(h, &facts, p, (size_t)(end - p));
		p = end;
	}
	if (facts.close)
		s->keep = 0;
	p = put_common(s, p, facts.has_server, facts.has_date);

	if (length < 0)
		length = facts.length;
	q.avail = h1_api->stream_avail(s->st, &q.fin);
	*ret = q;
	int whole = q.fin && !x->ntrailers; /* all of the body is there: its length need not have been declared */
	if ((lc_status_bodyless(h->status) || s->is_head) && h1_on(H1_ANSWER_BODYLESS)) {
		x->out = H1_OUT_NONE;
		if (length < 0 && whole && q.avail)
			length = (int64_t)q.avail;
		/* 204 has none (RFC 9110 8.6); of a 304 only a length that cannot be the missing body's */
		if (h->status == 204 || (h->status == 304 && length == 0))
			length = -1;
	} else if ((length >= 0 || whole) && !((h->flags & LC_HEAD_TRAILERS) && s->minor >= 1)) {
		if (length < 0)
			length = (int64_t)q.avail;
		x->out = H1_OUT_LENGTH;
		x->out_left = (uint64_t)length;
	} else if (s->minor >= 1 || !h1_on(H1_ANSWER_HTTP10)) {
		x->out = H1_OUT_CHUNKED;
		length = -1; /* nothing but chunks carries trailers */
		p = LIT(p, "Transfer-Encoding: chunked\r\n");
	} else {
		x->out = H1_OUT_CLOSE;
		s->keep = 0;
	}
	if (length >= 0) {
		p = LIT(p, "Content-Length: ");
		p = LIT(lc_put_number(p, (uint64_t)length), "\r\n");
	}

	/* A client that was never told to go on may send the body or not (RFC 9110 10.1.1): nobody could tell its first
	 * bytes from the next request. */
	if (s->expect && s->phase == H1_BODY && s->in_total == 0 && h1_on(H1_EXPECT_UNREAD))
		s->keep = 0;
	if (s->drain || (s->keep && h1_api->draining(s->c)))
		s->keep = 0;
	if (!s->keep)
		p = LIT(p, "Connection: close\r\n");
	else if (s->minor == 0)
		p = LIT(p, "Connection: keep-alive\r\n");
	return LIT(p, "\r\n");
}

/* Bytes that put_head() will need at most. */
static size_t
head_bound(const struct lc_head *h, const struct h1_memo *m)
{
	size_t n = 320 + h->reason.n; /* status line, Server, Date, Content-Length, Connection */

	if (m)
		return m->n + n;
	for (uint32_t k = 0; k < h->nfields; k++)
		n += h->fields[k].name.n + h->fields[k].value.n + 4;
	return n;
}

/* An info, or (NULL) the final head; ret_q is of the latter.  0, or -ENOMEM. */
static inline int
render(struct h1 *s, struct lc_outv *v, const struct lc_head *info, struct queue *ret_q)
{
	size_t bound = info ? head_bound(info, NULL) : head_bound(s->x->final, s->x->memo);
	char *p = (char *)h1_api->out_reserve(v, bound);
	char *own = NULL;

	if (!p) {
		p = own = malloc(bound);
		if (!p)
			return -ENOMEM;
	}
	char *end = info ? put_info(p, info) : put_head(s, p, ret_q);
	if (own) {
		s->spill = own;
		s->spill_n = (uint32_t)(end - own);
		s->spill_off = 0;
	} else {
		h1_api->out_commit(v, (size_t)(end - p));
	}
	return 0;
}

/* The text of a refusal is its reason phrase: what exactly was wrong is for our log alone. */
static int
render_refusal(struct h1 *s, struct lc_outv *v)
{
	char buf[512], *p = buf;
	struct lc_str reason = lc_status_reason(s->refuse);

	p = put_status(p, s->refuse, reason);
	p = put_common(s, p, 0, 0);
	p = LIT(p, "Content-Type: text/plain\r\nContent-Length: ");
	p = lc_put_number(p, reason.n + 1);
	p = LIT(p, "\r\nConnection: close\r\n\r\n");
	if (!s->is_head) {
		p = put(p, reason);
		*p++ = '\n';
	}
	s->refuse = 0;
	s->close_how = LC_CLOSE_LINGER + 1;
	return h1_put_out(s, v, buf, (size_t)(p - buf));
}

/* ---- bodies ---- */

/* The response is out: what becomes of the connection? */
static void
finish(struct h1 *s)
{
	h1_api->stream_done(s->st);
	s->st = NULL;
	s->x = NULL;
	if (!s->keep) {
		/* Who asked for the end sends nothing more; others may, and an early close() would reset the connection
		 * under the response. */
		s->close_how = (s->phase == H1_WAIT && !s->client_keep ? LC_CLOSE_FLUSH : LC_CLOSE_LINGER) + 1;
		return;
	}
	if (s->phase == H1_WAIT) {
		h1_idle(s);
		return;
	}
	/* An early response: the rest of the body is in the way of the next request. */
	if (!s->chunked && s->p.content_length > H1_DISCARD) {
		s->keep = 0;
		s->close_how = LC_CLOSE_LINGER + 1;
		return;
	}
	if (s->paused) {
		s->paused = 0;
		h1_api->read_pause(s->c, 0);
	}
	h1_arm(s, LC_TM_BODY, s->conf->body_timeout);
}

/* The response cannot be completed: the client must see that it is not whole. */
static void
cut_off(struct h1 *s, int how)
{
	h1_api->stream_done(s->st);
	s->st = NULL;
	s->x = NULL;
	s->keep = 0;
	s->close_how = (uint8_t)(how + 1);
}

/* Outcomes of the body functions */
#define MORE 0  /* call again */
#define WAITS 1 /* nothing to put out now */
#define FULL 2  /* the vector is full */

static int
pull_plain(struct h1 *s, struct lc_outv *v, struct queue q)
{
	struct h1_x *x = s->x;
	uint64_t avail = q.avail;
	int fin = q.fin;

	if (x->out == H1_OUT_LENGTH) {
		if (x->out_left == 0) {
			if (avail)
				h1_api->log(s->c, LC_LOG_WARN,
					    "the response is longer than its Content-Length: cut off");
			if (avail || fin) {
				finish(s);
				return MORE;
			}
			return WAITS;
		}
		if (avail > x->out_left)
			avail = x->out_left;
	}
	if (avail == 0) {
		if (!fin)
			return WAITS;
		if (x->out == H1_OUT_LENGTH) {
			h1_api->log(s->c, LC_LOG_WARN,
				    "the response is %llu bytes shorter than its Content-Length: connection closed",
				    (unsigned long long)x->out_left);
			cut_off(s, LC_CLOSE_FLUSH);
		} else {
			finish(s);
		}
		return MORE;
	}
	int64_t n = h1_api->stream_take(s->st, v, avail);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return FULL;
	if (x->out == H1_OUT_LENGTH)
		x->out_left -= (uint64_t)n;
	if (fin && (uint64_t)n == q.avail && (x->out != H1_OUT_LENGTH || x->out_left == 0))
		finish(s);
	return MORE;
}

/* The last chunk and the trailer section: into buffers of their own, as trailers may be long. */
static int
put_last_chunk(struct h1 *s, struct lc_outv *v)
{
	const struct h1_x *x = s->x;
	size_t bound = 16;

	if (x->ntrailers == 0)
		return x->crlf ? h1_put_out(s, v, "\r\n0\r\n\r\n", 7) : h1_put_out(s, v, "0\r\n\r\n", 5);
	for (uint32_t k = 0; k < x->ntrailers; k++)
		bound += x->trailers[k].name.n + x->trailers[k].value.n + 4;
	char *buf = malloc(bound), *p = buf;
	if (!buf)
		return -ENOMEM;
	if (x->crlf)
		p = LIT(p, "\r\n");
	p = LIT(p, "0\r\n");
	for (uint32_t k = 0; k < x->ntrailers; k++) {
		const struct lc_field *f = &x->trailers[k];
		if (!lc_token_in_trailer(f->token ? f->token : lc_token(f->name.p, f->name.n)))
			continue;
		p = LIT(put(p, f->name), ": ");
		p = LIT(put(p, f->value), "\r\n");
	}
	p = LIT(p, "\r\n");
	int r = h1_put_out(s, v, buf, (size_t)(p - buf));
	free(buf);
	return r;
}

static int
pull_chunked(struct h1 *s, struct lc_outv *v, struct queue q)
{
	struct h1_x *x = s->x;
	int r;

	if (x->chunk_left) {
		int64_t n = h1_api->stream_take(s->st, v, x->chunk_left);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return FULL;
		x->chunk_left -= (uint64_t)n;
		x->crlf = x->chunk_left == 0;
		return MORE;
	}
	if (q.avail) {
		char buf[24], *p = buf;
		if (x->crlf)
			p = LIT(p, "\r\n");
		p = LIT(put_hex(p, q.avail), "\r\n");
		r = h1_put_out(s, v, buf, (size_t)(p - buf));
		x->chunk_left = q.avail;
		x->crlf = 0;
		return r;
	}
	if (q.fin) {
		r = put_last_chunk(s, v);
		if (r < 0)
			return r;
		finish(s);
		return MORE;
	}
	if (x->crlf) { /* a client may wait for it before it looks at the chunk */
		x->crlf = 0;
		return h1_put_out(s, v, "\r\n", 2);
	}
	return WAITS;
}

/* ---- called by the core ---- */

int
h1_pull(void *sess, struct lc_outv *v)
{
	struct h1 *s = sess;
	struct queue q;
	int r = MORE;

	while (r == MORE) {
		struct h1_x *x = s->x;
		if (s->spill && !spill_out(s, v))
			r = FULL;
		else if (s->refuse)
			r = render_refusal(s, v);
		else if (!s->st)
			r = WAITS;
		else if (x->info) {
			r = render(s, v, x->info->head, NULL);
			x->info = x->info->next;
		} else if (!x->final)
			r = x->upgrade ? h1_upgrade_out(s, v) : WAITS;
		else {
			if (x->out != H1_OUT_HEAD) {
				q.avail = h1_api->stream_avail(s->st, &q.fin);
			} else {
				r = render(s, v, NULL, &q);
				if (r < 0 || s->spill)
					continue; /* what the queue holds by then is looked at then */
			}
			if (x->out == H1_OUT_NONE)
				finish(s);
			else
				r = x->out == H1_OUT_CHUNKED ? pull_chunked(s, v, q) : pull_plain(s, v, q);
		}
	}
	if (r < 0)
		return LC_CONN_DEAD;
	if (r == FULL) {
		h1_api->want_write(s->c);
	} else if (s->close_how) {
		int how = s->close_how - 1;
		s->close_how = 0;
		h1_close(s, how);
	}
	return LC_OK;
}

int
h1_head(void *sess, void *ps, const struct lc_head *h)
{
	struct h1 *s = sess;

	(void)ps;
	if (!s->st)
		return LC_OK;
	const struct h1_memo *m = memo_of(h);
	const char *bad = m ? NULL : lc_head_check(h);
	if (bad) {
		h1_api->log(s->c, LC_LOG_ERROR, "the application's response was not sent: %s", bad);
		if (!s->x->final)
			h1_fail(s, 500, bad);
		return LC_OK;
	}
	if (h->status >= 200) {
		s->x->final = h;
		s->x->memo = m;
	} else {
		/* Not to HTTP/1.0 (RFC 9110 15.2); no 100 when the body has begun to come. */
		if (s->minor == 0 || (h->status == 100 && (!s->expect || s->in_total || s->phase != H1_BODY)))
			return LC_OK;
		struct h1_info *i = h1_api->stream_alloc(s->st, sizeof(*i)), **pp = &s->x->info;
		if (!i)
			return LC_OK; /* a hint may be lost */
		*i = (struct h1_info){.head = h};
		while (*pp)
			pp = &(*pp)->next;
		*pp = i;
		if (h->status == 100) {
			s->expect = 0;
			h1_arm(s, LC_TM_BODY, s->conf->body_timeout);
		}
	}
	h1_api->want_write(s->c);
	return LC_OK;
}

void
h1_out_ready(void *sess, void *ps)
{
	struct h1 *s = sess;

	(void)ps;
	if (s->st && s->x->final)
		h1_api->want_write(s->c);
}

int
h1_out_trailers(void *sess, void *ps, const struct lc_field *f, uint32_t n)
{
	struct h1 *s = sess;
	struct lc_head h = {.status = 200, .fields = f, .nfields = n};

	(void)ps;
	if (!s->st)
		return LC_OK;
	const char *bad = lc_head_check(&h);
	if (bad) {
		h1_api->log(s->c, LC_LOG_ERROR, "the application's trailers were not sent: %s", bad);
		return LC_OK;
	}
	s->x->trailers = f;
	s->x->ntrailers = n;
	return LC_OK;
}

void
h1_reset(void *sess, void *ps, uint32_t reason)
{
	struct h1 *s = sess;

	(void)ps;
	if (!s->st)
		return;
	if (!s->x->final) { /* the client gets a whole answer instead; what is left of the request is not waited for */
		static const struct lc_req none = {.size = sizeof(none)};
		uint32_t status = reason == LC_RSN_SHUTDOWN  ? 503
				  : reason == LC_RSN_TIMEOUT ? 504
				  : reason == LC_RSN_LIMIT   ? 413
							     : 500;

		h1_api->log(s->c, LC_LOG_INFO, "answered with %u: the application gave no response", status);
		h1_api->refused(s->c, s->st, status, &none); /* in the line that the stream leaves */
		h1_api->stream_done(s->st);
		s->st = NULL;
		s->x = NULL;
		h1_answer(s, status, 0);
		return;
	}
	/* The application has begun; a body that the end of the connection ends must not end cleanly. */
	cut_off(s, s->x->out == H1_OUT_CLOSE ? LC_CLOSE_NOW : LC_CLOSE_FLUSH);
	h1_api->want_write(s->c);
}
