"""Program types: the tables agree with themselves, with libbpf, with Linux and with Oko."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pybpf import ArgumentError, MapSpec, Program, VerifierError, program_types, verify
from pybpf.helpers import LINUX
from pybpf.program_types import (
    ALIASES,
    BY_NAME,
    CGROUP_SKB,
    FILTER,
    LINUX_MAPS,
    MEMORY,
    OBJECTS,
    OKO_MAPS,
    TC,
    XDP,
    XDP_MD,
    Context,
    Entry,
    Field,
    FieldKind,
    ProgramType,
    from_section,
)
from tests import linux
from tests.elf.libbpf import Libbpf

TYPES = pytest.mark.parametrize("type", BY_NAME.values(), ids=BY_NAME)
LAYOUTS = [type.context for type in BY_NAME.values() if type.context is not None] + [*OBJECTS.values()]
SECTIONS = {section: type for type in BY_NAME.values() for section in type.sections}


def test_a_type_is_found_by_name_or_is_itself():
    assert program_types.get("filter") is FILTER
    assert program_types.get("sched_cls") is program_types.get("tc") is TC
    assert not ALIASES.keys() & BY_NAME.keys()
    own = replace(XDP, name="mine")
    assert program_types.get(own) is own
    with pytest.raises(ArgumentError, match="unknown program type 'mine': known are filter, memory, xdp, "):
        program_types.get("mine")


@TYPES
def test_tables_are_whole(type: ProgramType):
    """A context exactly where a register holds one; helpers by number, each among those that its numbering names."""
    assert (type.context is not None) == (Entry.CONTEXT in type.entry)
    assert {number: helper.name for number, helper in type.helpers.items()}.items() <= {
        number: helper.name for number, helper in type.numbering.items()
    }.items()
    assert type.now() > 0
    assert all(type.at(section).helpers for section in type.attached)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_fields_lie_in_their_structure_in_order(layout: Context):
    """Without overlap, but for a field that can be read at two sizes."""
    end, last = 0, ""
    for field in layout.fields:
        assert field.offset >= end or field.name == last
        end, last = field.offset + field.size, field.name
    assert end <= layout.size


@TYPES
def test_a_program_that_does_nothing_is_accepted_and_one_that_does_what_it_must_not_is_not(type: ProgramType):
    """Whether or not pybpf can run them: a read below the stack, and a helper that the type must not call."""
    lowest, _ = type.returns or (0, 0)
    verify(Program.from_asm(f"r0 = {lowest}\n exit", type))
    with pytest.raises(VerifierError, match="stack-bounds"):
        verify(Program.from_asm(f"r0 = *(u64 *)(r10 - 520)\n r0 = {lowest}\n exit", type))
    forbidden = next(number for number in (51, 26, 12, 1) if number not in type.helpers)
    if forbidden in type.numbering:
        with pytest.raises(VerifierError, match="helper-not-allowed"):
            verify(Program.from_asm(f"call {forbidden}\n r0 = {lowest}\n exit", type))


def test_what_a_section_adds_counts_where_nothing_else_names_the_type():
    """An egress program may ask for congestion, and a program given its type as a value is of that type."""
    egress = replace(Program.from_asm("r0 = 3\n exit", "cgroup_skb"), section="cgroup_skb/egress")
    assert verify(egress).type.returns == (0, 3)
    for ingress in (replace(egress, section="cgroup_skb/ingress"), replace(egress, type=CGROUP_SKB)):
        with pytest.raises(VerifierError, match="return-value"):
            verify(ingress)


def test_no_two_types_claim_a_section():
    sections = [section for type in BY_NAME.values() for section in type.sections]
    assert len(sections) == len(set(sections))


@pytest.mark.oracle
@pytest.mark.parametrize("behind", ["", "/something"])
def test_section_names_as_libbpf_has_them(behind: str):
    """Where the installed libbpf knows a name, it gives the same type; it is older than some of the names."""
    libbpf = Libbpf()
    known = {name: type for name in SECTIONS if (type := libbpf.section_type(name + behind))}
    assert len(known) > 20
    for name, type in known.items():
        found = from_section(name + behind)
        assert (name, found and found.name) == (name, type)


@pytest.mark.parametrize(
    ("section", "type"),
    [
        ("xdp", "xdp"),
        ("xdp/firewall", "xdp"),
        ("xdp.frags/devmap", "xdp"),
        ("?kprobe/do_exit", "kprobe"),
        ("cgroup/connect4", "cgroup_sock_addr"),
        ("cgroup/skb", "cgroup_skb"),
        ("sk_skb/stream_parser/mine", "sk_skb"),
        ("tracepoint/syscalls/sys_enter_open", "tracepoint"),
        ("raw_tracepoint.w/x", "raw_tracepoint_writable"),
        ("filter", "filter"),
        ("memory", "memory"),
        ("classifier/ingress", "tc"),
    ],
)
def test_section_names_and_what_stands_behind_them(section: str, type: str):
    """The longest part before a slash counts; a question mark means that nothing loads it unasked."""
    assert from_section(section) is BY_NAME[type]


@pytest.mark.parametrize(
    ("section", "type"),
    [
        ("xdp1", "xdp"),
        ("xdp_redirect_map", "xdp"),
        ("socket2", "socket_filter"),
        ("tc_mark", "tc"),
        ("cgroup/sock1", "cgroup_sock"),
    ],
)
def test_loose_section_names_of_old_objects(section: str, type: str):
    """Older loaders took a name for a prefix."""
    assert from_section(section) is BY_NAME[type]


@pytest.mark.parametrize(
    "section",
    [
        "",
        ".text",
        "tcp",
        "xdpsock",
        "xdpfirewall",
        "/xdp",
        "from-netdev",
        "2/1",
        "maps",
        "kprobes",
        "license",
        "/",
    ],
)
def test_other_section_names_stand_for_none(section: str):
    """A prefix ends before a letter."""
    assert from_section(section) is None


def test_verdicts_have_names():
    assert [XDP.verdict(n) for n in range(6)] == ["ABORTED", "DROP", "PASS", "TX", "REDIRECT", "5"]
    assert [FILTER.verdict(n) for n in (0, 1, 2)] == ["no match", "match", "no match"]
    assert MEMORY.verdict(1) == "1"
    assert [TC.verdict(n) for n in (2, 7, 0xFFFF_FFFF, 99)] == ["SHOT", "REDIRECT", "UNSPEC", "99"]


def test_xdp_md_is_that_of_linux():
    """include/uapi/linux/bpf.h, struct xdp_md: six fields of 32 bits, the first three packet pointers."""
    kinds = [FieldKind.PACKET, FieldKind.PACKET_END, FieldKind.PACKET_META] + [FieldKind.SCALAR] * 3
    assert [(field.offset, field.size, field.kind) for field in XDP_MD.fields] == [
        (4 * n, 4, kind) for n, kind in enumerate(kinds)
    ]
    assert not any(field.writable for field in XDP_MD.fields)
    assert XDP.context == XDP_MD.without("egress_ifindex")
    assert XDP.at("xdp/devmap").context == XDP_MD


def test_pointer_fields_are_read_whole_and_scalars_in_aligned_parts():
    pointer, number = Field("data", 0, 4, FieldKind.PACKET), Field("mark", 4, 4)
    context = Context("mine", 16, (pointer, number))
    assert context.field_at(0, 4) is pointer
    assert context.field_at(4, 4) is context.field_at(6, 2) is context.field_at(7, 1) is number
    for offset, size in ((0, 2), (2, 2), (0, 8), (6, 4), (5, 2), (8, 4), (-1, 1), (16, 1)):
        assert context.field_at(offset, size) is None


def test_sizes_of_loads_and_stores_may_be_fewer():
    whole = Field("mark", 0, 4, writable=True, loads=(1, 2, 4), stores=(4,))
    front = Field("family", 4, 4, loads=(1, 2, 4), front=True)
    context = Context("mine", 8, (whole, front))
    assert context.field_at(2, 2) is whole
    assert context.field_at(0, 4, write=True) is whole
    assert context.field_at(2, 2, write=True) is None
    assert context.field_at(4, 1) is context.field_at(4, 2) is front
    assert context.field_at(5, 1) is None
    assert context.field_at(4, 4, write=True) is None


def test_map_numbers_are_those_of_linux_and_oko():
    """Array and hash trade places."""
    assert (LINUX_MAPS[1], LINUX_MAPS[2], LINUX_MAPS[11], LINUX_MAPS[27]) == (
        "hash",
        "array",
        "lpm_trie",
        "ringbuf",
    )
    assert (OKO_MAPS[1], OKO_MAPS[4]) == ("array", "hash")


def test_a_clock_has_a_name():
    assert FILTER.now is time.time_ns
    assert XDP.now is time.monotonic_ns
    with pytest.raises(ArgumentError, match="unknown clock 'sun': known are monotonic, realtime"):
        _ = replace(XDP, clock="sun").now


def test_a_helper_of_one_number_may_differ_between_types():
    """Linux's sk_assign takes no socket from a lookup program; the cookie of a reuseport program is a socket's."""
    assert BY_NAME["sk_lookup"].helpers[124].contract == "ctx sk? any -> num"
    assert BY_NAME["tc"].helpers[124].contract == LINUX[124].contract == "ctx sk any -> num"
    assert BY_NAME["sk_reuseport"].helpers[46].contract == "sk -> num"


def lowest(type: ProgramType) -> int:
    """The least result that a type may give."""
    return type.returns[0] if type.returns else 0


LINUX_TYPES = pytest.mark.parametrize(
    ("section", "type"),
    linux.types(),
    ids=[f"{type.name} {section}".strip() for section, type in linux.types()],
)


def accepted_by_linux(type: ProgramType, section: str, text: str) -> bool:
    return linux.refusal(Program.from_asm(f"{text}\n r0 = {lowest(type)}\n exit", type), section) is None


@pytest.mark.slow
@pytest.mark.parametrize("write", [False, True], ids=["loads", "stores"])
@LINUX_TYPES
@linux.asks
def test_contexts_are_accessed_as_in_linux(section: str, type: ProgramType, write: bool):
    """Every aligned offset and size, to behind the end of the structure: the same accesses are allowed."""
    assert type.context is not None
    end = min(type.context.size, 232) + 16
    for size in (1, 2, 4, 8):
        for offset in range(0, end, size):
            access = f"*(u{8 * size} *)(r1 + {offset})"
            text = f"r0 = 0\n {access} = r0" if write else f"r0 = {access}"
            ours = type.context.field_at(offset, size, write=write) is not None
            assert (offset, size, ours) == (offset, size, accepted_by_linux(type, section, text))


@pytest.mark.slow
@LINUX_TYPES
@linux.asks
def test_fields_hold_pointers_where_they_do_in_linux(section: str, type: ProgramType):
    """What is loaded from a pointer field cannot be multiplied."""
    assert type.context is not None
    for field in type.context.fields:
        size = max(
            n for n in (1, 2, 4, 8) if field.offset % n == 0 and field.allows(field.offset, n, write=False)
        )
        load = f"r0 = *(u{8 * size} *)(r1 + {field.offset})"
        pointer = field.kind is not FieldKind.SCALAR
        assert (field.name, pointer) == (
            field.name,
            not accepted_by_linux(type, section, f"{load}\n r0 *= 2"),
        )


@LINUX_TYPES
@linux.asks
def test_results_are_those_of_linux(section: str, type: ProgramType):
    """Both ends of the range and what lies beyond them."""
    low, high = type.returns or (0, (1 << 31) - 1)
    for result in (low, high, *((low - 1, high + 1) if type.returns else (-1,))):
        program = Program.from_asm(f"r0 = {result}\n exit", type)
        ours = type.returns is None or low <= result <= high
        assert (result, ours) == (result, linux.refusal(program, section) is None)


@LINUX_TYPES
@linux.asks
def test_packets_are_written_and_loaded_where_linux_allows_it(section: str, type: ProgramType):
    """Through data and data_end; and by LD_ABS."""
    assert type.context is not None
    kinds = {field.kind: field for field in type.context.fields}
    data, end = kinds.get(FieldKind.PACKET), kinds.get(FieldKind.PACKET_END)
    if data is not None and end is not None:
        for access in ("r0 = *(u8 *)(r2 + 0)", "*(u8 *)(r2 + 0) = 1"):
            program = Program.from_asm(
                f"""
                r2 = *(u{8 * data.size} *)(r1 + {data.offset})
                r3 = *(u{8 * end.size} *)(r1 + {end.offset})
                r4 = r2
                r4 += 1
                if r4 > r3 goto out
                {access}
            out: r0 = {lowest(type)}
                exit
                """,
                type,
            )
            assert judged(program) == (linux.refusal(program, section) is None)
    program = Program.from_asm(f"r6 = r1\n r0 = *(u8 *)skb[0]\n r0 = {lowest(type)}\n exit", type)
    assert judged(program) == type.packet_loads == (linux.refusal(program, section) is None)


def judged(program: Program) -> bool:
    """pybpf's verdict."""
    try:
        verify(program)
    except VerifierError:
        return False
    return True


OBJECT_POINTERS = {
    "sock_common": ("tc", "r6 = *(u64 *)(r1 + 168)"),
    "sock": ("tc", "r1 = *(u64 *)(r1 + 168)\n if r1 == 0 goto out\n call sk_fullsock\n r6 = r0"),
    "tcp_sock": ("tc", "r1 = *(u64 *)(r1 + 168)\n if r1 == 0 goto out\n call tcp_sock\n r6 = r0"),
    "xdp_sock": (
        "xdp",
        "*(u32 *)(r10 - 4) = 0\n r2 = r10\n r2 += -4\n r1 = sockets ll\n call map_lookup_elem\n r6 = r0",
    ),
    "flow_keys": ("flow_dissector", "r6 = *(u64 *)(r1 + 144)"),
}
"""How a program gets at a structure of the kernel."""


@pytest.mark.slow
@pytest.mark.parametrize("write", [False, True], ids=["loads", "stores"])
@pytest.mark.parametrize("kind", OBJECTS)
@linux.asks
def test_structures_of_the_kernel_are_accessed_as_in_linux(kind: str, write: bool):
    """Every aligned offset and size: pybpf's verdict is Linux's."""
    name, way = OBJECT_POINTERS[kind]
    maps = {"sockets": MapSpec("sockets", "xskmap", 4, 4, 1)}
    for size in (1, 2, 4, 8):
        for offset in range(0, OBJECTS[kind].size + 16, size):
            access = f"*(u{8 * size} *)(r6 + {offset})"
            text = f"{way}\n if r6 == 0 goto out\n r0 = 0\n {f'{access} = r0' if write else f'r0 = {access}'}\nout: r0 = 0\n exit"
            program = Program.from_asm(text, program_types.get(name), maps)
            assert (offset, size, judged(program)) == (offset, size, linux.refusal(program) is None)
