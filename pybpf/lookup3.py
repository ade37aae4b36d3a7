"""Bob Jenkins' lookup3 (2006, public domain): the hash behind the `hash` helper and the hash maps (thesis, section 3.3).

The function is defined on bytes; the result does not depend on alignment or on the host's byte order.
"""

from __future__ import annotations

from typing import Final

_U32: Final = 0xFFFF_FFFF
_SEED: Final = 0xDEAD_BEEF


def _rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _U32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for k1, k2, k3 in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & _U32) ^ _rotate(c, k1)
        c = (c + b) & _U32
        b = ((b - a) & _U32) ^ _rotate(a, k2)
        a = (a + c) & _U32
        c = ((c - b) & _U32) ^ _rotate(b, k3)
        b = (b + a) & _U32
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int, int]:
    c = ((c ^ b) - _rotate(b, 14)) & _U32
    a = ((a ^ c) - _rotate(c, 11)) & _U32
    b = ((b ^ a) - _rotate(a, 25)) & _U32
    c = ((c ^ b) - _rotate(b, 16)) & _U32
    a = ((a ^ c) - _rotate(c, 4)) & _U32
    b = ((b ^ a) - _rotate(a, 14)) & _U32
    c = ((c ^ b) - _rotate(b, 24)) & _U32
    return a, b, c


def hashlittle2(data: bytes | memoryview, pc: int = 0, pb: int = 0) -> tuple[int, int]:
    """Two 32-bit hashes of a byte string from two seeds; the first is the better one.

    >>> [hex(h) for h in hashlittle2(b"Four score and seven years ago")]
    ['0x17770551', '0xce7226e6']
    """
    data = bytes(data)
    length = len(data)
    a = b = c = (_SEED + length + pc) & _U32
    c = (c + pb) & _U32
    position = 0
    while length - position > 12:
        words = data[position : position + 12]
        a = (a + int.from_bytes(words[0:4], "little")) & _U32
        b = (b + int.from_bytes(words[4:8], "little")) & _U32
        c = (c + int.from_bytes(words[8:12], "little")) & _U32
        a, b, c = _mix(a, b, c)
        position += 12
    if length == position:
        return c, b
    tail = data[position:].ljust(12, b"\0")
    a = (a + int.from_bytes(tail[0:4], "little")) & _U32
    b = (b + int.from_bytes(tail[4:8], "little")) & _U32
    c = (c + int.from_bytes(tail[8:12], "little")) & _U32
    a, b, c = _final(a, b, c)
    return c, b


def hashlittle(data: bytes | memoryview, seed: int = 0) -> int:
    """The 32-bit hash of a byte string.

    >>> hex(hashlittle(b"", 0xDEADBEEF))
    '0xbd5b7dde'
    """
    return hashlittle2(data, seed, 0)[0]
