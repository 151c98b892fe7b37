/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xor.h - the directives of xor.c, and its other end for tests over a socket pair.
 */
#ifndef LC_TEST_XOR_H
#define LC_TEST_XOR_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <licorne/module.h>
#include <licorne/transport.h>

struct xor_conf {
	uint64_t timeout;
	uint8_t on, refuse;
};
const struct lc_module *lc_module_query(const struct lc_host *);

/* The client.  key 0 and plain = 1: nothing is done to the bytes. */
struct xor_end {
	int fd, plain;
	uint8_t key;
	uint8_t head[2];
	uint32_t nhead, left; /* of the record that is being read */
	int over;             /* the farewell came */
};

static inline int
xor_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -1;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static inline int
xor_hello(struct xor_end *e, const char *alpn)
{
	uint8_t b[3 + 255] = {'X', e->key, (uint8_t)strlen(alpn)};

	memcpy(b + 3, alpn, strlen(alpn));
	return e->plain ? 0 : xor_all(e->fd, b, 3 + strlen(alpn));
}

/* Records of `cut` bytes at most; n = 0: the farewell. */
static inline ssize_t
xor_write(struct xor_end *e, const void *from, size_t n, size_t cut)
{
	const uint8_t *p = from;
	size_t at = 0;

	if (e->plain)
		return xor_all(e->fd, p, n) < 0 ? -1 : (ssize_t)n;
	do {
		size_t k = n - at < cut ? n - at : cut;
		uint8_t *b = malloc(k + 2);
		b[0] = (uint8_t)(k >> 8);
		b[1] = (uint8_t)k;
		for (size_t j = 0; j < k; j++)
			b[2 + j] = p[at + j] ^ e->key;
		int r = xor_all(e->fd, b, k + 2);
		free(b);
		if (r < 0)
			return -1;
		at += k;
	} while (at < n);
	return (ssize_t)n;
}

/* As read(); the answer to the hello is passed over before: 'Y' and the name.  0: the farewell, or the end. */
static inline ssize_t
xor_read(struct xor_end *e, void *to, size_t n)
{
	if (e->plain)
		return read(e->fd, to, n);
	while (!e->left) {
		ssize_t r = read(e->fd, e->head + e->nhead, 2 - e->nhead);
		if (r <= 0)
			return r;
		e->nhead += (uint32_t)r;
		if (e->nhead < 2)
			continue;
		e->nhead = 0;
		e->left = (uint32_t)(e->head[0] << 8 | e->head[1]);
		if (!e->left) {
			e->over = 1;
			return 0;
		}
	}
	ssize_t r = read(e->fd, to, n < e->left ? n : e->left);
	for (ssize_t k = 0; k < r; k++)
		((uint8_t *)to)[k] ^= e->key;
	if (r > 0)
		e->left -= (uint32_t)r;
	return r;
}

#endif
