/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/stream/stream.h - the stream: one request/response exchange between a protocol and a worker.
 *
 * Owned by the connection's loop: lists, references and `ev` are the leading thread's.  After share() one other
 * thread may call the worker's side at a time; what both sides touch (queues, xev, flags below the mark) is
 * then under `mu`.  Before share() nothing is locked.
 *
 * Nobody calls back: a call sets bits in `ev` and puts the stream into its chain's ready list; the net layer
 * delivers them between module calls.  From another thread the bits go to `xev` and the stream is posted.
 *
 * Bounds: in queue LC_IN_HIGH + what one read brings; out queue LC_OUT_HIGH + one write; arena LC_ARENA_MAX.  A file in
 * the out queue counts for LC_FILE_COST, however long it is.
 */
#ifndef LC_CORE_STREAM_STREAM_H
#define LC_CORE_STREAM_STREAM_H

#include <licorne/proto.h>
#include <licorne/stream.h>
#include <pthread.h>

#include "flight/flight.h"
#include "loop/loop.h"

#define LC_IN_HIGH (64u << 10)
#define LC_OUT_HIGH (128u << 10)
#define LC_OUT_LOW (64u << 10)
#define LC_ARENA_MAX (1u << 20)
#define LC_SLICE_MAX (1u << 30) /* one piece of output that is to be copied */
#define LC_FILE_COST (4u << 10) /* what a file counts in the out queue: its bytes are in no memory of ours */
#define LC_COPY_MAX (4u << 10)  /* a piece up to this is copied into the send buffer, not referenced */

/* What is to be delivered (lc_stream.ev). */
#define LC_SE_REQUEST 0x001u /* -> worker */
#define LC_SE_READABLE 0x002u
#define LC_SE_WRITABLE 0x004u
#define LC_SE_ABORT 0x008u
#define LC_SE_HEAD 0x010u /* -> protocol */
#define LC_SE_OUT 0x020u
#define LC_SE_TRAILERS 0x040u
#define LC_SE_CONSUMED 0x080u
#define LC_SE_RESET 0x100u
#define LC_SE_DETACH 0x200u
#define LC_SE_CONTINUE 0x400u
#define LC_SE_RELEASE 0x800u /* the worker's last word */
#define LC_SE_WORKER (LC_SE_REQUEST | LC_SE_READABLE | LC_SE_WRITABLE | LC_SE_ABORT)

/* A connection's streams with something to deliver; and all its streams. */
struct lc_schain {
	struct lc_stream *ready, **ready_tail;
	struct lc_stream *all;
};

struct lc_inode { /* a piece of request body */
	struct lc_inode *next;
	uint32_t n, off, cap, heap;
	uint8_t data[];
};
struct lc_onode { /* a piece of response body */
	struct lc_onode *next;
	struct lc_slice s;
	uint32_t cap, heap; /* cap: room for appending copies, 0: none */
	uint8_t data[];
};
struct lc_hnode { /* a 1xx head that waits */
	struct lc_hnode *next;
	struct lc_head head;
};
struct lc_achunk {
	struct lc_achunk *next;
};

struct lc_stream {
	struct lc_req req;
	struct lc_loop *loop;
	struct lc_schain *chain; /* NULL: the connection is gone */
	struct lc_stream *rnext, *cprev, *cnext;
	void *ps, *user, *owner; /* owner: the net layer's connection */
	struct lc_post post;     /* first use by another thread: net's function */
	uint32_t ev;
	uint8_t inready, proto_ref, worker_ref, requested;
	uint16_t refused;          /* status with which the protocol answered in the worker's place, 0: it has not */
	uint64_t started;          /* ns */
	struct lc_fl_rec *flight;  /* NULL: none */
	const struct lc_rt *route; /* whose handler has it in the worker's place; NULL: the worker */
	uint64_t sent;             /* body bytes taken by the protocol */
	uint64_t received;         /* body bytes given by it */
	uint64_t serial, order;    /* of the connection in this process; of the stream on it; from 1 */
	/* The connection's count of output when the stream began; once the protocol has let go, what the response
	 * took, where a connection has one at a time. */
	uint64_t put_out;
	/* ---- under mu once shared ---- */
	pthread_mutex_t mu;
	pthread_cond_t cv;
	uint32_t xev;
	uint8_t shared, posted, waiting, released; /* waiting: threads in wait(); one may read while another writes */
	uint8_t in_fin, out_fin, responded, aborted;
	uint8_t full, continued, in_small, out_small;
	uint32_t reason; /* LC_RSN_* once aborted */
	uint32_t reset_reason;
	struct lc_inode *in_head, *in_tail;
	uint64_t in_bytes, in_consumed;
	struct lc_onode *out_head, *out_tail;
	uint64_t out_bytes;
	uint64_t out_free;      /* those of out_bytes that do not count for LC_OUT_HIGH: files beyond their cost */
	struct lc_hnode *heads; /* 1xx, in order */
	struct lc_head head;    /* the final one */
	const struct lc_field *out_trailers;
	uint32_t nout_trailers, nin_trailers;
	const struct lc_field *in_trailers;
	struct lc_onode onode[2]; /* no allocation for small responses */
	struct lc_achunk *chunks;
	uint64_t arena_total;
	uint8_t *ap, *aend; /* free part of the current chunk */
	uint8_t first[] __attribute__((aligned(16)));
};

/* Bytes of a file's n that do not count for the marks. */
static inline uint64_t
lc_file_free(uint64_t n)
{
	return n > LC_FILE_COST ? n - LC_FILE_COST : 0;
}

#define LC_READY_HERE 2          /* inready: being delivered, in no list */
#define LC_HEAD_TOLD 0x80000000u /* head.flags: the protocol has it */

#define LC_STREAM_BLOCK 4096u /* struct and first arena chunk together */

/* Streams are recycled per loop; at most this many wait for reuse. */
#define LC_STREAM_KEEP 64u
struct lc_streams {
	struct lc_stream *free; /* linked by rnext */
	uint32_t nfree;
};

struct lc_stream *lc_stream_new(struct lc_streams *, struct lc_loop *); /* NULL: no memory */
void lc_stream_free(struct lc_streams *, struct lc_stream *);           /* both references are gone */
void lc_streams_done(struct lc_streams *);

/* Leading thread: note events and queue for delivery. */
void lc_stream_note(struct lc_stream *, uint32_t ev);
struct lc_stream *lc_chain_pop(struct lc_schain *);
void lc_chain_init(struct lc_schain *);
void lc_chain_add(struct lc_schain *, struct lc_stream *);
void lc_chain_remove(struct lc_stream *);
void lc_chain_unready(struct lc_stream *);

/* Protocol's side (leading thread). */
void *lc_stream_alloc(struct lc_stream *, size_t n);
int lc_stream_in(struct lc_stream *, const uint8_t *, size_t n);
void lc_stream_in_end(struct lc_stream *, const struct lc_field *, uint32_t n);
void lc_stream_abort(struct lc_stream *, uint32_t reason);
uint64_t lc_stream_out_avail(struct lc_stream *, int *fin);
/* Move up to max bytes; sink takes each piece: returns bytes taken (< n: full) and owns what it took by reference. */
struct lc_outv;
int64_t lc_stream_out_take(struct lc_stream *, struct lc_outv *, uint64_t max);
/* Posted work of another thread: move xev to ev. */
void lc_stream_collect(struct lc_stream *);

/* Worker's side: the "stream" table.  wait_leading: what net does when the leading thread must wait inside a call. */
extern const struct lc_stream_api lc_stream_table;
extern int (*lc_stream_wait_leading)(struct lc_stream *, uint32_t events, int64_t ms);
/* What net does when the leading thread, inside a call, has written a piece that must not be delayed. */
extern void (*lc_stream_push_leading)(struct lc_stream *);
/* What net does when the leading thread has touched a stream outside of a callback about it: no turn is on that would
 * deliver it. */
extern void (*lc_stream_wake_leading)(struct lc_stream *);
uint32_t lc_stream_poll(struct lc_stream *, uint32_t events); /* events that hold now; locks */

#endif
