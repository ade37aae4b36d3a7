"""Which of Linux's helpers a program type may call: as its get_func_proto functions say (Linux 6.18, as root).

A type is a text of names: of helpers, and of the groups below. `VARIANTS` are the helpers that mean something else for some types.
Where Linux looks at the attach type too, the text is what all of them may call; `pybpf.program_types` adds the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from pybpf.helpers.contract import Helper
from pybpf.helpers.linux import LINUX, rows

GROUPS: Final = {
    # kernel/bpf/helpers.c, bpf_base_func_proto
    "base": """
        map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem map_lookup_percpu_elem
        for_each_map_elem tail_call loop get_prandom_u32 get_smp_processor_id get_numa_node_id ktime_get_ns
        ktime_get_boot_ns ktime_get_tai_ns jiffies64 ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard
        ringbuf_query ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr user_ringbuf_drain
        dynptr_from_mem dynptr_read dynptr_write dynptr_data spin_lock spin_unlock timer_init timer_set_callback timer_start
        timer_cancel kptr_xchg strtol strtoul strncmp snprintf snprintf_btf trace_printk trace_vprintk per_cpu_ptr
        this_cpu_ptr get_current_pid_tgid get_current_uid_gid get_current_comm get_current_task get_current_task_btf
        get_current_cgroup_id get_current_ancestor_cgroup_id get_ns_current_pid_tgid get_cgroup_classid
        current_task_under_cgroup task_pt_regs task_storage_get task_storage_delete cgrp_storage_get cgrp_storage_delete
        get_task_stack get_branch_snapshot find_vma perf_event_read perf_event_read_value probe_read_user
        probe_read_user_str probe_read_kernel probe_read_kernel_str copy_from_user copy_from_user_task send_signal
        send_signal_thread
        """,
    # kernel/trace/bpf_trace.c
    "tracing": "base perf_event_output probe_read probe_read_str get_stack get_stackid",
    # net/core/filter.c
    "network": "base perf_event_output ktime_get_coarse_ns",
    "sockets": """
        skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock
        skc_to_mptcp_sock
        """,
    "lookups": "sk_lookup_tcp sk_lookup_udp skc_lookup_tcp sk_release",
    "storage": "sk_storage_get sk_storage_delete",
    "syncookies": """
        tcp_check_syncookie tcp_gen_syncookie tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6
        tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6
        """,
    "packet": "network sockets skb_load_bytes",
    "tunnels": """
        skb_get_tunnel_key skb_set_tunnel_key skb_get_tunnel_opt skb_set_tunnel_opt redirect clone_redirect skb_change_tail
        skb_change_head skb_store_bytes l3_csum_replace l4_csum_replace csum_update csum_level set_hash_invalid
        """,
    "lwt": "packet skb_pull_data csum_diff get_route_realm get_hash_recalc skb_under_cgroup",
    "retval": "get_retval set_retval",
}

TYPES: Final = {
    "socket_filter": "packet skb_load_bytes_relative get_socket_cookie get_netns_cookie get_socket_uid",
    "sched_cls": """
        lwt tunnels lookups storage syncookies skb_load_bytes_relative skb_vlan_push skb_vlan_pop skb_change_proto
        skb_change_type skb_adjust_room set_hash fib_lookup check_mtu sk_fullsock get_listener_sock tcp_sock sk_assign
        skb_cgroup_id skb_ancestor_cgroup_id skb_cgroup_classid skb_ecn_set_ce skb_get_xfrm_state skb_set_tstamp
        redirect_neigh redirect_peer get_socket_cookie get_netns_cookie get_socket_uid
        """,
    "xdp": """
        network sockets lookups syncookies csum_diff fib_lookup check_mtu redirect redirect_map xdp_adjust_head
        xdp_adjust_tail xdp_adjust_meta xdp_load_bytes xdp_store_bytes xdp_get_buff_len
        """,
    "cgroup_skb": """
        packet lookups storage skb_load_bytes_relative sk_fullsock get_listener_sock tcp_sock skb_cgroup_id
        skb_ancestor_cgroup_id sk_cgroup_id sk_ancestor_cgroup_id skb_ecn_set_ce get_local_storage get_socket_cookie
        get_netns_cookie get_socket_uid
        """,
    "lwt_in": "lwt lwt_push_encap",
    "lwt_out": "lwt",
    "lwt_xmit": "lwt tunnels lwt_push_encap",
    "lwt_seg6local": "lwt lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action",
    "sk_skb": """
        packet lookups skb_pull_data skb_store_bytes skb_change_tail skb_change_head skb_adjust_room sk_redirect_map
        sk_redirect_hash get_socket_cookie get_socket_uid
        """,
    "sk_msg": """
        network sockets storage msg_redirect_map msg_redirect_hash msg_apply_bytes msg_cork_bytes msg_pull_data msg_push_data
        msg_pop_data get_netns_cookie
        """,
    "sk_reuseport": """
        base ktime_get_coarse_ns sk_select_reuseport skb_load_bytes skb_load_bytes_relative get_socket_cookie
        """,
    "sk_lookup": "network sockets sk_assign sk_release",
    "flow_dissector": "base ktime_get_coarse_ns sockets skb_load_bytes",
    "sock_ops": """
        network sockets storage setsockopt getsockopt sock_ops_cb_flags_set sock_map_update sock_hash_update tcp_sock
        load_hdr_opt store_hdr_opt reserve_hdr_opt get_local_storage get_socket_cookie get_netns_cookie
        """,
    "cgroup_sock": "network sk_storage_get get_local_storage retval get_socket_cookie get_netns_cookie",
    "cgroup_sock_addr": """
        network sockets lookups storage setsockopt getsockopt get_local_storage get_socket_cookie get_netns_cookie
        """,
    "cgroup_sockopt": "base perf_event_output storage tcp_sock get_local_storage get_netns_cookie retval",
    "cgroup_sysctl": """
        network get_local_storage sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value
        """,
    "cgroup_device": "base perf_event_output get_local_storage",
    "netfilter": "base",
    "kprobe": "tracing get_attach_cookie get_func_ip override_return probe_write_user",
    "tracepoint": "tracing get_attach_cookie probe_write_user",
    "raw_tracepoint": "tracing get_attach_cookie probe_write_user",
    "perf_event": "tracing get_attach_cookie probe_write_user perf_prog_read_value read_branch_records",
    "tracing": """
        tracing sockets get_attach_cookie get_func_ip probe_write_user skb_output xdp_output xdp_get_buff_len sock_from_file
        get_socket_cookie storage d_path get_func_arg get_func_ret get_func_arg_cnt seq_printf seq_write seq_printf_btf
        """,
    "lsm": """
        tracing sockets get_attach_cookie get_func_ip skb_output xdp_output xdp_get_buff_len sock_from_file get_socket_cookie storage
        d_path inode_storage_get inode_storage_delete bprm_opts_set ima_inode_hash ima_file_hash get_func_arg get_func_ret
        get_func_arg_cnt setsockopt getsockopt get_netns_cookie retval
        """,
    "struct_ops": """
        base sockets storage setsockopt getsockopt tcp_send_ack ktime_get_coarse_ns
        """,
    "lirc_mode2": """
        map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem ktime_get_ns
        ktime_get_boot_ns tail_call get_prandom_u32 trace_printk rc_repeat rc_keydown rc_pointer_rel
        """,
    "syscall": """
        tracing sockets storage sys_bpf btf_find_by_name_kind sys_close kallsyms_lookup_name skb_output xdp_output
        xdp_get_buff_len sock_from_file get_socket_cookie d_path
        """,
}
"""Program type -> what it may call."""

_SAME: Final = {
    "sched_act": "sched_cls",
    "raw_tracepoint_writable": "raw_tracepoint",
    "ext": "sched_cls",
}

# Types -> helpers of the same number with another contract.
VARIANTS: Final = {
    "sk_reuseport syscall tracing lsm": " 46 get_socket_cookie sk -> num",
    "perf_event": " 27 get_stackid ctx map any -> num",
    "cgroup_sock": "107 sk_storage_get map ctx value? any -> value?",
    "sk_lookup": "124 sk_assign ctx sk? any -> num",
    "syscall tracing lsm": "188 xdp_get_buff_len btf -> num",
    """socket_filter kprobe tracepoint xdp perf_event cgroup_skb cgroup_sock sock_ops sk_skb cgroup_device sk_msg
    raw_tracepoint cgroup_sock_addr sk_reuseport flow_dissector cgroup_sysctl cgroup_sockopt tracing lsm struct_ops sk_lookup
    syscall netfilter""": " 17 get_cgroup_classid -> num",
}

SOCKET_OPTIONS: Final = dict(
    rows(
        """
        49 setsockopt sk any any mem size -> num
        57 getsockopt sk any any out size -> num
        """
    )
)
"""What programs that hook setsockopt call on the socket of their context."""

_NUMBERS: Final = {helper.name: number for number, helper in LINUX.items()}


@cache
def helpers_of(type_: str) -> Mapping[int, Helper]:
    """What a program type may call, by number."""
    type_ = _SAME.get(type_, type_)
    helpers = dict(sorted(select(TYPES[type_]).items()))
    for types, table in VARIANTS.items():
        if type_ in types.split():
            helpers |= {number: helper for number, helper in rows(table) if number in helpers}
    return MappingProxyType(helpers)


def select(names: str) -> dict[int, Helper]:
    """The helpers of a text of names and groups."""
    chosen: dict[int, Helper] = {}
    for name in names.split():
        if name in GROUPS and name not in _NUMBERS:
            chosen |= select(GROUPS[name])
        else:
            chosen[_NUMBERS[name]] = LINUX[_NUMBERS[name]]
    return chosen
