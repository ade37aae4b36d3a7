"""Checks a certificate: that its claims are true of every run, and that every run ends. Part of what has to be trusted.

Each point is walked once, from exactly what it claims: the walk proves the obligations of the block's instructions, and every
state behind the block has to be included in the point that its edge leads to. The program's entry is included in the first point, so by
induction each run goes from point to point and traps nowhere. How the points were found, which states were joined, dropped
or called dead on the way, does not matter here.

Two rules keep unknowns apart. What a claim names is a number, what an instruction defines is named after its slot, and
from one point to the next no slot defines a value twice without naming the older one otherwise; so no name is ever given to a second value. And what a loop's head calls a *ghost* stands
for one value until the head is visited again: edges must not rename it. By its ghosts a walk that comes back to the
head knows how far a cell has moved since (`_moved`), and that is what the end of loops rests on (`turns`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Final, NoReturn

from pybpf.errors import BudgetExceeded, CertificateError
from pybpf.program import Program
from pybpf.semantics import U64, signed
from pybpf.verifier.certificate import (
    CellClaim,
    Cells,
    Certificate,
    Edge,
    Loop,
    NumberClaim,
    Order,
    PointerClaim,
    ScalarClaim,
)
from pybpf.verifier.explain import Refusal
from pybpf.verifier.inclusion import Claim, Inclusion, NotIncluded
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.state import CELLS, Frame, State
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import LENGTH, METADATA, Atom, Cell, Number, Pointer, Target, Values, bases_of
from pybpf.verifier.walk import Place, Walk

_HALF: Final = 1 << 63


class Followed(State):
    """A state inside loops: where a number becomes known, it is not forgotten of which ghosts it is a sum."""

    __slots__ = ("_ghosts",)

    def __init__(self, state: State, ghosts: frozenset[Atom]) -> None:
        super().__init__(state.cells, state.frames, state.proofs, (), state.held)
        self._ghosts = ghosts

    @property
    def tags(self) -> frozenset[Atom]:
        """See `State.tags`."""
        return self._ghosts

    def copy(self) -> State:
        """See `State.copy`."""
        copied = super().copy()
        return Followed(copied, self._ghosts)


@dataclass(eq=False, slots=True)
class Way:
    """An edge that was checked. `moves`: by how much cells of a loop's head have moved, as integers, since its last visit; empty
    where the edge comes back to no head.
    """

    source: int
    target: int
    moves: Mapping[Order, int] = field(default_factory=dict)


class Checker:
    """One check. `run` gives the bound on executed instructions, `explored` is their number in all points."""

    def __init__(self, certificate: Certificate, walk: Walk) -> None:
        self.certificate = certificate
        self.walk = walk
        self.program: Program = walk.program
        self.transfer: Transfer = walk.transfer
        self.values: Values = self.transfer.values
        self.points = certificate.points
        self.explored = 0
        self._scalars = [self._scalar(claim) for claim in certificate.scalars]
        self._cells: list[Cell] = [self._cell(claim) for claim in certificate.cells]
        self._ranking: dict[Place, set[Order]] = {}
        self._note_rankings(certificate.loops)
        self._check_names()

    def run(self) -> int:
        """Check everything. Raises `CertificateError`, and `BudgetExceeded` where it is about more than a verification may look at."""
        return self._longest(range(len(self.points)), self.follow(), self.certificate.loops)

    def follow(self) -> list[Way]:
        """Check the claims alone, from the entry on; not that a run which they hold ends. Raises `CertificateError`."""
        ways: dict[int, list[Way]] = {}
        self.included(self.certificate.entry, self.walk.start, self.walk.begin(), (), "the entry")
        work = [self.certificate.entry.target]
        while work:
            number = work.pop()
            if number not in ways:
                ways[number] = self._point(number)
                work += [way.target for way in ways[number]]
        if len(ways) < len(self.points):
            self._fail(f"{len(self.points) - len(ways)} points are never reached")
        return [way for source in ways.values() for way in source]

    def _check_names(self) -> None:
        """No claim is about what an instruction defines, which has another value when the instruction is walked again. Bytes have no
        such claim; a certificate that was put together otherwise may.
        """
        names: set[object] = set()
        for claim in self.certificate.cells:
            values = (claim,) if isinstance(claim, NumberClaim | PointerClaim) else (v for *_, v in claim)
            for value in values:
                if isinstance(value, NumberClaim):
                    names |= bases_of(value.form[0]) if value.form else set()
                else:
                    names |= {
                        *bases_of(value.atoms or ()),
                        value.null,
                        value.object and value.object.reference,
                    }
        for point in self.points:
            names |= point.held.union(*map(bases_of, point.proofs))
        wrong = next((name for name in names if isinstance(name, tuple)), None)
        if wrong is not None:
            self._fail(f"a claim is about {wrong}, which is no name of a certificate's own")

    # Points

    def claim(self, number: int) -> Claim:
        """What a point claims."""
        point, table = self.points[number], self._cells
        frames = tuple(
            {i: table[cell] for i, cell in cells.items()} for cells in (*point.frames, point.cells)
        )
        return Claim(frames, point.proofs, point.held)

    def state(self, number: int) -> State:
        """The state that a point claims, to be walked from."""
        point = self.points[number]
        callers, calls = map(self._frame, point.frames), point.place[0]
        frames = tuple(Frame(tuple(cells), call) for cells, call in zip(callers, calls, strict=True))
        state = State(self._frame(point.cells), frames, dict(point.proofs), (), point.held)
        return Followed(state, self.ghosts(self.visits(number)) | {LENGTH})

    def visits(self, number: int) -> tuple[int, ...]:
        """The visits of loops' heads that a walk through a point is in: a head's own is the last."""
        point = self.points[number]
        return point.visits if point.ghosts is None else (*point.visits, number)

    def ghosts(self, visits: Iterable[int]) -> frozenset[Atom]:
        """What stands for one value as long as a run is in these visits."""
        return frozenset[Atom]().union(*(self.points[visit].ghosts or () for visit in visits))

    def _cell(self, claim: CellClaim) -> Cell:
        """A cell as it is claimed."""
        if isinstance(claim, NumberClaim):
            scalar = self._scalars[claim.scalar]
            return self.values.pinned(scalar, claim.form) if claim.form else self.values.number(scalar, None)
        if isinstance(claim, PointerClaim):
            return self._pointer(claim)
        parts = []
        for first, size, part in claim:
            value = self._cell(part)
            assert isinstance(value, Number | Pointer), "a part is no slot"
            parts.append((first, size, value))
        return self.values.pieces(tuple(parts))

    def _scalar(self, claim: ScalarClaim) -> Scalar:
        scalar = self.values.numbers.make(*claim)
        if scalar is None:
            self._fail("it claims a number that is none")
        return scalar

    def _pointer(self, claim: PointerClaim) -> Pointer:
        """A pointer into what is there: one that is null here may point after a test."""
        target, number = claim.target, claim.number
        exists = True
        match target:
            case Target.MAP | Target.MAP_VALUE:
                exists = number < len(self.transfer.prover.maps)
            case Target.CONTEXT:
                exists = self.transfer.type.context is not None
            case Target.FUNCTION:
                exists = number in self.walk.blocks
            case Target.OBJECT | Target.RECORD:
                exists = claim.object is not None
                number = self.values.object(claim.object) if claim.object is not None else 0
        if not exists:
            self._fail(f"it claims a pointer to {target.value} {number}, and there is none")
        variable = None if claim.variable is None else self._scalars[claim.variable]
        return self.values.pointer(target, number, claim.offset, variable, claim.atoms, claim.null)

    def _frame(self, claims: Cells) -> list[Cell]:
        cells: list[Cell] = [None] * CELLS
        for index, cell in claims.items():
            cells[index] = self._cells[cell]
        return cells

    def _point(self, number: int) -> list[Way]:
        """Walk through a point's block, and come to the points behind."""
        point, visits = self.points[number], self.visits(number)
        if any(self.points[visit].place == point.place for visit in point.visits):
            self._fail(f"point {number} is a visit inside a visit of the same head")
        self.explored += self._cost(number)
        if self.explored > self.transfer.policy.max_explored:
            message = f"check stopped after {self.explored} instructions: the certificate has points for more"
            raise BudgetExceeded(message, self.explored, program=self.program.name, pc=point.place[1])
        try:
            behind = self.walk.through(point.place, self.state(number))
        except Refusal as refusal:
            self._fail(f"point {number}, pc {refusal.pc}: {refusal.message} [{refusal.reason}]")
        if len(behind) != len(point.edges):
            self._fail(f"point {number} has {len(point.edges)} edges and its block {len(behind)} ways out")
        ways = []
        for edge, (place, state) in zip(point.edges, behind, strict=True):
            self.included(edge, place, state, visits, f"point {number}")
            orders = self._ranking.get(place, ())
            ways.append(Way(number, edge.target, self.moves(edge, state, visits, orders)))
        return ways

    def _cost(self, number: int) -> int:
        return len(self.walk.blocks[self.points[number].place[1]].pcs)

    def included(self, edge: Edge, place: Place, state: State, visits: tuple[int, ...], source: str) -> None:
        """The state behind a block, at `place`, is one of those that the point at the end of an edge claims."""
        target = self.points[edge.target]
        where = f"{source} to point {edge.target}, pc {target.place[1]}"
        if target.place != place:
            self._fail(f"{where}: the block's way out leads to pc {place[1]}")
        if visits[: len(target.visits)] != target.visits:
            self._fail(f"{where}: it claims a visit of a loop's head that was not")
        fixed = self.ghosts(target.visits) | {LENGTH, METADATA}
        if not fixed.isdisjoint(edge.names):
            self._fail(f"{where}: what a loop's head has fixed is named anew")
        try:
            Inclusion(self.values, state, edge.names, edge.answers).check(self.claim(edge.target))
        except NotIncluded as reason:
            self._fail(f"{where}: {reason}")

    # Loops

    def _note_rankings(self, loops: Iterable[Loop]) -> None:
        for loop in loops:
            place = self.points[loop.head].place
            self._ranking.setdefault(place, set()).add((loop.cell, loop.order))
            self._note_rankings(loop.inner)

    def moves(
        self, edge: Edge, state: State, visits: tuple[int, ...], orders: Iterable[Order]
    ) -> dict[Order, int]:
        """If an edge comes back to a loop's head: how cells have moved since the head's last visit, as far as that is known."""
        target = self.points[edge.target]
        back = len(target.visits)
        if len(visits) == back or self.points[visits[back]].place != target.place:
            return {}
        head = self._frame(self.points[visits[back]].cells)
        fixed = self.ghosts(visits[: back + 1])
        steps = {(cell, order): _moved(head[cell], state.cells[cell], order, fixed) for cell, order in orders}
        return {key: step for key, step in steps.items() if step is not None}

    def _longest(self, points: Collection[int], ways: Iterable[Way], loops: Iterable[Loop]) -> int:
        """The most instructions that a run executes which stays in `points` and takes only `ways`.

        With each loop taken for one place, no way may lead back: then the longest way through the places is the bound.
        """
        part_of = {point: point for point in points}
        parts = {-1 - index: loop for index, loop in enumerate(loops)}
        for part, loop in parts.items():
            for point in loop.points:
                if part_of.get(point) != point:
                    self._fail(f"point {point} is in two loops, or in one that is not around it")
                part_of[point] = part
        behind: dict[int, set[int]] = {part: set() for part in part_of.values()}
        inside: dict[int, list[Way]] = {part: [] for part in parts}
        for way in ways:
            source, target = part_of[way.source], part_of[way.target]
            if source == target and source in inside:
                inside[source].append(way)
            else:
                behind[source].add(target)
        cost = {point: self._cost(point) for point in points}
        cost |= {part: self._stay(loop, inside[part]) for part, loop in parts.items()}
        longest: dict[int, int] = {}
        try:
            for part in TopologicalSorter(behind).static_order():
                longest[part] = cost[part] + max((longest[after] for after in behind[part]), default=0)
        except CycleError as error:
            self._fail(f"no loop of the certificate explains why the cycle of points {error.args[1]} ends")
        return max(longest.values(), default=0)

    def _stay(self, loop: Loop, inside: Iterable[Way]) -> int:
        """The most instructions that a run executes while it stays in a loop, on ways `inside`.

        From one of the ways on which the cell moves to the next, before the first and behind the last, it takes only others.
        """
        place = self.points[loop.head].place
        moving: set[Way] = set()
        for way in inside:
            if self.points[way.target].place == place:
                moved = way.moves.get((loop.cell, loop.order))
                if moved is None or (moved < 0 if loop.rising else moved > 0):
                    name = f"cell {loop.cell} is not known to move one way since the loop's head"
                    self._fail(f"point {way.source} to {way.target}: {name}")
                if moved:
                    moving.add(way)
        if not moving:
            self._fail(f"cell {loop.cell} moves on no way back to the loop's head at pc {place[1]}")
        rest = [way for way in inside if way not in moving]
        return (self.turns(loop, moving) + 1) * self._longest(loop.points, rest, loop.inner)

    def turns(self, loop: Loop, moving: Collection[Way]) -> int:
        """How often ways on which a loop's cell moves can be taken, if it never moves back.

        Each time but the first the cell has moved by the least step since the time before, and stays within what the points at
        the ends of these ways claim of it.
        """
        lows, highs = zip(*(self._range(way.target, loop.cell, loop.order) for way in moving), strict=True)
        step = min(abs(way.moves[loop.cell, loop.order]) for way in moving)
        return int(max(highs) - min(lows)) // step + 1

    def _range(self, number: int, cell: int, order: str) -> tuple[int, int]:
        claimed = self._frame(self.points[number].cells)[cell]
        if not isinstance(claimed, Number):
            self._fail(f"point {number}: the loop's cell {cell} holds no number")
        wide = claimed.scalar.wide
        return (wide.umin, wide.umax) if order == "u" else (wide.smin, wide.smax)

    def _fail(self, message: str) -> NoReturn:
        raise CertificateError(self.walk.prototypes.where + message, program=self.program.name)


def _moved(before: Cell, after: Cell, order: str, fixed: frozenset[Atom]) -> int | None:
    """By how much a number has grown as an integer, None if that is not known. `fixed` stand for the same in both states."""
    if not (isinstance(before, Number) and isinstance(after, Number)):
        return None
    if before.value is not None and after.value is not None:
        grown = after.value - before.value
        return grown if order == "u" else signed(after.value, 64) - signed(before.value, 64)
    if before.form is None or after.form is None or before.form[0] != after.form[0]:
        return None
    if not bases_of(before.form[0]) <= fixed:
        return None
    # after = before + step modulo 2**64, and as integers if after - step is in range.
    step, wide = signed((after.form[1] - before.form[1]) & U64, 64), after.scalar.wide
    if order == "u":
        return step if wide.umin - step >= 0 and wide.umax - step <= U64 else None
    return step if wide.smin - step >= -_HALF and wide.smax - step < _HALF else None
