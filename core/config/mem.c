/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/mem.c - the arena that a configuration lives in, and a growing text buffer.
 *
 * The arena jumps to *oom when there is no memory, so callers need not test; the buffer remembers it instead and
 * gives NULL at the end (it is used where no configuration is being read).
 */
#include "config/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LC_CONF_MALLOC /* a test makes each allocation fail in turn */
#define LC_CONF_MALLOC malloc
#else
void *LC_CONF_MALLOC(size_t);
#endif

#ifndef LC_CONF_CHUNK
#define LC_CONF_CHUNK 16384u
#endif

struct lc__chunk {
	struct lc__chunk *next;
	size_t used, size;
	_Alignas(16) unsigned char data[];
};

void *
lc__alloc(struct lc__arena *a, size_t n)
{
	struct lc__chunk *c = a->head;

	n = (n + 15) & ~(size_t)15;
	if (!c || c->size - c->used < n) {
		size_t size = n > LC_CONF_CHUNK ? n : LC_CONF_CHUNK;
		c = LC_CONF_MALLOC(sizeof(*c) + size);
		if (!c)
			longjmp(*a->oom, 1);
		c->used = 0;
		c->size = size;
		c->next = a->head;
		a->head = c;
	}
	void *p = c->data + c->used;
	c->used += n;
	return memset(p, 0, n);
}

char *
lc__strndup(struct lc__arena *a, const char *s, size_t n)
{
	char *p = lc__alloc(a, n + 1);
	return memcpy(p, s, n);
}

char *
lc__strdup(struct lc__arena *a, const char *s)
{
	return lc__strndup(a, s, strlen(s));
}

char *
lc__printf(struct lc__arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = lc__alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}

void
lc__arena_free(struct lc__arena *a)
{
	struct lc__chunk *next;

	for (struct lc__chunk *c = a->head; c; c = next) {
		next = c->next;
		free(c);
	}
	a->head = NULL;
}

void
lc__buf_add(struct lc__buf *b, const char *s, size_t n)
{
	if (b->oom)
		return;
	if (b->cap - b->n <= n) {
		size_t cap = (b->cap ? b->cap * 2 : 4096) + n;
		char *p = realloc(b->p, cap);
		if (!p) {
			b->oom = 1;
			return;
		}
		b->p = p;
		b->cap = cap;
	}
	memcpy(b->p + b->n, s, n);
	b->n += n;
}

void
lc__buf_printf(struct lc__buf *b, const char *fmt, ...)
{
	char small[512], *p = small;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(small)) {
		va_start(ap, fmt);
		n = vasprintf(&p, fmt, ap);
		va_end(ap);
		if (n < 0) {
			b->oom = 1;
			return;
		}
	}
	lc__buf_add(b, p, (size_t)n);
	if (p != small)
		free(p);
}

/* As the lexer reads it back, with or without $env{} expansion. */
void
lc__buf_word(struct lc__buf *b, const char *word)
{
	static const char bare[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:*@%+,=~^!?<>()[]|&-";
	size_t n = strlen(word);

	if (n && strspn(word, bare) == n) {
		lc__buf_add(b, word, n);
		return;
	}
	lc__buf_add(b, "\"", 1);
	for (; *word; word++)
		switch (*word) {
		case '\n':
			lc__buf_add(b, "\\n", 2);
			break;
		case '\t':
			lc__buf_add(b, "\\t", 2);
			break;
		case '\r':
			lc__buf_add(b, "\\r", 2);
			break;
		case '"':
		case '\\':
		case '$':
			lc__buf_add(b, "\\", 1);
			__attribute__((fallthrough));
		default:
			lc__buf_add(b, word, 1);
		}
	lc__buf_add(b, "\"", 1);
}

char *
lc__buf_end(struct lc__buf *b, size_t *ret_n)
{
	size_t n = b->n;

	lc__buf_add(b, "", 1);
	if (b->oom) {
		free(b->p);
		b->p = NULL;
		return NULL;
	}
	if (ret_n)
		*ret_n = n;
	return b->p;
}
