/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tls.c - which certificate a client gets, and into which records output goes: the module's own code under a
 * client of OpenSSL, all in memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls_fake.h"

static struct tls_lsn *
listener(unsigned n, const char *const *cert, const char *const *key, const char *expect)
{
	char msg[512] = "";
	void *inst = NULL;

	fake_conf.certificate = (struct lc_list){cert, n};
	fake_conf.key = (struct lc_list){key, n};
	int r = tls_lsn_new(&fake_listener, &fake_conf, &inst, msg, sizeof(msg));
	if (expect) {
		assert_int_equal(r, -EINVAL);
		if (!strstr(msg, expect))
			fail_msg("\"%s\" does not say \"%s\"", msg, expect);
		return NULL;
	}
	if (r)
		fail_msg("%s", msg);
	return inst;
}

static unsigned
number(const struct tls_lsn *l, const char *name)
{
	const struct tls_site *found = tls_site_find(l->sites, name);
	unsigned k = 1;

	for (const struct tls_site *s = l->sites; s; s = s->next, k++)
		if (s == found)
			return k;
	return 0;
}

static void
test_names(void **state)
{
	static const char *const cert[] = {"a.pem", "wild.pem", "exact.pem", "old.test.pem", "arsa.pem"},
				 *const key[] = {"a.key", "wild.key", "exact.key", "old.test.key", "arsa.key"};
	char longest[300];
	struct tls_lsn *l;

	(void)state;
	fake_pair("a", "DNS:a.test,DNS:b.test", 0);
	fake_pair("wild", "DNS:*.net.test", 0);
	fake_pair("exact", "DNS:www.net.test,IP:192.0.2.1", 0);
	fake_pair("old.test", NULL, 0); /* by its common name */
	fake_pair("arsa", "DNS:b.test,DNS:A.test", 1);
	l = listener(5, cert, key, NULL);
	assert_int_equal(number(l, "a.test"), 1);
	assert_int_equal(number(l, "B.TEST"), 1);
	assert_int_equal(number(l, "b.test."), 1);
	assert_int_equal(number(l, "x.net.test"), 2);
	assert_int_equal(number(l, "www.net.test"), 3);
	assert_int_equal(number(l, "old.test"), 4);
	assert_int_equal(l->sites->types, 2); /* the RSA one is the first's */
	assert_null(l->sites->next->next->next->next);
	for (unsigned k = 0; k < 7; k++) {
		static const char *const none[] = {"", ".", "net.test", ".net.test", "a.b.net.test", "192.0.2.1", "*"};
		assert_int_equal(number(l, none[k]), 0);
	}
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(number(l, longest), 0);
	tls_lsn_free(l);
	(void)listener(2, (const char *const[]){"a.pem", "a.pem"}, (const char *const[]){"a.key", "a.key"},
		       "same names");
	(void)listener(1, (const char *const[]){"a.pem"}, (const char *const[]){"wild.key"}, "does not belong");
	(void)listener(1, (const char *const[]){"a.key"}, (const char *const[]){"a.key"}, "certificate \"a.key\"");
	(void)listener(1, (const char *const[]){"a.pem"}, (const char *const[]){"a.pem"}, "certificate_key \"a.pem\"");
	(void)listener(0, NULL, NULL, "no certificate");
	fake_done();
}

/* What the server has sent goes to the client. */
static void
to_client(SSL *client)
{
	BIO_write(SSL_get_rbio(client), fake_raw, (int)fake_raw_n);
	fake_raw_n = 0;
}

static int
to_server(SSL *client, void *t, unsigned char *out, size_t *ret_n)
{
	static unsigned char in[1 << 16];
	int n = BIO_read(SSL_get_wbio(client), in, sizeof(in));

	*ret_n = 0;
	return n > 0 ? tls_transport.input(t, in, (size_t)n, out, ret_n) : LC_TR_GO;
}

/* Records of application data in what was sent (TLS 1.3 has no other here), and the largest. */
static unsigned
records(size_t *ret_largest)
{
	unsigned n = 0;

	*ret_largest = 0;
	for (size_t at = 0; at < fake_raw_n; n++) {
		size_t size = (size_t)fake_raw[at + 3] << 8 | fake_raw[at + 4];
		if (size > *ret_largest)
			*ret_largest = size;
		at += 5 + size;
		assert_true(at <= fake_raw_n);
	}
	return n;
}

static void
test_records(void **state)
{
	static const struct {
		unsigned n, size[8], records;
	} rows[] = {
	    {1, {1}, 1},
	    {2, {200, 13}, 1},
	    {8, {9, 100, 9, 100, 9, 100, 9, 100}, 1},
	    {1, {16384}, 1},
	    {1, {16385}, 2},
	    {2, {100, 16384}, 2},
	    {2, {16384, 100}, 2},
	    {3, {1, 65534, 1}, 4},
	    {3, {100, 16284, 0}, 1},
	    {2, {100, 0}, 1},
	    {4, {0, 16000, 0, 16000}, 2},
	    {1, {65536}, 4},
	};
	static unsigned char data[1 << 16], got[1 << 16], out[(1 << 16) + LC_TR_SLACK];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *client = SSL_new(ctx);
	size_t n;
	void *t;

	(void)state;
	for (size_t k = 0; k < sizeof(data); k++)
		data[k] = (unsigned char)(k * 7 + k / 251);
	fake_pair("a", "DNS:a.test", 0);
	struct tls_lsn *l = listener(1, (const char *const[]){"a.pem"}, (const char *const[]){"a.key"}, NULL);
	assert_int_equal(tls_transport.open(NULL, l, &t), 0);
	SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(client);
	while (SSL_do_handshake(client) != 1 || !fake_established) {
		assert_true(to_server(client, t, out, &n) == LC_TR_GO);
		to_client(client);
	}
	assert_int_equal(fake_established, 1);
	assert_true(fake_facts >= 3);
	(void)SSL_read(client, got, 1); /* the ticket */
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		struct lc_str v[8];
		size_t all = 0, largest, have = 0;

		for (unsigned i = 0; i < rows[k].n; all += rows[k].size[i++])
			v[i] = (struct lc_str){(const char *)data + all, rows[k].size[i]};
		assert_int_equal(tls_transport.output(t, v, rows[k].n), 0);
		assert_int_equal(records(&largest), rows[k].records);
		assert_true(largest <= 16384 + 17);
		to_client(client);
		while (have < all && SSL_read_ex(client, got + have, sizeof(got) - have, &n))
			have += n;
		assert_int_equal(have, all);
		assert_memory_equal(got, data, all);
		tls_transport.idle(t);
	}
	/* much in one record train, and back */
	assert_int_equal(SSL_write(client, data, 60000), 60000);
	assert_int_equal(to_server(client, t, out, &n), LC_TR_GO);
	assert_int_equal(n, 60000);
	assert_memory_equal(out, data, 60000);
	/* no room: it is an error, once and for all, and nothing is written any more */
	fake_raw_n = sizeof(fake_raw) - 100;
	struct lc_str one = {(const char *)data, 1000};
	assert_true(tls_transport.output(t, &one, 1) < 0);
	fake_raw_n = 0;
	assert_true(tls_transport.output(t, &one, 1) < 0);
	assert_true(tls_transport.shutdown(t) < 0);
	tls_transport.close(t);
	SSL_free(client);
	SSL_CTX_free(ctx);
	tls_lsn_free(l);
	fake_done();
}

/* ---- tickets ---- */

static SSL_SESSION *kept;

static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = session;
	return 1;
}

/* A connection that shows `kept`, if there is one, and keeps the ticket that it gets.  Was it resumed? */
static int
connect_once(SSL_CTX *ctx, struct tls_lsn *l)
{
	static unsigned char out[(1 << 16) + LC_TR_SLACK];
	unsigned char got[1];
	SSL *client = SSL_new(ctx);
	size_t n;
	void *t;

	fake_established = 0;
	fake_raw_n = 0;
	assert_int_equal(tls_transport.open(NULL, l, &t), 0);
	SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(client);
	if (kept)
		assert_int_equal(SSL_set_session(client, kept), 1);
	while (SSL_do_handshake(client) != 1 || !fake_established) {
		assert_true(to_server(client, t, out, &n) == LC_TR_GO);
		to_client(client);
	}
	(void)SSL_read(client, got, 1); /* the ticket, which may come after the handshake */
	int resumed = SSL_session_reused(client);
	if (SSL_version(client) == TLS1_2_VERSION) /* of a ticket that replaces another the callback is not told */
		keep_session(client, SSL_get1_session(client));
	SSL_shutdown(client);
	tls_transport.close(t);
	SSL_free(client);
	return resumed;
}

/* A ticket is good under the secret that made it and under the next one, which replaces it; then never again. */
static void
test_tickets(void **state)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	static const struct lc_str secret[] = {{"a secret of thirty-two bytes, aaa", 32},
					       {"b secret of thirty-two bytes, bbb", 32},
					       {"c secret of thirty-two bytes, ccc", 32}};
	struct lc_tr_listener other = fake_listener;

	(void)state;
	fake_pair("a", "DNS:a.test", 0);
	for (unsigned k = 0; k < 2; k++) {
		struct tls_lsn *l = listener(1, (const char *const[]){"a.pem"}, (const char *const[]){"a.key"}, NULL),
			       *m;
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
		char msg[512];
		void *inst;

		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, keep_session);
		assert_int_equal(SSL_CTX_set_max_proto_version(ctx, versions[k]), 1);
		assert_false(connect_once(ctx, l));
		assert_non_null(kept);
		assert_true(connect_once(ctx, l));
		tls_transport.secret(l, secret[0]);
		assert_true(connect_once(ctx, l)); /* and has a new one */
		tls_transport.secret(l, secret[1]);
		assert_true(connect_once(ctx, l));
		tls_transport.secret(l, secret[2]);
		tls_transport.secret(l, secret[0]);
		assert_false(connect_once(ctx, l));
		assert_true(connect_once(ctx, l));

		/* another process, which began with these two secrets, and another listener of it */
		other.secret = secret[0];
		other.before = secret[2];
		other.index = 0;
		assert_int_equal(tls_lsn_new(&other, &fake_conf, &inst, msg, sizeof(msg)), 0);
		m = inst;
		assert_true(connect_once(ctx, m));
		assert_true(connect_once(ctx, l));
		tls_lsn_free(m);
		other.index = 1;
		assert_int_equal(tls_lsn_new(&other, &fake_conf, &inst, msg, sizeof(msg)), 0);
		assert_false(connect_once(ctx, inst));
		tls_lsn_free(inst);

		/* none at all */
		SSL_SESSION_free(kept);
		kept = NULL;
		fake_conf.tickets = 0;
		assert_int_equal(tls_lsn_new(&other, &fake_conf, &inst, msg, sizeof(msg)), 0);
		fake_conf.tickets = 1;
		assert_false(connect_once(ctx, inst));
		assert_true(!kept || !SSL_SESSION_has_ticket(kept));
		tls_lsn_free(inst);
		SSL_SESSION_free(kept);
		kept = NULL;
		SSL_CTX_free(ctx);
		tls_lsn_free(l);
	}
	fake_done();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_records),
	    cmocka_unit_test(test_tickets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
