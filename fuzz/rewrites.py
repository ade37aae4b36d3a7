"""Rewritings of programs that change nothing of what they mean: the verdict, and most facts, must stay.

A program is taken apart into rows whose jumps go to rows, changed, and put together again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Final

from fuzz.code import jumping
from pybpf import Program, Reference, RefKind, Subprogram, program_types
from pybpf.instruction import Instruction
from pybpf.isa import Kind, Operand, op
from pybpf.verifier.callbacks import callees
from pybpf.verifier.rules import writes

_JA: Final = op(Kind.JUMP, "ja")
_MOVE: Final = op(Kind.ALU, "mov", operand=Operand.REG)
_CONSTANT: Final = op(Kind.ALU, "mov", operand=Operand.IMM)
_FUNCTION: Final = op(Kind.LOAD_IMM64, "function")
_CALLX: Final = op(Kind.CALL_REGISTER, "register")
_JUMPS: Final = (Kind.BRANCH, Kind.JUMP, Kind.CALL_LOCAL)


@dataclass(eq=False, slots=True)
class Row:
    """An instruction, the row that it jumps to, what it refers to, and the function that begins here."""

    instruction: Instruction
    target: Row | None = None
    reference: Reference | None = None
    function: Row | None = None
    """The function whose address a wide load takes."""
    origin: int | None = None
    """The slot in the program that was taken apart, None for what was added."""


def whole(program: Program) -> bool:
    """Whether all that a program's instructions refer to is there, so that it can be taken apart."""
    targets = [i.target(pc) for pc, i in program.code.items() if i.op.kind in _JUMPS]
    functions = [r.offset for r in program.references.values() if r.kind is RefKind.FUNCTION]
    return all(pc in program.code for pc in (0, *targets, *functions))


def taken_apart(program: Program) -> list[Row]:
    """The rows of a program, in order."""
    rows = {pc: Row(i, reference=program.references.get(pc), origin=pc) for pc, i in program.code.items()}
    for pc, row in rows.items():
        if row.instruction.op.kind in _JUMPS:
            row.target = rows[row.instruction.target(pc)]
        if row.reference is not None and row.reference.kind is RefKind.FUNCTION:
            row.function = rows[row.reference.offset]
    return list(rows.values())


def put_together(program: Program, rows: Sequence[Row]) -> tuple[Program, dict[int, int]]:
    """`program` with these rows, and where the slots of its instructions are now. Raises `ArgumentError` if a jump became too long."""
    places: dict[Row, int] = {}
    pc = 0
    for row in rows:
        places[row] = pc
        pc += row.instruction.slots
    moved = {row.origin: place for row, place in places.items() if row.origin is not None}
    code: dict[int, Instruction] = {}
    references: dict[int, Reference] = {}
    for row, place in places.items():
        instruction = row.instruction
        if row.target is not None:
            instruction = jumping(instruction, places[row.target] - place - 1)
        code[place] = instruction
        if row.reference is not None:
            at = places[row.function] if row.function is not None else row.reference.offset
            references[place] = replace(row.reference, offset=at)
    starts = sorted((moved[start], function) for start, function in program.functions.items())
    ends = [*(start for start, _ in starts[1:]), pc] if starts else []
    functions = {
        start: Subprogram(function.name, start, end - start, function.is_global)
        for (start, function), end in zip(starts, ends, strict=True)
    }
    return replace(program, code=code, references=references, functions=functions, lines={}), moved


def renamed(program: Program, random: Random) -> Program:
    """r6 to r9 trade places: calls keep all of them, so no name is better than another, but for r6 where packets are loaded from."""
    loads = any(i.op.kind is Kind.PACKET for i in program.code.values())
    old = list(range(7 if loads else 6, 10))
    names = random.sample(old, len(old))
    new = {register: register for register in range(11)} | dict(zip(old, names, strict=True))
    code = {}
    for pc, i in program.code.items():
        free_src = i.op.src is None
        code[pc] = replace(i, dst=new[i.dst], src=new[i.src] if free_src else i.src)
    return replace(program, code=code)


def padded(program: Program, random: Random) -> tuple[Program, dict[int, int]]:
    """Here and there a jump to the next instruction, and a register that was just written moved to itself."""
    rows: list[Row] = []
    for row in taken_apart(program):
        rows.append(row)
        if row.instruction.op.kind in (Kind.EXIT, Kind.JUMP, Kind.BRANCH):
            continue
        if random.random() < 0.2:
            rows.append(Row(Instruction(_JA)))
        register = writes(row.instruction)
        if register is not None and random.random() < 0.2:
            rows.append(Row(Instruction(_MOVE, register, register)))
    for row, behind in pairwise(rows):
        if row.instruction.op is _JA and row.target is None:
            row.target = behind
    return put_together(program, rows)


def shuffled(program: Program, random: Random) -> tuple[Program, dict[int, int]]:
    """The blocks of each function in another order, with jumps where they used to fall through."""
    rows = taken_apart(program)
    entries = {row.target for row in rows if row.instruction.op.kind is Kind.CALL_LOCAL}
    entries |= {row.function for row in rows if row.function is not None}
    leaders = {row.target for row in rows if row.target is not None}
    functions: list[list[list[Row]]] = [[[]]]
    for before, row in zip([None, *rows], rows, strict=False):
        if row in entries and functions[-1][-1]:
            functions.append([[]])
        elif row in leaders or (before is not None and before.instruction.op.kind in _ENDS):
            functions[-1].append([])
        functions[-1][-1].append(row)
    out: list[Row] = []
    for blocks in functions:
        blocks = [block for block in blocks if block]
        for block, following in pairwise(blocks):
            if block[-1].instruction.op.kind not in (Kind.EXIT, Kind.JUMP):
                block.append(Row(Instruction(_JA), following[0]))
        first, *rest = blocks
        random.shuffle(rest)
        for block in (first, *rest):
            out += block
    return put_together(program, out)


_ENDS: Final = (Kind.BRANCH, Kind.EXIT, Kind.JUMP)

_MIRRORED: Final = {
    "jeq": "jeq", "jne": "jne", "jset": "jset", "jgt": "jlt", "jlt": "jgt", "jge": "jle", "jle": "jge",
    "jsgt": "jslt", "jslt": "jsgt", "jsge": "jsle", "jsle": "jsge",
}  # fmt: skip


def mirrored(program: Program, random: Random) -> Program:
    """Comparisons of two registers with the operands exchanged."""
    code = {}
    for pc, i in program.code.items():
        if i.op.kind is Kind.BRANCH and i.op.operand is Operand.REG and random.random() < 0.7:
            row = op(Kind.BRANCH, _MIRRORED[i.op.code], width=i.op.width, operand=Operand.REG)
            i = replace(i, op=row, dst=i.src, src=i.dst)
        code[pc] = i
    return replace(program, code=code)


def through_registers(program: Program, random: Random) -> Program:
    """Calls of functions and helpers through r0, which every call leaves to its result; where there are such calls.

    Helpers that take a callback are not called so: that is unsupported.
    """
    if program_types.get(program.type or "").policy.linux_limits:
        return program
    rows: list[Row] = []
    with_callback = callees(program)
    for pc, row in zip(sorted(program.code), taken_apart(program), strict=True):
        rows.append(row)
        instruction = row.instruction
        if random.random() < 0.5 or pc in with_callback:
            continue
        if instruction.op.kind is Kind.CALL_LOCAL:
            row.instruction, row.function, row.target = (
                Instruction(_FUNCTION, src=_FUNCTION.src or 0),
                row.target,
                None,
            )
            row.reference = Reference(RefKind.FUNCTION, "callee")
        elif instruction.op.code == "helper" and row.reference is None:
            row.instruction = Instruction(_CONSTANT, imm=instruction.imm)
        else:
            continue
        rows.append(Row(Instruction(_CALLX)))
    return put_together(program, rows)[0]


Rewrite = Callable[[Program, Random], Program]

REWRITES: Final[dict[str, Rewrite]] = {
    "renamed": renamed,
    "mirrored": mirrored,
    "padded": lambda program, random: padded(program, random)[0],
    "through registers": through_registers,
    "shuffled": lambda program, random: shuffled(program, random)[0],
}
"""Each gives a program that means the same."""
