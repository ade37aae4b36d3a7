"""An abstract state: what is known at one place of a program.

`cells` is one flat list: r0 to r10, then the frame's stack in slots of eight bytes, the slot below r10 first. Frames of
callers wait in `frames`. `proofs` says how much of the packet is there: for each identity of a variable part (see
`pybpf.verifier.values`), at least so many bytes lie behind the packet's first byte plus that part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybpf.memory import STACK_SIZE
from pybpf.verifier.values import (
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
    renamed,
)

if TYPE_CHECKING:
    from pybpf.verifier.explore import Node

R10 = 10
FIRST_SLOT = 11
SLOTS = STACK_SIZE // 8
CELLS = FIRST_SLOT + SLOTS

Proofs = dict[Atoms, int]
_NO_ATOMS: Final[frozenset[Atom]] = frozenset()
NOTHING: Final = -(1 << 64)
"""Proved behind an identity of which nothing was proved: less than any offset, since the variable part may be beyond the packet."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A caller's frame: its cells as they were at the call, and the slot of the call."""

    cells: tuple[Cell, ...]
    call: int


class State:
    """A state that one walk through a block changes. `copy` before sharing."""

    __slots__ = ("cells", "frames", "held", "proofs", "visits")

    def __init__(
        self,
        cells: list[Cell],
        frames: tuple[Frame, ...],
        proofs: Proofs,
        visits: tuple[Node, ...] = (),
        held: frozenset[Atom] = frozenset(),
    ) -> None:
        self.cells = cells
        self.frames = frames
        self.proofs = proofs
        self.visits = visits
        """The latest visit of the head of each loop that the state is in, outermost first."""
        self.held = held
        """What was acquired and must be given back, by the names of the calls that acquired it."""

    @property
    def tags(self) -> frozenset[Atom]:
        """The identities by which the numbers at those visits are known again."""
        if not self.visits:
            return _NO_ATOMS
        return frozenset[Atom]().union(*(visit.tags for visit in self.visits))

    def copy(self) -> State:
        """A state that can be changed without changing this one. Proofs are never changed in place."""
        return State(self.cells.copy(), self.frames, self.proofs, self.visits, self.held)

    def key(self) -> tuple[object, ...]:
        """Equal for states that are equal but for their cells."""
        return self.frames, frozenset(self.proofs.items()), self.visits, self.held

    def proved(self, atoms: Atoms | None) -> int:
        """How many bytes are behind the packet's first byte plus `atoms`: none is known of, unless the sum is empty."""
        return self.proofs.get(atoms, NOTHING if atoms else 0) if atoms is not None else NOTHING

    def prove(self, atoms: Atoms | None, size: int) -> None:
        """The packet has at least `size` bytes behind its first byte plus the variable part `atoms`."""
        if atoms is not None and size > self.proved(atoms):
            self.proofs = {**self.proofs, atoms: size}

    def rename(self, values: Values, names: Mapping[Atom, Atom]) -> None:
        """Call unknowns otherwise, wherever they are mentioned."""

        def over(cell: Value) -> Cell:
            if cell.bases.isdisjoint(names):
                return cell
            if isinstance(cell, Number):
                assert cell.form is not None
                return values.pinned(cell.scalar, (renamed(cell.form[0], names), cell.form[1]))
            assert cell.atoms is not None
            atoms = renamed(cell.atoms, names)
            return values.pointer(cell.target, cell.number, cell.offset, cell.variable, atoms, cell.null)

        self.rewrite(values, over)
        self.proofs = {renamed(atoms, names): size for atoms, size in self.proofs.items()}

    def mentions(self, atom: Atom) -> bool:
        """Whether a value, a proof or what is held depends on an unknown, or a pointer on a question of that name."""
        question = ("null", atom)
        if atom in self.held:
            return True
        for cells in (self.cells, *(frame.cells for frame in self.frames)):
            for cell in cells:
                if cell is not None and cell.names and (atom in cell.names or question in cell.names):
                    return True
        return any(atom in bases_of(atoms) for atoms in self.proofs)

    def rewrite(self, values: Values, over: Callable[[Value], Cell], about: Atom | None = None) -> None:
        """Apply a function to every value, in every frame and inside slots in pieces. A part it gives None for is no more.

        Where `about` is given, a name as in `names` of a value, the function changes only values that have it.
        """
        seen: dict[Cell, Cell] = {}

        def cell_over(cell: Cell) -> Cell:
            if cell is None or (about is not None and about not in cell.names):
                return cell
            if cell not in seen:
                if isinstance(cell, Pieces):
                    parts = [(first, size, over(value)) for first, size, value in cell.parts]
                    kept = tuple((f, n, v) for f, n, v in parts if isinstance(v, (Number, Pointer)))
                    seen[cell] = values.pieces(kept)
                else:
                    seen[cell] = over(cell)
            return seen[cell]

        cells = self.cells
        for index, cell in enumerate(cells):
            if cell is not None and (about is None or about in cell.names):
                cells[index] = cell_over(cell)
        if self.frames:
            self.frames = tuple(
                Frame(tuple(map(cell_over, frame.cells)), frame.call) for frame in self.frames
            )


def entry_state(values: Values) -> State:
    """Nothing is known but r10."""
    cells: list[Cell] = [None] * CELLS
    cells[R10] = values.pointer(Target.STACK, 0)
    return State(cells, (), {})


def slot_of(offset: int) -> int:
    """The cell of the slot in which the stack byte at `offset` (negative, from r10) lies."""
    return FIRST_SLOT + (-offset - 1) // 8


def first_of(slot: int) -> int:
    """The offset from r10 of the first byte of a slot."""
    return -8 * (slot - FIRST_SLOT + 1)


def parts_of(cell: Cell) -> tuple[tuple[int, int, Value], ...]:
    """A slot as parts."""
    if cell is None:
        return ()
    return cell.parts if isinstance(cell, Pieces) else ((0, 8, cell),)


def write_bytes(values: Values, cell: Cell, first: int, size: int, value: Value | None) -> Cell:
    """A slot after `size` bytes from `first` became `value`, or as if never written. What is overwritten in part keeps its other bytes as numbers.

    A pointer of which a byte was overwritten is a pointer no longer: its remaining bytes are unknown numbers, or as if never
    written where no address may be read as a number.
    """
    end = first + size
    kept: list[tuple[int, int, Value]] = [] if value is None else [(first, size, value)]
    for start, length, old in parts_of(cell):
        if start + length <= first or start >= end:
            kept.append((start, length, old))
        elif isinstance(old, Number) or values.leaks:
            if start < first:
                kept.append((start, first - start, extract(values, old, length, 0, first - start)))
            if start + length > end:
                rest = start + length - end
                kept.append((end, rest, extract(values, old, length, length - rest, rest)))
    return values.pieces(tuple(sorted(kept, key=lambda part: part[0])))


def extract(values: Values, value: Value, length: int, first: int, size: int) -> Value:
    """`size` bytes from byte `first` of a stored value of `length` bytes, as the number that a load of them gives."""
    if first == 0 and size == length:
        return value
    if isinstance(value, Pointer):
        return values.number(values.numbers.unsigned(0, (1 << 8 * size) - 1), None)
    below = first if values.byteorder == "little" else length - first - size
    if below == 0 and value.scalar.wide.umax < 1 << 8 * size:
        return value
    return values.number(values.numbers.extract(value.scalar, 8 * below, 8 * size), None)


def read_bytes(values: Values, cell: Cell, first: int, size: int) -> Value | None:
    """What a load of `size` bytes from `first` of a slot gives; None where a byte was never written."""
    end = first + size
    constant = 0
    exact = True
    covered = first
    for start, length, value in parts_of(cell):
        if start + length <= first or start >= end:
            continue
        if start <= first and start + length >= end:
            return extract(values, value, length, first - start, size)
        if start > covered:
            return None
        covered = start + length
        low, high = max(start, first), min(start + length, end)
        piece = extract(values, value, length, low - start, high - low)
        if isinstance(piece, Number) and piece.value is not None:
            below = low - first if values.byteorder == "little" else end - high
            constant |= (piece.value & ((1 << 8 * (high - low)) - 1)) << 8 * below
        else:
            exact = False
    if covered < end:
        return None
    if exact:
        return values.constant(constant)
    return values.number(values.numbers.unsigned(0, (1 << 8 * size) - 1), None)


def written(cell: Cell, first: int, size: int) -> bool:
    """Whether every byte of a range of a slot was written."""
    covered = first
    for start, length, _ in parts_of(cell):
        if start <= covered < start + length:
            covered = start + length
    return covered >= first + size
