"""``pybpf conformance``: the plugin of the public conformance suite, as a command."""

from __future__ import annotations

import click

from pybpf.cli import options
from pybpf.conformance import main


@click.command(
    short_help="Be the plugin of the bpf_conformance suite.",
    context_settings={"ignore_unknown_options": True},
    **options.examples(
        'echo "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00" | pybpf conformance',
        'echo "71 10 00 00 00 00 00 00 95 00 00 00 00 00 00 00" | pybpf conformance "2a 00" --jit',
        "bpf_conformance_runner --test_file_directory tests --plugin_path $(which pybpf-conformance)",
    ),
)
@click.argument("words", metavar="[MEM] [--interpret | --jit] [--elf]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Run the program on standard input over MEM and print r0 in hexadecimal.

    The program (with --elf an object that holds it) and MEM are bytes in hexadecimal with blanks between them. The interpreter runs it,
    or with --jit native code; it is not verified, every access is checked as it runs. The runner of the suite wants an executable:
    pybpf-conformance is this command as one.
    """
    ctx.exit(main(words))
