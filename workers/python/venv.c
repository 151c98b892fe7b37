/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * workers/python/venv.c - is a virtual environment one of the embedded Python's, and may we read that Python?
 *
 * pyvenv.cfg says so: `version = 3.11.7` (venv), `version_info = 3.11.7.final.0` (virtualenv), `version_info = 3.11.7`
 * (uv).  Where it does not, the directory lib/pythonX.Y decides.  Read before Python starts, so that the sentence that
 * refuses it does not depend on what a wrong environment would do to the interpreter.
 */
#include "lcpy.h"

#include <ctype.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

/* The version of a `key = value` line of pyvenv.cfg; 1 when it was one. */
static int
version_line(const char *line, unsigned *major, unsigned *minor, char *text, size_t textsize)
{
	size_t n = strcspn(line, " \t=");
	const char *v = line + n;

	if (!(n == 7 && strncasecmp(line, "version", 7) == 0) &&
	    !(n == 12 && strncasecmp(line, "version_info", 12) == 0))
		return 0;
	v += strspn(v, " \t=");
	if (sscanf(v, "%u.%u", major, minor) != 2)
		return 0;
	n = 0;
	for (unsigned dots = 0; n + 1 < textsize && (isdigit((unsigned char)v[n]) || v[n] == '.'); n++) {
		if (v[n] == '.' && (++dots > 2 || !isdigit((unsigned char)v[n + 1])))
			break; /* "3.11.7.final.0" */
		text[n] = v[n];
	}
	text[n] = '\0';
	return 1;
}

int
lcpy_home_check(const char *home, char *msg, size_t msgsize)
{
	const struct passwd *pw;
	char path[4096], user[64];
	struct stat st;
	size_t n = 1;

	(void)snprintf(path, sizeof(path), "%s/lib/python%d.%d/", home, PY_MAJOR_VERSION, PY_MINOR_VERSION);
	if (access(path, R_OK | X_OK) == 0 || errno != EACCES)
		return 0; /* where else it may be is Python's affair */
	pw = getpwuid(geteuid());
	if (pw)
		(void)snprintf(user, sizeof(user), "%s", pw->pw_name);
	else
		(void)snprintf(user, sizeof(user), "%ld", (long)geteuid());
	do { /* the first folder on the way that is closed */
		n += strcspn(path + n, "/");
		path[n] = '\0';
		if (access(path, X_OK) < 0)
			break;
		path[n++] = '/';
	} while (path[n]);
	if (path[n - 1] == '/')
		path[n - 1] = '\0'; /* the last, which can be entered and not read */
	(void)snprintf(
	    msg, msgsize,
	    "user %s cannot read Python's library in %s: %s is closed to it (mode %04o); open it, set another "
	    "user, or rebuild licorne for a Python elsewhere: meson setup --wipe build "
	    "-Dpython=/usr/bin/python3 && ninja -C build",
	    user, home, path, stat(path, &st) == 0 ? (unsigned)st.st_mode & 07777 : 0);
	return -EACCES;
}

int
lcpy_venv_check(const char *venv, char *msg, size_t msgsize)
{
	unsigned major = 0, minor = 0;
	char path[4096], line[1024], text[32] = "";
	struct stat st;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/pyvenv.cfg", venv);
	f = fopen(path, "re");
	if (!f) {
		(void)snprintf(msg, msgsize, "%s is not a virtual environment: its pyvenv.cfg cannot be read (%s)",
			       venv, strerror(errno));
		return -EINVAL;
	}
	while (fgets(line, sizeof(line), f))
		if (version_line(line, &major, &minor, text, sizeof(text)))
			break;
	(void)fclose(f);
	if (!major) {
		(void)snprintf(path, sizeof(path), "%s/lib/python%d.%d", venv, PY_MAJOR_VERSION, PY_MINOR_VERSION);
		if (stat(path, &st) == 0)
			return 0;
		(void)snprintf(text, sizeof(text), "another version");
	} else if (major == PY_MAJOR_VERSION && minor == PY_MINOR_VERSION) {
		return 0;
	}
	(void)snprintf(
	    msg, msgsize,
	    "the virtual environment %s is of Python %s, but this licorne embeds Python %d.%d; rebuild licorne "
	    "for it: meson setup --wipe build -Dpython=%s/bin/python && ninja -C build",
	    venv, text, PY_MAJOR_VERSION, PY_MINOR_VERSION, venv);
	return -EINVAL;
}
