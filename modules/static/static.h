/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules/static/static.h - the parts of the handler module "static", which serves files.
 *
 *	resolve.c   a path below the root to a descriptor, and never outside of it
 *	types.c     names to media types
 *	validate.c  dates, entity tags, conditions, ranges, codings: pure functions over field values
 *	cache.c     what is known of files: contents, descriptors, absences; bounded
 *	load.c      a key (the path below the prefix) to what is served for it
 *	serve.c     requests to responses
 *	module.c    directives; instances, one per route and process
 *
 * Everything runs on the thread that leads the loop, except st_file_unref().  Reads of files that are not in the page
 * cache block that thread: see docs/static.md.
 */
#ifndef LC_STATIC_H
#define LC_STATIC_H

#include <licorne/handler.h>
#include <licorne/module.h>
#include <licorne/tokens.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* ---- resolve.c ---- */

/* What symbolic links may do (directive `symlinks`). */
#define ST_LINKS_BENEATH 0u /* lead to what lies below the root, by relative targets */
#define ST_LINKS_OFF 1u     /* nothing: a path with one is refused */
#define ST_LINKS_FOLLOW 2u  /* lead anywhere */

struct st_root {
	int fd;        /* O_PATH; -1: none */
	uint8_t links; /* ST_LINKS_* */
	uint8_t walk;  /* 1: without openat2(2), component by component */
};
/* 0 or -errno. */
int st_root_open(struct st_root *ret, const char *path, uint32_t links);
void st_root_close(struct st_root *);
/*
 * Open a path below the root: no leading '/', no empty, "." or ".." component ("" is the root itself).  `how` is
 * O_RDONLY or O_PATH; opening never waits (O_NONBLOCK).  A descriptor, or -errno; -ELOOP and -EXDEV: a symbolic link
 * is in the way that may not be followed.
 */
int st_open(const struct st_root *, const char *path, int how);

/* ---- types.c ---- */

struct st_type {
	const char *ext; /* lower case, without the dot */
	struct lc_str type;
	int owned; /* type was allocated */
};
struct st_types {
	struct st_type *v; /* sorted by ext */
	size_t n;
	struct lc_str other; /* default_type */
	int other_owned;
};
/* added: alternating type, extension.  charset NULL: none.  0 or -ENOMEM. */
int st_types_make(struct st_types *ret, const struct lc_list *added, const char *other, const char *charset);
void st_types_free(struct st_types *);
struct lc_str st_type_of(const struct st_types *, const char *name, size_t n); /* by the extension of the last name */

/* ---- validate.c ---- */

/* IMF-fixdate, RFC 850 or asctime date (RFC 9110 5.6.7) to seconds; `now` decides the century of two digits.  0: none
 * of them. */
int st_date_parse(int64_t *ret, const char *, size_t n, int64_t now);
void st_date_put(char to[29], int64_t seconds); /* IMF-fixdate; years 1 to 9999, others are brought into that span */
/* Does the list of entity tags (or "*") name the tag?  strong = 1: by the strong comparison (RFC 9110 8.8.3.2). */
int st_tags_have(const char *, size_t n, struct lc_str tag, int strong);

#define ST_RANGE_NONE 0  /* to be ignored: another unit, several ranges, no valid syntax */
#define ST_RANGE_ONE 1   /* *first and *last are set, within the size */
#define ST_RANGE_UNSAT 2 /* 416 */
int st_range_parse(const char *, size_t n, uint64_t size, uint64_t *first, uint64_t *last);

/* Weights of Accept-Encoding in thousandths, -1: not named.  Adds up over several fields. */
struct st_accept {
	int gzip, br, identity, any;
};
void st_accept_parse(struct st_accept *, const char *, size_t n);
int st_accept_weight(const struct st_accept *, int named); /* of gzip or br: 0: not acceptable */

/* The fields of a request that matter here: their places, and which of them are there. */
#define ST_HAS_IF_MATCH 1u
#define ST_HAS_IF_NONE_MATCH 2u
#define ST_HAS_IF_MODIFIED 4u
#define ST_HAS_IF_UNMODIFIED 8u
#define ST_HAS_RANGE 16u
#define ST_HAS_IF_RANGE 32u
#define ST_HAS_ACCEPT 64u
#define ST_RANGE_TWICE 128u
struct st_ask {
	const struct lc_field *fields;
	uint32_t nfields, has;
	struct lc_str modified, unmodified, range, if_range; /* the last of each */
};
void st_ask_read(struct st_ask *ret, const struct lc_req *);

/* What conditions are compared with. */
struct st_validators {
	struct lc_str tag;     /* {NULL, 0}: none */
	struct lc_str changed; /* Last-Modified, as text */
	int64_t seconds;       /* and as a number */
	int strong;            /* both are strong validators */
};
/* RFC 9110 13.2.2, steps 1 to 4: 0: go on; 304; 412. */
uint32_t st_ask_condition(const struct st_ask *, const struct st_validators *, int64_t now);
/* Step 5 and Range itself: ST_RANGE_*.  For GET alone. */
int st_ask_range(const struct st_ask *, const struct st_validators *, uint64_t size, uint64_t *first, uint64_t *last);

/* ---- cache.c ---- */

/* What a response's slices point to.  It lives until the last of them was sent, whatever becomes of the cache. */
struct st_file {
	_Atomic uint32_t refs;
	int fd; /* -1: data holds the content */
	uint8_t data[];
};
struct st_file *st_file_data(size_t n); /* one reference; NULL: no memory */
struct st_file *st_file_fd(int fd);     /* takes the descriptor, also when it fails */
void st_file_unref(void *);             /* any thread; NULL is fine */

/* Which file, and in which state: two of them equal means that nothing changed, unless the first was `young`. */
struct st_stamp {
	uint64_t dev, ino, size;
	int64_t mtime, ctime; /* ns */
};

#define ST_PLAIN 0u
#define ST_GZIP 1u
#define ST_BR 2u
#define ST_CODINGS 3u

/* One representation of a resource. */
struct st_rep {
	struct st_file *file;
	struct st_stamp stamp;
	struct st_validators val; /* points into text */
	uint64_t size;            /* of the content */
	uint64_t memo[2];         /* lc_head.memo of 200 and 304 */
	uint32_t hits[2];
	uint8_t young; /* changed so recently that the next change may not show in the stamp */
	/* Fields of a 200: first those that a 304 has, too. */
	uint32_t nfields, n304;
	uint32_t tag_at, changed_at; /* which of the fields point into text; UINT32_MAX: none */
	uint32_t bytes;              /* of block */
	char text[96];               /* entity tag and date; fields point here: copied with them for each response */
	struct lc_field fields[];
};

struct st_entry {
	struct st_entry *next, *newer, *older; /* bucket; order of use within its list */
	uint64_t hash, checked;                /* checked: ns, when it was last compared with the file system */
	uint64_t cost;                         /* bytes */
	struct st_rep *rep[ST_CODINGS];        /* rep[ST_PLAIN] is always there */
	uint32_t fds;                          /* descriptors that it holds */
	uint8_t cached;                        /* in the cache; else it is whoever's that made it */
	uint32_t n;
	char key[];
};

/* What came of looking for a path. */
#define ST_FOUND 0u
#define ST_MISSING 1u  /* 404: there is nothing, or nothing that can be served (a FIFO, say) */
#define ST_NO_INDEX 2u /* 403: a directory without an index file */
#define ST_SLASH 3u    /* 301: a directory, named without the slash */
#define ST_DENIED 4u   /* 403: no permission, or a link that may not be followed */
#define ST_SHORT 5u    /* 503: no descriptors, no memory */
#define ST_BROKEN 6u   /* 500: the file system failed */

/* A path for which there is nothing to serve. */
#define ST_ABSENT_KEY 108u
#define ST_ABSENT 256u
struct st_absent {
	uint64_t hash, checked;
	uint16_t outcome, n; /* ST_*; 0: empty place */
	char key[ST_ABSENT_KEY];
};

struct st_cache {
	struct st_entry **bucket;
	struct {
		struct st_entry *newest, *oldest;
	} list[2]; /* [1]: entries with descriptors */
	uint64_t bytes, max_bytes, seed;
	uint32_t nbuckets, n, nfds, max_fds;
	struct st_absent *absent; /* ST_ABSENT places, NULL: absences are not kept */
};
int st_cache_make(struct st_cache *, uint64_t max_bytes, uint32_t max_fds, int absences); /* 0, -ENOMEM */
void st_cache_free(struct st_cache *);
uint64_t st_hash(const struct st_cache *, const char *, size_t n);
struct st_entry *st_cache_get(struct st_cache *, uint64_t hash, const char *, size_t n); /* NULL: unknown */
/* Takes an entry if the limits allow for it, others are given up for it; else it stays the caller's (cached = 0).  No
 * entry with its key may be there. */
void st_cache_put(struct st_cache *, struct st_entry *);
void st_cache_drop(struct st_cache *, struct st_entry *); /* out of the cache, and gone */
void st_entry_free(struct st_entry *);
/* Give up all descriptors that are kept: how many. */
uint32_t st_cache_drop_fds(struct st_cache *);
/* The outcome for an absent key that was found at most `valid` ns ago; 0: not known. */
uint32_t st_absent_get(struct st_cache *, uint64_t hash, const char *, size_t n, uint64_t now, uint64_t valid);
void st_absent_put(struct st_cache *, uint64_t hash, const char *, size_t n, uint64_t now, uint32_t outcome);

/* ---- module.c ---- */

struct st_conf {
	const char *root, *default_type, *charset, *expires, *cache_control, *fallback;
	struct lc_list index, types, add_header;
	uint64_t symlinks, cache_size, cache_max_file_size, cache_valid, cache_descriptors;
	uint8_t etag, dotfiles, gzip_static, brotli_static;
};

#define ST_FALLBACK_OFF 0u
#define ST_FALLBACK_ON 1u   /* declined: the next route, the application */
#define ST_FALLBACK_FILE 2u /* another file is served */

struct st_inst {
	struct lc_wctx *ctx;
	const struct lc_worker_api *api;
	const struct lc_stream_api *stream;
	const struct st_conf *conf;
	struct st_root root;
	struct st_types types;
	struct st_cache cache;
	struct lc_list index;     /* empty: off */
	uint64_t valid, max_file; /* ns; bytes */
	uint8_t fallback;         /* ST_FALLBACK_* */
	uint8_t bare;             /* the prefix does not end in '/' */
	struct lc_str fallback_key;
	char *cache_control;     /* value of Cache-Control, NULL: none */
	struct lc_field *common; /* Cache-Control and those of add_header */
	uint32_t ncommon;
	uint64_t complained; /* ns: when a shortage was last logged */
};
/* "30d", "max", "epoch", "off": seconds; -1: off, -2: epoch, -3: none of these. */
int64_t st_expires_parse(const char *);
int st_inst_make(struct lc_wctx *, const struct lc_worker_api *, const struct lc_route *, const void *conf, void **ret);
void st_inst_free(void *);

/* ---- load.c ---- */

/* What is there for a key (the path below the prefix, without a leading '/'), from the cache or the file system: ST_*,
 * *ret with ST_FOUND alone.  An entry that is not `cached` is the caller's. */
uint32_t st_load(struct st_inst *, const char *key, size_t n, struct st_entry **ret);

/* ---- serve.c ---- */

int st_request(void *h, struct lc_stream *, const struct lc_match *);

#endif
