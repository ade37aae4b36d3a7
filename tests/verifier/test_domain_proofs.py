"""The number domain at 64 bits, proved: the code that runs in the verifier is run on symbolic numbers, and z3 decides.

What is proved: for every tnum and every view of 64 bits, and every number in them, what each operation below computes from the
number lies in what it computes from the set. `reduce` is proved one exchange at a time, since it repeats exchanges until
nothing changes, and exchanges are proved with the functions on tnums replaced by what is proved of those; operations are
proved without the `reduce` at their end, which only ever drops what lies in no part.

Not proved here, for z3 does not decide them in minutes:
    mul, div, sdiv, smod    products and quotients of 64-bit numbers
    and, or, xor of ranges  Warren's bounds are two loops of 64 steps with branches in each: too many paths (their tnums are proved)
    shifts by an unknown    joins over up to 64 amounts (each single amount is proved)
These rest on enumeration at 3 and 4 bits and on membership at 64 (test_view, test_scalar).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed")

from pybpf.verifier import scalar, tnum, view  # noqa: E402
from pybpf.verifier.view import View  # noqa: E402
from tests.verifier.symbolic import Int, Paths, greatest, least, number  # noqa: E402

pytestmark = pytest.mark.slow

W = 64
FULL, HALF = (1 << W) - 1, 1 << (W - 1)


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A fresh solver; least and greatest of two are one formula, not two paths."""
    for module in (view, scalar):
        monkeypatch.setattr(module, "min", least, raising=False)
        monkeypatch.setattr(module, "max", greatest, raising=False)
    return Paths()


@pytest.fixture
def unreduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations as they are before the `reduce` at their end."""
    monkeypatch.setattr(view, "reduce", lambda w, v: v)


def truth(*claims: Any) -> Any:
    return z3.And(*(claim.term if hasattr(claim, "term") else claim for claim in claims))


def any_tnum(paths: Paths, name: str) -> tuple[Int, Int]:
    value, mask = number(name + ".value", W), number(name + ".mask", W)
    paths.given += [(value.term & mask.term) == 0]
    return value, mask


def in_tnum(x: Int, bits: Any) -> Any:
    """A number is in a tnum, and the tnum is one."""
    value, mask = (Int(z3.BitVecVal(part, Int.width)) if isinstance(part, int) else part for part in bits)
    one = z3.And((value.term & mask.term) == 0, value.term & ~z3.BitVecVal(FULL, Int.width) == 0)
    return z3.And(one, (x.term & ~mask.term & FULL) == value.term)


def signed(x: Int) -> Any:
    return z3.SignExt(Int.width - W, z3.Extract(W - 1, 0, x.term))


def any_view(paths: Paths, name: str, *, bits: bool = True) -> View:
    """A view of any parts, or of ranges alone: they need not be reduced."""
    value, mask = any_tnum(paths, name) if bits else (0, FULL)
    umin, umax = number(name + ".umin", W), number(name + ".umax", W)
    ends = [Int(z3.SignExt(Int.width - W, z3.BitVec(f"{name}.{end}", W))) for end in ("smin", "smax")]
    paths.given += [umin.term <= umax.term, ends[0].term <= ends[1].term]
    return View(value, mask, umin, umax, *ends)  # type: ignore[arg-type]


def in_view(x: Int, v: Any) -> Any:
    u = [part.term if isinstance(part, Int) else z3.BitVecVal(part, Int.width) for part in v]
    return z3.And(in_tnum(x, v[:2]), u[2] <= x.term, x.term <= u[3], u[4] <= signed(x), signed(x) <= u[5])


def member(paths: Paths, name: str, view_: View) -> Int:
    x = number(name, W)
    paths.given += [in_view(x, view_)]
    return x


def cut(term: Any) -> Int:
    """The lower 64 bits."""
    return Int(term & FULL)


# Tnums.


@pytest.mark.parametrize(
    ("name", "concrete"),
    [
        ("add", lambda x, y: x + y),
        ("sub", lambda x, y: x - y),
        ("and_", lambda x, y: x & y),
        ("or_", lambda x, y: x | y),
        ("xor", lambda x, y: x ^ y),
    ],
    ids=["add", "sub", "and", "or", "xor"],
)
def test_tnum_operator(paths: Paths, name: str, concrete: Callable[[Any, Any], Any]) -> None:
    """The result of two members is a member of the result."""
    a, b = any_tnum(paths, "a"), any_tnum(paths, "b")
    x, y = number("x", W), number("y", W)
    paths.given += [in_tnum(x, a), in_tnum(y, b)]
    sized = (W,) if name in ("add", "sub") else ()
    paths.run(lambda: in_tnum(cut(concrete(x.term, y.term)), getattr(tnum, name)(a, b, *sized)))
    assert paths.count == 1


def test_a_false_claim_is_refuted(paths: Paths) -> None:
    """A sum is not an or, nor a lesser number greater: z3 gives an example, on the path where it is."""
    a, b = any_tnum(paths, "a"), any_tnum(paths, "b")
    x, y = number("x", W), number("y", W)
    paths.given += [in_tnum(x, a), in_tnum(y, b)]
    with pytest.raises(AssertionError, match="sat"):
        paths.run(lambda: in_tnum(cut(x.term + y.term), tnum.or_(a, b)))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"path \[False\]: sat"):
        Paths().run(lambda: z3.BoolVal(True) if x < y else x.term > y.term)


def test_tnum_shifts(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every amount below 64 at once."""
    monkeypatch.setattr(Int, "width", 136)
    a, x, k = any_tnum(paths, "a"), number("x", W), number("k", 6)
    paths.given += [in_tnum(x, a)]
    paths.run(lambda: in_tnum(cut(x.term << k.term), tnum.shift_left(a, k, W)))  # type: ignore[arg-type]
    paths.run(lambda: in_tnum(cut(z3.LShR(x.term, k.term)), tnum.shift_right(a, k)))  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [1, 8, 16, 31, 32, 63])
def test_tnum_sign_extension(paths: Paths, bits: int) -> None:
    """From the widths of the instructions, and from those that shifts need."""
    a, x = any_tnum(paths, "a"), number("x", W)
    paths.given += [in_tnum(x, a)]
    extended = z3.SignExt(Int.width - bits, z3.Extract(bits - 1, 0, x.term))
    paths.run(lambda: in_tnum(cut(extended), tnum.sign_extend(a, bits, W)))  # type: ignore[arg-type]


def test_tnum_join_intersection_and_inclusion(paths: Paths) -> None:
    """A join holds both, an intersection holds what both do, and what includes does."""
    a, b, x = any_tnum(paths, "a"), any_tnum(paths, "b"), number("x", W)
    in_a, in_b = in_tnum(x, a), in_tnum(x, b)
    paths.run(lambda: z3.Implies(z3.Or(in_a, in_b), in_tnum(x, tnum.join(a, b))))  # type: ignore[arg-type]

    def intersection() -> Any:
        both = tnum.intersect(a, b)  # type: ignore[arg-type]
        return z3.Not(z3.And(in_a, in_b)) if both is None else z3.And(in_a, in_b) == in_tnum(x, both)

    paths.run(intersection)
    paths.run(lambda: z3.Implies(in_b, in_a) if tnum.includes(a, b) else z3.BoolVal(True))  # type: ignore[arg-type]


def test_tnum_of_a_range(paths: Paths) -> None:
    """Every number between the ends is in it."""
    low, high, x = number("low", W), number("high", W), number("x", W)
    paths.given += [low.term <= x.term, x.term <= high.term]
    paths.run(lambda: in_tnum(x, tnum.from_range(low, high)))  # type: ignore[arg-type]


def nearest(a: Any, x: Int, y: Int, found: Any, *, above: bool) -> Any:
    """What a search must find: a member on the right side of x, and none nearer; None where there is none."""
    beyond = (lambda p, q: p >= q) if above else (lambda p, q: p <= q)
    is_candidate = z3.And(in_tnum(y, a), beyond(y.term, x.term))
    if found is None:
        return z3.Not(is_candidate)
    return z3.And(
        in_tnum(found, a), beyond(found.term, x.term), z3.Implies(is_candidate, beyond(y.term, found.term))
    )


@pytest.mark.parametrize("above", [True, False])
def test_tnum_search(paths: Paths, above: bool) -> None:
    """`at_least` and `at_most`: for every tnum, every number, and every other member."""
    a, x, y = any_tnum(paths, "a"), number("x", W), number("y", W)

    def search() -> Any:
        found = tnum.at_least(a, x) if above else tnum.at_most(a, x, W)  # type: ignore[arg-type]
        return nearest(a, x, y, found, above=above)

    paths.run(search)


# Views.


def test_an_exchange_drops_no_number(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """`reduce` repeats this: every number of a view is in the exchanged one, and an empty view is found only where it is.

    The functions on tnums give any result of which what is proved above is true.
    """
    v = any_view(paths, "v")
    x = member(paths, "x", v)
    tnums = _Specified(x)
    for name in ("at_least", "at_most", "from_range", "intersect", "join"):
        monkeypatch.setattr(tnum, name, getattr(tnums, name))

    def exchanged() -> Any:
        tnums.count, tnums.found = 0, []
        result = view._exchange(W, v)
        return z3.BoolVal(False) if result is None else in_view(x, result)

    paths.run(exchanged)


class _Specified:
    """The functions on tnums as they were proved: what they say of one number x, and of the numbers that they found."""

    def __init__(self, x: Int) -> None:
        self.x = x
        self.found: list[Int] = []
        self.count = 0

    def _fresh(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def _bits(self) -> tuple[Int, Int]:
        bits = number(self._fresh("value"), W), number(self._fresh("mask"), W)
        Paths.current.assume((bits[0].term & bits[1].term) == 0)
        return bits

    def _search(self, bits: Any, bound: Any, *, above: bool) -> Int | None:
        bound = bound if isinstance(bound, Int) else Int(z3.BitVecVal(bound, Int.width))
        found = number(self._fresh("found"), W) if Paths.current.choose() else None
        Paths.current.assume(nearest(bits, bound, self.x, found, above=above))
        self.found = [] if found is None else [*self.found[-1:], found]
        return found

    def at_least(self, bits: Any, bound: Any) -> Int | None:
        return self._search(bits, bound, above=True)

    def at_most(self, bits: Any, bound: Any, w: int) -> Int | None:
        return self._search(bits, bound, above=False)

    def from_range(self, low: Any, high: Any) -> tuple[Int, Int]:
        bits = self._bits()
        for y in (self.x, low):
            inside = z3.And(low.term <= y.term, y.term <= high.term)
            Paths.current.assume(z3.Implies(inside, in_tnum(y, bits)))
        return bits

    def intersect(self, a: Any, b: Any) -> tuple[Int, Int] | None:
        common = [z3.And(in_tnum(y, a), in_tnum(y, b)) for y in (self.x, *self.found)]
        if not Paths.current.decide(z3.Or(z3.Bool(self._fresh("common")), *common)):
            return None
        bits = self._bits()
        Paths.current.assume(z3.Implies(common[0], in_tnum(self.x, bits)))
        return bits

    def join(self, a: Any, b: Any) -> tuple[Int, Int]:
        bits = self._bits()
        Paths.current.assume(z3.Implies(z3.Or(in_tnum(self.x, a), in_tnum(self.x, b)), in_tnum(self.x, bits)))
        return bits


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize(
    ("name", "concrete"),
    [("add", lambda x, y: x + y), ("sub", lambda x, y: x - y), ("neg", lambda x, y: -x)],
    ids=["add", "sub", "neg"],
)
def test_view_operator(
    paths: Paths, name: str, concrete: Callable[[Any, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges of sums and differences, wrapped or not; their bits are those of the tnum operators above."""
    for operator in ("add", "sub"):
        monkeypatch.setattr(tnum, operator, lambda a, b, w: (0, FULL))
    a, b = any_view(paths, "a", bits=False), any_view(paths, "b", bits=False)
    x, y = member(paths, "x", a), member(paths, "y", b)
    paths.run(lambda: in_view(cut(concrete(x.term, y.term)), view.OPS[name](W, a, b)))


@pytest.mark.usefixtures("unreduced")
def test_view_remainder(paths: Paths) -> None:
    """Of the remainder z3 is told what everybody knows: it is below the divisor, not above the dividend, and the dividend
    where that is below the divisor or the divisor is zero.
    """
    a, b = any_view(paths, "a"), any_view(paths, "b")
    x, y, r = member(paths, "x", a), member(paths, "y", b), number("r", W)
    paths.given += [r.term <= x.term, z3.Or(r.term < y.term, y.term == 0)]
    paths.given += [z3.Implies(z3.Or(x.term < y.term, y.term == 0), r.term == x.term)]
    paths.run(lambda: in_view(r, view.mod(W, a, b)))


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize(
    ("shift", "concrete"),
    [
        (view._lsh, lambda x, k: x.term << k),
        (view._rsh, lambda x, k: z3.LShR(x.term, k)),
        (view._arsh, lambda x, k: signed(x) >> k),
    ],
    ids=["lsh", "rsh", "arsh"],
)
def test_view_shift(paths: Paths, shift: Any, concrete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranges, by amounts at the edges of bytes and words; the bits are those of the tnum shifts above."""
    monkeypatch.setattr(Int, "width", 136)
    for operator in ("shift_left", "shift_right", "sign_extend"):
        monkeypatch.setattr(tnum, operator, lambda *operands: (0, FULL))
    a = any_view(paths, "a", bits=False)
    x = member(paths, "x", a)
    for k in (0, 1, 7, 8, 31, 32, 33, 56, 63):
        paths.run(lambda k=k: in_view(cut(concrete(x, k)), shift(W, a, k)))  # type: ignore[misc]


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_view_extension(paths: Paths, bits: int) -> None:
    """Cutting and copying the sign."""
    a = any_view(paths, "a")
    x = member(paths, "x", a)
    low = z3.Extract(bits - 1, 0, x.term)
    paths.run(lambda: in_view(cut(z3.SignExt(Int.width - bits, low)), view.sign_extend(W, a, bits)))
    paths.run(lambda: in_view(Int(z3.ZeroExt(Int.width - bits, low)), view.zero_extend(W, a, bits)))


@pytest.mark.usefixtures("unreduced")
def test_view_join(paths: Paths) -> None:
    """A join holds what either holds."""
    a, b, x = any_view(paths, "a"), any_view(paths, "b"), number("x", W)
    either = z3.Or(in_view(x, a), in_view(x, b))
    paths.given += [either]
    paths.run(lambda: in_view(x, view.join(W, a, b)))


@pytest.mark.usefixtures("unreduced")
def test_view_intersection(paths: Paths) -> None:
    """An intersection holds what both hold, and is none only where they share nothing."""
    a, b, x = any_view(paths, "a"), any_view(paths, "b"), number("x", W)
    paths.given += [in_view(x, a), in_view(x, b)]

    def intersection() -> Any:
        both = view.intersect(W, a, b)
        return z3.BoolVal(False) if both is None else in_view(x, both)

    paths.run(intersection)


def test_view_inclusion(paths: Paths) -> None:
    """What includes does."""
    a, b = any_view(paths, "a"), any_view(paths, "b")
    x = member(paths, "x", b)
    paths.run(lambda: in_view(x, a) if view.includes(a, b) else z3.BoolVal(True))


CONDITIONS: dict[str, Callable[[Int, Int], Any]] = {
    "jeq": lambda x, y: x.term == y.term,
    "jgt": lambda x, y: x.term > y.term,
    "jge": lambda x, y: x.term >= y.term,
    "jlt": lambda x, y: x.term < y.term,
    "jle": lambda x, y: x.term <= y.term,
    "jset": lambda x, y: x.term & y.term != 0,
    "jnset": lambda x, y: x.term & y.term == 0,
    "jsgt": lambda x, y: signed(x) > signed(y),
    "jsge": lambda x, y: signed(x) >= signed(y),
    "jslt": lambda x, y: signed(x) < signed(y),
    "jsle": lambda x, y: signed(x) <= signed(y),
}


@pytest.mark.usefixtures("unreduced")
def test_view_without_a_number(paths: Paths) -> None:
    """What `jne` does to each side, where the other is one number: nothing else is lost."""
    a, y = any_view(paths, "a", bits=False), number("y", W)
    x = member(paths, "x", a)
    paths.given += [x.term != y.term]

    def cut_off() -> Any:
        rest = view._without(W, a, y)  # type: ignore[arg-type]
        return z3.BoolVal(False) if rest is None else in_view(x, rest)

    paths.run(cut_off)


@pytest.mark.usefixtures("unreduced")
@pytest.mark.parametrize("code", [code for code in view.NEGATED if code != "jne"])
def test_view_refinement(paths: Paths, code: str) -> None:
    """Two numbers that take the branch are in what is left of their views."""
    bits = code in ("jeq", "jset", "jnset")
    a, b = any_view(paths, "a", bits=bits), any_view(paths, "b", bits=bits)
    x, y = member(paths, "x", a), member(paths, "y", b)
    paths.given += [CONDITIONS[code](x, y)]

    def refined() -> Any:
        pair = view.refine(W, code, a, b)
        return z3.BoolVal(False) if pair is None else z3.And(in_view(x, pair[0]), in_view(y, pair[1]))

    paths.run(refined)


# Two views of one number.


@pytest.mark.parametrize("above", [True, False])
def test_the_nearest_number_with_a_lower_half_in_range(paths: Paths, above: bool) -> None:
    """What a narrow view says about the ends of a wide one."""
    x, y, low, high = number("x", W), number("y", W), number("low", 32), number("high", 32)
    half = y.term & 0xFFFF_FFFF
    beyond = (lambda p, q: p >= q) if above else (lambda p, q: p <= q)
    paths.given += [low.term <= high.term, low.term <= half, half <= high.term, beyond(y.term, x.term)]
    function: Any = scalar._next_at_least if above else scalar._next_at_most
    paths.run(lambda: beyond(y.term, function(x, 32, low, high).term))


@pytest.mark.usefixtures("unreduced")
def test_the_lower_half_of_a_view(paths: Paths) -> None:
    """A number's lower half is in the lower half of its view."""
    v = any_view(paths, "v")
    x = member(paths, "x", v)
    numbers = scalar.Numbers()

    def lower() -> Any:
        n = numbers._low(v)
        half = z3.Extract(31, 0, x.term)
        u = [part.term if isinstance(part, Int) else z3.BitVecVal(part, Int.width) for part in n]
        wide, s = z3.ZeroExt(Int.width - 32, half), z3.SignExt(Int.width - 32, half)
        return z3.And((wide & ~u[1]) == u[0], u[2] <= wide, wide <= u[3], u[4] <= s, s <= u[5])

    paths.run(lower)
