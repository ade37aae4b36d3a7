"""What a certificate says, as plain data: a finite graph of claims about a program, and why its loops end.

A *point* is a claim: a run that comes to this block by an edge of the graph is in this state (see docs/soundness.md for what a
state stands for). An *edge* says which point holds the states behind a block on one way out of it, and what the
unknowns of that point are there. A *loop* names a cell that moves one way on every turn.

Unknowns are numbered; LENGTH and METADATA keep their names. `pybpf.verifier.checker` believes nothing of this before it has
derived it; `pybpf.verifier.certify` makes it of an exploration, and `pybpf.verifier.encoding` bytes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from pybpf.instruction import encode
from pybpf.program import Program
from pybpf.verifier.state import CELLS
from pybpf.verifier.values import Atom, Atoms, Form, Object, Target
from pybpf.verifier.view import View
from pybpf.verifier.walk import Place

ScalarClaim = tuple[View, View]
"""A set of numbers, by what is known of all 64 bits and of the lower 32."""


class NumberClaim(NamedTuple):
    """A number: its set, as a position in `Certificate.scalars`, and its identity."""

    scalar: int
    form: Form | None


class PointerClaim(NamedTuple):
    """The parts of a `Pointer`; `variable` is a position in `Certificate.scalars`, and `object` stands in place of a number where the target is an object or a record."""

    target: Target
    number: int
    object: Object | None
    offset: int
    variable: int | None
    atoms: Atoms | None
    null: Atom | None


PieceClaim = tuple[int, int, NumberClaim | PointerClaim]
CellClaim = NumberClaim | PointerClaim | tuple[PieceClaim, ...]

Cells = Mapping[int, int]
"""The cells of a frame of which something is claimed: index -> position in `Certificate.cells`."""

Order = tuple[int, Literal["u", "s"]]
"""A cell, and the order of unsigned or of signed numbers."""

Answer = Atom
"""What a question of null is on the way behind a block: a question there, or one of the next two."""

NULL: Final = "null"
NOT_NULL: Final = "not null"


def place_of(depth: int, index: int, first: int = 0) -> Atom:
    """The name that a value without an identity has on its way to a point: where it lies, from which byte on."""
    return ("in", (depth * CELLS + index) * 8 + first)


def halved(place: Atom) -> Atom:
    """An unknown of which only a shifted sum is claimed, where no such sum arrives: what makes it the value at a place."""
    assert isinstance(place, tuple)
    return ("of", place[1])


@dataclass(frozen=True, slots=True)
class Edge:
    """The way to the point with the number `target`.

    `names` say what unknowns of the target are, as sums of unknowns of the state that arrives; `answers` likewise for its
    questions and for what it holds. What is not mentioned is what it was.
    """

    target: int
    names: Mapping[Atom, Form] = field(default_factory=dict)
    answers: Mapping[Atom, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """A claim about the entry of a block.

    `frames` are the callers' cells, the entry function's first. `visits` are the points of the loops' heads that the run came
    through last, outermost first; what their `ghosts` stand for has not changed since. `ghosts` is None but for heads.
    `edges` are in the order of the states behind the block.
    """

    place: Place
    cells: Cells
    frames: tuple[Cells, ...] = ()
    proofs: Mapping[Atoms, int] = field(default_factory=dict)
    held: frozenset[Atom] = frozenset()
    visits: tuple[int, ...] = ()
    ghosts: frozenset[Atom] | None = None
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """Why a run leaves some points, or at least comes to the points of `inner` loops alone for good.

    Whenever a run comes back to the place of `head` without having left `points`, cell number `cell` has moved by the `order` of
    numbers (unsigned or signed) upwards, if `rising`, or not at all; and ways on which it has not moved make no cycle but in `inner`.
    """

    points: frozenset[int]
    head: int
    cell: int
    order: Literal["u", "s"]
    rising: bool
    inner: tuple[Loop, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """The claims about one program, which `pybpf.verify` makes when asked, and `pybpf.check` checks; `program` is the fingerprint of its code. The first of `points` is the program's entry.

    `entry` leads from the state in which the program starts to the first point. `ahead` are the claims, none about loops, of what a
    processor does ahead of comparisons, for policies that ask for that. `functions` are those of global functions by themselves, for policies
    that ask for that: by entry, what a run does that begins there and does not follow calls of global functions; 0 is the program's.
    """

    program: bytes
    scalars: tuple[ScalarClaim, ...]
    cells: tuple[CellClaim, ...]
    points: tuple[Point, ...]
    entry: Edge
    loops: tuple[Loop, ...] = ()
    ahead: Certificate | None = None
    functions: Mapping[int, Certificate] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The certificate as bytes, the same for the same certificate: about 50 to 70 for each point."""
        from pybpf.verifier import encoding

        return encoding.to_bytes(self)

    @staticmethod
    def from_bytes(data: bytes) -> Certificate:
        """The certificate that `to_bytes` made these bytes of. Raises `CertificateError` for any that it does not make."""
        from pybpf.verifier import encoding

        return encoding.from_bytes(data)


def fingerprint(program: Program) -> bytes:
    """What tells a program from others, so that a certificate of the wrong one is called so. No proof rests on it."""
    return blake2b(encode(program.code, program.byteorder), digest_size=16).digest()
