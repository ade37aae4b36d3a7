"""Programs with a few bytes changed: what a broken compiler, a bad disk or somebody clever would hand in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

import pybpf
from fuzz.case import Case, inputs
from fuzz.generate import programs
from pybpf import BpfError, Program
from pybpf.instruction import SLOT, decode, encode
from pybpf.isa import Kind

Edit = tuple[int, int, int]
"""Which slot (modulo the program's size), which byte of it, the new value."""

_VALUES: Final = (0, 1, 2, 4, 8, 0x10, 0x7F, 0x80, 0xFF)

EDITS: Final[st.SearchStrategy[list[Edit]]] = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.integers(0, SLOT - 1),
        st.sampled_from(_VALUES) | st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutant(program: Program, edits: Sequence[Edit]) -> Program:
    """The program with bytes changed; what no longer refers to anything is dropped. Raises `DecodeError`."""
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


def _mutant_or_none(program: Program, edits: Sequence[Edit]) -> Program | None:
    try:
        return mutant(program, edits)
    except BpfError:
        return None


def mutants(bases: Sequence[Program] = ()) -> st.SearchStrategy[Case]:
    """Mutants of these programs, or of generated ones if there are none, on generated inputs.

    Bytes that are no instructions any more are left to the tests of the decoder.
    """
    originals = st.sampled_from(bases) if bases else programs()
    changed = st.builds(_mutant_or_none, originals, EDITS)
    return changed.flatmap(lambda program: st.nothing() if program is None else inputs(program))


def real_programs(paths: Sequence[Path], types: Sequence[str] = ("xdp", "filter")) -> Iterator[Program]:
    """The programs of objects that verify, of these types."""
    for path in paths:
        try:
            programs = pybpf.load(path).programs
        except BpfError:
            continue
        for program in programs.values():
            try:
                verified = pybpf.verify(program)
            except BpfError:
                continue
            if verified.type.name in types:
                yield replace(program, type=verified.type, lines={})
