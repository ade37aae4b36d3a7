"""``pybpf inspect``: what a file holds, and what of it pybpf cannot handle."""

from __future__ import annotations

from typing import Any, Final

import click

from pybpf.cli import options
from pybpf.cli.contents import as_text
from pybpf.cli.describe import describe
from pybpf.cli.files import blaming, read_object
from pybpf.cli.output import has_room, print_json, print_table, printable, say
from pybpf.instruction import ByteOrder

_LONGEST: Final = 60
"""Characters of a value that a table shows."""


@click.command(
    short_help="Show what an object holds.",
    **options.examples(
        "pybpf inspect firewall.o",
        "pybpf inspect --format json firewall.o | jq '.maps[].name'",
    ),
)
@options.file
@options.type_
@options.btf
@options.byteorder
@options.format_
def command(file: str, type: str | None, btf: str | None, byteorder: ByteOrder | None, format: str) -> None:
    """Show the programs, maps, types and variables of an object, and what of it pybpf does not support.

    Nothing is verified or run, and the exit status is 0 for every file that can be read.
    """
    object = read_object(file, type, btf, byteorder)
    with blaming(file):
        holds = describe(object)
    if format == "json":
        print_json({"file": file} | holds)
    else:
        _print(file, holds)


def _print(file: str, holds: dict[str, Any]) -> None:
    head = [
        f"{holds['byteorder']}-endian",
        f"instructions of v{holds['isa']}",
        f"license {holds['license']}" if holds["license"] else "no license",
        f"BTF with {holds['btf']['types']} types" if holds["btf"] else "no BTF",
    ]
    say(printable(f"{click.format_filename(file)}: {', '.join(head)}"), bold=True)
    if holds["producer"]:
        say(printable(f"made by {holds['producer']}"))
    sources = sorted({source for program in holds["programs"] for source in program["source"]})
    if sources:
        say(printable(f"from {', '.join(sources)}"))
    say()
    if holds["programs"]:
        _print_programs(holds["programs"])
    else:
        say("no programs")
    if holds["maps"]:
        say()
        _print_maps(holds["maps"])
    _print_definitions(holds["maps"])
    if holds["globals"]:
        say()
        _print_globals(holds["globals"])
    _print_unsupported(holds)


def _print_unsupported(holds: dict[str, Any]) -> None:
    """Reasons, each once: those of programs, and of what else was noted only what they do not say."""
    missing = _reasons(holds["programs"], "unsupported")
    notes = [note for note in holds["notes"] if not note.endswith(tuple(missing))]
    _print_list("unsupported", [*(f"{reason} ({_some(names)})" for reason, names in missing.items()), *notes])
    idle = _reasons(holds["programs"], "not_run")
    _print_list("not run", [f"{reason} ({_some(names)})" for reason, names in idle.items()])


def _reasons(programs: list[dict[str, Any]], field: str) -> dict[str, list[str]]:
    """Reason -> the programs that have it."""
    found: dict[str, list[str]] = {}
    for program in programs:
        for reason in program[field]:
            found.setdefault(reason, []).append(program["name"])
    return found


def _print_list(heading: str, lines: list[str]) -> None:
    if lines:
        say(f"\n{heading}", bold=True)
        for line in lines:
            say(printable(f"  {line}"))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _print_programs(programs: list[dict[str, Any]]) -> None:
    """One table; where the terminal has no room for what programs use, that is a second one."""
    sizes = ("program", "section", "type", "instructions", "bytes", "functions")
    uses = ("maps", "helpers")
    rows = [
        (
            program["name"],
            program["section"],
            program["type"] or "-",
            program["instructions"],
            program["bytes"],
            max(len(program["functions"]), 1),
            ", ".join(program["maps"]) or "-",
            ", ".join(program["helpers"]) or "-",
        )
        for program in programs
    ]
    if has_room((*sizes, *uses), rows):
        print_table((*sizes, *uses), rows)
        return
    print_table(sizes, [row[: len(sizes)] for row in rows])
    say()
    print_table(("program", *uses), [(row[0], *row[len(sizes) :]) for row in rows])


def _print_maps(maps: list[dict[str, Any]]) -> None:
    columns = ("map", "type", "key", "bytes", "value", "bytes", "entries")
    rows = [
        (
            spec["name"] + _words(spec),
            spec["type"] + (f" of {spec['inner']['type']}" if spec["inner"] else ""),
            _type(spec["key_type"]),
            spec["key_size"],
            _type(spec["value_type"]),
            spec["value_size"],
            spec["max_entries"],
        )
        for spec in maps
    ]
    print_table(columns, rows)
    for spec in maps:
        if spec["values"]:
            slots = ", ".join(f"{slot['name']} at {slot['index']}" for slot in spec["values"])
            say(printable(f"{spec['name']} holds {slots}"))


def _type(text: str | None) -> str:
    """A type in a line; the body of a struct without a name stands below the table."""
    return "-" if text is None else text if "\n" not in text else f"{text.partition('{')[0]}{{...}}"


def _words(spec: dict[str, Any]) -> str:
    """What is special about a map, in brackets."""
    words = ["read-only"] if spec["read_only"] else []
    words += [f"pinned: {spec['pinning']}"] if spec["pinning"] else []
    return f" ({', '.join(words)})" if words else ""


def _print_definitions(maps: list[dict[str, Any]]) -> None:
    """The types of keys and values, each once."""
    each = [spec for outer in maps for spec in (outer, outer["inner"]) if spec]
    for text in dict.fromkeys(text for spec in each for text in spec["definitions"]):
        say()
        for line in f"{text};".splitlines():
            say(f"  {printable(line)}")


def _print_globals(variables: list[dict[str, Any]]) -> None:
    columns = ("variable", "section", "bytes", "initial value")
    rows = [
        (
            variable["type"] or variable["name"],
            variable["section"],
            variable["size"],
            _short(variable["value"]),
        )
        for variable in variables
    ]
    print_table(columns, rows)


def _short(value: Any) -> str:
    text = "-" if value is None else as_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
