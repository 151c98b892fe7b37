/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/value.c - words to the member that a row describes, and what a row must be like.
 *
 * Defaults are text and go the same way, so that the documentation, the dump and the behaviour cannot differ.
 */
#include "config/conf_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONF_SIZE_MAX 65536u
#define ROWS_MAX 1024u

static const struct {
	const char *name;
	uint8_t size, align;
} types[] = {
    [LC_T_FLAG] = {"flag", sizeof(uint8_t), _Alignof(uint8_t)},
    [LC_T_UINT] = {"number", sizeof(uint64_t), _Alignof(uint64_t)},
    [LC_T_SIZE] = {"size", sizeof(uint64_t), _Alignof(uint64_t)},
    [LC_T_MSEC] = {"time", sizeof(uint64_t), _Alignof(uint64_t)},
    [LC_T_STR] = {"string", sizeof(char *), _Alignof(char *)},
    [LC_T_PATH] = {"path", sizeof(char *), _Alignof(char *)},
    [LC_T_ENUM] = {"choice", sizeof(uint64_t), _Alignof(uint64_t)},
    [LC_T_LIST] = {"list", sizeof(struct lc_list), _Alignof(struct lc_list)},
    [LC_T_PAIRS] = {"pairs", sizeof(struct lc_list), _Alignof(struct lc_list)},
    [LC_T_MSEC2] = {"two times", sizeof(struct lc_msec2), _Alignof(struct lc_msec2)},
    [LC_T_BLOCK] = {"block", 0, 1},
    [LC_T_CUSTOM] = {"words", sizeof(struct lc_list), _Alignof(struct lc_list)},
    [LC_T_LINES] = {"lines", sizeof(struct lc_list), _Alignof(struct lc_list)},
};

size_t
lc__value_size(uint32_t type)
{
	return type < sizeof(types) / sizeof(types[0]) ? types[type].size : 0;
}

size_t
lc__value_align(uint32_t type)
{
	return types[type].align;
}

const char *
lc__type_name(uint32_t type)
{
	return type < sizeof(types) / sizeof(types[0]) && types[type].name ? types[type].name : "unknown";
}

void
lc__row_get(const struct lc_dirset *ds, uint32_t i, struct lc_directive *ret)
{
	size_t stride = ds->stride ? ds->stride : sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	memcpy(ret, (const char *)ds->rows + i * stride, stride < sizeof(*ret) ? stride : sizeof(*ret));
}

/* ---- units ---- */

static const struct unit {
	const char *name;
	uint64_t factor;
} size_units[] = {{"g", 1u << 30}, {"m", 1u << 20}, {"k", 1u << 10}, {"", 1}, {NULL, 0}},
  msec_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000}, {NULL, 0}};

/* 0, -EINVAL (not such a number), -ERANGE */
static int
number(const char *s, unsigned base, const struct unit *units, uint64_t *ret)
{
	const char *p = s;
	uint64_t v = 0;

	for (; *p >= '0' && *p < (char)('0' + base); p++) {
		if (v > (INT64_MAX - (uint64_t)(*p - '0')) / base)
			return -ERANGE;
		v = v * base + (uint64_t)(*p - '0');
	}
	if (p == s)
		return -EINVAL;
	if (!units) {
		*ret = v;
		return *p ? -EINVAL : 0;
	}
	for (; units->name; units++)
		if (!strcasecmp(p, units->name)) {
			if (v > INT64_MAX / units->factor)
				return -ERANGE;
			*ret = v * units->factor;
			return 0;
		}
	return -EINVAL;
}

void
lc__size_print(char *buf, size_t n, uint64_t v)
{
	for (const struct unit *u = size_units;; u++)
		if (v % u->factor == 0 && (v || u->factor == 1)) {
			snprintf(buf, n, "%llu%s", (unsigned long long)(v / u->factor), u->name);
			return;
		}
}

void
lc__msec_print(char *buf, size_t n, uint64_t v)
{
	for (const struct unit *u = msec_units;; u++) /* down to seconds only: 24h says more than 1d */
		if (u->factor <= 3600000 && (v % u->factor == 0 && (v || u->factor == 1000))) {
			snprintf(buf, n, "%llu%s", (unsigned long long)(v / u->factor), u->name);
			return;
		}
}

static void
value_print(char *buf, size_t n, const struct lc_directive *row, uint64_t v)
{
	switch (row->type) {
	case LC_T_SIZE:
		lc__size_print(buf, n, v);
		break;
	case LC_T_MSEC:
	case LC_T_MSEC2:
		lc__msec_print(buf, n, v);
		break;
	default:
		snprintf(buf, n, row->flags & LC_D_OCTAL ? "%04llo" : "%llu", (unsigned long long)v);
	}
}

/* "1 to 1024"; "" when the row has no range */
void
lc_directive_range(const struct lc_directive *row, char *buf, size_t n)
{
	const struct lc_range *r = row->aux;
	char min[32], max[32];

	*buf = 0;
	if (!r ||
	    (row->type != LC_T_UINT && row->type != LC_T_SIZE && row->type != LC_T_MSEC && row->type != LC_T_MSEC2))
		return;
	value_print(min, sizeof(min), row, r->min);
	value_print(max, sizeof(max), row, r->max);
	snprintf(buf, n, "%s to %s", min, max);
}

/* ---- words to values ---- */

/* "\"abc\" is not a size, expected ...", in range terms where the row has one */
static int
refuse(const struct lc_directive *row, const char *word, const char *is, char *msg, size_t msgsize)
{
	static const char *const forms[] = {
	    [LC_T_UINT] = "a number",
	    [LC_T_SIZE] = "a size such as 512, 64k, 1m or 1g",
	    [LC_T_MSEC] = "a time such as 100ms, 30s, 5m, 1h or 1d",
	    [LC_T_MSEC2] = "a time such as 100ms, 30s, 5m, 1h or 1d",
	};
	const char *form = row->flags & LC_D_OCTAL ? "an octal number" : forms[row->type];
	char range[80];

	lc_directive_range(row, range, sizeof(range));
	snprintf(msg, msgsize, "\"%.80s\" is %s, expected %s%s%s", word, is, form, *range ? ", " : "", range);
	return -EINVAL;
}

static int
one_number(const struct lc_directive *row, const char *word, uint64_t *ret, char *msg, size_t msgsize)
{
	const struct lc_range *range = row->aux;
	uint64_t v;
	int r = 0;

	switch (row->type) {
	case LC_T_SIZE:
		r = number(word, 10, size_units, &v);
		break;
	case LC_T_MSEC:
	case LC_T_MSEC2:
		r = number(word, 10, msec_units, &v);
		break;
	default:
		r = number(word, row->flags & LC_D_OCTAL ? 8 : 10, NULL, &v);
	}
	if (r == -EINVAL)
		return refuse(row, word,
			      row->type == LC_T_SIZE   ? "no size"
			      : row->type == LC_T_UINT ? "no number"
						       : "no time",
			      msg, msgsize);
	if (r == -ERANGE || (range && (v < range->min || v > range->max)))
		return refuse(row, word, "out of range", msg, msgsize);
	*ret = v;
	return 0;
}

static void
list_append(struct lc__arena *a, struct lc_list *l, const char *const *argv, uint32_t argc)
{
	const char **v = lc__alloc(a, (l->n + argc) * sizeof(*v));

	if (l->n)
		memcpy(v, l->v, l->n * sizeof(*v));
	memcpy(v + l->n, argv, argc * sizeof(*v));
	l->v = v;
	l->n += argc;
}

static const struct lc_enum *
enum_find(const struct lc_enum *e, const char *word)
{
	for (; e && e->name; e++)
		if (!strcmp(e->name, word))
			return e;
	return NULL;
}

static int
wrong_count(const struct lc_directive *row, uint32_t argc, char *msg, size_t msgsize)
{
	static const char *const usual[] = {
	    [LC_T_FLAG] = "on | off",    [LC_T_UINT] = "NUMBER",   [LC_T_SIZE] = "SIZE",   [LC_T_MSEC] = "TIME",
	    [LC_T_STR] = "STRING",       [LC_T_PATH] = "PATH",     [LC_T_ENUM] = "CHOICE", [LC_T_LIST] = "WORD ...",
	    [LC_T_PAIRS] = "NAME VALUE", [LC_T_MSEC2] = "MIN MAX", [LC_T_BLOCK] = "...",   [LC_T_CUSTOM] = "WORD ...",
	    [LC_T_LINES] = "WORD ...",
	};

	snprintf(msg, msgsize, "%u argument%s, expected: %s %s;", argc, argc == 1 ? "" : "s", row->name,
		 row->args ? row->args : usual[row->type]);
	return -EINVAL;
}

/* One more line of a LINES member. */
static int
add_line(struct lc__arena *a, const struct lc_directive *row, const char *prefix, const char *const *argv,
	 uint32_t argc, struct lc_list *l, char *msg, size_t msgsize)
{
	const struct lc_lines *how = row->aux;
	const char **v = lc__alloc(a, (argc + 1) * sizeof(*v));

	if (argc < how->min || argc > how->max)
		return wrong_count(row, argc, msg, msgsize);
	if (how->check && how->check(argv, argc, msg, msgsize) < 0)
		return -EINVAL;
	memcpy(v, argv, argc * sizeof(*v));
	if (how->path && !enum_find(how->words, v[0]))
		v[0] = lc__path_join(a, prefix, v[0]);
	list_append(a, l, v, argc + 1);
	return 0;
}

int
lc__value_parse(struct lc__arena *a, const struct lc_directive *row, const char *prefix, const char *const *argv,
		uint32_t argc, void *member, char *msg, size_t msgsize)
{
	uint64_t *u = member;
	const char **s = member;
	struct lc_list *l = member;
	const struct lc_enum *e;

	switch (row->type) {
	case LC_T_PAIRS:
	case LC_T_MSEC2:
		if (argc != 2)
			return wrong_count(row, argc, msg, msgsize);
		break;
	case LC_T_LINES:
		break;
	case LC_T_LIST:
	case LC_T_CUSTOM:
		if (!argc)
			return wrong_count(row, argc, msg, msgsize);
		break;
	default:
		if (argc != 1)
			return wrong_count(row, argc, msg, msgsize);
	}
	switch (row->type) {
	case LC_T_FLAG:
		if (strcmp(argv[0], "on") && strcmp(argv[0], "off")) {
			snprintf(msg, msgsize, "\"%.80s\" is neither, expected on or off", argv[0]);
			return -EINVAL;
		}
		*(uint8_t *)member = !strcmp(argv[0], "on");
		return 0;
	case LC_T_UINT:
	case LC_T_SIZE:
	case LC_T_MSEC:
		return one_number(row, argv[0], u, msg, msgsize);
	case LC_T_STR:
		*s = lc__strdup(a, argv[0]);
		return 0;
	case LC_T_PATH:
		if (!*argv[0]) {
			snprintf(msg, msgsize, "the path is empty, expected a path");
			return -EINVAL;
		}
		*s = enum_find(row->aux, argv[0]) ? lc__strdup(a, argv[0]) : lc__path_join(a, prefix, argv[0]);
		return 0;
	case LC_T_ENUM:
		e = enum_find(row->aux, argv[0]);
		if (!e) {
			int n = snprintf(msg, msgsize, "\"%.80s\" is not known, expected one of", argv[0]);
			for (e = row->aux; e && e->name && n > 0 && (size_t)n < msgsize; e++)
				n += snprintf(msg + n, msgsize - (size_t)n, "%s %s", e == row->aux ? "" : ",", e->name);
			return -EINVAL;
		}
		*u = e->value;
		return 0;
	case LC_T_LIST:
	case LC_T_PAIRS:
	case LC_T_CUSTOM:
	case LC_T_LINES:
		if (l->n + argc + (row->type == LC_T_LINES) > LC__LIST_MAX) {
			snprintf(msg, msgsize, "the list is too long, expected at most %u words", LC__LIST_MAX);
			return -EINVAL;
		}
		if (row->type == LC_T_LINES)
			return add_line(a, row, prefix, argv, argc, l, msg, msgsize);
		list_append(a, l, argv, argc);
		for (uint64_t i = l->n - argc; row->flags & LC_D_FILE && i < l->n; i++)
			((const char **)(uintptr_t)l->v)[i] = lc__path_join(a, prefix, l->v[i]);
		return 0;
	case LC_T_MSEC2: {
		struct lc_msec2 v;
		if (one_number(row, argv[0], &v.min, msg, msgsize) || one_number(row, argv[1], &v.max, msg, msgsize))
			return -EINVAL;
		if (v.min > v.max) {
			snprintf(msg, msgsize, "\"%.40s\" is more than \"%.40s\", expected MIN MAX, the smaller first",
				 argv[0], argv[1]);
			return -EINVAL;
		}
		*(struct lc_msec2 *)member = v;
		return 0;
	}
	default:
		snprintf(msg, msgsize, "its type is not known, expected another version of the module");
		return -EINVAL;
	}
}

/* A row's default; types of one word take the text whole, the others split it at spaces. */
int
lc__value_default(struct lc__arena *a, const struct lc_directive *row, const char *prefix, void *member, char *msg,
		  size_t msgsize)
{
	const char *argv[64];
	uint32_t argc = 0;

	if (!row->def)
		return 0;
	if (row->type != LC_T_LIST && row->type != LC_T_PAIRS && row->type != LC_T_CUSTOM && row->type != LC_T_MSEC2 &&
	    row->type != LC_T_LINES) {
		argv[argc++] = row->def;
	} else {
		char *p = lc__strdup(a, row->def), *word;
		while ((word = strsep(&p, " ")) && argc < 64)
			if (*word)
				argv[argc++] = word;
	}
	if (row->type == LC_T_PAIRS) {
		for (uint32_t i = 0; i < argc; i += 2)
			if (lc__value_parse(a, row, prefix, argv + i, argc - i < 2 ? 1 : 2, member, msg, msgsize) < 0)
				return -EINVAL;
		return 0;
	}
	return lc__value_parse(a, row, prefix, argv, argc, member, msg, msgsize);
}

/* ---- rows ---- */

static int
name_ok(const char *name)
{
	size_t n = strlen(name);
	return n > 0 && n <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n &&
	       (*name < '0' || *name > '9');
}

static int
row_check(struct lc__arena *a, const struct lc_dirset *ds, const struct lc_directive *row, char *msg, size_t n)
{
	size_t stride = ds->stride ? ds->stride : sizeof(*row);
	_Alignas(16) unsigned char scratch[32] = {0};
	char why[256];

	if (!name_ok(row->name)) {
		snprintf(msg, n, "directive name \"%.64s\" is not made of a-z, 0-9 and _", row->name);
	} else if (!lc__value_size(row->type)) {
		snprintf(msg, n, "directive \"%s\" is of type %u, which a module cannot have", row->name, row->type);
	} else if (!row->context || row->context & ~31u) {
		snprintf(msg, n, "directive \"%s\" has context bits 0x%x, of which 0x1f are known", row->name,
			 row->context);
	} else if (row->flags & ~63u) {
		snprintf(msg, n, "directive \"%s\" has flags 0x%x, of which 0x3f are known", row->name, row->flags);
	} else if (row->flags & LC_D_FILE && row->type != LC_T_PATH && row->type != LC_T_LIST) {
		snprintf(msg, n, "directive \"%s\" names files, but is neither a path nor a list", row->name);
	} else if (row->offset > ds->conf_size || lc__value_size(row->type) > ds->conf_size - row->offset) {
		snprintf(msg, n, "directive \"%s\" lies outside its struct (offset %u, %zu bytes, struct of %llu)",
			 row->name, row->offset, lc__value_size(row->type), (unsigned long long)ds->conf_size);
	} else if (row->offset % lc__value_align(row->type)) {
		snprintf(msg, n, "directive \"%s\" has the odd offset %u", row->name, row->offset);
	} else if ((row->type == LC_T_ENUM || row->type == LC_T_LINES) && !row->aux) {
		snprintf(msg, n, "directive \"%s\" is a choice without choices", row->name);
	} else if (stride >= sizeof(*row) && !(row->flags & LC_D_HIDDEN) &&
		   (!row->brief || !*row->brief || strchr(row->brief, '\n'))) {
		snprintf(msg, n, "directive \"%s\" has no brief description of one line", row->name);
	} else if (stride >= sizeof(*row) && !(row->flags & LC_D_HIDDEN) && (!row->doc || !*row->doc)) {
		snprintf(msg, n, "directive \"%s\" has no documentation", row->name);
	} else if (lc__value_default(a, row, "/", scratch, why, sizeof(why)) < 0) {
		snprintf(msg, n, "the default of directive \"%s\" is wrong: %s", row->name, why);
	} else {
		return 0;
	}
	return -EINVAL;
}

static int
set_check(struct lc__arena *a, const struct lc_dirset *ds, char *msg, size_t n)
{
	struct lc_directive row, other;

	if (!ds->owner || !name_ok(ds->owner)) {
		snprintf(msg, n, "its name is not made of a-z, 0-9 and _");
		return -EINVAL;
	}
	if (ds->nrows > ROWS_MAX || (ds->nrows && !ds->rows) || ds->conf_size > CONF_SIZE_MAX) {
		snprintf(msg, n, "%u directives in a struct of %llu bytes cannot be", ds->nrows,
			 (unsigned long long)ds->conf_size);
		return -EINVAL;
	}
	if (ds->stride &&
	    (ds->stride < offsetof(struct lc_directive, since) || ds->stride > 4096 || ds->stride % sizeof(void *))) {
		snprintf(msg, n, "a directive row of %u bytes cannot be", ds->stride);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < ds->nrows; i++) {
		lc__row_get(ds, i, &row);
		if (!row.name) {
			snprintf(msg, n, "directive %u has no name", i);
			return -EINVAL;
		}
		if (row_check(a, ds, &row, msg, n) < 0)
			return -EINVAL;
		for (uint32_t j = 0; j < i; j++) {
			lc__row_get(ds, j, &other);
			if (!strcmp(other.name, row.name)) {
				snprintf(msg, n, "directive \"%s\" is there twice", row.name);
				return -EINVAL;
			}
		}
	}
	return 0;
}

int
lc_dirset_check(const struct lc_dirset *ds, char *msg, size_t n)
{
	struct lc__arena a = {0};
	jmp_buf oom;

	if (setjmp(oom)) {
		snprintf(msg, n, "out of memory");
		lc__arena_free(&a);
		return -ENOMEM;
	}
	a.oom = &oom;
	int r = set_check(&a, ds, msg, n);
	lc__arena_free(&a);
	return r;
}
