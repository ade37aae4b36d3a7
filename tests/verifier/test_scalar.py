"""Abstract numbers of two views: by enumeration at 4 bits with halves of 2, by membership at 64 bits with halves of 32."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import semantics
from pybpf.semantics import U32, U64
from pybpf.verifier import scalar, view
from pybpf.verifier.scalar import Numbers, describe
from tests.verifier.domain import (
    CONDITIONS,
    EDGES,
    OPERATORS,
    Domain,
    all_scalars,
    around,
    check_branch,
    check_end,
    check_extract,
    check_point,
    check_scalar_operator,
    check_scalar_refinement,
    holds,
)
from tests.verifier.views import Set, members

REAL = Domain()


@cache
def small() -> tuple[Numbers, list[tuple[Set, scalar.Scalar]]]:
    """The numbers of 4 bits and every scalar of them."""
    numbers = Numbers(width=4)
    return numbers, all_scalars(REAL, numbers)


def sample(count: int) -> list[tuple[tuple[Set, scalar.Scalar], tuple[Set, scalar.Scalar]]]:
    rng, everything = random.Random(3), small()[1]
    return [(rng.choice(everything), rng.choice(everything)) for _ in range(count)]


@pytest.mark.slow
def test_making_a_scalar_of_two_views_is_exact() -> None:
    """Of all 25,980 pairs of a wide and a narrow view: nothing lost, nothing added; an empty set may go unseen, rarely."""
    everything = small()[1]
    empty = sum(not xs for xs, _ in everything)
    assert len(everything) > 1732
    assert empty / len(everything) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("code", OPERATORS)
def test_operations_on_unseen_empty_sets_give_something(code: str) -> None:
    """Two views that share no number, though neither shows it, are operands like any other: no operation breaks."""
    numbers, everything = small()
    empty = [a for xs, a in everything if not xs][:150]
    for a in empty:
        for b in (*empty[::10], numbers.unknown):
            assert numbers.alu(code, 4, a, b) is not None
            assert numbers.alu(code, 2, a, b) is not None
            assert numbers.join(a, b) is not None


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("code", OPERATORS)
def test_operators_by_enumeration(code: str, width: int) -> None:
    """4,000 pairs of scalars, every member of each: the result at full width, and at half with the upper half cleared."""
    check_scalar_operator(REAL, small()[0], code, width, sample(4000))


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("code", CONDITIONS)
def test_refinements_by_enumeration(code: str, width: int) -> None:
    """4,000 pairs of scalars: no pair that takes the branch is lost."""
    check_scalar_refinement(REAL, small()[0], code, width, sample(4000))


@pytest.mark.slow
def test_parts_by_enumeration() -> None:
    """Every part of every fifth scalar, as a load of part of a stored number reads it."""
    numbers, everything = small()
    for xs, a in everything[::5]:
        for shift in range(4):
            for bits in range(1, 5 - shift):
                for x in members(xs):
                    check_extract(REAL, numbers, shift, bits, x, a)


@pytest.mark.slow
def test_join_intersection_and_inclusion_by_enumeration() -> None:
    """A join holds both; an intersection loses nothing common; what includes really does."""
    numbers = small()[0]
    for (xs, a), (ys, b) in sample(8000):
        joined = numbers.join(a, b)
        assert all(holds(REAL, numbers, joined, x) for x in members(xs | ys))
        assert joined is numbers.join(b, a)
        both = numbers.intersect(a, b)
        assert not xs & ys or (
            both is not None and all(holds(REAL, numbers, both, x) for x in members(xs & ys))
        )
        assert not scalar.includes(a, b) or not ys & ~xs
        assert scalar.includes(joined, a)
        assert scalar.includes(joined, b)


def test_equal_scalars_are_one_object() -> None:
    """Interning: however a scalar is made, equality is identity."""
    numbers = Numbers()
    assert numbers.unsigned(3, 3) is numbers.constant(3)
    assert numbers.signed(-1, -1) is numbers.constant(U64)
    assert numbers.constant(U64) is numbers.constant(-1)
    assert numbers.alu("and", 64, numbers.unknown, numbers.constant(255)) is numbers.unsigned(0, 255)
    assert numbers.alu("add", 32, numbers.constant(U32), numbers.constant(1)) is numbers.constant(0)


NUMBER = st.one_of(st.sampled_from(EDGES), st.integers(0, 300), st.integers(0, U32), st.integers(0, U64))
SLACK = st.tuples(
    *[st.one_of(st.just(0), st.integers(0, 255), st.sampled_from(EDGES), st.integers(0, U64))] * 7
)
NUMBERS = Numbers()


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("code", view.OPS)
@settings(max_examples=150)
@given(x=NUMBER, y=st.one_of(NUMBER, st.integers(0, 64)), over=SLACK, under=SLACK)
def test_operators_at_64_bits(
    code: str, width: int, x: int, y: int, over: tuple[int, ...], under: tuple[int, ...]
) -> None:
    """What an instruction computes from two numbers lies in what the domain computes from two sets around them."""
    a, b = around(REAL, NUMBERS, x, over), around(REAL, NUMBERS, y, under)
    check_point(REAL, NUMBERS, code, width, x, a, y, b)


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("code", CONDITIONS)
@settings(max_examples=150)
@given(x=NUMBER, y=NUMBER, over=SLACK, under=SLACK, equal=st.booleans())
def test_refinements_at_64_bits(
    code: str, width: int, x: int, y: int, over: tuple[int, ...], under: tuple[int, ...], equal: bool
) -> None:
    """Two numbers that take a branch are in what it leaves."""
    y = x if equal else y
    a, b = around(REAL, NUMBERS, x, over), around(REAL, NUMBERS, y, under)
    check_branch(REAL, NUMBERS, code, width, x, a, y, b)


@pytest.mark.slow
@given(x=NUMBER, slack=SLACK, code=st.sampled_from(sorted(semantics.END)), bits=st.sampled_from((16, 32, 64)))
def test_byte_order_at_64_bits(x: int, slack: tuple[int, ...], code: str, bits: int) -> None:
    """A number with its bytes exchanged lies in the set with its bytes exchanged."""
    check_end(REAL, NUMBERS, code, bits, x, around(REAL, NUMBERS, x, slack))


@pytest.mark.slow
@given(x=NUMBER, slack=SLACK, first=st.integers(0, 7), data=st.data())
def test_parts_at_64_bits(x: int, slack: tuple[int, ...], first: int, data: st.DataObject) -> None:
    """What a load of some bytes of a stored number gives."""
    size = data.draw(st.integers(1, 8 - first))
    check_extract(REAL, NUMBERS, 8 * first, 8 * size, x, around(REAL, NUMBERS, x, slack))


@pytest.mark.slow
@given(x=NUMBER, y=NUMBER, over=SLACK, under=SLACK)
def test_lattice_at_64_bits(x: int, y: int, over: tuple[int, ...], under: tuple[int, ...]) -> None:
    """A join holds the numbers that its parts were made around, and includes them; inclusion implies membership."""
    a, b = around(REAL, NUMBERS, x, over), around(REAL, NUMBERS, y, under)
    joined = NUMBERS.join(a, b)
    assert holds(REAL, NUMBERS, joined, x)
    assert holds(REAL, NUMBERS, joined, y)
    assert scalar.includes(joined, a)
    assert not scalar.includes(a, b) or holds(REAL, NUMBERS, a, y)
    assert NUMBERS.intersect(a, joined) is a


# Precision that programs rely on, by name.


def test_a_mask_bounds_a_number() -> None:
    assert NUMBERS.alu("and", 64, NUMBERS.unknown, NUMBERS.constant(0x3C)).wide[:4] == (0, 0x3C, 0, 0x3C)


def test_a_32_bit_comparison_bounds_the_lower_half_only() -> None:
    """32-bit compares prove nothing about the whole number unless its upper half is known."""
    refined = NUMBERS.refine("jlt", 32, NUMBERS.unknown, NUMBERS.constant(10))
    assert refined is not None
    assert refined[0].narrow.umax == 9
    assert refined[0].wide.umax == (U32 << 32) + 9
    byte = NUMBERS.refine("jlt", 32, NUMBERS.unsigned(0, U32), NUMBERS.constant(10))
    assert byte is not None
    assert byte[0] is NUMBERS.unsigned(0, 9)


def test_a_32_bit_operation_clears_the_upper_half() -> None:
    assert NUMBERS.alu("mov", 32, NUMBERS.unknown, NUMBERS.constant(-1)) is NUMBERS.constant(U32)
    assert NUMBERS.alu("add", 32, NUMBERS.unknown, NUMBERS.constant(1)).wide.umax == U32


def test_an_unsigned_bound_says_nothing_of_the_sign() -> None:
    """More than 5 as unsigned may be negative (spec U13)."""
    above = NUMBERS.refine("jgt", 64, NUMBERS.unknown, NUMBERS.constant(5))
    assert above is not None
    assert above[0].wide.smin < 0
    both = NUMBERS.refine("jsle", 64, above[0], NUMBERS.constant(10))
    assert both is not None
    assert both[0].wide.smin < 0


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0, 0, "0"), (5, 5, "5"), (14, 74, "14..74"), (0, 255, "0..255"), (0, U64, "unknown")],
)
def test_description(low: int, high: int, text: str) -> None:
    """A number as messages show it."""
    assert describe(NUMBERS.unsigned(low, high)) == text


def test_description_of_bits_and_signs() -> None:
    """Known bits and negative ranges where they say more."""
    assert (
        describe(NUMBERS.alu("and", 64, NUMBERS.unknown, NUMBERS.constant(0xF0)))
        == "0..240, bits (0x0; 0xf0)"
    )
    assert describe(NUMBERS.signed(-4095, 0)) == "-4095..0"
    assert describe(NUMBERS.constant(-22)) == "-22"
