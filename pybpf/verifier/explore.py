"""The order of exploration: sets of states per block, in weak topological order, pruned and joined. Knows no instruction.

A block is taken up when every state that can reach it before has arrived. Equal states fall together; a state that an
earlier one covers is dropped; where more than `width` are left, the most alike are joined. A join may lose what a proof
needs, so a failure after a join is tried again with a greater width, at last without joins.

Inside a loop every state remembers which visit of the loop's head it comes from, and states of different visits are never
taken for one another, so that what changed since that visit is known when the head is reached again. The first visits are
followed one by one, which is exact; after `unroll` of them the head's state is widened until it covers the next.

The nodes and edges that remain are a finite graph that every run follows; `pybpf.verifier.loops` says how long a run can be.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pybpf.errors import BudgetExceeded
from pybpf.program import Program
from pybpf.program_types import Entry
from pybpf.verifier import loops
from pybpf.verifier.cfg import Graph
from pybpf.verifier.explain import Refusal
from pybpf.verifier.forget import Forgetting
from pybpf.verifier.lattice import Lattice, relations, thresholds
from pybpf.verifier.liveness import Live
from pybpf.verifier.loops import Change
from pybpf.verifier.state import State
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import Atom, Cell, Number
from pybpf.verifier.walk import Place, Walk


@dataclass(frozen=True, slots=True)
class Effort:
    """How much an attempt may spend before it gives up precision. None is without limit.

    `widths`: how many states are kept at a block before those are joined that differ in nothing but ranges of numbers; in
    constants; in offsets and proofs; in anything. `unroll`: visits of a loop's head followed one by one. `share`: the part of the
    budget that the attempt may use. `lasting`: what was proved of the packet outlives the pointers that it is about; always where the program is given the length to compare.
    """

    widths: tuple[int, int, int, int] | None
    unroll: int | None
    share: float = 1.0
    lasting: bool = True


LADDER: Final = (
    Effort((1, 2, 128, 256), 16, lasting=False),
    Effort((1, 12, 128, 256), 16, lasting=False),
    Effort((16, 64, 256, 512), 1024),
    Effort(None, None, share=0.07),
)
"""Attempts in order: each is a proof of its own, and only one that lost precision is followed by the next.

Numbers are joined early and what pointers are late: a number that is lost costs walks down both sides of a branch, a pointer that
is lost costs the proof. States that hold the same pointers differ in numbers that rarely matter to safety; states that hold
different ones often remember by a number which they hold.
"""

APART: Final = (Effort((16, 64, 256, 512), 16), *LADDER[2:])
"""The attempts for small programs: paths are few, and facts (the bound on instructions, ranges, branches that are never taken) are
worth being learned of each apart.
"""

SMALL: Final = 1000
"""Programs of so many instructions are small."""

STATE_BYTES: Final = 2048
"""What a state takes, with its place in the graph: measured, rounded up."""

VALUE_BYTES: Final = 1024
"""What an interned number or pointer takes, with what was computed from it: measured, rounded up."""

OFTEN: Final = 16
"""States and memory are looked at after so many states."""

RECENT: Final = 8
"""How many of the latest nodes at a place are looked at for one that covers a state: older ones rarely do."""


@dataclass(eq=False, slots=True)
class Node:
    """One state at the entry of one block.

    `live` are the cells that may be read behind here; `differs` is where among them the last state was not covered.
    `parent` is the node that led here first; `joined` says that the state, or one before it, stands for more than one path.
    `loops` are the loops that the place is in, by the place of their head, outermost first. `tags` are the identities by
    which a head's numbers are known again; `previous` is the visit of the head before this one, `turn` how many there were.
    """

    place: Place
    state: State
    live: tuple[Cell, ...]
    parent: Node | None
    joined: bool
    loops: tuple[Place, ...]
    widened: bool = False
    tags: frozenset[Atom] = frozenset()
    previous: Node | None = None
    turn: int = 0
    cost: int = 0
    edges: list[Edge] = field(default_factory=list)
    differs: int = 0
    _kept: frozenset[Atom] | None = None

    @property
    def kept(self) -> frozenset[Atom]:
        """The relations that the state depends on."""
        if self._kept is None:
            self._kept = relations(self.state) | self.state.tags
        return self._kept


@dataclass(eq=False, slots=True)
class Edge:
    """A step from one node to the next. For one that comes back to a loop's head, `head` is the head's last visit and
    `change` what changed since.
    """

    target: Node
    head: Node | None = None
    change: Change = field(default_factory=dict)


class Failure(Exception):
    """A refusal, with the node it happened in, or None where no state is to blame."""

    def __init__(self, refusal: Refusal, node: Node | None, *, imprecise: bool, explored: int) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.node = node
        self.imprecise = imprecise
        self.explored = explored


class Exploration:
    """One attempt at a width. `run` gives the bound on executed instructions or raises `Failure`."""

    def __init__(
        self, program: Program, graph: Graph, live: Mapping[int, Live], transfer: Transfer, effort: Effort
    ) -> None:
        self.program = program
        self.graph = graph
        self.forgetting = Forgetting(
            transfer.values, live, lasting=effort.lasting or Entry.LENGTH in transfer.type.entry
        )
        self.transfer = transfer
        self.effort = effort
        self.lattice = Lattice(
            transfer.values, leaks=transfer.policy.pointer_leaks, apart=transfer.policy.linux_limits
        )
        self.walk = Walk(program, graph, transfer)
        self.walk.watch = self._watch
        self.explored = 0
        self.joined = False
        """Whether states were joined or widened."""
        self.blocks = self.walk.blocks
        self.loops_exist = any(block.loops for block in self.blocks.values())
        self.budget = int(transfer.policy.max_explored * effort.share)
        self.kept = 0
        """How many states were kept."""
        self._start = 0
        self._pending: dict[Place, list[tuple[State, Node | None]]] = {}
        self._queue: list[tuple[tuple[int, ...], Place]] = []
        self._done: dict[tuple[Place, tuple[Node, ...]], list[Node]] = {}
        self._exact: dict[tuple[object, ...], Node] = {}
        self._call_blocks: dict[int, int] = {b.pcs[-1]: s for s, b in self.blocks.items()}
        self._thresholds: list[int] | None = None

    def explore(self) -> None:
        """Walk every state from the entry on."""
        self._arrive(self.walk.start, self.walk.begin(), None)
        while self._queue:
            _, place = heapq.heappop(self._queue)
            self._take_up(place)

    def run(self) -> int:
        """Explore from the entry, and prove that every run ends."""
        self.explore()
        try:
            return loops.bound(self.root)
        except loops.Endless as endless:
            pc = endless.node.place[1]
            refusal = Refusal(
                "infinite-loop",
                f"the loop at pc {pc} may never end: nothing is known to move one way on every turn",
                "a counter that changes on every path through the loop, and a test that bounds it",
            )
            refusal.pc = pc
            raise Failure(refusal, endless.node, imprecise=self.imprecise, explored=self.explored) from None

    @property
    def root(self) -> Node:
        """The state at the entry."""
        return self._done[self.walk.start, ()][0]

    @property
    def imprecise(self) -> bool:
        """Whether something was given up that a proof may need: a failure may then be ours."""
        return self.joined or self.forgetting.lossy

    def release(self) -> None:
        """Take the graph apart, which otherwise only the cycle collector could free, at a cost."""
        for node in self._exact.values():
            node.edges = []
        for nodes in self._done.values():
            for node in nodes:
                node.edges = []
        self.walk.release()

    def _arrive(self, place: Place, state: State, parent: Node | None) -> None:
        waiting = self._pending.get(place)
        if waiting is None:
            calls, start = place
            order = (
                *(self.blocks[self._call_blocks[pc]].position for pc in calls),
                self.blocks[start].position,
            )
            self._pending[place] = [(state, parent)]
            heapq.heappush(self._queue, (order, place))
        else:
            waiting.append((state, parent))

    def _take_up(self, place: Place) -> None:
        """Turn the states that wait at a block into nodes, as few as possible, and walk each through the block."""
        active = self._loops(place)
        pick = self.forgetting.pick(place[1])
        fresh: list[Node] = []
        for state, parent in self._pending.pop(place):
            self.forgetting.at(place[1], state)
            visits = tuple(visit for visit in state.visits if visit.place in active)
            head = visits[-1] if visits and visits[-1].place == place else None
            state.visits = visits if head is None else visits[:-1]
            change = {} if head is None else loops.change(head.state, state)
            self._unpin(state)
            live = pick(state.cells)
            node = self._known(place, state, live, fresh, head, change)
            if node is None:
                node = self._new(place, state, live, parent, head, active)
                fresh.append(node)
            if parent is not None:
                parent.edges.append(Edge(node, head, change))
        if len(fresh) > 1 and self.effort.widths is not None and not self.blocks[place[1]].head:
            fresh = self._join_alike(place, fresh, self.effort.widths)
        for node in fresh:
            self._done.setdefault((place, node.state.visits), []).append(node)
        for node in fresh:
            self._walk(node)

    def _unpin(self, state: State) -> None:
        """Constants are told apart by their identity only as long as a loop may ask for it."""
        if not self.loops_exist:
            return
        tags = state.tags
        for index, cell in enumerate(state.cells):
            if (
                cell is not None
                and isinstance(cell, Number)
                and cell.value is not None
                and cell.form
                and cell.bases.isdisjoint(tags)
            ):
                state.cells[index] = self.transfer.values.constant(cell.value)

    def _loops(self, place: Place) -> tuple[Place, ...]:
        """The loops that a place is in, by the place of their heads: its own, and those of the calls that led there."""
        calls, start = place
        around = [
            (calls[:depth], head)
            for depth, call in enumerate(calls)
            for head in self.blocks[self._call_blocks[call]].loops
        ]
        return (*around, *((calls, head) for head in self.blocks[start].loops))

    def _known(
        self,
        place: Place,
        state: State,
        live: tuple[Cell, ...],
        fresh: list[Node],
        head: Node | None,
        change: Change,
    ) -> Node | None:
        """A node that stands for the state already. One that the state's own path went through must not, while that only
        shows that the path may come back: what has changed since may well end the loop.
        """
        node = self._exact.get((place, live, *state.key()))
        if node is not None:
            return node
        stuck = head is not None and not any(change.values())
        may_cover = self.lattice.may_cover
        done = self._done.get((place, state.visits), _NO_NODES)
        for node in (*done[-RECENT:], *fresh[-RECENT:]):
            theirs, differs = node.live, node.differs
            a, b = theirs[differs], live[differs]
            if a is not b and not may_cover(a, b):
                continue
            for differs, a in enumerate(theirs):
                b = live[differs]
                if a is not b and not may_cover(a, b):
                    node.differs = differs
                    break
            else:
                if (
                    node.state.visits == state.visits
                    and self.lattice.covers(node.state, node.kept, state)
                    and not (
                        stuck and not node.widened and _led_to(node, head) and self._is_smaller(state, node)
                    )
                ):
                    return node
        return None

    def _is_smaller(self, state: State, node: Node) -> bool:
        """Whether a state that a node covers does not cover it in turn: going on from it may then come to an end."""
        kept = relations(state) | state.tags
        return not self.lattice.covers(state, kept, node.state)

    def _new(
        self,
        place: Place,
        state: State,
        live: tuple[Cell, ...],
        parent: Node | None,
        head: Node | None,
        active: tuple[Place, ...],
    ) -> Node:
        """A node for a state that no other stands for, widened if it is one visit of a loop's head too many."""
        joined = parent is not None and parent.joined
        is_head = bool(active) and active[-1] == place
        widened = False
        if is_head:
            done = self._done.get((place, state.visits), [])
            if self.effort.unroll is not None and len(done) >= self.effort.unroll:
                state, widened = self._widen(place, state, live, done), True
                # Where a pointer may now be anywhere, nothing is left of what was proved about where it was.
                self.forgetting.forget_proofs(state)
                self.joined = joined = True
            self.lattice.name_numbers(state, ("head", place[1], len(self._exact)))
            live = self.forgetting.pick(place[1])(state.cells)
        node = Node(place, state, live, parent, joined, active, widened)
        if head is not None:
            node.previous, node.turn = head, head.turn + 1
        self._exact[place, live, *state.key()] = node
        if is_head:
            node.tags = self.lattice.names_of_numbers(state)
        return node

    def _widen(self, place: Place, state: State, live: tuple[Cell, ...], done: list[Node]) -> State:
        """A state that covers this one and the last of its shape, with ranges pushed to the next threshold."""
        shape = _SHAPES[2]
        like = [node for node in done[-RECENT:] if shape(node.live, node.state) == shape(live, state)]
        if not like:
            return state
        if self._thresholds is None:
            self._thresholds = thresholds(self.program)
        return self.lattice.widen(like[-1].state, state, place[1], self._thresholds)

    def _join_alike(self, place: Place, nodes: list[Node], widths: Sequence[int]) -> list[Node]:
        """Join until the widths are kept: first states that differ in ranges alone, at last all of one visit."""
        for shape, width in zip(_SHAPES, widths, strict=True):
            if len(nodes) > width:
                groups: dict[object, list[Node]] = {}
                for node in nodes:
                    groups.setdefault((node.state.visits, shape(node.live, node.state)), []).append(node)
                nodes = [self._join(place, group) for group in groups.values()]
        return nodes

    def _join(self, place: Place, group: list[Node]) -> Node:
        if len(group) == 1:
            return group[0]
        self.joined = True
        state = group[0].state
        for node in group[1:]:
            state = self.lattice.join(state, node.state, place[1])
        first = group[0]
        live = self.forgetting.pick(place[1])(state.cells)
        joined = Node(place, state, live, first.parent, True, first.loops)
        for node in group:
            # The nodes that were joined stay in the graph as steps of no cost: edges already lead to them.
            node.edges.append(Edge(joined))
        return joined

    def _walk(self, node: Node) -> None:
        start = node.place[1]
        block = self.blocks[start]
        state = node.state.copy()
        if node.loops and node.loops[-1] == node.place:
            state.visits = (*state.visits, node)
        node.cost = len(block.pcs)
        self.explored += node.cost
        self.kept += 1
        self._start = start
        if self.explored > self.budget or not self.kept % OFTEN:
            self._check_budgets(start)
        try:
            for place, after in self.walk.through(node.place, state):
                self._arrive(place, after, node)
        except Refusal as refusal:
            raise Failure(refusal, node, imprecise=self.imprecise, explored=self.explored) from None

    def _watch(self, _: State) -> None:
        """Values may become many inside one block, too."""
        self._check_budgets(self._start)

    def _check_budgets(self, pc: int) -> None:
        """The number of the `BudgetExceeded` is in the unit of the budget that is used up."""
        policy = self.transfer.policy
        memory = self.kept * STATE_BYTES + self.transfer.values.count * VALUE_BYTES
        if self.explored > self.budget:
            used, what = self.explored, f"{self.explored} instructions"
        elif self.kept > policy.max_states:
            used, what = self.kept, f"{self.kept} states"
        elif memory > policy.max_memory:
            used, what = memory, f"{memory / 2**20:.1f} MB of states"
        else:
            return
        message = f"verification stopped after {what}: {self._crowded()}"
        raise BudgetExceeded(message, used, program=self.program.name, pc=pc)

    def _crowded(self) -> str:
        """Where states multiplied, for the message of an exhausted budget."""
        count: dict[Place, int] = {}
        for (place, _), nodes in self._done.items():
            count[place] = count.get(place, 0) + len(nodes)
        place, most = max(count.items(), key=lambda item: item[1])
        source = self.program.source(place[1])
        where = f" ({source.file}:{source.line})" if source is not None else ""
        return f"most states, {most}, are at pc {place[1]}{where}"


_NO_NODES: Final[list[Node]] = []


def _led_to(node: Node, head: Node | None) -> bool:
    """Whether a visit of a loop's head is one of those that led to another."""
    while head is not None and head.turn > node.turn:
        head = head.previous
    return head is node


_Shape = Callable[[tuple[Cell, ...], State], object]


def _shape(level: int) -> _Shape:
    """What must be equal for two states to be joined, as a key: how their live cells are alike and, but for the coarsest, what was proved."""

    def alike(cell: Cell) -> object:
        return None if cell is None else cell.alike[level]

    def shape(live: tuple[Cell, ...], state: State) -> object:
        cells = tuple([None if cell is None else cell.alike[level] for cell in live])
        frames = tuple([tuple(map(alike, frame.cells)) for frame in state.frames])
        return cells, frames, state.held, frozenset(state.proofs.items()) if level < 2 else None

    return shape


_SHAPES: Final[tuple[_Shape, ...]] = (_shape(0), _shape(1), _shape(2), lambda live, state: state.held)
"""From fine to coarse; what must be given back is never joined with what need not be."""
