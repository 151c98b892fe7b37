/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/environ.c - the environ dictionary of a request (PEP 3333, CGI/1.1 names).
 *
 * environ is a fresh dict for each request, made by PyDict_Copy() of a template: with 22 keys and more CPython clones
 * the key table in one piece.  Templates are *adaptive*.  One exists for each set of header names that is met more than
 * once (same names, same order: browsers repeat themselves), so its copy has every key already, and it remembers the
 * value that each key had the last time: a value with the same bytes is not even looked up, another one is set in the
 * template before the copy.  That is correct because a template is only used for requests that have all of its keys.
 *
 * Many applications only read their environ.  One that comes back with no other reference to it and as it was given out
 * (the dict's version tells, PEP 509) is as good as the template: it is kept with the values that it has, and becomes
 * the next request's.  An application that is seen to change or to keep its environ gets copies, but for a try now and
 * then.
 *
 * Requests whose header names are new go the plain way: the base template's copy, then one insertion for each header,
 * which is also where duplicates are joined.  No template is ever made for a request with duplicates.
 *
 * Bounds: NTMPL templates of at most MAXHDR headers, with MAXBACK dicts that came back each; values above BIGVALUE
 * bytes never stay in one.
 */
#include "lcpy.h"

#define NTMPL 16u
#define MAXHDR 32u
#define MAXFIELDS 64u /* on the stack; more are allocated */
#define BIGVALUE 256u
#define BIGTARGET 512u
#define MAXBACK 8u
#define MAXFACTS 32u  /* names of facts that are kept as strings */
#define TRY_AGAIN 64u /* requests after a dict that did not come back as it was */

enum {
	F_METHOD,
	F_PATH,
	F_QUERY,
	F_RAW_URI,
	F_GUNICORN_URI,
	F_REQUEST_URI,
	F_SERVER_NAME,
	F_SERVER_PORT,
	F_PROTOCOL,
	F_REMOTE_ADDR,
	F_REMOTE_PORT,
	F_SCHEME,
	F_COUNT
};
static const char *const fixed_names[F_COUNT] = {
    "REQUEST_METHOD", "PATH_INFO",   "QUERY_STRING",    "RAW_URI",     "gunicorn.raw_uri", "REQUEST_URI",
    "SERVER_NAME",    "SERVER_PORT", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT",      "wsgi.url_scheme",
};

/* A value that a dict has now, borrowed from it; its bytes for comparison. */
struct val {
	PyObject *s;
	const char *p;
	size_t n;
};
struct lcpy_view {
	PyObject *dict;
	struct tmpl *t; /* NULL: of `base` */
	struct lcpy_view *next;
	uint64_t version;                     /* while the application has it */
	uint16_t local_port, peer_port, http; /* http: lc_req.version that F_PROTOCOL stands for */
	size_t path_n, query_n;
	struct val val[F_COUNT + MAXHDR];
};
struct tmpl {
	struct lcpy_view v;
	struct lcpy_view *back; /* unchanged ones */
	uint64_t sig, changes;
	uint32_t nkeys, nback, nout, wait;
	int dead;              /* replaced; the last of those that are out frees it */
	PyObject *key[MAXHDR]; /* strong */
};
struct ent {
	PyObject *key; /* owned when there is no token */
	const struct lc_str *val;
	uint16_t token;
};

static struct lcpy_view base;
static struct tmpl *tmpls[NTMPL];
static uint64_t seen[NTMPL]; /* the last signature without a template in each place */
static PyObject *fixed_key[F_COUNT], *k_input, *k_https;
static PyObject *s_empty, *s_http, *s_https;
static struct {
	char name[40];
	size_t n;
	PyObject *key; /* NULL: not for transports to say */
} fact_keys[MAXFACTS];
static uint32_t nfact_keys;
static struct lc_str script; /* SCRIPT_NAME; of the configuration, which outlives us */
static PyObject *methods[8];
static const char *const method_names[] = {"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", NULL};

/*
 * PEP 509: a number that no dict has had before, after each change.  Gone in 3.14, where no dict is used again.
 */
#if PY_VERSION_HEX < 0x030e0000 && !defined(Py_GIL_DISABLED)
#define HAVE_VERSION 1
static inline uint64_t
version_of(PyObject *dict)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	return ((PyDictObject *)dict)->ma_version_tag;
#pragma GCC diagnostic pop
}
#else
#define HAVE_VERSION 0
static inline uint64_t
version_of(PyObject *dict)
{
	return 0;
}
#endif

/* Set by us or made of the request, which nobody else may pretend. */
static const char *const reserved[] = {"SCRIPT_NAME",
				       "SERVER_SOFTWARE",
				       "GATEWAY_INTERFACE",
				       "CONTENT_TYPE",
				       "CONTENT_LENGTH",
				       "HTTPS",
				       "wsgi.version",
				       "wsgi.input",
				       "wsgi.errors",
				       "wsgi.multithread",
				       "wsgi.multiprocess",
				       "wsgi.run_once",
				       "wsgi.file_wrapper",
				       "wsgi.early_hints",
				       "licorne.send_trailers",
				       "wsgi.input_terminated",
				       NULL};

int
lcpy_environ_reserved(const char *name)
{
	if (strncmp(name, "HTTP_", 5) == 0)
		return 1;
	for (int i = 0; i < F_COUNT; i++)
		if (strcmp(name, fixed_names[i]) == 0)
			return 1;
	for (int i = 0; reserved[i]; i++)
		if (strcmp(name, reserved[i]) == 0)
			return 1;
	return 0;
}

/* The same bytes?  Short ones are by far the most. */
static inline int
is_val(const struct val *v, const char *p, size_t n)
{
	uint64_t a, b, c, d;

	if (v->n != n)
		return 0;
	if (n > 16)
		return memcmp(v->p, p, n) == 0;
	if (n >= 8) {
		memcpy(&a, v->p, 8);
		memcpy(&b, p, 8);
		memcpy(&c, v->p + n - 8, 8);
		memcpy(&d, p + n - 8, 8);
		return ((a ^ b) | (c ^ d)) == 0;
	}
	if (n >= 4) {
		uint32_t e, f, g, h;

		memcpy(&e, v->p, 4);
		memcpy(&f, p, 4);
		memcpy(&g, v->p + n - 4, 4);
		memcpy(&h, p + n - 4, 4);
		return ((e ^ f) | (g ^ h)) == 0;
	}
	for (size_t i = 0; i < n; i++)
		if (v->p[i] != p[i])
			return 0;
	return 1;
}

/* Steals s, which may be NULL: one byte per character. */
static int
set_val(struct lcpy_view *v, uint32_t i, PyObject *key, PyObject *s)
{
	int rc;

	if (!s)
		return -1;
	rc = v->val[i].s == s ? 0 : PyDict_SetItem(v->dict, key, s);
	if (rc == 0)
		v->val[i] = (struct val){s, (const char *)PyUnicode_1BYTE_DATA(s), (size_t)PyUnicode_GET_LENGTH(s)};
	Py_DECREF(s); /* the dict holds it */
	return rc;
}

static inline int
set_fixed(struct lcpy_view *v, int i, PyObject *s)
{
	return set_val(v, (uint32_t)i, fixed_key[i], s);
}

/* Not for strings that have to go through unquoted(). */
static int
set_str(struct lcpy_view *v, int i, const char *p, size_t n)
{
	return is_val(&v->val[i], p, n) ? 0 : set_fixed(v, i, lcpy_str_cached(p, n));
}

static int
hex(unsigned char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/*
 * What of the path is below SCRIPT_NAME, still encoded; a NULL string when none is.  Compared as decoded, like all that
 * an application gets to see; "/app" holds "/app" and "/app/x", not "/apple".
 */
static struct lc_str
below_script(const struct lc_str *path)
{
	size_t i = 0;

	for (size_t k = 0; k <= script.n; k++) {
		size_t step = 1;
		int c, hi, lo;

		if (i == path->n)
			return k == script.n ? (struct lc_str){path->p + i, 0} : (struct lc_str){NULL, 0};
		c = (unsigned char)path->p[i];
		if (c == '%' && i + 2 < path->n && (hi = hex((unsigned char)path->p[i + 1])) >= 0 &&
		    (lo = hex((unsigned char)path->p[i + 2])) >= 0) {
			c = hi << 4 | lo;
			step = 3;
		}
		if (k == script.n)
			return c == '/' ? (struct lc_str){path->p + i, path->n - i} : (struct lc_str){NULL, 0};
		if (c != (unsigned char)script.p[k])
			break;
		i += step;
	}
	return (struct lc_str){NULL, 0};
}

static inline int
is_asterisk(const struct lc_str *path)
{
	return path->n == 1 && path->p[0] == '*';
}

int
lcpy_environ_mounted(const struct lc_req *req)
{
	return !script.n || is_asterisk(&req->path) || below_script(&req->path).p;
}

/* The part of the path that becomes PATH_INFO.  OPTIONS * is about the server, its path is empty. */
static inline struct lc_str
path_info(const struct lc_req *req)
{
	if (is_asterisk(&req->path))
		return (struct lc_str){req->path.p, 0};
	return script.n ? below_script(&req->path) : req->path;
}

static PyObject *
unquoted(const char *p, size_t n)
{
	char small[1024], *buf;
	PyObject *s;
	size_t o = 0;

	if (!n || !memchr(p, '%', n))
		return lcpy_str_cached(p, n);
	small[0] = '\0';
	buf = n <= sizeof(small) ? small : malloc(n);
	if (!buf)
		return PyErr_NoMemory();
	for (size_t i = 0; i < n; i++) {
		int hi, lo;

		if (p[i] == '%' && i + 2 < n && (hi = hex((unsigned char)p[i + 1])) >= 0 &&
		    (lo = hex((unsigned char)p[i + 2])) >= 0) {
			buf[o++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			buf[o++] = p[i]; /* what is not an escape stays as it is */
		}
	}
	s = lcpy_str_cached(buf, o);
	if (buf != small)
		free(buf);
	return s;
}

static PyObject *
method_str(const struct lc_str *m)
{
	for (int i = 0; method_names[i]; i++)
		if (m->n == strlen(method_names[i]) && memcmp(m->p, method_names[i], m->n) == 0)
			return Py_NewRef(methods[i]);
	return lcpy_str_cached(m->p, m->n);
}

/* SERVER_NAME and SERVER_PORT of a listener without an address: what the client calls us.  Neither is ever empty. */
static int
set_server_by_host(struct lcpy_view *t, const struct lc_req *req)
{
	struct lc_str h = req->authority, port = {NULL, 0};
	int https = req->scheme.n ? req->scheme.n == 5 : req->flags & LC_R_TLS;

	t->local_port = 0;
	for (size_t i = h.n; i-- > 0 && h.p[i] != ']';) {
		if (h.p[i] == ':') {
			port = (struct lc_str){h.p + i + 1, h.n - i - 1};
			h.n = i;
			break;
		}
	}
	if (!h.n)
		h = (struct lc_str){"localhost", 9};
	if (!port.n)
		port = https ? (struct lc_str){"443", 3} : (struct lc_str){"80", 2};
	if (set_str(t, F_SERVER_NAME, h.p, h.n) < 0)
		return -1;
	return set_str(t, F_SERVER_PORT, port.p, port.n);
}

static int
is_path(const struct lc_str *addr)
{
	return !addr->n || addr->p[0] == '/' || addr->p[0] == '@' || (addr->n > 5 && memcmp(addr->p, "unix:", 5) == 0);
}

/* What does not depend on headers. */
static inline int
set_all_fixed(struct lcpy_view *t, const struct lc_req *req)
{
	PyObject *s;

	if (!is_val(&t->val[F_METHOD], req->method.p, req->method.n) &&
	    set_fixed(t, F_METHOD, method_str(&req->method)) < 0)
		return -1;
	if (t->http != req->version) {
		if (set_str(t, F_PROTOCOL, req->protocol.p, req->protocol.n) < 0)
			return -1;
		t->http = req->version;
	}
	s = req->flags & LC_R_TLS ? s_https : s_http;
	if (!is_val(&t->val[F_SCHEME], req->scheme.p, req->scheme.n) &&
	    set_fixed(t, F_SCHEME, req->scheme.n ? lcpy_str_cached(req->scheme.p, req->scheme.n) : Py_NewRef(s)) < 0)
		return -1;
	if (is_path(&req->local)) {
		if (set_server_by_host(t, req) < 0)
			return -1;
	} else {
		if (set_str(t, F_SERVER_NAME, req->local.p, req->local.n) < 0)
			return -1;
		if (t->local_port != req->local_port) {
			if (set_fixed(t, F_SERVER_PORT, lcpy_port(req->local_port)) < 0)
				return -1;
			t->local_port = req->local_port;
		}
	}
	if (t->peer_port != req->peer_port) {
		s = req->peer_port ? lcpy_port(req->peer_port) : Py_NewRef(s_empty);
		if (set_fixed(t, F_REMOTE_PORT, s) < 0)
			return -1;
		t->peer_port = req->peer_port;
	}
	return set_str(t, F_REMOTE_ADDR, req->peer.p, req->peer.n);
}

static __attribute__((noinline)) int
set_new_target(struct lcpy_view *t, const struct lc_req *req)
{
	struct lc_str path = path_info(req);
	PyObject *raw;

	t->path_n = SIZE_MAX; /* until all of them are set */
	raw = lcpy_str_cached(req->target.p, req->target.n);
	/* the other two are never compared, so that `val` has no entry for them */
	if (set_fixed(t, F_RAW_URI, raw) < 0 || PyDict_SetItem(t->dict, fixed_key[F_REQUEST_URI], raw) < 0 ||
	    PyDict_SetItem(t->dict, fixed_key[F_GUNICORN_URI], raw) < 0)
		return -1;
	if ((!is_val(&t->val[F_PATH], path.p, path.n) || (path.n && memchr(path.p, '%', path.n))) &&
	    set_fixed(t, F_PATH, unquoted(path.p, path.n)) < 0)
		return -1;
	if (set_str(t, F_QUERY, req->query.p, req->query.n) < 0)
		return -1;
	/* but for OPTIONS: of http://host the path is "*", for other methods "/" */
	t->path_n = is_asterisk(&req->path) ? SIZE_MAX : req->path.n;
	t->query_n = req->query.n;
	return 0;
}

/* path and query are functions of the target, so the same target needs no second look. */
static inline int
set_target(struct lcpy_view *t, const struct lc_req *req)
{
	return t->path_n == req->path.n && t->query_n == req->query.n && !is_asterisk(&req->path) &&
		       is_val(&t->val[F_RAW_URI], req->target.p, req->target.n)
		   ? 0
		   : set_new_target(t, req);
}

/* Steals value. */
static int
put(PyObject *env, PyObject *key, PyObject *value)
{
	int rc = value ? PyDict_SetItem(env, key, value) : -1;

	Py_XDECREF(value);
	return rc;
}

/* Long targets pass the templates by. */
static int
put_target(PyObject *env, const struct lc_req *req)
{
	PyObject *raw = lcpy_str(req->target.p, req->target.n);
	struct lc_str path = path_info(req);
	int rc = raw && PyDict_SetItem(env, fixed_key[F_RAW_URI], raw) == 0 ? 0 : -1;

	if (rc == 0)
		rc = PyDict_SetItem(env, fixed_key[F_REQUEST_URI], raw);
	if (rc == 0)
		rc = PyDict_SetItem(env, fixed_key[F_GUNICORN_URI], raw);
	Py_XDECREF(raw);
	if (rc < 0 || put(env, fixed_key[F_PATH], unquoted(path.p, path.n)) < 0)
		return -1;
	return put(env, fixed_key[F_QUERY], lcpy_str(req->query.p, req->query.n));
}

static void
view_free(struct lcpy_view *v)
{
	PyObject *dict = v->dict;

	free(v);
	Py_DECREF(dict); /* may run code of the application, when it has put something in */
}

static void
tmpl_free(struct tmpl *t)
{
	struct lcpy_view *v;

	if (!t)
		return;
	t->dead = 1;
	while ((v = t->back)) {
		t->back = v->next;
		view_free(v); /* unchanged: runs nothing */
	}
	for (uint32_t i = 0; i < t->nkeys; i++)
		Py_DECREF(t->key[i]);
	t->nkeys = 0;
	Py_CLEAR(t->v.dict);
	if (!t->nout)
		free(t);
}

/* After the second request with these names, none twice. */
static void
tmpl_make(const struct ent *e, uint32_t n, uint64_t sig)
{
	struct tmpl *t = calloc(1, sizeof(*t)), *old;

	if (!t)
		return;
	t->v = base;
	t->sig = sig;
	t->v.t = t;
	t->v.dict = PyDict_Copy(base.dict);
	if (!t->v.dict)
		goto fail;
	for (uint32_t i = 0; i < n; i++) {
		if (set_val(&t->v, F_COUNT + i, e[i].key, Py_NewRef(s_empty)) < 0)
			goto fail;
		t->key[t->nkeys++] = Py_NewRef(e[i].key);
	}
	old = tmpls[sig % NTMPL];
	tmpls[sig % NTMPL] = t;
	tmpl_free(old);
	return;
fail:
	PyErr_Clear();
	tmpl_free(t);
}

static inline struct tmpl *
tmpl_find(const struct ent *e, uint32_t n, uint64_t sig)
{
	struct tmpl *t = tmpls[sig % NTMPL];

	if (!t || t->sig != sig || t->nkeys != n)
		return NULL;
	for (uint32_t i = 0; i < n; i++)
		if (t->key[i] != e[i].key)
			return NULL;
	return t;
}

/* Brings v up to date, but for what is too large to stay in it: header i when bit i of *big is set. */
static inline int
update(struct lcpy_view *v, const struct ent *e, uint32_t n, const struct lc_req *req, uint32_t *big)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct lc_str *s = e[i].val;

		if (is_val(&v->val[F_COUNT + i], s->p, s->n))
			continue;
		if (s->n > BIGVALUE)
			*big |= 1u << i;
		else if (set_val(v, F_COUNT + i, e[i].key, lcpy_str_cached(s->p, s->n)) < 0)
			return -1;
	}
	return set_all_fixed(v, req) < 0 || (req->target.n <= BIGTARGET && set_target(v, req) < 0) ? -1 : 0;
}

/* The copy may come back: a view of it. */
static struct lcpy_view *
view_of(struct tmpl *t, PyObject *env)
{
	struct lcpy_view *v;

	if (!HAVE_VERSION)
		return NULL;
	if (t->wait) {
		t->wait--;
		return NULL;
	}
	v = malloc(sizeof(*v));
	if (!v)
		return NULL;
	memcpy(v, &t->v, offsetof(struct lcpy_view, val) + (F_COUNT + t->nkeys) * sizeof(v->val[0]));
	v->dict = Py_NewRef(env);
	v->version = version_of(env);
	t->nout++;
	return v;
}

static PyObject *
environ_adapted(struct tmpl *t, const struct ent *e, uint32_t n, const struct lc_req *req, struct lcpy_view **ret)
{
	int small = req->target.n <= BIGTARGET && !(req->flags & LC_R_BODY);
	struct lcpy_view *v = small ? t->back : NULL;
	PyObject *env, *dict;
	uint32_t big = 0;
	uint64_t change;

	if (v) {
		for (uint32_t i = 0; i < n; i++)
			big |= (uint32_t)(e[i].val->n > BIGVALUE) << i;
		if (!big) {
			if (update(v, e, n, req, &big) < 0)
				return NULL; /* what it has it knows: it stays */
			t->back = v->next;
			t->nback--;
			t->nout++;
			v->version = version_of(v->dict);
			*ret = v;
			return Py_NewRef(v->dict);
		}
		big = 0;
	}
	if (update(&t->v, e, n, req, &big) < 0)
		return NULL;
	/* a collection inside the copy may let other threads in, and they may change t or replace it */
	dict = Py_NewRef(t->v.dict);
	change = ++t->changes;
	t->nout++;
	env = PyDict_Copy(dict);
	t->nout--;
	Py_DECREF(dict);
	if (t->dead) {
		if (!t->nout)
			free(t);
	} else if (env && small && !big && t->changes == change) {
		*ret = view_of(t, env);
	}
	if (!env)
		return NULL;
	for (uint32_t i = 0; big; i++, big >>= 1)
		if (big & 1 && put(env, e[i].key, lcpy_str(e[i].val->p, e[i].val->n)) < 0)
			goto fail;
	if (req->target.n > BIGTARGET && put_target(env, req) < 0)
		goto fail;
	return env;
fail:
	Py_DECREF(env);
	return NULL;
}

/* A second field of the same name. */
static int
join(PyObject *env, const struct ent *e)
{
	PyObject *have = PyDict_GetItemWithError(env, e->key), *more, *sum;
	const char *sep = e->token == LC_TOK_COOKIE ? "; " : ",";

	if (!have)
		return -1;
	Py_INCREF(have);
	more = lcpy_str(e->val->p, e->val->n);
	sum = more ? PyUnicode_FromFormat("%U%s%U", have, sep, more) : NULL;
	Py_DECREF(have);
	Py_XDECREF(more);
	return put(env, e->key, sum);
}

static PyObject *
environ_plain(const struct ent *e, uint32_t n, uint64_t sig, const struct lc_req *req)
{
	int long_target = req->target.n > BIGTARGET, twice = 0;
	PyObject *env;

	if (set_all_fixed(&base, req) < 0 || (!long_target && set_target(&base, req) < 0))
		return NULL;
	env = PyDict_Copy(base.dict);
	if (!env)
		return NULL;
	if (long_target && put_target(env, req) < 0)
		goto fail;
	for (uint32_t i = 0; i < n; i++) {
		Py_ssize_t before = PyDict_GET_SIZE(env);
		PyObject *s = lcpy_str_cached(e[i].val->p, e[i].val->n), *had;

		had = s ? PyDict_SetDefault(env, e[i].key, s) : NULL;
		Py_XDECREF(s);
		if (!had)
			goto fail;
		if (PyDict_GET_SIZE(env) == before) {
			twice = 1;
			if (join(env, &e[i]) < 0)
				goto fail;
		}
	}
	if (!twice && n <= MAXHDR) {
		if (seen[sig % NTMPL] == sig)
			tmpl_make(e, n, sig);
		else
			seen[sig % NTMPL] = sig;
	}
	return env;
fail:
	Py_DECREF(env);
	return NULL;
}

/*
 * The key of fact number `at`, borrowed; NULL: none, the name is one that others set, or one too many.  All connections
 * of a listener have the same in the same order, so the first look is nearly always right.
 */
static PyObject *
fact_key(const struct lc_fact *f, uint32_t at)
{
	for (uint32_t k = 0; k < nfact_keys; k++) {
		uint32_t i = (at + k) % nfact_keys;

		if (fact_keys[i].n == f->name.n && memcmp(fact_keys[i].name, f->name.p, f->name.n) == 0)
			return fact_keys[i].key;
	}
	if (nfact_keys == MAXFACTS || !f->name.n || f->name.n >= sizeof(fact_keys[0].name))
		return NULL;
	memcpy(fact_keys[nfact_keys].name, f->name.p, f->name.n);
	fact_keys[nfact_keys].name[f->name.n] = '\0';
	fact_keys[nfact_keys].n = f->name.n;
	fact_keys[nfact_keys].key = NULL;
	if (!lcpy_environ_reserved(fact_keys[nfact_keys].name) &&
	    !(fact_keys[nfact_keys].key = PyUnicode_InternFromString(fact_keys[nfact_keys].name))) {
		PyErr_Clear();
		return NULL;
	}
	return fact_keys[nfact_keys++].key;
}

PyObject *
lcpy_environ(const struct lc_req *req, PyObject *input, struct lcpy_view **view)
{
	static const struct lc_str on = {"on", 2};
	struct ent small[MAXFIELDS], *e = small;
	uint64_t sig = UINT64_C(0xcbf29ce484222325);
	struct tmpl *t;
	PyObject *env = NULL;
	uint32_t n = 0, owned = 0;

	*view = NULL;
	if (req->nfields + req->nfacts >= MAXFIELDS - 1) {
		e = malloc(((size_t)req->nfields + req->nfacts + 2) * sizeof(*e));
		if (!e)
			return PyErr_NoMemory();
	}
	if (req->authority.n)
		e[n++] = (struct ent){lcpy_token_keys[LC_TOK_HOST], &req->authority, LC_TOK_HOST};
	/* mod_ssl's, by which CGI programs tell; as a key beside the header's, so that templates see to it */
	if (req->scheme.n == 5)
		e[n++] = (struct ent){k_https, &on, LC_TOK_COUNT};
	for (uint32_t i = 0; i < req->nfacts; i++) {
		PyObject *key = fact_key(&req->facts[i], i);

		if (key)
			e[n++] = (struct ent){key, &req->facts[i].value, LC_TOK_COUNT};
	}
	for (uint32_t i = 0; i < req->nfields; i++) {
		const struct lc_field *f = &req->fields[i];
		uint16_t token = f->token < LC_TOK_COUNT ? f->token : 0;
		PyObject *key = lcpy_token_keys[token];

		/* an absolute target's authority stands above Host (RFC 9112 3.2.2): `authority` is the outcome */
		if (token == LC_TOK_HOST && req->authority.n)
			continue;
		if (!token) {
			key = lcpy_key(f);
			if (!key) {
				if (PyErr_Occurred())
					goto out;
				continue;
			}
			owned = 1;
		}
		e[n++] = (struct ent){key, &f->value, token};
	}
	for (uint32_t i = 0; i < n; i++)
		sig = (sig ^ (uintptr_t)e[i].key >> 4) * UINT64_C(0x9e3779b97f4a7c15);
	sig ^= sig >> 32;
	t = tmpl_find(e, n, sig);
	env = t ? environ_adapted(t, e, n, req, view) : environ_plain(e, n, sig, req);
	if (env && input && PyDict_SetItem(env, k_input, input) < 0)
		Py_CLEAR(env);
out:
	for (uint32_t i = 0; owned && i < n; i++)
		if (!e[i].token)
			Py_DECREF(e[i].key);
	if (e != small)
		free(e);
	return env;
}

void
lcpy_environ_done(PyObject *env, struct lcpy_view *v)
{
	struct tmpl *t;

	Py_XDECREF(env);
	if (!v)
		return;
	t = v->t;
	t->nout--;
	if (Py_REFCNT(v->dict) != 1 || version_of(v->dict) != v->version) {
		t->wait = TRY_AGAIN;
	} else if (!t->dead && t->nback < MAXBACK) {
		v->next = t->back;
		t->back = v;
		t->nback++;
		return;
	}
	if (t->dead && !t->nout)
		free(t);
	view_free(v);
}

static int
base_put(const char *name, PyObject *value)
{
	PyObject *key = PyUnicode_InternFromString(name);
	int rc = key ? put(base.dict, key, value) : -1;

	Py_XDECREF(key);
	return rc;
}

int
lcpy_environ_facts(const struct lcpy_facts *facts)
{
	if (base_put("wsgi.multithread", PyBool_FromLong(facts->multithread)) < 0 ||
	    base_put("wsgi.multiprocess", PyBool_FromLong(facts->multiprocess)) < 0)
		return -1;
	return 0;
}

int
lcpy_environ_init(const struct lcpy_facts *facts, const struct lcpy_conf *conf)
{
	base.dict = PyDict_New();
	k_input = PyUnicode_InternFromString("wsgi.input");
	k_https = PyUnicode_InternFromString("HTTPS");
	s_empty = PyUnicode_New(0, 0);
	s_http = PyUnicode_InternFromString("http");
	s_https = PyUnicode_InternFromString("https");
	if (!base.dict || !k_input || !k_https || !s_empty || !s_http || !s_https)
		goto fail;
	for (int i = 0; method_names[i]; i++)
		if (!(methods[i] = PyUnicode_InternFromString(method_names[i])))
			goto fail;
	for (int i = 0; i < F_COUNT; i++) {
		fixed_key[i] = PyUnicode_InternFromString(fixed_names[i]);
		if (!fixed_key[i] || PyDict_SetItem(base.dict, fixed_key[i], s_empty) < 0)
			goto fail;
		base.val[i] = (struct val){s_empty, "", 0};
	}
	base.path_n = SIZE_MAX;
	script = conf->script_name ? (struct lc_str){conf->script_name, strlen(conf->script_name)}
				   : (struct lc_str){NULL, 0};
	for (uint64_t i = 0; i + 1 < conf->environ.n; i += 2)
		if (base_put(conf->environ.v[i], lcpy_str(conf->environ.v[i + 1], strlen(conf->environ.v[i + 1]))) < 0)
			goto fail;
	if (base_put("SCRIPT_NAME", lcpy_str(script.p, script.n)) < 0 ||
	    base_put("SERVER_SOFTWARE", PyUnicode_FromString("licorne/" LCPY_VERSION)) < 0 ||
	    base_put("GATEWAY_INTERFACE", PyUnicode_FromString("CGI/1.1")) < 0 ||
	    base_put("wsgi.version", Py_BuildValue("(ii)", 1, 0)) < 0 ||
	    base_put("wsgi.input", Py_NewRef(lcpy_input_empty())) < 0 ||
	    base_put("wsgi.errors", Py_NewRef(lcpy_errors())) < 0 || lcpy_environ_facts(facts) < 0 ||
	    base_put("wsgi.run_once", Py_NewRef(Py_False)) < 0 ||
	    base_put("wsgi.input_terminated", Py_NewRef(Py_True)) < 0 ||
	    base_put("wsgi.file_wrapper", Py_NewRef(lcpy_file_wrapper())) < 0 ||
	    base_put("wsgi.early_hints", Py_NewRef(lcpy_early_hints())) < 0 ||
	    base_put("licorne.send_trailers", Py_NewRef(lcpy_send_trailers())) < 0)
		goto fail;
	/*
	 * Copies inherit this: an environ is out of the garbage collector's sight until the application puts a
	 * container into it (PyDict_SetItem() sees to that), and without one it cannot be part of a cycle.
	 */
	PyObject_GC_UnTrack(base.dict);
	return 0;
fail:
	return -ENOMEM;
}

void
lcpy_environ_fini(void)
{
	for (uint32_t i = 0; i < NTMPL; i++) {
		tmpl_free(tmpls[i]);
		tmpls[i] = NULL;
		seen[i] = 0;
	}
	Py_CLEAR(base.dict);
	for (int i = 0; i < F_COUNT; i++)
		Py_CLEAR(fixed_key[i]);
	for (int i = 0; method_names[i]; i++)
		Py_CLEAR(methods[i]);
	for (uint32_t i = 0; i < nfact_keys; i++)
		Py_CLEAR(fact_keys[i].key);
	nfact_keys = 0;
	Py_CLEAR(k_input);
	Py_CLEAR(k_https);
	Py_CLEAR(s_empty);
	Py_CLEAR(s_http);
	Py_CLEAR(s_https);
	memset(&base, 0, sizeof(base));
}
