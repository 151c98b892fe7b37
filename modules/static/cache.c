/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache.c - what is known of files.
 *
 * A hash table of entries; two lists in the order of use, of entries that hold descriptors and of the others, so that
 * either limit finds its oldest at once.  Contents and descriptors are counted references: what the cache gives up
 * stays with the responses that are being sent.  Absences have a table of their own, of fixed size, in which a newer
 * one takes an older one's place: asking for what is not there never drives out what is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "static.h"

/* ---- what slices point to ---- */

static struct st_file *
file_new(size_t n, int fd)
{
	struct st_file *f = malloc(sizeof(*f) + n);

	if (!f)
		return NULL;
	atomic_init(&f->refs, 1);
	f->fd = fd;
	return f;
}

struct st_file *
st_file_data(size_t n)
{
	return file_new(n, -1);
}

struct st_file *
st_file_fd(int fd)
{
	struct st_file *f = file_new(0, fd);

	if (!f)
		close(fd);
	return f;
}

void
st_file_unref(void *arg)
{
	struct st_file *f = arg;

	if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

/* ---- entries ---- */

void
st_entry_free(struct st_entry *e)
{
	if (!e)
		return;
	for (uint32_t k = 0; k < ST_CODINGS; k++)
		if (e->rep[k]) {
			st_file_unref(e->rep[k]->file);
			free(e->rep[k]);
		}
	free(e);
}

uint64_t
st_hash(const struct st_cache *c, const char *p, size_t n)
{
	uint64_t h = c->seed ^ n, v;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&v, p, 8);
		h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32;
	}
	v = 0;
	for (size_t k = 0; k < n; k++)
		v = v << 8 | (uint8_t)p[k];
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

static void
list_add(struct st_cache *c, struct st_entry *e)
{
	int l = e->fds > 0;

	e->newer = NULL;
	e->older = c->list[l].newest;
	if (e->older)
		e->older->newer = e;
	else
		c->list[l].oldest = e;
	c->list[l].newest = e;
}

static void
list_remove(struct st_cache *c, struct st_entry *e)
{
	int l = e->fds > 0;

	if (e->newer)
		e->newer->older = e->older;
	else
		c->list[l].newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		c->list[l].oldest = e->newer;
}

struct st_entry *
st_cache_get(struct st_cache *c, uint64_t hash, const char *key, size_t n)
{
	if (!c->nbuckets)
		return NULL;
	for (struct st_entry *e = c->bucket[hash & (c->nbuckets - 1)]; e; e = e->next)
		if (e->hash == hash && e->n == n && memcmp(e->key, key, n) == 0) {
			if (e->newer) {
				list_remove(c, e);
				list_add(c, e);
			}
			return e;
		}
	return NULL;
}

static void
cache_remove(struct st_cache *c, struct st_entry *e)
{
	struct st_entry **pp = &c->bucket[e->hash & (c->nbuckets - 1)];

	while (*pp != e)
		pp = &(*pp)->next;
	*pp = e->next;
	list_remove(c, e);
	c->n--;
	c->bytes -= e->cost;
	c->nfds -= e->fds;
	e->cached = 0;
}

void
st_cache_drop(struct st_cache *c, struct st_entry *e)
{
	cache_remove(c, e);
	st_entry_free(e);
}

/* Twice the buckets; where there is no memory for them the chains are longer. */
static void
grow(struct st_cache *c)
{
	uint32_t n = c->nbuckets * 2;
	struct st_entry **to = calloc(n, sizeof(struct st_entry *));

	if (!to)
		return;
	for (uint32_t k = 0; k < c->nbuckets; k++)
		for (struct st_entry *e = c->bucket[k], *next; e; e = next) {
			next = e->next;
			e->next = to[e->hash & (n - 1)];
			to[e->hash & (n - 1)] = e;
		}
	free(c->bucket);
	c->bucket = to;
	c->nbuckets = n;
}

void
st_cache_put(struct st_cache *c, struct st_entry *e)
{
	if (!c->nbuckets || e->cost > c->max_bytes || e->fds > c->max_fds)
		return;
	while (e->fds && c->nfds + e->fds > c->max_fds)
		st_cache_drop(c, c->list[1].oldest);
	while (c->bytes + e->cost > c->max_bytes)
		st_cache_drop(c, c->list[0].oldest ? c->list[0].oldest : c->list[1].oldest);
	if (c->n >= c->nbuckets)
		grow(c);
	e->next = c->bucket[e->hash & (c->nbuckets - 1)];
	c->bucket[e->hash & (c->nbuckets - 1)] = e;
	list_add(c, e);
	c->n++;
	c->bytes += e->cost;
	c->nfds += e->fds;
	e->cached = 1;
}

uint32_t
st_cache_drop_fds(struct st_cache *c)
{
	uint32_t n = c->nfds;

	while (c->list[1].oldest)
		st_cache_drop(c, c->list[1].oldest);
	return n;
}

/* ---- absences ---- */

uint32_t
st_absent_get(struct st_cache *c, uint64_t hash, const char *key, size_t n, uint64_t now, uint64_t valid)
{
	if (!c->absent)
		return 0;
	const struct st_absent *a = &c->absent[hash % ST_ABSENT];
	if (!a->outcome || a->hash != hash || a->n != n || now - a->checked > valid || memcmp(a->key, key, n) != 0)
		return 0;
	return a->outcome;
}

void
st_absent_put(struct st_cache *c, uint64_t hash, const char *key, size_t n, uint64_t now, uint32_t outcome)
{
	if (!c->absent || n > ST_ABSENT_KEY)
		return;
	struct st_absent *a = &c->absent[hash % ST_ABSENT];
	a->hash = hash;
	a->checked = now;
	a->outcome = (uint16_t)outcome;
	a->n = (uint16_t)n;
	memcpy(a->key, key, n);
}

/* ---- the whole ---- */

int
st_cache_make(struct st_cache *ret, uint64_t max_bytes, uint32_t max_fds, int absences)
{
	struct st_cache c = {.max_bytes = max_bytes, .max_fds = max_fds};

	if (getrandom(&c.seed, sizeof(c.seed), GRND_NONBLOCK) != sizeof(c.seed))
		c.seed =
		    (uintptr_t)ret; /* early at boot: keys are names of files that exist, there is no more to guess */
	if (max_bytes) {
		c.nbuckets = 64;
		c.bucket = calloc(c.nbuckets, sizeof(struct st_entry *));
	}
	if (absences)
		c.absent = calloc(ST_ABSENT, sizeof(*c.absent));
	*ret = c;
	if ((max_bytes && !c.bucket) || (absences && !c.absent)) {
		st_cache_free(ret);
		return -ENOMEM;
	}
	return 0;
}

void
st_cache_free(struct st_cache *c)
{
	for (int l = 0; l < 2; l++)
		while (c->list[l].oldest)
			st_cache_drop(c, c->list[l].oldest);
	free(c->bucket);
	free(c->absent);
	*c = (struct st_cache){0};
}
