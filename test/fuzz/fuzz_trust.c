/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_trust.c - any bytes as the fields of a trusted proxy: what comes out is valid, and nothing that a client puts in
 * front of what the proxies append changes who it is.
 *
 * The first byte chooses the configuration; then lines: a letter for the field (f Forwarded, a X-Forwarded-For, p, h, o
 * for -Proto, -Host, -Port) and its value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/cidr.h"
#include "semantics/semantics.h"
#include "semantics/trust.h"

#define FIELDS 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void *blocks[64];
static unsigned nblocks;

static void *
alloc(struct lc_stream *st, size_t n)
{
	(void)st;
	if (nblocks == 64)
		abort();
	return blocks[nblocks++] = malloc(n ? n : 1);
}

static void
broken(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

static void
check_request(const struct lc_req *rq)
{
	char text[LC_IP_TEXT];
	struct lc_ip ip;

	if (lc_ip_parse(&ip, rq->peer.p, rq->peer.n) < 0 || lc_ip_print(ip, text) != rq->peer.n ||
	    memcmp(text, rq->peer.p, rq->peer.n) != 0)
		broken("the peer is no address in its canonical form");
	if (!(rq->scheme.n == 4 && !memcmp(rq->scheme.p, "http", 4)) &&
	    !(rq->scheme.n == 5 && !memcmp(rq->scheme.p, "https", 5)))
		broken("the scheme is none");
	if (!lc_host_valid(rq->authority.p, rq->authority.n))
		broken("the authority is none");
	for (uint32_t k = 0; k < rq->nfields; k++)
		if (rq->fields[k].token == LC_TOK_HOST &&
		    (rq->fields[k].value.n != rq->authority.n ||
		     memcmp(rq->fields[k].value.p, rq->authority.p, rq->authority.n)))
			broken("Host is not the authority");
}

static struct lc_field
field(uint16_t token, const char *p, size_t n)
{
	const char *name = lc_token_name(token);

	return (struct lc_field){.name = {name, strlen(name)}, .value = {p, n}, .token = token};
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const from[] = {"10.0.0.0/8", "2001:db8::/32"};
	static const char *const headers[] = {"Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"};
	static struct lc_trust_conf confs[4];
	static const uint16_t tokens[] = {['f' - 'a'] = LC_TOK_FORWARDED,
					  ['a' - 'a'] = LC_TOK_X_FORWARDED_FOR,
					  ['p' - 'a'] = LC_TOK_X_FORWARDED_PROTO,
					  ['h' - 'a'] = LC_TOK_X_FORWARDED_HOST,
					  ['o' - 'a'] = LC_TOK_X_FORWARDED_PORT};
	struct lc_field fields[FIELDS + 3];
	const struct lc_trust *t;
	const char *ignored = NULL;
	uint8_t known = 0;
	char *copies[FIELDS];
	uint32_t nf = 0;

	if (!n)
		return 0;
	unsigned which = data[0] & 3;
	struct lc_trust_conf *c = &confs[which];
	*c = (struct lc_trust_conf){.from = {from, 2},
				    .headers = {headers, 4},
				    .recursive = which & 1,
				    .address = which & 2 ? "Forwarded" : "X-Forwarded-For"};
	if (lc_trust_get(c, &t) < 0 || !t)
		abort();
	data++;
	n--;
	while (n && nf < FIELDS) {
		const uint8_t *end = memchr(data, '\n', n);
		size_t len = end ? (size_t)(end - data) : n;
		if (len && data[0] >= 'a' && data[0] <= 'p' && tokens[data[0] - 'a']) {
			copies[nf] = malloc(len); /* exact, one byte less than it */
			if (!copies[nf])
				abort();
			memcpy(copies[nf], data + 1, len - 1);
			fields[nf] = field(tokens[data[0] - 'a'], copies[nf], len - 1);
			nf++;
		}
		data += len + (end != NULL);
		n -= len + (end != NULL);
	}
	uint32_t client = nf;
	fields[nf++] = field(LC_TOK_HOST, "example.org", 11);
	struct lc_req rq = {.peer = {"10.0.0.1", 8},
			    .scheme = {"http", 4},
			    .authority = {"example.org", 11},
			    .fields = fields,
			    .nfields = nf};
	int r = lc_trust_apply(t, &known, &rq, NULL, alloc, &ignored);
	if (r == LC_TRUST_OK)
		check_request(&rq);
	/* The proxy appends, as a line of its own or to the last one: it is what counts. */
	for (int way = 0; way < 2; way++) {
		uint16_t token = which & 2 ? LC_TOK_FORWARDED : LC_TOK_X_FORWARDED_FOR;
		const char *mine = which & 2 ? "for=192.0.2.99;proto=https" : "192.0.2.99";
		struct lc_field with[FIELDS + 3];
		char *joined = NULL;
		uint32_t k = client;
		memcpy(with, fields, client * sizeof(*with));
		while (way && k-- > 0)
			if (with[k].token == token)
				break;
		if (way && k < client) {
			joined = malloc(with[k].value.n + 2 + strlen(mine));
			if (!joined)
				abort();
			memcpy(joined, with[k].value.p, with[k].value.n);
			memcpy(joined + with[k].value.n, ", ", 2);
			memcpy(joined + with[k].value.n + 2, mine, strlen(mine));
			with[k].value = (struct lc_str){joined, with[k].value.n + 2 + strlen(mine)};
			k = client;
		} else {
			with[client] = field(token, mine, strlen(mine));
			k = client + 1;
		}
		rq = (struct lc_req){.peer = {"10.0.0.1", 8},
				     .scheme = {"http", 4},
				     .authority = {"example.org", 11},
				     .fields = with,
				     .nfields = k};
		r = lc_trust_apply(t, &known, &rq, NULL, alloc, &ignored);
		if (r == LC_TRUST_OK && (rq.peer.n != 10 || memcmp(rq.peer.p, "192.0.2.99", 10) != 0))
			broken("the client is not who the proxy says");
		if (r == LC_TRUST_OK && (which & 2) && rq.scheme.n != 5)
			broken("the scheme is not what the proxy says");
		free(joined);
	}
	while (nblocks)
		free(blocks[--nblocks]);
	for (uint32_t k = 0; k < client; k++)
		free(copies[k]);
	return 0;
}
