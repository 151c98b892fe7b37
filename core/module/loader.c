/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/module/loader.c - finds, opens and judges modules.
 *
 * A module is refused with one sentence that names the file, what it was built for, what this server offers and what
 * to do.  What it says of itself is believed no further than needed: sizes and counts are bounded, the descriptor is
 * copied into ours, arrays are walked by the module's element sizes.
 *
 * Trap: opening a shared object runs its constructors, so even a refused one has run code; and none is ever unloaded.
 */
#include "module/loader_priv.h"

#include <licorne/handler.h>
#include <licorne/proto.h>
#include <licorne/worker.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef LC_VERSION
#define LC_VERSION "0"
#endif

#define TABLES_MAX 32u
#define MODULES_MAX 64u
#define IFACES_MAX 16u
#define DESC_MAX 4096u

static struct {
	const char *name;
	const void *table;
	size_t size;
	uint32_t version;
} tables[TABLES_MAX];
static uint32_t ntables;
static struct lc_mod *first, **tail = &first;
static uint32_t nmods;
static char missing_table[64]; /* what the module being loaded asked for in vain */
int lc__mod_skip_load;

/* ---- host tables ---- */

void
lc_host_register(const char *name, uint32_t version, const void *table, size_t size)
{
	for (uint32_t i = 0; i < ntables; i++)
		if (!strcmp(tables[i].name, name) && tables[i].version == version) {
			tables[i].table = table;
			tables[i].size = size;
			return;
		}
	if (ntables == TABLES_MAX)
		abort(); /* ours: a dozen tables exist */
	tables[ntables].name = name;
	tables[ntables].version = version;
	tables[ntables].table = table;
	tables[ntables++].size = size;
}

static const void *
host_get(const char *name, uint32_t version, size_t min_size)
{
	if (!name)
		return NULL;
	for (uint32_t i = 0; i < ntables; i++)
		if (!strcmp(tables[i].name, name) && tables[i].version == version && tables[i].size >= min_size)
			return tables[i].table;
	if (!strcmp(name, "config") && version == 1 && min_size <= sizeof(lc_config_table))
		return &lc_config_table;
	if (!*missing_table)
		snprintf(missing_table, sizeof(missing_table), "\"%.32s\" version %u", name, version);
	return NULL;
}

static const struct lc_host host = {
    .size = sizeof(struct lc_host),
    .abi_major = LC_ABI_MAJOR,
    .abi_minor = LC_ABI_MINOR,
    .version = LC_VERSION,
    .get = host_get,
};

/* ---- where modules are ---- */

static int __attribute__((format(printf, 4, 5))) refuse(int r, char *msg, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, n, fmt, ap);
	va_end(ap);
	return r;
}

static int
name_ok(const char *name)
{
	size_t n = strlen(name);
	return n > 0 && n <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

char *
lc__mod_path(void)
{
	const char *env = secure_getenv("LICORNE_MODULE_PATH"), *build = NULL, *installed = NULL;
	char *ret = NULL;

#ifdef LC_BUILD_ROOT
	char exe[PATH_MAX], root[PATH_MAX]; /* the tree may have been named through a link */
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n > 0 && realpath(LC_BUILD_ROOT, root)) {
		size_t len = strlen(root);
		exe[n] = 0;
		if (!strncmp(exe, root, len) && exe[len] == '/')
			build = LC_BUILD_ROOT;
	}
#endif
#ifdef LC_MODULEDIR
	installed = LC_MODULEDIR;
#endif
	if (asprintf(&ret, "%s%s%s%s%s", env ? env : "", env && *env ? ":" : "", build ? build : "", build ? ":" : "",
		     installed ? installed : "") < 0)
		return NULL;
	return ret;
}

/* realpath()ed file of a module; NULL and a message.  free() it. */
static char *
find(const char *what, char *msg, size_t n)
{
	char file[PATH_MAX], *path, *p, *dir, *real = NULL;
	char looked[1024] = "";
	size_t at = 0;

	if (strchr(what, '/')) {
		real = realpath(what, NULL);
		if (!real)
			refuse(0, msg, n, "module file \"%.512s\" cannot be opened: %s", what, strerror(errno));
		return real;
	}
	if (!name_ok(what)) {
		refuse(0, msg, n,
		       "\"%.80s\" is no module name, expected one of a-z, 0-9 and _, or a path with a \"/\" in it",
		       what);
		return NULL;
	}
	path = p = lc__mod_path();
	while (p && !real && (dir = strsep(&p, ":"))) {
		if (!*dir)
			continue;
		if (snprintf(file, sizeof(file), "%s/%s.so", dir, what) < (int)sizeof(file))
			real = realpath(file, NULL);
		if (at < sizeof(looked))
			at += (size_t)snprintf(looked + at, sizeof(looked) - at, "%s%s", at ? ", " : "", dir);
	}
	free(path);
	if (!real)
		refuse(0, msg, n, "module \"%s\" was not found, looked in: %s", what,
		       *looked ? looked : "no folder at all");
	return real;
}

/* ---- is it a module? ---- */

/* Do all segments lie inside the file?  dlopen() would map one that was copied by half and die of SIGBUS in it. */
static int
elf_is_whole(int fd, const ElfW(Ehdr) * it, uint64_t size)
{
	ElfW(Phdr) p;

	if (it->e_phentsize != sizeof(p) || !it->e_phnum)
		return 0;
	for (unsigned i = 0; i < it->e_phnum; i++) {
		if (it->e_phoff > size ||
		    pread(fd, &p, sizeof(p), (off_t)(it->e_phoff + i * sizeof(p))) != (ssize_t)sizeof(p))
			return 0;
		if (p.p_type == PT_LOAD && (p.p_offset > size || p.p_filesz > size - p.p_offset))
			return 0;
	}
	return 1;
}

/* dlopen()'s own messages for these do not say what to do. */
static int
elf_check(const char *path, char *msg, size_t n)
{
	ElfW(Ehdr) self = {0}, it = {0};
	struct stat st;
	ssize_t got = 0;
	int whole = 0, fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, &self, sizeof(self)) != (ssize_t)sizeof(self))
			self.e_machine = 0;
		close(fd);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return refuse(-errno, msg, n, "module file \"%s\" cannot be opened: %s", path, strerror(errno));
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		got = read(fd, &it, sizeof(it));
	if (got == (ssize_t)sizeof(it))
		whole = elf_is_whole(fd, &it, (uint64_t)st.st_size);
	close(fd);
	if (got != (ssize_t)sizeof(it) || memcmp(it.e_ident, ELFMAG, SELFMAG))
		return refuse(-ENOEXEC, msg, n,
			      "\"%s\" is not a module: it is no ELF file, expected a shared object (.so)", path);
	if (self.e_machine && (it.e_ident[EI_CLASS] != self.e_ident[EI_CLASS] ||
			       it.e_ident[EI_DATA] != self.e_ident[EI_DATA] || it.e_machine != self.e_machine))
		return refuse(
		    -ENOEXEC, msg, n,
		    "\"%s\" is not a module for this machine: it was built for ELF machine %u, this server for %u: "
		    "rebuild it",
		    path, it.e_machine, self.e_machine);
	if (it.e_type != ET_DYN)
		return refuse(-ENOEXEC, msg, n,
			      "\"%s\" is not a module: it is no shared object, expected one (link it with -shared)",
			      path);
	if (!whole)
		return refuse(-ENOEXEC, msg, n, "module file \"%s\" is cut short or damaged: copy or build it anew",
			      path);
	return 0;
}

static int
open_error(const char *path, const char *why, char *msg, size_t n)
{
	static const char symbol[] = "undefined symbol: ", library[] = ": cannot open shared object file";
	const char *p;

	if (!why)
		why = "no reason was given";
	if ((p = strstr(why, symbol))) {
		p += sizeof(symbol) - 1;
		return refuse(
		    -ENOEXEC, msg, n,
		    "module file \"%s\" cannot be loaded: nothing here provides the symbol \"%.*s\" that it uses: link "
		    "it against "
		    "the library that has it, or rebuild it for this server (-Wl,-z,defs finds this when it is built)",
		    path, (int)strcspn(p, " \t,("), p);
	}
	if ((p = strstr(why, library)) && strncmp(why, path, strlen(path)))
		return refuse(-ENOEXEC, msg, n,
			      "module file \"%s\" cannot be loaded: it needs the library \"%.*s\", which was not "
			      "found: install it",
			      path, (int)(p - why), why);
	return refuse(-ENOEXEC, msg, n, "module file \"%s\" cannot be loaded: %.400s", path, why);
}

/* ---- judging a descriptor ---- */

static const struct {
	uint32_t kind, version, size;
	const char *name;
} kinds[] = {
    {LC_KIND_PROTOCOL, LC_PROTO_VERSION, sizeof(struct lc_proto), "protocol"},
    {LC_KIND_WORKER, LC_WORKER_VERSION, sizeof(struct lc_worker), "worker"},
    {LC_KIND_HANDLER, LC_HANDLER_VERSION, sizeof(struct lc_handler), "handler"},
};

const char *
lc__mod_kind(uint32_t kind)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].kind == kind)
			return kinds[i].name;
	return "unknown";
}

static void
iface_get(const struct lc_module *m, uint32_t i, struct lc_iface *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, (const char *)m->ifaces + (size_t)i * m->iface_size,
	       m->iface_size < sizeof(*ret) ? m->iface_size : sizeof(*ret));
}

/* Functions that the core calls without asking. */
static const char *
ops_lack(const struct lc_iface *f)
{
	const struct lc_proto *p = f->ops;
	const struct lc_worker *w = f->ops;
	const struct lc_handler *h = f->ops;

	/* a protocol that opens no streams has none of these */
	int streams = f->kind == LC_KIND_PROTOCOL && (p->head || p->out_ready || p->reset || p->detach);
	if (f->kind == LC_KIND_PROTOCOL)
		return !p->name        ? "name"
		       : !p->open      ? "open"
		       : !p->recv      ? "recv"
		       : !p->pull      ? "pull"
		       : !streams      ? NULL
		       : !p->head      ? "head"
		       : !p->out_ready ? "out_ready"
		       : !p->reset     ? "reset"
		       : !p->detach    ? "detach"
				       : NULL;
	if (f->kind == LC_KIND_HANDLER)
		return !h->name ? "name" : !h->open ? "open" : !h->request ? "request" : NULL;
	return !w->name ? "name" : !w->init ? "init" : !w->request ? "request" : NULL;
}

static int
ifaces_check(const struct lc_module *m, const char *path, uint32_t *ret_kinds, char *msg, size_t n)
{
	struct lc_iface f;
	const char *lack;

	if (!m->nifaces || m->nifaces > IFACES_MAX || !m->ifaces || m->iface_size < sizeof(f) || m->iface_size > 256)
		return refuse(-EINVAL, msg, n,
			      "module \"%s\" %s (%s) is built wrong: it lists %u interfaces of %u bytes", m->name,
			      m->version, path, m->nifaces, m->iface_size);
	for (uint32_t i = 0; i < m->nifaces; i++) {
		size_t k = 0;
		iface_get(m, i, &f);
		while (k < sizeof(kinds) / sizeof(kinds[0]) && kinds[k].kind != f.kind)
			k++;
		if (k == sizeof(kinds) / sizeof(kinds[0]))
			return refuse(-EINVAL, msg, n,
				      "module \"%s\" %s (%s) offers an interface of kind %u, which this server "
				      "(licorne " LC_VERSION ") does not know: it is for another licorne",
				      m->name, m->version, path, f.kind);
		if (f.version != kinds[k].version)
			return refuse(
			    -EINVAL, msg, n,
			    "module \"%s\" %s (%s) offers %s interface version %u; this server (licorne " LC_VERSION
			    ") speaks version %u: rebuild it",
			    m->name, m->version, path, kinds[k].name, f.version, kinds[k].version);
		if (!f.ops || *(const uint32_t *)f.ops < kinds[k].size)
			return refuse(
			    -EINVAL, msg, n,
			    "module \"%s\" %s (%s) is built wrong: its %s interface has %u bytes, expected %u", m->name,
			    m->version, path, kinds[k].name, f.ops ? *(const uint32_t *)f.ops : 0, kinds[k].size);
		lack = ops_lack(&f);
		if (lack)
			return refuse(-EINVAL, msg, n,
				      "module \"%s\" %s (%s) is built wrong: its %s interface has no \"%s\"", m->name,
				      m->version, path, kinds[k].name, lack);
		*ret_kinds |= 1u << f.kind;
	}
	return 0;
}

static int
needs_check(const struct lc_module *m, const char *path, char *msg, size_t n)
{
	for (uint32_t i = 0; m->needs && m->needs[i]; i++)
		if (!lc_mod_find(m->needs[i]))
			return refuse(-ENOENT, msg, n,
				      "module \"%s\" %s (%s) needs module \"%.64s\", which is not loaded: add before "
				      "it: load_module %.64s;",
				      m->name, m->version, path, m->needs[i], m->needs[i]);
	return 0;
}

/* The descriptor into ret, judged; nothing of the module runs here. */
static int
desc_check(const struct lc_module *d, const char *path, const char *name, struct lc_mod *ret, char *msg, size_t n)
{
	struct lc_module *m = &ret->desc;
	char why[384];
	int r;

	if (d->magic != LC_MODULE_MAGIC)
		return refuse(-ENOEXEC, msg, n,
			      "\"%s\" is not a licorne module: its descriptor starts with 0x%08x, expected 0x%08x",
			      path, d->magic, LC_MODULE_MAGIC);
	if (d->abi_major != LC_ABI_MAJOR)
		return refuse(
		    -ENOEXEC, msg, n,
		    "module \"%.64s\" %.32s (%s) was built for licorne-abi %u.%u; this server (licorne " LC_VERSION
		    ") speaks licorne-abi %u.0 to %u.%u: rebuild it with this server's headers",
		    d->name ? d->name : "?", d->version ? d->version : "?", path, d->abi_major, d->abi_minor,
		    LC_ABI_MAJOR, LC_ABI_MAJOR, LC_ABI_MINOR);
	if (d->abi_minor > LC_ABI_MINOR)
		return refuse(-ENOEXEC, msg, n,
			      "module \"%.64s\" %.32s (%s) was built for the newer licorne-abi %u.%u; this server "
			      "(licorne " LC_VERSION ") speaks licorne-abi %u.0 to %u.%u: update licorne, or rebuild "
			      "the module with this server's headers",
			      d->name ? d->name : "?", d->version ? d->version : "?", path, d->abi_major, d->abi_minor,
			      LC_ABI_MAJOR, LC_ABI_MAJOR, LC_ABI_MINOR);
	if (d->size < offsetof(struct lc_module, conf_size) || d->size > DESC_MAX)
		return refuse(-EINVAL, msg, n, "\"%s\" is built wrong: its descriptor has %u bytes, expected %zu", path,
			      d->size, sizeof(*m));
	memcpy(m, d, d->size < sizeof(*m) ? d->size : sizeof(*m));
	if (!m->name || !name_ok(m->name))
		return refuse(-EINVAL, msg, n, "\"%s\" is built wrong: its name is %s, expected one of a-z, 0-9 and _",
			      path, m->name ? "malformed" : "missing");
	if (!m->version || !*m->version || !m->summary || !*m->summary || strchr(m->summary, '\n'))
		return refuse(-EINVAL, msg, n, "module \"%s\" (%s) is built wrong: it has no %s", m->name, path,
			      !m->version || !*m->version ? "version" : "summary of one line");
	if (name && strcmp(name, m->name))
		return refuse(-EINVAL, msg, n,
			      "module file \"%s\" calls itself \"%s\", expected \"%s\": rename the file", path, m->name,
			      name);
	struct lc_mod *loaded = lc_mod_find(m->name);
	if (loaded)
		return refuse(-EEXIST, msg, n,
			      "module \"%s\" is already loaded from \"%s\", refused from \"%s\": load one of the two",
			      m->name, loaded->path, path);
	r = ifaces_check(m, path, &ret->dirset.kinds, msg, n);
	if (r < 0)
		return r;
	ret->dirset.owner = m->name;
	ret->dirset.rows = m->directives;
	ret->dirset.nrows = m->ndirectives;
	ret->dirset.stride = m->directive_size;
	ret->dirset.conf_size = m->conf_size;
	ret->dirset.check = m->check;
	if (m->ndirectives && !m->directive_size)
		return refuse(-EINVAL, msg, n, "module \"%s\" %s (%s) is built wrong: its directive rows have 0 bytes",
			      m->name, m->version, path);
	r = lc_dirset_check(&ret->dirset, why, sizeof(why));
	if (r < 0)
		return refuse(r, msg, n, "module \"%s\" %s (%s) is built wrong: %s", m->name, m->version, path, why);
	return needs_check(m, path, msg, n);
}

/* ---- loading ---- */

static int
load(struct lc_mod *mod, const char *path, const char *name, char *msg, size_t n)
{
	const struct lc_module *d;
	union {
		void *p;
		lc_module_query_fn *fn;
	} query;
	void *so;
	int r = elf_check(path, msg, n);

	if (r < 0)
		return r;
	if (nmods == MODULES_MAX)
		return refuse(-ENOSPC, msg, n, "too many modules, expected at most %u", MODULES_MAX);
	so = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!so)
		return open_error(path, dlerror(), msg, n);
	query.p = dlsym(so, "lc_module_query");
	if (!query.p)
		return refuse(-ENOEXEC, msg, n,
			      "\"%s\" is not a licorne module: it exports no lc_module_query(), expected one", path);
	d = query.fn(&host);
	if (!d)
		return refuse(-ENOEXEC, msg, n,
			      "\"%s\" is not a licorne module: its lc_module_query() gives no descriptor, expected one",
			      path);
	r = desc_check(d, path, name, mod, msg, n);
	if (r < 0)
		return r;
	*missing_table = 0;
	r = mod->desc.load && !lc__mod_skip_load ? mod->desc.load(&host) : 0;
	if (r >= 0)
		return 0;
	if (*missing_table)
		return refuse(r, msg, n,
			      "module \"%s\" %s (%s) needs the host table %s, which this server (licorne " LC_VERSION
			      ") does not offer: rebuild the module, or update licorne",
			      mod->desc.name, mod->desc.version, path, missing_table);
	return refuse(r, msg, n, "module \"%s\" %s (%s) could not start: %s", mod->desc.name, mod->desc.version, path,
		      strerror(-r));
}

int
lc_mod_load(struct lc_mod **ret, const char *what, char *msg, size_t n)
{
	int is_name = !strchr(what, '/');
	struct lc_mod *mod = is_name ? lc_mod_find(what) : NULL;
	char *path;
	int r;

	if (mod) {
		*ret = mod;
		return 0;
	}
	path = find(what, msg, n);
	if (!path)
		return -ENOENT;
	for (mod = first; mod; mod = mod->next)
		if (!strcmp(mod->path, path)) {
			free(path);
			*ret = mod;
			return 0;
		}
	mod = calloc(1, sizeof(*mod));
	r = mod ? load(mod, path, is_name ? what : NULL, msg, n) : refuse(-ENOMEM, msg, n, "out of memory");
	if (r < 0) {
		free(mod);
		free(path);
		return r;
	}
	mod->path = path;
	mod->index = nmods++;
	*tail = mod;
	tail = &mod->next;
	*ret = mod;
	return 0;
}

struct lc_mod *
lc_mod_first(void)
{
	return first;
}

struct lc_mod *
lc_mod_find(const char *name)
{
	for (struct lc_mod *m = first; m; m = m->next)
		if (!strcmp(m->desc.name, name))
			return m;
	return NULL;
}

const void *
lc_mod_iface(const struct lc_mod *mod, uint32_t kind, uint32_t version)
{
	struct lc_iface f;

	for (uint32_t i = 0; i < mod->desc.nifaces; i++) {
		iface_get(&mod->desc, i, &f);
		if (f.kind == kind && f.version == version)
			return f.ops;
	}
	return NULL;
}

int
lc_mod_conf_load(void *arg, const char *what, const char *file, uint32_t line, struct lc_err *err,
		 const struct lc_dirset **ret)
{
	struct lc_mod *mod;
	char msg[2048];
	int r = lc_mod_load(&mod, what, msg, sizeof(msg));

	if (r < 0) {
		lc_err_add(err, file, line, "%s", msg);
		return r;
	}
	*ret = &mod->dirset;
	return 0;
}
