"""Systems of equations modulo 2**64."""

from __future__ import annotations

from random import Random

from fuzz.linear import MODULUS, System


def test_systems_with_a_solution_are_solved() -> None:
    """Equations made from values hold together, and a sum that follows from them has its value."""
    random = Random(1)
    for _ in range(200):
        values = {name: random.randrange(MODULUS) for name in "abcd"}
        system = System()
        rows = []
        for _ in range(random.randint(1, 6)):
            terms = {name: random.choice((0, 1, 1, 2, 4, -1, 3)) for name in values}
            total = sum(c * values[name] for name, c in terms.items())
            system.add(terms, total)
            rows.append((terms, total))
        assert system.solve()
        for terms, total in rows:
            assert system.value(terms) == total % MODULUS


def test_contradictions_are_seen() -> None:
    """Two values for one sum; an odd multiple of two; a contradiction that takes elimination."""
    for equations in (
        (({"a": 1}, 1), ({"a": 1}, 2)),
        (({"a": 2}, 3),),
        (({"a": 1, "b": 1}, 5), ({"a": 1, "b": -1}, 2)),
        (({}, 1),),
    ):
        system = System()
        for terms, value in equations:
            system.add(terms, value)
        assert not system.solve()


def test_what_is_open_is_open() -> None:
    """Twice a number does not say the number: there are two."""
    system = System()
    system.add({"a": 2}, 6)
    assert system.solve()
    assert system.value({"a": 1}) is None
    assert system.value({"a": 4}) == 12
    assert system.value({"b": 1}) is None
