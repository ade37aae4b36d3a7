"""The graph of a function: blocks, order, live registers, and what a loop may change."""

from __future__ import annotations

import pytest

from pybpf import Program
from pybpf.instruction import Instruction
from pybpf.isa import OPS, Kind
from pybpf.jit.blocks import ARGUMENTS, EVERY, Graph, function_graph, register_effect

R = [1 << number for number in range(11)]


def graph(text: str, reached: set[int] | None = None, entry: int = 0) -> Graph:
    code = Program.from_asm(text, "filter").code

    def effect(pc: int, instruction: Instruction) -> tuple[int, int]:
        if instruction.op.kind is Kind.CALL_LOCAL:
            return ARGUMENTS, 1 | ARGUMENTS
        return register_effect(instruction)

    return function_graph(code, set(code) if reached is None else reached, entry, effect)


DIAMOND = """
    r3 = 1
    if r2 > r3 goto right
    r0 = r3
    goto out
right:
    r0 = r4
out:
    r0 += r5
    exit
"""


def test_straight_code_is_one_block():
    found = graph("r0 = 0x1234567890 ll\n r0 += 1\n exit")
    assert {start: block.pcs for start, block in found.blocks.items()} == {0: (0, 2, 3)}
    assert found.predecessors == {0: ()}


def test_blocks_of_a_diamond():
    found = graph(DIAMOND)
    assert {start: block.pcs for start, block in found.blocks.items()} == {
        0: (0, 1),
        2: (2, 3),
        4: (4,),
        5: (5, 6),
    }
    assert {start: sorted(before) for start, before in found.predecessors.items()} == {
        0: [],
        2: [0],
        4: [0],
        5: [2, 4],
    }
    assert next(iter(found.blocks)) == 0
    assert list(found.blocks)[-1] == 5
    assert found.carried == {}


def test_live_registers_of_a_diamond():
    assert graph(DIAMOND).live == {0: R[2] | R[4] | R[5], 2: R[3] | R[5], 4: R[4] | R[5], 5: R[0] | R[5]}


def test_every_block_comes_after_one_that_leads_to_it():
    text = (
        "top:\n if r2 > 9 goto b\n r2 += 1\n goto c\nb:\n r2 += 2\nc:\n if r2 < 50 goto top\n r0 = r2\n exit"
    )
    found = graph(text)
    order = {start: position for position, start in enumerate(found.blocks)}
    for start, before in found.predecessors.items():
        assert start == 0 or any(order[block] < order[start] for block in before)


def test_loop_carries_what_it_writes():
    found = graph("r3 = 0\n r4 = 1\ntop:\n r3 += r4\n if r3 < r2 goto top\n r0 = r3\n exit")
    assert found.carried == {2: R[3]}


def test_outer_loop_carries_what_the_inner_one_writes():
    text = "r3 = 0\nouter:\n r4 = 0\ninner:\n r5 = r4\n r4 += 1\n if r4 < 3 goto inner\n r3 += 1\n if r3 < r2 goto outer\n r0 = 0\n exit"
    assert graph(text).carried == {1: R[3] | R[4] | R[5], 2: R[4] | R[5]}


def test_loop_with_a_second_way_in_carries_everything():
    found = graph(
        "r3 = 0\n if r2 > 4 goto second\nfirst:\n r4 = 1\nsecond:\n r2 += -1\n if r2 > 0 goto first\n r0 = 0\n exit"
    )
    assert set(found.carried.values()) == {EVERY}


def test_what_was_not_reached_is_no_block():
    found = graph(DIAMOND, reached={0, 1, 2, 3, 5, 6})
    assert set(found.blocks) == {0, 2, 5}
    assert found.blocks[0].successors == (2, 4)


def test_function_ends_where_it_returns():
    text = "call f\n exit\nf:\n r0 = r1\n exit"
    assert set(graph(text).blocks) == {0}
    assert set(graph(text, entry=2).blocks) == {2}


@pytest.mark.parametrize(
    "row", [row for row in OPS if not row.kind.value.startswith("call")], ids=lambda row: row.syntax
)
def test_effect_of_each_instruction(row):
    """An instruction reads and writes the registers that its text names, each on the side where it stands."""
    reads, writes = register_effect(Instruction(row, 7, 8))
    named = (R[7] if "{dst}" in row.syntax else 0) | (R[8] if "{src}" in row.syntax else 0)
    special = {Kind.PACKET: 1 | ARGUMENTS, Kind.EXIT: R[0]}.get(row.kind, 0)
    if row.code == "cmpxchg":
        special = R[0]
    assert reads | writes == named | special
    if row.kind in (Kind.STORE, Kind.BRANCH, Kind.JUMP, Kind.EXIT):
        assert writes == 0
    if row.kind in (Kind.ALU, Kind.END, Kind.LOAD, Kind.LOAD_IMM64):
        assert writes == R[7]


def test_loops_have_the_blocks_between_their_head_and_their_back_edges():
    found = graph("""
        r3 = 0
    outer:
        r4 = 0
    inner:
        r4 += 1
        if r4 < 3 goto inner
        r3 += 1
        if r3 < r2 goto outer
        r0 = r3
        exit
    """)
    assert {head: sorted(body) for head, body in found.loops.items()} == {1: [1, 2, 4], 2: [2]}
    assert found.carried == {1: R[3] | R[4], 2: R[4]}
