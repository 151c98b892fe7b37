/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/module/loader_priv.h - what loader.c lends describe.c.
 */
#ifndef LC_CORE_MODULE_LOADER_PRIV_H
#define LC_CORE_MODULE_LOADER_PRIV_H

#include "module/loader.h"

/* Folders that modules are looked for in, separated by ':'; free() it; NULL: no memory. */
char *lc__mod_path(void);
const char *lc__mod_kind(uint32_t kind);
/* 1: modules are asked what they are but not load()ed (a scan in a child process). */
extern int lc__mod_skip_load;

#endif
