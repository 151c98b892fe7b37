/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dispatch.c - llhttp's state machine for the processor that we run on.
 *
 * llhttp.c scans URLs and field values 16 bytes at a time where it is compiled for SSE 4.2.  All of llhttp is compiled
 * twice, and what llhttp_execute() calls is chosen once, before anybody can call it.  Both share the parser's state.
 */
#include <llhttp.h>

llhttp_errno_t llhttp_execute_base(llhttp_t *, const char *, size_t);
llhttp_errno_t llhttp_execute_sse42(llhttp_t *, const char *, size_t);

static llhttp_errno_t (*run)(llhttp_t *, const char *, size_t) = llhttp_execute_base;

__attribute__((constructor)) static void
choose(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("sse4.2"))
		run = llhttp_execute_sse42;
}

llhttp_errno_t
llhttp_execute(llhttp_t *p, const char *data, size_t n)
{
	return run(p, data, n);
}
