/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctx.c - what a listener offers: certificates by name, versions, ciphers, client certificates, ALPN.
 *
 * Pairs of `certificate` and `certificate_key` belong together in the order in which they stand.  Certificates for the
 * same names (an ECDSA and an RSA one) share an SSL_CTX, and OpenSSL picks by what the client supports; others are
 * picked by the name that the client asks for (SNI, RFC 6066 3), wildcards included.  The first pair answers everybody
 * else.
 *
 * Resumption is by tickets alone: no session of a client is kept here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/tls.h"

#define PASSPHRASE_MAX 1024

/* A sentence for whoever reads why the worker does not start. */
static int
sorry(char *msg, size_t n, const char *what, const char *file)
{
	char why[160];

	(void)snprintf(msg, n, "tls: %s \"%s\": %s", what, file ? file : "-", tls_error(why, sizeof(why)));
	return -EINVAL;
}

/* ---- keys ---- */

/* The first line of the passphrase file. */
static int
passphrase(char *buf, int size, int rwflag, void *arg)
{
	const char *file = arg;
	int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1, n = 0;

	(void)rwflag;
	if (fd < 0)
		return 0; /* never ask on a terminal */
	ssize_t r = read(fd, buf, (size_t)(size < PASSPHRASE_MAX ? size : PASSPHRASE_MAX));
	close(fd);
	while (n < r && buf[n] != '\n' && buf[n] != '\r')
		n++;
	return n;
}

/* Are the certificates for the same names?  Then they are two keys of one site. */
static int
same_names(X509 *a, X509 *b)
{
	GENERAL_NAMES *x = X509_get_ext_d2i(a, NID_subject_alt_name, NULL, NULL),
		      *y = X509_get_ext_d2i(b, NID_subject_alt_name, NULL, NULL);
	int n = x ? sk_GENERAL_NAME_num(x) : 0, same = n == (y ? sk_GENERAL_NAME_num(y) : 0);

	if (!n && same)
		same = X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) == 0;
	for (int k = 0; same && k < n; k++) {
		int found = 0;
		for (int j = 0; j < n && !found; j++)
			found = GENERAL_NAME_cmp(sk_GENERAL_NAME_value(x, k), sk_GENERAL_NAME_value(y, j)) == 0;
		same = found;
	}
	GENERAL_NAMES_free(x);
	GENERAL_NAMES_free(y);
	return same;
}

/* ---- callbacks ---- */

static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned in_n, void *arg)
{
	const struct tls_lsn *l = arg;
	unsigned char *pick;

	(void)ssl;
	if (!l->alpn_n || SSL_select_next_proto(&pick, n, l->alpn, l->alpn_n, in, in_n) != OPENSSL_NPN_NEGOTIATED)
		return l->alpn_n ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK; /* RFC 7301 3.2 */
	*out = pick;
	return SSL_TLSEXT_ERR_OK;
}

static int
choose_site(SSL *ssl, int *alert, void *arg)
{
	const struct tls_lsn *l = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	if (!name)
		return SSL_TLSEXT_ERR_OK;
	for (const struct tls_site *s = l->sites; s; s = s->next)
		if (X509_check_host(s->cert, name, 0, 0, NULL) == 1) {
			if (s != l->sites)
				SSL_set_SSL_CTX(ssl, s->ctx);
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_OK; /* the first pair's: what the client makes of it is its affair */
}

static void
write_keylog(const SSL *ssl, const char *line)
{
	const struct tls_lsn *l = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	char buf[512];
	int n = snprintf(buf, sizeof(buf), "%s\n", line);

	if (l->keylog >= 0 && n > 0 && n < (int)sizeof(buf) && write(l->keylog, buf, (size_t)n) < 0) {
		/* a debugging aid: nothing depends on it */
	}
}

/* ---- a context ---- */

static int
configure(struct tls_lsn *l, SSL_CTX *ctx, char *msg, size_t n)
{
	const struct tls_conf *conf = l->conf;

	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF |
				     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_app_data(ctx, l);
	SSL_CTX_set_min_proto_version(ctx, (int)conf->min_version);
	static const unsigned char id[] = "licorne"; /* client certificates need one for resumption */
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	if (SSL_CTX_set_ciphersuites(ctx, conf->suites) != 1)
		return sorry(msg, n, "tls_ciphersuites", conf->suites);
	if (SSL_CTX_set_cipher_list(ctx, conf->ciphers) != 1)
		return sorry(msg, n, "tls_ciphers", conf->ciphers);
	if (SSL_CTX_set1_groups_list(ctx, conf->groups) != 1)
		return sorry(msg, n, "tls_groups", conf->groups);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_site);
	SSL_CTX_set_tlsext_servername_arg(ctx, l);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, l);
	if (l->keylog >= 0)
		SSL_CTX_set_keylog_callback(ctx, write_keylog);
	if (conf->verify != TLS_VERIFY_OFF) {
		STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(conf->client_ca);
		if (!names || SSL_CTX_load_verify_locations(ctx, conf->client_ca, NULL) != 1)
			return sorry(msg, n, "tls_client_ca", conf->client_ca);
		SSL_CTX_set_client_CA_list(ctx, names);
		SSL_CTX_set_verify(ctx,
				   SSL_VERIFY_PEER |
				       (conf->verify == TLS_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
				   NULL);
	}
	return 0;
}

static X509 *
read_cert(const char *file)
{
	BIO *b = BIO_new_file(file, "r");
	X509 *x = b ? PEM_read_bio_X509_AUX(b, NULL, NULL, NULL) : NULL;

	BIO_free(b);
	return x;
}

static int
add_pair(struct tls_lsn *l, const char *cert, const char *key, char *msg, size_t n)
{
	struct tls_site *s, **end = &l->sites;
	X509 *x = read_cert(cert);

	if (!x)
		return sorry(msg, n, "certificate", cert);
	for (s = l->sites; s && !same_names(s->cert, x); s = s->next)
		end = &s->next;
	X509_free(x);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s || !(s->ctx = SSL_CTX_new(TLS_server_method()))) {
			free(s);
			return -ENOMEM;
		}
		*end = s;
		int r = configure(l, s->ctx, msg, n);
		if (r < 0)
			return r;
	}
	SSL_CTX_set_default_passwd_cb(s->ctx, passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(s->ctx, (void *)(uintptr_t)l->conf->passphrase);
	if (SSL_CTX_use_certificate_chain_file(s->ctx, cert) != 1)
		return sorry(msg, n, "certificate", cert);
	if (!s->cert)
		s->cert = SSL_CTX_get0_certificate(s->ctx);
	if (SSL_CTX_use_PrivateKey_file(s->ctx, key, SSL_FILETYPE_PEM) != 1)
		return sorry(msg, n, "certificate_key", key);
	if (SSL_CTX_check_private_key(s->ctx) != 1)
		return sorry(msg, n, "the key does not belong to the certificate", cert);
	return 0;
}

/* ---- a listener ---- */

void
tls_lsn_free(void *inst)
{
	struct tls_lsn *l = inst;

	while (l->sites) {
		struct tls_site *s = l->sites;
		l->sites = s->next;
		SSL_CTX_free(s->ctx);
		free(s);
	}
	if (l->keylog >= 0)
		close(l->keylog);
	free(l->alpn);
	free(l);
}

int
tls_lsn_new(const struct lc_tr_listener *at, const void *arg, void **inst, char *msg, size_t n)
{
	const struct tls_conf *conf = arg;
	struct tls_lsn *l = calloc(1, sizeof(*l));
	size_t room = 0;
	int r = 0;

	if (!l)
		return -ENOMEM;
	l->conf = conf;
	l->keylog = -1;
	for (const char *const *p = at->alpn; *p; p++)
		room += strlen(*p) + 1;
	if (room && !(l->alpn = malloc(room))) {
		tls_lsn_free(l);
		return -ENOMEM;
	}
	for (const char *const *p = at->alpn; *p; p++) {
		size_t k = strlen(*p);
		if (k > 255)
			continue;
		l->alpn[l->alpn_n++] = (uint8_t)k;
		memcpy(l->alpn + l->alpn_n, *p, k);
		l->alpn_n += (uint32_t)k;
	}
	if (conf->keylog && (l->keylog = open(conf->keylog, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) {
		(void)snprintf(msg, n, "tls: tls_keylog \"%s\": %s", conf->keylog, strerror(errno));
		tls_lsn_free(l);
		return -EINVAL;
	}
	ERR_clear_error();
	for (uint64_t k = 0; !r && k < conf->certificate.n; k++)
		r = add_pair(l, conf->certificate.v[k], conf->key.v[k], msg, n);
	if (r < 0)
		tls_lsn_free(l);
	else
		*inst = l;
	return r;
}
