"""Hash tables: tag bytes in groups, slots that never move, and no tombstones.

A key's 32-bit lookup3 hash, seeded per map, gives a home group (the upper bits, scaled to the number of groups, so that
every table is equally full whatever its size) and an 8-bit tag (the lower bits). A lookup compares the tags of a whole group at once,
then the keys of the slots whose tags agree. A key whose home group is full goes to the next group with room. Values are
held by programs as pointers, so no entry may ever move, and a table cannot be rebuilt: what deletions leave behind
must vanish by itself, or a table would grow slow with use.

The usual remedies of open addressing fail here: tombstones pile up until a rebuild, and shifting entries back moves them.
Chains of buckets would do, at the price of a dependent memory access for each link. Therefore each group counts the live keys that
passed it by because it was full (its overflow, as Folly's F14 tables do): an insertion adds one to every group that
it passes, the deletion of that key takes it back, and a lookup goes on to the next group only while the count is not zero.
The counts are those of live keys alone: what is deleted leaves nothing. A displaced key stays where it is while it
lives, so after long use of a full table about one group in seven sends lookups of missing keys on, against one in thirty when it
was filled; it stays there, however many insertions and deletions follow.

The table has room for more keys than `max_entries` (16 for every 10), so an insertion below that limit always finds a slot. The limit is kept exactly: a key
needs room, of which there is so much, and which it gives back when it goes.

How native threads stay out of each other's way (in `pybpf.jit.table_ir`; here a lock guards every operation):

* Writers hold the lock of the key's home group, so two operations on one key never overlap. Slots of a group may belong
  to keys of different homes: a writer claims one by a compare-and-swap of its tag from FREE to BUSY.
* Lookups take no lock. The version of a group changes with each claim, after the tag is BUSY and before the key is written. A
  lookup reads the version, the tags, the key, and the version again: if a key that it read was being written, the version
  has changed and it looks again. A key that is there all the time is never missed, since it never moves.
* Room for keys is set aside in several places, so that threads that insert and delete do not all write to one (`pybpf.jit.room_ir`).
* A slot deleted while a program holds a pointer to its value may be given to another key, as in Linux's
  preallocated tables (kernel/bpf/hashtab.c): the pointer never leaves the map.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, ClassVar, Final

from pybpf.errors import ArgumentError
from pybpf.lookup3 import hashlittle
from pybpf.maps.layout import (
    CACHE_LINE,
    COUNT,
    FIRST_TAG,
    FREE,
    GROUP_OVERFLOW,
    GROUP_SIZE,
    GROUP_SLOTS,
    GROUP_TAGS,
    GROUP_VERSION,
    SEED,
    SPARES,
    SPARES_END,
    HashLayout,
)
from pybpf.maps.map import NO_PREALLOC, NUMA_NODE, ZERO_SEED, BpfMap, MapStatistics
from pybpf.maps.operations import BPF_ANY, BPF_EXIST, BPF_NOEXIST, Reference, rows
from pybpf.program import MapSpec

if TYPE_CHECKING:
    from pybpf.maps.operations import Bytes

_U32: Final = struct.Struct("<I")
_HEADER: Final = slice(COUNT, SPARES_END)
_SPARES: Final = range(SPARES, SPARES_END, CACHE_LINE)
_LOOKS: Final = 8
"""How often the length of a map that others change is looked at again for a moment's rest."""


class HashReference(Reference):
    """The operations of a hash table, in Python."""

    def __init__(self, memory: memoryview, layout: HashLayout) -> None:
        super().__init__(layout.key_size, layout.value_size)
        self._memory = memory
        self._layout = layout
        self._seed = self._word(SEED)

    def _word(self, offset: int) -> int:
        return int(_U32.unpack_from(self._memory, offset)[0])

    def _add(self, offset: int, amount: int) -> None:
        _U32.pack_into(self._memory, offset, (self._word(offset) + amount) & 0xFFFF_FFFF)

    def _place(self, key: bytes) -> tuple[int, int]:
        """The key's home group and its tag."""
        hash = hashlittle(key, self._seed)
        return hash * self._layout.groups >> 32, max(hash & 0xFF, FIRST_TAG)

    def _tags(self, group: int) -> bytes:
        offset = self._layout.group(group) + GROUP_TAGS
        return bytes(self._memory[offset : offset + GROUP_SLOTS])

    def _find(self, key: bytes, home: int, tag: int) -> int | None:
        """The slot of a key."""
        layout, memory, group = self._layout, self._memory, home
        while True:
            tags = self._tags(group)
            within = tags.find(tag)
            while within >= 0:
                slot = group * GROUP_SLOTS + within
                offset = layout.key(slot)
                if memory[offset : offset + layout.key_size] == key:
                    return slot
                within = tags.find(tag, within + 1)
            if self._word(layout.group(group) + GROUP_OVERFLOW) == 0:
                return None
            group = (group + 1) % layout.groups
            if group == home:
                return None

    def _lookup(self, key: bytes) -> int | None:
        slot = self._find(key, *self._place(key))
        return None if slot is None else self._layout.value(slot)

    def _copy(self, offset: int) -> bytes:
        return bytes(self._memory[offset : offset + self.value_size])

    def _update(self, key: bytes, value: bytes, flags: int) -> int:
        if not BPF_ANY <= flags <= BPF_EXIST:
            return -errno.EINVAL
        home, tag = self._place(key)
        slot = self._find(key, home, tag)
        if slot is not None:
            if flags == BPF_NOEXIST:
                return -errno.EEXIST
        elif flags == BPF_EXIST:
            return -errno.ENOENT
        elif not self._reserve():
            return -errno.E2BIG
        else:
            slot = self._insert(key, home, tag)
        offset = self._layout.value(slot)
        self._memory[offset : offset + self.value_size] = value
        return 0

    def _insert(self, key: bytes, home: int, tag: int) -> int:
        layout, group = self._layout, home
        while (within := self._tags(group).find(FREE)) < 0:
            self._add(layout.group(group) + GROUP_OVERFLOW, 1)
            group = (group + 1) % layout.groups
        slot = group * GROUP_SLOTS + within
        self._add(layout.group(group) + GROUP_VERSION, 1)
        offset = layout.key(slot)
        self._memory[offset : offset + layout.key_size] = key
        self._memory[layout.group(group) + GROUP_TAGS + within] = tag
        return slot

    def _reserve(self) -> bool:
        """Take room for a key: what is not set aside, or what native code has set aside and not used."""
        if self._word(COUNT) < self._layout.max_entries:
            self._add(COUNT, 1)
            return True
        for offset in _SPARES:
            if self._word(offset):
                self._add(offset, -1)
                return True
        return False

    def _delete(self, key: bytes) -> int:
        layout = self._layout
        home, tag = self._place(key)
        slot = self._find(key, home, tag)
        if slot is None:
            return -errno.ENOENT
        group, within = divmod(slot, GROUP_SLOTS)
        self._memory[layout.group(group) + GROUP_TAGS + within] = FREE
        while home != group:
            self._add(layout.group(home) + GROUP_OVERFLOW, -1)
            home = (home + 1) % layout.groups
        self._add(COUNT, -1)
        return 0

    def _snapshot(self) -> tuple[Bytes, Bytes]:
        import numpy as np

        layout, memory = self._layout, self._memory
        tags = rows(memory, layout.first_group + GROUP_TAGS, GROUP_SLOTS, layout.groups, GROUP_SIZE)
        live = np.flatnonzero(tags.reshape(-1) >= FIRST_TAG)
        keys = rows(memory, layout.slots, layout.key_size, layout.places, layout.stride)
        values = rows(memory, layout.values, layout.value_size, layout.places, layout.stride)
        return keys[live], values[live]


class HashMap(BpfMap):
    """A hash table of at most `max_entries` keys."""

    type_name: ClassVar[str] = "hash"
    layout_type = HashLayout
    allowed_flags: ClassVar[int] = NO_PREALLOC | NUMA_NODE | ZERO_SEED
    errors: ClassVar[dict[int, str]] = {
        errno.E2BIG: "full: all {max_entries} entries are in use",
        errno.EEXIST: "key {key} exists already",
    }
    layout: HashLayout

    def __init__(self, spec: MapSpec, seed: int | None = None) -> None:
        """Raises `MapError` for what no hash table can be, `ArgumentError` for a seed that is not of 32 bits."""
        self.check(spec)
        if seed is None:
            seed = 0 if spec.flags & ZERO_SEED else int.from_bytes(os.urandom(4), "little")
        if not 0 <= seed < 1 << 32:
            raise ArgumentError(f"seed {seed}: expected 32 bits without sign")
        layout = HashLayout.of(spec)
        super().__init__(spec, layout)
        _U32.pack_into(self.memory, SEED, seed)
        self.operations = HashReference(self.memory, layout)

    def __len__(self) -> int:
        """How many keys are there. While others insert and delete it may be short or in excess by those that come and go, and by room that is just being moved, and
        is always from 0 to `max_entries`.
        """
        header = bytes(self.memory[_HEADER])
        for _ in range(_LOOKS):
            before, header = header, bytes(self.memory[_HEADER])
            if header == before:
                break
        count, *spares = (int(_U32.unpack_from(header, at - COUNT)[0]) for at in (COUNT, *_SPARES))
        return max(0, count - sum(spares))

    def statistics(self) -> MapStatistics:
        """See `MapStatistics`."""
        entries = len(self)
        overflow = rows(
            self.memory, self.layout.first_group + GROUP_OVERFLOW, 4, self.layout.groups, GROUP_SIZE
        )
        passed = int(overflow.copy().view("<u4").sum())
        return MapStatistics(
            entries, self.spec.max_entries, self.size, 1.0 + passed / entries if entries else 1.0
        )
