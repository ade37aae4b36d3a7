"""What must hold of every program: one function each, for the tests and for campaigns."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import fuzz.agreement
import fuzz.engines
import fuzz.invariance
from fuzz.case import Case, clock
from fuzz.facts import FactCheck
from fuzz.membership import Membership
from fuzz.runs import FUEL, context_bytes, run
from fuzz.statistics import Statistics
from fuzz.watch import Watched, watch
from pybpf import BpfError, BudgetExceeded, InternalError, Trap, maps
from pybpf.interpreter import Interpreter


class Crash(AssertionError):
    """The verifier ended in a way that is not documented."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A case and its verdict: the watched proof, or the error that says why there is none."""

    case: Case
    watched: Watched | None
    refusal: BpfError | None

    @property
    def runs(self) -> Watched | None:
        """The proof, if pybpf can run what it is a proof of: it knows more map types and helpers than it has bodies for."""
        if self.watched is None:
            return None
        verified = self.watched.verified
        made = all(spec.type in maps.TYPES for spec in verified.program.maps)
        bodies = all(verified.type.helpers[number].body is not None for number in verified.facts.helpers)
        return self.watched if made and bodies else None


Property = Callable[[Subject, Statistics], None]


def examine(case: Case, statistics: Statistics) -> Subject:
    """Verify a case's program. Raises `Crash` for anything but a verdict."""
    statistics.programs += 1
    statistics.sizes[case.program.size] += 1
    start = time.perf_counter()
    try:
        watched = watch(case.program)
    except InternalError as error:
        raise Crash(f"the verifier blames itself: {error}") from error
    except BpfError as error:
        statistics.refused[getattr(error, "reason", type(error).__name__)] += 1
        return Subject(case, None, error)
    except Exception as error:
        raise Crash(f"the verifier raised {type(error).__name__}: {error}") from error
    finally:
        statistics.slowest = max(statistics.slowest, time.perf_counter() - start)
    statistics.saw(case.program, watched.verified)
    return Subject(case, watched, None)


def safe(subject: Subject, statistics: Statistics) -> None:
    """An accepted program never traps and executes no more instructions than was proved. Raises `Unsafe`."""
    if subject.watched is None:
        statistics.harmless += not _traps(subject.case)
    if subject.runs is None:
        return
    tally = run(subject.case, subject.runs.verified)
    statistics.runs += tally.runs
    statistics.instructions += tally.instructions
    statistics.cut += tally.cut


def member(subject: Subject, statistics: Statistics) -> None:
    """Every state that a run is in lies inside an abstract state. Raises `Outside`."""
    if subject.runs is not None:
        made = subject.case.make_maps()
        run(subject.case, subject.runs.verified, [Membership(subject.runs, made)], made)


def facts(subject: Subject, statistics: Statistics) -> None:
    """Every fact holds on every run. Raises `WrongFact`."""
    if subject.runs is not None:
        made = subject.case.make_maps()
        verified = subject.runs.verified
        run(subject.case, verified, [FactCheck(verified, made)], made)


def engines(subject: Subject, statistics: Statistics) -> None:
    """Native code does what the interpreter does. Raises `Different`."""
    if subject.runs is not None:
        statistics.native_runs += fuzz.engines.compare(subject.case, subject.runs.verified)


def invariant(subject: Subject, statistics: Statistics) -> None:
    """Verdict and facts depend on nothing but the program's meaning. Raises `Varies`."""
    if subject.watched is not None:
        fuzz.invariance.check(subject.case.program, subject.watched.verified)
    else:
        fuzz.invariance.check(
            subject.case.program, getattr(subject.refusal, "reason", type(subject.refusal).__name__)
        )


def kernel(subject: Subject, statistics: Statistics) -> None:
    """Linux accepts the program and computes the same. Raises `Disagreement`."""
    verdict = fuzz.agreement.ask(subject.case, subject.watched, runs=subject.runs is not None)
    if verdict is None:
        return
    statistics.kernel_programs += 1
    statistics.kernel_runs += verdict.runs
    if verdict.difference is not None:
        statistics.kernel_stricter[verdict.difference] += 1
    if verdict.accepted and subject.refusal is not None:
        statistics.kernel_laxer[getattr(subject.refusal, "reason", type(subject.refusal).__name__)] += 1


PROPERTIES: Final[dict[str, Property]] = {
    "safe": safe,
    "member": member,
    "facts": facts,
    "engines": engines,
    "invariant": invariant,
    "kernel": kernel,
}
"""The properties by name."""


def check(case: Case, names: Collection[str], statistics: Statistics) -> None:
    """Check a case for these properties. Raises the AssertionError of the first that does not hold."""
    subject = examine(case, statistics)
    for name in names:
        PROPERTIES[name](subject, statistics)


def _traps(case: Case) -> bool:
    """Whether some packet makes a refused program trap, or run on without end."""
    try:
        interpreter = Interpreter(case.program, case.type, case.make_maps(), clock=clock(), budget=FUEL // 10)
        for packet in case.packets:
            interpreter.run(packet, context_bytes(case.type))
    except (Trap, BudgetExceeded):
        return True
    except BpfError:
        # Something that pybpf cannot run.
        return False
    return False
