/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.c - a TLS connection: raw bytes in, plain bytes out, and back.
 *
 * OpenSSL reads and writes through a BIO of ours, which gives it the bytes that the loop has just received and hands
 * what it writes to the core.  So it never sees a descriptor, and all records of a turn leave in one send.
 *
 * Traps: the error queue is the thread's, and what one connection left there is taken for the next one's error: it is
 * emptied before each call.  OpenSSL says WANT_READ only when the BIO has nothing left, so input() always takes all.
 * SSL_write() makes a record of each call: pieces are joined first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "tls/tls.h"

#define RECORD (16u << 10)

struct tls {
	SSL *ssl;
	struct lc_conn *c;
	const struct tls_lsn *lsn;
	const uint8_t *in; /* during input() */
	size_t in_n;
	uint8_t up, eof, broken; /* broken: raw() has failed */
};

const char *
tls_error(char *buf, size_t n)
{
	unsigned long e = ERR_get_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	if (reason)
		(void)snprintf(buf, n, "%s", reason);
	else
		(void)snprintf(buf, n, "%s", e ? "an error without a name" : "the connection was cut");
	ERR_clear_error();
	return buf;
}

/* ---- the BIO ---- */

static int
bio_read(BIO *b, char *to, int n)
{
	struct tls *t = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (!t->in_n) {
		if (t->eof)
			return 0;
		BIO_set_retry_read(b);
		return -1;
	}
	size_t k = (size_t)n < t->in_n ? (size_t)n : t->in_n;
	memcpy(to, t->in, k);
	t->in += k;
	t->in_n -= k;
	return (int)k;
}

static int
bio_write(BIO *b, const char *p, int n)
{
	struct tls *t = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (t->broken || tls_api->raw(t->c, p, (size_t)n) < 0) {
		t->broken = 1;
		return -1;
	}
	return n;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *
tls_bio(void)
{
	static BIO_METHOD *m;

	if (!m && (m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "licorne"))) {
		BIO_meth_set_read(m, bio_read);
		BIO_meth_set_write(m, bio_write);
		BIO_meth_set_ctrl(m, bio_ctrl);
	}
	return m;
}

/* ---- life ---- */

static int
conn_open(struct lc_conn *c, void *inst, void **ret)
{
	const struct tls_lsn *l = inst;
	struct tls *t = calloc(1, sizeof(*t));
	BIO *b = t ? BIO_new(tls_bio()) : NULL;

	ERR_clear_error();
	if (!b || !(t->ssl = SSL_new(l->sites->ctx))) {
		BIO_free(b);
		free(t);
		return -ENOMEM;
	}
	t->c = c;
	t->lsn = l;
	BIO_set_data(b, t);
	BIO_set_init(b, 1);
	SSL_set_bio(t->ssl, b, b);
	SSL_set_accept_state(t->ssl);
	SSL_set_app_data(t->ssl, t);
	if (l->conf->handshake_timeout)
		tls_api->timer(c, (int64_t)l->conf->handshake_timeout);
	*ret = t;
	return 0;
}

static void
conn_close(void *arg)
{
	struct tls *t = arg;

	SSL_free(t->ssl);
	free(t);
}

static void
fact(struct tls *t, const char *name, const char *value)
{
	if (value)
		tls_api->fact(t->c, (struct lc_str){name, strlen(name)}, (struct lc_str){value, strlen(value)});
}

static void
fact_name(struct tls *t, const char *what, X509_NAME *name)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p;
	long n;

	if (b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0 &&
	    (n = BIO_get_mem_data(b, &p)) > 0)
		tls_api->fact(t->c, (struct lc_str){what, strlen(what)}, (struct lc_str){p, (size_t)n});
	BIO_free(b);
}

/* What requests of this connection say about it; the names are those of mod_ssl, which everybody knows. */
static void
facts(struct tls *t)
{
	X509 *peer = SSL_get0_peer_certificate(t->ssl);

	fact(t, "SSL_PROTOCOL", SSL_get_version(t->ssl));
	fact(t, "SSL_CIPHER", SSL_get_cipher_name(t->ssl));
	fact(t, "SSL_TLS_SNI", SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name));
	fact(t, "SSL_SESSION_RESUMED", SSL_session_reused(t->ssl) ? "Resumed" : "Initial");
	if (t->lsn->conf->verify == TLS_VERIFY_OFF)
		return;
	fact(t, "SSL_CLIENT_VERIFY",
	     !peer ? "NONE" : SSL_get_verify_result(t->ssl) == X509_V_OK ? "SUCCESS" : "FAILED");
	if (!peer)
		return;
	fact_name(t, "SSL_CLIENT_S_DN", X509_get_subject_name(peer));
	fact_name(t, "SSL_CLIENT_I_DN", X509_get_issuer_name(peer));
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(peer), NULL);
	char *hex = serial ? BN_bn2hex(serial) : NULL;
	fact(t, "SSL_CLIENT_M_SERIAL", hex);
	OPENSSL_free(hex);
	BN_free(serial);
}

static void
handshake_done(struct tls *t)
{
	const unsigned char *p = NULL;
	unsigned n = 0;

	t->up = 1;
	facts(t);
	SSL_get0_alpn_selected(t->ssl, &p, &n);
	tls_api->timer(t->c, -1);
	tls_api->established(t->c, n ? (struct lc_str){(const char *)p, n} : (struct lc_str){NULL, 0});
}

static int
failed(struct tls *t, const char *what)
{
	char why[160];

	/* scanners and clients that dislike a certificate do this all day: no error of ours */
	tls_api->log(t->c, LC_LOG_INFO, "%s: %s", what, t->broken ? "no room for its output" : tls_error(why, sizeof(why)));
	return -EPROTO;
}

static int
conn_input(void *arg, const uint8_t *p, size_t n, uint8_t *out, size_t *produced)
{
	struct tls *t = arg;
	size_t done = 0, room = n + LC_TR_SLACK, k;
	int r = LC_TR_GO;

	t->in = p;
	t->in_n = n;
	ERR_clear_error();
	if (!t->up) {
		int a = SSL_do_handshake(t->ssl);
		if (a == 1) {
			handshake_done(t);
		} else if (SSL_get_error(t->ssl, a) != SSL_ERROR_WANT_READ) {
			*produced = 0;
			return failed(t, "TLS handshake failed");
		}
	}
	while (t->up && done < room) {
		if (SSL_read_ex(t->ssl, out + done, room - done, &k)) {
			done += k;
			continue;
		}
		int e = SSL_get_error(t->ssl, 0);
		if (e == SSL_ERROR_WANT_READ)
			break;
		if (e == SSL_ERROR_ZERO_RETURN) {
			r = LC_TR_EOF;
			t->in_n = 0;
			break;
		}
		*produced = 0;
		return failed(t, "TLS failed");
	}
	*produced = done;
	t->in = NULL;
	return r;
}

static int
conn_output(void *arg, const struct lc_str *v, uint32_t n)
{
	static char buf[RECORD]; /* of the leading thread, full only within this call */
	struct tls *t = arg;
	size_t have = 0, done;

	ERR_clear_error();
	for (uint32_t k = 0; k < n; k++) {
		const char *p = v[k].p;
		size_t left = v[k].n;
		while (left) {
			size_t m = sizeof(buf) - have < left ? sizeof(buf) - have : left;
			const char *from = buf;
			if (!have && m == sizeof(buf)) { /* a whole record lies there already */
				from = p;
			} else if (!have && k + 1 == n) {
				from = p; /* the last */
			} else {
				memcpy(buf + have, p, m);
			}
			have += m;
			p += m;
			left -= m;
			if (have < sizeof(buf) && (left || k + 1 < n))
				continue;
			if (!SSL_write_ex(t->ssl, from, have, &done) || done != have)
				return failed(t, "TLS output failed");
			have = 0;
		}
	}
	return 0;
}

static int
conn_shutdown(void *arg)
{
	struct tls *t = arg;

	ERR_clear_error();
	if (t->up)
		(void)SSL_shutdown(t->ssl); /* close_notify; the peer's is not waited for */
	ERR_clear_error();
	return t->broken ? -EIO : 0;
}

static void
conn_idle(void *arg)
{
	struct tls *t = arg;

	SSL_free_buffers(t->ssl); /* refuses where something is in them */
}

static void
conn_timeout(void *arg)
{
	struct tls *t = arg;

	tls_api->log(t->c, LC_LOG_INFO, "no TLS handshake within tls_handshake_timeout");
}

const struct lc_transport tls_transport = {
    .size = sizeof(struct lc_transport),
    .flags = LC_TR_SECURE,
    .name = "tls",
    .listen = tls_lsn_new,
    .unlisten = tls_lsn_free,
    .open = conn_open,
    .close = conn_close,
    .input = conn_input,
    .output = conn_output,
    .shutdown = conn_shutdown,
    .idle = conn_idle,
    .timeout = conn_timeout,
};
