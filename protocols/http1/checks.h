/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocols/http1/checks.h - every reason to refuse a request, and the rules that decide without refusing.
 *
 * One row each: what the log says is here and nowhere else.  test/conformance/requests.toml has requests for each name,
 * and test/conformance/mutate.py proves it: in a build of this module for that test alone (H1_MUTATE) h1_on() says no
 * for one name, and a row must fail.  In every other build h1_on() is a constant.
 *
 * What this server cannot do (memory, an application that fails) is no check: h1_fail().
 */
#ifndef LC_PROTO_HTTP1_CHECKS_H
#define LC_PROTO_HTTP1_CHECKS_H

/* clang-format off */
#define H1_CHECKS(X) \
	X(LINE_BLANK, "line-blank", 400, "CR or LF alone before the request line") \
	X(LINE_BLANKS, "line-blanks", 400, "too many empty lines before the request line") \
	X(LINE_LENGTH, "line-length", 414, "the request line is too long") \
	X(LINE_SPACES, "line-spaces", 400, "spaces in the request line") \
	X(LINE_ENDING, "line-ending", 400, "the request line does not end in CR LF") \
	X(METHOD_TOKEN, "method-token", 400, "the method is no token") \
	X(METHOD_UNKNOWN, "method-unknown", 501, "a method that is not implemented") \
	X(METHOD_CONNECT, "method-connect", 501, "CONNECT is for proxies") \
	X(VERSION_MISSING, "version-missing", 400, "no version in the request line") \
	X(VERSION_SYNTAX, "version-syntax", 400, "the version in the request line is not HTTP/DIGIT.DIGIT") \
	X(VERSION_PROTOCOL, "version-protocol", 400, "another protocol in the request line") \
	X(VERSION_UNSUPPORTED, "version-unsupported", 505, "neither HTTP/1.1 nor HTTP/1.0") \
	X(TARGET_CHAR, "target-char", 400, "a byte in the request target that is not allowed") \
	X(TARGET_FORM, "target-form", 400, "the request target has a form that this method or server does not take") \
	X(TARGET_AUTHORITY, "target-authority", 400, "the host in the request target is not valid") \
	X(TARGET_SECURE, "target-secure", 421, "an https target over a connection that is not encrypted") \
	X(FIELD_NAME, "field-name", 400, "a field name that is no token") \
	X(FIELD_FOLD, "field-fold", 400, "a folded field line") \
	X(FIELD_VALUE, "field-value", 400, "a byte in a field value that is not allowed") \
	X(FIELD_ENDING, "field-ending", 400, "a field line or the head does not end in CR LF") \
	X(FIELD_LENGTH, "field-length", 431, "a field is too long") \
	X(FIELD_COUNT, "field-count", 431, "too many fields") \
	X(HEAD_LENGTH, "head-length", 431, "the fields are too long altogether") \
	X(HOST_MISSING, "host-missing", 400, "no Host") \
	X(HOST_TWICE, "host-twice", 400, "more than one Host") \
	X(HOST_INVALID, "host-invalid", 400, "Host is not valid") \
	X(LENGTH_SYNTAX, "length-syntax", 400, "Content-Length is no number") \
	X(LENGTH_TWICE, "length-twice", 400, "more than one Content-Length") \
	X(LENGTH_OVERFLOW, "length-overflow", 400, "Content-Length is too large a number") \
	X(BODY_LIMIT, "body-limit", 413, "the body is larger than limit_request_body") \
	X(CODING_HTTP10, "coding-http10", 400, "Transfer-Encoding in HTTP/1.0") \
	X(CODING_LENGTH, "coding-length", 400, "Content-Length beside Transfer-Encoding") \
	X(CODING_SYNTAX, "coding-syntax", 400, "Transfer-Encoding is not valid") \
	X(CODING_LAST, "coding-last", 400, "chunked is not the last transfer coding") \
	X(CODING_TWICE, "coding-twice", 400, "chunked more than once") \
	X(CODING_UNKNOWN, "coding-unknown", 501, "a transfer coding other than chunked") \
	X(CHUNK_SIZE, "chunk-size", 400, "a chunk size that is no hexadecimal number") \
	X(CHUNK_OVERFLOW, "chunk-overflow", 400, "a chunk size that is too large a number") \
	X(CHUNK_LINE, "chunk-line", 400, "a chunk size line does not end in CR LF") \
	X(CHUNK_END, "chunk-end", 400, "the data of a chunk does not end in CR LF") \
	X(CHUNK_EXT, "chunk-ext", 400, "a chunk extension is not valid") \
	X(CHUNK_EXT_LENGTH, "chunk-ext-length", 400, "chunk extensions are too long") \
	X(CHUNK_FRAMING, "chunk-framing", 400, "too much chunk framing") \
	X(EXPECT_UNKNOWN, "expect-unknown", 417, "an expectation other than 100-continue") \
	X(HEAD_TIMEOUT, "head-timeout", 408, "the head took longer than head_timeout") \
	X(BODY_TIMEOUT, "body-timeout", 408, "no progress of the body within body_timeout") \
	/* rules: nothing is refused */ \
	X(ABSOLUTE_HOST, "absolute-host", 0, "the target's host replaces Host") \
	X(TRAILER_FORBIDDEN, "trailer-forbidden", 0, "framing, routing and the like are dropped from trailers") \
	X(EXPECT_HTTP10, "expect-http10", 0, "HTTP/1.0 has no expectations") \
	X(EXPECT_UNREAD, "expect-unread", 0, "nobody knows whether a body comes that nobody asked for") \
	X(CONNECTION_CLOSE, "connection-close", 0, "the client wants the connection closed") \
	X(CONNECTION_HTTP10, "connection-http10", 0, "HTTP/1.0 closes unless it says keep-alive") \
	X(UPGRADE_CONNECTION, "upgrade-connection", 0, "an offer counts only when Connection lists it") \
	X(UPGRADE_CLOSE, "upgrade-close", 0, "nor when the connection is to be closed") \
	X(UPGRADE_HTTP10, "upgrade-http10", 0, "nor in HTTP/1.0") \
	X(UPGRADE_BODY, "upgrade-body", 0, "nor with a body") \
	X(UPGRADE_CHECK, "upgrade-check", 0, "nor when the other protocol does not take the request") \
	X(ANSWER_BODYLESS, "answer-bodyless", 0, "HEAD, 204 and 304 have no content") \
	X(ANSWER_HTTP10, "answer-http10", 0, "HTTP/1.0 gets no chunks")
/* clang-format on */

enum h1_check {
#define X(id, name, status, text) H1_##id,
	H1_CHECKS(X)
#undef X
	    H1_CHECK_COUNT
};

#ifdef H1_MUTATE
int h1_on(enum h1_check);
#else
#define h1_on(check) 1
#endif

/* Return from the calling function with a refusal where `bad` holds. */
#define H1_CHECK(s, check, bad)                                   \
	do {                                                      \
		if (__builtin_expect(!!(bad), 0) && h1_on(check)) \
			return h1_refuse(s, check);               \
	} while (0)

#endif
