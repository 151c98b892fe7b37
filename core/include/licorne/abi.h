/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/abi.h - types shared by the core and every module.
 *
 * Rules for every public header (docs/abi.md): fixed-width integers, pointers and size_t only; no enum,
 * bool, long, off_t, time_t, bit-field or #ifdef inside a struct; structs that may grow start with their
 * size and are append-only; no build option changes one.  test/modules/layout.c prints every offset and a
 * golden file per ABI number holds them still.
 */
#ifndef LC_ABI_H
#define LC_ABI_H

#include <stddef.h>
#include <stdint.h>

#define LC_MODULE_MAGIC UINT32_C(0x4c434d31) /* "LCM1" */
/* Major: must be equal on both sides.  It is 0 while interface kinds are still being added. */
#define LC_ABI_MAJOR 0
/* Minor: the module's must not be newer than the server's; grows when something is appended. */
#define LC_ABI_MINOR 2

/* A counted byte string, not NUL-terminated.  {NULL, 0} means "absent" where a comment says so. */
struct lc_str {
	const char *p;
	size_t n;
};

/*
 * One header or trailer field.  `token` is a value of enum lc_token (tokens.h), 0 when the name is not a
 * known one.  Incoming names are lower case in every protocol version; outgoing names may have any case,
 * the protocol module normalises them.
 */
struct lc_field {
	struct lc_str name, value;
	uint16_t token, flags;
	uint32_t pad;
};

/* lc_slice.flags */
#define LC_SL_COPY 1u /* the callee copies the bytes before it returns; release is called at once */

/*
 * A piece of outgoing data.  fd < 0: n bytes of memory at p; else n bytes of file fd from offset off, which the callee
 * neither moves the position of nor closes: release() does what there is to do, and has to be set.
 * Ownership: with `release` set, ownership passes to the callee in every case, errors included, and it calls
 * release(arg) exactly once, on any thread, possibly the loop's: release must not block or take the GIL.
 * With release NULL and no LC_SL_COPY the memory must stay valid until the stream ends (its arena, or static).
 */
struct lc_slice {
	const uint8_t *p;
	uint64_t n, off;
	void (*release)(void *arg);
	void *arg;
	int32_t fd;
	uint32_t flags;
};

struct lc_conn;   /* opaque: one transport connection */
struct lc_stream; /* opaque: one request/response exchange */
struct lc_wctx;   /* opaque: this worker process */
struct lc_outv;   /* opaque: output vector with a byte budget */
struct lc_stat;   /* opaque: counter sink for `licorne status` */
struct lc_err;    /* opaque: collects file:line + message */

/* Log levels, syslog's order: a smaller number is more severe. */
#define LC_LOG_CRIT 2
#define LC_LOG_ERROR 3
#define LC_LOG_WARN 4
#define LC_LOG_NOTICE 5
#define LC_LOG_INFO 6
#define LC_LOG_DEBUG 7

#define LC_EXPORT __attribute__((visibility("default")))
#define LC_PRINTF(f, a) __attribute__((format(printf, f, a)))

#endif
