"""``python -m mutation``: break the verifier, place by place, and list what no test notices."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import click
import pytest

from mutation import explained, tests
from mutation.mutants import Mutant, mutants
from mutation.tests import Reached, Result

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ROOT / "pybpf" / "verifier"
STATE: Final = ROOT / ".mutation"
TESTS: Final = ("tests/verifier", "tests/test_subprograms.py")
NOT_RUN: Final = ("test_domain_faults.py", "test_corpus.py")
"""Tests that compile sources of their own, or take minutes each. Proofs are not run either."""


@click.command()
@click.argument("patterns", nargs=-1)
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes.")
@click.option(
    "--budget", type=float, default=20.0, show_default=True, help="Processor seconds of tests for a mutant."
)
@click.option("--sample", type=int, help="Only so many mutants, chosen at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample.")
@click.option("--test", "paths", multiple=True, default=TESTS, show_default=True, help="Files of tests.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=STATE,
    show_default=True,
    help="Where results are kept.",
)
@click.option("--quick", is_flag=True, help="Without the tests marked slow.")
@click.option("--again", is_flag=True, help="Try again what survived before.")
@click.option("--list", "only_list", is_flag=True, help="List the mutants and stop.")
def main(
    patterns: tuple[str, ...],
    jobs: int,
    budget: float,
    sample: int | None,
    seed: int,
    paths: tuple[str, ...],
    state: Path,
    quick: bool,
    again: bool,
    only_list: bool,
) -> None:
    """Break each place that PATTERNS name ("view.*", "prove.Prover._stack: *") and run the tests that reach it.

    A run that was stopped goes on where it was. The exit status is 1 if a mutant survived that explained.txt does not explain.
    """
    everything = [mutant for path in sorted(SOURCES.glob("*.py")) for mutant in mutants(path)]
    chosen = [m for m in everything if any(fnmatchcase(m.key, p) for p in patterns or ("*",))]
    if sample is not None:
        chosen = random.Random(seed).sample(chosen, min(sample, len(chosen)))
    if only_list:
        for mutant in chosen:
            click.echo(mutant.key)
        return
    reasons = explained.read()
    state.mkdir(exist_ok=True)
    run = _Run(chosen, reasons, state, jobs, budget, quick, again)
    status = tests.with_tests(list(paths), run)
    for key in reasons.stale(mutant.key for mutant in everything):
        click.echo(f"explained, but no mutant: {key}")
        status = 1
    raise SystemExit(status)


class _Run:
    """Tries mutants with the tests of a session."""

    def __init__(
        self,
        chosen: list[Mutant],
        reasons: explained.Explained,
        state: Path,
        jobs: int,
        budget: float,
        quick: bool,
        again: bool,
    ) -> None:
        self.chosen = chosen
        self.reasons = reasons
        self.state = state
        self.jobs = jobs
        self.budget = budget
        self.quick = quick
        self.noticed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Function, module, or nothing -> the tests that noticed mutants there, in this run or before: tried first."""
        self.rarity: dict[str, dict[str, float]] = {}
        """Module -> test -> how many lines of the module are its own; a line of two tests is half a line of each."""
        self.results = self._kept(again)

    def _kept(self, again: bool) -> dict[str, Result]:
        """Results of earlier runs, of functions that have not changed since."""
        digests = {mutant.key: mutant.digest for mutant in self.chosen}
        kept: dict[str, Result] = {}
        file = self.state / "results.jsonl"
        for line in file.read_text().splitlines() if file.exists() else ():
            result = Result(**json.loads(line))
            self._note(result)
            if digests.get(result.key) == result.digest:
                kept[result.key] = result
        return {key: result for key, result in kept.items() if result.verdict == "caught" or not again}

    def __call__(self, collected: list[pytest.Item]) -> int:
        items = {
            item.nodeid: item
            for item in collected
            if item.path.name not in NOT_RUN
            and not item.get_closest_marker("proof")
            and not (self.quick and item.get_closest_marker("slow"))
        }
        reached = tests.reach(
            list(items.values()), SOURCES, self.state / "reach.json", self.jobs, self._measured
        )
        for name in [name for name, entry in reached.items() if not entry.passed]:
            click.echo(f"fails with nothing broken, not used: {name}")
            del reached[name]
        left = [mutant for mutant in self.chosen if mutant.key not in self.results]
        click.echo(f"{len(self.chosen)} mutants, {len(left)} to try, {len(reached)} tests")
        begin = time.monotonic()

        def work(mutant: Mutant, out: Path) -> None:
            names = self._order(mutant, reached)
            costs = [reached[name].seconds for name in names]
            tests.trial(mutant, [items[name] for name in names], costs, self.budget, out)

        with (self.state / "results.jsonl").open("a") as file:
            for done, (mutant, out) in enumerate(tests.forked(self.state, self.jobs, left, work), 1):
                result = (
                    Result(**out) if out else Result(mutant.key, mutant.digest, "caught", "the process died")
                )
                if result.verdict == "survived" and not result.run:
                    result.verdict = "unreached"
                self._note(result)
                self.results[mutant.key] = result
                file.write(json.dumps(vars_of(result)) + "\n")
                file.flush()
                if result.verdict != "caught" and self.reasons.reason(mutant.key) is None:
                    click.echo(_line(mutant, result))
                if done % 100 == 0:
                    click.echo(f"{done}/{len(left)} in {time.monotonic() - begin:.0f} s")
        return self._report()

    @staticmethod
    def _measured(count: int) -> None:
        if count % (10 * tests.BATCH) == 0:
            click.echo(f"{count} tests measured")

    def _note(self, result: Result) -> None:
        if result.verdict == "caught":
            for part in _parts(result.key):
                self.noticed[part][result.by] += 1

    def _order(self, mutant: Mutant, reached: dict[str, Reached]) -> list[str]:
        """The tests that reach a mutant, the most promising for their time first.

        Promising are those that noticed other mutants of its function, of its module, or any; and those that reach lines of its module
        that few tests do.
        """
        lines, module = mutant.lines, mutant.path.stem
        if module not in self.rarity:
            self.rarity[module] = _rarity({n: entry.lines.get(module, []) for n, entry in reached.items()})
        rarity = self.rarity[module]
        here, near, anywhere = (self.noticed[part] for part in _parts(mutant.key))

        def promise(name: str) -> float:
            noticed = here[name] + near[name] / 4 + anywhere[name] / 16
            return (noticed + rarity[name]) / (reached[name].seconds + 0.005)

        names = [name for name, entry in reached.items() if lines & set(entry.lines.get(module, ()))]
        return sorted(names, key=promise, reverse=True)

    def _report(self) -> int:
        """The figures, and what nobody explains."""
        mine = [(mutant, self.results[mutant.key]) for mutant in self.chosen]
        counts = Counter(result.verdict for _, result in mine)
        click.echo(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
        open_ = [
            (mutant, result)
            for mutant, result in mine
            if result.verdict != "caught" and self.reasons.reason(mutant.key) is None
        ]
        click.echo(f"{len(open_)} neither caught nor explained")
        for mutant, result in open_:
            click.echo("  " + _line(mutant, result))
        return 1 if open_ else 0


def vars_of(result: Result) -> dict[str, object]:
    """A result as JSON has it."""
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}


def _parts(key: str) -> tuple[str, str, str]:
    """The function of a mutant, its module, and all there is."""
    function = key.partition(": ")[0]
    return function, function.partition(".")[0], ""


def _rarity(lines: dict[str, list[int]]) -> dict[str, float]:
    count = Counter(line for some in lines.values() for line in some)
    return {name: sum(1 / count[line] for line in some) for name, some in lines.items()}


def _line(mutant: Mutant, result: Result) -> str:
    tests_ = f"{result.run} tests" + (f", {result.left} not run" if result.left else "")
    return f"{result.verdict} ({tests_}) line {min(mutant.lines)}: {mutant.key}"


if __name__ == "__main__":
    main()
