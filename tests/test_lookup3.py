"""lookup3 against the vectors of its author and values computed by his C code."""

from __future__ import annotations

import pytest

from pybpf.lookup3 import hashlittle, hashlittle2

FOUR = b"Four score and seven years ago"


@pytest.mark.parametrize(
    ("data", "pc", "pb", "result"),
    [
        (b"", 0, 0, (0xDEADBEEF, 0xDEADBEEF)),
        (b"", 0, 0xDEADBEEF, (0xBD5B7DDE, 0xDEADBEEF)),
        (b"", 0xDEADBEEF, 0xDEADBEEF, (0x9C093CCD, 0xBD5B7DDE)),
        (FOUR, 0, 0, (0x17770551, 0xCE7226E6)),
        (FOUR, 0, 1, (0xE3607CAE, 0xBD371DE4)),
        (FOUR, 1, 0, (0xCD628161, 0x6CBEA4B3)),
    ],
)
def test_the_self_test_of_lookup3(data: bytes, pc: int, pb: int, result: tuple[int, int]):
    assert hashlittle2(data, pc, pb) == result


@pytest.mark.parametrize(
    ("length", "result"),
    [
        (1, 0x8BA9414B), (2, 0xDF0D39C9), (3, 0x6B12F277), (4, 0xE4CF1D42), (5, 0x1D4833CC), (7, 0x589511D8),
        (8, 0xD4CCB93C), (11, 0x2CA6817A), (12, 0x5E4AA593), (13, 0xBC9D6816), (16, 0x5E84EAFC), (24, 0x9C0ADD53),
        (25, 0x3A882244), (32, 0x21362CFE),
    ],
)  # fmt: skip
def test_every_length_of_tail(length: int, result: int):
    """The bytes 0, 1, 2, ...: below, at and above the blocks of twelve."""
    assert hashlittle(bytes(range(length))) == result


@pytest.mark.parametrize(
    ("key", "result"),
    [
        ("00000000", 0x049396B8),
        ("01000000", 0x72A82A9B),
        ("0100000000000000", 0x5543253F),
        ("0a0000010a00000900509c40", 0x6040299F),
    ],
)
def test_keys_of_programs(key: str, result: int):
    """Little-endian counters, and a connection's addresses and ports."""
    assert hashlittle(bytes.fromhex(key)) == result


def test_any_buffer_and_any_seed():
    """The same from a view at an odd address; a seed is 32 bits."""
    assert hashlittle(memoryview(b"x" + FOUR)[1:], 1) == hashlittle(FOUR, 1) == 0xCD628161
    assert hashlittle(FOUR, 1 << 32) == hashlittle(FOUR)
    assert hashlittle(b"", 0xDEADBEEF) == 0xBD5B7DDE
