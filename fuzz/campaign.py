"""Campaigns: many programs, several processes, statistics, findings saved in their smallest form."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from fuzz.case import Case, cases
from fuzz.mutants import mutants, real_programs
from fuzz.properties import check
from fuzz.statistics import Statistics
from fuzz.text import text_of

BATCH: Final = 100
"""Programs that a process takes at a time."""

CORPUS: Final = Path(__file__).parent / "corpus"
ROOT: Final = Path(__file__).parent.parent
OBJECTS: Final = (ROOT / "examples/objects", ROOT.parent / "shared/data/elf")
"""Where compiled programs are looked for, to make mutants of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A case for which a property does not hold, as small as it could be made."""

    text: str
    """The case, as `fuzz.case.read_case` reads it."""
    message: str


@dataclass(slots=True)
class Report:
    """The outcome of a batch, or of a campaign."""

    statistics: Statistics = field(default_factory=Statistics)
    findings: list[Finding] = field(default_factory=list)


def _generated() -> st.SearchStrategy[Case]:
    return cases()


def _mutants() -> st.SearchStrategy[Case]:
    return mutants()


def _real() -> st.SearchStrategy[Case]:
    if not _REAL:
        paths = sorted(path for folder in OBJECTS for path in folder.rglob("*.o"))
        _REAL.append(mutants(tuple(real_programs(paths))))
    return _REAL[0]


_REAL: Final[list[st.SearchStrategy[Case]]] = []

SOURCES: Final[dict[str, Callable[[], st.SearchStrategy[Case]]]] = {
    "generated": _generated,
    "mutants": _mutants,
    "real": _real,
}
"""Where programs come from: generated, mutants of generated ones, mutants of compiled ones."""


def batch(source: str, names: Collection[str], seed: int, examples: int, notes: Path | None = None) -> Report:
    """Check so many programs, all decided by the seed; the first finding ends it and is made small.

    `notes` is a file in which the case under way is kept, for when the process dies of it.
    """
    report = Report()
    last: list[Case] = []
    discarded = Statistics()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(SOURCES[source]())
    def examine(case: Case) -> None:
        failed = bool(last)
        if notes is not None:
            notes.write_text(text_of(case))
        try:
            check(case, names, discarded if failed else report.statistics)
        except AssertionError:
            last[:] = [case]
            raise

    try:
        examine()
    except AssertionError as error:
        message = f"{type(error).__name__}: {error}"
        report.findings.append(Finding(text_of(last[0], f"{message}\nseed {seed}"), message))
    return report


def campaign(
    sources: Sequence[str],
    names: Collection[str],
    *,
    seed: int,
    jobs: int,
    programs: int | None,
    seconds: float | None,
    scratch: Path,
    progress: Callable[[Report], None],
) -> Report:
    """Check programs until so many are done or so much time is over; `progress` is shown the report as it grows."""
    total = Report()
    until = time.monotonic() + seconds if seconds is not None else None
    batches = _batches(sources, seed, programs)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=20) as pool:
        running: dict[Future[Report], Path] = {}
        while True:
            while len(running) < 2 * jobs and (until is None or time.monotonic() < until):
                work = next(batches, None)
                if work is None:
                    break
                source, batch_seed, examples = work
                notes = scratch / f"{batch_seed}.bpf"
                running[pool.submit(batch, source, names, batch_seed, examples, notes)] = notes
            if not running:
                return total
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                notes = running.pop(future)
                try:
                    report = future.result()
                except BrokenProcessPool:
                    total.findings += _in_work(notes, *running.values())
                    return total
                notes.unlink(missing_ok=True)
                total.statistics.add(report.statistics)
                total.findings += report.findings
            progress(total)


def _in_work(*notes: Path) -> list[Finding]:
    """A process died: of one of the cases that were in work."""
    message = "Died: a process died, of this case or of another that was in work then"
    return [Finding(f"# {message}\n{path.read_text()}", message) for path in notes if path.exists()]


def _batches(sources: Sequence[str], seed: int, programs: int | None) -> Iterator[tuple[str, int, int]]:
    """Source, seed and size of one batch after the other: the same for any number of processes."""
    left = programs
    for number in count():
        examples = BATCH if left is None else min(BATCH, left)
        if examples <= 0:
            return
        yield sources[number % len(sources)], seed * 1_000_003 + number, examples
        left = None if left is None else left - examples


def save(finding: Finding, folder: Path = CORPUS) -> Path:
    """Write a finding into a folder, under a name that equal findings share."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(finding.text.encode()).hexdigest()[:10]
    path = folder / f"{finding.message.split(':', 1)[0].lower()}-{digest}.bpf"
    path.write_text(finding.text)
    return path
