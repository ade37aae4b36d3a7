"""Every fact that the verifier gives out holds on every run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuzz.machine import Place, place_of
from pybpf import VerifiedProgram
from pybpf.helpers import MEMORY, Arg
from pybpf.instruction import Instruction
from pybpf.interpreter import Execution
from pybpf.isa import Kind, Operand
from pybpf.maps import BpfMap
from pybpf.memory import map_index
from pybpf.semantics import CONDITION, U32, U64
from pybpf.verifier.facts import Access, RegionKind
from pybpf.verifier.rules import writes


class WrongFact(AssertionError):
    """A fact that a run contradicts."""


class FactCheck:
    """Checks runs of one program against its facts. `before` is a trace of the interpreter."""

    def __init__(self, verified: VerifiedProgram, maps: Sequence[BpfMap]) -> None:
        self.verified = verified
        self.facts = verified.facts
        self.maps = maps
        self._written: tuple[int, int] | None = None
        self._lowest: dict[int, int] = {}
        self._depth = 0

    def start(self) -> None:
        """A new run."""
        self._written = None
        self._lowest.clear()

    def before(self, pc: int, instruction: Instruction, run: Execution) -> None:
        """Check what the instruction before this one wrote, and what this one is about to do. Raises `WrongFact`."""
        if self._written is not None:
            self._result(*self._written, run.registers)
            self._written = None
        self._depth, self._packet = len(run.stack.frames) - 1, run.packet
        if pc not in self.facts.reached:
            raise WrongFact(f"pc {pc} is reached, the facts say it is not")
        match instruction.op.kind:
            case Kind.LOAD | Kind.STORE | Kind.ATOMIC:
                base = instruction.src if _reads_source(instruction) else instruction.dst
                self._access(
                    f"pc {pc}",
                    self.facts.accesses.get(pc, ()),
                    (run.registers[base] or 0) + instruction.offset,
                    instruction.op.size,
                )
            case Kind.BRANCH if pc in self.facts.branches:
                taken = _taken(instruction, run)
                if taken != self.facts.branches[pc]:
                    raise WrongFact(
                        f"pc {pc}: the branch goes {taken}, the facts say {self.facts.branches[pc]}"
                    )
            case Kind.CALL:
                self._call(pc, instruction, run)
        register = writes(instruction)
        if register is not None and (pc in self.facts.ranges or pc in self.facts.constants):
            self._written = pc, register

    def _result(self, pc: int, register: int, registers: Sequence[int | None]) -> None:
        value = registers[register]
        low, high = self.facts.ranges.get(pc) or (self.facts.constants[pc],) * 2
        if value is None or not low <= value <= high:
            raise WrongFact(f"pc {pc}: r{register} becomes {value}, the facts say {low}..{high}")

    def _access(self, who: str, known: Iterable[Access], address: int, size: int) -> None:
        place = place_of(address & U64, self.maps, self._packet, size)
        if place is None:
            raise WrongFact(f"{who}: access of {size} bytes at {address:#x}, where nothing is")
        for access in known:
            number = {RegionKind.STACK: access.frame, RegionKind.MAP_VALUE: access.map}.get(access.region, 0)
            if (
                access.region is place.region
                and number == place.number
                and access.low <= place.offset <= access.high
                and size <= access.size
            ):
                break
        else:
            raise WrongFact(f"{who}: access of {size} bytes at {place}, the facts say {known}")
        if place.region is RegionKind.STACK:
            self._stack(who, place)

    def _stack(self, who: str, place: Place) -> None:
        """The frames under way together take no more stack than the facts say."""
        self._lowest = {depth: low for depth, low in self._lowest.items() if depth <= self._depth}
        self._lowest[place.number] = min(self._lowest.get(place.number, 0), place.offset)
        if -sum(self._lowest.values()) > self.facts.stack_size:
            raise WrongFact(f"{who}: {self._lowest} bytes of stack, the facts say {self.facts.stack_size}")

    def _call(self, pc: int, instruction: Instruction, run: Execution) -> None:
        if instruction.imm not in self.facts.helpers:
            raise WrongFact(
                f"pc {pc}: helper {instruction.imm} is called, the facts say {set(self.facts.helpers)}"
            )
        helper = self.verified.type.helpers[instruction.imm]
        number: int | None = None
        for register, argument in enumerate(helper.args, 1):
            value = run.registers[register]
            if value is None:
                raise WrongFact(f"pc {pc}: r{register} is an argument and was never written")
            if argument is Arg.MAP:
                number = map_index(value)
                if self.facts.maps.get(pc, number) != number:
                    raise WrongFact(f"pc {pc}: map {number}, the facts say {self.facts.maps[pc]}")
            size = self._argument_size(argument, number, run.registers, register)
            if size:
                known = self.facts.arguments.get(pc, {}).get(register, ())
                self._access(f"pc {pc}, r{register}", known, value, size)

    def _argument_size(
        self, argument: Arg, map: int | None, registers: Sequence[int | None], register: int
    ) -> int:
        """Bytes that a helper touches through an argument."""
        memory = MEMORY.get(argument)
        if memory is None or (memory.nullable and not registers[register]):
            return 0
        if memory.size == "next":
            return registers[register + 1] or 0
        if isinstance(memory.size, int):
            return memory.size
        assert map is not None
        spec = self.verified.program.maps[map]
        return spec.key_size if memory.size == "key" else spec.value_size


def _reads_source(instruction: Instruction) -> bool:
    """Whether the address stands in the source register."""
    return instruction.op.kind is Kind.LOAD or instruction.op.code == "load_acquire"


def _taken(instruction: Instruction, run: Execution) -> bool:
    mask = U64 if instruction.op.width == 64 else U32
    left = run.registers[instruction.dst] or 0
    from_register = instruction.op.operand is Operand.REG
    right = (run.registers[instruction.src] or 0) if from_register else instruction.imm
    return CONDITION[instruction.op.code](left & mask, right & mask, instruction.op.width)
