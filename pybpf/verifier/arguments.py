"""One argument of a helper call: is it what the contract's word says?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybpf import map_types
from pybpf.helpers import Arg, Helper, Memory
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import RegionKind
from pybpf.verifier.prove import READ, WRITE, Prover
from pybpf.verifier.state import State, first_of, read_bytes, slot_of
from pybpf.verifier.values import Form, Number, Object, Pointer, Target, Value

if TYPE_CHECKING:
    from pybpf.verifier.transfer import Transfer

MAX_SIZE: Final = 1 << 29
"""No helper takes more bytes than this (Linux, BPF_MAX_VAR_SIZ)."""

BYTES: Final = frozenset({Target.STACK, Target.PACKET, Target.PACKET_META, Target.MAP_VALUE, Target.RECORD})
"""What memory arguments may lie in."""


@dataclass(frozen=True, slots=True)
class Argument:
    """The value of a register at a call, in one state. Every method raises `Refusal` where it is not what it must be."""

    prover: Prover
    transfer: Transfer
    state: State
    pc: int
    helper: Helper
    register: int
    value: Value

    def wrong(self, needed: str) -> Refusal:
        """The refusal of something else than what is needed."""
        held = name_of(self.value) if isinstance(self.value, Pointer) else f"a number ({self.value!r})"
        if isinstance(self.value, Pointer) and self.value.null is not None:
            held += " that may be null"
        return Refusal(
            "helper-argument",
            f"r{self.register} of {self.helper.name} must be {needed}, is {held}",
            needed,
            f"r{self.register} = {self.value!r}",
        )

    @property
    def is_null(self) -> bool:
        """Whether it is the number 0."""
        return isinstance(self.value, Number) and self.value.value == 0

    def pointer(self, needed: str) -> Pointer:
        """A pointer that is not null."""
        if not isinstance(self.value, Pointer) or self.value.null is not None:
            raise self.wrong(needed)
        return self.value

    def number(self, needed: str) -> Number:
        """A number."""
        if isinstance(self.value, Pointer):
            raise self.wrong(needed)
        return self.value

    def constant(self) -> int:
        """A number that is known."""
        value = self.number("a constant").value
        if value is None:
            raise self.wrong("a constant")
        return value

    def map(self) -> int:
        """The number of a map."""
        p = self.pointer("a map")
        if p.target is not Target.MAP:
            raise self.wrong("a map")
        return p.number

    def function(self) -> int:
        """The first slot of a function of the program."""
        needed = "a function of the program"
        p = self.pointer(needed)
        if p.target is not Target.FUNCTION:
            raise self.wrong(needed)
        return p.number

    def object(self, needed: str) -> Object:
        """The structure of the kernel that it points to the start of."""
        p = self.pointer(needed)
        if p.target is not Target.OBJECT:
            raise self.wrong(needed)
        return self.prover.values.objects[p.number]

    def record(self) -> None:
        """The start of a record."""
        p = self.pointer("a record")
        if p.target is not Target.RECORD or p.offset or p.variable is not None:
            raise self.wrong("the start of a record")

    def text(self) -> None:
        """A text that ends and never changes: in the only value of a read-only map, at a known place."""
        needed = "a text in a read-only map"
        p = self.pointer(needed)
        if p.target is not Target.MAP_VALUE or p.variable is not None:
            raise self.wrong(needed)
        spec = self.prover.maps[p.number]
        if map_types.writable(spec) or spec.max_entries != 1 or spec.initial is None:
            raise self.wrong(needed)
        if p.offset < 0 or b"\0" not in spec.initial[p.offset :]:
            raise self.wrong("a text that ends with a zero byte")

    def sized(self, size_kind: Arg, memory: Memory) -> int:
        """Memory whose size stands in the next register; the greatest size is the result."""
        size = self._size(size_kind)
        wide = size.scalar.wide
        most = wide.umax
        if most == 0:
            if not (memory.nullable and self.is_null):
                mode = WRITE if memory.writes else READ
                self._inside(self.prover.dereferenceable(self.register, self.value, mode))
            return most
        self.memory(most, memory.reads, memory.writes, sure=size.value is not None, extent=size.form)
        return most

    def _size(self, size_kind: Arg) -> Number:
        register = self.register + 1
        size = self.transfer.read(self.state, register)
        name = f"r{register} of {self.helper.name}"
        if isinstance(size, Pointer):
            raise Refusal("helper-argument", f"{name} must be a size, is {name_of(size)}")
        wide = size.scalar.wide
        if wide.umax >= MAX_SIZE:
            raise Refusal(
                "helper-argument",
                f"{name}, a size, is not bounded",
                f"at most {MAX_SIZE - 1}",
                f"r{register} = {size!r}",
            )
        if wide.umin == 0 and size_kind is Arg.SIZE:
            raise Refusal("helper-argument", f"{name}, a size, may be zero")
        return size

    def memory(self, size: int, reads: bool, writes: bool, *, sure: bool, extent: Form | None = None) -> None:
        """`size` > 0 bytes are there, to be read or written; if `sure`, each of them is written."""
        mode = WRITE if writes else READ
        if isinstance(self.value, Number):
            raise self.wrong("a pointer to memory")
        p = self._inside(self.prover.dereferenceable(self.register, self.value, mode))
        access = self.prover.bounds(self.state, self.register, p, 0, size, mode, extent)
        if reads and writes:
            self.prover.bounds(self.state, self.register, p, 0, size, READ, extent)
        how = [word for word, does in (("read", reads), ("write", writes)) if does]
        self.transfer.recorder.argument(self.pc, self.register, access, how)
        if access.region is not RegionKind.STACK:
            return
        if reads:
            self.prover.no_pointers(self.state, self.register, p, 0, size)
            if not self.prover.initialised(self.state, self.register, p, 0, size):
                self.transfer.recorder.zero_stack = True
        if writes:
            self.transfer.clobber_stack(self.state, p, 0, size, sure=sure and p.variable is None)

    def aligned(self, size: int) -> None:
        """An address that is a multiple of a size."""
        self.prover.aligned(self.pointer("a pointer to memory"), 0, size, WRITE, always=True)

    def _inside(self, p: Pointer) -> Pointer:
        """A pointer into memory that the helper can use."""
        if p.target not in BYTES:
            raise self.wrong("a pointer to memory")
        allowed = self.prover.type.packet_arguments
        if allowed is None:
            allowed = self.helper.takes_packet
        if p.target in (Target.PACKET, Target.PACKET_META) and not allowed:
            raise self.wrong("a pointer to memory other than the packet")
        return p


def constant_key(prover: Prover, state: State, value: Value, size: int) -> int | None:
    """The number that a key of so many bytes, which was proved to be there, is: known where it lies in one slot of the stack."""
    if not isinstance(value, Pointer) or value.target is not Target.STACK or value.variable is not None:
        return None
    slot = slot_of(value.offset)
    cell = prover.frame_cells(state, value.number)[slot]
    key = read_bytes(prover.values, cell, value.offset - first_of(slot), size)
    return key.value if isinstance(key, Number) else None
