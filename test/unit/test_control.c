/* SPDX-License-Identifier: BSD-2-Clause */
/* test_control.c - the worker's end of its channel, against an arbiter that the test plays. */
#include "imsg_util.h"

#include "arbiter/msg.h"
#include "log/log.h"
#include "worker/control.h"

#include <time.h>

struct seen {
	uint8_t secret[32], before[32];
	int secrets;
	int drain, stop, kick, lost, logs, forks, fd;
	uint32_t index;
	int64_t ms;
};

static void
do_drain(void *arg, int64_t ms)
{
	((struct seen *)arg)->drain++;
	((struct seen *)arg)->ms = ms;
}
static void
do_stop(void *arg)
{
	((struct seen *)arg)->stop++;
}
static void
do_kick(void *arg)
{
	((struct seen *)arg)->kick++;
}
static void
do_lost(void *arg)
{
	((struct seen *)arg)->lost++;
}
static void
do_log(void *arg, uint32_t index, int fd)
{
	struct seen *s = arg;

	s->logs++;
	if (s->fd >= 0)
		close(s->fd);
	s->index = index;
	s->fd = fd;
}
static void
do_secret(void *arg, const uint8_t secret[32])
{
	struct seen *s = arg;

	s->secrets++;
	memcpy(s->before, s->secret, 32);
	memcpy(s->secret, secret, 32);
}
static void
do_fork(void *arg, int fd)
{
	struct seen *s = arg;

	s->forks++;
	close(fd);
}
static const struct lc_ctl_ops ops = {.drain = do_drain,
				      .stop = do_stop,
				      .kick = do_kick,
				      .lost = do_lost,
				      .secret = do_secret,
				      .log = do_log,
				      .fork = do_fork};

static struct lc_ctl *
open_as(lcimsg_chan **ret, int (*open)(struct lc_ctl **, int, const char *))
{
	struct lcimsg_opts o = {.struct_size = sizeof(o), .flags = LCIMSG_OWN_FD, .role = LC_ROLE_ARBITER};
	struct lc_ctl *c = NULL;
	int sv[2];

	lc_log_level(1); /* what is provoked is not to be read */
	assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
	assert_int_equal(lcimsg_open(ret, sv[0], &o), 0);
	assert_int_equal(open(&c, sv[1], "test"), 0);
	assert_int_equal(fcntl(sv[1], F_GETFD), FD_CLOEXEC);
	return c;
}

static struct lc_ctl *
open_pair(lcimsg_chan **ret)
{
	return open_as(ret, lc_ctl_open);
}

static void
send_config(lcimsg_chan *a, uint32_t nlisteners)
{
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_CONFIG, 0);

	lcimsg_put_memfd(m, lcimsg_memfd("t", "pool web { }", 12), 12, LCIMSG_FD_TAKE);
	lcimsg_put_u32(m, 3);
	lcimsg_put_u32(m, 5);
	lcimsg_put_u32(m, 1);
	lcimsg_put_u32(m, nlisteners);
	lcimsg_put_u32(m, 1);
	lcimsg_put_u8(m, 1);
	lcimsg_put_bytes(m, "0123456789abcdef0123456789abcdef", 32);
	lcimsg_put_bytes(m, "the one before that one, 32 long", 32);
	lcimsg_put_str(m, "/etc/x");
	assert_int_equal(lcimsg_submit(a, m), 0);
}

static void
send_listen(lcimsg_chan *a, uint32_t index, const char *name, char mark)
{
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_LISTEN, 0);

	lcimsg_put_u32(m, index);
	lcimsg_put_str(m, name);
	lcimsg_put_fd(m, marked(mark), LCIMSG_FD_TAKE);
	assert_int_equal(lcimsg_submit(a, m), 0);
}

static void
send_access(lcimsg_chan *a, uint32_t index, char mark)
{
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_ACCESSLOG, 0);

	lcimsg_put_u32(m, index);
	lcimsg_put_fd(m, marked(mark), LCIMSG_FD_TAKE);
	assert_int_equal(lcimsg_submit(a, m), 0);
}

static void
send_file(lcimsg_chan *a, const char *path, const char *content)
{
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_FILE, 0);
	size_t n = strlen(content);

	lcimsg_put_memfd(m, lcimsg_memfd("t", content, n), n, LCIMSG_FD_TAKE);
	lcimsg_put_str(m, path);
	assert_int_equal(lcimsg_submit(a, m), 0);
}

static void
say(lcimsg_chan *a, uint16_t type)
{
	assert_int_equal(lcimsg_send(a, type, 0, NULL, 0, NULL, 0, 0), 0);
}

static void
send_drain(lcimsg_chan *a, int64_t from_now)
{
	struct timespec ts;
	lcimsg_msg *m = lcimsg_msg_new(LC_MSG_DRAIN, 0);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	lcimsg_put_u64(m, (uint64_t)((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + from_now));
	assert_int_equal(lcimsg_submit(a, m), 0);
}

static struct lc_ctl *
running(lcimsg_chan **a)
{
	struct lc_ctl *c = open_pair(a);
	const struct lc_ctl_setup *s;

	send_config(*a, 0);
	say(*a, LC_MSG_GO);
	assert_int_equal(lcimsg_flush(*a), 0);
	assert_int_equal(lc_ctl_setup(c, &s), 0);
	return c;
}

static void
test_setup(void **state)
{
	lcimsg_chan *a;
	struct lc_ctl *c = open_pair(&a);
	const struct lc_ctl_setup *s;

	send_config(a, 2);
	send_listen(a, 0, "127.0.0.1:80", 'A');
	send_listen(a, 7, "unix:/x", 'B');
	send_access(a, 0, 'L');
	send_access(a, 1, 'M');
	send_file(a, "/etc/key", "secret key");
	send_file(a, "/etc/cert", "certificate");
	say(a, LC_MSG_GO);
	assert_int_equal(lcimsg_flush(a), 0);
	assert_int_equal(lc_ctl_setup(c, &s), 0);
	assert_int_equal(s->slot, 3);
	assert_int_equal(s->processes, 5);
	assert_int_equal(s->first_start, 1);
	assert_string_equal(s->prefix, "/etc/x");
	assert_int_equal(s->text_n, 12);
	assert_memory_equal(s->text, "pool web { }", 12);
	assert_int_equal(s->nlisteners, 2);
	assert_int_equal(s->listeners[0].index, 0);
	assert_string_equal(s->listeners[0].name, "127.0.0.1:80");
	assert_int_equal(mark_of(s->listeners[0].fd), 'A');
	assert_int_equal(s->listeners[1].index, 7);
	assert_string_equal(s->listeners[1].name, "unix:/x");
	assert_int_equal(mark_of(s->listeners[1].fd), 'B');
	assert_memory_equal(s->secret, "0123456789abcdef0123456789abcdef", 32);
	assert_memory_equal(s->before, "the one before that one, 32 long", 32);
	assert_int_equal(s->nfiles, 2);
	assert_string_equal(s->files[0].path, "/etc/key");
	assert_int_equal(s->files[0].n, 10);
	assert_memory_equal(s->files[0].data, "secret key", 10);
	assert_string_equal(s->files[1].path, "/etc/cert");
	assert_memory_equal(s->files[1].data, "certificate", 11);
	assert_int_equal(s->naccess, 2);
	assert_int_equal(mark_of(s->access_fd[0]), 'L');
	assert_int_equal(mark_of(s->access_fd[1]), 'M');
	close(s->listeners[0].fd);
	close(s->listeners[1].fd);
	close(s->access_fd[0]);
	close(s->access_fd[1]);
	lc_ctl_close(c);
	lcimsg_close(a);
}

/* What the arbiter might do wrong, or an arbiter of another version: refused, nothing leaks, nothing hangs. */
static void
test_setup_errors(void **state)
{
	for (int kind = 0; kind < 11; kind++) {
		lcimsg_chan *a;
		struct lc_ctl *c = open_pair(&a);
		const struct lc_ctl_setup *s = NULL;
		int want = -EPROTO, r;

		switch (kind) {
		case 0: /* GO too early */
			say(a, LC_MSG_GO);
			break;
		case 1: /* a listener too few */
			send_config(a, 1);
			say(a, LC_MSG_GO);
			break;
		case 2: /* too many */
			send_config(a, 0);
			send_listen(a, 0, "x", 'x');
			break;
		case 3:
			send_config(a, 0);
			send_config(a, 0);
			break;
		case 4:
			send_config(a, 1u << 30);
			break;
		case 5:
			say(a, 0x4444);
			break;
		case 6:
			say(a, LC_MSG_READY);
			break;
		case 7: /* told to go before it began */
			say(a, LC_MSG_STOP);
			want = -ESHUTDOWN;
			break;
		case 8: /* gone */
			want = -EPIPE;
			break;
		case 9: /* the second access log first */
			send_config(a, 0);
			send_access(a, 1, 'x');
			break;
		case 10: /* one too many */
			send_config(a, 0);
			for (uint32_t i = 0; i <= LC_CTL_ACCESS; i++)
				send_access(a, i, 'x');
			break;
		}
		if (kind != 8)
			assert_int_equal(lcimsg_flush(a), 0);
		if (kind == 8) {
			lcimsg_close(a);
			a = NULL;
		}
		r = lc_ctl_setup(c, &s);
		assert_int_equal(r, want);
		assert_null(s);
		assert_int_equal(lc_ctl_ready(c), -EPIPE); /* dead */
		lc_ctl_close(c);
		lcimsg_close(a);
	}
}

/* DRAIN right behind GO, in the same read: nothing else would make the channel readable again. */
static void
test_order_behind_go(void **state)
{
	lcimsg_chan *a;
	struct lc_ctl *c = open_pair(&a);
	const struct lc_ctl_setup *s;

	send_config(a, 0);
	say(a, LC_MSG_GO);
	send_drain(a, 1000);
	assert_int_equal(lcimsg_flush(a), 0);
	assert_int_equal(lc_ctl_setup(c, &s), -ESHUTDOWN);
	lc_ctl_close(c);
	lcimsg_close(a);
}

/* Log files anew: right behind GO they take the place of the first ones; while it runs each is told, the last one
 * last, and the error log becomes descriptor 2. */
static void
test_logs(void **state)
{
	int saved = dup(2), fd = marked('E');
	struct seen seen = {.index = 9, .fd = -1};
	const struct lc_ctl_setup *s;
	lcimsg_chan *a;
	struct lc_ctl *c = open_pair(&a);

	send_config(a, 0);
	send_access(a, 0, 'A');
	send_access(a, 1, 'B');
	lcimsg_flush(a); /* so that GO comes in one read with what follows it */
	say(a, LC_MSG_GO);
	send_access(a, 1, 'C');
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_setup(c, &s), 0);
	assert_int_equal(s->naccess, 2);
	assert_int_equal(mark_of(s->access_fd[0]), 'A');
	assert_int_equal(mark_of(s->access_fd[1]), 'C');
	close(s->access_fd[0]);
	close(s->access_fd[1]);
	send_access(a, 1, 'D');
	send_access(a, 1, 'F');
	assert_int_equal(lcimsg_send(a, LC_MSG_ERRORLOG, 0, NULL, 0, &fd, 1, LCIMSG_FD_TAKE), 0);
	lcimsg_flush(a);
	for (int k = 0; k < 4; k++) /* a read ends with a message that has a descriptor */
		assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
	int marked_err = mark_of(2);
	dup2(saved, 2);
	close(saved);
	assert_int_equal(marked_err, 'E');
	assert_in_range(seen.logs, 1, 2);
	assert_int_equal(seen.index, 1);
	assert_int_equal(mark_of(seen.fd), 'F');
	send_access(a, 2, 'H'); /* there is no such log */
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), -EPROTO);
	assert_int_equal(seen.lost, 1);
	close(seen.fd);
	lc_ctl_close(c);
	lcimsg_close(a);
}

static void
send_secret(lcimsg_chan *a, char c)
{
	char secret[32];
	struct iovec v = {secret, sizeof(secret)};

	memset(secret, c, sizeof(secret));
	assert_int_equal(lcimsg_send(a, LC_MSG_SECRET, 0, &v, 1, NULL, 0, 0), 0);
}

/* New secrets: behind GO they are the set-up's; later the last two are told, in order. */
static void
test_secrets(void **state)
{
	char want[32];
	struct seen seen = {.fd = -1};
	const struct lc_ctl_setup *s;
	lcimsg_chan *a;
	struct lc_ctl *c = open_pair(&a);

	send_config(a, 0);
	send_secret(a, 'A');
	say(a, LC_MSG_GO);
	send_secret(a, 'B');
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_setup(c, &s), 0);
	assert_memory_equal(s->secret, memset(want, 'B', 32), 32);
	assert_memory_equal(s->before, memset(want, 'A', 32), 32);
	send_secret(a, 'C');
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
	assert_int_equal(seen.secrets, 1);
	for (char k = 'D'; k <= 'F'; k++)
		send_secret(a, k);
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
	assert_int_equal(seen.secrets, 3);
	assert_memory_equal(seen.secret, memset(want, 'F', 32), 32);
	assert_memory_equal(seen.before, memset(want, 'E', 32), 32);
	assert_memory_equal(s->before, want, 32);
	lc_ctl_close(c);
	lcimsg_close(a);
}

static void
send_fork(lcimsg_chan *a)
{
	int fd = marked('W');

	assert_int_equal(lcimsg_send(a, LC_MSG_FORK, 0, NULL, 0, &fd, 1, LCIMSG_FD_TAKE), 0);
	assert_int_equal(lcimsg_flush(a), 0);
}

/* A zygote is asked to fork, and answers; what is a worker's to get is not a zygote's, nor the other way round. */
static void
test_zygote(void **state)
{
	static const uint8_t answer[8] = {0x01, 0x02, 0x03, 0x00, 11, 0, 0, 0};
	struct seen seen = {.fd = -1};
	const struct lc_ctl_setup *s;
	lcimsg_chan *a;
	struct lc_ctl *c = open_as(&a, lc_ctl_open_zygote);
	lcimsg_msg *m = NULL;
	size_t n;

	send_config(a, 0);
	say(a, LC_MSG_GO);
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_setup(c, &s), 0);
	for (int k = 1; k <= 2; k++) {
		send_fork(a);
		assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
		assert_int_equal(seen.forks, k);
	}
	assert_int_equal(lc_ctl_forked(c, 0x30201, 11), 0);
	while (!m || lcimsg_type(m) == LCIMSG_TYPE_HELLO) {
		lcimsg_unref(m);
		m = NULL;
		if (lcimsg_recv(a, &m) == 0)
			assert_int_equal(lcimsg_fill(a), 1);
	}
	assert_int_equal(lcimsg_peer(a)->role, LC_ROLE_ZYGOTE);
	assert_int_equal(lcimsg_type(m), LC_MSG_FORKED);
	assert_memory_equal(lcimsg_data(m, &n), answer, 8);
	assert_int_equal(n, 8);
	lcimsg_unref(m);
	send_secret(a, 'x');
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), -EPROTO);
	assert_int_equal(seen.secrets, 0);
	assert_int_equal(lc_ctl_forked(c, 1, 0), -EPIPE);
	lc_ctl_close(c);
	lcimsg_close(a);

	c = running(&a);
	send_fork(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), -EPROTO);
	assert_int_equal(seen.forks, 2);
	lc_ctl_close(c);
	lcimsg_close(a);
}

static void
test_orders(void **state)
{
	lcimsg_chan *a;
	struct lc_ctl *c = running(&a);
	struct seen seen = {0};

	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0); /* nothing there: does not block */
	send_drain(a, 5000);
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
	assert_int_equal(seen.drain, 1);
	assert_in_range(seen.ms, 4000, 5000);
	send_drain(a, -5000); /* it lay in the socket for too long */
	say(a, LC_MSG_KICK);
	say(a, LC_MSG_STOP);
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), 0);
	assert_int_equal(seen.kick, 1);
	assert_int_equal(seen.drain, 2);
	assert_int_equal(seen.ms, 0);
	assert_int_equal(seen.stop, 1);
	/* an order and the end at once: the order first, lost once */
	say(a, LC_MSG_STOP);
	lcimsg_flush(a);
	lcimsg_close(a);
	while (lc_ctl_dispatch(c, &ops, &seen) == 0)
		;
	assert_int_equal(seen.stop, 2);
	assert_int_equal(seen.lost, 1);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), -EPIPE);
	assert_int_equal(seen.lost, 1);
	assert_int_equal(lc_ctl_ready(c), -EPIPE);
	assert_int_equal(lc_ctl_beat(c, &(struct lc_ctl_beat){0}), -EPIPE);
	assert_int_equal(lc_ctl_wants_write(c), 0);
	lc_ctl_close(c);
}

static void
test_garbage(void **state)
{
	lcimsg_chan *a;
	struct lc_ctl *c = running(&a);
	struct seen seen = {0};

	say(a, LC_MSG_GO); /* again */
	lcimsg_flush(a);
	assert_int_equal(lc_ctl_dispatch(c, &ops, &seen), -EPROTO);
	assert_int_equal(seen.lost, 1);
	lc_ctl_close(c);
	lcimsg_close(a);
}

static void
test_words(void **state)
{
	static char text[40000];
	lcimsg_chan *a;
	struct lc_ctl *c = running(&a);
	struct lcimsg_reader r;
	lcimsg_msg *m;
	const char *p;
	size_t n;

	assert_int_equal(lc_ctl_ready(c), 0);
	assert_int_equal(lc_ctl_beat(c, &(struct lc_ctl_beat){.requests = 1, .accepted = 2, .inflight = 3, .conns = 4}),
			 0);
	assert_true(lc_ctl_silent_ms(c) < 60000);
	assert_int_equal(lc_ctl_beat_again(c, 77, 9), 0); /* the watchdog's */
	assert_int_equal(lc_ctl_kick(c), 0);
	assert_int_equal(lc_ctl_stuck(c, 5, UINT64_C(0x600000007)), 0);
	memset(text, 'm', sizeof(text));
	memcpy(text, "first", 5);
	memcpy(text + sizeof(text) - 4, "last", 4);
	assert_int_equal(lc_ctl_boot_failed(c, text, sizeof(text)), 0);
	assert_int_equal(next(a, &m), 1);
	assert_int_equal(lcimsg_type(m), LCIMSG_TYPE_HELLO);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	assert_int_equal(lcimsg_type(m), LC_MSG_READY);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	lcimsg_reader_init(&r, m);
	assert_int_equal(lcimsg_get_u64(&r), 1);
	assert_int_equal(lcimsg_get_u64(&r), 2);
	assert_int_equal(lcimsg_get_u32(&r), 3);
	assert_int_equal(lcimsg_get_u32(&r), 4);
	assert_int_equal(lcimsg_get_u32(&r), 0);
	assert_int_equal(lcimsg_end(&r), 0);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	lcimsg_reader_init(&r, m);
	assert_int_equal(lcimsg_get_u64(&r), 1);
	assert_int_equal(lcimsg_get_u64(&r), 2);
	assert_int_equal(lcimsg_get_u32(&r), 9);
	assert_int_equal(lcimsg_get_u32(&r), 4);
	assert_int_equal(lcimsg_get_u32(&r), 77);
	assert_int_equal(lcimsg_end(&r), 0);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	assert_int_equal(lcimsg_type(m), LC_MSG_KICK_REQ);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	assert_int_equal(lcimsg_type(m), LC_MSG_STUCK);
	lcimsg_reader_init(&r, m);
	assert_int_equal(lcimsg_get_u32(&r), 5);
	assert_true(lcimsg_get_u64(&r) == UINT64_C(0x600000007));
	assert_int_equal(lcimsg_end(&r), 0);
	lcimsg_unref(m);
	assert_int_equal(next(a, &m), 1);
	p = lcimsg_data(m, &n);
	assert_int_equal(n, LC_BOOT_TEXT_MAX);
	assert_memory_equal(p, "first", 5);
	assert_memory_equal(p + n - 4, "last", 4);
	lcimsg_unref(m);
	lc_ctl_close(c);
	lcimsg_close(a);
}

/* The arbiter does not read: heartbeats are dropped, the queue stays short, and it says when it wants to write. */
static void
test_arbiter_does_not_read(void **state)
{
	lcimsg_chan *a;
	struct lc_ctl *c = running(&a);
	struct lc_ctl_beat b = {0};
	lcimsg_msg *m;
	unsigned got = 0;

	assert_int_equal(lc_ctl_wants_write(c), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(lc_ctl_beat(c, &b), 0);
	assert_int_equal(lc_ctl_wants_write(c), 1);
	while (next(a, &m) == 1) {
		lcimsg_unref(m);
		got++;
	}
	assert_in_range(got, 10, 5000);
	assert_int_equal(lc_ctl_dispatch(c, &ops, NULL), 0); /* flushes */
	assert_int_equal(lc_ctl_wants_write(c), 0);
	lc_ctl_close(c);
	lcimsg_close(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_setup),        CASE(test_logs),
	    CASE(test_setup_errors), CASE(test_order_behind_go),
	    CASE(test_secrets),      CASE(test_orders),
	    CASE(test_zygote),       CASE(test_garbage),
	    CASE(test_words),        CASE(test_arbiter_does_not_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
