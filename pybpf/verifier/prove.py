"""Obligations on memory: that an access stays inside what its pointer points into, and may be made at all.

Each function takes a state, a pointer and the access, and gives the `Access` that was proved or raises `Refusal`. A proof
depends on nothing but the state; nothing here changes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pybpf import map_types
from pybpf.errors import UnsupportedError
from pybpf.memory import STACK_SIZE
from pybpf.program import MapSpec, Program
from pybpf.program_types import OBJECTS, Context, Field, ProgramType
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import Access, RegionKind
from pybpf.verifier.state import NOTHING, State, first_of, parts_of, slot_of, written
from pybpf.verifier.values import (
    LENGTH,
    Cell,
    Form,
    Number,
    Pointer,
    Target,
    Values,
    add_forms,
    proof_of,
)

READ: Final = "read"
WRITE: Final = "write"
ATOMIC: Final = "atomic"

BTF_POINTERS: Final = "btf-pointers"
"""The feature of what only the kernel's BTF describes."""


class Prover:
    """The memory rules of one program under one type. `maps` are the program's and behind them the maps that those hold."""

    def __init__(self, program: Program, type_: ProgramType, values: Values) -> None:
        self.program = program
        self.type = type_
        self.policy = type_.policy
        self.values = values
        holders = [number for number, spec in enumerate(program.maps) if spec.inner is not None]
        self.inner: Mapping[int, int] = {
            holder: len(program.maps) + position for position, holder in enumerate(holders)
        }
        """The number of a map of maps -> that of the map that it holds."""
        self.maps: Sequence[MapSpec] = (
            *program.maps,
            *(spec.inner for spec in program.maps if spec.inner is not None),
        )

    def access(self, state: State, register: int, cell: Cell, offset: int, size: int, mode: str) -> Access:
        """An access of `size` > 0 bytes at a register's address + offset. The stack's contents are a separate question."""
        pointer = self.dereferenceable(register, cell, mode)
        self.aligned(pointer, offset, size, mode)
        return self.bounds(state, register, pointer, offset, size, mode)

    def bounds(
        self,
        state: State,
        register: int,
        pointer: Pointer,
        offset: int,
        size: int,
        mode: str,
        extent: Form | None = None,
    ) -> Access:
        """The access lies inside what the pointer points into, whatever its alignment.

        `extent` is the identity of the size, where it is not a constant: `size` is then the greatest.
        """
        match pointer.target:
            case Target.PACKET | Target.PACKET_META:
                return self._packet(state, register, pointer, offset, size, mode, extent)
            case Target.MAP_VALUE:
                return self._map_value(register, pointer, offset, size, mode)
            case Target.STACK:
                return self._stack(register, pointer, offset, size)
            case Target.CONTEXT | Target.OBJECT:
                return self._field(register, pointer, offset, size, mode)
            case Target.RECORD:
                return self._record(register, pointer, offset, size, mode)
        raise Refusal(
            "bad-pointer", f"invalid memory access: r{register} is {name_of(pointer)}, which has no bytes"
        )

    @staticmethod
    def _as_many(state: State, p: Pointer, size: Form | None) -> bool:
        """Whether a packet pointer has as many bytes as a number of this identity says, whatever that number is.

        With p = packet + a + c and the size b + d, where a and b are sums of unknowns: what is proved behind a + b is at least
        c + d bytes. The length itself as one of the unknowns needs no proof: a + b + c + d <= length then says that what is
        left without it is not positive. Offsets and sizes are small, so no sum wraps.
        """
        if p.target is not Target.PACKET or size is None or p.atoms is None or abs(size[1]) >= 1 << 62:
            return False
        total = add_forms((p.atoms, p.offset), size)
        if total is None:
            return False
        atoms, offset = total
        if LENGTH in atoms:
            return len(atoms) == 1 and offset <= 0
        return offset <= state.proved(atoms)

    def dereferenceable(self, register: int, cell: Cell, mode: str) -> Pointer:
        """The pointer in a register, which must be one and not null."""
        if isinstance(cell, Number):
            what = "0 (null)" if cell.value == 0 else f"a number ({cell!r})"
            raise Refusal(
                "bad-pointer",
                f"invalid memory access: r{register} is {what}, not a pointer",
                "a pointer",
                repr(cell),
            )
        assert isinstance(cell, Pointer)
        if cell.null is not None:
            raise Refusal(
                "maybe-null",
                f"invalid {mode} through r{register}: {name_of(cell)} that may be null",
                "a pointer that is not null",
                f"r{register} = {cell!r}",
            )
        return cell

    def _packet(
        self,
        state: State,
        register: int,
        p: Pointer,
        offset: int,
        size: int,
        mode: str,
        extent: Form | None,
    ) -> Access:
        if mode is not READ and not self.type.packet_writable:
            raise Refusal("packet-write", f"forbidden write to packet through r{register}")
        if mode is ATOMIC:
            raise Refusal("atomic-target", f"atomic access to the packet through r{register} is not allowed")
        low, high = p.low + offset, p.high + offset
        proved = state.proved(proof_of(p))
        # With the pointer's own identity the variable part cancels; failing that, its greatest value must fit the packet.
        by_identity = p.offset + offset + size <= proved
        by_range = high + size <= state.proved(proof_of(p, whole=True))
        if low < 0 or not (by_identity or by_range or self._as_many(state, p, extent)):
            at = f"offset {p.offset + offset}"
            if p.variable is not None:
                at += f" + variable {p.variable.wide.smin}..{p.variable.wide.smax}"
            if low < 0:
                known = "the offset may be negative"
            elif p.variable is None:
                known = f"the {'packet' if p.target is Target.PACKET else 'metadata'} has at least {max(proved, 0)} bytes"
            elif proved == NOTHING:
                known = "nothing was proved about this variable offset"
            else:
                known = f"{proved} bytes behind the variable offset"
            raise Refusal(
                "packet-bounds",
                f"invalid access to packet: {mode} of {size} bytes at {at} through r{register}",
                f"{at} + {size} bytes inside the packet",
                known,
            )
        region = RegionKind.PACKET if p.target is Target.PACKET else RegionKind.PACKET_META
        return Access(region, low, high, size)

    def _map_value(self, register: int, p: Pointer, offset: int, size: int, mode: str) -> Access:
        spec = self.maps[p.number]
        if mode is not READ and not map_types.writable(spec):
            raise Refusal("map-write", f"write into read-only map {spec.name!r} through r{register}")
        if mode is not WRITE and not map_types.readable(spec):
            raise Refusal("map-read", f"read from write-only map {spec.name!r} through r{register}")
        low, high = p.low + offset, p.high + offset
        if low < 0 or high + size > spec.value_size:
            span = f"offset {low}" if low == high else f"offset {low}..{high}"
            raise Refusal(
                "map-value-bounds",
                f"invalid access to map value of {spec.name!r}: {mode} of {size} bytes at {span} through r{register}",
                f"0 <= offset and offset + {size} <= {spec.value_size}",
                f"r{register} = {p!r}",
            )
        return Access(RegionKind.MAP_VALUE, low, high, size, map=p.number)

    def _stack(self, register: int, p: Pointer, offset: int, size: int) -> Access:
        low, high = p.low + offset, p.high + offset
        if low < -STACK_SIZE or high + size > 0:
            span = f"offset {low}" if low == high else f"offset {low}..{high}"
            raise Refusal(
                "stack-bounds",
                f"invalid stack access: {size} bytes at {span} from r10 through r{register}",
                f"-{STACK_SIZE} <= offset and offset + {size} <= 0",
                f"r{register} = {p!r}",
            )
        return Access(RegionKind.STACK, low, high, size, frame=p.number)

    def _record(self, register: int, p: Pointer, offset: int, size: int, mode: str) -> Access:
        if mode is not READ and self.values.objects[p.number].kind == "key":
            raise Refusal("map-write", f"write into a map's key through r{register}")
        low, high, end = p.low + offset, p.high + offset, self.values.objects[p.number].size
        if low < 0 or high + size > end:
            span = f"offset {low}" if low == high else f"offset {low}..{high}"
            raise Refusal(
                "record-bounds",
                f"invalid access to a record of {end} bytes: {size} bytes at {span} through r{register}",
                f"0 <= offset and offset + {size} <= {end}",
                f"r{register} = {p!r}",
            )
        return Access(RegionKind.RECORD, low, high, size)

    def _field(self, register: int, p: Pointer, offset: int, size: int, mode: str) -> Access:
        """An access to the context or to a structure of the kernel is one to a field, by a pointer to its start."""
        layout = self._layout(p)
        field = self.field(p, offset, size, write=mode is not READ)
        if p.offset or p.variable is not None:
            raise Refusal(
                "context-access",
                f"invalid {mode} through r{register}: {name_of(p)} was moved by {p.low if p.low == p.high else 'a number'}",
                f"a pointer to the start of {layout.name}",
                f"r{register} = {p!r}",
            )
        if field is None or mode is ATOMIC:
            seen = layout.field_at(offset, size)
            why = f"field {seen.name!r} is read-only" if seen is not None and mode is not READ else "no field"
            raise Refusal(
                "context-access",
                f"invalid {mode} of {size} bytes at offset {offset} of {layout.name} through r{register}: {why} there",
            )
        region = RegionKind.CONTEXT if p.target is Target.CONTEXT else RegionKind.OBJECT
        return Access(region, offset, offset, size)

    def field(self, p: Pointer, offset: int, size: int, *, write: bool = False) -> Field | None:
        """The field that an access to the context or a structure of the kernel is one to."""
        return self._layout(p).field_at(p.offset + offset, size, write=write)

    def _layout(self, p: Pointer) -> Context:
        if p.target is Target.CONTEXT:
            assert self.type.context is not None, "nothing else makes a pointer to the context"
            return self.type.context
        kind = self.values.objects[p.number].kind
        if kind not in OBJECTS:
            raise UnsupportedError(
                "access to a structure that only the kernel's BTF describes",
                BTF_POINTERS,
                program=self.program.name,
            )
        return OBJECTS[kind]

    def aligned(self, p: Pointer, offset: int, size: int, mode: str, *, always: bool = False) -> None:
        """Natural alignment where the policy asks for it, and always for atomics and, as in Linux, for the stack."""
        strict = always or self.policy.strict_alignment or mode is ATOMIC or p.target is Target.STACK
        if not strict or size == 1:
            return
        # Packets are taken to start two bytes off, so that the network header behind Ethernet's 14 bytes is aligned (Linux, NET_IP_ALIGN).
        start = 2 if p.target in (Target.PACKET, Target.PACKET_META) else 0
        at = p.offset + offset + start
        v = p.variable.wide if p.variable is not None else None
        if at % size == 0 and (v is None or (v.value | v.mask) % size == 0):
            return
        if v is not None and not v.mask % size and (at + v.value) % size == 0:
            return
        raise Refusal(
            "alignment", f"misaligned {mode} of {size} bytes at offset {p.offset + offset} of {name_of(p)}"
        )

    def initialised(self, state: State, register: int, p: Pointer, offset: int, size: int) -> bool:
        """Whether stack bytes were written, for a range proved to be in the frame. False where they were not and may be read all
        the same: never where addresses must not leak, since what a join or a store in part dropped may be one.
        """
        cells = self.frame_cells(state, p.number)
        low, end = p.low + offset, p.high + offset + size
        for slot in range(slot_of(low), slot_of(end - 1) - 1, -1):
            start = first_of(slot)
            first, last = max(low - start, 0), min(end - start, 8)
            if not written(cells[slot], first, last - first):
                if self.policy.uninitialised_stack and self.policy.pointer_leaks:
                    return False
                byte = next(at for at in range(first, last) if not written(cells[slot], at, 1))
                raise Refusal(
                    "uninitialised-stack",
                    f"reading uninitialised stack byte {start + byte} from r10 through r{register}",
                    f"bytes {low} to {end - 1} from r10 written before",
                )
        return True

    def no_pointers(self, state: State, register: int, p: Pointer, offset: int, size: int) -> None:
        """The range of stack holds no address, where addresses must not become numbers."""
        if self.policy.pointer_leaks:
            return
        cells = self.frame_cells(state, p.number)
        low, end = p.low + offset, p.high + offset + size
        for slot in range(slot_of(end - 1), slot_of(low) + 1):
            start = first_of(slot)
            for first, length, value in parts_of(cells[slot]):
                if isinstance(value, Pointer) and start + first < end and start + first + length > low:
                    raise Refusal(
                        "pointer-leak",
                        f"pointer leak: {name_of(value)} at offset {start + first} from r10 read as bytes through r{register}",
                    )

    @staticmethod
    def frame_cells(state: State, frame: int) -> list[Cell] | tuple[Cell, ...]:
        """The cells of a frame by its depth: the current one is the last."""
        return state.cells if frame == len(state.frames) else state.frames[frame].cells
