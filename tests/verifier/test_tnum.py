"""Tristate numbers: every function on every operand of four or five bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf.semantics import U64
from pybpf.verifier import tnum
from tests.verifier.domain import Domain, check_tnum_operator, check_tnum_search, check_tnum_shapes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at_least"),
    [("add", 1.0), ("sub", 1.0), ("and_", 1.0), ("or_", 1.0), ("xor", 1.0), ("mul", 0.93)],
)
def test_operator_is_sound_and_the_best_a_tnum_can_say(name: str, at_least: float) -> None:
    """All 59,049 pairs of tnums of five bits; only multiplication is not always the best (as in the paper)."""
    assert check_tnum_operator(Domain(), 5, name).ratio >= at_least


@pytest.mark.parametrize("w", [1, 2, 3, 4, 5])
def test_search_finds_the_nearest_member(w: int) -> None:
    """`at_least` and `at_most` for every tnum and every number, those without an answer included."""
    check_tnum_search(Domain(), w)


def test_shapes_are_the_best_a_tnum_can_say() -> None:
    """Shifts, sign extension, ranges, joins, intersections and inclusion at four bits."""
    check_tnum_shapes(Domain(), 4)


@given(st.integers(0, U64), st.integers(0, U64), st.sampled_from((16, 32, 64)))
def test_byte_swap_moves_known_and_unknown_bits_alike(x: int, mask: int, bits: int) -> None:
    """A member's bytes in reverse order are a member of the swapped tnum."""
    value, unknown = tnum.byte_swap((x & ~mask, mask), bits)
    swapped = int.from_bytes((x & ((1 << bits) - 1)).to_bytes(bits // 8, "little"), "big")
    assert swapped & ~unknown == value
    assert unknown.bit_count() == (mask & ((1 << bits) - 1)).bit_count()
