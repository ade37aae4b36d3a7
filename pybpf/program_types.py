"""Program types: what a program is given, what it may do, and what it may give back.

A `ProgramType` is a value. The verifier, the engines and the loader read it; a user can make another one with
`dataclasses.replace` or from scratch and hand it to `verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from pybpf.errors import ArgumentError
from pybpf.helpers import LINUX, OKO, Helper

Clock = Callable[[], int]
"""Gives the time in nanoseconds."""

CLOCKS: Final[dict[str, Clock]] = {"monotonic": time.monotonic_ns, "realtime": time.time_ns}
"""The clocks that a program type can name."""


class Entry(Enum):
    """What a register holds when the program starts."""

    PACKET = "packet"  # the address of the packet's first byte
    LENGTH = "length"  # the packet's length in bytes, 64 bits
    CONTEXT = "context"  # the address of the context


class FieldKind(Enum):
    """What a load of a context field gives."""

    SCALAR = "scalar"
    PACKET = "packet"  # address of the packet's first byte
    PACKET_END = "packet_end"  # address behind the packet's last byte
    PACKET_META = "packet_meta"  # address of the metadata before the packet


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a context: `offset` and `size` in bytes. A pointer field is loaded as its whole size and widened."""

    name: str
    offset: int
    size: int
    kind: FieldKind = FieldKind.SCALAR
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The layout of what r1 points to."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def field_at(self, offset: int, size: int) -> Field | None:
        """The field that an access of `size` bytes at `offset` lies in; scalars may be read in part, pointers not."""
        for candidate in self.fields:
            start = offset - candidate.offset
            if start >= 0 and start + size <= candidate.size:
                whole = start == 0 and size == candidate.size
                return candidate if whole or candidate.kind is FieldKind.SCALAR else None
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the verifier asks for beyond memory safety and termination. Every switch is documented in docs/verifier.md."""

    loops: bool = True
    """Loops are allowed where their end is proved; otherwise any back edge is refused (Oko; Linux before 5.3)."""
    strict_alignment: bool = False
    """Refuse accesses that are not proved to be naturally aligned."""
    pointer_leaks: bool = True
    """Pointers may be stored in maps, packets and contexts, returned, and compared or computed with as numbers."""
    uninitialised_stack: bool = False
    """Stack bytes may be read before they are written; they read as zero (privileged Linux since 6.3)."""
    wide_shifts: bool = False
    """Immediate shifts may be as wide as the register or wider; execution masks the amount."""
    isa: int = 4
    """The newest ISA level (clang's -mcpu=v1 to v4) whose instructions are accepted."""
    max_instructions: int = 1 << 40
    """How many instructions one run may at most execute, as far as that is proved: a loop that ends only because a 64-bit
    counter must overflow does not end in practice. Linux's own figure, a million, can be asked for.
    """
    max_stack: int = 512
    """Bytes of stack that the frames of nested calls may take together (Linux, MAX_BPF_STACK)."""
    max_states: int = 250_000
    """Budget of the verification itself: instructions that it looks at, each in every state that differs."""


@dataclass(frozen=True, slots=True)
class ProgramType:
    """A kind of program.

    `entry` says what r1, r2, ... hold; `helpers` maps numbers to functions; `returns` is the range of results that the
    verifier demands (None for any); `verdicts` names results for people; `sections` are the section names, or prefixes
    before ``/``, that libbpf's conventions give the type; `map_numbers` says what the type numbers of 20-byte map
    definitions mean.
    """

    name: str
    entry: tuple[Entry, ...]
    helpers: Mapping[int, Helper]
    context: Context | None = None
    packet_writable: bool = False
    returns: tuple[int, int] | None = None
    verdicts: Mapping[int, str] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    map_numbers: Mapping[int, str] = field(default_factory=dict)
    clock: str = "monotonic"
    minimum_length: int = 0
    policy: Policy = Policy()

    @property
    def now(self) -> Clock:
        """The clock that `clock` names. Raises `ArgumentError` where there is none of the name."""
        if self.clock not in CLOCKS:
            known = ", ".join(CLOCKS)
            raise ArgumentError(
                f"program type {self.name!r}: unknown clock {self.clock!r}: known are {known}"
            )
        return CLOCKS[self.clock]

    def verdict(self, value: int) -> str:
        """The name of a result.

        >>> XDP.verdict(2), FILTER.verdict(7)
        ('PASS', 'no match')
        """
        return self.verdicts.get(value, self.verdicts.get(-1, str(value)))


# Linux, enum bpf_map_type; the names are pybpf's map types.
LINUX_MAPS: Final[dict[int, str]] = dict(
    enumerate(
        "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash "
        "lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage "
        "reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage "
        "task_storage bloom_filter user_ringbuf cgrp_storage arena insn_array".split()
    )
)

# Oko's numbers (lib/bpf/ubpf_int.h): array and hash trade places with Linux's.
OKO_MAPS: Final[dict[int, str]] = {1: "array", 2: "bloom_filter", 3: "count_min", 4: "hash"}

XDP_MD: Final = Context(
    "xdp_md",
    24,
    (
        Field("data", 0, 4, FieldKind.PACKET),
        Field("data_end", 4, 4, FieldKind.PACKET_END),
        Field("data_meta", 8, 4, FieldKind.PACKET_META),
        Field("ingress_ifindex", 12, 4),
        Field("rx_queue_index", 16, 4),
        Field("egress_ifindex", 20, 4),
    ),
)

FILTER: Final = ProgramType(
    name="filter",
    entry=(Entry.PACKET, Entry.LENGTH),
    helpers=OKO,
    verdicts={1: "match", -1: "no match"},
    sections=("filter",),
    map_numbers=OKO_MAPS,
    clock="realtime",
    policy=Policy(loops=False, pointer_leaks=False),
)
"""Oko's filter program (thesis, section 3.3): r1 the packet, read-only; r2 its true length; exactly 1 is a match."""

XDP: Final = ProgramType(
    name="xdp",
    entry=(Entry.CONTEXT,),
    context=XDP_MD,
    helpers=LINUX,
    packet_writable=True,
    verdicts={0: "ABORTED", 1: "DROP", 2: "PASS", 3: "TX", 4: "REDIRECT"},
    sections=("xdp", "xdp.frags", "xdp_devmap", "xdp_cpumap"),
    map_numbers=LINUX_MAPS,
    policy=Policy(uninitialised_stack=True),
)
"""Linux's express data path: r1 points to struct xdp_md, the packet may be written."""

MEMORY: Final = ProgramType(
    name="memory",
    entry=(Entry.PACKET, Entry.LENGTH),
    helpers=LINUX,
    packet_writable=True,
    sections=("memory",),
    map_numbers=LINUX_MAPS,
    policy=Policy(uninitialised_stack=True),
)
"""A program over plain memory: r1 the memory, writable; r2 its length (the convention of uBPF and bpf_conformance)."""

BY_NAME: Final[dict[str, ProgramType]] = {type_.name: type_ for type_ in (FILTER, XDP, MEMORY)}


def get(type_: str | ProgramType) -> ProgramType:
    """A program type by name; a value is returned as it is. Raises `ArgumentError` that lists the names."""
    if isinstance(type_, ProgramType):
        return type_
    try:
        return BY_NAME[type_]
    except KeyError:
        raise ArgumentError(f"unknown program type {type_!r}: known are {', '.join(BY_NAME)}") from None


def from_section(section: str) -> ProgramType | None:
    """The type that a section's name stands for by libbpf's conventions, None where it stands for none.

    >>> from_section("xdp/firewall").name
    'xdp'
    """
    head = section.split("/", 1)[0]
    for type_ in BY_NAME.values():
        if head in type_.sections:
            return type_
    return None
