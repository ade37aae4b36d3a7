"""Systems of linear equations modulo 2**64: whether unknowns can have values that make all of them true.

Numbers modulo 2**64 are no field, but they are a local ring: among any coefficients one that is divisible by the fewest twos
divides all the others. Elimination with such a pivot is exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

MODULUS: Final = 1 << 64

Sum = Mapping[Hashable, int]
"""A sum of unknowns: coefficient by unknown."""


class System:
    """Equations that hold together. Call `add` for each, then `solve` once."""

    def __init__(self) -> None:
        self._rows: list[tuple[dict[Hashable, int], int]] = []
        self._pivots: list[tuple[Hashable, int, dict[Hashable, int], int]] = []

    def add(self, terms: Sum, value: int) -> None:
        """The sum equals `value`."""
        row = {name: c % MODULUS for name, c in terms.items() if c % MODULUS}
        self._rows.append((row, value % MODULUS))

    def solve(self) -> bool:
        """Whether all equations can hold."""
        rows = self._rows
        while rows:
            rows = [row for row in rows if row[0] or row[1]]
            if any(not terms for terms, _ in rows):
                return False
            if not rows:
                break
            index, name = min(
                ((i, n) for i, (terms, _) in enumerate(rows) for n in terms),
                key=lambda place: _twos(rows[place[0]][0][place[1]]),
            )
            terms, value = rows.pop(index)
            twos = _twos(terms[name])
            if value and _twos(value) < twos:
                return False
            inverse = pow(terms[name] >> twos, -1, MODULUS)
            terms = {n: c * inverse % MODULUS for n, c in terms.items()}
            value = value * inverse % MODULUS
            self._pivots.append((name, twos, terms, value))
            rows = [_reduced(row, self._pivots[-1]) for row in rows]
        return True

    def value(self, terms: Sum) -> int | None:
        """What the sum must be in every solution, None where that is open. Only after `solve` gave True."""
        row = ({name: c % MODULUS for name, c in terms.items() if c % MODULUS}, 0)
        for pivot in self._pivots:
            coefficient = row[0].get(pivot[0], 0)
            if coefficient and _twos(coefficient) < pivot[1]:
                return None
            row = _reduced(row, pivot)
        return -row[1] % MODULUS if not row[0] else None


def _twos(x: int) -> int:
    """How often two divides x > 0."""
    return (x & -x).bit_length() - 1


def _reduced(
    row: tuple[dict[Hashable, int], int], pivot: tuple[Hashable, int, dict[Hashable, int], int]
) -> tuple[dict[Hashable, int], int]:
    """The row less so much of the pivot's that the pivot's unknown is gone."""
    terms, value = row
    name, twos, pivot_terms, pivot_value = pivot
    coefficient = terms.get(name, 0)
    if not coefficient:
        return row
    factor = coefficient >> twos
    out = terms.copy()
    for n, c in pivot_terms.items():
        rest = (out.get(n, 0) - factor * c) % MODULUS
        if rest:
            out[n] = rest
        else:
            out.pop(n, None)
    return out, (value - factor * pivot_value) % MODULUS
