/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker.c - the worker process: joins the control channel, the serving half (net) and one worker module.
 *
 * Order of life: HELLO, configuration, listeners, GO (all blocking); modules; the worker module's init(), which may
 * load an application and take its time; READY; then the loop leads until the arbiter says DRAIN or STOP or is gone. A
 * failure before READY is told to the arbiter with its text, and the process exits with LC_EXIT_BOOT.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/conf.h"
#include "log/access.h"
#include "log/log.h"
#include "module/loader.h"
#include "net/route.h"
#include "worker/control.h"
#include "worker/watch.h"
#include "worker/zygote.h"

#define LC_EXIT_BOOT 3
#define LC_BEAT_MS 1000u    /* or a quarter of heartbeat_timeout, if that is less */
#define LC_FDS_RESERVED 64u /* descriptors that are not connections: the application's files, ours */

struct worker {
	struct lc_srv srv;
	struct lc_ctl *ctl;
	const struct lc_ctl_setup *setup;
	struct lc_conf *conf;
	const struct lc_block *pool;
	const struct lc_conf_main *main_conf;
	const struct lc_conf_pool *pool_conf;
	struct lc_ev ctl_ev, term_ev;
	struct lc_timer beat;
	struct lc_watch *watch;
	struct lc_fl *flight;
	char role[80];
	struct lc_conf *loaded; /* forked: the configuration with which the application was loaded */
	bool forked;
	pid_t arbiter;
};

static int term_fd = -1;

/* TERM is handled, not blocked: a blocked signal would be inherited by the application's own child processes. */
static void
on_term(int sig)
{
	int e = errno;
	uint64_t one = 1;

	(void)sig;
	if (term_fd >= 0 && write(term_fd, &one, sizeof(one)) < 0) {
		/* cannot be: the counter does not run over */
	}
	errno = e;
}

static void
on_other(int sig)
{
	(void)sig; /* the terminal and `pkill` tell the whole group; the arbiter decides */
}

static int
set_signals(void)
{
	const int others[] = {LC_FL_SIGNAL, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH};
	struct sigaction sa = {.sa_handler = on_other, .sa_flags = SA_RESTART};
	sigset_t none;

	sigemptyset(&none);
	term_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (term_fd < 0)
		return -errno;
	for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++)
		sigaction(others[k], &sa, NULL);
	sa.sa_handler = on_term;
	sigaction(SIGTERM, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

/* In a fork of a zygote they are set, and the application may have changed some since.  TERM was blocked meanwhile. */
static int
keep_signals(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigset_t term;

	if (fd < 0)
		return -errno;
	close(term_fd); /* the zygote's */
	term_fd = fd;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_UNBLOCK, &term, NULL);
	return 0;
}

/* ---- the arbiter's orders ---- */

static void
do_drain(void *arg, int64_t deadline_ms)
{
	struct worker *w = arg;

	lc_srv_drain(&w->srv, deadline_ms);
}

static void
do_stop(void *arg)
{
	struct worker *w = arg;

	lc_srv_quit(&w->srv);
}

static void send_beat(struct lc_srv *srv);

static void
do_kick(void *arg)
{
	struct worker *w = arg;

	lc_gate_again(&w->srv);
	send_beat(&w->srv); /* the arbiter sees that it was heard, and how much there is to do here */
}

/* The net layer's: see lc_gate_update(). */
static void
stranded(struct lc_srv *srv)
{
	struct worker *w = srv->proc;

	lc_ctl_kick(w->ctl);
}

static void
do_log(void *arg, uint32_t index, int fd)
{
	struct worker *w = arg;

	lc_access_reopen(w->srv.access, index, fd);
}

static void
do_secret(void *arg, const uint8_t secret[32])
{
	struct worker *w = arg;

	for (uint32_t k = 0; k < w->srv.nlsn; k++)
		for (uint32_t j = 0; j < w->srv.lsn[k].ntrans; j++) {
			const struct lc_ltrans *t = &w->srv.lsn[k].trans[j];
			if (t->ops->size >= offsetof(struct lc_transport, secret) + sizeof(t->ops->secret) &&
			    t->ops->listen && t->ops->secret)
				t->ops->secret(t->inst,
					       (struct lc_str){(const char *)secret, sizeof(w->setup->secret)});
		}
}

static void
do_lost(void *arg)
{
	struct worker *w = arg;

	lc_log(LC_LOG_WARN, "the arbiter is gone: listeners are closed, running requests are finished");
	lc_ev_set(&w->srv.loop, &w->ctl_ev, 0, 0);
	lc_timer_cancel(&w->beat);
	w->srv.next_beat = 0;
	lc_srv_drain(&w->srv, (int64_t)w->main_conf->graceful_timeout);
}

static void
ctl_interest(struct worker *w)
{
	if (w->ctl_ev.armed)
		lc_ev_set(&w->srv.loop, &w->ctl_ev, EPOLLIN | (lc_ctl_wants_write(w->ctl) ? (uint32_t)EPOLLOUT : 0), 0);
}

static void
ctl_ready(struct lc_ev *ev, uint32_t events)
{
	static const struct lc_ctl_ops ops = {
	    .drain = do_drain, .stop = do_stop, .kick = do_kick, .log = do_log, .secret = do_secret, .lost = do_lost};
	struct worker *w = (struct worker *)((char *)ev - offsetof(struct worker, ctl_ev));

	(void)events;
	if (!ev->armed)
		return;
	lc_ctl_dispatch(w->ctl, &ops, w);
	ctl_interest(w);
}

static void
term_ready(struct lc_ev *ev, uint32_t events)
{
	struct worker *w = (struct worker *)((char *)ev - offsetof(struct worker, term_ev));
	uint64_t n;

	(void)events;
	if (read(ev->fd, &n, sizeof(n)) > 0)
		lc_srv_drain(&w->srv, (int64_t)w->main_conf->graceful_timeout);
}

static void beat_due(struct lc_timer *t);

static uint64_t
beat_interval(const struct worker *w)
{
	uint64_t ms = w->main_conf->heartbeat_timeout / 4;

	return ms < LC_BEAT_MS ? ms : LC_BEAT_MS;
}

static void
send_beat(struct lc_srv *srv)
{
	struct worker *w = srv->proc;
	struct lc_ctl_beat b = {
	    .requests = srv->requests,
	    .accepted = srv->accepted,
	    .inflight = srv->inflight,
	    .conns = srv->nconns,
	};

	lc_ctl_beat(w->ctl, &b);
	ctl_interest(w);
	uint64_t ms = beat_interval(w);
	srv->next_beat = srv->loop.now + ms * 1000000;
	lc_timer_arm(&srv->loop, &w->beat, ms, beat_due);
}

static void
beat_due(struct lc_timer *t)
{
	struct worker *w = (struct worker *)((char *)t - offsetof(struct worker, beat));

	send_beat(&w->srv);
}

/* ---- start ---- */

static int LC_PRINTF(2, 3) boot_failed(struct worker *w, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	lc_ctl_boot_failed(w->ctl, n < 0 ? "no memory" : text, n < 0 ? 9 : (size_t)n);
	free(n < 0 ? NULL : text);
	return LC_EXIT_BOOT;
}

/* The protocols of this pool, in ALPN order; 0 or an exit status. */
static int
find_protocols(struct worker *w, struct lc_mod ***ret, uint32_t *ret_n)
{
	struct lc_mod **v = NULL;
	uint32_t n = 0;

	if (w->pool_conf->protocols.n) {
		v = calloc(w->pool_conf->protocols.n, sizeof(struct lc_mod *));
		for (uint64_t k = 0; v && k < w->pool_conf->protocols.n; k++)
			if ((v[n] = lc_mod_find(w->pool_conf->protocols.v[k])))
				n++;
	} else {
		for (struct lc_mod *m = lc_mod_first(); m; m = m->next)
			if (lc_mod_iface(m, LC_KIND_PROTOCOL, LC_PROTO_VERSION)) {
				struct lc_mod **more = realloc(v, (n + 1) * sizeof(struct lc_mod *));
				if (!more)
					break;
				v = more;
				v[n++] = m;
			}
	}
	if (!n) {
		free(v);
		return boot_failed(w, "pool \"%s\" has no protocol module: load_module one", w->pool->name);
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

static void
name_listener(struct lc_lsn *l, const char *name)
{
	const char *colon = strrchr(name, ':');

	if (!strncmp(name, "unix:", 5)) {
		snprintf(l->addr, sizeof(l->addr), "%s", name + 5);
	} else if (colon) {
		const char *host = name;
		size_t n = (size_t)(colon - name);
		if (n >= 2 && name[0] == '[' && name[n - 1] == ']') {
			host++;
			n -= 2;
		}
		snprintf(l->addr, sizeof(l->addr), "%.*s", (int)n, host);
		l->port = (uint16_t)strtoul(colon + 1, NULL, 10);
	}
	l->addr_n = (uint32_t)strlen(l->addr);
}

/* The transports of a listener: 0, or an exit status. */
static int
set_transports(struct worker *w, struct lc_lsn *l, const struct lc_block *b)
{
	struct lc_mod *stack[LC_MOD_TRANSPORTS];
	struct lc_err *err = lc_err_new();
	char msg[1024] = "";
	int n = err ? lc_mod_transports(w->conf, b, stack, err) : -ENOMEM, r = 0;

	if (n < 0)
		r = boot_failed(w, "%s", err ? lc_err_text(err) : "no memory");
	lc_err_free(err);
	if (n <= 0)
		return r;
	uint32_t names = 0;
	for (uint32_t k = 0; k < l->nprotos; k++)
		for (const char *const *a = l->protos[k].proto->alpn; a && *a; a++)
			names++;
	/* as long as the process, like the modules */
	const char **alpn = calloc(names + 1, sizeof(*alpn));
	l->trans = calloc((uint32_t)n, sizeof(*l->trans));
	if (!alpn || !l->trans) {
		free(alpn);
		return boot_failed(w, "no memory");
	}
	names = 0;
	for (uint32_t k = 0; k < l->nprotos; k++)
		for (const char *const *a = l->protos[k].proto->alpn; a && *a; a++)
			alpn[names++] = *a;
	l->info = (struct lc_tr_listener){.size = sizeof(l->info),
					  .index = l->index,
					  .address = {l->addr, l->addr_n},
					  .alpn = alpn,
					  .secret = {(const char *)w->setup->secret, sizeof(w->setup->secret)},
					  .before = {(const char *)w->setup->before, sizeof(w->setup->before)}};
	for (int k = 0; k < n; k++) {
		const struct lc_transport *ops = lc_mod_iface(stack[k], LC_KIND_TRANSPORT, LC_TRANSPORT_VERSION);
		const void *conf = lc_conf_get(w->conf, b, &stack[k]->dirset);
		struct lc_ltrans *t = &l->trans[l->ntrans];
		t->ops = ops;
		t->inst = (void *)(uintptr_t)conf;
		r = ops->listen ? ops->listen(&l->info, conf, &t->inst, msg, sizeof(msg)) : 0;
		if (r < 0)
			return boot_failed(w, "%s:%u: listen %s: %s: %s", b->file, b->line, b->name, ops->name,
					   *msg ? msg : strerror(-r));
		l->ntrans++;
	}
	return 0;
}

static void
end_transports(struct worker *w)
{
	for (uint32_t k = 0; k < w->srv.nlsn; k++) {
		struct lc_lsn *l = &w->srv.lsn[k];
		for (uint32_t j = 0; j < l->ntrans; j++)
			if (l->trans[j].ops->unlisten)
				l->trans[j].ops->unlisten(l->trans[j].inst);
		free(l->trans);
		free((void *)(uintptr_t)l->info.alpn);
	}
}

static int
set_listeners(struct worker *w)
{
	const struct lc_ctl_setup *set = w->setup;
	struct lc_mod **mods = NULL;
	uint32_t nmods = 0;
	int r = find_protocols(w, &mods, &nmods);

	if (r)
		return r;
	w->srv.lsn = calloc(set->nlisteners ? set->nlisteners : 1, sizeof(*w->srv.lsn));
	for (uint32_t k = 0; w->srv.lsn && k < set->nlisteners; k++) {
		struct lc_lsn *l = &w->srv.lsn[w->srv.nlsn];
		const struct lc_block *b = NULL;
		while ((b = lc_conf_next(w->pool, LC_C_LISTEN, b)) && b->index != set->listeners[k].index)
			;
		if (!b)
			continue;
		l->ev = (struct lc_ev){.fn = lc_lsn_ready, .fd = set->listeners[k].fd};
		l->srv = &w->srv;
		l->index = set->listeners[k].index;
		name_listener(l, set->listeners[k].name);
		l->protos = calloc(nmods, sizeof(*l->protos));
		for (uint32_t j = 0; l->protos && j < nmods; j++) {
			const struct lc_proto *p = lc_mod_iface(mods[j], LC_KIND_PROTOCOL, LC_PROTO_VERSION);
			l->protos[l->nprotos].proto = p;
			l->protos[l->nprotos++].conf = lc_conf_get(w->conf, b, &mods[j]->dirset);
			if (p->sniff && p->sniff_max > l->sniff_max)
				l->sniff_max = p->sniff_max;
		}
		w->srv.nlsn++;
		if (!r)
			r = set_transports(w, l, b);
	}
	free(mods);
	return r;
}

static int
set_access_logs(struct worker *w)
{
	struct lc_conf_access l;
	char msg[512];

	for (uint32_t i = 0; i < w->setup->naccess; i++) {
		struct lc_logfmt *fmt = NULL;
		char *text = NULL;
		int json = 0, r;

		if (!w->srv.access && !(w->srv.access = lc_access_new()))
			return boot_failed(w, "no memory");
		if (!lc_conf_access_log(w->pool_conf, i, &l))
			return boot_failed(w, "the arbiter sent an access log more than the pool has");
		r = lc_conf_log_format(w->main_conf, l.format, &text, &json);
		if (r == 0)
			r = lc_logfmt_parse(&fmt, text, json, msg, sizeof(msg));
		free(text);
		if (r == 0)
			r = lc_access_add(w->srv.access, l.path, w->setup->access_fd[i], fmt);
		if (r < 0)
			return boot_failed(w, "access_log %s: %s", l.path, strerror(-r));
	}
	return 0;
}

static int
configure(struct worker *w)
{
	struct lc_conf_opts opts = {.prefix = w->setup->prefix, .load_module = lc_mod_conf_load};
	struct lc_err *err = lc_err_new();
	int r = 0;

	if (!err)
		return boot_failed(w, "no memory");
	for (uint32_t i = 0; i < w->setup->nfiles; i++)
		if (lc_conf_file_give(w->setup->files[i].path, w->setup->files[i].data, w->setup->files[i].n) < 0)
			r = boot_failed(w, "the arbiter sent too many files");
	if (!r && lc_conf_parse(&w->conf, w->setup->text, w->setup->text_n, "configuration", &opts, err) < 0) {
		r = boot_failed(w, "%s", lc_err_text(err));
	} else if (!r) {
		const struct lc_block *top = lc_conf_main_block(w->conf);
		w->pool = lc_conf_next(top, LC_C_POOL, NULL);
		w->main_conf = lc_conf_get(w->conf, top, &lc_core_main);
		w->pool_conf = w->pool ? lc_conf_get(w->conf, w->pool, &lc_core_pool) : NULL;
		if (!w->pool)
			r = boot_failed(w, "the configuration for this worker has no pool");
	}
	lc_err_free(err);
	return r;
}

static uint32_t
connection_limit(uint64_t configured)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		if (rl.rlim_cur < rl.rlim_max) {
			rl.rlim_cur = rl.rlim_max;
			setrlimit(RLIMIT_NOFILE, &rl);
			getrlimit(RLIMIT_NOFILE, &rl);
		}
		if (rl.rlim_cur > LC_FDS_RESERVED && configured > rl.rlim_cur - LC_FDS_RESERVED) {
			lc_log(LC_LOG_WARN,
			       "worker_connections %llu is more than the limit of open files allows: %llu are served "
			       "at once",
			       (unsigned long long)configured, (unsigned long long)(rl.rlim_cur - LC_FDS_RESERVED));
			configured = rl.rlim_cur - LC_FDS_RESERVED;
		}
	}
	return (uint32_t)configured;
}

/* Routes before the worker module: what is wrong with them shows before an application is loaded. */
static int
open_routes(struct worker *w)
{
	for (const struct lc_block *b = NULL; (b = lc_conf_next(w->pool, LC_C_ROUTE, b));) {
		struct lc_mod *m = lc_mod_find(b->args[0]);
		const struct lc_handler *h = m ? lc_mod_iface(m, LC_KIND_HANDLER, LC_HANDLER_VERSION) : NULL;
		if (!h)
			return boot_failed(w, "route %s: %s is not a handler module", b->name, b->args[0]);
		int r = lc_routes_add(&w->srv, h, b->index, b->name, lc_conf_get(w->conf, b, &m->dirset));
		if (r < 0)
			return boot_failed(w, "route %s: %s: %s", b->name, b->args[0],
					   w->srv.boot_error ? w->srv.boot_error : strerror(-r));
	}
	return 0;
}

enum start { START_WORKER, START_ZYGOTE };

static int
start_module(struct worker *w, enum start how)
{
	const struct lc_block *b = lc_conf_next(w->pool, LC_C_WORKER, NULL);
	struct lc_mod *m = b ? lc_mod_find(b->name) : NULL;

	w->srv.wk = m ? lc_mod_iface(m, LC_KIND_WORKER, LC_WORKER_VERSION) : NULL;
	if (!w->srv.wk)
		return boot_failed(w, "%s is not a worker module", b ? b->name : "(none)");
	int r;
	if (how == START_WORKER && w->forked) {
		r = w->srv.wk->forked(w->srv.w);
	} else if (how == START_WORKER) {
		r = w->srv.wk->init(&w->srv.ctx, lc_worker_table(), lc_conf_get(w->conf, b, &m->dirset), &w->srv.w);
	} else if (!lc_zygote_can(w->srv.wk)) {
		return boot_failed(w, LC_ZYGOTE_REFUSAL, b->name);
	} else {
		r = w->srv.wk->preload(&w->srv.ctx, lc_worker_table(), lc_conf_get(w->conf, b, &m->dirset), &w->srv.w);
	}
	if (r < 0) {
		if (w->srv.boot_error)
			return boot_failed(w, "%s", w->srv.boot_error);
		return boot_failed(w, "worker module %s: %s", b->name, strerror(-r));
	}
	return 0;
}

static int
run(struct worker *w)
{
	struct lc_srv *srv = &w->srv;

	w->term_ev = (struct lc_ev){.fn = term_ready, .fd = term_fd};
	w->ctl_ev = (struct lc_ev){.fn = ctl_ready, .fd = lc_ctl_fd(w->ctl)};
	int r = lc_ev_set(&srv->loop, &w->term_ev, EPOLLIN, 0);
	if (r >= 0)
		r = lc_ev_set(&srv->loop, &w->ctl_ev, EPOLLIN, 0);
	if (r < 0)
		return boot_failed(w, "epoll_ctl: %s", strerror(-r));
	srv->proc = w;
	srv->on_beat = send_beat;
	srv->on_stranded = stranded;
	lc_srv_listen(srv);
	lc_fl_crash_install(srv->flight); /* again: a runtime may have set its own */
	struct lc_watch_opts wo = {.loop = &srv->loop,
				   .ctl = w->ctl,
				   .flight = srv->flight,
				   .wk = srv->wk,
				   .w = srv->w,
				   .beat_ms = beat_interval(w),
				   .request_timeout_ms = w->pool_conf->request_timeout};
	r = lc_watch_start(&w->watch, &wo);
	if (r < 0)
		return boot_failed(w, "cannot start the watchdog's thread: %s", strerror(-r));
	lc_ctl_ready(w->ctl);
	lc_loop_clock(&srv->loop);
	send_beat(srv);
	if (srv->wk->run) {
		r = srv->wk->run(srv->w);
		if (r > 0) { /* threads are still in calls and may touch anything: nothing is taken down under them */
			lc_access_free(srv->access);
			_exit(0);
		}
	} else {
		lc_loop_lead(&srv->loop);
		r = 0;
	}
	lc_watch_stop(w->watch);
	if (srv->wk->fini)
		srv->wk->fini(srv->w);
	return r < 0 ? 1 : 0;
}

/* Facts about us of which modules ask; what else is theirs comes with set_*(). */
static int
get_configured(struct worker *w)
{
	int r = configure(w);

	if (r)
		return r;
	w->srv.pool = w->pool->name;
	w->srv.processes = w->setup->processes;
	w->srv.slot = w->setup->slot;
	w->srv.request_timeout = w->pool_conf->request_timeout;
	return 0;
}

/* What is in the process list.  `room`: a zygote's workers have the place of its title for theirs. */
static void
set_title(const struct worker *w, char *title, size_t room)
{
	if (!room)
		return;
	memset(title, 0, room);
	snprintf(title, room, "licorne: worker %.64s/%u", w->pool->name, w->setup->slot);
}

/* From the set-up to the end. */
static int
work(struct worker *w, char *title, size_t room)
{
	int r;

	r = w->forked ? keep_signals() : set_signals();
	if (r == 0)
		r = lc_ctl_open(&w->ctl, 3, "worker");
	if (r < 0) {
		if (w->forked && r == -EPIPE) /* the zygote was killed meanwhile: the arbiter asks another one */
			return 0;
		lc_log(LC_LOG_CRIT, "cannot start: no channel to the arbiter on fd 3: %s", strerror(-r));
		return 1;
	}
	if ((r = lc_ctl_setup(w->ctl, &w->setup)) < 0) {
		if (r == -ESHUTDOWN || (w->forked && r == -EPIPE)) /* no longer needed */
			return 0;
		lc_log(LC_LOG_ERROR, "no configuration came from the arbiter: %s", strerror(-r));
		return 1;
	}
	/* What was configured has been adopted: the arbiter is our parent by now, or it is dead. */
	if (w->forked && (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 || getppid() != w->arbiter))
		return 1;
	snprintf(w->role, sizeof(w->role), "%u", w->setup->slot);
	setenv("LICORNE_SLOT", w->role, 1); /* before anything of the application's runs */
	if (w->setup->flight_fd >= 0 && (r = lc_fl_open(&w->flight, w->setup->flight_fd)) < 0) {
		lc_log(LC_LOG_WARN, "the flight recorder cannot be mapped: %s", strerror(-r));
		close(w->setup->flight_fd);
	}
	lc_fl_crash_install(w->flight);
	if (!w->forked)
		lc_srv_register_tables();
	if ((r = lc_srv_init(&w->srv)) < 0)
		return boot_failed(w, "cannot start: %s", strerror(-r));
	w->srv.flight = w->flight;
	if ((r = get_configured(w)))
		return r;
	set_title(w, title, room);
	snprintf(w->role, sizeof(w->role), "%s/%u", w->pool->name, w->setup->slot);
	lc_log_role(w->role);
	w->srv.max_conns = connection_limit(w->pool_conf->worker_connections);
	if ((r = set_access_logs(w)) || (r = set_listeners(w)) || (r = open_routes(w)) ||
	    (r = start_module(w, START_WORKER)))
		return r;
	r = run(w);
	lc_routes_close(&w->srv);
	end_transports(w);
	lc_srv_done(&w->srv);
	lc_fl_crash_install(NULL);
	lc_fl_close(w->flight);
	lc_ctl_close(w->ctl);
	lc_conf_free(w->conf);
	lc_conf_free(w->loaded);
	return r;
}

int
lc_worker_main(void)
{
	struct worker *w = calloc(1, sizeof(*w));

	lc_log_role("worker");
	if (!w) {
		lc_log(LC_LOG_CRIT, "cannot start: no memory");
		return 1;
	}
	return work(w, NULL, 0);
}

int
lc_zygote_main(char *title, size_t room)
{
	struct worker *w = calloc(1, sizeof(*w));
	char threads[256];
	unsigned n;
	int r;

	lc_log_role("zygote");
	r = w ? set_signals() : -ENOMEM;
	if (r == 0)
		r = lc_ctl_open_zygote(&w->ctl, 3, "zygote");
	if (r < 0) {
		lc_log(LC_LOG_CRIT, "cannot start: no channel to the arbiter on fd 3: %s", strerror(-r));
		return 1;
	}
	w->arbiter = getppid();
	if ((r = lc_ctl_setup(w->ctl, &w->setup)) < 0) {
		if (r == -ESHUTDOWN)
			return 0;
		lc_log(LC_LOG_ERROR, "no configuration came from the arbiter: %s", strerror(-r));
		return 1;
	}
	lc_srv_register_tables();
	if ((r = get_configured(w)))
		return r;
	snprintf(w->role, sizeof(w->role), "%s/zygote", w->pool->name);
	lc_log_role(w->role);
	if ((r = start_module(w, START_ZYGOTE)))
		return r;
	n = lc_zygote_threads(threads, sizeof(threads));
	if (n != 1)
		return boot_failed(
		    w,
		    "preload: there are %u threads after the application was loaded (%s), and a process can only be "
		    "forked with one: the application must start threads when it serves and not when it is loaded, or "
		    "the pool needs `preload off`",
		    n, threads);
	lc_ctl_ready(w->ctl);
	lc_zygote_serve(w->ctl, w->srv.wk, w->srv.w, term_fd);
	/* A worker, with its channel. */
	w->loaded = w->conf; /* the module has a part of it */
	w->conf = NULL;
	w->ctl = NULL;
	w->setup = NULL;
	w->forked = true;
	lc_log_role("worker");
	return work(w, title, room);
}
