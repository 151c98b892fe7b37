/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/json.h - the arbiter's answers (RFC 8259), read in place.
 *
 * A text becomes an array of tokens in its order; nothing is copied, and a token knows where in the text it stands.
 */
#ifndef LC_CORE_CLI_JSON_H
#define LC_CORE_CLI_JSON_H

#include <stddef.h>
#include <stdint.h>

struct lc_json_token {
	char type;       /* '{', '[', '"', or 'v': number, true, false, null */
	uint32_t at, n;  /* in the text; of a string what is between the quotes, of others all of it */
	uint32_t behind; /* the token after it and what is in it */
};
struct lc_json {
	const char *text;        /* borrowed */
	struct lc_json_token *v; /* v[0] is the whole */
	uint32_t n, cap;
};

int lc_json_parse(struct lc_json *, const char *text, size_t n); /* 0, -EINVAL or -ENOMEM */
void lc_json_free(struct lc_json *);
/* The value of an object's member; 0: it is no object, or has none of the name. */
uint32_t lc_json_get(const struct lc_json *, uint32_t object, const char *name);
/* The first element of an array, or the one after `at`; 0: there are no more. */
uint32_t lc_json_first(const struct lc_json *, uint32_t array);
uint32_t lc_json_next(const struct lc_json *, uint32_t array, uint32_t at);
/* Of a token, 0 and null included: what it amounts to.  Text has no control characters: it may go to a terminal. */
double lc_json_number(const struct lc_json *, uint32_t token, double otherwise);
int lc_json_true(const struct lc_json *, uint32_t token);
const char *lc_json_text(const struct lc_json *, uint32_t token, char *buf, size_t size); /* buf; "" if it is none */

#endif
