"""Packets that do not lie in their batch, in each form of the batch loop: they are never run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, PacketBatch

_OBJECTS = Path("examples/objects/v3")


@pytest.mark.parametrize("name", ["xdp_router", "p0f", "stateful_firewall"])
@pytest.mark.parametrize(("offset", "length"), [(1 << 40, 64), (64 * 299, 65), ((1 << 64) - 32, 64)])
def test_a_packet_outside_its_batch_ends_it(name: str, offset: int, length: int) -> None:
    """A program run one by one, one that is compared and one that is split: those before the packet are run, it and those behind are not."""
    count, wrong = 300, 150
    offsets, lengths = np.arange(count, dtype=np.uint64) * 64, np.full(count, 64, np.uint32)
    batch = PacketBatch(np.zeros(64 * count, np.uint8), offsets, lengths, lengths, np.zeros(count, np.uint64))
    for array, value in ((batch.offsets, offset), (batch.lengths, length)):
        array.setflags(write=True)  # behind the batch's back: it has looked at them when it was made
        array[wrong] = value
    out = np.full(count, 77, np.uint64)
    verified = pybpf.verify(pybpf.load(_OBJECTS / f"{name}.o").programs[name])
    with pytest.raises(ArgumentError, match=f"packet {wrong}: .*not in the batch's data"):
        pybpf.instantiate(verified, level="full").run_batch(batch, out)
    assert not (out[:wrong] == 77).any()
    assert (out[wrong:] == 77).all()
