"""What proofs about the number domain speak of: any tnum, any view, and the numbers in them, as z3 sees them."""

from __future__ import annotations

from typing import Any

import z3

from pybpf.verifier.view import View
from tests.verifier.symbolic import Int, Paths, number


def literal(x: Any) -> Int:
    """A number as a term."""
    return x if isinstance(x, Int) else Int(z3.BitVecVal(x, Int.width))


def integer(name: str, bits: int) -> Int:
    """Any integer of so many bits, its sign included."""
    return Int(z3.SignExt(Int.width - bits, z3.BitVec(name, bits)))


def cut(term: Any, w: int) -> Int:
    """The lower w bits."""
    return Int(term & ((1 << w) - 1))


def signed(x: Int, w: int) -> Any:
    """The lower w bits as a signed number."""
    return z3.SignExt(Int.width - w, z3.Extract(w - 1, 0, x.term))


def any_tnum(paths: Paths, name: str, w: int) -> tuple[Any, Any]:
    """Any tnum of w bits."""
    value, mask = number(name + ".value", w), number(name + ".mask", w)
    paths.given += [(value.term & mask.term) == 0]
    return value, mask


def in_tnum(x: Int, bits: Any, w: int) -> Any:
    """A number is in a tnum, and the tnum is one."""
    full = (1 << w) - 1
    value, mask = map(literal, bits)
    one = z3.And((value.term & mask.term) == 0, value.term & ~z3.BitVecVal(full, Int.width) == 0)
    return z3.And(one, (x.term & ~mask.term & full) == value.term)


def any_view(paths: Paths, name: str, w: int, *, bits: bool = True) -> Any:
    """A view of any parts, or of ranges alone: they need not be reduced."""
    value, mask = any_tnum(paths, name, w) if bits else (0, (1 << w) - 1)
    umin, umax = number(name + ".umin", w), number(name + ".umax", w)
    smin, smax = integer(name + ".smin", w), integer(name + ".smax", w)
    paths.given += [umin.term <= umax.term, smin.term <= smax.term]
    return View(value, mask, umin, umax, smin, smax)  # type: ignore[arg-type]


def in_view(x: Int, v: Any, w: int) -> Any:
    """A number is in a view."""
    u = [literal(part).term for part in v]
    s = signed(x, w)
    return z3.And(in_tnum(x, v[:2], w), u[2] <= x.term, x.term <= u[3], u[4] <= s, s <= u[5])


def member(paths: Paths, name: str, view: Any, w: int) -> Int:
    """Any number of a view."""
    x = number(name, w)
    paths.given += [in_view(x, view, w)]
    return x


def between(low: Any, x: Any, high: Any) -> Any:
    """low <= x <= high."""
    return z3.And(literal(low).term <= literal(x).term, literal(x).term <= literal(high).term)


def nearest(a: Any, x: Int, y: Int, found: Any, w: int, *, above: bool) -> Any:
    """What a search must find: a member on the right side of x, and none nearer; None where there is none."""
    beyond = (lambda p, q: p >= q) if above else (lambda p, q: p <= q)
    is_candidate = z3.And(in_tnum(y, a, w), beyond(y.term, x.term))
    if found is None:
        return z3.Not(is_candidate)
    nearer = z3.Implies(is_candidate, beyond(y.term, found.term))
    return z3.And(in_tnum(found, a, w), beyond(found.term, x.term), nearer)


CONDITIONS: dict[str, Any] = {
    "jeq": lambda x, y, w: x.term == y.term,
    "jne": lambda x, y, w: x.term != y.term,
    "jgt": lambda x, y, w: x.term > y.term,
    "jge": lambda x, y, w: x.term >= y.term,
    "jlt": lambda x, y, w: x.term < y.term,
    "jle": lambda x, y, w: x.term <= y.term,
    "jset": lambda x, y, w: x.term & y.term != 0,
    "jnset": lambda x, y, w: x.term & y.term == 0,
    "jsgt": lambda x, y, w: signed(x, w) > signed(y, w),
    "jsge": lambda x, y, w: signed(x, w) >= signed(y, w),
    "jslt": lambda x, y, w: signed(x, w) < signed(y, w),
    "jsle": lambda x, y, w: signed(x, w) <= signed(y, w),
}
"""What a branch at w bits compares."""
