/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/module/describe.c - what modules offer: for people, for the reference pages, and by a scan of all.
 *
 * A scan opens every module of the search path, which drags their libraries in; it is done in a child process, which
 * also survives a module that does not.
 */
#include "module/loader_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCAN_MAX 256u        /* modules */
#define SCAN_TEXT_MAX 65536u /* bytes of answer */
#define SCAN_SECONDS 20u

/* ---- rows ---- */

static void
row_get(const struct lc_dirset *ds, uint32_t i, struct lc_directive *ret)
{
	size_t stride = ds->stride ? ds->stride : sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	memcpy(ret, (const char *)ds->rows + i * stride, stride < sizeof(*ret) ? stride : sizeof(*ret));
}

static const char *
or_empty(const char *s)
{
	return s ? s : "";
}

static void
contexts(char *buf, size_t n, uint32_t bits)
{
	static const char *const names[] = {"main", "pool", "listen", "worker", "route"};
	size_t at = 0;

	*buf = 0;
	for (size_t i = 0; i < 5; i++)
		if ((bits & 1u << i) && at < n)
			at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? ", " : "", names[i]);
}

/* On the command line, "x.so" is a file here: a name has no dot. */
static int
load_argument(struct lc_mod **ret, const char *what, char *msg, size_t n)
{
	char path[4096];
	size_t len = strlen(what);

	if (!strchr(what, '/') && len > 3 && !strcmp(what + len - 3, ".so") && len < sizeof(path) - 2) {
		snprintf(path, sizeof(path), "./%s", what);
		what = path;
	}
	return lc_mod_load(ret, what, msg, n);
}

/* ---- for people ---- */

int
lc_mod_describe(const char *what)
{
	struct lc_directive row;
	struct lc_mod *mod;
	char msg[2048], where[64];

	if (load_argument(&mod, what, msg, sizeof(msg)) < 0) {
		fprintf(stderr, "licorne: %s\n", msg);
		return 1;
	}
	const struct lc_module *m = &mod->desc;
	printf("%s %s: %s\n", m->name, m->version, m->summary);
	printf("  file        %s\n  built for   licorne-abi %u.%u\n", mod->path, m->abi_major, m->abi_minor);
	for (uint32_t i = 0; m->needs && m->needs[i]; i++)
		printf("  needs       %s\n", m->needs[i]);
	for (uint32_t i = 0; i < m->nifaces; i++) {
		struct lc_iface f;
		memcpy(&f, (const char *)m->ifaces + (size_t)i * m->iface_size,
		       sizeof(f)); /* size: checked by the loader */
		printf("  interface   %s, version %u\n", lc__mod_kind(f.kind), f.version);
	}
	if (!m->ndirectives)
		printf("  no directives\n");
	for (uint32_t i = 0; i < m->ndirectives; i++) {
		row_get(&mod->dirset, i, &row);
		if (row.flags & LC_D_HIDDEN)
			continue;
		contexts(where, sizeof(where), row.context);
		printf("  directive   %s %s;  (%s%s)\n              %s\n", row.name, or_empty(row.args), where,
		       row.flags & LC_D_REQUIRED ? "; required" : "", or_empty(row.brief));
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- reference pages ---- */

static void
markdown_row(const struct lc_directive *row)
{
	char where[64], range[80];

	contexts(where, sizeof(where), row->context);
	lc_directive_range(row, range, sizeof(range));
	printf("\n## %s\n\n%s\n\n", row->name, row->brief);
	printf("| | |\n|---|---|\n");
	printf("| syntax | `");
	/* a bar would end the table's cell */
	for (const char *p = row->name; *p; p++)
		putchar(*p);
	putchar(' ');
	for (const char *p = or_empty(row->args); *p; p++)
		printf(*p == '|' ? "\\|" : "%c", *p);
	printf("%s` |\n", row->type == LC_T_BLOCK && strchr(or_empty(row->args), '{') ? "" : ";");
	if (row->type != LC_T_BLOCK) {
		if (row->def)
			printf("| default | `%s` |\n", *row->def ? row->def : "\"\"");
		else
			printf("| default | %s |\n", row->flags & LC_D_REQUIRED ? "none: it is required"
						     : row->type == LC_T_STR || row->type == LC_T_PATH ||
							     row->type == LC_T_LIST || row->type == LC_T_PAIRS ||
							     row->type == LC_T_CUSTOM || row->type == LC_T_LINES
							 ? "not set"
						     : row->type == LC_T_FLAG ? "`off`"
									      : "`0`");
	}
	printf("| allowed in | %s |\n", where);
	if (*range)
		printf("| range | %s |\n", range);
	if (row->type == LC_T_ENUM) {
		printf("| choices |");
		for (const struct lc_enum *e = row->aux; e && e->name; e++)
			printf("%s `%s`", e == row->aux ? "" : ",", e->name);
		printf(" |\n");
	}
	if (row->type == LC_T_LIST || row->type == LC_T_PAIRS || row->type == LC_T_LINES)
		printf("| repeated | adds to the list |\n");
	if (row->flags & LC_D_SECRET)
		printf("| secret | not shown by `-T` |\n");
	if (row->since)
		printf("| since | %s |\n", row->since);
	printf("\n%s\n", row->doc);
}

static int
markdown_rows(const struct lc_dirset *ds)
{
	struct lc_directive row;
	int r = 0;

	for (uint32_t i = 0; i < ds->nrows; i++) {
		row_get(ds, i, &row);
		if (row.flags & LC_D_HIDDEN)
			continue;
		if (!row.brief || !*row.brief || !row.doc || !*row.doc) {
			fprintf(stderr, "licorne: directive \"%s\" of %s has no documentation\n", row.name, ds->owner);
			r = 1;
			continue;
		}
		markdown_row(&row);
	}
	return r;
}

static void
markdown_head(const char *name, const char *summary)
{
	printf("<!-- Generated from the directive rows by docs/generate.py; edit those instead. -->\n# %s\n\n%s\n",
	       name, summary);
}

static int
markdown_core(void)
{
	const struct lc_dirset *sets[] = {&lc_core_syntax, &lc_core_main, &lc_core_pool, &lc_core_listen};
	int r = 0;

	markdown_head(
	    "core",
	    "Directives of the server itself; they need no module. How a configuration is written, what inheritance\n"
	    "is and which units there are: [configuration](../configuration.md).");
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		r |= markdown_rows(sets[i]);
	return r;
}

int
lc_mod_markdown(int argc, char *const *argv)
{
	struct lc_mod *mod;
	char msg[2048];
	int r = 0;

	if (argc == 0)
		r = markdown_core();
	for (int i = 0; i < argc; i++) {
		if (i)
			printf("\n");
		if (!strcmp(argv[i], "core")) {
			r |= markdown_core();
			continue;
		}
		if (load_argument(&mod, argv[i], msg, sizeof(msg)) < 0) {
			fprintf(stderr, "licorne: %s\n", msg);
			r = 1;
			continue;
		}
		markdown_head(mod->desc.name, mod->desc.summary);
		printf("\nLoaded by `load_module %s;`.%s\n", mod->desc.name,
		       mod->desc.ndirectives ? "" : " It has no directives.");
		r |= markdown_rows(&mod->dirset);
	}
	return fflush(stdout) == 0 ? r : 1;
}

/* ---- scan ---- */

static int
name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Loads all that can be: modules that need others come when those are there. */
static void
load_all(void)
{
	static char *names[SCAN_MAX];
	char *path = lc__mod_path(), *p = path, *dir, msg[2048];
	struct lc_mod *mod;
	uint32_t n = 0, before;
	struct dirent *e;

	while (p && (dir = strsep(&p, ":"))) {
		DIR *d = *dir ? opendir(dir) : NULL;
		while (d && n < SCAN_MAX && (e = readdir(d))) {
			size_t len = strlen(e->d_name);
			if (len > 3 && !strcmp(e->d_name + len - 3, ".so") && e->d_name[0] != '.' &&
			    (names[n] = strndup(e->d_name, len - 3)))
				n++;
		}
		if (d)
			closedir(d);
	}
	free(path);
	qsort(names, n, sizeof(names[0]), name_cmp);
	do {
		before = 0;
		for (uint32_t i = 0; i < n; i++)
			if (names[i] && !lc_mod_find(names[i]) && lc_mod_load(&mod, names[i], msg, sizeof(msg)) == 0)
				before = 1;
	} while (before);
}

/* One line for each module that has an interface of the kind, or for each directive of each: "NAME DIRECTIVE". */
static void
scan_child(int fd, uint32_t kind, int directives)
{
	struct lc_directive row;
	FILE *out = fdopen(fd, "w");

	alarm(SCAN_SECONDS); /* a constructor that hangs */
	signal(SIGALRM, SIG_DFL);
	lc__mod_skip_load = 1;
	load_all();
	for (struct lc_mod *m = lc_mod_first(); out && m; m = m->next) {
		if (kind && !(m->dirset.kinds & 1u << kind))
			continue;
		if (!directives)
			fprintf(out, "%s\n", m->desc.name);
		for (uint32_t i = 0; directives && i < m->dirset.nrows; i++) {
			row_get(&m->dirset, i, &row);
			fprintf(out, "%s %s\n", m->desc.name, row.name);
		}
	}
	_exit(!out || fflush(out) != 0);
}

/* Its answer, malloc()ed; NULL: no memory or no process. */
static char *
scan(uint32_t kind, int directives)
{
	char *text = malloc(SCAN_TEXT_MAX);
	size_t n = 0;
	ssize_t got;
	int fds[2];
	pid_t pid;

	if (!text || pipe2(fds, O_CLOEXEC) < 0) {
		free(text);
		return NULL;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		scan_child(fds[1], kind, directives);
	}
	close(fds[1]);
	while (pid > 0 && n < SCAN_TEXT_MAX - 1) {
		got = read(fds[0], text + n, SCAN_TEXT_MAX - 1 - n);
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	close(fds[0]);
	if (pid < 0) {
		free(text);
		return NULL;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	text[n] = 0;
	return text;
}

char **
lc_mod_installed(uint32_t kind)
{
	char *text = scan(kind, 0), *p, *names, **ret;
	uint32_t lines = 0, n = 0;

	if (!text)
		return NULL;
	for (p = text; *p; p++)
		lines += *p == '\n';
	ret = malloc((lines + 1) * sizeof(*ret) + strlen(text) + 1);
	if (!ret) {
		free(text);
		return NULL;
	}
	names = memcpy(ret + lines + 1, text, strlen(text) + 1);
	free(text);
	while (n < lines && (p = strsep(&names, "\n")))
		ret[n++] = p;
	ret[n] = NULL;
	return ret;
}

const char *
lc_mod_conf_speaks(void *arg)
{
	static char **names;

	if (!names)
		names = lc_mod_installed(LC_KIND_PROTOCOL);
	return names ? names[0] : NULL;
}

const char *
lc_mod_conf_whose(void *arg, const char *directive)
{
	static char *all; /* one scan serves all mistakes of a run */
	static char name[72];
	size_t n = strlen(directive);

	if (!all)
		all = scan(0, 1);
	for (const char *p = all; p && *p; p = strchr(p, '\n') + 1) {
		size_t len = strcspn(p, " ");
		if (!strchr(p, '\n'))
			break; /* cut by the limit */
		if (!strncmp(p + len + 1, directive, n) && p[len + 1 + n] == '\n') {
			snprintf(name, sizeof(name), "%.*s", (int)len, p);
			return name;
		}
	}
	return "";
}
