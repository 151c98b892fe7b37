/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_conf.c - the configuration parser: no text may crash it, and what it accepts must survive both round trips
 * (the text for workers, the dump of -T).
 */
#include "../unit/conf_fake.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct lc_conf *
parse(const char *text, size_t n, int opaque, int must)
{
	struct lc_conf_opts o = {
	    .prefix = "/base", .opaque = opaque, .use_env = 1, .load_module = fake_load, .whose = fake_whose};
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;
	int r = lc_conf_parse(&conf, text, n, "text", &o, err);

	if ((r == 0) != (lc_err_count(err) == 0) || (r < 0 && !*lc_err_text(err)))
		abort();
	if (r < 0 && must) {
		fprintf(stderr, "not accepted again:\n%s\n%.*s\n", lc_err_text(err), (int)n, text);
		abort();
	}
	lc_err_free(err);
	return conf;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	for (int opaque = 0; opaque < 2; opaque++) {
		struct lc_conf *conf = parse((const char *)data, n, opaque, 0), *again;
		size_t len;
		if (!conf)
			continue;
		char *dump = lc_conf_dump(conf), *text = lc_conf_text(conf, NULL, &len);
		if (!dump || !text || strlen(text) != len)
			abort();
		again = parse(text, len, opaque, 1);
		char *dump2 = lc_conf_dump(again);
		if (strcmp(dump, dump2)) { /* positions too: the marks keep them */
			fprintf(stderr, "text round trip:\n%s\n---\n%s\n", dump, dump2);
			abort();
		}
		lc_conf_free(again);
		free(dump2);
		if (!opaque)
			lc_conf_free(parse(dump, strlen(dump), 0, 1));
		const struct lc_block *pool = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, NULL);
		char *part = lc_conf_text(conf, pool, &len);
		lc_conf_free(parse(part, len, opaque, 1));
		free(part);
		free(dump);
		free(text);
		lc_conf_free(conf);
	}
	return 0;
}
