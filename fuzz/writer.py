"""The writer of programs: where it stands, what it knows there, and the services that all statements share.

A statement (`fuzz.arithmetic`, `fuzz.packets`, ...) asks for what it needs, a number below 64, say, or a register to overwrite,
writes instructions, and says what is known afterwards. It may give up with `Abandon` at any time: what it has written stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from fuzz.choices import Abandon, Choices
from fuzz.code import R10, Code, Label, Register, Source
from fuzz.model import LENGTH, U64, Context, Frame, Kind, Num, Packet, State, join
from pybpf import MapSpec, Program, ProgramType
from pybpf.memory import MAX_PACKET

CONSTANTS: Final = (
    0, 1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 20, 31, 32, 33, 34, 60, 63, 64, 127, 128, 255, 256, 511, 512, 1000, 0x7FFF,
    0x8000, 0xFFFF, 0x10000, -1, -2, -4, -8, -16, -128, -129, -0x8000, (1 << 31) - 1, -(1 << 31),
)  # fmt: skip
"""Immediates: small ones, and the edges of everything."""

WIDE_CONSTANTS: Final = (
    1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, (1 << 63) - 1, 1 << 63, U64, U64 - 1, 0x8000_0000_8000_0000,
    0xFFFF_FFFF_0000_0000, 0x0123_4567_89AB_CDEF,
)  # fmt: skip

MAPS: Final = {
    spec.name: spec
    for spec in (
        MapSpec("table", "array", key_size=4, value_size=24, max_entries=4),
        MapSpec("flows", "hash", key_size=8, value_size=16, max_entries=3),
        MapSpec("counts", "array", key_size=4, value_size=8, max_entries=1),
        MapSpec("names", "hash", key_size=2, value_size=37, max_entries=2),
    )
}

READ_ONLY: Final = MapSpec(
    "constants",
    "array",
    key_size=4,
    value_size=32,
    max_entries=1,
    initial=bytes.fromhex("0000000001000000ffffffffffffffff0800000000000000400080000e002a07"),
    read_only=True,
)
"""Data that nobody writes."""

PROGRAMS: Final = MapSpec("programs", "prog_array", key_size=4, value_size=4, max_entries=4)

KNOWN: Final = {**MAPS, READ_ONLY.name: READ_ONLY, PROGRAMS.name: PROGRAMS}
"""All maps of generated programs; those of `MAPS` are looked things up in."""

MAX_FUNCTIONS: Final = 3
STATEMENTS_KEPT: Final = 3
"""Statements that are kept back for each function that is still to be written."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that is called somewhere: what its arguments are, and which of them it gives back, if any. A callback gives
    back whether to go on.
    """

    name: str
    label: Label
    parameters: tuple[Kind, ...]
    returned: int | None
    callback: bool = False


Statement = Callable[["Writer"], None]
_TABLE: Final[list[tuple[int, Statement, Callable[[Writer], bool]]]] = []


def statement(
    weight: int, when: Callable[[Writer], bool] = lambda w: True
) -> Callable[[Statement], Statement]:
    """Register a statement: `weight` says how often it is chosen, `when` whether it can be."""

    def register(write: Statement) -> Statement:
        _TABLE.append((weight, write, when))
        return write

    return register


class Writer:
    """One program in the making."""

    def __init__(self, type_: ProgramType, blobs: Iterable[bytes]) -> None:
        self.type = type_
        self.blobs = deque(blobs)
        self.c = Choices(self.blobs.popleft() if self.blobs else b"")
        self.code = Code()
        self.state = State()
        self.reachable = True
        self.busy: set[int] = set()
        self.reserved: set[int] = set()
        self.functions: list[Function] = []
        self.function: Function | None = None
        self.depth = 0
        self._unwritten = 0
        self._arriving: dict[Label, list[State]] = {}
        self._stubs: list[Label] = []
        self._skips: list[Label] = []
        self._names = LENGTH
        self.careless = self.c.chance(40)
        """A careless writer makes mistakes now and then."""
        self.exotic = self.c.chance(12)
        """Whether helpers are called that pybpf may only be able to verify."""

    @property
    def xdp(self) -> bool:
        """Whether the program reaches its packet through a context."""
        return self.type.context is not None

    def field(self, name: str) -> int:
        """The offset of a field of the context. Raises `Abandon` if it has none of the name."""
        fields = self.type.context.fields if self.type.context is not None else ()
        found = [field.offset for field in fields if field.name == name]
        if not found:
            raise Abandon
        return found[0]

    # The program

    def program(self) -> Program:
        """Write all of it."""
        if self.xdp:
            self.code.move(6, Register(1))
            self.state.registers[6] = self.state.registers[1] = Context()
            self.reserved = {6}
        else:
            self.code.move(6, Register(1))
            self.code.move(7, Register(2))
            self.state.registers[6] = self.state.registers[1] = Packet(0)
            self.state.registers[7] = self.state.registers[2] = Num(0, MAX_PACKET, LENGTH)
            self.reserved = {6, 7}
        self._rest_of_function(40)
        for function in self.functions:
            # Whoever declares a function calls it, unless it is given up over the arguments.
            if function.label.uses:
                self._function(function)
            else:
                self._unwritten -= 1
        return self.code.program(self.type.name, KNOWN)

    def _function(self, function: Function) -> None:
        self.function = function
        self._unwritten -= 1
        self.state = State()
        self.reachable = True
        self.code.function(function.name, function.label)
        self.reserved = set()
        for number, kind in enumerate(function.parameters, 1):
            if isinstance(kind, Num):
                kind = replace(kind, name=self.fresh())
            elif isinstance(kind, Packet):
                size, kind = kind.offset, Packet(0, self.fresh())
                self.state.prove(kind, size)
            self.state.registers[number] = kind
            if number <= 4 and (isinstance(kind, Context) or number - 1 == function.returned):
                self.code.move(5 + number, Register(number))
                self.state.registers[5 + number] = kind
                self.reserved.add(5 + number)
        self._rest_of_function(8)

    def _rest_of_function(self, statements: int) -> None:
        self.busy = set()
        self.block(statements)
        self._return()
        for label in self._stubs:
            if label.uses:
                self.code.place(label)
                self.code.move(0, self.c.among((0, 1) if self._in_callback else (0, 1, 2)))
                self.code.exit()
        self._stubs.clear()
        self._arriving.clear()

    def _return(self) -> None:
        if not self.reachable:
            return
        function = self.function
        if self._in_callback:
            self.code.move(0, self.c.among((0, 1)))
        elif function is not None and function.returned is not None:
            self.code.move(0, Register(6 + function.returned))
        elif not isinstance(self.state.registers[0], Num) or self.c.chance(30):
            numbers = self.numbers()
            self.code.move(0, Register(self.c.among(numbers)) if numbers else 1)
        self.code.exit()

    # Statements

    def declare(
        self, parameters: tuple[Kind, ...], returned: int | None = None, *, callback: bool = False
    ) -> Function:
        """A function that will be written later."""
        function = Function(f"f{len(self.functions) + 1}", Label(), parameters, returned, callback)
        self.functions.append(function)
        self._unwritten += 1
        return function

    @property
    def _in_callback(self) -> bool:
        return self.function is not None and self.function.callback

    def block(self, count: int) -> None:
        """As many statements, or as there are bytes for."""
        outer = self.c
        self.depth += 1
        while count > 0 and len(self.blobs) > STATEMENTS_KEPT * self._unwritten and self.reachable:
            count -= 1
            self.c = Choices(self.blobs.popleft())
            self.busy = set()
            try:
                self._chosen()(self)
            except Abandon:
                continue
        self.depth -= 1
        self.c = outer
        self.busy = set()

    def _chosen(self) -> Statement:
        """One of the statements that can be written here."""
        possible = [(weight, write) for weight, write, when in _TABLE if when(self)]
        number = self.c.integer(0, sum(weight for weight, _ in possible) - 1)
        for weight, write in possible:
            number -= weight
            if number < 0:
                return write
        raise AssertionError("the weights were counted wrong")

    def slip(self, right: int, wrong: int) -> int:
        """What the writer meant, or, now and then, a mistake."""
        return wrong if self.careless and self.c.chance(12) else right

    # Registers

    def fresh(self) -> int:
        """A name for an unknown that nothing else is."""
        self._names += 1
        return self._names

    def kind(self, register: int) -> Kind | None:
        """What a register holds."""
        return self.state.registers[register] if register != R10 else Frame(0, 0)

    def set(self, register: int, kind: Kind | None) -> int:
        """A register was written."""
        self.state.registers[register] = kind
        self.busy.add(register)
        return register

    def unknown(self, bits: int = 64) -> Num:
        """A number of so many bits."""
        return Num(0, (1 << bits) - 1, self.fresh())

    def holding(self, *kinds: type[Kind]) -> list[int]:
        """The registers that hold something of a kind."""
        return [r for r, kind in enumerate(self.state.registers) if isinstance(kind, kinds)]

    def numbers(self, limit: int = U64) -> list[int]:
        """The registers that hold a number not above `limit`."""
        return [r for r, k in enumerate(self.state.registers) if isinstance(k, Num) and k.high <= limit]

    def target(self, among: Iterable[int] = range(10)) -> int:
        """A register that may be overwritten, and that the statement under way does not need."""
        free = [r for r in among if r not in self.reserved and r not in self.busy]
        if not free:
            raise Abandon
        register = self.c.among(free)
        self.busy.add(register)
        return register

    def copy(self, register: int) -> int:
        """A copy of a register in another one."""
        self.busy.add(register)
        copied = self.target()
        self.code.move(copied, Register(register))
        return self.set(copied, self.kind(register))

    def changeable(self, register: int) -> int:
        """The register itself if it may be overwritten, or a copy."""
        if register not in self.reserved and register != R10 and not self.c.chance(40):
            self.busy.add(register)
            return register
        return self.copy(register)

    # Jumps

    def failure(self) -> Label:
        """Where to go if a check fails: behind the current block, or to an end of the function."""
        if self._skips and self.c.chance(30):
            return self._skips[-1]
        if self._stubs and self.c.chance(60):
            return self.c.among(self._stubs)
        self._stubs.append(Label())
        return self._stubs[-1]

    def skipping(self, label: Label | None) -> None:
        """Checks in the coming block may go to `label` when they fail; None ends that."""
        if label is None:
            self._skips.pop()
        else:
            self._skips.append(label)

    def branch(self, code: str, left: int, right: Source, target: Label, width: int = 64) -> None:
        """A conditional jump; what is known now is known there."""
        self.code.branch(code, left, right, target, width)
        self._arriving.setdefault(target, []).append(self.state.copy())

    def goto(self, target: Label) -> None:
        """A jump; nothing is reachable behind it."""
        self.code.goto(target, far=self.c.chance(20) and self.type.policy.isa >= 4)
        self._arriving.setdefault(target, []).append(self.state.copy())
        self.reachable = False

    def place(self, label: Label) -> None:
        """The paths that lead to a label meet here."""
        states = self._arriving.pop(label, [])
        if self.reachable:
            states.append(self.state)
        self.code.place(label)
        self.reachable = bool(states)
        if states:
            self.state = states[0]
            for other in states[1:]:
                self.state = join(self.state, other, self.fresh)

    def refine(self, known: Num, low: int = 0, high: int = U64) -> None:
        """The unknown lies in a range, wherever it is held."""

        def over(kind: Kind) -> Kind:
            if isinstance(kind, Num) and (kind.name, kind.delta) == (known.name, known.delta):
                return replace(kind, low=max(kind.low, low), high=min(kind.high, high))
            return kind

        self.state.rewrite(over)
