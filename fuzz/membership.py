"""Every state that a run is in lies inside the abstract state that the verifier had there.

The verifier's proof is a graph of abstract states (`pybpf.verifier.explore`). A run is followed through it: at the entry of each
block some successor of the current node must hold the run's state, that is, there must be values for the unknowns such
that every cell holds what the node says, equal unknowns are equal, pointers that ask one question of null have one answer,
and the packet is as long as was proved. On an edge back to a loop's head, what the verifier believes to have changed since
the last visit must have changed. This is the strongest oracle there is: it needs no second implementation, and finds a
wrong belief even where no access goes wrong for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from fuzz.linear import System
from fuzz.machine import Moment
from fuzz.watch import Watched
from pybpf.instruction import Instruction
from pybpf.interpreter import Execution
from pybpf.maps import BpfMap
from pybpf.memory import CONTEXT, FIRST_MAP, PACKET, STACK_SIZE, STACK_TOP, TAG_SHIFT, map_address
from pybpf.semantics import U32, U64, signed
from pybpf.verifier.explore import Edge, Node
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.state import FIRST_SLOT, parts_of
from pybpf.verifier.values import LENGTH, Number, Pointer, Target
from pybpf.verifier.view import View


class Outside(AssertionError):
    """A run that no abstract state holds."""


class Membership:
    """Follows runs of one program through the graph that proved it. `before` is a trace of the interpreter."""

    def __init__(self, watched: Watched, maps: Sequence[BpfMap]) -> None:
        self.watched = watched
        self.maps = maps
        self._node: Node | None = None
        self._visits: dict[Node, dict[tuple[int, int], int | None]] = {}

    def start(self) -> None:
        """A new run."""
        self._node = None
        self._visits.clear()

    def before(self, pc: int, instruction: Instruction, run: Execution) -> None:
        """At the entry of a block, step to a node that holds the run. Raises `Outside`."""
        if pc not in self.watched.blocks:
            return
        moment = Moment(run)
        place = (moment.calls, pc)
        edges = [Edge(self.watched.root)] if self._node is None else self._node.edges
        reasons: list[str] = []
        for edge in edges:
            node, stages = _walked(edge.target)
            if node.place != place:
                continue
            reason = self._refusal(edge, stages, moment)
            if reason is None:
                self._enter(node, moment)
                return
            reasons.append(reason)
        raise Outside(
            f"pc {pc}: no abstract state holds the run: {'; or '.join(reasons) or 'no edge leads here'}"
        )

    def _refusal(self, edge: Edge, stages: Sequence[Node], moment: Moment) -> str | None:
        """Why an edge is not what the run did, None if it is."""
        if edge.head is not None:
            reason = self._wrong_change(edge, moment)
            if reason is not None:
                return reason
        for node in stages:
            reason = self._outside(node, moment)
            if reason is not None:
                return reason
        return None

    def _wrong_change(self, edge: Edge, moment: Moment) -> str | None:
        """What is believed to have changed since the last visit of a loop's head has changed."""
        assert edge.head is not None
        before = self._visits.get(edge.head)
        if before is None:
            return "a visit of the loop's head is believed that was not"
        for (index, order), step in edge.change.items():
            a, b = before.get((moment.depth, index)), moment.cell(moment.depth, index)
            if a is None or b is None:
                return f"{_name(index)} is believed to change and holds nothing"
            moved = b - a if order == "u" else signed(b, 64) - signed(a, 64)
            if moved != step:
                return f"{_name(index)} changed by {moved}, not by {step} ({order})"
        return None

    def _enter(self, node: Node, moment: Moment) -> None:
        self._node = node
        if node.loops and node.loops[-1] == node.place:
            self._visits[node] = {
                (moment.depth, index): moment.cell(moment.depth, index)
                for index, cell in enumerate(node.state.cells)
                if isinstance(cell, Number)
            }

    def _outside(self, node: Node, moment: Moment) -> str | None:
        """Why a node's state does not hold a run's, None if it does."""
        facts = _Equations(moment, self.maps, node.kept)
        for visit in node.state.visits:
            seen = self._visits.get(visit)
            if seen is None:
                return "a visit of a loop's head is believed that was not"
            for (_, index), actual in seen.items():
                cell = visit.state.cells[index]
                if isinstance(cell, Number) and cell.form is not None and actual is not None:
                    facts.tag(cell, visit.kept)
                    facts.equal(cell, cell.form, actual)
        for depth, index, first, size, value in cells_of(node):
            actual = moment.cell(depth, index, first, size)
            if actual is None:
                return f"{_name(index)} was never written and should be {value!r}"
            reason = facts.holds(value, actual)
            if reason is not None:
                where = _name(index) + (f" of frame {depth}" if depth < moment.depth else "")
                return f"{where} is {actual:#x} and should be {value!r}: {reason}"
        reason = facts.contradiction()
        if reason is not None:
            return reason
        for atoms, size in node.state.proofs.items():
            variable = facts.value(atoms)
            if variable is not None and signed(variable, 64) + size > moment.packet.size:
                return f"{size} bytes are believed behind {atoms} = {signed(variable, 64)}, the packet has {moment.packet.size}"
        return None


def cells_of(node: Node) -> Iterator[tuple[int, int, int, int, Number | Pointer]]:
    """What a state says: frame, cell, first byte, size, value."""
    state = node.state
    for depth, cells in enumerate((*(frame.cells for frame in state.frames), state.cells)):
        for index, cell in enumerate(cells):
            if cell is None:
                continue
            for first, size, value in parts_of(cell):
                yield depth, index, first, size, value


@dataclass(slots=True)
class _Equations:
    """What one state says about the unknowns, gathered cell by cell."""

    moment: Moment
    maps: Sequence[BpfMap]
    kept: frozenset[Hashable]
    """The unknowns that matter: what depends on others as well has a range, and no relation to anything."""
    sums: set[Hashable] = field(default_factory=set)
    loose: set[Hashable] = field(default_factory=set)
    system: System = field(default_factory=System)
    questions: dict[Hashable, bool] = field(default_factory=dict)
    shifted: set[Hashable] = field(default_factory=set)
    later: list[tuple[Pointer, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.system.add({LENGTH: 1}, self.moment.packet.size)

    def tag(self, number: Number, kept: frozenset[Hashable]) -> None:
        """A number at a loop's head, where `kept` mattered, is known again by its identity.

        If that is a multiple of unknowns that did not matter there, the number need not be one: it is an unknown as a whole.
        """
        assert number.form is not None
        if number.bases <= kept or any(c % 2 for c in expanded(number.form[0])[0].values()):
            return
        self.sums.add(number.form[0])
        self.loose |= number.bases - kept

    def equal(self, value: Number | Pointer, form: tuple[tuple[Hashable, ...], int], actual: int) -> None:
        """The sum of a form is what is there."""
        atoms, delta = form
        if atoms in self.sums:
            self.system.add({("sum", atoms): 1}, actual - delta)
        elif value.bases <= self.kept and value.bases.isdisjoint(self.loose):
            terms, rest = expanded(atoms)
            self.shifted.update(atom for atom in atoms if isinstance(atom, tuple) and atom[0] == "lsh")
            self.system.add(terms, actual - delta - rest)

    def value(self, atoms: tuple[Hashable, ...]) -> int | None:
        """What a sum of unknowns must be, None where that is open."""
        terms, rest = expanded(atoms)
        known = self.system.value(terms)
        return None if known is None else (known + rest) & U64

    def holds(self, value: Number | Pointer, actual: int) -> str | None:
        """Why a value does not hold a number, as far as that can be said of it alone."""
        if isinstance(value, Number):
            if not contains(value.scalar, actual):
                return "out of range"
            if value.form is not None:
                self.equal(value, value.form, actual)
            return None
        if value.null is not None:
            is_null = actual == 0
            if self.questions.setdefault(value.null, is_null) != is_null:
                return "pointers of one question are null and not null"
            if is_null:
                return None
        return self._points(value, actual)

    def _points(self, p: Pointer, actual: int) -> str | None:
        match p.target:
            case Target.STACK:
                start = STACK_TOP - p.number * STACK_SIZE
            case Target.PACKET:
                start = PACKET + self.moment.packet.head
            case Target.PACKET_END:
                start = PACKET + self.moment.packet.end
            case Target.PACKET_META:
                start = PACKET + self.moment.packet.meta
            case Target.CONTEXT:
                start = CONTEXT
            case Target.MAP:
                start = map_address(p.number)
            case Target.MAP_VALUE:
                if actual >> TAG_SHIFT != FIRST_MAP + p.number:
                    return "another map, or none"
                self.later.append((p, actual))
                return None
            case _:
                return None
        variable = actual - start - p.offset
        if p.variable is None:
            return None if variable == 0 else f"off by {variable}"
        if not contains(p.variable, variable & U64):
            return f"the variable part is {variable}"
        if p.atoms is not None:
            self.equal(p, (p.atoms, 0), variable)
        return None

    def contradiction(self) -> str | None:
        """Why the unknowns cannot have values."""
        if not self.system.solve():
            return "equal unknowns are not equal"
        for atom in self.shifted:
            assert isinstance(atom, tuple)
            _, atoms, delta, amount, as_unsigned, as_signed = atom
            inner = self.value(atoms)
            if inner is None:
                continue
            inner = (inner + delta) & U64
            if as_unsigned and inner >> (64 - amount):
                return f"a left shift by {amount} lost bits of {inner:#x}"
            if as_signed and not -(1 << (63 - amount)) <= signed(inner, 64) < 1 << (63 - amount):
                return f"a left shift by {amount} lost signed bits of {inner:#x}"
        for p, actual in self.later:
            if not any(self._in_value(p, actual - start) for start in self._value_starts(p.number)):
                return f"{actual:#x} is no {p!r}"
        return None

    def _in_value(self, p: Pointer, offset: int) -> bool:
        variable = offset - p.offset
        if p.variable is None:
            return variable == 0
        if not contains(p.variable, variable & U64):
            return False
        known = self.value(p.atoms) if p.atoms is not None else None
        return known is None or signed(known, 64) == variable

    def _value_starts(self, number: int) -> Iterator[int]:
        layout = self.maps[number].layout
        first = map_address(number) + layout.values
        return (first + place * layout.stride for place in range(layout.places))


def contains(scalar: Scalar, x: int) -> bool:
    """Whether a number is one of a scalar's."""
    return _in_view(scalar.wide, x, 64) and _in_view(scalar.narrow, x & U32, 32)


def _in_view(v: View, x: int, width: int) -> bool:
    return x & ~v.mask == v.value and v.umin <= x <= v.umax and v.smin <= signed(x, width) <= v.smax


@lru_cache(maxsize=4096)
def expanded(atoms: tuple[Hashable, ...]) -> tuple[dict[Hashable, int], int]:
    """A sum of atoms as coefficients of what instructions defined, and a constant: a shifted sum is a multiple of the sum."""
    terms: dict[Hashable, int] = {}
    rest = 0
    for atom in atoms:
        if isinstance(atom, tuple) and atom[0] == "lsh":
            _, inner, delta, amount, *_ = atom
            inner_terms, inner_rest = expanded(inner)
            rest += (inner_rest + delta) << amount
            for name, coefficient in inner_terms.items():
                terms[name] = terms.get(name, 0) + (coefficient << amount)
        else:
            terms[atom] = terms.get(atom, 0) + 1
    return terms, rest


def _walked(node: Node) -> tuple[Node, list[Node]]:
    """The node that a node was joined into, and all on the way: a node that was joined was not walked and costs nothing."""
    stages = [node]
    while node.cost == 0:
        node = node.edges[-1].target
        stages.append(node)
    return node, stages


def _name(index: int) -> str:
    return f"r{index}" if index < FIRST_SLOT else f"the slot at r10 - {8 * (index - FIRST_SLOT + 1)}"
