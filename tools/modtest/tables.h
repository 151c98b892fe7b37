/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/tables.h - apart from modtest.h: the core's own streams and connections are other structs than ours.
 */
#ifndef LC_MODTEST_TABLES_H
#define LC_MODTEST_TABLES_H

#include <stddef.h>

/* The core's tables, so that a module finds what it asks for in load(), and ours as "conn". */
void mt_register_tables(const void *conn, size_t size);

#endif
