"""Linux's program types (Linux 6.18, as root): entry, context, helpers, results, and where they are attached.

The rules are in net/core/filter.c, kernel/trace/bpf_trace.c, kernel/bpf/cgroup.c and, for results, in check_return_code of
kernel/bpf/verifier.c; the section names are libbpf's (section_defs in libbpf.c).
"""

from __future__ import annotations

from typing import Any, Final

from pybpf.helpers import LINUX, helpers_of
from pybpf.helpers.access import SOCKET_OPTIONS, select
from pybpf.map_types import LINUX_MAPS
from pybpf.program_types import layouts
from pybpf.program_types.context import Context
from pybpf.program_types.policy import Policy
from pybpf.program_types.program_type import Entry, ProgramType


def _linux(name: str, context: Context, sections: str = "", **more: Any) -> ProgramType:
    more = {"runnable": False, **more}
    return ProgramType(
        name=name,
        entry=(Entry.CONTEXT,),
        context=context,
        helpers=helpers_of(_HELPERS_OF.get(name, name)),
        numbering=LINUX,
        sections=tuple(sections.split()),
        map_numbers=LINUX_MAPS,
        policy=Policy(uninitialised_stack=True, linux_limits=True),
        **more,
    )


_HELPERS_OF: Final = {"tc": "sched_cls"}

XDP: Final = _linux(
    "xdp",
    layouts.XDP_MD.without("egress_ifindex"),
    "xdp xdp.frags xdp_devmap xdp_cpumap xdp.frags_devmap xdp.frags_cpumap",
    packet_writable=True,
    verdicts={0: "ABORTED", 1: "DROP", 2: "PASS", 3: "TX", 4: "REDIRECT"},
    runnable=True,
    attached={
        section: {"context": layouts.XDP_MD}
        for section in ("xdp/devmap", "xdp.frags/devmap", "xdp_devmap", "xdp.frags_devmap")
    },
)
"""The express data path: r1 points to struct xdp_md, the packet may be written."""

_PORTS: Final = "family remote_ip4 local_ip4 remote_ip6 local_ip6 remote_port local_port".split()
_TIMES: Final = "tstamp hwtstamp tstamp_type".split()
_SK_BUFF: Final = layouts.SK_BUFF.without("flow_keys")

SOCKET_FILTER: Final = _linux(
    "socket_filter",
    _SK_BUFF.without(
        "tc_classid", "data", "data_end", "data_meta", "wire_len", *_PORTS, *_TIMES
    ).read_only_but("cb"),
    "socket",
    packet_loads=True,
    verdicts={0: "DROP"},
)
"""A filter on a socket: the result is how many bytes of the packet it keeps."""

_TC_CONTEXT: Final = _SK_BUFF.without(*_PORTS)
_TC_VERDICTS: Final = {
    0: "OK", 1: "RECLASSIFY", 2: "SHOT", 3: "PIPE", 4: "STOLEN", 5: "QUEUED", 6: "REPEAT", 7: "REDIRECT", 8: "TRAP",
    0xFFFF_FFFF: "UNSPEC", (1 << 64) - 1: "UNSPEC",
}  # fmt: skip
TC: Final = _linux(
    "tc",
    _TC_CONTEXT,
    "tc tcx tcx/ingress tcx/egress tc/ingress tc/egress classifier netkit netkit/primary netkit/peer",
    packet_writable=True,
    packet_loads=True,
    verdicts=_TC_VERDICTS,
)
"""A classifier of traffic control (sched_cls)."""

SCHED_ACT: Final = _linux(
    "sched_act",
    _TC_CONTEXT,
    "action",
    packet_writable=True,
    packet_loads=True,
    verdicts=_TC_VERDICTS,
)

CGROUP_SKB: Final = _linux(
    "cgroup_skb",
    _SK_BUFF.without("tc_classid", "data_meta", "wire_len", "tstamp_type").read_only_but(
        "cb", "mark", "priority", "tstamp"
    ),
    "cgroup_skb cgroup_skb/ingress cgroup_skb/egress cgroup/skb",
    returns=(0, 1),
    verdicts={0: "DROP", 1: "PASS"},
    attached={"cgroup_skb/egress": {"returns": (0, 3)}},
)

_LWT: Final = _SK_BUFF.without("tc_classid", "data_meta", "wire_len", *_PORTS, *_TIMES).read_only_but(
    "cb", "mark", "priority"
)
_LWT_VERDICTS: Final = {0: "OK", 2: "DROP", 7: "REDIRECT", 128: "REROUTE"}
LWT_IN: Final = _linux("lwt_in", _LWT, "lwt_in", verdicts=_LWT_VERDICTS)
LWT_OUT: Final = _linux("lwt_out", _LWT, "lwt_out", verdicts=_LWT_VERDICTS)
LWT_XMIT: Final = _linux("lwt_xmit", _LWT, "lwt_xmit", packet_writable=True, verdicts=_LWT_VERDICTS)
LWT_SEG6LOCAL: Final = _linux("lwt_seg6local", _LWT, "lwt_seg6local", verdicts=_LWT_VERDICTS)

_PASS: Final = {0: "DROP", 1: "PASS"}
SK_SKB: Final = _linux(
    "sk_skb",
    _SK_BUFF.without("mark", "tc_classid", "data_meta", "wire_len", *_TIMES).read_only_but(
        "priority", "tc_index"
    ),
    "sk_skb sk_skb/stream_parser sk_skb/stream_verdict sk_skb/verdict",
    packet_writable=True,
    verdicts=_PASS,
)
SK_MSG: Final = _linux("sk_msg", layouts.SK_MSG_MD, "sk_msg", packet_writable=True, verdicts=_PASS)
SK_REUSEPORT: Final = _linux(
    "sk_reuseport", layouts.SK_REUSEPORT_MD, "sk_reuseport sk_reuseport/migrate", verdicts=_PASS
)
SK_LOOKUP: Final = _linux("sk_lookup", layouts.SK_LOOKUP, "sk_lookup", returns=(0, 1), verdicts=_PASS)
FLOW_DISSECTOR: Final = _linux(
    "flow_dissector",
    Context(
        layouts.SK_BUFF.name,
        layouts.SK_BUFF.size,
        tuple(field for field in layouts.SK_BUFF.fields if field.name in ("data", "data_end", "flow_keys")),
    ),
    "flow_dissector",
    verdicts={0: "OK", 2: "DROP", 129: "CONTINUE"},
)
NETFILTER: Final = _linux(
    "netfilter", layouts.NF_CTX, "netfilter", returns=(0, 1), verdicts={0: "DROP", 1: "ACCEPT"}
)

SOCK_OPS: Final = _linux("sock_ops", layouts.SOCK_OPS, "sockops", packet_arguments=False, returns=(0, 1))

_HOOKED_SOCK: Final = ("src_ip4", "src_ip6", "src_port")
_SET_SOCK: Final = ("bound_dev_if", "mark", "priority")
CGROUP_SOCK: Final = _linux(
    "cgroup_sock",
    layouts.SOCK.without(*_HOOKED_SOCK),
    "cgroup/sock cgroup/sock_create cgroup/sock_release cgroup/post_bind4 cgroup/post_bind6",
    returns=(0, 1),
    attached={
        "cgroup/post_bind4": {"context": layouts.SOCK.without("src_ip6", *_SET_SOCK)},
        "cgroup/post_bind6": {"context": layouts.SOCK.without("src_ip4", *_SET_SOCK)},
    },
)

_ADDRESSES: Final = ("user_ip4", "user_ip6", "msg_src_ip4", "msg_src_ip6")
_ADDRESS_HELPERS: Final = helpers_of("cgroup_sock_addr")


def _address(*seen: str, returns: tuple[int, int] = (0, 1), more: str = "retval") -> dict[str, Any]:
    """What is different for one kind of address hook: the addresses that it sees, its results and its helpers."""
    hidden = (name for name in _ADDRESSES if name not in seen)
    helpers = dict(sorted({**_ADDRESS_HELPERS, **select(more)}.items()))
    return {"context": layouts.SOCK_ADDR.without(*hidden), "returns": returns, "helpers": helpers}


CGROUP_SOCK_ADDR: Final = _linux(
    "cgroup_sock_addr",
    layouts.SOCK_ADDR.without(*_ADDRESSES),
    "cgroup/bind4 cgroup/bind6 cgroup/connect4 cgroup/connect6 cgroup/connect_unix cgroup/sendmsg4 cgroup/sendmsg6 "
    "cgroup/sendmsg_unix cgroup/recvmsg4 cgroup/recvmsg6 cgroup/recvmsg_unix cgroup/getpeername4 cgroup/getpeername6 "
    "cgroup/getpeername_unix cgroup/getsockname4 cgroup/getsockname6 cgroup/getsockname_unix",
    returns=(0, 1),
    attached={
        "cgroup/bind4": _address("user_ip4", returns=(0, 3)),
        "cgroup/bind6": _address("user_ip6", returns=(0, 3)),
        "cgroup/connect4": _address("user_ip4", more="retval bind"),
        "cgroup/connect6": _address("user_ip6", more="retval bind"),
        "cgroup/connect_unix": _address(),
        "cgroup/sendmsg4": _address("user_ip4", "msg_src_ip4"),
        "cgroup/sendmsg6": _address("user_ip6", "msg_src_ip6"),
        "cgroup/sendmsg_unix": _address(),
        "cgroup/recvmsg4": _address("user_ip4", returns=(1, 1), more=""),
        "cgroup/recvmsg6": _address("user_ip6", returns=(1, 1), more=""),
        "cgroup/recvmsg_unix": _address(returns=(1, 1), more=""),
        "cgroup/getpeername4": _address("user_ip4", returns=(1, 1), more=""),
        "cgroup/getpeername6": _address("user_ip6", returns=(1, 1), more=""),
        "cgroup/getpeername_unix": _address(returns=(1, 1), more=""),
        "cgroup/getsockname4": _address("user_ip4", returns=(1, 1), more=""),
        "cgroup/getsockname6": _address("user_ip6", returns=(1, 1), more=""),
        "cgroup/getsockname_unix": _address(returns=(1, 1), more=""),
    },
)

CGROUP_SOCKOPT: Final = _linux(
    "cgroup_sockopt",
    layouts.SOCKOPT.read_only_but("optlen", "retval"),
    "cgroup/getsockopt cgroup/setsockopt",
    packet_writable=True,
    packet_arguments=True,
    returns=(0, 1),
    attached={
        "cgroup/setsockopt": {
            "context": layouts.SOCKOPT.without("retval"),
            "helpers": dict(sorted({**helpers_of("cgroup_sockopt"), **SOCKET_OPTIONS}.items())),
        }
    },
)
CGROUP_SYSCTL: Final = _linux("cgroup_sysctl", layouts.SYSCTL, "cgroup/sysctl", returns=(0, 1))
CGROUP_DEVICE: Final = _linux("cgroup_device", layouts.CGROUP_DEV_CTX, "cgroup/dev", returns=(0, 1))

_SLEEPS: Final = {"sleepable": True}
KPROBE: Final = _linux(
    "kprobe",
    layouts.PT_REGS,
    "kprobe kretprobe uprobe uretprobe uprobe.s uretprobe.s kprobe.multi kretprobe.multi kprobe.session uprobe.multi "
    "uretprobe.multi uprobe.multi.s uretprobe.multi.s uprobe.session uprobe.session.s ksyscall kretsyscall usdt usdt.s",
    attached={
        "kprobe.session": {"returns": (0, 1)},
        "uprobe.session": {"returns": (0, 1)},
        "uprobe.session.s": {"returns": (0, 1), **_SLEEPS},
        **dict.fromkeys("uprobe.s uretprobe.s uprobe.multi.s uretprobe.multi.s usdt.s".split(), _SLEEPS),
    },
)
"""A probe of the kernel or of a process: r1 points to the registers, those of x86-64."""

TRACEPOINT: Final = _linux("tracepoint", layouts.TRACEPOINT, "tracepoint tp")
RAW_TRACEPOINT: Final = _linux("raw_tracepoint", layouts.RAW_TRACEPOINT, "raw_tracepoint raw_tp")
RAW_TRACEPOINT_WRITABLE: Final = _linux(
    "raw_tracepoint_writable", layouts.WRITABLE_TRACEPOINT, "raw_tracepoint.w raw_tp.w"
)
PERF_EVENT: Final = _linux("perf_event", layouts.PERF_EVENT_DATA, "perf_event")
TRACING: Final = _linux(
    "tracing",
    layouts.ARGUMENTS,
    "tp_btf fentry fentry.s fexit fexit.s fmod_ret fmod_ret.s iter iter.s",
    attached={
        "fentry": {"returns": (0, 0)},
        "fexit": {"returns": (0, 0)},
        "fentry.s": {"returns": (0, 0), **_SLEEPS},
        "fexit.s": {"returns": (0, 0), **_SLEEPS},
        "tp_btf": {"returns": (0, 0)},
        "fmod_ret.s": _SLEEPS,
        "iter": {"returns": (0, 1)},
        "iter.s": {"returns": (0, 1), **_SLEEPS},
    },
)
LSM: Final = _linux("lsm", layouts.ARGUMENTS, "lsm lsm.s lsm_cgroup", attached={"lsm.s": _SLEEPS})
STRUCT_OPS: Final = _linux(
    "struct_ops", layouts.ARGUMENTS, "struct_ops struct_ops.s", attached={"struct_ops.s": _SLEEPS}
)
EXT: Final = _linux("ext", layouts.ARGUMENTS, "freplace")
"""What replaces a function of another program: only that program says what its arguments are."""
LIRC_MODE2: Final = _linux("lirc_mode2", layouts.LIRC_SAMPLE, "lirc_mode2")
SYSCALL: Final = _linux("syscall", layouts.SYSCALL, "syscall", sleepable=True)

TYPES: Final = (
    XDP, SOCKET_FILTER, TC, SCHED_ACT, CGROUP_SKB, LWT_IN, LWT_OUT, LWT_XMIT, LWT_SEG6LOCAL, SK_SKB, SK_MSG,
    SK_REUSEPORT, SK_LOOKUP, FLOW_DISSECTOR, NETFILTER, SOCK_OPS, CGROUP_SOCK, CGROUP_SOCK_ADDR, CGROUP_SOCKOPT,
    CGROUP_SYSCTL, CGROUP_DEVICE, KPROBE, TRACEPOINT, RAW_TRACEPOINT, RAW_TRACEPOINT_WRITABLE, PERF_EVENT, TRACING, LSM,
    STRUCT_OPS, EXT, LIRC_MODE2, SYSCALL,
)  # fmt: skip
