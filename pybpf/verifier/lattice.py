"""When one state covers another, and what covers two.

A state stands for the machine states in which every cell holds one of its values, equal unknowns are equal, pointers that ask
one question of null have one answer, and the packet is as long as proved. Dropping any of that gives a larger set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from pybpf.isa import Kind, Operand
from pybpf.program import Program
from pybpf.semantics import signed
from pybpf.verifier.scalar import Numbers, Scalar, includes
from pybpf.verifier.state import NOTHING, Frame, State, parts_of
from pybpf.verifier.values import (
    LENGTH,
    METADATA,
    Atom,
    Atoms,
    Cell,
    Form,
    Number,
    Pieces,
    Pointer,
    Target,
    Value,
    Values,
    add_forms,
    bases_of,
)


class Lattice:
    """The order of states under a policy: `leaks` says whether an address may count as a number."""

    def __init__(self, values: Values, *, leaks: bool, apart: bool = False) -> None:
        self.values = values
        self.numbers: Numbers = values.numbers
        self.leaks = leaks
        self.apart = apart
        """Whether no number stands for an address, though it may: in Linux none does (regsafe in kernel/bpf/verifier.c)."""
        self._may_cover: dict[tuple[Cell, Cell], bool] = {}

    # Inclusion

    def covers(self, old: State, kept: frozenset[Atom], new: State) -> bool:
        """Whether `old`, whose relations are `kept`, stands for at least all that `new` stands for.

        Names do not matter, what they relate does: `old` covers `new` if its unknowns can be given values of `new`'s.
        """
        if len(old.frames) != len(new.frames) or old.held != new.held:
            return False
        covering = _Covering(self, kept, old.tags | {LENGTH, METADATA}, old.held)
        if not covering.cells(old.cells, new.cells):
            return False
        for frame, other in zip(old.frames, new.frames, strict=True):
            if frame.call != other.call or not covering.cells(frame.cells, other.cells):
                return False
        return covering.proofs(old, new)

    def may_cover(self, a: Cell, b: Cell) -> bool:
        """Whether a cell can cover another at all, whatever they are related to."""
        if a is b:
            return True
        known = self._may_cover.get((a, b))
        if known is None:
            alone = _Covering(self, frozenset(), frozenset(), frozenset())
            known = self._may_cover[a, b] = alone.cell(a, b)
        return known

    def total(self, p: Pointer, start: int = 0) -> Scalar:
        """Where a pointer points, as a number from `start` bytes behind the start of its target: perhaps more than that."""
        offset = self.numbers.constant((p.offset - start) & ((1 << 64) - 1))
        return offset if p.variable is None else self.numbers.alu("add", 64, p.variable, offset)

    # Loops

    def name_numbers(self, state: State, name: tuple[Atom, ...]) -> None:
        """Give every unknown a name of this visit, which no instruction will define anew: by it the unknown is known again.

        What already has such a name, from a visit of an outer loop's head, keeps it.
        """
        found: set[Atom] = set()
        for atoms in state.proofs:
            found |= bases_of(atoms)
        for value in _all_values(state):
            found |= value.bases
        fresh = {
            atom: (*name, atom)
            for atom in found - {LENGTH, METADATA}
            if not (isinstance(atom, tuple) and atom[0] == name[0])
        }
        if fresh:
            state.rename(self.values, fresh)
        for index, cell in enumerate(state.cells):
            if cell is None:
                continue
            if isinstance(cell, Number) and cell.form is None and cell.value is None:
                state.cells[index] = self.values.defined(cell.scalar, (*name, index))
            elif isinstance(cell, Pointer) and cell.atoms is None:
                state.cells[index] = self.values.pointer(
                    cell.target, cell.number, cell.offset, cell.variable, ((*name, index),), cell.null
                )

    def names_of_numbers(self, state: State) -> frozenset[Atom]:
        """What the numbers of the current frame are known by."""
        return frozenset[Atom]().union(
            *(cell.bases for cell in state.cells if cell is not None and isinstance(cell, Number))
        )

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
        """A state that covers both; `place` names the identities it makes. Both must hold the same, in frames of the same calls."""
        proofs = dict(a.proofs)
        for atoms in a.proofs:
            if atoms in b.proofs:
                proofs[atoms] = min(a.proofs[atoms], b.proofs[atoms])
            else:
                del proofs[atoms]
        assert a.held == b.held, "what is held tells states apart"
        joined = State([], (), proofs, a.visits, a.held)
        joiner = _Joiner(self, a, b, joined, place)
        joined.cells = joiner.cells(a.cells, b.cells)
        joined.frames = tuple(
            Frame(tuple(joiner.cells(x.cells, y.cells)), x.call)
            for x, y in zip(a.frames, b.frames, strict=True)
        )
        return joined


def relations(state: State) -> frozenset[Atom]:
    """The unknowns and questions that more than one place of a state depends on: these must be kept, the others not."""
    shared: set[Atom] = {LENGTH, METADATA, *(("null", acquired) for acquired in state.held)}
    for atoms in state.proofs:
        shared |= bases_of(atoms)
    seen: set[Atom] = set()
    for cells in (state.cells, *(frame.cells for frame in state.frames)):
        for cell in cells:
            if cell is None or not cell.names:
                continue
            for value in (cell,) if not isinstance(cell, Pieces) else (v for _, _, v in cell.parts):
                shared |= value.names & seen
                seen |= value.names
    return frozenset(shared)


class _Covering:
    """One question of inclusion. `values` says what each unknown of the old state is in the new one: a sum of unknowns there,
    plus a distance; `answers` likewise for the questions of null. What is `fixed` keeps its name.
    """

    def __init__(
        self, lattice: Lattice, kept: frozenset[Atom], fixed: frozenset[Atom], held: frozenset[Atom]
    ) -> None:
        self.lattice = lattice
        self.numbers = lattice.numbers
        self.leaks = lattice.leaks
        self.kept = kept
        self.values: dict[Atom, Form] = {atom: ((atom,), 0) for atom in fixed}
        self.answers: dict[Atom, object] = {question: question for question in held}

    def cells(self, old: Iterable[Cell], new: Iterable[Cell]) -> bool:
        """Whether the cells of a frame cover those of another, one by one."""
        kept, may_cover = self.kept, self.lattice.may_cover
        for a, b in zip(old, new, strict=True):
            if a is None or kept.isdisjoint(a.names):
                if a is not b and not may_cover(a, b):
                    return False
            elif not (self._same(a) if a is b else self.cell(a, b)):
                return False
        return True

    def cell(self, a: Cell, b: Cell) -> bool:
        """Whether a cell of the old state covers one of the new."""
        if a is None:
            # Nothing read it, or (where unwritten stack may be read) it was read as an unknown number.
            return self.leaks or not _holds_pointer(b)
        if b is None:
            return False
        if isinstance(a, Pieces) or isinstance(b, Pieces):
            return self._pieces(a, b)
        if isinstance(a, Number):
            if isinstance(b, Pointer):
                either = self.leaks and not self.lattice.apart
                return either and a.scalar is self.numbers.unknown and a.bases.isdisjoint(self.kept)
            form = ((), b.value) if b.value is not None and b.form is None else b.form
            return includes(a.scalar, b.scalar) and self._relates(a.form, form)
        return self._pointer(a, b)

    def _same(self, cell: Cell) -> bool:
        """What stands in both states: its unknowns are what they are."""
        for _, _, value in parts_of(cell):
            if (
                isinstance(value, Pointer)
                and value.null is not None
                and not self._answers(value.null, value.null)
            ):
                return False
            form = (value.atoms or (), 0) if isinstance(value, Pointer) else value.form
            if not self._relates(form, form):
                return False
        return True

    def _relates(self, a: Form | None, b: Form | None) -> bool:
        """Whether the old number's unknowns can be chosen so that it is the new number; each is chosen once."""
        if a is None or bases_of(a[0]).isdisjoint(self.kept):
            return True
        if b is None:
            return False
        if len(a[0]) == 1 and not _is_shifted(a[0][0]):
            value = (b[0], signed(b[1] - a[1], 64))
            return self.values.setdefault(a[0][0], value) == value
        return a == b and all(self.values.setdefault(x, ((x,), 0)) == ((x,), 0) for x in bases_of(a[0]))

    def _answers(self, question: Atom, answer: object) -> bool:
        if ("null", question) not in self.kept:
            return True
        return self.answers.setdefault(question, answer) == answer

    def _pointer(self, a: Pointer, b: Value) -> bool:
        if isinstance(b, Number):
            return b.value == 0 and a.null is not None and self._answers(a.null, _IS_NULL)
        if a.target is not b.target or a.number != b.number:
            return False
        if a.null is None:
            if b.null is not None:
                return False
        elif not self._answers(a.null, b.null):
            return False
        if a.variable is None:
            return b.variable is None and a.offset == b.offset
        # The new pointer may be taken for more than it is, the old one must not be.
        if not includes(a.variable, self.lattice.total(b, a.offset)):
            return False
        return self._relates(
            None if a.atoms is None else (a.atoms, a.offset), None if b.atoms is None else (b.atoms, b.offset)
        )

    def _pieces(self, a: Cell, b: Cell) -> bool:
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
                if not (self._same(value) if value is other else self.cell(value, other)):
                    return False
                continue
            span = set(range(first, first + size))
            if not span <= covered or (span & pointers and not self.leaks):
                return False
            if not isinstance(value, Number) or not value.bases.isdisjoint(self.kept):
                return False
            if not includes(value.scalar, self.numbers.unsigned(0, (1 << 8 * size) - 1)):
                return False
        return True

    def _unchanged(self, atom: Atom) -> bool:
        """Whether an unknown of the old state is the one of the same name in the new."""
        return self.values.get(atom, ((atom,), 0)) == ((atom,), 0)

    def proofs(self, old: State, new: State) -> bool:
        """What the old state proved behind its unknowns is proved behind what they are in the new one."""
        for atoms, size in old.proofs.items():
            total: Form | None = ((), size)
            for atom in atoms:
                if _is_shifted(atom) and not all(map(self._unchanged, bases_of((atom,)))):
                    return False
                total = add_forms(total, self.values.get(atom, ((atom,), 0)))
            # Distances are small in any proof that is of use, and then no sum of them wraps.
            if total is None or abs(total[1]) >> 32 or new.proved(total[0]) < total[1]:
                return False
        return True


def _is_shifted(atom: Atom) -> bool:
    return isinstance(atom, tuple) and atom[0] == "lsh"


_IS_NULL: Final = "is null"


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
        left = self.numbers.alu("add", 64, lattice.total(x), minus)
        right = self.numbers.alu("add", 64, lattice.total(y), minus)
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
    """Where ranges are stopped when they grow: what the program compares with, and the ends of the machine's sizes.

    One before the end is what is left below an unknown number of that size: a counter there can take one step more.
    """
    limits = {0, 1, *((1 << bits) - back for bits in (8, 15, 16, 31, 32, 63, 64) for back in (1, 2))}
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
    return value.null if isinstance(value, Pointer) else _IS_NULL


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
