/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_fake.h - three invented modules' directives (one row of each type), for tests of the configuration parser.
 */
#ifndef CONF_FAKE_H
#define CONF_FAKE_H

#include "config/conf.h"

#include <licorne/module.h>
#include <string.h>

struct fake_proto { /* speaks a protocol; directives for listeners */
	uint64_t head, wait, old;
	uint8_t strict;
};
struct fake_app { /* a worker; every type */
	const char *app, *dir, *key;
	uint64_t threads, buffer, level, umask_;
	struct lc_list paths, env, words;
	struct lc_msec2 delay;
	uint8_t trace;
};
struct fake_app2 { /* a worker that shares names with the other */
	const char *app;
	uint64_t threads;
};

static const struct lc_range fake_head_range = {1024, 1 << 20}, fake_wait_range = {100, 3600000},
			     fake_threads_range = {1, 256};
static const struct lc_range fake_delay_range = {10, 60000}, fake_umask_range = {0, 0777};
static const struct lc_enum fake_levels[] = {{"low", 1}, {"high", 2}, {NULL, 0}};
static const struct lc_enum fake_none[] = {{"none", 0}, {NULL, 0}};

#define FAKE_ALL (LC_C_MAIN | LC_C_POOL | LC_C_LISTEN)
#define FAKE_W (LC_C_MAIN | LC_C_POOL | LC_C_WORKER)
static const struct lc_directive fake_proto_rows[] = {
    LC_SIZE(struct fake_proto, head, "head_max", FAKE_ALL, "32k", &fake_head_range, "b", "d"),
    LC_MSEC(struct fake_proto, wait, "head_timeout", FAKE_ALL, "30s", &fake_wait_range, "b", "d"),
    LC_UINT(struct fake_proto, old, "old_number", LC_C_LISTEN, NULL, NULL, "b", "d"),
    LC_FLAG(struct fake_proto, strict, "strict", FAKE_ALL, "on", "b", "d"),
};
static const struct lc_directive fake_app_rows[] = {
    LC_STRING(struct fake_app, app, "app", LC_C_WORKER, LC_D_REQUIRED, NULL, "b", "d"),
    LC_ROW_(LC_T_PATH, "dir", FAKE_W, 0, LC_AT_(struct fake_app, dir, const char *), "none", fake_none, "PATH | none",
	    "b", "d"),
    LC_STRING(struct fake_app, key, "key", FAKE_W, LC_D_SECRET, NULL, "b", "d"),
    LC_UINT(struct fake_app, threads, "threads", FAKE_W, "4", &fake_threads_range, "b", "d"),
    LC_SIZE(struct fake_app, buffer, "buffer", FAKE_W, "64k", NULL, "b", "d"),
    LC_ENUM(struct fake_app, level, "level", FAKE_W, "low", fake_levels, "low | high", "b", "d"),
    LC_ROW_(LC_T_UINT, "umask", FAKE_W, LC_D_OCTAL, LC_AT_(struct fake_app, umask_, uint64_t), "0022",
	    &fake_umask_range, "OCTAL", "b", "d"),
    LC_LIST(struct fake_app, paths, "path", FAKE_W, "one two", "WORD ...", "b", "d"),
    LC_PAIRS(struct fake_app, env, "env", FAKE_W, "NAME VALUE", "b", "d"),
    LC_ROW_(LC_T_CUSTOM, "words", FAKE_W, 0, LC_AT_(struct fake_app, words, struct lc_list), NULL, NULL, "A B ...", "b",
	    "d"),
    LC_ROW_(LC_T_MSEC2, "delay", FAKE_W, 0, LC_AT_(struct fake_app, delay, struct lc_msec2), "10ms 1s",
	    &fake_delay_range, "MIN MAX", "b", "d"),
    LC_FLAG(struct fake_app, trace, "trace", FAKE_W, NULL, "b", "d"),
};
static const struct lc_directive fake_app2_rows[] = {
    LC_STRING(struct fake_app2, app, "app", LC_C_WORKER, LC_D_REQUIRED, NULL, "b", "d"),
    LC_UINT(struct fake_app2, threads, "threads", LC_C_POOL | LC_C_WORKER, "9", &fake_threads_range, "b", "d"),
};

struct fake_hand { /* a handler */
	const char *folder;
};
static const struct lc_directive fake_hand_rows[] = {
    LC_STRING(struct fake_hand, folder, "folder", LC_C_ROUTE, 0, "here", "b", "d"),
};

static int
fake_app_check(const void *conf, struct lc_err *err)
{
	const struct fake_app *a = conf;

	if (a->app && !strchr(a->app, ':'))
		lc_config_table.error(err, "app", "app: \"%s\" has no colon, expected MODULE:NAME", a->app);
	if (a->threads == 13)
		lc_config_table.error(err, "threads", "threads: 13 brings bad luck, expected another number");
	if (a->threads == 14)
		return -22;
	return 0;
}

#define FAKE_SET(nm, T, kd, ck)                                                                                 \
	{                                                                                                       \
		.owner = #nm, .rows = fake_##nm##_rows,                                                         \
		.nrows = sizeof(fake_##nm##_rows) / sizeof(fake_##nm##_rows[0]),                                \
		.stride = sizeof(struct lc_directive), .conf_size = sizeof(T), .check = ck, .kinds = 1u << (kd) \
	}
static const struct lc_dirset fake_proto = FAKE_SET(proto, struct fake_proto, LC_KIND_PROTOCOL, NULL);
static const struct lc_dirset fake_app = FAKE_SET(app, struct fake_app, LC_KIND_WORKER, fake_app_check);
static const struct lc_dirset fake_hand = FAKE_SET(hand, struct fake_hand, LC_KIND_HANDLER, NULL);
static const struct lc_dirset fake_app2 = FAKE_SET(app2, struct fake_app2, LC_KIND_WORKER, NULL);

static int
fake_load(void *arg, const char *name, const char *file, uint32_t line, struct lc_err *err,
	  const struct lc_dirset **ret)
{
	const struct lc_dirset *all[] = {&fake_proto, &fake_app, &fake_app2, &fake_hand};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i]->owner, name)) {
			*ret = all[i];
			return 0;
		}
	lc_err_add(err, file, line, "module \"%.64s\" was not found", name);
	return -2;
}

static inline const char *
fake_whose(void *arg, const char *directive)
{
	return !strcmp(directive, "absent_max") ? "absent" : "";
}

#endif
