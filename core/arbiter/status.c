/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/status.c - what there is, for the control socket: one line of JSON.
 *
 * Whatever is read here must not hold the arbiter up: numbers of workers are those of their last heartbeat (a second
 * old at most), memory is that of /proc/PID/statm, which takes no lock of the process; the proportional share, for
 * which the kernel walks its page tables, is the asking program's to read.  Queues are asked for socket by socket, not
 * looked for among all connections of the machine.  Fields are only added, never renamed: people write programs
 * against them.  docs/operations.md lists them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/utf8.h"

void
lc__json_str(FILE *f, const char *s)
{
	size_t n = strlen(s), k;

	fputc('"', f);
	for (const unsigned char *p = (const unsigned char *)s; n > 0; p += k, n -= k) {
		k = lc_utf8_printable(p, n);
		if (k == 0) {
			k = 1;
			if (*p < 0x80)
				fprintf(f, "\\u%04x", *p);
			else
				fputs("\\ufffd", f);
		} else if (*p == '"' || *p == '\\') {
			fprintf(f, "\\%c", *p);
		} else {
			fwrite(p, 1, k, f);
		}
	}
	fputc('"', f);
}

/* ,"name": and a text, or null */
static void
member(FILE *f, const char *name, const char *text)
{
	fprintf(f, ",\"%s\":", name);
	if (text && *text)
		lc__json_str(f, text);
	else
		fputs("null", f);
}

static double
seconds(int64_t ms)
{
	return (double)(ms > 0 ? ms : 0) / 1000.0;
}

/* ---- listeners ---- */

struct queue {
	bool known;
	uint32_t n, max;
};

static struct queue
queue_tcp(int fd)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);
	struct queue q = {0};

	/* Of a listening socket these two are the queue and its limit. */
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0)
		q = (struct queue){true, ti.tcpi_unacked, ti.tcpi_sacked};
	return q;
}

static struct queue
queue_unix(int netlink, int fd)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req u;
	} ask = {.h = {.nlmsg_len = sizeof(ask), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
		 .u = {.sdiag_family = AF_UNIX,
		       .udiag_states = UINT32_MAX,
		       .udiag_show = UDIAG_SHOW_RQLEN,
		       .udiag_cookie = {UINT32_MAX, UINT32_MAX}}};
	union {
		struct nlmsghdr h;
		char raw[1024];
	} got;
	struct queue q = {0};
	struct stat st;
	ssize_t n;

	if (netlink < 0 || fstat(fd, &st) < 0)
		return q;
	ask.u.udiag_ino = (uint32_t)st.st_ino;
	if (send(netlink, &ask, sizeof(ask), MSG_DONTWAIT) < 0)
		return q;
	n = recv(netlink, &got, sizeof(got), MSG_DONTWAIT); /* the kernel has answered within send() */
	if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct unix_diag_msg)) || got.h.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return q;
	for (size_t at = NLMSG_LENGTH(sizeof(struct unix_diag_msg)); at + sizeof(struct nlattr) <= (size_t)n;) {
		struct nlattr attr;
		struct unix_diag_rqlen len;

		memcpy(&attr, got.raw + at, sizeof(attr));
		if (attr.nla_len < sizeof(attr))
			break;
		if (attr.nla_type == UNIX_DIAG_RQLEN && at + NLA_HDRLEN + sizeof(len) <= (size_t)n) {
			memcpy(&len, got.raw + at + NLA_HDRLEN, sizeof(len));
			q = (struct queue){true, len.udiag_rqueue, len.udiag_wqueue};
		}
		at += NLA_ALIGN(attr.nla_len);
	}
	return q;
}

static void
put_listeners(FILE *f, struct lc__arb *a)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	const char *sep = "";

	fputs(",\"listeners\":[", f);
	for (uint32_t i = 0; i < a->gen->npools; i++)
		for (uint32_t k = 0; k < a->gen->pools[i].nlisteners; k++) {
			const struct lc__sock *s = a->gen->pools[i].listeners[k].sock;
			struct queue q;

			if (!s || s->fd < 0)
				continue;
			q = strncmp(s->name, "unix:", 5) == 0 ? queue_unix(netlink, s->fd) : queue_tcp(s->fd);
			fprintf(f, "%s{\"address\":", sep);
			sep = ",";
			lc__json_str(f, s->name);
			member(f, "pool", a->gen->pools[i].name);
			if (q.known)
				fprintf(f, ",\"queue\":%u,\"backlog\":%u}", q.n, q.max);
			else
				fputs(",\"queue\":null,\"backlog\":null}", f);
		}
	fputs("]", f);
	if (netlink >= 0)
		close(netlink);
}

/* ---- processes ---- */

static const char *
state_name(enum lc_pstate s, char buf[16])
{
	const char *name = lc_pstate_name(s);
	size_t i = 0;

	for (; name[i] && i < 15; i++)
		buf[i] = (char)(name[i] | 0x20);
	buf[i] = 0;
	return buf;
}

static void
put_worker(FILE *f, const struct lc__arb *a, const struct lc__proc *p)
{
	bool live = lc__proc_live(p) && p->pid > 0;
	uint64_t rss = live ? lc__resident(p->pid) : 0;
	char name[16];

	fprintf(f, "{\"slot\":%u,\"state\":\"%s\",\"leaving\":%s", p->index, state_name(p->state, name),
		p->leaving ? "true" : "false");
	if (live)
		fprintf(f, ",\"pid\":%ld,\"age\":%.3f", (long)p->pid, seconds(a->now - p->spawned_at));
	else
		fputs(",\"pid\":null,\"age\":null", f);
	fprintf(f, ",\"requests\":%llu,\"inflight\":%u,\"connections\":%u,\"accepted\":%llu",
		(unsigned long long)p->beat.requests, live ? p->beat.inflight : 0, live ? p->beat.conns : 0,
		(unsigned long long)p->beat.accepted);
	if (rss)
		fprintf(f, ",\"rss\":%llu", (unsigned long long)rss);
	else
		fputs(",\"rss\":null", f);
	if (p->state == LC_PS_READY)
		fprintf(f, ",\"heartbeat\":%.3f", seconds(a->now - p->beat_at));
	else
		fputs(",\"heartbeat\":null", f);
	if (p->state == LC_PS_BACKOFF && !p->waits)
		fprintf(f, ",\"starts_in\":%.3f", seconds(p->deadline - a->now));
	else
		fputs(",\"starts_in\":null", f);
	fprintf(f, ",\"restarts\":%u,\"failures\":%u", p->starts ? p->starts - 1 : 0, p->failures);
	member(f, "last_end", p->last);
	fputs("}", f);
}

static void
put_pool(FILE *f, const struct lc__arb *a, const struct lc__pool *pool)
{
	uint32_t ready = 0, busy = 0, inflight = 0, conns = 0, restarts = 0;
	uint64_t requests = 0;
	const char *sep = "";

	for (uint32_t i = 0; i < a->nprocs; i++) {
		const struct lc__proc *p = a->procs[i];

		if (p->kind != &lc__worker_kind || p->pool != pool)
			continue;
		restarts += p->leaving || !p->starts ? 0 : p->starts - 1;
		if (!lc__proc_live(p))
			continue;
		ready += p->state == LC_PS_READY;
		busy += p->state == LC_PS_READY && p->beat.inflight > 0;
		inflight += p->beat.inflight;
		conns += p->beat.conns;
		requests += p->beat.requests;
	}
	fputs("{\"name\":", f);
	lc__json_str(f, pool->name);
	fprintf(f,
		",\"processes\":%u,\"ready\":%u,\"busy\":%u,\"idle\":%u,\"degraded\":%s,\"requests\":%llu,"
		"\"inflight\":%u,\"connections\":%u,\"restarts\":%u,\"workers\":[",
		pool->target, ready, busy, ready - busy, pool->degraded ? "true" : "false",
		(unsigned long long)requests, inflight, conns, restarts);
	/* in the order of slots: the table's is that of chance */
	for (uint32_t slot = 0, left = a->nprocs; slot < LC__PROCESSES && left; slot++) {
		left = 0;
		for (uint32_t i = 0; i < a->nprocs; i++) {
			const struct lc__proc *p = a->procs[i];

			if (p->kind != &lc__worker_kind || p->pool != pool || p->state == LC_PS_EMPTY)
				continue;
			left += p->index > slot;
			if (p->index != slot)
				continue;
			fputs(sep, f);
			sep = ",";
			put_worker(f, a, p);
		}
	}
	fputs("]}", f);
}

static void
put_generations(FILE *f, const struct lc__arb *a)
{
	const char *sep = "";

	fputs(",\"generations\":[", f);
	for (const struct lc__gen *g = a->gens; g; g = g->next) {
		fprintf(f, "%s{\"number\":%u,\"state\":\"%s\",\"pools\":[", sep, g->number,
			g == a->gen  ? "serving"
			: g->retired ? "finishing"
				     : "starting");
		sep = ",";
		for (uint32_t i = 0; i < g->npools; i++) {
			if (i)
				fputs(",", f);
			put_pool(f, a, &g->pools[i]);
		}
		fputs("]}", f);
	}
	fputs("],\"helpers\":[", f);
	sep = "";
	for (uint32_t i = 0; i < a->nprocs; i++) {
		const struct lc__proc *p = a->procs[i];
		char name[16];

		if (!p->kind || p->kind == &lc__worker_kind || !lc__proc_live(p))
			continue;
		fprintf(f, "%s{\"name\":", sep);
		sep = ",";
		lc__json_str(f, p->name);
		fprintf(f, ",\"pid\":%ld,\"state\":\"%s\",\"age\":%.3f}", (long)p->pid, state_name(p->state, name),
			seconds(a->now - p->spawned_at));
	}
	fputs("]", f);
}

static const char *
whole(const struct lc__arb *a)
{
	return a->stopping                     ? "stopping"
	       : !a->told_ready                ? "starting"
	       : lc__upgrading(a)              ? "upgrading"
	       : a->reload.step != LC__RL_NONE ? "reloading"
					       : "serving";
}

char *
lc__status(struct lc__arb *a, size_t *ret_n)
{
	const struct lc__reload *r = &a->reload;
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_n);

	if (!f)
		return NULL;
	fprintf(f, "{\"ok\":true,\"version\":\"%s\",\"pid\":%ld,\"uptime\":%.3f,\"state\":\"%s\"", LC_VERSION,
		(long)a->pid, seconds(a->now - a->started), whole(a));
	member(f, "configuration", a->opts->path ? a->opts->path : a->opts->text_name);
	fprintf(f, ",\"generation\":%u,\"last_reload\":", a->gen->number);
	if (r->done) {
		fprintf(f, "{\"number\":%u,\"ok\":%s,\"ago\":%.3f", r->done, r->ok ? "true" : "false",
			seconds(a->now - r->ended));
		member(f, "reason", r->ok ? NULL : r->why);
		fputs("}", f);
	} else {
		fputs("null", f);
	}
	put_listeners(f, a);
	put_generations(f, a);
	fputs("}\n", f);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}
