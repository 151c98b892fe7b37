/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/timeout.c - what hangs: the stacks of all threads on demand, and the end of calls that take too long.
 *
 * faulthandler writes the stacks from within a signal handler and needs no GIL for it, so that it works while code of C
 * holds it.  Crashes are told by it as well, in the same place.
 *
 * RequestTimeout is raised asynchronously: the thread gets it at its next bytecode.  The list of calls is the GIL's, and
 * so is the moment: a call that is over is not in it, and what was raised too late for the code of the application is
 * taken back before anybody else's can get it.
 */
#include "lcpy.h"

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

void
lcpy_timeout_raise(uint64_t call)
{
	for (struct lcpy_limit *l = calls.next; l != &calls; l = l->next)
		if (l->call == call && !l->raised) {
			l->raised = 1;
			(void)PyThreadState_SetAsyncExc(l->ident, lcpy.timeouts);
			return;
		}
}
