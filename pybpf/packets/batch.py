"""PacketBatch: many packets in one buffer, the way a generated loop reads them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from pybpf.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LINKTYPE_ETHERNET = 1
"""https://www.tcpdump.org/linktypes.html"""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class PacketBatch:
    """n packets that lie in one buffer: packet i is `data[offsets[i]:offsets[i] + lengths[i]]`.

    Packets may overlap, repeat and leave gaps, so that a selection of a batch shares its buffer. The arrays
    are read-only and contiguous, and every packet lies in the buffer: code that has a batch need not check.

    ==================  ===========  ==================================================================
    `data`              uint8[...]   the buffer; it may hold more than the packets
    `offsets`           uint64[n]    where a packet begins in the buffer
    `lengths`           uint32[n]    bytes captured
    `original_lengths`  uint32[n]    bytes on the wire: more than captured where a snap length cut the packet
    `timestamps`        uint64[n]    nanoseconds since 1970-01-01 00:00 UTC
    `link_type`         int          what a packet begins with: 1 is Ethernet (tcpdump.org/linktypes.html)
    ==================  ===========  ==================================================================

    Raises ArgumentError where the arrays do not fit each other or a packet does not lie inside the buffer.

    >>> batch = PacketBatch.from_packets([b"first", b"second", b""])
    >>> len(batch), batch[1], list(batch[batch.lengths > 0])
    (3, b'second', [b'first', b'second'])
    >>> list(batch[:2].repeat(3))
    [b'first', b'second', b'first']
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    original_lengths: NDArray[np.uint32]
    timestamps: NDArray[np.uint64]
    link_type: int = LINKTYPE_ETHERNET

    def __post_init__(self) -> None:
        columns: dict[str, type[np.unsignedinteger[Any]]] = {
            "data": np.uint8,
            "offsets": np.uint64,
            "lengths": np.uint32,
            "original_lengths": np.uint32,
            "timestamps": np.uint64,
        }
        for name, dtype in columns.items():
            object.__setattr__(self, name, _read_only(name, getattr(self, name), dtype))
        for name in ("lengths", "original_lengths", "timestamps"):
            if len(getattr(self, name)) != len(self.offsets):
                raise ArgumentError(
                    f"{name}: {len(getattr(self, name))} entries for {len(self.offsets)} offsets"
                )
        size = np.uint64(len(self.data))
        outside = (self.offsets > size) | (self.lengths > size - self.offsets)
        if outside.any():
            i = int(outside.argmax())
            place = f"{self.lengths[i]} bytes at offset {self.offsets[i]}"
            raise ArgumentError(f"packet {i}: {place} do not lie in a buffer of {size} bytes")
        if not 0 <= self.link_type <= 0xFFFF:
            raise ArgumentError(f"link type {self.link_type} is not a 16-bit number")

    @classmethod
    def from_packets(
        cls,
        packets: Iterable[bytes | bytearray | memoryview],
        *,
        timestamps: Sequence[int] | None = None,
        link_type: int = LINKTYPE_ETHERNET,
    ) -> PacketBatch:
        """Copy packets into one buffer. `timestamps` are nanoseconds since 1970, all 0 unless given.

        Where packets are long, so that it takes an eighth more memory at most, each begins on a cache line of its own, and its headers lie in that one.
        """
        parts = [bytes(packet) for packet in packets]
        lengths = np.array([len(part) for part in parts], dtype=np.uint32)
        gaps = -lengths.astype(np.uint64) % np.uint64(_CACHE_LINE)
        if 8 * int(gaps.sum()) > int(lengths.sum(dtype=np.uint64)):
            gaps[:] = 0
        elif gaps.any():
            parts = [part + bytes(gap) for part, gap in zip(parts, gaps.tolist(), strict=True)]
        sizes = lengths + gaps
        return cls(
            _on_a_line(b"".join(parts)),
            np.cumsum(sizes, dtype=np.uint64) - sizes,
            lengths,
            lengths,
            np.zeros(len(parts), dtype=np.uint64) if timestamps is None else np.asarray(timestamps),
            link_type,
        )

    def repeat(self, count: int) -> PacketBatch:
        """Make a batch of `count` packets out of this one's, from the first again after the last.

        It shares the buffer; timestamps repeat with their packets. Raises ArgumentError where packets are
        asked of an empty batch.
        """
        if count < 0 or (count > 0 and len(self) == 0):
            raise ArgumentError(f"{count} packets cannot be made out of {len(self)}")
        return self[np.resize(np.arange(len(self)), count)]

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[bytes]:
        view = self.data.data
        for start, length in zip(self.offsets.tolist(), self.lengths.tolist(), strict=True):
            yield bytes(view[start : start + length])

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> bytes: ...

    @overload
    def __getitem__(
        self, index: slice | list[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]
    ) -> PacketBatch: ...

    def __getitem__(self, index: Any) -> bytes | PacketBatch:
        """A packet's bytes; for a slice, a mask or an array of numbers, a batch that shares the buffer."""
        if not isinstance(index, slice):
            if not isinstance(index, np.ndarray | list):
                i = operator.index(index)
                start = int(self.offsets[i])
                return self.data[start : start + int(self.lengths[i])].tobytes()
            index = np.asarray(index) if len(index) else np.empty(0, dtype=np.intp)
        return PacketBatch(
            self.data,
            self.offsets[index],
            self.lengths[index],
            self.original_lengths[index],
            self.timestamps[index],
            self.link_type,
        )

    def __repr__(self) -> str:
        return (
            f"<PacketBatch: {len(self)} packets, {int(self.lengths.sum())} bytes, link type {self.link_type}>"
        )


_CACHE_LINE: Final = 64


def _on_a_line(data: bytes) -> NDArray[np.uint8]:
    """The bytes, from the beginning of a cache line on."""
    room = np.empty(len(data) + _CACHE_LINE, np.uint8)
    first = -room.ctypes.data % _CACHE_LINE
    aligned = room[first : first + len(data)]
    aligned[:] = np.frombuffer(data, np.uint8)
    return aligned


def _read_only(name: str, values: ArrayLike, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """One contiguous read-only dimension of `dtype`; the caller's own array is neither frozen nor shared."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ArgumentError(f"{name}: an array of {array.ndim} dimensions, not one")
    if array.dtype != dtype:
        limit = np.iinfo(dtype).max
        if len(array) and not (array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= limit):
            raise ArgumentError(f"{name}: entries are not whole numbers from 0 to {limit}")
        array = array.astype(dtype)
    elif array.flags.writeable and name != "data":
        array = array.copy()
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array
