/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/runs.c - which runs a module gets with each input.
 *
 * One run is a connection from open() to close().  The first with an input (whole, room enough, an answer after the
 * body) is the measure: cut in any way, with an output vector of one byte, and beside a second connection the worker
 * must see the same.  The other runs only look for broken promises, crashes and leaks.
 *
 * Limits that count bytes may strike earlier or later by the cut, so inputs over CUT_MAX bytes are not cut.
 */
#include "modtest.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CUT_MAX (16u << 10)
#define STEPS 40u             /* places of an input at which something happens */
#define STEP_BYTES (1u << 20) /* bytes fed for that, for each thing that happens */
#define FAILS 300             /* allocations that fail in turn */
#define FLOOD (2u << 20)

unsigned long mt_runs;
static const struct lc_proto *proto;
static const void *conf;

static uint64_t
next(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void LC_PRINTF(1, 2) run_is(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(mt_where.run, sizeof(mt_where.run), fmt, ap);
	va_end(ap);
	mt_runs++;
}

/* cuts 0: whole; 1: byte by byte; else a seed */
static void
feed(struct lc_conn *c, const struct mt_input *in, size_t from, size_t to, uint64_t cuts)
{
	while (from < to && !c->dead && !c->closed) {
		size_t n = to - from;
		if (cuts == 1)
			n = 1;
		else if (cuts) {
			size_t k = 1 + next(&cuts) % 61;
			n = k < n ? k : n;
		}
		mt_feed(c, in->p + from, n);
		from += n;
	}
}

static void
end(struct lc_conn *c)
{
	if (!c)
		return;
	mt_close(c);
	mt_free(c);
}

/* ---- the same events whatever the cut ---- */

struct seen {
	struct mt_buf events, out;
	int closed;
};

static void
seen_free(struct seen *s)
{
	free(s->events.p);
	free(s->out.p);
	memset(s, 0, sizeof(*s));
}

static void
collect(struct lc_conn *c, struct seen *ret)
{
	mt_events(c, &ret->events);
	mt_add(&ret->out, c->out.p, c->out.n);
	ret->closed = c->dead || c->closed;
}

static int
one(const struct mt_input *in, const struct mt_opts *o, uint64_t cuts, struct seen *ret)
{
	struct lc_conn *c = mt_open(proto, conf, o);

	if (!c)
		return -1;
	feed(c, in, 0, in->n, cuts);
	mt_check_rest(c);
	if (ret)
		collect(c, ret);
	mt_eof(c);
	mt_check_rest(c);
	end(c);
	return 0;
}

/* Where two texts part, with a bit of what is there. */
static void
differ(const char *what, const struct mt_buf *a, const struct mt_buf *b)
{
	size_t k = 0;

	while (k < a->n && k < b->n && a->p[k] == b->p[k])
		k++;
	size_t from = k;
	while (from > 0 && a->p[from - 1] != '\n' && k - from < 100)
		from--;
	char text[2][160];
	const struct mt_buf *v[] = {a, b};
	for (int j = 0; j < 2; j++) {
		size_t at = 0;
		for (size_t i = from; i < v[j]->n && at < sizeof(text[0]) - 5; i++) {
			char ch = v[j]->p[i];
			if (ch == '\n' && i >= k)
				break;
			at += (size_t)snprintf(text[j] + at, sizeof(text[0]) - at,
					       ch >= ' ' && ch < 127 ? "%c" : "\\x%02x", (unsigned char)ch);
		}
		text[j][at] = 0;
	}
	mt_broken("%s differ from those of the same bytes in one piece: \"%s\", expected \"%s\"", what, text[1],
		  text[0]);
}

static void
same(const struct seen *a, struct seen *b)
{
	if (a->events.n != b->events.n || memcmp(a->events.p, b->events.p, a->events.n) != 0)
		differ("what the application sees of the requests does", &a->events, &b->events);
	else if (!(proto->flags & LC_P_MULTIPLEX) &&
		 (a->out.n != b->out.n || memcmp(a->out.p, b->out.p, a->out.n) != 0))
		differ("the bytes that the peer gets do", &a->out, &b->out);
	else if (a->closed != b->closed)
		mt_broken("whether the connection is closed depends on how the bytes come in");
	seen_free(b);
}

static void
cuts(const struct mt_input *in)
{
	static const struct {
		const char *name;
		uint64_t cuts;
		size_t room;
	} ways[] = {
	    {"fed whole a second time", 0, 0},
	    {"fed byte by byte", 1, 0},
	    {"cut at random (seed 11)", 11, 0},
	    {"cut at random (seed 12)", 12, 0},
	    {"cut at random (seed 13)", 13, 0},
	    {"fed whole, the peer takes 1 byte at a time", 0, 1},
	    {"fed whole, the peer takes 37 bytes at a time", 0, 37},
	    {"cut at random (seed 14), the peer takes 3 bytes at a time", 14, 3},
	    {"fed byte by byte, the peer takes 1 byte at a time", 1, 1},
	};
	struct mt_opts o = {.answer = MT_ANSWER};
	struct seen whole = {0}, cut = {0};

	run_is("fed whole");
	if (one(in, &o, 0, &whole) < 0)
		return;
	for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]) && (k == 0 || in->n <= CUT_MAX); k++) {
		run_is("%s", ways[k].name);
		o.room = ways[k].room;
		if (one(in, &o, ways[k].cuts, &cut) == 0)
			same(&whole, &cut);
	}
	/* a second connection in between: state belongs to the session */
	o.room = 0;
	run_is("fed to two connections by turns");
	struct lc_conn *a = in->n <= CUT_MAX ? mt_open(proto, conf, &o) : NULL,
		       *b = a ? mt_open(proto, conf, &o) : NULL;
	for (size_t at = 0; b && at < in->n; at += 7) {
		size_t to = at + 7 < in->n ? at + 7 : in->n;
		feed(a, in, at, to, 0);
		feed(b, in, at, to, 0);
	}
	if (b) {
		collect(a, &cut);
		same(&whole, &cut);
		collect(b, &cut);
		same(&whole, &cut);
		end(b);
	}
	end(a);
	seen_free(&whole);
}

/* ---- memory ---- */

static void
leaks(const struct mt_input *in)
{
	struct mt_opts o = {.answer = MT_PIECES};
	size_t before[4];

	run_is("fed whole four times: what stays allocated");
	for (int k = 0; k < 4; k++) {
		before[k] = mt_heap_blocks();
		if (one(in, &o, 0, NULL) < 0)
			return;
	}
	/* the first may fill caches for good */
	if (before[3] > before[2] && before[2] > before[1])
		mt_broken("each connection leaks: %zu blocks of memory stay after close()", before[3] - before[2]);
}

static void
failing(const struct mt_input *in)
{
	struct mt_opts o = {.answer = MT_PIECES};

	for (int at = 1; at <= FAILS; at++) {
		size_t blocks = mt_heap_blocks();
		run_is("fed whole, allocation %d fails", at);
		for (int again = 0; again < 2; again++) {
			size_t now = mt_heap_blocks();
			mt_allocs = 0;
			mt_fail_at = mt_where.failing = at;
			one(in, &o, at % 2 ? 0 : 21, NULL);
			mt_fail_at = mt_where.failing = 0;
			if (again && now > blocks && mt_heap_blocks() > now)
				mt_broken("memory leaks when an allocation fails: %zu blocks stay after close()",
					  mt_heap_blocks() - now);
			if (mt_heap_blocks() == blocks)
				break;
		}
		if (mt_allocs < at)
			return; /* no further allocation */
	}
}

/* ---- applications of all kinds ---- */

static void
answers(const struct mt_input *in)
{
	for (int k = 0; k < MT_ANSWERS; k++) {
		const size_t rooms[] = {0, 50};
		for (int r = 0; r < 2; r++) {
			struct mt_opts o = {.answer = (enum mt_answer)k, .room = rooms[r]};
			run_is("%s%s", mt_answer_names[k],
			       r ? ", cut at random, the peer takes 50 bytes at a time" : "");
			struct lc_conn *c = mt_open(proto, conf, &o);
			if (!c)
				return;
			feed(c, in, 0, in->n, r ? 31 : 0);
			if (k == MT_LATE)
				mt_go(c);
			mt_check_rest(c);
			mt_eof(c);
			end(c);
		}
	}
	struct mt_opts o = {.refuse_open = 1};
	run_is("stream_open() gives NULL");
	one(in, &o, 0, NULL);
	o = (struct mt_opts){.draining = 1};
	run_is("fed whole, draining() says 1");
	one(in, &o, 0, NULL);
	run_is("the peer reads nothing");
	o = (struct mt_opts){.answer = MT_BIG, .no_pull = 1};
	struct lc_conn *c = mt_open(proto, conf, &o);
	if (!c)
		return;
	feed(c, in, 0, in->n, 0);
	if (c->timer[LC_TM_WRITE] >= 0)
		mt_timeout(c, LC_TM_WRITE);
	end(c);
}

/* ---- something happens at every step ---- */

enum { DO_EOF, DO_TIMEOUT, DO_DRAIN, DO_FINAL, DO_RESET, DO_KILL, DO_GO, DOINGS };

static void
happens(struct lc_conn *c, int what)
{
	int64_t ms;
	int k;

	switch (what) {
	case DO_EOF:
		mt_eof(c);
		mt_go(c);
		mt_check_rest(c);
		break;
	case DO_TIMEOUT:
		for (int i = 0; i < 4 && (k = mt_armed(c)) >= 0 && !c->dead && !c->closed; i++)
			mt_timeout(c, (uint32_t)k);
		mt_go(c);
		mt_check_rest(c);
		break;
	case DO_DRAIN:
		mt_drain(c, LC_DRAIN_NOTICE);
		break;
	case DO_FINAL:
		mt_drain(c, LC_DRAIN_NOTICE);
		mt_drain(c, LC_DRAIN_FINAL);
		mt_go(c);
		if (c->dead || c->closed)
			break;
		for (struct lc_stream *s = c->streams; s; s = s->next)
			if (!s->dead)
				return;
		k = mt_armed(c);
		ms = k >= 0 ? c->timer[k] : INT64_MAX;
		if (ms > 30000)
			mt_broken(
			    "after drain(LC_DRAIN_FINAL) an idle connection stays open: every stop would wait for it");
		break;
	case DO_RESET:
		mt_reset_all(c);
		mt_check_rest(c);
		break;
	case DO_GO:
		mt_go(c);
		break;
	default:
		break;
	}
}

static void
steps(const struct mt_input *in)
{
	static const char *const names[DOINGS] = {
	    "the peer ends",          "the timer fires",     "drain(NOTICE)",          "drain(FINAL)",
	    "the application resets", "the connection dies", "the application answers"};
	size_t n = in->n + 1 < STEPS ? in->n + 1 : STEPS;

	if (in->n && n * in->n > STEP_BYTES)
		n = STEP_BYTES / in->n + 1;
	for (size_t k = 0; k < n; k++) {
		size_t at = n > 1 ? k * in->n / (n - 1) : in->n;
		for (int what = 0; what < DOINGS; what++) {
			struct mt_opts o = {.answer = (k + (size_t)what) % 3 ? MT_LATE : MT_PIECES};
			run_is("%s after %zu of %zu bytes, %s", names[what], at, in->n, mt_answer_names[o.answer]);
			struct lc_conn *c = mt_open(proto, conf, &o);
			if (!c)
				return;
			feed(c, in, 0, at, 0);
			happens(c, what);
			if (what != DO_KILL && what != DO_EOF) {
				feed(c, in, at, in->n, k % 2 ? 41 : 0);
				mt_go(c);
			}
			end(c);
		}
	}
}

/* ---- sniff ---- */

static void
sniff(const struct mt_input *in)
{
	if (!proto->sniff)
		return;
	run_is("sniff()");
	if (!proto->sniff_max || proto->sniff_max > 64)
		mt_broken("sniff() with a sniff_max of %u, expected 1 to 64", proto->sniff_max);
	for (size_t n = 1; n <= in->n && n <= 80; n++) {
		const uint8_t *p = mt_input_place(in->p, n);
		mt_enter("sniff");
		int r = proto->sniff(p, n);
		mt_leave();
		if (r != LC_SNIFF_NO && r != LC_SNIFF_MORE && r != LC_SNIFF_YES)
			mt_broken("sniff() returns %d, expected LC_SNIFF_NO, _MORE or _YES", r);
		if (r == LC_SNIFF_MORE && n >= proto->sniff_max)
			mt_broken("sniff() wants more than sniff_max (%u) bytes", proto->sniff_max);
	}
}

/* ---- bounds ---- */

static void
flood(const struct mt_input *in, size_t from, int no_pull)
{
	struct mt_opts o = {.answer = no_pull ? MT_ANSWER : MT_LATE, .no_pull = no_pull};
	size_t before = mt_heap_bytes();
	struct lc_conn *c = mt_open(proto, conf, &o);
	uint8_t piece[4096];

	if (!c)
		return;
	if (from)
		feed(c, in, 0, from, 0);
	memset(piece, 'a', sizeof(piece));
	for (size_t fed = 0; fed < FLOOD && !c->dead && !c->closed && c->rest.n < MT_ROOM;) {
		size_t n = no_pull ? in->n : sizeof(piece);
		mt_feed(c, no_pull ? in->p : piece, n);
		fed += n;
		mt_go(c);
		if (mt_heap_bytes() > before + MT_HEAP) {
			mt_broken("one connection holds %zu bytes of memory for a peer that %s: a limit is missing",
				  mt_heap_bytes() - before, no_pull ? "reads nothing" : "sends without end");
			break;
		}
	}
	end(c);
}

/* ---- all ---- */

void
mt_run_all(const struct lc_proto *p, const void *cf, const struct mt_input *in, size_t n)
{
	proto = p;
	conf = cf;
	for (size_t k = 0; k < n && !mt_problems; k++) {
		snprintf(mt_where.input, sizeof(mt_where.input), "input %s", in[k].name);
		sniff(&in[k]);
		cuts(&in[k]);
		leaks(&in[k]);
		answers(&in[k]);
		steps(&in[k]);
		failing(&in[k]);
		if (in[k].n) {
			run_is("its bytes again and again, the peer reads nothing");
			flood(&in[k], 0, 1);
			run_is("then \"a\" without end");
			flood(&in[k], in[k].n, 0);
			run_is("half of it, then \"a\" without end");
			flood(&in[k], in[k].n / 2, 0);
		}
	}
}
