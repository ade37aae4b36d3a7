"""``pybpf run``: a program over a capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import click

from pybpf.cli import options
from pybpf.cli.files import blaming, choose_one, read_object
from pybpf.cli.judge import accepted, judge
from pybpf.cli.output import complain
from pybpf.instruction import ByteOrder

if TYPE_CHECKING:
    from pybpf.cli.execute import Outcome
    from pybpf.packets import PacketBatch
    from pybpf.program_types import ProgramType
    from pybpf.runtime import EngineName

_PASSING: Final = ("match", "PASS")
"""The verdicts that let packets through, of all program types."""


@click.command(
    short_help="Run a program over a capture.",
    **options.examples(
        "pybpf run firewall.o --pcap traffic.pcap",
        "pybpf run firewall.o ingress --pcap traffic.pcapng --maps",
        "pybpf run nat.o --pcap in.pcap --write out.pcap --verdict TX",
        "pybpf run limiter.o --pcap traffic.pcap --clock capture",
        "pybpf run firewall.o --pcap traffic.pcap --repeat 1000",
    ),
)
@options.file
@options.program
@click.option(
    "--pcap",
    "capture",
    metavar="CAPTURE",
    required=True,
    type=click.Path(),
    help="The packets: pcap or pcapng, or either with gzip.",
)
@options.type_
@options.btf
@options.byteorder
@click.option("--maps", is_flag=True, help="Print what the maps hold in the end.")
@click.option(
    "--write",
    "target",
    metavar="FILE",
    type=click.Path(),
    help="Write the packets that matched or passed to a capture.",
)
@click.option(
    "--verdict",
    "verdicts",
    metavar="NAME",
    multiple=True,
    help="Write the packets of this verdict, or number, instead; may be repeated.",
)
@click.option(
    "--engine",
    type=click.Choice(["jit", "interpreter"]),
    default="jit",
    show_default=True,
    help="Native code, or the interpreter that checks every step.",
)
@click.option(
    "--clock",
    type=click.Choice(["machine", "capture"]),
    default="machine",
    show_default=True,
    help="What time it is for the program.",
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Go through the capture N times; maps are kept.",
)
@click.option(
    "--budget",
    metavar="N",
    type=click.IntRange(min=1),
    help="Instructions that a packet may take.",
)
@click.option("--truncated", is_flag=True, help="Accept a capture that ends in the middle of a packet.")
@options.format_
def command(
    file: str,
    name: str | None,
    capture: str,
    type: str | None,
    btf: str | None,
    byteorder: ByteOrder | None,
    maps: bool,
    target: str | None,
    verdicts: tuple[str, ...],
    engine: EngineName,
    clock: str,
    repeat: int,
    budget: int | None,
    truncated: bool,
    format: str,
) -> None:
    """Verify a program, compile it, and run it over the packets of a capture.

    PROGRAM may be left out where FILE holds one. Shows how many packets got which verdict, and how many packets a second that is:
    for execution alone, and with everything that comes before. The exit status says that the program ran, not what its verdicts were.
    """
    from pybpf.cli.execute import CaptureClock, run_packets, run_rounds
    from pybpf.cli.report import Report, Times, print_report
    from pybpf.packets import read_pcap
    from pybpf.runtime import instantiate

    if verdicts and target is None:
        raise click.UsageError("--verdict says which packets to write: it needs --write FILE")
    times = Times()
    with times.stage("load"):
        object = read_object(file, type, btf, byteorder)
        program = choose_one(file, object, name)
    with times.stage("verify"):
        judgement = judge(program)
    verified = accepted(file, judgement)
    chosen = _choice(verified.type, verdicts) if target is not None else None
    with times.stage("read"), blaming(capture):
        batch = read_pcap(capture, truncated="keep" if truncated else "error")
    _doubt_link_type(capture, batch)
    capture_clock = CaptureClock() if clock == "capture" else None
    with times.stage("compile" if engine == "jit" else "prepare"), blaming(file):
        instance = instantiate(verified, engine=engine, clock=capture_clock, budget=budget)
    rewrites = target is not None and verified.type.packet_writable
    with blaming(file):
        if capture_clock is not None or rewrites or engine == "interpreter":
            outcome = run_packets(instance, batch, repeat, clock=capture_clock, keep=rewrites)
        else:
            outcome = run_rounds(instance, batch, repeat)
    times.seconds["execute"] = outcome.seconds
    written = None
    if target is not None and chosen is not None:
        written = _write(target, batch, outcome, chosen)
    report = Report(instance, object.btf, capture, batch, engine, repeat, outcome, times, target, written)
    print_report(report, maps=maps, json=format == "json")


def _choice(type: ProgramType, given: Sequence[str]) -> Callable[[int], bool]:
    """Which results are to be written: those of the given names or numbers, by default what lets packets through."""
    names = sorted(set(type.verdicts.values()))
    wanted = [verdict for verdict in given or _PASSING if given or verdict in names]
    if not wanted:
        raise click.UsageError(
            f"no verdict of program type {type.name!r} lets packets through: choose with --verdict"
        )
    for verdict in wanted:
        if verdict.lower() not in (name.lower() for name in names) and not _is_number(verdict):
            raise click.UsageError(
                f"no verdict {verdict!r} of program type {type.name!r}: it has {', '.join(names)}"
            )
    lower = {verdict.lower() for verdict in wanted}
    numbers = {int(verdict, 0) for verdict in wanted if _is_number(verdict)}
    return lambda value: type.verdict(value).lower() in lower or value in numbers


def _is_number(text: str) -> bool:
    try:
        return int(text, 0) >= 0
    except ValueError:
        return False


def _doubt_link_type(capture: str, batch: PacketBatch) -> None:
    from pybpf.packets import LINKTYPE_ETHERNET

    if len(batch) and batch.link_type != LINKTYPE_ETHERNET:
        complain(
            f"note: {capture}: packets of link type {batch.link_type}, which do not begin with an Ethernet header"
        )


def _write(target: str, batch: PacketBatch, outcome: Outcome, chosen: Callable[[int], bool]) -> int:
    """Write packets as the program left them. How many they are."""
    import numpy as np

    from pybpf.packets import write_pcap

    values = {value: chosen(value) for value in outcome.counts}
    mask = np.array([values[value] for value in outcome.values.tolist()], np.bool_)
    with blaming(target):
        write_pcap(target, outcome.rewritten(batch)[mask])
    return int(mask.sum())
