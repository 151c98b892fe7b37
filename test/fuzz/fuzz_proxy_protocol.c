/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_proxy_protocol.c - any bytes: what is said of a beginning of them is never taken back when more come.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../modules/proxy_protocol/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct pp_header first = {0}, h;
	const char *why = NULL, *first_why = NULL;
	int said = 0;

	if (n > 2 * PP_MAX)
		n = 2 * PP_MAX;
	for (size_t k = 1; k <= n; k++) {
		uint8_t *exact = malloc(k); /* so that a read past the end is seen */
		if (!exact)
			abort();
		memcpy(exact, data, k);
		memset(&h, 0, sizeof(h));
		why = NULL;
		int r = pp_parse(&h, exact, k, &why);
		free(exact);
		if (r < -1 || r > (int)k || (r < 0) != (why != NULL) || (r == 0 && k >= PP_MAX)) {
			fprintf(stderr, "%d of %zu bytes: %s\n", r, k, why ? why : "-");
			abort();
		}
		if (said && (r != said || why != first_why || memcmp(&h, &first, sizeof(h)) != 0)) {
			fprintf(stderr, "%d, then %d with %zu bytes\n", said, r, k);
			abort();
		}
		if (r > 0 && h.kind > PP_UNIX)
			abort();
		if (!said && r) {
			said = r;
			first = h;
			first_why = why;
			/* the rest is looked at once: it must not matter */
			if (k + 1 < n)
				k = n - 1;
		}
	}
	return 0;
}
