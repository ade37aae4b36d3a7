"""What no instruction reads, or of which the value does not matter, is dropped before states are compared.

Every register and byte of stack that may be read keeps what it is; of what remains in a slot, numbers are put into one form,
so that slots that hold the same bytes are the same cell however they were written: adjacent constants become one
part, and so do adjacent bytes that may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Final

from pybpf.verifier.liveness import Live
from pybpf.verifier.state import CELLS, FIRST_SLOT, R10, State, parts_of
from pybpf.verifier.values import (
    LENGTH,
    METADATA,
    Atom,
    Atoms,
    Cell,
    Number,
    Pieces,
    Pointer,
    Value,
    Values,
    bases_of,
)

_ALWAYS: Final[frozenset[Atom]] = frozenset({LENGTH, METADATA})
"""Unknowns that are there whatever the cells hold."""

_WHOLE: Final = 0xFF
"""All bytes of a slot; bit i of such a set is the byte 7 - i, since bytes are counted downwards from r10."""

Plan = list[tuple[int, int, int, dict[Cell, Cell]]]
"""Cells that are kept: (index, bytes that may be read, bytes that matter, what is known to remain of cells at such a place)."""


class Forgetting:
    """What is dropped at the entry of each block of one program."""

    def __init__(self, values: Values, live: Mapping[int, Live], *, lasting: bool) -> None:
        self.values = values
        self.live = live
        self.lasting = lasting
        """Whether what was proved behind a sum outlives the last packet pointer that was moved by it, for one that is made later. In
        Linux it does not.
        """
        self.lossy = False
        """Whether such a proof was dropped."""
        self._picked: dict[int, Callable[[list[Cell]], tuple[Cell, ...]]] = {}
        self._plans: dict[int, Plan] = {}
        self._kept: dict[tuple[int, int], dict[Cell, Cell]] = {}

    def plan(self, start: int) -> Plan:
        """The cells that may be read behind the entry of a block."""
        plan = self._plans.get(start)
        if plan is None:
            read, matters = self.live[start]
            plan = [
                self._step(r, _WHOLE, _WHOLE if matters >> r & 1 else 0)
                for r in range(FIRST_SLOT)
                if read >> r & 1 or r == R10
            ]
            if read >> FIRST_SLOT:
                slots = zip(_slots(read), _slots(matters), strict=True)
                plan += [
                    self._step(index, bytes_read, bytes_mattering)
                    for index, (bytes_read, bytes_mattering) in enumerate(slots, start=FIRST_SLOT)
                    if bytes_read
                ]
            self._plans[start] = plan
        return plan

    def _step(self, index: int, read: int, matters: int) -> tuple[int, int, int, dict[Cell, Cell]]:
        kept = self._kept.get((read, matters))
        if kept is None:
            kept = self._kept[read, matters] = {}
        return index, read, matters, kept

    def pick(self, start: int) -> Callable[[list[Cell]], tuple[Cell, ...]]:
        """Picks the cells that may be read behind the entry of a block, r10 first."""
        picked = self._picked.get(start)
        if picked is None:
            indices = [step[0] for step in self.plan(start) if step[0] != R10]
            picked = self._picked[start] = itemgetter(R10, R10, *indices)
        return picked

    def at(self, start: int, state: State) -> None:
        """Drop what is dead at the entry of a block, numbers that do not matter, and proofs about pointers that are gone."""
        old = state.cells
        cells: list[Cell] = [None] * CELLS
        for index, read, matters, kept in self._plans.get(start) or self.plan(start):
            cell = old[index]
            if cell is not None:
                if cell not in kept:
                    kept[cell] = self._keep(cell, read, matters)
                cells[index] = kept[cell]
        state.cells = cells
        if state.proofs:
            self.forget_proofs(state)

    def forget_proofs(self, state: State) -> None:
        """What was proved behind sums of which no unknown is left, and what `lasting` lets go."""
        cells = [cell for cell in state.cells if cell is not None]
        for frame in state.frames:
            cells += [cell for cell in frame.cells if cell is not None]
        proofs = state.proofs
        if not self.lasting:
            there = {cell.atoms for cell in cells if cell.packet and isinstance(cell, Pointer)}
            kept = {atoms: n for atoms, n in proofs.items() if atoms in there or (there and _is_start(atoms))}
            self.lossy = self.lossy or len(kept) < len(proofs)
            state.proofs = kept
        elif len(proofs) > 1 or () not in proofs:
            bases = _ALWAYS.union(*(cell.bases for cell in cells if cell.bases))
            state.proofs = {atoms: n for atoms, n in proofs.items() if bases_of(atoms) <= bases}

    def _keep(self, cell: Cell, read: int, matters: int) -> Cell:
        """A cell of which only these bytes may be read and only these matter."""
        if isinstance(cell, Number):
            if not matters:
                return self.values.unknown
            if cell.value is None or cell.form is not None or read & matters == _WHOLE:
                return cell
        elif not isinstance(cell, Pieces):
            return cell
        parts: list[tuple[int, int, Value]] = []
        for first, size, value in parts_of(cell):
            span = ((1 << size) - 1) << (8 - first - size)
            if not span & read:
                continue
            if isinstance(value, Pointer) or (span & matters and (value.value is None or value.form)):
                parts.append((first, size, value))
            elif not span & matters:
                parts.append((first, size, self.values.bytes(size)))
            else:
                assert value.value is not None
                for i in range(first, first + size):
                    bit = 1 << (7 - i)
                    if bit & read:
                        byte = self.values.constant(self._byte(value.value, i - first, size))
                        parts.append((i, 1, byte if bit & matters else self.values.bytes(1)))
        return self.values.pieces(tuple(self._together(parts)))

    def _byte(self, number: int, at: int, size: int) -> int:
        """The byte of a stored number that lies `at` its start."""
        shift = at if self.values.byteorder == "little" else size - 1 - at
        return number >> 8 * shift & 0xFF

    def _together(self, parts: list[tuple[int, int, Value]]) -> list[tuple[int, int, Value]]:
        """Parts with those put together that are adjacent and constant, or adjacent and unknown."""
        together: list[tuple[int, int, Value]] = []
        for first, size, value in parts:
            if together and isinstance(value, Number) and sum(together[-1][:2]) == first:
                start, length, last = together[-1]
                both = self._joined(last, length, value, size)
                if both is not None:
                    together[-1] = (start, length + size, both)
                    continue
            together.append((first, size, value))
        return together

    def _joined(self, a: Value, length: int, b: Number, size: int) -> Number | None:
        if isinstance(a, Pointer) or a.form or b.form:
            return None
        if a.value is not None and b.value is not None:
            low, high = (a.value, b.value) if self.values.byteorder == "little" else (b.value, a.value)
            below = length if self.values.byteorder == "little" else size
            return self.values.constant(low & ((1 << 8 * below) - 1) | high << 8 * below)
        if a is self.values.bytes(length) and b is self.values.bytes(size):
            return self.values.bytes(length + size)
        return None


def _slots(cells: int) -> bytes:
    """The stack bytes of a set of cells, eight bits for each slot."""
    return (cells >> FIRST_SLOT).to_bytes(CELLS - FIRST_SLOT, "little")


def _is_start(atoms: Atoms) -> bool:
    """Whether something is proved behind the start itself, of the packet or of its metadata."""
    return not atoms or atoms[0] == METADATA
