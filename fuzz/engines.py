"""Native code and the interpreter do the same: results, packets and maps."""

from __future__ import annotations

import pybpf
from fuzz.case import Case, clock, contexts
from fuzz.runs import FUEL
from pybpf import BpfError, BudgetExceeded, Instance, VerifiedProgram
from pybpf.runtime import EngineName


class Different(AssertionError):
    """Two engines that do not agree."""


def compare(case: Case, verified: VerifiedProgram) -> int:
    """Run a case on both engines, and tell how many runs there were. Raises `Different`.

    Native code counts no instructions, so a packet whose run is cut short in the interpreter ends the comparison.
    """
    interpreted = _instance(case, verified, "interpreter", FUEL)
    try:
        native = _instance(case, verified, "jit", None)
    except BpfError as error:
        raise Different(f"the program is not compiled: {error}") from error
    context = contexts(case.type)
    for number, packet in enumerate(case.packets):
        try:
            expected: object = interpreted.run(packet, context)
        except BudgetExceeded:
            return number
        except BpfError as error:
            expected = type(error)
        try:
            actual: object = native.run(packet, context)
        except BpfError as error:
            actual = type(error)
        if expected != actual:
            raise Different(
                f"packet {number}, {len(packet)} bytes: interpreter {expected}, native code {actual}"
            )
    for name, map in interpreted.maps.items():
        left, right = dict(map), dict(native.maps[name])
        if left != right:
            raise Different(f"map {name!r}: interpreter {left}, native code {right}")
    return len(case.packets)


def _instance(case: Case, verified: VerifiedProgram, engine: EngineName, budget: int | None) -> Instance:
    maps = {map.name: map for map in case.make_maps()}
    return pybpf.instantiate(verified, engine=engine, maps=maps, clock=clock(), budget=budget)
