"""Every view of a small width, and what it stands for: the ground on which the number domain is tested.

A set of w-bit numbers is written as an integer whose bit x says that x is in it, so that sets are joined, cut and compared
in one machine operation. `closed` lists every set that a view can stand for, each with its best view, computed from the
set itself and not by the code under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache

from pybpf.semantics import signed
from pybpf.verifier.view import View, contains

Set = int
"""Bit x says whether x is in the set."""


def members(numbers: Set) -> list[int]:
    """The numbers of a set, in order."""
    return [x for x in range(numbers.bit_length()) if numbers >> x & 1]


def set_of(numbers: Iterator[int] | list[int] | range) -> Set:
    """The set of some numbers."""
    out = 0
    for x in numbers:
        out |= 1 << x
    return out


def meaning(w: int, view: View) -> Set:
    """What a view stands for, by its definition."""
    return set_of([x for x in range(1 << w) if contains(w, view, x)])


def best(w: int, numbers: Set) -> View:
    """The least view that holds a set: the bits on which all agree, the extremes in both orders."""
    xs = members(numbers)
    ones, zeros = xs[0], ~xs[0]
    for x in xs:
        ones, zeros = ones & x, zeros & ~x
    full = (1 << w) - 1
    order = [signed(x, w) for x in xs]
    return View(ones, full & ~(ones | zeros), xs[0], xs[-1], min(order), max(order))


@cache
def ranges(w: int) -> tuple[Set, ...]:
    """Every set that an unsigned and a signed range cut out together."""
    whole = range(1 << w)
    unsigned = [set_of(whole[a : b + 1]) for a in whole for b in whole[a:]]
    half = 1 << (w - 1)
    by_sign = [
        set_of([x % (1 << w) for x in range(a, b + 1)]) for a in range(-half, half) for b in range(a, half)
    ]
    return tuple(sorted({u & s for u in unsigned for s in by_sign} - {0}))


@cache
def tnums(w: int) -> tuple[tuple[int, int], ...]:
    """Every tnum."""
    return tuple((value, mask) for mask in range(1 << w) for value in range(1 << w) if not value & mask)


def tnum_set(w: int, bits: tuple[int, int]) -> Set:
    """What a tnum stands for."""
    return set_of([x for x in range(1 << w) if x & ~bits[1] == bits[0]])


@cache
def closed(w: int) -> tuple[tuple[Set, View], ...]:
    """Every non-empty set that a view can stand for, with its least view; the smallest sets first."""
    by_bits = [tnum_set(w, bits) for bits in tnums(w)]
    sets = {a & b for a, b in itertools.product(by_bits, ranges(w))} - {0}
    return tuple((s, best(w, s)) for s in sorted(sets, key=lambda s: (s.bit_count(), s)))


class Image:
    """The image of sets under an operator of two numbers, computed point by point and remembered by row."""

    def __init__(self, w: int, operator: Callable[[int, int], int]) -> None:
        full = (1 << w) - 1
        self.table = [[1 << (operator(a, b) & full) for b in range(1 << w)] for a in range(1 << w)]
        self.rows: dict[tuple[int, Set], Set] = {}

    def __call__(self, a: Set, b: Set) -> Set:
        out = 0
        for x in members(a):
            row = self.rows.get((x, b))
            if row is None:
                row = 0
                for y in members(b):
                    row |= self.table[x][y]
                self.rows[x, b] = row
            out |= row
        return out
