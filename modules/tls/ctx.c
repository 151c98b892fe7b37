/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctx.c - what a listener offers: certificates by name, versions, ciphers, client certificates, ALPN.
 *
 * Pairs of `certificate` and `certificate_key` belong together in the order in which they stand.  Certificates for the
 * same names (an ECDSA and an RSA one) share an SSL_CTX, and OpenSSL picks by what the client supports; others are
 * picked by the name that the client asks for (SNI, RFC 6066 3), wildcards included.  The first pair answers everybody
 * else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/tls.h"

/* A sentence for whoever reads why the worker does not start. */
static int
sorry(char *msg, size_t n, const char *what, const char *file)
{
	unsigned long e = ERR_peek_last_error();
	int key = strcmp(what, "certificate_key") == 0;
	char why[160];

	if ((ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE) ||
	    (key && ERR_GET_LIB(e) == ERR_LIB_OSSL_DECODER && ERR_GET_REASON(e) == ERR_R_UNSUPPORTED)) {
		ERR_clear_error();
		(void)snprintf(msg, n, "%s \"%s\" is no PEM file with a %s", what, file ? file : "-",
			       key ? "private key" : "certificate");
		return -EINVAL;
	}
	(void)snprintf(msg, n, "%s \"%s\": %s", what, file ? file : "-", tls_error(why, sizeof(why)));
	return -EINVAL;
}

/* ---- keys ---- */

/* What the arbiter has read for us: we may not be able to open it. */
static BIO *
open_file(const char *file)
{
	struct lc_str data;

	return tls_config->file(file, &data) == 0 ? BIO_new_mem_buf(data.p, (int)data.n) : NULL;
}

static int
is_encrypted(const char *file)
{
	struct lc_str data;

	return tls_config->file(file, &data) == 0 && memmem(data.p, data.n, "ENCRYPTED", 9) != NULL;
}

/* The first line of the passphrase file; never ask on a terminal. */
static int
passphrase(char *buf, int size, int rwflag, void *arg)
{
	struct lc_str data;
	int n = 0;

	(void)rwflag;
	if (!arg || tls_config->file(arg, &data) < 0)
		return -1;
	while ((size_t)n < data.n && n < size && data.p[n] != '\n' && data.p[n] != '\r')
		n++;
	memcpy(buf, data.p, (size_t)n);
	return n;
}

/* ---- names ---- */

static int
add_name(struct tls_site *s, const ASN1_STRING *a)
{
	const char *p = (const char *)ASN1_STRING_get0_data(a);
	int n = ASN1_STRING_length(a);

	if (n <= 0 || n > TLS_NAME_MAX || memchr(p, 0, (size_t)n))
		return 0; /* nobody can ask for it */
	char **more = realloc(s->name, (s->names + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->name = more;
	if (!(more[s->names] = strndup(p, (size_t)n)))
		return -ENOMEM;
	s->names++;
	return 0;
}

/* What the certificate is for: the DNS names in it, or where there are none, its subject's common name. */
static int
read_names(struct tls_site *s, const X509 *x)
{
	GENERAL_NAMES *alt = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(x);
	int r = 0, at;

	for (int k = 0; r >= 0 && alt && k < sk_GENERAL_NAME_num(alt); k++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(alt, k);
		if (g->type == GEN_DNS)
			r = add_name(s, g->d.dNSName);
	}
	GENERAL_NAMES_free(alt);
	if (r >= 0 && !s->names && (at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)) >= 0)
		r = add_name(s, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	return r;
}

static int
has_name(const struct tls_site *s, const char *name)
{
	for (uint32_t k = 0; k < s->names; k++)
		if (strcasecmp(s->name[k], name) == 0)
			return 1;
	return 0;
}

/* Are the certificates for the same names?  Then they are two keys of one site. */
static int
same_names(const struct tls_site *a, const struct tls_site *b)
{
	if (a->names != b->names)
		return 0;
	for (uint32_t k = 0; k < a->names; k++)
		if (!has_name(b, a->name[k]))
			return 0;
	return a->names > 0;
}

const struct tls_site *
tls_site_find(const struct tls_site *sites, const char *asked)
{
	char name[TLS_NAME_MAX + 2];
	size_t n = strlen(asked);

	if (n > TLS_NAME_MAX)
		return NULL;
	memcpy(name + 1, asked, n + 1);
	if (n && name[n] == '.') /* "example.org." is the same */
		name[n] = 0;
	for (const struct tls_site *s = sites; s; s = s->next)
		if (has_name(s, name + 1))
			return s;
	char *dot = strchr(name + 1, '.'); /* a wildcard stands for one label, the first (RFC 9525 6.3) */
	if (!dot || dot == name + 1)
		return NULL;
	*--dot = '*';
	for (const struct tls_site *s = sites; s; s = s->next)
		if (has_name(s, dot))
			return s;
	return NULL;
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
	const struct tls_site *s = name ? tls_site_find(l->sites, name) : NULL;

	(void)alert;
	/* Options, verification and the context of sessions stay those of the first, and are the same for all. */
	if (s && s != l->sites && !SSL_set_SSL_CTX(ssl, s->ctx))
		return SSL_TLSEXT_ERR_ALERT_FATAL;
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

/* After the last part of a PEM file: 0, or below 0 if it was something else that ended the reading. */
static int
end_of_pem(void)
{
	unsigned long e = ERR_peek_last_error();

	if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
		return -EINVAL;
	ERR_clear_error();
	return 0;
}

/* Who may vouch for clients. */
static int
read_authorities(SSL_CTX *ctx, const char *file)
{
	BIO *b = open_file(file);
	X509 *x;
	int n = 0, r = b ? 0 : -EINVAL;

	while (r == 0 && (x = PEM_read_bio_X509_AUX(b, NULL, passphrase, NULL))) {
		if (SSL_CTX_add_client_CA(ctx, x) != 1 || X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x) != 1)
			r = -EINVAL;
		X509_free(x);
		n++;
	}
	BIO_free(b);
	return r < 0 || !n ? -EINVAL : end_of_pem();
}

static int
configure(struct tls_lsn *l, SSL_CTX *ctx, char *msg, size_t n)
{
	const struct tls_conf *conf = l->conf;

	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF |
				     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_clear_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE); /* see conn.c */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_app_data(ctx, l);
	SSL_CTX_set_min_proto_version(ctx, (int)conf->min_version);
	SSL_CTX_set_info_callback(ctx, tls_noise);
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
		if (read_authorities(ctx, conf->client_ca) < 0)
			return sorry(msg, n, "tls_client_ca", conf->client_ca);
		SSL_CTX_set_verify(
		    ctx, SSL_VERIFY_PEER | (conf->verify == TLS_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
		    NULL);
	}
	return 0;
}

/* The certificate, and those of the authorities that stand behind it. */
static int
use_chain(SSL_CTX *ctx, X509 *x, BIO *rest)
{
	X509 *ca;

	if (SSL_CTX_use_certificate(ctx, x) != 1)
		return -EINVAL;
	while ((ca = PEM_read_bio_X509(rest, NULL, passphrase, NULL)))
		if (SSL_CTX_add0_chain_cert(ctx, ca) != 1) {
			X509_free(ca);
			return -EINVAL;
		}
	return end_of_pem();
}

static void
site_free(struct tls_site *s)
{
	SSL_CTX_free(s->ctx);
	for (uint32_t k = 0; k < s->names; k++)
		free(s->name[k]);
	free(s->name);
	free(s);
}

/* The site that the certificate belongs to: one that has its names, or else a new one. */
static struct tls_site *
site_for(struct tls_lsn *l, const X509 *x, char *msg, size_t n)
{
	struct tls_site *s = calloc(1, sizeof(*s)), **end = &l->sites;

	if (!s || read_names(s, x) < 0)
		goto fail;
	for (; *end; end = &(*end)->next)
		if (same_names(*end, s)) {
			site_free(s);
			return *end;
		}
	if (!(s->ctx = SSL_CTX_new(TLS_server_method())))
		goto fail;
	if (configure(l, s->ctx, msg, n) < 0) {
		site_free(s);
		return NULL;
	}
	*end = s;
	return s;
fail:
	if (s)
		site_free(s);
	(void)snprintf(msg, n, "no memory for a certificate");
	return NULL;
}

static int
add_pair(struct tls_lsn *l, const char *cert, const char *key, char *msg, size_t n)
{
	BIO *b = open_file(cert), *kb = NULL;
	X509 *x = b ? PEM_read_bio_X509_AUX(b, NULL, passphrase, NULL) : NULL;
	EVP_PKEY *k = NULL;
	struct tls_site *s;
	int r = -EINVAL;

	if (!x) {
		(void)sorry(msg, n, "certificate", cert);
		goto out;
	}
	if (!(s = site_for(l, x, msg, n)))
		goto out;
	int type = EVP_PKEY_get_base_id(X509_get0_pubkey(x));
	for (uint32_t j = 0; j < s->types; j++)
		if (s->type[j] == type) {
			(void)snprintf(msg, n,
				       "certificate \"%s\" is for the same names as another one and has the same "
				       "type of key, expected one for each type",
				       cert);
			goto out;
		}
	if (s->types == TLS_TYPES || use_chain(s->ctx, x, b) < 0) {
		(void)sorry(msg, n, "certificate", cert);
		goto out;
	}
	s->type[s->types++] = type;
	if (!(kb = open_file(key)) ||
	    !(k = PEM_read_bio_PrivateKey(kb, NULL, passphrase, (void *)(uintptr_t)l->conf->passphrase))) {
		(void)sorry(msg, n, "certificate_key", key);
		if (kb && is_encrypted(key))
			(void)snprintf(msg, n, "certificate_key \"%s\" %s", key,
				       l->conf->passphrase ? "is encrypted, and certificate_passphrase does not open it"
							   : "is encrypted, expected certificate_passphrase FILE");
		goto out;
	}
	if (X509_check_private_key(x, k) != 1) {
		ERR_clear_error();
		(void)snprintf(msg, n,
			       "the key in \"%s\" does not belong to the certificate in \"%s\": pairs are in the order "
			       "of the directives",
			       key, cert);
		goto out;
	}
	if (SSL_CTX_use_PrivateKey(s->ctx, k) != 1) {
		(void)sorry(msg, n, "certificate_key", key);
		goto out;
	}
	r = 0;
out:
	EVP_PKEY_free(k);
	X509_free(x);
	BIO_free(kb);
	BIO_free(b);
	return r;
}

/* ---- a listener ---- */

int
tls_lsn_check(const void *arg, struct lc_err *err)
{
	const struct tls_conf *conf = arg;

	if (!conf->certificate.n)
		tls_config->error(err, NULL,
				  "listen: tls needs a certificate, expected here or further up: certificate FILE; "
				  "certificate_key FILE;");
	return 0;
}

void
tls_lsn_free(void *inst)
{
	struct tls_lsn *l = inst;

	while (l->sites) {
		struct tls_site *s = l->sites;
		l->sites = s->next;
		site_free(s);
	}
	if (l->keylog >= 0)
		close(l->keylog);
	tls_tickets_fini(l);
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
		(void)snprintf(msg, n, "tls_keylog \"%s\": %s", conf->keylog, strerror(errno));
		tls_lsn_free(l);
		return -EINVAL;
	}
	ERR_clear_error();
	if (!conf->certificate.n || conf->certificate.n != conf->key.n) {
		(void)snprintf(msg, n, "the listener %.*s has no certificate, expected certificate and certificate_key",
			       (int)at->address.n, at->address.p);
		r = -EINVAL;
	}
	for (uint64_t k = 0; !r && k < conf->certificate.n; k++)
		r = add_pair(l, conf->certificate.v[k], conf->key.v[k], msg, n);
	if (r >= 0 && (r = tls_tickets_init(l, at)) < 0)
		(void)snprintf(msg, n, "no memory for a listener");
	if (r < 0)
		tls_lsn_free(l);
	else
		*inst = l;
	return r;
}
