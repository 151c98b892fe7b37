/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_flight.c - records of the flight recorder: taken, given, printed; and a reader that trusts nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flight/flight.h"

#define SEC UINT64_C(1000000000)
#define S(text) ((struct lc_str){text, sizeof(text) - 1})

static int
memfd(off_t size)
{
	int fd = memfd_create("test-flight", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static struct lc_fl *
recorder(void)
{
	struct lc_fl *f;

	assert_int_equal(lc_fl_open(&f, memfd((off_t)sizeof(struct lc_flight))), 0);
	assert_true(lseek(f->fd, (off_t)offsetof(struct lc_flight, stack), SEEK_SET) > 0); /* as the arbiter does */
	return f;
}

static const char *
line(const struct lc_fl *f, uint32_t i, uint64_t now)
{
	static char buf[512];
	struct lc_fl_view v;

	if (!lc_fl_look(f->map, i, now, &v))
		return NULL;
	assert_true(lc_fl_print(&v, buf, sizeof(buf)) < (int)sizeof(buf));
	return buf;
}

static void
test_size(void **state)
{
	struct lc_fl *f;
	int fd = memfd((off_t)sizeof(struct lc_flight) - 1);

	(void)state;
	assert_int_equal(sizeof(struct lc_fl_rec), 256);
	assert_int_equal(lc_fl_open(&f, fd), -EINVAL);
	close(fd);
}

static void
test_life(void **state)
{
	struct lc_fl *f = recorder();
	struct lc_req q = {.method = S("GET"), .path = S("/a/b"), .peer = S("192.0.2.1")};
	struct lc_fl_rec *r;

	(void)state;
	r = lc_fl_take(f, &q, 100 * SEC);
	assert_ptr_equal(r, &f->map->rec[0]);
	if (!r)
		return;
	assert_string_equal(line(f, 0, 101 * SEC + SEC / 2),
			    "GET /a/b from 192.0.2.1, for 1.5 s: waiting for a thread");
	assert_true(lc_fl_enter(r, UINT64_C(77) << 32 | 5, 101 * SEC) == (UINT64_C(77) << 32 | 5));
	assert_string_equal(line(f, 0, 103 * SEC),
			    "GET /a/b from 192.0.2.1, for 3.0 s: in the application for 2.0 s, thread 77");
	uint64_t since = lc_fl_wait(r), began = r->began;
	assert_true(since > 0);
	assert_string_equal(
	    line(f, 0, 103 * SEC),
	    "GET /a/b from 192.0.2.1, for 3.0 s: in the application, waiting for its client, thread 77");
	lc_fl_waited(r, since - SEC); /* a wait of a second is not the application's */
	assert_true(r->began >= began + SEC);
	assert_int_equal(r->phase, LC_FL_CALL);
	lc_fl_leave(r);
	assert_true(lc_fl_wait(r) == 0);
	lc_fl_give(f, r);
	assert_null(line(f, 0, 103 * SEC));
	assert_ptr_equal(lc_fl_take(f, &q, SEC), r); /* the warm one again */
	lc_fl_close(f);
}

static void
test_full(void **state)
{
	struct lc_fl *f = recorder();
	struct lc_req q = {.method = S("GET"), .path = S("/"), .peer = S("")};
	char buf[4096];

	(void)state;
	for (uint32_t i = 0; i < LC_FL_RECORDS; i++)
		assert_non_null(lc_fl_take(f, &q, (LC_FL_RECORDS - i) * SEC));
	assert_null(lc_fl_take(f, &q, SEC));
	/* the oldest first, which are the last ones here */
	assert_int_equal(lc_fl_print_all(f->map, 2000 * SEC, 2, buf, sizeof(buf)), LC_FL_RECORDS);
	assert_string_equal(buf, "GET / from a UNIX socket, for 1999.0 s: waiting for a thread\n"
				 "GET / from a UNIX socket, for 1998.0 s: waiting for a thread\n"
				 "and 1022 more\n");
	/* with no room for a line there is still no line cut in two */
	assert_int_equal(lc_fl_print_all(f->map, 2000 * SEC, 9, buf, 80), LC_FL_RECORDS);
	assert_string_equal(buf, "GET / from a UNIX socket, for 1999.0 s: waiting for a thread\nand 1023 more\n");
	lc_fl_close(f);
}

static void
test_long(void **state)
{
	struct lc_fl *f = recorder();
	char path[1000], want[400];
	struct lc_req q = {.method = S("AVERYLONGMETHODNAMEINDEED"), .path = {path, sizeof(path)}, .peer = S("::1")};

	(void)state;
	memset(path, 'p', sizeof(path));
	(void)lc_fl_take(f, &q, SEC);
	snprintf(want, sizeof(want), "AVERYLONGMETHODN %.*s... from ::1, for 1.0 s: waiting for a thread",
		 (int)LC_FL_PATH_MAX, path);
	assert_string_equal(line(f, 0, 2 * SEC), want);
	lc_fl_close(f);
}

/* Whatever stands there, the reader stays within the record and prints one line of printable characters. */
static void
test_hostile(void **state)
{
	struct lc_fl *f = recorder();
	struct lc_fl_rec *r = &f->map->rec[3];
	const char *text;

	(void)state;
	memset(r, 0xff, sizeof(*r));
	text = line(f, 3, 5 * SEC);
	assert_non_null(text);
	assert_non_null(strstr(text, ", for 0.0 s: waiting for a thread"));
	for (const char *p = text; *p; p++)
		assert_true(*p >= 0x20 && *p < 0x7f);
	*r = (struct lc_fl_rec){.started = 1, .method_n = 3, .path_n = 4, .text = "G\nT/\x1b[m"};
	assert_string_equal(line(f, 3, SEC), "G?T /?[m from a UNIX socket, for 1.0 s: waiting for a thread");
	assert_false(lc_fl_look(f->map, LC_FL_RECORDS, SEC, &(struct lc_fl_view){.age_ms = 0}));
	memset(f->map->stack, 'x', LC_FL_STACK);
	assert_int_equal(lc_fl_stack_len(f->map), LC_FL_STACK);
	f->map->crash.sig = 11;
	f->map->crash.nframes = UINT32_MAX;
	char buf[4096];
	assert_true(lc_fl_print_crash(f->map, "SIGSEGV", buf, sizeof(buf)) < (int)sizeof(buf));
	assert_true(lc_fl_print_crash(f->map, "SIGSEGV", buf, 30) < 30);
	lc_fl_close(f);
}

static volatile uint64_t depth = UINT64_MAX, nowhere = 0x18;

static void __attribute__((noinline)) overflow(volatile char *up, uint64_t n)
{
	volatile char here[4096];

	here[0] = up[0];
	if (n < depth)
		overflow(here, n + 1);
	here[1] = up[0];
}

/* A process that dies leaves behind why: of a fault, of a stack that ran over, of abort(). */
static void
test_crash(void **state)
{
	static const struct {
		int sig;
		const char *says;
	} cases[] = {{SIGSEGV, "SIGNAL at address 0x18"}, {SIGSEGV, "SIGNAL at address 0x"}, {SIGABRT, "SIGNAL, sent"}};
	struct lc_fl *f = recorder();
	char buf[4096];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		volatile char start = 0;
		int st;
		pid_t pid;

		memset(&f->map->crash, 0, sizeof(f->map->crash));
		pid = fork();
		if (pid == 0) {
			if (freopen("/dev/null", "w", stderr) == NULL)
				_exit(1);
			for (int s = 1; s < 32; s++)
				signal(s, SIG_DFL);
			lc_fl_crash_install(f);
			lc_fl_crash_install(f); /* twice is once */
			if (i == 0)
				*(volatile int *)(uintptr_t)nowhere = 1;
			if (i == 1)
				overflow(&start, 0);
			abort();
		}
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st));
		assert_int_equal(WTERMSIG(st), cases[i].sig);
		assert_int_equal(f->map->crash.sig, cases[i].sig);
		assert_true(f->map->crash.nframes > 0);
		assert_non_null(strstr(f->map->stack, "test-flight"));
		assert_true(lc_fl_print_crash(f->map, "SIGNAL", buf, sizeof(buf)) > 0);
		assert_ptr_equal(strstr(buf, cases[i].says), buf);
	}
	lc_fl_close(f);
}

/* What a process that we forked dies of is not ours. */
static void
test_crash_of_a_fork(void **state)
{
	struct lc_fl *f = recorder();
	int st;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		lc_fl_crash_install(f);
		pid = fork();
		if (pid == 0)
			abort();
		_exit(waitpid(pid, &st, 0) == pid && WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT ? 7 : 1);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st));
	assert_int_equal(WEXITSTATUS(st), 7);
	assert_int_equal(f->map->crash.sig, 0);
	assert_int_equal(lc_fl_stack_len(f->map), 0);
	lc_fl_close(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_size),
	    cmocka_unit_test(test_life),
	    cmocka_unit_test(test_full),
	    cmocka_unit_test(test_long),
	    cmocka_unit_test(test_hostile),
	    cmocka_unit_test(test_crash),
	    cmocka_unit_test(test_crash_of_a_fork),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
