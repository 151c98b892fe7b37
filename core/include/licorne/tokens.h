/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * licorne/tokens.h - numbers for the field names that servers meet every day.
 *
 * A protocol module fills lc_field.token for each incoming field, a worker for each outgoing one, so that
 * nobody compares strings twice.  The list is append-only (it is part of the ABI); 0 is "not a known name".
 * Names: the IANA field name registry, plus the x-forwarded-* family in common use.
 */
#ifndef LC_TOKENS_H
#define LC_TOKENS_H

#define LC_TOKEN_LIST(X)                                                    \
	X(ACCEPT, "accept")                                                 \
	X(ACCEPT_CHARSET, "accept-charset")                                 \
	X(ACCEPT_ENCODING, "accept-encoding")                               \
	X(ACCEPT_LANGUAGE, "accept-language")                               \
	X(ACCEPT_RANGES, "accept-ranges")                                   \
	X(ACCESS_CONTROL_ALLOW_ORIGIN, "access-control-allow-origin")       \
	X(ACCESS_CONTROL_REQUEST_HEADERS, "access-control-request-headers") \
	X(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method")   \
	X(AGE, "age")                                                       \
	X(ALLOW, "allow")                                                   \
	X(AUTHORIZATION, "authorization")                                   \
	X(CACHE_CONTROL, "cache-control")                                   \
	X(CONNECTION, "connection")                                         \
	X(CONTENT_DISPOSITION, "content-disposition")                       \
	X(CONTENT_ENCODING, "content-encoding")                             \
	X(CONTENT_LANGUAGE, "content-language")                             \
	X(CONTENT_LENGTH, "content-length")                                 \
	X(CONTENT_LOCATION, "content-location")                             \
	X(CONTENT_RANGE, "content-range")                                   \
	X(CONTENT_TYPE, "content-type")                                     \
	X(COOKIE, "cookie")                                                 \
	X(DATE, "date")                                                     \
	X(DNT, "dnt")                                                       \
	X(ETAG, "etag")                                                     \
	X(EXPECT, "expect")                                                 \
	X(EXPIRES, "expires")                                               \
	X(FORWARDED, "forwarded")                                           \
	X(FROM, "from")                                                     \
	X(HOST, "host")                                                     \
	X(HTTP2_SETTINGS, "http2-settings")                                 \
	X(IF_MATCH, "if-match")                                             \
	X(IF_MODIFIED_SINCE, "if-modified-since")                           \
	X(IF_NONE_MATCH, "if-none-match")                                   \
	X(IF_RANGE, "if-range")                                             \
	X(IF_UNMODIFIED_SINCE, "if-unmodified-since")                       \
	X(KEEP_ALIVE, "keep-alive")                                         \
	X(LAST_MODIFIED, "last-modified")                                   \
	X(LINK, "link")                                                     \
	X(LOCATION, "location")                                             \
	X(MAX_FORWARDS, "max-forwards")                                     \
	X(ORIGIN, "origin")                                                 \
	X(PRAGMA, "pragma")                                                 \
	X(PRIORITY, "priority")                                             \
	X(PROXY_AUTHENTICATE, "proxy-authenticate")                         \
	X(PROXY_AUTHORIZATION, "proxy-authorization")                       \
	X(PROXY_CONNECTION, "proxy-connection")                             \
	X(RANGE, "range")                                                   \
	X(REFERER, "referer")                                               \
	X(REFRESH, "refresh")                                               \
	X(RETRY_AFTER, "retry-after")                                       \
	X(SEC_CH_UA, "sec-ch-ua")                                           \
	X(SEC_CH_UA_MOBILE, "sec-ch-ua-mobile")                             \
	X(SEC_CH_UA_PLATFORM, "sec-ch-ua-platform")                         \
	X(SEC_FETCH_DEST, "sec-fetch-dest")                                 \
	X(SEC_FETCH_MODE, "sec-fetch-mode")                                 \
	X(SEC_FETCH_SITE, "sec-fetch-site")                                 \
	X(SEC_FETCH_USER, "sec-fetch-user")                                 \
	X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions")             \
	X(SEC_WEBSOCKET_KEY, "sec-websocket-key")                           \
	X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol")                 \
	X(SEC_WEBSOCKET_VERSION, "sec-websocket-version")                   \
	X(SERVER, "server")                                                 \
	X(SET_COOKIE, "set-cookie")                                         \
	X(STRICT_TRANSPORT_SECURITY, "strict-transport-security")           \
	X(TE, "te")                                                         \
	X(TRACEPARENT, "traceparent")                                       \
	X(TRACESTATE, "tracestate")                                         \
	X(TRAILER, "trailer")                                               \
	X(TRANSFER_ENCODING, "transfer-encoding")                           \
	X(UPGRADE, "upgrade")                                               \
	X(UPGRADE_INSECURE_REQUESTS, "upgrade-insecure-requests")           \
	X(USER_AGENT, "user-agent")                                         \
	X(VARY, "vary")                                                     \
	X(VIA, "via")                                                       \
	X(WWW_AUTHENTICATE, "www-authenticate")                             \
	X(X_FORWARDED_FOR, "x-forwarded-for")                               \
	X(X_FORWARDED_HOST, "x-forwarded-host")                             \
	X(X_FORWARDED_PORT, "x-forwarded-port")                             \
	X(X_FORWARDED_PROTO, "x-forwarded-proto")                           \
	X(X_REAL_IP, "x-real-ip")                                           \
	X(X_REQUEST_ID, "x-request-id")                                     \
	X(X_REQUESTED_WITH, "x-requested-with")

enum lc_token {
	LC_TOK_NONE = 0,
#define LC_TOKEN_ENUM_(id, name) LC_TOK_##id,
	LC_TOKEN_LIST(LC_TOKEN_ENUM_)
#undef LC_TOKEN_ENUM_
	    LC_TOK_COUNT
};

#endif
