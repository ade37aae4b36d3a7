"""What the ratios should be: a table, and whether a run's results are so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from benchmarks.competitors import CALLED, DPDK, INLINED, KERNEL, UNCHECKED
from benchmarks.contest import OURS, Row
from benchmarks.map_suite import DISTINCT, ONE

Chosen = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Mark:
    """Of the rows that `of` chooses, `figure` is to be at least `least`; for nanoseconds, at most."""

    name: str
    of: Chosen
    figure: Callable[[Sequence[Row]], float]
    least: float = 0.0
    most: float | None = None

    def judge(self, rows: Sequence[Row]) -> tuple[float, bool] | None:
        """The figure, and whether it is as it should be; None where no row is about it."""
        chosen = [row for row in rows if self.of(row)]
        if not chosen:
            return None
        figure = self.figure(chosen)
        return figure, figure >= self.least if self.most is None else figure <= self.most


def mean(rows: Sequence[Row]) -> float:
    """The geometric mean of the ratios."""
    return prod(row.ratio for row in rows) ** (1 / len(rows))


def least(rows: Sequence[Row]) -> float:
    """The least ratio."""
    return min(row.ratio for row in rows)


def _nanoseconds(rows: Sequence[Row]) -> float:
    return max(row.nanoseconds for row in rows)


def _native(options: str) -> Chosen:
    names = {f"clang-22 {options}, {how}" for how in (CALLED, INLINED)}
    return lambda row: row.suite in ("filters", "alu") and row.competitor in names


def _map(program: str, entries: str) -> Chosen:
    name = f"gcc -O2, {CALLED}"
    return lambda row: (
        row.suite == "maps"
        and row.program == program
        and row.traffic.startswith(f"{entries}")
        and row.competitor == name
    )


def _from_100_ns(row: Row) -> bool:
    return row.competitor == KERNEL and row.nanoseconds >= 100


MARKS: Final = (
    Mark("clang -O2, filters and alu: geometric mean", _native("-O2"), mean, 1.0),
    Mark("clang -O2: the least", _native("-O2"), least, 0.9),
    Mark("clang -O3 -march=native: geometric mean", _native("-O3 -march=native"), mean, 0.95),
    Mark("the kernel's JIT, programs of 100 ns and more: geometric mean", _from_100_ns, mean, 1.5),
    Mark("the kernel's JIT, programs of 100 ns and more: the least", _from_100_ns, least, 1.0),
    Mark("DPDK's librte_bpf: geometric mean", lambda row: row.competitor == DPDK, mean, 2.0),
    Mark(
        "without checks of bounds, filters: the least",
        lambda row: row.competitor == UNCHECKED and row.traffic.endswith(".pcap"),
        least,
        0.98,
    ),
    Mark("without checks of bounds: the least", lambda row: row.competitor == UNCHECKED, least, 0.95),
    Mark("lookups, 5,000 entries: geometric mean", _map("count", "5000 "), mean, 4.0),
    Mark("lookups, 100,000 entries: geometric mean", _map("count", "100000 "), mean, 5.0),
    Mark("lookups, 1,000,000 entries: geometric mean", _map("count", "1000000 "), mean, 7.0),
    Mark("insertion and deletion: geometric mean", _map("churn", ""), mean, 3.0),
    Mark(
        "two threads over one: the least",
        lambda row: row.competitor == ONE and row.traffic.endswith(DISTINCT),
        least,
        1.8,
    ),
    Mark(
        "ns a packet in a batch of 1024",
        lambda row: row.suite == "calls" and row.competitor == OURS,
        _nanoseconds,
        most=3.0,
    ),
)
"""In the order in which they are reported."""
