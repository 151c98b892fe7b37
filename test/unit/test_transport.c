/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_transport.c - prologues and a lasting transport on a connection, one turn of the loop at a time.
 *
 * The protocols are toys: "echo/1" sends back what it gets, "loud/1" in capitals.  Three bytes make them act: 'Q', 'L'
 * and 'N' close the connection in the three ways, 'S' opens a stream and notes its request, 'B' answers with BIG bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log/log.h"
#include "module/loader.h"
#include "net/conn.h"

#include "../transport/xor.h"

#define BIG (3u << 20)

void
lc_host_register(const char *name, uint32_t version, const void *table, size_t size)
{
	(void)name;
	(void)version;
	(void)table;
	(void)size;
}

static const void *
host_get(const char *name, uint32_t version, size_t min_size)
{
	return strcmp(name, "transport") || version != 1 || min_size > sizeof(lc_transport_table) ? NULL
												  : &lc_transport_table;
}

/* ---- the protocols ---- */

struct echo {
	struct lc_conn *c;
	char buf[3500];
	uint32_t n;
	uint64_t big; /* bytes of it still to come */
	int loud;
};
static const struct lc_conn_api *A = &lc_conn_table;
static struct lc_req seen; /* the request of the last 'S', its strings copied */
static char seen_peer[64], seen_local[128], seen_facts[256];
static int drains, opens, eofs;

static int
e_open(struct lc_conn *c, const void *conf, void **sess)
{
	struct echo *p = A->sess_alloc(c, sizeof(*p) <= 4096 ? sizeof(*p) : 4096);

	p->c = c;
	p->loud = conf != NULL;
	opens++;
	*sess = p;
	return LC_OK;
}

static void
e_close(void *sess)
{
	(void)sess;
}

static void
note_request(struct echo *p)
{
	struct lc_req *r;
	struct lc_stream *s = A->stream_open(p->c, 0, p, &r);

	assert_non_null(s);
	seen = *r;
	snprintf(seen_peer, sizeof(seen_peer), "%.*s", (int)r->peer.n, r->peer.p);
	snprintf(seen_local, sizeof(seen_local), "%.*s", (int)r->local.n, r->local.p);
	*seen_facts = 0;
	for (uint32_t k = 0; k < r->nfacts; k++) {
		size_t at = strlen(seen_facts);
		snprintf(seen_facts + at, sizeof(seen_facts) - at, "%.*s=%.*s;", (int)r->facts[k].name.n,
			 r->facts[k].name.p, (int)r->facts[k].value.n, r->facts[k].value.p);
	}
	A->stream_abort(s, LC_RSN_DONE);
}

static int64_t
e_recv(void *sess, const uint8_t *in, size_t n)
{
	struct echo *p = sess;
	size_t k = 0;

	for (; k < n && p->n < 3000; k++) {
		if (in[k] == 'B')
			p->big += BIG;
		else if (in[k] == 'S')
			note_request(p);
		else if (strchr("QLN", in[k]))
			A->conn_close(p->c, in[k] == 'Q'   ? LC_CLOSE_FLUSH
					    : in[k] == 'L' ? LC_CLOSE_LINGER
							   : LC_CLOSE_NOW);
		else
			p->buf[p->n++] = p->loud ? (char)(in[k] - 32) : (char)in[k];
	}
	A->want_write(p->c);
	return (int64_t)k;
}

static int
e_eof(void *sess)
{
	(void)sess;
	eofs++;
	return LC_CONN_DEAD; /* after what is to be sent */
}

static int
e_pull(void *sess, struct lc_outv *v)
{
	struct echo *p = sess;

	if (p->n && A->out_copy(v, p->buf, p->n) < 0)
		return LC_OK;
	p->n = 0;
	while (p->big) {
		uint8_t *to = A->out_reserve(v, 1000);
		if (!to)
			break;
		size_t k = p->big < 1000 ? p->big : 1000;
		for (size_t j = 0; j < k; j++)
			to[j] = (uint8_t)((p->big - j) * 7 >> 3);
		A->out_commit(v, k);
		p->big -= k;
	}
	return LC_OK;
}

static void
e_detach(void *sess, void *ps)
{
	(void)sess;
	(void)ps;
}

static void
e_drain(void *sess, uint32_t phase)
{
	(void)phase;
	drains++;
	A->conn_close(((struct echo *)sess)->c, LC_CLOSE_FLUSH);
}

static int
e_timeout(void *sess, uint32_t which)
{
	(void)sess;
	(void)which;
	return LC_CONN_DEAD;
}

static int
sniff_loud(const uint8_t *p, size_t n)
{
	return p[0] != 'l' ? LC_SNIFF_NO : n < 3 ? LC_SNIFF_MORE : LC_SNIFF_YES;
}

static const char *const echo_alpn[] = {"echo/1", NULL}, *const loud_alpn[] = {"loud/0", "loud/1", NULL},
			 *const alpn[] = {"echo/1", "loud/0", "loud/1", NULL};
#define PROTO(nm, fl, al, sn)                                                                                       \
	{                                                                                                           \
		.size = sizeof(struct lc_proto), .flags = fl, .name = nm, .alpn = al, .sniff_max = 3, .sniff = sn,  \
		.open = e_open, .close = e_close, .recv = e_recv, .eof = e_eof, .pull = e_pull, .detach = e_detach, \
		.drain = e_drain, .timeout = e_timeout                                                              \
	}
static const struct lc_proto echo = PROTO("echo", LC_P_FALLBACK, echo_alpn, NULL);
static const struct lc_proto loud = PROTO("loud", 0, loud_alpn, sniff_loud);
static struct lc_lproto protos[2] = {{.proto = &echo}, {.proto = &loud, .conf = "loud"}};

/* ---- a prologue: "M" PEER "\n"; "M!" is wrong ---- */

static int marks_open, mark_timeouts;

static int
m_open(struct lc_conn *c, void *inst, void **t)
{
	marks_open++;
	lc_transport_table.timer(c, inst ? 20 : 5000);
	*t = c;
	return 0;
}

static void
m_close(void *t)
{
	(void)t;
	marks_open--;
}

static int
m_header(void *t, const uint8_t *p, size_t n, size_t *used)
{
	const uint8_t *end = memchr(p, '\n', n);

	if (p[0] != 'M' || (n > 1 && p[1] == '!'))
		return -EPROTO;
	if (!end)
		return LC_TR_GO;
	*used = (size_t)(end - p) + 1;
	if (lc_transport_table.set_peer(t, (struct lc_str){(const char *)p + 1, *used - 2}, 77) < 0)
		return -EPROTO;
	if (*used > 4 && lc_transport_table.set_local(t, (struct lc_str){"192.0.2.80", 10}, 8080) < 0)
		return -ENOMEM;
	return LC_TR_ASIDE;
}

static void
m_timeout(void *t)
{
	(void)t;
	mark_timeouts++;
}

static const struct lc_transport mark = {.size = sizeof(mark),
					 .name = "mark",
					 .header_max = 60,
					 .open = m_open,
					 .close = m_close,
					 .header = m_header,
					 .timeout = m_timeout};

/* ---- a server and its client, in turns ---- */

static struct lc_transport xor_ops;
static void (*xor_idle)(void *);
static int idles;
static struct lc_srv *S;
static struct lc_worker wk;
static struct lc_lsn lsn;
static struct lc_ltrans stack[3];
static struct xor_conf xconf;
static struct xor_end end;
static struct lc_conn *C;
static struct lc_post again;
static int batches;

static void
count_idle(void *t)
{
	idles++;
	xor_idle(t);
}

static void
nothing(struct lc_post *p)
{
	(void)p;
}

static void
batch_end(void *w)
{
	(void)w;
	if (++batches < 12)
		lc_loop_post(&S->loop, &again); /* never sleep */
	else
		lc_loop_stop(&S->loop);
}

/* All that can happen now happens. */
static void
pump(void)
{
	batches = 0;
	lc_loop_post(&S->loop, &again);
	assert_int_equal(lc_loop_lead(&S->loop), 0);
	S->loop.stop = 0;
}

/* letters: m a prologue, x the transport; nprotos: 1 echo alone */
static void
start(const char *letters, uint32_t nprotos)
{
	struct sockaddr sa = {.sa_family = AF_UNIX};
	int sv[2];

	S = calloc(1, sizeof(*S));
	assert_int_equal(lc_srv_init(S), 0);
	wk = (struct lc_worker){.size = sizeof(wk), .name = "none", .batch_end = batch_end};
	again.fn = nothing;
	S->wk = &wk;
	S->max_conns = 10;
	S->processes = 1;
	lsn = (struct lc_lsn){.nprotos = nprotos,
			      .protos = protos,
			      .ev = {.fd = -1},
			      .srv = S,
			      .trans = stack,
			      .addr = "127.0.0.1",
			      .addr_n = 9,
			      .port = 80};
	lsn.info = (struct lc_tr_listener){.size = sizeof(lsn.info), .alpn = alpn, .address = {lsn.addr, lsn.addr_n}};
	end = (struct xor_end){.key = 0x33, .plain = !strchr(letters, 'x')};
	if (!xconf.timeout)
		xconf.timeout = 5000;
	for (; *letters; letters++) {
		struct lc_ltrans *t = &stack[lsn.ntrans++];
		*t = (struct lc_ltrans){.ops = *letters == 'x' ? &xor_ops : &mark};
		if (*letters == 'x')
			assert_int_equal(xor_ops.listen(&lsn.info, &xconf, &t->inst, NULL, 0), 0);
		else if (*letters == 't')
			t->inst = t; /* a short timer */
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	end.fd = sv[0];
	fcntl(end.fd, F_SETFL, O_NONBLOCK);
	drains = opens = eofs = idles = mark_timeouts = 0;
	memset(&seen, 0, sizeof(seen));
	lc_lead_tls = &S->loop;
	lc_conn_new(&lsn, sv[1], &sa, sizeof(sa));
	lc_lead_tls = NULL;
	C = S->conns;
}

static void
stop(void)
{
	close(end.fd);
	pump();
	assert_int_equal(S->nconns, 0);
	assert_int_equal(marks_open, 0);
	lc_srv_done(S);
	for (uint32_t k = 0; k < lsn.ntrans; k++)
		if (stack[k].ops == &xor_ops)
			xor_ops.unlisten(stack[k].inst);
	free(S);
	xconf = (struct xor_conf){0};
}

static void
say(const char *text)
{
	assert_int_equal(xor_write(&end, text, strlen(text), 16384), (ssize_t)strlen(text));
}

static void
say_raw(const void *p, size_t n)
{
	assert_int_equal(xor_all(end.fd, p, n), 0);
}

/* What has come, as text: raw bytes of the socket. */
static const char *
raw_got(char *buf, size_t n)
{
	ssize_t r = recv(end.fd, buf, n - 1, 0);

	buf[r > 0 ? r : 0] = 0;
	return r == 0 ? "(end)" : r < 0 && errno != EAGAIN ? "(broken)" : buf;
}

/* Plain bytes that have come. */
static const char *
got(char *buf, size_t n)
{
	size_t at = 0;
	ssize_t r;

	while (at < n - 1 && (r = xor_read(&end, buf + at, n - 1 - at)) > 0)
		at += (size_t)r;
	buf[at] = 0;
	return buf;
}

static int
ended(void)
{
	char c;
	ssize_t r = recv(end.fd, &c, 1, 0);

	return r == 0 || (r < 0 && errno == ECONNRESET);
}

/* The handshake, and the answer to it. */
static void
hello(const char *name)
{
	char want[40] = {'Y', (char)strlen(name)}, buf[64];

	assert_int_equal(xor_hello(&end, name), 0);
	pump();
	strcpy(want + 2, name);
	ssize_t n = recv(end.fd, buf, sizeof(buf), 0);
	assert_int_equal(n, 2 + strlen(name));
	assert_memory_equal(buf, want, (size_t)n);
}

/* ---- tests ---- */

static void
test_every_cut(void **state)
{
	static const char *const names[] = {"", "echo/1", "loud/1"};
	char buf[256];

	(void)state;
	for (int v = 0; v < 6; v++) { /* a name or none, one protocol or two */
		const char *name = names[v % 3];
		size_t nl = strlen(name), n = 0;
		uint8_t all[128] = {'X', 0x33, (uint8_t)nl};
		if (v < 3 && v == 2)
			continue; /* loud is not there */
		memcpy(all + 3, name, nl);
		n = 3 + nl;
		for (const char *s = "lmn"; *s; s++) { /* records of one byte */
			all[n++] = 0;
			all[n++] = 1;
			all[n++] = (uint8_t)*s ^ 0x33;
		}
		all[n++] = 0; /* farewell */
		all[n++] = 0;
		for (size_t cut = 0; cut <= n; cut++) {
			start("x", v < 3 ? 1 : 2);
			if (cut) {
				say_raw(all, cut);
				pump();
			}
			if (cut < n) {
				say_raw(all + cut, n - cut);
				pump();
			}
			assert_int_equal(recv(end.fd, buf, 2 + nl, 0), 2 + nl);
			assert_memory_equal(buf + 2, name, nl);
			/* without a name and with two protocols the first bytes decide */
			assert_string_equal(got(buf, sizeof(buf)), v == 5 || v == 3 ? "LMN" : "lmn");
			assert_true(end.over);
			assert_true(ended());
			assert_int_equal(opens, 1);
			stop();
		}
	}
}

static void
test_refused_handshakes(void **state)
{
	char buf[64];

	(void)state;
	start("x", 2);
	xor_hello(&end, "none/1");
	pump();
	assert_string_equal(raw_got(buf, sizeof(buf)), "E"); /* its word is sent before the end */
	assert_true(ended());
	stop();
	start("x", 1);
	say_raw("GET / there", 11);
	pump();
	assert_string_equal(raw_got(buf, sizeof(buf)), "E");
	assert_true(ended());
	assert_int_equal(opens, 0);
	stop();
	/* agreed on what another listener has */
	start("x", 1);
	xor_hello(&end, "loud/1");
	pump();
	assert_true(ended() || ended() || ended());
	assert_int_equal(opens, 0);
	stop();
	/* later nonsense ends it, too */
	start("x", 1);
	hello("");
	say_raw("\xff\xff", 2);
	pump();
	assert_string_equal(raw_got(buf, sizeof(buf)), "E");
	assert_true(ended());
	stop();
}

/* Pump until the peer's end has come. */
static void
until_ended(void)
{
	time_t limit = time(NULL) + 20;

	while (!ended()) {
		assert_true(time(NULL) < limit);
		pump();
	}
}

static void
test_timeouts(void **state)
{
	(void)state;
	xconf.timeout = 20;
	start("x", 1);
	say_raw("X", 1);
	until_ended();
	assert_int_equal(opens, 0);
	stop();
	/* over when it is established: the protocol has set none */
	xconf.timeout = 20;
	start("x", 1);
	hello("");
	assert_false(lc_timer_armed(&C->rt));
	say("ok");
	pump();
	char buf[16];
	assert_string_equal(got(buf, sizeof(buf)), "ok");
	stop();
	start("t", 1);
	say_raw("Mno end", 7);
	until_ended();
	assert_int_equal(mark_timeouts, 1);
	stop();
}

static void
test_killed_in_handshake(void **state)
{
	static const char *const stacks[] = {"x", "m", "mx", "mm"};

	(void)state;
	for (int k = 0; k < 4; k++) {
		start(stacks[k], 1);
		say_raw(stacks[k][0] == 'x' ? "X" : "M1", stacks[k][0] == 'x' ? 1 : 2);
		pump();
		assert_int_equal(S->nconns, 1);
		assert_non_null(C->tr);
		lc_lead_tls = &S->loop;
		lc_conn_kill_all(S, LC_RSN_SHUTDOWN);
		lc_lead_tls = NULL;
		assert_true(ended());
		stop();
		assert_int_equal(opens, 0);
	}
}

static void
drain(uint32_t phase)
{
	lc_lead_tls = &S->loop;
	lc_conn_drain_all(S, phase);
	lc_lead_tls = NULL;
	pump();
}

static void
test_drain(void **state)
{
	(void)state;
	/* A handshake may go on to its end, and the protocol hears of it then. */
	start("mx", 1);
	say_raw("M1", 2);
	pump();
	drain(LC_DRAIN_NOTICE);
	assert_int_equal(S->nconns, 1);
	say_raw("23\nX\x33", 5);
	pump();
	assert_int_equal(drains, 0);
	say_raw("\0", 1);
	pump();
	assert_int_equal(drains, 1);
	char buf[8];
	assert_int_equal(recv(end.fd, buf, 2, 0), 2);
	assert_int_equal(xor_read(&end, buf, 1), 0);
	assert_true(end.over);
	assert_true(ended());
	stop();
	/* but not for ever */
	start("x", 1);
	say_raw("X", 1);
	pump();
	drain(LC_DRAIN_FINAL);
	assert_true(ended());
	stop();
}

static void
test_back_pressure(void **state)
{
	(void)state;
	start("x", 1);
	hello("");
	say("B");
	pump();
	/* nobody reads: what waits is bounded by the vector and one piece of it */
	assert_non_null(C->out);
	assert_true(C->out->bytes <= LC_OUTV_BUDGET);
	assert_true(C->tr->out_n - C->tr->out_off <= LC_TR_PIECE + 4096);
	assert_true(C->ev.armed & EPOLLOUT);
	char buf[70000];
	uint64_t left = BIG;
	while (left) {
		ssize_t n = xor_read(&end, buf, sizeof(buf));
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			pump();
			continue;
		}
		assert_true(n > 0);
		for (ssize_t k = 0; k < n; k++) {
			/* as the protocol counted: from the start of each thousand */
			uint64_t from = BIG - (BIG - left) / 1000 * 1000;
			assert_int_equal((uint8_t)buf[k], (uint8_t)((from - (BIG - left) % 1000) * 7 >> 3));
			left--;
		}
	}
	pump();
	assert_null(C->out);
	assert_null(C->tr->out); /* the buffer is the loop's again */
	assert_non_null(S->spare);
	int before = idles;
	say("x");
	pump();
	assert_int_equal(idles, before); /* the next request may be on its way */
	assert_true(lc_timer_armed(&C->tr->idle));
	C->tr->idle.at = 0; /* a second later */
	S->loop.next_at = 0;
	pump();
	assert_int_equal(idles, before + 1);
	assert_false(lc_timer_armed(&C->tr->idle));
	/* a limit to what a transport may say unasked */
	char *much = calloc(1, LC_TR_RAW_MAX);
	assert_int_equal(lc_transport_table.raw(C, much, LC_TR_RAW_MAX), 0);
	assert_int_equal(lc_transport_table.raw(C, much, 1), -ENOSPC);
	free(much);
	stop();
}

static void
test_closing(void **state)
{
	char buf[64];

	(void)state;
	/* flush: what was written, the farewell, the end */
	start("x", 1);
	hello("");
	say("abQ");
	pump();
	assert_string_equal(got(buf, sizeof(buf)), "ab");
	assert_true(end.over);
	assert_true(ended());
	stop();
	/* now: neither */
	start("x", 1);
	hello("");
	say("N");
	pump();
	assert_int_equal(recv(end.fd, buf, sizeof(buf), 0), 0);
	stop();
	/* linger: farewell and half-close, and what still comes is read and thrown away */
	start("x", 1);
	hello("");
	say("cdL");
	pump();
	assert_string_equal(got(buf, sizeof(buf)), "cd");
	assert_true(end.over);
	assert_true(ended());
	assert_int_equal(S->nconns, 1);
	say("more and more");
	pump();
	assert_int_equal(S->nconns, 1);
	stop();
	/* the peer half-closes with a farewell, or without: the answer still comes */
	for (int k = 0; k < 2; k++) {
		start("x", 1);
		hello("");
		say("gh");
		if (k == 0)
			assert_int_equal(xor_write(&end, "", 0, 1), 0);
		else
			shutdown(end.fd, SHUT_WR);
		pump();
		assert_string_equal(got(buf, sizeof(buf)), "gh");
		assert_true(end.over);
		assert_int_equal(eofs, 1);
		stop();
	}
	/* a connection that ends within the handshake */
	start("x", 1);
	say_raw("X", 1);
	shutdown(end.fd, SHUT_WR);
	pump();
	assert_true(ended());
	assert_int_equal(opens, 0);
	stop();
}

static void
test_request(void **state)
{
	char buf[64];

	(void)state;
	start("", 1); /* no transport: nothing but the listener's */
	say("S");
	pump();
	assert_int_equal(seen.flags & LC_R_TLS, 0);
	assert_string_equal(seen_local, "127.0.0.1");
	assert_int_equal(seen.nfacts, 0);
	assert_null(seen.facts);
	stop();
	start("x", 2);
	hello("echo/1");
	say("S");
	pump();
	assert_int_equal(seen.flags & LC_R_TLS, LC_R_TLS);
	assert_string_equal(seen_facts, "XOR_KEY=51;XOR_NAME=echo/1;");
	assert_string_equal(seen_peer, "");
	assert_string_equal(seen_local, "127.0.0.1");
	assert_int_equal(seen.local_port, 80);
	/* limits of what a transport can say */
	struct lc_str big = {buf, sizeof(buf)}, address = {"1:2:3:4:5:6:7:8", 15};
	memset(buf, 'f', sizeof(buf));
	int n = 2, r;
	while ((r = lc_transport_table.fact(C, big, big)) == 0)
		n++;
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(n, LC_TR_FACTS);
	assert_int_equal(lc_transport_table.set_peer(C, address, 9), 0);
	assert_int_equal(lc_transport_table.set_peer(C, big, 9), -EINVAL);
	say("S");
	pump();
	assert_string_equal(seen_peer, "1:2:3:4:5:6:7:8");
	assert_int_equal(seen.peer_port, 9);
	assert_int_equal(seen.nfacts, LC_TR_FACTS);
	stop();
}

static void
test_prologues(void **state)
{
	static const struct {
		const char *stack, *bytes, *peer, *local;
	} t[] = {
	    {"m", "M\nabS", "", "127.0.0.1"},
	    {"m", "M9.8.7.6\nabS", "9.8.7.6", "192.0.2.80"},
	    {"mm", "M9.8.7.6\nM1.2.3.4\nabS", "1.2.3.4", "192.0.2.80"},
	    {"mmm", "M9\nM8\nM7\nabS", "7", "127.0.0.1"},
	};
	char buf[64];

	(void)state;
	for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++)
		for (size_t cut = 0; cut < strlen(t[k].bytes); cut++) {
			start(t[k].stack, 1);
			assert_non_null(C->tr);
			if (cut) {
				say_raw(t[k].bytes, cut);
				pump();
			}
			say_raw(t[k].bytes + cut, strlen(t[k].bytes) - cut);
			pump();
			assert_null(C->tr); /* stepped aside: a plain connection */
			assert_string_equal(got(buf, sizeof(buf)), "ab");
			assert_string_equal(seen_peer, t[k].peer);
			assert_string_equal(seen_local, t[k].local);
			assert_int_equal(seen.peer_port, 77);
			assert_int_equal(seen.local_port, strcmp(t[k].local, "127.0.0.1") ? 8080 : 80);
			assert_int_equal(seen.flags & LC_R_TLS, 0);
			assert_int_equal(marks_open, 0);
			stop();
		}
	/* byte by byte, and with a lasting one behind it */
	static const char both[] = "Mpeer\nX\x33\0\0\1\x52\0\1\x60";
	start("mx", 1);
	for (size_t k = 0; k < sizeof(both) - 1; k++) {
		say_raw(both + k, 1);
		pump();
	}
	assert_int_equal(recv(end.fd, buf, 2, 0), 2);
	assert_string_equal(got(buf, sizeof(buf)), "a");
	assert_string_equal(seen_peer, "peer");
	assert_int_equal(seen.flags & LC_R_TLS, LC_R_TLS);
	stop();
	/* two protocols: the first bytes behind the prologue decide, however they come */
	start("m", 2);
	say_raw("Mx\nl", 4);
	pump();
	assert_int_equal(opens, 0);
	say_raw("mn", 2);
	pump();
	assert_string_equal(got(buf, sizeof(buf)), "LMN");
	stop();
}

static void
test_bad_prologues(void **state)
{
	static const char *const bad[] = {"Q", "M!", "M\nN",
					  "M111111111111111111111111111111111111111111111111111111111111",
					  "M4444444444444444444444444444444444444444444444444444\n"};

	(void)state;
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		for (int whole = 0; whole < 2; whole++) {
			start(k == 2 ? "mm" : "m", 1);
			if (whole)
				say_raw(bad[k], strlen(bad[k]));
			for (const char *p = bad[k]; !whole && *p && S->nconns; p++) {
				say_raw(p, 1);
				pump();
			}
			pump();
			assert_true(ended());
			assert_int_equal(opens, 0);
			assert_int_equal(S->nconns, 0);
			stop();
		}
	start("m", 1); /* the end within the header, and before it */
	say_raw("M1", 2);
	shutdown(end.fd, SHUT_WR);
	pump();
	assert_true(ended());
	stop();
	start("m", 1);
	shutdown(end.fd, SHUT_WR);
	pump();
	assert_true(ended());
	stop();
}

static int
set_up(void **state)
{
	static const struct lc_host host = {.size = sizeof(host), .get = host_get};
	const struct lc_module *m = lc_module_query(&host);

	(void)state;
	memcpy(&xor_ops, m->ifaces[0].ops, sizeof(xor_ops));
	xor_idle = xor_ops.idle;
	xor_ops.idle = count_idle;
	return m->load(&host);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_cut), cmocka_unit_test(test_refused_handshakes),
	    cmocka_unit_test(test_timeouts),  cmocka_unit_test(test_killed_in_handshake),
	    cmocka_unit_test(test_drain),     cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_closing),   cmocka_unit_test(test_request),
	    cmocka_unit_test(test_prologues), cmocka_unit_test(test_bad_prologues),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
