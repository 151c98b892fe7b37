/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spin.c - preloaded into the load generators of closed-loop rows: a wait for events that never sleeps.
 *
 * A generator that has nothing to read sleeps in the kernel, and then the send() of the server that it waits for pays
 * for waking it: with the generator on another core an inter-processor interrupt, which in a virtual machine is an exit
 * to the hypervisor.  A server that keeps the generator busy never pays that; so the same server's CPU per request
 * would depend on who was faster, and ratios would compare unlike things.  Here epoll_wait(), epoll_pwait() and poll()
 * with a timeout ask again and again, with a timeout of 0, until there is an event or the time is over: nobody is in
 * the kernel's queue of waiters, nobody is woken.  wrk, h2load (by way of libev) and tlsload wait with epoll_wait().
 *
 * Traps: the core of the generator is at 100 %, so the server must be on another; a signal ends no wait that spins (the
 * handler runs, EINTR is not returned).  There is no pause instruction in the loop: many of them are an exit, too.
 */
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

static int (*real_epoll_wait)(int, struct epoll_event *, int, int);
static int (*real_epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
static int (*real_poll)(struct pollfd *, nfds_t, int);

static void *
next(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort();
	return p;
}

__attribute__((constructor)) static void
find(void)
{
	*(void **)&real_epoll_wait = next("epoll_wait");
	*(void **)&real_epoll_pwait = next("epoll_pwait");
	*(void **)&real_poll = next("poll");
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* When a wait of @timeout milliseconds ends; below 0: never. */
static int64_t
end_of(int timeout)
{
	return timeout < 0 ? INT64_MAX : now_ns() + (int64_t)timeout * 1000000;
}

/* Whether to ask again after an answer of @n. */
static int
again(int n, int64_t end)
{
	return n == 0 && (end == INT64_MAX || now_ns() < end);
}

int
epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	int64_t end;
	int n = real_epoll_wait(epfd, events, max, 0);

	if (n || timeout == 0)
		return n;
	end = end_of(timeout);
	do
		n = real_epoll_wait(epfd, events, max, 0);
	while (again(n, end));
	return n;
}

int
epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	int64_t end;
	int n = real_epoll_pwait(epfd, events, max, 0, mask);

	if (n || timeout == 0)
		return n;
	end = end_of(timeout);
	do
		n = real_epoll_pwait(epfd, events, max, 0, mask);
	while (again(n, end));
	return n;
}

int
poll(struct pollfd *fds, nfds_t nfds, int timeout)
{
	int64_t end;
	int n = real_poll(fds, nfds, 0);

	if (n || timeout == 0)
		return n;
	end = end_of(timeout);
	do
		n = real_poll(fds, nfds, 0);
	while (again(n, end));
	return n;
}
