/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test/unit/pyhost_fake.c - see pyhost_fake.h.
 */
#include "pyhost_fake.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

char fake_log[1 << 16], fake_boot[16384];
int fake_log_levels;
static size_t log_n;
static pthread_mutex_t log_mu = PTHREAD_MUTEX_INITIALIZER;

static struct {
	pthread_mutex_t mu, lead;
	pthread_cond_t cv;
	struct lc_stream *head, **tail;
	const struct lc_worker *wk;
	void *w;
	int stop;
	uint64_t now;
} loop = {.mu = PTHREAD_MUTEX_INITIALIZER, .lead = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER};
static _Thread_local int leading;
uint32_t fake_handed_on;

static uint16_t
token(const char *name, size_t n)
{
	static const char *const names[LC_TOK_COUNT] = {
#define NAME(id, text) [LC_TOK_##id] = text,
	    LC_TOKEN_LIST(NAME)
#undef NAME
	};

	for (uint16_t t = 1; t < LC_TOK_COUNT; t++)
		if (strlen(names[t]) == n && strncasecmp(names[t], name, n) == 0)
			return t;
	return 0;
}

static struct lc_str
str(const char *s)
{
	return (struct lc_str){s, strlen(s)};
}

struct lc_stream *
fake_stream(const char *method, const char *target, const char *const *fields)
{
	struct lc_stream *s = calloc(1, sizeof(*s));
	const char *q = strchr(target, '?');

	(void)pthread_mutex_init(&s->mu, NULL);
	(void)pthread_cond_init(&s->cv, NULL);
	s->room = SIZE_MAX;
	s->req.size = sizeof(s->req);
	s->req.version = 0x0101;
	s->req.protocol = str("HTTP/1.1");
	s->req.method = str(method);
	s->req.scheme = str("http");
	s->req.target = str(target);
	s->req.path = q ? (struct lc_str){target, (size_t)(q - target)} : str(target);
	s->req.query = q ? str(q + 1) : (struct lc_str){NULL, 0};
	s->req.peer = str("127.0.0.1");
	s->req.peer_port = 40000;
	s->req.local = str("127.0.0.1");
	s->req.local_port = 8000;
	s->req.fields = s->fields;
	for (uint32_t i = 0; fields && fields[2 * i]; i++) {
		struct lc_field *f = &s->fields[s->req.nfields++];

		f->name = str(fields[2 * i]);
		f->value = str(fields[2 * i + 1]);
		f->token = token(f->name.p, f->name.n);
		if (f->token == LC_TOK_HOST)
			s->req.authority = f->value;
	}
	return s;
}

void
fake_body(struct lc_stream *s, int64_t length, ...)
{
	const char *p;
	va_list ap;

	va_start(ap, length);
	while ((p = va_arg(ap, const char *)))
		s->piece[s->npieces++] = str(p);
	va_end(ap);
	s->req.flags |= LC_R_BODY;
	s->req.length = length;
	s->given = s->npieces ? 1 : 0;
}

void
fake_flush(struct lc_stream *s)
{
	for (uint32_t i = 0; i < s->nheld; i++) {
		const struct lc_slice *v = &s->held[i];

		s->body = realloc(s->body, s->body_n + v->n + 1);
		if (v->fd < 0)
			memcpy(s->body + s->body_n, v->p, v->n);
		else if (pread(v->fd, s->body + s->body_n, v->n, (off_t)v->off) != (ssize_t)v->n)
			s->short_file = 1;
		s->files += v->fd >= 0;
		s->body_n += v->n;
		s->body[s->body_n] = '\0';
		if (v->release)
			v->release(v->arg);
	}
	s->nheld = 0;
	s->waiting = 0;
}

void
fake_free(struct lc_stream *s)
{
	if (!s)
		return;
	fake_flush(s);
	for (uint32_t i = 0; i < s->narena; i++)
		free(s->arena[i]);
	free(s->body);
	(void)pthread_mutex_destroy(&s->mu);
	(void)pthread_cond_destroy(&s->cv);
	free(s);
}

const char *
fake_out(const struct lc_stream *s, const char *name)
{
	static char value[4096];

	for (uint32_t i = 0; i < s->nfields; i++) {
		const struct lc_field *f = &s->out_fields[i];

		if (f->name.n == strlen(name) && strncasecmp(f->name.p, name, f->name.n) == 0) {
			(void)snprintf(value, sizeof(value), "%.*s", (int)f->value.n, f->value.p);
			return value;
		}
	}
	return NULL;
}

/* ---- the "stream" table ---- */

/* A stream that was not shared belongs to the thread that its request came on. */
static void
check(struct lc_stream *s)
{
	if (s->checks && !s->shared && !pthread_equal(s->only, pthread_self()))
		s->violations++;
	if (s->releases)
		s->violations++;
}

static const struct lc_req *
api_req(struct lc_stream *s)
{
	return &s->req;
}

static void
api_share(struct lc_stream *s)
{
	check(s);
	s->shared = 1;
	s->shares++;
}

static int64_t
api_read(struct lc_stream *s, void *buf, size_t n)
{
	int64_t r = -EAGAIN;

	check(s);
	(void)pthread_mutex_lock(&s->mu);
	if (s->at < s->given) {
		struct lc_str *p = &s->piece[s->at];

		r = (int64_t)(p->n - s->off < n ? p->n - s->off : n);
		memcpy(buf, p->p + s->off, (size_t)r);
		s->off += (size_t)r;
		if (s->off == p->n) {
			s->off = 0;
			s->at++;
		}
	} else if (s->at == s->npieces) {
		r = s->read_error;
	}
	(void)pthread_mutex_unlock(&s->mu);
	return r;
}

static uint64_t
api_avail(struct lc_stream *s, int *fin)
{
	uint64_t n = 0;

	check(s);
	(void)pthread_mutex_lock(&s->mu);
	for (uint32_t i = s->at; i < s->given; i++)
		n += s->piece[i].n;
	*fin = s->given == s->npieces && !s->read_error;
	(void)pthread_mutex_unlock(&s->mu);
	return n - s->off;
}

static int
api_respond(struct lc_stream *s, const struct lc_head *h)
{
	check(s);
	if (s->aborted)
		return -EPIPE;
	if (s->responds)
		return -EALREADY;
	s->responds++;
	s->status = h->status;
	s->length = h->length;
	s->memo = h->memo;
	s->nfields = h->nfields;
	(void)snprintf(s->reason, sizeof(s->reason), "%.*s", (int)h->reason.n, h->reason.n ? h->reason.p : "");
	for (uint32_t i = 0; i < h->nfields && i < 64; i++)
		s->out_fields[i] = h->fields[i];
	return 0;
}

static int
api_write(struct lc_stream *s, const struct lc_slice *v, uint32_t n, uint32_t wflags)
{
	check(s);
	s->writes++;
	s->flushes += (wflags & LC_W_FLUSH) != 0;
	if (s->abort_after && s->body_n + s->waiting >= s->abort_after)
		s->aborted = 1;
	for (uint32_t i = 0; i < n; i++) {
		struct lc_slice k = v[i];

		if (s->aborted || s->fin || !s->responds) {
			if (k.release)
				k.release(k.arg);
			continue;
		}
		s->waiting += k.n;
		if (k.flags & LC_SL_COPY) {
			uint8_t *copy = malloc(k.n + 1);

			memcpy(copy, k.p, k.n);
			if (k.release)
				k.release(k.arg);
			k = (struct lc_slice){.p = copy, .n = k.n, .release = free, .arg = copy, .fd = -1};
		}
		if (s->nheld == 64)
			fake_flush(s);
		s->held[s->nheld++] = k;
	}
	if (s->aborted)
		return -EPIPE;
	if (s->fin)
		return -EALREADY;
	if (!s->responds)
		return -EINVAL;
	if (wflags & LC_W_FIN)
		s->fin = 1;
	return !s->fin && s->waiting > s->room;
}

static int
api_finish(struct lc_stream *s, const struct lc_field *trailers, uint32_t n)
{
	check(s);
	s->finishes++;
	if (s->aborted)
		return -EPIPE;
	if (s->fin)
		return -EALREADY;
	s->fin = 1;
	return 0;
}

static void
api_reset(struct lc_stream *s, uint32_t reason)
{
	check(s);
	s->resets++;
	s->aborted = 1;
}

static int
api_wait(struct lc_stream *s, uint32_t events, int64_t ms)
{
	int r = 0;

	check(s);
	s->waits++;
	if (leading && !s->shared &&
	    ((s->block_read && events & LC_EV_READ) || (s->block_write && events & LC_EV_WRITE))) {
		/* as the core does: the lead goes to another thread, this one waits like any */
		s->shared = 1;
		leading = 0;
		fake_handed_on++;
		(void)pthread_mutex_unlock(&loop.lead);
		loop.wk->leader_wanted(loop.w);
	}
	(void)pthread_mutex_lock(&s->mu);
	if (s->aborted)
		r |= (int)LC_EV_ABORT;
	if (events & LC_EV_READ) {
		while (s->block_read && s->at == s->given && s->given < s->npieces) {
			struct timespec until;

			(void)clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += ms < 0 ? 1000 : ms / 1000;
			until.tv_nsec += ms < 0 ? 0 : ms % 1000 * 1000000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_sec++;
				until.tv_nsec -= 1000000000;
			}
			if (pthread_cond_timedwait(&s->cv, &s->mu, &until) == ETIMEDOUT)
				break;
		}
		if (!s->block_read && s->at == s->given && s->given < s->npieces)
			s->given++;
		if (s->at < s->given || s->given == s->npieces)
			r |= (int)LC_EV_READ;
	}
	if (events & LC_EV_WRITE) {
		while (s->block_write)
			(void)pthread_cond_wait(&s->cv, &s->mu);
		fake_flush(s);
		r |= (int)LC_EV_WRITE;
	}
	(void)pthread_mutex_unlock(&s->mu);
	return r;
}

static void *
api_alloc(struct lc_stream *s, size_t n)
{
	void *p;

	if (s->narena == 256 || s->arena_total + n > 1 << 20)
		return NULL;
	p = malloc(n);
	s->arena_total += n;
	s->arena[s->narena++] = p;
	return p;
}

static void
api_set_user(struct lc_stream *s, void *user)
{
	s->user = user;
}

static void *
api_user(struct lc_stream *s)
{
	return s->user;
}

static void
api_release(struct lc_stream *s)
{
	check(s);
	(void)pthread_mutex_lock(&s->mu);
	s->releases++;
	s->done = 1;
	(void)pthread_cond_broadcast(&s->cv);
	(void)pthread_mutex_unlock(&s->mu);
}

static const struct lc_stream_api stream_table = {
    .size = sizeof(stream_table),
    .req = api_req,
    .share = api_share,
    .read = api_read,
    .avail = api_avail,
    .respond = api_respond,
    .write = api_write,
    .finish = api_finish,
    .reset = api_reset,
    .wait = api_wait,
    .alloc = api_alloc,
    .set_user = api_set_user,
    .user = api_user,
    .release = api_release,
};

/* ---- the loop ---- */

static uint64_t
read_clock(struct lc_wctx *x, int now)
{
	struct timespec ts;

	if (now) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		loop.now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	}
	return loop.now;
}

static int
api_lead(struct lc_wctx *x)
{
	(void)pthread_mutex_lock(&loop.lead);
	leading = 1;
	for (;;) {
		struct lc_stream *s;

		(void)pthread_mutex_lock(&loop.mu);
		while (!loop.head && !loop.stop)
			(void)pthread_cond_wait(&loop.cv, &loop.mu);
		s = loop.head;
		if (s) {
			loop.head = s->next;
			if (!loop.head)
				loop.tail = &loop.head;
		}
		(void)pthread_mutex_unlock(&loop.mu);
		if (!s)
			break;
		s->only = pthread_self();
		s->checks = 1;
		(void)read_clock(NULL, 1);
		loop.wk->request(loop.w, s);
		if (!leading)
			return 1;
		(void)pthread_mutex_lock(&loop.mu);
		s = loop.head;
		(void)pthread_mutex_unlock(&loop.mu);
		if (!s)
			loop.wk->batch_end(loop.w);
	}
	leading = 0;
	(void)pthread_mutex_unlock(&loop.lead);
	return 0;
}

void
fake_loop_start(const struct lc_worker *wk, void *w)
{
	loop.wk = wk;
	loop.w = w;
	loop.stop = 0;
	loop.head = NULL;
	loop.tail = &loop.head;
}

void
fake_loop_post(struct lc_stream *s)
{
	(void)pthread_mutex_lock(&loop.mu);
	s->next = NULL;
	*loop.tail = s;
	loop.tail = &s->next;
	(void)pthread_cond_signal(&loop.cv);
	(void)pthread_mutex_unlock(&loop.mu);
}

void
fake_loop_feed(struct lc_stream *s)
{
	(void)pthread_mutex_lock(&s->mu);
	s->given++;
	s->block_write = 0;
	(void)pthread_cond_broadcast(&s->cv);
	(void)pthread_mutex_unlock(&s->mu);
}

void
fake_wait_done(struct lc_stream *s)
{
	(void)pthread_mutex_lock(&s->mu);
	while (!s->done)
		(void)pthread_cond_wait(&s->cv, &s->mu);
	(void)pthread_mutex_unlock(&s->mu);
}

void
fake_loop_stop(void)
{
	(void)pthread_mutex_lock(&loop.mu);
	loop.stop = 1;
	(void)pthread_cond_signal(&loop.cv);
	(void)pthread_mutex_unlock(&loop.mu);
}

/* ---- the "worker" table ---- */

static int
post(struct lc_wctx *x, void (*fn)(void *), void *arg)
{
	return -ENOSYS;
}

static void
capacity(struct lc_wctx *x, uint32_t n)
{
}

static const char *
pool_name(struct lc_wctx *x)
{
	return "test";
}

static uint32_t
two(struct lc_wctx *x)
{
	return 2;
}

static uint32_t
zero(struct lc_wctx *x)
{
	return 0;
}

static void
boot_error(struct lc_wctx *x, const char *text, size_t n)
{
	(void)snprintf(fake_boot, sizeof(fake_boot), "%.*s", (int)n, text);
}

static void LC_PRINTF(3, 4) do_log(struct lc_wctx *x, int level, const char *fmt, ...)
{
	va_list ap;
	int n;

	(void)pthread_mutex_lock(&log_mu);
	va_start(ap, fmt);
	if (fake_log_levels && log_n + 4 < sizeof(fake_log))
		log_n += (size_t)snprintf(fake_log + log_n, 4, "%d ", level % 10);
	n = vsnprintf(fake_log + log_n, sizeof(fake_log) - log_n, fmt, ap);
	va_end(ap);
	if (n > 0 && log_n + (size_t)n + 2 < sizeof(fake_log)) {
		log_n += (size_t)n;
		fake_log[log_n++] = '\n';
	}
	fake_log[log_n] = '\0';
	(void)pthread_mutex_unlock(&log_mu);
}

void
fake_log_clear(void)
{
	log_n = 0;
	fake_log[0] = '\0';
}

static uint64_t
memo(struct lc_wctx *ctx)
{
	static uint64_t last;

	(void)ctx;
	return ++last;
}

uint64_t fake_request_timeout;

static uint64_t
enter(struct lc_wctx *ctx, struct lc_stream *s)
{
	static uint64_t last;

	(void)ctx;
	(void)s;
	return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static void
leave(struct lc_wctx *ctx, struct lc_stream *s)
{
	(void)ctx;
	(void)s;
}

static uint64_t
request_timeout(struct lc_wctx *ctx)
{
	(void)ctx;
	return fake_request_timeout;
}

static int
stacks(struct lc_wctx *ctx, int *signo)
{
	(void)ctx;
	(void)signo;
	return -1;
}

const struct lc_worker_api fake_worker = {
    .size = sizeof(fake_worker),
    .stream = &stream_table,
    .lead = api_lead,
    .post = post,
    .capacity = capacity,
    .clock = read_clock,
    .token = token,
    .pool_name = pool_name,
    .processes = two,
    .slot = zero,
    .boot_error = boot_error,
    .log = do_log,
    .memo = memo,
    .enter = enter,
    .leave = leave,
    .request_timeout = request_timeout,
    .stacks = stacks,
};

/* ---- leak checks ---- */

#if defined(__has_feature)
#define FAKE_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define FAKE_ASAN 1
#else
#define FAKE_ASAN 0
#endif
#if FAKE_ASAN
/* Python's own allocator hides pointers from the leak check. */
static void __attribute__((constructor)) use_malloc(void)
{
	(void)setenv("PYTHONMALLOC", "malloc", 1);
}

/* CPython leaves some of its own behind when it is finalised; what is ours is still seen. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:libpython3\nleak:ld-linux\n";
}
#endif
