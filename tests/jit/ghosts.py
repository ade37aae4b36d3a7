"""Keys for the tests of torn reads."""

from __future__ import annotations

import random
from functools import cache

from pybpf.lookup3 import hashlittle
from pybpf.maps import layout

KEY_SIZE = 16


@cache
def ghosts(seed: int) -> tuple[list[bytes], list[bytes]]:
    """Keys A and B, and the two that have one half of each (A's first, then B's first); all four have the same tag."""

    def tag(key: bytes) -> int:
        return max(hashlittle(key, seed) & 0xFF, layout.FIRST_TAG)

    chance = random.Random(8)
    first, wanted = chance.randbytes(8), 99
    seconds = [half for half in (chance.randbytes(8) for _ in range(20_000)) if tag(first + half) == wanted]
    while True:
        other = chance.randbytes(8)
        fitting = [half for half in seconds if tag(other + half) == wanted]
        if len(fitting) >= 2:
            one, two = fitting[:2]
            return [first + one, other + two], [first + two, other + one]
