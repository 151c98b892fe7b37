/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.c - a TLS connection: raw bytes in, plain bytes out, and back.
 *
 * OpenSSL reads and writes through a BIO of ours, which gives it the bytes that the loop has just received and hands
 * what it writes to the core.  So it never sees a descriptor, and all records of a turn leave in one send.
 *
 * Traps: the error queue is the thread's, and what one connection left there is taken for the next one's error: it is
 * emptied before each call, and after our callbacks.  OpenSSL says WANT_READ only when the BIO has nothing left, so
 * input() always takes all: the room it has exceeds what it is given by more than the record that OpenSSL may hold
 * back. SSL_write() makes a record of each call: pieces are joined first.  SSL_MODE_ENABLE_PARTIAL_WRITE must be off:
 * with it, a client that negotiates small records (max_fragment_length) gets only the first one.
 *
 * After the handshake a peer may send messages of no use that cost more than they weigh (KeyUpdate makes us derive
 * keys and answer; renegotiation is answered with an alert).  Some without data between them are one too many.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "tls/tls.h"

#define RECORD (16u << 10)
#define NOISE 128u /* steps of OpenSSL's state machine after the handshake, without data: some 32 messages */

struct tls {
	SSL *ssl;
	struct lc_conn *c;
	const struct tls_lsn *lsn;
	const uint8_t *in; /* during input() */
	size_t in_n;
	uint32_t noise;
	uint8_t up, broken; /* broken: raw() has failed */
};

static const char not_tls[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n"
			      "Connection: close\r\n\r\nThis port speaks TLS: ask for it with https://.\r\n";

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

/* Emptying it costs more than most calls, and it hardly ever has something. */
static void
forget_errors(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

/* ---- the BIO ---- */

static int
bio_read(BIO *b, char *to, int n)
{
	struct tls *t = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (t->noise > NOISE)
		return -1;
	if (!t->in_n) {
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

/* Called for steps of a handshake and for alerts, never for data. */
void
tls_noise(const SSL *ssl, int where, int ret)
{
	struct tls *t = SSL_get_app_data(ssl);

	(void)where;
	(void)ret;
	if (t->up)
		t->noise++;
}

static int
fact(struct tls *t, const char *name, const char *value)
{
	return value ? tls_api->fact(t->c, (struct lc_str){name, strlen(name)}, (struct lc_str){value, strlen(value)})
		     : 0;
}

static int
fact_name(struct tls *t, const char *what, const X509_NAME *name)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p;
	long n;
	int r = -ENOMEM;

	if (b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
		n = BIO_get_mem_data(b, &p);
		r = tls_api->fact(t->c, (struct lc_str){what, strlen(what)},
				  (struct lc_str){n > 0 ? p : "", n > 0 ? (size_t)n : 0});
	}
	BIO_free(b);
	return r;
}

/* What requests of this connection say about it; the names are those of mod_ssl, which everybody knows.  0 or -errno:
 * an application that decides by a client's name must not see a request without it. */
static int
facts(struct tls *t)
{
	X509 *peer = SSL_get0_peer_certificate(t->ssl);
	int r = fact(t, "SSL_PROTOCOL", SSL_get_version(t->ssl));

	r = r < 0 ? r : fact(t, "SSL_CIPHER", SSL_get_cipher_name(t->ssl));
	r = r < 0 ? r : fact(t, "SSL_TLS_SNI", SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name));
	r = r < 0 ? r : fact(t, "SSL_SESSION_RESUMED", SSL_session_reused(t->ssl) ? "Resumed" : "Initial");
	if (r < 0 || t->lsn->conf->verify == TLS_VERIFY_OFF)
		return r;
	if (!peer)
		return fact(t, "SSL_CLIENT_VERIFY", "NONE");
	r = fact(t, "SSL_CLIENT_VERIFY", SSL_get_verify_result(t->ssl) == X509_V_OK ? "SUCCESS" : "FAILED");
	r = r < 0 ? r : fact_name(t, "SSL_CLIENT_S_DN", X509_get_subject_name(peer));
	r = r < 0 ? r : fact_name(t, "SSL_CLIENT_I_DN", X509_get_issuer_name(peer));
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(peer), NULL);
	char *hex = serial ? BN_bn2hex(serial) : NULL;
	r = r < 0 ? r : fact(t, "SSL_CLIENT_M_SERIAL", hex);
	OPENSSL_free(hex);
	BN_free(serial);
	return r;
}

static int
handshake_done(struct tls *t)
{
	const unsigned char *p = NULL;
	unsigned n = 0;

	if (facts(t) < 0) {
		tls_api->log(t->c, LC_LOG_NOTICE, "closed: the names in the client's certificate are too long");
		return -EPROTO;
	}
	ERR_clear_error();
	t->up = 1;
	SSL_get0_alpn_selected(t->ssl, &p, &n);
	tls_api->timer(t->c, -1);
	tls_api->established(t->c, n ? (struct lc_str){(const char *)p, n} : (struct lc_str){NULL, 0});
	return 0;
}

static int
failed(struct tls *t, const char *what)
{
	char why[160];

	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST) /* and OpenSSL has written nothing */
		(void)tls_api->raw(t->c, not_tls, sizeof(not_tls) - 1);
	/* scanners and clients that dislike a certificate do this all day: no error of ours */
	tls_api->log(t->c, LC_LOG_INFO, "%s: %s", what,
		     t->broken          ? "no room for its output"
		     : t->noise > NOISE ? "too many messages without data"
					: tls_error(why, sizeof(why)));
	ERR_clear_error();
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
	forget_errors();
	if (!t->up) {
		int a = SSL_do_handshake(t->ssl);
		if (a == 1) {
			if (handshake_done(t) < 0) {
				*produced = 0;
				return -EPROTO;
			}
		} else if (SSL_get_error(t->ssl, a) != SSL_ERROR_WANT_READ) {
			*produced = 0;
			return failed(t, "TLS handshake failed");
		}
	}
	while (t->up && done < room) {
		if (SSL_read_ex(t->ssl, out + done, room - done, &k)) {
			done += k;
			t->noise = 0;
			if (!t->in_n && !SSL_has_pending(t->ssl))
				break; /* what there is to be heard is that there is nothing */
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

/* One record, or several where the client has negotiated small ones. */
static int
record(struct tls *t, const char *p, size_t n)
{
	size_t done;

	return SSL_write_ex(t->ssl, p, n, &done) && done == n ? 0 : failed(t, "TLS output failed");
}

static int
conn_output(void *arg, const struct lc_str *v, uint32_t n)
{
	static char buf[RECORD]; /* of the leading thread, full only within this call */
	struct tls *t = arg;
	size_t have = 0;

	forget_errors();
	for (uint32_t k = 0; k < n; k++) {
		const char *p = v[k].p;
		size_t left = v[k].n;
		while (left) {
			if (!have && (left >= RECORD || k + 1 == n)) { /* no need to join: all of it lies here */
				size_t m = left < RECORD ? left : RECORD;
				if (record(t, p, m) < 0)
					return -EPROTO;
				p += m;
				left -= m;
				continue;
			}
			size_t m = RECORD - have < left ? RECORD - have : left;
			memcpy(buf + have, p, m);
			have += m;
			p += m;
			left -= m;
			if (have == RECORD) {
				if (record(t, buf, have) < 0)
					return -EPROTO;
				have = 0;
			}
		}
	}
	return have ? record(t, buf, have) : 0;
}

static int
conn_shutdown(void *arg)
{
	struct tls *t = arg;

	forget_errors();
	if (t->up)
		(void)SSL_shutdown(t->ssl); /* close_notify; the peer's is not waited for */
	forget_errors();
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
    .secret = tls_tickets_secret,
    .check = tls_lsn_check,
};
