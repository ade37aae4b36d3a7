"""CO-RE relocations: accesses to structs whose layout the kernel that runs the program decides.

pybpf does not apply them. It need not for structs that Linux promises never to change: what programs are given as context,
and what helpers return to them.
"""

from __future__ import annotations

from typing import Final

from pybpf.btf import Btf, CoreRelocation, Kind
from pybpf.errors import ElfError

_FIELD_KINDS: Final = range(6)  # enum bpf_core_relo_kind: offset, size, existence, sign and shifts of a field
_TYPE_ID_LOCAL: Final = 6

# Linux, include/uapi/linux/bpf.h.
_STABLE: Final = frozenset(
    "xdp_md __sk_buff bpf_sock_ops bpf_sock_addr bpf_sock bpf_tcp_sock sk_msg_md sk_reuseport_md bpf_sk_lookup bpf_sysctl "
    "bpf_sockopt bpf_cgroup_dev_ctx bpf_perf_event_data bpf_raw_tracepoint_args bpf_flow_keys bpf_fib_lookup bpf_tunnel_key "
    "bpf_xfrm_state bpf_spin_lock bpf_timer bpf_sock_tuple bpf_pidns_info bpf_redir_neigh".split()
)


def fixed_layout(btf: Btf, relocation: CoreRelocation) -> bool:
    """Whether the code is right as the compiler left it, whatever kernel it runs on."""
    if relocation.kind == _TYPE_ID_LOCAL:
        return True
    try:
        type_ = btf.resolve(relocation.type_id)
    except ElfError:
        return False
    return relocation.kind in _FIELD_KINDS and type_.kind is Kind.STRUCT and type_.name in _STABLE
