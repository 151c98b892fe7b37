/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_static.c - field values that the module "static" reads: conditions, ranges, dates, tags, codings.
 *
 * Input: lines "NAME value", where NAME is a letter for a field (see `tokens`); a line "s NUMBER" sets the size of the
 * file.  What must hold whatever they say: a range lies within the size, what is a date can be written and read again,
 * a status is one of three.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "static.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define MAX_FIELDS 16u
#define NOW INT64_C(1795000000)

static const struct {
	char name;
	uint16_t token;
} tokens[] = {{'m', LC_TOK_IF_MATCH},          {'n', LC_TOK_IF_NONE_MATCH},       {'s', LC_TOK_NONE},
	      {'t', LC_TOK_IF_MODIFIED_SINCE}, {'u', LC_TOK_IF_UNMODIFIED_SINCE}, {'r', LC_TOK_RANGE},
	      {'i', LC_TOK_IF_RANGE},          {'a', LC_TOK_ACCEPT_ENCODING}};

static void
must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void
one_value(const char *p, size_t n)
{
	int64_t s, again;
	char text[29];

	if (st_date_parse(&s, p, n, NOW)) {
		must(n >= 24 && n <= 33, "a date of another length");
		st_date_put(text, s);
		must(s < -INT64_C(62135596800) || (st_date_parse(&again, text, 29, NOW) && again == s),
		     "a date that is not the same when it is written");
	}
	/* a list names a tag by the weak comparison when it does by the strong one */
	static const struct lc_str tag = {"\"t\"", 3}, weak = {"W/\"t\"", 5};
	must(!st_tags_have(p, n, tag, 1) || st_tags_have(p, n, tag, 0), "strong and not weak");
	must(!st_tags_have(p, n, weak, 1) || (n == 1 && *p == '*'), "a weak tag that is strong");
	struct st_accept a = {-1, -1, -1, -1};
	st_accept_parse(&a, p, n);
	must(a.gzip >= -1 && a.gzip <= 1000 && a.br >= -1 && a.br <= 1000 && a.any >= -1 && a.any <= 1000 &&
		 a.identity >= -1 && a.identity <= 1000,
	     "a weight that is none");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct lc_field f[MAX_FIELDS];
	struct lc_req q = {.size = sizeof(q), .fields = f};
	char *value[MAX_FIELDS];
	uint64_t size = 1000, first = 0, last = 0;
	const char *p = (const char *)data, *end = p + n;

	while (p < end && q.nfields < MAX_FIELDS) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *eol = nl ? nl : end;
		size_t k = 0;
		while (k < sizeof(tokens) / sizeof(tokens[0]) && tokens[k].name != *p)
			k++;
		if (k < sizeof(tokens) / sizeof(tokens[0]) && eol - p >= 2) {
			size_t len = (size_t)(eol - p - 2);
			if (*p == 's') {
				for (size = 0, p += 2; p < eol && *p >= '0' && *p <= '9'; p++)
					size = size * 10 + (uint64_t)(*p - '0');
			} else {
				/* of exactly its length, so that the sanitizer sees a read outside */
				char *v = value[q.nfields] = malloc(len ? len : 1);
				memcpy(v, p + 2, len);
				one_value(v, len);
				f[q.nfields++] = (struct lc_field){.value = {v, len}, .token = tokens[k].token};
			}
		}
		p = nl ? nl + 1 : end;
	}
	const struct st_validators v = {.tag = {"\"t\"", 3},
					.changed = {"Sun, 06 Nov 1994 08:49:37 GMT", 29},
					.seconds = 784111777,
					.strong = (int)(size & 1)};
	struct st_ask ask;
	st_ask_read(&ask, &q);
	uint32_t status = st_ask_condition(&ask, &v, NOW);
	must(status == 0 || status == 304 || status == 412, "another status");
	must(status == 0 ||
		 (ask.has & (ST_HAS_IF_MATCH | ST_HAS_IF_NONE_MATCH | ST_HAS_IF_MODIFIED | ST_HAS_IF_UNMODIFIED)),
	     "a status without a condition");
	int range = st_ask_range(&ask, &v, size, &first, &last);
	must(range != ST_RANGE_ONE || (first <= last && last < size), "a range outside of the file");
	must(range == ST_RANGE_NONE || (ask.has & ST_HAS_RANGE), "a range without a field");
	for (uint32_t k = 0; k < q.nfields; k++)
		free(value[k]);
	return 0;
}
