/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/timeout.c - what hangs: the stacks of all threads on demand, and the end of calls that take too long.
 *
 * faulthandler writes the stacks from within a signal handler and needs no GIL for it, so that it works while code of C
 * holds it.  Crashes are told by it as well, in the same place.
 *
 * RequestTimeout is raised asynchronously: the thread gets it at its next bytecode.  The list of calls is the GIL's,
 * and so is the moment: a call that is over is not in it, and what was raised too late for the code of the application
 * is taken back before anybody else's can get it.
 *
 * Who finds a call overdue may not wait for the GIL, which code of C may hold for ever: a thread that lives only while
 * something is overdue does.  (A pending call would need none, but does not interrupt a thread that runs alone.)
 */
#include "lcpy.h"

#define OVERDUE 64u /* that wait for the thread; one for which there is no room ends as a stuck call */

static pthread_mutex_t overdue_mu = PTHREAD_MUTEX_INITIALIZER;
static uint64_t overdue[OVERDUE];
static uint32_t noverdue;
static int raising; /* the thread is there */

static struct lcpy_limit calls = {.prev = &calls, .next = &calls};

static int
want_stacks(void)
{
	PyObject *m, *r = NULL;
	int signo, fd = lcpy.wk->stacks(lcpy.ctx, &signo);

	if (fd < 0)
		return 0;
	m = PyImport_ImportModule("faulthandler");
	if (m)
		r = PyObject_CallMethod(m, "enable", "i", fd);
	Py_XDECREF(r);
	if (r)
		r = PyObject_CallMethod(m, "register", "iiii", signo, fd, 1, 0);
	Py_XDECREF(m);
	if (!r)
		return -1;
	Py_DECREF(r);
	return 0;
}

int
lcpy_timeout_init(void)
{
	return want_stacks();
}

/* The class of the package, if the application's environment has it; who cannot import it has no name to catch. */
int
lcpy_timeout_imported(void)
{
	PyObject *m, *t = NULL;

	if (!lcpy.wk->request_timeout(lcpy.ctx))
		return 0;
	m = PyImport_ImportModule("licorne");
	if (m)
		t = PyObject_GetAttrString(m, "RequestTimeout");
	Py_XDECREF(m);
	PyErr_Clear();
	if (t && !PyExceptionClass_Check(t))
		Py_CLEAR(t);
	if (!t)
		t = PyErr_NewExceptionWithDoc("licorne.RequestTimeout", "The call took longer than request_timeout.",
					      PyExc_BaseException, NULL);
	lcpy.timeouts = t;
	return t ? 0 : -1;
}

void
lcpy_timeout_fini(void)
{
	Py_CLEAR(lcpy.timeouts);
}

void
lcpy_timeout_begin(struct lcpy_limit *l, uint64_t call)
{
	l->call = call;
	l->ident = PyThread_get_thread_ident();
	l->raised = 0;
	l->next = &calls;
	l->prev = calls.prev;
	calls.prev->next = l;
	calls.prev = l;
}

void
lcpy_timeout_end(struct lcpy_limit *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	if (l->raised)
		(void)PyThreadState_SetAsyncExc(l->ident, NULL);
}

/* GIL held. */
static void
raise_in(uint64_t call)
{
	for (struct lcpy_limit *l = calls.next; l != &calls; l = l->next)
		if (l->call == call && !l->raised) {
			l->raised = 1;
			(void)PyThreadState_SetAsyncExc(l->ident, lcpy.timeouts);
			return;
		}
}

static void *
raise_all(void *arg)
{
	PyGILState_STATE gs = PyGILState_Ensure();

	(void)arg;
	(void)pthread_setname_np(pthread_self(), "timeout");
	(void)pthread_mutex_lock(&overdue_mu);
	while (noverdue) {
		uint64_t call = overdue[--noverdue];

		(void)pthread_mutex_unlock(&overdue_mu);
		raise_in(call);
		(void)pthread_mutex_lock(&overdue_mu);
	}
	raising = 0;
	(void)pthread_mutex_unlock(&overdue_mu);
	PyGILState_Release(gs);
	return NULL;
}

void
lcpy_timeout_overdue(uint64_t call)
{
	pthread_attr_t attr;
	pthread_t t;

	(void)pthread_mutex_lock(&overdue_mu);
	if (noverdue < OVERDUE)
		overdue[noverdue++] = call;
	if (!raising && pthread_attr_init(&attr) == 0) {
		(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		raising = pthread_create(&t, &attr, raise_all, NULL) == 0;
		(void)pthread_attr_destroy(&attr);
	}
	(void)pthread_mutex_unlock(&overdue_mu);
}
