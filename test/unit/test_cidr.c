/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_cidr.c - addresses, networks, and who is in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "config/cidr.h"

static struct lc_ip
ip(const char *s)
{
	struct lc_ip a;

	assert_int_equal(lc_ip_parse(&a, s, strlen(s)), 0);
	return a;
}

static void
test_addresses(void **state)
{
	static const char *const same[][2] = {
	    {"192.0.2.1", "192.0.2.1"},
	    {"::ffff:192.0.2.1", "192.0.2.1"},
	    {"::ffff:c000:201", "192.0.2.1"},
	    {"2001:DB8:0:0::1", "2001:db8::1"},
	    {"::", "::"},
	    {"::1", "::1"},
	    {"0.0.0.0", "0.0.0.0"},
	    {"255.255.255.255", "255.255.255.255"},
	};
	static const char *const bad[] = {"",     "1.2.3",        "1.2.3.4.5",  "1.2.3.256", "01.2.3.4", "1.2.3.4 ",
					  " ::1", "[::1]",        "::1%eth0",   ":::",       "1::2::3",  "g::",
					  "1",    "127.0.0.1:80", "0x7f.0.0.1", "1.2.3.4/8", "12345::",  "unix:"};
	char text[LC_IP_TEXT];

	(void)state;
	for (size_t k = 0; k < sizeof(same) / sizeof(same[0]); k++) {
		assert_int_equal(lc_ip_print(ip(same[k][0]), text), strlen(same[k][1]));
		assert_string_equal(text, same[k][1]);
	}
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		struct lc_ip a;
		assert_int_equal(lc_ip_parse(&a, bad[k], strlen(bad[k])), -EINVAL);
	}
	struct lc_ip a;
	assert_int_equal(lc_ip_parse(&a, "1.2.3.4\0x", 9), -EINVAL);
	char much[300];
	memset(much, '1', sizeof(much));
	assert_int_equal(lc_ip_parse(&a, much, sizeof(much)), -EINVAL);
	assert_int_equal(lc_ip_parse(&a, "1.2.3.45", 7), 0); /* n bytes and no more */
	lc_ip_print(a, text);
	assert_string_equal(text, "1.2.3.4");
}

static void
test_networks(void **state)
{
	static const struct {
		const char *net, *in, *out;
	} t[] = {
	    {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
	    {"10.0.0.0/8", "::ffff:10.1.2.3", "9.255.255.255"},
	    {"::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"},
	    {"192.0.2.1", "192.0.2.1", "192.0.2.0"},
	    {"192.0.2.2/31", "192.0.2.3", "192.0.2.4"},
	    {"0.0.0.0/0", "255.1.2.3", "2001:db8::1"},
	    {"::/0", "2001:db8::1", "10.0.0.1"},
	    {"::/0", "::1", "::ffff:10.0.0.1"},
	    {"::/96", "::1.2.3.4", "1.2.3.4"},
	    {"2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
	    {"2001:db8:0:1::/64", "2001:db8:0:1:8000::", "2001:db8:0:2::"},
	    {"2001:db8::8000:0:0:0/65", "2001:db8::ffff:0:0:0", "2001:db8::7fff:0:0:0"},
	    {"2001:db8::1", "2001:db8::1", "2001:db8::2"},
	    {"::1/128", "::1", "127.0.0.1"},
	};
	struct lc_nets *nets;
	char why[256];

	(void)state;
	for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
		struct lc_list l = {.v = &t[k].net, .n = 1};
		assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), 0);
		assert_true(lc_nets_hold(nets, ip(t[k].in)));
		assert_false(lc_nets_hold(nets, ip(t[k].out)));
		assert_true(lc_nets_hold_peer(nets, (struct lc_str){t[k].in, strlen(t[k].in)}));
		assert_false(lc_nets_hold_peer(nets, (struct lc_str){"", 0}));
		free(nets);
	}
	/* each length of a prefix, by its last bit and the first behind it */
	for (int bits = 1; bits <= 32; bits++) {
		char net[32], in[32], out[32];
		uint32_t v = 0xffffffffu << (32 - bits), o = v ^ (1u << (32 - bits));
		snprintf(net, sizeof(net), "%u.%u.%u.%u/%d", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255, bits);
		snprintf(in, sizeof(in), "255.255.255.255");
		snprintf(out, sizeof(out), "%u.%u.%u.%u", o >> 24, o >> 16 & 255, o >> 8 & 255, o & 255);
		const char *words[] = {net};
		struct lc_list l = {.v = words, .n = 1};
		assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), 0);
		assert_true(lc_nets_hold(nets, ip(in)));
		assert_false(lc_nets_hold(nets, ip(out)));
		free(nets);
	}
}

static void
test_lists(void **state)
{
	static const char *const words[] = {"unix:", "10.0.0.0/8", "2001:db8::/32"}, *const all[] = {"*"};
	struct lc_list l = {.v = words, .n = 3};
	struct lc_nets *nets;
	char why[256];

	(void)state;
	assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), 0);
	assert_true(lc_nets_hold_peer(nets, (struct lc_str){"", 0}));
	assert_true(lc_nets_hold_peer(nets, (struct lc_str){"10.1.1.1", 8}));
	assert_true(lc_nets_hold_peer(nets, (struct lc_str){"2001:db8::5", 11}));
	assert_false(lc_nets_hold_peer(nets, (struct lc_str){"127.0.0.1", 9}));
	assert_false(lc_nets_hold_peer(nets, (struct lc_str){"what", 4}));
	free(nets);
	l = (struct lc_list){.v = all, .n = 1};
	assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), 0);
	assert_true(lc_nets_hold_peer(nets, (struct lc_str){"", 0}));
	assert_true(lc_nets_hold(nets, ip("::")));
	free(nets);
	l = (struct lc_list){0};
	assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), 0);
	assert_false(lc_nets_hold_peer(nets, (struct lc_str){"", 0}));
	assert_false(lc_nets_hold(nets, ip("127.0.0.1")));
	free(nets);
}

static void
test_mistakes(void **state)
{
	static const struct {
		const char *net, *why;
	} t[] = {
	    {"10.0.0.1/8", "\"10.0.0.1/8\" has bits set behind its prefix, expected 10.0.0.0/8 or another length"},
	    {"2001:db8::1/32",
	     "\"2001:db8::1/32\" has bits set behind its prefix, expected 2001:db8::/32 or another length"},
	    {"10.0.0.0/33", "\"10.0.0.0/33\" has no valid length of its prefix, expected 0 to 32 after the \"/\""},
	    {"::/129", "\"::/129\" has no valid length of its prefix, expected 0 to 128 after the \"/\""},
	    {"10.0.0.0/", "\"10.0.0.0/\" has no valid length of its prefix, expected 0 to 32 after the \"/\""},
	    {"10.0.0.0/08", "\"10.0.0.0/08\" has no valid length of its prefix, expected 0 to 32 after the \"/\""},
	    {"10.0.0.0/-1", "\"10.0.0.0/-1\" has no valid length of its prefix, expected 0 to 32 after the \"/\""},
	    {"example.org",
	     "\"example.org\" is no address, expected one such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"},
	    {"", "\"\" is no address, expected one such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"},
	    {"10.0.0.0,8", "\"10.0.0.0,8\" is no address, expected one such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"},
	};
	struct lc_nets *nets;
	char why[256];

	(void)state;
	for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
		struct lc_list l = {.v = &t[k].net, .n = 1};
		assert_int_equal(lc_nets_parse(&nets, &l, why, sizeof(why)), -EINVAL);
		assert_string_equal(why, t[k].why);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_networks),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
