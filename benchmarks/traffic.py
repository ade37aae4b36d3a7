"""Packets to run over: what a filter sees, and what a map of flows sees.

All packets are of TCP over IPv4, 66 bytes long, at a distance of 96 bytes (of flows: 64) in one buffer. Everything is drawn from a
fixed seed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pybpf.packets import PacketBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH: Final = 66
_STRIDE: Final = 96

SIGNATURE: Final = struct.pack(
    ">12xHBBHHHBBHIIHHIIBBHHH12x",
    0x0800,
    0x45, 0, 52, 1, 0x4000, 120, 6, 0, 0x0A000001, 0x0A000002,
    40000, 80, 1, 0, 0x80, 0x02, 8192, 0, 0,
)  # fmt: skip
"""A packet that the p0f filter matches, in all its tests."""

_CHANGES: Final = (
    (12, b"\x86\xdd"),
    (23, b"\x11"),
    (20, b"\0"),
    (22, b"\x20"),
    (15, b"\x08"),
    (48, b"\xfa\xf0"),
)
"""Offset and bytes that make one of the filter's tests fail, the first test first."""


def filters(kind: str, count: int, *, copies: int = 1, shuffled: bool = False) -> PacketBatch:
    """Packets for the p0f filter. `kind` says which:

    ``match`` all match; ``reject`` all fail the first test; ``mixed`` half of them match and the others fail one
    test or another, in an order that nobody can predict once there are many. The batch has `copies` times `count` packets.
    """
    random = np.random.default_rng(1)
    data = np.zeros((count, _STRIDE), np.uint8)
    data[:, :LENGTH] = np.frombuffer(SIGNATURE, np.uint8)
    if kind == "mixed":
        fails = random.integers(0, 2 * len(_CHANGES), count)
    else:
        fails = np.full(count, 0 if kind == "reject" else len(_CHANGES))
    for number, (offset, change) in enumerate(_CHANGES):
        rows = np.flatnonzero(fails == number)
        data[rows[:, None], offset + np.arange(len(change))] = np.frombuffer(change, np.uint8)
    order = np.arange(count)
    if shuffled:
        random.shuffle(order)
    return _batch(data, LENGTH, np.tile(order, copies))


def one(packet: bytes, count: int) -> PacketBatch:
    """The same packet again and again, at the same place: what the kernel's test runs do."""
    return PacketBatch.from_packets([packet]).repeat(count)


def random_bytes(count: int, length: int, *, copies: int = 1) -> PacketBatch:
    """Packets of random bytes."""
    data = np.random.default_rng(2).integers(0, 256, (count, length), np.uint8)
    return _batch(data, length, np.tile(np.arange(count), copies))


def flows(entries: int) -> NDArray[np.uint8]:
    """One packet of each of `entries` flows, 64 bytes apart: rows."""
    data = np.zeros((entries, 64), np.uint8)
    data[:, :54] = np.frombuffer(SIGNATURE[:54], np.uint8)
    data[:, 26:34] = np.random.default_rng(3).integers(0, 256, (entries, 8), np.uint8)
    data[:, 34:36] = (np.arange(entries) & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    data[:, 36] = np.arange(entries) >> 16
    return data


def packets_of(flows: NDArray[np.uint8], kind: str, count: int) -> PacketBatch:
    """Packets of flows, each lying for itself, in the order in which they arrive: ``uniform``, ``skewed`` (Zipf with exponent 1) or
    ``missing`` (of other flows, equally many).
    """
    random = np.random.default_rng(4)
    if kind == "skewed":
        weights = 1 / np.arange(1, len(flows) + 1)
        places = np.searchsorted(np.cumsum(weights / weights.sum()), random.random(count))
        chosen = flows[random.permutation(len(flows))[np.minimum(places, len(flows) - 1)]]
    else:
        chosen = flows[random.integers(0, len(flows), count)]
    if kind == "missing":
        chosen[:, 37] ^= 0x55
    return _batch(chosen, 64, np.arange(count))


def coming(flows: NDArray[np.uint8], comes: bool) -> PacketBatch:
    """A packet of each flow, marked as one that comes, or goes."""
    data = flows.copy()
    data[:, 0] = comes
    return _batch(data, 64, np.arange(len(data)))


def churn(flows: NDArray[np.uint8], count: int) -> PacketBatch:
    """Flows that come and go: those present at first are the first half; then one of the other half comes and one of the first
    goes, so many times, and at the end all is as it was.
    """
    half = len(flows) // 2
    random = np.random.default_rng(5)
    moves = min(count // 4, half)
    there, others = random.permutation(half)[:moves], half + random.permutation(half)[:moves]
    data = np.empty((4 * moves, 64), np.uint8)
    for first, (comes, goes) in ((0, (others, there)), (2 * moves, (there, others))):
        data[first : first + 2 * moves : 2] = flows[goes]
        data[first + 1 : first + 2 * moves : 2] = flows[comes]
        data[first : first + 2 * moves : 2, 0] = 0
        data[first + 1 : first + 2 * moves : 2, 0] = 1
    return _batch(data, 64, np.arange(len(data)))


def _batch(data: NDArray[np.uint8], length: int, order: NDArray[Any]) -> PacketBatch:
    count = len(order)
    lengths = np.full(count, length, np.uint32)
    offsets = order.astype(np.uint64) * np.uint64(data.shape[1])
    return PacketBatch(data.reshape(-1), offsets, lengths, lengths, np.zeros(count, np.uint64))
