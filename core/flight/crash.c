/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/flight/crash.c - what a worker writes when it dies of a signal that its own code caused.
 *
 * The handler runs on a stack of its own (an overflow of the thread's is one of the reasons to be here) and stores
 * first what costs nothing: signal, address, raw frames.  Only then it asks for symbols, which may fail in a process
 * that is broken.  After it comes whoever had the signal before, or the default action: a core is written as ever.
 *
 * A runtime that installs handlers of its own is put behind ours by calling lc_fl_crash_install() again.
 */
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "flight/flight.h"

#define ALT_STACK (64u << 10)

static const int deadly[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
#define DEADLY (sizeof(deadly) / sizeof(deadly[0]))

static struct lc_fl *crash_fl;
static pid_t crash_pid;                 /* a fork of ours has the handlers, too, but the recorder is not its own */
static struct sigaction before[DEADLY]; /* what each signal was before us */
static int entered;                     /* a crash inside of all this must end */
static pthread_key_t stack_key;
static pthread_once_t stack_once = PTHREAD_ONCE_INIT;
static int stack_key_made;

static void
write_down(int sig, const siginfo_t *si, uint32_t tid)
{
	struct lc_fl_crash *c = &crash_fl->map->crash;
	void *frames[LC_FL_FRAMES];
	int n;

	c->code = si->si_code;
	c->tid = tid;
	c->address = (uint64_t)(uintptr_t)si->si_addr;
	__atomic_store_n(&c->sig, (uint32_t)sig, __ATOMIC_RELEASE);
	n = backtrace(frames, LC_FL_FRAMES);
	for (int i = 0; i < n; i++)
		c->frames[i] = (uint64_t)(uintptr_t)frames[i];
	__atomic_store_n(&c->nframes, (uint32_t)(n > 0 ? n : 0), __ATOMIC_RELEASE);
	/* Its position is where the arbiter has set it: the part for stacks. */
	if (n > 0)
		backtrace_symbols_fd(frames, n, crash_fl->fd);
}

static void
on_crash(int sig, siginfo_t *si, void *context)
{
	struct sigaction sa = {.sa_handler = SIG_DFL}, *old = NULL;
	uint32_t tid = (uint32_t)syscall(SYS_gettid);
	int first = !__atomic_exchange_n(&entered, 1, __ATOMIC_ACQ_REL);

	for (size_t i = 0; i < DEADLY; i++)
		if (deadly[i] == sig)
			old = &before[i];
	if (first && crash_fl && getpid() == crash_pid)
		write_down(sig, si, tid);
	/* The one after us ends the process; if it comes back or asks again, the default action does. */
	if (first && old && (old->sa_flags & SA_SIGINFO) && old->sa_sigaction) {
		old->sa_sigaction(sig, si, context);
	} else if (first && old && old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	}
	(void)sigaction(sig, &sa, NULL);
	(void)raise(sig); /* delivered when we return, or, for a fault, by the fault itself */
}

static void
free_stack(void *p)
{
	stack_t off = {.ss_flags = SS_DISABLE};

	(void)sigaltstack(&off, NULL);
	free(p);
}

static void
make_key(void)
{
	stack_key_made = pthread_key_create(&stack_key, free_stack) == 0;
}

void
lc_fl_crash_thread(void)
{
	stack_t now, ss = {.ss_size = ALT_STACK};

	(void)pthread_once(&stack_once, make_key);
	if (!stack_key_made || sigaltstack(NULL, &now) < 0 || !(now.ss_flags & SS_DISABLE))
		return; /* somebody has given it one */
	ss.ss_sp = malloc(ALT_STACK);
	if (!ss.ss_sp)
		return;
	if (pthread_setspecific(stack_key, ss.ss_sp) != 0 || sigaltstack(&ss, NULL) < 0)
		free(ss.ss_sp);
}

void
lc_fl_crash_install(struct lc_fl *f)
{
	struct sigaction sa = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, old;
	void *warm[2];

	crash_fl = f;
	crash_pid = getpid();
	(void)backtrace(warm, 2); /* loads what it needs: not in the handler */
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < DEADLY; i++)
		if (sigaction(deadly[i], NULL, &old) == 0 &&
		    !((old.sa_flags & SA_SIGINFO) && old.sa_sigaction == on_crash)) {
			before[i] = old;
			(void)sigaction(deadly[i], &sa, NULL);
		}
	lc_fl_crash_thread();
}

uint32_t
lc_fl_thread(void)
{
	lc_fl_crash_thread();
	return (uint32_t)syscall(SYS_gettid);
}
