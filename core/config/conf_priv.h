/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/conf_priv.h - what the files of core/config share.
 *
 * A configuration is read in three steps: text -> statements (parse.c over lex.c; includes, quotes, $env{} and
 * "#line" end here), statements -> blocks with what was set in each (build.c), blocks -> finished structs (inherit,
 * required, check: finish.c).  Statements are kept, because lc_conf_text() writes them out again.
 *
 * Everything hangs on one arena.  An allocation that fails jumps back to lc_conf_load()/lc_conf_parse(), so no function
 * between holds anything but arena memory (a file being read and a glob are noted in struct lc__load).
 */
#ifndef LC_CORE_CONFIG_CONF_PRIV_H
#define LC_CORE_CONFIG_CONF_PRIV_H

#include "config/conf.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>

/* Bounds.  A configuration is trusted more than a peer, but a mistaken glob or a generated file must not hang us. */
#define LC__FILE_MAX (1u << 20)
#define LC__TOTAL_MAX (4u << 20)
#define LC__WORD_MAX 4096u
#define LC__DEPTH_MAX 8u
#define LC__INCLUDES_MAX 64u
#define LC__ARGS_MAX 256u
#define LC__LIST_MAX 4096u
#define LC__STMTS_MAX 65536u
#define LC__BLOCKS_MAX 1024u
#define LC__SETS_MAX 64u
#define LC__PROCESSES_MAX 1024u

struct lc__arena {
	struct lc__chunk *head;
	jmp_buf *oom;
};
void *lc__alloc(struct lc__arena *, size_t n); /* zeroed, 16-byte aligned; jumps to *oom when there is none */
char *lc__strndup(struct lc__arena *, const char *, size_t n);
char *lc__strdup(struct lc__arena *, const char *);
char *lc__printf(struct lc__arena *, const char *fmt, ...) LC_PRINTF(2, 3);
void lc__arena_free(struct lc__arena *);

struct lc__stmt {
	struct lc__stmt *next, *child;
	const char *name, *file;
	const char **args;
	uint32_t nargs, line, last_line; /* last_line: of the last word */
	uint8_t has_block, bad;          /* bad: a word was refused (and reported) */
};

struct lc__set {
	const struct lc_dirset *ds;
	struct lc_directive *rows; /* normalised copies */
	uint32_t nrows, contexts;  /* contexts: all rows' bits */
	unsigned char *defaults;
	const struct lc__stmt *stmt; /* its load_module; NULL: the core's */
};

/* lc__org.from */
#define LC__UNSET 0u
#define LC__DEFAULT 1u
#define LC__INHERITED 2u
#define LC__HERE 3u
struct lc__org {
	const char *file;
	uint32_t line;
	uint8_t from;
};
struct lc__vals {
	unsigned char *conf;
	struct lc__org *org;
};
struct lc__blk {
	struct lc_block pub; /* pub.priv is this */
	const struct lc__stmt *stmt;
	struct lc__vals vals[LC__SETS_MAX]; /* before finish.c: only what was set here, conf NULL: nothing */
	uint32_t counts[5];                 /* children by kind, bit number as index */
	uint64_t unused;                    /* lc_conf_unused(), a bit for each set */
	uint8_t bad;                        /* its head is wrong: nothing is demanded of it */
};

_Static_assert(LC__SETS_MAX <= 64, "a set has no bit in lc__blk.unused");

struct lc_conf {
	struct lc__arena arena;
	struct lc__stmt *stmts;
	struct lc__set sets[LC__SETS_MAX];
	uint32_t nsets, nblocks;
	struct lc__blk *root;
	const char *prefix, *name;
	int opaque;
};

struct lc__load {
	struct lc_conf *conf;
	const struct lc_conf_opts *opts;
	struct lc_err *err;
	jmp_buf oom;
	/* reading */
	uint32_t total, includes, nstmts, depth;
	uint32_t end_line;
	const char *end_file;
	struct lc__file *files; /* chain of files being read, for cycles */
	glob_t glob;
	int have_glob, fd, is_text;
	char word[LC__WORD_MAX + 64];
	/* set when blocks do not balance: "not allowed here" and "missing" would only repeat that */
	int unbalanced, limit, errors; /* errors: there were some before finish.c */
	struct lc__stmt *failed; /* names of modules that did not load, by child: what follows from that is not said */
	char shown[4][112];
	uint32_t nshown;
};

/* err.c */
void lc__err_about(struct lc_err *, const struct lc__blk *, const struct lc__set *, const struct lc__org *);
void lc__err_addv(struct lc_err *, const char *file, uint32_t line, const char *fmt, va_list) LC_PRINTF(4, 0);

/* files.c */
int lc__file_content(const char *path, struct lc_str *ret);

/* lex.c */
#define LC__T_EOF 0
#define LC__T_WORD 1
#define LC__T_SEMI 2
#define LC__T_OPEN 3
#define LC__T_CLOSE 4
struct lc__lex {
	struct lc__load *ld;
	const char *file;
	const unsigned char *p, *end;
	uint32_t line;
	int marks, started; /* marks: "#line" is obeyed */
	/* the token: its word is in ld->word */
	uint32_t n, tok_line;
	const char *tok_file;
	int bad; /* the word was refused */
};
int lc__lex_next(struct lc__lex *);
/* Checks and repairs bytes in place, reports what is not UTF-8 text; returns how many lines were wrong. */
uint32_t lc__lex_clean(struct lc__load *, unsigned char *p, size_t n, const char *file);
const char *lc__shown(struct lc__load *, const char *word); /* for messages: bounded, escaped; the last 4 stay valid */

/* parse.c */
int lc__parse_file(struct lc__load *, const char *path, struct lc__stmt **list);
int lc__parse_text(struct lc__load *, const char *text, size_t n, const char *name, struct lc__stmt **list);
char *lc__path_join(struct lc__arena *, const char *base, const char *path);

/* value.c */
/* Parse argv into the member; 0, or -EINVAL and a text that follows "NAME": what, what was expected. */
int lc__value_parse(struct lc__arena *, const struct lc_directive *, const char *prefix, const char *const *argv,
		    uint32_t argc, void *member, char *msg, size_t msgsize);
int lc__value_default(struct lc__arena *, const struct lc_directive *, const char *prefix, void *member, char *msg,
		      size_t msgsize);
size_t lc__value_size(uint32_t type); /* of the member; 0: unknown type */
size_t lc__value_align(uint32_t type);
const char *lc__type_name(uint32_t type);
void lc__row_get(const struct lc_dirset *, uint32_t i, struct lc_directive *ret); /* copes with shorter rows */

struct lc__buf { /* grows by malloc(); oom is sticky */
	char *p;
	size_t n, cap;
	int oom;
};
void lc__buf_printf(struct lc__buf *, const char *fmt, ...) LC_PRINTF(2, 3);
void lc__buf_add(struct lc__buf *, const char *, size_t n);
void lc__buf_word(struct lc__buf *, const char *word); /* quoted and escaped as needed */
char *lc__buf_end(struct lc__buf *, size_t *ret_n);    /* NUL-terminated, or NULL */
void lc__size_print(char *buf, size_t n, uint64_t v);
void lc__msec_print(char *buf, size_t n, uint64_t v);

/* build.c, finish.c */
void lc__build(struct lc__load *);
void lc__finish(struct lc__load *);
const char *lc__contexts(char *buf, size_t n, uint32_t bits); /* "the main level, pool" */
const char *lc__kind_name(uint32_t kind);
int lc__set_is_here(const struct lc__set *, const struct lc__blk *); /* may rows of the set stand in such a block? */

/* hints.c: what a word of other servers is called here, behind "expected: "; NULL: it is none that is known */
const char *lc__hint_directive(const char *name);
const char *lc__hint_listen(const char *word);

/* logs.c: lines of log_format and access_log, for their rows; and which belong to each other. */
int lc__log_format_line(const char *const *argv, uint32_t argc, char *msg, size_t msgsize);
int lc__access_log_line(const char *const *argv, uint32_t argc, char *msg, size_t msgsize);
void lc__check_logs(struct lc__load *, const struct lc__blk *);

/* addr.c: 0; 1: a host name, not looked up (ret is not written); -EINVAL */
int lc__addr_numeric(struct lc_addr *ret, const char *text, const char **ret_error);

#endif
