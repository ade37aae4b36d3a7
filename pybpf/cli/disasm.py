"""``pybpf disasm``: programs as text."""

from __future__ import annotations

import click

from pybpf.asm import disassemble
from pybpf.cli import options
from pybpf.cli.files import blaming, choose, read_object
from pybpf.cli.output import printable, say
from pybpf.instruction import ByteOrder
from pybpf.syntax import Syntax


@click.command(
    short_help="Print programs as text, with lines of C.",
    **options.examples(
        "pybpf disasm firewall.o                             every program",
        "pybpf disasm --pcs --encoding firewall.o ingress    one, with slot numbers and bytes",
        "pybpf disasm firewall.o ingress > ingress.bpf       text that pybpf asm reads",
    ),
)
@options.file
@options.program
@options.type_
@options.btf
@options.byteorder
@click.option(
    "--source/--no-source", default=True, show_default=True, help="Lines of C, where FILE has them."
)
@click.option("--pcs", is_flag=True, help="The slot number before each instruction.")
@click.option("--encoding", is_flag=True, help="The bytes of each instruction.")
@click.option(
    "--syntax",
    type=click.Choice(["pseudo-c", "mnemonic"]),
    default="pseudo-c",
    show_default=True,
    help="As clang and llvm-objdump write, or as binutils and uBPF do.",
)
def command(
    file: str,
    name: str | None,
    type: str | None,
    btf: str | None,
    byteorder: ByteOrder | None,
    source: bool,
    pcs: bool,
    encoding: bool,
    syntax: Syntax,
) -> None:
    """Print programs as assembler text, with the lines of C that they come from."""
    programs = choose(file, read_object(file, type, btf, byteorder), name)
    for number, program in enumerate(programs):
        if number:
            say()
        if len(programs) > 1:
            _print_line(f"; program {program.name}, section {program.section}")
        with blaming(file):
            text = disassemble(program, source=source, pcs=pcs, encoding=encoding, syntax=syntax)
        for line in text.splitlines():
            _print_line(line)


def _print_line(line: str) -> None:
    """Comments step back and labels stand out."""
    say(printable(line), dim=line.startswith(";") or None, bold=line.endswith(":") or None)
