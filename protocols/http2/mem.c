/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.c - nghttp2's memory: a stream and its frames are a handful of small blocks that come and go with each request.
 *
 * Blocks of up to a KiB are kept on a list per size class, at most BLOCKS_KEPT of each, so that a busy worker
 * allocates nothing.  All sessions of a process live on the thread that leads its loop, one at a time: no locks.
 *
 * A block starts with its class, so that free() and realloc() know it.
 *
 * Two thirds of an idle session would be the buffer of 16 KiB that nghttp2 renders frames in.  It holds something only
 * from within nghttp2_session_mem_send() until what that returned is consumed, so all sessions are given the same one.
 * Whoever leaves pull() earlier copies what is left (respond.c); debug builds spoil the buffer at the end of each
 * pull().
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
#define SHARED UINT64_MAX
#define FRAME (16u << 10) /* the least that nghttp2's frame buffer has */

static struct block *frame; /* the shared buffer */
static size_t frame_n;
static int opening;
static struct block *blocks[CLASSES];
static uint32_t nblocks[CLASSES];

static void *
get(size_t n, void *user)
{
	uint64_t cls = (n + sizeof(struct block) + CLASS_STEP - 1) / CLASS_STEP;
	struct block *b;

	(void)user;
	if (opening && n >= FRAME && (!frame || n == frame_n)) {
		opening = 0; /* there is one of them in a session */
		if (!frame && !(frame = malloc(sizeof(*frame) + n)))
			return NULL;
		frame_n = n;
		frame->u.cls = SHARED;
		return frame + 1;
	}
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
	if (cls == SHARED)
		return;
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
	size_t room = b->u.cls == SHARED ? frame_n : b->u.cls * CLASS_STEP - sizeof(*b);
	if (n <= room)
		return p;
	void *to = get(n, user);
	if (to) {
		memcpy(to, p, room);
		put(p, user);
	}
	return to;
}

void
h2_mem_opening(int on)
{
	opening = on;
}

void
h2_mem_spoil(void)
{
#ifdef LC_DEBUG
	if (frame)
		memset(frame + 1, 0xdb, frame_n);
#endif
}

nghttp2_mem *
h2_mem(void)
{
	static nghttp2_mem mem = {.malloc = get, .free = put, .calloc = get_zeroed, .realloc = resize};

	return &mem;
}
