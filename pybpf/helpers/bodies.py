"""The reference bodies: what a helper does, on the memory of one run."""

from __future__ import annotations

from pybpf.helpers.machine import Machine
from pybpf.lookup3 import hashlittle
from pybpf.memory import PACKET
from pybpf.semantics import U64, signed


def map_lookup(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """The address of the value of key r2 in map r1, or 0."""
    map, base = machine.map_at(r1)
    offset = map.lookup(machine.read(r2, map.key_size))
    return 0 if offset is None else base + offset


def map_update(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Set the value of key r2 in map r1 to r3, under the flags r4."""
    map, _ = machine.map_at(r1)
    return map.update(machine.read(r2, map.key_size), machine.read(r3, map.value_size), r4) & U64


def map_update_any(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Oko's update, which has no flags."""
    return map_update(machine, r1, r2, r3, 0, 0)


def map_delete(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Remove key r2 of map r1."""
    map, _ = machine.map_at(r1)
    return map.delete(machine.read(r2, map.key_size)) & U64


def now(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """The instance's clock."""
    return machine.now() & U64


def hash(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """lookup3 of r2 bytes at r1, with seed 0."""
    return hashlittle(machine.read(r1, r2))


# The helpers that move a packet: net/core/filter.c and xdp.h of Linux 6.18.

_EINVAL, _EACCES = 22, 13
_ETHERNET = 14
_FRAME_HEADER = 40  # struct xdp_frame
_MOST_METADATA = 255


def _delta(number: int) -> int:
    return signed(number, 32)


def xdp_adjust_head(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Let the packet begin r2 bytes later, or earlier; its metadata come with it."""
    packet, by = machine.moving, _delta(r2)
    first, metadata = packet.limits[0] + _FRAME_HEADER, packet.head - packet.meta
    if not first + metadata <= packet.head + by <= packet.end - _ETHERNET:
        return -_EINVAL & U64
    moved = machine.read(PACKET + packet.meta, metadata)
    packet.head += by
    packet.meta += by
    machine.write(PACKET + packet.meta, moved)
    return 0


def xdp_adjust_tail(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Let the packet end r2 bytes later, with zeros, or earlier."""
    packet, by = machine.moving, _delta(r2)
    if not packet.head + _ETHERNET <= packet.end + by <= packet.limits[1]:
        return -_EINVAL & U64
    packet.end += by
    machine.write(PACKET + packet.end - max(by, 0), bytes(max(by, 0)))
    return 0


def xdp_adjust_meta(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """Let the metadata in front of the packet begin r2 bytes later, or earlier."""
    packet = machine.moving
    meta = packet.meta + _delta(r2)
    if not packet.limits[0] + _FRAME_HEADER <= meta <= packet.head:
        return -_EINVAL & U64
    if (packet.head - meta) % 4 or packet.head - meta > _MOST_METADATA:
        return -_EACCES & U64
    packet.meta = meta
    return 0
