/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/format.h - a line of the access log as a list of operations, made once of the text in the configuration.
 *
 * The text holds variables, `$status` or `${status}`, and atoms, `%(s)s`: both kinds mean the same operations, and may
 * be mixed.  docs/logging.md lists them.
 */
#ifndef LC_CORE_LOG_FORMAT_H
#define LC_CORE_LOG_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of constant text, numbers and the like in one line, at most: what clients control comes on top, and the whole
 * has to fit into what a pipe takes at once. */
#define LC_LOGFMT_FIXED 3072u
#define LC_LOGFMT_NAME 64u /* of a format */
/* Texts are copied in pieces of this many bytes: as many may be read behind one, and written behind what is in a line.
 */
#define LC_LOGFMT_PIECE 16u

enum lc_logop_code {
	LC_LO_END, /* of the line */
	/* of the client's choice: escaped, and cut where they are too long */
	LC_LO_REMOTE_ADDR,
	LC_LO_REMOTE_USER,
	LC_LO_REQUEST,
	LC_LO_METHOD,
	LC_LO_TARGET,
	LC_LO_PATH, /* percent-decoded */
	LC_LO_QUERY,
	LC_LO_PROTOCOL,
	LC_LO_HOST, /* without the port, lower case */
	LC_LO_SCHEME,
	LC_LO_LOCAL_ADDR,
	LC_LO_FIELD, /* of the request */
	LC_LO_SENT,  /* field of the response */
	LC_LO_COOKIE,
	/* of bounded length */
	LC_LO_REMOTE_PORT,
	LC_LO_LOCAL_PORT,
	LC_LO_QUESTION, /* "?" when there is a query */
	LC_LO_TIME_LOCAL,
	LC_LO_TIME_ISO,
	LC_LO_TIME_EPOCH,
	LC_LO_STATUS,
	LC_LO_BODY_SENT,
	LC_LO_BODY_SENT_DASH, /* "-" for 0 */
	LC_LO_ALL_SENT,
	LC_LO_RECEIVED,
	LC_LO_TOOK,   /* seconds, three decimals */
	LC_LO_TOOK_S, /* whole seconds, and so on */
	LC_LO_TOOK_MS,
	LC_LO_TOOK_US,
	LC_LO_TOOK_S6, /* seconds, six decimals */
	LC_LO_PID,
	LC_LO_CONNECTION,
	LC_LO_CONNECTION_REQUESTS,
	LC_LO_COMPLETE,
};

/* A constant text and what follows it. */
struct lc_logop {
	uint16_t code;  /* LC_LO_* */
	uint16_t token; /* of a field's name, 0: compare names */
	uint32_t n, text_n;
	uint32_t pad;
	const char *text;
	const char *p; /* the name of a field or cookie; n bytes */
};

struct lc_logfmt {
	uint32_t nops;
	uint32_t fixed; /* most bytes of a line without what clients control, with the line's end and a piece more */
	uint8_t json;   /* escape for a JSON string */
	uint8_t timed;  /* how long requests took is in it */
	struct lc_logop op[]; /* the last one is LC_LO_END */
};

/* The text of a format that needs no definition, and how it is escaped; NULL: there is none of that name. */
const char *lc_logfmt_builtin(const char *name, int *ret_json);
/* 0; -EINVAL and a sentence; -ENOMEM, with one too.  `ret` NULL: only check.  Free with free(). */
int lc_logfmt_parse(struct lc_logfmt **ret, const char *text, int json, char *msg, size_t msgsize);

#endif
