"""The checks of the number domain notice faults: each row breaks one line of its source and must be caught.

The faults are those that verifiers really had: interval subtraction of like ends (Oko, DPDK), results of 32 bits that keep
their upper half (Oko, PREVAIL), negation and byte swaps that keep a range (Oko), signed bounds taken for unsigned ones
(Oko), refinements one too far, arithmetic shifts that are logical.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from tests.verifier.domain import (
    Domain,
    Unsound,
    all_pairs,
    all_scalars,
    check_branch,
    check_end,
    check_extension,
    check_extract,
    check_lattice,
    check_operator,
    check_point,
    check_reduce,
    check_refinement,
    check_scalar_operator,
    check_tnum_operator,
    check_tnum_search,
    check_tnum_shapes,
    random_points,
    raw_views,
)

pytestmark = pytest.mark.slow

Check = Callable[[Domain], object]


@contextmanager
def mutated(module: str, text: str, fault: str) -> Iterator[Domain]:
    """A domain of its own in which one piece of one module's source reads otherwise."""
    names = ("tnum", "view", "scalar")
    package = importlib.import_module("pybpf.verifier")
    kept = {
        name: (importlib.import_module(f"pybpf.verifier.{name}"), getattr(package, name)) for name in names
    }
    made: dict[str, ModuleType] = {}
    try:
        for name in names:
            original = kept[name][0]
            assert original.__file__ is not None
            with open(original.__file__) as file:
                source = file.read()
            if name == module:
                assert source.count(text) == 1, f"{module}.py has {source.count(text)} times {text!r}"
                source = source.replace(text, fault)
            made[name] = ModuleType(original.__name__)
            sys.modules[original.__name__] = made[name]
            setattr(package, name, made[name])
            exec(compile(source, f"{name}.py with a fault", "exec"), made[name].__dict__)
        yield Domain(made["tnum"], made["view"], made["scalar"])
    finally:
        for name, (original, attribute) in kept.items():
            sys.modules[original.__name__] = original
            setattr(package, name, attribute)


def operators(*codes: str) -> Check:
    return lambda domain: [check_operator(domain, 3, code, all_pairs(3)) for code in codes]


def refinements(*codes: str) -> Check:
    return lambda domain: [check_refinement(domain, 3, code, all_pairs(3)) for code in codes]


def tnum_operators(*names: str) -> Check:
    return lambda domain: [check_tnum_operator(domain, 3, name) for name in names]


def tnum_shapes(domain: Domain) -> None:
    check_tnum_shapes(domain, 3)


def points(code: str, width: int) -> Check:
    """Pairs of 64-bit numbers at random, each in a scalar around it."""

    def check(domain: Domain) -> None:
        numbers = domain.scalar.Numbers()
        left = random_points(domain, numbers, 1500, 1)
        for (x, a), (y, b) in zip(left, random_points(domain, numbers, 1500, 2), strict=True):
            check_point(domain, numbers, code, width, x, a, y, b)

    return check


def branches(code: str, width: int) -> Check:
    def check(domain: Domain) -> None:
        numbers = domain.scalar.Numbers()
        left = random_points(domain, numbers, 1500, 1)
        for (x, a), (y, b) in zip(left, random_points(domain, numbers, 1500, 2), strict=True):
            check_branch(domain, numbers, code, width, x, a, y, b)

    return check


def ends(domain: Domain) -> None:
    numbers = domain.scalar.Numbers()
    for x, a in random_points(domain, numbers, 1500, 1):
        for code in ("be", "le", "bswap"):
            for bits in (16, 32, 64):
                check_end(domain, numbers, code, bits, x, a)


def parts(domain: Domain) -> None:
    numbers, rng = domain.scalar.Numbers(), random.Random(5)
    for x, a in random_points(domain, numbers, 1500, 1):
        first = rng.randrange(8)
        check_extract(domain, numbers, 8 * first, 8 * rng.randrange(1, 9 - first), x, a)


def scalars(domain: Domain) -> None:
    all_scalars(domain, domain.scalar.Numbers(width=4))


def scalar_operators(code: str, width: int) -> Check:
    def check(domain: Domain) -> None:
        numbers = domain.scalar.Numbers(width=4)
        everything, rng = all_scalars(domain, numbers), random.Random(4)
        pairs = [(rng.choice(everything), rng.choice(everything)) for _ in range(2000)]
        check_scalar_operator(domain, numbers, code, width, pairs)

    return check


def reductions(domain: Domain) -> None:
    check_reduce(domain, 3, raw_views(3))


def lattice(domain: Domain) -> None:
    check_lattice(domain, 3, all_pairs(3))


# What is broken, the module, its text, the text with the fault, the check that must notice.
FAULTS: list[tuple[str, str, str, str, Check]] = [
    ("tnum add forgets the carry", "tnum", "mask = ((least ^ greatest) | a[1] | b[1]) & full",
     "mask = (a[1] | b[1]) & full", tnum_operators("add")),
    ("tnum sub forgets the borrow", "tnum", "(((difference + a[1]) ^ (difference - b[1])) | a[1] | b[1]) & full",
     "(a[1] | b[1]) & full", tnum_operators("sub")),
    ("tnum and of an unknown and a one is known", "tnum", "(a[0] | a[1]) & (b[0] | b[1]) & ~ones",
     "(a[1] & b[1]) & ~ones", tnum_operators("and_")),
    ("tnum or takes an unknown for zero", "tnum", "return ones, (a[1] | b[1]) & ~ones", "return ones, a[1] & b[1] & ~ones",
     tnum_operators("or_")),
    ("tnum xor knows what one operand knows", "tnum", "mask = a[1] | b[1]\n    return (a[0] ^ b[0])",
     "mask = a[1] & b[1]\n    return (a[0] ^ b[0])", tnum_operators("xor")),
    ("tnum mul drops what an unknown bit adds", "tnum", "if (value | mask) & 1:", "if value & 1:", tnum_operators("mul")),
    ("tnum sign extension copies an unknown sign as zero", "tnum", "return value, mask | high", "return value, mask",
     tnum_shapes),
    ("tnum of a range one bit short", "tnum", "(low ^ high).bit_length()) - 1", "max((low ^ high).bit_length() - 1, 0)) - 1",
     tnum_shapes),
    ("tnum join keeps bits that differ", "tnum", "mask = a[1] | b[1] | (a[0] ^ b[0])", "mask = a[1] | b[1]",
     tnum_shapes),
    ("at_least keeps bits that may fall", "tnum", "return (x & mask & -(1 << top)) | value",
     "return x | value", lambda domain: check_tnum_search(domain, 4)),
    ("reduce takes the highest number from the wrong piece", "view", "umin, umax = pieces[0][0], pieces[-1][1]",
     "umin, umax = pieces[0][0], pieces[0][1]", reductions),
    ("reduce exchanges the signed ends", "view", "smin, smax = signed(pieces[-1][0], w), signed(pieces[0][1], w)",
     "smin, smax = signed(pieces[0][0], w), signed(pieces[-1][1], w)", reductions),
    ("join of signed ranges takes the greater lower end", "view", "min(a.smin, b.smin), max(a.smax, b.smax)",
     "max(a.smin, b.smin), max(a.smax, b.smax)", lattice),
    ("inclusion forgets the bits", "view", "        and tnum.includes(a.bits, b.bits)\n", "", lattice),
    ("inclusion the wrong way round", "view", "        a.umin <= b.umin\n", "        b.umin <= a.umin\n", lattice),
    ("a range that wraps stays one", "view", "elif low >> w == high >> w:", "elif low >> w <= high >> w:", operators("add", "sub")),
    ("a range that wraps loses its lower part", "view", "parts = [(low & full, full), (0, high & full)]",
     "parts = [(low & full, full)]", operators("add", "sub")),
    ("only the last of several ranges is kept", "view", "result = part if result is None else join(w, result, part)", "result = part",
     operators("add", "mul")),
    ("the negative numbers of a view are forgotten", "view", "return [(v.umin, v.smax), (v.smin, v.umax - (1 << w))]",
     "return [(v.umin, v.smax)]", operators("add", "sub", "mul")),
    ("sub subtracts like ends", "view", "(c - f, d - e)", "(c - e, d - f)", operators("sub")),
    ("add of ranges adds the wrong ends", "view", "(c + e, d + f)", "(c + e, d + e)", operators("add")),
    ("mul looks at two corners", "view", "corners = operator(c, e), operator(c, f), operator(d, e), operator(d, f)",
     "corners = operator(c, e), operator(d, f)", operators("mul", "sdiv")),
    ("division by zero gives at least the dividend", "view", "low = a.umin // b.umax if b.umin > 0 else 0",
     "low = a.umin // max(b.umax, 1)", operators("div")),
    ("mod by zero is zero", "view", "high = min(a.umax, b.umax - 1) if b.umin > 0 else a.umax",
     "high = min(a.umax, max(b.umax - 1, 0))", operators("mod")),
    ("sdiv by a negative number is positive", "view", "return magnitude if (x < 0) == (y < 0) else -magnitude", "return magnitude",
     operators("sdiv")),
    ("sdiv by zero is nothing", "view", "        ranges.append((0, 0))", "        pass", operators("sdiv")),
    ("smod has the divisor's sign", "view", "if c >= 0 else (max(c, 1 - most), 0)", "if e >= 0 else (max(c, 1 - most), 0)",
     operators("smod")),
    ("smod reaches the divisor of its least magnitude only", "view", "(0, min(d, most - 1))", "(0, min(d, least - 1))", operators("smod")),
    ("smod by zero is nothing", "view", "ranges = list(dividends) if contains(w, b, 0) else []", "ranges = []", operators("smod")),
    ("or is bounded by the larger end", "view", "return low_x | low_y, high_x | high_y", "return low_x | low_y, max(high_x, high_y)",
     operators("or")),
    ("a raised end keeps its lower bits", "view", "raised = (a | m) & -m", "raised = a | m", operators("or", "and", "xor")),
    ("a lowered end clears its lower bits", "view", "lowered = (b - m) | (m - 1)", "lowered = b - m", operators("or", "and")),
    ("bitwise results ignore the sign", "view", "if v.smin >= 0 or v.smax < 0:", "if True:", operators("and", "or", "xor")),
    ("lsh keeps a range that loses bits", "view",
     "tnum.shift_left(a.bits, k, w),\n        u if u[1] >> w == 0 else None", "tnum.shift_left(a.bits, k, w),\n        (u[0], min(u[1], (1 << w) - 1)) if u[0] >> w == 0 else None",
     operators("lsh")),
    ("arsh is logical", "view", "bits = tnum.sign_extend(tnum.shift_right(a.bits, k), w - k, w)",
     "bits = tnum.shift_right(a.bits, k)", operators("arsh")),
    ("arsh shifts the unsigned range", "view", "return _view(w, bits, None, (a.smin >> k, a.smax >> k))",
     "return _view(w, bits, (a.umin >> k, a.umax >> k), None)", operators("arsh")),
    ("a shift by an unknown amount takes the least", "view", "for k in range(amount.umin, amount.umax + 1):",
     "for k in range(amount.umin, amount.umin + 1):", operators("lsh", "rsh", "arsh")),
    ("neg keeps the range", "view", "return sub(w, constant(w, 0), a)", "return a", operators("neg")),
    ("a cut number keeps its range", "view", "(a.umin & low, a.umax & low) if same_prefix else (0, low)",
     "(a.umin & low, a.umax & low) if a.umin & low <= a.umax & low else (0, low)", lambda domain: check_extension(domain, 3, "zero_extend")),
    ("sign extension of a number that does not fit keeps it", "view", "if -half <= a.smin and a.smax < half:\n        return a",
     "if -half <= a.smin and a.umax <= (1 << bits) - 1:\n        return a", lambda domain: check_extension(domain, 3, "sign_extend")),
    ("a strict comparison is one too strict", "view", 'strict = 1 if code in ("jlt", "jslt") else 0', "strict = 1",
     refinements("jle", "jsle", "jge", "jsge")),
    ("a signed comparison bounds the unsigned range", "view", 'if code in ("jlt", "jle"):', 'if code in ("jlt", "jle", "jslt", "jsle"):',
     refinements("jslt", "jsle")),
    ("jne cuts what is not the end", "view", "    if v.umin == x:\n", "    if v.umin <= x:\n", refinements("jne")),
    ("jne cuts by a number that is not known", "view", "    if b.umin == b.umax:\n", "    if True:\n", refinements("jne")),
    ("jset teaches the side that falls through", "view", 'if code == "jnset":', 'if code == "jset":', refinements("jset", "jnset")),
    ("jset with two common bits teaches both", "view", "if common & (common - 1) == 0:", "if True:", refinements("jset")),
    ("a mirrored comparison gives its sides unmirrored", "view", "(swapped[1], swapped[0])", "swapped",
     refinements("jgt", "jge")),
    ("a 32-bit result is not cut", "scalar", "            narrow = operation(width, x, y)\n            return self.zero_extended(narrow)",
     "            return self._result(operation(self.width, a.wide, b.wide), operation(width, x, y))", points("add", 32)),
    ("a 32-bit comparison bounds the whole number", "scalar", "narrow = views.refine(width, code, a.narrow, b.narrow)",
     "return self._refine(code, self.width, a, b)", branches("jlt", 32)),
    ("the lower half of a right shift depends on lower halves", "scalar", '_MODULAR: Final = frozenset({"add",',
     '_MODULAR: Final = frozenset({"rsh", "add",', scalar_operators("rsh", 4)),
    ("the lower half of a range keeps its ends", "scalar", "if first <= last:", "if True:", scalars),
    ("a lower half bounds the whole", "scalar", "return x if part <= high else base + (1 << h) + low", "return x if part <= high else base + (1 << h) + high",
     scalars),
    ("a byte swap keeps the range", "scalar", "self.make(views.top(self.width)._replace(value=value, mask=mask), views.top(self.half))",
     "self.make(wide._replace(value=0, mask=(1 << self.width) - 1), views.top(self.half))", ends),
    ("le does not cut", "scalar", "return self._must(self.make(views.zero_extend(self.width, wide, bits), views.top(self.half)))\n        value, mask",
     "return a\n        value, mask", ends),
    ("a part of a stored number is its lowest", "scalar", "shifted = self.alu(\"rsh\", self.width, a, self.constant(shift)) if shift else a",
     "shifted = a", parts),
    ("a left shift clears the lower half", "scalar", "zero if k >= self.half else", "zero if k else", scalar_operators("lsh", 4)),
    ("a sign extension is never negative", "view", "_view(w, tnum.sign_extend(a.bits, bits, w), None, (-half, half - 1))",
     "_view(w, tnum.sign_extend(a.bits, bits, w), None, (0, half - 1))", points("movs8", 64)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "text", "fault", "check"),
    [row[1:] for row in FAULTS],
    ids=[row[0].replace(" ", "-") for row in FAULTS],
)
def test_fault_is_caught(module: str, text: str, fault: str, check: Check) -> None:
    """The check passes on the domain as it is and fails on the one with the fault."""
    check(Domain())
    with mutated(module, text, fault) as domain, pytest.raises((Unsound, AssertionError)):
        check(domain)


def test_there_are_faults_of_every_kind() -> None:
    """Enough faults, in every module, all different."""
    assert len({row[0] for row in FAULTS}) == len(FAULTS) >= 45
    assert {row[1] for row in FAULTS} == {"tnum", "view", "scalar"}
