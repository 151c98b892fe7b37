/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules/proxy_protocol/module.c - the PROXY protocol as a transport: a prologue that says who the client is.
 *
 * The header is an assertion by whoever connects, so it is only taken from addresses on a list; and because a listener
 * with this transport cannot tell a header from a client's own bytes, whoever is not on it is turned away and not
 * served without one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <licorne/module.h>
#include <licorne/transport.h>

#include "header.h"

struct conf {
	struct lc_list from;
	uint64_t timeout;
	uint8_t on;
};

struct inst {
	struct lc_nets *from;
	const struct conf *conf;
};

static const struct lc_transport_api *api;
static const struct lc_config_api *config;

static int
pp_wanted(const void *conf)
{
	return ((const struct conf *)conf)->on;
}

static int
pp_listen(const struct lc_tr_listener *l, const void *conf, void **ret, char *msg, size_t msgsize)
{
	struct inst *i = malloc(sizeof(*i));
	int r;

	(void)l;
	if (!i)
		return -ENOMEM;
	i->conf = conf;
	r = lc_nets_parse(&i->from, &i->conf->from, msg, msgsize);
	if (r < 0) {
		free(i);
		return r;
	}
	*ret = i;
	return 0;
}

static void
pp_unlisten(void *inst)
{
	struct inst *i = inst;

	free(i->from);
	free(i);
}

static int
pp_open(struct lc_conn *c, void *inst, void **t)
{
	const struct inst *i = inst;

	if (!lc_nets_hold_peer(i->from, api->peer(c))) {
		api->log(c, LC_LOG_NOTICE,
			 "closed: proxy_protocol_from does not have this address, which may not say who the client is");
		return -EPERM;
	}
	if (i->conf->timeout)
		api->timer(c, i->conf->timeout > INT64_MAX ? INT64_MAX : (int64_t)i->conf->timeout);
	*t = c;
	return 0;
}

static void
pp_close(void *t)
{
	(void)t; /* nothing of its own */
}

static int
set(struct lc_conn *c, int (*to)(struct lc_conn *, struct lc_str, uint16_t), struct lc_ip ip, uint16_t port)
{
	char text[LC_IP_TEXT];
	size_t n = lc_ip_print(ip, text);

	return to(c, (struct lc_str){text, n}, port);
}

static int
pp_header(void *t, const uint8_t *p, size_t n, size_t *used)
{
	struct lc_conn *c = t;
	struct pp_header h;
	const char *why;
	int r = pp_parse(&h, p, n, &why);

	if (r < 0) {
		api->log(c, LC_LOG_NOTICE, "closed: PROXY protocol: %s", why);
		return -EPROTO;
	}
	if (r == 0)
		return LC_TR_GO;
	*used = (size_t)r;
	if (h.kind == PP_UNIX)
		r = api->set_peer(c, (struct lc_str){"", 0}, 0);
	else if (h.kind == PP_IP)
		r = set(c, api->set_local, h.dst, h.dst_port) < 0 ? -ENOMEM : set(c, api->set_peer, h.src, h.src_port);
	return r < 0 ? r : LC_TR_ASIDE;
}

static void
pp_timeout(void *t)
{
	api->log(t, LC_LOG_NOTICE, "closed: PROXY protocol: no complete header within proxy_protocol_timeout");
}

#define WHERE (LC_C_MAIN | LC_C_POOL | LC_C_LISTEN)

/* clang-format off: the documentation is wrapped by hand */
static const struct lc_directive rows[] = {
    LC_FLAG(
	struct conf, on, "proxy_protocol", WHERE, "off", "Connections begin with a PROXY protocol header.",
	"Version 1 (a line of text) and version 2 (binary), as haproxy, nginx, AWS network load balancers and others\n"
	"send them. The addresses in it are the connection's from then on: the client is `REMOTE_ADDR` and\n"
	"`REMOTE_PORT`, access log included, and the address that it connected to is `SERVER_NAME` and `SERVER_PORT`.\n"
	"A header that names none (`LOCAL`, `UNKNOWN`), as health checks send it, leaves them as they are.\n"
	"\n"
	"Who may connect then is in `proxy_protocol_from`. A connection without a header, or with one that is not\n"
	"exactly right, is closed, and the error log says why. `listen ADDRESS proxy_protocol;` is the same for one\n"
	"address."),
    LC_LIST(
	struct conf, from, "proxy_protocol_from", WHERE, "127.0.0.1 ::1 unix:", "CIDR | ADDRESS | unix: | * ...",
	"Who may say who the client is.",
	"Addresses and networks of the proxies that connect to an address with `proxy_protocol`. `unix:` is whoever\n"
	"connects to a UNIX socket, `*` is everybody. From any other address the connection is closed: nothing that "
	"it\n"
	"says is believed, nor taken for a request."),
    LC_MSEC(struct conf, timeout, "proxy_protocol_timeout", WHERE, "10s", NULL,
	    "How long the PROXY protocol header may take.",
	    "From the connection to the last byte of the header. `0`: no limit."),
};
/* clang-format on */

static int
check(const void *conf, struct lc_err *err)
{
	const struct conf *c = conf;
	struct lc_nets *nets;
	char why[256];

	if (lc_nets_parse(&nets, &c->from, why, sizeof(why)) < 0) {
		config->error(err, "proxy_protocol_from", "proxy_protocol_from: %s", why);
		return -EINVAL;
	}
	free(nets);
	return 0;
}

static const struct lc_transport ops = {
    .size = sizeof(struct lc_transport),
    .name = "proxy_protocol",
    .header_max = PP_MAX,
    .wanted = pp_wanted,
    .listen = pp_listen,
    .unlisten = pp_unlisten,
    .open = pp_open,
    .close = pp_close,
    .header = pp_header,
    .timeout = pp_timeout,
};

static int
load(const struct lc_host *host)
{
	api = host->get("transport", 1, sizeof(*api));
	config = host->get("config", 1, sizeof(*config));
	return api && config ? 0 : -ENOSYS;
}

static const struct lc_iface ifaces[] = {{.kind = LC_KIND_TRANSPORT, .version = LC_TRANSPORT_VERSION, .ops = &ops}};

static const struct lc_module module = {
    LC_MODULE_HEAD("proxy_protocol", "0.1.0"),
    .summary = "The client's address by the PROXY protocol, versions 1 and 2",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct conf),
    .check = check,
    .load = load,
};
LC_MODULE_ENTRY(module)
