/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * return.c - handler module "return": one fixed response for all requests of a route, or a redirect.
 *
 * The head and the body are made when the route is opened; a request without `append` allocates nothing.
 * Trap: what is appended to `location` came from a client.  It is the normal path, encoded anew, and exactly one slash
 * stands before it, so that it can change neither the host of the location nor, as "//host", become one.
 */
#include <errno.h>
#include <licorne/handler.h>
#include <licorne/module.h>
#include <licorne/tokens.h>
#include <stdlib.h>
#include <string.h>

#define APPEND_NOTHING 0u
#define APPEND_REST 1u
#define APPEND_PATH 2u

struct conf {
	uint64_t status, append;
	const char *body, *content_type, *location;
	struct lc_list add_header;
};

struct route {
	const struct conf *conf;
	const struct lc_stream_api *st;
	struct lc_head head;
	struct lc_slice body;
	size_t location_n; /* without a slash at its end */
	uint32_t location; /* index of its field */
	struct lc_field fields[];
};

static const struct lc_config_api *config;

/* ---- directives ---- */

static const struct lc_range status_range = {200, 599};
static const struct lc_enum appends[] = {
    {"nothing", APPEND_NOTHING}, {"rest", APPEND_REST}, {"path", APPEND_PATH}, {NULL, 0}};

static const struct lc_directive rows[] = {
    LC_UINT(struct conf, status, "status", LC_C_ROUTE, "200", &status_range, "The status of the response.",
	    "Redirects (301, 302, 303, 307, 308) need a `location`."),
    LC_STRING(struct conf, body, "body", LC_C_ROUTE, 0, NULL, "The text of the response.",
	      "Not set: an empty one. `\\n` in double or single quotes is the end of a line. A response of status 204, "
	      "205 or 304 has none."),
    LC_STRING(struct conf, content_type, "content_type", LC_C_ROUTE, 0, "text/plain; charset=utf-8",
	      "The media type of `body`.", "Sent as Content-Type when there is a body."),
    LC_STRING(struct conf, location, "location", LC_C_ROUTE, 0, NULL, "Where a redirect leads.",
	      "A URI, or a path that starts with `/`, as it is to be sent: characters that a URI may not have are "
	      "percent-encoded. Allowed with 201 and with statuses from 300 to 399."),
    LC_ENUM(
	struct conf, append, "append", LC_C_ROUTE, "nothing", appends, "nothing | rest | path",
	"What of the request's target is appended to `location`.",
	"`rest` is the part of the path behind the route's prefix, `path` the whole path; the query goes with both. "
	"The path is appended in its normal form (see `route`), encoded anew, and exactly one `/` stands between it "
	"and `location`, which must have no query of its own. So\n\n"
	"    route / return { status 301; location https://www.example.com; append path; }\n\n"
	"moves a site to another host, and `route /old/` with `location /new; append rest;` a folder."),
    LC_PAIRS(struct conf, add_header, "add_header", LC_C_ROUTE, "NAME VALUE", "A field of the response.",
	     "May be repeated. What belongs to the connection or describes the body (Connection, Content-Length, "
	     "Transfer-Encoding and the like) is refused, as are Content-Type and Location, which have directives."),
};

static int
is_redirect(uint64_t status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Of a URI, with "%". */
static int
is_uri(const char *s)
{
	for (; *s; s++)
		if (!is_alnum(*s) && !strchr("-._~:/?#[]@!$&'()*+,;=%", *s))
			return 0;
	return 1;
}

static int
is_token(const char *s)
{
	if (!*s)
		return 0;
	for (; *s; s++)
		if (!is_alnum(*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return 0;
	return 1;
}

/* A field value: no control characters but tabs, no blank at an end (RFC 9110 5.5). */
static int
is_value(const char *s)
{
	size_t n = strlen(s);

	if (n && (strchr(" \t", s[0]) || strchr(" \t", s[n - 1])))
		return 0;
	for (; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return 0;
	return 1;
}

static int
is_ours(const char *name)
{
	static const char *const names[] = {
	    "connection", "content-length", "content-type", "keep-alive",        "location", "proxy-connection",
	    "te",         "trailer",        "upgrade",      "transfer-encoding", NULL};
	for (size_t k = 0; names[k]; k++)
		if (!strcasecmp(names[k], name))
			return 1;
	return 0;
}

static int
check(const void *conf, struct lc_err *err)
{
	const struct conf *c = conf;
	const char *l = c->location;

	if (c->body && *c->body && (c->status == 204 || c->status == 205 || c->status == 304))
		config->error(err, "body", "body: a response of status %u has none, expected no body or another status",
			      (unsigned)c->status);
	if (!strchr(c->content_type, '/') || !is_value(c->content_type))
		config->error(err, "content_type", "content_type: \"%.80s\" is no media type, expected TYPE/SUBTYPE",
			      c->content_type);
	if (!l && is_redirect(c->status))
		config->error(err, "status", "status %u is a redirect, expected beside it: location URI;",
			      (unsigned)c->status);
	if (!l && c->append != APPEND_NOTHING)
		config->error(err, "append", "append has nothing to append to, expected beside it: location URI;");
	if (l && c->status != 201 && (c->status < 300 || c->status > 399))
		config->error(err, "location", "location: status %u has none, expected status 201 or 300 to 399",
			      (unsigned)c->status);
	if (l && (!is_uri(l) || (*l != '/' && (!is_alnum(*l) || !strchr(l, ':')))))
		config->error(err, "location",
			      "location: \"%.200s\" is no URI, expected SCHEME://HOST/PATH or /PATH, percent-encoded",
			      l);
	else if (l && c->append != APPEND_NOTHING && strpbrk(l, "?#"))
		config->error(
		    err, "location",
		    "location: \"%.200s\" has a query or a fragment, expected none where something is appended", l);
	for (uint64_t k = 0; k + 1 < c->add_header.n; k += 2) {
		const char *name = c->add_header.v[k], *value = c->add_header.v[k + 1];
		if (!is_token(name))
			config->error(err, "add_header", "add_header: \"%.80s\" is no field name", name);
		else if (is_ours(name))
			config->error(err, "add_header", "add_header: \"%.80s\" cannot be set, expected another field",
				      name);
		else if (!is_value(value))
			config->error(err, "add_header",
				      "add_header: the value of \"%.80s\" has a control character or a blank at an end",
				      name);
	}
	return 0;
}

/* ---- the handler ---- */

static struct lc_str
str(const char *s)
{
	return (struct lc_str){s, strlen(s)};
}

static int
r_open(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lc_route *route, const void *conf, void **ret)
{
	const struct conf *c = conf;
	struct route *r = calloc(1, sizeof(*r) + (2 + c->add_header.n / 2) * sizeof(r->fields[0]));
	struct lc_str body = str(c->body ? c->body : "");
	uint32_t n = 0;

	(void)route;
	if (!r)
		return -ENOMEM;
	r->conf = c;
	r->st = api->stream;
	if (body.n)
		r->fields[n++] = (struct lc_field){
		    .name = {"Content-Type", 12}, .value = str(c->content_type), .token = LC_TOK_CONTENT_TYPE};
	for (uint64_t k = 0; k + 1 < c->add_header.n; k += 2) {
		struct lc_str name = str(c->add_header.v[k]);
		r->fields[n++] = (struct lc_field){
		    .name = name, .value = str(c->add_header.v[k + 1]), .token = api->token(name.p, name.n)};
	}
	if (c->location) { /* last, where it is replaced for each request */
		r->location = n;
		r->location_n = strlen(c->location);
		if (c->location[r->location_n - 1] == '/')
			r->location_n--;
		r->fields[n++] =
		    (struct lc_field){.name = {"Location", 8}, .value = str(c->location), .token = LC_TOK_LOCATION};
	}
	r->head = (struct lc_head){.size = sizeof(r->head),
				   .status = (uint32_t)c->status,
				   .nfields = n,
				   .fields = r->fields,
				   .length = (int64_t)body.n,
				   .memo = c->append == APPEND_NOTHING ? api->memo(ctx) : 0};
	r->body = (struct lc_slice){.p = (const uint8_t *)body.p, .n = body.n, .fd = -1};
	*ret = r;
	return 0;
}

static char *
put_encoded(char *to, struct lc_str s, const char *also)
{
	for (size_t k = 0; k < s.n; k++) {
		char c = s.p[k];
		if (c && (is_alnum(c) || strchr("-._~:/@!$&'()*+,;=", c) || strchr(also, c))) {
			*to++ = c;
		} else {
			*to++ = '%';
			*to++ = "0123456789ABCDEF"[(unsigned char)c >> 4];
			*to++ = "0123456789ABCDEF"[(unsigned char)c & 15];
		}
	}
	return to;
}

/* 0 and the head of a request whose target is appended, or -ENOMEM. */
static int
appended(const struct route *r, struct lc_stream *s, const struct lc_match *m, struct lc_head *ret)
{
	struct lc_str path = r->conf->append == APPEND_PATH ? m->path : m->rest;
	struct lc_str query = r->st->req(s)->query;
	struct lc_field *f = r->st->alloc(s, r->head.nfields * sizeof(*f));
	char *loc = r->st->alloc(s, r->location_n + 4 + 3 * path.n + 3 * query.n), *p = loc;

	if (!f || !loc)
		return -ENOMEM;
	memcpy(f, r->fields, r->head.nfields * sizeof(*f));
	if (path.n == 0) {
		p = stpcpy(p, r->conf->location);
	} else {
		memcpy(p, r->conf->location, r->location_n);
		p += r->location_n;
		*p++ = '/';
		size_t slash = path.p[0] == '/';
		p = put_encoded(p, (struct lc_str){path.p + slash, path.n - slash}, "");
	}
	if (query.p) {
		*p++ = '?';
		p = put_encoded(p, query, "?%");
	}
	f[r->location].value = (struct lc_str){loc, (size_t)(p - loc)};
	*ret = r->head;
	ret->fields = f;
	return 0;
}

static int
r_request(void *h, struct lc_stream *s, const struct lc_match *m)
{
	const struct route *r = h;
	const struct lc_stream_api *st = r->st;

	if (r->conf->append == APPEND_NOTHING) {
		st->respond(s, &r->head);
	} else {
		struct lc_head head;
		int rc = appended(r, s, m, &head);
		if (rc < 0)
			return rc;
		st->respond(s, &head);
	}
	st->write(s, &r->body, 1, LC_W_FIN);
	st->release(s);
	return LC_H_TAKEN;
}

static void
r_close(void *h)
{
	free(h);
}

static const struct lc_handler ops = {
    .size = sizeof(ops), .name = "return", .open = r_open, .request = r_request, .close = r_close};

static int
load(const struct lc_host *host)
{
	config = host->get("config", 1, sizeof(*config));
	return config ? 0 : -ENOSYS;
}

static const struct lc_iface ifaces[] = {{LC_KIND_HANDLER, LC_HANDLER_VERSION, &ops}};
static const struct lc_module module = {
    LC_MODULE_HEAD("return", "0.1.0"),
    .summary = "a fixed response, or a redirect",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct conf),
    .check = check,
    .load = load,
};
LC_MODULE_ENTRY(module)
