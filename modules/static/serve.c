/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.c - a request of the route to a response, at once: the handler keeps no stream beyond request().
 *
 * The fields of a response have to live as long as its stream, an entry of the cache does not: they are copied into the
 * stream's arena, in one piece with the texts that they point to.  What all entries share (media types, directives)
 * lives until close().  Content is passed by reference, and never copied here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "static.h"

#define STR(text)                      \
	{                              \
		text, sizeof(text) - 1 \
	}

/* ---- memos ---- */

/*
 * Heads of files that are asked for often get a number by which a protocol may keep what it rendered (lc_head.memo).  A
 * protocol keeps few of them, and for ever: so we take at most MEMOS in a process, and only after HOT requests.
 */
#define MEMOS 32u
#define HOT 16u

static uint64_t
memo_of(const struct st_inst *in, struct st_rep *r, int which)
{
	static uint32_t used;

	if (!r->memo[which] && ++r->hits[which] == HOT && used < MEMOS) {
		r->memo[which] = in->api->memo(in->ctx);
		used++;
	}
	return r->memo[which];
}

/* ---- responses without a file ---- */

static const struct lc_str plain_text = STR("text/plain");

static struct lc_str
page_of(uint32_t status)
{
	static const struct {
		uint32_t status;
		struct lc_str text;
	} pages[] = {
	    {301, STR("Moved Permanently\n")},
	    {403, STR("Forbidden\n")},
	    {404, STR("Not Found\n")},
	    {405, STR("Method Not Allowed\n")},
	    {412, STR("Precondition Failed\n")},
	    {416, STR("Range Not Satisfiable\n")},
	    {500, STR("Internal Server Error\n")},
	    {503, STR("Service Unavailable\n")},
	};

	for (size_t k = 0; k < sizeof(pages) / sizeof(pages[0]); k++)
		if (pages[k].status == status)
			return pages[k].text;
	return (struct lc_str){NULL, 0};
}

/* The end of every response: a small text, or none. */
static int
finish_page(struct st_inst *in, struct lc_stream *s, const struct lc_head *h, int is_head)
{
	const struct lc_str page = page_of(h->status);
	const struct lc_slice body = {.p = (const uint8_t *)page.p, .n = page.n, .fd = -1};
	int r = in->stream->respond(s, h);

	if (r >= 0)
		r = page.n && !is_head ? in->stream->write(s, &body, 1, LC_W_FIN) : in->stream->finish(s, NULL, 0);
	in->stream->release(s);
	return LC_H_TAKEN;
}

/* `more`: one field of static memory or of the stream's arena, or NULL. */
static int
send_page(struct st_inst *in, struct lc_stream *s, uint32_t status, const struct lc_field *more, int is_head)
{
	static const struct lc_field type = {
	    .name = STR("Content-Type"), .token = LC_TOK_CONTENT_TYPE, .value = STR("text/plain")};
	struct lc_head h = {.size = sizeof(h), .status = status, .fields = &type, .nfields = 1};

	h.length = (int64_t)page_of(status).n;
	if (more) {
		struct lc_field *f = in->stream->alloc(s, 2 * sizeof(*f));
		if (f) {
			f[0] = *more;
			f[1] = type;
			f[1].value = plain_text;
			h.fields = f;
			h.nfields = page_of(status).n ? 2 : 1;
		} else {
			h.status = 500;
			h.length = (int64_t)page_of(500).n;
		}
	}
	return finish_page(in, s, &h, is_head);
}

/* ---- redirects ---- */

/* May stand in a path as it is (RFC 3986 3.3). */
static int
is_plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c > ' ' && c < 127 && strchr("-._~!$&'()*+,;=:@/", c));
}

static char *
put_escaped(char *to, struct lc_str s, int is_query)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t k = 0; k < s.n; k++) {
		unsigned char c = (unsigned char)s.p[k];
		if (is_plain(c) || (is_query && c > ' ' && c < 127)) {
			*to++ = (char)c;
		} else {
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
	}
	return to;
}

/*
 * To the same path with a slash.  It is made of the normalised path, which begins with one '/' alone, escaped anew: it
 * cannot be read as another host's address, whatever the client wrote.
 */
static int
send_slash(struct st_inst *in, struct lc_stream *s, const struct lc_req *q, const struct lc_match *m, int is_head)
{
	struct lc_field location = {.name = STR("Location"), .token = LC_TOK_LOCATION};
	char *p = in->stream->alloc(s, 3 * (m->path.n + q->query.n) + 2), *end = p;

	if (!p)
		return send_page(in, s, 500, NULL, is_head);
	end = put_escaped(end, m->path, 0);
	*end++ = '/';
	if (q->query.p) {
		*end++ = '?';
		end = put_escaped(end, q->query, 1);
	}
	location.value = (struct lc_str){p, (size_t)(end - p)};
	return send_page(in, s, 301, &location, is_head);
}

/* ---- files ---- */

static struct st_rep *
choose(const struct st_entry *e, const struct st_ask *ask)
{
	struct st_accept a = {-1, -1, -1, -1};
	int gzip, br;

	if (!(e->rep[ST_GZIP] || e->rep[ST_BR]) || !(ask->has & ST_HAS_ACCEPT))
		return e->rep[ST_PLAIN];
	for (uint32_t k = 0; k < ask->nfields; k++)
		if (ask->fields[k].token == LC_TOK_ACCEPT_ENCODING)
			st_accept_parse(&a, ask->fields[k].value.p, ask->fields[k].value.n);
	gzip = e->rep[ST_GZIP] ? st_accept_weight(&a, a.gzip) : 0;
	br = e->rep[ST_BR] ? st_accept_weight(&a, a.br) : 0;
	return e->rep[br && br >= gzip ? ST_BR : gzip ? ST_GZIP : ST_PLAIN];
}

static int
send_unsatisfied(struct st_inst *in, struct lc_stream *s, const struct st_rep *r)
{
	struct lc_field range = {.name = STR("Content-Range"), .token = LC_TOK_CONTENT_RANGE};
	char *p = in->stream->alloc(s, 32);

	if (!p)
		return send_page(in, s, 500, NULL, 0);
	range.value = (struct lc_str){p, (size_t)snprintf(p, 32, "bytes */%llu", (unsigned long long)r->size)};
	return send_page(in, s, 416, &range, 0);
}

/* The fields of the representation in the stream's arena, with room for one more and its value; NULL: no memory. */
static struct lc_field *
copy_fields(struct st_inst *in, struct lc_stream *s, const struct st_rep *r, size_t more)
{
	char *to = in->stream->alloc(s, r->bytes + more);

	if (!to)
		return NULL;
	memcpy(to, r->text, r->bytes);
	struct lc_field *f = (struct lc_field *)(void *)(to + sizeof(r->text));
	if (r->tag_at != UINT32_MAX)
		f[r->tag_at].value.p = to + (r->val.tag.p - r->text);
	f[r->changed_at].value.p = to + (r->val.changed.p - r->text);
	return f;
}

static int
send_content(struct st_inst *in, struct lc_stream *s, const struct st_rep *r, uint64_t first, uint64_t n)
{
	struct lc_slice body = {.n = n, .release = st_file_unref, .arg = r->file, .fd = r->file->fd};

	if (body.fd >= 0)
		body.off = first;
	else
		body.p = r->file->data + first;
	atomic_fetch_add_explicit(&r->file->refs, 1, memory_order_relaxed);
	return in->stream->write(s, &body, 1, LC_W_FIN);
}

/* 200, 206 or 304. */
static int
send_file(struct st_inst *in, struct lc_stream *s, struct st_rep *r, uint32_t status, int is_head, uint64_t first,
	  uint64_t last)
{
	struct lc_head h = {.size = sizeof(h), .status = status, .nfields = r->nfields};
	struct lc_field *f = copy_fields(in, s, r, status == 206 ? sizeof(*f) + 64 : 0);

	if (!f)
		return send_page(in, s, 503, NULL, is_head);
	h.fields = f;
	h.length = (int64_t)(status == 206 ? last - first + 1 : r->size);
	if (status == 206) {
		char *p = (char *)&f[h.nfields + 1];
		int n = snprintf(p, 64, "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)last,
				 (unsigned long long)r->size);
		f[h.nfields++] = (struct lc_field){
		    .name = STR("Content-Range"), .token = LC_TOK_CONTENT_RANGE, .value = {p, (size_t)n}};
	} else {
		h.memo = memo_of(in, r, status == 304);
	}
	if (status == 304) {
		h.nfields = r->n304;
		h.length = -1;
	}
	int rc = in->stream->respond(s, &h);
	if (rc < 0 || status == 304 || is_head || h.length == 0)
		rc = rc < 0 ? rc : in->stream->finish(s, NULL, 0);
	else
		rc = send_content(in, s, r, first, (uint64_t)h.length);
	if (rc < 0 &&
	    rc != -EPIPE) /* -EPIPE: the client is gone.  Else half a response must not look like a whole one */
		in->stream->reset(s, LC_RSN_APP_ERROR);
	in->stream->release(s);
	return LC_H_TAKEN;
}

static int
send_entry(struct st_inst *in, struct lc_stream *s, const struct lc_req *q, struct st_entry *e, int is_head)
{
	struct st_ask ask;
	uint64_t first = 0, last = 0;
	uint32_t status = 0;

	st_ask_read(&ask, q);
	struct st_rep *r = choose(e, &ask);
	if (ask.has & ~ST_HAS_ACCEPT) {
		int range = ST_RANGE_NONE;
		status = st_ask_condition(&ask, &r->val, (int64_t)time(NULL));
		if (status == 0 && !is_head)
			range = st_ask_range(&ask, &r->val, r->size, &first, &last);
		if (range == ST_RANGE_UNSAT)
			return send_unsatisfied(in, s, r);
		if (range == ST_RANGE_ONE)
			status = 206;
	}
	if (status == 412)
		return send_page(in, s, 412, NULL, is_head);
	return send_file(in, s, r, status ? status : 200, is_head, first, last);
}

/* ---- the request ---- */

static int
other_method(struct st_inst *in, struct lc_stream *s, const struct lc_req *q)
{
	static const struct lc_field allow = {
	    .name = STR("Allow"), .token = LC_TOK_ALLOW, .value = STR("GET, HEAD, OPTIONS")};

	if (in->fallback == ST_FALLBACK_ON)
		return LC_H_DECLINED;
	return send_page(in, s, q->method.n == 7 && memcmp(q->method.p, "OPTIONS", 7) == 0 ? 204 : 405, &allow, 0);
}

/* "/static" of the route "/static": the directory itself, without its slash. */
static uint32_t
load_bare_prefix(struct st_inst *in, struct st_entry **ret)
{
	struct st_entry *e;

	if (in->fallback == ST_FALLBACK_OFF)
		return ST_SLASH;
	uint32_t outcome = st_load(in, "", 0, &e);
	if (outcome != ST_FOUND)
		return outcome;
	if (!e->cached)
		st_entry_free(e);
	return ST_SLASH;
}

int
st_request(void *h, struct lc_stream *s, const struct lc_match *m)
{
	static const uint16_t status[] = {
	    [ST_MISSING] = 404, [ST_NO_INDEX] = 403, [ST_DENIED] = 403, [ST_SHORT] = 503, [ST_BROKEN] = 500};
	struct st_inst *in = h;
	const struct lc_req *q = in->stream->req(s);
	int is_head = q->method.n == 4 && memcmp(q->method.p, "HEAD", 4) == 0;
	struct st_entry *e = NULL;
	struct lc_str key = m->rest;
	uint32_t outcome;

	if (in->bare && key.n) {
		if (key.p[0] != '/')
			return LC_H_DECLINED; /* "/staticfoo" of the route "/static": not below the directory */
		key.p++;
		key.n--;
	}
	if (!is_head && !(q->method.n == 3 && memcmp(q->method.p, "GET", 3) == 0))
		return other_method(in, s, q);
	if (in->bare && m->rest.n == 0) {
		outcome = load_bare_prefix(in, &e);
		goto found;
	}
	outcome = st_load(in, key.p, key.n, &e);
found:
	if (outcome == ST_MISSING || outcome == ST_NO_INDEX) {
		if (in->fallback == ST_FALLBACK_ON)
			return LC_H_DECLINED;
		if (in->fallback == ST_FALLBACK_FILE)
			outcome = st_load(in, in->fallback_key.p, in->fallback_key.n, &e);
		if (in->fallback == ST_FALLBACK_FILE && outcome == ST_SLASH)
			outcome = ST_MISSING; /* a directory: a redirect to it would lead here again */
	}
	if (outcome == ST_SLASH)
		return send_slash(in, s, q, m, is_head);
	if (outcome != ST_FOUND)
		return send_page(in, s, status[outcome], NULL, is_head);
	int r = send_entry(in, s, q, e, is_head);
	if (!e->cached)
		st_entry_free(e);
	return r;
}
