/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c - the tls module: directives and their check.
 */
#include <errno.h>

#include <licorne/module.h>

#include "tls/tls.h"

const struct lc_transport_api *tls_api;
const struct lc_config_api *tls_config;

static const struct lc_enum verifies[] = {
    {"off", TLS_VERIFY_OFF}, {"optional", TLS_VERIFY_OPTIONAL}, {"required", TLS_VERIFY_REQUIRED}, {NULL, 0}};
static const struct lc_enum versions[] = {{"TLSv1.2", TLS1_2_VERSION}, {"TLSv1.3", TLS1_3_VERSION}, {NULL, 0}};

#define WHERE (LC_C_MAIN | LC_C_POOL | LC_C_LISTEN)

#define FILES(f, nm, brf, txt)                                                                                       \
	LC_ROW_(LC_T_LIST, nm, WHERE, LC_D_FILE, LC_AT_(struct tls_conf, f, struct lc_list), NULL, NULL, "FILE ...", \
		brf, txt)

static const struct lc_directive rows[] = {
    FILES(certificate, "certificate", "certificates, PEM",
	  "The server's certificate and behind it those of the authorities that it depends on. Repeated for further "
	  "names or for another type of key: certificates for the same names are used side by side, others by the name "
	  "that the client asks for (SNI). The first is for everybody else. Each needs a `certificate_key`."),
    FILES(key, "certificate_key", "the certificates' private keys, PEM", "In the order of the certificates."),
    LC_PATH(struct tls_conf, passphrase, "certificate_passphrase", WHERE, LC_D_FILE, NULL,
	    "file with the keys' passphrase", "Its first line opens encrypted keys."),
    LC_ENUM(struct tls_conf, verify, "tls_verify", WHERE, "off", verifies, "off | optional | required",
	    "ask clients for certificates",
	    "`optional` asks and accepts whoever has none; what was found out is in `SSL_CLIENT_VERIFY`. `required` "
	    "refuses "
	    "clients without a certificate that `tls_client_ca` answers for."),
    LC_PATH(struct tls_conf, client_ca, "tls_client_ca", WHERE, LC_D_FILE, NULL,
	    "authorities for client certificates, PEM", "Certificates of those that may vouch for clients."),
    LC_ENUM(struct tls_conf, min_version, "tls_min_version", WHERE, "TLSv1.2", versions, "TLSv1.2 | TLSv1.3",
	    "oldest version of TLS", "Clients that speak only older ones are refused."),
    LC_STRING(struct tls_conf, suites, "tls_ciphersuites", WHERE, 0,
	      "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384", "ciphers of TLS 1.3",
	      "OpenSSL's names, the preferred first. A client that prefers ChaCha20 gets it."),
    LC_STRING(struct tls_conf, ciphers, "tls_ciphers", WHERE, 0, "ECDHE+AES128+AESGCM:ECDHE+CHACHA20:ECDHE+AESGCM",
	      "ciphers of TLS 1.2",
	      "An OpenSSL cipher list. The default has forward secrecy and authenticated encryption only."),
    LC_STRING(struct tls_conf, groups, "tls_groups", WHERE, 0, "X25519:P-256:P-384", "groups for key exchange",
	      "OpenSSL's names, the preferred first."),
    LC_MSEC(struct tls_conf, handshake_timeout, "tls_handshake_timeout", WHERE, "10s", NULL, "time for a handshake",
	    "A connection that has not completed it by then is closed. `0`: no limit."),
    LC_FLAG(struct tls_conf, tickets, "tls_session_tickets", WHERE, "on", "let clients resume sessions",
	    "A client that comes again shows a ticket and is spared most of a handshake, in whatever process. Keys of "
	    "tickets "
	    "are replaced every `secret_rotation`. `off`: every handshake is a full one."),
    LC_PATH(
	struct tls_conf, keylog, "tls_keylog", WHERE, 0, NULL, "write session secrets to a file",
	"For debugging: with it, recorded traffic can be read (NSS key log format). Never where others could read the "
	"file."),
};

int
tls_check(const void *arg, struct lc_err *err)
{
	const struct tls_conf *conf = arg;

	if (conf->certificate.n != conf->key.n)
		tls_config->error(err, conf->key.n < conf->certificate.n ? "certificate" : "certificate_key",
				  "%llu certificate and %llu certificate_key, expected one key for each",
				  (unsigned long long)conf->certificate.n, (unsigned long long)conf->key.n);
	if (conf->certificate.n > TLS_CERTS)
		tls_config->error(err, "certificate", "%llu certificates, expected at most %u",
				  (unsigned long long)conf->certificate.n, TLS_CERTS);
	if (conf->verify != TLS_VERIFY_OFF && !conf->client_ca)
		tls_config->error(err, "tls_verify",
				  "tls_verify asks for certificates, expected tls_client_ca beside it");
	return 0;
}

static int
tls_load(const struct lc_host *host)
{
	tls_api = host->get("transport", 1, sizeof(*tls_api));
	tls_config = host->get("config", 1, sizeof(*tls_config));
	return tls_api && tls_config ? 0 : -ENOSYS;
}

static const struct lc_iface ifaces[] = {
    {.kind = LC_KIND_TRANSPORT, .version = LC_TRANSPORT_VERSION, .ops = &tls_transport}};

static const struct lc_module module = {
    LC_MODULE_HEAD("tls", "0.1.0"),
    .summary = "TLS 1.2 and 1.3 by OpenSSL, with ALPN and SNI",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct tls_conf),
    .check = tls_check,
    .load = tls_load,
};
LC_MODULE_ENTRY(module)
