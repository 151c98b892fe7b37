/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/msg.h - what the arbiter and its children say to each other: one table of typed messages.
 *
 * A row says who may send a message, in which state of the receiver's view, how long it is and how many fds it
 * carries.  Both ends check every message against it before they look inside.  fds flow down only: no row of a child
 * has any, and the arbiter's channels refuse them before that.
 */
#ifndef LC_CORE_ARBITER_MSG_H
#define LC_CORE_ARBITER_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "imsg/lcimsg.h"

/* Roles, as said in HELLO; a bit set in rows. */
#define LC_ROLE_ARBITER 1u
#define LC_ROLE_WORKER 2u
#define LC_ROLE_SUCCESSOR 4u /* an arbiter that is to take over */
#define LC_ROLE_ZYGOTE 8u    /* has loaded a pool's application, and forks its workers */
#define LC_ROLE_WATCHER 16u  /* of the application's files */

/* States of a process as the arbiter sees it. */
enum lc_pstate {
	LC_PS_EMPTY,    /* no process */
	LC_PS_SPAWNING, /* forked, has not said HELLO */
	LC_PS_STARTING, /* has its configuration, loads the application */
	LC_PS_READY,    /* accepts connections */
	LC_PS_DRAINING, /* was told to finish */
	LC_PS_EXITING,  /* was told to exit, or is being killed, or closed its channel */
	LC_PS_DEAD,     /* reaped, its last words read */
	LC_PS_BACKOFF,  /* waits to be started again */
	LC_PS_COUNT,
};
#define LC_PS_BIT(s) (1u << (s))
/* States of a worker's own end. */
#define LC_WS_SETUP 1u
#define LC_WS_RUNNING 2u
/* And of a successor's. */
#define LC_US_SETUP 4u
#define LC_US_RUNNING 8u
/* A zygote is set up as a worker is. */
#define LC_ZS_RUNNING 16u
/* And of a watcher's. */
#define LC_XS_SETUP 32u
#define LC_XS_RUNNING 64u

/* Arbiter to worker */
#define LC_MSG_CONFIG                                                                                                \
	0x0100u /* sealed text; u32 slot, processes, generation, nlisteners, level; u8 first; 32 secret bytes, 32 of \
		   the one before; str prefix */
#define LC_MSG_LISTEN 0x0101u    /* fd; u32 index, str name */
#define LC_MSG_ACCESSLOG 0x0102u /* fd; u32 index in the pool.  While the worker runs: instead of the old one */
#define LC_MSG_ERRORLOG 0x0104u  /* fd, in place of descriptor 2 */
#define LC_MSG_GO 0x0103u
#define LC_MSG_SECRET 0x0106u /* 32 secret bytes, which follow those of CONFIG or of the last of these */
#define LC_MSG_FILE 0x0105u   /* sealed content; str path */
#define LC_MSG_FLIGHT 0x0107u /* memfd of the flight recorder, writable, of a fixed size */
#define LC_MSG_DRAIN 0x0110u  /* u64 deadline, ms of CLOCK_MONOTONIC: it may wait in the socket for a while */
#define LC_MSG_STOP 0x0111u
#define LC_MSG_KICK 0x0112u /* connections wait: queue up for them anew, if you can take one */
/* Arbiter to zygote, one at a time */
#define LC_MSG_FORK 0x0130u /* fd, the worker's end of its channel */
/* Arbiter to its successor, then GO */
#define LC_MSG_OFFER 0x0120u  /* fd, a listening socket; str address as the configuration has it; u8 LC_OFFER_* */
#define LC_OFFER_OURS 0u      /* the file of a UNIX socket goes with it */
#define LC_OFFER_GIVEN 1u     /* the service manager's */
#define LC_OFFER_CONTROL 2u   /* the control socket, and its path */
#define LC_MSG_KEEP 0x0121u   /* str pool, 32 secret bytes, 32 of the one before, u64 ms: when another one is made */
#define LC_MSG_COMMIT 0x0122u /* it is yours */
/* Arbiter to its watcher */
#define LC_MSG_WATCH 0x0140u /* u64 ns of CLOCK_REALTIME: what changed since counts; str what to watch, see tree.h */
/* Worker, successor and watcher to arbiter */
#define LC_MSG_READY 0x0200u
/* Worker to arbiter */
#define LC_MSG_HEARTBEAT \
	0x0201u /* u64 requests, accepted; u32 inflight, conns, call: ms in the leading thread's call */
#define LC_MSG_BOOT_FAILED 0x0202u /* text */
#define LC_MSG_STUCK 0x0203u       /* u32 record of the recorder; u64 its call: beyond request_timeout for good */
#define LC_MSG_KICK_REQ 0x0204u    /* connections wait that I cannot take */

/* Zygote to arbiter */
#define LC_MSG_FORKED 0x0230u /* u32 pid of the worker, by now a child of the arbiter's; 0: none, u32 errno */
/* Watcher to arbiter */
#define LC_MSG_CHANGED 0x0210u /* text: which files */

#define LC_BOOT_TEXT_MAX (12u << 10)
#define LC_WATCH_MAX (12u << 10)
#define LC_CHANGED_MAX 1024u
#define LC_SECRET 32u /* random bytes of a pool, for keys that its processes share */

struct lc_msg_row {
	uint16_t type;
	uint8_t from;      /* LC_ROLE_* */
	uint8_t nfds;      /* exactly */
	uint32_t when;     /* receiver's view: LC_PS_BIT()s or LC_WS_* */
	uint32_t min, max; /* bytes of payload */
	const char *name;
};

/* NULL: unknown. */
const struct lc_msg_row *lc_msg_row(uint16_t type);
/* 0, or -EPROTO and a sentence: may `from` send this message now? */
int lc_msg_check(const lcimsg_msg *, unsigned from, unsigned when, char *why, size_t whysize);
const char *lc_pstate_name(enum lc_pstate);

#endif
