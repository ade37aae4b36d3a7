"""The number domain at one width: every operation and every refinement against all numbers of small widths.

At 3 bits every pair of the 134 closed sets is tried (17,956), at 4 bits every pair of the 118 sets of at most two numbers (13,924) and a
fixed sample of 6,000 of the 1,732 x 1,732. With ``PYBPF_ALL_PAIRS=1`` in the environment the sample becomes all 2,999,824 pairs (about half
a minute an operation); the figures in `BEST` are from there.
"""

from __future__ import annotations

import os

import pytest

from pybpf import isa, semantics
from pybpf.verifier import view
from tests.verifier.domain import (
    CONDITIONS,
    OPERATORS,
    Domain,
    Pair,
    all_pairs,
    check_extension,
    check_lattice,
    check_operator,
    check_reduce,
    check_refinement,
    raw_views,
    small_pairs,
    some_pairs,
    some_raw_views,
)
from tests.verifier.views import closed, members

pytestmark = pytest.mark.slow

REAL = Domain()

# The least part of the results, in percent, that must be the best a view can say: at 3 bits, at 4 bits (sampled).
BEST = {
    "add": (97, 95), "sub": (97, 94), "mul": (60, 50), "div": (49, 58), "sdiv": (92, 95), "mod": (26, 9),
    "smod": (71, 72), "and": (99, 97), "or": (99, 97), "xor": (97, 94), "lsh": (99, 63), "rsh": (51, 39),
    "arsh": (93, 89), "neg": (100, 100), "mov": (100, 100),
    "jeq": (100, 100), "jne": (99.8, 99.9), "jgt": (100, 100), "jle": (100, 100), "jge": (100, 100), "jlt": (100, 100),
    "jsgt": (100, 100), "jsle": (100, 100), "jsge": (100, 100), "jslt": (100, 100), "jset": (44, 54), "jnset": (57, 33),
}  # fmt: skip


def pairs(w: int) -> list[Pair]:
    return all_pairs(w) if w < 4 or os.environ.get("PYBPF_ALL_PAIRS") else some_pairs(w, 6000)


def test_closed_sets_are_what_views_can_say() -> None:
    """The ground of the tests: so many sets, each the meaning of its view, whole ranges and single numbers among them."""
    assert [len(closed(w)) for w in (1, 2, 3, 4)] == [3, 15, 134, 1732]
    for w in (1, 2, 3, 4):
        sets = {s for s, _ in closed(w)}
        assert {1 << x for x in range(1 << w)} <= sets
        assert (1 << (1 << w)) - 1 in sets
        assert all(view.contains(w, v, x) for s, v in closed(w) for x in members(s))


def test_every_operator_is_covered() -> None:
    """The tables of the domain have what the semantics have, and the conditions what the instruction table has."""
    assert set(view.OPS) == set(semantics.ALU)
    branches = {op.code for op in isa.OPS if op.kind is isa.Kind.BRANCH}
    assert branches | {"jnset"} == set(CONDITIONS)
    assert set(BEST) == set(OPERATORS) | set(CONDITIONS)


def test_negation_is_an_involution() -> None:
    """Each condition or its opposite holds for any two numbers, never both."""
    assert all(view.NEGATED[view.NEGATED[code]] == code for code in CONDITIONS)


@pytest.mark.parametrize("w", [3, 4])
@pytest.mark.parametrize("code", OPERATORS)
def test_operator_is_sound_and_as_precise_as_claimed(code: str, w: int) -> None:
    """Every result of two members is a member of the abstract result; so many results are the best possible."""
    check_operator(REAL, w, code, small_pairs(w))
    score = check_operator(REAL, w, code, pairs(w))
    assert 100 * score.ratio >= BEST[code][w - 3]


@pytest.mark.parametrize("w", [3, 4])
@pytest.mark.parametrize("code", CONDITIONS)
def test_refinement_is_sound_and_as_precise_as_claimed(code: str, w: int) -> None:
    """No pair for which the condition holds is lost; so many results are the best possible."""
    check_refinement(REAL, w, code, small_pairs(w))
    score = check_refinement(REAL, w, code, pairs(w))
    assert 100 * score.ratio >= BEST[code][w - 3]


@pytest.mark.parametrize("name", ["sign_extend", "zero_extend"])
@pytest.mark.parametrize("w", [2, 3, 4])
def test_extension_is_sound(name: str, w: int) -> None:
    """From every number of bits, on every view."""
    check_extension(REAL, w, name)


@pytest.mark.parametrize("w", [1, 2, 3])
def test_reduce_is_exact(w: int) -> None:
    """For every combination of parts: nothing lost, nothing added, empty if and only if empty, and the best view."""
    check_reduce(REAL, w, raw_views(w))


def test_reduce_is_exact_at_four_bits() -> None:
    """30,000 of the 1.5 million combinations of four bits."""
    check_reduce(REAL, 4, some_raw_views(4, 30_000))


@pytest.mark.parametrize("w", [2, 3, 4])
def test_join_intersection_and_inclusion(w: int) -> None:
    """Joins hold both sets; intersection and inclusion are exact on reduced views."""
    check_lattice(REAL, w, pairs(w))
