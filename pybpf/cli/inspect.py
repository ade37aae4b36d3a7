"""``pybpf inspect``: what a file holds, and what of it pybpf cannot handle."""

from __future__ import annotations

from typing import Any, Final

import click

from pybpf.cli import options
from pybpf.cli.contents import as_text
from pybpf.cli.describe import describe
from pybpf.cli.files import blaming, choose, read_object
from pybpf.cli.output import print_json, print_table, printable, say

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
@options.format_
def command(file: str, type: str | None, btf: str | None, format: str) -> None:
    """Show the programs, maps, types and variables of an object, and what of it pybpf does not support.

    Nothing is verified or run, and the exit status is 0 for every file that can be read.
    """
    object = read_object(file, type, btf)
    choose(file, object, None)
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
    _print_programs(holds["programs"])
    if holds["maps"]:
        say()
        _print_maps(holds["maps"])
    _print_definitions(holds["maps"])
    if holds["globals"]:
        say()
        _print_globals(holds["globals"])
    _print_unsupported(holds)


def _print_unsupported(holds: dict[str, Any]) -> None:
    missing: dict[str, list[str]] = {}
    for program in holds["programs"]:
        for reason in program["unsupported"]:
            missing.setdefault(reason, []).append(program["name"])
    if missing or holds["notes"]:
        say("\nunsupported", bold=True)
        for reason, names in missing.items():
            say(printable(f"  {reason} ({_some(names)})"))
        for note in holds["notes"]:
            say(printable(f"  {note}"))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _print_programs(programs: list[dict[str, Any]]) -> None:
    columns = ("program", "section", "type", "instructions", "bytes", "functions", "maps", "helpers")
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
    print_table(columns, rows)


def _print_maps(maps: list[dict[str, Any]]) -> None:
    columns = ("map", "type", "key", "bytes", "value", "bytes", "entries")
    rows = [
        (
            spec["name"] + _words(spec),
            spec["type"]
            + (f" of {spec['inner']['type']}" if spec["inner"] else "")
            + ("" if spec["supported"] else " (unsupported)"),
            spec["key_type"] or "-",
            spec["key_size"],
            spec["value_type"] or "-",
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
