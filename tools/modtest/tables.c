/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/tables.c - see tables.h.
 */
#include "tables.h"

#include "module/loader.h"
#include "net/server.h"

void
mt_register_tables(const void *conn, size_t size)
{
	lc_srv_register_tables();
	lc_host_register("conn", 1, conn, size); /* in place of the core's */
}
