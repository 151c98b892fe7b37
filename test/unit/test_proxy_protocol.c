/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_proxy_protocol.c - headers of both versions: what they say, what is refused, and the same at every cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../modules/proxy_protocol/header.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\0\2\1\xc6\x33\x64\2\x1f\x90\1\xbb" /* 192.0.2.1:8080 to 198.51.100.2:443 */
#define V6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2\xff\xff\0\0"
#define ZERO108                                                                                                        \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

struct row {
	const char *in;
	size_t n;
	const char *says; /* "kind source port destination port"; or the reason */
};
#define ROW(bytes, text)                       \
	{                                      \
		bytes, sizeof(bytes) - 1, text \
	}

static const struct row good[] = {
    ROW("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", "1 192.0.2.1 8080 198.51.100.2 443"),
    ROW("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "1 255.255.255.255 65535 255.255.255.255 65535"),
    ROW("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "1 0.0.0.0 0 0.0.0.0 0"),
    ROW("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "1 2001:db8::1 1 ::1 2"),
    ROW("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	"1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"),
    ROW("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "1 192.0.2.1 1 ::1 2"),
    ROW("PROXY UNKNOWN\r\n", "0"),
    ROW("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	"0"),
    ROW("PROXY UNKNOWN what ever  \x01\r\n", "0"),
    ROW(SIG "\x21\x11\0\x0c" V4, "1 192.0.2.1 8080 198.51.100.2 443"),
    ROW(SIG "\x21\x21\0\x24" V6, "1 2001:db8::1 65535 2001:db8::2 0"),
    ROW(SIG "\x21\x31\0\xd8" ZERO108 ZERO108, "2"),
    ROW(SIG "\x21\0\0\0", "0"),
    ROW(SIG "\x20\0\0\0", "0"),
    ROW(SIG "\x20\x11\0\x0c" V4, "0"),          /* LOCAL: the family is not looked at */
    ROW(SIG "\x20\x99\0\x03\xff\xff\xff", "0"), /* nor what follows */
    ROW(SIG "\x21\x11\0\x13" V4 "\4\0\4none", "1 192.0.2.1 8080 198.51.100.2 443"),
    ROW(SIG "\x21\x11\0\x0f" V4 "\4\0\0", "1 192.0.2.1 8080 198.51.100.2 443"),
    ROW(SIG "\x21\x11\0\x15" V4 "\xea\0\6\1vpce0", "1 192.0.2.1 8080 198.51.100.2 443"),
};

static const struct row bad[] = {
    ROW("GET / HTTP/1.1\r\n\r\n", "no PROXY protocol header"),
    ROW("P", NULL),
    ROW("PROXZ", "no PROXY protocol header"),
    ROW("PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n", "no PROXY protocol header"),
    ROW("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "no PROXY protocol header"),
    ROW("\x16\3\1", "no PROXY protocol header"),
    ROW("\r\n\r\n\0\r\nQUIZ\n", "no PROXY protocol header"),
    ROW("PROXY \r\n", "no protocol after \"PROXY\""),
    ROW("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "no protocol after \"PROXY\""),
    ROW("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "a protocol other than TCP4, TCP6 and UNKNOWN"),
    ROW("PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", "a protocol other than TCP4, TCP6 and UNKNOWN"),
    ROW("PROXY UNKNOWNS\r\n", "a protocol other than TCP4, TCP6 and UNKNOWN"),
    ROW("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", "a protocol other than TCP4, TCP6 and UNKNOWN"),
    ROW("PROXY TCP4\r\n", "an address that is none"),
    ROW("PROXY TCP4 ::1 ::1 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 1.1.1.1\0x 2.2.2.2 1 2\r\n", "an address that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 4294967297 2\r\n", "a port that is none"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", "something behind the ports"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", "something behind the ports"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "a line that does not end in CR LF"),
    ROW("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rx", "a line that does not end in CR LF"),
    ROW("PROXY UNKNOWN \r \r\n", "a line that does not end in CR LF"),
    ROW("PROXY UNKNOWN "
	"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\r\n",
	"a line longer than 107 bytes"),
    ROW(SIG "\x11\x11\0\x0c" V4, "another version than 2 in a binary header"),
    ROW(SIG "\x31\x11\0\x0c" V4, "another version than 2 in a binary header"),
    ROW(SIG "\x22\x11\0\x0c" V4, "a command other than LOCAL and PROXY"),
    ROW(SIG "\x2f\x11\0\x0c" V4, "a command other than LOCAL and PROXY"),
    ROW(SIG "\x21\x12\0\x0c" V4, "a family or protocol that is no stream over IPv4, IPv6 or UNIX"),
    ROW(SIG "\x21\x10\0\x0c" V4, "a family or protocol that is no stream over IPv4, IPv6 or UNIX"),
    ROW(SIG "\x21\x41\0\x0c" V4, "a family or protocol that is no stream over IPv4, IPv6 or UNIX"),
    ROW(SIG "\x21\x01\0\x0c" V4, "a family or protocol that is no stream over IPv4, IPv6 or UNIX"),
    ROW(SIG "\x21\x11\0\x0b" V4, "a header too short for its addresses"),
    ROW(SIG "\x21\x11\0\0", "a header too short for its addresses"),
    ROW(SIG "\x21\x21\0\x23" V6, "a header too short for its addresses"),
    ROW(SIG "\x21\x31\0\xd7" ZERO108 ZERO108, "a header too short for its addresses"),
    ROW(SIG "\x21\x11\x0f\xf1" V4, "a header longer than 4096 bytes"),
    ROW(SIG "\x20\x00\xff\xff" V4, "a header longer than 4096 bytes"),
    ROW(SIG "\x21\x11\0\x0d" V4 "\4", "a TLV that is cut short"),
    ROW(SIG "\x21\x11\0\x0e" V4 "\4\0", "a TLV that is cut short"),
    ROW(SIG "\x21\x11\0\x10" V4 "\4\0\2x", "a TLV longer than the header"),
    ROW(SIG "\x21\0\0\x03\4\xff\xff", "a TLV longer than the header"),
    ROW(SIG "\x21\x11\0\x12" V4 "\3\0\3abc", "a checksum that is none"),
    ROW(SIG "\x21\x11\0\x13" V4 "\3\0\4\0\0\0\0", "a checksum that does not fit"),
};

static void
show(char *to, size_t n, const struct pp_header *h)
{
	char src[LC_IP_TEXT], dst[LC_IP_TEXT];

	if (h->kind != PP_IP) {
		snprintf(to, n, "%u", h->kind);
		return;
	}
	lc_ip_print(h->src, src);
	lc_ip_print(h->dst, dst);
	snprintf(to, n, "%u %s %u %s %u", h->kind, src, h->src_port, dst, h->dst_port);
}

/* The first k bytes of the row in a block of just that size, with `more` bytes of something else behind them. */
static int
parse(struct pp_header *h, const struct row *r, size_t k, size_t more, const char **why)
{
	uint8_t *p = malloc(k + more + 1);

	assert_non_null(p);
	memcpy(p, r->in, k);
	memset(p + k, 'G', more);
	int got = pp_parse(h, p, k + more, why);
	free(p);
	return got;
}

static void
test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct row *r = &good[i];
		struct pp_header h;
		const char *why = "?";
		char text[200];
		for (size_t k = 1; k < r->n; k++)
			assert_int_equal(parse(&h, r, k, 0, &why), 0);
		for (size_t more = 0; more < 20; more++) {
			memset(&h, 0xaa, sizeof(h));
			assert_int_equal(parse(&h, r, r->n, more, &why), (int)r->n);
			show(text, sizeof(text), &h);
			assert_string_equal(text, r->says);
		}
	}
}

static void
test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct row *r = &bad[i];
		struct pp_header h;
		const char *why = NULL;
		int got = 0;
		size_t k = 1;
		for (; k <= r->n && (got = parse(&h, r, k, 0, &why)) == 0; k++)
			;
		if (!r->says) { /* merely incomplete */
			assert_int_equal(got, 0);
			continue;
		}
		assert_int_equal(got, -1);
		assert_string_equal(why, r->says);
		for (; k <= r->n; k++) { /* and stays wrong */
			assert_int_equal(parse(&h, r, k, 0, &why), -1);
			assert_string_equal(why, r->says);
		}
	}
}

static void
test_checksum(void **state)
{
	struct row r = {.n = 16 + 12 + 7 + 7};
	char in[] = SIG "\x21\x11\0\x1a" V4 "\3\0\4\0\0\0\0\4\0\4none";
	struct pp_header h;
	const char *why = "";

	(void)state;
	/* RFC 3720 B.4 */
	uint8_t b[32] = {0};
	assert_int_equal(pp_crc32c(0, b, 32), 0x8a9136aa);
	memset(b, 0xff, 32);
	assert_int_equal(pp_crc32c(0, b, 32), 0x62a8ab43);
	for (uint8_t k = 0; k < 32; k++)
		b[k] = k;
	assert_int_equal(pp_crc32c(0, b, 32), 0x46dd794e);
	r.in = in;
	assert_int_equal(parse(&h, &r, r.n, 0, &why), -1);
	assert_string_equal(why, "a checksum that does not fit");
	uint32_t crc = pp_crc32c(0, (uint8_t *)in, r.n);
	for (int k = 0; k < 4; k++)
		in[31 + k] = (char)(crc >> (24 - 8 * k));
	assert_int_equal(parse(&h, &r, r.n, 5, &why), (int)r.n);
	/* any one bit that is not right; but for the TLV's type, without which there is no checksum */
	for (size_t k = 0; k < r.n * 8; k++) {
		if (k / 8 == 28)
			continue;
		in[k / 8] ^= (char)(1 << k % 8);
		assert_int_not_equal(parse(&h, &r, r.n, 0, &why) == (int)r.n && h.kind == PP_IP, 1);
		in[k / 8] ^= (char)(1 << k % 8);
	}
	/* a second one, even the same, is one too many */
	char twice[] = SIG "\x21\0\0\x0e\3\0\4\0\0\0\0\3\0\4\0\0\0\0";
	struct row t = {.in = twice, .n = 30};
	assert_int_equal(parse(&h, &t, 30, 0, &why), -1);
	assert_string_equal(why, "a checksum that is none");
}

static void
test_longest(void **state)
{
	struct pp_header h;
	const char *why;
	uint8_t *p = calloc(1, PP_MAX);

	(void)state;
	memcpy(p, SIG "\x21\x11\x0f\xf0" V4 "\x04\x0f\xe1", 31);
	for (size_t k = 1; k < PP_MAX; k++)
		assert_int_equal(pp_parse(&h, p, k, &why), 0);
	assert_int_equal(pp_parse(&h, p, PP_MAX, &why), (int)PP_MAX);
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_checksum),
	    cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
