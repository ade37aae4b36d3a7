"""From a finished exploration to its certificate: search, of which nothing has to be trusted.

The nodes become points, their unknowns numbers. Each point is then walked from what it claims, as the checker will do, and for
each state behind it the node that covered it is asked for the sums that its unknowns are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pybpf.errors import CertificateError, InternalError
from pybpf.semantics import U64, signed
from pybpf.verifier.certificate import (
    NOT_NULL,
    NULL,
    Answer,
    CellClaim,
    Certificate,
    Edge,
    Loop,
    NumberClaim,
    Order,
    Point,
    PointerClaim,
    ScalarClaim,
    fingerprint,
    halved,
    place_of,
)
from pybpf.verifier.checker import Checker, Way
from pybpf.verifier.explore import Exploration, Node
from pybpf.verifier.inclusion import NotIncluded, substituted
from pybpf.verifier.loops import strongly_connected
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.state import CELLS, State, parts_of, read_bytes
from pybpf.verifier.units import is_shift, simplified
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
    Value,
    Values,
    bases_of,
    renamed,
    subtract_forms,
)
from pybpf.verifier.walk import Place, Walk

_KEPT: Final = frozenset({LENGTH, METADATA})
_ORDERS: Final[tuple[Order, ...]] = (
    *((cell, "s") for cell in range(CELLS)),
    *((cell, "u") for cell in range(CELLS)),
)


def certify(exploration: Exploration, walk: Walk) -> Certificate:
    """The certificate of an exploration that succeeded. `walk` is one for checking.

    Raises `InternalError` where the exploration has taken a step that the meaning of states does not allow.
    """
    nodes = _walked_from(exploration.root)
    while True:
        certificate = _Certifier(exploration.transfer.values, walk, nodes).certificate()
        reached = _reached(certificate)
        if len(reached) == len(nodes):
            return certificate
        # A point may hold what the exploration kept apart; then none of what it holds needs another.
        nodes = [node for number, node in enumerate(nodes) if number in reached]


def _reached(certificate: Certificate) -> set[int]:
    """The points that edges lead to from the entry."""
    found: set[int] = set()
    work = [certificate.entry.target]
    while work:
        number = work.pop()
        if number not in found:
            found.add(number)
            work += [edge.target for edge in certificate.points[number].edges]
    return found


class _Certifier:
    def __init__(self, values: Values, walk: Walk, nodes: Sequence[Node]) -> None:
        self.values = values
        self.walk = walk
        self.nodes = nodes
        self.number = {node: index for index, node in enumerate(self.nodes)}
        self._names: dict[Atom, int] = {}
        self._scalars: dict[ScalarClaim, int] = {}
        self._cells: dict[CellClaim, int] = {}
        self._translated: dict[tuple[Cell, tuple[Atoms, ...]], int] = {}
        self._simplified: dict[Node, Mapping[Atoms, Atoms]] = {}

    def certificate(self) -> Certificate:
        points = [self._point(node) for node in self.nodes]
        draft = Certificate(
            fingerprint(self.walk.program),
            tuple(self._scalars),
            tuple(self._cells),
            tuple(points),
            Edge(0),
            (),
        )
        checker = Checker(draft, self.walk)
        entry = self._edge(checker, self.walk.start, self.walk.begin(), (), [0])
        ways: list[Way] = []
        for number, node in enumerate(self.nodes):
            behind = self.walk.through(node.place, checker.state(number))
            visits = checker.visits(number)
            behind_it = dict.fromkeys(_walked(edge.target) for edge in node.edges)
            targets = [self.number[target] for target in behind_it if target in self.number]
            edges = []
            for place, state in behind:
                edges.append(self._edge(checker, place, state, visits, targets))
                ways.append(Way(number, edges[-1].target, checker.moves(edges[-1], state, visits, _ORDERS)))
            points[number] = replace(points[number], edges=tuple(edges))
        ends = not self.walk.transfer.ahead
        loops = _Ranking(checker).loops(range(len(points)), ways) if ends else ()
        return replace(draft, points=tuple(points), entry=entry, loops=loops)

    # Points

    def _point(self, node: Node) -> Point:
        state, simple = node.state, self._simple(node)
        frames = [*(frame.cells for frame in state.frames), state.cells]
        known = self._fixed(node).union(
            *(bases_of(simple[atoms]) for frame in frames for cell in frame for atoms in _sums(cell))
        )
        return Point(
            place=node.place,
            cells=self._frame(state.cells, simple),
            frames=tuple(self._frame(frame.cells, simple) for frame in state.frames),
            # What is proved about unknowns that nothing holds any more is of no use, and hard to find again.
            proofs={
                self._sum(atoms, simple): size
                for atoms, size in state.proofs.items()
                if bases_of(simple[atoms]) <= known
            },
            held=frozenset(map(self._name, sorted(state.held, key=repr))),
            visits=tuple(self.number[visit] for visit in state.visits),
            ghosts=frozenset(map(self._name, sorted(self._ghosts(node), key=repr)))
            if _is_head(node)
            else None,
        )

    def _simple(self, node: Node) -> Mapping[Atoms, Atoms]:
        """What stands in a claim for each sum of a state. Inside a loop it is what it is at the loop's head."""
        simple = self._simplified.get(node)
        if simple is None:
            state = node.state
            frames = (*(frame.cells for frame in state.frames), state.cells)
            sums = {atoms for frame in frames for cell in frame for atoms in _sums(cell)}
            given: dict[Atoms, Atoms] = {}
            for visit in state.visits:
                given |= {atoms: unit for atoms, unit in self._simple(visit).items() if atoms != unit}
            simple = simplified(sums.union(state.proofs), self._fixed(node), given)
            self._simplified[node] = simple
        return simple

    def _fixed(self, node: Node) -> frozenset[Atom]:
        return _KEPT.union(*map(self._ghosts, node.state.visits))

    def _ghosts(self, head: Node) -> frozenset[Atom]:
        """What the numbers of a head's frame are known by in a claim."""
        simple = self._simple(head)
        numbers = (cell for cell in head.state.cells if isinstance(cell, Number))
        return frozenset[Atom]().union(*(bases_of(simple[a]) for n in numbers for a in _sums(n))) - _KEPT

    def _frame(self, cells: Iterable[Cell], simple: Mapping[Atoms, Atoms]) -> dict[int, int]:
        return {index: self._cell(cell, simple) for index, cell in enumerate(cells) if cell is not None}

    def _cell(self, cell: Cell, simple: Mapping[Atoms, Atoms]) -> int:
        key = cell, tuple(simple[atoms] for atoms in _sums(cell))
        position = self._translated.get(key)
        if position is None:
            claim: CellClaim
            if isinstance(cell, Pieces):
                claim = tuple((first, size, self._value(v, simple)) for first, size, v in cell.parts)
            else:
                assert cell is not None
                claim = self._value(cell, simple)
            position = self._translated[key] = self._cells.setdefault(claim, len(self._cells))
        return position

    def _value(self, value: Value, simple: Mapping[Atoms, Atoms]) -> NumberClaim | PointerClaim:
        if isinstance(value, Number):
            form = None if value.form is None else (self._sum(value.form[0], simple), value.form[1])
            return NumberClaim(self._scalar(value.scalar), form)
        atoms = None if value.atoms is None else self._sum(value.atoms, simple)
        object = self.values.object_of(value)
        if object is not None and object.reference is not None:
            object = object._replace(reference=self._name(object.reference))
        variable = None if value.variable is None else self._scalar(value.variable)
        null = None if value.null is None else self._name(value.null)
        number = 0 if object is not None else value.number
        return PointerClaim(value.target, number, object, value.offset, variable, atoms, null)

    def _sum(self, atoms: Atoms, simple: Mapping[Atoms, Atoms]) -> Atoms:
        atoms = simple.get(atoms, atoms)
        return renamed(atoms, {base: self._name(base) for base in sorted(bases_of(atoms) - _KEPT, key=repr)})

    def _scalar(self, scalar: Scalar) -> int:
        return self._scalars.setdefault((scalar.wide, scalar.narrow), len(self._scalars))

    def _name(self, atom: Atom) -> int:
        return self._names.setdefault(atom, len(self._names))

    # Edges

    def _edge(
        self, checker: Checker, place: Place, state: State, visits: tuple[int, ...], targets: Sequence[int]
    ) -> Edge:
        """The edge to the first of some points that holds a state."""
        reasons = []
        for target in targets:
            if checker.points[target].place == place:
                try:
                    edge = Edge(target, *_match(checker, target, state))
                    checker.included(edge, place, state, visits, "")
                except (CertificateError, NotIncluded) as error:
                    reasons.append(str(error))
                else:
                    return edge
        raise InternalError(f"no certificate: no state holds the one at pc {place[1]}: {'; '.join(reasons)}")


def _sums(cell: Cell) -> Iterator[Atoms]:
    """The sums of unknowns that the values in a cell are."""
    for _, _, value in parts_of(cell):
        atoms = value.atoms if isinstance(value, Pointer) else value.form[0] if value.form else None
        if atoms:
            yield atoms


def _is_head(node: Node) -> bool:
    return bool(node.loops) and node.loops[-1] == node.place


def _walked(node: Node) -> Node:
    """The node that a node was joined into: what was joined was not walked and costs nothing."""
    while node.cost == 0:
        node = node.edges[-1].target
    return node


def _walked_from(root: Node) -> list[Node]:
    """The walked nodes that can be reached, in the order in which they are found, `root` first."""
    found = {_walked(root): None}
    work = list(found)
    while work:
        for edge in work.pop().edges:
            target = _walked(edge.target)
            if target not in found:
                found[target] = None
                work.append(target)
    return list(found)


class _Ranking:
    """Looks for what bounds the cycles of a graph of points."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker

    def loops(self, points: Iterable[int], ways: Sequence[Way]) -> tuple[Loop, ...]:
        """The loops of a part of the graph: one for each of its cycles that are not inside another."""
        behind: dict[int, list[int]] = {point: [] for point in points}
        for way in ways:
            behind[way.source].append(way.target)
        parts = strongly_connected(behind, behind.__getitem__)
        part_of = {point: number for number, part in enumerate(parts) for point in part}
        inside: dict[int, list[Way]] = {}
        for way in ways:
            if part_of[way.source] == part_of[way.target]:
                inside.setdefault(part_of[way.source], []).append(way)
        return tuple(self._loop(frozenset(parts[number]), inside[number]) for number in sorted(inside))

    def _loop(self, members: frozenset[int], inside: Sequence[Way]) -> Loop:
        """The outermost loop of a cycle, by the cell that moves on most ways back to its head, then by the fewest turns."""
        points = self.checker.points
        head = min(
            (way.target for way in inside if way.moves),
            key=lambda n: (len(points[n].visits), n),
            default=None,
        )
        if head is None:
            raise InternalError("no certificate: a cycle of states comes back to no head")
        back = [way for way in inside if points[way.target].place == points[head].place]
        best: tuple[int, int, Loop, frozenset[Way]] | None = None
        for cell, order in sorted(set.intersection(*(set(way.moves) for way in back))):
            for rising in (True, False):
                steps = {way: way.moves[cell, order] * (1 if rising else -1) for way in back}
                moving = frozenset(way for way, step in steps.items() if step > 0)
                if min(steps.values()) < 0 or not moving:
                    continue
                loop = Loop(members, head, cell, order, rising)
                turns = self.checker.turns(loop, moving)
                if best is None or (len(moving), -turns) > best[:2]:
                    best = len(moving), -turns, loop, moving
        if best is None:
            raise InternalError(f"no certificate: nothing moves one way at pc {points[head].place[1]}")
        rest = [way for way in inside if way not in best[3]]
        return replace(best[2], inner=self.loops(members, rest))


# What the unknowns of a point are


def _match(
    checker: Checker, number: int, arriving: State
) -> tuple[Mapping[Atom, Form], Mapping[Atom, Answer]]:
    """What the unknowns and questions of a point are in a state that it holds: each is what it meets first."""
    claim = checker.claim(number)
    match = _Match(checker.values, checker.ghosts(checker.points[number].visits) | _KEPT)
    frames = [*(frame.cells for frame in arriving.frames), arriving.cells]
    for depth in reversed(range(len(frames))):
        match.frame(depth, claim.frames[depth], frames[depth])
    match.sums()
    match.held(claim.held, arriving.held)
    exact = {name: (atoms, signed(delta & U64, 64)) for name, (atoms, delta) in match.names.items()}
    names = {name: form for name, form in exact.items() if form != ((name,), 0)}
    answers = {question: answer for question, answer in match.answers.items() if question != answer}
    return names, answers


class _Match:
    def __init__(self, values: Values, fixed: frozenset[Atom]) -> None:
        self.values = values
        self.fixed = fixed
        self.names: dict[Atom, Form] = {}
        self.answers: dict[Atom, Answer] = {}
        self._sums: list[tuple[Form, Form, Atom]] = []

    def frame(self, depth: int, claim: Mapping[int, Cell], arriving: Sequence[Cell]) -> None:
        for index, a in claim.items():
            theirs = {(first, size): value for first, size, value in parts_of(arriving[index])}
            for first, size, value in parts_of(a):
                other = theirs.get((first, size)) or read_bytes(self.values, arriving[index], first, size)
                if other is not None:
                    self._value(value, other, place_of(depth, index, first))

    def _value(self, a: Value, b: Value, place: Atom) -> None:
        if isinstance(a, Number):
            if a.form is not None:
                form = self.values.form_of(b) if isinstance(b, Number) and b.form is None else None
                if isinstance(b, Number) and b.form is not None:
                    form = b.form
                self._equal(a.form, form or ((place,), 0), place)
            return
        if a.null is not None:
            null = NULL if isinstance(b, Number) else NOT_NULL if b.null is None else b.null
            self.answers.setdefault(a.null, null)
        if isinstance(b, Number):
            return
        mine, theirs = self.values.object_of(a), self.values.object_of(b)
        if mine is not None and theirs is not None and mine.reference is not None:
            self.answers.setdefault(mine.reference, theirs.reference)
        if a.atoms:
            atoms: Atoms = () if b.variable is None else (place,) if b.atoms is None else b.atoms
            self._equal((a.atoms, 0), (atoms, b.offset - a.offset), place)

    def _equal(self, sum: Form, there: Form, place: Atom) -> None:
        """The sum is this there. What a single unknown is follows at once."""
        (atoms, delta), (others, distance) = sum, there
        if len(atoms) == 1 and not is_shift(atoms[0]):
            if atoms[0] not in self.fixed:
                self.names.setdefault(atoms[0], (others, distance - delta))
        elif atoms:
            self._sums.append((sum, there, place))

    def sums(self) -> None:
        """What is left: sums of several, and shifted ones, from short to long."""
        while self._sums:
            self._sums.sort(key=lambda each: sum(map(self._is_open, each[0][0])))
            self._solve(*self._sums.pop(0))

    def _solve(self, sum: Form, there: Form, place: Atom) -> None:
        """What is known of the sum, or the same there, is taken away. One of the unknowns is the rest, the others are 0."""
        rest: Form | None = (there[0], there[1] - sum[1])
        todo: list[Atom] = []
        for atom in sum[0]:
            less = subtract_forms(rest, substituted(((atom,), 0), self.names))
            if less is not None:
                rest = less
                for base in bases_of((atom,)):
                    self.names.setdefault(base, ((base,), 0))
            elif self._is_open(atom):
                todo.append(atom)
        if not todo or rest is None:
            return
        todo.sort(key=is_shift)
        pivot, *others = dict.fromkeys(todo)
        if all(map(is_shift, (*todo, *rest[0]))):
            ours, theirs = sorted(todo, key=_amount), sorted(rest[0], key=_amount)
            if list(map(_amount, ours)) == list(map(_amount, theirs)):
                for mine, other in zip(ours, theirs, strict=True):
                    self._equal(_shifted(mine), _shifted(other), place)
                return
        for atom in others:
            self._vanish(atom)
        if not is_shift(pivot):
            part = _divided(rest, sum[0].count(pivot))
            if part is not None:
                self.names[pivot] = part
        elif isinstance(pivot, tuple) and len(pivot[1]) == 1 and not is_shift(pivot[1][0]):
            self.names.setdefault(pivot[1][0], ((halved(place),), 0))

    def _is_open(self, atom: Atom) -> bool:
        """Whether something may still be chosen."""
        return any(base not in self.names and base not in self.fixed for base in bases_of((atom,)))

    def _vanish(self, atom: Atom) -> None:
        """Choose unknowns so that the atom is 0."""
        total = 0
        if isinstance(atom, tuple) and is_shift(atom):
            total = -atom[2]
        for base in bases_of((atom,)):
            if self._is_open(base):
                self.names[base] = ((), total)
                total = 0

    def held(self, claim: Iterable[Atom], arriving: Iterable[Atom]) -> None:
        """What no pointer is left to is paired with what is left."""
        taken = {self.answers.get(name) for name in claim}
        left = [name for name in arriving if name not in taken]
        for name in claim:
            if name not in self.answers and left:
                self.answers[name] = name if name in left else left[0]
                left.remove(self.answers[name])


def _divided(form: Form, by: int) -> Form | None:
    """What a sum is so many times, if each of its parts is."""
    counts = Counter(form[0])
    if form[1] % by or any(count % by for count in counts.values()):
        return None
    return tuple(atom for atom in counts for _ in range(counts[atom] // by)), form[1] // by


def _shifted(atom: Atom) -> Form:
    """The sum inside a shifted one."""
    assert isinstance(atom, tuple)
    return atom[1], atom[2]


def _amount(atom: Atom) -> int:
    """By how much a sum is shifted."""
    assert isinstance(atom, tuple)
    return int(atom[3])
