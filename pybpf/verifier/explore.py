"""The order of exploration: sets of states per block, in weak topological order, pruned and joined. Knows no instruction.

A block is taken up when every state that can reach it before has arrived. Equal states fall together; a state that an
earlier one covers is dropped; where more than `width` are left, the most alike are joined. A join may lose what a proof
needs, so a failure after a join is tried again with a greater width, at last without joins.

The nodes and edges that remain are a finite graph that every run follows. It must have no cycle: a run that comes back to
a state it was in may do so for ever. Without a cycle the longest way through it bounds the instructions of any run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pybpf.errors import BudgetExceeded
from pybpf.isa import Kind
from pybpf.program import Program
from pybpf.verifier.branches import Branches
from pybpf.verifier.cfg import Block, Graph
from pybpf.verifier.explain import Refusal
from pybpf.verifier.lattice import Lattice
from pybpf.verifier.state import R10, State
from pybpf.verifier.transfer import Step, Transfer
from pybpf.verifier.values import LENGTH, Atom, Number, Pieces, Pointer, bases_of

LADDER: Final = (16, 64, None)
"""How many states a block may keep before the most alike are joined: each attempt is a proof of its own."""

Place = tuple[tuple[int, ...], int]
"""A block under a stack of calls: the slots of the calls, the block's first slot."""


@dataclass(eq=False, slots=True)
class Node:
    """One state at the entry of one block.

    `parent` is the node that led here first; `joined` says that the state, or one before it, stands for more than one path.
    """

    place: Place
    state: State
    kept: frozenset[Atom]
    parent: Node | None
    joined: bool
    cost: int = 0
    successors: list[Node] = field(default_factory=list)


class Failure(Exception):
    """A refusal, with the node it happened in, or None where no state is to blame."""

    def __init__(self, refusal: Refusal, node: Node | None, *, joins: bool, explored: int) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.node = node
        self.joins = joins
        self.explored = explored


class Exploration:
    """One attempt at a width. `run` gives the bound on executed instructions or raises `Failure`."""

    def __init__(
        self, program: Program, graph: Graph, live: Mapping[int, int], transfer: Transfer, width: int | None
    ) -> None:
        self.program = program
        self.graph = graph
        self.live = live
        self.transfer = transfer
        self.width = width
        self.budget = transfer.policy.max_states
        self.lattice = Lattice(transfer.values, leaks=transfer.policy.pointer_leaks)
        self.branches = Branches(transfer)
        self.explored = 0
        self.joins = False
        self.blocks: dict[int, Block] = {s: b for f in graph.functions.values() for s, b in f.blocks.items()}
        self._steps: dict[int, list[tuple[int, Step]]] = {}
        self._pending: dict[Place, list[tuple[State, Node | None]]] = {}
        self._queue: list[tuple[tuple[int, ...], Place]] = []
        self._done: dict[Place, list[Node]] = {}
        self._exact: dict[tuple[object, ...], Node] = {}
        self._call_blocks: dict[int, int] = {b.pcs[-1]: s for s, b in self.blocks.items()}

    def run(self) -> int:
        """Explore from the entry."""
        self._arrive(((), 0), self.transfer.entry(), None)
        while self._queue:
            _, place = heapq.heappop(self._queue)
            self._take_up(place)
        return self._longest_run()

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
        arrived = self._pending.pop(place)
        done = self._done.setdefault(place, [])
        fresh: list[Node] = []
        for state, parent in arrived:
            self._forget_dead(state, place[1])
            key = (place, *state.key())
            node = self._exact.get(key)
            if node is None:
                node = self._covering(state, (*done, *fresh))
            if node is None:
                joined = parent is not None and parent.joined
                node = Node(place, state, self.lattice.relations(state), parent, joined)
                self._exact[key] = node
                fresh.append(node)
            if parent is not None:
                parent.successors.append(node)
        if self.width is not None and len(fresh) > self.width and not self.blocks[place[1]].loop:
            fresh = self._join_alike(place, fresh)
        done += fresh
        for node in fresh:
            self._walk(node)

    def _forget_dead(self, state: State, start: int) -> None:
        """What no instruction reads is not compared: dead cells, and proofs about pointers that are gone."""
        live = self.live[start] | 1 << R10
        cells = state.cells
        bases: set[Atom] = set()
        for index, cell in enumerate(cells):
            if cell is None:
                continue
            if not live >> index & 1:
                cells[index] = None
            elif isinstance(cell, Pieces):
                for _, _, value in cell.parts:
                    bases |= value.bases
            else:
                bases |= cell.bases
        if len(state.proofs) > 1:
            for frame in state.frames:
                for cell in frame.cells:
                    if isinstance(cell, (Number, Pointer)):
                        bases |= cell.bases
                    elif cell is not None:
                        for _, _, value in cell.parts:
                            bases |= value.bases
            bases.add(LENGTH)
            state.proofs = {atoms: n for atoms, n in state.proofs.items() if bases_of(atoms) <= bases}

    def _covering(self, state: State, nodes: Iterable[Node]) -> Node | None:
        for node in nodes:
            if self.lattice.covers(node.state, node.kept, state):
                return node
        return None

    def _join_alike(self, place: Place, nodes: list[Node]) -> list[Node]:
        """Join until the width is kept: first states that differ in ranges alone, at last all."""
        assert self.width is not None
        for shape in _SHAPES:
            groups: dict[object, list[Node]] = {}
            for node in nodes:
                groups.setdefault(shape(node.state), []).append(node)
            nodes = [self._join(place, group) for group in groups.values()]
            if len(nodes) <= self.width:
                break
        return nodes

    def _join(self, place: Place, group: list[Node]) -> Node:
        if len(group) == 1:
            return group[0]
        self.joins = True
        state = group[0].state
        for node in group[1:]:
            state = self.lattice.join(state, node.state, place[1])
        joined = Node(place, state, self.lattice.relations(state), group[0].parent, joined=True)
        for node in group:
            # The nodes that were joined stay in the graph as steps of no cost: edges already lead to them.
            node.successors.append(joined)
        return joined

    def _walk(self, node: Node) -> None:
        calls, start = node.place
        block = self.blocks[start]
        state = node.state.copy()
        steps = self._steps.get(start)
        if steps is None:
            steps = self._steps[start] = self._compile(block)
        node.cost = len(block.pcs)
        self.explored += node.cost
        if self.explored > self.budget:
            raise BudgetExceeded(
                f"verification stopped after {self.explored} instructions: {self._crowded()}",
                self.explored,
                program=self.program.name,
                pc=start,
            )
        self.transfer.recorder.reached(block.pcs)
        at = start
        try:
            for pc, step in steps:
                at = pc
                step(state)
            at = block.pcs[-1]
            self._leave(node, calls, block, state)
        except Refusal as refusal:
            refusal.pc = at
            raise Failure(refusal, node, joins=self.joins, explored=self.explored) from None

    def _compile(self, block: Block) -> list[tuple[int, Step]]:
        """The steps of a block: all but an instruction that chooses the next block."""
        last = self.program.code[block.pcs[-1]].op.kind
        pcs = block.pcs[:-1] if last in (Kind.BRANCH, Kind.EXIT, Kind.CALL_LOCAL) else block.pcs
        return [(pc, self.transfer.step(pc)) for pc in pcs]

    def _leave(self, node: Node, calls: tuple[int, ...], block: Block, state: State) -> None:
        pc = block.pcs[-1]
        instruction = self.program.code[pc]
        match instruction.op.kind:
            case Kind.BRANCH:
                for taken, after in self.branches.sides(state, pc, instruction):
                    target = instruction.target(pc) if taken else pc + instruction.slots
                    self._arrive((calls, target), after, node)
            case Kind.EXIT if not calls:
                self.transfer.check_result(state)
            case Kind.EXIT:
                self.transfer.leave_function(state)
                call = calls[-1]
                self._arrive((calls[:-1], call + self.program.code[call].slots), state, node)
            case Kind.CALL_LOCAL:
                self.transfer.enter_function(state, pc)
                self._arrive(((*calls, pc), instruction.target(pc)), state, node)
            case _:
                self._arrive((calls, block.successors[0]), state, node)

    def _crowded(self) -> str:
        """Where states multiplied, for the message of an exhausted budget."""
        place, nodes = max(self._done.items(), key=lambda item: len(item[1]))
        source = self.program.source(place[1])
        where = f" ({source.file}:{source.line})" if source is not None else ""
        return f"most states, {len(nodes)}, are at pc {place[1]}{where}"

    def _longest_run(self) -> int:
        """The cost of the longest way through the nodes; a cycle is a loop whose end is not proved."""
        longest: dict[Node, int] = {}
        on_path: set[Node] = set()
        root = self._done[(), 0][0]
        visits = [(root, iter(root.successors))]
        on_path.add(root)
        while visits:
            node, successors = visits[-1]
            for successor in successors:
                if successor in on_path:
                    refusal = Refusal(
                        "infinite-loop",
                        f"the loop at pc {successor.place[1]} may never end: it comes back to a state it was in",
                        "something that changes on every turn, and a bound on it",
                    )
                    refusal.pc = successor.place[1]
                    raise Failure(refusal, node, joins=self.joins, explored=self.explored)
                if successor not in longest:
                    on_path.add(successor)
                    visits.append((successor, iter(successor.successors)))
                    break
            else:
                visits.pop()
                on_path.discard(node)
                longest[node] = node.cost + max((longest[s] for s in node.successors), default=0)
        return longest[root]


def _shape(*, constants: bool, offsets: bool, proofs: bool) -> Callable[[State], object]:
    """What must be equal for two states to be joined, as a key."""

    def cell_shape(cell: object) -> object:
        if isinstance(cell, Number):
            return ("number", cell.value) if constants else "number"
        if isinstance(cell, Pointer):
            where = cell.offset if offsets and cell.variable is None else None
            return cell.target, cell.number, cell.null is None, where
        return cell is None

    def shape(state: State) -> object:
        cells = tuple(map(cell_shape, state.cells))
        frames = tuple(tuple(map(cell_shape, frame.cells)) for frame in state.frames)
        return cells, frames, frozenset(state.proofs.items()) if proofs else None

    return shape


_SHAPES: Final = (
    _shape(constants=True, offsets=True, proofs=True),
    _shape(constants=False, offsets=True, proofs=True),
    _shape(constants=False, offsets=False, proofs=False),
    lambda state: None,
)
"""From fine to coarse."""
