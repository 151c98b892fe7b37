/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/hold.c - output that points into Python bytes, let go of without the GIL.
 *
 * A large chunk is not copied: the slice owns a reference to the bytes object.  The stream gives it back through
 * release(), on any thread and at any time; there it is only pushed on a lock-free list.  Whoever holds the GIL next
 * (each call, the end of each batch) drains the list.  lcpy_drain_wanted() tells a loop that nobody may come by soon.
 */
#include "lcpy.h"

struct lcpy_hold {
	struct lcpy_hold *next;
	PyObject *bytes;
};

static struct lcpy_hold *dead;  /* pushed by release(), taken whole by lcpy_drain() */
static struct lcpy_hold *spare; /* free list; GIL */
static uint32_t nspare;
#define MAXSPARE 64u

static void
hold_release(void *arg)
{
	struct lcpy_hold *h = arg;

	h->next = __atomic_load_n(&dead, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&dead, &h->next, h, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

int
lcpy_hold_slice(struct lc_slice *s, PyObject *bytes, size_t off, size_t n)
{
	struct lcpy_hold *h = spare;

	if (h) {
		spare = h->next;
		nspare--;
	} else {
		h = malloc(sizeof(*h));
		if (!h)
			return -ENOMEM;
	}
	h->bytes = Py_NewRef(bytes);
	*s = (struct lc_slice){
	    .p = (const uint8_t *)PyBytes_AS_STRING(bytes) + off, .n = n, .release = hold_release, .arg = h, .fd = -1};
	return 0;
}

int
lcpy_drain_wanted(void)
{
	return __atomic_load_n(&dead, __ATOMIC_RELAXED) != NULL;
}

void
lcpy_drain(void)
{
	struct lcpy_hold *h, *next;

	if (!lcpy_drain_wanted())
		return;
	for (h = __atomic_exchange_n(&dead, NULL, __ATOMIC_ACQUIRE); h; h = next) {
		PyObject *bytes = h->bytes;

		next = h->next;
		if (nspare < MAXSPARE) {
			h->next = spare;
			spare = h;
			nspare++;
		} else {
			free(h);
		}
		/* a bytes subclass may run code here and lose the GIL: the rest of the list is only ours */
		Py_DECREF(bytes);
	}
}
