/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/worker/control.h - the worker's end of its channel to the arbiter (fd 3).
 *
 * Set-up is blocking (HELLO both ways, CONFIG, LISTEN..., GO); after it, dispatch() is called when the fd is
 * readable and never blocks.  The leading thread's, but for what is marked: a mutex is between them, which nobody
 * holds for long.
 */
#ifndef LC_CORE_WORKER_CONTROL_H
#define LC_CORE_WORKER_CONTROL_H

#include <licorne/abi.h>

struct lc_ctl;

#define LC_CTL_ACCESS 8u

struct lc_ctl_listener {
	int fd;           /* owned by the worker from here; non-blocking, listening */
	uint32_t index;   /* which `listen` block of the pool, in order of the text */
	const char *name; /* printable bound address, port 0 resolved: "127.0.0.1:43121" */
};
struct lc_ctl_setup {
	const char *text; /* this pool's configuration (lc_conf_parse) */
	size_t text_n;
	uint32_t slot, processes, generation;
	int first_start; /* 1: nothing was ever READY: say boot errors in full */
	const char *prefix;
	struct lc_ctl_listener *listeners;
	uint32_t nlisteners;
	struct lc_ctl_file {
		const char *path;
		const void *data;
		size_t n;
	} * files; /* of rows with LC_D_FILE; valid until lc_ctl_close() */
	uint32_t nfiles;
	uint8_t secret[32], before[32]; /* the pool's, see struct lc_tr_listener */
	uint32_t naccess;               /* access logs, in order of the text */
	int access_fd[LC_CTL_ACCESS];   /* owned by the worker from here */
	int flight_fd;                  /* of the flight recorder, owned by the worker from here; -1: none */
};
struct lc_ctl_beat {
	uint64_t requests, accepted; /* since start */
	uint32_t inflight, conns;
	uint32_t call; /* ms that the leading thread is in a call, 0: it is in none */
};
struct lc_ctl_ops {
	void (*drain)(void *arg, int64_t deadline_ms); /* stop accepting, finish within that many ms from now, exit 0 */
	void (*stop)(void *arg);                       /* exit now */
	void (*kick)(void *arg);                       /* connections wait */
	void (*lost)(void *arg);                       /* the arbiter is gone: as drain, listeners closed at once */
	void (*secret)(void *arg, const uint8_t secret[32]); /* the pool's new one; setup's have changed, too */
	void (*log)(void *arg, uint32_t index, int fd); /* the access log's file in place of the old one; fd is yours */
	void (*fork)(void *arg, int fd); /* zygotes: a worker shall be forked, and have this channel; fd is yours */
};

/* Close-on-exec from here.  lc_ctl_setup() also sets this process's log level: the arbiter says it.  A new error log
 * becomes descriptor 2 in lc_ctl_dispatch(), without a word. */
int lc_ctl_open(struct lc_ctl **ret, int fd, const char *role);
/* That of a zygote (zygote.h): after GO it is asked to fork, and to end.  No listener, log or file comes with it. */
int lc_ctl_open_zygote(struct lc_ctl **ret, int fd, const char *role);
int lc_ctl_setup(struct lc_ctl *, const struct lc_ctl_setup **ret); /* waits for GO; valid until lc_ctl_close() */
int lc_ctl_fd(const struct lc_ctl *);
int lc_ctl_wants_write(const struct lc_ctl *); /* 1: call lc_ctl_dispatch() when writable, too */
int lc_ctl_ready(struct lc_ctl *);
int lc_ctl_boot_failed(struct lc_ctl *, const char *text, size_t n); /* flushes; the caller then exits 3 */
int lc_ctl_beat(struct lc_ctl *, const struct lc_ctl_beat *);
int lc_ctl_kick(struct lc_ctl *); /* connections wait that this process cannot take */
/* A zygote's answer: the worker, or 0 and an errno. */
int lc_ctl_forked(struct lc_ctl *, uint32_t pid, uint32_t err);
/* ---- any thread */
uint64_t lc_ctl_silent_ms(struct lc_ctl *); /* since the last heartbeat */
/* With the last numbers and these; inflight 0: the last, too. */
int lc_ctl_beat_again(struct lc_ctl *, uint32_t call, uint32_t inflight);
int lc_ctl_stuck(struct lc_ctl *, uint32_t record, uint64_t call);
/* ---- */
int lc_ctl_dispatch(struct lc_ctl *, const struct lc_ctl_ops *,
		    void *arg);     /* 0, or -errno: channel is dead (lost was called) */
void lc_ctl_close(struct lc_ctl *); /* a forked child may */

/* The role's main functions, called by cli/main.c after re-execution. */
int lc_worker_main(void);
/* Returns in its workers.  title: argv[0], `room` bytes that it may use, for theirs. */
int lc_zygote_main(char *title, size_t room);

#endif
