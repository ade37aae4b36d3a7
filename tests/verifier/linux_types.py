"""The program types of Linux's vectors: pybpf's, under the rules of the version that the vectors are from."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pybpf.program_types import TYPES as LINUX_TYPES
from pybpf.program_types import ProgramType

_ATTACHED: Final = {
    10: "cgroup/connect4",
    12: "cgroup/post_bind4",
    15: "cgroup/sendmsg6",
    24: "fentry",
    36: "sk_lookup",
}
"""Attach types of the vectors -> the section that stands for them."""


def _of_5_17(type_: ProgramType) -> ProgramType:
    """Linux 5.17 refuses to read stack that was not written."""
    return replace(type_, policy=replace(type_.policy, uninitialised_stack=False))


TYPES: Final = {{"tc": "sched_cls"}.get(type_.name, type_.name): _of_5_17(type_) for type_ in LINUX_TYPES}
"""By the names of the vectors."""


def attached(name: str, attach: int | None) -> ProgramType:
    """The type of a vector, where it is attached."""
    return TYPES[name].at(_ATTACHED[attach]) if attach is not None else TYPES[name]
