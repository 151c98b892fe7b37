/* SPDX-License-Identifier: BSD-2-Clause */
/* test_log.c - one line per call, levels, and that nothing from outside forges a line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log/log.h"

static int saved_err, mem;
static char out[1 << 20];

static int
setup(void **state)
{
	saved_err = dup(2);
	mem = memfd_create("log", 0);
	assert_true(mem >= 0);
	assert_true(dup2(mem, 2) == 2);
	lc_log_role("test");
	lc_log_level(LC_LOG_INFO);
	return 0;
}

static int
teardown(void **state)
{
	dup2(saved_err, 2);
	close(saved_err);
	close(mem);
	return 0;
}

static const char *
collect(void)
{
	ssize_t n = pread(mem, out, sizeof(out) - 1, 0);

	assert_true(n >= 0);
	out[n] = 0;
	return out;
}

static unsigned
lines(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static void
test_line(void **state)
{
	char want[128];

	errno = ENOENT;
	lc_log(LC_LOG_NOTICE, "opened %s: %m", "x");
	assert_int_equal(errno, ENOENT);
	lc_log(LC_LOG_DEBUG, "below the level");
	snprintf(want, sizeof(want), "Z [notice] %ld test: opened x: No such file or directory\n", (long)getpid());
	assert_non_null(strstr(collect(), want));
	assert_int_equal(lines(out), 1);
}

static void
test_forged(void **state)
{
	lc_log(LC_LOG_ERROR, "name %s",
	       "a\r\n2026 [crit] 1 arbiter: gone\x1b[2J\x7f\xc2\x9b\xff\xe2\x82\xac\xed\xa0\x80");
	collect();
	assert_int_equal(lines(out), 1);
	assert_non_null(
	    strstr(out, "a\\r\\n2026 [crit] 1 arbiter: gone\\x1b[2J\\x7f\\xc2\\x9b\\xff\xe2\x82\xac\\xed\\xa0\\x80\n"));
}

static void
test_long(void **state)
{
	char *s = malloc(40000);

	assert_non_null(s);
	memset(s, '\n', 39999);
	s[39999] = 0;
	lc_log(LC_LOG_ERROR, "%s", s);
	collect();
	assert_int_equal(lines(out), 1);
	assert_true(strlen(out) <= 8192);
	free(s);
}

static void
test_text(void **state)
{
	const char *t = "Traceback:\n  File \"x\"\nError: \x1b[31mred";

	lc_log_text(LC_LOG_ERROR, "cannot boot", t, strlen(t));
	collect();
	assert_int_equal(lines(out), 4);
	assert_non_null(strstr(out, "test: cannot boot\n    Traceback:\n      File \"x\"\n    Error: \\x1b[31mred\n"));
}

static void
test_text_hostile(void **state)
{
	size_t n = 1 << 20;
	char *s = malloc(n);

	assert_non_null(s);
	for (size_t i = 0; i < n; i++)
		s[i] = (char)(i % 3 ? 1 : '\n');
	lc_log_text(LC_LOG_ERROR, "cut", s, n);
	collect();
	assert_true(strlen(out) > 200000 && strlen(out) < (1 << 20) - 1);
	assert_int_equal(out[strlen(out) - 1], '\n');
	free(s);
}

static void
test_plain(void **state)
{
	lc_log_plain(1);
	lc_log(LC_LOG_ERROR, "no such file\n");
	lc_log_plain(0);
	assert_string_equal(collect(), "licorne: no such file\\n\n");
}

static void
test_levels(void **state)
{
	assert_int_equal(lc_log_level_parse("debug"), LC_LOG_DEBUG);
	assert_int_equal(lc_log_level_parse("crit"), LC_LOG_CRIT);
	assert_int_equal(lc_log_level_parse("warn"), LC_LOG_WARN);
	assert_int_equal(lc_log_level_parse("loud"), -EINVAL);
	assert_true(lc_log_enabled(LC_LOG_INFO));
	assert_false(lc_log_enabled(LC_LOG_DEBUG));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_line, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_forged, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_long, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_text, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_text_hostile, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
