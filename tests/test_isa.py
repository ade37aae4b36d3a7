"""The table of instructions: its rows are those of RFC 9669, and nothing in it can be mistaken."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from pybpf import semantics
from pybpf.isa import ANY, BY_OPCODE, KERNEL_OPS, OPS, Kind, Op, Operand, op
from tests.instructions import label

RFC = Path(__file__).parent / "data/rfc9669.txt"

Row = tuple[int, int | None, int | None, int | None, str]
"""Opcode, src, offset, imm (None for an operand) and group."""


def rfc_rows() -> set[Row]:
    """The rows of the RFC's list."""
    rows: set[Row] = set()
    for line in RFC.read_text().splitlines():
        if line and not line.startswith("#"):
            opcodes, src, offset, imm, group, _ = re.split(r"  +", line)
            fields = product(
                _numbers(opcodes.replace(" ", ","), 16), _numbers(src), _numbers(offset), _numbers(imm, 16)
            )
            rows |= {(*field, group) for field in fields}  # type: ignore[misc]
    return rows


def _numbers(text: str, base: int = 10) -> list[int | None]:
    return [None if word == "any" else int(word, base) for word in text.split(",")]


EXTENSIONS = {"register", "load_acquire", "store_release"}
"""Codes of the instructions that Linux and clang have and the RFC does not."""


def test_rows_are_the_instructions_of_the_rfc():
    """Opcode, fixed fields and group of each row: none missing, none added but the extensions."""
    rows = {(op.opcode, op.src, op.offset, op.imm, op.group) for op in OPS if op.code not in EXTENSIONS}
    assert rows == rfc_rows()


def test_the_extensions_are_callx_and_the_two_ordered_accesses():
    extra = {(op.opcode, op.src, op.offset, op.imm) for op in OPS if op.code in EXTENSIONS}
    sizes = (0xC3, 0xCB, 0xD3, 0xDB)
    assert extra == {(0x8D, 0, 0, 0)} | {
        (opcode, ANY, ANY, imm) for opcode in sizes for imm in (0x100, 0x110)
    }


def test_the_destination_is_an_operand_except_where_an_instruction_has_none():
    without = {op.kind for op in OPS if op.dst is not ANY}
    assert without == {Kind.JUMP, Kind.CALL, Kind.CALL_LOCAL, Kind.EXIT, Kind.PACKET}
    assert all(op.dst == 0 for op in OPS if op.dst is not ANY)


def test_every_encoding_belongs_to_one_row():
    """Rows of one opcode fix the same fields and differ in the value of one, so that their order never decides."""
    names = ("dst", "src", "offset", "imm")
    for rows in BY_OPCODE.values():
        assert len({tuple(getattr(row, name) is ANY for name in names) for row in rows}) == 1
        differing = [{getattr(row, name) for row in rows} for name in names]
        assert sorted(len(values) for values in differing) == [1, 1, 1, len(rows)]


def test_what_only_a_kernel_runs_has_encodings_of_its_own():
    """No instruction that runs has the same fields, so that the order of the tables never decides."""
    names = ("dst", "src", "offset", "imm")
    for row in KERNEL_OPS:
        assert row.kind is Kind.KERNEL
        for other in BY_OPCODE.get(row.opcode, ()):
            pairs = [(getattr(row, name), getattr(other, name)) for name in names]
            assert any(None not in pair and pair[0] != pair[1] for pair in pairs)
    assert {op.code for op in KERNEL_OPS} == {"may_goto", "gotox", "addr_space_cast"}
    assert all(op.kind is not Kind.KERNEL for op in OPS)


def test_a_row_is_found_by_its_meaning():
    """Kind, code, width, size and operand name one row."""
    for row in OPS:
        assert op(row.kind, row.code, width=row.width, size=row.size, operand=row.operand) is row
    with pytest.raises(KeyError):
        op(Kind.ALU, "nand")


def test_every_operator_has_a_meaning():
    """The consumers that are dictionaries of operators have each operator of their kind, and no other."""
    codes = {kind: {row.code for row in OPS if row.kind is kind} for kind in Kind}
    assert codes[Kind.ALU] == semantics.ALU.keys()
    assert codes[Kind.END] == semantics.END.keys()
    assert codes[Kind.BRANCH] == semantics.CONDITION.keys()
    assert codes[Kind.ATOMIC] - EXTENSIONS == semantics.ATOMIC.keys()


@pytest.mark.parametrize("row", OPS, ids=label)
def test_the_texts_name_every_operand_of_the_row(row: Op):
    """What is free in the encoding is written, and nothing else is."""
    free = {name for name in ("dst", "src", "offset", "imm") if getattr(row, name) is ANY}
    for text in (row.syntax, row.mnemonic):
        named = set(re.findall(r"\{(\w+)\}", text))
        jump = {"offset"} if row.offset is ANY else {"imm"}
        fields = {name for name in named if name in ("dst", "src", "imm")}
        fields |= {"offset"} if "off" in named else set()
        fields |= jump if "target" in named else set()
        assert fields == free


def test_sizes_widths_and_levels():
    """Memory is touched in 1, 2, 4 or 8 bytes; registers are 32 or 64 bits wide; ISA levels are clang's."""
    touching = {Kind.LOAD, Kind.STORE, Kind.ATOMIC, Kind.PACKET}
    for row in OPS:
        assert row.size in ((1, 2, 4, 8) if row.kind in touching else (0,))
        assert row.isa in (1, 2, 3, 4)
        assert row.slots == (2 if row.kind is Kind.LOAD_IMM64 else 1)
        if row.kind in (Kind.ALU, Kind.BRANCH):
            assert row.width in (32, 64)
            assert (row.operand is Operand.REG) == (row.src is ANY)
