"""Every example on frames that nobody would send by accident."""

from __future__ import annotations

from random import Random

import pytest

from tests.examples.conftest import Start
from tests.examples.models import MODELS
from tests.examples.packets import samples

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", MODELS)]


def test_cut_at_every_byte(start: Start, name: str) -> None:
    """A frame of any shape may end anywhere."""
    example, model = start(name), MODELS[name]()
    for frame in samples():
        for length in range(len(frame) + 1):
            example.agrees(model, frame[:length])
    assert example.contents() == model.maps()


def test_flipped_bits(start: Start, name: str) -> None:
    """Any bits of the headers may be wrong."""
    random, example, model = Random(5), start(name), MODELS[name]()
    for frame in samples() * 20:
        broken = bytearray(frame)
        for _ in range(random.randrange(1, 4)):
            broken[random.randrange(12, 54)] ^= 1 << random.randrange(8)
        if name == "xdp_router":  # its model writes checksums anew, which needs right ones to begin with
            assert example.run(bytes(broken)) == model.run(bytes(broken), 0)
        else:
            example.agrees(model, bytes(broken))
    assert example.contents() == model.maps()


def test_noise(start: Start, name: str) -> None:
    """Frames may be no frames at all."""
    random, example, model = Random(6), start(name), MODELS[name]()
    for _ in range(300):
        example.agrees(model, random.randbytes(random.randrange(120)))
    assert example.contents() == model.maps()
