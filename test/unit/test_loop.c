/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_loop.c - the loop: posted work keeps its order, timers fire in order, the lead changes hands inside an event
 * without losing the rest of the batch, and events that are marked for later do not hold up others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/loop.h"

static struct lc_loop L;
static int order[64], norder;

struct item {
	struct lc_post post;
	int id;
};

static void
note(struct lc_post *p)
{
	order[norder++] = ((struct item *)p)->id;
}

static void
stop_post(struct lc_post *p)
{
	(void)p;
	lc_loop_stop(&L);
}

static void
test_posts_in_order(void **state)
{
	struct item it[5];
	struct lc_post stop = {.fn = stop_post};

	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	norder = 0;
	for (int k = 0; k < 5; k++) {
		it[k] = (struct item){.post = {.fn = note}, .id = k};
		lc_loop_post(&L, &it[k].post);
	}
	lc_loop_post(&L, &stop);
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(norder, 5);
	for (int k = 0; k < 5; k++)
		assert_int_equal(order[k], k);
	lc_loop_done(&L);
}

static struct lc_timer T[3], again;
static int fired[8], nfired;

static void
timer_note(struct lc_timer *t)
{
	fired[nfired++] = t == &again ? 9 : (int)(t - T);
	if (t == &T[0])
		lc_timer_arm(&L, &again, 1, timer_note);
	if (nfired == 3)
		lc_loop_stop(&L);
}

static void
test_timers(void **state)
{
	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	nfired = 0;
	lc_timer_arm(&L, &T[1], 30, timer_note);
	lc_timer_arm(&L, &T[0], 2, timer_note);
	lc_timer_arm(&L, &T[2], 4, timer_note);
	lc_timer_cancel(&T[2]);
	assert_false(lc_timer_armed(&T[2]));
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(nfired, 3);
	assert_int_equal(fired[0], 0);
	assert_int_equal(fired[1], 9);
	assert_int_equal(fired[2], 1);
	lc_loop_done(&L);
}

/* Many durations: none is lost, none is early. */
static struct lc_timer many[100];
static int nmany;

static void
many_fired(struct lc_timer *t)
{
	assert_true(lc_loop_ms(&L) >= t->at);
	assert_false(lc_timer_armed(t));
	if (++nmany == 100)
		lc_loop_stop(&L);
}

/* ---- a long call ---- */

static struct lc_ev long_ev, late_ev;
static struct lc_timer idle;

static void
idle_over(struct lc_timer *t)
{
	order[norder++] = 2;
	lc_loop_stop(&L);
}

static void
late_event(struct lc_ev *ev, uint32_t events)
{
	order[norder++] = 1;
	lc_ev_set(&L, ev, 0, 0);
}

/* Takes longer than the timer; meanwhile something comes for another event. */
static void
long_call(struct lc_ev *ev, uint32_t events)
{
	uint64_t one = 1, end = lc_loop_ms(&L) + 20;

	lc_ev_set(&L, ev, 0, 0);
	lc_timer_arm(&L, &idle, 5, idle_over);
	assert_int_equal(write(late_ev.fd, &one, sizeof(one)), sizeof(one));
	while (lc_loop_ms(&L) < end)
		lc_loop_clock(&L);
}

static void
test_events_before_timers_after_a_long_call(void **state)
{
	assert_int_equal(lc_loop_init(&L), 0);
	norder = 0;
	long_ev = (struct lc_ev){.fn = long_call, .fd = eventfd(1, EFD_NONBLOCK)};
	late_ev = (struct lc_ev){.fn = late_event, .fd = eventfd(0, EFD_NONBLOCK)};
	assert_int_equal(lc_ev_set(&L, &long_ev, EPOLLIN, 0), 0);
	assert_int_equal(lc_ev_set(&L, &late_ev, EPOLLIN, 0), 0);
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(norder, 2);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[1], 2);
	close(long_ev.fd);
	close(late_ev.fd);
	lc_loop_done(&L);
}

static void
test_many_durations(void **state)
{
	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	nmany = 0;
	for (int k = 99; k >= 0; k--)
		lc_timer_arm(&L, &many[k], (uint64_t)(2 * k + 1), many_fired);
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(nmany, 100);
	lc_loop_done(&L);
}

/* ---- the lead changes hands in the middle of a batch ---- */

static struct lc_ev ev[3];
static int seen[3];
static pthread_t seen_by[3];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static int vacant, slow_done;

static void
event(struct lc_ev *e, uint32_t events)
{
	int k = (int)(e - ev);

	assert_true(events & EPOLLIN);
	lc_ev_set(&L, e, 0, 0);
	seen[k]++;
	seen_by[k] = pthread_self();
	int total = seen[0] + seen[1] + seen[2];
	if (total == 1) { /* the first one is slow: others go on without it */
		lc_loop_hand_on(&L);
		pthread_mutex_lock(&mu);
		vacant = 1;
		pthread_cond_broadcast(&cv);
		while (!slow_done)
			pthread_cond_wait(&cv, &mu);
		pthread_mutex_unlock(&mu);
		return;
	}
	if (total == 3) {
		lc_loop_stop(&L);
		pthread_mutex_lock(&mu);
		slow_done = 1;
		pthread_cond_broadcast(&cv);
		pthread_mutex_unlock(&mu);
	}
}

static void *
follower(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mu);
	while (!vacant)
		pthread_cond_wait(&cv, &mu);
	pthread_mutex_unlock(&mu);
	return (void *)(intptr_t)lc_loop_lead(&L);
}

static void
test_hand_on(void **state)
{
	pthread_t t;
	void *r;

	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	for (int k = 0; k < 3; k++) {
		ev[k] = (struct lc_ev){.fn = event, .fd = eventfd(1, EFD_CLOEXEC)};
		assert_int_equal(lc_ev_set(&L, &ev[k], EPOLLIN, k == 2), 0);
	}
	assert_int_equal(pthread_create(&t, NULL, follower, NULL), 0);
	assert_int_equal(lc_loop_lead(&L), 1); /* handed on */
	pthread_join(t, &r);
	assert_int_equal((intptr_t)r, 0); /* stopped */
	assert_int_equal(seen[0] + seen[1] + seen[2], 3);
	/* the one marked "first" came first, on this thread; the others on the follower */
	assert_true(pthread_equal(seen_by[2], pthread_self()));
	assert_true(pthread_equal(seen_by[0], t));
	assert_true(pthread_equal(seen_by[1], t));
	for (int k = 0; k < 3; k++)
		close(ev[k].fd);
	lc_loop_done(&L);
}

static int again_left, again_at;
static struct lc_ev ready_ev;

static void
post_again(struct lc_post *p)
{
	if (--again_left > 0)
		lc_loop_post(&L, p);
	else
		lc_loop_stop(&L);
}

static void
ready_fired(struct lc_ev *e, uint32_t events)
{
	(void)events;
	again_at = again_left;
	assert_int_equal(lc_ev_set(&L, e, 0, 0), 0);
}

/* Work that posts more work: sockets have their turn in between. */
static void
test_posts_do_not_starve(void **state)
{
	struct lc_post p = {.fn = post_again};

	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	again_left = 1000;
	again_at = 0;
	ready_ev = (struct lc_ev){.fn = ready_fired, .fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)};
	assert_int_equal(lc_ev_set(&L, &ready_ev, EPOLLIN, 0), 0);
	lc_loop_post(&L, &p);
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(again_left, 0);
	assert_true(again_at >= 998);
	close(ready_ev.fd);
	lc_loop_done(&L);
}

/* ---- later ---- */

#define LATE 40

static struct lc_ev late[LATE], prompt;
static int nlate, since, most, nprompt;

static void
late_fired(struct lc_ev *e, uint32_t events)
{
	assert_true(events & EPOLLIN);
	assert_true(e->armed & LC_EV_LATER);
	nlate++;
	if (++since > most)
		most = since;
}

static void
prompt_fired(struct lc_ev *e, uint32_t events)
{
	uint64_t n;

	(void)events;
	since = 0;
	if (++nprompt < 20)
		return;
	assert_int_equal(read(e->fd, &n, sizeof(n)), sizeof(n));
	lc_loop_stop(&L);
}

/* Both are always ready: between two turns of the prompt one, few of the others have theirs, and all of them do in
 * time; one that is moved is in its new place at once. */
static void
test_later(void **state)
{
	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	nlate = since = most = nprompt = 0;
	for (int k = 0; k < LATE; k++) {
		late[k] = (struct lc_ev){.fn = late_fired, .fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)};
		assert_true(late[k].fd >= 0);
		assert_int_equal(lc_ev_set(&L, &late[k], EPOLLIN | LC_EV_LATER, 0), 0);
	}
	prompt = (struct lc_ev){.fn = prompt_fired, .fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)};
	assert_int_equal(lc_ev_set(&L, &prompt, EPOLLIN | LC_EV_LATER, 0), 0);
	assert_int_equal(lc_ev_set(&L, &prompt, EPOLLIN, 0), 0);
	assert_int_equal(lc_loop_lead(&L), 0);
	assert_int_equal(nprompt, 20);
	assert_true(most <= LC_LOOP_LATER);
	assert_true(nlate > LATE);
	for (int k = 0; k < LATE; k++) {
		assert_int_equal(lc_ev_set(&L, &late[k], 0, 0), 0);
		close(late[k].fd);
	}
	close(prompt.fd);
	lc_loop_done(&L);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_posts_in_order),
	    cmocka_unit_test(test_timers),
	    cmocka_unit_test(test_many_durations),
	    cmocka_unit_test(test_hand_on),
	    cmocka_unit_test(test_later),
	    cmocka_unit_test(test_posts_do_not_starve),
	    cmocka_unit_test(test_events_before_timers_after_a_long_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
