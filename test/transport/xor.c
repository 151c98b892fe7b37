/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xor.c - a lasting transport for tests: the shape of TLS with a toy in place of the cipher.
 *
 *	client: 'X' KEY LENGTH NAME     NAME: a protocol by its ALPN name, LENGTH 0: none
 *	server: 'Y' LENGTH NAME         what it took; 'E' instead, and the end: no such protocol, or nonsense
 *	both:   records: two bytes of length, the more significant first, and as many bytes, each XOR KEY; length 0:
 *farewell
 *
 * A record counts when it is complete, so input is held back as with TLS.  It is written with nothing but the installed
 * headers.
 */
#include <errno.h>
#include <licorne/module.h>
#include <licorne/transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD 16384u

struct conf { /* as in xor.h */
	uint64_t timeout;
	uint8_t on, refuse;
};

struct inst {
	const struct lc_tr_listener *l;
	const struct conf *conf;
};

struct x {
	struct lc_conn *c;
	const struct inst *inst;
	uint8_t *part; /* an incomplete handshake or record, its length included */
	uint32_t n;
	uint8_t key, ready, over;
};

static const struct lc_transport_api *api;

static int
wanted(const void *conf)
{
	return ((const struct conf *)conf)->on;
}

static int
x_listen(const struct lc_tr_listener *l, const void *conf, void **ret, char *msg, size_t msgsize)
{
	const struct conf *cf = conf;
	struct inst *i;

	if (cf->refuse) {
		snprintf(msg, msgsize, "xor_refuse is on at %.*s", (int)l->address.n, l->address.p);
		return -EINVAL;
	}
	i = malloc(sizeof(*i));
	if (!i)
		return -ENOMEM;
	*i = (struct inst){.l = l, .conf = cf};
	*ret = i;
	return 0;
}

static int
x_open(struct lc_conn *c, void *inst, void **ret)
{
	struct x *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->c = c;
	x->inst = inst;
	api->timer(c, (int64_t)x->inst->conf->timeout);
	*ret = x;
	return 0;
}

static void
x_close(void *t)
{
	struct x *x = t;

	free(x->part);
	free(x);
}

static int
failed(struct x *x, const char *why)
{
	api->log(x->c, LC_LOG_INFO, "xor: %s", why);
	api->raw(x->c, "E", 1);
	return -EPROTO;
}

/* All of the handshake is in part. */
static int
shake(struct x *x)
{
	struct lc_str name = {(const char *)x->part + 3, x->part[2]};
	char answer[2] = {'Y', (char)name.n}, key[4];
	const char *const *a = x->inst->l->alpn;
	int n;

	x->key = x->part[1];
	while (name.n && *a && (strlen(*a) != name.n || memcmp(*a, name.p, name.n) != 0))
		a++;
	if (name.n && !*a)
		return failed(x, "no such protocol");
	n = snprintf(key, sizeof(key), "%u", x->key);
	if (api->raw(x->c, answer, 2) < 0 || api->raw(x->c, name.p, name.n) < 0 ||
	    api->fact(x->c, (struct lc_str){"XOR_KEY", 7}, (struct lc_str){key, (size_t)n}) < 0 ||
	    api->fact(x->c, (struct lc_str){"XOR_NAME", 8}, name) < 0)
		return -ENOMEM;
	x->ready = 1;
	api->established(x->c, name);
	return 0;
}

/* How long the handshake or record in part is, as far as is known. */
static uint32_t
whole(const struct x *x)
{
	if (!x->ready)
		return x->n < 3 ? 3 : 3u + x->part[2];
	return x->n < 2 ? 2 : 2 + (uint32_t)(x->part[0] << 8 | x->part[1]);
}

static int
x_input(void *t, const uint8_t *p, size_t n, uint8_t *out, size_t *produced)
{
	struct x *x = t;
	int r = LC_TR_GO;

	while (n && !x->over) {
		if (!x->part && !(x->part = malloc(RECORD + 2)))
			return -ENOMEM;
		uint32_t want = whole(x) - x->n, take = n < want ? (uint32_t)n : want;
		memcpy(x->part + x->n, p, take);
		x->n += take;
		p += take;
		n -= take;
		if (!x->ready && x->part[0] != 'X')
			return failed(x, "this is no handshake");
		if (whole(x) > RECORD + 2)
			return failed(x, "a record too long");
		if (x->n < whole(x))
			continue;
		if (!x->ready) {
			r = shake(x);
			if (r < 0)
				return r;
		} else if (x->n == 2) {
			x->over = 1;
			r = LC_TR_EOF;
		} else {
			for (uint32_t k = 2; k < x->n; k++)
				out[(*produced)++] = x->part[k] ^ x->key;
		}
		x->n = 0;
	}
	return r;
}

static int
record(struct x *x, const uint8_t *p, uint32_t n)
{
	uint8_t len[2] = {(uint8_t)(n >> 8), (uint8_t)n};
	int r = api->raw(x->c, len, 2);

	return r < 0 || !n ? r : api->raw(x->c, p, n);
}

static int
x_output(void *t, const struct lc_str *v, uint32_t n)
{
	struct x *x = t;
	uint8_t buf[RECORD];
	uint32_t at = 0;
	int r = 0;

	for (uint32_t k = 0; k < n && r >= 0; k++)
		for (size_t j = 0; j < v[k].n && r >= 0; j++) {
			buf[at++] = (uint8_t)v[k].p[j] ^ x->key;
			if (at == RECORD) {
				r = record(x, buf, at);
				at = 0;
			}
		}
	return r < 0 || !at ? r : record(x, buf, at);
}

static int
x_shutdown(void *t)
{
	return record(t, NULL, 0);
}

static void
x_idle(void *t)
{
	struct x *x = t;

	if (x->n)
		return; /* a record is on its way */
	free(x->part);
	x->part = NULL;
}

static void
x_timeout(void *t)
{
	struct x *x = t;

	api->log(x->c, LC_LOG_INFO, "xor: the handshake took longer than xor_timeout");
}

static const struct lc_transport ops = {
    .size = sizeof(struct lc_transport),
    .flags = LC_TR_SECURE,
    .name = "xor",
    .wanted = wanted,
    .listen = x_listen,
    .unlisten = free,
    .open = x_open,
    .close = x_close,
    .input = x_input,
    .output = x_output,
    .shutdown = x_shutdown,
    .idle = x_idle,
    .timeout = x_timeout,
};

static int
load(const struct lc_host *h)
{
	api = h->get("transport", 1, sizeof(*api));
	return api ? 0 : -ENOSYS;
}

static const struct lc_directive rows[] = {
    LC_FLAG(struct conf, on, "xor", LC_C_MAIN | LC_C_POOL | LC_C_LISTEN, "off", "Use it.", "Asks for the transport."),
    LC_FLAG(struct conf, refuse, "xor_refuse", LC_C_LISTEN, "off", "Fail.", "Makes listen() fail."),
    LC_MSEC(struct conf, timeout, "xor_timeout", LC_C_LISTEN, "10s", NULL, "Time for the handshake.",
	    "From the first on."),
};
static const struct lc_iface ifaces[] = {{.kind = LC_KIND_TRANSPORT, .version = LC_TRANSPORT_VERSION, .ops = &ops}};
static const struct lc_module module = {
    LC_MODULE_HEAD("xor", "1.0"),
    .summary = "A transport for tests.",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct conf),
    .load = load,
};
LC_MODULE_ENTRY(module)
