/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/arbiter.h - what the command line calls.
 */
#ifndef LC_CORE_ARBITER_ARBITER_H
#define LC_CORE_ARBITER_ARBITER_H

#include <stddef.h>
#include <stdint.h>

/* Exit statuses */
#define LC_EXIT_OK 0
#define LC_EXIT_CONFIG 1 /* configuration, addresses, files */
#define LC_EXIT_USAGE 2
#define LC_EXIT_BOOT 3 /* no worker could start: the application's fault as a rule */

struct lc_arb_opts {
	const char *path; /* configuration file; NULL: text */
	const char *text, *text_name;
	size_t text_n;
	const char *prefix, *globals; /* -p, -g; NULL */
	int no_check;                 /* the caller has checked it */
	/* Once, when each pool has a worker that accepts connections: the bound addresses, ports resolved. */
	void (*on_ready)(void *arg, const char *const *names, uint32_t n);
	void *arg;
	/* What to watch (tree.h), at most LC_ARB_WATCH_MAX bytes: a change there is a reload.  NULL: nothing. */
	const char *watch;
	int64_t watch_since; /* ns of CLOCK_REALTIME: what changed since then counts */
};
#define LC_ARB_WATCH_MAX (12u << 10)

/* How this program was started, for SIGUSR2.  Before the arguments are parsed; the strings are borrowed. */
void lc_arb_remember(char *const *argv);
/* In the place of another one (SIGUSR2), which serves on if this one cannot? */
int lc_arb_is_successor(void);
/* This program once more, with the arguments that it was started with.  Returns if that fails: -errno. */
int lc_arb_again(void);
/* Serves until a signal ends it; exit status. */
int lc_arb_main(const struct lc_arb_opts *);
/* -t and -T: exit status. */
#define LC_CHECK_QUIET 0 /* say only what is wrong */
#define LC_CHECK_SAY 1
#define LC_CHECK_DUMP 2 /* print the effective configuration */
int lc_arb_check(const struct lc_arb_opts *, int what);

/* Role main functions. */
int lc_checker_main(int argc, char **argv);
int lc_watcher_main(void);

/* Waits until something changes of what such a text says, and logs it: 1; 0: a signal says that it is to end; -errno,
 * after all was said. */
int lc_arb_wait_change(const char *watch, size_t n, int64_t since);
/* Now, for watch_since. */
int64_t lc_arb_watch_since(void);

/* A child of the command line: role or program, its standard output collected (at most 1 MiB).  wait status, or -errno.
 */
struct lc_child_run {
	const char *title;
	const char *path; /* NULL: this program, in a role (argv from 1 on: "--role", ...) */
	char *const *argv;
};
int lc_child_output(const struct lc_child_run *, char **ret_out, size_t *ret_n);

#endif
