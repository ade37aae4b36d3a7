"""Views at 32 and 64 bits, proved: the code that runs in the verifier is run on symbolic numbers, and z3 decides.

What one proof shows, others may take for granted: where a function calls another, that one gives anything of which what is
proved of it is true (`_Specified`, `_signs`). So `reduce` is proved one exchange at a time, operations by the ranges of which `_of_ranges`
makes a view, and both of those by themselves. Of products and quotients z3 is told what everybody knows: in which direction
they are monotone.

Not proved but argued: that a loop of proved steps is right. These are `reduce` (it repeats exchanges), `_least` and `_greatest` (they go
through the bits with the steps proved here) and `_shift` (it joins the results for all amounts, each proved here).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed")

from pybpf.verifier import tnum, view  # noqa: E402
from tests.verifier.proofs import (  # noqa: E402
    CONDITIONS,
    any_tnum,
    any_view,
    between,
    cut,
    in_tnum,
    in_view,
    integer,
    literal,
    member,
    nearest,
    signed,
)
from tests.verifier.symbolic import Int, Paths, greatest, least, number  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.proof]

TRUE, FALSE = z3.BoolVal(True), z3.BoolVal(False)


@pytest.fixture(params=[32, 64])
def w(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(autouse=True)
def _one_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Least and greatest are one formula, not several paths."""
    monkeypatch.setattr(view, "min", least, raising=False)
    monkeypatch.setattr(view, "max", greatest, raising=False)


@pytest.fixture
def unreduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations as they are before the `reduce` at their end, which drops no number."""
    monkeypatch.setattr(view, "reduce", lambda w, v: v)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers with room for products and shifts."""
    monkeypatch.setattr(Int, "width", 136)


def test_membership(w: int) -> None:
    """`contains` is the definition."""
    paths = Paths()
    v, x = any_view(paths, "v", w), number("x", w)
    paths.run(lambda: in_view(x, v, w) if view.contains(w, v, x) else z3.Not(in_view(x, v, w)))  # type: ignore[arg-type]


def test_constants(w: int) -> None:
    """A number is in its view, and every number in the greatest."""
    paths = Paths()
    x = number("x", w)
    paths.run(lambda: z3.And(in_view(x, view.constant(w, x), w), in_view(x, view.top(w), w)))  # type: ignore[arg-type]


def test_an_exchange_drops_no_number(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`reduce` repeats this: every number of a view is in the exchanged one, and an empty view is found only where it is."""
    paths = Paths()
    v = any_view(paths, "v", w)
    x = member(paths, "x", v, w)
    tnums = _Specified(x, w)
    for name in ("at_least", "at_most", "from_range", "intersect", "join"):
        monkeypatch.setattr(tnum, name, getattr(tnums, name))

    def exchanged() -> Any:
        tnums.count, tnums.found = 0, []
        result = view._exchange(w, v)
        return FALSE if result is None else in_view(x, result, w)

    paths.run(exchanged)


class _Specified:
    """The functions on tnums as they were proved: what they say of one number x, and of the numbers that they found."""

    def __init__(self, x: Int, w: int) -> None:
        self.x = x
        self.w = w
        self.found: list[Int] = []
        self.count = 0

    def _fresh(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def _bits(self) -> tuple[Int, Int]:
        bits = number(self._fresh("value"), self.w), number(self._fresh("mask"), self.w)
        Paths.current.assume((bits[0].term & bits[1].term) == 0)
        return bits

    def _search(self, bits: Any, bound: Any, *, above: bool) -> Int | None:
        found = number(self._fresh("found"), self.w) if Paths.current.choose() else None
        Paths.current.assume(nearest(bits, literal(bound), self.x, found, self.w, above=above))
        self.found = [] if found is None else [*self.found[-1:], found]
        return found

    def at_least(self, bits: Any, bound: Any) -> Int | None:
        return self._search(bits, bound, above=True)

    def at_most(self, bits: Any, bound: Any, w: int) -> Int | None:
        return self._search(bits, bound, above=False)

    def from_range(self, low: Any, high: Any) -> tuple[Int, Int]:
        bits = self._bits()
        for y in (self.x, low):
            Paths.current.assume(z3.Implies(between(low, y, high), in_tnum(y, bits, self.w)))
        return bits

    def intersect(self, a: Any, b: Any) -> tuple[Int, Int] | None:
        common = [z3.And(in_tnum(y, a, self.w), in_tnum(y, b, self.w)) for y in (self.x, *self.found)]
        if not Paths.current.decide(z3.Or(z3.Bool(self._fresh("common")), *common)):
            return None
        bits = self._bits()
        Paths.current.assume(z3.Implies(common[0], in_tnum(self.x, bits, self.w)))
        return bits

    def join(self, a: Any, b: Any) -> tuple[Int, Int]:
        bits = self._bits()
        either = z3.Or(in_tnum(self.x, a, self.w), in_tnum(self.x, b, self.w))
        Paths.current.assume(z3.Implies(either, in_tnum(self.x, bits, self.w)))
        return bits


# Ranges of integers.


def test_a_view_by_sign(w: int) -> None:
    """A number of a view lies, as a signed number, in one of the ranges; each range has one sign."""
    paths = Paths()
    v = any_view(paths, "v", w)
    x = member(paths, "x", v, w)
    s = Int(signed(x, w))

    def ranges() -> Any:
        found = view._by_sign(w, v)
        assert len(found) in (1, 2)
        definite = [z3.Or(literal(low).term >= 0, literal(high).term < 0) for low, high in found]
        return z3.And(z3.Or(*(between(low, s, high) for low, high in found)), *definite)

    paths.run(ranges)


@pytest.mark.usefixtures("unreduced", "wide")
def test_a_view_of_ranges(w: int) -> None:
    """An integer in one of two ranges is, modulo 2**w, in the view of the ranges and of its bits."""
    paths = Paths()
    z = integer("z", w + 4)
    ends = [(integer(f"low{k}", w + 4), integer(f"high{k}", w + 4)) for k in (0, 1)]
    bits = any_tnum(paths, "bits", w)
    x = cut(z.term, w)
    inside = [between(low, z, high) for low, high in ends]
    paths.given += [in_tnum(x, bits, w), z3.Or(*inside), *(low.term <= high.term for low, high in ends)]
    paths.run(lambda: in_view(x, view._of_ranges(w, bits, ends), w))  # type: ignore[arg-type]


class _Operands:
    """Two numbers, each in a range of one sign that stands for all ranges of its view; `_of_ranges` only shows its ranges."""

    def __init__(self, paths: Paths, w: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.a, self.b = view.top(w), view.constant(w, 0)
        self.x, self.y = integer("x", w), integer("y", w)
        self.xs, self.ys = [(integer(f"{n}low", w), integer(f"{n}high", w)) for n in "xy"]
        for z, (low, high) in ((self.x, self.xs), (self.y, self.ys)):
            paths.given += [between(low, z, high), z3.Or(low.term >= 0, high.term < 0)]
        self.w = w
        monkeypatch.setattr(view, "_by_sign", lambda w, v: [self.xs if v is self.a else self.ys])
        monkeypatch.setattr(view, "_of_ranges", lambda w, bits, ranges: ranges)
        monkeypatch.setattr(view, "contains", self._contains)
        for name in ("add", "sub", "mul", "and_", "or_", "xor"):
            monkeypatch.setattr(tnum, name, lambda *operands: None)

    def _contains(self, w: int, v: Any, zero: int) -> bool:
        """A divisor may be zero, or it is not."""
        assert v is self.b
        assert zero == 0
        may = Paths.current.choose()
        if not may:
            Paths.current.assume(self.y.term != 0)
        return may

    def holds(self, z: Any, ranges: Any) -> Any:
        """An integer is in one of some ranges."""
        return z3.Or(*(between(low, z, high) for low, high in ranges))


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("name", "concrete"), [("add", lambda x, y: x + y), ("sub", lambda x, y: x - y)], ids=["add", "sub"]
)
def test_sums(
    w: int, name: str, concrete: Callable[[Any, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum or difference of signed numbers is in one of the ranges."""
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)
    paths.run(lambda: o.holds(Int(concrete(o.x.term, o.y.term)), view.OPS[name](w, o.a, o.b)))


def test_negation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference from zero."""
    monkeypatch.setattr(view, "sub", lambda w, a, b: (w, a, b))
    v = view.top(64)
    assert view.neg(64, v, v) == (64, view.constant(64, 0), v)


class _Monotone:
    """An operator of two integers of which nothing is known but how it moves with each operand, between numbers of one sign."""

    def __init__(self, grows_in_x: Callable[[Any], Any], grows_in_y: Callable[[Any], Any]) -> None:
        self.grows_in_x = grows_in_x
        self.grows_in_y = grows_in_y
        self.points: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def __call__(self, x: Any, y: Any) -> Int:
        x, y = literal(x), literal(y)
        key = x.term.get_id(), y.term.get_id()
        if key not in self.points:
            value = z3.BitVec(f"at{len(self.points)}", Int.width)
            for a, b, other in self.points.values():
                if b.eq(y.term):
                    self._assume(self.grows_in_x(b), a, x.term, other, value)
                if a.eq(x.term):
                    self._assume(self.grows_in_y(a), b, y.term, other, value)
            self.points[key] = x.term, y.term, value
        return Int(self.points[key][2])

    def _assume(self, grows: Any, before: Any, after: Any, f_before: Any, f_after: Any) -> None:
        same_sign = (before < 0) == (after < 0)
        for p, q, fp, fq in ((before, after, f_before, f_after), (after, before, f_after, f_before)):
            way = z3.If(grows, fp <= fq, fp >= fq)
            Paths.current.assume(z3.Implies(z3.And(same_sign, p <= q), way))


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("in_x", "in_y"),
    [(lambda y: y >= 0, lambda x: x >= 0), (lambda y: y > 0, lambda x: x < 0)],
    ids=["product", "quotient"],
)
def test_corners(
    w: int,
    in_x: Callable[[Any], Any],
    in_y: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A monotone operator is between the least and the greatest of its corners; a product grows in each factor if the other is
    positive, a quotient grows in the dividend if the divisor is positive, and in the divisor if the dividend is negative.
    """
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)

    def corners() -> Any:
        operator = _Monotone(in_x, in_y)
        for x in (o.x, *o.xs):
            for y in (o.y, *o.ys):
                operator(x, y)
        (found,) = view._corners(operator, [o.xs], [o.ys])  # type: ignore[arg-type, list-item]
        return between(found[0], operator(o.x, o.y), found[1])

    paths.run(corners)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("operand", ["dividend", "divisor"])
def test_quotients_are_monotone(w: int, operand: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between numbers of one sign, given that the whole quotient of natural numbers grows with the one and falls with the other."""
    paths = Paths()
    x, y, z = integer("x", w), integer("y", w), integer("z", w)
    divided = z if operand == "divisor" else x
    other = z if operand == "dividend" else y
    moved = (x, z) if operand == "dividend" else (y, z)
    paths.given += [y.term != 0, other.term != 0, moved[0].term <= moved[1].term]
    paths.given += [(moved[0].term < 0) == (moved[1].term < 0)]
    del divided, other

    def quotients() -> Any:
        whole = _Monotone(lambda y: z3.BoolVal(True), lambda x: z3.BoolVal(False))
        monkeypatch.setattr(Int, "__floordiv__", lambda a, b: whole(a, b), raising=False)
        first = view._quotient(x, y)  # type: ignore[arg-type]
        if operand == "dividend":
            second, grows = view._quotient(z, y), y.term > 0  # type: ignore[arg-type]
        else:
            second, grows = view._quotient(x, z), x.term < 0  # type: ignore[arg-type]
        a, b = literal(first).term, literal(second).term
        Paths.current.assume(z3.And(*(value >= 0 for _, _, value in whole.points.values())))
        return z3.If(grows, a <= b, a >= b)

    paths.run(quotients)


@pytest.mark.usefixtures("wide")
def test_products(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranges of a product are its corners, of all pairs of signs."""
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)
    seen = []
    monkeypatch.setattr(view, "_corners", lambda operator, xs, ys: seen.append((operator(6, -7), xs, ys)))
    view.mul(w, o.a, o.b)
    assert seen == [(-42, [o.xs], [o.ys])]


@pytest.mark.usefixtures("wide")
def test_signed_division(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quotient is in the corners if the divisor is in its range without zero, and zero is among the ranges if it may be zero."""
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)
    q = integer("q", w + 1)

    def corners(operator: Any, xs: Any, ys: Any) -> list[tuple[Int, Int]]:
        assert operator is view._quotient
        ends = integer("qlow", w + 1), integer("qhigh", w + 1)
        given = z3.And(o.holds(o.x, xs), o.holds(o.y, ys) if ys else FALSE, o.y.term != 0)
        Paths.current.assume(z3.Implies(given, between(ends[0], q, ends[1])))
        return [ends]

    monkeypatch.setattr(view, "_corners", corners)
    result = Int(z3.If(o.y.term == 0, 0, q.term))
    paths.run(lambda: o.holds(result, view.sdiv(w, o.a, o.b)))


@pytest.mark.usefixtures("wide")
def test_signed_remainder(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the remainder z3 is told what everybody knows: it has the dividend's sign, a magnitude below the divisor's and not above
    the dividend's, and is the dividend where that is smaller than the divisor or the divisor is zero.
    """
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)
    r = integer("r", w)
    x, y, z = abs(o.x).term, abs(o.y).term, abs(r).term
    paths.given += [z3.Or(r.term == 0, (r.term < 0) == (o.x.term < 0)), z <= x, z3.Or(z < y, y == 0)]
    paths.given += [z3.Implies(z3.Or(x < y, y == 0), r.term == o.x.term)]
    paths.run(lambda: o.holds(r, view.smod(w, o.a, o.b)))


@pytest.mark.usefixtures("unreduced")
def test_remainder(w: int) -> None:
    """The same of unsigned numbers."""
    paths = Paths()
    a, b = any_view(paths, "a", w), any_view(paths, "b", w)
    x, y, r = member(paths, "x", a, w), member(paths, "y", b, w), number("r", w)
    paths.given += [r.term <= x.term, z3.Or(r.term < y.term, y.term == 0)]
    paths.given += [z3.Implies(z3.Or(x.term < y.term, y.term == 0), r.term == x.term)]
    paths.run(lambda: in_view(r, view.mod(w, a, b), w))


@pytest.mark.usefixtures("unreduced")
def test_division(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given that the whole quotient grows with the dividend and falls with the divisor."""
    paths = Paths()
    a, b = any_view(paths, "a", w), any_view(paths, "b", w)
    x, y = member(paths, "x", a, w), member(paths, "y", b, w)

    def divided() -> Any:
        whole = _Monotone(lambda y: z3.BoolVal(True), lambda x: z3.BoolVal(False))
        monkeypatch.setattr(Int, "__floordiv__", lambda a, b: whole(a, b), raising=False)
        divisor = y if y != 0 else None
        points = (
            [] if divisor is None else [whole(p, q) for p in (x, a.umin, a.umax) for q in (y, b.umin, b.umax)]
        )
        quotient = Int(z3.BitVecVal(0, Int.width)) if divisor is None else whole(x, divisor)
        result = view.div(w, a, b)
        for p, q, value in whole.points.values():
            Paths.current.assume(z3.Implies(z3.And(p >= 0, q > 0), z3.And(value >= 0, value <= p)))
            Paths.current.assume(z3.Implies(q == 1, value == p))
        del points
        return in_view(quotient, result, w)

    paths.run(divided)


# Bits.

_BITWISE: dict[str, Callable[[Any, Any], Any]] = {
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}


def _least_so_far(code: str, x: Any, y: Any, p: Any, q: Any, i: Any) -> Any:
    """What holds of any x and y of two ranges once the bits from i upwards of the lower ends p and q are chosen.

    p and q give less in these bits than x and y do; or as much, and then for xor neither x nor y is below its end, for or only where
    the end was raised, with zeros below the bit i.
    """
    mine, theirs = (z3.LShR(_BITWISE[code](*pair), i) for pair in ((p, q), (x, y)))
    if code == "xor":
        still = z3.And(x >= p, y >= q)
    else:
        below = ~(z3.BitVecVal(-1, Int.width) << i)
        still = z3.And(*(_reached(end, z, i, below) for end, z in ((p, x), (q, y))))
    return z3.Or(mine < theirs, z3.And(mine == theirs, still))


def _reached(end: Any, z: Any, i: Any, below: Any) -> Any:
    ours, its = z3.LShR(end, i), z3.LShR(z, i)
    return z3.And(its <= ours, z3.If(its == ours, z >= end, end & below == 0))


def _most_so_far(x: Any, y: Any, p: Any, q: Any, i: Any) -> Any:
    """The same of the upper ends: p and q give more or as much, and then one was lowered and everything below is ones, or x and y have
    the same bits so far.
    """
    mine, theirs = (z3.LShR(left | right, i) for left, right in ((p, q), (x, y)))
    below = ~(z3.BitVecVal(-1, Int.width) << i)
    same = z3.And(*(z3.And(z3.LShR(z, i) == z3.LShR(end, i), z <= end) for end, z in ((p, x), (q, y))))
    return z3.Or(mine > theirs, z3.And(mine == theirs, z3.Or((p | q) & below == below, same)))


@pytest.mark.parametrize("code", list(_BITWISE))
def test_a_step_to_the_least_bitwise_result(w: int, code: str) -> None:
    """`_least` begins with the ends of the ranges, where nothing is chosen, and takes this step for each bit from the top: it keeps what
    is claimed of any two numbers of the ranges. With no bit left, that is that they give nothing less.
    """
    paths = Paths()
    x, y, a, b, c, d = (number(name, w) for name in ("x", "y", "a", "b", "c", "d"))
    i = number("i", 7)
    m: Any = Int(z3.BitVecVal(1, Int.width) << i.term)
    ends: Any = (a, b, c, d)
    paths.given += [i.term < w, x.term <= b.term, y.term <= d.term, a.term <= b.term, c.term <= d.term]
    paths.given += [_least_so_far(code, x.term, y.term, a.term, c.term, i.term + 1)]

    def step() -> Any:
        p, q = (literal(end).term for end in view._raised(m, *ends))
        return z3.And(p <= b.term, q <= d.term, _least_so_far(code, x.term, y.term, p, q, i.term))

    paths.run(step)
    first, last = z3.BitVecVal(w, Int.width), z3.BitVecVal(0, Int.width)
    x_, y_, p_, q_ = (z3.ZeroExt(Int.width - w, z3.BitVec(name, w)) for name in "xypq")
    begin = z3.Implies(z3.And(x_ >= p_, y_ >= q_), _least_so_far(code, x_, y_, p_, q_, first))
    result = _BITWISE[code](p_, q_) <= _BITWISE[code](x_, y_)
    end = z3.Implies(_least_so_far(code, x_, y_, p_, q_, last), result)
    Paths().run(lambda: z3.And(begin, end))


def test_a_step_to_the_greatest_or(w: int) -> None:
    """`_greatest` likewise."""
    paths = Paths()
    x, y, a, b, c, d = (number(name, w) for name in ("x", "y", "a", "b", "c", "d"))
    i = number("i", 7)
    m: Any = Int(z3.BitVecVal(1, Int.width) << i.term)
    ends: Any = (a, b, c, d)
    paths.given += [i.term < w, x.term >= a.term, y.term >= c.term, b.term >= a.term, d.term >= c.term]
    paths.given += [_most_so_far(x.term, y.term, b.term, d.term, i.term + 1)]

    def step() -> Any:
        p, q = (literal(end).term for end in view._lowered(m, *ends))
        return z3.And(p >= a.term, q >= c.term, _most_so_far(x.term, y.term, p, q, i.term))

    paths.run(step)
    first, last = z3.BitVecVal(w, Int.width), z3.BitVecVal(0, Int.width)
    x_, y_, p_, q_ = (z3.ZeroExt(Int.width - w, z3.BitVec(name, w)) for name in "xypq")
    begin = z3.Implies(z3.And(x_ <= p_, y_ <= q_), _most_so_far(x_, y_, p_, q_, first))
    end = z3.Implies(_most_so_far(x_, y_, p_, q_, last), (p_ | q_) >= (x_ | y_))
    Paths().run(lambda: z3.And(begin, end))


def test_bounds_of_bitwise_results(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what `_least` and `_greatest` promise."""
    paths = Paths()
    x, y = number("x", w), number("y", w)
    a, b, c, d = (number(name, w) for name in "abcd")
    paths.given += [between(a, x, b), between(c, y, d)]
    sides = [(x, cut(~x.term, w)), (y, cut(~y.term, w))]

    def promising(promise: Callable[..., Any]) -> Any:
        def ends(low_x: Any, far_x: Any, low_y: Any, far_y: Any) -> tuple[Int, Int]:
            p, q = number(f"p{len(seen)}", w), number(f"q{len(seen)}", w)
            seen.append(p)
            for u in sides[0]:
                for v in sides[1]:
                    inside = z3.And(between(low_x, u, far_x), between(low_y, v, far_y))
                    Paths.current.assume(z3.Implies(inside, promise(p.term, q.term, u.term, v.term)))
            return p, q

        return ends

    seen: list[Int] = []
    monkeypatch.setattr(view, "_least", promising(lambda p, q, u, v: z3.And(p | q <= u | v, p ^ q <= u ^ v)))
    monkeypatch.setattr(view, "_greatest", promising(lambda p, q, u, v: p | q >= u | v))
    operands: Any = (a, b, c, d)
    for function, result in (
        (view._or_bounds, x.term | y.term),
        (view._and_bounds, x.term & y.term),
        (view._xor_bounds, x.term ^ y.term),
    ):
        paths.run(lambda f=function, z=result: between((bounds := f(w, *operands))[0], Int(z), bounds[1]))  # type: ignore[misc]


def test_bitwise_by_sign(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are asked for the unsigned numbers of each pair of signs, and are the ranges; each operator asks its own."""
    paths = Paths()
    o = _Operands(paths, w, monkeypatch)
    z = number("z", w)
    x, y = cut(o.x.term, w), cut(o.y.term, w)

    def bounds(w: int, a: Any, b: Any, c: Any, d: Any) -> tuple[Int, Int]:
        ends = number("zlow", w), number("zhigh", w)
        Paths.current.assume(
            z3.Implies(z3.And(between(a, x, b), between(c, y, d)), between(ends[0], z, ends[1]))
        )
        return ends

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "_only_bits", lambda w, v: False)
        paths.run(lambda: o.holds(z, view._bitwise(w, o.a, o.b, (0, 0), bounds)))
        # The bits of the result are true of it (proved of tnums), whatever else is known of the operands.
        patch.setattr(view, "_only_bits", lambda w, v: True)
        patch.setattr(view, "_view", lambda *result: result)
        assert view._bitwise(w, o.a, o.b, (3, 4), bounds) == (w, (3, 4), None, None)
    asked: list[Any] = []
    monkeypatch.setattr(view, "_bitwise", lambda w, a, b, bits, bounds: asked.append((a, b, bounds)))
    for code in ("and", "or", "xor"):
        view.OPS[code](w, o.a, o.b)
    expected = (view._and_bounds, view._or_bounds, view._xor_bounds)
    assert asked == [(o.a, o.b, bounds) for bounds in expected]


# Shifts and extensions.


@pytest.mark.usefixtures("unreduced", "wide")
@pytest.mark.parametrize(
    ("shift", "concrete"),
    [
        (view._lsh, lambda x, k, w: x.term << k),
        (view._rsh, lambda x, k, w: z3.LShR(x.term, k)),
        (view._arsh, lambda x, k, w: signed(x, w) >> k),
    ],
    ids=["lsh", "rsh", "arsh"],
)
def test_shift(w: int, shift: Any, concrete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranges, by every amount; the bits are those of the shifts of tnums."""
    for operator in ("shift_left", "shift_right", "sign_extend"):
        monkeypatch.setattr(tnum, operator, lambda *operands: (0, (1 << w) - 1))
    paths = Paths()
    a = any_view(paths, "a", w, bits=False)
    x = member(paths, "x", a, w)
    for k in range(w):
        paths.run(lambda k=k: in_view(cut(concrete(x, k, w), w), shift(w, a, k), w))  # type: ignore[misc]


@pytest.mark.parametrize("amounts", [(0, 63), (5, 40), (63, 63)])
def test_shift_by_an_unknown_amount(
    w: int, amounts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the operation for one amount gives, the join holds it for each amount that the other operand can have.

    All that counts of a view here is whether it holds the result, so views are claims that it does.
    """
    paths = Paths()
    k = number("k", 6)
    odd = view.top(w)._replace(value=1, mask=w - 2, umin=min(amounts[0], w - 1), umax=min(amounts[1], w - 1))
    monkeypatch.setattr(view, "and_", lambda w, a, b: odd)
    monkeypatch.setattr(view, "join", lambda w, a, b: z3.Or(a, b))
    paths.given += [between(odd.umin, k, odd.umax), k.term & 1 == 1]
    paths.run(lambda: view._shift(w, view.top(w), view.top(w), lambda w, a, at: k.term == at))  # type: ignore[arg-type, return-value]


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_extension(w: int, bits: int) -> None:
    """Cutting and copying the sign."""
    paths = Paths()
    a = any_view(paths, "a", w)
    x = member(paths, "x", a, w)
    low = z3.Extract(bits - 1, 0, x.term)
    paths.run(lambda: in_view(cut(z3.SignExt(Int.width - bits, low), w), view.sign_extend(w, a, bits), w))
    paths.run(lambda: in_view(Int(z3.ZeroExt(Int.width - bits, low)), view.zero_extend(w, a, bits), w))


# The lattice and branches.


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize("side", [0, 1])
def test_join(w: int, side: int) -> None:
    """A join holds what either holds."""
    paths = Paths()
    pair = any_view(paths, "a", w), any_view(paths, "b", w)
    x = member(paths, "x", pair[side], w)
    paths.run(lambda: in_view(x, view.join(w, *pair), w))


@pytest.mark.usefixtures("unreduced")
def test_intersection_and_inclusion(w: int) -> None:
    """An intersection holds what both do, and is none only where they share nothing; what includes does."""
    paths = Paths()
    a, b = any_view(paths, "a", w), any_view(paths, "b", w)
    x = member(paths, "x", b, w)
    paths.run(lambda: in_view(x, a, w) if view.includes(a, b) else TRUE)
    paths.given += [in_view(x, a, w)]
    paths.run(lambda: FALSE if (both := view.intersect(w, a, b)) is None else in_view(x, both, w))


@pytest.mark.usefixtures("unreduced")
def test_without_a_number(w: int) -> None:
    """What `jne` does to each side, where the other is one number: nothing else is lost."""
    paths = Paths()
    a, y = any_view(paths, "a", w, bits=False), number("y", w)
    x = member(paths, "x", a, w)
    paths.given += [x.term != y.term]

    def cut_off() -> Any:
        rest = view._without(w, a, y)  # type: ignore[arg-type]
        return FALSE if rest is None else in_view(x, rest, w)

    paths.run(cut_off)


@pytest.mark.parametrize("code", list(view.NEGATED))
def test_refinement(w: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two numbers that take the branch are in what is left of their views."""
    monkeypatch.setattr(view, "reduce", lambda w, v: v)
    paths = Paths()
    bits = code in ("jeq", "jset", "jnset")
    a, b = any_view(paths, "a", w, bits=bits), any_view(paths, "b", w, bits=bits)
    x, y = member(paths, "x", a, w), member(paths, "y", b, w)
    paths.given += [CONDITIONS[code](x, y, w)]

    def without(w: int, v: Any, z: Any) -> Any:
        mine = x if v is a else y
        rest = any_view(Paths(), "rest", w)
        Paths.current.assume(z3.Implies(mine.term != literal(z).term, in_view(mine, rest, w)))
        return rest

    monkeypatch.setattr(view, "_without", without)

    def refined() -> Any:
        pair = view.refine(w, code, a, b)
        return FALSE if pair is None else z3.And(in_view(x, pair[0], w), in_view(y, pair[1], w))

    paths.run(refined)
