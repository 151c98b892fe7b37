/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/module.h - the one function that a module's shared object exports.
 *
 * lc_module_query() returns a static descriptor.  The loader copies min(size, its own) bytes of it into a zeroed
 * struct, and walks arrays by the module's element size, so that both sides may grow.
 */
#ifndef LC_MODULE_H
#define LC_MODULE_H
#include "config.h"

/* lc_iface.kind */
#define LC_KIND_TRANSPORT 1u /* ops: struct lc_transport, version LC_TRANSPORT_VERSION */
#define LC_KIND_PROTOCOL 2u  /* ops: struct lc_proto, version LC_PROTO_VERSION */
#define LC_KIND_WORKER 3u    /* ops: struct lc_worker, version LC_WORKER_VERSION */
#define LC_KIND_HANDLER 4u   /* ops: struct lc_handler, version LC_HANDLER_VERSION */
#define LC_KIND_LOG_SINK 5u

struct lc_iface {
	uint32_t kind, version;
	const void *ops;
};

/* Given to load(); get() returns NULL when the server has no such table, version or size. */
struct lc_host {
	uint32_t size;
	uint16_t abi_major, abi_minor;
	const char *version;
	/* "conn", "stream", "worker", "transport", "config"; min_size is the caller's sizeof of the table. */
	const void *(*get)(const char *name, uint32_t version, size_t min_size);
};

struct lc_module {
	/* frozen for ever: enough to print a useful refusal */
	uint32_t magic;
	uint16_t abi_major, abi_minor;
	uint32_t size, flags;
	const char *name, *version, *built_for;
	/* ABI major 0 */
	const char *summary;
	const char *const *needs; /* other modules by name, NULL-ended; NULL: none */
	const struct lc_iface *ifaces;
	const struct lc_directive *directives;
	uint32_t nifaces, iface_size; /* element sizes: arrays may grow too */
	uint32_t ndirectives, directive_size;
	uint64_t conf_size;                              /* of the struct that the rows' offsets are in */
	int (*check)(const void *conf, struct lc_err *); /* after defaults and inheritance; no I/O but stat() */
	int (*load)(const struct lc_host *);             /* once per process: fetch the host tables */
};

typedef const struct lc_module *lc_module_query_fn(const struct lc_host *);

#define LC_STR2_(x) #x
#define LC_STR_(x) LC_STR2_(x)
#define LC_MODULE_HEAD(nm, ver)                                                         \
	.magic = LC_MODULE_MAGIC, .abi_major = LC_ABI_MAJOR, .abi_minor = LC_ABI_MINOR, \
	.size = sizeof(struct lc_module), .name = nm, .version = ver,                   \
	.built_for = "licorne-abi " LC_STR_(LC_ABI_MAJOR) "." LC_STR_(LC_ABI_MINOR),    \
	.iface_size = sizeof(struct lc_iface), .directive_size = sizeof(struct lc_directive)
#define LC_MODULE_ENTRY(desc)                                                      \
	LC_EXPORT const struct lc_module *lc_module_query(const struct lc_host *); \
	const struct lc_module *lc_module_query(const struct lc_host *h)           \
	{                                                                          \
		(void)h;                                                           \
		return &(desc);                                                    \
	}

#endif
