/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules/proxy_protocol/header.c - reads the header, and believes nothing that is not exactly so.
 *
 * A pure function of the bytes: called again with more of them it starts anew, so it has no state to confuse.  What the
 * header promises is checked before it is used: every length against the bytes that are there, each TLV against the
 * header's end.  A checksum, where there is one, must be right.
 */
#include "header.h"

#include <string.h>

#define V2_FIXED 16u
#define TLV_CRC32C 0x03u

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static int
wrong(const char **why, const char *text)
{
	*why = text;
	return -1;
}

/* ---- version 1 ---- */

struct words { /* what is left of the line */
	const char *p, *end;
};

/* The next word: one space before it, none in it, not empty. */
static int
word(struct words *w, struct lc_str *ret)
{
	if (w->p == w->end || *w->p != ' ')
		return 0;
	const char *from = ++w->p;
	while (w->p < w->end && *w->p != ' ')
		w->p++;
	*ret = (struct lc_str){from, (size_t)(w->p - from)};
	return ret->n > 0;
}

/* Decimal without leading zeros. */
static int
port(struct words *w, uint16_t *ret)
{
	struct lc_str s;
	uint32_t v = 0;

	if (!word(w, &s) || s.n > 5 || (s.n > 1 && s.p[0] == '0'))
		return 0;
	for (size_t k = 0; k < s.n; k++) {
		if (s.p[k] < '0' || s.p[k] > '9')
			return 0;
		v = v * 10 + (uint32_t)(s.p[k] - '0');
	}
	*ret = (uint16_t)v;
	return v <= 65535;
}

static int
address(struct words *w, int v6, struct lc_ip *ret)
{
	struct lc_str s;

	return word(w, &s) && (memchr(s.p, ':', s.n) != NULL) == v6 && lc_ip_parse(ret, s.p, s.n) == 0;
}

/* The line without "PROXY" and CRLF. */
static int
v1_line(struct pp_header *h, struct words w, const char **why)
{
	struct lc_str family;

	if (!word(&w, &family))
		return wrong(why, "no protocol after \"PROXY\"");
	if (family.n == 7 && !memcmp(family.p, "UNKNOWN", 7))
		return 0; /* whatever follows is to be ignored */
	int v6 = family.n == 4 && !memcmp(family.p, "TCP6", 4);
	if (!v6 && (family.n != 4 || memcmp(family.p, "TCP4", 4)))
		return wrong(why, "a protocol other than TCP4, TCP6 and UNKNOWN");
	if (!address(&w, v6, &h->src) || !address(&w, v6, &h->dst))
		return wrong(why, "an address that is none");
	if (!port(&w, &h->src_port) || !port(&w, &h->dst_port))
		return wrong(why, "a port that is none");
	if (w.p != w.end)
		return wrong(why, "something behind the ports");
	h->kind = PP_IP;
	return 0;
}

static int
v1(struct pp_header *h, const uint8_t *p, size_t n, const char **why)
{
	size_t look = n < PP_V1_MAX ? n : PP_V1_MAX;
	const uint8_t *cr = memchr(p, '\r', look), *lf = memchr(p, '\n', look);

	if (lf && (!cr || lf != cr + 1))
		return wrong(why, "a line that does not end in CR LF");
	if (cr && cr + 1 < p + look && !lf)
		return wrong(why, "a line that does not end in CR LF");
	if (!lf)
		return n >= PP_V1_MAX ? wrong(why, "a line longer than 107 bytes") : 0;
	struct words w = {(const char *)p + 5, (const char *)cr};
	return v1_line(h, w, why) < 0 ? -1 : (int)(lf + 1 - p);
}

/* ---- version 2 ---- */

uint32_t
pp_crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	crc = ~crc;
	while (n--) {
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* The whole header is there: all but the addresses, from byte `at` on. */
static int
v2_tlvs(const uint8_t *p, size_t n, size_t at, const char **why)
{
	static const uint8_t zero[4];
	size_t crc = 0;

	while (at < n) {
		if (n - at < 3)
			return wrong(why, "a TLV that is cut short");
		size_t len = (size_t)p[at + 1] << 8 | p[at + 2];
		if (len > n - at - 3)
			return wrong(why, "a TLV longer than the header");
		if (p[at] == TLV_CRC32C) {
			if (len != 4 || crc)
				return wrong(why, "a checksum that is none");
			crc = at + 3;
		}
		at += 3 + len;
	}
	if (!crc)
		return 0;
	uint32_t is = pp_crc32c(0, p, crc);
	is = pp_crc32c(is, zero, 4);
	is = pp_crc32c(is, p + crc + 4, n - crc - 4);
	uint32_t says = (uint32_t)p[crc] << 24 | (uint32_t)p[crc + 1] << 16 | (uint32_t)p[crc + 2] << 8 | p[crc + 3];
	return is == says ? 0 : wrong(why, "a checksum that does not fit");
}

static uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static int
v2(struct pp_header *h, const uint8_t *p, size_t n, const char **why)
{
	/* length of the addresses by family: unspecified, IPv4, IPv6, UNIX */
	static const uint32_t addresses[] = {0, 12, 36, 216};

	if (n > 12 && p[12] >> 4 != 2)
		return wrong(why, "another version than 2 in a binary header");
	if (n > 12 && (p[12] & 15) > 1)
		return wrong(why, "a command other than LOCAL and PROXY");
	int local = n > 12 && (p[12] & 15) == 0;
	if (n > 13 && !local && p[13] != 0x00 && p[13] != 0x11 && p[13] != 0x21 && p[13] != 0x31)
		return wrong(why, "a family or protocol that is no stream over IPv4, IPv6 or UNIX");
	if (n < V2_FIXED)
		return 0;
	size_t len = V2_FIXED + be16(p + 14);
	if (len > PP_MAX)
		return wrong(why, "a header longer than 4096 bytes");
	uint32_t need = local ? 0 : addresses[p[13] >> 4];
	if (len - V2_FIXED < need)
		return wrong(why, "a header too short for its addresses");
	if (n < len)
		return 0;
	if (local)
		return (int)len; /* the rest is to be ignored, its family too */
	if (v2_tlvs(p, len, V2_FIXED + need, why) < 0)
		return -1;
	p += V2_FIXED;
	if (need == 12) {
		*h = (struct pp_header){.kind = PP_IP,
					.src = lc_ip_v4(p),
					.dst = lc_ip_v4(p + 4),
					.src_port = be16(p + 8),
					.dst_port = be16(p + 10)};
	} else if (need == 36) {
		*h = (struct pp_header){.kind = PP_IP,
					.src = lc_ip_v6(p),
					.dst = lc_ip_v6(p + 16),
					.src_port = be16(p + 32),
					.dst_port = be16(p + 34)};
	} else if (need) {
		h->kind = PP_UNIX;
	}
	return (int)len;
}

int
pp_parse(struct pp_header *ret, const uint8_t *p, size_t n, const char **why)
{
	static const char text[] = "PROXY ";
	struct pp_header h = {.kind = PP_NONE};
	size_t k = n < sizeof(signature) ? n : sizeof(signature), t = n < 6 ? n : 6;
	int r;

	if (memcmp(p, signature, k) == 0)
		r = n < sizeof(signature) ? 0 : v2(&h, p, n, why);
	else if (memcmp(p, text, t) == 0)
		r = n < 6 ? 0 : v1(&h, p, n, why);
	else
		return wrong(why, "no PROXY protocol header");
	if (r > 0)
		*ret = h;
	return r;
}
