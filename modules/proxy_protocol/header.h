/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules/proxy_protocol/header.h - the header of the PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt).
 */
#ifndef LC_PROXY_PROTOCOL_HEADER_H
#define LC_PROXY_PROTOCOL_HEADER_H

#include "config/cidr.h"

#define PP_V1_MAX 107u /* with its CRLF */
#define PP_MAX 4096u   /* longest version 2 header that is taken, the first 16 bytes included */

/* pp_header.kind */
#define PP_NONE 0 /* LOCAL, UNKNOWN, UNSPEC: the connection's own addresses hold */
#define PP_IP 1
#define PP_UNIX 2 /* the client came over a UNIX socket */

struct pp_header {
	uint32_t kind;
	uint16_t src_port, dst_port;
	struct lc_ip src, dst;
};

/* The header at the start of n bytes: its length; 0: more bytes are needed; -1: there is none, or it is wrong, and *why
 * says so in a few words.  Says -1 at the first byte that cannot be. */
int pp_parse(struct pp_header *ret, const uint8_t *, size_t n, const char **why);
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), starting from 0. */
uint32_t pp_crc32c(uint32_t crc, const uint8_t *, size_t n);

#endif
