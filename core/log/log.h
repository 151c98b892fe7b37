/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/log.h - diagnostics of every role, one write(2) per line to fd 2.
 *
 * The arbiter opens the error log and makes it its children's fd 2, so no child opens a file.  The log process will
 * take this interface over.  Control bytes in arguments are escaped: nothing forges a line.
 */
#ifndef LC_CORE_LOG_LOG_H
#define LC_CORE_LOG_LOG_H

#include <licorne/abi.h>
#include <stdarg.h>

/* "arbiter", "worker web/0"; copied, printed with the pid in each line. */
void lc_log_role(const char *role);
void lc_log_level(int level); /* LC_LOG_*: what is less severe is dropped */
void lc_log_plain(int on);    /* 1: "licorne: text" alone, for a command line before it serves */
/* Warnings and worse go to this fd as well: a terminal, while the error log is a file and nothing serves yet.  -1: no.
 */
void lc_log_mirror(int fd);
int lc_log_level_parse(const char *name); /* "debug" .. "crit" -> LC_LOG_*, or -EINVAL */
int lc_log_enabled(int level);
/* Any thread; keeps errno.  At most 8 KiB a line; longer text goes through lc_log_text(). */
void lc_log(int level, const char *fmt, ...) LC_PRINTF(2, 3);
void lc_logv(int level, const char *fmt, va_list) LC_PRINTF(2, 0);
/* A text of several lines (a traceback), headed by a line and indented. */
void lc_log_text(int level, const char *head, const char *text, size_t n);

#endif
