"""Splitting a batch at its first operation on a hash table.

A program that works on a hash table waits for memory: for the group of the key's home, then for the slot. A batch knows the
packets to come. So the beginning of the program, up to its first operation on such a table, is also compiled as a function of its own, which does
nothing but find the key (`pybpf.jit.ahead`). The batch loop takes a block of packets: it finds all keys, hashes them all, asks for the memory of all groups, then of all
slots, and only then runs the program on one packet after the other (`pybpf.jit.hint_ir`).

Results and the order of effects are those of a loop without all this. What runs ahead has no effects: it stops where the program would write to anything but its
stack, or call what is not known here. And it is not believed: see `pybpf.jit.hint_ir`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pybpf import helpers
from pybpf.helpers import Body
from pybpf.instruction import Instruction
from pybpf.isa import Kind
from pybpf.jit.blocks import Graph
from pybpf.maps import Layout
from pybpf.maps.layout import HashLayout
from pybpf.program import MapSpec
from pybpf.verifier.facts import Facts, RegionKind

OPERATIONS: Final[Mapping[Body | None, str]] = {
    helpers.MAP_LOOKUP.body: "lookup",
    helpers.MAP_UPDATE.body: "update",
    helpers.UBPF_UPDATE.body: "update",
    helpers.MAP_DELETE.body: "delete",
}
"""What the helpers do that work on maps, by their Python bodies."""
_HARMLESS: Final = (helpers.KTIME.body, helpers.UBPF_HASH.body)
"""Bodies of helpers that may be called ahead, or left out there."""

_LARGEST_KEY: Final = 64
_SHORT: Final = 48
"""Instructions up to which it always pays to run them twice: hashes are cheaper by the block."""
_LARGE: Final = 1 << 19
"""Bytes of live entries from which it pays to run any number of instructions twice: they no longer lie in the processor's own cache."""


@dataclass(frozen=True, slots=True)
class Split:
    """A program is split at the operations at `pcs`, on the map `number`: what can come before are the instructions at `before`. It pays where at
    least `entries` keys are in the map. `inserts`: an operation may insert; `changes`: one may insert or delete; `writes`: the program writes into the values
    that it finds, or inserts some.
    """

    number: int
    layout: HashLayout
    pcs: frozenset[int]
    before: frozenset[int]
    entries: int
    inserts: bool
    changes: bool
    writes: bool


def find(
    graph: Graph,
    code: Mapping[int, Instruction],
    bodies: Mapping[int, Body | None],
    facts: Facts,
    maps: list[tuple[MapSpec, Layout]],
) -> Split | None:
    """Where a program is to be split, by the graph of its first function; `bodies` are those of the helpers that are called, by pc. None where
    nothing would be gained.
    """
    found: dict[int, int] = {}
    before: set[int] = set()
    seen, pending = set(), [next(iter(graph.blocks))]
    while pending:
        start = pending.pop()
        if start in seen or start in graph.carried or start not in graph.blocks:
            continue
        seen.add(start)
        for pc in graph.blocks[start].pcs:
            if (number := target(pc, bodies, facts, maps)) is not None:
                found[pc] = number
                break
            if not is_harmless(pc, code[pc], bodies, facts, maps):
                break
            before.add(pc)
        else:
            pending.extend(graph.blocks[start].successors)
    if not found:
        return None
    chosen = found[min(found)]
    layout = maps[chosen][1]
    assert isinstance(layout, HashLayout)
    pcs = frozenset(pc for pc, number in found.items() if number == chosen)
    names = {OPERATIONS[bodies[pc]] for pc in pcs}
    inserts = "update" in names
    return Split(
        chosen,
        layout,
        pcs,
        frozenset(before),
        entries=0 if len(before) <= _SHORT else _LARGE // layout.stride,
        inserts=inserts,
        changes=inserts or "delete" in names,
        writes=inserts or _writes(graph, code, facts, chosen, pcs),
    )


def _writes(
    graph: Graph, code: Mapping[int, Instruction], facts: Facts, number: int, pcs: frozenset[int]
) -> bool:
    """Whether a key that is found at `pcs` means that the value is written: from the block of the operation, or one behind it, no way leads on without a store."""

    def stores(pc: int) -> bool:
        accesses = facts.accesses.get(pc, ()) if code[pc].op.kind in (Kind.STORE, Kind.ATOMIC) else ()
        return any(access.region is RegionKind.MAP_VALUE and access.map == number for access in accesses)

    surely: set[int] = set()
    for start in reversed([*graph.blocks]):  # successors first, but for loops
        block = graph.blocks[start]
        if any(map(stores, block.pcs)) or (block.successors and surely.issuperset(block.successors)):
            surely.add(start)
    return any(
        start in surely or not surely.isdisjoint(block.successors)
        for start, block in graph.blocks.items()
        if not pcs.isdisjoint(block.pcs)
    )


def target(
    pc: int, bodies: Mapping[int, Body | None], facts: Facts, maps: list[tuple[MapSpec, Layout]]
) -> int | None:
    """The number of the hash table that a call works on; None for everything else."""
    number = facts.maps.get(pc) if bodies.get(pc) in OPERATIONS else None
    if number is None or not isinstance(maps[number][1], HashLayout):
        return None
    return number if maps[number][1].key_size <= _LARGEST_KEY else None


def is_harmless(
    pc: int,
    instruction: Instruction,
    bodies: Mapping[int, Body | None],
    facts: Facts,
    maps: list[tuple[MapSpec, Layout]],
) -> bool:
    """Whether an instruction may be executed ahead: it leaves nothing behind but registers and stack."""
    match instruction.op.kind:
        case Kind.CALL if OPERATIONS.get(bodies.get(pc)) == "lookup":
            number = facts.maps.get(pc)
            return number is not None and maps[number][0].type == "array"
        case Kind.CALL:
            return bodies.get(pc) in _HARMLESS
        case Kind.STORE:
            return all(access.region is RegionKind.STACK for access in facts.accesses.get(pc, ()))
        case Kind.CALL_LOCAL | Kind.CALL_REGISTER | Kind.ATOMIC | Kind.PACKET:
            return False
        case _:
            return True
