"""The program types that are not Linux's: Oko's filter, and programs over plain memory."""

from __future__ import annotations

from typing import Final

from pybpf.helpers import LINUX, OKO
from pybpf.helpers.access import select
from pybpf.map_types import LINUX_MAPS, OKO_MAPS
from pybpf.program_types.policy import Policy
from pybpf.program_types.program_type import Entry, ProgramType

FILTER: Final = ProgramType(
    name="filter",
    entry=(Entry.PACKET, Entry.LENGTH),
    helpers=OKO,
    numbering=OKO,
    verdicts={1: "match", -1: "no match"},
    sections=("filter",),
    map_numbers=OKO_MAPS,
    clock="realtime",
    policy=Policy(loops=False, pointer_leaks=False),
)
"""Oko's filter program (thesis, section 3.3): r1 the packet, read-only; r2 its true length; exactly 1 is a match."""

MEMORY: Final = ProgramType(
    name="memory",
    entry=(Entry.PACKET, Entry.LENGTH),
    helpers=select("base"),
    numbering=LINUX,
    packet_writable=True,
    sections=("memory",),
    map_numbers=LINUX_MAPS,
    packet_loads=True,
    policy=Policy(uninitialised_stack=True),
)
"""A program over plain memory: r1 the memory, writable; r2 its length (the convention of uBPF and bpf_conformance)."""
