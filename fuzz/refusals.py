"""Refused programs: is there an input for which one goes wrong, and does the path that a refusal names fail?

A refusal is *definite* if no two paths were joined on the way to it. Some reasons do not depend on any number that
the program computes: who comes to the place by that very path reads a register that was not written. So every such run must
trap there. Other reasons say that a number could not be bounded; whether some input makes it too great is for the
search to find, and what it does not find is counted: that is the verifier's precision, as far as inputs that were tried tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from random import Random
from typing import Final

from fuzz.case import Case, boundary_lengths, clock, map_entries, packet
from fuzz.runs import FUEL, context_bytes
from pybpf import BpfError, BudgetExceeded, Trap, VerifierError
from pybpf.instruction import Instruction
from pybpf.interpreter import Execution, Interpreter
from pybpf.verifier.cfg import build

CERTAIN: Final = frozenset({"uninitialised-register"})
"""Reasons that hold on every run along the path."""

MACHINE: Final = frozenset(
    {
        "atomic-target",
        "bad-pointer",
        "context-access",
        "infinite-loop",
        "map-value-bounds",
        "map-write",
        "maybe-null",
        "packet-bounds",
        "packet-write",
        "stack-bounds",
        "unbounded-offset",
        "uninitialised-register",
        "uninitialised-stack",
    }
)
"""Reasons that say that a run may do what the interpreter traps on; all others are rules of form or policy, which no run breaks."""

TRIES: Final = 24
"""Inputs besides the case's own, each with maps filled anew."""


class NoFault(AssertionError):
    """A run takes the path that a refusal names, and does not go wrong."""


class Outcome(Enum):
    """What the runs of a refused program came to."""

    FAULTS = "faults"
    """Some run traps, or does not end."""
    HARMLESS = "harmless"
    """No run that was tried does."""
    NOT_RUN = "not run"
    """It breaks a rule of structure or policy, or cannot be run here."""


def tried(case: Case, error: BpfError, tries: int = TRIES) -> Outcome:
    """Look for an input for which a refused program goes wrong. Raises `NoFault`."""
    if not isinstance(error, VerifierError) or error.reason not in MACHINE or not case.type.runnable:
        return Outcome.NOT_RUN
    definite = error.explanation is not None and error.explanation.definite
    path = _Path(case, error) if error.reason in CERTAIN and definite else None
    faults = False
    for attempt in (case, *_variations(case, tries)):
        try:
            faults |= _runs_wrong(attempt, path)
        except BpfError:
            return Outcome.NOT_RUN
        if faults and path is None:
            break
    return Outcome.FAULTS if faults else Outcome.HARMLESS


def _variations(case: Case, tries: int) -> Iterator[Case]:
    """The program on other inputs: on packets of all lengths that it may tell apart, if there are not too many."""
    lengths = boundary_lengths(case.program)
    for number in range(tries):
        random = Random(number)
        around = [lengths[(2 * number + n) % len(lengths)] for n in range(2)]
        packets = tuple(packet([length], random.randbytes(3)) for length in around)
        entries = map_entries(case.program.maps, random.randbytes(3))
        yield replace(case, packets=packets, entries=entries)


def _runs_wrong(case: Case, path: _Path | None) -> bool:
    interpreter = Interpreter(case.program, case.type, case.make_maps(), clock=clock(), budget=FUEL // 10)
    context = context_bytes(case.type)
    for data in case.packets:
        if path is not None:
            path.start()
        try:
            interpreter.run(data, context, trace=None if path is None else path.before)
        except (Trap, BudgetExceeded):
            return True
        if path is not None and path.reached:
            raise NoFault(
                f"a packet of {len(data)} bytes takes the path to {path.error} and nothing goes wrong"
            )
    return False


class _Path:
    """Tells whether a run takes the blocks that a refusal names, to the instruction that it blames."""

    def __init__(self, case: Case, error: VerifierError) -> None:
        self.error = error
        graph = build(case.program)
        self._starts = {start for function in graph.functions.values() for start in function.blocks}
        explanation = error.explanation
        self._wanted = [step.pc for step in explanation.path] if explanation is not None else []
        self.start()

    def start(self) -> None:
        """A run begins."""
        self._taken: list[int] = []
        self.reached = False

    def before(self, pc: int, instruction: Instruction, run: Execution) -> None:
        """A trace of the interpreter."""
        if pc in self._starts and len(self._taken) <= len(self._wanted):
            self._taken.append(pc)
        if pc == self.error.pc and self._taken == self._wanted:
            self.reached = True
