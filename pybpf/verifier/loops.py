"""Why loops end: what changes from one visit of a loop's head to the next, and the bound that follows.

The nodes of an exploration are a finite graph that every run follows, so a run that does not end goes round a strongly
connected part of it for ever. Each edge back to a head knows how the cells changed since the head's last visit (`Change`).
If some cell moves one way on every edge into the heads of the outermost loop of the part, by at least a step, within the
range that the heads' states give it, then those edges are taken a bounded number of times; what remains without them must
end by the same argument, and so on inwards. This is a ranking function per loop (Floyd 1967), found by looking.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from pybpf.semantics import U64, signed
from pybpf.verifier.state import State
from pybpf.verifier.values import Number

if TYPE_CHECKING:
    from pybpf.verifier.explore import Edge, Node

Change = Mapping[tuple[int, str], int]
"""(cell, order) -> by how much the cell grew in the unsigned ("u") or signed ("s") order, exactly and without wrapping."""

N = TypeVar("N", bound=Hashable)
_HALF: Final = 1 << 63


class Endless(Exception):
    """A part of the graph for whose end there is no argument; `node` is a head in it."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node


def change(before: State, after: State) -> Change:
    """How the numbers of a head's state changed until the head is reached again."""
    changes: dict[tuple[int, str], int] = {}
    for cell, (a, b) in enumerate(zip(before.cells, after.cells, strict=True)):
        if a is None or not (isinstance(a, Number) and isinstance(b, Number)):
            continue
        if a.value is not None and b.value is not None:
            changes[cell, "u"] = b.value - a.value
            changes[cell, "s"] = signed(b.value, 64) - signed(a.value, 64)
        if a.form is not None and b.form is not None and a.form[0] == b.form[0]:
            step = signed(b.form[1] - a.form[1], 64)
            wide = b.scalar.wide
            # b = a + step modulo 2**64: no wrap upwards if b has come at least a step from the bottom, downwards likewise.
            if (step >= 0 and wide.umin >= step) or (step < 0 and wide.umax <= U64 + step):
                changes[cell, "u"] = step
            if (step >= 0 and wide.smin >= step - _HALF) or (step < 0 and wide.smax < _HALF + step):
                changes[cell, "s"] = step
    return changes


def bound(root: Node) -> int:
    """The cost of the longest run from a node. Raises `Endless`."""
    straight = _longest(root)
    if straight is not None:
        return straight
    nodes = _reachable(root)
    return _bound(nodes, {node: node.edges for node in nodes}, root)


def _longest(root: Node) -> int | None:
    """The cost of the longest way from a node, None if there are ways without end."""
    longest: dict[Node, int] = {}
    under_way = {root}
    visits = [(root, iter(root.edges))]
    while visits:
        node, following = visits[-1]
        for edge in following:
            target = edge.target
            if target in under_way:
                return None
            if target not in longest:
                under_way.add(target)
                visits.append((target, iter(target.edges)))
                break
        else:
            visits.pop()
            under_way.discard(node)
            longest[node] = node.cost + max([longest[edge.target] for edge in node.edges], default=0)
    return longest[root]


_Edges = Mapping["Node", Sequence["Edge"]]


def _reachable(root: Node) -> list[Node]:
    seen: dict[Node, None] = {root: None}
    work = [root]
    while work:
        for edge in work.pop().edges:
            if edge.target not in seen:
                seen[edge.target] = None
                work.append(edge.target)
    return list(seen)


def _bound(nodes: Iterable[Node], edges: _Edges, entry: Node | None) -> int:
    """The longest way through a graph: its strongly connected parts are bounded alone, then put in a row.

    From `entry`, or from any node if it is None.
    """
    components = strongly_connected(nodes, lambda node: (edge.target for edge in edges[node]))
    part_of: dict[Node, int] = {}
    longest: list[int] = []
    for number, component in enumerate(components):
        for node in component:
            part_of[node] = number
        behind = 0
        cyclic = len(component) > 1
        for node in component:
            for edge in edges[node]:
                target = part_of[edge.target]
                if target == number:
                    cyclic = True
                else:
                    behind = max(behind, longest[target])
        cost = _cycle_bound(component, edges) if cyclic else component[0].cost
        longest.append(cost + behind)
    return longest[part_of[entry]] if entry is not None else max(longest, default=0)


def _cycle_bound(component: Sequence[Node], edges: _Edges) -> int:
    """The cost of staying in a strongly connected part: turns of its outermost loop times the cost of one turn."""
    members = set(component)
    inside = {node: [edge for edge in edges[node] if edge.target in members] for node in component}
    turning = [edge for list_ in inside.values() for edge in list_ if edge.head is not None]
    if not turning:
        raise Endless(component[0])
    depth = min(len(edge.target.loops) for edge in turning)
    outermost = [edge for edge in turning if len(edge.target.loops) == depth]
    cut, turns = _ranked(outermost)
    if not cut:
        raise Endless(outermost[0].target)
    rest = {node: [edge for edge in list_ if edge not in cut] for node, list_ in inside.items()}
    # Between two of the cut edges a run stays in what is left without them, and there may be one more stay than edges taken.
    return (turns + 1) * _bound(component, rest, None)


def _ranked(edges: Sequence[Edge]) -> tuple[set[Edge], int]:
    """The edges that some cell bounds: it never moves back on any of them, and moves on by at least a step on these.

    With them, how often they can be taken in all.
    """
    best: tuple[set[Edge], int] = (set(), 0)
    candidates = set.intersection(*(set(edge.change) for edge in edges))
    for cell, order in sorted(candidates):
        for direction in (1, -1):
            steps = {edge: direction * edge.change[cell, order] for edge in edges}
            if min(steps.values()) < 0:
                continue
            moving = {edge for edge, step in steps.items() if step > 0}
            if not moving:
                continue
            turns = _span(edges, cell, order) // min(steps[edge] for edge in moving) + 1
            if (len(moving), -turns) > (len(best[0]), -best[1]):
                best = (moving, turns)
    return best


def _span(edges: Sequence[Edge], cell: int, order: str) -> int:
    """How far a cell can move in all: between the least and the greatest value that it has at a head."""
    lows, highs = [], []
    for edge in edges:
        for node in (edge.head, edge.target):
            assert node is not None
            number = node.state.cells[cell]
            if not isinstance(number, Number):
                return U64
            wide = number.scalar.wide
            lows.append(wide.umin if order == "u" else wide.smin)
            highs.append(wide.umax if order == "u" else wide.smax)
    return max(highs) - min(lows)


def strongly_connected(nodes: Iterable[N], successors: Callable[[N], Iterable[N]]) -> list[list[N]]:
    """Strongly connected components, last in topological order first (Tarjan 1972, without recursion)."""
    index: dict[N, int] = {}
    low: dict[N, int] = {}
    done: set[N] = set()
    stack: list[N] = []
    found: list[list[N]] = []
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        visits = [(root, iter(successors(root)))]
        while visits:
            node, following = visits[-1]
            for successor in following:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    visits.append((successor, iter(successors(successor))))
                    break
                if successor not in done:
                    low[node] = min(low[node], index[successor])
            else:
                visits.pop()
                if visits:
                    low[visits[-1][0]] = min(low[visits[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[N] = []
                    while node not in done:
                        component.append(stack.pop())
                        done.add(component[-1])
                    found.append(component)
    return found
