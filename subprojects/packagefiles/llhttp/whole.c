/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * whole.c - all of llhttp as one unit, so that the state machine's calls of the user's callbacks are inlined.
 *
 * Trap: llhttp.c declares those functions with `unsigned char`, api.c and http.c define them with `char`.  This unit is
 * compiled with -funsigned-char, where the two have the same values, and llhttp.c, which writes `unsigned` before
 * nothing but `char`, is read without that word.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE4_2__
#include <x86intrin.h>
#endif
#if defined(__ARM_NEON__) || defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <llhttp.h>

_Static_assert((char)-1 > 0, "-funsigned-char");

#define unsigned
#include "src/llhttp.c"
#undef unsigned
#include "src/api.c"
#include "src/http.c"
