/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/arbiter/check.c - from the files of a configuration to one that was checked as a whole.
 *
 * The arbiter parses the text without loading a module; a short-lived child, the checker, loads the modules and checks
 * all of it.  It gets the expanded text, and gives up root first.  Only when our own parse has failed it reads the
 * files itself, with our rights, so that all mistakes come out at once.  At the start, and for -t, the arbiter waits
 * for it; in a reload it is an entry of the process table (reload.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter/priv.h"
#include "log/log.h"

int
lc__conf_load(const struct lc_arb_opts *o, struct lc_conf **ret, struct lc_err *err)
{
	struct lc_conf_opts co = {.prefix = o->prefix, .globals = o->globals, .opaque = 1, .use_env = 1};

	return o->path ? lc_conf_load(ret, o->path, &co, err)
		       : lc_conf_parse(ret, o->text, o->text_n, o->text_name, &co, err);
}

int
lc__check_child(const struct lc_arb_opts *o, const struct lc_conf *conf, const struct lc__creds *creds, bool dump,
		int list, const char **args, struct lc__child *ret)
{
	unsigned n = 0;

	*ret = (struct lc__child){
	    .title = "licorne: checker", .role = "checker", .args = args, .fd3 = -1, .out = list, .err = -1};
	if (conf || !o->path) {
		const char *text = o->text;
		size_t text_n = o->text_n;
		char *own = NULL;

		if (conf) {
			text = own = lc_conf_text(conf, NULL, &text_n);
			args[n++] = "--prefix";
			args[n++] = lc_conf_prefix(conf);
		} else if (o->prefix) {
			args[n++] = "--prefix";
			args[n++] = o->prefix;
		}
		args[n++] = "--name";
		args[n++] = o->path ? o->path : o->text_name;
		ret->fd3 = text ? lcimsg_memfd("licorne configuration", text, text_n) : -ENOMEM;
		free(own);
		if (ret->fd3 < 0)
			return ret->fd3;
		ret->creds = creds;
	} else {
		args[n++] = "--file";
		args[n++] = o->path;
		if (o->prefix) {
			args[n++] = "--prefix";
			args[n++] = o->prefix;
		}
		if (o->globals) {
			args[n++] = "--globals";
			args[n++] = o->globals;
		}
	}
	if (dump)
		args[n++] = "--dump";
	if (list >= 0)
		args[n++] = "--files";
	args[n] = NULL;
	return 0;
}

/* Run it and wait: 0, or an exit status. */
static int
run_checker(const struct lc_arb_opts *o, const struct lc_conf *conf, const struct lc__creds *creds, bool dump, int list)
{
	const char *args[LC__CHECK_ARGS];
	struct lc__child ch;
	siginfo_t si = {0};
	char name[16];
	pid_t pid;
	int r = lc__check_child(o, conf, creds, dump, list, args, &ch);

	if (r < 0) {
		lc_log(LC_LOG_CRIT, "cannot check the configuration: %s", strerror(-r));
		return LC_EXIT_CONFIG;
	}
	pid = lc__child_spawn(&ch);
	if (ch.fd3 >= 0)
		close(ch.fd3);
	if (pid < 0) {
		lc_log(LC_LOG_CRIT, "cannot start a child to check the configuration: %s", strerror((int)-pid));
		return LC_EXIT_CONFIG;
	}
	do {
		r = waitid(P_PID, (id_t)pid, &si, WEXITED);
	} while (r < 0 && errno == EINTR);
	if (si.si_code == CLD_EXITED)
		return si.si_status == 0 ? 0 : LC_EXIT_CONFIG;
	lc_log(LC_LOG_CRIT, "the child that checks the configuration was killed by %s: a module is broken",
	       lc__signal_name(si.si_status, name));
	return LC_EXIT_CONFIG;
}

static void
print_errors(const struct lc_err *err)
{
	const char *t = lc_err_text(err);

	if (fwrite(t, 1, strlen(t), stderr) == 0)
		fflush(stderr);
}

int
lc__check_load(const struct lc_arb_opts *o, struct lc_conf **ret, struct lc__creds *creds, struct lc__files *files,
	       bool dump)
{
	struct lc_err *err = lc_err_new();
	struct lc_conf *conf = NULL;
	int status = LC_EXIT_CONFIG, list = -1, r;

	if (!err)
		return LC_EXIT_CONFIG;
	if (lc__conf_load(o, &conf, err) < 0) {
		if (o->no_check || run_checker(o, NULL, NULL, false, -1) == 0 || lc_err_count(err) == 0)
			print_errors(err); /* the checker has said more otherwise */
		goto out;
	}
	if (!o->no_check)
		lc__places_check(conf, err);
	r = lc__creds_resolve(creds, conf, err);
	lc_err_sort(err);
	if (r < 0) { /* nobody to be while the rest is checked */
		print_errors(err);
		goto out;
	}
	if (o->no_check) {
		status = 0;
		goto out;
	}
	if (!dump && (list = memfd_create("licorne list of files", MFD_CLOEXEC)) < 0) {
		lc_log(LC_LOG_CRIT, "cannot check the configuration: %m");
		goto out;
	}
	status = run_checker(o, conf, creds, dump, list);
	r = status || list < 0 ? 0 : lc__files_read(files, list, err);
	if (status && !lc_err_count(err))
		goto out;
	if (lc_err_count(err))
		print_errors(err);
	else if (r < 0)
		lc_log(LC_LOG_CRIT, "cannot read the files that the configuration names: %s", strerror(-r));
	status = r < 0 || lc_err_count(err) ? LC_EXIT_CONFIG : 0;
out:
	if (list >= 0)
		close(list);
	lc_err_free(err);
	if (status == 0)
		*ret = conf;
	else
		lc_conf_free(conf);
	return status;
}

int
lc_arb_check(const struct lc_arb_opts *o, int what)
{
	struct lc_conf *conf = NULL;
	struct lc__creds creds = {0};
	struct lc__files files = {0};
	int status;

	lc_log_plain(1);
	status = lc__check_load(o, &conf, &creds, &files, what == LC_CHECK_DUMP);
	if (status == 0 && what == LC_CHECK_SAY)
		printf("licorne: the configuration %s is right\n", o->path ? o->path : o->text_name);
	lc__files_close(&files);
	lc_conf_free(conf);
	free(creds.groups);
	return status;
}
