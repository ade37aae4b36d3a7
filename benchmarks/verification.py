"""``python -m benchmarks.verification OBJECT...``: how long verification takes, beside what Linux's verifier takes for the same program.

Each program has its turn with both, in one run on one machine: processor time of pybpf, and the time that Linux measures itself.
Linux counts only as root, and only what it accepts; of maps it gets the sizes of keys and values and fewer entries.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pybpf import BpfError, Program, load, program_types, verify
from tests import linux

ENTRIES = 1024
"""More entries than this a map of Linux's does not get: memory is no part of what is measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One program: the medians of its turns in seconds, None where Linux does not accept it."""

    file: str
    program: str
    instructions: int
    verdict: str
    seconds: float
    linux: float | None


def programs(paths: Iterable[Path], type_: str | None) -> Iterator[tuple[Path, Program]]:
    """The programs of objects, those of a directory too, with a type; what has none is taken to be `type_`, if that is given."""
    files = [file for path in paths for file in (sorted(path.rglob("*.o")) if path.is_dir() else [path])]
    for file in files:
        try:
            obj = load(file)
        except BpfError:
            continue
        for program in obj.programs.values():
            wanted = program.type or type_
            if wanted is not None and program.defect is None:
                named = program_types.get(wanted) if isinstance(wanted, str) else wanted
                yield file, replace(program, type=named.at(program.section))


def measured(file: Path, program: Program, rounds: int) -> Row:
    """Both have their turns, one after the other."""
    ours, theirs, verdict = [], [], "accepted"
    small = replace(
        program,
        maps=tuple(replace(spec, max_entries=min(spec.max_entries, ENTRIES)) for spec in program.maps),
    )
    for _ in range(rounds):
        start = time.process_time()
        try:
            verify(program)
        except BpfError as error:
            verdict = getattr(error, "reason", type(error).__name__)
        ours.append(time.process_time() - start)
        try:
            theirs.append(linux.seconds(small, program.section) if linux.unavailable() is None else None)
        except (OSError, KeyError):
            theirs.append(None)
    accepted = [each for each in theirs if each is not None]
    median = statistics.median(accepted) if accepted else None
    return Row(file.name, program.name, program.size, verdict, statistics.median(ours), median)


def summary(rows: list[Row]) -> dict[str, float | int]:
    """The figures of a run; sums and ratio are of the programs that Linux accepts, where it can be asked."""
    both = [row for row in rows if row.linux is not None]
    result: dict[str, float | int] = {
        "programs": len(rows),
        "accepted": sum(row.verdict == "accepted" for row in rows),
        "accepted by Linux": len(both),
        "accepted by both": sum(row.verdict == "accepted" for row in both),
        "seconds": round(sum(row.seconds for row in both or rows), 3),
        "median ms": round(1e3 * statistics.median(row.seconds for row in both or rows), 2),
        "slowest s": round(max(row.seconds for row in both or rows), 3),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if both:
        linux_seconds = sum(row.linux or 0 for row in both)
        result |= {
            "seconds of Linux": round(linux_seconds, 3),
            "ratio": round(result["seconds"] / linux_seconds, 2),
        }
    return result


@click.command()
@click.argument("objects", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--type", "type_", help="The type of programs whose section does not say it.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Turns of each program.")
@click.option("--slowest", type=click.IntRange(0), default=15, show_default=True, help="Rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Every row, and the summary, as JSON.")
def main(objects: tuple[Path, ...], type_: str | None, repeat: int, slowest: int, as_json: bool) -> None:
    """Verify the programs of OBJECTS (files, or directories of them), Linux in turns with pybpf."""
    found = list(programs(objects, type_))
    if not found:
        raise click.UsageError("no program with a type in these objects: --type gives one")
    console = Console(stderr=True)
    shown = track(found, "verifying", console=console, disable=not console.is_terminal)
    rows = [measured(file, program, repeat) for file, program in shown]
    figures = summary(rows)
    if as_json:
        json.dump({"rows": [asdict(row) for row in rows], **figures}, sys.stdout, indent=1)
        return
    table = Table("object", "program", "instructions", "verdict", "pybpf ms", "Linux ms", "ratio")
    for row in sorted(rows, key=lambda row: -row.seconds)[:slowest]:
        known = row.linux is not None
        table.add_row(
            row.file,
            row.program,
            f"{row.instructions:,}",
            row.verdict,
            f"{1e3 * row.seconds:.1f}",
            f"{1e3 * row.linux:.1f}" if row.linux is not None else "",
            f"{row.seconds / row.linux:.1f}" if known and row.linux else "",
        )
    out = Console(width=None if sys.stdout.isatty() else 120)
    out.print(table)
    for name, figure in figures.items():
        out.print(f"{name:18} {figure}")


if __name__ == "__main__":
    main()
