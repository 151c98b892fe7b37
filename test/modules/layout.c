/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layout.c - prints the size of every public struct, the offset and size of every member, and the token numbers.
 *
 * layout.py compares with layout-0.2.golden and sees to it that nothing of the headers is missing here.
 */
#include <licorne/handler.h>
#include <licorne/module.h>
#include <licorne/proto.h>
#include <licorne/stream.h>
#include <licorne/tokens.h>
#include <licorne/transport.h>
#include <licorne/worker.h>

#include <stdio.h>

#define STRUCT(s) printf(#s " size %zu align %zu\n", sizeof(struct s), _Alignof(struct s))
#define MEMBER(s, m) printf(#s "." #m " %zu size %zu\n", offsetof(struct s, m), sizeof(((struct s *)0)->m))
#define TOKEN(id, name) printf("token %d " name "\n", LC_TOK_##id);

int
main(void)
{
	/* abi.h */
	STRUCT(lc_str);
	MEMBER(lc_str, p);
	MEMBER(lc_str, n);
	STRUCT(lc_field);
	MEMBER(lc_field, name);
	MEMBER(lc_field, value);
	MEMBER(lc_field, token);
	MEMBER(lc_field, flags);
	MEMBER(lc_field, pad);
	STRUCT(lc_slice);
	MEMBER(lc_slice, p);
	MEMBER(lc_slice, n);
	MEMBER(lc_slice, off);
	MEMBER(lc_slice, release);
	MEMBER(lc_slice, arg);
	MEMBER(lc_slice, fd);
	MEMBER(lc_slice, flags);

	/* config.h */
	STRUCT(lc_list);
	MEMBER(lc_list, v);
	MEMBER(lc_list, n);
	STRUCT(lc_msec2);
	MEMBER(lc_msec2, min);
	MEMBER(lc_msec2, max);
	STRUCT(lc_range);
	MEMBER(lc_range, min);
	MEMBER(lc_range, max);
	STRUCT(lc_enum);
	MEMBER(lc_enum, name);
	MEMBER(lc_enum, value);
	STRUCT(lc_lines);
	MEMBER(lc_lines, min);
	MEMBER(lc_lines, max);
	MEMBER(lc_lines, path);
	MEMBER(lc_lines, pad);
	MEMBER(lc_lines, words);
	MEMBER(lc_lines, check);
	STRUCT(lc_directive);
	MEMBER(lc_directive, name);
	MEMBER(lc_directive, type);
	MEMBER(lc_directive, context);
	MEMBER(lc_directive, flags);
	MEMBER(lc_directive, offset);
	MEMBER(lc_directive, def);
	MEMBER(lc_directive, aux);
	MEMBER(lc_directive, since);
	MEMBER(lc_directive, args);
	MEMBER(lc_directive, brief);
	MEMBER(lc_directive, doc);
	STRUCT(lc_config_api);
	MEMBER(lc_config_api, size);
	MEMBER(lc_config_api, pad);
	MEMBER(lc_config_api, error);
	MEMBER(lc_config_api, file);

	/* module.h */
	STRUCT(lc_iface);
	MEMBER(lc_iface, kind);
	MEMBER(lc_iface, version);
	MEMBER(lc_iface, ops);
	STRUCT(lc_host);
	MEMBER(lc_host, size);
	MEMBER(lc_host, abi_major);
	MEMBER(lc_host, abi_minor);
	MEMBER(lc_host, version);
	MEMBER(lc_host, get);
	STRUCT(lc_module);
	MEMBER(lc_module, magic);
	MEMBER(lc_module, abi_major);
	MEMBER(lc_module, abi_minor);
	MEMBER(lc_module, size);
	MEMBER(lc_module, flags);
	MEMBER(lc_module, name);
	MEMBER(lc_module, version);
	MEMBER(lc_module, built_for);
	MEMBER(lc_module, summary);
	MEMBER(lc_module, needs);
	MEMBER(lc_module, ifaces);
	MEMBER(lc_module, directives);
	MEMBER(lc_module, nifaces);
	MEMBER(lc_module, iface_size);
	MEMBER(lc_module, ndirectives);
	MEMBER(lc_module, directive_size);
	MEMBER(lc_module, conf_size);
	MEMBER(lc_module, check);
	MEMBER(lc_module, load);

	/* stream.h */
	STRUCT(lc_fact);
	MEMBER(lc_fact, name);
	MEMBER(lc_fact, value);
	STRUCT(lc_req);
	MEMBER(lc_req, size);
	MEMBER(lc_req, version);
	MEMBER(lc_req, flags);
	MEMBER(lc_req, method);
	MEMBER(lc_req, scheme);
	MEMBER(lc_req, authority);
	MEMBER(lc_req, target);
	MEMBER(lc_req, path);
	MEMBER(lc_req, query);
	MEMBER(lc_req, fields);
	MEMBER(lc_req, nfields);
	MEMBER(lc_req, pad);
	MEMBER(lc_req, length);
	MEMBER(lc_req, peer);
	MEMBER(lc_req, local);
	MEMBER(lc_req, peer_port);
	MEMBER(lc_req, local_port);
	MEMBER(lc_req, listener);
	MEMBER(lc_req, pad2);
	MEMBER(lc_req, protocol);
	MEMBER(lc_req, facts);
	MEMBER(lc_req, nfacts);
	MEMBER(lc_req, pad3);
	STRUCT(lc_head);
	MEMBER(lc_head, size);
	MEMBER(lc_head, status);
	MEMBER(lc_head, nfields);
	MEMBER(lc_head, flags);
	MEMBER(lc_head, fields);
	MEMBER(lc_head, length);
	MEMBER(lc_head, reason);
	MEMBER(lc_head, memo);
	STRUCT(lc_stream_api);
	MEMBER(lc_stream_api, size);
	MEMBER(lc_stream_api, pad);
	MEMBER(lc_stream_api, req);
	MEMBER(lc_stream_api, share);
	MEMBER(lc_stream_api, read);
	MEMBER(lc_stream_api, avail);
	MEMBER(lc_stream_api, respond);
	MEMBER(lc_stream_api, write);
	MEMBER(lc_stream_api, finish);
	MEMBER(lc_stream_api, reset);
	MEMBER(lc_stream_api, wait);
	MEMBER(lc_stream_api, alloc);
	MEMBER(lc_stream_api, set_user);
	MEMBER(lc_stream_api, user);
	MEMBER(lc_stream_api, release);
	MEMBER(lc_stream_api, trailers);

	/* proto.h */
	STRUCT(lc_proto);
	MEMBER(lc_proto, size);
	MEMBER(lc_proto, flags);
	MEMBER(lc_proto, name);
	MEMBER(lc_proto, alpn);
	MEMBER(lc_proto, sniff_max);
	MEMBER(lc_proto, pad);
	MEMBER(lc_proto, sniff);
	MEMBER(lc_proto, open);
	MEMBER(lc_proto, close);
	MEMBER(lc_proto, recv);
	MEMBER(lc_proto, eof);
	MEMBER(lc_proto, pull);
	MEMBER(lc_proto, head);
	MEMBER(lc_proto, out_ready);
	MEMBER(lc_proto, trailers);
	MEMBER(lc_proto, consumed);
	MEMBER(lc_proto, reset);
	MEMBER(lc_proto, detach);
	MEMBER(lc_proto, drain);
	MEMBER(lc_proto, timeout);
	MEMBER(lc_proto, status);
	MEMBER(lc_proto, upgrade);
	MEMBER(lc_proto, upgrade_check);
	MEMBER(lc_proto, upgrade_open);
	STRUCT(lc_conn_api);
	MEMBER(lc_conn_api, size);
	MEMBER(lc_conn_api, pad);
	MEMBER(lc_conn_api, sess_alloc);
	MEMBER(lc_conn_api, stream_open);
	MEMBER(lc_conn_api, stream_alloc);
	MEMBER(lc_conn_api, stream_head);
	MEMBER(lc_conn_api, stream_body);
	MEMBER(lc_conn_api, stream_end);
	MEMBER(lc_conn_api, stream_abort);
	MEMBER(lc_conn_api, stream_done);
	MEMBER(lc_conn_api, stream_avail);
	MEMBER(lc_conn_api, stream_take);
	MEMBER(lc_conn_api, out_copy);
	MEMBER(lc_conn_api, out_reserve);
	MEMBER(lc_conn_api, out_commit);
	MEMBER(lc_conn_api, out_room);
	MEMBER(lc_conn_api, want_write);
	MEMBER(lc_conn_api, read_pause);
	MEMBER(lc_conn_api, timer);
	MEMBER(lc_conn_api, conn_close);
	MEMBER(lc_conn_api, date);
	MEMBER(lc_conn_api, draining);
	MEMBER(lc_conn_api, log);
	MEMBER(lc_conn_api, refused);
	MEMBER(lc_conn_api, upgrade_find);
	MEMBER(lc_conn_api, hand_over);

	/* worker.h */
	STRUCT(lc_worker_api);
	MEMBER(lc_worker_api, size);
	MEMBER(lc_worker_api, pad);
	MEMBER(lc_worker_api, stream);
	MEMBER(lc_worker_api, lead);
	MEMBER(lc_worker_api, post);
	MEMBER(lc_worker_api, capacity);
	MEMBER(lc_worker_api, clock);
	MEMBER(lc_worker_api, token);
	MEMBER(lc_worker_api, pool_name);
	MEMBER(lc_worker_api, processes);
	MEMBER(lc_worker_api, slot);
	MEMBER(lc_worker_api, boot_error);
	MEMBER(lc_worker_api, log);
	MEMBER(lc_worker_api, memo);
	MEMBER(lc_worker_api, enter);
	MEMBER(lc_worker_api, leave);
	MEMBER(lc_worker_api, request_timeout);
	MEMBER(lc_worker_api, stacks);
	STRUCT(lc_worker);
	MEMBER(lc_worker, size);
	MEMBER(lc_worker, flags);
	MEMBER(lc_worker, name);
	MEMBER(lc_worker, init);
	MEMBER(lc_worker, run);
	MEMBER(lc_worker, request);
	MEMBER(lc_worker, readable);
	MEMBER(lc_worker, writable);
	MEMBER(lc_worker, abort);
	MEMBER(lc_worker, batch_end);
	MEMBER(lc_worker, leader_wanted);
	MEMBER(lc_worker, stop);
	MEMBER(lc_worker, status);
	MEMBER(lc_worker, fini);
	MEMBER(lc_worker, overdue);
	MEMBER(lc_worker, preload);
	MEMBER(lc_worker, forking);
	MEMBER(lc_worker, forked);

	/* handler.h */
	STRUCT(lc_route);
	MEMBER(lc_route, size);
	MEMBER(lc_route, index);
	MEMBER(lc_route, prefix);
	STRUCT(lc_match);
	MEMBER(lc_match, size);
	MEMBER(lc_match, pad);
	MEMBER(lc_match, path);
	MEMBER(lc_match, rest);
	STRUCT(lc_handler);
	MEMBER(lc_handler, size);
	MEMBER(lc_handler, flags);
	MEMBER(lc_handler, name);
	MEMBER(lc_handler, open);
	MEMBER(lc_handler, request);
	MEMBER(lc_handler, readable);
	MEMBER(lc_handler, writable);
	MEMBER(lc_handler, abort);
	MEMBER(lc_handler, close);

	/* transport.h */
	STRUCT(lc_tr_listener);
	MEMBER(lc_tr_listener, size);
	MEMBER(lc_tr_listener, index);
	MEMBER(lc_tr_listener, address);
	MEMBER(lc_tr_listener, alpn);
	MEMBER(lc_tr_listener, secret);
	MEMBER(lc_tr_listener, before);
	STRUCT(lc_transport);
	MEMBER(lc_transport, size);
	MEMBER(lc_transport, flags);
	MEMBER(lc_transport, name);
	MEMBER(lc_transport, header_max);
	MEMBER(lc_transport, pad);
	MEMBER(lc_transport, wanted);
	MEMBER(lc_transport, listen);
	MEMBER(lc_transport, unlisten);
	MEMBER(lc_transport, open);
	MEMBER(lc_transport, close);
	MEMBER(lc_transport, header);
	MEMBER(lc_transport, input);
	MEMBER(lc_transport, output);
	MEMBER(lc_transport, shutdown);
	MEMBER(lc_transport, idle);
	MEMBER(lc_transport, timeout);
	MEMBER(lc_transport, secret);
	MEMBER(lc_transport, check);
	STRUCT(lc_transport_api);
	MEMBER(lc_transport_api, size);
	MEMBER(lc_transport_api, pad);
	MEMBER(lc_transport_api, raw);
	MEMBER(lc_transport_api, established);
	MEMBER(lc_transport_api, timer);
	MEMBER(lc_transport_api, peer);
	MEMBER(lc_transport_api, set_peer);
	MEMBER(lc_transport_api, set_local);
	MEMBER(lc_transport_api, fact);
	MEMBER(lc_transport_api, log);

	/* tokens.h */
	LC_TOKEN_LIST(TOKEN)
	return 0;
}
