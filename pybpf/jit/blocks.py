"""The basic blocks of one function: where they begin, how they follow each other, which registers they need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pybpf.instruction import Instruction
from pybpf.isa import MAX_REGISTER, Kind, Operand

_ENDS: Final = (Kind.JUMP, Kind.BRANCH, Kind.EXIT)

ARGUMENTS: Final = 0b111110
"""r1 to r5 as a set of registers."""
EVERY: Final = (1 << MAX_REGISTER + 1) - 1
"""All registers."""


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that run one after another. `successors` has the target of a taken branch last."""

    pcs: tuple[int, ...]
    successors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The blocks of a function by first pc, in reverse postorder. Sets of registers are numbers: bit n is register n.

    `live` are the registers that are live at the start of each block; `loops`, for the blocks that begin a loop, all blocks of it; `carried`, for those, the
    registers that may be written inside it. A successor that is no block is a place that the verifier never reached.
    """

    blocks: Mapping[int, Block]
    predecessors: Mapping[int, tuple[int, ...]]
    live: Mapping[int, int]
    loops: Mapping[int, Collection[int]]
    carried: Mapping[int, int]


def successors(pc: int, instruction: Instruction) -> tuple[int, ...]:
    """Where control goes after an instruction, within its function."""
    after = pc + instruction.slots
    match instruction.op.kind:
        case Kind.EXIT:
            return ()
        case Kind.JUMP:
            return (instruction.target(pc),)
        case Kind.BRANCH:
            return (after, instruction.target(pc))
        case _:
            return (after,)


def function_graph(
    code: Mapping[int, Instruction],
    reached: Collection[int],
    entry: int,
    effect: Callable[[int, Instruction], tuple[int, int]],
) -> Graph:
    """The graph of the function that begins at `entry`, over the instructions that were reached.

    `effect` gives the registers that an instruction reads and writes.
    """
    leaders = _leaders(code, reached, entry)
    blocks = {start: _block(code, reached, leaders, start) for start in leaders}
    order = _reverse_postorder(blocks, entry)
    blocks = {start: blocks[start] for start in order}
    predecessors: dict[int, list[int]] = {start: [] for start in order}
    for start, block in blocks.items():
        for successor in dict.fromkeys(block.successors):
            if successor in predecessors:
                predecessors[successor].append(start)
    effects = {start: [effect(pc, code[pc]) for pc in block.pcs] for start, block in blocks.items()}
    loops = _loops(predecessors)
    return Graph(
        blocks,
        {start: tuple(before) for start, before in predecessors.items()},
        _live(blocks, predecessors, effects),
        loops,
        {head: _carried(entry, head, body, effects) for head, body in loops.items()},
    )


def _leaders(code: Mapping[int, Instruction], reached: Collection[int], entry: int) -> set[int]:
    """First pcs of blocks: the entry, what a jump goes to, what follows a branch."""
    leaders, seen, pending = {entry}, set[int](), [entry]
    while pending:
        pc = pending.pop()
        while pc not in seen:
            seen.add(pc)
            instruction = code[pc]
            if instruction.op.kind in _ENDS:
                following = [
                    after for after in successors(pc, instruction) if after in reached and after in code
                ]
                leaders.update(following)
                pending += following
                break
            pc += instruction.slots
            if pc not in reached or pc not in code:
                break
    return leaders


def _block(code: Mapping[int, Instruction], reached: Collection[int], leaders: set[int], start: int) -> Block:
    pcs, pc = [start], start
    while True:
        instruction = code[pc]
        if instruction.op.kind in _ENDS:
            return Block(tuple(pcs), successors(pc, instruction))
        pc += instruction.slots
        if pc in leaders or pc not in reached or pc not in code:
            return Block(tuple(pcs), (pc,))
        pcs.append(pc)


def _reverse_postorder(blocks: Mapping[int, Block], entry: int) -> list[int]:
    def inside(start: int) -> Iterator[int]:
        return (successor for successor in blocks[start].successors if successor in blocks)

    order: list[int] = []
    seen, path = {entry}, [(entry, inside(entry))]
    while path:
        start, rest = path[-1]
        for successor in rest:
            if successor not in seen:
                seen.add(successor)
                path.append((successor, inside(successor)))
                break
        else:
            order.append(start)
            path.pop()
    return order[::-1]


def _live(
    blocks: Mapping[int, Block],
    predecessors: Mapping[int, list[int]],
    effects: Mapping[int, list[tuple[int, int]]],
) -> dict[int, int]:
    """Registers read before they are written, from the start of each block: the least solution, by iteration."""
    use, define = {}, {}
    for start in blocks:
        used = defined = 0
        for reads, writes in effects[start]:
            used |= reads & ~defined
            defined |= writes
        use[start], define[start] = used, defined
    live = dict(use)
    pending = set(blocks)
    while pending:
        start = pending.pop()
        out = 0
        for successor in blocks[start].successors:
            out |= live.get(successor, 0)
        now = use[start] | out & ~define[start]
        if now != live[start]:
            live[start] = now
            pending.update(predecessors[start])
    return live


def _loops(predecessors: Mapping[int, list[int]]) -> dict[int, set[int]]:
    """For each block with a back edge, the blocks on the way from it to that edge: what leads to the edge without passing the block, and itself."""
    order = {start: position for position, start in enumerate(predecessors)}
    loops = {}
    for head, before in predecessors.items():
        pending = [start for start in before if order[start] >= order[head]]
        if not pending:
            continue
        body = {head}
        while pending:
            start = pending.pop()
            if start not in body:
                body.add(start)
                pending.extend(predecessors[start])
        loops[head] = body
    return loops


def _carried(
    entry: int, head: int, body: Collection[int], effects: Mapping[int, list[tuple[int, int]]]
) -> int:
    """The registers that are written in a loop. Where it includes the function's entry it has another way in, and every register counts as written."""
    if entry in body and entry != head:
        return EVERY
    registers = 0
    for start in body:
        for _, writes in effects[start]:
            registers |= writes
    return registers


def register_effect(instruction: Instruction) -> tuple[int, int]:
    """The registers that an instruction other than a call reads and writes."""
    op, dst, src = instruction.op, 1 << instruction.dst, 1 << instruction.src
    operand = src if op.operand is Operand.REG else 0
    match op.kind:
        case Kind.ALU:
            return (operand if op.code.startswith("mov") else dst | operand), dst
        case Kind.END:
            return dst, dst
        case Kind.LOAD_IMM64:
            return 0, dst
        case Kind.LOAD:
            return src, dst
        case Kind.STORE:
            return dst | operand, 0
        case Kind.ATOMIC:
            return _atomic_effect(op.code, dst, src)
        case Kind.PACKET:
            return operand, 1 | ARGUMENTS
        case Kind.BRANCH:
            return dst | operand, 0
        case Kind.EXIT:
            return 1, 0
        case Kind.JUMP:
            return 0, 0
        case _:
            raise AssertionError(op.kind)


def _atomic_effect(code: str, dst: int, src: int) -> tuple[int, int]:
    match code:
        case "load_acquire":
            return src, dst
        case "cmpxchg":
            return dst | src | 1, 1
        case "xchg":
            return dst | src, src
        case _ if code.startswith("fetch_"):
            return dst | src, src
        case _:
            return dst | src, 0
