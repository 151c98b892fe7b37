/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pyfloor.h - what echo.c needs to be the second floor: the least that any WSGI server in C must let CPython do.
 *
 * For each request: a fresh environ (PyDict_Copy() of a template that has as many keys as licorne's), the vectorcall
 * of the application, start_response() that takes a status and a list and looks at neither, the iteration of the list
 * that comes back, and a copy of a prebuilt response.  No parsing, no value of a header, no check, one thread that
 * never lets go of the GIL: no server can do less and still be one.
 */
#ifndef LC_BENCH_PYFLOOR_H
#define LC_BENCH_PYFLOOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NKEYS 23    /* of a request with Host alone */
#define NBROWSER 31 /* with eight browser headers */
#define SHORT 200   /* bytes: a longer request has those */

static PyObject *floor_app, *floor_start, *floor_environ[2];

static PyObject *
floor_start_response(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)self;
	(void)args;
	if (nargs < 2) {
		PyErr_SetString(PyExc_TypeError, "start_response(status, headers)");
		return NULL;
	}
	Py_RETURN_NONE; /* where write() would be */
}

static PyMethodDef floor_method = {.ml_name = "start_response",
				   .ml_meth = (PyCFunction)(void (*)(void))floor_start_response,
				   .ml_flags = METH_FASTCALL};

static PyObject *
floor_template(int n)
{
	static const char *const names[] = {"PATH_INFO", "REQUEST_METHOD", "QUERY_STRING", "SERVER_NAME",
					    "wsgi.url_scheme"};
	PyObject *d = PyDict_New(), *v = PyUnicode_FromString("/");

	for (int i = 0; d && v && i < n; i++) {
		PyObject *k = i < 5 ? PyUnicode_InternFromString(names[i]) : PyUnicode_FromFormat("HTTP_X_%d", i);

		if (!k || PyDict_SetItem(d, k, v) < 0)
			return NULL;
		Py_DECREF(k);
	}
	return d;
}

/* The application is hello:app of the working directory's PYTHONPATH. */
static void
floor_init(void)
{
	PyObject *m;

	Py_Initialize();
	m = PyImport_ImportModule("hello");
	floor_app = m ? PyObject_GetAttrString(m, "app") : NULL;
	floor_start = PyCFunction_New(&floor_method, NULL);
	floor_environ[0] = floor_template(NKEYS);
	floor_environ[1] = floor_template(NBROWSER);
	if (floor_app && floor_start && floor_environ[0] && floor_environ[1])
		return;
	PyErr_Print();
	exit(1);
}

/* One call; the body goes to @to.  Its length, -1: an error, printed. */
static ssize_t
floor_call(int browser, char *to, size_t room)
{
	PyObject *args[3] = {NULL, PyDict_Copy(floor_environ[browser]), floor_start}, *list, *item;
	ssize_t n = -1;

	if (!args[1])
		goto fail;
	list = PyObject_Vectorcall(floor_app, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	if (!list)
		goto fail;
	for (Py_ssize_t i = 0; PyList_CheckExact(list) && i < PyList_GET_SIZE(list); i++) {
		item = PyList_GET_ITEM(list, i);
		if (!PyBytes_CheckExact(item) || (size_t)PyBytes_GET_SIZE(item) > room)
			goto fail;
		memcpy(to, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
		n = PyBytes_GET_SIZE(item);
	}
	Py_DECREF(list);
	Py_DECREF(args[1]);
	return n;
fail:
	if (PyErr_Occurred())
		PyErr_Print();
	return -1;
}

#endif
