/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * echo.c - the floor of the benchmark: the least that a single-threaded epoll server can do for an HTTP request.
 *
 * One recv() per readiness event, one fixed response for each CRLF CRLF seen, all responses of one recv() in one
 * send().  It parses nothing, knows no request body and holds three bytes per connection: what it costs is the
 * kernel's price of a request, which no server on the same machine can go under without batching more.
 *
 * A reader that falls behind (a short send) is dropped: the load generators here always read.
 * The heads are found with memmem(), about 350 instructions for a short request; "lean" uses the vector loop of
 * memchr() instead, about 130.  The targets of the project were set against the first, so that is the default.
 *
 * Compiled with -DPYTHON_FLOOR it is the second floor, see pyfloor.h; requests are then taken to be as long as the last
 * one was, and only where that is wrong their end is searched for.
 *
 * usage: echo PORT [level|edge|lean]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef PYTHON_FLOOR
#include "pyfloor.h"
#endif

#define MAX_FD 65536
#define MAX_EVENT 256
#define RECV_SIZE 65536
#define TAIL 3 /* the most of a CRLF CRLF that one recv() may leave for the next */
#define BATCH 512

#define HEAD                           \
	"HTTP/1.1 200 OK\r\n"          \
	"Content-Type: text/plain\r\n" \
	"Content-Length: 13\r\n"       \
	"\r\n"
#define BODY "Hello, World!"
#define RESPONSE HEAD BODY
#define RESPONSE_LEN (sizeof(RESPONSE) - 1)

struct tail {
	uint8_t len;
	char byte[TAIL];
};

static struct tail tails[MAX_FD];
static char input[TAIL + RECV_SIZE];
static char output[BATCH * RESPONSE_LEN];
#ifdef PYTHON_FLOOR
static size_t length; /* of the last request */
#else
static int lean;
#endif

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int
echo_listen(int port)
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
echo_accept(int ep, int lfd, uint32_t events)
{
	for (;;) {
		int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct epoll_event ev = {.events = events, .data.fd = fd};

		if (fd < 0)
			return;
		if (fd >= MAX_FD || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
			close(fd);
			continue;
		}
		tails[fd].len = 0;
	}
}

/* Answer @count requests; 0, or -1 when the connection is of no use any more. */
static int
echo_answer(int fd, size_t count)
{
	while (count) {
		size_t n = count < BATCH ? count : BATCH;

#ifdef PYTHON_FLOOR
		for (size_t i = 0; i < n; i++) {
			char *to = output + i * RESPONSE_LEN;

			memcpy(to, HEAD, sizeof(HEAD) - 1);
			if (floor_call(length > SHORT, to + sizeof(HEAD) - 1, sizeof(BODY) - 1) != sizeof(BODY) - 1)
				die("the application's answer");
		}
#endif
		if (send(fd, output, n * RESPONSE_LEN, MSG_NOSIGNAL) != (ssize_t)(n * RESPONSE_LEN))
			return -1;
		count -= n;
	}
	return 0;
}

/* Count the heads that end in [@p, @end); where the rest begins. */
#ifdef PYTHON_FLOOR
static char *
scan(char *p, char *end, size_t *count)
{
	char *hit;

	for (;; ++*count) {
		if (length && (size_t)(end - p) >= length && memcmp(p + length - 4, "\r\n\r\n", 4) == 0) {
			p += length;
			continue;
		}
		hit = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
		if (!hit)
			return p;
		length = (size_t)(hit + 4 - p);
		p = hit + 4;
	}
}
#else
static char *
scan(char *p, char *end, size_t *count)
{
	char *hit;

	while ((hit = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)) != NULL) {
		++*count;
		p = hit + 4;
	}
	return p;
}

static char *
scan_lean(char *p, char *end, size_t *count)
{
	char *hit;

	while ((hit = memchr(p, '\r', (size_t)(end - p))) != NULL && end - hit >= 4) {
		if (memcmp(hit, "\r\n\r\n", 4) == 0) {
			++*count;
			hit += 3;
		}
		p = hit + 1;
	}
	return p;
}

#endif

/* One recv() and its answer; >0: there may be more, 0: the socket is empty, <0: close. */
static int
echo_read(int fd)
{
	struct tail *t = &tails[fd];
	char *from = input + TAIL - t->len, *p = from, *end;
	ssize_t n = recv(fd, input + TAIL, RECV_SIZE, 0);
	size_t count = 0;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	memcpy(from, t->byte, t->len);
	end = input + TAIL + n;
#ifdef PYTHON_FLOOR
	p = scan(p, end, &count);
#else
	p = lean ? scan_lean(p, end, &count) : scan(p, end, &count);
#endif
	t->len = (uint8_t)(end - p < TAIL ? end - p : TAIL);
	memcpy(t->byte, end - t->len, t->len);
	if (echo_answer(fd, count) < 0)
		return -1;
	return n == RECV_SIZE;
}

int
main(int argc, char **argv)
{
	int edge = argc > 2 && strcmp(argv[2], "edge") == 0;
	uint32_t events = EPOLLIN | EPOLLRDHUP | (edge ? EPOLLET : 0);
	struct epoll_event ev = {.events = EPOLLIN}, evs[MAX_EVENT];
	int ep = epoll_create1(EPOLL_CLOEXEC), lfd;

	if (argc < 2 || ep < 0) {
		fprintf(stderr, "usage: echo PORT [level|edge|lean]\n");
		return 2;
	}
#ifdef PYTHON_FLOOR
	floor_init();
#else
	lean = argc > 2 && strcmp(argv[2], "lean") == 0;
#endif
	for (size_t i = 0; i < BATCH; i++)
		memcpy(output + i * RESPONSE_LEN, RESPONSE, RESPONSE_LEN);
	lfd = echo_listen(atoi(argv[1]));
	ev.data.fd = lfd;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev) < 0)
		die("epoll_ctl");
	for (;;) {
		int n = epoll_wait(ep, evs, MAX_EVENT, -1);

		for (int i = 0; i < n; i++) {
			int fd = evs[i].data.fd, rc;

			if (fd == lfd) {
				echo_accept(ep, lfd, events);
				continue;
			}
			do {
				rc = echo_read(fd);
			} while (rc > 0);
			if (rc < 0)
				close(fd);
		}
	}
}
