/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handler.c - a handler module for the tests of routes: `mode` says what becomes of a request.
 *
 *	hello    how the request was matched, as text
 *	decline  not taken
 *	fail     request() returns an error
 *	echo     the request body, as it comes
 *	stream   `size` bytes of a pattern, written as room allows
 *	flush    ten pieces with LC_W_FLUSH at once; says whether anything was called meanwhile
 *	wait     what wait() says
 *	post     answers from a posted call, outside of any callback about the stream
 *	hold     no answer, ever, until the client is gone
 *	count    how many streams were taken, aborted and are still held by all routes of this process
 */
#include <errno.h>
#include <licorne/handler.h>
#include <licorne/module.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conf {
	const char *mode, *boot_error;
	uint64_t size;
};

struct route {
	const struct conf *conf;
	const struct lc_route *route;
	struct lc_wctx *ctx;
};

struct job { /* in the stream's arena */
	struct lc_stream *s;
	uint64_t left, at;
	int echo;
};

static const struct lc_worker_api *api;
static const struct lc_stream_api *st;
static uint64_t taken, aborted, held;
static int inside; /* a callback is on the stack */

static void
enter(void)
{
	if (inside++)
		abort(); /* called while it was being called */
}

static void
leave(void)
{
	inside--;
}

static void
let_go(struct lc_stream *s)
{
	held--;
	st->release(s);
}

static void
say(struct lc_stream *s, uint32_t status, const char *text)
{
	static const struct lc_field type = {{"Content-Type", 12}, {"text/plain", 10}, 0, 0, 0};
	struct lc_head h = {
	    .size = sizeof(h), .status = status, .nfields = 1, .fields = &type, .length = (int64_t)strlen(text)};
	struct lc_slice sl = {.p = (const uint8_t *)text, .n = strlen(text), .fd = -1, .flags = LC_SL_COPY};

	if (st->respond(s, &h) == 0)
		st->write(s, &sl, 1, LC_W_FIN);
	let_go(s);
}

static int
h_open(struct lc_wctx *ctx, const struct lc_worker_api *a, const struct lc_route *route, const void *conf, void **ret)
{
	const struct conf *c = conf;
	struct route *r;

	api = a;
	st = a->stream;
	if (c->boot_error) {
		if (*c->boot_error)
			a->boot_error(ctx, c->boot_error, strlen(c->boot_error));
		return -EINVAL;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct route){c, route, ctx};
	*ret = r;
	return 0;
}

static void
h_close(void *h)
{
	free(h);
}

/* As much of the pattern as there is room for. */
static void
put_pattern(struct job *j)
{
	char buf[10000];

	while (j->left) {
		size_t n = j->left < sizeof(buf) ? j->left : sizeof(buf);
		for (size_t k = 0; k < n; k++)
			buf[k] = (char)('a' + (j->at + k) % 26);
		struct lc_slice sl = {.p = (const uint8_t *)buf, .n = n, .fd = -1, .flags = LC_SL_COPY};
		j->left -= n;
		j->at += n;
		int r = st->write(j->s, &sl, 1, j->left ? 0 : LC_W_FIN);
		if (r < 0)
			j->left = 0;
		if (r == 1)
			return; /* writable() goes on */
	}
	let_go(j->s);
}

static void
put_echo(struct job *j)
{
	char buf[8192];
	int64_t n;

	while ((n = st->read(j->s, buf, sizeof(buf))) > 0) {
		struct lc_slice sl = {.p = (const uint8_t *)buf, .n = (uint64_t)n, .fd = -1, .flags = LC_SL_COPY};
		int r = st->write(j->s, &sl, 1, 0);
		if (r == 1)
			return;
		if (r < 0) {
			let_go(j->s);
			return;
		}
	}
	if (n == -EAGAIN)
		return;
	if (n == 0)
		st->finish(j->s, NULL, 0);
	let_go(j->s);
}

static void
h_writable(void *h, struct lc_stream *s)
{
	struct job *j = st->user(s);

	enter();
	if (j && j->echo)
		put_echo(j);
	else if (j)
		put_pattern(j);
	leave();
}

static void
h_readable(void *h, struct lc_stream *s)
{
	struct job *j = st->user(s);

	enter();
	if (j && j->echo)
		put_echo(j);
	leave();
}

static void
h_abort(void *h, struct lc_stream *s, uint32_t reason)
{
	struct route *r = h;

	enter();
	aborted++;
	api->log(r->ctx, LC_LOG_INFO, "t_handler: abort with reason %u", reason);
	let_go(s);
	leave();
}

static void
posted(void *arg)
{
	say(arg, 200, "posted\n");
}

static int
h_request(void *h, struct lc_stream *s, const struct lc_match *m)
{
	struct route *r = h;
	const char *mode = r->conf->mode;
	char text[4096];

	if (!strcmp(mode, "decline"))
		return LC_H_DECLINED;
	if (!strcmp(mode, "fail"))
		return -EIO;
	enter();
	taken++;
	held++;
	if (!strcmp(mode, "echo") || !strcmp(mode, "stream")) {
		struct lc_head head = {.size = sizeof(head), .status = 200, .length = -1};
		struct job *j = st->alloc(s, sizeof(*j));
		*j = (struct job){.s = s, .left = r->conf->size, .echo = *mode == 'e'};
		st->set_user(s, j);
		if (!j->echo)
			head.length = (int64_t)j->left;
		st->respond(s, &head);
		if (j->echo)
			put_echo(j);
		else
			put_pattern(j);
	} else if (!strcmp(mode, "flush")) {
		static const struct lc_head head = {.size = sizeof(head), .status = 200, .length = -1};
		st->respond(s, &head);
		for (int k = 0; k < 10; k++) {
			struct lc_slice sl = {
			    .p = (const uint8_t *)"0123456789" + k, .n = 1, .fd = -1, .flags = LC_SL_COPY};
			st->write(s, &sl, 1, LC_W_FLUSH);
		}
		st->finish(s, NULL, 0);
		let_go(s);
	} else if (!strcmp(mode, "wait")) {
		snprintf(text, sizeof(text), "%d %d\n", st->wait(s, LC_EV_READ, -1) == -EDEADLK,
			 st->wait(s, LC_EV_WRITE, 0) == -EDEADLK);
		say(s, 200, text);
	} else if (!strcmp(mode, "post")) {
		api->post(r->ctx, posted, s);
	} else if (!strcmp(mode, "hold")) {
		api->log(r->ctx, LC_LOG_INFO, "t_handler: holds a stream");
	} else if (!strcmp(mode, "count")) {
		snprintf(text, sizeof(text), "taken %llu aborted %llu held %llu\n", (unsigned long long)taken - 1,
			 (unsigned long long)aborted, (unsigned long long)held - 1);
		say(s, 200, text);
	} else {
		snprintf(text, sizeof(text), "%u %.*s [%.*s] [%.*s]\n", r->route->index, (int)r->route->prefix.n,
			 r->route->prefix.p, (int)m->path.n, m->path.p, (int)m->rest.n, m->rest.p);
		say(s, 200, text);
	}
	leave();
	return LC_H_TAKEN;
}

static const struct lc_handler ops = {
    .size = sizeof(ops),
    .name = "t_handler",
    .open = h_open,
    .request = h_request,
    .readable = h_readable,
    .writable = h_writable,
    .abort = h_abort,
    .close = h_close,
};
static const struct lc_iface ifaces[] = {{LC_KIND_HANDLER, LC_HANDLER_VERSION, &ops}};
static const struct lc_directive rows[] = {
    LC_STRING(struct conf, mode, "mode", LC_C_ROUTE, 0, "hello", "What becomes of requests.", "See the source."),
    LC_STRING(struct conf, boot_error, "boot_error", LC_C_ROUTE, 0, NULL, "open() fails.", "Its text."),
    LC_SIZE(struct conf, size, "size", LC_C_ROUTE, "0", NULL, "Bytes of a response.", "Of mode `stream`."),
};
static const struct lc_module module = {
    LC_MODULE_HEAD("t_handler", "0.1.0"),
    .summary = "a handler for tests",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct conf),
};
LC_MODULE_ENTRY(module)
