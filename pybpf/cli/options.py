"""Arguments and options that several commands have."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from pybpf import program_types
from pybpf.cli.status import Failure
from pybpf.errors import ArgumentError
from pybpf.program_types import UNPRIVILEGED, Policy

_WORDS: Final = {"yes": True, "no": False}


def _known_type(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The type's own name, where people know it by others."""
    try:
        return None if value is None else program_types.get(value).name
    except ArgumentError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


def _type_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in program_types.BY_NAME if name.startswith(incomplete)]


def _program_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The programs of the file that stands before, for a shell."""
    from pybpf.cli.files import read_object

    try:
        programs = read_object(ctx.params["file"]).programs
    except (Failure, KeyError):  # nothing to offer; the command itself will say what is wrong
        return []
    return [
        CompletionItem(name, help=program.section)
        for name, program in programs.items()
        if name.startswith(incomplete)
    ]


def _policy(ctx: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, int]:
    """The fields that a text of the form ``unprivileged`` or ``loops=no,max_size=4096`` changes."""
    changed: dict[str, int] = {}
    for word in value.split(",") if value is not None else ():
        name, equals, text = word.partition("=")
        if word == "unprivileged":
            changed |= asdict(UNPRIVILEGED)
            continue
        default = _FIELDS.get(name)
        if default is None:
            known = ", ".join(_FIELDS)
            raise click.BadParameter(
                f"unknown field {name!r}: known are {known}, and 'unprivileged' for all", ctx, parameter
            )
        if isinstance(default, bool):
            fits, wanted = text in _WORDS, "yes or no"
        else:
            fits, wanted = text.isascii() and text.isdigit(), "a number"
        if not equals or not fits:
            raise click.BadParameter(f"{word!r}: {name} is {wanted}", ctx, parameter)
        changed[name] = _WORDS[text] if isinstance(default, bool) else int(text)
    return changed


_FIELDS: Final = {name: value for name, value in asdict(Policy()).items() if isinstance(value, int)}

file: Final = click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
program: Final = click.argument("name", metavar="[PROGRAM]", required=False, shell_complete=_program_names)
type_: Final = click.option(
    "--type",
    metavar="TYPE",
    callback=_known_type,
    shell_complete=_type_names,
    help="The program type (filter, xdp, ...), whatever the section says.",
)
btf: Final = click.option(
    "--btf",
    metavar="FILE",
    type=click.Path(),
    help="Whose types CO-RE relocations follow: a file with BTF, or 'kernel' for the running one.",
)
byteorder: Final = click.option(
    "--byteorder",
    type=click.Choice(["little", "big"]),
    help="Of bytecode alone (NAME.bin), which does not say it: little unless given.",
)
isa: Final = click.option(
    "--isa",
    type=click.Choice(["v1", "v2", "v3", "v4"]),
    help="Refuse instructions that are newer than this level (clang's -mcpu).",
)
policy: Final = click.option(
    "--policy",
    metavar="POLICY",
    callback=_policy,
    help="What else to ask for: fields such as loops=no,strict_alignment=yes, or 'unprivileged' (Linux without CAP_BPF).",
)
format_: Final = click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)


def examples(*lines: str) -> dict[str, Any]:
    """The part of a command's help that shows it in use, kept as it is written."""
    return {"epilog": "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])}
