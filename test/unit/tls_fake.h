/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/tls_fake.h - a host for the tls module: what it sends is kept in memory, and the files that it asks for are
 * certificates and keys made here.
 */
#ifndef TLS_FAKE_H
#define TLS_FAKE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "tls/tls.h"

static struct {
	char path[32];
	char *data;
	size_t n;
} fake_file[16];
static unsigned fake_files;
static unsigned char fake_raw[LC_TR_RAW_MAX];
static size_t fake_raw_n;
static int fake_established, fake_facts;

static int
fake_put(struct lc_conn *c, const void *p, size_t n)
{
	(void)c;
	if (n > sizeof(fake_raw) - fake_raw_n)
		return -ENOSPC;
	memcpy(fake_raw + fake_raw_n, p, n);
	fake_raw_n += n;
	return 0;
}

static void
fake_up(struct lc_conn *c, struct lc_str alpn)
{
	(void)c;
	(void)alpn;
	fake_established++;
}

static void
fake_timer(struct lc_conn *c, int64_t ms)
{
	(void)c;
	(void)ms;
}

static int
fake_fact(struct lc_conn *c, struct lc_str name, struct lc_str value)
{
	(void)c;
	fake_facts++;
	return name.n && value.p ? 0 : -EINVAL;
}

static void LC_PRINTF(3, 4) fake_log(struct lc_conn *c, int level, const char *fmt, ...)
{
	(void)c;
	(void)level;
	(void)fmt;
}

static int
fake_content(const char *path, struct lc_str *ret)
{
	for (unsigned k = 0; k < fake_files; k++)
		if (strcmp(fake_file[k].path, path) == 0) {
			*ret = (struct lc_str){fake_file[k].data, fake_file[k].n};
			return 0;
		}
	return -ENOENT;
}

static const struct lc_transport_api fake_api = {.size = sizeof(fake_api),
						 .raw = fake_put,
						 .established = fake_up,
						 .timer = fake_timer,
						 .fact = fake_fact,
						 .log = fake_log};
static const struct lc_config_api fake_config = {.size = sizeof(fake_config), .file = fake_content};
const struct lc_transport_api *tls_api = &fake_api;
const struct lc_config_api *tls_config = &fake_config;

static void
fake_keep(const char *path, BIO *b)
{
	char *p;
	long n = BIO_get_mem_data(b, &p);

	snprintf(fake_file[fake_files].path, sizeof(fake_file[0].path), "%s", path);
	fake_file[fake_files].data = malloc((size_t)n);
	memcpy(fake_file[fake_files].data, p, (size_t)n);
	fake_file[fake_files++].n = (size_t)n;
	BIO_free(b);
}

/* Files NAME.pem and NAME.key: a certificate for `names` ("DNS:a,DNS:b", NULL: none) of its own. */
static void
fake_pair(const char *name, const char *names, int rsa)
{
	EVP_PKEY *key = rsa ? EVP_RSA_gen(2048u) : EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *b = BIO_new(BIO_s_mem());
	char path[32];

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, key);
	if (names) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
		X509_add_ext(x, e, -1);
		X509_EXTENSION_free(e);
	}
	X509_sign(x, key, EVP_sha256());
	PEM_write_bio_X509(b, x);
	snprintf(path, sizeof(path), "%s.pem", name);
	fake_keep(path, b);
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
	snprintf(path, sizeof(path), "%s.key", name);
	fake_keep(path, b);
	X509_free(x);
	EVP_PKEY_free(key);
}

static inline void
fake_done(void)
{
	while (fake_files)
		free(fake_file[--fake_files].data);
}

static struct tls_conf fake_conf = {.ciphers = "ECDHE+AES128+AESGCM:ECDHE+CHACHA20:ECDHE+AESGCM",
				    .suites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
				    .groups = "X25519:P-256",
				    .min_version = TLS1_2_VERSION,
				    .tickets = 1};
static const char *const fake_alpn[] = {"http/1.1", NULL};
static const struct lc_tr_listener fake_listener = {.size = sizeof(fake_listener),
						    .address = {"test", 4},
						    .alpn = fake_alpn,
						    .secret = {"01234567890123456789012345678901", 32},
						    .before = {"12345678901234567890123456789012", 32}};

#endif
