/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/cli/run.c - `licorne run MODULE:APP` or `--paste FILE`: serve an application without a configuration file.
 *
 * It writes the configuration itself, into memory, and goes on as if it had read it from a file; -T shows it.  It loads
 * whatever protocol modules are installed and knows none by name.  What knows the application's language is a helper
 * program: it looks at the application and prints directives for the main level, the pool's worker block, and what to
 * watch for --reload, with a line "%%" between them.  All that, and the question which URL to print, are asked of child
 * processes: the arbiter that this process becomes never loads a module.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "cli/cli.h"
#include "config/cidr.h"
#include "config/conf.h"
#include "log/format.h"
#include "log/log.h"
#include "module/loader.h"
#include "net/server.h"

#include <licorne/proto.h>

#define MAX_BINDS 64
#define MAX_INCLUDES 32
#define MAX_WORKERS 1024ul
#define MAX_THREADS 1024ul
/* What an address is made of as a rule, and needs no quotes. */
#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/_-[]*"

struct run {
	const char *app, *paste, *binds[MAX_BINDS], *workers, *threads, *worker, *access_log, *access_format;
	const char *certfile, *keyfile;
	const char *allow_ips; /* as written; NULL: not at all */
	char *proxies;         /* " WORD" for each */
	unsigned nbinds;
	const char *includes[MAX_INCLUDES];
	unsigned nincludes;
	bool reload;
	char port_bind[32];
	char *scheme;
	bool show;
};

static const char usage_line[] =
    "usage: licorne run MODULE:APP | --paste FILE[#NAME] [--bind ADDR]... [--workers N|auto]\n"
    "                   [--threads N] [--worker NAME] [--access-log PATH|-|off] [--access-log-format FORMAT]\n"
    "                   [--forwarded-allow-ips LIST] [--certfile FILE [--keyfile FILE]]\n"
    "                   [--reload [--reload-include GLOB]...] [-T]\n";

static const char help[] =
    "\n"
    "  MODULE:APP         the application, importable from the current directory\n"
    "  --paste FILE#NAME  or one that a Paste Deploy file describes (main)\n"
    "  -b, --bind ADDR    HOST:PORT, PORT or unix:/PATH, may be repeated (127.0.0.1:8000, or 0.0.0.0:$PORT)\n"
    "  -w, --workers N    worker processes, \"auto\": as many as CPUs ($WEB_CONCURRENCY, or 1)\n"
    "  -t, --threads N    calls of the application at once in each worker\n"
    "  -k, --worker NAME  the worker module (the helper chooses)\n"
    "  --access-log PATH  where a line per request goes: a file, \"-\" the terminal, \"off\" (-)\n"
    "  --access-log-format FORMAT\n"
    "                     combined, common, json, or a text with $variables or %(atoms)s (combined)\n"
    "  --forwarded-allow-ips LIST\n"
    "                     proxies whose X-Forwarded-For and -Proto are believed: addresses and networks with \",\"\n"
    "                     between, unix:, or \"*\" ($FORWARDED_ALLOW_IPS, or 127.0.0.1,::1,unix:)\n"
    "  --certfile FILE    encrypt, with this certificate and its chain (PEM; needs the module tls)\n"
    "  --keyfile FILE     the certificate's private key, PEM (also in the certfile)\n"
    "  --reload           for development: watch the application's files, reload when one changes; where it cannot\n"
    "                     be imported at the start, wait until a file changes and try again\n"
    "  --reload-include GLOB\n"
    "                     names of other files to watch in the same folders, \"*.html\", may be repeated\n"
    "  -T                 print the configuration that this amounts to, and exit\n"
    "  -h, --help         print this and exit\n"
    "\n"
    "$VIRTUAL_ENV is the virtual environment that the application uses, as after `. venv/bin/activate`.\n"
    "Exit status: 0 ended as it was told, 1 configuration or addresses, 2 command line or environment,\n"
    "3 the application cannot be imported, or is of a kind that is not served.\n";

static int __attribute__((format(printf, 1, 2))) wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lc_log_plain(1);
	lc_logv(LC_LOG_ERROR, fmt, ap);
	va_end(ap);
	return LC_EXIT_USAGE;
}

/* Decimal digits only, no sign, no space. */
static bool
number(const char *s, unsigned long min, unsigned long max)
{
	size_t n = strlen(s);
	unsigned long v;

	if (n == 0 || n > 9 || strspn(s, "0123456789") != n)
		return false;
	v = strtoul(s, NULL, 10);
	return v >= min && v <= max;
}

/* Options of other servers, and what to write here. */
static const char *
known_elsewhere(const char *option)
{
	static const struct {
		const char *option, *instead;
	} others[] = {
	    {"--access-logfile", "--access-log PATH"},
	    {"--app-dir", "change the directory before"},
	    {"--chdir", "change the directory before"},
	    {"--config", "licorne -c FILE"},
	    {"--daemon", "it stays in the foreground"},
	    {"--factory", "MODULE:FACTORY()"},
	    {"--host", "--bind HOST:PORT"},
	    {"--max-requests", "max_requests in a configuration file (-T prints one)"},
	    {"--port", "--bind HOST:PORT"},
	    {"--preload", "preload on in a configuration file (-T prints one)"},
	    {"--reload-dir", "--reload: every folder that modules are searched in is watched"},
	    {"--reload-engine", "--reload alone: it uses inotify(7)"},
	    {"--reload-extra-file", "--reload-include GLOB"},
	    {"--ssl-certfile", "--certfile FILE"},
	    {"--ssl-certificate", "--certfile FILE"},
	    {"--ssl-keyfile", "--keyfile FILE"},
	    {"--timeout", "request_timeout in a configuration file (-T prints one)"},
	    {"--worker-class", "--worker NAME"},
	};
	size_t n = strcspn(option, "=");

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strlen(others[i].option) == n && strncmp(others[i].option, option, n) == 0)
			return others[i].instead;
	return NULL;
}

static int
parse_options(struct run *r, int argc, char **argv)
{
	enum { ACCESS_LOG = 256, ACCESS_FORMAT, PASTE, CERTFILE, KEYFILE, RELOAD, RELOAD_INCLUDE, ALLOW_IPS };
	static const struct option longs[] = {
	    {"bind", required_argument, NULL, 'b'},
	    {"workers", required_argument, NULL, 'w'},
	    {"threads", required_argument, NULL, 't'},
	    {"worker", required_argument, NULL, 'k'},
	    {"access-log", required_argument, NULL, ACCESS_LOG},
	    {"forwarded-allow-ips", required_argument, NULL, ALLOW_IPS},
	    {"access-log-format", required_argument, NULL, ACCESS_FORMAT},
	    {"access-logformat", required_argument, NULL, ACCESS_FORMAT}, /* as others spell it */
	    {"paste", required_argument, NULL, PASTE},
	    {"certfile", required_argument, NULL, CERTFILE},
	    {"keyfile", required_argument, NULL, KEYFILE},
	    {"reload", no_argument, NULL, RELOAD},
	    {"reload-include", required_argument, NULL, RELOAD_INCLUDE},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	const char *instead;
	int c, at;

	opterr = 0;
	optind = 1;
	for (;;) {
		at = optind;
		c = getopt_long(argc, argv, "-:b:w:t:k:Th", longs, NULL);
		if (c == -1)
			break;
		switch (c) {
		case 1: /* no option: may stand anywhere */
			if (r->app)
				return wrong("run: \"%s\" is one argument too many, expected one MODULE:APP", optarg);
			r->app = optarg;
			break;
		case 'b':
			if (r->nbinds == MAX_BINDS)
				return wrong("run: at most %d addresses", MAX_BINDS);
			r->binds[r->nbinds++] = optarg;
			break;
		case 'w':
			r->workers = optarg;
			break;
		case 't':
			r->threads = optarg;
			break;
		case 'k':
			r->worker = optarg;
			break;
		case ACCESS_LOG:
			r->access_log = optarg;
			break;
		case ALLOW_IPS:
			r->allow_ips = optarg;
			break;
		case ACCESS_FORMAT:
			r->access_format = optarg;
			break;
		case PASTE:
			r->paste = optarg;
			break;
		case CERTFILE:
			r->certfile = optarg;
			break;
		case KEYFILE:
			r->keyfile = optarg;
			break;
		case RELOAD:
			r->reload = true;
			break;
		case RELOAD_INCLUDE:
			if (r->nincludes == MAX_INCLUDES)
				return wrong("run: at most %d --reload-include", MAX_INCLUDES);
			r->includes[r->nincludes++] = optarg;
			break;
		case 'T':
			r->show = true;
			break;
		case 'h':
			fputs(usage_line, stdout);
			fputs(help, stdout);
			return -1;
		case ':':
			return wrong("run: option %s needs an argument", argv[at]);
		default:
			if ((instead = known_elsewhere(argv[at])))
				return wrong("run: there is no option %s, expected: %s", argv[at], instead);
			wrong("run: there is no option %s", argv[at]);
			fputs(usage_line, stderr);
			return LC_EXIT_USAGE;
		}
	}
	for (; optind < argc; optind++) {
		if (r->app)
			return wrong("run: \"%s\" is one argument too many, expected one MODULE:APP", argv[optind]);
		r->app = argv[optind];
	}
	if (r->app && r->paste)
		return wrong("run: there are both \"%s\" and --paste %s, expected one application", r->app, r->paste);
	if (r->paste && !*r->paste)
		return wrong("run: --paste names no file, expected FILE[#NAME]");
	if (r->keyfile && !r->certfile)
		return wrong("run: there is --keyfile %s, expected --certfile FILE beside it", r->keyfile);
	if (r->nincludes && !r->reload)
		return wrong("run: there is --reload-include %s, expected --reload beside it", r->includes[0]);
	for (unsigned i = 0; i < r->nincludes; i++)
		if (!*r->includes[i] || strpbrk(r->includes[i], "/\n"))
			return wrong("--reload-include \"%s\": expected a pattern of file names, without a folder, "
				     "such as \"*.html\"",
				     r->includes[i]);
	if (r->certfile && !r->keyfile)
		r->keyfile = r->certfile;
	if (!r->paste && (!r->app || !*r->app)) {
		wrong("run: which application? expected MODULE:APP, or --paste FILE");
		fputs(usage_line, stderr);
		return LC_EXIT_USAGE;
	}
	return 0;
}

/*
 * The proxies that are believed, as words of set_real_ip_from: a directive that every protocol module has whose
 * requests may come through one.
 */
static int
allow_ips(struct run *r)
{
	const char *from = r->allow_ips ? "--forwarded-allow-ips" : "FORWARDED_ALLOW_IPS";
	const char *list = r->allow_ips ? r->allow_ips : getenv("FORWARDED_ALLOW_IPS");
	char *copy = strdup(list ? list : "127.0.0.1,::1,unix:"), *rest = copy, *word, why[256];
	size_t n = 0;
	int status = 0;

	r->proxies = copy ? malloc(strlen(copy) + 2) : NULL;
	if (!r->proxies)
		status = wrong("no memory");
	while (!status && (word = strsep(&rest, ", "))) {
		struct lc_list one = {.v = (const char *const *)&word, .n = 1};
		struct lc_nets *nets;
		if (!*word)
			continue;
		if (lc_nets_parse(&nets, &one, why, sizeof(why)) < 0) {
			status = wrong("%s: %s", from, why);
			break;
		}
		free(nets);
		r->proxies[n++] = ' ';
		memcpy(r->proxies + n, word, strlen(word));
		n += strlen(word);
	}
	if (r->proxies)
		r->proxies[n] = 0;
	free(copy);
	return status;
}

static int
defaults(struct run *r)
{
	const char *env;
	int status = allow_ips(r);

	if (status)
		return status;
	int json;
	if (r->access_format && !lc_logfmt_builtin(r->access_format, &json) && !strpbrk(r->access_format, "$%"))
		return wrong(
		    "--access-log-format: \"%s\" is neither combined, common nor json, and has no variable in it",
		    r->access_format);
	env = getenv("PORT");
	if (r->nbinds == 0 && env) {
		if (!number(env, 0, 65535))
			return wrong("PORT is \"%s\", expected a number from 0 to 65535", env);
		snprintf(r->port_bind, sizeof(r->port_bind), "0.0.0.0:%s", env);
		r->binds[r->nbinds++] = r->port_bind;
	} else if (r->nbinds == 0) {
		r->binds[r->nbinds++] = "127.0.0.1:8000";
	}
	for (unsigned i = 0; i < r->nbinds; i++) {
		const char *error = NULL;
		struct lc_addr addr;
		int e = lc_addr_parse(&addr, r->binds[i], &error);

		if (e < 0)
			return wrong("--bind %s: %s", r->binds[i], error ? error : strerror(-e));
	}
	env = getenv("WEB_CONCURRENCY");
	if (r->workers) {
		if (strcmp(r->workers, "auto") != 0 && !number(r->workers, 1, MAX_WORKERS))
			return wrong("--workers %s: expected \"auto\" or a number from 1 to %lu", r->workers,
				     MAX_WORKERS);
	} else if (env) {
		if (!number(env, 1, MAX_WORKERS))
			return wrong("WEB_CONCURRENCY is \"%s\", expected a number from 1 to %lu", env, MAX_WORKERS);
		r->workers = env;
	} else {
		r->workers = "1";
	}
	if (r->threads && !number(r->threads, 1, MAX_THREADS))
		return wrong("--threads %s: expected a number from 1 to %lu", r->threads, MAX_THREADS);
	if (r->worker && (!*r->worker || r->worker[0] == '-'))
		return wrong("--worker \"%s\": expected the name of a worker module", r->worker);
	return 0;
}

/* ---- the helper ---- */

static const char *
helper_path(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	size_t root = strlen(LC_BUILD_ROOT);

	if (n > 0) {
		exe[n] = 0;
		if (strncmp(exe, LC_BUILD_ROOT, root) == 0 && exe[root] == '/')
			return LC_HELPER_BUILD;
	}
	return LC_HELPER_INSTALLED;
}

/* 0, or an exit status; what it printed on standard error is all there is to say.  Where the application cannot be
 * loaded (LC_EXIT_BOOT) there may be output as well: what to watch. */
static int
ask_helper(const struct run *r, char **ret, size_t *ret_n)
{
	char *argv[12] = {(char *)"licorne-app-helper", (char *)(r->app ? "--app" : "--paste"),
			  (char *)(r->app ? r->app : r->paste)};
	struct lc_child_run ch = {.title = "licorne-app-helper", .path = helper_path(), .argv = argv};
	int n = 3, st;

	if (r->threads) {
		argv[n++] = (char *)"--threads";
		argv[n++] = (char *)r->threads;
	}
	if (r->worker) {
		argv[n++] = (char *)"--worker";
		argv[n++] = (char *)r->worker;
	}
	if (r->reload)
		argv[n++] = (char *)"--reload";
	if (access(ch.path, X_OK) < 0) {
		lc_log(LC_LOG_ERROR, "the helper that looks at applications is missing: %s: %m", ch.path);
		return LC_EXIT_CONFIG;
	}
	st = lc_child_output(&ch, ret, ret_n);
	if (st < 0) {
		lc_log(LC_LOG_ERROR, "cannot run %s: %s", ch.path, strerror(-st));
		return LC_EXIT_CONFIG;
	}
	if (st == 0)
		return 0;
	if (WIFEXITED(st) && WEXITSTATUS(st) == LC_EXIT_BOOT)
		return LC_EXIT_BOOT;
	free(*ret);
	*ret = NULL;
	if (WIFEXITED(st))
		return WEXITSTATUS(st);
	if (WTERMSIG(st) == SIGINT)
		return 128 + SIGINT; /* Ctrl-C while the application was looked at */
	lc_log(LC_LOG_ERROR, "%s was killed by signal %d: does importing the application crash?", ch.path,
	       WTERMSIG(st));
	return LC_EXIT_BOOT;
}

/* The main level, the pool's part and, if it was asked for, what to watch, with a line "%%" between them. */
static bool
sections(char *text, size_t n, char *ret[3])
{
	if (!text || strlen(text) != n)
		return false;
	ret[0] = text;
	ret[2] = text + n;
	for (int i = 1; i < 3; i++) {
		char *mark = strncmp(text, "%%\n", 3) == 0 ? text : strstr(text, "\n%%\n");

		if (!mark)
			return i == 2;
		mark += *mark == '\n';
		*mark = 0;
		ret[i] = text = mark + 3;
	}
	return true;
}

int
lc_cli_scheme_main(int argc, char **argv)
{
	char msg[1024];

	lc_srv_register_tables();
	for (int i = 1; i < argc; i++) {
		const struct lc_proto *p = NULL;
		struct lc_mod *m;

		if (lc_mod_load(&m, argv[i], msg, sizeof(msg)) == 0)
			p = lc_mod_iface(m, LC_KIND_PROTOCOL, LC_PROTO_VERSION);
		/* The name under which clear text falls to it, without the version: what a URL starts with. */
		if (p && (p->flags & LC_P_FALLBACK) && p->alpn && p->alpn[0]) {
			printf("%.*s", (int)strcspn(p->alpn[0], "/"), p->alpn[0]);
			return 0;
		}
	}
	return 0;
}

static char *
ask_scheme(char *const *protocols)
{
	char *argv[16] = {(char *)"scheme"}, *out = NULL;
	struct lc_child_run ch = {.title = "licorne: scheme", .argv = argv};
	size_t n = 0;
	int st, k = 1;

	for (int i = 0; protocols[i] && k < 14; i++)
		argv[k++] = protocols[i];
	st = lc_child_output(&ch, &out, &n);
	if (st < 0)
		return NULL;
	if (st != 0 || n == 0 || n > 32) {
		free(out);
		return NULL;
	}
	return out;
}

/* ---- the configuration ---- */

static void
put_word(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\' || *s == '$')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

static void
put_indented(FILE *f, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");

		if (n)
			fprintf(f, "    %.*s", (int)n, text);
		fputc('\n', f);
		text += n + (text[n] == '\n');
	}
}

static int
write_configuration(const struct run *r, char *const *protocols, const char *main_part, const char *pool_part,
		    char **ret, size_t *ret_n)
{
	const char *format = r->access_format;
	bool off = r->access_log && strcmp(r->access_log, "off") == 0;
	int json;
	bool own_format = format && !lc_logfmt_builtin(format, &json);
	FILE *f = open_memstream(ret, ret_n);

	if (!f)
		return -ENOMEM;
	/* In the order in which clients are offered them: the list is alphabetical, so that a later version of a
	 * protocol stands behind the earlier one, and the later one is preferred. */
	int last = 0;
	while (protocols[last])
		last++;
	while (last-- > 0)
		fprintf(f, "load_module %s;\n", protocols[last]);
	if (r->certfile)
		fputs("load_module tls;\n", f);
	fprintf(f, "%s\nerror_log stderr info;\n", main_part);
	if (own_format) {
		fputs("log_format run ", f);
		put_word(f, r->access_format);
		fputs(";\n", f);
	}
	fputs("\npool app {\n", f);
	for (unsigned i = 0; i < r->nbinds; i++) {
		fputs("    listen ", f);
		if (r->binds[i][strspn(r->binds[i], PLAIN)])
			put_word(f, r->binds[i]);
		else
			fputs(r->binds[i], f);
		fputs(r->certfile ? " tls;\n" : ";\n", f);
	}
	if (r->certfile) {
		fputs("    certificate ", f);
		put_word(f, r->certfile);
		fputs(";\n    certificate_key ", f);
		put_word(f, r->keyfile);
		fputs(";\n", f);
	}
	if (*r->proxies)
		fprintf(f, "    set_real_ip_from%s;\n", r->proxies);
	fprintf(f, "    processes %s;\n    access_log ", r->workers);
	put_word(f, r->access_log ? r->access_log : "-");
	if (format && !off)
		fprintf(f, " %s", own_format ? "run" : format);
	fputs(";\n", f);
	put_indented(f, pool_part);
	fputs("}\n", f);
	return fclose(f) == 0 ? 0 : -ENOMEM;
}

/* ---- --reload ---- */

/* What the helper says, and the patterns of the command line; NULL: it cannot be, said. */
static char *
what_to_watch(const struct run *r, const char *helped)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (f)
		fputs(helped, f);
	for (unsigned i = 0; f && i < r->nincludes; i++)
		fprintf(f, "match %s\n", r->includes[i]);
	if (!f || fclose(f) != 0) {
		lc_log(LC_LOG_ERROR, "no memory");
	} else if (n > LC_ARB_WATCH_MAX) {
		lc_log(LC_LOG_ERROR,
		       "--reload: the names of what is to be watched are too long, %zu bytes (at most %u)", n,
		       LC_ARB_WATCH_MAX);
	} else {
		return text;
	}
	free(text);
	return NULL;
}

/* The application could not be loaded: when something of it has changed, all begins anew.  Else, an exit status. */
static int
once_more(const char *watch, int64_t since)
{
	int r = lc_arb_wait_change(watch, strlen(watch), since);

	if (r == 0)
		return LC_EXIT_OK;
	if (r == 1)
		lc_log(LC_LOG_ERROR, "cannot start again: %s", strerror(-lc_arb_again()));
	return LC_EXIT_BOOT;
}

/* Is the module installed that makes a listener secure? */
static bool
has_tls(void)
{
	char **names = lc_mod_installed(LC_KIND_TRANSPORT);
	bool has = false;

	for (int i = 0; names && names[i]; i++)
		has |= strcmp(names[i], "tls") == 0;
	free(names);
	return has;
}

/* ---- serving ---- */

static void
print_url(const char *scheme, const char *name)
{
	const char *port = strrchr(name, ':'), *more = "";

	if (strncmp(name, "unix:", 5) == 0 || !scheme || !port) {
		printf("Listening on %s\n", name);
		return;
	}
	if (strncmp(name, "0.0.0.0:", 8) == 0)
		more = " and every other IPv4 address of this machine";
	else if (strncmp(name, "[::]:", 5) == 0)
		more = " and every other IPv6 address of this machine";
	if (*more)
		printf("Listening on %s://%s%s,%s\n", scheme, name[0] == '[' ? "[::1]" : "127.0.0.1", port, more);
	else
		printf("Listening on %s://%s\n", scheme, name);
}

static void
on_ready(void *arg, const char *const *names, uint32_t n)
{
	const struct run *r = arg;

	for (uint32_t i = 0; i < n; i++)
		print_url(r->scheme, names[i]);
	printf(r->reload ? "A change of the application's files reloads it. Press Ctrl-C to end.\n"
			 : "Press Ctrl-C to end.\n");
	fflush(stdout);
}

int
lc_cli_run(int argc, char **argv)
{
	struct run r = {0};
	struct lc_arb_opts o = {.text_name = "licorne run", .on_ready = on_ready, .arg = &r};
	char *helped = NULL, *part[3], *text = NULL, *watch = NULL, **protocols = NULL, cwd[4096];
	bool successor = lc_arb_is_successor();
	size_t n = 0;
	int status;

	lc_log_plain(1);
	status = parse_options(&r, argc, argv);
	if (status == -1)
		return LC_EXIT_OK;
	if (status == 0)
		status = defaults(&r);
	if (status != 0) {
		free(r.proxies);
		return status;
	}
	if (!getcwd(cwd, sizeof(cwd))) {
		lc_log(LC_LOG_ERROR, "where are we? the current directory: %m");
		free(r.proxies);
		return LC_EXIT_CONFIG;
	}
	o.prefix = cwd;
	protocols = lc_mod_installed(LC_KIND_PROTOCOL);
	if (!protocols || !protocols[0]) {
		lc_log(LC_LOG_ERROR, "no protocol module is installed");
		status = LC_EXIT_CONFIG;
		goto out;
	}
	status = LC_EXIT_CONFIG;
	if (r.certfile && !has_tls()) {
		lc_log(LC_LOG_ERROR,
		       "--certfile: the module tls is not installed; it is built where OpenSSL's development files "
		       "are (libssl-dev)");
		goto out;
	}
	o.watch_since = lc_arb_watch_since();
	status = ask_helper(&r, &helped, &n);
	if (status == LC_EXIT_BOOT && r.reload && !r.show && !successor && sections(helped, n, part)) {
		watch = what_to_watch(&r, part[2]);
		status = watch ? once_more(watch, o.watch_since) : LC_EXIT_BOOT;
		goto out;
	}
	if (status != 0)
		goto out;
	status = LC_EXIT_CONFIG;
	if (!sections(helped, n, part)) {
		lc_log(LC_LOG_ERROR, "%s did not say how to serve %s", helper_path(), r.app ? r.app : r.paste);
		goto out;
	}
	if (r.reload && !(o.watch = watch = what_to_watch(&r, part[2])))
		goto out;
	if (write_configuration(&r, protocols, part[0], part[1], &text, &n) < 0) {
		lc_log(LC_LOG_ERROR, "no memory");
		goto out;
	}
	o.text = text;
	o.text_n = n;
	if (r.show) {
		status = lc_arb_check(&o, LC_CHECK_QUIET); /* what it prints is our text, not the dump */
		if (status == 0)
			fputs(text, stdout);
	} else {
		r.scheme = ask_scheme(protocols);
		if (r.scheme && r.certfile) { /* it has the secure kind of the same */
			char *more = realloc(r.scheme, strlen(r.scheme) + 2);
			if (more)
				r.scheme = strcat(more, "s");
		}
		status = lc_arb_main(&o);
		if (status == LC_EXIT_BOOT && r.reload && !successor)
			status = once_more(watch, o.watch_since);
	}
	if (fflush(stdout) != 0)
		status = LC_EXIT_CONFIG;
out:
	free(r.proxies);
	free(r.scheme);
	free(protocols);
	free(helped);
	free(watch);
	free(text);
	return status;
}
