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
#include <stdio.h>
#include <sys/types.h>

#include "arbiter/arbiter.h"
#include "arbiter/msg.h"
#include "config/conf.h"
#include "imsg/lcimsg.h"

#define LC__SIGNALFD UINT32_MAX /* in epoll, where else an entry's id stands */
#define LC__PREDECESSOR (UINT32_MAX - 1)
#define LC__CONTROL (UINT32_MAX - 2) /* the control socket; its clients have the numbers below */
#define LC__CONTROL_CLIENTS 16u
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

/* A listening socket.  It lives as long as a generation that serves, or is being started, names its address. */
struct lc__sock {
	struct lc__sock *next;
	int fd;     /* -1: closed */
	char *text; /* the address as the configuration has it */
	char name[160];
	char *path; /* UNIX socket's file, removed at the end if it is still ours */
	bool keep;  /* the file is not ours (any more, or yet) to remove: another arbiter serves it */
	bool told;  /* the log has its name */
	bool given; /* by the service manager, whose file it is */
	dev_t dev;
	ino_t ino;
	uint32_t refs;  /* listeners of generations */
	uint8_t waited; /* ticks in a row that something was in its queue, 2: or more; see kick.c */
};

struct lc__listener {
	struct lc__sock *sock;
	uint32_t index;
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

#define LC__CRASHES 32u /* remembered, per pool */

struct lc__gen;
struct lc__pool {
	struct lc__gen *gen;
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
	bool degraded;   /* too many of its processes died lately */
	int64_t crashes[LC__CRASHES];
	uint32_t ncrashes; /* ever; the last ones are in the ring */
};

struct lc__control_sock {
	int fd; /* -1: none */
	char *path;
	uint32_t mode;
	bool keep; /* the file is not ours (any more, or yet) to remove */
	dev_t dev;
	ino_t ino;
};

/* One configuration and the processes that were started with it. */
struct lc__gen {
	struct lc__gen *next; /* older */
	uint32_t number;
	bool retired; /* its processes finish what they have; freed after the last of them */
	struct lc_conf *conf;
	const struct lc_conf_main *main;
	const char *prefix;
	struct lc__creds creds;
	struct lc__files files;
	struct lc__pool *pools;
	uint32_t npools;
	int log_level;
	int error_fd;                    /* its error log, until that is descriptor 2; -1: none, or it is */
	struct lc__control_sock control; /* on trial: another one than that which is open */
};

struct lc__arb;
struct lc__proc;
struct lc_flight;

/* Why a worker is looked at, see flight.c. */
enum lc__diag { LC__DIAG_NONE, LC__DIAG_HUNG, LC__DIAG_STUCK };

/* What kinds of processes there are: who they say they are, what they may say, what becomes of the entry. */
struct lc__kind {
	unsigned role;    /* in its HELLO; 0: has no channel */
	bool quiet;       /* gives no signs of life and has nothing to finish: a signal ends it */
	int startup_sig;  /* for one that does not get ready in time */
	const char *late; /* and what the log calls that */
	void (*message)(struct lc__arb *, struct lc__proc *, const lcimsg_msg *);
	void (*ended)(struct lc__arb *, struct lc__proc *); /* it is DEAD: what now */
};
extern const struct lc__kind lc__worker_kind, lc__zygote_kind, lc__checker_kind, lc__successor_kind, lc__watcher_kind;

struct lc__proc {
	const struct lc__kind *kind; /* NULL: the entry is free */
	char name[96];               /* "worker web/0", for logs */
	struct lc__pool *pool;       /* workers, zygotes: of which generation's pool */
	uint32_t index;              /* workers: the slot in the pool */
	uint32_t id;                 /* in the table */
	enum lc_pstate state;
	pid_t pid;
	int pidfd;
	lcimsg_chan *chan;
	uint32_t ev; /* as registered with epoll */
	int64_t spawned_at, ready_at, beat_at, deadline;
	int64_t partial_since;
	bool was_ready, reaped, chan_eof, boot_failed;
	bool told;              /* to drain or to exit */
	bool waits;             /* in BACKOFF: for its pool's zygote, and not for a time */
	bool asked;             /* in SPAWNING, or EXITING: the zygote has not said which process it is */
	struct lc__proc *child; /* zygotes: the entry that is being forked; NULL: none */
	bool leaving; /* its slot is another process's: it serves until that one is READY, and is not started again */
	int tokens;
	int64_t tokens_at;
	int sig;       /* what we sent last, 0: nothing */
	char why[200]; /* why we did */
	int status_code, status_sig;
	bool core;
	uint32_t failures;
	uint32_t starts;       /* of processes in the slot, an heir's predecessors included */
	char last[400];        /* how the one before ended; "" */
	uint64_t max_requests; /* with jitter; 0: no limit */
	uint32_t rss_over;     /* how often in a row it was too much */
	struct lc_ctl_beat_ {
		uint64_t requests, accepted;
		uint32_t inflight, conns, call;
	} beat;
	const struct lc_flight *flight; /* its recorder, NULL: it has none */
	int flight_fd;
	bool diagnosed; /* what it held was told */
	enum lc__diag diag;
	int64_t diag_until, diag_end; /* the next look, the last one */
	size_t diag_len;
	uint32_t stuck; /* the record of the request that does not end */
	bool kicked;    /* and has not said since that its loop turns */
};

/* A reload: at most one is under way, and one more is remembered.  See reload.c. */
struct lc__reload {
	enum { LC__RL_NONE, LC__RL_CHECKING, LC__RL_STARTING } step;
	uint32_t number; /* of the reload that is under way, or was last */
	bool again;      /* another one was asked for meanwhile */
	int64_t begun;
	struct lc_conf *conf; /* CHECKING: NULL, our own parse failed */
	struct lc_err *err;   /* and what it said */
	struct lc__creds creds;
	int list_fd, text_fd; /* what the checker prints: files to read, complaints */
	struct lc__gen *gen;  /* STARTING */
	uint32_t done;        /* the last one that is over, and what came of it */
	bool ok;
	char why[400];
	int64_t ended;
};

/* control_socket.c: who asks */
struct lc__ctl_client;
struct lc__control {
	struct lc__control_sock sock, former; /* former: a predecessor's, which our configuration does not have */
	bool ours;                            /* nobody else answers here */
	struct lc__ctl_client *clients[LC__CONTROL_CLIENTS];
	int64_t rest_until; /* nothing is accepted before: descriptors have run out; 0 */
};

/* notify.c: the service manager */
struct lc__notify {
	int fd; /* -1: there is none */
	struct {
		uint32_t len;
		char raw[112];
	} to;                    /* a struct sockaddr_un */
	char *socket, *watchdog; /* from the environment, for a successor */
	int64_t every, due;      /* ms; every 0: no watchdog */
	char late[512];          /* what could not be sent yet */
	int64_t late_at;
	bool complained;
	bool silent; /* another process is the service */
};

struct lc__arb {
	const struct lc_arb_opts *opts;
	struct lc__gen *gen;             /* the one that serves */
	struct lc__gen *gens;            /* all, the newest first */
	const struct lc_conf_main *main; /* of gen */
	struct lc__sock *socks;
	struct lc__reload reload;
	uint32_t generations; /* so far */
	int tty;              /* where errors went before error_log was opened, until something serves; -1: the same */
	int epfd, sigfd;
	pid_t pid;
	struct lc__proc **procs;
	uint32_t nprocs;
	int64_t now; /* ms, as of this turn */
	int64_t started;
	struct lc__control control;
	struct lc__notify notify;
	bool told_ready; /* every pool has served */
	bool reap_again; /* somebody died whom a zygote may be about to tell of */
	enum { LC__RUN, LC__GRACEFUL, LC__QUICK } stopping;
	int exit_status;
	char *pid_file;
	bool said_ready;          /* to the predecessor */
	lcimsg_chan *predecessor; /* NULL: there is none, or none any more */
	struct lc__inherited *inherited;
	struct {
		int64_t kills, at; /* at: ms, 0: not yet */
	} oom[2];                  /* see oom.c; the newer one first */
	int64_t kick_at;           /* ms: the next look at the accept queues */
	bool upgrade_again;        /* asked for while a reload was under way */
	uint64_t rnd;
	char why[300]; /* the first complaint since it was emptied, see lc__complain() */
};

/* child.c: fork and exec */
struct lc__child {
	const char *title, *role;      /* argv[0]; for --role */
	const char *const *args;       /* further arguments, NULL-ended; NULL: none */
	int fd3;                       /* -1: none */
	int out, err;                  /* become fd 1 and fd 2; -1: ours */
	const struct lc__creds *creds; /* NULL: as we are */
	bool group;                    /* own process group */
	bool outlives;                 /* does not end with us */
	const char *path;              /* another program than this one */
	char *const *argv;             /* then: its arguments */
};
pid_t lc__child_spawn(const struct lc__child *);
int lc__creds_resolve(struct lc__creds *, const struct lc_conf *, struct lc_err *); /* 0 or -errno, said in err */
const char *lc__signal_name(int sig, char buf[16]);

/* secret.c */
/* That of the pool of this name which serves, or a new one.  0, or -EIO, logged. */
int lc__secret_init(struct lc__arb *, struct lc__pool *);
int64_t lc__secret_deadline(const struct lc__arb *); /* ms, INT64_MAX: none */
void lc__secret_rotate(struct lc__arb *);            /* those that are due */

/* listen.c */
int lc__listen_open(struct lc__arb *, struct lc__gen *); /* sockets that are there are kept */
/* The generation serves: the log gets the names of new ones, and of those that are kept changes what may. */
void lc__listen_apply(struct lc__arb *, struct lc__gen *);
void lc__listen_release(struct lc__arb *, struct lc__gen *);
void lc__listen_close(struct lc__arb *);
/* From a predecessor, or given by the service manager (text NULL: as it is bound); takes fd. */
int lc__listen_inherit(struct lc__arb *, const char *text, int fd, bool given);
/* Binds a UNIX socket; a file that nobody listens on is replaced.  -EADDRINUSE: somebody does, -ENOTSOCK: no socket. */
int lc__unix_bind(int fd, const struct lc_addr *, const char *path);
/* Those that no generation names are closed. */
void lc__listen_settle(struct lc__arb *);
/* who.c */
/* At most n - 1 bytes of /proc/PID/NAME, ended by a NUL: how many, or -1. */
ssize_t lc__proc_file(pid_t, const char *name, char *buf, size_t n);
/* "process 12 (python3 -m x)", of who listens there; 0, or -ENOENT. */
int lc__who_listens(const struct lc_addr *, char *buf, size_t n, pid_t *ret_pid);

/* oom.c: whose SIGKILL it was */
void lc__oom_look(struct lc__arb *);
const char *lc__oom_or_user(struct lc__arb *, char *buf, size_t n); /* as far as can be known, buf */
int64_t lc__oom_count(const char *vmstat);                          /* -1: it is not in the text */

/* kick.c: connections that nobody takes */
int64_t lc__kick_deadline(const struct lc__arb *);
void lc__kick_turn(struct lc__arb *);
void lc__kick_asked(struct lc__arb *, const struct lc__proc *); /* it cannot take what waits for it */

/* listen_fds.c: LISTEN_FDS, the sockets that the service manager gives */
void lc__listen_fds(struct lc__arb *);
void lc__listen_fds_rest(struct lc__arb *); /* those that the configuration does not name are closed */

/* control_socket.c: the socket on which an operator asks */
int lc__control_open(struct lc__arb *, struct lc__gen *);   /* 0, or -errno after lc__complain() */
void lc__control_apply(struct lc__arb *, struct lc__gen *); /* the generation serves */
void lc__control_drop(struct lc__gen *);
void lc__control_inherit(struct lc__arb *, const char *path, int fd); /* from a predecessor; takes fd */
void lc__control_begin(struct lc__arb *);                             /* from here on questions are answered */
void lc__control_event(struct lc__arb *, uint32_t id, uint32_t events);
void lc__control_judge(struct lc__arb *);
int64_t lc__control_deadline(const struct lc__arb *);
void lc__control_reloaded(struct lc__arb *);             /* a reload is over: who waits for it is told */
void lc__control_stop(struct lc__arb *, bool handed_on); /* the socket is closed, and another arbiter's or removed */
void lc__control_free(struct lc__arb *);

/* status.c: what there is, as a line of JSON; malloc()ed, NULL: no memory */
char *lc__status(struct lc__arb *, size_t *ret_n);
void lc__json_str(FILE *, const char *);

/* notify.c: sd_notify(3) */
void lc__notify_init(struct lc__arb *);
void lc__notify_serving(struct lc__arb *); /* started, or a reload is over */
void lc__notify_reloading(struct lc__arb *);
void lc__notify_status(struct lc__arb *); /* something changed that an operator wants to see */
void lc__notify_stopping(struct lc__arb *);
void lc__notify_handover(struct lc__arb *, pid_t);     /* that process is the service from here on */
void lc__notify_env(const struct lc__arb *, bool set); /* around the start of a successor */
int64_t lc__notify_deadline(const struct lc__arb *);
void lc__notify_turn(struct lc__arb *);
void lc__notify_free(struct lc__arb *);

/* proc.c: the table, states, judgement */
/* The entry of a slot's process; a new one, if there is none.  NULL: no memory. */
struct lc__proc *lc__proc_slot(struct lc__arb *, struct lc__pool *, uint32_t index);
/* A new entry.  lc__proc_free() gives it back, in EMPTY. */
struct lc__proc *lc__proc_new(struct lc__arb *, const struct lc__kind *, const char *name);
void lc__proc_free(struct lc__proc *);
void lc__proc_state(struct lc__proc *, enum lc_pstate);
bool lc__proc_live(const struct lc__proc *);
/* A worker, or a zygote, that has its configuration and can be told more: others learn what is new when they are
 * configured. */
bool lc__proc_configured(const struct lc__proc *);
const struct lc_conf_main *lc__proc_main(const struct lc__arb *, const struct lc__proc *);
void lc__proc_spawn(struct lc__arb *, struct lc__proc *);
/* Starts the child in an entry; with a channel if its kind has a role, then ch->fd3 is set here.  0 or -errno: the
 * entry is DEAD. */
int lc__proc_start(struct lc__arb *, struct lc__proc *, struct lc__child *, int64_t deadline);
/* The same without a child: another process will have it, whom *ret_fd is for.  It is not listened to before
 * lc__proc_adopt(). */
int lc__proc_offer(struct lc__arb *, struct lc__proc *, int *ret_fd);
void lc__proc_adopt(struct lc__arb *, struct lc__proc *, pid_t);
/* Nobody will have it: the entry is DEAD. */
void lc__proc_forsake(struct lc__arb *, struct lc__proc *);
/* Ends our interest in a READY process that lives on. */
void lc__proc_let_go(struct lc__arb *, struct lc__proc *);
void lc__proc_drain(struct lc__arb *, struct lc__proc *);
void lc__proc_quit(struct lc__arb *, struct lc__proc *);
void lc__proc_kill(struct lc__arb *, struct lc__proc *, int sig, const char *fmt, ...) LC_PRINTF(4, 5);
void lc__proc_signal(struct lc__proc *, int sig);
void lc__proc_reap(struct lc__arb *);
void lc__proc_judge(struct lc__arb *, struct lc__proc *);
void lc__proc_deadlines_push(struct lc__arb *, int64_t late);
int64_t lc__proc_next_deadline(const struct lc__arb *, const struct lc__proc *); /* INT64_MAX: none */

/* "gave no sign of life for ..." */
void lc__hung_why(const struct lc__arb *, const struct lc__proc *, char *buf, size_t n);

/* zygote.c: processes from which workers are forked (preload on) */
void lc__zygote_start(struct lc__arb *, struct lc__pool *);
/* In place of lc__proc_start(): the worker is forked, or waits until it can be. */
void lc__zygote_fork(struct lc__arb *, struct lc__proc *);
bool lc__zygote_forking(const struct lc__arb *); /* somebody whom we do not know yet may be a child of ours */

/* flight.c: what a worker held, and what it is doing */
int lc__flight_make(struct lc__proc *); /* 0 or -errno: it works without */
void lc__flight_free(struct lc__proc *);
void lc__flight_ended(struct lc__arb *, struct lc__proc *, int level);
/* Begins a diagnosis; at its end a hung worker is killed, one that is stuck replaced. */
void lc__diag_begin(struct lc__arb *, struct lc__proc *, enum lc__diag);
void lc__diag_turn(struct lc__arb *, struct lc__proc *);

/* respawn.c: when a slot gets its next process */
uint32_t lc__respawn_delay(uint32_t failures, uint64_t min, uint64_t max, uint32_t rnd);
uint32_t lc__rnd(struct lc__arb *);
void lc__worker_ended(struct lc__arb *, struct lc__proc *);
uint64_t lc__resident(pid_t); /* memory in bytes; 0: it cannot be told */
/* A worker that has had enough (max_requests, max_rss, max_age) gets an heir. */
void lc__renew_begin(struct lc__arb *, struct lc__proc *);    /* it is READY */
void lc__renew_look(struct lc__arb *, struct lc__proc *);     /* it gave a sign of life: every second */
void lc__renew_stuck(struct lc__arb *, struct lc__proc *);    /* a call of it cannot be ended */
void lc__renew_done(struct lc__arb *, struct lc__proc *heir); /* the heir is READY */

/* peer.c: what children say */
void lc__peer_read(struct lc__arb *, struct lc__proc *, unsigned fills);
void lc__peer_write(struct lc__arb *, struct lc__proc *);
int lc__peer_configure(struct lc__arb *, struct lc__proc *);
void lc__peer_boot_failed(struct lc__arb *, struct lc__proc *, const lcimsg_msg *);
/* Of a traceback, what went wrong; into buf. */
const char *lc__last_line(const char *text, size_t n, char *buf, size_t size);

/* logs.c */
int lc__logs_open(struct lc__arb *, struct lc__pool *);
int lc__error_log_open(struct lc__arb *, struct lc__gen *); /* 0: error_fd */
void lc__error_log_use(struct lc__arb *, struct lc__gen *); /* becomes descriptor 2, ours and everybody's */
void lc__logs_reopen(struct lc__arb *);

/* places.c: what the arbiter itself will make or use outside of the configuration; what is wrong with it goes to err */
void lc__places_check(const struct lc_conf *, struct lc_err *);

/* files.c */
int lc__files_read(struct lc__files *, int list, struct lc_err *); /* 0 or -errno; errors of files go to err */
void lc__files_close(struct lc__files *);

/* check.c: the checker, waited for at the start and for -t, or an entry of the table in a reload */
int lc__conf_load(const struct lc_arb_opts *, struct lc_conf **ret, struct lc_err *);
/* Prepares the child; ch->fd3 is the caller's to close.  conf NULL: our own parse has failed.  0 or -errno. */
int lc__check_child(const struct lc_arb_opts *, const struct lc_conf *, const struct lc__creds *, bool dump, int list,
		    const char **args, struct lc__child *ret);
#define LC__CHECK_ARGS 12
/* Load and check, waiting: 0 and the configuration, or an exit status after all was said. */
int lc__check_load(const struct lc_arb_opts *, struct lc_conf **ret, struct lc__creds *, struct lc__files *, bool dump);

/* generation.c */
/* Takes conf, creds and files over, in every case.  NULL: it cannot be, all was said (lc__complain()). */
struct lc__gen *lc__gen_new(struct lc__arb *, struct lc_conf *, struct lc__creds *, struct lc__files *);
void lc__gen_spawn(struct lc__arb *, struct lc__gen *);
bool lc__gen_ready(const struct lc__arb *, const struct lc__gen *);
/* Its processes finish; its sockets are closed unless the one that serves has them too. */
void lc__gen_retire(struct lc__arb *, struct lc__gen *);
void lc__gen_sweep(struct lc__arb *); /* frees those that are retired and have no process any more */
void lc__gens_free(struct lc__arb *);

/* reload.c */
/* Asks for a reload; its number.  It is over when reload.done has reached that, with reload.ok and reload.why. */
uint32_t lc__reload_ask(struct lc__arb *);
void lc__reload_ready(struct lc__arb *);                                        /* a worker became READY */
void lc__reload_failed(struct lc__arb *, const char *fmt, ...) LC_PRINTF(2, 3); /* a worker could not start, ... */
void lc__reload_cancel(struct lc__arb *, const char *why);                      /* the arbiter ends */
bool lc__reload_owns(const struct lc__arb *, const struct lc__pool *); /* the pool is of the generation on trial */
void lc__reload_turn(struct lc__arb *);                                /* at the end of each turn of the loop */

/* changes.c: the watcher, if there is to be one */
void lc__changes_begin(struct lc__arb *);

/* upgrade.c: another arbiter in place of this one.  successor.c: this one in place of another. */
#define LC__SUCCESSOR_ENV "LICORNE_SUCCESSOR"
void lc__upgrade_ask(struct lc__arb *);
bool lc__upgrading(const struct lc__arb *);
void lc__upgrade_turn(struct lc__arb *);
void lc__upgrade_cancel(struct lc__arb *, bool quick); /* the arbiter ends */
int lc__successor_begin(struct lc__arb *);             /* 0, or -errno after all was said; waits */
const struct lc__secret *lc__successor_secret(const struct lc__arb *, const char *pool); /* NULL: none */
void lc__successor_ready(struct lc__arb *);                                              /* one more worker is READY */
void lc__successor_read(struct lc__arb *); /* the predecessor says something */
void lc__successor_end(struct lc__arb *);

/* arbiter.c */
int64_t lc__now_ms(void);
void lc__arb_ready(struct lc__arb *, struct lc__proc *);
bool lc__arb_first_start(const struct lc__arb *, const struct lc__pool *);
/* A worker of the pool could not start.  1: that ends the arbiter. */
int lc__arb_boot_failed(struct lc__arb *, const struct lc__pool *);
void lc__arb_stop(struct lc__arb *, bool quick);
/* Logs what is wrong, at crit when nothing serves yet, and keeps the first for who asked. */
void lc__complain(struct lc__arb *, const char *fmt, ...) LC_PRINTF(2, 3);
int lc__pid_file_write(struct lc__arb *);
void lc__pid_file_move(struct lc__arb *); /* to .oldbin */

#endif
