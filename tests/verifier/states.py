"""Machine states, what abstract states stand for, and random pairs of the two.

A machine state (`Machine`) is what a run could hold: numbers, addresses, null, and stack bytes that were written or not. An
abstract state stands for it if one choice of the unknowns that it names, and of the answers to its questions of null, explains
every cell (`stands_for`). Abstract states are drawn *around* a machine state that is drawn first, so that the answer is known.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pybpf.semantics import U64, signed
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.state import CELLS, FIRST_SLOT, R10, State
from pybpf.verifier.values import LENGTH, Atom, Atoms, Cell, Number, Pieces, Pointer, Target, Value, Values
from tests.verifier.domain import contains


class Address(NamedTuple):
    """An address: bytes from the start of a target."""

    target: Target
    number: int
    offset: int


Content = int | Address
Bytes = tuple[int | None, ...]
"""Eight bytes of a slot, None where never written."""


@dataclass(slots=True)
class Machine:
    """Cells as in `State`: registers, then slots; None was never written. `length` is the packet's."""

    cells: list[Content | Bytes | None]
    length: int


@dataclass(slots=True)
class _Explanation:
    """What must hold of the unknowns: the value of each sum of atoms, the answer to each question of null."""

    length: int
    leaks: bool
    sums: dict[Atoms, int] = field(default_factory=dict)
    nulls: dict[Atom, bool] = field(default_factory=dict)

    def number(self, n: Number, x: int) -> bool:
        s = n.scalar
        if not contains(64, s.wide, x) or not contains(32, s.narrow, x & 0xFFFF_FFFF):
            return False
        return n.form is None or self._sum(n.form[0], x - n.form[1])

    def _sum(self, atoms: Atoms, value: int) -> bool:
        value &= U64
        if not atoms or set(atoms) == {LENGTH}:
            return value == len(atoms) * self.length
        return self.sums.setdefault(atoms, value) == value

    def total(self, atoms: Atoms) -> int | None:
        """What a sum of unknowns is, as far as its parts are known; as it was found, otherwise."""
        parts = [self._part(atom) for atom in atoms]
        return self.sums.get(atoms) if None in parts else sum(part or 0 for part in parts) & U64

    def _part(self, atom: Atom) -> int | None:
        if atom == LENGTH:
            return self.length
        if isinstance(atom, tuple) and atom[0] == "lsh":
            inner = self.total(atom[1])
            return None if inner is None else (inner + atom[2]) << atom[3] & U64
        return self.sums.get((atom,))

    def value(self, v: Value, content: Content) -> bool:
        if isinstance(v, Number):
            if isinstance(content, Address):
                # An address that counts as a number may be any: nothing but the whole range stands for it.
                return self.leaks and contains(64, v.scalar.wide, 0) and contains(64, v.scalar.wide, U64)
            return self.number(v, content)
        return self._pointer(v, content)

    def _pointer(self, p: Pointer, content: Content) -> bool:
        if p.null is not None:
            is_null = content == 0
            if self.nulls.setdefault(p.null, is_null) != is_null:
                return False
            if is_null:
                return True
        if not isinstance(content, Address) or content[:2] != (p.target, p.number):
            return False
        rest = content.offset - p.offset
        if p.variable is None:
            return rest == 0
        if not contains(64, p.variable.wide, rest & U64) or not contains(
            32, p.variable.narrow, rest & 0xFFFF_FFFF
        ):
            return False
        return p.atoms is None or self._sum(p.atoms, rest)

    def pieces(self, cell: Pieces, content: Content | Bytes) -> bool:
        for first, size, value in cell.parts:
            if isinstance(content, Address):
                if isinstance(value, Pointer) or not self.leaks:
                    return False
                continue
            data = tuple(content.to_bytes(8, "little")) if isinstance(content, int) else content
            part = data[first : first + size]
            if None in part or not self.value(value, int.from_bytes(bytes(b or 0 for b in part), "little")):
                return False
        return True


def stands_for(state: State, machine: Machine, *, leaks: bool) -> bool:
    """Whether an abstract state stands for a machine state."""
    known = _Explanation(machine.length, leaks)
    for cell, content in zip(state.cells, machine.cells, strict=True):
        if cell is None:
            continue
        if content is None:
            return False
        if isinstance(cell, Pieces):
            if not known.pieces(cell, content):
                return False
        elif isinstance(content, tuple) and not isinstance(content, Address):
            if None in content or not known.value(
                cell, int.from_bytes(bytes(b or 0 for b in content), "little")
            ):
                return False
        elif not known.value(cell, content):
            return False
    if any(known.total(atoms) not in (None, value) for atoms, value in known.sums.items()):
        return False
    for atoms, size in state.proofs.items():
        # A proof about an unknown that nothing holds is one about some number, and there always is one.
        behind = known.total(atoms)
        if behind is not None and machine.length < signed(behind, 64) + size:
            return False
    return True


# Random states around machine states. Few cells, few names, small numbers: so that pairs are alike often enough to matter.

USED = (0, 1, 6, FIRST_SLOT, FIRST_SLOT + 1)
ATOMS: Sequence[Atom] = (("at", 1), ("at", 2), ("at", 3))
SHIFTED: Sequence[Atom] = tuple(("lsh", (atom,), 0, 2, True, True) for atom in ATOMS[:2])
QUESTIONS: Sequence[Atom] = (("at", 7), ("at", 8))
SMALL = (0, 1, 2, 5, 14, 20, 64, 255, U64, U64 - 13, 1 << 32)


class Draw:
    """Draws machine states, each with an abstract state that stands for it."""

    def __init__(self, seed: int, values: Values, *, alike: bool = False) -> None:
        self.random = random.Random(seed)
        self.alike = alike
        """Whether all cells are numbers of one range, so that only relations and proofs tell states apart."""
        self.values = values
        self.unknown: dict[Atom, int] = {}
        self.null: dict[Atom, bool] = {}
        self.length = 0

    def state(self) -> tuple[Machine, State]:
        """A machine state and an abstract one; every call chooses the unknowns anew."""
        one_of = self.random.choice
        self.length = one_of((0, 14, 34, 60))
        self.unknown = {LENGTH: self.length, **{atom: one_of(SMALL) for atom in ATOMS}}
        self.unknown |= {
            shifted: self.unknown[atom] << 2 & U64 for shifted, atom in zip(SHIFTED, ATOMS, strict=False)
        }
        self.null = {question: one_of((True, False)) for question in QUESTIONS}
        machine, state = Machine([None] * CELLS, self.length), State([None] * CELLS, (), {})
        machine.cells[R10] = Address(Target.STACK, 0, 0)
        state.cells[R10] = self.values.pointer(Target.STACK, 0)
        kinds: Sequence[Callable[[], tuple[Cell, Content]]] = (
            self._number,
            self._number,
            self._pointer,
            self._maybe,
        )
        if self.alike:
            kinds = (self._number,)
        for index in USED:
            if self.random.random() < 0.1:
                continue
            cell, content = one_of(kinds)()
            state.cells[index], machine.cells[index] = cell, content
            if (
                index >= FIRST_SLOT
                and isinstance(content, int)
                and isinstance(cell, Number)
                and one_of((True, False))
            ):
                state.cells[index], machine.cells[index] = self._pieces(content)
        for atoms in ((), (ATOMS[0],), (ATOMS[1],), (SHIFTED[0],), (SHIFTED[1],), (LENGTH,)):
            least = sum(signed(self.unknown[atom], 64) for atom in atoms)
            if one_of((True, False)) and abs(least) < 1 << 29:
                state.prove(atoms, self.length - least - one_of((0, 0, 3)))
        return machine, state

    def permuted(self, state: State) -> State:
        """The state with some of its cells exchanged."""
        cells, order = state.cells.copy(), self.random.sample(USED, len(USED))
        for index, other in zip(USED, order, strict=True):
            if max(index, other) < FIRST_SLOT:
                cells[index] = state.cells[other]
        return State(cells, (), state.proofs)

    def _number(self) -> tuple[Cell, Content]:
        one_of = self.random.choice
        singles = [(atom,) for atom in (*ATOMS, SHIFTED[0], LENGTH)]
        atoms = one_of(singles[:2] if self.alike else ((), None, *singles, (ATOMS[0], ATOMS[1])))
        if atoms is None:
            x = one_of(SMALL)
            return self.values.number(self._around(x), None), x
        delta = one_of((0, 0, 1, 14, -14))
        x = (sum(self.unknown[atom] for atom in atoms) + delta) & U64
        return (self.values.number(self._around(x), (atoms, delta)) if atoms else self.values.constant(x)), x

    def _around(self, x: int) -> Scalar:
        numbers, s = self.values.numbers, signed(x, 64)
        if self.alike or self.random.random() < 0.4:
            return numbers.unknown
        low, high = self.random.choice((0, 1, 14)), self.random.choice((0, 1, 255))
        if s < 0:
            return numbers.signed(max(s - low, -(1 << 63)), s + high)
        return numbers.unsigned(max(x - low, 0), min(x + high, U64))

    def _pointer(self) -> tuple[Cell, Content]:
        one_of = self.random.choice
        target = one_of((Target.PACKET, Target.PACKET, Target.STACK, Target.MAP_VALUE))
        offset = one_of((0, 14, -8))
        if one_of((True, False)):
            return self.values.pointer(target, 0, offset), Address(target, 0, offset)
        atoms = one_of((None, (ATOMS[0],), (ATOMS[1],)))
        x = one_of(SMALL) if atoms is None else self.unknown[atoms[0]]
        pointer = self.values.pointer(target, 0, offset, self._around(x), atoms)
        return pointer, Address(target, 0, offset + signed(x, 64))

    def _maybe(self) -> tuple[Cell, Content]:
        question, offset = self.random.choice(QUESTIONS), self.random.choice((0, 8))
        pointer = self.values.pointer(Target.MAP_VALUE, 0, offset, null=question)
        return pointer, 0 if self.null[question] else Address(Target.MAP_VALUE, 0, offset)

    def _pieces(self, content: int) -> tuple[Cell, Bytes]:
        """A slot of which only part was written, in parts."""
        data = content.to_bytes(8, "little")
        parts: list[tuple[int, int, Value]] = []
        written: list[int | None] = [None] * 8
        first = 0
        while first < 8:
            size = self.random.choice([n for n in (1, 2, 4) if first % n == 0])
            if self.random.random() < 0.8:
                numbers = self.values.numbers
                part = int.from_bytes(data[first : first + size], "little")
                whole = numbers.unsigned(0, (1 << 8 * size) - 1)
                parts.append(
                    (
                        first,
                        size,
                        self.values.number(self.random.choice((numbers.constant(part), whole)), None),
                    )
                )
                written[first : first + size] = data[first : first + size]
            first += size
        return self.values.pieces(tuple(parts)), tuple(written)
