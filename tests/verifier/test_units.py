"""Which sums of unknowns become unknowns in a certificate."""

from __future__ import annotations

from typing import Any

from pybpf.verifier.units import simplified


def shifted(*atoms: Any) -> Any:
    return ("lsh", atoms, 0, 2, True, True)


NOTHING: frozenset[Any] = frozenset()


def test_what_is_simple_stays() -> None:
    sums: list[Any] = [("x",), ("y",), ()]
    assert simplified(sums, NOTHING, {}) == {atoms: atoms for atoms in sums}


def test_a_sum_with_an_unknown_of_its_own_is_one() -> None:
    """x + y may be any number, since y may and is nowhere else; x is still in other sums."""
    assert simplified([("x", "y"), ("x",)], NOTHING, {}) == {
        ("x", "y"): (("sum", ("x", "y")),),
        ("x",): ("x",),
    }


def test_two_sums_of_the_same_unknowns_stay() -> None:
    """x + y and x + z and y + z: each unknown is in two, and what relates them would be lost."""
    sums: list[Any] = [("x", "y"), ("x", "z"), ("y", "z")]
    assert simplified(sums, NOTHING, {}) == {atoms: atoms for atoms in sums}


def test_what_is_fixed_stays() -> None:
    assert simplified([("x", "y")], frozenset("xy"), {}) == {("x", "y"): ("x", "y")}
    assert simplified([("x", "y")], frozenset("x"), {}) == {("x", "y"): (("sum", ("x", "y")),)}


def test_a_shifted_sum_is_an_unknown_wherever_it_is() -> None:
    """4x, and 4(4x): x is known by 4x alone."""
    once, twice = shifted("x"), shifted(shifted("x"))
    unit: Any = ("sum", (once,))
    assert simplified([(once,), (twice,)], NOTHING, {}) == {(once,): (unit,), (twice,): (shifted(unit),)}
    both: list[Any] = [(once,), ("x",)]
    assert simplified(both, NOTHING, {}) == {atoms: atoms for atoms in both}


def test_inside_a_loop_a_sum_is_what_it_is_at_the_head() -> None:
    once = shifted("x")
    unit: Any = ("sum", (once,))
    given: Any = {(once,): (unit,)}
    assert simplified([(once,), ("x",), (once, "y"), ("y",)], frozenset([unit]), given) == {
        (once,): (unit,),
        ("x",): ("x",),
        (once, "y"): tuple(sorted((unit, "y"), key=repr)),
        ("y",): ("y",),
    }
