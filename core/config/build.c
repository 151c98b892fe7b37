/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/build.c - statements to blocks, each directive checked against its row and stored in its block.
 *
 * A name may belong to several sets: the core's own reuse some in another context (user), and modules that share code
 * have directives of the same name.  Such a directive holds for every set that allows it where it stands; inside a
 * worker or route block only the set of that block's module is asked.  In opaque mode (the arbiter, no module loaded)
 * what is not the core's is accepted unread.
 */
#include "config/conf_priv.h"

#include <licorne/module.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "log/distance.h"

#define PLACES 5u
static const struct {
	uint32_t kind;
	const char *in, *name;
} places[PLACES] = {
    {LC_C_MAIN, "at the main level", "main"}, {LC_C_POOL, "in pool", "pool"},    {LC_C_LISTEN, "in listen", "listen"},
    {LC_C_WORKER, "in worker", "worker"},     {LC_C_ROUTE, "in route", "route"},
};

const char *
lc__kind_name(uint32_t kind)
{
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].kind == kind)
			return places[i].name;
	return "?";
}

const char *
lc__contexts(char *buf, size_t n, uint32_t bits)
{
	size_t at = 0;

	*buf = 0;
	for (size_t i = 0; i < PLACES; i++)
		if ((bits & places[i].kind) && at < n)
			at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? " or " : "", places[i].in);
	return buf;
}

static const char *
in_kind(uint32_t kind)
{
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].kind == kind)
			return places[i].in;
	return "?";
}

static uint32_t
kind_index(uint32_t kind)
{
	return (uint32_t)__builtin_ctz(kind);
}

/* The module that a block is for; NULL: any set. */
static const char *
block_owner(const struct lc__blk *b)
{
	if (b->pub.kind == LC_C_WORKER)
		return b->pub.name;
	if (b->pub.kind == LC_C_ROUTE)
		return b->pub.nargs ? b->pub.args[0] : "";
	return NULL;
}

int
lc__set_is_here(const struct lc__set *set, const struct lc__blk *b)
{
	const char *owner = block_owner(b);
	return !owner || !strcmp(owner, set->ds->owner);
}

/* What follows from a module that is not there is not worth saying. */
static void
module_failed(struct lc__load *ld, const char *what)
{
	const char *base = strrchr(what, '/');
	struct lc__stmt *f = lc__alloc(&ld->conf->arena, sizeof(*f));
	size_t n;

	base = base ? base + 1 : what;
	n = strlen(base);
	if (n > 3 && !strcmp(base + n - 3, ".so"))
		n -= 3;
	f->name = lc__strndup(&ld->conf->arena, base, n);
	f->child = ld->failed;
	ld->failed = f;
}

static int
has_failed(const struct lc__load *ld, const char *name)
{
	for (const struct lc__stmt *f = ld->failed; f; f = f->child)
		if (!strcmp(f->name, name))
			return 1;
	return 0;
}

/* ---- names ---- */

static const struct lc_directive *
syntax_find(const char *name)
{
	for (uint32_t i = 0; i < lc_core_syntax.nrows; i++)
		if (!strcmp(lc_core_syntax.rows[i].name, name))
			return &lc_core_syntax.rows[i];
	return NULL;
}

static const struct lc_directive *
row_find(const struct lc__set *set, const char *name)
{
	for (uint32_t i = 0; i < set->nrows; i++)
		if (!strcmp(set->rows[i].name, name))
			return &set->rows[i];
	return NULL;
}

struct nearest {
	const char *word, *name;
	unsigned best;
};

static void
nearest_try(struct nearest *n, const char *name)
{
	unsigned d = lc_distance(n->word, strlen(n->word), name, n->best);

	if (d < n->best) {
		n->best = d;
		n->name = name;
	}
}

static struct nearest
nearest_for(const char *word)
{
	size_t len = strlen(word);
	/* one slip in three letters, at most three */
	return (struct nearest){.word = word, .best = (len < 6 ? len < 3 ? 0 : 1 : len < 9 ? 2 : 3) + 1};
}

static void
unknown(struct lc__load *ld, const struct lc__blk *b, const struct lc__stmt *st)
{
	struct lc_conf *conf = ld->conf;
	struct nearest n = nearest_for(st->name);
	const char *owner, *hint = lc__hint_directive(st->name);

	for (int here = 1; here >= 0 && !n.name; here--) { /* names that could stand here are preferred */
		for (uint32_t i = 0; i < lc_core_syntax.nrows; i++)
			if (!here || (lc_core_syntax.rows[i].context & b->pub.kind))
				nearest_try(&n, lc_core_syntax.rows[i].name);
		for (uint32_t s = 0; s < conf->nsets; s++)
			for (uint32_t i = 0; i < conf->sets[s].nrows; i++)
				if (!here || ((conf->sets[s].rows[i].context & b->pub.kind) &&
					      lc__set_is_here(&conf->sets[s], b)))
					nearest_try(&n, conf->sets[s].rows[i].name);
	}
	owner = ld->opts->whose ? ld->opts->whose(ld->opts->arg, st->name) : NULL;
	if (owner && *owner && has_failed(ld, owner))
		return;
	if (owner && *owner && block_owner(b))
		lc_err_add(ld->err, st->file, st->line,
			   "unknown directive \"%s\" %s %s, expected one of its own; it belongs to module %s",
			   lc__shown(ld, st->name), in_kind(b->pub.kind), lc__shown(ld, b->pub.name), owner);
	else if (owner && *owner)
		lc_err_add(ld->err, st->file, st->line, "\"%s\" belongs to module %s; add: load_module %s;",
			   lc__shown(ld, st->name), owner, owner);
	else if (hint)
		lc_err_add(ld->err, st->file, st->line, "unknown directive \"%s\": %s", lc__shown(ld, st->name), hint);
	else if (ld->failed && !n.name)
		return; /* likely one of the module that could not be loaded */
	else if (n.name)
		lc_err_add(ld->err, st->file, st->line, "unknown directive \"%s\", did you mean \"%s\"?",
			   lc__shown(ld, st->name), n.name);
	else
		lc_err_add(ld->err, st->file, st->line, "unknown directive \"%s\", expected one that is allowed %s",
			   lc__shown(ld, st->name), in_kind(b->pub.kind));
}

static void
not_here(struct lc__load *ld, const struct lc__blk *b, const struct lc__stmt *st, uint32_t bits, const char *owner)
{
	char where[128];

	if (ld->unbalanced)
		return; /* a brace too many or too few: where it stands says nothing */
	lc__contexts(where, sizeof(where), bits);
	if (owner && (bits & b->pub.kind))
		lc_err_add(ld->err, st->file, st->line, "\"%s\" is not allowed %s %s, expected %s of module %s",
			   lc__shown(ld, st->name), in_kind(b->pub.kind), lc__shown(ld, b->pub.name), where, owner);
	else
		lc_err_add(ld->err, st->file, st->line, "\"%s\" is not allowed %s, expected %s",
			   lc__shown(ld, st->name), in_kind(b->pub.kind), where);
}

/* ---- values ---- */

static struct lc__vals *
own_vals(struct lc__load *ld, struct lc__blk *b, uint32_t s)
{
	struct lc__vals *v = &b->vals[s];
	const struct lc__set *set = &ld->conf->sets[s];

	if (!v->conf) {
		v->conf = lc__alloc(&ld->conf->arena, set->ds->conf_size + 1);
		v->org = lc__alloc(&ld->conf->arena, (set->nrows + 1) * sizeof(*v->org));
	}
	return v;
}

static void
store(struct lc__load *ld, struct lc__blk *b, uint32_t s, const struct lc_directive *row, const struct lc__stmt *st)
{
	struct lc__vals *v = own_vals(ld, b, s);
	struct lc__org *org = &v->org[row - ld->conf->sets[s].rows];
	char why[512];

	if (org->from == LC__HERE && row->type != LC_T_LIST && row->type != LC_T_PAIRS && row->type != LC_T_LINES) {
		lc_err_add(ld->err, st->file, st->line, "\"%s\" is set twice, expected once; first at %s:%u", row->name,
			   lc__shown(ld, org->file), org->line);
		return;
	}
	if (org->from != LC__HERE)
		*org = (struct lc__org){.file = st->file, .line = st->line, .from = LC__HERE};
	if (!st->bad && st->has_block)
		lc_err_add(ld->err, st->file, st->line, "\"%s\" has a block, expected: %s %s;", row->name, row->name,
			   row->args ? row->args : "...");
	else if (!st->bad && lc__value_parse(&ld->conf->arena, row, ld->conf->prefix, st->args, st->nargs,
					     v->conf + row->offset, why, sizeof(why)) == 0)
		return;
	else if (!st->bad && st->last_line > st->line)
		lc_err_add(ld->err, st->file, st->line, "%s: %s (is a \";\" missing before line %u?)", row->name, why,
			   st->line + 1);
	else if (!st->bad)
		lc_err_add(ld->err, st->file, st->line, "%s: %s", row->name, why);
	/* it counts as set, and checks that still run see something sane */
	memcpy(v->conf + row->offset, ld->conf->sets[s].defaults + row->offset, lc__value_size(row->type));
}

static void
directive(struct lc__load *ld, struct lc__blk *b, const struct lc__stmt *st)
{
	struct lc_conf *conf = ld->conf;
	const char *owner = NULL;
	uint32_t bits = 0;
	int found = 0;

	for (uint32_t s = 0; s < conf->nsets; s++) {
		const struct lc_directive *row = row_find(&conf->sets[s], st->name);
		if (!row)
			continue;
		bits |= row->context;
		if (!lc__set_is_here(&conf->sets[s], b)) {
			owner = conf->sets[s].ds->owner;
			continue;
		}
		if (!(row->context & b->pub.kind))
			continue;
		store(ld, b, s, row, st);
		found = 1;
	}
	if (found)
		return;
	if (bits)
		not_here(ld, b, st, bits, owner);
	else if (!conf->opaque)
		unknown(ld, b, st);
}

/* ---- blocks ---- */

static struct lc__blk *
block_new(struct lc__load *ld, struct lc__blk *parent, uint32_t kind, const struct lc__stmt *st)
{
	struct lc__blk *b;

	if (ld->conf->nblocks == LC__BLOCKS_MAX) {
		lc_err_add(ld->err, st->file, st->line, "too many blocks, expected at most %u", LC__BLOCKS_MAX);
		ld->limit = 1;
		return NULL;
	}
	ld->conf->nblocks++;
	b = lc__alloc(&ld->conf->arena, sizeof(*b));
	b->stmt = st;
	b->bad = st && st->bad;
	b->pub.kind = kind;
	b->pub.priv = b;
	if (st) {
		b->pub.file = st->file;
		b->pub.line = st->line;
		b->pub.name = st->nargs ? st->args[0] : "";
		b->pub.nargs = st->nargs ? st->nargs - 1 : 0;
		b->pub.args = st->nargs ? st->args + 1 : NULL;
	}
	if (parent) {
		struct lc_block **tail = &parent->pub.child;
		while (*tail)
			tail = &(*tail)->next;
		*tail = &b->pub;
		b->pub.parent = &parent->pub;
		b->pub.index = parent->counts[kind_index(kind)]++;
	}
	return b;
}

static const struct lc__set *
set_find(const struct lc_conf *conf, const char *owner)
{
	for (uint32_t s = 0; s < conf->nsets; s++)
		if (conf->sets[s].stmt && !strcmp(conf->sets[s].ds->owner, owner))
			return &conf->sets[s];
	return NULL;
}

/* A module named by a directive has to be loaded and to offer the interface. */
static void
want_module(struct lc__load *ld, const struct lc__stmt *st, const char *name, uint32_t kind, const char *what)
{
	const struct lc__set *set = set_find(ld->conf, name);
	struct nearest n = nearest_for(name);

	if (ld->conf->opaque || st->bad)
		return;
	if (!set && has_failed(ld, name))
		return; /* reported where it was to be loaded */
	if (!set) {
		for (uint32_t s = 0; s < ld->conf->nsets; s++)
			if (ld->conf->sets[s].stmt)
				nearest_try(&n, ld->conf->sets[s].ds->owner);
		if (n.name)
			lc_err_add(ld->err, st->file, st->line, "%s: no module \"%s\" is loaded, did you mean \"%s\"?",
				   st->name, lc__shown(ld, name), n.name);
		else
			lc_err_add(ld->err, st->file, st->line,
				   "%s: no module \"%s\" is loaded, expected before it: load_module %s;", st->name,
				   lc__shown(ld, name), lc__shown(ld, name));
		return;
	}
	if (set->ds->kinds && !(set->ds->kinds & 1u << kind))
		lc_err_add(ld->err, st->file, st->line, "%s: module \"%s\" offers no %s, expected one that does",
			   st->name, name, what);
}

static int
head_is(struct lc__load *ld, const struct lc__stmt *st, uint32_t min, uint32_t max)
{
	const struct lc_directive *row = syntax_find(st->name);

	if (st->bad)
		return 1;
	if (st->nargs >= min && st->nargs <= max)
		return 1;
	lc_err_add(ld->err, st->file, st->line, "%s: %u argument%s, expected: %s %s%s", st->name, st->nargs,
		   st->nargs == 1 ? "" : "s", st->name, row->args,
		   st->last_line > st->line ? " (is a \";\" or \"{\" missing?)" : "");
	return 0;
}

static void fill(struct lc__load *, struct lc__blk *, const struct lc__stmt *list);

static void
pool(struct lc__load *ld, struct lc__blk *parent, const struct lc__stmt *st)
{
	struct lc__blk *b = block_new(ld, parent, LC_C_POOL, st);

	if (!b)
		return;
	if (!head_is(ld, st, 1, 1)) {
		b->bad = 1;
	} else if (!st->bad) {
		const char *name = b->pub.name;
		size_t n = strlen(name);
		if (!n || n > 64 ||
		    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != n)
			lc_err_add(ld->err, st->file, st->line,
				   "pool: \"%s\" is no name, expected 1 to 64 letters, digits, \"_\", \"-\" and \".\"",
				   lc__shown(ld, name));
		for (const struct lc_block *o = parent->pub.child; o && o != &b->pub; o = o->next)
			if (o->kind == LC_C_POOL && !strcmp(o->name, name)) {
				lc_err_add(ld->err, st->file, st->line,
					   "pool \"%s\" is there twice, expected another name; first at %s:%u",
					   lc__shown(ld, name), lc__shown(ld, o->file), o->line);
				break;
			}
	}
	if (!st->has_block && !st->bad) {
		lc_err_add(ld->err, st->file, st->line, "pool has no block, expected: pool NAME { ... }");
		b->bad = 1;
	}
	fill(ld, b, st->child);
}

/* Is it the same address?  Port 0 is another one each time. */
static int
same_address(const struct lc_addr *a, const char *at, const struct lc_addr *b, const char *bt)
{
	if (!a->len || !b->len) /* host names are not looked up */
		return !strcmp(at, bt) && (strlen(at) < 2 || strcmp(at + strlen(at) - 2, ":0"));
	if (a->len != b->len || memcmp(a->sa.raw, b->sa.raw, a->len))
		return 0;
	return a->family == AF_UNIX || a->sa.raw[2] || a->sa.raw[3];
}

/* A word behind an address: 0, or -1 when it is the begin of another statement, which was said. */
static int
listen_word(struct lc__load *ld, const struct lc__stmt *st, const char *word)
{
	const char *hint = lc__hint_listen(word); /* "backlog=511" is nginx's, "backlog" begins a directive */
	const void *is = syntax_find(word);

	for (uint32_t s = 0; s < ld->conf->nsets && !is; s++)
		is = row_find(&ld->conf->sets[s], word);
	if (ld->conf->opaque || st->bad || set_find(ld->conf, word) || (!hint && !is)) {
		want_module(ld, st, word, LC_KIND_TRANSPORT, "transport");
		return 0;
	}
	if (hint && !is) {
		lc_err_add(ld->err, st->file, st->line, "listen: \"%s\" is no transport: %s", lc__shown(ld, word),
			   hint);
		return 0;
	}
	lc_err_add(ld->err, st->file, st->line, "listen: \"%s\" is no transport, is a \";\" missing before it?",
		   lc__shown(ld, word));
	return -1;
}

static void
listen_block(struct lc__load *ld, struct lc__blk *parent, const struct lc__stmt *st)
{
	struct lc__blk *b = block_new(ld, parent, LC_C_LISTEN, st);
	struct lc_addr addr = {0}, other;
	const char *why;

	if (!b)
		return;
	if (!head_is(ld, st, 1, LC__ARGS_MAX)) {
		b->bad = 1;
	} else if (!st->bad) {
		if (!strncmp(b->pub.name, "unix:", 5) && b->pub.name[5] && b->pub.name[5] != '/' &&
		    b->pub.name[5] != '@')
			b->pub.name = lc__printf(&ld->conf->arena, "unix:%s",
						 lc__path_join(&ld->conf->arena, ld->conf->prefix, b->pub.name + 5));
		if (lc__addr_numeric(&addr, b->pub.name, &why) < 0) {
			lc_err_add(ld->err, st->file, st->line, "listen: \"%s\": %s", lc__shown(ld, b->pub.name), why);
			b->bad = 1;
		}
		for (uint32_t i = 0; i < b->pub.nargs; i++)
			if (listen_word(ld, st, b->pub.args[i]) < 0) {
				b->bad = parent->bad = 1; /* what it swallowed is not missing */
				return;
			}
	}
	for (const struct lc_block *p = ld->conf->root->pub.child; p && !b->bad; p = p->next)
		for (const struct lc_block *l = p->child; l && l != &b->pub; l = l->next) {
			if (l->kind != LC_C_LISTEN || ((struct lc__blk *)l->priv)->bad)
				continue;
			memset(&other, 0, sizeof(other));
			if (lc__addr_numeric(&other, l->name, &why) < 0 ||
			    !same_address(&addr, b->pub.name, &other, l->name))
				continue;
			lc_err_add(ld->err, st->file, st->line,
				   "listen: address \"%s\" is there twice, expected once; first at %s:%u",
				   lc__shown(ld, b->pub.name), lc__shown(ld, l->file), l->line);
			b->bad = 1;
			break;
		}
	fill(ld, b, st->child);
}

static void
worker(struct lc__load *ld, struct lc__blk *parent, const struct lc__stmt *st)
{
	struct lc__blk *b = block_new(ld, parent, LC_C_WORKER, st);

	if (!b)
		return;
	if (!head_is(ld, st, 1, 1))
		b->bad = 1;
	else
		want_module(ld, st, b->pub.name, LC_KIND_WORKER, "worker");
	for (const struct lc_block *o = parent->pub.child; o && o != &b->pub; o = o->next)
		if (o->kind == LC_C_WORKER) {
			lc_err_add(ld->err, st->file, st->line,
				   "\"worker\" is there twice, expected one per pool; first at %s:%u",
				   lc__shown(ld, o->file), o->line);
			break;
		}
	if (ld->conf->opaque || (!b->bad && !set_find(ld->conf, b->pub.name)))
		return; /* nothing is known about what stands in it */
	fill(ld, b, st->child);
}

/* Would it never fit?  What was expected of it, or NULL. */
static const char *
prefix_wrong(const char *p)
{
	if (*p != '/')
		return "to start with \"/\"";
	for (; *p; p++) {
		if (*p == '?')
			return "without \"?\": a query is not looked at";
		if (*p == '%' && strspn(p + 1, "0123456789abcdefABCDEF") >= 2)
			return "decoded: paths are compared after \"%XX\" was";
		if (*p != '/')
			continue;
		if (p[1] == '/')
			return "without \"//\": paths are compared after slashes were merged";
		size_t dots = strspn(p + 1, ".");
		if ((dots == 1 || dots == 2) && p[1 + dots] == '/')
			return "without \".\" and \"..\": paths are compared after they were resolved";
	}
	return NULL;
}

static void
route(struct lc__load *ld, struct lc__blk *parent, const struct lc__stmt *st)
{
	struct lc__blk *b = block_new(ld, parent, LC_C_ROUTE, st);

	if (!b)
		return;
	if (!head_is(ld, st, 2, 2)) {
		b->bad = 1;
	} else if (!st->bad) {
		const char *why = prefix_wrong(b->pub.name);
		if (why)
			lc_err_add(ld->err, st->file, st->line, "route: \"%s\" is no prefix, expected it %s",
				   lc__shown(ld, b->pub.name), why);
		want_module(ld, st, b->pub.args[0], LC_KIND_HANDLER, "handler");
		for (const struct lc_block *o = parent->pub.child; o && o != &b->pub; o = o->next)
			if (o->kind == LC_C_ROUTE && !strcmp(o->name, b->pub.name)) {
				lc_err_add(ld->err, st->file, st->line,
					   "route \"%s\" is there twice, expected once; first at %s:%u",
					   lc__shown(ld, b->pub.name), lc__shown(ld, o->file), o->line);
				break;
			}
	}
	if (ld->conf->opaque || (!b->bad && !set_find(ld->conf, b->pub.args[0])))
		return;
	fill(ld, b, st->child);
}

/* ---- modules ---- */

/* Does the core have a directive of this name in one of these contexts? */
static int
core_has(const struct lc_conf *conf, const struct lc_directive *row)
{
	const struct lc_directive *own = syntax_find(row->name);

	for (uint32_t s = 0; s < 3 && !own; s++) {
		own = row_find(&conf->sets[s], row->name);
		if (own && !(own->context & row->context))
			own = NULL;
	}
	return own != NULL;
}

static void
set_add(struct lc__load *ld, const struct lc_dirset *ds, const struct lc__stmt *st)
{
	struct lc_conf *conf = ld->conf;
	struct lc__set *set = &conf->sets[conf->nsets];
	char msg[512];

	set->ds = ds;
	set->stmt = st;
	set->nrows = ds->nrows;
	set->contexts = 0;
	set->rows = lc__alloc(&conf->arena, (ds->nrows + 1) * sizeof(*set->rows));
	set->defaults = lc__alloc(&conf->arena, ds->conf_size + 1);
	for (uint32_t i = 0; i < ds->nrows; i++) {
		struct lc_directive *row = &set->rows[i];
		lc__row_get(ds, i, row);
		set->contexts |= row->context;
		if (st && core_has(conf, row)) {
			lc_err_add(ld->err, st->file, st->line,
				   "module \"%s\" has a directive \"%s\" as the core does, expected another module or "
				   "another licorne",
				   ds->owner, row->name);
			return;
		}
		if (lc__value_default(&conf->arena, row, conf->prefix, set->defaults + row->offset, msg, sizeof(msg)) <
		    0) {
			lc_err_add(ld->err, st ? st->file : NULL, st ? st->line : 0,
				   "module \"%s\": the default of \"%s\" is wrong: %s", ds->owner, row->name, msg);
			return;
		}
	}
	conf->nsets++;
}

static void
load_module(struct lc__load *ld, const struct lc__stmt *st)
{
	const struct lc_dirset *ds = NULL;
	const char *what;
	char msg[512];
	uint32_t errors;

	if (st->bad)
		return;
	if (st->nargs != 1 || st->has_block) {
		lc_err_add(ld->err, st->file, st->line,
			   "load_module has %u arguments%s, expected: load_module NAME | PATH;%s", st->nargs,
			   st->has_block ? " and a block" : "",
			   st->last_line > st->line ? " (is a \";\" missing?)" : "");
		for (uint32_t i = 0; i < st->nargs; i++)
			module_failed(ld, st->args[i]);
		return;
	}
	if (ld->conf->opaque)
		return;
	if (!ld->opts->load_module) {
		lc_err_add(ld->err, st->file, st->line, "modules cannot be loaded here, expected no load_module");
		return;
	}
	what = st->args[0];
	if (strchr(what, '/'))
		what = lc__path_join(&ld->conf->arena, ld->conf->prefix, what);
	errors = lc_err_count(ld->err);
	if (ld->opts->load_module(ld->opts->arg, what, st->file, st->line, ld->err, &ds) < 0 || !ds) {
		module_failed(ld, what);
		if (lc_err_count(ld->err) == errors)
			lc_err_add(ld->err, st->file, st->line, "module \"%s\" cannot be loaded, expected a module",
				   lc__shown(ld, what));
		return;
	}
	for (uint32_t s = 0; s < ld->conf->nsets; s++)
		if (ld->conf->sets[s].stmt && !strcmp(ld->conf->sets[s].ds->owner, ds->owner)) {
			lc_err_add(ld->err, st->file, st->line,
				   "module \"%s\" is loaded twice, expected once; first at %s:%u", ds->owner,
				   lc__shown(ld, ld->conf->sets[s].stmt->file), ld->conf->sets[s].stmt->line);
			return;
		}
	if (ld->conf->nsets == LC__SETS_MAX) {
		lc_err_add(ld->err, st->file, st->line, "too many modules, expected at most %u", LC__SETS_MAX - 3);
		return;
	}
	if (lc_dirset_check(ds, msg, sizeof(msg)) < 0) {
		lc_err_add(ld->err, st->file, st->line, "module \"%s\": %s, expected a module that is built right",
			   lc__shown(ld, what), msg);
		return;
	}
	set_add(ld, ds, st);
}

/* ---- all ---- */

static void
fill(struct lc__load *ld, struct lc__blk *b, const struct lc__stmt *list)
{
	for (const struct lc__stmt *st = list; st && !ld->limit; st = st->next) {
		const struct lc_directive *row = syntax_find(st->name);
		if (!strcmp(st->name, "{"))
			continue;
		if (!row) {
			if (st->bad && !st->name[0])
				continue;
			directive(ld, b, st);
			continue;
		}
		if (!(row->context & b->pub.kind)) {
			not_here(ld, b, st, row->context, NULL);
			continue;
		}
		switch (*row->name) {
		case 'p':
			pool(ld, b, st);
			break;
		case 'r':
			route(ld, b, st);
			break;
		case 'w':
			worker(ld, b, st);
			break;
		default:
			if (!strcmp(row->name, "listen"))
				listen_block(ld, b, st);
			else
				load_module(ld, st);
		}
	}
}

void
lc__build(struct lc__load *ld)
{
	struct lc_conf *conf = ld->conf;

	set_add(ld, &lc_core_main, NULL);
	set_add(ld, &lc_core_pool, NULL);
	set_add(ld, &lc_core_listen, NULL);
	conf->root = block_new(ld, NULL, LC_C_MAIN, NULL);
	conf->root->pub.file = conf->name;
	conf->root->pub.line = 1;
	conf->root->pub.name = "";
	fill(ld, conf->root, conf->stmts);
}
