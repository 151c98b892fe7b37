/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/cidr.c - see cidr.h.
 */
#include "config/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t
be64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int k = 0; k < 8; k++)
		v = v << 8 | p[k];
	return v;
}

struct lc_ip
lc_ip_v6(const uint8_t b[16])
{
	return (struct lc_ip){.hi = be64(b), .lo = be64(b + 8)};
}

struct lc_ip
lc_ip_v4(const uint8_t b[4])
{
	uint64_t v = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];

	return (struct lc_ip){.hi = 0, .lo = UINT64_C(0xffff) << 32 | v};
}

int
lc_ip_parse(struct lc_ip *ret, const char *s, size_t n)
{
	char text[LC_IP_TEXT];
	uint8_t b[16];

	if (n == 0 || n >= sizeof(text) || memchr(s, 0, n))
		return -EINVAL;
	memcpy(text, s, n);
	text[n] = 0;
	if (memchr(text, ':', n)) {
		if (inet_pton(AF_INET6, text, b) != 1)
			return -EINVAL;
		*ret = lc_ip_v6(b);
		return 0;
	}
	if (inet_pton(AF_INET, text, b) != 1)
		return -EINVAL;
	*ret = lc_ip_v4(b);
	return 0;
}

size_t
lc_ip_print(struct lc_ip a, char buf[LC_IP_TEXT])
{
	uint8_t b[16];

	for (int k = 0; k < 8; k++) {
		b[k] = (uint8_t)(a.hi >> (56 - 8 * k));
		b[8 + k] = (uint8_t)(a.lo >> (56 - 8 * k));
	}
	int v4 = lc_ip_is_v4(a);
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? b + 12 : b, buf, LC_IP_TEXT); /* the buffer is large enough */
	return strlen(buf);
}

/* The first `bits` of 128. */
static struct lc_ip
mask_of(uint32_t bits)
{
	struct lc_ip m = {.hi = ~UINT64_C(0), .lo = ~UINT64_C(0)};

	if (bits < 64)
		m.hi = bits ? m.hi << (64 - bits) : 0;
	m.lo = bits <= 64 ? 0 : m.lo << (128 - bits);
	return m;
}

int
lc_cidr_parse(struct lc_cidr *ret, const char *text, char *why, size_t n)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int v4_text = !memchr(text, ':', len);
	uint32_t most = v4_text ? 32 : 128, bits = most;
	struct lc_ip a;

	if (lc_ip_parse(&a, text, len) < 0) {
		snprintf(why, n, "\"%.80s\" is no address, expected one such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32",
			 text);
		return -EINVAL;
	}
	if (slash) {
		size_t d = strlen(slash + 1);
		bits = d && d <= 3 && strspn(slash + 1, "0123456789") == d ? (uint32_t)atoi(slash + 1) : 999;
		if (bits > most || (d > 1 && slash[1] == '0')) {
			snprintf(why, n,
				 "\"%.80s\" has no valid length of its prefix, expected 0 to %u after the \"/\"", text,
				 most);
			return -EINVAL;
		}
	}
	if (v4_text)
		bits += 96;
	struct lc_cidr c = {.mask = mask_of(bits), .v4 = lc_ip_is_v4(a) && bits >= 96};
	c.net = (struct lc_ip){.hi = a.hi & c.mask.hi, .lo = a.lo & c.mask.lo};
	if (c.net.hi != a.hi || c.net.lo != a.lo) {
		char net[LC_IP_TEXT];
		lc_ip_print(c.net, net);
		snprintf(why, n, "\"%.80s\" has bits set behind its prefix, expected %s%s or another length", text, net,
			 slash);
		return -EINVAL;
	}
	*ret = c;
	return 0;
}

int
lc_nets_parse(struct lc_nets **ret, const struct lc_list *list, char *why, size_t n)
{
	struct lc_nets *nets = calloc(1, sizeof(*nets) + list->n * sizeof(nets->v[0]));

	if (!nets) {
		snprintf(why, n, "out of memory");
		return -ENOMEM;
	}
	for (uint64_t k = 0; k < list->n; k++) {
		if (!strcmp(list->v[k], "*")) {
			nets->all = 1;
		} else if (!strcmp(list->v[k], "unix:")) {
			nets->local = 1;
		} else if (lc_cidr_parse(&nets->v[nets->n], list->v[k], why, n) < 0) {
			free(nets);
			return -EINVAL;
		} else {
			nets->n++;
		}
	}
	*ret = nets;
	return 0;
}

int
lc_nets_hold(const struct lc_nets *nets, struct lc_ip a)
{
	int v4 = lc_ip_is_v4(a), yes = nets->all;

	for (uint32_t k = 0; k < nets->n && !yes; k++) {
		const struct lc_cidr *c = &nets->v[k];
		yes = c->v4 == v4 && ((a.hi & c->mask.hi) ^ c->net.hi) == 0 && ((a.lo & c->mask.lo) ^ c->net.lo) == 0;
	}
	return yes;
}

int
lc_nets_hold_peer(const struct lc_nets *nets, struct lc_str peer)
{
	struct lc_ip a;

	if (nets->all)
		return 1;
	if (!peer.n)
		return nets->local;
	return lc_ip_parse(&a, peer.p, peer.n) == 0 && lc_nets_hold(nets, a);
}
