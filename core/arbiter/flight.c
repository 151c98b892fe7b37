/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/flight.c - the arbiter's side of the flight recorder (log/flight.h): makes the memory, reads it in the
 * end.
 *
 * The memory is sealed against shrinking, so that reading what a worker could write to never faults.  The worker is not
 * trusted: each length is bounded, each text is printed as bytes that the log escapes, and at most SHOWN lines are
 * said.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/flight.h"
#include "log/log.h"

#define SHOWN 16u

/* A recorder for this process; its descriptor to be sent, or -1: it goes without. */
int
lc__flight_make(struct lc__proc *p)
{
	int fd = memfd_create("licorne requests in flight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *m = MAP_FAILED;

	lc__flight_drop(p);
	if (fd >= 0 && ftruncate(fd, sizeof(struct lc_flight)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		m = mmap(NULL, sizeof(struct lc_flight), PROT_READ, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED) {
		lc_log(LC_LOG_WARN, "%s has no flight recorder: %s", p->name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	p->flight = m;
	return fd;
}

void
lc__flight_drop(struct lc__proc *p)
{
	if (p->flight)
		munmap((void *)(uintptr_t)p->flight, sizeof(*p->flight));
	p->flight = NULL;
}

static uint16_t
bounded(uint16_t n, size_t max)
{
	return n < max ? n : (uint16_t)max;
}

/* One line per request that the process had when it ended. */
void
lc__flight_tell(const struct lc__proc *p)
{
	uint32_t shown = 0, more = 0;
	struct lc_flight_rec r;
	uint64_t now = (uint64_t)lc__now_ms() * 1000000;

	if (!p->flight)
		return;
	for (uint32_t k = 0; k < LC_FLIGHT_RECS; k++) {
		if (atomic_load_explicit(&p->flight->rec[k].state, memory_order_acquire) != 1)
			continue;
		if (shown == SHOWN) {
			more++;
			continue;
		}
		memcpy(&r, (const void *)&p->flight->rec[k], sizeof(r)); /* the process may be a zombie with children */
		shown++;
		lc_log(LC_LOG_WARN, "%s (pid %ld) held \"%.*s %.*s%s\" from %.*s for %.1f s", p->name, (long)p->pid,
		       bounded(r.method_n, LC_FLIGHT_METHOD), r.method, bounded(r.target_n, LC_FLIGHT_TARGET), r.target,
		       r.cut ? "..." : "", r.peer_n ? bounded(r.peer_n, LC_FLIGHT_PEER) : 4, r.peer_n ? r.peer : "unix",
		       now > r.at ? (double)(now - r.at) / 1e9 : 0.0);
	}
	uint32_t beyond = atomic_load_explicit(&p->flight->beyond, memory_order_relaxed);
	if (more || beyond)
		lc_log(LC_LOG_WARN, "%s (pid %ld) held %" PRIu64 " more requests", p->name, (long)p->pid,
		       (uint64_t)more + beyond);
}

const char *
lc__kernel_says(pid_t pid, char *buf, size_t n)
{
	char stat[512], wchan[64], *p;

	*buf = 0;
	/* "PID (NAME) STATE ...": the name may have brackets and spaces, so from the right */
	if (lc__proc_file(pid, "stat", stat, sizeof(stat)) <= 0 || !(p = strrchr(stat, ')')) || p[1] != ' ')
		return buf;
	if (p[2] == 'T' || p[2] == 't')
		snprintf(buf, n, "; it is stopped, by a signal or a debugger");
	else if (p[2] == 'D')
		snprintf(buf, n, "; it waits in the kernel, %.40s",
			 lc__proc_file(pid, "wchan", wchan, sizeof(wchan)) > 0 ? wchan : "uninterruptible");
	return buf;
}
