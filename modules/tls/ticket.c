/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ticket.c - session tickets (RFC 8446 4.6.1, RFC 5077): what seals them, in all processes of the pool alike.
 *
 * Resumption is by tickets alone: no session of a client is kept here.  What was agreed on with one listener is nothing
 * at another, which may ask for other client certificates: the context of sessions and the keys of tickets depend on
 * the listener and on whom its certificates are for, and, by the pool's secret, are the same in all of its processes
 * and in the next generation.  Not on the certificates themselves: one that was renewed ends no session.  A ticket of
 * the key before is taken, and replaced, and so is every one of TLS 1.3, where a ticket is for one use (RFC 8446 C.4).
 *
 * Format as OpenSSL's own: AES-256-CBC, HMAC-SHA-256.  The callback never fails for a strange ticket: a full handshake
 * follows.
 */
#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "tls/tls.h"

static EVP_CIPHER *aes; /* fetched once: a fetch for each ticket costs more than the cipher */

static int
seal(EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac, struct tls_ticket_key *k, unsigned char *iv, int enc)
{
	OSSL_PARAM p[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof(k->mac)),
			  OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
			  OSSL_PARAM_construct_end()};

	return EVP_CipherInit_ex2(c, aes, k->aes, iv, enc, NULL) == 1 && EVP_MAC_CTX_set_params(mac, p) == 1;
}

/* 1: go on; 2: and give the client a new one; 0: no ticket of ours; -1: failed. */
static int
ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac, int enc)
{
	struct tls_lsn *l = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	if (enc) {
		memcpy(name, l->key[0].name, sizeof(l->key[0].name));
		return RAND_bytes(iv, 16) == 1 && seal(c, mac, &l->key[0], iv, 1) ? 1 : -1;
	}
	for (int k = 0; k < 2; k++)
		if (memcmp(name, l->key[k].name, sizeof(l->key[k].name)) == 0)
			return !seal(c, mac, &l->key[k], iv, 0) ? -1 : k || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
	return 0;
}

/* From a secret of the pool's.  0 or -ENOMEM. */
static int
make_key(const struct tls_lsn *l, struct lc_str secret, struct tls_ticket_key *ret)
{
	unsigned char key[2 * 64], block[33];
	int ok = 1;

	memcpy(block, l->id, 32);
	for (unsigned char k = 0; ok && k < 2; k++) {
		block[32] = k;
		ok = HMAC(EVP_sha512(), secret.p, (int)secret.n, block, sizeof(block), key + k * 64, NULL) != NULL;
	}
	if (ok) {
		memcpy(ret->name, key, 16);
		memcpy(ret->mac, key + 16, 32);
		memcpy(ret->aes, key + 64, 32);
	}
	OPENSSL_cleanse(key, sizeof(key));
	return ok ? 0 : -ENOMEM;
}

static int
digest_subject(EVP_MD_CTX *h, X509 *x)
{
	int at = X509_get_ext_by_NID(x, NID_subject_alt_name, -1);
	const ASN1_OCTET_STRING *alt = at >= 0 ? X509_EXTENSION_get_data(X509_get_ext(x, at)) : NULL;
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	return X509_NAME_digest(X509_get_subject_name(x), EVP_sha256(), md, &n) && EVP_DigestUpdate(h, md, n) &&
	       (!alt || EVP_DigestUpdate(h, ASN1_STRING_get0_data(alt), (size_t)ASN1_STRING_length(alt)));
}

/* Who the listener and its sites are, and what they ask of a client. */
static int
make_id(struct tls_lsn *l, uint32_t index)
{
	EVP_MD_CTX *h = EVP_MD_CTX_new();
	struct lc_str ca;
	unsigned n = 0;
	int ok = h && EVP_DigestInit_ex(h, EVP_sha256(), NULL) && EVP_DigestUpdate(h, &index, sizeof(index)) &&
		 EVP_DigestUpdate(h, &l->conf->verify, sizeof(l->conf->verify));

	for (const struct tls_site *s = l->sites; ok && s; s = s->next)
		ok = digest_subject(h, SSL_CTX_get0_certificate(s->ctx));
	/* Who may vouch for clients, to the byte: another key under the same name vouches for others. */
	if (ok && l->conf->verify != TLS_VERIFY_OFF)
		ok = tls_config->file(l->conf->client_ca, &ca) == 0 && EVP_DigestUpdate(h, ca.p, ca.n);
	ok = ok && EVP_DigestFinal_ex(h, l->id, &n);
	EVP_MD_CTX_free(h);
	return ok ? 0 : -ENOMEM;
}

int
tls_tickets_init(struct tls_lsn *l, const struct lc_tr_listener *at)
{
	int sealed = l->conf->tickets && at->secret.n;

	if (make_id(l, at->index) < 0)
		return -ENOMEM;
	if (sealed && !aes && !(aes = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL)))
		return -ENOMEM;
	if (sealed && (make_key(l, at->secret, &l->key[0]) < 0 || make_key(l, at->before, &l->key[1]) < 0))
		return -ENOMEM;
	for (const struct tls_site *s = l->sites; s; s = s->next) {
		if (SSL_CTX_set_session_id_context(s->ctx, l->id, sizeof(l->id)) != 1)
			return -ENOMEM;
		if (!l->conf->tickets) {
			SSL_CTX_set_options(s->ctx, SSL_OP_NO_TICKET);
			SSL_CTX_set_num_tickets(s->ctx, 0);
		} else if (sealed && SSL_CTX_set_tlsext_ticket_key_evp_cb(s->ctx, ticket_key) != 1) {
			return -ENOMEM;
		}
	}
	return 0;
}

void
tls_tickets_secret(void *inst, struct lc_str secret)
{
	struct tls_lsn *l = inst;
	struct tls_ticket_key next;

	if (!l->conf->tickets || make_key(l, secret, &next) < 0)
		return; /* the old one goes on */
	l->key[1] = l->key[0];
	l->key[0] = next;
	OPENSSL_cleanse(&next, sizeof(next));
}

void
tls_tickets_fini(struct tls_lsn *l)
{
	OPENSSL_cleanse(l->key, sizeof(l->key));
}
