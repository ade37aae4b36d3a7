"""Rewritings mean the same: the interpreter says so."""

from __future__ import annotations

from random import Random

import pytest

import pybpf
from fuzz.case import clock, contexts
from fuzz.recipe import drawn
from fuzz.rewrites import REWRITES
from pybpf import BpfError, BudgetExceeded


@pytest.mark.slow
@pytest.mark.parametrize("name", REWRITES)
def test_the_same_results(name: str) -> None:
    """Results, packets and maps of accepted programs that reveal no address."""
    random = Random(11)
    compared = 0
    while compared < 40:
        case = drawn(random, "generated").case()
        assert case is not None
        if not case.type.runnable or case.type.policy.pointer_leaks:
            continue
        try:
            before = pybpf.verify(case.program)
            changed = REWRITES[name](case.program, random)
            after = pybpf.verify(changed)
            instances = [
                pybpf.instantiate(
                    v,
                    engine="interpreter",
                    maps={m.name: m for m in case.make_maps()},
                    clock=clock(),
                    budget=50_000,
                )
                for v in (before, after)
            ]
        except BpfError:
            continue
        for packet in case.packets:
            try:
                left, right = (i.run(packet, contexts(case.type)) for i in instances)
            except BudgetExceeded:
                break
            assert left == right, pybpf.disassemble(changed)
        assert {n: dict(m) for n, m in instances[0].maps.items()} == {
            n: dict(m) for n, m in instances[1].maps.items()
        }
        compared += 1
