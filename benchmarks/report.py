"""Results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contest import Row
from benchmarks.marks import MARKS


def show(rows: Sequence[Row], run: Mapping[str, Any], console: Console) -> None:
    """The machine, a table of ratios for each suite, the marks, and who did not take part."""
    console.print(", ".join(f"{name}: {value}" for name, value in run["machine"].items()), markup=False)
    for suite, group in groupby(rows, lambda row: row.suite):
        console.print(_table(suite, list(group)))
    console.print(_marks(rows))
    for who, reason in run["skipped"].items():
        console.print(f"skipped: {who}: {reason}", markup=False, style="yellow")


def record(row: Row) -> dict[str, Any]:
    """A row as JSON has it."""
    return asdict(row) | {"nanoseconds": round(row.nanoseconds, 3), "ratio": round(row.ratio, 4)}


def judged(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Each mark that the rows are about: its name, what it should be, what it is, and whether that will do."""
    lines = []
    for mark in MARKS:
        judgement = mark.judge(rows)
        if judgement is not None:
            figure, reached = judgement
            wanted = f"at least {mark.least:g}" if mark.most is None else f"at most {mark.most:g}"
            lines.append((mark.name, wanted, f"{figure:.2f}", "yes" if reached else "no"))
    return lines


def _table(suite: str, rows: Sequence[Row]) -> Table:
    table = Table("program", "traffic", "competitor", title=suite, title_justify="left")
    table.add_column("ns a packet", justify="right")
    table.add_column("time, pybpf = 1", justify="right")
    for _, case in groupby(rows, lambda row: (row.program, row.traffic)):
        for row in case:
            table.add_row(
                row.program, row.traffic, row.competitor, f"{row.nanoseconds:.2f}", f"{row.ratio:.2f}"
            )
        table.add_section()
    return table


def _marks(rows: Sequence[Row]) -> Table:
    table = Table("mark", "wanted", "measured", "reached", title="marks", title_justify="left")
    for line in judged(rows):
        table.add_row(*line)
    return table
