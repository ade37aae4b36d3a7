"""``pybpf asm``: text to bytecode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

import click

from pybpf.asm import assemble
from pybpf.cli import options
from pybpf.cli.files import ASSEMBLER, BYTECODE, blaming, read_text
from pybpf.cli.output import printable, say
from pybpf.cli.status import Failure, Status
from pybpf.instruction import SLOT, Instruction, encode
from pybpf.isa import Kind
from pybpf.program import Program, RefKind
from pybpf.syntax import Syntax


@click.command(
    short_help="Assemble text to bytecode.",
    **options.examples(
        "pybpf asm filter.bpf                  writes filter.bin",
        "pybpf asm filter.bpf -o code --type xdp",
        "echo 'r0 = 1; exit' | tr ';' '\\n' | pybpf asm - -o accept.bin",
    ),
)
@options.file
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Where to write; FILE with .bin unless given.",
)
@options.type_
@click.option(
    "--syntax",
    type=click.Choice(["pseudo-c", "mnemonic"]),
    default="pseudo-c",
    show_default=True,
    help="As clang and llvm-objdump write, or as binutils and uBPF do.",
)
def command(file: str, output: str | None, type: str | None, syntax: Syntax) -> None:
    """Assemble text to bytecode: 8 bytes a slot, little-endian unless the text says .byteorder big, without a container.

    Bytecode holds no maps: an instruction that loads the address of a map keeps the map's number, counted in the order in which the
    text first refers to them.
    """
    target = output or _beside(file)
    with blaming(file):
        program = assemble(read_text(file), type=type, name=PurePath(file).stem, syntax=syntax)
        code = encode(
            [_numbered(program, pc, instruction) for pc, instruction in program.code.items()],
            program.byteorder,
        )
    with blaming(target), click.open_file(target, "wb") as stream:
        stream.write(code)
    if target != "-":
        say(
            f"{printable(click.format_filename(target))}: {len(code)} bytes, {len(code) // SLOT} slots, "
            f"{len(program.code)} instructions"
        )


def _beside(file: str) -> str:
    path = PurePath(file)
    if file == "-" or path.suffix == BYTECODE:
        raise click.UsageError("say where to write, with -o FILE")
    return str(
        path.with_suffix(BYTECODE) if path.suffix == ASSEMBLER else path.with_name(path.name + BYTECODE)
    )


def _numbered(program: Program, pc: int, instruction: Instruction) -> Instruction:
    """The instruction with numbers in place of names."""
    reference = program.references.get(pc)
    if reference is None or reference.kind is RefKind.FUNCTION:
        return instruction
    if reference.kind is RefKind.HELPER:
        raise Failure(
            f"pc {pc} calls {reference.name!r}: whose number depends on the program type: say .type or --type",
            Status.BAD_INPUT,
        )
    assert instruction.op.kind is Kind.LOAD_IMM64
    number = program.map_number(reference.name)
    return replace(instruction, imm=instruction.imm & ~0xFFFF_FFFF | number)
