"""What `run` prints: verdicts, rates, maps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pybpf.btf import Btf
from pybpf.cli.contents import Contents, as_json, contents, print_contents
from pybpf.cli.execute import Outcome
from pybpf.cli.output import Figure, print_json, print_table, printable, say
from pybpf.runtime import EngineName, Instance

if TYPE_CHECKING:
    from pybpf.packets import PacketBatch

_VALUES_SHOWN: Final = 20


@dataclass(slots=True)
class Times:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    @property
    def total(self) -> float:
        """All stages."""
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Report:
    """All there is to say about a run. `written` packets went to `target`, None where nothing was to be written."""

    instance: Instance
    btf: Btf | None
    capture: str
    batch: PacketBatch
    engine: EngineName
    rounds: int
    outcome: Outcome
    times: Times
    target: str | None
    written: int | None

    @property
    def packets(self) -> int:
        """Packets that were run, all rounds together."""
        return len(self.batch) * self.rounds

    def rate(self, seconds: float) -> float | None:
        """Packets per second."""
        return self.packets / seconds if self.packets and seconds else None

    def maps(self) -> list[Contents]:
        """The maps that can have changed."""
        return [
            contents(map, self.btf)
            for map in self.instance.maps.values()
            if not (map.spec.read_only and map.spec.initial is not None)
        ]


def print_report(report: Report, *, maps: bool, json: bool) -> None:
    """Print a report for people or as JSON; with `maps` what the maps hold."""
    if json:
        print_json(_as_json(report, maps))
        return
    _print_heading(report)
    _print_verdicts(report)
    _print_rates(report)
    if report.target is not None:
        say(f"\n{report.written:,} packets written to {printable(report.target)}")
    for read in report.maps() if maps else ():
        say()
        print_contents(read)


def _print_heading(report: Report) -> None:
    program, type_ = report.instance.verified.program, report.instance.verified.type
    rounds = f", {report.rounds:,} times" if report.rounds > 1 else ""
    say(
        f"{printable(program.name)} ({type_.name}): verified, {len(program.code)} instructions, {report.engine}",
        bold=True,
    )
    say(f"{printable(report.capture)}: {len(report.batch):,} packets{rounds}\n")


def _print_verdicts(report: Report) -> None:
    type_, counts = report.instance.verified.type, report.outcome.counts.most_common()
    rows = [
        (
            type_.verdict(value),
            value,
            Figure(f"{count:,}"),
            Figure(f"{100 * count / report.packets:.1f} %"),
        )
        for value, count in counts[:_VALUES_SHOWN]
    ]
    if not rows:
        say("no packets")
        return
    print_table(("verdict", "r0", "packets", "share"), rows)
    if len(counts) > _VALUES_SHOWN:
        rest = sum(count for _, count in counts[_VALUES_SHOWN:])
        say(f"and {len(counts) - _VALUES_SHOWN:,} more values of r0, for {rest:,} packets", dim=True)


def _print_rates(report: Report) -> None:
    execute, total = report.outcome.seconds, report.times.total
    if not report.packets:
        return
    stages = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in report.times.seconds.items())
    say()
    say(f"execution  {_rate(report.rate(execute)):>16}   {execute / report.packets * 1e9:,.0f} ns a packet")
    say(f"overall    {_rate(report.rate(total)):>16}   {_seconds(total)}: {stages}")


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f} packets/s"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _as_json(report: Report, maps: bool) -> dict[str, Any]:
    program, type_ = report.instance.verified.program, report.instance.verified.type
    fields: dict[str, Any] = {
        "program": program.name,
        "section": program.section,
        "type": type_.name,
        "engine": report.engine,
        "capture": report.capture,
        "packets": len(report.batch),
        "repeat": report.rounds,
        "verdicts": [
            {"verdict": type_.verdict(value), "value": value, "packets": count}
            for value, count in report.outcome.counts.most_common()
        ],
        "seconds": report.times.seconds,
        "packets_per_second": {
            "execution": report.rate(report.outcome.seconds),
            "overall": report.rate(report.times.total),
        },
        "written": report.written,
    }
    return fields | ({"maps": [as_json(read) for read in report.maps()]} if maps else {})
