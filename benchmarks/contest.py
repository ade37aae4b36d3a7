"""Competitors in turns.

A machine has neighbours, and its clock frequency moves. So nobody is timed for long: in each round every competitor runs for
some milliseconds, in another order each time, and what is compared are times of one round. The median over the rounds is the
result. Times are those that the thread had a processor, so what else runs on it does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.toolchain import Missing

OURS: Final = "pybpf"
"""The competitor that all others are compared with."""


@dataclass(frozen=True, slots=True)
class Competitor:
    """Who runs a program over `packets` packets in one call of `run`, in so many threads at once.

    What the competitor named `less` takes is taken off: it does the same with a program that does nothing.
    """

    name: str
    run: Callable[[], object]
    packets: int
    threads: int = 1
    less: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results: nanoseconds a packet, and how many times as long as pybpf's own the competitor takes."""

    suite: str
    program: str
    traffic: str
    competitor: str
    nanoseconds: float
    ratio: float


def hold(competitors: Sequence[Competitor], rounds: int, slice_ns: int) -> list[tuple[str, float, float]]:
    """Name, nanoseconds a packet and ratio to pybpf of each competitor; the first is pybpf.

    A slice is repeated until it takes `slice_ns`.
    """
    repeats = [_calibrate(competitor, slice_ns) for competitor in competitors]
    times: list[list[float]] = [[] for _ in competitors]
    for round_ in range(rounds):
        for turn in range(len(competitors)):
            i = (round_ + turn) % len(competitors)
            times[i].append(_time(competitors[i], repeats[i]) / repeats[i] / competitors[i].packets)
    rows = {competitor.name: taken for competitor, taken in zip(competitors, times, strict=True)}
    for competitor in competitors:
        if competitor.less:
            pairs = zip(rows[competitor.name], rows[competitor.less], strict=True)
            rows[competitor.name] = [all - nothing for all, nothing in pairs]
    ours = rows[competitors[0].name]
    return [
        (name, median(taken), median(a / b for a, b in zip(taken, ours, strict=True)))
        for name, taken in rows.items()
    ]


def _calibrate(competitor: Competitor, slice_ns: int) -> int:
    competitor.run()  # pages are touched, caches filled
    once = max(_time(competitor, 1), 1)
    return max(1, round(slice_ns / once))


def _time(competitor: Competitor, repeats: int) -> int:
    """Of one thread the time that it had a processor; of several the time by the clock on the wall, of a moment in which each
    had a processor to itself.
    """
    if competitor.threads == 1:
        return _repeat(competitor, repeats, time.thread_time_ns)[0]
    for _ in range(_TRIES):
        wall, busy = _repeat(competitor, 1, time.perf_counter_ns)
        if busy > _BUSY * competitor.threads * wall:
            return wall * repeats
    raise Missing(f"{competitor.threads} threads never had a processor each: the machine is busy")


_TRIES: Final = 1000
_BUSY: Final = 0.93


def _repeat(competitor: Competitor, repeats: int, clock: Callable[[], int]) -> tuple[int, int]:
    """The time by a clock, and that of the processors."""
    run = competitor.run
    start, used = clock(), time.process_time_ns()
    for _ in range(repeats):
        run()
    return clock() - start, time.process_time_ns() - used
