"""Results in docs/performance.md: the part between two comments is written by a run, the rest by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from benchmarks import plot, report
from benchmarks.contest import Row
from benchmarks.toolchain import ROOT

PAGE: Final = ROOT / "docs/performance.md"
PICTURE: Final = ROOT / "docs/performance.svg"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


def write(rows: Sequence[Row], run: Mapping[str, Any]) -> None:
    """Replace the results of the page, and the picture."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    results = "\n".join(_lines(rows, run))
    PAGE.write_text(f"{before}{_BEGIN}\n{results}\n{_END}{after}")
    plot.write(rows, PICTURE)


def _lines(rows: Sequence[Row], run: Mapping[str, Any]) -> Iterator[str]:
    yield "Machine: " + ", ".join(f"{name} {value}" for name, value in run["machine"].items()) + "."
    yield f"Medians of {run['rounds']} rounds."
    yield from ("", "| mark | wanted | measured | reached |", "|---|---|---|---|")
    for line in report.judged(rows):
        yield "| " + " | ".join(line) + " |"
    for suite, group in groupby(rows, lambda row: row.suite):
        yield from _suite(suite, list(group))
    for who, reason in run["skipped"].items():
        yield f"\nNot measured: {who}: {reason}."


def _suite(suite: str, rows: Sequence[Row]) -> Iterator[str]:
    """A table with a line for each case, and a column for each competitor."""
    names = list(dict.fromkeys(row.competitor for row in rows))
    yield from ("", f"### {suite}", "")
    yield (
        "| program | traffic | "
        + " | ".join(f"{name}, ns" if number == 0 else name for number, name in enumerate(names))
        + " |"
    )
    yield "|---" * (len(names) + 2) + "|"
    for (program, traffic), case in groupby(rows, lambda row: (row.program, row.traffic)):
        cells = {row.competitor: row for row in case}
        figures = [
            ""
            if name not in cells
            else f"{cells[name].nanoseconds:.1f}"
            if number == 0
            else f"{cells[name].ratio:.2f}"
            for number, name in enumerate(names)
        ]
        yield f"| {program} | {traffic} | " + " | ".join(figures) + " |"
