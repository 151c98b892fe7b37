/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/alloc.c - the module's allocations, its imports, and the memory that recv() is given.
 *
 * The module's references to malloc() and its like are pointed at functions of ours, in its own tables (the global
 * offset table, after loading): no preloading, nothing else in the process is affected, and a sanitizer keeps working.
 * Libraries that the module links to dynamically keep their malloc().
 */
#include "modtest.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUCKETS 4096u
#define QUARANTINE 256u /* freed blocks that are kept for a while, so that a second free() is seen */
#define FREED 0xdd
#define FRESH 0xa5

int mt_allocs, mt_fail_at;

struct block {
	struct block *next;
	void *p;
	size_t n;
};
static struct block *table[BUCKETS];
static size_t blocks, bytes;
static struct block quarantine[QUARANTINE];
static unsigned quarantine_at;

int
mt_alloc_fails(void)
{
	return ++mt_allocs == mt_fail_at;
}

size_t
mt_heap_blocks(void)
{
	return blocks;
}

size_t
mt_heap_bytes(void)
{
	return bytes;
}

/* ---- what the module calls ---- */

static struct block **
find(const void *p)
{
	struct block **b = &table[((uintptr_t)p >> 4) % BUCKETS];

	while (*b && (*b)->p != p)
		b = &(*b)->next;
	return b;
}

static void *
keep(void *p, size_t n, int fill)
{
	struct block *b = p ? malloc(sizeof(*b)) : NULL;

	if (!b) {
		free(p);
		return NULL;
	}
	if (fill)
		memset(p, FRESH, n);
	struct block **head = &table[((uintptr_t)p >> 4) % BUCKETS];
	*b = (struct block){.next = *head, .p = p, .n = n};
	*head = b;
	blocks++;
	bytes += n;
	return p;
}

static void *
hook_malloc(size_t n)
{
	return mt_alloc_fails() ? (errno = ENOMEM, NULL) : keep(malloc(n ? n : 1), n, 1);
}

static void *
hook_calloc(size_t k, size_t n)
{
	return mt_alloc_fails() ? (errno = ENOMEM, NULL) : keep(calloc(k ? k : 1, n ? n : 1), k * n, 0);
}

static void
hook_free(void *p)
{
	struct block **b = find(p), *gone = *b;

	if (!p)
		return;
	if (!gone) {
		for (unsigned k = 0; k < QUARANTINE; k++)
			if (quarantine[k].p == p) {
				mt_broken("a block of %zu bytes is freed twice", quarantine[k].n);
				return;
			}
		free(p); /* from a library's function that allocates for its caller */
		return;
	}
	struct block *q = &quarantine[quarantine_at++ % QUARANTINE];
	if (q->p) {
		for (size_t k = 0; k < q->n; k++)
			if (((uint8_t *)q->p)[k] != FREED) {
				mt_broken("a block of %zu bytes is written to after free()", q->n);
				break;
			}
		free(q->p);
	}
	*q = *gone;
	memset(p, FREED, gone->n);
	blocks--;
	bytes -= gone->n;
	*b = gone->next;
	free(gone);
}

static void *
hook_realloc(void *p, size_t n)
{
	struct block *old = p ? *find(p) : NULL;
	void *fresh;

	if (p && !old)
		return mt_alloc_fails() ? NULL : realloc(p, n);
	fresh = hook_malloc(n);
	if (fresh && old) {
		memcpy(fresh, p, old->n < n ? old->n : n);
		hook_free(p);
	}
	return fresh;
}

static void *
hook_reallocarray(void *p, size_t k, size_t n)
{
	if (n && k > SIZE_MAX / n)
		return NULL;
	return hook_realloc(p, k * n);
}

static char *
copy_of(const char *s, size_t len)
{
	char *p = hook_malloc(len + 1);

	if (p) {
		memcpy(p, s, len);
		p[len] = 0;
	}
	return p;
}

static char *
hook_strndup(const char *s, size_t n)
{
	return copy_of(s, strnlen(s, n));
}

static char *
hook_strdup(const char *s)
{
	return copy_of(s, strlen(s));
}

static int
hook_posix_memalign(void **ret, size_t align, size_t n)
{
	void *p = NULL;

	if (mt_alloc_fails() || posix_memalign(&p, align, n ? n : 1) != 0 || !keep(p, n, 1))
		return ENOMEM;
	*ret = p;
	return 0;
}

static void *
hook_aligned_alloc(size_t align, size_t n)
{
	void *p = NULL;

	return hook_posix_memalign(&p, align, n) == 0 ? p : NULL;
}

/* ---- the module's tables ---- */

struct object {
	ElfW(Addr) base;
	const ElfW(Sym) * symbols;
	const char *names;
	const ElfW(Rela) * rela[2];
	size_t nrela[2];
	const ElfW(Phdr) * relro;
};

static ElfW(Addr) at(const struct link_map *m, ElfW(Addr) p)
{
	return p < m->l_addr ? p + m->l_addr : p; /* glibc has relocated it, others have not */
}

static int
look(const char *path, struct object *o)
{
	void *so = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	struct link_map *m;

	memset(o, 0, sizeof(*o));
	if (!so || dlinfo(so, RTLD_DI_LINKMAP, &m) != 0)
		return -1;
	o->base = m->l_addr;
	for (const ElfW(Dyn) *d = m->l_ld; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			o->symbols = (const void *)at(m, d->d_un.d_ptr);
		else if (d->d_tag == DT_STRTAB)
			o->names = (const void *)at(m, d->d_un.d_ptr);
		else if (d->d_tag == DT_RELA)
			o->rela[0] = (const void *)at(m, d->d_un.d_ptr);
		else if (d->d_tag == DT_RELASZ)
			o->nrela[0] = d->d_un.d_val / sizeof(ElfW(Rela));
		else if (d->d_tag == DT_JMPREL)
			o->rela[1] = (const void *)at(m, d->d_un.d_ptr);
		else if (d->d_tag == DT_PLTRELSZ)
			o->nrela[1] = d->d_un.d_val / sizeof(ElfW(Rela));
	}
	return o->symbols && o->names ? 0 : -1;
}

/* The function that a relocation is about; NULL: none, or one of its own. */
static const char *
import_of(const struct object *o, const ElfW(Rela) * r)
{
	const ElfW(Sym) *s = &o->symbols[sizeof(void *) == 8 ? r->r_info >> 32 : r->r_info >> 8];

	return s->st_shndx == SHN_UNDEF && s->st_name ? o->names + s->st_name : NULL;
}

int
mt_alloc_hook(const char *path)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} hooks[] = {
#define HOOK(f) {#f, (void (*)(void))hook_##f}
	    HOOK(malloc), HOOK(calloc),  HOOK(realloc),        HOOK(reallocarray),  HOOK(free),
	    HOOK(strdup), HOOK(strndup), HOOK(posix_memalign), HOOK(aligned_alloc),
#undef HOOK
	};
	struct object o;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	if (look(path, &o) < 0)
		return -1;
	for (int t = 0; t < 2; t++)
		for (size_t k = 0; o.rela[t] && k < o.nrela[t]; k++) {
			const char *name = import_of(&o, &o.rela[t][k]);
			for (size_t h = 0; name && h < sizeof(hooks) / sizeof(hooks[0]); h++) {
				if (strcmp(name, hooks[h].name) != 0)
					continue;
				uintptr_t slot = o.base + o.rela[t][k].r_offset;
				/* read-only since it was loaded (relro) */
				if (mprotect((void *)(slot & ~(page - 1)), page, PROT_READ | PROT_WRITE) < 0)
					return -1;
				memcpy((void *)slot, &hooks[h].fn, sizeof(void *));
			}
		}
	return 0;
}

const char *
mt_forbidden_import(const char *path)
{
	static const char *const exact[] = {"socket",     "accept",    "accept4",        "bind",          "listen",
					    "connect",    "recv",      "recvfrom",       "recvmsg",       "send",
					    "sendto",     "sendmsg",   "sendfile",       "read",          "readv",
					    "write",      "writev",    "poll",           "select",        "getaddrinfo",
					    "setsockopt", "time",      "gettimeofday",   "clock_gettime", "sleep",
					    "usleep",     "nanosleep", "pthread_create", "fork"};
	static const char *const prefix[] = {"epoll_", "SSL_", "BIO_", "Py", "_Py"};
	struct object o;

	if (look(path, &o) < 0)
		return NULL;
	for (int t = 0; t < 2; t++)
		for (size_t k = 0; o.rela[t] && k < o.nrela[t]; k++) {
			const char *name = import_of(&o, &o.rela[t][k]);
			if (!name)
				continue;
			for (size_t h = 0; h < sizeof(exact) / sizeof(exact[0]); h++)
				if (!strcmp(name, exact[h]))
					return name;
			for (size_t h = 0; h < sizeof(prefix) / sizeof(prefix[0]); h++)
				if (!strncmp(name, prefix[h], strlen(prefix[h])))
					return name;
		}
	return NULL;
}

/* ---- the bytes of recv() ---- */

static uint8_t *region, *placed;
static size_t region_n, placed_n;

const uint8_t *
mt_input_place(const uint8_t *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!region || region_n < n) {
		if (region)
			munmap(region, region_n + page);
		region_n = (n + (128 << 10)) / page * page;
		region = mmap(NULL, region_n + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (region == MAP_FAILED || mprotect(region + region_n, page, PROT_NONE) < 0) {
			perror("mmap");
			exit(2);
		}
	}
	placed = region + region_n - n;
	placed_n = n;
	if (n)
		memcpy(placed, p, n);
	return placed;
}

void
mt_input_spoil(void)
{
	if (placed_n)
		memset(placed, FREED, placed_n);
}

int
mt_input_has(const void *p)
{
	return region && (const uint8_t *)p >= region && (const uint8_t *)p < region + region_n;
}

int
mt_input_beyond(const void *p)
{
	return region && (const uint8_t *)p >= region + region_n &&
	       (const uint8_t *)p < region + region_n + sysconf(_SC_PAGESIZE);
}
