/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recv.c - bytes to streams.
 *
 * llhttp, strict in everything, walks over the bytes once.  Its callbacks only note where things lie, as offsets from
 * the first byte of the head; a head that came in one piece is never copied before it goes into the arena.  One that
 * did not is appended to `part`, where the same offsets hold, and parsed there, each byte once.
 *
 * Traps: refusals must not depend on how the input was cut.  llhttp reports a field when it is over or when the input
 * is, so the limits are checked at both and at an error (h1_over_limit(), where the offending byte counts).
 * llhttp accepts RTSP, runs of spaces in the request line and HTTP/0.9: request.c looks after those.  It takes the
 * trailer section for one that has begun only when the first name is over: parse_error() finds where it began.
 */
#include <stdlib.h>
#include <string.h>

#include "http1/http1.h"

/* ---- callbacks: what they return other than 0 ends llhttp_execute() ---- */

static int
on_url(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;
	struct h1_scratch *sc = s->sc;

	if (sc->url_n == 0)
		sc->url = (uint32_t)(at - s->base);
	sc->url_n += (uint32_t)n;
	return 0;
}

static int
on_version(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;
	struct h1_scratch *sc = s->sc;

	if (sc->version_n == 0)
		sc->version = (uint32_t)(at - s->base);
	sc->version_n += (uint8_t)n;
	H1_CHECK(s, H1_LINE_LENGTH, sc->version + sc->version_n > s->conf->request_line);
	return 0;
}

static int
on_name(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;
	struct h1_scratch *sc = s->sc;

	if (!s->base) { /* the first trailer field */
		s->base = at;
		sc->n = 0;
		sc->last = H1_LAST_NONE;
	}
	uint32_t off = (uint32_t)(at - s->base);
	if (sc->last == H1_LAST_NAME) {
		struct h1_span *f = &sc->v[sc->n - 1];
		if (f->name + f->name_n == off) { /* goes on from the last piece of input */
			if (n > UINT16_MAX - (size_t)f->name_n)
				return h1_refuse(s, H1_FIELD_LENGTH);
			f->name_n += (uint16_t)n;
			return 0;
		}
	}
	H1_CHECK(s, H1_FIELD_COUNT, sc->n == s->conf->fields);
	if (n > UINT16_MAX)
		return h1_refuse(s, H1_FIELD_LENGTH);
	sc->v[sc->n++] = (struct h1_span){.name = off, .name_n = (uint16_t)n, .value = off};
	sc->last = H1_LAST_NAME;
	return 0;
}

static int
on_value(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;
	struct h1_scratch *sc = s->sc;
	struct h1_span *f = &sc->v[sc->n - 1];
	uint32_t off = (uint32_t)(at - s->base);

	if (sc->last != H1_LAST_VALUE) {
		f->value = off;
		sc->last = H1_LAST_VALUE;
	}
	f->value_n = off + (uint32_t)n - f->value;
	H1_CHECK(s, H1_FIELD_LENGTH, off + n - f->name > s->conf->field_size);
	return 0;
}

static int
on_headers_complete(llhttp_t *p)
{
	struct h1 *s = p->data;
	const struct h1_scratch *sc = s->sc;

	p->upgrade = 0;                                /* what becomes of an offer, upgrade.c decides */
	if (h1_over_limit(s, h1_spans_end(sc) + 4, 0)) /* with the CR LF CR LF that ends it */
		return HPE_USER;
	if (h1_request(s))
		return HPE_USER;
	s->base = NULL;
	s->phase = H1_BODY;
	return 0;
}

static int
on_body(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;

	s->in_total += n;
	if (!s->st) {
		s->discarded += n;
		return 0;
	}
	int r = h1_api->stream_body(s->st, (const uint8_t *)at, n);
	if (r < 0)
		return h1_fail(s, 503, "no memory for the body");
	s->x->queued += n;
	if (r > 0)
		s->paused = 1; /* takes effect when recv() returns: llhttp cannot stop inside of a body */
	return 0;
}

static int
on_chunk_header(llhttp_t *p)
{
	struct h1 *s = p->data;
	uint64_t worth = 64 + p->content_length / 64;

	H1_CHECK(s, H1_BODY_LIMIT, s->conf->body_size && p->content_length > s->conf->body_size - s->in_total);
	s->last_chunk = p->content_length == 0;
	s->framing = s->framing > worth ? s->framing - (uint32_t)worth : 0;
	s->ext = 0;
	return 0;
}

static int
on_chunk_ext(llhttp_t *p, const char *at, size_t n)
{
	struct h1 *s = p->data;

	s->ext += n < UINT16_MAX ? (uint32_t)n : UINT16_MAX;
	H1_CHECK(s, H1_CHUNK_EXT_LENGTH, s->ext > H1_CHUNK_EXT_MAX);
	return 0;
}

static int
on_message_complete(llhttp_t *p)
{
	struct h1 *s = p->data;

	if (s->st) {
		if (!s->no_body) {
			const struct lc_field *trailers = NULL;
			uint32_t n = 0;
			if (s->base && h1_trailers(s, &trailers, &n))
				return HPE_USER;
			if (h1_api->stream_end(s->st, trailers, n) < 0)
				return h1_fail(s, 503, "no memory for the body");
		}
		s->phase = H1_WAIT;
	} else {
		h1_idle(s);
	}
	s->base = NULL;
	return HPE_PAUSED;
}

const llhttp_settings_t h1_settings = {
    .on_url = on_url,
    .on_version = on_version,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_chunk_extension_name = on_chunk_ext,
    .on_chunk_extension_value = on_chunk_ext,
    .on_message_complete = on_message_complete,
};

/* ---- limits and errors ---- */

/*
 * Is the head or trailer section of which `len` bytes were seen within its limits so far?  The length of a field
 * counts from its name to the end of its value as noted; at an error what llhttp was in the middle of may not be
 * noted, so the whole line up to the error counts.
 */
int
h1_over_limit(struct h1 *s, size_t len, int at_error)
{
	const struct h1_scratch *sc = s->sc;

	if (s->phase == H1_HEAD) {
		size_t line = sc->version_n ? sc->version + sc->version_n : len;
		H1_CHECK(s, H1_LINE_LENGTH, line > s->conf->request_line);
	}
	size_t field = 0; /* earlier ones were over before this one began, and on_value() looked at them */
	if (sc->n)
		field = h1_spans_end(sc) - sc->v[sc->n - 1].name;
	if (at_error) {
		const char *lf = memrchr(s->base, '\n', len);
		if (lf || s->phase != H1_HEAD) {
			size_t line = lf ? (size_t)(s->base + len - (lf + 1)) : len;
			field = line > field ? line : field;
		}
	}
	H1_CHECK(s, H1_FIELD_LENGTH, field > s->conf->field_size);
	H1_CHECK(s, H1_HEAD_LENGTH, len > s->conf->head_size);
	return 0;
}

/*
 * What llhttp's errors mean: the first row whose number and whose part of the reason (NULL: any) fit.  A text that a
 * newer llhttp has changed ends at a row with the same status and a less exact sentence.
 */
static const struct {
	uint8_t err, check;
	const char *reason;
} meanings[] = {
    {HPE_INVALID_URL, H1_TARGET_FORM, "schema"},
    {HPE_INVALID_URL, H1_TARGET_FORM, "start char in url"},
    {HPE_INVALID_URL, H1_TARGET_AUTHORITY, "server"},
    {HPE_INVALID_URL, H1_TARGET_AUTHORITY, "Double @"},
    {HPE_INVALID_URL, H1_TARGET_CHAR, NULL},
    {HPE_INVALID_CONSTANT, H1_METHOD_UNKNOWN, "Invalid method for HTTP"},
    {HPE_INVALID_CONSTANT, H1_VERSION_PROTOCOL, "method"}, /* for RTSP, for ICE */
    {HPE_INVALID_CONSTANT, H1_VERSION_SYNTAX, NULL},
    {HPE_INVALID_VERSION, H1_METHOD_UNKNOWN, "Preface"}, /* PRI, and not the preface of HTTP/2 */
    {HPE_INVALID_VERSION, H1_VERSION_SYNTAX, NULL},
    {HPE_PAUSED_H2_UPGRADE, H1_VERSION_UNSUPPORTED, NULL},
    {HPE_STRICT, H1_LINE_ENDING, "after version"},
    {HPE_STRICT, H1_CHUNK_EXT, "extension"},
    {HPE_STRICT, H1_CHUNK_LINE, "chunk size"},
    {HPE_STRICT, H1_CHUNK_END, "chunk data"},
    {HPE_STRICT, H1_FIELD_ENDING, NULL},
    {HPE_UNEXPECTED_SPACE, H1_FIELD_FOLD, NULL},
    {HPE_INVALID_HEADER_TOKEN, H1_FIELD_FOLD, "whitespace"},
    {HPE_INVALID_HEADER_TOKEN, H1_FIELD_VALUE, "value"},
    {HPE_INVALID_HEADER_TOKEN, H1_FIELD_NAME, NULL},
    {HPE_CR_EXPECTED, H1_CHUNK_EXT, "extension"},
    {HPE_CR_EXPECTED, H1_CHUNK_LINE, "chunk size"},
    {HPE_CR_EXPECTED, H1_CHUNK_END, "chunk data"},
    {HPE_CR_EXPECTED, H1_FIELD_ENDING, NULL},
    {HPE_LF_EXPECTED, H1_FIELD_ENDING, NULL},
    {HPE_UNEXPECTED_CONTENT_LENGTH, H1_LENGTH_TWICE, NULL},
    {HPE_INVALID_CONTENT_LENGTH, H1_LENGTH_OVERFLOW, "overflow"},
    {HPE_INVALID_CONTENT_LENGTH, H1_CODING_LENGTH, "Transfer-Encoding"},
    {HPE_INVALID_CONTENT_LENGTH, H1_LENGTH_SYNTAX, NULL},
    {HPE_INVALID_TRANSFER_ENCODING, H1_CODING_LENGTH, "Content-Length"},
    {HPE_INVALID_TRANSFER_ENCODING, H1_CODING_SYNTAX, NULL},
    {HPE_INVALID_CHUNK_SIZE, H1_CHUNK_OVERFLOW, "overflow"},
    {HPE_INVALID_CHUNK_SIZE, H1_CHUNK_EXT, "extension"},
    {HPE_INVALID_CHUNK_SIZE, H1_CHUNK_SIZE, NULL},
};

/* The end of an HTTP/0.9 request line in this input; NULL: it is none.  llhttp would wait for an empty line behind it.
 */
static const char *
http09_end(const struct h1 *s, const char *at, size_t n)
{
	return s->phase == H1_HEAD && !s->sc->version_n && s->sc->url_n ? memchr(at, '\n', n) : NULL;
}

/* The table, and where the byte that is in the way says more than llhttp does.  It is the one at `pos` or before it. */
static enum h1_check
meaning(const struct h1 *s, llhttp_errno_t err, const char *why, const char *at, const char *pos, const char *end)
{
	const struct h1_scratch *sc = s->sc;
	const char *first = s->base && s->base < at ? s->base : at;
	const char here = pos < end ? *pos : 0, before = pos - first > 0 ? pos[-1] : 0;
	const char two_before = pos - first > 1 ? pos[-2] : 0;
	enum h1_check check = H1_CHECK_COUNT;

	if (err == HPE_INVALID_METHOD)
		return lc_name_valid(&here, 1) ? H1_METHOD_UNKNOWN : H1_METHOD_TOKEN;
	for (size_t k = 0; k < sizeof(meanings) / sizeof(meanings[0]) && check == H1_CHECK_COUNT; k++)
		if (meanings[k].err == err && (!meanings[k].reason || (why && strstr(why, meanings[k].reason))))
			check = meanings[k].check;
	switch (check) {
	case H1_VERSION_SYNTAX:
		if (err == HPE_INVALID_CONSTANT)
			return here == '\r' || here == '\n' ? H1_VERSION_MISSING : check;
		return sc->version_n == 3 && (uint8_t)(here - '0') > 9 ? H1_LINE_ENDING : check;
	case H1_FIELD_VALUE: /* it continues an empty line */
		return (before == ' ' || before == '\t') && two_before == '\n' ? H1_FIELD_FOLD : check;
	case H1_FIELD_NAME: /* a line that is nothing but LF */
		return before == '\n' && two_before == '\n' ? H1_FIELD_ENDING : check;
	case H1_CHUNK_LINE:
		return s->ext ? H1_CHUNK_EXT : check;
	case H1_LENGTH_TWICE: /* llhttp begins anew behind a fold */
	case H1_LENGTH_SYNTAX:
		if (s->conf->fold && s->base && sc->n) {
			const char *name = s->base + sc->v[sc->n - 1].name;
			return memchr(name, '\r', (size_t)(pos - name)) ? H1_FIELD_FOLD : check;
		}
		return check;
	case H1_CODING_SYNTAX: /* an empty one, before anybody has looked at both */
		return s->p.flags & F_CONTENT_LENGTH ? H1_CODING_LENGTH : check;
	default:
		return check;
	}
}

/* Has the name of one field too many begun in the line of `pos`?  Nobody has noted it when it did not come to its end.
 */
static int
one_too_many(const struct h1 *s, const char *pos)
{
	const struct h1_scratch *sc = s->sc;
	const char *lf = sc->n == s->conf->fields ? memrchr(s->base, '\n', (size_t)(pos - s->base)) : NULL;

	return lf && lf + 1 < pos && (uint32_t)(lf - s->base) > sc->v[sc->n - 1].name && lc_name_valid(lf + 1, 1);
}

/* llhttp stopped at `pos`, in input that begins at `at`, for a reason of its own: answer it. */
static void
parse_error(struct h1 *s, llhttp_errno_t err, const char *at, const char *pos, const char *end)
{
	const char *why = llhttp_get_error_reason(&s->p);
	enum h1_check check;

	if (!s->base && s->last_chunk && pos) { /* in the first name of the trailer section, which nobody has noted */
		const char *lf = memrchr(at, '\n', (size_t)(pos - at));
		s->base = lf ? lf + 1 : at;
		s->sc->n = 0;
		s->sc->last = H1_LAST_NONE;
	}
	if (err == HPE_INVALID_HEADER_TOKEN && s->base && pos && one_too_many(s, pos) && h1_on(H1_FIELD_COUNT)) {
		h1_refuse(s, H1_FIELD_COUNT);
		return;
	}
	/* What stands behind such a line is not looked at when the line comes alone. */
	const char *lf = http09_end(s, at, pos ? (size_t)(pos - at) : 0);
	if (s->base && pos &&
	    (lf ? h1_over_limit(s, (size_t)(lf + 1 - s->base), 0) : h1_over_limit(s, (size_t)(pos - s->base), 1)))
		return;
	check = lf ? H1_VERSION_MISSING : meaning(s, err, why, at, pos ? pos : at, end);
	if (check == H1_CHECK_COUNT)
		h1_fail(s, 400, why && *why ? why : llhttp_errno_name(err));
	else if (h1_on(check))
		h1_refuse(s, check);
	else
		h1_close(s, LC_CLOSE_FLUSH); /* only where a test has turned the check off: llhttp cannot go on */
}

/* ---- partial heads ---- */

/* Keep [base, end), which lies in the input or, after what was used up, in `part` itself. */
static int
part_keep(struct h1 *s, const char *end)
{
	struct h1_part *t = s->part;
	size_t n = (size_t)(end - s->base);

	if (t) {
		memmove(t->buf, s->base, n);
		t->len = (uint32_t)n;
		s->base = t->buf;
		return 0;
	}
	t = malloc(sizeof(*t) + s->conf->fields * sizeof(struct h1_span));
	size_t cap = n < 512 ? 1024 : n + n / 2;
	char *buf = malloc(cap);
	if (!t || !buf) {
		free(t);
		free(buf);
		return h1_fail(s, 503, "no memory for the head");
	}
	memcpy(buf, s->base, n);
	t->buf = buf;
	t->len = (uint32_t)n;
	t->cap = (uint32_t)cap;
	t->sc = *s->sc;
	t->sc.v = t->v;
	memcpy(t->v, s->sc->v, s->sc->n * sizeof(struct h1_span));
	s->part = t;
	return 0;
}

static int
part_append(struct h1 *s, const uint8_t *data, size_t n)
{
	struct h1_part *t = s->part;

	if (t->cap - t->len < n) {
		size_t cap = 2 * (size_t)t->cap > t->len + n ? 2 * (size_t)t->cap : t->len + n;
		char *buf = realloc(t->buf, cap); /* bounded: head_size is checked after each step */
		if (!buf)
			return h1_fail(s, 503, "no memory for the head");
		t->buf = buf;
		t->cap = (uint32_t)cap;
	}
	memcpy(t->buf + t->len, data, n);
	t->len += (uint32_t)n;
	return 0;
}

/* ---- recv ---- */

static void
message_begin(struct h1 *s)
{
	llhttp_reset(&s->p);
	s->phase = H1_HEAD;
	s->in_total = s->discarded = 0;
	s->framing = s->ext = 0;
	s->blank = 0;
	s->minor = 1;
	s->requests++;
	s->keep = s->client_keep = s->is_head = s->expect = s->chunked = s->no_body = s->last_chunk = s->paused = 0;
}

/* A CR or LF before the request line: a few empty lines are skipped. */
static int
blank_byte(struct h1 *s, uint8_t c)
{
	H1_CHECK(s, H1_LINE_BLANK, c != (s->blank & 1 ? '\n' : '\r'));
	H1_CHECK(s, H1_LINE_BLANKS, s->blank == 2 * H1_BLANK_MAX);
	s->blank++;
	return 0;
}

/* Let llhttp have [at, at + n).  Returns how many bytes it used up. */
static size_t
parse(struct h1 *s, const char *at, size_t n)
{
	uint8_t in_body = s->phase == H1_BODY && !s->base;
	uint64_t body = s->in_total;
	llhttp_errno_t err = llhttp_execute(&s->p, at, n);

	if (err == HPE_OK) {
		if (in_body && s->chunked) {
			s->framing += (uint32_t)(n - (s->in_total - body));
			if (s->framing > H1_FRAMING + s->conf->head_size && h1_on(H1_CHUNK_FRAMING))
				h1_refuse(s, H1_CHUNK_FRAMING);
		}
		if (s->base && s->phase != H1_CLOSED) {
			const char *lf = http09_end(s, at, n);
			h1_over_limit(s, (size_t)((lf ? lf + 1 : at + n) - s->base), 0);
			if (lf && h1_on(H1_VERSION_MISSING))
				h1_refuse(s, H1_VERSION_MISSING); /* nothing, when it was too long */
		}
		return n;
	}
	const char *pos = llhttp_get_error_pos(&s->p);
	if (err == HPE_PAUSED) /* on_message_complete() */
		return (size_t)(pos - at);
	if (s->phase != H1_CLOSED)
		parse_error(s, err, at, pos, at + n);
	return n;
}

int64_t
h1_recv(void *sess, const uint8_t *data, size_t n)
{
	struct h1 *s = sess;
	struct h1_span spans[H1_FIELDS_MAX];
	struct h1_scratch stack_sc;
	size_t off = 0;
	uint64_t body = s->in_total;
	uint8_t phase = s->phase, paused = s->paused;

	stack_sc.v = spans;
	stack_sc.n = 0;
	while (off < n && s->phase < H1_WAIT) {
		const char *at = (const char *)data + off;
		size_t k = n - off;

		if (s->phase == H1_IDLE) {
			if (*at == '\r' || *at == '\n' || (s->blank & 1)) {
				off++;
				blank_byte(s, (uint8_t)*at);
				continue;
			}
			message_begin(s);
			stack_sc.n = stack_sc.url_n = 0;
			stack_sc.version = stack_sc.version_n = 0;
			stack_sc.last = H1_LAST_NONE;
			s->base = at;
		}
		if (s->part) {
			struct h1_part *t = s->part;
			size_t len = t->len;
			if (k > H1_STEP)
				k = H1_STEP;
			if (part_append(s, data + off, k))
				break;
			s->sc = &t->sc;
			s->base = t->buf;
			off += parse(s, t->buf + len, k);
			if (s->phase == H1_CLOSED)
				break;
			if (!s->base)
				h1_part_free(s);
			else if (s->base != t->buf) /* a trailer section began in the step that ended the head */
				part_keep(s, t->buf + t->len);
		} else {
			s->sc = &stack_sc;
			off += parse(s, at, k);
			if (s->phase != H1_CLOSED && s->base)
				part_keep(s, at + k);
		}
	}
	s->sc = NULL;
	s->base = NULL;
	if (s->phase == H1_CLOSED)
		return (int64_t)n;
	if (s->phase == H1_HEAD || (s->phase == H1_IDLE && s->blank)) {
		if (!s->timed) {
			s->timed = 1;
			h1_arm(s, LC_TM_HEAD, s->conf->head_timeout);
		}
	} else if (s->phase == H1_BODY) {
		if (!s->st && s->discarded > H1_DISCARD) {
			h1_close(s, LC_CLOSE_LINGER);
			return (int64_t)n;
		}
		s->timed = 0;
		if (s->paused) {
			if (!paused) {
				h1_arm(s, LC_TM_BODY, 0);
				h1_api->read_pause(s->c, 1);
			}
		} else if (phase != H1_BODY || s->in_total != body) {
			h1_arm(s, LC_TM_BODY, s->conf->body_timeout);
		}
	} else {
		/* WAIT: whatever timer runs is ignored when it fires.  The queue grows no more: no pause either. */
		s->timed = 0;
		if (s->phase == H1_WAIT && s->paused) {
			s->paused = 0;
			if (paused)
				h1_api->read_pause(s->c, 0);
		}
	}
	return (int64_t)off;
}
