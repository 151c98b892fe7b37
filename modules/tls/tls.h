/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules/tls/tls.h - what the files of this module share.
 *
 * ctx.c makes, for each listener, one SSL_CTX per set of names that its certificates are for; conn.c drives one SSL per
 * connection over buffers that are the loop's.  Everything runs on the thread that leads the loop.
 */
#ifndef LC_MODULE_TLS_H
#define LC_MODULE_TLS_H

#include <licorne/config.h>
#include <licorne/transport.h>
#include <openssl/ssl.h>

struct tls_conf {
	struct lc_list certificate, key;
	const char *passphrase, *client_ca, *ciphers, *suites, *groups, *keylog;
	uint64_t verify, min_version, handshake_timeout;
	uint8_t tickets;
};
#define TLS_VERIFY_OFF 0u
#define TLS_VERIFY_OPTIONAL 1u
#define TLS_VERIFY_REQUIRED 2u

#define TLS_CERTS 64u /* pairs per listener */
#define TLS_TYPES 4u  /* of keys, for the same names */
#define TLS_NAME_MAX 255

/* One set of names; its certificates differ in the type of their keys. */
struct tls_site {
	SSL_CTX *ctx;
	char **name; /* as in the certificate: "example.org", "*.example.org" */
	uint32_t names, types;
	int type[TLS_TYPES]; /* of its keys */
	struct tls_site *next;
};

/* What a ticket is sealed with. */
struct tls_ticket_key {
	unsigned char name[16], mac[32], aes[32];
};

/* A listener. */
struct tls_lsn {
	const struct tls_conf *conf;
	struct tls_site *sites; /* the first is for names that nobody has, and for clients that send none */
	uint8_t *alpn;          /* as the wire has it: length, name; the preferred first */
	uint32_t alpn_n;
	int keylog;
	unsigned char id[32];         /* what a session is agreed on with */
	struct tls_ticket_key key[2]; /* in use; the one before */
};

extern const struct lc_transport_api *tls_api;
extern const struct lc_config_api *tls_config;
extern const struct lc_transport tls_transport;

/* ctx.c */
int tls_lsn_new(const struct lc_tr_listener *, const void *conf, void **inst, char *msg, size_t n);
void tls_lsn_free(void *inst);
int tls_lsn_check(const void *conf, struct lc_err *); /* lc_transport.check */
/* Whose names have this one, by the letter rather than by a wildcard.  NULL: none. */
const struct tls_site *tls_site_find(const struct tls_site *, const char *name);
int tls_check(const void *conf, struct lc_err *);
/* ticket.c */
int tls_tickets_init(struct tls_lsn *, const struct lc_tr_listener *); /* when all sites are there; 0 or -ENOMEM */
void tls_tickets_secret(void *inst, struct lc_str);
void tls_tickets_fini(struct tls_lsn *);
/* conn.c */
BIO_METHOD *tls_bio(void);
void tls_noise(const SSL *, int where, int ret);
/* What OpenSSL's error queue says, emptied. */
const char *tls_error(char *buf, size_t n);

#endif
