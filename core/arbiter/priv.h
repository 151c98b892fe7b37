/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * priv.h - what the files of the arbiter share.
 *
 * One thread, one loop, one table of processes.  Order in each turn: signals, then everything that children said, then
 * the dead, then deadlines: a child is judged by what it has said, not by what the arbiter has read so far.
 */
#ifndef LC_CORE_ARBITER_PRIV_H
#define LC_CORE_ARBITER_PRIV_H

#include <stdbool.h>
#include <sys/types.h>

#include "arbiter/arbiter.h"
#include "arbiter/msg.h"
#include "config/conf.h"
#include "imsg/lcimsg.h"

#define LC__KILL_GRACE 2000  /* ms between an order to exit, or SIGABRT, and SIGKILL */
#define LC__PARTIAL_AGE 5000 /* ms that half a message may last */
#define LC__HEALTHY 60000    /* ms of being READY after which earlier failures are forgotten */
#define LC__MSG_RATE 200     /* messages per second from one child */
#define LC__MSG_BURST 1000   /* and at once: what its socket holds after the arbiter was stopped for a while */
#define LC__PROCESSES 1024   /* per pool */
#define LC__ACCESS_LOGS 8    /* per pool */

struct lc__creds {
	bool drop; /* we are root and shall not be */
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int ngroups;
};

struct lc__listener {
	int fd;
	uint32_t index;
	char name[160];
	char *path; /* UNIX socket's file, removed at the end if it is still ours */
	dev_t dev;
	ino_t ino;
};

/* A file of a pool, read. */
struct lc__privfile {
	char *path;
	uint32_t pool;
	int fd; /* sealed content */
	size_t size;
};
struct lc__files {
	struct lc__privfile *v;
	uint32_t n;
};

struct lc__pool {
	const struct lc_block *block;
	const struct lc_conf_pool *conf;
	const char *name;
	int config_fd; /* sealed text */
	size_t config_n;
	struct lc__secret {
		uint8_t now[LC_SECRET], before[LC_SECRET];
		int64_t until; /* ms, when another one is made */
	} secret;
	int access_fd[LC__ACCESS_LOGS];
	uint32_t naccess;
	struct lc__listener *listeners;
	uint32_t nlisteners;
	uint32_t target; /* how many processes there shall be */
	bool ready;      /* had one that was READY */
};

struct lc__proc {
	struct lc__pool *pool;
	uint32_t index; /* in the pool */
	uint32_t id;    /* in the table */
	enum lc_pstate state;
	pid_t pid;
	int pidfd;
	lcimsg_chan *chan;
	uint32_t ev; /* as registered with epoll */
	int64_t spawned_at, ready_at, beat_at, deadline;
	int64_t partial_since;
	bool was_ready, reaped, chan_eof, boot_failed;
	bool told; /* to drain or to exit */
	int tokens;
	int64_t tokens_at;
	int sig;       /* what we sent last, 0: nothing */
	char why[200]; /* why we did */
	int status_code, status_sig;
	bool core;
	uint32_t failures;
	struct lc_ctl_beat_ {
		uint64_t requests, accepted;
		uint32_t inflight, conns;
	} beat;
};

struct lc__arb {
	const struct lc_arb_opts *opts;
	struct lc_conf *conf;
	const struct lc_conf_main *main;
	const char *prefix;
	struct lc__creds creds;
	int log_level;
	int tty; /* where errors went before error_log was opened, until something serves; -1: the same */
	int epfd, sigfd;
	pid_t pid;
	struct lc__pool *pools;
	uint32_t npools;
	struct lc__files files;
	struct lc__proc **procs;
	uint32_t nprocs;
	int64_t now;     /* ms, as of this turn */
	bool told_ready; /* every pool has served */
	enum { LC__RUN, LC__GRACEFUL, LC__QUICK } stopping;
	int exit_status;
	char *pid_file;
	uint64_t rnd;
};

/* child.c: fork and exec */
struct lc__child {
	const char *title, *role;      /* argv[0]; for --role */
	const char *const *args;       /* further arguments, NULL-ended; NULL: none */
	int fd3;                       /* -1: none */
	int out;                       /* becomes fd 1; -1: ours */
	const struct lc__creds *creds; /* NULL: as we are */
	bool group;                    /* own process group, dies with us */
	const char *path;              /* another program than this one */
	char *const *argv;             /* then: its arguments */
};
pid_t lc__child_spawn(const struct lc__child *);
int lc__creds_resolve(struct lc__creds *, const struct lc_conf *, struct lc_err *); /* 0 or -errno, said in err */
const char *lc__signal_name(int sig, char buf[16]);

/* secret.c */
int lc__secret_init(struct lc__pool *, int64_t now); /* 0, or -EIO, logged */
int64_t lc__secret_deadline(const struct lc__arb *); /* ms, INT64_MAX: none */
void lc__secret_rotate(struct lc__arb *);            /* those that are due */

/* listen.c */
int lc__listen_open(struct lc__arb *);
void lc__listen_close(struct lc__arb *);
/* who.c: "process 12 (python3 -m x)", of who listens there; 0, or -ENOENT. */
int lc__who_listens(const struct lc_addr *, char *buf, size_t n, pid_t *ret_pid);

/* proc.c: the table, states, judgement */
struct lc__proc *lc__proc_slot(struct lc__arb *, struct lc__pool *, uint32_t index);
void lc__proc_state(struct lc__proc *, enum lc_pstate);
bool lc__proc_live(const struct lc__proc *);
void lc__proc_spawn(struct lc__arb *, struct lc__proc *);
void lc__proc_drain(struct lc__arb *, struct lc__proc *);
void lc__proc_quit(struct lc__arb *, struct lc__proc *);
void lc__proc_kill(struct lc__arb *, struct lc__proc *, int sig, const char *fmt, ...) LC_PRINTF(4, 5);
void lc__proc_reap(struct lc__arb *);
void lc__proc_judge(struct lc__arb *, struct lc__proc *);
void lc__proc_deadlines_push(struct lc__arb *, int64_t late);
int64_t lc__proc_next_deadline(const struct lc__arb *, const struct lc__proc *); /* INT64_MAX: none */
uint32_t lc__respawn_delay(uint32_t failures, uint64_t min, uint64_t max, uint32_t rnd);

/* peer.c: what children say */
void lc__peer_read(struct lc__arb *, struct lc__proc *, unsigned fills);
void lc__peer_write(struct lc__arb *, struct lc__proc *);
int lc__peer_configure(struct lc__arb *, struct lc__proc *);

/* logs.c */
int lc__logs_open(struct lc__pool *);
int lc__error_log_open(struct lc__arb *);
void lc__logs_reopen(struct lc__arb *);

/* places.c: what the arbiter itself will make or use outside of the configuration; what is wrong with it goes to err */
void lc__places_check(const struct lc_conf *, struct lc_err *);

/* files.c */
int lc__files_read(struct lc__files *, int list, struct lc_err *); /* 0 or -errno; errors of files go to err */
void lc__files_close(struct lc__files *);

/* arbiter.c */
int64_t lc__now_ms(void);
void lc__arb_ready(struct lc__arb *, struct lc__proc *);
bool lc__arb_first_start(const struct lc__arb *, const struct lc__pool *);
/* A worker of the pool could not start.  1: that ends the arbiter. */
int lc__arb_boot_failed(struct lc__arb *, const struct lc__pool *);
void lc__arb_stop(struct lc__arb *, bool quick);

#endif
