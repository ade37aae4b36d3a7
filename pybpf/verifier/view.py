"""A number seen at one width: known bits, unsigned range, signed range, kept in step.

A `View` at width w stands for the set of w-bit numbers x that satisfy all three:

    x & ~mask == value,   umin <= x <= umax,   smin <= signed(x) <= smax

`reduce` makes each part as tight as the others allow; every function here takes and gives reduced views, and None is the
empty set. The width is a parameter so that tests can enumerate every view of 4 bits and every pair of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Final, NamedTuple

from pybpf.semantics import signed
from pybpf.verifier import tnum


class View(NamedTuple):
    """See the module. `smin` and `smax` are Python integers of either sign, the rest unsigned."""

    value: int
    mask: int
    umin: int
    umax: int
    smin: int
    smax: int

    @property
    def bits(self) -> tnum.Tnum:
        """The known bits."""
        return self.value, self.mask


def contains(w: int, v: View, x: int) -> bool:
    """Whether the w-bit number x is in the set (concretisation)."""
    return x & ~v.mask == v.value and v.umin <= x <= v.umax and v.smin <= signed(x, w) <= v.smax


@cache
def top(w: int) -> View:
    """Every number."""
    full, half = (1 << w) - 1, 1 << (w - 1)
    return View(0, full, 0, full, -half, half - 1)


def constant(w: int, x: int) -> View:
    """Exactly x."""
    x &= (1 << w) - 1
    s = signed(x, w)
    return View(x, 0, x, x, s, s)


@lru_cache(maxsize=1 << 16)
def reduce(w: int, v: View) -> View | None:
    """The tightest equal view that exchanging facts between the three parts gives, None for the empty set.

    An exchange drops no number, and each but the last makes a part smaller, so it ends.
    """
    while True:
        tighter = _exchange(w, v)
        if tighter is None or tighter == v:
            return tighter
        v = tighter


def _exchange(w: int, v: View) -> View | None:
    """One round: unsigned <-> signed, bits -> ranges, ranges -> bits. Each step only drops numbers that fail a part."""
    full, half = (1 << w) - 1, 1 << (w - 1)
    umin, umax, smin, smax = v[2:]
    # The signed range is [smin, -1] and [0, smax], the unsigned range [umin, half) and [half, umax]: what is left is the
    # overlap of the non-negative pieces and that of the negative ones, each cut to the first and last number of the tnum.
    pieces: list[tuple[int, int]] = []
    bits: tnum.Tnum | None = None
    for low, high in (
        (max(umin, smin, 0), min(umax, half - 1, smax)),
        (max(umin, half, full + 1 + smin), min(umax, full + 1 + min(smax, -1))),
    ):
        if low <= high:
            first, last = tnum.at_least(v.bits, low), tnum.at_most(v.bits, high, w)
            if first is not None and last is not None and first <= last:
                pieces.append((first, last))
                known = tnum.intersect(v.bits, tnum.from_range(first, last))
                assert known is not None, "first is in both"
                bits = known if bits is None else tnum.join(bits, known)
    if bits is None:
        return None
    umin, umax = pieces[0][0], pieces[-1][1]
    smin, smax = signed(pieces[-1][0], w), signed(pieces[0][1], w)
    return View(*bits, umin, umax, smin, smax)


def intersect(w: int, a: View, b: View) -> View | None:
    """The numbers in both: those in every part of both."""
    bits = tnum.intersect(a.bits, b.bits)
    if bits is None:
        return None
    return reduce(
        w,
        View(*bits, max(a.umin, b.umin), min(a.umax, b.umax), max(a.smin, b.smin), min(a.smax, b.smax)),
    )


def join(w: int, a: View, b: View) -> View:
    """A view that holds both sets: each part holds what either part does."""
    bits = tnum.join(a.bits, b.bits)
    joined = reduce(
        w,
        View(*bits, min(a.umin, b.umin), max(a.umax, b.umax), min(a.smin, b.smin), max(a.smax, b.smax)),
    )
    assert joined is not None
    return joined


def includes(a: View, b: View) -> bool:
    """Whether every number of b is one of a; exact for reduced views but for sets that the parts describe equally."""
    return (
        a.umin <= b.umin
        and b.umax <= a.umax
        and a.smin <= b.smin
        and b.smax <= a.smax
        and tnum.includes(a.bits, b.bits)
    )


def _view(w: int, bits: tnum.Tnum, u: tuple[int, int] | None, s: tuple[int, int] | None) -> View:
    """The reduced view of an operation's result, None meaning that a range is not known."""
    whole = top(w)
    umin, umax = u or (whole.umin, whole.umax)
    smin, smax = s or (whole.smin, whole.smax)
    view = reduce(w, View(*bits, umin, umax, smin, smax))
    assert view is not None, "an operation on non-empty sets gave an empty one"
    return view


def _by_sign(w: int, v: View) -> list[tuple[int, int]]:
    """The signed numbers of a view as one range, or as two where both signs occur: within a sign both orders agree, so
    each range has the tighter ends of the two.
    """
    if v.smin >= 0 or v.smax < 0:
        return [(v.smin, v.smax)]
    return [(v.umin, v.smax), (v.smin, v.umax - (1 << w))]


def _of_ranges(w: int, bits: tnum.Tnum, ranges: Iterable[tuple[int, int]]) -> View:
    """What has these bits and is, modulo 2**w, in one of some ranges of integers: each is cut where it wraps, reduced with
    the bits, and the parts are joined.
    """
    full, half = (1 << w) - 1, 1 << (w - 1)
    result: View | None = None
    for low, high in ranges:
        if high - low >= full:
            parts = [(0, full)]
        elif low >> w == high >> w:
            parts = [(low & full, high & full)]
        else:
            parts = [(low & full, full), (0, high & full)]
        for umin, umax in parts:
            part = reduce(w, View(*bits, umin, umax, -half, half - 1))
            if part is not None:
                result = part if result is None else join(w, result, part)
    assert result is not None, "an operation on non-empty sets gave an empty one"
    return result


def add(w: int, a: View, b: View) -> View:
    """The sums of two ranges are a range of integers, and a result is one of them modulo 2**w."""
    ranges = [(c + e, d + f) for c, d in _by_sign(w, a) for e, f in _by_sign(w, b)]
    return _of_ranges(w, tnum.add(a.bits, b.bits, w), ranges)


def sub(w: int, a: View, b: View) -> View:
    """As for sums: the least difference is the least minus the greatest."""
    ranges = [(c - f, d - e) for c, d in _by_sign(w, a) for e, f in _by_sign(w, b)]
    return _of_ranges(w, tnum.sub(a.bits, b.bits, w), ranges)


def mul(w: int, a: View, b: View) -> View:
    """A product is monotone in each factor, up or down as the sign of the other says: the extremes are at the corners."""
    ranges = _corners(lambda x, y: x * y, _by_sign(w, a), _by_sign(w, b))
    return _of_ranges(w, tnum.mul(a.bits, b.bits, w), ranges)


def _corners(
    operator: Callable[[int, int], int], xs: list[tuple[int, int]], ys: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The values of an operator for each pair of ranges on which it is monotone in each operand."""
    found = []
    for c, d in xs:
        for e, f in ys:
            corners = operator(c, e), operator(c, f), operator(d, e), operator(d, f)
            found.append((min(*corners), max(*corners)))
    return found


def div(w: int, a: View, b: View) -> View:
    """Unsigned division grows with the dividend and shrinks with the divisor; by zero it gives zero."""
    low = a.umin // b.umax if b.umin > 0 else 0
    return _view(w, (0, (1 << w) - 1), (low, a.umax // max(b.umin, 1)), None)


def mod(w: int, a: View, b: View) -> View:
    """The remainder is below the divisor and not above the dividend; modulo zero it is the dividend."""
    if a.umax < b.umin:
        return a
    high = min(a.umax, b.umax - 1) if b.umin > 0 else a.umax
    return _view(w, (0, (1 << w) - 1), (0, high), None)


def _quotient(x: int, y: int) -> int:
    """Division that truncates towards zero."""
    magnitude = abs(x) // abs(y)
    return magnitude if (x < 0) == (y < 0) else -magnitude


def _divisors(w: int, v: View) -> list[tuple[int, int]]:
    """The signed numbers of a view but for zero, by sign."""
    return [(e or 1, f) for e, f in _by_sign(w, v) if f != 0]


def sdiv(w: int, a: View, b: View) -> View:
    """Truncating division is monotone in each operand where neither changes its sign; by zero it gives zero. The one quotient
    that does not fit, -2**(w-1) / -1, wraps.
    """
    ranges = _corners(_quotient, _by_sign(w, a), _divisors(w, b))
    if contains(w, b, 0):
        ranges.append((0, 0))
    return _of_ranges(w, (0, (1 << w) - 1), ranges)


def smod(w: int, a: View, b: View) -> View:
    """The remainder has the dividend's sign, and a magnitude below the divisor's and not above the dividend's. It is the
    dividend where the divisor is zero or of a greater magnitude.
    """
    dividends = _by_sign(w, a)
    ranges = list(dividends) if contains(w, b, 0) else []
    for e, f in _divisors(w, b):
        least, most = min(abs(e), abs(f)), max(abs(e), abs(f))
        for c, d in dividends:
            if max(abs(c), abs(d)) < least:
                ranges.append((c, d))
            else:
                ranges.append((0, min(d, most - 1)) if c >= 0 else (max(c, 1 - most), 0))
    return _of_ranges(w, (0, (1 << w) - 1), ranges)


_Bounds = Callable[[int, int, int, int, int], tuple[int, int]]


def _only_bits(w: int, v: View) -> bool:
    """Whether the ranges of a view say no more than its bits: they end where all unknown bits are zeros, or ones."""
    if v.umin != v.value or v.umax != v.value | v.mask:
        return False
    sign = 1 << (w - 1)
    return not v.mask & sign or (v.smin == v.value - sign and v.smax == (v.value | v.mask) - sign)


def _bitwise(w: int, a: View, b: View, bits: tnum.Tnum, bounds: _Bounds) -> View:
    """A bitwise operation: `bounds` holds for unsigned ranges, and signed numbers of one sign are one, in the same order. Where there are
    only bits, those of the result are all there is to know.
    """
    if _only_bits(w, a) and _only_bits(w, b):
        return _view(w, bits, None, None)
    full = (1 << w) - 1
    ranges = [
        bounds(w, c & full, d & full, e & full, f & full)
        for c, d in _by_sign(w, a)
        for e, f in _by_sign(w, b)
    ]
    return _of_ranges(w, bits, ranges)


def _raised(m: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """a and c, the ends from below of a..b and c..d. Where only one of them has the bit m, the other is raised to the next
    number that has it too, if its range goes so far.
    """
    if ~a & c & m:
        raised = (a | m) & -m
        return (raised if raised <= b else a), c
    if a & ~c & m:
        raised = (c | m) & -m
        return a, (raised if raised <= d else c)
    return a, c


def _lowered(m: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """b and d, the ends from above. Where both have the bit m, one that may is lowered to the next number without it."""
    if b & d & m:
        lowered = (b - m) | (m - 1)
        if lowered >= a:
            return lowered, d
        lowered = (d - m) | (m - 1)
        if lowered >= c:
            return b, lowered
    return b, d


def _least(a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """The x and y of a <= x <= b, c <= y <= d for which x | y and x ^ y are least (Warren, Hacker's Delight, 4-3).

    Bit by bit from the top: with the bits above given, a bit of x | y need not be one unless it is in x or y, one of x ^ y is zero
    if x and y can be made to agree in it; and once an end is raised, the bits below it are free.
    """
    rest = a ^ c
    while rest:
        m = 1 << (rest.bit_length() - 1)
        a, c = _raised(m, a, b, c, d)
        rest = (a ^ c) & (m - 1)
    return a, c


def _greatest(a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """The x and y for which x | y is greatest: where both have a bit, one may do without it, and all bits below it are ones."""
    rest = b & d
    while rest:
        m = 1 << (rest.bit_length() - 1)
        b, d = _lowered(m, a, b, c, d)
        rest = b & d & (m - 1)
    return b, d


def _or_bounds(w: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Least and greatest x | y."""
    low_x, low_y = _least(a, b, c, d)
    high_x, high_y = _greatest(a, b, c, d)
    return low_x | low_y, high_x | high_y


def _and_bounds(w: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """x & y = ~(~x | ~y): complement turns ranges around."""
    full = (1 << w) - 1
    low, high = _or_bounds(w, full ^ b, full ^ a, full ^ d, full ^ c)
    return full ^ high, full ^ low


def _xor_bounds(w: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Least and greatest x ^ y; the greatest is the complement of the least x ^ ~y."""
    full = (1 << w) - 1
    low_x, low_y = _least(a, b, c, d)
    high_x, not_y = _least(a, b, full ^ d, full ^ c)
    return low_x ^ low_y, full ^ high_x ^ not_y


def and_(w: int, a: View, b: View) -> View:
    """Bits by tnum, ranges by the bounds of x & y for each pair of signs."""
    return _bitwise(w, a, b, tnum.and_(a.bits, b.bits), _and_bounds)


def or_(w: int, a: View, b: View) -> View:
    """Bits by tnum, ranges by the bounds of x | y for each pair of signs."""
    return _bitwise(w, a, b, tnum.or_(a.bits, b.bits), _or_bounds)


def xor(w: int, a: View, b: View) -> View:
    """Bits by tnum, ranges by the bounds of x ^ y for each pair of signs."""
    return _bitwise(w, a, b, tnum.xor(a.bits, b.bits), _xor_bounds)


def _shift(w: int, a: View, b: View, by: Callable[[int, View, int], View]) -> View:
    """The join over every amount that b can hold: at most w of them, since execution masks the amount."""
    result: View | None = None
    amount = and_(w, b, constant(w, w - 1))
    for k in range(amount.umin, amount.umax + 1):
        if contains(w, amount, k):
            shifted = by(w, a, k)
            result = shifted if result is None else join(w, result, shifted)
    assert result is not None
    return result


def _lsh(w: int, a: View, k: int) -> View:
    """A product with 2**k: monotone in either order as long as nothing is lost."""
    u, s = (a.umin << k, a.umax << k), (a.smin << k, a.smax << k)
    half = 1 << (w - 1)
    return _view(
        w,
        tnum.shift_left(a.bits, k, w),
        u if u[1] >> w == 0 else None,
        s if -half <= s[0] and s[1] < half else None,
    )


def _rsh(w: int, a: View, k: int) -> View:
    """A quotient by 2**k, rounded down: monotone in the unsigned order."""
    return _view(w, tnum.shift_right(a.bits, k), (a.umin >> k, a.umax >> k), None)


def _arsh(w: int, a: View, k: int) -> View:
    """The same of signed numbers. As bits: a logical shift, and copies of the sign, which is then at w - k, above."""
    bits = tnum.sign_extend(tnum.shift_right(a.bits, k), w - k, w)
    return _view(w, bits, None, (a.smin >> k, a.smax >> k))


def lsh(w: int, a: View, b: View) -> View:
    """Left shift by each possible amount; a range that does not lose bits stays one."""
    return _shift(w, a, b, _lsh)


def rsh(w: int, a: View, b: View) -> View:
    """Logical right shift by each possible amount."""
    return _shift(w, a, b, _rsh)


def arsh(w: int, a: View, b: View) -> View:
    """Arithmetic right shift by each possible amount."""
    return _shift(w, a, b, _arsh)


def neg(w: int, a: View, b: View) -> View:
    """0 - a, by the argument for differences."""
    return sub(w, constant(w, 0), a)


def sign_extend(w: int, a: View, bits: int) -> View:
    """The lower `bits` of a, sign-extended: a itself if every number of a fits, else any that does, with the bits by tnum."""
    half = 1 << (bits - 1)
    if -half <= a.smin and a.smax < half:
        return a
    return _view(w, tnum.sign_extend(a.bits, bits, w), None, (-half, half - 1))


def zero_extend(w: int, a: View, bits: int) -> View:
    """The lower `bits` of a, zero above: a itself if it fits. Numbers between two that share the bits above share them too, and are in
    the order of their lower bits.
    """
    low = (1 << bits) - 1
    if a.umax <= low:
        return a
    same_prefix = a.umin >> bits == a.umax >> bits
    return _view(
        w,
        (a.value & low, a.mask & low),
        (a.umin & low, a.umax & low) if same_prefix else (0, low),
        None,
    )


OPS: Final[dict[str, Callable[[int, View, View], View]]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "sdiv": sdiv,
    "mod": mod,
    "smod": smod,
    "and": and_,
    "or": or_,
    "xor": xor,
    "lsh": lsh,
    "rsh": rsh,
    "arsh": arsh,
    "neg": neg,
    "mov": lambda w, a, b: b,
    "movs8": lambda w, a, b: sign_extend(w, b, 8),
    "movs16": lambda w, a, b: sign_extend(w, b, 16),
    "movs32": lambda w, a, b: sign_extend(w, b, 32),
}
"""Operator -> (w, dst, src) -> result. The test of completeness holds its keys against `semantics.ALU`."""


def refine(w: int, code: str, a: View, b: View) -> tuple[View, View] | None:
    """What is left of two numbers once ``a code b`` is known to hold; None where it cannot hold.

    `code` is a condition of the instruction table or ``jnset``, the opposite of ``jset``. In an order, a is at most the greatest of b
    and b at least the least of a, by one more where equal numbers do not satisfy it.
    """
    if code == "jeq":
        both = intersect(w, a, b)
        return None if both is None else (both, both)
    if code == "jne":
        return _refine_ne(w, a, b)
    if code in ("jset", "jnset"):
        return _refine_bits(w, code, a, b)
    if code in ("jgt", "jge", "jsgt", "jsge"):
        swapped = refine(w, _SWAPPED[code], b, a)
        return None if swapped is None else (swapped[1], swapped[0])
    strict = 1 if code in ("jlt", "jslt") else 0
    if code in ("jlt", "jle"):
        left, right = (
            a._replace(umax=min(a.umax, b.umax - strict)),
            b._replace(umin=max(b.umin, a.umin + strict)),
        )
        empty = left.umin > left.umax or right.umin > right.umax
    else:
        left, right = (
            a._replace(smax=min(a.smax, b.smax - strict)),
            b._replace(smin=max(b.smin, a.smin + strict)),
        )
        empty = left.smin > left.smax or right.smin > right.smax
    return None if empty else _both(reduce(w, left), reduce(w, right))


_SWAPPED: Final = {"jgt": "jlt", "jge": "jle", "jsgt": "jslt", "jsge": "jsle"}

NEGATED: Final = {
    "jeq": "jne", "jne": "jeq", "jgt": "jle", "jle": "jgt", "jge": "jlt", "jlt": "jge",
    "jsgt": "jsle", "jsle": "jsgt", "jsge": "jslt", "jslt": "jsge", "jset": "jnset", "jnset": "jset",
}  # fmt: skip
"""The condition that holds where a branch is not taken."""


def _both(a: View | None, b: View | None) -> tuple[View, View] | None:
    return None if a is None or b is None else (a, b)


def _without(w: int, v: View, x: int) -> View | None:
    """v without x, as far as a range can say that: only an end can be cut. None if nothing else is in it."""
    s = signed(x, w)
    if v.umin == x:
        v = v._replace(umin=x + 1)
    if v.umax == x:
        v = v._replace(umax=x - 1)
    if v.smin == s:
        v = v._replace(smin=s + 1)
    if v.smax == s:
        v = v._replace(smax=s - 1)
    if v.umin > v.umax or v.smin > v.smax:
        return None
    return reduce(w, v)


def _refine_ne(w: int, a: View, b: View) -> tuple[View, View] | None:
    """A number that is not equal to any of several may be anything; to the only one, anything else."""
    left: View | None = a
    right: View | None = b
    if b.umin == b.umax:
        left = _without(w, a, b.umin)
    if a.umin == a.umax:
        right = _without(w, b, a.umin)
    return _both(left, right)


def _refine_bits(w: int, code: str, a: View, b: View) -> tuple[View, View] | None:
    """a & b == 0: a known one of either is a zero of the other. a & b != 0: if one bit alone can be the cause, it is one in both."""
    common = (a.value | a.mask) & (b.value | b.mask)
    if code == "jnset":
        if a.value & b.value:
            return None
        return _both(
            reduce(w, a._replace(mask=a.mask & ~b.value)),
            reduce(w, b._replace(mask=b.mask & ~a.value)),
        )
    if not common:
        return None
    if common & (common - 1) == 0:
        return _both(
            reduce(w, a._replace(value=a.value | common, mask=a.mask & ~common)),
            reduce(w, b._replace(value=b.value | common, mask=b.mask & ~common)),
        )
    return a, b
