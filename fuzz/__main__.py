"""``python -m fuzz``: campaigns from the command line."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fuzz import corpus as cases
from fuzz import kernel
from fuzz.campaign import Report, campaign
from fuzz.properties import COSTLY, PROPERTIES
from fuzz.recipe import SOURCES
from pybpf.jit.cache import VARIABLE as CACHE

EVERY: float = 30.0
"""Seconds between two lines of progress where there is no terminal."""


@click.command()
@click.option("--seconds", type=float, help="Stop after so many seconds.")
@click.option("--count", type=int, help="Stop after so many programs.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed and count give the same programs."
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes.")
@click.option(
    "--property",
    "names",
    multiple=True,
    type=click.Choice([*PROPERTIES, "all"]),
    default=["all"],
    show_default=True,
    help="What to check; may be given several times. All is everything that this machine can check.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help=f"Check the costly properties ({', '.join(COSTLY)}) for one program in so many.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Choice([*SOURCES, "all"]),
    default=["generated"],
    show_default=True,
    help="Generated programs, mutants of them, mutants of compiled (real) programs.",
)
@click.option(
    "--corpus",
    type=click.Path(file_okay=False, path_type=Path),
    default=cases.FOLDER,
    help="Where findings are saved.",
)
@click.option("--grow", is_flag=True, help="Save cases that show what none in the corpus shows, too.")
def main(
    seconds: float | None,
    count: int | None,
    seed: int,
    jobs: int,
    names: tuple[str, ...],
    every: int,
    sources: tuple[str, ...],
    corpus: Path,
    grow: bool,
) -> None:
    """Generate programs and check that what pybpf says of them is true.

    The exit status is 1 if something was found; what was found is saved as assembler text in its smallest form, and the tests
    replay it from then on. An interrupt (Ctrl-C, or SIGTERM) ends a campaign after the batches that are under way.
    """
    if seconds is None and count is None:
        raise click.UsageError("say when to stop: --seconds or --count")
    os.environ.setdefault(CACHE, "off")  # no program is compiled a second time
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(highlight=False)
    chosen = _properties(names, console)
    with tempfile.TemporaryDirectory() as scratch, _Display(console, corpus, seconds, count) as display:
        report = campaign(
            list(SOURCES) if "all" in sources else sources,
            chosen,
            seed=seed,
            jobs=jobs,
            programs=count,
            seconds=seconds,
            scratch=Path(scratch),
            progress=display.show,
            stopped=stop.is_set,
            every=every,
            known=cases.known(corpus) if grow else None,
        )
    for line in report.statistics.report():
        console.print(line, markup=False)
    sys.exit(1 if report.findings else 0)


def _properties(names: tuple[str, ...], console: Console) -> list[str]:
    if "all" not in names:
        return list(names)
    reason = kernel.available()
    if reason is not None:
        console.print(f"not asking Linux: {reason}", markup=False, style="yellow")
    return [name for name in PROPERTIES if name != "kernel" or reason is None]


class _Display:
    """How far a campaign is: a bar on a terminal, otherwise a line now and then. Findings are saved and told of at once."""

    def __init__(self, console: Console, corpus: Path, seconds: float | None, count: int | None) -> None:
        self._corpus = corpus
        self._told = self._kept = 0
        self._start = self._last = time.monotonic()
        self._seconds = seconds
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("fuzzing", total=count if count is not None else seconds)
        self._counts = count is not None

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, report: Report) -> None:
        """Show the counts so far, and what is new."""
        for finding in report.findings[self._told :]:
            path = cases.save(finding.message.split(":", 1)[0].lower(), finding.text, self._corpus)
            self._console.print(f"found: {finding.message}\nsaved: {path}", markup=False, style="red")
        self._told = len(report.findings)
        for news in report.news[self._kept :]:
            cases.save("kept", news.text, self._corpus)
        self._kept = len(report.news)
        statistics, now = report.statistics, time.monotonic()
        rate = statistics.programs / max(now - self._start, 1e-9)
        text = f"{statistics.programs} programs ({rate:.0f}/s), {statistics.runs} runs, {len(report.findings)} found"
        text += f", {self._kept} kept" if self._kept else ""
        done = statistics.programs if self._counts else now - self._start
        self._bar.update(self._task, completed=done, description=text)
        if not self._console.is_terminal and now - self._last > EVERY:
            self._last = now
            self._console.print(text, markup=False)


if __name__ == "__main__":
    main()
