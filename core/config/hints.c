/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/hints.c - words that administrators know from nginx and from other application servers, and what they are
 * called here.
 *
 * Asked only for what is a mistake already: a directive that nobody has, a word behind an address that is no transport.
 * A row is for words that many configurations have; what merely looks like one of ours is found by its distance.
 */
#include "config/conf_priv.h"

#include <string.h>

struct hint {
	const char *word, *says;
};

static const struct hint directives[] = {
    {"accesslog", "write: access_log PATH [FORMAT];"},
    {"alias", "write: route PREFIX static { root DIRECTORY; }"},
    {"bind", "write in a pool: listen ADDRESS;"},
    {"certfile", "write: certificate FILE; certificate_key FILE;"},
    {"client_body_timeout", "write: body_timeout TIME;"},
    {"client_header_timeout", "write: head_timeout TIME;"},
    {"client_max_body_size", "write: limit_request_body SIZE;"},
    {"daemon", "licorne stays in the foreground, leave it out"},
    {"errorlog", "write: error_log PATH [LEVEL];"},
    {"events", "there is no such block, write at the main level what stands in it"},
    {"gzip", "nothing is compressed here; the module static sends files that are (gzip_static)"},
    {"http", "there is no such block, write at the main level what stands in it"},
    {"keepalive", "write: keepalive_timeout TIME;"},
    {"keyfile", "write: certificate FILE; certificate_key FILE;"},
    {"large_client_header_buffers", "write: limit_request_head SIZE;"},
    {"location", "write: route PREFIX HANDLER { ... }"},
    {"loglevel", "write: error_log PATH LEVEL;"},
    {"pid", "write: pid_file PATH;"},
    {"pidfile", "write: pid_file PATH;"},
    {"preload_app", "write: preload on;"},
    {"proxy_pass", "licorne is no proxy, it runs the application: worker MODULE { ... }"},
    {"return", "write: route PREFIX return { status NUMBER; }"},
    {"rewrite", "write: route PREFIX return { status 301; location URL; }"},
    {"sendfile", "it is always on, leave it out"},
    {"server", "write: pool NAME { listen ADDRESS; worker MODULE { ... } }"},
    {"server_name", "a pool answers for every host, leave it out; certificates are chosen by their names"},
    {"ssl_certificate", "write: certificate FILE;"},
    {"ssl_certificate_key", "write: certificate_key FILE;"},
    {"ssl_ciphers", "write: tls_ciphers LIST;"},
    {"ssl_client_certificate", "write: tls_client_ca FILE;"},
    {"ssl_password_file", "write: certificate_passphrase FILE;"},
    {"ssl_protocols", "write: tls_min_version TLSv1.2 | TLSv1.3;"},
    {"ssl_session_tickets", "write: tls_session_tickets on | off;"},
    {"ssl_verify_client", "write: tls_verify off | optional | required;"},
    {"tcp_nodelay", "it is always on, leave it out"},
    {"timeout", "write: request_timeout TIME; for calls, heartbeat_timeout TIME; for a process that hangs"},
    {"try_files", "write: route PREFIX static { root DIRECTORY; fallback on | /FILE; }"},
    {"upstream", "licorne is no proxy, it runs the application: worker MODULE { ... }"},
    {"uwsgi_pass", "licorne is no proxy, it runs the application: worker MODULE { ... }"},
    {"worker_class", "write in a pool: worker MODULE { ... }"},
    {"worker_processes", "write: processes NUMBER | auto;"},
    {"workers", "write: processes NUMBER | auto;"},
    {"wsgi_app", "write in the worker's block: app MODULE:NAME;"},
};

static const struct hint listens[] = {
    {"backlog", "write: listen ADDRESS { backlog NUMBER; }"},
    {"default_server",
     "the first pair of certificate and certificate_key is for names that no other has, leave it out"},
    {"deferred", "leave it out"},
    {"http2", "it is spoken at every address when it is loaded: load_module http2;"},
    {"ipv6only", "write: listen ADDRESS { ipv6only on | off; }"},
    {"quic", "there is no HTTP/3 here"},
    {"reuseport", "the arbiter opens each address once, for all processes, leave it out"},
    {"so_keepalive", "leave it out"},
    {"ssl", "write: load_module tls; and: listen ADDRESS tls { ... }"},
};

static const char *
find(const struct hint *h, size_t n, const char *word, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(h[i].word) == len && !memcmp(h[i].word, word, len))
			return h[i].says;
	return NULL;
}

const char *
lc__hint_directive(const char *name)
{
	return find(directives, sizeof(directives) / sizeof(directives[0]), name, strlen(name));
}

const char *
lc__hint_listen(const char *word)
{
	return find(listens, sizeof(listens) / sizeof(listens[0]), word, strcspn(word, "="));
}
