/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_stream.c - queues and arena of a stream, on the leading thread and from another one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream/outv.h"
#include "stream/stream.h"

static struct lc_loop L;
static struct lc_streams P;
static struct lc_schain C;
static struct lc_outv V;
static int released, woken;

static void
wake(struct lc_stream *s)
{
	(void)s;
	woken++;
}

static void
rel(void *arg)
{
	(void)arg;
	released++;
}

static struct lc_stream *
begin(void)
{
	lc_lead_tls = &L; /* this thread leads */
	lc_chain_init(&C);
	released = woken = 0;
	lc_stream_wake_leading = wake;
	struct lc_stream *s = lc_stream_new(&P, &L);
	assert_non_null(s);
	lc_chain_add(&C, s);
	s->proto_ref = s->worker_ref = s->requested = 1;
	return s;
}

static void
end(struct lc_stream *s)
{
	while (lc_chain_pop(&C))
		;
	lc_chain_remove(s);
	s->proto_ref = s->worker_ref = 0;
	lc_stream_free(&P, s);
	assert_null(C.all);
	lc_lead_tls = NULL;
}

static void
test_body_in(void **state)
{
	struct lc_stream *s = begin();
	const struct lc_stream_api *a = &lc_stream_table;
	uint8_t in[5000], out[20000];
	int fin, over = 0;
	uint64_t total = 0;

	(void)state;
	for (size_t k = 0; k < sizeof(in); k++)
		in[k] = (uint8_t)(k * 7);
	assert_int_equal(a->read(s, out, 10), -EAGAIN);
	for (size_t n = 1; total < 70000; n = n % 4999 + 13, total += n)
		over = lc_stream_in(s, in, n);
	assert_int_equal(over, 1); /* above the high water mark */
	total = a->avail(s, &fin);
	assert_int_equal(fin, 0);
	static const struct lc_field trailers[] = {{.name = {"x-sum", 5}, .value = {"1", 1}}};
	uint32_t ntrailers = 7;
	assert_null(a->trailers(s, &ntrailers)); /* not before the end */
	assert_int_equal(ntrailers, 0);
	lc_stream_in_end(s, trailers, 1);
	assert_ptr_equal(a->trailers(s, &ntrailers), trailers);
	assert_int_equal(ntrailers, 1);
	uint64_t got = 0;
	int64_t r;
	size_t n = 1, k = 0;
	while ((r = a->read(s, out, 3777)) > 0) {
		for (int64_t j = 0; j < r; j++) {
			if (k == n) {
				n = n % 4999 + 13;
				k = 0;
			}
			assert_int_equal(out[j], in[k++]);
		}
		got += (uint64_t)r;
	}
	assert_int_equal(r, 0);
	assert_int_equal(got, total);
	assert_int_equal(s->in_consumed, total);
	assert_true(s->ev & LC_SE_CONSUMED);
	end(s);
}

static void
test_body_out(void **state)
{
	struct lc_stream *s = begin();
	const struct lc_stream_api *a = &lc_stream_table;
	static uint8_t big[100000];
	struct lc_head h = {.size = sizeof(h), .status = 200, .length = -1};
	struct lc_slice sl = {.p = big, .n = 10, .fd = -1, .flags = LC_SL_COPY};

	(void)state;
	for (size_t k = 0; k < sizeof(big); k++)
		big[k] = (uint8_t)(k * 13 + (k >> 8));
	assert_int_equal(a->write(s, &sl, 1, 0), -EINVAL); /* no head yet */
	assert_int_equal(a->respond(s, &h), 0);
	assert_int_equal(a->respond(s, &h), -EALREADY);
	/* copies of all sizes, then references */
	uint64_t total = 0;
	int r = 0;
	for (uint64_t n = 1; n < 9000 && !r; n = n * 3 + 1) {
		sl = (struct lc_slice){.p = big + total, .n = n, .fd = -1, .flags = LC_SL_COPY, .release = rel};
		r = a->write(s, &sl, 1, 0);
		total += n;
	}
	int copies = released;
	assert_int_equal(copies, 8);
	sl = (struct lc_slice){.p = big + total, .n = sizeof(big) - total, .fd = -1, .release = rel};
	assert_int_equal(a->write(s, &sl, 1, LC_W_FIN), 0);
	assert_int_equal(released, copies);
	int fin;
	assert_int_equal(lc_stream_out_avail(s, &fin), sizeof(big));
	assert_int_equal(fin, 1);
	assert_int_equal(a->write(s, &sl, 1, 0), -EALREADY);
	copies = released;
	/* take in odd portions, compare, release */
	uint64_t at = 0;
	while (at < sizeof(big)) {
		int64_t n = lc_stream_out_take(s, &V, at < 40000 ? 777 : UINT64_MAX);
		assert_true(n > 0);
		uint64_t here = 0;
		for (uint32_t k = 0; k < V.n; k++) {
			assert_memory_equal(V.iov[k].iov_base, big + at + here, V.iov[k].iov_len);
			here += V.iov[k].iov_len;
		}
		assert_int_equal(here, n);
		at += here;
		lc_outv_release(&V);
	}
	assert_int_equal(released, copies + 1);
	end(s);
}

static void
test_out_bound(void **state)
{
	struct lc_stream *s = begin();
	const struct lc_stream_api *a = &lc_stream_table;
	static uint8_t one[1000];
	struct lc_head h = {.size = sizeof(h), .status = 200, .length = -1};
	uint64_t n = 0;

	(void)state;
	a->respond(s, &h);
	for (;;) {
		struct lc_slice sl = {.p = one, .n = sizeof(one), .fd = -1, .flags = LC_SL_COPY};
		int r = a->write(s, &sl, 1, 0);
		n += sizeof(one);
		if (r)
			break;
	}
	assert_in_range(n, LC_OUT_HIGH, LC_OUT_HIGH + 1000);
	assert_int_equal(lc_stream_poll(s, LC_EV_WRITE), 0);
	while (s->out_bytes > LC_OUT_LOW) {
		assert_true(lc_stream_out_take(s, &V, 5000) > 0);
		lc_outv_release(&V);
	}
	assert_int_equal(lc_stream_poll(s, LC_EV_WRITE), LC_EV_WRITE);
	assert_true(s->ev & LC_SE_WRITABLE);
	end(s);
}

static void
test_abort(void **state)
{
	struct lc_stream *s = begin();
	const struct lc_stream_api *a = &lc_stream_table;
	struct lc_head h = {.size = sizeof(h), .status = 200, .length = -1};
	struct lc_slice sl = {.p = (const uint8_t *)"x", .n = 1, .fd = -1, .release = rel};

	(void)state;
	a->respond(s, &h);
	a->write(s, &sl, 1, 0);
	lc_stream_abort(s, LC_RSN_PEER_RESET);
	assert_int_equal(released, 1); /* what waited is let go */
	assert_int_equal(a->write(s, &sl, 1, 0), -EPIPE);
	assert_int_equal(released, 2); /* ownership is taken in errors, too */
	uint8_t b;
	assert_int_equal(a->read(s, &b, 1), -ECONNRESET);
	assert_int_equal(a->wait(s, LC_EV_READ, 0), LC_EV_ABORT);
	assert_true(s->ev & LC_SE_ABORT);
	end(s);
}

static void
test_arena(void **state)
{
	struct lc_stream *s = begin();
	uint64_t total = 0;
	uint8_t *p;

	(void)state;
	for (size_t n = 1; (p = lc_stream_alloc(s, n)); n = n * 2 > 40000 ? 1 : n * 2 + 1) {
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, 0xa5, n);
		total += n;
	}
	assert_in_range(total, LC_ARENA_MAX / 2, LC_ARENA_MAX + LC_STREAM_BLOCK); /* bounded */
	assert_null(lc_stream_alloc(s, LC_ARENA_MAX + 1));
	end(s);
}

/* Another thread reads, waits and answers; this one plays the protocol. */
static void *
application(void *arg)
{
	struct lc_stream *s = arg;
	const struct lc_stream_api *a = &lc_stream_table;
	uint8_t buf[3000];
	uint64_t sum = 0;
	int64_t r;

	for (;;) {
		r = a->read(s, buf, sizeof(buf));
		if (r == -EAGAIN) {
			a->wait(s, LC_EV_READ, -1);
			continue;
		}
		if (r <= 0)
			break;
		for (int64_t k = 0; k < r; k++)
			sum += buf[k];
	}
	struct lc_head *h = a->alloc(s, sizeof(*h));
	*h = (struct lc_head){.size = sizeof(*h), .status = 200, .length = -1};
	a->respond(s, h);
	static uint8_t out[300000];
	memset(out, (int)(sum & 0x7f), sizeof(out));
	for (size_t at = 0; at < sizeof(out); at += 10000) {
		struct lc_slice sl = {.p = out + at, .n = 10000, .fd = -1, .flags = LC_SL_COPY};
		if (a->write(s, &sl, 1, 0) == 1)
			a->wait(s, LC_EV_WRITE, -1);
	}
	a->finish(s, NULL, 0);
	a->release(s);
	return NULL;
}

static void
count_post(struct lc_post *p)
{
	lc_stream_collect((struct lc_stream *)((char *)p - offsetof(struct lc_stream, post)));
}

static void *
finisher(void *arg)
{
	static const struct lc_field trailers[] = {{.name = {"x-sum", 5}, .value = {"1", 1}}};

	assert_int_equal(lc_stream_table.finish(arg, trailers, 1), 0);
	return NULL;
}

/* A thread ends the response while the leader is sending: the end does not show before the trailers are told. */
static void
test_end_waits_for_trailers(void **state)
{
	static const struct lc_head head = {.size = sizeof(head), .status = 200, .length = -1};
	struct lc_stream *s;
	pthread_t t;
	int fin = 7;

	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	s = begin();
	s->post.fn = count_post;
	assert_int_equal(lc_stream_table.respond(s, &head), 0);
	lc_stream_table.share(s);
	s->ev = 0;
	assert_int_equal(pthread_create(&t, NULL, finisher, s), 0);
	pthread_join(t, NULL);
	assert_true(s->out_fin);
	assert_int_equal(lc_stream_out_avail(s, &fin), 0);
	assert_int_equal(fin, 0);
	atomic_exchange(&L.posted, NULL);
	lc_stream_collect(s);
	lc_stream_out_avail(s, &fin);
	assert_int_equal(fin, 0);
	assert_true(s->ev & LC_SE_TRAILERS);
	assert_true(s->ev & LC_SE_OUT); /* so the protocol looks again */
	s->ev = 0;                      /* delivered */
	lc_stream_out_avail(s, &fin);
	assert_int_equal(fin, 1);
	end(s);
	lc_loop_done(&L);
}

static void
test_other_thread(void **state)
{
	struct lc_stream *s;
	pthread_t t;
	uint8_t in[1000];
	uint64_t sum = 0, got = 0;

	(void)state;
	assert_int_equal(lc_loop_init(&L), 0);
	s = begin();
	s->post.fn = count_post;
	lc_stream_table.share(s);
	assert_int_equal(pthread_create(&t, NULL, application, s), 0);
	for (int k = 0; k < 200; k++) {
		for (size_t j = 0; j < sizeof(in); j++) {
			in[j] = (uint8_t)(k + (int)j);
			sum += in[j];
		}
		lc_stream_in(s, in, sizeof(in));
	}
	lc_stream_in_end(s, NULL, 0);
	int fin = 0;
	while (!fin || lc_stream_out_avail(s, &fin)) {
		lc_stream_out_take(s, &V, UINT64_MAX);
		for (uint32_t k = 0; k < V.n; k++)
			for (size_t j = 0; j < V.iov[k].iov_len; j++, got++)
				assert_int_equal(((uint8_t *)V.iov[k].iov_base)[j], sum & 0x7f);
		assert_true(V.bytes <= LC_OUT_HIGH + 10000);
		lc_outv_release(&V);
		lc_stream_out_avail(s, &fin);
	}
	pthread_join(t, NULL);
	assert_int_equal(got, 300000);
	/* its last words were posted exactly once */
	struct lc_post *p = atomic_exchange(&L.posted, NULL);
	assert_ptr_equal(p, &s->post);
	assert_null(p->next);
	lc_stream_collect(s);
	assert_true(s->ev & LC_SE_RELEASE);
	assert_true(s->ev & LC_SE_HEAD);
	end(s);
	lc_loop_done(&L);
	lc_streams_done(&P);
}

static struct lc_slice
a_file(uint64_t off, uint64_t n)
{
	return (struct lc_slice){.n = n, .off = off, .fd = 77, .release = rel};
}

/* Take up to max; what came of files has to be [*at, ...) of descriptor 77. */
static int64_t
take(struct lc_stream *s, uint64_t max, uint64_t *at)
{
	int64_t n = lc_stream_out_take(s, &V, max);

	for (uint32_t f = 0; f < V.nfiles; f++) {
		const struct lc_outv_file *p = &V.file[f];
		assert_null(V.iov[p->at].iov_base);
		assert_int_equal(p->fd, 77);
		assert_int_equal(p->off, *at);
		assert_true(V.iov[p->at].iov_len <= LC_OUTV_FILE);
		*at += V.iov[p->at].iov_len;
	}
	return n;
}

static void
test_file_out(void **state)
{
	const struct lc_stream_api *a = &lc_stream_table;
	static const struct lc_head h = {.size = sizeof(h), .status = 200};
	struct lc_stream *s = begin();
	struct lc_slice sl, none = {.p = (const uint8_t *)"x", .n = 1, .fd = -1};
	uint64_t at = 1000, ten_g = UINT64_C(10000000000), total = 0;
	int fin;

	(void)state;
	a->respond(s, &h);
	/* what is no file slice is released and refused */
	sl = a_file(0, 5);
	sl.release = NULL;
	assert_int_equal(a->write(s, &sl, 1, 0), -EINVAL);
	sl = a_file(0, 5);
	sl.flags = LC_SL_COPY;
	assert_int_equal(a->write(s, &sl, 1, 0), -EINVAL);
	sl = a_file(INT64_MAX, 1);
	assert_int_equal(a->write(s, &sl, 1, 0), -EINVAL);
	sl = a_file(5, INT64_MAX);
	assert_int_equal(a->write(s, &sl, 1, 0), -EINVAL);
	assert_int_equal(released, 3);
	sl = a_file(0, 0);
	assert_int_equal(a->write(s, &sl, 1, 0), 0);
	assert_int_equal(released, 4);
	assert_int_equal(lc_stream_out_avail(s, &fin), 0);
	/* ten gigabytes do not fill the queue */
	sl = a_file(1000, ten_g);
	assert_int_equal(a->write(s, &sl, 1, 0), 0);
	assert_int_equal(a->write(s, &none, 1, LC_W_FIN), 0);
	assert_int_equal(lc_stream_out_avail(s, &fin), ten_g + 1);
	/* an odd number first: the part that is out and the rest hold the file together */
	assert_int_equal(take(s, 12345, &at), 12345);
	assert_int_equal(released, 4);
	total = 12345;
	lc_outv_release(&V);
	while (total < ten_g) {
		int64_t n = take(s, ten_g - total, &at);
		assert_true(n > 0);
		total += (uint64_t)n;
		assert_int_equal(released, 4);
		lc_outv_release(&V);
	}
	assert_int_equal(at, 1000 + ten_g);
	assert_int_equal(released, 5);
	assert_int_equal(lc_stream_out_avail(s, &fin), 1);
	assert_int_equal(lc_stream_out_take(s, &V, 100), 1);
	assert_int_equal(V.bytes, 1);
	lc_outv_release(&V);
	assert_int_equal(s->out_free, 0);
	end(s);
}

/* Many files fill the queue, by their cost; they are let go of once, wherever they are when it ends. */
static void
test_files_bound(void **state)
{
	const struct lc_stream_api *a = &lc_stream_table;
	static const struct lc_head h = {.size = sizeof(h), .status = 200};
	struct lc_stream *s = begin();
	uint64_t at = 0;
	int n = 0, r;

	(void)state;
	a->respond(s, &h);
	do {
		struct lc_slice sl = a_file(0, 5000000);
		r = a->write(s, &sl, 1, 0);
		n++;
	} while (r == 0);
	assert_int_equal(r, 1);
	assert_int_equal(n, LC_OUT_HIGH / LC_FILE_COST);
	/* of the first one a part is out when the stream is cut off */
	assert_int_equal(take(s, 1000, &at), 1000);
	lc_stream_abort(s, LC_RSN_PEER_RESET);
	assert_int_equal(released, n - 1);
	lc_outv_release(&V);
	assert_int_equal(released, n);
	struct lc_slice sl = a_file(0, 1);
	assert_int_equal(a->write(s, &sl, 1, 0), -EPIPE);
	assert_int_equal(released, n + 1);
	end(s);
	/* room comes when they were taken, and a vector has a limit of files */
	s = begin();
	a->respond(s, &h);
	for (n = 0, r = 0; r == 0; n++) {
		sl = a_file(0, 5000);
		r = a->write(s, &sl, 1, 0);
	}
	assert_int_equal(s->full, 1);
	for (int left = n; left > 0; left -= (int)LC_OUTV_FILES) {
		int k = left < (int)LC_OUTV_FILES ? left : (int)LC_OUTV_FILES;
		assert_int_equal(lc_stream_out_take(s, &V, UINT64_MAX), k * 5000);
		assert_int_equal(V.nfiles, k);
		assert_int_equal(V.limit, left > k);
		lc_outv_release(&V);
	}
	assert_int_equal(s->full, 0);
	assert_true(s->ev & LC_SE_WRITABLE);
	assert_int_equal(s->out_free, 0);
	assert_int_equal(released, n);
	end(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_end_waits_for_trailers),
	    cmocka_unit_test(test_body_in),
	    cmocka_unit_test(test_body_out),
	    cmocka_unit_test(test_out_bound),
	    cmocka_unit_test(test_abort),
	    cmocka_unit_test(test_arena),
	    cmocka_unit_test(test_other_thread),
	    cmocka_unit_test(test_file_out),
	    cmocka_unit_test(test_files_bound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
