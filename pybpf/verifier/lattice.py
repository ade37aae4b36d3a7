"""When one state covers another, and what covers two.

A state stands for the machine states in which every cell holds one of its values, equal unknowns are equal, pointers that ask
one question of null have one answer, and the packet is as long as proved. Dropping any of that gives a larger set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from pybpf.isa import Kind, Operand
from pybpf.program import Program
from pybpf.verifier.scalar import Numbers, Scalar, includes
from pybpf.verifier.state import NOTHING, Frame, State, parts_of
from pybpf.verifier.values import (
    LENGTH,
    Atom,
    Atoms,
    Cell,
    Number,
    Pieces,
    Pointer,
    Target,
    Value,
    Values,
    bases_of,
)


class Lattice:
    """The order of states under a policy: `leaks` says whether an address may count as a number."""

    def __init__(self, values: Values, *, leaks: bool) -> None:
        self.values = values
        self.numbers: Numbers = values.numbers
        self.leaks = leaks

    # Inclusion

    def relations(self, state: State) -> frozenset[Atom]:
        """The unknowns and questions that more than one place of a state depends on: these must be kept, the others not."""
        seen: set[Atom] = set()
        shared: set[Atom] = {LENGTH}
        for atoms in state.proofs:
            shared |= bases_of(atoms)
        for value in _all_values(state):
            names = value.bases
            if isinstance(value, Pointer) and value.null is not None:
                names = names | {("null", value.null)}
            shared |= names & seen
            seen |= names
        return frozenset(shared)

    def covers(self, old: State, kept: frozenset[Atom], new: State) -> bool:
        """Whether `old`, whose relations are `kept`, stands for at least all that `new` stands for."""
        if len(old.frames) != len(new.frames):
            return False
        for atoms, size in old.proofs.items():
            if new.proved(atoms) < size:
                return False
        for a, b in zip(old.cells, new.cells, strict=True):
            if a is not b and not self._cell_covers(a, b, kept):
                return False
        for frame, other in zip(old.frames, new.frames, strict=True):
            if frame.call != other.call:
                return False
            for a, b in zip(frame.cells, other.cells, strict=True):
                if a is not b and not self._cell_covers(a, b, kept):
                    return False
        return True

    def _cell_covers(self, a: Cell, b: Cell, kept: frozenset[Atom]) -> bool:
        if a is None:
            # Nothing read it, or (where unwritten stack may be read) it was read as an unknown number.
            return self.leaks or not _holds_pointer(b)
        if b is None:
            return False
        if isinstance(a, Pieces) or isinstance(b, Pieces):
            return self._pieces_cover(a, b, kept)
        if isinstance(a, Number):
            if isinstance(b, Pointer):
                return self.leaks and a.scalar is self.numbers.unknown and a.bases.isdisjoint(kept)
            if a.form != b.form and not a.bases.isdisjoint(kept):
                return False
            return includes(a.scalar, b.scalar)
        return self._pointer_covers(a, b, kept)

    def _pointer_covers(self, a: Pointer, b: Value, kept: frozenset[Atom]) -> bool:
        asked = a.null is not None and ("null", a.null) in kept
        if isinstance(b, Number):
            return b.value == 0 and a.null is not None and not asked
        if a.target is not b.target or a.number != b.number:
            return False
        if a.null != b.null and (a.null is None or asked):
            return False
        if not a.bases.isdisjoint(kept):
            if a.atoms != b.atoms or a.offset != b.offset:
                return False
            assert a.variable is not None
            return b.variable is not None and includes(a.variable, b.variable)
        if a.variable is None:
            return b.variable is None and a.offset == b.offset
        return includes(self._total(a), self._total(b))

    def _total(self, p: Pointer) -> Scalar:
        offset = self.numbers.constant(p.offset & ((1 << 64) - 1))
        return offset if p.variable is None else self.numbers.alu("add", 64, p.variable, offset)

    def _pieces_cover(self, a: Cell, b: Cell, kept: frozenset[Atom]) -> bool:
        """Part by part; a part of a that b has otherwise divided must hold any bytes."""
        theirs = {(first, size): value for first, size, value in parts_of(b)}
        covered = {first + i for first, size in theirs for i in range(size)}
        pointers = {
            first + i
            for (first, size), value in theirs.items()
            if isinstance(value, Pointer)
            for i in range(size)
        }
        for first, size, value in parts_of(a):
            other = theirs.get((first, size))
            if other is not None:
                if value is not other and not self._cell_covers(value, other, kept):
                    return False
                continue
            span = set(range(first, first + size))
            if not span <= covered or (span & pointers and not self.leaks):
                return False
            if not isinstance(value, Number) or not value.bases.isdisjoint(kept):
                return False
            if not includes(value.scalar, self.numbers.unsigned(0, (1 << 8 * size) - 1)):
                return False
        return True

    # Loops

    def name_numbers(self, state: State, name: Atom) -> None:
        """Give every unknown of the current frame that has no identity one, so that it is known again later."""
        for index, cell in enumerate(state.cells):
            if isinstance(cell, Number) and cell.form is None and cell.value is None:
                state.cells[index] = self.values.defined(cell.scalar, (name, index))
            elif isinstance(cell, Pointer) and cell.atoms is None:
                state.cells[index] = self.values.pointer(
                    cell.target, cell.number, cell.offset, cell.variable, ((name, index),), cell.null
                )

    def names_of_numbers(self, state: State) -> frozenset[Atom]:
        """What the numbers of the current frame are known by."""
        return frozenset[Atom]().union(*(cell.bases for cell in state.cells if isinstance(cell, Number)))

    def widen(self, old: State, new: State, place: int, limits: Sequence[int]) -> State:
        """A state that covers both, with every bound that moved pushed to the next limit, so that soon none moves."""
        joined = self.join(old, new, place)
        for index, (before, cell) in enumerate(zip(old.cells, joined.cells, strict=True)):
            if (
                isinstance(before, Number)
                and isinstance(cell, Number)
                and not includes(before.scalar, cell.scalar)
            ):
                scalar = self.numbers.widen(before.scalar, cell.scalar, limits)
                joined.cells[index] = self.values.number(scalar, None)
            elif isinstance(before, Pointer) and isinstance(cell, Pointer) and cell.variable is not None:
                variable = before.variable or self.numbers.constant(0)
                if not includes(variable, cell.variable):
                    wide = self.numbers.widen(variable, cell.variable, limits)
                    joined.cells[index] = self.values.pointer(
                        cell.target, cell.number, cell.offset, wide, None, cell.null
                    )
        return joined

    # Join

    def join(self, a: State, b: State, place: int) -> State:
        """A state that covers both; `place` names the identities it makes. The frames must be of the same calls."""
        proofs = dict(a.proofs)
        for atoms in a.proofs:
            if atoms in b.proofs:
                proofs[atoms] = min(a.proofs[atoms], b.proofs[atoms])
            else:
                del proofs[atoms]
        joined = State([], (), proofs, a.visits)
        joiner = _Joiner(self, a, b, joined, place)
        joined.cells = joiner.cells(a.cells, b.cells)
        joined.frames = tuple(
            Frame(tuple(joiner.cells(x.cells, y.cells)), x.call)
            for x, y in zip(a.frames, b.frames, strict=True)
        )
        return joined


class _Joiner:
    """One join. Equal pairs of values give one value, so that copies stay copies."""

    def __init__(self, lattice: Lattice, a: State, b: State, joined: State, place: int) -> None:
        self.lattice = lattice
        self.values = lattice.values
        self.numbers = lattice.numbers
        self.a = a
        self.b = b
        self.joined = joined
        self.place = place
        self.seen: dict[tuple[Cell, Cell], Cell] = {}
        self.names: dict[object, int] = {}
        self.free = itertools.count()
        self.used = _names(a) | _names(b)

    def cells(self, xs: Iterable[Cell], ys: Iterable[Cell]) -> list[Cell]:
        return [x if x is y else self._cell(x, y) for x, y in zip(xs, ys, strict=True)]

    def _cell(self, x: Cell, y: Cell) -> Cell:
        if x is None or y is None:
            return None
        if (x, y) not in self.seen:
            if isinstance(x, Pieces) or isinstance(y, Pieces):
                self.seen[x, y] = self._pieces(x, y)
            else:
                self.seen[x, y] = self._value(x, y)
        return self.seen[x, y]

    def _fresh(self, key: object) -> Atom:
        """A name for what is one unknown in both states: the same pair of identities gets the same name."""
        if key not in self.names:
            self.names[key] = next(i for i in self.free if ("join", self.place, i) not in self.used)
        return ("join", self.place, self.names[key])

    def _value(self, x: Value, y: Value) -> Value | None:
        if isinstance(x, Number) and isinstance(y, Number):
            return self._number(x, y)
        if isinstance(x, Pointer) and isinstance(y, Pointer):
            if x.target is y.target and x.number == y.number:
                return self._pointer(x, y)
        else:
            p, n = (x, y) if isinstance(x, Pointer) else (y, x)
            assert isinstance(p, Pointer)
            if isinstance(n, Number) and n.value == 0:
                null = self._fresh(("null", _null_key(x), _null_key(y)))
                return self.values.moved(p, null=null)
        return self.values.unknown if self.lattice.leaks else None

    def _number(self, x: Number, y: Number) -> Number:
        scalar = self.numbers.join(x.scalar, y.scalar)
        if x.form == y.form:
            return self.values.number(scalar, x.form)
        left, right = self.values.form_of(x), self.values.form_of(y)
        if left is None or right is None:
            return self.values.number(scalar, None)
        # Sums of the same two identities at the same distance stay together under a new name.
        name = self._fresh((left[0], right[0], left[1] - right[1]))
        return self.values.number(scalar, ((name,), left[1]))

    def _pointer(self, x: Pointer, y: Pointer) -> Pointer:
        null = x.null
        if x.null != y.null:
            null = self._fresh(("null", _null_key(x), _null_key(y)))
        if x.offset == y.offset and x.atoms == y.atoms and x.variable is not None and y.variable is not None:
            variable = self.numbers.join(x.variable, y.variable)
            return self.values.pointer(x.target, x.number, x.offset, variable, x.atoms, null)
        if x.offset == y.offset and x.variable is None and y.variable is None:
            return self.values.pointer(x.target, x.number, x.offset, None, (), null)
        base = x.offset
        lattice = self.lattice
        minus = self.numbers.constant(-base & ((1 << 64) - 1))
        left = self.numbers.alu("add", 64, lattice._total(x), minus)
        right = self.numbers.alu("add", 64, lattice._total(y), minus)
        variable = self.numbers.join(left, right)
        atoms: Atoms | None = None
        if x.atoms is not None and y.atoms is not None:
            atoms = (self._fresh((x.atoms, y.atoms, x.offset - y.offset)),)
            if x.target is Target.PACKET:
                # What is proved behind both: base + variable stands for each pointer less its own offset.
                proved = min(
                    self.a.proved(x.atoms) - x.offset + base,
                    self.b.proved(y.atoms) - y.offset + base,
                )
                if proved > NOTHING // 2:
                    self.joined.prove(atoms, proved)
        return self.values.pointer(x.target, x.number, base, variable, atoms, null)

    def _pieces(self, x: Cell, y: Cell) -> Cell:
        """Parts divided alike are joined; otherwise bytes that both have written become unknown bytes."""
        xs, ys = parts_of(x), parts_of(y)
        if [part[:2] for part in xs] == [part[:2] for part in ys]:
            joined = []
            for (first, size, p), (_, _, q) in zip(xs, ys, strict=True):
                value = p if p is q else self._cell(p, q)
                if isinstance(value, (Number, Pointer)) and _fits(value, size):
                    joined.append((first, size, value))
            return self.values.pieces(tuple(joined))
        if not self.lattice.leaks and any(isinstance(v, Pointer) for _, _, v in (*xs, *ys)):
            return None
        both = {f + i for f, n, _ in xs for i in range(n)} & {f + i for f, n, _ in ys for i in range(n)}
        byte = self.values.number(self.numbers.unsigned(0, 255), None)
        return self.values.pieces(tuple((i, 1, byte) for i in sorted(both)))


def thresholds(program: Program) -> list[int]:
    """Where ranges are stopped when they grow: what the program compares with, and the ends of the machine's sizes."""
    limits = {0, 1, *((1 << bits) - 1 for bits in (8, 15, 16, 31, 32, 63, 64))}
    for instruction in program.code.values():
        if instruction.op.kind in (Kind.BRANCH, Kind.ALU) and instruction.op.operand is Operand.IMM:
            limits.update((instruction.imm - 1, instruction.imm, instruction.imm + 1))
    return sorted(limits)


def _holds_pointer(cell: Cell) -> bool:
    return any(isinstance(value, Pointer) for _, _, value in parts_of(cell))


def _fits(value: Value, size: int) -> bool:
    return size == 8 or (isinstance(value, Number) and value.scalar.wide.umax < 1 << 8 * size)


def _null_key(value: Value) -> object:
    """How a value answers the question of null: asked by name, known not to be, or known to be."""
    return value.null if isinstance(value, Pointer) else "is null"


def _names(state: State) -> frozenset[Atom]:
    """Every atom and question in a state."""
    found: set[Atom] = set()
    for atoms in state.proofs:
        found |= bases_of(atoms)
    for value in _all_values(state):
        found |= value.bases
        if isinstance(value, Pointer):
            found.add(value.null)
    return frozenset(found)


def _all_values(state: State) -> list[Value]:
    values: list[Value] = []
    for cells in (state.cells, *(frame.cells for frame in state.frames)):
        for cell in cells:
            if cell is None:
                continue
            if isinstance(cell, Pieces):
                values += [value for _, _, value in cell.parts]
            else:
                values.append(cell)
    return values
