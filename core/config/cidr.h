/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/cidr.h - IP addresses and lists of networks: who is trusted.
 *
 * An IPv4 address and its IPv4-mapped IPv6 form (::ffff:192.0.2.1) are the same address.  Networks of the one family
 * hold no address of the other: ::/0 is all of IPv6 and nothing of IPv4.  Compiled into modules that need it, as it
 * stands: it uses nothing but the C library.
 */
#ifndef LC_CORE_CONFIG_CIDR_H
#define LC_CORE_CONFIG_CIDR_H

#include <licorne/config.h>

struct lc_ip { /* 128 bits, as two numbers */
	uint64_t hi, lo;
};
#define LC_IP_TEXT 46u /* longest printed address, with its NUL */

static inline int
lc_ip_is_v4(struct lc_ip a)
{
	return a.hi == 0 && a.lo >> 32 == 0xffff;
}

/* "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"; no port, brackets, zone or prefix length.  0 or -EINVAL. */
int lc_ip_parse(struct lc_ip *ret, const char *, size_t n);
struct lc_ip lc_ip_v4(const uint8_t b[4]);
struct lc_ip lc_ip_v6(const uint8_t b[16]);
/* The canonical text (RFC 5952); IPv4 in dots.  Its length. */
size_t lc_ip_print(struct lc_ip, char buf[LC_IP_TEXT]);

struct lc_cidr {
	struct lc_ip net, mask;
	uint8_t v4;
};
/* ADDRESS or ADDRESS/BITS.  0, or -EINVAL and what is wrong with it. */
int lc_cidr_parse(struct lc_cidr *ret, const char *text, char *why, size_t n);

struct lc_nets {
	uint32_t n;
	uint8_t all, local; /* "*": everybody; "unix:": who connects to a UNIX socket */
	struct lc_cidr v[];
};
/* From a directive's words: networks, "*", "unix:".  0 and one malloc()ed block; -ENOMEM, -EINVAL with `why`. */
int lc_nets_parse(struct lc_nets **ret, const struct lc_list *, char *why, size_t n);
int lc_nets_hold(const struct lc_nets *, struct lc_ip);
/* A peer as requests name it: a printed address, or "" for a UNIX socket. */
int lc_nets_hold_peer(const struct lc_nets *, struct lc_str);

#endif
