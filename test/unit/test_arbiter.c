/* SPDX-License-Identifier: BSD-2-Clause */
/* test_arbiter.c - the parts of the arbiter that need no process: respawn delays, the table of messages, who listens.
 */
#include "imsg_util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/un.h>

#include "arbiter/priv.h"

static void
test_respawn_delay(void **state)
{
	static const uint32_t most[] = {0, 100, 200, 400, 800, 1600, 2000, 2000, 2000};

	for (uint32_t f = 0; f < 9; f++) {
		for (uint32_t r = 0; r < 5000; r += 7) {
			uint32_t d = lc__respawn_delay(f, 100, 2000, r);

			assert_true(d <= most[f] && d >= most[f] / 4 * 3);
		}
		assert_int_equal(lc__respawn_delay(f, 100, 2000, 0), most[f]);
	}
	assert_int_equal(lc__respawn_delay(UINT32_MAX, 1, 3600000, 0), 3600000);
	assert_int_equal(lc__respawn_delay(3, 5000, 10, 0), 10);
	assert_int_equal(lc__respawn_delay(UINT32_MAX, 1, UINT64_MAX / 2, 0), UINT32_MAX);
	/* not all the same */
	assert_int_not_equal(lc__respawn_delay(2, 1000, 9000, 1), lc__respawn_delay(2, 1000, 9000, 900));
}

static lcimsg_msg *
make(uint16_t type, size_t n)
{
	lcimsg_msg *m = lcimsg_msg_new(type, 0);
	char *z = calloc(1, n + 1);

	lcimsg_put_bytes(m, z, n);
	free(z);
	return m;
}

static int
check(uint16_t type, size_t n, unsigned from, unsigned when, const char *words)
{
	char why[160] = "";
	lcimsg_msg *m = make(type, n);
	int r = lc_msg_check(m, from, when, why, sizeof(why));

	lcimsg_unref(m);
	if (r < 0 && !strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
	return r;
}

static void
test_messages(void **state)
{
	const unsigned ready = LC_PS_BIT(LC_PS_READY), starting = LC_PS_BIT(LC_PS_STARTING);

	assert_int_equal(check(LC_MSG_HEARTBEAT, 28, LC_ROLE_WORKER, ready, ""), 0);
	assert_int_equal(check(LC_MSG_HEARTBEAT, 27, LC_ROLE_WORKER, ready, "HEARTBEAT with 27 bytes"), -EPROTO);
	assert_int_equal(check(LC_MSG_HEARTBEAT, 29, LC_ROLE_WORKER, ready, "HEARTBEAT with 29 bytes"), -EPROTO);
	assert_int_equal(check(LC_MSG_HEARTBEAT, 28, LC_ROLE_WORKER, starting, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_HEARTBEAT, 28, LC_ROLE_ARBITER, LC_WS_RUNNING, "not its to send"), -EPROTO);
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_WORKER, starting, ""), 0);
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_WORKER, LC_PS_BIT(LC_PS_DRAINING), ""), 0); /* crossed */
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_WORKER, ready, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_BOOT_FAILED, LC_BOOT_TEXT_MAX, LC_ROLE_WORKER, starting, ""), 0);
	assert_int_equal(check(LC_MSG_BOOT_FAILED, LC_BOOT_TEXT_MAX + 1, LC_ROLE_WORKER, starting, "bytes"), -EPROTO);
	assert_int_equal(check(LC_MSG_STOP, 0, LC_ROLE_WORKER, ready, "not its to send"), -EPROTO);
	assert_int_equal(check(LC_MSG_STOP, 0, LC_ROLE_ARBITER, LC_WS_SETUP, ""), 0);
	assert_int_equal(check(LC_MSG_GO, 0, LC_ROLE_ARBITER, LC_WS_RUNNING, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_CONFIG, 122, LC_ROLE_ARBITER, LC_WS_SETUP, "0 file descriptors"), -EPROTO);
	assert_int_equal(check(LC_MSG_FILE, 40, LC_ROLE_ARBITER, LC_WS_SETUP, "0 file descriptors"), -EPROTO);
	assert_int_equal(check(LC_MSG_FILE, 40, LC_ROLE_ARBITER, LC_WS_RUNNING, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_FILE, 5000, LC_ROLE_ARBITER, LC_WS_SETUP, "5000 bytes"), -EPROTO);
	assert_int_equal(check(LCIMSG_TYPE_HELLO, 30, LC_ROLE_ARBITER, LC_WS_SETUP, ""), 0);
	assert_int_equal(check(LCIMSG_TYPE_HELLO, 30, LC_ROLE_WORKER, LC_PS_BIT(LC_PS_SPAWNING), ""), 0);
	assert_int_equal(check(0x0999, 0, LC_ROLE_WORKER, ready, "0x0999 is unknown"), -EPROTO);
	/* an arbiter and its successor */
	assert_int_equal(check(LCIMSG_TYPE_HELLO, 30, LC_ROLE_SUCCESSOR, LC_PS_BIT(LC_PS_SPAWNING), ""), 0);
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_SUCCESSOR, starting, ""), 0);
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_SUCCESSOR, ready, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_HEARTBEAT, 28, LC_ROLE_SUCCESSOR, ready, "not its to send"), -EPROTO);
	assert_int_equal(check(LC_MSG_COMMIT, 0, LC_ROLE_SUCCESSOR, ready, "not its to send"), -EPROTO);
	assert_int_equal(check(LC_MSG_OFFER, 20, LC_ROLE_ARBITER, LC_US_SETUP, "0 file descriptors"), -EPROTO);
	assert_int_equal(check(LC_MSG_OFFER, 20, LC_ROLE_ARBITER, LC_WS_SETUP, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_KEEP, 80, LC_ROLE_ARBITER, LC_US_SETUP, ""), 0);
	assert_int_equal(check(LC_MSG_KEEP, 80, LC_ROLE_ARBITER, LC_US_RUNNING, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_GO, 0, LC_ROLE_ARBITER, LC_US_SETUP, ""), 0);
	assert_int_equal(check(LC_MSG_COMMIT, 0, LC_ROLE_ARBITER, LC_US_RUNNING, ""), 0);
	assert_int_equal(check(LC_MSG_COMMIT, 0, LC_ROLE_ARBITER, LC_US_SETUP, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_COMMIT, 0, LC_ROLE_ARBITER, LC_WS_RUNNING, "wrong time"), -EPROTO);
	/* a watcher */
	assert_int_equal(check(LCIMSG_TYPE_HELLO, 30, LC_ROLE_WATCHER, LC_PS_BIT(LC_PS_SPAWNING), ""), 0);
	assert_int_equal(check(LC_MSG_WATCH, 40, LC_ROLE_ARBITER, LC_XS_SETUP, ""), 0);
	assert_int_equal(check(LC_MSG_WATCH, 40, LC_ROLE_ARBITER, LC_XS_RUNNING, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_READY, 0, LC_ROLE_WATCHER, starting, ""), 0);
	assert_int_equal(check(LC_MSG_CHANGED, LC_CHANGED_MAX, LC_ROLE_WATCHER, ready, ""), 0);
	assert_int_equal(check(LC_MSG_CHANGED, LC_CHANGED_MAX + 1, LC_ROLE_WATCHER, ready, "1025 bytes"), -EPROTO);
	assert_int_equal(check(LC_MSG_CHANGED, 1, LC_ROLE_WATCHER, starting, "wrong time"), -EPROTO);
	assert_int_equal(check(LC_MSG_CHANGED, 1, LC_ROLE_WORKER, ready, "not its to send"), -EPROTO);
	/* no message of a child carries fds */
	for (unsigned t = 0; t < 0x10000; t++) {
		const struct lc_msg_row *row = lc_msg_row((uint16_t)t);

		if (row && row->from != LC_ROLE_ARBITER)
			assert_int_equal(row->nfds, 0);
	}
}

static void
test_oom(void **state)
{
	(void)state;
	assert_int_equal(lc__oom_count("pgfault 12\noom_kill 7\nnuma_hit 3\n"), 7);
	assert_int_equal(lc__oom_count("oom_kill 0\n"), 0);
	assert_int_equal(lc__oom_count("drop_oom_kill 5\noom_kill 18446744\n"), 18446744);
	assert_int_equal(lc__oom_count("memcg_oom_kill 5\n"), -1);
	assert_int_equal(lc__oom_count(""), -1);
}

static void
who(int family, const char *bind_to, const char *ask)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct lc_addr a = {.family = family};
	struct sockaddr_storage ss = {.ss_family = (sa_family_t)family};
	socklen_t len = sizeof(ss);
	char buf[400];
	pid_t pid = 0;

	if (family == AF_INET) {
		inet_pton(AF_INET, bind_to, &((struct sockaddr_in *)&ss)->sin_addr);
		len = sizeof(struct sockaddr_in);
	} else {
		inet_pton(AF_INET6, bind_to, &((struct sockaddr_in6 *)&ss)->sin6_addr);
		len = sizeof(struct sockaddr_in6);
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 1) < 0) {
		if (fd >= 0)
			close(fd);
		assert_int_equal(family, AF_INET6); /* a machine without it */
		return;
	}
	getsockname(fd, (struct sockaddr *)&ss, &len);
	if (family == AF_INET)
		inet_pton(AF_INET, ask, &((struct sockaddr_in *)&ss)->sin_addr);
	else
		inet_pton(AF_INET6, ask, &((struct sockaddr_in6 *)&ss)->sin6_addr);
	memcpy(a.sa.raw, &ss, len);
	a.len = len;
	assert_int_equal(lc__who_listens(&a, buf, sizeof(buf), &pid), 0);
	assert_int_equal(pid, getpid());
	assert_non_null(strstr(buf, "test-arbiter"));
	close(fd);
	assert_int_equal(lc__who_listens(&a, buf, sizeof(buf), &pid), -ENOENT);
}

static void
test_who(void **state)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct lc_addr a = {.family = AF_UNIX, .len = sizeof(sun)};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char buf[400];
	pid_t pid = 0;

	who(AF_INET, "127.0.0.1", "127.0.0.1");
	who(AF_INET, "0.0.0.0", "127.0.0.1");
	who(AF_INET, "127.0.0.1", "0.0.0.0");
	who(AF_INET6, "::1", "::1");
	who(AF_INET6, "::", "::1");
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/lc-who-%ld.sock", (long)getpid());
	unlink(sun.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 1), 0);
	memcpy(a.sa.raw, &sun, sizeof(sun));
	assert_int_equal(lc__who_listens(&a, buf, sizeof(buf), &pid), 0);
	assert_int_equal(pid, getpid());
	unlink(sun.sun_path);
	close(fd);
}

static void
test_last_line(void **state)
{
	char b[12];

	assert_string_equal(lc__last_line("one\ntwo\n\n", 9, b, sizeof(b)), "two");
	assert_string_equal(lc__last_line("one", 3, b, sizeof(b)), "one");
	assert_string_equal(lc__last_line("", 0, b, sizeof(b)), "");
	assert_string_equal(lc__last_line("\n\n", 2, b, sizeof(b)), "");
	assert_string_equal(lc__last_line("a\nlonger than that", 18, b, sizeof(b)), "longer than");
}

static void
test_signal_names(void **state)
{
	char b[16];

	assert_string_equal(lc__signal_name(SIGKILL, b), "SIGKILL");
	assert_string_equal(lc__signal_name(SIGSEGV, b), "SIGSEGV");
	assert_string_equal(lc__signal_name(63, b), "signal 63");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_respawn_delay), CASE(test_messages),  CASE(test_oom),
					   CASE(test_who),           CASE(test_last_line), CASE(test_signal_names)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
