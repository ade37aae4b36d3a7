"""What operators compute: the RFC's words and examples, and Python's own arithmetic done another way."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import semantics
from pybpf.semantics import U32, U64, alu, atomic, byte_swap, condition, signed

WIDTHS = pytest.mark.parametrize("width", [32, 64])
EDGES = [
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    64,
    0x7FFF_FFFF,
    0x8000_0000,
    U32,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    U64 - 1,
    U64,
]
NUMBER = st.one_of(st.sampled_from(EDGES), st.integers(0, U64))


def c_signed(value: int, width: int) -> int:
    """Two's complement as C has it."""
    return (ctypes.c_int32 if width == 32 else ctypes.c_int64)(value).value


def shifted(direction: int) -> Callable[[int, int, int], int]:
    """A shift as a product with a power of two, rounded down; only the lower bits of the amount count."""
    return lambda a, b, w: math.floor(Fraction(a) * Fraction(2) ** (direction * (b % w)))


# Operator -> what the RFC says it is, on operands cut to the width; the signed ones on signed operands.
UNSIGNED = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "div": lambda a, b, w: math.floor(Fraction(a, b)) if b else 0,
    "mod": lambda a, b, w: a - b * math.floor(Fraction(a, b)) if b else a,
    "or": lambda a, b, w: sum(1 << n for n in range(w) if a >> n & 1 or b >> n & 1),
    "and": lambda a, b, w: sum(1 << n for n in range(w) if a >> n & 1 and b >> n & 1),
    "xor": lambda a, b, w: sum(1 << n for n in range(w) if a >> n & 1 != b >> n & 1),
    "mov": lambda a, b, w: b,
    "neg": lambda a, b, w: (1 << w) - a,
    "lsh": shifted(1),
    "rsh": shifted(-1),
    "movs8": lambda a, b, w: ctypes.c_int8(b).value,
    "movs16": lambda a, b, w: ctypes.c_int16(b).value,
    "movs32": lambda a, b, w: ctypes.c_int32(b).value,
}
SIGNED = {
    "sdiv": lambda a, b, w: math.trunc(Fraction(a, b)) if b else 0,
    "smod": lambda a, b, w: a - b * math.trunc(Fraction(a, b)) if b else a,
    "arsh": lambda a, b, w: math.floor(Fraction(a) / 2 ** (b % w)),
}
RELATIONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: b < a,
    "ge": lambda a, b: not a < b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: not b < a,
}


def test_every_operator_is_restated_here():
    assert semantics.ALU.keys() == UNSIGNED.keys() | SIGNED.keys()


@WIDTHS
@pytest.mark.parametrize("code", UNSIGNED)
@given(a=NUMBER, b=NUMBER)
def test_unsigned_arithmetic(code: str, width: int, a: int, b: int):
    """The result of a 32-bit operation fills the register with zeros."""
    modulus = 1 << width
    assert alu(code, a, b, width) == UNSIGNED[code](a % modulus, b % modulus, width) % modulus


@WIDTHS
@pytest.mark.parametrize("code", SIGNED)
@given(a=NUMBER, b=NUMBER)
def test_signed_arithmetic(code: str, width: int, a: int, b: int):
    expected = SIGNED[code](c_signed(a, width), c_signed(b, width), width)
    assert alu(code, a, b, width) == expected % (1 << width)


@WIDTHS
@pytest.mark.parametrize("relation", RELATIONS)
@given(a=NUMBER, b=NUMBER)
def test_conditions(relation: str, width: int, a: int, b: int):
    """A 32-bit comparison does not see the upper halves."""
    modulus = 1 << width
    assert condition(f"j{relation}", a, b, width) == RELATIONS[relation](a % modulus, b % modulus)
    if relation in ("gt", "ge", "lt", "le"):
        expected = RELATIONS[relation](c_signed(a, width), c_signed(b, width))
        assert condition(f"js{relation}", a, b, width) == expected


@WIDTHS
@given(a=NUMBER, b=NUMBER)
def test_jset_looks_for_a_common_bit(width: int, a: int, b: int):
    assert condition("jset", a, b, width) == any(a >> n & 1 and b >> n & 1 for n in range(width))


def test_every_condition_is_restated_here():
    jumps = {f"j{name}" for name in RELATIONS} | {"jsgt", "jsge", "jslt", "jsle", "jset"}
    assert semantics.CONDITION.keys() == jumps


@pytest.mark.parametrize(
    ("code", "a", "b", "width", "result"),
    [
        ("div", 7, 0, 64, 0),
        ("sdiv", 7, 0, 64, 0),
        ("mod", U64, 0, 64, U64),
        ("mod", U64, 0, 32, U32),
        ("smod", U64, 0, 32, U32),
        ("smod", -13 & U64, 3, 64, -1 & U64),
        ("smod", 13, -3 & U64, 64, 1),
        ("sdiv", -7 & U64, 2, 64, -3 & U64),
        ("sdiv", 1 << 63, U64, 64, 1 << 63),
        ("smod", 1 << 63, U64, 64, 0),
        ("sdiv", 1 << 31, U32, 32, 1 << 31),
        ("lsh", 1, 64, 64, 1),
        ("lsh", 1, 33, 32, 2),
        ("arsh", 1 << 31, 31, 32, U32),
        ("arsh", 1 << 31, 31, 64, 1),
        ("neg", 1, 0, 32, U32),
        ("movs8", 0, 0x80, 32, 0xFFFF_FF80),
        ("movs32", 0, 0x8000_0000, 64, 0xFFFF_FFFF_8000_0000),
        ("mov", 0, U64, 32, U32),
    ],
)
def test_cases_that_the_rfc_names(code: str, a: int, b: int, width: int, result: int):
    """Section 4.1: division by zero, the sign of a remainder, the overflow of division, shift amounts, sign extension."""
    assert alu(code, a, b, width) == result


@given(NUMBER)
def test_byte_order(value: int):
    """Section 4.2, on a little-endian machine: `le` cuts, `be` and `bswap` reverse the bytes that remain."""
    for width in (16, 32, 64):
        memory = value.to_bytes(8, "little")[: width // 8]
        assert semantics.END["le"](value, width) == int.from_bytes(memory, "little")
        assert semantics.END["be"](value, width) == int.from_bytes(memory, "big")
        assert semantics.END["bswap"](value, width) == int.from_bytes(memory[::-1], "little")
        assert byte_swap(byte_swap(value, width), width) == value % (1 << width)


@WIDTHS
@given(old=NUMBER, src=NUMBER, r0=NUMBER)
def test_atomics_leave_in_memory_what_the_operator_makes(width: int, old: int, src: int, r0: int):
    """Section 5.3: the forms that fetch leave the same; an exchange compares at its own width."""
    cut = (1 << width) - 1
    for name in ("add", "or", "and", "xor"):
        assert atomic(name, old, src, r0, width) == alu(name, old, src, width)
        assert atomic(f"fetch_{name}", old, src, r0, width) == alu(name, old, src, width)
    assert atomic("xchg", old, src, r0, width) == src & cut
    assert atomic("cmpxchg", old, src, r0, width) == (src if old & cut == r0 & cut else old) & cut
    assert atomic("cmpxchg", old, src, old, width) == src & cut


@given(st.integers(), st.sampled_from([8, 16, 32, 64]))
def test_signed_is_the_number_with_the_same_lower_bits_in_range(value: int, width: int):
    number = signed(value, width)
    assert -(1 << (width - 1)) <= number < 1 << (width - 1)
    assert (number - value) % (1 << width) == 0
