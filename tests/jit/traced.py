"""Facts observed instead of proved: what the interpreter does with some packets, in the words of the verifier.

They hold for those packets, which is all that a test of the compiler needs, and they exist for programs that no verifier
would accept.
"""

from __future__ import annotations

from collections.abc import Iterable

from pybpf import Facts, Instruction, Program, VerifiedProgram, maps, program_types
from pybpf.helpers import Arg
from pybpf.interpreter import Execution, Interpreter
from pybpf.isa import Kind
from pybpf.memory import (
    CONTEXT,
    PACKET,
    STACK,
    STACK_SIZE,
    STACK_TOP,
    TAG_SHIFT,
    function_of,
    map_address,
    map_index,
)
from pybpf.program_types import ProgramType
from pybpf.semantics import U64
from pybpf.verifier.facts import Access, RegionKind


class Observer:
    """Watches runs of a program."""

    def __init__(self, program: Program, type: ProgramType) -> None:
        self.program = program
        self.type = type
        self.accesses: dict[int, dict[object, Access]] = {}
        self.arguments: dict[int, dict[int, dict[object, Access]]] = {}
        self.maps: dict[int, set[int]] = {}
        self.callees: dict[int, set[int]] = {}
        self.reached: set[int] = set()

    def facts(self) -> Facts:
        return Facts(
            accesses={pc: tuple(found.values()) for pc, found in self.accesses.items()},
            arguments={
                pc: {register: tuple(found.values()) for register, found in registers.items()}
                for pc, registers in self.arguments.items()
            },
            maps={pc: next(iter(found)) for pc, found in self.maps.items() if len(found) == 1},
            reached=frozenset(self.reached),
            stack_size=STACK_SIZE,
            zero_stack=True,
            callees={pc: tuple(sorted(found)) for pc, found in self.callees.items()},
        )

    def __call__(self, pc: int, instruction: Instruction, run: Execution) -> None:
        self.reached.add(pc)
        op = instruction.op
        if op.kind in (Kind.LOAD, Kind.STORE, Kind.ATOMIC):
            loads = op.kind is Kind.LOAD or op.code == "load_acquire"
            base = run.registers[instruction.src if loads else instruction.dst] or 0
            self._see(self.accesses.setdefault(pc, {}), (base + instruction.offset) & U64, op.size)
        elif op.kind is Kind.CALL:
            self._see_call(pc, instruction.imm, run)
        elif op.kind is Kind.CALL_REGISTER:
            callee = run.registers[instruction.dst] or 0
            self.callees.setdefault(pc, set()).add(callee)
            if function_of(callee) is None:
                self._see_call(pc, callee, run)

    def _see_call(self, pc: int, number: int, run: Execution) -> None:
        registers = [register or 0 for register in run.registers]
        spec = None
        for register, arg in enumerate(self.type.helpers[number].args, 1):
            address = registers[register]
            match arg:
                case Arg.MAP:
                    index = map_index(address)
                    assert index is not None
                    self.maps.setdefault(pc, set()).add(index)
                    spec = self.program.maps[index]
                case Arg.KEY | Arg.VALUE:
                    assert spec is not None
                    size = spec.key_size if arg is Arg.KEY else spec.value_size
                    self._see(self.arguments.setdefault(pc, {}).setdefault(register, {}), address, size)
                case Arg.MEM | Arg.OUT:
                    size = registers[register + 1]
                    if size or address:  # a pointer to no bytes tells its region too
                        self._see(self.arguments.setdefault(pc, {}).setdefault(register, {}), address, size)

    def _see(self, found: dict[object, Access], address: int, size: int) -> None:
        region, offset, map, frame = self._place(address)
        before = found.get((region, map, frame), Access(region, offset, offset, size, map, frame))
        low, high = min(before.low, offset), max(before.high, offset)
        found[region, map, frame] = Access(region, low, high, max(before.size, size), map, frame)

    def _place(self, address: int) -> tuple[RegionKind, int, int | None, int]:
        tag = address >> TAG_SHIFT
        if tag == STACK >> TAG_SHIFT:
            frame = (STACK_TOP - 1 - address) // STACK_SIZE
            return RegionKind.STACK, address - (STACK_TOP - frame * STACK_SIZE), None, frame
        if tag == PACKET >> TAG_SHIFT:  # where it arrived: programs that move it are not observed
            return RegionKind.PACKET, address - PACKET, None, 0
        if tag == CONTEXT >> TAG_SHIFT:
            return RegionKind.CONTEXT, address - CONTEXT, None, 0
        index = map_index(address)
        assert index is not None, hex(address)
        layout = maps.layout_of(self.program.maps[index])
        return RegionKind.MAP_VALUE, (address - map_address(index) - layout.values) % layout.stride, index, 0


def observed(
    program: Program, packets: Iterable[bytes] = (b"",), type: str | ProgramType | None = None
) -> VerifiedProgram:
    """A program with the facts of its runs over some packets."""
    chosen = program_types.get(type or program.type or "filter")
    interpreter = Interpreter(program, chosen, strict=False)
    observer = Observer(program, chosen)
    for packet in packets:
        interpreter.run(packet, trace=observer)
    return VerifiedProgram(program, chosen, observer.facts())


def everywhere(
    program: Program, type: ProgramType, accesses: dict[int, tuple[Access, ...]], **facts: object
) -> VerifiedProgram:
    """A program every instruction of which is said to be reached, with accesses made up by the test."""
    return VerifiedProgram(program, type, Facts(accesses=accesses, reached=frozenset(program.code), **facts))  # type: ignore[arg-type]
