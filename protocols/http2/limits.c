/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c - frames that cost us something and bring nobody anything.
 *
 * Each abusable frame (a reset, SETTINGS, PING, PRIORITY, an empty DATA or CONTINUATION frame, a WINDOW_UPDATE of a few
 * bytes) charges the connection's account; what a client is here for (a request that is answered, body bytes either
 * way) pays into it.  An account over `abuse_limit` ends the connection with ENHANCE_YOUR_CALM (RFC 9113 10.5).  One
 * number instead of a limit per kind: a flood cannot be mixed to stay below each.
 */
#include "http2/http2.h"

int
h2_charge(struct h2 *s, uint32_t cost, const char *what)
{
	if (!s->conf->abuse || s->closing)
		return s->closing;
	s->abuse += cost;
	if (s->abuse <= s->conf->abuse)
		return 0;
	h2_go_away(s, NGHTTP2_ENHANCE_YOUR_CALM, what);
	return 1;
}

/* A KiB of body is worth a control frame, a body in tiny frames no more than any other. */
void
h2_brought(struct h2 *s, size_t n)
{
	s->brought += n;
	h2_worth(s, (uint32_t)(s->brought >> 10));
	s->brought &= 1023;
}

void
h2_worth(struct h2 *s, uint32_t n)
{
	s->abuse = s->abuse > n ? s->abuse - n : 0;
}
