/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/report.c - findings as sentences; crashes and endless calls of the module are findings, too.
 *
 * After a signal nothing is trusted any more: the handler formats into a buffer of its own, writes and leaves.
 */
#include "modtest.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SENTENCES 64

struct mt_where mt_where;
int mt_problems;
unsigned long mt_breaks;
static const char *module_name = "?";
static unsigned limit;
static pthread_t main_thread;
static char *said[SENTENCES];

static int
place(char *to, size_t n)
{
	int at = snprintf(to, n, "    with %s, %s", *mt_where.input ? mt_where.input : "no input",
			  *mt_where.run ? mt_where.run : "at the start");

	if (mt_where.call && (size_t)at < n)
		at += snprintf(to + at, n - (size_t)at, "; in %s(), call %lu of the run", mt_where.call, mt_where.step);
	if (mt_where.call && !strcmp(mt_where.call, "recv") && (size_t)at < n)
		at +=
		    snprintf(to + at, n - (size_t)at, ", of %zu bytes from offset %zu on", mt_where.n, mt_where.offset);
	if (mt_where.failing && (size_t)at < n)
		at += snprintf(to + at, n - (size_t)at, "; allocation %d of the run failed", mt_where.failing);
	return (size_t)at < n ? at : (int)n - 1;
}

void
mt_broken(const char *fmt, ...)
{
	char text[1024], where[1024];
	va_list ap;

	mt_breaks++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (int k = 0; k < SENTENCES; k++) {
		if (said[k] && !strcmp(said[k], fmt))
			return;
		if (!said[k]) {
			said[k] = strdup(fmt);
			break;
		}
	}
	place(where, sizeof(where));
	printf("%s: %s\n%s\n", module_name, text, where);
	fflush(stdout);
	mt_problems++;
}

static void __attribute__((noreturn)) last_words(const char *text)
{
	char all[2400], where[1024];

	place(where, sizeof(where));
	int n = snprintf(all, sizeof(all), "%s: %s\n%s\n", module_name, text, where);
	if (write(1, all, (size_t)n < sizeof(all) ? (size_t)n : sizeof(all) - 1) < 0)
		_exit(2);
	_exit(1);
}

static void
on_signal(int sig, siginfo_t *info, void *context)
{
	char text[300];

	(void)context;
	if (sig == SIGALRM) {
		snprintf(text, sizeof(text), "%s() does not return within %u s: it loops, or waits for something",
			 mt_where.call ? mt_where.call : "the test", limit);
	} else if (sig == SIGSEGV && mt_input_beyond(info->si_addr)) {
		snprintf(text, sizeof(text), "%s() reads beyond the bytes that it was given",
			 mt_where.call ? mt_where.call : "recv");
	} else {
		const char *what = sig == SIGSEGV   ? "bad memory access"
				   : sig == SIGBUS  ? "bus error"
				   : sig == SIGFPE  ? "arithmetic error"
				   : sig == SIGABRT ? "abort()"
						    : "illegal instruction";
		snprintf(text, sizeof(text), "%s() crashes (%s)%s", mt_where.call ? mt_where.call : "the test", what,
			 mt_where.failing ? " when an allocation fails: test what may be NULL or below 0" : "");
	}
	last_words(text);
}

void
mt_guard(const char *module, unsigned seconds)
{
	static char stack[64 << 10];
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	module_name = module;
	limit = seconds;
	main_thread = pthread_self();
	sigaltstack(&alt, NULL);
	for (size_t k = 0; k < sizeof(signals) / sizeof(signals[0]); k++)
		sigaction(signals[k], &sa, NULL);
}

void
mt_enter(const char *call)
{
	/* an alarm per call would be a system call each: one per 1024 is as good for calls that take seconds */
	static unsigned long calls;

	if ((calls++ & 1023) == 0)
		alarm(limit);
	mt_where.call = call;
	mt_where.step++;
}

void
mt_leave(void)
{
	mt_where.call = NULL;
}
