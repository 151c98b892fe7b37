/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tools/modtest/main.c - licorne-modtest: replays recorded input into a protocol module and says what is wrong.
 *
 * Exit status: 0 no problem found, 1 problems (or a module that cannot be loaded), 2 command line.
 */
#include "modtest.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "module/loader.h"
#include "tables.h"

#define INPUT_MAX (1u << 20)

static const char usage[] =
    "usage: licorne-modtest [--corpus DIR|FILE]... [--conf 'DIRECTIVES'] [--seconds N] FILE.so\n";
static const char help[] =
    "\n"
    "Loads a protocol module and runs it against a core that it cannot tell from the real one: every input whole, byte "
    "by\n"
    "byte and cut at random, with a peer that takes one byte at a time or none, with each allocation failing in turn, "
    "and\n"
    "with an end, a time-out, a drain, a reset at every step.  What is wrong is said in sentences, with the input and\n"
    "the step.\n"
    "\n"
    "  --corpus DIR         recorded input: what a client sends on one connection, one file each\n"
    "  --conf 'DIRECTIVES'  the module's directives, as they would stand in a listen block\n"
    "  --seconds N          how long one call may take (10)\n"
    "\n"
    "Exit status: 0 nothing found, 1 problems, 2 command line.\n";

static struct mt_input *inputs;
static size_t ninputs;

static void
input(const char *name, const void *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	inputs = realloc(inputs, (ninputs + 1) * sizeof(*inputs));
	if (!inputs || !copy)
		abort();
	if (n)
		memcpy(copy, p, n);
	inputs[ninputs++] = (struct mt_input){.name = strdup(name), .p = copy, .n = n};
}

static int
input_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *text = f ? malloc(INPUT_MAX) : NULL;

	if (!f || !text) {
		fprintf(stderr, "licorne-modtest: %s: %s\n", path, strerror(errno));
		return -1;
	}
	size_t n = fread(text, 1, INPUT_MAX, f);
	int failed = ferror(f) || !feof(f);
	fclose(f);
	if (failed)
		fprintf(stderr, "licorne-modtest: %s: cannot be read, or has more than 1 MiB\n", path);
	else
		input(path, text, n);
	free(text);
	return failed ? -1 : 0;
}

static int
input_path(const char *path)
{
	struct stat st;
	struct dirent **e;
	char name[4096];
	int n, r = 0;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return input_file(path);
	n = scandir(path, &e, NULL, alphasort);
	if (n < 0) {
		fprintf(stderr, "licorne-modtest: %s: %s\n", path, strerror(errno));
		return -1;
	}
	for (int k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "%s/%s", path, e[k]->d_name);
		if (e[k]->d_name[0] != '.' && r == 0)
			r = input_file(name);
		free(e[k]);
	}
	free(e);
	return r;
}

/* What any protocol may get. */
static void
input_any(void)
{
	static char text[70000];
	uint32_t seed = 1;

	input("(nothing)", "", 0);
	input("(one byte)", "a", 1);
	input("(newline)", "\n", 1);
	input("(lines)", "one\ntwo\r\n\nthree\n", 16);
	for (int k = 0; k < 3; k++) {
		for (size_t i = 0; i < 300; i++) {
			seed = seed * 1103515245 + 12345;
			text[i] = k == 1 ? "ab \r\n:/"[(seed >> 16) % 7] : (char)((seed >> 16) & 255);
		}
		char name[32];
		snprintf(name, sizeof(name), "(random %d)", k + 1);
		input(name, text, 300);
	}
	memset(text, 'x', sizeof(text));
	input("(70000 bytes of \"x\")", text, sizeof(text));
	memset(text, 0, 2000);
	input("(2000 zero bytes)", text, 2000);
}

/* ---- the module and its configuration ---- */

static struct lc_mod *module;
static int
load(void *arg, const char *what, const char *file, uint32_t line, struct lc_err *err, const struct lc_dirset **ret)
{
	/* a pool has a worker; this one is a name only */
	static const struct lc_dirset worker = {.owner = "modtest_worker", .kinds = 1u << LC_KIND_WORKER};

	(void)arg;
	if (!strcmp(what, "modtest_worker")) {
		*ret = &worker;
		return 0;
	}
	(void)file;
	(void)line;
	(void)err;
	*ret = &module->dirset;
	return 0;
}

static const void *
configure(const char *directives)
{
	struct lc_conf_opts o = {.load_module = load, .prefix = "."};
	static struct lc_conf *conf; /* the module keeps pointers into it */
	struct lc_err *err = lc_err_new();
	char *text = NULL;
	int n = asprintf(&text,
			 "load_module %s; load_module modtest_worker; pool modtest { worker modtest_worker { } "
			 "listen 127.0.0.1:1 {\n#line 1 \"--conf\"\n%s\n} }\n",
			 module->desc.name, directives);

	if (n < 0 || !err)
		abort();
	int r = lc_conf_parse(&conf, text, (size_t)n, "--conf", &o, err);
	if (r < 0)
		fputs(lc_err_text(err), stderr);
	lc_err_free(err);
	free(text);
	if (r < 0)
		return NULL;
	const struct lc_block *pool = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, NULL);
	return lc_conf_get(conf, lc_conf_next(pool, LC_C_LISTEN, NULL), &module->dirset);
}

static struct lc_conn_api table;

/* Functions that were appended to the table since host.c: there is nothing, which no module may take for more. */
static void *
not_faked(void)
{
	static int said;

	if (!said++)
		fputs("licorne-modtest: note: the module uses a function at the end of the \"conn\" table that is not "
		      "tested "
		      "here; it gives NULL\n",
		      stderr);
	return NULL;
}

static void
fill_table(void)
{
	void *(*fn)(void) = not_faked;

	table = mt_conn_table;
	for (size_t at = offsetof(struct lc_conn_api, sess_alloc); at + sizeof(fn) <= sizeof(table); at += sizeof(fn)) {
		void *there;
		memcpy(&there, (char *)&table + at, sizeof(there));
		if (!there)
			memcpy((char *)&table + at, &fn, sizeof(fn));
	}
}

static int __attribute__((noreturn)) wrong(const char *what)
{
	if (what)
		fprintf(stderr, "licorne-modtest: %s\n", what);
	fputs(usage, stderr);
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {{"corpus", required_argument, NULL, 'c'},
					      {"conf", required_argument, NULL, 'g'},
					      {"seconds", required_argument, NULL, 's'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	const char *directives = "", *import;
	char msg[2048], path[4096];
	long seconds = 10;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1)
		switch (c) {
		case 'c':
			if (input_path(optarg) < 0)
				return 2;
			break;
		case 'g':
			directives = optarg;
			break;
		case 's':
			seconds = strtol(optarg, NULL, 10);
			if (seconds < 1 || seconds > 600)
				wrong("--seconds: expected 1 to 600");
			break;
		case 'h':
			fputs(usage, stdout);
			fputs(help, stdout);
			return 0;
		default:
			wrong(NULL);
		}
	if (optind + 1 != argc)
		wrong(optind < argc ? "one module at a time" : "which module? expected a file");
	snprintf(path, sizeof(path), "%s%s", strchr(argv[optind], '/') ? "" : "./", argv[optind]);
	input_any();
	fill_table();
	mt_register_tables(&table, sizeof(table));
	if (lc_mod_load(&module, path, msg, sizeof(msg)) < 0) {
		fprintf(stderr, "licorne-modtest: %s\n", msg);
		return 1;
	}
	const struct lc_proto *proto = lc_mod_iface(module, LC_KIND_PROTOCOL, LC_PROTO_VERSION);
	if (!proto) {
		fprintf(stderr,
			"licorne-modtest: \"%s\" has no protocol interface: only protocol modules are tested here\n",
			module->desc.name);
		return 1;
	}
	const void *conf = configure(directives);
	if (!conf)
		return 1;
	mt_guard(module->desc.name, (unsigned)seconds);
	if (mt_alloc_hook(module->path) < 0) {
		fprintf(stderr, "licorne-modtest: %s: its tables cannot be changed: %s\n", module->path,
			strerror(errno));
		return 1;
	}
	import = mt_forbidden_import(module->path);
	if (import)
		mt_broken("uses %s(): a protocol module has no sockets, files, clocks, threads or TLS of its own",
			  import);
	if (!proto->drain)
		mt_broken("has no drain(): every stop would wait for its connections until graceful_timeout");
	mt_run_all(proto, conf, inputs, ninputs);
	if (mt_problems)
		printf("%s %s: %d problem%s with %zu inputs in %lu runs\n", module->desc.name, module->desc.version,
		       mt_problems, mt_problems == 1 ? "" : "s", ninputs, mt_runs);
	else
		printf("%s %s: nothing found with %zu inputs in %lu runs\n", module->desc.name, module->desc.version,
		       ninputs, mt_runs);
	return mt_problems ? 1 : 0;
}
