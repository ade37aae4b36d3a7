"""What must hold of every program: one function each, for the tests and for campaigns."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import fuzz.agreement
import fuzz.engines
import fuzz.enumeration
import fuzz.invariance
import fuzz.refusals
import pybpf
from fuzz.case import Case
from fuzz.facts import FactCheck
from fuzz.membership import Membership
from fuzz.runs import Monitor, run
from fuzz.statistics import Statistics
from fuzz.watch import Watched, watch
from pybpf import BpfError, InternalError, maps
from pybpf.maps import BpfMap
from pybpf.verifier.facts import RegionKind


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
        """The proof, if pybpf can run what it is a proof of: it knows more types, maps, memory and helpers than it can run."""
        if self.watched is None:
            return None
        verified = self.watched.verified
        used = (access.region for accesses in verified.facts.accesses.values() for access in accesses)
        runnable = (
            verified.type.runnable
            and all(spec.type in maps.TYPES for spec in verified.program.maps)
            and all(verified.type.helpers[number].body is not None for number in verified.facts.helpers)
            and all(region in _RUN for region in used)
        )
        return self.watched if runnable else None


_RUN: Final = (
    RegionKind.STACK,
    RegionKind.PACKET,
    RegionKind.PACKET_META,
    RegionKind.CONTEXT,
    RegionKind.MAP_VALUE,
)
"""What the memory of a run consists of."""

Property = Callable[[Subject, Statistics], None]


def examine(case: Case, statistics: Statistics) -> Subject:
    """Verify a case's program. Raises `Crash` for anything but a verdict."""
    statistics.programs += 1
    statistics.latest = frozenset()
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
    statistics.saw(watched)
    return Subject(case, watched, None)


def runs(subject: Subject, statistics: Statistics, names: Collection[str]) -> None:
    """An accepted program never traps and executes no more instructions than was proved; and on every run, `member`: every
    state lies inside an abstract state; `facts`: every fact holds. Raises `Unsafe`, `Outside`, `WrongFact`.
    """
    watched = subject.runs
    if watched is None:
        return
    made = subject.case.make_maps()
    monitors = [MONITORS[name](watched, made) for name in names if name in MONITORS]
    tally = run(subject.case, watched.verified, monitors, made)
    statistics.runs += tally.runs
    statistics.followed += tally.followed
    statistics.instructions += tally.instructions
    statistics.cut += tally.cut


MONITORS: Final[dict[str, Callable[[Watched, Sequence[BpfMap]], Monitor]]] = {
    "member": Membership,
    "facts": lambda watched, maps: FactCheck(watched.verified, maps),
}
"""What looks on while programs run."""


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


def enumerated(subject: Subject, statistics: Statistics) -> None:
    """What the exploration accepts is accepted on every path by itself. Raises `Differs`."""
    type_, reason = subject.case.type, getattr(subject.refusal, "reason", "")
    if subject.refusal is not None and reason not in fuzz.refusals.MACHINE:
        return
    try:
        refusal = fuzz.enumeration.refused(subject.case.program, type_)
    except (fuzz.enumeration.TooMany, BpfError):
        return
    statistics.enumerated += 1
    if subject.watched is not None and refusal is not None:
        raise fuzz.enumeration.Differs(
            f"accepted, and the path to pc {refusal.pc} is refused: {refusal.message}"
        )
    if subject.refusal is not None and refusal is None:
        statistics.joined_away[reason] += 1


def refused(subject: Subject, statistics: Statistics) -> None:
    """The path that a definite refusal names goes wrong, where its reason says so; and how many refused programs do. Raises `NoFault`."""
    error = subject.refusal
    if error is None:
        return
    outcome = fuzz.refusals.tried(subject.case, error)
    reason = getattr(error, "reason", type(error).__name__)
    explanation = getattr(error, "explanation", None)
    statistics.outcomes[reason, explanation is not None and explanation.definite, outcome.value] += 1


class Uncertified(AssertionError):
    """An accepted program whose certificate does not prove it."""


def certified(subject: Subject, statistics: Statistics) -> None:
    """The certificate of an accepted program proves it, to a checker that searches nothing. Raises `Uncertified`."""
    if subject.watched is None:
        return
    program = subject.case.program
    try:
        certificate = pybpf.verify(program, certificate=True).certificate
        assert certificate is not None, "asked for"
        pybpf.check(program, certificate.to_bytes())
    except BpfError as error:
        raise Uncertified(str(error)) from error
    statistics.certified += 1


COSTLY: Final[dict[str, Property]] = {
    "engines": engines,
    "invariant": invariant,
    "kernel": kernel,
    "enumerated": enumerated,
    "certified": certified,
    "refused": refused,
}
"""Properties that take longer than the runs do: a campaign may check them for some programs only."""

PROPERTIES: Final = ("safe", *MONITORS, *COSTLY)
"""The names of the properties."""


def check(case: Case, names: Collection[str], statistics: Statistics) -> None:
    """Check a case for these properties. Raises the AssertionError of the first that does not hold."""
    subject = examine(case, statistics)
    if "safe" in names or not MONITORS.keys().isdisjoint(names):
        runs(subject, statistics, names)
    for name in names:
        if name in COSTLY:
            COSTLY[name](subject, statistics)
