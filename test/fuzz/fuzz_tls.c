/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_tls.c - any bytes from a client, before and after a handshake.
 *
 * The first byte says what follows: below 128 the rest goes to a connection that knows nothing yet, in pieces of that
 * many bytes and one; from there on a client shakes hands first, then the rest follows.  Random bytes come from a
 * counter, so that the same input is the same run; what the server sends must be whole records.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method(): the one way to have the same bytes each time */
#include <errno.h>
#include <stdint.h>

#include "../unit/tls_fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t count;

static int
bytes(unsigned char *p, int n)
{
	for (int k = 0; k < n; k++) {
		count = count * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		p[k] = (unsigned char)(count >> 56);
	}
	return 1;
}

static int
status(void)
{
	return 1;
}

static const RAND_METHOD counter = {.bytes = bytes, .pseudorand = bytes, .status = status};
static struct tls_lsn *l;
static SSL_CTX *client_ctx;

static void
prepare(void)
{
	static const char *const cert[] = {"a.pem", "b.pem"}, *const key[] = {"a.key", "b.key"};
	char msg[512];
	void *inst;

	RAND_set_rand_method(&counter);
	fake_pair("a", "DNS:a.test,DNS:*.test", 0);
	fake_pair("b", "DNS:b.test", 0);
	fake_conf.certificate = (struct lc_list){cert, 2};
	fake_conf.key = (struct lc_list){key, 2};
	if (tls_lsn_new(&fake_listener, &fake_conf, &inst, msg, sizeof(msg)) < 0) {
		fprintf(stderr, "%s\n", msg);
		abort();
	}
	l = inst;
	client_ctx = SSL_CTX_new(TLS_client_method());
}

static void
whole_records(int clear_allowed)
{
	size_t at = 0;

	if (clear_allowed && fake_raw_n > 4 && memcmp(fake_raw, "HTTP", 4) == 0)
		return;
	while (at < fake_raw_n) {
		if (fake_raw_n - at < 5 || fake_raw[at] < 20 || fake_raw[at] > 23)
			abort();
		at += 5 + ((size_t)fake_raw[at + 3] << 8 | fake_raw[at + 4]);
	}
	if (at != fake_raw_n)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t out[(64 << 10) + LC_TR_SLACK], in[64 << 10];
	SSL *client = NULL;
	size_t got, step, all = 0;
	void *t;
	int r = 0;

	if (!l)
		prepare();
	if (n < 1 || n > sizeof(in))
		return 0;
	count = 1;
	fake_raw_n = 0;
	fake_established = 0;
	if (tls_transport.open(NULL, l, &t) < 0)
		abort();
	step = data[0] < 128 ? data[0] + 1u : n;
	if (data[0] >= 128) {
		client = SSL_new(client_ctx);
		if (data[0] & 1)
			SSL_set_max_proto_version(client, TLS1_2_VERSION);
		if (data[0] & 2)
			SSL_set_tlsext_host_name(client, "b.test");
		SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		SSL_set_connect_state(client);
		while (!fake_established || SSL_in_init(client)) {
			(void)SSL_do_handshake(client);
			int k = BIO_read(SSL_get_wbio(client), in, sizeof(in));
			if (k > 0 && tls_transport.input(t, in, (size_t)k, out, &got) < 0)
				abort();
			BIO_write(SSL_get_rbio(client), fake_raw, (int)fake_raw_n);
			fake_raw_n = 0;
		}
		if (data[0] & 4 && n > 1) { /* as data of the client's, so that they pass */
			(void)SSL_write(client, data + 1, (int)n - 1);
			int k = BIO_read(SSL_get_wbio(client), in, sizeof(in));
			r = tls_transport.input(t, in, (size_t)k, out, &got);
			if (r != LC_TR_GO || got != n - 1 || memcmp(out, data + 1, got) != 0)
				abort();
		}
	}
	for (size_t at = 1; at < n && r == LC_TR_GO; at += step) {
		size_t k = n - at < step ? n - at : step;
		uint8_t *exact = malloc(k); /* so that a read past the end is seen */
		memcpy(exact, data + at, k);
		got = 0;
		r = tls_transport.input(t, exact, k, out, &got);
		free(exact);
		if (got > k + LC_TR_SLACK || (r < 0 && got) || (!fake_established && got))
			abort();
		all += got;
		whole_records(r < 0);
		if (r >= 0 && fake_established) {
			struct lc_str v[2] = {{(const char *)data, n < 100 ? n : 100}, {(const char *)data, n}};
			if (tls_transport.output(t, v, 2) < 0)
				abort();
			whole_records(0);
			fake_raw_n = 0;
			tls_transport.idle(t);
		}
	}
	if (r >= 0)
		(void)tls_transport.shutdown(t);
	tls_transport.close(t);
	SSL_free(client);
	return all > SIZE_MAX / 2;
}
