/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/config/addr.c - listener addresses: text to sockaddr and back.
 *
 * "8000", "*:8000" and "0.0.0.0:8000" are the same; so are "[::]:80" and "[0::]:80".  Host names are looked up only
 * where the address is about to be bound, never while a configuration is being checked, and IPv4 wins where a name has
 * both.
 */
#include "config/conf_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((struct lc_addr *)0)->sa), "lc_addr is too small");

#define FORMS "HOST:PORT, [IPV6]:PORT, *:PORT, PORT or unix:/PATH"

static int
port_parse(const char *s, uint16_t *ret, const char **ret_error)
{
	uint32_t v = 0;
	size_t n = strlen(s);

	if (n == 0 || n > 5 || strspn(s, "0123456789") != n) {
		*ret_error = "the port is no number, expected 0 to 65535";
		return -EINVAL;
	}
	while (*s)
		v = v * 10 + (uint32_t)(*s++ - '0');
	if (v > 65535) {
		*ret_error = "the port is out of range, expected 0 to 65535";
		return -EINVAL;
	}
	*ret = (uint16_t)v;
	return 0;
}

static void
addr_set(struct lc_addr *ret, const void *sa, size_t n, int family)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->sa.raw, sa, n);
	ret->len = (uint32_t)n;
	ret->family = family;
}

static int
unix_parse(struct lc_addr *ret, const char *path, const char **ret_error)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (n == 0 || *path == '@') {
		*ret_error = "the address has no path, expected unix:/PATH";
		return -EINVAL;
	}
	if (n >= sizeof(un.sun_path)) {
		*ret_error = "the path is too long for a socket, expected at most 107 bytes";
		return -EINVAL;
	}
	memcpy(un.sun_path, path, n);
	addr_set(ret, &un, offsetof(struct sockaddr_un, sun_path) + n + 1, AF_UNIX);
	return 0;
}

/* Splits off the host (copied, brackets removed) and the port.  0; -EINVAL */
static int
split(const char *text, char *host, size_t n, int *ret_v6, uint16_t *ret_port, const char **ret_error)
{
	const char *colon = strrchr(text, ':'), *end = colon;

	*ret_v6 = 0;
	if (!colon && *text && strspn(text, "0123456789") == strlen(text)) {
		snprintf(host, n, "*");
		return port_parse(text, ret_port, ret_error);
	}
	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || end[1] != ':') {
			*ret_error = "the address is malformed, expected [IPV6]:PORT";
			return -EINVAL;
		}
		colon = end + 1;
		text++;
		*ret_v6 = 1;
	} else if (colon && memchr(text, ':', (size_t)(colon - text))) {
		size_t first = strcspn(text, ":");
		int v6 = strspn(text, "0123456789abcdefABCDEF:.") == strlen(text) && !memchr(text, '.', first);
		*ret_error = v6 ? "an IPv6 address stands without brackets, expected [IPV6]:PORT"
				: "there is more than one \":\", expected " FORMS;
		return -EINVAL;
	}
	if (!colon || end == text || (size_t)(end - text) >= n) {
		*ret_error =
		    !colon ? "the address has no port, expected " FORMS : "the host is malformed, expected " FORMS;
		return -EINVAL;
	}
	memcpy(host, text, (size_t)(end - text));
	host[end - text] = 0;
	return port_parse(colon + 1, ret_port, ret_error);
}

static int
parse(struct lc_addr *ret, const char *text, int lookup, const char **ret_error)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	struct sockaddr_in in = {.sin_family = AF_INET};
	char host[256], port_text[8];
	uint16_t port;
	int v6, r;

	if (!strncmp(text, "unix:", 5))
		return unix_parse(ret, text + 5, ret_error);
	if (split(text, host, sizeof(host), &v6, &port, ret_error) < 0)
		return -EINVAL;
	in.sin_port = htons(port);
	if (!v6 && (!strcmp(host, "*") || inet_pton(AF_INET, host, &in.sin_addr) == 1)) {
		addr_set(ret, &in, sizeof(in), AF_INET);
		return 0;
	}
	snprintf(port_text, sizeof(port_text), "%u", port);
	if (v6) {
		hints.ai_family = AF_INET6;
		hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV; /* understands %scope, unlike inet_pton() */
		r = getaddrinfo(host, port_text, &hints, &list);
		if (r == EAI_MEMORY)
			return -ENOMEM;
		if (r) {
			*ret_error =
			    "the address between the brackets is no IPv6 address, expected one such as [::1]:8000";
			return -EINVAL;
		}
		addr_set(ret, list->ai_addr, list->ai_addrlen, AF_INET6);
		freeaddrinfo(list);
		return 0;
	}
	if (strspn(host, "0123456789.") == strlen(host)) {
		*ret_error = "the host is no IPv4 address, expected four numbers of 0 to 255";
		return -EINVAL;
	}
	if (strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != strlen(host)) {
		*ret_error = "the host is malformed, expected " FORMS;
		return -EINVAL;
	}
	if (!lookup)
		return 1;
	static const int families[] = {AF_INET, AF_INET6};
	for (size_t i = 0; i < 2; i++) {
		hints.ai_family = families[i];
		hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
		r = getaddrinfo(host, port_text, &hints, &list);
		if (r == 0) {
			addr_set(ret, list->ai_addr, list->ai_addrlen, families[i]);
			freeaddrinfo(list);
			return 0;
		}
	}
	*ret_error = gai_strerror(r);
	return -EINVAL;
}

int
lc_addr_parse(struct lc_addr *ret, const char *text, const char **ret_error)
{
	const char *error = "out of memory";
	int r = parse(ret, text, 1, &error);

	if (r < 0 && ret_error)
		*ret_error = error;
	return r;
}

int
lc__addr_numeric(struct lc_addr *ret, const char *text, const char **ret_error)
{
	*ret_error = "out of memory";
	return parse(ret, text, 0, ret_error);
}

int
lc_addr_print(const struct lc_addr *addr, char *buf, size_t n)
{
	char host[INET6_ADDRSTRLEN + 20] = "";
	struct sockaddr_in6 in6;
	struct sockaddr_in in;
	struct sockaddr_un un;
	int r;

	switch (addr->family) {
	case AF_INET:
		memcpy(&in, addr->sa.raw, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		r = snprintf(buf, n, "%s:%u", host, ntohs(in.sin_port));
		break;
	case AF_INET6:
		memcpy(&in6, addr->sa.raw, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
		if (in6.sin6_scope_id)
			snprintf(host + strlen(host), sizeof(host) - strlen(host), "%%%u", in6.sin6_scope_id);
		r = snprintf(buf, n, "[%s]:%u", host, ntohs(in6.sin6_port));
		break;
	case AF_UNIX:
		memset(&un, 0, sizeof(un));
		memcpy(&un, addr->sa.raw, addr->len < sizeof(un) ? addr->len : sizeof(un));
		r = snprintf(buf, n, "unix:%.*s", (int)sizeof(un.sun_path), un.sun_path);
		break;
	default:
		return -EAFNOSUPPORT;
	}
	return r < 0 || (size_t)r >= n ? -ENOSPC : 0;
}
