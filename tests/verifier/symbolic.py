"""Runs Python functions on symbolic integers, path by path, and asks z3 whether something can go wrong.

`Int` behaves like a Python integer whose value is a bit vector wide enough that nothing in the number domain overflows it.
Where a function branches on one, `Paths` follows both ways that are possible, by running the function again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import z3


class Infeasible(Exception):
    """The path that is being followed cannot be taken."""


class Paths:
    """Every way through a function. `assume` narrows the current one; what the function returns is proved at its end."""

    current: ClassVar[Paths]

    def __init__(self) -> None:
        self.given: list[z3.BoolRef] = []
        """What holds on every path."""
        self.here: list[z3.BoolRef] = []
        """What holds on this one."""
        self.taken: list[bool] = []
        self.at = 0
        self.count = 0

    def run(self, function: Callable[[], z3.BoolRef]) -> None:
        """Follow every path through a function and prove what it returns. Raises AssertionError with a counterexample."""
        Paths.current = self
        while True:
            self.at, self.here = 0, []
            try:
                claim = function()
            except Infeasible:
                pass
            else:
                self.count += 1
                for part in _conjuncts(claim):
                    self._must_hold(part)
            # The last decision that has another side is turned around.
            while self.taken and not self.taken[-1]:
                self.taken.pop()
            if not self.taken:
                return
            self.taken[-1] = False

    def _solver(self, *conditions: z3.BoolRef) -> z3.Solver:
        """A solver that knows what holds here. A new one each time: it may then rewrite the whole."""
        solver = z3.SolverFor("QF_BV")
        solver.add(*self.given, *self.here, *conditions)
        return solver

    def _must_hold(self, claim: z3.BoolRef) -> None:
        solver = self._solver(z3.Not(claim))
        answer = solver.check()
        assert answer == z3.unsat, f"path {self.taken}: {answer} {solver.model() if answer == z3.sat else ''}"

    def assume(self, condition: z3.BoolRef) -> None:
        """Only runs in which this holds."""
        self.here.append(condition)

    def decide(self, condition: z3.BoolRef) -> bool:
        """Which way a branch goes on this path: true first, false when the function is run again."""
        condition = z3.simplify(condition)
        if z3.is_true(condition) or z3.is_false(condition):
            return z3.is_true(condition)
        way = self.choose()
        self.here.append(condition if way else z3.Not(condition))
        if self._solver().check() == z3.unsat:
            # The side cannot be taken, so no decision comes after it.
            del self.taken[self.at :]
            raise Infeasible
        return way

    def choose(self) -> bool:
        """Either way, with nothing known of which."""
        if self.at == len(self.taken):
            self.taken.append(True)
        self.at += 1
        return self.taken[self.at - 1]


def _conjuncts(claim: z3.BoolRef) -> list[z3.BoolRef]:
    """The parts of a conjunction: each alone is decided sooner than all at once."""
    if not z3.is_and(claim):
        return [claim]
    return [part for child in claim.children() for part in _conjuncts(child)]


class Bool:
    """A comparison of symbolic integers; asking for its truth takes a decision."""

    def __init__(self, term: z3.BoolRef) -> None:
        self.term = term

    def __bool__(self) -> bool:
        return Paths.current.decide(self.term)

    def __eq__(self, other: object) -> bool:
        return bool(self) == bool(other)

    def __hash__(self) -> int:
        return id(self)


def _term(value: Any) -> z3.BitVecRef:
    return value.term if isinstance(value, Int) else z3.BitVecVal(int(value), Int.width)


class Int:
    """A Python integer, as far as the number domain uses one: `width` bits hold every one that comes up, with its sign."""

    width: ClassVar[int] = 68

    def __init__(self, term: z3.BitVecRef) -> None:
        self.term = term

    def __add__(self, other: Any) -> Int:
        return Int(self.term + _term(other))

    def __sub__(self, other: Any) -> Int:
        return Int(self.term - _term(other))

    def __and__(self, other: Any) -> Int:
        return Int(self.term & _term(other))

    def __or__(self, other: Any) -> Int:
        return Int(self.term | _term(other))

    def __xor__(self, other: Any) -> Int:
        return Int(self.term ^ _term(other))

    def __lshift__(self, other: Any) -> Int:
        return Int(self.term << _term(other))

    def __rshift__(self, other: Any) -> Int:
        return Int(self.term >> _term(other))

    def __radd__(self, other: int) -> Int:
        return Int(_term(other) + self.term)

    def __rsub__(self, other: int) -> Int:
        return Int(_term(other) - self.term)

    def __rlshift__(self, other: int) -> Int:
        return Int(_term(other) << self.term)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __mod__(self, other: Any) -> Int:
        return Int(z3.URem(self.term, _term(other)))

    def __invert__(self) -> Int:
        return Int(~self.term)

    def __neg__(self) -> Int:
        return Int(-self.term)

    def __lt__(self, other: Any) -> Bool:
        return Bool(self.term < _term(other))

    def __le__(self, other: Any) -> Bool:
        return Bool(self.term <= _term(other))

    def __gt__(self, other: Any) -> Bool:
        return Bool(self.term > _term(other))

    def __ge__(self, other: Any) -> Bool:
        return Bool(self.term >= _term(other))

    def __eq__(self, other: object) -> Bool:  # type: ignore[override]
        return Bool(self.term == _term(other))

    def __ne__(self, other: object) -> Bool:  # type: ignore[override]
        return Bool(self.term != _term(other))

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return Paths.current.decide(self.term != 0)

    def __abs__(self) -> Int:
        return Int(z3.If(self.term < 0, -self.term, self.term))

    def to_bytes(self, size: int, order: str) -> list[z3.BitVecRef]:
        """As of a Python integer; `Bytes` reads them."""
        assert order == "little"
        return [z3.Extract(8 * at + 7, 8 * at, self.term) for at in range(size)]

    def bit_length(self) -> Int:
        """The position behind the highest one of a number that is not negative, by halving."""
        length, rest = z3.BitVecVal(0, Int.width), self.term
        for step in (64, 32, 16, 8, 4, 2, 1):
            above = z3.LShR(rest, step)
            length = z3.If(above != 0, length + step, length)
            rest = z3.If(above != 0, above, rest)
        return Int(z3.If(rest != 0, length + 1, length))


class Bytes:
    """In the place of `int` where a function puts bytes together."""

    @staticmethod
    def from_bytes(parts: list[z3.BitVecRef], order: str) -> Int:
        """The first byte is the highest."""
        assert order == "big"
        return Int(z3.ZeroExt(Int.width - 8 * len(parts), z3.Concat(*parts)))


def least(*values: Any) -> Int:
    """`min` without a decision."""
    first, *rest = map(_term, values)
    for other in rest:
        first = z3.If(other < first, other, first)
    return Int(first)


def greatest(*values: Any) -> Int:
    """`max` without a decision."""
    first, *rest = map(_term, values)
    for other in rest:
        first = z3.If(other > first, other, first)
    return Int(first)


def number(name: str, w: int) -> Int:
    """Any number of w bits."""
    return Int(z3.ZeroExt(Int.width - w, z3.BitVec(name, w)))
