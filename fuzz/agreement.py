"""What pybpf accepts Linux accepts, but for named differences; and what it computes Linux computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import pybpf
from fuzz.case import Case, clock, contexts
from fuzz.differences import explain
from fuzz.kernel import MINIMUM_PACKET, PROGRAM_TYPES, Loaded, MapRefused, Refused
from fuzz.runs import FUEL
from fuzz.watch import Watched
from pybpf import BpfError, BudgetExceeded, Program, RefKind, VerifiedProgram

CHANGING: Final = ("map_update_elem", "map_delete_elem")
VARYING: Final = (
    "ktime_get_ns",
    "ktime_get_boot_ns",
    "ktime_get_coarse_ns",
    "ktime_get_tai_ns",
    "get_prandom_u32",
    "jiffies64",
)
MAX_PACKET: Final = 3000
"""Linux's test runs take what fits into a page."""


class Disagreement(AssertionError):
    """Linux says or does something else, and no named difference says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Linux made of a program: `difference` names why it refuses what pybpf accepts. `runs` were compared."""

    accepted: bool
    line: str = ""
    difference: str | None = None
    runs: int = 0


def ask(case: Case, watched: Watched | None, *, runs: bool) -> Verdict | None:
    """Let Linux judge a program and, if both accept it and `runs` says that pybpf can run it, compare the runs.

    None for what Linux is not asked: other program types, maps that take more than a definition to make, callbacks, for which
    it wants their types.

    Raises `Disagreement` where Linux refuses an accepted program for no reason that is known, or computes something else.
    """
    callbacks = any(r.kind is RefKind.FUNCTION for r in case.program.references.values())
    if case.type.name not in PROGRAM_TYPES or callbacks:
        return None
    try:
        with Loaded(case.program) as loaded:
            compared = 0
            if watched is not None and runs and comparable(case.program):
                compared = _compare(case, watched.verified, loaded)
            return Verdict(True, runs=compared)
    except MapRefused:
        return None
    except Refused as refused:
        if watched is None:
            return Verdict(False, refused.line)
        difference = explain(case.program, refused.line)
        if difference is None:
            raise Disagreement(f"Linux refuses: {refused.line}") from None
        return Verdict(False, refused.line, difference)


def comparable(program: Program) -> bool:
    """Whether a run means the same in Linux: no number depends on an address, a clock, or bytes never written.

    Nor on when an entry of a hash map that was looked up is replaced: Linux leaves the old value where it was.
    """
    type_ = program.type
    assert type_ is not None
    assert not isinstance(type_, str)
    policy = replace(type_.policy, pointer_leaks=False, uninitialised_stack=False)
    called = {
        helper.name
        for i in program.code.values()
        if i.op.code == "helper" and (helper := type_.helpers.get(i.imm)) is not None
    }
    hashes = any(spec.type == "hash" for spec in program.maps)
    if called & set(VARYING) or (hashes and called & set(CHANGING) and "map_lookup_elem" in called):
        return False
    if any(r.kind not in (RefKind.MAP, RefKind.VALUE) for r in program.references.values()):
        return False
    try:
        pybpf.verify(program, policy=policy)
    except BpfError:
        return False
    return True


def _compare(case: Case, verified: VerifiedProgram, loaded: Loaded) -> int:
    maps = {map.name: map for map in case.make_maps()}
    ours = pybpf.instantiate(verified, engine="interpreter", maps=maps, clock=clock(), budget=FUEL)
    for name, entries in case.entries.items():
        for key, value in entries:
            loaded.update(name, key, value)
    # Linux gives metadata with the packet.
    metadata = any(
        verified.type.helpers[number].name == "xdp_adjust_meta" for number in verified.facts.helpers
    )
    packets = [packet for packet in case.packets if MINIMUM_PACKET <= len(packet) <= MAX_PACKET]
    for number, packet in enumerate(packets):
        try:
            result = ours.run(packet, contexts(verified.type))
        except BudgetExceeded:
            return number
        r0, left = loaded.run(packet)
        if metadata:
            left = left[max(len(left) - len(result.packet), 0) :]
        if (result.value & 0xFFFF_FFFF, result.packet) != (r0, left):
            raise Disagreement(
                f"packet {packet.hex()}: r0 {result.value:#x} and {result.packet.hex()}, in Linux {r0:#x} and {left.hex()}"
            )
    for name, map in maps.items():
        if dict(map) != dict(loaded.contents(name)):
            raise Disagreement(f"map {name!r}: {dict(map)}, in Linux {loaded.contents(name)}")
    return len(packets)
