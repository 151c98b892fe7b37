/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/parse.c - words to statements, files and includes.
 *
 * A mistake costs the statement it is in: reading goes on at the next ';', '{' or '}'.  A file must balance its own
 * braces, so an include cannot close a block of the file that includes it.
 */
#include "config/conf_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lc__file { /* a file being read; on the stack of parse_file() */
	struct lc__file *up;
	dev_t dev;
	ino_t ino;
	uint32_t depth;
};

struct list { /* where statements are appended */
	struct lc__stmt **tail;
};

static void parse_list(struct lc__lex *, struct list *, const struct lc__stmt *open, const char *dir);

/* base/path, or path when it is absolute. */
char *
lc__path_join(struct lc__arena *a, const char *base, const char *path)
{
	if (*path == '/' || !base || !*base)
		return lc__strdup(a, path);
	return lc__printf(a, "%s%s%s", base, base[strlen(base) - 1] == '/' ? "" : "/", path);
}

/* The whole file in arena memory.  0 or -errno, reported at file:line (where it was asked for). */
static int
read_file(struct lc__load *ld, const char *path, const char *file, uint32_t line, unsigned char **ret, size_t *ret_n,
	  struct lc__file *self)
{
	size_t n = 0, size = LC__FILE_MAX + 1;
	struct stat st;
	ssize_t got;

	ld->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (self->up ? O_NONBLOCK : 0));
	if (ld->fd < 0 || fstat(ld->fd, &st) < 0) {
		int r = -errno;
		lc_err_add(ld->err, file, line, "cannot open \"%s\" (%s), expected a readable file",
			   lc__shown(ld, path), strerror(-r));
		if (ld->fd >= 0)
			close(ld->fd);
		ld->fd = -1;
		return r;
	}
	self->dev = st.st_dev;
	self->ino = st.st_ino;
	for (const struct lc__file *f = self->up; f; f = f->up)
		if (f->dev == st.st_dev && f->ino == st.st_ino) {
			lc_err_add(ld->err, file, line, "\"%s\" includes itself, expected no cycle of includes",
				   lc__shown(ld, path));
			goto bad;
		}
	/* the main file may be a pipe: <(generator), /dev/stdin */
	if (!S_ISREG(st.st_mode) && (self->up || S_ISDIR(st.st_mode))) {
		lc_err_add(ld->err, file, line, "\"%s\" is %s, expected a regular file", lc__shown(ld, path),
			   S_ISDIR(st.st_mode) ? "a directory" : "a device or a pipe");
		goto bad;
	}
	if (S_ISREG(st.st_mode) && st.st_size < LC__FILE_MAX)
		size = (size_t)st.st_size + 1;
	unsigned char *p = lc__alloc(&ld->conf->arena, size);
	while (n < size && (got = read(ld->fd, p + n, size - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int r = -errno;
			lc_err_add(ld->err, file, line, "cannot read \"%s\" (%s), expected a readable file",
				   lc__shown(ld, path), strerror(-r));
			close(ld->fd);
			ld->fd = -1;
			return r;
		}
		n += (size_t)got;
	}
	if (n > LC__FILE_MAX || (n == size && size <= LC__FILE_MAX)) {
		lc_err_add(ld->err, file, line, "\"%s\" %s", lc__shown(ld, path),
			   n > LC__FILE_MAX ? "is larger than 1 MiB, expected at most that"
					    : "grew while it was read, expected a file at rest");
		goto bad;
	}
	close(ld->fd);
	ld->fd = -1;
	*ret = p;
	*ret_n = n;
	return 0;
bad:
	close(ld->fd);
	ld->fd = -1;
	return -EINVAL;
}

static void
parse_bytes(struct lc__load *ld, unsigned char *p, size_t n, const char *name, int marks, const char *dir,
	    struct list *out)
{
	struct lc__lex lx = {.ld = ld, .file = name, .line = 1, .marks = marks};

	if (n > LC__TOTAL_MAX - ld->total) {
		lc_err_add(ld->err, name, 1,
			   "the configuration is larger than 4 MiB with all its includes, expected at most that");
		ld->limit = 1;
		return;
	}
	ld->total += (uint32_t)n;
	if (n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) {
		p += 3;
		n -= 3;
	}
	lc__lex_clean(ld, p, n, name);
	lx.p = p;
	lx.end = p + n;
	parse_list(&lx, out, NULL, dir);
	ld->end_file = lx.file;
	ld->end_line = lx.line;
}

static int
parse_file(struct lc__load *ld, const char *path, const char *file, uint32_t line, struct list *out)
{
	struct lc__file self = {.up = ld->files, .depth = ld->files ? ld->files->depth + 1 : 0};
	struct lc__arena *a = &ld->conf->arena;
	unsigned char *p = NULL;
	size_t n = 0;
	int r;

	r = read_file(ld, path, file, line, &p, &n, &self);
	if (r < 0)
		return r;
	const char *slash = strrchr(path, '/');
	const char *dir = slash ? lc__strndup(a, path, (size_t)(slash - path) + 1) : "";
	ld->files = &self;
	parse_bytes(ld, p, n, lc__strdup(a, path), 0, dir, out);
	ld->files = self.up;
	return 0;
}

static void
include_one(struct lc__load *ld, const struct lc__stmt *st, const char *path, struct list *out)
{
	if (ld->limit)
		return;
	if (ld->includes == LC__INCLUDES_MAX) {
		lc_err_add(ld->err, st->file, st->line, "too many included files, expected at most %u",
			   LC__INCLUDES_MAX);
		ld->limit = 1;
		return;
	}
	if (ld->files && ld->files->depth == LC__DEPTH_MAX) {
		lc_err_add(ld->err, st->file, st->line, "includes are nested deeper than %u, expected fewer levels",
			   LC__DEPTH_MAX);
		return;
	}
	ld->includes++;
	parse_file(ld, path, st->file, st->line, out);
}

static void
include(struct lc__load *ld, const struct lc__stmt *st, const char *dir, struct list *out)
{
	struct lc__arena *a = &ld->conf->arena;

	if (st->has_block || st->nargs != 1) {
		if (!st->bad)
			lc_err_add(ld->err, st->file, st->line, "\"include\" has %s, expected: include FILE;",
				   st->has_block ? "a block"
				   : st->nargs   ? "several arguments"
						 : "no argument");
		return;
	}
	if (st->bad)
		return;
	if (ld->is_text) {
		lc_err_add(ld->err, st->file, st->line,
			   "\"include\" is not understood here, expected it in a file only");
		return;
	}
	const char *path = lc__path_join(a, dir, st->args[0]);
	if (!strpbrk(path, "*?[")) {
		include_one(ld, st, path, out);
		return;
	}
	int r = glob(path, 0, NULL, &ld->glob);
	ld->have_glob = 1;
	if (r == GLOB_NOSPACE)
		longjmp(ld->oom, 1);
	if (r == GLOB_ABORTED)
		lc_err_add(ld->err, st->file, st->line, "cannot read a folder of \"%s\", expected a readable one",
			   lc__shown(ld, path));
	size_t n = r == 0 ? ld->glob.gl_pathc : 0; /* no match is no mistake, as with an empty conf.d */
	if (n > LC__INCLUDES_MAX)
		n = LC__INCLUDES_MAX + 1;                      /* one more: the limit gets reported */
	char **paths = lc__alloc(a, (n + 1) * sizeof(*paths)); /* copies: an include inside needs ld->glob */
	for (size_t i = 0; i < n; i++)
		paths[i] = lc__strdup(a, ld->glob.gl_pathv[i]);
	globfree(&ld->glob);
	ld->have_glob = 0;
	for (size_t i = 0; i < n; i++)
		include_one(ld, st, paths[i], out);
}

static void
add_arg(struct lc__lex *lx, struct lc__stmt *st, uint32_t *cap)
{
	struct lc__load *ld = lx->ld;
	struct lc__arena *a = &ld->conf->arena;

	st->last_line = lx->line;
	st->bad |= (uint8_t)lx->bad;
	if (st->nargs == LC__ARGS_MAX) {
		if (!st->bad)
			lc_err_add(ld->err, st->file, st->line,
				   "\"%s\" has more than %u arguments, expected fewer; is a \";\" missing?",
				   lc__shown(ld, st->name), LC__ARGS_MAX);
		st->bad = 1;
		return;
	}
	if (st->nargs == *cap) {
		uint32_t ncap = *cap ? *cap * 4 : 4;
		const char **args = lc__alloc(a, ncap * sizeof(*args));
		if (st->nargs)
			memcpy(args, st->args, st->nargs * sizeof(*args));
		st->args = args;
		*cap = ncap;
	}
	st->args[st->nargs++] = lc__strndup(a, ld->word, lx->n);
}

/* After the first word: to the ';' or '{'.  The token that ended it. */
static int
parse_rest(struct lc__lex *lx, struct lc__stmt *st)
{
	struct lc__load *ld = lx->ld;
	uint32_t cap = 0;

	for (;;) {
		int tok = lc__lex_next(lx);
		switch (tok) {
		case LC__T_WORD:
			add_arg(lx, st, &cap);
			continue;
		case LC__T_OPEN:
			st->has_block = 1;
			return tok;
		case LC__T_CLOSE:
		case LC__T_EOF:
			if (!st->bad)
				lc_err_add(ld->err, st->file, st->last_line,
					   "\"%s\" is not ended, expected \";\" before %s", lc__shown(ld, st->name),
					   tok == LC__T_EOF ? "the end of the file" : "\"}\"");
			return tok;
		default:
			return tok;
		}
	}
}

/* Statements up to '}' (open: the block's statement) or the end of the bytes. */
static void
parse_list(struct lc__lex *lx, struct list *out, const struct lc__stmt *open, const char *dir)
{
	struct lc__load *ld = lx->ld;
	int tok = -1;

	while (!ld->limit) {
		if (tok < 0)
			tok = lc__lex_next(lx);
		switch (tok) {
		case LC__T_SEMI:
			lc_err_add(ld->err, lx->tok_file, lx->tok_line, "unexpected \";\", expected a directive");
			tok = -1;
			continue;
		case LC__T_CLOSE:
			if (open)
				return;
			lc_err_add(ld->err, lx->tok_file, lx->tok_line,
				   "unexpected \"}\", expected a directive: no block is open here");
			ld->unbalanced = 1;
			tok = -1;
			continue;
		case LC__T_EOF:
			if (open) {
				lc_err_add(ld->err, open->file, open->line,
					   "block \"%s\" is not closed, expected \"}\" before the end of the file",
					   lc__shown(ld, open->name));
				ld->unbalanced = 1;
			}
			return;
		}
		struct lc__stmt *st = lc__alloc(&ld->conf->arena, sizeof(*st));
		if (++ld->nstmts > LC__STMTS_MAX) {
			lc_err_add(ld->err, lx->tok_file, lx->tok_line, "too many directives, expected at most %u",
				   LC__STMTS_MAX);
			ld->limit = 1;
			return;
		}
		st->file = lx->tok_file;
		st->line = st->last_line = lx->tok_line;
		if (tok == LC__T_OPEN) { /* skip the block, keep the balance */
			lc_err_add(ld->err, st->file, st->line,
				   "unexpected \"{\", expected a directive's name before it");
			st->name = "{";
			st->has_block = st->bad = 1;
		} else {
			st->name = lc__strndup(&ld->conf->arena, ld->word, lx->n);
			st->bad = (uint8_t)lx->bad;
			tok = parse_rest(lx, st);
		}
		if (tok == LC__T_OPEN) {
			struct list inner = {.tail = &st->child};
			if (ld->depth == LC__DEPTH_MAX) {
				lc_err_add(ld->err, st->file, st->line,
					   "blocks are nested deeper than %u, expected fewer levels", LC__DEPTH_MAX);
				ld->limit = 1;
				return;
			}
			ld->depth++;
			parse_list(lx, &inner, st, dir);
			ld->depth--;
		}
		/* a statement that ran into '}' or the end leaves that token for us */
		tok = tok == LC__T_CLOSE || tok == LC__T_EOF ? tok : -1;
		if (!strcmp(st->name, "include")) {
			include(ld, st, dir, out);
			continue;
		}
		*out->tail = st;
		out->tail = &st->next;
	}
}

int
lc__parse_file(struct lc__load *ld, const char *path, struct lc__stmt **list)
{
	struct list out = {.tail = list};

	while (*out.tail)
		out.tail = &(*out.tail)->next;
	return parse_file(ld, path, path, 0, &out);
}

int
lc__parse_text(struct lc__load *ld, const char *text, size_t n, const char *name, struct lc__stmt **list)
{
	struct list out = {.tail = list};
	unsigned char *p;

	while (*out.tail)
		out.tail = &(*out.tail)->next;
	if (n > LC__TOTAL_MAX) {
		lc_err_add(ld->err, name, 0, "the configuration is larger than 4 MiB, expected at most that");
		return -EINVAL;
	}
	p = lc__alloc(&ld->conf->arena, n + 1);
	memcpy(p, text, n);
	parse_bytes(ld, p, n, lc__strdup(&ld->conf->arena, name), ld->is_text, ld->conf->prefix, &out);
	return 0;
}
