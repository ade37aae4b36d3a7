"""Linux's program types that the test vectors need and pybpf does not define, as values that a user could write.

The layouts and rules are those of Linux (include/uapi/linux/bpf.h; net/core/filter.c, sk_filter_is_valid_access and
tc_cls_act_is_valid_access; kernel/trace/bpf_trace.c, tp_prog_is_valid_access).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pybpf.helpers import LINUX, Helper
from pybpf.program_types import LINUX_MAPS, XDP, Context, Entry, Field, FieldKind, Policy, ProgramType

_WORDS: Final = (
    "len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex ifindex tc_index "
    "cb0 cb1 cb2 cb3 cb4 hash tc_classid data data_end napi_id family remote_ip4 local_ip4 remote_ip6_0 remote_ip6_1 "
    "remote_ip6_2 remote_ip6_3 local_ip6_0 local_ip6_1 local_ip6_2 local_ip6_3 remote_port local_port data_meta"
).split()
"""The fields of struct __sk_buff of four bytes, in order from offset 0."""

_PACKET: Final = {
    "data": FieldKind.PACKET,
    "data_end": FieldKind.PACKET_END,
    "data_meta": FieldKind.PACKET_META,
}


def _sk_buff(*, hidden: str, writable: str) -> Context:
    """struct __sk_buff without the fields that a type may not see; cb is one field of 20 bytes."""
    fields = [Field("cb", 48, 20, writable=True)]
    for number, name in enumerate(_WORDS):
        if not name.startswith("cb") and name not in hidden.split():
            kind = _PACKET.get(name, FieldKind.SCALAR)
            fields.append(Field(name, 4 * number, 4, kind, name in writable.split()))
    for name, offset, size in (
        ("tstamp", 152, 8),
        ("wire_len", 160, 4),
        ("gso_segs", 164, 4),
        ("gso_size", 176, 4),
        ("hwtstamp", 184, 8),
    ):
        if name not in hidden.split():
            fields.append(Field(name, offset, size, writable=name in writable.split()))
    return Context("__sk_buff", 192, tuple(fields))


_HELPERS: Final = {
    **LINUX,
    7: Helper("get_prandom_u32", "-> u32"),
    8: Helper("get_smp_processor_id", "-> u32"),
}

_POLICY: Final = Policy(uninitialised_stack=False, wide_shifts=False)
"""Linux 5.17, where the vectors are from, refuses to read stack that was not written."""

_SOCKET: Final = (
    "family remote_ip4 local_ip4 remote_ip6_0 remote_ip6_1 remote_ip6_2 remote_ip6_3 local_ip6_0 local_ip6_1 local_ip6_2 "
    "local_ip6_3 remote_port local_port"
)
"""The fields that only programs at sockets see."""


def _skb_type(name: str, *, hidden: str, writable: str = "", packet_writable: bool = False) -> ProgramType:
    return ProgramType(
        name=name,
        entry=(Entry.CONTEXT,),
        context=_sk_buff(hidden=hidden, writable=writable),
        helpers=_HELPERS,
        packet_writable=packet_writable,
        map_numbers=LINUX_MAPS,
        policy=_POLICY,
    )


_LWT: Final = f"{_SOCKET} tc_classid data_meta tstamp wire_len hwtstamp"

TYPES: Final = {
    type_.name: type_
    for type_ in (
        _skb_type(
            "socket_filter", hidden=f"{_SOCKET} tc_classid data data_end data_meta tstamp wire_len hwtstamp"
        ),
        _skb_type(
            "sched_cls",
            hidden=_SOCKET,
            writable="mark queue_mapping priority tc_index tc_classid tstamp",
            packet_writable=True,
        ),
        _skb_type(
            "sched_act",
            hidden=_SOCKET,
            writable="mark queue_mapping priority tc_index tc_classid tstamp",
            packet_writable=True,
        ),
        _skb_type("cgroup_skb", hidden="tc_classid data_meta wire_len", writable="mark priority tstamp"),
        _skb_type("lwt_in", hidden=_LWT, writable="mark priority"),
        _skb_type("lwt_out", hidden=_LWT, writable="mark priority"),
        _skb_type("lwt_xmit", hidden=_LWT, writable="mark priority", packet_writable=True),
        ProgramType(
            name="tracepoint",
            entry=(Entry.CONTEXT,),
            context=Context("tracepoint", 2048, (Field("record", 8, 2040),)),
            helpers=_HELPERS,
            map_numbers=LINUX_MAPS,
            policy=_POLICY,
        ),
        replace(XDP, helpers=_HELPERS, policy=_POLICY),
    )
}
"""By the names of the vectors."""
