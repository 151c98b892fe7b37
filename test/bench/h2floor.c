/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * h2floor.c - the floor of HTTP/2 over TLS: nghttp2, OpenSSL and one call of the WSGI application for each request.
 *
 * What licorne is made of, and nothing else: one thread, one epoll; SSL_read() into 64 KB with read-ahead,
 * nghttp2_session_mem_recv(), the call (pyfloor.h) in the frame callback, and all that nghttp2 has to send in 16 KB
 * buffers, one SSL_write() each.  No header is looked at, no body is read, nothing is limited, timed, logged or
 * checked.
 *
 * A reader that falls behind (a short write) is dropped: the load generators here always read.
 * "edge" reads until the socket is empty, "level" only while there is more in OpenSSL, which spares a read() per turn.
 *
 * usage: h2floor PORT CERTIFICATE KEY [level|edge]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pyfloor.h"

#define MAX_EVENT 256
#define READ_SIZE 65536
#define WRITE_SIZE 16384
#define BODY_SIZE 64

struct conn {
	int fd;
	SSL *ssl;
	nghttp2_session *session; /* NULL: still shaking hands */
};

struct answer {
	struct answer *next; /* in the list of free ones */
	size_t len;
	uint8_t body[BODY_SIZE];
};

static SSL_CTX *tls;
static nghttp2_session_callbacks *callbacks;
static nghttp2_option *option;
static struct answer *spare;
static int edge;
static uint8_t input[READ_SIZE], output[WRITE_SIZE];

static void
die(const char *what)
{
	perror(what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static ssize_t
floor_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room, uint32_t *flags, nghttp2_data_source *source,
	   void *user)
{
	const struct answer *a = source->ptr;

	(void)s;
	(void)id;
	(void)user;
	if (room < a->len)
		return NGHTTP2_ERR_DEFERRED; /* never: the window is larger */
	memcpy(buf, a->body, a->len);
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)a->len;
}

#define NV(n, v)                                                                 \
	{                                                                        \
		(uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1,    \
		    NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE \
	}

static int
floor_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
	static const nghttp2_nv nv[] = {NV(":status", "200"), NV("content-type", "text/plain"),
					NV("content-length", "13")};
	nghttp2_data_provider data = {.read_callback = floor_body};
	struct answer *a = spare;
	ssize_t n;

	(void)user;
	if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	if (a)
		spare = a->next;
	else if (!(a = malloc(sizeof(*a))))
		die("malloc");
	n = floor_call(0, (char *)a->body, sizeof(a->body));
	if (n != 13)
		die("the application's answer");
	a->len = (size_t)n;
	data.source.ptr = a;
	nghttp2_session_set_stream_user_data(s, frame->hd.stream_id, a);
	return nghttp2_submit_response(s, frame->hd.stream_id, nv, sizeof(nv) / sizeof(*nv), &data);
}

static int
floor_close(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
	struct answer *a = nghttp2_session_get_stream_user_data(s, id);

	(void)error;
	(void)user;
	if (a) {
		a->next = spare;
		spare = a;
	}
	return 0;
}

static int
floor_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned inlen, void *arg)
{
	(void)ssl;
	(void)arg;
	return nghttp2_select_next_protocol((unsigned char **)out, len, in, inlen) == 1 ? SSL_TLSEXT_ERR_OK
											: SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void
floor_setup(const char *certificate, const char *key)
{
	tls = SSL_CTX_new(TLS_server_method());
	if (!tls || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
		die("certificate");
	SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(tls, 1);
	SSL_CTX_set_default_read_buffer_len(tls, READ_SIZE);
	SSL_CTX_set_alpn_select_cb(tls, floor_alpn, NULL);
	if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option))
		die("nghttp2");
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, floor_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, floor_close);
	nghttp2_option_set_no_closed_streams(option, 1);
}

static int
floor_listen(int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* inherited by what is accepted */
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("bind");
	if (listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

static void
conn_free(struct conn *c)
{
	if (c->session)
		nghttp2_session_del(c->session);
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
}

static void
conn_accept(int ep, int lfd)
{
	for (;;) {
		int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;
		struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | (edge ? EPOLLET : 0)};

		if (fd < 0)
			return;
		c = calloc(1, sizeof(*c));
		if (!c || !(c->ssl = SSL_new(tls)) || !SSL_set_fd(c->ssl, fd))
			die("SSL_new");
		c->fd = fd;
		SSL_set_accept_state(c->ssl);
		ev.data.ptr = c;
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
			die("epoll_ctl");
	}
}

/* All that nghttp2 has, in as few records as it takes; -1: close. */
static int
conn_send(struct conn *c)
{
	const uint8_t *p;
	size_t used = 0;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(c->session, &p)) > 0) {
		while (n) {
			size_t part = (size_t)n < WRITE_SIZE - used ? (size_t)n : WRITE_SIZE - used;

			memcpy(output + used, p, part);
			used += part;
			p += part;
			n -= (ssize_t)part;
			if (used == WRITE_SIZE) {
				if (SSL_write(c->ssl, output, WRITE_SIZE) != WRITE_SIZE)
					return -1;
				used = 0;
			}
		}
	}
	if (n < 0 || (used && SSL_write(c->ssl, output, (int)used) != (int)used))
		return -1;
	return 0;
}

/* The handshake; 1: it is over, 0: not yet, -1: close. */
static int
conn_handshake(struct conn *c)
{
	static const nghttp2_settings_entry iv[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 128}};
	int n = SSL_do_handshake(c->ssl);

	if (n != 1) {
		int error = SSL_get_error(c->ssl, n);

		ERR_clear_error();
		return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
	}
	if (nghttp2_session_server_new2(&c->session, callbacks, c, option) ||
	    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, 1))
		die("nghttp2");
	return 1;
}

/* One readiness event; -1: close. */
static int
conn_event(struct conn *c)
{
	if (!c->session) {
		int rc = conn_handshake(c);

		if (rc <= 0)
			return rc;
	}
	do {
		int n = SSL_read(c->ssl, input, READ_SIZE);

		if (n <= 0) {
			if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ) {
				ERR_clear_error();
				return -1;
			}
			break;
		}
		if (nghttp2_session_mem_recv(c->session, input, (size_t)n) != n)
			return -1;
	} while (edge || SSL_has_pending(c->ssl));
	return conn_send(c);
}

int
main(int argc, char **argv)
{
	struct epoll_event ev = {.events = EPOLLIN}, evs[MAX_EVENT];
	int ep = epoll_create1(EPOLL_CLOEXEC), lfd;

	if (argc < 4 || ep < 0) {
		fprintf(stderr, "usage: h2floor PORT CERTIFICATE KEY [level|edge]\n");
		return 2;
	}
	edge = argc > 4 && strcmp(argv[4], "edge") == 0;
	signal(SIGPIPE, SIG_IGN);
	floor_init();
	signal(SIGTERM, SIG_DFL);
	floor_setup(argv[2], argv[3]);
	lfd = floor_listen(atoi(argv[1]));
	ev.data.ptr = NULL; /* the listener */
	if (epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev) < 0)
		die("epoll_ctl");
	for (;;) {
		int n = epoll_wait(ep, evs, MAX_EVENT, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (!c)
				conn_accept(ep, lfd);
			else if (conn_event(c) < 0)
				conn_free(c);
		}
	}
}
