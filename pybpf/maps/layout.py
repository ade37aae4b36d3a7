"""Where everything lies in a map's block: the one description that Python's operations and native code both read.

A map is one block of memory that never moves. Its own numbers are little-endian, keys and values are the program's; every offset here counts bytes from the
start of the block, and since a header comes first no value has offset 0, which therefore can mean "none".

    array   header | value 0 | value 1 | ...
    hash    header | spare 0 | spare 1 | ... | group 0 | group 1 | ... | slot 0 | slot 1 | ...

    header  seed of the hash, written once; on a cache line of their own a count (of live keys, and of room for keys that is set aside), a lock (arrays), and
            a number that changes as room is moved from the count to a spare or back (hashes)
    spare   room for keys that is set aside, in 32 bits, and how often it has changed, on a cache line of its own (see `pybpf.jit.room_ir`)
    group   16 tags, one for each of its slots; version, overflow and lock (32-bit each; see `pybpf.maps.hash`)
    slot    key, padded to 8 bytes, then the value, 8-byte aligned
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pybpf.instruction import ByteOrder
from pybpf.program import MapSpec

HEADER_SIZE: Final = 128
SEED: Final = 0
COUNT: Final = 64
LOCK: Final = 68
TRANSFERS: Final = 72

CACHE_LINE: Final = 64

SPARES: Final = HEADER_SIZE
SPARES_COUNT: Final = 16
SPARES_END: Final = SPARES + SPARES_COUNT * CACHE_LINE

GROUP_SIZE: Final = 32
GROUP_SLOTS: Final = 16
GROUP_TAGS: Final = 0
GROUP_VERSION: Final = 16
GROUP_OVERFLOW: Final = 20
GROUP_LOCK: Final = 24

GROUP_LOAD: Final = 10
"""Live keys per group of a full map, on average. With 10 of 16 one group in forty overflows, with 12 one in ten."""

FREE: Final = 0
"""The tag of a slot that holds nothing."""
BUSY: Final = 1
"""The tag of a slot that a writer has claimed and not yet filled."""
FIRST_TAG: Final = 2
"""The least tag of a live slot."""

LARGEST_TRANSFER: Final = 32
"""Room that is set aside in one go, in a large table."""


def aligned(size: int, to: int = 8) -> int:
    """`size` rounded up to a multiple of `to`."""
    return -(-size // to) * to


@dataclass(frozen=True, slots=True)
class Layout:
    """The values of any map: `places` of them, the first at offset `values`, then one every `stride` bytes.

    `size` is that of the whole block.
    """

    key_size: int
    value_size: int
    max_entries: int
    values: int
    stride: int
    places: int
    size: int

    def contains(self, offset: int, size: int) -> bool:
        """Whether `size` bytes at `offset` lie within one value."""
        place, within = divmod(offset - self.values, self.stride)
        return 0 <= place < self.places and within + size <= self.value_size


@dataclass(frozen=True, slots=True)
class ArrayLayout(Layout):
    """The block of an array: its values, by index, which a key holds in `byteorder`."""

    byteorder: ByteOrder = "little"

    @classmethod
    def of(cls, spec: MapSpec) -> ArrayLayout:
        """The layout for a map's sizes."""
        stride = aligned(spec.value_size)
        return cls(
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            values=HEADER_SIZE,
            stride=stride,
            places=spec.max_entries,
            size=HEADER_SIZE + spec.max_entries * stride,
            byteorder=spec.byteorder,
        )


@dataclass(frozen=True, slots=True)
class HashLayout(Layout):
    """The block of a hash table: `groups` groups from offset `first_group`, then their slots from `slots`."""

    groups: int
    first_group: int
    slots: int

    @classmethod
    def of(cls, spec: MapSpec) -> HashLayout:
        """The layout for a map's sizes."""
        groups = -(-spec.max_entries // GROUP_LOAD)
        slots = aligned(SPARES_END + groups * GROUP_SIZE, CACHE_LINE)
        stride = aligned(spec.key_size) + aligned(spec.value_size)
        return cls(
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            values=slots + aligned(spec.key_size),
            stride=stride,
            places=groups * GROUP_SLOTS,
            size=slots + groups * GROUP_SLOTS * stride,
            groups=groups,
            first_group=SPARES_END,
            slots=slots,
        )

    @property
    def transfer(self) -> int:
        """How much room is moved from the count to a spare, or back, in one go: all spares together keep a small part of the table."""
        return max(1, min(LARGEST_TRANSFER, self.max_entries // (4 * SPARES_COUNT)))

    def group(self, number: int) -> int:
        """The offset of a group."""
        return self.first_group + number * GROUP_SIZE

    def key(self, slot: int) -> int:
        """The offset of a slot's key."""
        return self.slots + slot * self.stride

    def value(self, slot: int) -> int:
        """The offset of a slot's value."""
        return self.values + slot * self.stride

    def slot(self, value: int) -> int:
        """The slot whose value lies at this offset."""
        return (value - self.values) // self.stride
