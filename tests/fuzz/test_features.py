"""Features: words for what is in a program."""

from __future__ import annotations

import pytest

from fuzz.features import EXPECTED, features
from fuzz.watch import watch
from pybpf import assemble

CASES = {
    ".type filter\n r0 = 0\n exit\n": {"type filter"},
    ".type filter\n if w2 s< 14 goto L1\n r0 = *(u8 *)(r1 + 13)\n exit\nL1:\n r0 = 0\n exit\n": {
        "comparison at 32 bits",
        "signed comparison",
    },
    ".type xdp\n r0 = 0\nL1:\n r0 += 1\n if r0 < 9 goto L1\n exit\n": {"loop"},
    ".type xdp\n r6 = r1\n call f\n r0 = 0\n exit\nf:\n call g\n exit\ng:\n r0 = 0\n exit\n": {
        "function",
        "nested functions",
    },
    ".type filter\n if r2 < 20 goto L1\n r3 = *(u8 *)(r1 + 0)\n r3 &= 7\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit\nL1:\n r0 = 0\n exit\n": {
        "read packet at a constant",
        "read packet at a variable offset",
    },
    ".type xdp\n *(u64 *)(r10 - 8) = r1\n if r1 == 5 goto L1\n r1 = *(u64 *)(r10 - 8)\n r0 = *(u32 *)(r1 + 12)\n exit\nL1:\n r0 = 0\n exit\n": {
        "spilled context",
        "read context at a constant",
        "write stack at a constant",
    },
}


@pytest.mark.parametrize(("text", "words"), CASES.items())
def test_words(text: str, words: set[str]) -> None:
    """What is there is said."""
    assert words <= features(watch(assemble(text)))


def test_what_is_not_there_is_not_said() -> None:
    """The simplest program has no feature that is expected of generated ones."""
    assert features(watch(assemble(".type filter\n r0 = 0\n exit\n"))).isdisjoint(EXPECTED)
