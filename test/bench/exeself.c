/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exeself.c - preloaded by profile.sh only: lets a program that re-executes itself run under valgrind.
 *
 * licorne's children are its own binary again, by way of /proc/self/exe; under valgrind that link is valgrind.  Here an
 * execv() of it becomes one of $LICORNE_EXE.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int
execv(const char *path, char *const argv[])
{
	const char *exe = strcmp(path, "/proc/self/exe") == 0 ? getenv("LICORNE_EXE") : NULL;

	return execve(exe ? exe : path, argv, environ);
}
