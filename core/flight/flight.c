/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/flight/flight.c - opening the recorder, and reading what another process wrote into it.
 *
 * The reader trusts nothing: lengths are cut to what the record holds, times in the future are no times, the stack need
 * not end.  Text is not escaped here: that is the log's business (lc_log_text()).
 */
#include "flight/flight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int
lc_fl_open(struct lc_fl **ret, int fd)
{
	struct lc_fl *f = calloc(1, sizeof(*f) + LC_FL_RECORDS * sizeof(f->free[0]));
	struct stat st;
	int r = 0;

	if (!f)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (st.st_size != (off_t)sizeof(struct lc_flight))
		r = -EINVAL;
	if (r == 0) {
		f->map = mmap(NULL, sizeof(struct lc_flight), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (f->map == MAP_FAILED)
			r = -errno;
	}
	if (r < 0) {
		free(f);
		return r;
	}
	f->fd = fd;
	f->n = LC_FL_RECORDS;
	for (uint32_t i = 0; i < LC_FL_RECORDS; i++)
		f->free[i] = (uint16_t)(LC_FL_RECORDS - 1 - i);
	f->map->magic = LC_FL_MAGIC;
	*ret = f;
	return 0;
}

void
lc_fl_close(struct lc_fl *f)
{
	if (!f)
		return;
	munmap(f->map, sizeof(struct lc_flight));
	close(f->fd);
	free(f);
}

/* ---- the reader */

static uint64_t
since(uint64_t t, uint64_t now)
{
	return t && t < now ? (now - t) / 1000000 : 0;
}

/* Printable, and no end of line: what is not one of ours to print is a question mark.  The log escapes as well. */
static void
tame(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] > 0x7e)
			p[i] = '?';
}

bool
lc_fl_look(const struct lc_flight *m, uint32_t i, uint64_t now, struct lc_fl_view *v)
{
	struct lc_fl_rec *r = &v->copy;
	size_t method, client, path;

	if (i >= LC_FL_RECORDS)
		return false;
	/* The copy is what counts from here: the original may change at any time. */
	memcpy(r, (const void *)&m->rec[i], sizeof(*r));
	__asm__ volatile("" ::: "memory");
	if (r->started == 0)
		return false;
	method = r->method_n < LC_FL_METHOD_MAX ? r->method_n : LC_FL_METHOD_MAX;
	client = r->client_n < LC_FL_CLIENT_MAX ? r->client_n : LC_FL_CLIENT_MAX;
	path = r->path_n < LC_FL_PATH_MAX ? r->path_n : LC_FL_PATH_MAX;
	tame(r->text, sizeof(r->text));
	v->method = (struct lc_str){r->text, method};
	v->client = (struct lc_str){r->text + method, client};
	v->path = (struct lc_str){r->text + method + client, path};
	v->cut = path == LC_FL_PATH_MAX;
	v->phase = r->phase < LC_FL_PHASES ? (enum lc_fl_phase)r->phase : LC_FL_QUEUED;
	v->thread = (uint32_t)(r->call >> 32);
	v->age_ms = since(r->started, now);
	v->call_ms = v->thread ? since(r->began, now) : 0;
	if (v->call_ms > v->age_ms)
		v->call_ms = v->age_ms;
	return true;
}

int
lc_fl_print(const struct lc_fl_view *v, char *buf, size_t n)
{
	char what[64];

	switch (v->phase) {
	case LC_FL_ROUTE:
		snprintf(what, sizeof(what), "with a handler");
		break;
	case LC_FL_CALL:
		snprintf(what, sizeof(what), "in the application for %.1f s, thread %u", (double)v->call_ms / 1000.0,
			 v->thread);
		break;
	case LC_FL_CLIENT:
		snprintf(what, sizeof(what), "in the application, waiting for its client, thread %u", v->thread);
		break;
	default:
		snprintf(what, sizeof(what), "waiting for a thread");
		break;
	}
	return snprintf(buf, n, "%.*s %.*s%s from %.*s, for %.1f s: %s", (int)v->method.n, v->method.p, (int)v->path.n,
			v->path.p, v->cut ? "..." : "", v->client.n ? (int)v->client.n : 13,
			v->client.n ? v->client.p : "a UNIX socket", (double)v->age_ms / 1000.0, what);
}

uint32_t
lc_fl_print_all(const struct lc_flight *m, uint64_t now, uint32_t max, char *buf, size_t n)
{
	struct lc_fl_view v;
	uint32_t found = 0, shown = 0;
	uint64_t last = 0;
	uint32_t last_i = 0;
	size_t o = 0;

	if (n)
		buf[0] = 0;
	for (uint32_t i = 0; i < LC_FL_RECORDS; i++)
		found += __atomic_load_n(&m->rec[i].started, __ATOMIC_RELAXED) != 0;
	/* The oldest first, by looking for the next: they are few that are shown, and the original may change. */
	while (shown < max && shown < found) {
		uint64_t best = UINT64_MAX;
		uint32_t at = LC_FL_RECORDS;
		int k;

		for (uint32_t i = 0; i < LC_FL_RECORDS; i++) {
			uint64_t t = __atomic_load_n(&m->rec[i].started, __ATOMIC_RELAXED);

			if (t && t < best && (shown == 0 || t > last || (t == last && i > last_i))) {
				best = t;
				at = i;
			}
		}
		if (at == LC_FL_RECORDS)
			break;
		last = best;
		last_i = at;
		shown++;
		if (!lc_fl_look(m, at, now, &v))
			continue;
		k = lc_fl_print(&v, buf + o, n - o);
		if (k < 0 || (size_t)k + 2 > n - o) {
			buf[o] = 0;
			shown--;
			break;
		}
		o += (size_t)k;
		buf[o++] = '\n';
		buf[o] = 0;
	}
	if (shown < found)
		snprintf(buf + o, n - o, "and %u more\n", found - shown);
	return found;
}

size_t
lc_fl_stack_len(const struct lc_flight *m)
{
	return strnlen(m->stack, LC_FL_STACK);
}

int
lc_fl_print_crash(const struct lc_flight *m, const char *signame, char *buf, size_t n)
{
	struct lc_fl_crash c;
	size_t o;
	int k;

	memcpy(&c, &m->crash, sizeof(c));
	__asm__ volatile("" ::: "memory");
	if (c.sig == 0)
		return 0;
	if (c.nframes > LC_FL_FRAMES)
		c.nframes = LC_FL_FRAMES;
	/* si_code > 0: from the processor, and then there is an address; else somebody sent it */
	if (c.code > 0)
		k = snprintf(buf, n, "%s at address 0x%llx in thread %u", signame, (unsigned long long)c.address,
			     c.tid);
	else
		k = snprintf(buf, n, "%s, sent by a process, in thread %u", signame, c.tid);
	o = k < 0 ? 0 : (size_t)k < n ? (size_t)k : n - 1;
	if (m->stack[0]) /* they are there, with symbols */
		return (int)o;
	for (uint32_t i = 0; i < c.nframes && n - o > 24; i++) {
		k = snprintf(buf + o, n - o, "%s0x%llx", i % 6 ? " " : "\n  ", (unsigned long long)c.frames[i]);
		o += (size_t)k;
	}
	return (int)o;
}
