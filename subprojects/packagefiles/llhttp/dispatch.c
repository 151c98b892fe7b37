/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dispatch.c - llhttp's state machine for the processor that we run on.
 *
 * llhttp.c scans URLs and field values 16 bytes at a time where it is compiled for SSE 4.2.  It is compiled twice, and
 * what llhttp_execute() calls is chosen once, before anybody can call it.  Both share the parser's state.
 */
#include <llhttp.h>

int llhttp__internal_execute_base(llhttp__internal_t *, const char *, const char *);
int llhttp__internal_execute_sse42(llhttp__internal_t *, const char *, const char *);

static int (*run)(llhttp__internal_t *, const char *, const char *) = llhttp__internal_execute_base;

__attribute__((constructor)) static void
choose(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("sse4.2"))
		run = llhttp__internal_execute_sse42;
}

int
llhttp__internal_execute(llhttp__internal_t *s, const char *p, const char *end)
{
	return run(s, p, end);
}
