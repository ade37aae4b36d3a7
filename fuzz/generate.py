"""Programs that are mostly verifiable, as hypothesis strategies.

    blobs (bytes for each statement) --Writer--> Program

The writer knows which register holds a number, a packet pointer, a map value, ... and writes code that makes sense there
(`fuzz.writer`); the statements that it knows stand in `fuzz.arithmetic`, `stack`, `packets`, `maps`, `control` and `linux`. One program
in four is written carelessly, with mistakes, so that refusals are exercised too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from fuzz import arithmetic, control, linux, maps, packets, stack
from fuzz.choices import SIZE
from fuzz.writer import Writer
from pybpf import Program, ProgramType
from pybpf.program_types import FILTER, MEMORY, TC, XDP, Policy

TYPES: Final[tuple[ProgramType, ...]] = (
    FILTER,
    XDP,
    replace(XDP, policy=Policy(pointer_leaks=False)),
    replace(FILTER, policy=Policy()),
    MEMORY,
    TC,
)
"""What programs are written for: Oko's filters, XDP as root may load it, XDP that leaks nothing, filters with loops and leaks,
programs over memory, and classifiers, which pybpf verifies and does not run."""

STATEMENTS: Final = (arithmetic, stack, packets, maps, control, linux)
"""The modules whose statements are used: importing one registers them."""

MAX_STATEMENTS: Final = 60


def write(type_: ProgramType, blobs: Iterable[bytes]) -> Program:
    """The program that these bytes stand for, of `type_` under its policy."""
    return replace(Writer(type_, blobs).program(), type=type_)


def programs(types: Sequence[ProgramType] = TYPES) -> st.SearchStrategy[Program]:
    """Programs for one of the types; `Program.type` is the type itself."""
    return st.builds(lambda number, data: write(types[number], data), st.integers(0, len(types) - 1), blobs())


def blobs() -> st.SearchStrategy[list[bytes]]:
    """The bytes of a program: first its own, then each statement's."""
    blob = st.binary(min_size=SIZE, max_size=SIZE)
    return st.sampled_from((0, 6, 12, 24)).flatmap(
        lambda least: st.lists(blob, min_size=least, max_size=MAX_STATEMENTS)
    )
