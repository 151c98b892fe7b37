/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_conf.c - the configuration: types, inheritance, both round trips, includes, the environment, and the wording of
 * every error.
 */
#include "conf_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HEAD "load_module proto; load_module app;\n"
#define POOL(x) HEAD "pool a { listen 127.0.0.1:1; worker app { app a:b; " x " } }\n"

static const struct lc_conf_opts opts = {
    .prefix = "/base", .use_env = 1, .load_module = fake_load, .whose = fake_whose};
static const struct lc_conf_opts opaque = {.prefix = "/base", .opaque = 1, .use_env = 1};

static struct lc_conf *
parse_with(const char *text, const struct lc_conf_opts *o)
{
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;

	if (lc_conf_parse(&conf, text, strlen(text), "t", o, err) < 0)
		fail_msg("refused:\n%s", lc_err_text(err));
	assert_int_equal(lc_err_count(err), 0);
	lc_err_free(err);
	return conf;
}

static struct lc_conf *
parse(const char *text)
{
	return parse_with(text, &opts);
}

/* The text is refused with exactly these lines. */
static void
refused_with(const char *text, size_t n, const struct lc_conf_opts *o, const char *lines)
{
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = (void *)1;

	assert_int_equal(lc_conf_parse(&conf, text, n, "t", o, err), -EINVAL);
	assert_ptr_equal(conf, (void *)1);
	assert_string_equal(lc_err_text(err), lines);
	lc_err_free(err);
}

static void
refused(const char *text, const char *lines)
{
	refused_with(text, strlen(text), &opts, lines);
}

static const struct lc_block *
child(const struct lc_block *b, uint32_t kind)
{
	b = lc_conf_next(b, kind, NULL);
	assert_non_null(b);
	return b;
}

static const struct lc_block *
pool_of(const struct lc_conf *conf)
{
	return child(lc_conf_main_block(conf), LC_C_POOL);
}

static const struct fake_app *
app_of(const struct lc_conf *conf)
{
	return lc_conf_get(conf, child(pool_of(conf), LC_C_WORKER), &fake_app);
}

/* ---- values ---- */

static void
test_defaults(void **state)
{
	struct lc_conf *conf = parse(POOL(""));
	const struct lc_block *top = lc_conf_main_block(conf), *pool = pool_of(conf);
	const struct lc_conf_main *m = lc_conf_get(conf, top, &lc_core_main);
	const struct lc_conf_pool *p = lc_conf_get(conf, pool, &lc_core_pool);
	const struct lc_conf_listen *l = lc_conf_get(conf, child(pool, LC_C_LISTEN), &lc_core_listen);
	const struct fake_proto *f = lc_conf_get(conf, child(pool, LC_C_LISTEN), &fake_proto);
	const struct fake_app *a = app_of(conf);

	assert_null(m->user);
	assert_null(m->group);
	assert_null(m->pid_file);
	assert_int_equal(m->error_log.n, 2);
	assert_string_equal(m->error_log.v[0], "stderr");
	assert_string_equal(m->error_log.v[1], "notice");
	assert_int_equal(m->startup_timeout, 60000);
	assert_int_equal(m->heartbeat_timeout, 30000);
	assert_int_equal(m->graceful_timeout, 30000);
	assert_int_equal(m->backlog, 2048);
	assert_string_equal(p->processes, "1");
	assert_int_equal(lc_conf_processes(p), 1);
	assert_int_equal(p->respawn_delay.min, 100);
	assert_int_equal(p->respawn_delay.max, 30000);
	assert_int_equal(p->worker_connections, 16384);
	assert_int_equal(p->protocols.n, 0);
	assert_int_equal(p->access_log.n, 2);
	assert_string_equal(p->access_log.v[0], "off");
	assert_null(p->access_log.v[1]);
	assert_int_equal(m->log_format.n, 0);
	assert_int_equal(l->mode, 0660);
	assert_int_equal(l->ipv6only, 1);
	assert_int_equal(l->backlog, 0);
	assert_int_equal(f->head, 32768);
	assert_int_equal(f->wait, 30000);
	assert_int_equal(f->old, 0);
	assert_int_equal(f->strict, 1);
	assert_string_equal(a->dir, "none");
	assert_null(a->key);
	assert_int_equal(a->threads, 4);
	assert_int_equal(a->level, 1);
	assert_int_equal(a->umask_, 022);
	assert_int_equal(a->paths.n, 2);
	assert_int_equal(a->env.n, 0);
	assert_int_equal(a->delay.max, 1000);
	assert_int_equal(a->trace, 0);
	lc_conf_free(conf);
}

static void
test_types(void **state)
{
	struct lc_conf *conf =
	    parse(POOL("dir sub/x; key k; threads 256; buffer 3m; level high; umask 0777; path a b; path c;"
		       " env A 1; env B 'two words'; words x y z; delay 1s 1m; trace on;"));
	const struct fake_app *a = app_of(conf);

	assert_string_equal(a->app, "a:b");
	assert_string_equal(a->dir, "/base/sub/x");
	assert_string_equal(a->key, "k");
	assert_int_equal(a->threads, 256);
	assert_int_equal(a->buffer, 3 << 20);
	assert_int_equal(a->level, 2);
	assert_int_equal(a->umask_, 0777);
	assert_int_equal(a->paths.n, 3);
	assert_string_equal(a->paths.v[2], "c");
	assert_int_equal(a->env.n, 4);
	assert_string_equal(a->env.v[2], "B");
	assert_string_equal(a->env.v[3], "two words");
	assert_int_equal(a->words.n, 3);
	assert_int_equal(a->delay.min, 1000);
	assert_int_equal(a->delay.max, 60000);
	assert_int_equal(a->trace, 1);
	lc_conf_free(conf);
}

static void
test_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"0", 0},        {"512", 512},    {"1k", 1024},          {"64K", 65536},
		     {"1m", 1048576}, {"1G", 1 << 30}, {"4096g", 1ull << 42}, {"9223372036854775807", INT64_MAX}};
	static const struct {
		const char *text;
		uint64_t ms;
	} times[] = {{"100ms", 100}, {"1", 1000}, {"30s", 30000}, {"5m", 300000}, {"1h", 3600000}};
	char text[256];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(text, sizeof(text), POOL("buffer %s;"), sizes[i].text);
		struct lc_conf *conf = parse(text);
		assert_int_equal(app_of(conf)->buffer, sizes[i].bytes);
		lc_conf_free(conf);
	}
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(text, sizeof(text), "head_timeout %s;" POOL(""), times[i].text);
		/* the module must come first */
		refused(text,
			"t:1: unknown directive \"head_timeout\", expected one that is allowed at the main level\n");
		snprintf(text, sizeof(text), HEAD "head_timeout %s;\npool a { listen 1; worker app { app a:b; } }",
			 times[i].text);
		struct lc_conf *conf = parse(text);
		const struct fake_proto *f = lc_conf_get(conf, child(pool_of(conf), LC_C_LISTEN), &fake_proto);
		assert_int_equal(f->wait, times[i].ms);
		lc_conf_free(conf);
	}
}

static void
test_bad_values(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
	    {"threads 0;", "threads: \"0\" is out of range, expected a number, 1 to 256"},
	    {"threads 257;", "threads: \"257\" is out of range, expected a number, 1 to 256"},
	    {"threads -1;", "threads: \"-1\" is no number, expected a number, 1 to 256"},
	    {"threads 1x;", "threads: \"1x\" is no number, expected a number, 1 to 256"},
	    {"threads 99999999999999999999;",
	     "threads: \"99999999999999999999\" is out of range, expected a number, 1 to 256"},
	    {"threads;", "threads: 0 arguments, expected: threads NUMBER;"},
	    {"threads 1 2;", "threads: 2 arguments, expected: threads NUMBER;"},
	    {"threads 1 { }", "\"threads\" has a block, expected: threads NUMBER;"},
	    {"buffer 1t;", "buffer: \"1t\" is no size, expected a size such as 512, 64k, 1m or 1g"},
	    {"buffer 9223372036854775808;",
	     "buffer: \"9223372036854775808\" is out of range, expected a size such as 512, 64k, 1m or 1g"},
	    {"buffer 99999999999g;",
	     "buffer: \"99999999999g\" is out of range, expected a size such as 512, 64k, 1m or 1g"},
	    {"level middle;", "level: \"middle\" is not known, expected one of low, high"},
	    {"umask 0888;", "umask: \"0888\" is no number, expected an octal number, 0000 to 0777"},
	    {"umask 1000;", "umask: \"1000\" is out of range, expected an octal number, 0000 to 0777"},
	    {"trace yes;", "trace: \"yes\" is neither, expected on or off"},
	    {"env A;", "env: 1 argument, expected: env NAME VALUE;"},
	    {"path;", "path: 0 arguments, expected: path WORD ...;"},
	    {"words;", "words: 0 arguments, expected: words A B ...;"},
	    {"delay 1s;", "delay: 1 argument, expected: delay MIN MAX;"},
	    {"delay 2s 1s;", "delay: \"2s\" is more than \"1s\", expected MIN MAX, the smaller first"},
	    {"delay 1ms 1s;",
	     "delay: \"1ms\" is out of range, expected a time such as 100ms, 30s, 5m, 1h or 1d, 10ms to 1m"},
	    {"delay x 1s;", "delay: \"x\" is no time, expected a time such as 100ms, 30s, 5m, 1h or 1d, 10ms to 1m"},
	    {"dir '';", "dir: the path is empty, expected a path"},
	    {"threads 5; threads 6;", "\"threads\" is set twice, expected once; first at t:2"},
	    {"words 5; words 6;", "\"words\" is set twice, expected once; first at t:2"},
	    {"colour blue;", "unknown directive \"colour\", expected one that is allowed in worker"},
	    {"thread 5;", "unknown directive \"thread\", did you mean \"threads\"?"},
	    {"htreads 5;", "unknown directive \"htreads\", did you mean \"threads\"?"},
	    {"absent_max 5;",
	     "unknown directive \"absent_max\" in worker app, expected one of its own; it belongs to module absent"},
	    {"backlog 5;", "\"backlog\" is not allowed in worker, expected at the main level or in listen"},
	    {"listen 5;", "\"listen\" is not allowed in worker, expected in pool"},
	    {"head_max 5;",
	     "\"head_max\" is not allowed in worker, expected at the main level or in pool or in listen"},
	    {"threads 13;", "threads: 13 brings bad luck, expected another number"},
	    {"threads 14;", "module \"app\" refuses worker app (Invalid argument), expected it to say why"},
	};
	char text[512], want[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), POOL("%s"), bad[i].text);
		snprintf(want, sizeof(want), "t:2: %s\n", bad[i].message);
		refused(text, want);
	}
}

static void
test_structure(void **state)
{
	static const char *const cases[][2] = {
	    {"", "t:1: there is no pool, expected: pool NAME { listen ADDRESS; worker MODULE { ... } }\n"},
	    {HEAD "pool a { worker app { app a:b; } }",
	     "t:2: pool a has no address, expected in it: listen ADDRESS;\n"},
	    {HEAD "pool a { listen 1; }", "t:2: pool a has no worker, expected in it: worker MODULE { ... }\n"},
	    {HEAD "pool a { listen 1; worker app; }",
	     "t:2: worker app has no \"app\", expected in worker: app STRING;\n"},
	    {HEAD "pool a { listen 1; worker app { app a:b; }\nworker app { app a:b; } }",
	     "t:3: \"worker\" is there twice, expected one per pool; first at t:2\n"},
	    {HEAD "pool a { listen 1; worker apq { app a:b; } }",
	     "t:2: worker: no module \"apq\" is loaded, did you mean \"app\"?\n"},
	    {HEAD "pool a { listen 1; worker other { app a:b; } }",
	     "t:2: worker: no module \"other\" is loaded, expected before it: load_module other;\n"},
	    {HEAD "pool a { listen 1; worker proto; }",
	     "t:2: worker: module \"proto\" offers no worker, expected one that does\n"},
	    {POOL("") "pool a { listen 2; worker app { app a:b; } }",
	     "t:3: pool \"a\" is there twice, expected another name; first at t:2\n"},
	    {HEAD "pool { listen 2; worker app { app a:b; } }",
	     "t:2: pool: 0 arguments, expected: pool NAME { ... }\n"},
	    {HEAD "pool a;", "t:2: pool has no block, expected: pool NAME { ... }\n"},
	    {HEAD "pool 'a b' { listen 2; worker app { app a:b; } }",
	     "t:2: pool: \"a b\" is no name, expected 1 to 64 letters, digits, \"_\", \"-\" and \".\"\n"},
	    {HEAD "pool a { listen 1 tls; worker app { app a:b; } }",
	     "t:2: listen: no module \"tls\" is loaded, expected before it: load_module tls;\n"},
	    {HEAD "pool a { listen 1\nworker app { app a:b; } }",
	     "t:2: listen: \"worker\" is no transport, is a \";\" missing before it?\n"},
	    {HEAD "pool a { listen 1\nhead_max 2k; listen 2 backlog 3; worker app { app a:b; } }",
	     "t:2: listen: \"head_max\" is no transport, is a \";\" missing before it?\n"
	     "t:3: listen: \"backlog\" is no transport, is a \";\" missing before it?\n"},
	    {HEAD "pool a { listen 1 ssl default_server backlog=3; worker app { app a:b; } }",
	     "t:2: listen: \"ssl\" is no transport: write: load_module tls; and: listen ADDRESS tls { ... }\n"
	     "t:2: listen: \"default_server\" is no transport: the first pair of certificate and certificate_key is "
	     "for "
	     "names that no other has, leave it out\n"
	     "t:2: listen: \"backlog=3\" is no transport: write: listen ADDRESS { backlog NUMBER; }\n"},
	    {HEAD "worker_processes 4;\npool a { listen 1; server_name x; location / { proxy_pass x; }\n"
		  "worker app { app a:b; } }",
	     "t:2: unknown directive \"worker_processes\": write: processes NUMBER | auto;\n"
	     "t:3: unknown directive \"server_name\": a pool answers for every host, leave it out; certificates are "
	     "chosen by their names\n"
	     "t:3: unknown directive \"location\": write: route PREFIX HANDLER { ... }\n"},
	    {HEAD "pool a { listen 1 app; worker app { app a:b; } }",
	     "t:2: listen: module \"app\" offers no transport, expected one that does\n"},
	    {HEAD "pool a { listen 1; route /x app; worker app { app a:b; } }",
	     "t:2: route: module \"app\" offers no handler, expected one that does\n"},
	    {HEAD "pool a { listen 1; route x static; worker app { app a:b; } }",
	     "t:2: route: \"x\" is no prefix, expected it to start with \"/\"\n"
	     "t:2: route: no module \"static\" is loaded, expected before it: load_module static;\n"},
	    {HEAD "pool a { listen 1; route /x; worker app { app a:b; } }",
	     "t:2: route: 1 argument, expected: route PREFIX HANDLER { ... } | ;\n"},
	    {HEAD "pool a { listen 1; route /x app again; worker app { app a:b; } }",
	     "t:2: route: 3 arguments, expected: route PREFIX HANDLER { ... } | ;\n"},
	    {HEAD "load_module hand;\npool a { listen 1; route /a//b hand; route /%2f hand; route /?q hand;\n"
		  "route /a/../b hand; route /./ hand; worker app { app a:b; } }",
	     "t:3: route: \"/a//b\" is no prefix, expected it without \"//\": paths are compared after slashes were "
	     "merged\n"
	     "t:3: route: \"/%2f\" is no prefix, expected it decoded: paths are compared after \"%XX\" was\n"
	     "t:3: route: \"/?q\" is no prefix, expected it without \"?\": a query is not looked at\n"
	     "t:4: route: \"/a/../b\" is no prefix, expected it without \".\" and \"..\": paths are compared after "
	     "they "
	     "were resolved\n"
	     "t:4: route: \"/./\" is no prefix, expected it without \".\" and \"..\": paths are compared after they "
	     "were "
	     "resolved\n"},
	    {HEAD "load_module hand;\npool a { listen 1; route / hand { folder x; nothing 1; }\nroute / hand;\n"
		  "folder y; worker app { app a:b; } }",
	     "t:3: unknown directive \"nothing\", expected one that is allowed in route\n"
	     "t:4: route \"/\" is there twice, expected once; first at t:3\n"
	     "t:5: \"folder\" is not allowed in pool, expected in route\n"},
	    {HEAD "pool a { listen 1; listen *:1; worker app { app a:b; } }",
	     "t:2: listen: address \"*:1\" is there twice, expected once; first at t:2\n"},
	    {POOL("") "pool b { listen 127.0.0.1:1; worker app { app a:b; } }",
	     "t:3: listen: address \"127.0.0.1:1\" is there twice, expected once; first at t:2\n"},
	    {HEAD "pool a { listen unix:x; listen unix:/base/x; worker app { app a:b; } }",
	     "t:2: listen: address \"unix:/base/x\" is there twice, expected once; first at t:2\n"},
	    {HEAD "pool a { protocols nope; listen 1; worker app { app a:b; } }",
	     "t:2: protocols: no module \"nope\" is loaded, expected at the main level: load_module nope;\n"},
	    {HEAD "protocols app;\npool a { listen 1; worker app { app a:b; } }",
	     "t:2: protocols: module \"app\" offers no protocol, expected one that does\n"},
	    {HEAD "pool a { protocols proto proto; listen 1; worker app { app a:b; } }",
	     "t:2: protocols: \"proto\" is there twice, expected once\n"},
	    {"load_module app; pool a { listen 1; worker app { app a:b; } }",
	     "t:1: pool a has no protocol to speak, expected at the main level: load_module PROTOCOL;\n"},
	    {POOL("") "load_module proto;", "t:3: module \"proto\" is loaded twice, expected once; first at t:1\n"},
	    {"load_module proto\nload_module app;\n" POOL(""),
	     "t:1: load_module has 3 arguments, expected: load_module NAME | PATH; (is a \";\" missing?)\n"},
	    {"load_module nope;\nnope_x 1;\n" HEAD "pool a { listen 1; protocols nope; worker app { app a:b; } }",
	     "t:1: module \"nope\" was not found\n"},
	    {"load_module nope;\n" HEAD "pool a { listen 1; worker nope { x y; } }",
	     "t:1: module \"nope\" was not found\n"},
	    {POOL("") "absent_max 5;", "t:3: \"absent_max\" belongs to module absent; add: load_module absent;\n"},
	    {POOL("") "include x;", "t:3: \"include\" is not understood here, expected it in a file only\n"},
	    {"lisen 5;\n" POOL(""), "t:1: unknown directive \"lisen\", did you mean \"listen\"?\n"},
	    {"listen 5;\n" POOL(""), "t:1: \"listen\" is not allowed at the main level, expected in pool\n"},
	    {HEAD "pool a { load_module x; listen 1; worker app { app a:b; } }",
	     "t:2: \"load_module\" is not allowed in pool, expected at the main level\n"},
	    {"processes many;\n" POOL(""),
	     "t:1: processes: \"many\" is no number of processes, expected auto or 1 to 1024\n"},
	    {"processes 1025;\n" POOL(""),
	     "t:1: processes: \"1025\" is no number of processes, expected auto or 1 to 1024\n"},
	    {"error_log x loud;\n" POOL(""),
	     "t:1: error_log: \"loud\" is no level, expected one of crit, error, warn, notice, info, debug\n"},
	    {"error_log x info y;\n" POOL(""),
	     "t:1: error_log has 3 arguments, expected: error_log PATH | stderr [LEVEL];\n"},
	    {"user a\ngroup b;\n" POOL(""),
	     "t:1: user: 3 arguments, expected: user STRING; (is a \";\" missing before line 2?)\n"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(cases[i][0], cases[i][1]);
}

static void
test_syntax(void **state)
{
	static const char *const cases[][2] = {
	    {POOL("") "pool b {\n listen 2;\n worker app {\n app a:b;\n }\n",
	     "t:3: block \"pool\" is not closed, expected \"}\" before the end of the file\n"},
	    {POOL("") "}\n", "t:3: unexpected \"}\", expected a directive: no block is open here\n"},
	    {POOL("") ";\n", "t:3: unexpected \";\", expected a directive\n"},
	    {POOL("") "{ user a; }\n", "t:3: unexpected \"{\", expected a directive's name before it\n"},
	    {POOL("threads 5"), "t:2: \"threads\" is not ended, expected \";\" before \"}\"\n"},
	    {POOL("") "user a\n\n", "t:3: \"user\" is not ended, expected \";\" before the end of the file\n"},
	    {POOL("") "user \"a;\ngroup b;\n", "t:3: a quote is not closed, expected \" before the end of the line\n"},
	    {POOL("") "user 'a'b;\n",
	     "t:3: unexpected character after a closing quote, expected a space, \";\" or \"{\"\n"},
	    {POOL("") "user a'b';\n", "t:3: a quote inside a word, expected the whole word in quotes, or \\'\n"},
	    {POOL("") "user \\q;\n",
	     "t:3: unknown escape \"\\q\", expected \\\\ \\\" \\' \\$ \\; \\{ \\} \\# \\n \\t \\r or \"\\ \"\n"},
	    {POOL("") "user a\\\n;\n", "t:3: \"\\\" stands at the end of a line, expected a character to escape\n"},
	    {POOL("") "user ${X};\n", "t:3: \"${\" is not understood, expected $env{NAME}, or \\$ for a dollar sign\n"},
	    {POOL("") "user $env{X;\n", "t:3: malformed $env{...}, expected $env{NAME} or $env{NAME:-default}\n"},
	    {POOL("") "user $env{LC_NO_SUCH};\n",
	     "t:3: environment variable LC_NO_SUCH is not set, expected it in $env{LC_NO_SUCH}; a "
	     "default is written $env{LC_NO_SUCH:-default}\n"},
	    {POOL("") "user $env{LC_TEST_BAD};\n", "t:3: environment variable LC_TEST_BAD holds byte 0x01, expected "
						   "text in UTF-8 without control characters\n"},
	    {POOL("") "user \x80;\n",
	     "t:3: byte 0x80 is not allowed, expected text in UTF-8 without control characters\n"},
	    {POOL("") "user \x1b;\n",
	     "t:3: byte 0x1b is not allowed, expected text in UTF-8 without control characters\n"},
	    {POOL("") "user \xc2\x9b;\n",
	     "t:3: byte 0xc2 is not allowed, expected text in UTF-8 without control characters\n"},
	    {POOL("") "user \xc0\xaf;\n",
	     "t:3: byte 0xc0 is not allowed, expected text in UTF-8 without control characters\n"},
	    {POOL("") "user \xed\xa0\x80;\n",
	     "t:3: byte 0xed is not allowed, expected text in UTF-8 without control characters\n"},
	    {"a{a{a{a{a{a{a{a{a{", "t:1: blocks are nested deeper than 8, expected fewer levels\n"},
	};

	setenv("LC_TEST_BAD", "a\x01", 1);
	unsetenv("LC_NO_SUCH");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(cases[i][0], cases[i][1]);
	refused_with(POOL("") "user a\0;", sizeof(POOL("") "user a\0;") - 1, &opts,
		     "t:3: byte 0x00 is not allowed, expected text in UTF-8 without control characters\n");
}

static void
test_limits(void **state)
{
	static char text[5 << 20];
	char *p;

	p = text + sprintf(text, "%suser ", POOL(""));
	memset(p, 'x', 4096);
	strcpy(p + 4096, ";");
	lc_conf_free(parse(text));
	strcpy(p + 4096, "x;");
	memset(p, 'x', 4096);
	refused(text, "t:3: a word is longer than 4096 bytes, expected fewer\n");
	p = text + sprintf(text, "%suser", POOL(""));
	for (int i = 0; i < 300; i++)
		p += sprintf(p, " x");
	strcpy(p, ";");
	refused(text, "t:3: \"user\" has more than 256 arguments, expected fewer; is a \";\" missing?\n");
	p = text;
	for (int i = 0; i < 70000; i++)
		p += sprintf(p, "a;");
	refused(text, "t:1: too many directives, expected at most 65536\n");
	p = text + sprintf(text, HEAD "pool a { worker app { app a:b; } ");
	for (int i = 0; i < 1100; i++)
		p += sprintf(p, "listen %d; ", i + 1);
	strcpy(p, "}");
	refused(text, "t:2: too many blocks, expected at most 1024\n");
	p = text;
	for (int i = 0; i < 200; i++)
		p += sprintf(p, "zz%d x;\n", i);
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf;
	assert_int_equal(lc_conf_parse(&conf, text, strlen(text), "t", &opts, err), -EINVAL);
	assert_int_equal(lc_err_count(err), 201);
	assert_non_null(strstr(lc_err_text(err), "\n101 more errors are not shown\n"));
	lc_err_free(err);
	memset(text, ' ', sizeof(text) - 1);
	refused(text, "t: the configuration is larger than 4 MiB, expected at most that\n");
}

static void
test_ten_mistakes(void **state)
{
	refused(
	    "load_module proto;\n"
	    "load_module app;\n"
	    "usr www-data;\n"
	    "startup_timeout 90y;\n"
	    "listen 8000;\n"
	    "pool web {\n"
	    "  listen 80800;\n"
	    "  processes 0;\n"
	    "  access_log off on;\n"
	    "  worker app {\n"
	    "    app nocolon;\n"
	    "    threads 1000;\n"
	    "    threads 2;\n"
	    "    colour blue;\n"
	    "  }\n"
	    "}\n"
	    "pool web {\n"
	    "  listen 8001;\n"
	    "}\n",
	    "t:3: unknown directive \"usr\", did you mean \"user\"?\n"
	    "t:4: startup_timeout: \"90y\" is no time, expected a time such as 100ms, 30s, 5m, 1h or 1d, 100ms to 24h\n"
	    "t:5: \"listen\" is not allowed at the main level, expected in pool\n"
	    "t:7: listen: \"80800\": the port is out of range, expected 0 to 65535\n"
	    "t:8: processes: \"0\" is no number of processes, expected auto or 1 to 1024\n"
	    "t:9: access_log: there is a format behind off, expected: access_log off;\n"
	    "t:12: threads: \"1000\" is out of range, expected a number, 1 to 256\n"
	    "t:13: \"threads\" is set twice, expected once; first at t:12\n"
	    "t:14: unknown directive \"colour\", expected one that is allowed in worker\n"
	    "t:17: pool \"web\" is there twice, expected another name; first at t:6\n"
	    "t:17: pool web has no worker, expected in it: worker MODULE { ... }\n");
}

/* ---- inheritance ---- */

static void
test_inheritance(void **state)
{
	struct lc_conf *conf =
	    parse("load_module proto; load_module app; load_module app2;\n"
		  "head_max 2k; threads 10; path m; env A main;\n"
		  "pool a { head_timeout 1s; threads 20; listen 1 { head_max 4k; strict off; } listen 2;\n"
		  " worker app { app a:b; path w; } }\n"
		  "pool b { listen 3; worker app2 { app c; } }\n");
	const struct lc_block *a = pool_of(conf), *b = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, a);
	const struct lc_block *l1 = child(a, LC_C_LISTEN), *l2 = lc_conf_next(a, LC_C_LISTEN, l1);
	const struct fake_proto *p;
	const struct fake_app2 *w;

	p = lc_conf_get(conf, lc_conf_main_block(conf), &fake_proto);
	assert_int_equal(p->head, 2048);
	assert_int_equal(p->wait, 30000);
	p = lc_conf_get(conf, l1, &fake_proto);
	assert_int_equal(p->head, 4096);
	assert_int_equal(p->wait, 1000);
	assert_int_equal(p->strict, 0);
	p = lc_conf_get(conf, l2, &fake_proto);
	assert_int_equal(p->head, 2048);
	assert_int_equal(p->wait, 1000);
	assert_int_equal(p->strict, 1);
	assert_int_equal(l2->index, 1);
	assert_ptr_equal(l2->parent, a);
	assert_int_equal(app_of(conf)->threads, 20);
	assert_int_equal(app_of(conf)->paths.n, 1); /* replaced, not appended to */
	assert_string_equal(app_of(conf)->paths.v[0], "w");
	assert_string_equal(app_of(conf)->env.v[1], "main");
	assert_int_equal(b->index, 1);
	w = lc_conf_get(conf, child(b, LC_C_WORKER), &fake_app2);
	assert_int_equal(w->threads, 9); /* app2 does not allow the name at the main level */
	assert_string_equal(w->app, "c");
	w = lc_conf_get(conf, a, &fake_app2);
	assert_int_equal(w->threads, 20); /* but in pools, where one line sets both modules' */
	lc_conf_free(conf);
}

/* ---- words ---- */

static void
test_words(void **state)
{
	static const char *const cases[][2] = {
	    {"plain", "plain"},
	    {"\"a b\"", "a b"},
	    {"'a b'", "a b"},
	    {"''", ""},
	    {"\"it's\"", "it's"},
	    {"'say \"x\"'", "say \"x\""},
	    {"\"\\\"\\\\\\n\\t\\r\\'\"", "\"\\\n\t\r'"},
	    {"a\\ b\\;c\\{d\\}e\\#\\\"", "a b;c{d}e#\""},
	    {"a#b", "a#b"},
	    {"$HOME", "$HOME"},
	    {"\"\\$env{X}\"", "$env{X}"},
	    {"x$env{LC_TEST_SET}y", "xa b;}y"},
	    {"\"$env{LC_TEST_SET}\"", "a b;}"},
	    {"$env{LC_NO_SUCH:-}", ""},
	    {"$env{LC_NO_SUCH:-a b}c", "a bc"},
	    {"$env{LC_TEST_EMPTY:-d}", "d"},
	    {"$env{LC_TEST_EMPTY}", ""},
	    {"\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x84", "\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x84"},
	};
	char text[512];

	setenv("LC_TEST_SET", "a b;}", 1);
	setenv("LC_TEST_EMPTY", "", 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), POOL("key %s;"), cases[i][0]);
		struct lc_conf *conf = parse(text);
		assert_string_equal(app_of(conf)->key, cases[i][1]);
		/* as the worker gets it: no second expansion, whatever the word holds */
		size_t n;
		char *again = lc_conf_text(conf, NULL, &n);
		struct lc_conf_opts o = opts;
		for (o.use_env = 0; o.use_env < 2; o.use_env++) {
			struct lc_conf *conf2 = parse_with(again, &o);
			assert_string_equal(app_of(conf2)->key, cases[i][1]);
			lc_conf_free(conf2);
		}
		free(again);
		lc_conf_free(conf);
	}
}

/* ---- text and dump ---- */

#define FULL                                                                                                        \
	"load_module proto; load_module app; load_module app2;\n"                                                   \
	"error_log x.log debug; pid_file p; processes auto; respawn_delay 1s 2s; access_log logs/a; "               \
	"log_format own escape=json '{\\\"s\\\":$status}' '$uri'; access_log - own; log_format b %(s)s;\n"          \
	"head_max 2k; key 'main secret'; threads 6; umask 077;\n"                                                   \
	"pool a { head_timeout 1500ms; listen [::1]:1 { head_max 4k; strict off; old_number 3; } listen unix:s { "  \
	"mode 600; }\n"                                                                                             \
	" protocols proto; worker app { app 'a b:c'; path \"x\\n\" 'y z'; env A '\\$env{X'; env B ''; level high; " \
	"buffer 1025; } }\n"                                                                                        \
	"pool b { listen 3; threads 7; worker app2 { app c; } }\n"

static void
same_app(const struct fake_app *a, const struct fake_app *b)
{
	assert_string_equal(a->app, b->app);
	assert_string_equal(a->dir, b->dir);
	assert_int_equal(a->threads, b->threads);
	assert_int_equal(a->buffer, b->buffer);
	assert_int_equal(a->level, b->level);
	assert_int_equal(a->umask_, b->umask_);
	assert_int_equal(a->trace, b->trace);
	assert_memory_equal(&a->delay, &b->delay, sizeof(a->delay));
	const struct lc_list *lists[][2] = {{&a->paths, &b->paths}, {&a->env, &b->env}, {&a->words, &b->words}};
	for (size_t k = 0; k < 3; k++) {
		assert_int_equal(lists[k][0]->n, lists[k][1]->n);
		for (uint64_t i = 0; i < lists[k][0]->n; i++)
			assert_string_equal(lists[k][0]->v[i], lists[k][1]->v[i]);
	}
}

static void
test_dump(void **state)
{
	struct lc_conf_opts elsewhere = opts;
	elsewhere.use_env = 0;
	struct lc_conf *conf = parse_with(FULL, &elsewhere), *again;
	char *dump = lc_conf_dump(conf), *dump2;

	assert_non_null(strstr(dump, "\npid_file /base/p;  # t:2\n"));
	assert_non_null(strstr(dump, "\nstartup_timeout 1m;  # default\n"));
	assert_non_null(strstr(dump, "\n# user: not set\n"));
	assert_non_null(strstr(dump, "\n\tprocesses auto;  # inherited from t:2\n"));
	assert_non_null(strstr(dump, "\n\t\thead_timeout 1500ms;  # inherited from t:4\n"));
	assert_non_null(strstr(dump, "\n\t\thead_max 4k;  # t:4\n"));
	assert_non_null(strstr(dump, "\n\t\tbuffer 1025;  # t:5\n"));
	assert_non_null(strstr(dump, "\n\t\tkey ********;  # inherited from t:3, masked\n"));
	assert_null(strstr(dump, "main secret"));
	assert_non_null(strstr(dump, "\n\tlisten unix:/base/s {  # t:4\n\t\tmode 0600;"));

	elsewhere.prefix = "/other"; /* paths in the dump are absolute */
	again = parse_with(dump, &elsewhere);
	same_app(app_of(conf), app_of(again));
	for (const struct lc_block *p = NULL, *q = NULL; (p = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, p));) {
		q = lc_conf_next(lc_conf_main_block(again), LC_C_POOL, q);
		assert_non_null(q);
		const struct lc_conf_pool *a = lc_conf_get(conf, p, &lc_core_pool),
					  *b = lc_conf_get(again, q, &lc_core_pool);
		assert_string_equal(a->processes, b->processes);
		struct lc_conf_access x, y;
		uint32_t logs = 0;
		for (; lc_conf_access_log(a, logs, &x); logs++) {
			assert_int_equal(lc_conf_access_log(b, logs, &y), 1);
			assert_string_equal(x.path, y.path);
			assert_string_equal(x.format, y.format);
		}
		assert_int_equal(logs, 2);
		assert_int_equal(lc_conf_access_log(b, logs, &y), 0);
		assert_int_equal(a->respawn_delay.max, b->respawn_delay.max);
		assert_int_equal(a->protocols.n, b->protocols.n);
		const struct fake_app2 *c = lc_conf_get(conf, p, &fake_app2), *d = lc_conf_get(again, q, &fake_app2);
		assert_int_equal(c->threads, d->threads);
		for (const struct lc_block *l = NULL, *m = NULL; (l = lc_conf_next(p, LC_C_LISTEN, l));) {
			m = lc_conf_next(q, LC_C_LISTEN, m);
			assert_string_equal(l->name, m->name);
			assert_memory_equal(lc_conf_get(conf, l, &fake_proto), lc_conf_get(again, m, &fake_proto),
					    sizeof(struct fake_proto));
		}
	}
	/* a dump of the dump differs in the comments only */
	dump2 = lc_conf_dump(again);
	const char *p = dump, *q = dump2;
	while (*p && *q) {
		size_t n = strcspn(p, "#\n"), m = strcspn(q, "#\n");
		assert_int_equal(n, m);
		assert_memory_equal(p, q, n);
		p += strcspn(p, "\n") + 1;
		q += strcspn(q, "\n") + 1;
	}
	assert_int_equal(*p, *q);
	free(dump);
	free(dump2);
	lc_conf_free(conf);
	lc_conf_free(again);
}

static void
test_text_keeps_places(void **state)
{
	struct lc_conf *conf = parse_with(
	    "load_module proto; load_module app;\n\n\npool a { listen 1;\n\nworker app { app a:b;\n\n\ncolour 5; } }\n"
	    "#line 7 \"x \\\"y\\\".conf\"\npool b { listen 2; worker app { app a:b; } }\n",
	    &opaque);
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf2;
	size_t n;
	char *text = lc_conf_text(conf, NULL, &n);

	assert_int_equal(lc_conf_parse(&conf2, text, n, "worker text", &opts, err), -EINVAL);
	assert_string_equal(lc_err_text(err),
			    "t:9: unknown directive \"colour\", expected one that is allowed in worker\n");
	free(text);
	lc_err_free(err);
	const struct lc_block *b = lc_conf_next(lc_conf_main_block(conf), LC_C_POOL, pool_of(conf));
	assert_string_equal(b->file, "x \"y\".conf");
	assert_int_equal(b->line, 7);
	/* one pool only, with its place */
	text = lc_conf_text(conf, b, &n);
	assert_int_equal(strlen(text), n);
	assert_null(strstr(text, "pool a"));
	conf2 = parse(text);
	b = pool_of(conf2);
	assert_string_equal(b->name, "b");
	assert_string_equal(b->file, "x \"y\".conf");
	assert_int_equal(b->line, 7);
	assert_int_equal(b->index, 0);
	free(text);
	lc_conf_free(conf2);
	lc_conf_free(conf);
}

static void
test_text_leaves_out_other_workers(void **state)
{
#define TWO "pool a { listen 1; worker app { app a:b; } } pool b { listen 2; worker app2 { app c; } }\n"
	struct lc_conf *conf =
	    parse_with("load_module proto; load_module app; load_module app2; user x;\n" TWO, &opaque);
	char *text = lc_conf_text(conf, pool_of(conf), NULL);

	assert_non_null(strstr(text, "load_module proto;"));
	assert_non_null(strstr(text, "load_module app;"));
	assert_null(strstr(text, "load_module app2;"));
	free(text);
	lc_conf_free(conf);
	/* a directive that may be of that module: it stays */
	conf = parse_with("load_module proto; load_module app; load_module app2; threads 3;\n" TWO, &opaque);
	text = lc_conf_text(conf, pool_of(conf), NULL);
	assert_non_null(strstr(text, "load_module app2;"));
	free(text);
	lc_conf_free(conf);
}

static void
test_opaque(void **state)
{
	struct lc_conf *conf =
	    parse_with("load_module nope; nope_x 1; processes 3;\n"
		       "pool a { nope_y { z; } listen 1 tls { cert x; backlog 5; } worker some { user x; user y; } }\n",
		       &opaque);
	const struct lc_conf_pool *p = lc_conf_get(conf, pool_of(conf), &lc_core_pool);
	const struct lc_conf_listen *l = lc_conf_get(conf, child(pool_of(conf), LC_C_LISTEN), &lc_core_listen);

	assert_int_equal(lc_conf_processes(p), 3);
	assert_int_equal(l->backlog, 5);
	assert_string_equal(child(pool_of(conf), LC_C_WORKER)->name, "some");
	assert_string_equal(child(pool_of(conf), LC_C_LISTEN)->args[0], "tls");
	assert_null(lc_conf_get(conf, pool_of(conf), &fake_app));
	lc_conf_free(conf);
	static const char text[] = "pool a { listen 1; listen 1; }\nbacklog 0;\n";
	refused_with(text, strlen(text), &opaque,
		     "t:1: listen: address \"1\" is there twice, expected once; first at t:1\n"
		     "t:1: pool a has no worker, expected in it: worker MODULE { ... }\n"
		     "t:2: backlog: \"0\" is out of range, expected a number, 1 to 65535\n");
}

/* ---- files ---- */

static char folder[] = "/tmp/lc-conf-XXXXXX";

static void
put(const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* Loads main.conf; NULL: no error expected; else the errors, with the folder's name as "@". */
static struct lc_conf *
load(const struct lc_conf_opts *o, const char *want)
{
	char path[256], got[8192] = "";
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;

	snprintf(path, sizeof(path), "%s/main.conf", folder);
	int r = lc_conf_load(&conf, path, o, err);
	size_t n = 0;
	for (const char *p = lc_err_text(err); *p && n < sizeof(got) - 1;)
		if (!strncmp(p, folder, strlen(folder))) {
			got[n++] = '@';
			p += strlen(folder);
		} else {
			got[n++] = *p++;
		}
	assert_string_equal(got, want ? want : "");
	assert_int_equal(r < 0, want != NULL);
	lc_err_free(err);
	return conf;
}

static void
test_includes(void **state)
{
	struct lc_conf_opts o = opts;
	char path[256];

	o.prefix = NULL;
	snprintf(path, sizeof(path), "%s/d", folder);
	mkdir(path, 0700);
	put("main.conf", HEAD "include d/*.conf;\ninclude none/*.conf;\npid_file x;\n");
	put("d/b.conf", "pool b { listen 2; include w.inc; }\n");
	put("d/a.conf", "pool a { listen 1; include w.inc; }\n");
	put("d/w.inc", "worker app { app a:b; dir y; }");
	struct lc_conf *conf = load(&o, NULL);
	assert_string_equal(lc_conf_prefix(conf), folder);
	assert_string_equal(pool_of(conf)->name, "a");
	snprintf(path, sizeof(path), "%s/y", folder);
	assert_string_equal(app_of(conf)->dir, path); /* the prefix, not the including file's folder */
	snprintf(path, sizeof(path), "%s/x", folder);
	const struct lc_conf_main *m = lc_conf_get(conf, lc_conf_main_block(conf), &lc_core_main);
	assert_string_equal(m->pid_file, path);
	snprintf(path, sizeof(path), "%s/d/w.inc", folder);
	assert_string_equal(child(pool_of(conf), LC_C_WORKER)->file, path);
	lc_conf_free(conf);

	put("d/a.conf", "pool a { listen 1; \n worker app { app a; } }\n");
	put("d/w.inc", "worker app { app a:b; dir y; colour x; } }");
	load(&o, "@/d/w.inc:1: unexpected \"}\", expected a directive: no block is open here\n"
		 "@/d/w.inc:1: unknown directive \"colour\", expected one that is allowed in worker\n");
}

static void
test_include_errors(void **state)
{
	struct lc_conf_opts o = opts;

	o.prefix = NULL;
	put("main.conf", POOL("") "include a.conf;\n");
	put("a.conf", "user x;\ninclude main.conf;\n");
	load(&o, "@/a.conf:2: \"@/main.conf\" includes itself, expected no cycle of includes\n");
	put("a.conf", "include nowhere;\ninclude;\ninclude a b;\ninclude d { }\ninclude d;\n");
	load(&o, "@/a.conf:1: cannot open \"@/nowhere\" (No such file or directory), expected a readable file\n"
		 "@/a.conf:2: \"include\" has no argument, expected: include FILE;\n"
		 "@/a.conf:3: \"include\" has several arguments, expected: include FILE;\n"
		 "@/a.conf:4: \"include\" has a block, expected: include FILE;\n"
		 "@/a.conf:5: \"@/d\" is a directory, expected a regular file\n");
	put("main.conf", POOL("") "include /dev/zero;\n");
	load(&o, "@/main.conf:3: \"/dev/zero\" is a device or a pipe, expected a regular file\n");
	/* the same file one after another is no cycle; too many files are too many */
	put("main.conf", POOL("") "include e;include e;include e;include e;include e;include e;include e;include e;\n");
	put("e", "include f;include f;include f;include f;include f;include f;include f;\n");
	put("f", "# nothing\n");
	lc_conf_free(load(&o, NULL));
	put("e", "include f;include f;include f;include f;include f;include f;include f;include f;\n");
	load(&o, "@/e:1: too many included files, expected at most 64\n");
	/* levels */
	char name[8], text[64];
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		snprintf(text, sizeof(text), "include l%d;\n", i + 1);
		put(name, i < 7 ? text : "# end\n");
	}
	put("main.conf", POOL("") "include l0;\n");
	lc_conf_free(load(&o, NULL));
	put("l7", "include l8;\n");
	load(&o, "@/l7:1: includes are nested deeper than 8, expected fewer levels\n");
	/* size */
	char *big = malloc((1 << 20) + 2);
	memset(big, ' ', (1 << 20) + 1);
	big[(1 << 20) + 1] = 0;
	put("big", big);
	put("main.conf", POOL("") "include big;\n");
	load(&o, "@/main.conf:3: \"@/big\" is larger than 1 MiB, expected at most that\n");
	put("big", big + 1);
	lc_conf_free(load(&o, NULL));
	put("main.conf", POOL("") "include big;include big;include big;include big;\n");
	load(&o, "@/big:1: the configuration is larger than 4 MiB with all its includes, expected at most that\n");
	free(big);
}

static void
test_main_file_errors(void **state)
{
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf;

	assert_int_equal(lc_conf_load(&conf, "/no/such.conf", &opts, err), -ENOENT);
	assert_string_equal(
	    lc_err_text(err),
	    "/no/such.conf: cannot open \"/no/such.conf\" (No such file or directory), expected a readable file\n");
	lc_err_free(err);
}

static void
test_globals(void **state)
{
	struct lc_conf_opts o = opts;

	o.globals = "user me; processes 2;";
	put("main.conf", POOL(""));
	struct lc_conf *conf = load(&o, NULL);
	const struct lc_conf_main *m = lc_conf_get(conf, lc_conf_main_block(conf), &lc_core_main);
	assert_string_equal(m->user, "me");
	char *dump = lc_conf_dump(conf);
	assert_non_null(strstr(dump, "\nuser me;  # command line:1\n"));
	free(dump);
	lc_conf_free(conf);
	put("main.conf", POOL("") "user you;\n");
	load(&o, "@/main.conf:3: \"user\" is set twice, expected once; first at command line:1\n");
	o.globals = "usr me;\n group $env{LC_NO_SUCH}";
	put("main.conf", POOL(""));
	unsetenv("LC_NO_SUCH");
	load(&o, "command line:1: unknown directive \"usr\", did you mean \"user\"?\n"
		 "command line:2: environment variable LC_NO_SUCH is not set, expected it in $env{LC_NO_SUCH}; a "
		 "default is written "
		 "$env{LC_NO_SUCH:-default}\n");
}

/* ---- rows ---- */

static void
test_rows_of_the_core(void **state)
{
	const struct lc_dirset *sets[] = {&lc_core_main, &lc_core_pool, &lc_core_listen,
					  &fake_proto,   &fake_app,     &fake_app2};
	char msg[512];

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (lc_dirset_check(sets[i], msg, sizeof(msg)) < 0)
			fail_msg("%s: %s", sets[i]->owner, msg);
}

static void
test_bad_rows(void **state)
{
#define ROW(...)                                      \
	{                                             \
		__VA_ARGS__, .brief = "b", .doc = "d" \
	}
	static const struct {
		struct lc_directive row;
		const char *message;
	} bad[] = {
	    {ROW(.type = LC_T_UINT, .context = 1), "directive 0 has no name"},
	    {ROW(.name = "a-b", .type = LC_T_UINT, .context = 1),
	     "directive name \"a-b\" is not made of a-z, 0-9 and _"},
	    {ROW(.name = "a", .type = 99, .context = 1), "directive \"a\" is of type 99, which a module cannot have"},
	    {ROW(.name = "a", .type = LC_T_BLOCK, .context = 1),
	     "directive \"a\" is of type 11, which a module cannot have"},
	    {ROW(.name = "a", .type = LC_T_UINT), "directive \"a\" has context bits 0x0, of which 0x1f are known"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 64),
	     "directive \"a\" has context bits 0x40, of which 0x1f are known"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 1, .flags = 256),
	     "directive \"a\" has flags 0x100, of which 0x3f are known"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 1, .flags = LC_D_FILE),
	     "directive \"a\" names files, but is neither a path nor a list"},
	    {ROW(.name = "a", .type = LC_T_LIST, .context = 1, .offset = 8),
	     "directive \"a\" lies outside its struct (offset 8, 16 bytes, struct of 16)"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 1, .offset = 4000000000u),
	     "directive \"a\" lies outside its struct (offset 4000000000, 8 bytes, struct of 16)"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 1, .offset = 3), "directive \"a\" has the odd offset 3"},
	    {ROW(.name = "a", .type = LC_T_ENUM, .context = 1), "directive \"a\" is a choice without choices"},
	    {ROW(.name = "a", .type = LC_T_UINT, .context = 1, .def = "x"),
	     "the default of directive \"a\" is wrong: \"x\" is no number, expected a number"},
	    {{.name = "a", .type = LC_T_UINT, .context = 1, .doc = "d"},
	     "directive \"a\" has no brief description of one line"},
	    {{.name = "a", .type = LC_T_UINT, .context = 1, .brief = "x\ny", .doc = "d"},
	     "directive \"a\" has no brief description of one line"},
	    {{.name = "a", .type = LC_T_UINT, .context = 1, .brief = "b"}, "directive \"a\" has no documentation"},
	};
	char msg[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct lc_dirset ds = {
		    .owner = "x", .rows = &bad[i].row, .nrows = 1, .stride = sizeof(bad[i].row), .conf_size = 16};
		assert_int_equal(lc_dirset_check(&ds, msg, sizeof(msg)), -EINVAL);
		assert_string_equal(msg, bad[i].message);
	}
	struct lc_directive two[2] = {fake_app2_rows[1], fake_app2_rows[1]};
	struct lc_dirset ds = {.owner = "x", .rows = two, .nrows = 2, .stride = sizeof(two[0]), .conf_size = 16};
	assert_int_equal(lc_dirset_check(&ds, msg, sizeof(msg)), -EINVAL);
	assert_string_equal(msg, "directive \"threads\" is there twice");
	ds.owner = "X y";
	assert_int_equal(lc_dirset_check(&ds, msg, sizeof(msg)), -EINVAL);
	assert_string_equal(msg, "its name is not made of a-z, 0-9 and _");
}

/* ---- log_format and access_log ---- */

#define WEB(inside) "pool web { listen 1; worker app { app a:b; } " inside "}\n"

static void
test_logs(void **state)
{
	struct lc_conf *conf = parse(
	    HEAD
	    "log_format two '$status ' escape_is_text;\n"
	    "log_format three escape=json '{}' $status;\n"
	    "access_log a.log; access_log - json;\n" WEB(
		"access_log b/c.log two; access_log /d three;") "pool other { listen 2; worker app { app a:b; } }\n"
								"pool off { listen 3; worker app { app a:b; } "
								"access_log off; }\n");
	const struct lc_block *top = lc_conf_main_block(conf), *b = lc_conf_next(top, LC_C_POOL, NULL);
	const struct lc_conf_main *m = lc_conf_get(conf, top, &lc_core_main);
	const struct lc_conf_pool *p = lc_conf_get(conf, b, &lc_core_pool);
	struct lc_conf_access l;
	char *text;
	int json;

	assert_int_equal(lc_conf_access_log(p, 0, &l), 1);
	assert_string_equal(l.path, "/base/b/c.log");
	assert_string_equal(l.format, "two");
	assert_int_equal(lc_conf_access_log(p, 1, &l), 1);
	assert_string_equal(l.path, "/d");
	assert_int_equal(lc_conf_access_log(p, 2, &l), 0);
	b = lc_conf_next(top, LC_C_POOL, b);
	p = lc_conf_get(conf, b, &lc_core_pool);
	assert_int_equal(lc_conf_access_log(p, 0, &l), 1);
	assert_string_equal(l.path, "/base/a.log");
	assert_string_equal(l.format, "combined");
	assert_int_equal(lc_conf_access_log(p, 1, &l), 1);
	assert_string_equal(l.path, "-");
	assert_int_equal(lc_conf_access_log(p, 2, &l), 0);
	p = lc_conf_get(conf, lc_conf_next(top, LC_C_POOL, b), &lc_core_pool);
	assert_int_equal(lc_conf_access_log(p, 0, &l), 0);
	assert_int_equal(lc_conf_log_format(m, "two", &text, &json), 0);
	assert_string_equal(text, "$status escape_is_text");
	assert_int_equal(json, 0);
	free(text);
	assert_int_equal(lc_conf_log_format(m, "three", &text, &json), 0);
	assert_string_equal(text, "{}$status");
	assert_int_equal(json, 1);
	free(text);
	assert_int_equal(lc_conf_log_format(m, "common", &text, &json), 0);
	free(text);
	assert_int_equal(lc_conf_log_format(m, "four", &text, &json), -ENOENT);
	lc_conf_free(conf);
}

static void
test_logs_wrong(void **state)
{
	refused(HEAD "log_format x;\n"
		     "log_format 'a b' $status;\n"
		     "log_format json $status;\n"
		     "log_format a escape=none $status;\n"
		     "log_format a escape=xml $status;\n"
		     "log_format a escape=json;\n"
		     "log_format a '$status\\n';\n"
		     "log_format a\n '$status $remot_addr';\n"
		     "log_format a '%(X)s';\n"
		     "access_log;\n"
		     "access_log a b c;\n"
		     "access_log '';\n" WEB("log_format y $status;"),
		"t:2: log_format: 1 argument, expected: log_format NAME [escape=default | escape=json] TEXT ...;\n"
		"t:3: log_format: \"a b\" is no name, expected letters, digits, \"_\", \"-\" and \".\"\n"
		"t:4: log_format: \"json\" is a format that is there already, expected another name\n"
		"t:5: log_format: escape=none would let clients forge lines, expected escape=default or escape=json\n"
		"t:6: log_format: \"escape=xml\" is not known, expected escape=default or escape=json\n"
		"t:7: log_format: there is no text, expected: log_format NAME [escape=default | json] 'TEXT';\n"
		"t:8: log_format: a line end or another control character is in it, expected one line\n"
		"t:9: log_format: variable \"$remot_addr\" is not known, did you mean \"$remote_addr\"? (is a \";\" "
		"missing "
		"before line 10?)\n"
		"t:11: log_format: atom \"%(X)s\" is not known, expected one of h l u t r m U q H s B b f a T M D L p "
		"{NAME}i {NAME}o\n"
		"t:12: access_log: 0 arguments, expected: access_log PATH [FORMAT] | - [FORMAT] | off;\n"
		"t:13: access_log: 3 arguments, expected: access_log PATH [FORMAT] | - [FORMAT] | off;\n"
		"t:14: access_log: the path is empty, expected a path, - or off\n"
		"t:15: \"log_format\" is not allowed in pool, expected at the main level\n");
	refused(
	    HEAD "log_format mine $status; log_format mine $uri;\n"
		 "access_log a josn;\n" WEB(
		     "access_log a min;\naccess_log b;") "pool x { listen 2; worker app { app a:b; }\n access_log a; "
							 "access_log off; }\n"
							 "pool y { listen 3; worker app { app a:b; }\n access_log a "
							 "zebra; }\n"
							 "pool z { listen 4; worker app { app a:b; }\n access_log 1; "
							 "access_log 2; access_log 3; access_log 4;"
							 "access_log 5; access_log 6; access_log 7; access_log 8; "
							 "access_log 9; }\n",
	    "t:2: log_format: \"mine\" is there twice, expected another name\n"
	    "t:3: access_log: there is no format \"josn\", did you mean \"json\"?\n"
	    "t:4: access_log: there is no format \"min\", did you mean \"mine\"?\n"
	    "t:7: access_log: off beside others, expected either\n"
	    "t:9: access_log: there is no format \"zebra\", expected combined, common, json, or one that log_format "
	    "defines\n"
	    "t:11: access_log: 9 of them, expected at most 8\n");
}

static int
set_up(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int
tear_down(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", folder);
	return system(cmd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_units),
	    cmocka_unit_test(test_bad_values),
	    cmocka_unit_test(test_structure),
	    cmocka_unit_test(test_syntax),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_ten_mistakes),
	    cmocka_unit_test(test_inheritance),
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_dump),
	    cmocka_unit_test(test_text_keeps_places),
	    cmocka_unit_test(test_text_leaves_out_other_workers),
	    cmocka_unit_test(test_opaque),
	    cmocka_unit_test(test_includes),
	    cmocka_unit_test(test_include_errors),
	    cmocka_unit_test(test_main_file_errors),
	    cmocka_unit_test(test_globals),
	    cmocka_unit_test(test_rows_of_the_core),
	    cmocka_unit_test(test_bad_rows),
	    cmocka_unit_test(test_logs),
	    cmocka_unit_test(test_logs_wrong),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
