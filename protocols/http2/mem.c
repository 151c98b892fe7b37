/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.c - nghttp2's memory: a stream and its frames are a handful of small blocks that come and go with each request.
 *
 * Blocks of up to a KiB are kept on a list per size class, at most BLOCKS_KEPT of each, so that a busy worker
 * allocates nothing.  All sessions of a process live on the thread that leads its loop, one at a time: no locks.
 *
 * A block starts with its class, so that free() and realloc() know it.
 */
#include <stdlib.h>
#include <string.h>

#include "http2/http2.h"

#define CLASS_STEP 64u
#define CLASSES 16u /* 64 to 1024 bytes */
#ifdef LC_DEBUG
#define BLOCKS_KEPT 0u /* so that the sanitizers see what outlives its block */
#else
#define BLOCKS_KEPT 256u
#endif

struct block {
	union {
		struct block *next;
		uint64_t cls; /* 0: too large for one */
	} u;
	uint64_t pad; /* 16-byte alignment of what follows */
};
static struct block *blocks[CLASSES];
static uint32_t nblocks[CLASSES];

static void *
get(size_t n, void *user)
{
	uint64_t cls = (n + sizeof(struct block) + CLASS_STEP - 1) / CLASS_STEP;
	struct block *b;

	(void)user;
	if (cls > CLASSES) {
		if (n > SIZE_MAX - sizeof(*b) || !(b = malloc(sizeof(*b) + n)))
			return NULL;
		b->u.cls = 0;
		return b + 1;
	}
	b = blocks[cls - 1];
	if (b) {
		blocks[cls - 1] = b->u.next;
		nblocks[cls - 1]--;
	} else if (!(b = malloc(cls * CLASS_STEP))) {
		return NULL;
	}
	b->u.cls = cls;
	return b + 1;
}

static void
put(void *p, void *user)
{
	struct block *b = p ? (struct block *)p - 1 : NULL;

	(void)user;
	if (!b)
		return;
	uint64_t cls = b->u.cls;
	if (!cls || nblocks[cls - 1] >= BLOCKS_KEPT) {
		free(b);
		return;
	}
	b->u.next = blocks[cls - 1];
	blocks[cls - 1] = b;
	nblocks[cls - 1]++;
}

static void *
get_zeroed(size_t n, size_t size, void *user)
{
	if (size && n > SIZE_MAX / size)
		return NULL;
	void *p = get(n * size, user);
	if (p)
		memset(p, 0, n * size);
	return p;
}

static void *
resize(void *p, size_t n, void *user)
{
	struct block *b = p ? (struct block *)p - 1 : NULL;

	if (!b)
		return get(n, user);
	if (!b->u.cls) {
		if (n > SIZE_MAX - sizeof(*b) || !(b = realloc(b, sizeof(*b) + n)))
			return NULL;
		return b + 1;
	}
	size_t room = b->u.cls * CLASS_STEP - sizeof(*b);
	if (n <= room)
		return p;
	void *to = get(n, user);
	if (to) {
		memcpy(to, p, room);
		put(p, user);
	}
	return to;
}

nghttp2_mem *
h2_mem(void)
{
	static nghttp2_mem mem = {.malloc = get, .free = put, .calloc = get_zeroed, .realloc = resize};

	return &mem;
}
