"""Every ALU, byte order and branch instruction computes in native code what `pybpf.semantics` says."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pybpf import Instruction, Program, jit, semantics
from pybpf.isa import OPS, Kind, Op, Operand, op
from pybpf.jit import Level
from pybpf.program_types import MEMORY
from pybpf.semantics import U64
from pybpf.verifier.facts import Access, RegionKind
from tests.jit.traced import everywhere

NUMBERS = (
    0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 0x1_0000_0000,
    0x1234_5678_9ABC_DEF0, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
IMMEDIATES = (0, 1, -1, 7, 31, 32, 33, 63, 64, 127, -128, 0x7FFF, 0x7FFF_FFFF, -0x8000_0000)

LOAD = op(Kind.LOAD, "mem", size=8)
STORE = op(Kind.STORE, "mem", size=8, operand=Operand.REG)
MOVE = op(Kind.ALU, "mov", operand=Operand.IMM)
EXIT = Instruction(op(Kind.EXIT, "exit"))

ALU_OPS = [row for row in OPS if row.kind is Kind.ALU]
END_OPS = [row for row in OPS if row.kind is Kind.END]
BRANCH_OPS = [row for row in OPS if row.kind is Kind.BRANCH]


def name(row: Op) -> str:
    return row.syntax


def outcomes(row: Op, immediates: tuple[int, ...], level: Level) -> np.ndarray:
    """What an instruction makes of each pair of `NUMBERS`, by immediate and pair.

    The packet holds the operands r2 and r3; the program puts the results behind them.
    """
    body = [Instruction(LOAD, 3, 1, 8)]
    for i, imm in enumerate(immediates):
        body.append(Instruction(LOAD, 2, 1, 0))
        operands = {"src": 3 if row.operand is Operand.REG else 0, "imm": imm if row.imm is None else row.imm}
        if row.kind is Kind.BRANCH:
            body += [
                Instruction(MOVE, 4, imm=1),
                Instruction(row, 2, offset=1, **operands),
                Instruction(MOVE, 4, imm=0),
            ]
        else:
            body += [Instruction(row, 2, offset=row.offset or 0, **operands)]
        body.append(Instruction(STORE, 1, 4 if row.kind is Kind.BRANCH else 2, 16 + 8 * i))
    program = Program("row", dict(enumerate([*body, Instruction(MOVE, 0), EXIT])))
    packet = (Access(RegionKind.PACKET, 0, 1 << 20, 8),)
    instance = jit.compile(everywhere(program, MEMORY, dict.fromkeys(program.code, packet)), level).bind()
    results = []
    for a in NUMBERS:
        for b in NUMBERS:
            buffer = bytearray(struct.pack("<QQ", a, b) + bytes(8 * len(immediates)))
            instance.run(buffer)
            results.append(np.frombuffer(buffer, np.uint64, offset=16))
    return np.array(results).T


def operand(row: Op, b: int, imm: int) -> int:
    return b if row.operand is Operand.REG else imm & U64


def check(row: Op, level: Level, meaning: object) -> None:
    immediates = IMMEDIATES if row.operand is Operand.IMM else (0,)
    pairs = [(a, b) for a in NUMBERS for b in NUMBERS]
    for imm, found in zip(immediates, outcomes(row, immediates, level), strict=True):
        expected = [meaning(a, operand(row, b, imm)) for a, b in pairs]  # type: ignore[operator]
        assert found.tolist() == expected, f"{row.syntax}, imm {imm}"


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("row", ALU_OPS, ids=name)
def test_alu(row, level):
    check(row, level, lambda a, b: semantics.alu(row.code, a, b, row.width))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("row", END_OPS, ids=name)
def test_byte_order(row, level):
    check(row, level, lambda a, b: semantics.END[row.code](a, row.width))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("row", BRANCH_OPS, ids=name)
def test_branch(row, level):
    check(row, level, lambda a, b: semantics.condition(row.code, a, b, row.width))
