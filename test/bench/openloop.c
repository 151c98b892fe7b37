/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * openloop.c - an open-loop HTTP/1.1 load: requests start when the schedule says so, whatever the server does.
 *
 * The whole schedule (times and which requests are slow) is drawn from a seed before the first request, so every
 * server gets the same one.  An arrival takes an idle keep-alive connection, else opens one, else (at the limit)
 * waits in line.  Latency runs from the INTENDED time to the last byte of the response: the wait in line, the
 * connection's set-up and the generator's own lateness all count, so nothing is hidden by coordinated omission.
 *
 * Traps: one request at a time per connection; a response must carry Content-Length; what has no answer when the
 * grace time is over counts as unanswered, with the time that it has waited, and not as if it had never been.
 * Prints one JSON object; exits 0 if it could be measured, whatever the server's figures.
 *
 * usage: openloop PORT RATE SECONDS SLOW_PERCENT poisson|fixed SEED [FAST_PATH SLOW_PATH]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONN 256
#define MAX_REQ 1000000
#define BUF_SIZE 4096
#define GRACE_NS 3000000000ULL
#define NSEC 1000000000ULL
#define REQ_BYTES 256

struct request {
	uint64_t due;  /* intended start, CLOCK_MONOTONIC */
	uint64_t took; /* from due to the last byte; 0: no answer (yet) */
	uint8_t slow;
};

struct conn {
	int fd; /* -1: not open */
	int connected;
	int64_t req;      /* index of the request in flight, -1: idle */
	size_t sent, len; /* of the request; bytes in buf */
	struct conn *next_idle;
	char buf[BUF_SIZE];
};

static struct conn conns[MAX_CONN];
static struct conn *idle;
static struct request *reqs;
static size_t nreq, next_due, next_start, open_now, open_max, errors, finished;
static uint64_t lag_max;
static int ep, port;
static char text[2][REQ_BYTES];
static size_t text_len[2];

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

/* splitmix64: small, seeded, the same on every machine */
static double
uniform(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void
plan(double rate, double seconds, double slow_percent, int poisson, uint64_t seed)
{
	double t = 0;

	reqs = calloc(MAX_REQ, sizeof(*reqs));
	if (!reqs)
		exit(1);
	while (nreq < MAX_REQ) {
		t += poisson ? -log(1 - uniform(&seed)) / rate : 1 / rate;
		if (t >= seconds)
			break;
		reqs[nreq].due = (uint64_t)(t * (double)NSEC);
		reqs[nreq++].slow = uniform(&seed) * 100 < slow_percent;
	}
}

static void
conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
	open_now--;
}

static void
conn_fail(struct conn *c)
{
	if (c->req >= 0) { /* its time stays 0: it counts as unanswered */
		errors++;
		finished++;
	} else {
		for (struct conn **p = &idle; *p; p = &(*p)->next_idle) {
			if (*p == c) {
				*p = c->next_idle;
				break;
			}
		}
	}
	conn_close(c);
}

static struct conn *
conn_open(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	struct conn *c = NULL;
	int one = 1;

	for (size_t i = 0; i < MAX_CONN && !c; i++)
		if (conns[i].fd < 0)
			c = &conns[i];
	if (!c)
		return NULL;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return NULL;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ev.data.ptr = c;
	if ((connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0) {
		close(c->fd);
		c->fd = -1;
		return NULL;
	}
	c->connected = 0;
	c->req = -1;
	if (++open_now > open_max)
		open_max = open_now;
	return c;
}

static int
conn_send(struct conn *c)
{
	int slow = reqs[c->req].slow;

	while (c->sent < text_len[slow]) {
		ssize_t n = send(c->fd, text[slow] + c->sent, text_len[slow] - c->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		c->sent += (size_t)n;
	}
	return 0;
}

/* Length of the whole response once its head is complete, 0 before; -1: not a good response. */
static ssize_t
response_size(const struct conn *c)
{
	const char *end = memmem(c->buf, c->len, "\r\n\r\n", 4), *p;

	if (!end)
		return c->len == BUF_SIZE ? -1 : 0;
	if (memcmp(c->buf, "HTTP/1.1 200 ", 13) != 0)
		return -1;
	for (p = c->buf; p < end; p++) {
		if (*p != '\n' || strncasecmp(p + 1, "content-length:", 15) != 0)
			continue;
		long n = strtol(p + 16, NULL, 10);
		long all = (long)(end - c->buf) + 4 + n;
		return n >= 0 && all <= BUF_SIZE ? all : -1;
	}
	return -1;
}

/* Start requests that are due, in order, as far as connections allow. */
static void
start_due(uint64_t now)
{
	while (next_due < nreq && reqs[next_due].due <= now) {
		if (now - reqs[next_due].due > lag_max)
			lag_max = now - reqs[next_due].due;
		next_due++;
	}
	while (next_start < next_due) {
		struct conn *c = idle;

		if (c)
			idle = c->next_idle;
		else if (!(c = conn_open()))
			return;
		c->req = (int64_t)next_start++;
		c->sent = c->len = 0;
		if (c->connected && conn_send(c) < 0)
			conn_fail(c);
	}
}

static int
conn_read(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->buf + c->len, BUF_SIZE - c->len, 0), size;

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if (n == 0 || c->req < 0)
			return -1;
		c->len += (size_t)n;
		size = response_size(c);
		if (size < 0 || (size > 0 && (size_t)size < c->len))
			return -1;
		if (size == 0 || (size_t)size > c->len)
			continue;
		reqs[c->req].took = now_ns() - reqs[c->req].due;
		finished++;
		c->req = -1;
		c->len = 0;
		c->next_idle = idle;
		idle = c;
	}
}

static void
conn_event(struct conn *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (events & EPOLLERR) {
		conn_fail(c);
		return;
	}
	if (events & EPOLLOUT)
		c->connected = 1;
	if (c->connected && c->req >= 0 && conn_send(c) < 0) {
		conn_fail(c);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) && conn_read(c) < 0)
		conn_fail(c);
}

static int
cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One class of requests; the unanswered count with the time that they have waited until @end. */
static void
print_class(const char *name, int slow, uint64_t end)
{
	uint64_t *v = calloc(nreq ? nreq : 1, sizeof(*v));
	size_t n = 0, unanswered = 0;

	if (!v)
		exit(1);
	for (size_t i = 0; i < nreq; i++) {
		if (reqs[i].slow != slow)
			continue;
		unanswered += reqs[i].took == 0;
		v[n++] = reqs[i].took ? reqs[i].took : end - reqs[i].due;
	}
	qsort(v, n, sizeof(*v), cmp_u64);
#define AT(p) (n ? (double)v[(size_t)ceil((p) * (double)n) - 1] / 1e6 : 0.0)
	printf("\"%s\": {\"requests\": %zu, \"unanswered\": %zu, \"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, "
	       "\"p999_ms\": %.4f, \"max_ms\": %.4f}, ",
	       name, n, unanswered, AT(0.5), AT(0.9), AT(0.99), AT(0.999), AT(1.0));
#undef AT
	free(v);
}

int
main(int argc, char **argv)
{
	struct epoll_event evs[MAX_CONN + 1], ev = {.events = EPOLLIN, .data.ptr = NULL};
	uint64_t start, end, last, armed = 0;
	int tfd;

	if (argc < 7) {
		fprintf(stderr, "usage: openloop PORT RATE SECONDS SLOW_PERCENT poisson|fixed SEED [FAST SLOW]\n");
		return 2;
	}
	port = atoi(argv[1]);
	for (int i = 0; i < 2; i++) {
		int n = snprintf(text[i], REQ_BYTES, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n",
				 argc > 8 ? argv[7 + i]
				 : i      ? "/sleep"
					  : "/",
				 port);
		if (n >= REQ_BYTES)
			return 2;
		text_len[i] = (size_t)n;
	}
	plan(atof(argv[2]), atof(argv[3]), atof(argv[4]), strcmp(argv[5], "poisson") == 0, strtoull(argv[6], NULL, 10));
	for (size_t i = 0; i < MAX_CONN; i++)
		conns[i].fd = -1;
	ep = epoll_create1(EPOLL_CLOEXEC);
	tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (ep < 0 || tfd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev) < 0) {
		perror("epoll");
		return 1;
	}
	start = now_ns() + 20000000; /* room to reach the first epoll_wait() */
	for (size_t i = 0; i < nreq; i++)
		reqs[i].due += start;
	last = (nreq ? reqs[nreq - 1].due : start) + GRACE_NS;

	while (finished < nreq && now_ns() < last) {
		uint64_t at = next_due < nreq ? reqs[next_due].due : last;
		int n;

		if (at != armed) { /* absolute: an instant that has passed fires at once */
			struct itimerspec it = {
			    .it_value = {.tv_sec = (time_t)(at / NSEC), .tv_nsec = (long)(at % NSEC)}};

			timerfd_settime(tfd, TFD_TIMER_ABSTIME, &it, NULL);
			armed = at;
		}
		n = epoll_wait(ep, evs, MAX_CONN + 1, -1);
		for (int i = 0; i < n; i++) {
			uint64_t ticks;

			if (evs[i].data.ptr)
				conn_event(evs[i].data.ptr, evs[i].events);
			else if (read(tfd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
				return 1;
		}
		start_due(now_ns());
	}
	end = now_ns();
	printf("{");
	print_class("fast", 0, end);
	print_class("slow", 1, end);
	printf("\"requests\": %zu, \"errors\": %zu, \"connections\": %zu, \"lag_max_ms\": %.4f, \"wall_s\": %.4f}\n",
	       nreq, errors, open_max, (double)lag_max / 1e6, (double)(end - start) / 1e9);
	return 0;
}
