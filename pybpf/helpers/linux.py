"""Linux's helpers by number: include/uapi/linux/bpf.h as of Linux 6.18, the contracts as its bpf_func_proto structures say.

A row is the number, the name, the contract and, behind a semicolon, what else is to be known:

    moves      the packet may move: every pointer into it dies            gpl      only for programs under the GPL
    direct     memory arguments may lie in the packet                     sleeps   only for programs that may sleep
    acquires   the result must be given back                              casts    the result is the argument, seen otherwise
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pybpf.helpers import bodies
from pybpf.helpers.contract import Helper

_TABLE: Final = """
  1 map_lookup_elem             map key -> value?; direct
  2 map_update_elem             map key value any -> num; direct
  3 map_delete_elem             map key -> num; direct
  4 probe_read                  out size0 any -> num; gpl
  5 ktime_get_ns                -> num
  6 trace_printk                mem size -> num; gpl
  7 get_prandom_u32             -> u32
  8 get_smp_processor_id        -> u32
  9 skb_store_bytes             ctx any mem size any -> num; moves
 10 l3_csum_replace             ctx any any any any -> num; moves
 11 l4_csum_replace             ctx any any any any -> num; moves
 12 tail_call                   ctx map any -> void
 13 clone_redirect              ctx any any -> num; moves
 14 get_current_pid_tgid        -> num
 15 get_current_uid_gid         -> num
 16 get_current_comm            out size -> num
 17 get_cgroup_classid          ctx -> num
 18 skb_vlan_push               ctx any any -> num; moves
 19 skb_vlan_pop                ctx -> num; moves
 20 skb_get_tunnel_key          ctx out size any -> num
 21 skb_set_tunnel_key          ctx mem size any -> num
 22 perf_event_read             map any -> num; gpl
 23 redirect                    any any -> num
 24 get_route_realm             ctx -> num
 25 perf_event_output           ctx map any mem size0 -> num; gpl
 26 skb_load_bytes              ctx any out size -> num
 27 get_stackid                 ctx map any -> num; gpl
 28 csum_diff                   mem? size0 mem? size0 any -> num; direct
 29 skb_get_tunnel_opt          ctx out size -> num
 30 skb_set_tunnel_opt          ctx mem size -> num
 31 skb_change_proto            ctx any any -> num; moves
 32 skb_change_type             ctx any -> num
 33 skb_under_cgroup            ctx map any -> num
 34 get_hash_recalc             ctx -> num
 35 get_current_task            -> num; gpl
 36 probe_write_user            any mem size -> num; gpl
 37 current_task_under_cgroup   map any -> num
 38 skb_change_tail             ctx any any -> num; moves
 39 skb_pull_data               ctx any -> num; moves
 40 csum_update                 ctx any -> num
 41 set_hash_invalid            ctx -> num
 42 get_numa_node_id            -> num
 43 skb_change_head             ctx any any -> num; moves
 44 xdp_adjust_head             ctx any -> num; moves
 45 probe_read_str              out size0 any -> length; gpl
 46 get_socket_cookie           ctx -> num
 47 get_socket_uid              ctx -> num
 48 set_hash                    ctx any -> num
 49 setsockopt                  ctx any any mem size -> num
 50 skb_adjust_room             ctx any any any -> num; moves
 51 redirect_map                map any any -> num
 52 sk_redirect_map             ctx map any any -> num
 53 sock_map_update             ctx map key any -> num
 54 xdp_adjust_meta             ctx any -> num; moves
 55 perf_event_read_value       map any out size -> num; gpl
 56 perf_prog_read_value        ctx out size -> num; gpl
 57 getsockopt                  ctx any any out size -> num
 58 override_return             ctx any -> num; gpl
 59 sock_ops_cb_flags_set       ctx any -> num
 60 msg_redirect_map            ctx map any any -> num
 61 msg_apply_bytes             ctx any -> num
 62 msg_cork_bytes              ctx any -> num
 63 msg_pull_data               ctx any any any -> num; moves
 64 bind                        ctx mem size -> num
 65 xdp_adjust_tail             ctx any -> num; moves
 66 skb_get_xfrm_state          ctx any out size any -> num
 67 get_stack                   ctx out size0 any -> length; gpl
 68 skb_load_bytes_relative     ctx any out size any -> num
 69 fib_lookup                  ctx inout size any -> num; gpl
 70 sock_hash_update            ctx map key any -> num
 71 msg_redirect_hash           ctx map key any -> num
 72 sk_redirect_hash            ctx map key any -> num
 73 lwt_push_encap              ctx any mem size -> num; moves
 74 lwt_seg6_store_bytes        ctx any mem size -> num; moves
 75 lwt_seg6_adjust_srh         ctx any any -> num; moves
 76 lwt_seg6_action             ctx any mem size -> num; moves
 77 rc_repeat                   ctx -> num; gpl
 78 rc_keydown                  ctx any any any -> num; gpl
 79 skb_cgroup_id               ctx -> num
 80 get_current_cgroup_id       -> num
 81 get_local_storage           map zero -> value
 82 sk_select_reuseport         ctx map key any -> num
 83 skb_ancestor_cgroup_id      ctx any -> num
 84 sk_lookup_tcp               ctx mem size0 any any -> sock?; direct acquires
 85 sk_lookup_udp               ctx mem size0 any any -> sock?; direct acquires
 86 sk_release                  sk! -> num
 87 map_push_elem               map value any -> num; direct
 88 map_pop_elem                map newvalue -> num
 89 map_peek_elem               map newvalue -> num
 90 msg_push_data               ctx any any any -> num; moves
 91 msg_pop_data                ctx any any any -> num; moves
 92 rc_pointer_rel              ctx any any -> num; gpl
 93 spin_lock                   lock -> void
 94 spin_unlock                 lock -> void
 95 sk_fullsock                 sk -> sock?; casts
 96 tcp_sock                    sk -> tcp_sock?; casts
 97 skb_ecn_set_ce              ctx -> num
 98 get_listener_sock           sk -> sock?
 99 skc_lookup_tcp              ctx mem size0 any any -> sock_common?; direct acquires
100 tcp_check_syncookie         sk mem size mem size -> num; gpl direct
101 sysctl_get_name             ctx out size any -> num
102 sysctl_get_current_value    ctx out size -> num
103 sysctl_get_new_value        ctx out size -> num
104 sysctl_set_new_value        ctx mem size -> num
105 strtol                      mem size any out8 -> num
106 strtoul                     mem size any out8 -> num
107 sk_storage_get              map sk value? any -> value?
108 sk_storage_delete           map sk -> num
109 send_signal                 any -> num
110 tcp_gen_syncookie           sk mem size mem size -> num; gpl direct
111 skb_output                  btf map any mem size0 -> num; gpl
112 probe_read_user             out size0 any -> num; gpl
113 probe_read_kernel           out size0 any -> num; gpl
114 probe_read_user_str         out size0 any -> length; gpl
115 probe_read_kernel_str       out size0 any -> length; gpl
116 tcp_send_ack                btf any -> num
117 send_signal_thread          any -> num
118 jiffies64                   -> num
119 read_branch_records         ctx out? size0 any -> num; gpl
120 get_ns_current_pid_tgid     any any out size -> num
121 xdp_output                  btf map any mem size0 -> num; gpl
122 get_netns_cookie            ctx? -> num
123 get_current_ancestor_cgroup_id any -> num
124 sk_assign                   ctx sk any -> num
125 ktime_get_boot_ns           -> num
126 seq_printf                  btf mem size mem? size0 -> num; gpl
127 seq_write                   btf mem size0 -> num; gpl
128 sk_cgroup_id                sk -> num
129 sk_ancestor_cgroup_id       sk any -> num
130 ringbuf_output              map mem size0 any -> num
131 ringbuf_reserve             map constant any -> record?; acquires
132 ringbuf_submit              record! any -> void
133 ringbuf_discard             record! any -> void
134 ringbuf_query               map any -> num
135 csum_level                  ctx any -> num
136 skc_to_tcp6_sock            sk -> btf?; casts
137 skc_to_tcp_sock             sk -> btf?; casts
138 skc_to_tcp_timewait_sock    sk -> btf?; casts
139 skc_to_tcp_request_sock     sk -> btf?; casts
140 skc_to_udp6_sock            sk -> btf?; casts
141 get_task_stack              btf out size0 any -> length
142 load_hdr_opt                ctx out size any -> num
143 store_hdr_opt               ctx mem size any -> num; moves
144 reserve_hdr_opt             ctx any any -> num
145 inode_storage_get           map btf value? any -> value?
146 inode_storage_delete        map btf -> num
147 d_path                      btf out size0 -> num
148 copy_from_user              out size0 any -> num; sleeps
149 snprintf_btf                out size mem size any -> num
150 seq_printf_btf              btf mem size0 any -> num; gpl
151 skb_cgroup_classid          ctx -> num
152 redirect_neigh              any mem? size0 any -> num
153 per_cpu_ptr                 percpu any -> btf?
154 this_cpu_ptr                percpu -> btf
155 redirect_peer               any any -> num
156 task_storage_get            map btf value? any -> value?
157 task_storage_delete         map btf -> num
158 get_current_task_btf        -> btf; gpl
159 bprm_opts_set               btf any -> num
160 ktime_get_coarse_ns         -> num
161 ima_inode_hash              btf out size -> num; sleeps
162 sock_from_file              btf -> btf?
163 check_mtu                   ctx any inout4 any any -> num; gpl
164 for_each_map_elem           map callback stack? any -> num
165 snprintf                    out? size0 format mem? size0 -> num; gpl
166 sys_bpf                     any mem? size -> num
167 btf_find_by_name_kind       mem size any any -> num
168 sys_close                   any -> num
169 timer_init                  timer map any -> num; gpl
170 timer_set_callback          timer callback -> num; gpl
171 timer_start                 timer any any -> num; gpl
172 timer_cancel                timer -> num; gpl
173 get_func_ip                 ctx -> num; gpl
174 get_attach_cookie           ctx -> num
175 task_pt_regs                btf -> btf; gpl
176 get_branch_snapshot         out size0 -> num; gpl
177 trace_vprintk               mem size mem? size0 -> num; gpl
178 skc_to_unix_sock            sk -> btf?; casts
179 kallsyms_lookup_name        mem size0 any out8 -> num
180 find_vma                    btf any callback stack? any -> num
181 loop                        any callback stack? any -> num
182 strncmp                     mem size text -> num
183 get_func_arg                ctx any out8 -> num
184 get_func_ret                ctx out8 -> num
185 get_func_arg_cnt            ctx -> num
186 get_retval                  -> num
187 set_retval                  any -> num
188 xdp_get_buff_len            ctx -> num
189 xdp_load_bytes              ctx any out size -> num
190 xdp_store_bytes             ctx any mem size -> num
191 copy_from_user_task         out size0 any btf any -> num; gpl sleeps
192 skb_set_tstamp              ctx any any -> num
193 ima_file_hash               btf out size -> num; sleeps
194 kptr_xchg                   kptr btf? -> btf?
195 map_lookup_percpu_elem      map key any -> value?; direct
196 skc_to_mptcp_sock           sk -> btf?; casts
197 dynptr_from_mem             mem size0 any dynptr -> num
198 ringbuf_reserve_dynptr      map any any dynptr -> num
199 ringbuf_submit_dynptr       dynptr any -> void
200 ringbuf_discard_dynptr      dynptr any -> void
201 dynptr_read                 out size0 dynptr any any -> num
202 dynptr_write                dynptr any mem size0 any -> num
203 dynptr_data                 dynptr any constant -> record?
204 tcp_raw_gen_syncookie_ipv4  mem20 mem size0 -> num; gpl direct
205 tcp_raw_gen_syncookie_ipv6  mem40 mem size0 -> num; gpl direct
206 tcp_raw_check_syncookie_ipv4 mem20 mem20 -> num; gpl direct
207 tcp_raw_check_syncookie_ipv6 mem40 mem20 -> num; gpl direct
208 ktime_get_tai_ns            -> num
209 user_ringbuf_drain          map callback stack? any -> num
210 cgrp_storage_get            map btf value? any -> value?
211 cgrp_storage_delete         map btf -> num
"""

_BODIES: Final = {
    "map_lookup_elem": bodies.map_lookup,
    "map_update_elem": bodies.map_update,
    "map_delete_elem": bodies.map_delete,
    "ktime_get_ns": bodies.now,
    "xdp_adjust_head": bodies.xdp_adjust_head,
    "xdp_adjust_meta": bodies.xdp_adjust_meta,
    "xdp_adjust_tail": bodies.xdp_adjust_tail,
}
"""What can be run."""


def rows(table: str) -> Iterator[tuple[int, Helper]]:
    """The helpers that a text like the one above describes, with their numbers."""
    for line in table.strip().splitlines():
        row, _, flags = line.partition(";")
        number, name, contract = row.split(None, 2)
        yield (
            int(number),
            Helper(
                name,
                contract.strip(),
                _BODIES.get(name),
                frozenset({"packet"}) if "moves" in flags else frozenset(),
                gpl="gpl" in flags,
                takes_packet="direct" in flags,
                acquires="acquires" in flags,
                casts="casts" in flags,
                sleeps="sleeps" in flags,
            ),
        )


LINUX: Final[dict[int, Helper]] = dict(rows(_TABLE))
"""Helpers by number."""

MAP_LOOKUP: Final = LINUX[1]
MAP_UPDATE: Final = LINUX[2]
MAP_DELETE: Final = LINUX[3]
KTIME: Final = LINUX[5]
