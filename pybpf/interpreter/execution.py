"""One run under way: registers, stack frames and memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pybpf.errors import ArgumentError
from pybpf.instruction import ByteOrder
from pybpf.isa import MAX_REGISTER
from pybpf.memory import CONTEXT, FIRST_MAP, MAX_FRAMES, MAX_PACKET, PACKET, STACK, TAG_SHIFT
from pybpf.program_types import Clock, Context, Entry, ProgramType
from pybpf.regions import (
    Bytes,
    ContextFields,
    Fault,
    Frame,
    MapValues,
    Memory,
    Packet,
    Region,
    Stack,
)

if TYPE_CHECKING:
    from pybpf.maps import BpfMap

HALT: Final = 1 << 64
"""The pc after the last instruction of a run: no jump can reach it."""


@dataclass(frozen=True)
class Environment:
    """What all runs of an interpreter have in common."""

    type: ProgramType
    maps: tuple[BpfMap, ...]
    clock: Clock
    strict: bool
    byteorder: ByteOrder = "little"

    @cached_property
    def regions(self) -> dict[int, Region]:
        """The maps' regions, by the tags of their addresses."""
        return {
            FIRST_MAP + number: MapValues(number, map, self.byteorder) for number, map in enumerate(self.maps)
        }


class Execution(Memory):
    """One run under way: what steps act on, what the bodies of helpers see (`Memory`), and what a trace is shown.

    `registers` are r0 to r10, None where uninitialised; `stack.frames` are the frames of the calls under way.
    """

    __slots__ = ("packet", "registers", "stack", "unwritten")

    def __init__(self, environment: Environment, packet: Bytes, context: Bytes | None) -> None:
        type_, order = environment.type, environment.byteorder
        super().__init__(dict(environment.regions), environment.maps, environment.clock, order)
        self.unwritten = None if environment.strict else 0
        self.registers: list[int | None] = [self.unwritten] * (MAX_REGISTER + 1)
        if len(packet) > MAX_PACKET:
            raise ArgumentError(f"a packet of {len(packet)} bytes: at most {MAX_PACKET}")
        buffer = bytearray(packet) if type_.packet_writable else memoryview(packet).toreadonly().cast("B")
        self.packet = Packet(buffer, type_.packet_writable, order)
        tracked = environment.strict and not type_.policy.uninitialised_stack
        self.stack = Stack(tracked, order)
        self.regions[STACK >> TAG_SHIFT] = self.stack
        self.regions[PACKET >> TAG_SHIFT] = self.packet
        if type_.context is not None:
            fields = _context_buffer(type_.context, context)
            self.regions[CONTEXT >> TAG_SHIFT] = ContextFields(type_.context, fields, self.packet, order)
        for number, entry in enumerate(type_.entry, 1):
            self.registers[number] = self._entry_value(entry)
        self.stack.frames.append(Frame(HALT, []))
        self.registers[MAX_REGISTER] = self.stack.top

    def _entry_value(self, entry: Entry) -> int:
        match entry:
            case Entry.PACKET:
                return PACKET
            case Entry.LENGTH:
                return self.packet.size
            case Entry.CONTEXT:
                return CONTEXT

    def enter(self, target: int, return_pc: int) -> int:
        """Call a function of the program: it gets r1 to r5 and a stack frame; r6 to r9 are saved."""
        if len(self.stack.frames) == MAX_FRAMES:
            raise Fault(f"calls nest deeper than {MAX_FRAMES} frames")
        registers = self.registers
        self.stack.frames.append(Frame(return_pc, registers[6:10]))
        registers[0] = self.unwritten
        registers[6:10] = [self.unwritten] * 4
        registers[10] = self.stack.top
        return target

    def leave(self) -> int:
        """Return from a function, or end the run."""
        frame = self.stack.frames[-1]
        if frame.return_pc == HALT:
            if self.registers[0] is None:
                raise uninitialised(0)
            return HALT
        self.stack.frames.pop()
        self.registers[1:10] = [self.unwritten] * 5 + frame.saved
        self.registers[10] = self.stack.top
        return frame.return_pc


def _context_buffer(layout: Context, given: Bytes | None) -> Bytes:
    """Writable bytes of a context: the caller's where they are writable."""
    if given is None:
        return bytearray(layout.size)
    if len(given) != layout.size:
        raise ArgumentError(f"a {layout.name} has {layout.size} bytes, not {len(given)}")
    return bytearray(given) if memoryview(given).readonly else given


def uninitialised(register: int) -> Fault:
    """The fault of reading a register that holds nothing."""
    return Fault(f"uninitialised register r{register}")
