"""Abstract numbers: a register seen at its full width and at its lower half at once.

A `Scalar` stands for the registers x with x in `wide` and (x mod 2**(w/2)) in `narrow`. Both views are kept as tight as
each other allows. Scalars are interned: within one `Numbers` equal scalars are one object, so comparison is identity and
every operation is computed once for each pair of operands. The tables live as long as the verification.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from pybpf import semantics
from pybpf.verifier import tnum
from pybpf.verifier import view as views
from pybpf.verifier.view import View


class Scalar:
    """A set of numbers. Made only by `Numbers`; equality is identity."""

    __slots__ = ("narrow", "value", "wide")

    def __init__(self, wide: View, narrow: View) -> None:
        self.wide: Final = wide
        self.narrow: Final = narrow
        self.value: Final[int | None] = wide.umin if wide.umin == wide.umax else None
        """The number, where there is only one."""

    def __repr__(self) -> str:
        return f"Scalar({describe(self)})"


# Operators whose lower half depends on the lower halves of the operands alone.
_MODULAR: Final = frozenset({"add", "sub", "mul", "and", "or", "xor", "neg", "mov"})


class Numbers:
    """The interning tables and the operations at one width: 64 bits in the verifier, fewer in exhaustive tests."""

    def __init__(self, width: int = 64) -> None:
        self.width: Final = width
        self.half: Final = width // 2
        self._interned: dict[tuple[View, View], Scalar] = {}
        self._alu: dict[tuple[str, int, Scalar, Scalar], Scalar] = {}
        self._refined: dict[tuple[str, int, Scalar, Scalar], tuple[Scalar, Scalar] | None] = {}
        self._joined: dict[tuple[Scalar, Scalar], Scalar] = {}
        self._constants: dict[int, Scalar] = {}
        self._ranges: dict[tuple[int, int], Scalar] = {}
        self.unknown: Final = self._intern(views.top(width), views.top(self.half))

    def __len__(self) -> int:
        """How many scalars there are."""
        return len(self._interned)

    def _intern(self, wide: View, narrow: View) -> Scalar:
        key = (wide, narrow)
        scalar = self._interned.get(key)
        if scalar is None:
            scalar = self._interned[key] = Scalar(wide, narrow)
        return scalar

    def constant(self, x: int) -> Scalar:
        """Exactly x modulo 2**width."""
        scalar = self._constants.get(x)
        if scalar is None:
            scalar = self._intern(views.constant(self.width, x), views.constant(self.half, x))
            self._constants[x] = scalar
        return scalar

    def unsigned(self, low: int, high: int) -> Scalar:
        """low <= x <= high, as unsigned numbers; not empty."""
        scalar = self._ranges.get((low, high))
        if scalar is None:
            wide = views.top(self.width)._replace(umin=low, umax=high)
            scalar = self._ranges[low, high] = self._must(self.make(wide, views.top(self.half)))
        return scalar

    def signed(self, low: int, high: int) -> Scalar:
        """low <= signed(x) <= high; not empty."""
        return self._must(
            self.make(views.top(self.width)._replace(smin=low, smax=high), views.top(self.half))
        )

    @staticmethod
    def _must(scalar: Scalar | None) -> Scalar:
        assert scalar is not None
        return scalar

    def make(self, wide: View, narrow: View) -> Scalar | None:
        """The scalar of two views, each tightened by the other until nothing changes; None where that shows the set to be empty.

        It does not show every empty set: each view may hold numbers of which none has its lower half in the other.
        """
        w, h = self.width, self.half
        while True:
            reduced_wide, reduced_narrow = views.reduce(w, wide), views.reduce(h, narrow)
            if reduced_wide is None or reduced_narrow is None:
                return None
            wide, narrow = reduced_wide, reduced_narrow
            if not wide.umax >> h:
                # The lower half is the whole: what both views say of it is all there is to know.
                whole = views.top(h)
                low = View(wide.value, wide.mask, wide.umin, wide.umax, whole.smin, whole.smax)
                both = views.intersect(h, low, narrow)
                return None if both is None else self.zero_extended(both)
            new_narrow = self._narrowed(wide, narrow)
            new_wide = None if new_narrow is None else self._widened(wide, new_narrow)
            if new_wide is None or new_narrow is None:
                return None
            if new_wide == wide and new_narrow == narrow:
                return self._intern(wide, narrow)
            wide, narrow = new_wide, new_narrow

    def _result(self, wide: View, narrow: View) -> Scalar:
        """The scalar of two views of one result. They contradict only where no operand existed, and then any result is true."""
        made = self.make(wide, narrow)
        return made if made is not None else self._must(self.make(wide, views.top(self.half)))

    def _narrowed(self, wide: View, narrow: View) -> View | None:
        """The lower half of `wide` is one more fact about `narrow`."""
        return views.intersect(self.half, narrow, views.zero_extend(self.half, self._low(wide), self.half))

    def _low(self, wide: View) -> View:
        """The lower half of a wide view as a narrow one: its bits; its unsigned range as `zero_extend` cuts it; its signed range where all of
        it fits, or where both ends are in one stretch in which lower halves keep the order of signed numbers.
        """
        h = self.half
        cut = views.zero_extend(self.width, wide, h)
        _, _, _, _, smin, smax = views.top(h)
        if smin <= wide.smin and wide.smax <= smax:
            smin, smax = wide.smin, wide.smax
        elif wide.smin >> h == wide.smax >> h or (wide.smin >> (h - 1)) == (wide.smax >> (h - 1)):
            first, last = semantics.signed(wide.smin, h), semantics.signed(wide.smax, h)
            if first <= last:
                smin, smax = first, last
        reduced = views.reduce(h, View(cut.value, cut.mask, cut.umin, cut.umax, smin, smax))
        assert reduced is not None
        return reduced

    def _widened(self, wide: View, narrow: View) -> View | None:
        """What the lower half says about the whole: its bits, and the ends of the range, which must have a lower half in range."""
        w, h = self.width, self.half
        low = (1 << h) - 1
        bits = tnum.intersect(wide.bits, (narrow.value, narrow.mask | (((1 << w) - 1) & ~low)))
        if bits is None:
            return None
        umin = _next_at_least(wide.umin, h, narrow.umin, narrow.umax)
        umax = _next_at_most(wide.umax, h, narrow.umin, narrow.umax)
        if umin > umax or umin >> w or umax < 0:
            return None
        return views.reduce(w, wide._replace(value=bits[0], mask=bits[1], umin=umin, umax=umax))

    def alu(self, code: str, width: int, a: Scalar, b: Scalar) -> Scalar:
        """`a` `code` `b` at full or half width; the result of half width is zero-extended."""
        key = (code, width, a, b)
        result = self._alu.get(key)
        if result is None:
            result = self._alu[key] = self._compute(code, width, a, b)
        return result

    def _compute(self, code: str, width: int, a: Scalar, b: Scalar) -> Scalar:
        """Views of the result from the views of the operands: at half width from the narrow ones alone. At full width the lower half of
        the result is computed apart only where it depends on nothing but the lower halves of the operands.
        """
        operation = views.OPS[code]
        if width == self.half:
            x, y = a.narrow, b.narrow
            if x.umin == x.umax and y.umin == y.umax:
                return self.constant(self._fold(code, x.umin, y.umin, width))
            narrow = operation(width, x, y)
            return self.zero_extended(narrow)
        if a.value is not None and b.value is not None:
            return self.constant(self._fold(code, a.value, b.value, width))
        wide = operation(width, a.wide, b.wide)
        narrow = views.top(self.half)
        if code in _MODULAR:
            narrow = operation(self.half, a.narrow, b.narrow)
        elif code == "lsh" and b.value is not None:
            k = b.value & (width - 1)
            zero = views.constant(self.half, 0)
            narrow = zero if k >= self.half else operation(self.half, a.narrow, views.constant(self.half, k))
        elif code.startswith("movs") and int(code[4:]) <= self.half:
            narrow = views.sign_extend(self.half, b.narrow, int(code[4:]))
            wide = self._sign_extended(b, int(code[4:]))
        return self._result(wide, narrow)

    def _fold(self, code: str, a: int, b: int, width: int) -> int:
        """What the instruction computes."""
        return semantics.ALU[code](a, b, width) & ((1 << width) - 1)

    def _sign_extended(self, b: Scalar, bits: int) -> View:
        """The lower `bits` sign-extended to the whole width, from the better of the two views."""
        wide = views.sign_extend(self.width, b.wide, bits)
        n = views.sign_extend(self.half, b.narrow, bits)
        ranged = views.reduce(self.width, views.top(self.width)._replace(smin=n.smin, smax=n.smax))
        both = None if ranged is None else views.intersect(self.width, wide, ranged)
        return wide if both is None else both

    def zero_extended(self, narrow: View) -> Scalar:
        """A number whose upper half is zero: its lower half is the whole, as an unsigned number. Its view as one is as tight as
        `narrow`: the same bits and unsigned range, and signed numbers are unsigned ones where the sign is zero.
        """
        value, mask, umin, umax, _, _ = narrow
        return self._intern(View(value, mask, umin, umax, umin, umax), narrow)

    def end(self, code: str, bits: int, a: Scalar) -> Scalar:
        """The byte order of the lower `bits` changed (le only cuts), zero above. What is known of a bit moves with it; of ranges nothing is
        left.
        """
        wide = a.wide
        if a.value is not None:
            return self.constant(semantics.END[code](a.value, bits))
        if code == "le":
            if bits == self.half:
                return self.zero_extended(a.narrow)
            return self._must(self.make(views.zero_extend(self.width, wide, bits), views.top(self.half)))
        value, mask = tnum.byte_swap(wide.bits, bits)
        return self._must(
            self.make(views.top(self.width)._replace(value=value, mask=mask), views.top(self.half))
        )

    def extract(self, a: Scalar, shift: int, bits: int) -> Scalar:
        """(a >> shift) cut to `bits`: what a load of part of a stored number gives."""
        shifted = self.alu("rsh", self.width, a, self.constant(shift)) if shift else a
        if bits == self.half:
            return self.zero_extended(shifted.narrow)
        return self._must(self.make(views.zero_extend(self.width, shifted.wide, bits), views.top(self.half)))

    def refine(self, code: str, width: int, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar] | None:
        """What is left of two numbers where ``a code b`` holds at `width` bits; None where it cannot hold."""
        key = (code, width, a, b)
        if key not in self._refined:
            self._refined[key] = self._refine(code, width, a, b)
        return self._refined[key]

    def _refine(self, code: str, width: int, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar] | None:
        """A comparison at half width is one of the narrow views; at full width one of the wide, and equal numbers have equal halves."""
        if width == self.half:
            narrow = views.refine(width, code, a.narrow, b.narrow)
            if narrow is None:
                return None
            pair = self.make(a.wide, narrow[0]), self.make(b.wide, narrow[1])
        else:
            wide = views.refine(width, code, a.wide, b.wide)
            if wide is None:
                return None
            low = (a.narrow, b.narrow)
            if code == "jeq":
                both = views.intersect(self.half, *low)
                if both is None:
                    return None
                low = (both, both)
            pair = self.make(wide[0], low[0]), self.make(wide[1], low[1])
        left, right = pair
        return None if left is None or right is None else (left, right)

    def intersect(self, a: Scalar, b: Scalar) -> Scalar | None:
        """The numbers in both."""
        both = self.refine("jeq", self.width, a, b)
        return None if both is None else both[0]

    def join(self, a: Scalar, b: Scalar) -> Scalar:
        """A scalar that holds both: each view does."""
        if a is b:
            return a
        key = (a, b)
        joined = self._joined.get(key)
        if joined is None:
            joined = self._result(
                views.join(self.width, a.wide, b.wide), views.join(self.half, a.narrow, b.narrow)
            )
            self._joined[key] = self._joined[b, a] = joined
        return joined

    def widen(self, old: Scalar, new: Scalar, limits: Sequence[int]) -> Scalar:
        """A scalar that holds both, `new` being the larger: a bound that moved goes to the next of the sorted `limits`, of the
        bits only those below the first unknown one are kept. Along any growing chain this happens only so often.
        """
        a, b = old.wide, new.wide
        whole = views.top(self.width)
        aligned = (b.mask & -b.mask) - 1 if b.mask else whole.mask
        wide = whole._replace(
            value=b.value & aligned,
            mask=whole.mask & ~aligned,
            umin=b.umin if b.umin >= a.umin else _below(limits, b.umin, whole.umin),
            umax=b.umax if b.umax <= a.umax else _above(limits, b.umax, whole.umax),
            smin=b.smin if b.smin >= a.smin else _below(limits, b.smin, whole.smin),
            smax=b.smax if b.smax <= a.smax else _above(limits, b.smax, whole.smax),
        )
        return self._must(self.make(wide, views.top(self.half)))


def _below(limits: Sequence[int], x: int, least: int) -> int:
    """The greatest limit that is <= x, and at least `least`."""
    index = bisect_right(limits, x)
    return max(limits[index - 1], least) if index else least


def _above(limits: Sequence[int], x: int, greatest: int) -> int:
    """The least limit that is >= x, and at most `greatest`."""
    index = bisect_left(limits, x)
    return min(limits[index], greatest) if index < len(limits) else greatest


def _next_at_least(x: int, h: int, low: int, high: int) -> int:
    """The least number >= x whose lower h bits lie between low and high."""
    part = x & ((1 << h) - 1)
    base = x - part
    if part < low:
        return base | low
    return x if part <= high else base + (1 << h) + low


def _next_at_most(x: int, h: int, low: int, high: int) -> int:
    """The greatest number <= x whose lower h bits lie between low and high; negative if there is none."""
    part = x & ((1 << h) - 1)
    base = x - part
    if part > high:
        return base | high
    return x if part >= low else base - (1 << h) + high


def includes(a: Scalar, b: Scalar) -> bool:
    """Whether every number of b is one of a: its views are included, one by one."""
    return a is b or (views.includes(a.wide, b.wide) and views.includes(a.narrow, b.narrow))


def describe(scalar: Scalar, width: int = 64) -> str:
    """A number as a message shows it: a constant, a range, or the known bits where they say more.

    >>> numbers = Numbers()
    >>> describe(numbers.unsigned(14, 74)), describe(numbers.unknown), describe(numbers.constant(-1))
    ('14..74', 'unknown', '-1')
    """
    v = scalar.wide
    full = (1 << width) - 1
    if scalar.value is not None:
        return str(semantics.signed(scalar.value, width) if scalar.value >> (width - 1) else scalar.value)
    parts = []
    if (v.umin, v.umax) != (0, full) and (v.smin >= 0 or v.smax < 0 or v.umax - v.umin <= v.smax - v.smin):
        parts.append(f"{v.umin}..{v.umax}")
    elif (v.smin, v.smax) != (-(full // 2) - 1, full // 2):
        parts.append(f"{v.smin}..{v.smax}")
    if v.mask != (1 << v.umax.bit_length()) - 1 or v.value:
        if v.mask != full:
            parts.append(f"bits {_pattern(v)}")
    elif not parts and scalar.narrow.umax < (1 << (width // 2)) - 1:
        parts.append(f"lower half {scalar.narrow.umin}..{scalar.narrow.umax}")
    return ", ".join(parts) or "unknown"


def _pattern(v: View) -> str:
    """Known bits as value/mask in hexadecimal, the kernel's notation."""
    return f"({v.value:#x}; {v.mask:#x})"
