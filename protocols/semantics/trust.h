/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/semantics/trust.h - what proxies say of the client: X-Forwarded-*, X-Real-IP, Forwarded (RFC 7239).
 *
 * A protocol module has a struct lc_trust_conf in its own, LC_TRUST_ROWS among its rows, calls lc_trust_check() from
 * its check(), lc_trust_get() when a connection is opened, and lc_trust_apply() for each request when that gave
 * something.
 */
#ifndef LC_PROTO_TRUST_H
#define LC_PROTO_TRUST_H

#include <licorne/config.h>
#include <licorne/stream.h>

struct lc_trust_conf {
	struct lc_list from, headers;
	const char *address; /* name of the field that has it, or "off" */
	uint8_t recursive;
};
struct lc_trust; /* the same, compiled */

/* 0, or -EINVAL after config->error(). */
int lc_trust_check(const struct lc_trust_conf *, const struct lc_config_api *, struct lc_err *);
/* Compiled at the first call for this configuration, which must live as long as the process.  0 and *ret, NULL: nobody
 * is trusted; -ENOMEM. */
int lc_trust_get(const struct lc_trust_conf *, const struct lc_trust **ret);

/* lc_trust_apply() outcomes */
#define LC_TRUST_OK 0
#define LC_TRUST_CONTRADICTION 1 /* what is believed says two things: the request is to be refused with 400 */

/*
 * Put what a trusted peer says into a request that is complete but for stream_head(): peer, peer_port, scheme,
 * authority and the Host field, local_port.  The fields must be the protocol's own memory, in the stream's arena: Host
 * is written to.  *known is 0 on a new connection and remembers whether its peer is trusted.  *ignored is set to what
 * was not believed, if anything, for the debug log.  0, LC_TRUST_CONTRADICTION, or -ENOMEM.
 */
int lc_trust_apply(const struct lc_trust *, uint8_t *known, struct lc_req *, struct lc_stream *,
		   void *(*alloc)(struct lc_stream *, size_t), const char **ignored);

/* One element of Forwarded, from the right: *n is shortened by it.  Values are within it, without quotes; {NULL, 0}:
 * absent.  1; 0: there is none; -1: malformed. */
struct lc_forwarded {
	struct lc_str by_for, proto, host;
};
int lc_forwarded_last(struct lc_forwarded *ret, const char *, size_t *n);

/* clang-format off: the documentation is wrapped by hand */
#define LC_TRUST_ROWS(S, m, where)                                                                                     \
	LC_LIST(S, m.from, "set_real_ip_from", where, NULL, "CIDR | ADDRESS | unix: | * ...",                          \
		"Proxies that are believed when they say who the client is.",                                          \
		"Addresses and networks; `unix:` is whoever connects to a UNIX socket, `*` is everybody. What counts " \
		"is who has\n"                                                                                         \
		"connected, or, behind `proxy_protocol`, who that says. Requests of everybody else are passed on "     \
		"with their\n"                                                                                         \
		"fields untouched, and nothing in them is believed. Not set: nobody is believed.\n"                    \
		"\n"                                                                                                   \
		"What is believed is in `real_ip_header` and `trusted_headers`. Name no field that the proxy does "    \
		"not set:\n"                                                                                           \
		"the client can.\n"                                                                                    \
		"[How to run behind a proxy](../proxies.md) has examples."),                                           \
	    LC_STRING(S, m.address, "real_ip_header", where, 0, "X-Forwarded-For",                                     \
		      "Which field of a trusted proxy names the client.",                                              \
		      "`X-Forwarded-For`, `X-Real-IP`, `Forwarded` (RFC 7239), or any other field that holds "         \
		      "addresses, with or\n"                                                                           \
		      "without a port; `off`: none. The client becomes `REMOTE_ADDR` and `REMOTE_PORT` (empty "        \
		      "without a port), in\n"                                                                          \
		      "the access log, too.\n"                                                                         \
		      "\n"                                                                                             \
		      "Proxies append to the list, so it is read from the right. What is no address ends the "         \
		      "reading, and what was\n"                                                                        \
		      "found up to there holds. nginx's default is `X-Real-IP`."),                                     \
	    LC_FLAG(S, m.recursive, "real_ip_recursive", where, "on",                                                  \
		    "Go on to the left while the addresses are trusted, too.",                                         \
		    "`on`: the client is the right-most address that `set_real_ip_from` does not have, or the "        \
		    "left-most if it has\n"                                                                            \
		    "all. `off`: the right-most address. nginx's default is `off`."),                                  \
	    LC_LIST(S, m.headers, "trusted_headers", where, "X-Forwarded-Proto", "FIELD ...",                          \
		    "What else a trusted proxy is believed to say.",                                                   \
		    "`X-Forwarded-Proto`: the scheme that the client used, `http` or `https` (`ws` and `wss` are the " \
		    "same):\n"                                                                                         \
		    "`wsgi.url_scheme`. `X-Forwarded-Host`: the host that it asked for: `HTTP_HOST`. "                 \
		    "`X-Forwarded-Port`: the port\n"                                                                   \
		    "that it connected to: `SERVER_PORT`, and in `HTTP_HOST` if there is none and it is not the "      \
		    "scheme's own.\n"                                                                                  \
		    "`Forwarded`: `proto` and `host` of the element that names the client. `none`: nothing.\n"         \
		    "\n"                                                                                               \
		    "Of a list in one field the right-most element counts. A value that is none is ignored. Two "      \
		    "fields that\n"                                                                                    \
		    "contradict each other are answered with 400.")
/* clang-format on */

#endif
