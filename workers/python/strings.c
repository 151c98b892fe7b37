/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/strings.c - native strings for environ: latin-1, one byte per character, cached where it pays.
 *
 * Three direct-mapped caches, each bounded whatever clients send: values (bytes -> str), ports, and environ keys of
 * names that have no token.  An entry is only ever replaced, so a collision costs a miss and nothing else.  Keys of
 * unknown names are not interned: interned strings are immortal on some Pythons, and clients choose these names.
 *
 * All of it needs the GIL.  Nothing in here runs Python code (the objects are exact str), so the GIL is not lost
 * between looking at an entry and using it.
 */
#include "lcpy.h"

#define NVALUES 512u /* with MAXVALUE bytes each: below 170 KiB at worst */
#define MAXVALUE 256u
#define NPORTS 256u
#define NNAMES 128u
#define MAXNAME 56u

static struct value {
	PyObject *str;
	uint64_t hash;
} values[NVALUES];
static struct port {
	PyObject *str;
	uint16_t port;
} ports[NPORTS];
static struct name {
	PyObject *key;
	uint32_t n;
	char raw[MAXNAME];
} names[NNAMES];
PyObject *lcpy_token_keys[LC_TOK_COUNT];

static inline uint64_t
load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* Not a keyed hash: the worst that a client who finds collisions gets is its own cache misses. */
static inline uint64_t
hash_bytes(const char *p, size_t n)
{
	const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t h = n * k;

	while (n > 8) {
		h = (h ^ load64(p)) * k;
		h ^= h >> 29;
		p += 8;
		n -= 8;
	}
	if (n == 8) {
		h ^= load64(p);
	} else {
		uint64_t v = 0;

		for (size_t i = 0; i < n; i++)
			v = v << 8 | (uint8_t)p[i];
		h ^= v;
	}
	h *= k;
	return h ^ h >> 32;
}

PyObject *
lcpy_str(const char *p, size_t n)
{
	uint64_t any = 0;
	PyObject *s;

	if (n < 8) /* there are singletons among these */
		return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL);
	for (size_t i = 0; i + 8 <= n; i += 8)
		any |= load64(p + i);
	any |= load64(p + n - 8);
	s = PyUnicode_New((Py_ssize_t)n, any & UINT64_C(0x8080808080808080) ? 0xff : 0x7f);
	if (!s)
		return NULL;
	memcpy(PyUnicode_1BYTE_DATA(s), p, n);
	return s;
}

PyObject *
lcpy_str_cached(const char *p, size_t n)
{
	struct value *v;
	PyObject *s, *old;
	uint64_t h;

	if (n > MAXVALUE || n < 2)
		return lcpy_str(p, n);
	h = hash_bytes(p, n);
	v = &values[h % NVALUES];
	if (v->str && v->hash == h && lcpy_same(v->str, p, n))
		return Py_NewRef(v->str);
	s = lcpy_str(p, n);
	if (!s)
		return NULL;
	old = v->str;
	v->str = Py_NewRef(s);
	v->hash = h;
	Py_XDECREF(old);
	return s;
}

PyObject *
lcpy_port(uint16_t port)
{
	struct port *e = &ports[port % NPORTS];
	char buf[8];
	PyObject *s, *old;

	if (e->str && e->port == port)
		return Py_NewRef(e->str);
	s = lcpy_str(buf, (size_t)snprintf(buf, sizeof(buf), "%u", port));
	if (!s)
		return NULL;
	old = e->str;
	e->str = Py_NewRef(s);
	e->port = port;
	Py_XDECREF(old);
	return s;
}

/* "x-foo" -> "HTTP_X_FOO" in buf; its length. */
static size_t
key_text(char *buf, const char *p, size_t n)
{
	memcpy(buf, "HTTP_", 5);
	for (size_t i = 0; i < n; i++) {
		char c = p[i];

		buf[5 + i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c == '-' ? '_' : c;
	}
	return n + 5;
}

static PyObject *
key_make(const char *p, size_t n)
{
	char small[256], *buf = n + 5 <= sizeof(small) ? small : malloc(n + 5);
	PyObject *s;

	if (!buf)
		return PyErr_NoMemory();
	s = lcpy_str(buf, key_text(buf, p, n));
	if (buf != small)
		free(buf);
	return s;
}

PyObject *
lcpy_key(const struct lc_field *f)
{
	struct name *e;
	PyObject *key, *old;

	/* CGI's names make "x_y" and "x-y" the same variable: whoever sends the former may be after the latter */
	if (!f->name.n || memchr(f->name.p, '_', f->name.n))
		return NULL;
	if (f->name.n > MAXNAME)
		return key_make(f->name.p, f->name.n);
	e = &names[hash_bytes(f->name.p, f->name.n) % NNAMES];
	if (e->key && e->n == f->name.n && memcmp(e->raw, f->name.p, e->n) == 0)
		return Py_NewRef(e->key);
	key = key_make(f->name.p, f->name.n);
	if (!key)
		return NULL;
	old = e->key;
	e->key = Py_NewRef(key);
	e->n = (uint32_t)f->name.n;
	memcpy(e->raw, f->name.p, e->n);
	Py_XDECREF(old);
	return key;
}

int
lcpy_strings_init(void)
{
	static const char *const token_names[LC_TOK_COUNT] = {
#define TOKEN_NAME(id, name) [LC_TOK_##id] = name,
	    LC_TOKEN_LIST(TOKEN_NAME)
#undef TOKEN_NAME
	};
	char buf[64];

	for (uint32_t t = 1; t < LC_TOK_COUNT; t++) {
		size_t n = key_text(buf, token_names[t], strlen(token_names[t]));

		buf[n] = '\0';
		/* CGI/1.1 (RFC 3875 4.1): these two are variables of their own */
		if (t == LC_TOK_CONTENT_TYPE || t == LC_TOK_CONTENT_LENGTH)
			memmove(buf, buf + 5, n - 5 + 1);
		lcpy_token_keys[t] = PyUnicode_InternFromString(buf);
		if (!lcpy_token_keys[t])
			return -ENOMEM;
	}
	return 0;
}

void
lcpy_strings_fini(void)
{
	for (size_t i = 0; i < NVALUES; i++)
		Py_CLEAR(values[i].str);
	for (size_t i = 0; i < NPORTS; i++)
		Py_CLEAR(ports[i].str);
	for (size_t i = 0; i < NNAMES; i++)
		Py_CLEAR(names[i].key);
	for (size_t i = 0; i < LC_TOK_COUNT; i++)
		Py_CLEAR(lcpy_token_keys[i]);
}
