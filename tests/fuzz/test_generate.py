"""The generator: whatever bytes say, they say a program; most programs verify; smaller bytes stay programs of the same kind."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings

import pybpf
from fuzz.case import Case, cases
from fuzz.generate import TYPES, write
from fuzz.recipe import drawn
from pybpf import BpfError, Program, VerifierError, decode, encode

FORM = {"jump-range", "fall-through", "unreachable", "invalid-instruction", "recursion", "empty-program"}
"""Reasons that a written program is never refused for: it always has the form of one."""


def _reason(program: Program) -> str | None:
    """The reason of a refusal, None if the program is accepted."""
    try:
        pybpf.verify(program)
    except VerifierError as error:
        return error.reason
    return None


@settings(max_examples=50, deadline=None)
@given(cases())
def test_any_bytes_are_a_program(case: Case) -> None:
    """What hypothesis makes of the strategy encodes, decodes, and is never refused for its form."""
    assert decode(encode(case.program.code)) == case.program.code
    assert _reason(case.program) not in FORM


def test_no_bytes_are_the_simplest_program() -> None:
    """Zero, or nothing, is the simplest choice everywhere: what a shrinker arrives at is accepted and short."""
    for type_ in TYPES:
        assert len(pybpf.verify(write(type_, [])).program.code) <= 4


@pytest.mark.slow
def test_without_a_statement_it_is_still_a_program() -> None:
    """Any statement can be left out, and any decision made simpler: shrinking keeps programs meaningful."""
    random = Random(4)
    for _ in range(15):
        recipe = drawn(random, "generated")
        for index in range(1, len(recipe.blobs)):
            fewer = [*recipe.blobs[:index], *recipe.blobs[index + 1 :]]
            simpler = [*recipe.blobs[:index], bytes(24), *recipe.blobs[index + 1 :]]
            for blobs in (fewer, simpler):
                program = write(TYPES[recipe.type], blobs)
                assert _reason(program) not in FORM


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(TYPES)), ids=[type_.name for type_ in TYPES])
def test_most_programs_are_accepted(number: int) -> None:
    """At least six in ten of each type."""
    random = Random(5)
    recipes = [drawn(random, "generated") for _ in range(60)]
    accepted = 0
    for recipe in recipes:
        try:
            pybpf.verify(write(TYPES[number], recipe.blobs))
        except BpfError:
            continue
        accepted += 1
    assert accepted >= 36
