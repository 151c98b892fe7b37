/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_conf_parts.c - listener addresses; the number of CPUs in invented /proc and cgroup trees; and a configuration
 * read with each of its allocations failing in turn.
 */
#include "conf_fake.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void *failing_malloc(size_t n); /* LC_CONF_MALLOC */
static long malloc_left = -1;

void *
failing_malloc(size_t n)
{
	if (malloc_left == 0)
		return NULL;
	if (malloc_left > 0)
		malloc_left--;
	return malloc(n);
}

/* ---- addresses ---- */

static void
test_addresses(void **state)
{
	static const struct {
		const char *text, *print;
		int family;
	} good[] = {
	    {"8000", "0.0.0.0:8000", AF_INET},           {"0", "0.0.0.0:0", AF_INET},
	    {"*:8000", "0.0.0.0:8000", AF_INET},         {"127.0.0.1:65535", "127.0.0.1:65535", AF_INET},
	    {"[::1]:80", "[::1]:80", AF_INET6},          {"[::]:0", "[::]:0", AF_INET6},
	    {"[0:0::1]:80", "[::1]:80", AF_INET6},       {"localhost:81", "127.0.0.1:81", AF_INET},
	    {"unix:/tmp/x y", "unix:/tmp/x y", AF_UNIX}, {"unix:rel", "unix:rel", AF_UNIX},
	};
	static const char *const bad[][2] = {
	    {"", "the address has no port, expected HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"},
	    {"localhost", "the address has no port, expected HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"},
	    {":80", "the host is malformed, expected HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"},
	    {"a b:80", "the host is malformed, expected HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"},
	    {"65536", "the port is out of range, expected 0 to 65535"},
	    {"123456", "the port is no number, expected 0 to 65535"},
	    {"127.0.0.1:", "the port is no number, expected 0 to 65535"},
	    {"127.0.0.1:http", "the port is no number, expected 0 to 65535"},
	    {"127.0.0.1:-1", "the port is no number, expected 0 to 65535"},
	    {"127.0.0.256:1", "the host is no IPv4 address, expected four numbers of 0 to 255"},
	    {"127.1:1", "the host is no IPv4 address, expected four numbers of 0 to 255"},
	    {"::1:80", "an IPv6 address stands without brackets, expected [IPV6]:PORT"},
	    {"[::1]", "the address is malformed, expected [IPV6]:PORT"},
	    {"[::1", "the address is malformed, expected [IPV6]:PORT"},
	    {"[]:1", "the host is malformed, expected HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"},
	    {"[1.2.3.4]:1", "the address between the brackets is no IPv6 address, expected one such as [::1]:8000"},
	    {"unix:", "the address has no path, expected unix:/PATH"},
	    {"unix:@x", "the address has no path, expected unix:/PATH"},
	};
	struct lc_addr a;
	const char *why;
	char buf[160], path[160];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(lc_addr_parse(&a, good[i].text, &why), 0);
		assert_int_equal(a.family, good[i].family);
		assert_int_equal(lc_addr_print(&a, buf, sizeof(buf)), 0);
		assert_string_equal(buf, good[i].print);
		assert_int_equal(lc_addr_print(&a, buf, strlen(good[i].print)), -ENOSPC);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		assert_int_equal(lc_addr_parse(&a, bad[i][0], &why), -EINVAL);
		assert_string_equal(why, bad[i][1]);
	}
	memset(path, 'x', sizeof(path));
	memcpy(path, "unix:/", 6);
	path[5 + 107] = 0;
	assert_int_equal(lc_addr_parse(&a, path, &why), 0);
	assert_int_equal(lc_addr_print(&a, buf, sizeof(buf)), 0);
	assert_string_equal(buf, path);
	path[5 + 107] = 'x';
	path[5 + 108] = 0;
	assert_int_equal(lc_addr_parse(&a, path, &why), -EINVAL);
	assert_string_equal(why, "the path is too long for a socket, expected at most 107 bytes");
	assert_int_equal(lc_addr_parse(&a, "no-such-host.invalid:1", &why), -EINVAL);
}

/* ---- CPUs ---- */

static char root[] = "/tmp/lc-cpus-XXXXXX";

static void
put(const char *name, const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		mkdir(path, 0700);
	}
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static uint32_t
affinity(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	return (uint32_t)CPU_COUNT(&set);
}

static void
expect(uint32_t n)
{
	uint32_t all = affinity();
	assert_int_equal(lc_conf_cpus(root), n && n < all ? n : all);
}

#define MOUNT2 "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static void
test_cpus(void **state)
{
	/* one CPU of quota can be told apart on any machine that has two */
	expect(0); /* nothing to read limits nothing */
	put("proc/self/cgroup", "0::/a.slice/b.scope\n");
	expect(0);
	put("proc/self/mountinfo", "24 1 0:21 / /proc rw - proc proc rw\n" MOUNT2);
	expect(0);
	put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "max 100000\n");
	expect(0);
	put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "100000 100000\n");
	expect(1);
	put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "110000 100000\n"); /* rounded up */
	expect(2);
	put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "50000 100000\n");
	expect(1);
	put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "6400000 100000\n");
	expect(64);
	put("sys/fs/cgroup/a.slice/cpu.max", "100000 100000\n"); /* the smallest on the way up */
	expect(1);
	put("sys/fs/cgroup/a.slice/cpu.max", "max 100000\n");
	put("sys/fs/cgroup/cpu.max", "20000 100000\n");
	expect(1);
	put("sys/fs/cgroup/cpu.max", "garbage\n");
	expect(0);
	put("sys/fs/cgroup/cpu.max", "-5 0\n");
	expect(0);
	/* a container without a cgroup namespace: the mount shows our own cgroup at its top */
	put("proc/self/cgroup", "0::/docker/0123/inner\n");
	put("proc/self/mountinfo", "30 1 0:26 /docker/0123 /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n");
	put("mnt/my groups/inner/cpu.max", "max 100000\n");
	put("mnt/my groups/cpu.max", "100000 100000\n");
	expect(1);
	put("proc/self/cgroup", "0::/docker/01234\n"); /* not below that top: only the top counts */
	expect(1);
	put("mnt/my groups/cpu.max", "max 100000\n");
	expect(0);
	/* version 1 */
	put("proc/self/cgroup", "5:memory:/m\n4:cpuset:/s\n3:cpu,cpuacct:/x/y\n1:name=systemd:/\n");
	put("proc/self/mountinfo", "31 1 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
				   "32 1 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
	expect(0);
	put("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
	put("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
	expect(0);
	put("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "100000\n");
	expect(0); /* a quota without its period */
	put("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
	expect(1);
	/* both: the stricter */
	put("proc/self/cgroup", "3:cpu,cpuacct:/x/y\n0::/z\n");
	put("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
	put("proc/self/mountinfo", MOUNT2 "32 1 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
	put("sys/fs/cgroup/cpu.max", "max 100000\n");
	put("sys/fs/cgroup/z/cpu.max", "100000 100000\n");
	expect(1);
	put("proc/self/cgroup", "0::/../..\n:::\n0:\n\n");
	put("proc/self/mountinfo", " - \n - cgroup2\nx y - cgroup2 a b\n");
	expect(0);
}

static void
test_processes(void **state)
{
	struct lc_conf_pool p = {.processes = "auto"};

	assert_in_range(lc_conf_processes(&p), 1, affinity());
	p.processes = "7";
	assert_int_equal(lc_conf_processes(&p), 7);
}

/* ---- memory ---- */

static void
test_no_memory(void **state)
{
	static const char text[] = "load_module proto; load_module app;\n"
				   "pool a { listen 1; worker app { app a:b; env A B; path x y; } }\n";
	struct lc_conf_opts o = {.prefix = "/base", .load_module = fake_load};
	struct lc_conf *conf = NULL;
	char path[256];
	long n;

	put("big.d/a.conf", text);
	snprintf(path, sizeof(path), "%s/oom.conf", root);
	put("oom.conf", "include big.d/*.conf;\n");
	for (n = 0; n < 1000; n++) {
		struct lc_err *err = lc_err_new();
		malloc_left = n;
		int r = lc_conf_load(&conf, path, &o, err);
		malloc_left = -1;
		if (r == 0) {
			lc_err_free(err);
			break;
		}
		/* the rows' own check reports it as a mistake of the module */
		assert_true(r == -ENOMEM || r == -EINVAL);
		assert_non_null(strstr(lc_err_text(err), "out of memory"));
		lc_err_free(err);
	}
	assert_in_range(n, 3, 999);
	lc_conf_free(conf);
}

static int
set_up(void **state)
{
	return mkdtemp(root) ? 0 : -1;
}

static int
tear_down(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_cpus),
	    cmocka_unit_test(test_processes),
	    cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
