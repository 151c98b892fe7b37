/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/fields.c - lists of (name, value) from the application: checked, and copied into the stream's arena.
 *
 * What may not go out is refused with an exception in the application's own frame: control characters (response
 * splitting), characters outside latin-1, hop-by-hop fields, a Content-Length that is no number.  Names are mostly the
 * same few constants of the application; what is known about each is found by identity.
 */
#include "lcpy.h"

#define NNAMES 64u
#define MAXNAME 64u
#define MAXFIELDS 1000u /* the arena holds less than that, mostly */

#define N_LENGTH 1u

/* Names of fields are mostly the same few constants of the application: what is known about each, by identity. */
static struct known {
	PyObject *name; /* strong */
	uint16_t token, flags;
} known[NNAMES];

static const uint8_t tchar[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
    ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
    ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

int
lcpy_has_control(const uint8_t *p, size_t n)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;

	while (n >= 8) {
		uint64_t v, del;

		memcpy(&v, p, 8);
		del = v ^ ones * 0x7f;
		if ((((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & high)
			break; /* one of these eight, or a false alarm: look closely */
		p += 8;
		n -= 8;
	}
	for (size_t i = 0; i < n; i++)
		if ((p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
			return 1;
	return 0;
}

/* What belongs to one connection and not to a message (RFC 9110 7.6.1, RFC 2616 13.5.1). */
static int
is_hop_by_hop(uint16_t token, const char *p, size_t n)
{
	static const char *const others[] = {"trailers", "proxy-connection", "keep-alive", "proxy-authenticate",
					     "proxy-authorization"};

	switch (token) {
	case LC_TOK_CONNECTION:
	case LC_TOK_KEEP_ALIVE:
	case LC_TOK_PROXY_AUTHENTICATE:
	case LC_TOK_PROXY_AUTHORIZATION:
	case LC_TOK_PROXY_CONNECTION:
	case LC_TOK_TE:
	case LC_TOK_TRAILER:
	case LC_TOK_TRANSFER_ENCODING:
	case LC_TOK_UPGRADE:
		return 1;
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strlen(others[i]) == n && strncasecmp(others[i], p, n) == 0)
			return 1;
	return 0;
}

/* Looks at a field name; 0, or -1 with an exception. */
static int
check_name(PyObject *name, const char *who, uint16_t *ret_token, uint16_t *ret_flags)
{
	struct known *k = &known[((uintptr_t)name >> 4) % NNAMES];
	uint16_t token, flags = 0;
	const uint8_t *p;
	size_t n;

	if (k->name == name) {
		*ret_token = k->token;
		*ret_flags = k->flags;
		return 0;
	}
	if (!lcpy_is_latin1(name))
		goto bad;
	p = PyUnicode_1BYTE_DATA(name);
	n = (size_t)PyUnicode_GET_LENGTH(name);
	if (!n)
		goto bad;
	for (size_t i = 0; i < n; i++)
		if (!tchar[p[i]])
			goto bad;
	token = lcpy.wk->token((const char *)p, n);
	if (is_hop_by_hop(token, (const char *)p, n)) {
		PyErr_Format(PyExc_ValueError, "%s: %R is a hop-by-hop header, the server's own business", who, name);
		return -1;
	}
	if (token == LC_TOK_CONTENT_LENGTH)
		flags |= N_LENGTH;
	if (n <= MAXNAME && PyUnicode_CheckExact(name)) { /* a subclass could run code when it is let go of */
		PyObject *old = k->name;

		k->name = Py_NewRef(name);
		k->token = token;
		k->flags = flags;
		Py_XDECREF(old);
	}
	*ret_token = token;
	*ret_flags = flags;
	return 0;
bad:
	PyErr_Format(PyExc_ValueError, "%s: %R is not a header name", who, name);
	return -1;
}

static int
parse_length(PyObject *value, const char *who, int64_t *ret)
{
	int64_t v = lcpy_number(value);

	if (v < 0 || (*ret >= 0 && *ret != v))
		goto bad;
	*ret = v;
	return 0;
bad:
	PyErr_Format(PyExc_ValueError, "%s: Content-Length %R is not one number of bytes", who, value);
	return -1;
}

/* One header tuple; adds to *bytes.  0, or -1 with an exception. */
static int
check_field(PyObject *item, const char *who, uint16_t *token, uint16_t *flags, size_t *bytes, int64_t *length)
{
	PyObject *name, *value;

	if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
		PyErr_Format(PyExc_TypeError, "%s: headers are (str, str) tuples, not %.200R", who, item);
		return -1;
	}
	name = PyTuple_GET_ITEM(item, 0);
	value = PyTuple_GET_ITEM(item, 1);
	if (!PyUnicode_Check(name) || !PyUnicode_Check(value)) {
		PyErr_Format(PyExc_TypeError, "%s: the %s of header %.200R is %.100s, not str", who,
			     PyUnicode_Check(name) ? "value" : "name", name,
			     Py_TYPE(PyUnicode_Check(name) ? value : name)->tp_name);
		return -1;
	}
	if (check_name(name, who, token, flags) < 0)
		return -1;
	if (!lcpy_is_latin1(value)) {
		PyErr_Format(PyExc_ValueError, "%s: the value of header %R has characters outside latin-1", who, name);
		return -1;
	}
	if (lcpy_has_control(PyUnicode_1BYTE_DATA(value), (size_t)PyUnicode_GET_LENGTH(value))) {
		PyErr_Format(PyExc_ValueError, "%s: the value of header %R has control characters", who, name);
		return -1;
	}
	if (*flags & N_LENGTH && parse_length(value, who, length) < 0)
		return -1;
	*bytes += (size_t)PyUnicode_GET_LENGTH(name) + (size_t)PyUnicode_GET_LENGTH(value);
	return 0;
}

static inline char *
copy_str(struct lc_str *to, char *at, PyObject *s, int trim)
{
	const char *p = (const char *)PyUnicode_1BYTE_DATA(s);
	size_t n = (size_t)PyUnicode_GET_LENGTH(s);

	if (trim) {
		while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		while (n && (*p == ' ' || *p == '\t'))
			p++, n--;
	}
	memcpy(at, p, n);
	*to = (struct lc_str){at, n};
	return at + n;
}

int
lcpy_fields_take(struct lc_stream *st, PyObject *list, const char *who, size_t extra, struct lcpy_fields *ret)
{
	struct {
		uint16_t token, flags;
	} small[32], *what = small;
	Py_ssize_t n = PyList_GET_SIZE(list);
	struct lc_field *f;
	uint32_t k = 0;
	size_t bytes = extra;
	int rc = -1;
	char *at;

	*ret = (struct lcpy_fields){.length = -1, .length_at = LCPY_NO_LENGTH};
	if (n > (Py_ssize_t)MAXFIELDS) {
		PyErr_Format(PyExc_ValueError, "%s: too many headers", who);
		return -1;
	}
	if (n > (Py_ssize_t)(sizeof(small) / sizeof(small[0]))) {
		what = malloc((size_t)n * sizeof(*what));
		if (!what) {
			PyErr_NoMemory();
			return -1;
		}
	}
	for (Py_ssize_t i = 0; i < n; i++)
		if (check_field(PyList_GET_ITEM(list, i), who, &what[i].token, &what[i].flags, &bytes, &ret->length) <
		    0)
			goto out;
	f = lcpy.st->alloc(st, (size_t)n * sizeof(*f) + bytes + 1);
	if (!f) {
		PyErr_Format(PyExc_ValueError, "%s: the headers are too large", who);
		goto out;
	}
	at = (char *)(f + n);
	for (Py_ssize_t i = 0; i < n; i++) {
		PyObject *t = PyList_GET_ITEM(list, i);

		if (what[i].flags & N_LENGTH) {
			ret->length_at = ret->length_at == LCPY_NO_LENGTH ? (int)i : LCPY_LENGTHS;
			continue; /* goes as head.length */
		}
		at = copy_str(&f[k].name, at, PyTuple_GET_ITEM(t, 0), 0);
		at = copy_str(&f[k].value, at, PyTuple_GET_ITEM(t, 1), 1);
		f[k].token = what[i].token;
		f[k].flags = 0;
		f[k].pad = 0;
		k++;
	}
	ret->v = f;
	ret->n = k;
	ret->room = at;
	rc = 0;
out:
	if (what != small)
		free(what);
	return rc;
}

void
lcpy_fields_fini(void)
{
	for (uint32_t i = 0; i < NNAMES; i++)
		Py_CLEAR(known[i].name);
}
