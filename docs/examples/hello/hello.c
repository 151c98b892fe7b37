/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hello.c - a handler module: answers the requests of a route.
 *
 *	route /hello hello { greeting "Good morning"; }
 *
 * It sees streams, not connections: the same code answers HTTP/1.1 and every other protocol.  It runs on the thread
 *that serves all connections of its process, so it must not block.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <licorne/handler.h>
#include <licorne/module.h>

struct conf {
	const char *greeting;
};
struct hello { /* one per route and process */
	const struct lc_stream_api *stream;
	const struct conf *conf;
};

static int
hello_open(struct lc_wctx *w, const struct lc_worker_api *api, const struct lc_route *route, const void *conf,
	   void **ret)
{
	struct hello *h = malloc(sizeof(*h));

	(void)route;
	if (!h) {
		static const char why[] = "hello: out of memory";
		api->boot_error(w, why, sizeof(why) - 1);
		return -ENOMEM;
	}
	h->stream = api->stream;
	h->conf = conf; /* valid until close() */
	*ret = h;
	return 0;
}

static int
hello_request(void *arg, struct lc_stream *s, const struct lc_match *m)
{
	/* what a head points to must stay valid until the stream ends: static, or from stream->alloc() */
	static const struct lc_field fields[] = {
	    {.name = {"Content-Type", 12}, .value = {"text/plain; charset=utf-8", 25}}};
	struct hello *h = arg;
	const struct lc_req *r = h->stream->req(s);
	struct lc_str who = m->rest; /* "/world" of "/hello/world"; valid during this call only */

	if (r->method.n != 3 || memcmp(r->method.p, "GET", 3) != 0)
		return LC_H_DECLINED; /* the next route, at last the application */
	if (who.n && who.p[0] == '/') {
		who.p++;
		who.n--;
	}
	if (!who.n)
		who = (struct lc_str){"world", 5};
	size_t room = strlen(h->conf->greeting) + who.n + 5;
	char *text = h->stream->alloc(s, room); /* goes with the stream */
	if (text) {
		int n = snprintf(text, room, "%s, %.*s!\n", h->conf->greeting, (int)who.n, who.p);
		struct lc_head head = {
		    .size = sizeof(head), .status = 200, .fields = fields, .nfields = 1, .length = n};
		struct lc_slice body = {.p = (const uint8_t *)text, .n = (uint64_t)n, .fd = -1};
		if (h->stream->respond(s, &head) == 0)
			h->stream->write(s, &body, 1, LC_W_FIN);
	}
	h->stream->release(s); /* our last call; an answer that was not finished is aborted */
	return LC_H_TAKEN;
}

static void
hello_close(void *h)
{
	free(h);
}

static const struct lc_handler handler = {
    .size = sizeof(struct lc_handler),
    .name = "hello",
    .open = hello_open,
    .request = hello_request,
    .close = hello_close,
};

static const struct lc_directive rows[] = {
    LC_STRING(struct conf, greeting, "greeting", LC_C_ROUTE, 0, "Hello", "how the answer begins",
	      "The rest of the path, if there is one, is whom it greets."),
};
static const struct lc_iface ifaces[] = {{LC_KIND_HANDLER, LC_HANDLER_VERSION, &handler}};
static const struct lc_module module = {
    LC_MODULE_HEAD("hello", "1.0"),
    .summary = "greets",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = 1,
    .conf_size = sizeof(struct conf),
};
LC_MODULE_ENTRY(module)
