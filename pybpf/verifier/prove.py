"""Obligations on memory: that an access stays inside what its pointer points into, and may be made at all.

Each function takes a state, a pointer and the access, and gives the `Access` that was proved or raises `Refusal`. A proof
depends on nothing but the state; nothing here changes one.
"""

from __future__ import annotations

from typing import Final

from pybpf.memory import STACK_SIZE
from pybpf.program import Program
from pybpf.program_types import Field, ProgramType
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import Access, RegionKind
from pybpf.verifier.state import FIRST_SLOT, NOTHING, State, parts_of, slot_of, written
from pybpf.verifier.values import LENGTH, Cell, Form, Number, Pointer, Target, add_forms

READ: Final = "read"
WRITE: Final = "write"
ATOMIC: Final = "atomic"


class Prover:
    """The memory rules of one program under one type."""

    def __init__(self, program: Program, type_: ProgramType) -> None:
        self.program = program
        self.type = type_
        self.policy = type_.policy

    def access(self, state: State, register: int, cell: Cell, offset: int, size: int, mode: str) -> Access:
        """An access of `size` > 0 bytes at a register's address + offset. The stack's contents are a separate question."""
        pointer = self.dereferenceable(register, cell, mode)
        self._aligned(pointer, offset, size, mode)
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
            case Target.PACKET:
                return self._packet(state, register, pointer, offset, size, mode, extent)
            case Target.MAP_VALUE:
                return self._map_value(register, pointer, offset, size, mode)
            case Target.STACK:
                return self._stack(register, pointer, offset, size)
            case Target.CONTEXT:
                return self._context(register, pointer, offset, size, mode)
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
        if size is None or p.atoms is None or abs(size[1]) >= 1 << 62:
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
        proved = state.proved(p.atoms)
        # With the pointer's own identity the variable part cancels; failing that, its greatest value must fit the packet.
        by_identity = p.offset + offset + size <= proved
        by_range = high + size <= state.proved(())
        if low < 0 or not (by_identity or by_range or self._as_many(state, p, extent)):
            at = f"offset {p.offset + offset}"
            if p.variable is not None:
                at += f" + variable {p.variable.wide.smin}..{p.variable.wide.smax}"
            if low < 0:
                known = "the offset may be negative"
            elif p.variable is None:
                known = f"the packet has at least {proved} bytes"
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
        return Access(RegionKind.PACKET, low, high, size)

    def _map_value(self, register: int, p: Pointer, offset: int, size: int, mode: str) -> Access:
        spec = self.program.maps[p.number]
        if mode is not READ and spec.read_only:
            raise Refusal("map-write", f"write into read-only map {spec.name!r} through r{register}")
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

    def _context(self, register: int, p: Pointer, offset: int, size: int, mode: str) -> Access:
        field = self.context_field(p, offset, size)
        if field is None or (mode is not READ and not field.writable) or mode is ATOMIC:
            context = self.type.context
            assert context is not None
            at = p.offset + offset
            why = "no field" if field is None else f"field {field.name!r} is read-only"
            raise Refusal(
                "context-access",
                f"invalid {mode} of {size} bytes at offset {at} of {context.name} through r{register}: {why} there",
            )
        return Access(RegionKind.CONTEXT, p.offset + offset, p.offset + offset, size)

    def context_field(self, p: Pointer, offset: int, size: int) -> Field | None:
        """The field that an access to the context lies in; none where a join left the offset unknown."""
        context = self.type.context
        if context is None or p.variable is not None:
            return None
        return context.field_at(p.offset + offset, size)

    def _aligned(self, p: Pointer, offset: int, size: int, mode: str) -> None:
        """Natural alignment where the policy asks for it, and always for atomics and, as in Linux, for the stack."""
        strict = self.policy.strict_alignment or mode is ATOMIC or p.target is Target.STACK
        if not strict or size == 1:
            return
        # Packets are taken to start two bytes off, so that the network header behind Ethernet's 14 bytes is aligned (Linux, NET_IP_ALIGN).
        start = 2 if p.target is Target.PACKET else 0
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
        """Whether stack bytes were written, for a range proved to be in the frame. False where they were not and may be read all the same."""
        cells = self.frame_cells(state, p.number)
        for byte in range(p.low + offset, p.high + offset + size):
            slot = slot_of(byte)
            if not written(cells[slot], byte + 8 * (slot - FIRST_SLOT + 1), 1):
                if self.policy.uninitialised_stack:
                    return False
                raise Refusal(
                    "uninitialised-stack",
                    f"reading uninitialised stack byte {byte} from r10 through r{register}",
                    f"bytes {p.low + offset} to {p.high + offset + size - 1} from r10 written before",
                )
        return True

    def no_pointers(self, state: State, register: int, p: Pointer, offset: int, size: int) -> None:
        """The range of stack holds no address, where addresses must not become numbers."""
        if self.policy.pointer_leaks:
            return
        cells = self.frame_cells(state, p.number)
        low, end = p.low + offset, p.high + offset + size
        for slot in range(slot_of(end - 1), slot_of(low) + 1):
            start = -8 * (slot - FIRST_SLOT + 1)
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
