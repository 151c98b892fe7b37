/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/log/record.h - what is known of a request that is over: data, not text.
 *
 * Whoever ends a request fills a record and gives it to lc_access_write() (access.h); render.c alone turns records into
 * lines.  Nothing else of the request is reached from there, so that the record can also be sent to another process
 * and be rendered there.
 */
#ifndef LC_CORE_LOG_RECORD_H
#define LC_CORE_LOG_RECORD_H

#include <licorne/stream.h>

struct lc_record {
	const struct lc_req *req;     /* what of it is not known is empty; fields may be NULL */
	const struct lc_field *sent;  /* the fields of the final response, as the application gave them; NULL: none */
	uint32_t nsent, status;       /* status 499: nothing was answered */
	uint64_t now, took;           /* CLOCK_MONOTONIC, ns; took: ns from the request's head to its end */
	uint64_t body_sent, all_sent; /* bytes of the response: its body; all of it */
	uint64_t body_received;       /* bytes of the request's body that came */
	uint64_t connection;          /* serial number of the connection in this process, from 1 */
	uint64_t connection_requests; /* number of this request on it, from 1 */
	uint8_t complete;             /* the response went out whole */
};

#endif
