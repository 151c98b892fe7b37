/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_watch.c - the watchdog, turn by turn: whose silence it breaks, which calls it complains of, and when.
 *
 * The channel is faked here, and the thread not started: each turn is called by hand, times of calls are set back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/watch.c"

#define MS UINT64_C(1000000)

static uint64_t silent;
static uint32_t beats, beat_call, beat_inflight, overdues, stucks, stuck_record;
static uint64_t overdue_call, stuck_call;

uint64_t
lc_ctl_silent_ms(struct lc_ctl *c)
{
	(void)c;
	return silent;
}

int
lc_ctl_beat_again(struct lc_ctl *c, uint32_t call, uint32_t inflight)
{
	(void)c;
	beat_inflight = inflight;
	beats++;
	beat_call = call;
	return 0;
}

int
lc_ctl_stuck(struct lc_ctl *c, uint32_t record, uint64_t call)
{
	(void)c;
	stucks++;
	stuck_record = record;
	stuck_call = call;
	return 0;
}

static void
on_overdue(void *w, uint64_t call)
{
	(void)w;
	overdues++;
	overdue_call = call;
}

static const struct lc_worker module = {.size = sizeof(module), .name = "test", .overdue = on_overdue};
static struct lc_loop loop;
static struct lc_watch x;

static int
setup(void **state)
{
	int fd = memfd_create("test-watch", MFD_CLOEXEC);
	struct lc_fl *f;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)sizeof(struct lc_flight)), 0);
	assert_int_equal(lc_fl_open(&f, fd), 0);
	memset(&x, 0, sizeof(x));
	x.o = (struct lc_watch_opts){
	    .loop = &loop, .flight = f, .wk = &module, .beat_ms = 100, .request_timeout_ms = 1000};
	silent = beats = beat_call = overdues = stucks = 0;
	atomic_store(&loop.token, LC_TOKEN_IDLE);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	lc_fl_close(x.o.flight);
	return 0;
}

static struct lc_fl_rec *
request(void)
{
	static const struct lc_req q = {.method = {"GET", 3}, .path = {"/", 1}};
	struct lc_fl_rec *r = lc_fl_take(x.o.flight, &q, 1);

	assert_non_null(r);
	return r;
}

/* A loop that leads or sleeps speaks for itself: its silence is the arbiter's to judge. */
static void
test_silence(void **state)
{
	static const uint64_t others[] = {LC_TOKEN_LOOP, LC_TOKEN_IDLE};

	(void)state;
	silent = 100000;
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&loop.token, 7u << 2 | others[i]);
		turn(&x);
		assert_int_equal(beats, 0);
	}
	atomic_store(&loop.token, 7u << 2 | LC_TOKEN_CALL);
	turn(&x);
	assert_int_equal(beats, 1);
	silent = 99; /* the loop has just spoken, from within the call */
	turn(&x);
	assert_int_equal(beats, 1);
}

static void
test_age(void **state)
{
	(void)state;
	silent = 100;
	atomic_store(&loop.token, LC_TOKEN_CALL);
	lc_fl_enter(request(), UINT64_C(5) << 32 | 1, lc_now_ns() - 700 * MS);
	lc_fl_enter(request(), UINT64_C(5) << 32 | 2, lc_now_ns() - 300 * MS);
	turn(&x);
	assert_in_range(beat_call, 700, 100000);
	assert_int_equal(beat_inflight, 2);
}

static void
test_overdue(void **state)
{
	struct lc_fl_rec *other = request(), *r = request();

	(void)state;
	lc_fl_enter(other, 1, lc_now_ns() + 1000000 * MS); /* the clock of another thread is ahead */
	lc_fl_enter(r, 2, lc_now_ns() - 999 * MS + 500000 * MS);
	turn(&x);
	assert_int_equal(overdues, 0);
	lc_fl_enter(r, 2, lc_now_ns() - 1000 * MS);
	turn(&x);
	assert_int_equal(overdues, 1);
	assert_int_equal(overdue_call, 2);
	turn(&x); /* once */
	assert_int_equal(overdues, 1);
	assert_int_equal(stucks, 0);
	x.told[1].at -= GRACE_MS * MS;
	turn(&x);
	turn(&x);
	assert_int_equal(stucks, 1);
	assert_int_equal(stuck_record, 1);
	assert_int_equal(stuck_call, 2);
	/* the record's next call is another one */
	lc_fl_enter(r, 3, lc_now_ns() - 1000 * MS);
	turn(&x);
	assert_int_equal(overdues, 2);
	assert_int_equal(stucks, 1);
	lc_fl_leave(r);
	x.told[1].at -= GRACE_MS * MS;
	turn(&x);
	assert_int_equal(stucks, 1);
}

/* A call that waits for its client is not judged. */
static void
test_client(void **state)
{
	struct lc_fl_rec *r = request();
	uint64_t since;

	(void)state;
	lc_fl_enter(r, 9, lc_now_ns() - 5000 * MS);
	since = lc_fl_wait(r);
	turn(&x);
	assert_int_equal(overdues, 0);
	lc_fl_waited(r, since - 4900 * MS);
	turn(&x);
	assert_int_equal(overdues, 0);
}

static void
test_thread(void **state)
{
	struct lc_watch_opts o = x.o;
	struct lc_watch *w;

	(void)state;
	assert_int_equal(lc_watch_start(&w, &o), 0);
	while (!__atomic_load_n(&o.flight->map->watcher, __ATOMIC_RELAXED))
		(void)usleep(1000);
	assert_int_not_equal(o.flight->map->watcher, getpid());
	lc_watch_stop(w);
	assert_int_equal(o.flight->map->watcher, 0);
	lc_watch_stop(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_age, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_overdue, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_client, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_thread, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
