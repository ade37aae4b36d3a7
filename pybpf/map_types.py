"""What may be done with each type of map: by which helpers, from which programs, and what a lookup gives.

The table is Linux's (include/uapi/linux/bpf.h, enum bpf_map_type; kernel/bpf/verifier.c, check_map_func_compatibility,
check_map_prog_compatibility and may_update_sockmap), of Linux 6.18. `pybpf.maps` has the types that can be made; the others are
known to the loader and the verifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pybpf.program import MapSpec

RDONLY_PROG: Final = 1 << 7
WRONLY_PROG: Final = 1 << 8
"""Flags of a map's definition (``BPF_F_RDONLY_PROG``, ``BPF_F_WRONLY_PROG``): programs may only read, or only write it."""


@dataclass(frozen=True, slots=True)
class MapType:
    """A type of map. `helpers` are the functions that take such a map, by name; `gives` is what a lookup finds: a
    ``value``, another ``map``, or a ``sock`` or ``xdp_sock``. `read_only`: programs cannot change it. `sleepable`: programs
    that sleep may use it. `addressable`: a wide load may hold the address of a value.
    """

    name: str
    number: int
    helpers: frozenset[str]
    gives: str = "value"
    read_only: bool = False
    sleepable: bool = False
    addressable: bool = False

    @property
    def keyed(self) -> bool:
        """It holds values by key, which programs look up, set and delete."""
        return self.gives == "value" and self.helpers >= _ELEMENTS


_GROUPS: Final = {
    "elem": "map_lookup_elem map_update_elem map_delete_elem timer_init",
    "push": "map_push_elem map_peek_elem",
    "perf": "perf_event_read perf_event_read_value perf_event_output skb_output xdp_output",
    "each": "for_each_map_elem",
    "percpu": "map_lookup_percpu_elem",
}
_ELEMENTS: Final = frozenset({"map_lookup_elem", "map_update_elem", "map_delete_elem"})

# number, name, what a lookup gives (- nothing), flags, helpers and groups of them
_TABLE: Final = """
0  unspec                 -        -
1  hash                   value    s    elem each
2  array                  value    sa   elem each
3  prog_array             -        -    tail_call
4  perf_event_array       -        -    perf
5  percpu_hash            value    s    elem each percpu
6  percpu_array           value    s    elem each percpu
7  stack_trace            -        -    get_stackid
8  cgroup_array           -        -    skb_under_cgroup current_task_under_cgroup
9  lru_hash               value    s    elem each
10 lru_percpu_hash        value    s    elem each percpu
11 lpm_trie               value    -    elem
12 array_of_maps          map      s    map_lookup_elem
13 hash_of_maps           map      s    map_lookup_elem
14 devmap                 value    r    map_lookup_elem redirect_map
15 sockmap                sock     -    map_lookup_elem map_update_elem map_delete_elem sock_map_update sk_redirect_map msg_redirect_map sk_select_reuseport
16 cpumap                 -        -    redirect_map
17 xskmap                 xdp_sock -    map_lookup_elem redirect_map
18 sockhash               sock     -    map_lookup_elem map_update_elem map_delete_elem sock_hash_update sk_redirect_hash msg_redirect_hash sk_select_reuseport
19 cgroup_storage         -        -    get_local_storage
20 reuseport_sockarray    -        -    sk_select_reuseport
21 percpu_cgroup_storage  -        -    get_local_storage
22 queue                  -        s    push map_pop_elem
23 stack                  -        s    push map_pop_elem
24 sk_storage             -        s    sk_storage_get sk_storage_delete
25 devmap_hash            value    r    map_lookup_elem redirect_map
26 struct_ops             -        -
27 ringbuf                -        s    ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr
28 inode_storage          -        s    inode_storage_get inode_storage_delete
29 task_storage           -        s    task_storage_get task_storage_delete
30 bloom_filter           -        -    push
31 user_ringbuf           -        s    user_ringbuf_drain
32 cgrp_storage           -        s    cgrp_storage_get cgrp_storage_delete
33 arena                  -        sa
34 insn_array             -        sa
"""


def _rows() -> Iterator[MapType]:
    for line in _TABLE.strip().splitlines():
        number, name, gives, flags, *words = line.split()
        helpers = " ".join(_GROUPS.get(word, word) for word in words)
        yield MapType(
            name,
            int(number),
            frozenset(helpers.split()),
            gives,
            read_only="r" in flags,
            sleepable="s" in flags,
            addressable="a" in flags,
        )


TYPES: Final = {type_.name: type_ for type_ in _rows()}
"""The map types of Linux by name, as in `MapSpec.type`."""

LINUX_MAPS: Final = {type_.number: type_.name for type_ in TYPES.values()}
"""What the numbers of Linux's definitions mean."""

OKO_MAPS: Final = {1: "array", 2: "bloom_filter", 3: "count_min", 4: "hash"}
"""Oko's numbers (lib/bpf/ubpf_int.h): array and hash trade places with Linux's."""

RESTRICTED: Final = frozenset().union(*(type_.helpers for type_ in TYPES.values()))
"""The helpers that the table speaks of: each takes maps of the types that name it, and no other."""

_UPDATERS: Final = frozenset("socket_filter tc sched_act xdp sk_reuseport flow_dissector sk_lookup".split())
SOCKET_MAP_TYPES: Final = {"map_update_elem": _UPDATERS, "map_delete_elem": _UPDATERS | {"sock_ops"}}
"""The program types that may change what a sockmap or sockhash holds by these helpers."""

_WRITERS: Final = frozenset(
    "map_update_elem map_delete_elem map_push_elem map_pop_elem map_update map_delete".split()
)
"""Helpers that change a map's contents."""


def takes(helper: str, spec: MapSpec) -> bool | None:
    """Whether a helper takes a map of this type; None where the tables do not say: a type or helper that is not Linux's."""
    type_ = TYPES.get(spec.type)
    if type_ is None:
        return None
    if helper in RESTRICTED:
        return helper in type_.helpers
    return True if type_.keyed else None


def readable(spec: MapSpec) -> bool:
    """Whether programs may read the map's values."""
    return not spec.flags & WRONLY_PROG


def writable(spec: MapSpec) -> bool:
    """Whether programs may write the map's values and change what it holds."""
    return not (
        spec.read_only or spec.flags & RDONLY_PROG or (spec.type in TYPES and TYPES[spec.type].read_only)
    )


def changes(helper: str) -> bool:
    """Whether a helper changes what a map holds."""
    return helper in _WRITERS
