/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_http2.c - any input to the http2 module, on licorne-modtest's core: no crash, no broken promise, no leak.
 *
 * What is compared there (whole against cut input) is not here: an answer that is given before the peer's mistake is
 * seen depends on the cut by right.  Each input runs whole, byte by byte, and cut at random with a vector of few bytes
 * and an allocation of the core's that fails; kinds of application, and what happens at the end, derive from the input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/modtest/modtest.h"
#include "http2/http2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
extern const struct lc_module *lc_module_query(const struct lc_host *);

static const struct lc_proto *proto;

static const void *
get(const char *name, uint32_t version, size_t least)
{
	static const struct lc_config_api config = {.size = sizeof(config)};

	(void)version;
	(void)least;
	return strcmp(name, "conn") == 0 ? (const void *)&mt_conn_table : strcmp(name, "config") == 0 ? &config : NULL;
}

static void
setup(void)
{
	static const struct lc_host host = {.size = sizeof(host), .get = get};
	const struct lc_module *m = lc_module_query(&host);

	if (!m || m->load(&host) != 0)
		abort();
	proto = m->ifaces[0].ops;
}

static uint64_t
next(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void
run(const struct h2_conf *conf, const uint8_t *data, size_t n, uint64_t seed, int how)
{
	struct mt_opts o = {.answer = (enum mt_answer)(next(&seed) % MT_ANSWERS)};

	mt_allocs = 0;
	mt_fail_at = mt_where.failing = how == 2 ? (int)(next(&seed) % 60) : 0;
	if (how)
		o.room = 1 + next(&seed) % 80;
	struct lc_conn *c = mt_open(proto, conf, &o);
	for (size_t off = 0; c && off < n && !c->dead && !c->closed;) {
		size_t k = how == 0 ? n : how == 1 ? 1 : 1 + next(&seed) % 61;
		k = k < n - off ? k : n - off;
		mt_feed(c, data + off, k);
		off += k;
	}
	if (c && !c->dead && !c->closed) {
		switch (next(&seed) % 6) {
		case 0:
			mt_eof(c);
			break;
		case 1:
			for (int k = 0, t; k < 70 && (t = mt_armed(c)) >= 0 && !c->dead && !c->closed; k++)
				mt_timeout(c, (uint32_t)t);
			break;
		case 2:
			mt_drain(c, LC_DRAIN_NOTICE);
			mt_drain(c, LC_DRAIN_FINAL);
			break;
		case 3:
			mt_reset_all(c);
			break;
		default:
			mt_go(c);
			break;
		}
	}
	mt_fail_at = mt_where.failing = 0;
	if (c) {
		mt_close(c);
		mt_free(c);
	}
	if (mt_problems)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct h2_conf conf = {
	    .request_line = 200,
	    .fields = 20,
	    .field_size = 200,
	    .head_size = 2000,
	    .body_size = 5000,
	    .head_timeout = 3000,
	    .body_timeout = 3000,
	    .send_timeout = 3000,
	    .keepalive_timeout = 5000,
	    .ping_interval = 2000,
	    .max_streams = 8,
	    .stream_window = 65535,
	    .conn_window = 65535,
	    .max_requests = 6,
	    .abuse = 100,
	    .server_header = 1,
	};
	uint64_t seed = 12345;

	if (!proto)
		setup();
	if (n > 16384)
		n = 16384;
	for (size_t k = 0; k < n; k++)
		seed = (seed ^ data[k]) * UINT64_C(0x100000001b3);
	for (int how = 0; how < 3; how++)
		run(&conf, data, n, seed + (uint64_t)how, how);
	return 0;
}
