/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/test_wsgi_pool.c - the wsgi module over a loop whose lead can be handed on.
 *
 * run() has the main thread, so the scenario plays in a thread of its own and notes what fails.
 */
#include "lcpy.h"

#include "pyhost_fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

const struct lc_module *lc_module_query(const struct lc_host *);

static const struct lc_worker *ops;
static void *worker;
static char failure[512];
static int last_shared;

#define CHECK(x)                                                                               \
	do {                                                                                   \
		if (!(x) && !failure[0])                                                       \
			(void)snprintf(failure, sizeof(failure), "line %d: %s", __LINE__, #x); \
	} while (0)

static struct lc_stream *
send_get(const char *target)
{
	struct lc_stream *s = fake_stream("GET", target, NULL);

	fake_loop_post(s);
	return s;
}

static void
finish(struct lc_stream *s, const char *body)
{
	fake_wait_done(s);
	fake_flush(s);
	CHECK(s->status == 200);
	if (!s->body || (body && strcmp(s->body, body) != 0)) {
		CHECK(!"body");
		print_error("expected %s, got %s\n", body ? body : "a body", s->body ? s->body : "none");
	}
	CHECK(s->violations == 0);
	CHECK(s->releases == 1);
	last_shared = s->shared;
	fake_free(s);
}

static void
hello(uint32_t n)
{
	while (n--)
		finish(send_get("/"), "Hello, World!");
}

/* Until a call runs inline; how many it took. */
static uint32_t
until_inline(uint32_t max)
{
	uint32_t n = 0;

	do
		hello(1);
	while (last_shared && ++n < max);
	CHECK(n < max);
	return n;
}

static void *
scenario(void *unused)
{
	struct lc_stream *s[16], *b;
	uint32_t n, i;

	/* pool first, inline when proven */
	hello(1);
	CHECK(last_shared);
	n = until_inline(20000);
	CHECK(n >= 255);
	hello(100);

	/* a body that is not there yet goes to the pool, and does not hold up others */
	b = fake_stream("POST", "/length", NULL);
	fake_body(b, -1, "abc", "def", NULL);
	b->block_read = 1;
	fake_loop_post(b);
	finish(send_get("/"), "Hello, World!");
	CHECK(last_shared); /* another call is outstanding, or was */
	fake_loop_feed(b);
	finish(b, "6");
	CHECK(last_shared);
	/* a complete one does not */
	(void)until_inline(20000);
	b = fake_stream("POST", "/length", NULL);
	fake_body(b, 3, "abc", NULL);
	fake_loop_post(b);
	finish(b, "3");
	CHECK(!last_shared);

	/* an inline call whose client does not read: the lead moves on, everybody else is served */
	(void)until_inline(20000);
	n = fake_handed_on;
	b = fake_stream("GET", "/gen-big", NULL);
	b->room = 50000;
	b->block_write = 1;
	fake_loop_post(b);
	hello(50);
	CHECK(fake_handed_on == n + 1);
	CHECK(last_shared);
	fake_loop_feed(b);
	fake_wait_done(b);
	fake_flush(b);
	CHECK(b->body_n == 2000000);
	fake_free(b);
	/* several times: each thread leads in turn */
	for (i = 0; i < 8; i++) {
		(void)until_inline(300000);
		b = fake_stream("GET", "/gen-big", NULL);
		b->room = 50000;
		b->block_write = 1;
		fake_loop_post(b);
		hello(2);
		fake_loop_feed(b);
		fake_wait_done(b);
		CHECK(b->body_n + b->waiting == 2000000);
		fake_free(b);
	}

	/* slow calls: once inline, never again for long */
	(void)until_inline(300000);
	finish(send_get("/sleep?20"), NULL);
	CHECK(!last_shared);
	hello(1);
	CHECK(last_shared);
	n = until_inline(300000);
	CHECK(n >= 2000);

	/* at most four at once; the rest waits; all are answered */
	for (i = 0; i < 16; i++)
		s[i] = send_get("/sleep?30");
	for (i = 0; i < 16; i++)
		finish(s[i], NULL);
	finish(send_get("/sleep?0"), "4");

	/* three that hang leave one thread, and a lead */
	for (i = 0; i < 3; i++)
		s[i] = send_get("/block");
	hello(300);
	CHECK(last_shared);
	for (i = 4; i < 12; i++)
		s[i] = send_get("/");
	for (i = 4; i < 12; i++)
		finish(s[i], "Hello, World!");
	finish(send_get("/unblock"), NULL);
	for (i = 0; i < 3; i++)
		finish(s[i], "through");

	/* large bodies are let go of without a call passing by, see the end of main() */
	b = send_get("/big-counted");
	fake_wait_done(b);
	CHECK(b->nheld == 1);
	CHECK(!lcpy_drain_wanted());
	fake_flush(b);
	CHECK(b->body_n == 100000);
	CHECK(lcpy_drain_wanted());
	fake_free(b);
	hello(1); /* its batch ends */
	finish(send_get("/count-freed"), "1");

	ops->stop(worker, LC_STOP_DRAIN, 1000);
	hello(10);
	ops->stop(worker, LC_STOP_QUIT, 5000);
	fake_loop_stop();
	return NULL;
}

/* A call that never ends: run() comes back all the same. */
static void *
hanging(void *unused)
{
	struct lc_stream *s = send_get("/block");

	while (!__atomic_load_n(&s->shares, __ATOMIC_RELAXED) || !strstr(fake_log, "ready"))
		hello(1), fake_worker.log(NULL, LC_LOG_INFO, "ready");
	ops->stop(worker, LC_STOP_QUIT, 0);
	fake_loop_stop();
	return NULL;
}

static int
boot(uint64_t threads)
{
	static const char *const path[] = {LCPY_TEST_DIR};
	const struct lc_module *m = lc_module_query(NULL);
	static struct lcpy_conf conf;

	conf = (struct lcpy_conf){.app = "pyapps", .pythonpath = {path, 1}, .threads = threads};
	ops = m->ifaces[0].ops;
	if (m->load(NULL) < 0 || ops->init(NULL, &fake_worker, &conf, &worker) < 0)
		return -1;
	fake_loop_start(ops, worker);
	return 0;
}

static int
play(void *(*what)(void *), uint64_t threads)
{
	pthread_t t;
	int rc;

	if (boot(threads) < 0)
		return -1;
	(void)pthread_create(&t, NULL, what, NULL);
	rc = ops->run(worker);
	(void)pthread_join(t, NULL);
	return rc;
}

static void
test_hanging(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int rc = play(hanging, 2);

		/* 1: nothing may be taken down under the call; a fini() all the same leaves Python alone */
		ops->fini(worker);
		_exit(rc == 1 && Py_IsInitialized() && !failure[0] ? 42 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void
test_pool(void **state)
{
	int rc = play(scenario, 4);

	if (rc)
		fail_msg("run: %d %s", rc, fake_boot);
	if (failure[0])
		fail_msg("%s\n%s", failure, fake_log);
	ops->fini(worker);
	assert_false(Py_IsInitialized());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_hanging), cmocka_unit_test(test_pool)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
