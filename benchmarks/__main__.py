"""``python -m benchmarks``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks import machine, page, report
from benchmarks.case import Bench, Case
from benchmarks.contest import Row, hold
from benchmarks.suites import SUITES


@click.command()
@click.option(
    "--quick", is_flag=True, help="Less traffic and fewer repetitions: half a minute, rough figures."
)
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([*SUITES]),
    help="A suite; may be given several times.",
)
@click.option("--match", default="", help="Only cases whose program or traffic contains this text.")
@click.option(
    "--repeat", type=click.IntRange(1), help="Rounds in which everybody has a turn.  [default: 15, quick 5]"
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results to a file.",
)
@click.option("--write", is_flag=True, help="Put the results into docs/performance.md, with a picture.")
def main(
    quick: bool, names: tuple[str, ...], match: str, repeat: int | None, json_path: Path | None, write: bool
) -> None:
    """Compare pybpf with everything else on this machine that runs such programs.

    Who is missing (a compiler, DPDK, root for the kernel) is left out and named.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    rounds = repeat or (5 if quick else 15)
    with tempfile.TemporaryDirectory() as work, Bench(Path(work), quick) as bench:
        cases = [case for name in names or SUITES for case in SUITES[name](bench)]
        rows = run(
            [case for case in cases if match in f"{case.program} {case.traffic}"], bench, rounds, console
        )
    result: dict[str, Any] = {"machine": machine.describe(), "rounds": rounds, "skipped": bench.skipped}
    report.show(rows, result, console)
    if json_path is not None:
        json_path.write_text(
            json.dumps(result | {"rows": [report.record(row) for row in rows]}, indent=1) + "\n"
        )
    if write:
        page.write(rows, result)


def run(cases: list[Case], bench: Bench, rounds: int, console: Console) -> list[Row]:
    """Hold the contest of each case."""
    rows: list[Row] = []
    slice_ns = 1_000_000 if bench.quick else 4_000_000
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(cases))
        for number, case in enumerate(cases, 1):
            title = f"{case.suite}: {case.program}, {case.traffic}"
            progress.update(task, description=title)
            if not console.is_terminal:
                print(f"{number}/{len(cases)} {title}", file=sys.stderr)
            with bench.optional(title):
                rows += [
                    Row(case.suite, case.program, case.traffic, *result)
                    for result in hold(case.build(), rounds, slice_ns)
                ]
            progress.advance(task)
    return rows


if __name__ == "__main__":
    main()
