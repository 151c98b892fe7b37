/* SPDX-License-Identifier: BSD-2-Clause */
/* test_imsg_fd.c - file descriptors over liblcimsg: every cut, every order, lies, limits, sealed memory. */
#include "imsg_util.h"

#include <sys/resource.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* A stream of messages of which some carry fds, as bytes with the places where sets are attached. */
struct stream {
	uint8_t b[1024];
	size_t n, start[8];
	unsigned nfds[8], count;
	int fds[8][4];
};

static void
stream_add(struct stream *s, unsigned nfds, const char *text)
{
	unsigned k = s->count++;

	s->start[k] = s->n;
	s->nfds[k] = nfds;
	for (unsigned i = 0; i < nfds; i++)
		s->fds[k][i] = marked((char)('A' + k * 4 + i));
	s->n += wire_msg(s->b + s->n, 0x100 + k, nfds, k, text, strlen(text));
}

static void
stream_close(struct stream *s)
{
	for (unsigned k = 0; k < s->count; k++)
		for (unsigned i = 0; i < s->nfds[k]; i++)
			close(s->fds[k][i]);
}

/* Send [from, to) the way an honest sender does: a set goes with its message's first byte, in a call of its own. */
static void
stream_send(const struct stream *s, int raw, size_t from, size_t to)
{
	while (from < to) {
		size_t end = to;
		unsigned nfds = 0;
		const int *fds = NULL;

		for (unsigned k = 0; k < s->count; k++) {
			if (s->nfds[k] == 0)
				continue;
			if (s->start[k] == from) {
				nfds = s->nfds[k];
				fds = s->fds[k];
			} else if (s->start[k] > from && s->start[k] < end) {
				end = s->start[k];
			}
		}
		assert_int_equal(raw_send(raw, s->b + from, end - from, fds, nfds), end - from);
		from = end;
	}
}

static void
stream_check(const struct stream *s, lcimsg_chan *c, unsigned *got)
{
	lcimsg_msg *m;
	int r;

	while ((r = next(c, &m)) == 1) {
		unsigned k = *got;

		assert_true(k < s->count);
		assert_int_equal(lcimsg_type(m), 0x100 + k);
		assert_int_equal(lcimsg_flags(m), s->nfds[k] ? LCIMSG_HASFD : 0);
		assert_int_equal(lcimsg_nfds(m), s->nfds[k]);
		for (unsigned i = 0; i < s->nfds[k]; i++) {
			int fd = lcimsg_get_fd(m, i);

			assert_int_equal(mark_of(fd), 'A' + k * 4 + i);
			assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		}
		if (s->nfds[k]) {
			int fd = lcimsg_take_fd(m, 0);

			assert_int_equal(lcimsg_take_fd(m, 0), -1);
			close(fd);
		}
		assert_int_equal(lcimsg_take_fd(m, 200), -1);
		lcimsg_unref(m);
		(*got)++;
	}
	assert_int_equal(r, 0);
}

static void
stream_make(struct stream *s)
{
	memset(s, 0, sizeof(*s));
	stream_add(s, 0, "abc");
	stream_add(s, 2, "with two");
	stream_add(s, 0, "");
	stream_add(s, 1, "");
	stream_add(s, 3, "1");
	stream_add(s, 0, "the end");
}

static void
test_bytewise(void **state)
{
	struct stream s;
	unsigned got = 0;
	int raw;
	lcimsg_chan *c = chan_raw(&raw, 4);

	stream_make(&s);
	for (size_t i = 0; i < s.n; i++) {
		stream_send(&s, raw, i, i + 1);
		stream_check(&s, c, &got);
	}
	assert_int_equal(got, s.count);
	stream_close(&s);
	lcimsg_close(c);
	close(raw);
}

/* Bytes one at a time, but read only at the end: as many sets as are legal wait at once. */
static void
test_bytewise_late(void **state)
{
	struct stream s;
	unsigned got = 0;
	int raw;
	lcimsg_chan *c = chan_raw(&raw, 4);

	stream_make(&s);
	for (size_t i = 0; i < s.n; i++)
		stream_send(&s, raw, i, i + 1);
	stream_check(&s, c, &got);
	assert_int_equal(got, s.count);
	stream_close(&s);
	lcimsg_close(c);
	close(raw);
}

static void
test_splits(void **state)
{
	struct stream s;

	stream_make(&s);
	for (size_t a = 0; a <= s.n; a++) {
		for (int late = 0; late < 2; late++) {
			unsigned got = 0;
			int raw;
			lcimsg_chan *c = chan_raw(&raw, 4);

			stream_send(&s, raw, 0, a);
			if (!late)
				stream_check(&s, c, &got);
			stream_send(&s, raw, a, s.n);
			if (late) /* fill only, as long as it goes, before anything is taken */
				while (lcimsg_fill(c) == 1)
					;
			stream_check(&s, c, &got);
			assert_int_equal(got, s.count);
			lcimsg_close(c);
			close(raw);
		}
	}
	stream_close(&s);
}

/* A message with fds whose first bytes end a full buffer: its set must survive until the rest is read. */
static void
test_boundary(void **state)
{
	static uint8_t b[70000], zero[8192];

	for (int back = 0; back <= 48; back++) {
		int raw, fd = marked('Z'), found = 0;
		lcimsg_chan *c = chan_raw(&raw, 1);
		lcimsg_msg *m;
		size_t n = 0, want = 65536 - (size_t)back / 8 * 8;
		uint8_t tail[48];
		size_t tn = wire_msg(tail, 0x111, 1, 0, "payload", 7);

		/* chan_raw() has read HELLO into an empty slab and taken it: reading starts at offset 0 again. */
		while (n < want) {
			size_t k = want - n > 8192 ? 8192 : want - n;

			if (want - n - k < 16 && want != n + k)
				k -= 16;
			if (k < 16)
				break;
			n += wire_msg(b + n, 0x100, 0, 0, zero, k - 16);
		}
		assert_int_equal(raw_send(raw, b, n, NULL, 0), n);
		/* cut the fd message where the buffer ends, and anywhere else */
		if (back) {
			size_t cut = (size_t)back % tn;

			if (cut == 0)
				cut = 1;
			raw_send(raw, tail, cut, &fd, 1);
			raw_send(raw, tail + cut, tn - cut, NULL, 0);
		} else {
			raw_send(raw, tail, tn, &fd, 1);
		}
		close(fd);
		while (next(c, &m) == 1) {
			if (lcimsg_type(m) == 0x111) {
				assert_int_equal(lcimsg_nfds(m), 1);
				assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), 'Z');
				found++;
			}
			lcimsg_unref(m);
		}
		assert_int_equal(found, 1);
		assert_string_equal(lcimsg_why(c), "");
		lcimsg_close(c);
		close(raw);
	}
}

/* Every order of messages with and without fds through the library's own sender, in one flush. */
static void
test_orders(void **state)
{
	lcimsg_chan *c[2];

	chan_pair(c, SOCK_STREAM, 8, 0);
	for (unsigned mask = 0; mask < 64; mask++) {
		lcimsg_msg *m;

		for (unsigned i = 0; i < 6; i++) {
			int fds[2] = {marked((char)('a' + i)), marked((char)('p' + i))};
			struct iovec iov = {"hello, this is text", i * 3};

			if (mask & 1u << i) {
				assert_int_equal(lcimsg_send(c[0], 0x100, i, &iov, 1, fds, 2, LCIMSG_FD_TAKE), 0);
			} else {
				assert_int_equal(lcimsg_send(c[0], 0x100, i, &iov, 1, fds, 0, 0), 0);
				close(fds[0]);
				close(fds[1]);
			}
		}
		assert_int_equal(lcimsg_flush(c[0]), 0);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(next(c[1], &m), 1);
			assert_int_equal(lcimsg_id(m), i);
			assert_int_equal(lcimsg_nfds(m), mask & 1u << i ? 2 : 0);
			if (mask & 1u << i) {
				assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), 'a' + i);
				assert_int_equal(mark_of(lcimsg_get_fd(m, 1)), 'p' + i);
			}
			lcimsg_unref(m);
		}
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* Partial writes: the set goes once, with the first byte, and big messages keep theirs. */
static void
test_partial_writes(void **state)
{
	lcimsg_chan *c[2];
	uint8_t *b = calloc(1, 200000);
	int small = 4608;
	unsigned got = 0;

	chan_pair(c, SOCK_STREAM, 2, 1 << 20);
	setsockopt(lcimsg_fd(c[0]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (unsigned i = 0; i < 12; i++) {
		struct iovec iov = {b, i % 2 ? 10 : 5000 + i * 7001};
		int fd = marked((char)('a' + i));

		assert_in_range(lcimsg_send(c[0], 0x100, i, &iov, 1, &fd, i % 3 != 0, 0), 0, 1);
		close(fd); /* LCIMSG_FD_DUP: ours to close */
	}
	while (got < 12) {
		lcimsg_msg *m;

		assert_in_range(lcimsg_flush(c[0]), 0, 1);
		if (next(c[1], &m) != 1)
			continue;
		assert_int_equal(lcimsg_id(m), got);
		assert_int_equal(lcimsg_nfds(m), got % 3 != 0);
		if (got % 3)
			assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), 'a' + got);
		lcimsg_unref(m);
		got++;
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
	free(b);
}

/* Announced and sent numbers differ: delivered without fds, and the next message has its own. */
static void
test_lies(void **state)
{
	static const struct {
		unsigned said, sent;
	} t[] = {{1, 2}, {2, 1}, {4, 3}, {3, 4}, {1, 253}, {4, 1}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		int raw, fds[253], one = marked('1');
		lcimsg_chan *c = chan_raw(&raw, 4);
		lcimsg_msg *m;
		uint8_t b[64];

		for (unsigned k = 0; k < 253; k++)
			fds[k] = one;
		raw_send(raw, b, wire_msg(b, 0x100, t[i].said, 0, "x", 1), fds, t[i].sent);
		raw_send(raw, b, wire_msg(b, 0x101, 1, 0, "x", 1), fds, 1);
		close(one);
		assert_int_equal(next(c, &m), 1);
		assert_int_equal(lcimsg_type(m), 0x100);
		assert_int_equal(lcimsg_flags(m) & LCIMSG_FDLOST, LCIMSG_FDLOST);
		assert_int_equal(lcimsg_nfds(m), 0);
		lcimsg_unref(m);
		assert_int_equal(next(c, &m), 1);
		assert_int_equal(lcimsg_flags(m) & LCIMSG_FDLOST, 0);
		assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), '1');
		lcimsg_unref(m);
		lcimsg_close(c);
		close(raw);
	}
}

/* Sets that no message asks for. */
static void
test_surplus(void **state)
{
	int raw, fd;
	lcimsg_chan *c;
	lcimsg_msg *m;
	uint8_t b[64];

	/* with a message that does not announce any */
	c = chan_raw(&raw, 4);
	fd = marked('s');
	raw_send(raw, b, wire_msg(b, 0x100, 0, 0, "x", 1), &fd, 1);
	assert_int_equal(next(c, &m), 1);
	lcimsg_unref(m);
	assert_int_equal(next(c, &m), -EPROTO);
	assert_string_equal(lcimsg_why(c), "file descriptors without a message");
	lcimsg_close(c);
	close(raw);

	/* one with every byte of a single message: refused at the second */
	c = chan_raw(&raw, 4);
	wire_msg(b, 0x100, 1, 0, "x", 1);
	raw_send(raw, b, 1, &fd, 1);
	assert_int_equal(next(c, &m), 0);
	raw_send(raw, b + 1, 1, &fd, 1);
	assert_int_equal(next(c, &m), -EPROTO);
	lcimsg_close(c);
	close(raw);

	/* the same, read late: the limit on sets holds */
	c = chan_raw(&raw, 4);
	for (int i = 0; i < 20; i++)
		raw_send(raw, b + i % 16, 1, &fd, 1);
	while (lcimsg_fill(c) == 1)
		;
	assert_int_equal(next(c, &m), -EPROTO);
	lcimsg_close(c);
	close(raw);

	/* in the middle of a message that has a buffer of its own */
	c = chan_raw(&raw, 4);
	{
		uint8_t *big = calloc(1, 16384);

		wire(big, 16384, 0x100, 0, 0, 0, NULL, 0);
		raw_send(raw, big, 5000, NULL, 0);
		assert_int_equal(next(c, &m), 0);
		raw_send(raw, big, 5000, &fd, 1);
		assert_int_equal(next(c, &m), -EPROTO);
		free(big);
	}
	lcimsg_close(c);
	close(raw);
	close(fd);
}

/* max_fds_in 0: the kernel refuses for us, or we do. */
static void
test_not_allowed(void **state)
{
	int raw, fd = marked('n'), r;
	lcimsg_chan *c = chan_raw(&raw, 0);
	lcimsg_msg *m;
	uint8_t b[64];

	r = raw_send(raw, b, wire_msg(b, 0x100, 0, 0, "x", 1), &fd, 1);
	if (r < 0) {
		assert_int_equal(errno, EPERM); /* SO_PASSRIGHTS */
	} else {
		assert_int_equal(next(c, &m), -EPROTO);
		assert_string_equal(lcimsg_why(c), "file descriptors where none are allowed");
	}
	lcimsg_close(c);
	close(raw);
	close(fd);
}

/* Our own table of fds is full: the message comes without them, the stream goes on. */
static void
test_emfile(void **state)
{
	int raw, fds[3] = {marked('0'), marked('1'), marked('2')};
	lcimsg_chan *c = chan_raw(&raw, 4);
	struct rlimit old, tight;
	lcimsg_msg *m;
	uint8_t b[64];
	int lowest;

	raw_send(raw, b, wire_msg(b, 0x100, 3, 0, "x", 1), fds, 3);
	raw_send(raw, b, wire_msg(b, 0x101, 0, 0, "x", 1), NULL, 0);
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	lowest = dup(0);
	close(lowest);
	tight.rlim_cur = (rlim_t)lowest + 1; /* one fits, two do not */
	setrlimit(RLIMIT_NOFILE, &tight);
	assert_int_equal(next(c, &m), 1);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(lcimsg_type(m), 0x100);
	assert_int_equal(lcimsg_flags(m) & LCIMSG_FDLOST, LCIMSG_FDLOST);
	assert_int_equal(lcimsg_nfds(m), 0);
	lcimsg_unref(m);
	raw_send(raw, b, wire_msg(b, 0x102, 1, 0, "x", 1), fds + 1, 1);
	assert_int_equal(next(c, &m), 1);
	lcimsg_unref(m);
	assert_int_equal(next(c, &m), 1);
	assert_int_equal(mark_of(lcimsg_get_fd(m, 0)), '1');
	lcimsg_unref(m);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	lcimsg_close(c);
	close(raw);
}

static void
test_many(void **state)
{
	lcimsg_chan *c[2];
	lcimsg_msg *m;
	int fds[254], fd = marked('m');

	chan_pair(c, SOCK_STREAM, 253, 0);
	for (int i = 0; i < 254; i++)
		fds[i] = fd;
	assert_int_equal(lcimsg_send(c[0], 0x100, 0, NULL, 0, fds, 253, 0), 0);
	assert_int_equal(lcimsg_send(c[0], 0x100, 0, NULL, 0, fds, 254, 0), -EMSGSIZE);
	assert_int_equal(lcimsg_flush(c[0]), 0);
	assert_int_equal(next(c[1], &m), 1);
	assert_int_equal(lcimsg_nfds(m), 253);
	assert_int_equal(mark_of(lcimsg_get_fd(m, 252)), 'm');
	lcimsg_unref(m);
	close(fd);
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* Who closes what when sending fails, when a channel closes with a full queue, and on forwarding. */
static void
test_ownership(void **state)
{
	lcimsg_chan *c[2];
	lcimsg_msg *m;
	int fd = marked('o'), fd2 = marked('p');

	chan_pair(c, SOCK_STREAM, 1, 0);
	assert_int_equal(lcimsg_send(c[0], 0x100, 0, NULL, 0, (int[]){fd, fd2}, 2, LCIMSG_FD_TAKE), -EMSGSIZE);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(fcntl(fd2, F_GETFD), -1);
	m = lcimsg_msg_new(0x100, 0);
	fd = marked('o');
	lcimsg_put_fd(m, -1, LCIMSG_FD_DUP); /* sticky */
	lcimsg_put_fd(m, fd, LCIMSG_FD_TAKE);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(lcimsg_submit(c[0], m), -EBADF);
	assert_int_equal(lcimsg_submit(c[0], NULL), -ENOMEM);

	fd = marked('o');
	assert_int_equal(lcimsg_send(c[0], 0x100, 0, NULL, 0, &fd, 1, LCIMSG_FD_TAKE), 0);
	lcimsg_flush(c[0]);
	assert_int_equal(next(c[1], &m), 1);
	assert_int_equal(lcimsg_submit(c[1], lcimsg_ref(m)), 0);
	close(lcimsg_take_fd(m, 0));
	assert_int_equal(lcimsg_submit(c[1], m), -EBADF);
	/* left in the socket, in the queue, and received but not taken: all closed with the channels */
	for (int i = 0; i < 3; i++) {
		fd = marked('q');
		lcimsg_send(c[0], 0x100, 0, NULL, 0, &fd, 1, LCIMSG_FD_TAKE);
		if (i < 2)
			lcimsg_flush(c[0]);
		if (i < 1)
			lcimsg_fill(c[1]);
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
}

/* ---- sealed memory ---- */

static int
send_map(int fd, uint64_t size, const void **p, size_t *n, lcimsg_msg **ret)
{
	lcimsg_chan *c[2];
	lcimsg_msg *m = lcimsg_msg_new(0x100, 0);
	int r;

	chan_pair(c, SOCK_STREAM, 2, 0);
	lcimsg_put_memfd(m, fd, size, LCIMSG_FD_TAKE);
	lcimsg_put_str(m, "after");
	assert_int_equal(lcimsg_submit(c[0], m), 0);
	assert_int_equal(lcimsg_flush(c[0]), 0);
	assert_int_equal(next(c[1], &m), 1);
	r = lcimsg_map(m, p, n);
	if (r == 0) {
		*ret = m; /* outlives the channel */
	} else {
		struct lcimsg_reader rd;

		lcimsg_reader_init(&rd, m);
		assert_string_equal(lcimsg_get_str(&rd), "after");
		lcimsg_unref(m);
	}
	lcimsg_close(c[0]);
	lcimsg_close(c[1]);
	return r;
}

static void
test_memfd(void **state)
{
	const void *p;
	size_t n;
	lcimsg_msg *m;
	int fd, sv[2];
	uint8_t *blob = malloc(3 << 20);

	for (int i = 0; i < 3 << 20; i++)
		blob[i] = (uint8_t)(i * 7);
	fd = lcimsg_memfd("blob", blob, 3 << 20);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1); /* sealed */
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(send_map(fd, 3 << 20, &p, &n, &m), 0);
	assert_int_equal(n, 3 << 20);
	assert_memory_equal(p, blob, n);
	assert_int_equal(lcimsg_map(m, &p, &n), 0); /* again: the same */
	lcimsg_unref(m);
	free(blob);

	assert_int_equal(send_map(lcimsg_memfd("empty", NULL, 0), 0, &p, &n, &m), 0);
	assert_int_equal(n, 0);
	lcimsg_unref(m);

	/* lies about the size */
	assert_int_equal(send_map(lcimsg_memfd("b", "12345678", 8), 9, &p, &n, &m), -EBADMSG);
	assert_int_equal(send_map(lcimsg_memfd("b", "12345678", 8), 7, &p, &n, &m), -EBADMSG);
	assert_int_equal(send_map(lcimsg_memfd("b", "12345678", 8), 1ull << 40, &p, &n, &m), -EMSGSIZE);
	assert_int_equal(send_map(lcimsg_memfd("b", "12345678", 8), UINT64_MAX, &p, &n, &m), -EMSGSIZE);
	/* each seal is needed */
	for (int miss = 0; miss < 4; miss++) {
		static const int seals[3] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE};

		fd = memfd_create("part", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(write(fd, "12345678", 8), 8);
		for (int i = 0; i < 3; i++)
			if (i != miss && miss < 3)
				assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		if (miss == 3)
			assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), 0);
		assert_int_equal(send_map(fd, 8, &p, &n, &m), -EPERM);
	}
	/* not memory at all */
	assert_int_equal(send_map(open("/dev/zero", O_RDONLY), 8, &p, &n, &m), -EBADMSG);
	assert_int_equal(send_map(open("/", O_RDONLY), 8, &p, &n, &m), -EBADMSG);
	assert_int_equal(send_map(open("/proc/self/maps", O_RDONLY), 0, &p, &n, &m), -EBADMSG);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	close(sv[1]);
	assert_int_equal(send_map(sv[0], 8, &p, &n, &m), -EBADMSG);
	assert_int_equal(pipe(sv), 0);
	close(sv[1]);
	assert_int_equal(send_map(sv[0], 8, &p, &n, &m), -EBADMSG);
	{
		FILE *f = tmpfile();

		fd = dup(fileno(f));
		assert_int_equal(write(fd, "12345678", 8), 8);
		fclose(f);
		assert_in_range(-send_map(fd, 8, &p, &n, &m), 1, 200); /* EPERM where /tmp is a tmpfs */
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_bytewise),    CASE(test_bytewise_late),  CASE(test_splits), CASE(test_boundary),
	    CASE(test_orders),      CASE(test_partial_writes), CASE(test_lies),   CASE(test_surplus),
	    CASE(test_not_allowed), CASE(test_emfile),         CASE(test_many),   CASE(test_ownership),
	    CASE(test_memfd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
