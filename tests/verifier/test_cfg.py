"""The graph of a program: blocks, loops, order, and the structural rules with their reasons and slots."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import Instruction, Program, assemble
from pybpf.isa import Kind, Operand, op
from pybpf.verifier.cfg import MAX_LOOP_DEPTH, Block, Graph, build
from pybpf.verifier.explain import StructureError

EXIT = Instruction(op(Kind.EXIT, "exit"))
BRANCH = op(Kind.BRANCH, "jeq", operand=Operand.IMM)
JUMP = op(Kind.JUMP, "ja")


def graph(text: str) -> Graph:
    return build(assemble(text))


def refusal(text: str) -> tuple[str, int | None]:
    with pytest.raises(StructureError) as refused:
        graph(text)
    return refused.value.reason, refused.value.pc


# Rules.


@pytest.mark.parametrize(
    ("text", "reason", "pc"),
    [
        ("r0 = 0", "fall-through", 0),
        ("r0 = 0\n if r0 == 0 goto -2", "fall-through", 1),
        ("goto +1\n exit", "jump-range", 0),
        ("goto -2\n exit", "jump-range", 0),
        ("goto -32768\n exit", "jump-range", 0),
        ("gotol +100000\n exit", "jump-range", 0),
        ("goto +1\n r1 = 1 ll\n exit", "jump-range", 0),
        ("if r1 == 0 goto +1\n r1 = 1 ll\n exit", "jump-range", 0),
        ("exit\n exit", "unreachable", 1),
        ("goto +1\n r0 = 0\n exit", "unreachable", 1),
        ("exit\n L: goto L", "unreachable", 1),
        ("call +1\n exit\n r0 = 0", "fall-through", 2),
        ("call +5\n exit", "jump-range", 0),
        ("call -2\n exit", "jump-range", 0),
        ("call +2\n exit\n r1 = 1 ll\n exit", "jump-range", 0),
        ("call f\n exit\n f: goto -2", "jump-range", 2),
        ("call f\n L: exit\n f: if r1 == 0 goto L\n exit", "jump-range", 2),
        ("r1 = 0\n goto f\n f: exit\n exit", "unreachable", 3),
        ("call f\n exit\n f: call f\n exit", "recursion", 2),
        ("call f\n exit\n f: call g\n exit\n g: call f\n exit", "recursion", 4),
    ],
)  # fmt: skip
def test_rule(text: str, reason: str, pc: int) -> None:
    """Each structural fault has its reason and blames an instruction."""
    assert refusal(text) == (reason, pc)


def test_an_empty_program_has_nobody_to_blame() -> None:
    with pytest.raises(StructureError) as refused:
        build(Program("empty", {}))
    assert (refused.value.reason, refused.value.pc) == ("empty-program", None)


def test_a_call_to_the_entry_is_recursion() -> None:
    """The entry is a function like any other."""
    assert refusal("r0 = 0\n call -2\n exit") == ("recursion", 1)


@pytest.mark.parametrize(("depth", "fits"), [(7, True), (8, False), (9, False)])
def test_depth_of_calls(depth: int, fits: bool) -> None:
    """Eight frames: the entry's and seven more."""
    text = "\n".join(f"f{i}: call f{i + 1}\n exit" for i in range(depth)) + f"\n f{depth}: r0 = 0\n exit"
    if fits:
        assert len(graph(text).functions) == depth + 1
    else:
        # The call in the eighth frame is to blame.
        assert refusal(text) == ("call-depth", 14)


def test_messages_name_both_ends() -> None:
    """The words that users of the thesis and of Linux search for."""
    with pytest.raises(StructureError, match="jump out of range from pc 0 to pc 6"):
        graph("goto +5\n exit")
    with pytest.raises(StructureError, match="into the middle of the wide load at pc 1"):
        graph("goto +1\n r1 = 1 ll\n exit")


# Blocks.


def test_blocks_end_where_control_divides_or_meets() -> None:
    """A block runs as a whole: nothing jumps into its middle."""
    blocks = graph("r0 = 0\n r1 = 1\n if r1 == 0 goto L\n r0 = 1\n L: r0 += 1\n exit").functions[0].blocks
    assert {start: (block.pcs, block.successors) for start, block in blocks.items()} == {
        0: ((0, 1, 2), (3, 4)),
        3: ((3,), (4,)),
        4: ((4, 5), ()),
    }


def test_functions_are_told_apart() -> None:
    """Each function has its own blocks, and knows whom it calls from where."""
    found = graph("call f\n call g\n exit\n f: call g\n exit\n g: r0 = 0\n exit").functions
    assert {entry: dict(function.calls) for entry, function in found.items()} == {
        0: {0: 3, 1: 5},
        3: {3: 5},
        5: {},
    }


def test_wide_loads_take_two_slots() -> None:
    assert graph("r0 = 1 ll\n exit").functions[0].blocks[0].pcs == (0, 2)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("r0 = 0\n exit", set()),
        ("r0 = 0\n L: r0 += 1\n if r0 < 5 goto L\n exit", {1, 2}),
        ("call f\n exit\n f: r0 = 0\n exit", set()),
        ("call f\n call f\n exit\n f: r0 = 0\n exit", {3, 4}),
        ("call f\n call g\n exit\n f: call g\n exit\n g: r0 = 0\n exit", {5, 6}),
        ("r0 = 0\n L: call f\n if r0 < 5 goto L\n exit\n f: call g\n exit\n g: r0 += 1\n exit", {1, 2, 4, 5, 6, 7}),
    ],
)  # fmt: skip
def test_what_may_be_executed_again(text: str, again: set[int]) -> None:
    """Loops, functions called from two places or in a loop, and whom they call."""
    assert graph(text).executed_again == again


# Loops and order, on random graphs.


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs of branches, jumps and exits to anywhere, every instruction of which can be reached."""
    size = draw(st.integers(1, 16))
    targets = st.integers(0, size - 1)
    code = {pc: Instruction(BRANCH, offset=draw(targets) - pc - 1) for pc in range(size - 1)}
    code[size - 1] = EXIT
    for pc in range(1, size - 1):
        if code[pc - 1].op is BRANCH and draw(st.booleans()) and draw(st.booleans()):
            # Control does not fall through here; the branch before it goes around.
            code[pc - 1] = Instruction(BRANCH, offset=1)
            code[pc] = EXIT if draw(st.booleans()) else Instruction(JUMP, offset=draw(targets) - pc - 1)
    if size > 1 and draw(st.booleans()):
        code[size - 1] = Instruction(JUMP, offset=draw(targets) - size)
    return Program("random", code)


def after(code: Mapping[int, Instruction], pc: int) -> tuple[int, ...]:
    """The slots that may follow one, the fall-through first, straight from the instructions."""
    kind = code[pc].op.kind
    if kind is Kind.EXIT:
        return ()
    return (code[pc].target(pc),) if kind is Kind.JUMP else (pc + 1, code[pc].target(pc))


def depth_first(code: Mapping[int, Instruction]) -> list[tuple[int, int]]:
    """The edges that a depth-first search, written as the textbook has it, finds to close a cycle."""
    entered: set[int] = set()
    left: set[int] = set()
    edges = []

    def visit(pc: int) -> None:
        entered.add(pc)
        for following in dict.fromkeys(after(code, pc)):
            if following not in entered:
                visit(following)
            elif following not in left:
                edges.append((pc, following))
        left.add(pc)

    visit(0)
    return edges


@settings(max_examples=120)
@given(programs())
def test_back_edges_are_those_of_a_plain_search(program: Program) -> None:
    """In the order of discovery, by instructions and not by blocks."""
    assert list(build(program).back_edges) == depth_first(program.code)


@settings(max_examples=120)
@given(programs())
def test_blocks_partition_the_program(program: Program) -> None:
    """Every instruction stands in one block; blocks follow each other as their instructions do."""
    blocks = build(program).functions[0].blocks
    assert sorted(pc for block in blocks.values() for pc in block.pcs) == sorted(program.code)
    for start, block in blocks.items():
        assert start == block.start == block.pcs[0]
        for pc, following in zip(block.pcs, block.pcs[1:], strict=False):
            assert after(program.code, pc) in ((following,), (following, following))
        assert block.successors == tuple(dict.fromkeys(after(program.code, block.pcs[-1])))
        assert set(block.successors) <= set(blocks)


@settings(max_examples=120)
@given(programs())
def test_order_is_a_weak_topological_one(program: Program) -> None:
    """Bourdoncle's condition: an edge goes forwards, or to the head of a loop that it starts in."""
    blocks = build(program).functions[0].blocks
    assert sorted(block.position for block in blocks.values()) == list(range(len(blocks)))
    for block in blocks.values():
        for successor in block.successors:
            assert block.position < blocks[successor].position or successor in block.loops


@settings(max_examples=120)
@given(programs())
def test_loops_are_nested_and_stand_together(program: Program) -> None:
    """A loop's blocks are a run of positions with the head first; a block's loops are its head's loops and perhaps its own."""
    blocks = build(program).functions[0].blocks
    heads = {start for start, block in blocks.items() if block.head}
    for head in heads:
        members = [block for block in blocks.values() if head in block.loops]
        positions = sorted(block.position for block in members)
        assert positions == list(range(positions[0], positions[0] + len(members)))
        assert blocks[head].position == positions[0]
        assert all(
            _reaches(blocks, head, block.start) and _reaches(blocks, block.start, head) for block in members
        )
    for block in blocks.values():
        assert set(block.loops) <= heads
        for depth, head in enumerate(block.loops):
            assert blocks[head].loops == block.loops[: depth + 1]


def _reaches(blocks: Mapping[int, Block], start: int, goal: int) -> bool:
    """Whether at least one edge leads from a block to another, or round to itself."""
    seen: set[int] = set()
    work = list(blocks[start].successors)
    while work:
        block = work.pop()
        if block == goal:
            return True
        if block not in seen:
            seen.add(block)
            work += blocks[block].successors
    return False


@settings(max_examples=120)
@given(programs())
def test_what_lies_on_a_cycle_may_be_executed_again(program: Program) -> None:
    """Exactly the instructions of blocks that can be reached from themselves."""
    found = build(program)
    blocks = found.functions[0].blocks
    cyclic = {
        pc for block in blocks.values() if _reaches(blocks, block.start, block.start) for pc in block.pcs
    }
    assert found.executed_again == cyclic


def nested(depth: int) -> Program:
    """So many loops of one instruction, each in the next."""
    body = {pc: Instruction(op(Kind.ALU, "mov", operand=Operand.IMM)) for pc in range(depth)}
    back = {depth + k: Instruction(BRANCH, offset=-2 * k - 2) for k in range(depth)}
    return Program("nested", body | back | {2 * depth: EXIT})


def test_loops_nest_only_so_deep() -> None:
    """The work grows faster than the depth, so there is a limit, with the head one too deep to blame."""
    assert len(build(nested(MAX_LOOP_DEPTH)).back_edges) == MAX_LOOP_DEPTH
    with pytest.raises(StructureError) as refused:
        build(nested(MAX_LOOP_DEPTH + 1))
    assert (refused.value.reason, refused.value.pc) == ("loop-depth", MAX_LOOP_DEPTH)


def test_a_long_chain_of_branches() -> None:
    """The passes do not recurse: 20,000 blocks, one after the other."""
    size = 20_000
    forward = {pc: Instruction(BRANCH, offset=0) for pc in range(size)} | {size: EXIT}
    assert len(build(Program("forward", forward)).functions[0].blocks) == size + 1
