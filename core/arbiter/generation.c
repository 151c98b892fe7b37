/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/generation.c - generations: one configuration, with its pools, files, logs and sockets.
 *
 * There is one that serves, at most one on trial (reload.c), and any number of retired ones whose processes finish what
 * they have; a generation is freed when its last process is gone.  Only a generation that serves or is on trial holds
 * sockets: one that both name is the same socket, with its queue.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

static int
pools_init(struct lc__arb *a, struct lc__gen *g)
{
	const struct lc_block *top = lc_conf_main_block(g->conf), *b = NULL;

	while ((b = lc_conf_next(top, LC_C_POOL, b)))
		g->npools++;
	if (g->npools == 0) {
		lc__complain(a, "the configuration has no pool: there is nothing to serve");
		return -EINVAL;
	}
	g->pools = calloc(g->npools, sizeof(*g->pools));
	if (!g->pools) {
		g->npools = 0;
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < g->npools; i++)
		g->pools[i].config_fd = -1;
	for (uint32_t i = 0; (b = lc_conf_next(top, LC_C_POOL, b)); i++) {
		struct lc__pool *p = &g->pools[i];
		char *text;

		p->gen = g;
		p->block = b;
		p->conf = lc_conf_get(g->conf, b, &lc_core_pool);
		p->name = b->name;
		p->target = lc_conf_processes(p->conf);
		if (lc__secret_init(a, p) < 0)
			return -EIO;
		text = lc_conf_text(g->conf, b, &p->config_n);
		p->config_fd = text ? lcimsg_memfd("licorne configuration", text, p->config_n) : -ENOMEM;
		free(text);
		if (p->config_fd < 0) {
			lc__complain(a, "cannot pass the configuration on: %s", strerror(-p->config_fd));
			return p->config_fd;
		}
		if (lc__logs_open(a, p) < 0)
			return -EIO;
	}
	return 0;
}

/* Each worker costs a channel and a handle; in a reload there are twice as many. */
static void
raise_fd_limit(const struct lc__gen *g)
{
	rlim_t need = 64 + g->files.n;
	struct rlimit rl;

	for (uint32_t i = 0; i < g->npools; i++)
		need += 2 * (rlim_t)g->pools[i].target + g->pools[i].nlisteners + g->pools[i].naccess + 4;
	need *= 2;
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= need)
		return;
	if (rl.rlim_max < need)
		lc_log(LC_LOG_WARN, "%llu files may be open at once, so many workers may need %llu",
		       (unsigned long long)rl.rlim_max, (unsigned long long)need);
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

static void
gen_free(struct lc__arb *a, struct lc__gen *g)
{
	if (!g)
		return;
	lc__listen_release(a, g);
	lc__control_drop(g);
	for (uint32_t i = 0; i < g->npools; i++) {
		struct lc__pool *p = &g->pools[i];

		if (p->config_fd >= 0)
			close(p->config_fd);
		for (uint32_t k = 0; k < p->naccess; k++)
			close(p->access_fd[k]);
		free(p->listeners);
		explicit_bzero(&p->secret, sizeof(p->secret));
	}
	free(g->pools);
	if (g->error_fd >= 0)
		close(g->error_fd);
	lc__files_close(&g->files);
	free(g->creds.groups);
	lc_conf_free(g->conf);
	free(g);
}

struct lc__gen *
lc__gen_new(struct lc__arb *a, struct lc_conf *conf, struct lc__creds *creds, struct lc__files *files)
{
	struct lc__gen *g = calloc(1, sizeof(*g));

	if (!g) {
		lc_conf_free(conf);
		free(creds->groups);
		lc__files_close(files);
		lc__complain(a, "no memory for a configuration");
		goto out;
	}
	g->number = ++a->generations;
	g->conf = conf;
	g->creds = *creds;
	g->files = *files;
	g->error_fd = -1;
	g->control.fd = -1;
	g->main = lc_conf_get(conf, lc_conf_main_block(conf), &lc_core_main);
	g->prefix = lc_conf_prefix(conf);
	if (pools_init(a, g) < 0 || lc__listen_open(a, g) < 0 || lc__error_log_open(a, g) < 0 ||
	    lc__control_open(a, g) < 0) {
		gen_free(a, g);
		g = NULL;
		goto out;
	}
	raise_fd_limit(g);
	g->next = a->gens;
	a->gens = g;
out:
	memset(creds, 0, sizeof(*creds));
	memset(files, 0, sizeof(*files));
	return g;
}

void
lc__gen_spawn(struct lc__arb *a, struct lc__gen *g)
{
	for (uint32_t i = 0; i < g->npools; i++) {
		if (g->pools[i].conf->preload && !a->stopping && !g->retired)
			lc__zygote_start(a, &g->pools[i]);
		for (uint32_t k = 0; k < g->pools[i].target && !a->stopping && !g->retired; k++) {
			struct lc__proc *slot = lc__proc_slot(a, &g->pools[i], k);

			a->now = lc__now_ms();
			if (slot)
				lc__proc_spawn(a, slot);
		}
	}
}

bool
lc__gen_ready(const struct lc__arb *a, const struct lc__gen *g)
{
	for (uint32_t i = 0; i < g->npools; i++) {
		uint32_t ready = 0;

		for (uint32_t k = 0; k < a->nprocs; k++)
			ready += a->procs[k]->kind == &lc__worker_kind && a->procs[k]->pool == &g->pools[i] &&
				 a->procs[k]->state == LC_PS_READY;
		if (ready < g->pools[i].target)
			return false;
	}
	return true;
}

void
lc__gen_retire(struct lc__arb *a, struct lc__gen *g)
{
	g->retired = true;
	for (uint32_t i = 0; i < a->nprocs; i++)
		if (a->procs[i]->pool && a->procs[i]->pool->gen == g)
			lc__proc_drain(a, a->procs[i]);
	/* After the orders: what waits in the queue of a socket that goes is the workers' to serve. */
	lc__listen_release(a, g);
}

void
lc__gen_sweep(struct lc__arb *a)
{
	for (struct lc__gen **at = &a->gens, *g; (g = *at);) {
		bool used = !g->retired;

		for (uint32_t i = 0; !used && i < a->nprocs; i++)
			used = a->procs[i]->kind && a->procs[i]->pool && a->procs[i]->pool->gen == g;
		if (used) {
			at = &g->next;
			continue;
		}
		*at = g->next;
		lc_log(LC_LOG_INFO, "generation %u is gone", g->number);
		gen_free(a, g);
	}
}

void
lc__gens_free(struct lc__arb *a)
{
	while (a->gens) {
		struct lc__gen *g = a->gens;

		a->gens = g->next;
		gen_free(a, g);
	}
	a->gen = NULL;
}
