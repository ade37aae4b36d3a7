"""The structures of Linux's programs (include/uapi/linux/bpf.h), with the accesses that Linux 6.18 allows.

A row is the offset, the size, the sizes of loads, the sizes of stores, the name and, if it is no scalar, the kind (see
`pybpf.program_types.context.layout`). They are what some program type may do; `pybpf.program_types.linux` takes away from it.
The rules are those of the functions called ``..._is_valid_access``, in net/core/filter.c where nothing else is said.
"""

from __future__ import annotations

from typing import Final

from pybpf.program_types.context import Context, layout

XDP_MD: Final = layout(
    "xdp_md",
    24,
    """
    0   4  4    -    data                 packet
    4   4  4    -    data_end             packet_end
    8   4  4    -    data_meta            packet_meta
    12  4  4    -    ingress_ifindex
    16  4  4    -    rx_queue_index
    20  4  4    -    egress_ifindex
    """,
)

SK_BUFF: Final = layout(
    "__sk_buff",
    192,
    """
    0   4  124  -    len
    4   4  124  -    pkt_type
    8   4  124  4    mark
    12  4  124  4    queue_mapping
    16  4  124  -    protocol
    20  4  124  -    vlan_present
    24  4  124  -    vlan_tci
    28  4  124  -    vlan_proto
    32  4  124  4    priority
    36  4  124  -    ingress_ifindex
    40  4  124  -    ifindex
    44  4  124  4    tc_index
    48  20 1248 1248 cb
    68  4  124  -    hash
    72  4  124  4    tc_classid
    76  4  4    -    data                 packet
    80  4  4    -    data_end             packet_end
    84  4  124  -    napi_id
    88  4  124  -    family
    92  4  4    -    remote_ip4
    96  4  4    -    local_ip4
    100 16 4    -    remote_ip6
    116 16 4    -    local_ip6
    132 4  124  -    remote_port
    136 4  124  -    local_port
    140 4  4    -    data_meta            packet_meta
    144 8  8    -    flow_keys            flow_keys
    152 8  8    8    tstamp
    160 4  124  -    wire_len
    164 4  124  -    gso_segs
    168 8  8    -    sk                   sock_common?
    176 4  124  -    gso_size
    180 1  1    -    tstamp_type
    184 8  8    -    hwtstamp
    """,
)

SK_MSG_MD: Final = layout(
    "sk_msg_md",
    80,
    """
    0   8  8    -    data                 packet
    8   8  8    -    data_end             packet_end
    16  4  4    -    family
    20  4  4    -    remote_ip4
    24  4  4    -    local_ip4
    28  16 4    -    remote_ip6
    44  16 4    -    local_ip6
    60  4  4    -    remote_port
    64  4  4    -    local_port
    68  4  4    -    size
    72  8  8    -    sk                   sock
    """,
)

SK_REUSEPORT_MD: Final = layout(
    "sk_reuseport_md",
    56,
    """
    0   8  8    -    data                 packet
    8   8  8    -    data_end             packet_end
    16  4  124  -    len
    20  4  24   -    eth_protocol
    24  4  124  -    ip_protocol
    28  4  124  -    bind_inany
    32  4  4    -    hash
    40  8  8    -    sk                   sock
    48  8  8    -    migrating_sk         sock_common?
    """,
)

SK_LOOKUP: Final = layout(
    "bpf_sk_lookup",
    72,
    """
    0   8  8    -    sk                   sock?
    8   4  124  -    family
    12  4  124  -    protocol
    16  4  124  -    remote_ip4
    20  16 124  -    remote_ip6
    36  4  124  -    remote_port
    40  4  124  -    local_ip4
    44  16 124  -    local_ip6
    60  4  124  -    local_port
    64  4  124  -    ingress_ifindex
    """,
)

SOCK_OPS: Final = layout(
    "bpf_sock_ops",
    224,
    """
    0   4  4    -    op
    4   4  4    4    reply
    8   12 4    -    args
    20  4  4    -    family
    24  4  4    -    remote_ip4
    28  4  4    -    local_ip4
    32  16 4    -    remote_ip6
    48  16 4    -    local_ip6
    64  4  4    -    remote_port
    68  4  4    -    local_port
    72  4  4    -    is_fullsock
    76  4  4    -    snd_cwnd
    80  4  4    -    srtt_us
    84  4  4    -    bpf_sock_ops_cb_flags
    88  4  4    -    state
    92  4  4    -    rtt_min
    96  4  4    -    snd_ssthresh
    100 4  4    -    rcv_nxt
    104 4  4    -    snd_nxt
    108 4  4    -    snd_una
    112 4  4    -    mss_cache
    116 4  4    -    ecn_flags
    120 4  4    -    rate_delivered
    124 4  4    -    rate_interval_us
    128 4  4    -    packets_out
    132 4  4    -    retrans_out
    136 4  4    -    total_retrans
    140 4  4    -    segs_in
    144 4  4    -    data_segs_in
    148 4  4    -    segs_out
    152 4  4    -    data_segs_out
    156 4  4    -    lost_out
    160 4  4    -    sacked_out
    164 4  4    4    sk_txhash
    168 8  8    -    bytes_received
    176 8  8    -    bytes_acked
    184 8  8    -    sk                   sock?
    192 8  8    -    skb_data             packet
    200 8  8    -    skb_data_end         packet_end
    208 4  4    -    skb_len
    212 4  124^ -    skb_tcp_flags
    216 8  8    -    skb_hwtstamp
    """,
)

SOCK: Final = layout(
    "bpf_sock",
    80,
    """
    0   4  4    4    bound_dev_if
    4   4  124^ -    family
    8   4  124^ -    type
    12  4  124^ -    protocol
    16  4  4    4    mark
    20  4  4    4    priority
    24  4  124  -    src_ip4
    28  16 124  -    src_ip6
    44  4  124^ -    src_port
    48  2  12   -    dst_port
    48  4  4    -    dst_port
    52  4  124  -    dst_ip4
    56  16 124  -    dst_ip6
    72  4  124^ -    state
    76  4  124^ -    rx_queue_mapping
    """,
)

SOCK_ADDR: Final = layout(
    "bpf_sock_addr",
    72,
    """
    0   4  4    -    user_family
    4   4  124  4    user_ip4
    8   16 1248 48   user_ip6
    24  4  124  4    user_port
    28  4  4    -    family
    32  4  4    -    type
    36  4  4    -    protocol
    40  4  124  4    msg_src_ip4
    44  16 1248 48   msg_src_ip6
    64  8  8    -    sk                   sock
    """,
)

SOCKOPT: Final = layout(
    "bpf_sockopt",
    40,
    """
    0   8  8    -    sk                   sock
    8   8  8    -    optval               packet
    16  8  8    -    optval_end           packet_end
    24  4  4    4    level
    28  4  4    4    optname
    32  4  4    4    optlen
    36  4  4    4    retval
    """,
)

# kernel/bpf/cgroup.c
CGROUP_DEV_CTX: Final = layout(
    "bpf_cgroup_dev_ctx",
    12,
    """
    0   4  124  -    access_type
    4   4  4    -    major
    8   4  4    -    minor
    """,
)

SYSCTL: Final = layout(
    "bpf_sysctl",
    8,
    """
    0   4  124  -    write
    4   4  124  4    file_pos
    """,
)

# net/netfilter/nf_bpf_link.c
NF_CTX: Final = layout(
    "bpf_nf_ctx",
    16,
    """
    0   8  8    -    state                btf
    8   8  8    -    skb                  btf
    """,
)

# drivers/media/rc/bpf-lirc.c
LIRC_SAMPLE: Final = layout("lirc_sample", 4, "0 4 4 - sample")

# kernel/trace/bpf_trace.c. The registers are those of x86-64 (arch/x86/include/uapi/asm/ptrace.h).
_REGISTERS: Final = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss".split()
PT_REGS: Final = layout(
    "pt_regs", 168, "\n".join(f"{8 * n} 8 * - {name}" for n, name in enumerate(_REGISTERS))
)

PERF_EVENT_DATA: Final = layout(
    "bpf_perf_event_data",
    184,
    "\n".join(f"{8 * n} 8 8 - regs.{name}" for n, name in enumerate(_REGISTERS))
    + """
    168 8  *    -    sample_period
    176 8  *    -    addr
    """,
)

TRACEPOINT: Final = layout("tracepoint", 8192, "8 8184 * - record")
"""The first eight bytes are the kernel's own; a record has its event's layout (/sys/kernel/tracing/events)."""

RAW_TRACEPOINT: Final = layout("bpf_raw_tracepoint_args", 96, "0 8 * - args[12]")
WRITABLE_TRACEPOINT: Final = layout(
    "bpf_raw_tracepoint_args",
    96,
    """
    0   8  8    -    buffer               btf
    1   7  *    -    buffer
    8   88 *    -    args
    """,
)

ARGUMENTS: Final = layout("arguments", 96, "0 8 * - argument[12] btf")
"""What BTF describes: the arguments of a kernel function, of a struct_ops member, of an LSM hook (btf_ctx_access)."""

# kernel/bpf/syscall.c, bpf_prog_test_run_syscall: whatever the caller passes.
SYSCALL: Final = layout("syscall", 65536, "0 65536 * * arguments")

SOCK_COMMON: Final = (
    Context("bpf_sock", SOCK.size, SOCK.fields)
    .without("type", "protocol", "mark", "priority")
    .read_only_but()
)

TCP_SOCK: Final = layout(
    "bpf_tcp_sock",
    112,
    """
    0   4  4    -    snd_cwnd
    4   4  4    -    srtt_us
    8   4  4    -    rtt_min
    12  4  4    -    snd_ssthresh
    16  4  4    -    rcv_nxt
    20  4  4    -    snd_nxt
    24  4  4    -    snd_una
    28  4  4    -    mss_cache
    32  4  4    -    ecn_flags
    36  4  4    -    rate_delivered
    40  4  4    -    rate_interval_us
    44  4  4    -    packets_out
    48  4  4    -    retrans_out
    52  4  4    -    total_retrans
    56  4  4    -    segs_in
    60  4  4    -    data_segs_in
    64  4  4    -    segs_out
    68  4  4    -    data_segs_out
    72  4  4    -    lost_out
    76  4  4    -    sacked_out
    80  8  8    -    bytes_received
    88  8  8    -    bytes_acked
    96  4  4    -    dsack_dups
    100 4  4    -    delivered
    104 4  4    -    delivered_ce
    108 4  4    -    icsk_retransmits
    """,
)

XDP_SOCK: Final = layout("bpf_xdp_sock", 4, "0 4 4 - queue_id")

FLOW_KEYS: Final = layout("bpf_flow_keys", 56, "0 56 * * keys")
"""kernel/bpf/verifier.c, check_flow_keys_access: any of its bytes."""

OBJECTS: Final = {
    "sock_common": SOCK_COMMON,
    "sock": SOCK.read_only_but(),
    "tcp_sock": TCP_SOCK,
    "xdp_sock": XDP_SOCK,
    "flow_keys": FLOW_KEYS,
}
"""What a pointer to an object of a kind points to. Other kinds have no layout that pybpf knows."""

SOCKETS: Final = frozenset({"sock_common", "sock", "tcp_sock", "xdp_sock"})
"""The kinds of object that a helper takes for a socket."""
