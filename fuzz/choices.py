"""Decisions of a generator, read from bytes.

Every statement of a generated program gets a few bytes of its own and takes all its decisions from them. A shrinker can so drop
a statement or make one simpler without touching the others, and what is left is still a program of the same kind. Bytes that
have run out read as zero, and zero always chooses the first, which is the simplest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

SIZE: Final = 24
"""Bytes that a statement gets."""


class Abandon(Exception):
    """A statement cannot go on: something that it needs is not to be had."""


class Choices:
    """A stream of decisions."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def integer(self, low: int, high: int) -> int:
        """A number from `low` to `high`; `low` is the simplest. Raises `Abandon` if there is none."""
        count = high - low + 1
        if count <= 0:
            raise Abandon
        size = 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 4 if count <= 1 << 32 else 8
        chunk = self._data[self._at : self._at + size]
        self._at += size
        return low + int.from_bytes(chunk, "little") % count

    def among(self, options: Sequence[T]) -> T:
        """One of the options; the first is the simplest. Raises `Abandon` if there is none."""
        return options[self.integer(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """True in about so many cases of a hundred; False is the simpler."""
        return self.integer(0, 255) >= 256 - percent * 256 // 100
