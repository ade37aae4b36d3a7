"""Recipes: data that decides a case."""

from __future__ import annotations

import pickle
from random import Random

import pytest

from fuzz.recipe import SOURCES, Recipe, bases, drawn
from fuzz.text import text_of


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_state_draws_the_same(source: str) -> None:
    """What is drawn is decided by the random state alone, and so is the case; a recipe survives being written down."""
    if source == "real" and not bases():
        pytest.skip("no compiled programs here")
    first, second = Random(9), Random(9)
    for _ in range(20):
        a, b = drawn(first, source), drawn(second, source)
        assert a == b == pickle.loads(pickle.dumps(a))
        case, again = a.case(), b.case()
        assert (case is None) == (again is None)
        if case is not None and again is not None:
            assert text_of(case) == text_of(again)


def test_bytes_that_are_no_program_are_no_case() -> None:
    """A changed byte may leave no instruction: then there is no case, and nothing is raised."""
    recipe = Recipe(0, (), (b"",), b"", edits=((0, 0, 0x8F),))
    assert recipe.case() is None
