/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/conf.h - a parsed configuration: blocks, and the finished struct of a directive set in a block.
 *
 * The same parser runs in the arbiter (no modules loaded: what it does not know stays opaque), the checker
 * and the workers (modules loaded, everything checked).  A configuration is immutable once parsed and
 * freed as a whole.
 */
#ifndef LC_CORE_CONFIG_CONF_H
#define LC_CORE_CONFIG_CONF_H

#include <licorne/config.h>

/* A set of rows that belong together: the core's own, or one module's. */
struct lc_dirset {
	const char *owner; /* "core", or the module's name */
	const struct lc_directive *rows;
	uint32_t nrows, stride; /* stride: sizeof the rows' owner's struct lc_directive */
	uint64_t conf_size;
	/* Called for each block where the set takes effect: listen, worker (its own), route (its own) as far as a row
	 * may stand there; a set without such rows: pool, else main. */
	int (*check)(const void *conf, struct lc_err *);
	uint32_t kinds; /* interfaces of the module, a bit set of 1 << LC_KIND_*; 0: not known, nothing is refused */
};
/* 0, or -EINVAL and a sentence: nonsense in the rows (offsets, types, contexts, defaults that do not parse). */
int lc_dirset_check(const struct lc_dirset *, char *msg, size_t msgsize);
/* "1 to 1024" in the row's units; "" without a range. */
void lc_directive_range(const struct lc_directive *, char *buf, size_t n);

/* Block kinds are the context bits: LC_C_MAIN, LC_C_POOL, LC_C_LISTEN, LC_C_WORKER, LC_C_ROUTE. */
struct lc_block {
	uint32_t kind, line;
	const char *file;
	const char *name;        /* pool: its name; listen: the address; worker: the module; route: prefix */
	const char *const *args; /* further words after the name, nargs of them */
	uint32_t nargs, index;   /* index among siblings of its kind */
	struct lc_block *parent, *child, *next; /* children in order of the text */
	void *priv;
};

struct lc_conf; /* whole; owns everything */

/* Errors: collects up to 100, in order. */
struct lc_err *lc_err_new(void);
void lc_err_free(struct lc_err *);
void lc_err_add(struct lc_err *, const char *file, uint32_t line, const char *fmt, ...) LC_PRINTF(4, 5);
uint32_t lc_err_count(const struct lc_err *);
void lc_err_sort(struct lc_err *);              /* by file and line, as those of lc_conf_load() are */
const char *lc_err_text(const struct lc_err *); /* lines "file:line: message\n"; valid until the next add */

struct lc_conf_opts {
	const char *prefix;  /* -p, base of relative paths; NULL: the configuration file's directory */
	const char *globals; /* -g text, parsed as if it stood before the file ("command line:1:" in errors) */
	int opaque;          /* 1: do not load modules, accept unknown directives and blocks (the arbiter) */
	int use_env;         /* 1: expand $env{NAME} (done once, by whoever reads the files) */
	/* Called for each load_module (not when opaque); registers the module's dirset by *ret.  Errors go to err. */
	int (*load_module)(void *arg, const char *name_or_path, const char *file, uint32_t line, struct lc_err *,
			   const struct lc_dirset **ret);
	/* Optional: which installed module that is not loaded has this directive?  "" or a name, valid until the next
	 * call.  Asked for unknown directives only. */
	const char *(*whose)(void *arg, const char *directive);
	/* Optional: the name of a protocol module that is installed, for a message; NULL: none is. */
	const char *(*speaks)(void *arg);
	void *arg;
};

/* 0, or -EINVAL with at least one error in err (-errno for what is not the text's fault, also with one). */
int lc_conf_load(struct lc_conf **ret, const char *path, const struct lc_conf_opts *, struct lc_err *);
/* The same from text (a worker's part of the configuration, with its "#line" map). */
int lc_conf_parse(struct lc_conf **ret, const char *text, size_t n, const char *name, const struct lc_conf_opts *,
		  struct lc_err *);
void lc_conf_free(struct lc_conf *);

/* Base of relative paths, absolute: -p, or the folder of the configuration file. */
const char *lc_conf_prefix(const struct lc_conf *);
const struct lc_block *lc_conf_main_block(const struct lc_conf *);
/* The finished struct (inherited, defaults applied) of a directive set in a block; never NULL for a known set. */
const void *lc_conf_get(const struct lc_conf *, const struct lc_block *, const struct lc_dirset *);
/* Where the value of a directive was written that holds in a block: 1 in that block itself, 0 further up, or nowhere
 * (file is NULL). */
struct lc_conf_place {
	const char *file;
	uint32_t line;
};
int lc_conf_where(const struct lc_conf *, const struct lc_block *, const struct lc_dirset *, const char *directive,
		  struct lc_conf_place *ret);
/* Call a check for a block, with errors at the lines that set what it complains of: for what the checks of a set cannot
 * know when they are called (lc_dirset.check). */
int lc_conf_ask(const struct lc_conf *, const struct lc_block *, const struct lc_dirset *,
		int (*check)(const void *conf, struct lc_err *), struct lc_err *);
/* The set has no meaning in this block: lc_conf_dump() leaves it out there. */
void lc_conf_unused(struct lc_conf *, const struct lc_block *, const struct lc_dirset *);
/* Next child of that kind after `after` (NULL: the first). */
const struct lc_block *lc_conf_next(const struct lc_block *parent, uint32_t kind, const struct lc_block *after);

/* Text that lc_conf_parse() understands, with includes expanded, $env{} replaced and "#line" marks: the main level, and
 * all pools (pool NULL), or that one.  malloc()ed, *ret_n bytes, NUL-terminated. */
char *lc_conf_text(const struct lc_conf *, const struct lc_block *pool, size_t *ret_n);
/* -T: effective configuration, every value with where it comes from.  malloc()ed. */
char *lc_conf_dump(const struct lc_conf *);

/* Files that rows with LC_D_FILE name in this block and those below it. */
#define LC_CONF_FILES 256u      /* of a pool */
#define LC_FILE_SIZE (1u << 20) /* bytes of each */
typedef int lc_conf_file_fn(void *arg, const char *path, const char *directive, const char *file, uint32_t line);
int lc_conf_files(const struct lc_conf *, const struct lc_block *, lc_conf_file_fn *, void *arg);
/* In a worker: what lc_config_api.file() gives for a path.  Both are borrowed.  0 or -ENOSPC. */
int lc_conf_file_give(const char *path, const void *data, size_t n);

/* ---- the core's own directives (rows in core/config/rows.c) ---- */
extern const struct lc_dirset lc_core_main, lc_core_pool, lc_core_listen;
/* What opens blocks or reads files (pool, listen, worker, route, include, load_module): for the reference only. */
extern const struct lc_dirset lc_core_syntax;
/* Host table "config" version 1. */
extern const struct lc_config_api lc_config_table;

struct lc_conf_main {
	const char *user, *group;      /* NULL: stay who we are */
	const char *pid_file;          /* NULL: none */
	struct lc_list control_socket; /* absolute path, [octal mode]; n = 0: none */
	struct lc_list error_log;      /* absolute path or "stderr", [level]; n = 0 never: "stderr notice" */
	uint64_t startup_timeout, heartbeat_timeout, graceful_timeout; /* ms; 30 s graceful as gunicorn's */
	uint64_t backlog;
	struct lc_list log_format; /* lines: name, [escape=...], text ... */
};
struct lc_conf_pool {
	const char *processes;                      /* "auto" or a number, 1..1024 */
	struct lc_msec2 respawn_delay;              /* ms */
	uint64_t worker_connections;                /* per process */
	struct lc_list protocols;                   /* module names in ALPN order; n = 0: all loaded, in load order */
	uint64_t secret_rotation;                   /* ms */
	struct lc_list access_log;                  /* lines: absolute path, "-" (standard output) or "off"; [format] */
	uint64_t max_requests, max_requests_jitter; /* of one process; 0: no limit */
	uint64_t max_age;                           /* ms; 0: no limit */
	uint64_t max_rss;                           /* bytes; 0: no limit */
	uint64_t request_timeout;                   /* ms that a call may take; 0: no limit */
	uint8_t preload;                            /* workers are forked, the application loaded */
};
/* One access log of a pool. */
struct lc_conf_access {
	const char *path; /* absolute, or "-" */
	const char *format;
};
/* Number `i`, from 0: 1; 0: there are no more. */
int lc_conf_access_log(const struct lc_conf_pool *, uint32_t i, struct lc_conf_access *ret);
/* The text of a format, built-in or defined, malloc()ed, for lc_logfmt_parse(); 0, -ENOENT or -ENOMEM. */
int lc_conf_log_format(const struct lc_conf_main *, const char *name, char **ret_text, int *ret_json);
struct lc_conf_listen {
	uint64_t mode;            /* UNIX socket: permission bits, octal in the text; 0660 */
	const char *user, *group; /* UNIX socket: owner; NULL: ours */
	uint64_t backlog;         /* pending connections; 0: the main level's */
	uint8_t ipv6only;
};
/* The mode of the control socket. */
uint32_t lc_conf_control_mode(const struct lc_conf_main *);
/* What "auto" gives, with another root in place of "/" for /proc and cgroup mounts (tests); NULL: the real one. */
uint32_t lc_conf_cpus(const char *root);
/* processes -> a number; "auto" follows the CPU affinity and the cgroup's quota (v1 and v2). */
uint32_t lc_conf_processes(const struct lc_conf_pool *);

/* Listener addresses: "8000", "*:8000", "0.0.0.0:80", "[::1]:0", "localhost:8000", "unix:/path" */
struct lc_addr {
	int32_t family; /* AF_INET, AF_INET6, AF_UNIX */
	uint32_t len;
	union {
		uint8_t raw[128];
		uint64_t align_;
	} sa; /* a struct sockaddr_storage's bytes */
};
int lc_addr_parse(struct lc_addr *ret, const char *text,
		  const char **ret_error);                      /* numeric, or a name by getaddrinfo */
int lc_addr_print(const struct lc_addr *, char *buf, size_t n); /* "127.0.0.1:8000", "[::1]:80", "unix:/p" */

#endif
