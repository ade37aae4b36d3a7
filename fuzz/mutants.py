"""Programs with a few bytes changed: what a broken compiler, a bad disk or somebody clever would hand in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pybpf
from pybpf import BpfError, Program, program_types
from pybpf.instruction import SLOT, decode, encode
from pybpf.isa import Kind

Edit = tuple[int, int, int]
"""Which slot (modulo the program's size), which byte of it, the new value."""

MAX_SLOTS: Final = 1500
"""Longer programs are left out: the first mistake in a long program hides the others, and looking for it takes long."""

REAL_TYPES: Final = ("xdp", "filter", "tc", "socket_filter")

UNNAMED: Final = "tc"
"""The type of programs whose section names none: those are mostly reached by tail calls of traffic control's programs."""

VALUES: Final = (0, 1, 2, 4, 8, 0x10, 0x7F, 0x80, 0xFF)


def mutant(program: Program, edits: Sequence[Edit]) -> Program:
    """The program with bytes changed; what no longer refers to anything is dropped. Raises `DecodeError` if they are no program any more."""
    code = bytearray(encode(program.code))
    for slot, byte, value in edits:
        code[slot % (len(code) // SLOT) * SLOT + byte] = value
    decoded = decode(bytes(code))
    references = {
        pc: reference
        for pc, reference in program.references.items()
        if pc in decoded and decoded[pc].op.kind in (Kind.LOAD_IMM64, Kind.CALL)
    }
    functions = {pc: function for pc, function in program.functions.items() if pc in decoded}
    return replace(program, code=decoded, references=references, functions=functions, lines={})


def real_programs(paths: Sequence[Path]) -> Iterator[Program]:
    """The programs of objects that are of a type under test and no longer than `MAX_SLOTS`."""
    for path in paths:
        try:
            programs = pybpf.load(path).programs
        except BpfError:
            continue
        for program in programs.values():
            name = program.type or UNNAMED
            if name in REAL_TYPES and program.size <= MAX_SLOTS and program.defect is None:
                type_ = program_types.get(name).at(program.section)
                yield replace(program, type=type_, lines={})
