/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/heads.c - response heads that come again: checked and converted once.
 *
 * Applications answer with the same few heads, built of the same objects: constants of their code.  A head is known by
 * the identity of its strings (status, names, values; the list and its tuples may be new each time), which is compared
 * in full on each use: lists are mutable.  str objects are not, and an entry holds references, so that an address means
 * the same string for ever.  The value of Content-Length is not part of a head (it goes as lc_head.length) and may
 * differ each time.
 *
 * A head enters when it is seen for the second time; until then it is a candidate, with references as well, since the
 * next head's new strings are all too often found where the last one's were.  Strings that nobody else holds look as if
 * they were made anew for each response; but a list that is a constant of the application holds its strings alone, too
 * (the code that made them is gone).  Such heads become candidates once in FRESH_TRY times.
 *
 * Bounds: MAXHEADS entries and NCANDS candidates, each of MAXFIELDS fields and MAXBYTES bytes.  Streams point into
 * entries, so these stay until the process ends; when the table is full it stays as it is.
 */
#include "lcpy.h"

#define MAXHEADS 64u
#define NSLOTS 256u /* open addressing, a quarter full at most: runs are short */
#define NCANDS 16u
#define MAXFIELDS 16u
#define MAXBYTES 1024u
#define FRESH_TRY 32u

struct key {
	uint64_t hash;
	PyObject *status;              /* exact str, strong, as all of them; NULL: none here */
	PyObject *str[2u * MAXFIELDS]; /* names and values in turn; NULL where Content-Length's value is */
	uint32_t n;
};
struct entry {
	struct lcpy_head head;
	struct key key;
	struct entry *next; /* retired */
};

static struct entry *slots[NSLOTS], *retired;
static const struct entry *last; /* found last: most applications mostly give one head */
static struct key cands[NCANDS];
static uint32_t nheads;
static uint64_t misses, fresh;

static inline uint64_t
mix(uint64_t h, const void *p)
{
	return (h ^ (uintptr_t)p >> 4) * UINT64_C(0x9e3779b97f4a7c15);
}

/* The list's strings, not looked into: only what is certain to be a pair can be a known one. */
static inline int
pair(PyObject *item, PyObject **name, PyObject **value)
{
	if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 2)
		return 0;
	*name = PyTuple_GET_ITEM(item, 0);
	*value = PyTuple_GET_ITEM(item, 1);
	return PyUnicode_CheckExact(*name) && PyUnicode_CheckExact(*value);
}

static inline int
matches(const struct key *k, PyObject *status, PyObject *headers)
{
	if (k->status != status)
		return 0;
	for (uint32_t i = 0; i < k->n; i++) {
		PyObject *t = PyList_GET_ITEM(headers, (Py_ssize_t)i);

		if (k->str[2 * i] != PyTuple_GET_ITEM(t, 0))
			return 0;
		if (k->str[2 * i + 1] && k->str[2 * i + 1] != PyTuple_GET_ITEM(t, 1))
			return 0;
	}
	return 1;
}

/* As matches(), of a list that was not looked into. */
static inline int
matches_unseen(const struct key *k, PyObject *status, PyObject *headers, Py_ssize_t n)
{
	if (k->status != status || (Py_ssize_t)k->n != n)
		return 0;
	for (uint32_t i = 0; i < k->n; i++) {
		PyObject *t = PyList_GET_ITEM(headers, (Py_ssize_t)i), *value;

		if (!PyTuple_CheckExact(t) || PyTuple_GET_SIZE(t) != 2 || k->str[2 * i] != PyTuple_GET_ITEM(t, 0))
			return 0;
		value = PyTuple_GET_ITEM(t, 1);
		if (k->str[2 * i + 1] ? k->str[2 * i + 1] != value : !PyUnicode_CheckExact(value))
			return 0;
	}
	return 1;
}

static inline const struct lcpy_head *
found(const struct entry *e, PyObject *headers, struct lcpy_head_seen *seen)
{
	last = e;
	if (e->head.length_at >= 0)
		seen->length = PyTuple_GET_ITEM(PyList_GET_ITEM(headers, e->head.length_at), 1);
	return &e->head;
}

const struct lcpy_head *
lcpy_head_find(PyObject *status, PyObject *headers, struct lcpy_head_seen *seen)
{
	Py_ssize_t n = PyList_CheckExact(headers) ? PyList_GET_SIZE(headers) : -1;
	uint64_t h = mix((uint64_t)n, status);
	const struct entry *e;

	seen->hash = 0;
	seen->length = NULL;
	if (last && matches_unseen(&last->key, status, headers, n))
		return found(last, headers, seen);
	if (n < 0 || n > (Py_ssize_t)MAXFIELDS)
		return NULL;
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *name, *value;

		if (!pair(PyList_GET_ITEM(headers, i), &name, &value))
			return NULL;
		h = mix(h, name);
		/* names as long as this one have values that do not count; the comparison is exact */
		if (PyUnicode_GET_LENGTH(name) != (Py_ssize_t)strlen("content-length"))
			h = mix(h, value);
	}
	h ^= h >> 32;
	seen->hash = h | 1;
	for (uint32_t i = (uint32_t)seen->hash % NSLOTS; (e = slots[i]); i = (i + 1) % NSLOTS) {
		if (e->key.hash != seen->hash || e->key.n != (uint32_t)n || !matches(&e->key, status, headers))
			continue;
		return found(e, headers, seen);
	}
	return NULL;
}

static void
key_clear(struct key *k)
{
	/* exact str: no Python code runs */
	Py_CLEAR(k->status);
	for (uint32_t i = 0; i < 2 * k->n; i++)
		Py_CLEAR(k->str[i]);
	k->n = 0;
}

static void
key_fill(struct key *k, PyObject *status, PyObject *headers, int length_at, uint64_t hash)
{
	k->hash = hash;
	k->n = (uint32_t)PyList_GET_SIZE(headers);
	k->status = Py_NewRef(status);
	for (uint32_t i = 0; i < k->n; i++) {
		PyObject *t = PyList_GET_ITEM(headers, (Py_ssize_t)i);

		k->str[2 * i] = Py_NewRef(PyTuple_GET_ITEM(t, 0));
		k->str[2 * i + 1] = (int)i == length_at ? NULL : Py_NewRef(PyTuple_GET_ITEM(t, 1));
	}
}

/* Held by nobody but this response, as far as one can see?  Some are not found out by this; they end as candidates. */
static int
is_fresh(PyObject *status, PyObject *headers, int length_at)
{
	if (Py_REFCNT(status) == 1)
		return 1;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
		PyObject *t = PyList_GET_ITEM(headers, i);

		if (Py_REFCNT(t) == 1 && (Py_REFCNT(PyTuple_GET_ITEM(t, 0)) == 1 ||
					  (i != length_at && Py_REFCNT(PyTuple_GET_ITEM(t, 1)) == 1)))
			return 1;
	}
	return 0;
}

static void
add(struct key *k, const struct lc_head *h, int length_at, size_t bytes)
{
	struct entry *e = malloc(sizeof(*e) + h->nfields * sizeof(struct lc_field) + bytes);
	struct lc_field *f = e ? (struct lc_field *)(e + 1) : NULL;
	char *at = e ? (char *)(f + h->nfields) : NULL;
	uint32_t i;

	if (!e)
		return;
	for (i = 0; i < h->nfields; i++) {
		f[i] = h->fields[i];
		f[i].name.p = memcpy(at, f[i].name.p, f[i].name.n);
		at += f[i].name.n;
		f[i].value.p = memcpy(at, f[i].value.p, f[i].value.n);
		at += f[i].value.n;
	}
	e->head.head = *h;
	e->head.head.fields = f;
	if (h->reason.n)
		e->head.head.reason.p = memcpy(at, h->reason.p, h->reason.n);
	e->head.head.memo = lcpy.wk->memo(lcpy.ctx);
	e->head.length_at = length_at;
	e->key = *k; /* the references move */
	k->status = NULL;
	k->n = 0;
	for (i = (uint32_t)e->key.hash % NSLOTS; slots[i]; i = (i + 1) % NSLOTS)
		;
	slots[i] = e;
	nheads++;
}

void
lcpy_head_note(PyObject *status, PyObject *headers, const struct lcpy_head_seen *seen, const struct lc_head *h,
	       int length_at)
{
	struct key *k = &cands[seen->hash >> 1 & (NCANDS - 1)];
	size_t bytes = h->reason.n;

	if (!seen->hash || nheads == MAXHEADS || length_at == LCPY_LENGTHS || !PyUnicode_CheckExact(status))
		return;
	if (k->status && k->hash == seen->hash && k->n == (uint32_t)PyList_GET_SIZE(headers) &&
	    matches(k, status, headers)) {
		for (uint32_t i = 0; i < h->nfields; i++)
			bytes += h->fields[i].name.n + h->fields[i].value.n;
		if (bytes <= MAXBYTES)
			add(k, h, length_at, bytes);
		return;
	}
	/* Who is here may come again, and heads that never do should not cost much.  Which one gets the place must
	 * not fall into step with the application. */
	if (k->status && (++misses * UINT64_C(0x9e3779b97f4a7c15) ^ seen->hash) >> 62)
		return;
	if (is_fresh(status, headers, length_at) && ++fresh % FRESH_TRY)
		return;
	for (uint32_t i = 0; i < h->nfields; i++)
		bytes += h->fields[i].name.n + h->fields[i].value.n;
	if (bytes > MAXBYTES)
		return;
	key_clear(k);
	key_fill(k, status, headers, length_at, seen->hash);
}

void
lcpy_heads_fini(void)
{
	for (uint32_t i = 0; i < NCANDS; i++)
		key_clear(&cands[i]);
	for (uint32_t i = 0; i < NSLOTS; i++) {
		struct entry *e = slots[i];

		if (!e)
			continue;
		key_clear(&e->key);
		e->next = retired; /* streams may still be on their way out */
		retired = e;
		slots[i] = NULL;
	}
	last = NULL;
	nheads = 0;
	misses = fresh = 0;
}
