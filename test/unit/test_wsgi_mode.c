/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/test_wsgi_mode.c - when calls run inline and when in the pool; time is the test's own.
 */
#include "../../workers/wsgi/mode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)

static const struct mode_usage zero, slept = {20000, 1}, burnt = {5 * MS, 0}, preempted = {20000, 0};

static void
go_inline(struct mode *m, uint64_t now)
{
	for (uint32_t i = 0; i < m->need - 1; i++) {
		assert_int_equal(mode_pool_call(m, 20 * US, now), 0);
		assert_false(m->is_inline);
	}
	assert_int_equal(mode_pool_call(m, 20 * US, now), 0);
	assert_true(m->is_inline);
}

static void
test_pool(void **state)
{
	struct mode m;

	mode_init(&m);
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 200; k++)
			assert_int_equal(mode_pool_call(&m, 20 * US, 0), 0);
		/* one slow call in 201: never inline */
		assert_int_equal(mode_pool_call(&m, 200 * MS, 0), 1);
		mode_pool_slow(&m, 200 * MS, &zero, i % 2 ? &slept : &burnt, i % 2);
		assert_int_equal(m.run, 0);
		assert_int_equal(m.need, MODE_NEED_SEEN);
	}
	/* preemption does not count against the calls */
	for (int k = 0; k < 200; k++)
		(void)mode_pool_call(&m, 20 * US, 0);
	assert_int_equal(mode_pool_call(&m, 8 * MS, 0), 1);
	mode_pool_slow(&m, 8 * MS, &zero, &preempted, 0);
	assert_int_equal(m.run, 200);
	/* nor does losing the GIL; but a wait as short as that does when nobody else wanted it */
	mode_pool_slow(&m, 8 * MS, &zero, &slept, 1);
	assert_int_equal(m.run, 200);
	mode_pool_slow(&m, 8 * MS, &zero, &slept, 0);
	assert_int_equal(m.run, 0);
	go_inline(&m, 0);
	/* the first calls may be slow */
	mode_init(&m);
	assert_int_equal(mode_pool_call(&m, 50 * MS, 0), 1);
	mode_pool_slow(&m, 50 * MS, &zero, &burnt, 0);
	assert_int_equal(m.need, MODE_NEED_MIN);
	go_inline(&m, 0);
}

static void
test_inline(void **state)
{
	struct mode m;

	mode_init(&m);
	go_inline(&m, 0);
	assert_true(mode_watching(&m));
	for (uint64_t t = 0; t < 100; t++)
		assert_int_equal(mode_batch(&m, 20, 400 * US, t * MS), 0);
	/* a large batch takes more than a millisecond and is nothing special */
	assert_int_equal(mode_batch(&m, 200, 4 * MS, 1), 0);
	assert_true(m.is_inline);
	/* preempted */
	assert_int_equal(mode_batch(&m, 1, 8 * MS, 2), 1);
	mode_batch_slow(&m, 1, 8 * MS, 2, &zero, &preempted);
	assert_true(m.is_inline);
	/* a wait in a large batch: the mean is small, the single call is not */
	assert_int_equal(mode_batch(&m, 100, 7 * MS, 3), 1);
	mode_batch_slow(&m, 100, 7 * MS, 3, &zero, &slept);
	assert_false(m.is_inline);
	assert_int_equal(m.need, MODE_NEED_MIN * 8);
	/* mean above the limit, but no single slow call: back to the pool without a strike */
	go_inline(&m, 4);
	assert_int_equal(mode_batch(&m, 4, 900 * US, 4), 1);
	mode_batch_slow(&m, 4, 900 * US, 4, &zero, &slept);
	assert_false(m.is_inline);
	assert_int_equal(m.need, MODE_NEED_MIN * 8);
	/* burning is slow as well */
	go_inline(&m, 5);
	assert_int_equal(mode_batch(&m, 1, 5 * MS, 5), 1);
	mode_batch_slow(&m, 1, 5 * MS, 5, &zero, &burnt);
	assert_false(m.is_inline);
	assert_int_equal(m.need, MODE_NEED_MIN * 64);
}

static void
test_watch_and_calm(void **state)
{
	struct mode m;
	uint64_t now;

	mode_init(&m);
	go_inline(&m, 0);
	m.need = MODE_NEED_MIN * 8;
	for (now = 0; now <= 11 * S; now += 100 * MS)
		assert_int_equal(mode_batch(&m, 10, 300 * US, now), 0);
	assert_false(mode_watching(&m));
	assert_int_equal(m.need, MODE_NEED_MIN * 4);
	for (; now <= 61 * S; now += 100 * MS)
		assert_int_equal(mode_batch(&m, 10, 300 * US, now), 0);
	assert_int_equal(m.need, MODE_NEED_MIN);
	/* slow without a sample: no strike, but eyes open from then on */
	assert_int_equal(mode_batch(&m, 1, 3 * MS, now), 1);
	mode_batch_slow(&m, 1, 3 * MS, now, NULL, NULL);
	assert_false(m.is_inline);
	assert_int_equal(m.need, MODE_NEED_MIN);
	go_inline(&m, now);
	assert_true(mode_watching(&m));
	for (int i = 0; i < 20; i++)
		mode_batch_slow(&m, 1, 200 * MS, now, &zero, &slept);
	assert_int_equal(m.need, MODE_NEED_MAX);
	mode_init(&m);
	go_inline(&m, 0);
	mode_blocked(&m);
	assert_false(m.is_inline);
	assert_int_equal(m.need, MODE_NEED_MIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pool),
	    cmocka_unit_test(test_inline),
	    cmocka_unit_test(test_watch_and_calm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
