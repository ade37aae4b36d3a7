"""Instructions written one after the other, with labels for what is not written yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from fuzz.choices import Abandon
from pybpf import MapSpec, Program, Reference, RefKind, Subprogram
from pybpf.instruction import Instruction
from pybpf.isa import Kind, Op, Operand, op
from pybpf.semantics import U64

R10: Final = 10

_OFFSETS: Final = range(-(1 << 15), 1 << 15)

_IMM64: Final = op(Kind.LOAD_IMM64, "imm")
_MAP: Final = op(Kind.LOAD_IMM64, "map_fd")
_MAP_VALUE: Final = op(Kind.LOAD_IMM64, "map_value_fd")
_FUNCTION: Final = op(Kind.LOAD_IMM64, "function")
_HELPER: Final = op(Kind.CALL, "helper")
_LOCAL: Final = op(Kind.CALL_LOCAL, "local")
_JA: Final = op(Kind.JUMP, "ja")
_GOTOL: Final = op(Kind.JUMP, "gotol")
_EXIT: Final = op(Kind.EXIT, "exit")


class Label:
    """A place in the code, known once it is placed. `uses` counts the jumps to it."""

    def __init__(self) -> None:
        self.uses = 0


@dataclass(frozen=True, slots=True)
class Register:
    """A second operand that is a register, where a number would be an immediate."""

    number: int


Source = Register | int


class Code:
    """A growing program. Registers are numbers, a second operand is a `Register` or an immediate."""

    def __init__(self) -> None:
        self._rows: list[tuple[Instruction, Label | None]] = []
        self._places: dict[Label, int] = {}
        self._maps: dict[int, str] = {}
        self._offsets: dict[int, int] = {}
        self._callbacks: dict[int, Label] = {}
        self._functions: dict[Label, str] = {}
        self.slots = 0

    def put(self, instruction: Instruction, target: Label | None = None) -> None:
        """Append an instruction; `target` says where a jump goes. Raises `Abandon` for an offset that no instruction holds."""
        if instruction.offset not in _OFFSETS:
            raise Abandon
        if target is not None:
            target.uses += 1
        self._rows.append((instruction, target))
        self.slots += instruction.slots

    def place(self, label: Label) -> None:
        """The label stands here."""
        self._places[label] = self.slots

    def move(self, dst: int, source: Source, width: int = 64) -> None:
        """dst = source."""
        self.alu("mov", dst, source, width)

    def alu(self, code: str, dst: int, source: Source = 0, width: int = 64) -> None:
        """dst = dst `code` source."""
        if code == "neg":
            self.put(Instruction(op(Kind.ALU, code, width=width), dst))
            return
        register = isinstance(source, Register)
        row = op(Kind.ALU, code, width=width, operand=Operand.REG if register else Operand.IMM)
        self._operands(row, dst, source, offset=row.offset or 0)

    def end(self, row: Op, dst: int) -> None:
        """The byte order of dst changed."""
        self.put(Instruction(row, dst, imm=row.imm or 0))

    def constant(self, dst: int, value: int) -> None:
        """dst = a 64-bit constant."""
        self.put(Instruction(_IMM64, dst, imm=value & U64))

    def load(self, size: int, dst: int, base: int, offset: int, *, signed: bool = False) -> None:
        """dst = `size` bytes at base + offset."""
        row = op(Kind.LOAD, "memsx" if signed else "mem", size=size)
        self.put(Instruction(row, dst, base, offset))

    def store(self, size: int, base: int, offset: int, source: Source) -> None:
        """`size` bytes at base + offset = source."""
        operand = Operand.REG if isinstance(source, Register) else Operand.IMM
        self._operands(op(Kind.STORE, "mem", size=size, operand=operand), base, source, offset)

    def atomic(self, row: Op, dst: int, src: int, offset: int) -> None:
        """An atomic operation: memory is at dst + offset, but for load_acquire at src + offset."""
        self.put(Instruction(row, dst, src, offset, row.imm or 0))

    def branch(self, code: str, dst: int, source: Source, target: Label, width: int = 64) -> None:
        """if dst `code` source goto target."""
        operand = Operand.REG if isinstance(source, Register) else Operand.IMM
        self._operands(op(Kind.BRANCH, code, width=width, operand=operand), dst, source, 0, target)

    def goto(self, target: Label, *, far: bool = False) -> None:
        """goto target."""
        self.put(Instruction(_GOTOL if far else _JA), target)

    def map(self, dst: int, name: str) -> None:
        """dst = the address of a map."""
        self._maps[self.slots] = name
        self.put(Instruction(_MAP, dst, _MAP.src or 0))

    def map_value(self, dst: int, name: str, offset: int) -> None:
        """dst = the address of a byte of the only value of a map."""
        self._maps[self.slots] = name
        self._offsets[self.slots] = offset
        self.put(Instruction(_MAP_VALUE, dst, _MAP_VALUE.src or 0, imm=offset << 32))

    def function_address(self, dst: int, target: Label) -> None:
        """dst = the address of a function of the program."""
        self._callbacks[self.slots] = target
        self.put(Instruction(_FUNCTION, dst, _FUNCTION.src or 0), target)

    def packet(self, row: Op, place: int, index: int = 0) -> None:
        """r0 = bytes of the packet at a place, or so far behind the number in a register."""
        self.put(Instruction(row, 0, index, 0, place))

    def call(self, helper: int) -> None:
        """Call a helper by its number."""
        self.put(Instruction(_HELPER, imm=helper))

    def call_function(self, target: Label) -> None:
        """Call a function of the program."""
        self.put(Instruction(_LOCAL, src=_LOCAL.src or 0), target)

    def function(self, name: str, label: Label) -> None:
        """A function begins here."""
        self._functions[label] = name
        self.place(label)

    def exit(self) -> None:
        """Return."""
        self.put(Instruction(_EXIT))

    def program(self, type: str, maps: dict[str, MapSpec]) -> Program:
        """The program, with the maps that it names."""
        code: dict[int, Instruction] = {}
        pc = 0
        for instruction, target in self._rows:
            if target is not None:
                instruction = jumping(instruction, self._places[target] - pc - 1)
            code[pc] = instruction
            pc += instruction.slots
        starts = {0: "main", **{self._places[label]: name for label, name in self._functions.items()}}
        ends = [*sorted(starts)[1:], pc]
        return Program(
            "generated",
            code,
            type,
            references={
                pc: Reference(RefKind.FUNCTION, self._functions[target], self._places[target])
                for pc, target in self._callbacks.items()
            }
            | {
                pc: Reference(RefKind.VALUE, name, self._offsets[pc])
                if pc in self._offsets
                else Reference(RefKind.MAP, name)
                for pc, name in self._maps.items()
            },
            maps=tuple(maps[name] for name in dict.fromkeys(self._maps.values())),
            functions={
                start: Subprogram(starts[start], start, end - start)
                for start, end in zip(sorted(starts), ends, strict=True)
            },
            license="GPL",
        )

    def _operands(
        self, row: Op, dst: int, source: Source, offset: int = 0, target: Label | None = None
    ) -> None:
        if isinstance(source, Register):
            self.put(Instruction(row, dst, source.number, offset), target)
        else:
            self.put(Instruction(row, dst, 0, offset, source), target)


def jumping(instruction: Instruction, distance: int) -> Instruction:
    """A jump, branch, local call or address of a function that goes so many slots from the next slot."""
    if instruction.op.code in ("gotol", "local"):
        return replace(instruction, imm=distance)
    if instruction.op is _FUNCTION:
        return replace(instruction, imm=distance & 0xFFFF_FFFF)
    return replace(instruction, offset=distance)
