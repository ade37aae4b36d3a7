"""Making findings small."""

from __future__ import annotations

from random import Random

import pytest

import pybpf
from fuzz.recipe import Recipe, drawn
from fuzz.shrink import smallest
from pybpf import BpfError
from pybpf.isa import Kind


def _has_atomic_and_verifies(recipe: Recipe) -> bool:
    case = recipe.case()
    if case is None or not any(i.op.kind is Kind.ATOMIC for i in case.program.code.values()):
        return False
    try:
        pybpf.verify(case.program)
    except BpfError:
        return False
    return True


@pytest.mark.slow
def test_what_is_left_still_has_it() -> None:
    """A long accepted program with an atomic becomes a short accepted one with an atomic, on one packet or none."""
    random = Random(1)
    found = next(
        r
        for r in iter(lambda: drawn(random, "generated"), None)
        if len(r.blobs) > 8 and _has_atomic_and_verifies(r)
    )
    small = smallest(found, _has_atomic_and_verifies)
    assert _has_atomic_and_verifies(small)
    case = small.case()
    assert case is not None
    assert len(case.program.code) <= 16
    assert not case.packets
    assert len(small.blobs) <= 4


def test_nothing_is_lost_where_everything_is_needed() -> None:
    """Where no simpler recipe fails, it is left alone; and the number of attempts is kept to."""
    recipe = drawn(Random(2), "generated")
    tried: list[Recipe] = []

    def never(candidate: Recipe) -> bool:
        tried.append(candidate)
        return False

    assert smallest(recipe, never, attempts=40) is recipe
    assert len(tried) <= 40
    assert len(set(tried)) == len(tried)
