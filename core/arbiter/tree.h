/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/tree.h - which files below some folders change, by inotify(7).
 *
 * One thread owns a tree.  What is to be watched is a text of lines:
 *
 *   tree DIR         the folder and those below it; one that does not exist is left out
 *   file PATH        one file more, wherever it is
 *   match GLOB       names of files that count, below trees (fnmatch(3); none begins with "." unless the pattern does)
 *   skip GLOB        names of folders that are left out with all below them
 *   skip-with NAME   folders that have such a file are left out; never a tree's first folder
 *
 * A link to a folder is not followed.  At most LC__TREE_DIRS folders are watched, the upper ones first; when that, or
 * the user's share of inotify's watches, is reached, the log has a warning and the rest is not watched.
 */
#ifndef LC_CORE_ARBITER_TREE_H
#define LC_CORE_ARBITER_TREE_H

#include <stddef.h>
#include <stdint.h>

#define LC__TREE_DIRS 8192u
#define LC__TREE_QUIET 100  /* ms without a change after which those before it are told */
#define LC__TREE_LONG 1000  /* or so many after the first */
#define LC__TREE_NAMES 512u /* are told apart; more are not counted one by one */
#define LC__TREE_TOLD 3u    /* are written out */

struct lc__tree;

/* Files that changed after `since` (ns of CLOCK_REALTIME; INT64_MAX: none) count as changed.  0; -EINVAL: a line is
 * none of those above; -errno.  What is wrong is in the log. */
int lc__tree_open(struct lc__tree **ret, const char *text, size_t n, int64_t since);
void lc__tree_close(struct lc__tree *);   /* NULL is fine */
int lc__tree_fd(const struct lc__tree *); /* to be polled for reading; it may be another one after lc__tree_read() */
uint32_t lc__tree_dirs(const struct lc__tree *); /* how many folders are watched */
/* Takes what there is, without waiting, at the time `now` (ms of CLOCK_MONOTONIC).  0 or -errno, which is in the log:
 * the tree is of no use any more. */
int lc__tree_read(struct lc__tree *, int64_t now);
/* ms from now on until changes are to be told; -1: there are none. */
int lc__tree_due(const struct lc__tree *, int64_t now);
/* "shop/views.py, shop/models.py and 3 more", as seen from the current directory, and forgets them.  "": nothing. */
void lc__tree_take(struct lc__tree *, char *buf, size_t n);

#endif
