/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c - the handler module "static": directives, and instances made of them.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "static.h"

static const struct lc_config_api *config;

/* ---- values ---- */

int64_t
st_expires_parse(const char *s)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}, {'y', 365 * 86400}};
	int64_t v = 0;
	const char *p = s;

	if (strcmp(s, "off") == 0)
		return -1;
	if (strcmp(s, "epoch") == 0)
		return -2;
	if (strcmp(s, "max") == 0)
		return INT64_C(315360000); /* ten years, as nginx's */
	for (; *p >= '0' && *p <= '9'; p++)
		if ((v = v * 10 + (*p - '0')) > INT64_C(4000000000))
			return -3;
	if (p == s || (*p && p[1]))
		return -3;
	for (size_t k = 0; k < sizeof(units) / sizeof(units[0]); k++)
		if (units[k].unit == *p)
			return v * units[k].seconds <= INT64_C(315360000) ? v * units[k].seconds : -3;
	return -3;
}

static int
is_token(const char *s)
{
	size_t n = strspn(s, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

	return n > 0 && s[n] == '\0';
}

/* A field value: no control bytes but HTAB. */
static int
is_value(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 127)
			return 0;
	return 1;
}

static int
is_type(const char *s)
{
	const char *slash = strchr(s, '/');

	return slash && slash > s && slash[1] && is_value(s) && !strpbrk(s, " \t\",") && !strchr(slash + 1, '/');
}

/* A path below the root, as it stands in a directive. */
static int
is_below(const char *s)
{
	if (!*s || *s == '/')
		return 0;
	for (const char *p = s;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0 || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		p += n;
		if (!*p)
			return 1;
	}
}

static int
is_off(const struct lc_list *l)
{
	return l->n == 1 && strcmp(l->v[0], "off") == 0;
}

/* Fields that a file's response gets by itself, or that belong to the connection. */
static int
is_ours(const char *name)
{
	static const char *const names[] = {
	    "accept-ranges", "connection", "content-encoding", "content-length", "content-range", "content-type",
	    "date",          "etag",       "keep-alive",       "last-modified",  "server",        "transfer-encoding",
	    "upgrade",       "trailer",
	};

	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
		if (strcasecmp(names[k], name) == 0)
			return 1;
	return 0;
}

static int
static_check(const void *conf, struct lc_err *err)
{
	const struct st_conf *c = conf;
	struct stat st;

	/* what is there and may not be read is found by who opens it, as whoever the worker is */
	if (stat(c->root, &st) < 0 ? errno == ENOENT || errno == ENOTDIR : !S_ISDIR(st.st_mode))
		config->error(err, "root", "\"%s\" is no directory, expected one that is there", c->root);
	for (uint64_t k = 0; k < c->index.n && !is_off(&c->index); k++)
		if (!is_below(c->index.v[k]))
			config->error(err, "index",
				      "\"%.80s\" is no file name, expected one like index.html, or off alone",
				      c->index.v[k]);
	if (!is_type(c->default_type))
		config->error(err, "default_type", "\"%.80s\" is no media type, expected one like text/plain",
			      c->default_type);
	for (uint64_t k = 0; k + 1 < c->types.n; k += 2) {
		const char *ext = c->types.v[k + 1];
		if (!is_type(c->types.v[k]))
			config->error(err, "types", "\"%.80s\" is no media type, expected: types TYPE EXTENSION;",
				      c->types.v[k]);
		if (!*(ext + (*ext == '.')) || strchr(ext + 1, '.') || strchr(ext, '/') || strlen(ext) > 31)
			config->error(err, "types", "\"%.80s\" is no extension, expected one like html", ext);
	}
	if (!is_token(c->charset))
		config->error(err, "charset", "\"%.80s\" is no name of a charset, expected one like utf-8, or off",
			      c->charset);
	if (st_expires_parse(c->expires) == -3)
		config->error(err, "expires",
			      "\"%.80s\" is no time, expected one like 30d (at most ten years), max, epoch or off",
			      c->expires);
	if (c->cache_control && !is_value(c->cache_control))
		config->error(err, "cache_control",
			      "control characters in the value, expected one like \"public, immutable\"");
	for (uint64_t k = 0; k + 1 < c->add_header.n; k += 2) {
		if (!is_token(c->add_header.v[k]) || is_ours(c->add_header.v[k]))
			config->error(err, "add_header", "\"%.80s\" cannot be set, expected the name of another field",
				      c->add_header.v[k]);
		if (!is_value(c->add_header.v[k + 1]))
			config->error(err, "add_header", "control characters in the value of %.80s",
				      c->add_header.v[k]);
	}
	if (strcmp(c->fallback, "off") != 0 && strcmp(c->fallback, "on") != 0 &&
	    (c->fallback[0] != '/' || !is_below(c->fallback + 1)))
		config->error(err, "fallback",
			      "\"%.80s\" is none, expected on, off or a file below the root like /index.html",
			      c->fallback);
	return 0;
}

/* ---- instances ---- */

static void LC_PRINTF(2, 3) boot_error(const struct st_inst *in, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	in->api->boot_error(in->ctx, text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Cache-Control of `expires` and `cache_control`, and the fields of add_header.  0 or -ENOMEM. */
static int
make_common(struct st_inst *in, const struct st_conf *c)
{
	int64_t seconds = st_expires_parse(c->expires);
	const char *more = c->cache_control && *c->cache_control ? c->cache_control : NULL;
	char age[32] = "";

	if (seconds == -2)
		snprintf(age, sizeof(age), "no-cache");
	else if (seconds >= 0)
		snprintf(age, sizeof(age), "max-age=%lld", (long long)seconds);
	in->common = calloc(1 + c->add_header.n / 2, sizeof(*in->common));
	if (!in->common)
		return -ENOMEM;
	if (*age || more) {
		if (asprintf(&in->cache_control, "%s%s%s", age, *age && more ? ", " : "", more ? more : "") < 0) {
			in->cache_control = NULL;
			return -ENOMEM;
		}
		in->common[in->ncommon++] = (struct lc_field){.name = {"Cache-Control", 13},
							      .value = {in->cache_control, strlen(in->cache_control)},
							      .token = LC_TOK_CACHE_CONTROL};
	}
	for (uint64_t k = 0; k + 1 < c->add_header.n; k += 2) {
		const char *name = c->add_header.v[k], *value = c->add_header.v[k + 1];
		in->common[in->ncommon++] = (struct lc_field){.name = {name, strlen(name)},
							      .value = {value, strlen(value)},
							      .token = in->api->token(name, strlen(name))};
	}
	return 0;
}

void
st_inst_free(void *h)
{
	struct st_inst *in = h;

	if (!in)
		return;
	st_cache_free(&in->cache);
	st_types_free(&in->types);
	st_root_close(&in->root);
	free(in->common);
	free(in->cache_control);
	free(in);
}

int
st_inst_make(struct lc_wctx *ctx, const struct lc_worker_api *api, const struct lc_route *route, const void *conf,
	     void **ret)
{
	const struct st_conf *c = conf;
	struct st_inst *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return -ENOMEM;
	in->ctx = ctx;
	in->api = api;
	in->stream = api->stream;
	in->conf = c;
	in->root.fd = -1;
	if (!is_off(&c->index))
		in->index = c->index;
	in->valid = c->cache_valid * UINT64_C(1000000);
	in->max_file = c->cache_max_file_size;
	in->bare = route->prefix.p[route->prefix.n - 1] != '/';
	in->fallback = c->fallback[0] == '/'            ? ST_FALLBACK_FILE
		       : strcmp(c->fallback, "on") == 0 ? ST_FALLBACK_ON
							: ST_FALLBACK_OFF;
	if (in->fallback == ST_FALLBACK_FILE)
		in->fallback_key = (struct lc_str){c->fallback + 1, strlen(c->fallback + 1)};
	r = st_root_open(&in->root, c->root, (uint32_t)c->symlinks);
	if (r < 0) {
		boot_error(in, "root %s cannot be opened: %s", c->root, strerror(-r));
		st_inst_free(in);
		return r;
	}
	if (in->root.walk)
		api->log(ctx, LC_LOG_NOTICE,
			 "static: openat2(2) is not to be had here: paths below %s are opened component by component",
			 c->root);
	r = st_types_make(&in->types, &c->types, c->default_type, strcmp(c->charset, "off") == 0 ? NULL : c->charset);
	if (r == 0)
		r = st_cache_make(&in->cache, c->cache_size, c->cache_size ? (uint32_t)c->cache_descriptors : 0,
				  c->cache_valid > 0);
	if (r == 0)
		r = make_common(in, c);
	if (r < 0) {
		boot_error(in, "no memory");
		st_inst_free(in);
		return r;
	}
	*ret = in;
	return 0;
}

/* ---- directives ---- */

static const struct lc_enum link_choices[] = {
    {"beneath", ST_LINKS_BENEATH}, {"off", ST_LINKS_OFF}, {"follow", ST_LINKS_FOLLOW}, {NULL, 0}};
static const struct lc_range cache_range = {0, UINT64_C(1) << 40}, file_range = {0, UINT64_C(64) << 20},
			     valid_range = {0, 86400000}, descriptors_range = {0, 65536};

static const struct lc_directive directives[] = {
    LC_PATH(struct st_conf, root, "root", LC_C_ROUTE, LC_D_REQUIRED, NULL,
	    "The directory that the route's prefix stands for.",
	    "What follows the prefix in a request's path is looked for in it: with `route /static/ static { root "
	    "/srv/site/static; }`, `/static/css/a.css` is `/srv/site/static/css/a.css`. (In nginx's terms it is "
	    "`alias`.) It is opened once, when the worker starts: where its path leads through a link that is changed "
	    "later, workers have to be started anew. Nothing outside of it is served, whatever a path or, depending on "
	    "`symlinks`, a link says."),
    LC_LIST(
	struct st_conf, index, "index", LC_C_ROUTE, "index.html", "FILE... | off",
	"The file that is served for a directory.",
	"The first of them that is there. A directory without one is answered with 403; contents of directories are "
	"never listed. A path that names a directory without its last `/` is redirected (301) to the one with it."),
    LC_ROW_(
	LC_T_STR, "fallback", LC_C_ROUTE, 0, LC_AT_(struct st_conf, fallback, const char *), "off", NULL,
	"on | off | /FILE", "What answers when there is no such file.",
	"`off`: 404, and 405 for methods other than GET, HEAD and OPTIONS. `on`: the request goes on as if the route "
	"were not there, to the next one that fits and at last to the application, which also gets all methods but GET "
	"and HEAD, OPTIONS too. "
	"A file below the root: it is served instead, with 200, as applications that run in the browser and have paths "
	"of their own want it.\n\nThere is no such file also when what is there is no regular file, or a directory "
	"without an `index` file. What is there and cannot be read stays 403, and the error log says why."),
    LC_ENUM(struct st_conf, symlinks, "symlinks", LC_C_ROUTE, "beneath", link_choices, "beneath | off | follow",
	    "Which symbolic links are followed.",
	    "`beneath`: those that stay below `root`; a link with an absolute target counts as leaving it. `off`: "
	    "none, in any part of the path. `follow`: all of them, wherever they lead: for trees that are made of "
	    "links, as Django's `collectstatic --link` makes them; whoever can write below `root` can then show every "
	    "file that the worker may read. A link that is not followed is answered with 403."),
    LC_FLAG(struct st_conf, dotfiles, "dotfiles", LC_C_ROUTE, "on",
	    "Whether files and directories with a leading dot are served.",
	    "With `off` they are not there, but for `.well-known` directly below `root` (RFC 8615). A `root` that is "
	    "the working copy of a version control system, or holds an `.env`, needs `off`."),
    LC_STRING(struct st_conf, default_type, "default_type", LC_C_ROUTE, 0, "application/octet-stream",
	      "The media type of files with an unknown extension.", "The text of the `Content-Type` field."),
    LC_PAIRS(struct st_conf, types, "types", LC_C_ROUTE, "TYPE EXTENSION", "The media type of an extension.",
	     "Adds to the built-in table, or replaces a row of it: `types text/x-log log;`. Extensions are compared "
	     "without regard to case."),
    LC_STRING(struct st_conf, charset, "charset", LC_C_ROUTE, 0, "utf-8", "The charset of text files.",
	      "Added to `text/*` and `application/javascript` as a parameter. `off`: nothing is added."),
    LC_ROW_(LC_T_STR, "expires", LC_C_ROUTE, 0, LC_AT_(struct st_conf, expires, const char *), "off", NULL,
	    "TIME | max | epoch | off", "How long caches may use a file without asking.",
	    "A number of seconds, or one with the unit `s`, `m`, `h`, `d`, `w` or `y`, is sent as `Cache-Control: "
	    "max-age`; `max` is ten years; `epoch` is `no-cache`: keep it, and ask each time. `off` says nothing: "
	    "browsers then guess. No `Expires` field is sent, since every cache that is in use knows the other."),
    LC_STRING(struct st_conf, cache_control, "cache_control", LC_C_ROUTE, 0, NULL,
	      "More for the `Cache-Control` field.",
	      "Put behind what `expires` gives: `expires max; cache_control \"public, immutable\";`, for files whose "
	      "names change with their content."),
    LC_PAIRS(struct st_conf, add_header, "add_header", LC_C_ROUTE, "NAME VALUE", "A field for responses with a file.",
	     "To responses with status 200, 206 and 304, beside the fields that they have by themselves; those cannot "
	     "be set."),
    LC_FLAG(struct st_conf, etag, "etag", LC_C_ROUTE, "on", "Whether responses have an entity tag.",
	    "It is made of the modification time in nanoseconds and the size; weak while the last change is less than "
	    "two seconds ago, as the next one might leave both as they are."),
    LC_FLAG(struct st_conf, gzip_static, "gzip_static", LC_C_ROUTE, "off", "Whether `FILE.gz` is sent for FILE.",
	    "To clients that accept gzip, where there is such a file beside the original, with `Vary: Accept-Encoding` "
	    "and an entity tag of its own. Nothing is compressed by the server; that both are of the same content is "
	    "for whoever made them to see to."),
    LC_FLAG(struct st_conf, brotli_static, "brotli_static", LC_C_ROUTE, "off", "Whether `FILE.br` is sent for FILE.",
	    "As `gzip_static`, for brotli. Where a client likes both as much, this one is sent."),
    LC_SIZE(struct st_conf, cache_size, "cache_size", LC_C_ROUTE, "16m", &cache_range,
	    "Memory for files, per route and process.",
	    "Contents of small files and what is known of all others; the least recently used go first. `0` keeps "
	    "nothing: each request opens its file."),
    LC_SIZE(struct st_conf, cache_max_file_size, "cache_max_file_size", LC_C_ROUTE, "64k", &file_range,
	    "The largest file whose content is kept in memory.",
	    "Larger ones are sent by the kernel from its own cache (sendfile(2))."),
    LC_MSEC(struct st_conf, cache_valid, "cache_valid", LC_C_ROUTE, "1s", &valid_range,
	    "How long what is known of a path is used without looking.",
	    "This is how long a file that was changed, added or removed may be served as it was, at most. `0`: each "
	    "request looks, and contents are still read from memory when nothing has changed."),
    LC_UINT(struct st_conf, cache_descriptors, "cache_descriptors", LC_C_ROUTE, "64", &descriptors_range,
	    "How many files may stay open, per route and process.",
	    "Of those that are too large for `cache_max_file_size`. They are given up when the process is short of "
	    "descriptors."),
};

static int
static_load(const struct lc_host *host)
{
	config = host->get("config", 1, sizeof(*config));
	return config ? 0 : -ENOTSUP;
}

static const struct lc_handler handler = {
    .size = sizeof(handler),
    .name = "static",
    .open = st_inst_make,
    .request = st_request,
    .close = st_inst_free,
};
static const struct lc_iface ifaces[] = {{LC_KIND_HANDLER, LC_HANDLER_VERSION, &handler}};
static const struct lc_module module = {
    LC_MODULE_HEAD("static", "0.1.0"),
    .summary = "files below a directory",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = directives,
    .ndirectives = sizeof(directives) / sizeof(directives[0]),
    .conf_size = sizeof(struct st_conf),
    .check = static_check,
    .load = static_load,
};
LC_MODULE_ENTRY(module)
