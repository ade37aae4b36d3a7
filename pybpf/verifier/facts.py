"""What was proved about a program: plain data, for the JIT and for people.

Facts are the join over every abstract state in which an instruction was checked, so they hold on every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pybpf.program import Program
from pybpf.program_types import ProgramType

if TYPE_CHECKING:
    from pybpf.verifier.certificate import Certificate


class RegionKind(Enum):
    """What an address points into."""

    __hash__ = object.__hash__  # each is one object

    STACK = "stack"  # offsets count from r10 of the frame, so they are negative
    PACKET = "packet"  # from the packet's first byte
    PACKET_META = "packet_meta"  # from the metadata's first byte
    CONTEXT = "context"  # from the context's first byte
    MAP_VALUE = "map_value"  # from the value's first byte
    OBJECT = "object"  # from the first byte of a structure of the kernel
    RECORD = "record"  # from the first byte of memory that a helper gave


@dataclass(frozen=True, slots=True)
class Access:
    """One region that an access may touch: every address lies in `low` <= offset <= `high`, `size` bytes from there.

    `map` is the map's number for a map value: its position in `Program.maps` or, from their count on, an inner map, in the
    order of the maps that hold one. `frame` is the depth of the stack frame, 0 for the entry's. `size` is the
    greatest, where a helper's size argument varies.
    """

    region: RegionKind
    low: int
    high: int
    size: int
    map: int | None = None
    frame: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the verifier proved. Keys are pcs; an instruction without an entry was never reached.

    `accesses`: what each load, store and atomic may touch, one entry per region. `arguments`: the same for each helper
    call's pointer arguments, by register number. `maps`: the number of the map that r1 of a helper call is (absent where
    it may be several). `branches`: the branches that always go one way, and which. `ranges`: for each instruction that
    writes a register a number that is not a constant, its unsigned range where that is less than everything; `constants`:
    the value where it is one. `reached`: every pc that some state reaches. `max_instructions`: a bound on the instructions
    one run executes. `stack_size`: bytes of stack that the deepest chain of frames takes, each counted in steps of 16. `zero_stack`: bytes may be read before they
    are written, so an engine must clear the stack. `helpers`: the numbers called. `uses`: how each map is used, by its number: ``read`` and
    ``write`` for bytes of its values, by instructions and through arguments of helpers, and what helpers do to the map
    itself, such as ``lookup``, ``update`` and ``delete``. `null`: for each helper call that gives an address, whether that may be null.
    `callees`: what each call through a register may call, as its register holds it: the number of a helper, the address of a function
    (`pybpf.memory`).
    """

    accesses: Mapping[int, tuple[Access, ...]] = field(default_factory=dict)
    arguments: Mapping[int, Mapping[int, tuple[Access, ...]]] = field(default_factory=dict)
    maps: Mapping[int, int] = field(default_factory=dict)
    branches: Mapping[int, bool] = field(default_factory=dict)
    ranges: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    constants: Mapping[int, int] = field(default_factory=dict)
    reached: frozenset[int] = frozenset()
    max_instructions: int | None = None
    stack_size: int = 0
    zero_stack: bool = False
    helpers: frozenset[int] = frozenset()
    uses: Mapping[int, frozenset[str]] = field(default_factory=dict)
    null: Mapping[int, bool] = field(default_factory=dict)
    callees: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    explored: int = 0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class VerifiedProgram:
    """A program with the proof that it is safe for a program type. Only `pybpf.verify` and `pybpf.check` make one; the JIT takes nothing else.

    Each is equal to itself alone: what is made from a proof, such as its native code, can be kept with it. `certificate` is what
    the proof can be checked by, where it was asked for.
    """

    program: Program
    type: ProgramType
    facts: Facts
    certificate: Certificate | None = None
