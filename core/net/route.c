/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route.c - requests to handler modules: the table, the match, the events of their streams.
 *
 * A request is offered to every route whose prefix its normal path starts with, longest first, until one takes it; the
 * worker gets what is left.  Trap: the worker's application sees the path before "." and ".." are resolved.  What lies
 * in a route by its text, but not by its normal form ("/private/../x"), would reach the application past the route and
 * may still mean "/private/" there: it is refused, as are paths that have no normal form.
 */
#include "net/route.h"

#include <errno.h>
#include <licorne/tokens.h>
#include <stdlib.h>
#include <string.h>

#include "log/log.h"
#include "net/path.h"

#define PATH_SMALL 1024u /* normalised on the stack */

/* ---- the table ---- */

int
lc_routes_add(struct lc_srv *srv, const struct lc_handler *h, uint32_t index, const char *prefix, const void *conf)
{
	struct lc_rt *rt = calloc(1, sizeof(*rt));
	int r;

	if (!srv->routes)
		srv->routes = calloc(1, sizeof(*srv->routes));
	if (!rt || !srv->routes) {
		free(rt);
		return -ENOMEM;
	}
	rt->h = h;
	rt->pub = (struct lc_route){.size = sizeof(rt->pub), .index = index, .prefix = {prefix, strlen(prefix)}};
	r = h->open(&srv->ctx, lc_worker_table(), &rt->pub, conf, &rt->obj);
	if (r < 0) {
		free(rt);
		return r;
	}
	struct lc_rt **pp = &srv->routes->first;
	while (*pp && (*pp)->pub.prefix.n >= rt->pub.prefix.n)
		pp = &(*pp)->next;
	rt->next = *pp;
	*pp = rt;
	return 0;
}

void
lc_routes_close(struct lc_srv *srv)
{
	if (!srv->routes)
		return;
	while (srv->routes->first) {
		struct lc_rt *rt = srv->routes->first;
		srv->routes->first = rt->next;
		if (rt->h->close)
			rt->h->close(rt->obj);
		free(rt);
	}
	free(srv->routes);
	srv->routes = NULL;
}

static inline int
starts_with(struct lc_str s, struct lc_str prefix)
{
	return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

/* ---- requests ---- */

static const struct lc_stream_api *const api = &lc_stream_table;

/* The stream is to be answered by nobody else. */
static void
refuse(struct lc_stream *s, const char *why)
{
	static const struct lc_field fields[] = {{{"content-type", 12}, {"text/plain", 10}, LC_TOK_CONTENT_TYPE, 0, 0}};
	static const char text[] = "Bad Request\n";
	static const struct lc_head bad = {
	    .size = sizeof(bad), .status = 400, .nfields = 1, .fields = fields, .length = sizeof(text) - 1};
	static const struct lc_slice body = {.p = (const uint8_t *)text, .n = sizeof(text) - 1, .fd = -1};

	lc_log(LC_LOG_INFO, "%.*s: request refused with 400: %s", s->req.peer.n ? (int)s->req.peer.n : 4,
	       s->req.peer.n ? s->req.peer.p : "unix", why);
	if (api->respond(s, &bad) == 0)
		api->write(s, &body, 1, LC_W_FIN);
	api->release(s);
}

/* Offer it along the routes.  1: taken. */
static int
offer(struct lc_srv *srv, struct lc_stream *s, struct lc_str path)
{
	struct lc_match m = {.size = sizeof(m), .path = path};

	for (const struct lc_rt *rt = srv->routes->first; rt; rt = rt->next) {
		size_t k = rt->pub.prefix.n;
		if (!starts_with(path, rt->pub.prefix))
			continue;
		m.rest = (struct lc_str){path.p + k, path.n - k};
		s->route = rt;
		if (s->flight)
			__atomic_store_n(&s->flight->phase, LC_FL_ROUTE, __ATOMIC_RELAXED);
		srv->handled++;
		int r = rt->h->request(rt->obj, s, &m);
		if (r == LC_H_TAKEN)
			return 1;
		if (r != LC_H_DECLINED) { /* not offered to others: it may be meant to be kept from them */
			lc_log(LC_LOG_ERROR, "route %.*s: handler %s failed: %s", (int)k, rt->pub.prefix.p, rt->h->name,
			       r < 0 ? strerror(-r) : "unknown outcome");
			if (!s->released) {
				api->reset(s, LC_RSN_APP_ERROR);
				api->release(s);
			}
			return 1;
		}
		LC_ASSERT(!s->released && !s->responded && !s->in_consumed && !s->shared);
		s->route = NULL;
		if (s->flight)
			__atomic_store_n(&s->flight->phase, LC_FL_QUEUED, __ATOMIC_RELAXED);
		s->user = NULL;
		srv->handled--;
	}
	return 0;
}

static int
offer_odd(struct lc_srv *srv, struct lc_stream *s, char *buf)
{
	struct lc_path path;

	switch (lc_path_normalise(&path, buf, s->req.path.p, s->req.path.n)) {
	case LC_PATH_NONE:
		return 0;
	case LC_PATH_NUL:
		refuse(s, "NUL in the path");
		return 1;
	case LC_PATH_ABOVE:
		refuse(s, "the path leads above the root");
		return 1;
	}
	if (path.path.n != path.plain.n)
		for (const struct lc_rt *rt = srv->routes->first; rt; rt = rt->next)
			if (starts_with(path.plain, rt->pub.prefix) && !starts_with(path.path, rt->pub.prefix)) {
				refuse(s, "the path leads out of a route by \"..\"");
				return 1;
			}
	return offer(srv, s, path.path);
}

int
lc_route_request(struct lc_srv *srv, struct lc_stream *s)
{
	struct lc_str raw = s->req.path;
	char small[PATH_SMALL], *buf = small;

	if (lc_path_is_normal(raw.p, raw.n))
		return offer(srv, s, raw);
	if (2 * raw.n > sizeof(small) && !(buf = malloc(2 * raw.n))) {
		api->reset(s, LC_RSN_APP_ERROR);
		api->release(s);
		return 1;
	}
	int r = offer_odd(srv, s, buf);
	if (buf != small)
		free(buf);
	return r;
}

void
lc_route_events(struct lc_stream *s, uint32_t ev)
{
	const struct lc_handler *h = s->route->h;
	void *obj = s->route->obj;

	if (ev & LC_SE_ABORT) {
		/* Who does not want to be told has to find it out: nobody else would release the stream. */
		if (h->abort)
			h->abort(obj, s, s->reason);
		else if (h->writable)
			h->writable(obj, s);
		else if (h->readable)
			h->readable(obj, s);
		return;
	}
	if ((ev & LC_SE_READABLE) && h->readable)
		h->readable(obj, s);
	if ((ev & LC_SE_WRITABLE) && h->writable && !s->released)
		h->writable(obj, s);
}
