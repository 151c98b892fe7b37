/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/module/loader.h - opens modules, checks their ABI, gives them the host tables.
 *
 * Modules are found by name in the search path (LICORNE_MODULE_PATH unless the process is privileged, the build
 * tree when run from it, the installed moduledir), or by a path that contains a '/'.  They are never unloaded.
 */
#ifndef LC_CORE_MODULE_LOADER_H
#define LC_CORE_MODULE_LOADER_H

#include <licorne/module.h>

#include "config/conf.h"

struct lc_mod {
	struct lc_module desc; /* our own copy, zero-filled beyond the module's size */
	struct lc_dirset dirset;
	const char *path;
	uint32_t index; /* order of loading */
	struct lc_mod *next;
};

/* Register a host table before the first load: "conn", 1, &table, sizeof(table).  The tables outlive the process. */
void lc_host_register(const char *name, uint32_t version, const void *table, size_t size);

/* 0 and the (possibly already loaded) module, or -errno with a one-sentence refusal in msg: it names the file, both
 * versions and the remedy. */
int lc_mod_load(struct lc_mod **ret, const char *name_or_path, char *msg, size_t msgsize);
/* All loaded, in order of loading. */
struct lc_mod *lc_mod_first(void);
struct lc_mod *lc_mod_find(const char *name);
/* First interface of that kind and version; NULL. */
const void *lc_mod_iface(const struct lc_mod *, uint32_t kind, uint32_t version);
/* Transports of a listen block, from the socket to the protocol: how many, or -EINVAL with an error in err. */
#define LC_MOD_TRANSPORTS 8u
int lc_mod_transports(const struct lc_conf *, const struct lc_block *, struct lc_mod *ret[LC_MOD_TRANSPORTS],
		      struct lc_err *);
/* For lc_conf_opts.load_module. */
int lc_mod_conf_load(void *arg, const char *name_or_path, const char *file, uint32_t line, struct lc_err *,
		     const struct lc_dirset **ret);
/* For lc_conf_opts.whose: scans the search path, in a child process so that nothing stays loaded here. */
const char *lc_mod_conf_whose(void *arg, const char *directive);
/* For lc_conf_opts.speaks: the first of those that are installed. */
const char *lc_mod_conf_speaks(void *arg);
/* `licorne module FILE`: what a shared object offers, to out; exit status. */
int lc_mod_describe(const char *name_or_path);
/* `licorne module --markdown [FILE|core ...]`: reference pages to standard output; none named: the core's; exit status.
 */
int lc_mod_markdown(int argc, char *const *argv);
/* Names of all modules in the search path that have an interface of that kind (0: any), NULL-ended, one malloc() block.
 * Looked up in a child process: nothing stays loaded here. */
char **lc_mod_installed(uint32_t kind);

#endif
