"""``pybpf compile``: a program as an object file for C."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pybpf.cli import options
from pybpf.cli.files import blaming, choose_one, read_object
from pybpf.cli.judge import accepted, judge
from pybpf.cli.output import say
from pybpf.instruction import ByteOrder

if TYPE_CHECKING:
    from pybpf.ahead import Form

_FORMS: Final[dict[str, Form]] = {".o": "object", ".so": "object", ".s": "assembly", ".ll": "llvm"}
"""What is written, by what the file is called."""


@click.command(
    short_help="Compile a program for C: object file and header.",
    **options.examples(
        "pybpf compile firewall.o -o fw-native.o            writes fw-native.o and fw-native.h",
        "pybpf compile firewall.o ingress -o libfw.so       a shared library, by cc or ld",
        "pybpf compile router.o -o router-arm.o --target aarch64-linux-gnu",
        "pybpf compile router.o -o router.s --cpu native    assembler text of the processor at hand",
    ),
)
@options.file
@options.program
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(),
    required=True,
    help="Where to write: NAME.o an object file, NAME.so a shared library, NAME.s assembler text, NAME.ll LLVM's.",
)
@click.option(
    "--header",
    metavar="FILE",
    type=click.Path(),
    help="Where to write the C header; OUT with .h unless given.",
)
@click.option(
    "--name", "prefix", metavar="NAME", help="What the names in C begin with; PROGRAM unless given."
)
@click.option(
    "--target",
    metavar="TRIPLE",
    help="Another machine: aarch64-linux-gnu, riscv64-linux-gnu, or what else of 64 bits and little-endian LLVM knows.",
)
@click.option(
    "--cpu",
    metavar="CPU",
    default="generic",
    show_default=True,
    help="The least processor that the code will run on, as LLVM calls it; 'native' is the one at hand.",
)
@click.option("--no-checks", is_flag=True, help="Leave out the bounds checks of what was proved.")
@click.option("--counts", is_flag=True, help="Count instructions, so that each run has a budget.")
@options.type_
@options.btf
@options.byteorder
@options.policy
def command(
    file: str,
    name: str | None,
    output: str,
    header: str | None,
    prefix: str | None,
    target: str | None,
    cpu: str,
    no_checks: bool,
    counts: bool,
    type: str | None,
    btf: str | None,
    byteorder: ByteOrder | None,
    policy: dict[str, int],
) -> None:
    """Verify a program and compile it to an object file that a C program links, with a header that says how.

    The code needs neither pybpf nor Python, of the C library only memcpy and the like, and clock_gettime where the program asks for the time. The caller gives
    memory for maps.
    """
    from pybpf.ahead import compile_object
    from pybpf.ahead.link import link_shared

    path = Path(output)
    form = _FORMS.get(path.suffix)
    if form is None:
        raise click.UsageError(
            f"--output {output!r}: the name says what is written: it ends in {', '.join(_FORMS)}"
        )
    program = choose_one(file, read_object(file, type, btf, byteorder), name)
    verified = accepted(file, judge(program, policy))
    with blaming(file):
        made = compile_object(
            verified, name=prefix, target=target, cpu=cpu, form=form, checks=not no_checks, counts=counts
        )
    header_path = path.with_suffix(".h") if header is None else Path(header)
    with blaming(output):
        if path.suffix == ".so":
            with tempfile.TemporaryDirectory() as directory:
                object_path = Path(directory, "program.o")
                object_path.write_bytes(made.code)
                link_shared(object_path, path, target)
        else:
            path.write_bytes(made.code)
    with blaming(str(header_path)):
        header_path.write_text(made.header)
    size = path.stat().st_size
    say(
        f"{program.name} ({verified.type.name}): verified, {len(program.code)} instructions, for {made.machine}"
    )
    say(f"{click.format_filename(path)}: {size} bytes; {click.format_filename(header_path)}")
