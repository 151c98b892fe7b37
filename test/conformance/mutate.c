/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutate.c - linked into the build of the http1 module that test/conformance/mutate loads, and into no other.
 *
 * LICORNE_CHECK_OFF names the check of checks.h that is off, "none" for none.  Where llhttp looks for the same it is
 * made lenient, too; what it cannot be lenient about ends the connection without an answer (parse_error() in recv.c).
 */
#include <stdlib.h>
#include <string.h>

#include "http1/http1.h"

void h1_mutate_init(llhttp_t *, llhttp_type_t, const llhttp_settings_t *);

static const char *const names[] = {
#define X(id, name, status, text) name,
    H1_CHECKS(X)
#undef X
};

static unsigned
off(void)
{
	static unsigned which = H1_CHECK_COUNT + 1;

	if (which > H1_CHECK_COUNT) {
		const char *name = getenv("LICORNE_CHECK_OFF");
		which = 0;
		while (name && which < H1_CHECK_COUNT && strcmp(names[which], name) != 0)
			which++;
		if (!name || (which == H1_CHECK_COUNT && strcmp(name, "none") != 0))
			abort(); /* a misspelt name must not look like a check that nothing depends on */
	}
	return which;
}

int
h1_on(enum h1_check check)
{
	return off() != (unsigned)check;
}

/* llhttp_init() of this build (meson.build). */
void
h1_mutate_init(llhttp_t *p, llhttp_type_t type, const llhttp_settings_t *settings)
{
	llhttp_init(p, type, settings);
	switch (off()) {
	case H1_LINE_ENDING:
	case H1_FIELD_ENDING:
	case H1_CHUNK_LINE:
	case H1_CHUNK_EXT:
		llhttp_set_lenient_optional_lf_after_cr(p, 1);
		llhttp_set_lenient_optional_cr_before_lf(p, 1);
		break;
	case H1_CHUNK_END:
		llhttp_set_lenient_optional_crlf_after_chunk(p, 1);
		break;
	case H1_CHUNK_SIZE:
		llhttp_set_lenient_spaces_after_chunk_size(p, 1);
		break;
	case H1_FIELD_FOLD:
	case H1_FIELD_VALUE:
	case H1_FIELD_NAME:
		llhttp_set_lenient_headers(p, 1);
		break;
	default:
		break;
	}
}
