"""The programs: examples of the repository, and those of this folder in the forms that a competitor wants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pybpf
from benchmarks.toolchain import ROOT, SOURCES, bytecode
from pybpf.program_types import FILTER, MEMORY, Policy, ProgramType
from pybpf.verifier.facts import VerifiedProgram

LOOPING_FILTER: Final = replace(FILTER, policy=Policy())
"""Filters that may have loops."""
FIXED_SIZE: Final = 1536
"""Bytes that a program of the fixed form is given."""


def example(name: str) -> VerifiedProgram:
    """An example, as it is committed."""
    (program,) = pybpf.load(ROOT / f"examples/objects/v3/{name}.o").programs.values()
    return pybpf.verify(program)


def source(name: str) -> Path:
    """The C file of a program, here or among the examples."""
    path = SOURCES / f"{name}.c"
    return path if path.exists() else ROOT / f"examples/{name}.c"


def filter_form(name: str, work: Path, *options: str) -> VerifiedProgram:
    """A program of this folder as a filter. Raises `Missing`."""
    return pybpf.verify(replace(bytecode(source(name), work, *options), type=LOOPING_FILTER))


def xdp_form(name: str, work: Path, *options: str) -> VerifiedProgram:
    """A program of this folder as a program of XDP. Raises `Missing`."""
    return pybpf.verify(bytecode(source(name), work, "-DFORM_XDP", *options))


def fixed_form(name: str, work: Path) -> VerifiedProgram:
    """A program of this folder that is given a fixed number of bytes, in the instructions of -mcpu=v2. Raises `Missing`."""
    program = bytecode(source(name), work, f"-DFORM_FIXED={FIXED_SIZE}", cpu="v2")
    type_: ProgramType = replace(MEMORY, minimum_length=FIXED_SIZE, packet_writable=False)
    return pybpf.verify(replace(program, type=type_))
