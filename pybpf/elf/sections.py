"""Which program type a section's name stands for: libbpf's conventions (libbpf, section_defs).

The names of the types that pybpf verifies stand with them, in `pybpf.program_types`; here are those of all others, so that
a program of such a type can be named for what it is.
"""

from __future__ import annotations

import re
from typing import Final

from pybpf import program_types

# Type -> section names. A name stands for itself and, before a slash, for everything behind it ("kprobe/do_exit").
NAMES: Final = {
    "socket_filter": "socket",
    "sk_reuseport": "sk_reuseport sk_reuseport/migrate",
    "kprobe": "kprobe kretprobe uprobe uretprobe uprobe.s uretprobe.s kprobe.multi kretprobe.multi kprobe.session "
    "uprobe.multi uretprobe.multi uprobe.multi.s uretprobe.multi.s uprobe.session uprobe.session.s ksyscall kretsyscall usdt usdt.s",
    "tc": "tc tcx tcx/ingress tcx/egress tc/ingress tc/egress classifier netkit netkit/primary netkit/peer",
    "sched_act": "action",
    "tracepoint": "tracepoint tp",
    "raw_tracepoint": "raw_tracepoint raw_tp",
    "raw_tracepoint_writable": "raw_tracepoint.w raw_tp.w",
    "tracing": "tp_btf fentry fentry.s fexit fexit.s fmod_ret fmod_ret.s iter iter.s",
    "ext": "freplace",
    "lsm": "lsm lsm.s lsm_cgroup",
    "syscall": "syscall",
    "perf_event": "perf_event",
    "lwt_in": "lwt_in",
    "lwt_out": "lwt_out",
    "lwt_xmit": "lwt_xmit",
    "lwt_seg6local": "lwt_seg6local",
    "sock_ops": "sockops",
    "sk_skb": "sk_skb sk_skb/stream_parser sk_skb/stream_verdict sk_skb/verdict",
    "sk_msg": "sk_msg",
    "lirc_mode2": "lirc_mode2",
    "flow_dissector": "flow_dissector",
    "cgroup_skb": "cgroup_skb cgroup_skb/ingress cgroup_skb/egress cgroup/skb",
    "cgroup_sock": "cgroup/sock cgroup/sock_create cgroup/sock_release cgroup/post_bind4 cgroup/post_bind6",
    "cgroup_sock_addr": "cgroup/bind4 cgroup/bind6 cgroup/connect4 cgroup/connect6 cgroup/connect_unix cgroup/sendmsg4 "
    "cgroup/sendmsg6 cgroup/sendmsg_unix cgroup/recvmsg4 cgroup/recvmsg6 cgroup/recvmsg_unix cgroup/getpeername4 "
    "cgroup/getpeername6 cgroup/getpeername_unix cgroup/getsockname4 cgroup/getsockname6 cgroup/getsockname_unix",
    "cgroup_sysctl": "cgroup/sysctl",
    "cgroup_sockopt": "cgroup/getsockopt cgroup/setsockopt",
    "cgroup_device": "cgroup/dev",
    "struct_ops": "struct_ops struct_ops.s",
    "sk_lookup": "sk_lookup",
    "netfilter": "netfilter",
}

_TYPE: Final = {name: type for type, names in NAMES.items() for name in names.split()}

# Before version 1.0 libbpf and the loader of the kernel's samples took these as prefixes: "xdp1", "socket2", "tc_mark".
_LOOSE: Final = re.compile(
    r"(socket|classifier|action|tc|xdp|perf_event|sockops|sk_skb|sk_msg|cgroup/skb|cgroup/sock|lwt_(?:in|out|xmit))[\d_.-]"
)


def program_type(section: str) -> str | None:
    """The name of a program type, which `pybpf.program_types` need not know. None where no convention applies.

    >>> program_type("?xdp/firewall"), program_type("kprobe/do_exit"), program_type("socket1"), program_type(".text")
    ('xdp', 'kprobe', 'socket_filter', None)
    """
    section = section.removeprefix("?")  # libbpf: loaded only when asked for
    known = program_types.from_section(section)
    if known is not None:
        return known.name
    parts = section.split("/")
    for end in range(len(parts), 0, -1):
        if type := _TYPE.get("/".join(parts[:end])):
            return type
    loose = _LOOSE.match(section)
    return program_type(loose[1]) if loose else None
