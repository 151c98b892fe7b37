/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlsload.c - the client of the TLS rows: handshakes, many; and connections that are open and silent.
 *
 * "full" and "resumed": CONNECTIONS at a time connect, shake hands, wait for the server's session tickets, say
 * close_notify and close, again and again.  A handshake counts when its ticket is there, so the server has done all of
 * its part.  Resumed ones offer the newest ticket that any connection got (with a fresh key exchange, psk_dhe_ke; the
 * first, full handshake is not counted); one that was not resumed, or was and should not, ends the run.
 *
 * "idle": opens CONNECTIONS with HTTP/2 and prints "settings" when each has had SETTINGS and their acknowledgement.  A
 * line on stdin sends one GET / on each, and "answered" says that all have had a whole response.  The next line prints
 * how many the server has closed; the end of stdin ends the program.  An answer without a :status of 200 in the static
 * table of RFC 7541 as its first field is a failure.
 *
 * The certificate is not verified against an authority; its signature of the handshake always is.  Connections come
 * from 16 addresses of the loopback in turn, so the ports of TIME_WAIT are no limit.
 *
 * usage: tlsload PORT full|resumed|idle CONNECTIONS [SECONDS [ALPN]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENT 256
#define WAVE 64 /* idle connections being opened at once */
#define SOURCES 16
#define READ_SIZE 16384
#define FRAME_HEAD 9
#define STALL_MS 10000 /* without an event: the server does not go on */
#define CIPHER "TLS_AES_128_GCM_SHA256"

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 }; /* RFC 9113 6 */
enum { FLAG_ACK = 1, FLAG_END_STREAM = 1 };

struct conn {
	int fd; /* -1: none */
	SSL *ssl;
	uint8_t done, reused, ticket;                     /* the handshake is over; it was resumed; a ticket has come */
	uint8_t settings, acked, asked, status, answered; /* of HTTP/2 */
	uint8_t head[FRAME_HEAD];
	uint32_t nhead, skip; /* bytes of head; bytes of the payload to come */
};

static struct conn *conns;
static SSL_CTX *tls;
static SSL_SESSION *newest;
static int ep, port, resume, idle, alpn_len;
static size_t count, opened, handshakes, ready, answered, closed;
static unsigned char alpn[32];
static char cipher[64], protocol[16];
static uint8_t input[READ_SIZE];

static void
fail(const char *what)
{
	fprintf(stderr, "tlsload: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
new_session(SSL *ssl, SSL_SESSION *session)
{
	struct conn *c = SSL_get_app_data(ssl);

	c->ticket = 1;
	if (!resume)
		return 0;
	SSL_SESSION_free(newest);
	newest = session;
	return 1; /* kept */
}

static void
conn_open(struct conn *c)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)},
			   from = {.sin_family = AF_INET};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
	int one = 1;

	memset(c, 0, sizeof(*c));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + opened++ % SOURCES);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		fail(strerror(errno));
	c->ssl = SSL_new(tls);
	if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || !SSL_set_tlsext_host_name(c->ssl, "localhost"))
		fail("SSL_new");
	SSL_set_app_data(c->ssl, c);
	if (newest) { /* a copy for each: the handshake writes its own secrets into it */
		SSL_SESSION *session = SSL_SESSION_dup(newest);

		if (!session || !SSL_set_session(c->ssl, session))
			fail("SSL_set_session");
		SSL_SESSION_free(session);
	}
	SSL_set_connect_state(c->ssl);
}

static void
conn_close(struct conn *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	c->ssl = NULL;
	c->fd = -1;
}

static void
conn_write(struct conn *c, const void *p, size_t n)
{
	if (SSL_write(c->ssl, p, (int)n) != (int)n)
		fail("a short write");
}

/* The payload of a frame begins; its length is in c->skip, its first bytes, as far as they have come, at @p. */
static void
conn_frame(struct conn *c, const uint8_t *p, size_t n)
{
	static const uint8_t ack[FRAME_HEAD] = {0, 0, 0, SETTINGS, FLAG_ACK};
	uint8_t type = c->head[3], flags = c->head[4];

	if (type == SETTINGS && flags & FLAG_ACK) {
		c->acked = 1;
	} else if (type == SETTINGS) {
		c->settings = 1;
		conn_write(c, ack, sizeof(ack));
	} else if (type == HEADERS) {
		while (n && (*p & 0xe0) == 0x20) /* another size of the dynamic table */
			p++, n--;
		if (!n || *p != 0x88)
			fail("the answer is not 200");
		c->status = 1;
	} else if (type == GOAWAY || type == RST_STREAM) {
		fail("the server sent GOAWAY or RST_STREAM");
	}
	if ((type == HEADERS || type == DATA) && flags & FLAG_END_STREAM && c->status) {
		c->answered = 1;
		answered++;
	}
}

static void
conn_frames(struct conn *c, const uint8_t *p, size_t n)
{
	int was = c->settings && c->acked;

	while (n) {
		size_t part = c->skip < n ? c->skip : n;

		if (c->skip) {
			c->skip -= (uint32_t)part;
			p += part;
			n -= part;
			continue;
		}
		c->head[c->nhead++] = *p++;
		n--;
		if (c->nhead < FRAME_HEAD)
			continue;
		c->nhead = 0;
		c->skip = (uint32_t)c->head[0] << 16 | (uint32_t)c->head[1] << 8 | c->head[2];
		conn_frame(c, p, n < c->skip ? n : c->skip);
	}
	ready += !was && c->settings && c->acked;
}

/* The handshake is over on our side. */
static void
conn_shaken(struct conn *c)
{
	static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	const unsigned char *got = NULL;
	unsigned n = 0;

	c->done = 1;
	c->reused = (uint8_t)SSL_session_reused(c->ssl);
	SSL_get0_alpn_selected(c->ssl, &got, &n);
	if (n != (unsigned)alpn_len - 1 || memcmp(got, alpn + 1, n) != 0)
		fail("another protocol than asked for (ALPN)");
	snprintf(cipher, sizeof(cipher), "%s", SSL_get_cipher_name(c->ssl));
	snprintf(protocol, sizeof(protocol), "%s", SSL_get_version(c->ssl));
	if (idle)
		conn_write(c, hello, sizeof(hello)); /* with the last of the stream id, the string's own zero */
}

/* One event: 0, or 1 when the connection has done its work (or, idle, when it is closed). */
static int
conn_event(struct conn *c)
{
	int n;

	if (!c->done) {
		n = SSL_do_handshake(c->ssl);
		if (n == 1) {
			conn_shaken(c);
		} else {
			int error = SSL_get_error(c->ssl, n);

			if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
				fail("a handshake failed");
			return 0;
		}
	}
	while ((n = SSL_read(c->ssl, input, sizeof(input))) > 0) {
		if (idle)
			conn_frames(c, input, (size_t)n);
	}
	if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ) {
		ERR_clear_error();
		if (!idle)
			fail("closed by the server before its ticket");
		closed++;
		return 1;
	}
	return !idle && c->ticket;
}

/* Wait for events and look after them; with @reopen what is done starts anew. */
static void
turn(int reopen)
{
	struct epoll_event evs[MAX_EVENT];
	int n = epoll_wait(ep, evs, MAX_EVENT, STALL_MS);

	if (n == 0)
		fail("the server does not go on (no ticket, SETTINGS or answer for 10 s)");
	for (int i = 0; i < n; i++) {
		struct conn *c = evs[i].data.ptr;

		if (c->fd < 0 || !conn_event(c))
			continue;
		if (!idle) {
			if (c->reused != (newest != NULL && resume > 1))
				fail(c->reused ? "resumed, though no ticket was offered" : "not resumed");
			handshakes++;
			SSL_shutdown(c->ssl);
		}
		conn_close(c);
		if (reopen)
			conn_open(c);
		else
			count--;
	}
}

static void
shake(size_t at_once, double seconds)
{
	double start, end;

	if (resume) { /* the first ticket */
		conn_open(&conns[0]);
		for (count = 1; count;)
			turn(0);
		handshakes = 0;
		resume = 2;
	}
	start = now();
	for (count = 0; count < at_once; count++)
		conn_open(&conns[count]);
	while ((end = now()) < start + seconds)
		turn(1);
	while (count)
		turn(0);
	printf("{\"handshakes\": %zu, \"seconds\": %.4f, \"protocol\": \"%s\", \"cipher\": \"%s\"}\n", handshakes,
	       now() - start, protocol, cipher);
}

static void
ask_all(size_t all)
{
	/* HEADERS of stream 1, the end of both: GET, /, https, :authority localhost (RFC 7541) */
	static const uint8_t request[] = "\0\0\x0e\1\5\0\0\0\1\x82\x84\x87\x41\x09localhost";

	for (size_t i = 0; i < all; i++) {
		if (conns[i].fd < 0)
			fail("closed by the server before the request");
		conn_write(&conns[i], request, sizeof(request) - 1);
	}
}

static void
wait_line(void)
{
	char line[16];

	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

static void
stay(size_t all)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	while (ready < all) {
		while (opened < all && opened < ready + WAVE)
			conn_open(&conns[opened]);
		turn(0);
		if (closed)
			fail("a connection was closed by the server");
	}
	printf("settings\n");
	wait_line();
	ask_all(all);
	while (answered < all) {
		turn(0);
		if (closed)
			fail("a connection was closed by the server");
	}
	printf("answered\n");
	while (poll(&in, 1, 100) == 0)
		; /* until somebody asks */
	wait_line();
	for (struct epoll_event ev; epoll_wait(ep, &ev, 1, 0) > 0;) {
		struct conn *c = ev.data.ptr;

		if (c->fd >= 0 && conn_event(c))
			conn_close(c);
	}
	printf("%zu\n", closed);
}

int
main(int argc, char **argv)
{
	size_t all = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	double seconds = argc > 4 ? atof(argv[4]) : 0;
	const char *name = argc > 5 ? argv[5] : "h2";

	if (!all || strlen(name) > 20 || (strcmp(argv[2], "idle") != 0 && seconds <= 0)) {
		fprintf(stderr, "usage: tlsload PORT full|resumed|idle CONNECTIONS [SECONDS [ALPN]]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	port = atoi(argv[1]);
	idle = strcmp(argv[2], "idle") == 0;
	resume = strcmp(argv[2], "resumed") == 0;
	alpn_len = snprintf((char *)alpn, sizeof(alpn), "%c%s", (int)strlen(name), name);
	ep = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(all, sizeof(*conns));
	tls = SSL_CTX_new(TLS_client_method());
	if (ep < 0 || !conns || !tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(tls, CIPHER) || SSL_CTX_set_alpn_protos(tls, alpn, (unsigned)alpn_len) != 0)
		fail("cannot start");
	SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	SSL_CTX_sess_set_new_cb(tls, new_session);
	SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
	for (size_t i = 0; i < all; i++)
		conns[i].fd = -1;
	if (idle)
		stay(all);
	else
		shake(all, seconds);
	return 0;
}
