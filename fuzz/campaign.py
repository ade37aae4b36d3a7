"""Campaigns: many programs, several processes, statistics, findings saved in their smallest form."""

from __future__ import annotations

import gc
import pickle
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Final

from fuzz.case import Case
from fuzz.corpus import Pair, is_news, pairs
from fuzz.properties import COSTLY, check
from fuzz.recipe import Recipe, drawn
from fuzz.shrink import smallest
from fuzz.statistics import Statistics
from fuzz.text import text_of

BATCH: Final = 100
"""Programs that a process takes at a time."""

BATCHES: Final = 200
"""Batches after which a process is replaced: LLVM gives no memory back."""

MOST_FINDINGS: Final = 2
"""A batch ends after so many: what one mistake breaks, it breaks often."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A case for which a property does not hold, as small as it could be made."""

    text: str
    """The case, as `fuzz.text.read_case` reads it."""
    message: str


@dataclass(frozen=True, slots=True)
class News:
    """A case that shows what the corpus did not show when its batch began."""

    text: str
    pairs: frozenset[Pair]


@dataclass(slots=True)
class Report:
    """The outcome of a batch, or of a campaign."""

    statistics: Statistics = field(default_factory=Statistics)
    findings: list[Finding] = field(default_factory=list)
    news: list[News] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch does: `examples` programs of a source, all decided by the seed, checked for properties by name; for the
    costly ones only one program in `every`.
    """

    source: str
    names: tuple[str, ...]
    seed: int
    examples: int
    every: int = 1
    notes: Path | None = None
    """A file in which the recipe under way is kept, for when the process dies of it."""
    known: frozenset[Pair] | None = None
    """What the corpus shows, if it is to grow."""


def _prepare() -> None:
    """A process of the pool begins: what was imported stays, and an interrupt is for the campaign to obey."""
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batch(work: Work) -> Report:
    """Check a batch of programs."""
    # What a program leaves behind is collected at the end of a batch: to look for it all the time takes a quarter of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _checked(work)
    finally:
        gc.collect()
        if enabled:
            gc.enable()


def _checked(work: Work) -> Report:
    report = Report()
    random = Random(f"{work.source} {work.seed}")
    number, known = 0, work.known
    while number < work.examples and len(report.findings) < MOST_FINDINGS:
        recipe = drawn(random, work.source)
        if work.notes is not None:
            work.notes.write_bytes(pickle.dumps(recipe))
        case = recipe.case()
        if case is None:
            continue
        number += 1
        names = [name for name in work.names if name not in COSTLY or number % work.every == 0]
        error = _failure(case, names, report.statistics)
        if error is not None:
            report.findings.append(_finding(recipe, names, error, work.seed))
        elif known is not None:
            new = pairs(report.statistics.latest) - known
            if is_news(new):
                known |= new
                report.news.append(News(text_of(case), new))
    return report


def _failure(case: Case, names: Collection[str], statistics: Statistics) -> Exception | None:
    """How a case fails, None if it does not. What is no AssertionError is a mistake in pybpf or in a property: a finding too."""
    try:
        check(case, names, statistics)
    except Exception as error:
        return error
    return None


def _finding(recipe: Recipe, names: Sequence[str], error: Exception, seed: int) -> Finding:
    """The smallest case that fails in the same way, for the first property that does by itself."""
    errors = {recipe: error}
    first = recipe.case()
    assert first is not None
    names = [next((n for n in names if type(_failure(first, [n], Statistics())) is type(error)), names[0])]

    def fails(candidate: Recipe) -> bool:
        case = candidate.case()
        found = None if case is None else _failure(case, names, Statistics())
        if type(found) is not type(error):
            return False
        assert found is not None
        errors[candidate] = found
        return True

    least = smallest(recipe, fails)
    message = f"{type(error).__name__}: {errors[least]}"
    case = least.case()
    assert case is not None
    return Finding(text_of(case, f"{message}\nseed {seed}"), message)


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
    stopped: Callable[[], bool] = lambda: False,
    every: int = 1,
    known: frozenset[Pair] | None = None,
    check_batch: Callable[[Work], Report] = batch,
) -> Report:
    """Check programs until so many are done, so much time is over, or `stopped` says so; `progress` is shown the report as it grows.

    `known` is what the corpus shows: then cases that show more are told of. `check_batch` is what the processes do.
    """
    total = Report()
    until = time.monotonic() + seconds if seconds is not None else None
    batches = _batches(sources, tuple(names), seed, programs, every, scratch)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _prepare, max_tasks_per_child=BATCHES) as pool:
        running: dict[Future[Report], Work] = {}
        while True:
            while len(running) < 2 * jobs and (until is None or time.monotonic() < until) and not stopped():
                work = next(batches, None)
                if work is None:
                    break
                work = replace(work, known=known)
                running[pool.submit(check_batch, work)] = work
            if not running:
                return total
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                work = running.pop(future)
                try:
                    report = future.result()
                except BrokenProcessPool:
                    total.findings += _in_work(work, *running.values())
                    return total
                assert work.notes is not None
                work.notes.unlink(missing_ok=True)
                total.statistics.add(report.statistics)
                total.findings += report.findings
                for news in report.news:
                    assert known is not None
                    if is_news(news.pairs - known):
                        known |= news.pairs
                        total.news.append(news)
            progress(total)


def _in_work(*works: Work) -> list[Finding]:
    """A process died: of one of the cases that were in work."""
    message = "Died: a process died, of this case or of another that was in work then"
    findings = []
    for work in works:
        if work.notes is not None and work.notes.exists():
            case = pickle.loads(work.notes.read_bytes()).case()
            findings += [Finding(text_of(case, f"{message}\nseed {work.seed}"), message)] if case else []
    return findings


def _batches(
    sources: Sequence[str], names: tuple[str, ...], seed: int, programs: int | None, every: int, scratch: Path
) -> Iterator[Work]:
    """One batch after the other: the same for any number of processes."""
    left = programs
    for number in count():
        examples = BATCH if left is None else min(BATCH, left)
        if examples <= 0:
            return
        own = seed * 1_000_003 + number
        yield Work(sources[number % len(sources)], names, own, examples, every, scratch / str(own))
        left = None if left is None else left - examples
