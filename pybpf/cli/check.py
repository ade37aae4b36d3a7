"""``pybpf check``: whether a certificate proves a program."""

from __future__ import annotations

from dataclasses import asdict

import click

from pybpf.cli import options
from pybpf.cli.files import blaming, choose_one, read_bytes, read_object
from pybpf.cli.judge import STATUS, judge
from pybpf.cli.output import print_json
from pybpf.cli.verify import print_judgement
from pybpf.instruction import ByteOrder


@click.command(
    short_help="Prove a program by its certificate.",
    **options.examples(
        "pybpf verify --certificate firewall.cert firewall.o",
        "pybpf check firewall.o firewall.cert",
    ),
)
@options.file
@click.argument("certificate", metavar="CERTIFICATE", type=click.Path(allow_dash=True))
@options.program
@options.type_
@options.btf
@options.byteorder
@options.policy
@options.format_
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    certificate: str,
    name: str | None,
    type: str | None,
    btf: str | None,
    byteorder: ByteOrder | None,
    policy: dict[str, int],
    format: str,
) -> None:
    """Prove a program of FILE by the CERTIFICATE that pybpf verify made of it, without searching for the proof.

    The exit status is 1 if the certificate does not prove the program: it may be safe all the same. Nothing in the certificate is
    taken on trust. Type and policy have to be those that it was made for.
    """
    from pybpf.verifier.certificate import Certificate

    program = choose_one(file, read_object(file, type, btf, byteorder), name)
    with blaming(certificate):
        read = Certificate.from_bytes(read_bytes(certificate))
    judgement = judge(program, policy, certificate=read)
    if format == "json":
        print_json(asdict(judgement.row))
    else:
        print_judgement(judgement, story=True, verbose=False)
    ctx.exit(STATUS[judgement.row.verdict])
