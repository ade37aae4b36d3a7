"""Scalars of 64 bits, proved: that the two views of a number are kept in step without losing it.

The operations on views give anything of which what `test_view_proofs` shows is true. Not proved but argued: that `make` may repeat its
steps until nothing changes, each of which is proved here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed")

from pybpf.verifier import scalar, tnum, view  # noqa: E402
from pybpf.verifier.scalar import Numbers  # noqa: E402
from tests.verifier.proofs import CONDITIONS, any_view, cut, in_tnum, in_view, integer, literal  # noqa: E402
from tests.verifier.symbolic import Int, Paths, greatest, least, number  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.proof]

W, H = 64, 32
TRUE, FALSE = z3.BoolVal(True), z3.BoolVal(False)


@pytest.fixture(autouse=True)
def _one_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Least and greatest are one formula, and views are as they are before the `reduce` at an operation's end."""
    for module in (view, scalar):
        monkeypatch.setattr(module, "min", least, raising=False)
        monkeypatch.setattr(module, "max", greatest, raising=False)
    monkeypatch.setattr(view, "reduce", lambda w, v: v)


@dataclass(eq=False)
class Views:
    """What `Scalar` has, of symbolic numbers."""

    wide: Any
    narrow: Any
    value: int | None = None


class Symbolic(Numbers):
    """The operations, and in the place of an interned scalar its two views."""

    def make(self, wide: Any, narrow: Any) -> Any:
        """Two views of one number are its scalar: `make` loses none (proved below)."""
        return Views(wide, narrow)


def half(x: Int) -> Int:
    return cut(x.term, H)


def is_in(x: Int, s: Any) -> Any:
    """A number is one of a scalar's."""
    return z3.And(in_view(x, s.wide, W), in_view(half(x), s.narrow, H))


def any_scalar(paths: Paths, name: str) -> Any:
    wide, narrow = any_view(paths, name, W), any_view(paths, name + ".narrow", H)
    return Views(wide, narrow)


def one_of(paths: Paths, name: str, s: Any) -> Int:
    x = number(name, W)
    paths.given += [is_in(x, s)]
    return x


@pytest.mark.parametrize("above", [True, False])
def test_the_nearest_number_with_a_lower_half_in_range(above: bool) -> None:
    """What a narrow view says about the ends of a wide one."""
    paths = Paths()
    x, y, low, high = number("x", W), number("y", W), number("low", H), number("high", H)
    beyond = (lambda p, q: p >= q) if above else (lambda p, q: p <= q)
    paths.given += [low.term <= half(y).term, half(y).term <= high.term, beyond(y.term, x.term)]
    function: Any = scalar._next_at_least if above else scalar._next_at_most
    paths.run(lambda: beyond(y.term, function(x, H, low, high).term))


def test_the_lower_half_of_a_view() -> None:
    """A number's lower half is in the lower half of its view."""
    paths = Paths()
    v, x = any_view(paths, "v", W), number("x", W)
    paths.given += [in_view(x, v, W)]
    numbers = Numbers()
    paths.run(lambda: in_view(half(x), numbers._low(v), H))


def test_views_tighten_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of `make`: a number of both views is in what either says about the other."""
    paths = Paths()
    s = any_scalar(paths, "s")
    x = one_of(paths, "x", s)
    numbers = Numbers()
    paths.run(lambda: FALSE if (v := numbers._widened(s.wide, s.narrow)) is None else in_view(x, v, W))

    low = any_view(paths, "low", H)
    paths.given += [in_view(half(x), low, H)]
    monkeypatch.setattr(Numbers, "_low", lambda self, wide: low)
    paths.run(lambda: FALSE if (v := numbers._narrowed(s.wide, s.narrow)) is None else in_view(half(x), v, H))


def test_a_number_that_fits_its_lower_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` in one step: a number of both views is in the one view that both become."""
    paths = Paths()
    s = any_scalar(paths, "s")
    x = one_of(paths, "x", s)
    paths.given += [s.wide.umax.term < 1 << H]
    monkeypatch.setattr(Numbers, "_intern", lambda self, wide, narrow: Views(wide, narrow))
    numbers = Numbers()
    paths.run(lambda: FALSE if (made := numbers.make(s.wide, s.narrow)) is None else is_in(x, made))


def test_making_a_scalar(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` gives the views of its last steps, and nothing only where a step finds nothing."""
    numbers = Numbers()
    wide, narrow = view.top(W)._replace(umax=9 << H), view.top(H)._replace(umax=9)
    steps = {(wide, narrow): (view.constant(W, 1), view.constant(H, 1))}
    monkeypatch.setattr(Numbers, "_narrowed", lambda self, a, b: steps.get((a, b), (a, b))[1], raising=True)
    monkeypatch.setattr(
        Numbers,
        "_widened",
        lambda self, a, b: view.constant(W, 1) if (a, b) == (wide, view.constant(H, 1)) else a,
    )
    made = numbers.make(wide, narrow)
    assert made is not None
    assert (made.wide, made.narrow) == (view.constant(W, 1), view.constant(H, 1))
    for step in ("_narrowed", "_widened"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Numbers, step, lambda self, a, b: None)
            assert numbers.make(wide, narrow) is None


ALU: dict[str, Any] = {
    "add": lambda x, y, w: x + y,
    "sub": lambda x, y, w: x - y,
    "mul": lambda x, y, w: x * y,
    "and": lambda x, y, w: x & y,
    "or": lambda x, y, w: x | y,
    "xor": lambda x, y, w: x ^ y,
    "neg": lambda x, y, w: -x,
    "mov": lambda x, y, w: y,
    "lsh": lambda x, y, w: x << (y & (w - 1)),
    "rsh": lambda x, y, w: z3.LShR(x, y & (w - 1)),
    "arsh": lambda x, y, w: x >> (y & (w - 1)),
    "div": lambda x, y, w: z3.Function(f"div{w}", x.sort(), x.sort(), x.sort())(x, y),
    "mod": lambda x, y, w: z3.Function(f"mod{w}", x.sort(), x.sort(), x.sort())(x, y),
    "sdiv": lambda x, y, w: z3.Function(f"sdiv{w}", x.sort(), x.sort(), x.sort())(x, y),
    "smod": lambda x, y, w: z3.Function(f"smod{w}", x.sort(), x.sort(), x.sort())(x, y),
    **{
        f"movs{bits}": lambda x, y, w, bits=bits: z3.SignExt(w - bits, z3.Extract(bits - 1, 0, y))
        for bits in (8, 16, 32)
    },
}
"""What an operator computes at a width, on terms of it; quotients and remainders may be anything that depends on the operands."""


def concrete(code: str, x: Int, y: Int, w: int) -> Int:
    """The result for the lower w bits of two numbers."""
    result = ALU[code](z3.Extract(w - 1, 0, x.term), z3.Extract(w - 1, 0, y.term), w)
    return Int(z3.ZeroExt(Int.width - w, result))


def specify(monkeypatch: pytest.MonkeyPatch, code: str, x: Int, y: Int) -> None:
    """The operation on views gives any view in which the result is, if the operands are in theirs."""

    def operation(w: int, a: Any, b: Any) -> Any:
        v = any_view(Paths(), f"{code}{w}", w)
        operands = z3.And(in_view(cut(x.term, w), a, w), in_view(cut(y.term, w), b, w))
        Paths.current.assume(z3.Implies(operands, in_view(concrete(code, x, y, w), v, w)))
        return v

    monkeypatch.setitem(view.OPS, code, operation)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("code", [code for code in view.OPS if not code.startswith("movs")])
def test_operator(code: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result at 64 bits is in both views, and that of 32 bits with the upper half cleared; lower halves are computed apart only
    where they depend on the operands' lower halves alone.
    """
    paths = Paths()
    a, b = any_scalar(paths, "a"), any_scalar(paths, "b")
    x, y = one_of(paths, "x", a), one_of(paths, "y", b)
    specify(monkeypatch, code, x, y)
    if width == H:
        # Two constants are folded with the semantics themselves.
        monkeypatch.setattr(Numbers, "constant", lambda self, z: z)
        monkeypatch.setattr(Numbers, "_fold", lambda self, *operands: None)
    numbers = Symbolic()

    def result() -> Any:
        z = numbers._compute(code, width, a, b)
        return TRUE if z is None else is_in(concrete(code, x, y, width), z)

    paths.run(result)


@pytest.mark.parametrize("k", range(64))
def test_shift_left_by_a_known_amount(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower half of the result is that of the operand shifted, or zero."""
    paths = Paths()
    a = any_scalar(paths, "a")
    b = Views(view.constant(W, k), view.constant(H, k), k)
    x, y = one_of(paths, "x", a), literal(k)
    specify(monkeypatch, "lsh", x, y)
    numbers = Symbolic()
    paths.run(lambda: is_in(concrete("lsh", x, y, W), numbers._compute("lsh", W, a, b)))


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_sign_extension(bits: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the better of both views."""
    if bits >= width:
        return
    code = f"movs{bits}"
    paths = Paths()
    a, b = any_scalar(paths, "a"), any_scalar(paths, "b")
    x, y = one_of(paths, "x", a), one_of(paths, "y", b)
    specify(monkeypatch, code, x, y)
    monkeypatch.setattr(Numbers, "constant", lambda self, z: z)
    monkeypatch.setattr(Numbers, "_fold", lambda self, *operands: None)

    def extended(w: int, v: Any, bits: int) -> Any:
        if bits == w:
            return v
        result = any_view(Paths(), f"extended{w}", w)
        given = in_view(cut(y.term, w), v, w)
        Paths.current.assume(z3.Implies(given, in_view(concrete(code, x, y, w), result, w)))
        return result

    monkeypatch.setattr(view, "sign_extend", extended)
    numbers = Symbolic()

    def result() -> Any:
        z = numbers._compute(code, width, a, b)
        return TRUE if z is None else is_in(concrete(code, x, y, width), z)

    paths.run(result)


def test_zero_extension() -> None:
    """A number whose upper half is zero."""
    paths = Paths()
    narrow, x = any_view(paths, "narrow", H), number("x", H)
    paths.given += [in_view(x, narrow, H)]
    numbers = Symbolic()
    paths.run(lambda: is_in(x, numbers.zero_extended(narrow)))


@pytest.mark.parametrize("code", ["le", "be", "bswap"])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_byte_order(code: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut, or with the bytes in reverse order: of that nothing is used but where the bits go."""
    paths = Paths()
    a = any_scalar(paths, "a")
    x = one_of(paths, "x", a)
    parts = [z3.Extract(8 * at + 7, 8 * at, x.term) for at in range(bits // 8)]
    z = cut(x.term, bits) if code == "le" else Int(z3.ZeroExt(Int.width - bits, z3.Concat(*parts)))

    def swapped(known: Any, bits: int) -> Any:
        value, mask = number("swapped.value", W), number("swapped.mask", W)
        Paths.current.assume(z3.Implies(in_tnum(x, known, W), in_tnum(z, (value, mask), W)))
        return value, mask

    monkeypatch.setattr(tnum, "byte_swap", swapped)
    numbers = Symbolic()
    paths.run(lambda: is_in(z, numbers.end(code, bits, a)))


@pytest.mark.parametrize(
    ("shift", "bits"),
    [(8 * first, 8 * size) for size in (1, 2, 3, 4, 7, 8) for first in range(9 - size)],
)
def test_part(shift: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bytes of a stored number."""
    paths = Paths()
    a = any_scalar(paths, "a")
    x = one_of(paths, "x", a)
    numbers = Symbolic()

    def alu(code: str, width: int, b: Any, by: Any) -> Any:
        assert (code, width, b, by) == ("rsh", W, a, numbers.constant(shift))
        s = any_scalar(Paths(), "shifted")
        Paths.current.assume(is_in(Int(z3.LShR(x.term, shift)), s))
        return s

    numbers.constant = lambda z: z  # type: ignore[assignment, method-assign, return-value]
    numbers.alu = alu  # type: ignore[method-assign]
    paths.run(lambda: is_in(cut(z3.LShR(x.term, shift), bits), numbers.extract(a, shift, bits)))


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("code", list(CONDITIONS))
def test_refinement(code: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two numbers that take a branch at either width are in what is left."""
    paths = Paths()
    a, b = any_scalar(paths, "a"), any_scalar(paths, "b")
    x, y = one_of(paths, "x", a), one_of(paths, "y", b)
    taken = CONDITIONS[code](cut(x.term, width), cut(y.term, width), width)
    paths.given += [taken]

    def refine(w: int, code_: str, v: Any, u: Any) -> Any:
        assert code_ == code
        both = [z3.And(in_view(cut(z.term, w), s, w)) for z, s in ((x, v), (y, u))]
        if not Paths.current.choose():
            Paths.current.assume(z3.Not(z3.And(CONDITIONS[code](cut(x.term, w), cut(y.term, w), w), *both)))
            return None
        pair = any_view(Paths(), "left", w), any_view(Paths(), "right", w)
        kept = [in_view(cut(z.term, w), s, w) for z, s in zip((x, y), pair, strict=True)]
        condition = CONDITIONS[code](cut(x.term, w), cut(y.term, w), w)
        Paths.current.assume(z3.Implies(z3.And(condition, *both), z3.And(*kept)))
        return pair

    monkeypatch.setattr(view, "refine", refine)
    numbers = Symbolic()

    def refined() -> Any:
        pair = numbers._refine(code, width, a, b)
        return FALSE if pair is None else z3.And(is_in(x, pair[0]), is_in(y, pair[1]))

    paths.run(refined)


@pytest.mark.parametrize("side", [0, 1])
def test_join(side: int) -> None:
    """A join holds what either holds."""
    paths = Paths()
    pair = any_scalar(paths, "a"), any_scalar(paths, "b")
    x = one_of(paths, "x", pair[side])
    numbers = Symbolic()
    paths.run(lambda: is_in(x, numbers.join(*pair)))


@pytest.mark.parametrize("limits", [(), (0,), (-(1 << 31), 0, 255, 1 << 40)], ids=len)
def test_limits(limits: tuple[int, ...]) -> None:
    """The next limit is not on the wrong side of a bound, unless the bound is outside of what there is."""
    paths = Paths()
    x: Any = integer("x", W + 1)
    end: Any = integer("end", W + 1)
    paths.run(lambda: z3.Implies(x.term >= end.term, literal(scalar._below(limits, x, end)).term <= x.term))
    paths.run(lambda: z3.Implies(x.term <= end.term, literal(scalar._above(limits, x, end)).term >= x.term))


def test_widening(monkeypatch: pytest.MonkeyPatch) -> None:
    """A widened number holds the newer one, whatever it was before and whatever the limits."""
    paths = Paths()
    old, new = any_scalar(paths, "old"), any_scalar(paths, "new")
    x = one_of(paths, "x", new)
    numbers = Symbolic()

    def limit(name: str, *, below: bool) -> Any:
        def next_one(limits: Any, at: Int, end: Any) -> Int:
            found = integer(f"{name}{at.term.get_id()}", W + 1)
            order = found.term <= at.term if below else found.term >= at.term
            Paths.current.assume(z3.And(order, found.term >= end if below else found.term <= end))
            return found

        return next_one

    monkeypatch.setattr(scalar, "_below", limit("below", below=True))
    monkeypatch.setattr(scalar, "_above", limit("above", below=False))
    paths.run(lambda: is_in(x, numbers.widen(old, new, ())))


def test_inclusion() -> None:
    """What includes does."""
    paths = Paths()
    a, b = any_scalar(paths, "a"), any_scalar(paths, "b")
    x = one_of(paths, "x", b)
    paths.run(lambda: is_in(x, a) if scalar.includes(a, b) else TRUE)
