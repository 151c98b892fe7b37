/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c - a small worker module, written as a third party would, built in many variants: one that is right and
 * one for each way to be wrong.  meson.build defines one V_... for each; test_loader.c knows what is said of it.
 */
#include <errno.h>
#include <licorne/module.h>
#include <licorne/transport.h>
#include <licorne/worker.h>

#ifndef NAME
#define NAME "good"
#endif

struct conf {
	uint64_t number;
	const char *word;
	struct lc_list list;
};

#ifdef V_SHORT
/* As an older SDK had it: a row ends before `since`, the descriptor before `load`. */
struct row {
	const char *name;
	uint32_t type, context, flags, offset;
	const char *def;
	const void *aux;
};
_Static_assert(sizeof(struct row) == offsetof(struct lc_directive, since), "not the same beginning");
static const struct row rows[] = {
    {"good_number", LC_T_UINT, LC_C_WORKER, 0, offsetof(struct conf, number), "5", NULL},
    {"good_word", LC_T_STR, LC_C_WORKER, 0, offsetof(struct conf, word), "w", NULL},
};
#else
static const struct lc_directive rows[] = {
    LC_UINT(struct conf, number, "good_number", LC_C_MAIN | LC_C_WORKER, "5", NULL, "A number.", "Some number."),
#if defined(V_ROW_OUTSIDE)
    LC_ROW_(LC_T_STR, "good_word", LC_C_WORKER, 0, sizeof(struct conf), NULL, NULL, "WORD", "A word.", "Some word."),
#elif defined(V_ROW_NO_DOC)
    LC_STRING(struct conf, word, "good_word", LC_C_WORKER, 0, NULL, "A word.", NULL),
#elif defined(V_ROW_NO_BRIEF)
    LC_STRING(struct conf, word, "good_word", LC_C_WORKER, 0, NULL, "", "Some word."),
#elif defined(V_ROW_TYPE)
    LC_ROW_(99, "good_word", LC_C_WORKER, 0, 8, NULL, NULL, "WORD", "A word.", "Some word."),
#elif defined(V_ROW_DEFAULT)
    LC_ROW_(LC_T_UINT, "good_word", LC_C_WORKER, 0, 8, "many", NULL, "WORD", "A word.", "Some word."),
#else
    LC_STRING(struct conf, word, "good_word", LC_C_WORKER, LC_D_REQUIRED, NULL, "A word.", "Some word."),
#endif
    LC_LIST(struct conf, list, "good_list", LC_C_WORKER, NULL, "WORD ...", "A list.", "Some `list` | of words."),
};
#endif

static int
init(struct lc_wctx *ctx, const struct lc_worker_api *api, const void *conf, void **w)
{
	return -ENOSYS;
}

static void __attribute__((unused)) request(void *w, struct lc_stream *s)
{
}

static const struct lc_worker ops = {
#ifdef V_OPS_SIZE
    .size = 4,
#else
    .size = sizeof(struct lc_worker),
#endif
    .name = NAME,
    .init = init,
#ifndef V_OPS_LACK
    .request = request,
#endif
};

#if defined(V_TR_LASTING) || defined(V_TR_PROLOGUE) || defined(V_TR_HEADER)
static int
tr_open(struct lc_conn *c, void *inst, void **t)
{
	return 0;
}

static void
tr_close(void *t)
{
}

static int __attribute__((unused)) tr_header(void *t, const uint8_t *p, size_t n, size_t *used)
{
	return LC_TR_GO;
}

static const struct lc_transport tr_ops = {
    .size = sizeof(struct lc_transport),
    .name = NAME,
    .open = tr_open,
    .close = tr_close,
#if defined(V_TR_PROLOGUE)
    .header_max = 16,
#elif defined(V_TR_HEADER)
    .header_max = LC_TR_HEADER_MAX + 1,
    .header = tr_header,
#endif
};
#define V_TRANSPORT
#endif

static const struct lc_iface ifaces[] = {{
#ifdef V_IFACE_KIND
    .kind = 77,
#elif defined(V_TRANSPORT)
    .kind = LC_KIND_TRANSPORT,
#else
    .kind = LC_KIND_WORKER,
#endif
#ifdef V_IFACE_VERSION
    .version = 99,
#else
    .version = LC_WORKER_VERSION,
#endif
#ifdef V_TRANSPORT
    .ops = &tr_ops,
#else
    .ops = &ops,
#endif
}};

#ifdef V_MISSING_SYMBOL
int licorne_test_nowhere(void);
#endif

static int __attribute__((unused)) load(const struct lc_host *h)
{
#if defined(V_MISSING_SYMBOL)
	return licorne_test_nowhere();
#elif defined(V_LOAD_TABLE)
	return h->get("test_none", 3, 8) ? 0 : -ENOSYS;
#elif defined(V_LOAD_FAILS)
	return -EIO;
#else
	/* "test_table" has 16 bytes of version 2: asking for more, or another version, gets nothing */
	if (h->get("test_table", 2, 17) || h->get("test_table", 1, 16))
		return -EPROTO;
	return h->get("test_table", 2, 16) && h->get("config", 1, sizeof(struct lc_config_api)) ? 0 : -ENOSYS;
#endif
}

#ifdef V_NEEDS
static const char *const needs[] = {"test_other", NULL};
#endif

#ifndef V_NO_QUERY
static const struct lc_module desc = {
    LC_MODULE_HEAD(NAME, "1.2"),
    .summary = "A module for tests.",
    .ifaces = ifaces,
    .nifaces = 1,
    .directives = (const struct lc_directive *)rows,
    .ndirectives = sizeof(rows) / sizeof(rows[0]),
    .conf_size = sizeof(struct conf),
    .load = load,
#ifdef V_NEEDS
    .needs = needs,
#endif
};

LC_EXPORT const struct lc_module *lc_module_query(const struct lc_host *);
const struct lc_module *
lc_module_query(const struct lc_host *h)
{
	static struct lc_module d;

	if (h->size < sizeof(*h) || h->abi_major != LC_ABI_MAJOR || !h->version)
		return NULL;
	d = desc;
#if defined(V_MAGIC)
	d.magic = 0x11111111;
#elif defined(V_MAJOR)
	d.abi_major = 9;
	d.abi_minor = 2;
#elif defined(V_MINOR)
	d.abi_minor = 99;
#elif defined(V_NULL)
	return NULL;
#elif defined(V_NO_NAME)
	d.name = NULL;
#elif defined(V_NO_VERSION)
	d.version = NULL;
#elif defined(V_NO_SUMMARY)
	d.summary = "two\nlines";
#elif defined(V_SIZE)
	d.size = 8;
#elif defined(V_NO_IFACES)
	d.nifaces = 0;
#elif defined(V_ROW_STRIDE)
	d.directive_size = 12;
#elif defined(V_ROWS_NULL)
	d.directives = NULL;
#elif defined(V_SHORT)
	d.size = offsetof(struct lc_module, load);
	d.load = (int (*)(const struct lc_host *))(uintptr_t)1; /* beyond its size: never looked at */
	d.directive_size = sizeof(struct row);
#endif
	return &d;
}
#endif
