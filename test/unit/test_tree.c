/* SPDX-License-Identifier: BSD-2-Clause */
/* test_tree.c - files that change below folders: what counts, what does not, and what is told.  inotify queues an event
 * within the call that causes it, so nothing here waits; the clock is ours. */
#include "imsg_util.h"

#include <ftw.h>
#include <limits.h>
#include <time.h>

#include "arbiter/tree.h"
#include "log/log.h"

static char home[] = "/tmp/licorne-tree-XXXXXX";
static struct lc__tree *tree;
static int64_t now;

static void
make(const char *path)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
}

static void
folder(const char *path)
{
	assert_int_equal(mkdir(path, 0755), 0);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
open_tree(const char *more, int64_t since)
{
	char text[8192];

	snprintf(text, sizeof(text), "tree %s\n%smatch *.x\nskip .*\nskip dull\nskip-with env.cfg\n", home, more);
	assert_int_equal(lc__tree_open(&tree, text, strlen(text), since), 0);
}

static int
setup(void **state)
{
	strcpy(home + sizeof(home) - 7, "XXXXXX");
	now = 1000;
	tree = NULL;
	return mkdtemp(home) && chdir(home) == 0 ? 0 : -1;
}

static int
teardown(void **state)
{
	lc__tree_close(tree);
	return chdir("/") == 0 ? nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS) : -1;
}

/* Everything that happened until now is exactly this. */
static void
expect(const char *names)
{
	char buf[1024];

	assert_int_equal(lc__tree_read(tree, now), 0);
	assert_int_equal(lc__tree_due(tree, now), *names ? LC__TREE_QUIET : -1);
	lc__tree_take(tree, buf, sizeof(buf));
	assert_string_equal(buf, names);
	assert_int_equal(lc__tree_due(tree, now), -1);
}

static void
test_files(void **state)
{
	int fd;

	folder("shop");
	make("shop/a.x");
	make("b.x");
	open_tree("", INT64_MAX);
	expect("");
	make("b.x");
	make("shop/a.x");
	make("b.x");
	expect("b.x, shop/a.x");
	/* not ours */
	make("b.y");
	make(".#b.x");
	assert_int_equal(chmod("b.x", 0600), 0);
	fd = open("b.x", O_RDONLY);
	close(fd);
	expect("");
	/* a new one, which counts when it is written */
	fd = open("c.x", O_WRONLY | O_CREAT, 0600);
	expect("");
	close(fd);
	expect("c.x");
	/* as editors do it */
	make("b.x.tmp");
	expect("");
	assert_int_equal(rename("b.x.tmp", "b.x"), 0);
	expect("b.x");
	assert_int_equal(rename("b.x", "b.x~"), 0);
	make("b.x");
	expect("b.x");
	/* links, and the end */
	assert_int_equal(symlink("b.x", "d.x"), 0);
	assert_int_equal(link("b.x", "e.x"), 0);
	expect("d.x, e.x");
	assert_int_equal(unlink("d.x"), 0);
	expect("d.x");
}

static void
test_folders(void **state)
{
	folder("shop");
	folder("shop/old");
	make("shop/old/a.x");
	folder("data");
	open_tree("", INT64_MAX);
	assert_int_equal(lc__tree_dirs(tree), 4);
	/* one that appears, with what is in it by the time that we hear of it */
	folder("new");
	folder("new/deep");
	make("new/deep/n.x");
	expect("new/deep/n.x");
	assert_int_equal(lc__tree_dirs(tree), 6);
	make("new/deep/n.x");
	expect("new/deep/n.x");
	/* one without anything that counts */
	folder("tmp");
	make("tmp/t");
	assert_int_equal(unlink("tmp/t"), 0);
	assert_int_equal(rmdir("tmp"), 0);
	expect("");
	assert_int_equal(rename("data", "data2"), 0);
	expect("");
	/* moved: the old name is gone, the new one is followed */
	assert_int_equal(rename("shop", "store"), 0);
	expect("shop, store/old/a.x");
	make("store/old/a.x");
	expect("store/old/a.x");
	assert_int_equal(lc__tree_dirs(tree), 6);
	/* out of sight */
	assert_int_equal(rename("store", ".store"), 0);
	expect("store");
	make(".store/old/a.x");
	expect("");
	assert_int_equal(lc__tree_dirs(tree), 4);
}

static void
test_left_out(void **state)
{
	folder(".git");
	folder("dull");
	folder("env");
	make("env/env.cfg");
	folder("env/lib");
	make("env.cfg"); /* the first folder is never left out */
	assert_int_equal(symlink("/", "root"), 0);
	open_tree("", INT64_MAX);
	assert_int_equal(lc__tree_dirs(tree), 1);
	make(".git/a.x");
	make("dull/a.x");
	make("env/lib/a.x");
	expect("");
	/* one that becomes such while it is watched */
	folder("later");
	folder("later/lib");
	expect("");
	assert_int_equal(lc__tree_dirs(tree), 3);
	make("later/env.cfg");
	make("later/lib/a.x");
	expect("");
	assert_int_equal(lc__tree_dirs(tree), 1);
	make("env.cfg");
	make("a.x");
	expect("a.x");
}

static void
test_single_files(void **state)
{
	char more[256];

	folder(".conf");
	make(".conf/site.ini");
	snprintf(more, sizeof(more), "file %s/.conf/site.ini\nfile %s/nowhere/at.all\n", home, home);
	open_tree(more, INT64_MAX);
	make(".conf/other.ini");
	make(".conf/a.x");
	folder(".conf/below");
	make(".conf/below/a.x");
	expect("");
	make(".conf/site.ini");
	expect(".conf/site.ini");
}

/* What changed before it is watched, and after the moment that counts. */
static void
test_since(void **state)
{
	struct timespec ts;
	struct stat st;

	make("old.x");
	assert_int_equal(lstat("old.x", &st), 0);
	do { /* the file system's clock has ticks */
		make("new.x");
		assert_int_equal(lstat("new.x", &st), 0);
		ts = st.st_ctim;
		assert_int_equal(lstat("old.x", &st), 0);
	} while (ts.tv_sec == st.st_ctim.tv_sec && ts.tv_nsec == st.st_ctim.tv_nsec);
	open_tree("", (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
	now = 0;
	assert_int_equal(lc__tree_due(tree, now), LC__TREE_QUIET);
	expect("new.x");
}

static void
test_what_is_told(void **state)
{
	char name[64], buf[1024];

	open_tree("", INT64_MAX);
	for (int i = 1; i <= 4; i++) {
		snprintf(name, sizeof(name), "%d.x", i);
		make(name);
	}
	expect("1.x, 2.x, 3.x, 4.x");
	for (int i = 1; i <= 9; i++) {
		snprintf(name, sizeof(name), "%d.x", i);
		make(name);
	}
	expect("1.x, 2.x, 3.x and 6 more");
	/* told when it is quiet, but not too late */
	make("1.x");
	assert_int_equal(lc__tree_read(tree, now), 0);
	for (int64_t end = now + LC__TREE_LONG; now < end; now += LC__TREE_QUIET / 2) {
		assert_int_not_equal(lc__tree_due(tree, now), 0);
		make("1.x");
		assert_int_equal(lc__tree_read(tree, now), 0);
	}
	assert_int_equal(lc__tree_due(tree, now), 0);
	lc__tree_take(tree, buf, sizeof(buf));
	assert_string_equal(buf, "1.x");
	/* more than are told apart */
	for (unsigned i = 0; i < LC__TREE_NAMES + 10; i++) {
		snprintf(name, sizeof(name), "%u.x", i);
		make(name);
		assert_int_equal(lc__tree_read(tree, now), 0);
	}
	expect("0.x, 1.x, 2.x and at least 509 more");
}

/* Neither the folders nor the names in the log can grow without end. */
static void
test_limit(void **state)
{
	char name[32];

	open_tree("", INT64_MAX);
	for (unsigned i = 0; i < LC__TREE_DIRS + 5; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		folder(name);
	}
	lc__tree_close(tree);
	tree = NULL;
	lc_log_level(LC_LOG_ERROR);
	open_tree("", INT64_MAX);
	lc_log_level(LC_LOG_NOTICE);
	assert_int_equal(lc__tree_dirs(tree), LC__TREE_DIRS);
	make("a.x");
	expect("a.x");
}

static void
test_overflow(void **state)
{
	char buf[1024], name[32];
	unsigned long most = 0;
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &most), 1);
	fclose(f);
	open_tree("", INT64_MAX);
	for (unsigned long i = 0; i < most + 10; i++) { /* one event each, as long as neighbours differ */
		snprintf(name, sizeof(name), "%lu.y", i % 2);
		make(name);
	}
	folder("late"); /* the queue does not hold it any more */
	while (lc__tree_dirs(tree) == 1)
		assert_int_equal(lc__tree_read(tree, now), 0);
	assert_int_equal(lc__tree_due(tree, now), LC__TREE_QUIET);
	lc__tree_take(tree, buf, sizeof(buf));
	assert_string_equal(buf, home);
	make("late/a.x");
	expect("late/a.x");
}

static void
test_bad_text(void **state)
{
	static const char *const wrong[] = {"tree", "tree relative", "file relative", "watch /tmp", " /tmp", "match"};

	lc_log_level(LC_LOG_CRIT);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(lc__tree_open(&tree, wrong[i], strlen(wrong[i]), 0), -EINVAL);
	lc_log_level(LC_LOG_NOTICE);
	assert_int_equal(lc__tree_open(&tree, "\n\n", 2, 0), 0);
	assert_int_equal(lc__tree_dirs(tree), 0);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_files),        T(test_folders), T(test_left_out), T(test_single_files), T(test_since),
	    T(test_what_is_told), T(test_limit),   T(test_overflow), T(test_bad_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
