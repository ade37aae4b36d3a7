"""The reference bodies: what a helper does, on the memory of one run."""

from __future__ import annotations

from pybpf.helpers.machine import Machine
from pybpf.lookup3 import hashlittle
from pybpf.semantics import U64


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
