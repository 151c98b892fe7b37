/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/config.h - directives are data: parse, inherit, check, print and document from one row.
 *
 * A module lists its directives as rows; each names a member of the module's configuration struct.  The
 * core parses values (defaults too: they are text and go the same way), inherits them main -> pool -> listen
 * and main -> pool -> worker, main -> pool -> route, and gives the module a finished struct.
 */
#ifndef LC_CONFIG_H
#define LC_CONFIG_H
#include "abi.h"

/* lc_directive.type, and the member's C type */
#define LC_T_FLAG 1u    /* on|off            uint8_t                    */
#define LC_T_UINT 2u    /* 12                uint64_t                   */
#define LC_T_SIZE 3u    /* 64k, 1m, 1g       uint64_t, bytes            */
#define LC_T_MSEC 4u    /* 30s, 5m, 100ms    uint64_t, milliseconds; a bare number is seconds */
#define LC_T_STR 5u     /* any word          const char *               */
#define LC_T_PATH 6u    /* a path, relative to the prefix (-p); const char *.  aux: lc_enum[] of words that are none */
#define LC_T_ENUM 7u    /* one of aux        uint64_t                   */
#define LC_T_LIST 8u    /* words             struct lc_list; repeating the directive appends */
#define LC_T_PAIRS 9u   /* NAME VALUE        struct lc_list of alternating name, value; repeatable */
#define LC_T_MSEC2 10u  /* MIN MAX           struct lc_msec2            */
#define LC_T_BLOCK 11u  /* { ... }           opened by the core         */
#define LC_T_CUSTOM 12u /* words            struct lc_list, checked by the module's check() */
#define LC_T_LINES \
	13u /* words            struct lc_list: of each line its words, then a NULL; repeatable.  aux: lc_lines */

/* lc_directive.context: where it may stand (a bit set) */
#define LC_C_MAIN 1u
#define LC_C_POOL 2u
#define LC_C_LISTEN 4u
#define LC_C_WORKER 8u
#define LC_C_ROUTE 16u

/* lc_directive.flags */
#define LC_D_REQUIRED 1u
#define LC_D_RESTART 2u /* SIGHUP cannot change it */
#define LC_D_SECRET 4u  /* not printed by -T */
#define LC_D_HIDDEN 8u  /* not documented */
#define LC_D_OCTAL 16u  /* UINT: written in octal (permission bits) */
/* PATH, LIST: names of files, relative to the prefix, that the arbiter reads with its own rights at start, 1 MiB each
 * at most; a worker asks for the content by lc_config_api.file(). */
#define LC_D_FILE 32u

struct lc_list {
	const char *const *v; /* n strings, NUL-terminated */
	uint64_t n;
};
struct lc_msec2 {
	uint64_t min, max;
};
struct lc_range {
	uint64_t min, max;
};
struct lc_enum { /* ended by a NULL name */
	const char *name;
	uint64_t value;
};

struct lc_lines {
	uint32_t min, max;           /* words of a line */
	uint32_t path, pad;          /* 1: the first one is a path, relative to the prefix (-p) */
	const struct lc_enum *words; /* and these words are none */
	/* Is the line right?  0, or < 0 and a sentence that follows "NAME: ": what, what was expected.  NULL: it is. */
	int (*check)(const char *const *argv, uint32_t argc, char *msg, size_t msgsize);
};

struct lc_directive {
	const char *name;
	uint32_t type, context, flags, offset;
	const char *def; /* default as text, NULL: zero / absent */
	const void *aux; /* lc_range, lc_enum[], lc_lines, or NULL */
	const char *since;
	const char *args;  /* how the arguments are written: "SIZE", "on | off", "MIN MAX" */
	const char *brief; /* one line */
	const char *doc;   /* Markdown */
};

/* Compile-time check that member f of S has type T. */
#define LC_SAME_(a, T) __builtin_types_compatible_p(__typeof__(a), T)
#define LC_AT_(S, f, T) ((uint32_t)(offsetof(S, f) + 0 * sizeof(char[LC_SAME_(((S *)0)->f, T) ? 1 : -1])))

#define LC_ROW_(tp, nm, ctx, fl, off, dflt, ax, ar, brf, txt)                                               \
	{                                                                                                   \
		.name = nm, .type = tp, .context = ctx, .flags = fl, .offset = off, .def = dflt, .aux = ax, \
		.since = "0.1", .args = ar, .brief = brf, .doc = txt                                        \
	}
#define LC_FLAG(S, f, nm, ctx, dflt, brf, txt) \
	LC_ROW_(LC_T_FLAG, nm, ctx, 0, LC_AT_(S, f, uint8_t), dflt, NULL, "on | off", brf, txt)
#define LC_UINT(S, f, nm, ctx, dflt, rng, brf, txt) \
	LC_ROW_(LC_T_UINT, nm, ctx, 0, LC_AT_(S, f, uint64_t), dflt, rng, "NUMBER", brf, txt)
#define LC_SIZE(S, f, nm, ctx, dflt, rng, brf, txt) \
	LC_ROW_(LC_T_SIZE, nm, ctx, 0, LC_AT_(S, f, uint64_t), dflt, rng, "SIZE", brf, txt)
#define LC_MSEC(S, f, nm, ctx, dflt, rng, brf, txt) \
	LC_ROW_(LC_T_MSEC, nm, ctx, 0, LC_AT_(S, f, uint64_t), dflt, rng, "TIME", brf, txt)
#define LC_STRING(S, f, nm, ctx, fl, dflt, brf, txt) \
	LC_ROW_(LC_T_STR, nm, ctx, fl, LC_AT_(S, f, const char *), dflt, NULL, "STRING", brf, txt)
#define LC_PATH(S, f, nm, ctx, fl, dflt, brf, txt) \
	LC_ROW_(LC_T_PATH, nm, ctx, fl, LC_AT_(S, f, const char *), dflt, NULL, "PATH", brf, txt)
#define LC_ENUM(S, f, nm, ctx, dflt, tab, ar, brf, txt) \
	LC_ROW_(LC_T_ENUM, nm, ctx, 0, LC_AT_(S, f, uint64_t), dflt, tab, ar, brf, txt)
#define LC_LIST(S, f, nm, ctx, dflt, ar, brf, txt) \
	LC_ROW_(LC_T_LIST, nm, ctx, 0, LC_AT_(S, f, struct lc_list), dflt, NULL, ar, brf, txt)
#define LC_PAIRS(S, f, nm, ctx, ar, brf, txt) \
	LC_ROW_(LC_T_PAIRS, nm, ctx, 0, LC_AT_(S, f, struct lc_list), NULL, NULL, ar, brf, txt)

/* Host -> module, table "config" version 1: for check(). */
struct lc_config_api {
	uint32_t size, pad;
	/* Report an error about a directive of the struct being checked; file:line is found by the core.
	 * "what, what was expected".  The directive need not have been set: then the block's line is named. */
	void (*error)(struct lc_err *, const char *directive, const char *fmt, ...) LC_PRINTF(3, 4);
	/* In a worker: the content of a file that a directive with LC_D_FILE names, by the path in the struct; valid
	 * until the process has served its last request.  0, or -ENOENT: there is no such directive in this pool. */
	int (*file)(const char *path, struct lc_str *ret);
};

#endif
