/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_loader.c - loads each variant of module.c and checks the sentence.  Argument: the folder they were built in.
 *
 * Nothing is ever unloaded, so what one test loads the others see: the tests of "good" come last.
 */
#include "module/loader.h"

#include <licorne/worker.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[4000], other[] = "/tmp/lc-mod-XXXXXX";
static char msg[4096], got[4096];

/* The message with the folder as "@". */
static const char *
plain(void)
{
	size_t n = 0;

	for (const char *p = msg; *p && n < sizeof(got) - 1;)
		if (!strncmp(p, folder, strlen(folder))) {
			got[n++] = '@';
			p += strlen(folder);
		} else {
			got[n++] = *p++;
		}
	got[n] = 0;
	return got;
}

static int
load_file(const char *name)
{
	char path[4096];
	struct lc_mod *mod = NULL;

	snprintf(path, sizeof(path), "%s/%s.so", folder, name);
	*msg = 0;
	return lc_mod_load(&mod, path, msg, sizeof(msg));
}

#define OURS "this server (licorne " LC_VERSION ")"
#define ABI LC_STR_(LC_ABI_MAJOR) "." LC_STR_(LC_ABI_MINOR)
#define WRONG(n) "module \"" n "\" 1.2 (@/" n ".so) is built wrong: "

static void
test_refusals(void **state)
{
	static const struct {
		const char *name;
		int r;
		const char *text;
	} all[] = {
	    {"t_magic", -ENOEXEC,
	     "\"@/t_magic.so\" is not a licorne module: its descriptor starts with 0x11111111, expected 0x4c434d31"},
	    {"t_major", -ENOEXEC,
	     "module \"t_major\" 1.2 (@/t_major.so) was built for licorne-abi 9.2; " OURS
	     " speaks licorne-abi 0.0 to " ABI ": rebuild it with this server's headers"},
	    {"t_minor", -ENOEXEC,
	     "module \"t_minor\" 1.2 (@/t_minor.so) was built for the newer licorne-abi 0.99; " OURS
	     " speaks licorne-abi 0.0 to " ABI ": update licorne, or rebuild the module with this server's headers"},
	    {"t_no_query", -ENOEXEC,
	     "\"@/t_no_query.so\" is not a licorne module: it exports no lc_module_query(), expected one"},
	    {"t_null", -ENOEXEC,
	     "\"@/t_null.so\" is not a licorne module: its lc_module_query() gives no descriptor, expected one"},
	    {"t_missing_symbol", -ENOEXEC,
	     "module file \"@/t_missing_symbol.so\" cannot be loaded: nothing here provides the symbol "
	     "\"licorne_test_nowhere\" that it "
	     "uses: link it against the library that has it, or rebuild it for this server (-Wl,-z,defs finds this "
	     "when it is built)"},
	    {"t_no_name", -EINVAL,
	     "\"@/t_no_name.so\" is built wrong: its name is missing, expected one of a-z, 0-9 and _"},
	    {"t_no_version", -EINVAL, "module \"t_no_version\" (@/t_no_version.so) is built wrong: it has no version"},
	    {"t_no_summary", -EINVAL,
	     "module \"t_no_summary\" (@/t_no_summary.so) is built wrong: it has no summary of one line"},
	    {"t_no_ifaces", -EINVAL, WRONG("t_no_ifaces") "it lists 0 interfaces of 16 bytes"},
	    {"t_iface_kind", -EINVAL,
	     "module \"t_iface_kind\" 1.2 (@/t_iface_kind.so) offers an interface of kind 77, which " OURS
	     " does not know: it is for another licorne"},
	    {"t_iface_version", -EINVAL,
	     "module \"t_iface_version\" 1.2 (@/t_iface_version.so) offers worker interface version 99; " OURS
	     " speaks version 1: rebuild it"},
	    {"t_ops_lack", -EINVAL, WRONG("t_ops_lack") "its worker interface has no \"request\""},
	    {"t_tr_lasting", -EINVAL, WRONG("t_tr_lasting") "its transport interface has no \"input\""},
	    {"t_tr_prologue", -EINVAL, WRONG("t_tr_prologue") "its transport interface has no \"header\""},
	    {"t_tr_header", -EINVAL,
	     WRONG("t_tr_header") "its transport interface has no \"header_max of at most 8192\""},
	    {"t_row_outside", -EINVAL,
	     WRONG(
		 "t_row_outside") "directive \"good_word\" lies outside its struct (offset 32, 8 bytes, struct of 32)"},
	    {"t_row_no_doc", -EINVAL, WRONG("t_row_no_doc") "directive \"good_word\" has no documentation"},
	    {"t_row_no_brief", -EINVAL,
	     WRONG("t_row_no_brief") "directive \"good_word\" has no brief description of one line"},
	    {"t_row_type", -EINVAL,
	     WRONG("t_row_type") "directive \"good_word\" is of type 99, which a module cannot have"},
	    {"t_row_default", -EINVAL,
	     WRONG("t_row_default") "the default of directive \"good_word\" is wrong: \"many\" is no number, expected "
				    "a number"},
	    {"t_row_stride", -EINVAL, WRONG("t_row_stride") "a directive row of 12 bytes cannot be"},
	    {"t_rows_null", -EINVAL, WRONG("t_rows_null") "3 directives in a struct of 32 bytes cannot be"},
	    {"t_needs", -ENOENT,
	     "module \"t_needs\" 1.2 (@/t_needs.so) needs module \"test_other\", which is not loaded: add before it: "
	     "load_module "
	     "test_other;"},
	    {"t_load_table", -ENOSYS,
	     "module \"t_load_table\" 1.2 (@/t_load_table.so) needs the host table \"test_none\" version 3, which " OURS
	     " does not offer: rebuild the module, or update licorne"},
	    {"t_load_fails", -EIO,
	     "module \"t_load_fails\" 1.2 (@/t_load_fails.so) could not start: Input/output error"},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(load_file(all[i].name), all[i].r);
		assert_string_equal(plain(), all[i].text);
		assert_null(lc_mod_find(all[i].name));
	}
	char want[512];
	assert_int_equal(load_file("t_size"), -EINVAL);
	snprintf(want, sizeof(want), "\"@/t_size.so\" is built wrong: its descriptor has 8 bytes, expected %zu",
		 sizeof(struct lc_module));
	assert_string_equal(plain(), want);
	assert_int_equal(load_file("t_ops_size"), -EINVAL);
	snprintf(want, sizeof(want), WRONG("t_ops_size") "its worker interface has 4 bytes, expected %zu",
		 sizeof(struct lc_worker));
	assert_string_equal(plain(), want);
	assert_null(lc_mod_first());
}

static void
put(const char *name, const void *data, size_t n)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", other, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	fclose(f);
}

static int
load_other(const char *name)
{
	char path[64];
	struct lc_mod *mod;

	snprintf(path, sizeof(path), "%s/%s", other, name);
	return lc_mod_load(&mod, path, msg, sizeof(msg));
}

static void
test_files(void **state)
{
	unsigned char elf[4096] = {0};
	char want[512];

	put("text.so", "no shared object\n", 17);
	assert_int_equal(load_other("text.so"), -ENOEXEC);
	snprintf(want, sizeof(want),
		 "\"%s/text.so\" is not a module: it is no ELF file, expected a shared object (.so)", other);
	assert_string_equal(msg, want);
	put("empty.so", "", 0);
	assert_int_equal(load_other("empty.so"), -ENOEXEC);
	assert_non_null(strstr(msg, "no ELF file"));
	FILE *f = fopen("/proc/self/exe", "rb");
	assert_non_null(f);
	assert_int_equal(fread(elf, 1, sizeof(elf), f), sizeof(elf));
	fclose(f);
	elf[16] = 2; /* ET_EXEC */
	put("exe.so", elf, sizeof(elf));
	assert_int_equal(load_other("exe.so"), -ENOEXEC);
	snprintf(want, sizeof(want),
		 "\"%s/exe.so\" is not a module: it is no shared object, expected one (link it with -shared)", other);
	assert_string_equal(msg, want);
	unsigned machine = elf[18] | elf[19] << 8;
	elf[16] = 3;
	elf[18] ^= 1;
	put("machine.so", elf, sizeof(elf));
	assert_int_equal(load_other("machine.so"), -ENOEXEC);
	snprintf(want, sizeof(want),
		 "\"%s/machine.so\" is not a module for this machine: it was built for ELF machine %u, this server for "
		 "%u: rebuild it",
		 other, machine ^ 1, machine);
	assert_string_equal(msg, want);
	elf[18] ^= 1;
	put("cut.so", elf, sizeof(elf));
	assert_int_equal(load_other("cut.so"), -ENOEXEC);
	snprintf(want, sizeof(want), "module file \"%s/cut.so\" is cut short or damaged: copy or build it anew", other);
	assert_string_equal(msg, want);

	assert_int_equal(load_other("none.so"), -ENOENT);
	snprintf(want, sizeof(want), "module file \"%s/none.so\" cannot be opened: No such file or directory", other);
	assert_string_equal(msg, want);
	assert_int_equal(load_other("."), -ENOEXEC);
	assert_non_null(strstr(msg, "no ELF file"));
}

static void
test_names(void **state)
{
	struct lc_mod *mod;
	char want[8192];

	setenv("LICORNE_MODULE_PATH", other, 1);
	assert_int_equal(lc_mod_load(&mod, "test_nowhere", msg, sizeof(msg)), -ENOENT);
	snprintf(want, sizeof(want),
		 "module \"test_nowhere\" was not found, looked in: %s, " LC_BUILD_ROOT ", " LC_MODULEDIR, other);
	assert_string_equal(msg, want);
	assert_int_equal(lc_mod_load(&mod, "No-Name", msg, sizeof(msg)), -ENOENT);
	assert_string_equal(
	    msg, "\"No-Name\" is no module name, expected one of a-z, 0-9 and _, or a path with a \"/\" in it");
	assert_int_equal(lc_mod_load(&mod, "", msg, sizeof(msg)), -ENOENT);
	setenv("LICORNE_MODULE_PATH", folder, 1);
	assert_int_equal(lc_mod_load(&mod, "t_rename", msg, sizeof(msg)), -EINVAL);
	assert_string_equal(
	    plain(),
	    "module file \"@/t_rename.so\" calls itself \"something\", expected \"t_rename\": rename the file");
}

static void
test_short(void **state)
{
	struct lc_mod *mod;

	assert_int_equal(lc_mod_load(&mod, "t_short", msg, sizeof(msg)), 0);
	assert_int_equal(mod->desc.size, offsetof(struct lc_module, load));
	assert_null(mod->desc.load); /* zero-filled beyond its size */
	assert_int_equal(mod->dirset.stride, offsetof(struct lc_directive, since));
	struct lc_conf_opts o = {.load_module = lc_mod_conf_load};
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf;
	static const char text[] = "load_module t_short;\npool a { listen 1; worker t_short { good_number 7; } }";
	/* no protocol: that alone is missing */
	assert_int_equal(lc_conf_parse(&conf, text, sizeof(text) - 1, "t", &o, err), -EINVAL);
	assert_string_equal(
	    lc_err_text(err),
	    "t:2: pool a has no protocol to speak, expected at the main level: load_module PROTOCOL;\n");
	lc_err_free(err);
}

static void
test_scan(void **state)
{
	char **names = lc_mod_installed(0);
	int good = 0, bad = 0;

	assert_non_null(names);
	for (char **p = names; *p; p++) {
		good += !strcmp(*p, "t_good");
		bad += !strcmp(*p, "t_magic") || !strcmp(*p, "t_needs");
	}
	free(names);
	assert_int_equal(good, 1);
	assert_int_equal(bad, 0);
	assert_null(lc_mod_find("t_good")); /* nothing stays here */
	names = lc_mod_installed(LC_KIND_LOG_SINK);
	assert_non_null(names);
	assert_null(names[0]);
	free(names);
	assert_string_equal(lc_mod_conf_whose(NULL, "good_list"), "t_good");
	assert_string_equal(lc_mod_conf_whose(NULL, "good_lis"), "");
}

static void
test_good(void **state)
{
	static const char table[16];
	struct lc_mod *mod, *again;
	char path[4096];

	assert_int_equal(lc_mod_load(&mod, "t_good", msg, sizeof(msg)), -ENOSYS);
	assert_string_equal(
	    plain(), "module \"t_good\" 1.2 (@/t_good.so) needs the host table \"test_table\" version 2, which " OURS
		     " does not offer: rebuild the module, or update licorne");
	lc_host_register("test_table", 2, table, sizeof(table));
	assert_int_equal(lc_mod_load(&mod, "t_good", msg, sizeof(msg)), 0);
	assert_string_equal(mod->desc.name, "t_good");
	assert_string_equal(mod->dirset.owner, "t_good");
	assert_int_equal(mod->dirset.kinds, 1u << LC_KIND_WORKER);
	assert_ptr_equal(lc_mod_find("t_good"), mod);
	assert_non_null(lc_mod_iface(mod, LC_KIND_WORKER, LC_WORKER_VERSION));
	assert_null(lc_mod_iface(mod, LC_KIND_WORKER, LC_WORKER_VERSION + 1));
	assert_null(lc_mod_iface(mod, LC_KIND_PROTOCOL, 1));
	/* once more, by name and by path, is the same module; a copy elsewhere is refused */
	assert_int_equal(lc_mod_load(&again, "t_good", msg, sizeof(msg)), 0);
	assert_ptr_equal(again, mod);
	snprintf(path, sizeof(path), "%s/../modules/t_good.so", folder);
	assert_int_equal(lc_mod_load(&again, path, msg, sizeof(msg)), 0);
	assert_ptr_equal(again, mod);
	assert_int_equal(load_file("t_twice"), -EEXIST);
	assert_string_equal(
	    plain(),
	    "module \"t_good\" is already loaded from \"@/t_good.so\", refused from \"@/t_twice.so\": load one of "
	    "the two");
	/* what needs another is loaded after it */
	assert_ptr_equal(lc_mod_first()->next, mod);
	assert_int_equal(mod->index, 1);
}

static void
test_conf(void **state)
{
	static const char text[] = "load_module t_good;\nload_module nowhere_;\nload_module t_magic;\ngood_number x;\n";
	struct lc_conf_opts o = {.load_module = lc_mod_conf_load, .whose = lc_mod_conf_whose};
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf;

	assert_int_equal(lc_conf_parse(&conf, text, sizeof(text) - 1, "t", &o, err), -EINVAL);
	const char *all = lc_err_text(err);
	assert_non_null(strstr(all, "t:2: module \"nowhere_\" was not found, looked in: "));
	assert_non_null(strstr(all, "t:3: \""));
	assert_non_null(strstr(all, "t:4: good_number: \"x\" is no number, expected a number\n"));
	lc_err_free(err);
}

static int
set_up(void **state)
{
	return mkdtemp(other) ? 0 : -1;
}

static int
tear_down(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", other);
	return system(cmd);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_refusals), cmocka_unit_test(test_files), cmocka_unit_test(test_names),
	    cmocka_unit_test(test_scan),     cmocka_unit_test(test_short), cmocka_unit_test(test_good),
	    cmocka_unit_test(test_conf),
	};

	if (argc != 2 || !realpath(argv[1], folder))
		return 2;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
