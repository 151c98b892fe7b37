/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core/module/stack.c - which transports a listener has, and in which order.
 *
 * Those named behind the address, and those that the directives in its block ask for (lc_transport.wanted).  Prologues
 * come first whatever the order of the words: nothing can stand before what a connection begins with.  The checker asks
 * as well as the worker, so that a stack that cannot be is a mistake of the configuration.
 */
#include <licorne/transport.h>

#include <errno.h>
#include <string.h>

#include "module/loader.h"

static const struct lc_transport *
ops_of(const struct lc_mod *m)
{
	return lc_mod_iface(m, LC_KIND_TRANSPORT, LC_TRANSPORT_VERSION);
}

static int
add(const struct lc_block *b, struct lc_mod *m, struct lc_mod **v, uint32_t *n, struct lc_err *err)
{
	const struct lc_transport *ops = ops_of(m), *last = *n ? ops_of(v[*n - 1]) : NULL;
	uint32_t at = *n;

	for (uint32_t k = 0; k < *n; k++)
		if (v[k] == m) {
			lc_err_add(err, b->file, b->line, "listen: transport \"%s\" is there twice, expected once",
				   m->desc.name);
			return -EINVAL;
		}
	if (!ops->header_max && last && !last->header_max) {
		lc_err_add(
		    err, b->file, b->line,
		    "listen: \"%s\" and \"%s\" both stand between this socket and its protocol for good, expected "
		    "one of them",
		    v[*n - 1]->desc.name, m->desc.name);
		return -EINVAL;
	}
	if (*n == LC_MOD_TRANSPORTS) {
		lc_err_add(err, b->file, b->line, "listen: too many transports, expected at most %u",
			   LC_MOD_TRANSPORTS);
		return -EINVAL;
	}
	if (ops->header_max && last && !last->header_max)
		v[at] = v[at - 1], at--;
	v[at] = m;
	++*n;
	return 0;
}

int
lc_mod_transports(const struct lc_conf *conf, const struct lc_block *b, struct lc_mod *ret[LC_MOD_TRANSPORTS],
		  struct lc_err *err)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < b->nargs; k++) {
		struct lc_mod *m = lc_mod_find(b->args[k]); /* the parser has seen to it that it is one */
		if (m && ops_of(m) && add(b, m, ret, &n, err) < 0)
			return -EINVAL;
	}
	for (struct lc_mod *m = lc_mod_first(); m; m = m->next) {
		const struct lc_transport *ops = ops_of(m);
		uint32_t k = 0;
		if (!ops || !ops->wanted || !ops->wanted(lc_conf_get(conf, b, &m->dirset)))
			continue;
		while (k < n && ret[k] != m)
			k++;
		if (k == n && add(b, m, ret, &n, err) < 0)
			return -EINVAL;
	}
	return (int)n;
}
