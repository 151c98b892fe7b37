/* SPDX-License-Identifier: BSD-2-Clause */
/* test_imsg.c - messages, bounds, hostile bytes.  What is about fds is in test_imsg_fd.c. */
#include "imsg_util.h"

#include <poll.h>
#include <sys/wait.h>

static void
fill_pattern(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + seed);
}

static void
test_roundtrip(void **state)
{
	static uint8_t out[16384];
	lcimsg_chan *c[2];

	chan_pair(c, SOCK_STREAM, 0, 0);
	assert_int_equal(lcimsg_peer(c[0])->role, 3);
	assert_string_equal(lcimsg_peer(c[1])->build, "test");
	assert_int_equal(lcimsg_events(c[0]), POLLIN);
	for (size_t n = 0; n <= 16384 - 16; n += n < 40 ? 1 : 997) {
		struct iovec iov[2] = {{out, n / 3}, {out + n / 3, n - n / 3}};
		lcimsg_msg *m;
		const void *p;
		size_t k;

		fill_pattern(out, n, (unsigned)n);
		assert_int_equal(lcimsg_send(c[0], 0x101, n * 77, iov, 2, NULL, 0, LCIMSG_REPLY), 0);
		assert_int_equal(lcimsg_events(c[0]), POLLIN | POLLOUT);
		assert_int_equal(lcimsg_flush(c[0]), 0);
		assert_int_equal(next(c[1], &m), 1);
		assert_int_equal(lcimsg_type(m), 0x101);
		assert_int_equal(lcimsg_id(m), n * 77);
		assert_int_equal(lcimsg_flags(m), LCIMSG_REPLY);
		p = lcimsg_data(m, &k);
		assert_int_equal(k, n);
		assert_memory_equal(p, out, n);
		assert_int_equal((uintptr_t)p % 8 * (n > 0), 0);
		lcimsg_unref(m);
	}
	{
		struct iovec iov = {out, 16384 - 15};

		assert_int_equal(lcimsg_send(c[0], 0x101, 0, &iov, 1, NULL, 0, 0), -EMSGSIZE);
		assert_int_equal(lcimsg_send(c[0], LCIMSG_TYPE_HELLO, 0, NULL, 0, NULL, 0, 0), -EINVAL);
	}
	assert_int_equal(lcimsg_out_bytes(c[0]), 0);
	assert_int_equal(lcimsg_out_msgs(c[0]), 0);
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* Messages larger than a slab's quarter, through a socket that takes little at a time. */
static void
test_big(void **state)
{
	enum { N = 400000 };
	uint8_t *out = malloc(N);
	lcimsg_chan *c[2];
	int small = 4608;

	assert_non_null(out);
	chan_pair(c, SOCK_STREAM, 0, 1 << 20);
	setsockopt(lcimsg_fd(c[0]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (size_t n = 15000; n <= N; n = n * 2 < N || n == N ? n * 2 : N) {
		struct iovec iov = {out, n};
		int got = 0;

		fill_pattern(out, n, (unsigned)n);
		for (unsigned i = 0; i < 3; i++)
			assert_in_range(lcimsg_send(c[0], 0x100, i, i == 1 ? NULL : &iov, i != 1, NULL, 0, 0), 0, 1);
		while (got < 3) {
			lcimsg_msg *m;
			const void *p;
			size_t k;

			assert_in_range(lcimsg_flush(c[0]), 0, 1);
			if (next(c[1], &m) != 1)
				continue;
			p = lcimsg_data(m, &k);
			assert_int_equal(lcimsg_id(m), got);
			assert_int_equal(k, got == 1 ? 0 : n);
			assert_memory_equal(p, out, k);
			lcimsg_unref(m);
			got++;
		}
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
	free(out);
}

/* Messages stay valid when the channel reads on, and when it is closed. */
static void
test_refs(void **state)
{
	lcimsg_chan *c[2];
	lcimsg_msg *kept[600];
	uint8_t b[1000];

	chan_pair(c, SOCK_STREAM, 0, 0);
	for (unsigned i = 0; i < 600; i++) {
		struct iovec iov = {b, sizeof(b)};

		fill_pattern(b, sizeof(b), i);
		assert_int_equal(lcimsg_send(c[0], 0x100, i, &iov, 1, NULL, 0, 0), 0);
		assert_int_equal(lcimsg_flush(c[0]), 0);
		assert_int_equal(next(c[1], &kept[i]), 1);
		assert_ptr_equal(lcimsg_ref(kept[i]), kept[i]);
		lcimsg_unref(kept[i]);
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
	for (unsigned i = 0; i < 600; i++) {
		size_t n;
		const void *p = lcimsg_data(kept[i], &n);

		fill_pattern(b, sizeof(b), i);
		assert_int_equal(n, sizeof(b));
		assert_memory_equal(p, b, n);
		lcimsg_unref(kept[i]);
	}
}

static void
test_fanout(void **state)
{
	lcimsg_chan *a[2], *b[2];
	lcimsg_msg *m = lcimsg_msg_new(0x123, 9), *got;

	chan_pair(a, SOCK_STREAM, 0, 0);
	chan_pair(b, SOCK_STREAM, 0, 0);
	lcimsg_put_str(m, "to all");
	assert_int_equal(lcimsg_submit(a[0], lcimsg_ref(m)), 0);
	assert_int_equal(lcimsg_submit(b[0], m), 0);
	assert_int_equal(lcimsg_flush(a[0]), 0);
	assert_int_equal(lcimsg_flush(b[0]), 0);
	for (int i = 0; i < 2; i++) {
		struct lcimsg_reader r;

		assert_int_equal(next(i ? a[1] : b[1], &got), 1);
		lcimsg_reader_init(&r, got);
		assert_string_equal(lcimsg_get_str(&r), "to all");
		assert_int_equal(lcimsg_end(&r), 0);
		lcimsg_unref(got);
	}
	for (int i = 0; i < 2; i++) {
		lcimsg_close(a[i]);
		lcimsg_close(b[i]);
	}
}

static void
test_reader(void **state)
{
	lcimsg_chan *c[2];
	lcimsg_msg *m = lcimsg_msg_new(0x100, 0);
	struct lcimsg_reader r;
	size_t n;

	chan_pair(c, SOCK_STREAM, 0, 0);
	lcimsg_put_u8(m, 0xab);
	lcimsg_put_u16(m, 0x1234);
	lcimsg_put_u32(m, 0xdeadbeef);
	lcimsg_put_u64(m, 0x0123456789abcdefu);
	lcimsg_put_str(m, "");
	lcimsg_put_str(m, "text");
	lcimsg_put_bytes(m, "rest", 4);
	lcimsg_submit(c[0], m);
	lcimsg_flush(c[0]);
	assert_int_equal(next(c[1], &m), 1);
	lcimsg_reader_init(&r, m);
	assert_int_equal(lcimsg_get_u8(&r), 0xab);
	assert_int_equal(lcimsg_get_u16(&r), 0x1234);
	assert_int_equal(lcimsg_get_u32(&r), 0xdeadbeef);
	assert_true(lcimsg_get_u64(&r) == 0x0123456789abcdefu);
	assert_string_equal(lcimsg_get_str(&r), "");
	assert_string_equal(lcimsg_get_str(&r), "text");
	assert_int_equal(lcimsg_end(&r), -EBADMSG); /* left over */
	assert_memory_equal(lcimsg_get_rest(&r, &n), "rest", 4);
	assert_int_equal(n, 4);
	assert_int_equal(lcimsg_end(&r), 0);
	/* one byte too many, and then everything fails */
	assert_int_equal(lcimsg_get_u8(&r), 0);
	assert_int_equal(lcimsg_end(&r), -EBADMSG);
	lcimsg_reader_init(&r, m);
	assert_null(lcimsg_get_bytes(&r, 10000));
	assert_int_equal(lcimsg_get_u8(&r), 0);
	assert_string_equal(lcimsg_get_str(&r), "");
	lcimsg_unref(m);

	/* strings that lie: length over the end, no NUL, a NUL inside */
	static const struct {
		uint8_t b[12];
		size_t n;
	} bad[] = {{{4, 0, 0, 0, 'a', 'b', 'c', 'd'}, 8},
		   {{0xff, 0xff, 0xff, 0xff, 0}, 5},
		   {{3, 0, 0, 0, 'a', 'b', 'c', 'd', 0}, 9},
		   {{3, 0, 0, 0, 'a', 0, 'c', 0}, 8},
		   {{0, 0, 0}, 3},
		   {{0, 0, 0, 0}, 4}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct iovec iov = {(void *)bad[i].b, bad[i].n};

		lcimsg_send(c[0], 0x100, 0, &iov, 1, NULL, 0, 0);
		lcimsg_flush(c[0]);
		assert_int_equal(next(c[1], &m), 1);
		lcimsg_reader_init(&r, m);
		assert_string_equal(lcimsg_get_str(&r), "");
		assert_int_equal(lcimsg_end(&r), -EBADMSG);
		lcimsg_unref(m);
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

static void
expect_violation(const uint8_t *b, size_t n, const char *why)
{
	int raw;
	lcimsg_chan *c = chan_raw(&raw, 4);
	lcimsg_msg *m;

	raw_send(raw, b, n, NULL, 0);
	assert_int_equal(next(c, &m), -EPROTO);
	if (!strstr(lcimsg_why(c), why))
		fail_msg("\"%s\" does not say \"%s\"", lcimsg_why(c), why);
	/* poisoned: nothing works any more */
	assert_int_equal(lcimsg_recv(c, &m), -EPROTO);
	assert_int_equal(lcimsg_fill(c), -EPROTO);
	assert_int_equal(lcimsg_flush(c), -EPROTO);
	assert_int_equal(lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0), -EPROTO);
	assert_int_equal(lcimsg_events(c), 0);
	lcimsg_close(c);
	close(raw);
}

static void
test_bad_headers(void **state)
{
	static const struct {
		uint32_t len;
		unsigned type, flags, nfds;
		const char *why;
	} bad[] = {
	    {0, 0x100, 0, 0, "a message of 0 bytes"},
	    {15, 0x100, 0, 0, "a message of 15 bytes"},
	    {16385, 0x100, 0, 0, "a message of 16385 bytes"},
	    {0xffffffff, 0x100, 0, 0, "a message of 4294967295 bytes"},
	    {0x80000010, 0x100, 0, 0, "a message of 2147483664 bytes"},
	    {16, 0x100, 0x10, 0, "unknown flags"},
	    {16, 0x100, 0x80, 0, "unknown flags"},
	    {16, 0x100, 0, 1, "flags 0x00 with 1"},
	    {16, 0x100, 1, 0, "flags 0x01 with 0"},
	    {16, 0x100, 1, 1, "none sent"},
	    {16, 0x100, 1, 5, "5 file descriptors (at most 4)"},
	    {24, 0x100, 8, 0, "flags 0x08 with 0"},
	    {16, 0x100, 9, 1, "sealed memory without its size"},
	    {16, 0x0001, 0, 0, "HELLO twice"},
	    {16, 0x0002, 0, 0, "unknown type 0x0002"},
	    {16, 0x00ff, 0, 0, "unknown type 0x00ff"},
	    {16, 0x0000, 0, 0, "unknown type 0x0000"},
	};
	uint8_t b[64] = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		wire(b, bad[i].len, bad[i].type, bad[i].flags, bad[i].nfds, 0, "xxxxxxxx", 8);
		expect_violation(b, 24, bad[i].why);
	}
	/* padding */
	wire(b, 16 + 5, 0x100, 0, 0, 0, "xxxxx", 5);
	b[16 + 7] = 1;
	expect_violation(b, 24, "padding");
	/* in a message with a buffer of its own, too */
	{
		uint8_t *big = calloc(1, 16384);

		wire(big, 16384 - 7, 0x100, 0, 0, 0, NULL, 0);
		big[16383] = 1;
		expect_violation(big, 16384, "padding");
		free(big);
	}
}

static void
test_hello(void **state)
{
	static const struct {
		int at, value;
		const char *why;
	} bad[] = {
	    {16, 'X', "malformed HELLO"}, {20, 2, "versions 2 to 1"},
	    {22, 0, "versions 1 to 0"},   {29, 0, "malformed HELLO: messages of at most 0 bytes"},
	    {36, 200, "malformed HELLO"},
	};
	uint8_t b[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int sv[2];
		lcimsg_chan *c;
		lcimsg_msg *m;
		size_t n = wire_hello(b);

		b[bad[i].at] = (uint8_t)bad[i].value;
		assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
		c = chan_open(sv[0], 0, 0);
		raw_send(sv[1], b, n, NULL, 0);
		assert_int_equal(next(c, &m), -EPROTO);
		if (!strstr(lcimsg_why(c), bad[i].why))
			fail_msg("%s", lcimsg_why(c));
		assert_null(lcimsg_peer(c));
		lcimsg_close(c);
		close(sv[1]);
	}
	/* a newer peer that speaks our version as well, and says more than we know */
	{
		int sv[2];
		lcimsg_chan *c;
		lcimsg_msg *m;
		size_t n = wire_hello(b);

		b[22] = 9;
		b[0] += 12;
		memcpy(b + n, "whatever", 8);
		b[n - 4] = 'x'; /* was padding */
		assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
		c = chan_open(sv[0], 0, 0);
		raw_send(sv[1], b, n + 8, NULL, 0);
		assert_int_equal(next(c, &m), 1);
		assert_int_equal(lcimsg_peer(c)->version, 1);
		assert_string_equal(lcimsg_peer(c)->build, "raw");
		lcimsg_unref(m);
		lcimsg_close(c);
		close(sv[1]);
	}
	/* anything before HELLO */
	{
		int sv[2];
		lcimsg_chan *c;
		lcimsg_msg *m;

		assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
		c = chan_open(sv[0], 0, 0);
		raw_send(sv[1], b, wire_msg(b, 0x100, 0, 0, NULL, 0), NULL, 0);
		assert_int_equal(next(c, &m), -EPROTO);
		assert_string_equal(lcimsg_why(c), "type 0x0100 before HELLO");
		lcimsg_close(c);
		close(sv[1]);
	}
}

/* The stream may end only between messages. */
static void
test_eof(void **state)
{
	uint8_t b[256];
	size_t n = wire_hello(b), ends[3] = {0, 0, 0};

	ends[0] = n;
	n += wire_msg(b + n, 0x100, 0, 1, "abc", 3);
	ends[1] = n;
	n += wire_msg(b + n, 0x100, 0, 2, NULL, 0);
	ends[2] = n;
	for (size_t cut = 0; cut <= n; cut++) {
		int sv[2], r, got = 0, whole = 0;
		lcimsg_chan *c;
		lcimsg_msg *m;

		assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
		c = chan_open(sv[0], 0, 0);
		if (cut)
			raw_send(sv[1], b, cut, NULL, 0);
		close(sv[1]);
		while ((r = next(c, &m)) == 1) {
			lcimsg_unref(m);
			got++;
		}
		for (int i = 0; i < 3; i++)
			whole += ends[i] <= cut;
		assert_int_equal(got, whole);
		if (cut == 0 || (whole && ends[whole - 1] == cut)) {
			assert_int_equal(r, LCIMSG_EOF);
			assert_int_equal(next(c, &m), LCIMSG_EOF); /* stays */
			assert_int_equal(lcimsg_events(c) & POLLIN, 0);
		} else {
			assert_int_equal(r, -EPROTO);
			assert_string_equal(lcimsg_why(c), "the stream ends inside a message");
		}
		lcimsg_close(c);
	}
}

/* The peer goes with our messages unread: what it sent is still read, then the end, marked. */
static void
test_lost(void **state)
{
	int raw;
	lcimsg_chan *c = chan_raw(&raw, 0);
	lcimsg_msg *m;
	uint8_t b[64];

	assert_int_equal(lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(lcimsg_flush(c), 0);
	raw_send(raw, b, wire_msg(b, 0x155, 0, 0, "last", 4), NULL, 0);
	close(raw);
	assert_int_equal(next(c, &m), 1);
	assert_int_equal(lcimsg_type(m), 0x155);
	lcimsg_unref(m);
	assert_int_equal(next(c, &m), LCIMSG_EOF);
	assert_int_equal(lcimsg_lost(c), 1);
	assert_int_equal(lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(lcimsg_flush(c), -EPIPE);
	assert_int_equal(lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0), -EPIPE);
	lcimsg_close(c);
}

/* The write side fails first: what the peer had sent must not be lost with it. */
static void
test_epipe_then_read(void **state)
{
	int raw;
	lcimsg_chan *c = chan_raw(&raw, 0);
	lcimsg_msg *m;
	uint8_t b[64];

	raw_send(raw, b, wire_msg(b, 0x155, 0, 0, "last", 4), NULL, 0);
	close(raw);
	lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0);
	assert_int_equal(lcimsg_flush(c), -EPIPE);
	assert_int_equal(next(c, &m), 1);
	lcimsg_unref(m);
	assert_int_equal(next(c, &m), LCIMSG_EOF);
	lcimsg_close(c);
}

static void
test_limits(void **state)
{
	int sv[2], r = 0;
	struct lcimsg_opts o = {.struct_size = sizeof(o), .flags = LCIMSG_OWN_FD, .out_hiwat = 8192, .out_hard = 32768};
	lcimsg_chan *c[2];
	lcimsg_msg *m;
	unsigned queued = 0, again = 0, got = 0;
	uint8_t b[984] = {0};
	struct iovec iov = {b, sizeof(b)};

	assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
	assert_int_equal(lcimsg_open(&c[0], sv[0], &o), 0);
	c[1] = chan_open(sv[1], 0, 0);
	for (; queued < 1000; queued++) {
		r = lcimsg_send(c[0], 0x100, queued, &iov, 1, NULL, 0, 0);
		if (r < 0)
			break;
		again += r == 1;
	}
	assert_int_equal(r, -ENOBUFS);
	assert_in_range(queued, 25, 33);
	assert_int_equal(again, queued - 8);
	assert_true(lcimsg_out_bytes(c[0]) <= 32768);
	assert_int_equal(lcimsg_out_msgs(c[0]), queued + 1); /* HELLO */
	/* many small ones hit the limit, too: memory is what is bounded */
	assert_int_equal(lcimsg_flush(c[0]), 0);
	for (r = 0; r >= 0 && queued < 5000;) {
		r = lcimsg_send(c[0], 0x100, queued, NULL, 0, NULL, 0, 0);
		queued += r >= 0;
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(lcimsg_out_msgs(c[0]) < 300);
	/* nothing of what was accepted is lost */
	for (;;) {
		r = lcimsg_flush(c[0]);
		assert_in_range(r, 0, 1);
		while (next(c[1], &m) == 1) {
			if (lcimsg_type(m) == 0x100)
				assert_int_equal(lcimsg_id(m), got++);
			lcimsg_unref(m);
		}
		if (r == 0)
			break;
	}
	assert_int_equal(got, queued);
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* A peer that does not read: flush says so and never blocks. */
static void
test_full_socket(void **state)
{
	lcimsg_chan *c[2];
	uint8_t b[8192] = {0};
	struct iovec iov = {b, sizeof(b)};
	lcimsg_msg *m;
	unsigned sent = 0, got = 0;

	chan_pair(c, SOCK_STREAM, 0, 0);
	for (; sent < 100; sent++)
		assert_in_range(lcimsg_send(c[0], 0x100, sent, &iov, 1, NULL, 0, 0), 0, 1);
	assert_int_equal(lcimsg_flush(c[0]), 1);
	assert_int_equal(lcimsg_events(c[0]), POLLIN | POLLOUT);
	while (got < sent) {
		lcimsg_flush(c[0]);
		if (next(c[1], &m) == 1) {
			assert_int_equal(lcimsg_id(m), got++);
			lcimsg_unref(m);
		}
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* Not reading messages stops reading the socket: one slab is the most that waits. */
static void
test_fill_bound(void **state)
{
	int raw, fills = 0;
	lcimsg_chan *c = chan_raw(&raw, 0);
	lcimsg_msg *m;
	uint8_t b[1024];
	unsigned sent = 0, got = 0;

	fcntl(raw, F_SETFL, O_NONBLOCK);
	for (;;) {
		size_t n = wire_msg(b, 0x100, 0, sent, b + 16, 1000);

		if (raw_send(raw, b, n, NULL, 0) < 0)
			break;
		sent++;
	}
	while (lcimsg_fill(c) == 1)
		assert_true(++fills < 100);
	assert_true(lcimsg_partial(c) <= 65536);
	while (next(c, &m) == 1) {
		assert_int_equal(lcimsg_id(m), got++);
		lcimsg_unref(m);
	}
	assert_int_equal(got, sent);
	lcimsg_close(c);
	close(raw);
}

static void
test_fork(void **state)
{
	int raw, st;
	lcimsg_chan *c = chan_raw(&raw, 0);
	lcimsg_msg *m;
	pid_t pid = fork();

	if (pid == 0) {
		int ok = lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0) == -EOWNERDEAD &&
			 lcimsg_recv(c, &m) == -EOWNERDEAD && lcimsg_fill(c) == -EOWNERDEAD &&
			 lcimsg_flush(c) == -EOWNERDEAD;

		lcimsg_close(c);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
	assert_int_equal(lcimsg_send(c, 0x100, 0, NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(lcimsg_flush(c), 0);
	lcimsg_close(c);
	close(raw);
}

static void
test_open_errors(void **state)
{
	int sv[2];
	lcimsg_chan *c = (void *)1;
	struct lcimsg_opts o = {.struct_size = sizeof(o), .max_msg = 100};

	assert_int_equal(lcimsg_pair(sv, SOCK_DGRAM), -EINVAL);
	assert_int_equal(lcimsg_pair(sv, SOCK_STREAM), 0);
	assert_int_equal(lcimsg_open(&c, sv[0], &o), -EINVAL);
	o.max_msg = LCIMSG_MAX_MSG + 1;
	assert_int_equal(lcimsg_open(&c, sv[0], &o), -EINVAL);
	o.max_msg = 0;
	o.max_fds_in = 254;
	assert_int_equal(lcimsg_open(&c, sv[0], &o), -EINVAL);
	o.max_fds_in = 0;
	o.struct_size = 0;
	assert_int_equal(lcimsg_open(&c, sv[0], &o), -EINVAL);
	assert_int_equal(lcimsg_open(&c, -1, NULL), -EBADF);
	assert_ptr_equal(c, (void *)1); /* written last, or not at all */
	o.struct_size = sizeof(o);
	o.flags = LCIMSG_OWN_FD;
	o.max_msg = 1;
	assert_int_equal(lcimsg_open(&c, sv[0], &o), -EINVAL); /* and closed */
	assert_int_equal(fcntl(sv[0], F_GETFD), -1);
	lcimsg_close(NULL);
	lcimsg_unref(NULL);
	close(sv[1]);
}

static void
test_seqpacket(void **state)
{
	lcimsg_chan *c[2];
	lcimsg_msg *m;
	uint8_t b[600];

	chan_pair(c, SOCK_SEQPACKET, 2, 0);
	for (unsigned i = 0; i < 40; i++) {
		struct iovec iov = {b, i * 15};
		int fd = i % 3 ? -1 : marked((char)('a' + i % 26));

		fill_pattern(b, sizeof(b), i);
		assert_int_equal(lcimsg_send(c[0], 0x100, i, &iov, 1, &fd, fd >= 0, LCIMSG_FD_TAKE), 0);
	}
	assert_int_equal(lcimsg_flush(c[0]), 0);
	for (unsigned i = 0; i < 40; i++) {
		const void *p;
		size_t n;

		assert_int_equal(next(c[1], &m), 1);
		assert_int_equal(lcimsg_id(m), i);
		p = lcimsg_data(m, &n);
		fill_pattern(b, sizeof(b), i);
		assert_int_equal(n, i * 15);
		assert_memory_equal(p, b, n);
		assert_int_equal(lcimsg_nfds(m), i % 3 == 0);
		if (i % 3 == 0)
			assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), 'a' + i % 26);
		lcimsg_unref(m);
	}
	/* half a message in a record */
	wire_msg(b, 0x100, 0, 0, "12345678", 8);
	raw_send(lcimsg_fd(c[0]), b, 20, NULL, 0);
	assert_int_equal(next(c[1], &m), -EPROTO);
	assert_string_equal(lcimsg_why(c[1]), "a record that does not end with a message");
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_roundtrip),       CASE(test_big),    CASE(test_refs),
	    CASE(test_fanout),          CASE(test_reader), CASE(test_bad_headers),
	    CASE(test_hello),           CASE(test_eof),    CASE(test_lost),
	    CASE(test_epipe_then_read), CASE(test_limits), CASE(test_full_socket),
	    CASE(test_fill_bound),      CASE(test_fork),   CASE(test_open_errors),
	    CASE(test_seqpacket),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
