"""The structure of a program: functions, blocks, loops, and the order in which blocks are visited.

These rules come first, and need no abstract state: jumps stay in their function and land on instructions, no path falls
off the end, every instruction can be reached, functions do not call themselves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.instruction import Instruction
from pybpf.isa import Kind
from pybpf.memory import MAX_FRAMES
from pybpf.program import Program, Subprogram
from pybpf.verifier.callbacks import callees
from pybpf.verifier.explain import StructureError

MAX_LOOP_DEPTH: Final = 32
"""How deep loops may nest: to find each level takes a walk through what it holds, and no program that people write comes near."""


@dataclass(slots=True)
class Block:
    """Instructions that run one after the other. `pcs` are their slots, `successors` the blocks that may follow, a
    branch's fall-through first. `position` is the block's place in the weak topological order of its function. `loops` are
    the first slots of the heads of the loops that the block is part of, outermost first; a head is part of its own.
    """

    start: int
    pcs: tuple[int, ...]
    successors: tuple[int, ...]
    position: int = 0
    loops: tuple[int, ...] = ()

    @property
    def head(self) -> bool:
        """Whether a loop begins here."""
        return self.start in self.loops


@dataclass(slots=True)
class Function:
    """A function: its entry, its blocks by first slot, and the functions it calls or lets a helper call, by the slot of the call;
    `register_calls` are the slots of the calls through a register, of which only a state knows what they call.
    """

    entry: int
    blocks: dict[int, Block] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    register_calls: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Graph:
    """The functions of a program by their entry, and `back_edges` as pairs of slots in the order of discovery. `addressed` are the
    functions whose address the program takes. `callbacks` are the slots of helper calls that take a callback, and the
    callback's entry: such a call is a block and a loop of its own. Runs begin at `entry`; calls of the functions that are `prototyped`
    are not followed, and those of them that are `moving` may move the packet (`pybpf.verifier.prototypes`).
    """

    functions: Mapping[int, Function]
    back_edges: tuple[tuple[int, int], ...]
    addressed: frozenset[int] = frozenset()
    callbacks: Mapping[int, int] = field(default_factory=dict)
    entry: int = 0
    prototyped: Mapping[int, Subprogram] = field(default_factory=dict)
    moving: frozenset[int] = frozenset()

    @property
    def executed_again(self) -> frozenset[int]:
        """The slots that one run may execute more than once: in loops, and in functions called from more than one place."""
        calls: Counter[int | None] = Counter()
        again: set[int | None] = set()
        for function in self.functions.values():
            ends = {block.pcs[-1]: block for block in function.blocks.values()}
            for pc, callee in self._calls(function):
                calls[callee] += 1
                if ends[pc].loops:
                    again.add(callee)
        if calls[None]:
            calls.update(self.addressed)
        again.update(callee for callee, times in calls.items() if times > 1)
        work = list(again)
        while work:
            caller = work.pop()
            called: Iterable[int | None] = self.addressed
            if caller is not None:
                called = (callee for _, callee in self._calls(self.functions[caller]))
            for callee in called:
                if callee not in again:
                    again.add(callee)
                    work.append(callee)
        slots: set[int] = set()
        for function in self.functions.values():
            for block in function.blocks.values():
                if block.loops or function.entry in again:
                    slots.update(block.pcs)
        return frozenset(slots)

    @staticmethod
    def _calls(function: Function) -> Iterator[tuple[int, int | None]]:
        """The calls of a function and whom they are of, None where it may be any function whose address is taken."""
        yield from function.calls.items()
        for pc in function.register_calls:
            yield pc, None


def build(program: Program) -> Graph:
    """The graph of a program. Raises `StructureError`, and `UnsupportedError` for instructions that only a kernel has."""
    code = program.code
    if not code:
        raise StructureError("empty-program", "the program has no instructions", None)
    _only_known(program)
    called, addressed = {0}, set()
    for pc, instruction in code.items():
        kind = instruction.op.kind
        if kind is Kind.CALL_LOCAL:
            called.add(_checked(code, pc, instruction.target(pc), "call"))
        elif kind is Kind.LOAD_IMM64 and (function_at := program.function_at(pc)) is not None:
            addressed.add(_checked(code, pc, function_at, "function reference"))
    starts = sorted(called | addressed)
    callbacks = callees(program)
    pcs = sorted(code)
    functions: dict[int, Function] = {}
    back_edges: list[tuple[int, int]] = []
    for entry, end in zip(starts, [*starts[1:], pcs[-1] + 1], strict=True):
        own = pcs[bisect_left(pcs, entry) : bisect_left(pcs, end)]
        functions[entry] = function = _function(code, own, end, callbacks)
        back_edges += _order(function)
    _no_recursion(functions)
    return Graph(functions, tuple(back_edges), frozenset(addressed), callbacks)


def _only_known(program: Program) -> None:
    """Where the code of a program goes from an instruction of Linux's kernel, nobody here knows."""
    for pc, instruction in program.code.items():
        if instruction.op.kind is Kind.KERNEL:
            name = instruction.op.code
            message = f"{name} means nothing outside of Linux's kernel"
            raise UnsupportedError(message, name, program=program.name, pc=pc)


def _checked(code: Mapping[int, Instruction], pc: int, target: int, what: str) -> int:
    if target in code:
        return target
    if target - 1 in code and code[target - 1].slots == 2:
        message = f"{what} from pc {pc} into the middle of the wide load at pc {target - 1}"
    else:
        message = f"{what} out of range from pc {pc} to pc {target}"
    raise StructureError("jump-range", message, pc)


def _function(
    code: Mapping[int, Instruction], pcs: list[int], end: int, callbacks: Mapping[int, int]
) -> Function:
    """The blocks of the function of these slots, which ends before `end`."""
    entry = pcs[0]
    function = Function(entry)
    leaders = {entry}
    after: dict[int, tuple[int, ...]] = {}
    for pc in pcs:
        instruction = code[pc]
        kind = instruction.op.kind
        following = pc + instruction.slots
        if kind is Kind.EXIT:
            after[pc] = ()
        elif kind is Kind.JUMP:
            after[pc] = (_target(code, pc, entry, end),)
        elif kind is Kind.BRANCH:
            after[pc] = (following, _target(code, pc, entry, end))
        elif pc in callbacks:
            function.calls[pc] = callbacks[pc]
            leaders.add(pc)
            after[pc] = (following, pc)
        else:
            if kind is Kind.CALL_LOCAL:
                function.calls[pc] = instruction.target(pc)
                leaders.add(following)
            elif kind is Kind.CALL_REGISTER:
                function.register_calls.append(pc)
                leaders.add(following)
            after[pc] = (following,)
        if len(after[pc]) != 1 or after[pc] != (following,):
            leaders.update(after[pc])
            leaders.add(following)
    _reachable(code, after, entry, pcs, end)
    for index, pc in enumerate(pcs):
        if pc in leaders:
            stop = next((i for i in range(index + 1, len(pcs)) if pcs[i] in leaders), len(pcs))
            chain = tuple(pcs[index:stop])
            successors = tuple(dict.fromkeys(after[chain[-1]]))
            function.blocks[pc] = Block(pc, chain, successors)
    return function


def _target(code: Mapping[int, Instruction], pc: int, entry: int, end: int) -> int:
    target = _checked(code, pc, code[pc].target(pc), "jump")
    if not entry <= target < end:
        raise StructureError("jump-range", f"jump out of the function from pc {pc} to pc {target}", pc)
    return target


def _reachable(
    code: Mapping[int, Instruction],
    after: Mapping[int, tuple[int, ...]],
    entry: int,
    pcs: list[int],
    end: int,
) -> None:
    seen: set[int] = set()
    work = [entry]
    while work:
        pc = work.pop()
        if pc in seen:
            continue
        seen.add(pc)
        for successor in after[pc]:
            if successor >= end or successor not in after:
                raise StructureError(
                    "fall-through",
                    "control falls off the end: the last instruction is neither exit nor a jump",
                    pc,
                )
            work.append(successor)
    for pc in pcs:
        if pc not in seen:
            raise StructureError("unreachable", f"unreachable instruction at pc {pc}", pc)


def _order(function: Function) -> list[tuple[int, int]]:
    """Give every block its position in a weak topological order (Bourdoncle 1993) and find the back edges.

    A cycle's blocks stand together, its head first, so that a loop is done before what comes behind it is begun.
    """
    blocks = function.blocks
    position = 0
    work: list[tuple[set[int], int]] = [(set(blocks), function.entry)]
    # A stack of pieces still to be laid out, the next one last; a piece is a set of blocks and its entry.
    while work:
        members, entry = work.pop()
        if len(members) == 1 and entry not in blocks[entry].successors:
            blocks[entry].position = position
            position += 1
            continue
        components = _components(blocks, members, entry)
        if len(components) > 1:
            entered = _entered(blocks, members, components)
            work += [
                (part, entry if entry in part else first)
                for part, first in zip(components, entered, strict=True)
            ]
            continue
        if len(blocks[entry].loops) == MAX_LOOP_DEPTH:
            message = f"loops nest deeper than {MAX_LOOP_DEPTH}"
            raise StructureError("loop-depth", message, entry)
        for start in members:
            blocks[start].loops += (entry,)
        blocks[entry].position = position
        position += 1
        components = _components(blocks, members - {entry}, None)
        work += zip(components, _entered(blocks, members, components), strict=True)
    return _back_edges(function)


def _entered(blocks: Mapping[int, Block], members: set[int], components: list[set[int]]) -> list[int]:
    """Where each component is entered: the first block, by address, that another of the members jumps to."""
    part_of = {start: number for number, part in enumerate(components) for start in part}
    first: dict[int, int] = {}
    for start in members:
        for successor in blocks[start].successors:
            number = part_of.get(successor)
            if number is not None and number != part_of.get(start):
                first[number] = min(successor, first.get(number, successor))
    return [first[number] if number in first else min(part) for number, part in enumerate(components)]


def _components(blocks: Mapping[int, Block], members: set[int], entry: int | None) -> list[set[int]]:
    """Strongly connected components, last in topological order first (Tarjan 1972, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[set[int]] = []
    roots: Iterable[int] = sorted(members) if entry is None else [entry, *sorted(members - {entry})]
    for root in roots:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        visits = [(root, iter([s for s in blocks[root].successors if s in members]))]
        while visits:
            node, successors = visits[-1]
            for successor in successors:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    visits.append(
                        (successor, iter([s for s in blocks[successor].successors if s in members]))
                    )
                    break
                if successor in on_stack:
                    low[node] = min(low[node], index[successor])
            else:
                visits.pop()
                if visits:
                    low[visits[-1][0]] = min(low[visits[-1][0]], low[node])
                if low[node] == index[node]:
                    component: set[int] = set()
                    while node not in component:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.add(member)
                    found.append(component)
    return found


def _back_edges(function: Function) -> list[tuple[int, int]]:
    """Edges to a block that a depth-first search has entered and not left (thesis, section 3.3), from slot to slot."""
    blocks = function.blocks
    state: dict[int, int] = {}
    edges: list[tuple[int, int]] = []
    visits = [(function.entry, iter(blocks[function.entry].successors))]
    state[function.entry] = 1
    while visits:
        start, successors = visits[-1]
        for successor in successors:
            if state.get(successor) == 1:
                edges.append((blocks[start].pcs[-1], successor))
            elif successor not in state:
                state[successor] = 1
                visits.append((successor, iter(blocks[successor].successors)))
                break
        else:
            state[start] = 2
            visits.pop()
    return edges


def _no_recursion(functions: Mapping[int, Function]) -> None:
    """No function calls itself by name. Of calls through a register the walk through the states knows more."""
    done: set[int] = set()

    def visit(entry: int, above: tuple[int, ...]) -> None:
        for pc, callee in functions[entry].calls.items():
            if callee == entry or callee in above:
                raise StructureError(
                    "recursion", f"call at pc {pc} to the function at pc {callee} is recursive", pc
                )
            if len(above) + 2 > MAX_FRAMES:
                raise StructureError(
                    "call-depth", f"call at pc {pc} nests deeper than {MAX_FRAMES} frames", pc
                )
            if callee not in done:
                visit(callee, (*above, entry))
        done.add(entry)

    for entry in functions:
        if entry not in done:
            visit(entry, ())
