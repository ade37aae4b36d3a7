"""A case: a program, and what it is run on. Cases can be written to files and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

from hypothesis import strategies as st

from fuzz.generate import TYPES, programs
from pybpf import MapError, MapSpec, Program, ProgramType, maps, program_types
from pybpf.maps import BpfMap
from pybpf.program_types import Clock

Entries = tuple[tuple[bytes, bytes], ...]

BOUNDARIES: Final = (0, 1, 13, 14, 33, 34, 54, 60, 128)
"""Lengths at which headers end."""

CONTEXT: Final = {"ingress_ifindex": 1}
"""The scalar fields of a context: Linux's test runs come from the loopback device."""

SEED: Final = 1
"""Of the hashes of maps, so that runs repeat."""


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """A program with its type as a value, the packets that it is run on one after the other, and what its maps hold before."""

    program: Program
    packets: tuple[bytes, ...]
    entries: Mapping[str, Entries] = field(default_factory=dict)

    @property
    def type(self) -> ProgramType:
        """The program's type."""
        return program_types.get(self.program.type or "")

    def __repr__(self) -> str:
        """The case as a file that `fuzz.text.read_case` reads."""
        from fuzz.text import text_of

        return f"<Case\n{text_of(self)}>"

    def make_maps(self) -> list[BpfMap]:
        """The program's maps, filled."""
        made = [maps.create(spec, seed=SEED) for spec in self.program.maps]
        for map in made:
            for key, value in self.entries.get(map.name, ()):
                put(map, key, value)
        return made


def put(map: BpfMap, key: bytes, value: bytes) -> None:
    """Fill in an entry if there is room for it and the map has such keys."""
    try:
        map[key] = value
    except MapError:
        return


def clock() -> Clock:
    """A clock that is the same in every run: it advances by a little every time it is asked."""
    times = count(1_000_000_007, 977)
    return lambda: next(times)


def contexts(type_: ProgramType) -> Mapping[str, int] | None:
    """The context that every run gets."""
    return CONTEXT if type_.context is not None else None


# Inputs


def boundary_lengths(program: Program) -> list[int]:
    """Lengths of packets at which this program may go another way: around its own small numbers."""
    found: set[int] = set(BOUNDARIES)
    total = 0
    for instruction in program.code.values():
        if 0 < instruction.imm <= 1500 and instruction.op.code in (
            "add",
            "jgt",
            "jge",
            "jlt",
            "jle",
            "mov",
            "imm",
        ):
            found |= {instruction.imm - 1, instruction.imm, instruction.imm + 1}
            if instruction.op.code == "add" and total + instruction.imm <= 256:
                total += instruction.imm
                found |= {total - 1, total, total + 1}
    return sorted(found)


def packet(lengths: Sequence[int], blob: bytes) -> bytes:
    """A packet: its length is a boundary or anything, its bytes are alike, small, extreme or random."""
    random = Random(blob)
    length = random.choice(lengths) if random.random() < 0.8 else random.randrange(200)
    match blob[:1]:
        case b"" | b"\0":
            return bytes(length)
        case b"\1":
            return b"\xff" * length
    pool = random.choice(((0, 1, 255), (0, 1, 2, 3, 4, 8, 14, 0x45, 127, 128, 255), range(64), range(256)))
    return bytes(random.choices(pool, k=length))


def map_entries(specs: Sequence[MapSpec], blob: bytes) -> dict[str, Entries]:
    """Entries under the small keys that generated programs use; none for zero bytes."""
    if not any(blob):
        return {}
    random = Random(blob)
    contents: dict[str, Entries] = {}
    for spec in specs:
        if spec.read_only:
            continue
        entries = []
        for key in range(min(spec.max_entries, random.randrange(5), 1 << 8 * spec.key_size)):
            fill = random.choice((b"\0", b"\xff", b"\1", b"\x80", random.randbytes(spec.value_size)))
            value = (fill * spec.value_size)[: spec.value_size]
            entries.append((key.to_bytes(spec.key_size, "little"), value))
        contents[spec.name] = tuple(entries)
    return contents


PACKETS: Final = 8

_blob: Final = st.binary(max_size=4)


def given_inputs(program: Program, packet_blobs: Sequence[bytes], map_blob: bytes) -> Case:
    """The case of a program on inputs made from bytes."""
    lengths = boundary_lengths(program)
    packets = tuple(packet(lengths, blob) for blob in packet_blobs)
    return Case(program, packets, map_entries(program.maps, map_blob))


def inputs(program: Program) -> st.SearchStrategy[Case]:
    """The program on several packets in a row, its maps filled in some way."""
    several = st.lists(_blob, min_size=1, max_size=PACKETS) | st.lists(
        _blob, min_size=PACKETS, max_size=PACKETS
    )
    return st.builds(given_inputs, st.just(program), several, _blob)


def cases(types: Sequence[ProgramType] = TYPES) -> st.SearchStrategy[Case]:
    """Generated programs on generated inputs."""
    return programs(types).flatmap(inputs)
