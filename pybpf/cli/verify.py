"""``pybpf verify``: which programs are safe, and why the others are not known to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final

import click

from pybpf.cli import options
from pybpf.cli.files import choose, choose_one, read_object, write_bytes
from pybpf.cli.judge import STATUS, Judgement, Row, judge
from pybpf.cli.output import Progress, print_json, printable, say
from pybpf.cli.status import worst
from pybpf.errors import VerifierError
from pybpf.instruction import ByteOrder
from pybpf.program import SourceLine
from pybpf.verifier.explain import Explanation, Step

_COLOUR: Final = {
    "accepted": "green",
    "rejected": "red",
    "budget": "red",
    "unproved": "red",
    "unsupported": "yellow",
}


@click.command(
    short_help="Prove that programs are safe, or say why not.",
    **options.examples(
        "pybpf verify firewall.o                   every program of the object",
        "pybpf verify -v firewall.o ingress        one, with the whole story of a rejection",
        "pybpf verify --type xdp program.bpf       assembler text",
        "pybpf verify --facts firewall.o ingress   what was proved",
        "pybpf verify --format json firewall.o     for scripts",
        "pybpf verify --certificate fw.cert fw.o   with the proof, for pybpf check",
    ),
)
@options.file
@options.program
@options.type_
@options.btf
@options.byteorder
@options.isa
@options.policy
@options.format_
@click.option("--facts", is_flag=True, help="Say what was proved of accepted programs.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Explain rejections: registers, and the path in lines of C."
)
@click.option(
    "--certificate", metavar="FILE", type=click.Path(), help="Write the proof of a program for 'pybpf check'."
)
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    name: str | None,
    type: str | None,
    btf: str | None,
    byteorder: ByteOrder | None,
    isa: str | None,
    policy: dict[str, int],
    format: str,
    facts: bool,
    verbose: bool,
    certificate: str | None,
) -> None:
    """Prove that programs are safe to run, or say why that cannot be done.

    Without PROGRAM, every program of FILE is verified: a line each, and a summary. The exit status is 1 if one is rejected
    (or so large that the verifier gave up), otherwise 3 if one uses something that pybpf does not know, otherwise 0.
    """
    object = read_object(file, type, btf, byteorder)
    programs = choose(file, object, name) if certificate is None else [choose_one(file, object, name)]
    if isa is not None:
        policy["isa"] = int(isa.removeprefix("v"))
    judgements: list[Judgement] = []
    with Progress("verifying", len(programs)) as progress:
        for program in programs:
            progress.show(len(judgements), program.name)
            judgements.append(judge(program, policy, certify=certificate is not None))
            if format == "text":
                progress.clear()
                print_judgement(judgements[-1], story=verbose or len(programs) == 1, verbose=verbose)
                if facts and judgements[-1].verified is not None:
                    from pybpf.cli import facts as what_is_proved

                    for line in what_is_proved.lines(judgements[-1].verified):
                        say(f"  {printable(line)}")
    if certificate is not None and (proved := judgements[0].verified) is not None:
        assert proved.certificate is not None, "asked for"
        write_bytes(certificate, proved.certificate.to_bytes())
    rows = [judgement.row for judgement in judgements]
    if format == "json":
        print_json([_data(judgement, facts=facts) for judgement in judgements])
    elif len(rows) > 1:
        _print_summary(rows, verbose)
    ctx.exit(worst(STATUS[row.verdict] for row in rows))


def _data(judgement: Judgement, *, facts: bool) -> dict[str, Any]:
    """An object of the JSON output."""
    out = asdict(judgement.row)
    if facts:
        verified = judgement.verified
        from pybpf.cli import facts as what_is_proved

        out["facts"] = what_is_proved.data(verified) if verified is not None else None
    return out


def print_judgement(judgement: Judgement, *, story: bool, verbose: bool) -> None:
    """A line for a program; `story`: the lines below that say why it was rejected."""
    row = judgement.row
    verdict = click.style(f"{row.verdict:<12}", fg=_COLOUR[row.verdict], bold=True)
    say(
        f"{verdict}{printable(row.program)} ({printable(row.type or 'no type')}): {printable(_said(judgement))}"
    )
    if story and isinstance(judgement.error, VerifierError):
        for line in _story(judgement.error, verbose):
            say(f"  {printable(line)}".rstrip())


def _said(judgement: Judgement) -> str:
    """What a line says of a program, behind its verdict and name."""
    row, error = judgement.row, judgement.error
    if error is None:
        return f"{row.instructions} instructions, {row.explored} explored in {row.seconds:.3f} s"
    place = [f"{row.file}:{row.line}"] if row.file else []
    place += [f"pc {row.pc}"] if row.pc is not None else []
    reason = f" [{row.reason}]" if row.verdict in ("rejected", "budget") else ""
    return ": ".join([*place, f"{row.message}{reason}"])


def _story(error: VerifierError, verbose: bool) -> Iterator[str]:
    """The lines to blame, what is known and what is needed; with `verbose` how the program got there."""
    yield ""
    if error.source is not None:
        yield from _excerpt(error.source)
    if error.pc is not None:
        yield f"pc {error.pc}:  {error.instruction}"
    explanation = error.explanation
    if explanation is None:
        return
    yield ""
    yield from _labelled("needed", explanation.needed)
    yield from _labelled("known", explanation.known)
    if verbose:
        yield from _labelled("registers", *explanation.registers)
        yield from _labelled(
            "path" if explanation.definite else "path (joined with others)", *_path(explanation)
        )
    yield from _labelled("try", explanation.hint)


def _excerpt(source: SourceLine) -> Iterator[str]:
    yield f"{source.file}:{source.line}"
    if text := source.text.strip():
        yield f"    {text}"


def _labelled(label: str, *lines: str) -> Iterator[str]:
    """A label with one line behind it or several below it; nothing without lines."""
    if len(lines) > 1:
        yield f"{label}:"
        yield from (f"    {line}" for line in lines)
    elif any(lines):
        yield f"{label + ':':<8} {lines[0]}"


def _path(explanation: Explanation) -> Iterator[str]:
    """The way to the failure, a line for each line of source."""
    for _, group in groupby(explanation.path, key=_place):
        steps = list(group)
        first, last = steps[0], steps[-1]
        pcs = f"pc {first.pc}" if first is last else f"pc {first.pc} to {last.pc}"
        if first.source is not None:
            pcs = f"{pcs:<14}{first.source.file}:{first.source.line}  {first.source.text.strip()}"
        yield pcs


def _place(step: Step) -> tuple[str, int]:
    return (step.source.file, step.source.line) if step.source is not None else ("", step.pc)


def _print_summary(rows: Sequence[Row], verbose: bool) -> None:
    counts = Counter(row.verdict for row in rows)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _COLOUR if counts[verdict])
    seconds = sum(row.seconds for row in rows)
    say(f"{len(rows)} programs: {said} in {seconds:.3f} s")
    if counts["rejected"] and not verbose:
        say("(-v explains the rejections)", dim=True)
