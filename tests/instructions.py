"""Strategies: instructions with any operands, by row of the table, and programs of them."""

from __future__ import annotations

from hypothesis import strategies as st

from pybpf import Instruction
from pybpf.isa import ANY, MAX_REGISTER, OPS, Op
from pybpf.semantics import U32, U64

REGISTER = st.integers(0, MAX_REGISTER)
OFFSET = st.integers(-(1 << 15), (1 << 15) - 1)
IMM = st.integers(-(1 << 31), (1 << 31) - 1)


def _field(fixed: int | None, values: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return values if fixed is ANY else st.just(fixed)


def instructions(op: Op) -> st.SearchStrategy[Instruction]:
    """Instructions of a row: whatever its free fields can hold."""
    imm = IMM if op.slots == 1 else st.integers(0, U64 if op.next_imm is ANY else U32)
    return st.builds(
        Instruction,
        st.just(op),
        _field(op.dst, REGISTER),
        _field(op.src, REGISTER),
        _field(op.offset, OFFSET),
        _field(op.imm, imm),
    )


def any_instruction() -> st.SearchStrategy[Instruction]:
    """Instructions of every row."""
    return st.sampled_from(OPS).flatmap(instructions)


def label(op: Op) -> str:
    """A name for a row in a test's id."""
    return f"{op.kind.value}-{op.code}-{op.operand.value}-{op.width}-{op.size}"
