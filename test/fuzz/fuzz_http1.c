/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_http1.c - any input, whole, byte by byte and cut at random: the same events, the same output, no broken promise;
 * with folded fields refused, and permitted.
 *
 * The random cuts and the output budgets derive from the input, so a finding is reproduced by its file alone.  Inputs
 * over 16 KiB are only fed whole: past some limits (discarding, chunk framing) what still fits depends on the cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/http1_fake.h"
#include "http1/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *, char ***);

static int all_ways = 1; /* a replay */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	all_ways = 0;
	return 0;
}

static struct fake *
run(const struct h1_conf *conf, const uint8_t *data, size_t n, uint64_t cuts, size_t budget)
{
	struct fake_opts o = {.budget = budget};
	struct fake *f = fake_open(conf, &o);

	if (!f)
		abort();
	for (size_t off = 0; off < n && (!f->closed || f->closed == FAKE_HANDED);) {
		size_t k = n - off;
		if (cuts == 1) {
			k = 1;
		} else if (cuts) {
			cuts = cuts * UINT64_C(6364136223846793005) + 1442695040888963407;
			size_t step = 1 + (cuts >> 33) % 61;
			k = step < k ? step : k;
		}
		fake_feed(f, (const char *)data + off, k);
		off += k;
	}
	if (f->broken) {
		fprintf(stderr, "broken: %s\n", f->broken);
		abort();
	}
	return f;
}

/* Whether 100 (Continue) is sent depends on the cut by right: not when the body has begun to come. */
static void
drop_continue(struct fake_buf *b)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	char *at;

	while (b->n && (at = memmem(b->p, b->n, text, sizeof(text) - 1))) {
		b->n -= sizeof(text) - 1;
		memmove(at, at + sizeof(text) - 1, b->n - (size_t)(at - b->p));
		b->p[b->n] = 0;
	}
}

static void
same(const char *what, const struct fake_buf *a, const struct fake_buf *b)
{
	if (a->n != b->n || memcmp(a->p, b->p, a->n) != 0) {
		fprintf(stderr, "%s differ:\n---- whole\n%s\n---- cut\n%s\n", what, a->p, b->p);
		abort();
	}
}

static void
one(const struct h1_conf *conf, const uint8_t *data, size_t n, uint64_t seed)
{
	struct fake *whole = run(conf, data, n, 0, 0);
	drop_continue(&whole->out);
	/* an application that does not wait for the body answers before or after the body turns out to be broken */
	int early = strstr(whole->events.p, "path=/early ") || strstr(whole->events.p, "path=/reset ") ||
		    strstr(whole->events.p, "path=/hint ");
	if (n <= 16384 && !early) {
		/* One way for each input: a fuzzer tries a hundred neighbours of it, and they get the others. */
		const uint64_t cuts[] = {1, seed | 2, (seed >> 7) | 2, 0};
		/* 200000 bytes one by one would be most of what a fuzzer does */
		const size_t least = strstr(whole->events.p, "path=/big ") ? 4096 : 1;
		const size_t budgets[] = {0, least + seed % 40, 0, least};
		unsigned k = (seed >> 40) % 4;
		for (unsigned first = all_ways ? 0 : k, last = all_ways ? 3 : k; first <= last; first++) {
			struct fake *f = run(conf, data, n, cuts[first], budgets[first]);
			drop_continue(&f->out);
			same("events", &whole->events, &f->events);
			same("output", &whole->out, &f->out);
			same("bytes for the next protocol", &whole->after, &f->after);
			if (whole->closed != f->closed)
				abort();
			fake_free(f);
		}
	}
	fake_eof(whole);
	if (whole->broken)
		abort();
	fake_free(whole);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct h1_conf conf;
	uint64_t seed = 12345;

	for (size_t k = 0; k < n; k++)
		seed = (seed ^ data[k]) * UINT64_C(0x100000001b3);
	fake_defaults(&conf);
	one(&conf, data, n, seed);
	conf.fold = 1;
	one(&conf, data, n, seed);
	return 0;
}
