/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/flight.c - the flight recorders of workers: made here, read when one died, hung or is stuck.
 *
 * What a worker wrote is hostile (flight/flight.h); what goes into the log from here is escaped by it.  The recorder is
 * sealed, so the worker can neither shrink it under our mapping nor let it grow.
 *
 * A diagnosis takes turns of the loop, it never waits: the worker is asked for the stacks of its application by a
 * signal, which a thread of the worker takes that runs none of the application; it writes them into the recorder.
 * They are looked at until they do not grow any more, for DIAG_MS at most.  Then what is known is logged, and what was
 * to be done is done.
 */
#include "flight/flight.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define DIAG_MS 1000     /* that a worker has for its stacks */
#define DIAG_LOOK_MS 50  /* how often they are looked at */
#define DIAG_THREADS 32u /* of which /proc is asked */
#define SHOWN 32u        /* requests in one report */
#define REPORT (96u << 10)

/* ---- the recorder ---- */

int
lc__flight_make(struct lc__proc *p)
{
	int fd = memfd_create("licorne-flight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)sizeof(struct lc_flight)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
	    lseek(fd, (off_t)offsetof(struct lc_flight, stack), SEEK_SET) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	map = mmap(NULL, sizeof(struct lc_flight), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int r = -errno;
		close(fd);
		return r;
	}
	p->flight = map;
	p->flight_fd = fd;
	return 0;
}

void
lc__flight_free(struct lc__proc *p)
{
	if (!p->flight)
		return;
	munmap((void *)(uintptr_t)p->flight, sizeof(struct lc_flight));
	close(p->flight_fd);
	p->flight = NULL;
}

/* ---- reports ---- */

struct report {
	char *p;
	size_t n, cap;
};

static void LC_PRINTF(2, 3) say(struct report *r, const char *fmt, ...)
{
	va_list ap;
	int k;

	if (!r->p || r->cap - r->n < 2)
		return;
	va_start(ap, fmt);
	k = vsnprintf(r->p + r->n, r->cap - r->n, fmt, ap);
	va_end(ap);
	if (k > 0)
		r->n += (size_t)k < r->cap - r->n ? (size_t)k : r->cap - r->n - 1;
}

static uint64_t
now_ns(const struct lc__arb *a)
{
	return (uint64_t)a->now * 1000000;
}

static uint32_t
say_requests(const struct lc__arb *a, const struct lc__proc *p, struct report *r)
{
	uint32_t n;

	if (!r->p || r->cap - r->n < 2)
		return 0;
	n = lc_fl_print_all(p->flight, now_ns(a), SHOWN, r->p + r->n, r->cap - r->n);
	r->n += strlen(r->p + r->n);
	return n;
}

/* The text is the worker's: it is copied before it is looked at, since it may still change. */
static void
say_stacks(const struct lc__proc *p, struct report *r)
{
	size_t n = lc_fl_stack_len(p->flight), room = r->p ? r->cap - r->n - 1 : 0;

	if (!n || room < 2)
		return;
	n = n < room - 1 ? n : room - 1;
	memcpy(r->p + r->n, p->flight->stack, n);
	for (size_t i = 0; i < n; i++)
		if (r->p[r->n + i] == 0)
			r->p[r->n + i] = '?';
	r->n += n;
	if (r->p[r->n - 1] != '\n')
		r->p[r->n++] = '\n';
	r->p[r->n] = 0;
}

/* A file of the process or of a thread of it, its first line or whole; "": it cannot be read. */
static const char *
proc_file(pid_t pid, const char *tid, const char *name, bool whole, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "%s%s%s%s", tid ? "task/" : "", tid ? tid : "", tid ? "/" : "", name);
	if (lc__proc_file(pid, path, buf, size) < 0)
		buf[0] = 0;
	if (!whole)
		buf[strcspn(buf, "\n")] = 0;
	return buf;
}

static char
proc_state(pid_t pid, const char *tid)
{
	char buf[512];
	const char *p;

	(void)proc_file(pid, tid, "stat", false, buf, sizeof(buf));
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	return p && p[1] == ' ' ? p[2] : 0;
}

static const char *
state_word(char c)
{
	switch (c) {
	case 'R':
		return "running";
	case 'S':
		return "sleeping";
	case 'D':
		return "waiting in the kernel, where no signal reaches it";
	case 'T':
		return "stopped by a signal";
	case 't':
		return "stopped by a debugger";
	case 'Z':
		return "dead";
	default:
		return "in an unknown state";
	}
}

static void
say_thread(pid_t pid, const char *tid, struct report *r)
{
	char comm[32], wchan[80], sys[256], stack[2048];
	char state = proc_state(pid, tid);

	(void)proc_file(pid, tid, "comm", false, comm, sizeof(comm));
	(void)proc_file(pid, tid, "wchan", false, wchan, sizeof(wchan));
	(void)proc_file(pid, tid, "syscall", false, sys, sizeof(sys));
	(void)proc_file(pid, tid, "stack", true, stack, sizeof(stack));
	say(r, "thread %s \"%s\": %c (%s)", tid, comm, state ? state : '?', state_word(state));
	if (wchan[0] && strcmp(wchan, "0") != 0)
		say(r, ", in %s", wchan);
	if (sys[0] >= '0' && sys[0] <= '9')
		say(r, ", system call %.*s", (int)strcspn(sys, " "), sys);
	say(r, "\n");
	if (state == 'D' && stack[0]) { /* of the others it says no more than the name */
		for (char *line = stack, *next; line && *line; line = next) {
			next = strchr(line, '\n');
			if (next)
				*next++ = 0;
			say(r, "  %s\n", line);
		}
	}
}

/* What the kernel says of its threads. */
static void
say_threads(const struct lc__proc *p, struct report *r)
{
	struct dirent *e;
	char path[64];
	uint32_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%ld/task", (long)p->pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (n++ < DIAG_THREADS)
			say_thread(p->pid, e->d_name, r);
	}
	if (d)
		closedir(d);
	if (n > DIAG_THREADS)
		say(r, "and %u threads more\n", n - DIAG_THREADS);
}

/* ---- the dead ---- */

void
lc__flight_ended(struct lc__arb *a, struct lc__proc *p, int level)
{
	char head[240], crash[2048], name[16], *how;
	struct report r = {.cap = REPORT};
	uint32_t held;
	int n;

	if (!p->flight || p->diagnosed || !(p->status_sig || p->status_code || !p->told) || !lc_log_enabled(level))
		return;
	r.p = malloc(r.cap);
	if (!r.p)
		return;
	r.p[0] = 0;
	held = say_requests(a, p, &r);
	n = lc_fl_print_crash(p->flight, lc__signal_name((int)p->flight->crash.sig & 0x7f, name), crash, sizeof(crash));
	if (n > 0) {
		say(&r, "%s\n", crash);
		say_stacks(p, &r);
	}
	how = p->status_sig ? "was killed" : "ended";
	if (held)
		snprintf(head, sizeof(head), "%s (pid %ld) held %u request%s when it %s:", p->name, (long)p->pid, held,
			 held == 1 ? "" : "s", how);
	else
		snprintf(head, sizeof(head), "%s (pid %ld) held no request when it %s:", p->name, (long)p->pid, how);
	if (held || n > 0)
		lc_log_text(level, head, r.p, r.n);
	free(r.p);
}

/* ---- the living: diagnosis ---- */

/* It has mapped the recorder, and with that a handler for the signal; by default that would kill it. */
static bool
takes_signals(const struct lc__proc *p)
{
	return p->flight && p->flight->magic == LC_FL_MAGIC;
}

static void
ask(struct lc__proc *p)
{
	uint32_t tid = __atomic_load_n(&p->flight->watcher, __ATOMIC_RELAXED);

	(void)fallocate(p->flight_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)offsetof(struct lc_flight, stack), LC_FL_STACK);
	(void)lseek(p->flight_fd, (off_t)offsetof(struct lc_flight, stack), SEEK_SET);
	/* Whatever the number is, the kernel makes sure that it is a thread of this process; and the pid is not
	 * anybody else's before we reap it. */
	if (tid == 0 || tid > INT32_MAX || syscall(SYS_tgkill, p->pid, (pid_t)tid, LC_FL_SIGNAL) < 0)
		tid = 0;
	if (tid == 0)
		(void)kill(p->pid, LC_FL_SIGNAL);
}

void
lc__diag_begin(struct lc__arb *a, struct lc__proc *p, enum lc__diag what)
{
	char state = proc_state(p->pid, NULL);

	p->diag = what;
	p->diag_len = 0;
	p->diag_end = a->now + DIAG_MS;
	p->diag_until = a->now + DIAG_LOOK_MS;
	/* In none of these can it answer. */
	if (!takes_signals(p) || state == 'T' || state == 't' || state == 'D' || state == 'Z' || state == 0)
		p->diag_end = p->diag_until = a->now;
	else
		ask(p);
}

static void
stuck_why(const struct lc__arb *a, const struct lc__proc *p, char *buf, size_t n)
{
	double limit = (double)p->pool->conf->request_timeout / 1000.0;
	struct lc_fl_view v;

	if (p->flight && lc_fl_look(p->flight, p->stuck, now_ns(a), &v))
		snprintf(buf, n, "is stuck in a call that request_timeout, %.1f s, could not end: %.*s %.*s from %.*s",
			 limit, (int)v.method.n, v.method.p, (int)v.path.n, v.path.p, (int)v.client.n, v.client.p);
	else
		snprintf(buf, n, "is stuck in a call that request_timeout, %.1f s, could not end", limit);
}

static void
tell(struct lc__arb *a, struct lc__proc *p)
{
	struct report r = {.cap = REPORT};
	char head[640], why[400];
	char state = proc_state(p->pid, NULL);

	if (p->diag == LC__DIAG_HUNG)
		lc__hung_why(a, p, why, sizeof(why));
	else
		stuck_why(a, p, why, sizeof(why));
	snprintf(head, sizeof(head), "%s (pid %ld) %s; State: %c (%s); what it is doing:", p->name, (long)p->pid, why,
		 state ? state : '?', state_word(state));
	r.p = malloc(r.cap);
	if (!r.p)
		return;
	r.p[0] = 0;
	if (p->flight && say_requests(a, p, &r) == 0)
		say(&r, "it holds no request\n");
	if (takes_signals(p)) {
		if (lc_fl_stack_len(p->flight))
			say_stacks(p, &r);
		else
			say(&r, "it did not tell the stacks of its application\n");
	}
	say_threads(p, &r);
	lc_log_text(LC_LOG_ERROR, head, r.p, r.n);
	free(r.p);
}

void
lc__diag_turn(struct lc__arb *a, struct lc__proc *p)
{
	enum lc__diag what = p->diag;
	size_t n = p->flight ? lc_fl_stack_len(p->flight) : 0;

	if (a->now < p->diag_end && (n == 0 || n != p->diag_len)) {
		p->diag_len = n;
		p->diag_until = a->now + DIAG_LOOK_MS;
		return;
	}
	tell(a, p);
	p->diag = LC__DIAG_NONE;
	p->diagnosed = what == LC__DIAG_HUNG;
	if (what == LC__DIAG_HUNG) {
		char why[200];

		lc__hung_why(a, p, why, sizeof(why));
		lc__proc_kill(a, p, SIGABRT, "%s", why);
	} else {
		lc__renew_stuck(a, p);
	}
}
