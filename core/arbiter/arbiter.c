/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/arbiter.c - the arbiter's life: check, bind, spawn, supervise, stop.
 *
 * It parses the configuration without loading a module (what belongs to modules is opaque to it), after a short-lived
 * child has checked all of it with the modules loaded.  It runs no application code, holds no client data and never
 * blocks once it serves.
 */
#include "arbiter/arbiter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

#define SIGNALFD_ID UINT32_MAX
#define LATE_MS 500 /* half a heartbeat: woken up this much too late, the arbiter pushes all deadlines */

int64_t
lc__now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- configuration ---- */

static int
load(const struct lc_arb_opts *o, struct lc_conf **ret, struct lc_err *err)
{
	struct lc_conf_opts co = {.prefix = o->prefix, .globals = o->globals, .opaque = 1, .use_env = 1};

	return o->path ? lc_conf_load(ret, o->path, &co, err)
		       : lc_conf_parse(ret, o->text, o->text_n, o->text_name, &co, err);
}

/*
 * The checker: a child that loads modules and checks everything.  It gets the expanded text, and gives up root first.
 * Only when our own parse has failed it reads the files itself, with our rights, so that all mistakes come out at once.
 */
static int
run_checker(const struct lc_arb_opts *o, const struct lc_conf *conf, const struct lc__creds *creds, int dump, int list)
{
	const char *args[12];
	unsigned n = 0;
	struct lc__child ch = {.title = "licorne: checker", .role = "checker", .args = args, .fd3 = -1, .out = list};
	char *text = NULL;
	size_t text_n = 0;
	siginfo_t si = {0};
	pid_t pid;
	int r;

	if (conf || !o->path) {
		if (conf) {
			text = lc_conf_text(conf, NULL, &text_n);
			args[n++] = "--prefix";
			args[n++] = lc_conf_prefix(conf);
		} else if (o->prefix) {
			args[n++] = "--prefix";
			args[n++] = o->prefix;
		}
		args[n++] = "--name";
		args[n++] = o->path ? o->path : o->text_name;
		ch.fd3 = conf && !text
			     ? -ENOMEM
			     : lcimsg_memfd("licorne configuration", conf ? text : o->text, conf ? text_n : o->text_n);
		free(text);
		if (ch.fd3 < 0) {
			lc_log(LC_LOG_CRIT, "cannot check the configuration: %s", strerror(-ch.fd3));
			return LC_EXIT_CONFIG;
		}
		ch.creds = creds;
	} else {
		args[n++] = "--file";
		args[n++] = o->path;
		if (o->prefix) {
			args[n++] = "--prefix";
			args[n++] = o->prefix;
		}
		if (o->globals) {
			args[n++] = "--globals";
			args[n++] = o->globals;
		}
	}
	if (dump)
		args[n++] = "--dump";
	if (list >= 0)
		args[n++] = "--files";
	args[n] = NULL;
	pid = lc__child_spawn(&ch);
	if (ch.fd3 >= 0)
		close(ch.fd3);
	if (pid < 0) {
		lc_log(LC_LOG_CRIT, "cannot start a child to check the configuration: %s", strerror((int)-pid));
		return LC_EXIT_CONFIG;
	}
	do {
		r = waitid(P_PID, (id_t)pid, &si, WEXITED);
	} while (r < 0 && errno == EINTR);
	if (si.si_code == CLD_EXITED)
		return si.si_status == 0 ? 0 : LC_EXIT_CONFIG;
	{
		char name[16];

		lc_log(LC_LOG_CRIT, "the child that checks the configuration was killed by %s: a module is broken",
		       lc__signal_name(si.si_status, name));
	}
	return LC_EXIT_CONFIG;
}

static void
print_errors(const struct lc_err *err)
{
	const char *t = lc_err_text(err);

	if (fwrite(t, 1, strlen(t), stderr) == 0)
		fflush(stderr);
}

/* Load and check: 0 and the configuration, or an exit status after all was said. */
static int
load_checked(const struct lc_arb_opts *o, struct lc_conf **ret, struct lc__creds *creds, struct lc__files *files,
	     int dump)
{
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;
	int status = LC_EXIT_CONFIG, list = -1, r;

	if (!err)
		return LC_EXIT_CONFIG;
	if (load(o, &conf, err) < 0) {
		if (o->no_check || run_checker(o, NULL, NULL, 0, -1) == 0 || lc_err_count(err) == 0)
			print_errors(err); /* the checker has said more otherwise */
		goto out;
	}
	if (!o->no_check)
		lc__places_check(conf, err);
	r = lc__creds_resolve(creds, conf, err);
	lc_err_sort(err);
	if (r < 0) { /* nobody to be while the rest is checked */
		print_errors(err);
		goto out;
	}
	if (o->no_check) {
		status = 0;
		goto out;
	}
	if (!dump && (list = memfd_create("licorne list of files", MFD_CLOEXEC)) < 0) {
		lc_log(LC_LOG_CRIT, "cannot check the configuration: %m");
		goto out;
	}
	status = run_checker(o, conf, creds, dump, list);
	r = status || list < 0 ? 0 : lc__files_read(files, list, err);
	if (status && !lc_err_count(err))
		goto out;
	if (lc_err_count(err))
		print_errors(err);
	else if (r < 0)
		lc_log(LC_LOG_CRIT, "cannot read the files that the configuration names: %s", strerror(-r));
	status = r < 0 || lc_err_count(err) ? LC_EXIT_CONFIG : 0;
out:
	if (list >= 0)
		close(list);
	lc_err_free(err);
	if (status == 0)
		*ret = conf;
	else
		lc_conf_free(conf);
	return status;
}

int
lc_arb_check(const struct lc_arb_opts *o, int what)
{
	struct lc_conf *conf = NULL;
	struct lc__creds creds = {0};
	struct lc__files files = {0};
	int status;

	lc_log_plain(1);
	status = load_checked(o, &conf, &creds, &files, what == LC_CHECK_DUMP);
	if (status == 0 && what == LC_CHECK_SAY)
		printf("licorne: the configuration %s is right\n", o->path ? o->path : o->text_name);
	lc__files_close(&files);
	lc_conf_free(conf);
	free(creds.groups);
	return status;
}

static int
pools_init(struct lc__arb *a)
{
	const struct lc_block *top = lc_conf_main_block(a->conf), *b = NULL;

	while ((b = lc_conf_next(top, LC_C_POOL, b)))
		a->npools++;
	if (a->npools == 0) {
		lc_log(LC_LOG_CRIT, "the configuration has no pool: there is nothing to serve");
		return -EINVAL;
	}
	a->pools = calloc(a->npools, sizeof(*a->pools));
	if (!a->pools)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->npools; i++)
		a->pools[i].config_fd = -1;
	for (uint32_t i = 0; (b = lc_conf_next(top, LC_C_POOL, b)); i++) {
		struct lc__pool *p = &a->pools[i];
		char *text;

		p->block = b;
		p->conf = lc_conf_get(a->conf, b, &lc_core_pool);
		p->name = b->name;
		p->target = lc_conf_processes(p->conf);
		if (lc__secret_init(p, lc__now_ms()) < 0)
			return -EIO;
		text = lc_conf_text(a->conf, b, &p->config_n);
		p->config_fd = text ? lcimsg_memfd("licorne configuration", text, p->config_n) : -ENOMEM;
		free(text);
		if (p->config_fd < 0) {
			lc_log(LC_LOG_CRIT, "cannot pass the configuration on: %s", strerror(-p->config_fd));
			return p->config_fd;
		}
		if (lc__logs_open(p) < 0)
			return -EIO;
	}
	return 0;
}

static int
pid_file_write(struct lc__arb *a)
{
	char text[32];
	int fd, n, r = 0;

	if (!a->main->pid_file)
		return 0;
	/* Not through a link: the folder may be writable for others. */
	fd = open(a->main->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (fd < 0 || write(fd, text, (size_t)n) != n) {
		r = -errno;
		lc_log(LC_LOG_CRIT, "cannot write the pid_file %s: %s", a->main->pid_file, strerror(-r));
	} else {
		a->pid_file = strdup(a->main->pid_file);
	}
	if (fd >= 0)
		close(fd);
	return r;
}

static void
pid_file_remove(struct lc__arb *a)
{
	FILE *f;
	long pid = 0;

	if (!a->pid_file)
		return;
	f = fopen(a->pid_file, "re"); /* only if it is still ours */
	if (f && fscanf(f, "%ld", &pid) == 1 && pid == (long)getpid())
		unlink(a->pid_file);
	if (f)
		fclose(f);
	free(a->pid_file);
	a->pid_file = NULL;
}

/* ---- events of the whole ---- */

void
lc__arb_ready(struct lc__arb *a, struct lc__proc *p)
{
	const char **names;
	uint32_t n = 0;

	p->pool->ready = true;
	for (uint32_t i = 0; i < a->npools; i++) {
		if (!a->pools[i].ready)
			return;
		n += a->pools[i].nlisteners;
	}
	if (a->told_ready)
		return;
	a->told_ready = true;
	lc_log(LC_LOG_NOTICE, "licorne " LC_VERSION " serves");
	lc_log_mirror(-1); /* from here on the error log is the place to look */
	if (a->tty >= 0)
		close(a->tty);
	a->tty = -1;
	names = calloc(n ? n : 1, sizeof(*names));
	if (!a->opts->on_ready || !names) {
		free(names);
		return;
	}
	n = 0;
	for (uint32_t i = 0; i < a->npools; i++)
		for (uint32_t k = 0; k < a->pools[i].nlisteners; k++)
			names[n++] = a->pools[i].listeners[k].name;
	a->opts->on_ready(a->opts->arg, names, n);
	free(names);
}

/* Until every pool has served once, a pool of which nothing has is a start that failed as a whole. */
bool
lc__arb_first_start(const struct lc__arb *a, const struct lc__pool *pool)
{
	return !a->told_ready && !pool->ready;
}

int
lc__arb_boot_failed(struct lc__arb *a, const struct lc__pool *pool)
{
	if (!lc__arb_first_start(a, pool) || a->stopping)
		return 0;
	lc_log(LC_LOG_CRIT, "no worker of pool %s could start: licorne ends", pool->name);
	a->exit_status = LC_EXIT_BOOT;
	lc__arb_stop(a, true);
	return 1;
}

void
lc__arb_stop(struct lc__arb *a, bool quick)
{
	if (a->stopping == LC__RUN)
		lc__listen_close(a); /* who is not in a worker's hands is refused at once, not left waiting */
	a->stopping = quick ? LC__QUICK : LC__GRACEFUL;
	for (uint32_t i = 0; i < a->nprocs; i++) {
		if (quick)
			lc__proc_quit(a, a->procs[i]);
		else
			lc__proc_drain(a, a->procs[i]);
	}
}

static void
resize(struct lc__arb *a, int by)
{
	for (uint32_t i = 0; i < a->npools; i++) {
		struct lc__pool *pool = &a->pools[i];
		struct lc__proc *p;

		if ((by < 0 && pool->target <= 1) || (by > 0 && pool->target >= LC__PROCESSES)) {
			lc_log(LC_LOG_NOTICE, "pool %s stays at %u processes", pool->name, pool->target);
			continue;
		}
		if (by > 0) {
			p = lc__proc_slot(a, pool, pool->target);
			if (!p)
				continue;
			pool->target++;
			if (p->state == LC_PS_EMPTY) { /* else it is still leaving, and comes back after */
				p->failures = 0;
				lc__proc_spawn(a, p);
			}
		} else {
			pool->target--;
			p = lc__proc_slot(a, pool, pool->target);
			if (p)
				lc__proc_drain(a, p);
		}
		lc_log(LC_LOG_NOTICE, "pool %s has %u processes now", pool->name, pool->target);
	}
}

static bool
on_signals(struct lc__arb *a)
{
	struct signalfd_siginfo si;
	bool child = false;
	char name[16];

	while (read(a->sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		int sig = (int)si.ssi_signo;

		switch (sig) {
		case SIGCHLD:
			child = true;
			break;
		case SIGTERM:
			if (a->stopping)
				break;
			lc_log(LC_LOG_NOTICE, "SIGTERM: running requests are finished, then licorne ends");
			lc__arb_stop(a, false);
			break;
		case SIGINT:
		case SIGQUIT:
			lc_log(LC_LOG_NOTICE, "%s: licorne ends now", lc__signal_name(sig, name));
			lc__arb_stop(a, true);
			break;
		case SIGTTIN:
		case SIGTTOU:
			if (!a->stopping)
				resize(a, sig == SIGTTIN ? 1 : -1);
			break;
		case SIGUSR1:
			lc__logs_reopen(a);
			break;
		default: /* HUP, USR2, WINCH */
			lc_log(LC_LOG_WARN, "%s is not supported yet: nothing was done", lc__signal_name(sig, name));
		}
	}
	return child;
}

static bool
any_live(const struct lc__arb *a)
{
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (lc__proc_live(a->procs[i]))
			return true;
	return false;
}

static int
timeout_ms(const struct lc__arb *a)
{
	int64_t next = a->stopping ? INT64_MAX : lc__secret_deadline(a);

	for (uint32_t i = 0; i < a->nprocs; i++) {
		int64_t d = lc__proc_next_deadline(a, a->procs[i]);

		if (d < next)
			next = d;
	}
	if (next == INT64_MAX)
		return -1;
	next -= lc__now_ms();
	return next < 0 ? 0 : next > 60000 ? 60000 : (int)next;
}

static void
serve(struct lc__arb *a)
{
	int64_t slept_at;

	while (!a->stopping || any_live(a)) {
		struct epoll_event ev[64];
		bool child = false;
		int wait = timeout_ms(a), n;
		int64_t late;

		slept_at = lc__now_ms();
		n = epoll_wait(a->epfd, ev, 64, wait);
		a->now = lc__now_ms();
		late = wait < 0 ? 0 : a->now - slept_at - wait;
		if (late > LATE_MS) {
			lc_log(LC_LOG_WARN, "the arbiter was held up for %.1f s: all deadlines are moved",
			       (double)late / 1000.0);
			lc__proc_deadlines_push(a, late);
		}
		for (int i = 0; i < n; i++)
			if (ev[i].data.u32 == SIGNALFD_ID)
				child = on_signals(a);
		for (int i = 0; i < n; i++)
			if (ev[i].data.u32 < a->nprocs) /* a few reads: nobody keeps the others waiting */
				lc__peer_read(a, a->procs[ev[i].data.u32], 4);
		if (child)
			lc__proc_reap(a);
		for (uint32_t i = 0; i < a->nprocs; i++)
			lc__proc_judge(a, a->procs[i]);
		if (!a->stopping)
			lc__secret_rotate(a);
		for (uint32_t i = 0; i < a->nprocs; i++)
			lc__peer_write(a, a->procs[i]);
	}
}

static int
loop_init(struct lc__arb *a)
{
	static const int sigs[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,  SIGUSR1,
				   SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH, SIGCHLD};
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = SIGNALFD_ID};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		sigaddset(&set, sigs[i]);
		signal(sigs[i], SIG_DFL); /* an inherited "ignore" would also hide it from signalfd */
	}
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	a->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (a->sigfd < 0 || a->epfd < 0 || epoll_ctl(a->epfd, EPOLL_CTL_ADD, a->sigfd, &ev) < 0)
		return -errno;
	return 0;
}

static void
tidy_fds(void)
{
	int fd;

	do { /* 0 to 2 exist, so that no log or socket becomes one of them */
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= 2);
	if (fd >= 0)
		close(fd);
	for (int i = 0; i <= 2; i++)
		(void)fcntl(i, F_SETFD, 0);
	(void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

/* Each worker costs a channel and a handle. */
static void
raise_fd_limit(const struct lc__arb *a)
{
	rlim_t need = 64 + a->files.n;
	struct rlimit rl;

	for (uint32_t i = 0; i < a->npools; i++)
		need += 2 * (rlim_t)a->pools[i].target + a->pools[i].nlisteners + a->pools[i].naccess + 2;
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= need)
		return;
	if (rl.rlim_max < need)
		lc_log(LC_LOG_WARN, "%llu files may be open at once, so many workers may need %llu",
		       (unsigned long long)rl.rlim_max, (unsigned long long)need);
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

static void
arb_free(struct lc__arb *a)
{
	lc__listen_close(a);
	pid_file_remove(a);
	for (uint32_t i = 0; i < a->nprocs; i++)
		free(a->procs[i]);
	free(a->procs);
	for (uint32_t i = 0; i < a->npools; i++) {
		struct lc__pool *p = &a->pools[i];

		if (p->config_fd >= 0)
			close(p->config_fd);
		for (uint32_t k = 0; k < p->naccess; k++)
			close(p->access_fd[k]);
		free(p->listeners);
	}
	free(a->pools);
	lc__files_close(&a->files);
	free(a->creds.groups);
	lc_conf_free(a->conf);
	lc_log_mirror(-1);
	if (a->epfd >= 0)
		close(a->epfd);
	if (a->sigfd >= 0)
		close(a->sigfd);
	if (a->tty >= 0)
		close(a->tty);
}

int
lc_arb_main(const struct lc_arb_opts *opts)
{
	struct lc__arb a = {.opts = opts, .epfd = -1, .sigfd = -1, .tty = -1, .exit_status = LC_EXIT_CONFIG};
	int r;

	lc_log_role("arbiter");
	lc_log_plain(1);
	tidy_fds();
	a.exit_status = load_checked(opts, &a.conf, &a.creds, &a.files, 0);
	if (a.exit_status != 0)
		goto out;
	a.exit_status = LC_EXIT_CONFIG;
	a.pid = getpid();
	a.main = lc_conf_get(a.conf, lc_conf_main_block(a.conf), &lc_core_main);
	a.prefix = lc_conf_prefix(a.conf);
	a.rnd = ((uint64_t)a.pid << 32 ^ (uint64_t)lc__now_ms()) | 1;
	if (pools_init(&a) < 0 || lc__listen_open(&a) < 0 || lc__error_log_open(&a) < 0 || pid_file_write(&a) < 0)
		goto out;
	raise_fd_limit(&a);
	r = loop_init(&a);
	if (r < 0) {
		lc_log(LC_LOG_CRIT, "cannot start: %s", strerror(-r));
		goto out;
	}
	if (geteuid() == 0 && !a.creds.drop)
		lc_log(LC_LOG_NOTICE, "workers run as root, since the configuration sets no user");
	a.exit_status = LC_EXIT_OK;
	for (uint32_t i = 0; i < a.npools; i++) {
		struct lc__pool *p = &a.pools[i];

		for (uint32_t k = 0; k < p->nlisteners; k++)
			lc_log(LC_LOG_NOTICE, "listening on %s (pool %s)", p->listeners[k].name, p->name);
		for (uint32_t k = 0; k < p->target && !a.stopping; k++) {
			struct lc__proc *slot = lc__proc_slot(&a, p, k);

			a.now = lc__now_ms();
			if (slot)
				lc__proc_spawn(&a, slot);
		}
	}
	serve(&a);
	if (a.exit_status == LC_EXIT_OK)
		lc_log(LC_LOG_NOTICE, "licorne ends");
out:
	arb_free(&a);
	return a.exit_status;
}
