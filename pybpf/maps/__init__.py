"""Maps: what programs keep between packets and share with whoever runs them.

One layout serves every engine: a map is one block of memory at a fixed address (`pybpf.maps.layout`), which the interpreter,
native code and Python read and write alike. A map type is a file here and a line in `TYPES`.
"""

from __future__ import annotations

from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.maps.array import ArrayMap
from pybpf.maps.hash import HashMap
from pybpf.maps.layout import ArrayLayout, HashLayout, Layout
from pybpf.maps.map import BpfMap, MapStatistics
from pybpf.maps.operations import BPF_ANY, BPF_EXIST, BPF_NOEXIST, Operations
from pybpf.maps.typed import TypedMap
from pybpf.program import MapSpec

__all__ = [
    "BPF_ANY",
    "BPF_EXIST",
    "BPF_NOEXIST",
    "TYPES",
    "ArrayMap",
    "BpfMap",
    "HashMap",
    "Layout",
    "MapStatistics",
    "Operations",
    "TypedMap",
    "create",
    "layout_of",
]

TYPES: Final[dict[str, type[ArrayMap] | type[HashMap]]] = {
    "array": ArrayMap,
    "hash": HashMap,
}
"""The map types by name, as in `MapSpec.type`."""


def create(spec: MapSpec, *, seed: int | None = None) -> BpfMap:
    """A new map, zeroed or with the initial contents of its data section.

    `seed` (32 bits) makes hash tables repeat from run to run; without it each map draws one at random, so that nobody who
    sends packets can choose keys that collide. Raises `UnsupportedError` for a type that pybpf does not know, `MapError` for
    sizes that no such map can have or that the machine has no memory for.

    >>> from pybpf import MapSpec
    >>> flows = create(MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=100))
    >>> flows[b"abcd"] = bytes(8)
    >>> len(flows), b"wxyz" in flows
    (1, False)
    """
    return _type(spec)(spec, seed)


def layout_of(spec: MapSpec) -> ArrayLayout | HashLayout:
    """What lies where in a map that is yet to be made. Raises what `create` raises, except for want of memory."""
    map_type = _type(spec)
    map_type.check(spec)
    return map_type.layout_type.of(spec)


def _type(spec: MapSpec) -> type[ArrayMap] | type[HashMap]:
    if spec.type not in TYPES:
        raise UnsupportedError(
            f"map {spec.name!r}: maps of type {spec.type!r} cannot be made", f"map type {spec.type}"
        )
    return TYPES[spec.type]
