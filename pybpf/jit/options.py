"""What whoever compiles a program can choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Options:
    """`checks`: accesses are compared with the bounds of their region although they were proved to be inside. `counts`: instructions are counted, and a run
    ends where it would exceed its budget. `times`: counting, it looks at the clock now and then, and a run ends where its time is over. `splits`: the loop over a batch is written for speed, not to be compiled soon: the program is a part of it, memory is asked for
    ahead, and where that pays batches are split at a hash lookup (`pybpf.jit.split`), and packets compared with all bytes that a filter asks for
    (`pybpf.jit.conjunction`); these two never where instructions are counted.
    """

    checks: bool = True
    counts: bool = False
    splits: bool = True
    times: bool = False


DEFAULT: Final = Options()
