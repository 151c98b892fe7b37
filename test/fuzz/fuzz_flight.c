/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_flight.c - the arbiter's reader of a flight recorder that a hostile worker wrote.
 *
 * The input is what stands in the memory: two bytes of place, one of length, then so many bytes, again and again
 * (places beyond the beginning of the records are spread over all of it).  No crash, no read beyond it, every report
 * one that fits and in which every request is one line of printable characters.
 */
#include <stdint.h>
#include <stdlib.h>

#include "flight/flight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char buf[8192];
	struct lc_flight *m = calloc(1, sizeof(*m)); /* of the exact size: a sanitizer sees what is beyond */

	if (!m)
		return 0;
	while (n > 3) {
		size_t at = (size_t)(data[0] | data[1] << 8), len = data[2];

		if (at >= 2048)
			at = at * (sizeof(*m) / 65536 + 1);
		data += 3;
		n -= 3;
		if (len > n)
			len = n;
		if (at >= sizeof(*m))
			at = sizeof(*m) - 1;
		if (len > sizeof(*m) - at)
			len = sizeof(*m) - at;
		memcpy((char *)m + at, data, len);
		data += len;
		n -= len;
	}
	for (size_t size = 1; size <= sizeof(buf); size *= 8) {
		size_t lines = 0, used;
		uint32_t found;

		memset(buf, 1, sizeof(buf));
		found = lc_fl_print_all(m, UINT64_C(5000000000), 8, buf, size);
		used = strnlen(buf, size);
		if (used >= size)
			abort();
		for (size_t i = 0; i < used; i++) {
			lines += buf[i] == '\n';
			if (buf[i] != '\n' && (buf[i] < 0x20 || buf[i] > 0x7e))
				abort();
		}
		if (found > LC_FL_RECORDS || lines > 9 || (found && size == 4096 && !lines))
			abort();
		memset(buf, 1, sizeof(buf));
		int k = lc_fl_print_crash(m, "SIGSEGV", buf, size);
		if (k < 0 || (size_t)k >= size)
			abort();
	}
	if (lc_fl_stack_len(m) > LC_FL_STACK)
		abort();
	free(m);
	return 0;
}
