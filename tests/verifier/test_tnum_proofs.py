"""Tristate numbers at 32 and 64 bits, proved: the code that runs in the verifier is run on symbolic numbers, and z3 decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed")

from pybpf.verifier import tnum  # noqa: E402
from tests.verifier.proofs import any_tnum, cut, in_tnum, nearest  # noqa: E402
from tests.verifier.symbolic import Bytes, Int, Paths, number  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.proof]


@pytest.fixture(params=[32, 64])
def w(request: pytest.FixtureRequest) -> int:
    return int(request.param)


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
def test_operator(w: int, name: str, concrete: Callable[[Any, Any], Any]) -> None:
    """The result of two members is a member of the result."""
    paths = Paths()
    a, b = any_tnum(paths, "a", w), any_tnum(paths, "b", w)
    x, y = number("x", w), number("y", w)
    paths.given += [in_tnum(x, a, w), in_tnum(y, b, w)]
    sized = (w,) if name in ("add", "sub") else ()
    paths.run(lambda: in_tnum(cut(concrete(x.term, y.term), w), getattr(tnum, name)(a, b, *sized), w))
    assert paths.count == 1


def test_a_false_claim_is_refuted(w: int) -> None:
    """A sum is not an or, nor a lesser number greater: z3 gives an example, on the path where it is."""
    paths = Paths()
    a, b = any_tnum(paths, "a", w), any_tnum(paths, "b", w)
    x, y = number("x", w), number("y", w)
    paths.given += [in_tnum(x, a, w), in_tnum(y, b, w)]
    with pytest.raises(AssertionError, match="sat"):
        paths.run(lambda: in_tnum(cut(x.term + y.term, w), tnum.or_(a, b), w))
    with pytest.raises(AssertionError, match=r"path \[False\]: sat"):
        Paths().run(lambda: z3.BoolVal(True) if x < y else x.term > y.term)


def test_shifts(w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every amount below the width at once."""
    monkeypatch.setattr(Int, "width", 2 * w + 8)
    paths = Paths()
    a, x, k = any_tnum(paths, "a", w), number("x", w), number("k", 6)
    paths.given += [in_tnum(x, a, w), k.term < w]
    shift: Any = k
    paths.run(lambda: in_tnum(cut(x.term << k.term, w), tnum.shift_left(a, shift, w), w))
    paths.run(lambda: in_tnum(cut(z3.LShR(x.term, k.term), w), tnum.shift_right(a, shift), w))


@pytest.mark.parametrize("bits", range(1, 64))
def test_sign_extension(w: int, bits: int) -> None:
    """From every number of bits: shifts need them all."""
    if bits >= w:
        return
    paths = Paths()
    a, x = any_tnum(paths, "a", w), number("x", w)
    paths.given += [in_tnum(x, a, w)]
    extended = z3.SignExt(Int.width - bits, z3.Extract(bits - 1, 0, x.term))
    paths.run(lambda: in_tnum(cut(extended, w), tnum.sign_extend(a, bits, w), w))


def test_join_intersection_and_inclusion(w: int) -> None:
    """A join holds both, an intersection holds what both do and nothing else, and what includes does."""
    paths = Paths()
    a, b, x = any_tnum(paths, "a", w), any_tnum(paths, "b", w), number("x", w)
    in_a, in_b = in_tnum(x, a, w), in_tnum(x, b, w)
    paths.run(lambda: z3.Implies(z3.Or(in_a, in_b), in_tnum(x, tnum.join(a, b), w)))

    def intersection() -> Any:
        both = tnum.intersect(a, b)
        return z3.Not(z3.And(in_a, in_b)) if both is None else z3.And(in_a, in_b) == in_tnum(x, both, w)

    paths.run(intersection)
    paths.run(lambda: z3.Implies(in_b, in_a) if tnum.includes(a, b) else z3.BoolVal(True))


def test_constant_and_range(w: int) -> None:
    """The lower bits of a number are in its tnum; every number between two ends is in theirs."""
    paths = Paths()
    low, high, x = number("low", w), number("high", w), number("x", w)
    longer: Any = number("longer", w + 3)
    paths.run(lambda: in_tnum(cut(longer.term, w), tnum.constant(longer, w), w))
    paths.given += [low.term <= x.term, x.term <= high.term]
    ends: Any = (low, high)
    paths.run(lambda: in_tnum(x, tnum.from_range(*ends), w))


@pytest.mark.parametrize("above", [True, False])
def test_search(w: int, above: bool) -> None:
    """`at_least` and `at_most`: for every tnum, every number, and every other member."""
    paths = Paths()
    a, x, y = any_tnum(paths, "a", w), number("x", w), number("y", w)

    def search() -> Any:
        start: Any = x
        found = tnum.at_least(a, start) if above else tnum.at_most(a, start, w)
        return nearest(a, x, y, found, w, above=above)

    paths.run(search)


def test_a_bit_of_a_product(w: int) -> None:
    """`mul` adds up, for each bit of a, what that bit times b is beyond the product of the known parts: that lies in `_beyond`.

    That x * y is the sum over the bits of x is arithmetic, and that sums are right is proved above.
    """
    paths = Paths()
    b, y = any_tnum(paths, "b", w), number("y", w)
    paths.given += [in_tnum(y, b, w)]
    paths.run(lambda: in_tnum(cut(y.term - b[0].term, w), tnum._beyond(1, b), w))
    paths.run(lambda: in_tnum(y, tnum._beyond(0, b), w))
    paths.run(lambda: in_tnum(cut(z3.BitVecVal(0, Int.width), w), tnum._beyond(0, b), w))


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_byte_swap(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a member in reverse order are a member."""
    monkeypatch.setattr(tnum, "int", Bytes, raising=False)
    paths = Paths()
    a, x = any_tnum(paths, "a", 64), number("x", 64)
    paths.given += [in_tnum(x, a, 64)]
    parts = [z3.Extract(8 * at + 7, 8 * at, x.term) for at in range(bits // 8)]
    swapped = Int(z3.ZeroExt(Int.width - bits, z3.Concat(*parts)))
    paths.run(lambda: in_tnum(swapped, tnum.byte_swap(a, bits), 64))
