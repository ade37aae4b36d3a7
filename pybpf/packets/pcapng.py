"""The block format of Wireshark and dumpcap (draft-ietf-opsawg-pcapng): sections, interfaces, packets.

A file is a row of blocks, each of a type, its length, a body and its length again, padded to 32 bits:

                 0      4        8                  12            16           20         24         28
    section      type   length   byte order         version
    interface    type   length   link type | 0      snap length   options ...
    packet       type   length   interface          time (high)   time (low)   captured   original   data ...
    old packet   type   length   interface | drops  time (high)   time (low)   captured   original   data ...
    simple       type   length   original           data ...

Every section has a byte order and interfaces of its own; an interface says what its packets' times count.
Blocks of other types (names, statistics, secrets, custom) are skipped.

python-pcapng reads the same format, but copies each packet and forgets where it lay, takes 16 microseconds
for one (release 2.1.1; this reader takes one) and cannot tell a file that is cut off from one that ends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pybpf.errors import CaptureError
from pybpf.packets.batch import LINKTYPE_ETHERNET, PacketBatch
from pybpf.packets.source import MAX_CAPTURED, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_PACKET: Final = 6

_PACKET_BLOCKS: Final = (_PACKET, _SIMPLE_PACKET, _OLD_PACKET)

_SMALLEST_BLOCK: Final = 12
_SMALLEST: Final = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE_PACKET: 16, _PACKET: 32}
_LARGEST_BLOCK: Final = 16 << 20
"""Wireshark's limit; a larger length is damage, not a packet."""

_BYTE_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_VERSIONS: Final = ((1, 0), (1, 2))
_END_OF_OPTIONS, _TIME_RESOLUTION, _TIME_OFFSET = 0, 9, 14

MAGIC: Final = struct.pack("<I", _SECTION)
"""The first four bytes of a file, the same in both byte orders."""


@dataclass(frozen=True)
class _Interface:
    link_type: int
    snap_length: int
    ticks_per_second: int
    time_offset_s: int

    @property
    def tick_range(self) -> tuple[int, int]:
        """The first and last tick whose time fits 64 bits of nanoseconds since 1970."""
        beyond = ((1 << 64) - self.time_offset_s * 10**9) * self.ticks_per_second
        return -self.time_offset_s * self.ticks_per_second, (beyond - 1) // 10**9

    def nanoseconds(self, ticks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Ticks of the range as nanoseconds since 1970, rounded down."""
        offset, per_second = self.time_offset_s * 10**9, self.ticks_per_second
        factor, rest = divmod(10**9, per_second)
        if rest == 0:  # sums wrap around to the right result, a negative offset included
            return ticks * np.uint64(factor) + np.uint64(offset % (1 << 64))
        exact = [tick * 10**9 // per_second + offset for tick in ticks.tolist()]
        return np.array(exact, dtype=np.uint64)


@dataclass
class _Section:
    """What a section has shown so far."""

    byte_order: str
    before: int = 0
    """How many packets lie in the sections before this one."""
    interfaces: list[_Interface] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    """Where the packet blocks begin."""


class _Columns(NamedTuple):
    """Columns of a PacketBatch, and the link type of each packet."""

    offsets: NDArray[Any]
    lengths: NDArray[Any]
    original_lengths: NDArray[Any]
    timestamps: NDArray[Any]
    link_types: NDArray[Any]


def read(source: Source) -> tuple[PacketBatch, CaptureError | None]:
    """The whole packets, and what is wrong with the end where the capture is cut off. Raises CaptureError."""
    sections, end = _walk(source)
    parts = [_columns(source, section) for section in sections]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    offsets, lengths, original_lengths, timestamps, link_types = columns
    used = np.unique(link_types).tolist()
    if len(used) > 1:
        listed = ", ".join(map(str, used))
        raise source.error(f"packets of several link types ({listed}): filter by interface first")
    described = [interface.link_type for section in sections for interface in section.interfaces]
    link_type = [*used, *described, LINKTYPE_ETHERNET][0]
    batch = PacketBatch(source.data, offsets, lengths, original_lengths, timestamps, link_type)
    rest = len(source.data) - end
    if rest == 0 and not source.cut:
        return batch, None
    return batch, source.cut_short(f"{rest} bytes of a block", len(batch), end)


def _walk(source: Source) -> tuple[list[_Section], int]:
    """The sections, and where the last whole block ends."""
    data, size = source.buffer, len(source.data)
    sections: list[_Section] = []
    section = _Section("<")
    header, trailer = struct.Struct("<II").unpack_from, struct.Struct("<I").unpack_from
    packets = position = 0
    while position + _SMALLEST_BLOCK <= size:
        kind, length = header(data, position)
        if kind == _SECTION:
            section = _Section(_byte_order(source, packets, position), packets)
            header, trailer = (struct.Struct(section.byte_order + form).unpack_from for form in ("II", "I"))
            _, length = header(data, position)
        if length % 4 or not _SMALLEST.get(kind, _SMALLEST_BLOCK) <= length <= _LARGEST_BLOCK:
            raise source.error(f"a block of type {kind:#x} cannot be {length} bytes long", packets, position)
        if length > size - position:
            break
        if trailer(data, position + length - 4) != (length,):
            raise source.error(f"a block of {length} bytes does not end with its length", packets, position)
        if kind in _PACKET_BLOCKS:
            section.blocks.append(position)
            packets += 1
        elif kind == _INTERFACE:
            section.interfaces.append(_interface(source, section.byte_order, packets, position, length))
        elif kind == _SECTION:
            major, minor = struct.unpack_from(section.byte_order + "12xHH", data, position)
            if (major, minor) not in _VERSIONS:
                raise source.error(f"pcapng version {major}.{minor} is not known", packets, position)
            sections.append(section)
        position += length
    if not sections:
        raise source.error(f"{size} bytes of a section header", offset=0)
    return sections, position


def _byte_order(source: Source, packets: int, position: int) -> str:
    magic = bytes(source.buffer[position + 8 : position + 12])
    if magic not in _BYTE_ORDERS:
        raise source.error(f"a section whose byte order cannot be told from {magic.hex()}", packets, position)
    return _BYTE_ORDERS[magic]


def _interface(source: Source, byte_order: str, packets: int, position: int, length: int) -> _Interface:
    link_type, snap_length = struct.unpack_from(byte_order + "8xH2xI", source.buffer, position)
    options = {_TIME_RESOLUTION: b"\x06", _TIME_OFFSET: bytes(8)}
    at, end = position + 16, position + length - 4
    while at + 4 <= end:
        code, size = struct.unpack_from(byte_order + "HH", source.buffer, at)
        if code == _END_OF_OPTIONS:
            break
        if at + 4 + size > end or (code in options and size != len(options[code])):
            raise source.error(f"option {code} of an interface cannot be {size} bytes long", packets, at)
        options[code] = bytes(source.buffer[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    (resolution,) = options[_TIME_RESOLUTION]
    (offset_s,) = struct.unpack(byte_order + "q", options[_TIME_OFFSET])
    base = 2 if resolution & 0x80 else 10
    return _Interface(link_type, snap_length, base ** (resolution & 0x7F), offset_s)


def _columns(source: Source, section: _Section) -> _Columns:
    """Read the fields of all packet blocks of a section at once, and check what needs the interfaces."""
    blocks = np.array(section.blocks, dtype=np.int64)
    words = source.words(section.byte_order)
    simple, old = (words[blocks] == kind for kind in (_SIMPLE_PACKET, _OLD_PACKET))

    def word(offset: int, simple_offset: int = 0) -> NDArray[np.int64]:
        return words[blocks + np.where(simple, simple_offset, offset)].astype(np.int64)

    def refuse(packets: NDArray[np.int64], reason: Callable[[int], str]) -> None:
        if len(packets):
            first = int(packets[0])
            raise source.error(reason(first), section.before + first, section.blocks[first])

    interface = np.where(simple, 0, word(8))
    interface = np.where(old, interface & 0xFFFF if section.byte_order == "<" else interface >> 16, interface)
    known = len(section.interfaces)
    unknown = np.flatnonzero(interface >= known)
    refuse(unknown, lambda i: f"interface {interface[i]} of a section that describes {known}")
    links = np.array([description.link_type for description in section.interfaces], dtype=np.int64)

    snap_lengths = [description.snap_length or MAX_CAPTURED for description in section.interfaces]
    longest = np.minimum(np.array(snap_lengths, dtype=np.int64), MAX_CAPTURED)[interface]
    original = word(24, simple_offset=8)
    captured = np.where(simple, np.minimum(original, longest), word(20))
    room = word(4, simple_offset=4) - np.where(simple, 16, 32)
    beyond = np.flatnonzero(captured > room)
    refuse(beyond, lambda i: f"{captured[i]} bytes captured in a block with room for {room[i]}")
    too_long = np.flatnonzero(captured > longest)
    refuse(too_long, lambda i: f"{captured[i]} bytes captured, more than the snap length {longest[i]}")

    ticks = word(12).astype(np.uint64) << np.uint64(32) | word(16).astype(np.uint64)
    timestamps = np.zeros(len(blocks), dtype=np.uint64)
    for packets in _by_interface(np.flatnonzero(~simple), interface):
        description = section.interfaces[interface[packets[0]]]
        first, last = description.tick_range
        unfit = packets[(ticks[packets] < first) | (ticks[packets] > last)]
        refuse(unfit, lambda i: f"the time, {ticks[i]} ticks, is not between 1970 and 2554")
        timestamps[packets] = description.nanoseconds(ticks[packets])
    return _Columns(blocks + np.where(simple, 12, 28), captured, original, timestamps, links[interface])


def _by_interface(packets: NDArray[np.int64], interface: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Packet numbers split by interface, by one sort however many interfaces there are."""
    ordered = packets[np.argsort(interface[packets], kind="stable")]
    groups = np.split(ordered, np.flatnonzero(np.diff(interface[ordered])) + 1)
    return [group for group in groups if len(group)]
