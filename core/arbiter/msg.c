/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/msg.c - the table of messages.  The arbiter and its children compile the same rows.
 */
#include "arbiter/msg.h"

#include <errno.h>
#include <stdio.h>

#define LIVE (LC_PS_BIT(LC_PS_STARTING) | LC_PS_BIT(LC_PS_READY) | LC_PS_BIT(LC_PS_DRAINING) | LC_PS_BIT(LC_PS_EXITING))
#define BOTH (LC_WS_SETUP | LC_WS_RUNNING)
#define ALL (BOTH | LC_ZS_RUNNING)

/* What was sent before the receiver's order arrived is legal: READY and the like while it is DRAINING or EXITING. */
static const struct lc_msg_row rows[] = {
    {LCIMSG_TYPE_HELLO, LC_ROLE_WORKER, 0, LC_PS_BIT(LC_PS_SPAWNING) | LC_PS_BIT(LC_PS_EXITING), 20, 256, "HELLO"},
    {LCIMSG_TYPE_HELLO, LC_ROLE_SUCCESSOR, 0, LC_PS_BIT(LC_PS_SPAWNING) | LC_PS_BIT(LC_PS_EXITING), 20, 256, "HELLO"},
    {LCIMSG_TYPE_HELLO, LC_ROLE_ZYGOTE, 0, LC_PS_BIT(LC_PS_SPAWNING) | LC_PS_BIT(LC_PS_EXITING), 20, 256, "HELLO"},
    {LCIMSG_TYPE_HELLO, LC_ROLE_WATCHER, 0, LC_PS_BIT(LC_PS_SPAWNING) | LC_PS_BIT(LC_PS_EXITING), 20, 256, "HELLO"},
    {LCIMSG_TYPE_HELLO, LC_ROLE_ARBITER, 0, LC_WS_SETUP | LC_US_SETUP | LC_XS_SETUP, 20, 256, "HELLO"},
    {LC_MSG_CONFIG, LC_ROLE_ARBITER, 1, LC_WS_SETUP, 8 + 21 + 2 * LC_SECRET + 5, 8 + 21 + 2 * LC_SECRET + 5 + 4096,
     "CONFIG"},
    {LC_MSG_LISTEN, LC_ROLE_ARBITER, 1, LC_WS_SETUP, 4 + 5, 4 + 5 + 256, "LISTEN"},
    {LC_MSG_ACCESSLOG, LC_ROLE_ARBITER, 1, BOTH, 4, 4, "ACCESSLOG"},
    {LC_MSG_ERRORLOG, LC_ROLE_ARBITER, 1, LC_WS_RUNNING | LC_ZS_RUNNING, 0, 0, "ERRORLOG"},
    {LC_MSG_FILE, LC_ROLE_ARBITER, 1, LC_WS_SETUP, 8 + 5, 8 + 5 + 4096, "FILE"},
    {LC_MSG_SECRET, LC_ROLE_ARBITER, 0, BOTH, LC_SECRET, LC_SECRET, "SECRET"},
    {LC_MSG_FLIGHT, LC_ROLE_ARBITER, 1, LC_WS_SETUP, 0, 0, "FLIGHT"},
    {LC_MSG_GO, LC_ROLE_ARBITER, 0, LC_WS_SETUP | LC_US_SETUP, 0, 0, "GO"},
    {LC_MSG_KICK, LC_ROLE_ARBITER, 0, LC_WS_RUNNING, 0, 0, "KICK"},
    {LC_MSG_DRAIN, LC_ROLE_ARBITER, 0, ALL, 8, 8, "DRAIN"},
    {LC_MSG_STOP, LC_ROLE_ARBITER, 0, ALL, 0, 0, "STOP"},
    {LC_MSG_FORK, LC_ROLE_ARBITER, 1, LC_ZS_RUNNING, 0, 0, "FORK"},
    {LC_MSG_OFFER, LC_ROLE_ARBITER, 1, LC_US_SETUP, 5 + 1, 5 + 4096 + 1, "OFFER"},
    {LC_MSG_KEEP, LC_ROLE_ARBITER, 0, LC_US_SETUP, 5 + 2 * LC_SECRET + 8, 5 + 256 + 2 * LC_SECRET + 8, "KEEP"},
    {LC_MSG_COMMIT, LC_ROLE_ARBITER, 0, LC_US_RUNNING, 0, 0, "COMMIT"},
    {LC_MSG_WATCH, LC_ROLE_ARBITER, 0, LC_XS_SETUP, 8 + 5, 8 + 5 + LC_WATCH_MAX, "WATCH"},
    {LC_MSG_READY, LC_ROLE_WORKER, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, 0, "READY"},
    {LC_MSG_READY, LC_ROLE_SUCCESSOR, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, 0, "READY"},
    {LC_MSG_READY, LC_ROLE_ZYGOTE, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, 0, "READY"},
    {LC_MSG_READY, LC_ROLE_WATCHER, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, 0, "READY"},
    {LC_MSG_CHANGED, LC_ROLE_WATCHER, 0, LIVE & ~LC_PS_BIT(LC_PS_STARTING), 1, LC_CHANGED_MAX, "CHANGED"},
    {LC_MSG_HEARTBEAT, LC_ROLE_WORKER, 0, LIVE & ~LC_PS_BIT(LC_PS_STARTING), 28, 28, "HEARTBEAT"},
    {LC_MSG_STUCK, LC_ROLE_WORKER, 0, LIVE & ~LC_PS_BIT(LC_PS_STARTING), 12, 12, "STUCK"},
    {LC_MSG_KICK_REQ, LC_ROLE_WORKER, 0, LIVE & ~LC_PS_BIT(LC_PS_STARTING), 0, 0, "KICK_REQ"},
    {LC_MSG_BOOT_FAILED, LC_ROLE_WORKER, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, LC_BOOT_TEXT_MAX, "BOOT_FAILED"},
    {LC_MSG_BOOT_FAILED, LC_ROLE_ZYGOTE, 0, LIVE & ~LC_PS_BIT(LC_PS_READY), 0, LC_BOOT_TEXT_MAX, "BOOT_FAILED"},
    {LC_MSG_FORKED, LC_ROLE_ZYGOTE, 0, LIVE & ~LC_PS_BIT(LC_PS_STARTING), 8, 8, "FORKED"},
};

const struct lc_msg_row *
lc_msg_row(uint16_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == type)
			return &rows[i];
	return NULL;
}

int
lc_msg_check(const lcimsg_msg *m, unsigned from, unsigned when, char *why, size_t whysize)
{
	const struct lc_msg_row *row = lc_msg_row(lcimsg_type(m));
	size_t n;

	while (row && row->from != from && row + 1 < rows + sizeof(rows) / sizeof(rows[0]) && row[1].type == row->type)
		row++;
	(void)lcimsg_data(m, &n);
	if (!row)
		snprintf(why, whysize, "message type 0x%04x is unknown", lcimsg_type(m));
	else if (row->from != from)
		snprintf(why, whysize, "message %s is not its to send", row->name);
	else if (!(row->when & when))
		snprintf(why, whysize, "message %s at the wrong time", row->name);
	else if (n < row->min || n > row->max)
		snprintf(why, whysize, "message %s with %zu bytes (%u to %u are right)", row->name, n, row->min,
			 row->max);
	else if (lcimsg_flags(m) & LCIMSG_FDLOST)
		snprintf(why, whysize, "message %s without its file descriptor (too many are open)", row->name);
	else if (lcimsg_nfds(m) != row->nfds)
		snprintf(why, whysize, "message %s with %u file descriptors", row->name, lcimsg_nfds(m));
	else
		return 0;
	return -EPROTO;
}

const char *
lc_pstate_name(enum lc_pstate s)
{
	static const char *const names[LC_PS_COUNT] = {"EMPTY",    "SPAWNING", "STARTING", "READY",
						       "DRAINING", "EXITING",  "DEAD",     "BACKOFF"};

	return names[s];
}
