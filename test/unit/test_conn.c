/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_conn.c - connections over a real socket pair, with a line protocol and a worker made for the test.
 *
 * A request is a line "WORD [N]\n" followed by N bytes of body.  The worker echoes, answers much, or reads a body that
 * is not there yet.  Each test runs three ways: inline; with the lead handed to a second thread whenever a call must
 * wait; and stepping the own connection.  The bytes on the wire must be the same.
 *
 * "file:SIZE:LENGTH" is answered with LENGTH bytes of a file that has SIZE of them; sendfile() and pread() are ours, so
 * that they can fail.
 *
 * And all of it once more through a lasting transport (test/transport/xor.c), whose input comes in records that the
 * reads do not fit to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log/log.h"
#include "module/loader.h"
#include "net/conn.h"
#include "net/route.h"

#include "../transport/xor.h"

/* server.c registers host tables; nobody asks for them here */
void
lc_host_register(const char *name, uint32_t version, const void *table, size_t size)
{
	(void)name;
	(void)version;
	(void)table;
	(void)size;
}

static const struct lc_transport *xor_ops; /* NULL: plain */
static int transported;

static const void *
host_get(const char *name, uint32_t version, size_t min_size)
{
	return strcmp(name, "transport") || version != 1 || min_size > sizeof(lc_transport_table) ? NULL
												  : &lc_transport_table;
}

static int
set_up(void **state)
{
	static const struct lc_host host = {.size = sizeof(host), .get = host_get};
	const struct lc_module *m = lc_module_query(&host);

	(void)state;
	xor_ops = m->ifaces[0].ops;
	return m->load(&host);
}

/* ---- the line protocol: one stream at a time ---- */

struct lines {
	struct lc_conn *c;
	struct lc_stream *s;
	char line[256];
	uint32_t n;
	uint64_t body;
	int reading_body, responded;
};

static const struct lc_conn_api *A = &lc_conn_table;

static int
p_open(struct lc_conn *c, const void *conf, void **sess)
{
	struct lines *p = A->sess_alloc(c, sizeof(*p));

	(void)conf;
	p->c = c;
	A->timer(c, LC_TM_WRITE, 5000);
	*sess = p;
	return LC_OK;
}

static void
p_close(void *sess)
{
	struct lines *p = sess;

	assert_null(p->s); /* streams were detached before */
}

static int64_t
p_recv(void *sess, const uint8_t *in, size_t n)
{
	struct lines *p = sess;
	size_t k = 0;

	if (p->s && !p->reading_body)
		return 0; /* the next request waits for the answer */
	while (k < n) {
		if (p->reading_body) {
			size_t take = n - k < p->body ? n - k : p->body;
			int over = A->stream_body(p->s, in + k, take);
			p->body -= take;
			k += take;
			if (!p->body) {
				p->reading_body = 0;
				A->stream_end(p->s, NULL, 0);
			} else if (over == 1) {
				A->read_pause(p->c, 1);
			}
			return (int64_t)k;
		}
		char ch = (char)in[k++];
		if (ch != '\n') {
			if (p->n == sizeof(p->line) - 1)
				return -LC_CONN_DEAD;
			p->line[p->n++] = ch;
			continue;
		}
		struct lc_req *r;
		p->line[p->n] = 0;
		p->s = A->stream_open(p->c, 0, p, &r);
		char *line = A->stream_alloc(p->s, p->n + 1);
		memcpy(line, p->line, p->n + 1);
		char *sp = strchr(line, ' ');
		p->body = sp ? strtoull(sp + 1, NULL, 10) : 0;
		r->method = (struct lc_str){line, sp ? (size_t)(sp - line) : p->n};
		r->length = (int64_t)p->body;
		p->n = 0;
		p->reading_body = p->body > 0;
		A->stream_head(p->s, !p->body);
		if (!p->body)
			return (int64_t)k;
	}
	return (int64_t)k;
}

static int
p_eof(void *sess)
{
	return ((struct lines *)sess)->s ? LC_OK : LC_CONN_DEAD;
}

static int
p_pull(void *sess, struct lc_outv *v)
{
	struct lines *p = sess;
	int fin;

	if (!p->s || !p->responded)
		return LC_OK;
	A->stream_take(p->s, v, UINT64_MAX);
	if (!A->stream_avail(p->s, &fin) && fin) {
		if (A->out_copy(v, "\n", 1) < 0)
			return LC_OK;
		p->responded = 0;
		A->stream_done(p->s);
	}
	return LC_OK;
}

static int
p_head(void *sess, void *ps, const struct lc_head *h)
{
	((struct lines *)ps)->responded = h->status >= 200;
	(void)sess;
	return LC_OK;
}

static void
p_out(void *sess, void *ps)
{
	(void)ps;
	A->want_write(((struct lines *)sess)->c);
}

static void
p_consumed(void *sess, void *ps, size_t n)
{
	(void)ps;
	(void)n;
	A->read_pause(((struct lines *)sess)->c, 0);
}

static void
p_reset(void *sess, void *ps, uint32_t reason)
{
	(void)ps;
	(void)reason;
	A->conn_close(((struct lines *)sess)->c, LC_CLOSE_NOW);
}

static void
p_detach(void *sess, void *ps)
{
	struct lines *p = sess;

	assert_ptr_equal(ps, sess);
	assert_non_null(p->s);
	p->s = NULL;
}

static int
p_timeout(void *sess, uint32_t which)
{
	(void)sess;
	(void)which;
	return LC_CONN_DEAD;
}

static void
p_drain(void *sess, uint32_t phase)
{
	struct lines *p = sess;

	(void)phase;
	if (!p->s)
		A->conn_close(p->c, LC_CLOSE_FLUSH);
}

static const struct lc_proto lines_proto = {
    .size = sizeof(lines_proto),
    .flags = LC_P_FALLBACK,
    .name = "lines",
    .open = p_open,
    .close = p_close,
    .recv = p_recv,
    .eof = p_eof,
    .pull = p_pull,
    .head = p_head,
    .out_ready = p_out,
    .consumed = p_consumed,
    .reset = p_reset,
    .detach = p_detach,
    .drain = p_drain,
    .timeout = p_timeout,
};

/* ---- files that may fail ---- */

/* What sendfile() does. */
#define SF_REAL 0
#define SF_SHORT 1   /* little at a time, interrupted now and then */
#define SF_NEVER 2   /* EINVAL: the file has none */
#define SF_FAILS 3   /* EIO */
#define SF_ENDLESS 4 /* says that it sent all, sends nothing */
static int sf_mode, pread_fails, sf_calls;
static uint64_t sf_bytes;
static int files_open, files_released;

ssize_t test_sendfile(int, int, off_t *, size_t);
ssize_t test_pread(int, void *, size_t, off_t);

ssize_t
test_sendfile(int out, int in, off_t *off, size_t n)
{
	sf_calls++;
	assert_true(n <= LC_OUTV_FILE);
	switch (sf_mode) {
	case SF_SHORT:
		if (sf_calls % 3 == 1) {
			errno = EINTR;
			return -1;
		}
		n = n < 1777 ? n : 1777;
		break;
	case SF_NEVER:
		errno = EINVAL;
		return -1;
	case SF_FAILS:
		errno = EIO;
		return -1;
	case SF_ENDLESS:
		sf_bytes += n;
		return (ssize_t)n;
	default:
		break;
	}
	ssize_t r = syscall(SYS_sendfile, out, in, off, n);
	sf_bytes += r > 0 ? (uint64_t)r : 0;
	return r;
}

ssize_t
test_pread(int fd, void *p, size_t n, off_t off)
{
	if (pread_fails) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, p, n < 5000 ? n : 5000, off);
}

static void
file_release(void *arg)
{
	close((int)(intptr_t)arg);
	files_open--;
	files_released++;
}

static struct lc_slice
file_slice(uint64_t size, uint64_t off, uint64_t n)
{
	int fd = memfd_create("a file", MFD_CLOEXEC);
	uint8_t page[4000];

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (uint64_t at = 0; size <= 10000000 && at < size; at += sizeof(page)) { /* others stay sparse */
		for (size_t k = 0; k < sizeof(page); k++)
			page[k] = (uint8_t)((at + k) % 251);
		uint64_t w = size - at < sizeof(page) ? size - at : sizeof(page);
		assert_int_equal(pwrite(fd, page, w, (off_t)at), (ssize_t)w);
	}
	files_open++;
	return (struct lc_slice){.n = n, .off = off, .fd = fd, .release = file_release, .arg = (void *)(intptr_t)fd};
}

/* ---- the worker ---- */

static struct lc_srv *S;
static uint64_t sf_bytes_at_one; /* sent of files when "one" was asked for */
static int requests, aborts, waits;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static int vacant, quit;

static void
w_request(void *w, struct lc_stream *s)
{
	const struct lc_stream_api *a = &lc_stream_table;
	const struct lc_req *r = a->req(s);
	static const struct lc_head ok = {.size = sizeof(ok), .status = 200, .length = -1};
	char buf[4096];
	int64_t n;

	(void)w;
	__atomic_add_fetch(&requests, 1, __ATOMIC_RELAXED);
	if (!strncmp(r->method.p, "big", 3)) { /* 1 MB in pieces */
		static uint8_t out[1000000];
		a->respond(s, &ok);
		for (size_t at = 0; at < sizeof(out); at += 5000) {
			memset(out + at, 'a' + (int)(at / 5000 % 26), 5000);
			struct lc_slice sl = {.p = out + at, .n = 5000, .fd = -1, .flags = LC_SL_COPY};
			int e = a->write(s, &sl, 1, LC_W_FLUSH);
			if (e == 1) {
				__atomic_add_fetch(&waits, 1, __ATOMIC_RELAXED);
				e = a->wait(s, LC_EV_WRITE, -1) & LC_EV_ABORT ? -EPIPE : 0;
			}
			if (e < 0) {
				__atomic_add_fetch(&aborts, 1, __ATOMIC_RELAXED);
				a->release(s);
				return;
			}
		}
		a->finish(s, NULL, 0);
	} else if (!strncmp(r->method.p, "sum", 3)) { /* of a body that may not be there yet */
		uint64_t sum = 0, total = 0;
		while ((n = a->read(s, buf, sizeof(buf))) != 0) {
			if (n == -EAGAIN) {
				__atomic_add_fetch(&waits, 1, __ATOMIC_RELAXED);
				a->wait(s, LC_EV_READ, -1);
				continue;
			}
			if (n < 0) {
				__atomic_add_fetch(&aborts, 1, __ATOMIC_RELAXED);
				a->release(s);
				return;
			}
			for (int64_t k = 0; k < n; k++)
				sum += (uint8_t)buf[k];
			total += (uint64_t)n;
		}
		int len = snprintf(buf, sizeof(buf), "%llu/%llu", (unsigned long long)total, (unsigned long long)sum);
		struct lc_slice sl = {.p = (uint8_t *)buf, .n = (uint64_t)len, .fd = -1, .flags = LC_SL_COPY};
		a->respond(s, &ok);
		a->write(s, &sl, 1, LC_W_FIN);
	} else if (!strncmp(r->method.p, "file:", 5)) {
		char *end;
		uint64_t size = strtoull(r->method.p + 5, &end, 10), len = strtoull(end + 1, NULL, 10);
		struct lc_slice sl[3] = {{.p = (const uint8_t *)"<", .n = 1, .fd = -1},
					 file_slice(size, 7, len),
					 {.p = (const uint8_t *)">", .n = 1, .fd = -1}};
		a->respond(s, &ok);
		a->write(s, sl, 3, LC_W_FIN);
	} else {
		if (!strncmp(r->method.p, "one", 3))
			sf_bytes_at_one = sf_bytes;
		struct lc_slice sl = {.p = (const uint8_t *)r->method.p, .n = r->method.n, .fd = -1};
		a->respond(s, &ok);
		a->write(s, &sl, 1, LC_W_FIN);
	}
	a->release(s);
}

static void
w_leader_wanted(void *w)
{
	(void)w;
	pthread_mutex_lock(&mu);
	vacant++;
	pthread_cond_signal(&cv);
	pthread_mutex_unlock(&mu);
}

static void
w_stop(void *w, uint32_t how, int64_t deadline)
{
	(void)w;
	(void)deadline;
	if (how != LC_STOP_QUIT)
		return;
	pthread_mutex_lock(&mu);
	quit = 1;
	pthread_cond_broadcast(&cv);
	pthread_mutex_unlock(&mu);
}

static void *
w_thread(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_mutex_lock(&mu);
		while (!vacant && !quit)
			pthread_cond_wait(&cv, &mu);
		if (!vacant) {
			pthread_mutex_unlock(&mu);
			return NULL;
		}
		vacant--;
		pthread_mutex_unlock(&mu);
		if (lc_loop_lead(&S->loop) == 0)
			return NULL;
	}
}

/* ---- the client ---- */

struct client {
	int fd;
	const char *send;
	size_t send_n;
	uint64_t body; /* bytes of 0x01 sent after `send`, in small pieces */
	char *got;
	size_t got_n;
	int lazy;          /* reads only once the worker has had to wait for room */
	size_t stop_after; /* stop reading and close after that many bytes; 0: read to the end */
	int cut;           /* the end is not in order: no farewell comes */
};

static void *
client_run(void *arg)
{
	struct client *c = arg;
	struct xor_end e = {.fd = c->fd, .key = 0x5a, .plain = !transported};
	size_t cap = 1 << 22;
	ssize_t n;
	char yes[2];

	assert_int_equal(xor_hello(&e, ""), 0);
	assert_int_equal(xor_write(&e, c->send, c->send_n, 3), (ssize_t)c->send_n);
	char piece[997];
	memset(piece, 1, sizeof(piece));
	while (c->body) {
		size_t k = c->body < sizeof(piece) ? c->body : sizeof(piece);
		n = xor_write(&e, piece, k, 16384);
		assert_true(n > 0);
		c->body -= (uint64_t)n;
	}
	while (c->lazy && !__atomic_load_n(&waits, __ATOMIC_RELAXED))
		sched_yield();
	c->got = malloc(cap);
	if (!c->stop_after && transported)
		assert_true(xor_write(&e, "", 0, 1) == 0 || c->cut); /* it may be over by now */
	else if (!c->stop_after)
		shutdown(c->fd, SHUT_WR);
	if (transported) {
		n = recv(c->fd, yes, 2, MSG_WAITALL);
		assert_true(n == 2 || c->cut);
		assert_true(n != 2 || memcmp(yes, "Y", 2) == 0);
	}
	if (c->stop_after) /* no more than that even if the server writes on while we read */
		cap = c->stop_after;
	while ((n = xor_read(&e, c->got + c->got_n, cap - c->got_n)) > 0) {
		c->got_n += (size_t)n;
		if (c->stop_after && c->got_n >= c->stop_after)
			break;
	}
	if (transported && !c->stop_after)
		assert_int_equal(e.over, !c->cut); /* the farewell came before the end */
	if (e.over)
		assert_int_equal(read(c->fd, yes, 1), 0);
	close(c->fd);
	return NULL;
}

/* batch end of the test's server: drain when all connections are gone */
static void
w_batch_end(void *w)
{
	(void)w;
	if (!S->nconns && !S->draining)
		lc_srv_drain(S, 5000);
}

static void
serve(struct client *c, int threads)
{
	static struct lc_worker wk;
	static struct lc_lproto lp = {.proto = &lines_proto};
	static const char *const alpn[] = {NULL};
	static const struct xor_conf xconf = {.timeout = 5000};
	struct lc_ltrans lt = {.ops = xor_ops};
	struct lc_lsn lsn = {.nprotos = 1, .protos = &lp, .ev = {.fd = -1}};
	int sv[2];
	pthread_t ct, wt[2];

	wk = (struct lc_worker){.size = sizeof(wk),
				.name = "test",
				.request = w_request,
				.stop = w_stop,
				.batch_end = w_batch_end,
				.leader_wanted = threads ? w_leader_wanted : NULL};
	S = calloc(1, sizeof(*S));
	requests = aborts = waits = vacant = quit = 0;
	files_released = sf_calls = 0;
	sf_bytes = 0;
	assert_int_equal(lc_srv_init(S), 0);
	S->wk = &wk;
	S->max_conns = 10;
	S->processes = 1;
	lsn.srv = S;
	if (transported) {
		lsn.info = (struct lc_tr_listener){.size = sizeof(lsn.info), .alpn = alpn};
		assert_int_equal(xor_ops->listen(&lsn.info, &xconf, &lt.inst, NULL, 0), 0);
		lsn.trans = &lt;
		lsn.ntrans = 1;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	c->fd = sv[0];
	struct sockaddr sa = {.sa_family = AF_UNIX};
	lc_conn_new(&lsn, sv[1], &sa, sizeof(sa));
	assert_int_equal(S->nconns, 1);
	pthread_create(&ct, NULL, client_run, c);
	if (threads) {
		vacant = 1; /* two threads, one lead between them */
		for (int k = 0; k < 2; k++)
			pthread_create(&wt[k], NULL, w_thread, NULL);
		for (int k = 0; k < 2; k++)
			pthread_join(wt[k], NULL);
	} else {
		assert_int_equal(lc_loop_lead(&S->loop), 0);
	}
	pthread_join(ct, NULL);
	assert_int_equal(S->nconns, 0);
	assert_int_equal(S->inflight, 0);
	assert_int_equal(files_open, 0);
	lc_srv_done(S);
	free(S);
	if (transported)
		xor_ops->unlisten(lt.inst);
}

static void
both_ways(void (*fn)(int threads))
{
	for (transported = 0; transported < 2; transported++) {
		fn(0);
		fn(1);
	}
}

static void
pipelined(int threads)
{
	struct client c = {.send = "one\ntwo\nsum 3\nabcthree\n", .send_n = 23};

	serve(&c, threads);
	assert_int_equal(requests, 4);
	assert_int_equal(c.got_n, strlen("one\ntwo\n3/294\nthree\n"));
	assert_memory_equal(c.got, "one\ntwo\n3/294\nthree\n", c.got_n);
	free(c.got);
}

static void
big(int threads)
{
	struct client c = {.send = "a\nbig\nb\nbig\nc\n", .send_n = 14, .lazy = 1};

	serve(&c, threads);
	assert_int_equal(requests, 5);
	assert_true(waits > 0); /* the queue was full at least once */
	assert_int_equal(c.got_n, 6 + 2 * 1000001);
	assert_memory_equal(c.got, "a\n", 2);
	for (size_t at = 0; at < 1000000; at += 5000)
		assert_int_equal(c.got[2 + at + at % 4999], 'a' + (int)(at / 5000 % 26));
	assert_memory_equal(c.got + 2 + 1000000, "\nb\n", 3);
	assert_memory_equal(c.got + c.got_n - 3, "\nc\n", 3);
	free(c.got);
}

static void
upload(int threads)
{
	struct client c = {.send = "x\nsum 500000\n", .send_n = 13, .body = 500000};

	serve(&c, threads);
	assert_int_equal(requests, 2);
	assert_true(waits > 0);
	assert_int_equal(c.got_n, 2 + 14);
	assert_memory_equal(c.got, "x\n500000/500000\n", c.got_n);
	free(c.got);
}

static void
gone(int threads)
{
	struct client c = {.send = "big\n", .send_n = 4, .lazy = 1, .stop_after = 100000};

	serve(&c, threads);
	assert_int_equal(aborts, 1);
	free(c.got);
}

/* A file of 3 MB between two bytes, between two small answers: the bytes, and one release. */
static void
file_whole(int threads)
{
	struct client c = {.send = "a\nfile:3000007:3000000\nb\n", .send_n = 26, .stop_after = 3000007};

	c.send_n = strlen(c.send);
	serve(&c, threads);
	assert_int_equal(requests, 3);
	assert_int_equal(files_released, 1);
	assert_int_equal(c.got_n, 2 + 3000003 + 2);
	assert_memory_equal(c.got, "a\n<", 3);
	for (size_t k = 0; k < 3000000; k++)
		if ((uint8_t)c.got[3 + k] != (k + 7) % 251)
			fail_msg("byte %zu is wrong", k);
	assert_memory_equal(c.got + 3000003, ">\nb\n", 4);
	free(c.got);
}

/* Two small ones and nothing else in a turn: a call for what stands before each, and one for each. */
static void
file_small(int threads)
{
	struct client c = {.send = "file:107:100\nfile:10:3\n"};

	c.send_n = strlen(c.send);
	serve(&c, threads);
	assert_int_equal(files_released, 2);
	assert_int_equal(c.got_n, 103 + 6);
	assert_int_equal((uint8_t)c.got[1], 7);
	assert_memory_equal(c.got + 101, ">\n<\7\10\11>\n", 8);
	free(c.got);
}

/* It has become shorter: what there is arrives, then a reset, and no byte of what follows. */
static void
file_cut(int threads)
{
	struct client c = {.send = "file:100007:200000\nb\n", .cut = 1};

	c.send_n = strlen(c.send);
	serve(&c, threads);
	assert_int_equal(files_released, 1);
	assert_true(c.got_n <= 100001);
	free(c.got);
}

static void
file_client_gone(int threads)
{
	struct client c = {.send = "file:9000007:9000000\n", .stop_after = 100000};

	c.send_n = strlen(c.send);
	serve(&c, threads);
	assert_int_equal(files_released, 1);
	free(c.got);
}

static void
test_files(void **state)
{
	(void)state;
	for (sf_mode = SF_REAL; sf_mode <= SF_NEVER; sf_mode++) {
		both_ways(file_whole);
		both_ways(file_small);
		both_ways(file_cut);
		both_ways(file_client_gone);
	}
	sf_mode = SF_REAL;
}

static void
test_files_fail(void **state)
{
	(void)state;
	sf_mode = SF_FAILS;
	both_ways(file_cut);
	sf_mode = SF_NEVER;
	pread_fails = 1;
	both_ways(file_cut);
	sf_mode = SF_REAL;
	pread_fails = 0;
}

/* ---- a handler beside a call that waits, on one connection ---- */

static int in_call, handler_calls, handler_aborts;
static uint32_t abort_reason;

static int
hd_open(struct lc_wctx *ctx, const struct lc_worker_api *a, const struct lc_route *r, const void *conf, void **h)
{
	(void)ctx;
	(void)a;
	(void)r;
	(void)conf;
	*h = &handler_calls;
	return 0;
}

static int
hd_request(void *h, struct lc_stream *s, const struct lc_match *m)
{
	static const struct lc_head ok = {.size = sizeof(ok), .status = 200, .length = -1};
	struct lc_slice sl = {.p = (const uint8_t *)"x", .n = 1, .fd = -1};

	assert_ptr_equal(h, &handler_calls);
	assert_int_equal(m->rest.n, 0);
	assert_int_equal(in_call, 0);
	handler_calls++;
	in_call++; /* nothing may come back while it writes */
	assert_int_equal(lc_stream_table.respond(s, &ok), 0);
	assert_int_equal(lc_stream_table.write(s, &sl, 1, LC_W_FLUSH), 0);
	assert_int_equal(lc_stream_table.wait(s, LC_EV_READ | LC_EV_WRITE, -1), -EDEADLK);
	in_call--;
	return LC_H_TAKEN; /* and keeps it */
}

static void
hd_abort(void *h, struct lc_stream *s, uint32_t reason)
{
	(void)h;
	assert_int_equal(in_call, 0);
	handler_aborts++;
	abort_reason = reason;
	lc_stream_table.release(s);
}

static const struct lc_handler keeper = {
    .size = sizeof(keeper), .name = "keeper", .open = hd_open, .request = hd_request, .abort = hd_abort};

static void
pair_request(void *w, struct lc_stream *s)
{
	char buf[16];

	(void)w;
	in_call++;
	requests++;
	assert_int_equal(S->inflight, 2);
	assert_int_equal(S->handled, 1);
	assert_int_equal(lc_stream_table.read(s, buf, sizeof(buf)), -EAGAIN);
	__atomic_add_fetch(&waits, 1, __ATOMIC_RELAXED);
	assert_true(lc_stream_table.wait(s, LC_EV_READ, -1) & LC_EV_ABORT);
	assert_int_equal(S->nconns, 0);
	assert_int_equal(handler_aborts, 0);
	in_call--;
	lc_stream_table.release(s);
}

/* One byte is two requests: "/h", and "/w" with a body that does not come. */
static int64_t
pair_recv(void *sess, const uint8_t *in, size_t n)
{
	static const char *const path[2] = {"/h", "/w"};
	struct lines *p = sess;

	(void)in;
	for (int k = 0; k < 2; k++) {
		struct lc_req *r;
		struct lc_stream *s = A->stream_open(p->c, (uint64_t)k, p, &r);
		r->path = (struct lc_str){path[k], 2};
		A->stream_head(s, k == 0);
	}
	return (int64_t)n;
}

static int
pair_pull(void *sess, struct lc_outv *v)
{
	(void)sess;
	(void)v;
	return LC_OK;
}

static int
pair_eof(void *sess)
{
	(void)sess;
	return LC_CONN_DEAD;
}

static void
pair_detach(void *sess, void *ps)
{
	assert_ptr_equal(sess, ps);
}

static void *
pair_client(void *arg)
{
	int fd = *(int *)arg;

	assert_int_equal(write(fd, "!", 1), 1);
	while (!__atomic_load_n(&waits, __ATOMIC_RELAXED))
		sched_yield();
	close(fd);
	return NULL;
}

/* The connection dies under a call that waits: the handler whose stream dies with it is told after the call. */
static void
test_handler_beside_a_call(void **state)
{
	static const struct lc_worker wk = {
	    .size = sizeof(wk), .name = "test", .request = pair_request, .batch_end = w_batch_end};
	struct lc_proto proto = lines_proto;
	struct lc_lproto lp = {.proto = &proto};
	struct lc_lsn lsn = {.nprotos = 1, .protos = &lp, .ev = {.fd = -1}};
	struct sockaddr sa = {.sa_family = AF_UNIX};
	pthread_t ct;
	int sv[2];

	(void)state;
	proto.recv = pair_recv;
	proto.pull = pair_pull;
	proto.eof = pair_eof;
	proto.detach = pair_detach;
	S = calloc(1, sizeof(*S));
	assert_int_equal(lc_srv_init(S), 0);
	S->wk = &wk;
	S->max_conns = 10;
	S->processes = 1;
	lsn.srv = S;
	requests = waits = 0;
	assert_int_equal(lc_routes_add(S, &keeper, 0, "/h", NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	lc_conn_new(&lsn, sv[1], &sa, sizeof(sa));
	pthread_create(&ct, NULL, pair_client, &sv[0]);
	assert_int_equal(lc_loop_lead(&S->loop), 0);
	pthread_join(ct, NULL);
	assert_int_equal(requests, 1);
	assert_int_equal(handler_calls, 1);
	assert_int_equal(handler_aborts, 1);
	assert_int_equal(abort_reason, LC_RSN_PEER_CLOSED);
	assert_int_equal(S->inflight, 0);
	assert_int_equal(S->handled, 0);
	lc_routes_close(S);
	lc_srv_done(S);
	free(S);
}

/* A client that takes a large file as fast as it is sent does not keep others waiting. */
static void
test_fairness(void **state)
{
	static struct lc_worker wk = {
	    .size = sizeof(wk), .name = "test", .request = w_request, .batch_end = w_batch_end};
	static struct lc_lproto lp = {.proto = &lines_proto};
	static const char *const send[2] = {"file:9999999999:9999999900\n", "one\n"};
	struct lc_lsn lsn = {.nprotos = 1, .protos = &lp, .ev = {.fd = -1}};
	struct sockaddr sa = {.sa_family = AF_UNIX};
	int sv[2][2];
	char got[16];

	(void)state;
	S = calloc(1, sizeof(*S));
	assert_int_equal(lc_srv_init(S), 0);
	S->wk = &wk;
	S->max_conns = 10;
	S->processes = 1;
	lsn.srv = S;
	sf_mode = SF_ENDLESS;
	sf_bytes = sf_bytes_at_one = 0;
	for (int k = 0; k < 2; k++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv[k]), 0);
		lc_conn_new(&lsn, sv[k][1], &sa, sizeof(sa));
		assert_int_equal(write(sv[k][0], send[k], strlen(send[k])), (ssize_t)strlen(send[k]));
		shutdown(sv[k][0], SHUT_WR);
	}
	assert_int_equal(lc_loop_lead(&S->loop), 0);
	assert_int_equal(sf_bytes, 9999999900);
	assert_true(sf_bytes_at_one > 0 && sf_bytes_at_one <= 2 * LC_TURN_BYTES);
	assert_int_equal(read(sv[1][0], got, sizeof(got)), 4);
	assert_int_equal(files_open, 0);
	for (int k = 0; k < 2; k++)
		close(sv[k][0]);
	lc_srv_done(S);
	free(S);
	sf_mode = SF_REAL;
}

static void
test_pipelined(void **state)
{
	(void)state;
	both_ways(pipelined);
}
static void
test_big(void **state)
{
	(void)state;
	both_ways(big);
}
static void
test_upload(void **state)
{
	(void)state;
	both_ways(upload);
}
static void
test_gone(void **state)
{
	(void)state;
	both_ways(gone);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pipelined), cmocka_unit_test(test_big),
	    cmocka_unit_test(test_upload),    cmocka_unit_test(test_gone),
	    cmocka_unit_test(test_files),     cmocka_unit_test(test_files_fail),
	    cmocka_unit_test(test_fairness),  cmocka_unit_test(test_handler_beside_a_call),
	};
	signal(SIGPIPE, SIG_IGN); /* as a worker process does: sendfile() knows no MSG_NOSIGNAL */
	return cmocka_run_group_tests(tests, set_up, NULL);
}
