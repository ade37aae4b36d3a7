"""What each operator computes, on Python integers (RFC 9669, sections 4 and 5).

Registers are unsigned 64-bit numbers. An operator of width 32 sees the lower halves of its operands and its result is
zero-extended. The interpreter executes these functions, the verifier folds constants with them, and the tests hold the
JIT against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

U32: Final = 0xFFFF_FFFF
U64: Final = 0xFFFF_FFFF_FFFF_FFFF


def signed(value: int, width: int) -> int:
    """The lower `width` bits of a number as a two's complement number.

    >>> signed(0xFF, 8), signed(0x17F, 8)
    (-1, 127)
    """
    half = 1 << (width - 1)
    return ((value & ((half << 1) - 1)) ^ half) - half


def byte_swap(value: int, width: int) -> int:
    """The lower `width` bits with their bytes in reverse order."""
    size = width // 8
    return int.from_bytes((value & ((1 << width) - 1)).to_bytes(size, "little"), "big")


def _sdiv(a: int, b: int, width: int) -> int:
    """Division that truncates towards zero; by zero it is zero. The one overflow, -2**(n-1) / -1, wraps."""
    x, y = signed(a, width), signed(b, width)
    if y == 0:
        return 0
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _smod(a: int, b: int, width: int) -> int:
    """The remainder of truncating division, with the sign of the dividend; modulo zero is the dividend."""
    x, y = signed(a, width), signed(b, width)
    if y == 0:
        return a
    remainder = abs(x) % abs(y)
    return remainder if x >= 0 else -remainder


# (dst, src, width) -> result, not yet cut to `width`. Both operands are below 2**width.
ALU: Final[dict[str, Callable[[int, int, int], int]]] = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "div": lambda a, b, w: a // b if b else 0,
    "sdiv": _sdiv,
    "or": lambda a, b, w: a | b,
    "and": lambda a, b, w: a & b,
    "lsh": lambda a, b, w: a << (b & (w - 1)),
    "rsh": lambda a, b, w: a >> (b & (w - 1)),
    "mod": lambda a, b, w: a % b if b else a,
    "smod": _smod,
    "xor": lambda a, b, w: a ^ b,
    "mov": lambda a, b, w: b,
    "arsh": lambda a, b, w: signed(a, w) >> (b & (w - 1)),
    "neg": lambda a, b, w: -a,
    "movs8": lambda a, b, w: signed(b, 8),
    "movs16": lambda a, b, w: signed(b, 16),
    "movs32": lambda a, b, w: signed(b, 32),
}

# (dst, width) -> result, on a little-endian machine.
END: Final[dict[str, Callable[[int, int], int]]] = {
    "le": lambda a, w: a & ((1 << w) - 1),
    "be": byte_swap,
    "bswap": byte_swap,
}

OTHER_END: Final = {"le": "be", "be": "le", "bswap": "bswap"}
"""What a change of byte order on a big-endian machine is, in terms of a little-endian one."""

# (dst, src, width) -> whether the branch is taken. Both operands are below 2**width.
CONDITION: Final[dict[str, Callable[[int, int, int], bool]]] = {
    "jeq": lambda a, b, w: a == b,
    "jne": lambda a, b, w: a != b,
    "jgt": lambda a, b, w: a > b,
    "jge": lambda a, b, w: a >= b,
    "jlt": lambda a, b, w: a < b,
    "jle": lambda a, b, w: a <= b,
    "jset": lambda a, b, w: a & b != 0,
    "jsgt": lambda a, b, w: signed(a, w) > signed(b, w),
    "jsge": lambda a, b, w: signed(a, w) >= signed(b, w),
    "jslt": lambda a, b, w: signed(a, w) < signed(b, w),
    "jsle": lambda a, b, w: signed(a, w) <= signed(b, w),
}

# (memory, src, r0) -> new memory. Loads and stores with order have no arithmetic and are not here.
ATOMIC: Final[dict[str, Callable[[int, int, int], int]]] = {
    "add": lambda old, src, r0: old + src,
    "or": lambda old, src, r0: old | src,
    "and": lambda old, src, r0: old & src,
    "xor": lambda old, src, r0: old ^ src,
    "fetch_add": lambda old, src, r0: old + src,
    "fetch_or": lambda old, src, r0: old | src,
    "fetch_and": lambda old, src, r0: old & src,
    "fetch_xor": lambda old, src, r0: old ^ src,
    "xchg": lambda old, src, r0: src,
    "cmpxchg": lambda old, src, r0: src if old == r0 else old,
}


def alu(code: str, dst: int, src: int, width: int) -> int:
    """`dst` `code` `src` at `width` bits, as the 64-bit content of the destination register.

    >>> hex(alu("add", 0xFFFF_FFFF, 1, 32)), hex(alu("arsh", 1 << 63, 63, 64))
    ('0x0', '0xffffffffffffffff')
    """
    mask = U64 if width == 64 else U32
    return ALU[code](dst & mask, src & mask, width) & mask


def condition(code: str, dst: int, src: int, width: int) -> bool:
    """Whether a branch on `dst` `code` `src` at `width` bits is taken."""
    mask = U64 if width == 64 else U32
    return CONDITION[code](dst & mask, src & mask, width)


def atomic(code: str, old: int, src: int, r0: int, width: int) -> int:
    """What an atomic operator leaves in memory that held `old`."""
    mask = U64 if width == 64 else U32
    return ATOMIC[code](old & mask, src & mask, r0 & mask) & mask
