"""Recipes: the few bytes that decide a case, as plain data that is cheap to draw, to write down and to make smaller."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from fuzz.case import PACKETS, Case, given_inputs
from fuzz.choices import SIZE
from fuzz.generate import TYPES, write
from fuzz.mutants import VALUES, Edit, mutant, real_programs
from pybpf import BpfError, Program
from pybpf.instruction import SLOT

SOURCES: Final = ("generated", "mutants", "real")
"""Where programs come from: generated, mutants of generated ones, mutants of compiled ones."""

ROOT: Final = Path(__file__).parent.parent
OBJECTS: Final = (ROOT / "examples/objects", ROOT.parent / "shared/data/elf")
"""Where compiled programs are looked for, to make mutants of."""

STATEMENTS: Final = (2, 4, 6, 9, 12, 16, 20, 30)
"""How many statements a program is drawn with."""

MAX_EDITS: Final = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a case: the program's type and statements, the bytes that are changed in it, and its inputs.

    `base` is the number of a compiled program that stands in for the statements.
    """

    type: int
    blobs: tuple[bytes, ...]
    packets: tuple[bytes, ...]
    entries: bytes
    edits: tuple[Edit, ...] = ()
    base: int | None = None

    def case(self) -> Case | None:
        """The case; None if the changed bytes are no program."""
        program = bases()[self.base] if self.base is not None else write(TYPES[self.type], self.blobs)
        if self.edits:
            try:
                program = mutant(program, self.edits)
            except BpfError:
                return None
        return given_inputs(program, self.packets, self.entries)


def drawn(random: Random, source: str) -> Recipe:
    """A recipe of a source, decided by the state of `random` alone."""
    base = random.randrange(len(bases())) if source == "real" else None
    count = random.choice(STATEMENTS) if base is None else 0
    edits = () if source == "generated" else tuple(_edit(random) for _ in range(random.randint(1, MAX_EDITS)))
    return Recipe(
        random.randrange(len(TYPES)),
        tuple(random.randbytes(SIZE) for _ in range(count + 1)) if base is None else (),
        tuple(random.randbytes(random.randrange(1, 5)) for _ in range(PACKETS)),
        random.randbytes(4) if random.random() < 0.8 else b"",
        edits,
        base,
    )


def _edit(random: Random) -> Edit:
    value = random.choice(VALUES) if random.random() < 0.5 else random.randrange(256)
    return random.randrange(1 << 16), random.randrange(SLOT), value


@cache
def bases() -> tuple[Program, ...]:
    """The compiled programs of this machine, of which mutants are made."""
    return tuple(real_programs(sorted(path for folder in OBJECTS for path in folder.rglob("*.o"))))
