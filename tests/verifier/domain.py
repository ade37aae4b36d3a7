"""What it means for the number domain to be sound, as checks over chosen operands.

Each check takes the modules of a domain, so that the same check passes on pybpf's and must fail on one with a fault put in
(`test_domain_faults`). A check raises `Unsound` with the operands that show the fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pybpf import semantics
from pybpf.verifier import scalar, tnum, view
from pybpf.verifier.view import View
from tests.verifier.views import Image, Set, best, closed, meaning, members, tnum_set, tnums

Pair = tuple[tuple[Set, View], tuple[Set, View]]

OPERATORS = tuple(code for code in view.OPS if not code.startswith("movs"))
"""The operators that make sense at any width; sign extensions name theirs."""
CONDITIONS = tuple(view.NEGATED)


class Unsound(AssertionError):
    """An abstract operation lost a number that the concrete one can give."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The three modules of a number domain."""

    tnum: Any = tnum
    view: Any = view
    scalar: Any = scalar


def operator(code: str, w: int) -> Callable[[int, int], int]:
    """What an ALU operator computes at a width."""
    return lambda a, b: semantics.ALU[code](a, b, w)


def condition(code: str, w: int) -> Callable[[int, int], bool]:
    """Whether a branch is taken; ``jnset`` is the fall-through of ``jset``."""
    if code == "jnset":
        return lambda a, b: not semantics.CONDITION["jset"](a, b, w)
    return lambda a, b: semantics.CONDITION[code](a, b, w)


def all_pairs(w: int) -> list[Pair]:
    """Every pair of closed sets."""
    return [(a, b) for a in closed(w) for b in closed(w)]


def small_pairs(w: int) -> list[Pair]:
    """Every pair of sets of at most two numbers."""
    small = [entry for entry in closed(w) if entry[0].bit_count() <= 2]
    return [(a, b) for a in small for b in small]


def some_pairs(w: int, count: int, seed: int = 1) -> list[Pair]:
    """A fixed, uniform sample of all pairs."""
    rng = random.Random(seed)
    return [(rng.choice(closed(w)), rng.choice(closed(w))) for _ in range(count)]


@dataclass(slots=True)
class Score:
    """How many operations were tried, and for how many the result was the best that a view can say."""

    tried: int = 0
    best: int = 0

    @property
    def ratio(self) -> float:
        """The part of the results that were best."""
        return self.best / self.tried


def check_operator(domain: Domain, w: int, code: str, pairs: Iterable[Pair]) -> Score:
    """Every result of two members is a member of the abstract result."""
    image, score = Image(w, operator(code, w)), Score()
    held = {v: s for s, v in closed(w)}
    for (xs, a), (ys, b) in pairs:
        result = domain.view.OPS[code](w, a, b)
        true = image(xs, ys)
        claimed = held[result] if result in held else meaning(w, View(*result))
        if true & ~claimed:
            raise Unsound(f"{members(xs)} {code} {members(ys)} at {w} bits misses {members(true & ~claimed)}")
        score.tried += 1
        score.best += result == best(w, true)
    return score


def check_refinement(domain: Domain, w: int, code: str, pairs: Iterable[Pair]) -> Score:
    """No pair of members for which the condition holds is lost, on either side."""
    taken, score = condition(code, w), Score()
    held = {v: s for s, v in closed(w)}
    for (xs, a), (ys, b) in pairs:
        left = right = 0
        for x in members(xs):
            for y in members(ys):
                if taken(x, y):
                    left, right = left | 1 << x, right | 1 << y
        result = domain.view.refine(w, code, a, b)
        kept = (0, 0) if result is None else tuple(held.get(v) or meaning(w, View(*v)) for v in result)
        if left & ~kept[0] or right & ~kept[1]:
            raise Unsound(
                f"{members(xs)} {code} {members(ys)} at {w} bits leaves {[members(k) for k in kept]}"
            )
        score.tried += 1
        score.best += result == ((best(w, left), best(w, right)) if left else None)
    return score


def check_extension(domain: Domain, w: int, name: str) -> None:
    """Cutting and copying the sign, from every number of bits to `w`, on every view."""
    for bits in range(1, w):
        cut: Callable[[int], int] = (
            (lambda x, bits=bits: semantics.signed(x, bits) & ((1 << w) - 1))
            if name == "sign_extend"
            else (lambda x, bits=bits: x & ((1 << bits) - 1))
        )
        for xs, a in closed(w):
            kept = meaning(w, View(*getattr(domain.view, name)(w, a, bits)))
            for x in members(xs):
                if not kept >> cut(x) & 1:
                    raise Unsound(f"{name} of {members(xs)} from {bits} bits misses {cut(x)}")


def check_lattice(domain: Domain, w: int, pairs: Iterable[Pair]) -> None:
    """A join holds both sets, an intersection is exactly what both have, inclusion is inclusion."""
    held = {v: s for s, v in closed(w)}
    for (xs, a), (ys, b) in pairs:
        if (xs | ys) & ~held[domain.view.join(w, a, b)]:
            raise Unsound(f"join of {members(xs)} and {members(ys)}")
        both = domain.view.intersect(w, a, b)
        if (0 if both is None else held[both]) != xs & ys:
            raise Unsound(f"intersection of {members(xs)} and {members(ys)}")
        if domain.view.includes(a, b) != (not ys & ~xs):
            raise Unsound(f"inclusion of {members(ys)} in {members(xs)}")


def check_reduce(domain: Domain, w: int, raw: Iterable[View]) -> None:
    """`reduce` neither drops nor adds a number, finds every empty set, and gives the best view."""
    for v in raw:
        numbers = meaning(w, v)
        reduced = domain.view.reduce(w, v)
        if (None if reduced is None else View(*reduced)) != (best(w, numbers) if numbers else None):
            raise Unsound(f"reduce of {v} at {w} bits, which holds {members(numbers)}: {reduced}")


def raw_views(w: int) -> Iterator[View]:
    """Every combination of a tnum, an unsigned and a signed range."""
    half = 1 << (w - 1)
    for bits in tnums(w):
        for umin in range(1 << w):
            for umax in range(umin, 1 << w):
                for smin in range(-half, half):
                    for smax in range(smin, half):
                        yield View(*bits, umin, umax, smin, smax)


def some_raw_views(w: int, count: int, seed: int = 1) -> Iterator[View]:
    """A fixed sample of them."""
    rng, half = random.Random(seed), 1 << (w - 1)
    for _ in range(count):
        umin, umax = sorted((rng.randrange(1 << w), rng.randrange(1 << w)))
        smin, smax = sorted((rng.randrange(-half, half), rng.randrange(-half, half)))
        yield View(*rng.choice(tnums(w)), umin, umax, smin, smax)


# Tnums.

_TNUM_OPERATORS: dict[str, tuple[str, bool]] = {
    # function -> (operator, whether it takes the width)
    "add": ("add", True), "sub": ("sub", True), "mul": ("mul", True),
    "and_": ("and", False), "or_": ("or", False), "xor": ("xor", False),
}  # fmt: skip


def check_tnum_operator(domain: Domain, w: int, name: str) -> Score:
    """Every pair of tnums; the score counts the results that no tnum could say better."""
    code, sized = _TNUM_OPERATORS[name]
    image, score = Image(w, operator(code, w)), Score()
    function = getattr(domain.tnum, name)
    for a in tnums(w):
        for b in tnums(w):
            result = function(a, b, w) if sized else function(a, b)
            true = image(tnum_set(w, a), tnum_set(w, b))
            if result[0] & result[1] or true & ~tnum_set(w, result):
                raise Unsound(f"tnum {a} {code} {b} at {w} bits: {result}")
            score.tried += 1
            score.best += tuple(best(w, true)[:2]) == result
    return score


def check_tnum_search(domain: Domain, w: int) -> None:
    """`at_least` and `at_most` find the nearest member in each direction, for every tnum and every number."""
    for bits in tnums(w):
        xs = members(tnum_set(w, bits))
        for x in range(1 << w):
            above, below = [y for y in xs if y >= x], [y for y in xs if y <= x]
            if domain.tnum.at_least(bits, x) != (above[0] if above else None):
                raise Unsound(f"at_least({bits}, {x}) at {w} bits")
            if domain.tnum.at_most(bits, x, w) != (below[-1] if below else None):
                raise Unsound(f"at_most({bits}, {x}) at {w} bits")


def check_tnum_shapes(domain: Domain, w: int) -> None:
    """Shifts, sign extension, ranges, joins, intersections: the best tnum, for every operand."""

    def expect(what: str, result: object, xs: Iterable[int]) -> None:
        numbers = 0
        for x in xs:
            numbers |= 1 << (x & ((1 << w) - 1))
        if result != (tuple(best(w, numbers)[:2]) if numbers else None):
            raise Unsound(f"tnum {what} at {w} bits: {result} for {members(numbers)}")

    t = domain.tnum
    for low in range(1 << w):
        for high in range(low, 1 << w):
            expect(f"from_range({low}, {high})", t.from_range(low, high), range(low, high + 1))
    for a in tnums(w):
        xs = members(tnum_set(w, a))
        for k in range(w):
            expect(f"{a} << {k}", t.shift_left(a, k, w), [x << k for x in xs])
            expect(f"{a} >> {k}", t.shift_right(a, k), [x >> k for x in xs])
        for bits in range(1, w):
            expect(f"{a} from {bits}", t.sign_extend(a, bits, w), [semantics.signed(x, bits) for x in xs])
        for b in tnums(w):
            ys = members(tnum_set(w, b))
            expect(f"{a} join {b}", t.join(a, b), xs + ys)
            expect(f"{a} intersect {b}", t.intersect(a, b), set(xs) & set(ys))
            if t.includes(a, b) != (set(ys) <= set(xs)):
                raise Unsound(f"tnum {a} includes {b}")


# Scalars: two views of one number.


def holds(domain: Domain, numbers: Any, s: Any, x: int) -> bool:
    """Whether x is one of the numbers of a scalar."""
    w, h = numbers.width, numbers.half
    return contains(w, s.wide, x) and contains(h, s.narrow, x & ((1 << h) - 1))


def contains(w: int, v: Any, x: int) -> bool:
    """The definition of a view, repeated here so that no fault in it can hide another."""
    return x & ~v[1] == v[0] and v[2] <= x <= v[3] and v[4] <= semantics.signed(x, w) <= v[5]


def all_scalars(domain: Domain, numbers: Any) -> list[tuple[Set, Any]]:
    """Every scalar of a small width with what it stands for, checked while they are made: nothing lost, nothing added."""
    w, h = numbers.width, numbers.half
    found: dict[Any, Set] = {}
    spread = {ys: sum(1 << x for x in range(1 << w) if ys >> (x & ((1 << h) - 1)) & 1) for ys, _ in closed(h)}
    for xs, wide in closed(w):
        for ys, narrow in closed(h):
            both = xs & spread[ys]
            made = numbers.make(domain.view.View(*wide), domain.view.View(*narrow))
            if made is None:
                if both:
                    raise Unsound(f"{members(xs)} with lower half in {members(ys)} is not empty")
                continue
            if found.get(made, both) != both or meaning(w, View(*made.wide)) & ~xs:
                raise Unsound(f"{made} is not {members(xs)} with lower half in {members(ys)}")
            found[made] = both
    return [(s, made) for made, s in found.items()]


def check_scalar_operator(
    domain: Domain, numbers: Any, code: str, width: int, pairs: Iterable[tuple[Any, Any]]
) -> None:
    """An ALU operation at full or half width, the latter with the upper half cleared."""
    low = (1 << width) - 1
    compute = operator(code, width)
    for (xs, a), (ys, b) in pairs:
        result = numbers.alu(code, width, a, b)
        for x in members(xs):
            for y in members(ys):
                z = compute(x & low, y & low) & low
                if not holds(domain, numbers, result, z):
                    raise Unsound(f"{x} {code} {y} = {z} at {width} of {numbers.width} bits: {result}")


def check_scalar_refinement(
    domain: Domain, numbers: Any, code: str, width: int, pairs: Iterable[tuple[Any, Any]]
) -> None:
    """What a branch at full or half width leaves of both operands."""
    low = (1 << width) - 1
    taken = condition(code, width)
    for (xs, a), (ys, b) in pairs:
        result = numbers.refine(code, width, a, b)
        for x in members(xs):
            for y in members(ys):
                if taken(x & low, y & low) and not (
                    result is not None
                    and holds(domain, numbers, result[0], x)
                    and holds(domain, numbers, result[1], y)
                ):
                    raise Unsound(f"{x} {code} {y} holds at {width} of {numbers.width} bits: {result}")


# Numbers of 64 bits, point by point.

EDGES = sorted(
    {
        (edge + step) % (1 << 64)
        for edge in (0, 1 << 7, 1 << 8, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 63, 0xFFFF_FFFF << 32)
        for step in (-2, -1, 0, 1, 2)
    }
)
"""Where signs, carries and halves change."""


def around(domain: Domain, numbers: Any, x: int, slack: tuple[int, ...]) -> Any:
    """A scalar that holds x and as much around it as seven numbers of slack say."""
    w, h = numbers.width, numbers.half
    unknown, below, above, under, over, narrow_below, narrow_above = slack
    full, half = (1 << w) - 1, 1 << (w - 1)
    s, low, n = semantics.signed(x, w), (1 << h) - 1, x & ((1 << h) - 1)
    wide = domain.view.View(
        x & ~unknown & full, unknown & full, max(x - below, 0), min(x + above, full), max(s - under, -half), min(s + over, half - 1),
    )  # fmt: skip
    narrow = domain.view.top(h)._replace(umin=max(n - narrow_below, 0), umax=min(n + narrow_above, low))
    return numbers.make(wide, narrow)


def random_points(domain: Domain, numbers: Any, count: int, seed: int) -> Iterator[tuple[int, Any]]:
    """Numbers of interest, each with a scalar that holds it."""
    rng, w = random.Random(seed), numbers.width

    def size() -> int:
        return rng.choice(
            (0, 0, rng.getrandbits(2), rng.getrandbits(8), rng.getrandbits(rng.randrange(1, w + 1)))
        )

    for _ in range(count):
        x = rng.choice((rng.choice(EDGES), rng.getrandbits(w), rng.getrandbits(rng.randrange(1, w + 1)))) % (
            1 << w
        )
        yield x, around(domain, numbers, x, tuple(size() for _ in range(7)))


def check_point(domain: Domain, numbers: Any, code: str, width: int, x: int, a: Any, y: int, b: Any) -> None:
    """One operation on one pair of numbers lies in the abstract result."""
    low = (1 << width) - 1
    z = operator(code, width)(x & low, y & low) & low
    result = numbers.alu(code, width, a, b)
    if not holds(domain, numbers, result, z):
        raise Unsound(f"{x:#x} {code} {y:#x} = {z:#x} at {width} bits: {a} {b} {result}")


def check_branch(domain: Domain, numbers: Any, code: str, width: int, x: int, a: Any, y: int, b: Any) -> None:
    """One branch that one pair of numbers takes keeps them."""
    low = (1 << width) - 1
    if condition(code, width)(x & low, y & low):
        result = numbers.refine(code, width, a, b)
        if result is None or not (
            holds(domain, numbers, result[0], x) and holds(domain, numbers, result[1], y)
        ):
            raise Unsound(f"{x:#x} {code} {y:#x} at {width} bits: {a} {b} {result}")


def check_end(domain: Domain, numbers: Any, code: str, bits: int, x: int, a: Any) -> None:
    """One change of byte order."""
    z = semantics.END[code](x, bits)
    result = numbers.end(code, bits, a)
    if not holds(domain, numbers, result, z):
        raise Unsound(f"{code}{bits} {x:#x} = {z:#x}: {a} {result}")


def check_extract(domain: Domain, numbers: Any, shift: int, bits: int, x: int, a: Any) -> None:
    """One part of a stored number."""
    z = x >> shift & ((1 << bits) - 1)
    result = numbers.extract(a, shift, bits)
    if not holds(domain, numbers, result, z):
        raise Unsound(f"{bits} bits of {x:#x} from {shift} = {z:#x}: {a} {result}")
